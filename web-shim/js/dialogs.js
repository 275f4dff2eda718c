// Dialogs: one at a time, closed by Escape, by their button or by a press beside them; the browser keeps the focus inside.
// Never holds a dialog's contents: each module brings its own.

import { button, h, iconButton, t } from './page.js';

/**
 * @param {string} title @param {(Node | string | null | false | undefined)[]} content @param {{onclose?: () => void}} [options]
 * @returns {HTMLDialogElement} open
 */
export function openDialog(title, content, options = {}) {
  for (const open of document.querySelectorAll('dialog')) open.close();
  /** @type {HTMLDialogElement} */
  const dialog = h('dialog', {
    'aria-labelledby': 'dialog-title',
    onclose: () => { dialog.remove(); options.onclose?.(); },
    onclick: (/** @type {MouseEvent} */ event) => { if (event.target === dialog) dialog.close(); },
  }, h('div', { class: 'dialog-head' }, h('h2', { id: 'dialog-title' }, title), iconButton('close', t('page.close'), () => dialog.close())),
  h('div', { class: 'dialog-body' }, ...content));
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Asks before something that cannot be taken back.
 * @param {string} title @param {(Node | string)[]} content @param {string} label of the button that does it @param {() => void} act
 */
export function confirmDialog(title, content, label, act) {
  /** @type {HTMLDialogElement} */
  const dialog = openDialog(title, [...content, h('div', { class: 'buttons' },
    button('', t('page.cancel'), () => dialog.close()),
    button('', label, () => { dialog.close(); act(); }, { class: 'danger' }))]);
}

/** A line of text with a button that copies it. @param {string} label @param {string} text @param {string} id */
export function copyField(label, text, id) {
  const input = h('input', { id, type: 'text', readonly: true, onfocus: () => input.select() });
  input.value = text;
  const said = h('span', { role: 'status', class: 'quiet' });
  return h('div', { class: 'field' }, h('label', { for: id }, label), h('div', { class: 'copy-row' }, input,
    button('copy', t('page.copy'), async () => { said.textContent = t((await copyText(text, input)) ? 'page.copied' : 'page.copyByHand'); })), said);
}

/** @param {string} text @param {HTMLInputElement} [field] selected when the browser does not let the page copy */
export async function copyText(text, field) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    field?.select();
    return false;
  }
}
