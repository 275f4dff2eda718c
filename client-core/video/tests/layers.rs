//! One encode per wanted layer, whatever asks for it.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![cfg(feature = "vpx")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use snug_media_proto::layer::{EncodedFrame, Layer};
use snug_video::sources::{PatternSource, read_stamp};
use snug_video::{LayeredEncoder, ScreenEncoder, VideoCodecs, Vp8Codecs, rtp_timestamp};

struct Camera {
    source: PatternSource,
    encoder: LayeredEncoder,
    clock: Instant,
}

impl Camera {
    fn new(width: u32, height: u32) -> Self {
        let clock = Instant::now();
        let encoder = LayeredEncoder::new(Arc::new(Vp8Codecs), clock);
        Self { source: PatternSource::new(width, height, 30).unwrap(), encoder, clock }
    }

    /// Runs for this many pictures at 30 a second.
    fn run(&mut self, pictures: u32) -> Vec<EncodedFrame> {
        let mut out = Vec::new();
        for _ in 0..pictures {
            let frame = Arc::new(self.source.draw(self.clock).unwrap());
            self.encoder.encode(&frame, &mut out).unwrap();
            self.clock += Duration::from_nanos(33_333_333);
        }
        out
    }

    fn want(&mut self, layer: Layer) {
        self.encoder.set_target(layer, Some(layer.max_bps() as u32));
    }

    fn encodes(&self) -> [u64; 3] {
        Layer::ALL.map(|layer| self.encoder.stats(layer).encodes)
    }
}

fn keys(frames: &[EncodedFrame], layer: Layer) -> usize {
    frames.iter().filter(|frame| frame.layer == layer && frame.key).count()
}

#[test]
fn each_wanted_layer_is_encoded_once_per_picture_and_the_lowest_every_second_time() {
    let mut camera = Camera::new(1280, 720);
    assert!(camera.run(1).is_empty());
    assert_eq!(camera.encodes(), [0, 0, 0]);
    for layer in Layer::ALL {
        camera.want(layer);
        // Every link that wants the layer says so; one encode serves all.
        camera.want(layer);
    }
    let frames = camera.run(30);
    assert_eq!(camera.encodes(), [15, 30, 30]);
    assert!(frames.len() > 60);
    let mut decoder = Vp8Codecs.decoder().unwrap();
    for (layer, size) in [(Layer::Low, (320, 180)), (Layer::Medium, (640, 360)), (Layer::High, (1280, 720))] {
        for frame in frames.iter().filter(|frame| frame.layer == layer) {
            let picture = decoder.decode(&frame.data, camera.clock).unwrap().unwrap();
            assert_eq!((picture.width(), picture.height()), size);
            assert!(read_stamp(&picture).is_some());
        }
    }
}

#[test]
fn an_unwanted_layer_costs_nothing_and_starts_again_with_a_key_frame() {
    let mut camera = Camera::new(640, 360);
    camera.want(Layer::Medium);
    assert_eq!(keys(&camera.run(10), Layer::Medium), 1);
    camera.encoder.set_target(Layer::Medium, None);
    assert!(camera.run(10).is_empty());
    camera.want(Layer::Medium);
    camera.encoder.request_key(Layer::Medium);
    let frames = camera.run(5);
    assert!(frames[0].key, "its encoder was still there, and whoever wants it has nothing to refer to");
    assert_eq!(keys(&frames, Layer::Medium), 1);
    camera.encoder.set_target(Layer::Medium, None);
    assert!(camera.run(90).is_empty());
    camera.want(Layer::Medium);
    assert!(camera.run(1)[0].key);
    assert_eq!(camera.encodes(), [0, 16, 0]);
}

#[test]
fn key_frames_are_made_at_once_and_those_of_one_moment_joined() {
    let mut camera = Camera::new(640, 360);
    camera.want(Layer::Medium);
    assert!(camera.run(4)[0].key);
    for _receiver in 0..9 {
        camera.encoder.request_key(Layer::Medium);
    }
    // More come with each picture of the same moment.
    let mut frames = Vec::new();
    for _ in 0..4 {
        frames.extend(camera.run(1));
        camera.encoder.request_key(Layer::Medium);
    }
    assert!(frames[0].key, "whoever comes waits for no picture");
    assert_eq!(keys(&frames, Layer::Medium), 1);
    assert_eq!(keys(&camera.run(30), Layer::Medium), 1, "the rest has one together");
}

#[test]
fn nothing_is_scaled_up() {
    for (size, top) in [
        ((1920, 1080), Layer::High),
        ((1280, 720), Layer::High),
        ((640, 480), Layer::High),
        ((640, 360), Layer::Medium),
        ((320, 240), Layer::Medium),
        ((320, 180), Layer::Low),
        ((160, 120), Layer::Low),
        ((720, 1280), Layer::High),
    ] {
        let mut camera = Camera::new(size.0, size.1);
        for layer in Layer::ALL {
            camera.want(layer);
        }
        let frames = camera.run(1);
        assert_eq!(camera.encoder.top_layer(), Some(top), "{size:?}");
        assert_eq!(frames.len(), top as usize + 1, "{size:?}");
        let mut decoder = Vp8Codecs.decoder().unwrap();
        for frame in frames {
            let picture = decoder.decode(&frame.data, camera.clock).unwrap().unwrap();
            let (long, short) = frame.layer.size();
            let sides = (picture.width().max(picture.height()), picture.width().min(picture.height()));
            assert!(sides.0 <= long && sides.1 <= short, "{size:?} as {:?}: {sides:?}", frame.layer);
            let shape = |(width, height): (u32, u32)| f64::from(width) / f64::from(height);
            assert!((shape((picture.width(), picture.height())) / shape(size) - 1.0).abs() < 0.02);
        }
    }
}

#[test]
fn a_source_that_changes_its_size_gets_another_encoder() {
    let mut camera = Camera::new(640, 360);
    camera.want(Layer::Medium);
    camera.run(3);
    camera.source = PatternSource::new(480, 360, 30).unwrap();
    let frames = camera.run(2);
    assert!(frames[0].key);
}

#[test]
fn all_layers_of_a_picture_share_its_timestamp() {
    let mut camera = Camera::new(640, 360);
    camera.want(Layer::Medium);
    camera.want(Layer::Low);
    let frames = camera.run(1);
    assert_eq!((frames[0].timestamp, frames[1].timestamp), (0, 0));
    let epoch = camera.clock;
    assert_eq!(rtp_timestamp(epoch, epoch + Duration::from_secs(1)), 90_000);
    assert_eq!(rtp_timestamp(epoch, epoch + Duration::from_secs(50_000)), 205_032_704);
}

#[test]
fn a_source_that_stalls_does_not_exceed_its_rate() {
    let mut camera = Camera::new(640, 360);
    let rate = 200_000;
    camera.encoder.set_target(Layer::Medium, Some(rate));
    camera.run(90);
    let (start, before) = (camera.clock, camera.encoder.stats(Layer::Medium).bytes);
    for stall in 0..30 {
        camera.run(10);
        camera.clock += Duration::from_millis(33 * [2, 5, 9][stall % 3]);
    }
    let bits = 8 * (camera.encoder.stats(Layer::Medium).bytes - before);
    let got = bits as f64 / (camera.clock - start).as_secs_f64();
    eprintln!("{got:.0} bit/s");
    assert!(got < 1.1 * f64::from(rate), "{got} bit/s");
}

#[test]
fn a_screen_is_encoded_at_fifteen_a_second_in_its_own_size() {
    let start = Instant::now();
    let mut source = PatternSource::new(1600, 900, 30).unwrap();
    let mut encoder = ScreenEncoder::new(Arc::new(Vp8Codecs), start);
    let mut decoder = Vp8Codecs.decoder().unwrap();
    encoder.set_target(Some(1_500_000));
    let mut keys = 0;
    for number in 0..20u32 {
        let frame = Arc::new(source.draw(start + Duration::from_nanos(33_333_333) * number).unwrap());
        if let Some(encoded) = encoder.encode(&frame).unwrap() {
            keys += u32::from(encoded.key);
            let picture = decoder.decode(&encoded.data, start).unwrap().unwrap();
            assert_eq!((picture.width(), picture.height()), (1600, 900));
        }
    }
    assert_eq!((encoder.stats().encodes, keys), (10, 1));
}
