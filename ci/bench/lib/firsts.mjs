// When the first picture comes: joins one after the other, and what both benches of it have in common.

import { native } from '../../e2e/lib/native.mjs';
import { newRoom } from '../../e2e/lib/relay.mjs';

/** Nearest rank. */
export function percentile(list, fraction) {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)];
}

export const alone = host => host.shows('an empty room', snapshot => snapshot.participants.length === 0);

/** One after the other enters a room in which somebody is. Milliseconds from the start of the process. */
export async function joins(cleanup, relay, count) {
  const room = newRoom(relay);
  const host = native(cleanup, 'Ana', room.url);
  await host.saw('joined');
  const seen = { joined: [], connected: [], picture: [] };
  for (let number = 0; number < count; number += 1) {
    const one = native(cleanup, `Guest ${number}`, room.url);
    const since = event => event.at - one.started;
    seen.joined.push(since(await one.saw('joined')));
    seen.connected.push(since(await one.saw('link', event => event.state === 'connected')));
    seen.picture.push(since(await one.saw('first_picture')));
    await one.leave();
    await alone(host);
  }
  await host.leave();
  return seen;
}

/** Runs in a page before its own scripts: notes of every connection when it was up and when its first picture was decoded. */
export function installStopwatch() {
  const found = (window.__firsts = []);
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class RTCPeerConnection extends Native {
    constructor(...rest) {
      super(...rest);
      const one = { connected: null, picture: null };
      found.push(one);
      this.addEventListener('connectionstatechange', () => {
        if (this.connectionState === 'connected') one.connected ??= performance.now();
      });
      this.addEventListener('track', async ({ track }) => {
        if (track.kind !== 'video') return;
        // Statistics are 50 ms old at times; this reads what the decoder hands on.
        const reader = new MediaStreamTrackProcessor({ track }).readable.getReader();
        const { value } = await reader.read();
        one.picture ??= performance.now();
        value?.close();
        await reader.cancel();
      });
    }
  };
}
