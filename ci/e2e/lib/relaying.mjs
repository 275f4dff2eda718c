// Calls through the relay's own TURN server: pages that are held to it, the path their media takes, and the server's figures.
//
// The product has no option for this. A page is bent before its own scripts run: its connections get another policy and fewer
// servers, as a firewall or a browser's setting would have it.

import { execFileSync } from 'node:child_process';
import { person } from './people.mjs';
import { proofOf } from './rooms.mjs';
import { until } from './until.mjs';
import { WireClient } from './wireclient.mjs';

/** Servers of one kind, for `through`. */
export const ONLY = {
  udp: '^turn:.*transport=udp$',
  tcp: '^turn:.*transport=tcp$',
  tls: '^turns:',
};

/** Runs in the page, after the probe and before the page's own scripts. */
function bend({ policy, through }) {
  const wanted = through && new RegExp(through);
  const bent = (config = {}) => {
    const iceServers = (config.iceServers ?? [])
      .map(server => ({ ...server, urls: [server.urls].flat().filter(url => !wanted || wanted.test(url)) }))
      .filter(server => server.urls.length > 0);
    return { ...config, iceServers, ...(policy ? { iceTransportPolicy: policy } : {}) };
  };
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class RTCPeerConnection extends Native {
    constructor(config, ...rest) {
      super(bent(config), ...rest);
    }

    setConfiguration(config) {
      super.setConfiguration(bent(config));
    }
  };
}

/** Runs in the page before anything else: keeps its WebSockets, so that a test can say something in the page's name. */
function keepSockets() {
  const sockets = [];
  window.WebSocket = class WebSocket extends window.WebSocket {
    constructor(...rest) {
      super(...rest);
      sockets.push(this);
    }
  };
  window.__say = message => sockets.findLast(socket => socket.readyState === 1).send(JSON.stringify(message));
}

/** Joins with a page whose connections know only some servers (`through`) and only some candidates (`policy`). */
export async function relayedGuest(browser, name, url, { policy = 'relay', through = null } = {}) {
  const someone = await person(browser, name);
  await someone.page.evaluateOnNewDocument(keepSockets);
  await someone.page.evaluateOnNewDocument(bend, { policy, through });
  await someone.open(url);
  return someone.join();
}

/** The paths in use, one for each open connection of the page. */
export function paths(someone) {
  return someone.page.evaluate(async () => {
    const all = [];
    for (const connection of window.__probe.connections) {
      if (connection.connectionState === 'closed') continue;
      const report = new Map((await connection.getStats()).entries());
      const entries = [...report.values()];
      const selected = entries.find(entry => entry.type === 'transport')?.selectedCandidatePairId;
      const pair = report.get(selected) ?? entries.find(entry => entry.type === 'candidate-pair' && entry.nominated && entry.state === 'succeeded');
      if (!pair) continue;
      const end = id => {
        const { candidateType: type, protocol, relayProtocol, address, port, url } = report.get(id) ?? {};
        return { type, protocol, relayProtocol, address, port, url };
      };
      const servers = connection.getConfiguration().iceServers;
      all.push({ local: end(pair.localCandidateId), remote: end(pair.remoteCandidateId), username: servers.find(server => server.username)?.username });
    }
    return all;
  });
}

/** Waits until the one connection of a page runs between two such candidates, and returns its path. */
export function pathOf(someone, fits, { timeout = 20_000 } = {}) {
  return until(
    `the path of ${someone.name}`,
    async () => {
      const all = await paths(someone);
      if (all.length === 1 && fits(all[0])) return all[0];
      throw new Error(JSON.stringify(all));
    },
    { timeout },
  );
}

/** Both ends relayed, ours over `transport`. */
export const relayedBy = transport => ({ local, remote }) => local.type === 'relay' && remote.type === 'relay' && local.relayProtocol === transport;

/**
 * The figures of `/metrics` that are about TURN, as one object: `allocations{transport="udp"}` and so on, without the prefix.
 * `inside` is the command prefix of a relay in a network namespace.
 */
export async function turnFigures(relay) {
  const address = relay.log.match(/metrics on (http:\S+\/metrics)/)[1];
  const { inside } = relay.options;
  const script = 'fetch(process.argv[1]).then(a => a.text()).then(t => process.stdout.write(t))';
  const text = inside.length > 0
    ? execFileSync(inside[0], [...inside.slice(1), process.execPath, '-e', script, address], { encoding: 'utf8' })
    : await (await fetch(address)).text();
  const figures = {};
  for (const [, name, labels = '', value] of text.matchAll(/^snug_turn_([a-z_]+)(\{[^}]*\})? ([0-9.e+-]+)$/gm)) {
    figures[name + labels] = Number(value);
  }
  return figures;
}

/** All figures of one name together. */
export const total = (figures, name) =>
  Object.entries(figures).reduce((sum, [key, value]) => (key === name || key.startsWith(`${name}{`) ? sum + value : sum), 0);

export const allocations = async relay => total(await turnFigures(relay), 'allocations');

/** Waits until so many allocations live, and returns how long that took. */
export async function allocationsBecome(relay, fits, { timeout = 15_000 } = {}) {
  const since = performance.now();
  await until(
    'the number of allocations',
    async () => {
      const count = await allocations(relay);
      if (fits(count)) return true;
      throw new Error(`${count} allocations, ${JSON.stringify(await turnFigures(relay))}`);
    },
    { timeout, every: 20 },
  );
  return Math.round(performance.now() - since);
}

let seats = 0;

/** Takes a seat without a browser and returns what it may use the TURN server with. */
export async function seatWithTurn(cleanup, relay, room, { from, ca, origin = relay.origin, ...rest } = {}) {
  seats += 1;
  const local = new URL(relay.origin).hostname.startsWith('127.') ? `127.92.${seats % 250}.1` : undefined;
  const client = await WireClient.connect(cleanup, relay, { from: from ?? local, ca, origin });
  const seat = await client.join(room.roomId, { ...proofOf(room), ...rest });
  if (seat.type !== 'room_joined') throw new Error(`no seat: ${JSON.stringify(seat)}`);
  return { client, seat, ...turnOf(seat.iceServers) };
}

/** The TURN server in a list of ICE servers: host, ports by transport, and the credential. */
export function turnOf(iceServers) {
  const server = iceServers.find(one => one.credential);
  if (!server) throw new Error(`no TURN server among ${JSON.stringify(iceServers)}`);
  const ports = {};
  let host;
  for (const url of server.urls) {
    const [, scheme, name, port, transport] = url.match(/^(turns?):(.*):(\d+)\?transport=(\w+)$/);
    host = name.replace(/^\[|\]$/g, '');
    ports[scheme === 'turns' ? 'tls' : transport] = Number(port);
  }
  return { host, ports, username: server.username, password: server.credential };
}
