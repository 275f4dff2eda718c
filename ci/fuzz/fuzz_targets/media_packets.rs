//! Arbitrary bytes as what a network brings: VP8 descriptors, RED, RTX, and runs of packets for the assembler and the list of what is
//! missing. Whatever comes: no panic, nothing kept without bound, and what was written is read back as it was.
#![no_main]

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use snug_media_proto::assemble::{FrameAssembler, VideoPacket};
use snug_media_proto::nack::NackGenerator;
use snug_media_proto::red::{RedPayload, RedWriter};
use snug_media_proto::rtx::RtxMapping;
use snug_media_proto::vp8::{Descriptor, is_key_frame, key_frame_size};

#[derive(Arbitrary, Debug)]
struct Packet {
    /// From the number before: mostly one, to be a stream.
    step: u8,
    new_frame: bool,
    marker: bool,
    /// A descriptor that fits, or the bytes as they are.
    shaped: Option<Shape>,
    bytes: Vec<u8>,
    waits: u8,
}

#[derive(Arbitrary, Debug)]
struct Shape {
    start: bool,
    key: bool,
    temporal: u8,
}

#[derive(Arbitrary, Debug)]
struct Frame {
    timestamp: u32,
    copies: u8,
    bytes: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
struct Run {
    payload: Vec<u8>,
    timestamp: u32,
    packets: Vec<Packet>,
    frames: Vec<Frame>,
}

fuzz_target!(|run: Run| {
    let Run { payload, timestamp, packets, frames } = run;
    parse(&payload, timestamp);
    stream(packets);
    repeat(frames);
});

fn parse(payload: &[u8], timestamp: u32) {
    if let Ok((descriptor, length)) = Descriptor::parse(payload) {
        assert!(length <= payload.len());
        let mut written = Vec::new();
        descriptor.write(&mut written);
        let (again, _) =
            Descriptor::parse(&[&written[..], &[0]].concat()).expect("what was written can be read");
        assert_eq!(again, descriptor);
    }
    is_key_frame(payload);
    key_frame_size(payload);
    let bytes = Bytes::copy_from_slice(payload);
    if let Ok(red) = RedPayload::parse(&bytes, timestamp) {
        let inside: usize = red.redundant.iter().map(|block| block.data.len()).sum();
        assert!(inside + red.primary.data.len() < payload.len().max(1));
    }
    let mapping = RtxMapping { media_ssrc: 1, payload_types: BTreeMap::from([(97, 96)]) };
    if let Some(original) = mapping.unwrap(97, &bytes) {
        assert_eq!(original.payload.len() + 2, payload.len());
    }
}

fn stream(packets: Vec<Packet>) {
    // One start for all runs, so that a failing input fails again.
    static START: OnceLock<Instant> = OnceLock::new();
    let mut now = *START.get_or_init(Instant::now);
    let (mut assembler, mut nack) = (FrameAssembler::default(), NackGenerator::default());
    let (mut sequence, mut timestamp) = (65_000_u16, 0_u32);
    for packet in packets {
        now += Duration::from_millis(u64::from(packet.waits));
        sequence = sequence.wrapping_add(match packet.step {
            step @ 0..=9 => u16::from(step),
            step @ 10..=19 => u16::from(step).wrapping_sub(20),
            255 => 30_000,
            _ => 1,
        });
        if packet.new_frame {
            timestamp = timestamp.wrapping_add(3000);
        }
        let mut payload = Vec::new();
        if let Some(Shape { start, key, temporal }) = packet.shaped {
            // X and T bits with a TID, and the first byte of a frame's header.
            payload.extend([0x80 | if start { 0x10 } else { 0 }, 0x20, (temporal & 3) << 6 | 0x20]);
            payload.push(u8::from(!key));
        }
        payload.extend(packet.bytes);
        nack.on_packet(now, sequence);
        let asked = nack.poll(now);
        assert!(asked.len() <= 1000, "a list that no feedback can carry");
        let payload = Bytes::from(payload);
        assembler.push(now, VideoPacket { sequence, timestamp, marker: packet.marker, payload });
        while let Some(frame) = assembler.next_frame(now) {
            assert!(!frame.data.is_empty());
        }
        assembler.poll_key_frame_request(now);
        assert!(assembler.poll_timeout(now).is_none_or(|at| at < now + Duration::from_secs(60)));
    }
}

fn repeat(frames: Vec<Frame>) {
    let mut writer = RedWriter::default();
    for Frame { timestamp, copies, bytes } in frames {
        writer.set_copies(usize::from(copies));
        let frame = Bytes::from(bytes);
        let payload = writer.write(111, timestamp, &frame);
        let red = RedPayload::parse(&payload, timestamp).expect("what was written can be read");
        assert_eq!((red.primary.data, red.primary.payload_type), (frame, 111));
        assert!(red.redundant.len() <= snug_media_proto::red::MAX_COPIES);
    }
}
