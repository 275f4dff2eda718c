//! Cuts a frame into payloads of about equal size, once for all links.

use bytes::Bytes;

use crate::vp8::Descriptor;

/// The largest payload in bytes, descriptor included: leaves room for RTP, its extensions, SRTP, a TURN header
/// and RTX within 1,280 bytes of IPv6.
pub const MAX_PAYLOAD: usize = 1_180;

/// A payload ready for an RTP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingPayload {
    /// Descriptor and data.
    pub payload: Bytes,
    /// Set on the last payload of the frame.
    pub marker: bool,
}

/// A frame cut into pieces that all links share.
#[derive(Debug, Clone)]
pub struct SlicedFrame {
    pieces: Vec<Bytes>,
}

impl SlicedFrame {
    /// Cuts a frame without copying it. An empty frame has no pieces.
    ///
    /// Equal sizes matter: a short last packet costs as much overhead as a long one, and loss hits whole packets.
    pub fn new(data: &Bytes) -> Self {
        let room = MAX_PAYLOAD - Descriptor::MAX_LEN;
        let count = data.len().div_ceil(room);
        let pieces = (0..count)
            .map(|index| data.slice(data.len() * index / count..data.len() * (index + 1) / count))
            .collect();
        Self { pieces }
    }

    /// Payloads for one link, each with the link's own descriptor; `start` is set on the first alone.
    pub fn payloads(&self, descriptor: Descriptor) -> Vec<OutgoingPayload> {
        let last = self.pieces.len().saturating_sub(1);
        self.pieces
            .iter()
            .enumerate()
            .map(|(index, piece)| {
                let mut payload = Vec::with_capacity(Descriptor::MAX_LEN + piece.len());
                Descriptor { start: index == 0, partition: 0, ..descriptor }.write(&mut payload);
                payload.extend_from_slice(piece);
                OutgoingPayload { payload: payload.into(), marker: index == last }
            })
            .collect()
    }
}
