// The people panel: who is here, how well each link works in words, how loud each voice is.
// Never shows a colour without its word.

import { confirmDialog } from './dialogs.js';
import { doubtOf } from './stage.js';
import { h, hue, icon, iconButton, initials, t, toggle } from './page.js';

/** @import { Call } from './call.js' */
/** @import { Stage } from './stage.js' */
/** @import { CallSnapshot, RemoteSnapshot } from './types.d.ts' */
/** @import { Person } from './view.d.ts' */

/** Phones of Apple leave the volume to their buttons. */
const canSetVolume = (() => {
  const audio = new Audio();
  audio.volume = 0.5;
  return audio.volume === 0.5;
})();

/** @type {Promise<string[]> | null} */
let nouns = null;
/** The list that safety words are taken from, fetched when somebody looks for them. */
function safetyNouns() {
  nouns ??= fetch('/assets/words.json').then((answer) => answer.json()).then((lists) => lists.nouns);
  nouns.catch(() => { nouns = null; });
  return nouns;
}

/**
 * @param {{call: Call, stage: Stage, close: () => void}} options
 */
export function peoplePanel({ call, stage, close }) {
  const list = h('ul', { class: 'people' });
  const heading = h('h2', { tabindex: -1 });
  const root = h('div', { class: 'panel-inner' },
    h('div', { class: 'panel-head' }, heading, iconButton('close', t('page.close'), close)), list);
  /** @type {Map<string, ReturnType<typeof personRow>>} */
  const rows = new Map();

  /** @param {CallSnapshot} snapshot */
  function draw(snapshot) {
    const { remotes, media, selfId } = snapshot;
    heading.textContent = t('people.title', { n: remotes.length + 1, most: snapshot.room?.maxParticipants ?? 10 });
    const people = [
      { userId: selfId, name: t('tile.self', { name: snapshot.selfName }), media, owner: snapshot.isOwner, doubt: '', mutes: false, safety: null, words: '', quality: '', self: true, screenSound: false },
      ...remotes.map((remote) => ({
        userId: remote.userId, name: remote.name, media: remote.media, owner: remote.owner, doubt: doubtOf(remote), mutes: remote.capabilities.includes('ask_mute'), safety: remote.safety, words: linkWords(remote),
        quality: remote.link === 'connected' ? remote.quality : 'lost', self: false, screenSound: remote.media.screen && remote.screen.getAudioTracks().length > 0,
      })),
    ];
    for (const person of people) {
      let row = rows.get(person.userId);
      if (!row) {
        row = personRow(person, { call, stage });
        rows.set(person.userId, row);
        list.append(row.root);
      }
      row.draw(person, snapshot.isOwner);
    }
    for (const [id, row] of rows) {
      if (people.some((person) => person.userId === id)) continue;
      row.root.remove();
      rows.delete(id);
    }
  }
  return { root, focus: heading, draw, dispose() {} };
}

/** @param {Person} person @param {{call: Call, stage: Stage}} tools */
function personRow({ userId, name: firstName, self }, { call, stage }) {
  let name = firstName;
  const label = h('bdi', { class: 'person-name' });
  const marks = h('span', { class: 'marks' });
  const doubt = h('div', { class: 'doubts' });
  const safety = h('small', { class: 'safety' });
  /** @param {number[] | 'forged' | null} places */
  async function drawSafety(places) {
    if (!places) return safety.replaceChildren();
    if (places === 'forged') return safety.replaceChildren(icon('warn'), t('people.forged'));
    const list = await safetyNouns().catch(() => null);
    if (list) safety.replaceChildren(t('people.safety', { words: places.map((place) => list[place]).join(' ') }));
  }
  const words = h('small', { class: 'link-words' });
  const avatar = h('div', { class: 'avatar', 'aria-hidden': 'true' });
  avatar.style.setProperty('--hue', String(hue(userId)));
  const pin = iconButton('pin', '', () => { stage.pin(self ? 'self' : userId); drawPin(); });
  const kick = iconButton('kick', '', askKick, { hidden: true });
  const mute = iconButton('mic-off', '', () => call.askMute(userId), { hidden: true });
  const voice = volume(userId, () => t('people.volume', { name }));
  const screen = volume(`${userId}/screen`, () => t('people.screenVolume', { name }));
  const root = h('li', { 'data-person': userId }, avatar,
    h('div', { class: 'person' }, h('div', { class: 'person-line' }, label, marks), doubt, words, safety, !self && canSetVolume && voice.root, !self && canSetVolume && screen.root),
    pin, !self && mute, !self && kick);

  /** @param {string} key @param {() => string} text */
  function volume(key, text) {
    const slider = h('input', {
      type: 'range', min: 0, max: 100, step: 5,
      oninput: () => { stage.setVolume(key, Number(slider.value) / 100); slider.setAttribute('aria-valuetext', `${slider.value} %`); },
    });
    slider.value = String(Math.round((stage.volumes.get(key) ?? 1) * 100));
    return { slider, root: h('div', { class: 'volume' }, icon(key.endsWith('/screen') ? 'share' : 'sound'), slider), label: () => slider.setAttribute('aria-label', text()) };
  }

  function drawPin() {
    pin.setAttribute('aria-pressed', String(stage.spotlight() === (self ? 'self' : userId)));
  }

  function askKick() {
    let lock = true;
    confirmDialog(`${t('people.kick', { name })}?`, [h('p', null, t('people.kickText')), toggle(t('people.kickLock'), lock, (on) => { lock = on; })],
      t('people.kick', { name }), async () => {
        // The door is shut first, or the person could be back at once.
        if (lock) await call.lock(true).catch(() => {});
        await call.kick(userId).catch(() => {});
      });
  }

  let drawn = '';
  return {
    root,
    /** @param {Person} person @param {boolean} ownerLooks */
    draw(person, ownerLooks) {
      drawPin();
      kick.hidden = !ownerLooks;
      mute.hidden = !ownerLooks || !person.mutes || !person.media.audio;
      words.dataset.quality = person.quality;
      if (words.textContent !== person.words) words.textContent = person.words;
      screen.root.hidden = !person.screenSound;
      const { audio, video, screen: shares, hand, recording } = person.media;
      const key = [person.name, audio, video, shares, hand, recording, person.owner, person.doubt, person.safety].join();
      if (key === drawn) return;
      drawn = key;
      name = person.name;
      label.textContent = name;
      avatar.textContent = initials(self ? name.replace(/\s*\(.*\)$/, '') : name);
      pin.setAttribute('aria-label', t('tile.pin', { name }));
      pin.title = t('tile.pin', { name });
      kick.setAttribute('aria-label', t('people.kick', { name }));
      kick.title = t('people.kick', { name });
      mute.setAttribute('aria-label', t('people.askMute', { name }));
      mute.title = t('people.askMute', { name });
      voice.label();
      screen.label();
      /** @type {[boolean, string, string][]} */
      const flags = [
        [person.owner, 'owner', 'tile.owner'], [hand, 'hand', 'tile.hand'], [shares, 'share', 'tile.shares'],
        [!audio, 'mic-off', 'tile.muted'], [!video, 'cam-off', 'tile.noCamera'],
      ];
      marks.replaceChildren(...flags.filter(([on]) => on).map(([, iconName, text]) =>
        h('span', { title: t(text) }, icon(iconName), h('span', { class: 'unseen' }, t(text)))));
      doubt.replaceChildren(...[recording && t('tile.recording'), person.doubt].filter((text) => typeof text === 'string' && text !== '')
        .map((text) => h('small', null, icon('warn'), String(text))));
      drawSafety(person.safety);
    },
  };
}

/** A link in words. @param {RemoteSnapshot} remote */
function linkWords(remote) {
  if (remote.link !== 'connected') return t(`link.${remote.link}`);
  const parts = [t(`quality.${remote.quality}`)];
  if (remote.path) parts.push(t(`link.${remote.path}`));
  if (remote.roundTripMs !== null) parts.push(`${Math.round(remote.roundTripMs)} ms`);
  if (remote.loss !== null && remote.loss >= 0.01) parts.push(t('link.loss', { n: Math.round(remote.loss * 100) }));
  if (remote.away) parts.push(t('link.away'));
  return parts.join(' · ');
}
