// Who may use the relay's own STUN and TURN server, from when to when, and what participants are told of it.

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { skip } from './lib/needs.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { allocations } from './lib/relaying.mjs';
import { scenario } from './lib/scenario.mjs';
import { serverOf, TurnClient } from './lib/turnclient.mjs';
import { until } from './lib/until.mjs';
import { WireClient } from './lib/wireclient.mjs';

const healthOf = async relay => (await fetch(`${relay.origin}/health`)).json();

/** Somebody in a room, without a browser. */
async function seated(cleanup, relay, room) {
  const client = await WireClient.connect(cleanup, relay);
  assert.equal((await client.join(room.roomId)).type, 'room_joined');
  return client;
}

/** A TURN client with the credential of somebody's seat. */
const turnOf = (cleanup, client, transport = 'udp') =>
  TurnClient.open(cleanup, serverOf(client.seat.iceServers, 'turn', transport));

scenario('a participant is told of the relay’s own server by the name it used, and a client of a given name by that one', async cleanup => {
  const relay = await startRelay(cleanup, { args: ['--allowed-host', 'meet.example.org'] });
  const room = newRoom(relay, { sealed: false });
  const health = await healthOf(relay);
  assert.deepEqual(health.turn, { status: 'ok' }, 'strangers are told neither ports nor counts');
  assert.ok(!('rooms' in health) && !('participants' in health));
  const [, port] = relay.log.match(/STUN and TURN on \S+:(\d+)/);
  const urls = host => [
    [`stun:${host}:${port}`],
    [`turn:${host}:${port}?transport=udp`, `turn:${host}:${port}?transport=tcp`],
  ];
  for (const [header, host] of [['127.0.0.1:1', '127.0.0.1'], ['meet.example.org', 'meet.example.org'], ['[::1]:8080', '[::1]']]) {
    const client = await WireClient.connect(cleanup, relay, { origin: `http://${header}`, headers: { host: header } });
    const { iceServers } = await client.join(room.roomId);
    assert.deepEqual(iceServers.map(server => server.urls), urls(host));
    const renewed = await client.ask({ type: 'turn_credentials' }, 'turn_credentials');
    assert.deepEqual(renewed.iceServers.map(server => server.urls), urls(host));
  }
  const named = await startRelay(cleanup, { args: ['--turn-host', 'turn.example.org'] });
  const told = await seated(cleanup, named, newRoom(named, { sealed: false }));
  assert.ok(told.seat.iceServers.every(server => server.urls.every(url => url.includes(':turn.example.org:'))));
  const none = await startRelay(cleanup, { args: ['--no-turn'] });
  assert.deepEqual((await seated(cleanup, none, newRoom(none, { sealed: false }))).seat.iceServers, []);
  assert.deepEqual((await healthOf(none)).turn, { status: 'off' });
});

scenario('two participants of a room talk through the server over UDP and over TCP, and strangers do not', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  const [ana, bo] = [await seated(cleanup, relay, room), await seated(cleanup, relay, room)];
  const stun = await TurnClient.open(cleanup, serverOf(ana.seat.iceServers, 'stun'));
  assert.equal(await stun.binding(), 0);
  assert.equal(stun.mapped.address, '127.0.0.1');
  const sides = [await turnOf(cleanup, ana), await turnOf(cleanup, bo, 'tcp')];
  for (const side of sides) assert.equal(await side.allocate(), 0);
  assert.equal(await allocations(relay), 2);
  for (const [side, other] of [sides, [...sides].reverse()]) assert.equal(await side.bind(other.relayed), 0);
  sides[0].say('over UDP');
  sides[1].say('over TCP');
  await until('each to hear the other', () => sides[1].heard.includes('over UDP') && sides[0].heard.includes('over TCP'));

  const other = await seated(cleanup, relay, newRoom(relay, { sealed: false }));
  const stranger = await turnOf(cleanup, other);
  assert.equal(await stranger.allocate(), 0);
  assert.equal(await stranger.permit(sides[0].relayed), 403, 'another room is out of reach');
  assert.equal(await stranger.permit({ address: '127.0.0.1', port: relay.port }), 403, 'and so is the machine itself');
  const forged = await TurnClient.open(cleanup, { ...serverOf(ana.seat.iceServers, 'turn'), credential: 'AAAAAAAAAAAAAAAAAAAAAAAAAAA=' });
  assert.equal(await forged.allocate(), 401);
});

scenario('what a credential opened ends when its participant leaves or is removed, and not when its connection is lost', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  const [ana, bo, cy] = [await seated(cleanup, relay, room), await seated(cleanup, relay, room), await seated(cleanup, relay, room)];
  const [a, b, c, stream] = [await turnOf(cleanup, ana), await turnOf(cleanup, bo), await turnOf(cleanup, cy), await turnOf(cleanup, bo, 'tcp')];
  for (const side of [a, b, c, stream]) assert.equal(await side.allocate(), 0);
  assert.equal(await allocations(relay), 4);

  ana.say({ type: 'kick', targetId: bo.userId });
  await until('the kicked one to have nothing left', async () => (await allocations(relay)) === 2);
  await until('its stream to be ended', () => stream.ended);
  assert.notEqual(await b.refresh(), 0);
  assert.equal(await (await turnOf(cleanup, bo)).allocate(), 401, 'its credential is worth nothing');

  cy.socket.terminate();
  await ana.hears('user_away');
  assert.equal(await c.refresh(), 0, 'a call outlives its signaling');
  assert.equal(await (await turnOf(cleanup, cy)).allocate(), 0, 'and may restart ICE meanwhile');

  ana.say({ type: 'leave_room' });
  await until('who left to have nothing left', async () => (await allocations(relay)) === 2);
  assert.notEqual(await a.refresh(), 0);
});

scenario('a relay that drains takes no new allocation and keeps what there is', async cleanup => {
  const relay = await startRelay(cleanup, { args: ['--drain-seconds', '20'] });
  const room = newRoom(relay, { sealed: false });
  const [ana, bo] = [await seated(cleanup, relay, room), await seated(cleanup, relay, room)];
  const sides = [await turnOf(cleanup, ana), await turnOf(cleanup, bo)];
  for (const side of sides) assert.equal(await side.allocate(), 0);
  for (const [side, other] of [sides, [...sides].reverse()]) assert.equal(await side.bind(other.relayed), 0);
  relay.child.kill('SIGTERM');
  await ana.hears('drain');
  assert.equal(await (await turnOf(cleanup, ana)).allocate(), 508);
  assert.equal(await sides[0].refresh(), 0);
  sides[0].say('still here');
  await until('media to go on', () => sides[1].heard.includes('still here'));
  for (const client of [ana, bo]) client.leave();
  await relay.exited;
});

scenario('a new relay on the same port gives credentials that work at once', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  const ana = await seated(cleanup, relay, room);
  assert.equal(await (await turnOf(cleanup, ana)).allocate(), 0);
  await relay.kill();
  const again = await startRelay(cleanup, { ...relay.options, port: relay.port });
  const back = await seated(cleanup, again, room);
  assert.equal(await (await turnOf(cleanup, back)).allocate(), 0);
});

/** Takes the default port; null when somebody has it. */
async function takeDefaultPort() {
  const socket = createSocket('udp4');
  // A socket that holds nothing up: the test closes it itself, unless it fails before.
  socket.unref();
  socket.bind(3478, '127.0.0.1');
  return once(socket, 'listening').then(() => socket, () => null);
}

scenario('a relay whose default port is taken waits for it, and then tells everybody inside', async (cleanup, t) => {
  const other = await takeDefaultPort();
  if (!other) return skip(t, 'needs port 3478, which is taken on this machine');
  const relay = await startRelay(cleanup, { turnListen: null });
  assert.match(relay.log, /3478 is taken by another program.*--turn-listen/);
  assert.deepEqual((await healthOf(relay)).turn, { status: 'unavailable', reason: 'port 3478 is taken by another program' });
  const ana = await seated(cleanup, relay, newRoom(relay, { sealed: false }));
  assert.deepEqual(ana.seat.iceServers, []);
  await new Promise(done => other.close(done));
  const { iceServers } = await ana.hears('turn_credentials');
  const turn = await TurnClient.open(cleanup, serverOf(iceServers, 'turn'));
  assert.equal(await turn.allocate(), 0, 'who was there before the server is admitted');
  assert.equal((await healthOf(relay)).status, 'ok');
});
