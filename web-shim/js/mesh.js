// All links of this participant: opens and closes them, gives each our tracks, and looks after them with one timer.
// Never talks to the relay itself and never decides who is in the room.

import { PeerLink } from './peer-link.js';
import { SpeakerPicker } from './quality.js';

/** @import { ChannelMessage, Environment, IceServer, Media, Tile } from './types.d.ts' */
/** @import { LinkOwner } from './peer-link.js' */
/** @import { Sealer } from './seal.js' */
/**
 * @typedef {object} MeshOwner
 * @property {() => Media} media
 * @property {LinkOwner['relayRoute']} relayRoute
 * @property {LinkOwner['sendRelay']} sendRelay
 * @property {LinkOwner['onMessage']} onMessage
 * @property {LinkOwner['onOpen']} onOpen
 * @property {(link: PeerLink | null) => void} onChange a link's state, or of any link the level or health
 * @property {(sleptMs: number) => void} onTick every half second
 * @property {() => void} onHush nothing comes from anybody any more
 */

const TICK_MS = 250;
/** In ticks. */
const WATCH_EVERY = 2;
const POLL_EVERY = 8;
const POLL_HIDDEN_EVERY = 40;
/** After one link was given a larger picture, the others wait to see: they may share one uplink. */
const RISE_MS = 3000;
const LATE_MS = 1000;
/** When nothing has come from anybody for so long, it is probably our own network: browsers notice only after five seconds. */
const HUSH_MS = 1000;

export class Mesh {
  /** @type {Map<string, PeerLink>} */
  links = new Map();
  /** @type {(MediaStreamTrack | null)[]} */
  tracks = [null, null, null, null];
  /** @type {IceServer[]} */
  iceServers = [];
  /** @type {string | null} */
  speaker = null;
  #picker = new SpeakerPicker();
  #ticks = 0;
  #hushed = false;
  #steers = false;
  #roseAt = -Infinity;
  #lastWatch;
  #timer;

  /** @param {{ env: Environment, selfId: string, sealer: Sealer, owner: MeshOwner }} options */
  constructor({ env, selfId, sealer, owner }) {
    this.env = env;
    this.selfId = selfId;
    this.sealer = sealer;
    this.media = owner.media;
    this.relayRoute = owner.relayRoute;
    this.sendRelay = owner.sendRelay;
    this.onMessage = owner.onMessage;
    this.onOpen = owner.onOpen;
    this.onChange = owner.onChange;
    this.onTick = owner.onTick;
    this.onHush = owner.onHush;
    this.#lastWatch = env.now();
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /**
   * The link to a participant, made when there is none.
   * @param {string} userId @param {boolean} newer whether we came after them, and so offer
   */
  open(userId, newer) {
    let link = this.links.get(userId);
    if (!link) {
      link = new PeerLink(this, userId, newer);
      this.links.set(userId, link);
      if (newer) link.start();
    }
    link.newer = newer;
    return link;
  }

  /** @param {string} userId */
  close(userId) {
    this.links.get(userId)?.close();
    this.links.delete(userId);
  }

  /** @param {number} slot @param {MediaStreamTrack | null} track */
  setTrack(slot, track) {
    if (this.tracks[slot] === track) return;
    this.tracks[slot] = track;
    for (const link of this.links.values()) void link.replaceTrack(slot);
  }

  /** @param {IceServer[]} iceServers */
  setIceServers(iceServers) {
    this.iceServers = iceServers;
    for (const link of this.links.values()) link.setIceServers(iceServers);
  }

  /** Our address has changed: every path is in doubt. */
  restartAll() {
    for (const link of this.links.values()) if (link.reachable) link.restart();
  }

  /** The relay is back, or the machine woke: only what is dead is restarted. */
  recoverAll() {
    for (const link of this.links.values()) void link.recover();
  }

  /** @param {ChannelMessage} message */
  broadcast(message) {
    for (const link of this.links.values()) link.send(message);
  }

  /** @param {Map<string, Tile>} tiles */
  sendTiles(tiles) {
    for (const [userId, link] of this.links) {
      const { width = 0, height = 0, screenWidth = 0, screenHeight = 0 } = tiles.get(userId) ?? {};
      link.sendTile({ width, height, screenWidth, screenHeight });
    }
  }

  get anyConnected() {
    return [...this.links.values()].some((link) => link.connected);
  }

  /** Says goodbye to all. */
  leave() {
    clearInterval(this.#timer);
    for (const link of this.links.values()) link.close(true);
    this.links.clear();
  }

  #tick() {
    this.#ticks += 1;
    this.#listen();
    void this.#steer();
    if (this.#ticks % WATCH_EVERY === 0) {
      const now = this.env.now();
      const slept = now - this.#lastWatch;
      this.#lastWatch = now;
      this.onTick(slept);
      for (const link of this.links.values()) link.watch(now, link.reachable);
    }
    if (this.#ticks % (this.env.isHidden() ? POLL_HIDDEN_EVERY : POLL_EVERY) === 0) void this.#poll();
  }

  #listen() {
    let changed = false;
    for (const link of this.links.values()) changed = link.listen() || changed;
    const levels = [...this.links].map(([userId, link]) => /** @type {[string, number]} */ ([userId, link.level]));
    const before = this.speaker;
    this.speaker = this.#picker.update(levels, this.env.now());
    if (changed || before !== this.speaker) this.onChange(null);
    const hushes = [...this.links.values()].map((link) => link.hush).filter((hush) => hush !== null);
    const hushed = hushes.length > 0 && Math.min(...hushes) > HUSH_MS;
    if (hushed && !this.#hushed) this.onHush();
    this.#hushed = hushed;
  }

  /** One link after the other, so that each sees what the one before it has taken. */
  async #steer() {
    if (this.#steers) return;
    this.#steers = true;
    for (const link of this.links.values()) {
      const now = this.env.now();
      let timer;
      // A connection that is closed meanwhile may leave its statistics unanswered.
      const late = new Promise((done) => { timer = setTimeout(done, LATE_MS, false); });
      try {
        if (await Promise.race([this.#steerOne(link, now), late])) this.#roseAt = now;
      } catch {
        // It keeps what it has until it is steered again.
      }
      clearTimeout(timer);
    }
    this.#steers = false;
  }

  /** @param {PeerLink} link @param {number} now */
  async #steerOne(link, now) {
    const links = [...this.links.values()];
    // What the best of them carries is the least that the uplink has.
    const uplink = Math.max(...links.map(({ steering }) => steering.budget ?? 0));
    const left = uplink - links.reduce((sum, { floor }) => sum + floor, 0);
    const settled = now - this.#roseAt > RISE_MS && !links.some(({ steering, floor }) => floor && steering.bad);
    return link.steer(left, settled);
  }

  async #poll() {
    const links = [...this.links.values()];
    await Promise.all(links.map((link) => link.poll()));
    if (links.length > 0) this.onChange(null);
  }
}
