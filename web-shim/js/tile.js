// One tile of the call: a person's camera or a shared screen, with name, marks and the state of its link in words.
// Never decides where it stands (stage.js) and never keeps a person's data of its own.

import { h, hue, icon, iconButton, initials, t } from './page.js';

/** @import { Rect, TileState } from './view.d.ts' */

export class Tile {
  /** @type {TileState | null} */
  #shown = null;
  /** @type {MediaStream | null} */
  #stream = null;
  pinned = false;
  large = false;

  /**
   * @param {string} id the participant's @param {'camera' | 'screen' | 'self'} kind
   * @param {{pin: (tile: Tile) => void, blocked: (element: HTMLMediaElement) => void, fullScreen: (tile: Tile) => void}} on
   */
  constructor(id, kind, on) {
    this.id = id;
    this.kind = kind;
    this.on = on;
    this.video = h('video', { playsinline: true, autoplay: true, class: kind === 'self' ? 'mirrored' : null });
    this.video.muted = kind !== 'screen';
    this.video.addEventListener('resize', () => this.#fit());
    this.avatar = h('div', { class: 'avatar', 'aria-hidden': 'true' });
    this.veil = h('p', { class: 'veil' });
    this.name = h('bdi', { class: 'name' });
    this.mute = icon('mic-off');
    this.hand = h('span', { class: 'hand' }, icon('hand'));
    this.crown = icon('owner');
    this.doubt = h('span', { class: 'doubt' }, icon('warn'));
    this.record = h('span', { class: 'record' });
    this.wave = h('span', { class: 'wave', 'aria-hidden': 'true' }, h('i', null), h('i', null), h('i', null));
    this.pinButton = iconButton('pin', '', () => on.pin(this));
    this.fullButton = iconButton('full', t('tile.full'), () => on.fullScreen(this));
    this.root = h('div', {
      class: `tile ${kind}`, role: 'group',
      'data-user-id': kind === 'camera' ? id : null, 'data-screen-of': kind === 'screen' ? id : null, 'data-self': kind === 'self',
    },
    this.video, this.avatar, this.veil, this.hand,
    h('div', { class: 'label' }, this.mute, this.wave, this.crown, this.record, this.doubt, this.name),
    h('div', { class: 'tile-buttons' }, this.fullButton, this.pinButton));
  }

  /** @param {MediaStream | null} stream stable: attached once */
  attach(stream) {
    if (this.#stream === stream) return;
    this.#stream = stream;
    this.video.srcObject = stream;
    this.play();
  }

  play() {
    if (!this.#stream) return;
    this.video.play().catch((/** @type {unknown} */ error) => {
      if (error instanceof DOMException && error.name === 'NotAllowedError') this.on.blocked(this.video);
    });
  }

  /** @param {TileState} state */
  draw(state) {
    const before = this.#shown;
    this.#shown = state;
    if (before && Object.entries(state).every(([key, value]) => before[/** @type {keyof TileState} */ (key)] === value)) return;
    const { root } = this;
    root.dataset.link = state.link;
    root.classList.toggle('pictured', state.picture);
    root.classList.toggle('speaking', state.speaking);
    root.classList.toggle('muted', state.muted);
    root.classList.toggle('raised', state.hand);
    root.classList.toggle('owned', state.owner);
    root.classList.toggle('recording', Boolean(state.recording));
    root.classList.toggle('doubted', Boolean(state.doubt));
    this.doubt.title = state.doubt ?? '';
    this.record.title = t('tile.recording');
    root.classList.toggle('veiled', state.veil !== '');
    this.veil.textContent = state.veil;
    if (before?.name !== state.name) {
      this.name.textContent = state.name;
      this.avatar.textContent = initials(state.self ? state.name.replace(/\s*\(.*\)$/, '') : state.name);
      this.avatar.style.setProperty('--hue', String(hue(this.id)));
      this.name.title = state.name;
    }
    // Speaking changes too often to be part of the name that is read out.
    const words = [state.name, state.muted && t('tile.muted'), state.hand && t('tile.hand'), state.owner && t('tile.owner'), state.recording && t('tile.recording'), state.doubt, state.veil];
    const label = words.filter(Boolean).join(', ');
    if (root.getAttribute('aria-label') !== label) root.setAttribute('aria-label', label);
    this.drawPin();
  }

  drawPin() {
    const values = { name: this.#shown?.name ?? '' };
    this.pinButton.setAttribute('aria-label', t('tile.pin', values));
    this.pinButton.title = t(this.pinned ? 'tile.unpin' : 'tile.pin', values);
    this.pinButton.setAttribute('aria-pressed', String(this.pinned));
  }

  /** @param {Rect} rect @param {boolean} large */
  place(rect, large) {
    this.large = large;
    const { style } = this.root;
    style.width = `${rect.width}px`;
    style.height = `${rect.height}px`;
    style.transform = `translate(${rect.x}px, ${rect.y}px)`;
    style.setProperty('--small', String(Math.min(rect.width, rect.height)));
    this.root.classList.toggle('large', large);
    this.root.classList.toggle('tiny', rect.width < 190 || rect.height < 90);
    this.rect = rect;
    this.#fit();
  }

  /** A picture whose shape is far from the tile's is shown whole, so that no face is cut off. */
  #fit() {
    const { videoWidth, videoHeight } = this.video;
    if (!this.rect || !videoWidth) return;
    const ratio = videoWidth / videoHeight / (this.rect.width / this.rect.height);
    this.root.classList.toggle('whole', ratio > 2.6 || ratio < 0.5);
  }

  remove() {
    this.video.srcObject = null;
    this.root.remove();
  }
}
