// The chat panel: what was written, and the field to write in.
// Never makes markup of what people wrote: text stays text, and only http(s) addresses become links.

import { h, iconButton, recall, t } from './page.js';
import { CHAT_CHARS, chatLength, splitAddresses } from './text.js';

/** @import { Call } from './call.js' */
/** @import { CallSnapshot } from './types.d.ts' */

/** From here on the field counts along. */
const COUNT_FROM = 0.9 * CHAT_CHARS;

/**
 * Text with its web addresses as links.
 * @param {string} text @returns {(string | HTMLAnchorElement)[]}
 */
function linkify(text) {
  return splitAddresses(text).map((part) => (part.address ? h('a', { href: part.text, target: '_blank', rel: 'noopener noreferrer' }, part.text) : part.text));
}

/** @param {Call} call @param {() => void} close */
export function chatPanel(call, close) {
  const log = h('div', { id: 'chat-log', class: 'chat-log', role: 'log', 'aria-live': recall('announce', true) ? 'polite' : 'off', tabindex: 0, 'aria-label': t('chat.log') });
  const empty = h('p', { class: 'quiet' }, t('chat.empty'));
  const input = h('textarea', {
    id: 'chat-input', rows: 1, placeholder: t('chat.placeholder'), 'aria-label': t('chat.placeholder'), 'aria-describedby': 'chat-count',
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      send();
    },
    oninput: typed,
  });
  const count = h('p', { id: 'chat-count', class: 'quiet chat-note', role: 'status', hidden: true });
  const submit = iconButton('send', t('chat.send'), () => {}, { type: 'submit', class: 'icon-button primary' });
  const form = h('form', { class: 'chat-form', onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); send(); } },
    input, submit);
  const root = h('div', { class: 'panel-inner' },
    h('div', { class: 'panel-head' }, h('h2', null, t('control.chat')), iconButton('close', t('page.close'), close)),
    log, h('p', { class: 'quiet chat-note' }, t('chat.note')), count, form);
  const clock = new Intl.DateTimeFormat(document.documentElement.lang, { hour: 'numeric', minute: '2-digit' });
  /** @type {Set<string>} */
  const drawn = new Set();
  let lastFrom = '';

  function grow() {
    input.style.height = 'auto';
    input.style.height = `${Math.min(input.scrollHeight + 2, 140)}px`;
  }

  function typed() {
    grow();
    // A character is one or two units of `length`, so most texts need no counting.
    const length = input.value.length < COUNT_FROM ? 0 : chatLength(input.value);
    const over = length - CHAT_CHARS;
    const number = new Intl.NumberFormat(document.documentElement.lang);
    count.textContent = over > 0 ? t('chat.tooLong', { n: number.format(over), most: number.format(CHAT_CHARS) })
      : length >= COUNT_FROM ? t('chat.count', { n: number.format(length), most: number.format(CHAT_CHARS) }) : '';
    count.hidden = !count.textContent;
    count.classList.toggle('wrong', over > 0);
    input.setAttribute('aria-invalid', String(over > 0));
    submit.disabled = over > 0;
    return over <= 0;
  }

  function send() {
    const text = input.value.trim();
    if (!text || !typed()) return;
    call.sendChat(text);
    input.value = '';
    typed();
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
