//! One estimate for the uplink that all links of a mesh share.
//!
//! Estimators that know nothing of each other all probe the same queue and together overshoot it once per link.
//! Delay that grows on several links at once shows that the shared part is full; what arrived in total just before
//! is its rate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A queue above this, on several links, is the shared one.
const GROWN: Duration = Duration::from_millis(25);
/// The span in which the highest total counts.
const RECENT: Duration = Duration::from_secs(2);
/// Between two reductions: the effect of the first must be seen.
const PAUSE: Duration = Duration::from_millis(300);
/// The part of the uplink given out while it is full.
const PART: f64 = 0.9;
/// Growth a second after a queue was seen.
const GROWTH: f64 = 1.03;
/// Growth a second when none has been seen for long.
const FAST_GROWTH: f64 = 1.12;
/// How long that is.
const SETTLED: Duration = Duration::from_secs(5);
/// What each link keeps in any case, in bit/s: its audio.
const MIN_SHARE: u64 = 40_000;
/// A limit that has not been touched for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Totals remembered: 2 s of one every 10 ms.
const MAX_TOTALS: usize = 200;

/// What one link's estimator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkSample {
    /// Its estimate, in bit/s.
    pub estimate: u64,
    /// The rate that arrives, in bit/s.
    pub acked_bps: u64,
    /// Its queue on the way.
    pub queue_delay: Duration,
}

/// The joint estimate.
#[derive(Debug, Default)]
pub struct JointUplink {
    totals: VecDeque<(Instant, u64)>,
    limit: Option<f64>,
    last_update: Option<Instant>,
    last_full: Option<Instant>,
}

impl JointUplink {
    /// Takes a sample of every link, several times a second, and returns what all may use together, in bit/s;
    /// `None` while no shared limit is known.
    pub fn update(&mut self, now: Instant, links: &[LinkSample]) -> Option<u64> {
        let passed = self.last_update.map_or(0.0, |last| now.saturating_duration_since(last).as_secs_f64());
        self.last_update = Some(now);
        let total: u64 = links.iter().map(|link| link.acked_bps).sum();
        self.totals.push_back((now, total));
        while let Some(&(at, _)) = self.totals.front()
            && (now.saturating_duration_since(at) > RECENT || self.totals.len() > MAX_TOTALS)
        {
            self.totals.pop_front();
        }
        let grown = links.iter().filter(|link| link.queue_delay > GROWN).count();
        // Half of the links, and more than one: a single full path is that link's own matter.
        let full = grown >= 2 && grown * 2 >= links.len();
        let since_full = self.last_full.map(|last| now.saturating_duration_since(last));
        if full && total > 0 {
            if since_full.is_none_or(|since| since > PAUSE) {
                self.last_full = Some(now);
                // The first time the best total is the uplink; while the queue stays, what arrives is.
                let highest = self.totals.iter().map(|(_, total)| *total).max().unwrap_or(total);
                let fresh = since_full.is_none_or(|since| since > RECENT);
                let carried = if fresh { highest } else { total } as f64;
                let carried = (carried * PART).max((MIN_SHARE * links.len() as u64) as f64);
                self.limit = Some(self.limit.map_or(carried, |limit| limit.min(carried)));
            }
        } else if since_full.is_some_and(|since| since > FORGOTTEN) {
            self.limit = None;
            self.last_full = None;
        } else if let Some(limit) = &mut self.limit
            && total as f64 > *limit * 0.7
        {
            let growth = if since_full.is_some_and(|since| since > SETTLED) { FAST_GROWTH } else { GROWTH };
            *limit = (*limit * growth.powf(passed.min(1.0))).max(total as f64);
        }
        let wanted: u64 = links.iter().map(|link| link.estimate).sum();
        self.limit.map(|limit| (limit as u64).min(wanted))
    }
}
