// Camera, microphone and speaker: asking for them, choosing among them, and saying in words why one is missing.
// Never asks by itself: every request follows a press, or a permission given earlier.

import { recall, remember } from './page.js';

/** @typedef {'audioinput' | 'videoinput' | 'audiooutput'} Kind */
/** @typedef {{audio?: boolean, video?: boolean}} Wanted */

/** Asking again after a track ended by itself, so that unplugging and background pauses heal. */
const BUSY_RETRY_MS = 800;

export class Devices extends EventTarget {
  /** @type {MediaStreamTrack | null} */
  microphone = null;
  /** @type {MediaStreamTrack | null} */
  camera = null;
  /** What the person wants on, also before a device was asked for. */
  wanted = { audio: recall('microphone', true), video: recall('camera', true) };
  /** The devices chosen by name; the browser's default where nothing was chosen. @type {Partial<Record<Kind, string>>} */
  chosen = recall('devices', {});
  /** Why the last request failed, as a key of the string table. @type {string | null} */
  problem = null;
  /** Whether the person or an earlier permission has let us ask. */
  asked = false;
  closed = false;
  #listed = () => this.#changed();

  constructor() {
    super();
    navigator.mediaDevices?.addEventListener('devicechange', this.#listed);
  }

  /** Why no device can work on this page at all, or null. */
  static get impossible() {
    if (!window.isSecureContext) return 'device.insecure';
    if (!navigator.mediaDevices?.getUserMedia) return 'device.unsupported';
    return null;
  }

  /** Which devices the person has let this page use before. @returns {Promise<{audio: boolean, video: boolean}>} */
  static async permitted() {
    const [audio, video] = await Promise.all(['microphone', 'camera'].map(async (name) => {
      try {
        return (await navigator.permissions.query({ name: /** @type {PermissionName} */ (name) })).state;
      } catch {
        return 'prompt';
      }
    }));
    return { audio: audio === 'granted', video: video === 'granted' };
  }

  /** Opens what is wanted and not open yet. Never throws: `problem` says what is missing. @param {Wanted} wanted */
  async open(wanted) {
    this.asked = true;
    this.problem = Devices.impossible;
    const need = { audio: Boolean(wanted.audio && !this.microphone), video: Boolean(wanted.video && !this.camera) };
    if (!this.problem && (need.audio || need.video)) {
      try {
        this.#take(await this.#request(need));
      } catch (error) {
        this.problem = problemOf(error, need);
        if (need.audio && need.video) await this.#openSingly(error);
      }
    }
    this.#changed();
  }

  /** One of two devices may be missing or blocked: the other must still work. @param {unknown} error of the request for both */
  async #openSingly(error) {
    // After a refusal only what is already permitted is asked for, so that nobody is prompted twice.
    const refused = error instanceof DOMException && error.name === 'NotAllowedError';
    /** @type {string | null} */
    let failed = null;
    const may = refused ? await Devices.permitted() : { audio: true, video: true };
    for (const kind of /** @type {const} */ (['audio', 'video'])) {
      if (!may[kind]) continue;
      try {
        this.#take(await this.#request({ audio: kind === 'audio', video: kind === 'video' }));
      } catch (single) {
        failed = problemOf(single, { [kind]: true });
      }
    }
    // With neither, the answer to the request for both says it best.
    if (this.microphone || this.camera) this.problem = failed;
    if (refused && (this.microphone || this.camera)) this.problem = this.microphone ? 'device.cameraBlocked' : 'device.microphoneBlocked';
  }

  /** @param {Wanted} need */
  #request(need) {
    const phone = matchMedia('(pointer: coarse)').matches;
    return navigator.mediaDevices.getUserMedia({
      audio: Boolean(need.audio) && {
        ...(this.chosen.audioinput && { deviceId: { ideal: this.chosen.audioinput } }),
        echoCancellation: true, noiseSuppression: true, autoGainControl: true,
      },
      video: Boolean(need.video) && {
        ...(this.chosen.videoinput ? { deviceId: { ideal: this.chosen.videoinput } } : phone && { facingMode: 'user' }),
        width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 },
      },
    });
  }

  /** @param {MediaStream} stream */
  #take(stream) {
    for (const track of stream.getTracks()) {
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
    const audio = track === this.microphone;
    if (audio) this.microphone = null;
    else if (track === this.camera) this.camera = null;
    else return;
    this.problem = audio ? 'device.microphoneLost' : 'device.cameraLost';
    this.#changed();
    const again = () => {
      if (this.closed || (audio ? this.microphone || !this.wanted.audio : this.camera || !this.wanted.video)) return;
      this.open({ audio, video: !audio });
    };
    if (document.hidden) document.addEventListener('visibilitychange', again, { once: true });
    else setTimeout(again, BUSY_RETRY_MS);
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
    this.#changed();
  }

  /** Off closes the camera, so that its light goes out. @param {boolean} on */
  async setCamera(on) {
    this.want({ video: on });
    if (on && !this.camera) return this.open({ video: true });
    if (!on) {
      this.camera?.stop();
      this.camera = null;
    }
    this.#changed();
  }

  /** @param {Kind} kind @param {string} deviceId */
  async choose(kind, deviceId) {
    this.chosen = { ...this.chosen, [kind]: deviceId };
    remember('devices', this.chosen);
    if (kind === 'audioinput' && this.microphone) {
      this.microphone.stop();
      this.microphone = null;
      return this.open({ audio: true });
    }
    if (kind === 'videoinput' && this.camera) {
      this.camera.stop();
      this.camera = null;
      return this.open({ video: true });
    }
    this.#changed();
  }

  /** The devices there are, with the one in use. Names are known only once a permission was given. @param {Kind} kind */
  async list(kind) {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const list = all.filter((device) => device.kind === kind && device.label);
    const inUse = { audioinput: this.microphone, videoinput: this.camera, audiooutput: null }[kind]?.getSettings().deviceId;
    const chosen = [inUse, this.chosen[kind], 'default'].find((id) => id && list.some((device) => device.deviceId === id));
    return { list, chosen: chosen ?? list[0]?.deviceId ?? '' };
  }

  /** Lets an element play on the chosen speaker, where browsers can. @param {HTMLMediaElement} element */
  async useSpeaker(element) {
    const id = this.chosen.audiooutput;
    if (!id || !canChooseSpeaker()) return;
    // A speaker that is gone leaves the sound on the default one.
    await element.setSinkId(id === 'default' ? '' : id).catch(() => {});
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

/** @param {unknown} error @param {Wanted} need @returns {string} a key of the string table */
function problemOf(error, need) {
  const name = error instanceof DOMException ? error.name : '';
  if (name === 'NotAllowedError' || name === 'SecurityError') {
    return /system/i.test(/** @type {DOMException} */ (error).message) ? 'device.blockedBySystem' : `blocked.${browser()}`;
  }
  if (name === 'NotFoundError' || name === 'OverconstrainedError') {
    return need.audio && need.video ? 'device.none' : need.audio ? 'device.noMicrophone' : 'device.noCamera';
  }
  if (name === 'NotReadableError' || name === 'AbortError') return need.video ? 'device.cameraBusy' : 'device.microphoneBusy';
  return 'device.failed';
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
