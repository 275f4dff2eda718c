//! The VP8 payload descriptor of RFC 7741 §4.2 and the frame header behind it.

use thiserror::Error;

/// A payload that is not VP8 in RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Vp8Error {
    /// The descriptor ends before the fields that it announces.
    #[error("the VP8 descriptor needs {needed} bytes but the packet has {found}; drop the packet")]
    Short {
        /// Bytes the announced fields take.
        needed: usize,
        /// Bytes there are.
        found: usize,
    },
}

/// The number of a picture, in one of the two widths that senders use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureId {
    /// Seven bits: wraps after 127.
    Short(u8),
    /// Fifteen bits: wraps after 32,767.
    Long(u16),
}

impl PictureId {
    /// The number that follows, in the same width.
    pub const fn next(self) -> Self {
        match self {
            Self::Short(value) => Self::Short(value.wrapping_add(1) & 0x7f),
            Self::Long(value) => Self::Long(value.wrapping_add(1) & 0x7fff),
        }
    }
}

/// The temporal layer of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Temporal {
    /// The layer, 0–3.
    pub id: u8,
    /// Y bit: the picture refers to pictures of layer 0 only.
    pub sync: bool,
}

/// What stands before the VP8 data of each packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// N bit: no other picture refers to this one.
    pub non_reference: bool,
    /// S bit: the packet begins a partition.
    pub start: bool,
    /// The partition, 0–7. A picture begins where partition 0 begins.
    pub partition: u8,
    /// The picture's number.
    pub picture_id: Option<PictureId>,
    /// Counts the pictures of temporal layer 0; the others repeat it.
    pub tl0_pic_idx: Option<u8>,
    /// The picture's temporal layer.
    pub temporal: Option<Temporal>,
    /// Key frame index, 0–31.
    pub key_index: Option<u8>,
}

impl Descriptor {
    /// The longest descriptor in bytes.
    pub const MAX_LEN: usize = 6;

    /// Reads a descriptor and says how many bytes it took.
    ///
    /// # Errors
    /// [`Vp8Error::Short`] when the packet ends inside the descriptor.
    pub fn parse(payload: &[u8]) -> Result<(Self, usize), Vp8Error> {
        let mut reader = Reader { payload, at: 0 };
        let first = reader.byte()?;
        let mut descriptor = Self {
            non_reference: first & 0x20 != 0,
            start: first & 0x10 != 0,
            partition: first & 0x07,
            ..Self::default()
        };
        if first & 0x80 != 0 {
            let extension = reader.byte()?;
            if extension & 0x80 != 0 {
                let high = reader.byte()?;
                descriptor.picture_id = Some(if high & 0x80 == 0 {
                    PictureId::Short(high)
                } else {
                    PictureId::Long(u16::from(high & 0x7f) << 8 | u16::from(reader.byte()?))
                });
            }
            if extension & 0x40 != 0 {
                descriptor.tl0_pic_idx = Some(reader.byte()?);
            }
            if extension & 0x30 != 0 {
                let byte = reader.byte()?;
                if extension & 0x20 != 0 {
                    descriptor.temporal = Some(Temporal { id: byte >> 6, sync: byte & 0x20 != 0 });
                }
                if extension & 0x10 != 0 {
                    descriptor.key_index = Some(byte & 0x1f);
                }
            }
        }
        Ok((descriptor, reader.at))
    }

    /// Appends the descriptor to `out`. Values that are too large for their field lose their high bits.
    pub fn write(&self, out: &mut Vec<u8>) {
        let extended = self.picture_id.is_some()
            || self.tl0_pic_idx.is_some()
            || self.temporal.is_some()
            || self.key_index.is_some();
        out.push(
            u8::from(extended) << 7
                | u8::from(self.non_reference) << 5
                | u8::from(self.start) << 4
                | self.partition & 0x07,
        );
        if !extended {
            return;
        }
        out.push(
            u8::from(self.picture_id.is_some()) << 7
                | u8::from(self.tl0_pic_idx.is_some()) << 6
                | u8::from(self.temporal.is_some()) << 5
                | u8::from(self.key_index.is_some()) << 4,
        );
        match self.picture_id {
            Some(PictureId::Short(value)) => out.push(value & 0x7f),
            Some(PictureId::Long(value)) => {
                out.extend_from_slice(&(value | 0x8000).to_be_bytes());
            }
            None => {}
        }
        out.extend(self.tl0_pic_idx);
        if self.temporal.is_some() || self.key_index.is_some() {
            let temporal =
                self.temporal.map_or(0, |temporal| (temporal.id & 0x03) << 6 | u8::from(temporal.sync) << 5);
            out.push(temporal | self.key_index.unwrap_or(0) & 0x1f);
        }
    }

    /// Whether the packet is the first one of its picture.
    pub const fn begins_picture(&self) -> bool {
        self.start && self.partition == 0
    }
}

struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Vp8Error> {
        let byte = *self
            .payload
            .get(self.at)
            .ok_or(Vp8Error::Short { needed: self.at + 1, found: self.payload.len() })?;
        self.at += 1;
        Ok(byte)
    }
}

/// Whether a VP8 frame, given from its first byte, can be decoded by itself (RFC 6386 §9.1).
pub fn is_key_frame(frame: &[u8]) -> bool {
    frame.first().is_some_and(|byte| byte & 1 == 0)
}

/// Width and height in pixels of a key frame, or `None` for any other data (RFC 6386 §9.1).
pub fn key_frame_size(frame: &[u8]) -> Option<(u16, u16)> {
    let header: &[u8; 10] = frame.first_chunk()?;
    let starts = is_key_frame(frame) && header[3..6] == [0x9d, 0x01, 0x2a];
    let dimension = |low: u8, high: u8| u16::from_le_bytes([low, high]) & 0x3fff;
    starts.then(|| (dimension(header[6], header[7]), dimension(header[8], header[9])))
}
