//! Real devices of a real sound server: a PulseAudio of the test's own, whose only speaker is a null sink and whose
//! microphone is what that sink plays.
#![cfg(all(feature = "devices", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop anywhere and say what it measured"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use snug_audio::io::{CpalIo, Direction, PacedIo, Sink, Source, devices};
use snug_audio::{
    AudioConfig, AudioEngine, AudioError, AudioEvent, IncomingAudio, PayloadKind, Processing, RemoteId,
};

mod sound_server;

use sound_server::{SoundServer, until};

const REMOTE: RemoteId = RemoteId(1);

/// The tone of −12 dB is a sine, whose RMS is 3 dB below; gaps and the codec take a little.
const LEVEL: std::ops::Range<f32> = -18.5..-13.0;

/// RMS in dB and the share of it that one frequency has.
fn tone_in(samples: &[f32], hz: f32) -> (f32, f32) {
    let (mut re, mut im, mut all) = (0.0f64, 0.0f64, 1e-9f64);
    for (i, &sample) in samples.iter().enumerate() {
        let phase = std::f64::consts::TAU * f64::from(hz) / 48_000.0 * i as f64;
        re += f64::from(sample) * phase.cos();
        im += f64::from(sample) * phase.sin();
        all += f64::from(sample * sample);
    }
    let count = samples.len() as f64;
    ((10.0 * (all / count).log10()) as f32, (2.0 * (re * re + im * im) / count / all) as f32)
}

/// One engine speaks a tone without devices; the other plays it on the server's sink, hears that sink's monitor as
/// its microphone and sends it back.
fn through_the_server(
    capture: Option<&str>,
    playout: Option<&str>,
    hz: f32,
    folder: &Path,
    act: impl FnOnce(&dyn Fn()),
) {
    let back = folder.join(format!("back-{hz}.wav"));
    let listener = Arc::new(
        AudioEngine::start(
            AudioConfig {
                io: Box::new(PacedIo::new(Source::Silence, Sink::Discard)),
                processing: Processing::NONE,
                bitrate: 64_000,
                muted: true,
            },
            |_| {},
            |_| {},
        )
        .unwrap(),
    );
    listener.add(REMOTE).unwrap();
    let started = Instant::now();
    let events = Arc::new(Mutex::new(Vec::new()));
    let (told, returning) = (events.clone(), listener.clone());
    let mut sequence = 0u16;
    let devices = Arc::new(
        AudioEngine::start(
            AudioConfig {
                io: Box::new(CpalIo::new(capture.map(str::to_owned), playout.map(str::to_owned))),
                processing: Processing::NONE,
                bitrate: 64_000,
                muted: false,
            },
            move |frame| {
                sequence = sequence.wrapping_add(1);
                let _ = returning.insert(REMOTE, incoming(sequence, frame));
            },
            move |event| told.lock().unwrap().push(format!("{event:?} {:?}", started.elapsed())),
        )
        .unwrap(),
    );
    assert!(events.lock().unwrap().iter().any(|event| event.starts_with("Opened")), "{events:?}");
    devices.add(REMOTE).unwrap();
    let outward = devices.clone();
    let mut sequence = 0u16;
    let speaker = AudioEngine::start(
        AudioConfig {
            io: Box::new(PacedIo::new(Source::Tone { hz, level_db: -12.0 }, Sink::Discard)),
            processing: Processing::NONE,
            bitrate: 64_000,
            muted: false,
        },
        move |frame| {
            sequence = sequence.wrapping_add(1);
            let _ = outward.insert(REMOTE, incoming(sequence, frame));
        },
        |_| {},
    )
    .unwrap();
    let loud = || {
        until(&format!("the tone comes back; events: {events:?}"), || {
            listener.snapshot().remotes.get(&REMOTE).is_some_and(|remote| remote.level_db > -18.0)
        });
    };
    loud();
    act(&loud);
    let received = || listener.snapshot().remotes[&REMOTE].received;
    // A busy machine is given larger buffers within some seconds: the first clean second counts.
    let mut best = (0.0, 0.0);
    for _ in 0..12 {
        let before = received();
        let _ = std::fs::remove_file(&back);
        listener.record(REMOTE, Some(back.clone())).unwrap();
        until("a second more", || received() > before + 50);
        listener.record(REMOTE, None).unwrap();
        until("the end of the recording", || tone_of(&back, hz).is_some());
        let heard = tone_of(&back, hz).unwrap();
        println!(
            "{:?} {hz} Hz through {playout:?}: {:.1} dB, {:.2} % of it the tone",
            started.elapsed(),
            heard.0,
            heard.1 * 100.0
        );
        best = if heard.1 > best.1 { heard } else { best };
        if best.1 > 0.9 && LEVEL.contains(&best.0) {
            break;
        }
    }
    println!("{events:?}");
    drop(speaker);
    drop(Arc::into_inner(devices).unwrap());
    drop(Arc::into_inner(listener).unwrap());
    let (level, share) = best;
    assert!(share > 0.9, "only {share} of it is the tone");
    assert!(LEVEL.contains(&level), "level {level} dB");
}

/// Level and share of the tone in a recording, once that is finished.
fn tone_of(path: &Path, hz: f32) -> Option<(f32, f32)> {
    let samples: Vec<f32> = hound::WavReader::open(path)
        .ok()?
        .into_samples::<i16>()
        .map(|sample| sample.map(|sample| f32::from(sample) / 32_768.0))
        .collect::<Result<_, _>>()
        .ok()?;
    // A machine that is busy elsewhere makes a gap, which breaks the phase once; a wrong rate or a garbled sound breaks
    // every window.
    let middle = samples.get(4_800..samples.len().checked_sub(4_800)?)?;
    let mut windows: Vec<(f32, f32)> = middle.chunks_exact(4_800).map(|window| tone_in(window, hz)).collect();
    windows.sort_by(|a, b| a.1.total_cmp(&b.1));
    windows.get(windows.len() / 2).copied()
}

fn incoming(sequence: u16, frame: snug_audio::EncodedAudio) -> IncomingAudio {
    IncomingAudio {
        sequence,
        timestamp: frame.timestamp,
        payload: frame.payload,
        kind: PayloadKind::Opus,
        arrival: Instant::now(),
    }
}

/// Two speakers, whose monitors are the microphones.
const SINKS: &str = "\
load-module module-null-sink sink_name=first rate=48000 channels=2
load-module module-null-sink sink_name=second rate=44100 channels=1 format=s16le sink_properties=device.description=Second
set-default-sink first
set-default-source first.monitor
";

#[test]
fn a_tone_is_played_and_heard_through_a_real_sound_server() {
    let Some(server) = SoundServer::start(&folder(), SINKS, "second") else { return };
    server.run_test_within();
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pulse")
}

/// Run by the test above, with the server's address in the environment.
#[test]
#[ignore = "started by the other test of this file"]
fn with_the_server() {
    let folder = folder();
    let all = devices();
    println!("{all:?}");
    let preferred = |direction| all.list.iter().find(|d| d.default && d.direction == direction).unwrap();
    assert!(preferred(Direction::Playout).id.ends_with(":first"), "{all:?}");
    assert!(preferred(Direction::Capture).id.ends_with(":first.monitor"), "{all:?}");
    let second = all.list.iter().find(|device| device.id.ends_with(":second")).unwrap();
    let monitor = all.list.iter().find(|device| device.id.ends_with(":second.monitor")).unwrap();

    // Chosen devices, by id and by name, of another rate and one channel.
    through_the_server(Some(&monitor.id), Some(&second.name), 700.0, &folder, |_| {});

    // The defaults, which are followed when they change.
    through_the_server(None, None, 500.0, &folder, |loud| {
        let pactl = |words: &[&str]| assert!(Command::new("pactl").args(words).status().unwrap().success());
        pactl(&["set-default-sink", "second"]);
        pactl(&["set-default-source", "second.monitor"]);
        // Nothing is on the first sink any more once both were followed.
        until("the stream follows", || {
            let inputs = Command::new("pactl").args(["list", "short", "sink-inputs"]).output().unwrap();
            let sinks = Command::new("pactl").args(["list", "short", "sinks"]).output().unwrap();
            let sinks = String::from_utf8_lossy(&sinks.stdout).into_owned();
            let second =
                sinks.lines().find(|line| line.contains("second")).and_then(|line| line.split('\t').next());
            let inputs = String::from_utf8_lossy(&inputs.stdout).into_owned();
            inputs.lines().any(|line| line.split('\t').nth(1) == second)
        });
        std::thread::sleep(Duration::from_millis(500));
        loud();
    });

    let unknown = CpalIo::new(Some("no such microphone".to_owned()), None);
    let config =
        AudioConfig { io: Box::new(unknown), processing: Processing::NONE, bitrate: 32_000, muted: false };
    let events = Arc::new(Mutex::new(String::new()));
    let told = events.clone();
    let result = AudioEngine::start(
        config,
        |_| {},
        move |event: AudioEvent| {
            told.lock().unwrap().push_str(&format!("{event:?}"));
        },
    );
    // The speaker works, so the call goes on; what is missing is told.
    assert!(!matches!(result, Err(AudioError::Io(_))));
    assert!(events.lock().unwrap().contains("UnknownDevice"), "{events:?}");
}
