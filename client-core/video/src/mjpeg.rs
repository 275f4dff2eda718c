//! Pictures of cameras that send JPEG. libjpeg-turbo gives planes directly, in a third less time than the decoders in Rust, which only give
//! RGB or full chroma.

use std::time::Instant;

use snug_codec::picture::is_size_taken;
use turbojpeg::{Decompressor, Subsamp, YuvImage};

use crate::frame::{FrameError, FramePool, I420Frame};

/// Why a JPEG picture is left out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MjpegError {
    #[error("a damaged JPEG picture ({0}): check the camera's cable")]
    Damaged(#[from] turbojpeg::Error),
    #[error("a JPEG picture with an unusual layout of colours: choose another format of the camera")]
    Layout,
    #[error(transparent)]
    Size(#[from] FrameError),
}

/// Decodes one picture after the other, reusing its memory.
pub(crate) struct MjpegDecoder {
    decompressor: Decompressor,
    planes: Vec<u8>,
    luma: [u8; 256],
    chroma: [u8; 256],
}

impl MjpegDecoder {
    pub(crate) fn new() -> Result<Self, MjpegError> {
        // JPEG uses the whole range of a byte, video a part of it.
        let scaled = |range: u32, base: u32| {
            std::array::from_fn(|value| (base + (value as u32 * range + 127) / 255) as u8)
        };
        let decompressor = Decompressor::new()?;
        Ok(Self { decompressor, planes: Vec::new(), luma: scaled(219, 16), chroma: scaled(224, 16) })
    }

    /// The picture, cut to even sides.
    pub(crate) fn decode(
        &mut self,
        jpeg: &[u8],
        pool: &FramePool,
        captured: Instant,
    ) -> Result<I420Frame, MjpegError> {
        let result = self.try_decode(jpeg, pool, captured);
        if result.is_err() {
            // libjpeg-turbo goes on from where it failed, in the middle of another picture.
            self.decompressor = Decompressor::new()?;
        }
        result
    }

    fn try_decode(
        &mut self,
        jpeg: &[u8],
        pool: &FramePool,
        captured: Instant,
    ) -> Result<I420Frame, MjpegError> {
        let header = self.decompressor.read_header(jpeg)?;
        let (width, height, subsamp) = (header.width, header.height, header.subsamp);
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let size = FrameError { width: side(width), height: side(height) };
        if !is_size_taken(size.width, size.height) {
            return Err(size.into());
        }
        let (across, down) = match subsamp {
            Subsamp::None => (1, 1),
            Subsamp::Sub2x1 => (2, 1),
            Subsamp::Sub2x2 => (2, 2),
            Subsamp::Sub1x2 => (1, 2),
            Subsamp::Gray => (0, 0),
            _ => return Err(MjpegError::Layout),
        };
        self.planes.resize(turbojpeg::yuv_pixels_len(width, 1, height, subsamp)?, 0);
        let output = YuvImage { pixels: &mut self.planes[..], width, align: 1, height, subsamp };
        self.decompressor.decompress_to_yuv(jpeg, output)?;

        let mut frame = pool.frame(size.width & !1, size.height & !1, captured)?;
        let columns = frame.width() as usize;
        // With halved chroma, libjpeg-turbo pads the luma to an even size.
        let luma = Padded {
            columns: width.next_multiple_of(across.max(1)),
            rows: height.next_multiple_of(down.max(1)),
        };
        let [y, u, v] = frame.planes_mut();
        for (to, from) in y.chunks_exact_mut(columns).zip(self.planes.chunks_exact(luma.columns)) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = self.luma[usize::from(*from)]);
        }
        if across == 0 {
            u.fill(128);
            v.fill(128);
            return Ok(frame);
        }
        let chroma = Padded { columns: luma.columns / across, rows: luma.rows / down };
        let (first, second) = self.planes[luma.columns * luma.rows..].split_at(chroma.columns * chroma.rows);
        for (to, from) in [(u, first), (v, second)] {
            // What JPEG keeps more of than we do is averaged.
            let (step_x, step_y) = (2 / across, 2 / down);
            for (row, line) in to.chunks_exact_mut(columns / 2).enumerate() {
                let upper = &from[row * step_y * chroma.columns..][..chroma.columns];
                let lower = &from[(row * step_y + step_y - 1) * chroma.columns..][..chroma.columns];
                for (column, sample) in line.iter_mut().enumerate() {
                    let (left, right) = (column * step_x, column * step_x + step_x - 1);
                    let corners = [upper[left], upper[right], lower[left], lower[right]];
                    let sum: u16 = corners.into_iter().map(u16::from).sum();
                    *sample = self.chroma[usize::from((sum + 2) / 4)];
                }
            }
        }
        Ok(frame)
    }
}

struct Padded {
    columns: usize,
    rows: usize,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use turbojpeg::{Image, PixelFormat, compress};

    use super::*;

    #[test]
    fn colours_survive_in_every_layout_and_size() {
        let mut decoder = MjpegDecoder::new().unwrap();
        // Limited-range BT.601 of the colour.
        let ([red, green, blue], expected) = ([200, 60, 90], [106, 120, 187]);
        for subsamp in [Subsamp::None, Subsamp::Sub2x1, Subsamp::Sub2x2, Subsamp::Sub1x2, Subsamp::Gray] {
            for (width, height) in [(64, 48), (33, 17), (2, 2)] {
                let pixels = [red, green, blue].repeat(width * height);
                let image =
                    Image { pixels: &pixels[..], width, pitch: width * 3, height, format: PixelFormat::RGB };
                let jpeg = compress(image, 95, subsamp).unwrap();
                let frame = decoder.decode(&jpeg, &FramePool::default(), Instant::now()).unwrap();
                assert_eq!((frame.width() as usize, frame.height() as usize), (width & !1, height & !1));
                for (index, (plane, expected)) in frame.planes().into_iter().zip(expected).enumerate() {
                    let expected = if subsamp == Subsamp::Gray && index > 0 { 128 } else { expected };
                    let worst = plane.iter().map(|sample| sample.abs_diff(expected)).max();
                    assert!(
                        worst <= Some(3),
                        "{subsamp:?} {width}x{height}, plane {index}: off by {worst:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn damaged_pictures_are_refused_or_shown_but_never_crash() {
        let mut decoder = MjpegDecoder::new().unwrap();
        let pool = FramePool::default();
        let pixels: Vec<u8> = (0..64 * 48 * 3).map(|n| (n * 7 % 251) as u8).collect();
        let image =
            Image { pixels: &pixels[..], width: 64, pitch: 192, height: 48, format: PixelFormat::RGB };
        let jpeg = compress(image, 90, Subsamp::Sub2x1).unwrap().to_vec();
        for at in 0..jpeg.len() {
            let mut damaged = jpeg.clone();
            damaged[at] ^= 0x55;
            let _ = decoder.decode(&damaged, &pool, Instant::now());
            let _ = decoder.decode(&jpeg[..at], &pool, Instant::now());
        }
        decoder.decode(&jpeg, &pool, Instant::now()).expect("what is broken leaves no trace");
    }
}
