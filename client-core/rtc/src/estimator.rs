//! Publishes what the bandwidth estimator says, kept near what was shown to get through.
//! The estimator below raises its target for as long as nothing is lost, whether or not the path was used at all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{BandwidthEstimator, EstimatorStats, Gcc, PacketReport};

use crate::shared::{START_BITRATE, Shared};

/// What got through and what was lost is judged over this time.
const WINDOW: Duration = Duration::from_secs(1);
/// The estimate is at most this many times what got through lately.
const HEADROOM: f64 = 1.5;
/// Reports kept: a second at four times the largest rate.
const MOST_REPORTS: usize = 4_096;

pub(crate) struct PublishedEstimate {
    inner: Gcc,
    limits: (f64, f64),
    shared: Arc<Shared>,
    /// When each packet left, its bytes, and whether it arrived.
    recent: VecDeque<(Instant, usize, bool)>,
    target: f64,
}

impl PublishedEstimate {
    pub(crate) fn new(inner: Gcc, limits: (f64, f64), shared: Arc<Shared>) -> Self {
        Self { inner, limits, shared, recent: VecDeque::new(), target: START_BITRATE as f64 }
    }
}

impl BandwidthEstimator for PublishedEstimate {
    fn on_reports(&mut self, now: Instant, reports: &[PacketReport]) {
        self.inner.on_reports(now, reports);
        self.recent.extend(reports.iter().map(|report| (report.departure, report.size, report.arrived)));
        while self.recent.len() > MOST_REPORTS
            || self.recent.front().is_some_and(|&(left, ..)| now.saturating_duration_since(left) > WINDOW)
        {
            self.recent.pop_front();
        }
        let arrived: usize =
            self.recent.iter().filter(|(.., arrived)| *arrived).map(|&(_, size, _)| size).sum();
        let lost = self.recent.iter().filter(|(.., arrived)| !arrived).count();
        let carried = arrived as f64 * 8.0 / WINDOW.as_secs_f64();
        let ceiling = (carried * HEADROOM).max(START_BITRATE as f64);
        self.target = self.inner.target_bitrate().min(ceiling).clamp(self.limits.0, self.limits.1);
        let mut state = self.shared.state();
        state.estimate.bitrate_bps = self.target as u64;
        state.estimate.loss = lost as f32 / self.recent.len().max(1) as f32;
    }

    fn target_bitrate(&self) -> f64 {
        self.target
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout()
    }

    fn stats(&self) -> EstimatorStats {
        self.inner.stats()
    }
}
