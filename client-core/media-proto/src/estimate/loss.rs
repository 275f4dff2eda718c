//! The loss detector: loss that falls with the rate is congestion, loss that does not is the path's own.

use std::time::{Duration, Instant};

/// Packets a measurement needs.
const MIN_PACKETS: u32 = 20;
/// Time a measurement needs.
const MIN_TIME: Duration = Duration::from_millis(250);
/// Below this the rate may grow.
const LOW: f64 = 0.02;
/// Above this the rate falls.
const HIGH: f64 = 0.10;
/// How long the effect of a decrease is waited for.
const VERDICT: Duration = Duration::from_secs(1);
/// More than this is never taken for the path's own.
const MAX_INHERENT: f64 = 0.35;

/// A decrease whose effect is awaited.
#[derive(Debug, Clone, Copy)]
struct Trial {
    since: Instant,
    rate: f64,
    loss: f64,
}

#[derive(Debug, Default)]
pub(super) struct LossDetector {
    sent: u32,
    lost: u32,
    since: Option<Instant>,
    /// Smoothed, 0–1.
    loss: f64,
    inherent: f64,
    trial: Option<Trial>,
    last_decrease: Option<Instant>,
    limit: Option<f64>,
}

impl LossDetector {
    /// Smoothed loss, 0–1.
    pub(super) fn loss(&self) -> f64 {
        self.loss
    }

    /// The highest rate that loss allows, in bit/s.
    pub(super) fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// Notes the packets of one feedback while `rate` bit/s is the estimate.
    pub(super) fn on_feedback(&mut self, now: Instant, sent: u32, lost: u32, rate: f64, rtt: Duration) {
        let since = *self.since.get_or_insert(now);
        self.sent += sent;
        self.lost += lost;
        let passed = now.saturating_duration_since(since);
        if self.sent < MIN_PACKETS || passed < MIN_TIME {
            return;
        }
        let measured = f64::from(self.lost) / f64::from(self.sent);
        (self.sent, self.lost, self.since) = (0, 0, Some(now));
        self.loss += (measured - self.loss) * 0.5;
        self.judge(now, rate);
        self.inherent = self.inherent.min(self.loss.max(self.inherent - 0.01 * passed.as_secs_f64()));
        let congestion = ((self.loss - self.inherent) / (1.0 - self.inherent)).max(0.0);
        if congestion > HIGH {
            let pause = rtt + Duration::from_millis(300);
            if self.last_decrease.is_none_or(|last| now.saturating_duration_since(last) > pause) {
                self.last_decrease = Some(now);
                self.trial.get_or_insert(Trial { since: now, rate, loss: self.loss });
                self.limit = Some(self.limit.unwrap_or(rate).min(rate) * (1.0 - 0.5 * congestion));
            }
        } else if congestion < LOW
            && let Some(limit) = self.limit
        {
            let grown = limit * 1.08_f64.powf(passed.as_secs_f64().min(1.0) * 2.0);
            // Far above the estimate it limits nothing.
            self.limit = (grown < rate * 2.0).then_some(grown);
        }
    }

    /// Whether the last decreases have helped.
    fn judge(&mut self, now: Instant, rate: f64) {
        let Some(trial) = self.trial else { return };
        if now.saturating_duration_since(trial.since) < VERDICT {
            return;
        }
        self.trial = None;
        if rate < trial.rate * 0.9 && self.loss > trial.loss * 0.75 {
            self.inherent = self.inherent.max(self.loss).min(MAX_INHERENT);
            self.limit = Some(trial.rate);
        }
    }
}
