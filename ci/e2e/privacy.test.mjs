// What a relay's operator, or a thief of its memory or its log, can learn about a call.

import assert from 'node:assert/strict';
import { linkProof } from './lib/identity.mjs';
import { findInMemory } from './lib/memory.mjs';
import { chromium, guest, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { openAsOwner, proofOf } from './lib/rooms.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';
import { WireClient } from './lib/wireclient.mjs';

const NAME = 'Quetzalcoatlina';
const SAID = 'the password of the garden gate is rhubarb';

/** What only the people in the call should know. */
const secretsOf = room => [NAME, SAID, 'a=fingerprint:sha-256', 'a=ice-pwd:', ...(room.secret ? [room.secret] : [])];

async function talk(cleanup, relay, room) {
  const browser = await chromium(cleanup, { camera: 'small' });
  const ana = await guest(browser, NAME, room.url);
  const bo = await guest(browser, 'Bo', room.url);
  await seesAndHears(ana, 1);
  await bo.press('#chat-open');
  await ana.press('#chat-open');
  await bo.type('#chat-input', SAID);
  await bo.page.focus('#chat-input');
  await bo.page.keyboard.press('Enter');
  await until('the message to arrive', async () => (await ana.text('#chat-log')).includes(SAID));
}

scenario('in a sealed call the relay’s log and memory hold no name, no chat and no session description', async cleanup => {
  const relay = await startRelay(cleanup, { log: 'trace' });
  const room = newRoom(relay);
  await talk(cleanup, relay, room);
  for (const secret of secretsOf(room)) assert.ok(!relay.log.includes(secret), `the log holds ${secret}`);
  const found = findInMemory(relay.pid, secretsOf(room));
  console.log('sealed, found in memory:', found);
  for (const [secret, times] of Object.entries(found)) assert.equal(times, 0, `the relay's memory holds ${secret}`);
});

scenario('the same search finds the name in an unsealed call, so it is not blind', async cleanup => {
  const relay = await startRelay(cleanup, { log: 'debug' });
  const room = newRoom(relay, { sealed: false });
  await talk(cleanup, relay, room);
  const found = findInMemory(relay.pid, secretsOf(room));
  console.log('unsealed, found in memory:', found);
  assert.ok(found[NAME] > 0, 'the relay keeps plain names of who is seated');
  assert.equal(found[SAID], 0, 'chat does not pass through the relay even so');
  assert.ok(!relay.log.includes(NAME), 'and its log has no name at debug level either');
});

scenario('the log at its usual level names nobody and gives nothing away', async cleanup => {
  const relay = await startRelay(cleanup, { log: 'info' });
  const room = newRoom(relay);
  const from = '127.83.45.67';
  const owner = await openAsOwner(cleanup, relay, room);
  const password = 'quite-a-secret-password';
  assert.equal((await owner.ask({ type: 'set_room_password', password, hint: 'a-telling-hint' })).type, 'done');
  const rotated = await owner.ask({ type: 'rotate_owner_token' }, ['owner_token', 'error']);

  const guessing = await WireClient.connect(cleanup, relay, { from });
  await guessing.join(room.roomId, { name: NAME, password: 'a-wrong-password', ...proofOf(room) });
  await guessing.join('no-such-room-at-all', { name: NAME, password: 'a-wrong-password' });
  guessing.say('{"type":"nonsense-marker-in-a-message"}');
  guessing.say('not JSON, but-a-marker');
  await guessing.hears('error');
  const inside = await WireClient.connect(cleanup, relay, { from: '127.83.46.67' });
  const seat = await inside.join(room.roomId, { name: NAME, password, ...proofOf(room) });
  assert.equal(seat.type, 'room_joined', JSON.stringify(seat));
  inside.say({ type: 'offer', targetId: owner.userId, payload: { sealed: Buffer.from('an offer').toString('base64url') } });
  await owner.hears('offer_received');
  await fetch(`${relay.origin}/room/${room.roomId}/meta`, { headers: { 'Snug-Link-Proof': linkProof(room.secret, room.roomId) } });
  inside.socket.terminate();
  await owner.everHears('user_away');
  await owner.ask({ type: 'kick', targetId: inside.userId });
  await relay.stop();

  const forbidden = {
    'an address': '127.83.4',
    'a name': NAME,
    'the link’s secret': room.secret,
    'the link proof': linkProof(room.secret, room.roomId),
    'a password': password,
    'a wrong password': 'a-wrong-password',
    'a hint': 'a-telling-hint',
    'the owner’s token': room.ownerToken,
    'the new owner token': rotated.ownerToken,
    'a resume token': seat.resumeToken,
    'a ticket': seat.ticket,
    'a message’s content': 'a-marker',
    'an unknown type': 'nonsense-marker',
  };
  for (const [what, text] of Object.entries(forbidden)) {
    assert.equal(typeof text, 'string', what);
    assert.ok(!relay.log.includes(text), `the log holds ${what}: ${relay.log.split('\n').find(line => line.includes(text))}`);
  }
  console.log(`${relay.log.trim().split('\n').length} lines of log, none of which names anybody`);
});
