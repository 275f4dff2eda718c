// What went wrong, in words: the cause, what the page does, and one action.
// Never shows an address or a secret.

import { t } from './page.js';

/** @import { CallEnd } from './types.d.ts' */

/** The sentences for a code; other codes get a general one with the relay's own text. */
const KEYS = /** @type {Record<string, string>} */ ({
  AUTH_FAILED: 'fail.password', AUTH_REQUIRED: 'fail.password',
  LINK_INCOMPLETE: 'fail.link', BAD_LINK: 'fail.badLink',
  ROOM_LOCKED: 'fail.locked', ROOM_FULL: 'fail.full',
  RATE_LIMITED: 'fail.rate', SERVER_BUSY: 'fail.busy', DRAINING: 'fail.draining',
  STORAGE_FULL: 'fail.storage', STORAGE_UNAVAILABLE: 'fail.storageDown', TOO_MANY_ROOMS: 'fail.rooms',
  VERSION_UNSUPPORTED: 'fail.version', NOT_OWNER: 'fail.owner', SCREEN_SHARE_DISABLED: 'fail.shareOff',
  NETWORK: 'fail.network', TIMEOUT: 'fail.timeout', RELAY_FULL: 'fail.relayFull', INSECURE: 'fail.insecure',
  KICKED: 'end.kicked', REPLACED: 'end.replaced',
});
/** Worth another try without a press. */
const AGAIN = new Set(['SERVER_BUSY', 'DRAINING']);
const RELOAD = new Set(['VERSION_UNSUPPORTED']);

/**
 * @param {CallEnd} end
 * @param {{triedPassword?: boolean, room?: string}} [context]
 * @returns {{text: string, again: boolean, action: {label: string, press: () => void} | null}}
 */
export function explain(end, context = {}) {
  let key = KEYS[end.code] ?? 'fail.other';
  if (key === 'fail.password' && !context.triedPassword) key = 'fail.passwordNeeded';
  const text = t(key, { n: end.maxParticipants ?? 0, room: context.room ?? '', message: end.message || end.code });
  const home = end.code === 'BAD_LINK' || end.code === 'LINK_INCOMPLETE';
  const action = home ? { label: t('fail.toStart'), press: () => location.assign('/') }
    : RELOAD.has(end.code) ? { label: t('fail.reload'), press: () => location.reload() } : null;
  return { text, again: AGAIN.has(end.code), action };
}
