// The chat panel: what was written, and the field to write in.
// Never makes markup of what people wrote: text stays text, and only http(s) addresses become links.

import { h, iconButton, parseUrl, recall, t } from './page.js';

/** @import { Call } from './call.js' */
/** @import { CallSnapshot } from './types.d.ts' */

const LONGEST = 4000;
const ADDRESS = /\bhttps?:\/\/[^\s<>"'`]+[^\s<>"'`.,;:!?)\]}]/gi;

/**
 * Text with its web addresses as links.
 * @param {string} text @returns {(string | HTMLAnchorElement)[]}
 */
export function linkify(text) {
  /** @type {(string | HTMLAnchorElement)[]} */
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(ADDRESS)) {
    if (!parseUrl(match[0])) continue;
    parts.push(text.slice(end, match.index), h('a', { href: match[0], target: '_blank', rel: 'noopener noreferrer' }, match[0]));
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}

/** @param {Call} call @param {() => void} close */
export function chatPanel(call, close) {
  const log = h('div', { id: 'chat-log', class: 'chat-log', role: 'log', 'aria-live': recall('announce', true) ? 'polite' : 'off', tabindex: 0, 'aria-label': t('chat.log') });
  const empty = h('p', { class: 'quiet' }, t('chat.empty'));
  const input = h('textarea', {
    id: 'chat-input', rows: 1, maxlength: LONGEST, placeholder: t('chat.placeholder'), 'aria-label': t('chat.placeholder'),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      send();
    },
    oninput: grow,
  });
  const form = h('form', { class: 'chat-form', onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); send(); } },
    input, iconButton('send', t('chat.send'), () => {}, { type: 'submit', class: 'icon-button primary' }));
  const root = h('div', { class: 'panel-inner' },
    h('div', { class: 'panel-head' }, h('h2', null, t('control.chat')), iconButton('close', t('page.close'), close)),
    log, h('p', { class: 'quiet chat-note' }, t('chat.note')), form);
  const clock = new Intl.DateTimeFormat(document.documentElement.lang, { hour: 'numeric', minute: '2-digit' });
  /** @type {Set<string>} */
  const drawn = new Set();
  let lastFrom = '';

  function grow() {
    input.style.height = 'auto';
    input.style.height = `${Math.min(input.scrollHeight + 2, 140)}px`;
  }

  function send() {
    const text = input.value.trim();
    if (!text) return;
    call.sendChat(text);
    input.value = '';
    grow();
    input.focus();
  }

  /** @param {CallSnapshot} snapshot */
  function draw(snapshot) {
    if (!snapshot.chat.length && !empty.isConnected) log.append(empty);
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    for (const message of snapshot.chat) {
      const key = `${message.fromId}/${message.id}`;
      if (drawn.has(key)) continue;
      drawn.add(key);
      empty.remove();
      const follows = lastFrom === message.fromId;
      lastFrom = message.fromId;
      log.append(h('div', { class: `message${message.own ? ' own' : ''}${follows ? ' follows' : ''}` },
        h('p', { class: 'message-head' }, h('bdi', null, message.own ? t('page.you') : message.name || t('page.guest')), ' ', h('time', null, clock.format(message.sentAt))),
        h('p', { class: 'message-text', dir: 'auto' }, ...linkify(message.text))));
      if (atEnd || message.own) log.scrollTop = log.scrollHeight;
    }
  }

  return { root, focus: input, draw, dispose() {} };
}
