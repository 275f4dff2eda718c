//! How loud a block is, whether somebody speaks, and how a sum of voices is kept below full scale.

use crate::BLOCK;

/// Level of digital silence in dB below full scale.
pub const SILENCE_DB: f32 = -100.0;
/// Blocks that speech lasts on after its last loud one: 200 ms.
const HANGOVER: u8 = 20;
/// How far speech is above the noise, in dB.
const ABOVE_NOISE: f32 = 9.0;
/// Below this nothing is speech, in dB.
const QUIETEST_SPEECH: f32 = -55.0;

/// RMS of samples in dB, full scale being zero.
pub(crate) fn level_db(samples: &[f32]) -> f32 {
    let energy: f32 = samples.iter().map(|s| s * s).sum::<f32>() / samples.len().max(1) as f32;
    (10.0 * energy.max(1e-10).log10()).max(SILENCE_DB)
}

/// Tells speech from steady noise by level.
#[derive(Clone, Debug)]
pub(crate) struct VoiceDetector {
    noise_db: f32,
    left: u8,
}

impl Default for VoiceDetector {
    fn default() -> Self {
        Self { noise_db: -65.0, left: 0 }
    }
}

impl VoiceDetector {
    /// Takes the level of the next block.
    pub(crate) fn push(&mut self, db: f32) -> bool {
        // The noise is followed downwards at once, upwards by 1 dB a second.
        self.noise_db = if db < self.noise_db { db.max(-80.0) } else { self.noise_db + 0.01 };
        if db > QUIETEST_SPEECH && db > self.noise_db + ABOVE_NOISE {
            self.left = HANGOVER;
        } else {
            self.left = self.left.saturating_sub(1);
        }
        self.left > 0
    }
}

/// A limiter for the mix: quick down, slow up, and bent instead of cut in between.
#[derive(Debug)]
pub(crate) struct Limiter {
    gain: f32,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { gain: 1.0 }
    }
}

impl Limiter {
    const CEILING: f32 = 0.89;
    /// Samples to come down in: 1 ms.
    const ATTACK: usize = 48;
    /// Share of the way back up in a block: about 200 ms.
    const RELEASE: f32 = 0.05;

    pub(crate) fn apply(&mut self, block: &mut [f32; BLOCK]) {
        let peak = block.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
        let fits = if peak > Self::CEILING { Self::CEILING / peak } else { 1.0 };
        let start = self.gain;
        let (end, ramp) =
            if fits < start { (fits, Self::ATTACK) } else { (start + (fits - start) * Self::RELEASE, BLOCK) };
        for (at, sample) in block.iter_mut().enumerate() {
            let part = (at as f32 / ramp as f32).min(1.0);
            *sample = bend(*sample * (start + (end - start) * part));
        }
        self.gain = end;
    }
}

/// Linear up to 0.9, from there on towards 1 and never beyond.
fn bend(value: f32) -> f32 {
    const KNEE: f32 = 0.9;
    let over = value.abs() - KNEE;
    if over <= 0.0 { value } else { value.signum() * (KNEE + (1.0 - KNEE) * (over / (1.0 - KNEE)).tanh()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_scale_sine_has_minus_three_db() {
        let sine: [f32; BLOCK] = std::array::from_fn(|i| (i as f32 * std::f32::consts::TAU / 48.0).sin());
        assert!((level_db(&sine) + 3.01).abs() < 0.05);
        assert_eq!(level_db(&[0.0; BLOCK]), SILENCE_DB);
    }

    #[test]
    fn steady_noise_is_not_speech_for_long_and_a_voice_above_it_is() {
        let mut detector = VoiceDetector::default();
        let mut noisy = true;
        for _ in 0..2_000 {
            noisy = detector.push(-50.0);
        }
        assert!(!noisy);
        assert!(detector.push(-25.0));
        assert!((0..HANGOVER - 1).all(|_| detector.push(-50.0)));
        assert!(!detector.push(-50.0));
    }

    #[test]
    fn a_quiet_mix_passes_untouched_and_a_loud_one_stays_below_full_scale() {
        let mut limiter = Limiter::default();
        let quiet: [f32; BLOCK] = std::array::from_fn(|i| (i as f32 / 7.0).sin() * 0.5);
        let mut block = quiet;
        limiter.apply(&mut block);
        assert_eq!(block, quiet);
        for _ in 0..20 {
            let mut loud = quiet.map(|sample| sample * 9.0);
            limiter.apply(&mut loud);
            assert!(loud.iter().all(|sample| sample.abs() <= 1.0));
        }
        let mut loud = quiet.map(|sample| sample * 9.0);
        limiter.apply(&mut loud);
        let scale = loud[1] / quiet[1];
        assert!(
            loud.iter().zip(&quiet).all(|(l, q)| (l - q * scale).abs() < 0.02),
            "bent although it had time"
        );
    }
}
