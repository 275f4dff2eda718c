//! Takes retransmitted packets out of their RTX stream (RFC 4588 §4).

use std::collections::BTreeMap;

use bytes::Bytes;

/// How an RTX stream maps to the stream it repairs.
#[derive(Debug, Clone)]
pub struct RtxMapping {
    /// SSRC of the repaired stream.
    pub media_ssrc: u32,
    /// Payload type in the RTX stream → payload type in the repaired one.
    pub payload_types: BTreeMap<u8, u8>,
}

/// The original packet of a retransmission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwrapped {
    /// SSRC of the repaired stream.
    pub ssrc: u32,
    /// Payload type in the repaired stream.
    pub payload_type: u8,
    /// The original sequence number.
    pub sequence: u16,
    /// The original payload.
    pub payload: Bytes,
}

impl RtxMapping {
    /// The original packet, or `None` for padding (senders probe with it) and for unknown payload types.
    pub fn unwrap(&self, payload_type: u8, payload: &Bytes) -> Option<Unwrapped> {
        let payload_type = *self.payload_types.get(&payload_type)?;
        let &sequence = payload.first_chunk()?;
        Some(Unwrapped {
            ssrc: self.media_ssrc,
            payload_type,
            sequence: u16::from_be_bytes(sequence),
            payload: payload.slice(2..),
        })
    }
}
