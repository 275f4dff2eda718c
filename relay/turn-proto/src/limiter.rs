//! How many answers strangers get. An answer to a forged address hits somebody else, so each network gets only so many, whoever asks for it.
//!
//! The table has a fixed size and is indexed by a keyed hash, so a flood from forged addresses costs no memory. Networks can share a place in it; with this
//! many places a flood must send more than a million packets a second before it takes a stranger's answers away, and those who have an
//! allocation do not need any.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::meter::Tick;

/// 64 Ki places of four bytes.
const PLACES: usize = 1 << 16;
/// A call of ten behind one address asks about a thousand times when it begins.
const BURST: u32 = 2_000;
const PER_SECOND: u32 = 100;
/// Milliseconds that an answer costs.
const COST: u32 = 1000 / PER_SECOND;
/// What is paid for after the last answer of a burst.
const MOST_AHEAD: u32 = (BURST + 1) * COST;

pub(crate) struct AnswerLimiter {
    key: (u64, u64),
    /// Milliseconds since the start until which each place is paid for.
    paid_until: Vec<u32>,
}

impl AnswerLimiter {
    pub(crate) fn new(key: (u64, u64)) -> Self {
        Self { key, paid_until: vec![0; PLACES] }
    }

    /// Whether `source`'s network, an IPv4 /24 or IPv6 /56, may have one more.
    pub(crate) fn take(&mut self, source: IpAddr, now: Tick) -> bool {
        // 49 days of milliseconds. A place that nobody touched for exactly as long may keep its network waiting for twenty seconds.
        let now = (now / 1_000_000) as u32;
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        match source {
            IpAddr::V4(v4) => hasher.write(&v4.octets()[..3]),
            IpAddr::V6(v6) => hasher.write(&v6.octets()[..7]),
        }
        let place = &mut self.paid_until[hasher.finish() as usize % PLACES];
        let ahead = place.wrapping_sub(now);
        // Nothing is ever paid for further ahead than that, so it is long past, however often the clock went round since.
        let ahead = if ahead > MOST_AHEAD { 0 } else { ahead };
        if ahead > BURST * COST {
            return false;
        }
        *place = now.wrapping_add(ahead + COST);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{AnswerLimiter, BURST, PER_SECOND};

    #[test]
    fn a_network_gets_its_burst_and_then_its_rate() {
        let mut limiter = AnswerLimiter::new((1, 2));
        let first = (0..10_000).filter(|n| limiter.take([192, 0, 2, (n % 250) as u8].into(), 0)).count();
        assert!(first.abs_diff(BURST as usize) <= 1, "{first}");
        let later = (0..10_000).filter(|_| limiter.take([192, 0, 2, 1].into(), 3_000_000_000)).count();
        assert!(later.abs_diff(3 * PER_SECOND as usize) <= 1, "{later}");
        assert!(limiter.take([198, 51, 100, 1].into(), 3_000_000_000), "another network is not touched");
    }

    #[test]
    fn after_the_clock_of_milliseconds_overflows_everybody_is_served() {
        let mut limiter = AnswerLimiter::new((1, 2));
        let source = [192, 0, 2, 1].into();
        for day in 0..200_u64 {
            assert!(limiter.take(source, day * 86_400_000_000_000), "day {day}");
        }
    }

    #[test]
    fn a_network_is_served_whenever_it_comes_for_the_first_time() {
        for day in 0..200_u64 {
            let mut limiter = AnswerLimiter::new((1, 2));
            assert!(limiter.take([192, 0, 2, 1].into(), day * 86_400_000_000_000), "day {day}");
        }
    }
}
