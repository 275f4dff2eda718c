//! The server: packets in, verdicts and outputs out. Requests are in `requests.rs`; here is what media meets.
//! It never copies or keeps a packet that is passed on, and keeps nothing for a client without an allocation.

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use slab::Slab;

use crate::address::{Family, FiveTuple, RelaySocketId, canonical_socket};
use crate::allocation::Allocation;
use crate::codec::{self, Class, Received};
use crate::config::{RelayAddresses, TurnConfig};
use crate::credential::Secret;
use crate::io::{Forward, Head, Input, Now, Output, Target, Verdict};
use crate::ledger::{Direction, KeyedHash, Ledger};
use crate::limiter::AnswerLimiter;
use crate::meter::Tick;
use crate::nonce::Nonces;
use crate::policy::PeerPolicy;
use crate::ports::Ports;
use crate::requests::Pending;
use crate::stats::{DropReason, TurnStats};

/// The longest payload of a UDP datagram over IPv4.
const MAX_PAYLOAD: usize = 65_507;

/// A STUN and TURN server.
///
/// Every packet from a client goes to [`TurnServer::handle_client`], every packet that comes in at a relay socket to
/// [`TurnServer::handle_peer`]. After a call that returned [`Verdict::Handled`], and after every other `handle_*`, outputs are
/// drained with [`TurnServer::poll_output`] before anything else is handed in.
pub struct TurnServer {
    pub(crate) realm: String,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) addresses: RelayAddresses,
    pub(crate) relay_sockets: u32,
    pub(crate) policy: PeerPolicy,
    /// Addresses of this machine that clients showed, in case its interfaces do not.
    pub(crate) reached: Vec<IpAddr>,
    pub(crate) ledger: Ledger,
    pub(crate) nonces: Nonces,
    pub(crate) limiter: AnswerLimiter,
    pub(crate) random: ChaCha20Rng,
    pub(crate) allocations: Slab<Box<Allocation>>,
    by_client: HashTable<u32>,
    hash: KeyedHash,
    /// The client of the last packet: packets come in runs.
    last: Option<(FiveTuple, u32)>,
    /// By [`Family`].
    pub(crate) ports: [Ports; 2],
    expiries: BTreeSet<(Tick, u32)>,
    pub(crate) outputs: VecDeque<Output>,
    /// Requests that wait for their relay socket.
    pub(crate) pending: Vec<Pending>,
    pub(crate) draining: bool,
    pub(crate) stats: TurnStats,
    started: Instant,
}

impl TurnServer {
    /// A server without allocations. All that must not be guessed comes from `seed`.
    #[must_use]
    pub fn new(config: TurnConfig, seed: [u8; 32], now: Now) -> Self {
        let mut random = ChaCha20Rng::from_seed(seed);
        let mut nonce_key = [0; 32];
        random.fill_bytes(&mut nonce_key);
        let hash = KeyedHash(random.next_u64(), random.next_u64());
        Self {
            realm: config.realm,
            secrets: config.secrets,
            addresses: config.addresses,
            relay_sockets: config.relay_sockets,
            policy: config.policy,
            reached: Vec::new(),
            ledger: Ledger::new(config.quotas, hash),
            nonces: Nonces::new(nonce_key),
            limiter: AnswerLimiter::new((random.next_u64(), random.next_u64())),
            random,
            allocations: Slab::new(),
            by_client: HashTable::new(),
            hash,
            last: None,
            ports: Family::BOTH.map(|_| Ports::new(&config.relay_ports)),
            expiries: BTreeSet::new(),
            outputs: VecDeque::new(),
            pending: Vec::new(),
            draining: false,
            stats: TurnStats::default(),
            started: now.at,
        }
    }

    /// A datagram from a client, or one frame of its stream as [`crate::frame_length`] cuts it.
    pub fn handle_client(&mut self, from: &FiveTuple, packet: &[u8], now: Now) -> Verdict {
        match packet.first() {
            Some(0x40..=0x4f) => self.channel_data(from, packet, self.tick(now)),
            Some(0x00..=0x03) => self.message(from, packet, now),
            _ => self.dropped(DropReason::NotUnderstood),
        }
    }

    /// A datagram that came in at a relay socket (RFC 8656 §11.3, §12.7).
    pub fn handle_peer(
        &mut self,
        relay: RelaySocketId,
        peer: SocketAddr,
        packet: &[u8],
        now: Now,
    ) -> Verdict {
        let (slot, now) = (relay.slot(), self.tick(now));
        let Some(allocation) = self.live(slot, now) else { return self.dropped(DropReason::NoAllocation) };
        let peer = canonical_socket(peer);
        if !allocation.relayed(relay.family()).is_some_and(|relayed| relayed.open) {
            return self.dropped(DropReason::NoAllocation);
        }
        if !allocation.permits(peer.ip(), now) {
            return self.dropped(DropReason::NoPermission);
        }
        let owners = [allocation.account, allocation.group, allocation.source];
        // A permission for an own address is for those who are relayed there, and they come in process.
        if self.policy.is_local(peer.ip()) && self.policy.check_address(peer.ip()).is_err() {
            return self.dropped(DropReason::ForbiddenPeer);
        }
        if !self.ledger.has_room(owners, Direction::ToClient, now) {
            return self.dropped(DropReason::OverQuota);
        }
        self.ledger.spend(owners, Direction::ToClient, packet.len(), now);
        self.relay_to_client(slot, peer, 0..packet.len(), now)
    }

    /// What is no packet.
    pub fn handle_input(&mut self, input: Input, now: Now) {
        match input {
            Input::Admit(account) => self.ledger.admit(&account),
            Input::Revoke(account) => {
                for slot in self.ledger.slots(&account) {
                    let to = self.allocations[slot as usize].five_tuple;
                    self.remove(slot);
                    self.outputs.push_back(Output::CloseClient { to });
                }
                self.ledger.forget(&account);
            }
            Input::ClientGone(client) => {
                if let Some(slot) = self.find(&client) {
                    self.remove(slot);
                }
            }
            Input::RelaySocketOpened(relay) => self.relay_socket(relay, true, self.tick(now)),
            Input::RelaySocketFailed(relay) => self.relay_socket(relay, false, self.tick(now)),
            Input::ReplaceSecrets(secrets) => self.secrets = secrets,
            Input::OwnAddresses { own, on_link } => {
                self.policy.replace_own(own, on_link, &self.reached);
                self.check_channels();
            }
            Input::Drain => self.draining = true,
        }
    }

    /// What the shell is to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`TurnServer::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (expires, _) = self.expiries.first()?;
        Some(self.started + Duration::from_nanos(*expires))
    }

    /// Ends allocations whose lifetime is over.
    pub fn handle_timeout(&mut self, now: Now) {
        let now = self.tick(now);
        while let Some(&(expires, slot)) = self.expiries.first()
            && expires <= now
        {
            self.remove(slot);
        }
    }

    /// Whether this client has an allocation: a stream without one is nobody's yet.
    pub fn has_allocation(&mut self, client: &FiveTuple, now: Now) -> bool {
        let now = self.tick(now);
        self.find(client).is_some_and(|slot| self.live(slot, now).is_some())
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &TurnStats {
        &self.stats
    }

    pub(crate) fn tick(&self, now: Now) -> Tick {
        now.at.saturating_duration_since(self.started).as_nanos() as Tick
    }

    pub(crate) fn dropped(&mut self, reason: DropReason) -> Verdict {
        self.stats.drop(reason);
        Verdict::Dropped
    }

    /// The allocation of a client, expired ones too.
    pub(crate) fn find(&mut self, client: &FiveTuple) -> Option<u32> {
        if let Some((last, slot)) = &self.last
            && last == client
        {
            return Some(*slot);
        }
        let hash = self.hash.hash_one(client);
        let slot =
            *self.by_client.find(hash, |slot| self.allocations[*slot as usize].five_tuple == *client)?;
        self.last = Some((*client, slot));
        Some(slot)
    }

    fn live(&self, slot: u32, now: Tick) -> Option<&Allocation> {
        self.allocations
            .get(slot as usize)
            .map(|boxed| &**boxed)
            .filter(|allocation| allocation.expires > now)
    }

    /// Adds an allocation and gives it its slot.
    pub(crate) fn insert(&mut self, allocation: Allocation) -> u32 {
        let (five_tuple, expires, account) = (allocation.five_tuple, allocation.expires, allocation.account);
        let slot = self.allocations.insert(Box::new(allocation)) as u32;
        let (hash, allocations) = (self.hash, &self.allocations);
        self.by_client.insert_unique(hash.hash_one(five_tuple), slot, |slot| {
            hash.hash_one(allocations[*slot as usize].five_tuple)
        });
        self.expiries.insert((expires, slot));
        self.ledger.add(account, slot);
        self.stats.allocations += 1;
        self.stats.allocations_by[five_tuple.transport as usize] += 1;
        slot
    }

    pub(crate) fn prolong(&mut self, slot: u32, expires: Tick) {
        let allocation = &mut self.allocations[slot as usize];
        self.expiries.remove(&(allocation.expires, slot));
        allocation.expires = expires;
        self.expiries.insert((expires, slot));
    }

    /// Ends an allocation (RFC 8656 §8): its ports are free, its sockets closed.
    pub(crate) fn remove(&mut self, slot: u32) {
        for family in Family::BOTH {
            self.remove_relayed(slot, family);
        }
        let allocation = self.allocations.remove(slot as usize);
        let hash = self.hash.hash_one(allocation.five_tuple);
        if let Ok(entry) = self.by_client.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        self.last = None;
        self.pending.retain(|pending| pending.relay.slot() != slot);
        self.expiries.remove(&(allocation.expires, slot));
        self.ledger.release([allocation.account, allocation.group, allocation.source], slot);
        self.stats.allocations -= 1;
        self.stats.allocations_by[allocation.five_tuple.transport as usize] -= 1;
    }

    /// Ends one relayed transport address.
    pub(crate) fn remove_relayed(&mut self, slot: u32, family: Family) {
        let allocation = &mut self.allocations[slot as usize];
        let Some(relayed) = allocation.relayed[family as usize].take() else { return };
        self.ledger.unrelayed(allocation.group, relayed.address.ip());
        self.ports[family as usize].free(relayed.address.port());
        if relayed.open {
            self.stats.relay_sockets -= 1;
            *self.ledger.sockets(allocation.source) -= 1;
            self.outputs.push_back(Output::CloseRelaySocket { relay: RelaySocketId::of(slot, family) });
        }
    }

    /// The allocation whose relayed transport address `peer` is.
    pub(crate) fn relayed_here(&self, peer: SocketAddr) -> Option<u32> {
        let family = Family::of(peer.ip());
        let slot = self.ports[family as usize].slot(peer.port())?;
        let relayed = self.allocations.get(slot as usize)?.relayed(family)?;
        (relayed.address == peer).then_some(slot)
    }

    fn message(&mut self, from: &FiveTuple, packet: &[u8], now: Now) -> Verdict {
        let Some(received) = Received::parse(packet) else { return self.dropped(DropReason::NotUnderstood) };
        match received.class() {
            Class::Request => self.request(from, &received, now),
            Class::Indication if received.method() == codec::SEND => {
                self.send(from, &received, self.tick(now))
            }
            // A Binding indication only keeps NATs open (RFC 8489 §2).
            Class::Indication if received.method() == codec::BINDING => Verdict::Dropped,
            // An answer to an answer would make a loop of two servers.
            Class::Indication | Class::Success | Class::Error => self.dropped(DropReason::NotUnderstood),
        }
    }

    /// RFC 8656 §12.6.
    fn channel_data(&mut self, from: &FiveTuple, packet: &[u8], now: Tick) -> Verdict {
        let Some(&[a, b, c, d]) = packet.first_chunk() else {
            return self.dropped(DropReason::NotUnderstood);
        };
        let (number, length) = (u16::from_be_bytes([a, b]), usize::from(u16::from_be_bytes([c, d])));
        // Bytes behind are padding (§12.5).
        if 4 + length > packet.len() {
            return self.dropped(DropReason::NotUnderstood);
        }
        let Some(slot) = self.find(from) else { return self.dropped(DropReason::NoAllocation) };
        let Some(allocation) = self.live(slot, now) else { return self.dropped(DropReason::NoAllocation) };
        let Some(&channel) = allocation.channel(number, now) else {
            return self.dropped(DropReason::NoChannel);
        };
        self.relay_from_client(slot, channel.peer, Some(channel.leaves), 4..4 + length, now)
    }

    /// A Send indication (RFC 8656 §11.2).
    fn send(&mut self, from: &FiveTuple, received: &Received<'_>, now: Tick) -> Verdict {
        let Some(slot) = self.find(from).filter(|slot| self.live(*slot, now).is_some()) else {
            return self.dropped(DropReason::NoAllocation);
        };
        let (Some(Ok(peer)), Some(body)) = (received.peers().next(), received.data()) else {
            return self.dropped(DropReason::NotUnderstood);
        };
        // An indication with something that must be understood and is not, DONT-FRAGMENT for example, is dropped (RFC 8489 §6.3.2).
        if !received.unknown().is_empty() {
            return self.dropped(DropReason::NotUnderstood);
        }
        self.relay_from_client(slot, canonical_socket(peer), None, body, now)
    }

    /// Whether packets to `peer` may go out by a relay socket.
    pub(crate) fn leaves(&self, peer: SocketAddr) -> bool {
        // A port of the range on an address of ours is somebody's relayed transport address, or will be.
        !self.in_our_range(peer) && self.policy.check(peer).is_ok()
    }

    /// Channels that were bound under another policy do not outlive it.
    fn check_channels(&mut self) {
        let mut denied = Vec::new();
        for (slot, allocation) in &self.allocations {
            let channels = allocation.leaving().filter(|peer| !self.leaves(*peer));
            denied.extend(channels.map(|peer| (slot, peer)));
        }
        for (slot, peer) in denied {
            self.allocations[slot].keep_inside(peer);
        }
    }

    /// Whether `peer` is, was or could be a relayed transport address of this server.
    pub(crate) fn in_our_range(&self, peer: SocketAddr) -> bool {
        // Both families have the same range.
        self.policy.is_local(peer.ip()) && self.ports[0].contains(peer.port())
    }

    /// A payload from a client to a peer: to another client in process, or out by the relay socket.
    fn relay_from_client(
        &mut self,
        slot: u32,
        peer: SocketAddr,
        leaves: Option<bool>,
        body: Range<usize>,
        now: Tick,
    ) -> Verdict {
        let allocation = &self.allocations[slot as usize];
        if !allocation.permits(peer.ip(), now) {
            return self.dropped(DropReason::NoPermission);
        }
        // More than that comes only by a stream, and fits no datagram.
        if body.len() > MAX_PAYLOAD {
            return self.dropped(DropReason::NotUnderstood);
        }
        let family = Family::of(peer.ip());
        let Some(&relayed) = allocation.relayed(family) else {
            return self.dropped(DropReason::NoPermission);
        };
        let owners = [allocation.account, allocation.group, allocation.source];
        if let Some(other) = self.relayed_here(peer) {
            return self.in_process(owners, relayed.address, other, body, now);
        }
        // A channel knows since it was bound.
        if !leaves.unwrap_or_else(|| self.leaves(peer)) {
            let gone = self.in_our_range(peer);
            return self.dropped(if gone { DropReason::OtherGroup } else { DropReason::ForbiddenPeer });
        }
        // Without a permission for a peer elsewhere, or when the port could not be bound, there is no socket.
        if !relayed.open {
            return self.dropped(DropReason::NoPermission);
        }
        if !self.ledger.has_room(owners, Direction::FromClient, now) {
            return self.dropped(DropReason::OverQuota);
        }
        self.ledger.spend(owners, Direction::FromClient, body.len(), now);
        self.stats.bytes_from_clients += body.len() as u64;
        self.stats.packets_from_clients += 1;
        let relay = RelaySocketId::of(slot, family);
        Verdict::Forward(Forward {
            flow: slot * 3 + 1 + family as u32,
            head: Head::EMPTY,
            body,
            pad: 0,
            target: Target::Peer { relay, peer },
        })
    }

    /// From one relayed transport address to another, with all that would happen between their sockets: the same group, the far permission, both
    /// limits.
    fn in_process(
        &mut self,
        owners: [u32; 3],
        source: SocketAddr,
        other: u32,
        body: Range<usize>,
        now: Tick,
    ) -> Verdict {
        let far = &self.allocations[other as usize];
        if far.group != owners[1] || far.expires <= now {
            return self.dropped(DropReason::OtherGroup);
        }
        if !far.permits(source.ip(), now) {
            return self.dropped(DropReason::NoPermission);
        }
        let far_owners = [far.account, far.group, far.source];
        let bytes = body.len();
        if !self.ledger.has_room(owners, Direction::FromClient, now)
            || !self.ledger.has_room(far_owners, Direction::ToClient, now)
        {
            return self.dropped(DropReason::OverQuota);
        }
        self.ledger.spend(owners, Direction::FromClient, bytes, now);
        self.ledger.spend(far_owners, Direction::ToClient, bytes, now);
        let verdict = self.relay_to_client(other, source, body, now);
        if matches!(verdict, Verdict::Forward(_)) {
            self.stats.bytes_from_clients += bytes as u64;
            self.stats.packets_from_clients += 1;
            self.stats.bytes_in_process += bytes as u64;
            self.stats.packets_in_process += 1;
        }
        verdict
    }

    /// A payload from a peer to a client, as ChannelData or in a Data indication.
    fn relay_to_client(&mut self, slot: u32, peer: SocketAddr, body: Range<usize>, now: Tick) -> Verdict {
        let allocation = &self.allocations[slot as usize];
        let to = allocation.five_tuple;
        // With what goes in front and behind it has to fit into a datagram.
        if body.len() > MAX_PAYLOAD - Head::CAPACITY - 3 {
            return self.dropped(DropReason::NotUnderstood);
        }
        let length = body.len() as u16;
        let (head, pad) = match allocation.channel_to(peer, now) {
            Some(number) => {
                let pad = if to.transport.is_stream() { length.wrapping_neg() & 3 } else { 0 };
                (Head::channel_data(number, length), pad)
            }
            None => {
                let transaction =
                    u128::from(self.random.next_u64()) << 32 | u128::from(self.random.next_u32());
                (codec::data_indication(peer, transaction, length), length.wrapping_neg() & 3)
            }
        };
        self.stats.bytes_to_clients += u64::from(length);
        self.stats.packets_to_clients += 1;
        Verdict::Forward(Forward { flow: slot * 3, head, body, pad: pad as u8, target: Target::Client(to) })
    }
}
