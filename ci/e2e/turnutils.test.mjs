// The relay's TURN server as coturn's own client tools see it: every transport, both families, channels and indications.

import assert from 'node:assert/strict';
import { certificate } from './lib/certificate.mjs';
import { echoPeer, loadedDice, run, uclient, whyNoTools } from './lib/coturn.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { allocationsBecome, seatWithTurn, total, turnFigures } from './lib/relaying.mjs';
import { scenario } from './lib/scenario.mjs';

const skip = whyNoTools() ?? false;

/** Relays on both loopback addresses; peers there are allowed, or nothing could be sent to from outside the server. */
async function server(cleanup, { host = '127.0.0.1', tls = null } = {}) {
  const peers = ['127.0.0.0/8', '::1'].flatMap(range => ['--turn-allow-peer', range]);
  const relay = await startRelay(cleanup, { host, args: [...peers, ...(tls?.args ?? [])] });
  const seat = await seatWithTurn(cleanup, relay, newRoom(relay), { ca: tls?.pem });
  return { relay, turn: { ...seat, host: host.replace(/^\[|\]$/g, ''), env: loadedDice(cleanup) } };
}

const TRANSPORTS = [
  ['UDP', 'udp', []],
  ['TCP', 'tcp', ['-t']],
  ['TLS', 'tls', ['-t', '-S']],
];
const METHODS = [
  ['channels', []],
  ['indications', ['-s']],
];
const CLIENTS = 2;
const MESSAGES = 50;

for (const [family, host, ask] of [
  ['IPv4', '127.0.0.1', []],
  ['IPv6', '[::1]', ['-x']],
]) {
  scenario(`turnutils_uclient over ${family} loses no packet by UDP, TCP and TLS, with channels and indications`, { skip }, async cleanup => {
    const tls = certificate(cleanup);
    const { relay, turn } = await server(cleanup, { host, tls });
    const peer = await echoPeer(cleanup, turn.host);

    /** Every transport with every method, side by side: a client takes its time to end. */
    const all = async (where, flags) => {
      const runs = TRANSPORTS.flatMap(([name, transport, how]) => METHODS.map(async ([method, by]) => {
        const trust = transport === 'tls' ? ['-E', tls.cert] : [];
        const port = turn.ports[transport];
        const result = await uclient({ ...turn, port, clients: CLIENTS, messages: MESSAGES, flags: [...how, ...trust, ...ask, ...by, ...flags] });
        const what = `${family}, ${name}, ${method}, ${where}`;
        console.log(`${what}: ${result.received} of ${result.sent} came back`);
        assert.equal(result.code, 0, `${what}: ${result.text}`);
        assert.equal(result.sent, CLIENTS * MESSAGES, `${what}: ${result.text}`);
        // Of a TLS record the tool reads the first message and forgets the rest; a server that has several to send may put them into one.
        // There the server's own count below has to do.
        if (transport === 'tls') assert.ok(result.received > 0, `${what}: ${result.text}`);
        else assert.equal(result.received, result.sent, `${what}: ${result.text}`);
      }));
      await Promise.all(runs);
      return turnFigures(relay);
    };

    const elsewhere = await all('a peer elsewhere', ['-e', turn.host, '-r', peer]);
    assert.equal(elsewhere['bytes_total{way="in_process"}'], 0, JSON.stringify(elsewhere));
    assert.equal(elsewhere['packets_total{way="from_clients"}'], 6 * CLIENTS * MESSAGES, JSON.stringify(elsewhere));
    assert.equal(elsewhere['packets_total{way="to_clients"}'], 6 * CLIENTS * MESSAGES, JSON.stringify(elsewhere));
    const among = await all('client to client', ['-y']);
    assert.equal(among['packets_total{way="in_process"}'], 6 * CLIENTS * MESSAGES, JSON.stringify(among));
    assert.equal(total(among, 'dropped_total'), 0, JSON.stringify(among));
    // Over UDP the tool leaves its allocations behind. Its seat takes them along.
    turn.client.leave();
    await allocationsBecome(relay, count => count === 0, { timeout: 5_000 });
    assert.equal((await turnFigures(relay)).relay_sockets, 0, 'the ports are closed');
  });
}

scenario('turnutils_uclient with a wrong password gets nothing', { skip }, async cleanup => {
  const { relay, turn } = await server(cleanup);
  const result = await uclient({ ...turn, port: turn.ports.udp, password: 'wrong', flags: ['-y'], timeout: 20_000 });
  assert.ok(!(result.received > 0), result.text);
  const figures = await turnFigures(relay);
  assert.ok(figures['refusals_total{reason="wrong_credentials"}'] > 0, JSON.stringify(figures));
  assert.equal(figures.allocated_total, 0);
});

for (const host of ['127.0.0.1', '[::1]']) {
  scenario(`turnutils_stunclient learns its own address from ${host}`, { skip }, async cleanup => {
    const { turn } = await server(cleanup, { host });
    const { code, text } = await run('turnutils_stunclient', ['-p', String(turn.ports.udp), turn.host], { timeout: 10_000 });
    assert.equal(code, 0, text);
    assert.match(text, /UDP reflexive addr: (127\.0\.0\.1|\[?::1\]?):\d+/);
  });
}
