// What is said of a refusal, and when the page tries again.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';

globalThis.localStorage = { getItem: () => null, setItem() {}, removeItem() {} };
globalThis.document = Object.assign(new EventTarget(), { documentElement: {} });
Object.defineProperty(globalThis, 'navigator', { value: { languages: ['en'] }, configurable: true });
const { explain } = await import('../js/failures.js');
const { loadLanguage } = await import('../js/page.js');
before(() => loadLanguage());

test('who is told that the page tries again by itself sees it try, a second later or more', () => {
  for (const code of ['ROOM_FULL', 'SERVER_BUSY', 'DRAINING']) {
    for (const retryAfterMs of [undefined, 0, 1, 700, 4000, 60_000]) {
      const { text, again, wait } = explain({ code, message: '', retryAfterMs });
      if (/by ourselves/.test(text)) assert.equal(again, true, `${code} ${retryAfterMs}`);
      if (again) assert.ok(wait >= Math.max(1000, code === 'ROOM_FULL' ? 0 : (retryAfterMs ?? 0)), `${code} ${retryAfterMs}: ${wait}`);
      assert.doesNotMatch(text, / 0 s/);
    }
  }
});

test('a full room is asked again soon where a seat is held, and only by a press where none is', () => {
  assert.equal(explain({ code: 'ROOM_FULL', message: '', retryAfterMs: 60_000 }).wait, 5000);
  assert.deepEqual([explain({ code: 'ROOM_FULL', message: '' }).again, explain({ code: 'ROOM_FULL', message: '' }).wait], [false, 0]);
});

test('who came too often waits at least a second, and a wrong password waits for nothing', () => {
  assert.equal(explain({ code: 'RATE_LIMITED', message: '', retryAfterMs: 0 }).wait, 1000);
  assert.equal(explain({ code: 'RATE_LIMITED', message: '', retryAfterMs: 10_000 }).wait, 10_000);
  assert.equal(explain({ code: 'AUTH_FAILED', message: '' }, true).wait, 0);
});
