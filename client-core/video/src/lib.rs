//! Pictures: where they come from, how they are scaled and encoded once per layer, how they are decoded, recorded and compared.
//! It never touches the network, never renders, and knows neither rooms nor links; time is only read by sources and to measure load.
//! Its shell is `snug-core`, which runs a source and a [`LayeredEncoder`] on one thread and a decoder per remote picture on others.
//!
//! ```text
//! VideoSource ── SharedFrame ── LayeredEncoder ── EncodedFrame (one per wanted layer) ── all links
//! a link ── encoded frame ── VideoDecoder ── SharedFrame ── screen, recorder
//! ```
//! Cameras and codecs are traits, so that a shell can bring its own.

mod codec;
mod frame;
#[cfg(feature = "h264")]
mod h264;
mod layers;
#[cfg(feature = "camera")]
mod mjpeg;
pub mod pixel;
pub mod quality;
mod record;
mod slot;
pub mod sources;
#[cfg(feature = "vpx")]
mod vp8;

pub use codec::{
    CodecError, Content, EncodedPicture, EncoderSettings, VideoCodecs, VideoDecoder, VideoEncoder,
};
pub use frame::{FrameError, FramePool, I420Frame, SharedFrame};
#[cfg(feature = "h264")]
pub use h264::H264Codecs;
pub use layers::{LayeredEncoder, ScreenEncoder, rtp_timestamp};
pub use record::{IvfRecorder, RecordError, Y4mRecorder};
pub use slot::EncodeStats;
pub use sources::{SourceError, Stop, VideoSource};
#[cfg(feature = "vpx")]
pub use vp8::Vp8Codecs;
