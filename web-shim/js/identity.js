// Who we are in a room (PROTOCOL §6): a signing key pair for one session of it, kept while the call lasts, so that a page that is
// loaded again or crashed comes back as the same person. The private key never leaves the browser's own store.

import { fromBase64Url, toBase64Url } from './link.js';

/** @typedef {{ privateKey: CryptoKey, publicKey: string, lastRun: number, ticket: string | null }} Kept */

const CURVE = { name: 'ECDSA', namedCurve: 'P-256' };
const SIGNING = { name: 'ECDSA', hash: 'SHA-256' };
const STORE = 'identities';
/** The page before may hold its lock for a moment after it was left. */
const LOCK_TRIES = 5;
const LOCK_WAIT_MS = 60;

/** @param {string} text @returns {Uint8Array<ArrayBuffer>} */
export const utf8 = (text) => new TextEncoder().encode(text);

/** @param {Uint8Array[]} parts */
export function join(...parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** @param {string} publicKey @returns {Promise<string>} the userId of who has it */
export async function userIdOf(publicKey) {
  const hash = await crypto.subtle.digest('SHA-256', join(utf8('snug/2\0user\0'), fromBase64Url(publicKey)));
  return toBase64Url(new Uint8Array(hash, 0, 16));
}

/** @param {string} publicKey */
export const importPublicKey = (publicKey) => crypto.subtle.importKey('raw', fromBase64Url(publicKey), CURVE, false, ['verify']);

/** @param {CryptoKey} key @param {Uint8Array<ArrayBuffer>} signature @param {Uint8Array<ArrayBuffer>} text */
export const verifies = (key, signature, text) => crypto.subtle.verify(SIGNING, key, signature, text);

/** 16 bytes that are higher for each later start. @param {number} startedMs since 1970 */
export function newRun(startedMs, random = crypto.getRandomValues(new Uint8Array(8))) {
  const started = new Uint8Array(8);
  new DataView(started.buffer).setBigUint64(0, BigInt(startedMs));
  return join(started, random);
}

export class Identity {
  #privateKey;
  #keep;
  #forget;

  /**
   * @param {Kept & { userId: string }} kept
   * @param {{ keep?: (ticket: string) => void, forget?: () => void, release?: () => void }} [store]
   */
  constructor({ privateKey, publicKey, userId, lastRun, ticket }, { keep = () => {}, forget = () => {}, release = () => {} } = {}) {
    this.#privateKey = privateKey;
    this.publicKey = publicKey;
    this.userId = userId;
    this.run = newRun(lastRun);
    /** What opens the door again. @type {string | null} */
    this.ticket = ticket;
    this.#keep = keep;
    this.#forget = forget;
    /** Another tab may be this person from here on. */
    this.release = release;
  }

  /** @param {Uint8Array<ArrayBuffer>} text @returns {Promise<Uint8Array<ArrayBuffer>>} 64 bytes */
  async sign(text) {
    return new Uint8Array(await crypto.subtle.sign(SIGNING, this.#privateKey, text));
  }

  /** Shows the relay that drew the nonce that we hold the key. @param {string} nonce @param {string} roomId */
  async prove(nonce, roomId) {
    return toBase64Url(await this.sign(join(utf8('snug/2\0join\0'), fromBase64Url(nonce), utf8(roomId))));
  }

  /** @param {string | null} ticket */
  setTicket(ticket) {
    this.ticket = ticket;
    if (ticket) this.#keep(ticket);
  }

  /** The session is over, or we left it. */
  forget() {
    this.#forget();
  }
}

/** A key that nothing is kept of. @returns {Promise<Kept & { userId: string }>} */
async function draw() {
  const pair = await crypto.subtle.generateKey(CURVE, false, ['sign', 'verify']);
  const publicKey = toBase64Url(new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey)));
  return { privateKey: pair.privateKey, publicKey, userId: await userIdOf(publicKey), lastRun: Date.now(), ticket: null };
}

/** An identity of which nothing is kept. */
export const anonymous = async () => new Identity(await draw());

/**
 * The identity that this browser has in the room, or another one: where it has none, where another tab is in the room with it, and
 * where `afresh` says that its session is over.
 * @param {string} roomId
 */
export async function identityFor(roomId, afresh = false) {
  const name = `snug-identity-${roomId}`;
  const release = await lock(name);
  if (!release) return anonymous();
  const session = globalThis.sessionStorage;
  try {
    const kept = afresh ? undefined : /** @type {Kept | undefined} */ (await store('readonly', (entries) => entries.get(roomId)));
    const drawn = kept ? { ...kept, userId: await userIdOf(kept.publicKey), lastRun: Math.max(Date.now(), kept.lastRun + 1) } : await draw();
    const { userId, ...entry } = drawn;
    const write = () => store('readwrite', (entries) => entries.put(entry, roomId));
    // Before it is used: a run that was forgotten could come again.
    await write();
    return new Identity({ ...entry, userId }, {
      release,
      keep: (ticket) => {
        entry.ticket = ticket;
        write().catch(() => {});
      },
      forget: () => {
        store('readwrite', (entries) => entries.delete(roomId)).catch(() => {}).finally(release);
      },
    });
  } catch {
    // A browser that keeps no keys: the ticket alone frees the old seat.
    const ticket = afresh ? null : session?.getItem(name) ?? null;
    return new Identity({ ...await draw(), ticket }, {
      release,
      keep: (text) => session?.setItem(name, text),
      forget: () => {
        session?.removeItem(name);
        release();
      },
    });
  }
}

/**
 * One tab at a time: two with one key would take each other's seat.
 * @param {string} name @returns {Promise<(() => void) | null>} what gives it up
 */
async function lock(name) {
  const { locks } = globalThis.navigator ?? {};
  for (let tries = 0; locks && tries < LOCK_TRIES; tries += 1) {
    const release = await new Promise((settle) => {
      locks.request(name, { ifAvailable: true }, (held) => {
        if (!held) return settle(null);
        return new Promise((done) => settle(done));
      }).catch(() => settle(null));
    });
    if (release) return release;
    await new Promise((done) => { setTimeout(done, LOCK_WAIT_MS); });
  }
  return null;
}

/**
 * @template T
 * @param {IDBTransactionMode} mode @param {(entries: IDBObjectStore) => IDBRequest<T>} act @returns {Promise<T>}
 */
function store(mode, act) {
  return new Promise((resolve, reject) => {
    const opening = globalThis.indexedDB.open('snug', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
    opening.onerror = opening.onblocked = () => reject(opening.error);
    opening.onsuccess = () => {
      const database = opening.result;
      const transaction = database.transaction(STORE, mode);
      const request = act(transaction.objectStore(STORE));
      transaction.oncomplete = () => {
        database.close();
        resolve(request.result);
      };
      transaction.onerror = transaction.onabort = () => {
        database.close();
        reject(transaction.error);
      };
    };
  });
}
