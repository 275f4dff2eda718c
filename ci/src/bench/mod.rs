//! Benches: figures of the real relay and the real native client, printed as Markdown with the date and the conditions.
//! They never assert a time: whether a bar is met is printed, and the exit code says only whether the bench could run.

mod audio;
mod floor;
mod native;
mod passwords;
mod person;
mod server;
mod signaling;
mod socket;
mod start;
mod stats;
#[cfg(target_os = "linux")]
mod turn;

use anyhow::{Context, Result};
use clap::ValueEnum;
use std::path::Path;

use crate::run::{Outcome, command, output, passes};
use crate::runners::build_relay;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Sockets, joins and fan-out, beside Node and Socket.IO in the same run
    Signaling,
    /// A flood of wrong passwords
    Passwords,
    /// Time to /health, idle memory, binary size
    Start,
    /// The TURN server beside Debian's coturn
    Turn,
    /// A call of five: the native client beside Chromium
    Mesh,
    /// The first half minute of a call of two pages, beside bare pages in the same run
    Page,
    /// The native client's codecs beside `FFmpeg`'s, its joins, its links that come and go
    Media,
    /// Everybody comes at once: how long after its link each first picture comes, natively and with pages
    Meeting,
    /// A call of two beside twelve busy loops, and a bare pair of Chromium pages
    Busy,
    /// Speech over bad networks, what is left of an echo, and what sound costs
    Audio,
    /// All of them
    All,
}

pub(crate) fn run(what: What, smoke: bool, old: Option<&Path>) -> Result<Outcome> {
    // The generator shares the machine with what it measures, so it must be fast code too.
    if cfg!(debug_assertions) && !smoke {
        let name = what.to_possible_value().context("every bench has a name")?;
        let again = [
            "run",
            "--release",
            "--locked",
            "--quiet",
            "--package",
            "snug-ci",
            "--",
            "bench",
            name.get_name(),
        ];
        let mut again = command("cargo", &again);
        if let Some(old) = old {
            again.arg("--old").arg(old);
        }
        return Ok(Outcome::one(passes(again)));
    }
    if !build_relay() {
        return Ok(Outcome::one(false));
    }
    raise_file_limit();
    println!("\n{}", conditions());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut outcome = Outcome::default();
    let mut measured = |name: &str, result: Result<String>| match result {
        Ok(table) => {
            println!("\n{table}");
            outcome.add(Outcome::one(true));
        }
        Err(error) => {
            println!("\nbench {name} could not run: {error:#}");
            outcome.add(Outcome::one(false));
        }
    };
    if matches!(what, What::Start | What::All) {
        measured("start", runtime.block_on(start::run(smoke)));
    }
    if matches!(what, What::Passwords | What::All) {
        measured("passwords", runtime.block_on(passwords::run(smoke)));
    }
    if matches!(what, What::Signaling | What::All) {
        measured(
            "signaling",
            match old {
                Some(old) => runtime.block_on(signaling::beside(old, smoke)),
                None => runtime.block_on(signaling::run(smoke)),
            },
        );
    }
    if matches!(what, What::Audio | What::All) {
        measured("audio", audio::run(smoke));
    }
    if matches!(what, What::Turn | What::All) {
        #[cfg(target_os = "linux")]
        measured("turn", turn::run(smoke));
        #[cfg(not(target_os = "linux"))]
        println!("\nbench turn reads what only Linux tells: nothing was measured");
    }
    if matches!(what, What::Mesh | What::All) {
        measured("mesh", native::mesh(smoke));
    }
    if matches!(what, What::Page | What::All) {
        measured("page", native::page(smoke));
    }
    if matches!(what, What::Media | What::All) {
        measured("media", native::media(smoke));
    }
    if matches!(what, What::Meeting | What::All) {
        measured("meeting", native::meeting(smoke));
    }
    if matches!(what, What::Busy | What::All) {
        measured("busy", native::busy(smoke));
    }
    Ok(outcome)
}

/// Date, processor, cores and load: a figure without them says nothing.
fn conditions() -> String {
    let date = output(command("date", &["-u", "+%Y-%m-%d %H:%M UTC"])).unwrap_or_default();
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("unknown processor")
        .trim_start_matches(['\t', ' ', ':']);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "{} · {cores} cores, {model} · load before {} · generator and server on one machine over loopback",
        date.trim(),
        load.split(' ').next().unwrap_or("?"),
    )
}

/// Thousands of sockets need more open files than a shell allows by default. The limit can be raised only through a system call that safe Rust has
/// no name for, so util-linux's program does it; children inherit it.
fn raise_file_limit() {
    let pid = std::process::id().to_string();
    let hard = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let hard = hard
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .and_then(|line| line.split_whitespace().nth(4))
        .unwrap_or("4096")
        .to_owned();
    if !passes(command("prlimit", &["--pid", &pid, &format!("--nofile={hard}:{hard}")])) {
        println!("the limit of open files stays as it is; large runs may fail");
    }
}
