//! Asks for packets that did not come (RFC 4585 §6.2.1).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::sequence::Unwrapper16;

/// Lists are made no more often.
const TICK: Duration = Duration::from_millis(20);
/// A packet that is only reordered usually comes within this time.
const REORDERING: Duration = Duration::from_millis(8);
/// Requests for one packet.
const MAX_TRIES: u32 = 10;
/// A packet missing for longer is of no use to a call.
const MAX_AGE: Duration = Duration::from_millis(1_500);
/// Missing packets kept; a larger hole is left to a key frame.
const MAX_MISSING: usize = 500;

/// Packets remembered as asked for.
const MAX_ASKED: usize = 512;

/// Counts since the generator was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NackStats {
    /// Packets asked for, each request counted.
    pub requests: u64,
    /// Packets that came after having been asked for.
    pub recovered: u64,
    /// Packets that came although they were not missing: twice, or after having been given up.
    pub duplicates: u64,
    /// Packets given up.
    pub abandoned: u64,
}

#[derive(Debug)]
struct Missing {
    since: Instant,
    due: Instant,
    tries: u32,
}

/// Follows the sequence numbers of one received stream.
#[derive(Debug)]
pub struct NackGenerator {
    unwrapper: Unwrapper16,
    highest: Option<i64>,
    missing: BTreeMap<i64, Missing>,
    /// What was asked for lately, whether or not it came.
    asked: BTreeSet<i64>,
    rtt: Duration,
    next_tick: Option<Instant>,
    stats: NackStats,
}

impl Default for NackGenerator {
    fn default() -> Self {
        Self {
            unwrapper: Unwrapper16::default(),
            highest: None,
            missing: BTreeMap::new(),
            asked: BTreeSet::new(),
            rtt: Duration::from_millis(100),
            next_tick: None,
            stats: NackStats::default(),
        }
    }
}

impl NackGenerator {
    /// Sets the link's round trip: a packet is asked for at most once in that time.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt.min(MAX_AGE);
    }

    /// Counts so far.
    pub fn stats(&self) -> NackStats {
        self.stats
    }

    /// Notes a packet of the stream, original or out of its RTX stream. False if it was not wanted any more.
    pub fn on_packet(&mut self, now: Instant, sequence: u16) -> bool {
        let sequence = self.unwrapper.unwrap(sequence);
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return true;
        };
        if sequence <= highest {
            let wanted = self.missing.remove(&sequence);
            match &wanted {
                Some(missing) => self.stats.recovered += u64::from(missing.tries > 0),
                None => self.stats.duplicates += 1,
            }
            return wanted.is_some();
        }
        self.highest = Some(sequence);
        let hole = (sequence - highest - 1) as usize;
        if hole + self.missing.len() > MAX_MISSING {
            self.stats.abandoned += self.missing.len() as u64 + hole as u64;
            self.missing.clear();
            return true;
        }
        for lost in highest + 1..sequence {
            self.missing.insert(lost, Missing { since: now, due: now + REORDERING, tries: 0 });
        }
        true
    }

    /// Whether a packet was asked for lately. One that comes again and was not is padding of a probe.
    pub fn was_asked_for(&self, sequence: u16) -> bool {
        let Some(highest) = self.highest else { return false };
        let sequence = highest + i64::from(sequence.wrapping_sub(highest as u16) as i16);
        self.asked.contains(&sequence)
    }

    /// The sequence numbers to ask for, in order; empty when none is due.
    pub fn poll(&mut self, now: Instant) -> Vec<u16> {
        if self.missing.is_empty() || self.next_tick.is_some_and(|tick| tick > now) {
            return Vec::new();
        }
        let before = self.missing.len();
        self.missing.retain(|_, missing| {
            let late = now.saturating_duration_since(missing.since) > MAX_AGE;
            !late && (missing.tries < MAX_TRIES || missing.due > now)
        });
        self.stats.abandoned += (before - self.missing.len()) as u64;
        // A repair that jitter delays a little is not asked for twice.
        let retry = (self.rtt * 5 / 4).max(TICK);
        let mut list = Vec::new();
        for (&sequence, missing) in &mut self.missing {
            if missing.due <= now {
                missing.tries += 1;
                missing.due = now + retry;
                list.push(sequence as u16);
                self.asked.insert(sequence);
            }
        }
        while self.asked.len() > MAX_ASKED {
            self.asked.pop_first();
        }
        if !list.is_empty() {
            self.next_tick = Some(now + TICK);
        }
        self.stats.requests += list.len() as u64;
        list
    }

    /// When [`poll`](Self::poll) may have a list.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.missing.values().map(|missing| missing.due).min()?;
        Some(self.next_tick.map_or(due, |tick| due.max(tick)))
    }
}
