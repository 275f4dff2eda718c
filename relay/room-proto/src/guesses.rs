//! Limits for wrong passwords: guessing is slow, and whoever has the right one gets in while others
//! guess.
//!
//! The scheme. Failures are counted in four places, each by the name of the room as it was asked
//! for, whether there is such a room or not. `source` is one IPv4 address or IPv6 /64, `block` one
//! IPv4 /24 or IPv6 /56.
//!
//! 1. source at a room: 3 are free, then 1 s doubling to 5 min. It ends one machine's guessing.
//! 2. block at a room: [`BLOCK_AT_ROOM`]. It ends the guessing of somebody who has a whole block.
//! 3. a room: [`ROOM`]. It ends the guessing from many networks.
//! 4. all rooms together: [`SOURCE`] and [`BLOCK`]. They end the trying of one password at many
//!    rooms.
//!
//! 2 and 3 keep half of their tokens for sources that have not failed at this room lately: a
//! guesser is stopped by the first half, and its neighbours' first tries go on. All four but the
//! first refill at a steady rate instead of doubling, so nobody is shut out for long after an
//! attack, and a source that got a room's password right ([`Guesses::succeeded`]) is held to the
//! first alone when it comes back to that room.
//!
//! Security considerations:
//! - No count and no answer depends on whether a room exists, so the limits are no oracle. Failures
//!   at rooms that do not exist count for the names that were tried, never for a room that does;
//!   only 4 is shared, and its first dozen is free.
//! - What a guesser gets in a day at one room: about 290 tries from one source, 2,900 from one
//!   block, 8,700 from any number of networks. A weak password does not survive months of that; the
//!   link's secret keeps such guessers off in sealed rooms.
//! - Two people behind one address cannot be told apart. A guesser behind somebody's own address
//!   can make them wait at that room, up to 5 min; at other rooms not.
//! - Failures are counted when they are known. `server.rs` bounds how many checks are under way
//!   meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use snug_wire::RoomId;

use crate::address::{AddressBlock, Source};
use crate::backoff::{Backoff, BackoffConfig};
use crate::config::RateLimit;
use crate::token_bucket::Buckets;

/// Failures of one source at one room.
const SOURCE_AT_ROOM: BackoffConfig = BackoffConfig { free: 3, cap: Duration::from_secs(300) };
/// Failures of one block at one room.
const BLOCK_AT_ROOM: RateLimit = RateLimit { burst: 12.0, per_second: 1.0 / 30.0 };
/// Failures at one room.
const ROOM: RateLimit = RateLimit { burst: 60.0, per_second: 0.1 };
/// Failures of one source at all rooms together.
const SOURCE: RateLimit = RateLimit { burst: 12.0, per_second: 0.05 };
/// Failures of one block at all rooms together.
const BLOCK: RateLimit = RateLimit { burst: 40.0, per_second: 0.2 };
/// Most keys of each count.
const KEYS: usize = 10_000;

pub(crate) struct Guesses {
    sources_at_rooms: Backoff<(RoomId, Source)>,
    blocks_at_rooms: Buckets<(RoomId, AddressBlock)>,
    rooms: Buckets<RoomId>,
    sources: Buckets<Source>,
    blocks: Buckets<AddressBlock>,
    /// Who got a room's password right, and when last; the oldest is forgotten first.
    welcome: BTreeMap<(RoomId, Source), Instant>,
}

impl Guesses {
    pub(crate) fn new() -> Self {
        Self {
            sources_at_rooms: Backoff::new(SOURCE_AT_ROOM),
            blocks_at_rooms: Buckets::new(BLOCK_AT_ROOM, KEYS),
            rooms: Buckets::new(ROOM, KEYS),
            sources: Buckets::new(SOURCE, KEYS),
            blocks: Buckets::new(BLOCK, KEYS),
            welcome: BTreeMap::new(),
        }
    }

    /// Whether `source` may try a password at `room`, else how long it must wait.
    pub(crate) fn check(&mut self, room: &RoomId, source: Source, now: Instant) -> Result<(), Duration> {
        let at_room = (room.clone(), source);
        self.sources_at_rooms.check(&at_room, now)?;
        if self.welcome.contains_key(&at_room) {
            return Ok(());
        }
        let has_failed = self.sources_at_rooms.has_failed(&at_room, now);
        let reserve = |limit: RateLimit| if has_failed { limit.burst / 2.0 } else { 0.0 };
        let block = source.block();
        let waits = [
            self.blocks_at_rooms.check(&(room.clone(), block), reserve(BLOCK_AT_ROOM), now),
            self.rooms.check(room, reserve(ROOM), now),
            self.sources.check(&source, 0.0, now),
            self.blocks.check(&block, 0.0, now),
        ];
        waits.into_iter().filter_map(Result::err).max().map_or(Ok(()), Err)
    }

    /// The password was wrong, or there is no such room.
    pub(crate) fn failed(&mut self, room: &RoomId, source: Source, now: Instant) {
        self.sources_at_rooms.failed((room.clone(), source), now);
        let block = source.block();
        // An empty bucket cannot become emptier: several checks may have been under way at once.
        let _ = self.blocks_at_rooms.take((room.clone(), block), now);
        let _ = self.rooms.take(room.clone(), now);
        let _ = self.sources.take(source, now);
        let _ = self.blocks.take(block, now);
    }

    /// The password was right.
    pub(crate) fn succeeded(&mut self, room: &RoomId, source: Source, now: Instant) {
        let at_room = (room.clone(), source);
        if self.welcome.len() >= KEYS && !self.welcome.contains_key(&at_room) {
            let oldest = self.welcome.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.welcome.remove(&oldest);
            }
        }
        self.sources_at_rooms.forgive(&at_room);
        self.welcome.insert(at_room, now);
    }
}
