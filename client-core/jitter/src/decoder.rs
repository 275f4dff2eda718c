//! What the buffer asks of a codec.

/// A decoder of one sender's mono sound at 48 kHz. Each way appends its samples to `out` and returns how many.
pub trait AudioDecoder {
    /// Why a frame could not be decoded; the buffer conceals its time.
    type Error;

    /// Decodes a packet.
    ///
    /// # Errors
    /// The payload is no packet of this codec.
    fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<usize, Self::Error>;

    /// Decodes what `payload` carries about the `samples` before its own time.
    ///
    /// # Errors
    /// The payload is no packet of this codec.
    fn decode_fec(
        &mut self,
        payload: &[u8],
        samples: usize,
        out: &mut Vec<f32>,
    ) -> Result<usize, Self::Error>;

    /// Continues the sound by `samples` of the decoder's own invention. `samples` is a multiple of 120 up to 960.
    ///
    /// # Errors
    /// The decoder cannot; the buffer plays silence.
    fn conceal(&mut self, samples: usize, out: &mut Vec<f32>) -> Result<usize, Self::Error>;

    /// Whether `payload` carries repair data for the packet before it. A codec that cannot tell says yes, which costs delay while packets
    /// are lost.
    fn has_fec(&self, payload: &[u8]) -> bool {
        let _ = payload;
        true
    }
}
