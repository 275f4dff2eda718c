//! The embedded TURN server beside Debian's coturn: what a relayed packet, an idle allocation and a stranger cost each of them.
//!
//! Both servers run all the time and take turns, window by window; only the CPU clock of the one at work is read. A window in which less than
//! 99 % arrived, or in which the generator fell behind, does not count. Ratios within one run are what the figures are for: a loaded machine moves both servers alike.
//!
//! Variables narrow a run: `SNUG_BENCH_CELLS=pair-4-60,up-1-60` (cells alone; `none`: everything but cells), `SNUG_BENCH_REPEATS=5`,
//! `SNUG_BENCH_SECONDS=4`.

mod buffers;
mod cells;
mod client;
mod clock;
mod idle;
mod load;
mod rooms;
mod servers;
mod strangers;
mod stun;

use anyhow::{Context, Result, ensure};
use std::time::Duration;

use crate::bench::stats::against;
use cells::{Bar, Cell};
use load::{CLIENTS, PAYLOAD, Sample};
use servers::{BOTH, Maker, TurnServer};

/// A window counts when so much of what was sent arrived, and so much of the cell's rate was sent.
const DELIVERED: f64 = 0.99;
const KEPT: f64 = 0.95;

pub(crate) fn run(smoke: bool) -> Result<String> {
    let version = servers::coturn_version()?;
    let wanted = Wanted::from_environment(smoke)?;
    let Wanted { cells, rest, repeats, window } = &wanted;
    let mut report = format!(
        "### turn ({CLIENTS} clients, {PAYLOAD}-byte payloads on channels, coturn {version} with one relay thread, \
         {repeats} windows of {:.1} s for each server by turns)\n\n",
        window.as_secs_f64(),
    );
    let ours = TurnServer::start(Maker::Ours).context("our relay")?;
    let theirs = TurnServer::start(Maker::Coturn).context("coturn")?;
    if !cells.is_empty() {
        report += &load_table(&ours, &theirs, cells, *repeats, *window)?;
    }
    if *rest {
        let mut strangers = strangers::HEAD.to_owned();
        strangers += &strangers::echoes(&ours, &theirs)?;
        strangers += &strangers::insistence(&ours, &theirs)?;
        // Two relays of ours would share a data folder.
        drop((ours, theirs));
        strangers += &strangers::start(*repeats)?;
        strangers += &strangers::flood(smoke)?;
        report += &idle::run(smoke, *repeats)?;
        report.push('\n');
        report += &strangers;
    }
    Ok(report)
}

/// What is measured, and how long.
struct Wanted {
    cells: Vec<Cell>,
    /// What is no cell: idle allocations and strangers.
    rest: bool,
    repeats: usize,
    window: Duration,
}

impl Wanted {
    fn from_environment(smoke: bool) -> Result<Self> {
        let named = std::env::var("SNUG_BENCH_CELLS").unwrap_or_default();
        let named: Vec<String> =
            named.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let none = named == ["none"];
        Ok(Self {
            cells: if none { Vec::new() } else { cells::choose(&named, smoke)? },
            rest: none || named.is_empty(),
            repeats: number("SNUG_BENCH_REPEATS")?.unwrap_or(if smoke { 1 } else { 5 }),
            window: match number("SNUG_BENCH_SECONDS")? {
                Some(seconds) => Duration::from_secs(seconds as u64),
                None if smoke => Duration::from_millis(300),
                None => Duration::from_secs(4),
            },
        })
    }
}

/// A positive number from the environment, if it is there.
fn number(name: &str) -> Result<Option<usize>> {
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    let number = text.parse().with_context(|| format!("{name}={text} is no number"))?;
    ensure!(number > 0, "{name} must be at least 1");
    Ok(Some(number))
}

/// Figures of the same thing, in the order in which they were taken.
#[derive(Clone, Debug, Default)]
struct Figures(Vec<f64>);

impl Figures {
    fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The middle one, or the mean of the two in the middle.
    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => sorted[length / 2],
            length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
        }
    }
}

/// Everything that one server showed in one cell.
#[derive(Clone, Debug, Default)]
struct Shown {
    samples: Vec<Sample>,
}

impl Shown {
    fn of(&self, figure: impl Fn(&Sample) -> f64) -> Figures {
        Figures(self.samples.iter().map(figure).collect())
    }

    /// CPU per packet of the windows that count.
    fn valid(&self) -> Figures {
        let counts = |one: &&Sample| one.delivered >= DELIVERED && one.kept >= KEPT;
        Figures(self.samples.iter().filter(counts).map(|one| one.cpu).collect())
    }

    /// Most windows must count, or the cell does not.
    fn is_valid(&self) -> bool {
        2 * self.valid().0.len() > self.samples.len()
    }

    /// Two columns: CPU per packet and delivery. What was lost makes the rest look dear, so a rejected figure stands in parentheses.
    fn columns(&self) -> String {
        let (valid, all) = (self.valid(), self.of(|one| one.cpu));
        let delivered = 100.0 * self.of(|one| one.delivered).median();
        if !self.is_valid() {
            return format!("({:.2} / {:.2}) | {delivered:.1} % **rejected**", all.min(), all.median());
        }
        let left_out = match self.samples.len() - valid.0.len() {
            0 => String::new(),
            count => format!(", {count} left out"),
        };
        format!("{:.2} / {:.2} | {delivered:.1} %{left_out}", valid.min(), valid.median())
    }
}

fn load_table(
    ours: &TurnServer,
    theirs: &TurnServer,
    cells: &[Cell],
    repeats: usize,
    window: Duration,
) -> Result<String> {
    let mut table = String::from(
        "| cell | coturn µs, min / median | delivered | snug-relay µs, min / median | delivered | coturn / ours, min / median | probe | must | moonshot | |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut delays = String::new();
    let mut buffer = Some(usize::MAX);
    let mut busiest: f64 = 0.0;
    let mut slowest: f64 = f64::INFINITY;
    for cell in cells {
        let mut shown = [Shown::default(), Shown::default()];
        for repeat in 0..repeats {
            // Who goes first changes, so that neither always profits from what the other left in the caches.
            for place in if repeat % 2 == 0 { [0, 1] } else { [1, 0] } {
                let server = if BOTH[place] == Maker::Ours { ours } else { theirs };
                let sample = load::run(server, cell, window)
                    .with_context(|| format!("{} at {}", cell.name, server.maker.name()))?;
                eprintln!(
                    "{} {repeat} {}: {:.2} µs, {:.1} % delivered, {:.1} kpps, generator {:.0} %, delay {:.2} / {:.2} ms",
                    cell.name,
                    server.maker.name(),
                    sample.cpu,
                    100.0 * sample.delivered,
                    sample.kept * cell.rate as f64 / 1000.0,
                    100.0 * sample.generator,
                    sample.delay.0,
                    sample.delay.1,
                );
                buffer = buffer.zip(sample.buffer).map(|(one, other)| one.min(other));
                busiest = busiest.max(sample.generator);
                slowest = slowest.min(sample.kept);
                shown[place].samples.push(sample);
            }
        }
        let [ours, theirs] = &shown;
        table += &row(cell, ours, theirs);
        if cell.timed {
            let times = |shown: &Shown| {
                let (middle, high) = (shown.of(|one| one.delay.0), shown.of(|one| one.delay.1));
                format!("{:.2} / {:.2}", middle.median(), high.median())
            };
            let verdict = against(ours.of(|one| one.delay.1).median(), 1.0);
            delays += &format!("| {} | {} | {} | {verdict} |\n", cell.words(), times(theirs), times(ours));
        }
    }
    if !delays.is_empty() {
        table += &format!(
            "\n| from the sender's call to the receiver's, ms, p50 / p99 | coturn | snug-relay | moonshot: p99 ≤ 1 |\n|---|---|---|---|\n{delays}"
        );
    }
    let buffers = match buffer {
        Some(bytes) => {
            format!("Every UDP socket of both servers had a receive buffer of at least {} KiB", bytes >> 10)
        }
        None => {
            "Socket buffers are those that each server asked for: making them equal needs root".to_owned()
        }
    };
    Ok(format!(
        "{table}\nCPU time of the whole server process for each packet that arrived, kernel included. {buffers}. The generator took at most \
         {:.0} % of a core and kept at least {:.0} % of the rate.\n\n",
        100.0 * busiest,
        100.0 * slowest,
    ))
}

fn row(cell: &Cell, ours: &Shown, theirs: &Shown) -> String {
    let both = ours.is_valid() && theirs.is_valid();
    let (best, middle) = if both {
        let (ours, theirs) = (ours.valid(), theirs.valid());
        (theirs.min() / ours.min(), theirs.median() / ours.median())
    } else {
        let cpu = |shown: &Shown| shown.of(|one| one.cpu);
        let (ours, theirs) = (cpu(ours), cpu(theirs));
        (theirs.min() / ours.min(), theirs.median() / ours.median())
    };
    let ratio =
        if both { format!("{best:.2} / **{middle:.2}**") } else { format!("({best:.2} / {middle:.2})") };
    let bar = match cell.bar {
        None => " | | ".to_owned(),
        Some(Bar { must, moonshot, probe }) => {
            let probe = probe.map(|probe| format!("{probe}×")).unwrap_or_default();
            format!("{probe} | {must}× | {moonshot}×")
        }
    };
    let verdict = match cell.bar {
        None => "",
        Some(_) if !ours.is_valid() => "no figure: ours rejected",
        Some(_) if !theirs.is_valid() => "no figure: coturn rejected",
        Some(bar) if middle >= bar.moonshot => "moonshot",
        Some(bar) if middle >= bar.must => "met",
        Some(_) => "missed",
    };
    format!(
        "| {} | {} | {} | {ratio} | {bar} | {verdict} |\n",
        cell.words(),
        theirs.columns(),
        ours.columns()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu: f64, delivered: f64) -> Sample {
        Sample { cpu, delivered, kept: 1.0, generator: 0.5, delay: (0.0, 0.0), buffer: None }
    }

    #[test]
    fn what_lost_packets_does_not_count() {
        let mixed = Shown { samples: vec![sample(4.0, 1.0), sample(2.0, 1.0), sample(90.0, 0.5)] };
        assert!(mixed.is_valid());
        assert_eq!(mixed.valid().median(), 3.0);
        assert!(mixed.columns().contains("1 left out"));
        let held_up = Shown { samples: vec![Sample { kept: 0.5, ..sample(4.0, 1.0) }] };
        assert!(!held_up.is_valid());
        let lossy = Shown { samples: vec![sample(4.0, 0.9), sample(2.0, 1.0)] };
        assert!(!lossy.is_valid());
        assert!(lossy.columns().contains("rejected"));
        let cells = cells::choose(&["pair-4-60".to_owned()], false).expect("a cell");
        assert!(row(&cells[0], &mixed, &lossy).contains("coturn rejected"));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(Figures(vec![4.0, 1.0, 3.0, 2.0]).median(), 2.5);
        assert!(Figures::default().median().is_nan());
    }
}
