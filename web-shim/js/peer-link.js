// One link: the RTCPeerConnection to one participant and its negotiation (PROTOCOL §7): sessions, perfect negotiation, ICE restart.
// Never decides who is in the room, and never lets a malformed or refused message out as an exception.
//
// 1. Who is newer builds a connection, names its session and offers; the other builds one for that session and answers.
// 2. Both sides may restart ICE in a session. Of two offers that cross, the one of the lower userId gives way.
// 3. A connection that restarts do not revive is replaced by one with a new session.
// All steps of a link run one after the other, so none sees another half done.

import { SOUND_ENCODING, VOICE_ENCODING, cameraEncoding, cameraLayer, limitSender, screenEncoding } from './encoder-limits.js';
import { fromBase64Url, toBase64Url } from './link.js';
import { LinkQuality, hushOf, voiceLevel } from './quality.js';
import { commitmentOf, newNonce, placesOf } from './safety.js';
import { SealError } from './seal.js';
import { Steering, floor, readSenderStats } from './steering.js';
import { LIMITS, encode, parseChannelMessage, readCandidate, readDescription, readMedia } from './wire.js';

/** @import { Candidate, ChannelMessage, Description, Environment, IceServer, LinkState, LinkTrouble, Media, NegotiationKind, Payload, SealProblem, Tile } from './types.d.ts' */
/** @import { Sealer } from './seal.js' */
/**
 * @typedef {object} LinkOwner the mesh
 * @property {Environment} env
 * @property {string} selfId
 * @property {Sealer} sealer
 * @property {IceServer[]} iceServers
 * @property {(MediaStreamTrack | null)[]} tracks microphone, camera, screen, sound of the screen
 * @property {() => Media} media
 * @property {(userId: string) => 'live' | 'away' | 'down'} relayRoute whether the relay can take a message to this participant
 * @property {(userId: string, message: { type: NegotiationKind, payload: Payload }) => boolean} sendRelay
 * @property {(link: PeerLink) => void} onChange
 * @property {(link: PeerLink) => void} onOpen the data channel is there
 * @property {(link: PeerLink, message: Extract<ChannelMessage, { type: 'chat' | 'media_state' | 'bye' }>) => void} onMessage
 */

/** The sections of an offer, in order. */
const KINDS = ['audio', 'video', 'video', 'audio'];
export const CAMERA = 1;
export const SCREEN = 2;

// How long a link may be without packets before this side acts: the newer participant acts, the other one when that did not help.
const INTERRUPTED_MS = { newer: 2000, older: 6000 };
const FAILED_MS = { newer: 500, older: 3000 };
const CONNECTING_MS = { newer: 10_000, older: 15_000 };
const RETRY_MS = 5000;
const MOST_RETRY_MS = 20_000;
/** After so many restarts that did not help, at 2 s and 7 s, the next try is a new connection, at about 15 s. */
const RESTARTS = 2;
/** A restart asked for twice within this time is one restart. */
const SETTLE_MS = 1000;
const LIVENESS_MS = 1000;
const STEPS_WAITING = 256;
/** A first connection that takes longer gets an explanation. */
const TROUBLE_MS = 12_000;
/** How often the camera is steered; in the first seconds of a connection, whenever `steer` is called. */
const STEER_MS = 1000;
const EARLY_MS = 4000;

export class PeerLink {
  #owner;
  /** @type {RTCPeerConnection | null} */
  #pc = null;
  /** @type {RTCDataChannel | null} */
  #channel = null;
  /** @type {RTCRtpTransceiver[]} */
  #transceivers = [];
  #session = '';
  /** Whether the offer that waits for its answer restarts ICE. */
  #restarting = false;
  /** @type {Promise<void>} */
  #steps = Promise.resolve();
  #stepsWaiting = 0;
  /** Candidates of theirs before their description. @type {Candidate[]} */
  #early = [];
  /** Candidates of ours before our description is sent; null once it is. @type {Candidate[] | null} */
  #held = [];
  #candidatesSent = 0;
  /** Negotiation messages while there is no way to send them. @type {{ type: NegotiationKind, payload: Payload }[]} */
  #waiting = [];
  /** @type {string[]} */
  #chatWaiting = [];

  #everConnected = false;
  #sessionConnected = false;
  #channelLost = false;
  /** Since when there is no connection, null while there is one. @type {number | null} */
  deadSince;
  #builtAt = 0;
  #negotiatedAt = -Infinity;
  /** What either side has shown since the link was made. */
  #shown = { answer: false, here: false, there: false };
  #tries = 0;
  #nextTry = 0;

  /** How they show us, and what we last told them about how we show them. @type {Tile | null} */
  #theirTile = null;
  #ourTile = '';
  /** What each sender was last limited to. */
  #limits = ['', '', '', ''];
  #limiting = Promise.resolve();
  steering = new Steering();
  #connectedAt = 0;
  #steeredAt = -Infinity;

  /** What this session's safety words are made of. @type {{ own: Uint8Array<ArrayBuffer> | null, their: Uint8Array<ArrayBuffer> | null, commitment: string | null, shown: boolean }} */
  #safety = { own: null, their: null, commitment: null, shown: false };
  /** @type {number[] | 'forged' | null} */
  safety = null;
  /** @type {SealProblem | null} */
  refusal = null;
  #closed = false;
  quality = new LinkQuality();
  level = 0;
  voice;
  camera;
  screen;

  /** @param {LinkOwner} owner @param {string} userId @param {boolean} newer whether we came after them */
  constructor(owner, userId, newer) {
    this.#owner = owner;
    this.userId = userId;
    this.newer = newer;
    this.polite = owner.selfId < userId;
    this.deadSince = /** @type {number | null} */ (owner.env.now());
    this.#builtAt = owner.env.now();
    const { MediaStream } = owner.env;
    this.voice = new MediaStream();
    this.camera = new MediaStream();
    this.screen = new MediaStream();
  }

  /** @returns {LinkState} */
  get state() {
    if (this.refusal) return 'refused';
    if (this.#closed) return 'closed';
    if (this.deadSince === null) return 'connected';
    return this.#everConnected ? 'interrupted' : 'connecting';
  }

  get connected() {
    return this.state === 'connected';
  }

  /** What keeps the link from its first connection, once that takes long. @returns {LinkTrouble | null} */
  get trouble() {
    if (this.#everConnected || this.#over || this.#owner.env.now() - (this.deadSince ?? Infinity) < TROUBLE_MS) return null;
    const { answer, here, there } = this.#shown;
    return !here ? 'pathlessHere' : !answer ? 'silent' : there ? 'blocked' : 'pathlessThere';
  }

  #notePaths() {
    const { localDescription, remoteDescription } = this.#pc ?? {};
    const hasPath = (/** @type {RTCSessionDescription | null | undefined} */ one) => /^a=candidate:/m.test(one?.sdp ?? '');
    this.#shown.answer ||= Boolean(remoteDescription);
    this.#shown.here ||= hasPath(localDescription);
    this.#shown.there ||= hasPath(remoteDescription);
  }

  get #over() {
    return this.#closed || this.refusal !== null;
  }

  /** Offers a connection of a new session. */
  start() {
    this.#step(() => this.#offer(true));
  }

  /** Looks for new paths, keeping the media that still flows. @param {boolean} [certainly] also right after another negotiation */
  restart(certainly = false) {
    const now = this.#owner.env.now();
    if (this.#over || (!certainly && now - this.#negotiatedAt < SETTLE_MS)) return;
    this.#negotiatedAt = now;
    this.#step(() => this.#offer(this.#mustRebuild()));
  }

  /** The relay is back after a gap, or the machine woke: messages may be missing and paths may be dead. */
  async recover() {
    if (this.#over) return;
    this.#tries = this.#nextTry = 0;
    this.flush();
    const pc = this.#pc;
    // An offer without an answer was probably lost with the connection to the relay.
    if (this.connected && pc?.signalingState === 'stable' && (this.hush ?? 0) < LIVENESS_MS) {
      await this.poll();
      const before = this.quality.inbound;
      await new Promise((resolve) => setTimeout(resolve, LIVENESS_MS));
      await this.poll();
      if (pc !== this.#pc || (this.connected && this.quality.inbound > before)) return;
    }
    // Where the first offer was lost, it is for the newer one to repeat it.
    if (this.#everConnected || this.newer) this.restart(true);
  }

  /** Acts on a link that has been without packets for too long. @param {number} now @param {boolean} reachable */
  watch(now, reachable) {
    if (this.#over || !reachable || now < this.#nextTry) return;
    if (this.deadSince === null) {
      const unanswered = this.#pc?.signalingState !== 'stable' && now - this.#negotiatedAt > RETRY_MS;
      // Browsers take five seconds to find a path dead. Another one is looked for before that, unless it is the relay that is out of reach.
      const hushed = (this.hush ?? 0) > INTERRUPTED_MS[this.newer ? 'newer' : 'older'] && this.#owner.relayRoute(this.userId) === 'live';
      if (unanswered || (hushed && this.#pc?.signalingState === 'stable')) {
        this.#nextTry = now + RETRY_MS;
        this.restart();
      }
      return;
    }
    const failed = this.#pc?.connectionState === 'failed' || this.#channelLost;
    const limit = !this.#everConnected ? CONNECTING_MS : failed ? FAILED_MS : INTERRUPTED_MS;
    if (now - Math.max(this.deadSince, this.#sessionConnected ? 0 : this.#builtAt) < limit[this.newer ? 'newer' : 'older']) return;
    this.#nextTry = now + Math.min(RETRY_MS * 1.5 ** this.#tries, MOST_RETRY_MS);
    this.#tries += 1;
    this.restart();
  }

  /** @param {NegotiationKind} kind @param {Payload} payload */
  receive(kind, payload) {
    this.#step(async () => {
      try {
        const value = await this.#owner.sealer.open(kind, this.userId, this.#owner.selfId, payload);
        if (this.#over) return;
        if (kind === 'ice_candidate') await this.#onCandidate(readCandidate(value));
        else if (kind === 'offer') await this.#onOffer(readDescription(value));
        else await this.#onAnswer(readDescription(value));
      } catch (error) {
        // What the relay kept from before they were started anew says nothing against them.
        if (error instanceof SealError) error.problem !== 'outdated' && this.refuse(error.problem);
        else throw error;
      }
    });
  }

  /** What came or would come over this link is not to be trusted: it carries nothing from here on. @param {SealProblem} problem */
  refuse(problem) {
    if (this.#over) return;
    this.refusal = problem;
    this.#teardown();
    this.#owner.onChange(this);
  }

  /** @param {number} slot */
  async replaceTrack(slot) {
    const sender = this.#transceivers[slot]?.sender;
    await sender?.replaceTrack(this.#owner.tracks[slot] ?? null).catch(() => {});
    this.limit();
  }

  /** @param {Tile} tile how we show them, in device pixels */
  sendTile(tile) {
    const message = encode({ type: 'tile', ...tile });
    if (message !== this.#ourTile && this.#sendChannel(message)) this.#ourTile = message;
  }

  /** @param {ChannelMessage} message @returns {boolean} whether there was a channel to send it on */
  send(message) {
    return this.#sendChannel(encode(message));
  }

  /** Chat is not lost to a channel that opens only later. @param {Extract<ChannelMessage, { type: 'chat' }>} message */
  sendChat(message) {
    const text = encode(message);
    if (!this.#sendChannel(text) && this.#chatWaiting.push(text) > LIMITS.queue) this.#chatWaiting.shift();
  }

  /**
   * The next paths are made with these. Those that are there stay: a server keeps an allocation that is refreshed.
   *
   * @param {IceServer[]} iceServers
   */
  setIceServers(iceServers) {
    try {
      this.#pc?.setConfiguration({ ...this.#pc.getConfiguration(), iceServers });
    } catch {
      // The next connection takes them; this one keeps its paths.
    }
  }

  async poll() {
    const pc = this.#pc;
    this.#notePaths();
    try {
      const report = await pc?.getStats();
      if (report && pc === this.#pc) this.quality.update(report, this.connected);
    } catch {
      // A connection that was closed meanwhile has no statistics.
    }
    this.limit();
  }

  /**
   * Sends another layer of the camera where path or processor ask for it.
   * @param {number} left what the uplink has beyond the floors of all links, in bit/s
   * @param {boolean} settled whether no link is in trouble and none was given more a moment ago
   * @returns {Promise<boolean | void>} whether a larger one
   */
  async steer(left, settled) {
    const { env, tracks } = this.#owner;
    const now = env.now();
    const sender = this.#transceivers[CAMERA]?.sender;
    // What nobody sees is not sent.
    const { steering } = this;
    if (!this.connected || !sender || !tracks[CAMERA] || this.#theirTile?.width === 0) return void steering.rest();
    if (now - this.#connectedAt > EARLY_MS && now - this.#steeredAt < STEER_MS) return;
    this.#steeredAt = now;
    const before = steering.layer;
    try {
      const look = readSenderStats(await sender.getStats());
      if (steering !== this.steering) return;
      steering.update(look, env.now(), { wanted: this.#cameraLayer(), screen: !!tracks[SCREEN] && !!this.#theirTile?.screenWidth, left, settled });
    } catch {
      // A connection that was closed meanwhile has no statistics.
    }
    this.limit();
    return steering.layer > before;
  }

  /** The least that the camera takes on this link, in bit/s. */
  get floor() {
    const { width = 1 } = this.#theirTile ?? {};
    return this.connected && this.#owner.tracks[CAMERA] && width > 0 ? floor(Math.min(this.steering.layer, this.#cameraLayer())) : 0;
  }

  #cameraLayer() {
    return cameraLayer(this.#owner.tracks[CAMERA] ?? null, this.#theirTile);
  }

  /** @returns {boolean} whether the level changed */
  listen() {
    const before = this.level;
    this.level = this.connected ? voiceLevel(this.#transceivers[0]?.receiver) : 0;
    return this.level !== before;
  }

  /** For how long a connected link that carried media has been without, in milliseconds. */
  get hush() {
    return this.connected ? hushOf(this.#transceivers.map(({ receiver }) => receiver)) : null;
  }

  /** Applies what the encoders may make, where it has changed. */
  limit() {
    const wanted = this.#encodings();
    const senders = this.#transceivers.map(({ sender }) => sender);
    this.#limiting = this.#limiting.then(async () => {
      for (const [slot, encoding] of wanted.entries()) {
        const sender = senders[slot];
        const key = JSON.stringify(encoding);
        if (!sender || sender !== this.#transceivers[slot]?.sender || this.#limits[slot] === key) continue;
        // The browser would begin with small pictures, and make them large only after half a minute.
        const degradation = slot === SCREEN || slot === CAMERA ? 'maintain-resolution' : null;
        if (await limitSender(sender, encoding, degradation)) this.#limits[slot] = key;
      }
    });
  }

  /** Says goodbye when asked to, and lets everything go. @param {boolean} [bye] */
  close(bye = false) {
    if (this.#closed) return;
    const pc = this.#pc;
    if (bye && this.send({ type: 'bye' })) {
      // The goodbye must leave before its channel is gone.
      this.#pc = null;
      setTimeout(() => pc?.close(), 200);
    }
    this.#closed = true;
    this.#teardown();
  }

  // The steps.

  /** @param {() => Promise<void>} step */
  #step(step) {
    if (this.#over || this.#stepsWaiting >= STEPS_WAITING) return;
    this.#stepsWaiting += 1;
    this.#steps = this.#steps
      .then(() => (this.#over ? undefined : step()))
      // A description that the browser does not take leaves the link as it is; `watch` tries anew.
      .catch(() => {})
      .finally(() => (this.#stepsWaiting -= 1));
  }

  #mustRebuild() {
    // An answer names its session, not its offer: that to an earlier one, which may only be late, must not fit.
    const unanswered = this.#pc?.signalingState === 'have-local-offer' && this.deadSince !== null;
    return !this.#pc || unanswered || !this.#sessionConnected || this.#channelLost || this.#tries > RESTARTS;
  }

  /** @param {boolean} fresh a new session, not a restart of this one */
  async #offer(fresh) {
    if (fresh) this.#build(toBase64Url(crypto.getRandomValues(new Uint8Array(8))));
    const pc = this.#pc;
    if (!pc) return;
    if (fresh) this.#addTransceivers(pc);
    /** @type {Partial<Description>} */
    const extra = {};
    if (fresh) {
      const own = newNonce();
      this.#safety.own = own;
      extra.commitment = await commitmentOf(this.#session, own);
    }
    this.#restarting = !fresh;
    this.#held ??= [];
    await pc.setLocalDescription(await pc.createOffer({ iceRestart: !fresh }));
    this.#describe('offer', pc, !fresh, extra);
  }

  /** @param {Description | null} offer */
  async #onOffer(offer) {
    if (!offer) return;
    const { sdp, session, restart } = offer;
    const known = this.#pc !== null && session === this.#session;
    const offering = this.#pc?.signalingState === 'have-local-offer';
    if (known) {
      if (offering && !this.polite) return;
    } else if (restart) {
      // They revive what we no longer have. An offer of ours that is on its way tells them so.
      return offering && !this.#restarting ? undefined : this.#offer(true);
    } else if (offering && !this.#restarting && !this.polite) {
      return;
    }
    if (!known) this.#build(session);
    const pc = this.#pc;
    if (!pc) return;
    this.#negotiatedAt = this.#owner.env.now();
    this.#held ??= [];
    // An offer of our own that waits for its answer is rolled back by this.
    await pc.setRemoteDescription({ type: 'offer', sdp });
    if (!known) this.#takeTransceivers(pc);
    if (!known && offer.commitment) this.#safety = { own: newNonce(), their: null, commitment: offer.commitment, shown: false };
    await pc.setLocalDescription();
    const { own, commitment } = this.#safety;
    this.#describe('answer', pc, restart, !restart && own && commitment ? { safetyNonce: toBase64Url(own) } : {});
    await this.#addEarly(pc);
    this.limit();
  }

  /** @param {Description | null} answer */
  async #onAnswer(answer) {
    const pc = this.#pc;
    if (!pc || answer?.session !== this.#session || pc.signalingState !== 'have-local-offer') return;
    this.#negotiatedAt = this.#owner.env.now();
    await pc.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
    if (answer.safetyNonce && !this.#safety.commitment) this.#safety.their ??= fromBase64Url(answer.safetyNonce);
    await this.#showSafety();
    await this.#addEarly(pc);
    this.limit();
  }

  /** @param {Candidate | null} candidate */
  async #onCandidate(candidate) {
    if (!candidate || candidate.session !== this.#session || !this.#pc) return;
    if (this.#pc.remoteDescription) await add(this.#pc, candidate);
    else if (this.#early.length < LIMITS.candidates) this.#early.push(candidate);
  }

  /** @param {RTCPeerConnection} pc */
  async #addEarly(pc) {
    for (const candidate of this.#early.splice(0)) await add(pc, candidate);
  }

  // The connection.

  /** @param {string} session */
  #build(session) {
    this.#teardown();
    const { env, iceServers } = this.#owner;
    const pc = new env.RTCPeerConnection({ iceServers, bundlePolicy: 'max-bundle' });
    this.#pc = pc;
    this.#session = session;
    this.#builtAt = env.now();
    this.deadSince ??= env.now();
    pc.onicecandidate = ({ candidate }) => {
      if (pc === this.#pc && candidate?.candidate) this.#onOwnCandidate(candidate);
    };
    pc.onconnectionstatechange = () => pc === this.#pc && this.#onState(pc.connectionState);
    const channel = pc.createDataChannel('snug/2', { negotiated: true, id: 1 });
    this.#channel = channel;
    channel.onopen = () => {
      if (channel !== this.#channel) return;
      this.#ourTile = '';
      this.send({ type: 'media_state', media: this.#owner.media() });
      for (const text of this.#chatWaiting.splice(0)) this.#sendChannel(text);
      this.flush();
      void this.#showSafety();
      this.#owner.onOpen(this);
    };
    channel.onmessage = ({ data }) => channel === this.#channel && this.#onChannelMessage(parseChannelMessage(data));
    channel.onclose = () => {
      if (channel !== this.#channel) return;
      // The other side closed its connection: restarting ours would revive nothing.
      this.#channelLost = true;
      this.#onState('disconnected');
    };
  }

  #teardown() {
    const pc = this.#pc;
    this.#pc = this.#channel = null;
    this.#transceivers = [];
    this.#early = [];
    this.#held = [];
    this.#waiting = [];
    this.#limits = ['', '', '', ''];
    this.#candidatesSent = 0;
    this.#sessionConnected = this.#channelLost = this.#restarting = false;
    this.#ourTile = '';
    this.#theirTile = null;
    this.#safety = { own: null, their: null, commitment: null, shown: false };
    this.safety = null;
    this.quality.reset();
    this.steering = new Steering();
    for (const stream of [this.voice, this.camera, this.screen]) {
      for (const track of stream.getTracks()) stream.removeTrack(track);
    }
    pc?.close();
  }

  /** What each section may send to who shows us like this. */
  #encodings() {
    const [, camera = null, screen = null] = this.#owner.tracks;
    const tile = this.#theirTile;
    const { layer, most } = this.steering;
    const picture = cameraEncoding(camera, tile, layer, this.steering.probes(this.#owner.env.now()));
    picture.maxBitrate = Math.min(picture.maxBitrate ?? most, most);
    return [VOICE_ENCODING, picture, screenEncoding(screen, tile), SOUND_ENCODING];
  }

  /** @param {RTCPeerConnection} pc */
  #addTransceivers(pc) {
    const encodings = this.#encodings();
    const streams = this.#sendingStreams();
    this.#useTransceivers(
      KINDS.map((kind, slot) =>
        pc.addTransceiver(kind, {
          direction: 'sendrecv',
          streams: [streams[slot] ?? new this.#owner.env.MediaStream()],
          sendEncodings: [encodings[slot] ?? {}],
        }),
      ),
    );
  }

  /** @param {RTCPeerConnection} pc */
  #takeTransceivers(pc) {
    const transceivers = pc.getTransceivers();
    if (KINDS.some((kind, slot) => transceivers[slot]?.receiver.track.kind !== kind)) throw new Error('not the sections of the protocol');
    const streams = this.#sendingStreams();
    for (const [slot, transceiver] of transceivers.entries()) {
      transceiver.direction = 'sendrecv';
      const stream = streams[slot];
      if (stream) transceiver.sender.setStreams?.(stream);
    }
    this.#useTransceivers(transceivers.slice(0, KINDS.length));
  }

  /** Microphone and camera go as one stream, as do screen and its sound: receivers keep the lips in step by it. */
  #sendingStreams() {
    const { MediaStream } = this.#owner.env;
    const [self, screen] = [new MediaStream(), new MediaStream()];
    return [self, self, screen, screen];
  }

  /** @param {RTCRtpTransceiver[]} transceivers */
  #useTransceivers(transceivers) {
    this.#transceivers = transceivers;
    for (const [slot, { receiver, sender }] of transceivers.entries()) {
      [this.voice, this.camera, this.screen, this.screen][slot]?.addTrack(receiver.track);
      sender.replaceTrack(this.#owner.tracks[slot] ?? null).catch(() => {});
    }
  }

  /** @param {RTCPeerConnectionState} state */
  #onState(state) {
    if (this.#over) return;
    if (state === 'connected') {
      this.#everConnected = this.#sessionConnected = true;
      this.deadSince = null;
      this.#tries = this.#nextTry = 0;
      this.#connectedAt = this.#owner.env.now();
      void this.steer(0, false);
    } else {
      this.deadSince ??= this.#owner.env.now();
    }
    this.#owner.onChange(this);
  }

  // What goes out.

  /** @param {RTCIceCandidate} candidate */
  #onOwnCandidate({ candidate, sdpMid, sdpMLineIndex }) {
    const own = { candidate, sdpMid, sdpMLineIndex, session: this.#session };
    if (this.#held) this.#held.push(own);
    else if (this.#candidatesSent++ < LIMITS.candidates) void this.#negotiate('ice_candidate', own);
  }

  /** The offerer's nonce follows once the other's is there: each was bound to its own before it saw the other's. */
  async #showSafety() {
    const safety = this.#safety;
    const { own, their, commitment, shown } = safety;
    if (!own || !their || commitment || shown) return;
    safety.shown = this.send({ type: 'safety', nonce: toBase64Url(own) });
    if (safety.shown) await this.#findWords();
  }

  /** @param {string} text */
  async #onSafety(text) {
    const safety = this.#safety;
    if (!safety.own || !safety.commitment || safety.their || this.safety) return;
    const nonce = fromBase64Url(text);
    const fits = (await commitmentOf(this.#session, nonce)) === safety.commitment;
    if (safety !== this.#safety) return;
    if (fits) safety.their = nonce;
    else this.safety = 'forged';
    await this.#findWords();
  }

  async #findWords() {
    const safety = this.#safety;
    const { own, their } = safety;
    const { localDescription, remoteDescription } = this.#pc ?? {};
    const keys = this.#owner.sealer.keysWith(this.userId);
    if (own && their && keys && localDescription && remoteDescription) {
      const places = await placesOf(
        { userId: this.#owner.selfId, publicKey: keys.own, sdp: localDescription.sdp, nonce: own },
        { userId: this.userId, publicKey: keys.their, sdp: remoteDescription.sdp, nonce: their },
      );
      if (safety !== this.#safety) return;
      this.safety = places;
    }
    this.#owner.onChange(this);
  }

  /** @param {'offer' | 'answer'} kind @param {RTCPeerConnection} pc @param {boolean} restart @param {Partial<Description>} extra */
  #describe(kind, pc, restart, extra) {
    if (pc !== this.#pc || !pc.localDescription) return;
    this.#negotiatedAt = this.#owner.env.now();
    this.#candidatesSent = 0;
    void this.#negotiate(kind, { sdp: pc.localDescription.sdp, session: this.#session, restart, ...extra });
    const held = this.#held ?? [];
    this.#held = null;
    this.#candidatesSent = Math.min(held.length, LIMITS.candidates);
    for (const candidate of held.slice(0, LIMITS.candidates)) void this.#negotiate('ice_candidate', candidate);
  }

  /** @param {NegotiationKind} type @param {Description | Candidate} value */
  async #negotiate(type, value) {
    const payload = await this.#owner.sealer.seal(type, this.userId, value);
    if (this.#over || value.session !== this.#session) return;
    this.#waiting.push({ type, payload });
    if (this.#waiting.length > LIMITS.queue) this.#waiting.shift();
    this.flush();
  }

  /** Sends what waits: through the relay when it reaches them, else on the data channel (PROTOCOL §7). */
  flush() {
    const route = this.#owner.relayRoute(this.userId);
    for (let message = this.#waiting[0]; message; message = this.#waiting[0]) {
      const viaRelay = () => route !== 'down' && this.#owner.sendRelay(this.userId, /** @type {any} */ (message));
      const viaChannel = () => this.#channelCarries() && this.#sendChannel(encode(/** @type {any} */ (message)));
      if (route === 'live' ? !viaRelay() && !viaChannel() : !viaChannel() && !viaRelay()) return;
      this.#waiting.shift();
    }
  }

  /** Whether they can be told anything at all. */
  get reachable() {
    return this.#owner.relayRoute(this.userId) !== 'down' || this.#channelCarries();
  }

  #channelCarries() {
    return this.#channel?.readyState === 'open' && this.deadSince === null;
  }

  /** @param {string} text */
  #sendChannel(text) {
    if (this.#channel?.readyState !== 'open') return false;
    try {
      this.#channel.send(text);
      return true;
    } catch {
      // Its buffer is full, or the message is larger than the other side takes.
      return false;
    }
  }

  /** @param {ChannelMessage | null} message */
  #onChannelMessage(message) {
    if (!message) return;
    switch (message.type) {
      case 'offer':
      case 'answer':
      case 'ice_candidate':
        return this.receive(message.type, message.payload);
      case 'tile':
        this.#theirTile = message;
        return this.limit();
      case 'safety':
        return void this.#onSafety(message.nonce).catch(() => {});
      case 'media_state':
        return this.#owner.onMessage(this, { type: 'media_state', media: readMedia(message.media) });
      default:
        return this.#owner.onMessage(this, message);
    }
  }
}

/** @param {RTCPeerConnection} pc @param {Candidate} candidate */
async function add(pc, { candidate, sdpMid, sdpMLineIndex }) {
  // One that does not fit belongs to a description that was given up; the others are enough.
  await pc.addIceCandidate({ candidate, sdpMid, sdpMLineIndex }).catch(() => {});
}
