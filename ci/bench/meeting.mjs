// People come together at the start of a meeting: how long after its link is up each of them sees each other one.
//
// 1. Calls of natives of every size, who all enter within two seconds.
// 2. A native client and the page, both ways, each the one who comes, beside two bare Chromium pages.
// 3. Calls of natives and pages.
// 4. Single joins, from the start of the process.

import { parseArgs } from 'node:util';
import { native } from '../e2e/lib/native.mjs';
import { chromium, person } from '../e2e/lib/people.mjs';
import { newRoom, startRelay } from '../e2e/lib/relay.mjs';
import { Cleanup, during, until } from '../e2e/lib/until.mjs';
import { barePair } from './lib/bare.mjs';
import { installStopwatch, joins, percentile } from './lib/firsts.mjs';

const { values } = parseArgs({ options: { smoke: { type: 'boolean', default: false }, only: { type: 'string' } } });
const SIZES = values.smoke ? [2, 5] : [2, 3, 4, 5, 6, 7, 8, 9, 10];
const ROUNDS = values.smoke ? 1 : 4;
const PAIRS = values.smoke ? 2 : 12;
const MIXED = values.smoke ? 1 : 6;
const JOINS = values.smoke ? 10 : 200;
/** All enter within this. */
const WITHIN = 2_000;
/** As large as a window shows people in a call of so many. */
const tileOf = people => (people > 4 ? '320x180' : people > 2 ? '640x360' : '1280x720');
const wanted = part => !values.only || values.only === part;

const figures = list => `${list.length} | ${[0.5, 0.95, 0.99].map(part => percentile(list, part).toFixed(0)).join(' | ')} | ${Math.max(...list).toFixed(0)}`;
const verdict = (is, bar) => `p99 ≤ ${bar}: ${is <= bar ? 'met' : 'missed'}`;

/** From the link to the picture, of every pair that this one receives. */
function waits(someone) {
  const pictures = someone.events.filter(event => event.event === 'first_picture' && event.source === 'camera');
  return pictures.map(picture => {
    const up = someone.events.find(event => event.event === 'link' && event.state === 'connected' && event.user === picture.user);
    return picture.at - up.at;
  });
}

async function all(what, people, others) {
  const seen = () => people.map(one => one.events.filter(event => event.event === 'first_picture').length);
  await until(what, () => seen().every(count => count >= others) || (() => { throw new Error(JSON.stringify(seen())); })(), { timeout: 60_000, every: 50 });
}

/** `count` natives enter a room, one after the other within two seconds. */
async function meeting(relay, count) {
  const cleanup = new Cleanup();
  try {
    const room = newRoom(relay);
    const people = [];
    for (let number = 0; number < count; number += 1) {
      if (number > 0) await during(WITHIN / count);
      people.push(native(cleanup, `Person ${number}`, room.url, { args: ['--tile', tileOf(count)] }));
    }
    await all(`every picture of a call of ${count}`, people, count - 1);
    const found = people.flatMap(waits);
    await Promise.all(people.map(one => one.leave()));
    return found;
  } finally {
    await cleanup.run();
  }
}

/** Opens the room's link in a page with a stopwatch and waits before the button. */
async function page(browser, name, url) {
  const someone = await person(browser, name);
  await someone.page.evaluateOnNewDocument(installStopwatch);
  return someone.open(url);
}

const firsts = someone => someone.page.evaluate(() => window.__firsts.filter(one => one.connected !== null));
const ofPage = async (someone, others) => {
  const found = await until(`${others} pictures in ${someone.name}`, async () => {
    const seen = (await firsts(someone)).filter(one => one.picture !== null);
    return seen.length >= others && seen;
  }, { timeout: 60_000, every: 100 });
  return found.map(one => Math.max(0, one.picture - one.connected));
};

/** One page and one native client, of which one is there and the other comes. */
async function pair(relay, browser, pageComes) {
  const cleanup = new Cleanup();
  try {
    const room = newRoom(relay);
    const someone = await page(browser, 'Page', room.url);
    cleanup.add(() => someone.close());
    if (!pageComes) {
      await someone.join();
      await during(1_500);
    }
    const other = native(cleanup, 'Native', room.url);
    if (pageComes) {
      await other.saw('joined');
      await during(1_500);
      await someone.join();
    }
    await all('the picture of the page', [other], 1);
    const [fromPage] = waits(other);
    const [fromNative] = await ofPage(someone, 1);
    await other.leave();
    return { fromPage, fromNative };
  } finally {
    await cleanup.run();
  }
}

/** Two bare pages, both ways. */
async function bare(browser, relay) {
  const cleanup = new Cleanup();
  try {
    const people = await barePair(cleanup, browser, relay);
    return (await Promise.all(people.map(one => ofPage(one, 1)))).flat();
  } finally {
    await cleanup.run();
  }
}

/** Three natives and two pages enter within two seconds. */
async function mixed(relay, browser) {
  const cleanup = new Cleanup();
  try {
    const room = newRoom(relay);
    const pages = [await page(browser, 'Page 1', room.url), await page(browser, 'Page 2', room.url)];
    for (const one of pages) cleanup.add(() => one.close());
    const natives = [];
    for (let number = 0; number < 3; number += 1) {
      natives.push(native(cleanup, `Native ${number}`, room.url, { args: ['--tile', tileOf(5)] }));
      await during(WITHIN / 5);
      if (pages[number]) await pages[number].join({ wait: false });
      await during(WITHIN / 5);
    }
    await all('every picture at the natives', natives, 4);
    const atPages = (await Promise.all(pages.map(one => ofPage(one, 4)))).flat();
    return { atNatives: natives.flatMap(waits), atPages };
  } finally {
    await cleanup.run();
  }
}

const repeat = async (times, what) => {
  const found = [];
  for (let number = 0; number < times; number += 1) found.push(await what(number));
  return found;
};

const cleanup = new Cleanup();
try {
  // Everybody comes from one address here, which a relay slows down otherwise.
  const relay = await startRelay(cleanup);
  const head = '| from the link to the first picture, ms | pictures | p50 | p95 | p99 | slowest | |\n|---|---|---|---|---|---|---|';
  if (wanted('natives')) {
    console.log(`### meeting: natives who all enter within ${WITHIN / 1000} s, ${ROUNDS} calls of each size\n\n${head}`);
    const every = [];
    for (const size of SIZES) {
      const found = (await repeat(ROUNDS, () => meeting(relay, size))).flat();
      every.push(...found);
      console.log(`| ${size} people, tiles of ${tileOf(size)} | ${figures(found)} | |`);
    }
    console.log(`| all | ${figures(every)} | ${verdict(percentile(every, 0.99), 300)} |\n`);
  }
  if (wanted('pages')) {
    const browser = await chromium(cleanup);
    const ours = await repeat(PAIRS, number => pair(relay, browser, number % 2 === 0));
    const theirs = (await repeat(PAIRS, () => bare(browser, relay))).flat();
    const base = percentile(theirs, 0.5);
    const over = list => `${(percentile(list, 0.5) - base).toFixed(0)} over bare pages at the median, ≤ 150: ${percentile(list, 0.5) - base <= 150 ? 'met' : 'missed'}`;
    const [toPage, toNative] = [ours.map(one => one.fromNative), ours.map(one => one.fromPage)];
    console.log(`### meeting: the native client and the page, beside bare Chromium pages\n\n${head}`);
    console.log(`| two bare Chromium pages | ${figures(theirs)} | |`);
    console.log(`| native to page | ${figures(toPage)} | ${over(toPage)} |`);
    console.log(`| page to native | ${figures(toNative)} | ${over(toNative)} |`);
    const calls = await repeat(MIXED, () => mixed(relay, browser));
    console.log(`| three natives and two pages within 2 s: at the natives | ${figures(calls.flatMap(one => one.atNatives))} | |`);
    console.log(`| the same: at the pages | ${figures(calls.flatMap(one => one.atPages))} | |\n`);
    await browser.close();
  }
  if (wanted('joins')) {
    const seen = await joins(cleanup, relay, JOINS);
    console.log(`### meeting: ${JOINS} single joins\n\n| from the start of the process, ms | joins | p50 | p95 | p99 | slowest | |\n|---|---|---|---|---|---|---|`);
    console.log(`| in the room | ${figures(seen.joined)} | |`);
    console.log(`| the link is up | ${figures(seen.connected)} | |`);
    console.log(`| first picture of the other one decoded | ${figures(seen.picture)} | ${verdict(percentile(seen.picture, 0.99), 300)} |`);
  }
} finally {
  await cleanup.run();
}
