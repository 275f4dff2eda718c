//! Who has a key frame, and when.

mod common;

use std::time::{Duration, Instant};

use snug_media_proto::keys::KeyLimiter;

const MS: Duration = Duration::from_millis(1);

/// Lets a viewer ask with every picture and counts its key frames.
fn flood(limiter: &mut KeyLimiter<u32>, viewer: u32, start: Instant, time: Duration) -> usize {
    let pictures = time.as_millis() / 33;
    (0..pictures)
        .filter(|number| {
            let now = start + 33 * MS * u32::try_from(*number).expect("few");
            let allowed = limiter.allows(viewer, now);
            if allowed {
                limiter.on_sent(viewer, now);
            }
            allowed
        })
        .count()
}

#[test]
fn whoever_comes_has_a_key_frame_at_once_whatever_others_have_had() {
    let (mut limiter, start) = (KeyLimiter::default(), common::start());
    flood(&mut limiter, 1, start, 2_000 * MS);
    for viewer in 2..=10 {
        let now = start + 2_000 * MS + viewer * MS;
        assert!(limiter.allows(viewer, now), "{viewer}");
        limiter.on_sent(viewer, now);
    }
}

#[test]
fn a_viewer_that_asks_all_the_time_has_three_in_three_seconds() {
    let (mut limiter, start) = (KeyLimiter::default(), common::start());
    assert_eq!(flood(&mut limiter, 1, start, 2_990 * MS), 3);
    assert_eq!(flood(&mut limiter, 1, start + 3_000 * MS, 27_000 * MS), 27);
}

#[test]
fn a_request_that_crossed_its_answer_is_not_answered_again_and_a_later_one_is() {
    let (mut limiter, start) = (KeyLimiter::default(), common::start());
    limiter.on_sent(1, start);
    assert!(!limiter.allows(1, start + 150 * MS));
    assert!(limiter.allows(1, start + 200 * MS));
}

#[test]
fn a_viewer_that_takes_another_name_each_time_is_held_too() {
    let (mut limiter, start) = (KeyLimiter::default(), common::start());
    let mut had = 0;
    for picture in 0..900 {
        let now = start + 33 * MS * picture;
        if limiter.allows(picture, now) {
            limiter.on_sent(picture, now);
            had += 1;
        }
    }
    assert!((100..=121).contains(&had), "{had} in 30 s");
}

#[test]
fn viewers_that_ask_in_turn_have_six_in_three_seconds_together_and_hold_up_no_newcomer() {
    let (mut limiter, start) = (KeyLimiter::default(), common::start());
    for viewer in 0..9 {
        limiter.on_sent(viewer, start);
    }
    let mut had = Vec::new();
    for picture in 1..900 {
        let (now, viewer) = (start + 33 * MS * picture, picture % 9);
        if limiter.allows(viewer, now) {
            limiter.on_sent(viewer, now);
            had.push(now);
        }
        if picture % 90 == 0 {
            assert!(limiter.allows(picture, now), "somebody who has had none");
        }
    }
    assert!(had.windows(7).all(|few| few[6] - few[0] >= 3_000 * MS), "{} in 30 s", had.len());
    assert!((50..=60).contains(&had.len()), "{} in 30 s", had.len());
}

#[test]
fn one_key_frame_that_answers_everybody_counts_once() {
    let (mut limiter, start) = (KeyLimiter::default(), common::start());
    for number in 0..3 {
        for viewer in 0..9 {
            let now = start + 500 * MS * number;
            assert!(limiter.allows(viewer, now), "{viewer} at {number}");
        }
        (0..9).for_each(|viewer| limiter.on_sent(viewer, start + 500 * MS * number));
    }
}
