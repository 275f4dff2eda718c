//! What feedback says about the path directly: the rate that arrives and the delay above the lowest seen.

use std::collections::VecDeque;

/// The span of the acknowledged rate, in ms.
const WINDOW_MS: f64 = 500.0;
/// The span used when a queue builds up, in ms: the long one still counts what came before.
const SHORT_MS: f64 = 120.0;
/// The lowest delay is taken over one to two of these, in ms.
const BASE_MS: f64 = 10_000.0;
/// Delay above the lowest that shows a queue, in ms.
const QUEUED_MS: f64 = 15.0;
/// Packets sent within this time were sent together, in ms.
const BURST_MS: f64 = 5.0;
/// How many times the mean jitter is not taken for a queue.
const NOISE: f64 = 3.0;
/// Packets, less one, that tell how fast a queue drains.
const SPREAD_PACKETS: usize = 5;
/// The shortest span that tells a rate, in ms.
const MIN_SPREAD_MS: f64 = 15.0;
/// Packets remembered for the rate.
const MAX_PACKETS: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Path {
    arrivals: VecDeque<(f64, usize)>,
    bytes: usize,
    first: Option<f64>,
    latest: f64,
    /// The lowest delay of the running span and of the one before.
    base: Option<(f64, f64)>,
    base_since: f64,
    queue: f64,
    floor: f64,
    /// Send time and delay of the last packet.
    last: Option<(f64, f64)>,
    /// How much of the delay comes and goes by itself.
    noise: f64,
}

impl Path {
    /// Notes one feedback: send time, arrival (ms of two clocks) and size of the packets that came.
    pub(super) fn on_feedback(&mut self, packets: &[(f64, f64, usize)]) {
        for &(send, arrival, bytes) in packets {
            self.first.get_or_insert(arrival);
            self.latest = self.latest.max(arrival);
            self.arrivals.push_back((arrival, bytes));
            self.bytes += bytes;
            let delay = arrival - send;
            let (current, before) = *self.base.get_or_insert((delay, delay));
            if send - self.base_since > BASE_MS {
                self.base = Some((delay, current));
                self.base_since = send;
            } else {
                self.base = Some((current.min(delay), before));
            }
            if let Some((before, earlier)) = self.last
                && send - before <= BURST_MS
            {
                // Packets sent together find a queue that can only have grown: what comes sooner shows jitter.
                self.noise += ((earlier - delay).max(0.0) - self.noise) / 32.0;
            }
            self.last = Some((send, delay));
            self.queue += (self.above(delay) - self.queue) / 8.0;
        }
        while let Some(&(arrival, bytes)) = self.arrivals.front()
            && (self.latest - arrival > WINDOW_MS || self.arrivals.len() > MAX_PACKETS)
        {
            self.arrivals.pop_front();
            self.bytes -= bytes;
        }
        // The least delayed of the last ones: a single late packet is jitter, all of them are a queue.
        let later = &packets[packets.len() - packets.len().min(3.max(packets.len() / 3))..];
        let least = later.iter().map(|(send, arrival, _)| arrival - send).min_by(f64::total_cmp);
        if let Some(delay) = least {
            self.floor = (self.above(delay) - NOISE * self.noise).max(0.0);
        }
    }

    fn above(&self, delay: f64) -> f64 {
        self.base.map_or(0.0, |(current, before)| (delay - current.min(before)).max(0.0))
    }

    /// Takes the present delay for the lowest one: the route has changed.
    pub(super) fn rebase(&mut self) {
        if let Some((current, before)) = self.base {
            let delay = current.min(before) + self.floor;
            self.base = Some((delay, delay));
        }
        self.queue = 0.0;
        self.floor = 0.0;
    }

    /// Smoothed delay above the lowest, without what jitter explains, in ms.
    pub(super) fn queue_ms(&self) -> f64 {
        (self.queue - NOISE * self.noise).max(0.0)
    }

    /// What every recent packet was delayed by at least, in ms.
    pub(super) fn floor_ms(&self) -> f64 {
        self.floor
    }

    /// The rate that arrives, in bit/s, once there is half a window of it.
    pub(super) fn acked_bps(&self) -> Option<f64> {
        let span = (self.latest - self.first?).min(WINDOW_MS);
        (span >= WINDOW_MS / 2.0).then(|| self.bytes as f64 * 8_000.0 / span)
    }

    /// The rate of the last moments, in bit/s.
    pub(super) fn recent_bps(&self) -> Option<f64> {
        let long = self.acked_bps()?;
        let start = self.latest - SHORT_MS;
        let recent: usize = self
            .arrivals
            .iter()
            .rev()
            .take_while(|(arrival, _)| *arrival > start)
            .map(|(_, bytes)| bytes)
            .sum();
        let short = long.min(recent as f64 * 8_000.0 / SHORT_MS);
        // Behind a queue, packets come as fast as the path lets them.
        let spread = self.spread_bps().filter(|_| self.floor > QUEUED_MS);
        Some(spread.map_or(short, |spread| long.min(spread)))
    }

    /// The rate at which the last packets came behind each other.
    fn spread_bps(&self) -> Option<f64> {
        let (last, _) = self.arrivals.back()?;
        let (first, _) = self.arrivals.iter().rev().nth(SPREAD_PACKETS)?;
        let bytes: usize = self.arrivals.iter().rev().take(SPREAD_PACKETS).map(|(_, bytes)| bytes).sum();
        let span = last - first;
        (span >= MIN_SPREAD_MS).then(|| bytes as f64 * 8_000.0 / span)
    }
}
