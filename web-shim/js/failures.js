// What went wrong, in words: the cause, what the page does, and one action.
// Never shows an address or a secret.

import { t } from './page.js';

/** @import { CallEnd } from './types.d.ts' */

/** Worth another try without a press. */
const AGAIN = new Set(['SERVER_BUSY', 'DRAINING']);
/** Longest wait before a full room is asked again, since somebody else may leave first; and the wait where the relay names none. */
const FULL_MS = 5000;
/** Whatever the relay asks for, it is not asked at the speed of the network. */
const LEAST_MS = 1000;
const RELOAD = new Set(['VERSION_UNSUPPORTED', 'KEY_PROOF_INVALID', 'NO_WEBRTC']);

/**
 * @param {CallEnd} end @param {boolean} [triedPassword] whether the person had typed one
 * @returns {{text: string, again: boolean, wait: number, action: {label: string, press: () => void} | null}} `wait`: milliseconds until the
 *   next try, 0 when that is up to the person
 */
export function explain(end, triedPassword = false) {
  const { code } = end;
  // A room that asks and a room that there is not give the same answer, so only who tried a password is told that it was wrong.
  const asked = code === 'AUTH_FAILED' || code === 'AUTH_REQUIRED';
  const known = end.retryAfterMs !== undefined;
  const held = code === 'ROOM_FULL' && known;
  const key = held ? 'ROOM_HELD' : !asked ? code : triedPassword ? 'AUTH_FAILED' : 'AUTH_REQUIRED';
  const again = held || AGAIN.has(code);
  const wait = known || again ? Math.max(LEAST_MS, Math.min(end.retryAfterMs ?? FULL_MS, code === 'ROOM_FULL' ? FULL_MS : Infinity)) : 0;
  const text = t(`fail.${key}`, { n: end.maxParticipants ?? 0, s: Math.ceil(Math.max(end.retryAfterMs ?? 0, LEAST_MS) / 1000) }) || t('fail.OTHER', { message: end.message || code });
  const home = code === 'BAD_LINK' || code === 'LINK_INCOMPLETE';
  const action = home ? { label: t('page.start'), press: () => location.assign('/') }
    : RELOAD.has(code) ? { label: t('fail.reload'), press: () => location.reload() } : null;
  return { text, again, wait, action };
}
