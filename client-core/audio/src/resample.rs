//! Turns a device's sample rate into 48 kHz and back: a windowed sinc, read at fractional positions.
//! Allocates nothing after it was built, so a device callback may run it.

/// Taps on either side of a position.
const HALF: usize = 16;
/// Steps between two taps; values in between are interpolated.
const STEPS: usize = 256;

/// A mono stream's converter between two sample rates.
pub(crate) struct Resampler {
    /// Half of the symmetric kernel, from its centre outwards, one step apart.
    kernel: Vec<f32>,
    /// Kernel units per input sample: below one when the output rate is the lower one.
    cutoff: f64,
    /// Input samples per output sample.
    step: f64,
    /// The last inputs, a ring of a power of two.
    history: Vec<f32>,
    /// Inputs taken.
    taken: u64,
    /// Position of the next output in inputs.
    position: f64,
    /// Inputs on either side of a position.
    reach: usize,
}

impl Resampler {
    /// From `input` to `output`, both in Hz and not zero.
    pub(crate) fn new(input: u32, output: u32) -> Self {
        let cutoff = (f64::from(output) / f64::from(input)).min(1.0);
        let reach = (HALF as f64 / cutoff).ceil() as usize;
        let kernel = (0..=HALF * STEPS + 1).map(|i| tap(i as f64 / STEPS as f64) as f32).collect();
        Self {
            kernel,
            cutoff,
            step: f64::from(input) / f64::from(output),
            history: vec![0.0; (2 * reach + 2).next_power_of_two()],
            taken: 0,
            position: 0.0,
            reach,
        }
    }

    /// Takes one input and hands the outputs that became due to `emit`.
    pub(crate) fn push(&mut self, sample: f32, mut emit: impl FnMut(f32)) {
        let mask = self.history.len() as u64 - 1;
        self.history[(self.taken & mask) as usize] = sample;
        self.taken += 1;
        while self.position + (self.reach as f64) < self.taken as f64 {
            emit(self.at(self.position, mask));
            self.position += self.step;
        }
    }

    fn at(&self, position: f64, mask: u64) -> f32 {
        let centre = position.floor();
        let first = centre as i64 - self.reach as i64 + 1;
        let mut sum = 0.0;
        for index in first..first + 2 * self.reach as i64 {
            if index < 0 {
                continue;
            }
            let distance = (index as f64 - position).abs() * self.cutoff * STEPS as f64;
            let whole = distance as usize;
            if whole >= HALF * STEPS {
                continue;
            }
            let part = (distance - whole as f64) as f32;
            let weight = self.kernel[whole] + (self.kernel[whole + 1] - self.kernel[whole]) * part;
            sum += weight * self.history[(index as u64 & mask) as usize];
        }
        sum * self.cutoff as f32
    }
}

/// The sinc under a Blackman window, `x` in taps.
fn tap(x: f64) -> f64 {
    if x >= HALF as f64 {
        return 0.0;
    }
    let phase = std::f64::consts::PI * x;
    let sinc = if x == 0.0 { 1.0 } else { phase.sin() / phase };
    let turn = std::f64::consts::PI * x / HALF as f64;
    sinc * (0.42 + 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(rate: u32, hz: f64, count: usize) -> Vec<f32> {
        let turn = std::f64::consts::TAU * hz / f64::from(rate);
        (0..count).map(|i| (turn * i as f64).sin() as f32 * 0.5).collect()
    }

    fn convert(input: u32, output: u32, samples: &[f32]) -> Vec<f32> {
        let mut resampler = Resampler::new(input, output);
        let mut out = Vec::new();
        for &sample in samples {
            resampler.push(sample, |value| out.push(value));
        }
        out
    }

    #[test]
    fn a_tone_survives_every_common_rate() {
        for rate in [8_000, 16_000, 22_050, 32_000, 44_100, 96_000, 192_000] {
            for (input, output) in [(rate, 48_000), (48_000, rate)] {
                let got = convert(input, output, &sine(input, 997.0, input as usize / 5));
                let want = sine(output, 997.0, got.len());
                let worst =
                    got[400..].iter().zip(&want[400..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 2e-3, "{input} to {output}: off by {worst}");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_removed() {
        let got = convert(48_000, 16_000, &sine(48_000, 12_000.0, 9_600));
        let loudest = got[100..].iter().fold(0.0f32, |top, value| top.max(value.abs()));
        assert!(loudest < 1e-3, "alias of {loudest}");
    }

    #[test]
    fn the_number_of_outputs_follows_the_ratio() {
        let got = convert(44_100, 48_000, &vec![0.0; 44_100]);
        assert!((47_960..=48_000).contains(&got.len()), "{}", got.len());
    }
}
