//! One sender's packets, and what stands in for those that never came.

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use opusic_sys as sys;

use super::{Channels, MAX_PACKET_BYTES, MAX_PACKET_SAMPLES, OK, OpusError, SAMPLE_RATE};

/// Opus fills and repairs in steps of 2.5 ms.
const FILL_STEP: usize = 120;

/// An Opus decoder. Mono packets come out in stereo and the reverse, as the decoder was made.
#[derive(Debug)]
pub struct Decoder {
    state: NonNull<sys::OpusDecoder>,
    channels: Channels,
}

// SAFETY: the state is plain memory of this decoder alone, libopus ties it to no thread, and every call on it needs `&mut self`.
#[expect(unsafe_code, reason = "libopus is a C library")]
unsafe impl Send for Decoder {}

impl Decoder {
    /// A decoder for one sender.
    ///
    /// # Errors
    /// No memory.
    #[expect(unsafe_code, reason = "libopus is a C library")]
    pub fn new(channels: Channels) -> Result<Self, OpusError> {
        let mut code = OK;
        // SAFETY: the numbers are valid for libopus, and `code` outlives the call.
        let state = unsafe { sys::opus_decoder_create(SAMPLE_RATE as i32, channels.raw(), &raw mut code) };
        let state = NonNull::new(state).ok_or(OpusError::NotStarted(code))?;
        Ok(Self { state, channels })
    }

    /// Appends a packet's sound to `out`; returns its samples per channel.
    ///
    /// # Errors
    /// Not an Opus packet; `out` is as before.
    pub fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<usize, OpusError> {
        check(payload)?;
        self.run(Some(payload), MAX_PACKET_SAMPLES, false, out)
    }

    /// Appends what `payload` carries about the `samples` (per channel) just before its own time. Without repair data in it, this is
    /// concealment: see [`Decoder::has_fec`].
    ///
    /// # Errors
    /// Not an Opus packet, or a length that is no multiple of 120 up to 5,760; `out` is as before.
    pub fn decode_fec(
        &mut self,
        payload: &[u8],
        samples: usize,
        out: &mut Vec<f32>,
    ) -> Result<usize, OpusError> {
        check(payload)?;
        check_fill(samples)?;
        self.run(Some(payload), samples, true, out)
    }

    /// Appends `samples` per channel that continue the sound so far; after a pause began, its background noise.
    ///
    /// # Errors
    /// A length that is no multiple of 120 up to 5,760; `out` is as before.
    pub fn conceal(&mut self, samples: usize, out: &mut Vec<f32>) -> Result<usize, OpusError> {
        check_fill(samples)?;
        self.run(None, samples, false, out)
    }

    /// Whether the packet carries repair data for the packet before it.
    #[must_use]
    #[expect(unsafe_code, reason = "libopus is a C library")]
    pub fn has_fec(payload: &[u8]) -> bool {
        if check(payload).is_err() {
            return false;
        }
        // SAFETY: the payload is not empty (checked above; libopus reads its first byte unasked) and has the length given.
        unsafe { sys::opus_packet_has_lbrr(payload.as_ptr(), payload.len() as i32) == 1 }
    }

    #[expect(unsafe_code, reason = "libopus is a C library")]
    fn run(
        &mut self,
        payload: Option<&[u8]>,
        samples: usize,
        fec: bool,
        out: &mut Vec<f32>,
    ) -> Result<usize, OpusError> {
        let (data, length) =
            payload.map_or((ptr::null(), 0), |payload| (payload.as_ptr(), payload.len() as i32));
        let start = out.len();
        let channels = self.channels.count();
        out.resize(start + samples * channels, 0.0);
        // SAFETY: the state is alive; `data` has `length` bytes, or is null, which asks for concealment; `out` has room for `samples` of
        // all channels behind `start` (resized above), and libopus writes no more than that.
        let code = unsafe {
            sys::opus_decode_float(
                self.state.as_ptr(),
                data,
                length,
                out[start..].as_mut_ptr(),
                samples as c_int,
                c_int::from(fec),
            )
        };
        let decoded = usize::try_from(code).ok().filter(|decoded| *decoded <= samples);
        out.truncate(start + decoded.unwrap_or(0) * channels);
        decoded.ok_or(OpusError::Packet(code))
    }
}

impl Drop for Decoder {
    #[expect(unsafe_code, reason = "libopus is a C library")]
    fn drop(&mut self) {
        // SAFETY: made by opus_decoder_create, destroyed once.
        unsafe { sys::opus_decoder_destroy(self.state.as_ptr()) };
    }
}

/// An empty payload would mean "conceal" to libopus.
fn check(payload: &[u8]) -> Result<(), OpusError> {
    match payload.len() {
        0 => Err(OpusError::Packet(sys::OPUS_INVALID_PACKET)),
        1..=MAX_PACKET_BYTES => Ok(()),
        length => Err(OpusError::PacketTooLong(length)),
    }
}

fn check_fill(samples: usize) -> Result<(), OpusError> {
    let good = (FILL_STEP..=MAX_PACKET_SAMPLES).contains(&samples) && samples.is_multiple_of(FILL_STEP);
    if good { Ok(()) } else { Err(OpusError::FillLength(samples)) }
}
