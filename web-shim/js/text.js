// Cleaning of text that people typed and other people will see: names and chat.
// Never decides how text is drawn; the view puts it into text nodes only.

/** Longest display name, in characters. */
export const NAME_CHARS = 64;
/** Longest chat message, in characters. */
export const CHAT_CHARS = 4000;

// Control characters, zero-width characters (but the joiner that builds emoji) and everything that changes the direction of the text around it.
const UNSAFE = /(?!\p{White_Space})[\p{Cc}\u061c\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu;

/** One line of at most 64 characters. @param {string} text */
export function cleanName(text) {
  return cut(text.replace(UNSAFE, '').replace(/\p{White_Space}+/gu, ' ').trim(), NAME_CHARS);
}

/** At most 4,000 characters; line breaks stay. @param {string} text */
export function cleanChat(text) {
  return cut(text.replace(UNSAFE, '').replace(/\r\n?|[\u2028\u2029]/g, '\n').trim(), CHAT_CHARS);
}

/** @param {string} text @param {number} max */
function cut(text, max) {
  return text.length <= max ? text : [...text].slice(0, max).join('').trimEnd();
}
