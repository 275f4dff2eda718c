//! H.264 there and back. Run with `--features h264`.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![cfg(feature = "h264")]

use std::time::Instant;

use proptest::prelude::*;
use snug_video::quality::ssim;
use snug_video::sources::{PatternSource, read_stamp};
use snug_video::{CodecError, Content, EncoderSettings, H264Codecs, I420Frame, VideoCodecs, VideoEncoder};

struct Clip {
    source: PatternSource,
    encoder: Box<dyn VideoEncoder>,
}

impl Clip {
    fn new(width: u32, height: u32, bitrate: u32) -> Self {
        let settings = EncoderSettings { width, height, frame_rate: 30, bitrate, content: Content::Camera };
        let source = PatternSource::new(width, height, 30).unwrap();
        Self { source, encoder: H264Codecs.encoder(&settings).unwrap() }
    }

    fn next(&mut self, force_key: bool) -> (I420Frame, Option<snug_video::EncodedPicture>) {
        let frame = self.source.draw(Instant::now()).unwrap();
        let encoded = self.encoder.encode(&frame, 0, force_key).unwrap();
        (frame, encoded)
    }
}

#[test]
fn a_720p_picture_survives_at_1200_kilobits() {
    let mut clip = Clip::new(1280, 720, 1_200_000);
    let mut decoder = H264Codecs.decoder().unwrap();
    let (mut similarity, mut bytes, mut shown) = (0.0, 0, 0);
    for _ in 0..60 {
        let (original, Some(encoded)) = clip.next(false) else { continue };
        bytes += encoded.data.len();
        let decoded = decoder.decode(&encoded.data, Instant::now()).unwrap().expect("a frame to be shown");
        assert!(read_stamp(&decoded).is_some());
        similarity += ssim(&original, &decoded).unwrap();
        shown += 1;
    }
    let mean = similarity / f64::from(shown);
    eprintln!("SSIM {mean:.3}, {shown} of 60 pictures, {} kbit/s", bytes * 8 / 2000);
    assert!(shown >= 40 && mean >= 0.9);
}

#[test]
fn a_key_frame_comes_when_it_is_asked_for() {
    let mut clip = Clip::new(320, 180, 300_000);
    let keys: Vec<u32> =
        (0..60).filter(|number| clip.next(*number == 40).1.is_some_and(|frame| frame.key)).collect();
    assert_eq!(keys, [0, 40]);
}

#[test]
fn the_rate_changes_while_it_runs() {
    let mut clip = Clip::new(640, 360, 800_000);
    let second = |clip: &mut Clip| -> usize {
        (0..30).filter_map(|_| clip.next(false).1).map(|frame| frame.data.len() * 8).sum()
    };
    let _start = second(&mut clip);
    let before = second(&mut clip);
    clip.encoder.set_bitrate(200_000).unwrap();
    let _settling = second(&mut clip);
    let after = second(&mut clip);
    eprintln!("{before}, then {after} bit/s");
    assert!(after * 2 < before, "{before} then {after} bit/s");
}

#[test]
fn after_damage_only_a_key_frame_goes_on() {
    let mut clip = Clip::new(320, 180, 300_000);
    let mut decoder = H264Codecs.decoder().unwrap();
    let inter = loop {
        let (_, Some(encoded)) = clip.next(false) else { continue };
        if !encoded.key {
            break encoded;
        }
        decoder.decode(&encoded.data, Instant::now()).unwrap();
    };
    assert!(decoder.decode(&[0, 0, 0, 1, 0x65, 0xff, 0xff], Instant::now()).is_err());
    assert_eq!(decoder.decode(&inter.data, Instant::now()).err(), Some(CodecError::KeyFrameNeeded));
    let (_, Some(key)) = clip.next(true) else { panic!("no key frame") };
    assert!(decoder.decode(&key.data, Instant::now()).unwrap().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_break_the_decoder(change in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut clip = Clip::new(64, 64, 100_000);
        let mut decoder = H264Codecs.decoder().unwrap();
        for _ in 0..4 {
            let (_, Some(encoded)) = clip.next(false) else { continue };
            let mut data = encoded.data.to_vec();
            for (place, value) in &change {
                let place = place.index(data.len());
                data[place] ^= value;
            }
            let _ = decoder.decode(&data, Instant::now());
        }
    }
}
