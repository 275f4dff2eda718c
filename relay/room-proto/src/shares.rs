//! How much of a receiver's queue each sender may fill, so that no sender and no number of them can
//! overflow it.
//!
//! What a participant is sent waits in its queue (`limits::QUEUE_BYTES`) and is kept for a replay
//! (`limits::REPLAY_BYTES`) until it is confirmed. Whoever fills these makes the relay close the
//! receiver as a slow reader, or forget what it would have to replay. So every sender is charged
//! for what the receiver has not confirmed, and may be charged at most as much as is left free
//! after it: a dynamic threshold, as switches use for buffers that several ports share (Choudhury
//! and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998). One
//! sender alone gets half of [`BUDGET`]; of nine that send without end each gets a tenth, and a
//! tenth is still free.
//!
//! A charge ends when the receiver confirms: `ping` carries `lastSeq`, every 15 s. To a receiver
//! that does not confirm for longer than a seat that is away is held ([`GRACE`]), all charges
//! shrink by [`DECAY`], so that it can be reached all the same.

use std::time::{Duration, Instant};

use snug_wire::{UserId, limits};

/// What all senders together may have under way to one receiver, in bytes. The rest of a queue is
/// for what the relay says itself.
const BUDGET: f64 = 200.0 * 1024.0;
/// How long charges last without a confirmation: a connection that is silent is closed after the
/// first, its seat held for the second.
const GRACE: Duration = limits::IDLE_TIMEOUT.saturating_add(limits::SEAT_HOLD);
/// By how much the charge of each sender shrinks after that, in bytes a second.
const DECAY: f64 = 1024.0;
/// The least that a message counts, in bytes: a queue has a limit of messages, too.
const LEAST: usize = limits::QUEUE_BYTES / limits::QUEUE_MESSAGES;
/// Bounds of the time after which a sender should try again.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(30);

/// What the others have sent to one participant and it has not confirmed.
pub(crate) struct Shares {
    charges: Vec<Charge>,
    /// When the receiver last confirmed anything, or nothing was under way.
    confirmed_at: Instant,
    /// Up to when charges have shrunk.
    decayed_at: Instant,
}

struct Charge {
    sender: UserId,
    bytes: f64,
}

impl Shares {
    pub(crate) fn new(now: Instant) -> Self {
        Self { charges: Vec::new(), confirmed_at: now, decayed_at: now }
    }

    /// Charges `sender` for a message of `length` bytes, or says how long it has to wait.
    pub(crate) fn charge(&mut self, sender: UserId, length: usize, now: Instant) -> Result<(), Duration> {
        self.decay(now);
        if self.charges.is_empty() {
            self.confirmed_at = now;
        }
        let cost = length.max(LEAST) as f64;
        let total: f64 = self.charges.iter().map(|charge| charge.bytes).sum();
        let own = self.charges.iter().position(|charge| charge.sender == sender);
        let surplus = own.map_or(0.0, |own| self.charges[own].bytes) + cost - (BUDGET - total);
        if surplus > 0.0 {
            return Err(self.wait(surplus, now));
        }
        match own {
            Some(own) => self.charges[own].bytes += cost,
            None => self.charges.push(Charge { sender, bytes: cost }),
        }
        Ok(())
    }

    /// The receiver has a message of `length` bytes from `sender`.
    pub(crate) fn confirm(&mut self, sender: UserId, length: usize) {
        if let Some(own) = self.charges.iter_mut().find(|charge| charge.sender == sender) {
            own.bytes -= length.max(LEAST) as f64;
        }
        self.charges.retain(|charge| charge.bytes > 0.0);
    }

    /// The receiver confirms what it has.
    pub(crate) fn confirmed(&mut self, now: Instant) {
        self.decay(now);
        self.confirmed_at = now;
    }

    /// Nothing is under way any more.
    pub(crate) fn clear(&mut self) {
        self.charges.clear();
    }

    fn decay(&mut self, now: Instant) {
        let from = self.decayed_at.max(self.confirmed_at + GRACE);
        self.decayed_at = now;
        let bytes = now.saturating_duration_since(from).as_secs_f64() * DECAY;
        if bytes > 0.0 {
            self.charges.iter_mut().for_each(|charge| charge.bytes -= bytes);
            self.charges.retain(|charge| charge.bytes > 0.0);
        }
    }

    /// When it is worth to try again: after the next confirmation, or when charges have shrunk by
    /// `surplus`.
    fn wait(&self, surplus: f64, now: Instant) -> Duration {
        let next = self.confirmed_at + limits::HEARTBEAT;
        let wait = if now < self.confirmed_at + GRACE {
            next.saturating_duration_since(now)
        } else {
            // All charges shrink, and the own one counts twice.
            Duration::from_secs_f64(surplus / (DECAY * (self.charges.len() + 1) as f64))
        };
        wait.clamp(SOONEST, LATEST)
    }
}
