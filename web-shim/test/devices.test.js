// Which device is opened, and what is said when one is missing: against a browser's devices as doubles.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

const kept = new Map();
globalThis.localStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key) };
globalThis.window = { isSecureContext: true };
globalThis.document = Object.assign(new EventTarget(), { hidden: false, documentElement: {}, createElement: () => ({}) });
globalThis.matchMedia = () => ({ matches: false });
const { Devices } = await import('../js/devices.js');
const { loadLanguage } = await import('../js/page.js');

/** What is plugged in; `fails` names the error of each device that does not start. */
let machine;
let asked;

class Track extends EventTarget {
  enabled = true;
  stopped = false;
  constructor(device) {
    super();
    this.device = device;
    this.kind = device.kind.replace('input', '');
    this.label = device.label;
  }
  getSettings() {
    return { deviceId: this.device.deviceId };
  }
  stop() {
    this.stopped = true;
  }
}

async function getUserMedia(constraints) {
  asked.push(constraints);
  await null;
  const tracks = [];
  for (const [kind, wish] of Object.entries(constraints)) {
    if (!wish) continue;
    const refusal = machine.refuses[kind];
    if (refusal) throw new DOMException('', refusal);
    const all = machine.devices.filter((device) => device.kind === `${kind}input`);
    if (!all.length) throw new DOMException('', 'NotFoundError');
    const exact = wish.deviceId?.exact;
    // As Chromium: an ideal id is not looked at.
    const device = exact ? all.find((one) => one.deviceId === exact) : all[0];
    if (!device) throw new DOMException('', 'OverconstrainedError');
    if (machine.fails[device.deviceId]) throw new DOMException('', machine.fails[device.deviceId]);
    tracks.push(new Track(device));
  }
  return { getTracks: () => tracks };
}

const device = (kind, name) => ({ kind: `${kind}input`, deviceId: `${kind}-${name}`, label: `${name} ${kind}` });
const mediaDevices = Object.assign(new EventTarget(), {
  getUserMedia,
  enumerateDevices: async () => machine.devices.map((one) => (machine.listed ? one : { ...one, deviceId: '', label: '' })),
});
Object.defineProperty(globalThis, 'navigator', {
  value: {
    userAgent: 'Chrome/140', languages: ['en'], mediaDevices,
    permissions: { query: async ({ name }) => ({ state: machine.permissions[name] ?? 'prompt' }) },
  },
  configurable: true,
});

let devices;
beforeEach(async () => {
  kept.clear();
  asked = [];
  machine = { devices: ['one', 'two', 'three'].flatMap((name) => [device('audio', name), device('video', name)]), listed: true, fails: {}, refuses: {}, permissions: {} };
  await loadLanguage();
  devices = new Devices();
});
afterEach(() => devices.close());
const both = { audio: true, video: true };
const again = () => {
  devices.close();
  devices = new Devices();
};

test('the chosen camera and microphone are opened, and after a reload too', async () => {
  await devices.open(both);
  await devices.choose('videoinput', 'video-three');
  await devices.choose('audioinput', 'audio-two');
  assert.equal(devices.camera.label, 'three video');
  assert.equal(devices.microphone.label, 'two audio');
  assert.equal((await devices.list('videoinput')).chosen, 'video-three');
  for (const listed of [true, false]) {
    again();
    machine.listed = listed;
    await devices.open(both);
    assert.equal(devices.camera.label, 'three video');
    assert.equal(devices.microphone.label, 'two audio');
    assert.deepEqual(devices.complaints, []);
  }
});

test('of two choices right after one another the last one wins', async () => {
  await devices.open(both);
  await Promise.all([devices.choose('videoinput', 'video-two'), devices.choose('videoinput', 'video-three')]);
  assert.equal(devices.camera.label, 'three video');
});

test('a chosen device that is gone gives way to another one, with a word', async () => {
  for (const listed of [true, false]) {
    await devices.open(both);
    await devices.choose('videoinput', 'video-three');
    again();
    machine.listed = listed;
    machine.devices = machine.devices.filter((one) => one.deviceId !== 'video-three');
    await devices.open(both);
    assert.equal(devices.camera.label, 'one video');
    assert.match(devices.complaints.join(), /“three video” is not there, so “one video”/);
    assert.equal(devices.troubled, false);
    // It is still the one that is wished for.
    again();
    machine.devices.push(device('video', 'three'));
    machine.listed = true;
    await devices.open(both);
    assert.equal(devices.camera.label, 'three video');
    assert.deepEqual(devices.complaints, []);
  }
});

test('a device that has another id than last time is known by its name', async () => {
  await devices.open(both);
  await devices.choose('videoinput', 'video-two');
  again();
  machine.devices = machine.devices.map((one) => ({ ...one, deviceId: `new-${one.deviceId}` }));
  await devices.open(both);
  assert.equal(devices.camera.label, 'two video');
  assert.deepEqual(devices.complaints, []);
});

test('a chosen device that does not start leaves the earlier one on, with a word', async () => {
  await devices.open(both);
  machine.fails['video-two'] = 'NotReadableError';
  await devices.choose('videoinput', 'video-two');
  assert.equal(devices.camera.label, 'one video');
  assert.equal((await devices.list('videoinput')).chosen, 'video-one');
  assert.match(devices.complaints.join(), /“two video” did not start.*“one video” goes on/);
});

test('another camera can be chosen when the first one does not start', async () => {
  machine.fails['video-one'] = 'NotReadableError';
  await devices.open(both);
  assert.equal(devices.camera, null);
  await devices.choose('videoinput', 'video-two');
  assert.equal(devices.camera.label, 'two video');
  assert.deepEqual(devices.complaints, []);
});

test('when one of the two fails the other works, and what is missing is said with why and what to do', async () => {
  for (const [refuses, permissions, words] of [
    [{ video: 'NotReadableError' }, {}, /Another program uses the camera\. Close it/],
    [{ audio: 'NotReadableError' }, {}, /Another program uses the microphone\. Close it/],
    [{ video: 'NotFoundError' }, {}, /does not find the camera\. Plug in/],
    [{ audio: 'AbortError' }, {}, /Another program uses the microphone/],
    [{ video: 'OverconstrainedError' }, {}, /does not find the camera/],
    [{ audio: 'NotAllowedError' }, { microphone: 'denied', camera: 'granted' }, /blocks the microphone\. Press the icon/],
    [{ video: 'NotAllowedError' }, { microphone: 'prompt', camera: 'denied' }, /blocks the camera\. Press the icon/],
    // No permission is known, as in some browsers: a refusal faster than any hand was a rule's.
    [{ video: 'NotAllowedError' }, {}, /blocks the camera\. Press the icon/],
    [{ audio: 'TypeError' }, {}, /could not start the microphone\. Close/],
  ]) {
    again();
    Object.assign(machine, { refuses, permissions });
    await devices.open(both);
    const [missing] = Object.keys(refuses);
    assert.equal(devices[missing === 'audio' ? 'microphone' : 'camera'], null);
    assert.ok(devices[missing === 'audio' ? 'camera' : 'microphone'], JSON.stringify(refuses));
    assert.equal(devices.complaints.length, 1);
    assert.match(devices.complaints[0], words);
    assert.equal(devices.troubled, true);
    Object.assign(machine, { refuses: {} , permissions: {} });
    await devices.open(both);
    assert.deepEqual(devices.complaints, [], 'another try ends it');
  }
});

test('two different reasons are two sentences, and one reason for both is one', async () => {
  machine.refuses = { audio: 'NotFoundError', video: 'NotReadableError' };
  await devices.open(both);
  assert.equal(devices.complaints.length, 2);
  again();
  machine.refuses = { audio: 'NotAllowedError', video: 'NotAllowedError' };
  await devices.open(both);
  assert.deepEqual(devices.complaints.length, 1);
  assert.match(devices.complaints[0], /camera and microphone/);
});

test('nobody is prompted again after their own refusal', async () => {
  machine.refuses = { audio: 'NotAllowedError', video: 'NotAllowedError' };
  const slow = mediaDevices.getUserMedia;
  mediaDevices.getUserMedia = async (constraints) => {
    await new Promise((done) => setTimeout(done, 300));
    return slow(constraints);
  };
  await devices.open(both);
  mediaDevices.getUserMedia = slow;
  assert.equal(asked.length, 1);
});

test('a device that is switched off is no trouble', async () => {
  machine.refuses = { video: 'NotReadableError' };
  await devices.open(both);
  await devices.setCamera(false);
  assert.equal(devices.troubled, false);
  assert.deepEqual(devices.complaints, []);
});

test('what was missing is taken when it is plugged in, where that prompts nobody', async () => {
  const camera = machine.devices.filter((one) => one.kind === 'videoinput');
  machine.devices = machine.devices.filter((one) => one.kind === 'audioinput');
  await devices.open(both);
  assert.match(devices.complaints.join(), /does not find the camera/);
  machine.devices.push(...camera);
  const before = asked.length;
  mediaDevices.dispatchEvent(new Event('devicechange'));
  await new Promise((done) => setTimeout(done, 20));
  assert.equal(asked.length, before, 'no permission is known, so nobody is asked');
  machine.permissions = { camera: 'granted' };
  mediaDevices.dispatchEvent(new Event('devicechange'));
  await new Promise((done) => setTimeout(done, 20));
  assert.equal(devices.camera.label, 'one video');
  assert.deepEqual(devices.complaints, []);
});

test('a device that goes away in use gives way to another one, with a word, chosen or not', async () => {
  for (const choose of [false, true]) {
    again();
    await devices.open(both);
    if (choose) await devices.choose('videoinput', 'video-two');
    const { camera } = devices;
    machine.devices = machine.devices.filter((one) => one.label !== camera.label);
    camera.onended();
    assert.match(devices.complaints.join(), /took the camera away/);
    await new Promise((done) => setTimeout(done, 900));
    assert.equal(devices.camera.label, choose ? 'three video' : 'two video');
    assert.match(devices.complaints.join(), new RegExp(`“${camera.label}” is not there, so “${devices.camera.label}” is used`));
    machine.devices.push(camera.device);
  }
});

test('a chosen speaker that is back is no longer said to be gone, whichever element finds it', async () => {
  globalThis.HTMLMediaElement = class { setSinkId() {} };
  let there = false;
  const element = () => ({
    sinkId: '',
    async setSinkId(id) {
      if (id !== this.sinkId && !there) throw new DOMException('', 'NotFoundError');
      this.sinkId = id;
    },
  });
  const elements = [element(), element()];
  const follow = () => Promise.all(elements.map((one) => devices.useSpeaker(one)));
  let changes = 0;
  devices.addEventListener('change', () => {
    changes += 1;
    follow();
  });
  machine.devices.push({ kind: 'audiooutput', deviceId: 'out', label: 'Headset' });
  await devices.choose('audiooutput', 'out');
  await new Promise((done) => setTimeout(done, 5));
  assert.match(devices.complaints.join(), /Headset/);
  const before = changes;
  mediaDevices.dispatchEvent(new Event('devicechange'));
  await new Promise((done) => setTimeout(done, 5));
  assert.match(devices.complaints.join(), /Headset/);
  there = true;
  mediaDevices.dispatchEvent(new Event('devicechange'));
  await new Promise((done) => setTimeout(done, 5));
  assert.equal(devices.complaints.join(), '');
  assert.deepEqual(elements.map(({ sinkId }) => sinkId), ['out', 'out']);
  assert.ok(changes - before <= 4, String(changes - before));
});
