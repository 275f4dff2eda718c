// A link's statistics in words: how good, direct or relayed, how long, how lossy, how loud, and who speaks.
// Never polls by itself and never acts on what it sees; mesh.js does both.

/** @import { LinkHealth, Quality } from './types.d.ts' */
/** @typedef {{ received: number, lost: number, frozen: number }} Totals */

/** Samples kept, one every two seconds: loss is over the last few of them. */
const SAMPLES = 4;
const FAIR = { loss: 0.02, roundTripMs: 300, frozen: 0.2 };
const POOR = { loss: 0.08, roundTripMs: 600, frozen: 1 };

/** Below this a microphone hears the room, not a voice. */
const SPEECH_LEVEL = 0.05;
/** A new speaker must be this much louder than the present one... */
const LOUDER = 1.5;
/** ...unless the present one has been silent for so long. */
const SILENCE_MS = 1200;

export class LinkQuality {
  /** @type {Totals[]} */
  #samples = [];
  /** @type {LinkHealth} */
  health = { quality: 'unknown', path: null, roundTripMs: null, loss: null };
  /** What arrived, in bytes, without the answers to connectivity checks: those come on paths that carry nothing, too. */
  inbound = 0;

  /** A new RTCPeerConnection counts from zero. */
  reset() {
    this.#samples = [];
    this.inbound = 0;
    this.health = { quality: 'unknown', path: null, roundTripMs: null, loss: null };
  }

  /** @param {RTCStatsReport} report @param {boolean} connected */
  update(report, connected) {
    /** @type {Totals} */
    const totals = { received: 0, lost: 0, frozen: 0 };
    let inbound = 0;
    /** @type {any} */
    let pair = null;
    /** @type {number | null} */
    let echoed = null;
    const selected = [...report.values()].find((entry) => entry.type === 'transport')?.selectedCandidatePairId;
    for (const entry of report.values()) {
      if (entry.type === 'inbound-rtp') {
        totals.received += entry.packetsReceived ?? 0;
        totals.lost += entry.packetsLost ?? 0;
        totals.frozen += entry.totalFreezesDuration ?? 0;
      } else if (entry.type === 'candidate-pair') {
        inbound += entry.bytesReceived ?? 0;
        // Browsers that do not name the selected pair mark it; where none is marked, the nominated one is it.
        if (entry.id === selected || entry.selected || (!pair && !selected && entry.nominated && entry.state === 'succeeded')) pair = entry;
      } else if (entry.type === 'remote-inbound-rtp' && entry.roundTripTime !== undefined) {
        echoed = entry.roundTripTime;
      }
    }
    this.inbound = inbound;
    this.#samples.push(totals);
    if (this.#samples.length > SAMPLES) this.#samples.shift();

    const first = this.#samples[0] ?? totals;
    const received = totals.received - first.received;
    const lost = Math.max(0, totals.lost - first.lost);
    const loss = received + lost > 0 ? lost / (received + lost) : null;
    const seconds = pair?.currentRoundTripTime ?? echoed;
    const roundTripMs = seconds === null || seconds === undefined ? null : Math.round(seconds * 1000);
    const relayed = [pair?.localCandidateId, pair?.remoteCandidateId].some((id) => id && report.get(id)?.candidateType === 'relay');
    const frozen = totals.frozen - first.frozen;
    this.health = {
      quality: word(connected, loss, roundTripMs, frozen),
      path: pair ? (relayed ? 'relayed' : 'direct') : null,
      roundTripMs,
      loss: loss === null ? null : Math.round(loss * 1000) / 1000,
    };
  }
}

/** @param {boolean} connected @param {number | null} loss @param {number | null} roundTripMs @param {number} frozen @returns {Quality} */
function word(connected, loss, roundTripMs, frozen) {
  if (!connected) return 'lost';
  if (loss === null && roundTripMs === null) return 'unknown';
  const beyond = (/** @type {typeof FAIR} */ bar) =>
    (loss ?? 0) > bar.loss || (roundTripMs ?? 0) > bar.roundTripMs || frozen > bar.frozen;
  return beyond(POOR) ? 'poor' : beyond(FAIR) ? 'fair' : 'good';
}

/**
 * How loud the last packets of a receiver were, 0 to 1. Steps of 1/20 keep a silent room from redrawing the page.
 * @param {RTCRtpReceiver | undefined} receiver
 */
export function voiceLevel(receiver) {
  const [source] = receiver?.getSynchronizationSources?.() ?? [];
  return source && ageOf(source) < 1000 ? Math.round((source.audioLevel ?? 0) * 20) / 20 : 0;
}

/**
 * For how long nothing has come, in milliseconds; null where nothing came for ten seconds or ever.
 * @param {(RTCRtpReceiver | undefined)[]} receivers
 */
export function hushOf(receivers) {
  const sources = receivers.flatMap((receiver) => receiver?.getSynchronizationSources?.() ?? []);
  return sources.length > 0 ? Math.min(...sources.map(ageOf)) : null;
}

/** @param {RTCRtpSynchronizationSource} source */
function ageOf(source) {
  return performance.timeOrigin + performance.now() - source.timestamp;
}

/** Who speaks: the loudest, but not changing with every cough. */
export class SpeakerPicker {
  /** @type {string | null} */
  speaker = null;
  #spokeAt = 0;

  /** @param {Iterable<[string, number]>} levels of all participants @param {number} now */
  update(levels, now) {
    const all = new Map(levels);
    const [loudest, level] = [...all].reduce((best, entry) => (entry[1] > best[1] ? entry : best), /** @type {[string | null, number]} */ ([null, 0]));
    const present = this.speaker === null ? 0 : (all.get(this.speaker) ?? 0);
    if (present >= SPEECH_LEVEL) this.#spokeAt = now;
    const silent = now - this.#spokeAt > SILENCE_MS || !all.has(this.speaker ?? '');
    if (loudest !== null && level >= SPEECH_LEVEL && (silent || level > present * LOUDER)) {
      this.speaker = loudest;
      this.#spokeAt = now;
    } else if (silent) {
      this.speaker = null;
    }
    return this.speaker;
  }
}
