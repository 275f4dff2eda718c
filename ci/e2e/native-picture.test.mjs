// What arrives is what was sent: pictures compared with the film they come from, speech with the recording that was spoken, and the
// native client's own recordings with what ffmpeg makes of them.

import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { film, filmNumber, filmPicture, speech } from './lib/clips.mjs';
import { hears } from './lib/ears.mjs';
import { ivfHeader, likeness, lumas, probe, readWav, recorded, ssim } from './lib/media.mjs';
import { native, recordings } from './lib/native.mjs';
import { chromium, guest, seesAndHears } from './lib/people.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';
import { during, until } from './lib/until.mjs';

const [WIDTH, HEIGHT] = [1280, 720];
/** Asks to be shown somebody as large as the film is. */
async function wantsAll(nat, name) {
  const { participants } = await nat.shows(name, shown => shown.participants.some(one => one.name === name && one.link === 'connected'));
  const { user } = participants.find(one => one.name === name);
  nat.say('set_tiles', { tiles: { [user]: { width: WIDTH, height: HEIGHT } } });
}

/** The likeness of received pictures to those of the film that bear the same number. */
function compare(pictures) {
  const found = [];
  for (const { luma, width, height } of pictures) {
    const number = filmNumber(luma, width, height);
    if (number !== null) found.push({ number, ssim: ssim(luma, filmPicture(number, width, height), width, height) });
  }
  const values = found.map(one => one.ssim).sort((a, b) => a - b);
  const mean = values.reduce((sum, one) => sum + one, 0) / values.length;
  return { compared: values.length, distinct: new Set(found.map(one => one.number)).size, mean, worst: values[0] };
}

const shown = ({ compared, distinct, mean, worst }) =>
  compared > 0 ? `SSIM ${mean.toFixed(3)} (worst ${worst.toFixed(3)}) over ${compared} pictures, ${distinct} different ones` : 'no picture whose number is readable';

/** Every seventh picture of the last four seconds of a recording. */
const sampleOf = (path, width, height) => lumas(path, width, height, { from: -4, every: 7 }).map(luma => ({ luma, width, height }));

scenario('a native client receives the picture and the speech that another one sends, and records both', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const folder = recordings(cleanup);
  const ana = native(cleanup, 'Ana', room.url, { video: film(), audio: speech() });
  await ana.saw('joined');
  const bo = native(cleanup, 'Bo', room.url, { record: folder });
  await wantsAll(bo, 'Ana');
  await bo.shows('the whole picture', one => one.participants[0].pictureSize[0] === WIDTH);
  await during(10_000);
  const end = await bo.leave();
  assert.equal(end.code, 0, JSON.stringify(end));

  const [video] = recorded(folder, '.ivf');
  assert.match(video, /Ana-[\w-]{22}\.ivf$/);
  const [seen, head] = [probe(video), ivfHeader(video)];
  console.log('recorded', JSON.stringify(seen), 'its header says', JSON.stringify(head));
  assert.equal(seen.codec, 'vp8');
  assert.equal(head.frames, seen.frames, 'the header counts the frames that are there');
  assert.ok(Math.abs(seen.seconds - head.seconds) < 0.01 && seen.seconds > 9 && seen.seconds < 30, 'and knows how long they last');
  const picture = compare(sampleOf(video, WIDTH, HEIGHT));
  console.log(`native → native: ${shown(picture)}, ${Math.round((statSync(video).size * 8) / seen.seconds / 1000)} kbit/s on the whole`);
  assert.ok(picture.mean >= 0.9 && picture.distinct > 5, shown(picture));

  const [sound] = recorded(folder, '.wav');
  assert.equal(probe(sound).codec, 'pcm_s16le');
  const voice = likeness(readWav(sound), readWav(speech()));
  console.log(`native → native: speech correlates ${voice.toFixed(3)}`);
  assert.ok(voice >= 0.6, `speech correlates only ${voice}`);
  assert.ok(existsSync(join(folder, 'heard.wav')));
});

scenario('a recording that was cut off by a crash plays to its end', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const folder = recordings(cleanup);
  const ana = native(cleanup, 'Ana', room.url);
  await ana.saw('joined');
  const bo = native(cleanup, 'Bo', room.url, { record: folder });
  await bo.seesAndHears(1);
  await during(4_000);
  await bo.kill();
  const [[video], [sound]] = [recorded(folder, '.ivf'), recorded(folder, '.wav')];
  const [seen, head] = [probe(video), ivfHeader(video)];
  console.log('cut off:', JSON.stringify(seen), 'header', JSON.stringify(head), 'sound', JSON.stringify(probe(sound)));
  assert.ok(seen.frames >= head.frames && head.frames > 30 && head.seconds > 2, 'the header was brought up to date while the file grew');
  assert.ok(probe(sound).seconds > 2);
});

scenario('a browser receives the picture and the speech that a native client sends', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const ana = native(cleanup, 'Ana', room.url, { video: film(), audio: speech() });
  await ana.saw('joined');
  const bo = await guest(await chromium(cleanup, { camera: 'small' }), 'Bo', room.url);
  await seesAndHears(bo, 1);
  await until('the whole picture', async () => Object.values((await bo.inbound())[0].media).some(one => one.width === WIDTH));
  await during(3_000);
  const [voice] = (await hears(bo, 12)).map(sound => likeness(sound, readWav(speech())));
  const { quality } = (await ana.snapshot()).participants[0];
  const pictures = [];
  await until('eight whole pictures', async () => {
    const one = await grab(bo);
    if (one.width === WIDTH) pictures.push(one);
    return pictures.length >= 8 || (() => { throw new Error(`${pictures.length}, and one of ${one.width}x${one.height}`); })();
  }, { timeout: 60_000 });
  const picture = compare(pictures);
  console.log(`native → Chromium: ${shown(picture)}, estimate ${quality.estimateBps / 1000} kbit/s; speech correlates ${voice.toFixed(3)}`);
  assert.ok(picture.mean >= 0.9 && picture.distinct > 3, shown(picture));
  assert.ok(voice >= 0.6, `speech correlates only ${voice}`);
});

scenario('a native client receives the picture and the speech that a browser sends', async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const folder = recordings(cleanup);
  const bo = native(cleanup, 'Bo', room.url, { record: folder, video: 'none', audio: 'none' });
  await bo.saw('joined');
  // The page encodes for each link anew, which takes a processor of its own at full size.
  const args = [`--use-file-for-fake-video-capture=${film({ width: WIDTH / 2, height: HEIGHT / 2 })}`, `--use-file-for-fake-audio-capture=${speech()}`];
  await guest(await chromium(cleanup, { args }), 'Ana', room.url);
  await wantsAll(bo, 'Ana');
  await bo.shows('the whole picture', one => one.participants[0].pictureSize[0] === WIDTH / 2, { timeout: 60_000 });
  await during(10_000);
  assert.equal((await bo.leave()).code, 0);
  const picture = compare(sampleOf(recorded(folder, '.ivf')[0], WIDTH / 2, HEIGHT / 2));
  const voice = likeness(readWav(recorded(folder, '.wav')[0]), readWav(speech()));
  console.log(`Chromium → native: ${shown(picture)}; speech correlates ${voice.toFixed(3)}`);
  assert.ok(picture.mean >= 0.9 && picture.distinct > 5, shown(picture));
  assert.ok(voice >= 0.6, `speech correlates only ${voice}`);
});

/** The lightness of the picture that comes over the page's one connection, at full size. */
async function grab(someone) {
  const grabbed = await someone.page.evaluate(async () => {
    const probe = window.__probe;
    if (!probe.eye) {
      const open = probe.connections.find(one => one.connectionState === 'connected');
      probe.eye = document.createElement('video');
      probe.eye.muted = true;
      probe.eye.srcObject = new MediaStream([open.getTransceivers()[1].receiver.track]);
      await probe.eye.play();
    }
    const canvas = new OffscreenCanvas(probe.eye.videoWidth, probe.eye.videoHeight);
    const pen = canvas.getContext('2d', { willReadFrequently: true });
    pen.drawImage(probe.eye, 0, 0);
    const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
    let luma = '';
    for (let at = 0; at < data.length; at += 4) {
      luma += String.fromCharCode(Math.round(16 + (65.481 * data[at] + 128.553 * data[at + 1] + 24.966 * data[at + 2]) / 255));
    }
    return { luma: btoa(luma), width: canvas.width, height: canvas.height };
  });
  return { ...grabbed, luma: Buffer.from(grabbed.luma, 'base64') };
}
