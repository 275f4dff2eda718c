// What people paste and type: links in any text, and passwords from any keyboard.

import assert from 'node:assert/strict';
import { native } from './lib/native.mjs';
import { chromium, guest, person } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';

scenario('a link pasted in any text opens its sealed room, and a damaged one none', async cleanup => {
  const relay = await startRelay(cleanup);
  const { url, secret } = newRoom(relay);
  const host = new URL(relay.origin).host;
  const { pathname } = new URL(url);
  const name = pathname.split('/')[2];
  const ana = await person(await chromium(cleanup, { camera: 'small' }), 'Ana');
  const paste = async text => {
    await ana.page.goto(relay.origin, { waitUntil: 'load' });
    await ana.type('#room-name', text);
    await ana.press('#enter');
    await until(`an answer to ${JSON.stringify(text)}`, () =>
      ana.page.evaluate(() => location.pathname !== '/' || document.querySelector('#enter-problem')?.textContent),
    );
    return new URL(ana.page.url());
  };
  for (const text of [
    url,
    `${host}${pathname}#${secret}`,
    `Join us at <${url}>.`,
    `> ${url.slice(0, -9)}\n> ${url.slice(-9)}\nSee you!`,
    `${url.slice(0, -9)}=\r\n${url.slice(-9)}`,
    `${name}#${secret}`,
    `snug://${host}${pathname}#${secret}`,
    `[the room](${encodeURI(url)}), “${url}”`,
    `https://redirect.example/?url=${encodeURIComponent(url)}&data=1`,
  ]) {
    const opened = await paste(text);
    assert.equal(`${opened.pathname}${opened.hash}`, `${pathname}#${secret}`, text);
  }
  for (const text of [url.slice(0, -1), `${url}x`, `${name}#${secret.slice(1)}`, `See ${host}${pathname}#${secret.slice(0, 9)}…`, `${url.slice(0, -9)}\nhello`]) {
    assert.equal((await paste(text)).pathname, '/', text);
    assert.match(await ana.text('#enter-problem'), /behind #/, text);
  }
  // A link to another server is shown with its host, and followed by a press alone.
  for (const [text, other] of [[`https://meet.example.org${pathname}#${secret}`, 'meet.example.org'], [`Or snug://meet.example.org:8443${pathname}#${secret}.`, 'meet.example.org:8443']]) {
    assert.equal((await paste(text)).origin, relay.origin);
    assert.ok((await ana.text('#enter-problem')).includes(other));
    assert.equal(await ana.page.$eval('#enter-problem a', link => link.href), `https://${other}${pathname}#${secret}`);
  }
  assert.ok(!ana.requests.some(request => request.split('#')[0].includes(secret)), 'the secret is never sent');
});

scenario('a password with accents is one password on every system, and one that is too long is not sent', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const browser = await chromium(cleanup, { camera: 'small' });
  const ana = await guest(browser, 'Ana', room.url);
  const composed = 'ü'.repeat(200) + '\u00a0Ångström';
  const decomposed = 'u\u0308'.repeat(200) + ' A\u030angstro\u0308m';
  const set = async password => {
    if (!(await ana.page.$('#room-password'))) {
      await ana.press('#more');
      await ana.press('#room-options');
    }
    await ana.type('#room-password', password);
    await ana.page.$eval('#room-password', field => field.form.requestSubmit());
  };
  await set('ü'.repeat(257));
  await until('the page to say that it is too long', async () => (await ana.text('#room-status')).includes('256'));
  await set(decomposed);
  await until('the password to be set', () => ana.page.$eval('#room-password', field => field.value === ''));
  const bo = await guest(browser, 'Bo', room.url, { password: composed });
  assert.equal(await bo.state(), 'online');
  for (const password of [composed, decomposed]) {
    const cleo = native(cleanup, 'Cleo', room.url, { video: 'none', audio: 'none', password });
    await cleo.saw('joined');
    assert.equal((await cleo.leave()).code, 0);
  }
});
