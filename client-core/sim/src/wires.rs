//! What lies between participants and relay: lines with delay, loss and rate, NATs, and streams that lose nothing but may die.
//! It never looks into what it carries.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use snug_room_proto::{ConnectionId, Departure, Input as RoomInput};
use snug_turn_proto::{FiveTuple, Transport};

use crate::dice::Dice;
use crate::nat::Nat;
use crate::packet::Packet;
use crate::plan::Person;
use crate::relay;
use crate::world::{Event, World};

/// A datagram waits at most this long for its uplink.
const QUEUE: Duration = Duration::from_millis(400);
/// Part of the datagrams that arrive twice.
const TWICE: f64 = 0.002;
/// How often a stream tries anew whose path is down.
const STREAM_RETRY: Duration = Duration::from_millis(500);
/// Frames towards a client that may wait, as in the relay's outbox.
const OUTBOX: usize = 256;
/// The relay's slow-reader code.
const SLOW_READER: u16 = 4003;

/// A household's line with its NAT.
pub(crate) struct Line {
    pub(crate) nat: Nat,
    delay: Duration,
    jitter: Duration,
    loss: f64,
    uplink_bps: u64,
    busy_until: Duration,
}

impl Line {
    pub(crate) fn new(person: &Person, index: usize) -> Self {
        let public = Ipv4Addr::new(93, 184, index as u8, 1);
        Self {
            nat: Nat::new(person.nat, public),
            delay: person.delay,
            jitter: person.jitter,
            loss: person.loss,
            uplink_bps: person.uplink_bps,
            busy_until: Duration::ZERO,
        }
    }

    fn crossing(&self, dice: &mut Dice) -> Duration {
        dice.between(self.delay, self.delay + self.jitter)
    }

    /// Time that a datagram of `bytes` waits and takes; `None` when the queue is full.
    fn uplink(&mut self, bytes: u64, now: Duration) -> Option<Duration> {
        let from = self.busy_until.max(now);
        if from - now > QUEUE {
            return None;
        }
        self.busy_until = from + Duration::from_micros(bytes * 8_000_000 / self.uplink_bps.max(1));
        Some(self.busy_until - now)
    }
}

/// What a datagram carries.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Packet(Packet),
    /// To or from the relay's TURN server.
    Bytes(Vec<u8>),
}

impl Body {
    fn length(&self) -> u64 {
        match self {
            Self::Packet(packet) => packet.length(),
            // A relayed packet is at its full length inside; what is small is a request.
            Self::Bytes(bytes) => bytes.len() as u64 + 60,
        }
    }
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Messages; the number of the client's attempt.
    Signaling(u64),
    /// The TURN server, from this local port.
    Turn(u16),
}

#[derive(Debug)]
pub(crate) enum Item {
    Text(String),
    Bytes(Vec<u8>),
    Close(u16),
}

pub(crate) struct Stream {
    pub(crate) client: usize,
    pub(crate) purpose: Purpose,
    /// As the relay sees it.
    pub(crate) address: SocketAddrV4,
    ip: Ipv4Addr,
    /// It survives a change of address, and nobody answers for a dead process.
    quic: bool,
    /// The relay that it was opened to.
    life: u64,
    up: VecDeque<(Duration, Item)>,
    down: VecDeque<(Duration, Item)>,
    over: bool,
}

impl World {
    /// A datagram of a participant.
    pub(crate) fn send_datagram(&mut self, who: usize, from: SocketAddrV4, to: SocketAddrV4, body: Body) {
        let now = self.now;
        let client = &self.clients[who];
        if !client.is_well() || client.ip != *from.ip() {
            return;
        }
        let at = client.line;
        self.counts.datagrams += 1;
        if to.ip().is_private() {
            let (network, octets) = (from.ip().octets()[1], to.ip().octets());
            if octets[1] == network {
                self.after(Duration::from_millis(1), Event::Inside { to, from, body });
            }
            return;
        }
        let line = &mut self.lines[at];
        let Some(wait) = line.uplink(body.length(), now) else { return };
        let Some(outside) = line.nat.outbound(from, to, now) else { return };
        let way = wait + line.crossing(&mut self.dice);
        if self.dice.chance(line.loss) {
            return;
        }
        self.carry(way, outside, to, body);
    }

    /// A datagram from outside: across the far line, if there is one.
    fn carry(&mut self, way: Duration, from: SocketAddrV4, to: SocketAddrV4, body: Body) {
        let copies = if self.dice.chance(TWICE) { 2 } else { 1 };
        for _ in 0..copies {
            let line = self.lines.iter().position(|line| line.nat.public == *to.ip());
            let mut way = way;
            if let Some(line) = line {
                let line = &self.lines[line];
                way += line.crossing(&mut self.dice);
                if self.dice.chance(line.loss) {
                    continue;
                }
            }
            self.after(way, Event::Outside { to, from, body: body.clone() });
        }
    }

    /// A datagram from one of the relay's ports.
    pub(crate) fn send_from_relay(&mut self, from: SocketAddrV4, to: SocketAddrV4, bytes: Vec<u8>) {
        self.carry(Duration::from_millis(1), from, to, Body::Bytes(bytes));
    }

    /// A relayed packet as it leaves the relay: a peer elsewhere knows nothing of TURN.
    pub(crate) fn send_to_peer(&mut self, from: SocketAddrV4, to: SocketAddrV4, bytes: &[u8]) {
        if let Some(packet) = Packet::decode(bytes) {
            self.carry(Duration::from_millis(1), from, to, Body::Packet(packet));
        }
    }

    /// A datagram reaches a public address.
    pub(crate) fn on_outside(&mut self, to: SocketAddrV4, from: SocketAddrV4, body: Body) {
        let now = self.now;
        if to.ip() == relay::ADDRESS.ip() {
            if !self.relay.up {
                return;
            }
            match body {
                Body::Bytes(bytes) if to == relay::ADDRESS => {
                    let tuple =
                        FiveTuple { transport: Transport::Udp, client: from.into(), server: to.into() };
                    self.relay.take_from_client(&tuple, &bytes, now);
                }
                Body::Packet(packet) => self.relay.take_from_peer(to, from, &packet.encode(), now),
                Body::Bytes(_) => {}
            }
            return self.drain_relay();
        }
        let Some(line) = self.lines.iter_mut().find(|line| line.nat.public == *to.ip()) else { return };
        if let Some(inside) = line.nat.inbound(to.port(), from, now) {
            self.on_inside(inside, from, body);
        }
    }

    /// A datagram reaches a machine.
    pub(crate) fn on_inside(&mut self, to: SocketAddrV4, from: SocketAddrV4, body: Body) {
        let Some(who) = self.clients.iter().position(|client| client.ip == *to.ip()) else { return };
        if !self.clients[who].is_well() {
            return;
        }
        match body {
            Body::Packet(packet) => self.agent_receives(who, to.port(), from, packet),
            Body::Bytes(bytes) => self.agent_hears_relay(who, to.port(), &bytes),
        }
    }

    // Streams.

    /// A number that has not been a stream's.
    pub(crate) fn open_stream(&mut self, who: usize, purpose: Purpose) -> u64 {
        self.next_stream += 1;
        let client = &self.clients[who];
        let port = 40_000 + (self.next_stream % 20_000) as u16;
        let stream = Stream {
            client: who,
            purpose,
            address: SocketAddrV4::new(self.lines[client.line].nat.public, port),
            ip: client.ip,
            quic: client.quic && matches!(purpose, Purpose::Signaling(_)),
            life: self.relay.life,
            up: VecDeque::new(),
            down: VecDeque::new(),
            over: false,
        };
        self.streams.insert(self.next_stream, stream);
        self.next_stream
    }

    pub(crate) fn stream_up(&mut self, id: u64, item: Item) {
        let Some(line) = self.streams.get(&id).map(|stream| self.clients[stream.client].line) else { return };
        let way = self.stream_way(line);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let at = stream.up.back().map_or(way, |(last, _)| way.max(*last));
        stream.up.push_back((at, item));
        if stream.up.len() == 1 {
            self.at(at, Event::StreamUp(id));
        }
    }

    pub(crate) fn stream_down(&mut self, id: u64, item: Item) {
        let Some(line) = self.streams.get(&id).map(|stream| self.clients[stream.client].line) else { return };
        let way = self.stream_way(line);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.over {
            return;
        }
        stream.over = matches!(item, Item::Close(_));
        let slow = stream.down.len() >= OUTBOX;
        let at = stream.down.back().map_or(way, |(last, _)| way.max(*last));
        stream.down.push_back((at, item));
        if stream.down.len() == 1 {
            self.at(at, Event::StreamDown(id));
        }
        if slow {
            self.relay_loses(id);
            self.stream_down(id, Item::Close(SLOW_READER));
        }
    }

    /// When something that is sent at this moment arrives: what is lost on the way is sent again.
    fn stream_way(&mut self, line: usize) -> Duration {
        let line = &self.lines[line];
        let way = line.crossing(&mut self.dice);
        let lost = self.dice.chance(line.loss);
        self.now + if lost { way + Duration::from_millis(200) + line.delay * 2 } else { way }
    }

    /// The state of a stream's path: whether anything passes, and whether it never will again.
    fn path_of(&self, stream: &Stream) -> (bool, bool) {
        let client = &self.clients[stream.client];
        let gone = client.gone || (!stream.quic && client.ip != stream.ip);
        (client.is_well() && !gone, gone)
    }

    pub(crate) fn on_stream_up(&mut self, id: u64) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (open, gone) = self.path_of(stream);
        if gone {
            // What a dying process had sent still arrives; a machine without its address sends nothing.
            if !self.clients[stream.client].gone {
                return;
            }
        } else if !open || (!self.relay.up && !self.relay_answers) {
            return self.after(STREAM_RETRY, Event::StreamUp(id));
        }
        if !self.relay.up || self.relay.life != stream.life {
            // Another process, or none: it knows nothing of this connection.
            if !stream.quic {
                self.stream_down(id, Item::Close(0));
            }
            return;
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some((_, item)) = stream.up.pop_front() else { return };
        if let Some((at, _)) = stream.up.front() {
            let at = *at;
            self.at(at.max(self.now), Event::StreamUp(id));
        }
        let Some(stream) = self.streams.get(&id) else { return };
        let tuple = tuple_of(stream);
        match (item, stream.purpose) {
            (_, Purpose::Signaling(_)) if stream.over => {}
            (Item::Text(text), _) => self.relay.frame(ConnectionId(id), &text, self.now),
            (Item::Bytes(bytes), _) => self.relay.take_from_client(&tuple, &bytes, self.now),
            (Item::Close(code), Purpose::Signaling(_)) => {
                let departure = match code {
                    1000 => Departure::Leaving,
                    1001 => Departure::GoingAway,
                    _ => Departure::Lost,
                };
                let input = RoomInput::Disconnected { connection: ConnectionId(id), departure };
                self.relay.input(input, self.now);
                self.streams.remove(&id);
            }
            (Item::Close(_), Purpose::Turn(_)) => {
                self.relay.stream_gone(tuple, self.now);
                self.streams.remove(&id);
            }
        }
        self.drain_relay();
    }

    pub(crate) fn on_stream_down(&mut self, id: u64) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (open, gone) = self.path_of(stream);
        if gone {
            return;
        }
        if !open {
            return self.after(STREAM_RETRY, Event::StreamDown(id));
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some((_, item)) = stream.down.pop_front() else { return };
        if let Some((at, _)) = stream.down.front() {
            let at = *at;
            self.at(at.max(self.now), Event::StreamDown(id));
        }
        let Some(stream) = self.streams.get(&id) else { return };
        let (who, purpose) = (stream.client, stream.purpose);
        match (item, purpose) {
            (Item::Bytes(bytes), Purpose::Turn(port)) => self.agent_hears_relay(who, port, &bytes),
            (Item::Text(text), Purpose::Signaling(attempt)) => self.client_hears(who, attempt, &text),
            (Item::Close(code), Purpose::Signaling(attempt)) => {
                self.streams.remove(&id);
                self.client_loses(who, attempt, (code != 0).then_some(code));
            }
            (Item::Close(_), Purpose::Turn(_)) => {
                self.streams.remove(&id);
            }
            _ => {}
        }
    }

    /// The relay's system sees that the other end is gone.
    pub(crate) fn relay_loses(&mut self, id: u64) {
        let Some(stream) = self.streams.get(&id).filter(|stream| stream.life == self.relay.life) else {
            return;
        };
        match stream.purpose {
            Purpose::Signaling(_) => {
                let input =
                    RoomInput::Disconnected { connection: ConnectionId(id), departure: Departure::Lost };
                self.relay.input(input, self.now);
            }
            Purpose::Turn(_) => self.relay.stream_gone(tuple_of(stream), self.now),
        }
        self.drain_relay();
    }

    /// Streams of a client, by number.
    pub(crate) fn streams_of(&self, who: usize) -> Vec<u64> {
        self.streams.iter().filter(|(_, stream)| stream.client == who).map(|(id, _)| *id).collect()
    }

    /// Whether the far end of a stream would say that its process died.
    pub(crate) fn says_goodbye(&self, id: u64) -> bool {
        self.streams.get(&id).is_some_and(|stream| !stream.quic && !self.path_of(stream).1)
    }
}

fn tuple_of(stream: &Stream) -> FiveTuple {
    FiveTuple { transport: Transport::Tcp, client: stream.address.into(), server: relay::ADDRESS.into() }
}
