//! Unit tests of `src/wall_clock.rs`. They stand outside `src` because a test must start its clock somewhere, and `src` reads none.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant};

use super::WallClock;
use crate::io::Now;

fn after(start: Now, passed: u64, set_by: i64) -> Now {
    let unix = (start.unix + passed).checked_add_signed(set_by).expect("after 1970");
    Now { at: start.at + Duration::from_secs(passed), unix }
}

#[test]
fn a_clock_that_is_set_is_noticed_once_in_both_directions() {
    let start = Now { at: Instant::now(), unix: 1_795_392_000 };
    for jump in [11, 3600, 86_400 * 365, -11, -3600, -86_400 * 365] {
        let mut clock = WallClock::new();
        assert!(!clock.was_set(start));
        assert!(!clock.was_set(after(start, 100, 0)));
        assert!(clock.was_set(after(start, 102, jump)), "{jump}");
        assert!(!clock.was_set(after(start, 200, jump)), "{jump}");
        assert!(clock.was_set(after(start, 202, 0)), "and set right again");
    }
}

#[test]
fn seconds_that_are_cut_off_and_slewing_are_no_jump() {
    let start = Now { at: Instant::now(), unix: 1_795_392_000 };
    let mut clock = WallClock::new();
    for passed in 0..5000 {
        for off in [-1, 0, 1, 9, -9] {
            assert!(!clock.was_set(after(start, passed, off)));
        }
    }
}

#[test]
fn a_clock_before_1970_does_no_harm() {
    let start = Now { at: Instant::now(), unix: 0 };
    let mut clock = WallClock::new();
    assert!(!clock.was_set(start) && clock.was_set(after(start, 1, 1_795_392_000)));
    assert!(clock.was_set(Now { at: start.at + Duration::from_secs(2), unix: u64::MAX }));
    assert!(!clock.was_set(Now { at: start.at + Duration::from_secs(3), unix: u64::MAX }));
}
