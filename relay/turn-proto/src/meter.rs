//! How much somebody moves, against a limit: the generic cell rate algorithm, one number each.

/// Nanoseconds since the server started.
pub(crate) type Tick = u64;

/// A second's worth may come at once: key frames are bursts.
const BURST: Tick = 1_000_000_000;
/// What a packet counts at least, so that many small ones are limited like few large ones.
const LEAST: usize = 500;

/// A limit in a form that costs one multiplication a packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    /// Nanoseconds for 1024 bytes; 0 without a limit.
    per_kibibyte: u64,
}

impl Rate {
    pub(crate) fn megabits(megabits: u32) -> Self {
        let per_kibibyte = (1024 * 8 * 1000_u64).checked_div(u64::from(megabits)).unwrap_or(0);
        Self { per_kibibyte }
    }
}

/// How much has been moved, as the time until which it is paid for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meter {
    paid_until: Tick,
}

impl Meter {
    /// Whether a packet of `bytes` is inside the limit. It counts when it is taken with [`Meter::take`].
    pub(crate) fn has_room(&self, rate: Rate, now: Tick) -> bool {
        rate.per_kibibyte == 0 || self.paid_until.saturating_sub(now) <= BURST
    }

    pub(crate) fn take(&mut self, rate: Rate, bytes: usize, now: Tick) {
        let cost = (bytes.max(LEAST) as u64 * rate.per_kibibyte) >> 10;
        self.paid_until = self.paid_until.max(now) + cost;
    }
}

#[cfg(test)]
mod tests {
    use super::{Meter, Rate};

    fn passed(megabits: u32, bytes: usize, per_second: u64, seconds: u64) -> u64 {
        let (mut meter, rate) = (Meter::default(), Rate::megabits(megabits));
        (0..per_second * seconds)
            .filter(|n| {
                let now = n * 1_000_000_000 / per_second;
                let room = meter.has_room(rate, now);
                if room {
                    meter.take(rate, bytes, now);
                }
                room
            })
            .count() as u64
    }

    #[test]
    fn a_limit_passes_its_rate_and_a_burst_of_one_second() {
        // 8 Mbit/s are 1000 packets of 1000 bytes a second; 11 seconds' worth passes in 10.
        let through = passed(8, 1000, 5000, 10);
        assert!((10_900..=11_100).contains(&through), "{through}");
        // Below the limit everything passes.
        assert_eq!(passed(8, 1000, 990, 10), 9900);
    }

    #[test]
    fn small_packets_count_as_five_hundred_bytes() {
        let through = passed(1, 20, 5000, 10);
        assert!((2_700..=2_800).contains(&through), "{through}");
    }

    #[test]
    fn no_limit_is_no_limit() {
        assert_eq!(passed(0, 65_000, 100_000, 1), 100_000);
    }
}
