//! The pacer's order and limits, lip sync, reception reports and the shared uplink.

mod common;

use std::time::Duration;

use snug_media_proto::estimate::ProbeCluster;
use snug_media_proto::pacer::{Pacer, PacerEvent, PacketKind};
use snug_media_proto::section::Section;
use snug_media_proto::stats::ReceptionStats;
use snug_media_proto::sync::LipSync;
use snug_media_proto::uplink::{JointUplink, LinkSample};

const MS: Duration = Duration::from_millis(1);

fn video(start: bool, key: bool) -> PacketKind {
    PacketKind::Video { section: Section::Camera, start, key }
}

#[test]
fn sound_leaves_first_then_repairs_then_pictures() {
    let now = common::start();
    let mut pacer = Pacer::new(1_000_000);
    let kinds = [PacketKind::Probe, video(true, true), PacketKind::Retransmission, PacketKind::Audio];
    for (name, kind) in ["probe", "video", "repair", "audio"].into_iter().zip(kinds) {
        assert!(pacer.enqueue(name, kind, 1_000, now));
    }
    let order: Vec<_> =
        (0..100).filter_map(|tick| pacer.poll(now + MS * tick)).map(|out| out.packet).collect();
    assert_eq!(order, ["audio", "repair", "video", "probe"]);
}

#[test]
fn sound_never_waits_behind_a_key_frame() {
    let mut now = common::start();
    let mut pacer = Pacer::new(300_000);
    for index in 0..20 {
        pacer.enqueue(1, video(index == 0, true), 1_200, now);
    }
    let mut left = Vec::new();
    for tick in 0..600 {
        now += MS;
        if tick % 20 == 0 {
            pacer.enqueue(0, PacketKind::Audio, 100, now);
            assert_eq!(pacer.poll(now).expect("sound").packet, 0);
        }
        left.extend(pacer.poll(now).map(|_| tick));
    }
    assert_eq!(left.len(), 20);
    // 24 kB at twice 300 kbit/s, less the sound's part of it.
    assert!((300..450).contains(left.last().expect("twenty")), "{left:?}");
}

#[test]
fn too_much_video_is_left_out_by_whole_frames_up_to_a_key_frame() {
    let mut now = common::start();
    let mut pacer = Pacer::new(100_000);
    let (mut sent, mut events, mut key_next) = (Vec::new(), Vec::new(), false);
    for tick in 0..6_000u32 {
        now += MS;
        if tick % 33 == 0 {
            let number = tick / 33;
            let key = number == 0 || std::mem::take(&mut key_next);
            for index in 0..3 {
                pacer.enqueue((number, index, key), video(index == 0, key), 1_000, now);
            }
        }
        sent.extend(std::iter::from_fn(|| pacer.poll(now)).map(|out| out.packet));
        while let Some(event) = pacer.poll_event() {
            key_next |= matches!(event, PacerEvent::KeyFrameWanted(_));
            events.push(event);
        }
        assert!(pacer.video_delay() < 700 * MS);
    }
    assert!(sent.windows(2).all(|pair| pair[0].1 == 2 || pair[0].0 == pair[1].0), "a frame was cut");
    let gaps = sent.windows(2).filter(|pair| pair[1].0 > pair[0].0 + 1);
    assert!(gaps.clone().count() > 1);
    assert!(gaps.clone().all(|pair| pair[1].2), "went on without a key frame");
    assert_eq!(events[0], PacerEvent::Dropping(Section::Camera));
    assert_eq!(events[1], PacerEvent::KeyFrameWanted(Section::Camera));
}

#[test]
fn a_probe_is_filled_with_padding_at_its_rate() {
    let mut now = common::start();
    let mut pacer = Pacer::new(300_000);
    pacer.start_probe(ProbeCluster { id: 9, rate_bps: 2_400_000, min_packets: 5, min_bytes: 6_000 }, now);
    let mut at = Vec::new();
    for tick in 0..100u32 {
        now += MS;
        if pacer.padding_wanted(now) {
            pacer.enqueue((), PacketKind::Probe, 1_200, now);
        }
        at.extend(pacer.poll(now).map(|out| (tick, out.probe)));
    }
    // 1,200 bytes at 2.4 Mbit/s are 4 ms.
    assert_eq!(at, [0, 4, 8, 12, 16].map(|tick| (tick, Some(9))));
}

#[test]
fn a_picture_that_comes_before_its_sound_is_held_back() {
    let base = common::start();
    let mut sync = LipSync::new(base, 48_000, 90_000);
    let ntp = |ms: u64| (ms << 32) / 1_000;
    sync.on_audio_report(ntp(5_000), 1_000);
    sync.on_video_report(ntp(5_000), u32::MAX - 500);
    let mut delays = sync.update();
    for step in 0..400u32 {
        let captured = 20 * step;
        // Sound takes 250 ms from capture to ear, pictures 60 ms to eye and what is added.
        sync.on_audio_played(base + MS * (captured + 250), 1_000 + captured * 48);
        let seen = base + MS * (captured + 60) + delays.video;
        sync.on_video_shown(seen, (u32::MAX - 500).wrapping_add(captured * 90));
        if step % 50 == 49 {
            delays = sync.update();
        }
    }
    let skew = sync.skew().expect("both streams");
    assert!((-0.020..=0.060).contains(&skew), "{skew}");
    assert_eq!(delays.audio, Duration::ZERO);
    assert!((120 * MS..200 * MS).contains(&delays.video), "{delays:?}");
}

#[test]
fn a_report_counts_loss_of_its_interval_and_of_the_whole() {
    let mut now = common::start();
    let mut stats = ReceptionStats::new(48_000);
    for index in 0..100u32 {
        now += 20 * MS;
        if index % 4 != 1 {
            stats.on_packet(now, (65_500 + index) as u16, index * 960);
        }
    }
    let report = stats.report();
    assert_eq!((report.fraction_lost, report.cumulative_lost), (64, 25));
    assert_eq!(report.highest_sequence, 65_500 + 99);
    assert!(report.jitter < 2, "{report:?}");
    assert_eq!(stats.report().fraction_lost, 0);
}

#[test]
fn one_slow_link_is_not_taken_for_a_full_uplink() {
    let mut now = common::start();
    let mut joint = JointUplink::default();
    let link = |acked_bps, queue| LinkSample { estimate: 1_000_000, acked_bps, queue_delay: MS * queue };
    for _ in 0..50 {
        now += 100 * MS;
        assert_eq!(joint.update(now, &[link(500_000, 200), link(500_000, 0), link(500_000, 0)]), None);
    }
    now += 100 * MS;
    let all = [link(500_000, 60), link(500_000, 60), link(500_000, 0)];
    assert_eq!(joint.update(now, &all), Some(1_350_000));
}
