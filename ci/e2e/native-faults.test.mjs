// What goes wrong in a call with native clients: somebody's process dies, the relay dies, and everything that can be wrong with what was asked for.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WebSocketServer } from 'ws';
import { native } from './lib/native.mjs';
import { chromium, guest, seesAndHears } from './lib/people.mjs';
import { newRoom, restartRelay, startRelay } from './lib/relay.mjs';
import { prepare } from './lib/rooms.mjs';
import { scenario } from './lib/scenario.mjs';
import { during } from './lib/until.mjs';

const linkOf = (snapshot, name) => snapshot.participants.find(one => one.name === name)?.link;

scenario('a killed participant’s tile is dropped within 6 s and gone within 30 s, by natives and in the page', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const ana = native(cleanup, 'Ana', room.url);
  await ana.saw('joined');
  const bo = native(cleanup, 'Bo', room.url);
  const page = await guest(await chromium(cleanup, { camera: 'small' }), 'Chidi', room.url);
  await seesAndHears(page, 2);
  await ana.seesAndHears(2);
  const killed = performance.now();
  await bo.kill();
  await ana.shows('Bo’s tile dropped', shown => ['lost', undefined].includes(linkOf(shown, 'Bo')), { timeout: 20_000 });
  const dropped = performance.now() - killed;
  await ana.saw('participant_left', () => true, { timeout: 60_000 });
  const gone = performance.now() - killed;
  console.log(`the tile was dropped after ${Math.round(dropped)} ms and gone after ${Math.round(gone)} ms`);
  // The tests' own machine may be late by a second.
  assert.ok(dropped <= 7_000, `dropped only after ${dropped} ms`);
  assert.ok(dropped >= 3_000, `a short silence must cost no tile, and this one was dropped after ${dropped} ms`);
  assert.ok(gone <= 31_000, `gone only after ${gone} ms`);
  assert.equal(linkOf(await ana.snapshot(), 'Chidi'), 'connected');
});

scenario('a relay that is killed and restarted costs natives no picture, and both are back in the room', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const people = ['Ana', 'Bo'].map(name => native(cleanup, name, room.url));
  for (const someone of people) await someone.seesAndHears(1);

  // How far pictures and packets have come, several times a second.
  const watch = async (someone, during_) => {
    const samples = [];
    let on = true;
    during_.then(() => (on = false), () => (on = false));
    while (on) {
      const snapshot = await someone.snapshot();
      const [other] = snapshot.participants;
      samples.push({ at: snapshot.at, pictures: other?.pictures ?? 0 });
      await during(50);
    }
    let [gap, last] = [0, samples[0]];
    for (const sample of samples) {
      if (sample.pictures > last.pictures) last = sample;
      gap = Math.max(gap, sample.at - last.at);
    }
    return Math.round(gap);
  };
  const usual = await Promise.all(people.map(someone => watch(someone, during(4_000))));
  const fault = (async () => {
    const killed = performance.now();
    await relay.kill();
    await during(2_000);
    await restartRelay(cleanup, relay);
    const returned = performance.now();
    await Promise.all(people.map(someone => someone.saw('joined', event => event.again, { after: killed, timeout: 30_000 })));
    console.log('back in the room', Math.round(performance.now() - returned), 'ms after the relay');
    await during(1_000);
  })();
  const seen = await Promise.all(people.map(someone => watch(someone, fault)));
  await fault;
  console.log(`longest time without a picture: ${seen.join(' and ')} ms (before the fault ${usual.join(' and ')} ms)`);
  assert.ok(Math.max(...seen) <= Math.max(500, 1.5 * Math.max(...usual)), `a gap of ${Math.max(...seen)} ms`);
  for (const someone of people) assert.equal((await someone.snapshot()).participants.length, 1);
});

/** Whose key it is (PROTOCOL.md §6). */
const userOf = publicKey =>
  createHash('sha256').update('snug/2\0user\0').update(Buffer.from(publicKey, 'base64url')).digest().subarray(0, 16).toString('base64url');

/** Runs a join that must not come about. */
async function refused(cleanup, url, options, code, exit, sentence) {
  const someone = native(cleanup, 'Nat', url, options);
  const end = await someone.ends();
  const { ended } = end;
  console.log(`${code}: exit ${end.code}, “${ended?.message}”`);
  assert.equal(ended?.code, code, JSON.stringify({ end, log: someone.log }));
  assert.equal(end.code, exit);
  assert.match(ended.message, sentence);
  assert.ok(ended.message.length < 300 && !ended.message.includes('\n'), 'one sentence');
}

scenario('a wrong password, a bad link, damaged files and devices that are not there get one sentence, a word and an exit code', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  await prepare(cleanup, relay, room, { password: 'right' });
  const folder = mkdtempSync(join(tmpdir(), 'snug-damaged-'));
  cleanup.add(() => rmSync(folder, { recursive: true, force: true }));
  const file = (name, content) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const short = Buffer.alloc(44);
  short.write('RIFF\0\0\0\0WAVEfmt ', 0, 'latin1');

  const nobody = native(cleanup, 'Nat', room.url, { password: 'wrong' });
  const asked = await nobody.saw('password_needed');
  assert.equal(asked.wrong, true);
  nobody.say('supply_password', { password: 'right' });
  await nobody.saw('joined');
  assert.equal((await nobody.leave()).code, 0);

  await refused(cleanup, 'not a link', {}, 'link_invalid', 2, /link/);
  await refused(cleanup, `${relay.origin}/room/under_score`, {}, 'link_room', 2, /room/);
  await refused(cleanup, room.url, { video: file('a.y4m', 'YUV4MPEG2 W0 H0\n') }, 'source_damaged', 2, /a\.y4m/);
  await refused(cleanup, room.url, { video: join(folder, 'missing.y4m') }, 'source_not_found', 2, /missing\.y4m/);
  await refused(cleanup, room.url, { audio: file('a.wav', short) }, 'AUDIO_FILE_DAMAGED', 2, /a\.wav/);
  await refused(cleanup, room.url, { audio: join(folder, 'missing.wav') }, 'AUDIO_FILE_UNREADABLE', 2, /missing\.wav/);
  await refused(cleanup, room.url, { record: file('a file', '') }, 'record_folder', 2, /folder/);
  await refused(cleanup, room.url, { video: 'camera', args: ['--camera', 'nowhere'] }, 'unknown_device', 2, /no camera "nowhere"/);
  await refused(cleanup, room.url, { audio: 'device', args: ['--microphone', 'nowhere'] }, 'unknown_device', 2, /no microphone "nowhere"/);
  await refused(cleanup, 'http://127.0.0.1:1/room/some-room', {}, 'unreachable', 4, /127\.0\.0\.1/);
});

scenario('a file of pictures that ends early is told, and the call goes on', async cleanup => {
  const relay = await startRelay(cleanup);
  const folder = mkdtempSync(join(tmpdir(), 'snug-damaged-'));
  cleanup.add(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, 'short.y4m');
  writeFileSync(path, Buffer.concat([Buffer.from('YUV4MPEG2 W64 H48 F30:1 C420jpeg\nFRAME\n'), Buffer.alloc(64 * 48)]));
  const ana = native(cleanup, 'Ana', newRoom(relay).url, { video: path });
  const problem = await ana.saw('problem');
  console.log(`“${problem.message}”`);
  assert.match(problem.message, /short\.y4m/);
  await ana.saw('joined');
  assert.equal((await ana.leave()).code, 0);
});

scenario('a relay that speaks another version of the protocol is told by that', async cleanup => {
  const server = createServer();
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', socket =>
    socket.on('message', () => {
      socket.send(JSON.stringify({ type: 'error', code: 'VERSION_UNSUPPORTED', message: 'This client is too old or too new for the relay. Update it.' }));
      socket.close(4000);
    }),
  );
  await new Promise(done => server.listen(0, '127.0.0.1', done));
  cleanup.add(() => new Promise(done => {
    sockets.clients.forEach(socket => socket.terminate());
    server.close(done);
  }));
  await refused(cleanup, `http://127.0.0.1:${server.address().port}/room/some-room`, {}, 'version_unsupported', 5, /version|update/i);
});

scenario('a relay that breaks as soon as it has given a seat is asked more and more seldom', async cleanup => {
  const golden = JSON.parse(readFileSync(new URL('../../relay/wire/golden/messages.json', import.meta.url), 'utf8'));
  const example = type => golden.server.find(message => message.type === type);
  const server = createServer();
  const sockets = new WebSocketServer({ server });
  const asked = [];
  sockets.on('connection', socket => {
    asked.push(performance.now());
    socket.on('message', data => {
      const message = JSON.parse(data);
      if (message.type === 'hello') return socket.send(JSON.stringify(example('welcome')));
      if (message.type !== 'join_room' && message.type !== 'resume') return undefined;
      const { roomId, publicKey, userId = userOf(publicKey) } = message;
      const joined = { ...example('room_joined'), seq: 1, roomId, userId, participants: [], iceServers: [] };
      delete joined.requestId;
      socket.send(JSON.stringify(message.type === 'resume' ? { ...example('resumed'), replayed: 0 } : joined));
      return socket.close(1011);
    });
  });
  await new Promise(done => server.listen(0, '127.0.0.1', done));
  cleanup.add(() => new Promise(done => {
    sockets.clients.forEach(socket => socket.terminate());
    server.close(done);
  }));
  const ana = native(cleanup, 'Ana', `http://127.0.0.1:${server.address().port}/room/some-room`);
  await ana.saw('joined');
  await during(16_000);
  const waits = asked.slice(1).map((at, index) => Math.round(at - asked[index]));
  console.log(`asked ${asked.length} times in 16 s, after ${waits.join(', ')} ms`);
  assert.ok(asked.length >= 5 && asked.length <= 11, `asked ${asked.length} times`);
  assert.ok(waits.slice(-2).every(wait => wait >= 1900), 'at the end every 2 to 4 s');
});
