// coturn's own client tools, as a second opinion on the relay's TURN server.

import { execFileSync, spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { whyWithout } from './needs.mjs';
import { until } from './until.mjs';

/**
 * The client rolls dice over what it asks for: an even port, which nobody needs who sends sound and pictures over one, and channel numbers
 * from 0x5000 on, which were taken away from TURN (RFC 8656 §12). This server refuses both, and the client gives up then. Its dice are
 * loaded: they show small, even numbers.
 */
const DICE = `
#include <stdlib.h>
#include <sys/random.h>
int RAND_bytes(unsigned char *bytes, int count) {
  if (getrandom(bytes, count, 0) != count) return 0;
  if (count == sizeof(long)) *(long *)bytes &= 0xfff;
  return 1;
}
long random(void) {
  long roll;
  if (getrandom(&roll, sizeof roll, 0) != sizeof roll) abort();
  return roll & 0xffe;
}
`;

/** Compiles the dice. Returns the environment that a tool needs to use them. */
export function loadedDice(cleanup) {
  const folder = mkdtempSync(join(tmpdir(), 'snug-dice-'));
  cleanup.add(() => rmSync(folder, { recursive: true, force: true }));
  const library = join(folder, 'dice.so');
  execFileSync('cc', ['-shared', '-fPIC', '-O1', '-x', 'c', '-', '-o', library], { input: DICE, stdio: 'pipe' });
  return { ...process.env, LD_PRELOAD: library };
}

/** Why the tools cannot be used here, or null. */
export function whyNoTools() {
  return whyWithout('coturn', 'turnutils_uclient', 'turnutils_peer', 'turnutils_stunclient') ?? whyWithout('gcc libc6-dev', 'cc');
}

/** Runs a tool to its end. A tool that hangs is ended and said to have timed out. */
export function run(program, args, { timeout = 30_000, env } = {}) {
  return new Promise((done, fail) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
    let text = '';
    child.stdout.on('data', chunk => (text += chunk));
    child.stderr.on('data', chunk => (text += chunk));
    child.on('error', fail);
    const late = setTimeout(() => child.kill('SIGKILL'), timeout);
    child.on('close', (code, signal) => {
      clearTimeout(late);
      done({ code, signal, text });
    });
  });
}

/**
 * `turnutils_uclient`: sends `messages` from each of `clients` and counts what comes back.
 *
 * Always without allocations for RTCP (`-c`), which have to have an even port. `env` is that of `loadedDice`.
 */
export async function uclient({ host, port, username, password, flags = [], clients = 2, messages = 50, length = 170, timeout, env }) {
  const args = ['-c', ...flags, '-m', clients, '-n', messages, '-l', length, '-u', username, '-w', password, '-p', port, host];
  const { code, signal, text } = await run('turnutils_uclient', args.map(String), { timeout, env });
  const all = [...text.matchAll(/tot_send_msgs=(\d+), tot_recv_msgs=(\d+)/g)].at(-1) ?? [];
  return { code, signal, text, sent: Number(all[1]), received: Number(all[2]) };
}

/** `turnutils_peer`: sends back what comes to its port. */
export async function echoPeer(cleanup, host) {
  const port = await freePort(host);
  const child = spawn('turnutils_peer', ['-L', host, '-p', String(port)], { stdio: 'ignore' });
  cleanup.add(() => child.kill('SIGKILL'));
  // It says nothing when it is ready: it is when it answers.
  const probe = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
  cleanup.add(() => probe.close());
  let answered = false;
  probe.on('message', () => (answered = true));
  probe.on('error', () => {});
  await until('the peer to answer', () => {
    probe.send('here?', port, host);
    return answered;
  }, { every: 20 });
  return port;
}

/** A UDP port that nothing had a moment ago. */
export async function freePort(host) {
  const socket = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
  await new Promise(done => socket.bind(0, host, done));
  const { port } = socket.address();
  await new Promise(done => socket.close(done));
  return port;
}
