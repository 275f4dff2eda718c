import assert from 'node:assert/strict';
import { createHash, createPublicKey, verify } from 'node:crypto';
import { afterEach, beforeEach, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { Call } from '../js/call.js';
import { Identity, anonymous } from '../js/identity.js';
import { newSecret } from '../js/link.js';
import { Sealer } from '../js/seal.js';
import { FakeNetwork, FakeSocket, FakeTrack, FakeStream, fakeClock, fakeEnvironment, participant, roomJoined, settle, token, until } from './fakes.js';

const ROOM = { maxParticipants: 10, allowScreenShare: true, passwordEnabled: false, locked: false, sealed: true };
const NONCE = token('n');
let clock, network, relay, calls;

const idOf = (publicKey) => createHash('sha256').update('snug/2\0user\0').update(Buffer.from(publicKey, 'base64url')).digest().subarray(0, 16).toString('base64url');

/** Whether the key signed this connection's nonce for the room (PROTOCOL §6). */
function proves({ publicKey, keyProof, roomId }) {
  const point = Buffer.from(publicKey, 'base64url');
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((part) => part.toString('base64url'));
  const key = createPublicKey({ key: { kty: 'EC', crv: 'P-256', x, y }, format: 'jwk' });
  const signed = Buffer.concat([Buffer.from('snug/2\0join\0'), Buffer.from(NONCE, 'base64url'), Buffer.from(roomId)]);
  return verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(keyProof, 'base64url'));
}

/** The smallest relay that can be killed: seats by keys, tickets of a session, sequence numbers, resume and forwarding. */
class FakeRelay {
  up = true;
  seats = new Map();
  sockets = [];
  /** The tokens of all joins. @type {string[]} */
  shown = [];
  settings = { ...ROOM };
  /** The owner's token, that of whoever makes the room. @type {string | null} */
  owner = null;
  /** Answers guests with this error instead of a seat. @type {string | null} */
  door = null;
  /** The connection of the next join is lost on the way to its answer. */
  losesAnswer = false;
  /** Counts sessions of the room. */
  session = 1;

  get WebSocket() {
    const relay = this;
    return class extends FakeSocket {
      constructor(url) {
        super(url);
        queueMicrotask(() => (relay.up ? relay.connect(this) : this.drop()));
      }
    };
  }

  connect(socket) {
    if (socket.readyState !== 0) return;
    this.sockets.push(socket);
    let seat = null;
    socket.onsent = (message) => queueMicrotask(() => (seat = this.received(socket, seat, message)));
    const close = socket.close.bind(socket);
    socket.close = (code) => {
      close(code);
      if (seat?.socket === socket) this.gone(seat, code === 1000);
    };
    socket.open();
  }

  received(socket, seat, message) {
    switch (message.type) {
      case 'hello':
        socket.receive({ type: 'welcome', versions: [2], relay: 'fake', heartbeatSeconds: 15, nonce: NONCE });
        break;
      case 'ping':
        socket.receive({ type: 'pong' });
        break;
      case 'join_room': {
        const { publicKey, displayName, media } = message;
        const userId = idOf(publicKey);
        if (!proves(message)) {
          socket.receive({ type: 'error', code: 'KEY_PROOF_INVALID', message: '' });
          break;
        }
        const [, session, holder] = /^(\d+) (.*)$/.exec(message.ticket ?? '') ?? [];
        if (session && Number(session) !== this.session) {
          socket.receive({ type: 'error', code: 'TICKET_INVALID', message: '' });
          break;
        }
        this.owner ??= message.ownerToken;
        const isOwner = message.ownerToken === this.owner;
        this.shown.push(message.ownerToken);
        if (this.losesAnswer) {
          this.losesAnswer = false;
          socket.drop();
          break;
        }
        if (this.door && !isOwner) {
          socket.receive({ type: 'error', code: this.door, message: '' });
          break;
        }
        const replaced = this.seats.get(userId);
        const former = holder && holder !== userId ? this.seats.get(holder) : undefined;
        for (const old of [replaced, former]) {
          if (!old) continue;
          this.seats.delete(old.userId);
          const { socket: oldSocket } = old;
          old.socket = null;
          oldSocket?.drop(4002);
        }
        if (former) this.toAll({ type: 'user_left', userId: former.userId, reason: 'replaced' });
        seat = { userId, publicKey, displayName, media, socket, seq: 0, missed: [], join: message, formerId: former?.userId };
        const participants = [...this.seats.values()].map(this.participant);
        this.toAll({ type: 'user_joined', participant: this.participant(seat) });
        this.seats.set(userId, seat);
        this.send(seat, roomJoined({ userId, participants, roomInfo: this.settings, isOwner, ticket: `${this.session} ${userId}` }));
        break;
      }
      case 'resume': {
        seat = this.seats.get(message.userId) ?? null;
        if (!seat) socket.receive({ type: 'error', code: 'RESUME_FAILED', message: '' });
        else {
          seat.socket = socket;
          socket.receive({ type: 'resumed', resumeToken: token('u'), replayed: seat.missed.length });
          for (const missed of seat.missed.splice(0)) socket.receive(missed);
          this.toAll({ type: 'user_back', userId: seat.userId }, seat);
        }
        break;
      }
      case 'leave_room':
        this.gone(seat, true);
        break;
      case 'offer':
      case 'answer':
      case 'ice_candidate':
        this.send(this.seats.get(message.targetId), { type: `${message.type}_received`, fromId: seat.userId, payload: message.payload });
        break;
      case 'kick':
        this.send(seat, { type: 'done', requestId: message.requestId });
        break;
      case 'rotate_owner_token':
        this.send(seat, { type: 'owner_token', ownerToken: token('n'), requestId: message.requestId });
        break;
      default:
        if (message.type.startsWith('toggle_')) {
          seat.media = { ...seat.media, [message.type.slice(7)]: message.enabled };
          this.toAll({ type: 'peer_state', userId: seat.userId, media: seat.media }, seat);
        }
    }
    return seat;
  }

  participant({ userId, publicKey, formerId, displayName, media }) {
    return { userId, publicKey, ...(formerId && { formerId }), displayName, media, away: false, owner: false };
  }

  send(seat, message) {
    if (!seat) return;
    const numbered = { ...message, seq: ++seat.seq };
    if (seat.socket) seat.socket.receive(numbered);
    else seat.missed.push(numbered);
  }

  toAll(message, except) {
    for (const seat of this.seats.values()) if (seat !== except) this.send(seat, message);
  }

  gone(seat, left) {
    if (!seat || !this.seats.has(seat.userId)) return;
    seat.socket = null;
    if (left) this.seats.delete(seat.userId);
    this.toAll(left ? { type: 'user_left', userId: seat.userId, reason: 'left' } : { type: 'user_away', userId: seat.userId }, seat);
  }

  kill() {
    this.up = false;
    this.seats.clear();
    for (const socket of this.sockets.splice(0)) if (socket.readyState === 1) socket.drop();
  }
}

beforeEach(() => {
  clock = fakeClock();
  network = new FakeNetwork();
  relay = new FakeRelay();
  calls = [];
});
afterEach(() => {
  for (const { call } of calls) call.leave();
  clock.reset();
});

async function make(name, secret, options = {}) {
  const env = fakeEnvironment({ clock, network, WebSocket: relay.WebSocket });
  const link = { roomId: 'sunny-mountain-42', secret, ownerToken: null };
  const call = new Call({ link, name, password: null, ownerTokens: [], identity: await anonymous(), microphone: new FakeTrack('audio'), camera: new FakeTrack('video'), ...options }, env);
  const person = { call, env, notices: [], ended: [] };
  call.addEventListener('notice', ({ detail }) => person.notices.push(`${detail.kind} ${detail.name}`));
  call.addEventListener('ended', ({ detail }) => person.ended.push(detail.code));
  calls.push(person);
  return person;
}

async function join(name, secret = null, options) {
  const person = await make(name, secret, options);
  await person.call.join();
  await settle(30);
  // WebCrypto takes as long as the machine lets it.
  const decided = ({ link, name }) => link === 'refused' || (link !== 'connecting' && name !== '');
  await until(() => calls.every(({ call }) => call.snapshot.remotes.every(decided)));
  return person;
}

const remotes = ({ call }) => call.snapshot.remotes.map(({ name, link }) => `${name} ${link}`);

/** @param {string[]} expected */
async function sees(person, expected) {
  await until(() => isDeepStrictEqual(remotes(person), expected));
  assert.deepEqual(remotes(person), expected);
}

async function equals(read, expected) {
  await until(() => isDeepStrictEqual(read(), expected));
  assert.deepEqual(read(), expected);
}

test('three people find each other, sealed, with their names', async () => {
  const secret = newSecret();
  const ana = await join('Ana', secret);
  const ben = await join('Ben\u202e ', secret);
  const cleo = await join('Cleo', secret);
  await sees(ana, ['Ben connected', 'Cleo connected']);
  await sees(ben, ['Ana connected', 'Cleo connected']);
  await sees(cleo, ['Ana connected', 'Ben connected']);
  assert.deepEqual(ana.notices, ['joined Ben', 'joined Cleo']);
  assert.deepEqual(cleo.notices, [], 'who was there before is no news');
  assert.ok(ana.call.snapshot.sealed);
  for (const seat of relay.seats.values()) assert.deepEqual(Object.keys(seat.displayName), ['sealed']);
});

test('the secret never leaves, its proof does', async () => {
  const secret = newSecret();
  const ana = await join('Ana', secret, { password: 'p' });
  const [{ join: sent }] = relay.seats.values();
  assert.match(sent.linkProof, /^[\w-]{43}$/);
  assert.ok(!JSON.stringify(sent).includes(Buffer.from(secret).toString('base64url')));
  assert.equal(sent.password, 'p');
  assert.deepEqual(sent.media, { audio: true, video: true, screen: false, hand: false, recording: false });
  assert.equal(ana.call.snapshot.signaling, 'online');
});

test('a password leaves in its normal form, and one that is too long does not leave', async () => {
  await join('Ana', newSecret(), { password: 'Mu\u0308nchen\u00a0' });
  const [{ join: sent }] = relay.seats.values();
  assert.equal(sent.password, 'M\u00fcnchen ');
  const { call } = await make('Ben', null);
  await assert.rejects(call.join({ password: '\u00fc'.repeat(257) }), { code: 'PASSWORD_LONG' });
  await assert.rejects(call.join({ password: 'a\tb' }), { code: 'PASSWORD_CHARACTER' });
  assert.equal(relay.seats.size, 1);
});

test('the key for new rooms is shown with the join, and nothing where there is none', async () => {
  await join('Ana', null, { creationKey: 'open sesame' });
  await join('Ben');
  assert.deepEqual([...relay.seats.values()].map(seat => seat.join.creationKey), ['open sesame', undefined]);
});

test('a damaged link is not joined', async () => {
  const { call } = await make('Ana', null, { link: { roomId: 'abc', secret: null, ownerToken: null, damaged: true } });
  await assert.rejects(call.join(), { code: 'LINK_INCOMPLETE' });
});

test('links of different secrets refuse each other and say why', async () => {
  const ana = await join('Ana', newSecret());
  const eve = await join('Eve', newSecret());
  await equals(() => ana.call.snapshot.remotes.map(({ link, refusal, name }) => [link, refusal, name]), [['refused', 'tampered', '']]);
  await equals(() => eve.call.snapshot.remotes[0].refusal, 'tampered');
  assert.deepEqual(ana.notices, ['refused ']);
});

test('somebody without the secret is refused as not sealed, and sees that the link lacks it', async () => {
  const ana = await join('Ana', newSecret());
  const dan = await join('Dan', null);
  await equals(() => ana.call.snapshot.remotes[0].refusal, 'not_sealed');
  await equals(() => dan.call.snapshot.remotes[0].refusal, 'no_secret');
});

test('a relay that is killed and comes back changes nothing for the media, and nobody does anything', async () => {
  const secret = newSecret();
  const ana = await join('Ana', secret);
  const ben = await join('Ben', secret);
  await sees(ana, ['Ben connected']);
  await sees(ben, ['Ana connected']);
  const connections = network.connections.length;
  relay.kill();
  await clock.advance(8000, 250);
  await sees(ana, ['Ben connected']);
  assert.equal(ana.call.snapshot.signaling, 'reconnecting');

  ana.call.setHand(true);
  await settle();
  assert.equal(ben.call.snapshot.remotes[0].media.hand, true, 'told on the data channel');

  relay.up = true;
  await clock.advance(6000, 250);
  await settle(30);
  for (const person of [ana, ben]) await equals(() => person.call.snapshot.signaling, 'online');
  await sees(ana, ['Ben connected']);
  await sees(ben, ['Ana connected']);
  assert.equal(network.connections.length, connections);
  await equals(() => relay.seats.get(ana.call.snapshot.selfId)?.media.hand, true);
  assert.deepEqual(ana.notices, ['joined Ben']);
});

test('whom the returned relay does not name is kept while the link lives, and forgotten thirty seconds after it died', async () => {
  const ana = await join('Ana');
  const ben = await join('Ben');
  relay.kill();
  ben.env.WebSocket.prototype.open = () => {};
  relay.up = true;
  await clock.advance(6000, 250);
  assert.equal(ana.call.snapshot.signaling, 'online');
  await sees(ana, ['Ben connected']);
  network.cut();
  await clock.advance(29_000, 500);
  await sees(ana, ['Ben interrupted']);
  await clock.advance(2000, 500);
  await sees(ana, []);
  assert.equal(ana.notices.at(-1), 'left Ben');
});

test('while our own network is gone nobody is forgotten', async () => {
  const ana = await join('Ana');
  await join('Ben');
  relay.kill();
  network.cut();
  await clock.advance(60_000, 500);
  await sees(ana, ['Ben interrupted']);
});

test('a resumed seat catches up with who left and who is away', async () => {
  const ana = await join('Ana');
  const ben = await join('Ben');
  const cleo = await join('Cleo');
  relay.seats.get(ana.call.snapshot.selfId).socket.drop();
  relay.gone(relay.seats.get(ana.call.snapshot.selfId), false);
  await settle();
  assert.equal(ben.call.snapshot.remotes[0].away, true);
  assert.equal(ben.notices.at(-1), 'away Ana');
  cleo.call.leave();
  await clock.advance(1000);
  await sees(ana, ['Ben connected']);
  assert.equal(ben.call.snapshot.remotes[0].away, false);
});

test('whoever returns leaves the older and the newer end as they were', async () => {
  const ana = await join('Ana');
  const ben = await join('Ben');
  relay.gone(relay.seats.get(ana.call.snapshot.selfId), false);
  for (const socket of relay.sockets.slice(0, 1)) socket.drop();
  await clock.advance(1000);
  await settle();
  assert.equal(ben.notices.at(-1), 'back Ana');
  const before = network.connections[1].localDescription.sdp;
  network.cut();
  await clock.advance(3000, 250);
  assert.notEqual(network.connections[1].localDescription.sdp, before, 'Ben, the newer one, acts after two seconds');
});

test('leaving is told on the data channel even without the relay', async () => {
  const ana = await join('Ana');
  const ben = await join('Ben');
  await sees(ana, ['Ben connected']);
  await sees(ben, ['Ana connected']);
  relay.kill();
  ben.call.leave();
  await settle();
  await sees(ana, []);
  assert.equal(ana.notices.at(-1), 'left Ben');
});

test('an address change restarts ICE on every link', async () => {
  const ana = await join('Ana');
  await join('Ben');
  await clock.advance(2000);
  const [pc] = network.connections;
  const before = network.connections.map(({ localDescription }) => localDescription.sdp);
  ana.env.hint('moved');
  const restarted = () => network.connections.every(({ localDescription }, i) => localDescription.sdp !== before[i]);
  await until(restarted);
  assert.equal(network.connections.length, 2);
  assert.ok(restarted(), pc.connectionState);
});

test('chat reaches everybody, once, under the sender’s name', async () => {
  const secret = newSecret();
  const ana = await join('Ana', secret);
  const ben = await join('Ben', secret);
  await sees(ana, ['Ben connected']);
  await sees(ben, ['Ana connected']);
  await ana.call.sendChat('  hello  ');
  await equals(() => ben.call.snapshot.chat.map(({ name, text, own }) => [name, text, own]), [['Ana', 'hello', false]]);
  assert.deepEqual(ana.call.snapshot.chat.map(({ name, text, own }) => [name, text, own]), [['Ana', 'hello', true]]);
  assert.equal(ben.notices.at(-1), 'chat Ana');
});

test('switching sources is told, and never renegotiates', async () => {
  const ana = await join('Ana');
  const ben = await join('Ben');
  const sdp = network.connections[0].localDescription.sdp;
  const screen = new FakeTrack('video', 1920, 1080);
  const stream = new FakeStream();
  stream.addTrack(screen);
  ana.call.setAudioEnabled(false);
  ana.call.setCamera(null);
  ana.call.startScreen(stream);
  await settle();
  assert.deepEqual(ben.call.snapshot.remotes[0].media, { audio: false, video: false, screen: true, hand: false, recording: false });
  assert.deepEqual(ben.notices.slice(-2), ['muted Ana', 'screen Ana']);
  assert.equal(screen.contentHint, 'detail');
  assert.equal(network.connections.find((pc) => pc.getTransceivers()[2].sender.track === screen) !== undefined, true);
  assert.equal(network.connections[0].localDescription.sdp, sdp);

  screen.dispatchEvent(new Event('ended'));
  await settle();
  assert.equal(ben.call.snapshot.remotes[0].media.screen, false);
});

test('a muted microphone stays muted when the device changes', async () => {
  const ana = await join('Ana');
  ana.call.setAudioEnabled(false);
  const other = new FakeTrack('audio');
  ana.call.setMicrophone(other);
  assert.equal(other.enabled, false);
  ana.call.setAudioEnabled(true);
  assert.equal(other.enabled, true);
});

test('a screen that the owner forbids is taken down, and none is begun', async () => {
  const ana = await join('Ana');
  const [screen, stream] = [new FakeTrack('video'), new FakeStream()];
  stream.addTrack(screen);
  ana.call.startScreen(stream);
  relay.toAll({ type: 'room_updated', roomInfo: { ...ROOM, allowScreenShare: false } });
  assert.ok(screen.stopped);
  assert.equal(ana.call.snapshot.media.screen, false);
  const [second, again] = [new FakeTrack('video'), new FakeStream()];
  again.addTrack(second);
  ana.call.startScreen(again);
  assert.ok(second.stopped);
  assert.equal(ana.call.snapshot.media.screen, false);
});

test('the owner’s requests are answered', async () => {
  const ana = await join('Ana');
  const ben = await join('Ben');
  await ana.call.kick(ben.call.snapshot.selfId);
  assert.equal(await ana.call.rotateOwnerToken(), token('n'));
  assert.equal(ana.call.snapshot.ownerToken, token('n'));
});

test('who makes the room is its owner by a token of their own, and who comes later by none', async () => {
  const ana = await join('Ana');
  const ben = await join('Ben');
  assert.match(relay.shown[0], /^[\w-]{43}$/);
  assert.notEqual(relay.shown[0], relay.shown[1]);
  assert.equal(ana.call.snapshot.ownerToken, relay.shown[0]);
  assert.deepEqual([ben.call.snapshot.isOwner, ben.call.snapshot.ownerToken], [false, null]);
});

test('a creator whose connection is lost before the answer owns the room', async () => {
  relay.losesAnswer = true;
  const ana = await make('Ana', null);
  const joined = ana.call.join();
  await until(() => relay.shown.length === 1);
  for (let at = 0; at < 20 && relay.shown.length < 2; at += 1) {
    clock.advance(500);
    await settle(10);
  }
  await joined;
  assert.deepEqual(relay.shown, [relay.owner, relay.owner]);
  assert.equal(ana.call.snapshot.isOwner, true);
});

for (const [what, tokens] of [['a link’s token wins over a dead one that was kept', [token('g'), token('d')]], ['a token that works survives a link with another one', [token('x'), token('g')]]]) {
  test(what, async () => {
    relay.owner = token('g');
    const ben = await join('Ben');
    const ana = await join('Ana', null, { ownerTokens: tokens });
    assert.equal(ana.call.snapshot.isOwner, true);
    assert.equal(ana.call.snapshot.ownerToken, token('g'));
    await sees(ana, ['Ben connected']);
    await sees(ben, ['Ana connected']);
    assert.equal(relay.seats.size, 2);
  });
}

test('somebody with no token that works comes in as a guest, once each was tried', async () => {
  relay.owner = token('g');
  const ana = await join('Ana', null, { ownerTokens: [token('x'), token('d')] });
  assert.deepEqual(relay.shown, [token('x'), token('d')]);
  assert.deepEqual([ana.call.snapshot.isOwner, ana.call.snapshot.ownerToken], [false, null]);
  assert.equal(relay.seats.size, 1);
});

test('a token that works opens the door that stays shut for another one', async () => {
  relay.owner = token('g');
  for (const code of ['AUTH_REQUIRED', 'AUTH_FAILED', 'ROOM_LOCKED']) {
    relay.door = code;
    const ana = await join('Ana', null, { ownerTokens: [token('x'), token('g')] });
    assert.equal(ana.call.snapshot.isOwner, true, code);
    ana.call.leave();
  }
  relay.shown = [];
  const ben = await make('Ben', null, { ownerTokens: [token('x'), token('y')] });
  await assert.rejects(ben.call.join(), { code: 'ROOM_LOCKED' });
  assert.deepEqual(relay.shown, [token('x'), token('y')]);
});

test('who is kicked is told, and the call is over', async () => {
  const ana = await join('Ana');
  const ben = await join('Ben');
  await sees(ana, ['Ben connected']);
  await sees(ben, ['Ana connected']);
  relay.send(relay.seats.get(ben.call.snapshot.selfId), { type: 'kicked' });
  await settle();
  assert.deepEqual(ben.ended, ['KICKED']);
  await sees(ana, []);
});

test('a relay that will not have us back does not end a call that goes on', async () => {
  const ana = await join('Ana');
  await join('Ben');
  await sees(ana, ['Ben connected']);
  relay.kill();
  const received = relay.received.bind(relay);
  relay.received = (socket, seat, message) => {
    if (message.type !== 'join_room') return received(socket, seat, message);
    socket.receive({ type: 'auth_required' });
    return seat;
  };
  relay.up = true;
  await clock.advance(6000, 250);
  await equals(() => ana.call.snapshot.refused?.code, 'AUTH_REQUIRED');
  assert.deepEqual(ana.ended, []);
  await sees(ana, ['Ben connected']);
  network.cut();
  await clock.advance(1000);
  assert.deepEqual(ana.ended, ['AUTH_REQUIRED']);
});

test('messages about strangers, and from them, change nothing', async () => {
  const ana = await join('Ana');
  const [seat] = relay.seats.values();
  const { userId } = participant('x');
  for (const message of [
    { type: 'user_away', userId },
    { type: 'user_back', userId },
    { type: 'user_left', userId, reason: 'left' },
    { type: 'peer_state', userId, media: {} },
    { type: 'offer_received', fromId: userId, payload: { plain: '{}' } },
    { type: 'user_joined', participant: participant('x', { userId: ana.call.snapshot.selfId }) },
  ]) {
    relay.send(seat, message);
  }
  await settle();
  await sees(ana, []);
  assert.deepEqual(ana.notices, []);
  assert.equal(network.connections.length, 0);
});

test('changes are told at most once in fifty milliseconds, and each snapshot stays as it was', async () => {
  const ana = await join('Ana');
  await clock.advance(100);
  let count = 0;
  ana.call.addEventListener('change', () => (count += 1));
  const before = ana.call.snapshot;
  ana.call.setHand(true);
  ana.call.setCamera(null);
  await clock.advance(60, 10);
  assert.equal(count, 1);
  assert.equal(before.media.hand, false);
  assert.equal(ana.call.snapshot.media.hand, true);
  assert.equal(ana.call.snapshot, ana.call.snapshot);
});

async function draw(ticket = null) {
  const pair = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign', 'verify']);
  const publicKey = Buffer.from(await crypto.subtle.exportKey('raw', pair.publicKey)).toString('base64url');
  return { privateKey: pair.privateKey, publicKey, userId: idOf(publicKey), lastRun: Date.now(), ticket };
}

async function joinAs(name, secret, kept) {
  const identity = new Identity(kept);
  return { name, secret, kept, identity, ...(await join(name, secret, { identity })) };
}

/** The page is loaded again: another call, with what the browser kept of who we are, or with the ticket alone. */
async function reload({ call, name, secret, kept, identity }, keeps = true) {
  call.suspend();
  const { ticket } = identity;
  return joinAs(name, secret, keeps ? { ...kept, lastRun: kept.lastRun + 5, ticket } : await draw(ticket));
}

for (const secret of [newSecret(), null]) {
  const what = secret ? 'with a secret' : 'without a secret';

  test(`who comes back with the same key is back, once, ${what}`, async () => {
    const ana = await join('Ana', secret);
    const ben = await joinAs('Ben', secret, await draw());
    await sees(ana, ['Ben connected']);
    const again = await reload(ben);
    await sees(again, ['Ana connected']);
    await sees(ana, ['Ben connected']);
    assert.equal(ana.call.snapshot.remotes[0].userId, ben.identity.userId);
    await equals(() => ana.notices, ['joined Ben', 'back Ben']);
    assert.equal(ana.call.snapshot.remotes[0].newKey, false);
    assert.equal(ana.call.snapshot.remotes[0].verified, true);
    await again.call.sendChat('here');
    await equals(() => ana.call.snapshot.chat.map(({ name, text }) => [name, text]), [['Ben', 'here']]);
  });

  test(`who comes back with the ticket and another key is marked, ${what}`, async () => {
    const ana = await join('Ana', secret);
    const ben = await joinAs('Ben', secret, await draw());
    await sees(ana, ['Ben connected']);
    const again = await reload(ben, false);
    await sees(again, ['Ana connected']);
    await sees(ana, ['Ben connected']);
    assert.notEqual(ana.call.snapshot.remotes[0].userId, ben.identity.userId);
    assert.equal(ana.call.snapshot.remotes[0].newKey, true);
  });

  test(`an offer that a member forges closes the link that it pretends to be of, and shows why, ${what}`, async () => {
    const ana = await join('Ana', secret);
    const ben = await join('Ben', secret);
    await sees(ana, ['Ben connected']);
    const BEN = ben.call.snapshot.selfId;
    const eve = Object.assign(await anonymous(), { userId: BEN });
    const forged = await new Sealer({ secret, roomId: 'sunny-mountain-42', identity: eve }).seal('offer', ana.call.snapshot.selfId, { sdp: 'sdp of Eve', session: 'AQIDBAUGBwg', restart: false });
    relay.send(relay.seats.get(ana.call.snapshot.selfId), { type: 'offer_received', fromId: BEN, payload: forged });
    await equals(() => ana.call.snapshot.remotes.map(({ link, refusal }) => [link, refusal]), [['refused', 'not_signed']]);
    assert.ok(!network.connections.some((pc) => pc.remoteDescription?.sdp === 'sdp of Eve'));
  });

  test(`what the relay kept of an earlier start changes nothing, ${what}`, async () => {
    const ana = await join('Ana', secret);
    const ben = await joinAs('Ben', secret, await draw());
    await sees(ana, ['Ben connected']);
    const old = await new Sealer({ secret, roomId: 'sunny-mountain-42', identity: ben.identity })
      .seal('offer', ana.call.snapshot.selfId, { sdp: 'sdp of the past', session: 'AQIDBAUGBwg', restart: false });
    const again = await reload(ben);
    await sees(again, ['Ana connected']);
    await sees(ana, ['Ben connected']);
    relay.send(relay.seats.get(ana.call.snapshot.selfId), { type: 'offer_received', fromId: ben.identity.userId, payload: old });
    await clock.advance(1000);
    await sees(ana, ['Ben connected']);
    assert.ok(!network.connections.some((pc) => pc.remoteDescription?.sdp === 'sdp of the past'));
  });
}

test('a participant without a key is shown as not verified, and refused where the link has a secret', async () => {
  const open = await join('Ana');
  const displayName = { plain: '{"name":"Old"}' };
  const stranger = participant('x', { publicKey: undefined, displayName });
  relay.send(relay.seats.get(open.call.snapshot.selfId), { type: 'user_joined', participant: stranger });
  await equals(() => open.call.snapshot.remotes.map(({ name, verified, link }) => [name, verified, link]), [['Old', false, 'connecting']]);
  open.call.leave();
  const sealed = await join('Ana', newSecret());
  relay.send(relay.seats.get(sealed.call.snapshot.selfId), { type: 'user_joined', participant: stranger });
  await equals(() => sealed.call.snapshot.remotes.map(({ refusal }) => refusal), ['not_signed']);
});

test('a ticket of a session that is over makes a newly started page somebody else, and a running call keeps its key', async () => {
  const kept = await anonymous();
  kept.setTicket('0 of another session');
  const ana = await join('Ana', null, { identity: kept });
  assert.notEqual(ana.call.snapshot.selfId, kept.userId);
  const { selfId } = ana.call.snapshot;
  assert.equal([...relay.seats.values()][0].join.ticket, undefined);
  const ben = await join('Ben');
  await sees(ben, ['Ana connected']);
  relay.kill();
  relay.session += 1;
  relay.up = true;
  await clock.advance(6000, 250);
  await equals(() => ana.call.snapshot.signaling, 'online');
  assert.equal(ana.call.snapshot.selfId, selfId);
  await sees(ana, ['Ben connected']);
});

test('more people than anybody remembers come and go, and the next one is let in', async () => {
  const secret = newSecret();
  const ana = await join('Ana', secret);
  const seat = relay.seats.get(ana.call.snapshot.selfId);
  const invented = await anonymous();
  for (let i = 0; i < 1100; i++) {
    const userId = invented.userId.slice(0, 17) + String(10_000 + i);
    relay.send(seat, { type: 'user_joined', participant: participant('x', { userId, publicKey: invented.publicKey }) });
    relay.send(seat, { type: 'user_left', userId, reason: 'left' });
  }
  await settle();
  await join('Ben', secret);
  await sees(ana, ['Ben connected']);
});

test('a room that asks for a password on the way back is joined again with the one that the person types, and the links go on', async () => {
  const ana = await join('Ana');
  await join('Ben');
  await sees(ana, ['Ben connected']);
  const connections = network.connections.length;
  relay.kill();
  const received = relay.received.bind(relay);
  relay.received = (socket, seat, message) => {
    if (message.type !== 'join_room' || message.password === 'rex') return received(socket, seat, message);
    socket.receive({ type: 'auth_required' });
    return seat;
  };
  relay.up = true;
  await clock.advance(6000, 250);
  await equals(() => ana.call.snapshot.refused?.code, 'AUTH_REQUIRED');
  void ana.call.rejoin({ password: 'wrong' });
  await clock.advance(500);
  await equals(() => ana.call.snapshot.refused?.code, 'AUTH_REQUIRED');
  void ana.call.rejoin({ password: 'rex' });
  await equals(() => ana.call.snapshot.signaling, 'online');
  assert.equal(ana.call.snapshot.refused, null);
  await sees(ana, ['Ben connected']);
  assert.equal(network.connections.length, connections);
  assert.deepEqual(ana.ended, []);
});

test('who knocks is told by name to those who may let them in, until somebody decides', async () => {
  const secret = newSecret();
  const ana = await join('Ana', secret);
  const ben = await join('Ben', secret);
  const guest = await anonymous();
  const displayName = await new Sealer({ secret, roomId: 'sunny-mountain-42', identity: guest }).seal('name', '*', { name: 'Cleo' });
  const knock = { type: 'knock', userId: guest.userId, publicKey: guest.publicKey, displayName };
  for (const seat of relay.seats.values()) relay.send(seat, knock);
  await equals(() => ana.call.snapshot.knocks, [{ userId: guest.userId, name: 'Cleo' }]);
  assert.deepEqual(ben.call.snapshot.knocks, [], 'guests decide nothing here');
  assert.ok(ana.notices.includes('knock Cleo'));
  const admits = [];
  const received = relay.received.bind(relay);
  relay.received = (socket, seat, message) => {
    if (message.type === 'admit') admits.push(message);
    return received(socket, seat, message);
  };
  ana.call.admit(guest.userId, true);
  await equals(() => admits, [{ type: 'admit', targetId: guest.userId, admitted: true }]);
  assert.deepEqual(ana.call.snapshot.knocks, []);
  relay.toAll(knock);
  await equals(() => ana.call.snapshot.knocks.length, 1);
  relay.toAll({ type: 'knock_gone', userId: guest.userId });
  await equals(() => ana.call.snapshot.knocks.length, 0);
});

test('a request to mute is obeyed and says whose it is; nobody is unmuted', async () => {
  const ana = await join('Ana');
  const ben = await join('Ben');
  await sees(ben, ['Ana connected']);
  const ask = { type: 'mute_requested', fromId: ana.call.snapshot.selfId };
  const seat = relay.seats.get(ben.call.snapshot.selfId);
  relay.send(seat, ask);
  await equals(() => ben.call.snapshot.media.audio, false);
  assert.equal(ben.notices.at(-1), 'muteAsked Ana');
  relay.send(seat, ask);
  await settle();
  assert.equal(ben.call.snapshot.media.audio, false);
});

test('who waits in the lobby knows it, and may call it off', async () => {
  relay.received = (socket, seat, { type }) => {
    if (type === 'hello') socket.receive({ type: 'welcome', versions: [2], relay: 'fake', heartbeatSeconds: 15, nonce: NONCE });
    if (type === 'join_room') socket.receive({ type: 'waiting' });
    return seat;
  };
  const ana = await make('Ana', null);
  const rejected = assert.rejects(ana.call.join(), { code: 'LEFT' });
  await equals(() => ana.call.snapshot.waiting, true);
  ana.call.leave();
  await rejected;
});

test('an owner who ends the call ends it for everybody', async () => {
  const ana = await join('Ana');
  relay.send(relay.seats.get(ana.call.snapshot.selfId), { type: 'call_ended' });
  await settle();
  assert.deepEqual(ana.ended, ['CALL_ENDED']);
});

for (const secret of [newSecret(), null]) {
  test(`two people have the same safety words, and other ones with each other person, ${secret ? 'with' : 'without'} a secret`, async () => {
    const ana = await join('Ana', secret);
    const ben = await join('Ben', secret);
    const cleo = await join('Cleo', secret);
    const of = ({ call }, other) => call.snapshot.remotes.find(({ userId }) => userId === other.call.snapshot.selfId)?.safety;
    const pairs = [[ana, ben], [ana, cleo], [ben, cleo]];
    await until(() => pairs.every(([one, other]) => of(one, other) && of(other, one)));
    for (const [one, other] of pairs) {
      assert.equal(of(one, other)?.length, 4);
      assert.deepEqual(of(one, other), of(other, one));
    }
    assert.equal(new Set(pairs.map(([one, other]) => String(of(one, other)))).size, 3);
  });
}

test('a nonce that does not fit what was promised is told as a failed check', async () => {
  const ana = await join('Ana');
  network.tamper = (text) => text.replace(/"type":"safety","nonce":"./, (head) => head.slice(0, -1) + (head.endsWith('A') ? 'B' : 'A'));
  await join('Ben');
  await equals(() => ana.call.snapshot.remotes[0].safety, 'forged');
});
