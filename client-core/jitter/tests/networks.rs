//! Whole ways from a speaker to a listener, with real Opus, over seeded networks.
#![expect(clippy::disallowed_methods, reason = "virtual time needs one instant to begin with")]

mod common;

use common::{Net, call, purity, speech, steepest, tone};

#[test]
fn a_perfect_network_loses_and_delays_nothing() {
    let heard = call(&tone(6), &Net::perfect());
    let stats = heard.buffer.stats();
    assert_eq!((stats.concealed, stats.lost, stats.late, stats.discarded), (0, 0, 0, 0), "{stats:?}");
    let (delay, target) = heard.delays[590];
    assert!(delay <= 35.0 && (target - 20.0).abs() < 1.0, "delay {delay} ms, target {target} ms");
    for second in heard.sound[48_000..288_000].as_chunks::<4_800>().0 {
        assert!(purity(second, 440.0) > 0.95, "{}", purity(second, 440.0));
    }
}

#[test]
fn fifty_milliseconds_of_jitter_are_taken_up() {
    let heard = call(&speech(12), &Net { jitter_ms: 50.0, ..Net::perfect() });
    let stats = heard.buffer.stats();
    assert!(stats.concealed < 12 * 48_000 * 4 / 100, "{stats:?}");
    let (delay, target) = heard.delays[1_150];
    assert!(
        (45.0..85.0).contains(&delay) && (45.0..75.0).contains(&target),
        "delay {delay} ms, target {target} ms"
    );
}

#[test]
fn repair_data_stand_in_for_lost_packets() {
    let heard = call(&speech(12), &Net { jitter_ms: 20.0, loss: 0.05, fec_percent: 20, ..Net::perfect() });
    let stats = heard.buffer.stats();
    // The encoder repeats only what is loud; this voice is silent most of the time.
    assert!(stats.fec >= 5 && stats.fec + stats.lost >= 15, "{stats:?}");
}

#[test]
fn two_copies_carry_through_a_fifth_lost() {
    let heard = call(&speech(20), &Net { jitter_ms: 20.0, loss: 0.2, copies: 2, ..Net::perfect() });
    let stats = heard.buffer.stats();
    assert!(stats.red > 120, "{stats:?}");
    assert!(stats.lost < 25, "{stats:?}");
}

#[test]
fn clocks_that_drift_either_way_are_followed() {
    for drift_ppm in [-200.0, 200.0] {
        let heard = call(&speech(60), &Net { drift_ppm, ..Net::perfect() });
        let stats = heard.buffer.stats();
        assert_eq!((stats.lost, stats.discarded), (0, 0), "{drift_ppm} ppm: {stats:?}");
        let worst = heard.delays[500..].iter().map(|(delay, _)| *delay).fold(0.0, f64::max);
        assert!(worst < 50.0, "{drift_ppm} ppm: {worst} ms");
    }
}

#[test]
fn loss_and_jitter_make_no_clicks() {
    let sound = tone(10);
    let plain = steepest(&sound);
    let heard = call(&sound, &Net { jitter_ms: 40.0, loss: 0.1, copies: 1, ..Net::perfect() });
    assert!(steepest(&heard.sound) < plain * 4.0, "{} against {plain}", steepest(&heard.sound));
}

#[test]
fn pauses_of_the_speaker_are_no_losses() {
    let mut sound = speech(4);
    sound.extend(std::iter::repeat_n(0.0, 4 * 48_000));
    sound.extend(speech(4));
    let heard = call(&sound, &Net { dtx: true, jitter_ms: 10.0, ..Net::perfect() });
    let stats = heard.buffer.stats();
    assert!(stats.comfort > 48_000, "{stats:?}");
    assert!(stats.lost <= 2 && stats.concealed < 9_600, "{stats:?}");
}
