// The first page: make a room, enter one, or return to one.
// Never sends a room's secret anywhere: secrets are made here and stay in the address and this browser's memory.

import { button, h, icon, iconButton, languageSwitch, recall, recentRooms, remember, roomTitle, t } from './page.js';

/** @import { FoundLink } from './types.d.ts' */
/** @import { App, View } from './view.d.ts' */

/** What is said about a text with a link in it that is none. @type {Record<string, string>} */
const PROBLEMS = {
  length: 'landing.badName', link_invalid: 'landing.noLink', link_fragment: 'landing.damaged', link_several: 'landing.several', link_room: 'landing.badName', link_no_room: 'landing.notALink',
};

/** Host and port of another server; empty when the link is of this one. @param {FoundLink} link */
function elsewhere({ scheme, host, port }) {
  const usual = (/** @type {string | null} */ one) => (/^http:?$/.test(one ?? location.protocol) ? 80 : 443);
  const authority = `${host?.includes(':') ? `[${host}]` : host}${port && port !== usual(scheme) ? `:${port}` : ''}`;
  const here = !host || (authority.replace(/:\d+$/, '') === location.hostname
    && (port ?? usual(scheme)) === (Number(location.port) || usual(null)));
  return here ? '' : authority;
}

/** @type {{adjectives: string[], nouns: string[]} | null} */
let words = null;

async function loadWords() {
  if (!words) {
    const answer = await fetch('/assets/words.json');
    if (!answer.ok) throw new Error(`words.json: ${answer.status}`);
    words = /** @type {NonNullable<typeof words>} */ (await answer.json());
  }
  return words;
}

/** @param {number} below at most 65,536; the fold is even enough for a name, which is no secret */
function pick(below) {
  return crypto.getRandomValues(new Uint16Array(1))[0] % below;
}

/** @returns {Promise<string>} a room id such as `sunny-mountain-42` */
async function newRoomId() {
  try {
    const { adjectives, nouns } = await loadWords();
    return `${adjectives[pick(adjectives.length)]}-${nouns[pick(nouns.length)]}-${10 + pick(90)}`;
  } catch {
    // Without the word lists a room still gets a name; the secret is what guards it.
    return `room-${pick(10000)}-${10 + pick(90)}`;
  }
}

/** @param {App} app @returns {View} */
export function showLanding(app) {
  document.title = 'Snug';
  const links = () => import('./link.js');
  const finder = () => import('./find-link.js');

  /** @param {string} [name] drawn when there is none */
  async function create(name) {
    const [link, roomId] = await Promise.all([links(), name ?? newRoomId()]);
    app.go(link.formatLink('', { roomId, secret: link.newSecret(), ownerToken: null }));
  }

  // Of several lines, since a field of one line would take the line breaks out of a wrapped link.
  const input = h('textarea', {
    id: 'room-name', rows: 1, autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', enterkeyhint: 'go',
    placeholder: t('landing.example'), 'aria-describedby': 'enter-problem', oninput: preview,
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      input.form?.requestSubmit();
    },
  });
  const problem = h('p', { id: 'enter-problem', class: 'problem', role: 'status' });

  /** Counts what was said below the field: what takes its time to say must not wipe out what was said since. */
  let said = 0;
  /** @param {string} text @param {HTMLElement | null} [action] */
  function complain(text, action) {
    said += 1;
    problem.replaceChildren(text, ...(action ? [' ', action] : []));
    input.setAttribute('aria-invalid', String(text !== ''));
    input.focus();
  }

  /** Says which room a name opens before it is opened, when that is not what was typed. */
  async function preview() {
    const text = input.value.trim();
    const mine = ++said;
    const { roomName } = await import('./room-name.js');
    if (mine !== said) return;
    const { id } = roomName(text);
    problem.replaceChildren(id && id !== text.toLowerCase() && !/[/#]/.test(text) ? t('landing.opens', { room: id }) : '');
    input.removeAttribute('aria-invalid');
  }

  /** A name that cannot be written in an address, and one that can. */
  async function offerAnother() {
    const id = await newRoomId();
    complain(t('landing.otherScript'), button('', t('landing.take', { room: id }), () => create(id), { class: 'small' }));
  }

  /** @param {Event} event */
  async function enter(event) {
    event.preventDefault();
    const text = input.value.trim();
    if (!text) return complain(t('landing.empty'));
    const [{ formatLink }, { readEntry }] = await Promise.all([links(), finder()]);
    // On a page without TLS its own links are none to refuse.
    const { link, roomId, problem: wrong } = readEntry(location.protocol === 'http:' ? text.replaceAll(`${location.origin}/room/`, '/room/') : text);
    if (link) {
      const host = elsewhere(link);
      if (!host) return app.go(formatLink('', link));
      const href = formatLink(`${link.scheme === 'http' ? 'http' : 'https'}://${host}`, link);
      return complain(t('landing.elsewhere', { host }), h('a', { href, rel: 'noreferrer' }, t('landing.openThere')));
    }
    if (wrong === 'script') return offerAnother();
    if (!roomId) return complain(t(PROBLEMS[wrong ?? ''] ?? 'landing.badHost'));
    const known = recentRooms().find((room) => room.id === roomId);
    app.go(`/room/${roomId}${known?.secret ? `#${known.secret}` : ''}`);
  }

  const recent = h('section', { class: 'recent' });
  function drawRecent() {
    const rooms = recentRooms();
    recent.hidden = rooms.length === 0;
    const day = new Intl.DateTimeFormat(document.documentElement.lang, { day: 'numeric', month: 'short' });
    recent.replaceChildren(
      h('h2', null, t('landing.recent')),
      h('ul', null, ...rooms.map((room) => h('li', null,
        h('a', {
          href: `/room/${room.id}${room.secret ? `#${room.secret}` : ''}`,
          onclick: (/** @type {MouseEvent} */ event) => {
            if (event.metaKey || event.ctrlKey || event.shiftKey) return;
            event.preventDefault();
            app.go(`/room/${room.id}${room.secret ? `#${room.secret}` : ''}`);
          },
        }, h('span', { class: 'recent-name' }, roomTitle(room.id)), h('small', null, day.format(room.at))),
        iconButton('close', t('landing.forget', { room: roomTitle(room.id) }), () => forget(room.id)),
      ))),
      h('p', { class: 'quiet' }, t('landing.recentLocal')),
    );
  }
  /** @param {string} id */
  function forget(id) {
    remember('rooms', recentRooms().filter((room) => room.id !== id));
    for (const kind of ['owner', 'offered', 'drawn']) remember(`${kind}.${id}`, null);
    drawRecent();
    (recent.querySelector('button') ?? input).focus();
  }
  drawRecent();

  const version = h('span', null);
  const heading = h('h1', { tabindex: -1 }, t('landing.title'));
  app.root.append(
    h('header', { class: 'top' }, h('span', { class: 'brand' }, icon('brand'), 'Snug'), languageSwitch(() => app.refresh())),
    h('main', { class: 'landing' },
      h('div', { class: 'hero' },
        heading,
        h('p', { class: 'lead' }, t('landing.lead')),
        button('cam', t('landing.create'), () => create(), { id: 'create', class: 'primary big' }),
        h('form', { class: 'enter', onsubmit: enter, novalidate: true },
          h('label', { for: 'room-name' }, t('landing.enterLabel')),
          h('div', { class: 'enter-row' }, input, h('button', { id: 'enter', type: 'submit' }, t('landing.enter'))),
          problem),
      ),
      h('div', { class: 'picture', 'aria-hidden': 'true' },
        ...Array.from({ length: 4 }, () => h('span', null))),
      recent,
    ),
    h('footer', { class: 'bottom' }, h('p', null, icon('shield'), t('landing.privacy')), h('p', null, 'Snug ', version)),
  );

  const idle = setTimeout(() => {
    loadWords().catch(() => {});
    links();
    finder();
    import('./prejoin.js');
    fetch('/health').then((answer) => answer.json()).then((health) => { version.textContent = health.version ?? ''; }, () => {});
  }, 300);
  if (matchMedia('(pointer: fine)').matches && !recall('rooms', null)) document.getElementById('create')?.focus({ preventScroll: true });

  return { focus: heading, dispose: () => clearTimeout(idle) };
}
