//! How often what costs the relay something may be asked for, by room and by address block (PROTOCOL.md §5).
//! A room is always asked before its block: what one owner's flood is refused must not use up its neighbours' share.

use std::time::{Duration, Instant};

use snug_wire::RoomId;

use crate::address::AddressBlock;
use crate::config::RateLimit;
use crate::token_bucket::Buckets;

/// Changes of one room that are written to disk: passwords, settings, owner's tokens.
const ROOM_CHANGES: RateLimit = RateLimit { burst: 20.0, per_second: 0.5 };
/// The same from one address block.
const BLOCK_CHANGES: RateLimit = RateLimit { burst: 60.0, per_second: 2.0 };
/// Most rooms and blocks of each count.
const KEYS: usize = 10_000;

pub(crate) struct Quotas {
    room_changes: Buckets<RoomId>,
    block_changes: Buckets<AddressBlock>,
}

impl Quotas {
    pub(crate) fn new() -> Self {
        Self {
            room_changes: Buckets::new(ROOM_CHANGES, KEYS),
            block_changes: Buckets::new(BLOCK_CHANGES, KEYS),
        }
    }

    /// Counts a change of `room` by somebody in `block` that is written to disk, or says how long it has to wait.
    pub(crate) fn change(
        &mut self,
        room: &RoomId,
        block: AddressBlock,
        now: Instant,
    ) -> Result<(), Duration> {
        self.room_changes.take(room.clone(), now)?;
        self.block_changes.take(block, now)
    }
}
