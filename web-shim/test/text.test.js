import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ChatLog } from '../js/chat.js';
import { CHAT_CHARS, chatLength, cleanChat, cleanName, splitAddresses } from '../js/text.js';
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

test('a text is counted in the unit of its limit, and one that is too long is not sent rather than cut', () => {
  assert.equal(chatLength('👋'.repeat(CHAT_CHARS)), CHAT_CHARS);
  assert.equal(chatLength(' a\r\nb\u202e '), 3);
  for (const letter of ['x', '👋', '漢']) {
    const whole = new ChatLog().compose(letter.repeat(CHAT_CHARS)).map(({ text }) => text).join('');
    assert.equal(whole, letter.repeat(CHAT_CHARS));
    assert.throws(() => new ChatLog().compose(letter.repeat(CHAT_CHARS + 1)), RangeError);
  }
});

test('a name that draws nothing is empty, whatever it is made of', () => {
  const { ranges } = JSON.parse(readFileSync(new URL('../../relay/wire/golden/blank.json', import.meta.url), 'utf8'));
  const blank = (code) => ranges.some(([first, last]) => parseInt(first, 16) <= code && code <= parseInt(last, 16));
  for (let code = 0; code <= 0x10ffff; code++) {
    if (code >= 0xd800 && code <= 0xdfff) continue;
    assert.equal(cleanName(String.fromCodePoint(code)) === '', blank(code), code.toString(16));
  }
  for (const name of ['\u2800 \u2800', '\u3164\ufe0f', '\u200d\u200d', '\u{e0041}']) assert.equal(cleanName(name), '', name);
  assert.equal(cleanName('❤\ufe0f'), '❤\ufe0f');
});

test('an address ends where a reader ends it', () => {
  for (const [text, ...addresses] of [
    ['(see http://a.example/b)', 'http://a.example/b'],
    ['https://en.wikipedia.org/wiki/Foo_(bar)', 'https://en.wikipedia.org/wiki/Foo_(bar)'],
    ['(https://en.wikipedia.org/wiki/Foo_(bar)).', 'https://en.wikipedia.org/wiki/Foo_(bar)'],
    ['https://a.example/(x)_(y)', 'https://a.example/(x)_(y)'],
    ['[https://a.example/x[1]], {https://a.example/y}', 'https://a.example/x[1]', 'https://a.example/y'],
    ['http://[::1]:8080/ and http://[::1]', 'http://[::1]:8080/', 'http://[::1]'],
    ['“https://a.example/q”, ‘https://a.example/r’ «https://a.example/s» „https://a.example/t“', 'https://a.example/q', 'https://a.example/r', 'https://a.example/s', 'https://a.example/t'],
    ['\'https://a.example/q\' "https://a.example/r"', 'https://a.example/q', 'https://a.example/r'],
    ['看（https://a.example/路）。再看「https://a.example/b」、https://a.example/c，好', 'https://a.example/路', 'https://a.example/b', 'https://a.example/c'],
    ['https://a.example/?q=1&r=(2)!?…', 'https://a.example/?q=1&r=(2)'],
    ['https://a.example/it’s, https://a.example/x...', 'https://a.example/it’s', 'https://a.example/x'],
    ['https://a.example/room/abc#c2l4dGVlbiBieXRlcyBv_-', 'https://a.example/room/abc#c2l4dGVlbiBieXRlcyBv_-'],
    ['https://a.example/a,b;c', 'https://a.example/a,b;c'],
    ['*https://a.example/*', 'https://a.example/'],
    ['https://a.example/x([', 'https://a.example/x'],
    ['http://) http://... xhttp://a.example javascript:alert(1) ftp://a.example'],
  ]) {
    const parts = splitAddresses(text);
    assert.deepEqual(parts.filter((part) => part.address).map((part) => part.text), addresses, text);
    assert.equal(parts.map((part) => part.text).join(''), text);
  }
});

test('addresses with thousands of brackets are split at once', () => {
  const from = performance.now();
  for (const tail of [')'.repeat(3990), '('.repeat(3990), '([{'.repeat(1330), '()'.repeat(1990) + ')', '.'.repeat(3990)]) {
    for (let message = 0; message < 100; message++) splitAddresses(`http://${tail}`);
  }
  assert.ok(performance.now() - from < 3000, `took ${performance.now() - from} ms`);
  const nested = `https://a.example/${'('.repeat(1900)}${')'.repeat(1900)}`;
  assert.equal(splitAddresses(`${nested})))`)[0].text, nested);
});
