// Every pair of clients by every kind of path: directly, and relayed over UDP, TCP and TLS (Firefox not over TLS). Each cell has to connect three
// times out of three.

import { certificate } from './lib/certificate.mjs';
import { native } from './lib/native.mjs';
import { chromium, firefox, guest, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { ONLY, pathOf, relayedBy, relayedGuest } from './lib/relaying.mjs';
import { scenario } from './lib/scenario.mjs';

const TIMES = 3;

/** How each kind of path is forced on the native client. */
const PATHS = {
  direct: { what: 'directly', options: [] },
  udp: { what: 'through TURN over UDP', options: ['--relay-only', '--ice-transport', 'udp'] },
  tcp: { what: 'through TURN over TCP', options: ['--relay-only', '--ice-transport', 'tcp'] },
  tls: { what: 'through TURN over TLS', options: ['--relay-only', '--ice-transport', 'tls'] },
};

/** A relay for one path. TLS needs a certificate, which both kinds of client are told to trust. */
async function place(cleanup, path) {
  const tls = path === 'tls' ? certificate(cleanup) : null;
  const relay = await startRelay(cleanup, { args: tls?.args });
  const origin = tls ? `https://localhost:${relay.port}` : relay.origin;
  return { relay, flags: tls?.flags ?? [], ca: tls?.cert, room: () => newRoom(relay, { origin }) };
}

const join = (cleanup, here, room, name, path, more = []) =>
  native(cleanup, name, room.url, { ca: here.ca, args: [...PATHS[path].options, ...more] });

/** Waits until a native client sees and hears the other one, and knows by which path. */
async function meets(nat, path) {
  await nat.seesAndHears(1);
  const wanted = path === 'direct' ? null : path;
  const known = ({ quality }) => quality.packetsReceived > 0 && quality.relayProtocol === wanted && quality.relayed === (wanted !== null);
  await nat.shows(`its path, ${path}`, shown => shown.participants.every(known));
}

const since = started => Math.round(performance.now() - started);

for (const [path, { what }] of Object.entries(PATHS)) {
  scenario(`two native clients meet ${what}, ${TIMES} times out of ${TIMES}`, async cleanup => {
    const here = await place(cleanup, path);
    const took = [];
    for (let time = 0; time < TIMES; time += 1) {
      const room = here.room();
      const ana = join(cleanup, here, room, 'Ana', path);
      await ana.saw('joined');
      const started = performance.now();
      const bo = join(cleanup, here, room, 'Bo', path);
      await Promise.all([ana, bo].map(one => one.saw('first_picture')));
      took.push(since(started));
      for (const one of [ana, bo]) await meets(one, path);
      await Promise.all([ana.leave(), bo.leave()]);
    }
    console.log(`native ↔ native ${what}: ${TIMES} of ${TIMES}, first pictures after`, took.join(', '), 'ms');
  });
}

for (const [kind, start] of [['Chromium', (cleanup, flags) => chromium(cleanup, { camera: 'small', args: flags })], ['Firefox', cleanup => firefox(cleanup)]]) {
  for (const [path, { what }] of Object.entries(PATHS)) {
    // A certificate of one's own can be pinned in Chromium alone.
    if (kind === 'Firefox' && path === 'tls') continue;
    scenario(`the native client and ${kind} meet ${what}, ${TIMES} times out of ${TIMES}`, async cleanup => {
      const here = await place(cleanup, path);
      const browser = await start(cleanup, here.flags);
      const took = [];
      for (let time = 0; time < TIMES; time += 1) {
        const room = here.room();
        const nat = join(cleanup, here, room, 'Nat', path);
        await nat.saw('joined');
        const bo = path === 'direct' ? await guest(browser, 'Bo', room.url) : await relayedGuest(browser, 'Bo', room.url, { through: ONLY[path] });
        const started = performance.now();
        await seesAndHears(bo, 1);
        took.push(since(started));
        await meets(nat, path);
        if (path !== 'direct') await pathOf(bo, relayedBy(path));
        await nat.leave();
        await bo.close();
      }
      console.log(`native ↔ ${kind} ${what}: ${TIMES} of ${TIMES}, the page saw and heard`, took.join(', '), 'ms after it was in the room');
    });
  }
}
