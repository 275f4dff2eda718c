//! How often what costs the relay something may be asked for, by room and by address block
//! (PROTOCOL.md §5). A room is always asked before its block: what one owner's flood is refused
//! must not use up its neighbours' share.

use std::time::{Duration, Instant};

use snug_wire::{CreationKey, ErrorCode, RoomId};

use crate::address::AddressBlock;
use crate::config::{RateLimit, RoomCreation};
use crate::server::Refusal;
use crate::token_bucket::Buckets;

/// Changes of one room that are written to disk: passwords, settings, owner's tokens.
const ROOM_CHANGES: RateLimit = RateLimit { burst: 20.0, per_second: 0.5 };
/// The same from one address block.
const BLOCK_CHANGES: RateLimit = RateLimit { burst: 60.0, per_second: 2.0 };
/// Passwords of one room that are hashed for its owner.
const ROOM_HASHES: RateLimit = RateLimit { burst: 5.0, per_second: 0.1 };
/// The same from one address block.
const BLOCK_HASHES: RateLimit = RateLimit { burst: 15.0, per_second: 0.25 };
/// Seats that are resumed from one address block: an office comes back at once after an outage.
const BLOCK_RESUMES: RateLimit = RateLimit { burst: 600.0, per_second: 20.0 };
/// Tries of one address block to resume what is no seat, or with a wrong token. They have a count
/// of their own: whoever makes them does not slow down a neighbour who has a token.
const BLOCK_FAILED_RESUMES: RateLimit = RateLimit { burst: 300.0, per_second: 5.0 };
/// Wrong creation keys of one address block.
const BLOCK_WRONG_KEYS: RateLimit = RateLimit { burst: 10.0, per_second: 0.1 };
/// How many blocks' worth of new rooms one IPv6 /48 may make: it has 256 of them.
const BLOCKS_OF_A_SITE: f64 = 2.0;
/// Most rooms and blocks of each count.
const KEYS: usize = 10_000;

pub(crate) struct Quotas {
    room_changes: Buckets<RoomId>,
    block_changes: Buckets<AddressBlock>,
    room_hashes: Buckets<RoomId>,
    block_hashes: Buckets<AddressBlock>,
    block_resumes: Buckets<AddressBlock>,
    block_failed_resumes: Buckets<AddressBlock>,
    block_wrong_keys: Buckets<AddressBlock>,
    block_creations: Buckets<AddressBlock>,
    site_creations: Buckets<[u8; 6]>,
}

impl Quotas {
    /// `creations` are the new rooms of one block.
    pub(crate) fn new(creations: RateLimit) -> Self {
        let of_a_site = RateLimit {
            burst: creations.burst * BLOCKS_OF_A_SITE,
            per_second: creations.per_second * BLOCKS_OF_A_SITE,
        };
        Self {
            room_changes: Buckets::new(ROOM_CHANGES, KEYS),
            block_changes: Buckets::new(BLOCK_CHANGES, KEYS),
            room_hashes: Buckets::new(ROOM_HASHES, KEYS),
            block_hashes: Buckets::new(BLOCK_HASHES, KEYS),
            block_resumes: Buckets::new(BLOCK_RESUMES, KEYS),
            block_failed_resumes: Buckets::new(BLOCK_FAILED_RESUMES, KEYS),
            block_wrong_keys: Buckets::new(BLOCK_WRONG_KEYS, KEYS),
            block_creations: Buckets::new(creations, KEYS),
            site_creations: Buckets::new(of_a_site, KEYS),
        }
    }

    /// Counts a change of `room` by somebody in `block` that is written to disk, or says how long
    /// it has to wait.
    pub(crate) fn change(
        &mut self,
        room: &RoomId,
        block: AddressBlock,
        now: Instant,
    ) -> Result<(), Duration> {
        self.room_changes.take(room.clone(), now)?;
        self.block_changes.take(block, now)
    }

    /// Counts a password that an owner has hashed; as [`Quotas::change`], which counts it as well.
    pub(crate) fn hash(&mut self, room: &RoomId, block: AddressBlock, now: Instant) -> Result<(), Duration> {
        self.room_hashes.take(room.clone(), now)?;
        self.block_hashes.take(block, now)
    }

    /// Counts a resume with the seat's token, or says how long it has to wait.
    pub(crate) fn resume(&mut self, block: AddressBlock, now: Instant) -> Result<(), Duration> {
        self.block_resumes.take(block, now)
    }

    /// Counts a resume that cannot be, or says how long the next one has to wait.
    pub(crate) fn failed_resume(&mut self, block: AddressBlock, now: Instant) -> Result<(), Duration> {
        self.block_failed_resumes.take(block, now)
    }

    /// Whether somebody in `block` who shows `key` may make a room now.
    pub(crate) fn create(
        &mut self,
        creation: &RoomCreation,
        key: Option<&CreationKey>,
        block: AddressBlock,
        now: Instant,
    ) -> Result<(), Refusal> {
        let limited = |wait| (ErrorCode::RateLimited, Some(wait));
        match (creation, key) {
            (RoomCreation::Open, _) => {}
            (RoomCreation::Closed, _) => return Err((ErrorCode::CreationClosed, None)),
            (RoomCreation::Key(_), None) => return Err((ErrorCode::CreationKeyRequired, None)),
            (RoomCreation::Key(right), Some(key)) => {
                self.block_wrong_keys.check(&block, 0.0, now).map_err(limited)?;
                if !key.matches(right) {
                    // There was one a moment ago.
                    let _ = self.block_wrong_keys.take(block, now);
                    return Err((ErrorCode::CreationKeyRequired, None));
                }
            }
        }
        self.block_creations.take(block, now).map_err(limited)?;
        block.site().map_or(Ok(()), |site| self.site_creations.take(site, now)).map_err(limited)
    }
}
