// Signing and sealing of payloads against a relay, or a member, that lies (PROTOCOL §6): everything is signed with the key that its
// sender's userId is the hash of, and AES-256-GCM under a key of each sender's run where the link has a secret.
// Never falls back to plain when the link has a secret, and never remembers anything of a payload that it refused.
//
// (key, nonce) pairs are unique since a key belongs to one run and its counters never repeat. Members derive each other's sealing
// keys, and cannot sign as each other.

import { importPublicKey, join, userIdOf, utf8, verifies } from './identity.js';
import { fromBase64Url, toBase64Url } from './link.js';

/** @import { Payload, SealKind, SealProblem } from './types.d.ts' */
/** @import { Identity } from './identity.js' */
/** @typedef {{ key: Promise<CryptoKey | null>, publicKey: string | undefined, run: string, highest: bigint, window: Set<bigint>, name: bigint }} Sender */

const WINDOW = 1024n;
/** The one that was silent longest is forgotten first. */
const SENDERS = 1024;
const RUN_BYTES = 16;
const HEADER_BYTES = RUN_BYTES + 8;
const SIGNATURE_BYTES = 64;
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
  const bits = await crypto.subtle.deriveBits(hkdf(utf8(`link-proof\0${roomId}`)), await importSecret(secret), 256);
  return toBase64Url(new Uint8Array(bits));
}

export class Sealer {
  #roomId;
  #identity;
  /** @type {Promise<CryptoKey> | null} */
  #secret;
  #counter = 0n;
  /** @type {Promise<unknown>} */
  #last = Promise.resolve();
  /** By sender and run. @type {Map<string, Promise<CryptoKey>>} */
  #keys = new Map();
  /** The one heard or named last comes last. @type {Map<string, Sender>} */
  #senders = new Map();

  /** @param {{ secret: Uint8Array<ArrayBuffer> | null, roomId: string, identity: Identity }} options */
  constructor({ secret, roomId, identity }) {
    this.#roomId = roomId;
    this.#identity = identity;
    // Whoever seals or opens first learns of a failure; until then nobody listens.
    this.#secret = secret && Promise.resolve(secret).then(importSecret);
    this.#secret?.catch(() => {});
  }

  /**
   * Takes note of a participant and its key, as the relay named them; payloads of others are refused.
   * @param {string} userId @param {string | undefined} publicKey missing for one without a key
   * @returns {Promise<boolean>} whether what it says is checked against a key
   * @throws {SealError} when the id is not that key's, or when it has no key where one is needed
   */
  async introduce(userId, publicKey) {
    const known = this.#senders.get(userId);
    const knownKey = known && await known.key.catch(() => null);
    if (knownKey) {
      if (!publicKey || (await userIdOf(publicKey)) !== userId) throw new SealError('not_signed');
      return true;
    }
    const key = this.#check(userId, publicKey);
    key.catch(() => {});
    this.#touch(userId, { key, publicKey, run: '', highest: 0n, window: new Set(), name: 0n });
    return (await key) !== null;
  }

  /** Both keys of a link, once theirs is known. @param {string} userId */
  keysWith(userId) {
    const their = this.#senders.get(userId)?.publicKey;
    return their ? { own: this.#identity.publicKey, their } : null;
  }

  /** The run in which a participant was last heard, or nothing. @param {string} userId */
  runOf(userId) {
    return this.#senders.get(userId)?.run ?? '';
  }

  /** @param {string} userId @param {string | undefined} publicKey */
  async #check(userId, publicKey) {
    if (!publicKey && !this.#secret) return null;
    if (!publicKey || (await userIdOf(publicKey)) !== userId) throw new SealError('not_signed');
    return importPublicKey(publicKey);
  }

  /** @param {string} userId @param {Sender} sender */
  #touch(userId, sender) {
    this.#senders.delete(userId);
    this.#senders.set(userId, sender);
    const [oldest] = this.#senders.keys();
    if (this.#senders.size > SENDERS && oldest) this.#senders.delete(oldest);
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
    const made = this.#make(kind, receiverId, ++this.#counter, text);
    const payload = Promise.all([made, this.#last]).then(([sealed]) => sealed);
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
    if (senderId === this.#identity.userId) throw new SealError('reflected');
    if ('plain' in payload === (this.#secret !== null)) throw new SealError(this.#secret ? 'not_sealed' : 'no_secret');
    const sender = this.#senders.get(senderId);
    if (!sender) throw new SealError('not_signed');
    const key = await sender.key;
    if ('plain' in payload) {
      // Somebody without a key can be anybody: the person is told so.
      if (!key && payload.proof === undefined) return payload.plain;
      if (!key || payload.proof === undefined) throw new SealError('not_signed');
    }
    const { header, signature, text } = 'plain' in payload
      ? await this.#readProof(payload)
      : await this.#decrypt(kind, senderId, receiverId, payload.sealed);
    const bound = this.#bound(kind, senderId, receiverId, header);
    if (!key || !(await verifies(key, signature, join(bound, text)))) throw new SealError('not_signed');
    // Nothing may be awaited from here on: two copies of one payload could both pass.
    this.#accept(kind, senderId, sender, header);
    return decodeText(text);
  }

  /** @param {SealKind} kind @param {string} receiverId @param {bigint} counter @param {string} json @returns {Promise<Payload>} */
  async #make(kind, receiverId, counter, json) {
    const { userId, run } = this.#identity;
    const header = join(run, counterBytes(counter));
    const text = utf8(json);
    const bound = this.#bound(kind, userId, receiverId, header);
    const signature = await this.#identity.sign(join(bound, text));
    if (!this.#secret) return { plain: json, proof: toBase64Url(join(header, signature)) };
    const key = await this.#senderKey(userId, run);
    const ciphertext = await crypto.subtle.encrypt(cipher(header, bound), key, join(signature, text));
    return { sealed: toBase64Url(join(header, new Uint8Array(ciphertext))) };
  }

  /** @param {{ plain: string, proof?: string }} payload */
  async #readProof({ plain, proof = '' }) {
    const bytes = decodeBytes(proof, HEADER_BYTES + SIGNATURE_BYTES);
    if (bytes.length !== HEADER_BYTES + SIGNATURE_BYTES) throw new SealError('tampered');
    return { header: bytes.slice(0, HEADER_BYTES), signature: bytes.slice(HEADER_BYTES), text: utf8(plain) };
  }

  /** @param {SealKind} kind @param {string} senderId @param {string} receiverId @param {string} sealed */
  async #decrypt(kind, senderId, receiverId, sealed) {
    const bytes = decodeBytes(sealed, HEADER_BYTES + SIGNATURE_BYTES + TAG_BYTES);
    const header = bytes.slice(0, HEADER_BYTES);
    try {
      const key = await this.#senderKey(senderId, header.slice(0, RUN_BYTES));
      const how = cipher(header, this.#bound(kind, senderId, receiverId, header));
      const opened = new Uint8Array(await crypto.subtle.decrypt(how, key, bytes.slice(HEADER_BYTES)));
      return { header, signature: opened.slice(0, SIGNATURE_BYTES), text: opened.slice(SIGNATURE_BYTES) };
    } catch {
      throw new SealError('tampered');
    }
  }

  /** What is authenticated with a payload. @param {SealKind} kind @param {string} senderId @param {string} receiverId @param {Uint8Array} header */
  #bound(kind, senderId, receiverId, header) {
    const form = this.#secret ? 'sealed' : 'plain';
    return join(utf8(`${['snug/2', form, kind, this.#roomId, senderId, receiverId].join('\0')}\0`), header);
  }

  /** @param {string} senderId @param {Uint8Array} run */
  #senderKey(senderId, run) {
    const name = senderId + toBase64Url(run);
    let key = this.#keys.get(name);
    if (!key) {
      key = Promise.resolve(this.#secret).then((secret) => {
        if (!secret) throw new SealError('no_secret');
        const aes = { name: 'AES-GCM', length: 256 };
        const info = join(utf8(`${['sender', this.#roomId, senderId].join('\0')}\0`), run);
        return crypto.subtle.deriveKey(hkdf(info), secret, aes, false, ['encrypt', 'decrypt']);
      });
      if (this.#keys.size >= SENDERS) this.#keys.clear();
      this.#keys.set(name, key);
    }
    return key;
  }

  /** @param {SealKind} kind @param {string} senderId @param {Sender} sender @param {Uint8Array<ArrayBuffer>} header @throws {SealError} */
  #accept(kind, senderId, sender, header) {
    const run = hex(header.subarray(0, RUN_BYTES));
    const counter = new DataView(header.buffer).getBigUint64(RUN_BYTES);
    // What was sent before its sender was started anew: the relay may still have kept it.
    if (run < sender.run) throw new SealError('outdated');
    if (run > sender.run) Object.assign(sender, { run, highest: 0n, window: new Set(), name: 0n });
    this.#touch(senderId, sender);
    if (kind === 'name') {
      if (counter < sender.name) throw new SealError('replayed');
      sender.name = counter;
      return;
    }
    if (counter + WINDOW <= sender.highest || sender.window.has(counter)) throw new SealError('replayed');
    sender.window.add(counter);
    if (counter > sender.highest) sender.highest = counter;
    if (sender.window.size > 2 * Number(WINDOW)) {
      for (const old of sender.window) if (old + WINDOW <= sender.highest) sender.window.delete(old);
    }
  }
}

/** @param {Uint8Array<ArrayBuffer>} secret */
function importSecret(secret) {
  return crypto.subtle.importKey('raw', secret, 'HKDF', false, ['deriveKey', 'deriveBits']);
}

/** The salt is that of version 1, whose links still open their rooms. @param {Uint8Array<ArrayBuffer>} info */
function hkdf(info) {
  return { name: 'HKDF', hash: 'SHA-256', salt: utf8('snug/1'), info };
}

/** @param {Uint8Array} header @param {Uint8Array<ArrayBuffer>} additionalData */
function cipher(header, additionalData) {
  return { name: 'AES-GCM', iv: join(new Uint8Array(4), header.subarray(RUN_BYTES)), additionalData };
}

/** @param {string} text @param {number} least in bytes @throws {SealError} */
function decodeBytes(text, least) {
  try {
    const bytes = fromBase64Url(text);
    if (bytes.length >= least) return bytes;
  } catch {
    // Below.
  }
  throw new SealError('tampered');
}

/** @param {Uint8Array} bytes */
function decodeText(bytes) {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new SealError('tampered');
  }
}

/** @param {Uint8Array} bytes */
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** @param {bigint} counter */
function counterBytes(counter) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, counter);
  return bytes;
}
