// The tables of strings have every sentence in both languages, and no more than the page uses.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { TABLE as GERMAN_AT_ONCE } from '../js/strings-de.js';
import { TABLE as GERMAN_ON_DEMAND } from '../js/strings-on-demand-de.js';
import { TABLE as ON_DEMAND } from '../js/strings-on-demand.js';
import { TABLE as AT_ONCE } from '../js/strings.js';

/** The sentences by `group.name`, as the page asks for them. @param {Record<string, Record<string, string>>} groups @returns {Record<string, string>} */
const flat = (groups) => Object.fromEntries(Object.entries(groups).flatMap(([group, names]) => Object.entries(names).map(([name, text]) => [`${group}.${name}`, text])));
/** @type {Record<string, Record<string, string>>} */
const GROUPS = { ...AT_ONCE, ...ON_DEMAND };
const TABLE = flat(GROUPS);
const GERMAN = flat({ ...GERMAN_AT_ONCE, ...GERMAN_ON_DEMAND });

const folder = new URL('../js/', import.meta.url);
const sources = readdirSync(folder).filter((name) => name.endsWith('.js') && !name.startsWith('strings')).map((name) => readFileSync(new URL(name, folder), 'utf8')).join('\n');
const keys = Object.keys(TABLE);

test('every_sentence_exists_in_both_languages_with_the_same_values', () => {
  assert.deepEqual(Object.keys(GERMAN), keys);
  const values = (/** @type {string} */ text) => (text.match(/\{\w+\}/g) ?? []).sort().join();
  for (const key of keys) {
    assert.equal(values(GERMAN[key]), values(TABLE[key]), `${key} names different values`);
    for (const text of [TABLE[key], GERMAN[key]]) assert.ok(text && text.trim() === text, key);
  }
});

test('every_key_that_the_page_names_is_in_the_table', () => {
  const prefixes = new Set(Object.keys(GROUPS));
  const named = [...sources.matchAll(/'([a-z]+\.[a-zA-Z_.]+)'/g)].map((match) => match[1]).filter((key) => prefixes.has(key.split('.')[0]));
  assert.ok(named.length > 100);
  for (const key of named) assert.ok(key in TABLE, `${key} is used and missing`);
});

test('what_is_loaded_at_once_uses_no_sentence_that_comes_on_demand', () => {
  assert.deepEqual(Object.keys(AT_ONCE).filter((group) => group in ON_DEMAND), []);
  const onDemand = new Set(['invite-view.js', 'qr.js', 'menu-views.js', 'settings-view.js', 'shortcut-list.js', 'pip.js', 'owner-view.js']);
  const group = new RegExp(`['\`](${Object.keys(ON_DEMAND).join('|')})\\.`);
  for (const name of readdirSync(folder).filter((file) => file.endsWith('.js') && !onDemand.has(file))) {
    assert.doesNotMatch(readFileSync(new URL(name, folder), 'utf8'), group, name);
  }
});

test('every_key_in_the_table_is_used', () => {
  // Keys with a changing end: their beginning is in a template.
  const open = [...sources.matchAll(/`([a-zA-Z.]+\.)\$\{/g)].map((match) => match[1]);
  for (const key of keys) {
    assert.ok(sources.includes(`'${key}'`) || open.some((start) => key.startsWith(start)), `${key} is in the table and not used`);
  }
});

test('states_that_the_engine_names_all_have_their_words', () => {
  const types = readFileSync(new URL('types.d.ts', folder), 'utf8');
  const members = (/** @type {string} */ name) => [...(types.match(new RegExp(`type ${name} =([^;]+);`))?.[1] ?? '').matchAll(/'(\w+)'/g)].map((match) => match[1]);
  // What is outdated is dropped in silence.
  for (const problem of members('SealProblem')) assert.ok(problem === 'outdated' || `refused.${problem}` in TABLE, problem);
  for (const quality of members('Quality')) assert.ok(`quality.${quality}` in TABLE, quality);
  for (const state of members('LinkState')) assert.ok(state === 'connected' || `link.${state}` in TABLE, state);
});

test('every_code_with_a_sentence_is_one_of_the_protocol_or_of_the_page', () => {
  const protocol = readFileSync(new URL('../../relay/wire/PROTOCOL.md', import.meta.url), 'utf8');
  for (const code of Object.keys(GROUPS.fail).filter((name) => /^[A-Z_]+$/.test(name))) {
    assert.ok(protocol.includes(`\`${code}\``) || sources.includes(`'${code}'`) || sources.includes(`'fail.${code}'`), code);
  }
});

test('every_reason_why_a_text_is_no_password_has_its_sentence', () => {
  const codes = new Set([...sources.matchAll(/'(PASSWORD_[A-Z]+)'/g)].map((match) => match[1]));
  assert.ok(codes.size >= 3);
  for (const code of codes) assert.ok(`fail.${code}` in TABLE, code);
});
