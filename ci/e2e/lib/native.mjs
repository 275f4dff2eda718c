// The native client as a child process: `snug join` with JSON lines for events and commands.
//
// What is tested is the release binary, driven as a shell drives it: nothing of the client is linked or imported here.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { until } from './until.mjs';

export const nativeBinary = () => {
  const target = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL('../../../target', import.meta.url));
  const path = process.env.SNUG_NATIVE ?? join(target, 'release/snug');
  if (!existsSync(path)) throw new Error(`no native client at ${path}: build it with \`cargo build --release -p snug\` or set SNUG_NATIVE`);
  return path;
};

/** A folder for recordings, removed when the test is over. */
export function recordings(cleanup) {
  return folder(cleanup, 'recordings');
}

/** A folder in which one person's client keeps who it is, removed when the test is over. */
export function state(cleanup) {
  return folder(cleanup, 'state');
}

function folder(cleanup, what) {
  const path = mkdtempSync(join(tmpdir(), `snug-${what}-`));
  cleanup.add(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Natives on stage in the running test, for the evidence when it fails. */
export const natives = new Set();

export class Native {
  /** Every line it printed, as an object with the time `at` which it was read. */
  events = [];
  log = '';
  exit = null;
  #rest = '';

  constructor(child, name) {
    this.child = child;
    this.name = name;
    this.started = performance.now();
    child.stderr.on('data', chunk => (this.log += chunk));
    child.stdout.on('data', chunk => this.#read(chunk));
    child.stdin.on('error', () => {});
    this.exited = new Promise(done =>
      // `close` comes after the last line was read.
      child.on('close', (code, signal) => {
        this.exit = { code, signal };
        done(this.exit);
      }),
    );
    natives.add(this);
  }

  #read(chunk) {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop();
    for (const line of lines) this.events.push({ at: performance.now(), ...JSON.parse(line) });
  }

  get pid() {
    return this.child.pid;
  }

  say(command, fields = {}) {
    this.child.stdin.write(`${JSON.stringify({ command, ...fields })}\n`);
  }

  /** Waits until it has printed such an event, before or from here on. */
  saw(event, fits = () => true, { timeout = 30_000, after = 0 } = {}) {
    return until(
      `${this.name} to say ${event}`,
      () => {
        const found = this.events.find(one => one.event === event && one.at >= after && fits(one));
        if (!found && this.exit) throw new Error(`it ended with ${JSON.stringify(this.exit)} after ${this.tail()}`);
        if (!found) throw new Error(this.tail());
        return found;
      },
      { timeout, every: 10 },
    );
  }

  /** The call as it sees it. */
  async snapshot({ timeout } = {}) {
    const after = performance.now();
    this.say('snapshot');
    return this.saw('snapshot', () => true, { after, timeout });
  }

  /** Waits for a snapshot that fits. */
  shows(what, fits, { timeout = 30_000 } = {}) {
    return until(
      `${this.name} to show ${what}`,
      async () => {
        const snapshot = await this.snapshot();
        if (fits(snapshot)) return snapshot;
        throw new Error(`${JSON.stringify(snapshot)}; ${this.log.slice(-1000)}`);
      },
      { timeout, every: 200 },
    );
  }

  /** Waits until it sees and hears `others` people, and returns them. */
  async seesAndHears(others, { timeout = 60_000, pictures = 5 } = {}) {
    const good = one => one.link === 'connected' && one.pictures >= pictures && one.levelDb > -50;
    const snapshot = await this.shows(`${others} others`, shown => shown.participants.filter(good).length >= others, { timeout });
    return snapshot.participants.filter(good);
  }

  /** Leaves the room as a person does, and waits for the end. */
  async leave() {
    if (!this.exit) this.say('leave');
    return this.ends();
  }

  async ends(timeout = 20_000) {
    await until(`${this.name} to end`, () => this.exit, { timeout, every: 10 });
    return { ...this.exit, ended: this.events.findLast(one => one.event === 'ended') };
  }

  async kill(signal = 'SIGKILL') {
    this.child.kill(signal);
    await this.exited;
  }

  tail() {
    return `${JSON.stringify(this.events.slice(-4))} ${this.log.slice(-500)}`;
  }
}

/**
 * Joins a room natively. Without other wishes it shows the moving pattern and sends a tone of 440 Hz.
 *
 * `inside` is a command prefix, such as `ip netns exec …`. `keeps` is the folder in which it keeps who it is; without one it is a
 * person of its own.
 */
export function native(cleanup, name, url, { video = 'test', audio = 'tone', record, password, ca, keeps = state(cleanup), args = [], inside = [], env = {} } = {}) {
  const options = ['--name', name, '--video', video, '--audio', audio, '--json', '--loopback'];
  if (record) options.push('--record', record);
  if (password) options.push('--password', password);
  if (ca) options.push('--ca', ca);
  const command = [...inside, nativeBinary(), 'join', url, ...options, ...args];
  const child = spawn(command[0], command.slice(1), { stdio: ['pipe', 'pipe', 'pipe'], env: { SNUG_LOG: 'warn', ...process.env, SNUG_STATE_DIR: keeps, ...env } });
  const someone = new Native(child, name);
  cleanup.add(() => someone.exit ?? someone.kill());
  return someone;
}
