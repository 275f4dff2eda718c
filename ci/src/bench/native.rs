//! Clients: a native one in a call of five beside Chromium, what its codecs, joins and departures
//! cost, and two pages beside two bare ones.
//! What is measured runs in processes of its own: scripts in ci/bench, and examples of the client's crates.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::run::{command, output, target_dir};
use crate::runners::{build_native, native_binary, relay_binary};

/// One participant of a call of five, natively and in a headless Chromium. Needs Chromium, and `npm ci` in ci/.
pub(crate) fn mesh(smoke: bool) -> Result<String> {
    build()?;
    let (seconds, settle) = if smoke { ("10", "5") } else { ("60", "20") };
    script("mesh.mjs", &["--seconds", seconds, "--settle", settle])
}

/// Two guests' pages on free and narrow paths, with a slow processor, and with Firefox. Needs both
/// browsers, and `npm ci` in ci/.
pub(crate) fn page(smoke: bool) -> Result<String> {
    script(
        "page.mjs",
        if smoke { &["--seconds", "5", "--only", "free path;500 kbit/s"] } else { &["--seconds", "20"] },
    )
}

/// Encoders and decoders beside FFmpeg's, joins, links that come and go, and links over bad networks.
pub(crate) fn media(smoke: bool) -> Result<String> {
    build()?;
    let clip = output(command("node", &["ci/bench/lib/clip.mjs"]))?;
    let layers = example("snug-video", "layers", &[clip.trim()], smoke)?;
    let (joins, cycles) = if smoke { ("3", "5") } else { ("20", "50") };
    let joins = script("joins.mjs", &["--joins", joins, "--cycles", cycles])?;
    let churn = example("snug-rtc", "churn", &[if smoke { "50" } else { "1000" }], smoke)?;
    let links = match smoke {
        // Its scenarios take their time, whatever the machine.
        true => "Links over bad networks: left out of a smoke run.".to_owned(),
        false => example("snug-rtc", "links", &[], smoke)?,
    };
    Ok(format!(
        "### media: layers (a talking head, 5 s)\n\n{layers}\n{joins}\n### media: links that come and go\n\n{churn}\n### media: links over bad networks\n\n{links}"
    ))
}

/// First pictures at the start of a meeting. Needs Chromium, and `npm ci` in ci/.
pub(crate) fn meeting(smoke: bool) -> Result<String> {
    build()?;
    script("meeting.mjs", if smoke { &["--smoke"] } else { &[] })
}

/// A call on a machine that is busy with other things. Needs Chromium, and `npm ci` in ci/.
pub(crate) fn busy(smoke: bool) -> Result<String> {
    build()?;
    script("busy.mjs", &["--seconds", if smoke { "5" } else { "30" }])
}

fn build() -> Result<()> {
    ensure!(build_native(), "the native client does not build");
    Ok(())
}

fn script(name: &str, args: &[&str]) -> Result<String> {
    let mut node = command("node", &[&format!("ci/bench/{name}")]);
    node.args(args);
    node.env("SNUG_RELAY", relay_binary()).env("SNUG_NATIVE", native_binary());
    output(node).with_context(|| format!("ci/bench/{name} needs Chromium, and `npm ci` in ci/"))
}

/// Runs an example of a crate: as it is shipped, or for a smoke run as the tests have built it.
fn example(package: &str, name: &str, args: &[&str], smoke: bool) -> Result<String> {
    output(command(&build_example(package, name, smoke)?.to_string_lossy(), args))
}

/// Builds an example and returns its path. The tests' build has the whole workspace's features.
pub(super) fn build_example(package: &str, name: &str, smoke: bool) -> Result<PathBuf> {
    let which: &[&str] = if smoke { &["--workspace"] } else { &["--release", "--package", package] };
    output(command("cargo", &[&["build", "--locked", "--quiet", "--example", name][..], which].concat()))?;
    Ok(target_dir().join(if smoke { "debug" } else { "release" }).join("examples").join(name))
}
