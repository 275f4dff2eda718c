//! Sound of a call: devices and files, echo cancelling, one Opus encoding for everybody, playout of many remotes.
//! Never opens a socket and knows no rooms: encoded frames go out by a callback, received ones come in by a call.
//! Its shells are `snug-core` and, where the platform has sound of its own, whoever implements [`io::AudioIo`].

use std::time::Duration;

mod apm;
mod capture;
mod decoder;
mod engine;
pub mod io;
mod keeper;
mod level;
mod playout;
mod priority;
mod resample;
mod riff;
mod wav;

pub use apm::{Apm, Processing};
pub use capture::{CaptureState, EncodedAudio};
pub use engine::{AudioConfig, AudioEngine, AudioError, AudioEvent, AudioSnapshot, CommandError};
pub use level::SILENCE_DB;
pub use playout::{IncomingAudio, PayloadKind, RemoteId, RemoteState};
pub use wav::create_beside;

/// Samples a second everywhere inside.
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples of a block: 10 ms.
pub const BLOCK: usize = 480;
/// Time of a block.
pub const BLOCK_TIME: Duration = Duration::from_millis(10);
