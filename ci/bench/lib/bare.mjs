// Two pages with nothing but a connection: what a browser does by itself, for comparison.

import { person } from '../../e2e/lib/people.mjs';
import { installStopwatch } from './firsts.mjs';

/** Opens both, each with a camera of 1280×720 and a microphone, and connects them. */
export async function barePair(cleanup, browser, relay) {
  const people = await Promise.all(['One', 'Two'].map(name => person(browser, name)));
  for (const one of people) cleanup.add(() => one.close());
  for (const one of people) {
    await one.page.evaluateOnNewDocument(installStopwatch);
    // Cameras are for secure origins, which the loopback address is.
    await one.page.goto(`${relay.origin}/health`);
    await one.page.evaluate(async () => {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1280, height: 720 }, audio: true });
      window.bare = new RTCPeerConnection();
      for (const track of stream.getTracks()) window.bare.addTrack(track, stream);
      window.whole = () => new Promise(done => {
        const look = () => (window.bare.iceGatheringState === 'complete' ? done(window.bare.localDescription.toJSON()) : setTimeout(look, 5));
        look();
      });
    });
  }
  const [one, two] = people;
  const offer = await one.page.evaluate(async () => {
    await window.bare.setLocalDescription();
    return window.whole();
  });
  const answer = await two.page.evaluate(async description => {
    await window.bare.setRemoteDescription(description);
    await window.bare.setLocalDescription();
    return window.whole();
  }, offer);
  await one.page.evaluate(description => window.bare.setRemoteDescription(description), answer);
  return people;
}
