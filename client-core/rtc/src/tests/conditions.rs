//! What a network does to packets that go one way: it loses, delays and holds them back. Pure.

use std::time::{Duration, Instant};

/// What a direction does to packets.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// The part that is lost, 0 to 1.
    pub loss: f64,
    /// How long a packet is under way at least.
    pub delay: Duration,
    /// Bits a second, IP headers included; 0 is no limit.
    pub bps: u64,
    /// What would wait for longer is dropped.
    pub queue: Duration,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { loss: 0.0, delay: Duration::ZERO, bps: 0, queue: Duration::from_secs(1) }
    }
}

/// What happens to packets that go one way. Time comes in.
pub struct Direction {
    pub conditions: Conditions,
    busy_until: Instant,
    random: u64,
}

impl Direction {
    pub fn new(seed: u64, now: Instant) -> Self {
        Self { conditions: Conditions::default(), busy_until: now, random: seed }
    }

    /// When a packet of so many bytes arrives; `None` when it is lost.
    pub fn carry(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let Conditions { loss, delay, bps, queue } = self.conditions;
        if self.roll() < loss {
            return None;
        }
        let begins = self.busy_until.max(now);
        let bits = (bytes as u64 + 28) * 8;
        match (bits * 1_000_000_000).checked_div(bps) {
            Some(_) if begins - now > queue => return None,
            Some(nanos) => self.busy_until = begins + Duration::from_nanos(nanos),
            None => self.busy_until = now,
        }
        Some(self.busy_until + delay)
    }

    /// SplitMix64, in [0, 1).
    fn roll(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
