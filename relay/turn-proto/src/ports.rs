//! Which ports of relayed transport addresses are taken, and by whom.

use std::ops::RangeInclusive;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;

/// No allocation.
const FREE: u32 = u32::MAX;
/// Random tries before the table is searched from a random place on.
const TRIES: usize = 16;

/// One family's ports.
pub(crate) struct Ports {
    first: u16,
    /// Slot of the allocation for each port of the range.
    slots: Vec<u32>,
    taken: usize,
}

impl Ports {
    pub(crate) fn new(range: &RangeInclusive<u16>) -> Self {
        let count = usize::from(range.end().saturating_sub(*range.start())) + 1;
        Self { first: *range.start(), slots: vec![FREE; count], taken: 0 }
    }

    /// Takes a free port at random, so that nobody can guess the next (RFC 8656 §7.2, RFC 6056). `None` when all are taken.
    pub(crate) fn take(&mut self, slot: u32, random: &mut ChaCha20Rng) -> Option<u16> {
        if self.taken == self.slots.len() {
            return None;
        }
        let mut index = 0;
        for _ in 0..TRIES {
            index = random.next_u64() as usize % self.slots.len();
            if self.slots[index] == FREE {
                break;
            }
        }
        // Ends: one is free.
        while self.slots[index] != FREE {
            index = (index + 1) % self.slots.len();
        }
        self.slots[index] = slot;
        self.taken += 1;
        Some(self.first + index as u16)
    }

    /// Whose port it is.
    pub(crate) fn slot(&self, port: u16) -> Option<u32> {
        let index = usize::from(port.checked_sub(self.first)?);
        self.slots.get(index).copied().filter(|slot| *slot != FREE)
    }

    pub(crate) fn left(&self) -> usize {
        self.slots.len() - self.taken
    }

    pub(crate) fn contains(&self, port: u16) -> bool {
        port.checked_sub(self.first).is_some_and(|index| usize::from(index) < self.slots.len())
    }

    pub(crate) fn free(&mut self, port: u16) {
        let place = port.checked_sub(self.first).and_then(|index| self.slots.get_mut(usize::from(index)));
        if let Some(place) = place.filter(|place| **place != FREE) {
            *place = FREE;
            self.taken -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::Ports;

    #[test]
    fn every_port_can_be_taken_once_and_given_back() {
        let mut random = ChaCha20Rng::from_seed([1; 32]);
        let mut ports = Ports::new(&(65_500..=65_535));
        let mut seen: Vec<u16> = (0..36).filter_map(|slot| ports.take(slot, &mut random)).collect();
        assert_eq!(ports.take(99, &mut random), None);
        for (slot, port) in seen.iter().enumerate() {
            assert_eq!(ports.slot(*port), Some(slot as u32));
        }
        seen.sort_unstable();
        assert_eq!(seen, (65_500..=65_535).collect::<Vec<u16>>());
        ports.free(65_510);
        ports.free(65_510);
        assert_eq!((ports.slot(65_510), ports.taken), (None, 35));
        assert_eq!(ports.take(7, &mut random), Some(65_510));
        assert!(!ports.contains(65_499) && ports.slot(0).is_none());
    }

    #[test]
    fn ports_are_spread_evenly() {
        let mut random = ChaCha20Rng::from_seed([2; 32]);
        let mut ports = Ports::new(&(10_000..=19_999));
        let mut buckets = [0_u32; 100];
        for _ in 0..50_000 {
            let port = ports.take(0, &mut random).expect("free");
            buckets[usize::from(port - 10_000) / 100] += 1;
            ports.free(port);
        }
        // 99 degrees of freedom: a chi-square above 149 has a probability of 0.1 %.
        let chi_square: f64 = buckets.iter().map(|count| (f64::from(*count) - 500.0).powi(2) / 500.0).sum();
        assert!(chi_square < 149.0, "{chi_square}");
    }
}
