//! Single packets against a decoder that plays the number in each.
#![expect(clippy::disallowed_methods, reason = "virtual time needs one instant to begin with")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use snug_jitter::{AudioDecoder, JitterBuffer, JitterConfig, Packet};

/// Decodes a payload to 20 ms of its first byte / 256; conceals with −1; refuses a payload that begins with 255.
struct Numbers;

impl AudioDecoder for Numbers {
    type Error = ();

    fn decode(&mut self, payload: &[u8], out: &mut Vec<f32>) -> Result<usize, ()> {
        let first = *payload.first().filter(|first| **first != 255).ok_or(())?;
        out.extend(std::iter::repeat_n(f32::from(first) / 256.0, 960));
        Ok(960)
    }

    fn decode_fec(&mut self, _: &[u8], _: usize, _: &mut Vec<f32>) -> Result<usize, ()> {
        Err(())
    }

    fn conceal(&mut self, samples: usize, out: &mut Vec<f32>) -> Result<usize, ()> {
        out.extend(std::iter::repeat_n(-1.0, samples));
        Ok(samples)
    }

    fn has_fec(&self, _: &[u8]) -> bool {
        false
    }
}

fn packet(sequence: u16, timestamp: u32, value: u8) -> Packet {
    Packet { sequence: Some(sequence), timestamp, payload: Bytes::from(vec![value; 10]), redundant: false }
}

fn at(start: Instant, millis: u64) -> Instant {
    start + Duration::from_millis(millis)
}

/// Sends `count` packets from `first` on, one each 20 ms, and pulls along.
fn talk(buffer: &mut JitterBuffer, start: Instant, from_ms: u64, first: (u16, u32), count: u16) -> Vec<f32> {
    let mut heard = Vec::new();
    for index in 0..count {
        let now = from_ms + u64::from(index) * 20;
        let timestamp = first.1.wrapping_add(u32::from(index) * 960);
        buffer.insert(packet(first.0.wrapping_add(index), timestamp, 100), at(start, now));
        for half in [0, 10] {
            let mut out = [0.0; 480];
            buffer.pull(at(start, now + half), &mut Numbers, &mut out);
            heard.extend_from_slice(&out);
        }
    }
    heard
}

#[test]
fn a_packet_that_came_twice_is_played_once() {
    let (start, mut buffer) = (Instant::now(), JitterBuffer::new(JitterConfig::default()));
    buffer.insert(packet(1, 960, 1), start);
    buffer.insert(packet(1, 960, 1), start);
    assert_eq!(buffer.stats().duplicates, 1);
}

#[test]
fn a_sender_that_begins_anew_is_heard_after_two_packets() {
    let (start, mut buffer) = (Instant::now(), JitterBuffer::new(JitterConfig::default()));
    talk(&mut buffer, start, 0, (10, 5_000), 50);
    let heard = talk(&mut buffer, start, 1_000, (40_000, 2_000_000_000), 50);
    assert_eq!((buffer.stats().restarts, buffer.stats().discarded), (1, 2), "{:?}", buffer.stats());
    assert!(heard[heard.len() / 2..].iter().all(|sample| (*sample - 100.0 / 256.0).abs() < 1e-3));
}

#[test]
fn one_stray_packet_changes_nothing() {
    let (start, mut buffer) = (Instant::now(), JitterBuffer::new(JitterConfig::default()));
    talk(&mut buffer, start, 0, (10, 5_000), 50);
    buffer.insert(packet(9, 3_000_000_000, 7), at(start, 1_000));
    talk(&mut buffer, start, 1_000, (60, 53_000), 50);
    let stats = buffer.stats();
    assert_eq!((stats.restarts, stats.discarded, stats.concealed), (0, 1, 0), "{stats:?}");
}

#[test]
fn an_abandoned_stream_falls_silent() {
    let (start, mut buffer) = (Instant::now(), JitterBuffer::new(JitterConfig::default()));
    talk(&mut buffer, start, 0, (10, 5_000), 50);
    let mut out = [1.0; 480];
    for pull in 0..150 {
        buffer.pull(at(start, 1_000 + pull * 10), &mut Numbers, &mut out);
    }
    assert_eq!(out, [0.0; 480]);
    assert_eq!(buffer.playout_timestamp(), None);
}

#[test]
fn a_raised_minimum_is_reached_and_kept() {
    let (start, mut buffer) = (Instant::now(), JitterBuffer::new(JitterConfig::default()));
    buffer.set_minimum_delay(Duration::from_millis(150));
    talk(&mut buffer, start, 0, (10, 5_000), 200);
    let delay = buffer.current_delay();
    assert_eq!(buffer.target_delay(), Duration::from_millis(150));
    assert!(delay >= Duration::from_millis(135) && delay <= Duration::from_millis(170), "{delay:?}");
}

#[test]
fn memory_is_bounded_by_the_packets_allowed() {
    let config = JitterConfig { max_packets: 16, ..JitterConfig::default() };
    let (start, mut buffer) = (Instant::now(), JitterBuffer::new(config));
    for index in 0..100_u16 {
        buffer.insert(packet(index, u32::from(index) * 960, 1), start);
    }
    assert_eq!(buffer.stats().discarded, 84);
}

proptest! {
    #[test]
    fn no_packets_and_no_times_break_it(
        steps in prop::collection::vec(
            (any::<Option<u16>>(), prop_oneof![0_u32..100_000, any::<u32>()], prop::collection::vec(any::<u8>(), 0..4),
             any::<bool>(), prop_oneof![0_u64..2_000, 0_u64..10_000_000], 0_usize..4),
            0..120,
        )
    ) {
        let start = Instant::now();
        let (mut buffer, mut pulls) = (JitterBuffer::new(JitterConfig::default()), 0);
        for (sequence, timestamp, payload, redundant, millis, pull) in steps {
            buffer.insert(Packet { sequence, timestamp, payload: Bytes::from(payload), redundant }, at(start, millis));
            for _ in 0..pull {
                let mut out = [f32::NAN; 480];
                buffer.pull(at(start, millis), &mut Numbers, &mut out);
                pulls += 480;
                prop_assert!(out.iter().all(|sample| sample.abs() <= 1.0));
            }
            prop_assert!(buffer.target_delay() <= Duration::from_secs(1));
        }
        prop_assert_eq!(buffer.stats().played, pulls);
    }
}
