//! A microphone that is a file or made up and a speaker that is a file or nothing, at the pace of real time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::synthetic::{Tone, Voice};
use super::{AudioIo, CaptureSink, IoError, Opened, PlayoutSource, RestartReason};
use crate::priority::raise_priority;
use crate::wav::{WavLoop, WavRecorder};
use crate::{BLOCK, BLOCK_TIME};

/// A pause of the machine longer than this is skipped instead of made up for.
const LATEST: Duration = Duration::from_millis(200);

/// What the microphone hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Nothing.
    Silence,
    /// A sine.
    Tone {
        /// Frequency in Hz.
        hz: f32,
        /// Peak in dB below full scale, zero or negative.
        level_db: f32,
    },
    /// Something like a voice, always the same for a seed.
    Voice {
        /// An odd one has the higher voice.
        seed: u64,
    },
    /// A WAV file.
    Wav {
        /// The file.
        path: PathBuf,
        /// Whether it starts again at its end; otherwise silence follows.
        repeat: bool,
    },
}

/// Where the speaker's sound goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Nowhere.
    Discard,
    /// Into a WAV file.
    Wav(PathBuf),
}

/// Devices without hardware.
pub struct PacedIo {
    source: Source,
    sink: Sink,
    /// What ends the first thread; the second one writes the sink's file and ends with it.
    running: Option<(Arc<AtomicBool>, Vec<JoinHandle<()>>)>,
}

impl PacedIo {
    /// Files are opened by [`AudioIo::start`].
    pub fn new(source: Source, sink: Sink) -> Self {
        Self { source, sink, running: None }
    }
}

impl AudioIo for PacedIo {
    fn start(&mut self, mut capture: CaptureSink, mut playout: PlayoutSource) -> Result<Opened, IoError> {
        self.stop();
        let mut reader = Reader::open(&self.source)?;
        let (mut recorder, writer) = match &self.sink {
            Sink::Discard => None,
            Sink::Wav(path) => Some(WavRecorder::create(path)?),
        }
        .unzip();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let body = move || {
            raise_priority();
            let mut block = [0.0; BLOCK];
            let mut due = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let now = Instant::now();
                if now < due {
                    std::thread::sleep(due - now);
                    continue;
                }
                if now - due > LATEST {
                    due = now;
                }
                due += BLOCK_TIME;
                reader.read(&mut block);
                capture.write(&block);
                playout.read(&mut block);
                if let Some(recorder) = &mut recorder {
                    recorder.write(&block);
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("snug-paced-sound".to_owned())
            .spawn(body)
            .map_err(|error| IoError::Open { direction: "microphone", cause: error.to_string() })?;
        self.running = Some((stop, std::iter::once(thread).chain(writer).collect()));
        Ok(Opened {
            capture: Some(format!("{:?}", self.source)),
            playout: Some(format!("{:?}", self.sink)),
            problems: Vec::new(),
        })
    }

    fn stop(&mut self) {
        if let Some((stop, threads)) = self.running.take() {
            stop.store(true, Ordering::Relaxed);
            for thread in threads {
                let _ = thread.join();
            }
        }
    }

    fn latency(&self) -> Duration {
        Duration::ZERO
    }

    fn check(&mut self) -> Option<RestartReason> {
        None
    }
}

impl Drop for PacedIo {
    fn drop(&mut self) {
        self.stop();
    }
}

enum Reader {
    Silence,
    Tone(Tone),
    Voice(Box<Voice>),
    Wav(Box<WavLoop>),
}

impl Reader {
    fn open(source: &Source) -> Result<Self, IoError> {
        Ok(match source {
            Source::Silence => Self::Silence,
            Source::Tone { hz, level_db } => Self::Tone(Tone::new(*hz, *level_db)),
            Source::Voice { seed } => Self::Voice(Box::new(Voice::new(*seed))),
            Source::Wav { path, repeat } => Self::Wav(Box::new(WavLoop::open(path, *repeat)?)),
        })
    }

    fn read(&mut self, out: &mut [f32; BLOCK]) {
        match self {
            Self::Silence => out.fill(0.0),
            Self::Tone(tone) => out.fill_with(|| tone.next()),
            Self::Voice(voice) => out.fill_with(|| voice.next()),
            Self::Wav(wav) => wav.read(out),
        }
    }
}
