// One seat at the relay (PROTOCOL §2): says hello, joins, keeps the heartbeat, counts what it received, and comes back by itself after a loss.
// Never touches media and never opens a payload; what it receives goes to its owner once and in order.

import { ABANDONED, Connector } from './connector.js';
import { CallError, refusal } from './errors.js';
import { CLOSED_ENDED, CLOSED_KICKED, CLOSED_REPLACED, VERSION, encode, parseServerMessage, sequenceOf } from './wire.js';

/** @import { ClientMessage, Environment, RoomJoined, ServerMessage, SignalingState } from './types.d.ts' */
/** @typedef {Extract<ServerMessage, { type: 'error' | 'auth_required' | 'room_full' }>} Refusal */
/** @typedef {ReturnType<typeof setTimeout>} Timer */
/** @typedef {'join' | 'answer' | 'beat' | 'pong' | 'doubt' | 'drain' | 'rejoin' | 'held'} Purpose one timer for each */
/** @typedef {Omit<Extract<ClientMessage, { type: 'join_room' }>, 'requestId'>} JoinMessage */
/**
 * @typedef {object} SignalingOwner
 * @property {(nonce: string) => Promise<JoinMessage>} joinMessage sealed and signed anew for each try; the key never changes once seated
 * @property {() => Promise<void>} onTicketInvalid before the first seat it goes on as somebody else
 * @property {(state: SignalingState) => void} onState
 * @property {(message: RoomJoined) => boolean} acceptsSeat false: the seat is given up, and `joinMessage` brings another join
 * @property {(message: RoomJoined) => void} onJoined also after a return to a relay that forgot us
 * @property {() => void} onResumed
 * @property {(message: ServerMessage) => void} onMessage
 * @property {(reason: CallError) => void} onEnded never again after this
 */

const PONG_MS = 5000;
const DOUBT_MS = 1000;
const SURE_DOUBT_MS = 300;
const ANSWER_MS = 20_000;
const FIRST_JOIN_MS = 15_000;
const REQUEST_MS = 10_000;
const REJOIN_MS = 4000;
const MOST_REJOIN_MS = 30_000;
/** A connection whose seat was held for so long was of use. A relay that breaks as soon as it has given a seat must not be hurried. */
const HELD_MS = 10_000;
/** A rejoin that is refused for one of these would be refused again. */
const FINAL = new Set([
  'KICKED', 'AUTH_FAILED', 'AUTH_REQUIRED', 'LINK_INCOMPLETE', 'NOT_ADMITTED', 'KEY_PROOF_INVALID', 'VERSION_UNSUPPORTED', 'RELAY_OUTDATED',
  'BAD_MESSAGE', 'TOO_LARGE',
]);
/** What this page can do beyond what every client of version 2 can. */
const CAPABILITIES = ['ask_mute'];

export class Signaling {
  #owner;
  #env;
  #agent;
  #connector;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {SignalingState} */
  #state = 'connecting';
  /** Set once we have had a seat: from then on every loss is followed by a return. */
  #seat = /** @type {{ roomId: string, userId: string, resumeToken: string | null } | null} */ (null);
  #lastSeq = 0;
  #heartbeatMs = 15_000;
  /** In the lobby: the answer to the join is still to come. */
  #waiting = false;
  #triedWithoutPassword = false;
  #triedWithoutTicket = false;
  #triedAnotherNonce = false;
  /** The relay asked for a password before, so the room exists and has one. */
  #asked = false;
  /** A wrong password, whose hint is being asked for. @type {CallError | null} */
  #wrong = null;
  #closeCode = 0;
  /** Why WebSockets are refused, as heard once. @type {string | null} */
  #suspected = null;
  #diagnosing = false;
  /** @type {{ resolve: () => void, reject: (error: CallError) => void } | null} */
  #joining = null;
  /** @type {Map<number, { resolve: (message: ServerMessage) => void, reject: (error: CallError) => void, timer: Timer }>} */
  #requests = new Map();
  #nextRequest = 1;
  /** What a join on this connection has to sign. @type {string | null} */
  #nonce = null;
  /** The highest version of the relay; 1 until it has said so. */
  #relayVersion = 1;
  /** A join waits for the nonce: with the password or without. @type {boolean | null} */
  #joinWaits = null;

  /** The connection has held its seat for `HELD_MS`. */
  #steady = false;
  /** A seat was given up for another join: what still comes for it is none of our business. */
  #between = false;
  /** A second connection is on its way because the first one may be dead. */
  #doubting = false;
  /** @type {{ [purpose in Purpose]?: Timer }} */
  #timers = {};

  /** @param {{ url: string, env: Environment, agent: string, owner: SignalingOwner }} options */
  constructor({ url, env, agent, owner }) {
    this.#owner = owner;
    this.#env = env;
    this.#agent = agent;
    this.#connector = new Connector({ url, env, onOpen: (socket) => this.#adopt(socket), onFail: () => this.#diagnose() });
  }

  get online() {
    return this.#state === 'online';
  }

  /**
   * The first join, and every further try of it. Losing the connection on the way is not a failure until time is up.
   * @param {boolean} [asksPassword] whether the room is known to have a password
   * @returns {Promise<void>}
   */
  join(asksPassword = false) {
    this.#asked ||= asksPassword;
    this.#suspected = null;
    return new Promise((resolve, reject) => {
      this.#joining?.reject(new CallError('TIMEOUT'));
      this.#joining = { resolve, reject };
      this.#limitJoin();
      if (this.#socket) this.#sendJoin();
      else this.#connector.nudge();
    });
  }

  #limitJoin() {
    this.#after('join', FIRST_JOIN_MS, () => {
      const code = this.#socket ? 'TIMEOUT' : this.#closeCode === 1013 ? 'RELAY_FULL' : 'NETWORK';
      this.#connector.stop();
      if (code === 'NETWORK') void this.#giveUp();
      else this.#settleJoin(new CallError(code));
    });
  }

  /** Nothing came of our attempts: perhaps something on the way lets all but WebSockets through. */
  async #giveUp() {
    const joining = this.#joining;
    const code = await this.#env.socketRefusal();
    if (joining === this.#joining) this.#settleJoin(new CallError(code ?? 'NETWORK'));
  }

  /** An attempt was refused. What the relay says of it twice, each time after an attempt, is the reason: once may be a restart. */
  async #diagnose() {
    if (!this.#joining || this.#seat || this.#diagnosing) return;
    const joining = this.#joining;
    this.#diagnosing = true;
    const code = await this.#env.socketRefusal();
    this.#diagnosing = false;
    if (joining !== this.#joining || this.#socket) return;
    if (code && code === this.#suspected) {
      this.#connector.stop();
      return this.#settleJoin(new CallError(code, undefined, code === 'RATE_LIMITED' ? { retryAfterMs: 10_000 } : {}));
    }
    this.#suspected = code;
  }

  /** @param {ClientMessage} message @returns {boolean} whether there was a seat to send it from */
  send(message) {
    if (this.#state !== 'online') return false;
    this.#write(message);
    return true;
  }

  /**
   * Asks the relay for something and waits for its answer.
   * @param {ClientMessage} message @returns {Promise<ServerMessage>}
   */
  request(message) {
    const requestId = this.#nextRequest++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#answer(requestId, null, new CallError('TIMEOUT')), REQUEST_MS);
      this.#requests.set(requestId, { resolve, reject, timer });
      if (!this.send({ ...message, requestId })) this.#answer(requestId, null, new CallError('NETWORK'));
    });
  }

  /**
   * The network may have changed, or the page slept: finds out whether the connection lives, and prepares another one meanwhile.
   * @param {boolean} [probably] whether it is more likely dead than not
   */
  probe(probably = false) {
    if (this.#state === 'closed') return;
    if (!this.online) {
      if (this.#seat && !this.#socket) this.#connector.nudge();
      return;
    }
    this.#ping();
    this.#after('doubt', probably ? SURE_DOUBT_MS : DOUBT_MS, () => {
      if (this.#timers.pong === undefined) return;
      this.#doubting = true;
      this.#connector.nudge();
    });
  }

  /** Somebody pressed the button: no more waiting. */
  retryNow() {
    if (this.#timers.rejoin === undefined) return this.probe();
    this.#clear('rejoin');
    this.#enter();
  }

  /** Gives the seat up. */
  leave() {
    this.send({ type: 'leave_room' });
    this.#close(1000);
    this.#settleJoin(new CallError('LEFT'));
  }

  /** Lets the connection go and keeps the seat: the page may be loaded again. */
  suspend() {
    this.#connector.stop();
    this.#clear('join', 'drain');
  }

  // The connection.

  /** @param {WebSocket} socket */
  #adopt(socket) {
    this.#abandon();
    this.#socket = socket;
    if (this.#seat) this.#setState('reconnecting');
    socket.onmessage = ({ data }) => {
      if (socket !== this.#socket) return;
      const message = parseServerMessage(data);
      if (message) this.#received(message);
      // A message that this page does not know still counts, or the next one would look like a gap for ever.
      else this.#lastSeq = Math.max(this.#lastSeq, sequenceOf(data) ?? 0);
    };
    socket.onclose = ({ code }) => socket === this.#socket && this.#closed(code);
    this.#nonce = this.#joinWaits = null;
    this.#relayVersion = 1;
    this.#write({ type: 'hello', versions: [VERSION], capabilities: CAPABILITIES, agent: this.#agent });
    if (this.#seat || this.#joining) this.#enter();
    this.#beat();
  }

  /** Takes the seat back while it is held, else asks for one. */
  #enter() {
    if (!this.#seat?.resumeToken) return void this.#sendJoin();
    const { roomId, userId, resumeToken } = this.#seat;
    this.#write({ type: 'resume', roomId, userId, resumeToken, lastSeq: this.#lastSeq });
    this.#awaitAnswer();
  }

  /** @param {number} code */
  #closed(code) {
    this.#closeCode = code;
    if (code === CLOSED_KICKED) this.#end(new CallError('KICKED'));
    else if (code === CLOSED_REPLACED) this.#end(new CallError('REPLACED'));
    else if (code === CLOSED_ENDED) this.#end(new CallError('CALL_ENDED'));
    else this.#lost();
  }

  #lost() {
    this.#abandon();
    if (this.#seat) this.#setState('reconnecting');
    // Who waited in the lobby had no limit; whoever is without a relay has one again.
    if (this.#joining && this.#timers.join === undefined) this.#limitJoin();
    if ((this.#seat || this.#joining) && this.#timers.drain === undefined) this.#connector.start();
  }

  /** Lets the connection go; with the code that it has by default, without leaving the room. */
  #abandon(code = ABANDONED) {
    const socket = this.#socket;
    this.#socket = null;
    this.#doubting = this.#steady = this.#between = false;
    this.#clear('answer', 'beat', 'pong', 'doubt', 'rejoin', 'held');
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close(code);
    }
    for (const id of [...this.#requests.keys()]) this.#answer(id, null, new CallError('NETWORK'));
  }

  /** @param {number} [code] */
  #close(code) {
    this.#connector.stop();
    this.#abandon(code);
    this.#clear('join', 'drain');
    this.#setState('closed');
  }

  /** @param {CallError} reason */
  #end(reason) {
    this.#close();
    this.#settleJoin(reason);
    if (this.#seat) this.#owner.onEnded(reason);
  }

  /** @param {SignalingState} state */
  #setState(state) {
    if (this.#state === state || this.#state === 'closed') return;
    this.#state = state;
    this.#owner.onState(state);
  }

  // What is sent.

  /** @param {ClientMessage} message */
  #write(message) {
    if (this.#socket?.readyState === 1) this.#socket.send(encode(message));
  }

  async #sendJoin(withPassword = true) {
    const socket = this.#socket;
    this.#awaitAnswer();
    if (!this.#nonce) {
      this.#joinWaits = withPassword;
      return;
    }
    const message = await this.#owner.joinMessage(this.#nonce);
    if (!withPassword) delete message.password;
    if (socket === this.#socket) this.#write(message);
  }

  #awaitAnswer() {
    this.#waiting = false;
    this.#after('answer', ANSWER_MS, () => this.#lost());
  }

  #beat() {
    this.#after('beat', this.#heartbeatMs, () => {
      this.#ping();
      this.#beat();
    });
  }

  #ping() {
    this.#write(this.#lastSeq ? { type: 'ping', lastSeq: this.#lastSeq } : { type: 'ping' });
    if (this.#timers.pong === undefined) this.#after('pong', PONG_MS, () => this.#lost());
  }

  // What is received.

  /** @param {ServerMessage} message */
  #received(message) {
    if (message.seq !== undefined && message.type !== 'room_joined') {
      if (this.#between) return undefined;
      if (message.seq <= this.#lastSeq) return;
      // Something is missing, so the relay is asked to repeat it.
      if (message.seq > this.#lastSeq + 1) return this.#lost();
      this.#lastSeq = message.seq;
    }
    switch (message.type) {
      case 'welcome':
        this.#heartbeatMs = 1000 * Math.min(Math.max(message.heartbeatSeconds, 1), 60);
        this.#nonce = message.nonce;
        this.#relayVersion = Math.max(1, ...message.versions);
        if (this.#joinWaits !== null) void this.#sendJoin(this.#joinWaits);
        this.#joinWaits = null;
        return this.#beat();
      case 'pong':
        if (this.#doubting) this.#connector.stop();
        this.#doubting = false;
        return this.#clear('pong', 'doubt');
      case 'room_joined':
        this.#between = !this.#owner.acceptsSeat(message);
        if (this.#between) {
          this.#write({ type: 'leave_room' });
          return void this.#sendJoin();
        }
        this.#lastSeq = message.seq ?? 1;
        this.#seated(message.roomId, message.userId, message.resumeToken);
        this.#owner.onJoined(message);
        return this.#settleJoin(null);
      case 'resumed':
        if (!this.#seat) return undefined;
        this.#seated(this.#seat.roomId, this.#seat.userId, message.resumeToken);
        return this.#owner.onResumed();
      case 'auth_required':
      case 'room_full':
        return this.#refused(message);
      case 'error':
        if (message.requestId !== undefined && this.#requests.has(message.requestId)) {
          return this.#answer(message.requestId, null, refusal(message));
        }
        if (this.#timers.answer !== undefined || this.#waiting) return this.#refused(message);
        return this.#owner.onMessage(message);
      case 'waiting':
        // The answer takes as long as the people inside do.
        this.#waiting = true;
        this.#clear('answer', 'join');
        return this.#owner.onMessage(message);
      case 'kicked':
        return this.#end(new CallError('KICKED'));
      case 'call_ended':
        return this.#end(new CallError('CALL_ENDED'));
      case 'drain':
        return this.#drained(message.reconnectAfterMs);
      default:
        if (message.requestId !== undefined) this.#answer(message.requestId, message, null);
        return this.#owner.onMessage(message);
    }
  }

  /** @param {string} roomId @param {string} userId @param {string} resumeToken */
  #seated(roomId, userId, resumeToken) {
    this.#seat = { roomId, userId, resumeToken };
    this.#triedWithoutPassword = this.#triedWithoutTicket = this.#triedAnotherNonce = false;
    this.#waiting = false;
    this.#clear('answer', 'rejoin');
    if (!this.#steady) {
      this.#after('held', HELD_MS, () => {
        this.#steady = true;
        this.#connector.settled();
      });
    }
    this.#setState('online');
  }

  /** A relay that sends us away as soon as it has let us in is not hurried, whatever it asks for. @param {number} wait in milliseconds */
  #drained(wait) {
    if (!this.#steady && this.#timers.drain !== undefined) return;
    const least = this.#steady ? 0 : this.#connector.nextBackoff();
    this.#after('drain', Math.max(wait, least), () => this.#connector.nudge());
  }

  /** The relay said no to a join or a resume. @param {Refusal} message */
  #refused(message) {
    this.#waiting = false;
    this.#clear('answer');
    const error = refusal(message);
    if (error.code === 'VERSION_UNSUPPORTED' && this.#relayVersion < VERSION) error.code = 'RELAY_OUTDATED';
    // Its session is over, or never was: without it we are let in as everybody else is.
    if (error.code === 'TICKET_INVALID' && !this.#triedWithoutTicket) {
      this.#triedWithoutTicket = true;
      return void this.#owner.onTicketInvalid().then(() => this.#socket && this.#sendJoin());
    }
    // The connection was exchanged on the way to the relay, which drew another nonce.
    if (error.code === 'KEY_PROOF_INVALID' && !this.#triedAnotherNonce) {
      this.#triedAnotherNonce = true;
      return this.#lost();
    }
    if (!this.#seat) return this.#refusedFirst(error);
    if (error.code === 'RESUME_FAILED' && this.#seat.resumeToken) {
      this.#seat.resumeToken = null;
      return void this.#sendJoin();
    }
    // A relay that lost its store knows no password of ours: the room is made again without it.
    if (error.code === 'AUTH_FAILED' && !this.#triedWithoutPassword) {
      this.#triedWithoutPassword = true;
      return void this.#sendJoin(false);
    }
    if (FINAL.has(error.code)) return this.#end(error);
    // How long the seats of a full room are held says nothing about who leaves before.
    const asked = error.code === 'ROOM_FULL' ? undefined : error.retryAfterMs;
    // At least the back-off: a relay that asks for no wait at all is not to be asked without end.
    const wait = asked === undefined ? REJOIN_MS * (0.5 + this.#env.random() / 2) : Math.max(asked, this.#connector.nextBackoff());
    return this.#after('rejoin', Math.min(wait, MOST_REJOIN_MS), () => this.#enter());
  }

  /** After a wrong password the relay tells the hint to who asks without one (PROTOCOL §4). @param {CallError} error */
  #refusedFirst(error) {
    const wrong = this.#wrong;
    this.#wrong = null;
    if (error.code === 'AUTH_FAILED' && this.#asked && !wrong) {
      this.#wrong = error;
      return void this.#sendJoin(false);
    }
    if (error.code === 'AUTH_REQUIRED') this.#asked = true;
    if (wrong) wrong.hint = error.hint;
    return this.#settleJoin(wrong ?? error);
  }

  /** @param {CallError | null} error */
  #settleJoin(error) {
    const joining = this.#joining;
    this.#joining = null;
    this.#clear('join');
    if (error) joining?.reject(error);
    else joining?.resolve();
  }

  /** @param {number} id @param {ServerMessage | null} message @param {CallError | null} error */
  #answer(id, message, error) {
    const request = this.#requests.get(id);
    if (!request) return;
    this.#requests.delete(id);
    clearTimeout(request.timer);
    if (error) request.reject(error);
    else if (message) request.resolve(message);
  }

  /** @param {Purpose} purpose @param {number} delay @param {() => void} run */
  #after(purpose, delay, run) {
    clearTimeout(this.#timers[purpose]);
    this.#timers[purpose] = setTimeout(() => {
      delete this.#timers[purpose];
      run();
    }, delay);
  }

  /** @param {Purpose[]} purposes */
  #clear(...purposes) {
    for (const purpose of purposes) {
      clearTimeout(this.#timers[purpose]);
      delete this.#timers[purpose];
    }
  }
}
