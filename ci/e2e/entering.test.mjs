// What people meet before the call and at its edges: addresses, room names, devices, WebRTC, proxies, the back button.

import assert from 'node:assert/strict';
import { createServer, request } from 'node:http';
import { chromium, guest, person } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { openAsOwner } from './lib/rooms.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';
import { WireClient } from './lib/wireclient.mjs';

const small = { camera: 'small' };
const PERSON = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };

/** The words on the page. */
const words = someone => someone.page.evaluate(() => document.body.innerText);
const reads = (someone, pattern) => until(`${someone.name} to read ${pattern}`, async () => pattern.test(await words(someone)) || Promise.reject(new Error(await words(someone))));

scenario('a room has one address, and every spelling of it leads there', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const wanted = `/room/${room.roomId}`;
  const ask = (path, options) => fetch(relay.origin + path, { redirect: 'manual', ...options });
  for (const path of [wanted.toUpperCase(), `${wanted}/`, `${wanted}//`, `/room//${room.roomId}`, `/${wanted}`, `${wanted}%20`, wanted.replace('test', '%74est'), `/Room/${room.roomId}`]) {
    for (const headers of [PERSON, {}]) {
      const answer = await ask(path, { headers });
      assert.equal(answer.status, 308, path);
      assert.equal(answer.headers.get('location'), wanted, path);
    }
  }
  assert.equal((await ask(`${wanted}/?from=mail&x=%2F`)).headers.get('location'), `${wanted}?from=mail&x=%2F`);
  assert.equal((await ask(wanted)).status, 200);

  const browser = await chromium(cleanup, small);
  const ana = await person(browser, 'Ana');
  await ana.open(`${relay.origin}${wanted.toUpperCase()}/?from=mail#${room.secret}`);
  const url = new URL(ana.page.url());
  assert.equal(url.pathname + url.search + url.hash, `${wanted}?from=mail#${room.secret}`, 'the secret survives');
  await ana.join();
});

scenario('an error that a person may see is a page in their language, and JSON for programs', async cleanup => {
  const relay = await startRelay(cleanup);
  for (const [path, method, status, english, german] of [
    ['/nothing', 'GET', 404, /nothing here/, /Hier ist nichts/],
    ['/wp-login.php?x=1', 'GET', 404, /nothing here/, /Hier ist nichts/],
    ['/', 'POST', 405, /not for browsers/, /nicht für Browser/],
    ['/room/abc', 'PUT', 405, /not for browsers/, /nicht für Browser/],
    ['/nothing', 'DELETE', 405, /not for browsers/, /nicht für Browser/],
    ['/room/%FF%FE/meta', 'GET', 400, /not for browsers/, /nicht für Browser/],
    ['/room/a_b/meta', 'GET', 404, /nothing here/, /Hier ist nichts/],
    ['/ws', 'GET', 426, /not for browsers/, /nicht für Browser/],
  ]) {
    for (const [language, pattern] of [['en', english], ['de-AT,de;q=0.9', german]]) {
      const answer = await fetch(relay.origin + path, { method, headers: { ...PERSON, 'accept-language': language } });
      assert.equal(answer.status, status, path);
      assert.match(answer.headers.get('content-type'), /^text\/html/, path);
      assert.ok(answer.headers.get('content-security-policy'), path);
      const text = await answer.text();
      assert.match(text, pattern, path);
      assert.match(text, /<a href="\/">/, path);
      assert.ok(!text.includes('wp-login'), 'the address is not repeated');
    }
    for (const accept of ['*/*', 'application/json']) {
      const answer = await fetch(relay.origin + path, { method, headers: { accept } });
      assert.equal(answer.status, status, path);
      assert.match(answer.headers.get('content-type'), /^application\/json/, path);
      const { code, message } = await answer.json();
      assert.ok(code && message, path);
    }
    if (status === 405) assert.ok((await fetch(relay.origin + path, { method })).headers.get('allow'), path);
  }
  const limited = await until('the limit of meta', async () => {
    const answers = await Promise.all(Array.from({ length: 60 }, () => fetch(`${relay.origin}/room/abc/meta`, { headers: PERSON })));
    return answers.find(answer => answer.status === 429);
  });
  assert.match(await limited.text(), /Wait \d+ s/);

  const browser = await chromium(cleanup, small);
  const ana = await person(browser, 'Ana');
  await ana.page.goto(`${relay.origin}/nothing`);
  await reads(ana, /There is nothing here/);
  await ana.picture('error-page');
  // No room's name: the page says so, and offers the room that may be meant.
  const answer = await ana.page.goto(`${relay.origin}/room/Łódź#c2l4dGVlbiBieXRlcyBvaw`);
  assert.equal(answer.status(), 404);
  await reads(ana, /names no room/);
  await ana.picture('no-room');
  await ana.press('#meant');
  await until('the room that is meant', async () => new URL(ana.page.url()).pathname === '/room/lodz');
  assert.equal(new URL(ana.page.url()).hash, '#c2l4dGVlbiBieXRlcyBvaw');
  for (const path of ['/room/', '/room', '/ROOM//', '/room/會議']) {
    const none = await ana.page.goto(relay.origin + path);
    assert.equal(none.status(), 404, path);
    await reads(ana, /names no room/);
    assert.equal(await ana.page.$('#meant'), null, path);
  }
});

scenario('a typed name shows the room it opens, and one that cannot be spelled gets another on offer', async cleanup => {
  const relay = await startRelay(cleanup);
  const browser = await chromium(cleanup, small);
  const ana = await person(browser, 'Ana');
  await ana.page.goto(relay.origin, { waitUntil: 'load' });
  await ana.type('#room-name', 'Łódź Κήπος');
  await until('the preview', async () => (await ana.text('#enter-problem')).includes('lodz-kipos'));
  await ana.picture('room-name-preview');
  await ana.press('#enter');
  await ana.page.waitForSelector('#join', { visible: true });
  assert.equal(new URL(ana.page.url()).pathname, '/room/lodz-kipos');

  await ana.page.goto(relay.origin, { waitUntil: 'load' });
  await ana.type('#room-name', 'Raum 會議');
  await ana.press('#enter');
  const offer = await until('another name', async () => /Create ([a-z0-9-]+)/.exec(await ana.text('#enter-problem'))?.[1]);
  await ana.picture('room-name-refused');
  await ana.press('#enter-problem button');
  await ana.page.waitForSelector('#join', { visible: true });
  const url = new URL(ana.page.url());
  assert.equal(url.pathname, `/room/${offer}`);
  assert.match(url.hash, /^#[A-Za-z0-9_-]{22}$/);
});

const camera = someone => someone.page.evaluate(() => {
  const [track] = [...document.querySelectorAll('.mirror video, [data-self] video')].map(video => video.srcObject?.getVideoTracks()[0]).filter(Boolean);
  return track ? { id: track.getSettings().deviceId, label: track.label, live: track.readyState === 'live' } : null;
});

scenario('the chosen camera is opened: at the door, after a reload, in the call; another one with a word when it is gone', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const browser = await chromium(cleanup, { camera: 'none', args: ['--use-fake-device-for-media-stream=device-count=3'] });
  const ana = await person(browser, 'Ana');
  await ana.open(room.url);
  await ana.press('.mirror-off button');
  const list = await until('three cameras', async () => {
    const options = await ana.page.$$eval('#device-videoinput option', all => all.map(one => one.value)).catch(() => []);
    return options.length === 3 && options;
  });
  const choose = async id => {
    await ana.page.select('#device-videoinput', id);
    await until('the chosen camera', async () => (await camera(ana))?.id === id && (await camera(ana)).live);
    await until('the menu to show it', async () => (await ana.page.$eval('#device-videoinput', menu => menu.value)) === id);
  };
  await choose(list[2]);
  await choose(list[1]);
  await choose(list[2]);
  await ana.open(room.url + '');
  await ana.page.reload({ waitUntil: 'load' });
  await until('the chosen camera after a reload', async () => (await camera(ana))?.id === list[2]);
  await ana.join();
  assert.equal((await camera(ana)).id, list[2], 'in the call');
  await ana.press('#more');
  await ana.press('#settings');
  await ana.page.waitForSelector('#device-videoinput option', { timeout: 10_000 });
  await choose(list[0]);
  await ana.picture('device-chosen-in-call');
  // Gone: the browser remembers a camera that this machine has not.
  await ana.page.evaluate(() => localStorage.setItem('snug.devices', JSON.stringify({ videoinput: { id: 'x'.repeat(64), label: 'Attic webcam' } })));
  await ana.open(room.url);
  await ana.page.reload({ waitUntil: 'load' });
  await until('another camera', async () => (await camera(ana))?.live);
  await reads(ana, /“Attic webcam” is not there, so “.+” is used/);
  await ana.picture('device-gone');
});

/** Makes one kind of device fail as browsers do. */
const failing = (someone, kind, error) => someone.page.evaluateOnNewDocument((kind, error) => {
  const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async wish => {
    if (wish[kind] && !window.healed) throw new DOMException('', error);
    return real(wish);
  };
}, kind, error);

scenario('a first visit where one device fails: the door says which, why and what to do; the call keeps a sign', async cleanup => {
  const relay = await startRelay(cleanup);
  const browser = await chromium(cleanup, small);
  for (const [kind, error, pattern] of [
    ['video', 'NotReadableError', /Another program uses the camera/],
    ['audio', 'NotFoundError', /does not find the microphone/],
    ['audio', 'NotAllowedError', /blocks the microphone/],
  ]) {
    const room = newRoom(relay);
    const ana = await person(browser, 'Ana');
    await failing(ana, kind, error);
    await ana.open(room.url);
    await ana.press('#join');
    await reads(ana, pattern);
    await reads(ana, /Join again to go in without it/);
    assert.equal(await ana.state(), null, 'still at the door');
    await ana.picture(`one-fails-${kind}-${error}`);
    await ana.press('#join');
    await ana.online();
    await reads(ana, pattern);
    const button = kind === 'video' ? '#camera' : '#mute';
    assert.ok(await ana.page.$eval(button, node => node.classList.contains('troubled')));
    await ana.picture(`one-fails-${kind}-${error}-call`);
    await ana.page.$$eval('[data-banner="device"] .icon-button', ([close]) => close.click());
    assert.ok(await ana.page.$eval(button, node => node.classList.contains('troubled')), 'the sign stays when the words are closed');
    await ana.page.evaluate(() => { window.healed = true; });
    await ana.press(button);
    await until('the sign to go', () => ana.page.$eval(button, node => !node.classList.contains('troubled')));
    await ana.close();
  }
});

scenario('a permission for one of two: the other works, and the door says so', async cleanup => {
  const relay = await startRelay(cleanup);
  const browser = await chromium(cleanup, { ...small, ask: true });
  const ana = await person(browser, 'Ana');
  await ana.page.browserContext().overridePermissions(relay.origin, ['microphone']);
  await ana.open(newRoom(relay).url);
  await ana.press('#join');
  await reads(ana, /blocks the camera\. Press the icon/);
  await ana.press('#join');
  await ana.online();
  assert.equal(await ana.page.$eval('#mute', node => node.getAttribute('aria-pressed')), 'false');
  await reads(ana, /blocks the camera/);
});

scenario('a browser without WebRTC is told at the door', async cleanup => {
  const relay = await startRelay(cleanup);
  const browser = await chromium(cleanup, small);
  for (const [name, off] of [
    ['deleted', () => { delete window.RTCPeerConnection; delete window.webkitRTCPeerConnection; }],
    ['throwing', () => { window.RTCPeerConnection = class { constructor() { throw new DOMException('off', 'NotSupportedError'); } }; }],
  ]) {
    const ana = await person(browser, 'Ana');
    await ana.page.evaluateOnNewDocument(off);
    await ana.open(newRoom(relay).url);
    await reads(ana, /cannot make calls: WebRTC is switched off/);
    assert.ok(await ana.page.$eval('#join', button => button.disabled), name);
    await ana.picture(`webrtc-${name}`);
    await ana.close();
  }
  const bare = await chromium(cleanup, { ...small, args: ['--force-webrtc-ip-handling-policy=disable_non_proxied_udp', '--webrtc-ip-handling-policy=disable_non_proxied_udp'] });
  const bo = await person(bare, 'Bo');
  await bo.open(newRoom(relay).url);
  await reads(bo, /shows no network path/);
  await bo.picture('webrtc-pathless');
});

scenario('somebody who never answers is explained instead of connecting for ever', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  const silent = await WireClient.connect(cleanup, relay, { from: '127.83.1.1' });
  assert.equal((await silent.join(room.roomId, { name: 'Mute Client' })).type, 'room_joined');
  const ana = await guest(await chromium(cleanup, small), 'Ana', room.url);
  await reads(ana, /Mute Client’s side does not answer/);
  await ana.picture('silent-participant');
});

scenario('after Back the page says that the call ended, and rejoins on a press', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const browser = await chromium(cleanup, small);
  const bo = await guest(browser, 'Bo', room.url);
  const ana = await guest(browser, 'Ana', room.url);
  // As a browser does that keeps the page: whether Chromium keeps one with a call is its own choice.
  await ana.page.evaluate(() => {
    dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }));
    dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }));
  });
  await reads(ana, /went to another page, and that ended the call/);
  assert.equal(await ana.state(), null);
  await ana.picture('after-back');
  await until('Bo to be alone', async () => (await bo.tiles()).length === 0);
  await ana.press('#rejoin');
  await ana.join();
  await ana.page.goto(`${relay.origin}/health`);
  await ana.page.goBack();
  await until('a page that does not pretend', async () => ana.page.evaluate(() => Boolean(document.querySelector('#join, #rejoin'))));
});

scenario('the password hint comes after the first wrong one, also where the field is there from the start', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const owner = await openAsOwner(cleanup, relay, room);
  assert.equal((await owner.ask({ type: 'set_room_password', password: 'camomile', hint: 'what we drank in Bruges' })).type, 'done');
  const ana = await person(await chromium(cleanup, small), 'Ana');
  await ana.open(room.url);
  await ana.type('#password', 'mint');
  await ana.press('#join');
  await until('the hint', async () => (await ana.text('#prejoin-status')).includes('Bruges'));
  await ana.picture('password-hint');
  await ana.type('#password', 'camomile');
  await ana.press('#join');
  await ana.online();
});

scenario('a text that is too long is told before it is sent, and links end where a reader ends them', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const browser = await chromium(cleanup, small);
  const [ana, bo] = [await guest(browser, 'Ana', room.url), await guest(browser, '\u2800\u3164', room.url)];
  await until('the link', async () => (await ana.tiles()).some(tile => tile.link === 'connected'));
  assert.match((await ana.tiles())[0].text, /Guest/, 'a name that draws nothing is none');
  await ana.press('#chat-open');
  await ana.type('#chat-input', '👋'.repeat(4001));
  await ana.page.keyboard.press('Enter');
  await reads(ana, /Too long by 1: a message has at most 4,000 characters/);
  await ana.picture('chat-too-long');
  assert.equal(await ana.page.$eval('#chat-input', field => [...field.value].length), 4001, 'nothing is lost');
  assert.equal(await ana.page.$$eval('.message', all => all.length), 0);
  await ana.type('#chat-input', '👋'.repeat(4000));
  await ana.page.keyboard.press('Enter');
  await ana.type('#chat-input', '(see https://example.org/a_(b)).');
  await ana.page.keyboard.press('Enter');
  await bo.press('#chat-open');
  await until('the link in the chat', async () => (await bo.page.$$eval('.message a', all => all.map(one => one.href))).includes('https://example.org/a_(b)'));
  const sent = await bo.page.$$eval('.message-text', all => all.map(one => one.textContent).join(''));
  assert.equal([...sent].filter(letter => letter === '👋').length, 4000);
});

/** A proxy that passes everything on but the headers that make a WebSocket. */
async function strippingProxy(cleanup, relay, { hang = false, keepHost = true } = {}) {
  const { port } = new URL(relay.origin);
  const proxy = createServer((incoming, outgoing) => {
    if (hang && incoming.headers.upgrade) return;
    const headers = { ...incoming.headers, connection: 'keep-alive', ...(!keepHost && { host: 'relay.internal' }) };
    delete headers.upgrade;
    incoming.pipe(request({ port, host: '127.0.0.1', method: incoming.method, path: incoming.url, headers }, answer => {
      outgoing.writeHead(answer.statusCode, answer.headers);
      answer.pipe(outgoing);
    }).on('error', () => outgoing.destroy()));
  });
  // Without a listener for `upgrade`, node hands the request on as an ordinary one, which is what such proxies do.
  await new Promise(done => proxy.listen(0, '127.0.0.1', done));
  cleanup.add(() => new Promise(done => { proxy.closeAllConnections(); proxy.close(done); }));
  return `http://127.0.0.1:${proxy.address().port}`;
}

scenario('behind a proxy that refuses WebSockets the page says so, and soon', async cleanup => {
  const relay = await startRelay(cleanup);
  // Its operator said where it is, and the proxy asks it by another name.
  const elsewhere = await startRelay(cleanup, { args: ['--public-url', 'https://meet.example.org', '--trusted-proxy', '127.0.0.1'] });
  const browser = await chromium(cleanup, small);
  for (const [behind, options, pattern, most] of [
    [relay, {}, /proxy refuses WebSockets/, 8000],
    [relay, { hang: true }, /proxy refuses WebSockets/, 25_000],
    [elsewhere, { keepHost: false }, /does not know this address as its own/, 8000],
  ]) {
    const origin = await strippingProxy(cleanup, behind, options);
    const ana = await person(browser, 'Ana');
    await ana.open(newRoom(behind, { origin }).url);
    const began = Date.now();
    await ana.join({ wait: false });
    await until('the door to answer', async () => pattern.test(await ana.text('#prejoin-status')), { timeout: most });
    console.log(JSON.stringify(options), 'told after', Date.now() - began, 'ms');
    await ana.picture(`proxy-${JSON.stringify(options).replace(/\W+/g, '-')}`);
    await ana.close();
  }
  // A relay that is away altogether is not blamed on a proxy.
  const origin = await strippingProxy(cleanup, relay);
  const bo = await person(browser, 'Bo');
  await bo.open(newRoom(relay, { origin }).url);
  await relay.stop();
  await bo.join({ wait: false });
  await until('the door to answer', async () => /cannot be reached/.test(await bo.text('#prejoin-status')), { timeout: 30_000 });
});
