//! How close a picture is to another: what tests and benches judge by.

use crate::frame::I420Frame;

/// Side of a window of [`ssim`], in pixels.
const WINDOW: usize = 8;

/// Peak signal to noise of luma, in dB: infinite for equal pictures. `None` when their sizes differ.
pub fn psnr(a: &I420Frame, b: &I420Frame) -> Option<f64> {
    let (a, b) = luma_pair(a, b)?;
    let squares: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    let mean = squares as f64 / a.len() as f64;
    Some(10.0 * (255.0f64.powi(2) / mean).log10())
}

/// Structural similarity of luma, 1 for equal pictures: the mean over windows of 8×8 that overlap by half (Wang et al. 2004, with a flat
/// window). `None` when their sizes differ or are below a window's.
pub fn ssim(a: &I420Frame, b: &I420Frame) -> Option<f64> {
    let width = a.width() as usize;
    let (a, b) = luma_pair(a, b)?;
    let rows = a.len() / width;
    let (mut sum, mut windows) = (0.0, 0u32);
    for top in (0..=rows.checked_sub(WINDOW)?).step_by(WINDOW / 2) {
        for left in (0..=width.checked_sub(WINDOW)?).step_by(WINDOW / 2) {
            sum += window(a, b, width, top * width + left);
            windows += 1;
        }
    }
    Some(sum / f64::from(windows))
}

fn luma_pair<'a>(a: &'a I420Frame, b: &'a I420Frame) -> Option<(&'a [u8], &'a [u8])> {
    ((a.width(), a.height()) == (b.width(), b.height())).then(|| (a.planes()[0], b.planes()[0]))
}

fn window(a: &[u8], b: &[u8], width: usize, start: usize) -> f64 {
    let (mut sum_a, mut sum_b, mut sum_aa, mut sum_bb, mut sum_ab) = (0u32, 0u32, 0u32, 0u32, 0u32);
    for row in 0..WINDOW {
        let samples = start + row * width..start + row * width + WINDOW;
        for (a, b) in a[samples.clone()].iter().zip(&b[samples]) {
            let (a, b) = (u32::from(*a), u32::from(*b));
            sum_a += a;
            sum_b += b;
            sum_aa += a * a;
            sum_bb += b * b;
            sum_ab += a * b;
        }
    }
    let count = (WINDOW * WINDOW) as f64;
    let (mean_a, mean_b) = (f64::from(sum_a) / count, f64::from(sum_b) / count);
    let variance_a = f64::from(sum_aa) / count - mean_a * mean_a;
    let variance_b = f64::from(sum_bb) / count - mean_b * mean_b;
    let covariance = f64::from(sum_ab) / count - mean_a * mean_b;
    let (c1, c2) = ((0.01f64 * 255.0).powi(2), (0.03f64 * 255.0).powi(2));
    (2.0 * mean_a * mean_b + c1) * (2.0 * covariance + c2)
        / ((mean_a * mean_a + mean_b * mean_b + c1) * (variance_a + variance_b + c2))
}
