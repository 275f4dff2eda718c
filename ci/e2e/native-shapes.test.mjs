// Pictures of every shape keep coming: what phones send upright, what nobody expects, over the real relay and in processes of their own.

import assert from 'node:assert/strict';
import { film } from './lib/clips.mjs';
import { native } from './lib/native.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';
import { during } from './lib/until.mjs';

/** Width, height, and the size that somebody gets who shows it in 1280×720. */
const SHAPES = [
  [360, 640, [360, 640]],
  [352, 640, [352, 640]],
  [270, 480, [270, 480]],
  [240, 640, [240, 640]],
  [180, 320, [180, 320]],
  [300, 400, [300, 400]],
  [720, 1280, [720, 1280]],
  [64, 1024, [64, 1024]],
  [1024, 64, [1024, 64]],
];
/** The smallest layer has fifteen a second. */
const LEAST_RATE = 10;
const SECONDS = 4;

scenario('pictures of every shape keep coming, and nobody reports loss that is none', async cleanup => {
  const relay = await startRelay(cleanup);
  for (let at = 0; at < SHAPES.length; at += 3) {
    const shapes = SHAPES.slice(at, at + 3);
    const room = newRoom(relay);
    const viewer = native(cleanup, 'Viewer', room.url, { video: 'none', audio: 'none', args: ['--tile', '1280x720'] });
    await viewer.saw('joined');
    const senders = shapes.map(([width, height]) =>
      native(cleanup, `${width}x${height}`, room.url, { video: film({ width, height, pictures: 30 }), args: ['--tile', '0x0'] }),
    );
    const seen = async () => {
      const { participants } = await viewer.snapshot();
      return Object.fromEntries(participants.map(one => [one.name, one]));
    };
    await viewer.shows('every picture', shown => shapes.every(([width, height, size]) => {
      const one = shown.participants.find(other => other.name === `${width}x${height}`);
      return one?.pictures > 0 && `${one.pictureSize}` === `${size}`;
    }));
    const before = await seen();
    // Long enough for the path to be probed.
    await during(SECONDS * 1000);
    const after = await seen();
    for (const sender of senders) {
      const came = after[sender.name].pictures - before[sender.name].pictures;
      const { quality } = (await sender.snapshot()).participants.find(one => one.name === 'Viewer');
      console.log(`${sender.name}: ${(came / SECONDS).toFixed(1)} pictures/s, loss ${(100 * quality.loss).toFixed(1)} %, estimate ${Math.round(quality.estimateBps / 1000)} kbit/s`);
      assert.ok(came >= LEAST_RATE * SECONDS, `${sender.name} sent ${came} pictures in ${SECONDS} s`);
      assert.ok(quality.loss < 0.02, `${sender.name} reports ${quality.loss}`);
    }
    await Promise.all([viewer, ...senders].map(one => one.leave()));
  }
});
