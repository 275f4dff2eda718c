// A slow processor: a browser with all its processes that may run only for a share of the time.

import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { tree } from '../../bench/lib/process.mjs';

const GROUPS = '/sys/fs/cgroup/cpu';
const PERIOD_US = 60_000;

/**
 * Holds a process and its descendants to `share` of one processor: by a quota of the kernel, or
 * where none may be set by stopping and
 * continuing them all.
 */
export function slow(cleanup, pid, share) {
  const group = `${GROUPS}/snug-slow-${process.pid}-${pid}`;
  try {
    mkdirSync(group);
    writeFileSync(`${group}/cpu.cfs_period_us`, String(PERIOD_US));
    writeFileSync(`${group}/cpu.cfs_quota_us`, String(Math.round(PERIOD_US * share)));
    for (const one of tree(pid)) writeFileSync(`${group}/cgroup.procs`, String(one));
    cleanup.add(() => {
      // A group goes only when nobody is in it.
      writeFileSync(`${group}/cpu.cfs_quota_us`, '-1');
      for (const one of readFileSync(`${group}/cgroup.procs`, 'utf8').split('\n').filter(Boolean)) {
        try {
          writeFileSync(`${GROUPS}/cgroup.procs`, one);
        } catch {
          // It ended meanwhile.
        }
      }
      rmdirSync(group);
    });
    return 'quota';
  } catch {
    dutyCycle(cleanup, pid, share);
    return 'stop and continue';
  }
}

function dutyCycle(cleanup, pid, share) {
  const period = PERIOD_US / 1000;
  let next;
  const turn = on => {
    for (const one of tree(pid)) {
      try {
        process.kill(one, on ? 'SIGCONT' : 'SIGSTOP');
      } catch {
        // It ended meanwhile.
      }
    }
    next = setTimeout(turn, on ? period * share : period * (1 - share), !on);
  };
  turn(false);
  cleanup.add(() => {
    clearTimeout(next);
    turn(true);
    clearTimeout(next);
  });
}
