//! Token buckets by key, in bounded memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::RateLimit;

/// One bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenBucket {
    tokens: f64,
    filled_at: Instant,
}

impl TokenBucket {
    pub(crate) fn full(limit: RateLimit, now: Instant) -> Self {
        Self { tokens: limit.burst, filled_at: now }
    }

    /// Takes one token, or says how long until there is one.
    pub(crate) fn take(&mut self, limit: RateLimit, now: Instant) -> Result<(), Duration> {
        self.has(1.0, limit, now)?;
        self.tokens -= 1.0;
        Ok(())
    }

    /// Whether there are `tokens`, or how long until there are.
    fn has(&mut self, tokens: f64, limit: RateLimit, now: Instant) -> Result<(), Duration> {
        self.fill(limit, now);
        if self.tokens >= tokens {
            return Ok(());
        }
        Err(Duration::try_from_secs_f64((tokens - self.tokens) / limit.per_second).unwrap_or(Duration::MAX))
    }

    fn fill(&mut self, limit: RateLimit, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + passed * limit.per_second).min(limit.burst);
        self.filled_at = now;
    }
}

/// Buckets of many keys. At most `capacity` keys are remembered; when more are active at once, the newcomers share one bucket, so
/// that a flood of addresses costs neither memory nor the limit.
#[derive(Debug)]
pub struct Buckets<K> {
    limit: RateLimit,
    capacity: usize,
    buckets: BTreeMap<K, TokenBucket>,
    overflow: Option<TokenBucket>,
}

impl<K: Ord> Buckets<K> {
    /// Buckets that are full at first.
    pub fn new(limit: RateLimit, capacity: usize) -> Self {
        Self { limit, capacity, buckets: BTreeMap::new(), overflow: None }
    }

    /// Takes one of `key`'s tokens.
    ///
    /// # Errors
    /// The time until there is one.
    pub fn take(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        let limit = self.limit;
        self.bucket(key, now).take(limit, now)
    }

    /// Whether `key` has a token beyond `reserve` of them. Takes none, and remembers no key that took none so far.
    ///
    /// # Errors
    /// The time until it has.
    pub(crate) fn check(&mut self, key: &K, reserve: f64, now: Instant) -> Result<(), Duration> {
        let limit = self.limit;
        if let Some(bucket) = self.buckets.get_mut(key) {
            return bucket.has(reserve + 1.0, limit, now);
        }
        match &mut self.overflow {
            Some(overflow) if self.buckets.len() >= self.capacity => overflow.has(reserve + 1.0, limit, now),
            _ => Ok(()),
        }
    }

    fn bucket(&mut self, key: K, now: Instant) -> &mut TokenBucket {
        let limit = self.limit;
        if self.buckets.len() >= self.capacity && !self.buckets.contains_key(&key) {
            self.buckets.retain(|_, bucket| {
                bucket.fill(limit, now);
                bucket.tokens < limit.burst
            });
        }
        if self.buckets.len() < self.capacity || self.buckets.contains_key(&key) {
            self.buckets.entry(key).or_insert_with(|| TokenBucket::full(limit, now))
        } else {
            self.overflow.get_or_insert_with(|| TokenBucket::full(limit, now))
        }
    }
}

#[cfg(test)]
#[path = "../tests/unit/token_bucket.rs"]
mod tests;
