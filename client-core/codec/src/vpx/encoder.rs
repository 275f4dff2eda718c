//! The encoder: two temporal layers, of which the upper one is referred to by nothing.
//!
//! Frames alternate between the base (T0: refers to the T0 before) and the upper layer (T1: refers to that T0 too, and changes no
//! reference and no probabilities). So half of the frames can be left out or lost at any time, and whoever follows the base only can take
//! the upper layer from any frame on.

#![expect(unsafe_code, reason = "libvpx is a C library")]

use std::ffi::{c_int, c_ulong};
use std::mem::MaybeUninit;
use std::ptr;

use vpx_sys as sys;

use super::{VpxError, check};
use crate::picture::{Picture, is_size_taken};

/// Ticks a second of timestamps.
const CLOCK: u32 = 90_000;
/// Part of the rate that the base layer gets, in percent.
const BASE_PERCENT: u32 = 60;
/// Effort: the fastest that keeps its quality (−12 saves a quarter of the time for 0.4 dB, −4 doubles it for 0.1).
const CPU_USED: c_int = -6;
/// Pictures that the frame rate is averaged over, and the longest time between two that counts, in intervals of the announced rate.
const INTERVALS_SMOOTHED: f64 = 16.0;
const MOST_INTERVALS: f64 = 4.0;
/// Lowest rate that the rate control is asked for, in bit/s.
const MIN_BITRATE: u32 = 20_000;
/// Highest rate that the rate control is asked for, in bit/s.
const MAX_BITRATE: u32 = 20_000_000;

/// The frame refers to the last T0 alone and becomes the last T0.
const BASE_FLAGS: u32 = sys::VP8_EFLAG_NO_REF_GF
    | sys::VP8_EFLAG_NO_REF_ARF
    | sys::VP8_EFLAG_NO_UPD_GF
    | sys::VP8_EFLAG_NO_UPD_ARF;
/// The frame refers to the last T0 alone and leaves no trace.
const UPPER_FLAGS: u32 = sys::VP8_EFLAG_NO_REF_GF
    | sys::VP8_EFLAG_NO_REF_ARF
    | sys::VP8_EFLAG_NO_UPD_LAST
    | sys::VP8_EFLAG_NO_UPD_GF
    | sys::VP8_EFLAG_NO_UPD_ARF
    | sys::VP8_EFLAG_NO_UPD_ENTROPY;

/// What the pictures show: people and text are compressed differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vp8Content {
    /// A camera.
    Camera,
    /// A screen: sharp text matters more than its rate.
    Screen,
}

/// Settings of an encoder.
#[derive(Clone, Copy, Debug)]
pub struct Vp8EncoderConfig {
    /// Columns, even, 2 to 4096.
    pub width: u32,
    /// Rows, even, 2 to 4096.
    pub height: u32,
    /// Frames a second that will come, 1 to 120. Rates adapt to the timestamps; this is where they start.
    pub frame_rate: u32,
    /// Target in bit/s; below 20 kbit/s and above 20 Mbit/s it is brought into that range.
    pub bitrate: u32,
    /// What the pictures show.
    pub content: Vp8Content,
}

/// An encoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vp8Frame {
    /// The frame as RFC 6386 has it.
    pub data: Vec<u8>,
    /// Decodable on its own.
    pub key: bool,
    /// 0 for the base layer, 1 for the upper one.
    pub temporal: u8,
}

/// A VP8 encoder for pictures of one size. Its memory is freed with it.
pub struct Vp8Encoder {
    context: Box<sys::vpx_codec_ctx_t>,
    settings: Box<sys::vpx_codec_enc_cfg_t>,
    config: Vp8EncoderConfig,
    /// The library's own clock: timestamps wrap and jump, its presentation times may not.
    presentation: i64,
    /// Ticks between two pictures, smoothed.
    interval: f64,
    last_timestamp: Option<u32>,
    next_is_upper: bool,
}

// SAFETY: the context is owned by this value alone, and libvpx keeps no state per thread.
unsafe impl Send for Vp8Encoder {}

impl Vp8Encoder {
    /// An encoder whose first frame will be a key frame.
    ///
    /// # Errors
    /// [`VpxError::Size`] for odd or excessive sizes; [`VpxError::Library`] when libvpx has no VP8 or no memory.
    pub fn new(config: Vp8EncoderConfig) -> Result<Self, VpxError> {
        let Vp8EncoderConfig { width, height, .. } = config;
        if !is_size_taken(width, height) || !width.is_multiple_of(2) || !height.is_multiple_of(2) {
            return Err(VpxError::Size { width, height });
        }
        let config = Vp8EncoderConfig { frame_rate: config.frame_rate.clamp(1, 120), ..config };
        let settings = Box::new(settings(&config)?);
        let mut context = Box::new(MaybeUninit::<sys::vpx_codec_ctx_t>::zeroed());
        // SAFETY: the context is writable, the settings are initialised and copied by the library, the interface is a constant.
        check("start an encoder", unsafe {
            sys::vpx_codec_enc_init_ver(
                context.as_mut_ptr(),
                vp8(),
                &raw const *settings,
                0,
                sys::VPX_ENCODER_ABI_VERSION as c_int,
            )
        })?;
        // SAFETY: the call above has filled it in.
        let context = unsafe { context.assume_init() };
        let mut encoder = Self {
            context,
            settings,
            config,
            presentation: 0,
            interval: nominal(&config),
            last_timestamp: None,
            next_is_upper: false,
        };
        use sys::vp8e_enc_control_id as id;
        encoder.control("set the effort", id::VP8E_SET_CPUUSED, CPU_USED)?;
        encoder.control("set the static threshold", id::VP8E_SET_STATIC_THRESHOLD, 1)?;
        encoder.control("limit key frames", id::VP8E_SET_MAX_INTRA_BITRATE_PCT, 300)?;
        encoder.control("set the noise filter", id::VP8E_SET_NOISE_SENSITIVITY, 0)?;
        encoder.control("set the partitions", id::VP8E_SET_TOKEN_PARTITIONS, 0)?;
        let screen = c_int::from(config.content == Vp8Content::Screen);
        encoder.control("set the kind of content", id::VP8E_SET_SCREEN_CONTENT_MODE, screen)?;
        Ok(encoder)
    }

    /// Encodes a picture. `timestamp` counts 90,000 a second and may wrap; it is only used to see how much time has passed.
    /// `None` when the rate control leaves the frame out.
    ///
    /// # Errors
    /// [`VpxError::Picture`] when the picture is of another size; [`VpxError::Library`] when the library fails.
    pub fn encode(
        &mut self,
        picture: &Picture<'_>,
        timestamp: u32,
        force_key: bool,
    ) -> Result<Option<Vp8Frame>, VpxError> {
        let Vp8EncoderConfig { width, height, .. } = self.config;
        if (picture.width, picture.height) != (width, height) || !picture.is_complete() {
            return Err(VpxError::Picture { width, height });
        }
        let key = force_key || self.last_timestamp.is_none();
        let upper = self.next_is_upper && !key;
        if let Some(last) = self.last_timestamp.replace(timestamp) {
            self.pace(timestamp.wrapping_sub(last));
        }
        let interval = self.interval as u32;
        let flags = if key {
            sys::VPX_EFLAG_FORCE_KF
        } else if upper {
            UPPER_FLAGS
        } else {
            BASE_FLAGS
        };
        self.control(
            "choose the temporal layer",
            sys::vp8e_enc_control_id::VP8E_SET_TEMPORAL_LAYER_ID,
            upper.into(),
        )?;
        let image = wrap(picture)?;
        // SAFETY: the context is initialised; the image points into `picture`, which is complete, only read, and copied before the
        // call returns.
        check("encode a frame", unsafe {
            sys::vpx_codec_encode(
                &raw mut *self.context,
                &raw const image,
                self.presentation,
                c_ulong::from(interval),
                flags.into(),
                c_ulong::from(sys::VPX_DL_REALTIME),
            )
        })?;
        self.presentation += i64::from(interval);
        let frame = self.take_frame(u8::from(upper));
        if frame.is_some() {
            // After a frame left out, its layer has the next turn.
            self.next_is_upper = !upper;
        }
        Ok(frame)
    }

    /// Follows the source's frame rate slowly, `ticks` after the picture before. A picture after a gap would otherwise be given the whole
    /// gap's bits, and with temporal layers the library then sends more than twice its target; a change below a tenth it averages itself.
    fn pace(&mut self, ticks: u32) {
        let nominal = nominal(&self.config);
        let seen = f64::from(ticks).clamp(nominal / 2.0, nominal * MOST_INTERVALS);
        let change = (seen - self.interval) / INTERVALS_SMOOTHED;
        self.interval += change.clamp(-self.interval * 0.09, self.interval * 0.09);
    }

    /// Sets the target, in bit/s, from the next frame on. Brought into 20 kbit/s to 20 Mbit/s.
    ///
    /// # Errors
    /// [`VpxError::Library`] when the library refuses.
    pub fn set_bitrate(&mut self, bitrate: u32) -> Result<(), VpxError> {
        if bitrate == self.config.bitrate {
            return Ok(());
        }
        self.config.bitrate = bitrate;
        set_rates(&mut self.settings, bitrate);
        // SAFETY: the context is initialised, and the library copies the settings.
        check("change the rate", unsafe {
            sys::vpx_codec_enc_config_set(&raw mut *self.context, &raw const *self.settings)
        })
    }

    fn take_frame(&mut self, temporal: u8) -> Option<Vp8Frame> {
        let mut iterator: sys::vpx_codec_iter_t = ptr::null();
        let mut frame = None;
        loop {
            // SAFETY: the context is initialised, the iterator started at null and is only moved by the library.
            let packet = unsafe { sys::vpx_codec_get_cx_data(&raw mut *self.context, &raw mut iterator) };
            // SAFETY: null, or a packet that stays until the next call of the library with this context.
            let Some(packet) = (unsafe { packet.as_ref() }) else { return frame };
            if packet.kind != sys::vpx_codec_cx_pkt_kind::VPX_CODEC_CX_FRAME_PKT {
                continue;
            }
            // SAFETY: the kind says which member of the union is in use.
            let encoded = unsafe { packet.data.frame };
            if encoded.buf.is_null() || encoded.sz == 0 {
                continue;
            }
            // SAFETY: the library has written `sz` bytes at `buf`, which stay until its next call.
            let data = unsafe { std::slice::from_raw_parts(encoded.buf.cast::<u8>(), encoded.sz as usize) };
            let key = encoded.flags & sys::VPX_FRAME_IS_KEY != 0;
            frame = Some(Vp8Frame { data: data.to_vec(), key, temporal });
        }
    }

    fn control(
        &mut self,
        action: &'static str,
        control: sys::vp8e_enc_control_id,
        value: c_int,
    ) -> Result<(), VpxError> {
        // SAFETY: the context is initialised, and every control that this module sets takes an `int` or `unsigned int`.
        check(action, unsafe { sys::vpx_codec_control_(&raw mut *self.context, control as c_int, value) })
    }
}

impl Drop for Vp8Encoder {
    fn drop(&mut self) {
        // SAFETY: the context is initialised and destroyed once. An error would say that it is not, and there is nobody to tell.
        let _ = unsafe { sys::vpx_codec_destroy(&raw mut *self.context) };
    }
}

/// Ticks between two pictures at the rate that was announced.
fn nominal(config: &Vp8EncoderConfig) -> f64 {
    f64::from(CLOCK) / f64::from(config.frame_rate)
}

fn settings(config: &Vp8EncoderConfig) -> Result<sys::vpx_codec_enc_cfg_t, VpxError> {
    let mut settings = MaybeUninit::<sys::vpx_codec_enc_cfg_t>::uninit();
    // SAFETY: the place is writable and the interface a constant.
    check("give its defaults", unsafe {
        sys::vpx_codec_enc_config_default(vp8(), settings.as_mut_ptr(), 0)
    })?;
    // SAFETY: the call above has filled it in.
    let mut settings = unsafe { settings.assume_init() };
    settings.g_w = config.width;
    settings.g_h = config.height;
    settings.g_threads = 1;
    settings.g_timebase.num = 1;
    settings.g_timebase.den = CLOCK as c_int;
    settings.g_error_resilient = sys::VPX_ERROR_RESILIENT_DEFAULT;
    settings.g_pass = sys::vpx_enc_pass::VPX_RC_ONE_PASS;
    settings.g_lag_in_frames = 0;
    settings.rc_end_usage = sys::vpx_rc_mode::VPX_CBR;
    settings.rc_dropframe_thresh = 25;
    settings.rc_resize_allowed = 0;
    settings.rc_min_quantizer = 2;
    settings.rc_max_quantizer = match config.content {
        Vp8Content::Camera => 56,
        Vp8Content::Screen => 42,
    };
    settings.rc_undershoot_pct = 100;
    settings.rc_overshoot_pct = 15;
    settings.rc_buf_initial_sz = 500;
    settings.rc_buf_optimal_sz = 600;
    settings.rc_buf_sz = 1000;
    // Key frames come when somebody needs one, never by themselves.
    settings.kf_mode = sys::vpx_kf_mode::VPX_KF_DISABLED;
    settings.ts_number_layers = 2;
    settings.ts_periodicity = 2;
    settings.ts_rate_decimator[..2].copy_from_slice(&[2, 1]);
    settings.ts_layer_id[..2].copy_from_slice(&[0, 1]);
    set_rates(&mut settings, config.bitrate);
    Ok(settings)
}

fn set_rates(settings: &mut sys::vpx_codec_enc_cfg_t, bitrate: u32) {
    let kilobits = bitrate.clamp(MIN_BITRATE, MAX_BITRATE) / 1000;
    settings.rc_target_bitrate = kilobits;
    settings.ts_target_bitrate[..2].copy_from_slice(&[kilobits * BASE_PERCENT / 100, kilobits]);
}

/// `picture` as the library sees one. The image is only valid as long as the picture.
fn wrap(picture: &Picture<'_>) -> Result<sys::vpx_image_t, VpxError> {
    let mut image = MaybeUninit::<sys::vpx_image_t>::uninit();
    // SAFETY: the place is writable; the pointer is kept, not read.
    let wrapped = unsafe {
        sys::vpx_img_wrap(
            image.as_mut_ptr(),
            sys::vpx_img_fmt::VPX_IMG_FMT_I420,
            picture.width,
            picture.height,
            1,
            picture.planes[0].samples.as_ptr().cast_mut(),
        )
    };
    if wrapped.is_null() {
        return Err(VpxError::Library { action: "wrap a picture", reason: "no image".into() });
    }
    // SAFETY: the call above has filled it in.
    let mut image = unsafe { image.assume_init() };
    for (index, plane) in picture.planes.iter().enumerate() {
        image.planes[index] = plane.samples.as_ptr().cast_mut();
        image.stride[index] = plane.stride as c_int;
    }
    Ok(image)
}

fn vp8() -> *mut sys::vpx_codec_iface_t {
    // SAFETY: the function has no precondition and answers with a constant of the library.
    unsafe { sys::vpx_codec_vp8_cx() }
}
