// The call's page: puts stage, bar, panels and notices together and carries presses to the call.
// Never knows SDP, wire messages or retries: it draws snapshots.

import { controls } from './controls.js';
import { Meter } from './devices.js';
import { formatLink, toBase64Url } from './link.js';
import { Notices } from './notices.js';
import { loadNear, loadPart } from './on-demand.js';
import { button, h, icon, recentRooms, remember, roomTitle, t } from './page.js';
import { listenForShortcuts, shortcutSettings } from './shortcuts.js';
import { Stage } from './stage.js';

/** @import { Call } from './call.js' */
/** @import { Pip } from './pip.js' */
/** @import { Part } from './on-demand.js' */
/** @import { CallEnd, CallSnapshot } from './types.d.ts' */
/** @import { App, Session, View } from './view.d.ts' */

const ROOMS_KEPT = 12;
/** Louder than this while muted, for about so many of the meter's ticks, is talking. */
const TALKING = 0.5;
const TALKING_TICKS = 6;
const HINT_EVERY_MS = 20000;
/** @type {Record<string, string>} */
const NOTICE_ICONS = {
  joined: 'people', left: 'people', kicked: 'kick', screen: 'share', chat: 'chat', hand: 'hand', muted: 'mic-off',
  away: 'warn', back: 'check', refused: 'warn',
};

const later = [() => import('./chat-view.js'), () => import('./people-view.js'), () => import('./left.js'), () => import('./failures.js')];

/** @param {App} app @param {Session} session @returns {View} */
export function showCall(app, session) {
  const { devices, link } = session;
  const call = /** @type {Call} */ (session.call);
  const title = roomTitle(session.roomId);
  let snapshot = named(call.snapshot);
  let handedOn = false;
  /** @type {{kind: string, root: HTMLElement, draw(snapshot: CallSnapshot): void, dispose(): void} | null} */
  let panel = null;
  let unread = 0;
  let chatSeen = snapshot.chat.length;

  const notices = new Notices();
  const stage = new Stage(call, devices, { blocked, laidOut: () => pip?.follow() });
  /** @type {Pip | null} */
  let pip = null;

  const inviteUrl = () => formatLink(location.origin, { roomId: session.roomId, secret: link.secret });

  const deeds = {
    mute: () => setMicrophone(!snapshot.media.audio),
    camera: () => setCamera(!snapshot.media.video),
    share: () => (snapshot.media.screen ? call.stopScreen() : share()),
    hand: () => call.setHand(!snapshot.media.hand),
    chat: () => openPanel('chat'),
    people: () => openPanel('people'),
    copy: copyLink,
    list: () => openPart('menu', ({ menuViews }) => menuViews.openShortcutList(shortcuts)),
    settings: () => openPart('menu', ({ menuViews }) => menuViews.openSettings({ devices, notices, shortcuts, stage, refresh })),
    room: () => openPart('owner', ({ openRoomOptions }) => openRoomOptions({ call, session })),
    layout: () => { stage.setSpeakerView(!stage.speakerView); draw(); },
    pip: openPip,
    leave,
  };
  const canShare = Boolean(navigator.mediaDevices?.getDisplayMedia);
  const canFloat = 'documentPictureInPicture' in window || document.pictureInPictureEnabled || 'webkitSetPresentationMode' in HTMLVideoElement.prototype;
  const bar = controls(deeds, { canShare, canFloat });
  const shortcuts = listenForShortcuts({ deeds, close: closeSomething, talk });

  const seal = h('span', { class: `chip ${link.secret ? '' : 'warn'}`, title: t(link.secret ? 'privacy.sealed' : 'privacy.unsealed') },
    icon(link.secret ? 'shield' : 'warn'), h('span', null, t(link.secret ? 'call.sealed' : 'call.unsealed')));
  const lockChip = h('span', { class: 'chip', hidden: true }, icon('lock'), h('span', null, t('prejoin.isLocked')));
  const heading = h('h1', { tabindex: -1 }, title);
  const aside = h('aside', { class: 'panel', hidden: true });
  const invite = button('invite', t('call.invite'), openInvite, { id: 'invite', class: 'small' });
  const moreWays = button('invite', t('call.moreWays'), openInvite);
  const root = h('main', { id: 'call', class: 'call', 'data-state': 'connecting' },
    h('header', { class: 'call-top' }, h('span', { class: 'brand' }, icon('brand')), heading, seal, lockChip, invite),
    notices.banner, stage.root, aside, bar.root, notices.root, notices.urgent);
  stage.alone.append(
    h('p', null, t('call.alone')),
    h('div', { class: 'buttons' }, button('copy', t('page.copyLink'), copyLink, { class: 'primary' }), moreWays));
  app.root.append(root);
  for (const opener of [invite, moreWays]) loadNear(opener, 'invite');
  loadNear(bar.more, 'menu');

  function draw() {
    snapshot = named(call.snapshot);
    root.dataset.state = snapshot.signaling === 'online' ? 'online' : snapshot.signaling === 'connecting' ? 'connecting' : 'reconnecting';
    stage.draw(snapshot);
    const { on, keys } = shortcutSettings();
    bar.draw(snapshot, { unread, panel: panel?.kind ?? null, speakerView: stage.speakerView, missing: missing() }, on ? keys : {});
    lockChip.hidden = !snapshot.room?.locked;
    if (snapshot.chat.length > chatSeen) {
      if (panel?.kind !== 'chat') unread += snapshot.chat.slice(chatSeen).filter((message) => !message.own).length;
      chatSeen = snapshot.chat.length;
    }
    document.title = `${unread ? `(${unread}) ` : ''}${title} · Snug`;
    panel?.draw(snapshot);
    drawBanners();
    if (snapshot.ownerToken) keepOwnerToken(snapshot.ownerToken);
    // The owner's panel has to open while the relay is away; who is no owner never loads it.
    const owns = snapshot.isOwner && snapshot.signaling === 'online';
    if (owns && !owned) loadPart('owner').catch(() => {});
    owned = owns;
  }

  let owned = false;
  let wasLost = false;
  function drawBanners() {
    const lost = snapshot.signaling === 'reconnecting';
    if (lost !== wasLost) {
      wasLost = lost;
      notices.interrupt(lost ? t('banner.disconnected') : '');
      if (!lost) notices.say(t('notice.reconnected'), 'check');
    }
    if (lost) notices.show('lost', t('banner.reconnecting'), { label: t('page.retry'), press: () => call.retryNow() });
    else notices.clear('lost');
    drawRefused(snapshot.refused);
    const recorders = snapshot.remotes.filter(({ media }) => media.recording).map(({ name }) => name);
    if (recorders.length) notices.show('recording', t('banner.recording', { names: recorders.join(', ') }), null);
    else notices.clear('recording');
    for (const userId of knocking) if (!snapshot.knocks.some((knock) => knock.userId === userId)) forgetKnock(userId);
    for (const knock of snapshot.knocks) drawKnock(knock);
    for (const remote of snapshot.remotes) {
      const key = `refused-${remote.userId}`;
      if (remote.link === 'refused') notices.show(key, t(`refused.${remote.refusal ?? 'tampered'}`, { name: remote.name }), null, true);
      else notices.clear(key);
    }
  }

  /** Who stands before the door, as shown. @type {Set<string>} */
  const knocking = new Set();
  /** @param {{userId: string, name: string}} knock */
  function drawKnock({ userId, name }) {
    const answer = (/** @type {boolean} */ admitted) => { forgetKnock(userId); call.admit(userId, admitted); };
    notices.show(`knock-${userId}`, t('notice.knock', { name: name || t('page.guest') }),
      { label: t('banner.letIn'), press: () => answer(true) }, false, { label: t('banner.notNow'), press: () => answer(false) });
    knocking.add(userId);
  }

  /** @param {string} userId */
  function forgetKnock(userId) {
    notices.clear(`knock-${userId}`);
    knocking.delete(userId);
  }

  /** Why the relay will not have us back, and the way to ask again. @type {CallEnd | null} */
  let refused = null;
  /** @param {CallEnd | null} end */
  async function drawRefused(end) {
    if (end === refused) return;
    refused = end;
    if (!end) return notices.clear('refused');
    const { explain } = await import('./failures.js');
    if (end !== refused) return;
    const { text, action } = explain(end, Boolean(session.password));
    const asks = /^(AUTH|PASSWORD)_/.test(end.code);
    notices.show('refused', text, action ?? { label: t('left.rejoin'), press: () => asks ? askPassword() : void call.rejoin() });
  }

  async function askPassword() {
    const { openDialog } = await import('./dialogs.js');
    const field = h('input', { type: 'password', autocomplete: 'current-password', 'aria-label': t('page.roomPassword') });
    const dialog = openDialog(t('page.roomPassword'), [h('form', {
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        dialog.close();
        session.password = field.value;
        void call.rejoin({ password: field.value });
      },
    }, field, h('div', { class: 'buttons' }, h('button', { type: 'submit', class: 'primary' }, t('left.rejoin'))))]);
    field.focus();
  }

  /** The owner's token, once the relay has confirmed it. @param {string} token */
  function keepOwnerToken(token) {
    if (session.ownerTokens[0] === token) return;
    session.ownerTokens = [token];
    remember(`owner.${session.roomId}`, token);
  }

  function blocked() {
    notices.show('blocked', t('banner.tapToHear'), { label: t('banner.hear'), press: () => { notices.clear('blocked'); stage.playAll(); } });
  }

  // Microphone, camera and screen.

  /** @param {boolean} on @param {boolean} [forTalk] the space bar's hold, which is not remembered */
  async function setMicrophone(on, forTalk) {
    if (on && !devices.microphone) {
      await devices.setMicrophone(true);
      if (!devices.microphone) return sayProblem();
    }
    if (!forTalk) await devices.setMicrophone(on);
    call.setAudioEnabled(on);
    notices.clear('talking');
    if (!forTalk) notices.interrupt(on ? t('banner.unmuted') : t('banner.muted'));
  }

  /** @param {boolean} on */
  async function setCamera(on) {
    await devices.setCamera(on);
    if (on && !devices.camera) sayProblem();
  }

  function sayProblem() {
    const { complaints, curable } = devices;
    if (complaints.length) notices.show('device', complaints.join(' '), curable ? { label: t('page.retry'), press: () => devices.open(devices.wanted) } : null, true);
    else notices.clear('device');
  }

  async function share() {
    try {
      const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 30 } }, audio: true });
      for (const track of stream.getVideoTracks()) {
        if (!track.contentHint) track.contentHint = 'detail';
        track.addEventListener('ended', () => call.stopScreen());
      }
      call.startScreen(stream);
      notices.say(t('notice.sharing'), 'share');
    } catch (error) {
      // Closing the browser's picker is an answer, not a failure.
      if (error instanceof DOMException && error.name === 'NotAllowedError' && !/system/i.test(error.message)) return;
      notices.show('device', t('device.shareFailed'), null, true);
    }
  }

  /** @type {MediaStreamTrack | null} */
  let microphone = devices.microphone;
  /** @type {MediaStreamTrack | null} */
  let camera = devices.camera;
  /** @type {Meter | null} */
  let meter = microphone && new Meter(microphone);

  /** The devices that are wanted and do not work. */
  function missing() {
    const { problems, wanted } = devices;
    return { audio: Boolean(problems.audio && wanted.audio), video: Boolean(problems.video && wanted.video) };
  }

  /** What was last told of the devices: a banner that was closed stays so until there is news. */
  let complained = '';
  function followDevices() {
    if (devices.microphone !== microphone) {
      microphone = devices.microphone;
      meter?.close();
      meter = microphone && new Meter(microphone);
      call.setAudioEnabled(Boolean(microphone) && devices.wanted.audio);
      call.setMicrophone(microphone);
    }
    if (devices.camera !== camera) {
      camera = devices.camera;
      call.setCamera(camera);
      if (camera) for (const name of ['mute', 'unmute']) camera.addEventListener(name, draw);
    }
    if (devices.complaints.join() !== complained) sayProblem();
    complained = devices.complaints.join();
    stage.useSpeaker();
    draw();
  }
  devices.addEventListener('change', followDevices);

  // Hearing oneself: the ring around one's own tile, and the hint when somebody talks while muted.
  let loud = 0;
  let hinted = -HINT_EVERY_MS;
  const listen = setInterval(() => {
    const level = meter?.level() ?? 0;
    const speaking = level > TALKING;
    if (speaking !== stage.selfSpeaking && snapshot.media.audio) {
      stage.selfSpeaking = speaking;
      stage.draw(snapshot);
    }
    // Speech has pauses: silence takes away less than a loud moment adds.
    loud = snapshot.media.audio ? 0 : Math.max(0, loud + (speaking ? 1 : -0.2));
    if (loud >= TALKING_TICKS && performance.now() - hinted > HINT_EVERY_MS) {
      hinted = performance.now();
      notices.show('talking', t('banner.talkingMuted'), { label: t('control.unmute'), press: () => setMicrophone(true) }, true);
      notices.interrupt(t('banner.talkingMuted'));
      setTimeout(() => notices.clear('talking'), 8000);
    }
  }, 150);

  /** The space bar, held. @param {boolean} on */
  function talk(on) {
    if (on && (snapshot.media.audio || !devices.microphone)) return false;
    setMicrophone(on, true);
    root.classList.toggle('talking', on);
    return true;
  }

  // Panels and dialogs.

  /** @param {'chat' | 'people'} kind */
  async function openPanel(kind) {
    if (panel?.kind === kind) return closePanel();
    closePanel();
    const made = kind === 'chat'
      ? (await import('./chat-view.js')).chatPanel(call, closePanel)
      : (await import('./people-view.js')).peoplePanel({ call, stage, close: closePanel});
    if (panel) return;
    panel = { kind, ...made };
    if (kind === 'chat') unread = 0;
    aside.replaceChildren(made.root);
    aside.hidden = false;
    root.dataset.panel = kind;
    draw();
    made.focus.focus();
  }

  function closePanel() {
    if (!panel) return;
    const opener = panel.kind === 'chat' ? bar.chat : bar.people;
    const hadFocus = aside.contains(document.activeElement);
    panel.dispose();
    panel = null;
    aside.hidden = true;
    aside.replaceChildren();
    delete root.dataset.panel;
    draw();
    if (hadFocus) (opener.offsetParent ? opener : bar.more).focus();
  }

  function closeSomething() {
    if (bar.closeMenu()) return true;
    if (!panel) return false;
    closePanel();
    return true;
  }

  /**
   * Opens what not everybody loads. Without the relay it may not come: that is told, and changes nothing else.
   * @template {Part} P
   * @param {P} part @param {(views: Awaited<ReturnType<typeof loadPart<P>>>) => unknown} open
   */
  async function openPart(part, open) {
    let views;
    try {
      views = await loadPart(part);
    } catch {
      if (!finished) notices.show('part', t('notice.notLoaded'), { label: t('page.retry'), press: () => openPart(part, open) }, true);
      return;
    }
    notices.clear('part');
    // The person left the call meanwhile.
    if (root.isConnected) await open(views);
  }

  function openInvite() {
    return openPart('invite', (views) => views.openInvite({ url: inviteUrl(), title, sealed: Boolean(link.secret), room: snapshot.room }));
  }

  async function copyLink() {
    const { copyText } = await import('./dialogs.js');
    if (await copyText(inviteUrl())) notices.say(t('page.copied'), 'copy');
    else openInvite();
  }

  async function openPip() {
    if (pip) return pip.close();
    await openPart('menu', async ({ menuViews }) => {
      pip = new menuViews.Pip({ stage, call, deeds, closed: () => { pip = null; stage.outside = null; stage.report(); } });
      await pip.open().catch(() => {
        pip = null;
        notices.say(t('notice.pipFailed'), 'warn');
      });
    });
  }

  // What the others do.

  /** @param {Event} event */
  function onNotice(event) {
    const { kind, name, userId } = /** @type {CustomEvent<{kind: string, userId: string, name: string}>} */ (event).detail;
    if (kind === 'chat' && panel?.kind === 'chat') return;
    // Mutes are common: the tile shows them, and only joins, leaves and requests are told.
    if (kind === 'muted' && snapshot.remotes.length > 3) return;
    // It stands in a banner with its two buttons.
    if (kind === 'knock') return;
    if (kind === 'muteAsked') void setMicrophone(false);
    notices.say(t(`notice.${kind}`, { name: name || t('page.guest') }), NOTICE_ICONS[kind] ?? '');
    if (kind === 'refused') stage.root.querySelector(`[data-user-id="${CSS.escape(userId)}"]`)?.scrollIntoView();
  }

  /** @param {Event} event */
  function onEnded(event) {
    const end = /** @type {CustomEvent<CallEnd>} */ (event).detail;
    finish(end.code === 'LEFT' ? null : end);
  }

  function leave() {
    call.leave();
    finish(null);
  }

  /** @param {CallEnd | null} end */
  async function finish(end) {
    if (finished) return;
    finished = true;
    call.leave();
    devices.close();
    session.call = null;
    session.ended = end && (await import('./failures.js')).explain(end).text;
    app.show('left', session);
  }
  let finished = false;

  // The screen stays awake while one is in the call; browsers drop the lock when the page is hidden.
  /** @type {WakeLockSentinel | null} */
  let wakeLock = null;
  async function stayAwake() {
    if (document.hidden || finished) return;
    wakeLock = (await navigator.wakeLock?.request('screen').catch(() => null)) ?? null;
  }
  document.addEventListener('visibilitychange', stayAwake);
  stayAwake();

  // The page may be loaded again: then we are the same person to the others. Otherwise the relay ends the seat in a moment.
  const goodbye = () => call.suspend();
  addEventListener('pagehide', goodbye);
  // The page comes back as it was, but the call is over.
  const thawed = (/** @type {PageTransitionEvent} */ event) => {
    if (event.persisted) finish({ code: 'SUSPENDED', message: '' });
  };
  addEventListener('pageshow', thawed);

  function refresh() {
    handedOn = true;
    app.refresh(session);
  }

  call.addEventListener('change', draw);
  call.addEventListener('notice', onNotice);
  call.addEventListener('ended', onEnded);
  remember('rooms', [{ id: session.roomId, secret: link.secret && toBase64Url(link.secret), at: Date.now() },
    ...recentRooms().filter((room) => room.id !== session.roomId)].slice(0, ROOMS_KEPT));
  // The relay has said what each token is worth: the owner's is kept by the first drawing, what else was tried is none.
  session.ownerTokens = [];
  followDevices();
  for (const kind of ['offered', 'drawn']) remember(`${kind}.${session.roomId}`, null);
  // What is needed in any call must be there also when the relay is not.
  setTimeout(() => { for (const load of later) load().catch(() => {}); }, 1500);
  if (!link.secret) notices.show('unsealed', t('privacy.unsealed'), null, true);

  return {
    focus: heading,
    dispose() {
      call.removeEventListener('change', draw);
      call.removeEventListener('notice', onNotice);
      call.removeEventListener('ended', onEnded);
      devices.removeEventListener('change', followDevices);
      document.removeEventListener('visibilitychange', stayAwake);
      removeEventListener('pagehide', goodbye);
      removeEventListener('pageshow', thawed);
      clearInterval(listen);
      for (const dialog of document.querySelectorAll('dialog')) dialog.close();
      pip?.close();
      panel?.dispose();
      meter?.close();
      shortcuts.dispose();
      bar.dispose();
      stage.dispose();
      notices.dispose();
      wakeLock?.release();
      if (handedOn || finished) return;
      // The person went elsewhere, for example with the browser's back button.
      call.leave();
      devices.close();
    },
  };
}

/** Everybody with a name to be shown: theirs may not have arrived, or cannot be read. @param {CallSnapshot} snapshot @returns {CallSnapshot} */
function named(snapshot) {
  return { ...snapshot, remotes: snapshot.remotes.map((remote) => (remote.name ? remote : { ...remote, name: t('page.guest') })) };
}
