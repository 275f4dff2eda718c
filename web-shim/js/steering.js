// Which layer of the camera a link carries: by the browser's estimate of the path, by how its
// encoder copes, and by what it costs the processor. Pure: statistics and the time come in, a layer
// goes out. Never asks for statistics itself and never touches a sender; peer-link.js does both.
//
// 1. A layer that the estimate carries is taken at once when there is plenty of room, and after two
//    seconds when there is just enough.
// 2. A layer is left when its pictures are blurred or late for a second and the estimate says that
//    it is the path, or when the processor cannot encode it.
// 3. A layer that was left is tried again after a while, which doubles with each time that it had
//    to be left.
// 4. Firefox tells no estimate and sends too much over a full path: its rate is held by round trips
//    and loss, too.

import { HIGHEST, LAYERS } from './encoder-limits.js';

/** Opus with headers, in bit/s: taken off the estimate before pictures get any of it. */
const SOUND = 54_000;
/** The part of the rest that a shared screen takes. */
const SCREEN_PART = 0.6;
/**
 * Room beyond its floor with which a layer is taken after a while, and almost at once: the first
 * packets on an empty path promise too much.
 */
const ROOM = 1.25;
const ROOM_MS = 2000;
const PLENTY = 1.6;
const SURE_MS = 250;
/** What is counted over less time than this says little. */
const WINDOW_MS = 700;
/** How long a browser has to find out what a path carries. */
const PROBE_MS = 2000;
/** How long pictures must be bad before a layer is left for it. */
const BAD_MS = 1000;
/** How long others wait for a link that has no smaller layer: what it lacks, they cannot give it. */
const LOWEST_BAD_MS = 10_000;
/** VP8's quantizer, 0 to 127, above which a picture is blurred. */
const BLURRED = 80;
/** The part of the camera's pictures below which too few are sent. */
const FEW = 0.6;
// Where the browser tells no estimate: what is sent starts here, with the full size as soon as a
// report of the receiver has come, and grows with every report that shows no sign of a full path:
// fast at first, after a first full path slowly, and yet more slowly where the path has been full
// before.
const START = 400_000;
const MOST = 3_000_000;
const GROWTH = { fast: 1.4, slow: 1.05, near: 1.02 };
/**
 * A path is full when packets take so much longer than they once did, in seconds, when so many are
 * lost, or so many requests for lost ones come a second.
 */
const SLOWER = 0.12;
const LOSSY = 0.05;
const REQUESTS = 6;
/** Most of the estimate, as a multiple of what is sent. */
const USED = 1.6;
/**
 * The part of what was sent that is sent over a path that is full, and how long to see what that
 * does.
 */
const BACK = 0.7;
const BACK_TO = 0.85;
const BACK_MS = 1500;
/** Rates change by steps, so that an encoder is not set anew for a trifle. */
const STEP = 1.15;
/**
 * The part of one processor's time that encoding may take, and that the next layer must be expected
 * to stay below.
 */
const BUSY = 0.7;
/** The next layer has four times the pixels. */
const PIXELS = 4;
const CALM_MS = 5000;
const MOST_CALM_MS = 60_000;

/**
 * @typedef {object} SenderStats what a sender's statistics say, counted since it began
 * @property {number} frames encoded
 * @property {number} quantizers their sum
 * @property {number} encodeSeconds
 * @property {number | null} source pictures a second that the camera gives
 * @property {boolean} overused the browser says that the processor is the limit
 * @property {number} bytes without those sent again
 * @property {number} requests for packets that were lost
 * @property {number | null} estimate of the path in bit/s; Firefox has none
 * @property {number} loss 0 to 1, as the receiver reports it
 * @property {number | null} roundTrip in seconds
 * @property {number} reportedAt when the receiver reported both, on the clock of the statistics
 */

/** @param {RTCStatsReport} report of the camera's sender @returns {SenderStats} */
export function readSenderStats(report) {
  /** @type {SenderStats} */
  const look = { frames: 0, quantizers: 0, encodeSeconds: 0, bytes: 0, requests: 0, source: null, overused: false, estimate: null, loss: 0, roundTrip: null, reportedAt: 0 };
  for (const entry of report.values()) {
    if (entry.type === 'outbound-rtp') {
      look.frames = entry.framesEncoded ?? 0;
      look.bytes = (entry.bytesSent ?? 0) - (entry.retransmittedBytesSent ?? 0);
      look.requests = entry.nackCount ?? 0;
      look.quantizers = entry.qpSum ?? 0;
      look.encodeSeconds = entry.totalEncodeTime ?? 0;
      look.overused = entry.qualityLimitationReason === 'cpu';
    } else if (entry.type === 'media-source') look.source = entry.framesPerSecond ?? null;
    else if (entry.type === 'remote-inbound-rtp') {
      look.loss = entry.fractionLost ?? 0;
      look.roundTrip = entry.roundTripTime ?? null;
      look.reportedAt = entry.timestamp ?? 0;
    } else if (entry.type === 'candidate-pair') look.estimate = Math.max(look.estimate ?? 0, entry.availableOutgoingBitrate ?? 0) || null;
  }
  return look;
}

export class Steering {
  /** The largest layer that may be sent: before anything is known, any. */
  layer = HIGHEST;
  /**
   * What the pictures of this link may take, in bit/s, once there is an estimate.
   * @type {number | null}
   */
  budget = null;
  /** The most that the camera may take, in bit/s, where the browser does not know by itself. */
  most = Infinity;
  /** Its pictures are bad, and others should not take more of what may be one uplink. */
  bad = false;
  /** The last looks at the layer that is sent. @type {(SenderStats & { at: number })[]} */
  #looks = [];
  /** Since when it has been so, while it is. @type {number | null} */
  #badSince = null;
  /** @type {number | null} */
  #busySince = null;
  /** @type {number | null} */
  #roomSince = null;
  #own = START;
  /** The estimate with which the path was full. */
  #full = Infinity;
  #backAt = -Infinity;
  #reportedAt = 0;
  #leastRoundTrip = Infinity;
  #started = false;
  #leftAt = -Infinity;
  #startedAt = 0;
  #calm = CALM_MS;

  /**
   * @param {SenderStats} look @param {number} now in milliseconds
   * @param {{ wanted: number, screen: boolean, left: number, settled: boolean }} call the layer
   *   that the receiver's tile asks for, whether a screen is sent on the link too, what the uplink
   *   has left when every link takes its floor, and whether no link is bad and none rose a moment
   *   ago
   */
  update(look, now, { wanted, screen, left, settled }) {
    const looks = this.#looks;
    if (look.frames < (looks[0]?.frames ?? 0)) looks.length = 0;
    looks.push({ ...look, at: now });
    while (looks[1] && looks.length > 2 && now - looks[1].at >= WINDOW_MS) looks.shift();
    const [before] = looks;
    const seconds = before ? (now - before.at) / 1000 : 0;
    const estimate = look.estimate ?? this.#estimate(look, before, now);
    const budget = Math.max(0, estimate - SOUND) * (screen ? 1 - SCREEN_PART : 1);
    this.budget = budget;
    this.most = look.estimate !== null || estimate >= MOST ? Infinity : Math.round(STEP ** Math.floor(Math.log(Math.max(budget, floor(0))) / Math.log(STEP)));
    if (!this.#started) {
      // A browser starts from a guess. A layer above it waits until the path has been probed, which
      // takes a fraction of a second.
      this.#started = true;
      this.#startedAt = now;
      while (this.layer > 1 && budget < floor(this.layer)) this.layer -= 1;
    }
    const frames = before ? look.frames - before.frames : 0;
    if (!before || seconds <= 0) return;

    const sent = Math.min(this.layer, wanted);
    // Such a browser sends too much over a full path rather than bad pictures.
    if (look.estimate === null && budget < floor(sent) && sent > 0 && this.#full < Infinity) return this.#leave(sent - 1, now);
    const due = Math.min(look.source ?? 0, LAYERS[sent]?.maxFramerate ?? 0) * seconds;
    const blurred = frames > 0 && (look.quantizers - before.quantizers) / frames > BLURRED;
    const cost = (look.encodeSeconds - before.encodeSeconds) / seconds;
    const late = frames + 1 < due * FEW;
    const unknown = look.estimate === null && this.#full === Infinity;
    const narrow = !unknown && budget < floor(sent) * ROOM;
    // Where the path has room, pictures are late for want of a processor.
    const busy = look.overused || cost > BUSY || (late && !narrow);
    const bad = narrow && (blurred || (late && !busy));
    this.#badSince = bad ? (this.#badSince ?? now) : null;
    this.bad = bad && (sent > 0 || now - (this.#badSince ?? now) < LOWEST_BAD_MS);
    this.#busySince = busy ? (this.#busySince ?? now) : null;
    const lasting = [this.#badSince, this.#busySince].some((since) => since !== null && now - since >= BAD_MS);
    if (lasting && sent > 0) return this.#leave(sent - 1, now);

    const next = this.layer + 1;
    const enough = unknown ? this.#reportedAt > 0 : budget >= floor(next) * ROOM;
    const fits = next <= wanted && !bad && !busy && cost * PIXELS < BUSY && enough;
    this.#roomSince = fits && now - this.#leftAt >= this.#calm ? (this.#roomSince ?? now) : null;
    if (this.#roomSince === null) return;
    const plenty = this.#leftAt === -Infinity && (unknown || (budget >= floor(next) * PLENTY && left >= floor(next) - floor(this.layer)));
    if (now - this.#roomSince >= (plenty ? SURE_MS : settled ? ROOM_MS : Infinity)) this.#take(next);
  }

  /**
   * Whether the browser is still finding out what the path carries: it tries no more than twice
   * what its encoders may make.
   * @param {number} now
   */
  probes(now) {
    return this.#started && this.layer < HIGHEST && now - this.#startedAt < PROBE_MS;
  }

  /** Nothing is sent for now: what was seen until now says nothing about what comes. */
  rest() {
    this.#take(this.layer);
    this.#looks = [];
  }

  /**
   * An estimate for browsers that tell none.
   * @param {SenderStats} look @param {(SenderStats & { at: number }) | undefined} before @param {number} now
   */
  #estimate({ bytes, requests, loss, roundTrip, reportedAt }, before, now) {
    const seconds = Math.max(0.1, (now - (before?.at ?? now)) / 1000);
    const sent = ((bytes - (before?.bytes ?? bytes)) * 8) / seconds;
    const requested = (requests - (before?.requests ?? requests)) / seconds > REQUESTS;
    if (roundTrip === null || (reportedAt === this.#reportedAt && !requested)) return this.#own;
    this.#reportedAt = reportedAt;
    this.#leastRoundTrip = Math.min(this.#leastRoundTrip, roundTrip);
    if (requested || loss > LOSSY || roundTrip > this.#leastRoundTrip + SLOWER) {
      // The next report may still tell of what was sent before.
      if (now - this.#backAt < BACK_MS) return this.#own;
      this.#backAt = now;
      // The key frame of a larger layer alone fills a path for a moment, while little is sent
      // otherwise.
      this.#full = Math.min(this.#own, Math.max(sent + SOUND, this.#own * BACK));
      this.#own = Math.max(floor(0) + SOUND, this.#full * BACK);
    } else {
      const speed = this.#full === Infinity ? 'fast' : this.#own < this.#full * BACK_TO ? 'slow' : 'near';
      const grown = this.#own * GROWTH[speed];
      // What is not made use of says nothing.
      if (grown < USED * (sent + SOUND)) this.#own = Math.min(MOST, grown);
    }
    return this.#own;
  }

  /** @param {number} layer @param {number} now */
  #leave(layer, now) {
    this.#calm = now - this.#leftAt > 2 * MOST_CALM_MS ? CALM_MS : Math.min(this.#calm * 2, MOST_CALM_MS);
    this.#leftAt = now;
    this.#take(layer);
  }

  /** @param {number} layer */
  #take(layer) {
    this.layer = layer;
    this.#looks = this.#looks.slice(-1);
    this.#badSince = this.#busySince = this.#roomSince = null;
    this.bad = false;
  }
}

/** @param {number} layer */
export const floor = (layer) => LAYERS[layer]?.minBitrate ?? 0;
