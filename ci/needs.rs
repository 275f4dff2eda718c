//! What a test does that lacks a tool or a right of the machine: with `CI=true` it fails; elsewhere it is counted as skipped.
//! Never decides that a test is skipped for any other reason. The scripts' half is `e2e/lib/needs.mjs`.
//!
//! A module of every test that uses it, by `#[path]`. Test runners of Rust know no test that skips itself and hide what a passing one
//! prints, so it leaves a line in the file that the driver names, and the driver (`src/runners.rs`) takes it from those that passed.

use std::io::Write as _;

/// Names the file, an absolute path, that gets a line for each skipped test.
pub(crate) const SKIPS: &str = "SNUG_SKIPS";

/// Whether this is continuous integration, where a test that did not run must not look like one that passed.
pub(crate) fn is_ci(value: Option<&str>) -> bool {
    !matches!(value, None | Some("" | "0" | "false"))
}

/// Says that the test that calls it cannot run here; the caller returns at once.
///
/// # Panics
/// In continuous integration.
pub(crate) fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(!is_ci(std::env::var("CI").ok().as_deref()), "{name} cannot run, and CI is set: {why}");
    eprintln!("skipped: {name}: {why}");
    let Some(path) = std::env::var_os(SKIPS) else { return };
    // One write of one line: tests of several processes share the file.
    let mut file =
        std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the driver made it");
    file.write_all(format!("{name}: {why}\n").as_bytes()).expect("the driver reads it");
}

/// Whether these programs can be started; skips the test that calls it otherwise.
#[allow(dead_code, reason = "some tests need a right and no program")]
pub(crate) fn programs(package: &str, names: &[&str]) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &&str| std::env::split_paths(&folders).any(|folder| folder.join(name).is_file());
    let missing = names.iter().find(|name| !there(name));
    if let Some(name) = missing {
        skip(&format!("there is no {name}: apt-get install {package}"));
    }
    missing.is_none()
}
