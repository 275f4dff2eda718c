//! What happened to the sound.

/// Counters since the buffer was made. Sample counts are at 48 kHz.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitterStats {
    /// Samples given out.
    pub played: u64,
    /// Samples of them that were invented by the decoder in place of lost or late packets.
    pub concealed: u64,
    /// Samples of them that are the background noise of a pause.
    pub comfort: u64,
    /// Lost frames that were decoded from repair data in the packet behind.
    pub fec: u64,
    /// Lost frames that were decoded from a copy in a later packet.
    pub red: u64,
    /// Samples taken out to lower the delay.
    pub accelerated: u64,
    /// Samples put in to raise the delay.
    pub expanded: u64,
    /// Packets that came after their time had been played.
    pub late: u64,
    /// Frames of which nothing had come when they were due, and which no repair data covered.
    pub lost: u64,
    /// Packets that had come before.
    pub duplicates: u64,
    /// Packets thrown away: no room, too old to catch up, or of a timestamp that fits no stream.
    pub discarded: u64,
    /// Packets that the decoder refused.
    pub damaged: u64,
    /// Times that the sender began anew.
    pub restarts: u64,
}
