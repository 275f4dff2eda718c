// The parts of the page that a guest may never open, loaded when somebody comes near them, with the words they need.
// Never part of what the call itself needs: where the relay is away, they may be missing.

import { loadWordsOnDemand } from './page.js';

/**
 * Each takes what makes its address another one. A part is a file of its own, and its name is the module's (relay/build/join.rs).
 * @satisfies {Record<string, (again: string) => Promise<unknown>>}
 */
const PARTS = {
  invite: (/** @type {string} */ again) => /** @type {Promise<typeof import('./invite-view.js')>} */ (import(`./invite-view.js${again}`)),
  menu: (/** @type {string} */ again) => /** @type {Promise<typeof import('./menu-views.js')>} */ (import(`./menu-views.js${again}`)),
  owner: (/** @type {string} */ again) => /** @type {Promise<typeof import('./owner-view.js')>} */ (import(`./owner-view.js${again}`)),
};
/** @typedef {keyof typeof PARTS} Part */

/** @type {Map<string, Promise<any>>} */
const loaded = new Map();
let failures = 0;

/**
 * @template {Part} P
 * @param {P} part
 * @returns {ReturnType<typeof PARTS[P]>} rejects when the relay does not answer; the next call tries again
 */
export function loadPart(part) {
  return /** @type {ReturnType<typeof PARTS[P]>} */ (Promise.all([once(part, PARTS[part]), once(document.documentElement.lang, loadWordsOnDemand)]).then(([views]) => views));
}

/**
 * What was loaded stays. A browser may remember that an import failed for as long as the page lives, so it is tried again under
 * another address.
 * @param {string} key @param {(again: string) => Promise<unknown>} load
 */
function once(key, load) {
  const known = loaded.get(key);
  if (known) return known;
  const loading = load(failures ? `?${failures}` : '');
  loaded.set(key, loading);
  loading.catch(() => {
    loaded.delete(key);
    failures += 1;
  });
  return loading;
}

/** Loads a part when the pointer or the focus comes to the element, so that it is there with the press. @param {HTMLElement} element @param {Part} part */
export function loadNear(element, part) {
  for (const sign of ['pointerenter', 'focus']) element.addEventListener(sign, () => { loadPart(part).catch(() => {}); });
}
