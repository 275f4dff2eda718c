// The page after a call: why it ended, and the way back in.
// Never keeps a device or a call open.

import { button, h, icon, roomTitle, t } from './page.js';

/** @import { App, Session, View } from './view.d.ts' */

/** @param {App} app @param {Session} session @returns {View} */
export function showLeft(app, session) {
  const title = roomTitle(session.roomId);
  document.title = `${title} · Snug`;
  const heading = h('h1', { tabindex: -1 }, t(session.ended ? 'left.ended' : 'left.title'));
  app.root.append(
    h('header', { class: 'top' }, h('span', { class: 'brand' }, icon('brand'), 'Snug')),
    h('main', { class: 'left' },
      heading,
      h('p', { id: 'left-reason' }, session.ended ?? t('left.text', { room: title })),
      h('div', { class: 'buttons' },
        button('retry', t('left.rejoin'), () => app.show('prejoin', session), { id: 'rejoin', class: 'primary' }),
        button('', t('page.start'), () => app.go('/'), { id: 'home' }))),
  );
  return { focus: heading, dispose() {} };
}
