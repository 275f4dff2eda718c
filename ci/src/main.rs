//! `cargo ci …`: every check, test and bench of the workspace behind one door, the same on a desk and in CI.
//! It never holds product code, and nothing of the product imports it.
//! `ci/test` installs what the suites need and calls `snug-ci all`.

// A command-line tool for developers: what it prints is its result.
#![allow(clippy::print_stdout)]

mod arch;
mod bench;
mod check;
mod fuzz;
mod lint;
#[path = "../needs.rs"]
#[allow(dead_code, reason = "the driver runs no such test itself")]
mod needs;
mod run;
mod runners;
mod suites;
mod web;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo ci", about = "Checks, tests and benches of the Snug workspace")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every suite, or those named, one after the other; ends with `N passed, N failed`, and `, N skipped` for what this machine lacks
    All {
        /// Names such as `lint` or `e2e`; `quick` is everything that needs no browser, no bench and no fuzzing
        suites: Vec<String>,
    },
    /// Does everything compile with the lock file as it is; the pure crates for wasm32 too
    Check,
    /// Formatting, clippy without warnings, forbidden calls in the page, unfinished work, file length
    Lint,
    /// Who may import whom, and what the pure crates must never touch
    Arch,
    /// The Rust tests of the workspace
    Test,
    /// The page: types, unit tests, weight
    Web,
    /// Licences, bans and sources of all dependencies
    Licenses,
    /// Real browsers against the real relay; names select test files
    E2e {
        /// Parts of file names in ci/e2e
        names: Vec<String>,
    },
    /// Pictures of every state of the page in ci/artifacts
    Screenshots,
    /// The fuzz targets
    Fuzz {
        /// How long each target runs
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Only this target
        #[arg(long)]
        target: Option<String>,
    },
    /// Figures, printed as Markdown; they never fail a build
    Bench {
        /// What to measure
        #[arg(value_enum, default_value = "all")]
        what: bench::What,
        /// Tiny sizes, to prove that the bench itself works
        #[arg(long)]
        smoke: bool,
        /// The binary of an earlier relay, of version 1: `bench signaling` drives it beside this one, in turns
        #[arg(long)]
        old: Option<std::path::PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    let outcome = match Cli::parse().command {
        Command::All { suites } => suites::run_all(&suites)?,
        Command::Check => check::run()?,
        Command::Lint => lint::run()?,
        Command::Arch => arch::run()?,
        Command::Test => runners::cargo_test()?,
        Command::Web => web::run()?,
        Command::Licenses => check::licenses()?,
        Command::E2e { names } => runners::e2e(&names)?,
        Command::Screenshots => runners::e2e(&["screens".to_owned()])?,
        Command::Fuzz { seconds, target } => fuzz::run(seconds, target.as_deref())?,
        Command::Bench { what, smoke, old } => bench::run(what, smoke, old.as_deref())?,
    };
    std::process::exit(i32::from(!outcome.is_good()));
}
