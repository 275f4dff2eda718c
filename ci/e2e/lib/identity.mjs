// Who a client without a browser is: the signing key and the payloads of PROTOCOL §6, written from its text and not with the page's
// code. Two readings of one document have to agree.

import { createCipheriv, createDecipheriv, createHash, createPublicKey, generateKeyPairSync, hkdfSync, randomBytes, sign, verify } from 'node:crypto';

const decode = text => Buffer.from(text, 'base64url');
const ZERO = '\0';

/** The userId that belongs to a public key. */
export const userIdOf = publicKey => createHash('sha256').update(`snug/2${ZERO}user${ZERO}`).update(decode(publicKey)).digest().subarray(0, 16).toString('base64url');

/** PROTOCOL.md §6: what shows the relay that the whole link is known. */
export const linkProof = (secret, roomId) => derive(secret, `link-proof${ZERO}${roomId}`).toString('base64url');

const derive = (secret, info) => Buffer.from(hkdfSync('sha256', decode(secret), 'snug/1', info, 32));

export class Identity {
  #privateKey;
  #counter = 0n;

  constructor() {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const { x, y } = publicKey.export({ format: 'jwk' });
    this.#privateKey = privateKey;
    this.publicKey = Buffer.concat([Buffer.of(4), decode(x), decode(y)]).toString('base64url');
    this.userId = userIdOf(this.publicKey);
    this.startAnew();
  }

  /** Another run, as after a restart of the client. */
  startAnew() {
    const startedMs = Math.max(Date.now(), (this.startedMs ?? 0) + 1);
    this.startedMs = startedMs;
    const started = Buffer.alloc(8);
    started.writeBigUInt64BE(BigInt(startedMs));
    this.run = Buffer.concat([started, randomBytes(8)]);
    this.#counter = 0n;
  }

  sign(bytes) {
    return sign('sha256', bytes, { key: this.#privateKey, dsaEncoding: 'ieee-p1363' });
  }

  /** `keyProof` of a join over a connection's nonce. */
  prove(nonce, roomId) {
    return this.sign(Buffer.concat([Buffer.from(`snug/2${ZERO}join${ZERO}`), decode(nonce), Buffer.from(roomId)])).toString('base64url');
  }

  /** A payload for `receiverId`, or for the whole room; sealed when there is a secret. `as` speaks under another's id. */
  payload({ kind, roomId, receiverId = '*', secret = null, as = this.userId }, value) {
    this.#counter += 1n;
    const counter = Buffer.alloc(8);
    counter.writeBigUInt64BE(this.#counter);
    const header = Buffer.concat([this.run, counter]);
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    const bound = boundOf({ kind, roomId, senderId: as, receiverId, secret }, header);
    const signature = this.sign(Buffer.concat([bound, Buffer.from(text)]));
    if (!secret) return { plain: text, proof: Buffer.concat([header, signature]).toString('base64url') };
    const cipher = createCipheriv('aes-256-gcm', senderKey(secret, roomId, as, this.run), Buffer.concat([Buffer.alloc(4), counter])).setAAD(bound);
    const body = Buffer.concat([cipher.update(signature), cipher.update(text), cipher.final(), cipher.getAuthTag()]);
    return { sealed: Buffer.concat([header, body]).toString('base64url') };
  }
}

/** The text inside a payload, once its sender's key has signed it; throws for all others. */
export function openPayload({ kind, roomId, senderId, receiverId = '*', secret = null, publicKey }, payload) {
  const bytes = decode(payload.sealed ?? payload.proof);
  const header = bytes.subarray(0, 24);
  const bound = boundOf({ kind, roomId, senderId, receiverId, secret }, header);
  let signature = bytes.subarray(24, 88);
  let text = Buffer.from(payload.plain ?? '');
  if (secret) {
    const key = senderKey(secret, roomId, senderId, header.subarray(0, 16));
    const decipher = createDecipheriv('aes-256-gcm', key, Buffer.concat([Buffer.alloc(4), header.subarray(16)]))
      .setAAD(bound).setAuthTag(bytes.subarray(-16));
    const body = Buffer.concat([decipher.update(bytes.subarray(24, -16)), decipher.final()]);
    [signature, text] = [body.subarray(0, 64), body.subarray(64)];
  }
  const point = decode(publicKey);
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map(part => part.toString('base64url'));
  const key = createPublicKey({ key: { kty: 'EC', crv: 'P-256', x, y }, format: 'jwk' });
  if (userIdOf(publicKey) !== senderId) throw new Error('not the id of this key');
  if (!verify('sha256', Buffer.concat([bound, text]), { key, dsaEncoding: 'ieee-p1363' }, signature)) throw new Error('not signed by this key');
  return text.toString();
}

function boundOf({ kind, roomId, senderId, receiverId, secret }, header) {
  const words = ['snug/2', secret ? 'sealed' : 'plain', kind, roomId, senderId, receiverId];
  return Buffer.concat([Buffer.from(words.map(word => word + ZERO).join('')), header]);
}

const senderKey = (secret, roomId, senderId, run) => derive(secret, Buffer.concat([Buffer.from(['sender', roomId, senderId, ''].join(ZERO)), run]));
