// A client of the signaling protocol without a browser, for tests about the relay itself.
//
// It says exactly what it is told, right or wrong, and keeps everything it hears.

import WebSocket from 'ws';
import { Identity } from './identity.mjs';
import { until } from './until.mjs';

export const VERSION = 2;
/** What a join may be answered with. */
export const ANSWERS = ['room_joined', 'resumed', 'waiting', 'auth_required', 'room_full', 'error'];

export class WireClient {
  heard = [];
  closed = null;
  /** Who joins from here, unless a test says otherwise. */
  identity = new Identity();
  #next = 0;

  constructor(socket) {
    this.socket = socket;
    socket.on('message', data => this.heard.push({ at: performance.now(), ...JSON.parse(data) }));
    socket.on('close', (code, reason) => (this.closed = { code, reason: String(reason) }));
    socket.on('error', error => (this.failure = error));
  }

  /** Opens a connection and waits for `welcome`, which the relay says first; `hello` is said unless a test wants silence. */
  static async connect(cleanup, relay, { origin = relay.origin, hello = true, headers = {}, from, ca } = {}) {
    const socket = new WebSocket(relay.ws, { origin, headers, localAddress: from, ca, perMessageDeflate: false, maxPayload: 1 << 24 });
    const client = new WireClient(socket);
    cleanup.add(() => socket.terminate());
    await new Promise((done, fail) => {
      socket.once('open', done);
      socket.once('error', fail);
      socket.once('unexpected-response', (_, response) => fail(Object.assign(new Error(`HTTP ${response.statusCode}`), { status: response.statusCode })));
    });
    client.welcome = await client.hears('welcome');
    if (hello) client.say({ type: 'hello', versions: [VERSION], agent: 'test' });
    return client;
  }

  say(message) {
    this.socket.send(typeof message === 'string' ? message : JSON.stringify(message));
  }

  /** The next message of one of these types after those already asked for. */
  async hears(types, { timeout = 15_000 } = {}) {
    const wanted = [types].flat();
    return until(
      `a message ${wanted.join(' or ')}`,
      () => {
        for (let at = this.#next; at < this.heard.length; at += 1) {
          if (wanted.includes(this.heard[at].type)) {
            this.#next = at + 1;
            return this.heard[at];
          }
        }
        if (this.closed) throw new Error(`closed ${JSON.stringify(this.closed)}; heard ${JSON.stringify(this.heard.slice(-5))}`);
        throw new Error(`heard ${JSON.stringify(this.heard.slice(-5))}`);
      },
      { timeout, every: 5 },
    );
  }

  /** A message that has come at any time, however much was heard since. */
  async everHears(type, { timeout = 15_000 } = {}) {
    return until(`a message ${type}`, () => this.heard.find(message => message.type === type), { timeout, every: 5 });
  }

  /** Says something and waits for what answers it. */
  async ask(message, types = ['done', 'error']) {
    this.say(message);
    return this.hears(types);
  }

  /** Confirms everything heard so far: the others may fill our queue again. */
  async confirm() {
    const lastSeq = Math.max(...this.heard.map(({ seq = 0 }) => seq));
    return this.ask({ type: 'ping', lastSeq }, 'pong');
  }

  /** A join that is signed for this connection; a field in `rest` replaces what it would hold. */
  joinMessage(roomId, { identity = this.identity, name = 'Tess', secret = null, ...rest } = {}) {
    const displayName = identity.payload({ kind: 'name', roomId, secret }, { name });
    return { type: 'join_room', roomId, publicKey: identity.publicKey, keyProof: identity.prove(this.welcome.nonce, roomId), displayName, ...rest };
  }

  async join(roomId, { identity = this.identity, ...rest } = {}) {
    this.identity = identity;
    const answer = await this.ask(this.joinMessage(roomId, rest), ANSWERS);
    if (answer.type === 'room_joined') this.seat = answer;
    return answer;
  }

  get userId() {
    return this.identity.userId;
  }

  async closes(timeout = 15_000) {
    return until('the connection to be closed', () => this.closed, { timeout, every: 10 });
  }

  /** Leaves for good. */
  leave() {
    this.socket.close(1000);
  }
}
