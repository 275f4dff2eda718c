//! The resolutions a picture is encoded in, once each for all links.

use bytes::Bytes;

/// One encoded resolution of a video track.
///
/// Ordered by quality: `Low < Medium < High`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// 320×180 at 15 frames a second: strips, large calls, bad links.
    Low,
    /// 640×360 at 30 frames a second: grid tiles.
    Medium,
    /// 1280×720 at 30 frames a second: the speaker, a pinned tile, calls of two.
    High,
}

impl Layer {
    /// All layers, the smallest first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// Width and height in pixels.
    pub const fn size(self) -> (u32, u32) {
        match self {
            Self::Low => (320, 180),
            Self::Medium => (640, 360),
            Self::High => (1280, 720),
        }
    }

    /// Frames a second with both temporal layers.
    pub const fn frame_rate(self) -> u32 {
        match self {
            Self::Low => 15,
            Self::Medium | Self::High => 30,
        }
    }

    /// The lowest bit rate worth encoding at, in bit/s.
    pub const fn min_bps(self) -> u64 {
        match self {
            Self::Low => 80_000,
            Self::Medium => 250_000,
            Self::High => 600_000,
        }
    }

    /// The bit rate above which the picture gains nothing visible, in bit/s.
    pub const fn max_bps(self) -> u64 {
        match self {
            Self::Low => 130_000,
            Self::Medium => 450_000,
            Self::High => 1_500_000,
        }
    }

    /// The part of `bps` that temporal layer 0 alone needs: 60 % of it, for half the frames.
    pub const fn base_bps(bps: u64) -> u64 {
        bps * 3 / 5
    }
}

/// A compressed picture, shared by all links that forward it.
#[derive(Debug, Clone)]
pub struct EncodedFrame {
    /// The resolution it was encoded for.
    pub layer: Layer,
    /// Temporal layer: 0 is needed by every later frame, 1 may be left out.
    pub temporal: u8,
    /// A frame of temporal layer 1 that refers to layer 0 only: whoever left layer 1 out may take it up here.
    pub sync: bool,
    /// Decodable without any earlier frame.
    pub key: bool,
    /// Capture time on a 90 kHz clock that all layers share.
    pub timestamp: u32,
    /// The VP8 bitstream of the frame.
    pub data: Bytes,
}
