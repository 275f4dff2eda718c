//! VP8 there and back: quality, temporal layers, damage.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![cfg(feature = "vpx")]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use snug_video::quality::{psnr, ssim};
use snug_video::sources::{PatternSource, read_stamp};
use snug_video::{
    CodecError, Content, EncodedPicture, EncoderSettings, FramePool, I420Frame, VideoCodecs, VideoEncoder,
    Vp8Codecs,
};

fn settings(width: u32, height: u32, bitrate: u32) -> EncoderSettings {
    EncoderSettings { width, height, frame_rate: 30, bitrate, content: Content::Camera }
}

struct Clip {
    source: PatternSource,
    encoder: Box<dyn VideoEncoder>,
    number: u32,
}

impl Clip {
    fn new(width: u32, height: u32, bitrate: u32) -> Self {
        let source = PatternSource::new(width, height, 30).unwrap();
        Self { source, encoder: Vp8Codecs.encoder(&settings(width, height, bitrate)).unwrap(), number: 0 }
    }

    /// The next picture and what became of it.
    fn next(&mut self, force_key: bool) -> (I420Frame, Option<EncodedPicture>) {
        let frame = self.source.draw(Instant::now()).unwrap();
        // Starts just before the clock wraps.
        let timestamp = 0xffff_0000u32.wrapping_add(self.number * 3000);
        self.number += 1;
        let encoded = self.encoder.encode(&frame, timestamp, force_key).unwrap();
        (frame, encoded)
    }
}

#[test]
fn a_720p_picture_survives_at_1200_kilobits() {
    let mut clip = Clip::new(1280, 720, 1_200_000);
    let mut decoder = Vp8Codecs.decoder().unwrap();
    let (mut similarity, mut noise, mut bytes) = (Vec::new(), Vec::new(), 0);
    for number in 0..60 {
        let (original, encoded) = clip.next(false);
        let Some(encoded) = encoded else { continue };
        bytes += encoded.data.len();
        let decoded = decoder.decode(&encoded.data, Instant::now()).unwrap().expect("a frame to be shown");
        assert!(read_stamp(&decoded).is_some(), "the stamp of picture {number} is read");
        if number % 5 == 0 {
            similarity.push(ssim(&original, &decoded).unwrap());
            noise.push(psnr(&original, &decoded).unwrap());
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    eprintln!("SSIM {:.3}, PSNR {:.1} dB, {} kbit/s", mean(&similarity), mean(&noise), bytes * 8 / 2000);
    assert!(mean(&similarity) >= 0.9);
    assert!(bytes * 8 / 2 < 1_200_000 * 13 / 10, "the rate is kept: {bytes} bytes in two seconds");
}

#[test]
fn the_base_layer_decodes_without_the_upper_one() {
    let mut clip = Clip::new(640, 360, 400_000);
    let mut decoder = Vp8Codecs.decoder().unwrap();
    let (mut upper, mut base) = (0, 0);
    for _ in 0..60 {
        let (original, Some(encoded)) = clip.next(false) else { continue };
        if encoded.temporal == 1 {
            assert!(encoded.sync && !encoded.key);
            upper += 1;
            continue;
        }
        base += 1;
        let decoded = decoder.decode(&encoded.data, Instant::now()).unwrap().unwrap();
        assert!(ssim(&original, &decoded).unwrap() > 0.85, "base picture {base}");
    }
    assert!(base >= 20 && upper >= 20, "{base} base, {upper} upper");
}

#[test]
fn the_upper_layer_is_taken_up_again_from_any_frame() {
    let mut clip = Clip::new(640, 360, 400_000);
    let mut decoder = Vp8Codecs.decoder().unwrap();
    for number in 0..60 {
        let (original, Some(encoded)) = clip.next(false) else { continue };
        if encoded.temporal == 1 && number < 30 {
            continue;
        }
        let decoded = decoder.decode(&encoded.data, Instant::now()).unwrap().unwrap();
        assert!(ssim(&original, &decoded).unwrap() > 0.85, "picture {number}");
    }
}

#[test]
fn only_the_first_picture_and_those_asked_for_are_key_frames() {
    let mut clip = Clip::new(320, 180, 150_000);
    let keys: Vec<u32> =
        (0..90).filter(|number| clip.next(*number == 40).1.is_some_and(|frame| frame.key)).collect();
    assert_eq!(keys, [0, 40]);
}

#[test]
fn the_rate_changes_while_it_runs() {
    let mut clip = Clip::new(640, 360, 600_000);
    let second = |clip: &mut Clip| -> usize {
        (0..30).filter_map(|_| clip.next(false).1).map(|frame| frame.data.len() * 8).sum()
    };
    let _start = second(&mut clip);
    let before = second(&mut clip);
    clip.encoder.set_bitrate(120_000).unwrap();
    let _settling = second(&mut clip);
    let after = second(&mut clip);
    assert!(after < 180_000 && after < before, "{before} then {after} bit/s");
}

#[test]
fn the_stamp_is_read_after_180p_at_a_low_rate() {
    let mut clip = Clip::new(320, 180, 100_000);
    let mut decoder = Vp8Codecs.decoder().unwrap();
    let mut last = None;
    for _ in 0..45 {
        let (original, Some(encoded)) = clip.next(false) else { continue };
        let decoded = decoder.decode(&encoded.data, Instant::now()).unwrap().unwrap();
        assert_eq!(read_stamp(&decoded), read_stamp(&original));
        last = read_stamp(&decoded);
    }
    assert!(last.unwrap().number > 30);
}

#[test]
fn a_decoder_wants_a_key_frame_first_and_after_damage() {
    let mut clip = Clip::new(320, 180, 150_000);
    let frames: Vec<_> = (0..6).filter_map(|number| clip.next(number == 4).1).collect();
    let mut decoder = Vp8Codecs.decoder().unwrap();
    let now = Instant::now();
    assert_eq!(decoder.decode(&frames[1].data, now).unwrap_err(), CodecError::KeyFrameNeeded);
    assert!(decoder.decode(&frames[0].data, now).unwrap().is_some());
    assert!(matches!(decoder.decode(&[], now), Err(CodecError::Damaged(_))));
    assert_eq!(decoder.decode(&frames[1].data, now).unwrap_err(), CodecError::KeyFrameNeeded);
    assert!(decoder.decode(&frames[4].data, now).unwrap().is_some());
}

#[test]
fn a_key_frame_of_excessive_size_is_refused_before_it_is_decoded() {
    let mut decoder = Vp8Codecs.decoder().unwrap();
    let mut frame = vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f];
    frame.extend([0; 64]);
    assert!(matches!(decoder.decode(&frame, Instant::now()), Err(CodecError::Size(_))));
}

#[test]
fn sizes_that_no_frame_has_are_refused() {
    for (width, height) in [(0, 0), (3, 2), (2, 3), (4098, 2), (4096, 4096)] {
        assert!(Vp8Codecs.encoder(&settings(width, height, 100_000)).is_err(), "{width}x{height}");
        assert!(FramePool::default().frame(width, height, Instant::now()).is_err(), "{width}x{height}");
    }
    let mut small = Vp8Codecs.encoder(&settings(2, 2, 100_000)).unwrap();
    let frame = FramePool::default().frame(2, 2, Instant::now()).unwrap();
    assert!(small.encode(&frame, 0, false).unwrap().unwrap().key);
    let other = FramePool::default().frame(4, 2, Instant::now()).unwrap();
    assert!(small.encode(&other, 3000, false).is_err());
}

#[test]
fn timestamps_that_jump_or_stand_still_harm_nothing() {
    let mut clip = Clip::new(320, 180, 150_000);
    let frame = clip.source.draw(Instant::now()).unwrap();
    for timestamp in [0, 0, 5, 4_000_000_000, 3, u32::MAX, 90_000] {
        clip.encoder.encode(&frame, timestamp, false).unwrap();
    }
}

fn short_clip() -> Vec<Vec<u8>> {
    let mut clip = Clip::new(160, 96, 200_000);
    (0..8).filter_map(|_| clip.next(false).1).map(|frame| frame.data.to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_frames_never_crash_the_decoder(
        damage in proptest::collection::vec((0usize..8, any::<proptest::sample::Index>(), any::<u8>()), 1..40),
        cut in proptest::option::of((0usize..8, any::<proptest::sample::Index>())),
    ) {
        let mut frames = short_clip();
        for (frame, at, bits) in damage {
            let Some(frame) = frames.get_mut(frame) else { continue };
            let at = at.index(frame.len());
            frame[at] ^= bits;
        }
        if let Some((frame, at)) = cut && let Some(frame) = frames.get_mut(frame) {
            let length = at.index(frame.len());
            frame.truncate(length);
        }
        let mut decoder = Vp8Codecs.decoder().unwrap();
        let start = Instant::now();
        for (number, frame) in frames.iter().enumerate() {
            let _ = decoder.decode(frame, start + Duration::from_millis(33 * number as u64));
        }
        // Whatever came before, a whole key frame starts over.
        let whole = short_clip();
        prop_assert!(decoder.decode(&whole[0], start).unwrap().is_some());
    }

    #[test]
    fn arbitrary_bytes_never_crash_the_decoder(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        as_key in any::<bool>(),
    ) {
        let mut frame = if as_key { vec![0x10, 0x02, 0, 0x9d, 0x01, 0x2a, 64, 0, 64, 0] } else { Vec::new() };
        frame.extend(bytes);
        let mut decoder = Vp8Codecs.decoder().unwrap();
        let _ = decoder.decode(&frame, Instant::now());
        let _ = decoder.decode(&frame, Instant::now());
    }
}
