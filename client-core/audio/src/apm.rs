//! Echo cancelling, noise suppression and gain for one microphone, by `sonora`. A fault inside it costs the blocks
//! until it is built anew, never the call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use sonora::config::{AdaptiveDigital, EchoCanceller, GainController2, HighPassFilter, NoiseSuppression};
use sonora::{AudioProcessing, Config, StreamConfig};

use crate::level::level_db;
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
    learning: Learning,
    rebuilt: u64,
}

/// Makes the microphone quieter while an untrained echo canceller hears the other end: for a second of its speech.
struct Learning {
    /// Loud blocks that were played.
    played: u32,
    /// Blocks for which an echo of the last loud one may last.
    echoing: u32,
    gain: f32,
}

impl Learning {
    /// Loud blocks after which the canceller knows enough: 1 s.
    const ENOUGH: u32 = 100;
    /// Blocks that devices and a room hold sound for: 400 ms.
    const HELD: u32 = 40;
    /// What is quieter makes no echo that anybody hears, in dB.
    const LOUD_DB: f32 = -50.0;
    /// 8 dB less.
    const DUCKED: f32 = 0.4;

    fn new() -> Self {
        Self { played: 0, echoing: 0, gain: 1.0 }
    }

    fn play(&mut self, block: &[f32; BLOCK]) {
        if self.played < Self::ENOUGH && level_db(block) > Self::LOUD_DB {
            self.played += 1;
            self.echoing = Self::HELD;
        }
    }

    fn duck(&mut self, block: &mut [f32; BLOCK]) {
        self.echoing = self.echoing.saturating_sub(1);
        let wanted = if self.played < Self::ENOUGH && self.echoing > 0 { Self::DUCKED } else { 1.0 };
        let (from, step) = (self.gain, (wanted - self.gain) / BLOCK as f32);
        self.gain = wanted;
        if from == 1.0 && wanted == 1.0 {
            return;
        }
        for (at, sample) in block.iter_mut().enumerate() {
            *sample *= from + step * at as f32;
        }
    }
}

impl Apm {
    /// Starts untrained.
    pub fn new(processing: Processing) -> Self {
        Self { processing, inner: build(processing), learning: Learning::new(), rebuilt: 0 }
    }

    /// Changes what is done; the echo path has to be learnt again.
    pub fn set_processing(&mut self, processing: Processing) {
        if self.processing != processing {
            self.processing = processing;
            self.inner = build(processing);
            self.learning = Learning::new();
        }
    }

    /// Other devices: what was learnt of the echo's path is worth nothing.
    pub fn path_changed(&mut self) {
        self.learning = Learning::new();
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
        self.learning.play(block);
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
            self.learning.duck(block);
        }
    }

    fn guard(&mut self, work: impl FnOnce(&mut AudioProcessing)) {
        let Some(inner) = &mut self.inner else { return };
        // What a panic leaves half done is thrown away whole.
        if catch_unwind(AssertUnwindSafe(|| work(inner))).is_err() {
            self.rebuilt += 1;
            tracing::error!(rebuilt = self.rebuilt, "the echo canceller failed and starts again");
            self.inner = build(self.processing);
            self.learning = Learning::new();
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

    const RATE: usize = SAMPLE_RATE as usize;

    /// What a microphone hears of a speaker that saturates: 60 ms of devices, then a direct way and a dense tail that
    /// falls by 60 dB in 0.35 s.
    fn through_a_room(played: &[f32]) -> Vec<f32> {
        let mut random = 0x5eed_u64;
        let mut noise = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        let length = RATE * 35 / 100;
        let tail = (0..length).map(|tap| 0.03 * noise() * 10f32.powf(-3.0 * tap as f32 / length as f32));
        let room: Vec<f32> = std::iter::once(0.3).chain(tail).collect();
        let delay = RATE * 60 / 1_000;
        let spoken: Vec<f32> = played.iter().map(|sample| (2.0 * sample).tanh() / 2.0).collect();
        let mut heard = vec![0.0; played.len()];
        for (tap, gain) in room.iter().enumerate() {
            for (out, sample) in heard[delay + tap..].iter_mut().zip(&spoken) {
                *out += gain * sample;
            }
        }
        heard
    }

    /// Echo return loss enhancement of six seconds of one voice, in dB: 0.3–1 s, and after four seconds.
    fn enhancement(processing: Processing) -> (f32, f32) {
        let mut voice = Voice::new(2);
        let played: Vec<f32> = (0..6 * RATE).map(|_| voice.next()).collect();
        let heard = through_a_room(&played);
        let mut apm = Apm::new(processing);
        let mut left = Vec::new();
        for (played, heard) in played.as_chunks::<BLOCK>().0.iter().zip(heard.as_chunks::<BLOCK>().0) {
            apm.render(played);
            let mut block = *heard;
            apm.capture(&mut block, Duration::from_millis(60));
            left.extend_from_slice(&block);
        }
        let erle = |from: usize, to: usize| {
            let range = from * RATE / 10..to * RATE / 10;
            level_db(&heard[range.clone()]) - level_db(&left[range])
        };
        (erle(3, 10), erle(40, 60))
    }

    #[test]
    fn the_echo_of_a_voice_is_mostly_gone_at_once_and_wholly_after_four_seconds() {
        for processing in [Processing { echo: true, noise: false, gain: false }, Processing::ALL] {
            let (early, late) = enhancement(processing);
            assert!(early >= 25.0, "{processing:?}: {early} dB in the first second, {late} dB later");
            assert!(late >= 38.0, "{processing:?}: {late} dB after four seconds, {early} dB in the first");
        }
    }
}
