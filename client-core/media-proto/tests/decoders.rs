//! Decoders: what was written is read back, and no bytes make them panic.

mod common;

use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use snug_media_proto::assemble::{FrameAssembler, VideoPacket};
use snug_media_proto::packetize::{MAX_PAYLOAD, SlicedFrame};
use snug_media_proto::red::{RedPayload, RedWriter};
use snug_media_proto::rtx::RtxMapping;
use snug_media_proto::stats;
use snug_media_proto::vp8::{self, Descriptor, PictureId, Temporal};

fn descriptors() -> impl Strategy<Value = Descriptor> {
    let picture_id = prop_oneof![
        Just(None),
        (0u8..0x80).prop_map(|value| Some(PictureId::Short(value))),
        (0u16..0x8000).prop_map(|value| Some(PictureId::Long(value))),
    ];
    let temporal = proptest::option::of((0u8..4, any::<bool>()).prop_map(|(id, sync)| Temporal { id, sync }));
    (any::<(bool, bool)>(), 0u8..8, picture_id, any::<Option<u8>>(), temporal, proptest::option::of(0u8..32))
        .prop_map(|((non_reference, start), partition, picture_id, tl0_pic_idx, temporal, key_index)| {
            Descriptor { non_reference, start, partition, picture_id, tl0_pic_idx, temporal, key_index }
        })
}

proptest! {
    #[test]
    fn a_descriptor_is_read_as_it_was_written(descriptor in descriptors(), data in vec(any::<u8>(), 0..20)) {
        let mut payload = Vec::new();
        descriptor.write(&mut payload);
        let length = payload.len();
        prop_assert!(length <= Descriptor::MAX_LEN);
        payload.extend(data);
        prop_assert_eq!(Descriptor::parse(&payload), Ok((descriptor, length)));
        for cut in 0..length {
            prop_assert!(Descriptor::parse(&payload[..cut]).is_err());
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..200), a: u32, b: u32, c: u32) {
        let payload = Bytes::from(bytes);
        let _ = Descriptor::parse(&payload);
        let _ = vp8::key_frame_size(&payload);
        let _ = RedPayload::parse(&payload, a);
        let mapping = RtxMapping { media_ssrc: 1, payload_types: (0..=255).map(|pt| (pt, pt)).collect() };
        let _ = mapping.unwrap(97, &payload);
        let _ = stats::round_trip(a, b, c);
    }

    #[test]
    fn no_packets_make_the_assembler_panic_or_grow(
        packets in vec((any::<u16>(), 0u32..4, any::<bool>(), vec(any::<u8>(), 0..12)), 0..300),
    ) {
        let mut now = common::start();
        let mut assembler = FrameAssembler::default();
        for (sequence, timestamp, marker, payload) in packets {
            now += Duration::from_millis(7);
            assembler.push(now, VideoPacket { sequence, timestamp, marker, payload: payload.into() });
            while assembler.next_frame(now).is_some() {}
            assembler.poll_key_frame_request(now);
        }
    }

    #[test]
    fn a_frame_is_cut_into_even_payloads_that_make_it_up_again(length in 1usize..40_000, descriptor in descriptors()) {
        let data = Bytes::from((0..length).map(|index| index as u8).collect::<Vec<_>>());
        let payloads = SlicedFrame::new(&data).payloads(descriptor);
        let mut whole = Vec::new();
        let mut sizes = Vec::new();
        for (index, outgoing) in payloads.iter().enumerate() {
            prop_assert!(outgoing.payload.len() <= MAX_PAYLOAD);
            prop_assert_eq!(outgoing.marker, index + 1 == payloads.len());
            let (read, at) = Descriptor::parse(&outgoing.payload).expect("own descriptor");
            prop_assert_eq!(read.begins_picture(), index == 0);
            prop_assert_eq!(read.picture_id, descriptor.picture_id);
            whole.extend_from_slice(&outgoing.payload[at..]);
            sizes.push(outgoing.payload.len() - at);
        }
        prop_assert_eq!(&whole[..], &data[..]);
        prop_assert!(sizes.iter().all(|size| sizes[0].abs_diff(*size) <= 1));
    }

    #[test]
    fn red_repeats_the_frames_before(
        frames in vec(vec(any::<u8>(), 1..300), 1..12), copies in 0usize..4, first: u32,
    ) {
        let mut writer = RedWriter::default();
        writer.set_copies(copies);
        let frames: Vec<Bytes> = frames.into_iter().map(Bytes::from).collect();
        let time = |index: usize| first.wrapping_add(index as u32 * 960);
        for (index, frame) in frames.iter().enumerate() {
            let payload = writer.write(111, time(index), frame);
            let read = RedPayload::parse(&payload, time(index)).expect("own payload");
            prop_assert_eq!(&read.primary.data, frame);
            prop_assert_eq!(read.primary.payload_type, 111);
            prop_assert_eq!(read.redundant.len(), copies.min(2).min(index));
            for (back, block) in read.redundant.iter().rev().enumerate() {
                prop_assert_eq!(&block.data, &frames[index - 1 - back]);
                prop_assert_eq!(block.timestamp, time(index - 1 - back));
            }
        }
    }
}

#[test]
fn red_of_chromium_with_an_empty_redundant_block_is_read() {
    // One block header (type 111, offset 960, length 0), then the primary header and three bytes of Opus.
    let payload = Bytes::from_static(&[0xef, 0x0f, 0x00, 0x00, 0x6f, 1, 2, 3]);
    let read = RedPayload::parse(&payload, 5_000).expect("valid");
    assert_eq!((&read.primary.data[..], read.redundant.len()), (&[1u8, 2, 3][..], 0));
}

#[test]
fn red_does_not_reach_back_over_a_silence() {
    let mut writer = RedWriter::default();
    writer.set_copies(2);
    writer.write(111, 0, &Bytes::from_static(b"before"));
    let payload = writer.write(111, 48_000, &Bytes::from_static(b"after"));
    assert!(RedPayload::parse(&payload, 48_000).expect("valid").redundant.is_empty());
}

#[test]
fn rtx_gives_the_original_packet_and_ignores_padding() {
    let mapping = RtxMapping { media_ssrc: 7, payload_types: [(97, 96)].into() };
    let original = mapping.unwrap(97, &Bytes::from_static(&[0x12, 0x34, 9])).expect("a packet");
    assert_eq!((original.ssrc, original.payload_type, original.sequence), (7, 96, 0x1234));
    assert_eq!(&original.payload[..], &[9]);
    assert!(mapping.unwrap(97, &Bytes::new()).is_none());
    assert!(mapping.unwrap(98, &Bytes::from_static(&[0, 0, 0])).is_none());
}

#[test]
fn the_round_trip_is_what_the_far_side_did_not_hold() {
    let second = 1 << 16;
    assert_eq!(stats::round_trip(10 * second, 9 * second, second / 2), Some(Duration::from_millis(500)));
    assert_eq!(stats::round_trip(10 * second, 0, 0), None);
    assert_eq!(stats::round_trip(10 * second, 9 * second, 2 * second), None);
}
