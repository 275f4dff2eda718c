// Calls in which nothing goes directly: all media passes through the relay's own TURN server, over each transport and between two browsers.

import assert from 'node:assert/strict';
import { certificate } from './lib/certificate.mjs';
import { chromium, firefox, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { allocations, allocationsBecome, ONLY, pathOf, relayedBy, relayedGuest, seatWithTurn, total, turnFigures } from './lib/relaying.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';

/** The relay passed media on between its own clients, and opened no port for it. */
async function assertInProcess(relay) {
  const figures = await turnFigures(relay);
  assert.ok(figures['bytes_total{way="in_process"}'] > 10_000, JSON.stringify(figures));
  assert.equal(figures['bytes_total{way="to_clients"}'], figures['bytes_total{way="in_process"}'], 'all of it stayed inside');
  assert.equal(figures.relay_sockets, 0, 'no relayed port was opened');
  for (const reason of ['forbidden_peer', 'other_group', 'over_quota', 'no_channel', 'not_sent']) {
    assert.equal(figures[`dropped_total{reason="${reason}"}`], 0, reason);
  }
  return figures;
}

for (const [transport, what] of [['udp', 'UDP'], ['tcp', 'TCP'], ['tls', 'TLS']]) {
  scenario(`two Chromiums that may only be relayed see and hear each other through ${what}`, async cleanup => {
    const tls = transport === 'tls' ? certificate(cleanup) : null;
    const relay = await startRelay(cleanup, { args: tls?.args });
    const origin = tls ? `https://localhost:${relay.port}` : relay.origin;
    const room = newRoom(relay, { origin });
    const flags = tls?.flags ?? [];
    const [first, second] = await Promise.all([chromium(cleanup, { camera: 'small', args: flags }), chromium(cleanup, { camera: 'small', args: flags })]);
    const people = [];
    for (const [browser, name] of [[first, 'Ana'], [second, 'Bo']]) {
      people.push(await relayedGuest(browser, name, room.url, { through: ONLY[transport] }));
    }
    for (const someone of people) {
      const [link] = await seesAndHears(someone, 1);
      const path = await pathOf(someone, relayedBy(transport));
      console.log(`${what}: ${someone.name} receives`, JSON.stringify(link.media), 'by', JSON.stringify(path.local));
      assert.deepEqual(await someone.violations(), []);
    }
    const figures = await assertInProcess(relay);
    assert.ok(figures[`allocations{transport="${transport}"}`] >= 2, JSON.stringify(figures));
    assert.equal(total(figures, 'allocations'), figures[`allocations{transport="${transport}"}`], 'of no other transport');

    // Leaving is as good as an end of what was relayed.
    const before = await allocations(relay);
    await people[1].press('#leave');
    const took = await allocationsBecome(relay, count => count < before, { timeout: 5_000 });
    await people[0].press('#leave');
    await allocationsBecome(relay, count => count === 0, { timeout: 5_000 });
    console.log(`${what}: allocations went ${took} ms after leaving`);
    assert.ok(took <= 1_000, `${took} ms`);
  });
}

for (const first of ['Firefox', 'Chromium']) {
  scenario(`Firefox and Chromium that may only be relayed see and hear each other when ${first} comes first`, async cleanup => {
    const relay = await startRelay(cleanup);
    const room = newRoom(relay);
    const [fox, chrome] = await Promise.all([firefox(cleanup), chromium(cleanup, { camera: 'small' })]);
    const order = [[fox, 'Fox'], [chrome, 'Chrome']];
    if (first === 'Chromium') order.reverse();
    const people = [];
    for (const [browser, name] of order) people.push(await relayedGuest(browser, name, room.url, { through: ONLY.udp }));
    for (const someone of people) {
      const [link] = await seesAndHears(someone, 1, { timeout: 90_000 });
      const path = await pathOf(someone, relayedBy('udp'));
      console.log(`${someone.name} receives`, JSON.stringify(link.media), 'by', JSON.stringify(path.local));
    }
    await assertInProcess(relay);
  });
}

scenario('who is removed from a room has no allocation a second later, and the others keep theirs', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay, { sealed: false });
  const owner = await seatWithTurn(cleanup, relay, room, { name: 'Owner' });
  const browser = await chromium(cleanup, { camera: 'small' });
  const ana = await relayedGuest(browser, 'Ana', room.url, { through: ONLY.udp });
  // The owner has a seat and no connection, and Ana's page asks for an allocation towards it all the same.
  await allocationsBecome(relay, count => count > 0);
  const hers = await allocations(relay);
  const bo = await relayedGuest(browser, 'Bo', room.url, { through: ONLY.udp });
  for (const someone of [ana, bo]) await seesAndHears(someone, 1);
  const before = await allocations(relay);
  const [, joined] = owner.client.heard.filter(message => message.type === 'user_joined');
  const answer = await owner.client.ask({ type: 'kick', targetId: joined.participant.userId });
  assert.equal(answer.type, 'done', JSON.stringify(answer));
  const took = await allocationsBecome(relay, count => count <= hers, { timeout: 5_000 });
  console.log(`${before} allocations, ${hers} after ${took} ms`);
  assert.ok(took <= 1_000, `${took} ms`);
  assert.ok((await allocations(relay)) > 0, 'Ana’s other allocation lives on');
  assert.equal(await ana.state(), 'online');
  await until('the removed page to say so', async () => (await bo.state()) !== 'online');
});
