//! The delay detector: whether packets take longer and longer on their way.

use std::collections::VecDeque;

/// Packets sent within this time count as one group, in ms: pacing sends them together.
const GROUP_MS: f64 = 5.0;
/// Groups the slope is fitted over.
const WINDOW: usize = 20;
/// Weight of the past in the smoothed delay.
const SMOOTHING: f64 = 0.9;
/// Scales the slope to the threshold.
const GAIN: f64 = 4.0;
/// Groups after which the slope counts fully.
const MAX_DELTAS: u32 = 60;
/// How fast the threshold follows a larger slope, per ms.
const UP: f64 = 0.0087;
/// The same for a smaller slope.
const DOWN: f64 = 0.039;
/// Growth must last for this long, in ms.
const OVER_MS: f64 = 10.0;

/// What the delay says about the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// Queues drain.
    Under,
    /// Queues stay as they are.
    Normal,
    /// Queues grow.
    Over,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    first_send: f64,
    last_send: f64,
    first_arrival: f64,
    last_arrival: f64,
}

/// Fits a line through the delay of packet groups and compares its slope with an adaptive threshold.
#[derive(Debug)]
pub(super) struct Trendline {
    current: Option<Group>,
    previous: Option<Group>,
    accumulated: f64,
    smoothed: f64,
    points: VecDeque<(f64, f64)>,
    deltas: u32,
    threshold: f64,
    last_arrival: Option<f64>,
    over_ms: f64,
    last_trend: f64,
    usage: Usage,
}

impl Trendline {
    pub(super) fn new() -> Self {
        Self {
            current: None,
            previous: None,
            accumulated: 0.0,
            smoothed: 0.0,
            points: VecDeque::new(),
            deltas: 0,
            threshold: 12.5,
            last_arrival: None,
            over_ms: 0.0,
            last_trend: 0.0,
            usage: Usage::Normal,
        }
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Notes a packet; both times in ms, of two clocks.
    pub(super) fn on_packet(&mut self, send: f64, arrival: f64) {
        let Some(group) = &mut self.current else {
            self.current = Some(Group::new(send, arrival));
            return;
        };
        if send < group.first_send {
            return;
        }
        // A burst that a queue on the way has squeezed together is one group, too.
        let squeezed = arrival - group.last_arrival <= GROUP_MS
            && arrival - group.last_arrival < send - group.last_send
            && arrival - group.first_arrival < 100.0;
        if send - group.first_send <= GROUP_MS || squeezed {
            group.last_send = group.last_send.max(send);
            group.last_arrival = group.last_arrival.max(arrival);
            return;
        }
        let done = *group;
        *group = Group::new(send, arrival);
        if let Some(previous) = self.previous.replace(done) {
            let sent = done.last_send - previous.last_send;
            let arrived = done.last_arrival - previous.last_arrival;
            if arrived > -GROUP_MS && arrived < 3_000.0 {
                self.on_groups(sent, arrived, done.last_arrival);
            }
        }
    }

    fn on_groups(&mut self, sent: f64, arrived: f64, arrival: f64) {
        self.deltas = (self.deltas + 1).min(MAX_DELTAS);
        self.accumulated += arrived - sent;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        self.points.push_back((arrival, self.smoothed));
        if self.points.len() > WINDOW {
            self.points.pop_front();
        }
        let trend = if self.points.len() == WINDOW { self.slope() } else { self.last_trend };
        let scaled = f64::from(self.deltas) * trend * GAIN;
        if scaled > self.threshold {
            self.over_ms += sent.max(0.0);
            if self.over_ms > OVER_MS && trend >= self.last_trend {
                self.over_ms = 0.0;
                self.usage = Usage::Over;
            }
        } else {
            self.over_ms = 0.0;
            self.usage = if scaled < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.last_trend = trend;
        let passed = self.last_arrival.map_or(0.0, |last| (arrival - last).clamp(0.0, 100.0));
        self.last_arrival = Some(arrival);
        // A lone spike must not make the detector deaf.
        if scaled.abs() <= self.threshold + 15.0 {
            let gain = if scaled.abs() < self.threshold { DOWN } else { UP };
            self.threshold += gain * (scaled.abs() - self.threshold) * passed;
            self.threshold = self.threshold.clamp(6.0, 600.0);
        }
    }

    /// Least squares.
    fn slope(&self) -> f64 {
        let count = self.points.len() as f64;
        let (sum_x, sum_y) = self.points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (mean_x, mean_y) = (sum_x / count, sum_y / count);
        let (above, below) = self.points.iter().fold((0.0, 0.0), |(above, below), (x, y)| {
            (above + (x - mean_x) * (y - mean_y), below + (x - mean_x).powi(2))
        });
        if below > 0.0 { above / below } else { 0.0 }
    }
}

impl Group {
    fn new(send: f64, arrival: f64) -> Self {
        Self { first_send: send, last_send: send, first_arrival: arrival, last_arrival: arrival }
    }
}
