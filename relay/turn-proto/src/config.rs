//! What the server is told at its start.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::credential::Secret;
use crate::policy::PeerPolicy;

/// What a server needs to know.
pub struct TurnConfig {
    /// RFC 8489 §14.9. Four bytes keep the answers to strangers short.
    pub realm: String,
    /// Any of them may have made a credential, so that they can be changed without a break.
    pub secrets: Vec<Secret>,
    /// Ports of relayed transport addresses.
    pub relay_ports: RangeInclusive<u16>,
    /// Addresses of relayed transport addresses.
    pub addresses: RelayAddresses,
    /// Relay sockets that may be open at once; nobody gets more than a quarter of those that are left, nor does an address block when there are
    /// enough of them.
    pub relay_sockets: u32,
    /// Which peers may be reached.
    pub policy: PeerPolicy,
    /// How much each may use.
    pub quotas: Quotas,
}

impl Default for TurnConfig {
    fn default() -> Self {
        Self {
            realm: "snug".into(),
            secrets: Vec::new(),
            relay_ports: 10_000..=20_000,
            addresses: RelayAddresses::default(),
            relay_sockets: 10_001,
            policy: PeerPolicy::default(),
            quotas: Quotas::default(),
        }
    }
}

/// The addresses that relayed transport addresses can have. For each family the first that is there counts: the configured one, the one by
/// which the client came, the detected one.
#[derive(Debug, Clone, Default)]
pub struct RelayAddresses {
    /// What the operator says peers can reach, at most one a family; behind a NAT it is none of the machine's own.
    pub external: Vec<IpAddr>,
    /// What this machine uses to reach the Internet, at most one a family; for clients that ask for a family they did not come by.
    pub detected: Vec<IpAddr>,
    /// The addresses of this machine's interfaces: an external address that is one of them can be bound.
    pub local: Vec<IpAddr>,
}

/// How much one of them may use at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Allocations.
    pub allocations: u32,
    /// Megabits a second in each direction, 0 for no limit. A packet counts at least 500 bytes, so this limits packets too:
    /// 250 a second for each megabit.
    pub megabits: u32,
}

/// The limits. When ports run short they are lower, so that a few cannot take them from everybody: one participant gets no more than a sixteenth
/// of the free ones (32 in any case), a room no more than a quarter (128 in any case), an address block no more than a quarter or half of the last
/// 256.
///
/// The defaults are sized for ten people who all need the relay: nine links each, with a browser that asks for one allocation
/// per link, transport, interface and family, and again at an ICE restart; at 720p such a participant moves about 15 Mbit/s each way.
#[derive(Debug, Clone, Copy)]
pub struct Quotas {
    /// One participant.
    pub per_owner: Quota,
    /// One room.
    pub per_group: Quota,
    /// One address block: an IPv4 /24 or IPv6 /56.
    pub per_source: Quota,
    /// All together. Its allocations are bounded by the ports as well.
    pub server: Quota,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            per_owner: Quota { allocations: 256, megabits: 100 },
            per_group: Quota { allocations: 2000, megabits: 500 },
            per_source: Quota { allocations: 2000, megabits: 500 },
            server: Quota { allocations: u32::MAX, megabits: 0 },
        }
    }
}
