//! H.264 (constrained baseline) by the bundled OpenH264: one thread, one temporal layer, Annex B frames.
//!
//! Calls speak VP8; this is for shells and peers that have nothing else. Whoever ships it should know that H.264 is covered by patents.

mod decoder;
mod encoder;

pub use decoder::H264Decoder;
pub use encoder::{H264Encoder, H264EncoderConfig, H264Frame};

/// Why OpenH264 could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum H264Error {
    /// The size is not between 16×16 and 3840×2160, not even (encoder), or larger than the limits of [`crate::picture`] (decoder).
    #[error(
        "a picture of {width}x{height} is not taken: use even sides from 16 and at most 3840x2160 pixels"
    )]
    Size {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The picture handed in is not of the encoder's size, or a plane is too short.
    #[error("the picture does not fit the encoder of {width}x{height}: scale it, or make another encoder")]
    Picture {
        /// Columns that the encoder was made for.
        width: u32,
        /// Rows that the encoder was made for.
        height: u32,
    },
    /// A decoder without a whole reference was given something else than a key frame.
    #[error("only a key frame can be decoded here: ask the sender for one")]
    KeyFrameNeeded,
    /// The frame's bytes are not H.264, or damaged.
    #[error("a damaged H.264 frame ({0}): ask the sender for a key frame")]
    Damaged(String),
    /// The library refused something else.
    #[error("OpenH264 refuses to {action}: {reason}; make another codec")]
    Library {
        /// What was asked of it.
        action: &'static str,
        /// What it answered.
        reason: String,
    },
}

impl H264Error {
    fn library(action: &'static str) -> impl Fn(openh264::Error) -> Self {
        move |error| Self::Library { action, reason: error.to_string() }
    }
}
