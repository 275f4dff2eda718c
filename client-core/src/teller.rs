//! The one way by which a shell is told something: it never waits, and counts what finds no room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::api::Event;

/// Tells a shell. Clones share the queue and the count.
#[derive(Clone)]
pub(crate) struct Teller {
    events: mpsc::Sender<Event>,
    missed: Arc<AtomicU64>,
}

impl Teller {
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, missed: Arc::default() }
    }

    /// A shell that does not read must not stop the call; the snapshot still tells it how things are.
    pub(crate) fn tell(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until there is room.
    pub(crate) fn tell_surely(&self, event: Event) {
        // The shell may have gone already.
        let _ = self.events.blocking_send(event);
    }

    /// Room for one event, however many come before it.
    pub(crate) fn reserve(&self) -> Option<mpsc::OwnedPermit<Event>> {
        self.events.clone().try_reserve_owned().ok()
    }

    /// The count of events that found no room.
    pub(crate) fn missed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.missed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop anywhere")]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_whoever_tells_it() {
        let (events, mut told) = mpsc::channel(2);
        let (session, sound) = {
            let teller = Teller::new(events);
            (teller.clone(), teller)
        };
        let last = session.reserve().unwrap();
        session.tell(Event::Draining);
        session.tell(Event::Resumed);
        sound.tell(Event::Resumed);
        last.send(Event::Reconnecting);
        assert_eq!(session.missed().load(Ordering::Relaxed), 2);
        assert_eq!(told.try_recv(), Ok(Event::Draining));
        assert_eq!(told.try_recv(), Ok(Event::Reconnecting));
        assert!(told.try_recv().is_err());
    }
}
