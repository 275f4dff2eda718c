import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatLink, fromBase64Url, newSecret, parseLink, toBase64Url } from '../js/link.js';

const SECRET = 'c2l4dGVlbiBieXRlcyBvaw';
const OWNER = 'o'.repeat(42) + 'A';
const read = (text) => parseLink(new URL(text, 'https://call.example.org'));

test('a link with a secret and an owner token is read whole', () => {
  const link = read(`/room/sunny-mountain-42#${SECRET}&owner=${OWNER}`);
  assert.equal(link.roomId, 'sunny-mountain-42');
  assert.equal(new TextDecoder().decode(link.secret), 'sixteen bytes ok');
  assert.equal(link.ownerToken, OWNER);
  assert.equal(link.damaged, undefined);
});

test('each part of the fragment may come alone', () => {
  assert.deepEqual(read('/room/abc'), { roomId: 'abc', secret: null, ownerToken: null });
  assert.equal(read(`/room/abc#owner=${OWNER}`).ownerToken, OWNER);
  assert.equal(read(`/room/abc#${SECRET}`).secret.length, 16);
});

test('what a link says survives being written again', () => {
  for (const link of [
    { roomId: 'abc', secret: null, ownerToken: null },
    { roomId: 'abc', secret: newSecret(), ownerToken: null },
    { roomId: 'abc', secret: null, ownerToken: OWNER },
    { roomId: 'abc', secret: newSecret(), ownerToken: OWNER },
  ]) {
    assert.deepEqual(parseLink(new URL(formatLink('https://call.example.org', link))), link);
  }
});

test('a secret that lost characters on the way is damage, not a link without secret', () => {
  for (const fragment of [SECRET.slice(0, -1), `${SECRET}x`, '!', `${SECRET.slice(0, -1)}x`, 'owner=short']) {
    const link = read(`/room/abc#${fragment}`);
    assert.equal(link.secret, null, fragment);
    assert.equal(link.damaged, true, fragment);
  }
});

test('upper case in the path is lowered and other paths name no room', () => {
  assert.equal(read('/room/Sunny-Mountain-42').roomId, 'sunny-mountain-42');
  for (const path of ['/', '/room/', '/room/ab', '/room/a--b', '/room/-abc', '/room/abc-', '/room/a_b', `/room/${'a'.repeat(65)}`, '/rooms/abc', '/room/abc/def']) {
    assert.equal(read(path), null, path);
  }
});

test('base64url has one spelling for each value', () => {
  for (let length = 0; length < 40; length++) {
    const bytes = crypto.getRandomValues(new Uint8Array(length));
    const text = toBase64Url(bytes);
    assert.match(text, /^[\w-]*$/);
    assert.deepEqual(fromBase64Url(text), bytes);
  }
  for (const text of ['A', 'AA==', 'A+AA', 'A/AA', 'AB', 'AA A', 'Ä']) assert.throws(() => fromBase64Url(text), SyntaxError, text);
});
