// What relayed calls live through: fresh credentials, a lost server, and the ends of lifetimes.

import assert from 'node:assert/strict';
import { chromium, seesAndHears } from './lib/people.mjs';
import { longestGaps } from './lib/probe.mjs';
import { newRoom, restartRelay, startRelay } from './lib/relay.mjs';
import { allocations, allocationsBecome, ONLY, pathOf, relayedBy, relayedGuest, seatWithTurn, turnFigures } from './lib/relaying.mjs';
import { scenario } from './lib/scenario.mjs';
import { serverOf, TurnClient } from './lib/turnclient.mjs';
import { during, until } from './lib/until.mjs';

/** Within five seconds everybody is in the room again (outlive.test.mjs); then ICE is restarted once, or again after five more. */
const BACK = 10_000;

/** Two people who see and hear each other through the relay alone. */
async function couple(cleanup, relay, { through = ONLY.udp } = {}) {
  const room = newRoom(relay);
  const browsers = await Promise.all([chromium(cleanup, { camera: 'small' }), chromium(cleanup, { camera: 'small' })]);
  const people = [await relayedGuest(browsers[0], 'Ana', room.url, { through }), await relayedGuest(browsers[1], 'Bo', room.url, { through })];
  for (const someone of people) await seesAndHears(someone, 1);
  return { room, people };
}

const record = people => Promise.all(people.map(one => one.page.evaluate(() => window.__probe.record())));

async function longest(people) {
  const recordings = await Promise.all(people.map(one => one.page.evaluate(() => window.__probe.stopRecording())));
  const gaps = recordings.map(longestGaps);
  return Math.max(...gaps.flatMap(one => [one.frames, one.packets]));
}

scenario('fresh credentials serve the next allocations of a relayed call, and no picture is lost', async cleanup => {
  const relay = await startRelay(cleanup);
  const { people } = await couple(cleanup, relay);
  await record(people);
  await during(3_000);
  const usual = await longest(people);

  const [before, made] = [await allocations(relay), (await turnFigures(relay)).allocated_total];
  const old = await Promise.all(people.map(one => pathOf(one, relayedBy('udp'))));
  await record(people);
  // The relay sends them unasked at three quarters of their life, and to whoever asks. They alone change no path.
  for (const someone of people) await someone.page.evaluate(() => window.__say({ type: 'turn_credentials' }));
  await during(2_000);
  assert.equal((await turnFigures(relay)).allocated_total, made, 'what there is lives on');
  // Whose network changes looks for new paths, with the new credentials.
  await people[0].page.evaluate(() => dispatchEvent(new Event('online')));
  const since = performance.now();
  const fresh = await Promise.all(people.map((one, at) => pathOf(one, path =>
    relayedBy('udp')(path) && path.username !== old[at].username && path.local.port !== old[at].local.port && path.remote.port !== old[at].remote.port)));
  const moved = Math.round(performance.now() - since);
  assert.ok((await turnFigures(relay)).allocated_total >= made + 2, 'allocations were made anew');
  await during(1_000);
  const gap = await longest(people);
  // Chromium keeps those of before until the connection is closed, however long that is; Firefox does not.
  const kept = await allocations(relay);
  console.log(`credentials renewed: on new allocations after ${moved} ms, longest gap ${gap} ms (before ${usual} ms), ${before} allocations before, ${kept} after`,
    fresh.map(path => path.local.port));
  assert.ok(gap <= Math.max(500, 1.5 * usual), `a gap of ${gap} ms`);
  for (const someone of people) await someone.press('#leave');
  const took = await allocationsBecome(relay, count => count === 0, { timeout: 5_000 });
  assert.ok(took <= 1_000, `old and new ones end with the seats, after ${took} ms`);
});

for (const [what, through] of [['UDP', ONLY.udp], ['TCP', ONLY.tcp]]) {
  scenario(`a relay killed under a call relayed over ${what} is back with it within seconds of its return`, async cleanup => {
    const first = await startRelay(cleanup);
    const seat = await seatWithTurn(cleanup, first, newRoom(first));
    const port = seat.ports.udp;
    seat.client.leave();
    const { people } = await couple(cleanup, first, { through });
    await first.kill();
    const killed = performance.now();
    await during(3_000);
    const again = await restartRelay(cleanup, first, { args: ['--turn-listen', `127.0.0.1:${port}`] });
    const returned = performance.now();
    const online = people.map(async someone => {
      await someone.online(30_000);
      return Math.round(performance.now() - returned);
    });
    const before = await Promise.all(people.map(progress));
    const back = await Promise.all(people.map((someone, at) => until(`${someone.name} to have media again`, async () => {
      const now = await progress(someone);
      return now.frames > (now.frames < before[at].frames ? 0 : before[at].frames) + 2
        && now.packets > (now.packets < before[at].packets ? 0 : before[at].packets) + 5
        && Math.round(performance.now() - returned);
    }, { timeout: 40_000, every: 50 })));
    const joined = await Promise.all(online);
    console.log(`relay killed under ${what}: away ${Math.round(returned - killed)} ms, seats back ${joined.join(' and ')} ms, media ${back.join(' and ')} ms after its return`);
    assert.ok(Math.max(...back) <= BACK, `${back} ms`);
    for (const someone of people) await pathOf(someone, relayedBy(what.toLowerCase()));
    assert.ok((await turnFigures(again))['bytes_total{way="in_process"}'] > 0);
  });
}

/** The pictures decoded and the sound packets received so far, over the connection that is in use. */
async function progress(someone) {
  const all = (await someone.inbound()).flatMap(link => Object.values(link.media));
  const sum = (kind, field) => all.filter(one => one.kind === kind).reduce((total, one) => total + one[field], 0);
  return { frames: sum('video', 'frames'), packets: sum('audio', 'packets') };
}

scenario('an allocation lives as long as it is refreshed, with its own credential and with a fresh one of the same seat', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const ana = await seatWithTurn(cleanup, relay, room, { name: 'Ana' });
  const client = await TurnClient.open(cleanup, serverOf(ana.seat.iceServers, 'turn'));
  assert.equal(await client.allocate(), 0);
  assert.equal(await client.allocate(), 437, 'there is one already');
  for (const [asked, granted] of [[1, 600], [900, 900], [3600, 3600], [7200, 3600]]) {
    assert.equal((await client.prolong(asked)).lifetime, granted, 'ten minutes to an hour');
  }

  // A credential has whole seconds in it: the next one differs from this one after a second.
  const own = client.server;
  const fresh = await until('another credential', async () => {
    const answer = await ana.client.ask({ type: 'turn_credentials' }, ['turn_credentials', 'error']);
    assert.equal(answer.type, 'turn_credentials', JSON.stringify(answer));
    const server = serverOf(answer.iceServers, 'turn');
    return server.username !== own.username && server;
  }, { every: 300 });
  client.server = fresh;
  assert.equal((await client.prolong(600)).lifetime, 600, 'the same seat’s newer credential');
  client.server = own;
  assert.equal((await client.prolong(600)).lifetime, 600, 'the older one is good for its own time');

  // Somebody else in the room has a good credential, too, but not for this allocation.
  const bo = await seatWithTurn(cleanup, relay, room, { name: 'Bo' });
  client.server = serverOf(bo.seat.iceServers, 'turn');
  assert.equal(await client.refresh(), 441);
  client.server = { ...own, credential: 'AAAAAAAAAAAAAAAAAAAAAAAAAAA=' };
  assert.equal(await client.refresh(), 401);
  // A name that promises a longer life is not what was signed.
  const [expiry, rest] = own.username.split(':');
  client.server = { ...own, username: `${Number(expiry) + 3600}:${rest}` };
  assert.equal(await client.refresh(), 401);
  assert.equal(await allocations(relay), 1, 'none of it closed the allocation');

  client.server = own;
  assert.equal((await client.prolong(0)).lifetime, 0);
  assert.equal(await allocations(relay), 0);
  assert.equal(await client.refresh(), 437);
});
