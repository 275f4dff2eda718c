//! What an operator may set, with the defaults of PROTOCOL.md §5.

use std::time::Duration;

use snug_wire::identity::Signature;
use snug_wire::{CreationKey, IceServer, PublicKey, RoomId, UserId};

use crate::ticket::TicketKey;

/// A token bucket: `burst` at once, then `per_second`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Most at once.
    pub burst: f64,
    /// How many are allowed again each second.
    pub per_second: f64,
}

/// Who may make rooms.
#[derive(Debug, Clone, Default)]
pub enum RoomCreation {
    /// Everybody.
    #[default]
    Open,
    /// Who has the operator's key.
    Key(CreationKey),
    /// Nobody: only rooms that there are can be joined.
    Closed,
}

/// Whether a signature of a text is this key's (ECDSA on P-256 with SHA-256).
pub type VerifySignature = fn(&PublicKey, &[u8], &Signature) -> bool;

/// Limits and names of a [`crate::RoomServer`].
#[derive(Clone)]
pub struct RoomServerConfig {
    /// What `welcome` says of the relay: name/version.
    pub relay: String,
    /// What tickets are made with; the same after a restart.
    pub ticket_key: TicketKey,
    /// How the signature of a join is checked. Default: `snug-wire`'s own check; a shell may have a faster one.
    pub verify: VerifySignature,
    /// Messages of one connection. Default: 240, then 60 a second.
    pub messages: RateLimit,
    /// `join_room` and `resume` of one address block. Default: 30, then one every 2 s.
    pub joins: RateLimit,
    /// Rooms made from one address block; from one IPv6 /48 twice as many. Default: 20, then one a minute.
    pub creations: RateLimit,
    /// Who may make rooms. Default: everybody.
    pub creation: RoomCreation,
}

impl RoomServerConfig {
    /// What one participant may say to all others at once: of its messages an eighth in a burst, a twelfth in the long run. Nine times
    /// that fits a queue.
    pub(crate) fn announcements(&self) -> RateLimit {
        RateLimit { burst: self.messages.burst / 8.0, per_second: self.messages.per_second / 12.0 }
    }

    /// The defaults of PROTOCOL.md §5.
    pub fn new(ticket_key: TicketKey) -> Self {
        Self {
            ticket_key,
            verify: PublicKey::verifies,
            relay: concat!("snug-relay/", env!("CARGO_PKG_VERSION")).to_owned(),
            messages: RateLimit { burst: 240.0, per_second: 60.0 },
            joins: RateLimit { burst: 30.0, per_second: 0.5 },
            creations: RateLimit { burst: 20.0, per_second: 1.0 / 60.0 },
            creation: RoomCreation::Open,
        }
    }
}

/// Where `iceServers` come from. Credentials are a function of room, participant and time.
pub trait IceServerSource: Send {
    /// The servers for one participant. `host` is what [`crate::Input::Connected`] said of its connection; `unix` is the
    /// time in seconds since 1970.
    fn ice_servers(&self, room: &RoomId, user: UserId, host: Option<&str>, unix: u64) -> Vec<IceServer>;

    /// How long their credentials hold.
    fn ttl(&self) -> Duration;
}

/// No servers: participants connect by their own addresses only.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoIceServers;

impl IceServerSource for NoIceServers {
    fn ice_servers(&self, _: &RoomId, _: UserId, _: Option<&str>, _: u64) -> Vec<IceServer> {
        Vec::new()
    }

    fn ttl(&self) -> Duration {
        Duration::from_secs(3600)
    }
}
