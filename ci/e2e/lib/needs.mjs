// What a test does that lacks a tool or a right of the machine: with CI=true it fails; elsewhere it is skipped, and counted as that.
// The half of the Rust tests is ci/needs.rs.

import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

const isCi = !['', '0', 'false'].includes(process.env.CI ?? '');

/** Ends a test that cannot run here because it `why`, such as "needs root": returns where it is skipped, throws in continuous integration. */
export function skip(t, why) {
  if (isCi) throw new Error(`cannot run here, and CI is set: it ${why}`);
  t.skip(why);
}

/** Why these programs of a Debian package cannot be started, or null. */
export function whyWithout(source, ...names) {
  const missing = names.find(name => !(process.env.PATH ?? '').split(delimiter).some(folder => runs(join(folder, name))));
  return missing ? `needs ${missing}: apt-get install ${source}` : null;
}

/** Why an error of a story means that a program of the system is missing, or null. What the workspace builds is never missing but broken. */
export function whyFailed(error) {
  const [, ran, opened] = String(error?.message).match(/\bspawn(?:Sync)? (\S+) ENOENT|\bnot found at the configured executablePath \((.+?)\)/) ?? [];
  const program = ran ?? opened;
  const built = [process.env.SNUG_RELAY, process.env.SNUG_NATIVE, process.execPath];
  return program && !built.includes(program) ? `needs ${program}, which is not installed` : null;
}

function runs(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
