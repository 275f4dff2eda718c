//! Rooms that nobody needs leave the disk: those without a password in which two people never met.
//! It decides which, and looks for them now and then; the hub keeps those that somebody is in.
//!
//! 1. A room like that expires when it was not used for `--room-expiry` days.
//! 2. Near the limit of rooms ([`Capacity::is_near`]) it expires earlier, those first that were
//!    unused for longest, until there is some room again. Rooms used today stay in any case:
//!    whoever fills the disk today empties it of his own rooms only tomorrow, and of nobody's rooms
//!    in which people met.
//!
//! Whoever wants to keep a relay full sets passwords in rooms of their own, or meets themselves in
//! them. Their networks' limits of new rooms slow that down; `--room-creation` and `rooms prune` end it.
//!
//! What is lost with such a room is its owner: the link goes on to work, and whoever opens it first
//! makes the room anew.

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use snug_room_proto::{Day, RoomRecord};
use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};

use crate::hub::Hub;
use crate::store::{Entry, Failure, Store};

/// Time between two sweeps.
const EVERY: Duration = Duration::from_secs(3600);
/// Time from the start to the first, and the least between two that new rooms ask for.
const AT_LEAST: Duration = Duration::from_secs(60);
/// Records read at once, and a pause after each, so that others get to the disk.
const STEP: usize = 256;
const PAUSE: Duration = Duration::from_millis(20);
/// Most rooms that go early in one sweep.
const MOST_EARLY: usize = 10_000;

/// How many rooms there may be.
pub(crate) struct Capacity {
    /// Past that, no new ones are made.
    pub(crate) max: u64,
    near: Notify,
}

impl Capacity {
    pub(crate) fn new(max: u64) -> Self {
        Self { max, near: Notify::new() }
    }

    /// Whether nine tenths are taken: an operator should look.
    pub(crate) fn is_near(&self, rooms: u64) -> bool {
        rooms.saturating_mul(10) >= self.max.saturating_mul(9)
    }

    /// Asks for a sweep soon.
    pub(crate) fn nudge(&self) {
        self.near.notify_one();
    }

    /// The word that `/health` shows for `rooms` on disk.
    pub(crate) fn code(&self, rooms: u64) -> &'static str {
        match rooms {
            rooms if rooms >= self.max => "full",
            rooms if self.is_near(rooms) => "near_limit",
            _ => "ok",
        }
    }

    /// How many of `rooms` should go early: down to four fifths.
    fn surplus(&self, rooms: u64) -> usize {
        let wanted = if self.is_near(rooms) { rooms - self.max / 5 * 4 } else { 0 };
        usize::try_from(wanted).unwrap_or(MOST_EARLY).min(MOST_EARLY)
    }
}

/// Whether `record` is of a room that may expire at all.
pub(crate) fn may_expire(record: &RoomRecord) -> bool {
    !record.met && record.password.is_none()
}

/// Today (UTC).
pub(crate) fn today() -> Day {
    Day::of(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Sweeps for as long as the process lives. `days` 0: only near the limit.
pub(crate) async fn run(hub: Hub, store: Store, capacity: Arc<Capacity>, days: u32) {
    loop {
        tokio::time::sleep(AT_LEAST).await;
        match sweep(&hub, &store, &capacity, days).await {
            Ok(0) => {}
            Ok(removed) => info!(removed, "rooms in which nobody met expired"),
            Err(failure) => warn!(%failure, "expired rooms stay for the time being"),
        }
        // Either way there are some seconds between two sweeps.
        let _ = tokio::time::timeout(EVERY, capacity.near.notified()).await;
    }
}

async fn sweep(hub: &Hub, store: &Store, capacity: &Capacity, days: u32) -> Result<usize, Failure> {
    let today = today();
    let surplus = capacity.surplus(store.status().rooms);
    // Those that go early: the latest used is on top, to be pushed out.
    let mut early: BinaryHeap<(Day, String, Vec<u8>)> = BinaryHeap::new();
    let mut removed = 0;
    let mut after = String::new();
    loop {
        let step = scan(store, &after, STEP).await?;
        let Some(last) = step.last() else { break };
        after.clone_from(&last.key);
        let mut expired = Vec::new();
        for Entry { key, bytes } in step {
            // What cannot be read is not for this one to decide on.
            let Ok(record) = RoomRecord::decode(&bytes) else { continue };
            let age = today.days_since(record.last_used);
            if !may_expire(&record) || age == 0 {
                continue;
            }
            if days > 0 && age >= days {
                expired.push(Entry { key, bytes });
            } else if surplus > 0 {
                early.push((record.last_used, key, bytes));
                if early.len() > surplus {
                    early.pop();
                }
            }
        }
        if !expired.is_empty() {
            removed += hub.remove(expired).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    let mut early = early.into_sorted_vec();
    // What expired meanwhile counts.
    early.truncate(surplus.saturating_sub(removed));
    let early: Vec<Entry> = early.into_iter().map(|(_, key, bytes)| Entry { key, bytes }).collect();
    for step in early.chunks(STEP) {
        removed += hub.remove(step.to_vec()).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(removed)
}

/// Records after the key `after`, in the order of their keys.
///
/// # Errors
/// When the store cannot be read.
pub(crate) async fn scan(store: &Store, after: &str, limit: usize) -> Result<Vec<Entry>, Failure> {
    let (reply, answer) = oneshot::channel();
    store.scan(after, limit, move |result| {
        let _ = reply.send(result);
    });
    answer.await.unwrap_or(Err(Failure::Unavailable))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use snug_room_proto::{NoIceServers, RoomServer, RoomServerConfig, TicketKey};

    use super::*;
    use crate::metrics::Metrics;
    use crate::password::PasswordPool;

    async fn save(store: &Store, key: &str, last_used: u64, met: bool, password: bool) {
        let mut record = json!({
            "createdAt": 0, "lastUsed": last_used, "maxParticipants": 10, "allowScreenShare": true, "met": met,
            "ownerToken": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "totalSessions": 1, "totalDurationSeconds": 0,
        });
        if password {
            record["password"] = json!({"hash": "x"});
        }
        let (reply, answer) = oneshot::channel();
        store.save(key, record.to_string().into_bytes(), move |result| {
            let _ = reply.send(result);
        });
        answer.await.expect("an answer").expect("saved");
    }

    async fn left(store: &Store) -> Vec<String> {
        scan(store, "", 1000).await.expect("read").into_iter().map(|entry| entry.key).collect()
    }

    fn relay(dir: &std::path::Path, max: u64) -> (Hub, Store, Arc<Capacity>) {
        let store = Store::open(dir).expect("nobody else has the directory");
        let rooms = RoomServer::new(
            RoomServerConfig::new(TicketKey::from_bytes([1; 32])),
            [7; 32],
            Box::new(NoIceServers),
        );
        let passwords = PasswordPool::start().expect("threads");
        let capacity = Arc::new(Capacity::new(max));
        let (hub, _) =
            Hub::spawn(rooms, store.clone(), passwords, capacity.clone(), Arc::new(Metrics::default()));
        (hub, store, capacity)
    }

    fn days_ago(days: u64) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() - days * 86_400
    }

    #[tokio::test]
    async fn rooms_in_which_nobody_met_expire_and_others_do_not() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (hub, store, capacity) = relay(dir.path(), 100_000);
        save(&store, "old-and-empty", days_ago(91), false, false).await;
        save(&store, "old-and-met", days_ago(900), true, false).await;
        save(&store, "old-and-guarded", days_ago(900), false, true).await;
        save(&store, "young-and-empty", days_ago(88), false, false).await;
        assert_eq!(sweep(&hub, &store, &capacity, 0).await, Ok(0), "0 days: never");
        assert_eq!(sweep(&hub, &store, &capacity, 90).await, Ok(1));
        assert_eq!(left(&store).await, ["old-and-guarded", "old-and-met", "young-and-empty"]);
    }

    #[tokio::test]
    async fn near_the_limit_those_go_first_that_were_unused_for_longest() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (hub, store, capacity) = relay(dir.path(), 20);
        for number in 0..8 {
            save(&store, &format!("met-{number:02}"), days_ago(50), true, false).await;
        }
        for number in 0..9 {
            save(&store, &format!("unmet-{number:02}"), days_ago(number), false, false).await;
        }
        assert_eq!(sweep(&hub, &store, &capacity, 90).await, Ok(0), "17 of 20 are not near");
        save(&store, "unmet-today", days_ago(0), false, false).await;
        assert_eq!(sweep(&hub, &store, &capacity, 90).await, Ok(2), "down to four fifths");
        let left = left(&store).await;
        assert!(!left.contains(&"unmet-08".into()) && !left.contains(&"unmet-07".into()), "{left:?}");
        assert_eq!(left.len(), 16);
    }

    #[test]
    fn the_limit_is_told_of_before_it_is_reached() {
        let capacity = Capacity::new(1000);
        assert_eq!(
            [0, 899, 900, 999, 1000].map(|rooms| capacity.code(rooms)),
            ["ok", "ok", "near_limit", "near_limit", "full"]
        );
    }
}
