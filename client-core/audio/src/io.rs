//! What a sound device looks like to the engine: a sink for what was captured and a source of what is to be heard,
//! both 48 kHz mono f32. A shell with sound of its own (Android's AAudio) implements [`AudioIo`]; callbacks of any
//! thread may use both ends: they take no lock and allocate nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::{BLOCK, SAMPLE_RATE};

#[cfg(feature = "devices")]
mod cpal;
mod paced;
mod synthetic;

#[cfg(test)]
pub(crate) use self::synthetic::Voice;

#[cfg(feature = "devices")]
pub use self::cpal::{CpalIo, DeviceInfo, Devices, Direction, devices};
pub use self::paced::{PacedIo, Sink, Source};

/// Samples that a ring holds at most: 250 ms. A stall longer than that loses sound instead of delaying it.
const RING: usize = SAMPLE_RATE as usize / 4;

/// A pair of capture and playout devices.
pub trait AudioIo: Send {
    /// Opens the devices. They keep both ends until [`stop`](AudioIo::stop).
    ///
    /// # Errors
    /// When neither direction can be opened. One that fails alone is told by [`Opened`].
    fn start(&mut self, capture: CaptureSink, playout: PlayoutSource) -> Result<Opened, IoError>;

    /// Closes the devices and drops both ends; a stopped pair can be started again with other ends.
    fn stop(&mut self);

    /// How long sound takes through both devices outside of the rings: the first guess of the echo canceller.
    fn latency(&self) -> Duration;

    /// Called about every half second from the thread that started the devices. Some reason asks for a restart.
    fn check(&mut self) -> Option<RestartReason>;
}

/// Which directions work, and why one does not.
#[derive(Debug, Default)]
pub struct Opened {
    /// Name of the capture device, or nothing without one.
    pub capture: Option<String>,
    /// Name of the playout device, or nothing without one.
    pub playout: Option<String>,
    /// What kept a direction shut.
    pub problems: Vec<IoError>,
}

/// Why devices have to be opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartReason {
    /// The system's default device is another one.
    DefaultChanged,
    /// The device reported an error or went away.
    Failed,
    /// A device that was missing is there.
    Appeared,
    /// The device's callbacks stopped.
    Stalled,
    /// The device lost sound, since the machine is busy; larger buffers are tried.
    Choppy,
}

/// What is wrong with a device or a file.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum IoError {
    /// The system has no such device at the moment.
    #[error("the {direction} \"{name}\" is not there; the default one is used until it is plugged in")]
    UnknownDevice {
        /// `microphone` or `speaker`.
        direction: &'static str,
        /// What was asked for.
        name: String,
    },
    /// The system has no device at all.
    #[error("this machine has no {direction}; connect one, it will be used at once")]
    NoDevice {
        /// `microphone` or `speaker`.
        direction: &'static str,
    },
    /// The sound system refused.
    #[error(
        "the {direction} cannot be opened: {cause}; close other programs that use it, or allow access to it"
    )]
    Open {
        /// `microphone` or `speaker`.
        direction: &'static str,
        /// The system's words.
        cause: String,
    },
    /// A file is missing or unreadable.
    #[error("{path} cannot be used: {cause}; check the path and its permissions")]
    File {
        /// The file.
        path: String,
        /// The system's words.
        cause: String,
    },
    /// A name stands for something that is no file.
    #[error("{path} is not played: {what}; give a WAV file")]
    NotAFile {
        /// What was given.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// A file is of another kind.
    #[error(
        "{path} is {kind}, and only WAV files are played; give one, such as `ffmpeg -i IN -c:a pcm_s16le out.wav` makes"
    )]
    Foreign {
        /// The file.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// A WAV file holds what is not played.
    #[error("{path} is not played: {cause}; convert it by `ffmpeg -i IN -ar 48000 -c:a pcm_s16le out.wav`")]
    Unsupported {
        /// The file.
        path: String,
        /// What is not played.
        cause: String,
    },
    /// A WAV file holds nothing that makes sense.
    #[error("{path} is a damaged WAV file: {cause}; export it again where it comes from")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
}

impl IoError {
    /// Whether somebody asked for something impossible: waiting does not help.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::File { .. }
                | Self::NotAFile { .. }
                | Self::Foreign { .. }
                | Self::Unsupported { .. }
                | Self::Damaged { .. }
        )
    }

    /// A short word for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownDevice { .. } => "AUDIO_DEVICE_GONE",
            Self::NoDevice { .. } => "AUDIO_NO_DEVICE",
            Self::Open { .. } => "AUDIO_OPEN_FAILED",
            Self::File { .. } => "AUDIO_FILE_UNREADABLE",
            Self::NotAFile { .. } => "AUDIO_NOT_A_FILE",
            Self::Foreign { .. } => "AUDIO_FILE_NOT_WAV",
            Self::Unsupported { .. } => "AUDIO_FILE_UNSUPPORTED",
            Self::Damaged { .. } => "AUDIO_FILE_DAMAGED",
        }
    }
}

/// Where a capture device puts what it hears.
pub struct CaptureSink {
    ring: Producer<f32>,
    shared: Arc<Shared>,
    thread: Thread,
}

impl CaptureSink {
    /// Appends 48 kHz mono samples; what does not fit is lost.
    pub fn write(&mut self, samples: &[f32]) {
        let (_, left) = self.ring.push_partial_slice(samples);
        self.shared.captured.fetch_add(samples.len() as u64, Ordering::Relaxed);
        if !left.is_empty() {
            self.shared.overrun.fetch_add(left.len() as u64, Ordering::Relaxed);
        }
        self.thread.unpark();
    }
}

/// Where a playout device takes what is to be heard.
pub struct PlayoutSource {
    ring: Consumer<f32>,
    shared: Arc<Shared>,
    thread: Thread,
}

impl PlayoutSource {
    /// Tells how many samples the device takes at once, where it reads them in smaller pieces.
    pub fn expect(&mut self, samples: usize) {
        self.shared.largest.fetch_max(samples.min(RING) as u32, Ordering::Relaxed);
    }

    /// Fills `out` with 48 kHz mono samples, with silence where there are none.
    pub fn read(&mut self, out: &mut [f32]) {
        self.expect(out.len());
        let (_, left) = self.ring.pop_partial_slice(out);
        let missing = left.len() as u64;
        left.fill(0.0);
        self.shared.played.fetch_add(out.len() as u64, Ordering::Relaxed);
        if missing > 0 {
            self.shared.starved.fetch_add(missing, Ordering::Relaxed);
        }
        self.thread.unpark();
    }
}

/// Counters that both sides of the rings touch.
#[derive(Default)]
pub(crate) struct Shared {
    captured: AtomicU64,
    played: AtomicU64,
    overrun: AtomicU64,
    starved: AtomicU64,
    largest: AtomicU32,
    latency_us: AtomicU32,
    has_playout: AtomicBool,
}

impl Shared {
    pub(crate) fn captured(&self) -> u64 {
        self.captured.load(Ordering::Relaxed)
    }

    pub(crate) fn played(&self) -> u64 {
        self.played.load(Ordering::Relaxed)
    }

    pub(crate) fn overrun(&self) -> u64 {
        self.overrun.load(Ordering::Relaxed)
    }

    pub(crate) fn starved(&self) -> u64 {
        self.starved.load(Ordering::Relaxed)
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        self.latency_us.store(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    pub(crate) fn set_has_playout(&self, open: bool) {
        self.has_playout.store(open, Ordering::Relaxed);
    }
}

/// The engine's side of one opening of the devices.
pub(crate) struct EngineSide {
    pub(crate) capture: Consumer<f32>,
    pub(crate) playout: Producer<f32>,
    pub(crate) shared: Arc<Shared>,
}

impl EngineSide {
    /// Samples waiting for the speaker.
    pub(crate) fn queued(&self) -> usize {
        RING - self.playout.slots()
    }

    /// Samples that should wait for the speaker: its largest request and one block, plus `extra` blocks.
    pub(crate) fn wanted(&self, extra: usize) -> usize {
        let largest = self.shared.largest.load(Ordering::Relaxed) as usize;
        (largest.max(BLOCK) + BLOCK * (1 + extra)).min(RING - BLOCK)
    }

    /// Whether a speaker takes what is queued.
    pub(crate) fn has_playout(&self) -> bool {
        self.shared.has_playout.load(Ordering::Relaxed)
    }

    /// From queueing a block to the speaker: what is queued, and half of what the devices need.
    pub(crate) fn speaker_delay(&self) -> Duration {
        let device = Duration::from_micros(u64::from(self.shared.latency_us.load(Ordering::Relaxed)));
        device / 2 + Duration::from_micros(self.queued() as u64 * 1_000_000 / u64::from(SAMPLE_RATE))
    }

    /// What the echo of a block that is queued at this moment will take to come back, as far as known.
    pub(crate) fn echo_delay(&self) -> Duration {
        let device = Duration::from_micros(u64::from(self.shared.latency_us.load(Ordering::Relaxed)));
        let queued = self.queued() + self.capture.slots();
        device + Duration::from_micros(queued as u64 * 1_000_000 / u64::from(SAMPLE_RATE))
    }
}

/// Fresh ends for one opening of the devices; `thread` is woken whenever they move.
pub(crate) fn ends(thread: &Thread) -> (CaptureSink, PlayoutSource, EngineSide) {
    let shared = Arc::new(Shared::default());
    let (capture_in, capture_out) = RingBuffer::new(RING);
    let (playout_in, playout_out) = RingBuffer::new(RING);
    (
        CaptureSink { ring: capture_in, shared: shared.clone(), thread: thread.clone() },
        PlayoutSource { ring: playout_out, shared: shared.clone(), thread: thread.clone() },
        EngineSide { capture: capture_out, playout: playout_in, shared },
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop anywhere")]
mod tests {
    use super::*;

    #[test]
    fn a_starved_speaker_hears_silence_and_is_counted() {
        let (_sink, mut source, mut engine) = ends(&std::thread::current());
        engine.playout.push_entire_slice(&[0.5; 100]).unwrap();
        let mut out = [1.0; 300];
        source.read(&mut out);
        assert_eq!(out[..100], [0.5; 100]);
        assert_eq!(out[100..], [0.0; 200]);
        assert_eq!((engine.shared.played(), engine.shared.starved()), (300, 200));
    }

    #[test]
    fn a_stalled_engine_loses_what_does_not_fit() {
        let (mut sink, _source, engine) = ends(&std::thread::current());
        sink.write(&vec![0.1; RING + 7]);
        assert_eq!(engine.capture.slots(), RING);
        assert_eq!(engine.shared.overrun(), 7);
    }

    #[test]
    fn the_speakers_largest_request_decides_how_much_waits_for_it() {
        let (_sink, mut source, engine) = ends(&std::thread::current());
        assert_eq!(engine.wanted(0), 2 * BLOCK);
        source.read(&mut [0.0; 1024]);
        assert_eq!(engine.wanted(0), 1024 + BLOCK);
        source.read(&mut [0.0; 20_000]);
        assert_eq!(engine.wanted(3), RING - BLOCK);
    }
}
