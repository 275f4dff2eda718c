//! CPU time of the whole engine in a call of five: one microphone with everything done to it, one encoding, four
//! remotes that speak all the time, one mix. In real time, as the threads and their waiting cost something too.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use snug_audio::io::{PacedIo, Sink, Source};
use snug_audio::{AudioConfig, AudioEngine, IncomingAudio, PayloadKind, Processing, RemoteId};
use snug_codec::opus::{Encoder, EncoderConfig};

use crate::cpu_seconds;

const REMOTES: u64 = 4;

pub fn run(speech: &Path, seconds: u64) {
    let samples = crate::read(&speech.to_string_lossy());
    let frames = encoded(&samples, seconds as usize + 2);
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let source = Source::Wav { path: speech.to_owned(), repeat: true };
    let engine = AudioEngine::start(
        AudioConfig {
            io: Box::new(PacedIo::new(source, Sink::Discard)),
            processing: Processing::ALL,
            bitrate: 32_000,
            muted: false,
        },
        move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        },
        |_| {},
    )
    .unwrap();
    for remote in 0..REMOTES {
        engine.add(RemoteId(remote)).unwrap();
    }
    let start = Instant::now();
    let mut begun = None;
    for (index, payload) in frames.iter().enumerate() {
        let due = start + Duration::from_millis(20) * index as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A second to get going.
        if begun.is_none() && index >= 50 {
            begun = Some((Instant::now(), cpu_seconds(true)));
        }
        for remote in 0..REMOTES {
            let packet = IncomingAudio {
                sequence: index as u16,
                timestamp: index as u32 * 960,
                payload: payload.clone(),
                kind: PayloadKind::Opus,
                arrival: Instant::now(),
            };
            engine.insert(RemoteId(remote), packet).unwrap();
        }
    }
    let (since, before) = begun.unwrap();
    let (cpu, time) = (cpu_seconds(true) - before, since.elapsed().as_secs_f64());
    println!(
        "cpu\tshare={:.2}\tper_minute={:.2}\tframes={}",
        cpu / time * 100.0,
        cpu / time * 60.0,
        sent.load(Ordering::Relaxed)
    );
    println!("encode\tcpu={:.4}", encoding(&samples));
}

fn encoded(samples: &[f32], seconds: usize) -> Vec<bytes::Bytes> {
    let mut encoder = Encoder::new(EncoderConfig { dtx: false, ..EncoderConfig::voice() }).unwrap();
    let frames = samples.as_chunks::<960>().0;
    (0..seconds * 50)
        .map(|index| {
            bytes::Bytes::copy_from_slice(encoder.encode(&frames[index % frames.len()]).unwrap().payload)
        })
        .collect()
}

/// CPU ms of encoding 10 ms.
fn encoding(samples: &[f32]) -> f64 {
    let mut encoder = Encoder::new(EncoderConfig::voice()).unwrap();
    let before = cpu_seconds(false);
    for frame in samples.as_chunks::<960>().0 {
        encoder.encode(frame).unwrap();
    }
    (cpu_seconds(false) - before) * 1e3 / (samples.len() / crate::BLOCK) as f64
}
