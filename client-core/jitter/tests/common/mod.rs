//! A sender with real Opus, a seeded network in virtual time, and a listener.

#![allow(clippy::unwrap_used, reason = "a test that cannot start has failed")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use snug_codec::opus::{Channels, Decoder, Encoder, EncoderConfig, OpusError};
use snug_jitter::{AudioDecoder, JitterBuffer, JitterConfig, Packet};

pub struct Opus(Decoder);

impl Opus {
    pub fn new() -> Self {
        Self(Decoder::new(Channels::Mono).unwrap())
    }
}

impl AudioDecoder for Opus {
    type Error = OpusError;

    fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<usize, OpusError> {
        self.0.decode(payload, out)
    }

    fn decode_fec(&mut self, payload: &[u8], samples: usize, out: &mut Vec<f32>) -> Result<usize, OpusError> {
        self.0.decode_fec(payload, samples, out)
    }

    fn conceal(&mut self, samples: usize, out: &mut Vec<f32>) -> Result<usize, OpusError> {
        self.0.conceal(samples, out)
    }

    fn has_fec(&self, payload: &[u8]) -> bool {
        Decoder::has_fec(payload)
    }
}

/// A small generator with a printed seed.
pub struct Dice(pub u64);

impl Dice {
    /// 0…1.
    pub fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

pub fn tone(seconds: usize) -> Vec<f32> {
    (0..seconds * 48_000).map(|n| 0.3 * (std::f32::consts::TAU * 440.0 * n as f32 / 48_000.0).sin()).collect()
}

/// Syllables of a gliding voice with silence between them.
pub fn speech(seconds: usize) -> Vec<f32> {
    let mut phase = 0.0_f32;
    (0..seconds * 48_000)
        .map(|n| {
            let time = n as f32 / 48_000.0;
            let pitch = 130.0 + 30.0 * (time * 1.7).sin();
            phase = (phase + pitch / 48_000.0).fract();
            let syllable =
                (time * 3.1 * std::f32::consts::PI).sin().max(0.0) * f32::from(u8::from((time % 3.0) < 2.0));
            (1..12).map(|k| (std::f32::consts::TAU * phase * k as f32).sin() / k as f32).sum::<f32>()
                * 0.2
                * syllable
        })
        .collect()
}

#[derive(Clone)]
pub struct Net {
    pub seed: u64,
    pub jitter_ms: f64,
    pub loss: f64,
    pub copies: usize,
    pub fec_percent: u8,
    pub dtx: bool,
    /// Sender's clock against the listener's.
    pub drift_ppm: f64,
}

impl Net {
    pub fn perfect() -> Self {
        Self { seed: 7, jitter_ms: 0.0, loss: 0.0, copies: 0, fec_percent: 0, dtx: false, drift_ppm: 0.0 }
    }
}

pub struct Heard {
    pub sound: Vec<f32>,
    pub buffer: JitterBuffer,
    /// Delay and target after each pull, in milliseconds.
    pub delays: Vec<(f64, f64)>,
}

/// Runs the sound through encoder, network and buffer.
pub fn call(sound: &[f32], net: &Net) -> Heard {
    eprintln!("network seed {}", net.seed);
    let start = Instant::now();
    let mut dice = Dice(net.seed);
    let config = EncoderConfig { dtx: net.dtx, ..EncoderConfig::voice() };
    let mut encoder = Encoder::new(config).unwrap();
    encoder.set_loss_percent(net.fec_percent).unwrap();
    let mut arrivals: BTreeMap<(u64, usize), Vec<Packet>> = BTreeMap::new();
    let mut sent: Vec<(u32, Bytes)> = Vec::new();
    let (mut sequence, mut was_silent) = (65_500_u16, false);
    for (index, frame) in sound.as_chunks::<960>().0.iter().enumerate() {
        let encoded = encoder.encode(frame).unwrap();
        let timestamp = 4_294_900_000_u32.wrapping_add(index as u32 * 960);
        let skip = encoded.silent && was_silent;
        was_silent = encoded.silent;
        if skip {
            continue;
        }
        let payload = Bytes::copy_from_slice(encoded.payload);
        let copies = sent.iter().rev().take(net.copies).rev().map(|(timestamp, payload)| Packet {
            sequence: None,
            timestamp: *timestamp,
            payload: payload.clone(),
            redundant: true,
        });
        let mut group: Vec<Packet> = copies.collect();
        group.push(Packet {
            sequence: Some(sequence),
            timestamp,
            payload: payload.clone(),
            redundant: false,
        });
        sent.push((timestamp, payload));
        sequence = sequence.wrapping_add(1);
        let micros =
            index as f64 * 20_000.0 * (1.0 + net.drift_ppm * 1e-6) + dice.roll() * net.jitter_ms * 1_000.0;
        if dice.roll() >= net.loss {
            arrivals.insert((micros as u64, index), group);
        }
    }
    let mut buffer = JitterBuffer::new(JitterConfig::default());
    let mut decoder = Opus::new();
    let (mut heard, mut delays) = (Vec::new(), Vec::new());
    for pull in 0..sound.len() / 480 {
        let micros = pull as u64 * 10_000;
        while let Some(first) = arrivals.first_entry().filter(|entry| entry.key().0 <= micros) {
            let at = start + Duration::from_micros(first.key().0);
            for packet in first.remove() {
                buffer.insert(packet, at);
            }
        }
        let mut out = [0.0; 480];
        buffer.pull(start + Duration::from_micros(micros), &mut decoder, &mut out);
        heard.extend_from_slice(&out);
        let millis = |delay: Duration| delay.as_secs_f64() * 1e3;
        delays.push((millis(buffer.current_delay()), millis(buffer.target_delay())));
    }
    Heard { sound: heard, buffer, delays }
}

/// Share of the energy at this frequency, 0…1.
pub fn purity(sound: &[f32], hertz: f64) -> f64 {
    let (mut re, mut im, mut all) = (0.0, 0.0, 0.0);
    for (n, sample) in sound.iter().enumerate() {
        let angle = std::f64::consts::TAU * hertz * n as f64 / 48_000.0;
        re += f64::from(*sample) * angle.cos();
        im += f64::from(*sample) * angle.sin();
        all += f64::from(*sample) * f64::from(*sample);
    }
    if all > 0.0 { 2.0 * (re * re + im * im) / (all * sound.len() as f64) } else { 0.0 }
}

pub fn steepest(sound: &[f32]) -> f32 {
    sound.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max)
}
