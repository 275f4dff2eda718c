import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { findLink, readEntry } from '../js/find-link.js';
import { newSecret, toBase64Url } from '../js/link.js';

const golden = JSON.parse(readFileSync(new URL('../../relay/wire/golden/links.json', import.meta.url), 'utf8'));
const { secret, ownerToken } = golden;

const said = (text) => {
  const { link, problem } = findLink(text);
  if (!link) return { problem };
  const { scheme, host, port, roomId, secret, ownerToken } = link;
  return { found: { scheme, host, port, room: roomId, secret: secret && toBase64Url(secret), owner: ownerToken } };
};

test('every golden text says what it should', () => {
  const wrong = golden.vectors.filter(({ text, ...wanted }) => JSON.stringify(said(text)) !== JSON.stringify(wanted))
    .map(({ text, ...wanted }) => `${JSON.stringify(text)}\n  wanted ${JSON.stringify(wanted)}\n  got    ${JSON.stringify(said(text))}`);
  assert.deepEqual(wrong, [], wrong.join('\n'));
});

test('a link that was wrapped anywhere is found', () => {
  for (const [link, from] of [
    [`https://meet.example.org:8443/room/sunny-mountain-42#${secret}`, 8],
    [`meet.example.org/room/sunny-mountain-42#${secret}`, 'meet.example.org/room/'.length],
    [`sunny-mountain-42#${secret}`, 'sunny-mountain-42#'.length],
  ]) {
    for (let at = from; at < link.length; at++) {
      for (const wrap of ['\n', '\r\n', ' \n', '\n> ', '=\r\n']) {
        const text = `> Join: <${link.slice(0, at)}${wrap}${link.slice(at)}>.`;
        assert.deepEqual(said(text), said(link), text);
      }
    }
  }
  const link = `https://meet.example.org/room/sunny-mountain-42#${secret}&owner=${ownerToken}`;
  for (let at = 8; at < link.length; at++) assert.deepEqual(said(`${link.slice(0, at)}\n${link.slice(at)}`), said(link), String(at));
});

test('no damage to a secret makes an unsealed room', () => {
  for (const start of ['https://h.example/room/abc#', 'h.example/room/abc#', 'abc#', 'snug://h.example/room/abc%23']) {
    for (let at = 0; at <= secret.length; at++) {
      for (const put of ['', ' ', '\n', '.', '!', 'é', '–', '…', '%', '&', '=', '+', '/', '(', ')', '"', '<b>', '中', '\0', '#']) {
        const { found } = said(`see ${start}${secret.slice(0, at)}${put}${secret.slice(at)}, please`);
        if (found) assert.equal(found.secret, secret, `${start} ${at} ${put}`);
        if (at < secret.length) assert.ok(said(`see ${start}${secret.slice(0, at)}${put}${secret.slice(at + 1)}, please`).problem, `${start} ${at} ${put}`);
      }
    }
  }
});

test('noise in a link, at random, never costs it its secret', () => {
  const alphabet = [...' \n#&=%/:@[].azé中'];
  for (let run = 0; run < 3000; run++) {
    const secret = toBase64Url(newSecret());
    const link = `https://meet.example.org/room/sunny-mountain-42#${secret}`;
    const at = Math.floor(Math.random() * link.length);
    const noise = Array.from({ length: 1 + Math.floor(Math.random() * 3) }, () => alphabet[Math.floor(Math.random() * alphabet.length)]).join('');
    const text = link.slice(0, at) + noise + link.slice(at);
    const { found } = said(text);
    if (found) assert.equal(found.secret, secret, JSON.stringify(text));
  }
});

test('what people type becomes a room id', () => {
  for (const [typed, roomId] of [
    ['Sunny Mountain 42', 'sunny-mountain-42'],
    ['  sunny--mountain ', 'sunny-mountain'],
    ['Café Übermut', 'cafe-ubermut'],
    ['Team: a/b', 'team-a-b'],
    ['50%', null],
    ['ab', null],
    ['🙂', null],
    ['a'.repeat(65), null],
  ]) assert.equal(readEntry(typed).roomId ?? null, roomId, typed);
  assert.equal(readEntry('東京').problem, 'script');
  assert.equal(readEntry('ab').problem, 'length');
  assert.equal(toBase64Url(readEntry(`see https://h.example/room/abc#${secret}`).link.secret), secret);
});

test('nothing that may be a part of a link is taken for a name', () => {
  const link = `https://h.example/room/abc#${secret}`;
  for (const padding of ['.', ' ', '\n', '🙂', 'word ']) {
    for (const part of [link, encodeURIComponent(link), 'h.example/room/abc', '/room/abc', 'room/abc', `abc#${secret}`, 'abc']) {
      const long = padding.repeat(16400);
      for (const text of [long + part, part + long]) assert.deepEqual(readEntry(text), { problem: 'link_invalid' }, `${JSON.stringify(padding)} ${part}`);
    }
  }
  for (const text of ['://abc', 'abc #', '#abc', 'x#y', 'https://abc', 'https://h.example/abc', '=/room/', `a://${' b://'.repeat(300)}`]) {
    assert.equal(readEntry(text).roomId, undefined, text);
  }
});

test('the longest text is counted in characters, as the others count', () => {
  const link = ` https://h.example/room/abc#${secret}`;
  assert.equal(said('🙂'.repeat(16384 - link.length) + link).found?.secret, secret);
  assert.equal(said('🙂'.repeat(16385 - link.length) + link).problem, 'link_invalid');
});

test('a long hostile text is answered soon', () => {
  const pieces = ['/room/', 'https://h/room/', '#', 'abc#', 'a%25', '\n', ' ', '&amp;', 'https://h/room/a\n', '://', 'a://', 'a#a://', 'room/', '.a://', `.a://${'.'.repeat(290)}\n`,
    `a:///room/${'/'.repeat(2000)}x`, `a:///room/a${'.'.repeat(2000)}x`, `a:///room/a#${'-'.repeat(2000)}x`, `${'.a://'.repeat(60)}\n`, `${'.a://%252525'.repeat(25)}\n`,
    `${'.a://'.repeat(200)}${'//'.repeat(6000)}`, `${'.a://'.repeat(250)}/room/${'/'.repeat(2000)}x${'\n/'.repeat(3000)}`, `${'[::1]'.repeat(50)}/room/`, `${'a'.repeat(290)}/room/`];
  for (const piece of pieces) {
    const text = piece.repeat(Math.ceil(16384 / piece.length)).slice(0, 16384);
    const from = performance.now();
    findLink(text);
    const took = performance.now() - from;
    if (process.env.SLOW) console.log(took.toFixed(0), JSON.stringify(piece.slice(0, 40)));
    assert.ok(took < 3000, `${piece.slice(0, 40)} took ${took} ms`);
  }
});
