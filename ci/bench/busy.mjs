// A call of two on a machine that has twelve other things to do: what it sends, and what a bare pair of Chromium pages sends beside the
// same load.

import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { native } from '../e2e/lib/native.mjs';
import { chromium } from '../e2e/lib/people.mjs';
import { newRoom, startRelay } from '../e2e/lib/relay.mjs';
import { Cleanup, during } from '../e2e/lib/until.mjs';
import { barePair } from './lib/bare.mjs';
import { percentile } from './lib/firsts.mjs';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '30' } } });
const SECONDS = Number(values.seconds);
const LOOPS = 12;
/** The first seconds, in which both sides find their rate, are not counted. */
const SETTLE = Math.max(2, Math.round(SECONDS / 5));

/** Starts the loops. They end by themselves, whatever becomes of this process. */
function load(cleanup) {
  for (let number = 0; number < LOOPS; number += 1) {
    const loop = spawn('timeout', [String(SETTLE + SECONDS + 2), 'sh', '-c', 'while :; do :; done'], { stdio: 'ignore' });
    cleanup.add(() => loop.kill());
  }
}

/** Looks once a second. `look` gives one entry per person: pictures so far, size, estimate. */
async function watch(look) {
  await during(SETTLE * 1000);
  const samples = [];
  for (let second = 0; second <= SECONDS; second += 1) {
    samples.push({ at: performance.now(), people: await look() });
    if (second < SECONDS) await during(1000);
  }
  const rates = samples.slice(1).flatMap((sample, index) => {
    const before = samples[index];
    return sample.people.map((one, person) => ((one.pictures - before.people[person].pictures) * 1000) / (sample.at - before.at));
  });
  const every = samples.flatMap(sample => sample.people);
  const counts = new Map();
  for (const { size } of every) counts.set(size, (counts.get(size) ?? 0) + 1);
  const sizes = [...counts].sort((a, b) => b[1] - a[1]);
  return {
    estimates: every.map(one => one.estimate / 1000),
    rates,
    sizes: sizes.map(([size, count]) => `${size} (${Math.round((100 * count) / every.length)} %)`).join(', '),
  };
}

async function natives(relay) {
  const cleanup = new Cleanup();
  try {
    const room = newRoom(relay);
    const people = ['Ana', 'Bo'].map(name => native(cleanup, name, room.url));
    await Promise.all(people.map(one => one.seesAndHears(1)));
    load(cleanup);
    return await watch(() =>
      Promise.all(people.map(async one => {
        const [other] = (await one.snapshot()).participants;
        return { pictures: other.pictures, size: other.pictureSize.join('×'), estimate: other.quality.estimateBps };
      })),
    );
  } finally {
    await cleanup.run();
  }
}

async function pages(relay) {
  const cleanup = new Cleanup();
  try {
    const people = await barePair(cleanup, await chromium(cleanup), relay);
    load(cleanup);
    return await watch(() =>
      Promise.all(people.map(one =>
        one.page.evaluate(async () => {
          const found = { pictures: 0, size: '', estimate: 0 };
          for (const entry of (await window.bare.getStats()).values()) {
            if (entry.type === 'inbound-rtp' && entry.kind === 'video') {
              Object.assign(found, { pictures: entry.framesDecoded ?? 0, size: `${entry.frameWidth}×${entry.frameHeight}` });
            }
            if (entry.type === 'candidate-pair' && entry.nominated) found.estimate = entry.availableOutgoingBitrate ?? 0;
          }
          return found;
        }),
      )),
    );
  } finally {
    await cleanup.run();
  }
}

const cleanup = new Cleanup();
try {
  const relay = await startRelay(cleanup);
  const [ours, theirs] = [await natives(relay), await pages(relay)];
  const spread = list => `${[0.5, 0.05].map(part => percentile(list, part).toFixed(0)).join('; ')}; ${Math.min(...list).toFixed(0)}`;
  console.log(`### busy: a call of two beside ${LOOPS} busy loops, ${SECONDS} s after ${SETTLE} s\n\n| median; 5th percentile; least | snug | two bare Chromium pages |\n|---|---|---|`);
  console.log(`| estimate, kbit/s | ${spread(ours.estimates)} | ${spread(theirs.estimates)} |`);
  console.log(`| pictures a second that came | ${spread(ours.rates)} | ${spread(theirs.rates)} |`);
  console.log(`| size that came | ${ours.sizes} | ${theirs.sizes} |`);
  console.log('\nsnug sends 1280×720 at 30 pictures a second, Chromium 1280×720 of its fake camera at 20. One pair after the other, under the same load.');
} finally {
  await cleanup.run();
}
