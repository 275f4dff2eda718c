//! Recordings as cameras.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![cfg(feature = "vpx")]

use std::io::Cursor;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use snug_video::sources::{IvfSource, PatternSource, read_stamp};
use snug_video::{
    Content, EncoderSettings, IvfRecorder, SourceError, Stop, VideoCodecs, VideoSource, Vp8Codecs,
};

/// Ten pictures at 30 a second, compressed.
fn recording() -> Vec<u8> {
    let settings = EncoderSettings {
        width: 320,
        height: 180,
        frame_rate: 30,
        bitrate: 300_000,
        content: Content::Camera,
    };
    let mut encoder = Vp8Codecs.encoder(&settings).unwrap();
    let mut source = PatternSource::new(320, 180, 30).unwrap();
    let mut recorder = IvfRecorder::new(Cursor::new(Vec::new()));
    for number in 0..10 {
        let picture = source.draw(Instant::now()).unwrap();
        let encoded =
            encoder.encode(&picture, number * 3000, false).unwrap().expect("nothing is left out so early");
        recorder.write(&encoded.data, number * 3000).unwrap();
    }
    recorder.finish().unwrap().into_inner()
}

fn open_ivf(bytes: &[u8], name: &str) -> Result<IvfSource, SourceError> {
    let path = std::env::temp_dir().join(format!("snug-video-{name}-{}.ivf", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let opened = IvfSource::open(&path, Arc::new(Vp8Codecs));
    std::fs::remove_file(&path).unwrap();
    opened
}

#[test]
fn a_recording_is_a_camera_that_plays_for_ever() {
    let mut source = open_ivf(&recording(), "plays").unwrap();
    assert_eq!(source.size(), (320, 180));
    let stop = Stop::default();
    let shown = (0..15).map(|_| source.next_frame(&stop).unwrap().unwrap());
    let (numbers, times): (Vec<_>, Vec<_>) =
        shown.map(|picture| (read_stamp(&picture).unwrap().number, picture.captured())).unzip();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4]);
    assert!(times[9] - times[0] >= Duration::from_millis(290), "it keeps the file's pace");
    stop.raise();
    assert!(source.next_frame(&stop).unwrap().is_none());
}

#[test]
fn a_damaged_recording_plays_what_is_whole_and_one_without_pictures_is_named() {
    let whole = recording();
    let mut cut = open_ivf(&whole[..whole.len() - 5], "cut").unwrap();
    let stop = Stop::default();
    let numbers: Vec<_> =
        (0..10).map(|_| read_stamp(&cut.next_frame(&stop).unwrap().unwrap()).unwrap().number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
    let code = |bytes: &[u8], name| open_ivf(bytes, name).map(drop).unwrap_err().code();
    assert_eq!(code(b"", "empty"), "source_damaged");
    assert_eq!(code(&[&whole[..8], b"AV01", &whole[12..]].concat(), "codec"), "source_unsupported");
    for (bytes, name) in [(&whole[..32], "header"), (&whole[..40], "first")] {
        let mut source = open_ivf(bytes, name).unwrap();
        assert_eq!(source.next_frame(&stop).map(drop).unwrap_err().code(), "source_damaged");
    }
}

proptest! {
    #[test]
    fn arbitrary_ivf_files_never_crash_the_source(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), frames in 0u8..3) {
        let mut file = recording();
        file.truncate(32);
        for _ in 0..frames {
            file.extend((bytes.len() as u32).to_le_bytes());
            file.extend([0; 8]);
            file.append(&mut bytes.clone());
        }
        file.append(&mut bytes);
        if let Ok(mut source) = open_ivf(&file, "arbitrary") {
            let _ = source.next_frame(&Stop::default());
        }
    }
}
