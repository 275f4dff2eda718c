//! Unit tests of `src/token_bucket.rs`. They stand outside `src` because a test must start its clock somewhere, and `src` reads none.
#![allow(clippy::disallowed_methods)]

use super::*;

const LIMIT: RateLimit = RateLimit { burst: 2.0, per_second: 0.5 };

#[test]
fn a_burst_is_allowed_and_then_the_rate() {
    let start = Instant::now();
    let mut buckets = Buckets::new(LIMIT, 10);
    assert_eq!(buckets.take(1, start), Ok(()));
    assert_eq!(buckets.take(1, start), Ok(()));
    assert_eq!(buckets.take(1, start), Err(Duration::from_secs(2)));
    assert_eq!(buckets.take(2, start), Ok(()), "another key has its own");
    assert_eq!(buckets.take(1, start + Duration::from_secs(2)), Ok(()));
}

#[test]
fn a_flood_of_keys_shares_one_bucket_and_idle_keys_make_room() {
    let start = Instant::now();
    let mut buckets = Buckets::new(LIMIT, 3);
    for key in 0..3 {
        assert_eq!(buckets.take(key, start), Ok(()));
    }
    assert_eq!(buckets.take(100, start), Ok(()));
    assert_eq!(buckets.take(101, start), Ok(()));
    assert!(buckets.take(102, start).is_err(), "the shared bucket is empty");
    assert_eq!(buckets.take(103, start + Duration::from_secs(60)), Ok(()));
    assert_eq!(buckets.buckets.len(), 1, "refilled keys were forgotten");
}
