// A call whose network fails: half a minute without any, and another network altogether. Real Chromium in network namespaces.

import assert from 'node:assert/strict';
import { Lab, RELAY_HOST, whyNot } from './lib/lab.mjs';
import { chromium, guest, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';
import { during, until } from './lib/until.mjs';

const skip = whyNot() ?? false;

/** What a person may have to wait for picture and sound once the network is there. */
const BAR = 3_000;

/** Two people, each in a home of their own, in a call with direct media. */
async function callInLab(cleanup) {
  const lab = new Lab(cleanup);
  const relay = await startRelay(cleanup, { host: RELAY_HOST, port: 7000, inside: lab.inside, args: ['--allow-plain-http'] });
  const room = newRoom(relay, { origin: `http://${RELAY_HOST}:${relay.port}` });
  const args = [`--unsafely-treat-insecure-origin-as-secure=http://${RELAY_HOST}:${relay.port}`];
  const [first, second] = await Promise.all([
    chromium(cleanup, { camera: 'small', args, program: lab.chromiumIn('a') }),
    chromium(cleanup, { camera: 'small', args, program: lab.chromiumIn('b') }),
  ]);
  const people = [await guest(first, 'Ana', room.url), await guest(second, 'Bo', room.url)];
  for (const someone of people) await seesAndHears(someone, 1);
  return { lab, people };
}

/** The pictures decoded and the sound packets received so far, over the connection that is in use. */
async function progress(someone) {
  const links = await someone.inbound();
  const all = links.flatMap(link => Object.values(link.media));
  const sum = (kind, field) => all.filter(one => one.kind === kind).reduce((total, one) => total + one[field], 0);
  return { frames: sum('video', 'frames'), packets: sum('audio', 'packets') };
}

/** Whether a counter went on by more than `least`; a connection that was made anew counts from zero. */
const moved = (now, before, least) => now > (now < before ? 0 : before) + least;

/** How long after `since` both people have fresh pictures and sound. */
async function mediaBack(people, since) {
  const before = await Promise.all(people.map(progress));
  const times = await Promise.all(
    people.map((someone, at) =>
      until(
        `${someone.name} to have media again`,
        async () => {
          const seen = await progress(someone);
          return moved(seen.frames, before[at].frames, 2) && moved(seen.packets, before[at].packets, 5) && performance.now() - since;
        },
        { timeout: 40_000, every: 50 },
      ),
    ),
  );
  return Math.round(Math.max(...times));
}

scenario('after half a minute without network, picture and sound return by themselves', { skip }, async cleanup => {
  const { lab, people } = await callInLab(cleanup);
  lab.cable('a', false);
  const out = performance.now();
  await until('the link to be shown as interrupted', async () => (await people[1].tiles()).some(tile => tile.link === 'interrupted'), { timeout: 15_000 });
  await people[1].picture('network-interrupted');
  await during(30_000 - (performance.now() - out));
  lab.cable('a', true);
  const took = await mediaBack(people, performance.now());
  console.log(`30 s outage: media back ${took} ms after the network (bar ${BAR} ms: ${took <= BAR ? 'met' : 'missed'})`);
  for (const someone of people) await someone.online(20_000);
  assert.ok(took <= 2 * BAR, `media only after ${took} ms`);
  for (const someone of people) assert.equal((await someone.tiles()).filter(tile => tile.link === 'connected').length, 1);
});

scenario('after a change into another network, picture and sound go on by themselves', { skip }, async cleanup => {
  const { lab, people } = await callInLab(cleanup);
  lab.roam('a', 3);
  const took = await mediaBack(people, performance.now());
  console.log(`address change: media back after ${took} ms (bar ${BAR} ms: ${took <= BAR ? 'met' : 'missed'})`);
  for (const someone of people) await someone.online(20_000);
  assert.ok(took <= 2 * BAR, `media only after ${took} ms`);
});
