//! The newest decoded picture of each remote section. A reader that is slower than the sender skips pictures and never holds anybody up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use snug_media_proto::section::Section;
use snug_video::SharedFrame;
use snug_wire::UserId;

/// The pictures of everybody else. Clones share them.
#[derive(Clone, Default)]
pub struct Pictures(Arc<Mutex<BTreeMap<(UserId, Section), Shown>>>);

struct Shown {
    frame: SharedFrame,
    number: u64,
}

impl Pictures {
    /// The newest picture of a participant's camera or screen, and how many there were with it: a view draws again when that has grown.
    pub fn newest(&self, user: UserId, section: Section) -> Option<(SharedFrame, u64)> {
        self.lock().get(&(user, section)).map(|shown| (Arc::clone(&shown.frame), shown.number))
    }

    pub(crate) fn show(&self, user: UserId, section: Section, frame: SharedFrame) {
        let mut all = self.lock();
        let number = all.get(&(user, section)).map_or(1, |shown| shown.number + 1);
        tracing::trace!(%user, ?section, number, "a picture is shown");
        all.insert((user, section), Shown { frame, number });
    }

    /// Forgets somebody who left.
    pub(crate) fn forget(&self, user: UserId) {
        self.lock().retain(|(of, _), _| *of != user);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(UserId, Section), Shown>> {
        // Whole entries are exchanged, so a poisoned map is still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
