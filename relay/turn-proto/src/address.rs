//! Addresses and what they are called in RFC 8656.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How a client reaches the server (RFC 8656 §3.1). Peers are always reached over UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream (RFC 8656 §3.1, framing in §12.5).
    Tcp,
    /// A stream inside TLS.
    Tls,
}

impl Transport {
    /// All of them, in the order of [`crate::TurnStats::allocations_by`].
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    /// Whether messages have to be told apart by their length, and ChannelData is padded.
    #[must_use]
    pub fn is_stream(self) -> bool {
        self != Self::Udp
    }
}

/// Which client an allocation belongs to (RFC 8656 §2.2). The server's address is the one that the client reached, never a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    /// The protocol between them.
    pub transport: Transport,
    /// The client's address as the server sees it.
    pub client: SocketAddr,
    /// The server's address as the client used it.
    pub server: SocketAddr,
}

/// Names a socket that the shell keeps for a relayed transport address. Small and dense, so it can index a table; it is used again only after
/// [`crate::Output::CloseRelaySocket`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelaySocketId(pub u32);

impl RelaySocketId {
    pub(crate) fn of(slot: u32, family: Family) -> Self {
        Self(slot * 2 + family as u32)
    }

    pub(crate) fn slot(self) -> u32 {
        self.0 / 2
    }

    pub(crate) fn family(self) -> Family {
        if self.0.is_multiple_of(2) { Family::V4 } else { Family::V6 }
    }
}

/// The family of an address, as an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4 = 0,
    V6 = 1,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// An address without its second spelling: IPv4 inside IPv6 as mapped (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2) or compatible (`::a.b.c.d`,
/// §2.5.5.1) is IPv4. `::` and `::1` are not compatible addresses but what they say.
pub(crate) fn canonical(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let Some(v4) = v6.to_ipv4_mapped() {
        return v4.into();
    }
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => {
            Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)).into()
        }
        _ => ip,
    }
}

/// The same for an address with a port; flow label and scope do not count.
pub(crate) fn canonical_socket(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(canonical(address.ip()), address.port())
}
