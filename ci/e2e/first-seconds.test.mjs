// How a call of two looks and sounds from the moment of connecting: the full size soon where the
// path carries it, and no freeze where it does not.

import assert from 'node:assert/strict';
import { chromium, firefox, person } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';
import { FULL_RATE, figures, installWatch, watched } from './lib/smoothness.mjs';
import { until } from './lib/until.mjs';
import { Wire } from './lib/wire.mjs';

/** When the full size and rate are to be there, on a quiet machine. */
const BAR = 2_000;
/** What a busy machine may add. */
const LEEWAY = 4_000;

/** Two people who watch each other from the moment of connecting, Ana in the first browser. */
async function callOfTwo(cleanup, browsers, { wire = null } = {}) {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const people = [];
  for (const [at, browser] of browsers.entries()) {
    const someone = await person(browser, ['Ana', 'Bo'][at]);
    await someone.page.setViewport({ width: 1280, height: 800 });
    await wire?.lead(someone);
    await someone.page.evaluateOnNewDocument(installWatch);
    people.push(await someone.open(room.url));
  }
  for (const someone of people) await someone.join();
  return people;
}

/** What each receives, once it has been connected for so long. */
async function after(people, seconds) {
  const since = ({ samples, connectedAt }) => (samples.at(-1)?.at ?? 0) - (connectedAt ?? Infinity);
  return until(
    `${seconds} s of the call`,
    async () => {
      const all = await Promise.all(people.map(watched));
      const seen = all.every(one => since(one) >= seconds * 1000) && all.map(one => figures(one));
      return seen && seen.every(Boolean) && seen;
    },
    { timeout: 60_000, every: 500 },
  );
}

const told = (someone, { fullMs, rate, longestMs, concealed, sizes }) =>
  `${someone.name} receives: full size and rate ${fullMs === null ? 'never' : `after ${fullMs} ms`}, ${rate.toFixed(1)} a second, ` +
  `longest gap ${longestMs} ms, ${(100 * concealed).toFixed(2)} % concealed, ${sizes.map(one => `${one.size} at ${one.at} s`).join(', ')}`;

for (const [other, start] of [['Chromium', chromium], ['Firefox', firefox]]) {
  scenario(`${other} and Chromium send each other the full size at the camera's rate within seconds`, async cleanup => {
    const people = await callOfTwo(cleanup, [await start(cleanup), await chromium(cleanup)]);
    for (const [at, seen] of (await after(people, 10)).entries()) {
      console.log(`${told(people[at], seen)} (bar ${BAR} ms: ${seen.fullMs !== null && seen.fullMs <= BAR ? 'met' : 'missed'})`);
      assert.ok(seen.fullMs !== null && seen.fullMs <= BAR + LEEWAY, `1280×720 at ${FULL_RATE} pictures a second ${seen.fullMs === null ? 'never' : `only after ${seen.fullMs} ms`}`);
      assert.equal(seen.sizes.at(-1).size, '1280×720', 'and stays');
      assert.deepEqual(await people[at].violations(), []);
    }
  });
}

scenario('on a path of 500 kbit/s pictures do not freeze and sound does not suffer', async cleanup => {
  const wire = new Wire(cleanup, { kbps: 500 });
  const people = await callOfTwo(cleanup, [await chromium(cleanup), await chromium(cleanup)], { wire });
  for (const [at, seen] of (await after(people, 15)).entries()) {
    console.log(told(people[at], seen));
    assert.ok(wire.carried > 500, `only ${wire.carried} datagrams went over the narrow path`);
    assert.ok(seen.longestMs <= 1_000 + LEEWAY / 4, `no picture for ${seen.longestMs} ms`);
    assert.ok(seen.rate >= 10, `${seen.rate} pictures a second`);
    assert.ok(seen.concealed <= 0.05, `${100 * seen.concealed} % of the sound was invented`);
  }
});
