//! Unit tests of `src/timers.rs`. They stand outside `src` because a test must start its clock somewhere, and `src` reads none.
#![allow(clippy::disallowed_methods)]

use std::time::Duration;

use super::*;

#[test]
fn a_thing_is_planned_once_for_its_earliest_time() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut timers = Timers::new();
    for seconds in [9, 5, 7, 5] {
        timers.set(at(seconds), "a");
    }
    timers.set(at(6), "b");
    timers.set(at(1), "c");
    timers.cancel(&"c");
    timers.cancel(&"never planned");
    assert_eq!((timers.len(), timers.next()), (2, Some(at(5))));
    assert_eq!(timers.take_due(at(4)), None);
    assert_eq!(timers.take_due(at(9)), Some("a"));
    assert_eq!(timers.take_due(at(9)), Some("b"));
    assert_eq!((timers.take_due(at(9)), timers.next(), timers.len()), (None, None, 0));
    timers.set(at(8), "a");
    assert_eq!(timers.next(), Some(at(8)), "it may be planned again");
}
