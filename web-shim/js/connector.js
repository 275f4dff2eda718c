// Opens the WebSocket to the relay, again and again until one opens: staggered attempts and back-off (PROTOCOL §4, close codes).
// Never speaks the protocol: whoever gets the open socket does, and says with `settled` that it has been of use for a while.

/** @import { Environment } from './types.d.ts' */

/** A further attempt starts while earlier ones hang. */
const STAGGER_MS = 1000;
const MOST_PENDING = 4;
const FIRST_BACKOFF_MS = 250;
const MOST_BACKOFF_MS = 4000;
const MOST_PATIENCE_MS = 8000;
/** Neither leaving (1000, 1001) nor the relay's own codes. */
export const ABANDONED = 3001;

export class Connector {
  #url;
  #env;
  #onOpen;
  #onFail;
  /** The oldest comes first. @type {WebSocket[]} */
  #pending = [];
  /** When the oldest became the oldest. */
  #headSince = 0;
  #abandoned = 0;
  /** How long a connection usually takes here, times three. */
  #usual = 4000;
  #backoff = FIRST_BACKOFF_MS;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  running = false;

  /**
   * @param {{ url: string, env: Environment, onOpen: (socket: WebSocket) => void, onFail?: () => void }} options `onOpen` takes the socket
   *   over; `onFail` hears of each attempt that was refused
   */
  constructor({ url, env, onOpen, onFail = () => {} }) {
    this.#url = url;
    this.#env = env;
    this.#onOpen = onOpen;
    this.#onFail = onFail;
  }

  /** Connects after the back-off; does nothing while it is at it. */
  start() {
    if (this.running) return;
    this.running = true;
    this.#wait();
  }

  /** Connects at once: somebody has reason to believe that it will work. */
  nudge() {
    this.running = true;
    // What hangs was sent into the old network, and browsers keep later attempts waiting behind it.
    this.#drop(this.#pending);
    this.#abandoned = 0;
    this.#attempt();
  }

  stop() {
    this.running = false;
    clearTimeout(this.#timer);
    this.#drop(this.#pending);
  }

  /** The connection was of use: the next one starts with a short back-off again. */
  settled() {
    this.#backoff = FIRST_BACKOFF_MS;
  }

  /** The next wait in milliseconds, for whatever is tried again; it doubles each time until `settled`. */
  nextBackoff() {
    const delay = this.#backoff * (0.5 + this.#env.random() / 2);
    this.#backoff = Math.min(this.#backoff * 2, MOST_BACKOFF_MS);
    return delay;
  }

  #wait() {
    this.#later(this.nextBackoff());
  }

  /** @param {number} delay */
  #later(delay) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#attempt(), delay);
  }

  #attempt() {
    const now = this.#env.now();
    const [head] = this.#pending;
    if (head && now - this.#headSince >= this.#patience()) {
      this.#abandoned += 1;
      this.#drop([head]);
    }
    if (this.#pending.length < MOST_PENDING) this.#open(now);
    this.#later(STAGGER_MS);
  }

  /**
   * Browsers shake hands with one host one WebSocket at a time, so only giving the oldest up makes a fresh packet leave. Mostly that
   * happens after a second, so that a returning network is used at once; every fourth attempt has longer, for networks that are slow.
   */
  #patience() {
    const usual = Math.min(Math.max(this.#usual, STAGGER_MS), MOST_PATIENCE_MS);
    return this.#abandoned % 4 === 3 ? Math.max(usual, Math.min(2 ** (1 + this.#abandoned / 4) * 1000, MOST_PATIENCE_MS)) : usual;
  }

  /** @param {number} now */
  #open(now) {
    const socket = new this.#env.WebSocket(this.#url);
    if (this.#pending.push(socket) === 1) this.#headSince = now;
    socket.onopen = () => {
      this.#usual = 3 * (this.#env.now() - Math.max(now, this.#headSince));
      this.#forget(socket);
      this.stop();
      this.#abandoned = 0;
      this.#onOpen(socket);
    };
    // `error` is always followed by `close`.
    socket.onclose = () => {
      this.#forget(socket);
      if (this.running && this.#pending.length === 0) this.#wait();
      this.#onFail();
    };
  }

  /** @param {WebSocket} socket */
  #forget(socket) {
    socket.onopen = socket.onclose = null;
    const index = this.#pending.indexOf(socket);
    if (index < 0) return;
    this.#pending.splice(index, 1);
    if (index === 0) this.#headSince = this.#env.now();
  }

  /** @param {WebSocket[]} sockets */
  #drop(sockets) {
    for (const socket of [...sockets]) {
      this.#forget(socket);
      socket.close(ABANDONED);
    }
  }
}
