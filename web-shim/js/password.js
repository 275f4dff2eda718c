// A room password in the one form in which it is compared: the OpaqueString profile of RFC 8265, as PROTOCOL.md §5 has it.
// Never shortens one. The same as `relay/wire/src/password.rs`; both read `golden/passwords.json`.

import { CallError } from './errors.js';

/** Longest password, in characters of its normal form. */
export const PASSWORD_CHARS = 256;

// Control, format and private characters, halves of pairs, code points that are none, what is ignorable by default, conjoining jamo,
// exceptions of RFC 5892, and joiners in scripts that have no use for them.
const EXCLUDED = new RegExp('(?![\\u200c\\u200d])[\\p{Cc}\\p{Cs}\\p{Co}\\p{DI}\\p{NChar}\\u0600-\\u0605\\u06dd\\u070f\\u2028-\\u202e\\ufff9-\\ufffb'
  + '\\u1100-\\u11ff\\ua960-\\ua97f\\ud7b0-\\ud7ff\\u0640\\u07fa\\u302e\\u302f\\u3031-\\u3035\\u303b]|(?:^|[^\\u0600-\\u1cff])[\\u200c\\u200d]', 'u');

/**
 * @param {string} text what a person typed
 * @returns {string}
 * @throws {CallError} when it is no password, before anything is sent
 */
export function normalPassword(text) {
  const normal = text.replace(/[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]/g, ' ').normalize('NFC');
  const problem = !normal ? 'PASSWORD_EMPTY' : EXCLUDED.test(normal) ? 'PASSWORD_CHARACTER'
    : [...normal].length > PASSWORD_CHARS ? 'PASSWORD_LONG' : '';
  if (problem) throw new CallError(problem);
  return normal;
}
