//! The decoder. What it is given comes from other participants.

use openh264::OpenH264API;
use openh264::decoder::{Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource as _;

use super::H264Error;
use crate::picture::{Picture, Plane, is_size_taken};

/// Largest frame that is decoded, in bytes.
const MAX_FRAME: usize = 8 << 20;
/// `nal_unit_type` of a slice of a key frame (H.264 table 7-1).
const IDR_SLICE: u8 = 5;

/// An H.264 decoder. Its memory is freed with it.
pub struct H264Decoder {
    decoder: Decoder,
    /// The references are whole: frames that refer to them can be decoded.
    whole: bool,
}

impl H264Decoder {
    /// A decoder that waits for a key frame.
    ///
    /// # Errors
    /// [`H264Error::Library`] when it has no memory.
    pub fn new() -> Result<Self, H264Error> {
        Ok(Self { decoder: start()?, whole: false })
    }

    /// Decodes a whole frame, Annex B, and lends its picture to `see`. `None` when it is not one to be shown.
    ///
    /// # Errors
    /// - [`H264Error::Damaged`]: not H.264, cut short or broken. Everything up to the next key frame is refused then.
    /// - [`H264Error::Size`]: larger than the limits of [`crate::picture`]; the library itself stops at level 5.2.
    /// - [`H264Error::KeyFrameNeeded`]: nothing to refer to.
    pub fn decode<R>(
        &mut self,
        frame: &[u8],
        see: impl FnOnce(&Picture<'_>) -> R,
    ) -> Result<Option<R>, H264Error> {
        if frame.len() > MAX_FRAME {
            self.whole = false;
            return Err(H264Error::Damaged("larger than any frame may be".into()));
        }
        let key = openh264::nal_units(frame).any(|unit| nal_unit_type(unit) == Some(IDR_SLICE));
        if !key && !self.whole {
            return Err(H264Error::KeyFrameNeeded);
        }
        if key && !self.whole {
            // After damage the library would go on with what is left of the references.
            self.decoder = start()?;
        }
        self.whole = false;
        let decoded = self.decoder.decode(frame).map_err(|error| H264Error::Damaged(error.to_string()))?;
        let Some(decoded) = decoded else {
            self.whole = true;
            return Ok(None);
        };
        let (width, height) = decoded.dimensions();
        let (width, height) = (width as u32, height as u32);
        if !is_size_taken(width, height) {
            return Err(H264Error::Size { width, height });
        }
        self.whole = true;
        let (luma, u, v) = decoded.strides();
        let planes = [
            Plane { samples: decoded.y(), stride: luma },
            Plane { samples: decoded.u(), stride: u },
            Plane { samples: decoded.v(), stride: v },
        ];
        Ok(Some(see(&Picture { width, height, planes })))
    }
}

fn start() -> Result<Decoder, H264Error> {
    // Nothing is held back: frames of a call are shown in the order of their decoding.
    let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
    Decoder::with_api_config(OpenH264API::from_source(), config)
        .map_err(H264Error::library("start a decoder"))
}

/// The type in the byte after the start code.
fn nal_unit_type(unit: &[u8]) -> Option<u8> {
    let body = unit.iter().position(|byte| *byte == 1)? + 1;
    unit.get(body).map(|byte| byte & 0x1f)
}
