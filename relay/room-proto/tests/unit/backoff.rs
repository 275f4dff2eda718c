//! Unit tests of `src/backoff.rs`. They stand outside `src` because a test must start its clock somewhere, and `src` reads none.
#![allow(clippy::disallowed_methods)]

use super::*;

#[test]
fn waits_double_up_to_the_cap_and_are_forgotten() {
    let start = Instant::now();
    let mut backoff = Backoff::new(BackoffConfig { free: 2, cap: Duration::from_secs(5) });
    let mut waits = Vec::new();
    for _ in 0..6 {
        backoff.failed("a", start);
        waits.push(backoff.check(&"a", start).err().map_or(0, |wait| wait.as_secs()));
    }
    assert_eq!(waits, [0, 0, 1, 2, 4, 5]);
    assert_eq!(backoff.check(&"b", start), Ok(()));
    assert_eq!(backoff.check(&"a", start + Duration::from_secs(5)), Ok(()));
    let later = start + FORGET + Duration::from_secs(1);
    backoff.failed("a", later);
    assert_eq!(backoff.check(&"a", later), Ok(()));
}

#[test]
fn memory_is_bounded() {
    let start = Instant::now();
    let mut backoff = Backoff::new(BackoffConfig { free: 0, cap: Duration::from_secs(5) });
    for key in 0..CAPACITY + 50 {
        backoff.failed(key, start + Duration::from_millis(key as u64));
    }
    assert_eq!(backoff.entries.len(), CAPACITY);
}
