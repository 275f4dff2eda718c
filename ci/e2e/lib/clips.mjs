// Sounds and moving pictures for cameras and microphones, made once in the temporary folder.

import { execFileSync } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { madeOnce, writeOnce } from './media.mjs';

const RATE = 48_000;

/** 48 kHz, 16 bits, mono. */
export function wav(samples) {
  const bytes = Buffer.alloc(44 + 2 * samples.length);
  bytes.write('RIFF', 0, 'latin1');
  bytes.writeUInt32LE(36 + 2 * samples.length, 4);
  bytes.write('WAVEfmt ', 8, 'latin1');
  [16, 0x0001_0001].forEach((word, at) => bytes.writeUInt32LE(word, 16 + 4 * at));
  bytes.writeUInt32LE(RATE, 24);
  bytes.writeUInt32LE(2 * RATE, 28);
  bytes.writeUInt32LE(0x0010_0002, 32);
  bytes.write('data', 36, 'latin1');
  bytes.writeUInt32LE(2 * samples.length, 40);
  samples.forEach((sample, at) => bytes.writeInt16LE(Math.round(32767 * sample), 44 + 2 * at));
  return bytes;
}

/** Half a second of a tone, half a second of nothing: a browser's noise suppression takes a tone that never pauses for noise. */
export const beeps = hz =>
  writeOnce(`snug-beeps-${hz}.wav`, () => wav(Float32Array.from({ length: RATE }, (_, at) => (at < RATE / 2 ? 0.3 * Math.sin((2 * Math.PI * hz * at) / RATE) : 0))));

/** Some seconds of a synthetic voice, with a pause at the end. Needs espeak-ng and ffmpeg. */
export function speech() {
  return madeOnce('snug-speech.wav', path => {
    const text = 'The rainbow is a division of white light into many beautiful colours. These take the shape of a long round arch, with its path high above.';
    const said = execFileSync('espeak-ng', ['-v', 'en', '-s', '150', '--stdout', text]);
    execFileSync('ffmpeg', ['-v', 'error', '-y', '-i', '-', '-af', 'apad=pad_dur=0.5,volume=0.8', '-ar', String(RATE), '-ac', '1', '-f', 'wav', path], { input: said });
  });
}

/** Cells of the number in the top rows of every picture of `film`. */
const BITS = 8;

/**
 * A film of 60 pictures: a grainy wall with soft tiles, a face that sways, and its number in black and white cells along the top.
 * Colour is neutral, so that its lightness survives any idea of colour spaces.
 */
export function film({ width = 1280, height = 720, rate = 30, pictures = 60 } = {}) {
  return madeOnce(`snug-film-${width}x${height}-${rate}-${pictures}.y4m`, path => {
    const file = openSync(path, 'w');
    writeSync(file, `YUV4MPEG2 W${width} H${height} F${rate}:1 Ip A1:1 C420jpeg\n`);
    const chroma = Buffer.alloc((width * height) / 2, 128);
    for (let number = 0; number < pictures; number += 1) {
      writeSync(file, 'FRAME\n');
      writeSync(file, filmPicture(number, width, height, pictures));
      writeSync(file, chroma);
    }
    closeSync(file);
  });
}

/** The luma plane of one picture of `film`. */
export function filmPicture(number, width, height, pictures = 60) {
  const luma = Buffer.alloc(width * height);
  const turn = (2 * Math.PI * number) / pictures;
  const [cx, cy] = [width * (0.5 + 0.1 * Math.sin(turn)), height * (0.6 + 0.02 * Math.cos(2 * turn))];
  const [rx, ry] = [height * 0.2, height * 0.3];
  const mouth = height * (0.01 + 0.02 * Math.abs(Math.sin(3 * turn)));
  let grain = 7;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      grain = (Math.imul(grain, 1_664_525) + 1_013_904_223) >>> 0;
      const tile = (Math.floor((x * 20) / width) ^ Math.floor((y * 12) / height)) & 1;
      let value = 60 + (x * 70) / width + (y * 30) / height + tile * 14 + (grain >>> 30);
      const [dx, dy] = [(x - cx) / rx, (y - cy) / ry];
      const inside = dx * dx + dy * dy;
      if (inside < 1) {
        value = 190 - 50 * inside;
        const [mx, my] = [(x - cx) / (height * 0.08), (y - cy - height * 0.14) / mouth];
        if (mx * mx + my * my < 1) value = 70;
      }
      luma[y * width + x] = value;
    }
  }
  const [cell, tall] = [width / BITS, Math.round(height / 12)];
  for (let bit = 0; bit < BITS; bit += 1) {
    const value = (number >> (BITS - 1 - bit)) & 1 ? 220 : 30;
    for (let y = 0; y < 2 * tall; y += 1) {
      // The second row is the first one turned round: what does not agree was not read.
      luma.fill(y < tall ? value : 250 - value, y * width + Math.round(bit * cell), y * width + Math.round((bit + 1) * cell));
    }
  }
  return luma;
}

/** The number in a received picture of `film`, `null` when it is not readable. */
export function filmNumber(luma, width, height) {
  const [cell, tall] = [width / BITS, height / 12];
  const read = row => {
    let number = 0;
    for (let bit = 0; bit < BITS; bit += 1) {
      const at = Math.round((row + 0.5) * tall) * width + Math.round((bit + 0.5) * cell);
      number = (number << 1) | (luma[at] > 125 ? 1 : 0);
    }
    return number;
  };
  const [number, turned] = [read(0), read(1)];
  return number === (turned ^ ((1 << BITS) - 1)) ? number : null;
}
