//! Virtual time's origin, and numbers that look random and are the same in every run of a seed.
#![allow(dead_code)] // Each test file uses its own part.

use std::time::Instant;

/// Where virtual time begins. Any instant will do: only differences matter.
#[allow(clippy::disallowed_methods)]
pub fn start() -> Instant {
    Instant::now()
}

/// SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// True in this part of all cases.
    pub fn chance(&mut self, part: f64) -> bool {
        ((self.next() >> 11) as f64) < part * (1u64 << 53) as f64
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
