// A relay on a machine that lacks some of the addresses it is told to listen on: it serves the others, and says so.
//
// Two kinds of machines without IPv6: a kernel that makes no such sockets (simulated by a shim under the relay's libc),
// and one whose interfaces have no such addresses (a network namespace with `disable_ipv6`).

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { certificate } from './lib/certificate.mjs';
import { whyNot } from './lib/lab.mjs';
import { dataDir, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';
import { until } from './lib/until.mjs';

/** What a kernel booted with `ipv6.disable=1` answers to socket(AF_INET6, …). */
const SHIM = `
#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
int socket(int domain, int type, int protocol) {
  if (domain == AF_INET6) { errno = EAFNOSUPPORT; return -1; }
  return syscall(SYS_socket, domain, type, protocol);
}
`;

/** A command prefix under which programs find a kernel without IPv6. */
function withoutIpv6(cleanup) {
  const folder = mkdtempSync(join(tmpdir(), 'snug-shim-'));
  cleanup.add(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'shim.c'), SHIM);
  execFileSync('cc', ['-shared', '-fPIC', '-o', join(folder, 'shim.so'), join(folder, 'shim.c')]);
  return ['env', `LD_PRELOAD=${join(folder, 'shim.so')}`];
}

const binary = () => process.env.SNUG_RELAY ?? join(process.env.CARGO_TARGET_DIR ?? join(import.meta.dirname, '../../target'), 'release/snug-relay');

/** A relay that is expected to end by itself: its exit code and what it said. */
function ended(cleanup, args, inside = []) {
  const command = [...inside, binary(), '--data-dir', dataDir(cleanup), '--metrics-listen', 'off', '--quiet', ...args];
  const { status, stderr } = spawnSync(command[0], command.slice(1), { encoding: 'utf8', timeout: 20_000, env: { ...process.env, NO_COLOR: '1' } });
  return { status, stderr };
}

/** Whether a STUN server answers at this UDP port of 127.0.0.1. */
async function answersStun(port) {
  const socket = createSocket('udp4');
  const request = Buffer.concat([Buffer.from('000100002112a442', 'hex'), Buffer.from('snug a test!')]);
  const answered = once(socket, 'message', { signal: AbortSignal.timeout(5000) }).then(([bytes]) => bytes.readUInt16BE(0) === 0x0101, () => false);
  socket.send(request, port, '127.0.0.1');
  return answered.finally(() => socket.close());
}

/** The relay's own account of itself, by HTTPS with the test's certificate, seen from `inside`. */
function healthOf(origin, { pem, folder }, inside = []) {
  const ask = `fetch(${JSON.stringify(`${origin}/health`)}).then(answer => answer.text()).then(console.log)`;
  const command = [...inside, process.execPath, '-e', ask];
  const ca = join(folder, 'ca.pem');
  writeFileSync(ca, pem);
  return JSON.parse(execFileSync(command[0], command.slice(1), { encoding: 'utf8', env: { ...process.env, NODE_EXTRA_CA_CERTS: ca } }));
}

/** A certificate, and a folder for the copy that other programs read. */
const trusted = cleanup => ({ ...certificate(cleanup), folder: dataDir(cleanup) });
const here = (origin) => origin.replace('0.0.0.0', '127.0.0.1').replace('[::]', '127.0.0.1');
const PUBLIC = ['--public-url', 'https://localhost'];

scenario('on a kernel without IPv6 every [::] listener serves IPv4, and the log says which and why', async cleanup => {
  const tls = trusted(cleanup);
  const relay = await startRelay(cleanup, {
    host: '[::]',
    turnListen: '[::]:0',
    metrics: '[::]:0',
    inside: withoutIpv6(cleanup),
    args: [...tls.args, ...PUBLIC, '--turn-tls-listen', '[::]:0', '--quic-listen', '[::]:0'],
  });
  assert.match(relay.log, /listening on https:\/\/0\.0\.0\.0:\d+/);
  for (const option of ['--listen', '--metrics-listen', '--quic-listen', '--turn-listen', '--turn-tls-listen']) {
    const line = relay.log.split('\n').find(line => line.includes('WARN') && line.includes(` ${option} [::]:0`));
    assert.match(line ?? '', /this system has no IPv6; 0\.0\.0\.0:0 takes its place/, `${option}\n${relay.log}`);
  }
  await until('QUIC to be served', () => /listening on quic:\/\/0\.0\.0\.0:\d+/.test(relay.log));
  const health = healthOf(here(relay.origin), tls);
  assert.equal(health.status, 'ok', 'nothing is missing that a guest could use');
  const turn = [...relay.log.matchAll(/STUN and TURN on \S+:(\d+)/g)];
  assert.equal(turn.length, 1);
  assert.equal([...relay.log.matchAll(/TURN over TLS on/g)].length, 1);
  assert.ok(await answersStun(Number(turn[0][1])));
  const [, metrics] = relay.log.match(/metrics on (http:\S+)/);
  assert.ok((await fetch(here(metrics))).ok);
});

scenario('the documented pair of listeners starts on a kernel without IPv6, and so does a pair with a named address', async cleanup => {
  const inside = withoutIpv6(cleanup);
  const tls = trusted(cleanup);
  for (const extra of ['[::]:0', '[::1]:0', '[2001:db8::1]:0']) {
    const relay = await startRelay(cleanup, { host: '0.0.0.0', inside, turnListen: '127.0.0.1:0', args: [...tls.args, ...PUBLIC, '--listen', extra] });
    assert.equal(healthOf(here(relay.origin), tls).status, 'ok', extra);
    assert.ok(relay.log.includes(`--listen ${extra} cannot be had, because this system has no IPv6; the other addresses are served`), relay.log);
    assert.equal((await relay.stop()).code, 0);
  }
});

scenario('an address that no interface has is said, of every kind of listener, and the others are served', async cleanup => {
  const tls = trusted(cleanup);
  // TEST-NET-3 (RFC 5737).
  const absent = '203.0.113.7:0';
  const relay = await startRelay(cleanup, {
    metrics: absent,
    args: [...tls.args, '--listen', absent, '--quic-listen', absent, '--turn-listen', absent, '--turn-tls-listen', '127.0.0.1:0', '--turn-tls-listen', absent],
  });
  for (const option of ['--listen', '--metrics-listen', '--quic-listen', '--turn-listen', '--turn-tls-listen']) {
    assert.ok(relay.log.includes(` ${option} ${absent} cannot be had, because no interface of this machine has that address`), `${option}\n${relay.log}`);
  }
  assert.equal(healthOf(relay.origin, tls).turn.status, 'ok');
});

scenario('where nothing is left to listen on the relay ends, and says so', async cleanup => {
  for (const [address, inside] of [['[::1]:0', withoutIpv6(cleanup)], ['203.0.113.7:0', []]]) {
    const { status, stderr } = ended(cleanup, ['--listen', address, ...certificate(cleanup).args], inside);
    assert.equal(status, 1, stderr);
    assert.ok(stderr.includes(`cannot listen on ${address}: this machine has none of these addresses; give one that it has with --listen`), stderr);
    assert.doesNotMatch(stderr, /another program|another relay/);
  }
});

scenario('a port that another program has is told as that', async cleanup => {
  const holder = createServer();
  holder.listen(0, '127.0.0.1');
  await once(holder, 'listening');
  cleanup.add(() => holder.close());
  const address = `127.0.0.1:${holder.address().port}`;
  const { status, stderr } = ended(cleanup, ['--listen', address, '--no-turn']);
  assert.equal(status, 1);
  assert.ok(stderr.includes(`cannot listen on ${address}: another program has it`), stderr);
});

const skip = whyNot() ?? false;
if (skip) console.log(`skipped: a network without IPv6 addresses, because this ${skip}`);

scenario('in a network whose interfaces have no IPv6 addresses every listener serves IPv4', { skip }, async cleanup => {
  const name = `snugv4${process.pid}`;
  execFileSync('ip', ['netns', 'add', name]);
  cleanup.add(() => execFileSync('ip', ['netns', 'del', name]));
  const inside = ['ip', 'netns', 'exec', name];
  const run = (...command) => execFileSync(inside[0], [...inside.slice(1), ...command], { stdio: 'pipe' });
  run('sysctl', '-qw', ...['all', 'default', 'lo'].map(scope => `net.ipv6.conf.${scope}.disable_ipv6=1`));
  run('ip', 'link', 'set', 'lo', 'up');
  const tls = trusted(cleanup);
  const relay = await startRelay(cleanup, {
    host: '[::]',
    inside,
    turnListen: '[::]:0',
    args: [...tls.args, ...PUBLIC, '--listen', '[::1]:0'],
  });
  assert.match(relay.log, /--listen \[::1\]:0 cannot be had, because no interface of this machine has that address/);
  assert.match(relay.log, /--turn-listen \[::\]:0 cannot be had, because no interface has an IPv6 address; 0\.0\.0\.0:0 takes its place/);
  // [::] can be bound there, and takes IPv4.
  const health = healthOf(here(relay.origin), tls, inside);
  assert.equal(health.turn.status, 'ok', JSON.stringify(health));
});
