// One participant of a call of five: what it costs as the native client, and what the same part costs a headless Chromium.
//
// Four native feeders each show only the measured one, and sound goes between all. The measured one receives four pictures of 640×360
// at 30 a second, and sends one to each of the four. Both sides take the same clip and the same sound, run on the same machine one after the other, and
// are counted by the same feeders.

import { parseArgs } from 'node:util';
import { chromium, guest } from '../e2e/lib/people.mjs';
import { native, nativeBinary } from '../e2e/lib/native.mjs';
import { newRoom, startRelay } from '../e2e/lib/relay.mjs';
import { Cleanup, during, until } from '../e2e/lib/until.mjs';
import { RATE, SIZE, speech, talkingHead } from './lib/clip.mjs';
import { cpu, handles, memory, sleeps } from './lib/process.mjs';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' }, settle: { type: 'string', default: '15' }, only: { type: 'string' } } });
const SECONDS = Number(values.seconds);
const SETTLE = Number(values.settle);
const OTHERS = ['Ana', 'Bo', 'Chidi', 'Dana'];
const MEASURED = 'Emre';
/** Of this size the page gives each of five people a tile that asks for 640×360. */
const WINDOW = { width: 1990, height: 860 };
/** Seconds that a side gets to send and receive the clip's full rate, beyond the settling. */
const RAMP = SECONDS < 30 ? 0 : 60;
/** The two sides compare when their frame rates differ by no more than this. */
const EQUAL = 0.05;

const clip = { video: talkingHead(), audio: speech() };
const sum = (list, value) => list.reduce((total, one) => total + value(one), 0);
const tile = () => ({ width: SIZE.width, height: SIZE.height });

/** The measured one as a native client that decodes all four. */
async function nativeSide(cleanup, room) {
  const someone = native(cleanup, MEASURED, room.url, { ...clip, args: ['--processing'] });
  const shown = await someone.shows('four others', snapshot => snapshot.participants.length === OTHERS.length);
  someone.say('set_tiles', { tiles: Object.fromEntries(shown.participants.map(one => [one.user, tile()])) });
  await someone.seesAndHears(OTHERS.length);
  return {
    pid: someone.pid,
    handles: () => handles(someone.pid),
    async look() {
      const snapshot = await someone.snapshot();
      return {
        decoded: sum(snapshot.participants, one => one.pictures),
        sizes: snapshot.participants.map(one => one.pictureSize.join('×')),
        camera: snapshot.camera,
      };
    },
  };
}

/** The measured one as the page in Chromium. */
async function chromiumSide(cleanup, room) {
  const args = [`--use-file-for-fake-video-capture=${clip.video}`, `--use-file-for-fake-audio-capture=${clip.audio}`];
  const browser = await chromium(cleanup, { args });
  const someone = await guest(browser, MEASURED, room.url, { wait: false });
  await someone.page.setViewport(WINDOW);
  await someone.online();
  const look = () => someone.page.evaluate(received);
  await until('four pictures in the page', async () => {
    const seen = await look();
    if (seen.sizes.length === OTHERS.length && seen.heard === OTHERS.length) return true;
    throw new Error(JSON.stringify(seen));
  }, { timeout: 60_000, every: 500 });
  return { pid: browser.process().pid, look };
}

/** Runs in the page. */
async function received() {
  const found = { decoded: 0, sizes: [], heard: 0, sent: [], tiles: [] };
  for (const connection of window.__probe.connections) {
    if (connection.connectionState !== 'connected') continue;
    for (const entry of (await connection.getStats()).values()) {
      if (entry.type === 'inbound-rtp' && entry.kind === 'video' && entry.framesDecoded > 0) {
        found.decoded += entry.framesDecoded;
        found.sizes.push(`${entry.frameWidth}×${entry.frameHeight}`);
      }
      if (entry.type === 'inbound-rtp' && entry.kind === 'audio' && entry.totalAudioEnergy > 1e-6) found.heard += 1;
      if (entry.type === 'outbound-rtp' && entry.kind === 'video' && entry.framesEncoded > 0) {
        found.sent.push(`${entry.frameWidth}×${entry.frameHeight} ${entry.encoderImplementation} ${entry.qualityLimitationReason}`);
      }
    }
  }
  for (const video of document.querySelectorAll('video')) {
    const { width, height } = video.getBoundingClientRect();
    if (width > 0) found.tiles.push(`${Math.round(width)}×${Math.round(height)}`);
  }
  return found;
}

/** The four others, who show nobody but the measured one. */
async function feeders(cleanup, room) {
  const all = OTHERS.map(name => native(cleanup, name, room.url, clip));
  for (const feeder of all) {
    await feeder.shows('the other feeders', snapshot => snapshot.participants.length === OTHERS.length - 1);
    feeder.say('set_tiles', { tiles: {} });
  }
  const measured = snapshot => snapshot.participants.find(one => one.name === MEASURED);
  return {
    async watch() {
      for (const feeder of all) {
        const snapshot = await feeder.shows(MEASURED, shown => measured(shown));
        feeder.say('set_tiles', { tiles: { [measured(snapshot).user]: tile() } });
      }
      for (const feeder of all) await feeder.shows(`pictures of ${MEASURED}`, shown => measured(shown)?.pictures > 5 && measured(shown).levelDb > -60);
    },
    async look() {
      const seen = await Promise.all(all.map(async feeder => measured(await feeder.snapshot())));
      return {
        pictures: sum(seen, one => one.pictures),
        toMeasured: sum(seen, one => one.quality.bytesSent),
        fromMeasured: sum(seen, one => one.quality.bytesReceived),
        sizes: seen.map(one => one.pictureSize.join('×')),
      };
    },
    cpu: () => sum(all, feeder => cpu(feeder.pid)),
  };
}

/** Waits until all pictures come and go at the clip's rate: a browser takes its time to trust a path. Who never gets there is measured as it is. */
async function fullRate(one, others) {
  const counts = async () => ({ time: performance.now(), decoded: (await one.look()).decoded, sent: (await others.look()).pictures });
  for (let before = await counts(), turn = 0; turn < RAMP / 4; turn += 1) {
    await during(4_000);
    const after = await counts();
    const rate = name => (after[name] - before[name]) / OTHERS.length / ((after.time - before.time) / 1000);
    if (Math.min(rate('decoded'), rate('sent')) >= RATE * (1 - EQUAL / 2)) return;
    before = after;
  }
}

/** One side's figures. */
async function measure(open) {
  const cleanup = new Cleanup();
  try {
    const relay = await startRelay(cleanup);
    const room = newRoom(relay);
    const others = await feeders(cleanup, room);
    const one = await open(cleanup, room);
    await others.watch();
    await during(SETTLE * 1000);
    await fullRate(one, others);
    const at = async () => ({ time: performance.now(), cpu: cpu(one.pid), sleeps: sleeps(one.pid), feeders: others.cpu(), own: await one.look(), seen: await others.look() });
    const before = await at();
    await during(SECONDS * 1000);
    const after = await at();
    const seconds = (after.time - before.time) / 1000;
    const rate = value => (value(after) - value(before)) / seconds;
    return {
      cpu: rate(sample => sample.cpu) * 60,
      sleeps: rate(sample => sample.sleeps),
      feeders: rate(sample => sample.feeders) * 60,
      decoded: rate(sample => sample.own.decoded) / OTHERS.length,
      sent: rate(sample => sample.seen.pictures) / OTHERS.length,
      receivedBits: (rate(sample => sample.seen.toMeasured) * 8) / OTHERS.length,
      sentBits: (rate(sample => sample.seen.fromMeasured) * 8) / OTHERS.length,
      memory: memory(one.pid),
      handles: one.handles?.(),
      own: after.own,
      received: after.own.sizes,
      arrived: after.seen.sizes,
      camera: after.own.camera && encodes(before.own.camera, after.own.camera),
    };
  } finally {
    await cleanup.run();
  }
}

function encodes(before, after) {
  const pictures = after.pictures - before.pictures;
  const layers = ['high', 'medium', 'low'].map(layer => [layer, after[layer].encodes - before[layer].encodes]);
  return { pictures, layers: layers.filter(([, count]) => count > 0).map(([layer, count]) => `${layer}: ${count}`), per: sum(layers, ([, count]) => count) / pictures };
}

const mebibytes = bytes => (bytes / 2 ** 20).toFixed(0);
const kilobits = bits => (bits / 1000).toFixed(0);
const each = list => [...new Set(list)].join(', ');

function print(ours, theirs) {
  const rows = [];
  const row = (what, value, bar = '') => rows.push(`| ${what} | ${ours ? value(ours) : ''} | ${theirs ? value(theirs) : ''} | ${bar} |`);
  const ratio = ours && theirs ? ours.cpu / theirs.cpu : null;
  const apart = (a, b) => Math.abs(a - b) / Math.max(a, b);
  const equal = ours && theirs && apart(ours.decoded, theirs.decoded) <= EQUAL && apart(ours.sent, theirs.sent) <= EQUAL;
  row('CPU s per minute of call', one => one.cpu.toFixed(1), ratio === null ? '' : `**${ratio.toFixed(2)}×**; must ≤ 0.5×: ${ratio <= 0.5 ? 'met' : 'missed'}; moonshot ≤ 0.3×: ${ratio <= 0.3 ? 'met' : 'missed'}`);
  row('decoded pictures a second, mean of the four received', one => one.decoded.toFixed(1), equal === null ? '' : equal ? 'equal within 5 %' : '**not equal within 5 %: the sides do not compare**');
  row('sent pictures a second, mean of what the four decoded', one => one.sent.toFixed(1));
  row('size received; sent', one => `${each(one.received)}; ${each(one.arrived)}`);
  row('kbit/s received; sent, a link, sound included', one => `${kilobits(one.receivedBits)}; ${kilobits(one.sentBits)}`);
  row('memory at the end, PSS', one => `${mebibytes(one.memory.pss)} MiB`, ours ? `≤ 150 MiB: ${ours.memory.pss <= 150 * 2 ** 20 ? 'met' : 'missed'}` : '');
  row('memory at the end, RSS summed over processes', one => `${mebibytes(one.memory.rss)} MiB in ${one.memory.processes}`);
  row('encodes per camera picture, four receivers', one => (one.camera ? `${one.camera.per.toFixed(2)} (${one.camera.layers.join(', ')} of ${one.camera.pictures})` : `${one.own.sent.length} streams, each encoded by itself`), 'one per wanted layer');
  row('threads; descriptors', one => (one.handles ? `${one.handles.threads}; ${one.handles.descriptors}` : ''));
  row('CPU ms per picture received or sent', one => ((one.cpu / 60 / (one.decoded + one.sent) / OTHERS.length) * 1000).toFixed(2));
  row('times a second that a thread goes to sleep', one => one.sleeps.toFixed(0));
  row('the four feeders together, CPU s per minute', one => one.feeders.toFixed(1));
  console.log(`### mesh (a call of five, ${SECONDS} s, after ${SETTLE} s and up to ${RAMP} s more until all pictures come at the full rate)\n\n| one participant | snug | Chromium | |\n|---|---|---|---|\n${rows.join('\n')}\n`);
  if (theirs) console.log(`Chromium draws the pictures too, in tiles of ${each(theirs.own.tiles)} pixels without a GPU, and sent ${each(theirs.own.sent)}. The native client without a window decodes to I420 and draws nothing. Both cancel echo, suppress noise and level the sound that they send. CPU time is that of the whole process tree, kernel included.`);
}

nativeBinary();
const ours = values.only === 'chromium' ? null : await measure(nativeSide);
const theirs = values.only === 'native' ? null : await measure(chromiumSide);
print(ours, theirs);
