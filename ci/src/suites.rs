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
    ("bench", || bench::run(bench::What::All, true, None)),
];

/// Stands for what needs no browser, no bench and no fuzzing: for the working day.
const QUICK: &str = "quick";
const QUICK_SUITES: [Suite; 7] = [
    ("check", check::run),
    ("lint", lint::run),
    ("arch", arch::run),
    ("test", runners::cargo_test),
    ("web", web::run),
    ("licenses", check::licenses),
    ("e2e without browsers", runners::e2e_without_browsers),
];

/// Runs the named suites (all of them without names) and goes on after a failure.
///
/// # Errors
/// When a name is unknown.
pub(crate) fn run_all(names: &[String]) -> Result<Outcome> {
    let known: Vec<_> = SUITES.iter().map(|(known, _)| *known).chain([QUICK]).collect();
    for name in names {
        ensure!(known.contains(&name.as_str()), "no suite is called {name}; there are: {}", known.join(", "));
    }
    let named = |suite: &&Suite| names.is_empty() || names.iter().any(|wanted| wanted == suite.0);
    let quick: &[Suite] = if names.iter().any(|name| name == QUICK) { &QUICK_SUITES } else { &[] };
    let others = SUITES.iter().filter(named).filter(|suite| quick.iter().all(|other| other.0 != suite.0));
    let mut rows: Vec<(&str, Outcome, Duration)> = Vec::new();
    for &(name, suite) in quick.iter().chain(others) {
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
    println!("\n| suite | passed | failed | skipped | seconds |\n|---|---|---|---|---|");
    for (name, outcome, took) in &rows {
        let Outcome { passed, failed, skipped } = outcome;
        println!("| {name} | {passed} | {failed} | {skipped} | {:.0} |", took.as_secs_f32());
        total.add(*outcome);
    }
    let all: Duration = rows.iter().map(|(_, _, took)| *took).sum();
    let Outcome { passed, failed, skipped } = total;
    println!("| all | {passed} | {failed} | {skipped} | {:.0} |\n", all.as_secs_f32());
    println!("{total}");
    Ok(total)
}
