// What the page tells people during a call: short notices, lasting banners, and the two things that may interrupt.
// Never floods: notices wait their turn and are gathered when many come at once.

import { button, h, icon, iconButton, recall, t } from './page.js';

const EVERY_MS = 1500;
const STAY_MS = 6000;
const AT_MOST = 3;

export class Notices {
  /** @type {{text: string, iconName: string}[]} */
  #waiting = [];
  #last = -EVERY_MS;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {Map<string, HTMLElement>} */
  #banners = new Map();

  constructor() {
    this.root = h('div', { id: 'notices', class: 'notices' });
    this.banner = h('div', { id: 'banner', class: 'banner', role: 'status' });
    // For screen readers alone, and only for "you are muted" and "you are disconnected".
    this.urgent = h('div', { class: 'unseen', role: 'alert' });
    this.applyLoudness();
  }

  /** Reading notices out can be switched off; they stay visible. */
  applyLoudness() {
    this.root.setAttribute('aria-live', recall('announce', true) ? 'polite' : 'off');
  }

  /** @param {string} text @param {string} [iconName] */
  say(text, iconName = '') {
    this.#waiting.push({ text, iconName });
    this.#next();
  }

  #next() {
    if (this.#timer || !this.#waiting.length) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const notice = this.#waiting.shift();
      if (!notice) return;
      // More than the page can tell one after the other: the rest becomes one line.
      if (this.#waiting.length > AT_MOST) {
        const more = this.#waiting.splice(0).length;
        notice.text += ` · ${t('notice.more', { n: more })}`;
      }
      this.#last = performance.now();
      const line = h('p', null, notice.iconName && icon(notice.iconName), h('span', null, notice.text));
      this.root.append(line);
      while (this.root.children.length > AT_MOST) this.root.firstElementChild?.remove();
      setTimeout(() => line.remove(), STAY_MS);
      this.#next();
    }, Math.max(0, this.#last + EVERY_MS - performance.now()));
  }

  /** @param {string} text */
  interrupt(text) {
    this.urgent.textContent = text;
  }

  /**
   * A lasting line, until it is cleared.
   * @param {string} key one line each @param {string} text
   * @param {{label: string, press: () => void} | null} [action] @param {boolean} [closable]
   * @param {{label: string, press: () => void} | null} [other] a second action
   */
  show(key, text, action, closable, other) {
    const old = this.#banners.get(key);
    if (old?.dataset.text === text) return;
    old?.remove();
    const line = h('div', { class: 'banner-line', 'data-text': text, 'data-banner': key }, icon('warn'), h('p', null, text),
      action ? button('', action.label, action.press, { class: 'small' }) : null,
      other ? button('', other.label, other.press, { class: 'small' }) : null,
      closable ? iconButton('close', t('page.close'), () => this.clear(key)) : null);
    this.#banners.set(key, line);
    this.banner.append(line);
  }

  /** @param {string} key */
  clear(key) {
    this.#banners.get(key)?.remove();
    this.#banners.delete(key);
  }

  dispose() {
    clearTimeout(this.#timer);
  }
}
