// Recordings of the native client, and sounds and pictures to play: read by ffmpeg and by arithmetic, never by ear or eye.

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The samples of a 16-bit mono WAV file as numbers between -1 and 1. A file that is still being written is read as far as it is there. */
export function readWav(path) {
  const bytes = readFileSync(path);
  let at = 12;
  let rate = 0;
  while (at + 8 <= bytes.length) {
    const [name, size] = [bytes.toString('latin1', at, at + 4), bytes.readUInt32LE(at + 4)];
    if (name === 'fmt ') rate = bytes.readUInt32LE(at + 12);
    if (name === 'data') {
      const end = Math.min(bytes.length, size > 0 ? at + 8 + size : bytes.length);
      const samples = new Float32Array((end - at - 8) >> 1);
      for (let index = 0; index < samples.length; index += 1) samples[index] = bytes.readInt16LE(at + 8 + 2 * index) / 32768;
      return { rate, samples };
    }
    at += 8 + size + (size & 1);
  }
  throw new Error(`${path} holds no sound`);
}

/** How much of a sound's power lies at one frequency, by Goertzel's algorithm: 1 for a pure tone. */
export function shareOfTone(samples, rate, hz) {
  const turn = 2 * Math.cos((2 * Math.PI * hz) / rate);
  let [last, before, power] = [0, 0, 0];
  for (const sample of samples) {
    [last, before] = [sample + turn * last - before, last];
    power += sample * sample;
  }
  const tone = last * last + before * before - turn * last * before;
  return power > 0 ? (2 * tone) / (power * samples.length) : 0;
}

/** Whether some tenth of a second of a recording is that tone and nothing else. */
export function findsTone({ rate, samples }, hz, { share = 0.8, level = 0.01 } = {}) {
  const window = rate / 10;
  let found = 0;
  for (let at = 0; at + window <= samples.length; at += window) {
    const part = samples.subarray(at, at + window);
    const loud = Math.sqrt(part.reduce((sum, one) => sum + one * one, 0) / window) > level;
    if (loud && shareOfTone(part, rate, hz) >= share) found += 1;
  }
  return found;
}

/** The recordings of one kind in a folder, such as `.ivf`, without the mix. */
export const recorded = (folder, ending) =>
  readdirSync(folder).filter(name => name.endsWith(ending) && name !== 'heard.wav').map(name => join(folder, name));

/** What ffprobe says about a file's first stream, all frames counted by decoding them. */
export function probe(path) {
  const entries = 'stream=codec_name,width,height,duration,nb_read_frames:format=duration,format_name';
  const text = execFileSync('ffprobe', ['-v', 'error', '-count_frames', '-show_entries', entries, '-of', 'json', path], { encoding: 'utf8' });
  const { streams: [stream], format } = JSON.parse(text);
  return { codec: stream.codec_name, width: stream.width, height: stream.height, frames: Number(stream.nb_read_frames), seconds: Number(format.duration) };
}

/** Number of frames and duration in seconds as the header of an IVF file has them. */
export function ivfHeader(path) {
  const head = readFileSync(path).subarray(0, 32);
  return { seconds: head.readUInt32LE(24) / (head.readUInt32LE(16) / head.readUInt32LE(20)), frames: head.readUInt32LE(28) };
}

/**
 * Decoded luma planes of a recording, scaled to one size: every `every`th picture of what follows `from`, in seconds of its own time,
 * counted from its end when negative.
 */
export function lumas(path, width, height, { from = 0, every = 1 } = {}) {
  const start = from < 0 ? Math.max(0, probe(path).seconds + from) : from;
  const filter = `select=gte(t\\,${start})*not(mod(n\\,${every})),scale=${width}:${height}:flags=area`;
  const raw = execFileSync('ffmpeg', ['-v', 'error', '-i', path, '-vf', filter, '-fps_mode', 'passthrough', '-pix_fmt', 'yuv420p', '-f', 'rawvideo', '-'], {
    maxBuffer: 1 << 30,
  });
  const size = (width * height * 3) / 2;
  const frames = [];
  for (let at = 0; at + size <= raw.length; at += size) frames.push(raw.subarray(at, at + width * height));
  return frames;
}

/**
 * How alike two pictures are: the mean of SSIM (Wang et al. 2004) over windows of 8×8 samples, four apart.
 */
export function ssim(left, right, width, height) {
  const [c1, c2] = [(0.01 * 255) ** 2, (0.03 * 255) ** 2];
  let [sum, windows] = [0, 0];
  for (let y = 0; y + 8 <= height; y += 4) {
    for (let x = 0; x + 8 <= width; x += 4) {
      let [a, b, aa, bb, ab] = [0, 0, 0, 0, 0];
      for (let row = y; row < y + 8; row += 1) {
        for (let at = row * width + x; at < row * width + x + 8; at += 1) {
          const [one, two] = [left[at], right[at]];
          a += one;
          b += two;
          aa += one * one;
          bb += two * two;
          ab += one * two;
        }
      }
      const [meanA, meanB] = [a / 64, b / 64];
      const [varA, varB, cov] = [aa / 64 - meanA * meanA, bb / 64 - meanB * meanB, ab / 64 - meanA * meanB];
      sum += ((2 * meanA * meanB + c1) * (2 * cov + c2)) / ((meanA * meanA + meanB * meanB + c1) * (varA + varB + c2));
      windows += 1;
    }
  }
  return sum / windows;
}

/** A file in the temporary folder that is made once; written aside and renamed, since another test may be about to read it. */
export function madeOnce(name, make) {
  const path = join(tmpdir(), name);
  if (!existsSync(path)) {
    const draft = `${path}.${process.pid}`;
    make(draft);
    renameSync(draft, path);
  }
  return path;
}

export const writeOnce = (name, bytes) => madeOnce(name, path => writeFileSync(path, bytes()));

/** Samples of one piece of speech that is looked for, and how far from where it is expected. */
const PIECE = 9_600;
const LEEWAY = 4_800;

/**
 * How alike the speech in a recording is to what was spoken, which is repeated: the recording is put in place by its loudness, then the mean over
 * all loud pieces of 200 ms of their best correlation within a tenth of a second. 1 is the same, and another voice is below 0.3.
 */
export function likeness(recording, spoken) {
  // A sixth of the rate is enough for a voice, and 36 times as fast.
  const [heard, said] = [thin(recording.samples), thin(spoken.samples)];
  const [piece, leeway] = [PIECE / 6, LEEWAY / 6];
  const offset = align(heard, said);
  let [sum, pieces] = [0, 0];
  for (let at = 0; at + piece <= heard.length; at += piece) {
    const part = heard.subarray(at, at + piece);
    if (power(part) / piece < 1e-5) continue;
    let best = 0;
    for (let lag = -leeway; lag <= leeway; lag += 1) best = Math.max(best, correlation(part, said, at + offset + lag));
    sum += best;
    pieces += 1;
  }
  return pieces > 0 ? sum / pieces : 0;
}

const power = samples => samples.reduce((sum, one) => sum + one * one, 0);

const thin = samples => Float32Array.from({ length: Math.floor(samples.length / 6) }, (_, at) => samples.subarray(6 * at, 6 * at + 6).reduce((sum, one) => sum + one, 0) / 6);

/** Normalised correlation of a piece with what was said from `start` on, going round. */
function correlation(part, said, start) {
  let [ab, aa, bb] = [0, 0, 0];
  let other = ((start % said.length) + said.length) % said.length;
  for (const one of part) {
    const two = said[other];
    ab += one * two;
    aa += one * one;
    bb += two * two;
    other = other + 1 === said.length ? 0 : other + 1;
  }
  return aa > 0 && bb > 0 ? ab / Math.sqrt(aa * bb) : 0;
}

/** Where in what was said the recording begins, found by comparing loudness in steps of 10 ms. */
function align(heard, said) {
  const step = 80;
  const loudness = samples => Float32Array.from({ length: Math.floor(samples.length / step) }, (_, at) => Math.sqrt(power(samples.subarray(step * at, step * (at + 1)))));
  const [left, right] = [loudness(heard), loudness(said)];
  let best = { sum: -1, shift: 0 };
  for (let shift = 0; shift < right.length; shift += 1) {
    const sum = left.reduce((total, one, at) => total + one * right[(at + shift) % right.length], 0);
    if (sum > best.sum) best = { sum, shift };
  }
  return best.shift * step;
}
