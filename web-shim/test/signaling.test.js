import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, test } from 'node:test';
import { Signaling } from '../js/signaling.js';
import { fakeClock, fakeEnvironment, publicKey, roomJoined, settle, socketFactory, token, userId } from './fakes.js';

const golden = JSON.parse(readFileSync(new URL('../../relay/wire/golden/messages.json', import.meta.url), 'utf8'));
const PAYLOAD = { plain: '{"name":"Ana"}', proof: 'x' };
const WELCOME = { type: 'welcome', versions: [2], relay: 'snug-relay/2', heartbeatSeconds: 15, nonce: token('n') };
let clock, sockets, signaling, log, password, ticket, refused, accepts;

beforeEach(() => {
  clock = fakeClock();
  const factory = socketFactory();
  sockets = factory.sockets;
  log = [];
  password = null;
  ticket = 'the ticket';
  refused = null;
  accepts = [];
  const owner = {
    joinMessage: async (nonce) => ({
      type: 'join_room',
      roomId: 'sunny-mountain-42',
      publicKey: publicKey('s'),
      keyProof: `by s over ${nonce}`,
      displayName: PAYLOAD,
      media: { audio: true, video: false, screen: false, hand: false, recording: false },
      ...(password && { password }),
      ...(ticket && { ticket }),
    }),
    onTicketInvalid: async () => { ticket = null; },
    onState: (state) => log.push(state),
    acceptsSeat: () => accepts.shift() ?? true,
    onJoined: () => log.push('joined'),
    onResumed: () => log.push('resumed'),
    onMessage: (message) => log.push(message),
    onEnded: (error) => log.push(`ended ${error.code}`),
  };
  signaling = new Signaling({ url: 'wss://x/ws', env: { ...fakeEnvironment({ clock, ...factory }), socketRefusal: async () => refused }, agent: 'snug-web/2', owner });
});
afterEach(() => {
  signaling.leave();
  clock.reset();
});

const last = () => sockets.at(-1);
const took = () => log.splice(0);

async function open() {
  last().open();
  last().receive(WELCOME);
  await settle();
}

async function joined() {
  const join = signaling.join();
  await open();
  last().receive(roomJoined());
  await join;
  took();
}

/** The connection is lost and another one is open. */
async function reopened() {
  const before = sockets.length;
  last().drop();
  while (sockets.length === before) await clock.advance(50);
  await open();
}

test('a join says hello first and sends what the golden messages hold', async () => {
  password = 'correct horse';
  const join = signaling.join();
  await open();
  assert.deepEqual(last().types(), ['hello', 'join_room']);
  for (const sent of last().sent) {
    const example = golden.client.find((message) => message.type === sent.type);
    for (const field of Object.keys(sent)) assert.equal(typeof sent[field], typeof example[field], `${sent.type}.${field}`);
  }
  last().receive(roomJoined());
  await join;
  assert.deepEqual(took(), ['online', 'joined']);
});

test('a refused join is told with its details and may be tried again on the same connection', async () => {
  const cases = [
    [{ type: 'error', code: 'AUTH_FAILED', message: 'Wrong.', retryAfterMs: 1000 }, { code: 'AUTH_FAILED', message: 'Wrong.', retryAfterMs: 1000 }],
    [{ type: 'auth_required' }, { code: 'AUTH_REQUIRED' }],
    [{ type: 'auth_required', hint: 'battery' }, { code: 'AUTH_REQUIRED', hint: 'battery' }],
    [{ type: 'room_full', maxParticipants: 5 }, { code: 'ROOM_FULL', maxParticipants: 5 }],
    [{ type: 'room_full', maxParticipants: 2, retryAfterMs: 23000 }, { code: 'ROOM_FULL', maxParticipants: 2, retryAfterMs: 23000 }],
  ];
  for (const [answer, expected] of cases) {
    const join = signaling.join();
    if (sockets.length === 1 && sockets[0].readyState === 0) await open();
    await settle();
    last().receive(answer);
    await assert.rejects(join, expected);
  }
  assert.equal(sockets.length, 1);
  assert.equal(last().types().filter((type) => type === 'join_room').length, cases.length);
});

test('after a wrong password the hint comes with the refusal', async () => {
  let join = signaling.join();
  await open();
  last().receive({ type: 'auth_required' });
  await assert.rejects(join, { code: 'AUTH_REQUIRED' });

  password = 'wrong';
  join = signaling.join();
  await settle();
  last().receive({ type: 'error', code: 'AUTH_FAILED', message: 'Wrong.' });
  await settle();
  assert.equal(last().sent.at(-1).password, undefined);
  last().receive({ type: 'auth_required', hint: 'battery' });
  await assert.rejects(join, { code: 'AUTH_FAILED', message: 'Wrong.', hint: 'battery' });
});

test('a wrong password for a room that may not exist is not followed by making one', async () => {
  password = 'wrong';
  const join = signaling.join();
  await open();
  last().receive({ type: 'error', code: 'AUTH_FAILED', message: 'Wrong.' });
  await assert.rejects(join, { code: 'AUTH_FAILED' });
  assert.equal(last().types().filter((type) => type === 'join_room').length, 1);
});

test('a room that is known to have a password gives its hint after the first wrong one', async () => {
  password = 'wrong';
  const join = signaling.join(true);
  await open();
  last().receive({ type: 'error', code: 'AUTH_FAILED', message: 'Wrong.' });
  await settle();
  last().receive({ type: 'auth_required', hint: 'battery' });
  await assert.rejects(join, { code: 'AUTH_FAILED', hint: 'battery' });
});

test('what refuses WebSockets while the relay answers is named once a second attempt confirms it', async () => {
  for (const code of ['NO_WEBSOCKET', 'BAD_ORIGIN', 'RATE_LIMITED']) {
    refused = code;
    let settled = false;
    const rejected = assert.rejects(signaling.join(), { code }).then(() => { settled = true; });
    last().drop();
    await settle();
    assert.equal(settled, false, 'once may be a restart');
    await clock.advance(4000);
    last().drop();
    await rejected;
  }
});

test('a relay that was only restarting is joined', async () => {
  refused = 'NO_WEBSOCKET';
  const join = signaling.join();
  last().drop();
  await settle();
  await clock.advance(500);
  await open();
  last().receive(roomJoined());
  await join;
});

test('a proxy that lets WebSockets hang is named when time is up', async () => {
  refused = 'NO_WEBSOCKET';
  const rejected = assert.rejects(signaling.join(), { code: 'NO_WEBSOCKET' });
  await clock.advance(15_000);
  await rejected;
});

test('a relay that cannot be reached is given fifteen seconds at the first join', async () => {
  const join = signaling.join();
  const rejected = assert.rejects(join, { code: 'NETWORK' });
  for (let i = 0; i < 16; i++) {
    for (const socket of sockets) if (socket.readyState === 0) socket.drop();
    await clock.advance(1000);
  }
  await rejected;
  const attempts = sockets.length;
  await clock.advance(10_000);
  assert.equal(sockets.length, attempts, 'nothing goes on in the background');
});

test('a relay that is full says so', async () => {
  const rejected = assert.rejects(signaling.join(), { code: 'RELAY_FULL' });
  for (let i = 0; i < 16; i++) {
    if (last().readyState === 0) {
      last().open();
      last().drop(1013);
    }
    await clock.advance(1000);
  }
  await rejected;
});

test('after a loss the seat is resumed with the highest number seen', async () => {
  await joined();
  last().receive({ type: 'user_away', seq: 2, userId: userId('b') });
  await reopened();
  assert.deepEqual(last().sent[1], {
    type: 'resume',
    roomId: 'sunny-mountain-42',
    userId: userId('s'),
    resumeToken: token('t'),
    lastSeq: 2,
  });
  last().receive({ type: 'resumed', resumeToken: token('u'), replayed: 1 });
  last().receive({ type: 'user_back', seq: 3, userId: userId('b') });
  assert.deepEqual(took().slice(-4).map((entry) => entry.type ?? entry), ['reconnecting', 'online', 'resumed', 'user_back']);
  await reopened();
  assert.equal(last().sent[1].resumeToken, token('u'));
  assert.equal(last().sent[1].lastSeq, 3);
});

test('a message that comes again is dropped and a gap is asked for again', async () => {
  await joined();
  last().receive({ type: 'user_away', seq: 2, userId: userId('b') });
  last().receive({ type: 'user_away', seq: 2, userId: userId('b') });
  assert.equal(took().length, 1);
  last().receive({ type: 'user_left', seq: 4, userId: userId('b'), reason: 'left' });
  assert.deepEqual(took(), ['reconnecting']);
  assert.equal(sockets[0].closedWith, 3001);
});

test('a seat that is gone is followed by a join with the same key', async () => {
  await joined();
  await reopened();
  last().receive({ type: 'error', code: 'RESUME_FAILED', message: '' });
  await settle();
  assert.deepEqual(last().types(), ['hello', 'resume', 'join_room']);
  assert.equal(last().sent[2].publicKey, publicKey('s'));
  last().receive(roomJoined({ resumeToken: token('v') }));
  last().receive({ type: 'user_away', seq: 2, userId: userId('b') });
  assert.deepEqual(took().slice(-3).map((entry) => entry.type ?? entry), ['online', 'joined', 'user_away']);
});

test('a rejoin that is refused for a while is repeated by itself', async () => {
  await joined();
  await reopened();
  last().receive({ type: 'error', code: 'RESUME_FAILED', message: '' });
  await settle();
  last().receive({ type: 'error', code: 'SERVER_BUSY', message: '', retryAfterMs: 700 });
  await clock.advance(650);
  assert.equal(last().sent.length, 3);
  await clock.advance(100);
  assert.equal(last().sent.length, 4);
  last().receive({ type: 'room_full', maxParticipants: 2 });
  await clock.advance(4000);
  assert.equal(last().sent.filter(({ type }) => type === 'join_room').length, 3);
});

test('a room that is full and names no wait is not asked at the speed of the network', async () => {
  await joined();
  await reopened();
  last().receive({ type: 'error', code: 'RESUME_FAILED', message: '' });
  await settle();
  const asked = () => last().sent.filter(({ type }) => type === 'join_room').length;
  const from = asked();
  let answered = 0;
  for (let i = 0; i < 400; i++) {
    for (; answered < asked(); answered = asked()) last().receive({ type: 'room_full', maxParticipants: 2, retryAfterMs: 0 });
    await clock.advance(50);
  }
  assert.ok(asked() - from >= 4 && asked() - from <= 10, String(asked() - from));
});

test('a relay that lost its rooms is joined without the password it does not know', async () => {
  password = 'correct horse';
  await joined();
  await reopened();
  last().receive({ type: 'error', code: 'RESUME_FAILED', message: '' });
  await settle();
  last().receive({ type: 'error', code: 'AUTH_FAILED', message: '' });
  await settle();
  const joins = last().sent.filter(({ type }) => type === 'join_room');
  assert.deepEqual(joins.map((join) => join.password), ['correct horse', undefined]);
  last().receive(roomJoined());
  assert.equal(took().at(-1), 'joined');
});

test('a room that will not have us back ends it', async () => {
  await joined();
  await reopened();
  last().receive({ type: 'error', code: 'RESUME_FAILED', message: '' });
  await settle();
  last().receive({ type: 'error', code: 'LINK_INCOMPLETE', message: '' });
  assert.deepEqual(took().slice(-2), ['closed', 'ended LINK_INCOMPLETE']);
});

for (const [code, reason] of [[4001, 'KICKED'], [4002, 'REPLACED'], [4006, 'CALL_ENDED']]) {
  test(`a connection closed with ${code} is final`, async () => {
    await joined();
    last().drop(code);
    await clock.advance(10_000, 500);
    assert.equal(sockets.length, 1);
    assert.deepEqual(took(), ['closed', `ended ${reason}`]);
  });
}

test('a ping goes out with each heartbeat, and silence is a loss after five seconds', async () => {
  await joined();
  await clock.advance(15_000, 500);
  assert.deepEqual(last().sent.at(-1), { type: 'ping', lastSeq: 1 });
  last().receive({ type: 'pong' });
  await clock.advance(15_000, 500);
  assert.equal(sockets.length, 1);
  await clock.advance(4900);
  assert.deepEqual(took(), []);
  await clock.advance(200);
  assert.deepEqual(took(), ['reconnecting']);
});

test('a doubtful connection is asked at once and a second one is prepared after a second', async () => {
  await joined();
  signaling.probe();
  assert.equal(last().sent.at(-1).type, 'ping');
  await clock.advance(1100);
  assert.equal(sockets.length, 2);
  assert.deepEqual(took(), [], 'the first one still counts');
  await open();
  assert.equal(sockets[0].closedWith, 3001);
  assert.equal(last().sent[1].type, 'resume');
});

test('a doubtful connection that answers late is kept', async () => {
  await joined();
  signaling.probe();
  await clock.advance(1100);
  sockets[0].receive({ type: 'pong' });
  assert.equal(sockets[1].closedWith, 3001);
  await clock.advance(10_000, 500);
  assert.deepEqual(took(), []);
  assert.equal(sockets.length, 2);
});

test('a draining relay is come back to when it said', async () => {
  await joined();
  last().receive({ type: 'drain', reconnectAfterMs: 3000 });
  last().drop(4005);
  await clock.advance(2900);
  assert.equal(sockets.length, 1);
  await clock.advance(200);
  assert.equal(sockets.length, 2);
});

test('a draining relay that still answers keeps its connection until the next one is open', async () => {
  await joined();
  last().receive({ type: 'drain', reconnectAfterMs: 1000 });
  await clock.advance(1100);
  assert.equal(sockets.length, 2);
  sockets[0].receive({ type: 'user_away', seq: 2, userId: userId('b') });
  assert.equal(took().length, 1);
  await open();
  assert.equal(last().sent[1].lastSeq, 2);
});

test('an answer goes to who asked, also when another one is asked meanwhile', async () => {
  await joined();
  const lock = signaling.request({ type: 'lock_room', locked: true });
  const stats = signaling.request({ type: 'get_stats' });
  const [first, second] = last().sent.slice(-2);
  last().receive({ type: 'room_stats', seq: 2, createdAt: '2026-11-23', lastUsed: '2026-11-23', totalSessions: 1, totalDurationSeconds: 2, requestId: second.requestId });
  last().receive({ type: 'error', code: 'NOT_OWNER', message: 'Only the owner.', requestId: first.requestId });
  assert.equal((await stats).totalSessions, 1);
  await assert.rejects(lock, { code: 'NOT_OWNER', message: 'Only the owner.' });
});

test('a request without an answer, and one without a connection, fail with a code', async () => {
  await joined();
  const silent = assert.rejects(signaling.request({ type: 'get_stats' }), { code: 'TIMEOUT' });
  await clock.advance(10_100, 500);
  await silent;
  const lost = assert.rejects(signaling.request({ type: 'get_stats' }), { code: 'NETWORK' });
  last().drop();
  await lost;
  await assert.rejects(signaling.request({ type: 'get_stats' }), { code: 'NETWORK' });
  assert.equal(signaling.send({ type: 'get_stats' }), false);
});

test('leaving says so and closes as leaving', async () => {
  await joined();
  signaling.leave();
  assert.equal(last().sent.at(-1).type, 'leave_room');
  assert.equal(last().closedWith, 1000);
  await clock.advance(10_000, 500);
  assert.equal(sockets.length, 1);
});

test('nonsense from the relay is let pass', async () => {
  await joined();
  for (const frame of ['', 'x', '{}', '{"type":"room_joined"}', '{"type":"error","code":"x","message":1}']) last().receive(frame);
  assert.deepEqual(took(), []);
  assert.equal(signaling.online, true);
});

/** A relay that breaks as soon as it has given a seat: for a minute, when it was asked for one. */
async function askedBy(breaks) {
  const asked = [];
  const answered = new Map();
  for (let at = 0; at < 60_000; at += 10) {
    for (const socket of [...sockets]) {
      if (socket.readyState === 0) {
        socket.open();
        socket.receive(WELCOME);
      }
      await settle();
      const questions = socket.types().filter((type) => type === 'join_room' || type === 'resume');
      const before = answered.get(socket) ?? 0;
      answered.set(socket, questions.length);
      if (socket.readyState !== 1) continue;
      if (socket.types().at(-1) === 'ping') socket.receive({ type: 'pong' });
      for (const question of questions.slice(before)) {
        asked.push(clock.now);
        assert.ok(asked.length < 500, 'asked without end');
        breaks(socket, question);
      }
    }
    await clock.advance(10);
  }
  return asked;
}

const seat = (socket, question) => socket.receive(question === 'resume' ? { type: 'resumed', resumeToken: token('u'), replayed: 0 } : roomJoined());
const BREAKS = {
  'closes the connection': (socket, question) => {
    seat(socket, question);
    socket.drop(1006);
  },
  'drains and closes': (socket, question) => {
    seat(socket, question);
    socket.receive({ type: 'drain', reconnectAfterMs: 0 });
    socket.drop(4005);
  },
  'drains and goes on': (socket, question) => {
    seat(socket, question);
    socket.receive({ type: 'drain', reconnectAfterMs: 0 });
  },
  'leaves a message out': (socket, question) => {
    seat(socket, question);
    socket.receive({ type: 'user_away', seq: 70, userId: userId('b') });
  },
  'asks for no wait': (socket) => socket.receive({ type: 'error', code: 'SERVER_BUSY', message: '', retryAfterMs: 0 }),
  'forgets the join as well': (socket) => socket.receive({ type: 'error', code: 'RESUME_FAILED', message: '' }),
};
for (const [name, breaks] of Object.entries(BREAKS)) {
  test(`a relay that ${name} as soon as it has given a seat is asked more and more seldom`, async () => {
    await joined();
    last().drop();
    const asked = await askedBy(breaks);
    assert.ok(asked.length >= 10 && asked.length <= 40, `${asked.length} times in a minute`);
    const waits = asked.slice(1).map((time, i) => time - asked[i]).slice(-5);
    assert.ok(waits.every((wait) => wait >= 2000 && wait <= 4100), `${waits}`);
  });
}

test('the wait is short again once a seat was held for ten seconds', async () => {
  await joined();
  for (const [held, wait] of [[0, 500], [2000, 500], [9000, 500], [10_100, 250], [0, 500]]) {
    await reopened();
    last().receive({ type: 'resumed', resumeToken: token('u'), replayed: 0 });
    await clock.advance(held, 500);
    const [before, lost] = [sockets.length, clock.now];
    last().drop();
    while (sockets.length === before) await clock.advance(50);
    assert.equal(clock.now - lost, wait, `after ${held} ms`);
    await open();
    last().receive({ type: 'resumed', resumeToken: token('u'), replayed: 0 });
    // Back to the first wait, for the next case.
    await clock.advance(10_100, 500);
  }
});

test('a seat that is given up for another join leaves nothing behind', async () => {
  accepts = [false];
  const join = signaling.join();
  await open();
  last().receive(roomJoined());
  // What the relay sent before it heard that we left.
  last().receive({ type: 'user_away', userId: userId('b'), seq: 2 });
  last().receive({ type: 'user_away', userId: userId('b'), seq: 3 });
  await settle();
  assert.deepEqual(last().sent.map(({ type }) => type), ['hello', 'join_room', 'leave_room', 'join_room']);
  assert.deepEqual(took(), []);
  last().receive(roomJoined());
  await join;
  last().receive({ type: 'user_away', userId: userId('b'), seq: 2 });
  assert.deepEqual(took(), ['online', 'joined', { type: 'user_away', userId: userId('b'), seq: 2 }]);
  assert.equal(sockets.length, 1);
});

test('a join waits for what it has to sign, and signs what this connection drew', async () => {
  const join = signaling.join();
  last().open();
  await settle();
  assert.deepEqual(last().types(), ['hello'], 'the nonce is not there yet');
  last().receive(WELCOME);
  await settle();
  assert.equal(last().sent[1].keyProof, `by s over ${token('n')}`);
  last().receive(roomJoined());
  await join;
  last().drop();
  await clock.advance(500);
  last().open();
  last().receive({ ...WELCOME, nonce: token('m') });
  last().receive({ type: 'error', code: 'RESUME_FAILED', message: '' });
  await settle();
  assert.equal(last().sent[2].keyProof, `by s over ${token('m')}`);
});

for (const seatedBefore of [false, true]) {
  test(`a ticket of a session that is over is put away, ${seatedBefore ? 'in a call' : 'at the first join'}, and the join goes on without it`, async () => {
    if (seatedBefore) await joined();
    const join = seatedBefore ? null : signaling.join();
    if (seatedBefore) await reopened();
    else await open();
    if (seatedBefore) last().receive({ type: 'error', code: 'RESUME_FAILED', message: '' });
    await settle();
    last().receive({ type: 'error', code: 'TICKET_INVALID', message: '' });
    await settle();
    const joins = last().sent.filter(({ type }) => type === 'join_room');
    assert.deepEqual(joins.map((one) => one.ticket), ['the ticket', undefined]);
    last().receive(roomJoined());
    await join;
    assert.equal(took().at(-1), 'joined');
  });
}

test('a relay that calls every ticket invalid is not asked without end', async () => {
  await joined();
  await reopened();
  last().receive({ type: 'error', code: 'RESUME_FAILED', message: '' });
  const asked = () => last().sent.filter(({ type }) => type === 'join_room').length;
  let answered = 0;
  for (let i = 0; i < 200; i++) {
    for (; answered < asked(); answered = asked()) last().receive({ type: 'error', code: 'TICKET_INVALID', message: '' });
    await clock.advance(50);
  }
  assert.ok(asked() <= 8, String(asked()));
});

test('a proof that the relay does not take is made once more on a new connection', async () => {
  const join = signaling.join();
  await open();
  last().receive({ type: 'error', code: 'KEY_PROOF_INVALID', message: '' });
  await clock.advance(1000);
  assert.equal(sockets.length, 2);
  await open();
  last().receive({ type: 'error', code: 'KEY_PROOF_INVALID', message: '' });
  await assert.rejects(join, { code: 'KEY_PROOF_INVALID' });
  assert.equal(sockets.length, 2);
});

test('a relay of version 1, which says no welcome first, is the one to be updated', async () => {
  const join = signaling.join();
  last().open();
  last().receive({ type: 'error', code: 'VERSION_UNSUPPORTED', message: 'Speak version 1.' });
  last().drop(4000);
  await assert.rejects(join, { code: 'RELAY_OUTDATED' });
});

test('a relay that is newer than this page asks for the page to be loaded again', async () => {
  const join = signaling.join();
  last().open();
  last().receive({ ...WELCOME, versions: [3, 4] });
  last().receive({ type: 'error', code: 'VERSION_UNSUPPORTED', message: '' });
  last().drop(4000);
  await assert.rejects(join, { code: 'VERSION_UNSUPPORTED' });
});

test('who waits in the lobby has all the time that those inside take, and may call it off', async () => {
  const join = signaling.join();
  await open();
  last().receive({ type: 'waiting' });
  for (let i = 0; i < 8; i++) {
    await clock.advance(15_000, 500);
    last().receive({ type: 'pong' });
  }
  assert.equal(sockets.length, 1, 'the same connection');
  const rejected = assert.rejects(join, { code: 'LEFT' });
  signaling.leave();
  await rejected;
  assert.equal(last().closedWith, 1000, 'which calls it off');
});

test('who waits in the lobby knocks again when the connection is lost', async () => {
  const join = signaling.join();
  await open();
  last().receive({ type: 'waiting' });
  await reopened();
  assert.equal(last().types().at(-1), 'join_room');
  last().receive({ type: 'waiting' });
  last().receive({ type: 'error', code: 'NOT_ADMITTED', message: '' });
  await assert.rejects(join, { code: 'NOT_ADMITTED' });
});

test('who is asked to wait in the lobby on the way back goes on waiting, and is let in', async () => {
  await joined();
  await reopened();
  last().receive({ type: 'error', code: 'RESUME_FAILED', message: '' });
  await settle();
  last().receive({ type: 'waiting' });
  for (let i = 0; i < 4; i++) {
    await clock.advance(15_000, 500);
    last().receive({ type: 'pong' });
  }
  last().receive(roomJoined());
  assert.equal(took().at(-1), 'joined');
});

test('who is not let in on the way back is not joined again', async () => {
  await joined();
  await reopened();
  last().receive({ type: 'error', code: 'RESUME_FAILED', message: '' });
  await settle();
  last().receive({ type: 'waiting' });
  last().receive({ type: 'error', code: 'NOT_ADMITTED', message: '' });
  assert.equal(took().at(-1), 'ended NOT_ADMITTED');
});
