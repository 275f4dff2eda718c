import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { userIdOf } from '../js/identity.js';
import { fromBase64Url } from '../js/link.js';
import { commitmentOf, fingerprintOf, placesOf } from '../js/safety.js';

const { safety } = JSON.parse(readFileSync(new URL('../../relay/wire/golden/sealing.json', import.meta.url), 'utf8'));

test('the golden commitment and words are found, whoever looks', async () => {
  assert.equal(await commitmentOf(safety.session, fromBase64Url(safety.sides[0].nonce)), safety.commitment);
  const sides = await Promise.all(safety.sides.map(async ({ publicKey, sdp, nonce }) => (
    { publicKey, sdp, nonce: fromBase64Url(nonce), userId: await userIdOf(publicKey) })));
  assert.deepEqual(await placesOf(sides[0], sides[1]), safety.words);
  assert.deepEqual(await placesOf(sides[1], sides[0]), safety.words);
});

test('the first fingerprint counts, and a description without one has no words', async () => {
  const line = (digits) => `a=fingerprint:sha-256 ${Array(32).fill(digits).join(':')}`;
  assert.deepEqual(fingerprintOf(`v=0\r\n${line('0a')}\r\n${line('0B')}\r\n`), new Uint8Array(32).fill(10));
  assert.equal(fingerprintOf('v=0\r\na=fingerprint:sha-1 00:11\r\n'), null);
});
