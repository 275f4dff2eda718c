//! What stands between a participant and the Internet: a mapping of addresses and a filter (RFC 4787).
//! It never delays or loses anything; the network does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// How a NAT maps and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    Restricted,
    /// Endpoint-independent mapping, address-and-port-dependent filtering.
    PortRestricted,
    /// Address-and-port-dependent mapping and filtering.
    Symmetric,
    /// No UDP at all; streams pass.
    UdpBlocked,
}

impl NatKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::FullCone, Self::Restricted, Self::PortRestricted, Self::Symmetric, Self::UdpBlocked];

    /// Whether two participants behind different NATs can reach each other without a relay.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        use NatKind::{PortRestricted, Symmetric, UdpBlocked};
        !matches!(
            (self, other),
            (UdpBlocked, _)
                | (_, UdpBlocked)
                | (Symmetric, Symmetric | PortRestricted)
                | (PortRestricted, Symmetric)
        )
    }
}

/// A mapping that carried nothing for so long is gone.
const IDLE: Duration = Duration::from_secs(30);
const FIRST_PORT: u16 = 20_000;

struct Mapping {
    inside: SocketAddrV4,
    peers: BTreeSet<SocketAddrV4>,
    used: Duration,
}

/// One NAT with one public address.
pub(crate) struct Nat {
    pub(crate) kind: NatKind,
    pub(crate) public: Ipv4Addr,
    /// By public port.
    mappings: BTreeMap<u16, Mapping>,
    /// Public port by inside address, and by the peer where the mapping depends on it.
    ports: BTreeMap<(SocketAddrV4, Option<SocketAddrV4>), u16>,
    next_port: u16,
}

impl Nat {
    pub(crate) fn new(kind: NatKind, public: Ipv4Addr) -> Self {
        Self { kind, public, mappings: BTreeMap::new(), ports: BTreeMap::new(), next_port: FIRST_PORT }
    }

    /// The address that a datagram from `inside` to `peer` comes from; `None` when it does not pass.
    pub(crate) fn outbound(
        &mut self,
        inside: SocketAddrV4,
        peer: SocketAddrV4,
        now: Duration,
    ) -> Option<SocketAddrV4> {
        if self.kind == NatKind::UdpBlocked {
            return None;
        }
        let key = (inside, (self.kind == NatKind::Symmetric).then_some(peer));
        let known = self.ports.get(&key).copied();
        let live = known.filter(|port| self.mappings.get(port).is_some_and(|one| now < one.used + IDLE));
        let port = live.unwrap_or_else(|| {
            if let Some(old) = known {
                self.mappings.remove(&old);
            }
            // Any port but one that is taken: a wrap comes after tens of thousands of mappings.
            self.next_port = self.next_port.checked_add(7).unwrap_or(FIRST_PORT);
            self.ports.insert(key, self.next_port);
            self.mappings.insert(self.next_port, Mapping { inside, peers: BTreeSet::new(), used: now });
            self.next_port
        });
        let mapping = self.mappings.get_mut(&port)?;
        mapping.used = now;
        mapping.peers.insert(peer);
        Some(SocketAddrV4::new(self.public, port))
    }

    /// Where a datagram from `peer` to the public `port` goes; `None` when it does not pass.
    pub(crate) fn inbound(&mut self, port: u16, peer: SocketAddrV4, now: Duration) -> Option<SocketAddrV4> {
        let mapping = self.mappings.get_mut(&port).filter(|mapping| now < mapping.used + IDLE)?;
        let passes = match self.kind {
            NatKind::FullCone => true,
            NatKind::Restricted => mapping.peers.iter().any(|known| known.ip() == peer.ip()),
            NatKind::PortRestricted | NatKind::Symmetric => mapping.peers.contains(&peer),
            NatKind::UdpBlocked => false,
        };
        passes.then(|| {
            mapping.used = now;
            mapping.inside
        })
    }

    /// As after a restart of the router.
    pub(crate) fn forget(&mut self) {
        self.mappings.clear();
        self.ports.clear();
    }
}
