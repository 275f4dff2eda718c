// Native clients whose direct path opens late, or has to be opened by both through NATs: a relayed
// path is used at once, and the direct one takes over. Every pair of NAT types, in both orders: 13
// of 16 have a direct path, and it has to be taken. The others stay with the relay.

import assert from 'node:assert/strict';
import { certificate } from './lib/certificate.mjs';
import { FLOW_LOG, longestGaps } from './lib/flow.mjs';
import { Lab, RELAY_HOST, whyNot } from './lib/lab.mjs';
import { native } from './lib/native.mjs';
import { chromium, guest, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { pathOf } from './lib/relaying.mjs';
import { scenario } from './lib/scenario.mjs';
import { during, until } from './lib/until.mjs';

const skip = whyNot() ?? false;
if (skip) console.log(`skipped: calls through NATs, because this ${skip}`);

const KINDS = ['full-cone', 'address', 'port', 'symmetric'];
/** Who asks from another port each time is not let in by who looks at ports. */
const meetDirectly = (one, other) => {
  const kinds = [one, other];
  return !kinds.includes('symmetric') || !kinds.every(kind => ['port', 'symmetric'].includes(kind));
};

/**
 * A better pair takes over within two seconds of being valid. It is valid within the first checks,
 * and paths are shown once a second.
 */
const TAKEN = 5_000;
/** The product's bar. A machine that runs other things as well may take longer. */
const BAR = 2_000;

const SMALL = ['--tile', '320x180'];

async function relayIn(cleanup, lab) {
  const cert = certificate(cleanup, [`IP:${RELAY_HOST}`]);
  const relay = await startRelay(cleanup, { host: RELAY_HOST, port: 7000, inside: lab.inside, args: cert.args });
  return { relay, cert, room: newRoom(relay, { origin: `https://${RELAY_HOST}:${relay.port}` }) };
}

const join = (cleanup, name, namespace, { room, cert }, args = []) =>
  native(cleanup, name, room.url, {
    ca: cert.cert, inside: ['ip', 'netns', 'exec', namespace], env: FLOW_LOG, args: [...SMALL, ...args],
  });

/** How somebody's one link runs, once it carries media. */
async function quality(someone) {
  const carries = shown => shown.participants[0]?.quality.packetsReceived > 20;
  const { participants: [one] } = await someone.shows('how they are connected', carries);
  return one.quality;
}

/** Waits until somebody's link is relayed or not, and says how long that took. */
async function becomes(someone, relayed, timeout) {
  const since = performance.now();
  await until(
    `${someone.name} to be ${relayed ? 'relayed' : 'direct'}`,
    async () => {
      const one = await quality(someone);
      if (one.relayed === relayed) return true;
      throw new Error(JSON.stringify(one));
    },
    { timeout, every: 50 },
  );
  return Math.round(performance.now() - since);
}

for (const [a, b] of KINDS.flatMap(one => KINDS.map(other => [one, other]))) {
  const direct = meetDirectly(a, b);
  scenario(`behind ${a} and ${b} NATs two natives meet ${direct ? 'directly' : 'at the relay'}`, { skip }, async cleanup => {
    const lab = new Lab(cleanup);
    const there = await relayIn(cleanup, lab);
    const people = [];
    for (const [name, home, kind] of [['Ana', lab.homes.a, a], ['Bo', lab.homes.b, b]]) {
      people.push(join(cleanup, name, lab.behindNat(cleanup, home, { kind }), there));
      await people.at(-1).saw('joined');
    }
    const joined = performance.now();
    for (const someone of people) await someone.seesAndHears(1);
    const heard = Math.round(performance.now() - joined);
    if (direct) {
      const took = await Promise.all(people.map(someone => becomes(someone, false, TAKEN)));
      console.log(`${a} and ${b}: seen and heard after ${heard} ms, shown as direct ${took.join(' and ')} ms later`);
      // And it stays.
      await during(1_500);
      for (const someone of people) assert.equal((await quality(someone)).relayed, false);
    } else {
      await during(3_000);
      for (const someone of people) {
        const one = await quality(someone);
        assert.equal(one.relayed, true, JSON.stringify(one));
        console.log(`${a} and ${b}: ${someone.name} is relayed over ${one.relayProtocol}`);
      }
    }
  });
}

scenario('a direct path that opens in a call takes over without a gap in sound, and the relay takes it back when it closes', { skip }, async cleanup => {
  const lab = new Lab(cleanup);
  lab.forward(false);
  const there = await relayIn(cleanup, lab);
  const people = [];
  for (const [name, home] of [['Ana', lab.homes.a], ['Bo', lab.homes.b]]) {
    people.push(join(cleanup, name, home.namespace, there));
    await people.at(-1).saw('joined');
  }
  for (const someone of people) await someone.seesAndHears(1);
  for (const someone of people) assert.equal((await quality(someone)).relayed, true);
  // Late enough for the first, frequent checks to be over.
  await during(8_000);
  const worst = all => Math.max(...all.map(one => one.sound));
  const usual = worst(people.map(someone => longestGaps(someone, Date.now() - 5_000)));
  const opened = Date.now();
  lab.forward(true);
  const took = Math.max(...(await Promise.all(people.map(someone => becomes(someone, false, 2 * BAR)))));
  await during(1_000);
  const gap = worst(people.map(someone => longestGaps(someone, opened)));
  console.log(`path opened: direct ${took} ms after (bar ${BAR} ms), longest gap in sound ${gap} ms (before ${usual} ms)`);
  assert.ok(gap <= Math.max(200, 2 * usual), `a gap of ${gap} ms in sound`);
  const closed = Date.now();
  lab.forward(false);
  await Promise.all(people.map(someone => becomes(someone, true, 10_000)));
  await during(1_000);
  const lost = worst(people.map(someone => longestGaps(someone, closed)));
  console.log(`path closed: longest gap in sound ${lost} ms`);
  assert.ok(lost <= 6_000, `a gap of ${lost} ms in sound`);
  for (const someone of people) await someone.shows('the link', shown => shown.participants.every(one => one.link === 'connected'));
});

scenario('whoever is held to relays stays relayed where a direct path opens', { skip }, async cleanup => {
  const lab = new Lab(cleanup);
  const there = await relayIn(cleanup, lab);
  const ana = join(cleanup, 'Ana', lab.homes.a.namespace, there, ['--relay-only']);
  await ana.saw('joined');
  const bo = join(cleanup, 'Bo', lab.homes.b.namespace, there);
  for (const someone of [ana, bo]) await someone.seesAndHears(1);
  await during(TAKEN);
  for (const someone of [ana, bo]) assert.equal((await quality(someone)).relayed, true);
});

for (const first of ['Nat', 'Bo']) {
  scenario(`a direct path that opens between a native client and Chromium takes over on both sides, ${first} first`, { skip }, async cleanup => {
    const lab = new Lab(cleanup);
    lab.forward(false);
    const there = await relayIn(cleanup, lab);
    const browser = await chromium(cleanup, { camera: 'small', args: there.cert.flags, program: lab.chromiumIn('b') });
    const enter = {
      Nat: async () => {
        const nat = join(cleanup, 'Nat', lab.homes.a.namespace, there);
        await nat.saw('joined');
        return nat;
      },
      Bo: () => guest(browser, 'Bo', there.room.url),
    };
    const early = await enter[first]();
    const late = await enter[first === 'Nat' ? 'Bo' : 'Nat']();
    const [nat, bo] = first === 'Nat' ? [early, late] : [late, early];
    await seesAndHears(bo, 1);
    await nat.seesAndHears(1);
    assert.equal((await quality(nat)).relayed, true);
    await during(3_000);
    const opened = performance.now();
    lab.forward(true);
    const native = becomes(nat, false, 10_000);
    const isDirect = ({ local, remote }) => local.type !== 'relay' && remote.type !== 'relay';
    await pathOf(bo, isDirect, { timeout: 10_000 });
    const page = Math.round(performance.now() - opened);
    console.log(`native and Chromium, ${first} first: the native client is direct ${await native} ms after, the page ${page} ms`);
    await during(2_000);
    assert.equal((await quality(nat)).relayed, false);
  });
}
