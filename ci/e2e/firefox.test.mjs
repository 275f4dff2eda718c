// Firefox and Chromium together, whoever comes first: who is new offers, so both browsers take both parts.

import assert from 'node:assert/strict';
import { chromium, firefox, guest, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';

for (const first of ['Firefox', 'Chromium']) {
  scenario(`Firefox and Chromium see and hear each other when ${first} comes first`, async cleanup => {
    const relay = await startRelay(cleanup);
    const room = newRoom(relay);
    const fox = await firefox(cleanup);
    const chrome = await chromium(cleanup, { camera: 'small' });
    const order = [[fox, 'Fox'], [chrome, 'Chrome']];
    if (first === 'Chromium') order.reverse();
    const people = [];
    for (const [browser, name] of order) people.push(await guest(browser, name, room.url));
    for (const someone of people) {
      const [link] = await seesAndHears(someone, 1, { timeout: 90_000 });
      console.log(`${someone.name} receives`, JSON.stringify(link.media));
      assert.deepEqual(await someone.violations(), []);
      await someone.picture(`call-firefox-${first.toLowerCase()}-first-${someone.name}`);
    }
  });
}
