//! Arbitrary packets at arbitrary times into the jitter buffer, with a decoder that fails now and then. Whatever comes: no panic, every
//! pull gives finite sound, and the delay stays within its limits.
#![no_main]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use snug_jitter::{AudioDecoder, JitterBuffer, JitterConfig, PULL_SAMPLES, Packet};

#[derive(Arbitrary, Debug)]
enum Op {
    /// The next packet of a stream, or one that was sent so many packets before or after.
    Packet {
        offset: i8,
        redundant: bool,
        payload: Vec<u8>,
    },
    /// Anything at all.
    Stray {
        sequence: Option<u16>,
        timestamp: u32,
        payload: Vec<u8>,
    },
    Pull {
        times: u8,
    },
    Wait {
        milliseconds: u8,
    },
    /// The sender paused.
    Pause {
        packets: u16,
    },
    Minimum {
        milliseconds: u16,
    },
}

/// A payload says how long its sound is; some cannot be decoded.
struct Decoder;

impl AudioDecoder for Decoder {
    type Error = ();

    fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<usize, ()> {
        let samples = match payload.first() {
            None | Some(255) => return Err(()),
            Some(first) => usize::from(first % 49) * 120,
        };
        out.extend((0..samples).map(|index| (index as f32 * 0.05).sin()));
        Ok(samples)
    }

    fn decode_fec(&mut self, payload: &[u8], samples: usize, out: &mut Vec<f32>) -> Result<usize, ()> {
        if payload.len() % 3 == 0 {
            return Err(());
        }
        out.extend(std::iter::repeat_n(0.5, samples));
        Ok(samples)
    }

    fn conceal(&mut self, samples: usize, out: &mut Vec<f32>) -> Result<usize, ()> {
        out.extend(std::iter::repeat_n(0.25, samples));
        Ok(samples)
    }

    fn has_fec(&self, payload: &[u8]) -> bool {
        payload.get(1).is_some_and(|second| second % 2 == 0)
    }
}

fuzz_target!(|ops: Vec<Op>| {
    // One start for all runs, so that a failing input fails again.
    static START: OnceLock<Instant> = OnceLock::new();
    let mut now = *START.get_or_init(Instant::now);
    let config = JitterConfig::default();
    let mut buffer = JitterBuffer::new(config);
    let mut decoder = Decoder;
    let mut next = 0_u32;
    for op in ops.into_iter().take(2000) {
        match op {
            Op::Packet { offset, redundant, payload } => {
                let number = next.wrapping_add_signed(i32::from(offset % 8));
                next = next.wrapping_add(1);
                buffer.insert(
                    Packet {
                        sequence: (!redundant).then_some(number as u16),
                        timestamp: number.wrapping_mul(960),
                        payload: Bytes::from(payload),
                        redundant,
                    },
                    now,
                );
            }
            Op::Stray { sequence, timestamp, payload } => {
                let redundant = sequence.is_none();
                buffer.insert(Packet { sequence, timestamp, payload: Bytes::from(payload), redundant }, now);
            }
            Op::Pull { times } => {
                for _ in 0..times % 50 {
                    now += Duration::from_millis(10);
                    let mut out = [f32::NAN; PULL_SAMPLES];
                    buffer.pull(now, &mut decoder, &mut out);
                    assert!(out.iter().all(|sample| sample.is_finite()), "a sample was left out");
                }
            }
            Op::Wait { milliseconds } => now += Duration::from_millis(u64::from(milliseconds)),
            Op::Pause { packets } => next = next.wrapping_add(u32::from(packets)),
            Op::Minimum { milliseconds } => {
                buffer.set_minimum_delay(Duration::from_millis(u64::from(milliseconds)));
            }
        }
        let target = buffer.target_delay();
        assert!(target >= config.min_delay && target <= config.max_delay, "{target:?}");
    }
});
