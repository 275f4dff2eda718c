// Clients that mean harm, or are broken: guessing, foreign pages, huge and nested messages, readers that do not read, sockets that say
// nothing. Real sockets against the real relay, all on the loopback addresses 127.0.0.0/8.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { hostname } from 'node:os';
import { linkProof } from './lib/identity.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { openAsOwner, prepare } from './lib/rooms.mjs';
import { scenario } from './lib/scenario.mjs';
import { during, until } from './lib/until.mjs';
import { WireClient } from './lib/wireclient.mjs';

const MIB = 1024 * 1024;

/** One GET from a chosen loopback address. */
function get(relay, path, { from = '127.0.0.1', headers = {}, agent } = {}) {
  const { hostname, port } = new URL(relay.origin);
  return new Promise((done, fail) => {
    const began = performance.now();
    const request = http.get({ hostname, port, path, headers, localAddress: from, agent }, answer => {
      let body = '';
      answer.on('data', chunk => (body += chunk));
      answer.on('end', () => done({ status: answer.statusCode, headers: answer.headers, body, took: performance.now() - began }));
    });
    request.on('error', fail);
  });
}

const mean = numbers => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;
const percentile = (numbers, part) => [...numbers].sort((a, b) => a - b)[Math.min(numbers.length - 1, Math.floor(numbers.length * part))];

// --- guessing ---

scenario('ten thousand guesses at rooms find nothing and are soon told to wait', async cleanup => {
  const relay = await startRelay(cleanup);
  const hidden = newRoom(relay);
  await openAsOwner(cleanup, relay, hidden);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 20 });
  cleanup.add(() => agent.destroy());
  const answers = [];
  for (let batch = 0; batch < 500; batch += 1) {
    answers.push(
      ...(await Promise.all(
        Array.from({ length: 20 }, (_, at) => {
          const roomId = at === 7 ? hidden.roomId : `guess-${batch}-${at}`;
          return get(relay, `/room/${roomId}/meta`, { agent }).then(answer => ({ ...answer, roomId }));
        }),
      )),
    );
  }
  const normal = answers.filter(answer => answer.status === 200).map(({ body, roomId }) => body.replace(roomId, 'ROOM'));
  const limited = answers.filter(answer => answer.status === 429);
  console.log(`10,000 guesses: ${normal.length} answered, ${limited.length} told to wait`);
  assert.equal(normal.length + limited.length, answers.length);
  assert.equal(new Set(normal).size, 1, 'every answer has the same bytes');
  assert.ok(limited.length > 9_000, `only ${limited.length} were told to wait`);
  assert.ok(limited.every(answer => Number(answer.headers['retry-after']) >= 1), 'each says for how long');
});

scenario('a room that exists and one that does not answer alike, in content and in time', async cleanup => {
  const relay = await startRelay(cleanup);
  const hidden = newRoom(relay);
  await openAsOwner(cleanup, relay, hidden);
  const wrong = linkProof(Buffer.alloc(16, 7).toString('base64url'), hidden.roomId);
  for (const [what, headers] of [['without a proof', {}], ['with a wrong proof', { 'Snug-Link-Proof': wrong }]]) {
    const times = { known: [], unknown: [] };
    const bodies = new Set();
    for (let round = 0; round < 1_000; round += 1) {
      // In turns, from ever new address blocks: the limiter is another test's subject.
      // Who comes first changes every time, since the first request of an address is the slower one.
      const pair = [['known', hidden.roomId], ['unknown', `test-none-${1000 + (round % 1000)}`]];
      for (const [kind, roomId] of round % 2 ? pair : pair.reverse()) {
        const answer = await get(relay, `/room/${roomId}/meta`, { headers, from: `127.${100 + (round >> 8)}.${round & 255}.1` });
        assert.equal(answer.status, 200, answer.body);
        bodies.add(answer.body.replace(roomId, 'ROOM'));
        if (round >= 200) times[kind].push(answer.took);
      }
    }
    assert.equal(bodies.size, 1, [...bodies].join('\n'));
    const difference = mean(times.known) - mean(times.unknown);
    const noise = Math.sqrt(mean(times.known.map(one => (one - mean(times.known)) ** 2)) / times.known.length) * 4;
    console.log(`meta ${what}: known ${mean(times.known).toFixed(3)} ms, unknown ${mean(times.unknown).toFixed(3)} ms, difference ${difference.toFixed(3)} ms (noise ±${noise.toFixed(3)})`);
  }
});

scenario('a wrong password and a room that does not exist get the same answer after the same work', async cleanup => {
  const relay = await startRelay(cleanup);
  const times = { wrong: [], unknown: [] };
  const answers = new Set();
  for (let round = 0; round < 5; round += 1) {
    const room = newRoom(relay, { sealed: false });
    await prepare(cleanup, relay, room, { password: 'the right one', hint: 'a hint' });
    for (let tries = 0; tries < 4; tries += 1) {
      for (const [kind, roomId] of [['wrong', room.roomId], ['unknown', `never-made-${round}-${tries}`]]) {
        const client = await WireClient.connect(cleanup, relay, { from: `127.${kind === 'wrong' ? 110 : 111}.${round * 4 + tries}.1` });
        const began = performance.now();
        client.say(client.joinMessage(roomId, { name: 'Eve', password: `guess ${tries}` }));
        const answer = await client.hears(['error', 'room_joined', 'auth_required']);
        times[kind].push(performance.now() - began);
        const { at, ...content } = answer;
        answers.add(JSON.stringify(content));
        client.leave();
      }
    }
  }
  console.log(`wrong password ${mean(times.wrong).toFixed(1)} ms, no such room ${mean(times.unknown).toFixed(1)} ms; answer ${[...answers].join(' ')}`);
  assert.equal(answers.size, 1, [...answers].join('\n'));
  assert.match([...answers][0], /AUTH_FAILED/);
  const ratio = mean(times.wrong) / mean(times.unknown);
  assert.ok(ratio > 0.5 && ratio < 2, `the times differ ${ratio.toFixed(2)} times`);
});

scenario('who goes on guessing passwords waits longer and longer', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  await prepare(cleanup, relay, room, { password: 'the right one' });
  const client = await WireClient.connect(cleanup, relay, { from: '127.112.0.1' });
  const codes = [];
  for (let tries = 0; tries < 6; tries += 1) {
    const answer = await client.join(room.roomId, { password: `guess ${tries}` });
    codes.push(answer.code);
    if (answer.code === 'RATE_LIMITED') {
      assert.ok(answer.retryAfterMs > 0, JSON.stringify(answer));
      break;
    }
  }
  assert.equal(codes.at(-1), 'RATE_LIMITED', codes.join(' '));
  assert.ok(codes.filter(code => code === 'AUTH_FAILED').length >= 3, codes.join(' '));
  const other = await WireClient.connect(cleanup, relay, { from: '127.113.0.1' });
  assert.equal((await other.join(room.roomId, { password: 'the right one' })).type, 'room_joined', 'somebody else is not kept out');
  const neighbour = await WireClient.connect(cleanup, relay, { from: '127.112.0.2' });
  assert.equal((await neighbour.join(room.roomId, { password: 'the right one' })).type, 'room_joined', 'nor is a neighbour');
});

scenario('owners who keep setting passwords keep nobody with the right one out of another room', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  await prepare(cleanup, relay, room, { password: 'the right one' });
  // A hundred and ten rooms of eleven networks.
  const owners = await Promise.all(Array.from({ length: 110 }, async (_, number) => {
    const owner = await WireClient.connect(cleanup, relay, { from: `127.160.${number % 11}.${1 + number}` });
    assert.equal((await owner.join(`flood-${number}`)).type, 'room_joined');
    return owner;
  }));
  const flood = setInterval(() => {
    for (const owner of owners) owner.say({ type: 'set_room_password', password: `password ${Math.random()}` });
  }, 50);
  cleanup.add(() => clearInterval(flood));
  const codes = [];
  for (let number = 0; number < 15; number += 1) {
    const client = await WireClient.connect(cleanup, relay, { from: `127.161.${number}.1` });
    const answer = await client.join(room.roomId, { password: 'the right one' });
    codes.push(answer.code ?? answer.type);
    client.leave();
  }
  assert.deepEqual(codes, Array(15).fill('room_joined'));
});

// --- foreign pages ---

scenario('only the relay’s own page and native clients may open a WebSocket', async cleanup => {
  const relay = await startRelay(cleanup, { args: ['--allowed-origin', 'https://friend.example'] });
  const refused = origin => assert.rejects(WireClient.connect(cleanup, relay, { origin }), error => error.status === 403, String(origin));
  for (const origin of ['https://evil.example', 'null', 'http://127.0.0.1:1', relay.origin.replace('127.0.0.1', 'localhost'), `${relay.origin}.evil.example`, 'https://friend.example.evil.example']) {
    await refused(origin);
  }
  for (const origin of [relay.origin, 'https://friend.example', undefined]) {
    const client = await WireClient.connect(cleanup, relay, { origin: origin ?? '', headers: {} });
    client.leave();
  }
});

scenario('a page whose name somebody pointed at the relay gets nothing from it', async cleanup => {
  const relay = await startRelay(cleanup, { args: ['--allowed-host', 'meet.lan'] });
  const [, metrics] = relay.log.match(/metrics on http:\S+:(\d+)/);
  const ask = (path, host, { port = relay.port, headers } = {}) =>
    get({ origin: `http://127.0.0.1:${port}` }, path, { headers: { ...headers, host: `${host}:${port}` } });
  for (const path of ['/', '/room/sunny-mountain-42', '/room/sunny-mountain-42/meta', '/health', '/js/main.js', '/ws']) {
    const answer = await ask(path, 'evil.example');
    assert.deepEqual([answer.status, JSON.parse(answer.body).code], [421, 'WRONG_HOST'], path);
    assert.ok(!answer.headers['content-security-policy'].includes('evil.example'), path);
  }
  assert.equal((await ask('/metrics', 'evil.example', { port: metrics })).status, 421);
  const page = await ask('/', 'evil.example', { headers: { accept: 'text/html', 'accept-language': 'de' } });
  assert.match(page.body, /Der Server kennt diesen Namen nicht[^]*--allowed-host/);
  // To a browser the page and its WebSocket have one origin.
  const origin = `http://evil.example:${relay.port}`;
  await assert.rejects(WireClient.connect(cleanup, relay, { origin, headers: { host: new URL(origin).host } }), { status: 421 });
  for (const host of ['127.0.0.1', 'localhost', '[::1]', '203.0.113.7', 'meet.lan', hostname(), `${hostname().split('.')[0]}.local`]) {
    assert.equal((await ask('/health', host)).status, 200, host);
    assert.equal((await ask('/metrics', host, { port: metrics })).status, 200, host);
  }
});

scenario('no compression is agreed to, so no message can grow on arrival', async cleanup => {
  const relay = await startRelay(cleanup);
  const { hostname, port } = new URL(relay.origin);
  const answer = await new Promise(done => {
    const request = http.get({
      hostname, port, path: '/ws',
      headers: {
        Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
        'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits',
      },
    });
    request.on('upgrade', (response, socket) => (socket.destroy(), done(response)));
  });
  assert.equal(answer.statusCode, 101);
  assert.equal(answer.headers['sec-websocket-extensions'], undefined);
});

// --- sizes ---

const nested = depth => `{"type":"ping","x":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`;

scenario('every limit holds at its value and bites one above it', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  const owner = await openAsOwner(cleanup, relay, room);
  const other = await WireClient.connect(cleanup, relay, { from: '127.114.0.1' });
  assert.equal((await other.join(room.roomId)).type, 'room_joined');
  const targetId = owner.userId;
  const sealed = length => ({ sealed: 'A'.repeat(length) });

  // Frames.
  const filled = size => {
    const head = '{"type":"ping","x":"';
    return `${head}${'x'.repeat(size - head.length - 2)}"}`;
  };
  assert.equal(filled(65_536).length, 65_536);
  assert.equal((await other.ask(filled(65_536), ['pong', 'error'])).type, 'pong');
  const big = await WireClient.connect(cleanup, relay, { from: '127.114.1.1' });
  big.say(filled(65_537));
  assert.equal((await big.closes()).code, 1009);

  // Nesting.
  assert.equal((await other.ask(nested(16), ['pong', 'error'])).type, 'pong');
  assert.equal((await other.ask(nested(17), ['pong', 'error'])).code, 'BAD_MESSAGE');
  assert.equal((await other.ask(nested(20_000), ['pong', 'error'])).code, 'BAD_MESSAGE');

  // Descriptions and candidates. The question after each shows that nothing else came before.
  const settles = () => other.ask({ type: 'turn_credentials' }, ['turn_credentials', 'error']);
  for (const [type, limit] of [['offer', 45_056], ['answer', 45_056], ['ice_candidate', 2_048]]) {
    const size = limit - (limit % 4);
    other.say({ type, targetId, payload: sealed(size) });
    assert.equal((await settles()).type, 'turn_credentials', `${type} of ${size}`);
    assert.equal((await owner.hears(`${type}_received`)).payload.sealed.length, size);
    await owner.confirm();
    other.say({ type, targetId, payload: sealed(limit + 4) });
    const refused = await settles();
    assert.match(refused.code ?? '', /TOO_LARGE|BAD_MESSAGE/, `${type} of ${limit + 4}: ${JSON.stringify(refused)}`);
    await other.hears('turn_credentials');
  }

  // Sixty-four candidates for a description, one of which has been sent.
  for (let number = 1; number < 64; number += 1) other.say({ type: 'ice_candidate', targetId, payload: sealed(64) });
  assert.equal((await settles()).type, 'turn_credentials', 'sixty-four candidates');
  other.say({ type: 'ice_candidate', targetId, payload: sealed(64) });
  assert.equal((await settles()).code, 'TOO_MANY_CANDIDATES');
  await other.hears('turn_credentials');

  // The owner's settings.
  for (const [maxParticipants, good] of [[1, false], [2, true], [10, true], [11, false]]) {
    const answer = await owner.ask({ type: 'update_settings', maxParticipants });
    assert.equal(answer.type, good ? 'done' : 'error', `maxParticipants ${maxParticipants}`);
  }
  for (const [password, hint, good] of [
    ['p'.repeat(256), undefined, true], ['p'.repeat(257), undefined, false], ['', undefined, false],
    ['p', 'h'.repeat(128), true], ['p', 'h'.repeat(129), false],
  ]) {
    const answer = await owner.ask({ type: 'set_room_password', password, hint });
    assert.equal(answer.type, good ? 'done' : 'error', `password of ${password.length}, hint of ${hint?.length}`);
  }

  // Joining: names, ids.
  const joins = [
    [{ displayName: sealed(512) }, true], [{ displayName: sealed(516) }, false],
    [{ roomId: 'ab' }, false], [{ roomId: 'a'.repeat(64) }, true], [{ roomId: 'a'.repeat(65) }, false],
    [{ roomId: 'Upper-Case' }, false], [{ roomId: '../etc/passwd' }, false], [{ roomId: 'a--b' }, false], [{ roomId: '-ab' }, false],
    [{ publicKey: 'short' }, false], [{ publicKey: `${'B'.repeat(86)}A` }, false], [{ keyProof: 'short' }, false], [{ ticket: 'x'.repeat(129) }, false], [{ displayName: { plain: 'x', sealed: 'y' } }, false], [{ displayName: {} }, false],
    [{ linkProof: 'too short' }, false], [{ ownerToken: 'too short' }, false],
  ];
  for (const [number, [fields, good]] of joins.entries()) {
    const client = await WireClient.connect(cleanup, relay, { from: `127.115.${number}.1` });
    client.say({ ...client.joinMessage(fields.roomId ?? `limits-${number}`), ...fields });
    const answer = await client.hears(['room_joined', 'error']);
    assert.equal(answer.type, good ? 'room_joined' : 'error', `${JSON.stringify(fields).slice(0, 80)}: ${JSON.stringify(answer)}`);
    client.leave();
  }

  // hello.
  const names = count => Array.from({ length: count }, (_, number) => `n${number}`);
  for (const [hello, good] of [
    [{ agent: 'a'.repeat(64), versions: [2] }, true], [{ agent: 'a'.repeat(65), versions: [2] }, false], [{ versions: [3, 2] }, true], [{ versions: [7] }, false], [{ versions: [1] }, false],
    [{ versions: [2], capabilities: names(16) }, true], [{ versions: [2], capabilities: names(17) }, false],
    [{ versions: [2], capabilities: ['x'.repeat(32)] }, true], [{ versions: [2], capabilities: ['x'.repeat(33)] }, false],
  ]) {
    const client = await WireClient.connect(cleanup, relay, { hello: false, from: '127.116.0.1' });
    client.say({ type: 'hello', ...hello });
    client.say({ type: 'ping' });
    const answer = await client.hears(['pong', 'error']);
    assert.equal(answer.type, good ? 'pong' : 'error', JSON.stringify([hello, answer]));
  }
  const health = await get(relay, '/health');
  assert.equal(health.status, 200);
});

scenario('a flood of messages is answered with RATE_LIMITED and stays its sender’s problem', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  const owner = await openAsOwner(cleanup, relay, room);
  const flooder = await WireClient.connect(cleanup, relay, { from: '127.117.0.1' });
  await flooder.join(room.roomId);
  for (let number = 0; number < 1_000; number += 1) flooder.say({ type: 'toggle_audio', enabled: number % 2 === 0 });
  const limited = await flooder.hears('error');
  assert.equal(limited.code, 'RATE_LIMITED');
  const began = performance.now();
  owner.say({ type: 'ping' });
  await owner.hears('pong');
  console.log(`a ping during the flood took ${(performance.now() - began).toFixed(1)} ms`);
  await during(500);
  const told = owner.heard.filter(message => message.type === 'peer_state').length;
  assert.ok(told <= 30 + 5 * 3, `${told} of 1,000 were passed on`);
});

scenario('rubbish on the wire ends that connection and nothing else', async cleanup => {
  const relay = await startRelay(cleanup);
  const { hostname, port } = new URL(relay.origin);
  const before = relay.memory();
  for (let round = 0; round < 300; round += 1) {
    const socket = net.connect({ host: hostname, port, localAddress: `127.118.${round % 250}.1` });
    socket.on('error', () => {});
    const upgrade = `GET /ws HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`;
    if (round % 2) socket.write(upgrade);
    socket.write(randomBytes(1 + (round * 37) % 4096));
    setTimeout(() => socket.destroy(), 200);
  }
  const client = await WireClient.connect(cleanup, relay, { from: '127.119.0.1' });
  for (const message of ['', '{', '[]', 'null', '"x"', '{"type":5}', '{"type":"join_room"}', '{"type":"hello","versions":["x"]}', '\u0000', '{"type":"ping","lastSeq":-1}', '{"type":"ping","lastSeq":1e400}', '{"type":"toggle_audio","enabled":"yes"}']) {
    client.say(message);
    assert.equal((await client.hears(['error', 'pong'])).type, 'error', message);
  }
  await during(1_000);
  assert.equal((await get(relay, '/health')).status, 200);
  const growth = (relay.memory() - before) / MIB;
  console.log(`memory grew by ${growth.toFixed(1)} MiB`);
  assert.ok(growth < 20, `memory grew by ${growth} MiB`);
  assert.doesNotMatch(relay.log, /panicked/);
});

// --- those who do not read, and those who do not speak ---

scenario('a reader that stops reading slows who sends to it, keeps its seat, and the others notice nothing', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  const owner = await openAsOwner(cleanup, relay, room);
  const slow = await WireClient.connect(cleanup, relay, { from: '127.120.0.1' });
  assert.equal((await slow.join(room.roomId, { name: 'Slow' })).type, 'room_joined');
  const listener = await WireClient.connect(cleanup, relay, { from: '127.121.0.1' });
  await listener.join(room.roomId, { name: 'Listener' });

  const latency = async times => {
    for (let number = 0; number < 10; number += 1) {
      const began = performance.now();
      listener.say({ type: 'offer', targetId: owner.userId, payload: { sealed: 'AAAA' } });
      await owner.hears('offer_received');
      times.push(performance.now() - began);
    }
    await owner.confirm();
    return times;
  };
  const usual = await latency([]);
  slow.socket.pause();
  const before = relay.memory();
  let peak = before;
  const loaded = [];
  const payload = { sealed: 'A'.repeat(45_056) };
  for (let round = 0; round < 20; round += 1) {
    for (let number = 0; number < 15; number += 1) owner.say({ type: 'offer', targetId: slow.userId, payload });
    await latency(loaded);
    peak = Math.max(peak, relay.memory());
    await during(300);
  }
  const growth = (peak - before) / MIB;
  const refused = owner.heard.filter(message => message.code === 'RATE_LIMITED').length;
  console.log(`others' latency p99 ${percentile(usual, 0.99).toFixed(1)} ms before, ${percentile(loaded, 0.99).toFixed(1)} ms during; memory grew by ${growth.toFixed(1)} MiB; ${refused} of 300 offers refused`);
  assert.ok(growth < 10, `memory grew by ${growth} MiB`);
  assert.ok(percentile(loaded, 0.5) < Math.max(20, 5 * percentile(usual, 0.5)), 'the others were slowed down');
  assert.ok(refused > 250, `only ${refused} were refused`);
  assert.equal(listener.heard.filter(message => ['user_away', 'user_left'].includes(message.type)).length, 0);

  slow.socket.resume();
  await slow.ask({ type: 'ping' }, 'pong');
  await slow.confirm();
  const seqs = slow.heard.flatMap(({ seq }) => seq ?? []);
  assert.deepEqual(seqs, seqs.map((_, index) => index + 1), 'nothing is missing');
  await during(1_000);
  owner.say({ type: 'answer', targetId: slow.userId, payload });
  await slow.hears('answer_received');
});

/** Bytes that the kernel holds for those who are connected to `port`. */
function unsent(port) {
  const wanted = `:${Number(port).toString(16).toUpperCase().padStart(4, '0')}`;
  const lines = readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1).map(line => line.trim().split(/\s+/));
  const queues = lines.filter(([, local]) => local?.endsWith(wanted)).map(words => Number.parseInt(words[4], 16));
  return queues.reduce((sum, bytes) => sum + bytes, 0);
}

scenario('nine seats that read nothing hold little in the kernel, and nothing once they are gone', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  const owner = await openAsOwner(cleanup, relay, room);
  const deaf = [];
  for (let number = 0; number < 9; number += 1) {
    const client = await WireClient.connect(cleanup, relay, { from: `127.${150 + number}.0.1` });
    assert.equal((await client.join(room.roomId, { name: `Deaf ${number}` })).type, 'room_joined');
    client.socket.pause();
    deaf.push(client);
  }
  const payload = { sealed: 'A'.repeat(45_056) };
  let most = 0;
  for (let round = 0; round < 40; round += 1) {
    for (const { userId } of deaf) owner.say({ type: 'offer', targetId: userId, payload });
    await during(250);
    most = Math.max(most, unsent(relay.port));
  }
  console.log(`the kernel held ${(most / MIB).toFixed(2)} MiB for nine seats`);
  assert.ok(most < 2 * MIB, `${most} bytes`);
  for (const { socket } of deaf) socket.terminate();
  await until('the kernel to hold nothing', () => unsent(relay.port) === 0, { timeout: 10_000 });
});

scenario('thousands of half-open sockets from many addresses keep nobody out', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  await openAsOwner(cleanup, relay, room);
  const { hostname, port } = new URL(relay.origin);
  const before = relay.memory();
  const sockets = [];
  cleanup.add(() => sockets.forEach(socket => socket.destroy()));
  const COUNT = 4_000;
  const kinds = ['', 'GET /ws HTT', `GET /ws HTTP/1.1\r\nHost: ${hostname}:${port}\r\nX-Slow: `,
    `GET /ws HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`];
  let opened = 0;
  for (let number = 0; number < COUNT; number += 1) {
    const socket = net.connect({ host: hostname, port, localAddress: `127.${130 + (number >> 12)}.${(number >> 4) & 255}.${1 + (number & 15)}` });
    socket.on('error', () => {});
    socket.resume();
    socket.on('connect', () => ((opened += 1), socket.write(kinds[number % kinds.length])));
    sockets.push(socket);
    if (number % 200 === 199) await during(20);
  }
  await until('most of them to be open', () => opened > COUNT * 0.9, { timeout: 20_000 });
  const times = [];
  for (let number = 0; number < 20; number += 1) {
    const began = performance.now();
    const client = await WireClient.connect(cleanup, relay, { from: `127.140.${number}.1` });
    const seat = await client.join(`busy-hour-${number}`, { name: 'Ana' });
    assert.equal(seat.type, 'room_joined', JSON.stringify(seat));
    times.push(performance.now() - began);
    client.leave();
  }
  const growth = (relay.memory() - before) / MIB;
  console.log(`${opened} half-open: a join took ${Math.max(...times).toFixed(0)} ms at most; memory grew by ${growth.toFixed(1)} MiB`);
  assert.ok(Math.max(...times) < 1_000, `a join took ${Math.max(...times)} ms`);
  assert.ok(growth < 100, `memory grew by ${growth} MiB`);
  await until('the silent ones to be closed', () => sockets.filter(socket => !socket.destroyed && !socket.readableEnded).length < COUNT * 0.05, { timeout: 30_000, every: 500 });
  assert.equal((await get(relay, '/health')).status, 200);
});

scenario('who opens a WebSocket and says nothing is closed after five seconds', async cleanup => {
  const relay = await startRelay(cleanup);
  const began = performance.now();
  const client = await WireClient.connect(cleanup, relay, { hello: false });
  const closed = await client.closes(10_000);
  const took = performance.now() - began;
  console.log(`closed with ${closed.code} after ${took.toFixed(0)} ms`);
  assert.ok(took > 4_000 && took < 8_000, `${took} ms`);
});

scenario('many joins from one address block are told to wait, others are not', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  await openAsOwner(cleanup, relay, room);
  const client = await WireClient.connect(cleanup, relay, { from: '127.122.0.1' });
  let limited = null;
  for (let number = 0; number < 60 && !limited; number += 1) {
    const answer = await client.join(room.roomId);
    if (answer.code === 'RATE_LIMITED') limited = { number, answer };
    else {
      assert.equal(answer.type, 'room_joined', JSON.stringify(answer));
      client.say({ type: 'leave_room' });
    }
  }
  assert.ok(limited, 'sixty joins in a row were let through');
  assert.ok(limited.number >= 25 && limited.number <= 40, `limited at join ${limited.number}`);
  assert.ok(limited.answer.retryAfterMs > 0);
  const other = await WireClient.connect(cleanup, relay, { from: '127.123.0.1' });
  assert.equal((await other.join(room.roomId)).type, 'room_joined');
});
