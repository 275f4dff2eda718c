// The bar of the call: microphone, camera, screen, hand, chat, people, more, leave.
// Never changes the call by itself: each button calls what call-view.js gives it.

import { h, icon, setIcon, t } from './page.js';

/** @import { CallSnapshot } from './types.d.ts' */

/**
 * @typedef {{mute(): void, camera(): void, share(): void, hand(): void, chat(): void, people(): void, leave(): void, settings(): void,
 *   room(): void, layout(): void, pip(): void, list(): void}} Deeds
 */

/** @param {Deeds} on @param {{canShare: boolean, canFloat: boolean}} able */
export function controls(on, able) {
  /** @param {string} id @param {string} iconName @param {string} label @param {() => void} press @param {Record<string, unknown>} [props] */
  const control = (id, iconName, label, press, props) =>
    h('button', { id, type: 'button', class: 'control', onclick: press, title: label, ...props }, icon(iconName), h('span', null, label));

  const mute = control('mute', 'mic', t('control.mute'), on.mute);
  const camera = control('camera', 'cam', t('control.cameraOff'), on.camera);
  const share = control('share', 'share', t('control.share'), on.share, { hidden: !able.canShare });
  const hand = control('hand', 'hand', t('control.hand'), on.hand);
  const badge = h('b', { class: 'badge', hidden: true });
  const chat = control('chat-open', 'chat', t('control.chat'), on.chat, { 'aria-expanded': 'false' });
  chat.append(badge);
  const count = h('b', { class: 'count' });
  const people = control('people-open', 'people', t('control.people'), on.people, { 'aria-expanded': 'false' });
  people.append(count);
  const leave = control('leave', 'leave', t('control.leave'), on.leave);

  const layout = control('layout', 'speaker', t('control.speakerView'), on.layout, { class: 'entry' });
  const pip = control('pip', 'pip', t('control.pip'), on.pip, { class: 'entry', hidden: !able.canFloat });
  const settings = control('settings', 'settings', t('control.settings'), on.settings, { class: 'entry' });
  const room = control('room-options', 'owner', t('control.room'), on.room, { class: 'entry', hidden: true });
  const list = control('shortcuts', 'keys', t('control.shortcuts'), on.list, { class: 'entry' });
  const folded = h('div', { class: 'folded' });
  const menu = h('div', { id: 'more-menu', class: 'menu', hidden: true }, folded, layout, pip, settings, room, list);
  const more = control('more', 'more', t('control.more'), () => openMenu(menu.hidden === true), { 'aria-expanded': 'false', 'aria-controls': 'more-menu' });
  menu.addEventListener('click', () => openMenu(false));

  /** @param {boolean} open */
  function openMenu(open) {
    if (menu.hidden === !open) return;
    menu.hidden = !open;
    more.setAttribute('aria-expanded', String(open));
    if (open) /** @type {HTMLElement | null} */ (menu.querySelector('button:not([hidden])'))?.focus();
    else if (menu.contains(document.activeElement)) more.focus();
  }
  const outside = (/** @type {Event} */ event) => {
    const target = /** @type {Node} */ (event.target);
    if (!menu.contains(target) && !more.contains(target)) openMenu(false);
  };
  addEventListener('pointerdown', outside);

  const main = h('div', { class: 'bar-main' }, mute, camera, share, hand);
  const side = h('div', { class: 'bar-side' }, people, chat, more, menu);
  // On narrow screens what is needed less often moves into the menu.
  const narrow = matchMedia('(max-width: 620px)');
  const fold = () => {
    if (narrow.matches) folded.append(share, hand, people);
    else {
      main.append(share, hand);
      side.prepend(people);
    }
    main.append(leave);
  };
  narrow.addEventListener('change', fold);
  fold();

  /** @param {HTMLElement} element @param {boolean} on @param {string} iconName @param {string} title */
  function press(element, on, iconName, title) {
    element.setAttribute('aria-pressed', String(on));
    setIcon(element, iconName);
    if (element.title !== title) element.title = title;
  }

  return {
    root: h('div', { class: 'bar', role: 'group', 'aria-label': t('call.controls') }, main, side),
    mute,
    chat,
    people,
    more,
    /**
     * @param {CallSnapshot} snapshot @param {{unread: number, panel: string | null, speakerView: boolean, missing: {audio: boolean, video: boolean}}} view
     * @param {Record<string, string>} keys the shortcuts, or none when they are off
     */
    draw({ media, isOwner, remotes, room: info }, view, keys) {
      const hint = (/** @type {string} */ text, /** @type {string} */ deed) => (keys[deed] ? `${text} (${keys[deed].toUpperCase()})` : text);
      press(mute, !media.audio, media.audio ? 'mic' : 'mic-off', hint(t(media.audio ? 'control.mute' : 'control.unmute'), 'mute'));
      press(camera, !media.video, media.video ? 'cam' : 'cam-off', hint(t(media.video ? 'control.cameraOff' : 'control.cameraOn'), 'camera'));
      // The banner says why; this stays when it is closed.
      for (const [element, gone] of /** @type {[HTMLElement, boolean][]} */ ([[mute, view.missing.audio], [camera, view.missing.video]])) {
        element.classList.toggle('troubled', gone);
        if (gone) element.title = t('control.missing', { control: element.title });
      }
      press(share, media.screen, media.screen ? 'share-off' : 'share', hint(t(media.screen ? 'control.shareStop' : 'control.share'), 'share'));
      press(hand, media.hand, 'hand', hint(t(media.hand ? 'control.handDown' : 'control.hand'), 'hand'));
      press(layout, view.speakerView, view.speakerView ? 'grid' : 'speaker', t('control.speakerView'));
      share.disabled = info?.allowScreenShare === false && !media.screen;
      for (const [deed, element] of Object.entries({ mute, camera, share, hand, chat, people })) {
        if (keys[deed]) element.setAttribute('aria-keyshortcuts', keys[deed]);
        else element.removeAttribute('aria-keyshortcuts');
      }
      chat.setAttribute('aria-expanded', String(view.panel === 'chat'));
      people.setAttribute('aria-expanded', String(view.panel === 'people'));
      badge.hidden = view.unread === 0;
      badge.textContent = view.unread > 99 ? '99+' : String(view.unread);
      chat.setAttribute('aria-label', view.unread ? t('control.chatUnread', { n: view.unread }) : t('control.chat'));
      count.textContent = String(remotes.length + 1);
      room.hidden = !isOwner;
    },
    /** Whether there was a menu to close. */
    closeMenu() {
      const open = !menu.hidden;
      openMenu(false);
      return open;
    },
    dispose() {
      removeEventListener('pointerdown', outside);
      narrow.removeEventListener('change', fold);
    },
  };
}
