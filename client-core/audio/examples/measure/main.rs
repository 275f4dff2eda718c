//! The sound's figures, one line each on standard output: `cargo ci bench audio` runs it, scores the WAV files that it
//! leaves, and prints tables. It never judges; speech comes from files, time is virtual but for the whole call's CPU time.
//! Its shell is `ci/src/bench/audio.rs`.
//!
//! ```text
//! measure network SPEECH.wav FOLDER full          what a listener hears over seeded networks
//! measure echo FAR.wav NEAR.wav FOLDER full       what is left of an echo in a made-up room
//! measure cpu SPEECH.wav SECONDS                  CPU time of the sound of a call of five
//! ```
//! With `quick` instead of `full` there is one seed, and no minute of clocks that drift apart.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that cannot run says so by ending")]

mod cpu;
mod echo;
mod network;

use std::path::Path;

/// Samples of 10 ms.
const BLOCK: usize = 480;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["network", speech, folder, how @ ("full" | "quick")] => {
            network::run(&read(speech), Path::new(folder), how == "quick");
        }
        ["echo", far, near, folder, how @ ("full" | "quick")] => {
            echo::run(&read(far), &read(near), Path::new(folder), how == "quick");
        }
        ["cpu", speech, seconds] => cpu::run(Path::new(speech), seconds.parse().unwrap()),
        _ => {
            eprintln!("measure: network SPEECH FOLDER full | echo FAR NEAR FOLDER full | cpu SPEECH SECONDS");
            std::process::exit(2);
        }
    }
}

/// A mono WAV file of 48 kHz and 16 bits.
fn read(path: &str) -> Vec<f32> {
    let mut reader = hound::WavReader::open(path).unwrap();
    assert_eq!((reader.spec().sample_rate, reader.spec().channels), (48_000, 1), "{path}");
    reader.samples::<i16>().map(|sample| f32::from(sample.unwrap()) / 32_768.0).collect()
}

fn write(path: &Path, sound: &[f32]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in sound {
        writer.write_sample((sample * 32_767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

/// CPU seconds of this thread, or of all threads of the process.
#[cfg(target_os = "linux")]
fn cpu_seconds(all_threads: bool) -> f64 {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(if all_threads { ClockId::ProcessCPUTime } else { ClockId::ThreadCPUTime });
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Elsewhere the figures of CPU time are left at zero.
#[cfg(not(target_os = "linux"))]
fn cpu_seconds(_all_threads: bool) -> f64 {
    0.0
}

/// A small generator; the seed is part of every line.
struct Dice(u64);

impl Dice {
    /// 0…1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
