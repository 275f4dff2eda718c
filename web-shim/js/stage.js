// The stage: one tile for each camera and shared screen, one sound for each voice, and what is shown large.
// Never talks to the network: it reads snapshots and tells the call how large it shows whom.

import { gridLayout, pairLayout, spotlightLayout } from './grid.js';
import { h, t } from './page.js';
import { Tile } from './tile.js';

/** @import { Call } from './call.js' */
/** @import { Devices } from './devices.js' */
/** @import { CallSnapshot, RemoteSnapshot } from './types.d.ts' */

/** Linear audio level above which somebody is drawn as speaking. */
const SPEAKING = 0.03;

export class Stage {
  /** @type {Map<string, Tile>} */
  tiles = new Map();
  /** @type {Map<string, HTMLAudioElement>} */
  voices = new Map();
  /** Volumes people chose, 0 to 1, for this visit. @type {Map<string, number>} */
  volumes = new Map();
  /** The key of the tile a person pinned. @type {string | null} */
  pinned = null;
  /** Screens that a person put back among the others. @type {Set<string>} */
  #lowered = new Set();
  speakerView = false;
  /** What a small window outside this page shows. @type {{id: string, kind: string, width: number, height: number} | null} */
  outside = null;
  selfSpeaking = false;
  #lastSpeaker = '';
  /** @type {CallSnapshot | null} */
  #snapshot = null;
  #order = '';

  /**
   * @param {Call} call @param {Devices} devices
   * @param {{blocked: () => void, laidOut: () => void}} on
   */
  constructor(call, devices, on) {
    this.call = call;
    this.devices = devices;
    this.on = on;
    this.alone = h('div', { class: 'alone' });
    this.floor = h('div', { class: 'floor' });
    this.root = h('div', { class: 'stage', role: 'region', 'aria-label': t('call.stage'), tabindex: -1 }, this.floor, this.alone);
    this.root.addEventListener('scroll', () => this.report());
    this.observer = new ResizeObserver(() => this.layOut());
    this.observer.observe(this.root);
    this.onVisible = () => {
      this.report();
      // Phones pause sound and pictures while the page is away.
      if (!document.hidden) this.playAll();
    };
    document.addEventListener('visibilitychange', this.onVisible);
  }

  /** @param {CallSnapshot} snapshot */
  draw(snapshot) {
    this.#snapshot = snapshot;
    const { remotes, media } = snapshot;
    /** @type {Set<string>} */
    const wanted = new Set();
    for (const remote of remotes) {
      this.#drawRemote(remote, snapshot.activeSpeaker === remote.userId);
      wanted.add(remote.userId);
      if (remote.media.screen && remote.link !== 'refused') {
        this.#drawScreen(remote);
        wanted.add(`${remote.userId}/screen`);
      }
    }
    const self = this.#tile('self', snapshot.selfId, 'self');
    wanted.add('self');
    const camera = this.devices.camera;
    const shown = /** @type {MediaStream | null} */ (self.video.srcObject);
    if (shown?.getTracks()[0] !== (camera ?? undefined)) self.attach(camera && new MediaStream([camera]));
    self.draw({
      name: t('tile.self', { name: snapshot.selfName }), self: true, picture: media.video && Boolean(camera), muted: !media.audio,
      hand: media.hand, owner: snapshot.isOwner, speaking: this.selfSpeaking && media.audio, link: 'self',
      veil: camera?.muted ? t('tile.paused') : '',
    });
    for (const [key, tile] of this.tiles) {
      if (wanted.has(key)) continue;
      tile.remove();
      this.tiles.delete(key);
      this.#lowered.delete(key);
      if (this.pinned === key) this.pinned = null;
    }
    for (const [id, voice] of this.voices) {
      if (wanted.has(id)) continue;
      voice.srcObject = null;
      voice.remove();
      this.voices.delete(id);
    }
    if (snapshot.activeSpeaker) this.#lastSpeaker = snapshot.activeSpeaker;
    // The layout is worked out only when who stands where has changed.
    const order = [...wanted, this.spotlight()].join();
    if (order !== this.#order) {
      this.#order = order;
      this.layOut();
    }
  }

  /** @param {RemoteSnapshot} remote @param {boolean} active */
  #drawRemote(remote, active) {
    const tile = this.#tile(remote.userId, remote.userId, 'camera');
    const connected = remote.link === 'connected';
    tile.attach(remote.camera);
    tile.draw({
      name: remote.name, picture: remote.media.video && connected, muted: !remote.media.audio, hand: remote.media.hand, owner: remote.owner,
      recording: remote.media.recording, doubt: doubtOf(remote),
      speaking: connected && remote.media.audio && (active || remote.level > SPEAKING), link: remote.link, veil: veilOf(remote),
    });
    let voice = this.voices.get(remote.userId);
    if (!voice) {
      voice = h('audio', { autoplay: true });
      voice.volume = this.volumes.get(remote.userId) ?? 1;
      voice.srcObject = remote.voice;
      this.voices.set(remote.userId, voice);
      this.root.append(voice);
      this.devices.useSpeaker(voice);
      this.#play(voice);
    }
  }

  /** @param {RemoteSnapshot} remote */
  #drawScreen(remote) {
    const tile = this.#tile(`${remote.userId}/screen`, remote.userId, 'screen');
    tile.attach(remote.screen);
    tile.draw({
      name: t('tile.screen', { name: remote.name }), picture: remote.link === 'connected', muted: false, hand: false, owner: false,
      speaking: false, link: remote.link, veil: veilOf(remote),
    });
  }

  /** @param {string} key @param {string} id @param {'camera' | 'screen' | 'self'} kind */
  #tile(key, id, kind) {
    let tile = this.tiles.get(key);
    if (!tile) {
      tile = new Tile(id, kind, { pin: () => this.pin(key), blocked: () => this.on.blocked(), fullScreen: (which) => fullScreen(which) });
      if (kind === 'screen') {
        tile.video.volume = this.volumes.get(key) ?? 1;
        this.devices.useSpeaker(tile.video);
      }
      this.tiles.set(key, tile);
      this.floor.append(tile.root);
    }
    return tile;
  }

  /** @param {HTMLMediaElement} element */
  #play(element) {
    element.play().catch((/** @type {unknown} */ error) => {
      if (error instanceof DOMException && error.name === 'NotAllowedError') this.on.blocked();
    });
  }

  /** Starts every sound and picture, from a press: browsers may have held them back. */
  playAll() {
    for (const voice of this.voices.values()) this.#play(voice);
    for (const tile of this.tiles.values()) tile.play();
  }

  useSpeaker() {
    for (const voice of this.voices.values()) this.devices.useSpeaker(voice);
    for (const tile of this.tiles.values()) if (tile.kind === 'screen') this.devices.useSpeaker(tile.video);
  }

  /** @param {string} key a participant's id, or with `/screen` its screen @param {number} volume */
  setVolume(key, volume) {
    this.volumes.set(key, volume);
    const element = this.voices.get(key) ?? this.tiles.get(key)?.video;
    if (element) element.volume = volume;
  }

  /** Shows a tile large, or no longer. @param {string} key */
  pin(key) {
    if (this.spotlight() === key) {
      if (key.endsWith('/screen')) this.#lowered.add(key);
      if (this.pinned !== key) this.speakerView = false;
      this.pinned = null;
    } else {
      this.#lowered.delete(key);
      this.pinned = key;
    }
    this.layOut();
  }

  /** @param {boolean} on */
  setSpeakerView(on) {
    this.speakerView = on;
    this.pinned = null;
    this.layOut();
  }

  /** The key of what is shown large: what was pinned, else the newest screen, else who speaks when asked for. */
  spotlight() {
    if (this.pinned && this.tiles.has(this.pinned)) return this.pinned;
    const screens = [...this.tiles.keys()].filter((key) => key.endsWith('/screen') && !this.#lowered.has(key));
    if (screens.length) return screens[screens.length - 1];
    if (!this.speakerView || this.tiles.size < 3) return '';
    if (this.tiles.has(this.#lastSpeaker)) return this.#lastSpeaker;
    return this.#snapshot?.remotes[0]?.userId ?? '';
  }

  layOut() {
    const { clientWidth: width, clientHeight: height } = this.root;
    if (!width || !height) return;
    const spotlight = this.spotlight();
    const keys = [...this.tiles.keys()].filter((key) => key !== 'self' && key !== spotlight);
    const own = this.tiles.has('self') && spotlight !== 'self' ? ['self'] : [];
    const alone = keys.length === 0 && !spotlight;
    const pair = !spotlight && keys.length === 1;
    const order = [...(spotlight ? [spotlight] : []), ...keys, ...own];
    const layout = spotlight ? spotlightLayout(order.length, width, height)
      : pair ? pairLayout(width, height) : gridLayout(order.length, width, height);
    this.root.dataset.layout = spotlight ? 'spotlight' : pair ? 'pair' : alone ? 'alone' : 'grid';
    this.alone.hidden = !alone;
    this.floor.style.height = `${layout.height}px`;
    order.forEach((key, at) => {
      const tile = this.tiles.get(key);
      if (!tile) return;
      tile.pinned = key === spotlight;
      tile.drawPin();
      tile.place(layout.rects[at], at === 0 && (Boolean(spotlight) || pair || alone));
    });
    this.report();
    this.on.laidOut();
  }

  /** Tells the call how large everybody is shown, in device pixels; what cannot be seen counts as 0. */
  report() {
    /** @type {Map<string, {width: number, height: number, screenWidth: number, screenHeight: number}>} */
    const sizes = new Map();
    const top = this.root.scrollTop;
    const bottom = top + this.root.clientHeight;
    for (const tile of this.tiles.values()) {
      if (tile.kind === 'self' || !tile.rect) continue;
      const visible = !document.hidden && tile.rect.y < bottom && tile.rect.y + tile.rect.height > top;
      const outside = this.outside?.id === tile.id && this.outside.kind === tile.kind ? this.outside : null;
      const shown = outside && (!visible || outside.width > tile.rect.width) ? outside : visible ? tile.rect : { width: 0, height: 0 };
      const width = Math.round(shown.width * devicePixelRatio);
      const height = Math.round(shown.height * devicePixelRatio);
      const size = sizes.get(tile.id) ?? { width: 0, height: 0, screenWidth: 0, screenHeight: 0 };
      if (tile.kind === 'screen') Object.assign(size, { screenWidth: width, screenHeight: height });
      else Object.assign(size, { width, height });
      sizes.set(tile.id, size);
    }
    this.call.setTiles(sizes);
  }

  dispose() {
    this.observer.disconnect();
    document.removeEventListener('visibilitychange', this.onVisible);
    for (const tile of this.tiles.values()) tile.remove();
    for (const voice of this.voices.values()) voice.srcObject = null;
  }
}

/** Why somebody may be another person than it seems, or nothing. @param {RemoteSnapshot} remote */
export function doubtOf(remote) {
  return remote.newKey ? t('tile.newKey') : remote.verified || !remote.name ? '' : t('tile.unverified');
}

/** The words over a tile whose person cannot be seen or heard. @param {RemoteSnapshot} remote */
function veilOf(remote) {
  if (remote.link === 'refused') return t(`refused.${remote.refusal ?? 'tampered'}`, { name: remote.name });
  if (remote.trouble) return t(`trouble.${remote.trouble}`, { name: remote.name });
  return remote.link === 'connected' ? '' : t(`link.${remote.link}`);
}

/** @param {Tile} tile */
function fullScreen(tile) {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (tile.root.requestFullscreen) tile.root.requestFullscreen().catch(() => {});
  else /** @type {any} */ (tile.video).webkitEnterFullscreen?.();
}
