// The page before the call: own picture, devices, name, who is inside, and the door's questions.
// Never opens a device without a press or an earlier permission; the link's secret stays in memory and in the address.

import { button, field, h, hue, icon, iconButton, initials, languageSwitch, recall, remember, roomTitle, setIcon, t } from './page.js';
import { cleanName } from './text.js';

/** @import { Devices, Wanted } from './devices.js' */
/** @import { Sealer } from './seal.js' */
/** @import { CallEnd, RoomLink, RoomMeta } from './types.d.ts' */
/** @import { App, Session, View } from './view.d.ts' */

const META_EVERY_MS = 10000;

/** @param {App} app @param {Session} [known] the visit, when the person was here a moment ago @returns {View} */
export function showPrejoin(app, known) {
  const roomId = roomInPath();
  const title = roomTitle(roomId);
  document.title = `${title} · Snug`;
  /** @type {Session | null} */
  let session = known ?? null;
  let disposed = false;
  /** Whether devices and call live on in the next view. */
  let handedOn = false;
  /** @type {(() => void)[]} */
  const cleanup = [];

  // The mirror.
  const video = h('video', { class: 'mirrored', playsinline: true, autoplay: true });
  video.muted = true;
  const avatar = h('div', { class: 'avatar', 'aria-hidden': 'true' });
  const offText = h('p');
  const trouble = h('div', { id: 'device-problem', role: 'status' });
  const retry = button('', t('page.retry'), () => openDevices(session?.devices.wanted ?? {}), { id: 'device-retry', class: 'small' });
  const troubleBox = h('div', { class: 'problem trouble', hidden: true }, icon('warn'), trouble, retry);
  const turnOn = button('cam', t('prejoin.turnOn'), () => openDevices({ audio: true, video: true }), { class: 'primary' });
  const micToggle = iconButton('mic', t('control.mute'), () => press('audio'), { id: 'toggle-mic', class: 'round' });
  const camToggle = iconButton('cam', t('control.cameraOff'), () => press('video'), { id: 'toggle-cam', class: 'round' });
  const mirror = h('div', { class: 'mirror' }, video,
    h('div', { class: 'mirror-off' }, avatar, offText, turnOn),
    h('div', { class: 'mirror-controls' }, micToggle, camToggle));
  const menus = h('div', { class: 'menus' });

  // The door.
  const name = h('input', { id: 'name', type: 'text', maxlength: 64, autocomplete: 'nickname', placeholder: t('prejoin.nameHint') });
  name.value = session?.name ?? recall('name', '');
  const password = h('input', { id: 'password', type: 'password', autocomplete: 'off', 'aria-describedby': 'prejoin-status' });
  const passwordField = field(t('page.roomPassword'), password);
  passwordField.hidden = !session?.password;
  password.value = session?.password ?? '';
  /** What the operator gives to people who may make rooms; asked for when there is no such room. @type {HTMLInputElement | undefined} */
  let key;
  const status = h('div', { id: 'prejoin-status', class: 'problem', role: 'status' });
  const webrtc = h('div', { id: 'webrtc-problem', class: 'problem', role: 'status' });
  const join = h('button', { id: 'join', type: 'submit', class: 'primary big' }, t('prejoin.join'));
  const joinMuted = h('button', { id: 'join-muted', type: 'button', class: 'plain-button', onclick: () => enter(false) }, t('prejoin.joinWithout'));
  const inside = h('p', { class: 'inside' });
  const chips = h('p', { class: 'chips' });
  const privacy = h('div', { class: 'privacy' });
  const heading = h('h1', { tabindex: -1 }, title);

  app.root.append(
    h('header', { class: 'top' },
      h('a', { class: 'brand', href: '/', onclick: (/** @type {Event} */ event) => { event.preventDefault(); app.go('/'); } }, icon('brand'), 'Snug'),
      languageSwitch(() => { keep(); handedOn = true; app.refresh(session ?? undefined); })),
    h('main', { class: 'prejoin' },
      h('div', { class: 'look' }, mirror, troubleBox, menus),
      h('form', { class: 'door', novalidate: true, onsubmit: (/** @type {Event} */ event) => { event.preventDefault(); enter(true); } },
        heading, chips, inside, field(t('prejoin.name'), name), passwordField, webrtc, status, join, joinMuted, privacy)),
  );

  /** Devices that were permitted earlier, on their way. @type {Promise<void> | undefined} */
  let opening;
  const ready = prepare();

  async function prepare() {
    // First the page, then what it does: Join is on the screen before anything more is fetched. A hidden tab paints nothing.
    await new Promise((done) => { requestAnimationFrame(() => setTimeout(done)); setTimeout(done, 200); });
    const [{ parseLink, formatLink }, { Devices }] = await Promise.all([import('./link.js'), import('./devices.js')]);
    const link = parseLink(location);
    if (!link || link.damaged) {
      fail({ code: link ? 'LINK_INCOMPLETE' : 'BAD_LINK', message: '' });
      join.disabled = joinMuted.disabled = true;
      if (!link) return;
    }
    if (link.ownerToken) {
      // The token leaves the address, so that sharing the address does not share the ownership. Anybody can write such a link:
      // it is kept beside the one that is kept already, until the relay has said which of them is the owner's.
      remember(`offered.${link.roomId}`, link.ownerToken);
      history.replaceState(null, '', formatLink('', { roomId: link.roomId, secret: link.secret }));
    }
    if (session && session.link.roomId !== link.roomId) session = null;
    session ??= { roomId: link.roomId, link, devices: new Devices(), name: '', password: null, ownerTokens: [], call: null, ended: null };
    if (session.devices.closed) session.devices = new Devices();
    session.link = link;
    // Who opens a recovery link most often has no token that works, so the link's is tried first.
    const [offered, kept, drawn] = ['offered', 'owner', 'drawn'].map((kind) => recall(`${kind}.${roomId}`, null));
    const tokens = [link.ownerToken, offered, kept, drawn, ...session.ownerTokens].filter((token) => typeof token === 'string');
    session.ownerTokens = [...new Set(tokens)];
    mayOwn = tokens.some((token) => token !== drawn);
    if (disposed) return session.devices.close();
    session.devices.addEventListener('change', drawDevices);
    cleanup.push(() => session?.devices.removeEventListener('change', drawDevices));
    drawPrivacy(Boolean(link.secret));
    if (!window.isSecureContext && link.secret) {
      join.disabled = joinMuted.disabled = true;
      fail({ code: 'INSECURE', message: '' });
    }
    drawDevices();
    checkWebRtc();
    const may = await Devices.permissions();
    const wanted = session.devices.wanted;
    // What is blocked prompts nobody either, and is told before anybody presses Join.
    const settled = { audio: may.audio !== 'prompt' && wanted.audio, video: may.video !== 'prompt' && wanted.video };
    if (!session.devices.asked && (settled.audio || settled.video)) opening = session.devices.open(settled);
    watchRoom(link);
  }

  /** A browser that cannot make calls is told of here, before anybody waits for it. */
  async function checkWebRtc() {
    const { callProblem } = await import('./webrtc.js');
    const problem = await callProblem();
    if (disposed || !problem) return;
    if (problem === 'off') {
      join.disabled = joinMuted.disabled = true;
      await fail({ code: 'NO_WEBRTC', message: '' });
    } else webrtc.replaceChildren(h('p', null, icon('warn'), t('prejoin.pathless')));
  }

  /** @param {Wanted} wanted */
  async function openDevices(wanted) {
    await ready;
    const devices = session?.devices;
    if (!devices) return;
    turnOn.disabled = retry.disabled = true;
    devices.want(wanted);
    await devices.open(wanted);
    turnOn.disabled = retry.disabled = false;
    if (document.activeElement === document.body) (devices.troubled ? retry : join).focus();
  }

  /** @param {'audio' | 'video'} kind */
  async function press(kind) {
    await ready;
    const devices = session?.devices;
    if (!devices) return;
    if (kind === 'audio') await devices.setMicrophone(!(devices.microphone && devices.wanted.audio));
    else await devices.setCamera(!devices.camera);
  }

  /** The room is known to have a password. */
  let asksPassword = false;
  /** There is a token that may be the owner's, whom nobody asks for a password. */
  let mayOwn = false;
  let menusMade = false;
  function drawDevices() {
    const devices = session?.devices;
    if (!devices || disposed) return;
    const { camera, microphone } = devices;
    const stream = /** @type {MediaStream | null} */ (video.srcObject);
    if (stream?.getVideoTracks()[0] !== (camera ?? undefined)) {
      video.srcObject = camera && new MediaStream([camera]);
      if (camera) video.play().catch(() => {});
    }
    mirror.classList.toggle('on', Boolean(camera));
    const micOff = !(microphone && devices.wanted.audio);
    micToggle.setAttribute('aria-pressed', String(micOff));
    camToggle.setAttribute('aria-pressed', String(!camera));
    setIcon(micToggle, micOff ? 'mic-off' : 'mic');
    setIcon(camToggle, camera ? 'cam' : 'cam-off');
    micToggle.title = t(micOff ? 'control.unmute' : 'control.mute');
    camToggle.title = t(camera ? 'control.cameraOff' : 'control.cameraOn');
    const { complaints, troubled } = devices;
    offText.textContent = camera ? '' : t(microphone ? 'prejoin.cameraIsOff' : devices.asked || troubled ? 'prejoin.allOff' : 'prejoin.notAsked');
    micToggle.classList.toggle('troubled', troubled && Boolean(devices.problems.audio));
    camToggle.classList.toggle('troubled', troubled && Boolean(devices.problems.video));
    if (complaints.join() !== [...trouble.children].map((line) => line.textContent).join()) trouble.replaceChildren(...complaints.map((line) => h('p', null, line)));
    troubleBox.hidden = complaints.length === 0;
    retry.hidden = !devices.curable;
    turnOn.hidden = Boolean(troubled || camera || microphone);
    joinMuted.hidden = devices.asked && !microphone && !camera && troubled;
    if (!menusMade && (camera || microphone)) {
      menusMade = true;
      import('./device-menus.js').then(({ deviceMenus }) => {
        if (disposed) return;
        const made = deviceMenus(devices);
        menus.append(made.root);
        cleanup.push(made.dispose);
      });
    }
    drawAvatar();
  }

  function drawAvatar() {
    avatar.textContent = initials(cleanName(name.value));
    avatar.style.setProperty('--hue', String(hue(name.value)));
  }
  name.addEventListener('input', drawAvatar);
  drawAvatar();

  /** @param {boolean} sealed */
  function drawPrivacy(sealed) {
    privacy.classList.toggle('open', !sealed);
    privacy.replaceChildren(icon(sealed ? 'shield' : 'warn'), h('p', null,
      t(sealed ? 'privacy.sealed' : 'privacy.unsealed'), ' ', h('span', { class: 'quiet' }, t(sealed ? 'privacy.limit' : 'privacy.unsealedAdvice'))));
  }

  /** Who is inside, asked for while somebody looks. @param {RoomLink} link */
  async function watchRoom(link) {
    if (!link.secret || !crypto.subtle) return;
    const { deriveLinkProof, Sealer } = await import('./seal.js');
    const { anonymous } = await import('./identity.js');
    const proof = await deriveLinkProof(link.secret, link.roomId);
    // Only for opening names: it never takes a seat.
    const sealer = new Sealer({ secret: link.secret, roomId: link.roomId, identity: await anonymous() });
    const ask = async () => {
      if (document.hidden || disposed) return;
      try {
        const answer = await fetch(`/room/${link.roomId}/meta`, { headers: { 'Snug-Link-Proof': proof }, cache: 'no-store' });
        if (answer.ok && !disposed) await drawRoom(await answer.json(), sealer);
      } catch {
        // The room's state is a courtesy; the join itself says what is wrong.
      }
    };
    await ask();
    const timer = setInterval(ask, META_EVERY_MS);
    document.addEventListener('visibilitychange', ask);
    cleanup.push(() => {
      clearInterval(timer);
      document.removeEventListener('visibilitychange', ask);
    });
  }

  /** @param {RoomMeta} meta @param {Sealer} sealer */
  async function drawRoom(meta, sealer) {
    const people = await Promise.all((meta.participants ?? []).map(async ({ userId, publicKey, displayName }) => {
      try {
        await sealer.introduce(userId, publicKey);
        return cleanName(String(/** @type {{name: string}} */ (await sealer.open('name', userId, '*', displayName)).name)) || t('page.guest');
      } catch {
        return t('page.guest');
      }
    }));
    chips.replaceChildren(...[
      meta.passwordEnabled && h('span', { class: 'chip' }, icon('lock'), t('page.roomPassword')),
      meta.locked && h('span', { class: 'chip' }, icon('lock'), t('prejoin.isLocked')),
    ].filter((chip) => chip instanceof Node));
    asksPassword = meta.passwordEnabled === true;
    if (asksPassword && !mayOwn) passwordField.hidden = false;
    const full = meta.maxParticipants !== null && people.length >= meta.maxParticipants;
    inside.textContent = !meta.participants ? (meta.passwordEnabled ? t('prejoin.namesHidden') : '')
      : people.length === 0 ? t('prejoin.nobody')
        : full ? t('prejoin.full', { names: listOf(people), n: people.length })
          : t('prejoin.inside', { names: listOf(people), n: people.length });
  }

  /** @param {string[]} people */
  function listOf(people) {
    const shown = people.length > 4 ? [...people.slice(0, 3), t('prejoin.others', { n: people.length - 3 })] : people;
    return new Intl.ListFormat(document.documentElement.lang).format(shown);
  }

  function keep() {
    if (!session) return;
    session.name = cleanName(name.value);
    session.password = password.value || null;
  }

  /** Counts the tries to join; 0 while there is none. */
  let entering = 0;
  /** The relay has been asked and has not answered yet. */
  let atDoor = false;
  /** @param {boolean} withDevices whether microphone and camera are asked for when they were not yet */
  async function enter(withDevices) {
    // A second Join changes nothing; "without" overtakes a permission prompt that nobody answers.
    if (join.disabled || atDoor || (withDevices && entering)) return;
    const mine = ++entering;
    setBusy(true);
    status.replaceChildren();
    try {
      await ready;
      if (!session) return;
      const { devices } = session;
      if (withDevices) {
        await opening;
        if (!(await openForJoin(devices))) return;
      } else await Promise.all([devices.setMicrophone(false), devices.setCamera(false)]);
      if (disposed || mine !== entering) return;
      atDoor = true;
      const renamed = session.name !== cleanName(name.value);
      keep();
      remember('name', session.name || null);
      if (renamed && session.call) dropCall();
      if (!crypto.subtle) throw { code: 'INSECURE', message: '' };
      const [{ Call }, { newOwnerToken }, { identityFor }] = await Promise.all([import('./call.js'), import('./link.js'), import('./identity.js')]);
      if (!session.ownerTokens.length) {
        // Should the join make the room, this is its owner's, also when the relay's answer gets lost with the page.
        session.ownerTokens = [newOwnerToken()];
        remember(`drawn.${roomId}`, session.ownerTokens[0]);
      }
      const call = session.call ??= new Call({
        identity: await identityFor(roomId),
        link: session.link, name: session.name || t('page.guest'), password: session.password, ownerTokens: session.ownerTokens, creationKey: key?.value,
        microphone: devices.microphone, camera: devices.camera,
      });
      call.setAudioEnabled(Boolean(devices.microphone) && devices.wanted.audio);
      call.setMicrophone(devices.microphone);
      call.setCamera(devices.camera);
      call.addEventListener('change', drawWaiting);
      try {
        await call.join({ password: session.password, asksPassword });
      } finally {
        call.removeEventListener('change', drawWaiting);
      }
      if (disposed) return;
      handedOn = true;
      await app.show('call', session);
    } catch (error) {
      await fail(/** @type {CallEnd} */ (error));
    } finally {
      if (mine === entering) atDoor = false;
      if (!disposed && mine === entering) {
        entering = 0;
        setBusy(false);
      }
    }
  }

  /**
   * Join asks for the devices that were not asked for yet. What does not work is told on this page first, with a Join that does
   * without; once that was pressed, in this visit or an earlier one, the same trouble stops nobody again.
   * @param {Devices} devices
   */
  async function openForJoin(devices) {
    if (devices.unasked) await devices.open(devices.wanted);
    const trouble = devices.curable ? Object.values(devices.problems).join() : null;
    if (!trouble || trouble === recall('without', null)) return true;
    remember('without', trouble);
    status.textContent = t(devices.microphone || devices.camera ? 'prejoin.joinPartly' : 'prejoin.joinAnyway');
    join.focus();
    return false;
  }

  /** In the lobby: said once, with the way out of it. */
  function drawWaiting() {
    if (!session?.call?.snapshot.waiting || status.querySelector('#waiting')) return;
    join.textContent = t('prejoin.waiting');
    status.replaceChildren(h('p', { id: 'waiting' }, t('prejoin.waitingText')), button('', t('page.cancel'), () => {
      status.replaceChildren();
      dropCall();
    }, { id: 'cancel-waiting', class: 'small' }));
  }

  /** @param {boolean} busy */
  function setBusy(busy) {
    join.setAttribute('aria-busy', String(busy));
    join.textContent = t(busy ? 'prejoin.joining' : 'prejoin.join');
  }

  /** @param {CallEnd} end */
  async function fail(end) {
    // The person called it off.
    if (end.code === 'LEFT') return;
    const { explain } = await import('./failures.js');
    const aboutPassword = /^(AUTH|PASSWORD)_/.test(end.code);
    const said = explain(end, Boolean(session?.password));
    status.replaceChildren(h('p', null, icon('warn'), said.text));
    if (end.hint) status.append(h('p', null, t('prejoin.hint', { hint: end.hint })));
    if (aboutPassword) {
      passwordField.hidden = false;
      password.select();
      password.focus();
    } else {
      // Only the door's question needs the same connection; every other try starts afresh.
      dropCall();
    }
    if (end.code === 'CREATION_KEY_REQUIRED') {
      if (!key) {
        key = h('input', { id: 'creation-key', type: 'password', autocomplete: 'off' });
        passwordField.after(field(t('prejoin.key'), key));
      }
      key.focus();
    }
    const meant = end.code === 'BAD_LINK' && (await import('./room-name.js')).roomName(roomId).id;
    if (meant) status.append(button('', t('prejoin.meant', { room: meant }), () => app.go(`/room/${meant}${location.hash}`), { id: 'meant', class: 'small primary' }));
    if (said.action) status.append(button('', said.action.label, said.action.press, { class: 'small' }));
    if (said.wait) countDown(said.wait, said.again);
  }

  /** @param {number} milliseconds @param {boolean} again whether the page tries by itself afterwards */
  function countDown(milliseconds, again) {
    const line = h('p', { class: 'quiet' });
    status.append(line);
    const until = Date.now() + milliseconds;
    join.disabled = joinMuted.disabled = true;
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      line.textContent = left > 0 ? t(again ? 'prejoin.againIn' : 'prejoin.waitFor', { n: left }) : '';
      if (left > 0) return;
      clearInterval(timer);
      join.disabled = joinMuted.disabled = false;
      if (again) enter(true);
    };
    const timer = setInterval(tick, 500);
    cleanup.push(() => clearInterval(timer));
    tick();
  }

  function dropCall() {
    session?.call?.leave();
    if (session) session.call = null;
  }

  // What the call needs is fetched while the person looks into the mirror.
  const idle = setTimeout(() => {
    for (const load of [() => import('./call.js'), () => import('./call-view.js'), () => import('./failures.js')]) load().catch(() => {});
  }, 600);
  if (matchMedia('(pointer: fine)').matches) (name.value ? join : name).focus();

  return {
    focus: heading,
    dispose() {
      disposed = true;
      clearTimeout(idle);
      for (const undo of cleanup) undo();
      if (handedOn) return;
      dropCall();
      session?.devices.close();
    },
  };
}

/** The room's name as the address has it, also when it is none. */
function roomInPath() {
  const name = location.pathname.split('/').filter(Boolean)[1] ?? '';
  try {
    return decodeURIComponent(name).toLowerCase();
  } catch {
    return name.toLowerCase();
  }
}
