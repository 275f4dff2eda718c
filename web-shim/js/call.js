// A call as the view sees it: joins, keeps the roster, the links and the chat together, and tells of changes (snapshot in, events out).
// Never touches the page, never asks for devices, and never closes media because the relay is away.

import { ChatLog } from './chat.js';
import { browserEnvironment } from './environment.js';
import { CallError } from './errors.js';
import { identityFor } from './identity.js';
import { newOwnerToken } from './link.js';
import { Mesh } from './mesh.js';
import { normalPassword } from './password.js';
import { CAMERA, SCREEN } from './peer-link.js';
import { Roster } from './roster.js';
import { Sealer, deriveLinkProof } from './seal.js';
import { Signaling } from './signaling.js';
import { cleanName } from './text.js';
import { canConnect } from './webrtc.js';
import { LIMITS, readChat, readMedia, readName } from './wire.js';

/** @import { CallSnapshot, ChannelMessage, ClientMessage, Environment, JoinOptions, Media, Notice, NegotiationKind, Participant, Payload, RemoteSnapshot, RoomInfo, RoomJoined, RoomSettings, RoomStats, ServerMessage, SignalingState, Tile } from './types.d.ts' */
/** @import { Identity } from './identity.js' */
/** @import { PeerLink } from './peer-link.js' */

const AGENT = 'snug-web/2';
const MICROPHONE = 0;
const SCREEN_SOUND = 3;
/** At most one `change` in this time. */
const CHANGE_MS = 50;
const TILES_MS = 200;
/** A link without packets for so long, to somebody whom the relay does not know to be there, is over. */
const FORGET_MS = 30_000;
/** The half-second tick came this late: the machine slept. */
const SLEPT_MS = 5000;
/** After these the call is over although links may still carry media. */
const FOR_GOOD = new Set(['KICKED', 'REPLACED', 'CALL_ENDED']);
/** Not said to an owner. */
const SAID_TO_GUESTS = new Set(['AUTH_REQUIRED', 'AUTH_FAILED', 'ROOM_LOCKED', 'ROOM_FULL']);

/**
 * Events: `change` (the snapshot is another one), `notice` (detail: Notice), `ended` (detail: CallEnd).
 */
export class Call extends EventTarget {
  #options;
  #env;
  #signaling;
  #self;
  #chat = new ChatLog();
  /** Everybody who was here: who comes with the same key again is back. @type {Set<string>} */
  #met = new Set();
  /** @type {string | null} */
  #linkProof = null;
  /** @type {string | null} */
  #password;
  /** What may be the owner's token; the first one goes with the next join, and is the owner's while `#isOwner`. @type {string[]} */
  #tokens;
  #isOwner = false;
  /** @type {RoomInfo | null} */
  #room = null;
  /** @type {SignalingState} */
  #state = 'connecting';
  #joined = false;
  #over = false;
  /** Why the relay will not have us back, while links still carry the call. @type {CallError | null} */
  #ending = null;
  #waiting = false;
  /** Who waits in the lobby. @type {Map<string, { userId: string, name: string }>} */
  #knocks = new Map();
  #media = readMedia({});
  /** What the relay tells the others of us. */
  #relayMedia = readMedia({});
  #audioEnabled = true;
  /** When to ask for TURN credentials by ourselves. */
  #refreshAt = Infinity;
  /** @type {Map<string, Tile> | null} */
  #tiles = null;
  /** @type {{ change?: ReturnType<typeof setTimeout>, tiles?: ReturnType<typeof setTimeout> }} */
  #timers = {};
  /** @type {CallSnapshot | null} */
  #snapshot = null;
  #stopListening;

  /** @param {JoinOptions} options @param {Partial<Environment>} [environment] for tests */
  constructor(options, environment = {}) {
    super();
    this.#options = options;
    this.#env = { ...browserEnvironment(), ...environment };
    this.#password = options.password;
    this.#tokens = [...options.ownerTokens];
    this.#self = this.#become(options.identity);
    this.#signaling = this.#connect();
    this.#stopListening = this.#env.onNetworkHint((hint) => {
      if (!this.#joined) return;
      this.#signaling.probe(hint === 'moved');
      if (hint === 'moved') this.#self.mesh.restartAll();
    });
    this.setMicrophone(options.microphone);
    this.setCamera(options.camera);
  }

  /**
   * @param {{ password?: string | null, asksPassword?: boolean }} [again] the answer to `AUTH_FAILED` or `AUTH_REQUIRED`, and whether the room is known to have one
   * @returns {Promise<void>} rejects with a CallError
   */
  async join({ password, asksPassword } = {}) {
    const { link } = this.#options;
    if (link.damaged) throw new CallError('LINK_INCOMPLETE');
    // The others would wait for us in vain.
    if (!canConnect(this.#env.RTCPeerConnection)) throw new CallError('NO_WEBRTC');
    const typed = password === undefined ? this.#password : password;
    this.#password = typed ? normalPassword(typed) : null;
    if (link.secret) this.#linkProof ??= await deriveLinkProof(link.secret, link.roomId);
    for (let tried = 1; ; tried += 1) {
      try {
        return await this.#signaling.join(asksPassword);
      } catch (error) {
        this.#waiting = false;
        if (!(error instanceof CallError) || !SAID_TO_GUESTS.has(error.code) || this.#tokens.length < 2) throw error;
        this.#tokens.push(/** @type {string} */ (this.#tokens.shift()));
        if (tried >= this.#tokens.length) throw error;
      }
    }
  }

  /**
   * Asks the relay to have us back after `snapshot.refused`; the links go on meanwhile.
   * @param {{ password?: string }} [again]
   */
  async rejoin({ password } = {}) {
    this.#ending = null;
    this.#state = 'reconnecting';
    this.#signaling = this.#connect();
    this.#changed();
    try {
      await this.join(password === undefined ? {} : { password });
    } catch (error) {
      if (!this.#over) this.#onEnded(/** @type {CallError} */ (error));
    }
  }

  #connect() {
    return new Signaling({
      url: `${this.#env.origin.replace(/^http/, 'ws')}/ws`,
      env: this.#env,
      agent: AGENT,
      owner: {
        joinMessage: (nonce) => this.#joinMessage(nonce),
        onTicketInvalid: () => this.#onTicketInvalid(),
        onState: (state) => {
          this.#state = state;
          this.#changed();
        },
        acceptsSeat: (message) => this.#acceptsSeat(message),
        onJoined: (message) => this.#onJoined(message),
        onResumed: () => this.#onResumed(),
        onMessage: (message) => this.#onMessage(message),
        onEnded: (error) => this.#onEnded(error),
      },
    });
  }

  /** @param {Identity} identity */
  #become(identity) {
    const id = identity.userId;
    const { roomId, secret } = this.#options.link;
    const sealer = new Sealer({ secret, roomId, identity });
    const roster = new Roster(sealer);
    const mesh = new Mesh({
      env: this.#env,
      selfId: id,
      sealer,
      owner: {
        media: () => this.#media,
        relayRoute: (userId) => {
          const member = roster.members.get(userId);
          return !this.#signaling.online || !member?.listed ? 'down' : member.away ? 'away' : 'live';
        },
        sendRelay: (targetId, message) => this.#signaling.send({ ...message, targetId }),
        onMessage: (link, message) => this.#onLinkMessage(link, message),
        onOpen: () => this.#sendTiles(),
        onChange: (link) => this.#onLinkChange(link),
        onTick: (slept) => this.#onTick(slept),
        onHush: () => this.#signaling.probe(true),
      },
    });
    const before = this.#self?.mesh.tracks ?? [];
    before.forEach((track, slot) => mesh.setTrack(slot, track));
    return { id, identity, sealer, roster, mesh };
  }

  /** The session that the ticket was for is over, and with it who we were; during a call the others still know us. */
  async #onTicketInvalid() {
    const { identity, mesh } = this.#self;
    identity.setTicket(null);
    if (this.#joined) return;
    identity.forget();
    mesh.leave();
    this.#self = this.#become(await identityFor(this.#options.link.roomId, true));
  }

  // Our own sources.

  /** @param {MediaStreamTrack | null} track */
  setMicrophone(track) {
    if (track) track.enabled = this.#audioEnabled;
    this.#self.mesh.setTrack(MICROPHONE, track);
    this.#setMedia({ audio: track !== null && this.#audioEnabled });
  }

  /** @param {boolean} enabled */
  setAudioEnabled(enabled) {
    this.#audioEnabled = enabled;
    this.setMicrophone(this.#self.mesh.tracks[MICROPHONE] ?? null);
  }

  /** @param {MediaStreamTrack | null} track */
  setCamera(track) {
    this.#self.mesh.setTrack(CAMERA, track);
    this.#setMedia({ video: track !== null });
  }

  /** Shares a captured screen until it ends, `stopScreen` is called or the owner forbids it. @param {MediaStream} stream */
  startScreen(stream) {
    this.stopScreen();
    const [picture] = stream.getVideoTracks();
    if (!picture || this.#room?.allowScreenShare === false) return stream.getTracks().forEach((track) => track.stop());
    picture.contentHint ||= 'detail';
    picture.addEventListener('ended', () => this.#self.mesh.tracks[SCREEN] === picture && this.stopScreen());
    this.#self.mesh.setTrack(SCREEN, picture);
    this.#self.mesh.setTrack(SCREEN_SOUND, stream.getAudioTracks()[0] ?? null);
    return this.#setMedia({ screen: true });
  }

  stopScreen() {
    for (const slot of [SCREEN, SCREEN_SOUND]) {
      this.#self.mesh.tracks[slot]?.stop();
      this.#self.mesh.setTrack(slot, null);
    }
    this.#setMedia({ screen: false });
  }

  /** @param {boolean} raised */
  setHand(raised) {
    this.#setMedia({ hand: raised });
  }

  /** @param {Partial<Media>} change */
  #setMedia(change) {
    const media = { ...this.#media, ...change };
    if (JSON.stringify(media) === JSON.stringify(this.#media)) return;
    this.#media = media;
    this.#syncMedia();
    this.#self.mesh.broadcast({ type: 'media_state', media });
    this.#changed();
  }

  /** Brings the relay to what is true. */
  #syncMedia() {
    for (const source of /** @type {const} */ (['audio', 'video', 'screen', 'hand'])) {
      const enabled = this.#media[source];
      if (this.#relayMedia[source] !== enabled && this.#signaling.send({ type: `toggle_${source}`, enabled })) this.#relayMedia[source] = enabled;
    }
  }

  /** How large the view shows each remote, in device pixels. @param {Map<string, Tile>} tiles */
  setTiles(tiles) {
    this.#tiles = tiles;
    this.#timers.tiles ??= setTimeout(() => this.#sendTiles(), TILES_MS);
  }

  #sendTiles() {
    clearTimeout(this.#timers.tiles);
    delete this.#timers.tiles;
    if (this.#tiles) this.#self.mesh.sendTiles(this.#tiles);
  }

  /** @param {string} text */
  async sendChat(text) {
    const { id, sealer, mesh } = this.#self;
    for (const payload of this.#chat.compose(text)) {
      this.#chat.add(payload, { fromId: id, name: this.#name, own: true });
      this.#changed();
      const message = /** @type {const} */ ({ type: 'chat', payload: await sealer.seal('chat', '*', payload) });
      for (const link of mesh.links.values()) link.sendChat(message);
    }
  }

  // The owner's requests.

  /** @param {string} password @param {string} [hint] shown after a failed try */
  async setPassword(password, hint) {
    const normal = normalPassword(password);
    await this.#signaling.request({ type: 'set_room_password', password: normal, ...(hint && { hint }) });
    this.#password = normal;
  }

  async clearPassword() {
    await this.#signaling.request({ type: 'clear_room_password' });
  }

  /** @param {boolean} locked */
  async lock(locked) {
    await this.#signaling.request({ type: 'lock_room', locked });
  }

  /** @param {string} userId */
  async kick(userId) {
    await this.#signaling.request({ type: 'kick', targetId: userId });
  }

  /** @param {RoomSettings} settings */
  async updateSettings(settings) {
    await this.#signaling.request({ type: 'update_settings', ...settings });
  }

  /** Whom the owner removed may come back. */
  async unban() {
    await this.#signaling.request({ type: 'unban' });
  }

  /** For everybody. */
  async endCall() {
    await this.#signaling.request({ type: 'end_call' });
  }

  /** Their microphone goes off, and they are told by whom. @param {string} userId */
  askMute(userId) {
    this.#signaling.send({ type: 'ask_mute', targetId: userId });
  }

  /** Decides about somebody in the lobby. @param {string} userId @param {boolean} admitted */
  admit(userId, admitted) {
    this.#signaling.send({ type: 'admit', targetId: userId, admitted });
    this.#knocks.delete(userId);
    this.#changed();
  }

  /** @returns {Promise<string>} the new token; the old one is dead */
  async rotateOwnerToken() {
    await this.#signaling.request({ type: 'rotate_owner_token' });
    return this.#tokens[0] ?? '';
  }

  /** @returns {Promise<RoomStats>} */
  async getStats() {
    const answer = await this.#signaling.request({ type: 'get_stats' });
    if (answer.type !== 'room_stats') throw new CallError('BAD_MESSAGE');
    const { createdAt, lastUsed, totalSessions, totalDurationSeconds } = answer;
    return { createdAt, lastUsed, totalSessions, totalDurationSeconds };
  }

  /** Reconnects at once, and looks for new paths to everybody who is not heard. */
  retryNow() {
    this.#signaling.retryNow();
    for (const link of this.#self.mesh.links.values()) if (!link.connected) void link.recover();
  }

  leave() {
    this.#stop();
    this.#self.mesh.leave();
    this.#signaling.leave();
    const { identity } = this.#self;
    // Nobody has met us yet, and the ticket of an earlier run may still be needed.
    if (this.#joined) identity.forget();
    else identity.release();
  }

  /** The page is closed or loaded again: the seat and who we are stay for a moment, and others see us away. */
  suspend() {
    this.#stop();
    this.#signaling.suspend();
  }

  #stop() {
    this.#over = true;
    this.#stopListening();
    clearTimeout(this.#timers.change);
    clearTimeout(this.#timers.tiles);
  }

  // The relay.

  /** @param {string} nonce @returns {Promise<Extract<ClientMessage, { type: 'join_room' }>>} */
  async #joinMessage(nonce) {
    const { identity, sealer } = this.#self;
    const { roomId } = this.#options.link;
    const [displayName, keyProof] = await Promise.all([sealer.seal('name', '*', { name: this.#name }), identity.prove(nonce, roomId)]);
    this.#relayMedia = { ...this.#media };
    // The join may make the room. Drawn here, its token is not lost with the relay's answer.
    if (!this.#tokens.length) this.#tokens.push(newOwnerToken());
    return {
      type: 'join_room',
      roomId,
      publicKey: identity.publicKey,
      keyProof,
      displayName,
      media: this.#media,
      ...(this.#password && { password: this.#password }),
      ...(this.#linkProof && { linkProof: this.#linkProof }),
      ...(this.#options.creationKey && { creationKey: this.#options.creationKey }),
      ownerToken: this.#tokens[0],
      // A ticket says whose room it is, too: with it no answer would tell which of several tokens is the owner's.
      ...(identity.ticket && this.#tokens.length < 2 && { ticket: identity.ticket }),
    };
  }

  get #name() {
    return cleanName(this.#options.name);
  }

  /** Whether no other token is left to try for being the owner. @param {RoomJoined} message */
  #acceptsSeat({ isOwner, ownerToken }) {
    if (isOwner) this.#tokens = [ownerToken ?? this.#tokens[0]];
    else this.#tokens.shift();
    return isOwner || !this.#tokens.length;
  }

  /** @param {RoomJoined} message */
  #onJoined(message) {
    const { identity, roster, mesh } = this.#self;
    identity.setTicket(message.ticket);
    const first = !this.#joined;
    this.#joined = true;
    this.#waiting = false;
    this.#knocks.clear();
    this.#room = message.roomInfo;
    this.#isOwner = message.isOwner;
    this.#takeIceServers(message);
    roster.unlistAll();
    for (const participant of message.participants) this.#onParticipant(participant, { newer: true, announce: !first });
    // Whom the relay does not name has not returned yet as long as its link lives.
    for (const userId of roster.members.keys()) if (!mesh.links.has(userId)) roster.members.delete(userId);
    this.#syncMedia();
    this.#changed();
  }

  #onResumed() {
    const { roster, mesh } = this.#self;
    for (const { userId, listed } of roster.members.values()) {
      const link = mesh.links.get(userId);
      if (link) void link.recover();
      else if (listed) mesh.open(userId, true);
    }
    this.#syncMedia();
    if (this.#env.now() > this.#refreshAt) this.#signaling.send({ type: 'turn_credentials' });
    this.#changed();
  }

  /** @param {{ iceServers: RoomJoined['iceServers'], iceTtlSeconds: number }} message */
  #takeIceServers({ iceServers, iceTtlSeconds }) {
    this.#refreshAt = this.#env.now() + iceTtlSeconds * 750;
    this.#self.mesh.setIceServers(iceServers);
  }

  /**
   * Somebody is in the room: as we came, or because they came.
   * @param {Participant} participant @param {{ newer: boolean, announce: boolean }} how
   */
  async #onParticipant(participant, { newer, announce }) {
    const { id, sealer, roster, mesh } = this.#self;
    if (participant.userId === id) return;
    const known = mesh.links.get(participant.userId);
    // More than any room holds: a relay that makes people up must not make us build a connection to each.
    if (!known && mesh.links.size >= LIMITS.participants) return;
    const member = roster.put(participant);
    const link = mesh.open(participant.userId, newer);
    if (known && newer) void known.recover();
    else known?.flush();
    const run = sealer.runOf(participant.userId);
    const problem = await roster.openName(member, participant);
    const restarted = run !== '' && sealer.runOf(participant.userId) !== run;
    // An old name that comes again says nothing against its owner; a name that is not sealed as ours says it all.
    if (problem && problem !== 'replayed' && problem !== 'outdated') link.refuse(problem);
    else if (announce && (!known || restarted)) this.#notice(this.#met.has(member.userId) ? 'back' : 'joined', member);
    // What was refused came before they started anew.
    if (restarted && known?.refusal) {
      mesh.close(member.userId);
      mesh.open(member.userId, newer);
    }
    this.#met.add(member.userId);
    this.#changed();
  }

  /** @param {ServerMessage} message */
  #onMessage(message) {
    const { roster, mesh } = this.#self;
    switch (message.type) {
      case 'user_joined':
        return void this.#onParticipant(message.participant, { newer: false, announce: true });
      case 'user_away':
      case 'user_back': {
        const member = roster.members.get(message.userId);
        if (!member) return;
        member.away = message.type === 'user_away';
        this.#notice(member.away ? 'away' : 'back', member);
        if (!member.away) (mesh.links.get(message.userId) ?? mesh.open(message.userId, false)).flush();
        return this.#changed();
      }
      case 'user_left':
        return this.#remove(message.userId, message.reason === 'kicked' ? 'kicked' : 'left');
      case 'offer_received':
      case 'answer_received':
      case 'ice_candidate_received': {
        const kind = /** @type {NegotiationKind} */ (message.type.replace('_received', ''));
        const known = mesh.links.get(message.fromId) ?? (roster.members.has(message.fromId) ? mesh.open(message.fromId, false) : null);
        return known?.receive(kind, message.payload);
      }
      case 'peer_state':
        return this.#onMedia(message.userId, readMedia(message.media));
      case 'peer_name': {
        const member = roster.members.get(message.userId);
        return void (member && roster.openName(member, message).then(() => this.#changed()));
      }
      case 'waiting':
        this.#waiting = true;
        return this.#changed();
      case 'knock':
        return void this.#onKnock(message);
      case 'knock_gone':
        this.#knocks.delete(message.userId);
        return this.#changed();
      case 'mute_requested': {
        const member = roster.members.get(message.fromId);
        if (!member || !this.#media.audio) return;
        this.setAudioEnabled(false);
        return this.#notice('muteAsked', member);
      }
      case 'owner_changed':
        for (const member of roster.members.values()) member.owner = member.userId === message.userId;
        this.#isOwner = message.userId === this.#self.id;
        return this.#changed();
      case 'room_updated':
        this.#room = message.roomInfo;
        if (!message.roomInfo.allowScreenShare && this.#media.screen) this.stopScreen();
        return this.#changed();
      case 'turn_credentials':
        return this.#takeIceServers(message);
      case 'owner_token':
        this.#tokens = [message.ownerToken];
        return this.#changed();
      case 'error':
        return message.code === 'SCREEN_SHARE_DISABLED' ? this.stopScreen() : undefined;
      default:
        return undefined;
    }
  }

  /** @param {{ userId: string, publicKey: string, displayName: Payload }} guest */
  async #onKnock({ userId, publicKey, displayName }) {
    const { sealer } = this.#self;
    const knock = { userId, name: '' };
    if (this.#knocks.size >= LIMITS.participants) return;
    this.#knocks.set(userId, knock);
    try {
      await sealer.introduce(userId, publicKey);
      knock.name = cleanName(readName(await sealer.open('name', userId, '*', displayName)) ?? '');
    } catch {
      // Who cannot say a name that opens knocks without one.
    }
    if (this.#knocks.get(userId) !== knock) return;
    this.#notice('knock', knock);
    this.#changed();
  }

  /** @param {CallError} error */
  #onEnded(error) {
    this.#ending = error;
    this.#changed();
    if (FOR_GOOD.has(error.code) || !this.#self.mesh.anyConnected) this.#finish(error);
  }

  /** @param {CallError} error */
  #finish(error) {
    if (this.#over) return;
    this.leave();
    this.dispatchEvent(new CustomEvent('ended', { detail: error }));
  }

  // The links.

  /** @param {PeerLink} link @param {Extract<ChannelMessage, { type: 'chat' | 'media_state' | 'bye' }>} message */
  #onLinkMessage(link, message) {
    if (message.type === 'bye') this.#remove(link.userId, 'left');
    else if (message.type === 'media_state') this.#onMedia(link.userId, message.media);
    else void this.#onChat(link.userId, message.payload);
  }

  /** @param {string} userId @param {Payload} payload */
  async #onChat(userId, payload) {
    const { sealer, roster } = this.#self;
    const opened = await sealer.open('chat', userId, '*', payload).catch(() => null);
    const chat = readChat(opened);
    const member = roster.members.get(userId);
    if (!chat || !member || !this.#chat.add(chat, { fromId: userId, name: member.name, own: false })) return;
    this.#notice('chat', member);
    this.#changed();
  }

  /** @param {string} userId @param {Media} media */
  #onMedia(userId, media) {
    const { roster } = this.#self;
    const told = roster.setMedia(userId, media);
    const member = roster.members.get(userId);
    if (member) for (const kind of told) this.#notice(kind, member);
    this.#changed();
  }

  /** @param {PeerLink | null} link */
  #onLinkChange(link) {
    const member = link && this.#self.roster.members.get(link.userId);
    if (member && link.state === 'refused') this.#notice('refused', member);
    // Perhaps it is our own network that is gone: then the relay's silence shows it soonest.
    if (link?.state === 'interrupted') this.#signaling.probe();
    this.#changed();
  }

  /** @param {number} slept */
  #onTick(slept) {
    const { roster, mesh } = this.#self;
    if (slept > SLEPT_MS) {
      this.#signaling.probe();
      mesh.recoverAll();
    }
    if (this.#ending && !mesh.anyConnected) return this.#finish(this.#ending);
    const now = this.#env.now();
    for (const link of mesh.links.values()) {
      if (link.deadSince === null || now - link.deadSince < FORGET_MS) continue;
      const member = roster.members.get(link.userId);
      // While the relay is away, a dead link alone does not tell whose network failed; a second one that lives does.
      const absent = this.#signaling.online ? !member?.listed || member.away : mesh.anyConnected;
      if (absent) this.#remove(link.userId, 'left');
    }
  }

  /** @param {string} userId @param {'left' | 'kicked'} kind */
  #remove(userId, kind) {
    const { roster, mesh } = this.#self;
    const member = roster.members.get(userId);
    mesh.close(userId);
    if (!member) return;
    // Without the relay nobody is known to have left for good: a resumed seat does not list the others again.
    if (this.#signaling.online) roster.members.delete(userId);
    this.#notice(kind, member);
    this.#changed();
  }

  // What the view gets.

  /** @param {Notice['kind']} kind @param {{ userId: string, name: string }} member */
  #notice(kind, { userId, name }) {
    /** @type {Notice} */
    const detail = { kind, userId, name };
    this.dispatchEvent(new CustomEvent('notice', { detail }));
  }

  #changed() {
    this.#snapshot = null;
    if (this.#over) return;
    this.#timers.change ??= setTimeout(() => {
      delete this.#timers.change;
      this.dispatchEvent(new Event('change'));
    }, CHANGE_MS);
  }

  /** @returns {CallSnapshot} */
  get snapshot() {
    return (this.#snapshot ??= {
      signaling: this.#state,
      refused: this.#ending,
      waiting: this.#waiting,
      knocks: this.#isOwner || this.#room?.admission === 'anyone' ? [...this.#knocks.values()] : [],
      selfId: this.#self.id,
      selfName: this.#name,
      isOwner: this.#isOwner,
      ownerToken: this.#isOwner ? this.#tokens[0] : null,
      room: this.#room,
      sealed: this.#options.link.secret !== null,
      media: this.#media,
      remotes: this.#remotes(),
      activeSpeaker: this.#self.mesh.speaker,
      chat: [...this.#chat.messages],
    });
  }

  /** @returns {RemoteSnapshot[]} */
  #remotes() {
    const { roster, mesh } = this.#self;
    return [...roster.members.values()].flatMap(({ userId, name, media, away, owner, verified, newKey, capabilities }) => {
      const link = mesh.links.get(userId);
      if (!link) return [];
      const { state, refusal, level, voice, camera, screen, safety } = link;
      return [{ userId, name, media, away, owner, verified, newKey, capabilities, safety, link: state, refusal, trouble: away ? null : link.trouble, ...link.quality.health, level: media.audio ? level : 0, voice, camera, screen }];
    });
  }
}
