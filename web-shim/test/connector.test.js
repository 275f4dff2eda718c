import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Connector } from '../js/connector.js';
import { fakeClock, fakeEnvironment, socketFactory } from './fakes.js';

let clock, sockets, connector, opened;

beforeEach(() => {
  clock = fakeClock();
  const factory = socketFactory();
  sockets = factory.sockets;
  opened = [];
  connector = new Connector({ url: 'wss://x/ws', env: fakeEnvironment({ clock, ...factory }), onOpen: (socket) => opened.push(socket) });
});
afterEach(() => {
  connector.stop();
  clock.reset();
});

const pending = () => sockets.filter((socket) => socket.readyState === 0);

test('refused attempts are repeated after 0.25 s, doubling to 4 s', async () => {
  connector.start();
  const times = [];
  for (let i = 0; i < 7; i++) {
    while (sockets.length === i) await clock.advance(50);
    times.push(clock.now);
    sockets[i].drop();
  }
  const gaps = times.map((time, i) => time - (times[i - 1] ?? 0));
  assert.deepEqual(gaps, [250, 500, 1000, 2000, 4000, 4000, 4000]);
});

test('while an attempt hangs another one starts each second, and the first to open is the one', async () => {
  connector.nudge();
  connector.settled();
  await clock.advance(2000);
  assert.equal(sockets.length, 3);
  sockets[1].open();
  assert.deepEqual(opened, [sockets[1]]);
  assert.equal(sockets[0].closedWith, 3001);
  assert.equal(sockets[2].closedWith, 3001);
  await clock.advance(20_000);
  assert.equal(sockets.length, 3);
});

test('never more than four are under way, however long the network hangs', async () => {
  connector.nudge();
  for (let second = 0; second < 60; second++) {
    await clock.advance(1000, 500);
    assert.ok(pending().length <= 4);
  }
});

test('where connections are usually quick, a hanging one is given up after a second, so that a returning network is used at once', async () => {
  connector.nudge();
  sockets[0].open();
  connector.start();
  await clock.advance(250);
  // Only the oldest attempt of all that wait reaches the network, as in browsers.
  const longest = { since: clock.now, wait: 0, head: null };
  for (let tick = 0; tick < 600; tick++) {
    await clock.advance(100, 100);
    const [head] = pending();
    if (head === longest.head) continue;
    if (tick > 0) longest.wait = Math.max(longest.wait, clock.now - longest.since);
    Object.assign(longest, { head, since: clock.now });
  }
  const given = sockets.filter((socket) => socket.closedWith === 3001).length;
  assert.ok(given > 15, `${given} were given up in a minute`);
  assert.ok(longest.wait <= 9000 && longest.wait >= 4000, 'and some had long enough for a slow network');
});

test('a nudge does not wait for the back-off and leaves what hangs behind', async () => {
  connector.start();
  assert.equal(sockets.length, 0);
  connector.nudge();
  assert.equal(sockets.length, 1);
  connector.nudge();
  assert.equal(sockets[0].closedWith, 3001);
  assert.equal(pending().length, 1);
});

test('the back-off is short again once a connection was of use, not just open', async () => {
  connector.start();
  await clock.advance(250);
  for (let i = 0; i < 3; i++) {
    sockets.at(-1).drop();
    await clock.advance(4000);
  }
  sockets.at(-1).open();
  connector.start();
  const count = sockets.length;
  await clock.advance(500);
  assert.equal(sockets.length, count);
  connector.stop();
  connector.settled();
  connector.start();
  await clock.advance(250);
  assert.equal(sockets.length, count + 1);
});
