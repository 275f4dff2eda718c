//! The arrows of ARCHITECTURE.md, held by a program: who may import whom, and what a pure crate must never touch.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::check::PURE;
use crate::run::{Outcome, command, files, output, read};

/// Every crate of the workspace and the Snug crates that it may import. A crate that is missing here fails the check.
const ARROWS: [(&str, &[&str]); 17] = [
    ("snug-wire", &[]),
    ("snug-room-proto", &["snug-wire"]),
    ("snug-turn-proto", &[]),
    ("snug-udp", &[]),
    ("snug-relay", &["snug-room-proto", "snug-turn-proto", "snug-udp", "snug-wire"]),
    ("snug-call-proto", &["snug-media-proto", "snug-wire"]),
    ("snug-media-proto", &[]),
    ("snug-jitter", &[]),
    ("snug-codec", &[]),
    ("snug-video", &["snug-codec", "snug-media-proto"]),
    ("snug-audio", &["snug-codec", "snug-jitter", "snug-media-proto"]),
    ("snug-signaling", &["snug-wire"]),
    ("snug-rtc", &["snug-media-proto", "snug-turn-proto", "snug-wire"]),
    (
        "snug-core",
        &[
            "snug-audio",
            "snug-call-proto",
            "snug-media-proto",
            "snug-rtc",
            "snug-signaling",
            "snug-video",
            "snug-wire",
        ],
    ),
    ("snug-sim", &["snug-call-proto", "snug-room-proto", "snug-turn-proto", "snug-wire"]),
    ("snug", &["snug-core"]),
    ("snug-ci", &["snug-udp"]),
];

/// What a pure crate may have below it all the same. The STUN codec can draw transaction ids; the crate's `clippy.toml` forbids the calls that do.
const EXCEPTIONS: [(&str, &str); 2] = [("snug-turn-proto", "rand"), ("snug-turn-proto", "getrandom")];

/// Crates that do input or output, keep time, start threads or make randomness: none may be anywhere below a pure crate.
const IMPURE: [&str; 22] = [
    "tokio",
    "async-std",
    "smol",
    "async-io",
    "futures-executor",
    "mio",
    "socket2",
    "polling",
    "quinn",
    "hyper",
    "axum",
    "tungstenite",
    "getrandom",
    "rand",
    "rustix",
    "nix",
    "redb",
    "tempfile",
    "chrono",
    "time",
    "rayon",
    "crossbeam",
];

/// Calls that bring the outside world into a pure crate without a dependency.
const IMPURE_CALLS: [&str; 14] = [
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::thread",
    "std::env",
    "std::process",
    "std::io::stdin",
    "std::io::stdout",
    "println!",
    "eprintln!",
    "thread_rng",
    "async fn",
];

pub(crate) fn run() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut checked = |what: &str, good: bool| {
        println!("{what}: {}", if good { "holds" } else { "broken" });
        outcome.add(Outcome::one(good));
    };
    checked("who imports whom", arrows()?);
    for name in PURE {
        checked(&format!("what {name} depends on"), pure_tree(name)?);
        checked(&format!("what {name} calls"), pure_source(name)?);
    }
    Ok(outcome)
}

fn metadata() -> Result<Value> {
    let text = output(command("cargo", &["metadata", "--no-deps", "--locked", "--format-version", "1"]))?;
    serde_json::from_str(&text).context("cargo metadata printed something else than JSON")
}

fn packages(metadata: &Value) -> impl Iterator<Item = (&str, &Value)> {
    metadata["packages"].as_array().into_iter().flatten().filter_map(|one| Some((one["name"].as_str()?, one)))
}

fn arrows() -> Result<bool> {
    let metadata = metadata()?;
    let mut good = true;
    for (name, package) in packages(&metadata) {
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == name) else {
            println!(
                "{name} is not in the table of arrows: add it to ci/src/arch.rs with what it may import"
            );
            good = false;
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            // Tests may look further than the product does.
            if to.starts_with("snug-") && dependency["kind"] != "dev" && !allowed.contains(&to) {
                println!("{name} imports {to}, which the architecture forbids");
                good = false;
            }
        }
        for unused in allowed.iter().filter(|arrow| !imports(package, arrow)) {
            println!(
                "{name} does not import {unused}: take the arrow out of ci/src/arch.rs and ARCHITECTURE.md"
            );
            good = false;
        }
    }
    Ok(good)
}

fn imports(package: &Value, to: &str) -> bool {
    let mut dependencies = package["dependencies"].as_array().into_iter().flatten();
    dependencies.any(|dependency| dependency["name"] == to && dependency["kind"] != "dev")
}

/// Looks at what cargo would really link below the crate alone, features included.
fn pure_tree(name: &str) -> Result<bool> {
    let tree = output(command(
        "cargo",
        &["tree", "--locked", "--package", name, "--edges", "normal", "--prefix", "none", "--format", "{p}"],
    ))?;
    let mut good = true;
    for found in tree.lines().filter_map(|line| line.split(' ').next()) {
        if IMPURE.contains(&found) && !EXCEPTIONS.contains(&(name, found)) {
            println!(
                "{name} depends on {found}, which does input or output: `cargo tree -p {name} -i {found}` shows the way"
            );
            good = false;
        }
    }
    Ok(good)
}

fn pure_source(name: &str) -> Result<bool> {
    let metadata = metadata()?;
    let Some((_, package)) = packages(&metadata).find(|(known, _)| *known == name) else {
        bail!("{name} is not in the workspace");
    };
    let manifest = package["manifest_path"].as_str().context("a package has a manifest")?;
    let root = crate::run::root();
    let folder = std::path::Path::new(manifest).parent().and_then(|path| path.strip_prefix(&root).ok());
    let source = format!("{}/src/", folder.context("the crate lies in the workspace")?.display());
    let mut good = true;
    for path in files(&[".rs"])?.iter().filter(|path| path.starts_with(&source)) {
        let text = read(path)?;
        // A crate's own tests may use what they like.
        let product = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in product.lines().enumerate() {
            let code = line.trim_start();
            if code.starts_with("//") {
                continue;
            }
            if let Some(call) = IMPURE_CALLS.iter().find(|call| code.contains(**call)) {
                println!("{path}:{}: `{call}` in a pure crate: take it as an argument", number + 1);
                good = false;
            }
        }
    }
    Ok(good)
}
