//! H.264 by OpenH264, behind the codec traits.

use std::time::Instant;

use bytes::Bytes;
use snug_codec::h264::{H264Decoder, H264Encoder, H264EncoderConfig, H264Error};

use crate::codec::{
    CodecError, Content, EncodedPicture, EncoderSettings, VideoCodecs, VideoDecoder, VideoEncoder,
};
use crate::frame::{FrameError, FramePool, I420Frame};

/// H.264 in software: OpenH264. It makes no temporal layers, and calls, whose links speak VP8, do not use it.
#[derive(Clone, Copy, Debug, Default)]
pub struct H264Codecs;

impl VideoCodecs for H264Codecs {
    fn encoder(&self, settings: &EncoderSettings) -> Result<Box<dyn VideoEncoder>, CodecError> {
        let EncoderSettings { width, height, frame_rate, bitrate, content } = *settings;
        let screen = content == Content::Screen;
        let config = H264EncoderConfig { width, height, frame_rate, bitrate, screen };
        Ok(Box::new(Encoder(H264Encoder::new(config)?)))
    }

    fn decoder(&self) -> Result<Box<dyn VideoDecoder>, CodecError> {
        Ok(Box::new(Decoder { decoder: H264Decoder::new()?, pool: FramePool::default() }))
    }
}

struct Encoder(H264Encoder);

impl VideoEncoder for Encoder {
    fn encode(
        &mut self,
        frame: &I420Frame,
        _timestamp: u32,
        force_key: bool,
    ) -> Result<Option<EncodedPicture>, CodecError> {
        let encoded = self.0.encode(&frame.picture(), force_key)?;
        Ok(encoded.map(|frame| EncodedPicture {
            data: Bytes::from(frame.data),
            key: frame.key,
            temporal: 0,
            sync: false,
        }))
    }

    fn set_bitrate(&mut self, bitrate: u32) -> Result<(), CodecError> {
        self.0.set_bitrate(bitrate);
        Ok(())
    }
}

struct Decoder {
    decoder: H264Decoder,
    pool: FramePool,
}

impl VideoDecoder for Decoder {
    fn decode(&mut self, data: &[u8], at: Instant) -> Result<Option<I420Frame>, CodecError> {
        let pool = &self.pool;
        Ok(self.decoder.decode(data, |picture| pool.copy(picture, at))?.transpose()?)
    }
}

impl From<H264Error> for CodecError {
    fn from(error: H264Error) -> Self {
        match error {
            H264Error::KeyFrameNeeded => Self::KeyFrameNeeded,
            H264Error::Damaged(what) => Self::Damaged(what),
            H264Error::Size { width, height } => Self::Size(FrameError { width, height }),
            H264Error::Picture { .. } | H264Error::Library { .. } => Self::Failed(error.to_string()),
        }
    }
}
