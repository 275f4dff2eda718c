//! One encoder of one resolution, which exists only while somebody wants it.

use std::time::{Duration, Instant};

use crate::codec::{CodecError, Content, EncodedPicture, EncoderSettings, VideoCodecs, VideoEncoder};
use crate::frame::I420Frame;

/// Requests of one moment are answered by one key frame together: the next one comes after this. Who may
/// ask how often is not decided here (`snug_media_proto::keys`).
const MOMENT: Duration = Duration::from_millis(100);
/// How long an encoder that nobody wants is kept: a receiver that resizes its window comes back within it.
const LINGER: Duration = Duration::from_secs(2);

/// Counters of one encoder since its layer was first wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeStats {
    /// Pictures given to the encoder.
    pub encodes: u64,
    /// Key frames among them.
    pub key_frames: u64,
    /// Pictures that the rate control left out.
    pub dropped: u64,
    /// Bytes that came out.
    pub bytes: u64,
    /// Time spent encoding.
    pub time: Duration,
}

/// An encoder, its target and the key frame it owes.
#[derive(Default)]
pub(crate) struct Slot {
    running: Option<Running>,
    /// Bit/s; `None` while nobody wants it.
    target: Option<u32>,
    /// A key frame is owed.
    key_wanted: bool,
    last_key: Option<Instant>,
    unwanted_since: Option<Instant>,
    next_due: Option<Instant>,
    stats: EncodeStats,
}

struct Running {
    encoder: Box<dyn VideoEncoder>,
    size: (u32, u32),
}

impl Slot {
    pub(crate) fn set_target(&mut self, target: Option<u32>) {
        if self.target.is_none() && target.is_some() {
            self.next_due = None;
        }
        self.target = target;
        if target.is_some() {
            self.unwanted_since = None;
        }
    }

    pub(crate) fn request_key(&mut self) {
        self.key_wanted = true;
    }

    pub(crate) fn stats(&self) -> EncodeStats {
        self.stats
    }

    /// Whether a picture of this time is to be encoded, at this many frames a second. Frees an encoder that has not been wanted for a while.
    pub(crate) fn is_due(&mut self, captured: Instant, frame_rate: u32) -> bool {
        if self.target.is_none() {
            if captured.saturating_duration_since(*self.unwanted_since.get_or_insert(captured)) >= LINGER {
                self.running = None;
            }
            return false;
        }
        let interval = Duration::from_secs(1) / frame_rate;
        let Some(due) = self.next_due else {
            self.next_due = Some(captured + interval);
            return true;
        };
        // Cameras do not tick evenly: a picture a little early is the one that is due.
        if captured + interval / 4 < due {
            return false;
        }
        // A little late, the rhythm is kept; after a pause it starts over.
        let late = captured.saturating_duration_since(due) >= interval;
        self.next_due = Some(if late { captured } else { due } + interval);
        true
    }

    pub(crate) fn encode(
        &mut self,
        codecs: &dyn VideoCodecs,
        content: Content,
        frame_rate: u32,
        frame: &I420Frame,
        timestamp: u32,
    ) -> Result<Option<EncodedPicture>, CodecError> {
        let Some(bitrate) = self.target else { return Ok(None) };
        let started = Instant::now();
        let (width, height) = (frame.width(), frame.height());
        let running = match &mut self.running {
            Some(running) if running.size == (width, height) => running,
            slot => {
                let settings = EncoderSettings { width, height, frame_rate, bitrate, content };
                slot.insert(Running { encoder: codecs.encoder(&settings)?, size: (width, height) })
            }
        };
        running.encoder.set_bitrate(bitrate)?;
        let since = |then| frame.captured().saturating_duration_since(then);
        let key = self.key_wanted && self.last_key.is_none_or(|then| since(then) >= MOMENT);
        let picture = running.encoder.encode(frame, timestamp, key);
        self.stats.encodes += 1;
        self.stats.time += started.elapsed();
        let picture = match picture {
            Ok(picture) => picture,
            Err(error) => {
                // A broken encoder is not asked again; the next picture gets another.
                self.running = None;
                return Err(error);
            }
        };
        match &picture {
            Some(picture) => {
                self.stats.bytes += picture.data.len() as u64;
                if picture.key {
                    self.stats.key_frames += 1;
                    self.last_key = Some(frame.captured());
                    self.key_wanted = false;
                }
            }
            None => self.stats.dropped += 1,
        }
        Ok(picture)
    }
}
