// Five browsers in one room: every one of the twenty directions carries pictures and sound.

import assert from 'node:assert/strict';
import { chromium, guest, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';

const NAMES = ['Ana', 'Bo', 'Chidi', 'Dana', 'Emre'];

scenario('five browsers see and hear each other on all twenty directions', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const people = [];
  // One after the other: a browser's start is the dearest moment of the whole test.
  for (const name of NAMES) people.push(await guest(await chromium(cleanup, { camera: 'small' }), name, room.url));
  let directions = 0;
  for (const someone of people) {
    const links = await seesAndHears(someone, NAMES.length - 1, { timeout: 180_000, frames: 3 });
    directions += links.length;
    console.log(someone.name, links.map(link => Object.values(link.media).map(one => one.frames || one.energy.toFixed(4)).join('/')).join('  '));
  }
  assert.equal(directions, 20);
  await people[0].picture('call-five');
  for (const someone of people) assert.deepEqual(await someone.violations(), []);
});
