// Whether the TURN server reaches the machines around the relay's, whose addresses are public. The relay and its neighbours are in a
// network namespace, connected to nothing else.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { whyNot } from './lib/lab.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';

const skip = whyNot() ?? false;

/** The relay's address in each family, and the prefix of its link. */
const LINKS = { '2a02:7b00:1::1': 64, '8.9.9.1': 24 };

/** A namespace with one link. */
function onLink(cleanup) {
  const name = `snugl${process.pid}`;
  const run = (...command) => execFileSync('ip', command);
  run('netns', 'add', name);
  cleanup.add(() => run('netns', 'del', name));
  const inside = (...command) => run('netns', 'exec', name, 'ip', ...command);
  inside('link', 'set', 'lo', 'up');
  inside('link', 'add', 'lan', 'type', 'veth', 'peer', 'name', 'others');
  for (const [address, bits] of Object.entries(LINKS)) {
    inside('addr', 'add', `${address}/${bits}`, 'dev', 'lan', ...(address.includes(':') ? ['nodad'] : []));
  }
  inside('link', 'set', 'lan', 'up');
  inside('link', 'set', 'others', 'up');
  return ['ip', 'netns', 'exec', name];
}

/** What somebody in a room gets for permissions for these peers, by code; 0 is a yes. Asked inside the namespace. */
function permissions(inside, relay, room, peers) {
  const script = `
    import { serverOf, TurnClient } from './lib/turnclient.mjs';
    import { WireClient } from './lib/wireclient.mjs';
    const { relay, room, peers } = JSON.parse(process.argv[1]);
    const cleanup = { add() {} };
    const { iceServers } = await (await WireClient.connect(cleanup, relay)).join(room);
    const client = await TurnClient.open(cleanup, serverOf(iceServers, 'turn', 'tcp'));
    const codes = [await client.allocate()];
    for (const address of peers) codes.push(await client.permit({ address, port: 5000 }));
    console.log(JSON.stringify(codes));
    process.exit(0);`;
  const asked = JSON.stringify({ relay: { origin: relay.origin, ws: relay.ws }, room: room.roomId, peers });
  const command = [...inside, process.execPath, '--input-type=module', '-e', script, asked];
  const answer = execFileSync(command[0], command.slice(1), { encoding: 'utf8', cwd: new URL('.', import.meta.url).pathname, timeout: 30_000 });
  return JSON.parse(answer);
}

for (const [address, neighbour, elsewhere] of [['2a02:7b00:1::1', '2a02:7b00:1::2', '2a02:7b00:2::2'], ['8.9.9.1', '8.9.9.2', '8.9.10.2']]) {
  const host = address.includes(':') ? `[${address}]` : address;
  scenario(`nobody is relayed to the neighbours of ${address}, unless its operator allows it`, { skip }, async cleanup => {
    const inside = onLink(cleanup);
    const start = args => startRelay(cleanup, { host, inside, args: ['--allow-plain-http', ...args] });
    const ask = relay => permissions(inside, relay, newRoom(relay, { sealed: false }), [neighbour, elsewhere]);
    assert.deepEqual(ask(await start([])), [0, 403, 0]);
    assert.deepEqual(ask(await start(['--turn-allow-peer', neighbour])), [0, 0, 0]);
  });
}
