//! What is said: blocks from the microphone, cleaned, encoded once for everybody.

use std::time::Duration;

use bytes::Bytes;
use snug_codec::opus::{Encoder, EncoderConfig, FRAME_SAMPLES, OpusError};

use crate::apm::{Apm, Processing};
use crate::level::{SILENCE_DB, VoiceDetector, level_db};
use crate::{BLOCK, BLOCK_TIME};

/// Samples of a frame: 20 ms.
const FRAME: usize = FRAME_SAMPLES;

/// One encoded frame of 20 ms, for every link.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedAudio {
    /// The Opus frame.
    pub payload: Bytes,
    /// RTP timestamp at 48 kHz; it runs on while nothing is sent.
    pub timestamp: u32,
    /// Whether it sounds like speech.
    pub voice: bool,
    /// Loudness in dB below full scale, for RFC 6464.
    pub level_db: f32,
}

/// In a pause every so many frames one is sent: 400 ms, well below the time after which a silent link counts as broken.
const SIGN_OF_LIFE: u32 = 19;

pub(crate) struct Capture {
    pub(crate) apm: Apm,
    encoder: Encoder,
    frame: Vec<f32>,
    timestamp: u32,
    muted: bool,
    level_db: f32,
    detector: VoiceDetector,
    voice: bool,
    paused: bool,
    /// Frames of the pause that were not sent since the last one that was.
    held_back: u32,
    encoded: u64,
    failed: u64,
}

impl Capture {
    pub(crate) fn new(processing: Processing, bitrate: u32, muted: bool) -> Result<Self, OpusError> {
        Ok(Self {
            apm: Apm::new(processing),
            encoder: Encoder::new(EncoderConfig { bitrate, ..EncoderConfig::voice() })?,
            frame: Vec::with_capacity(FRAME),
            timestamp: 0,
            muted,
            level_db: SILENCE_DB,
            detector: VoiceDetector::default(),
            voice: false,
            paused: false,
            held_back: 0,
            encoded: 0,
            failed: 0,
        })
    }

    pub(crate) fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
    }

    pub(crate) fn set_bitrate(&mut self, bitrate: u32) {
        if let Err(error) = self.encoder.set_bitrate(bitrate) {
            tracing::warn!(%error, bitrate, "the bitrate of sound stays as it is");
        }
    }

    pub(crate) fn set_loss_percent(&mut self, percent: u8) {
        if let Err(error) = self.encoder.set_loss_percent(percent) {
            tracing::warn!(%error, percent, "the loss that sound is sent for stays as it is");
        }
    }

    /// Takes the next block; hands out a frame with every second one, unless nothing is said. While muted that is silence: a
    /// frame of it now and then shows the others that we are still there.
    pub(crate) fn push(&mut self, mut block: [f32; BLOCK], echo_delay: Duration) -> Option<EncodedAudio> {
        self.apm.capture(&mut block, echo_delay);
        if self.muted {
            block.fill(0.0);
        }
        self.level_db = level_db(&block);
        self.voice = self.detector.push(self.level_db);
        self.frame.extend_from_slice(&block);
        if self.frame.len() < FRAME {
            return None;
        }
        let timestamp = self.timestamp;
        self.timestamp = timestamp.wrapping_add(FRAME as u32);
        let encoded = self.encode(timestamp);
        self.frame.clear();
        encoded
    }

    /// Lets time pass that no microphone filled.
    pub(crate) fn skip(&mut self, time: Duration) {
        let frames = time.as_millis() / (2 * BLOCK_TIME.as_millis());
        self.timestamp = self.timestamp.wrapping_add((frames as u32).wrapping_mul(FRAME as u32));
        self.frame.clear();
        self.level_db = SILENCE_DB;
        self.voice = false;
    }

    pub(crate) fn state(&self) -> CaptureState {
        CaptureState {
            level_db: self.level_db,
            speaking: self.voice,
            muted: self.muted,
            encoded: self.encoded,
            failed: self.failed,
            echo_canceller_rebuilt: self.apm.rebuilt(),
        }
    }

    fn encode(&mut self, timestamp: u32) -> Option<EncodedAudio> {
        match self.encoder.encode(&self.frame) {
            // The first frame of a pause tells the receiver of it, and one now and then that we are still there; the others say nothing.
            Ok(encoded) if encoded.silent && self.paused && self.held_back < SIGN_OF_LIFE => {
                self.held_back += 1;
                None
            }
            Ok(encoded) => {
                self.paused = encoded.silent;
                self.held_back = 0;
                self.encoded += 1;
                let payload = Bytes::copy_from_slice(encoded.payload);
                Some(EncodedAudio { payload, timestamp, voice: self.voice, level_db: level_db(&self.frame) })
            }
            Err(error) => {
                self.failed += 1;
                tracing::warn!(%error, "a frame was not encoded");
                None
            }
        }
    }
}

/// How the own microphone does.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureState {
    /// Loudness of the last block in dB below full scale, after processing; silence while muted.
    pub level_db: f32,
    /// Whether it sounds like speech.
    pub speaking: bool,
    /// Whether nothing is sent on purpose.
    pub muted: bool,
    /// Frames handed out.
    pub encoded: u64,
    /// Frames that could not be encoded.
    pub failed: u64,
    /// How often the echo canceller failed and started again.
    pub echo_canceller_rebuilt: u64,
}
