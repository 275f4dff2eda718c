//! Lip sync: how much to hold back sound or picture of one remote participant, so that both belong together.
//!
//! Sender reports tie each stream's timestamps to the sender's clock. From that follows when a sample was captured,
//! and how long it took to be played here. The stream that is ahead is held back.

use std::time::{Duration, Instant};

use crate::sequence::Unwrapper32;

/// Sound may come this much before its picture.
const AUDIO_AHEAD: f64 = 0.020;
/// Sound may come this much after its picture.
const AUDIO_BEHIND: f64 = 0.060;
/// The longest delay given to either stream, in seconds.
const MAX_DELAY: f64 = 0.5;
/// The largest change of a delay at once, in seconds: larger ones are seen and heard.
const STEP: f64 = 0.040;

/// How long to hold back each stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncDelays {
    /// Added before sound is played.
    pub audio: Duration,
    /// Added before a picture is shown.
    pub video: Duration,
}

#[derive(Debug, Default)]
struct Stream {
    unwrapper: Unwrapper32,
    /// Seconds of the sender's clock, and the extended timestamp of that moment.
    report: Option<(f64, i64)>,
    /// Smoothed seconds from capture to presentation, between two clocks that are not in step.
    transit: Option<f64>,
}

impl Stream {
    fn on_report(&mut self, ntp: u64, timestamp: u32) {
        let seconds = (ntp >> 32) as f64 + (ntp & 0xffff_ffff) as f64 / 4_294_967_296.0;
        self.report = Some((seconds, self.unwrapper.unwrap(timestamp)));
    }

    fn on_presented(&mut self, at: f64, timestamp: u32, clock_rate: u32) {
        let timestamp = self.unwrapper.unwrap(timestamp);
        let Some((seconds, reported)) = self.report else { return };
        let captured = seconds + (timestamp - reported) as f64 / f64::from(clock_rate.max(1));
        let transit = at - captured;
        self.transit = Some(match self.transit {
            // A report that moved the sender's clock, rather than a late frame.
            Some(smoothed) if (transit - smoothed).abs() < 2.0 => smoothed + (transit - smoothed) / 16.0,
            _ => transit,
        });
    }
}

/// Keeps sound and picture of one remote participant together.
#[derive(Debug)]
pub struct LipSync {
    base: Instant,
    audio_rate: u32,
    video_rate: u32,
    audio: Stream,
    video: Stream,
    /// Seconds by which the picture is held back; negative: the sound.
    offset: f64,
}

impl LipSync {
    /// Starts without delays. Both rates are of the RTP timestamps, in Hz.
    pub fn new(now: Instant, audio_rate: u32, video_rate: u32) -> Self {
        Self {
            base: now,
            audio_rate,
            video_rate,
            audio: Stream::default(),
            video: Stream::default(),
            offset: 0.0,
        }
    }

    /// Notes a sender report of the sound: its 64-bit NTP time and RTP timestamp.
    pub fn on_audio_report(&mut self, ntp: u64, timestamp: u32) {
        self.audio.on_report(ntp, timestamp);
    }

    /// Notes a sender report of the picture: its 64-bit NTP time and RTP timestamp.
    pub fn on_video_report(&mut self, ntp: u64, timestamp: u32) {
        self.video.on_report(ntp, timestamp);
    }

    /// Notes that sound of this timestamp is heard at `at`, our delay included.
    pub fn on_audio_played(&mut self, at: Instant, timestamp: u32) {
        let at = at.saturating_duration_since(self.base).as_secs_f64();
        self.audio.on_presented(at, timestamp, self.audio_rate);
    }

    /// Notes that a picture of this timestamp is seen at `at`, our delay included.
    pub fn on_video_shown(&mut self, at: Instant, timestamp: u32) {
        let at = at.saturating_duration_since(self.base).as_secs_f64();
        self.video.on_presented(at, timestamp, self.video_rate);
    }

    /// How far the sound is behind the picture, in seconds; negative when it is ahead. `None` until both streams
    /// have sender reports and were presented.
    pub fn skew(&self) -> Option<f64> {
        Some(self.audio.transit? - self.video.transit?)
    }

    /// The delays to use. Ask about once a second: each call moves them by 40 ms at most, and not at all while the
    /// skew is within −20 ms (sound ahead) to +60 ms (sound behind).
    pub fn update(&mut self) -> SyncDelays {
        if let Some(skew) = self.skew()
            && !(-AUDIO_AHEAD..=AUDIO_BEHIND).contains(&skew)
        {
            let middle = (AUDIO_BEHIND - AUDIO_AHEAD) / 2.0;
            let step = (skew - middle).clamp(-STEP, STEP);
            let moved = (self.offset + step).clamp(-MAX_DELAY, MAX_DELAY);
            // What was measured included the old delays.
            let (audio_before, video_before) = (-self.offset.min(0.0), self.offset.max(0.0));
            self.offset = moved;
            let shift = |transit: &mut Option<f64>, by: f64| *transit = transit.map(|transit| transit + by);
            shift(&mut self.audio.transit, -moved.min(0.0) - audio_before);
            shift(&mut self.video.transit, moved.max(0.0) - video_before);
        }
        SyncDelays {
            audio: Duration::from_secs_f64((-self.offset).max(0.0)),
            video: Duration::from_secs_f64(self.offset.max(0.0)),
        }
    }
}
