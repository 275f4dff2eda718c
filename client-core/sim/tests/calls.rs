//! Hundreds of calls, each drawn from a seed, with all that can go wrong. A seed that fails is printed with what happened.

#![expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
#![expect(
    clippy::print_stdout,
    reason = "which seed failed, and how fast it went, is what somebody wants to see"
)]

use std::time::Instant;

use snug_sim::{Plan, run};

/// Seeds to play: `SNUG_SIM_SEEDS=from..to`, else 0..320.
fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("SNUG_SIM_SEEDS").ok();
    let parsed = given.as_deref().and_then(|text| text.split_once("..")).map(|(from, to)| {
        from.parse().expect("SNUG_SIM_SEEDS is from..to")..to.parse().expect("SNUG_SIM_SEEDS is from..to")
    });
    parsed.unwrap_or(0..320)
}

#[test]
fn every_drawn_call_keeps_the_rules() {
    let start = Instant::now();
    let seeds = seeds();
    let count = seeds.end - seeds.start;
    let mut failures = Vec::new();
    let (mut seconds, mut events) = (0.0, 0);
    for seed in seeds {
        match run(&Plan::draw(seed), start) {
            Ok(report) => {
                seconds += report.length.as_secs_f64();
                events += report.counts.events;
            }
            Err(failure) => {
                println!("{failure}\n");
                failures.push((failure.seed, failure.problem));
            }
        }
    }
    let took = start.elapsed().as_secs_f64();
    println!(
        "{count} calls, {:.0} s of them, {events} events in {took:.1} s: {:.1} calls/s",
        seconds,
        count as f64 / took
    );
    for (seed, problem) in &failures {
        println!("seed {seed}: {problem}");
    }
    assert!(failures.is_empty(), "{} of {count} calls broke a rule", failures.len());
}

#[test]
fn the_same_seed_gives_the_same_call() {
    let start = Instant::now();
    for seed in [3, 14, 15] {
        let plan = Plan::draw(seed);
        let (first, second) = (run(&plan, start), run(&plan, start));
        assert_eq!(first, second, "seed {seed}");
    }
}
