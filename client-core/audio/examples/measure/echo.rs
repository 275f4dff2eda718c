//! Two people, one with a speaker that the microphone hears: what is left of the echo, and of the speech.
//!
//! ```text
//! 0–16 s   only the far end speaks          16 s    the echo's path changes
//! 16–24 s  only the far end                 24–32 s only the near end
//! 32–40 s  both                             40–48 s only the far end
//! ```

use std::path::Path;
use std::time::Duration;

use snug_audio::{Apm, Processing};

use crate::{BLOCK, Dice, cpu_seconds, write};

const RATE: usize = 48_000;
/// What the devices delay.
const DEVICES: usize = RATE * 60 / 1_000;
/// Time in which the room's sound falls by 60 dB, in seconds.
const T60: f32 = 0.35;
const LENGTH: usize = 48 * RATE;

const PHASES: [(&str, usize, usize); 5] = [
    ("0.3-1 s", 3, 10),
    ("4-16 s", 40, 160),
    ("path changed, 0.2-2 s", 162, 180),
    ("path changed, 4-8 s", 200, 240),
    ("41-48 s", 410, 480),
];

pub fn run(far: &[f32], near: &[f32], folder: &Path, quick: bool) {
    let at = |sound: &[f32], second: usize| {
        let mut all = vec![0.0; LENGTH];
        for (index, sample) in all.iter_mut().enumerate() {
            *sample = sound[(index + second * RATE) % sound.len()];
        }
        all
    };
    if !quick {
        with_drift(far);
    }
    let (mut played, mut said) = (at(far, 0), at(near, 5));
    silence(&mut played, 24, 32);
    silence(&mut said, 0, 24);
    silence(&mut said, 40, 48);
    write(&folder.join("near.wav"), &said);
    for (label, loudness) in [("0 dB", 0.0), ("-12 dB", -12.0)] {
        let mut echo = through_the_room(&played);
        // The echo as loud as the near end, or 12 dB below.
        let gain = 10f32.powf((level(&said, 240, 320) - level(&echo, 40, 160) + loudness) / 20.0);
        echo.iter_mut().for_each(|sample| *sample *= gain);
        let heard: Vec<f32> = echo.iter().zip(&said).map(|(echo, said)| echo + said).collect();
        let wav = format!("microphone{loudness}.wav");
        write(&folder.join(&wav), &heard);
        println!("echo: nothing, echo {label}\twav={wav}");
        let all = [("aec", Processing { echo: true, noise: false, gain: false }), ("all", Processing::ALL)];
        for (name, processing) in all {
            let mut apm = Apm::new(processing);
            let before = cpu_seconds(false);
            let mut left = Vec::with_capacity(LENGTH);
            for (played, heard) in played.as_chunks::<BLOCK>().0.iter().zip(heard.as_chunks::<BLOCK>().0) {
                apm.render(played);
                let mut block = *heard;
                apm.capture(&mut block, Duration::from_millis(60));
                left.extend_from_slice(&block);
            }
            let cpu = (cpu_seconds(false) - before) * 1e3 / (LENGTH / BLOCK) as f64;
            let wav = format!("echo-{name}{loudness}.wav");
            write(&folder.join(&wav), &left);
            print!("echo: {name}, echo {label}\twav={wav}\tcpu={cpu:.4}");
            for (phase, from, to) in PHASES {
                print!("\t{phase}={:.1}", level(&heard, from, to) - level(&left, from, to));
            }
            println!(
                "\tnear only={:+.1}\tdouble talk={:+.1}",
                level(&left, 250, 320) - level(&said, 250, 320),
                level(&left, 330, 400) - level(&said, 330, 400)
            );
        }
    }
}

/// The far end alone for a minute, the microphone's clock faster or slower than the speaker's.
fn with_drift(far: &[f32]) {
    let length = 60 * RATE;
    let played: Vec<f32> = far.iter().copied().cycle().take(length).collect();
    let echo = through_the_room(&played);
    for ppm in [0.0, 200.0, -200.0] {
        let step = 1.0 + ppm * 1e-6;
        let mut apm = Apm::new(Processing::ALL);
        let (mut heard, mut left) = (Vec::with_capacity(length), Vec::with_capacity(length));
        let mut rendered = 0;
        let blocks = played.as_chunks::<BLOCK>().0;
        while let Some(block) = microphone(&echo, heard.len(), step) {
            // What the speaker took until the microphone's block was whole.
            let until = ((heard.len() + BLOCK) as f64 * step / BLOCK as f64) as usize;
            for block in &blocks[rendered..until.min(blocks.len())] {
                apm.render(block);
            }
            rendered = until.min(blocks.len());
            heard.extend_from_slice(&block);
            let mut block = block;
            apm.capture(&mut block, Duration::from_millis(60));
            left.extend_from_slice(&block);
        }
        let last = heard.len() * 10 / RATE;
        print!("drift: {ppm:+} ppm");
        for (name, from, to) in [("4-16 s", 40, 160), ("20-40 s", 200, 400), ("40-60 s", 400, last)] {
            print!("\t{name}={:.1}", level(&heard, from, to) - level(&left, from, to));
        }
        println!();
    }
}

/// A block of the echo as a clock of another speed samples it, by cubic interpolation.
fn microphone(echo: &[f32], at: usize, step: f64) -> Option<[f32; BLOCK]> {
    let mut block = [0.0; BLOCK];
    for (index, sample) in block.iter_mut().enumerate() {
        let position = (at + index) as f64 * step;
        let (whole, part) = (position as usize, position.fract() as f32);
        let before = if whole == 0 { 0.0 } else { echo[whole - 1] };
        let [a, b, c] = *echo.get(whole..whole + 3)?.first_chunk()?;
        let slope = (b - before) / 2.0;
        let (bend, twist) = (before - 2.5 * a + 2.0 * b - 0.5 * c, (c - before) / 2.0 + 1.5 * (a - b));
        *sample = a + part * (slope + part * (bend + part * twist));
    }
    Some(block)
}

fn silence(sound: &mut [f32], from: usize, to: usize) {
    sound[from * RATE..to * RATE].fill(0.0);
}

/// Level in dB between two tenths of seconds.
fn level(sound: &[f32], from: usize, to: usize) -> f32 {
    let part = &sound[from * RATE / 10..to * RATE / 10];
    10.0 * (part.iter().map(|sample| sample * sample).sum::<f32>() / part.len() as f32).max(1e-12).log10()
}

/// What the microphone hears of what is played.
fn through_the_room(played: &[f32]) -> Vec<f32> {
    let spoken: Vec<f32> = played.iter().map(|sample| (2.0 * sample).tanh() / 2.0).collect();
    let rooms = [response(11), response(12)];
    let mut heard = vec![0.0; played.len()];
    for (index, block) in heard.chunks_exact_mut(BLOCK).enumerate() {
        let start = index * BLOCK;
        let room = &rooms[usize::from(start >= 16 * RATE)];
        for (tap, gain) in room.iter().enumerate() {
            let Some(begin) = (start + BLOCK).checked_sub(DEVICES + tap).filter(|end| *end >= BLOCK) else {
                break;
            };
            for (out, sample) in block.iter_mut().zip(&spoken[begin - BLOCK..begin]) {
                *out += gain * sample;
            }
        }
    }
    heard
}

/// A direct way and a dense tail of reflections.
fn response(seed: u64) -> Vec<f32> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let length = (T60 * RATE as f32) as usize;
    let mut taps: Vec<f32> = (0..length)
        .map(|tap| {
            let noise = (0..4).map(|_| dice.roll() as f32 - 0.5).sum::<f32>();
            noise * 0.05 * 10f32.powf(-3.0 * tap as f32 / length as f32)
        })
        .collect();
    taps[0] = 1.0;
    taps
}
