// Where the tiles go: a grid as large as it can be, or one large tile with a strip of small ones.
// Pure: takes sizes, gives rectangles; never measures a page.

/** @import { Rect } from './view.d.ts' */

/** @typedef {{rects: Rect[], height: number}} Layout `height` is more than was given when the tiles must scroll */

const WIDE = 16 / 9;
/** A tall phone may show people in upright tiles. */
const UPRIGHT = 3 / 4;
/** Smaller tiles are not worth looking at: the layout scrolls instead. */
const MIN_WIDTH = 120;
const STRIP_MIN = 132;
const STRIP_MAX = 240;

/**
 * The number of columns that makes the tiles largest.
 * @param {number} count @param {number} width @param {number} height @param {number} gap
 */
export function bestGrid(count, width, height, gap) {
  const narrowest = height > width ? UPRIGHT : WIDE;
  let best = { columns: 1, rows: count, tileWidth: 0, tileHeight: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cellWidth = Math.max(0, (width - gap * (columns - 1)) / columns);
    const cellHeight = Math.max(0, (height - gap * (rows - 1)) / rows);
    const aspect = Math.min(WIDE, Math.max(narrowest, cellWidth / Math.max(1, cellHeight)));
    const tileWidth = Math.min(cellWidth, cellHeight * aspect);
    const tileHeight = tileWidth / aspect;
    if (tileWidth * tileHeight > best.tileWidth * best.tileHeight + 1) best = { columns, rows, tileWidth, tileHeight };
  }
  return best;
}

/**
 * All tiles alike, the last row in the middle.
 * @param {number} count @param {number} width @param {number} height @param {number} [gap] @returns {Layout}
 */
export function gridLayout(count, width, height, gap = 8) {
  if (count === 0) return { rects: [], height };
  let { columns, rows, tileWidth, tileHeight } = bestGrid(count, width, height, gap);
  let total = height;
  const least = Math.min(MIN_WIDTH, width);
  if (tileWidth < least) {
    columns = Math.max(1, Math.floor((width + gap) / (least + gap)));
    rows = Math.ceil(count / columns);
    tileWidth = (width - gap * (columns - 1)) / columns;
    tileHeight = tileWidth / WIDE;
    total = Math.max(height, rows * tileHeight + gap * (rows - 1));
  }
  const top = (total - rows * tileHeight - gap * (rows - 1)) / 2;
  const rects = Array.from({ length: count }, (_, at) => {
    const row = Math.floor(at / columns);
    const inRow = row === rows - 1 ? count - row * columns : columns;
    const left = (width - inRow * tileWidth - gap * (inRow - 1)) / 2;
    return rect(left + (at % columns) * (tileWidth + gap), top + row * (tileHeight + gap), tileWidth, tileHeight);
  });
  return { rects, height: total };
}

/**
 * One large area and the others in a strip: beside it when the stage is wide, below when it is tall.
 * @param {number} count all tiles, the large one included @param {number} width @param {number} height @param {number} [gap]
 * @returns {Layout} the large one first
 */
export function spotlightLayout(count, width, height, gap = 8) {
  const others = count - 1;
  if (others <= 0) return { rects: count ? [rect(0, 0, width, height)] : [], height };
  return width > height * 1.1 ? beside(others, width, height, gap) : below(others, width, height, gap);
}

/** @param {number} others @param {number} width @param {number} height @param {number} gap @returns {Layout} */
function beside(others, width, height, gap) {
  // One column while its tiles stay large enough, then two.
  const fit = (/** @type {number} */ columns) => {
    const rows = Math.ceil(others / columns);
    const byHeight = ((height - gap * (rows - 1)) / rows) * WIDE;
    return Math.min(STRIP_MAX, byHeight, (width * 0.28 - gap * (columns - 1)) / columns);
  };
  const columns = fit(1) >= STRIP_MIN || others < 2 ? 1 : 2;
  const tileWidth = Math.max(fit(columns), Math.min(MIN_WIDTH, width * 0.28));
  const tileHeight = tileWidth / WIDE;
  const rows = Math.ceil(others / columns);
  const stripWidth = columns * tileWidth + gap * (columns - 1);
  const stripHeight = rows * tileHeight + gap * (rows - 1);
  const total = Math.max(height, stripHeight);
  const top = Math.max(0, (height - stripHeight) / 2);
  const strip = Array.from({ length: others }, (_, at) => rect(
    width - stripWidth + (at % columns) * (tileWidth + gap), top + Math.floor(at / columns) * (tileHeight + gap), tileWidth, tileHeight));
  return { rects: [rect(0, 0, width - stripWidth - gap, height), ...strip], height: total };
}

/** @param {number} others @param {number} width @param {number} height @param {number} gap @returns {Layout} */
function below(others, width, height, gap) {
  const columns = Math.min(others, Math.max(2, Math.floor((width + gap) / (STRIP_MIN * 0.8 + gap))));
  const tileWidth = Math.min(STRIP_MAX, (width - gap * (columns - 1)) / columns);
  const tileHeight = Math.min(tileWidth / WIDE, height * 0.3);
  const rows = Math.ceil(others / columns);
  const stripHeight = rows * tileHeight + gap * (rows - 1);
  const largeHeight = Math.max(height - stripHeight - gap, height * 0.5);
  const strip = Array.from({ length: others }, (_, at) => {
    const row = Math.floor(at / columns);
    const inRow = row === rows - 1 ? others - row * columns : columns;
    const left = (width - inRow * tileWidth - gap * (inRow - 1)) / 2;
    return rect(left + (at % columns) * (tileWidth + gap), largeHeight + gap + row * (tileHeight + gap), tileWidth, tileHeight);
  });
  return { rects: [rect(0, 0, width, largeHeight), ...strip], height: Math.max(height, largeHeight + gap + stripHeight) };
}

/**
 * Two people: the other one fills the stage and one's own picture floats in the corner.
 * @param {number} width @param {number} height @param {number} [gap] @returns {Layout} the other first
 */
export function pairLayout(width, height, gap = 8) {
  const wide = width >= height;
  const small = Math.max(90, Math.min(wide ? width * 0.2 : width * 0.3, 280));
  const tall = wide ? small / WIDE : small / UPRIGHT;
  const other = wide ? gridLayout(1, width, height).rects[0] : rect(0, 0, width, height);
  return { rects: [other, rect(width - small - gap * 1.5, height - tall - gap * 1.5, small, tall)], height };
}

/** Whole pixels, so that neighbouring edges stay sharp. @param {number} x @param {number} y @param {number} width @param {number} height @returns {Rect} */
function rect(x, y, width, height) {
  return { x: Math.round(x), y: Math.round(y), width: Math.floor(width), height: Math.floor(height) };
}
