//! A data channel over a path that loses: numbers, acknowledgements, and what is sent again. It never sends by itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Messages that may wait on either side; no call comes near it.
const WAITING: usize = 512;
const RETRANSMIT: Duration = Duration::from_millis(500);
/// Messages that are sent again at once.
const BURST: usize = 16;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Fresh,
    Open,
    Closed,
}

/// One side.
#[derive(Default)]
pub(crate) struct Channel {
    state: State,
    sent: VecDeque<(u64, String)>,
    next_out: u64,
    next_in: u64,
    early: BTreeMap<u64, String>,
    retransmit: Option<Duration>,
}

impl Channel {
    /// Says whether it was not open before: it opens once.
    pub(crate) fn open(&mut self) -> bool {
        let fresh = self.state == State::Fresh;
        if fresh {
            self.state = State::Open;
        }
        fresh
    }

    /// Says whether it was open.
    pub(crate) fn close(&mut self) -> bool {
        let open = self.state == State::Open;
        if open {
            self.state = State::Closed;
        }
        open
    }

    /// The number of a message that is to be sent; `None` when the channel is not open or holds too much.
    pub(crate) fn send(&mut self, text: &str, now: Duration) -> Option<u64> {
        if self.state != State::Open || self.sent.len() >= WAITING {
            return None;
        }
        let serial = self.next_out;
        self.next_out += 1;
        self.sent.push_back((serial, text.to_owned()));
        self.retransmit.get_or_insert(now + RETRANSMIT);
        Some(serial)
    }

    /// The other side has everything below `next`.
    pub(crate) fn acknowledged(&mut self, next: u64) {
        self.sent.retain(|(serial, _)| *serial >= next);
        if self.sent.is_empty() {
            self.retransmit = None;
        }
    }

    /// Takes a message; what can be handed on in order is handed on.
    pub(crate) fn receive(&mut self, serial: u64, text: String) -> Vec<String> {
        if serial >= self.next_in && self.early.len() < WAITING {
            self.early.insert(serial, text);
        }
        let mut ready = Vec::new();
        while let Some(text) = self.early.remove(&self.next_in) {
            self.next_in += 1;
            ready.push(text);
        }
        ready
    }

    /// Everything below has come.
    pub(crate) fn expected(&self) -> u64 {
        self.next_in
    }

    /// What is to be sent again.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<(u64, String)> {
        if self.retransmit.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.retransmit = Some(now + RETRANSMIT);
        self.sent.iter().take(BURST).cloned().collect()
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.retransmit
    }
}
