// The invitation: the room's link, as text, through the device's share sheet, and as a QR code.
// Never gives away the owner's token: the link here is the guests' link.

import { copyField, openDialog } from './dialogs.js';
import { button, h, t } from './page.js';
import { qrSvg } from './qr.js';

/** @import { RoomInfo } from './types.d.ts' */

/** @param {{url: string, title: string, sealed: boolean, room: RoomInfo | null}} invite */
export function openInvite({ url, title, sealed, room }) {
  const canShare = typeof navigator.share === 'function';
  openDialog(t('call.invite'), [
    copyField(t('invite.link'), url, 'invite-link'),
    canShare && button('share', t('invite.share'), () => navigator.share({ title: `Snug · ${title}`, url }).catch(() => {}), { class: 'primary' }),
    h('div', { class: 'qr' }, qrSvg(url, t('invite.qr'))),
    h('p', { class: 'quiet' }, t(sealed ? 'invite.sealed' : 'privacy.unsealed')),
    room?.passwordEnabled && h('p', { class: 'quiet' }, t('invite.password')),
    room?.locked && h('p', { class: 'quiet' }, t('invite.locked')),
  ]);
}
