// A small, lively camera picture for calls in which many browsers share few cores: 320×180, ten pictures a second.
//
// Written as a Y4M file in the temporary folder: a few hundred kilobytes per picture would be too much to keep in the repository,
// and a moving pattern with noise is what makes an encoder work.

import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const WIDTH = 320;
const HEIGHT = 180;
const PICTURES = 20;

/** The path of the clip, made at the first call. */
export function smallCamera() {
  const path = join(tmpdir(), `snug-camera-${WIDTH}x${HEIGHT}-${PICTURES}.y4m`);
  if (existsSync(path)) return path;
  const parts = [Buffer.from(`YUV4MPEG2 W${WIDTH} H${HEIGHT} F10:1 Ip A1:1 C420jpeg\n`)];
  let seed = 1;
  for (let picture = 0; picture < PICTURES; picture += 1) {
    parts.push(Buffer.from('FRAME\n'));
    const luma = Buffer.alloc(WIDTH * HEIGHT);
    for (let y = 0; y < HEIGHT; y += 1) {
      for (let x = 0; x < WIDTH; x += 1) {
        seed = (seed * 1103515245 + 12345) & 0x7fffffff;
        const noise = (seed >> 16) & 7;
        luma[y * WIDTH + x] = 40 + noise + (((x + picture * 16) >> 4) ^ (y >> 4)) * 8 % 170;
      }
    }
    const chroma = Buffer.alloc((WIDTH / 2) * (HEIGHT / 2) * 2);
    for (let at = 0; at < chroma.length; at += 1) chroma[at] = 96 + ((at + picture * 5) % 64);
    parts.push(luma, chroma);
  }
  // Written aside and renamed: another test file may be about to read it.
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, Buffer.concat(parts));
  renameSync(draft, path);
  return path;
}
