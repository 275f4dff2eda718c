// The protocol's messages at the page's edge: writes what we send, and lets in only what has the shape and size of PROTOCOL §3 to §7.
// Never opens a sealed payload and never throws on what came from outside: it answers null.

/** @import { Candidate, ChannelMessage, ChatPayload, ClientMessage, Description, Media, ServerMessage } from './types.d.ts' */

export const VERSION = 2;

export const LIMITS = {
  /** Largest frame from the relay, in characters. */
  relayFrame: 256 * 1024,
  /** Largest data channel message, in characters. Offers and answers are the large ones. */
  channelMessage: 16 * 1024,
  description: 64 * 1024,
  /** Offer or answer as it travels, sealed. */
  descriptionPayload: 44 * 1024,
  candidatePayload: 2 * 1024,
  namePayload: 512,
  /** A chat message as it travels: 4,000 characters sealed. */
  chatPayload: 15 * 1024,
  sdp: 32 * 1024,
  /** Candidates for one description, sent as well as kept until the description is there. */
  candidates: 64,
  /** Messages that wait for a way to one participant. */
  queue: 64,
  chatLog: 500,
  /** Far more than a room holds. */
  participants: 64,
};

/** Codes after which the relay wants no automatic reconnection. */
export const CLOSED_KICKED = 4001;
export const CLOSED_REPLACED = 4002;
export const CLOSED_ENDED = 4006;

/** @typedef {(value: any) => boolean} Check */

const flag = (/** @type {any} */ value) => typeof value === 'boolean';
/** @type {(max?: number) => Check} */
const whole = (max = Number.MAX_SAFE_INTEGER) => (value) => Number.isSafeInteger(value) && value >= 0 && value <= max;
/** @type {(max: number) => Check} */
const text = (max) => (value) => typeof value === 'string' && value.length <= max;
/** @type {(pattern: RegExp) => Check} */
const like = (pattern) => (value) => typeof value === 'string' && pattern.test(value);
/** @type {(check: Check) => Check} */
const maybe = (check) => (value) => value === undefined || check(value);
/** @type {(check: Check) => Check} */
const nullable = (check) => (value) => value === null || check(value);
/** @type {(check: Check, max: number) => Check} */
const list = (check, max) => (value) => Array.isArray(value) && value.length <= max && value.every(check);
/** @type {(fields: Record<string, Check>) => Check} */
const shape = (fields) => (value) =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && Object.entries(fields).every(([name, check]) => check(value[name]));
/** @type {(max: number) => Check} */
const payload = (max) => {
  const either = shape({ sealed: maybe(text(max)), plain: maybe(text(max)), proof: maybe(text(256)) });
  return (value) => either(value) && ('sealed' in value ? !('plain' in value || 'proof' in value) : 'plain' in value);
};

const userId = like(/^[A-Za-z0-9_-]{22}$/);
const publicKey = like(/^[A-Za-z0-9_-]{87}$/);
/** 32 bytes: no bits of the last character may be left over. */
const token = like(/^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/);
/** 16 bytes. */
const nonce = like(/^[A-Za-z0-9_-]{21}[AQgw]$/);
const session = like(/^[A-Za-z0-9_-]{11}$/);
const date = like(/^\d{4}-\d\d-\d\d$/);
const media = shape({ audio: maybe(flag), video: maybe(flag), screen: maybe(flag), hand: maybe(flag), recording: maybe(flag) });
const capabilities = maybe(list(text(32), 16));
const displayName = payload(LIMITS.namePayload);
const participant = shape({
  userId,
  publicKey: maybe(publicKey),
  formerId: maybe(userId),
  capabilities,
  displayName,
  media,
  away: flag,
  owner: flag,
});
const roomInfo = shape({
  maxParticipants: whole(64),
  allowScreenShare: flag,
  passwordEnabled: flag,
  locked: flag,
  sealed: flag,
  lobby: maybe(flag),
  admission: maybe(text(16)),
  removed: maybe(whole(255)),
});
const iceServer = shape({ urls: list(like(/^(stun|turn)s?:/i), 16), username: maybe(text(512)), credential: maybe(text(512)) });
const iceFields = { iceServers: list(iceServer, 16), iceTtlSeconds: whole() };
const description = payload(LIMITS.descriptionPayload);
const candidate = payload(LIMITS.candidatePayload);

/** @type {Record<string, Check>} */
const FROM_RELAY = {
  welcome: shape({ versions: list(whole(), 16), capabilities, relay: text(128), heartbeatSeconds: whole(3600), nonce: token }),
  room_joined: shape({
    roomId: text(64),
    userId,
    resumeToken: token,
    ticket: text(128),
    participants: list(participant, LIMITS.participants),
    roomInfo,
    isOwner: flag,
    ownerToken: maybe(token),
    ...iceFields,
    seatHoldSeconds: whole(),
  }),
  resumed: shape({ resumeToken: token, replayed: whole() }),
  user_joined: shape({ participant }),
  user_away: shape({ userId }),
  user_back: shape({ userId }),
  user_left: shape({ userId, reason: text(32) }),
  offer_received: shape({ fromId: userId, payload: description }),
  answer_received: shape({ fromId: userId, payload: description }),
  ice_candidate_received: shape({ fromId: userId, payload: candidate }),
  peer_state: shape({ userId, media }),
  peer_name: shape({ userId, displayName }),
  room_updated: shape({ roomInfo }),
  waiting: shape({}),
  knock: shape({ userId, publicKey, displayName }),
  knock_gone: shape({ userId }),
  mute_requested: shape({ fromId: userId }),
  ownership_offered: shape({ fromId: userId }),
  owner_changed: shape({ userId }),
  link_changed: shape({}),
  call_ended: shape({}),
  owner_token: shape({ ownerToken: token }),
  room_stats: shape({ createdAt: date, lastUsed: date, totalSessions: whole(), totalDurationSeconds: whole() }),
  turn_credentials: shape(iceFields),
  done: shape({}),
  room_full: shape({ maxParticipants: whole(64), retryAfterMs: maybe(whole()) }),
  auth_required: shape({ hint: maybe(text(256)) }),
  kicked: shape({}),
  drain: shape({ reconnectAfterMs: whole(60_000) }),
  error: shape({ code: like(/^[A-Z_]{1,64}$/), message: text(1024), retryAfterMs: maybe(whole()) }),
  pong: shape({}),
};
const ENVELOPE = shape({ seq: maybe(whole()), requestId: maybe(whole(0xffff_ffff)) });

/** @type {Record<string, Check>} */
const FROM_CHANNEL = {
  offer: shape({ payload: description }),
  answer: shape({ payload: description }),
  ice_candidate: shape({ payload: candidate }),
  chat: shape({ payload: payload(LIMITS.chatPayload) }),
  media_state: shape({ media }),
  tile: shape({ width: whole(16384), height: whole(16384), screenWidth: whole(16384), screenHeight: whole(16384) }),
  safety: shape({ nonce }),
  bye: shape({}),
};

const DESCRIPTION = shape({ sdp: text(LIMITS.sdp), session, restart: flag, commitment: maybe(token), safetyNonce: maybe(nonce) });
const CANDIDATE = shape({
  candidate: text(1024),
  sdpMid: nullable(text(16)),
  sdpMLineIndex: nullable(whole(16)),
  session,
});
const NAME = shape({ name: text(1024) });
const CHAT = shape({ id: like(/^[\w-]{1,64}$/), text: text(2 * 4000), sentAt: whole() });

/** @param {ClientMessage | ChannelMessage} message */
export function encode(message) {
  return JSON.stringify(message);
}

/** @param {unknown} frame @returns {ServerMessage | null} */
export function parseServerMessage(frame) {
  const message = parse(frame, LIMITS.relayFrame, FROM_RELAY);
  return message && ENVELOPE(message) ? message : null;
}

/** The number of a relay's message, known type or not. @param {unknown} frame @returns {number | null} */
export function sequenceOf(frame) {
  const digits = typeof frame === 'string' ? /^\{"seq":(\d{1,15}),/.exec(frame) : null;
  return digits && Number(digits[1]);
}

/** @param {unknown} frame @returns {ChannelMessage | null} */
export function parseChannelMessage(frame) {
  const message = parse(frame, LIMITS.description, FROM_CHANNEL);
  const large = message?.type === 'offer' || message?.type === 'answer';
  return message && (large || String(frame).length <= LIMITS.channelMessage) ? message : null;
}

/** @param {unknown} frame @param {number} max @param {Record<string, Check>} shapes */
function parse(frame, max, shapes) {
  if (typeof frame !== 'string' || frame.length > max) return null;
  try {
    const message = JSON.parse(frame);
    const type = message?.type;
    return typeof type === 'string' && Object.hasOwn(shapes, type) && shapes[type]?.(message) ? message : null;
  } catch {
    return null;
  }
}

/** What an opened offer or answer says. @param {any} value @returns {Description | null} */
export const readDescription = (value) => (DESCRIPTION(value) ? value : null);

/** @param {any} value @returns {Candidate | null} */
export const readCandidate = (value) => (CANDIDATE(value) ? value : null);

/** @param {any} value @returns {string | null} */
export const readName = (value) => (NAME(value) ? value.name : null);

/** @param {any} value @returns {ChatPayload | null} */
export const readChat = (value) => (CHAT(value) ? value : null);

/** Fills in what a sender left out. @param {Partial<Media>} value @returns {Media} */
export function readMedia({ audio = false, video = false, screen = false, hand = false, recording = false }) {
  return { audio, video, screen, hand, recording };
}
