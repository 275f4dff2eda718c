// Three kinds of clients in one room: the page, `snug`, and a client written from PROTOCOL.md alone. What the room promises them holds
// when the relay dies, and nobody presses anything.

import assert from 'node:assert/strict';
import { native } from './lib/native.mjs';
import { chromium, guest, seesAndHears } from './lib/people.mjs';
import { newRoom, restartRelay, startRelay } from './lib/relay.mjs';
import { openAsOwner, proofOf } from './lib/rooms.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';
import { WireClient } from './lib/wireclient.mjs';

const BACK_MS = 5_000;

scenario('page, native and a client of the protocol are back within 5 s of a relay that was killed, past a password and a lock set in mid-call', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const owner = await openAsOwner(cleanup, relay, room);
  const snug = native(cleanup, 'Ana', room.url);
  const page = await guest(await chromium(cleanup, { camera: 'small' }), 'Bo', room.url);
  await seesAndHears(page, 1);
  await snug.seesAndHears(1);
  for (const message of [{ type: 'set_room_password', password: 'the kettle whistles' }, { type: 'lock_room', locked: true }]) {
    const answer = await owner.ask(message);
    assert.equal(answer.type, 'done', JSON.stringify(answer));
  }
  const { ticket } = owner.seat;

  await relay.kill();
  await until('the page to notice', async () => (await page.state()) === 'reconnecting', { timeout: 15_000 });
  const again = await restartRelay(cleanup, relay);
  const returned = performance.now();
  const since = () => performance.now() - returned;

  const stranger = await WireClient.connect(cleanup, again, { from: '127.91.0.2' });
  const strangers = await stranger.join(room.roomId, { name: 'Stranger', ...proofOf(room) });
  assert.notEqual(strangers.type, 'room_joined', 'the room forgot what it was told');

  const back = await Promise.all([
    page.online(20_000).then(since),
    snug.saw('joined', one => one.again === true, { after: returned, timeout: 20_000 }).then(since),
    (async () => {
      const client = await WireClient.connect(cleanup, again, { from: '127.90.1.9' });
      const seat = await client.join(room.roomId, { name: 'Owner', identity: owner.identity, ticket, ...proofOf(room) });
      assert.equal(seat.type, 'room_joined', JSON.stringify(seat));
      assert.equal(seat.isOwner, true, 'the ticket says whose room it is');
      assert.equal(seat.roomInfo.locked, true);
      assert.equal(seat.roomInfo.passwordEnabled, true);
      return since();
    })(),
  ]);
  console.log('back in the room after', back.map(Math.round).join(', '), 'ms (page, native, protocol)');
  assert.ok(Math.max(...back) <= BACK_MS, `back only after ${Math.round(Math.max(...back))} ms`);
  await seesAndHears(page, 1);
  await snug.seesAndHears(1);
});

scenario('a page that is loaded again is the same person to everybody', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const snug = native(cleanup, 'Ana', room.url);
  const page = await guest(await chromium(cleanup, { camera: 'small' }), 'Bo', room.url);
  await seesAndHears(page, 1);
  const [before] = await snug.seesAndHears(1);
  await page.page.reload();
  await page.page.click('#join');
  await seesAndHears(page, 1);
  const shown = await snug.shows('one person', one => one.participants.length === 1 && one.participants[0].link === 'connected');
  assert.equal(shown.participants[0].user, before.user, 'the key was kept');
});
