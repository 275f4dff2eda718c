// Calls outlive the relay: it crashes, it is upgraded, and nobody in a call notices or presses anything.

import assert from 'node:assert/strict';
import { chromium, guest, seesAndHears } from './lib/people.mjs';
import { longestGaps } from './lib/probe.mjs';
import { newRoom, restartRelay, startRelay } from './lib/relay.mjs';
import { openAsOwner, prepare, proofOf } from './lib/rooms.mjs';
import { scenario } from './lib/scenario.mjs';
import { during, until } from './lib/until.mjs';
import { WireClient } from './lib/wireclient.mjs';

/** No half second without fresh pictures and sound, unless the machine itself stuttered as much before. */
const WINDOW = 500;

/** Two people in a call who have seen and heard each other. */
async function couple(cleanup, room, password) {
  const [first, second] = await Promise.all([chromium(cleanup, { camera: 'small' }), chromium(cleanup, { camera: 'small' })]);
  const people = [await guest(first, 'Ana', room.url, { password }), await guest(second, 'Bo', room.url, { password })];
  for (const someone of people) await seesAndHears(someone, 1);
  return people;
}

const record = people => Promise.all(people.map(one => one.page.evaluate(() => window.__probe.record())));

const gaps = async people => {
  const recordings = await Promise.all(people.map(one => one.page.evaluate(() => window.__probe.stopRecording())));
  return recordings.map(longestGaps);
};

function assertNoGap(what, usual, seen) {
  const worst = all => Math.max(...all.flatMap(one => [one.frames, one.packets]));
  console.log(`${what}: longest gap ${worst(seen)} ms (before the fault ${worst(usual)} ms)`, JSON.stringify(seen));
  assert.ok(worst(seen) <= Math.max(WINDOW, 1.5 * worst(usual)), `a gap of ${worst(seen)} ms`);
}

for (const password of [null, 'the kettle whistles']) {
  scenario(`a relay killed in a call ${password ? 'with a password ' : ''}costs no picture, and everybody is back within 5 s of its return`, async cleanup => {
    const relay = await startRelay(cleanup);
    const room = newRoom(relay);
    if (password) await prepare(cleanup, relay, room, { password });
    const people = await couple(cleanup, room, password);

    await record(people);
    await during(6_000);
    const usual = await gaps(people);

    await record(people);
    await relay.kill();
    for (const someone of people) await until(`${someone.name} to notice`, async () => (await someone.state()) === 'reconnecting', { timeout: 15_000 });
    await people[0].picture('relay-away');
    await during(2_000);
    const again = await restartRelay(cleanup, relay);
    const returned = performance.now();
    const back = await Promise.all(people.map(someone => someone.online(20_000).then(() => performance.now() - returned)));
    await during(2_000);
    const seen = await gaps(people);

    console.log('back in the room after', back.map(Math.round).join(' and '), 'ms');
    assert.ok(Math.max(...back) <= 5_000, `back only after ${Math.round(Math.max(...back))} ms`);
    assertNoGap('relay killed', usual, seen);

    const third = await WireClient.connect(cleanup, again, { from: '127.91.0.1' });
    const seat = await third.join(room.roomId, { name: 'Chidi', password: password ?? undefined, ...proofOf(room) });
    assert.equal(seat.type, 'room_joined', JSON.stringify(seat));
    assert.equal(seat.participants.length, 2, 'the new relay knows who is there');
    for (const someone of people) {
      assert.equal((await someone.tiles()).filter(tile => tile.link === 'connected').length, 1);
    }
  });
}

scenario('what a guest did not load before the relay went says so, and comes with the relay; the owner’s panel opens meanwhile', async cleanup => {
  const relay = await startRelay(cleanup);
  const [ana, bo] = await couple(cleanup, newRoom(relay), null);
  const onDemand = someone => someone.requests.map(url => new URL(url).pathname).filter(path => /(words|find-link|invite-view|menu-views|owner-view|strings-on-demand)/.test(path));
  await until('the owner’s panel to be loaded', () => onDemand(ana).includes('/js/owner-view.js'));
  assert.deepEqual(onDemand(bo), [], 'an ordinary guest loads nothing of what is opened on demand');
  await relay.kill();
  for (const someone of [ana, bo]) await until(`${someone.name} to notice`, async () => (await someone.state()) === 'reconnecting', { timeout: 15_000 });

  await ana.press('#more');
  await ana.press('#room-options');
  await ana.page.waitForSelector('dialog[open] #recovery-link');
  await bo.press('#invite');
  await bo.page.waitForSelector('[data-banner="part"]', { visible: true });
  console.log('Bo reads:', await bo.text('[data-banner="part"]'));
  assert.equal((await bo.tiles()).filter(tile => tile.link === 'connected').length, 1, 'the call goes on');

  await restartRelay(cleanup, relay);
  await bo.online(20_000);
  await bo.press('[data-banner="part"] button');
  await bo.page.waitForSelector('dialog[open] #invite-link', { visible: true });
  assert.equal(await bo.page.$('[data-banner="part"]'), null, 'the sentence is gone');
});

scenario('a relay that is upgraded tells everybody, and no call notices', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const owner = await openAsOwner(cleanup, relay, room);
  const people = await couple(cleanup, room, null);

  await record(people);
  await during(6_000);
  const usual = await gaps(people);

  await record(people);
  const asked = performance.now();
  const going = relay.stop('SIGTERM');
  const drain = await owner.hears('drain');
  assert.ok(drain.reconnectAfterMs >= 0 && drain.reconnectAfterMs <= 5_000, JSON.stringify(drain));
  const exit = await going;
  console.log(`the old relay went after ${Math.round(performance.now() - asked)} ms`);
  assert.equal(exit.code, 0, `it stopped as asked: ${JSON.stringify(exit)}\n${relay.log}`);
  await restartRelay(cleanup, relay);
  const returned = performance.now();
  for (const someone of people) await someone.online(20_000);
  // The state may still be "online" from before at the very first look; a joined room is what counts.
  const third = await WireClient.connect(cleanup, relay, { from: '127.91.0.2' });
  const seat = await third.join(room.roomId, { name: 'Chidi', ...proofOf(room) });
  assert.equal(seat.type, 'room_joined', JSON.stringify(seat));
  await until('both to be in the room again', async () => {
    const joined = third.heard.filter(message => message.type === 'user_joined').length;
    return seat.participants.length + joined >= 2;
  }, { timeout: 15_000 });
  console.log(`everybody was back ${Math.round(performance.now() - returned)} ms after the new relay listened`);
  assertNoGap('relay upgraded', usual, await gaps(people));
});
