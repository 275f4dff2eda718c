//! What goes into the state machine and what comes out.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, Range};
use std::time::Instant;

use crate::address::{FiveTuple, RelaySocketId};
use crate::credential::{Account, Secret};
use crate::network::Network;

/// The time, as the shell read it: lifetimes come from `at`, the expiry of credentials from `unix`.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic.
    pub at: Instant,
    /// Seconds since 1970.
    pub unix: u64,
}

/// What happened outside, packets aside.
pub enum Input {
    /// The account may use the server.
    Admit(Account),
    /// The account must stop at once: its allocations close and its credentials are worth nothing.
    Revoke(Account),
    /// A stream ended.
    ClientGone(FiveTuple),
    /// Answers [`Output::OpenRelaySocket`]: the address is bound. The answer comes before anything else is handled.
    RelaySocketOpened(RelaySocketId),
    /// Answers [`Output::OpenRelaySocket`]: it cannot be bound, for example because another program has the port.
    RelaySocketFailed(RelaySocketId),
    /// The first is what credentials are made with, all are accepted.
    ReplaceSecrets(Vec<Secret>),
    /// What this machine has in place of what [`crate::PeerPolicy`] says: interfaces come and go.
    OwnAddresses {
        /// [`crate::PeerPolicy::own`].
        own: Vec<IpAddr>,
        /// [`crate::PeerPolicy::on_link`].
        on_link: Vec<Network>,
    },
    /// Takes no new allocation; those that are there go on.
    Drain,
}

/// What the shell is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message to a client.
    Reply {
        /// To whom.
        to: FiveTuple,
        /// What.
        message: Vec<u8>,
    },
    /// Bind this very address for a relayed transport address.
    OpenRelaySocket {
        /// Its name from here on.
        relay: RelaySocketId,
        /// Address and port.
        bind: SocketAddr,
    },
    /// The relayed transport address is no more.
    CloseRelaySocket {
        /// Which.
        relay: RelaySocketId,
    },
    /// End this client's stream; there is nothing to do for datagrams.
    CloseClient {
        /// Which.
        to: FiveTuple,
    },
}

/// What a packet came to.
#[derive(Debug)]
pub enum Verdict {
    /// There may be outputs to drain.
    Handled,
    /// Send it on; there are no outputs.
    Forward(Forward),
    /// Nothing is to be done; unless it only keeps a NAT open, it is counted. There are no outputs.
    Dropped,
}

/// A packet on its way: `head`, then the part `body` of the packet that came in, then `pad` zero bytes.
#[derive(Debug)]
pub struct Forward {
    /// Names the client or relay socket it goes out by, small and dense. Packets of one flow keep their order.
    pub flow: u32,
    /// What goes in front.
    pub head: Head,
    /// Which part of the packet.
    pub body: Range<usize>,
    /// Zero to three.
    pub pad: u8,
    /// Where it goes.
    pub target: Target,
}

/// Where a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To a client.
    Client(FiveTuple),
    /// To a peer, from a relay socket.
    Peer {
        /// By which socket.
        relay: RelaySocketId,
        /// To whom.
        peer: SocketAddr,
    },
}

/// At most 48 bytes in front of a packet: a ChannelData header or what a Data indication has before its payload.
#[derive(Clone, Copy)]
pub struct Head {
    bytes: [u8; Self::CAPACITY],
    length: u8,
}

impl Head {
    /// A STUN header (20), XOR-PEER-ADDRESS with an IPv6 address (24) and the header of DATA (4).
    pub const CAPACITY: usize = 48;

    pub(crate) const EMPTY: Self = Self { bytes: [0; Self::CAPACITY], length: 0 };

    /// RFC 8656 §12.4.
    pub(crate) fn channel_data(number: u16, length: u16) -> Self {
        let mut head = Self::EMPTY;
        head.push(&number.to_be_bytes());
        head.push(&length.to_be_bytes());
        head
    }

    /// Appends; what does not fit is a mistake of this crate.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let from = usize::from(self.length);
        self.bytes[from..from + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u8;
    }
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl std::fmt::Debug for Head {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.deref().fmt(formatter)
    }
}
