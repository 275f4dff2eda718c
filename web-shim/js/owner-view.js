// The owner's panel: password, lock, size of the room, screens, ownership, statistics.
// Never keeps a password: it goes to the relay, which keeps only a hash.

import { confirmDialog, copyField, openDialog } from './dialogs.js';
import { explain } from './failures.js';
import { formatLink } from './link.js';
import { button, field, h, icon, t, toggle } from './page.js';

/** @import { Call } from './call.js' */
/** @import { CallEnd } from './types.d.ts' */
/** @import { Session } from './view.d.ts' */

/** @param {{call: Call, session: Session}} options */
export function openRoomOptions({ call, session }) {
  const room = call.snapshot.room;
  if (!room) return;
  const status = h('p', { class: 'problem', role: 'status' });

  /** Does something at the relay and says how it went. @param {() => Promise<unknown>} act @param {string} done */
  async function attempt(act, done) {
    status.replaceChildren(t('room.saving'));
    try {
      await act();
      status.replaceChildren(icon('check'), done);
      return true;
    } catch (error) {
      status.replaceChildren(icon('warn'), explain(/** @type {CallEnd} */ (error)).text);
      return false;
    }
  }
  /** A switch goes back when the relay refuses. @param {string} label @param {boolean} now @param {(on: boolean) => Promise<unknown>} act */
  function setting(label, now, act) {
    const made = toggle(label, now, async (on) => {
      if (await attempt(() => act(on), t('room.saved'))) return;
      /** @type {HTMLInputElement} */ (made.firstElementChild).checked = !on;
    });
    return made;
  }

  const password = h('input', { id: 'room-password', type: 'password', autocomplete: 'new-password' });
  const hint = h('input', { id: 'room-hint', type: 'text', maxlength: 128, autocomplete: 'off' });
  const now = h('p', null);
  const clear = button('', t('room.passwordClear'), async () => {
    if (await attempt(() => call.clearPassword(), t('room.saved'))) drawPassword(false);
  });
  /** @param {boolean} enabled */
  function drawPassword(enabled) {
    now.textContent = t(enabled ? 'room.passwordOn' : 'room.passwordOff');
    clear.hidden = !enabled;
  }
  drawPassword(room.passwordEnabled);
  async function savePassword() {
    if (!password.value) return password.focus();
    if (await attempt(() => call.setPassword(password.value, hint.value.trim() || undefined), t('room.saved'))) {
      session.password = password.value;
      password.value = '';
      drawPassword(true);
    }
  }

  const removed = h('p', null);
  const unban = button('', t('room.unban'), async () => {
    if (await attempt(() => call.unban(), t('room.saved'))) drawRemoved(0);
  });
  /** @param {number} count */
  function drawRemoved(count) {
    removed.hidden = unban.hidden = !count;
    removed.textContent = t('room.removed', { n: count });
  }
  drawRemoved(room.removed ?? 0);
  const end = button('leave', t('room.endCall'), () => confirmDialog(t('room.endCall'), [h('p', null, t('room.endCallText'))], t('room.endCall'), () => {
    call.endCall().catch(() => {});
  }), { class: 'danger' });

  const most = h('select', { id: 'room-most', onchange: () => attempt(() => call.updateSettings({ maxParticipants: Number(most.value) }), t('room.saved')) },
    ...Array.from({ length: 9 }, (_, at) => h('option', { value: at + 2 }, String(at + 2))));
  most.value = String(room.maxParticipants);

  const recovery = h('div', null);
  function drawRecovery() {
    const token = call.snapshot.ownerToken;
    const url = token && formatLink(location.origin, { roomId: session.roomId, secret: session.link.secret, ownerToken: token });
    recovery.replaceChildren(url ? copyField(t('room.recovery'), url, 'recovery-link') : h('p', null, t('room.noToken')));
  }
  drawRecovery();
  const rotate = button('', t('room.rotate'), () => confirmDialog(t('room.rotate'), [h('p', null, t('room.rotateText'))], t('room.rotate'), async () => {
    openRoomOptions({ call, session });
    const shown = /** @type {HTMLElement | null} */ (document.querySelector('#room-status'));
    try {
      await call.rotateOwnerToken();
      openRoomOptions({ call, session });
    } catch (error) {
      shown?.replaceChildren(icon('warn'), explain(/** @type {CallEnd} */ (error)).text);
    }
  }));

  const stats = h('dl', { class: 'stats' });
  call.getStats().then((figures) => {
    const day = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: 'medium', timeZone: 'UTC' });
    const hours = (figures.totalDurationSeconds / 3600).toLocaleString(document.documentElement.lang, { maximumFractionDigits: 1 });
    /** @type {[string, string][]} */
    const rows = [['room.created', day.format(new Date(figures.createdAt))], ['room.used', day.format(new Date(figures.lastUsed))],
      ['room.sessions', String(figures.totalSessions)], ['room.hours', hours]];
    for (const [label, value] of rows) stats.append(h('div', null, h('dt', null, t(label)), h('dd', null, value)));
  }, (error) => stats.append(explain(error).text));

  status.id = 'room-status';
  openDialog(t('control.room'), [
    status,
    h('section', null, h('h3', null, t('room.door')),
      setting(t('room.lock'), room.locked, (on) => call.lock(on)),
      setting(t('room.lobby'), room.lobby ?? false, (on) => call.updateSettings({ lobby: on })),
      setting(t('room.admission'), room.admission === 'anyone', (on) => call.updateSettings({ admission: on ? 'anyone' : 'owner' })),
      removed, unban,
      setting(t('room.share'), room.allowScreenShare, (on) => call.updateSettings({ allowScreenShare: on })),
      field(t('room.most'), most)),
    h('section', null, h('h3', null, t('page.roomPassword')), now,
      h('form', { novalidate: true, onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); savePassword(); } },
        field(t('room.passwordNew'), password), field(t('room.hint'), hint, h('p', { class: 'quiet' }, t('room.hintText'))),
        h('div', { class: 'buttons' }, h('button', { type: 'submit', class: 'primary' }, t('room.passwordSet')), clear))),
    h('section', null, h('h3', null, t('room.ownership')), h('p', null, t('room.recoveryText')), recovery, rotate),
    h('section', null, end),
    h('section', null, h('h3', null, t('room.stats')), stats, h('p', { class: 'quiet' }, t('room.statsText'))),
  ]);
}
