// The TURN server's TCP and TLS ports under people who do not speak TURN, say nothing, or do not listen.

import assert from 'node:assert/strict';
import net from 'node:net';
import tls from 'node:tls';
import { certificate } from './lib/certificate.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { allocationsBecome, seatWithTurn, turnFigures } from './lib/relaying.mjs';
import { scenario } from './lib/scenario.mjs';
import { serverOf, TurnClient } from './lib/turnclient.mjs';
import { during, until } from './lib/until.mjs';

/** What a client may take for its first message, or a stuck one for a piece of writing, with some time for a busy machine. */
const FIRST_MESSAGE = 10_000;
const STUCK = 20_000;
const SLACK = 3_000;

/** A TCP connection that says `words`. Notes when it was closed. */
async function stranger(cleanup, port, words = null, { from } = {}) {
  const socket = net.connect({ host: '127.0.0.1', port, localAddress: from });
  cleanup.add(() => socket.destroy());
  const seen = { socket, bytes: 0, closed: null };
  socket.on('error', () => {});
  socket.on('data', data => (seen.bytes += data.length));
  await new Promise((done, fail) => socket.once('connect', done).once('error', fail));
  const since = performance.now();
  socket.on('close', () => (seen.closed = Math.round(performance.now() - since)));
  if (words) socket.write(words);
  return seen;
}

const closed = (what, someone, within) => until(`${what} to be closed`, () => someone.closed !== null, { timeout: within, every: 20 }).then(() => someone.closed);

/** Two participants with an allocation each and a channel to the other: the first one over UDP, the second over `transport`. */
async function pair(cleanup, relay, room, second, { ca } = {}) {
  const [ana, bo] = [await seatWithTurn(cleanup, relay, room, { name: 'Ana', ca }), await seatWithTurn(cleanup, relay, room, { name: 'Bo', ca })];
  const [scheme, transport] = second === 'tls' ? ['turns', 'tcp'] : ['turn', second];
  const from = await TurnClient.open(cleanup, serverOf(ana.seat.iceServers, 'turn', 'udp'));
  const to = await TurnClient.open(cleanup, serverOf(bo.seat.iceServers, scheme, transport), { ca });
  for (const client of [from, to]) assert.equal(await client.allocate(), 0);
  for (const [client, other] of [[from, to], [to, from]]) assert.equal(await client.bind(other.relayed), 0);
  return { from, to, seats: [ana, bo] };
}

/** Sends packets of a kilobyte with the time in them until told to stop, `burst` each hundredth of a second; ten are 8 Mbit/s. */
function stream(client, burst) {
  let number = 0;
  const timer = setInterval(() => {
    for (let packets = 0; packets < burst; packets += 1) {
      const packet = Buffer.alloc(1000);
      packet.writeDoubleBE(performance.now(), 0);
      packet.writeUInt32BE(number++, 8);
      client.say(packet);
    }
  }, 10);
  return { stop: () => clearInterval(timer), sent: () => number };
}

for (const transport of ['udp', 'tcp', 'tls']) {
  scenario(`a stream of media from UDP to ${transport.toUpperCase()} arrives whole and in order`, async cleanup => {
    const cert = certificate(cleanup);
    const relay = await startRelay(cleanup, { args: transport === 'tls' ? cert.args : [] });
    const { from, to } = await pair(cleanup, relay, newRoom(relay), transport, transport === 'tls' ? { ca: cert.pem } : {});
    const numbers = [];
    const delays = [];
    to.onData = data => {
      numbers.push(data.readUInt32BE(8));
      delays.push(performance.now() - data.readDoubleBE(0));
    };
    // So little that a busy machine may keep this process waiting for a quarter of a second.
    const media = stream(from, 3);
    await during(2_000);
    media.stop();
    await until('the last of it', () => numbers.at(-1) === media.sent() - 1, { timeout: 2_000 });
    delays.sort((a, b) => a - b);
    const at = share => delays[Math.floor(delays.length * share)].toFixed(2);
    console.log(`UDP to ${transport}: ${numbers.length} of ${media.sent()}, delay ${at(0.5)} ms median, ${at(0.99)} ms for 99 %`);
    assert.deepEqual(numbers, Array.from({ length: media.sent() }, (_, number) => number));
  });
}

scenario('who reads too slowly over TCP loses old media, and nothing else waits or grows', async cleanup => {
  const relay = await startRelay(cleanup);
  const { from, to } = await pair(cleanup, relay, newRoom(relay), 'tcp');
  const media = stream(from, 10);
  cleanup.add(() => media.stop());
  await during(500);
  const before = relay.memory();
  to.socket.pause();
  await until('old media to be dropped', async () => (await turnFigures(relay))['dropped_total{reason="slow_reader"}'] > 1_000, { timeout: 10_000 });
  const grown = relay.memory() - before;
  assert.ok(grown < 8 * 1024 * 1024, `the relay grew by ${grown} bytes`);
  const started = performance.now();
  assert.equal((await (await fetch(`${relay.origin}/health`)).json()).status, 'ok');
  assert.ok(performance.now() - started < 1_000, 'and answers meanwhile');

  const arrived = [];
  to.onData = data => arrived.push({ at: performance.now(), sent: data.readDoubleBE(0) });
  const resumed = performance.now();
  to.socket.resume();
  await until('media sent after that', () => arrived.some(one => one.sent > resumed + 500), { timeout: 5_000, every: 10 });
  const fresh = arrived.find(one => one.sent > resumed);
  const oldest = Math.max(...arrived.map(one => resumed - one.sent));
  console.log(`slow reader: relay grew by ${Math.round(grown / 1024)} KiB, what came first after it was ${Math.round(oldest)} ms old, fresh media after ${Math.round(fresh.at - resumed)} ms`);
  assert.ok(fresh.at - fresh.sent < 1_000, 'what is sent once it reads again is not late');
  assert.equal(await to.refresh(), 0, 'its allocation is there');
});

scenario('HTTP, TLS, garbage, silence, slow drips and deaf ears on the TURN ports end in time, and nobody else notices', async cleanup => {
  const cert = certificate(cleanup);
  const relay = await startRelay(cleanup, { args: cert.args });
  const room = newRoom(relay);
  const { from, to, seats } = await pair(cleanup, relay, room, 'tcp', { ca: cert.pem });
  const { ports } = seats[0];
  const before = relay.memory();

  // Nobody who said that speaks TURN: there is nothing to wait for.
  const wrong = {
    'random bytes': Buffer.concat([Buffer.from([0xff]), Buffer.alloc(400, 0x5a)]),
    'an odd STUN length': Buffer.from([0, 1, 0, 3, 0x21, 0x12, 0xa4, 0x42, ...Buffer.alloc(15)]),
    'a POST request': 'POST / HTTP/1.1\r\nHost: example.org\r\n\r\n',
    'SSH': 'SSH-2.0-OpenSSH_9.2\r\n',
  };
  for (const [what, words] of Object.entries(wrong)) {
    const someone = await stranger(cleanup, ports.tcp, words);
    const took = await closed(what, someone, 2_000);
    assert.equal(someone.bytes, 0, what);
    console.log(`${what}: closed after ${took} ms`);
  }
  await assert.rejects(new Promise((done, fail) => {
    const socket = tls.connect({ host: '127.0.0.1', port: ports.tcp, rejectUnauthorized: false });
    cleanup.add(() => socket.destroy());
    socket.on('secureConnect', done).on('error', fail).on('close', () => fail(new Error('closed')));
  }), 'TLS where there is none');
  const plain = await stranger(cleanup, ports.tls, Buffer.from([0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, ...Buffer.alloc(12)]));
  await closed('TURN without TLS where TLS is spoken', plain, 2_000);

  // These might become something.
  const idle = await Promise.all(Array.from({ length: 200 }, () => stranger(cleanup, ports.tcp)));
  const silentTls = await stranger(cleanup, ports.tls);
  const get = await stranger(cleanup, ports.tcp, 'GET / HTTP/1.1\r\nHost: example.org\r\n\r\n');
  const drip = await stranger(cleanup, ports.tcp, Buffer.from([0]));
  const drops = [1, 0, 0, 0x21, 0x12, 0xa4];
  const dripping = setInterval(() => drip.socket.write(Buffer.from([drops.shift() ?? 0])), 1_500);
  cleanup.add(() => clearInterval(dripping));
  const media = stream(from, 10);
  cleanup.add(() => media.stop());
  const deafSince = performance.now();
  to.socket.pause();

  // Meanwhile somebody else comes and is served.
  const cy = await seatWithTurn(cleanup, relay, room, { name: 'Cy', ca: cert.pem });
  for (const [scheme, transport] of [['turn', 'udp'], ['turn', 'tcp'], ['turns', 'tcp']]) {
    const began = performance.now();
    const client = await TurnClient.open(cleanup, serverOf(cy.seat.iceServers, scheme, transport), { ca: cert.pem });
    assert.equal(await client.allocate(), 0);
    const took = performance.now() - began;
    assert.ok(took < 1_000, `${scheme} over ${transport} took ${Math.round(took)} ms`);
  }
  const grown = relay.memory() - before;
  console.log(`200 idle connections and the others: the relay grew by ${Math.round(grown / 1024)} KiB`);
  assert.ok(grown < 16 * 1024 * 1024, `${grown} bytes`);

  for (const [what, all] of [['idle connections', idle], ['TLS without a handshake', [silentTls]], ['a GET request', [get]], ['a drip', [drip]]]) {
    const times = await Promise.all(all.map(one => closed(what, one, FIRST_MESSAGE + SLACK)));
    console.log(`${what}: closed after ${Math.min(...times)} to ${Math.max(...times)} ms`);
    assert.ok(Math.max(...times) <= FIRST_MESSAGE + SLACK, `${times}`);
  }
  await until('who reads nothing to be closed', async () => (await turnFigures(relay)).streams <= 2, { timeout: STUCK + SLACK });
  console.log(`who read nothing: closed after ${Math.round(performance.now() - deafSince)} ms`);
  // Cy's three and Ana's are left.
  await allocationsBecome(relay, count => count === 4, { timeout: 2_000 });
  assert.equal(await from.refresh(), 0);
});
