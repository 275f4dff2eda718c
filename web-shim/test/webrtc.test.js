import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { callProblem, canConnect } from '../js/webrtc.js';

/** A connection that finds these candidates and then, unless it hangs, says that it is done. */
const finding = (candidates, { hangs = false } = {}) => class {
  static closed = 0;
  createDataChannel() {}
  async createOffer() {
    return { type: 'offer', sdp: '' };
  }
  async setLocalDescription() {
    queueMicrotask(() => {
      for (const candidate of candidates) this.onicecandidate({ candidate: { candidate } });
      if (!hangs) this.onicecandidate({ candidate: null });
    });
  }
  close() {
    this.constructor.closed += 1;
  }
};

test('a browser without WebRTC, or with one that refuses, cannot make calls', async () => {
  class Refusing {
    constructor() {
      throw new DOMException('blocked', 'NotSupportedError');
    }
  }
  class Stub {
    close() {}
  }
  for (const one of [undefined, null, {}, Refusing]) {
    assert.equal(canConnect(one), false);
    assert.equal(await callProblem(one ?? null), 'off');
  }
  // The constructor of some blockers makes objects that can do nothing.
  assert.equal(await callProblem(Stub), 'off');
});

test('a browser that shows no network path is told apart from one that only takes its time', async () => {
  assert.equal(await callProblem(finding(['candidate:1 1 udp 1 x.local 9 typ host'])), null);
  assert.equal(await callProblem(finding([])), 'pathless');
  assert.equal(await callProblem(finding([''])), 'pathless');
  mock.timers.enable({ apis: ['setTimeout'] });
  const Slow = finding([], { hangs: true });
  const looked = callProblem(Slow);
  for (let turn = 0; turn < 5; turn++) await new Promise((done) => setImmediate(done));
  mock.timers.tick(3000);
  assert.equal(await looked, null);
  assert.equal(Slow.closed, 2, 'what was made to look is closed');
  mock.timers.reset();
});
