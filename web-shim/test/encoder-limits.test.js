import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cameraEncoding, cameraLayer, limitSender, screenEncoding } from '../js/encoder-limits.js';
import { FakeTrack } from './fakes.js';

const layer = (tile, width, height) => {
  const { scaleResolutionDownBy, maxBitrate, maxFramerate } = cameraEncoding(new FakeTrack('video', width, height), tile);
  return [scaleResolutionDownBy, maxBitrate / 1000, maxFramerate];
};
const tile = (width, height, screenWidth = 0, screenHeight = 0) => ({ width, height, screenWidth, screenHeight });

test('the smallest layer that fills the tile is sent', () => {
  assert.deepEqual(layer(tile(1280, 720)), [1, 1500, 30]);
  assert.deepEqual(layer(tile(1920, 1080)), [1, 1500, 30]);
  assert.deepEqual(layer(tile(640, 360)), [2, 450, 30]);
  assert.deepEqual(layer(tile(780, 440)), [2, 450, 30]);
  assert.deepEqual(layer(tile(900, 506)), [1, 1500, 30]);
  assert.deepEqual(layer(tile(320, 180)), [4, 130, 15]);
  assert.deepEqual(layer(tile(160, 90)), [4, 130, 15]);
});

test('before a tile is known the grid’s layer is sent', () => {
  assert.deepEqual(layer(null), [2, 450, 30]);
});

test('a hidden tile sends nothing', () => {
  assert.equal(cameraEncoding(new FakeTrack('video'), tile(0, 0)).active, false);
  assert.equal(cameraEncoding(new FakeTrack('video'), tile(320, 180)).active, true);
});

test('cameras that are not 720p get the layer of their size', () => {
  assert.deepEqual(layer(tile(1280, 720), 640, 480), [1, 450, 30]);
  assert.deepEqual(layer(tile(320, 180), 640, 480), [2, 130, 15]);
  assert.deepEqual(layer(tile(1920, 1080), 1920, 1080), [2, 1500, 30]);
  assert.deepEqual(layer(tile(1280, 720), 320, 240), [1, 130, 15]);
});

test('a portrait camera in a landscape tile is not sent whole', () => {
  assert.deepEqual(layer(tile(640, 360), 720, 1280), [2, 450, 30]);
});

test('steps are only one, two and four', () => {
  for (let width = 16; width < 2000; width += 37) assert.ok([1, 2, 4].includes(layer(tile(width, (width * 9) / 16))[0]));
});

test('a link that carries less than the tile asks for is sent the layer that it carries', () => {
  const sent = (width, height, carried, probes) => {
    const { scaleResolutionDownBy, maxBitrate } = cameraEncoding(new FakeTrack('video', width, height), tile(1920, 1080), carried, probes);
    return [scaleResolutionDownBy, maxBitrate / 1000];
  };
  assert.deepEqual([0, 1, 2].map((carried) => sent(1280, 720, carried)), [[4, 130], [2, 450], [1, 1500]]);
  assert.deepEqual([0, 1, 2].map((carried) => sent(1920, 1080, carried)), [[8, 130], [4, 450], [2, 1500]]);
  assert.deepEqual([0, 1, 2].map((carried) => sent(720, 1280, carried)), [[4, 130], [2, 450], [1, 1500]]);
  assert.deepEqual([0, 1, 2].map((carried) => sent(640, 480, carried)), [[2, 130], [1, 450], [1, 450]]);
  assert.deepEqual(sent(1280, 720, 1, true), [2, 1500], 'a path is probed with the rate of what is asked for');
});

test('the layer that a tile asks for', () => {
  const asked = (width, height) => cameraLayer(new FakeTrack('video'), tile(width, height));
  assert.deepEqual([asked(320, 180), asked(640, 360), asked(1280, 720)], [0, 1, 2]);
  assert.equal(cameraLayer(null, null), 1);
});

test('a screen keeps its resolution and is small only as a thumbnail', () => {
  const screen = (shown) => screenEncoding(new FakeTrack('video', 1920, 1080), shown);
  assert.deepEqual(screen(null), { active: true, scaleResolutionDownBy: 1, maxBitrate: 2_500_000, maxFramerate: 15 });
  assert.equal(screen(tile(0, 0, 960, 540)).scaleResolutionDownBy, 1);
  assert.equal(screen(tile(0, 0, 320, 180)).scaleResolutionDownBy, 2);
  assert.equal(screen(tile(0, 0)).active, false);
});

test('a browser that has no encodings yet, or refuses, is asked again later', async () => {
  assert.equal(await limitSender({ getParameters: () => ({ encodings: [] }) }, {}, null), false);
  assert.equal(await limitSender({ getParameters: () => ({}) }, {}, null), false);
  const refusing = { getParameters: () => ({ encodings: [{}] }), setParameters: () => Promise.reject(new Error('InvalidStateError')) };
  assert.equal(await limitSender(refusing, {}, null), false);
  let applied;
  const sender = { getParameters: () => ({ transactionId: 't', encodings: [{ rid: 'x' }] }), setParameters: async (value) => (applied = value) };
  assert.equal(await limitSender(sender, { maxBitrate: 1 }, 'maintain-resolution'), true);
  assert.deepEqual(applied, { transactionId: 't', encodings: [{ rid: 'x', maxBitrate: 1 }], degradationPreference: 'maintain-resolution' });
});
