//! What leaves, in which order and with which numbers, without clock or socket.

use std::time::{Duration, Instant};

use rtc::interceptor::{Interceptor, Packet, RTPHeaderExtension, StreamInfo, TaggedPacket};
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RunLengthChunk, SymbolTypeTcc, TransportLayerCc,
};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use rtc::sansio::Protocol;
use rtc::{rtcp, rtp};
use snug_media_proto::section::Section;

use super::testing::{rtp as packet, tagged, vp8};
use super::{Departure, MID, TWCC};
use crate::event::peer_channels;
use crate::shared::{LocalStream, Shared};
use crate::stats::Flow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const MS: Duration = Duration::from_millis(1);
/// Microphone and camera; the camera's repairs have 12.
const SOUND: u32 = 1;
const CAMERA: u32 = 2;
const REPAIRS: u32 = 12;

fn info(ssrc: u32, mime: &str) -> StreamInfo {
    let mut info = vp8(ssrc, ssrc + 10);
    info.mime_type = mime.into();
    if ssrc == SOUND {
        (info.ssrc_rtx, info.payload_type_rtx) = (None, None);
    }
    info.rtp_header_extensions =
        [(TWCC, 3), (MID, 4)].map(|(uri, id)| RTPHeaderExtension { uri: uri.into(), id }).into();
    info
}

fn departure() -> (Departure, Arc<Shared>) {
    let streams =
        [1, 2, 3, 4].map(|ssrc| LocalStream { first: (100, 500), ..LocalStream::new(ssrc, ssrc + 10) });
    let shared = Shared::new(peer_channels().0, streams);
    shared.state().local.mids.insert("cam".into(), Section::Camera);
    // Sound alone: nothing is probed unless a test wants it.
    shared.useful.store(100_000, Ordering::Relaxed);
    let mut departure = Departure::new(Arc::clone(&shared));
    departure.bind_local_stream(&info(SOUND, "audio/opus"));
    departure.bind_local_stream(&info(CAMERA, "video/VP8"));
    (departure, shared)
}

/// A frame of so many packets of 1,100 bytes.
fn frame(departure: &mut Departure, now: Instant, packets: usize, key: bool) {
    for index in 0..packets {
        let mut payload = vec![0; 1_100];
        payload[0] = if index == 0 { 0x10 } else { 0 };
        payload[1] = u8::from(!key);
        let mut tagged = packet(now, CAMERA, 96, 0, &payload);
        if let Packet::Rtp(packet) = &mut tagged.message.packet {
            packet.header.marker = index + 1 == packets;
        }
        departure.handle_write(tagged).unwrap();
    }
}

fn left(departure: &mut Departure) -> Vec<rtp::Packet> {
    std::iter::from_fn(|| departure.poll_write())
        .filter_map(|tagged: TaggedPacket| match tagged.message.packet {
            Packet::Rtp(packet) => Some(packet),
            _ => None,
        })
        .collect()
}

/// Lets time pass from one timeout to the next and collects what leaves.
fn pass(departure: &mut Departure, from: Instant, time: Duration) -> Vec<rtp::Packet> {
    let mut packets = left(departure);
    let mut now = from;
    while let Some(at) = departure.poll_timeout().filter(|at| *at <= from + time) {
        now = now.max(at) + MS / 4;
        departure.handle_timeout(now).unwrap();
        packets.extend(left(departure));
    }
    packets
}

#[test]
fn sound_overtakes_a_key_frame_and_all_are_numbered_as_they_leave() {
    let (mut departure, start) = (departure().0, Instant::now());
    frame(&mut departure, start, 10, true);
    let first = left(&mut departure);
    assert!(first.len() < 5, "{} packets at once", first.len());
    departure.handle_write(packet(start, SOUND, 111, 0, &[1; 80])).unwrap();
    let sound = left(&mut departure);
    assert_eq!(sound.iter().map(|packet| packet.header.ssrc).collect::<Vec<_>>(), [SOUND]);
    let rest = pass(&mut departure, start, 300 * MS);
    let all: Vec<rtp::Packet> = first.into_iter().chain(sound).chain(rest).collect();
    let transport: Vec<u16> = all
        .iter()
        .map(|packet| u16::from_be_bytes(packet.header.get_extension(3).unwrap()[..].try_into().unwrap()))
        .collect();
    assert_eq!(transport, (0..11).collect::<Vec<u16>>());
    let numbers: Vec<u16> = all
        .iter()
        .filter(|packet| packet.header.ssrc == CAMERA)
        .map(|packet| packet.header.sequence_number)
        .collect();
    assert_eq!(numbers, (100..110).collect::<Vec<u16>>());
}

#[test]
fn the_tag_of_the_section_goes_along_until_the_other_side_reports_about_the_stream() {
    let (mut departure, start) = (departure().0, Instant::now());
    frame(&mut departure, start, 1, true);
    assert_eq!(left(&mut departure)[0].header.get_extension(4).unwrap(), &b"cam"[..]);
    let reports = vec![ReceptionReport { ssrc: CAMERA, ..Default::default() }];
    let report = ReceiverReport { ssrc: 9, reports, ..Default::default() };
    departure.handle_read(tagged(start, Packet::Rtcp(vec![Box::new(report)]))).unwrap();
    frame(&mut departure, start + 50 * MS, 1, false);
    assert_eq!(left(&mut departure)[0].header.get_extension(4), None);
}

#[test]
fn what_is_asked_for_leaves_once_in_a_round_trip_in_the_stream_of_repairs() {
    let (mut departure, start) = (departure().0, Instant::now());
    frame(&mut departure, start, 3, true);
    pass(&mut departure, start, 100 * MS);
    let ask = |departure: &mut Departure, now| {
        let nacks = vec![NackPair { packet_id: 101, lost_packets: 0b1 }];
        let nack = TransportLayerNack { sender_ssrc: 9, media_ssrc: CAMERA, nacks };
        departure.handle_read(tagged(now, Packet::Rtcp(vec![Box::new(nack)]))).unwrap();
        pass(departure, now, 50 * MS)
    };
    let repairs = ask(&mut departure, start + 200 * MS);
    let seen: Vec<(u32, u16, &[u8])> = repairs
        .iter()
        .map(|packet| (packet.header.ssrc, packet.header.sequence_number, &packet.payload[..2]))
        .collect();
    assert_eq!(seen, [(REPAIRS, 500, &[0, 101][..]), (REPAIRS, 501, &[0, 102][..])]);
    assert!(ask(&mut departure, start + 205 * MS).is_empty(), "just sent");
    assert_eq!(ask(&mut departure, start + 400 * MS).len(), 2);
}

#[test]
fn a_path_that_is_far_behind_throws_whole_frames_away_and_then_wants_a_key_frame() {
    let (mut departure, shared) = departure();
    let (start, camera) = (Instant::now(), Section::Camera.index());
    // 10 frames of 44 kB at once: two seconds at twice the first estimate.
    for index in 0..10 {
        frame(&mut departure, start, 40, index == 0);
    }
    assert_eq!(shared.state().flow[camera], Flow::Full);
    let packets = pass(&mut departure, start, 900 * MS);
    let ends = packets.iter().filter(|packet| packet.header.marker).count();
    assert_eq!(packets.len(), ends * 40 + packets.len() % 40, "frames leave whole");
    assert_eq!(shared.state().flow[camera], Flow::KeyFrameWanted);
    frame(&mut departure, start + 900 * MS, 2, false);
    assert_eq!(shared.state().flow[camera], Flow::KeyFrameWanted, "it is no key frame");
    frame(&mut departure, start + 950 * MS, 2, true);
    assert_eq!(shared.state().flow[camera], Flow::Open);
}

#[test]
fn a_probe_is_filled_with_packets_that_were_sent_and_nothing_wakes_up_where_none_is_of_use() {
    let (mut departure, shared) = departure();
    let start = Instant::now();
    frame(&mut departure, start, 2, true);
    let packets = pass(&mut departure, start, 500 * MS);
    assert!(packets.iter().all(|packet| packet.header.ssrc == CAMERA), "sound alone is no reason to probe");
    assert_eq!(departure.poll_timeout(), None);
    shared.useful.store(5_000_000, Ordering::Relaxed);
    frame(&mut departure, start + 500 * MS, 2, false);
    let packets = pass(&mut departure, start + 500 * MS, 100 * MS);
    let padding = packets.iter().filter(|packet| packet.header.ssrc == REPAIRS).count();
    assert!((2..=20).contains(&padding), "{padding} packets of padding");
}

#[test]
fn a_loss_that_is_told_fifty_times_counts_once() {
    let (mut departure, shared) = departure();
    let start = Instant::now();
    let run = RunLengthChunk {
        packet_status_symbol: SymbolTypeTcc::PacketNotReceived,
        run_length: 8_191,
        ..Default::default()
    };
    let mut sent = 0;
    // A measurement needs two feedbacks and 20 packets.
    for (at, packets) in [(start, 25), (start + 600 * MS, 5)] {
        frame(&mut departure, at, packets, true);
        sent += pass(&mut departure, at, 500 * MS).len() as u16;
        let lost = TransportLayerCc {
            base_sequence_number: sent.wrapping_sub(8_191 * 2),
            packet_status_count: 8_191 * 2,
            packet_chunks: vec![PacketStatusChunk::RunLengthChunk(run.clone()); 2],
            ..Default::default()
        };
        let told: Vec<Box<dyn rtcp::Packet>> = (0..50).map(|_| Box::new(lost.clone()) as _).collect();
        departure.handle_read(tagged(at + 550 * MS, Packet::Rtcp(told))).unwrap();
    }
    // One measurement at which all was lost, smoothed over two.
    assert_eq!(shared.state().estimate.loss, 0.5);
}
