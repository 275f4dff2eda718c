// The words that room names are made of, shared by the page and the relay.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { roomName } from '../js/room-name.js';

const words = JSON.parse(readFileSync(new URL('../../assets/words.json', import.meta.url), 'utf8'));

test('the_words_are_short_plain_and_said_once', () => {
  const all = [...words.adjectives, ...words.nouns];
  assert.equal(new Set(all).size, all.length);
  assert.equal(words.adjectives.length, 256);
  assert.equal(words.nouns.length, 512);
  for (const word of all) assert.match(word, /^[a-z]{2,9}$/);
});

test('every_name_made_of_them_is_a_room_id', () => {
  for (const [at, noun] of words.nouns.entries()) {
    const id = `${words.adjectives[at % words.adjectives.length]}-${noun}-42`;
    assert.equal(roomName(id).id, id);
  }
});
