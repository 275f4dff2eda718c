//! Frames from the encoder through layer switch, packets and a bad network to the decoder.

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::Dice;
use snug_media_proto::assemble::{AssembledFrame, FrameAssembler, VideoPacket};
use snug_media_proto::layer::{EncodedFrame, Layer};
use snug_media_proto::nack::NackGenerator;
use snug_media_proto::packetize::SlicedFrame;
use snug_media_proto::switch::{LayerSwitch, Target};
use snug_media_proto::vp8::Descriptor;

const MS: Duration = Duration::from_millis(1);
const HIGH: Target = Target { layer: Layer::High, temporal: 1 };

/// A frame that says in its data which one it is: kind, layer, number.
fn frame(layer: Layer, number: u32, key: bool, bytes: usize) -> EncodedFrame {
    let temporal = if key { 0 } else { (number % 2) as u8 };
    let mut data = vec![0u8; bytes.max(16)];
    data[0] = u8::from(!key);
    data[3..6].copy_from_slice(&[0x9d, 0x01, 0x2a]);
    data[6..8].copy_from_slice(&(layer.size().0 as u16).to_le_bytes());
    data[8..10].copy_from_slice(&(layer.size().1 as u16).to_le_bytes());
    data[10..14].copy_from_slice(&number.to_be_bytes());
    EncodedFrame {
        layer,
        temporal,
        sync: temporal == 1 && number % 4 == 1,
        key,
        timestamp: number.wrapping_mul(3_000),
        data: data.into(),
    }
}

fn number(frame: &AssembledFrame) -> u32 {
    u32::from_be_bytes(frame.data[10..14].try_into().expect("four bytes"))
}

/// The sending side of a link.
struct Sender {
    switch: LayerSwitch,
    sequence: u16,
    sent: BTreeMap<u16, VideoPacket>,
}

impl Sender {
    fn new(sequence: u16) -> Self {
        let mut switch = LayerSwitch::new(0xffff_ffff_ffff_f000);
        switch.set_target(Some(HIGH));
        Self { switch, sequence, sent: BTreeMap::new() }
    }

    fn send(&mut self, frame: &EncodedFrame) -> Vec<VideoPacket> {
        let Some(forwarded) = self.switch.select(frame) else { return Vec::new() };
        let payloads = SlicedFrame::new(&frame.data).payloads(forwarded.descriptor);
        let packets: Vec<_> = payloads
            .into_iter()
            .map(|outgoing| {
                self.sequence = self.sequence.wrapping_add(1);
                VideoPacket {
                    sequence: self.sequence,
                    timestamp: forwarded.timestamp,
                    marker: outgoing.marker,
                    payload: outgoing.payload,
                }
            })
            .collect();
        self.sent.extend(packets.iter().map(|packet| (packet.sequence, packet.clone())));
        packets
    }
}

fn drain(assembler: &mut FrameAssembler, now: Instant) -> Vec<AssembledFrame> {
    std::iter::from_fn(|| assembler.next_frame(now)).collect()
}

/// Sends 30 frames a second over a path with loss, reordering and duplicates; NACK repairs. Returns what came.
fn call(seed: u64, loss: f64, frames: u32) -> (Vec<AssembledFrame>, NackGenerator, FrameAssembler) {
    eprintln!("seed {seed}");
    let mut dice = Dice(seed);
    let (mut sender, mut assembler, mut nack) =
        (Sender::new(65_000), FrameAssembler::default(), NackGenerator::default());
    let rtt = 100 * MS;
    assembler.set_rtt(rtt);
    nack.set_rtt(rtt);
    let mut now = common::start();
    let mut flight: BTreeMap<(Instant, u64), VideoPacket> = BTreeMap::new();
    let mut requests: VecDeque<(Instant, Vec<u16>)> = VecDeque::new();
    let (mut order, mut received) = (0, Vec::new());
    for tick in 0..frames * 33 + 2_000 {
        now += MS;
        let mut leaving = Vec::new();
        if tick % 33 == 0 && tick / 33 < frames {
            let number = tick / 33;
            leaving = sender.send(&frame(Layer::High, number, number == 0, 200 + dice.below(9_000) as usize));
        }
        while requests.front().is_some_and(|(at, _)| *at <= now) {
            let (_, list) = requests.pop_front().expect("just seen");
            leaving.extend(list.iter().filter_map(|sequence| sender.sent.get(sequence).cloned()));
        }
        for packet in leaving {
            // The first frame always comes: nobody can ask for what came before the first packet.
            if tick > 0 && dice.chance(loss) {
                continue;
            }
            order += 1;
            let jitter = if tick == 0 { 0 } else { dice.below(6) as u32 };
            flight.insert((now + 50 * MS + MS * jitter, order), packet.clone());
            if dice.chance(0.01) {
                flight.insert((now + 60 * MS, order + 1_000_000), packet);
            }
        }
        while flight.first_key_value().is_some_and(|((at, _), _)| *at <= now) {
            let (_, packet) = flight.pop_first().expect("just seen");
            nack.on_packet(now, packet.sequence);
            assembler.push(now, packet);
        }
        received.extend(drain(&mut assembler, now));
        let list = nack.poll(now);
        if !list.is_empty() {
            requests.push_back((now + 50 * MS, list));
        }
        assert!(!assembler.poll_key_frame_request(now), "asked for a key frame at {tick} ms");
    }
    (received, nack, assembler)
}

#[test]
fn every_frame_comes_once_and_in_order_under_loss_with_repair() {
    for (seed, loss) in [(1, 0.0), (2, 0.01), (3, 0.05)] {
        let (received, nack, assembler) = call(seed, loss, 600);
        let numbers: Vec<u32> = received.iter().map(number).collect();
        eprintln!("loss {loss}: {} frames, {:?}, {:?}", numbers.len(), nack.stats(), assembler.stats());
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "twice or out of order");
        // A frame of the upper temporal layer whose repair was lost twice may be left out.
        let missing: Vec<u32> = (0..600).filter(|number| !numbers.contains(number)).collect();
        assert!(missing.iter().all(|number| number % 2 == 1), "{missing:?}");
        assert!(missing.len() <= if loss < 0.02 { 0 } else { 12 }, "{missing:?}");
        assert_eq!(nack.stats().abandoned, 0);
    }
}

#[test]
fn a_lost_upper_frame_does_not_freeze_the_picture() {
    let mut now = common::start();
    let (mut sender, mut assembler) = (Sender::new(10), FrameAssembler::default());
    assembler.set_rtt(20 * MS);
    let mut numbers = Vec::new();
    for number_sent in 0..12 {
        now += 33 * MS;
        for packet in sender.send(&frame(Layer::High, number_sent, number_sent == 0, 900)) {
            if number_sent != 3 {
                assembler.push(now, packet);
            }
        }
        numbers.extend(drain(&mut assembler, now).iter().map(number));
        assert!(!assembler.poll_key_frame_request(now));
    }
    assert_eq!(numbers, [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn a_lost_base_frame_ends_in_one_key_frame_request_at_a_time() {
    let mut now = common::start();
    let (mut sender, mut assembler) = (Sender::new(10), FrameAssembler::default());
    assembler.set_rtt(50 * MS);
    let (mut numbers, mut requests) = (Vec::new(), Vec::new());
    let start = now;
    for tick in 0..60u32 {
        now += 33 * MS;
        for packet in sender.send(&frame(Layer::High, tick, tick == 0 || tick == 50, 900)) {
            if tick != 4 {
                assembler.push(now, packet);
            }
        }
        numbers.extend(drain(&mut assembler, now).iter().map(number));
        if assembler.poll_key_frame_request(now) {
            requests.push(now - start);
        }
    }
    assert_eq!(numbers, (0..4).chain(50..60).collect::<Vec<_>>());
    assert!((2..=4).contains(&requests.len()), "{requests:?}");
    assert!(requests.windows(2).all(|pair| pair[1] - pair[0] >= 300 * MS), "{requests:?}");
    assert_eq!(assembler.stats().freezes, 1);
}

#[test]
fn a_stream_without_descriptor_extension_is_assembled() {
    let now = common::start();
    let mut assembler = FrameAssembler::default();
    let mut numbers = Vec::new();
    let mut sequence = u16::MAX - 3;
    for number_sent in 0..5 {
        let encoded = frame(Layer::Low, number_sent, number_sent == 0, 3_000);
        for outgoing in SlicedFrame::new(&encoded.data).payloads(Descriptor::default()) {
            sequence = sequence.wrapping_add(1);
            let timestamp = u32::MAX.wrapping_add(number_sent * 3_000);
            let (marker, payload) = (outgoing.marker, outgoing.payload);
            assembler.push(now, VideoPacket { sequence, timestamp, marker, payload });
        }
        // Padding between frames takes up a number.
        sequence = sequence.wrapping_add(1);
        assembler.push(now, VideoPacket { sequence, timestamp: 0, marker: false, payload: Bytes::new() });
        numbers.extend(drain(&mut assembler, now).iter().map(number));
    }
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
}

/// A packet that says that it begins a key frame and not that it ends one.
fn beginning(sequence: u16, timestamp: u32, mark: u8, marker: bool) -> VideoPacket {
    VideoPacket { sequence, timestamp, marker, payload: Bytes::copy_from_slice(&[0x10, 0, mark]) }
}

#[test]
fn a_search_for_a_frame_ends_where_another_begins() {
    let (now, mut assembler) = (common::start(), FrameAssembler::default());
    // Each of them looks like a key frame that goes on to the end of the buffer.
    for sequence in 0..2_047 {
        assembler.push(now, beginning(sequence, 9, 1, false));
        assert!(assembler.next_frame(now).is_none());
    }
    assembler.push(now, beginning(2_047, 9, 2, true));
    let frames = drain(&mut assembler, now);
    assert_eq!(frames.iter().map(|frame| &frame.data[..]).collect::<Vec<_>>(), [&[0, 2][..]]);
    assert_eq!(assembler.stats().dropped, 2_047);
    // The same while no key frame is waited for: the broken one is given up, the next one is taken.
    assembler.push(now, beginning(2_048, 10, 3, false));
    assert!(assembler.next_frame(now).is_none());
    assembler.push(now, beginning(2_049, 10, 4, true));
    let frames = drain(&mut assembler, now);
    assert_eq!(frames.iter().map(|frame| &frame.data[..]).collect::<Vec<_>>(), [&[0, 4][..]]);
}

#[test]
fn what_waits_for_a_key_frame_in_vain_is_dropped_after_three_seconds() {
    let (start, mut assembler) = (common::start(), FrameAssembler::default());
    for sequence in 0..50 {
        assembler.push(start, beginning(sequence, 9, 1, false));
    }
    assert!(assembler.next_frame(start).is_none());
    let later = start + 3_001 * MS;
    assembler.push(later, beginning(50, 9, 2, false));
    assert!(drain(&mut assembler, later).is_empty());
    assert_eq!(assembler.stats().dropped, 50);
    assembler.push(later, VideoPacket { payload: Bytes::from_static(&[0, 7]), ..beginning(51, 9, 0, true) });
    assert_eq!(drain(&mut assembler, later)[0].data[..], [0, 2, 7]);
}

#[test]
fn a_layer_switch_is_one_unbroken_stream_for_the_receiver() {
    let mut now = common::start();
    let (mut sender, mut assembler) = (Sender::new(65_500), FrameAssembler::default());
    let mut received = Vec::new();
    for number_sent in 0..120u32 {
        now += 33 * MS;
        match number_sent {
            30 => sender.switch.set_target(Some(Target { layer: Layer::Medium, temporal: 1 })),
            60 => sender.switch.set_target(Some(Target { layer: Layer::Medium, temporal: 0 })),
            75 => sender.switch.set_target(Some(Target { layer: Layer::Medium, temporal: 1 })),
            90 => sender.switch.set_target(None),
            100 => sender.switch.set_target(Some(HIGH)),
            _ => {}
        }
        let key =
            |layer| number_sent == 0 || (layer == Layer::Medium && number_sent == 40) || number_sent == 105;
        for layer in Layer::ALL {
            for packet in sender.send(&frame(layer, number_sent, key(layer), 1_500)) {
                assembler.push(now, packet);
            }
        }
        received.extend(drain(&mut assembler, now));
        let waits = (30..40).contains(&number_sent) || (100..105).contains(&number_sent);
        assert_eq!(sender.switch.wants_key_frame().is_some(), waits, "at {number_sent}");
        assert!(!assembler.poll_key_frame_request(now));
    }
    let numbers: Vec<u32> = received.iter().map(number).collect();
    let even = (60..75).filter(|number| number % 2 == 0);
    let expected: Vec<u32> = (0..60).chain(even).chain([76]).chain(77..90).chain(105..120).collect();
    assert_eq!(numbers, expected);
    assert!(received.windows(2).all(|pair| (pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32) > 0));
    let sizes: Vec<_> = received.iter().filter(|frame| frame.key).filter_map(|frame| frame.size).collect();
    assert_eq!(sizes, [(1280, 720), (640, 360), (1280, 720)]);
    assert_eq!(assembler.stats().dropped, 0);
}

#[test]
fn a_reordered_packet_is_not_asked_for_and_a_lost_one_once_a_round_trip() {
    let mut now = common::start();
    let mut nack = NackGenerator::default();
    nack.set_rtt(60 * MS);
    for sequence in [65_534, 0, 65_535, 3] {
        nack.on_packet(now, sequence);
        now += MS;
    }
    let mut asked = Vec::new();
    for tick in 0..2_000u32 {
        now += MS;
        for sequence in nack.poll(now) {
            asked.push((tick, sequence));
        }
    }
    assert!(asked.iter().all(|(_, sequence)| [1, 2].contains(sequence)), "{asked:?}");
    assert_eq!(asked.len(), 20);
    let first: Vec<u32> =
        asked.iter().filter(|(_, sequence)| *sequence == 1).map(|(tick, _)| *tick).collect();
    assert!(first.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{first:?}");
    assert_eq!(nack.stats().abandoned, 2);
    assert!(!nack.on_packet(now, 1));
    assert_eq!(nack.stats().duplicates, 1);
}
