//! When something is due, at most once for each thing: what is planned again and again takes no
//! more memory than what is planned once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Deadlines by what they are for.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    order: BTreeSet<(Instant, T)>,
    planned: BTreeMap<T, Instant>,
}

impl<T: Ord + Clone> Timers<T> {
    pub(crate) fn new() -> Self {
        Self { order: BTreeSet::new(), planned: BTreeMap::new() }
    }

    /// Plans `timer` for `at`, or leaves it where it is when that is earlier: whoever is woken too
    /// early plans anew.
    pub(crate) fn set(&mut self, at: Instant, timer: T) {
        match self.planned.get(&timer) {
            Some(planned) if *planned <= at => return,
            Some(planned) => {
                self.order.remove(&(*planned, timer.clone()));
            }
            None => {}
        }
        self.planned.insert(timer.clone(), at);
        self.order.insert((at, timer));
    }

    /// Forgets `timer`.
    pub(crate) fn cancel(&mut self, timer: &T) {
        if let Some(planned) = self.planned.remove(timer) {
            self.order.remove(&(planned, timer.clone()));
        }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the next one that is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.planned.remove(&timer);
        Some(timer)
    }

    /// How many are planned.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
#[path = "../tests/unit/timers.rs"]
mod tests;
