//! Requests and their answers, each handler in the order of its section of RFC 8656 or RFC 8489.
//!
//! ```text
//! client ── Allocate ───────────────────────────────► 401, REALM, NONCE
//! client ── Allocate, USERNAME, REALM, NONCE, MAC ──► XOR-RELAYED-ADDRESS, LIFETIME, XOR-MAPPED-ADDRESS, MAC
//! client ── ChannelBind or CreatePermission ────────► (the shell opens a relay socket if the peer is elsewhere) success
//! client ◄─ ChannelData ─────────────────────────────► peer
//! client ── Refresh, LIFETIME 0 ────────────────────► success; everything is closed
//! ```
//!
//! Security considerations: until the MAC is verified the sender may be forged and the receiver of the answer somebody else. So nothing is kept for
//! such a request, answers are small beside it, and each network gets a limited number ([`crate::limiter`]).

use std::net::{IpAddr, SocketAddr};

use crate::address::{Family, FiveTuple, RelaySocketId, canonical_socket};
use crate::allocation::{Allocation, ChannelConflict, MOST, Relayed, after, granted};
use crate::codec::{self, Answer, Malformed, Received};
use crate::credential::{Integrity, Key, PasswordAlgorithm, Username};
use crate::io::{Now, Output, Verdict};
use crate::ledger::share_of_block;
use crate::limiter::Kind;
use crate::meter::Tick;
use crate::nonce::Nonce;
use crate::server::TurnServer;
use crate::stats::{DropReason, Refusal};

/// The protocol number of UDP.
const UDP: u8 = 17;
/// Requests over datagrams that are at least this long can be answered with the list of password algorithms and the answer is still no
/// reward for forging the address.
const ROOM_FOR_ALGORITHMS: usize = 64;
/// The same for the challenge without that list: a header and the shortest attribute with a value, as every request has one.
const ROOM_FOR_CHALLENGE: usize = 28;

/// Relay sockets of one account that are no question of how many are left.
const LEAST_SOCKETS: usize = 16;

/// A request that waits until its relay socket is open.
pub(crate) struct Pending {
    pub(crate) relay: RelaySocketId,
    /// The other family's socket, if that is needed as well.
    next: Option<Family>,
    to: FiveTuple,
    grant: Grant,
    success: Vec<u8>,
    failure: Vec<u8>,
}

/// What a request is granted once its socket is there.
enum Grant {
    Permissions(Vec<IpAddr>),
    Channel { number: u16, peer: SocketAddr, leaves: bool },
}

/// Who sent a request, proven.
struct Proof {
    key: Key,
    integrity: Integrity,
    account: u32,
    /// The credential's time is over: it keeps what there is, and makes nothing new.
    expired: bool,
}

/// How a request without such a proof is answered.
struct Rejection {
    refusal: Refusal,
    /// With realm and nonce.
    challenge: bool,
    /// It sent a nonce that only the holder of this allocation's address can know, so no flood from forged addresses may silence it.
    known: bool,
}

impl Rejection {
    fn plain(refusal: Refusal) -> Self {
        Self { refusal, challenge: false, known: false }
    }

    fn challenge(refusal: Refusal) -> Self {
        Self { refusal, challenge: true, known: false }
    }
}

/// What a handler came to: an answer that is to be signed, or nothing yet.
type Outcome = Result<Option<Answer>, Refusal>;

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::BadRequest
    }
}

impl TurnServer {
    pub(crate) fn request(&mut self, from: &FiveTuple, request: &Received<'_>, now: Now) -> Verdict {
        let method = request.method();
        if method == codec::BINDING {
            return self.binding(from, request, self.tick(now));
        }
        if ![codec::ALLOCATE, codec::REFRESH, codec::CREATE_PERMISSION, codec::CHANNEL_BIND].contains(&method)
        {
            return self.dropped(DropReason::NotUnderstood);
        }
        let proof = match self.authenticate(from, request, now) {
            Ok(proof) => proof,
            Err(rejection) => return self.reject(from, request, &rejection, now),
        };
        let unknown = request.unknown();
        let tick = self.tick(now);
        let outcome = if !unknown.is_empty() {
            Err(Refusal::UnknownAttribute)
        } else if method == codec::ALLOCATE {
            self.allocate(from, request, &proof, tick)
        } else {
            match self.own_allocation(from, &proof, tick) {
                Err(refusal) => Err(refusal),
                Ok(slot) if method == codec::REFRESH => self.refresh(slot, request, tick),
                Ok(slot) if method == codec::CREATE_PERMISSION => {
                    self.create_permission(slot, request, &proof, tick)
                }
                Ok(slot) => self.channel_bind(slot, request, &proof, tick),
            }
        };
        let message = match outcome {
            Ok(None) => return Verdict::Handled,
            Ok(Some(answer)) => answer.signed(&proof.key, proof.integrity),
            Err(refusal) => {
                self.stats.refuse(refusal);
                let answer = Answer::error(request, refusal.stun_code());
                let answer = if unknown.is_empty() { answer } else { answer.unknown(&unknown) };
                answer.signed(&proof.key, proof.integrity)
            }
        };
        self.outputs.push_back(Output::Reply { to: *from, message });
        Verdict::Handled
    }

    /// RFC 8489 §6.3: anybody may ask.
    fn binding(&mut self, from: &FiveTuple, request: &Received<'_>, now: Tick) -> Verdict {
        if !self.may_answer(Kind::Binding, from, now) {
            return Verdict::Dropped;
        }
        let unknown = request.unknown();
        let answer = if unknown.is_empty() {
            Answer::success(request).mapped(from.client)
        } else {
            self.stats.refuse(Refusal::UnknownAttribute);
            Answer::error(request, Refusal::UnknownAttribute.stun_code()).unknown(&unknown)
        };
        self.outputs.push_back(Output::Reply { to: *from, message: answer.finish() });
        Verdict::Handled
    }

    /// Whether a stranger gets an answer. The sender of a stream is real.
    fn may_answer(&mut self, kind: Kind, from: &FiveTuple, now: Tick) -> bool {
        let kind = if from.transport.is_stream() { Kind::Stream } else { kind };
        let may = self.limiter.take(kind, from.client.ip(), now);
        if !may {
            self.stats.refuse(Refusal::Silenced);
        }
        may
    }

    fn reject(
        &mut self,
        from: &FiveTuple,
        request: &Received<'_>,
        rejection: &Rejection,
        now: Now,
    ) -> Verdict {
        if !rejection.known && !self.may_answer(Kind::Challenge, from, self.tick(now)) {
            return Verdict::Dropped;
        }
        self.stats.refuse(rejection.refusal);
        let mut answer = Answer::error(request, rejection.refusal.stun_code());
        if rejection.challenge {
            let with_algorithms = from.transport.is_stream() || request.length() >= ROOM_FOR_ALGORITHMS;
            let nonce = self.nonces.make(from, now.unix, with_algorithms);
            answer = answer.challenge(&self.realm, &nonce, with_algorithms);
        }
        self.outputs.push_back(Output::Reply { to: *from, message: answer.finish() });
        Verdict::Handled
    }

    /// RFC 8489 §9.2.4, with the nonce checked first: it is the cheapest proof that the sender is real.
    fn authenticate(
        &mut self,
        from: &FiveTuple,
        request: &Received<'_>,
        now: Now,
    ) -> Result<Proof, Rejection> {
        let Some(integrity) = request.integrity() else { return Err(self.first_contact(from, request)) };
        let (Some(username), Some(_), Some(nonce)) = (request.username(), request.realm(), request.nonce())
        else {
            return Err(Rejection::plain(Refusal::BadRequest));
        };
        let with_algorithms = match self.nonces.check(nonce, from, now.unix) {
            Nonce::Plain => false,
            Nonce::WithAlgorithms => true,
            Nonce::Stale => {
                let known = self.find(from).is_some();
                return Err(Rejection { known, ..Rejection::challenge(Refusal::StaleNonce) });
            }
            Nonce::Unknown => return Err(Rejection::challenge(Refusal::StaleNonce)),
        };
        // "bid-down" protection: what was offered comes back unchanged, and only where it was offered.
        let algorithm = match request.password_algorithm() {
            Ok(None) => PasswordAlgorithm::Md5,
            Ok(Some(algorithm)) if with_algorithms => algorithm,
            _ => return Err(Rejection::plain(Refusal::BadRequest)),
        };
        let wrong = || Rejection::challenge(Refusal::WrongCredentials);
        if request.realm() != Some(self.realm.as_bytes()) {
            return Err(wrong());
        }
        let username = Username::parse(username).ok_or_else(wrong)?;
        let account = self.ledger.account(username.account).ok_or_else(wrong)?;
        let keys = self.secrets.iter().map(|secret| Key::new(secret, username.text, &self.realm, algorithm));
        let key = keys.into_iter().find(|key| request.is_signed_by(key, integrity)).ok_or_else(wrong)?;
        let expired = username.expiry <= now.unix;
        if expired && request.method() == codec::ALLOCATE {
            return Err(wrong());
        }
        Ok(Proof { key, integrity, account, expired })
    }

    /// A request without credentials. Every allocation begins with an Allocate like that. Anything else that cannot succeed is answered without the
    /// long challenge: its sender is no client that follows the RFC, and may be forged.
    fn first_contact(&mut self, from: &FiveTuple, request: &Received<'_>) -> Rejection {
        if request.method() == codec::ALLOCATE {
            return match request.requested_transport() {
                Ok(Some(_)) => Rejection::challenge(Refusal::Challenged),
                _ => Rejection::plain(Refusal::BadRequest),
            };
        }
        match self.find(from) {
            Some(_) if request.length() >= ROOM_FOR_CHALLENGE => Rejection::challenge(Refusal::Challenged),
            Some(_) => Rejection::plain(Refusal::BadRequest),
            None => Rejection::plain(Refusal::Mismatch),
        }
    }

    /// The client's allocation, if it is the same participant's (RFC 8656 §5). A newer credential of that participant is as good as the one
    /// that the allocation was made with.
    fn own_allocation(&mut self, from: &FiveTuple, proof: &Proof, now: Tick) -> Result<u32, Refusal> {
        let slot = self.find(from).ok_or(Refusal::Mismatch)?;
        let allocation = &self.allocations[slot as usize];
        if allocation.expires <= now {
            return Err(Refusal::Mismatch);
        }
        if allocation.account != proof.account {
            return Err(Refusal::OtherAccount);
        }
        Ok(slot)
    }

    /// RFC 8656 §7.2.
    fn allocate(&mut self, from: &FiveTuple, request: &Received<'_>, proof: &Proof, now: Tick) -> Outcome {
        debug_assert!(!proof.expired, "refused when it was authenticated");
        if let Some(slot) = self.find(from) {
            let allocation = &self.allocations[slot as usize];
            if allocation.expires > now {
                // The answer to the first one was lost.
                let again =
                    allocation.transaction == request.transaction() && allocation.account == proof.account;
                return if again {
                    Ok(Some(self.allocated(slot, from, request, now)))
                } else {
                    Err(Refusal::Mismatch)
                };
            }
            self.remove(slot);
        }
        match request.requested_transport()? {
            None => return Err(Refusal::BadRequest),
            Some(UDP) => {}
            Some(_) => return Err(Refusal::Transport),
        }
        let requested = request.requested_family().map_err(|_| Refusal::Family)?;
        // Only IPv6 can come beside IPv4.
        let additional = match request.additional_family() {
            Ok(None) => false,
            Ok(Some(Family::V6)) => true,
            Ok(Some(Family::V4)) | Err(_) => return Err(Refusal::BadRequest),
        };
        let (even, token) = (request.has_even_port(), request.has_reservation_token());
        if (additional && (requested.is_some() || even || token)) || (token && (requested.is_some() || even))
        {
            return Err(Refusal::BadRequest);
        }
        // Pairs of ports were for RTP without multiplexing; nothing is ever reserved here, so no token is known either.
        if even || token || self.draining {
            return Err(Refusal::Capacity);
        }
        // Nothing ends before it begins: a lifetime of 0 is one that is too short.
        let lifetime = granted(request.lifetime()?.map(|seconds| seconds.max(1)));
        // IPv4 unless the client says otherwise. Browsers never say it, so without IPv4 they would have nothing at all.
        let usual = match self.relayed_address(from, Family::V4) {
            Some(_) => Family::V4,
            None => Family::V6,
        };
        let families: &[Family] = if additional { &Family::BOTH } else { &[requested.unwrap_or(usual)] };
        if families.iter().all(|family| self.relayed_address(from, *family).is_none()) {
            return Err(Refusal::Family);
        }
        // A client that comes from a relayed transport address of this server could make packets go round in it.
        if self.relayed_here(from.client).is_some() {
            return Err(Refusal::ForbiddenPeer);
        }
        let free = families.iter().map(|family| self.ports[*family as usize].left()).min().unwrap_or(0);
        let owners =
            self.ledger.reserve(proof.account, from.client.ip(), free).map_err(|_| Refusal::Quota)?;
        let expires = after(now, lifetime);
        let slot = self.insert(Allocation::new(*from, request.transaction(), owners, expires));
        for family in families {
            if let Some(address) = self.relayed_address(from, *family) {
                self.take_port(slot, *family, address);
            }
        }
        if self.allocations[slot as usize].relayed.iter().all(Option::is_none) {
            self.remove(slot);
            return Err(Refusal::Capacity);
        }
        self.stats.allocated += 1;
        if self.policy.learn(from.server.ip()) {
            self.reached.push(from.server.ip());
        }
        Ok(Some(self.allocated(slot, from, request, now)))
    }

    /// With an ADDRESS-ERROR-CODE for the one of two families that could not be had.
    fn allocated(&self, slot: u32, from: &FiveTuple, request: &Received<'_>, now: Tick) -> Answer {
        let allocation = &self.allocations[slot as usize];
        let both = matches!(request.additional_family(), Ok(Some(_)));
        let mut answer = Answer::success(request);
        for family in Family::BOTH {
            if let Some(relayed) = allocation.relayed(family) {
                answer = answer.relayed(relayed.address);
            } else if both {
                let possible = self.relayed_address(from, family).is_some();
                let refusal = if possible { Refusal::Capacity } else { Refusal::Family };
                answer = answer.address_error(family, refusal.stun_code());
            }
        }
        answer.lifetime(allocation.remaining(now)).mapped(allocation.five_tuple.client)
    }

    /// The address that a relayed transport address of `family` has for this client; see [`crate::RelayAddresses`].
    fn relayed_address(&self, from: &FiveTuple, family: Family) -> Option<IpAddr> {
        let of_family = |list: &[IpAddr]| list.iter().copied().find(|ip| Family::of(*ip) == family);
        let reached = Some(from.server.ip()).filter(|ip| Family::of(*ip) == family && !ip.is_unspecified());
        of_family(&self.addresses.external).or(reached).or_else(|| of_family(&self.addresses.detected))
    }

    /// Nothing happens when no port is free.
    fn take_port(&mut self, slot: u32, family: Family, address: IpAddr) {
        if let Some(port) = self.ports[family as usize].take(slot, &mut self.random) {
            let relayed = Relayed { address: SocketAddr::new(address, port), open: false };
            let allocation = &mut self.allocations[slot as usize];
            allocation.relayed[family as usize] = Some(relayed);
            self.ledger.relayed(allocation.group, address);
        }
    }

    /// RFC 8656 §8.2.
    fn refresh(&mut self, slot: u32, request: &Received<'_>, now: Tick) -> Outcome {
        let lifetime = granted(request.lifetime()?);
        let family = request.requested_family().map_err(|_| Refusal::PeerFamily)?;
        if family.is_some_and(|family| self.allocations[slot as usize].relayed(family).is_none()) {
            return Err(Refusal::PeerFamily);
        }
        if lifetime > 0 {
            self.prolong(slot, after(now, lifetime));
        } else {
            // Of two relayed transport addresses one can be given up alone.
            let both = self.allocations[slot as usize].relayed.iter().flatten().count() == 2;
            match family {
                Some(family) if both => self.remove_relayed(slot, family),
                _ => self.remove(slot),
            }
        }
        Ok(Some(Answer::success(request).lifetime(lifetime)))
    }

    /// RFC 8656 §10.2: all of them, or none.
    fn create_permission(&mut self, slot: u32, request: &Received<'_>, proof: &Proof, now: Tick) -> Outcome {
        // Before anything is looked up for them.
        if request.peers().nth(MOST).is_some() {
            return Err(Refusal::Capacity);
        }
        let mut ips = Vec::new();
        let mut outside = [false; 2];
        for peer in request.peers() {
            let peer = canonical_socket(peer?);
            let family = Family::of(peer.ip());
            if self.allocations[slot as usize].relayed(family).is_none() {
                return Err(Refusal::PeerFamily);
            }
            if self.reach(slot, peer, true)? == Reach::Outside {
                outside[family as usize] = true;
            }
            ips.push(peer.ip());
        }
        if ips.is_empty() {
            return Err(Refusal::BadRequest);
        }
        if !self.allocations[slot as usize].room_for(&ips, now) {
            return Err(Refusal::Capacity);
        }
        self.grant(slot, Grant::Permissions(ips), outside, request, proof, now)
    }

    /// RFC 8656 §12.2.
    fn channel_bind(&mut self, slot: u32, request: &Received<'_>, proof: &Proof, now: Tick) -> Outcome {
        let number = request.channel_number()?.filter(|number| (0x4000..=0x4fff).contains(number));
        let (Some(number), Some(peer)) = (number, request.peers().next()) else {
            return Err(Refusal::BadRequest);
        };
        let peer = canonical_socket(peer?);
        let family = Family::of(peer.ip());
        let allocation = &mut self.allocations[slot as usize];
        if allocation.relayed(family).is_none() {
            return Err(Refusal::PeerFamily);
        }
        match allocation.can_bind(number, peer, now) {
            Ok(()) => {}
            Err(ChannelConflict::Bound) => return Err(Refusal::BadRequest),
            Err(ChannelConflict::Full) => return Err(Refusal::Capacity),
        }
        if !allocation.room_for(&[peer.ip()], now) {
            return Err(Refusal::Capacity);
        }
        let reach = self.reach(slot, peer, false)?;
        let leaves = reach == Reach::Outside;
        let outside = Family::BOTH.map(|other| leaves && other == family);
        self.grant(slot, Grant::Channel { number, peer, leaves }, outside, request, proof, now)
    }

    /// How packets get to `peer`. With `any_port` only its address counts: the port in a CreatePermission means
    /// nothing (RFC 8656 §9).
    ///
    /// # Errors
    /// When they may not.
    fn reach(&self, slot: u32, peer: SocketAddr, any_port: bool) -> Result<Reach, Refusal> {
        // Whatever port of this address is named: somebody of the group is relayed there. The permission opens
        // no other way, because every packet is checked against the group and the policy again.
        let is_meeting_point = || any_port && self.group_is_relayed_at(slot, peer.ip());
        if let Some(other) = self.relayed_here(peer) {
            let same = self.allocations[other as usize].group == self.allocations[slot as usize].group;
            return if same || is_meeting_point() {
                Ok(Reach::InProcess)
            } else {
                Err(Refusal::ForbiddenPeer)
            };
        }
        if self.in_our_range(peer) {
            // Nobody is there. A permission may come before the allocation that it is for; what goes through it is still checked.
            return if any_port { Ok(Reach::InProcess) } else { Err(Refusal::ForbiddenPeer) };
        }
        let checked = if any_port { self.policy.check_address(peer.ip()) } else { self.policy.check(peer) };
        match checked {
            Ok(()) => Ok(Reach::Outside),
            Err(_) if is_meeting_point() => Ok(Reach::InProcess),
            Err(_) => Err(Refusal::ForbiddenPeer),
        }
    }

    /// Whether another allocation of the same group has a relayed transport address at `ip`.
    fn group_is_relayed_at(&self, slot: u32, ip: IpAddr) -> bool {
        let allocation = &self.allocations[slot as usize];
        let relayed = allocation.relayed(Family::of(ip));
        let mine = u32::from(relayed.is_some_and(|relayed| relayed.address.ip() == ip));
        self.ledger.relayed_at(allocation.group, ip) > mine
    }

    /// Grants at once, or first asks for the relay sockets that peers `outside` need, by family.
    fn grant(
        &mut self,
        slot: u32,
        grant: Grant,
        outside: [bool; 2],
        request: &Received<'_>,
        proof: &Proof,
        now: Tick,
    ) -> Outcome {
        let allocation = &self.allocations[slot as usize];
        let mut closed = Family::BOTH.into_iter().filter(|family| {
            outside[*family as usize] && allocation.relayed(*family).is_some_and(|relayed| !relayed.open)
        });
        let Some(family) = closed.next() else {
            self.apply(slot, grant, now);
            return Ok(Some(Answer::success(request)));
        };
        let of_account = self.ledger.slots_of(allocation.account).iter();
        let open = of_account.flat_map(|slot| &self.allocations[*slot as usize].relayed).flatten();
        let mine = open.filter(|relayed| relayed.open).count();
        let left = self.relay_sockets.saturating_sub(self.stats.relay_sockets);
        let of_block = *self.ledger.sockets(allocation.source);
        if mine >= LEAST_SOCKETS.max(left as usize / 4) || of_block >= share_of_block(left as usize) {
            return Err(Refusal::Quota);
        }
        let refusal = Refusal::Capacity.stun_code();
        let pending = Pending {
            relay: RelaySocketId::of(slot, family),
            next: closed.next(),
            to: allocation.five_tuple,
            grant,
            success: Answer::success(request).signed(&proof.key, proof.integrity),
            failure: Answer::error(request, refusal).signed(&proof.key, proof.integrity),
        };
        self.open(pending);
        Ok(None)
    }

    fn open(&mut self, pending: Pending) {
        let (relay, family) = (pending.relay, pending.relay.family());
        let Some(relayed) = self.allocations[relay.slot() as usize].relayed(family) else { return };
        let bind = SocketAddr::new(self.bind_address(relayed.address.ip(), family), relayed.address.port());
        self.pending.push(pending);
        self.outputs.push_back(Output::OpenRelaySocket { relay, bind });
    }

    /// An external address that is none of this machine's own lies behind a NAT, which maps it to the address that leads outside.
    fn bind_address(&self, relayed: IpAddr, family: Family) -> IpAddr {
        if !self.addresses.external.contains(&relayed) || self.addresses.local.contains(&relayed) {
            return relayed;
        }
        let detected = self.addresses.detected.iter().copied().find(|ip| Family::of(*ip) == family);
        detected.unwrap_or(match family {
            Family::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        })
    }

    fn apply(&mut self, slot: u32, grant: Grant, now: Tick) {
        let allocation = &mut self.allocations[slot as usize];
        match grant {
            // There was room when it was asked for.
            Grant::Permissions(ips) => ips.into_iter().for_each(|ip| {
                let _ = allocation.permit(ip, now);
            }),
            Grant::Channel { number, peer, leaves } => {
                allocation.bind(number, peer, leaves, now);
                let _ = allocation.permit(peer.ip(), now);
            }
        }
    }

    /// The shell's answer to [`Output::OpenRelaySocket`].
    pub(crate) fn relay_socket(&mut self, relay: RelaySocketId, opened: bool, now: Tick) {
        let Some(index) = self.pending.iter().position(|pending| pending.relay == relay) else { return };
        let pending = self.pending.swap_remove(index);
        let slot = relay.slot();
        let Some(allocation) = self.allocations.get_mut(slot as usize) else { return };
        let source = allocation.source;
        let Some(relayed) = allocation.relayed[relay.family() as usize].as_mut() else { return };
        if !opened {
            self.stats.refuse(Refusal::Capacity);
            self.outputs.push_back(Output::Reply { to: pending.to, message: pending.failure });
            return;
        }
        relayed.open = true;
        self.stats.relay_sockets += 1;
        *self.ledger.sockets(source) += 1;
        if let Some(family) = pending.next {
            return self.open(Pending { relay: RelaySocketId::of(slot, family), next: None, ..pending });
        }
        self.apply(slot, pending.grant, now);
        self.outputs.push_back(Output::Reply { to: pending.to, message: pending.success });
    }
}

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// To an allocation here.
    InProcess,
    /// By the relay socket.
    Outside,
}
