// What both sides of a bench send: a talking head with a camera's noise at 30 pictures a second, and something like speech.
//
// Made here, so that nothing large lies in the repository and nothing has to be installed: five seconds of each, which are repeated.
// As a program, it makes the picture in 1280×720 and prints its path.

import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const SIZE = { width: 640, height: 360 };
export const RATE = 30;
const PICTURES = 150;
const SAMPLES = 48_000;

/** The picture's path, a Y4M file, made at the first call. */
export const talkingHead = ({ width, height } = SIZE) => made(`snug-bench-${width}x${height}.y4m`, () => pictures(width, height));

/** The sound's path, a WAV file. */
export const speech = () => made('snug-bench-speech.wav', sound);

function made(name, make) {
  const path = join(tmpdir(), name);
  if (existsSync(path)) return path;
  // Written aside and renamed: another bench may be about to read it.
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, make());
  renameSync(draft, path);
  return path;
}

/** Uniform numbers in -1..1, always the same. */
function noise(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  };
}

function pictures(width, height) {
  const grain = noise(7);
  const room = new Float32Array(width * height);
  const scale = width / SIZE.width;
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const [x, y] = [column / scale, row / scale];
      // A lit wall with shelves, whose texture stays.
      const shelf = y % 60 < 6 || x % 106 < 5 ? -34 : 0;
      room[row * width + column] = 92 + x / 9 - y / 14 + shelf + 7 * Math.sin(x * 0.31) * Math.cos(y * 0.23) + 3 * grain();
    }
  }
  const parts = [Buffer.from(`YUV4MPEG2 W${width} H${height} F${RATE}:1 Ip A1:1 C420jpeg\n`)];
  for (let picture = 0; picture < PICTURES; picture += 1) parts.push(Buffer.from('FRAME\n'), ...head({ room, width, height, scale }, picture, grain));
  return Buffer.concat(parts);
}

/** One picture's planes: a head that sways, nods and talks before the room, and the sensor's noise over all of it. */
function head({ room, width, height, scale }, picture, grain) {
  const turn = (picture / PICTURES) * 2 * Math.PI;
  const at = { x: 320 + 46 * Math.sin(turn) + 5 * Math.sin(7 * turn), y: 190 + 9 * Math.sin(3 * turn) };
  const mouth = 6 + 9 * Math.abs(Math.sin(11 * turn) * Math.sin(23 * turn));
  const blink = picture % 70 < 4;
  const luma = Buffer.alloc(width * height);
  const skin = new Uint8Array((width / 2) * (height / 2));
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const [x, y] = [column / scale, row / scale];
      const [dx, dy] = [x - at.x, y - at.y];
      const sample = row * width + column;
      const pair = (row >> 1) * (width / 2) + (column >> 1);
      let light = room[sample];
      const face = (dx / 78) ** 2 + (dy / 104) ** 2;
      if (face < 1) {
        light = 176 - 58 * face + dx / 6 + 4 * Math.sin(dx * 0.5) * Math.sin(dy * 0.4);
        if (!blink && Math.min((dx - 28) ** 2, (dx + 28) ** 2) + (dy + 26) ** 2 < 74) light = 40;
        if ((dx / 26) ** 2 + ((dy - 50) / mouth) ** 2 < 1) light = 62;
        skin[pair] = 1;
      } else if (dy > 70 && Math.abs(dx) < 60 + dy * 0.9) {
        light = 70 + 10 * Math.sin((x + y) * 0.2);
        skin[pair] = 2;
      }
      luma[sample] = Math.max(16, Math.min(235, light + 2.5 * grain()));
    }
  }
  const chroma = values => Buffer.from(skin.map(kind => values[kind] + Math.round(grain())));
  return [luma, chroma([124, 108, 146]), chroma([132, 156, 116])];
}

/** Syllables of a voice: a buzz with its overtones through three resonances that wander, and pauses between the words. */
function sound() {
  const length = 5 * SAMPLES;
  const data = Buffer.alloc(44 + length * 2);
  data.write('RIFF', 0);
  data.writeUInt32LE(36 + length * 2, 4);
  data.write('WAVEfmt ', 8);
  data.writeUInt32LE(16, 16);
  data.writeUInt16LE(1, 20);
  data.writeUInt16LE(1, 22);
  data.writeUInt32LE(SAMPLES, 24);
  data.writeUInt32LE(SAMPLES * 2, 28);
  data.writeUInt16LE(2, 32);
  data.writeUInt16LE(16, 34);
  data.write('data', 36);
  data.writeUInt32LE(length * 2, 40);
  const breath = noise(3);
  let phase = 0;
  for (let index = 0; index < length; index += 1) {
    const time = index / SAMPLES;
    const pitch = 118 + 22 * Math.sin(time * 2.1) + 9 * Math.sin(time * 7.3);
    phase += (2 * Math.PI * pitch) / SAMPLES;
    const syllable = Math.max(0, Math.sin(time * 2 * Math.PI * 3.8)) ** 0.6 * (time % 1.6 < 1.15 ? 1 : 0);
    const formants = [520 + 220 * Math.sin(time * 9), 1_400 + 500 * Math.sin(time * 6 + 1), 2_600];
    let sample = 0.02 * breath();
    for (let overtone = 1; overtone * pitch < 3_800; overtone += 1) {
      const gain = formants.reduce((sum, formant) => sum + 1 / (1 + ((overtone * pitch - formant) / 130) ** 2), 0.05);
      sample += gain * Math.sin(phase * overtone);
    }
    data.writeInt16LE(Math.round(Math.max(-1, Math.min(1, 0.16 * sample * syllable)) * 32_000), 44 + index * 2);
  }
  return data;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(talkingHead({ width: 1280, height: 720 }));
