//! A picture in memory, shared by reference: whoever is done with it last gives its buffer back to the pool.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use snug_codec::picture::{Picture, Plane, is_size_taken};

/// Buffers that a pool keeps for later; more are freed.
const KEPT_BUFFERS: usize = 8;

/// A picture that several threads read.
pub type SharedFrame = Arc<I420Frame>;

/// The size of a picture is not one that is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a picture of {width}x{height} is not handled: use even sides from 2 to 4096 and at most 4096x2304 pixels"
)]
pub struct FrameError {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// A picture in I420 (BT.601, limited range): Y, U and V one after the other, rows without padding, both sides even.
pub struct I420Frame {
    width: u32,
    height: u32,
    captured: Instant,
    samples: Vec<u8>,
    home: Weak<Shelf>,
}

impl I420Frame {
    /// Columns of luma, even.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows of luma, even.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// When the picture was taken; for a decoded one, when it was handed to the decoder.
    pub fn captured(&self) -> Instant {
        self.captured
    }

    /// Y, U and V. The rows of Y are `width` long, those of U and V half of it.
    pub fn planes(&self) -> [&[u8]; 3] {
        let (luma, chroma) = self.samples.split_at(self.luma());
        let (u, v) = chroma.split_at(chroma.len() / 2);
        [luma, u, v]
    }

    /// As [`I420Frame::planes`], to write.
    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        let luma = self.luma();
        let (luma, chroma) = self.samples.split_at_mut(luma);
        let half = chroma.len() / 2;
        let (u, v) = chroma.split_at_mut(half);
        [luma, u, v]
    }

    /// All three planes in one piece.
    pub fn samples(&self) -> &[u8] {
        &self.samples
    }

    /// As [`I420Frame::samples`], to write.
    pub fn samples_mut(&mut self) -> &mut [u8] {
        &mut self.samples
    }

    /// The picture as the codecs take it.
    pub fn picture(&self) -> Picture<'_> {
        let [y, u, v] = self.planes();
        let (wide, narrow) = (self.width as usize, self.width as usize / 2);
        Picture {
            width: self.width,
            height: self.height,
            planes: [
                Plane { samples: y, stride: wide },
                Plane { samples: u, stride: narrow },
                Plane { samples: v, stride: narrow },
            ],
        }
    }

    fn luma(&self) -> usize {
        self.width as usize * self.height as usize
    }
}

impl Drop for I420Frame {
    fn drop(&mut self) {
        if let Some(shelf) = self.home.upgrade() {
            let mut buffers = shelf.0.lock().unwrap_or_else(PoisonError::into_inner);
            if buffers.len() < KEPT_BUFFERS {
                buffers.push(std::mem::take(&mut self.samples));
            }
        }
    }
}

impl fmt::Debug for I420Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I420Frame({}x{})", self.width, self.height)
    }
}

#[derive(Default)]
struct Shelf(Mutex<Vec<Vec<u8>>>);

/// Makes pictures, and reuses the memory of those that nobody holds any more: a fresh megabyte per picture costs more in page faults
/// than most conversions. Clones share the memory.
#[derive(Clone, Default)]
pub struct FramePool(Arc<Shelf>);

impl FramePool {
    /// A picture to be filled in; what it shows until then is undefined.
    ///
    /// # Errors
    /// When the size is odd, zero or too large.
    pub fn frame(&self, width: u32, height: u32, captured: Instant) -> Result<I420Frame, FrameError> {
        if !is_size_taken(width, height) || !width.is_multiple_of(2) || !height.is_multiple_of(2) {
            return Err(FrameError { width, height });
        }
        let length = width as usize * height as usize * 3 / 2;
        let mut samples = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        samples.resize(length, 0);
        Ok(I420Frame { width, height, captured, samples, home: Arc::downgrade(&self.0) })
    }

    /// A copy of a picture that somebody else owns, cut to even sides.
    ///
    /// # Errors
    /// When it is a single row or column, too large, or a plane holds less than the size says.
    pub fn copy(&self, picture: &Picture<'_>, captured: Instant) -> Result<I420Frame, FrameError> {
        if !picture.is_complete() {
            return Err(FrameError { width: picture.width, height: picture.height });
        }
        let mut frame = self.frame(picture.width & !1, picture.height & !1, captured)?;
        let width = frame.width as usize;
        for (index, (to, from)) in frame.planes_mut().into_iter().zip(&picture.planes).enumerate() {
            let columns = if index == 0 { width } else { width / 2 };
            for (to, from) in to.chunks_exact_mut(columns).zip(from.samples.chunks(from.stride)) {
                to.copy_from_slice(&from[..columns]);
            }
        }
        Ok(frame)
    }
}
