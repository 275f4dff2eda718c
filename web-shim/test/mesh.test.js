import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Mesh } from '../js/mesh.js';
import { fakeClock, fakeEnvironment, userId } from './fakes.js';

let clock, mesh;

beforeEach(() => {
  clock = fakeClock();
  const nothing = () => {};
  const owner = { onMessage: nothing, onOpen: nothing, onChange: nothing, onTick: nothing, onHush: nothing };
  mesh = new Mesh({ env: fakeEnvironment({ clock }), selfId: userId('s'), sealer: null, owner });
});
afterEach(() => {
  mesh.leave();
  clock.reset();
});

/** A link that notes what it is told when it is steered, and rises once when it is settled. */
function link(letter, { budget, floor, bad = false, rises = false }) {
  const one = {
    userId: userId(letter), floor, steering: { budget, bad }, told: [], roseAt: null, hush: null, level: 0, connected: true, reachable: true,
    listen: () => false, watch() {}, poll: async () => {}, close() {},
    async steer(left, settled) {
      one.told.push({ left, settled });
      if (!rises || !settled || one.roseAt !== null) return false;
      one.roseAt = clock.now;
      return true;
    },
  };
  mesh.links.set(one.userId, one);
  return one;
}

test('links that share the uplink are given more one after the other', async () => {
  const links = ['a', 'b', 'c'].map((letter) => link(letter, { budget: 900_000, floor: 250_000, rises: true }));
  await clock.advance(15_000, 250);
  const times = links.map(({ roseAt }) => roseAt);
  assert.ok(times.every((at) => at !== null), JSON.stringify(times));
  assert.ok(times[1] - times[0] >= 3000 && times[2] - times[1] >= 3000, JSON.stringify(times));
});

test('while a link is in trouble none is given more', async () => {
  link('a', { budget: 200_000, floor: 250_000, bad: true });
  const other = link('b', { budget: 900_000, floor: 250_000, rises: true });
  await clock.advance(5000, 250);
  assert.equal(other.roseAt, null);
});

test('what is left of the uplink is what its best link carries, less the floors of all', async () => {
  link('a', { budget: 900_000, floor: 250_000 });
  const other = link('b', { budget: null, floor: 80_000 });
  await clock.advance(250, 250);
  assert.deepEqual(other.told, [{ left: 570_000, settled: true }]);
});

test('a link whose statistics never come does not keep the others from being steered', async () => {
  link('a', { budget: 900_000, floor: 250_000 }).steer = () => new Promise(() => {});
  const other = link('b', { budget: 900_000, floor: 250_000 });
  await clock.advance(5000, 250);
  assert.ok(other.told.length >= 3, String(other.told.length));
});

test('a link over which no camera is sent keeps nobody waiting', async () => {
  link('a', { budget: 200_000, floor: 0, bad: true });
  const other = link('b', { budget: 900_000, floor: 250_000, rises: true });
  await clock.advance(5000, 250);
  assert.notEqual(other.roseAt, null);
});

test('a link that cannot be steered stops nobody from being steered, and no timer is left behind', async () => {
  const timers = new Set();
  const { setTimeout: set, clearTimeout: clear } = globalThis;
  globalThis.setTimeout = (...args) => {
    const timer = set(...args);
    timers.add(timer);
    return timer;
  };
  globalThis.clearTimeout = (timer) => {
    timers.delete(timer);
    clear(timer);
  };
  try {
    const broken = link('a', { budget: 900_000, floor: 250_000 });
    broken.steer = async () => { throw new Error('closed'); };
    const sudden = link('b', { budget: 900_000, floor: 250_000 });
    sudden.steer = () => { throw new Error('closed'); };
    const other = link('c', { budget: 900_000, floor: 250_000 });
    await clock.advance(2000, 250);
    assert.equal(other.told.length, 8);
    assert.equal(timers.size, 0);
  } finally {
    Object.assign(globalThis, { setTimeout: set, clearTimeout: clear });
  }
});
