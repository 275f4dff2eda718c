// The list of shortcuts, where each key can be changed.
// Never accepts a key that the browser or the page needs (Space, Escape, Tab).

import { openDialog } from './dialogs.js';
import { button, h, t } from './page.js';
import { DEFAULT_KEYS, remap, shortcutSettings } from './shortcuts.js';

/** @import { Deed } from './shortcuts.js' */

/** @typedef {{change(on: boolean, keys: Record<Deed, string>): void}} Shortcuts */

/** @param {Shortcuts} shortcuts */
export function openShortcutList(shortcuts) {
  const rows = h('dl', { class: 'keys' });
  const said = h('p', { role: 'status', class: 'quiet' });

  function draw() {
    const { on, keys } = shortcutSettings();
    const deeds = /** @type {Deed[]} */ (Object.keys(DEFAULT_KEYS));
    rows.replaceChildren(...deeds.map((deed) => h('div', null,
      h('dt', null, t(`key.${deed}`)),
      h('dd', null, h('button', {
        type: 'button', class: 'key', 'data-deed': deed, 'aria-label': t('key.change', { key: keys[deed].toUpperCase(), deed: t(`key.${deed}`) }),
        onclick: (/** @type {Event} */ event) => listen(/** @type {HTMLElement} */ (event.currentTarget), deed),
      }, keys[deed].toUpperCase())))),
    ...[['key.talk', t('key.space')], ['key.close', 'Esc']].map(([label, key]) => h('div', null, h('dt', null, t(label)), h('dd', null, h('kbd', null, key)))));
    said.textContent = on ? '' : t('key.off');
  }

  /** @param {HTMLElement} target @param {Deed} deed */
  function listen(target, deed) {
    target.textContent = '…';
    said.textContent = t('key.press', { deed: t(`key.${deed}`) });
    target.addEventListener('keydown', (event) => {
      if (event.key === 'Tab') return draw();
      event.preventDefault();
      event.stopPropagation();
      if (event.key.length === 1 && event.key.trim()) {
        const { on, keys } = shortcutSettings();
        shortcuts.change(on, remap(keys, deed, event.key));
      }
      draw();
      /** @type {HTMLElement | null} */ (rows.querySelector(`[data-deed="${deed}"]`))?.focus();
    }, { once: true });
    target.addEventListener('blur', draw, { once: true });
  }

  draw();
  openDialog(t('control.shortcuts'), [h('p', null, t('key.text')), rows, said, button('', t('key.reset'), () => {
    shortcuts.change(shortcutSettings().on, { ...DEFAULT_KEYS });
    draw();
  })]);
}
