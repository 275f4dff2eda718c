//! The test runners: cargo's for Rust, node's for the browsers.

use anyhow::Result;

use crate::run::{Outcome, command, counted, passes, read, root, target_dir};

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
    let mut files = e2e_files()?;
    files.retain(|file| names.is_empty() || names.iter().any(|part| file.contains(part.as_str())));
    anyhow::ensure!(!files.is_empty(), "no test file in ci/e2e has one of these names: {}", names.join(", "));
    run_e2e(files)
}

/// The same for the test files that open no browser.
pub(crate) fn e2e_without_browsers() -> Result<Outcome> {
    if !build_relay() || !build_native() {
        return Ok(Outcome::one(false));
    }
    let mut quick = Vec::new();
    for file in e2e_files()? {
        if !opens_browsers(&read(&format!("ci/e2e/{file}"))?) {
            quick.push(file);
        }
    }
    anyhow::ensure!(!quick.is_empty(), "every test file in ci/e2e opens a browser");
    run_e2e(quick)
}

/// Whether a test file takes browsers from the libraries that start them.
fn opens_browsers(text: &str) -> bool {
    ["/people.mjs'", "relayedGuest", "'puppeteer-core'"].iter().any(|word| text.contains(word))
}

/// The names of the test files in ci/e2e.
fn e2e_files() -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join("ci/e2e"))? {
        files.push(entry?.file_name().to_string_lossy().into_owned());
    }
    files.retain(|name| name.ends_with(".test.mjs"));
    files.sort();
    Ok(files)
}

fn run_e2e(files: Vec<String>) -> Result<Outcome> {
    let mut total = Outcome::default();
    // One process after the other: two cores carry one call at a time.
    for file in files {
        let file = format!("ci/e2e/{file}");
        let started = std::time::Instant::now();
        let mut node = command("node", &["--test", "--test-reporter=spec", &file]);
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
    let failed = number("failed") + number("timed") + number("exec");
    // Those that it calls skipped are not run by default: they are parts of others.
    Some(Outcome { passed: number("passed"), failed, skipped: 0 })
}

/// `test result: ok. 4 passed; 0 failed; …`
fn cargo_test_counts(line: &str) -> Option<Outcome> {
    let rest = line.strip_prefix("test result:")?;
    let number = |word: &str| {
        rest.split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
            .unwrap_or(0)
    };
    Some(Outcome { passed: number("passed"), failed: number("failed"), skipped: 0 })
}

/// `ℹ pass 4`, `ℹ fail 1`, `ℹ cancelled 1`, `ℹ skipped 1`
fn node_counts(line: &str) -> Option<Outcome> {
    let (word, number) = line.strip_prefix("ℹ ")?.split_once(' ')?;
    let number = number.parse().ok()?;
    match word {
        "pass" => Some(Outcome { passed: number, ..Outcome::default() }),
        "fail" | "cancelled" => Some(Outcome { failed: number, ..Outcome::default() }),
        "skipped" | "todo" => Some(Outcome { skipped: number, ..Outcome::default() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs;

    #[test]
    fn counts_are_read_from_every_runner() {
        let found =
            nextest_counts("     Summary [   0.511s] 12 tests run: 10 passed (1 slow), 2 failed, 3 skipped");
        assert_eq!(found, Some(Outcome { passed: 10, failed: 2, skipped: 0 }));
        let found = cargo_test_counts(
            "test result: FAILED. 7 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
        );
        assert_eq!(found, Some(Outcome { passed: 7, failed: 1, skipped: 0 }));
        assert_eq!(node_counts("ℹ pass 5"), Some(Outcome { passed: 5, failed: 0, skipped: 0 }));
        assert_eq!(node_counts("ℹ skipped 2"), Some(Outcome { passed: 0, failed: 0, skipped: 2 }));
        assert_eq!(node_counts("ℹ duration_ms 17.2"), None);
        assert_eq!(node_counts("ordinary output"), None);
    }

    /// Plays a test that lacks something, for the test below.
    #[test]
    #[ignore = "a part of the test below"]
    fn lacks_something() {
        needs::skip("this machine has no fairy");
    }

    /// Runs the test above as a runner does, with its output captured.
    fn run_the_one_that_lacks_something(ci: &str) -> Outcome {
        let test = std::env::current_exe().expect("this test has a path");
        let mut run =
            command(&test.to_string_lossy(), &["--ignored", "--exact", "runners::tests::lacks_something"]);
        run.env("CI", ci);
        counted(run, cargo_test_counts).expect("its output is read")
    }

    #[test]
    fn a_test_that_lacks_something_is_counted_as_skipped_and_fails_in_ci() {
        assert_eq!(run_the_one_that_lacks_something(""), Outcome { passed: 0, failed: 0, skipped: 1 });
        assert_eq!(run_the_one_that_lacks_something("true"), Outcome { passed: 0, failed: 1, skipped: 0 });
    }

    #[test]
    fn files_that_open_browsers_are_told_from_those_that_do_not() {
        assert!(opens_browsers("import { chromium } from './lib/people.mjs';"));
        assert!(opens_browsers("import { ONLY, relayedGuest } from './lib/relaying.mjs';"));
        assert!(!opens_browsers("import { seatWithTurn } from './lib/relaying.mjs';"));
        let without = e2e_files().expect("a folder");
        assert!(without.iter().any(|file| file == "hostile.test.mjs"));
    }

    #[test]
    fn the_last_line_says_how_many_were_skipped_when_there_are_any() {
        assert_eq!(Outcome { passed: 3, failed: 1, skipped: 0 }.to_string(), "3 passed, 1 failed");
        assert_eq!(Outcome { passed: 3, failed: 0, skipped: 2 }.to_string(), "3 passed, 0 failed, 2 skipped");
    }
}
