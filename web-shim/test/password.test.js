import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { normalPassword } from '../js/password.js';

const golden = JSON.parse(readFileSync(new URL('../../relay/wire/golden/passwords.json', import.meta.url), 'utf8'));

test('every golden password has its normal form or its problem', () => {
  for (const { text, normal, problem } of golden.vectors) {
    if (problem) assert.throws(() => normalPassword(text), { code: `PASSWORD_${problem.toUpperCase()}` }, JSON.stringify(text));
    else assert.equal(normalPassword(text), normal, JSON.stringify(text));
  }
});

test('half of a surrogate pair is no password', () => {
  assert.throws(() => normalPassword('\ud83d'), { code: 'PASSWORD_CHARACTER' });
});
