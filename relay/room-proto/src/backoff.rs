//! Exponential back-off after wrong passwords, in bounded memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After `free` failures each further one doubles the wait, from one second to `cap`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackoffConfig {
    pub(crate) free: u32,
    pub(crate) cap: Duration,
}

/// A key is forgotten after this long without a failure.
const FORGET: Duration = Duration::from_secs(900);
/// Most keys; past that the key that failed longest ago is forgotten.
const CAPACITY: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Entry {
    failures: u32,
    last: Instant,
    until: Instant,
}

#[derive(Debug)]
pub(crate) struct Backoff<K> {
    config: BackoffConfig,
    entries: BTreeMap<K, Entry>,
}

impl<K: Ord + Clone> Backoff<K> {
    pub(crate) fn new(config: BackoffConfig) -> Self {
        Self { config, entries: BTreeMap::new() }
    }

    /// Whether `key` may try, else how long it must wait.
    pub(crate) fn check(&self, key: &K, now: Instant) -> Result<(), Duration> {
        match self.entries.get(key) {
            Some(entry) if entry.until > now => Err(entry.until - now),
            _ => Ok(()),
        }
    }

    /// Whether `key` failed lately.
    pub(crate) fn has_failed(&self, key: &K, now: Instant) -> bool {
        self.entries.get(key).is_some_and(|entry| now.saturating_duration_since(entry.last) <= FORGET)
    }

    /// Forgets the failures of `key`.
    pub(crate) fn forgive(&mut self, key: &K) {
        self.entries.remove(key);
    }

    pub(crate) fn failed(&mut self, key: K, now: Instant) {
        if self.entries.len() >= CAPACITY && !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        let entry = self.entries.entry(key).or_insert(Entry { failures: 0, last: now, until: now });
        if now.saturating_duration_since(entry.last) > FORGET {
            entry.failures = 0;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
        if entry.failures > self.config.free {
            let doublings = (entry.failures - self.config.free - 1).min(20);
            entry.until = now + Duration::from_secs(1 << doublings).min(self.config.cap);
        }
    }

    fn make_room(&mut self, now: Instant) {
        self.entries.retain(|_, entry| now.saturating_duration_since(entry.last) <= FORGET);
        if self.entries.len() >= CAPACITY {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.last).map(|(key, _)| key.clone());
            if let Some(key) = oldest {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
#[path = "../tests/unit/backoff.rs"]
mod tests;
