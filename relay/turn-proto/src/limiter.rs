//! How many answers strangers get. An answer to a forged address hits somebody else, so each network gets only so many, whoever asks for it.
//!
//! The table has a fixed size and is indexed by a keyed hash, so a flood from forged addresses costs no memory. Networks can share a place in it: a flood from addresses
//! all over the Internet must bring more than a million packets a second before it takes the answers of others away.
//!
//! A flood that forges one network's addresses uses up that network's answers with five hundred packets a second. What is left to it then: bindings, allocations
//! and streams are counted apart, so none of them takes the others' answers, a stream cannot be forged, and those who have an
//! allocation need no answers of this kind.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::meter::Tick;

/// 64 Ki places of four bytes.
const PLACES: usize = 1 << 16;
/// A call of ten behind one address asks about a thousand times when it begins.
const BURST: u32 = 2_000;
const PER_SECOND: u32 = 500;
/// Milliseconds that an answer costs.
const COST: u32 = 1000 / PER_SECOND;
/// What is paid for after the last answer of a burst.
const MOST_AHEAD: u32 = (BURST + 1) * COST;

/// What is counted apart.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Answers to Binding over datagrams.
    Binding,
    /// Challenges over datagrams, and refusals of requests without credentials.
    Challenge,
    /// All of these over streams.
    Stream,
}

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
    pub(crate) fn take(&mut self, kind: Kind, source: IpAddr, now: Tick) -> bool {
        // 49 days of milliseconds. A place that nobody touched for exactly as long may keep its network waiting for twenty seconds.
        let now = (now / 1_000_000) as u32;
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write(&[kind as u8]);
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
    use super::{AnswerLimiter, BURST, Kind, PER_SECOND};

    #[test]
    fn a_network_gets_its_burst_and_then_its_rate() {
        let mut limiter = AnswerLimiter::new((1, 2));
        let first = (0..10_000)
            .filter(|n| limiter.take(Kind::Challenge, [192, 0, 2, (n % 250) as u8].into(), 0))
            .count();
        assert!(first.abs_diff(BURST as usize) <= 1, "{first}");
        let later = (0..10_000)
            .filter(|_| limiter.take(Kind::Challenge, [192, 0, 2, 1].into(), 3_000_000_000))
            .count();
        assert!(later.abs_diff(3 * PER_SECOND as usize) <= 1, "{later}");
        assert!(
            limiter.take(Kind::Challenge, [198, 51, 100, 1].into(), 3_000_000_000),
            "another network is not touched"
        );
        assert!(limiter.take(Kind::Binding, [192, 0, 2, 1].into(), 3_000_000_000), "nor is another kind");
    }

    #[test]
    fn after_the_clock_of_milliseconds_overflows_everybody_is_served() {
        let mut limiter = AnswerLimiter::new((1, 2));
        let source = [192, 0, 2, 1].into();
        for day in 0..200_u64 {
            assert!(limiter.take(Kind::Challenge, source, day * 86_400_000_000_000), "day {day}");
        }
    }

    #[test]
    fn a_network_is_served_whenever_it_comes_for_the_first_time() {
        for day in 0..200_u64 {
            let mut limiter = AnswerLimiter::new((1, 2));
            assert!(
                limiter.take(Kind::Challenge, [192, 0, 2, 1].into(), day * 86_400_000_000_000),
                "day {day}"
            );
        }
    }
}
