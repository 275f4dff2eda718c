import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ChatLog } from '../js/chat.js';
import { cleanChat, cleanName } from '../js/text.js';
import { LIMITS } from '../js/wire.js';

const from = { fromId: 'a', name: 'Ana', own: false };

test('control and direction characters are taken out of names', () => {
  assert.equal(cleanName('An\u202ea\u0000\u200b \n\t B\u0007o '), 'Ana Bo');
});

test('ordinary names in any script stay', () => {
  for (const name of ['Zoë O’Neill', '李小龍', 'محمد', '👨\u200d👩\u200d👧 family']) assert.equal(cleanName(name), name);
});

test('long names are cut by characters', () => {
  assert.equal(cleanName('é'.repeat(100)), 'é'.repeat(64));
  assert.equal(cleanName('👋'.repeat(65)), '👋'.repeat(64));
});

test('chat keeps its lines and loses what would hide or reorder text', () => {
  assert.equal(cleanChat(' one\r\ntwo\u202e\u2028three\u0000 '), 'one\ntwo\nthree');
  assert.equal(cleanChat('x'.repeat(5000)).length, 4000);
});

test('the log takes each message once and keeps the last five hundred', () => {
  const log = new ChatLog();
  for (let i = 0; i < LIMITS.chatLog + 10; i++) assert.ok(log.add({ id: `m${i}`, text: `${i}`, sentAt: Date.now() }, from));
  assert.equal(log.messages.length, LIMITS.chatLog);
  assert.equal(log.messages[0].text, '10');
  assert.equal(log.add({ id: 'm400', text: 'again', sentAt: 0 }, from), false);
  assert.equal(log.add({ id: 'empty', text: ' \u0000 ', sentAt: 0 }, from), false);
  assert.ok(log.add({ id: 'm400', text: 'the id is another sender’s', sentAt: 0 }, { ...from, fromId: 'b' }));
});

test('a snapshot of the log stays as it was', () => {
  const log = new ChatLog();
  log.add({ id: '1', text: 'one', sentAt: 0 }, from);
  const before = log.messages;
  log.add({ id: '2', text: 'two', sentAt: 0 }, from);
  assert.equal(before.length, 1);
});

test('a wrong clock does not move a message into another day', () => {
  const log = new ChatLog();
  log.add({ id: '1', text: 'one', sentAt: 5 }, from);
  assert.ok(Date.now() - log.messages[0].sentAt < 5000);
});

test('a long text in a wide script becomes messages that fit a data channel', () => {
  const pieces = new ChatLog().compose('漢'.repeat(4000));
  assert.equal(pieces.map(({ text }) => text).join(''), '漢'.repeat(4000));
  for (const piece of pieces) assert.ok(Buffer.byteLength(JSON.stringify(piece)) * (4 / 3) < 16_000);
  assert.equal(new ChatLog().compose('   ').length, 0);
});
