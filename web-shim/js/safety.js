// The safety words of a link (PROTOCOL §6): what two people compare by voice to know that nobody sits between them.
// Never keeps a nonce: each side's belongs to one session of its link.

import { join, utf8 } from './identity.js';
import { fromBase64Url, toBase64Url } from './link.js';

/** @typedef {{ userId: string, publicKey: string, sdp: string, nonce: Uint8Array<ArrayBuffer> }} Side */

const NONCE_BYTES = 16;
const WORDS = 4;
const WORD_BITS = 9n;

export const newNonce = () => crypto.getRandomValues(new Uint8Array(NONCE_BYTES));

/** What the offerer binds itself to before it has seen the other's nonce. @param {string} session @param {Uint8Array} nonce */
export async function commitmentOf(session, nonce) {
  const hash = await crypto.subtle.digest('SHA-256', join(utf8(`snug/2\0commitment\0${session}\0`), nonce));
  return toBase64Url(new Uint8Array(hash));
}

/**
 * Four places in the list of nouns, the same for both sides.
 * @param {Side} one @param {Side} other @returns {Promise<number[] | null>} null where a description has no fingerprint
 */
export async function placesOf(one, other) {
  const sides = one.userId < other.userId ? [one, other] : [other, one];
  const parts = sides.map(({ publicKey, sdp, nonce }) => [fromBase64Url(publicKey), fingerprintOf(sdp), nonce]).flat();
  if (parts.some((part) => part === null)) return null;
  const hash = await crypto.subtle.digest('SHA-256', join(utf8('snug/2\0safety\0'), .../** @type {Uint8Array[]} */ (parts)));
  const bits = new DataView(hash).getBigUint64(0);
  return Array.from({ length: WORDS }, (_, place) => Number((bits >> (55n - WORD_BITS * BigInt(place))) & 0x1ffn));
}

/** Of the first certificate in a description. @param {string} sdp */
export function fingerprintOf(sdp) {
  const digits = /^a=fingerprint:sha-256 ((?:[\dA-F]{2}:){31}[\dA-F]{2})\s*$/im.exec(sdp)?.[1];
  return digits ? Uint8Array.from(digits.split(':'), (byte) => parseInt(byte, 16)) : null;
}
