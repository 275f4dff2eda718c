//! Estimates at the sender what a path carries, from feedback that names the arrival of each packet.
//!
//! 1. Growing delay, or a queue that stands, lowers the estimate below the rate that arrives.
//! 2. Loss that falls with the rate lowers it, too.
//! 3. Otherwise it grows: by a part a second far from the rate at which delay last grew, by a packet a round trip
//!    near it. It never grows by itself while the sender leaves it unused.
//! 4. Probes make it jump: at the start, after a decrease, and from time to time.

mod loss;
mod path;
mod probing;
mod trendline;

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

pub use probing::ProbeCluster;

use crate::pacer::PacketKind;
use loss::LossDetector;
use path::Path;
use probing::{Prober, View};
use trendline::{Trendline, Usage};

/// Packets whose fate is awaited.
const MAX_IN_FLIGHT: usize = 8_192;
/// Growth a second far from the known capacity.
const GROWTH: f64 = 1.08;
/// The same when no queue was seen for some time: probes say nothing where machines are busy.
const CALM_GROWTH: f64 = 1.25;
/// How long that is.
const CALM: Duration = Duration::from_secs(3);
/// Below this part of the estimate the sender does not use it.
const APP_LIMITED: f64 = 0.65;
/// The span over which that is judged.
const USE_WINDOW: Duration = Duration::from_millis(500);
/// A queue of this length on every packet is congestion, whatever its slope, in ms.
const STANDING_MS: f64 = 80.0;
/// A queue above this that grows fast is congestion before any slope can be fitted, in ms.
const SURGE_MS: f64 = 20.0;
/// How much it grows over two feedbacks then, in ms.
const SURGE_RISE_MS: f64 = 15.0;
/// A large packet.
const PACKET_BITS: f64 = 10_000.0;
/// A slope counts with a queue above this only, in ms: it goes on for a while after the queue has drained.
const SLOPE_MS: f64 = 10.0;
/// Growth a second back to a capacity that was measured lately.
const RETURN: f64 = 1.5;
/// The part of that capacity where it ends.
const RETURN_TO: f64 = 0.85;
/// How long such a measurement counts.
const KNOWN_FOR: Duration = Duration::from_secs(20);
/// The part of the arriving rate that a decrease leaves.
const BACK_OFF: f64 = 0.85;
/// Below this part of the estimate it is hardly used at all.
const HARDLY: f64 = 0.25;
/// Below this rate, in bit/s, sound alone is no small part of it.
const NARROW: f64 = 500_000.0;
/// What a decrease leaves of an estimate that was hardly used.
const BACK_OFF_UNUSED: f64 = 0.7;
/// The part of what arrived over a longer time that counts as arriving at least.
const LEAST_LEFT: f64 = 0.45;
/// Draining begins at this queue, in ms.
const DRAIN_FROM_MS: f64 = 15.0;
/// A queue longer by this would stop everything, in ms.
const DRAIN_OVER_MS: f64 = 120.0;
/// The largest part of the estimate that is held back to drain.
const MAX_DRAIN: f64 = 0.7;
/// Without feedback for this long the estimate falls.
const SILENCE: Duration = Duration::from_millis(600);
/// A packet that no feedback has named after this time is forgotten: the feedback itself was lost.
const FORGOTTEN: Duration = Duration::from_secs(3);

/// Bounds of an estimate, in bit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstimatorConfig {
    /// The first estimate.
    pub start_bps: u64,
    /// The lowest estimate: audio alone.
    pub min_bps: u64,
    /// The highest estimate.
    pub max_bps: u64,
}

impl Default for EstimatorConfig {
    /// 600 kbit/s at first, 40 kbit/s to 10 Mbit/s.
    fn default() -> Self {
        Self { start_bps: 600_000, min_bps: 40_000, max_bps: 10_000_000 }
    }
}

/// What feedback says about one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketReport {
    /// The packet, as numbered in [`Estimator::on_sent`].
    pub id: u64,
    /// When it came, on a clock of the receiver with any origin; `None` if it did not.
    pub arrival: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Instant,
    bytes: usize,
    probe: Option<u32>,
}

/// The estimate of one link's upward path.
#[derive(Debug)]
pub struct Estimator {
    config: EstimatorConfig,
    base: Instant,
    in_flight: BTreeMap<u64, Sent>,
    /// Media sent lately, to see whether the estimate is used.
    media: VecDeque<(Instant, usize)>,
    media_bytes: usize,
    trendline: Trendline,
    path: Path,
    loss: LossDetector,
    prober: Prober,
    useful: f64,
    /// What delay allows, in bit/s.
    rate: f64,
    /// The rate that arrived when delay last grew, in bit/s.
    capacity: Option<f64>,
    rtt: Duration,
    last_update: Option<Instant>,
    last_decrease: Option<Instant>,
    last_feedback: Option<Instant>,
    /// The queues of the last two feedbacks, in ms.
    last_floors: [f64; 2],
    /// Decreases in a row for a standing queue, and the queue at the first of them, in ms.
    standing: (u32, f64),
}

impl Estimator {
    /// An estimator that has seen nothing.
    pub fn new(now: Instant, config: EstimatorConfig) -> Self {
        Self {
            config,
            base: now,
            in_flight: BTreeMap::new(),
            media: VecDeque::new(),
            media_bytes: 0,
            trendline: Trendline::new(),
            path: Path::default(),
            loss: LossDetector::default(),
            prober: Prober::new(),
            useful: config.max_bps as f64,
            rate: config.start_bps as f64,
            capacity: None,
            rtt: Duration::from_millis(100),
            last_update: None,
            last_decrease: None,
            last_feedback: None,
            last_floors: [0.0; 2],
            standing: (0, 0.0),
        }
    }

    /// Says how much the sender could use at all, in bit/s: nothing is probed beyond it.
    pub fn set_useful(&mut self, bps: u64) {
        self.useful = bps.min(self.config.max_bps) as f64;
    }

    /// Sets the round trip.
    pub fn on_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt.min(Duration::from_secs(3));
    }

    /// Notes that a packet leaves. `id` counts up by one with every packet that feedback will name.
    pub fn on_sent(&mut self, id: u64, bytes: usize, at: Instant, kind: PacketKind, probe: Option<u32>) {
        self.in_flight.insert(id, Sent { at, bytes, probe });
        if self.in_flight.len() > MAX_IN_FLIGHT {
            self.in_flight.pop_first();
        }
        if kind != PacketKind::Probe {
            self.media.push_back((at, bytes));
            self.media_bytes += bytes;
        }
        while let Some(&(sent, bytes)) = self.media.front()
            && at.saturating_duration_since(sent) > USE_WINDOW
        {
            self.media.pop_front();
            self.media_bytes -= bytes;
        }
    }

    /// Which of these packets' fates are awaited, in order: feedback about any other changes nothing.
    pub fn awaited(&self, ids: Range<u64>) -> impl Iterator<Item = u64> {
        self.in_flight.range(ids).map(|(&id, _)| id)
    }

    /// Takes feedback; reports in the order of sending.
    pub fn on_feedback(&mut self, now: Instant, reports: &[PacketReport]) {
        let mut arrived = Vec::with_capacity(reports.len());
        let mut lost = 0;
        let mut probed = None;
        for report in reports {
            let Some(sent) = self.in_flight.remove(&report.id) else { continue };
            let Some(arrival) = report.arrival else {
                lost += 1;
                continue;
            };
            let send = sent.at.saturating_duration_since(self.base).as_secs_f64() * 1e3;
            let arrival = arrival.as_secs_f64() * 1e3;
            arrived.push((send, arrival, sent.bytes));
            self.trendline.on_packet(send, arrival);
            if let Some(id) = sent.probe {
                probed = self.prober.on_acked(id, send, arrival, sent.bytes).or(probed);
            }
        }
        while let Some(oldest) = self.in_flight.first_entry()
            && now.saturating_duration_since(oldest.get().at) > FORGOTTEN
        {
            oldest.remove();
        }
        let total = arrived.len() as u32 + lost;
        if total == 0 {
            return;
        }
        self.last_feedback = Some(now);
        self.path.on_feedback(&arrived);
        self.loss.on_feedback(now, total, lost, self.total(), self.rtt);
        self.update(now, probed);
    }

    /// The estimate, in bit/s.
    pub fn estimate_bps(&self) -> u64 {
        self.total() as u64
    }

    /// The rate that arrives, in bit/s; 0 until it is known.
    pub fn acked_bps(&self) -> u64 {
        self.path.acked_bps().unwrap_or(0.0) as u64
    }

    /// Smoothed loss, 0–1.
    pub fn loss(&self) -> f64 {
        self.loss.loss()
    }

    /// Smoothed delay above the lowest of the last seconds: the queue on the way.
    pub fn queue_delay(&self) -> Duration {
        Duration::from_secs_f64(self.path.queue_ms() / 1e3)
    }

    /// A probe to be sent, if it is time for one. The pacer takes it.
    pub fn poll_probe(&mut self, now: Instant) -> Option<ProbeCluster> {
        let view = View { estimate: self.total(), useful: self.useful, queue_ms: self.path.queue_ms() };
        self.prober.poll(now, view)
    }

    /// When [`handle_timeout`](Self::handle_timeout) and [`poll_probe`](Self::poll_probe) should be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let probe = self.prober.timeout(self.total() < self.useful);
        self.silence_ends().into_iter().chain(probe).min()
    }

    /// Lowers the estimate while feedback stays away.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.silence_ends().is_some_and(|end| end <= now) {
            self.rate = self.bounded(self.total() * 0.7);
            self.last_feedback = Some(now);
            // Each silence counts once: a link that then sends nothing keeps what it has.
            let waited = self.rtt + SILENCE;
            self.in_flight.retain(|_, sent| now.saturating_duration_since(sent.at) < waited);
            self.prober.on_decrease(now, self.rate);
        }
    }

    fn silence_ends(&self) -> Option<Instant> {
        let oldest = self.in_flight.values().next()?.at;
        Some(self.last_feedback?.max(oldest) + self.rtt + SILENCE)
    }

    fn bounded(&self, rate: f64) -> f64 {
        rate.clamp(self.config.min_bps as f64, self.config.max_bps as f64)
    }

    fn total(&self) -> f64 {
        let rate = self.loss.limit().map_or(self.rate, |limit| self.rate.min(limit));
        // While a queue stands, room is left to drain it.
        let drain = ((self.path.floor_ms() - DRAIN_FROM_MS) / DRAIN_OVER_MS).clamp(0.0, MAX_DRAIN);
        self.bounded(rate * (1.0 - drain))
    }

    fn update(&mut self, now: Instant, probed: Option<f64>) {
        let passed = self.last_update.map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64());
        self.last_update = Some(now);
        let floor = self.path.floor_ms();
        // Two packets behind each other are no surge, however slow the path.
        let packets_ms = 2.0 * PACKET_BITS * 1e3 / self.rate.max(1.0);
        let risen = floor - self.last_floors[0].min(self.last_floors[1]);
        let surge = floor > SURGE_MS.max(packets_ms) && risen > SURGE_RISE_MS;
        self.last_floors = [self.last_floors[1], floor];
        if let Some(probed) = probed.filter(|_| floor < STANDING_MS) {
            self.rate = self.bounded(self.rate.max(probed));
            return;
        }
        let Some(acked) = self.path.acked_bps() else { return };
        let over = self.trendline.usage() == Usage::Over && floor > SLOPE_MS;
        if over || surge || floor > STANDING_MS {
            self.decrease(now, floor);
        } else if self.trendline.usage() != Usage::Under && floor < SURGE_MS {
            self.standing = (0, 0.0);
            self.increase(now, passed.min(1.0), acked);
        }
    }

    fn decrease(&mut self, now: Instant, floor: f64) {
        let pause = self.rtt + Duration::from_millis(50);
        if self.last_decrease.is_some_and(|last| now.saturating_duration_since(last) < pause) {
            return;
        }
        // A machine that stood still for a moment looks like a path that carries nothing.
        let (Some(recent), Some(acked)) = (self.path.recent_bps(), self.path.acked_bps()) else { return };
        let recent = recent.max(acked * LEAST_LEFT);
        // A queue that three decreases did not shorten is no queue: the route became longer.
        if floor > STANDING_MS {
            let (times, first) = self.standing;
            if times >= 4 && floor > first * 0.8 {
                self.path.rebase();
                self.standing = (0, 0.0);
                return;
            }
            self.standing = (times + 1, if times == 0 { floor } else { first });
        }
        self.last_decrease = Some(now);
        let before = self.rate;
        self.capacity = Some(match self.capacity {
            Some(known) if (0.6..1.3).contains(&(recent / known)) => known + 0.3 * (recent - known),
            _ => recent,
        });
        // Who sends next to nothing learns next to nothing of the path, and a busy machine delays packets, too.
        let part = if self.rate < NARROW { APP_LIMITED } else { HARDLY };
        let left = if self.used() < self.rate * part { self.rate * BACK_OFF_UNUSED } else { 0.0 };
        let left = left.max(recent * BACK_OFF);
        self.rate = self.bounded(self.rate.min(left));
        // Far below what arrives, delay is of somebody else's making: whether there is room stays worth a probe.
        if self.rate < before {
            self.prober.on_decrease(now, before);
        }
    }

    /// What is sent, without probes, in bit/s.
    fn used(&self) -> f64 {
        self.media_bytes as f64 * 8.0 / USE_WINDOW.as_secs_f64()
    }

    fn increase(&mut self, now: Instant, passed: f64, acked: f64) {
        if self.used() < self.total() * APP_LIMITED {
            return;
        }
        let near = self.capacity.is_some_and(|known| (0.7..1.2).contains(&(self.rate / known)));
        let is_known = self.last_decrease.is_some_and(|last| now.saturating_duration_since(last) < KNOWN_FOR);
        let back_to = self.capacity.filter(|_| is_known).map_or(0.0, |known| known * RETURN_TO);
        let grown = if self.rate < back_to {
            (self.rate * RETURN.powf(passed)).min(back_to)
        } else if near {
            let response = self.rtt.as_secs_f64() + 0.1;
            self.rate + (1_200.0 * 8.0 / response).max(4_000.0) * passed
        } else {
            let calm = self.last_decrease.is_none_or(|last| now.saturating_duration_since(last) > CALM);
            self.rate * if calm { CALM_GROWTH } else { GROWTH }.powf(passed) + 1_000.0 * passed
        };
        // Growth beyond what arrives says nothing about the path.
        self.rate = self.bounded(grown.min((acked * 1.5 + 10_000.0).max(self.rate)));
    }
}
