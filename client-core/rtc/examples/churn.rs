//! What connections that come and go leave behind: `churn CYCLES` connects two sides over loopback, sends a packet each way, closes both,
//! and prints memory, threads and descriptors as a Markdown table. It is run by `cargo ci bench media` and never by a call.

#![allow(clippy::print_stdout, reason = "what it prints is its result")]

use std::time::{Duration, Instant};

use tokio::time::sleep;

#[path = "../tests/cycle/mod.rs"]
mod cycle;

use cycle::{AT_ONCE, Result, resident};

/// What belongs to a closed connection is gone after this.
const SETTLE: Duration = Duration::from_secs(3);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let cycles: usize = std::env::args().nth(1).ok_or("usage: churn CYCLES")?.parse()?;
    let started = Instant::now();
    println!("| links that came and went | RSS, MiB | threads | descriptors |\n|---|---|---|---|");
    look(0)?;
    let mut done = 0;
    let mut first = None;
    for part in [cycles / 10, cycles / 4, cycles / 2, cycles] {
        cycle::run(part - done).await?;
        done = part;
        sleep(SETTLE).await;
        let memory = look(done)?;
        first.get_or_insert((done, memory));
    }
    let last = resident()?;
    if let Some((warm, first)) = first {
        let growth = last - first;
        let bar = if growth < 5.0 { "met" } else { "missed" };
        println!(
            "\nGrowth from {warm} to {done}: {growth:.1} MiB (< 5 MiB: {bar}). {:.0} ms of CPU for each, both sides together; {AT_ONCE} at a time, {:.0} s in all.",
            cpu_seconds()? * 1000.0 / cycles.max(1) as f64,
            started.elapsed().as_secs_f64(),
        );
    }
    Ok(())
}

/// Prints a row; answers with the memory in MiB.
fn look(cycles: usize) -> Result<f64> {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).map(Iterator::count);
    let memory = resident()?;
    println!("| {cycles} | {memory:.1} | {} | {} |", count("task")?, count("fd")?);
    Ok(memory)
}

/// CPU time of this process so far; Linux counts it in hundredths of a second.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(") ").next().ok_or("no fields")?;
    let mut ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u32>);
    let mut next = || -> Result<u32> { Ok(ticks.next().ok_or("no CPU time is told")??) };
    Ok(f64::from(next()? + next()?) / 100.0)
}
