// The real relay binary as a child process on a port of its own choosing.
//
// Tests never talk to anything but the release binary: what is tested is what is shipped.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './until.mjs';

const binary = () => {
  const target = process.env.CARGO_TARGET_DIR ?? join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../../../target');
  const path = process.env.SNUG_RELAY ?? join(target, 'release/snug-relay');
  if (!existsSync(path)) throw new Error(`no relay at ${path}: build it with \`cargo build --release\` or set SNUG_RELAY`);
  return path;
};

/** A folder for the relay's store, removed when the test is over. */
export function dataDir(cleanup) {
  const path = mkdtempSync(join(tmpdir(), 'snug-e2e-'));
  cleanup.add(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export class Relay {
  /** Everything it printed: `log` is standard error, `printed` standard output. */
  log = '';
  printed = '';
  exit = null;

  constructor(child, options) {
    this.child = child;
    this.options = options;
    child.stderr.on('data', chunk => (this.log += chunk));
    child.stdout.on('data', chunk => (this.printed += chunk));
    this.exited = new Promise(done =>
      child.on('exit', (code, signal) => {
        this.exit = { code, signal };
        done(this.exit);
      }),
    );
  }

  get pid() {
    return this.child.pid;
  }

  get ws() {
    return this.origin.replace(/^http/, 'ws') + '/ws';
  }

  /** What it prints when it is asked for a link to a room. */
  printLink() {
    const { host, args } = this.options;
    return execFileSync(binary(), ['--print-link', '--listen', `${host}:${this.port}`, ...args], { encoding: 'utf8' });
  }

  /** Kills it as a crash or a power cut would. */
  async kill() {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  /** Asks it to stop. Resolves once it has gone. */
  async stop(signal = 'SIGTERM') {
    if (this.exit) return this.exit;
    this.child.kill(signal);
    const late = setTimeout(() => this.child.kill('SIGKILL'), 35_000);
    const exit = await this.exited;
    clearTimeout(late);
    return exit;
  }

  /** One figure of its memory, in bytes, from the kernel. */
  memory(field = 'VmRSS') {
    const line = readFileSync(`/proc/${this.pid}/status`, 'utf8').match(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm'));
    return Number(line[1]) * 1024;
  }
}

/**
 * Starts a relay and waits until it listens.
 *
 * `port` 0 lets the system choose; a test that restarts a relay passes the old port and data folder. `inside` is a command
 * prefix, such as `ip netns exec …`. `turnListen` is where its own TURN server listens: a port of its own, since relays of tests that run
 * side by side would meet at the default one; null leaves it to the relay.
 */
export async function startRelay(cleanup, { data, port = 0, host = '127.0.0.1', log = 'info', args = [], inside = [], turnListen = `${host}:0`, metrics = '127.0.0.1:0' } = {}) {
  const options = { data: data ?? dataDir(cleanup), host, log, args, inside, turnListen, metrics };
  const command = [
    ...inside,
    binary(),
    '--listen',
    `${host}:${port}`,
    '--data-dir',
    options.data,
    '--metrics-listen',
    metrics,
    '--log-level',
    log,
    '--no-qr',
    ...(turnListen ? ['--turn-listen', turnListen] : []),
    ...args,
  ];
  const child = spawn(command[0], command.slice(1), {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1' },
  });
  const relay = new Relay(child, options);
  cleanup.add(() => relay.exit ?? relay.kill());
  const found = await until(
    'the relay to listen',
    () => {
      if (relay.exit) throw new Error(`the relay stopped: ${JSON.stringify(relay.exit)}\n${relay.log}`);
      return relay.log.match(/listening on (https?:\/\/[^\s"]+)/);
    },
    { timeout: 20_000, every: 20 },
  ).catch(error => {
    throw new Error(`${error.message}\n${relay.log}`);
  });
  relay.origin = found[1].replace(/\/$/, '');
  relay.port = Number(new URL(relay.origin).port);
  return relay;
}

/** The same relay again: same port, same store. */
export const restartRelay = (cleanup, relay, { args = relay.options.args } = {}) =>
  startRelay(cleanup, { ...relay.options, args, port: relay.port });

let rooms = 0;

/** A room nobody used before, as the three parts that tests need. */
export function newRoom(relay, { sealed = true, origin = relay.origin } = {}) {
  const roomId = `test-room-${process.pid}-${++rooms}`;
  const secret = sealed ? Buffer.from(globalThis.crypto.getRandomValues(new Uint8Array(16))).toString('base64url') : null;
  return { roomId, secret, url: `${origin}/room/${roomId}${secret ? `#${secret}` : ''}` };
}
