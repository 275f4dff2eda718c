//! VP8 by libvpx, behind the codec traits.

use std::time::Instant;

use bytes::Bytes;
use snug_codec::vpx::{Vp8Content, Vp8Decoder, Vp8Encoder, Vp8EncoderConfig, VpxError};

use crate::codec::{
    CodecError, Content, EncodedPicture, EncoderSettings, VideoCodecs, VideoDecoder, VideoEncoder,
};
use crate::frame::{FrameError, FramePool, I420Frame};

/// VP8 in software: libvpx.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vp8Codecs;

impl VideoCodecs for Vp8Codecs {
    fn encoder(&self, settings: &EncoderSettings) -> Result<Box<dyn VideoEncoder>, CodecError> {
        let EncoderSettings { width, height, frame_rate, bitrate, content } = *settings;
        let content = match content {
            Content::Camera => Vp8Content::Camera,
            Content::Screen => Vp8Content::Screen,
        };
        let config = Vp8EncoderConfig { width, height, frame_rate, bitrate, content };
        Ok(Box::new(Encoder(Vp8Encoder::new(config)?)))
    }

    fn decoder(&self) -> Result<Box<dyn VideoDecoder>, CodecError> {
        Ok(Box::new(Decoder { decoder: Vp8Decoder::new()?, pool: FramePool::default() }))
    }
}

struct Encoder(Vp8Encoder);

impl VideoEncoder for Encoder {
    fn encode(
        &mut self,
        frame: &I420Frame,
        timestamp: u32,
        force_key: bool,
    ) -> Result<Option<EncodedPicture>, CodecError> {
        let encoded = self.0.encode(&frame.picture(), timestamp, force_key)?;
        Ok(encoded.map(|frame| EncodedPicture {
            data: Bytes::from(frame.data),
            key: frame.key,
            temporal: frame.temporal,
            // The upper layer only ever refers to the base.
            sync: frame.temporal > 0,
        }))
    }

    fn set_bitrate(&mut self, bitrate: u32) -> Result<(), CodecError> {
        Ok(self.0.set_bitrate(bitrate)?)
    }
}

struct Decoder {
    decoder: Vp8Decoder,
    pool: FramePool,
}

impl VideoDecoder for Decoder {
    fn decode(&mut self, data: &[u8], at: Instant) -> Result<Option<I420Frame>, CodecError> {
        let Some(picture) = self.decoder.decode(data)? else { return Ok(None) };
        Ok(Some(self.pool.copy(&picture, at)?))
    }
}

impl From<VpxError> for CodecError {
    fn from(error: VpxError) -> Self {
        match error {
            VpxError::KeyFrameNeeded => Self::KeyFrameNeeded,
            VpxError::Damaged(what) => Self::Damaged(what),
            VpxError::Size { width, height } => Self::Size(FrameError { width, height }),
            VpxError::Picture { .. } | VpxError::Library { .. } => Self::Failed(error.to_string()),
        }
    }
}
