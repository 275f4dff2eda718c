//! Does it compile, and may we ship what it is made of.

use anyhow::Result;

use crate::run::{Outcome, command, output, passes};

/// The crates that must compile where there is no operating system.
pub(crate) const PURE: [&str; 6] =
    ["snug-wire", "snug-room-proto", "snug-turn-proto", "snug-call-proto", "snug-media-proto", "snug-jitter"];

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
    Ok(outcome)
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
