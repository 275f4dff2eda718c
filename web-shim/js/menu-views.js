// What the menu of the call opens, as one part of the page that is loaded together.
// Never holds a view of its own.

import { Pip } from './pip.js';
import { openSettings } from './settings-view.js';
import { openShortcutList } from './shortcut-list.js';

export const menuViews = { Pip, openSettings, openShortcutList };
