//! Echo cancelling, noise suppression and gain for one microphone, by `sonora`. A fault inside it costs the blocks
//! until it is built anew, never the call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use sonora::config::{AdaptiveDigital, EchoCanceller, GainController2, HighPassFilter, NoiseSuppression};
use sonora::{AudioProcessing, Config, StreamConfig};

use crate::{BLOCK, SAMPLE_RATE};

/// Gain before anybody was heard. What is left of an echo is raised by it too, and the most is left in the first second,
/// so it is little; a quiet microphone is raised by 6 dB a second once it hears speech.
const INITIAL_GAIN_DB: f32 = 6.0;

/// What is done to the microphone's sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processing {
    /// Takes out what the speaker plays.
    pub echo: bool,
    /// Takes out steady noise.
    pub noise: bool,
    /// Brings speech to an even level.
    pub gain: bool,
}

impl Processing {
    /// Sound as it comes: for files, music and shared screens.
    pub const NONE: Self = Self { echo: false, noise: false, gain: false };
    /// What a call with a speaker and a microphone needs.
    pub const ALL: Self = Self { echo: true, noise: true, gain: true };
}

/// The processing of one microphone against one speaker.
pub struct Apm {
    processing: Processing,
    inner: Option<AudioProcessing>,
    rebuilt: u64,
}

impl Apm {
    /// Starts untrained.
    pub fn new(processing: Processing) -> Self {
        Self { processing, inner: build(processing), rebuilt: 0 }
    }

    /// Changes what is done; the echo path has to be learnt again.
    pub fn set_processing(&mut self, processing: Processing) {
        if self.processing != processing {
            self.processing = processing;
            self.inner = build(processing);
        }
    }

    /// How often a fault made it start again.
    pub fn rebuilt(&self) -> u64 {
        self.rebuilt
    }

    /// Takes a block exactly as it goes to the speaker, before its echo can arrive.
    pub fn render(&mut self, block: &[f32; BLOCK]) {
        if !self.processing.echo {
            return;
        }
        self.guard(|apm| {
            let mut out = [0.0; BLOCK];
            let _ = apm.process_render_f32(&[block], &mut [&mut out]);
        });
    }

    /// Cleans a block from the microphone in place. `delay` is the guess of the time from [`render`](Self::render)
    /// to here.
    pub fn capture(&mut self, block: &mut [f32; BLOCK], delay: Duration) {
        let source = *block;
        let milliseconds = i32::try_from(delay.as_millis()).unwrap_or(i32::MAX).min(500);
        let mut out = [0.0; BLOCK];
        let mut done = false;
        self.guard(|apm| {
            let _ = apm.set_stream_delay_ms(milliseconds);
            done = apm.process_capture_f32(&[&source], &mut [&mut out]).is_ok();
        });
        if done {
            *block = out.map(|value| if value.is_finite() { value.clamp(-1.0, 1.0) } else { 0.0 });
        }
    }

    fn guard(&mut self, work: impl FnOnce(&mut AudioProcessing)) {
        let Some(inner) = &mut self.inner else { return };
        // What a panic leaves half done is thrown away whole.
        if catch_unwind(AssertUnwindSafe(|| work(inner))).is_err() {
            self.rebuilt += 1;
            tracing::error!(rebuilt = self.rebuilt, "the echo canceller failed and starts again");
            self.inner = build(self.processing);
        }
    }
}

fn build(processing: Processing) -> Option<AudioProcessing> {
    if processing == Processing::NONE {
        return None;
    }
    let config = Config {
        high_pass_filter: Some(HighPassFilter::default()),
        echo_canceller: processing.echo.then(EchoCanceller::default),
        noise_suppression: processing.noise.then(NoiseSuppression::default),
        gain_controller2: processing.gain.then(|| GainController2 {
            adaptive_digital: Some(AdaptiveDigital {
                initial_gain_db: INITIAL_GAIN_DB,
                ..AdaptiveDigital::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let stream = StreamConfig::new(SAMPLE_RATE, 1);
    Some(AudioProcessing::builder().config(config).capture_config(stream).render_config(stream).build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Voice;
    use crate::level::level_db;

    /// A room with a speaker and a microphone: 60 ms of device delay, reverberation of 0.35 s, a speaker that saturates.
    struct Room {
        heard: Vec<f32>,
        paths: Vec<(usize, f32)>,
    }

    impl Room {
        fn new() -> Self {
            let rate = SAMPLE_RATE as usize;
            let delay = rate * 60 / 1_000;
            let mut random = 0x5eed_u64;
            let mut paths = vec![(delay, 0.5)];
            for _ in 0..160 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let later = (random >> 33) as usize % (rate * 35 / 100);
                let decay = 10f32.powf(-3.0 * later as f32 / (0.35 * rate as f32));
                let sign = if random & (1 << 32) == 0 { 1.0 } else { -1.0 };
                paths.push((delay + later, sign * 0.12 * decay));
            }
            Self { heard: Vec::new(), paths }
        }

        fn echo(&mut self, played: &[f32; BLOCK]) -> [f32; BLOCK] {
            let start = self.heard.len();
            self.heard.extend(played.iter().map(|sample| (1.5 * sample).tanh() / 1.5));
            std::array::from_fn(|i| {
                let at = start + i;
                self.paths
                    .iter()
                    .map(|&(by, gain)| at.checked_sub(by).map_or(0.0, |at| self.heard[at] * gain))
                    .sum()
            })
        }
    }

    #[test]
    fn the_echo_of_a_voice_is_gone_after_four_seconds() {
        let mut room = Room::new();
        let mut apm = Apm::new(Processing { echo: true, noise: false, gain: false });
        let mut voice = Voice::new(2);
        let (mut echoes, mut left) = (Vec::new(), Vec::new());
        for _ in 0..600 {
            let played = std::array::from_fn(|_| voice.next());
            apm.render(&played);
            let mut block = room.echo(&played);
            echoes.extend_from_slice(&block);
            apm.capture(&mut block, Duration::from_millis(60));
            left.extend_from_slice(&block);
        }
        let erle = |from: usize, to: usize| {
            let range = from * SAMPLE_RATE as usize / 10..to * SAMPLE_RATE as usize / 10;
            level_db(&echoes[range.clone()]) - level_db(&left[range])
        };
        let (early, late) = (erle(3, 10), erle(40, 60));
        assert!(early >= 12.0, "{early} dB in the first second, {late} dB later");
        assert!(late >= 38.0, "{late} dB after four seconds, {early} dB in the first");
    }
}
