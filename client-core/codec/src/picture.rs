//! Views of I420 pictures, lent to an encoder or by a decoder.

/// Longest side of a picture, in pixels, that encoders and decoders take.
pub const MAX_SIDE: u32 = 4096;

/// Most pixels of a picture that encoders and decoders take: what a stranger's key frame can make a decoder allocate is bounded by it
/// (about 60 MB).
pub const MAX_PIXELS: u32 = 4096 * 2304;

/// One plane of samples, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// The samples; at least `stride × (rows − 1) + columns` of them.
    pub samples: &'a [u8],
    /// Samples from the start of one row to that of the next.
    pub stride: usize,
}

/// A borrowed picture in I420: luma in full size, both chroma planes in half (rounded up), BT.601 limited range.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    /// Columns of luma.
    pub width: u32,
    /// Rows of luma.
    pub height: u32,
    /// Y, U and V.
    pub planes: [Plane<'a>; 3],
}

impl Picture<'_> {
    /// Whether each plane holds as many samples as the size says.
    pub fn is_complete(&self) -> bool {
        self.planes.iter().enumerate().all(|(index, plane)| {
            let (columns, rows) = plane_size(self.width, self.height, index);
            columns <= plane.stride
                && rows > 0
                && plane
                    .stride
                    .checked_mul(rows - 1)
                    .is_some_and(|most| most + columns <= plane.samples.len())
        })
    }
}

/// Whether a picture of this size is taken: neither side zero or above [`MAX_SIDE`], no more than [`MAX_PIXELS`] in all.
pub fn is_size_taken(width: u32, height: u32) -> bool {
    (1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height) && width * height <= MAX_PIXELS
}

/// Columns and rows of the plane with this index (0 is luma).
pub(crate) fn plane_size(width: u32, height: u32, index: usize) -> (usize, usize) {
    let half = u32::from(index > 0);
    ((width + half) as usize >> half, (height + half) as usize >> half)
}
