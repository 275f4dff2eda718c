//! All suites in a row, fast ones first, and the summary at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::run::Outcome;
use crate::{arch, bench, check, fuzz, lint, runners, web};

type Suite = (&'static str, fn() -> Result<Outcome>);

const SUITES: [Suite; 9] = [
    ("check", check::run),
    ("lint", lint::run),
    ("arch", arch::run),
    ("test", runners::cargo_test),
    ("web", web::run),
    ("licenses", check::licenses),
    ("fuzz", || fuzz::run(30, None)),
    ("e2e", || runners::e2e(&[])),
    ("bench", || bench::run(bench::What::All, true)),
];

/// Runs the named suites (all of them without names) and goes on after a failure.
///
/// # Errors
/// When a name is unknown.
pub(crate) fn run_all(names: &[String]) -> Result<Outcome> {
    for name in names {
        let known: Vec<_> = SUITES.iter().map(|(known, _)| *known).collect();
        ensure!(known.contains(&name.as_str()), "no suite is called {name}; there are: {}", known.join(", "));
    }
    let mut rows: Vec<(&str, Outcome, Duration)> = Vec::new();
    for (name, suite) in SUITES {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("\n== {name}");
        let started = Instant::now();
        let mut outcome = suite().unwrap_or_else(|error| {
            println!("{name}: {error:#}");
            Outcome::one(false)
        });
        if outcome == Outcome::default() {
            println!("{name}: nothing was checked");
            outcome.failed = 1;
        }
        rows.push((name, outcome, started.elapsed()));
    }
    let mut total = Outcome::default();
    println!("\n| suite | passed | failed | seconds |\n|---|---|---|---|");
    for (name, outcome, took) in &rows {
        println!("| {name} | {} | {} | {:.0} |", outcome.passed, outcome.failed, took.as_secs_f32());
        total.add(*outcome);
    }
    let all: Duration = rows.iter().map(|(_, _, took)| *took).sum();
    println!("| all | {} | {} | {:.0} |\n", total.passed, total.failed, all.as_secs_f32());
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total)
}
