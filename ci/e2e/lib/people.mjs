// Browsers, and the people who sit in front of them.
//
// A person is one page in a browser context of its own: it goes through the same link, the same name field and the same
// button as anybody else.

import { mkdirSync, rmSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';
import { installProbe } from './probe.mjs';
import { smallCamera } from './camera.mjs';
import { until } from './until.mjs';

export const artifacts = join(new URL('../..', import.meta.url).pathname, 'artifacts');
mkdirSync(artifacts, { recursive: true });

const CHROMIUM = process.env.SNUG_CHROMIUM ?? '/usr/bin/chromium';
const FIREFOX = process.env.SNUG_FIREFOX ?? '/usr/bin/firefox-esr';
const root = process.getuid() === 0;

/** Quiet, no outside requests, no throttling of what is not in front. */
const QUIET = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-default-apps',
  '--no-pings',
  '--autoplay-policy=no-user-gesture-required',
  '--disable-renderer-backgrounding',
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--disable-dev-shm-usage',
  '--lang=en',
];

/**
 * Starts a Chromium.
 *
 * `camera`: `pattern` (built in, 20 pictures a second), `small` (320×180, 10 a second: cheap enough for five browsers on two
 * cores), or `none` (no devices at all). `ask` leaves permission prompts to the page's own fate.
 */
export async function chromium(cleanup, { camera = 'pattern', ask = false, args = [], program = CHROMIUM } = {}) {
  const flags = [...QUIET, ...args];
  if (root) flags.push('--no-sandbox');
  if (!ask) flags.push('--use-fake-ui-for-media-stream');
  if (camera !== 'none') flags.push('--use-fake-device-for-media-stream');
  if (camera === 'small') flags.push(`--use-file-for-fake-video-capture=${smallCamera()}`);
  const browser = await puppeteer.launch({
    executablePath: program,
    headless: true,
    pipe: true,
    args: flags,
    defaultViewport: { width: 1280, height: 800 },
    protocolTimeout: 180_000,
    handleSIGINT: false,
  });
  cleanup.add(() => close(browser));
  return browser;
}

/** Starts a Firefox with an invented camera and microphone, driven over WebDriver BiDi. */
export async function firefox(cleanup, { prefs = {}, program = FIREFOX } = {}) {
  const profile = mkdtempSync(join(tmpdir(), 'snug-firefox-'));
  const browser = await puppeteer.launch({
    browser: 'firefox',
    executablePath: program,
    headless: true,
    userDataDir: profile,
    protocolTimeout: 180_000,
    timeout: 90_000,
    handleSIGINT: false,
    env: { ...process.env, HOME: profile, MOZ_REMOTE_SETTINGS_DEVTOOLS: '1' },
    extraPrefsFirefox: {
      'media.navigator.streams.fake': true,
      'media.navigator.permission.disabled': true,
      'media.autoplay.default': 0,
      'media.autoplay.blocking_policy': 0,
      'media.peerconnection.ice.obfuscate_host_addresses': false,
      'media.peerconnection.ice.loopback': true,
      'media.gmp-manager.updateEnabled': false,
      'media.gmp-provider.enabled': false,
      'intl.accept_languages': 'en',
      ...prefs,
    },
  });
  cleanup.add(async () => {
    await close(browser);
    rmSync(profile, { recursive: true, force: true });
  });
  return browser;
}

/** Closes a browser, by force when it does not go by itself. */
async function close(browser) {
  const child = browser.process();
  const stuck = setTimeout(() => child?.kill('SIGKILL'), 10_000);
  await browser.close().catch(() => child?.kill('SIGKILL'));
  clearTimeout(stuck);
}

/** Who is on stage in the running test, for the evidence when it fails. */
export const everybody = new Set();

export class Person {
  /** What the page said on its console as an error, and what it threw. */
  problems = [];
  /** The rest of what it said there. */
  told = [];
  requests = [];

  constructor(page, name) {
    this.page = page;
    this.name = name;
    everybody.add(this);
    page.on('pageerror', error => this.problems.push(`thrown: ${error.message}`));
    page.on('console', message => {
      (message.type() === 'error' ? this.problems : this.told).push(`console: ${message.text()}`);
    });
    page.on('request', request => this.requests.push(request.url()));
  }

  /** Opens a link and waits for the pre-join page. */
  async open(url) {
    await this.page.goto(url, { waitUntil: 'load' });
    await this.page.waitForSelector('#join', { visible: true, timeout: 60_000 });
    await this.page.$eval('#name', (field, name) => {
      field.value = name;
      field.dispatchEvent(new Event('input', { bubbles: true }));
    }, this.name);
    return this;
  }

  /** Presses the button. With a password, also answers the question for it. */
  async join({ password = null, wait = true } = {}) {
    await this.press('#join');
    if (password !== null) {
      await this.doorAnswers();
      await this.type('#password', password);
      await this.press('#join');
    }
    if (wait) await this.online();
    return this;
  }

  /** Waits until the door has said no to the last press of Join. */
  async doorAnswers() {
    await until(`the door to answer ${this.name}`, () =>
      this.page.evaluate(() => {
        const busy = document.querySelector('#join')?.getAttribute('aria-busy') === 'true';
        return !busy && document.querySelector('#prejoin-status')?.textContent.trim();
      }),
    );
  }

  async online(timeout = 60_000) {
    await until(`${this.name} to be online`, async () => (await this.state()) === 'online' || this.page.evaluate(() => {
      throw new Error(`the page says: ${document.querySelector('#prejoin-status, #left-reason, #banner')?.textContent}`);
    }), { timeout });
  }

  state() {
    return this.page.evaluate(() => document.querySelector('#call')?.dataset.state ?? null);
  }

  /** Clicks by script: a test is about what a button does, not about whether a toolbar happens to cover it. */
  async press(selector) {
    await this.page.waitForSelector(selector, { timeout: 30_000 });
    await this.page.$eval(selector, button => button.click());
  }

  async type(selector, text) {
    await this.page.waitForSelector(selector, { visible: true, timeout: 30_000 });
    await this.page.$eval(selector, (field, value) => {
      field.focus();
      field.value = value;
      field.dispatchEvent(new Event('input', { bubbles: true }));
      field.dispatchEvent(new Event('change', { bubbles: true }));
    }, text);
  }

  text(selector) {
    return this.page.$eval(selector, node => node.textContent);
  }

  visible(selector) {
    return this.page.evaluate(name => {
      const node = document.querySelector(name);
      return !!node && node.checkVisibility?.({ opacityProperty: true, visibilityProperty: true }) !== false;
    }, selector);
  }

  /** The tiles of the others: id, link state, and all the words on them. */
  tiles() {
    return this.page.$$eval('[data-user-id][data-link]', nodes =>
      nodes.map(node => ({ id: node.dataset.userId, link: node.dataset.link, text: node.textContent.replace(/\s+/g, ' ').trim() })),
    );
  }

  inbound() {
    return this.page.evaluate(() => window.__probe.inbound());
  }

  violations() {
    return this.page.evaluate(() => window.__probe.violations);
  }

  /** Writes what the person sees to the artifacts folder. */
  async picture(name) {
    await this.page.screenshot({ path: join(artifacts, `${name}.png`) });
  }

  async close() {
    await this.page.close().catch(() => {});
  }
}

/** A person with a browser context of their own (storage, permissions), at no page yet. */
export async function person(browser, name) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  await page.evaluateOnNewDocument(installProbe);
  return new Person(page, name);
}

/** Opens the link and joins. */
export async function guest(browser, name, url, options) {
  const someone = await person(browser, name);
  await someone.open(url);
  return someone.join(options);
}

/**
 * Waits until a person sees and hears `others` people: on each link pictures are decoded and sound with energy arrives.
 * Returns the figures of every link.
 */
export async function seesAndHears(someone, others, { timeout = 60_000, frames = 5 } = {}) {
  let before = null;
  return until(
    `${someone.name} to see and hear ${others}`,
    async () => {
      const links = (await someone.inbound()).filter(link => link.state === 'connected');
      before ??= links;
      const good = links.filter(link => {
        const all = Object.values(link.media);
        return all.some(one => one.kind === 'video' && one.frames >= frames) && all.some(one => one.kind === 'audio' && one.energy > 1e-6);
      });
      return good.length >= others ? good : (() => { throw new Error(JSON.stringify(links)); })();
    },
    { timeout, every: 250 },
  );
}
