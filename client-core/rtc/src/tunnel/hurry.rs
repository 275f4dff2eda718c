//! When the library's task is to look again. What it sends through a TURN server it puts into a queue that it empties on its next turn only, and
//! what comes through one is answered a turn later as well: without anything else to do it would leave packets lying until its next
//! timer, half a second in a handshake. So while a connection uses a TURN server, the task's sleep is cut short until a turn brings nothing. Pure.

use std::time::{Duration, Instant};

/// So long after the last packet a server still counts as used. Checks of a path in use come every two seconds.
const IN_USE: Duration = Duration::from_secs(3);
/// A last look, in case that a timer of the library was due within a turn that was cut short.
const LAST_LOOK: Duration = Duration::from_millis(3);

/// The turns of one connection's task.
#[derive(Debug, Default)]
pub(super) struct Hurry {
    sent: u64,
    used: Option<Instant>,
    quiet: u32,
}

impl Hurry {
    /// How long to sleep of what was `asked`, when it is less. `sent` counts all packets to TURN servers; `woke` says that the turn that ends was
    /// begun by a sleep that had been cut short, not by a packet or a timer.
    pub(super) fn cut(&mut self, asked: Duration, sent: u64, woke: bool, now: Instant) -> Option<Duration> {
        let busy = sent != self.sent;
        if busy {
            self.sent = sent;
            self.used = Some(now);
        }
        if self.used.is_none_or(|used| now.saturating_duration_since(used) > IN_USE) {
            return None;
        }
        self.quiet = if busy || !woke { 0 } else { self.quiet + 1 };
        match self.quiet {
            0 | 1 => Some(Duration::ZERO),
            2 => Some(asked.min(LAST_LOOK)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1);
    const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn without_a_turn_server_nothing_is_cut_short() {
        let (mut hurry, now) = (Hurry::default(), Instant::now());
        assert_eq!(hurry.cut(LONG, 0, false, now), None);
        assert_eq!(hurry.cut(LONG, 1, false, now), AT_ONCE);
        assert_eq!(hurry.cut(LONG, 1, false, now + IN_USE * 2), None, "used long ago");
    }

    #[test]
    fn turns_follow_at_once_until_two_bring_nothing_and_then_comes_a_last_look() {
        let (mut hurry, now) = (Hurry::default(), Instant::now());
        let mut turns = [(1, false), (1, true), (2, true), (2, true), (2, true), (2, true)]
            .map(|(sent, woke)| hurry.cut(LONG, sent, woke, now))
            .into_iter();
        assert!(turns.by_ref().take(4).all(|turn| turn == AT_ONCE));
        assert_eq!(turns.next(), Some(Some(LAST_LOOK)));
        assert_eq!(turns.next(), Some(None));
        assert_eq!(hurry.cut(LONG, 2, false, now), AT_ONCE, "a packet came, or a timer was due");
    }
}
