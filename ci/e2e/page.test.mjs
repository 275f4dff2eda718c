// What a visitor's browser loads, from whom, and under which rules.

import assert from 'node:assert/strict';
import { chromium, guest, person } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';

const ENOUGH = 6;

scenario('the page asks for little, asks nobody else, and keeps its own rules', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const browser = await chromium(cleanup, { camera: 'small' });
  const ana = await person(browser, 'Ana');
  await ana.open(room.url);
  const untilJoin = await ana.page.evaluate(() => window.__probe.requestsUntilJoin());
  console.log(`${untilJoin.length} requests until Join is visible:`, untilJoin.join(' '));
  await ana.join();
  const foreign = ana.requests.filter(url => !/^(data|blob):/.test(url) && new URL(url).host !== new URL(relay.origin).host);
  assert.deepEqual(foreign, [], 'no request to anybody else');
  assert.deepEqual(await ana.violations(), [], 'no breach of the content policy');
  assert.deepEqual(ana.problems, [], 'nothing on the console');
  assert.ok(!ana.requests.some(url => url.split('#')[0].includes(room.secret)), 'the secret is never sent');
  assert.ok(!(await ana.page.title()).includes(room.secret), 'and out of the title');
  assert.ok(untilJoin.length <= ENOUGH, `${untilJoin.length} requests until Join is visible, more than ${ENOUGH}`);
});

scenario('a link is printed when somebody asks for it and not into a log, and opens a sealed room', async cleanup => {
  const relay = await startRelay(cleanup);
  await until('the relay to say how to get one', () => relay.log.includes('snug-relay --print-link'));
  assert.equal(relay.printed, '', 'its output is no terminal');
  assert.doesNotMatch(relay.log, /#[A-Za-z0-9_-]{22}/);
  const printed = relay.printLink();
  const [link] = printed.match(/http:\/\/127\.0\.0\.1:\d+\/room\/\S+/);
  assert.match(link, /\/room\/[a-z0-9-]+#[A-Za-z0-9_-]{22}/);
  const ana = await guest(await chromium(cleanup, { camera: 'small' }), 'Ana', link);
  assert.deepEqual(ana.problems, []);
});

scenario('every page comes with strict headers', async cleanup => {
  const relay = await startRelay(cleanup);
  for (const path of ['/', '/room/sunny-mountain-42']) {
    const answer = await fetch(relay.origin + path);
    assert.equal(answer.status, 200, path);
    const headers = Object.fromEntries(answer.headers);
    const policy = Object.fromEntries(
      headers['content-security-policy'].split(';').map(part => part.trim()).filter(Boolean).map(part => {
        const [name, ...values] = part.split(/\s+/);
        return [name, values.join(' ')];
      }),
    );
    console.log(path, policy, headers['permissions-policy']);
    assert.equal(policy['default-src'], "'none'");
    assert.equal(policy['script-src'], "'self'");
    assert.equal(policy['frame-ancestors'], "'none'");
    assert.equal(policy['base-uri'], "'none'");
    assert.equal(policy['form-action'], "'none'");
    assert.ok(!/unsafe|\*|https?:/.test(headers['content-security-policy']), headers['content-security-policy']);
    assert.match(headers['permissions-policy'], /camera=\(self\)/);
    assert.match(headers['permissions-policy'], /microphone=\(self\)/);
    assert.equal(headers['x-content-type-options'], 'nosniff');
    assert.equal(headers['referrer-policy'], 'no-referrer');
    assert.match(headers['content-type'], /^text\/html/);
    assert.equal(headers['set-cookie'], undefined);
  }
});

scenario('the landing page makes a room with a secret and enters one that somebody typed', async cleanup => {
  const relay = await startRelay(cleanup);
  const browser = await chromium(cleanup, { camera: 'small' });
  const ana = await person(browser, 'Ana');
  await ana.page.goto(relay.origin, { waitUntil: 'load' });
  await ana.page.waitForSelector('#create', { visible: true });
  await ana.picture('landing');
  await ana.press('#create');
  await ana.page.waitForSelector('#join', { visible: true });
  const made = new URL(ana.page.url());
  assert.match(made.pathname, /^\/room\/[a-z0-9]+(-[a-z0-9]+)*$/);
  assert.match(made.hash, /^#[A-Za-z0-9_-]{22}$/);

  const bo = await person(browser, 'Bo');
  await bo.page.goto(relay.origin, { waitUntil: 'load' });
  await bo.type('#room-name', 'Sunny Mountain 42');
  await bo.press('#enter');
  await bo.page.waitForSelector('#join', { visible: true });
  assert.equal(new URL(bo.page.url()).pathname, '/room/sunny-mountain-42');
});
