// A STUN and TURN client (RFC 8489, RFC 8656) without a browser, for tests about who may use the relay's own server.
//
// It speaks UDP, TCP or TLS, asks once or with credentials, and never decides anything by itself.

import { createHash, createHmac, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { until } from './until.mjs';

const COOKIE = 0x2112a442;
const METHOD = { binding: 0x001, allocate: 0x003, refresh: 0x004, createPermission: 0x008, channelBind: 0x009 };
const ATTRIBUTE = { username: 0x06, integrity: 0x08, error: 0x09, channel: 0x0c, lifetime: 0x0d, peer: 0x12, realm: 0x14, nonce: 0x15, relayed: 0x16, transport: 0x19, mapped: 0x20 };

/** `turn:HOST:PORT?transport=udp` and its like, in parts. */
export function parseUrl(url) {
  const [, scheme, host, port, transport] = url.match(/^(stuns?|turns?):(.+):(\d+)(?:\?transport=(\w+))?$/);
  return { scheme, host: host.replace(/^\[|\]$/g, ''), port: Number(port), transport: transport ?? 'udp' };
}

/** The first server of a scheme and a transport that a participant was told of, with its credential. */
export function serverOf(iceServers, scheme, transport = 'udp') {
  for (const { urls, username, credential } of iceServers) {
    for (const url of urls) {
      const parsed = parseUrl(url);
      if (parsed.scheme === scheme && parsed.transport === transport) return { ...parsed, url, username, credential };
    }
  }
  throw new Error(`no ${scheme} over ${transport} in ${JSON.stringify(iceServers)}`);
}

/** An attribute; one whose value depends on the id of its request is made with it. */
const attribute = (type, value) => {
  if (typeof value === 'function') return id => attribute(type, value(id));
  const head = Buffer.alloc(4);
  head.writeUInt16BE(type, 0);
  head.writeUInt16BE(value.length, 2);
  return Buffer.concat([head, value, Buffer.alloc((4 - (value.length % 4)) % 4)]);
};

const uint32 = value => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
};

/** The 16 bytes of an IPv6 address. */
function bytesOf6(address) {
  const [front, back] = address.split('::').map(half => half.split(':').filter(Boolean));
  const words = back ? [...front, ...Array(8 - front.length - back.length).fill('0'), ...back] : front;
  return Buffer.from(words.map(word => word.padStart(4, '0')).join(''), 'hex');
}

/** An address as STUN hides it from routers that meddle, in the request with this id. */
const xored = ({ address, port }) => id => {
  const v6 = address.includes(':');
  const plain = v6 ? bytesOf6(address) : Buffer.from(address.split('.').map(Number));
  const mask = Buffer.concat([uint32(COOKIE), id]);
  const head = Buffer.alloc(4);
  head[1] = v6 ? 2 : 1;
  head.writeUInt16BE(port ^ (COOKIE >>> 16), 2);
  return Buffer.concat([head, plain.map((byte, at) => byte ^ mask[at])]);
};

const unxored = bytes => {
  const address = uint32(bytes.readUInt32BE(4) ^ COOKIE);
  return { address: [...address].join('.'), port: bytes.readUInt16BE(2) ^ (COOKIE >>> 16) };
};

function parse(message) {
  const attributes = new Map();
  for (let at = 20; at + 4 <= message.length; ) {
    const length = message.readUInt16BE(at + 2);
    const type = message.readUInt16BE(at);
    if (!attributes.has(type)) attributes.set(type, message.subarray(at + 4, at + 4 + length));
    at += 4 + length + ((4 - (length % 4)) % 4);
  }
  const error = attributes.get(ATTRIBUTE.error);
  return {
    id: message.toString('hex', 8, 20),
    code: error ? error[2] * 100 + error[3] : 0,
    nonce: attributes.get(ATTRIBUTE.nonce),
    realm: attributes.get(ATTRIBUTE.realm),
    relayed: attributes.has(ATTRIBUTE.relayed) ? unxored(attributes.get(ATTRIBUTE.relayed)) : null,
    mapped: attributes.has(ATTRIBUTE.mapped) ? unxored(attributes.get(ATTRIBUTE.mapped)) : null,
    lifetime: attributes.get(ATTRIBUTE.lifetime)?.readUInt32BE() ?? null,
  };
}

export class TurnClient {
  /** What came through channels, as text. */
  heard = [];
  /** Is told of each of them as it comes, as bytes. */
  onData = () => {};
  /** A stream was ended by the server. */
  ended = false;
  #answers = new Map();
  #challenge = null;

  constructor(server) {
    this.server = server;
  }

  /** Opens a socket towards a server of `serverOf`. `ca` is what a `turns:` server has to be certified by. */
  static async open(cleanup, server, { ca } = {}) {
    const client = new TurnClient(server);
    if (server.transport === 'udp') {
      const socket = createSocket('udp4');
      socket.on('message', message => client.#take(message));
      cleanup.add(() => socket.close());
      client.send = message => socket.send(message, server.port, server.host);
    } else {
      const secure = server.scheme === 'turns';
      const { host, port } = server;
      const socket = secure ? connectTls({ host, port, ca, ...(isIP(host) ? {} : { servername: host }) }) : connect({ host, port });
      socket.setNoDelay(true);
      client.socket = socket;
      let rest = Buffer.alloc(0);
      socket.on('data', data => (rest = client.#takeFrames(Buffer.concat([rest, data]))));
      socket.on('close', () => (client.ended = true));
      socket.on('error', () => (client.ended = true));
      cleanup.add(() => socket.destroy());
      client.send = message => socket.write(message);
      await new Promise((done, fail) => socket.once(secure ? 'secureConnect' : 'connect', done).once('error', fail));
    }
    return client;
  }

  #takeFrames(bytes) {
    while (bytes.length >= 4) {
      const length = bytes.readUInt16BE(2);
      const whole = bytes[0] < 0x40 ? 20 + length : 4 + length + ((4 - (length % 4)) % 4);
      if (bytes.length < whole) break;
      this.#take(bytes.subarray(0, whole));
      bytes = bytes.subarray(whole);
    }
    return bytes;
  }

  #take(message) {
    if (message[0] >= 0x40) {
      const data = message.subarray(4, 4 + message.readUInt16BE(2));
      this.heard.push(data.toString());
      this.onData(data);
    } else {
      const answer = parse(message);
      this.#answers.set(answer.id, answer);
    }
  }

  /** One request and its answer; asked again while none comes, as UDP needs. */
  async #once(method, attributes) {
    const id = randomBytes(12);
    let body = Buffer.concat(attributes.map(one => (typeof one === 'function' ? one(id) : one)));
    const head = length => {
      const bytes = Buffer.alloc(20);
      bytes.writeUInt16BE(METHOD[method], 0);
      bytes.writeUInt16BE(length, 2);
      bytes.writeUInt32BE(COOKIE, 4);
      id.copy(bytes, 8);
      return bytes;
    };
    if (this.#challenge) {
      const { realm, nonce } = this.#challenge;
      const { username, credential } = this.server;
      body = Buffer.concat([body, attribute(ATTRIBUTE.username, Buffer.from(username)), attribute(ATTRIBUTE.realm, realm), attribute(ATTRIBUTE.nonce, nonce)]);
      const key = createHash('md5').update(`${username}:${realm}:${credential}`).digest();
      const signed = createHmac('sha1', key).update(head(body.length + 24)).update(body).digest();
      body = Buffer.concat([body, attribute(ATTRIBUTE.integrity, signed)]);
    }
    const message = Buffer.concat([head(body.length), body]);
    let asked = -1;
    return until(
      `an answer to ${method}`,
      () => {
        const now = Math.floor(performance.now() / 500);
        if (now !== asked && (asked < 0 || this.server.transport === 'udp')) this.send(message);
        asked = now;
        return this.#answers.get(id.toString('hex'));
      },
      { timeout: 8000, every: 5 },
    );
  }

  /** A request with credentials: 0 when it was granted, else the error's code. */
  async ask(method, attributes) {
    return (await this.answer(method, attributes)).code;
  }

  /** The same, with all that the answer says. */
  async answer(method, attributes = []) {
    let answer = await this.#once(method, attributes);
    if ((answer.code === 401 && !this.#challenge) || answer.code === 438) {
      this.#challenge = { realm: answer.realm, nonce: answer.nonce };
      answer = await this.#once(method, attributes);
    }
    if (answer.relayed) this.relayed = answer.relayed;
    if (answer.mapped) this.mapped = answer.mapped;
    return answer;
  }

  binding = () => this.ask('binding');
  allocate = () => this.ask('allocate', [attribute(ATTRIBUTE.transport, Buffer.from([17, 0, 0, 0]))]);
  refresh = () => this.ask('refresh', [attribute(ATTRIBUTE.lifetime, uint32(600))]);
  prolong = seconds => this.answer('refresh', [attribute(ATTRIBUTE.lifetime, uint32(seconds))]);
  permit = peer => this.ask('createPermission', [attribute(ATTRIBUTE.peer, xored(peer))]);
  bind = peer => this.ask('channelBind', [attribute(ATTRIBUTE.channel, Buffer.from([0x40, 0, 0, 0])), attribute(ATTRIBUTE.peer, xored(peer))]);

  /** Says something through the channel of `bind`. In a stream it returns false when that waits in memory. */
  say(text) {
    const body = Buffer.from(text);
    const head = Buffer.from([0x40, 0, body.length >> 8, body.length & 0xff]);
    return this.send(Buffer.concat([head, body, Buffer.alloc((4 - (body.length % 4)) % 4)]));
  }
}
