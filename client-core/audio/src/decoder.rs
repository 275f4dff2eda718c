//! Opus as the jitter buffer wants it.

use snug_codec::opus::{Channels, Decoder as Opus, OpusError};
use snug_jitter::AudioDecoder;

pub(crate) struct Decoder(Opus);

impl Decoder {
    pub(crate) fn new() -> Result<Self, OpusError> {
        Opus::new(Channels::Mono).map(Self)
    }
}

impl AudioDecoder for Decoder {
    type Error = OpusError;

    fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<usize, OpusError> {
        self.0.decode(payload, out)
    }

    fn decode_fec(&mut self, payload: &[u8], samples: usize, out: &mut Vec<f32>) -> Result<usize, OpusError> {
        self.0.decode_fec(payload, samples, out)
    }

    fn conceal(&mut self, samples: usize, out: &mut Vec<f32>) -> Result<usize, OpusError> {
        self.0.conceal(samples, out)
    }

    fn has_fec(&self, payload: &[u8]) -> bool {
        Opus::has_fec(payload)
    }
}
