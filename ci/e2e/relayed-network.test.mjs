// Networks in which participants do not reach each other: the relay carries what does not get through, however little the network lets pass.

import assert from 'node:assert/strict';
import { Lab, RELAY_HOST, RELAY_HOST_6, whyNot } from './lib/lab.mjs';
import { chromium, seesAndHears } from './lib/people.mjs';
import { longestGaps } from './lib/probe.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { ONLY, pathOf, relayedBy, relayedGuest, turnFigures } from './lib/relaying.mjs';
import { scenario } from './lib/scenario.mjs';
import { during, until } from './lib/until.mjs';

const skip = whyNot() ?? false;

/** The page restarts ICE after two seconds without media; browsers alone would wait for five, and then for the page. */
const CUT = 7_000;

/** A relay in the lab and two people in it, each in a home of their own. `first` and `second` are what their pages are held to. */
async function call(cleanup, lab, { host = RELAY_HOST, args = [], first = {}, second = {} } = {}) {
  const relay = await startRelay(cleanup, { host, port: 7000, inside: lab.inside, args: ['--allow-plain-http', ...args] });
  const origin = `http://${host}:${relay.port}`;
  const room = newRoom(relay, { origin });
  const flags = [`--unsafely-treat-insecure-origin-as-secure=${origin}`];
  const browsers = await Promise.all(['a', 'b'].map(home => chromium(cleanup, { camera: 'small', args: flags, program: lab.chromiumIn(home) })));
  const people = [
    await relayedGuest(browsers[0], 'Ana', room.url, { policy: null, ...first }),
    await relayedGuest(browsers[1], 'Bo', room.url, { policy: null, ...second }),
  ];
  const joined = performance.now();
  for (const someone of people) await seesAndHears(someone, 1);
  console.log(`picture and sound ${Math.round(performance.now() - joined)} ms after the second one joined`);
  return { relay, people };
}

scenario('a call in which nobody reaches anybody directly goes through the relay by itself', { skip }, async cleanup => {
  const lab = new Lab(cleanup);
  lab.forward(false);
  const { relay, people } = await call(cleanup, lab);
  // Chromium keeps the first relay that answers it. That is UDP wherever a round trip takes time, and either of them here.
  const both = await Promise.all(people.map(someone => pathOf(someone, ({ local, remote }) => local.type === 'relay' && remote.type === 'relay')));
  console.log('relayed over', both.map(path => path.local.relayProtocol).join(' and '));
  const figures = await turnFigures(relay);
  assert.ok(figures['bytes_total{way="in_process"}'] > 10_000, JSON.stringify(figures));
  assert.equal(figures.relay_sockets, 0, 'private addresses were refused as peers, so no relayed port was opened');
  assert.ok(figures['refusals_total{reason="forbidden_peer"}'] > 0, JSON.stringify(figures));
});

scenario('where UDP is blocked altogether, the call goes through the relay over TCP by itself', { skip }, async cleanup => {
  const lab = new Lab(cleanup);
  lab.dropUdp('a');
  lab.dropUdp('b');
  const { relay, people } = await call(cleanup, lab);
  for (const someone of people) await pathOf(someone, relayedBy('tcp'));
  assert.ok((await turnFigures(relay))['allocations{transport="tcp"}'] >= 2);
});

scenario('one who may only be relayed and one who may not be meet at a relayed port', { skip }, async cleanup => {
  const lab = new Lab(cleanup);
  lab.forward(false);
  const { relay, people } = await call(cleanup, lab, {
    args: ['--turn-allow-peer', '10.99.0.0/16'],
    first: { policy: 'relay', through: ONLY.udp },
    // A page without any TURN server has its own addresses alone.
    second: { through: '^stun:' },
  });
  const [ana, bo] = people;
  const hers = await pathOf(ana, ({ local, remote }) => local.type === 'relay' && remote.type !== 'relay');
  const his = await pathOf(bo, ({ local, remote }) => local.type !== 'relay' && remote.type === 'relay');
  console.log('mixed:', JSON.stringify(hers.local), '↔', JSON.stringify(his.local));
  assert.equal(hers.local.address, RELAY_HOST);
  assert.equal(hers.remote.address, lab.homes.b.address);
  assert.deepEqual([his.remote.address, his.remote.port], [hers.local.address, hers.local.port]);
  const figures = await turnFigures(relay);
  assert.ok(figures.relay_sockets >= 1, JSON.stringify(figures));
  assert.equal(figures['bytes_total{way="in_process"}'], 0);
  assert.ok(figures['bytes_total{way="to_clients"}'] > 10_000, JSON.stringify(figures));
});

for (const [what, through, transport] of [['UDP', ONLY.udp, 'udp'], ['TCP', ONLY.tcp, 'tcp']]) {
  scenario(`a relayed call works over IPv6 and ${what}`, { skip }, async cleanup => {
    const lab = new Lab(cleanup, { ipv6: true });
    lab.forward(false);
    const held = { policy: 'relay', through };
    const { relay, people } = await call(cleanup, lab, { host: `[${RELAY_HOST_6}]`, first: held, second: held });
    for (const someone of people) {
      const path = await pathOf(someone, relayedBy(transport));
      console.log(`IPv6: ${someone.name} by`, JSON.stringify(path.local));
      assert.match(path.local.address, /^\[?fd99::1\]?$/, 'the relayed address is of the family by which the server was reached');
    }
    assert.ok((await turnFigures(relay))['bytes_total{way="in_process"}'] > 10_000);
  });
}

scenario('a direct path that is cut in a call is replaced by the relay', { skip }, async cleanup => {
  const lab = new Lab(cleanup);
  const { people } = await call(cleanup, lab);
  for (const someone of people) await pathOf(someone, ({ local, remote }) => local.type !== 'relay' && remote.type !== 'relay');
  for (const someone of people) await someone.page.evaluate(() => window.__probe.record());
  lab.forward(false);
  for (const someone of people) await pathOf(someone, ({ local, remote }) => local.type === 'relay' || remote.type === 'relay', { timeout: 30_000 });
  await until('media over it', async () => {
    const before = await Promise.all(people.map(one => one.inbound()));
    await during(500);
    const after = await Promise.all(people.map(one => one.inbound()));
    const packets = links => links.flatMap(link => Object.values(link.media)).reduce((sum, one) => sum + one.packets, 0);
    return after.every((links, at) => packets(links) > packets(before[at]) + 10);
  });
  const gaps = (await Promise.all(people.map(one => one.page.evaluate(() => window.__probe.stopRecording())))).map(longestGaps);
  const worst = Math.max(...gaps.flatMap(one => [one.frames, one.packets]));
  console.log(`direct path cut: ${worst} ms without media`, JSON.stringify(gaps));
  assert.ok(worst <= CUT, `a gap of ${worst} ms`);
});
