import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { LIMITS, parseChannelMessage, parseServerMessage, readCandidate, readChat, readDescription, readMedia, readName } from '../js/wire.js';
import { participant, roomJoined, userId } from './fakes.js';

const golden = JSON.parse(readFileSync(new URL('../../relay/wire/golden/messages.json', import.meta.url), 'utf8'));
const text = JSON.stringify;

test('every message of the relay is read as it is, with and without a sequence number', () => {
  for (const message of golden.server) {
    assert.deepEqual(parseServerMessage(text(message)), message, message.type);
    assert.deepEqual(parseServerMessage(text({ seq: 7, ...message })), { seq: 7, ...message }, message.type);
  }
});

test('what the golden file calls malformed is refused, in frames, on the data channel and inside of payloads', () => {
  const malformed = JSON.parse(readFileSync(new URL('../../relay/wire/golden/malformed.json', import.meta.url), 'utf8'));
  const opened = (/** @type {string} */ body) => { try { return JSON.parse(body); } catch { return null; } };
  const readers = {
    server: parseServerMessage,
    channel: parseChannelMessage,
    name: (body) => readName(opened(body)),
    description: (body) => readDescription(opened(body)),
    candidate: (body) => readCandidate(opened(body)),
    chat: (body) => readChat(opened(body)),
  };
  for (const [kind, read] of Object.entries(readers)) {
    assert.ok(malformed[kind].length >= 3, kind);
    for (const frame of malformed[kind]) assert.equal(read(frame), null, `${kind}: ${frame}`);
  }
});

test('no array is taken for an object, anywhere in any message', () => {
  /** The message with each of its objects, one at a time, as an array. */
  const withArrays = function* (value, wrap) {
    if (Array.isArray(value)) for (const [index, inner] of value.entries()) yield* withArrays(inner, (changed) => wrap(value.with(index, changed)));
    else if (typeof value === 'object' && value !== null) {
      yield wrap([]);
      yield wrap(Object.values(value));
      yield wrap(Object.assign([], value));
      for (const [name, inner] of Object.entries(value)) yield* withArrays(inner, (changed) => wrap({ ...value, [name]: changed }));
    }
  };
  let tried = 0;
  for (const message of golden.server) {
    for (const changed of withArrays(message, (value) => value)) {
      tried += 1;
      assert.equal(parseServerMessage(text(changed)), null, text(changed));
    }
  }
  assert.ok(tried > 100);
});

test('unknown fields are let through and unknown types are not', () => {
  assert.ok(parseServerMessage('{"type":"pong","later":1}'));
  for (const frame of ['{"type":"later"}', '{"type":"toString"}', '{"type":"__proto__"}', '{}', '[]', 'null', '1', '"pong"', 'pong', '', '{"type":["pong"]}']) {
    assert.equal(parseServerMessage(frame), null, frame);
    assert.equal(parseChannelMessage(frame), null, frame);
  }
  for (const data of [undefined, null, 1, new Uint8Array(3), { type: 'pong' }]) assert.equal(parseServerMessage(data), null);
});

test('a message that lost any field, or has another type in it, is not let in', () => {
  const optional = new Set(['requestId', 'ownerToken', 'hint', 'retryAfterMs', 'username', 'credential', 'seq', 'capabilities']);
  for (const message of golden.server) {
    for (const field of Object.keys(message)) {
      if (field === 'type') continue;
      for (const value of [undefined, null, [], {}, 'x'.repeat(600_000), -1, 1.5, true]) {
        if (value === undefined && optional.has(field)) continue;
        if (typeof value === typeof message[field] && typeof value === 'boolean') continue;
        if (Array.isArray(value) && Array.isArray(message[field])) continue;
        // All of its fields may be missing.
        if (field === 'media' && value !== null && typeof value === 'object' && !Array.isArray(value)) continue;
        const changed = { ...message, [field]: value };
        assert.equal(parseServerMessage(text(changed)), null, `${message.type}.${field} = ${text(value)?.slice(0, 20)}`);
      }
    }
  }
});

test('what is inside a participant and a payload is looked at', () => {
  const joined = (changes) => parseServerMessage(text(roomJoined({ participants: [participant('a', changes)] })));
  assert.ok(joined({}));
  assert.ok(joined({ media: {} }));
  for (const changes of [
    { userId: 'short' },
    { displayName: {} },
    { displayName: { plain: 'a', sealed: 'b' } },
    { displayName: { sealed: 1 } },
    { displayName: { sealed: 'x'.repeat(LIMITS.namePayload + 1) } },
    { media: { audio: 1 } },
    { away: 0 },
  ]) {
    assert.equal(joined(changes), null, text(changes));
  }
  assert.equal(parseServerMessage(text(roomJoined({ participants: Array(65).fill(participant('a')) }))), null);
  assert.equal(parseServerMessage(text(roomJoined({ iceServers: [{ urls: ['https://example.org'] }] }))), null);
});

test('payloads over their limit are not let in', () => {
  const offer = (length) => text({ type: 'offer_received', fromId: userId('a'), payload: { sealed: 'x'.repeat(length) } });
  assert.ok(parseServerMessage(offer(LIMITS.descriptionPayload)));
  assert.equal(parseServerMessage(offer(LIMITS.descriptionPayload + 1)), null);
  const candidate = (length) => text({ type: 'ice_candidate', payload: { sealed: 'x'.repeat(length) } });
  assert.ok(parseChannelMessage(candidate(LIMITS.candidatePayload)));
  assert.equal(parseChannelMessage(candidate(LIMITS.candidatePayload + 1)), null);
});

test('data channel messages are read by the same rules', () => {
  for (const message of [
    { type: 'bye' },
    { type: 'media_state', media: { audio: true } },
    { type: 'tile', width: 640, height: 360, screenWidth: 0, screenHeight: 0 },
    { type: 'chat', payload: { plain: '{}' } },
    { type: 'answer', payload: { sealed: 'AAAA' } },
  ]) {
    assert.deepEqual(parseChannelMessage(text(message)), message);
  }
  for (const message of [
    { type: 'tile', width: -1, height: 0, screenWidth: 0, screenHeight: 0 },
    { type: 'tile', width: 1e9, height: 0, screenWidth: 0, screenHeight: 0 },
    { type: 'media_state' },
    { type: 'room_joined' },
  ]) {
    assert.equal(parseChannelMessage(text(message)), null, text(message));
  }
});

test('opened payloads are checked before they are used', () => {
  const session = 'AQIDBAUGBwg';
  assert.ok(readDescription({ sdp: 'v=0', session, restart: false }));
  assert.ok(readCandidate({ candidate: 'candidate:1', sdpMid: '0', sdpMLineIndex: null, session }));
  assert.equal(readName({ name: 'Ana' }), 'Ana');
  assert.ok(readChat({ id: session, text: 'hi', sentAt: 1764000000000 }));
  for (const value of [null, 1, 'x', [], {}, { sdp: 'v=0', session: 'short', restart: false }, { sdp: 1, session, restart: true }]) {
    assert.equal(readDescription(value), null);
    assert.equal(readCandidate(value), null);
    assert.equal(readName(value), null);
    assert.equal(readChat(value), null);
  }
  assert.equal(readDescription({ sdp: 'x'.repeat(LIMITS.sdp + 1), session, restart: false }), null);
});

test('sources that a sender left out are off', () => {
  assert.deepEqual(readMedia({ video: true }), { audio: false, video: true, screen: false, hand: false, recording: false });
});
