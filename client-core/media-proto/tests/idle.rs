//! An estimate while next to nothing is sent.

mod common;

use std::time::Duration;

use snug_media_proto::estimate::{Estimator, EstimatorConfig, PacketReport};
use snug_media_proto::pacer::PacketKind;

/// Sound, 50 packets a second, that a machine with other things to do hands over late for a while.
#[test]
fn a_second_of_late_sound_leaves_room_for_a_picture() {
    let start = common::start();
    let config = EstimatorConfig { start_bps: 1_000_000, ..EstimatorConfig::default() };
    let mut estimator = Estimator::new(start, config);
    let mut lowest = u64::MAX;
    for id in 0..250 {
        let sent = Duration::from_millis(20 * id);
        let late = if (100..150).contains(&id) { 150 } else { 5 };
        let arrival = sent + Duration::from_millis(late);
        estimator.on_sent(id, 160, start + sent, PacketKind::Audio, None);
        let report = PacketReport { id, arrival: Some(arrival) };
        estimator.on_feedback(start + arrival + Duration::from_millis(5), &[report]);
        lowest = lowest.min(estimator.estimate_bps());
    }
    let after = estimator.estimate_bps();
    eprintln!("at least {lowest} bit/s, {after} afterwards");
    // The smallest picture takes 100 kbit/s.
    assert!(after >= 150_000, "{after}");
}
