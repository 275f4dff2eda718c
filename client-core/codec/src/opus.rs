//! Opus at 48 kHz: sound in, packets out ([`Encoder`]); packets, repair data and nothing at all in, sound out ([`Decoder`]).
//! It never queues, reorders or times packets, and never trusts a byte of a packet. Its shell is `snug-audio`; who calls which of the
//! decoder's three ways is `snug-jitter`'s decision.
//!
//! Samples are `f32` in −1…1, interleaved when there are two channels. A *sample* below is one per channel.

mod decoder;
mod encoder;

use std::ffi::c_int;

use opusic_sys as sys;
use thiserror::Error;

pub use decoder::Decoder;
pub use encoder::{Encoded, Encoder, EncoderConfig};

/// Samples per second of every encoder and decoder.
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples of one encoded frame: 20 ms.
pub const FRAME_SAMPLES: usize = 960;
/// The longest packet that Opus knows: 120 ms.
pub const MAX_PACKET_SAMPLES: usize = 5_760;
/// The most bytes that an [`Encoder`] makes of one frame, and the most that a [`Decoder`] takes.
pub const MAX_PACKET_BYTES: usize = 1_276;

/// How many channels the sound has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One: a voice.
    Mono,
    /// Two, interleaved: the sound of a shared screen.
    Stereo,
}

impl Channels {
    /// 1 or 2.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }

    const fn raw(self) -> c_int {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }
}

/// Why Opus refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpusError {
    /// libopus has no memory for its state.
    #[error("libopus could not be started (code {0}): free some memory and try again")]
    NotStarted(i32),
    /// The settings are outside of what Opus takes.
    #[error("libopus refused {what} = {value}: give a value within the documented range")]
    Setting {
        /// The setting's name.
        what: &'static str,
        /// The value that was refused.
        value: i32,
    },
    /// The sound is not exactly one frame.
    #[error("{got} values given, one frame has {wanted}: give 20 ms at 48 kHz")]
    FrameLength {
        /// Values of one frame, all channels.
        wanted: usize,
        /// Values given.
        got: usize,
    },
    /// The packet cannot be decoded.
    #[error("this is no Opus packet (code {0}): drop it and conceal its time")]
    Packet(i32),
    /// The packet is longer than any packet of a call.
    #[error("a packet of {0} bytes is longer than {MAX_PACKET_BYTES}: drop it and conceal its time")]
    PacketTooLong(usize),
    /// A length to fill that Opus cannot fill.
    #[error("{0} samples cannot be concealed: ask for a multiple of 120 up to {MAX_PACKET_SAMPLES}")]
    FillLength(usize),
    /// The encoder failed on a valid frame.
    #[error("the frame could not be encoded (code {0}): leave it out and go on with the next")]
    Encode(i32),
}

/// Which codes of libopus say "done".
const OK: c_int = sys::OPUS_OK;
