//! Does it compile, and may we ship what it is made of.

use anyhow::Result;

use crate::run::{Outcome, command, output, passes};

/// The crates that must compile where there is no operating system.
pub(crate) const PURE: [&str; 6] =
    ["snug-wire", "snug-room-proto", "snug-turn-proto", "snug-call-proto", "snug-media-proto", "snug-jitter"];

/// Libraries of C that a phone's shell does without: it brings codecs, cameras and sound of its own.
const NOT_ON_PHONES: [&str; 5] = ["env-libvpx-sys", "openh264-sys2", "cpal", "nokhwa", "turbojpeg"];

const WASM: &str = "wasm32-unknown-unknown";

pub(crate) fn run() -> Result<Outcome> {
    let mut outcome =
        Outcome::one(passes(command("cargo", &["check", "--workspace", "--all-targets", "--locked"])));
    let targets =
        output(command("rustc", &["--print", "target-libdir", "--target", WASM])).unwrap_or_default();
    if std::path::Path::new(targets.trim()).is_dir() {
        let mut check = command("cargo", &["check", "--locked", "--target", WASM]);
        check.args(PURE.iter().flat_map(|name| ["--package", name]));
        outcome.add(Outcome::one(passes(check)));
    } else {
        println!("skipped: the pure crates for {WASM}, which this toolchain does not have");
    }
    outcome.add(Outcome::one(engine_alone()?));
    Ok(outcome)
}

/// Whether the engine and the command line compile without their default features, and what the engine is built from then.
fn engine_alone() -> Result<bool> {
    let tree = output(command(
        "cargo",
        &[
            "tree",
            "--locked",
            "--package",
            "snug-core",
            "--no-default-features",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
        ],
    ))?;
    let found: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| NOT_ON_PHONES.contains(name))
        .collect();
    if !found.is_empty() {
        println!("snug-core without its default features still builds {}", found.join(", "));
        return Ok(false);
    }
    // As the README tells those who have no NASM and no libclang.
    Ok(["snug-core", "snug"].iter().all(|name| {
        passes(command("cargo", &["check", "--package", name, "--no-default-features", "--locked"]))
    }))
}

/// Licences, bans and sources against deny.toml. Advisories are left out: they change from day to day, a commit's result must not.
pub(crate) fn licenses() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for what in ["licenses", "bans", "sources"] {
        outcome.add(Outcome::one(passes(command(
            "cargo",
            &["deny", "--locked", "--log-level", "warn", "check", what],
        ))));
    }
    Ok(outcome)
}
