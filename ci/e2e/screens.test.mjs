// Every state of the page, in light and dark, wide and narrow: checked against WCAG 2.2 AA by axe and kept as a picture in ci/artifacts.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium, guest, person, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
const SCHEMES = ['light', 'dark'];
const PHONE = { width: 390, height: 844 };
const DESK = { width: 1280, height: 800 };

/** Looks at one state in both colour schemes; collects what axe finds. */
async function look(someone, state, findings) {
  for (const scheme of SCHEMES) {
    await someone.page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }, { name: 'prefers-reduced-motion', value: 'reduce' }]);
    await someone.picture(`screen-${state}-${scheme}`);
    await someone.page.evaluate(AXE);
    const { passes, violations } = await someone.page.evaluate(async rules => {
      const result = await window.axe.run(document, { runOnly: rules, resultTypes: ['violations', 'passes'] });
      const violations = result.violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, nodes: nodes.slice(0, 4).map(node => `${node.html.slice(0, 160)} :: ${node.failureSummary.split('\n').slice(1, 3).join(' ').trim()}`) }));
      return { passes: result.passes.length, violations };
    }, RULES);
    assert.ok(passes > 5, `${state}: only ${passes} rules found something to look at`);
    for (const violation of violations) findings.push(`${state}, ${scheme}: ${violation.id} (${violation.impact}) ${violation.help}\n    ${violation.nodes.join('\n    ')}`);
  }
}

function assertNone(findings) {
  assert.equal(findings.length, 0, `${findings.length} findings\n${findings.join('\n')}`);
}

scenario('the pages before a call meet WCAG 2.2 AA in light and dark', async cleanup => {
  const relay = await startRelay(cleanup);
  const browser = await chromium(cleanup, { camera: 'small' });
  const findings = [];
  for (const [size, viewport] of [['', DESK], ['-phone', PHONE]]) {
    const ana = await person(browser, 'Ana');
    await ana.page.setViewport(viewport);
    await ana.page.goto(relay.origin, { waitUntil: 'load' });
    await ana.page.waitForSelector('#create', { visible: true });
    await look(ana, `landing${size}`, findings);
    await ana.open(newRoom(relay).url);
    await look(ana, `prejoin${size}`, findings);
    await ana.open(newRoom(relay, { sealed: false }).url);
    await look(ana, `prejoin-unsealed${size}`, findings);
    await ana.close();
  }
  assertNone(findings);
});

scenario('the call, its panels and its dialogs meet WCAG 2.2 AA in light and dark', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const browser = await chromium(cleanup, { camera: 'small' });
  const findings = [];
  const ana = await guest(browser, 'Ana', room.url);
  await look(ana, 'call-alone', findings);
  const bo = await guest(browser, 'Bo', room.url);
  await seesAndHears(ana, 1);
  await look(ana, 'call', findings);
  await ana.page.setViewport(PHONE);
  await look(ana, 'call-phone', findings);
  await ana.page.setViewport(DESK);

  await bo.press('#chat-open');
  await bo.type('#chat-input', 'Good morning! https://example.org');
  await bo.page.focus('#chat-input');
  await bo.page.keyboard.press('Enter');
  await ana.press('#chat-open');
  await until('the message', async () => (await ana.text('#chat-log')).includes('Good morning!'));
  await look(ana, 'chat', findings);
  await ana.page.keyboard.press('Escape');
  await ana.press('#people-open');
  await ana.page.waitForFunction(() => document.querySelector('aside')?.textContent.includes('Bo'));
  await look(ana, 'people', findings);
  await ana.page.keyboard.press('Escape');

  await ana.press('#more');
  await ana.page.waitForSelector('#more-menu', { visible: true });
  await look(ana, 'menu', findings);
  for (const [opener, state] of [['#invite', 'invite'], ['#settings', 'settings'], ['#room-options', 'owner'], ['#shortcuts', 'shortcuts']]) {
    await ana.page.keyboard.press('Escape');
    await ana.press(opener);
    await ana.page.waitForSelector('dialog[open]', { visible: true });
    await look(ana, `dialog-${state}`, findings);
  }
  await ana.page.keyboard.press('Escape');

  await ana.press('#mute');
  await ana.press('#hand');
  await look(ana, 'call-muted-hand', findings);
  await relay.kill();
  await until('the page to notice', async () => (await ana.state()) === 'reconnecting', { timeout: 15_000 });
  await look(ana, 'call-reconnecting', findings);
  await ana.press('#leave');
  await ana.page.waitForSelector('#rejoin', { visible: true });
  await look(ana, 'left', findings);
  assertNone(findings);
});

scenario('the page also speaks German', async cleanup => {
  const relay = await startRelay(cleanup);
  const browser = await chromium(cleanup, { camera: 'small' });
  const ana = await person(browser, 'Ana');
  await ana.page.goto(relay.origin, { waitUntil: 'load' });
  await ana.page.waitForSelector('#language');
  await ana.page.select('#language', 'de');
  await until('German', () => ana.page.evaluate(() => document.documentElement.lang === 'de'));
  await ana.picture('screen-landing-german');
  await ana.open(newRoom(relay).url);
  assert.equal(await ana.page.evaluate(() => document.documentElement.lang), 'de', 'the choice is kept');
  await ana.picture('screen-prejoin-german');
});
