// What went wrong, in words: the cause, what the page does, and one action.
// Never shows an address or a secret.

import { t } from './page.js';

/** @import { CallEnd } from './types.d.ts' */

/** Worth another try without a press. */
const AGAIN = new Set(['SERVER_BUSY', 'DRAINING']);
const RELOAD = new Set(['VERSION_UNSUPPORTED', 'NO_WEBRTC']);

/**
 * @param {CallEnd} end @param {boolean} [triedPassword] whether the person had typed one
 * @returns {{text: string, again: boolean, action: {label: string, press: () => void} | null}}
 */
export function explain(end, triedPassword = false) {
  const { code } = end;
  // A room that asks and a room that there is not give the same answer, so only who tried a password is told that it was wrong.
  const asked = code === 'AUTH_FAILED' || code === 'AUTH_REQUIRED';
  const held = code === 'ROOM_FULL' && end.retryAfterMs !== undefined;
  const key = held ? 'ROOM_HELD' : !asked ? code : triedPassword ? 'AUTH_FAILED' : 'AUTH_REQUIRED';
  const text = t(`fail.${key}`, { n: end.maxParticipants ?? 0, s: Math.ceil((end.retryAfterMs ?? 0) / 1000) }) || t('fail.OTHER', { message: end.message || code });
  const home = code === 'BAD_LINK' || code === 'LINK_INCOMPLETE';
  const action = home ? { label: t('page.start'), press: () => location.assign('/') }
    : RELOAD.has(code) ? { label: t('fail.reload'), press: () => location.reload() } : null;
  return { text, again: held || AGAIN.has(code), action };
}
