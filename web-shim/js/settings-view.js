// The call's settings: devices, looks, language, what is read out, and shortcuts.
// Never sends a setting anywhere: all of them stay in this browser.

import { deviceMenus } from './device-menus.js';
import { openDialog } from './dialogs.js';
import { applyTheme, button, field, h, languageSwitch, recall, remember, t, toggle } from './page.js';
import { openShortcutList } from './shortcut-list.js';
import { shortcutSettings } from './shortcuts.js';

/** @import { Devices } from './devices.js' */
/** @import { Notices } from './notices.js' */
/** @import { Shortcuts } from './shortcut-list.js' */
/** @import { Stage } from './stage.js' */

/**
 * @param {{devices: Devices, notices: Notices, stage: Stage,
 *   shortcuts: Shortcuts, refresh: () => void}} tools
 */
export function openSettings({ devices, notices, shortcuts, refresh }) {
  const menus = deviceMenus(devices);
  const theme = h('select', { id: 'theme', onchange: () => { remember('theme', theme.value); applyTheme(theme.value); } },
    ...['auto', 'light', 'dark'].map((name) => h('option', { value: name }, t(`theme.${name}`))));
  theme.value = recall('theme', 'auto');
  const language = languageSwitch(refresh);
  language.removeAttribute('aria-label');

  openDialog(t('control.settings'), [
    h('section', null, h('h3', null, t('settings.devices')), menus.root),
    h('section', null, h('h3', null, t('settings.looks')), field(t('settings.theme'), theme), field(t('page.language'), language)),
    h('section', null, h('h3', null, t('settings.notices')),
      toggle(t('settings.announce'), recall('announce', true), (on) => { remember('announce', on); notices.applyLoudness(); })),
    h('section', null, h('h3', null, t('settings.keys')),
      toggle(t('settings.shortcuts'), shortcutSettings().on, (on) => shortcuts.change(on, shortcutSettings().keys)),
      button('keys', t('control.shortcuts'), () => openShortcutList(shortcuts))),
  ], { onclose: menus.dispose });
}
