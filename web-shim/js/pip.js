// The small window outside the page: who speaks or what is shown, with the most needed buttons where browsers allow them.
// Never moves the page's own tiles: it shows the same streams in elements of its own.

import { h, iconButton, setIcon, t } from './page.js';

/** @import { Call } from './call.js' */
/** @import { Stage } from './stage.js' */

/** @typedef {{requestWindow(options: {width: number, height: number}): Promise<Window>}} DocumentPip */

export class Pip {
  /** @type {Window | null} */
  #window = null;
  #closed = false;

  /**
   * @param {{stage: Stage, call: Call, closed: () => void,
   *   deeds: {mute(): void, camera(): void, leave(): void}}} tools
   */
  constructor({ stage, call, deeds, closed }) {
    this.stage = stage;
    this.call = call;
    this.deeds = deeds;
    this.closed = closed;
    /** The key of the tile shown. */
    this.key = 'self';
    this.video = h('video', { playsinline: true, autoplay: true });
    this.video.muted = true;
    this.name = h('p', { class: 'pip-name' });
    this.video.addEventListener('leavepictureinpicture', () => this.close());
    this.onChange = () => this.follow();
    this.call.addEventListener('change', this.onChange);
  }

  async open() {
    const pip = /** @type {DocumentPip | undefined} */ (/** @type {any} */ (window).documentPictureInPicture);
    if (pip) this.#fill(await pip.requestWindow({ width: 400, height: 300 }));
    else {
      this.follow();
      // The element must have data before it may float.
      await this.video.play();
      if (this.video.requestPictureInPicture) await this.video.requestPictureInPicture();
      else /** @type {any} */ (this.video).webkitSetPresentationMode('picture-in-picture');
    }
    this.follow();
  }

  /** @param {Window} win */
  #fill(win) {
    this.#window = win;
    const page = win.document;
    page.documentElement.lang = document.documentElement.lang;
    Object.assign(page.documentElement.dataset, document.documentElement.dataset);
    page.title = document.title;
    page.head.append(h('link', { rel: 'stylesheet', href: new URL('/style.css', location.href).href }));
    this.mute = iconButton('mic', t('control.mute'), () => this.deeds.mute(), { class: 'control' });
    this.camera = iconButton('cam', t('control.cameraOff'), () => this.deeds.camera(), { class: 'control' });
    const leave = iconButton('leave', t('control.leave'), () => this.deeds.leave(), { class: 'control', id: 'leave' });
    const sprite = document.querySelector('svg.sprite')?.cloneNode(true);
    page.body.className = 'pip';
    page.body.append(this.video, this.name, h('div', { class: 'pip-bar' }, this.mute, this.camera, leave));
    if (sprite) page.body.append(sprite);
    win.addEventListener('pagehide', () => this.close());
    win.addEventListener('resize', () => this.follow());
  }

  /** Shows what is large on the stage, else who spoke last, else whoever is first. */
  follow() {
    if (this.#closed) return;
    const { stage } = this;
    const { activeSpeaker, remotes, media } = this.call.snapshot;
    /** @type {string} */
    const key = [stage.spotlight(), activeSpeaker, this.key === 'self' ? null : this.key, remotes[0]?.userId].find((wish) => wish && stage.tiles.has(wish)) ?? 'self';
    const tile = stage.tiles.get(key);
    const stream = tile ? /** @type {MediaStream | null} */ (tile.video.srcObject) : null;
    this.key = key;
    if (this.video.srcObject !== stream) {
      this.video.srcObject = stream;
      this.video.play().catch(() => {});
    }
    this.video.classList.toggle('mirrored', key === 'self');
    this.name.textContent = tile?.root.getAttribute('aria-label') ?? '';
    if (this.mute && this.camera) {
      this.mute.setAttribute('aria-pressed', String(!media.audio));
      setIcon(this.mute, media.audio ? 'mic' : 'mic-off');
      this.camera.setAttribute('aria-pressed', String(!media.video));
      setIcon(this.camera, media.video ? 'cam' : 'cam-off');
    }
    const width = this.#window?.innerWidth ?? 400;
    const height = this.#window?.innerHeight ?? 300;
    const before = stage.outside;
    if (tile && (before?.id !== tile.id || before.kind !== tile.kind || before.width !== width)) {
      stage.outside = { id: tile.id, kind: tile.kind, width, height };
      stage.report();
    }
  }

  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.call.removeEventListener('change', this.onChange);
    this.#window?.close();
    if (document.pictureInPictureElement === this.video) document.exitPictureInPicture().catch(() => {});
    this.video.srcObject = null;
    this.closed();
  }
}
