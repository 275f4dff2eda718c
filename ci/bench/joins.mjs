// How long a native client takes from its start to the first picture, and what is left behind in one that stays while another comes
// and goes: memory, threads, descriptors.

import { parseArgs } from 'node:util';
import { native } from '../e2e/lib/native.mjs';
import { newRoom, startRelay } from '../e2e/lib/relay.mjs';
import { Cleanup, during } from '../e2e/lib/until.mjs';
import { alone, joins, percentile } from './lib/firsts.mjs';
import { handles, memory } from './lib/process.mjs';

const { values } = parseArgs({ options: { joins: { type: 'string', default: '20' }, cycles: { type: 'string', default: '50' } } });
const JOINS = Number(values.joins);
const CYCLES = Number(values.cycles);
/** Cycles after which buffers, pools and the allocator's arenas have found their size. */
const WARM = Math.ceil(CYCLES * 0.4);

/** Somebody stays while another comes and goes. */
async function churn(cleanup, relay) {
  const room = newRoom(relay);
  const host = native(cleanup, 'Bo', room.url);
  await host.saw('joined');
  const looks = [];
  for (let cycle = 0; cycle <= CYCLES; cycle += 1) {
    if (cycle === 0 || cycle === WARM || cycle === CYCLES) {
      // What belongs to a link that was closed goes within a second or two, an encoder that nobody wants after two.
      await during(5_000);
      looks.push({ cycle, ...memory(host.pid), ...handles(host.pid) });
    }
    if (cycle === CYCLES) break;
    const guest = native(cleanup, `Guest ${cycle}`, room.url);
    await guest.seesAndHears(1);
    await host.seesAndHears(1);
    await guest.leave();
    await alone(host);
  }
  await host.leave();
  return looks;
}

const cleanup = new Cleanup();
try {
  // Everybody comes from one address here, which a relay slows down otherwise.
  const relay = await startRelay(cleanup);
  const seen = await joins(cleanup, relay, JOINS);
  console.log(`### media: joins (${JOINS} of them, a call of two over loopback)\n\n| from the start of the process, ms | p50 | p95 | slowest | |\n|---|---|---|---|---|`);
  const row = (what, list, bar = '') => console.log(`| ${what} | ${percentile(list, 0.5).toFixed(0)} | ${percentile(list, 0.95).toFixed(0)} | ${Math.max(...list).toFixed(0)} | ${bar} |`);
  const met = percentile(seen.picture, 0.5) <= 400 && percentile(seen.picture, 0.95) <= 800;
  row('in the room', seen.joined);
  row('the link is up', seen.connected);
  row('first picture of the other one decoded', seen.picture, `p50 ≤ 400, p95 ≤ 800: ${met ? 'met' : 'missed'}`);

  const looks = await churn(cleanup, relay);
  const mebibytes = bytes => (bytes / 2 ** 20).toFixed(1);
  console.log(`\n### media: one stays, another comes ${CYCLES} times\n\n| joins and departures | RSS, MiB | PSS, MiB | threads | descriptors |\n|---|---|---|---|---|`);
  for (const look of looks) console.log(`| ${look.cycle} | ${mebibytes(look.rss)} | ${mebibytes(look.pss)} | ${look.threads} | ${look.descriptors} |`);
  const [, warm, last] = looks;
  const constant = warm.threads === last.threads && warm.descriptors === last.descriptors;
  console.log(`\nGrowth from ${warm.cycle} to ${last.cycle}: ${mebibytes(last.rss - warm.rss)} MiB; threads and descriptors ${constant ? 'constant' : '**not constant**'}.`);
} finally {
  await cleanup.run();
}
