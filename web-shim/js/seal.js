// Sealing of payloads against a relay that lies (PROTOCOL §6): AES-256-GCM under a key of each sender, derived from the link's secret.
// Never falls back to plain when the link has a secret, and never remembers anything of a payload that it refused.
//
// A userId is drawn afresh for each run, which keeps (key, nonce) pairs unique although counters start at 1. All holders of the link can
// derive all keys: sealing keeps the relay out, not one guest from speaking as another.

import { fromBase64Url, toBase64Url } from './link.js';

/** @import { Payload, SealKind, SealProblem } from './types.d.ts' */
/** @typedef {{ highest: bigint, window: Set<bigint>, name: bigint }} Seen */

const WINDOW = 1024n;
// Forgetting a sender would let its payloads be replayed, so a room that saw this many is refused instead.
const SENDERS = 1024;
const COUNTER_BYTES = 8;
const TAG_BYTES = 16;

/** The view has a sentence for each problem. */
export class SealError extends Error {
  /** @param {SealProblem} problem */
  constructor(problem) {
    super(problem);
    this.name = 'SealError';
    this.problem = problem;
  }
}

/**
 * Shows the relay that we have the whole link, and says nothing about the secret.
 * @param {Uint8Array<ArrayBuffer>} secret @param {string} roomId
 */
export async function deriveLinkProof(secret, roomId) {
  const bits = await crypto.subtle.deriveBits(hkdf('link-proof', roomId), await importSecret(secret), 256);
  return toBase64Url(new Uint8Array(bits));
}

export class Sealer {
  #roomId;
  #selfId;
  /** @type {Promise<CryptoKey> | null} */
  #secret;
  #counter = 0n;
  /** @type {Promise<unknown>} */
  #last = Promise.resolve();
  /** @type {Map<string, Promise<CryptoKey>>} */
  #keys = new Map();
  /** @type {Map<string, Seen>} */
  #seen = new Map();

  /** @param {{ secret: Uint8Array<ArrayBuffer> | null, roomId: string, selfId: string }} options */
  constructor({ secret, roomId, selfId }) {
    this.#roomId = roomId;
    this.#selfId = selfId;
    // Whoever seals or opens first learns of a failure; until then nobody listens.
    this.#secret = secret && Promise.resolve(secret).then(importSecret);
    this.#secret?.catch(() => {});
  }

  /**
   * Resolves in the order of the calls, so that what is sent on resolving arrives in the order of the counters.
   * @param {SealKind} kind @param {string} receiverId a userId, or `*` for the whole room @param {object} value
   */
  seal(kind, receiverId, value) {
    return this.sealText(kind, receiverId, JSON.stringify(value));
  }

  /** @param {SealKind} kind @param {string} receiverId @param {string} text @returns {Promise<Payload>} */
  sealText(kind, receiverId, text) {
    if (!this.#secret) return Promise.resolve({ plain: text });
    const bytes = this.#encrypt(kind, receiverId, ++this.#counter, utf8(text));
    const payload = Promise.all([bytes, this.#last]).then(([sealed]) => ({ sealed: toBase64Url(sealed) }));
    this.#last = payload.catch(() => {});
    return payload;
  }

  /**
   * @param {SealKind} kind @param {string} senderId the one the relay named @param {string} receiverId our own id, or `*`
   * @param {Payload} payload
   * @returns {Promise<unknown>} the JSON value; its shape is for the caller to check
   * @throws {SealError}
   */
  async open(kind, senderId, receiverId, payload) {
    const text = await this.openText(kind, senderId, receiverId, payload);
    try {
      return JSON.parse(text);
    } catch {
      throw new SealError('tampered');
    }
  }

  /** @param {SealKind} kind @param {string} senderId @param {string} receiverId @param {Payload} payload */
  async openText(kind, senderId, receiverId, payload) {
    if ('plain' in payload) {
      if (this.#secret) throw new SealError('not_sealed');
      return payload.plain;
    }
    if (!this.#secret) throw new SealError('no_secret');
    if (senderId === this.#selfId) throw new SealError('reflected');
    const { counter, text } = await this.#decrypt(kind, senderId, receiverId, payload.sealed);
    // Nothing may be awaited from here on: two copies of one payload could both pass.
    if (!this.#accept(kind, senderId, counter)) throw new SealError('replayed');
    return text;
  }

  /** @param {SealKind} kind @param {string} receiverId @param {bigint} counter @param {Uint8Array<ArrayBuffer>} text */
  async #encrypt(kind, receiverId, counter, text) {
    const key = await this.#senderKey(this.#selfId);
    const ciphertext = await crypto.subtle.encrypt(this.#cipher(kind, this.#selfId, receiverId, counter), key, text);
    return join(counterBytes(counter), new Uint8Array(ciphertext));
  }

  /** @param {SealKind} kind @param {string} senderId @param {string} receiverId @param {string} sealed */
  async #decrypt(kind, senderId, receiverId, sealed) {
    try {
      const bytes = fromBase64Url(sealed);
      if (bytes.length < COUNTER_BYTES + TAG_BYTES) throw new SealError('tampered');
      const counter = new DataView(bytes.buffer).getBigUint64(0);
      const cipher = this.#cipher(kind, senderId, receiverId, counter);
      const plain = await crypto.subtle.decrypt(cipher, await this.#senderKey(senderId), bytes.subarray(COUNTER_BYTES));
      return { counter, text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(plain) };
    } catch {
      throw new SealError('tampered');
    }
  }

  /** @param {SealKind} kind @param {string} senderId @param {string} receiverId @param {bigint} counter */
  #cipher(kind, senderId, receiverId, counter) {
    const bytes = counterBytes(counter);
    const additionalData = join(utf8(`${['snug/1', kind, this.#roomId, senderId, receiverId].join('\0')}\0`), bytes);
    return { name: 'AES-GCM', iv: join(new Uint8Array(4), bytes), additionalData };
  }

  /** @param {string} senderId */
  #senderKey(senderId) {
    let key = this.#keys.get(senderId);
    if (!key) {
      key = Promise.resolve(this.#secret).then((secret) => {
        if (!secret) throw new SealError('no_secret');
        const aes = { name: 'AES-GCM', length: 256 };
        return crypto.subtle.deriveKey(hkdf('sender', this.#roomId, senderId), secret, aes, false, ['encrypt', 'decrypt']);
      });
      if (this.#keys.size >= SENDERS) this.#keys.clear();
      this.#keys.set(senderId, key);
    }
    return key;
  }

  /** @param {SealKind} kind @param {string} senderId @param {bigint} counter */
  #accept(kind, senderId, counter) {
    let seen = this.#seen.get(senderId);
    if (!seen) {
      if (this.#seen.size >= SENDERS) return false;
      this.#seen.set(senderId, (seen = { highest: 0n, window: new Set(), name: 0n }));
    }
    if (kind === 'name') {
      if (counter < seen.name) return false;
      seen.name = counter;
      return true;
    }
    if (counter + WINDOW <= seen.highest || seen.window.has(counter)) return false;
    seen.window.add(counter);
    if (counter > seen.highest) seen.highest = counter;
    if (seen.window.size > 2 * Number(WINDOW)) {
      for (const old of seen.window) if (old + WINDOW <= seen.highest) seen.window.delete(old);
    }
    return true;
  }
}

/** @param {Uint8Array<ArrayBuffer>} secret */
function importSecret(secret) {
  return crypto.subtle.importKey('raw', secret, 'HKDF', false, ['deriveKey', 'deriveBits']);
}

/** @param {string[]} info parts, a zero byte between them */
function hkdf(...info) {
  return { name: 'HKDF', hash: 'SHA-256', salt: utf8('snug/1'), info: utf8(info.join('\0')) };
}

/** @param {bigint} counter */
function counterBytes(counter) {
  const bytes = new Uint8Array(COUNTER_BYTES);
  new DataView(bytes.buffer).setBigUint64(0, counter);
  return bytes;
}

/** @param {string} text @returns {Uint8Array<ArrayBuffer>} */
function utf8(text) {
  return new TextEncoder().encode(text);
}

/** @param {Uint8Array} first @param {Uint8Array} second */
function join(first, second) {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}
