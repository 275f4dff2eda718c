// The table of strings has every sentence in both languages, and no more than the page uses.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { LANGUAGES, TABLE, t } from '../js/strings.js';

const folder = new URL('../js/', import.meta.url);
const sources = readdirSync(folder).filter((name) => name.endsWith('.js') && name !== 'strings.js').map((name) => readFileSync(new URL(name, folder), 'utf8')).join('\n');
const keys = Object.keys(TABLE);

test('every_sentence_exists_in_every_language_with_the_same_values', () => {
  const count = Object.keys(LANGUAGES).length;
  for (const [key, row] of Object.entries(TABLE)) {
    assert.equal(row.length, count, key);
    const values = row.map((text) => (text.match(/\{\w+\}/g) ?? []).sort().join());
    assert.ok(values.every((each) => each === values[0]), `${key} names different values`);
    assert.ok(row.every((text) => text.trim() === text && text !== ''), key);
  }
});

test('every_key_that_the_page_names_is_in_the_table', () => {
  const prefixes = new Set(keys.filter((key) => key.includes('.')).map((key) => key.split('.')[0]));
  const named = [...sources.matchAll(/'([a-z]+\.[a-zA-Z_.]+)'/g)].map((match) => match[1]).filter((key) => prefixes.has(key.split('.')[0]));
  assert.ok(named.length > 100);
  for (const key of named) assert.ok(key in TABLE, `${key} is used and missing`);
});

test('every_key_in_the_table_is_used', () => {
  // Keys with a changing end: their beginning is in a template.
  const open = [...sources.matchAll(/`([a-zA-Z.]+\.)\$\{/g)].map((match) => match[1]);
  for (const key of keys) {
    const used = sources.includes(`'${key}'`) || open.some((start) => key.startsWith(start)) || readsItself(key);
    assert.ok(used, `${key} is in the table and not used`);
  }
});

/** @param {string} key */
function readsItself(key) {
  return key === 'language' || key.endsWith('.one');
}

test('states_that_the_engine_names_all_have_their_words', () => {
  const types = readFileSync(new URL('types.d.ts', folder), 'utf8');
  const members = (/** @type {string} */ name) => [...(types.match(new RegExp(`type ${name} =([^;]+);`))?.[1] ?? '').matchAll(/'(\w+)'/g)].map((match) => match[1]);
  for (const problem of members('SealProblem')) assert.ok(`refused.${problem}` in TABLE, problem);
  for (const quality of members('Quality')) assert.ok(`quality.${quality}` in TABLE, quality);
  for (const state of members('LinkState')) assert.ok(state === 'connected' || `link.${state}` in TABLE, state);
});

test('values_are_put_in_as_they_are', () => {
  assert.equal(t('notice.joined', { name: '<b>$&{n}' }), '<b>$&{n} joined');
});
