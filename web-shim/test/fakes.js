// Doubles of what the engine takes from the browser: a clock, WebSockets, and RTCPeerConnections that find each other by their descriptions.

import { mock } from 'node:test';

/** Lets promises that are ready run; WebCrypto answers from a thread pool, so a few turns of the event loop pass. */
export async function settle(turns = 12) {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** Turns until `check` holds: WebCrypto takes as long as the machine lets it. The assertion that follows says what did not happen. */
export async function until(check) {
  for (let turn = 0; turn < 20_000 && !check(); turn++) await settle(1);
}

/** Virtual time: `advance` runs what is due, in order. */
export function fakeClock() {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const clock = {
    now: 0,
    async advance(ms, step = 50) {
      for (let left = ms; left > 0; left -= step) {
        const part = Math.min(step, left);
        clock.now += part;
        mock.timers.tick(part);
        await settle(2);
      }
      await settle();
    },
    reset: () => mock.timers.reset(),
  };
  return clock;
}

export class FakeSocket {
  readyState = 0;
  sent = [];
  closedWith = null;

  constructor(url) {
    this.url = url;
  }

  open() {
    this.readyState = 1;
    this.onopen?.();
  }

  send(text) {
    this.sent.push(JSON.parse(text));
    this.onsent?.(JSON.parse(text));
  }

  receive(message) {
    this.onmessage?.({ data: typeof message === 'string' ? message : JSON.stringify(message) });
  }

  /** We close: the browser tells of it later, and nobody listens any more. */
  close(code) {
    this.closedWith ??= code ?? 1005;
    this.readyState = 3;
  }

  /** The other side, or the network, closes. */
  drop(code = 1006) {
    this.readyState = 3;
    this.onclose?.({ code });
  }

  types() {
    return this.sent.map((message) => message.type);
  }
}

/** All sockets ever opened, in order, and the constructor that makes them. */
export function socketFactory() {
  const sockets = [];
  class WebSocket extends FakeSocket {
    constructor(url) {
      super(url);
      sockets.push(this);
    }
  }
  return { sockets, WebSocket };
}

export class FakeStream {
  tracks = [];
  addTrack(track) {
    this.tracks.push(track);
  }
  removeTrack(track) {
    this.tracks = this.tracks.filter((other) => other !== track);
  }
  getTracks() {
    return [...this.tracks];
  }
  getVideoTracks() {
    return this.tracks.filter((track) => track.kind === 'video');
  }
  getAudioTracks() {
    return this.tracks.filter((track) => track.kind === 'audio');
  }
}

export class FakeTrack extends EventTarget {
  enabled = true;
  contentHint = '';
  stopped = false;
  constructor(kind, width = 1280, height = 720) {
    super();
    this.kind = kind;
    this.settings = kind === 'video' ? { width, height } : {};
  }
  getSettings() {
    return this.settings;
  }
  stop() {
    this.stopped = true;
  }
}

/** Where connections meet: two are connected when each has the other's last description and the network is up. */
export class FakeNetwork {
  up = true;
  connections = [];
  count = 0;
  /** What becomes of a data channel's messages on their way. */
  tamper = (text) => text;

  get RTCPeerConnection() {
    const network = this;
    return class extends FakePeerConnection {
      constructor(configuration) {
        super(network, configuration);
      }
    };
  }

  cut() {
    this.up = false;
    for (const pc of this.connections) pc.setState(pc.connectionState === 'connected' ? 'disconnected' : pc.connectionState);
  }

  match() {
    if (!this.up) return;
    for (const one of this.connections) {
      for (const other of this.connections) {
        if (one.describes(other) && other.describes(one)) {
          one.partner = other;
          one.setState('connected');
        }
      }
    }
  }
}

class FakeChannel {
  readyState = 'connecting';
  constructor(pc) {
    this.pc = pc;
  }
  open() {
    if (this.readyState !== 'connecting') return;
    this.readyState = 'open';
    this.onopen?.();
  }
  send(data) {
    if (this.readyState !== 'open') throw new Error('not open');
    const other = this.pc.partner?.channel;
    if (this.pc.connectionState === 'connected') queueMicrotask(() => other?.onmessage?.({ data: typeof data === 'string' ? this.pc.network.tamper(data) : data }));
  }
  close() {
    if (this.readyState === 'closed') return;
    this.readyState = 'closed';
    this.onclose?.();
  }
}

class FakeSender {
  track = null;
  parameters = { transactionId: '1', encodings: [{ active: true }] };
  applied = [];
  async replaceTrack(track) {
    this.track = track;
  }
  getParameters() {
    return structuredClone(this.parameters);
  }
  async setParameters(parameters) {
    this.parameters = parameters;
    this.applied.push(parameters);
  }
}

export class FakePeerConnection {
  signalingState = 'stable';
  connectionState = 'new';
  localDescription = null;
  remoteDescription = null;
  partner = null;
  inbound = 0;
  candidates = [];
  #transceivers = [];
  #before = null;

  constructor(network, configuration) {
    this.network = network;
    this.configuration = configuration;
    this.id = ++network.count;
    network.connections.push(this);
  }

  describes(other) {
    const [mine, theirs] = [this.remoteDescription, other.localDescription];
    const stable = this.signalingState === 'stable' && other.signalingState === 'stable';
    return stable && this !== other && mine !== null && mine.sdp === theirs?.sdp;
  }

  setState(state) {
    if (this.connectionState === 'closed' || this.connectionState === state) return;
    this.connectionState = state;
    this.onconnectionstatechange?.();
    if (state === 'connected') this.channel?.open();
  }

  addTransceiver(kind, init) {
    const transceiver = { ...init, kind, sender: new FakeSender(), receiver: { track: new FakeTrack(kind), getSynchronizationSources: () => [] } };
    this.#transceivers.push(transceiver);
    return transceiver;
  }

  getTransceivers() {
    return this.#transceivers;
  }

  createDataChannel(label, init) {
    this.channel = new FakeChannel(this);
    Object.assign(this.channel, { label, ...init });
    return this.channel;
  }

  async createOffer({ iceRestart = false } = {}) {
    return { type: 'offer', sdp: this.#sdp(iceRestart) };
  }

  async setLocalDescription(description) {
    const type = description?.type ?? (this.signalingState === 'have-remote-offer' ? 'answer' : 'offer');
    this.#before ??= this.localDescription;
    this.localDescription = { type, sdp: description?.sdp ?? this.#sdp(false) };
    this.signalingState = type === 'offer' ? 'have-local-offer' : 'stable';
    if (type === 'answer') this.#before = null;
    queueMicrotask(() => this.onicecandidate?.({ candidate: { candidate: `candidate of ${this.localDescription?.sdp}`, sdpMid: '0', sdpMLineIndex: 0 } }));
    this.network.match();
  }

  async setRemoteDescription({ type, sdp }) {
    if (type === 'answer' && this.signalingState !== 'have-local-offer') throw new Error('InvalidStateError');
    if (type === 'offer' && this.signalingState === 'have-local-offer') {
      this.localDescription = this.#before;
      this.rolledBack = true;
    }
    if (!sdp.startsWith('sdp ')) throw new Error('OperationError');
    this.#before = null;
    this.remoteDescription = { type, sdp };
    this.signalingState = type === 'offer' ? 'have-remote-offer' : 'stable';
    if (type === 'offer' && this.#transceivers.length === 0) {
      for (const kind of ['audio', 'video', 'video', 'audio']) this.addTransceiver(kind, { direction: 'recvonly' });
    }
    this.network.match();
  }

  async addIceCandidate(candidate) {
    if (!this.remoteDescription) throw new Error('InvalidStateError');
    this.candidates.push(candidate);
  }

  async getStats() {
    if (this.connectionState === 'connected') this.inbound += 1000;
    return new Map([
      ['P', { type: 'candidate-pair', id: 'P', nominated: true, state: 'succeeded', bytesReceived: this.inbound, currentRoundTripTime: 0.02 }],
    ]);
  }

  getConfiguration() {
    return this.configuration;
  }

  setConfiguration(configuration) {
    this.configuration = configuration;
  }

  close() {
    if (this.connectionState === 'closed') return;
    // One that was made only to see whether that can be done leaves no trace.
    if (this.signalingState === 'stable' && !this.localDescription) this.network.connections.splice(this.network.connections.indexOf(this), 1);
    this.connectionState = this.signalingState = 'closed';
    const { partner } = this;
    this.partner = null;
    this.channel?.close();
    if (partner?.partner === this && this.network.up) partner.channel?.close();
  }

  #generation = 0;
  #sdp(iceRestart) {
    if (iceRestart || this.#generation === 0 || this.signalingState === 'have-remote-offer') this.#generation += 1;
    const fingerprint = Array(32).fill(this.id.toString(16).padStart(2, '0').slice(-2).toUpperCase()).join(':');
    return `sdp ${this.id}.${this.#generation}.${Math.random()}\r\na=fingerprint:sha-256 ${fingerprint}\r\n`;
  }
}

/** @param {{ clock: { now: number }, network?: FakeNetwork, WebSocket?: Function }} parts */
export function fakeEnvironment({ clock, network = new FakeNetwork(), WebSocket = FakeSocket }) {
  const hints = [];
  return {
    origin: 'https://call.example.org',
    WebSocket,
    RTCPeerConnection: network.RTCPeerConnection,
    MediaStream: FakeStream,
    now: () => clock.now,
    random: () => 1,
    isHidden: () => false,
    onNetworkHint: (listener) => {
      hints.push(listener);
      return () => hints.splice(hints.indexOf(listener), 1);
    },
    socketRefusal: async () => null,
    hint: (kind) => hints.forEach((listener) => listener(kind)),
  };
}

export const userId = (letter) => letter.repeat(21) + 'A';
export const publicKey = (letter) => letter.repeat(86) + 'A';
export const token = (letter) => letter.repeat(42) + 'A';

export function roomJoined(changes = {}) {
  return {
    type: 'room_joined',
    seq: 1,
    roomId: 'sunny-mountain-42',
    userId: userId('s'),
    resumeToken: token('t'),
    ticket: 'the ticket',
    participants: [],
    roomInfo: { maxParticipants: 10, allowScreenShare: true, passwordEnabled: false, locked: false, sealed: false },
    isOwner: false,
    iceServers: [],
    iceTtlSeconds: 3600,
    seatHoldSeconds: 30,
    ...changes,
  };
}

export function participant(letter, changes = {}) {
  const media = { audio: true, video: true, screen: false, hand: false, recording: false };
  const displayName = { plain: JSON.stringify({ name: letter }), proof: 'x' };
  return { userId: userId(letter), publicKey: publicKey(letter), displayName, media, away: false, owner: false, ...changes };
}
