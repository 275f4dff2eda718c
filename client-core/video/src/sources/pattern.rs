//! A moving test picture that carries its number and time in its pixels, large enough to be read after VP8 at 320×180.
//!
//! The upper quarter is three rows of sixteen cells, white for one and black for zero: number, milliseconds, checksum. Below, over a still
//! textured background, an oval sways and bars run.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Pace, SourceError, Stop, VideoSource};
use crate::frame::{FrameError, FramePool, I420Frame, SharedFrame};

const CELLS: u32 = 16;
/// Rows of cells that the height is divided into, of which three carry the stamp.
const ROWS: u32 = 12;
const WHITE: u8 = 225;
const BLACK: u8 = 25;

/// What a picture of the pattern says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatternStamp {
    /// Counts pictures, and wraps.
    pub number: u16,
    /// Milliseconds of the system's clock, modulo 65,536: clocks of one machine compare, and so do delays below half a minute.
    pub millis: u16,
}

impl PatternStamp {
    fn rows(self) -> [u16; 3] {
        [self.number, self.millis, self.check()]
    }

    /// Different for stamps that differ in one bit, and neither all black nor all white for all-black or all-white rows.
    fn check(self) -> u16 {
        self.number.rotate_left(5) ^ self.millis.wrapping_mul(0x9e37) ^ 0x5aa5
    }
}

/// Reads the stamp of a decoded picture, in any size from 64×48 up. `None` when it is not the pattern, or too badly damaged.
pub fn read_stamp(frame: &I420Frame) -> Option<PatternStamp> {
    if frame.width() < CELLS * 4 || frame.height() < ROWS * 4 {
        return None;
    }
    let [number, millis, check] = [0, 1, 2].map(|row| read_row(frame, row));
    let stamp = PatternStamp { number, millis };
    (stamp.check() == check).then_some(stamp)
}

fn read_row(frame: &I420Frame, row: u32) -> u16 {
    (0..CELLS).fold(0, |bits, cell| {
        let (left, top, right, bottom) = cell_box(frame, cell, row);
        // The middle half: edges are blurred by scaling and compression.
        let (dx, dy) = ((right - left) / 4, (bottom - top) / 4);
        let luma = frame.planes()[0];
        let (mut sum, mut count) = (0u32, 0u32);
        for y in top + dy..bottom - dy {
            for sample in &luma[y * frame.width() as usize..][left + dx..right - dx] {
                sum += u32::from(*sample);
                count += 1;
            }
        }
        bits << 1 | u16::from(sum > count * u32::from(WHITE / 2 + BLACK / 2))
    })
}

fn cell_box(frame: &I420Frame, cell: u32, row: u32) -> (usize, usize, usize, usize) {
    let x = |cell: u32| (frame.width() * cell / CELLS) as usize;
    let y = |row: u32| (frame.height() * row / ROWS) as usize;
    (x(cell), y(row), x(cell + 1), y(row + 1))
}

/// The pattern, in real time.
pub struct PatternSource {
    pace: Pace,
    pool: FramePool,
    background: I420Frame,
    number: u16,
}

impl PatternSource {
    /// Pictures of this size, at 1 to 120 frames a second.
    ///
    /// # Errors
    /// When the size is not handled.
    pub fn new(width: u32, height: u32, frame_rate: u32) -> Result<Self, FrameError> {
        let pool = FramePool::default();
        let mut background = pool.frame(width, height, Instant::now())?;
        paint_background(&mut background);
        let pace = Pace::new(Duration::from_secs(1) / frame_rate.clamp(1, 120));
        Ok(Self { pace, pool, background, number: 0 })
    }

    /// The next picture at once, for who keeps time by other means.
    ///
    /// # Errors
    /// Never for a size that [`PatternSource::new`] took.
    pub fn draw(&mut self, captured: Instant) -> Result<I420Frame, FrameError> {
        let mut frame = self.pool.frame(self.background.width(), self.background.height(), captured)?;
        frame.samples_mut().copy_from_slice(self.background.samples());
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u16;
        paint_motion(&mut frame, self.number);
        paint_stamp(&mut frame, PatternStamp { number: self.number, millis });
        self.number = self.number.wrapping_add(1);
        Ok(frame)
    }
}

impl VideoSource for PatternSource {
    fn next_frame(&mut self, stop: &Stop) -> Result<Option<SharedFrame>, SourceError> {
        let Some(turn) = self.pace.wait(stop) else { return Ok(None) };
        Ok(Some(Arc::new(self.draw(turn)?)))
    }
}

fn paint_background(frame: &mut I420Frame) {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let [y_plane, u_plane, v_plane] = frame.planes_mut();
    let mut noise = 1u32;
    for (row, line) in y_plane.chunks_exact_mut(width).enumerate() {
        for (column, sample) in line.iter_mut().enumerate() {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // A slope with soft tiles and a grain that survives as texture, like a wall.
            let tile = ((column * 20 / width) ^ (row * 12 / height)) & 1;
            *sample = (60 + column * 70 / width + row * 30 / height + tile * 14) as u8 + (noise >> 30) as u8;
        }
    }
    for (plane, base) in [(u_plane, 110), (v_plane, 120)] {
        for (row, line) in plane.chunks_exact_mut(width / 2).enumerate() {
            line.fill(base + (row * 40 / height) as u8);
        }
    }
}

/// An oval of two thirds of the height that sways by an eighth of the width in three seconds, and a bar that runs along the lower edge.
fn paint_motion(frame: &mut I420Frame, number: u16) {
    let (width, height) = (f64::from(frame.width()), f64::from(frame.height()));
    let phase = f64::from(number) / 90.0 * std::f64::consts::TAU;
    let center = (width * (0.5 + 0.125 * phase.sin()), height * (0.62 + 0.02 * (phase * 2.0).sin()));
    let radius = (height * 0.22, height * 0.32);
    let wide = frame.width() as usize;
    let [y_plane, u_plane, v_plane] = frame.planes_mut();
    fill_oval(y_plane, wide, center, radius, 170);
    let half = |(a, b): (f64, f64)| (a / 2.0, b / 2.0);
    fill_oval(u_plane, wide / 2, half(center), half(radius), 105);
    fill_oval(v_plane, wide / 2, half(center), half(radius), 155);
    let eye = (height * 0.03, height * 0.02);
    for side in [-0.08, 0.08] {
        fill_oval(y_plane, wide, (center.0 + height * side, center.1 - height * 0.08), eye, 40);
    }
    // A mouth that opens and closes four times a second.
    let open = 0.01 + 0.025 * (f64::from(number) * 0.8).sin().abs();
    fill_oval(y_plane, wide, (center.0, center.1 + height * 0.14), (height * 0.08, height * open), 70);
    let bar = usize::from(number) * wide / 120 % wide;
    let rows = y_plane.len() / wide;
    for line in y_plane.chunks_exact_mut(wide).skip(rows - rows / 24) {
        let end = (bar + wide / 16).min(wide);
        line[bar..end].fill(200);
    }
}

fn fill_oval(plane: &mut [u8], width: usize, center: (f64, f64), radius: (f64, f64), value: u8) {
    let rows = plane.len() / width;
    let top = (center.1 - radius.1).max(0.0) as usize;
    let bottom = ((center.1 + radius.1) as usize + 1).min(rows);
    for row in top..bottom {
        let dy = (row as f64 - center.1) / radius.1;
        if dy.abs() >= 1.0 {
            continue;
        }
        let reach = radius.0 * (1.0 - dy * dy).sqrt();
        let left = ((center.0 - reach).max(0.0) as usize).min(width);
        let right = ((center.0 + reach).max(0.0) as usize).clamp(left, width);
        plane[row * width + left..row * width + right].fill(value);
    }
}

fn paint_stamp(frame: &mut I420Frame, stamp: PatternStamp) {
    for (row, bits) in (0u32..).zip(stamp.rows()) {
        for cell in 0..CELLS {
            let value = if bits >> (CELLS - 1 - cell) & 1 == 1 { WHITE } else { BLACK };
            let (left, top, right, bottom) = cell_box(frame, cell, row);
            let width = frame.width() as usize;
            let [luma, u, v] = frame.planes_mut();
            for y in top..bottom {
                luma[y * width + left..y * width + right].fill(value);
            }
            // The cells' own edges may cut a chroma sample; grey on either side of it is no matter.
            for y in top / 2..bottom / 2 {
                let samples = y * (width / 2) + left / 2..y * (width / 2) + right / 2;
                u[samples.clone()].fill(128);
                v[samples].fill(128);
            }
        }
    }
}
