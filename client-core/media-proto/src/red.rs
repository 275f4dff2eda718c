//! Redundant audio of RFC 2198: each packet repeats earlier Opus frames, so that a lost one is still heard.

use std::collections::VecDeque;

use bytes::Bytes;
use thiserror::Error;

/// Earlier frames that a packet can repeat.
pub const MAX_COPIES: usize = 2;
/// The largest repeated frame in bytes: the field has ten bits.
const MAX_BLOCK: usize = 0x3ff;
/// The oldest repeated frame in timestamp units: the field has fourteen bits, 341 ms at 48 kHz.
const MAX_OFFSET: u32 = 0x3fff;
/// Repeated frames a received packet may have.
const MAX_RECEIVED: usize = 16;

/// A payload that is not RED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RedError {
    /// The payload ends inside a header or a block.
    #[error("the RED payload of {0} bytes is cut short; drop the packet")]
    Short(usize),
    /// The payload announces more blocks than any sender makes.
    #[error("the RED payload repeats more than {MAX_RECEIVED} frames; drop the packet")]
    TooMany,
}

/// One frame inside a RED packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedBlock {
    /// RTP payload type of the frame.
    pub payload_type: u8,
    /// RTP timestamp of the frame.
    pub timestamp: u32,
    /// The encoded frame.
    pub data: Bytes,
}

/// The contents of a RED packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedPayload {
    /// The frame that is sent for the first time.
    pub primary: RedBlock,
    /// Earlier frames, the oldest first; senders that have none yet leave blocks empty, which are not listed.
    pub redundant: Vec<RedBlock>,
}

impl RedPayload {
    /// Reads the payload of an RTP packet with this timestamp.
    ///
    /// # Errors
    /// [`RedError`] when the payload is cut short or announces too many blocks.
    pub fn parse(payload: &Bytes, timestamp: u32) -> Result<Self, RedError> {
        let short = RedError::Short(payload.len());
        let mut headers = Vec::new();
        let mut at = 0;
        let primary_type = loop {
            let header = &payload[at..];
            match *header {
                [first, ..] if first & 0x80 == 0 => break first,
                [first, a, b, c, ..] => {
                    let fields = u32::from_be_bytes([0, a, b, c]);
                    headers.push((first & 0x7f, fields >> 10, (fields & 0x3ff) as usize));
                    at += 4;
                }
                _ => return Err(short),
            }
            if headers.len() > MAX_RECEIVED {
                return Err(RedError::TooMany);
            }
        };
        at += 1;
        let mut redundant = Vec::with_capacity(headers.len());
        for (payload_type, offset, length) in headers {
            let end = at + length;
            if end > payload.len() {
                return Err(short);
            }
            if length > 0 {
                let timestamp = timestamp.wrapping_sub(offset);
                redundant.push(RedBlock { payload_type, timestamp, data: payload.slice(at..end) });
            }
            at = end;
        }
        let primary = RedBlock { payload_type: primary_type, timestamp, data: payload.slice(at..) };
        Ok(Self { primary, redundant })
    }
}

/// Writes the RED payloads of one link.
#[derive(Debug, Default)]
pub struct RedWriter {
    copies: usize,
    earlier: VecDeque<(u32, Bytes)>,
}

impl RedWriter {
    /// Sets how many earlier frames each packet repeats, at most [`MAX_COPIES`].
    pub fn set_copies(&mut self, copies: usize) {
        self.copies = copies.min(MAX_COPIES);
    }

    /// The payload for a frame of this RTP timestamp; `payload_type` is that of Opus, at most 127.
    pub fn write(&mut self, payload_type: u8, timestamp: u32, frame: &Bytes) -> Bytes {
        let repeated: Vec<_> = self
            .earlier
            .iter()
            .skip(self.earlier.len().saturating_sub(self.copies))
            .map(|(earlier, data)| (timestamp.wrapping_sub(*earlier), data))
            .filter(|(offset, data)| (1..=MAX_OFFSET).contains(offset) && data.len() <= MAX_BLOCK)
            .collect();
        let mut payload = Vec::with_capacity(
            1 + frame.len() + repeated.iter().map(|(_, data)| 4 + data.len()).sum::<usize>(),
        );
        for (offset, data) in &repeated {
            let fields = offset << 10 | data.len() as u32;
            payload.push(0x80 | payload_type);
            payload.extend_from_slice(&fields.to_be_bytes()[1..]);
        }
        payload.push(payload_type & 0x7f);
        repeated.iter().for_each(|(_, data)| payload.extend_from_slice(data));
        payload.extend_from_slice(frame);
        if self.earlier.len() == MAX_COPIES {
            self.earlier.pop_front();
        }
        self.earlier.push_back((timestamp, frame.clone()));
        payload.into()
    }
}
