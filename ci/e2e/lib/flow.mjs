// When pictures and sound came to a native client, read from its log: each has a line there with the time.

const LINE = /^(\S+Z)\s+TRACE snug_core::(pictures|receive):/gm;

/** The log that `flow` reads; goes into a native client's environment. */
export const FLOW_LOG = { SNUG_LOG: 'warn,snug_core::pictures=trace,snug_core::receive=trace', NO_COLOR: '1' };

/** Milliseconds of the wall clock at which pictures were shown and sound packets came. */
export function flow(native) {
  const seen = { pictures: [], sound: [] };
  for (const [, at, what] of native.log.matchAll(LINE)) seen[what === 'pictures' ? 'pictures' : 'sound'].push(Date.parse(at));
  return seen;
}

/** The longest times between two pictures and between two sound packets, from `start` to `end`. */
export function longestGaps(native, start, end = Date.now()) {
  const longest = all => {
    let last = start;
    let gap = 0;
    for (const at of all.filter(one => one >= start && one <= end)) {
      gap = Math.max(gap, at - last);
      last = at;
    }
    return Math.max(gap, end - last);
  };
  const { pictures, sound } = flow(native);
  return { pictures: longest(pictures), sound: longest(sound) };
}

/** How long after `since` there were fresh pictures and sound for good, or null while there are not. */
export function back(native, since) {
  const { pictures, sound } = flow(native);
  const third = (all, count) => all.filter(at => at > since)[count - 1];
  const both = [third(pictures, 3), third(sound, 6)];
  return both.every(Boolean) ? Math.max(...both) - since : null;
}
