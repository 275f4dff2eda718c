//! What the rest asks of a codec. libvpx is one answer ([`crate::Vp8Codecs`]); a shell may bring its own, such as a phone's hardware.

use std::time::Instant;

use bytes::Bytes;

use crate::frame::{FrameError, I420Frame};

/// Why a picture could not be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The decoder has nothing to refer to.
    #[error("only a key frame can be decoded here: ask the sender for one")]
    KeyFrameNeeded,
    /// The bytes are not a frame.
    #[error("a damaged frame ({0}): ask the sender for a key frame")]
    Damaged(String),
    /// The picture is of a size that is not handled.
    #[error(transparent)]
    Size(#[from] FrameError),
    /// The codec itself failed.
    #[error("the video codec failed ({0}): make another one, or send sound only")]
    Failed(String),
}

/// What pictures show; people and text are compressed differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A camera.
    Camera,
    /// A screen: sharp text matters more than its rate.
    Screen,
}

/// What an encoder is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderSettings {
    /// Columns, even.
    pub width: u32,
    /// Rows, even.
    pub height: u32,
    /// Frames a second.
    pub frame_rate: u32,
    /// Target rate in bit/s.
    pub bitrate: u32,
    /// What the pictures show.
    pub content: Content,
}

/// A compressed picture, before anybody says which layer it is.
#[derive(Clone, Debug)]
pub struct EncodedPicture {
    /// The frame's bytes, VP8.
    pub data: Bytes,
    /// Decodable on its own.
    pub key: bool,
    /// 0 is needed by later frames, 1 may be left out.
    pub temporal: u8,
    /// Whoever follows temporal layer 0 only may take up layer 1 with this frame.
    pub sync: bool,
}

/// Compresses pictures of one size.
pub trait VideoEncoder: Send {
    /// Encodes one picture; the first becomes a key frame, as does one with `force_key`. `timestamp` counts 90,000 a second and
    /// wraps. `None`: the rate control left it out.
    ///
    /// # Errors
    /// When the picture is not of the encoder's size, or the codec fails.
    fn encode(
        &mut self,
        frame: &I420Frame,
        timestamp: u32,
        force_key: bool,
    ) -> Result<Option<EncodedPicture>, CodecError>;

    /// Changes the target rate, in bit/s, from the next picture on.
    ///
    /// # Errors
    /// When the codec fails.
    fn set_bitrate(&mut self, bitrate: u32) -> Result<(), CodecError>;
}

/// Restores pictures from frames in their order.
pub trait VideoDecoder: Send {
    /// Decodes one frame; `at` becomes the picture's time. `None`: nothing to be shown.
    ///
    /// # Errors
    /// Damaged bytes, or no key frame yet. The decoder stays usable: the next key frame starts over.
    fn decode(&mut self, data: &[u8], at: Instant) -> Result<Option<I420Frame>, CodecError>;
}

/// Makes encoders and decoders.
pub trait VideoCodecs: Send + Sync {
    /// An encoder.
    ///
    /// # Errors
    /// When the size is not handled, or the codec is not there.
    fn encoder(&self, settings: &EncoderSettings) -> Result<Box<dyn VideoEncoder>, CodecError>;

    /// A decoder.
    ///
    /// # Errors
    /// When the codec is not there.
    fn decoder(&self) -> Result<Box<dyn VideoDecoder>, CodecError>;
}
