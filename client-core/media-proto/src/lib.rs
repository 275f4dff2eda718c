//! What one link does to media between codec and network: cutting and assembling frames, repair, pacing, bandwidth.
//! It never reads a clock, opens a socket, starts a thread or rolls dice: time and seeds are arguments.
//! Its shell is the peer connection (`snug-rtc`); the codecs and devices live in `snug-video` and `snug-audio`.

pub mod assemble;
pub mod container;
pub mod estimate;
pub mod keys;
pub mod layer;
pub mod nack;
pub mod pacer;
pub mod packetize;
pub mod red;
pub mod rtx;
pub mod section;
mod sequence;
pub mod stats;
pub mod switch;
pub mod sync;
pub mod uplink;
pub mod vp8;
