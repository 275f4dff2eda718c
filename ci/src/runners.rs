//! The test runners: cargo's for Rust, node's for the browsers.

use anyhow::Result;

use crate::run::{Outcome, command, counted, passes, root, target_dir};

/// All tests, then those of a feature that is off.
const TESTED: [&str; 2] = ["--workspace", "--package snug-video --features h264 --test h264"];

/// Runs the workspace's Rust tests, with cargo-nextest where it is installed.
pub(crate) fn cargo_test() -> Result<Outcome> {
    let nextest = command("cargo", &["nextest", "--version"]).output().is_ok_and(|out| out.status.success());
    let mut total = Outcome::default();
    for what in TESTED {
        if nextest {
            // nextest reports on standard error, and what is counted is read from standard output.
            let line = format!("exec cargo nextest run {what} --locked --no-fail-fast --color never 2>&1");
            total.add(counted(command("sh", &["-c", &line]), nextest_counts)?);
        } else {
            let mut arguments = vec!["test", "--locked", "--no-fail-fast"];
            arguments.extend(what.split(' '));
            total.add(counted(command("cargo", &arguments), cargo_test_counts)?);
        }
    }
    Ok(total)
}

/// Builds the relay and the native client as they are shipped and drives them, and real browsers. Without names, every test file runs.
pub(crate) fn e2e(names: &[String]) -> Result<Outcome> {
    if !build_relay() || !build_native() {
        return Ok(Outcome::one(false));
    }
    let folder = root().join("ci/e2e");
    let mut files: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".test.mjs")
            && (names.is_empty() || names.iter().any(|part| name.contains(part.as_str())))
        {
            files.push(format!("ci/e2e/{name}"));
        }
    }
    files.sort();
    anyhow::ensure!(!files.is_empty(), "no test file in ci/e2e has one of these names: {}", names.join(", "));
    let mut total = Outcome::default();
    // One process after the other: two cores carry one call at a time.
    for file in files {
        let started = std::time::Instant::now();
        let mut node = command("node", &["--test", "--test-reporter=spec", "--test-timeout=600000", &file]);
        node.env("SNUG_RELAY", relay_binary()).env("SNUG_NATIVE", native_binary());
        total.add(counted(node, node_counts)?);
        println!("({file}: {:.0} s)\n", started.elapsed().as_secs_f32());
    }
    Ok(total)
}

/// The page's unit tests.
pub(crate) fn node_tests(files: &[String]) -> Result<Outcome> {
    let mut node = command("node", &["--test", "--test-reporter=spec"]);
    node.args(files);
    counted(node, node_counts)
}

pub(crate) fn build_relay() -> bool {
    passes(command("cargo", &["build", "--release", "--locked", "--package", "snug-relay"]))
}

pub(crate) fn build_native() -> bool {
    passes(command("cargo", &["build", "--release", "--locked", "--package", "snug"]))
}

pub(crate) fn native_binary() -> std::path::PathBuf {
    target_dir().join("release/snug")
}

pub(crate) fn relay_binary() -> std::path::PathBuf {
    target_dir().join("release/snug-relay")
}

/// `Summary [ 1.2s] 10 tests run: 9 passed, 1 failed, 2 skipped`
fn nextest_counts(line: &str) -> Option<Outcome> {
    let rest = line.trim_start().strip_prefix("Summary")?;
    let number = |word: &str| {
        let words: Vec<&str> = rest.split([' ', ',', '(']).filter(|part| !part.is_empty()).collect();
        words
            .windows(2)
            .filter(|pair| pair[1].trim_end_matches(')') == word)
            .find_map(|pair| pair[0].parse().ok())
            .unwrap_or(0)
    };
    Some(Outcome { passed: number("passed"), failed: number("failed") + number("timed") + number("exec") })
}

/// `test result: ok. 4 passed; 0 failed; …`
fn cargo_test_counts(line: &str) -> Option<Outcome> {
    let rest = line.strip_prefix("test result:")?;
    let number = |word: &str| {
        rest.split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
            .unwrap_or(0)
    };
    Some(Outcome { passed: number("passed"), failed: number("failed") })
}

/// `ℹ pass 4`, `ℹ fail 1`, `ℹ cancelled 1`
fn node_counts(line: &str) -> Option<Outcome> {
    let (word, number) = line.strip_prefix("ℹ ")?.split_once(' ')?;
    let number = number.parse().ok()?;
    match word {
        "pass" => Some(Outcome { passed: number, failed: 0 }),
        "fail" | "cancelled" => Some(Outcome { passed: 0, failed: number }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_every_runner() {
        let found =
            nextest_counts("     Summary [   0.511s] 12 tests run: 10 passed (1 slow), 2 failed, 3 skipped");
        assert_eq!(found, Some(Outcome { passed: 10, failed: 2 }));
        let found = cargo_test_counts(
            "test result: FAILED. 7 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        );
        assert_eq!(found, Some(Outcome { passed: 7, failed: 1 }));
        assert_eq!(node_counts("ℹ pass 5"), Some(Outcome { passed: 5, failed: 0 }));
        assert_eq!(node_counts("ℹ duration_ms 17.2"), None);
        assert_eq!(node_counts("ordinary output"), None);
    }
}
