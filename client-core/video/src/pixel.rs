//! From the formats of cameras to I420, from one size to another, and to RGBA.
//!
//! Conversions are BT.601 in limited range, which is what browsers assume of VP8.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use yuv::{
    BufferStoreMut, YuvConversionMode, YuvPackedImage, YuvPlanarImage, YuvPlanarImageMut, YuvRange,
    YuvStandardMatrix,
};

pub use snug_media_proto::layer::fit;

use crate::frame::{FrameError, FramePool, I420Frame};

/// A buffer is not what it is said to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {format} picture of {}x{} takes {expected} bytes, not {given}: choose another format of the camera", .size.0, .size.1)]
pub struct BufferError {
    format: &'static str,
    size: (u32, u32),
    expected: usize,
    given: usize,
}

/// Fills `frame` from packed 4:2:2 (Y0 U Y1 V), rows without padding.
///
/// # Errors
/// When `packed` is not two bytes per pixel of the frame.
pub fn from_yuyv(packed: &[u8], frame: &mut I420Frame) -> Result<(), BufferError> {
    let (width, height) = (frame.width(), frame.height());
    let packed = whole("YUYV", packed, frame, 2, 1)?;
    let image = YuvPackedImage { yuy: packed, yuy_stride: width * 2, width, height };
    yuv::yuyv422_to_yuv420(&mut planar(frame), &image)
        .expect("the buffer's size was checked, and a frame's fits");
    Ok(())
}

/// Fills `frame` from luma followed by interleaved chroma, rows without padding.
///
/// # Errors
/// When `samples` is not one and a half bytes per pixel of the frame.
pub fn from_nv12(samples: &[u8], frame: &mut I420Frame) -> Result<(), BufferError> {
    let samples = whole("NV12", samples, frame, 3, 2)?;
    let [y, u, v] = frame.planes_mut();
    let (luma, chroma) = samples.split_at(y.len());
    y.copy_from_slice(luma);
    for ((u, v), pair) in u.iter_mut().zip(v).zip(chroma.chunks_exact(2)) {
        (*u, *v) = (pair[0], pair[1]);
    }
    Ok(())
}

/// Fills `frame` from three bytes per pixel, rows without padding.
///
/// # Errors
/// When `rgb` is not three bytes per pixel of the frame.
pub fn from_rgb(rgb: &[u8], frame: &mut I420Frame) -> Result<(), BufferError> {
    let stride = frame.width() * 3;
    let rgb = whole("RGB", rgb, frame, 3, 1)?;
    let (range, matrix) = (YuvRange::Limited, YuvStandardMatrix::Bt601);
    yuv::rgb_to_yuv420(&mut planar(frame), rgb, stride, range, matrix, YuvConversionMode::Balanced)
        .expect("the buffer's size was checked, and a frame's fits");
    Ok(())
}

/// Fills `frame` from luma alone, rows without padding.
///
/// # Errors
/// When `samples` is not one byte per pixel of the frame.
pub fn from_gray(samples: &[u8], frame: &mut I420Frame) -> Result<(), BufferError> {
    let samples = whole("grey", samples, frame, 1, 1)?;
    let [y, u, v] = frame.planes_mut();
    y.copy_from_slice(samples);
    u.fill(128);
    v.fill(128);
    Ok(())
}

/// `frame` as RGBA, four bytes per pixel, rows without padding. `rgba` is resized as needed.
pub fn to_rgba(frame: &I420Frame, rgba: &mut Vec<u8>) {
    let (width, height) = (frame.width(), frame.height());
    rgba.resize(width as usize * height as usize * 4, 0);
    let [y_plane, u_plane, v_plane] = frame.planes();
    let image = YuvPlanarImage {
        y_plane,
        y_stride: width,
        u_plane,
        u_stride: width / 2,
        v_plane,
        v_stride: width / 2,
        width,
        height,
    };
    yuv::yuv420_to_rgba(&image, rgba, width * 4, YuvRange::Limited, YuvStandardMatrix::Bt601)
        .expect("a frame's planes and the buffer are of its size");
}

fn whole<'a>(
    format: &'static str,
    bytes: &'a [u8],
    frame: &I420Frame,
    numerator: usize,
    denominator: usize,
) -> Result<&'a [u8], BufferError> {
    let size = (frame.width(), frame.height());
    let expected = size.0 as usize * size.1 as usize * numerator / denominator;
    // Drivers hand out whole pages: what comes after the picture is padding.
    bytes.get(..expected).ok_or(BufferError { format, size, expected, given: bytes.len() })
}

fn planar(frame: &mut I420Frame) -> YuvPlanarImageMut<'_, u8> {
    let (width, height) = (frame.width(), frame.height());
    let [y, u, v] = frame.planes_mut();
    YuvPlanarImageMut {
        y_plane: BufferStoreMut::Borrowed(y),
        y_stride: width,
        u_plane: BufferStoreMut::Borrowed(u),
        u_stride: width / 2,
        v_plane: BufferStoreMut::Borrowed(v),
        v_stride: width / 2,
        width,
        height,
    }
}

/// Scales pictures down. Halving, which is all that a 720p camera needs, is a loop of its own and three times faster.
#[derive(Default)]
pub struct Scaler {
    pool: FramePool,
    resizer: Resizer,
}

impl Scaler {
    /// `frame` in another size. A power of two smaller is averaged by 2×2, everything else by its area.
    ///
    /// # Errors
    /// When the size is not one for a frame.
    pub fn scale(&mut self, frame: &I420Frame, width: u32, height: u32) -> Result<I420Frame, FrameError> {
        let shrinks_by = |factor: u32| {
            frame.width() == width.saturating_mul(factor) && frame.height() == height.saturating_mul(factor)
        };
        if shrinks_by(2) {
            return self.halve(frame);
        }
        if shrinks_by(4) {
            let half = self.halve(frame)?;
            return self.halve(&half);
        }
        self.resize(frame, width, height)
    }

    fn halve(&self, frame: &I420Frame) -> Result<I420Frame, FrameError> {
        let mut half = self.pool.frame(frame.width() / 2, frame.height() / 2, frame.captured())?;
        let width = frame.width() as usize;
        for (index, (to, from)) in half.planes_mut().into_iter().zip(frame.planes()).enumerate() {
            let width = if index == 0 { width } else { width / 2 };
            for (row, lines) in to.chunks_exact_mut(width / 2).zip(from.chunks_exact(width * 2)) {
                let (upper, lower) = lines.split_at(width);
                for ((sample, a), b) in row.iter_mut().zip(upper.chunks_exact(2)).zip(lower.chunks_exact(2)) {
                    let sum = u16::from(a[0]) + u16::from(a[1]) + u16::from(b[0]) + u16::from(b[1]);
                    *sample = ((sum + 2) >> 2) as u8;
                }
            }
        }
        Ok(half)
    }

    fn resize(&mut self, frame: &I420Frame, width: u32, height: u32) -> Result<I420Frame, FrameError> {
        let mut scaled = self.pool.frame(width, height, frame.captured())?;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Box));
        for (index, (to, from)) in scaled.planes_mut().into_iter().zip(frame.planes()).enumerate() {
            let half = u32::from(index > 0);
            let source = ImageRef::new(frame.width() >> half, frame.height() >> half, from, PixelType::U8);
            let target = Image::from_slice_u8(width >> half, height >> half, to, PixelType::U8);
            if let (Ok(source), Ok(mut target)) = (source, target) {
                self.resizer
                    .resize(&source, &mut target, &options)
                    .expect("both images have samples of one byte");
            }
        }
        Ok(scaled)
    }
}
