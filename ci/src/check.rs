//! Does it compile, and may we ship what it is made of.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Result;

use crate::run::{Outcome, cache, command, output, passes, target_dir};

/// The crates that must compile where there is no operating system.
pub(crate) const PURE: [&str; 6] =
    ["snug-wire", "snug-room-proto", "snug-turn-proto", "snug-call-proto", "snug-media-proto", "snug-jitter"];

/// Libraries of C that a phone's shell does without: it brings codecs, cameras and sound of its own.
const NOT_ON_PHONES: [&str; 5] = ["env-libvpx-sys", "openh264-sys2", "cpal", "nokhwa", "turbojpeg"];

const WASM: &str = "wasm32-unknown-unknown";

pub(crate) fn run() -> Result<Outcome> {
    let mut outcome =
        Outcome::one(passes(command("cargo", &["check", "--workspace", "--all-targets", "--locked"])));
    outcome.add(for_wasm());
    outcome.add(Outcome::one(engine_alone()?));
    Ok(outcome)
}

/// The pure crates where there is no operating system: with the standard library for WebAssembly that the toolchain has, or one that is
/// built from its sources. `ci/test` brings one or the other (`ci/wasm.sh`).
fn for_wasm() -> Outcome {
    let unpacked = cache().map(|cache| cache.join("wasm-rust/rustc")).unwrap_or_default();
    let compilers = [PathBuf::from("rustc"), unpacked];
    let Some((compiler, library)) =
        compilers.iter().find_map(|compiler| Some((compiler, wasm_library(compiler)?)))
    else {
        return Outcome::missing(&format!(
            "no compiler here has a standard library for {WASM} or its sources: rustup target add {WASM}, or apt-get install rust-web-src beside rustc-web"
        ));
    };
    let mut check = command("cargo", &["check", "--locked", "--target", WASM]);
    check.args(PURE.iter().flat_map(|name| ["--package", name]));
    if library == Library::Sources {
        // Not stable, and taken by a stable compiler all the same when it is told so.
        check.arg("-Zbuild-std=std,panic_abort").env("RUSTC_BOOTSTRAP", "1");
    }
    // The STUN codec's own client draws random numbers, which nothing here calls: the backend is
    // declared and never linked.
    check.env("RUSTFLAGS", "--cfg getrandom_backend=\"custom\"");
    // A folder of its own, so that two compilers do not undo each other's work.
    check.env("RUSTC", compiler).env("CARGO_TARGET_DIR", target_dir().join("wasm"));
    Outcome::one(passes(check))
}

/// What a compiler has of the standard library for WebAssembly.
#[derive(PartialEq, Eq)]
enum Library {
    Built,
    Sources,
}

fn wasm_library(compiler: &Path) -> Option<Library> {
    let print = |what: &[&str]| {
        let mut ask = command(&compiler.to_string_lossy(), what);
        let asked = ask.stderr(Stdio::null()).output().ok().filter(|asked| asked.status.success())?;
        Some(PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim()))
    };
    if print(&["--print", "target-libdir", "--target", WASM])?.is_dir() {
        return Some(Library::Built);
    }
    let lock = print(&["--print", "sysroot"])?.join("lib/rustlib/src/rust/library/Cargo.lock");
    lock.is_file().then_some(Library::Sources)
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
