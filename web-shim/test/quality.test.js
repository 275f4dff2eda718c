import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LinkQuality, SpeakerPicker, hushOf, voiceLevel } from '../js/quality.js';

function report({ received = 100, lost = 0, rtt = 0.03, local = 'host', remote = 'srflx', frozen = 0, firefox = false } = {}) {
  const pair = { id: 'P', type: 'candidate-pair', nominated: true, state: 'succeeded', bytesReceived: received * 100, responsesReceived: 1, currentRoundTripTime: rtt, localCandidateId: 'L', remoteCandidateId: 'R' };
  const entries = [
    { id: 'X', type: 'candidate-pair', nominated: true, state: 'succeeded', bytesReceived: 5, localCandidateId: 'Z' },
    firefox ? { ...pair, selected: true } : pair,
    { id: 'T', type: 'transport', ...(!firefox && { selectedCandidatePairId: 'P' }) },
    { id: 'L', type: 'local-candidate', candidateType: local },
    { id: 'R', type: 'remote-candidate', candidateType: remote },
    { id: 'Z', type: 'local-candidate', candidateType: 'relay' },
    { id: 'A', type: 'inbound-rtp', kind: 'audio', packetsReceived: received, packetsLost: lost },
    { id: 'V', type: 'inbound-rtp', kind: 'video', packetsReceived: 0, packetsLost: 0, totalFreezesDuration: frozen },
  ];
  return new Map(entries.map((entry) => [entry.id, entry]));
}

/** The word after two looks. */
function quality(second, connected = true) {
  const link = new LinkQuality();
  link.update(report({ received: 0 }), true);
  link.update(report(second), connected);
  return link.health;
}

test('a clean link is good, direct, and says how long the way is', () => {
  assert.deepEqual(quality({ received: 100 }), { quality: 'good', path: 'direct', roundTripMs: 30, loss: 0 });
});

test('loss, delay and freezes have words', () => {
  assert.equal(quality({ received: 95, lost: 5 }).quality, 'fair');
  assert.equal(quality({ received: 90, lost: 10 }).quality, 'poor');
  assert.equal(quality({ rtt: 0.4 }).quality, 'fair');
  assert.equal(quality({ rtt: 0.8 }).quality, 'poor');
  assert.equal(quality({ frozen: 0.5 }).quality, 'fair');
  assert.equal(quality({ frozen: 2 }).quality, 'poor');
  assert.equal(quality({}, false).quality, 'lost');
});

test('a relayed pair is told from a direct one on either end and in either browser', () => {
  for (const firefox of [false, true]) {
    assert.equal(quality({ firefox }).path, 'direct');
    assert.equal(quality({ firefox, local: 'relay' }).path, 'relayed');
    assert.equal(quality({ firefox, remote: 'relay' }).path, 'relayed');
  }
});

test('loss is over the last few seconds, not over the call', () => {
  const link = new LinkQuality();
  link.update(report({ received: 0 }), true);
  link.update(report({ received: 50, lost: 50 }), true);
  assert.equal(link.health.quality, 'poor');
  for (let look = 1; look <= 4; look++) link.update(report({ received: 50 + look * 100, lost: 50 }), true);
  assert.equal(link.health.quality, 'good');
});

test('answers to connectivity checks are no sign of life', () => {
  const link = new LinkQuality();
  const checked = (responsesReceived) => new Map([['P', { type: 'candidate-pair', bytesReceived: 7, responsesReceived }]]);
  link.update(checked(1), true);
  const before = link.inbound;
  link.update(checked(9), true);
  assert.equal(link.inbound, before);
});

test('a link about which nothing is known has no word', () => {
  const link = new LinkQuality();
  link.update(new Map(), true);
  assert.deepEqual(link.health, { quality: 'unknown', path: null, roundTripMs: null, loss: null });
});

test('a level that is old is silence', () => {
  const receiver = (age, audioLevel = 0.33) => ({
    getSynchronizationSources: () => [{ timestamp: performance.timeOrigin + performance.now() - age, audioLevel }],
  });
  assert.equal(voiceLevel(receiver(10)), 0.35);
  assert.equal(voiceLevel(receiver(5000)), 0);
  assert.equal(voiceLevel({ getSynchronizationSources: () => [] }), 0);
  assert.equal(voiceLevel(undefined), 0);
});

test('the speaker changes for a louder voice or after a silence, not with every cough', () => {
  const picker = new SpeakerPicker();
  assert.equal(picker.update([['a', 0.2], ['b', 0]], 0), 'a');
  assert.equal(picker.update([['a', 0.2], ['b', 0.25]], 250), 'a');
  assert.equal(picker.update([['a', 0.2], ['b', 0.35]], 500), 'b');
  assert.equal(picker.update([['a', 0], ['b', 0]], 750), 'b');
  assert.equal(picker.update([['a', 0], ['b', 0]], 2000), null);
  assert.equal(picker.update([['a', 0.1]], 2250), 'a');
  assert.equal(picker.update([], 2500), null, 'who left does not speak');
});

test('a hush is as long as the youngest packet is old, and none where nothing ever came', () => {
  const receiver = (/** @type {number[]} */ ...ages) => /** @type {any} */ ({
    getSynchronizationSources: () => ages.map((age) => ({ timestamp: performance.timeOrigin + performance.now() - age })),
  });
  const hush = hushOf([receiver(5000), receiver(1500), undefined]);
  assert.ok(hush !== null && hush >= 1500 && hush < 1700, String(hush));
  assert.equal(hushOf([receiver(), undefined]), null);
});
