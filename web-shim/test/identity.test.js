import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { identityFor } from '../js/identity.js';

const ROOM = 'sunny-mountain-42';
const before = { indexedDB: globalThis.indexedDB, sessionStorage: globalThis.sessionStorage, navigator: globalThis.navigator };
let browser;

/** What a browser keeps, for all of its tabs. A CryptoKey goes in and comes out as it is. */
class FakeBrowser {
  databases = new Map();
  held = new Set();

  /** The tab that runs from here on. */
  tab({ keepsKeys = true } = {}) {
    const session = new Map();
    define('sessionStorage', {
      getItem: (name) => session.get(name) ?? null,
      setItem: (name, value) => session.set(name, value),
      removeItem: (name) => session.delete(name),
    });
    define('indexedDB', { open: () => (keepsKeys ? this.#open() : this.#refuse()) });
    define('navigator', { locks: { request: (...args) => this.#lock(...args) } });
  }

  async #lock(name, { ifAvailable }, act) {
    assert.ok(ifAvailable);
    if (this.held.has(name)) return act(null);
    this.held.add(name);
    await act({});
    this.held.delete(name);
  }

  #refuse() {
    const request = { error: new Error('InvalidStateError') };
    queueMicrotask(() => request.onerror());
    return request;
  }

  #open() {
    const request = {};
    queueMicrotask(() => {
      const entries = this.databases.get('identities') ?? new Map();
      request.result = {
        createObjectStore: (name) => this.databases.set(name, entries),
        close() {},
        transaction: () => {
          const done = (result) => {
            queueMicrotask(() => transaction.oncomplete());
            return { result };
          };
          const transaction = {
            objectStore: () => ({
              get: (key) => done(entries.get(key)),
              put: (value, key) => done(void entries.set(key, { ...value })),
              delete: (key) => done(void entries.delete(key)),
            }),
          };
          return transaction;
        },
      };
      if (!this.databases.has('identities')) request.onupgradeneeded();
      request.onsuccess();
    });
    return request;
  }
}

const define = (name, value) => Object.defineProperty(globalThis, name, { configurable: true, writable: true, value });
const higher = (a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)) > 0;
/** Until everything that was begun is stored. */
const stored = async () => { for (let i = 0; i < 20; i++) await new Promise(setImmediate); };

beforeEach(() => {
  browser = new FakeBrowser();
  browser.tab();
});
afterEach(() => {
  define('indexedDB', before.indexedDB);
  define('sessionStorage', before.sessionStorage);
  define('navigator', before.navigator);
});

test('a page that is loaded again is who it was, with a later run and the newest ticket', async () => {
  const first = await identityFor(ROOM);
  assert.equal(first.ticket, null);
  first.setTicket('one');
  first.setTicket('two');
  await stored();
  first.release();
  const second = await identityFor(ROOM);
  assert.equal(second.userId, first.userId);
  assert.equal(second.ticket, 'two');
  assert.ok(higher(second.run, first.run), 'no counter of the first run may come again under its key');
  second.release();
  const third = await identityFor(ROOM);
  assert.ok(higher(third.run, second.run), 'also within one millisecond');
});

test('a clock that was set back does not bring an earlier run', async () => {
  const first = await identityFor(ROOM);
  first.release();
  const { now } = Date;
  Date.now = () => now() - 3_600_000;
  try {
    const second = await identityFor(ROOM);
    assert.ok(higher(second.run, first.run));
  } finally {
    Date.now = now;
  }
});

test('a second tab in the same room is somebody else, and another room knows nobody', async () => {
  const first = await identityFor(ROOM);
  first.setTicket('one');
  await stored();
  const other = await identityFor(ROOM);
  assert.notEqual(other.userId, first.userId);
  assert.equal(other.ticket, null);
  assert.notEqual((await identityFor('another-room')).userId, first.userId);
});

test('who left is forgotten, and who was never let in is not', async () => {
  const first = await identityFor(ROOM);
  first.release();
  const second = await identityFor(ROOM);
  assert.equal(second.userId, first.userId);
  second.forget();
  await stored();
  const third = await identityFor(ROOM);
  assert.notEqual(third.userId, first.userId);
  assert.equal(third.ticket, null);
});

test('after a session that is over another key is drawn, under the same lock', async () => {
  const first = await identityFor(ROOM);
  first.setTicket('old');
  await stored();
  first.forget();
  const second = await identityFor(ROOM, true);
  assert.notEqual(second.userId, first.userId);
  assert.equal(second.ticket, null);
  second.setTicket('new');
  await stored();
  second.release();
  const third = await identityFor(ROOM);
  assert.deepEqual([third.userId, third.ticket], [second.userId, 'new'], 'it is the one that is kept');
});

test('a browser that keeps no keys keeps the ticket for this tab', async () => {
  browser.tab({ keepsKeys: false });
  const first = await identityFor(ROOM);
  first.setTicket('one');
  first.release();
  const second = await identityFor(ROOM);
  assert.notEqual(second.userId, first.userId);
  assert.equal(second.ticket, 'one');
  second.forget();
  assert.equal((await identityFor(ROOM)).ticket, null);
});

test('a browser without locks and storage still joins', async () => {
  define('navigator', undefined);
  define('indexedDB', undefined);
  define('sessionStorage', undefined);
  const identity = await identityFor(ROOM);
  assert.match(identity.userId, /^[\w-]{22}$/);
  identity.setTicket('one');
  identity.forget();
});
