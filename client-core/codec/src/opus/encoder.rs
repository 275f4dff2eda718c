//! One sound, encoded once for all who hear it.

use std::ffi::c_int;
use std::ptr::NonNull;

use opusic_sys as sys;

use super::{Channels, FRAME_SAMPLES, MAX_PACKET_BYTES, OK, OpusError, SAMPLE_RATE};

/// What an [`Encoder`] starts with.
#[derive(Clone, Copy, Debug)]
pub struct EncoderConfig {
    /// Mono for voices, stereo for the sound of a screen.
    pub channels: Channels,
    /// Bits per second, 6,000–510,000. 32,000 is very good speech.
    pub bitrate: u32,
    /// 0–10; quality falls steeply below 5.
    pub complexity: u8,
    /// Send almost nothing while nobody speaks.
    pub dtx: bool,
    /// Put a coarse copy of each frame into the next packet, as much as the declared loss is worth. Costs nothing at a declared loss of 0.
    pub fec: bool,
}

impl EncoderConfig {
    /// A voice: mono, 32 kbit/s, complexity 9, silence suppressed, repair data by the declared loss.
    #[must_use]
    pub const fn voice() -> Self {
        Self { channels: Channels::Mono, bitrate: 32_000, complexity: 9, dtx: true, fec: true }
    }
}

/// One encoded frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded<'a> {
    /// The packet's payload.
    pub payload: &'a [u8],
    /// The frame belongs to a pause. The first such frame must be sent, for it tells the receiver that a pause begins; those that follow
    /// need not be.
    pub silent: bool,
}

/// An Opus encoder, 20 ms at a time.
#[derive(Debug)]
pub struct Encoder {
    state: NonNull<sys::OpusEncoder>,
    channels: Channels,
    output: Box<[u8; MAX_PACKET_BYTES]>,
}

// SAFETY: the state is plain memory of this encoder alone, libopus ties it to no thread, and every call on it needs `&mut self`.
#[expect(unsafe_code, reason = "libopus is a C library")]
unsafe impl Send for Encoder {}

impl Encoder {
    /// An encoder with these settings and a declared loss of 0.
    ///
    /// # Errors
    /// No memory, or a setting outside its range.
    #[expect(unsafe_code, reason = "libopus is a C library")]
    pub fn new(config: EncoderConfig) -> Result<Self, OpusError> {
        let mut code = OK;
        // SAFETY: the numbers are valid for libopus, and `code` outlives the call.
        let state = unsafe {
            sys::opus_encoder_create(
                SAMPLE_RATE as i32,
                config.channels.raw(),
                sys::OPUS_APPLICATION_VOIP,
                &raw mut code,
            )
        };
        let state = NonNull::new(state).ok_or(OpusError::NotStarted(code))?;
        let mut encoder = Self { state, channels: config.channels, output: Box::new([0; MAX_PACKET_BYTES]) };
        encoder.set_bitrate(config.bitrate)?;
        encoder.set(sys::OPUS_SET_COMPLEXITY_REQUEST, "complexity", i32::from(config.complexity))?;
        encoder.set(sys::OPUS_SET_DTX_REQUEST, "dtx", i32::from(config.dtx))?;
        encoder.set(sys::OPUS_SET_INBAND_FEC_REQUEST, "fec", i32::from(config.fec))?;
        Ok(encoder)
    }

    /// Bits per second from the next frame on.
    ///
    /// # Errors
    /// Outside 6,000–510,000.
    pub fn set_bitrate(&mut self, bitrate: u32) -> Result<(), OpusError> {
        let value = i32::try_from(bitrate).unwrap_or(i32::MAX);
        if !(6_000..=510_000).contains(&value) {
            return Err(OpusError::Setting { what: "bitrate", value });
        }
        self.set(sys::OPUS_SET_BITRATE_REQUEST, "bitrate", value)
    }

    /// The share of packets that gets lost, in percent. The repair data grows and the sound's own quality falls with it: declare no more
    /// than was measured.
    ///
    /// # Errors
    /// Above 100.
    pub fn set_loss_percent(&mut self, percent: u8) -> Result<(), OpusError> {
        self.set(sys::OPUS_SET_PACKET_LOSS_PERC_REQUEST, "loss_percent", i32::from(percent))
    }

    /// Encodes one frame of [`FRAME_SAMPLES`] samples per channel.
    ///
    /// # Errors
    /// Another length, or libopus failed.
    #[expect(unsafe_code, reason = "libopus is a C library")]
    pub fn encode(&mut self, pcm: &[f32]) -> Result<Encoded<'_>, OpusError> {
        let wanted = FRAME_SAMPLES * self.channels.count();
        if pcm.len() != wanted {
            return Err(OpusError::FrameLength { wanted, got: pcm.len() });
        }
        // SAFETY: the state is alive; `pcm` holds exactly one frame of all channels (checked above); the output has the length given.
        let length = unsafe {
            sys::opus_encode_float(
                self.state.as_ptr(),
                pcm.as_ptr(),
                FRAME_SAMPLES as c_int,
                self.output.as_mut_ptr(),
                MAX_PACKET_BYTES as i32,
            )
        };
        let payload = usize::try_from(length)
            .ok()
            .and_then(|length| self.output.get(..length))
            .ok_or(OpusError::Encode(length))?;
        Ok(Encoded { payload, silent: payload.len() <= 2 })
    }

    #[expect(unsafe_code, reason = "libopus is a C library")]
    fn set(&mut self, request: c_int, what: &'static str, value: i32) -> Result<(), OpusError> {
        // SAFETY: the state is alive, and each request used here takes one 32-bit integer.
        let code = unsafe { sys::opus_encoder_ctl(self.state.as_ptr(), request, value) };
        if code == OK { Ok(()) } else { Err(OpusError::Setting { what, value }) }
    }
}

impl Drop for Encoder {
    #[expect(unsafe_code, reason = "libopus is a C library")]
    fn drop(&mut self) {
        // SAFETY: made by opus_encoder_create, destroyed once.
        unsafe { sys::opus_encoder_destroy(self.state.as_ptr()) };
    }
}
