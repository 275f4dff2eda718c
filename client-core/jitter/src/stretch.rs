//! Cuts one period out of the sound or repeats one, so that nobody hears it (WSOLA).
//!
//! ```text
//! in    |--period--|--period--|-- rest
//! cut   |first fading into second|-- rest              one period shorter
//! more  |--first--|second fading into first|-- rest of the first, on      one period longer
//! ```
//! A place is good when the sound resembles itself one period later (voiced, stationary) or when there is nothing to hear.

/// The shortest period: 2.5 ms, 400 Hz.
const MIN_PERIOD: usize = 120;
/// The longest period: 15 ms, 67 Hz.
const MAX_PERIOD: usize = 720;
/// The search looks at every sixth sample, 8 kHz, and refines what it found.
const COARSE: usize = 6;
/// Below this level (root mean square) nothing is heard: −66 dB.
const SILENCE: f32 = 0.000_5;
/// Background noise is never taken to be louder: −46 dB. A lasting tone is not noise.
const MAX_FLOOR: f32 = 0.005;
/// Samples that speech is changed by, per sample that was played: a tenth.
const SHARE: usize = 10;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Shorter,
    Longer,
}

/// Finds good places and spends no more than a tenth of the time on changes of speech.
#[derive(Debug)]
pub(crate) struct Stretcher {
    floor: f32,
    credit: usize,
}

impl Stretcher {
    pub(crate) fn new() -> Self {
        // Nothing is taken for noise before some of it was heard.
        Self { floor: SILENCE / 4.0, credit: 0 }
    }

    /// A frame was decoded: follows the background noise.
    pub(crate) fn hear(&mut self, frame: &[f32]) {
        let level = level(frame);
        self.floor =
            if level < self.floor { level } else { (self.floor * 1.01).clamp(SILENCE / 4.0, MAX_FLOOR) };
        self.credit = (self.credit + frame.len()).min(SHARE * MAX_PERIOD);
    }

    /// Changes the beginning of `sound`, which follows on what was played, if it is a good place: if it resembles itself by at least
    /// `alike` (1 is perfect), or is silent. Returns the samples taken out or put in.
    pub(crate) fn change(&mut self, sound: &mut Vec<f32>, change: Change, alike: f32) -> usize {
        if sound.len() < 2 * MIN_PERIOD {
            return 0;
        }
        let silent = level(sound) < (self.floor * 2.0).max(SILENCE);
        let Some((period, likeness)) = best_period(sound) else { return 0 };
        if !silent && (likeness < alike || self.credit < SHARE * period) {
            return 0;
        }
        // In silence any length does: the longer, the sooner the delay is right.
        let period = if silent { (sound.len() / 2).min(MAX_PERIOD) } else { period };
        if !silent {
            self.credit -= SHARE * period;
        }
        let fade = |index: usize| (index as f32 + 0.5) / period as f32;
        match change {
            Change::Shorter => {
                for index in 0..period {
                    let weight = fade(index);
                    sound[index] = sound[index] * (1.0 - weight) + sound[index + period] * weight;
                }
                sound.drain(period..2 * period);
            }
            Change::Longer => {
                let blend: Vec<f32> = (0..period)
                    .map(|index| sound[index + period] * (1.0 - fade(index)) + sound[index] * fade(index))
                    .collect();
                sound.splice(period..period, blend);
            }
        }
        period
    }
}

/// Root mean square.
fn level(sound: &[f32]) -> f32 {
    let energy: f32 = sound.iter().map(|sample| sample * sample).sum();
    (energy / sound.len().max(1) as f32).sqrt()
}

/// The period by which the beginning of the sound resembles itself most, and how much (−1…1).
fn best_period(sound: &[f32]) -> Option<(usize, f32)> {
    let longest = MAX_PERIOD.min(sound.len() / 2);
    let pick = |best: Option<(usize, f32)>, period: usize, step: usize| {
        let likeness = likeness(sound, period, step);
        if best.is_none_or(|(_, best)| likeness > best) { Some((period, likeness)) } else { best }
    };
    let (coarse, _) =
        (MIN_PERIOD..=longest).step_by(COARSE).fold(None, |best, period| pick(best, period, COARSE))?;
    let around = coarse.saturating_sub(COARSE - 1).max(MIN_PERIOD)..=(coarse + COARSE - 1).min(longest);
    around.fold(None, |best, period| pick(best, period, 1))
}

/// Normalised correlation of the first `period` samples with the next `period`, over every `step`th. Short periods are compared over
/// several of their lengths, as far as the sound reaches, so that a formant is not taken for a pitch.
fn likeness(sound: &[f32], period: usize, step: usize) -> f32 {
    let length = (sound.len() - period).min(period.max(2 * MIN_PERIOD));
    let (mut cross, mut first, mut second) = (0.0_f32, 0.0_f32, 0.0_f32);
    for (a, b) in sound[..length].iter().zip(&sound[period..period + length]).step_by(step) {
        cross += a * b;
        first += a * a;
        second += b * b;
    }
    let energy = (first * second).sqrt();
    if energy > f32::MIN_POSITIVE { cross / energy } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::{Change, MAX_PERIOD, SHARE, Stretcher};

    fn tone(length: usize, hertz: f32) -> Vec<f32> {
        (0..length).map(|n| 0.3 * (std::f32::consts::TAU * hertz * n as f32 / 48_000.0).sin()).collect()
    }

    fn ready() -> Stretcher {
        let mut stretcher = Stretcher::new();
        stretcher.hear(&tone(SHARE * MAX_PERIOD, 200.0));
        stretcher
    }

    fn steepest(sound: &[f32]) -> f32 {
        sound.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_tone_keeps_its_shape_when_a_period_is_cut_or_repeated() {
        for (change, sign) in [(Change::Shorter, -1), (Change::Longer, 1)] {
            let mut sound = tone(1_440, 200.0);
            let plain = steepest(&sound);
            let changed = ready().change(&mut sound, change, 0.9);
            assert!(changed > 0 && changed.is_multiple_of(240), "{changed} samples");
            assert_eq!(sound.len() as i64, 1_440 + sign * changed as i64);
            assert!(steepest(&sound) < plain * 1.05);
        }
    }

    #[test]
    fn speech_is_changed_by_a_tenth_of_the_time_at_most() {
        let mut stretcher = Stretcher::new();
        let mut cut = 0;
        for _ in 0..100 {
            let mut sound = tone(960, 150.0);
            stretcher.hear(&sound);
            cut += stretcher.change(&mut sound, Change::Shorter, 0.5);
        }
        assert!(cut > 0 && cut <= 9_600, "{cut} of 96000 samples");
    }

    #[test]
    fn sound_without_a_period_is_left_alone() {
        let mut state = 1_u32;
        let mut sound: Vec<f32> = (0..960)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        assert_eq!(ready().change(&mut sound, Change::Shorter, 0.9), 0);
    }

    #[test]
    fn silence_is_cut_by_as_much_as_there_is() {
        let mut sound = vec![0.0; 960];
        assert_eq!(Stretcher::new().change(&mut sound, Change::Shorter, 0.9), 480);
        assert_eq!(sound.len(), 480);
    }
}
