//! Decides per link which encoded frames it forwards, so that the receiver sees one unbroken stream.

use crate::layer::{EncodedFrame, Layer};
use crate::vp8::{Descriptor, PictureId, Temporal};

/// How far a capture time may step back before it counts as another clock: one second of 90 kHz.
const CLOCK_JUMP: i32 = 90_000;
/// The distance given to frames on both sides of such a jump: a thirtieth of a second.
const FRAME_STEP: u32 = 3_000;

/// What a link should get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The resolution.
    pub layer: Layer,
    /// The highest temporal layer: 0 halves the frame rate, 1 is everything.
    pub temporal: u8,
}

/// The header of a frame that a link forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarded {
    /// The link's own descriptor, to be given to [`SlicedFrame::payloads`](crate::packetize::SlicedFrame::payloads).
    pub descriptor: Descriptor,
    /// The link's own RTP timestamp, 90 kHz.
    pub timestamp: u32,
}

/// Switches one link between layers.
///
/// The old layer goes on until a key frame of the wanted one arrives. PictureID, TL0PICIDX and timestamps continue
/// over every switch, pause and dropped temporal layer, as if one encoder had made the stream.
#[derive(Debug)]
pub struct LayerSwitch {
    target: Option<Target>,
    current: Option<Layer>,
    /// The highest temporal layer being forwarded.
    temporal: u8,
    picture_id: PictureId,
    tl0_pic_idx: u8,
    offset: u32,
    last_timestamp: Option<u32>,
}

impl LayerSwitch {
    /// Starts with nothing forwarded. `seed` gives random first numbers, which RFC 3550 asks for.
    pub fn new(seed: u64) -> Self {
        Self {
            target: None,
            current: None,
            temporal: 0,
            picture_id: PictureId::Long((seed >> 48) as u16 & 0x7fff),
            tl0_pic_idx: (seed >> 40) as u8,
            offset: seed as u32,
            last_timestamp: None,
        }
    }

    /// Sets what the link should get; `None` stops it.
    pub fn set_target(&mut self, target: Option<Target>) {
        self.target = target;
        match target {
            None => self.current = None,
            Some(target) => self.temporal = self.temporal.min(target.temporal),
        }
    }

    /// The layer being forwarded.
    pub fn current(&self) -> Option<Layer> {
        self.current
    }

    /// Forwards nothing until the next key frame: for when frames were lost before they left this machine.
    pub fn restart(&mut self) {
        self.current = None;
    }

    /// The layer that a key frame is needed of to reach the target.
    pub fn wants_key_frame(&self) -> Option<Layer> {
        let wanted = self.target?.layer;
        (self.current != Some(wanted)).then_some(wanted)
    }

    /// The header for this link if it forwards the frame.
    pub fn select(&mut self, frame: &EncodedFrame) -> Option<Forwarded> {
        let target = self.target?;
        if frame.key && frame.layer == target.layer {
            self.current = Some(frame.layer);
            self.temporal = target.temporal;
        }
        if self.current != Some(frame.layer) {
            return None;
        }
        if frame.temporal > self.temporal {
            if frame.temporal > target.temporal || !frame.sync {
                return None;
            }
            self.temporal = frame.temporal;
        }
        self.picture_id = self.picture_id.next();
        if frame.temporal == 0 {
            self.tl0_pic_idx = self.tl0_pic_idx.wrapping_add(1);
        }
        Some(Forwarded {
            descriptor: Descriptor {
                picture_id: Some(self.picture_id),
                tl0_pic_idx: Some(self.tl0_pic_idx),
                temporal: Some(Temporal { id: frame.temporal, sync: frame.sync && frame.temporal > 0 }),
                ..Descriptor::default()
            },
            timestamp: self.timestamp(frame.timestamp),
        })
    }

    /// Two layers of one picture share a capture time, yet receivers tell frames apart by timestamp alone.
    fn timestamp(&mut self, captured: u32) -> u32 {
        let mut timestamp = captured.wrapping_add(self.offset);
        if let Some(last) = self.last_timestamp {
            let step = timestamp.wrapping_sub(last) as i32;
            if step < -CLOCK_JUMP {
                timestamp = last.wrapping_add(FRAME_STEP);
                self.offset = timestamp.wrapping_sub(captured);
            } else if step <= 0 {
                timestamp = last.wrapping_add(1);
            }
        }
        self.last_timestamp = Some(timestamp);
        timestamp
    }
}
