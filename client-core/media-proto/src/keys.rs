//! Whose request for a key frame is answered, and when: a key frame costs several pictures' bits for
//! everybody on its layer, and any viewer can ask for one at any time.
//!
//! 1. A viewer that has not had one is owed one at once.
//! 2. A viewer's further requests are answered three times in three seconds, however often it asks, and
//!    whatever for: a lost picture, another layer.
//! 3. What comes within a fifth of a second after its key frame crossed it on the way.
//! 4. All viewers that have had one together are answered six times in three seconds: a key frame
//!    answers everybody who waits for one.
//! 5. A viewer that leaves and returns under another name is a new one. So are people at the start of a
//!    meeting, who all come within seconds: only many more than fit a room, one after the other, wait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Key frames for one viewer within [`PERIOD`].
const MOST: usize = 3;
/// Key frames for all known viewers together within [`PERIOD`].
const MOST_TOGETHER: usize = 6;
/// The time that [`MOST`] and [`MOST_TOGETHER`] count in.
const PERIOD: Duration = Duration::from_secs(3);
/// A request that comes so soon after a key frame was sent before that key frame arrived.
const CROSSING: Duration = Duration::from_millis(200);
/// New viewers that get their first key frame at once, whenever they come: two full rooms.
const NEWCOMERS: u32 = 20;
/// Time in which one more new viewer may.
const REFILL: Duration = Duration::from_millis(300);
/// Viewers that are remembered, those that have gone included.
const REMEMBERED: usize = 64;

/// Limits the key frames of one source, by viewer.
#[derive(Debug)]
pub struct KeyLimiter<V> {
    /// The last key frames of each viewer, oldest first.
    viewers: BTreeMap<V, [Option<Instant>; MOST]>,
    /// The last key frames of them all, oldest first, without the first one of each.
    together: [Option<Instant>; MOST_TOGETHER],
    /// How many new viewers may still have theirs at once.
    room: u32,
    refilled: Option<Instant>,
}

impl<V> Default for KeyLimiter<V> {
    fn default() -> Self {
        Self { viewers: BTreeMap::new(), together: [None; MOST_TOGETHER], room: NEWCOMERS, refilled: None }
    }
}

impl<V: Copy + Ord> KeyLimiter<V> {
    /// Whether a request of this viewer is to be answered. Until it is, the request stands.
    pub fn allows(&mut self, viewer: V, now: Instant) -> bool {
        self.refill(now);
        let Some(sent) = self.viewers.get(&viewer) else { return self.room > 0 };
        let passed =
            |at: Option<Instant>, least| at.is_none_or(|at| now.saturating_duration_since(at) >= least);
        passed(sent[MOST - 1], CROSSING) && passed(sent[0], PERIOD) && passed(self.together[0], PERIOD)
    }

    /// Notes that a key frame was sent to a viewer that had asked for it.
    pub fn on_sent(&mut self, viewer: V, now: Instant) {
        self.refill(now);
        if !self.viewers.contains_key(&viewer) {
            self.room = self.room.saturating_sub(1);
            self.make_room();
        } else if self.together[MOST_TOGETHER - 1] != Some(now) {
            // One picture may answer several.
            self.together.rotate_left(1);
            self.together[MOST_TOGETHER - 1] = Some(now);
        }
        let sent = self.viewers.entry(viewer).or_default();
        sent.rotate_left(1);
        sent[MOST - 1] = Some(now);
    }

    fn refill(&mut self, now: Instant) {
        let since = *self.refilled.get_or_insert(now);
        let more = now.saturating_duration_since(since).as_millis() / REFILL.as_millis();
        let more = u32::try_from(more).unwrap_or(NEWCOMERS).min(NEWCOMERS);
        if more > 0 {
            self.room = (self.room + more).min(NEWCOMERS);
            self.refilled = Some(if self.room == NEWCOMERS { now } else { since + REFILL * more });
        }
    }

    /// Forgets who has been quiet for the longest time.
    fn make_room(&mut self) {
        if self.viewers.len() < REMEMBERED {
            return;
        }
        let quiet = self.viewers.iter().min_by_key(|(_, sent)| sent[MOST - 1]).map(|(viewer, _)| *viewer);
        if let Some(quiet) = quiet {
            self.viewers.remove(&quiet);
        }
    }
}
