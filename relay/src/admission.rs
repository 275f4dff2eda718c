//! Who may take a connection: caps, address blocks and the list of half-open ones.
//! Never touches a socket or a clock; the accept loop hands in addresses and does what it is told.
//!
//! 1. The accept loop asks [`Admission::connected`] with the peer's address. Over a cap, the connection is dropped unread.
//! 2. An admitted one is half open until its TLS handshake and the head of its first request are done. Of more than
//!    [`MAX_HALF_OPEN`] of those one is to be aborted: the oldest of the network that has most. Somebody who opens
//!    connections and stays silent pushes out their own, however fast, and a person on a slow path gets through.
//! 3. [`Admission::spoke`] takes it off that list. When it becomes a WebSocket, [`Admission::attribute`] counts it
//!    for the participant's block, should a proxy stand between.
//! 4. [`Admission::closed`] gives its place back.
//!
//! An address counts as its block: /24 in IPv4, /56 in IPv6, since one subscriber commonly has a whole one. Loopback and
//! the trusted proxies stand for everybody, so they have no cap of their own. For step 2 IPv6 counts as /48, which sites
//! and tunnels get: taking half-open connections from a whole one costs its people a second try at worst.

mod half_open;
mod proxy;

use std::collections::HashMap;
use std::net::IpAddr;

use snug_room_proto::AddressBlock;

use self::half_open::HalfOpen;

pub(crate) use proxy::{CidrError, TrustedProxies};

/// Connections that may be between accept and the head of their first request.
pub(crate) const MAX_HALF_OPEN: usize = 1024;

/// One connection, numbered in the order of their arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(u64);

/// What the caps are.
#[derive(Clone, Debug)]
pub(crate) struct AdmissionConfig {
    /// Open connections in all.
    pub(crate) max_connections: usize,
    /// Open connections of one block.
    pub(crate) per_block: usize,
    /// Peers without a cap of their own, beside loopback.
    pub(crate) trusted_proxies: TrustedProxies,
    /// [`MAX_HALF_OPEN`], or fewer in tests.
    pub(crate) max_half_open: usize,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The relay is at its cap.
    #[error("the relay has as many connections as it may")]
    RelayFull,
    /// The block is at its cap.
    #[error("the address block has as many connections as it may")]
    BlockFull,
}

impl Refusal {
    /// The word that the metrics count it under.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::RelayFull => "relay_full",
            Self::BlockFull => "block_full",
        }
    }
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admit {
    /// It is taken.
    Yes {
        /// Its name from here on.
        id: ConnectionId,
        /// A half-open connection to abort in its stead. It is already counted as closed.
        evicted: Option<ConnectionId>,
    },
    /// It is not.
    No(Refusal),
}

/// The book of open connections.
pub(crate) struct Admission {
    config: AdmissionConfig,
    next: u64,
    open: HashMap<ConnectionId, Option<AddressBlock>>,
    per_block: HashMap<AddressBlock, usize>,
    half_open: HalfOpen,
}

impl Admission {
    /// An empty book.
    pub(crate) fn new(config: AdmissionConfig) -> Self {
        Self {
            config,
            next: 0,
            open: HashMap::new(),
            per_block: HashMap::new(),
            half_open: HalfOpen::default(),
        }
    }

    /// A connection from `peer`, as the socket names it. It is refused when a cap is reached and no half-open connection
    /// can make room.
    pub(crate) fn connected(&mut self, peer: IpAddr) -> Admit {
        let block = self.block_of(peer);
        let evicted = if block.is_some_and(|block| self.is_at_cap(block)) {
            // Silent neighbours must not keep a person of the same block out.
            let of_block = |id: &ConnectionId| self.open.get(id).is_some_and(|of| *of == block);
            match self.half_open.in_order().find(of_block) {
                Some(oldest) => Some(oldest),
                None => return Admit::No(Refusal::BlockFull),
            }
        } else if self.open.len() >= self.config.max_connections {
            match self.half_open.of_the_largest_network() {
                Some(oldest) => Some(oldest),
                None => return Admit::No(Refusal::RelayFull),
            }
        } else if self.half_open.len() >= self.config.max_half_open {
            self.half_open.of_the_largest_network()
        } else {
            None
        };
        if let Some(oldest) = evicted {
            self.closed(oldest);
        }
        let id = ConnectionId(self.next);
        self.next += 1;
        self.open.insert(id, block);
        self.half_open.insert(id, block.map(|_| peer));
        self.count(block);
        Admit::Yes { id, evicted }
    }

    /// TLS and the head of the first request are done.
    pub(crate) fn spoke(&mut self, id: ConnectionId) {
        self.half_open.remove(id);
    }

    /// From here on the connection counts for the block of `client`, the participant behind a proxy. Not for plain
    /// requests: a proxy sends those of many clients through one connection.
    ///
    /// # Errors
    /// When that block is at its cap; the connection stays counted where it was.
    pub(crate) fn attribute(&mut self, id: ConnectionId, client: IpAddr) -> Result<(), Refusal> {
        let block = self.block_of(client);
        let Some(current) = self.open.get(&id).copied() else { return Ok(()) };
        if block == current {
            return Ok(());
        }
        if block.is_some_and(|block| self.is_at_cap(block)) {
            return Err(Refusal::BlockFull);
        }
        self.open.insert(id, block);
        self.discount(current);
        self.count(block);
        Ok(())
    }

    /// The connection is over. Saying so again, or of an evicted one, does nothing.
    pub(crate) fn closed(&mut self, id: ConnectionId) {
        self.half_open.remove(id);
        if let Some(block) = self.open.remove(&id) {
            self.discount(block);
        }
    }

    /// `None` for peers that stand for everybody.
    fn block_of(&self, address: IpAddr) -> Option<AddressBlock> {
        let everybody = address.to_canonical().is_loopback() || self.config.trusted_proxies.contain(address);
        (!everybody).then(|| AddressBlock::from(address))
    }

    fn is_at_cap(&self, block: AddressBlock) -> bool {
        self.per_block.get(&block).is_some_and(|count| *count >= self.config.per_block)
    }

    fn count(&mut self, block: Option<AddressBlock>) {
        if let Some(block) = block {
            *self.per_block.entry(block).or_default() += 1;
        }
    }

    fn discount(&mut self, block: Option<AddressBlock>) {
        let Some(block) = block else { return };
        if let Some(count) = self.per_block.get_mut(&block) {
            *count -= 1;
            if *count == 0 {
                self.per_block.remove(&block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{Admission, AdmissionConfig, Admit, ConnectionId, Refusal, TrustedProxies};

    fn book(max_connections: usize, per_block: usize, max_half_open: usize) -> Admission {
        let trusted_proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().expect("a range")]);
        Admission::new(AdmissionConfig { max_connections, per_block, trusted_proxies, max_half_open })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// An address in the nth block.
    fn from_block(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0B00_0007 + (n << 8)))
    }

    /// A connection that is taken, and whom it pushes out.
    fn taken(book: &mut Admission, peer: IpAddr) -> (ConnectionId, Option<ConnectionId>) {
        match book.connected(peer) {
            Admit::Yes { id, evicted } => (id, evicted),
            Admit::No(refusal) => panic!("{peer}: {refusal}"),
        }
    }

    /// A connection that has said what it wants.
    fn person(book: &mut Admission, n: u32) -> ConnectionId {
        let (id, _) = taken(book, from_block(n));
        book.spoke(id);
        id
    }

    #[test]
    fn a_block_has_its_own_cap_and_gets_its_place_back() {
        let mut book = book(100, 2, 100);
        let first = person(&mut book, 1);
        person(&mut book, 1);
        assert_eq!(book.connected(from_block(1)), Admit::No(Refusal::BlockFull));
        person(&mut book, 2);
        book.closed(first);
        book.closed(first);
        person(&mut book, 1);
        assert_eq!(book.connected(from_block(1)), Admit::No(Refusal::BlockFull));
    }

    #[test]
    fn silent_neighbours_of_a_block_make_room_for_a_person() {
        let mut book = book(100, 2, 100);
        taken(&mut book, from_block(9));
        let (silent, _) = taken(&mut book, from_block(1));
        taken(&mut book, from_block(1));
        let (_, evicted) = taken(&mut book, from_block(1));
        assert_eq!(evicted, Some(silent), "not the one of another block, which is older");
    }

    #[test]
    fn loopback_and_proxies_have_no_cap_for_they_stand_for_everybody() {
        let mut book = book(100, 2, 100);
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.1.1.1", "::ffff:10.1.1.1"] {
            for _ in 0..5 {
                taken(&mut book, ip(peer));
            }
        }
    }

    #[test]
    fn behind_a_proxy_a_participant_counts_for_their_own_block() {
        let mut book = book(100, 2, 100);
        let ids: Vec<ConnectionId> = (0..5).map(|_| taken(&mut book, ip("10.1.1.1")).0).collect();
        assert_eq!(book.attribute(ids[0], from_block(1)), Ok(()));
        assert_eq!(book.attribute(ids[0], from_block(1)), Ok(()));
        assert_eq!(book.attribute(ids[1], from_block(1)), Ok(()));
        assert_eq!(book.attribute(ids[2], from_block(1)), Err(Refusal::BlockFull));
        assert_eq!(book.attribute(ids[2], from_block(2)), Ok(()));
        book.closed(ids[0]);
        assert_eq!(book.attribute(ids[3], from_block(1)), Ok(()));
    }

    #[test]
    fn a_full_relay_gives_the_place_of_a_half_open_one_and_else_refuses() {
        let mut book = book(2, 100, 100);
        let (silent, _) = taken(&mut book, from_block(1));
        person(&mut book, 2);
        let (next, evicted) = taken(&mut book, from_block(3));
        assert_eq!(evicted, Some(silent));
        // The task of an evicted one may still say this before it is aborted.
        book.spoke(silent);
        book.closed(silent);
        book.spoke(next);
        assert_eq!(book.connected(from_block(4)), Admit::No(Refusal::RelayFull));
        assert_eq!(book.open.len(), 2);
    }

    #[test]
    fn a_person_gets_through_a_flood_of_silent_connections() {
        let mut book = book(5_000, 256, 1_024);
        let mut evictions = 0;
        for n in 0..20_000 {
            evictions += usize::from(taken(&mut book, from_block(n % 200)).1.is_some());
            if n == 10_000 {
                let (id, evicted) = taken(&mut book, from_block(999));
                assert!(evicted.is_some());
                // Many more arrive while the handshake takes its round trips.
                (0..20_000).for_each(|n| assert_ne!(taken(&mut book, from_block(n % 200)).1, Some(id)));
                book.spoke(id);
                (0..5_000).for_each(|n| assert_ne!(taken(&mut book, from_block(n % 200)).1, Some(id)));
                book.closed(id);
            }
        }
        assert!(evictions > 18_000);
        assert_eq!((book.half_open.len(), book.open.len()), (1_024, 1_024));
    }

    #[test]
    fn few_networks_that_flood_push_out_their_own_and_no_guest_on_a_slow_path() {
        // Eight networks open 10,000 connections a second; each guest of 50 needs 300 ms to its request.
        let floods: [fn(u32) -> IpAddr; 2] = [|n| from_block(n % 8), |n| from_48(n % 8, n / 8)];
        for flood in floods {
            let mut book = book(5_000, 256, 1_024);
            (0..2_000).for_each(|n| assert_ne!(book.connected(flood(n)), Admit::No(Refusal::RelayFull)));
            let guests: Vec<_> = (0..50).map(|n| taken(&mut book, from_block(100 + n)).0).collect();
            for n in 0..3_000 {
                if let Admit::Yes { evicted: Some(evicted), .. } = book.connected(flood(n)) {
                    assert!(!guests.contains(&evicted), "after {n} more");
                }
            }
            assert!(guests.iter().all(|guest| book.open.contains_key(guest)));
        }
    }

    /// An address in another /56 of the nth /48.
    fn from_48(n: u32, part: u32) -> IpAddr {
        IpAddr::from([0x2a00, 0x100, n as u16, ((part & 0xff) << 8) as u16, 0, 0, 0, 1])
    }

    #[test]
    fn the_book_is_empty_when_everybody_has_gone() {
        let mut book = book(1_000, 10, 50);
        let ids: Vec<ConnectionId> = (0..200).map(|n| taken(&mut book, from_block(n % 30)).0).collect();
        ids.iter().for_each(|id| book.closed(*id));
        assert_eq!((book.open.len(), book.half_open.len(), book.per_block.len()), (0, 0, 0));
        assert_eq!(book.half_open.of_the_largest_network(), None);
    }
}
