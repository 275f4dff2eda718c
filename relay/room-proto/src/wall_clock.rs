//! Whether the wall clock was set, which moves every time of expiry that was told to clients: credentials end by the
//! wall clock, timers run by the monotonic one. A machine that was suspended looks the same, because its monotonic
//! clock stood still meanwhile.

use std::time::{Duration, Instant};

use crate::io::Now;

/// How far the clocks may drift apart. Credentials are renewed with at least 75 s of their life left, the wall clock
/// is read in whole seconds, and a clock that is slewed loses half a second in a quarter of an hour.
const TOLERANCE: u64 = 10;

/// Compares the two clocks.
pub(crate) struct WallClock {
    /// When somebody has to compare them again; `None` until credentials are out.
    next: Option<Instant>,
    /// The last reading that is known to be consistent with what was told to clients.
    anchor: Option<Now>,
}

impl WallClock {
    /// Time from a jump to its discovery: new allocations are refused that long at most.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(2);

    pub(crate) fn new() -> Self {
        Self { next: None, anchor: None }
    }

    /// Whether the wall clock was set, forwards or backwards, since it was last asked.
    pub(crate) fn was_set(&mut self, now: Now) -> bool {
        let Some(anchor) = self.anchor else {
            self.anchor = Some(now);
            return false;
        };
        let expected = anchor.unix.saturating_add(now.at.saturating_duration_since(anchor.at).as_secs());
        let was_set = now.unix.abs_diff(expected) > TOLERANCE;
        if was_set {
            self.anchor = Some(now);
        }
        was_set
    }

    /// When the clocks are to be compared again; `None` when that is planned already.
    pub(crate) fn plan(&mut self, now: Now) -> Option<Instant> {
        if self.next.is_some_and(|at| at > now.at) {
            return None;
        }
        self.next = Some(now.at + Self::INTERVAL);
        self.next
    }
}

#[cfg(test)]
#[path = "../tests/unit/wall_clock.rs"]
mod tests;
