//! The fuzz targets of ci/fuzz, each for a fixed time.
//!
//! They need compiler flags that are not stable yet; `RUSTC_BOOTSTRAP` lets the stable toolchain take them, so that no second toolchain is
//! needed. No sanitizer runs: the code under test has no `unsafe`, and without one the targets are several times faster.

use anyhow::Result;

use crate::run::{Outcome, command, passes, read, root, target_dir};

const TARGETS: [&str; 8] =
    ["wire", "room_ops", "turn_codec", "turn_framing", "turn_ops", "call_ops", "media_packets", "jitter_ops"];

pub(crate) fn run(seconds: u32, only: Option<&str>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for target in TARGETS {
        if only.is_some_and(|name| name != target) {
            continue;
        }
        let corpus = target_dir().join("fuzz-corpus").join(target);
        std::fs::create_dir_all(&corpus)?;
        match target {
            "wire" => seed_with_golden_messages(&corpus)?,
            "turn_ops" | "call_ops" | "media_packets" | "jitter_ops" => seed_with_long_sequences(&corpus)?,
            _ => {}
        }
        let limit = format!("-max_total_time={seconds}");
        let mut fuzz =
            command("cargo", &["fuzz", "run", "--fuzz-dir", "ci/fuzz", "--sanitizer", "none", target]);
        fuzz.arg(&corpus).args([
            "--",
            &limit,
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            "-verbosity=0",
        ]);
        fuzz.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", target_dir().join("fuzz"));
        outcome.add(Outcome::one(passes(fuzz)));
    }
    Ok(outcome)
}

/// Gives the decoder's fuzzer one valid example of every message to start from.
fn seed_with_golden_messages(corpus: &std::path::Path) -> Result<()> {
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
fn seed_with_long_sequences(corpus: &std::path::Path) -> Result<()> {
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
