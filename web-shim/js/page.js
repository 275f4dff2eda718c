// What every view shares: building elements, icons, words in the person's language, and what this browser remembers.
// Never turns text into HTML.

const SVG = 'http://www.w3.org/2000/svg';

/**
 * Builds an element. `on…` properties are listeners, `true` sets an attribute and `false` or null leaves it out.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown> | null} [props]
 * @param {(Node | string | null | false | undefined)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  for (const child of children) if (child) element.append(child);
  return element;
}

/** @param {string} tag @param {Record<string, string | number>} attributes @param {Node[]} children */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** An icon of the sprite in index.html; the words beside it or the button's label say what it means. @param {string} name */
export function icon(name) {
  return svg('svg', { class: 'icon', 'aria-hidden': 'true' }, svg('use', { href: `#i-${name}` }));
}

/** @param {Element} holder an element that has an icon @param {string} name */
export function setIcon(holder, name) {
  holder.querySelector('use')?.setAttribute('href', `#i-${name}`);
}

/**
 * A button with an icon and a label, drawn when there is room for it.
 * @param {string} iconName @param {string} label @param {() => unknown} press @param {Record<string, unknown>} [props]
 */
export function button(iconName, label, press, props) {
  return h('button', { type: 'button', onclick: press, ...props }, iconName && icon(iconName), h('span', null, label));
}

/**
 * A round or square button that shows only its icon.
 * @param {string} iconName @param {string} label @param {() => unknown} press @param {Record<string, unknown>} [props]
 */
export function iconButton(iconName, label, press, props) {
  return h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick: press, ...props }, icon(iconName));
}

/** A labelled form field. @param {string} label @param {HTMLElement} control with an id @param {Node[]} more */
export function field(label, control, ...more) {
  return h('div', { class: 'field' }, h('label', { for: control.id }, label), control, ...more);
}

/** A labelled switch. @param {string} label @param {boolean} on @param {(on: boolean) => unknown} change @param {string} [id] */
export function toggle(label, on, change, id) {
  const box = h('input', { type: 'checkbox', role: 'switch', id, onchange: () => change(box.checked) });
  box.checked = on;
  return h('label', { class: 'switch' }, box, h('span', null, label));
}

/** @template T @param {string} key @param {T} fallback @returns {T} */
export function recall(key, fallback) {
  try {
    const text = localStorage.getItem(`snug.${key}`);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    // Storage is blocked or holds something foreign: the page works without a memory.
    return fallback;
  }
}

/** @param {string} key @param {unknown} value null forgets */
export function remember(key, value) {
  try {
    if (value == null) localStorage.removeItem(`snug.${key}`);
    else localStorage.setItem(`snug.${key}`, JSON.stringify(value));
  } catch {
    // Private windows may refuse; nothing depends on it.
  }
}

/** @typedef {Record<string, Record<string, string>>} Table */

/**
 * The languages of the page, each with its table and the words of what is opened on demand; only the one shown is fetched.
 * @type {Record<string, {name: string, load: () => Promise<{TABLE: Table}>, onDemand: (again: string) => Promise<{TABLE: Table}>}>}
 */
const LANGUAGES = {
  en: { name: 'English', load: () => import('./strings.js'), onDemand: (again) => import(`./strings-on-demand.js${again}`) },
  de: { name: 'Deutsch', load: () => import('./strings-de.js'), onDemand: (again) => import(`./strings-on-demand-de.js${again}`) },
};
let language = 'en';
/** @type {Table} */
let table = {};
/** The words loaded on demand, by language. @type {Record<string, Table>} */
const added = {};

/** Takes the language that a person chose here, else the first of the browser's that the page speaks. */
export async function loadLanguage() {
  const wished = [recall('language', ''), ...(navigator.languages ?? [])].map((tag) => String(tag).slice(0, 2).toLowerCase());
  language = wished.find((tag) => tag in LANGUAGES) ?? 'en';
  table = { ...(await LANGUAGES[language].load()).TABLE, ...added[language] };
  document.documentElement.lang = language;
}

/** Adds the words of what is opened on demand, in the language shown. @param {string} again makes the address another one */
export async function loadWordsOnDemand(again) {
  const shown = language;
  added[shown] = (await LANGUAGES[shown].onDemand(again)).TABLE;
  if (shown === language) table = { ...table, ...added[shown] };
}

/** The sentence of `group.name` in the language shown; empty where there is none. @param {string} key @param {Record<string, string | number>} [values] put in for the braces */
export function t(key, values = {}) {
  const [group, name] = key.split('.');
  return (table[group][name] ?? '').replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

/** @param {() => void} refresh draws the page again, in another language */
export function languageSwitch(refresh) {
  const select = h('select', {
    id: 'language', class: 'language', 'aria-label': t('page.language'),
    onchange: () => {
      remember('language', select.value);
      refresh();
    },
  }, ...Object.entries(LANGUAGES).map(([tag, { name }]) => h('option', { value: tag, lang: tag }, name)));
  select.value = language;
  return select;
}

/** @typedef {{id: string, secret: string | null, at: number}} RecentRoom */

/** The rooms entered from this browser, newest first. @returns {RecentRoom[]} */
export function recentRooms() {
  const list = recall('rooms', /** @type {RecentRoom[]} */ ([]));
  return Array.isArray(list) ? list.filter((room) => typeof room?.id === 'string') : [];
}

/** "sunny-mountain-42" as a person reads it; a UUID stays as it is. @param {string} roomId */
export function roomTitle(roomId) {
  if (/^[0-9a-f]{8}-[0-9a-f]{4}-/.test(roomId)) return roomId;
  return roomId.replace(/(^|-)(\w)/g, (_, dash, letter) => (dash ? ' ' : '') + letter.toUpperCase());
}

/** `auto` follows the system. @param {string} theme */
export function applyTheme(theme) {
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

/** @param {string} name @returns {string} one or two letters for a picture's place */
export function initials(name) {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = [words[0], words.length > 1 ? words[words.length - 1] : ''].map((word) => [...(word ?? '')][0] ?? '');
  return letters.join('').toLocaleUpperCase() || '?';
}

/** A steady colour for a person without a picture. @param {string} id */
export function hue(id) {
  let sum = 7;
  for (const letter of id) sum = (sum * 31 + letter.charCodeAt(0)) % 360;
  return sum;
}
