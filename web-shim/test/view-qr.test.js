// QR codes are read back by zbarimg, a reader that shares no code with the writer.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { skip, whyWithout } from '../../ci/e2e/lib/needs.mjs';
import { qrMatrix } from '../js/qr.js';

/** Bytes that just fit, and just do not fit, versions 1 to 12 at level M. */
const CAPACITY = [14, 26, 42, 62, 84, 106, 122, 152, 180, 213, 251, 287];
const LINK = 'https://call.example.org/room/sunny-mountain-42#AAECAwQFBgcICQoLDA0ODw&owner=';

/** @param {boolean[][]} grid @param {string} folder */
function read(grid, folder) {
  const scale = 4;
  const quiet = 4;
  const size = (grid.length + 2 * quiet) * scale;
  const pixels = Buffer.alloc(size * size, 255);
  for (let y = 0; y < grid.length * scale; y += 1) {
    for (let x = 0; x < grid.length * scale; x += 1) {
      if (grid[Math.floor(y / scale)][Math.floor(x / scale)]) pixels[(y + quiet * scale) * size + x + quiet * scale] = 0;
    }
  }
  const file = join(folder, 'code.pgm');
  writeFileSync(file, Buffer.concat([Buffer.from(`P5 ${size} ${size} 255\n`), pixels]));
  return execFileSync('zbarimg', ['--quiet', '--raw', file], { stdio: ['ignore', 'pipe', 'ignore'] }).toString().replace(/\n$/, '');
}

test('every_version_is_read_back_at_its_largest', (context) => {
  const why = whyWithout('zbar-tools', 'zbarimg');
  if (why) return skip(context, why);
  const folder = mkdtempSync(join(tmpdir(), 'snug-qr-'));
  context.after(() => rmSync(folder, { recursive: true }));
  for (const [at, bytes] of CAPACITY.entries()) {
    const text = (LINK + 'a1B2c3D4e5'.repeat(30)).slice(0, bytes);
    const grid = qrMatrix(text);
    assert.equal(grid.length, 17 + 4 * (at + 1), `${bytes} bytes want version ${at + 1}`);
    assert.equal(read(grid, folder), text);
  }
});

test('one_byte_more_takes_the_next_version', () => {
  for (const [at, bytes] of CAPACITY.slice(0, -1).entries()) assert.equal(qrMatrix('x'.repeat(bytes + 1)).length, 17 + 4 * (at + 2));
});

test('too_long_a_text_is_refused_with_its_size', () => {
  assert.throws(() => qrMatrix('x'.repeat(288)), /288 bytes/);
});
