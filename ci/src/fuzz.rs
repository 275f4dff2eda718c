//! The fuzz targets of ci/fuzz, each for a fixed time: built once, all together, then run by libFuzzer, as many at a time as there are cores.
//!
//! The compiler flags are those of cargo-fuzz, which is not needed for them. No sanitizer runs: the code under test has no `unsafe`, and without
//! one the targets are several times faster.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};

use crate::run::{Outcome, command, output, passes, read, root, target_dir};

/// What tells libFuzzer which code an input has reached and what it was compared with
/// (<https://clang.llvm.org/docs/SanitizerCoverage.html>), with the checks of a debug build.
const FLAGS: [&str; 10] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-stack-depth",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Clink-dead-code",
    "-Cdebug-assertions",
    "-Ccodegen-units=1",
];

const TARGETS: [&str; 8] =
    ["wire", "room_ops", "turn_codec", "turn_framing", "turn_ops", "call_ops", "media_packets", "jitter_ops"];

/// A target's name, and whether it held with what it printed.
type Finished = (&'static str, Result<(bool, String)>);

pub(crate) fn run(seconds: u32, only: Option<&str>) -> Result<Outcome> {
    let targets: Vec<&str> =
        TARGETS.into_iter().filter(|target| only.is_none_or(|name| name == *target)).collect();
    ensure!(!targets.is_empty(), "no such fuzz target; there are: {}", TARGETS.join(", "));
    let Some(programs) = build(&targets)? else { return Ok(Outcome::one(false)) };
    for target in &targets {
        seed(target)?;
    }
    println!("{} targets, {seconds} s each", targets.len());
    let next = AtomicUsize::new(0);
    let finished: Mutex<Vec<Finished>> = Mutex::default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = fuzz(&programs, target, seconds);
                    finished.lock().expect("no thread stops within").push((target, outcome));
                }
            });
        }
    });
    let mut outcome = Outcome::default();
    for (target, result) in finished.into_inner().expect("the threads have ended") {
        let (held, printed) = result?;
        println!("\n{target}: {}\n{printed}", if held { "held" } else { "broken" });
        outcome.add(Outcome::one(held));
    }
    Ok(outcome)
}

/// Builds the targets; the folder with their programs, or `None` when they do not compile.
fn build(targets: &[&str]) -> Result<Option<PathBuf>> {
    let compiler = output(command("rustc", &["-vV"]))?;
    let host = compiler
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc does not name its host")?;
    // Naming the target keeps the flags from build scripts and macros.
    let mut cargo = command(
        "cargo",
        &["build", "--release", "--locked", "--manifest-path", "ci/fuzz/Cargo.toml", "--target", host],
    );
    cargo.args(targets.iter().flat_map(|target| ["--bin", target]));
    let flags = FLAGS.join(" ") + " --cfg fuzzing";
    cargo.env("RUSTFLAGS", flags).env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo.env("CARGO_TARGET_DIR", target_dir().join("fuzz"));
    Ok(passes(cargo).then(|| target_dir().join("fuzz").join(host).join("release")))
}

/// Runs a target; what it finds is kept in ci/artifacts.
fn fuzz(programs: &Path, target: &str, seconds: u32) -> Result<(bool, String)> {
    let artifacts = root().join("ci/artifacts");
    std::fs::create_dir_all(&artifacts)?;
    let run = Command::new(programs.join(target))
        .arg(corpus(target))
        .arg(format!("-artifact_prefix={}/{target}-", artifacts.display()))
        .arg(format!("-max_total_time={seconds}"))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"])
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not run the fuzz target {target}"))?;
    let mut printed = String::from_utf8_lossy(&run.stderr).into_owned();
    printed += &String::from_utf8_lossy(&run.stdout);
    Ok((run.status.success(), printed))
}

fn corpus(target: &str) -> PathBuf {
    target_dir().join("fuzz-corpus").join(target)
}

/// What a target starts from.
fn seed(target: &str) -> Result<()> {
    let corpus = corpus(target);
    std::fs::create_dir_all(&corpus)?;
    match target {
        "wire" => seed_with_golden_messages(&corpus),
        "turn_ops" | "call_ops" | "media_packets" | "jitter_ops" => seed_with_long_sequences(&corpus),
        _ => Ok(()),
    }
}

/// Gives the decoder's fuzzer one valid example of every message to start from.
fn seed_with_golden_messages(corpus: &Path) -> Result<()> {
    let path = "relay/wire/golden/messages.json";
    if !root().join(path).exists() {
        return Ok(());
    }
    let golden: serde_json::Value = serde_json::from_str(&read(path)?)?;
    let mut messages = Vec::new();
    collect(&golden, &mut messages);
    for (number, message) in messages.iter().enumerate() {
        std::fs::write(corpus.join(format!("golden-{number}")), message.to_string())?;
    }
    Ok(())
}

/// Gives a fuzzer of operations long sequences of any of them to start from: it would take an hour to grow the first one.
fn seed_with_long_sequences(corpus: &Path) -> Result<()> {
    for number in 0..32_u64 {
        let mut state = number;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            // The constants of Knuth's generator; its high bits are good enough.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(800)
        .collect();
        std::fs::write(corpus.join(format!("sequence-{number}")), bytes)?;
    }
    Ok(())
}

/// Every object that has a `type`, however the file groups them.
fn collect<'a>(value: &'a serde_json::Value, into: &mut Vec<&'a serde_json::Value>) {
    match value {
        serde_json::Value::Object(fields) if fields.contains_key("type") => into.push(value),
        serde_json::Value::Object(fields) => fields.values().for_each(|inner| collect(inner, into)),
        serde_json::Value::Array(items) => items.iter().for_each(|inner| collect(inner, into)),
        _ => {}
    }
}
