//! Recordings as cameras.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![cfg(feature = "vpx")]

#[path = "../../../ci/needs.rs"]
mod needs;

use std::io::Cursor;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use snug_video::sources::{IvfSource, PatternSource, read_stamp};
use snug_video::{
    Content, EncoderSettings, IvfRecorder, SourceError, Stop, VideoCodecs, VideoSource, Vp8Codecs,
};

/// Ten pictures at 30 a second, compressed.
fn recording() -> Vec<u8> {
    static MADE: OnceLock<Vec<u8>> = OnceLock::new();
    MADE.get_or_init(|| recording_of(10)).clone()
}

fn recording_of(pictures: u32) -> Vec<u8> {
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
    for number in 0..pictures {
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

/// The recording with these bytes in its header.
fn lying(changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut file = recording();
    for (at, bytes) in changes {
        file[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    file
}

#[test]
fn a_header_that_lies_does_not_keep_a_recording_from_being_played() {
    let stop = Stop::default();
    for (name, file) in [
        ("no length", lying(&[(6, &[0, 0])])),
        ("a short header", lying(&[(6, &[12, 0])])),
        ("a long header", lying(&[(6, &[44, 0])])),
        ("a header beyond the end", lying(&[(6, &[0xff, 0xff])])),
        ("no size", lying(&[(12, &[0; 4])])),
        ("another size", lying(&[(12, &[0xff; 4])])),
        ("no frames", lying(&[(24, &[0; 8])])),
        ("too many frames", lying(&[(24, &[0xff; 8])])),
        ("no clock", lying(&[(16, &[0; 8])])),
        ("no rate", lying(&[(16, &[0; 4])])),
        ("no scale", lying(&[(20, &[0; 4])])),
        ("another version", lying(&[(4, &[9, 9])])),
    ] {
        let mut source =
            open_ivf(&file, &name.replace(' ', "-")).map_err(|error| format!("{name}: {error}")).unwrap();
        assert_eq!(source.size(), (320, 180), "{name}");
        let start = Instant::now();
        let numbers: Vec<_> =
            (0..6).map(|_| read_stamp(&source.next_frame(&stop).unwrap().unwrap()).unwrap().number).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5], "{name}");
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(150) && took < Duration::from_secs(2), "{name}: {took:?}");
    }
}

#[test]
fn times_that_do_not_advance_and_clocks_that_race_do_not_play_a_file_as_fast_as_it_is_read() {
    let frozen = |time: u64| {
        let mut file = recording();
        let mut at = 32;
        while at < file.len() {
            let length = u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
            file[at + 4..at + 12].copy_from_slice(&time.to_le_bytes());
            at += 12 + length;
        }
        file
    };
    let stop = Stop::default();
    for (name, file, at_least) in [
        ("nought", frozen(0), 9 * 33),
        ("far", frozen(u64::MAX), 9 * 33),
        ("race", lying(&[(16, &[0xff; 4]), (20, &[1, 0, 0, 0])]), 9 * 8),
    ] {
        let mut source = open_ivf(&file, name).unwrap();
        let start = Instant::now();
        (0..10).for_each(|_| drop(source.next_frame(&stop).unwrap()));
        assert!(start.elapsed() >= Duration::from_millis(at_least), "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn a_file_of_few_pictures_a_second_keeps_its_rate_from_round_to_round() {
    // The same ten pictures, a tenth of a second apart.
    let slow = lying(&[(16, &30_000u32.to_le_bytes())]);
    let mut source = open_ivf(&slow, "slow").unwrap();
    let stop = Stop::default();
    let times: Vec<_> = (0..12).map(|_| source.next_frame(&stop).unwrap().unwrap().captured()).collect();
    for pair in times.windows(2) {
        let pause = pair[1] - pair[0];
        assert!(pause >= Duration::from_millis(95), "{pause:?} in {times:?}");
    }
}

#[test]
fn a_frame_that_claims_to_be_huge_takes_no_more_memory_than_the_file_has() {
    let mut file = recording();
    file[32..36].copy_from_slice(&(8u32 << 20).to_le_bytes());
    let error = open_ivf(&file, "claims").unwrap().next_frame(&Stop::default()).map(drop).unwrap_err();
    assert_eq!(error.code(), "source_damaged");
    file[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = open_ivf(&file, "exceeds").unwrap().next_frame(&Stop::default()).map(drop).unwrap_err();
    assert_eq!(error.code(), "source_damaged");
}

#[test]
fn the_advice_for_another_codec_cures_it() {
    if !needs::programs("ffmpeg", &["ffmpeg"]) {
        return;
    }
    let folder = std::env::temp_dir().join(format!("snug-video-advice-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let ffmpeg = |arguments: &[&str]| {
        let mut command = std::process::Command::new("ffmpeg");
        let done = command.current_dir(&folder).args(["-v", "error", "-y"]).args(arguments).output();
        let done = done.expect("it is there");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    ffmpeg(&["-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=0.4", "-c:v", "libvpx-vp9", "in.ivf"]);
    let open = |name: &str| IvfSource::open(&folder.join(name), Arc::new(Vp8Codecs));
    let error = open("in.ivf").map(drop).unwrap_err();
    assert_eq!(error.code(), "source_unsupported");
    let words = error.to_string();
    let advice = words.split('`').nth(1).unwrap().strip_prefix("ffmpeg ").unwrap();
    ffmpeg(&advice.split(' ').collect::<Vec<_>>());
    assert!(open("out.ivf").unwrap().next_frame(&Stop::default()).unwrap().is_some());
    std::fs::remove_dir_all(folder).unwrap();
}

proptest! {
    // A recording that cannot be decoded is waited through twice.
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn perturbed_recordings_never_panic(
        changes in proptest::collection::vec((0usize..200, any::<u8>()), 0..8),
        cut in 0usize..400,
    ) {
        static MADE: OnceLock<Vec<u8>> = OnceLock::new();
        let mut file = MADE.get_or_init(|| recording_of(2)).clone();
        for (at, byte) in changes {
            // Lengths and times are left whole enough that nobody waits for a second.
            if !(16..24).contains(&at) {
                file[at] = byte;
            }
        }
        file.truncate(file.len() - cut);
        if let Ok(mut source) = open_ivf(&file, "perturbed") {
            let _ = source.next_frame(&Stop::default());
        }
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
