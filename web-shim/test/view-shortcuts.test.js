// Shortcuts: one key for one deed, none while somebody types or holds a modifier.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_KEYS, deedOf, remap, takesText } from '../js/shortcuts.js';

test('each_key_does_its_deed_in_either_case', () => {
  for (const [deed, key] of Object.entries(DEFAULT_KEYS)) {
    assert.equal(deedOf({ key }, DEFAULT_KEYS), deed);
    assert.equal(deedOf({ key: key.toUpperCase() }, DEFAULT_KEYS), deed);
  }
  assert.equal(deedOf({ key: 'z' }, DEFAULT_KEYS), null);
});

test('keys_with_a_modifier_and_held_keys_belong_to_the_browser', () => {
  for (const modifier of ['ctrlKey', 'metaKey', 'altKey', 'repeat']) assert.equal(deedOf({ key: 'm', [modifier]: true }, DEFAULT_KEYS), null);
});

test('a_deed_takes_another_key', () => {
  const keys = remap({ ...DEFAULT_KEYS }, 'mute', 'D');
  assert.equal(deedOf({ key: 'd' }, keys), 'mute');
  assert.equal(deedOf({ key: 'm' }, keys), null);
});

test('a_key_that_is_taken_changes_places', () => {
  const keys = remap({ ...DEFAULT_KEYS }, 'mute', 'v');
  assert.equal(keys.mute, 'v');
  assert.equal(keys.camera, 'm');
  assert.equal(new Set(Object.values(keys)).size, Object.keys(DEFAULT_KEYS).length);
});

test('the_same_key_again_changes_nothing', () => {
  assert.deepEqual(remap({ ...DEFAULT_KEYS }, 'mute', 'm'), { ...DEFAULT_KEYS });
});

test('text_fields_keep_their_keys_and_switches_do_not', () => {
  const element = (/** @type {object} */ fields) => /** @type {Element} */ (/** @type {unknown} */ (fields));
  assert.equal(takesText(element({ tagName: 'TEXTAREA' })), true);
  assert.equal(takesText(element({ tagName: 'INPUT', type: 'password' })), true);
  assert.equal(takesText(element({ tagName: 'INPUT', type: 'range' })), false);
  assert.equal(takesText(element({ tagName: 'BUTTON' })), false);
  assert.equal(takesText(null), false);
});
