// PROTOCOL.md as a stranger reads it: raw frames over a WebSocket, each step from the text alone.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Identity, openPayload } from './lib/identity.mjs';
import { dataDir, newRoom, restartRelay, startRelay } from './lib/relay.mjs';
import { proofOf } from './lib/rooms.mjs';
import { scenario } from './lib/scenario.mjs';
import { during } from './lib/until.mjs';
import { ANSWERS, WireClient } from './lib/wireclient.mjs';

const token = () => Buffer.from(globalThis.crypto.getRandomValues(new Uint8Array(32))).toString('base64url');
const resumeOf = (roomId, userId, resumeToken, lastSeq) => ({ type: 'resume', roomId, userId, resumeToken, lastSeq });

/** An owner in a room of its own making. */
async function owned(cleanup, relay) {
  const { roomId } = newRoom(relay, { sealed: false });
  const [owner, ownerToken] = [await WireClient.connect(cleanup, relay), token()];
  assert.equal((await owner.join(roomId, { ownerToken })).type, 'room_joined');
  return { roomId, owner, ownerToken };
}

scenario('§2 and §3: a name is JSON in a string, an object is no array, and exactly four answers carry requestId', async cleanup => {
  const relay = await startRelay(cleanup);
  const { roomId } = newRoom(relay, { sealed: false });
  const ana = await WireClient.connect(cleanup, relay);
  for (const displayName of [{ plain: 'Ana' }, { plain: '"Ana"' }, { plain: '["Ana"]' }, { plain: { name: 'Ana' } }, ['plain', '{"name":"Ana"}'], 'Ana']) {
    const refused = await ana.ask({ ...ana.joinMessage(roomId), displayName, requestId: 7 }, ANSWERS);
    assert.deepEqual([refused.code, refused.requestId], ['BAD_MESSAGE', 7], JSON.stringify(displayName));
  }
  assert.equal((await ana.ask(ana.joinMessage(roomId, { media: [true, true, false, false], requestId: 7 }), ANSWERS)).code, 'BAD_MESSAGE');
  const { client } = JSON.parse(readFileSync(new URL('../../relay/wire/golden/malformed.json', import.meta.url), 'utf8'));
  for (const { frame, code } of client) assert.equal((await ana.ask(frame, ANSWERS)).code, code, frame);
  const joined = await ana.ask(ana.joinMessage(roomId, { requestId: 8 }), ANSWERS);
  assert.deepEqual([joined.type, joined.seq, 'requestId' in joined], ['room_joined', 1, false]);
  const carries = [
    [{ type: 'lock_room', locked: false }, 'done', true],
    [{ type: 'get_stats' }, 'room_stats', true],
    [{ type: 'rotate_owner_token' }, 'owner_token', true],
    [{ type: 'kick', targetId: new Identity().userId }, 'error', true],
    [{ type: 'turn_credentials' }, 'turn_credentials', false],
    [{ type: 'ping' }, 'pong', false],
  ];
  for (const [index, [message, type, has]] of carries.entries()) {
    const answer = await ana.ask({ ...message, requestId: index }, type);
    assert.equal(answer.requestId, has ? index : undefined, message.type);
  }
});

scenario('§2: a token resumes again until a newer one was used, and a dead one is told by RESUME_FAILED', async cleanup => {
  const relay = await startRelay(cleanup);
  const { roomId, owner: ana } = await owned(cleanup, relay);
  const resume = async (resumeToken, lastSeq = 1) => {
    const again = await WireClient.connect(cleanup, relay);
    const answer = await again.ask(resumeOf(roomId, ana.userId, resumeToken, lastSeq), ANSWERS);
    return { again, ...answer };
  };
  const first = ana.seat.resumeToken;
  ana.socket.terminate();
  // The answers to the first two are lost.
  for (let lost = 0; lost < 2; lost += 1) (await resume(first)).again.socket.terminate();
  const third = await resume(first);
  assert.equal(third.type, 'resumed');
  third.again.socket.terminate();
  const fourth = await resume(third.resumeToken);
  assert.equal(fourth.type, 'resumed');
  assert.equal((await resume(first)).code, 'RESUME_FAILED');
  assert.equal((await resume(fourth.resumeToken, 0)).type, 'room_joined', 'who has nothing of the seat gets everything');
});

scenario('§4: the hint comes to a join without a password, after a wrong one on the same connection', async cleanup => {
  const relay = await startRelay(cleanup);
  const { roomId, owner } = await owned(cleanup, relay);
  await owner.ask({ type: 'set_room_password', password: 'rex', hint: 'the dog' });
  const ben = await WireClient.connect(cleanup, relay);
  const join = more => ben.join(roomId, more);
  assert.deepEqual(Object.keys(await join()).filter(key => key !== 'at'), ['type'], 'no hint for strangers');
  assert.equal((await join({ password: 'tom' })).code, 'AUTH_FAILED');
  assert.equal((await join()).hint, 'the dog');
  const other = await WireClient.connect(cleanup, relay);
  assert.equal((await other.join(roomId)).hint, undefined, 'another connection begins anew');
  assert.equal((await join({ password: 'rex' })).type, 'room_joined');
});

/** The relay is killed and started again. */
async function killed(cleanup, relay) {
  await relay.kill();
  return restartRelay(cleanup, relay);
}

scenario('§2: without a ticket a rejoin is answered by auth_required, room_full and ROOM_LOCKED, and works when that is over', async cleanup => {
  let relay = await startRelay(cleanup);
  const { roomId, owner, ownerToken } = await owned(cleanup, relay);
  const ben = await WireClient.connect(cleanup, relay);
  assert.equal((await ben.join(roomId)).type, 'room_joined');
  await owner.ask({ type: 'update_settings', maxParticipants: 2 });
  await owner.ask({ type: 'set_room_password', password: 'rex' });
  relay = await killed(cleanup, relay);
  // Somebody else took the place.
  const back = await WireClient.connect(cleanup, relay);
  assert.equal((await back.join(roomId, { ownerToken })).type, 'room_joined');
  const cy = await WireClient.connect(cleanup, relay);
  assert.equal((await cy.join(roomId, { password: 'rex' })).type, 'room_joined');

  const again = await WireClient.connect(cleanup, relay);
  const rejoin = more => again.join(roomId, { identity: ben.identity, ...more });
  assert.equal((await rejoin()).type, 'auth_required');
  const full = await rejoin({ password: 'rex' });
  assert.deepEqual([full.type, full.maxParticipants, full.retryAfterMs], ['room_full', 2, undefined]);
  cy.socket.terminate();
  await back.hears('user_away');
  const held = await rejoin({ password: 'rex' });
  assert.equal(held.type, 'room_full');
  assert.ok(held.retryAfterMs > 25_000 && held.retryAfterMs <= 30_000, String(held.retryAfterMs));
  await back.ask({ type: 'update_settings', maxParticipants: 3 });
  await back.ask({ type: 'lock_room', locked: true });
  assert.equal((await rejoin({ password: 'rex' })).code, 'ROOM_LOCKED');
  await back.ask({ type: 'lock_room', locked: false });
  assert.equal((await rejoin({ password: 'rex' })).type, 'room_joined');
});

scenario('§2: a ticket opens the door again after a restart, past a password, a lock and a full room', async cleanup => {
  let relay = await startRelay(cleanup);
  const { roomId, owner, ownerToken } = await owned(cleanup, relay);
  const ben = await WireClient.connect(cleanup, relay);
  const { ticket } = await ben.join(roomId);
  await owner.ask({ type: 'set_room_password', password: 'rex' });
  await owner.ask({ type: 'lock_room', locked: true });
  await owner.ask({ type: 'update_settings', maxParticipants: 2 });
  relay = await killed(cleanup, relay);
  const back = await WireClient.connect(cleanup, relay);
  const seat = await back.join(roomId, { identity: owner.identity, ticket: owner.seat.ticket });
  assert.deepEqual([seat.type, seat.isOwner, seat.roomInfo.locked, seat.roomInfo.passwordEnabled], ['room_joined', true, true, true]);
  const again = await WireClient.connect(cleanup, relay);
  assert.equal((await again.ask(resumeOf(roomId, ben.userId, ben.seat.resumeToken, 1), ANSWERS)).code, 'RESUME_FAILED');
  assert.equal((await again.join(roomId, { identity: ben.identity, ticket })).type, 'room_joined');
  const stranger = await WireClient.connect(cleanup, relay);
  assert.notEqual((await stranger.join(roomId)).type, 'room_joined');
  assert.equal((await stranger.join(roomId, { ownerToken })).type, 'room_joined', 'the owner’s token opens everything');
});

scenario('§2: whom the owner removed stays out after a restart, and strangers have to be let in', async cleanup => {
  let relay = await startRelay(cleanup);
  const { roomId, owner } = await owned(cleanup, relay);
  const eve = await WireClient.connect(cleanup, relay);
  const { ticket } = await eve.join(roomId, { name: 'Eve' });
  assert.equal((await owner.ask({ type: 'kick', targetId: eve.userId })).type, 'done');
  relay = await killed(cleanup, relay);
  const back = await WireClient.connect(cleanup, relay);
  assert.equal((await back.join(roomId, { identity: owner.identity, ticket: owner.seat.ticket })).roomInfo.removed, 1);
  const again = await WireClient.connect(cleanup, relay);
  assert.equal((await again.join(roomId, { identity: eve.identity, ticket })).code, 'KICKED');
  assert.equal((await again.join(roomId, { identity: eve.identity })).code, 'KICKED');
  assert.equal((await again.join(roomId, { identity: new Identity(), ticket })).code, 'KICKED');
  assert.equal((await again.join(roomId, { identity: new Identity() })).type, 'waiting');
  const knock = await back.hears('knock');
  back.say({ type: 'admit', targetId: knock.userId, admitted: false });
  assert.equal((await again.hears('error')).code, 'NOT_ADMITTED');
});

scenario('§2 and §6: a seat belongs to a key, its holder comes back with a new run, and another key with the ticket is named', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const { roomId, secret } = room;
  const proof = proofOf(room);
  const ana = await WireClient.connect(cleanup, relay);
  await ana.join(roomId, { name: 'Ana', secret, ...proof });
  const ben = await WireClient.connect(cleanup, relay);
  const { ticket } = await ben.join(roomId, { name: 'Ben', secret, ...proof });
  const nameOf = ({ userId, publicKey, displayName }) => openPayload({ kind: 'name', roomId, senderId: userId, secret, publicKey }, displayName);
  assert.equal(nameOf((await ana.hears('user_joined')).participant), '{"name":"Ben"}');

  // Somebody who knows the link and Ben's id, but has not his key.
  const eve = await WireClient.connect(cleanup, relay);
  const forged = { ...eve.joinMessage(roomId, { ...proof }), publicKey: ben.identity.publicKey };
  assert.equal((await eve.ask(forged, ANSWERS)).code, 'KEY_PROOF_INVALID');
  // A proof over another connection's nonce is none.
  assert.equal((await eve.ask({ ...ben.joinMessage(roomId, proof), type: 'join_room' }, ANSWERS)).code, 'KEY_PROOF_INVALID');

  ben.identity.startAnew();
  const again = await WireClient.connect(cleanup, relay);
  assert.equal((await again.join(roomId, { identity: ben.identity, name: 'Ben', secret, ticket, ...proof })).type, 'room_joined');
  assert.equal((await ben.closes()).code, 4002);
  const same = (await ana.hears('user_joined')).participant;
  assert.deepEqual([same.userId, same.formerId], [ben.userId, undefined]);
  assert.equal(nameOf(same), '{"name":"Ben"}');

  const other = await WireClient.connect(cleanup, relay);
  assert.equal((await other.join(roomId, { name: 'Ben', secret, ticket: again.seat.ticket, ...proof })).type, 'room_joined');
  const left = await ana.hears('user_left');
  assert.deepEqual([left.userId, left.reason], [ben.userId, 'replaced']);
  const marked = (await ana.hears('user_joined')).participant;
  assert.deepEqual([marked.userId, marked.formerId], [other.userId, ben.userId]);
});

scenario('§2: a ticket of a session that is over is told from a good one', async cleanup => {
  const relay = await startRelay(cleanup);
  const { roomId, owner, ownerToken } = await owned(cleanup, relay);
  const { ticket } = owner.seat;
  owner.say({ type: 'leave_room' });
  const again = await WireClient.connect(cleanup, relay);
  await again.join(roomId, { ownerToken });
  const late = await WireClient.connect(cleanup, relay);
  assert.equal((await late.join(roomId, { ticket })).code, 'TICKET_INVALID');
  assert.equal((await late.join(roomId)).type, 'room_joined');
});

scenario('§2: a client of version 1 is told that there is no common version, and the connection ends', async cleanup => {
  const relay = await startRelay(cleanup);
  const old = await WireClient.connect(cleanup, relay, { hello: false });
  old.say({ type: 'hello', versions: [1], agent: 'old' });
  assert.equal((await old.hears('error')).code, 'VERSION_UNSUPPORTED');
  await old.closes();
});

scenario('§2: leaving and closing free a place at once, a crash holds it and says for how long', async cleanup => {
  const relay = await startRelay(cleanup);
  const { roomId, owner } = await owned(cleanup, relay);
  await owner.ask({ type: 'update_settings', maxParticipants: 2 });
  const newcomer = async () => {
    const client = await WireClient.connect(cleanup, relay);
    return { client, answer: await client.join(roomId) };
  };
  for (const leave of [client => client.say({ type: 'leave_room' }), client => client.socket.close(1001), client => client.socket.close(1000)]) {
    const { client, answer } = await newcomer();
    assert.equal(answer.type, 'room_joined');
    leave(client);
    await owner.hears('user_left');
  }
  const { client } = await newcomer();
  client.socket.terminate();
  await owner.hears('user_away');
  const { answer } = await newcomer();
  assert.equal(answer.type, 'room_full');
  assert.ok(answer.retryAfterMs > 0 && answer.retryAfterMs <= 30_000);
});

scenario('§4: room_stats counts sessions of the room, and the time that anybody was inside', async cleanup => {
  const relay = await startRelay(cleanup);
  const { roomId, owner, ownerToken } = await owned(cleanup, relay);
  const ben = await WireClient.connect(cleanup, relay);
  await ben.join(roomId);
  assert.equal((await owner.ask({ type: 'get_stats' }, 'room_stats')).totalSessions, 1, 'two participants, one session');
  ben.say({ type: 'leave_room' });
  await owner.hears('user_left');
  owner.say({ type: 'leave_room' });
  const again = await owner.join(roomId, { ownerToken });
  assert.equal(again.type, 'room_joined');
  const stats = await owner.ask({ type: 'get_stats' }, 'room_stats');
  assert.equal(stats.totalSessions, 2);
  assert.ok(stats.totalDurationSeconds <= 5, 'two at once count once');
});

scenario('§8: the relay’s HTTP answers have the statuses and codes of the table', async cleanup => {
  const relay = await startRelay(cleanup);
  const ask = async (path, headers = {}) => {
    const answer = await fetch(relay.origin + path, { headers: { accept: 'application/json', ...headers } });
    const body = answer.headers.get('content-type')?.includes('json') ? await answer.json() : null;
    return { status: answer.status, body };
  };
  for (const path of ['/nothing', '/js/none.js']) {
    const { status, body } = await ask(path);
    assert.deepEqual([status, body.code, typeof body.message], [404, 'NOT_FOUND', 'string'], path);
  }
  assert.equal((await ask('/room/a--b/meta')).status, 404);
  const unknown = await ask('/room/nobody-made-this/meta');
  assert.deepEqual(unknown.body, { roomId: 'nobody-made-this', passwordEnabled: null, locked: null, maxParticipants: null, participants: null });
  assert.deepEqual([(await ask('/ws')).status, (await ask('/ws')).body.code], [426, 'BAD_MESSAGE']);
  await assert.rejects(WireClient.connect(cleanup, relay, { origin: 'https://evil.example' }), { status: 403 });
  const { status, body } = await ask('/health');
  assert.deepEqual([status, body.status, body.store.status, body.turn.status], [200, 'ok', 'ok', 'ok']);
});

scenario('§3 and §8: a relay that wants a key makes rooms for its holders alone, and says so', async cleanup => {
  const data = dataDir(cleanup);
  writeFileSync(join(data, 'key'), 'open sesame\n');
  const relay = await startRelay(cleanup, { data, args: ['--creation-key-file', join(data, 'key')] });
  const health = await (await fetch(`${relay.origin}/health`)).json();
  assert.deepEqual(health.creation, { mode: 'key', status: 'ok' });
  const client = await WireClient.connect(cleanup, relay);
  assert.equal((await client.join('new-room')).code, 'CREATION_KEY_REQUIRED');
  assert.equal((await client.join('new-room', { creationKey: 'sesame' })).code, 'CREATION_KEY_REQUIRED');
  assert.equal((await client.join('new-room', { creationKey: 'open sesame' })).type, 'room_joined');
  client.leave();
  await relay.stop();
  const closed = await startRelay(cleanup, { data, args: ['--room-creation', 'closed'] });
  const other = await WireClient.connect(cleanup, closed);
  assert.equal((await other.join('another-room')).code, 'CREATION_CLOSED');
  assert.equal((await other.join('new-room')).type, 'room_joined', 'rooms that there are open');
});

scenario('§4: a session outlives a kill, and those who come back go on with it', async cleanup => {
  let relay = await startRelay(cleanup);
  const { roomId, ownerToken } = await owned(cleanup, relay);
  // A running session is written five seconds after it began.
  await during(7_000);
  await relay.kill();
  relay = await restartRelay(cleanup, relay);
  const again = await WireClient.connect(cleanup, relay);
  assert.equal((await again.join(roomId, { ownerToken })).type, 'room_joined');
  const stats = await again.ask({ type: 'get_stats' }, 'room_stats');
  assert.equal(stats.totalSessions, 1);
  assert.ok(stats.totalDurationSeconds >= 4, JSON.stringify(stats));
});

scenario('§8: /health and the metrics tell of the limit of rooms before it is reached', async cleanup => {
  const relay = await startRelay(cleanup, { args: ['--max-rooms', '10'] });
  const states = [];
  for (let number = 0; number < 11; number += 1) {
    const client = await WireClient.connect(cleanup, relay, { from: `127.150.${number}.1` });
    const answer = await client.join(`room-${number}`);
    assert.equal(answer.code ?? answer.type, number < 10 ? 'room_joined' : 'TOO_MANY_ROOMS');
    const { status, creation } = await (await fetch(`${relay.origin}/health`)).json();
    states.push(`${status} ${creation.status}`);
  }
  assert.deepEqual(states, [...Array(8).fill('ok ok'), 'degraded near_limit', 'degraded full', 'degraded full']);
  const metrics = relay.log.match(/metrics on (http:\S+)/)[1];
  const figures = await (await fetch(metrics)).text();
  assert.match(figures, /^snug_stored_rooms 10$/m);
  assert.match(figures, /^snug_stored_rooms_limit 10$/m);
});
