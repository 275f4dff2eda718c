//! Safe wrappers of the codecs that are C libraries: pictures and sound in, bytes out, and back.
//! It never opens a device, a file or a socket, never keeps time, and never lets a pointer out.
//! Its shells are `snug-video` and `snug-audio`, which know layers, cameras and buffers.
//!
//! All `unsafe` code of the client's core is here. Bytes given to a decoder come from other participants: sizes are checked before the
//! library sees them, and after a damaged frame a decoder refuses everything up to the next key frame.

#[cfg(feature = "h264")]
pub mod h264;
#[cfg(feature = "opus")]
pub mod opus;
pub mod picture;
#[cfg(feature = "vpx")]
pub mod vpx;
