//! How late packets come, and what delay makes up for it.
//!
//! The *transit* of a packet is its arrival less its timestamp, in microseconds on an arbitrary scale. The smallest of the window is the
//! fastest way through the network; all delays here are measured from it, so a drifting clock only moves the scale.

use std::collections::VecDeque;
use std::time::Duration;

use crate::JitterConfig;

/// Packets looked back on: 2 s of speech.
const WINDOW: usize = 100;
/// Older packets say nothing about the network any more, however few there were.
const MAX_AGE: i64 = 10_000_000;
/// Of a hundred packets this many shall be in time without repair.
const PERCENTILE: usize = 97;
/// Packets come and sound is taken in steps: the smallest margin that keeps a packet from missing its pull.
const MARGIN: i64 = 10_000;
/// Packets before the window is believed over the starting delay.
const WARM_UP: usize = 25;
/// How much of a too high target is left after a second.
const KEPT_PER_SECOND: f64 = 0.7;

#[derive(Debug)]
pub(crate) struct DelayEstimator {
    window: VecDeque<(i64, i64)>,
    sorted: Vec<i64>,
    min_transit: i64,
    smooth: f64,
    last: i64,
    warm: bool,
    min: i64,
    start: i64,
    max: i64,
    lip_sync: i64,
    repair: i64,
}

impl DelayEstimator {
    pub(crate) fn new(config: &JitterConfig) -> Self {
        let [min, start, max] = [config.min_delay, config.start_delay, config.max_delay].map(micros);
        Self {
            window: VecDeque::with_capacity(WINDOW),
            sorted: Vec::with_capacity(WINDOW),
            min_transit: 0,
            smooth: start as f64,
            last: 0,
            warm: false,
            min: min.min(max),
            start: start.min(max),
            max,
            lip_sync: 0,
            repair: 0,
        }
    }

    /// The sender began anew: its timestamps say nothing about the earlier ones.
    pub(crate) fn restart(&mut self) {
        self.window.clear();
    }

    /// A frame came for the first time, not as a copy.
    pub(crate) fn note(&mut self, arrival: i64, transit: i64) {
        self.window.push_back((arrival, transit));
        while self.window.len() > WINDOW || self.window.front().is_some_and(|(at, _)| arrival - at > MAX_AGE)
        {
            self.window.pop_front();
        }
        self.sorted.clear();
        self.sorted.extend(self.window.iter().map(|(_, transit)| *transit));
        self.sorted.sort_unstable();
        self.min_transit = self.sorted.first().copied().unwrap_or(transit);
        let rank = (self.sorted.len() * PERCENTILE).div_ceil(100).max(1) - 1;
        let wanted = (self.sorted.get(rank).copied().unwrap_or(transit) - self.min_transit + MARGIN) as f64;
        self.warm |= self.window.len() >= WARM_UP;
        let elapsed = (arrival - self.last).clamp(0, 1_000_000) as f64 / 1e6;
        self.last = self.last.max(arrival);
        self.smooth = if wanted >= self.smooth {
            wanted
        } else {
            wanted + (self.smooth - wanted) * KEPT_PER_SECOND.powf(elapsed)
        };
    }

    pub(crate) fn set_minimum(&mut self, delay: Duration) {
        self.lip_sync = micros(delay);
    }

    /// How long after a frame the data arrive that repair it; zero while nothing is lost.
    pub(crate) fn set_repair(&mut self, distance: i64) {
        self.repair = distance;
    }

    /// The delay aimed at, in microseconds.
    pub(crate) fn target(&self) -> i64 {
        let network = (self.smooth as i64).saturating_add(self.repair);
        let floor = if self.warm { self.min } else { self.start };
        network.max(floor).max(self.lip_sync).min(self.max)
    }

    /// The delay of something with this transit, in microseconds.
    pub(crate) fn of(&self, transit: i64) -> i64 {
        transit - self.min_transit
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}
