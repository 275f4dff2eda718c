//! One peer connection as a participant's shell would have it: gathers candidates, checks pairs, keeps a path, carries a data channel.
//! It is a model: no SDP, no DTLS, no RTP. What a path lets through is the network's business, and a relayed path is the real server's.
//!
//! 1. A description names an identity (DTLS) and a generation (ICE credentials). A restart makes a new generation with sockets of its own;
//!    the path that was chosen before goes on until a better one answers.
//! 2. Every local socket is tried with every remote candidate; relayed ones start later. The side of the higher identity chooses the best
//!    pair that answers, and says so with further checks, which also show whether the path still works (RFC 8445 §8, RFC 7675).
//! 3. Five seconds without a packet are `Disconnected`, 25 are `Failed`, as in `snug-rtc`.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use snug_call_proto::IceState;
use snug_turn_proto::Transport;

use crate::channel::Channel;
use crate::packet::Packet;
use crate::stun::{BINDING, Builder, Message, Transaction};
use crate::turn::{FromTurn, TurnClient};

const DISCONNECTED_AFTER: Duration = Duration::from_secs(5);
const FAILED_AFTER: Duration = Duration::from_secs(25);
const CHECK: Duration = Duration::from_millis(150);
const CHECKS: u32 = 60;
/// For so long a better pair is looked for.
const BETTER: Duration = Duration::from_secs(2);
const CONSENT: Duration = Duration::from_secs(2);
const RELAY_WAIT: Duration = Duration::from_millis(300);
/// An allocation over a stream is asked for when UDP did not bring one within this.
const STREAM_WAIT: Duration = Duration::from_secs(1);
const STUN_TRIES: u32 = 5;
const RETRANSMIT: Duration = Duration::from_millis(500);
const MEDIA: Duration = Duration::from_millis(250);
const REMOTES: usize = 128;

/// What an agent wants done.
pub(crate) enum Effect {
    /// A datagram from the local port.
    Datagram {
        ip: Ipv4Addr,
        port: u16,
        to: SocketAddrV4,
        packet: Packet,
    },
    /// A message to the relay from the local port.
    ToRelay {
        ip: Ipv4Addr,
        port: u16,
        transport: Transport,
        bytes: Vec<u8>,
    },
    Candidate(String),
    State(IceState),
    ChannelOpened,
    ChannelClosed,
    ChannelMessage(String),
    MediaSeen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Via {
    Host,
    /// Index into the generation's allocations.
    Relay(usize),
}

struct Pair {
    via: Via,
    remote: SocketAddrV4,
    rank: u32,
    tries: u32,
    next: Duration,
    transaction: u64,
    valid: bool,
}

struct Generation {
    name: u64,
    ip: Ipv4Addr,
    port: u16,
    born: Duration,
    binding: Option<(Transaction, u32, Duration)>,
    turns: Vec<TurnClient>,
    pairs: Vec<Pair>,
}

impl Generation {
    fn needs_stream(&self, now: Duration) -> bool {
        self.turns.len() == 1 && self.turns[0].relayed.is_none() && now >= self.born + STREAM_WAIT
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Path {
    generation: u64,
    /// The other side's generation.
    theirs: u64,
    via: Via,
    remote: SocketAddrV4,
    rank: u32,
    transaction: u64,
}

/// Where a participant is, for new sockets, and how it may use the relay.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) ip: Ipv4Addr,
    /// Two free ports.
    pub(crate) ports: [u16; 2],
    /// A number that nobody else has.
    pub(crate) serial: u64,
    /// User name and credential, where the relay gave them.
    pub(crate) turn: Option<(String, String)>,
    pub(crate) stun: bool,
}

pub(crate) struct Agent {
    identity: u64,
    remote_identity: Option<u64>,
    remote_generation: Option<u64>,
    remotes: Vec<(SocketAddrV4, u32)>,
    generations: Vec<Generation>,
    /// The generation that an unanswered offer of ours made.
    offered: Option<u64>,
    offering: bool,
    path: Option<Path>,
    secured: bool,
    state: Option<IceState>,
    heard: Duration,
    pub(crate) media_heard: Duration,
    next_media: Duration,
    next_hello: Duration,
    next_consent: Duration,
    transaction: u64,
    relay: SocketAddrV4,
    channel: Channel,
}

impl Agent {
    pub(crate) fn new(identity: u64, relay: SocketAddrV4) -> Self {
        Self {
            identity,
            remote_identity: None,
            remote_generation: None,
            remotes: Vec::new(),
            generations: Vec::new(),
            offered: None,
            offering: false,
            path: None,
            secured: false,
            state: None,
            heard: Duration::ZERO,
            media_heard: Duration::ZERO,
            next_media: Duration::ZERO,
            next_hello: Duration::ZERO,
            next_consent: Duration::ZERO,
            transaction: identity,
            relay,
            channel: Channel::default(),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.state == Some(IceState::Connected)
    }

    /// Whether media goes through the relay on our side; what the other side does, it knows.
    pub(crate) fn is_relayed(&self) -> bool {
        self.path.is_some_and(|path| path.via != Via::Host || path.remote.ip() == self.relay.ip())
    }

    // Descriptions. A description that does not fit the state is refused, as an implementation of JSEP would.

    pub(crate) fn offer(
        &mut self,
        restart: bool,
        rollback: bool,
        place: Place,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> Result<String, &'static str> {
        self.roll_back(rollback)?;
        if self.generations.is_empty() || restart {
            let name = self.generate(place, now, effects);
            self.offered = Some(name);
        }
        self.offering = true;
        Ok(self.describe())
    }

    pub(crate) fn answer(
        &mut self,
        sdp: &str,
        rollback: bool,
        place: Place,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) -> Result<String, &'static str> {
        self.roll_back(rollback)?;
        let (identity, generation) = read(sdp).ok_or("an offer that cannot be read")?;
        if self.generations.is_empty() || self.remote_generation != Some(generation) {
            self.generate(place, now, effects);
        }
        self.take_remote(identity, generation, now);
        Ok(self.describe())
    }

    pub(crate) fn accept(&mut self, sdp: &str, now: Duration) -> Result<(), &'static str> {
        if !self.offering {
            return Err("an answer without an offer");
        }
        let (identity, generation) = read(sdp).ok_or("an answer that cannot be read")?;
        self.offering = false;
        self.offered = None;
        self.take_remote(identity, generation, now);
        Ok(())
    }

    fn roll_back(&mut self, rollback: bool) -> Result<(), &'static str> {
        if rollback != self.offering {
            return Err(if rollback { "a rollback without an offer" } else { "an offer is not rolled back" });
        }
        self.offering = false;
        if let Some(offered) = self.offered.take() {
            self.generations.retain(|generation| generation.name != offered);
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let name = self.generations.last().map_or(0, |generation| generation.name);
        format!("v=0 {} {name}", self.identity)
    }

    fn take_remote(&mut self, identity: u64, generation: u64, now: Duration) {
        self.remote_identity = Some(identity);
        if self.remote_generation != Some(generation) {
            self.remote_generation = Some(generation);
            self.remotes.clear();
            if let Some(newest) = self.generations.last_mut() {
                newest.pairs.clear();
                newest.born = now;
            }
        }
    }

    fn generate(&mut self, place: Place, now: Duration, effects: &mut Vec<Effect>) -> u64 {
        let Place { ip, ports: [port, turn_port], serial, turn, stun } = place;
        let mut transaction = [0xee; 12];
        transaction[4..].copy_from_slice(&serial.to_be_bytes());
        let turns = turn
            .map(|credential| {
                TurnClient::new(Transport::Udp, turn_port, credential, serial.wrapping_mul(1 << 20), now)
            })
            .into_iter()
            .collect();
        self.generations.push(Generation {
            name: serial,
            ip,
            port,
            born: now,
            binding: stun.then_some((transaction, 0, now)),
            turns,
            pairs: Vec::new(),
        });
        effects.push(Effect::Candidate(candidate(serial, 3, SocketAddrV4::new(ip, port))));
        serial
    }

    pub(crate) fn add_candidate(&mut self, text: &str, now: Duration) {
        let mut words = text.split(' ').skip(1);
        let mut next = || words.next().unwrap_or_default();
        let (Ok(generation), Ok(rank), Ok(address)) = (next().parse::<u64>(), next().parse(), next().parse())
        else {
            return;
        };
        if self.remote_generation == Some(generation) {
            self.add_remote(address, rank, now);
        }
    }

    fn add_remote(&mut self, address: SocketAddrV4, rank: u32, now: Duration) {
        if self.remotes.len() < REMOTES && !self.remotes.iter().any(|(known, _)| *known == address) {
            self.remotes.push((address, rank));
            for generation in &mut self.generations {
                for turn in &mut generation.turns {
                    turn.bind(address, now);
                }
            }
        }
    }

    // Packets.

    pub(crate) fn receive(
        &mut self,
        port: u16,
        from: SocketAddrV4,
        packet: Packet,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(generation) = self.generations.iter().find(|one| one.port == port).map(|one| one.name)
        else {
            return;
        };
        self.handle(generation, Via::Host, from, packet, now, effects);
    }

    /// A message of the relay to one of our ports.
    pub(crate) fn receive_from_relay(
        &mut self,
        port: u16,
        bytes: &[u8],
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        for index in 0..self.generations.len() {
            let generation = &mut self.generations[index];
            let name = generation.name;
            if generation.port == port
                && let Some(message) = Message::parse(bytes)
                && generation.binding.is_some_and(|(transaction, ..)| transaction == message.transaction)
            {
                generation.binding = None;
                if let Some(mapped) = message.mapped() {
                    effects.push(Effect::Candidate(candidate(name, 2, mapped)));
                }
                return;
            }
            let Some(turn) = generation.turns.iter().position(|turn| turn.port == port) else { continue };
            match generation.turns[turn].receive(bytes, now) {
                FromTurn::Allocated(relayed) => {
                    effects.push(Effect::Candidate(candidate(name, 1, relayed)));
                    for (remote, _) in &self.remotes {
                        self.generations[index].turns[turn].bind(*remote, now);
                    }
                }
                FromTurn::Payload { from, bytes } => {
                    if let Some(packet) = Packet::decode(&bytes) {
                        self.handle(name, Via::Relay(turn), from, packet, now, effects);
                    }
                }
                FromTurn::Nothing => {}
            }
            return;
        }
    }

    fn handle(
        &mut self,
        generation: u64,
        via: Via,
        from: SocketAddrV4,
        packet: Packet,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        match packet {
            Packet::Check { to, from: theirs, transaction, chosen } => {
                if to != generation {
                    return;
                }
                self.send_by(generation, via, from, Packet::Answer { to: theirs, transaction }, effects);
                // A check may come before the description that names its sender.
                if self.remote_generation == Some(theirs) {
                    self.add_remote(from, 2, now);
                    if chosen && !self.chooses() {
                        self.take_path(
                            Path { generation, theirs, via, remote: from, rank: 0, transaction },
                            now,
                            effects,
                        );
                    }
                }
                self.on_heard((generation, via, from), now, effects);
            }
            Packet::Answer { transaction, .. } => {
                self.on_heard((generation, via, from), now, effects);
                self.on_answer(generation, transaction, effects, now);
            }
            Packet::Hello { to, from: theirs, reply } => {
                if !self.is_from(to, theirs) {
                    return;
                }
                if !reply {
                    let answer = Packet::Hello { to: theirs, from: self.identity, reply: true };
                    self.send_by(generation, via, from, answer, effects);
                }
                self.secured = true;
                self.on_heard((generation, via, from), now, effects);
            }
            Packet::Media { to, from: theirs } => {
                if self.is_from(to, theirs) && self.secured {
                    self.media_heard = now;
                    self.on_heard((generation, via, from), now, effects);
                    effects.push(Effect::MediaSeen);
                }
            }
            Packet::Data { to, from: theirs, serial, text } => {
                if self.is_from(to, theirs) && self.secured {
                    self.on_heard((generation, via, from), now, effects);
                    let ready = self.channel.receive(serial, text);
                    effects.extend(ready.into_iter().map(Effect::ChannelMessage));
                    let answer =
                        Packet::Received { to: theirs, from: self.identity, next: self.channel.expected() };
                    self.send_by(generation, via, from, answer, effects);
                }
            }
            Packet::Received { to, from: theirs, next } => {
                if self.is_from(to, theirs) {
                    self.on_heard((generation, via, from), now, effects);
                    self.channel.acknowledged(next);
                }
            }
            Packet::Closed { to, from: theirs } => {
                if self.is_from(to, theirs) && self.channel.close() {
                    effects.push(Effect::ChannelClosed);
                }
            }
        }
    }

    fn is_from(&self, to: u64, from: u64) -> bool {
        to == self.identity && self.remote_identity == Some(from)
    }

    fn on_answer(&mut self, name: u64, transaction: u64, effects: &mut Vec<Effect>, now: Duration) {
        let Some(generation) = self.generations.iter_mut().find(|one| one.name == name) else { return };
        let Some(pair) = generation.pairs.iter_mut().find(|pair| pair.transaction == transaction) else {
            return;
        };
        pair.valid = true;
        let (via, remote, rank) = (pair.via, pair.remote, pair.rank);
        let Some(theirs) = self.remote_generation.filter(|_| self.chooses()) else { return };
        let path = Path { generation: name, theirs, via, remote, rank, transaction };
        if self.path.is_none_or(|old| (path.generation, path.rank) > (old.generation, old.rank)) {
            self.take_path(path, now, effects);
        }
    }

    /// Whether this side says which pair is the path.
    fn chooses(&self) -> bool {
        self.remote_identity.is_some_and(|theirs| self.identity > theirs)
    }

    fn take_path(&mut self, path: Path, now: Duration, effects: &mut Vec<Effect>) {
        if self.path == Some(path) {
            return;
        }
        let moved = self.path.is_some_and(|old| old.generation != path.generation);
        self.path = Some(path);
        self.heard = self.heard.max(now);
        self.next_hello = now;
        self.next_consent = now;
        // The sockets of the path before are of no use.
        let newest = self.generations.last().map(|one| one.name);
        self.generations.retain(|one| one.name == path.generation || Some(one.name) == newest);
        if moved && self.secured {
            self.state = Some(IceState::Connected);
            effects.push(Effect::State(IceState::Connected));
        }
    }

    /// A packet counts for the path only when it came over it: what one side alone has chosen does not work for both.
    fn on_heard(
        &mut self,
        (generation, via, from): (u64, Via, SocketAddrV4),
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let over_path =
            self.path.is_some_and(|path| (path.generation, path.via, path.remote) == (generation, via, from));
        if !over_path {
            return;
        }
        self.heard = now;
        // What has failed comes back with another generation only.
        let waits = !matches!(self.state, Some(IceState::Connected | IceState::Failed));
        if self.path.is_some() && self.secured && waits {
            self.state = Some(IceState::Connected);
            self.next_media = now;
            effects.push(Effect::State(IceState::Connected));
            if self.channel.open() {
                effects.push(Effect::ChannelOpened);
            }
        }
    }

    // What goes out.

    /// Drops what the channel does not take.
    pub(crate) fn send_channel(&mut self, text: String, now: Duration, effects: &mut Vec<Effect>) {
        if let Some(serial) = self.channel.send(&text, now) {
            self.send_data(serial, text, effects);
        }
    }

    fn send_data(&mut self, serial: u64, text: String, effects: &mut Vec<Effect>) {
        if let Some(to) = self.remote_identity {
            self.send(Packet::Data { to, from: self.identity, serial, text }, effects);
        }
    }

    pub(crate) fn say_closed(&mut self, effects: &mut Vec<Effect>) {
        if let Some(to) = self.remote_identity.filter(|_| self.secured) {
            self.send(Packet::Closed { to, from: self.identity }, effects);
        }
    }

    fn send(&mut self, packet: Packet, effects: &mut Vec<Effect>) {
        if let Some(Path { generation, via, remote, .. }) = self.path {
            self.send_by(generation, via, remote, packet, effects);
        }
    }

    fn send_by(&mut self, name: u64, via: Via, to: SocketAddrV4, packet: Packet, effects: &mut Vec<Effect>) {
        let Some(generation) = self.generations.iter_mut().find(|one| one.name == name) else { return };
        match via {
            Via::Host => {
                effects.push(Effect::Datagram { ip: generation.ip, port: generation.port, to, packet });
            }
            Via::Relay(index) => {
                let Some(turn) = generation.turns.get_mut(index) else { return };
                if let Some(bytes) = turn.wrap(to, &packet.encode()) {
                    let (port, transport) = (turn.port, turn.transport);
                    effects.push(Effect::ToRelay { ip: generation.ip, port, transport, bytes });
                }
            }
        }
    }

    // Time.

    /// Whether an allocation over a stream is to be tried.
    pub(crate) fn needs_stream(&self, now: Duration) -> bool {
        self.generations.iter().any(|generation| generation.needs_stream(now))
    }

    /// `place` is for the allocation over a stream, where [`Agent::needs_stream`] asks for one.
    pub(crate) fn wake(&mut self, place: Option<Place>, now: Duration, effects: &mut Vec<Effect>) {
        self.gather(place.as_ref(), now, effects);
        self.check(now, effects);
        if let (Some(to), Some(_)) = (self.remote_identity, self.path) {
            if (!self.secured || self.state != Some(IceState::Connected)) && self.next_hello <= now {
                self.next_hello = now + RETRANSMIT;
                self.send(Packet::Hello { to, from: self.identity, reply: false }, effects);
            }
            if self.secured && self.next_media <= now {
                self.next_media = now + MEDIA;
                self.send(Packet::Media { to, from: self.identity }, effects);
            }
        }
        if let Some(Path { theirs, generation, transaction, .. }) = self.path.filter(|_| self.chooses())
            && self.next_consent <= now
        {
            self.next_consent = now + if self.secured { CONSENT } else { CHECK };
            self.send(Packet::Check { to: theirs, from: generation, transaction, chosen: true }, effects);
        }
        for (serial, text) in self.channel.due(now) {
            self.send_data(serial, text, effects);
        }
        let silent = now.saturating_sub(self.heard);
        let next = match self.state {
            Some(IceState::Connected) if silent >= DISCONNECTED_AFTER => Some(IceState::Disconnected),
            Some(IceState::Disconnected) if silent >= FAILED_AFTER => Some(IceState::Failed),
            _ => None,
        };
        if let Some(next) = next {
            self.state = Some(next);
            effects.push(Effect::State(next));
        }
    }

    fn gather(&mut self, place: Option<&Place>, now: Duration, effects: &mut Vec<Effect>) {
        for generation in &mut self.generations {
            let (ip, port) = (generation.ip, generation.port);
            if let Some((transaction, tries, next)) = &mut generation.binding
                && *next <= now
            {
                let bytes = Builder::new(BINDING, *transaction).finish();
                effects.push(Effect::ToRelay { ip, port, transport: Transport::Udp, bytes });
                *tries += 1;
                *next = now + RETRANSMIT * (1 << (*tries).min(3));
                if *tries >= STUN_TRIES {
                    generation.binding = None;
                }
            }
            if generation.needs_stream(now)
                && let Some(place) = place
                && let Some(credential) = &place.turn
            {
                let serial = place.serial.wrapping_mul(1 << 20);
                let port = place.ports[0];
                generation.turns.push(TurnClient::new(Transport::Tcp, port, credential.clone(), serial, now));
            }
            for turn in &mut generation.turns {
                let (port, transport) = (turn.port, turn.transport);
                for bytes in turn.due(now) {
                    effects.push(Effect::ToRelay { ip, port, transport, bytes });
                }
            }
        }
    }

    fn check(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let Some(theirs) = self.remote_generation.filter(|_| !self.offering || self.offered.is_none()) else {
            return;
        };
        let path = self.path;
        let Some(newest) = self.generations.last_mut() else { return };
        let name = newest.name;
        if settled(path, newest, now) {
            return;
        }
        let mut vias = vec![Via::Host];
        vias.extend(
            newest
                .turns
                .iter()
                .enumerate()
                .filter(|(_, turn)| turn.relayed.is_some())
                .map(|(i, _)| Via::Relay(i)),
        );
        for via in vias {
            for (remote, rank) in &self.remotes {
                if newest.pairs.iter().any(|pair| pair.via == via && pair.remote == *remote) {
                    continue;
                }
                let rank = if via == Via::Host { *rank } else { 0 };
                let next = if via == Via::Host { now } else { now.max(newest.born + RELAY_WAIT) };
                self.transaction += 1;
                let transaction = self.transaction;
                newest.pairs.push(Pair {
                    via,
                    remote: *remote,
                    rank,
                    tries: 0,
                    next,
                    transaction,
                    valid: false,
                });
            }
        }
        let mut checks = Vec::new();
        for pair in
            newest.pairs.iter_mut().filter(|pair| !pair.valid && pair.tries < CHECKS && pair.next <= now)
        {
            pair.tries += 1;
            pair.next = now + CHECK;
            checks.push((pair.via, pair.remote, pair.transaction));
        }
        for (via, remote, transaction) in checks {
            let check = Packet::Check { to: theirs, from: name, transaction, chosen: false };
            self.send_by(name, via, remote, check, effects);
        }
    }

    pub(crate) fn timeout(&self, now: Duration) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        let mut add = |at: Duration| next = Some(next.map_or(at, |before| before.min(at)));
        for generation in &self.generations {
            if let Some((_, _, at)) = generation.binding {
                add(at);
            }
            for turn in &generation.turns {
                turn.timeout().into_iter().for_each(&mut add);
            }
            if generation.turns.len() == 1 && generation.turns[0].relayed.is_none() {
                add(generation.born + STREAM_WAIT);
            }
            if (!self.offering || self.offered.is_none()) && !settled(self.path, generation, now) {
                let open = generation.pairs.iter().filter(|pair| !pair.valid && pair.tries < CHECKS);
                open.for_each(|pair| add(pair.next));
            }
        }
        if self.path.is_some() && self.remote_identity.is_some() {
            if !self.secured || self.state != Some(IceState::Connected) {
                add(self.next_hello);
            }
            if self.secured {
                add(self.next_media);
            }
            if self.chooses() {
                add(self.next_consent);
            }
        }
        self.channel.timeout().into_iter().for_each(&mut add);
        match self.state {
            Some(IceState::Connected) => add(self.heard + DISCONNECTED_AFTER),
            Some(IceState::Disconnected) => add(self.heard + FAILED_AFTER),
            _ => {}
        }
        next.map(|at| at.max(now))
    }
}

/// Whether a path was found and a better one had its time to answer.
fn settled(path: Option<Path>, generation: &Generation, now: Duration) -> bool {
    path.is_some_and(|path| path.generation == generation.name) && now >= generation.born + BETTER
}

fn candidate(generation: u64, rank: u32, address: SocketAddrV4) -> String {
    format!("candidate: {generation} {rank} {address}")
}

fn read(sdp: &str) -> Option<(u64, u64)> {
    let (identity, generation) = sdp.strip_prefix("v=0 ")?.split_once(' ')?;
    Some((identity.parse().ok()?, generation.parse().ok()?))
}
