// Text that people typed and other people will see: cleaning of names and chat, and the web addresses in it.
// Never decides how text is drawn; the view puts it into text nodes only.

/** Longest display name, in characters. */
export const NAME_CHARS = 64;
/** Longest chat message, in characters (code points). */
export const CHAT_CHARS = 4000;

// Control characters, zero-width characters (but the joiner that builds emoji) and everything that changes the direction of the text around it.
const UNSAFE = /(?!\p{White_Space})[\p{Cc}\u061c\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu;
/** Characters that draw nothing (golden/blank.json): a name of these alone is no name. */
const BLANK = /^[\p{White_Space}\p{Cc}\p{Default_Ignorable_Code_Point}\u2800\ufff9-\ufffb\u{13441}\u{13442}\u{1d159}]*$/u;

/** One line of at most 64 characters; empty when nothing of it can be seen. @param {string} text */
export function cleanName(text) {
  const name = cut(text.replace(UNSAFE, '').replace(/\p{White_Space}+/gu, ' ').trim(), NAME_CHARS);
  return BLANK.test(name) ? '' : name;
}

/** At most 4,000 characters; line breaks stay. @param {string} text */
export function cleanChat(text) {
  return cut(tidy(text), CHAT_CHARS);
}

/** How long a message is in the unit of its limit: characters, after cleaning. @param {string} text */
export function chatLength(text) {
  return [...tidy(text)].length;
}

/** @param {string} text */
function tidy(text) {
  return text.replace(UNSAFE, '').replace(/\r\n?|[\u2028\u2029]/g, '\n').trim();
}

/** @param {string} text @param {number} max */
function cut(text, max) {
  return text.length <= max ? text : [...text].slice(0, max).join('').trimEnd();
}

// White space, quotes and the punctuation of East Asian text end an address.
const ADDRESS = /\bhttps?:\/\/[^\s<>"`“”„‟«»‹›\u3000-\u3003\u3008-\u3011\u3014-\u301f\uff01\uff08\uff09\uff0c\uff0e\uff1a\uff1b\uff1f\uff3b\uff3d\uff5b\uff5d\uff5e\uff61-\uff65]+/giu;
/** @type {Record<string, string>} */
const OPENING = { ')': '(', ']': '[', '}': '{' };

/**
 * Splits text at its http(s) addresses. Punctuation after an address belongs to the sentence; a closing bracket does when it closes
 * none that was opened within the address.
 * @param {string} text @returns {{ text: string, address: boolean }[]}
 */
export function splitAddresses(text) {
  const parts = [];
  let end = 0;
  for (const { 0: match, index } of text.matchAll(ADDRESS)) {
    const address = withoutTail(match);
    if (!isUrl(address)) continue;
    parts.push({ text: text.slice(end, index), address: false }, { text: address, address: true });
    end = index + address.length;
  }
  parts.push({ text: text.slice(end), address: false });
  return parts.filter((part) => part.text);
}

/** @param {string} match */
function withoutTail(match) {
  /** How often each character is in what is left. @type {Record<string, number>} */
  const count = {};
  for (const c of match) count[c] = (count[c] ?? 0) + 1;
  let end = match.length;
  for (; end > 0; end--) {
    const last = match[end - 1];
    const opening = OPENING[last];
    if (opening ? count[last] <= (count[opening] ?? 0) : !/[.,:;!?'*…‘’|([{]/.test(last)) break;
    count[last]--;
  }
  return match.slice(0, end);
}

/** @param {string} text */
function isUrl(text) {
  try {
    return Boolean(new URL(text));
  } catch {
    return false;
  }
}
