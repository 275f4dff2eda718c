// QR codes (ISO/IEC 18004) for links: byte mode, error correction level M, versions 1 to 12 (287 bytes at most).
// Never draws anything but squares; `qrMatrix` is pure, `qrSvg` puts the squares into one path.

import { svg } from './page.js';

/** Data codewords, error correction codewords a block, and blocks of versions 1 to 12 at level M (table 9 of the standard). */
const DATA = [16, 28, 44, 64, 86, 108, 124, 154, 182, 216, 254, 290];
const CORRECTION = [10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22];
const BLOCKS = [1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8];

// Powers and logarithms in GF(256) with the polynomial x⁸+x⁴+x³+x²+1.
const POWER = new Uint8Array(512);
const LOG = new Uint8Array(256);
for (let at = 0, value = 1; at < 255; at += 1) {
  POWER[at] = POWER[at + 255] = value;
  LOG[value] = at;
  value = (value << 1) ^ (value & 128 ? 0x11d : 0);
}
const times = (/** @type {number} */ a, /** @type {number} */ b) => (a && b ? POWER[LOG[a] + LOG[b]] : 0);

/** Reed–Solomon remainder of a block. @param {Uint8Array} data @param {number} degree */
function correction(data, degree) {
  let generator = [1];
  for (let at = 0; at < degree; at += 1) {
    const next = [...generator, 0];
    generator.forEach((factor, place) => { next[place + 1] ^= times(factor, POWER[at]); });
    generator = next;
  }
  const rest = new Uint8Array(data.length + degree);
  rest.set(data);
  for (let at = 0; at < data.length; at += 1) {
    const lead = rest[at];
    if (lead) generator.forEach((factor, place) => { rest[at + place] ^= times(factor, lead); });
  }
  return rest.subarray(data.length);
}

/** @param {Uint8Array} bytes @returns {{version: number, codewords: number[]}} */
function encodeBytes(bytes) {
  const version = DATA.findIndex((size, at) => bytes.length + (at < 9 ? 2 : 3) <= size) + 1;
  if (!version) throw new RangeError(`${bytes.length} bytes are too many for a QR code of version 12`);
  const size = DATA[version - 1];
  const bits = [0, 1, 0, 0];
  const push = (/** @type {number} */ value, /** @type {number} */ width) => {
    for (let at = width - 1; at >= 0; at -= 1) bits.push((value >> at) & 1);
  };
  push(bytes.length, version < 10 ? 8 : 16);
  for (const byte of bytes) push(byte, 8);
  push(0, Math.min(4, size * 8 - bits.length));
  while (bits.length % 8) bits.push(0);
  const data = new Uint8Array(size);
  for (let at = 0; at < size; at += 1) {
    data[at] = at * 8 < bits.length ? parseInt(bits.slice(at * 8, at * 8 + 8).join(''), 2) : (at - bits.length / 8) % 2 ? 0x11 : 0xec;
  }
  return { version, codewords: interleave(data, BLOCKS[version - 1], CORRECTION[version - 1]) };
}

/** @param {Uint8Array} data @param {number} count @param {number} degree */
function interleave(data, count, degree) {
  const short = Math.floor(data.length / count);
  const long = data.length % count;
  /** @type {Uint8Array[]} */
  const blocks = [];
  for (let at = 0, from = 0; at < count; at += 1) {
    const length = short + (at >= count - long ? 1 : 0);
    blocks.push(data.subarray(from, from + length));
    from += length;
  }
  const checks = blocks.map((block) => correction(block, degree));
  /** @type {number[]} */
  const out = [];
  for (let at = 0; at <= short; at += 1) for (const block of blocks) if (at < block.length) out.push(block[at]);
  for (let at = 0; at < degree; at += 1) for (const check of checks) out.push(check[at]);
  return out;
}

/** Bits of a number with its BCH remainder. @param {number} value @param {number} degree @param {number} generator */
function bch(value, degree, generator) {
  let rest = value << degree;
  for (let at = 31 - Math.clz32(rest); at >= degree; at = 31 - Math.clz32(rest)) rest ^= generator << (at - degree);
  return (value << degree) | rest;
}

/** @type {((row: number, column: number) => boolean)[]} */
const MASKS = [
  (r, c) => (r + c) % 2 === 0, (r) => r % 2 === 0, (_, c) => c % 3 === 0, (r, c) => (r + c) % 3 === 0,
  (r, c) => ((r >> 1) + Math.floor(c / 3)) % 2 === 0, (r, c) => ((r * c) % 2) + ((r * c) % 3) === 0,
  (r, c) => (((r * c) % 2) + ((r * c) % 3)) % 2 === 0, (r, c) => (((r + c) % 2) + ((r * c) % 3)) % 2 === 0,
];

/** The fixed patterns; what stays null takes data. @param {number} version */
function frame(version) {
  const size = version * 4 + 17;
  /** @type {(boolean | null)[][]} */
  const grid = Array.from({ length: size }, () => Array(size).fill(null));
  /** @param {number} row @param {number} column @param {number} reach @param {(distance: number) => boolean} dark */
  const square = (row, column, reach, dark) => {
    for (let r = row - reach; r <= row + reach; r += 1) {
      for (let c = column - reach; c <= column + reach; c += 1) {
        if (grid[r]?.[c] !== undefined) grid[r][c] = dark(Math.max(Math.abs(r - row), Math.abs(c - column)));
      }
    }
  };
  for (const [row, column] of [[3, 3], [3, size - 4], [size - 4, 3]]) square(row, column, 4, (distance) => distance !== 2 && distance !== 4);
  const last = size - 7;
  const places = version === 1 ? [] : version < 7 ? [6, last] : [6, (6 + last) / 2, last];
  for (const row of places) {
    for (const column of places) {
      const onFinder = (row === 6 && column === 6) || (row === 6 && column === last) || (row === last && column === 6);
      if (!onFinder) square(row, column, 2, (distance) => distance !== 1);
    }
  }
  for (let at = 8; at < size - 8; at += 1) grid[6][at] = grid[at][6] = at % 2 === 0;
  return grid;
}

/** @param {(boolean | null)[][]} grid @param {number} version @param {number} mask */
function writeInfo(grid, version, mask) {
  const size = grid.length;
  // Level M is 00, so the mask alone is the format.
  const format = bch(mask, 10, 0x537) ^ 0x5412;
  for (let at = 0; at < 15; at += 1) {
    const dark = ((format >> at) & 1) === 1;
    grid[at < 6 ? at : at < 8 ? at + 1 : size - 15 + at][8] = dark;
    grid[8][at < 8 ? size - 1 - at : at < 9 ? 7 : 14 - at] = dark;
  }
  grid[size - 8][8] = true;
  if (version < 7) return;
  const number = bch(version, 12, 0x1f25);
  for (let at = 0; at < 18; at += 1) {
    const dark = ((number >> at) & 1) === 1;
    grid[Math.floor(at / 3)][size - 11 + (at % 3)] = dark;
    grid[size - 11 + (at % 3)][Math.floor(at / 3)] = dark;
  }
}

/** Lower is easier to read for a camera (section 7.8.3). @param {boolean[][]} grid */
function penalty(grid) {
  const size = grid.length;
  let points = 0;
  let dark = 0;
  for (let row = 0; row < size; row += 1) {
    for (const line of [grid[row].map(Number).join(''), grid.map((cells) => Number(cells[row])).join('')]) {
      for (const run of line.match(/0{5,}|1{5,}/g) ?? []) points += run.length - 2;
      points += 40 * ((line.match(/(?=10111010000)/g) ?? []).length + (line.match(/(?=00001011101)/g) ?? []).length);
    }
    for (let column = 0; column < size; column += 1) {
      if (grid[row][column]) dark += 1;
      const cell = grid[row][column];
      if (row && column && cell === grid[row - 1][column] && cell === grid[row][column - 1] && cell === grid[row - 1][column - 1]) points += 3;
    }
  }
  return points + 10 * Math.floor(Math.abs((dark * 100) / (size * size) - 50) / 5);
}

/** @param {string} text @returns {boolean[][]} rows of modules, true is dark; without the quiet zone @throws {RangeError} when too long */
export function qrMatrix(text) {
  const { version, codewords } = encodeBytes(new TextEncoder().encode(text));
  const free = frame(version);
  const size = free.length;
  // Reserves the places of the format and version before data is laid out.
  writeInfo(free, version, 0);
  const candidates = MASKS.map((mask, number) => {
    const grid = free.map((row) => [...row]);
    let bit = 0;
    for (let pair = size - 1; pair > 0; pair -= 2) {
      if (pair === 6) pair = 5;
      const up = ((pair + 1) & 2) === 0;
      for (let step = 0; step < size; step += 1) {
        const row = up ? size - 1 - step : step;
        for (const column of [pair, pair - 1]) {
          if (free[row][column] !== null) continue;
          const dark = bit < codewords.length * 8 && ((codewords[bit >> 3] >> (7 - (bit & 7))) & 1) === 1;
          grid[row][column] = dark !== mask(row, column);
          bit += 1;
        }
      }
    }
    writeInfo(grid, version, number);
    return /** @type {boolean[][]} */ (grid);
  });
  const scores = candidates.map(penalty);
  return candidates[scores.indexOf(Math.min(...scores))];
}

/** @param {string} text @param {string} label what the picture is, for who cannot see it */
export function qrSvg(text, label) {
  const grid = qrMatrix(text);
  const size = grid.length + 8;
  const path = grid.map((row, y) => row.map((dark, x) => (dark ? `M${x + 4} ${y + 4}h1v1h-1z` : '')).join('')).join('');
  return svg('svg', { viewBox: `0 0 ${size} ${size}`, role: 'img', 'aria-label': label, 'shape-rendering': 'crispEdges' },
    svg('rect', { width: size, height: size, fill: '#fff' }), svg('path', { d: path, fill: '#000' }));
}
