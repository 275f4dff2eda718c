//! Sounds made up: for tests, for calls without a microphone.

use std::f32::consts::TAU;

use crate::SAMPLE_RATE;

/// A sine.
pub(super) struct Tone {
    step: f32,
    phase: f32,
    amplitude: f32,
}

impl Tone {
    pub(super) fn new(hz: f32, level_db: f32) -> Self {
        Self { step: hz / SAMPLE_RATE as f32, phase: 0.0, amplitude: 10f32.powf(level_db.min(0.0) / 20.0) }
    }

    pub(super) fn next(&mut self) -> f32 {
        let value = (TAU * self.phase).sin() * self.amplitude;
        self.phase = (self.phase + self.step).fract();
        value
    }
}

/// Something like a voice: pulses of a wandering pitch through three resonances, in syllables with pauses, with some
/// breath. Enough to keep voice detection, echo cancelling and codecs busy as speech does.
pub(crate) struct Voice {
    random: u64,
    at: u64,
    phase: f32,
    pitch: f32,
    vowel: usize,
    resonances: [Resonance; 3],
}

/// First three formants of five vowels in Hz.
const VOWELS: [[f32; 3]; 5] = [
    [730.0, 1090.0, 2440.0],
    [530.0, 1840.0, 2480.0],
    [390.0, 1990.0, 2550.0],
    [570.0, 840.0, 2410.0],
    [440.0, 1020.0, 2240.0],
];

impl Voice {
    /// The same seed speaks the same words; an odd one has the higher voice.
    pub(crate) fn new(seed: u64) -> Self {
        let pitch = if seed % 2 == 1 { 205.0 } else { 118.0 };
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { random, at: 0, phase: 0.0, pitch, vowel: 0, resonances: Default::default() }
    }

    pub(crate) fn next(&mut self) -> f32 {
        let syllable = u64::from(SAMPLE_RATE) * 9 / 50;
        let within = self.at % syllable;
        if within == 0 {
            self.vowel = (self.noise_bits() % 5) as usize;
            for (resonance, hz) in self.resonances.iter_mut().zip(VOWELS[self.vowel]) {
                resonance.tune(hz);
            }
        }
        let seconds = self.at as f32 / SAMPLE_RATE as f32;
        // Every ninth and tenth syllable is a pause.
        let pause = (self.at / syllable) % 10 >= 8;
        let envelope = if pause { 0.0 } else { (TAU / 2.0 * within as f32 / syllable as f32).sin().sqrt() };
        let pitch =
            self.pitch * (1.0 + 0.12 * (TAU * 0.7 * seconds).sin() + 0.05 * (TAU * 2.3 * seconds).sin());
        self.phase += pitch / SAMPLE_RATE as f32;
        let mut source = 0.02 * (self.noise_bits() as f32 / f32::from(u16::MAX) - 0.5);
        if self.phase >= 1.0 {
            self.phase -= 1.0;
            source += 1.0;
        }
        self.at += 1;
        let source = source * envelope;
        let sum: f32 =
            self.resonances.iter_mut().zip([1.0, 0.6, 0.3]).map(|(r, gain)| r.pass(source) * gain).sum();
        (sum * 2.2).clamp(-0.9, 0.9)
    }

    fn noise_bits(&mut self) -> u16 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 40) as u16
    }
}

/// Two poles.
#[derive(Default)]
struct Resonance {
    a1: f32,
    a2: f32,
    y1: f32,
    y2: f32,
}

impl Resonance {
    fn tune(&mut self, hz: f32) {
        let radius = (-TAU / 2.0 * 90.0 / SAMPLE_RATE as f32).exp();
        self.a1 = 2.0 * radius * (TAU * hz / SAMPLE_RATE as f32).cos();
        self.a2 = -radius * radius;
    }

    fn pass(&mut self, input: f32) -> f32 {
        let output = input * 0.05 + self.a1 * self.y1 + self.a2 * self.y2;
        self.y2 = self.y1;
        self.y1 = output;
        output
    }
}
