//! Pixels, files and sources, without a codec.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../../../ci/needs.rs"]
mod needs;

use std::io::{Cursor, Write};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use snug_video::pixel::{Scaler, fit, from_nv12, from_rgb, from_yuyv, to_rgba};
use snug_video::quality::{psnr, ssim};
use snug_video::sources::{PatternSource, Y4mError, Y4mReader, Y4mSource, read_stamp};
use snug_video::{FramePool, I420Frame, IvfRecorder, SourceError, Stop, VideoSource, Y4mRecorder};

fn frame(width: u32, height: u32) -> I420Frame {
    FramePool::default().frame(width, height, Instant::now()).unwrap()
}

fn filled(width: u32, height: u32, [y, u, v]: [u8; 3]) -> I420Frame {
    let mut frame = frame(width, height);
    for (plane, value) in frame.planes_mut().into_iter().zip([y, u, v]) {
        plane.fill(value);
    }
    frame
}

#[test]
fn yuyv_keeps_luma_and_the_chroma_of_every_other_row() {
    let packed = [10, 100, 20, 200, 30, 60, 40, 80, 50, 110, 60, 210, 70, 70, 80, 90];
    let mut frame = frame(4, 2);
    from_yuyv(&packed, &mut frame).unwrap();
    let [y, u, v] = frame.planes();
    assert_eq!(y, [10, 20, 30, 40, 50, 60, 70, 80]);
    assert_eq!((u, v), (&[100, 60][..], &[200, 80][..]));
}

#[test]
fn nv12_is_taken_apart() {
    let mut frame = frame(4, 2);
    from_nv12(&[1, 2, 3, 4, 5, 6, 7, 8, 10, 20, 30, 40], &mut frame).unwrap();
    assert_eq!(frame.samples(), [1, 2, 3, 4, 5, 6, 7, 8, 10, 30, 20, 40]);
}

#[test]
fn colours_survive_the_way_to_i420_and_back() {
    for colour in [[255u8, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [120, 130, 140]] {
        let rgb = colour.repeat(16 * 8);
        let mut frame = frame(16, 8);
        from_rgb(&rgb, &mut frame).unwrap();
        let mut rgba = Vec::new();
        to_rgba(&frame, &mut rgba);
        for pixel in rgba.chunks_exact(4) {
            assert!(
                pixel[..3].iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 4),
                "{colour:?} as {pixel:?}"
            );
            assert_eq!(pixel[3], 255);
        }
    }
}

#[test]
fn a_short_buffer_is_refused_and_padding_ignored() {
    let mut frame = frame(16, 16);
    assert!(from_yuyv(&[0; 511], &mut frame).is_err());
    assert!(from_nv12(&[0; 383], &mut frame).is_err());
    assert!(from_rgb(&[0; 767], &mut frame).is_err());
    assert!(from_yuyv(&[0; 4096], &mut frame).is_ok());
    assert!(from_nv12(&[0; 4096], &mut frame).is_ok());
}

#[test]
fn halving_averages_four_samples() {
    let mut large = frame(4, 4);
    large.samples_mut()[..16].copy_from_slice(&[0, 2, 8, 8, 4, 6, 8, 8, 1, 1, 255, 255, 1, 2, 255, 255]);
    large.samples_mut()[16..].copy_from_slice(&[10, 20, 30, 40, 50, 50, 50, 51]);
    let half = Scaler::default().scale(&large, 2, 2).unwrap();
    assert_eq!(half.samples(), [3, 8, 1, 255, 25, 50]);
}

#[test]
fn a_flat_picture_stays_flat_in_every_size() {
    let large = filled(640, 480, [90, 110, 140]);
    let mut scaler = Scaler::default();
    for (width, height) in [(320, 240), (160, 120), (480, 360), (242, 182), (2, 2)] {
        let scaled = scaler.scale(&large, width, height).unwrap();
        let expected = filled(width, height, [90, 110, 140]);
        assert_eq!(scaled.samples(), expected.samples(), "{width}x{height}");
    }
}

#[test]
fn a_picture_that_is_copied_is_cut_to_even_sides() {
    let source = filled(6, 6, [1, 2, 3]);
    let mut odd = source.picture();
    (odd.width, odd.height) = (5, 5);
    let copy = FramePool::default().copy(&odd, Instant::now()).unwrap();
    assert_eq!((copy.width(), copy.height()), (4, 4));
    odd.width = 1;
    assert!(FramePool::default().copy(&odd, Instant::now()).is_err());
}

#[test]
fn quality_is_perfect_for_equal_pictures_and_falls_with_noise() {
    let mut source = PatternSource::new(160, 96, 30).unwrap();
    let clean = source.draw(Instant::now()).unwrap();
    assert_eq!(psnr(&clean, &clean), Some(f64::INFINITY));
    assert!((ssim(&clean, &clean).unwrap() - 1.0).abs() < 1e-9);
    let mut noisy = frame(160, 96);
    for (index, (to, from)) in noisy.samples_mut().iter_mut().zip(clean.samples()).enumerate() {
        *to = if index % 2 == 0 { from + 10 } else { from - 10 };
    }
    assert!((psnr(&clean, &noisy).unwrap() - 28.13).abs() < 0.01);
    assert!(ssim(&clean, &noisy).unwrap() < 0.9);
    assert_eq!(psnr(&clean, &frame(2, 2)), None);
    assert_eq!(ssim(&frame(2, 2), &frame(2, 2)), None);
}

#[test]
fn the_stamp_counts_pictures_and_is_not_seen_where_there_is_none() {
    let mut source = PatternSource::new(320, 180, 30).unwrap();
    let numbers = [0, 1, 2].map(|_| read_stamp(&source.draw(Instant::now()).unwrap()).unwrap().number);
    assert_eq!(numbers, [0, 1, 2]);
    for luma in [0, 90, 255] {
        assert_eq!(read_stamp(&filled(320, 180, [luma, 128, 128])), None);
    }
    assert_eq!(read_stamp(&filled(2, 2, [0, 128, 128])), None);
}

#[test]
fn a_source_ends_when_it_is_told_to_stop() {
    let stop = Stop::default();
    let mut source = PatternSource::new(64, 48, 1).unwrap();
    assert!(source.next_frame(&stop).unwrap().is_some());
    stop.raise();
    assert!(source.next_frame(&stop).unwrap().is_none());
}

#[test]
fn y4m_goes_out_and_comes_back_and_loops() {
    let mut source = PatternSource::new(64, 48, 30).unwrap();
    let pictures = [0, 1, 2].map(|_| source.draw(Instant::now()).unwrap());
    let mut recorder = Y4mRecorder::new(Vec::new(), (64, 48), 25).unwrap();
    for picture in &pictures {
        recorder.write(picture).unwrap();
    }
    assert!(recorder.write(&frame(2, 2)).is_err());
    let file = recorder.finish().unwrap();
    let mut reader = Y4mReader::new(Cursor::new(file)).unwrap();
    assert_eq!((reader.size(), reader.interval()), ((64, 48), Duration::from_millis(40)));
    for _ in 0..2 {
        for picture in &pictures {
            let read = reader.next_frame(Instant::now()).unwrap().unwrap();
            assert_eq!(read.samples(), picture.samples());
        }
        assert!(reader.next_frame(Instant::now()).unwrap().is_none());
        reader.rewind().unwrap();
    }
}

#[test]
fn a_y4m_file_that_cannot_be_played_is_named() {
    let open = |bytes: &[u8]| Y4mReader::new(Cursor::new(bytes.to_vec())).map(drop).unwrap_err();
    assert!(matches!(open(b""), Y4mError::Header(_)));
    assert!(matches!(open(b"RIFF....AVI \n"), Y4mError::Header(_)));
    assert!(matches!(open(b"YUV4MPEG2 W64\n"), Y4mError::Header(_)));
    assert!(matches!(open(b"YUV4MPEG2 W64 H48 C444\n"), Y4mError::Unsupported { .. }));
    assert!(matches!(open(b"YUV4MPEG2 W64 H48 F0:1\n"), Y4mError::Unsupported { .. }));
    assert!(matches!(open(b"YUV4MPEG2 W64 H48 F30\n"), Y4mError::Header(_)));
    assert!(matches!(open(b"YUV4MPEG2 W1 H48\n"), Y4mError::Size(_)));
    assert!(matches!(open(b"YUV4MPEG2 W0 H0\n"), Y4mError::Size(_)));
    assert!(matches!(open(b"YUV4MPEG2 W99999 H99999\n"), Y4mError::Unsupported { .. }));
    assert!(matches!(open(b"YUV4MPEG2 W4294967295 H4294967295\n"), Y4mError::Unsupported { .. }));
    let all = open(b"YUV4MPEG2 W64 H48 F240:1 It C444\n").to_string();
    assert!(
        all.contains("a frame rate of 240:1 and interlaced pictures and the colour format \"444\""),
        "{all}"
    );
    assert!(
        all.contains("`ffmpeg -i in.y4m -vf yadif,fps=30,format=yuv420p -field_order progressive out.y4m`")
    );
    let mut cut = Y4mReader::new(Cursor::new(b"YUV4MPEG2 W2 H2 F30:1\nFRAME\n12345".to_vec())).unwrap();
    assert!(matches!(cut.next_frame(Instant::now()), Err(Y4mError::Damaged { picture: 0 })));
}

#[test]
fn every_usual_y4m_header_is_played_at_its_rate() {
    for (fields, milliseconds) in [
        ("", 33.33),
        (" F0:0", 33.33),
        (" F30000:1001 Ip C420mpeg2 XYSCSS=420MPEG2", 33.37),
        (" F25:1 Im A1:1 C420jpeg", 40.0),
        (" F1:1 I? C420paldv", 1000.0),
        (" F120:1 C420", 8.33),
    ] {
        let file = [format!("YUV4MPEG2 W2 H2{fields}\nFRAME Ixx\n").as_bytes(), b"123456"].concat();
        let mut reader = Y4mReader::new(Cursor::new(file)).unwrap();
        assert!((reader.interval().as_secs_f64() * 1000.0 - milliseconds).abs() < 0.01, "{fields}");
        assert_eq!(reader.next_frame(Instant::now()).unwrap().unwrap().samples(), b"123456");
    }
}

#[test]
fn odd_sides_lose_their_last_column_and_row() {
    let picture = b"abcdefghiABCDuvwx";
    let file = [&b"YUV4MPEG2 W3 H3\n"[..], b"FRAME\n", picture, b"FRAME\n", picture].concat();
    let mut reader = Y4mReader::new(Cursor::new(file)).unwrap();
    assert_eq!(reader.size(), (2, 2));
    for _ in 0..2 {
        assert_eq!(reader.next_frame(Instant::now()).unwrap().unwrap().samples(), b"abdeAu");
    }
    assert!(reader.next_frame(Instant::now()).unwrap().is_none());
}

/// A file with this name, gone with the guard.
struct Made(std::path::PathBuf);

impl Made {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("snug-video-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_y4m_file_that_is_cut_or_shrinks_goes_on_with_its_whole_pictures() {
    let file = Made::new("cut.y4m", b"YUV4MPEG2 W2 H2 F120:1\nFRAME\n123456FRAME\nabcdefFRAME\n987");
    let mut source = Y4mSource::open(&file.0).unwrap();
    let stop = Stop::default();
    let mut first = || source.next_frame(&stop).map(|picture| picture.unwrap().samples()[0]);
    assert_eq!((0..5).map(|_| first().unwrap()).collect::<Vec<u8>>(), b"1a1a1");
    let shrunk = std::fs::File::options().write(true).open(&file.0).unwrap();
    shrunk.set_len(23 + 12 + 8).unwrap();
    // What was read ahead may still come.
    let _ = (first(), first());
    assert_eq!((0..3).map(|_| first().unwrap()).collect::<Vec<u8>>(), b"111");
    shrunk.set_len(25).unwrap();
    let _ = first();
    assert_eq!(first().unwrap_err().code(), "source_damaged");
}

#[cfg(feature = "vpx")]
#[test]
fn what_is_no_video_file_is_refused_by_its_kind_with_a_code_and_one_action() {
    let codecs: std::sync::Arc<dyn snug_video::VideoCodecs> = std::sync::Arc::new(snug_video::Vp8Codecs);
    let fifo = Made::new("pipe.y4m", b"");
    std::fs::remove_file(&fifo.0).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&fifo.0).status().unwrap().success());
    let folder = std::env::temp_dir();
    let files = [
        ("mp4.y4m", &b"\0\0\0\x20ftypisom"[..], "source_foreign", "is an MP4 file"),
        ("png.ivf", b"\x89PNG\r\n\x1a\n", "source_foreign", "is a PNG picture"),
        ("text.y4m", b"hello\n", "source_foreign", "is a text file"),
        ("noise.y4m", b"\x01\x02\x03", "source_foreign", "is of no kind that is known"),
        ("empty", b"", "source_foreign", "is an empty file"),
        ("empty.ivf", b"", "source_damaged", "not an IVF file (it is empty)"),
        ("empty.y4m", b"", "source_damaged", "not a y4m file (it is empty)"),
        ("short.ivf", b"DKIF\0\0", "source_damaged", "not an IVF file (it is shorter than a header)"),
    ];
    let made: Vec<_> = files.iter().map(|(name, bytes, ..)| Made::new(name, bytes)).collect();
    let named = files.iter().zip(&made).map(|((_, _, code, words), made)| (made.0.as_path(), *code, *words));
    let others = [
        (fifo.0.as_path(), "source_not_a_file", "is a pipe or a device"),
        (folder.as_path(), "source_not_a_file", "is a folder"),
        ("/nonexistent/a.ivf".as_ref(), "source_not_found", "check its name"),
    ];
    for (path, code, words) in named.chain(others) {
        let error = snug_video::sources::open_file(path, &codecs).map(drop).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn the_advice_for_a_y4m_file_that_is_not_played_cures_it() {
    if !needs::programs("ffmpeg", &["ffmpeg"]) {
        return;
    }
    for (name, header, samples) in [
        ("top", "W64 H48 F25:1 It C420jpeg", 64 * 48 * 3 / 2),
        ("bottom", "W64 H48 F25:1 Ib C420mpeg2", 64 * 48 * 3 / 2),
        ("slow", "W64 H48 F1:2 Ip", 64 * 48 * 3 / 2),
        ("fast", "W64 H48 F240:1 Ip", 64 * 48 * 3 / 2),
        ("none", "W64 H48 F0:1 Ip", 64 * 48 * 3 / 2),
        ("never", "W64 H48 F30:0 Ip", 64 * 48 * 3 / 2),
        ("422", "W64 H48 F25:1 Ip C422", 64 * 48 * 2),
        ("444", "W64 H48 F25:1 Ip C444", 64 * 48 * 3),
        ("mono", "W64 H48 F25:1 Ip Cmono", 64 * 48),
        ("deep", "W64 H48 F25:1 Ip C420p10 XYSCSS=420P10", 64 * 48 * 3),
        ("wide", "W5000 H48 F25:1 Ip", 5000 * 48 * 3 / 2),
        ("tall", "W48 H5000 F25:1 Ip", 5000 * 48 * 3 / 2),
        ("everything", "W5000 H48 F240:1 It C444", 5000 * 48 * 3),
    ] {
        let mut bytes = format!("YUV4MPEG2 {header}\n").into_bytes();
        for shade in [60, 90, 120, 150] {
            bytes.extend(b"FRAME\n");
            bytes.resize(bytes.len() + samples, shade);
        }
        let file = Made::new(&format!("{name}-in.y4m"), &bytes);
        let cured = Made::new(&format!("{name}-out.y4m"), b"");
        let error = Y4mSource::open(&file.0).map(drop).unwrap_err();
        assert_eq!(error.code(), "source_unsupported", "{name}: {error}");
        let words = error.to_string();
        let advice = words.split('`').nth(1).unwrap().strip_prefix("ffmpeg ").unwrap();
        let mut ffmpeg = std::process::Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-y"]).args(advice.split(' ').map(|word| match word {
            "in.y4m" => file.0.as_os_str(),
            "out.y4m" => cured.0.as_os_str(),
            word => word.as_ref(),
        }));
        let done = ffmpeg.output().expect("it is there");
        assert!(done.status.success(), "{name}: {advice}: {}", String::from_utf8_lossy(&done.stderr));
        let mut source =
            Y4mSource::open(&cured.0).map_err(|error| format!("{name}: {advice}: {error}")).unwrap();
        assert!(source.next_frame(&Stop::default()).unwrap().is_some(), "{name}");
    }
}

#[test]
fn a_file_plays_for_ever_and_errors_have_codes() {
    let missing = Y4mSource::open("/nonexistent/clip.y4m".as_ref()).map(drop).unwrap_err();
    assert_eq!(missing.code(), "source_not_found");
    let path = std::env::temp_dir().join(format!("snug-video-{}.y4m", std::process::id()));
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"YUV4MPEG2 W2 H2 F120:1\nFRAME\n123456FRAME\nabcdef").unwrap();
    let mut source = Y4mSource::open(&path).unwrap();
    let stop = Stop::default();
    let first: Vec<u8> = (0..4).map(|_| source.next_frame(&stop).unwrap().unwrap().samples()[0]).collect();
    assert_eq!(first, b"1a1a");
    file.set_len(0).unwrap();
    let error = Y4mSource::open(&path).map(drop).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(error, SourceError::Y4m { .. }));
    assert_eq!(error.code(), "source_damaged");
}

#[test]
fn ivf_starts_at_a_key_frame_and_its_clock_does_not_wrap() {
    let key = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0, 7];
    let mut recorder = IvfRecorder::new(Cursor::new(Vec::new()));
    recorder.write(&[0x11, 1, 1], 5).unwrap();
    recorder.write(&key, u32::MAX - 999).unwrap();
    recorder.write(&[0x11, 2], 2000).unwrap();
    let file = recorder.finish().unwrap().into_inner();
    assert_eq!(&file[..12], b"DKIF\0\0\x20\0VP80");
    assert_eq!(&file[12..24], [0x40, 1, 0xb4, 0, 0x90, 0x5f, 1, 0, 1, 0, 0, 0]);
    assert_eq!(&file[24..32], [0x70, 0x17, 0, 0, 2, 0, 0, 0], "twice 3,000 ticks in two frames");
    assert_eq!(&file[32..44], [11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&file[55..67], [2, 0, 0, 0, 0xb8, 0x0b, 0, 0, 0, 0, 0, 0]);
    assert_eq!(file.len(), 69);
}

#[test]
fn a_recording_that_is_cut_off_keeps_what_the_last_checkpoint_counted() {
    let key = [0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0, 7];
    let mut recorder = IvfRecorder::new(Cursor::new(Vec::new()));
    recorder.checkpoint().unwrap();
    recorder.write(&key, 0).unwrap();
    recorder.write(&[0x11, 2], 3000).unwrap();
    recorder.checkpoint().unwrap();
    recorder.write(&[0x11, 3], 6000).unwrap();
    let file = recorder.finish().unwrap().into_inner();
    assert_eq!(&file[24..32], [0x28, 0x23, 0, 0, 3, 0, 0, 0]);
    assert_eq!(file.len(), 32 + 3 * 12 + 11 + 2 + 2, "the end of the file is where it was");
}

proptest! {
    #[test]
    fn arbitrary_y4m_files_never_crash_the_reader(
        header in "YUV4MPEG2( [WHFCIAX][0-9:a-z]{0,6}){0,6}\n?",
        body in proptest::collection::vec(any::<u8>(), 0..200),
        frames in 0usize..3,
    ) {
        let mut file = header.into_bytes();
        for _ in 0..frames {
            file.extend(b"FRAME\n");
            file.extend(&body);
        }
        if let Ok(mut reader) = Y4mReader::new(Cursor::new(file)) {
            for _ in 0..4 {
                if reader.next_frame(Instant::now()).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_fitted_size_is_even_keeps_its_shape_and_never_grows(width in 2u32..4096, height in 2u32..4096) {
        for within in [(1280, 720), (640, 360), (320, 180)] {
            let (w, h) = fit((width, height), within);
            prop_assert!(w.is_multiple_of(2) && h.is_multiple_of(2) && w >= 2 && h >= 2);
            prop_assert!(w <= width && h <= height);
            prop_assert!(w.max(h) <= within.0 && w.min(h) <= within.1);
            // Exact to the rounding of two pixels, as long as neither side has shrunk to nothing.
            if w > 2 && h > 2 {
                let (ideal_h, ideal_w) = (f64::from(w) * f64::from(height) / f64::from(width), f64::from(h) * f64::from(width) / f64::from(height));
                prop_assert!((ideal_h - f64::from(h)).abs() <= 2.5 || (ideal_w - f64::from(w)).abs() <= 2.5);
            }
        }
    }
}
