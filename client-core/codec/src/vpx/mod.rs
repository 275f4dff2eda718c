//! VP8 by libvpx, set for calls: one thread (its row threads spin and cost several times the CPU), constant rate, real-time deadline.

mod decoder;
mod encoder;

use std::ffi::CStr;

use vpx_sys as sys;

pub use decoder::Vp8Decoder;
pub use encoder::{Vp8Content, Vp8Encoder, Vp8EncoderConfig, Vp8Frame};

/// Why libvpx could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VpxError {
    /// The size is not between 2×2 and the limits of [`crate::picture`], or not even (encoder).
    #[error(
        "a picture of {width}x{height} is not taken: use even sides up to 4096 and at most 4096x2304 pixels"
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
    /// The frame's bytes are not VP8, or damaged.
    #[error("a damaged VP8 frame ({0}): ask the sender for a key frame")]
    Damaged(String),
    /// The library refused something else.
    #[error("libvpx refuses to {action}: {reason}; check that libvpx is complete (1.8 or later)")]
    Library {
        /// What was asked of it.
        action: &'static str,
        /// What it answered.
        reason: String,
    },
}

fn check(action: &'static str, code: sys::vpx_codec_err_t) -> Result<(), VpxError> {
    if code == sys::vpx_codec_err_t::VPX_CODEC_OK {
        return Ok(());
    }
    Err(VpxError::Library { action, reason: describe(code) })
}

#[expect(unsafe_code, reason = "the library's words for an error are a C string")]
fn describe(code: sys::vpx_codec_err_t) -> String {
    // SAFETY: the function takes any code and answers with a pointer to a constant.
    let words = unsafe { sys::vpx_codec_err_to_string(code) };
    // SAFETY: a constant of the library, terminated, and never null.
    unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
}
