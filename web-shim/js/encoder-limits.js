// How large a picture each link's encoder makes: by how large the receiver shows it, in the layers all Snug senders share.
// Never looks at the network: steering.js says which layer a link carries, and the browser's own
// congestion control works below these ceilings.

/** @import { Tile } from './types.d.ts' */
/** @typedef {RTCRtpEncodingParameters & { scaleResolutionDownBy?: number }} Encoding */

/**
 * L, M and H by the shorter side, in pixels: 180p, 360p and 720p, and what lies between. Below its
 * least rate a layer is not worth sending.
 */
export const LAYERS = [
  { from: 0, minBitrate: 80_000, maxBitrate: 130_000, maxFramerate: 15 },
  { from: 270, minBitrate: 250_000, maxBitrate: 450_000, maxFramerate: 30 },
  { from: 540, minBitrate: 600_000, maxBitrate: 1_500_000, maxFramerate: 30 },
];
export const HIGHEST = LAYERS.length - 1;
/** Halving is cheap and sharp in every encoder; other ratios are neither. */
const STEPS = [4, 2, 1];
/** A picture may be enlarged this much before the next layer is worth three times the bits. */
const STRETCH = 1.25;
const SCREEN_BITRATE = 2_500_000;
const SCREEN_FRAMERATE = 15;
/** What is sent before the receiver said how it shows us: the layer of grid tiles. */
const FIRST_TILE = { width: 640, height: 360 };

export const VOICE_ENCODING = /** @type {const} */ ({ active: true, maxBitrate: 32_000, priority: 'high', networkPriority: 'high' });
/** A screen's sound is often music. */
export const SOUND_ENCODING = /** @type {const} */ ({ active: true, maxBitrate: 96_000, priority: 'medium', networkPriority: 'medium' });

/**
 * @param {MediaStreamTrack | null} track what is captured
 * @param {Tile | null} tile how the receiver shows it; null before it said so
 * @param {number} [carried] the largest layer that the link carries
 * @param {boolean} [probes] the path is being probed for what the tile asks for
 * @returns {Encoding}
 */
export function cameraEncoding(track, tile, carried = HIGHEST, probes = false) {
  const { capture, shown, width, height } = asked(track, tile);
  let step = shown;
  while (layerOf(capture, step) > carried) step *= 2;
  const { maxFramerate = 0, ...layer } = LAYERS[layerOf(capture, step)] ?? {};
  const { maxBitrate = 0 } = (probes && LAYERS[tile ? layerOf(capture, shown) : HIGHEST]) || layer;
  return { active: width > 0 && height > 0, scaleResolutionDownBy: step, maxBitrate, maxFramerate };
}

/** The layer that the tile asks for. @param {MediaStreamTrack | null} track @param {Tile | null} tile */
export function cameraLayer(track, tile) {
  const { capture, shown } = asked(track, tile);
  return layerOf(capture, shown);
}

/** @param {MediaStreamTrack | null} track @param {Tile | null} tile */
function asked(track, tile) {
  const { width, height } = tile ?? FIRST_TILE;
  const capture = sizeOf(track, 1280, 720);
  return { capture, width, height, shown: stepFor(capture, width, height) };
}

/** @param {{ width: number, height: number }} capture @param {number} step */
function layerOf(capture, step) {
  return LAYERS.filter(({ from }) => Math.min(capture.width, capture.height) / step >= from).length - 1;
}

/**
 * A screen keeps its resolution while anybody reads it; only a thumbnail of it may be small.
 * @param {MediaStreamTrack | null} track @param {Tile | null} tile @returns {Encoding}
 */
export function screenEncoding(track, tile) {
  const capture = sizeOf(track, 1920, 1080);
  const shown = { width: tile?.screenWidth ?? capture.width, height: tile?.screenHeight ?? capture.height };
  const step = stepFor(capture, shown.width, shown.height);
  return {
    active: shown.width > 0 && shown.height > 0,
    scaleResolutionDownBy: step === 4 ? 2 : 1,
    maxBitrate: step === 4 ? SCREEN_BITRATE / 4 : SCREEN_BITRATE,
    maxFramerate: SCREEN_FRAMERATE,
  };
}

/**
 * Puts `encoding` on a sender. Browsers refuse it before the negotiation is done, and when another change came in between.
 * @param {RTCRtpSender} sender @param {Encoding} encoding @param {'maintain-resolution' | null} degradation
 * @returns {Promise<boolean>} false when it should be tried again later
 */
export async function limitSender(sender, encoding, degradation) {
  try {
    /** @type {RTCRtpSendParameters & { degradationPreference?: string }} */
    const parameters = sender.getParameters();
    const [first] = parameters.encodings ?? [];
    if (!first) return false;
    Object.assign(first, encoding);
    if (degradation) parameters.degradationPreference = degradation;
    await sender.setParameters(parameters);
    return true;
  } catch {
    return false;
  }
}

/**
 * The largest step whose picture still fills the tile. By area, so that a portrait camera in a landscape tile is not sent whole.
 * @param {{ width: number, height: number }} capture @param {number} width @param {number} height
 */
function stepFor(capture, width, height) {
  const ratio = Math.sqrt((width * height) / (capture.width * capture.height));
  // Cameras above 720p exist; H is the most that is sent.
  const most = Math.min(capture.width, capture.height) > 810 ? 2 : 1;
  return STEPS.find((step) => STRETCH / step >= ratio && step >= most) ?? most;
}

/** @param {MediaStreamTrack | null} track @param {number} width @param {number} height when the track does not know yet */
function sizeOf(track, width, height) {
  const settings = track?.getSettings();
  return { width: settings?.width || width, height: settings?.height || height };
}
