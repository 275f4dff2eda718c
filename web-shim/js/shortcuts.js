// The keyboard shortcuts of the call: which key does what, and when keys are left alone.
// Never takes a key from a text field, a dialog, or a key combination of the browser.

import { recall, remember } from './page.js';

/** The keys as they come; a person may choose others. `space` is held to talk and cannot be moved. */
export const DEFAULT_KEYS = /** @type {const} */ ({
  mute: 'm', camera: 'v', share: 's', hand: 'h', copy: 'c', chat: 't', people: 'p', list: '?',
});
/** @typedef {keyof typeof DEFAULT_KEYS} Deed */

/** @returns {{on: boolean, keys: Record<Deed, string>}} */
export function shortcutSettings() {
  return { on: recall('shortcuts', true), keys: { ...DEFAULT_KEYS, ...recall('keys', {}) } };
}

/**
 * Gives a deed another key. A key that is taken changes places with it, so that no key does two things.
 * @param {Record<Deed, string>} keys @param {Deed} deed @param {string} key one character
 * @returns {Record<Deed, string>}
 */
export function remap(keys, deed, key) {
  const wanted = key.toLowerCase();
  const other = /** @type {Deed | undefined} */ (Object.keys(keys).find((name) => keys[/** @type {Deed} */ (name)] === wanted));
  return { ...keys, ...(other && { [other]: keys[deed] }), [deed]: wanted };
}

/**
 * @param {{key: string, ctrlKey?: boolean, metaKey?: boolean, altKey?: boolean, repeat?: boolean}} event
 * @param {Record<Deed, string>} keys @returns {Deed | null}
 */
export function deedOf(event, keys) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return null;
  const key = event.key.toLowerCase();
  return /** @type {Deed | undefined} */ (Object.keys(keys).find((name) => keys[/** @type {Deed} */ (name)] === key)) ?? null;
}

/** Whether typing belongs to what has the focus. @param {Element | null} element */
export function takesText(element) {
  if (!element) return false;
  const { tagName } = element;
  if (tagName === 'TEXTAREA' || tagName === 'SELECT') return true;
  if (tagName === 'INPUT') return !/^(checkbox|radio|button|range)$/.test(/** @type {HTMLInputElement} */ (element).type);
  return /** @type {HTMLElement} */ (element).isContentEditable === true;
}

/**
 * Listens until disposed.
 * @param {{deeds: Record<Deed, () => void>, close: () => boolean, talk: (on: boolean) => boolean}} on
 *   `talk(true)` says whether holding the space bar has an effect; `close` whether Escape closed something
 */
export function listenForShortcuts(on) {
  let { on: enabled, keys } = shortcutSettings();
  let held = false;
  // A button that was clicked keeps the focus; the space bar then means "talk". A button reached by Tab is pressed by it.
  let byPointer = true;
  const pointer = () => { byPointer = true; };

  /** @param {KeyboardEvent} event */
  function down(event) {
    if (event.key === 'Tab' || event.key.startsWith('Arrow')) byPointer = false;
    if (document.querySelector('dialog[open]')) return;
    if (event.key === 'Escape') {
      if (on.close()) event.preventDefault();
      return;
    }
    if (!enabled || takesText(document.activeElement)) return;
    if (event.key === ' ') {
      const onControl = !byPointer && document.activeElement?.matches('button, a, input, summary');
      if (onControl || event.ctrlKey || event.metaKey || event.altKey) return;
      if (!held && !event.repeat) held = on.talk(true);
      event.preventDefault();
      return;
    }
    const deed = deedOf(event, keys);
    if (!deed) return;
    event.preventDefault();
    on.deeds[deed]();
  }
  /** @param {KeyboardEvent} event */
  function up(event) {
    if (event.key !== ' ' || !enabled) return;
    // Also keeps the release from pressing a clicked button.
    if (byPointer && !takesText(document.activeElement) && !document.querySelector('dialog[open]')) event.preventDefault();
    release();
  }
  function release() {
    if (held) on.talk(false);
    held = false;
  }

  addEventListener('keydown', down);
  addEventListener('keyup', up);
  addEventListener('blur', release);
  addEventListener('pointerdown', pointer);
  return {
    /** @param {boolean} use @param {Record<Deed, string>} chosen */
    change(use, chosen) {
      enabled = use;
      keys = chosen;
      remember('shortcuts', use);
      remember('keys', chosen);
    },
    dispose() {
      release();
      removeEventListener('keydown', down);
      removeEventListener('keyup', up);
      removeEventListener('blur', release);
      removeEventListener('pointerdown', pointer);
    },
  };
}
