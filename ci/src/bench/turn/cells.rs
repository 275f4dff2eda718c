//! The cells of the comparison: who sends to whom, how many datagrams at once, how many in a second; and what is asked of our server there.

use anyhow::{Context, Result, ensure};

/// Which way the packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Client to relayed address to relayed address to client, in both directions of each pair.
    Pair,
    /// Client to relayed address to a peer.
    Up,
    /// A peer to a relayed address to a client.
    Down,
    /// Both, half of the packets each.
    UpAndDown,
}

/// Coturn's CPU time per packet divided by ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) must: f64,
    pub(super) moonshot: f64,
    /// What a bare forwarder with the same socket techniques and no authentication reached.
    pub(super) probe: Option<f64>,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) name: String,
    pub(super) way: Way,
    pub(super) burst: usize,
    /// Packets per second, counted once from end to end.
    pub(super) rate: usize,
    pub(super) bar: Option<Bar>,
    /// The receiver waits for every packet instead of looking once a millisecond, so that delays mean something.
    pub(super) timed: bool,
}

const fn bar(must: f64, moonshot: f64, probe: f64) -> Option<Bar> {
    Some(Bar { must, moonshot, probe: Some(probe) })
}

/// At 20 kpps: never worse than coturn.
const QUIET: Option<Bar> = Some(Bar { must: 1.0, moonshot: 1.5, probe: None });

/// The name says it all: way, datagrams in a burst, thousands of packets in a second.
const TABLE: [(&str, Option<Bar>); 15] = [
    ("pair-1-60", bar(1.6, 3.0, 1.9)),
    ("pair-4-60", bar(2.5, 5.0, 2.9)),
    ("pair-16-120", bar(5.0, 10.0, 7.6)),
    // The bursts of the row above at a rate that coturn carries without loss.
    ("pair-16-80", bar(5.0, 10.0, 7.6)),
    ("up-1-60", bar(1.05, 1.5, 1.1)),
    ("up-4-80", bar(2.0, 4.0, 2.2)),
    ("down-4-80", bar(2.0, 4.0, 2.2)),
    ("updown-4-80", bar(2.0, 4.0, 2.2)),
    ("up-16-120", bar(2.5, 4.0, 2.9)),
    ("pair-1-20", QUIET),
    ("pair-4-20", QUIET),
    ("up-1-20", QUIET),
    ("up-4-20", QUIET),
    ("down-1-20", QUIET),
    ("pair-1-60-delay", None),
];

/// What a run of CI proves: each way and each burst once, slowly.
const SMOKE: [&str; 5] = ["pair-1-5", "pair-16-5", "up-4-5", "updown-4-5", "pair-1-5-delay"];

impl Cell {
    fn parse(name: &str) -> Result<Self> {
        let mut parts = name.split('-');
        let way = match parts.next() {
            Some("pair") => Way::Pair,
            Some("up") => Way::Up,
            Some("down") => Way::Down,
            Some("updown") => Way::UpAndDown,
            _ => anyhow::bail!("a cell begins with pair, up, down or updown; {name} does not"),
        };
        let number = |part: Option<&str>, what: &str| {
            part.and_then(|part| part.parse::<usize>().ok()).filter(|&number| number > 0).with_context(|| {
                format!("{name} has no {what}: a cell is called pair-4-60, or pair-1-60-delay")
            })
        };
        let burst = number(parts.next(), "datagrams in a burst")?;
        let rate = 1000 * number(parts.next(), "thousands of packets in a second")?;
        let timed = match parts.next() {
            None => false,
            Some("delay") => true,
            Some(other) => anyhow::bail!("{name}: nobody knows what {other} means"),
        };
        // A run of 1,204-byte datagrams must fit into one message of the kernel.
        ensure!(burst <= 53 && parts.next().is_none(), "{name}: bursts are of 53 datagrams at most");
        let bar = TABLE.iter().find(|(known, _)| *known == name).and_then(|(_, bar)| *bar);
        Ok(Self { name: name.to_owned(), way, burst, rate, bar, timed })
    }

    /// In words, for the table.
    pub(super) fn words(&self) -> String {
        let way = match self.way {
            Way::Pair => "relay to relay",
            Way::Up => "one hop up",
            Way::Down => "one hop down",
            Way::UpAndDown => "one hop up and down",
        };
        let burst =
            if self.burst == 1 { "single packets".to_owned() } else { format!("bursts of {}", self.burst) };
        format!("{way}, {burst}, {} kpps (`{}`)", self.rate / 1000, self.name)
    }
}

/// The cells to run: those that are named, else the small ones for a smoke test, else all of the table.
///
/// # Errors
/// When a name is none.
pub(super) fn choose(named: &[String], smoke: bool) -> Result<Vec<Cell>> {
    if !named.is_empty() {
        return named.iter().map(|name| Cell::parse(name)).collect();
    }
    if smoke {
        return SMOKE.iter().map(|name| Cell::parse(name)).collect();
    }
    TABLE.iter().map(|(name, _)| Cell::parse(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_a_cell() {
        let cells = choose(&[], false).expect("well formed");
        assert_eq!(cells.len(), TABLE.len());
        assert_eq!((cells[1].way, cells[1].burst, cells[1].rate), (Way::Pair, 4, 60_000));
        assert!(cells.iter().all(|cell| cell.timed || cell.bar.is_some()));
        assert!(choose(&[], true).is_ok());
    }

    #[test]
    fn a_cell_of_ones_own_has_no_bar() {
        let cell = Cell::parse("up-2-30").expect("well formed");
        assert!(cell.bar.is_none() && !cell.timed);
        for wrong in ["", "side-1-20", "up", "up-0-20", "up-1-x", "up-54-20", "up-1-20-fast"] {
            assert!(Cell::parse(wrong).is_err(), "{wrong}");
        }
    }
}
