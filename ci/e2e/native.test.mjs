// The native client and browsers in one room, whoever comes first: pictures and sound pass both ways.

import assert from 'node:assert/strict';
import { beeps } from './lib/clips.mjs';
import { hearsTone } from './lib/ears.mjs';
import { findsTone, readWav, recorded } from './lib/media.mjs';
import { native, recordings } from './lib/native.mjs';
import { chromium, firefox, guest, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';

/** Each browser with the tone that its microphone hears. */
const BROWSERS = [
  ['Chromium', 660, cleanup => chromium(cleanup, { camera: 'small', args: [`--use-file-for-fake-audio-capture=${beeps(660)}`] })],
  ['Firefox', 1000, firefox],
];

for (const [kind, hz, start] of BROWSERS) {
  for (const first of ['native', kind]) {
    scenario(`the native client and ${kind} see and hear each other when ${first === kind ? kind : 'the native client'} comes first`, async cleanup => {
      const relay = await startRelay(cleanup);
      const room = newRoom(relay);
      const browser = await start(cleanup);
      const folder = recordings(cleanup);
      const come = { native: async () => native(cleanup, 'Nat', room.url, { record: folder }), [kind]: async () => guest(browser, 'Bo', room.url) };
      const order = first === 'native' ? ['native', kind] : [kind, 'native'];
      const people = {};
      for (const who of order) {
        people[who] = await come[who]();
        if (who === 'native') await people[who].saw('joined');
      }
      const [nat, bo] = [people.native, people[kind]];
      const [link] = await seesAndHears(bo, 1, { timeout: 90_000 });
      console.log(`${kind} receives`, JSON.stringify(link.media));
      const [seen] = await nat.seesAndHears(1);
      console.log('the native client receives', JSON.stringify(seen));
      assert.equal(seen.name, 'Bo');
      const [tenths] = await hearsTone(bo, 440);
      const found = await until(`${hz} Hz in the recording`, () => {
        const count = findsTone(readWav(recorded(folder, '.wav')[0]), hz);
        return count >= 5 && count;
      });
      console.log(`${kind} hears ${tenths} tenths of a second of 440 Hz; ${found} of ${hz} Hz were recorded`);
      assert.deepEqual(await bo.violations(), []);
    });
  }
}
