// The layout keeps every tile on the stage, as large as it can be, and lets nothing overlap.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bestGrid, gridLayout, pairLayout, spotlightLayout } from '../js/grid.js';

const STAGES = [[1256, 584], [1900, 900], [390, 700], [320, 420], [844, 250], [300, 300]];

/** @param {{rects: import('../js/view.js').Rect[], height: number}} layout @param {number} width */
function assertTidy({ rects, height }, width) {
  for (const [at, a] of rects.entries()) {
    assert.ok(a.width > 0 && a.height > 0, `tile ${at} is empty`);
    assert.ok(a.x >= 0 && a.y >= 0 && a.x + a.width <= width + 1 && a.y + a.height <= height + 1, `tile ${at} leaves the stage`);
    for (const b of rects.slice(at + 1)) {
      const apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
      assert.ok(apart, 'two tiles overlap');
    }
  }
}

test('one_to_ten_people_fit_every_stage_without_overlap', () => {
  for (const [width, height] of STAGES) {
    for (let count = 1; count <= 10; count += 1) {
      assertTidy(gridLayout(count, width, height), width);
      assertTidy(spotlightLayout(count, width, height), width);
    }
  }
});

test('the_number_of_columns_makes_the_tiles_largest', () => {
  for (const [width, height] of STAGES.slice(0, 2)) {
    for (let count = 1; count <= 10; count += 1) {
      const best = bestGrid(count, width, height, 8);
      for (let columns = 1; columns <= count; columns += 1) {
        const rows = Math.ceil(count / columns);
        const tileWidth = Math.min((width - 8 * (columns - 1)) / columns, ((height - 8 * (rows - 1)) / rows) * (16 / 9));
        assert.ok(best.tileWidth >= tileWidth - 1, `${columns} columns are better for ${count} in ${width}×${height}`);
      }
    }
  }
});

test('a_wide_stage_shows_five_people_as_three_and_two_in_the_middle', () => {
  const { rects } = gridLayout(5, 1256, 584);
  assert.equal(new Set(rects.map((rect) => rect.y)).size, 2);
  assert.equal(rects.filter((rect) => rect.y === rects[0].y).length, 3);
  assert.equal(Math.round(rects[3].x + rects[4].x + rects[4].width), 1256);
});

test('tiles_are_sixteen_to_nine_on_a_wide_stage_and_may_be_upright_on_a_tall_one', () => {
  const wide = gridLayout(4, 1256, 584).rects[0];
  assert.ok(Math.abs(wide.width / wide.height - 16 / 9) < 0.02);
  const tall = gridLayout(5, 390, 700).rects[0];
  assert.ok(tall.width / tall.height >= 0.74 && tall.width / tall.height < 16 / 9);
});

test('a_stage_too_small_for_ten_people_scrolls_instead_of_shrinking_them', () => {
  const { rects, height } = gridLayout(10, 300, 150);
  assert.ok(height > 150);
  assert.ok(rects.every((rect) => rect.width >= 120));
});

test('the_large_tile_comes_first_and_is_the_largest', () => {
  for (const [width, height] of STAGES) {
    const { rects } = spotlightLayout(6, width, height);
    const areas = rects.map((rect) => rect.width * rect.height);
    assert.equal(Math.max(...areas), areas[0]);
  }
});

test('one_s_own_picture_floats_inside_the_stage_for_two_people', () => {
  for (const [width, height] of STAGES) {
    const [, own] = pairLayout(width, height).rects;
    assert.ok(own.x >= 0 && own.y >= 0 && own.x + own.width <= width && own.y + own.height <= height, `${width}×${height}`);
  }
});
