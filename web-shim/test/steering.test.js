import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LAYERS } from '../js/encoder-limits.js';
import { Steering, readSenderStats } from '../js/steering.js';

const [L, M, H] = [0, 1, 2];

/**
 * A link in virtual time: `path` and `machine` say what its encoder does with the layer that it is
 * given.
 */
class Ride {
  steering = new Steering();
  now = 0;
  look = { frames: 0, quantizers: 0, encodeSeconds: 0, source: 20, overused: false, bytes: 0, requests: 0, estimate: null, loss: 0, roundTrip: null, reportedAt: 0 };
  /** The layers, each with the second from which it was sent. */
  layers = [];

  constructor(changes = {}) {
    Object.assign(this, { wanted: H, screen: false, left: Infinity, settled: true, quantizer: () => 20, rate: () => 20, encodeMs: 3, estimate: () => 3_000_000, ...changes });
    if (this.source !== undefined) this.look.source = this.source;
  }

  /** What the encoder makes: as much as it may. */
  rateOf(layer) {
    return Math.min(LAYERS[layer].maxBitrate, this.steering.most);
  }

  /** Looks every quarter of a second for four seconds, then every second, as peer-link.js does. */
  to(seconds) {
    for (; this.now <= seconds * 1000; this.now += this.now < 4000 ? 250 : 1000) {
      const since = (this.now - (this.last ?? this.now)) / 1000;
      this.last = this.now;
      const layer = Math.min(this.steering.layer, this.wanted);
      const frames = Math.min(this.rate(layer, this.now / 1000), LAYERS[layer].maxFramerate) * since;
      const { look } = this;
      this.look = {
        ...look,
        frames: look.frames + frames,
        quantizers: look.quantizers + frames * this.quantizer(layer, this.now / 1000),
        encodeSeconds: look.encodeSeconds + (frames * this.encodeMs * 4 ** (layer - M)) / 1000,
        estimate: this.estimate(this.now / 1000, layer),
        loss: this.loss?.(layer, this.now / 1000) ?? 0,
        roundTrip: this.roundTrip?.(this.rateOf(layer), this.now / 1000) ?? null,
        reportedAt: Math.floor(this.now / 1000 + 0.3),
        requests: look.requests + (this.requests?.(layer) ?? 0) * since,
        bytes: look.bytes + (this.rateOf(layer) * since) / 8,
        overused: this.overused?.(layer) ?? false,
      };
      this.steering.update(this.look, this.now, this);
      if (this.steering.layer !== this.layers.at(-1)?.[0]) this.layers.push([this.steering.layer, this.now / 1000]);
    }
    return this.layers.map(([layer]) => layer);
  }
}

/** Chromium's guess, and what it has found out after 0.4 s. */
const probed = (bps) => (second) => (second < 0.4 ? 300_000 : bps);

test('on a path that carries it, the full size is sent as soon as the path is probed', () => {
  const ride = new Ride({ estimate: probed(2_900_000) });
  assert.deepEqual(ride.to(60), [M, H]);
  assert.ok(ride.layers[1][1] <= 1, `only after ${ride.layers[1][1]} s`);
});

test('a path that does not carry the full size is never given it', () => {
  assert.deepEqual(new Ride({ estimate: probed(500_000) }).to(60), [M]);
  // What a half-used path is taken for.
  assert.deepEqual(new Ride({ estimate: probed(680_000) }).to(60), [M]);
});

test('just enough room must last for two seconds', () => {
  const ride = new Ride({ estimate: probed(900_000) });
  assert.deepEqual(ride.to(10), [M, H]);
  assert.ok(ride.layers[1][1] >= 2.4 && ride.layers[1][1] <= 3.5, String(ride.layers[1][1]));
  const swinging = (second) => (Math.floor(second) % 2 === 0 ? 300_000 : 900_000);
  assert.deepEqual(new Ride({ estimate: swinging }).to(30), [M]);
});

test('a narrow path whose pictures blur or come late gets the next smaller layer', () => {
  for (const trouble of [{ quantizer: (layer) => (layer === M ? 100 : 30) }, { rate: (layer) => (layer === M ? 8 : 20) }]) {
    const ride = new Ride({ estimate: () => 200_000, ...trouble });
    assert.deepEqual(ride.to(4), [M, L]);
    assert.ok(ride.layers[1][1] <= 2, String(ride.layers[1][1]));
  }
});

test('an estimate that fell alone changes nothing while the pictures are good', () => {
  const ride = new Ride({ estimate: (second) => (second > 5 && second < 15 ? 330_000 : 2_900_000) });
  assert.deepEqual(ride.to(30), [H]);
});

test('a moment of blur after a change is not taken for a narrow path', () => {
  const ride = new Ride({ estimate: probed(900_000), quantizer: (layer, second) => (layer === H && second < 4 ? 90 : 20) });
  assert.equal(ride.to(20).at(-1), H);
});

test('what had to be left is tried again ever more rarely, and does not come back while it is in trouble', () => {
  // The estimate promises what the path does not hold.
  const ride = new Ride({ estimate: (_, layer) => (layer === H ? 500_000 : 900_000), quantizer: (layer) => (layer === H ? 110 : 20) });
  ride.to(180);
  const rises = ride.layers.filter(([layer], at) => at > 0 && layer === H).map(([, at]) => at);
  const pauses = rises.slice(1).map((at, index) => at - rises[index]);
  assert.ok(rises.length >= 2 && rises.length <= 6, JSON.stringify(ride.layers));
  assert.ok(pauses.every((pause, index) => index === 0 || pause >= pauses[index - 1]), JSON.stringify(pauses));
});

test('a processor that cannot encode a layer gets the next smaller one, whatever the path carries', () => {
  const ride = new Ride({ estimate: () => 3_000_000, encodeMs: 12 });
  assert.deepEqual(ride.to(4), [H, M]);
  const late = new Ride({ rate: (layer) => (layer === H ? 9 : 20) });
  assert.equal(late.to(4).at(-1), M);
  const told = new Ride({ overused: (layer) => layer === H });
  assert.equal(told.to(4).at(-1), M);
});

test('a layer that the processor would not manage is not tried', () => {
  assert.deepEqual(new Ride({ estimate: probed(3_000_000), encodeMs: 12 }).to(60), [M]);
});

test('a screen has its share of the estimate before the camera', () => {
  assert.deepEqual(new Ride({ estimate: probed(1_500_000), screen: true }).to(30), [M]);
  assert.deepEqual(new Ride({ estimate: probed(3_000_000), screen: true }).to(30), [M, H]);
});

test('a tile that asks for less is given less and costs no later trial', () => {
  const ride = new Ride({ wanted: L, estimate: probed(2_900_000) });
  ride.to(10);
  ride.wanted = H;
  ride.to(14);
  assert.equal(ride.steering.layer, H);
});

test('links that share an uplink do not all rise at once', () => {
  assert.deepEqual(new Ride({ estimate: probed(2_900_000), left: 100_000, settled: false }).to(30), [M]);
  const waits = new Ride({ estimate: probed(2_900_000), left: 100_000 });
  assert.deepEqual(waits.to(30), [M, H]);
  assert.ok(waits.layers[1][1] >= 2);
});

/** Firefox, on a path that holds `capacity` bit/s: packets queue for 0.3 s when it is overrun. */
const firefox = (capacity, changes = {}) => ({
  estimate: () => null,
  roundTrip: (rate, second) => (second < 0.75 ? null : second > 1.5 && rate + 54_000 > capacity ? 0.35 : 0.05),
  ...changes,
});

test('without an estimate the full size is sent as soon as reports say that the path is free', () => {
  const ride = new Ride(firefox(3_000_000));
  assert.deepEqual(ride.to(60), [M, H]);
  assert.ok(ride.layers[1][1] <= 1.75, String(ride.layers[1][1]));
  assert.ok(ride.steering.most > 1_500_000);
});

test('without an estimate the rate is held below what makes packets queue', () => {
  for (const capacity of [1_000_000, 500_000, 300_000]) {
    const ride = new Ride(firefox(capacity));
    ride.to(10);
    let over = 0;
    for (let second = 10; second < 70; second += 1) {
      ride.to(second);
      if (ride.rateOf(Math.min(ride.steering.layer, H)) + 54_000 > capacity) over += 1;
    }
    assert.ok(over <= 12, `${over} of 60 s over ${capacity} bit/s`);
    assert.ok(ride.steering.most >= capacity / 4, `only ${ride.steering.most} of ${capacity} bit/s are used`);
  }
});

test('without an estimate loss, too, is a sign of a full path', () => {
  const ride = new Ride(firefox(3_000_000, { loss: (layer) => (layer === H ? 0.2 : 0) }));
  ride.to(30);
  assert.ok(ride.steering.most < 1_500_000, String(ride.steering.most));
});

test('without an estimate requests for lost packets tell of a full path before the next report does', () => {
  const ride = new Ride(firefox(3_000_000, { requests: (layer) => (layer === H ? 20 : 0) }));
  ride.to(4);
  assert.deepEqual(ride.layers.map(([layer]) => layer).slice(0, 3), [M, H, M]);
  assert.ok(ride.layers[2][1] - ride.layers[1][1] <= 0.5, JSON.stringify(ride.layers));
});

test('a first report without an estimate holds the rate only until there is one', () => {
  const ride = new Ride({ estimate: (second) => (second < 0.5 ? null : 2_900_000) });
  assert.deepEqual(ride.to(30), [M, H]);
  assert.equal(ride.steering.most, Infinity);
});

test('a link that cannot be given less keeps others waiting for ten seconds, and one at rest not at all', () => {
  const narrow = { estimate: () => 60_000, quantizer: () => 110 };
  const ride = new Ride(narrow);
  ride.to(8);
  assert.equal(ride.steering.layer, L);
  assert.equal(ride.steering.bad, true);
  ride.to(30);
  assert.equal(ride.steering.bad, false);
  // Pictures that were good meanwhile make it a new trouble.
  ride.quantizer = () => 20;
  ride.to(33);
  ride.quantizer = () => 110;
  ride.to(36);
  assert.equal(ride.steering.bad, true);
  ride.steering.rest();
  assert.equal(ride.steering.bad, false);
});

test('no report, no growth', () => {
  assert.deepEqual(new Ride({ estimate: () => null }).to(30), [M]);
});

test('a camera that gives few pictures is not taken for a narrow path', () => {
  assert.deepEqual(new Ride({ estimate: () => 400_000, source: 7, rate: () => 7 }).to(30), [M]);
});

test('a camera that is off, statistics that start anew and looks without time between them change nothing', () => {
  const ride = new Ride({ rate: () => 0, source: null });
  assert.deepEqual(ride.to(30), [H]);
  ride.look = { ...ride.look, frames: -500 };
  ride.steering.update(ride.look, ride.now, ride);
  ride.steering.update(ride.look, ride.now, ride);
  assert.equal(ride.steering.layer, H);
});

test('statistics are read from both browsers', () => {
  const chromium = new Map([
    ['O', { type: 'outbound-rtp', framesEncoded: 10, bytesSent: 6000, nackCount: 3, retransmittedBytesSent: 1000, qpSum: 200, totalEncodeTime: 0.05, qualityLimitationReason: 'cpu' }],
    ['S', { type: 'media-source', framesPerSecond: 20 }],
    ['R', { type: 'remote-inbound-rtp', fractionLost: 0.1, roundTripTime: 0.2, timestamp: 7 }],
    ['P', { type: 'candidate-pair', availableOutgoingBitrate: 700_000 }],
    ['Q', { type: 'candidate-pair' }],
  ]);
  assert.deepEqual(readSenderStats(chromium), { frames: 10, quantizers: 200, encodeSeconds: 0.05, bytes: 5000, requests: 3, source: 20, overused: true, estimate: 700_000, loss: 0.1, roundTrip: 0.2, reportedAt: 7 });
  assert.deepEqual(readSenderStats(new Map([['O', { type: 'outbound-rtp', framesEncoded: 3 }]])), { frames: 3, quantizers: 0, encodeSeconds: 0, bytes: 0, requests: 0, source: null, overused: false, estimate: null, loss: 0, roundTrip: null, reportedAt: 0 });
});
