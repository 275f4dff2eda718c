//! Audio jitter buffer: packets in whenever the network brings them, 10 ms of sound out whenever the speaker asks.
//! It never reads a clock, opens a device, starts a thread or decodes by itself: time and the decoder are arguments.
//! Its shell is `snug-audio`, one buffer for each sound that is received.
//!
//! - Packets are told apart by their timestamps; repeated copies (RED) fill holes. Sequence numbers tell a pause from a loss.
//! - *Delay* is what the buffer adds: how long after the fastest recent packet would have made it possible a sample is played. The
//!   [target](JitterBuffer::target_delay) follows the 97th percentile of how much later than the fastest the packets come, plus the
//!   distance of the copies that come, or of repair data while packets are being lost.
//! - The delay is moved to the target by cutting or repeating single periods of the sound, at most a tenth of the time; in pauses of the
//!   speaker at once. A delay that is a little too long waits for a pause, since it harms less than a cut; one that is too short does not.
//! - A hole is filled by a copy, by repair data of the packet or copy behind it, or by the decoder's concealment, in this order.

mod buffer;
mod decoder;
mod delay;
mod loss;
mod stats;
mod stretch;

use std::time::Duration;

use bytes::Bytes;

pub use buffer::JitterBuffer;
pub use decoder::AudioDecoder;
pub use stats::JitterStats;

/// Samples per second, of timestamps too.
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples of one [`JitterBuffer::pull`]: 10 ms.
pub const PULL_SAMPLES: usize = 480;

/// What a [`JitterBuffer`] is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JitterConfig {
    /// The target is never below; 20 ms cover the steps of packets and of pulls.
    pub min_delay: Duration,
    /// The target before the network is known.
    pub start_delay: Duration,
    /// The target is never above; sound that has become older is left out.
    pub max_delay: Duration,
    /// Packets held at most, copies included; with more, the oldest go.
    pub max_packets: usize,
}

impl Default for JitterConfig {
    fn default() -> Self {
        Self {
            min_delay: Duration::from_millis(20),
            start_delay: Duration::from_millis(40),
            max_delay: Duration::from_secs(1),
            max_packets: 128,
        }
    }
}

/// One encoded frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// RTP sequence number; `None` for a copy that came inside a later packet.
    pub sequence: Option<u16>,
    /// RTP timestamp of the frame, at 48 kHz.
    pub timestamp: u32,
    /// The encoded frame.
    pub payload: Bytes,
    /// The frame came as a copy inside a later packet.
    pub redundant: bool,
}
