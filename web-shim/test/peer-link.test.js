import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { PeerLink } from '../js/peer-link.js';
import { Sealer } from '../js/seal.js';
import { anonymous } from '../js/identity.js';
import { FakeNetwork, FakeTrack, fakeClock, fakeEnvironment, settle as turns, userId } from './fakes.js';

const [ANA, BEN] = [userId('a'), userId('b')];
/** Also lets hashes that were begun before be ready: the thread pool takes them in order. */
async function settle() {
  for (let round = 0; round < 8; round++) {
    await crypto.subtle.digest('SHA-256', new Uint8Array(1));
    await turns(6);
  }
}
/** A link takes what its sealer opens; what that refuses is for seal.test.js. */
const UNSIGNED = {
  seal: async (_kind, _receiverId, value) => ({ plain: JSON.stringify(value) }),
  open: async (_kind, _senderId, _receiverId, { plain }) => JSON.parse(plain),
  keysWith: () => null,
};
let clock, network, relay, ana, ben;

/** Two ends of one link and a relay between them that can be away, and can be held back to make offers cross. */
beforeEach(() => {
  clock = fakeClock();
  network = new FakeNetwork();
  relay = { up: true, held: null, carried: [] };
  ana = end(ANA, BEN, true);
  ben = end(BEN, ANA, false);
});
afterEach(() => {
  ana.link.close();
  ben.link.close();
  clock.reset();
});

function end(selfId, otherId, newer) {
  const side = { log: [], camera: new FakeTrack('video') };
  const owner = {
    env: fakeEnvironment({ clock, network }),
    selfId,
    sealer: UNSIGNED,
    iceServers: [{ urls: ['stun:call.example.org'] }],
    tracks: [new FakeTrack('audio'), side.camera, null, null],
    media: () => ({ audio: true, video: true, screen: false, hand: false }),
    relayRoute: () => (relay.up ? 'live' : 'down'),
    sendRelay: (to, message) => {
      if (!relay.up) return false;
      const deliver = () => (to === ANA ? ana : ben).link.receive(message.type, message.payload);
      relay.carried.push({ to, ...message, value: JSON.parse(message.payload.plain) });
      if (relay.held) relay.held.push(deliver);
      else queueMicrotask(deliver);
      return true;
    },
    onChange: (link) => side.log.push(link.state),
    onOpen: () => side.log.push('open'),
    onMessage: (_link, message) => side.log.push(message),
  };
  side.owner = owner;
  side.link = new PeerLink(owner, otherId, newer);
  return side;
}

async function connect() {
  ana.link.start();
  await settle();
  assert.equal(ana.link.state, 'connected');
  assert.equal(ben.link.state, 'connected');
  relay.carried.length = 0;
}

/** What the mesh's timer does. */
async function watch(ms) {
  for (let i = 0; i < ms / 500; i++) {
    await clock.advance(500, 500);
    for (const { link } of [ana, ben]) link.watch(clock.now, link.reachable);
    await settle();
  }
}

function release() {
  const held = relay.held;
  relay.held = null;
  for (const deliver of held) deliver();
}

const current = (side) => network.connections.filter((pc) => pc.connectionState !== 'closed').at(side === ana ? 0 : -1);
const offers = () => relay.carried.filter(({ type }) => type === 'offer');

test('the newer one offers, both sides send and receive the four sections, and the channel opens', async () => {
  await connect();
  assert.equal(network.connections.length, 2);
  for (const pc of network.connections) {
    const transceivers = pc.getTransceivers();
    assert.deepEqual(transceivers.map(({ kind }) => kind), ['audio', 'video', 'video', 'audio']);
    assert.ok(transceivers.every(({ direction }) => direction === 'sendrecv'));
    assert.equal(transceivers[1].sender.track?.kind, 'video');
    assert.deepEqual([pc.channel.id, pc.channel.negotiated, pc.channel.label], [1, true, 'snug/2']);
  }
  assert.equal(ben.link.voice.getTracks().length, 1);
  assert.equal(ben.link.camera.getTracks().length, 1);
  assert.deepEqual(ben.link.screen.getTracks().map(({ kind }) => kind), ['video', 'audio']);
  assert.ok(ben.log.includes('open'));
});

test('our description leaves before our candidates, and all of one session', async () => {
  ana.link.start();
  await settle();
  const fromAna = relay.carried.filter(({ to }) => to === BEN);
  assert.equal(fromAna[0].type, 'offer');
  assert.equal(fromAna[1].type, 'ice_candidate');
  assert.equal(new Set(relay.carried.map(({ value }) => value.session)).size, 1);
});

test('when two fresh offers cross, the lower id gives way and one session is left', async () => {
  relay.held = [];
  ana.link.start();
  ben.link.start();
  await settle();
  release();
  await settle();
  assert.equal(ana.link.state, 'connected');
  assert.equal(ben.link.state, 'connected');
  const [first, second] = offers();
  const answers = relay.carried.filter(({ type }) => type === 'answer');
  const bens = first.to === ANA ? first : second;
  assert.deepEqual(answers.map(({ value }) => value.session), [bens.value.session], 'Ana is polite and answers');
});

test('when two restarts cross, the polite side rolls back in the same connection', async () => {
  await connect();
  relay.held = [];
  ana.link.restart(true);
  ben.link.restart(true);
  await settle();
  release();
  await settle();
  assert.equal(network.connections.length, 2);
  assert.equal(network.connections.filter((pc) => pc.rolledBack).length, 1);
  assert.equal(relay.carried.filter(({ type }) => type === 'answer').length, 1);
  assert.equal(ana.link.state, 'connected');
});

test('a restart keeps the session and media, and is not done twice at once', async () => {
  await connect();
  await clock.advance(2000);
  ana.link.restart();
  ana.link.restart();
  await settle();
  assert.equal(offers().length, 1);
  assert.equal(offers()[0].value.restart, true);
  assert.equal(network.connections.length, 2);
});

test('negotiation goes over the data channel while the relay is away', async () => {
  await connect();
  await clock.advance(2000);
  const before = network.connections[0].localDescription.sdp;
  relay.up = false;
  ana.link.restart();
  await settle();
  assert.notEqual(network.connections[0].localDescription.sdp, before);
  assert.equal(relay.carried.length, 0);
  assert.equal(network.connections[0].signalingState, 'stable');
});

test('the newer side restarts after two seconds without connection, the older one only when that does not come', async () => {
  await connect();
  network.cut();
  await watch(1500);
  assert.equal(offers().length, 0);
  await watch(1000);
  assert.deepEqual(offers().map(({ to, value }) => [to, value.restart]), [[BEN, true]]);
  relay.carried.length = 0;
  ana.link.close();
  await watch(4500);
  assert.deepEqual(offers().map(({ to }) => to), [ANA]);
});

test('nothing is tried while nobody can be told', async () => {
  await connect();
  network.cut();
  relay.up = false;
  await watch(20_000);
  assert.equal(network.connections.length, 2);
  relay.up = true;
  network.up = true;
  void ana.link.recover();
  await settle();
  assert.deepEqual(offers().map(({ value }) => value.restart), [true], 'the first try after an outage is a restart');
  assert.equal(ana.link.state, 'connected');
});

test('restarts that do not help are followed by a new session after about fifteen seconds', async () => {
  await connect();
  network.cut();
  await watch(13_000);
  assert.equal(network.connections.length, 2);
  assert.ok(offers().every(({ value }) => value.restart));
  await watch(4000);
  assert.equal(offers().at(-1).value.restart, false);
  assert.equal(network.connections.length, 4);
  network.up = true;
  network.match();
  await settle();
  assert.equal(ana.link.state, 'connected');
  assert.equal(ben.link.camera.getTracks().length, 1, 'the stream is the same object with the new track');
});

test('a connection that the other side has closed is replaced, not restarted', async () => {
  await connect();
  current(ana).close();
  assert.equal(ben.link.state, 'interrupted');
  await watch(4000);
  assert.equal(ana.link.state, 'connected');
  assert.equal(ben.link.state, 'connected');
});

test('a restart of a session that we no longer have is answered with a fresh offer', async () => {
  await connect();
  const [forgotten] = network.connections;
  // Ben's page is another one and its farewell was lost.
  network.up = false;
  ben.link.close();
  network.up = true;
  ben = end(BEN, ANA, false);
  await clock.advance(2000);
  ana.link.restart();
  await settle();
  assert.equal(forgotten.connectionState, 'closed');
  assert.equal(ben.link.state, 'connected');
  assert.deepEqual(offers().map(({ to, value }) => [to, value.restart]), [[BEN, true], [ANA, false]]);
});

test('after a gap of the relay a link that carries data is left alone, a silent one is restarted', async () => {
  await connect();
  await clock.advance(2000);
  void ana.link.recover();
  await clock.advance(1500);
  assert.equal(offers().length, 0);
  network.connections[0].getStats = async () => new Map();
  void ana.link.recover();
  await clock.advance(1500);
  assert.equal(offers().length, 1);
});

test('an offer that was lost with the relay is made again when it is back, at once', async () => {
  await connect();
  await clock.advance(2000);
  relay.held = [];
  ana.link.restart();
  await settle();
  relay.held = null;
  void ana.link.recover();
  await settle();
  assert.equal(offers().length, 2);
  assert.equal(network.connections[0].signalingState, 'stable');
});

test('an offer without an answer is repeated after five seconds even though media still flows', async () => {
  await connect();
  await clock.advance(2000);
  relay.held = [];
  ana.link.restart();
  await watch(4500);
  assert.equal(offers().length, 1);
  relay.held = null;
  await watch(1500);
  assert.equal(offers().length, 2);
});

test('candidates before their description are kept, at most sixty-four, and those of another session dropped', async () => {
  await connect();
  const [pc] = network.connections;
  const send = (session, candidate) =>
    ana.link.receive('ice_candidate', { plain: JSON.stringify({ candidate, sdpMid: '0', sdpMLineIndex: 0, session }) });
  const session = 'AQIDBAUGBwg';
  relay.held = [];
  ana.link.receive('offer', { plain: JSON.stringify({ sdp: 'sdp 9.9', session, restart: false }) });
  await settle();
  assert.notEqual(network.connections.at(-1), pc);
  const fresh = network.connections.at(-1);
  send('BQIDBAUGBwg', 'stray');
  send(session, 'fits');
  await settle();
  assert.deepEqual(fresh.candidates.map(({ candidate }) => candidate), ['fits']);

  fresh.remoteDescription = null;
  for (let i = 0; i < 100; i++) send(session, `early ${i}`);
  await settle();
  ana.link.receive('offer', { plain: JSON.stringify({ sdp: 'sdp 9.10', session, restart: true }) });
  await settle();
  assert.equal(fresh.candidates.length, 1 + 64);
});

test('at most sixty-four candidates are sent for one description', async () => {
  await connect();
  const [pc] = network.connections;
  for (let i = 0; i < 100; i++) pc.onicecandidate({ candidate: { candidate: `candidate ${i}`, sdpMid: '0', sdpMLineIndex: 0 } });
  pc.onicecandidate({ candidate: null });
  await settle();
  // One was sent with the first description already.
  assert.equal(relay.carried.length, 63);
});

test('a queue without a way out keeps the last sixty-four messages', async () => {
  relay.up = false;
  ana.link.start();
  await settle();
  const [pc] = network.connections;
  for (let i = 0; i < 100; i++) pc.onicecandidate({ candidate: { candidate: `candidate ${i}`, sdpMid: '0', sdpMLineIndex: 0 } });
  await settle();
  relay.up = true;
  relay.held = [];
  ana.link.flush();
  assert.equal(relay.held.length, 64);
});

test('a payload that is refused closes the link for good and says why', async () => {
  await connect();
  ana.owner.sealer = new Sealer({ secret: crypto.getRandomValues(new Uint8Array(16)), roomId: 'r-1', identity: await anonymous() });
  ana.link.receive('offer', { plain: '{}' });
  await settle();
  assert.equal(ana.link.state, 'refused');
  assert.equal(ana.link.refusal, 'not_sealed');
  assert.equal(network.connections[0].connectionState, 'closed');
  ben.link.close();
  ana.link.start();
  ana.link.receive('offer', { plain: '{}' });
  await watch(20_000);
  assert.equal(network.connections.length, 2, 'and nothing is built again by this side');
});

test('nonsense inside an authentic payload is let pass', async () => {
  await connect();
  for (const kind of ['offer', 'answer', 'ice_candidate']) {
    for (const plain of ['null', '1', '{}', '[]', '{"sdp":1}', JSON.stringify({ sdp: 'nonsense', session: 'AQIDBAUGBwg', restart: true })]) {
      ana.link.receive(kind, { plain });
    }
  }
  network.connections[0].channel.onmessage({ data: '{"type":"tile"}' });
  network.connections[0].channel.onmessage({ data: new ArrayBuffer(3) });
  await settle();
  assert.notEqual(ana.link.state, 'refused');
});

test('an offer whose sections are not those of the protocol is not answered', async () => {
  relay.held = [];
  const { RTCPeerConnection } = ben.owner.env;
  ben.owner.env.RTCPeerConnection = class extends RTCPeerConnection {
    getTransceivers() {
      return super.getTransceivers().slice(0, 2);
    }
  };
  ben.link.receive('offer', { plain: JSON.stringify({ sdp: 'sdp 9.9', session: 'AQIDBAUGBwg', restart: false }) });
  await settle();
  assert.equal(relay.carried.length, 0);
});

test('what the others show of us caps our encoders, and a hidden tile stops them', async () => {
  await connect();
  const [pc] = network.connections;
  const camera = () => pc.getTransceivers()[1].sender.parameters.encodings[0];
  assert.deepEqual([camera().scaleResolutionDownBy, camera().maxBitrate], [2, 450_000]);
  ben.link.sendTile({ width: 1280, height: 720, screenWidth: 0, screenHeight: 0 });
  await settle();
  assert.deepEqual([camera().scaleResolutionDownBy, camera().maxBitrate, camera().active], [1, 1_500_000, true]);
  ben.link.sendTile({ width: 0, height: 0, screenWidth: 0, screenHeight: 0 });
  await settle();
  assert.equal(camera().active, false);
});

test('a link sends the layer that its path carries, and keeps the resolution against the browser', async () => {
  await connect();
  const [pc] = network.connections;
  const { sender } = pc.getTransceivers()[1];
  const camera = () => sender.parameters.encodings[0];
  let [estimate, frames] = [300_000, 0];
  sender.getStats = async () =>
    new Map([
      ['O', { type: 'outbound-rtp', framesEncoded: (frames += 5), qpSum: frames * 20, totalEncodeTime: frames * 0.003 }],
      ['P', { type: 'candidate-pair', availableOutgoingBitrate: estimate }],
    ]);
  const steer = async (ms, settled = true) => {
    const rose = [];
    for (let i = 0; i < ms / 250; i++) {
      rose.push(await ana.link.steer(Infinity, settled));
      await clock.advance(250, 250);
    }
    return rose.some(Boolean);
  };
  ben.link.sendTile({ width: 1280, height: 720, screenWidth: 0, screenHeight: 0 });
  assert.equal(await steer(250), false);
  assert.equal(camera().scaleResolutionDownBy, 2, 'before the path is probed');
  assert.equal(sender.parameters.degradationPreference, 'maintain-resolution');
  estimate = 2_900_000;
  assert.equal(await steer(1000), true);
  assert.deepEqual([camera().scaleResolutionDownBy, camera().maxBitrate], [1, 1_500_000]);
  assert.equal(ana.link.floor, 600_000);
  const changes = sender.applied.length;
  await steer(10_000);
  assert.equal(sender.applied.length, changes, 'what does not change is not set again');
  ben.link.sendTile({ width: 0, height: 0, screenWidth: 0, screenHeight: 0 });
  await settle();
  assert.equal(ana.link.floor, 0, 'what nobody sees takes nothing');
});

test('a link over which nothing is sent any more is not in trouble', async () => {
  for (const rest of [() => ben.link.sendTile({ width: 0, height: 0, screenWidth: 0, screenHeight: 0 }), () => (ana.owner.tracks[1] = null)]) {
    if (ana.link.state !== 'connected') await connect();
    ben.link.sendTile({ width: 640, height: 360, screenWidth: 0, screenHeight: 0 });
    const { sender } = network.connections[0].getTransceivers()[1];
    let frames = 0;
    sender.getStats = async () =>
      new Map([
        ['O', { type: 'outbound-rtp', framesEncoded: (frames += 20), qpSum: frames * 120 }],
        ['P', { type: 'candidate-pair', availableOutgoingBitrate: 100_000 }],
      ]);
    for (let i = 0; i < 6; i++) {
      await ana.link.steer(Infinity, true);
      await clock.advance(1000, 250);
    }
    assert.equal(ana.link.steering.bad, true);
    rest();
    await settle();
    await ana.link.steer(Infinity, true);
    assert.equal(ana.link.steering.bad, false);
  }
});

test('parameters that a browser refuses are tried again, and statistics that it refuses stop nothing', async () => {
  await connect();
  const { sender } = network.connections[0].getTransceivers()[1];
  const set = sender.setParameters;
  sender.setParameters = async () => {
    throw new Error('InvalidModificationError');
  };
  ben.link.sendTile({ width: 1280, height: 720, screenWidth: 0, screenHeight: 0 });
  await settle();
  assert.equal(sender.parameters.encodings[0].scaleResolutionDownBy, 2);
  sender.setParameters = set;
  sender.getStats = () => Promise.reject(new Error('InvalidStateError'));
  assert.equal(await ana.link.steer(Infinity, true), false);
  await settle();
  assert.equal(sender.parameters.encodings[0].scaleResolutionDownBy, 1);
});

/** What a browser says of media that came `age` ms ago, for all that a side receives. */
function heard(side, age) {
  for (const { receiver } of current(side).getTransceivers()) {
    receiver.getSynchronizationSources = () => [{ timestamp: performance.timeOrigin + performance.now() - age }];
  }
}

test('a link from which nothing comes looks for another path before the browser calls it dead, while the relay is there', async () => {
  await connect();
  heard(ana, 1500);
  heard(ben, 1500);
  await watch(4000);
  assert.equal(offers().length, 0, 'a short hush is nothing');
  heard(ana, 3000);
  heard(ben, 3000);
  relay.up = false;
  await watch(4000);
  assert.equal(offers().length, 0, 'without the relay there is nobody to ask');
  relay.up = true;
  await watch(4000);
  assert.deepEqual(offers().map(({ to, value }) => [to, value.restart]), [[BEN, true]], 'the newer one asks, once');
  assert.equal(ana.link.state, 'connected');
  await watch(3000);
  assert.equal(offers().length, 2, 'and again when that did not help');
  heard(ben, 7000);
  await watch(500);
  assert.equal(offers().at(-1).to, ANA, 'at last so does the other one');
});

test('fresh TURN credentials go into the connection, and no path is given up for them', async () => {
  await connect();
  await clock.advance(2000);
  const iceServers = [{ urls: ['turn:call.example.org'], username: 'u', credential: 'c' }];
  ana.link.quality.health = { ...ana.link.quality.health, path: 'relayed' };
  ana.link.setIceServers(iceServers);
  await settle();
  assert.deepEqual(network.connections[0].getConfiguration().iceServers, iceServers);
  assert.equal(offers().length, 0);
});

test('chat waits for the channel, goodbye is said before closing', async () => {
  ana.link.sendChat({ type: 'chat', payload: { plain: '{}' } });
  await connect();
  assert.deepEqual(ben.log.filter((entry) => entry.type).map(({ type }) => type), ['media_state', 'chat']);
  ana.link.close(true);
  await settle();
  assert.equal(ben.log.at(-1).type, 'bye');
  assert.equal(network.connections[0].connectionState, 'connected');
  await clock.advance(250);
  assert.equal(network.connections[0].connectionState, 'closed');
});

test('a first connection that takes long is explained by what either side has shown', async () => {
  const withPath = (/** @type {string} */ sdp) => `${sdp}\r\na=candidate:1 1 udp 1 x.local 9 typ host`;
  const look = async () => {
    await Promise.all([ana.link.poll(), ben.link.poll()]);
    return [ana.link.trouble, ben.link.trouble];
  };
  network.up = false;
  relay.held = [];
  ana.link.start();
  await settle();
  assert.deepEqual(await look(), [null, null], 'not before it takes long');
  await clock.advance(12_000);
  const [pc] = network.connections;
  assert.equal((await look())[0], 'pathlessHere');
  pc.localDescription.sdp = withPath(pc.localDescription.sdp);
  assert.equal((await look())[0], 'silent', 'no answer has come');
  pc.remoteDescription = { type: 'answer', sdp: 'sdp ' };
  assert.equal((await look())[0], 'pathlessThere');
  pc.remoteDescription.sdp = withPath('sdp ');
  assert.equal((await look())[0], 'blocked');
});

test('a link that was connected once is never explained so', async () => {
  await connect();
  network.cut();
  await clock.advance(60_000);
  assert.equal(ana.link.trouble, null);
  assert.equal(ana.link.state, 'interrupted');
});
