// Finds the room link in a text that a person pasted: a whole mail, a chat line, a link that was wrapped or rewritten on the way.
// Never guesses: a link whose secret is damaged is refused. The same as `relay/wire/src/find_link.rs`; both read `golden/links.json`.

import { readFragment, toBase64Url } from './link.js';
import { ROOM_ID, roomName } from './room-name.js';

/** @import { FoundLink } from './types.d.ts' */
/** @typedef {{ link: FoundLink, problem?: undefined } | { problem: string, link?: undefined }} Answer */
/**
 * What one place in a text says. `place`: host and room as far as they are known. `abbreviated`: the start of a link and dots.
 * `stray`: a `#` that belongs to no link; `key`: with what may be a secret behind it.
 * @typedef {{ problem: string, link: FoundLink | null, place: [string, string] | null, abbreviated?: boolean, stray?: boolean, key?: boolean }} Reading
 */
/** Where a link begins. `wrong`: a problem known before it is read. @typedef {{ scheme: string, authority: string | null, prefix: string, at: number, wrong: string }} Start */

/** In characters (code points). */
const LONGEST_TEXT = 16384;
const LONGEST_LINK = 2048;
/** With its port, and more. */
const LONGEST_HOST = 300;
const MOST_BREAKS = 6;
const MOST_LAYERS = 3;
/** Most places where a link may begin: reading on from each takes its time. */
const MOST_STARTS = 256;

/** @type {Record<string, string>} */
const ENTITIES = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: ' ', num: '#', equals: '=', colon: ':', sol: '/' };
const ENTITY = /&(?:#(\d{1,7})|#x([\da-f]{1,6})|(\w{2,6}));/gi;
const INVISIBLE = /[\xad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]/g;
// Letters and digits outside ASCII, and the accents on letters.
const FOREIGN_FIRST = /^(?![\0-\x7f])[\p{Alphabetic}\p{N}\u0300-\u036f]/u;
/** @param {string} text */
const endsForeign = (text) => FOREIGN_FIRST.test([...text.slice(-2)].at(-1) ?? '');
/** What cannot stand right before a link without being a part of it. */
const GLUE = /[.:@_\-/&%?~+#\]]$/;
const NEXT_LINK = /^[a-z][a-z\d+.-]*:\/\//i;

// Nobody escapes the alphabet of secrets: `%41` is damage and stays.
const ESCAPE = /%([01][\da-f]|2[\da-cef]|3[a-f]|40|5[b-e]|60|7[b-f])/gi;

// A `#` that is still escaped, once or more, and one that may have a secret behind it.
const HASH = /%(?:25)*23/;
const KEY = /%(?:25)*23[\w-]{16}/;

/**
 * What a person typed or pasted to enter a room: a link, or a bare name. What may be a part of a link is no name: it would open a room
 * without the link's secret.
 * @param {string} text
 * @returns {{ link?: FoundLink, roomId?: string, problem?: string }} `problem`: also `length` or `script` of a name
 */
export function readEntry(text) {
  const { link, problem } = findLink(text);
  if (link) return { link };
  if (problem !== 'link_invalid' || isTooLong(text) || /:\/\/|\/room\/|#/i.test(text)) return { problem };
  const name = roomName(text);
  return name.id ? { roomId: name.id } : { problem: name.problem ?? '' };
}

/** @param {string} text */
const isTooLong = (text) => text.length > LONGEST_TEXT && (text.length > 2 * LONGEST_TEXT || [...text].length > LONGEST_TEXT);

/**
 * @param {string} text
 * @returns {Answer} the one room link in the text, or the code of what is wrong
 */
export function findLink(text) {
  if (isTooLong(text)) return { problem: 'link_invalid' };
  let inner = tidyText(text);
  let readings = scan(inner);
  let answer = combine(readings ?? [], inner);
  for (let layer = 0; layer < MOST_LAYERS && readings && answer.problem && inner.search(ESCAPE) >= 0; layer++) {
    // An `&` that is not escaped ends the link that is: it belongs to the redirector around it.
    inner = unescape(inner.replace(/&(?!owner=)/gi, ' '), ESCAPE);
    readings = scan(inner);
    const found = combine(readings ?? [], inner, true);
    if (!readings || !found.problem || namesRoom(found.problem) || !namesRoom(answer.problem)) answer = found;
  }
  return answer;
}

/** @param {string} problem */
const namesRoom = (problem) => problem !== 'link_invalid' && problem !== 'link_no_room';

/** Undoes entities, escapes and invisible characters; a line break with what surrounds it is one `\n`. @param {string} text */
function tidyText(text) {
  for (let times = 0; times < 3; times++) {
    text = text.replace(ENTITY, (whole, decimal, hex, name) => {
      if (name) return ENTITIES[name.toLowerCase()] ?? whole;
      const code = parseInt(decimal ?? hex, decimal ? 10 : 16);
      return code > 0x10ffff ? whole : String.fromCodePoint(code);
    });
  }
  return text.replace(/\\(?=[!-/:-@[-`{-~])/g, '').replace(INVISIBLE, '')
    .replace(/[\uff01-\uff5e]/g, (c) => String.fromCharCode(c.charCodeAt(0) - 0xfee0))
    .replace(/\p{White_Space}[\p{White_Space}>|]*/gu, (run) => (/[\n\v\f\r\x85\u2028\u2029]/.test(run) ? '\n' : run.replace(/\p{White_Space}+/gu, ' ')));
}

/** @param {string} text @param {RegExp} escape */
function unescape(text, escape) {
  return text.replace(escape, (_, hex) => {
    const c = String.fromCharCode(parseInt(hex, 16));
    // An escaped line break wraps nothing.
    return c < '!' ? '"' : c;
  });
}

/** All readings, or null where there are too many. @param {string} text */
function scan(text) {
  /** @type {Reading[]} */
  const readings = [];
  let floor = 0;
  let starts = 0;
  const marks = /:\/\/|\/?room\/|#/gi;
  for (let mark; (mark = marks.exec(text));) {
    const at = mark.index;
    const before = text.slice(Math.max(floor, at - LONGEST_HOST), at);
    const start = mark[0] === '://' ? startAtScheme(before, at)
      : mark[0] === '#' ? startAtFragment(before, at)
        : mark[0][0] === '/' ? startAtPath(text, before, at)
          : /[\w.\-/]/.test(text[at - 1] ?? '') ? null : { scheme: '', authority: '', prefix: '/', at, wrong: '' };
    if (start) {
      if (++starts > MOST_STARTS) return null;
      const [reading, end] = read(text, start);
      readings.push(reading);
      floor = marks.lastIndex = Math.max(end, at + 1);
    } else {
      if (mark[0] === '#') readings.push({ ...refused('link_fragment'), stray: true, key: /^[\w-]{16}/.test(text.slice(at + 1)) });
      marks.lastIndex = at + 1;
    }
  }
  return readings;
}

/** @param {string} before @param {number} at @returns {Start | null} */
function startAtScheme(before, at) {
  const word = /[a-z\d+\-.]*$/i.exec(before)?.[0].toLowerCase();
  return word ? { scheme: /(?:https?|snug)$/.exec(word)?.[0] ?? word, authority: null, prefix: '', at: at + 3, wrong: '' } : null;
}

/** What stands before `/room/` is the host, or nothing. @param {string} text @param {string} before @param {number} at @returns {Start} */
function startAtPath(text, before, at) {
  const authority = (/(?:\[[^[]*\]|[\w.-]*)(?::\d+)$|\[[^[]*\]$|[\w.-]*$/.exec(before)?.[0] ?? '').replace(/^[._-]+/, '');
  const end = at - authority.length;
  const ahead = text.slice(Math.max(0, end - LONGEST_HOST), end);
  const wrong = !authority ? (GLUE.test(ahead.slice(-1)) || endsForeign(ahead) ? 'link_host' : '')
    : /[@%]$/.test(ahead) ? 'link_host'
      : /\/\/$/.test(ahead) ? ''
        : /\/$/.test(ahead) ? 'link_no_room'
          : endsForeign(ahead) || /:\/\/[\w.-]*\n$/.test(ahead) ? 'link_host' : '';
  return { scheme: '', authority, prefix: '', at, wrong };
}

/** What stands before `#` is the room's name. @param {string} before @param {number} at @returns {Start | null} */
function startAtFragment(before, at) {
  const room = /[a-z\d-]*$/i.exec(before)?.[0].toLowerCase() ?? '';
  const ahead = before.slice(0, before.length - room.length);
  if (ahead.endsWith('=') || GLUE.test(ahead.slice(-1)) || endsForeign(ahead) || !ROOM_ID.test(room)) return null;
  return { scheme: '', authority: '', prefix: `/room/${room}`, at, wrong: '' };
}

/**
 * Reads on over at most `breaks` line breaks, and behind `#` over spaces, which is what a line break becomes in a field of one line.
 * @param {string} text @param {Start} start @param {number} breaks @param {boolean} soft an `=` before a line break belongs to it
 */
function flatten(text, start, breaks, soft) {
  const flat = { text: start.prefix, end: start.at, breaks: 0, tooLong: false };
  let inFragment = false;
  let inAuthority = start.authority === null;
  for (; flat.end < text.length; flat.end++) {
    const c = text[flat.end];
    if (c === '\n' || (c === ' ' && inFragment)) {
      if (flat.breaks === breaks || NEXT_LINK.test(text.slice(flat.end + 1, flat.end + 20))) break;
      flat.breaks++;
      if (soft && flat.text.endsWith('=')) flat.text = flat.text.slice(0, -1);
      continue;
    }
    if (c < '!' || c > '~' || '"<>`\'(){}|^\\'.includes(c) || (!inAuthority && (c === '[' || c === ']'))) break;
    if (flat.text.length === LONGEST_LINK) {
      flat.tooLong = true;
      break;
    }
    inFragment ||= c === '#';
    inAuthority &&= c !== '/';
    flat.text += c;
  }
  return flat;
}

/** @param {Reading} reading whether nothing is missing that could be on the next line */
const isWhole = ({ link }) => Boolean(link && (link.secret || link.ownerToken));

/** The best reading, and the position behind it. @param {string} text @param {Start} start @returns {[Reading, number]} */
function read(text, start) {
  const bare = flatten(text, start, 0, false);
  const first = take(text, start, bare);
  // The name of a room, or a host, that goes on in the next line.
  const unfinished = !first.link && /(?:^|[/=-])$/.test(bare.text);
  /** @type {[Reading, number] | null} */
  let whole = isWhole(first) ? [first, bare.end] : null;
  /** @type {typeof whole} */
  let joined = null;
  /** @type {typeof whole} */
  let lost = null;
  for (let step = 2; step < 2 * MOST_BREAKS + 2; step++) {
    const breaks = step >> 1;
    const flat = flatten(text, start, breaks, step % 2 === 0);
    if (flat.breaks < breaks) break;
    const reading = take(text, start, flat);
    if (isWhole(reading)) {
      const known = whole?.[0].link;
      if (!known || (!known.ownerToken && reading.link?.ownerToken && secretOf(known) === secretOf(reading.link))) whole = [reading, flat.end];
    } else if (reading.link && unfinished && !joined) joined = [reading, flat.end];
    else if (first.link && !bare.text.includes('#') && flat.text.includes('#')) lost = [refused('link_fragment', first.place), flat.end];
  }
  return whole ?? lost ?? joined ?? [first, first.problem === 'link_no_room' ? start.at : bare.end];
}

/** @param {FoundLink | null} link */
const secretOf = (link) => (link?.secret ? toBase64Url(link.secret) : '');

/** Reads `flat`, and looks at what stands right behind it. @param {string} text @param {Start} start @param {ReturnType<typeof flatten>} flat */
function take(text, start, flat) {
  let reading = readAlone(start, flat.text);
  if (!isWhole(reading)) {
    // Quoted-printable, as far as a link needs it.
    const unescaped = readAlone(start, unescape(flat.text, /=(23|26|3d)/gi));
    if (isWhole(unescaped)) reading = unescaped;
  }
  const behind = text.slice(flat.end);
  const dots = behind[0] === '…' && !isWhole(reading);
  reading.abbreviated = dots || (!isWhole(reading) && flat.text.endsWith('...'));
  if (!reading.link) return reading;
  const hasFragment = flat.text.includes('#');
  const foreign = FOREIGN_FIRST.test(behind);
  const wrong = flat.tooLong ? 'link_fragment'
    // Scripts without spaces may go on behind a secret, whose length is known; other letters are part of a damaged one.
    : hasFragment && foreign && (behind < '\u0590' || /^[^\0-\x7f]+[\w-]/.test(behind)) ? 'link_fragment'
      : !hasFragment && foreign && !flat.text.includes('?') ? 'link_room'
        // A `#` stands where the link ended too early.
        : dots || (!hasFragment && /^(?:[ \n]?#|[^ \n"<>]*#)/.test(behind)) ? 'link_fragment' : '';
  return wrong ? { ...reading, problem: wrong, link: null } : reading;
}

/** @param {string} problem @param {Reading['place']} [place] @returns {Reading} */
const refused = (problem, place = null) => ({ problem, link: null, place });

/** @param {string} text @param {string} chars */
function trimEnd(text, chars) {
  let end = text.length;
  while (end > 0 && chars.includes(text[end - 1])) end--;
  return text.slice(0, end);
}

/** Reads a link that stands alone. @param {Start} start @param {string} flat @returns {Reading} */
function readAlone(start, flat) {
  const authority = start.authority ?? /^[^/?#]*/.exec(flat)?.[0] ?? '';
  const rest = start.authority === null ? flat.slice(authority.length) : flat;
  const hash = rest.indexOf('#');
  const before = hash < 0 ? rest : rest.slice(0, hash);
  const path = before.includes('?') ? before.slice(0, before.indexOf('?')) : hash < 0 ? trimEnd(before, '.,;:!*_~+$&@') : before;
  const name = /^\/room\//i.test(path) ? trimEnd(path.slice(6), '/').toLowerCase() : '';
  if (!name) return refused('link_no_room');
  if (start.wrong) return refused(start.wrong);
  if (!/^(?:https?|snug)?$/.test(start.scheme)) return refused('link_scheme');
  const found = authority || start.scheme ? hostAndPort(authority) : { host: null, port: null };
  if (!found) return refused('link_host');
  if (!ROOM_ID.test(name)) return refused('link_room');
  /** @type {FoundLink} */
  const link = { scheme: start.scheme || null, ...found, roomId: name, secret: null, ownerToken: null };
  const place = placeOf(link);
  if (link.scheme === 'http' && !/^(?:(?:.*\.)?localhost|127(?:\.\d+){3}|::1|::ffff:7f..:.*)$/.test(link.host ?? '')) return refused('link_insecure', place);
  // Browsers put what they are to highlight behind a fragment. The alphabet of secrets has `-` and `_`, but none ends in one.
  const fragment = hash < 0 ? null : trimEnd(rest.slice(hash + 1).split(':~:')[0], '.,;:!*_~+$&@?/%=-');
  if (fragment !== null && !readFragment(link, fragment)) return refused('link_fragment', place);
  return { problem: '', link, place };
}

/** @param {FoundLink} link @returns {[string, string]} */
function placeOf({ scheme, host, port, roomId }) {
  return [host === null ? '' : `${host} ${port ?? (scheme === 'http' ? 80 : 443)}`, roomId];
}

/** @param {string} authority @returns {{host: string, port: number | null} | null} null when it is not `HOST[:PORT]` */
function hostAndPort(authority) {
  const [, written, digits] = /^(\[[\da-f:.]+\]|[\w-]{1,63}(?:\.[\w-]{1,63})*)\.?(?::(\d{0,5}))?$/.exec(authority.toLowerCase()) ?? [];
  const port = digits ? Number(digits) : null;
  if (!written || written.length > 253 || (port !== null && (port < 1 || port > 65535))) return null;
  try {
    const host = new URL(`https://${written}`).hostname;
    // A name that the browser writes in another way is an IPv4 address in a form that hides which.
    return written[0] === '[' ? { host: host.slice(1, -1), port } : host === written ? { host, port } : null;
  } catch {
    return null;
  }
}

/**
 * @param {Reading[]} all
 * @param {string} text
 * @param {boolean} [inner] where escapes were undone, a `#` that belongs to no link is damage: the `&` before it may have been, too
 * @returns {Answer}
 */
function combine(all, text, inner = false) {
  const readings = all.some((one) => one.link && !one.abbreviated) ? all.filter((one) => !one.abbreviated) : all;
  const named = readings.filter((one) => !one.link && !one.stray && namesRoom(one.problem));
  /** @type {FoundLink | null} */
  let link = null;
  for (const { link: other } of readings) {
    if (!other) continue;
    link = link ? merge(link, other) : other;
    if (!link) return { problem: 'link_several' };
  }
  if (!link) return { problem: (named[0] ?? readings.find((one) => !one.stray) ?? readings[0])?.problem ?? 'link_invalid' };
  const [host, room] = placeOf(link);
  for (const { place, problem } of named) {
    if (!place || place[1] !== room || (host && place[0] && host !== place[0])) return { problem: 'link_several' };
    if (!link.secret) return { problem };
  }
  return !link.secret && (readings.some((one) => (inner ? one.stray : one.key)) || (inner ? HASH : KEY).test(text)) ? { problem: 'link_fragment' } : { link };
}

/** Two mentions of one room; null when they contradict each other. @param {FoundLink} one @param {FoundLink} other @returns {FoundLink | null} */
function merge(one, other) {
  const differ = (/** @type {string | null} */ a, /** @type {string | null} */ b) => a && b && a !== b;
  if (one.roomId !== other.roomId || differ(placeOf(one)[0], placeOf(other)[0]) || differ(secretOf(one), secretOf(other))
    || differ(one.ownerToken, other.ownerToken)) return null;
  const { scheme, host, port } = one.host === null ? other : one;
  return { scheme, host, port, roomId: one.roomId, secret: one.secret ?? other.secret, ownerToken: one.ownerToken ?? other.ownerToken };
}
