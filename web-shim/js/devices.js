// Camera, microphone and speaker: asking for them, choosing among them, and saying in words why one is missing.
// Never asks by itself: every request follows a press, or a permission given earlier.

import { recall, remember, t } from './page.js';

/** @typedef {'audioinput' | 'videoinput' | 'audiooutput'} Kind */
/** @typedef {'audio' | 'video'} Medium */
/** @typedef {{audio?: boolean, video?: boolean}} Wanted */
/** @typedef {{id: string, label: string}} Chosen */
/** @typedef {{key: string, chosen: string, used: string}} Substitute a sentence of the string table and the two devices it names */

/** Asking again after a track ended by itself, so that unplugging and background pauses heal. */
const BUSY_RETRY_MS = 800;
/** A refusal within this time was no person's answer to a prompt. */
const SWIFT_MS = 250;
const MEDIA = /** @type {const} */ (['audio', 'video']);
const SLOT = /** @type {const} */ ({ audio: 'microphone', video: 'camera' });
/** Problems that another look may end, when something was plugged in or let go. */
const CURABLE = new Set(['missing.none', 'missing.busy', 'missing.lost', 'missing.failed']);

export class Devices extends EventTarget {
  /** @type {MediaStreamTrack | null} */
  microphone = null;
  /** @type {MediaStreamTrack | null} */
  camera = null;
  /** What the person wants on, also before a device was asked for. */
  wanted = { audio: recall('microphone', true), video: recall('camera', true) };
  /** The devices chosen by name; the browser's default where nothing was chosen. */
  chosen = chosenBefore();
  /** Why a device is missing, as a key of the string table. @type {Record<Medium, string | null>} */
  problems = { audio: null, video: null };
  /** Where another device is used than the chosen one. @type {Record<Medium | 'speaker', Substitute | null>} */
  substitutes = { audio: null, video: null, speaker: null };
  /** Whether the person or an earlier permission has let us ask. */
  asked = false;
  closed = false;
  /** The device that went away while it was in use. @type {Partial<Record<Medium, string>>} */
  #lostLabels = {};
  /** One request after the other: a choice made while another is on its way must win. @type {Promise<void>} */
  #work = Promise.resolve();
  #listed = () => this.#devicesChanged();

  constructor() {
    super();
    navigator.mediaDevices?.addEventListener('devicechange', this.#listed);
    this.problems.audio = this.problems.video = Devices.impossible;
  }

  /** Why no device can work on this page at all, or null. */
  static get impossible() {
    if (!window.isSecureContext) return 'missing.insecure';
    if (!navigator.mediaDevices?.getUserMedia) return 'missing.unsupported';
    return null;
  }

  /** What the person has let this page use before, or has not. @returns {Promise<Record<Medium, PermissionState>>} */
  static async permissions() {
    const [audio, video] = await Promise.all(['microphone', 'camera'].map(async (name) => {
      try {
        return (await navigator.permissions.query({ name: /** @type {PermissionName} */ (name) })).state;
      } catch {
        return 'prompt';
      }
    }));
    return { audio, video };
  }

  /** What is missing and why, and which device is used instead of a chosen one: sentences. */
  get complaints() {
    const { audio, video } = this.problems;
    const missing = (/** @type {string | null} */ key, /** @type {string} */ what) => (key ? t(key, { what: t(`what.${what}`) }) : '');
    const lines = audio === video ? [missing(audio, 'both')] : [missing(video, 'video'), missing(audio, 'audio')];
    return [...lines, ...Object.values(this.substitutes).map((one) => (one ? t(one.key, one) : ''))].filter(Boolean);
  }

  /** Whether a device that is wanted does not work. */
  get troubled() {
    return MEDIA.some((medium) => this.problems[medium] && this.wanted[medium]);
  }

  /** Whether another try could help on this page. */
  get curable() {
    return this.troubled && !Devices.impossible;
  }

  /** Whether something that is wanted was not asked for yet. */
  get unasked() {
    return MEDIA.some((medium) => this.wanted[medium] && !this[SLOT[medium]] && !this.problems[medium]);
  }

  /** Opens what is wanted and not open yet. Never throws: `problems` says what is missing. @param {Wanted} wanted */
  open(wanted) {
    return this.#next(async () => {
      await this.#open(wanted);
      this.#changed();
    });
  }

  /** @param {() => Promise<void>} step */
  #next(step) {
    this.#work = this.#work.then(() => (this.closed ? undefined : step()));
    return this.#work;
  }

  /** @param {Wanted} wanted */
  async #open(wanted) {
    this.asked = true;
    const need = { audio: Boolean(wanted.audio && !this.microphone), video: Boolean(wanted.video && !this.camera) };
    for (const medium of MEDIA) if (need[medium]) this.problems[medium] = Devices.impossible;
    if (Devices.impossible || (!need.audio && !need.video)) return;
    const may = await Devices.permissions();
    // What is blocked already would take the other one down with it.
    for (const [medium, other] of /** @type {[Medium, Medium][]} */ ([['audio', 'video'], ['video', 'audio']])) {
      if (!need[medium] || !need[other] || may[medium] !== 'denied' || may[other] === 'denied') continue;
      need[medium] = false;
      this.problems[medium] = `blocked.${browser()}`;
    }
    const began = performance.now();
    const error = await this.#request(need);
    if (!error) return;
    const both = need.audio && need.video;
    const byHand = isRefusal(error) && performance.now() - began > SWIFT_MS;
    const after = both && byHand ? await Devices.permissions() : null;
    for (const medium of MEDIA) {
      if (!need[medium]) continue;
      // One of two may be missing or blocked, and the other must still work. After a person's refusal only what is
      // permitted is asked for, so that nobody is prompted twice.
      const again = both && (!after || after[medium] === 'granted');
      this.problems[medium] = problemOf(again ? await this.#request({ [medium]: true }) : error);
    }
  }

  /** Asks the browser and keeps what it gives. @param {Wanted} need @returns {Promise<unknown>} the error, or null */
  async #request(need) {
    const exact = await this.#present(need);
    try {
      this.#take(await navigator.mediaDevices.getUserMedia(constraints(need, exact)), exact);
      return null;
    } catch (error) {
      const single = MEDIA.filter((medium) => need[medium]).length === 1 && (exact.audio ?? exact.video);
      if (!single || !(error instanceof DOMException) || !/^(Overconstrained|NotFound)Error$/.test(error.name)) return error;
    }
    // The chosen one is gone: any other is better than none.
    try {
      this.#take(await navigator.mediaDevices.getUserMedia(constraints(need, {})), {});
      return null;
    } catch (error) {
      return error;
    }
  }

  /**
   * The ids of the chosen devices, without those that are known to be gone. A device that comes back under another id, as after
   * clearing the browser's data, is known by its label.
   * @param {Wanted} need @returns {Promise<Partial<Record<Medium, string>>>}
   */
  async #present(need) {
    const all = (await navigator.mediaDevices.enumerateDevices?.().catch(() => [])) ?? [];
    /** @type {Partial<Record<Medium, string>>} */
    const exact = {};
    for (const medium of MEDIA) {
      const chosen = this.chosen[`${medium}input`];
      if (!need[medium] || !chosen) continue;
      // Before a permission, browsers list devices without their ids.
      const known = all.filter((device) => device.kind === `${medium}input` && device.deviceId);
      const found = known.find((device) => device.deviceId === chosen.id) ?? known.find((device) => device.label && device.label === chosen.label);
      if (found || !known.length) exact[medium] = found?.deviceId ?? chosen.id;
    }
    return exact;
  }

  /** @param {MediaStream} stream @param {Partial<Record<Medium, string>>} exact the devices that were asked for by id */
  #take(stream, exact) {
    for (const track of stream.getTracks()) {
      const medium = /** @type {Medium} */ (track.kind);
      const chosen = this.chosen[`${medium}input`];
      const missed = chosen && chosen.id !== 'default' ? !exact[medium] && (chosen.label || t(`device.${SLOT[medium]}`)) : this.#lostLabels[medium];
      this.problems[medium] = null;
      this.substitutes[medium] = missed && missed !== track.label ? { key: 'device.gone', chosen: missed, used: track.label } : null;
      delete this.#lostLabels[medium];
      if (this.closed || (track.kind === 'video' && !this.wanted.video)) {
        track.stop();
        continue;
      }
      track.onended = () => this.#lost(track);
      if (track.kind === 'audio') {
        track.enabled = this.wanted.audio;
        this.microphone?.stop();
        this.microphone = track;
      } else {
        track.contentHint = 'motion';
        this.camera?.stop();
        this.camera = track;
      }
    }
  }

  /** The system took the device away. @param {MediaStreamTrack} track */
  #lost(track) {
    const medium = MEDIA.find((one) => this[SLOT[one]] === track);
    if (!medium) return;
    this[SLOT[medium]] = null;
    this.#lostLabels[medium] = track.label;
    this.problems[medium] = 'missing.lost';
    this.#changed();
    const again = () => {
      if (!this[SLOT[medium]] && this.wanted[medium]) this.open({ [medium]: true });
    };
    if (document.hidden) document.addEventListener('visibilitychange', again, { once: true });
    else setTimeout(again, BUSY_RETRY_MS);
  }

  /** Something was plugged in or taken away: what was missing is looked for again, where that prompts nobody. */
  async #devicesChanged() {
    this.#changed();
    const missing = (/** @type {Medium} */ medium) => this.wanted[medium] && !this[SLOT[medium]] && CURABLE.has(this.problems[medium] ?? '');
    if (!this.asked || !MEDIA.some(missing)) return;
    const may = await Devices.permissions();
    for (const medium of MEDIA) if (missing(medium) && may[medium] === 'granted') this.open({ [medium]: true });
  }

  /** Keeps what the person wants on, for this visit and the next. @param {Wanted} wanted */
  want(wanted) {
    Object.assign(this.wanted, wanted);
    remember('microphone', this.wanted.audio);
    remember('camera', this.wanted.video);
  }

  /** @param {boolean} on */
  async setMicrophone(on) {
    this.want({ audio: on });
    if (on && !this.microphone) return this.open({ audio: true });
    if (this.microphone) this.microphone.enabled = on;
    if (!on) this.#forgive('audio');
    this.#changed();
  }

  /** Off closes the camera, so that its light goes out. @param {boolean} on */
  async setCamera(on) {
    this.want({ video: on });
    if (on && !this.camera) return this.open({ video: true });
    if (!on) {
      this.camera?.stop();
      this.camera = null;
      this.#forgive('video');
    }
    this.#changed();
  }

  /** What is not wanted is no problem. @param {Medium} medium */
  #forgive(medium) {
    this.problems[medium] = this.substitutes[medium] = null;
  }

  /** @param {Kind} kind @param {string} deviceId */
  async choose(kind, deviceId) {
    const label = (await this.list(kind)).list.find((device) => device.deviceId === deviceId)?.label ?? '';
    const before = this.chosen[kind];
    this.#keepChosen(kind, { id: deviceId, label });
    if (kind !== 'audiooutput') return this.#next(() => this.#swap(kind === 'audioinput' ? 'audio' : 'video', before));
    this.substitutes.speaker = null;
    this.#changed();
  }

  /** @param {Kind} kind @param {Chosen | undefined} chosen */
  #keepChosen(kind, chosen) {
    this.chosen = { ...this.chosen, [kind]: chosen };
    remember('devices', this.chosen);
  }

  /** Goes over to the device that was chosen last; back, when that one does not start. @param {Medium} medium @param {Chosen | undefined} before */
  async #swap(medium, before) {
    const slot = SLOT[medium];
    const chosen = this.chosen[`${medium}input`];
    const old = this[slot];
    const oldId = old?.getSettings().deviceId;
    this.substitutes[medium] = null;
    if (chosen && chosen.id !== oldId && (old || (this.asked && this.wanted[medium]))) {
      // Phones and some drivers open no second device while the first is open.
      old?.stop();
      this[slot] = null;
      await this.#open({ [medium]: true });
      if (!this[slot] && oldId) {
        this.#keepChosen(`${medium}input`, before ?? { id: oldId, label: old?.label ?? '' });
        if (!(await this.#request({ [medium]: true }))) {
          this.substitutes[medium] = { key: 'device.stays', chosen: chosen.label, used: /** @type {MediaStreamTrack | null} */ (this[slot])?.label ?? '' };
        }
      }
    }
    this.#changed();
  }

  /** The devices there are, with the one in use. Names are known only once a permission was given. @param {Kind} kind */
  async list(kind) {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const list = all.filter((device) => device.kind === kind && device.label);
    const inUse = { audioinput: this.microphone, videoinput: this.camera, audiooutput: null }[kind]?.getSettings().deviceId;
    const chosen = [inUse, this.chosen[kind]?.id, 'default'].find((id) => id && list.some((device) => device.deviceId === id));
    return { list, chosen: chosen ?? list[0]?.deviceId ?? '' };
  }

  /** Lets an element play on the chosen speaker, where browsers can. @param {HTMLMediaElement} element */
  async useSpeaker(element) {
    const chosen = this.chosen.audiooutput;
    if (!chosen || !canChooseSpeaker()) return;
    const id = chosen.id === 'default' ? '' : chosen.id;
    // An element that is set to a speaker is content with it, there or gone.
    if (element.sinkId === id) return;
    const gone = await element.setSinkId(id).then(() => false, () => true);
    if (gone === Boolean(this.substitutes.speaker) || chosen !== this.chosen.audiooutput) return;
    // A speaker that is gone leaves the sound on the default one.
    this.substitutes.speaker = gone ? { key: 'device.speakerGone', chosen: chosen.label || t('device.speaker'), used: '' } : null;
    this.#changed();
  }

  close() {
    this.closed = true;
    navigator.mediaDevices?.removeEventListener('devicechange', this.#listed);
    this.microphone?.stop();
    this.camera?.stop();
    this.microphone = this.camera = null;
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}

/** @param {Wanted} need @param {Partial<Record<Medium, string>>} exact Chromium takes an `ideal` id for no wish at all @returns {MediaStreamConstraints} */
function constraints(need, exact) {
  const phone = matchMedia('(pointer: coarse)').matches;
  return {
    audio: Boolean(need.audio) && {
      ...(exact.audio && { deviceId: { exact: exact.audio } }),
      echoCancellation: true, noiseSuppression: true, autoGainControl: true,
    },
    video: Boolean(need.video) && {
      ...(exact.video ? { deviceId: { exact: exact.video } } : phone && { facingMode: 'user' }),
      width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 },
    },
  };
}

/** What was chosen in this browser before; ids alone where an earlier page kept no labels. @returns {Partial<Record<Kind, Chosen>>} */
function chosenBefore() {
  const kept = recall('devices', /** @type {Record<string, unknown>} */ ({}));
  return Object.fromEntries(Object.entries(kept ?? {}).flatMap(([kind, one]) => {
    const { id, label } = /** @type {Partial<Chosen>} */ (typeof one === 'string' ? { id: one } : one ?? {});
    return typeof id === 'string' ? [[kind, { id, label: String(label ?? '') }]] : [];
  }));
}

/** @param {unknown} error */
function isRefusal(error) {
  return error instanceof DOMException && (error.name === 'NotAllowedError' || error.name === 'SecurityError');
}

/** @param {unknown} error @returns {string | null} a key of the string table */
function problemOf(error) {
  if (!error) return null;
  const { name, message } = error instanceof DOMException ? error : { name: '', message: '' };
  if (isRefusal(error)) return /system/i.test(message) ? 'missing.system' : `blocked.${browser()}`;
  if (name === 'NotFoundError' || name === 'OverconstrainedError') return 'missing.none';
  if (name === 'NotReadableError' || name === 'AbortError') return 'missing.busy';
  return 'missing.failed';
}

/** Safari and phones leave the choice to the system. */
export function canChooseSpeaker() {
  return 'setSinkId' in HTMLMediaElement.prototype;
}

/** Which browser's menus to describe. */
function browser() {
  const agent = navigator.userAgent;
  if (/iPhone|iPad/.test(agent)) return 'ios';
  if (/Android/.test(agent)) return 'android';
  if (/Firefox\//.test(agent)) return 'firefox';
  return /Chrome\//.test(agent) ? 'chrome' : 'safari';
}

/** How loud a microphone is. Listens to a copy of the track, so that it hears also while the person is muted. */
export class Meter {
  #context = new AudioContext();
  #track;
  #analyser;
  #samples;

  /** @param {MediaStreamTrack} track */
  constructor(track) {
    this.#track = track.clone();
    this.#track.enabled = true;
    this.#analyser = this.#context.createAnalyser();
    this.#analyser.fftSize = 1024;
    this.#samples = new Float32Array(this.#analyser.fftSize);
    this.#context.createMediaStreamSource(new MediaStream([this.#track])).connect(this.#analyser);
    // Without a press on this page yet, browsers keep the context asleep.
    addEventListener('pointerdown', this.#wake);
    addEventListener('keydown', this.#wake);
  }

  #wake = () => {
    if (this.#context.state !== 'running') this.#context.resume().catch(() => {});
  };

  /** Whether the browser lets us listen yet. */
  get awake() {
    return this.#context.state === 'running';
  }

  /** @returns {number} 0 (silence, −60 dB) to 1 (as loud as it goes) */
  level() {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    const decibel = 10 * Math.log10(sum / this.#samples.length + 1e-9);
    return Math.min(1, Math.max(0, (decibel + 60) / 50));
  }

  close() {
    removeEventListener('pointerdown', this.#wake);
    removeEventListener('keydown', this.#wake);
    this.#track.stop();
    this.#context.close();
  }
}

/** Plays three tones on the chosen speaker. @param {Devices} devices @returns {Promise<void>} after the last tone */
export async function testSpeaker(devices) {
  const context = new AudioContext();
  // An element, because not every browser can send a context's sound to a chosen speaker.
  const out = context.createMediaStreamDestination();
  const audio = new Audio();
  audio.srcObject = out.stream;
  await devices.useSpeaker(audio);
  await Promise.all([context.resume(), audio.play()]);
  for (const [at, pitch] of [[0, 523], [0.25, 659], [0.5, 784]]) {
    const tone = new OscillatorNode(context, { frequency: pitch });
    const gain = new GainNode(context, { gain: 0 });
    const start = context.currentTime + 0.05 + at;
    gain.gain.setTargetAtTime(0.25, start, 0.02);
    gain.gain.setTargetAtTime(0, start + 0.25, 0.12);
    tone.connect(gain).connect(out);
    tone.start(start);
    tone.stop(start + 0.9);
  }
  await new Promise((done) => setTimeout(done, 1500));
  await context.close();
}
