//! The encoder.

#![expect(unsafe_code, reason = "the rate of a running encoder is an option of the C library only")]

use openh264::OpenH264API;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, Profile, RateControlMode, UsageType,
};
use openh264::formats::YUVSlices;
use openh264_sys2 as sys;

use super::H264Error;
use crate::picture::{Picture, plane_size};

/// Sides of a picture that the library takes, in pixels: the longer and the shorter one.
const LARGEST: (u32, u32) = (3840, 2160);
const SMALLEST: u32 = 16;

/// What an encoder is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264EncoderConfig {
    /// Columns, even.
    pub width: u32,
    /// Rows, even.
    pub height: u32,
    /// Frames a second.
    pub frame_rate: u32,
    /// Target rate in bit/s.
    pub bitrate: u32,
    /// A screen rather than a camera.
    pub screen: bool,
}

/// A compressed picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct H264Frame {
    /// NAL units with start codes (Annex B); a key frame brings its parameter sets along.
    pub data: Vec<u8>,
    /// Decodable on its own.
    pub key: bool,
}

/// An H.264 encoder. Its memory is freed with it.
pub struct H264Encoder {
    encoder: Encoder,
    config: H264EncoderConfig,
    bitrate_is_due: bool,
}

impl H264Encoder {
    /// An encoder whose first frame will be a key frame.
    ///
    /// # Errors
    /// [`H264Error::Size`], or [`H264Error::Library`] when it has no memory.
    pub fn new(config: H264EncoderConfig) -> Result<Self, H264Error> {
        let H264EncoderConfig { width, height, .. } = config;
        let (longer, shorter) = (width.max(height), width.min(height));
        let even = width.is_multiple_of(2) && height.is_multiple_of(2);
        if !even || longer > LARGEST.0 || shorter > LARGEST.1 || shorter < SMALLEST {
            return Err(H264Error::Size { width, height });
        }
        let usage =
            if config.screen { UsageType::ScreenContentRealTime } else { UsageType::CameraVideoRealTime };
        let settings = EncoderConfig::new()
            .bitrate(BitRate::from_bps(config.bitrate))
            .max_frame_rate(FrameRate::from_hz(config.frame_rate as f32))
            .rate_control_mode(RateControlMode::Bitrate)
            .skip_frames(true)
            .profile(Profile::Baseline)
            .complexity(Complexity::Low)
            .usage_type(usage)
            .num_threads(1);
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), settings)
            .map_err(H264Error::library("start an encoder"))?;
        Ok(Self { encoder, config, bitrate_is_due: false })
    }

    /// Encodes one picture. `None` when the rate control leaves it out.
    ///
    /// # Errors
    /// [`H264Error::Picture`] when it is not of the encoder's size, [`H264Error::Library`] when the library fails.
    pub fn encode(&mut self, picture: &Picture<'_>, force_key: bool) -> Result<Option<H264Frame>, H264Error> {
        let H264EncoderConfig { width, height, .. } = self.config;
        if (picture.width, picture.height) != (width, height) || !picture.is_complete() {
            return Err(H264Error::Picture { width, height });
        }
        let lent = |index: usize| {
            let rows = plane_size(width, height, index).1;
            let plane = &picture.planes[index];
            plane.samples.get(..plane.stride * rows).ok_or(H264Error::Picture { width, height })
        };
        let strides = (picture.planes[0].stride, picture.planes[1].stride, picture.planes[2].stride);
        let slices =
            YUVSlices::new((lent(0)?, lent(1)?, lent(2)?), (width as usize, height as usize), strides);
        if force_key {
            self.encoder.force_intra_frame();
        }
        let encoded = self.encoder.encode(&slices).map_err(H264Error::library("encode a picture"))?;
        let kind = encoded.frame_type();
        let data = encoded.to_vec();
        if self.bitrate_is_due {
            self.apply_bitrate()?;
        }
        match kind {
            FrameType::IDR => Ok(Some(H264Frame { data, key: true })),
            FrameType::I | FrameType::P | FrameType::IPMixed => Ok(Some(H264Frame { data, key: false })),
            FrameType::Skip | FrameType::Invalid => Ok(None),
        }
    }

    /// Changes the target rate, in bit/s, from the next picture but one on: the library starts with the first picture.
    pub fn set_bitrate(&mut self, bitrate: u32) {
        self.config.bitrate = bitrate;
        self.bitrate_is_due = true;
    }

    fn apply_bitrate(&mut self) -> Result<(), H264Error> {
        let bitrate = i32::try_from(self.config.bitrate).unwrap_or(i32::MAX);
        // The most comes first: the library refuses a target above it.
        for option in [sys::ENCODER_OPTION_MAX_BITRATE, sys::ENCODER_OPTION_BITRATE] {
            let mut info = sys::SBitrateInfo { iLayer: sys::SPATIAL_LAYER_ALL, iBitrate: bitrate };
            // SAFETY: the raw encoder is used for this one option, which nothing in the wrapper relies on.
            let raw = unsafe { self.encoder.raw_api() };
            // SAFETY: the encoder was initialised by the picture before; both options take a pointer to a `SBitrateInfo`, which the
            // library copies during the call.
            let code = unsafe { raw.set_option(option, (&raw mut info).cast()) };
            if code != 0 {
                return Err(H264Error::Library { action: "change the rate", reason: code.to_string() });
            }
        }
        self.bitrate_is_due = false;
        Ok(())
    }
}
