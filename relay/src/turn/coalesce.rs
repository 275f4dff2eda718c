//! When a busy server waits a moment before it looks again, so that one wake-up carries many packets.
//! It never waits while traffic is low: a packet that comes alone leaves at once.

use std::time::{Duration, Instant};

/// Packets per second from which waiting saves more than it costs: below, most waits would end with one packet.
const BUSY: u64 = 8_000;
/// How long packets are counted before the rate is judged anew.
const WINDOW: Duration = Duration::from_millis(4);
/// Shorter waits are not worth the system call.
const SHORTEST: Duration = Duration::from_micros(50);

pub(super) struct Coalescer {
    linger: Duration,
    since: Instant,
    packets: u64,
    busy: bool,
}

impl Coalescer {
    pub(super) fn new(linger: Duration, now: Instant) -> Self {
        Self { linger, since: now, packets: 0, busy: false }
    }

    /// Counts a round's packets. `began` is when the round did.
    pub(super) fn count(&mut self, packets: usize, began: Instant) {
        self.packets += packets as u64;
        let counted = began.saturating_duration_since(self.since);
        if counted >= WINDOW {
            self.busy = u128::from(self.packets) * 1_000_000 >= u128::from(BUSY) * counted.as_micros();
            (self.since, self.packets) = (began, 0);
        }
    }

    /// Whether a wait is worth a look at the clock.
    pub(super) fn is_busy(&self) -> bool {
        self.busy && self.linger >= SHORTEST
    }

    /// How long to wait after a round that began at `began`: rounds are to begin a linger apart.
    pub(super) fn pause(&self, began: Instant, now: Instant) -> Option<Duration> {
        let left = self.linger.saturating_sub(now.saturating_duration_since(began));
        (self.is_busy() && left >= SHORTEST).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Coalescer;

    const LINGER: Duration = Duration::from_micros(250);

    fn after(packets_per_millisecond: usize) -> (Coalescer, Instant) {
        let mut now = Instant::now();
        let mut coalescer = Coalescer::new(LINGER, now);
        for _ in 0..10 {
            now += Duration::from_millis(1);
            coalescer.count(packets_per_millisecond, now);
        }
        (coalescer, now)
    }

    #[test]
    fn low_traffic_is_never_delayed() {
        for rate in [0, 1, 4, 7] {
            let (coalescer, now) = after(rate);
            assert_eq!(coalescer.pause(now, now), None, "{rate} a millisecond");
        }
    }

    #[test]
    fn rounds_of_a_busy_server_begin_a_linger_apart() {
        let (coalescer, now) = after(20);
        assert_eq!(coalescer.pause(now, now), Some(LINGER));
        let worked = Duration::from_micros(150);
        assert_eq!(coalescer.pause(now, now + worked), Some(LINGER - worked));
        assert_eq!(coalescer.pause(now, now + Duration::from_micros(220)), None, "it is nearly over");
        assert_eq!(coalescer.pause(now, now + Duration::from_secs(1)), None);
    }

    #[test]
    fn a_pause_ends_it_and_zero_turns_it_off() {
        let (mut coalescer, now) = after(20);
        let later = now + Duration::from_secs(1);
        coalescer.count(1, later);
        assert_eq!(coalescer.pause(later, later), None);
        let mut off = Coalescer::new(Duration::ZERO, now);
        off.count(1_000_000, now + Duration::from_millis(5));
        assert!(!off.is_busy());
    }
}
