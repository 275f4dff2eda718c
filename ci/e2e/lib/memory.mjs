// Looks for a text in the memory of a process, as somebody who has taken over the machine would.

import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

const CHUNK = 1 << 22;

/** How often each of these texts is found in the writable memory of a process. Needs the right to read it. */
export function findInMemory(pid, texts) {
  const needles = texts.map(text => Buffer.from(text));
  const longest = Math.max(...needles.map(needle => needle.length));
  const found = Object.fromEntries(texts.map(text => [text, 0]));
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const region = line.match(/^([0-9a-f]+)-([0-9a-f]+) rw/);
      if (!region || line.includes('[vvar')) continue;
      const end = parseInt(region[2], 16);
      const buffer = Buffer.alloc(CHUNK + longest);
      for (let at = parseInt(region[1], 16); at < end; at += CHUNK) {
        const wanted = Math.min(CHUNK + longest, end - at);
        let read = 0;
        try {
          read = readSync(memory, buffer, 0, wanted, at);
        } catch {
          // A region may have been given back since the list was read.
          break;
        }
        const bytes = buffer.subarray(0, read);
        needles.forEach((needle, number) => {
          for (let place = bytes.indexOf(needle); place !== -1 && place < CHUNK; place = bytes.indexOf(needle, place + 1)) found[texts[number]] += 1;
        });
      }
    }
  } finally {
    closeSync(memory);
  }
  return found;
}
