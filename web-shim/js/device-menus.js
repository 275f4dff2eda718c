// The menus for microphone, camera and speaker, the microphone's meter and the speaker test.
// Used before the call and in its settings; never opens a device by itself.

import { Meter, canChooseSpeaker, testSpeaker } from './devices.js';
import { button, h, icon, t } from './page.js';

/** @import { Devices, Kind } from './devices.js' */

const SEGMENTS = 12;
/** So long may the microphone be silent before the page asks about it. */
const UNHEARD_MS = 7000;

/**
 * @param {Devices} devices
 * @returns {{root: HTMLElement, dispose(): void}}
 */
export function deviceMenus(devices) {
  /** @type {[Kind, string, string][]} */
  const kinds = [['audioinput', 'mic', 'device.microphone'], ['videoinput', 'cam', 'device.camera']];
  if (canChooseSpeaker()) kinds.push(['audiooutput', 'sound', 'device.speaker']);
  const menus = kinds.map(([kind, iconName, label]) => {
    const select = h('select', { id: `device-${kind}`, 'aria-label': t(label), onchange: () => devices.choose(kind, select.value) });
    return { kind, select, row: h('div', { class: 'device' }, icon(iconName), select) };
  });

  async function fill() {
    for (const { kind, select, row } of menus) {
      const { list, chosen } = await devices.list(kind);
      // The speaker's row stays for its test.
      (kind === 'audiooutput' ? select : row).hidden = list.length === 0;
      select.replaceChildren(...list.map((device) => h('option', { value: device.deviceId }, device.label)));
      select.value = chosen;
    }
  }

  const meter = microphoneMeter(devices);
  const test = button('sound', t('device.test'), async () => {
    test.disabled = true;
    test.lastElementChild?.replaceChildren(t('device.testing'));
    await testSpeaker(devices).catch(() => {});
    test.disabled = false;
    test.lastElementChild?.replaceChildren(t('device.test'));
  }, { class: 'small' });
  menus[0].row.append(meter.root);
  const speakerRow = menus[2]?.row ?? h('div', { class: 'device' });
  speakerRow.append(test);
  devices.addEventListener('change', fill);
  fill();

  return {
    root: h('div', { class: 'devices' }, menus[0].row, meter.hint, menus[1].row, speakerRow),
    dispose() {
      devices.removeEventListener('change', fill);
      meter.dispose();
    },
  };
}

/** A bar of segments; its words say what it shows. @param {Devices} devices */
function microphoneMeter(devices) {
  const segments = Array.from({ length: SEGMENTS }, () => h('i', null));
  const root = h('div', { class: 'meter', role: 'img', 'aria-label': t('device.meter') }, ...segments);
  const hint = h('p', { class: 'quiet', role: 'status', hidden: true }, t('device.silent'));
  /** @type {Meter | null} */
  let meter = null;
  /** @type {MediaStreamTrack | null} */
  let track = null;
  let heard = performance.now();

  function follow() {
    if (devices.microphone === track) return;
    track = devices.microphone;
    meter?.close();
    meter = track && new Meter(track);
    heard = performance.now();
  }
  const timer = setInterval(() => {
    if (document.hidden) return;
    const level = meter?.level() ?? 0;
    const now = performance.now();
    if (level > 0.25 || !meter?.awake) heard = now;
    const lit = Math.round(level * SEGMENTS);
    segments.forEach((segment, at) => segment.classList.toggle('lit', at < lit));
    hint.hidden = !meter || now - heard < UNHEARD_MS;
  }, 80);
  devices.addEventListener('change', follow);
  follow();
  return {
    root,
    hint,
    dispose() {
      clearInterval(timer);
      devices.removeEventListener('change', follow);
      meter?.close();
    },
  };
}
