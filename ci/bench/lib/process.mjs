// What the kernel says about a process and all that it has started.

import { readFileSync, readdirSync } from 'node:fs';

/** Ticks of /proc a second, on every architecture we run on. */
const TICKS = 100;

/** The process and its descendants. */
export function tree(pid) {
  const children = new Map();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = Number(fields(name)?.[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const found = [pid];
  for (const one of found) found.push(...(children.get(one) ?? []));
  return found;
}

/** CPU time that a tree has used so far, in seconds, with that of its ended processes. */
export const cpu = pid =>
  tree(pid).reduce((sum, one) => sum + (fields(one)?.slice(11, 15).reduce((total, ticks) => total + Number(ticks), 0) ?? 0), 0) / TICKS;

/**
 * Memory of a tree in bytes. `pss` shares a page's cost among those who map it, so that it can be summed; `rss` counts a shared page
 * each time.
 */
export function memory(pid) {
  const sum = { rss: 0, pss: 0, processes: 0 };
  for (const one of tree(pid)) {
    const text = read(`/proc/${one}/smaps_rollup`);
    if (!text) continue;
    const bytes = name => Number(text.match(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm'))?.[1] ?? 0) * 1024;
    sum.rss += bytes('Rss');
    sum.pss += bytes('Pss');
    sum.processes += 1;
  }
  return sum;
}

/** How often threads of a tree have gone to sleep so far, those that have ended left out. */
export function sleeps(pid) {
  let sum = 0;
  for (const one of tree(pid)) {
    for (const thread of list(`/proc/${one}/task`)) {
      sum += Number(read(`/proc/${one}/task/${thread}/status`)?.match(/^voluntary_ctxt_switches:\s+(\d+)/m)?.[1] ?? 0);
    }
  }
  return sum;
}

/** Threads and open descriptors of one process. */
export function handles(pid) {
  return { threads: readdirSync(`/proc/${pid}/task`).length, descriptors: readdirSync(`/proc/${pid}/fd`).length };
}

/** The fields of /proc/PID/stat after the name, which may hold spaces: state, parent, … */
function fields(pid) {
  const text = read(`/proc/${pid}/stat`);
  return text?.slice(text.lastIndexOf(')') + 2).split(' ');
}

function list(path) {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // It ended meanwhile.
    return null;
  }
}
