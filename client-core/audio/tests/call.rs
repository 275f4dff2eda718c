//! Whole calls between engines without hardware, in real time.
#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use snug_audio::io::{
    AudioIo, CaptureSink, IoError, Opened, PacedIo, PlayoutSource, RestartReason, Sink, Source,
};
use snug_audio::{
    AudioConfig, AudioEngine, AudioError, AudioEvent, EncodedAudio, IncomingAudio, PayloadKind, Processing,
    RemoteId,
};

const REMOTE: RemoteId = RemoteId(7);

fn config(source: Source, sink: Sink) -> AudioConfig {
    AudioConfig {
        io: Box::new(PacedIo::new(source, sink)),
        processing: Processing::NONE,
        bitrate: 32_000,
        muted: false,
    }
}

fn tone(hz: f32) -> Source {
    Source::Tone { hz, level_db: -12.0 }
}

/// Waits until it is so, for ten seconds at most.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn packet(sequence: u16, frame: EncodedAudio) -> IncomingAudio {
    IncomingAudio {
        sequence,
        timestamp: frame.timestamp,
        payload: frame.payload,
        kind: PayloadKind::Opus,
        arrival: Instant::now(),
    }
}

/// Sends everything to a listener, as a perfect network would.
fn speak_to(listener: &Arc<AudioEngine>, source: Source) -> AudioEngine {
    let listener = listener.clone();
    let mut sequence = 0u16;
    let forward = move |frame| {
        sequence = sequence.wrapping_add(1);
        listener.insert(REMOTE, packet(sequence, frame)).unwrap();
    };
    AudioEngine::start(config(source, Sink::Discard), forward, |_| {}).unwrap()
}

fn read(path: &Path) -> Vec<f32> {
    let mut reader = hound::WavReader::open(path).unwrap();
    assert_eq!((reader.spec().sample_rate, reader.spec().channels), (48_000, 1));
    reader.samples::<i16>().map(|sample| f32::from(sample.unwrap()) / 32_768.0).collect()
}

/// Power of one frequency as a share of all power.
fn share(samples: &[f32], hz: f32) -> f32 {
    let turn = std::f32::consts::TAU * hz / 48_000.0;
    let (mut re, mut im, mut all) = (0.0f64, 0.0f64, 1e-9f64);
    for (i, &sample) in samples.iter().enumerate() {
        let phase = f64::from(turn) * i as f64;
        re += f64::from(sample) * phase.cos();
        im += f64::from(sample) * phase.sin();
        all += f64::from(sample * sample);
    }
    (2.0 * (re * re + im * im) / samples.len() as f64 / all) as f32
}

fn folder(test: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    // Recordings of an earlier run would be left alone.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_tone_goes_from_one_microphone_to_another_speaker() {
    let folder = folder("tone");
    let (heard, recorded) = (folder.join("heard.wav"), folder.join("recorded.wav"));
    let listener = Arc::new(
        AudioEngine::start(config(Source::Silence, Sink::Wav(heard.clone())), |_| {}, |_| {}).unwrap(),
    );
    listener.add(REMOTE).unwrap();
    listener.record(REMOTE, Some(recorded.clone())).unwrap();
    let speaker = speak_to(&listener, tone(440.0));
    until("a second of sound", || {
        listener.snapshot().remotes.get(&REMOTE).is_some_and(|remote| remote.received >= 75)
    });
    let state = listener.snapshot().remotes[&REMOTE].clone();
    assert!((-18.0..-12.0).contains(&state.level_db), "{state:?}");
    assert!(state.position.is_some() && state.damaged == 0, "{state:?}");
    assert!(speaker.snapshot().capture.unwrap().speaking);
    drop(speaker);
    drop(Arc::into_inner(listener).unwrap());
    for path in [heard, recorded] {
        let samples = read(&path);
        let middle = &samples[samples.len() / 2..samples.len() * 3 / 4];
        assert!(share(middle, 440.0) > 0.98, "{}: {}", path.display(), share(middle, 440.0));
    }
}

#[test]
fn a_muted_microphone_sends_silence_now_and_then_and_its_clock_runs_on() {
    let frames = Arc::new(Mutex::new(Vec::<EncodedAudio>::new()));
    let sent = frames.clone();
    let engine =
        AudioEngine::start(config(tone(300.0), Sink::Discard), move |f| sent.lock().unwrap().push(f), |_| {})
            .unwrap();
    until("the first frames", || frames.lock().unwrap().len() > 5);
    engine.set_muted(true).unwrap();
    until("the mute", || engine.snapshot().capture.is_some_and(|capture| capture.muted));
    let before = frames.lock().unwrap().len();
    std::thread::sleep(Duration::from_millis(1500));
    let after = frames.lock().unwrap().len();
    // The encoder takes some frames to believe in a pause, and repeats it every 400 ms.
    assert!((before + 1..before + 40).contains(&after), "{} frames of silence", after - before);
    engine.set_muted(false).unwrap();
    until("speech again", || frames.lock().unwrap().len() > after + 5);
    let frames = frames.lock().unwrap();
    // What was on its way when the mute came may still be heard.
    assert!(frames[before + 1..after].iter().all(|frame| frame.level_db < -90.0));
    assert!(frames.windows(2).all(|pair| pair[1].timestamp > pair[0].timestamp));
    assert!(frames.iter().all(|frame| (frame.timestamp - frames[0].timestamp).is_multiple_of(960)));
}

#[test]
fn devices_are_exchanged_while_the_call_goes_on() {
    let opened = Arc::new(Mutex::new(0));
    let count = opened.clone();
    let frames = Arc::new(Mutex::new(0));
    let sent = frames.clone();
    let engine = AudioEngine::start(
        config(tone(300.0), Sink::Discard),
        move |_| *sent.lock().unwrap() += 1,
        move |event| *count.lock().unwrap() += usize::from(matches!(event, AudioEvent::Opened(_))),
    )
    .unwrap();
    until("the first device", || *frames.lock().unwrap() > 3);
    engine.set_io(Box::new(PacedIo::new(Source::Voice { seed: 3 }, Sink::Discard))).unwrap();
    until("the second device", || *opened.lock().unwrap() == 2);
    let before = *frames.lock().unwrap();
    until("its sound", || *frames.lock().unwrap() > before + 3);
}

/// A device whose callbacks stop at once, until it is opened again.
struct Frozen {
    opened: Arc<Mutex<usize>>,
    inner: PacedIo,
}

impl AudioIo for Frozen {
    fn start(&mut self, capture: CaptureSink, playout: PlayoutSource) -> Result<Opened, IoError> {
        let mut opened = self.opened.lock().unwrap();
        *opened += 1;
        if *opened > 1 {
            return self.inner.start(capture, playout);
        }
        Ok(Opened { capture: Some("frozen".to_owned()), ..Opened::default() })
    }

    fn stop(&mut self) {
        self.inner.stop();
    }

    fn latency(&self) -> Duration {
        Duration::ZERO
    }

    fn check(&mut self) -> Option<RestartReason> {
        None
    }
}

#[test]
fn a_device_whose_callbacks_stop_is_opened_again() {
    let opened = Arc::new(Mutex::new(0));
    let io = Frozen { opened: opened.clone(), inner: PacedIo::new(tone(300.0), Sink::Discard) };
    let stalled = Arc::new(Mutex::new(false));
    let told = stalled.clone();
    let frames = Arc::new(Mutex::new(0));
    let sent = frames.clone();
    let _engine = AudioEngine::start(
        AudioConfig { io: Box::new(io), processing: Processing::NONE, bitrate: 32_000, muted: false },
        move |_| *sent.lock().unwrap() += 1,
        move |event| *told.lock().unwrap() |= matches!(event, AudioEvent::Restarting(RestartReason::Stalled)),
    )
    .unwrap();
    until("sound of the second opening", || *frames.lock().unwrap() > 3);
    assert!(*stalled.lock().unwrap());
    assert_eq!(*opened.lock().unwrap(), 2);
}

#[test]
fn a_listener_that_panics_does_not_end_the_call() {
    let frames = Arc::new(Mutex::new(0));
    let sent = frames.clone();
    let recovered = Arc::new(Mutex::new(false));
    let told = recovered.clone();
    let _engine = AudioEngine::start(
        config(tone(300.0), Sink::Discard),
        move |_| {
            let count = {
                let mut count = sent.lock().unwrap();
                *count += 1;
                *count
            };
            assert_ne!(count, 3, "a fault on purpose");
        },
        move |event| *told.lock().unwrap() |= matches!(event, AudioEvent::Recovered),
    )
    .unwrap();
    until("frames behind the fault", || *frames.lock().unwrap() > 6);
    assert!(*recovered.lock().unwrap());
}

#[test]
fn a_missing_file_and_a_damaged_one_are_refused_with_a_code() {
    let folder = folder("damaged");
    let damaged = folder.join("damaged.wav");
    std::fs::write(&damaged, b"RIFF\x10\0\0\0WAVEjunk").unwrap();
    for (path, code) in
        [(folder.join("missing.wav"), "AUDIO_FILE_UNREADABLE"), (damaged, "AUDIO_FILE_DAMAGED")]
    {
        let source = Source::Wav { path: path.clone(), repeat: true };
        let refused = AudioEngine::start(config(source, Sink::Discard), |_| {}, |_| {}).err().unwrap();
        let AudioError::Io(error) = refused else { panic!("{refused}") };
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(&path.display().to_string()));
    }
}

#[test]
fn a_file_of_another_rate_is_sent_as_it_sounds() {
    let folder = folder("file");
    let path = folder.join("stereo.wav");
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 44_100,
        bits_per_sample: 24,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for i in 0..44_100 {
        let value = (std::f32::consts::TAU * 600.0 * i as f32 / 44_100.0).sin() * 0.25;
        for _ in 0..2 {
            writer.write_sample((value * 8_388_607.0) as i32).unwrap();
        }
    }
    writer.finalize().unwrap();
    let heard = folder.join("heard.wav");
    let listener = Arc::new(
        AudioEngine::start(config(Source::Silence, Sink::Wav(heard.clone())), |_| {}, |_| {}).unwrap(),
    );
    listener.add(REMOTE).unwrap();
    let speaker = speak_to(&listener, Source::Wav { path, repeat: true });
    until("more than a second of sound", || {
        listener.snapshot().remotes.get(&REMOTE).is_some_and(|remote| remote.received >= 75)
    });
    drop(speaker);
    drop(Arc::into_inner(listener).unwrap());
    let samples = read(&heard);
    let middle = &samples[samples.len() / 2..samples.len() * 3 / 4];
    assert!(share(middle, 600.0) > 0.95, "{}", share(middle, 600.0));
}
