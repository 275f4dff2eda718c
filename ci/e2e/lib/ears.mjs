// Listening in a page: it records what it decoded from each connection, and the recording is read here.
//
// A browser without a sound card never starts an AudioContext, so an analyser in the page would hear nothing.

import { execFileSync } from 'node:child_process';
import { findsTone } from './media.mjs';
import { until } from './until.mjs';

/** Runs in the page: records the microphone section of every open connection for a while; base64 of each recording. */
async function listen(milliseconds) {
  const open = window.__probe.connections.filter(one => one.connectionState === 'connected');
  const record = connection =>
    new Promise((done, fail) => {
      const recorder = new MediaRecorder(new MediaStream([connection.getTransceivers()[0].receiver.track]), { audioBitsPerSecond: 128_000 });
      const parts = [];
      recorder.ondataavailable = event => parts.push(event.data);
      recorder.onerror = event => fail(event.error);
      recorder.onstop = async () => {
        const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
        let text = '';
        for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
        done(btoa(text));
      };
      recorder.start();
      setTimeout(() => recorder.stop(), milliseconds);
    });
  return Promise.all(open.map(record));
}

/** What a page hears from each connection during the next `seconds`, as 48 kHz samples. */
export async function hears(someone, seconds) {
  const recordings = await someone.page.evaluate(listen, seconds * 1000);
  return recordings.map(text => {
    const options = { input: Buffer.from(text, 'base64'), maxBuffer: 1 << 28, stdio: ['pipe', 'pipe', 'ignore'] };
    const raw = execFileSync('ffmpeg', ['-v', 'error', '-i', '-', '-ar', '48000', '-ac', '1', '-f', 'f32le', '-'], options);
    const samples = new Float32Array(raw.length >> 2);
    for (let at = 0; at < samples.length; at += 1) samples[at] = raw.readFloatLE(4 * at);
    return { rate: 48_000, samples };
  });
}

/** Waits until a page hears such a tone from `others` people; tells how many tenths of a second of it each of them. */
export function hearsTone(someone, hz, others = 1, { timeout = 30_000 } = {}) {
  return until(
    `${someone.name} to hear ${hz} Hz from ${others}`,
    async () => {
      const tenths = (await hears(someone, 1.5)).map(sound => findsTone(sound, hz));
      if (tenths.filter(count => count >= 5).length >= others) return tenths;
      throw new Error(`tenths of a second of it: ${JSON.stringify(tenths)}`);
    },
    { timeout, every: 200 },
  );
}
