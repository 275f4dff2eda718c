//! The decoder. What it is given comes from other participants, so each frame's header is read here before the library sees it.

#![expect(unsafe_code, reason = "libvpx is a C library")]

use std::ffi::{c_int, c_uint};
use std::mem::MaybeUninit;
use std::ptr;

use vpx_sys as sys;

use super::{VpxError, check, describe};
use crate::picture::{Picture, Plane, is_size_taken, plane_size};

/// Largest frame that is decoded, in bytes; a key frame of 4096×2304 at the finest quantizer is below it.
const MAX_FRAME: usize = 8 << 20;

/// A VP8 decoder. Its memory is freed with it.
pub struct Vp8Decoder {
    context: Box<sys::vpx_codec_ctx_t>,
    /// The references are whole: frames that refer to them can be decoded.
    whole: bool,
}

// SAFETY: the context is owned by this value alone, and libvpx keeps no state per thread.
unsafe impl Send for Vp8Decoder {}

impl Vp8Decoder {
    /// A decoder that waits for a key frame.
    ///
    /// # Errors
    /// [`VpxError::Library`] when libvpx has no VP8 or no memory.
    pub fn new() -> Result<Self, VpxError> {
        let settings = sys::vpx_codec_dec_cfg_t { threads: 1, w: 0, h: 0 };
        let mut context = Box::new(MaybeUninit::<sys::vpx_codec_ctx_t>::zeroed());
        // SAFETY: the function has no precondition and answers with a constant of the library.
        let vp8 = unsafe { sys::vpx_codec_vp8_dx() };
        // SAFETY: the context is writable, the settings are copied by the library before the call returns.
        check("start a decoder", unsafe {
            sys::vpx_codec_dec_init_ver(
                context.as_mut_ptr(),
                vp8,
                &raw const settings,
                0,
                sys::VPX_DECODER_ABI_VERSION as c_int,
            )
        })?;
        // SAFETY: the call above has filled it in.
        Ok(Self { context: unsafe { context.assume_init() }, whole: false })
    }

    /// Decodes a whole frame. `None` when it is not one to be shown.
    ///
    /// # Errors
    /// - [`VpxError::Damaged`]: not VP8, cut short or broken. Everything up to the next key frame is refused then.
    /// - [`VpxError::Size`]: a key frame larger than the limits of [`crate::picture`].
    /// - [`VpxError::KeyFrameNeeded`]: nothing to refer to.
    pub fn decode(&mut self, frame: &[u8]) -> Result<Option<Picture<'_>>, VpxError> {
        match read_header(frame) {
            Ok(Header::Key { width, height }) if is_size_taken(width, height) => {}
            Ok(Header::Key { width, height }) => return Err(self.fail(VpxError::Size { width, height })),
            Ok(Header::Inter) if self.whole => {}
            Ok(Header::Inter) => return Err(VpxError::KeyFrameNeeded),
            Err(error) => return Err(self.fail(error)),
        }
        // SAFETY: the context is initialised; the library reads `frame` only during the call.
        let code = unsafe {
            sys::vpx_codec_decode(
                &raw mut *self.context,
                frame.as_ptr(),
                frame.len() as c_uint,
                ptr::null_mut(),
                0,
            )
        };
        if code != sys::vpx_codec_err_t::VPX_CODEC_OK {
            return Err(self.fail(VpxError::Damaged(describe(code))));
        }
        let mut corrupted: c_int = 0;
        let control = sys::vp8_dec_control_id::VP8D_GET_FRAME_CORRUPTED as c_int;
        // SAFETY: the control takes a pointer to an `int`, which outlives the call.
        let code = unsafe { sys::vpx_codec_control_(&raw mut *self.context, control, &raw mut corrupted) };
        if code != sys::vpx_codec_err_t::VPX_CODEC_OK || corrupted != 0 {
            return Err(self.fail(VpxError::Damaged("a reference is broken".into())));
        }
        self.whole = true;
        let mut iterator: sys::vpx_codec_iter_t = ptr::null();
        // SAFETY: the context is initialised and the iterator null.
        let image = unsafe { sys::vpx_codec_get_frame(&raw mut *self.context, &raw mut iterator) };
        // SAFETY: null, or an image that stays until the next call with this context, which the borrow of `self` excludes.
        let Some(image) = (unsafe { image.as_ref() }) else { return Ok(None) };
        lend(image).map(Some)
    }

    fn fail(&mut self, error: VpxError) -> VpxError {
        self.whole = false;
        error
    }
}

impl Drop for Vp8Decoder {
    fn drop(&mut self) {
        // SAFETY: the context is initialised and destroyed once. An error would say that it is not, and there is nobody to tell.
        let _ = unsafe { sys::vpx_codec_destroy(&raw mut *self.context) };
    }
}

enum Header {
    Key { width: u32, height: u32 },
    Inter,
}

/// RFC 6386 §9.1: three bytes of tag, and for key frames a start code and the size.
fn read_header(frame: &[u8]) -> Result<Header, VpxError> {
    let damaged = |why: &str| Err(VpxError::Damaged(why.into()));
    if frame.len() > MAX_FRAME {
        return damaged("larger than any frame may be");
    }
    let [tag, _, _, rest @ ..] = frame else { return damaged("shorter than its header") };
    if tag & 1 == 1 {
        return Ok(Header::Inter);
    }
    let [0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] = rest else { return damaged("no start code") };
    // The two upper bits ask for scaling, which is for the screen to do.
    let side = |low: &u8, high: &u8| u32::from(u16::from_le_bytes([*low, *high]) & 0x3fff);
    Ok(Header::Key { width: side(w0, w1), height: side(h0, h1) })
}

fn lend(image: &sys::vpx_image_t) -> Result<Picture<'_>, VpxError> {
    let (width, height) = (image.d_w, image.d_h);
    if image.fmt != sys::vpx_img_fmt::VPX_IMG_FMT_I420 || !is_size_taken(width, height) {
        return Err(VpxError::Size { width, height });
    }
    let plane = |index: usize| {
        let (columns, rows) = plane_size(width, height, index);
        let stride = usize::try_from(image.stride[index]).ok().filter(|stride| *stride >= columns);
        let (Some(stride), false) = (stride, image.planes[index].is_null()) else {
            return Err(VpxError::Library { action: "lend a picture", reason: "a plane is missing".into() });
        };
        // SAFETY: an I420 image of this size has `rows` rows of `stride` samples at this pointer, which the caller's borrow keeps.
        let samples =
            unsafe { std::slice::from_raw_parts(image.planes[index], stride * (rows - 1) + columns) };
        Ok(Plane { samples, stride })
    };
    Ok(Picture { width, height, planes: [plane(0)?, plane(1)?, plane(2)?] })
}
