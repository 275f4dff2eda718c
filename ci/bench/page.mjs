// How soon and how steadily a call of two pages looks good, beside two bare pages in the same run:
// on a free path, on narrow ones, with a slow processor, and with Firefox.

import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { chromium, firefox, person } from '../e2e/lib/people.mjs';
import { newRoom, startRelay } from '../e2e/lib/relay.mjs';
import { slow } from '../e2e/lib/slow.mjs';
import { figures, installWatch, watched } from '../e2e/lib/smoothness.mjs';
import { Cleanup, during, until } from '../e2e/lib/until.mjs';
import { Wire } from '../e2e/lib/wire.mjs';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '30' }, only: { type: 'string' }, side: { type: 'string' }, trace: { type: 'boolean' } } });
const SECONDS = Number(values.seconds);

const CELLS = [
  { name: 'free path' },
  { name: '1 Mbit/s', kbps: 1000 },
  { name: '500 kbit/s', kbps: 500 },
  { name: 'a sixth of a processor', share: 1 / 6 },
  { name: 'Firefox', browsers: [firefox, chromium] },
  { name: 'Firefox, 1 Mbit/s', browsers: [firefox, chromium], kbps: 1000 },
  { name: 'Firefox, 500 kbit/s', browsers: [firefox, chromium], kbps: 500 },
  { name: 'Firefox at a sixth of a processor', browsers: [firefox, chromium], share: 1 / 6 },
];

const BARE = '<!doctype html><meta charset="utf-8"><style>body{margin:0;background:#000}video{width:100vw;height:100vh}</style><video id="own" muted autoplay playsinline style="display:none"></video><video id="other" autoplay playsinline></video>';

/** Runs in the bare page: a connection as the browser makes it when it is told nothing. */
async function openBare() {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } } });
  const connection = new RTCPeerConnection();
  for (const track of stream.getTracks()) connection.addTrack(track, stream);
  document.querySelector('#own').srcObject = stream;
  connection.ontrack = ({ streams: [remote] }) => (document.querySelector('#other').srcObject = remote);
  window.bare = {
    async described() {
      if (connection.iceGatheringState !== 'complete') await new Promise(done => (connection.onicegatheringstatechange = () => connection.iceGatheringState === 'complete' && done()));
      return { type: connection.localDescription.type, sdp: connection.localDescription.sdp };
    },
    async offer() {
      await connection.setLocalDescription(await connection.createOffer());
      return this.described();
    },
    async answer(offer) {
      await connection.setRemoteDescription(offer);
      await connection.setLocalDescription(await connection.createAnswer());
      return this.described();
    },
    accept: answer => connection.setRemoteDescription(answer),
  };
}

async function barePages(cleanup, people, beforeConnecting) {
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end(BARE));
  await new Promise(done => server.listen(0, '127.0.0.1', done));
  cleanup.add(() => server.close());
  for (const { page } of people) {
    await page.goto(`http://localhost:${server.address().port}/`);
    await page.evaluate(openBare);
  }
  await beforeConnecting();
  const [left, right] = people.map(({ page }) => page);
  const offer = await left.evaluate(() => window.bare.offer());
  const answer = await right.evaluate(given => window.bare.answer(given), offer);
  await left.evaluate(given => window.bare.accept(given), answer);
}

async function snugPages(cleanup, people, beforeConnecting) {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  for (const someone of people) await someone.open(room.url);
  await beforeConnecting();
  for (const someone of people) await someone.join({ wait: false });
}

/** One run: two browsers, and what each receives of the other. */
async function measure(open, { kbps, share, browsers = [chromium, chromium] }) {
  const cleanup = new Cleanup();
  try {
    const started = await Promise.all(browsers.map(start => start(cleanup)));
    const people = [await person(started[0], 'Ana'), await person(started[1], 'Bo')];
    const wire = kbps ? new Wire(cleanup, { kbps }) : null;
    for (const someone of people) {
      await someone.page.setViewport({ width: 1280, height: 800 });
      await wire?.lead(someone);
      await someone.page.evaluateOnNewDocument(installWatch);
    }
    await open(cleanup, people, () => share && slow(cleanup, started[0].process().pid, share));
    await until('both to be connected', async () => {
      const all = await Promise.all(people.map(watched));
      return all.every(one => one.connectedAt !== null && one.samples.some(each => each.frames > 0));
    }, { timeout: 120_000, every: 500 });
    await during(SECONDS * 1000);
    const all = await Promise.all(people.map(watched));
    if (values.trace) trace(all, people);
    return all.map(one => figures(one)).map((one, at) => ({ ...one, dropped: wire?.dropped ?? 0, sent: all[1 - at].sent.at(-1) }));
  } finally {
    await cleanup.run();
  }
}

function trace(all) {
  for (const [at, { sent, connectedAt }] of all.entries()) {
    console.log(`-- sent by ${at}`);
    let before = null;
    for (const one of sent.filter((_, index) => index % 5 === 0)) {
      const [video] = one.video;
      if (!video) continue;
      const seconds = before ? (one.at - before.at) / 1000 : 1;
      const was = before?.video[0] ?? { frames: 0, bytes: 0, encode: 0, qp: 0 };
      const frames = video.frames - was.frames;
      console.log(
        `${((one.at - connectedAt) / 1000).toFixed(1)} est ${one.estimate} ${video.size} ${(frames / seconds).toFixed(0)}/s ${(((video.bytes - was.bytes) * 8) / 1000 / seconds).toFixed(0)}k of ${video.target} keys ${video.keys} ${video.reason} enc ${(((video.encode - was.encode) * 1000) / Math.max(1, frames)).toFixed(0)}ms qp ${((video.qp - was.qp) / Math.max(1, frames)).toFixed(0)} loss ${one.loss?.toFixed(2)} rtt ${one.rtt?.toFixed(2)}`,
      );
      before = one;
    }
  }
}

const seconds = ms => (ms === null ? 'never' : `${(ms / 1000).toFixed(1)} s`);
const rows = [];
for (const cell of CELLS.filter(({ name }) => !values.only || values.only.split(';').includes(name))) {
  for (const [who, open] of [['page', snugPages], ['bare', barePages]]) {
    if (values.side && values.side !== who) continue;
    const both = await measure(open, cell);
    for (const [at, one] of both.entries()) {
      const from = cell.browsers ? ['Firefox', 'Chromium'][1 - at] : cell.share ? ['the quick one', 'the slow one'][at] : ['first', 'second'][1 - at];
      rows.push(`| ${cell.name} | ${who} | ${from} | ${seconds(one.firstMs)} | ${seconds(one.fullMs)} | ${one.rate.toFixed(1)} | ${one.longestMs} | ${one.freezes} / ${one.frozenMs} | ${(one.concealed * 100).toFixed(2)} % | ${one.soundGapMs} | ${one.sizes.map(each => `${each.size} at ${each.at}`).join(', ')} |`);
      console.error(rows.at(-1));
    }
  }
}
console.log(`### page (two pages of a call, ${SECONDS} s each)\n\n| path | who | sent by | first picture | 1280×720 at ≥ 20 a second | pictures a second | longest gap, ms | freezes / ms | concealed sound | longest gap of sound packets, ms | sizes |\n|---|---|---|---|---|---|---|---|---|---|---|\n${rows.join('\n')}`);
