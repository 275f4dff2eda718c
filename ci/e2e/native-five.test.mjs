// Three native clients and two browsers in one room: every one of the twenty directions carries pictures and sound.

import assert from 'node:assert/strict';
import { native } from './lib/native.mjs';
import { chromium, guest, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';

scenario('three native clients and two browsers see and hear each other on all twenty directions', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const natives = [];
  const guests = [];
  for (const name of ['Ana', 'Bo', 'Chidi']) {
    const someone = native(cleanup, name, room.url, { audio: 'voice' });
    await someone.saw('joined');
    natives.push(someone);
    if (guests.length < 2) guests.push(await guest(await chromium(cleanup, { camera: 'small' }), ['Dana', 'Emre'][guests.length], room.url));
  }
  let directions = 0;
  for (const someone of guests) {
    const links = await seesAndHears(someone, 4, { timeout: 180_000, frames: 3 });
    directions += links.length;
    console.log(someone.name, links.map(link => Object.values(link.media).map(one => (one.frames ? `${one.frames} of ${one.width}x${one.height}` : one.energy.toFixed(4))).join('/')).join('  '));
  }
  for (const someone of natives) {
    const others = await someone.seesAndHears(4, { timeout: 180_000, pictures: 3 });
    directions += others.length;
    console.log(someone.name, others.map(one => `${one.name}: ${one.pictures} of ${one.pictureSize.join('x')}, ${one.levelDb} dB`).join('  '));
  }
  assert.equal(directions, 20);

  // However many there are, a picture is encoded once for each size that somebody wants.
  const { camera } = await natives[0].snapshot();
  const layers = [camera.low, camera.medium, camera.high];
  console.log('encoded of', camera.pictures, 'pictures:', layers.map(layer => layer.encodes).join(', '));
  for (const layer of layers) assert.ok(layer.encodes <= camera.pictures, JSON.stringify(camera));
});
