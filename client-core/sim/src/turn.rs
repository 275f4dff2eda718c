//! A participant's allocation at the relay: asks for it with the real messages, binds channels, wraps and unwraps.
//! It refreshes nothing: a simulated call is shorter than the lifetimes of RFC 8656 (300 s for a permission).

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use snug_turn_proto::Transport;

use crate::stun::{self, Builder, Message, Transaction};

/// RFC 8489 §6.2.1, rounded: first wait for an answer, doubled after each.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const TRIES: u32 = 7;
const STREAM_WAIT: Duration = Duration::from_secs(39);
const FIRST_CHANNEL: u16 = 0x4000;

#[derive(Clone, Copy)]
enum Ask {
    Allocate,
    Bind(SocketAddrV4),
}

struct Pending {
    ask: Ask,
    bytes: Vec<u8>,
    tries: u32,
    next: Duration,
}

struct Channel {
    number: u16,
    bound: bool,
}

/// What came from the server.
pub(crate) enum FromTurn {
    Allocated(SocketAddrV4),
    Payload { from: SocketAddrV4, bytes: Vec<u8> },
    Nothing,
}

pub(crate) struct TurnClient {
    pub(crate) transport: Transport,
    /// The local port of its five-tuple.
    pub(crate) port: u16,
    pub(crate) relayed: Option<SocketAddrV4>,
    username: String,
    password: String,
    realm: String,
    nonce: Vec<u8>,
    key: Vec<u8>,
    pending: BTreeMap<Transaction, Pending>,
    channels: BTreeMap<SocketAddrV4, Channel>,
    serial: u64,
}

impl TurnClient {
    /// `serial` makes its transaction ids different from everybody's.
    pub(crate) fn new(
        transport: Transport,
        port: u16,
        (username, password): (String, String),
        serial: u64,
        now: Duration,
    ) -> Self {
        let mut client = Self {
            transport,
            port,
            relayed: None,
            username,
            password,
            realm: String::new(),
            nonce: Vec::new(),
            key: Vec::new(),
            pending: BTreeMap::new(),
            channels: BTreeMap::new(),
            serial,
        };
        client.ask(Ask::Allocate, now);
        client
    }

    fn transaction(&mut self) -> Transaction {
        self.serial += 1;
        let mut transaction = [0xcd; 12];
        transaction[4..].copy_from_slice(&self.serial.to_be_bytes());
        transaction
    }

    fn ask(&mut self, ask: Ask, now: Duration) {
        let transaction = self.transaction();
        let message = match ask {
            Ask::Allocate => {
                Builder::new(stun::ALLOCATE, transaction).put(stun::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
            }
            Ask::Bind(peer) => {
                let next = FIRST_CHANNEL + self.channels.len() as u16;
                let channel = self.channels.entry(peer).or_insert(Channel { number: next, bound: false });
                let [x, y] = channel.number.to_be_bytes();
                Builder::new(stun::CHANNEL_BIND, transaction)
                    .put(stun::CHANNEL_NUMBER, &[x, y, 0, 0])
                    .peer(peer)
            }
        };
        let message = if self.nonce.is_empty() {
            message
        } else {
            message
                .put(stun::USERNAME, self.username.as_bytes())
                .put(stun::REALM, self.realm.as_bytes())
                .put(stun::NONCE, &self.nonce)
                .sign(&self.key)
        };
        let pending = Pending { ask, bytes: message.finish(), tries: 0, next: now };
        self.pending.insert(transaction, pending);
    }

    /// Makes `peer` reachable.
    pub(crate) fn bind(&mut self, peer: SocketAddrV4, now: Duration) {
        if self.relayed.is_some() && !self.channels.contains_key(&peer) {
            self.ask(Ask::Bind(peer), now);
        }
    }

    /// Requests that are due.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Vec<u8>> {
        self.pending.retain(|_, pending| pending.tries < TRIES || pending.next > now);
        let mut due = Vec::new();
        for pending in self.pending.values_mut().filter(|pending| pending.next <= now) {
            due.push(pending.bytes.clone());
            // A stream loses nothing: the answer comes, or never (RFC 8489 §6.2.2).
            (pending.tries, pending.next) = if self.transport.is_stream() {
                (TRIES, now + STREAM_WAIT)
            } else {
                (pending.tries + 1, now + FIRST_WAIT * (1 << pending.tries.min(4)))
            };
        }
        due
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.pending.values().map(|pending| pending.next).min()
    }

    /// The message that carries `payload` to `peer`.
    pub(crate) fn wrap(&mut self, peer: SocketAddrV4, payload: &[u8]) -> Option<Vec<u8>> {
        self.relayed?;
        match self.channels.get(&peer) {
            Some(Channel { number, bound: true }) => Some(stun::channel_data(*number, payload)),
            _ => {
                let transaction = self.transaction();
                let message = Builder::new(stun::SEND_INDICATION, transaction).peer(peer);
                Some(message.put(stun::DATA, payload).finish())
            }
        }
    }

    pub(crate) fn receive(&mut self, bytes: &[u8], now: Duration) -> FromTurn {
        if let Some((number, payload)) = stun::read_channel_data(bytes) {
            let from = self.channels.iter().find(|(_, channel)| channel.number == number);
            return from.map_or(FromTurn::Nothing, |(from, _)| FromTurn::Payload {
                from: *from,
                bytes: payload.to_vec(),
            });
        }
        let Some(message) = Message::parse(bytes) else { return FromTurn::Nothing };
        if message.is_data() {
            return match (message.peer(), message.get(stun::DATA)) {
                (Some(from), Some(bytes)) => FromTurn::Payload { from, bytes: bytes.to_vec() },
                _ => FromTurn::Nothing,
            };
        }
        let Some(pending) = self.pending.remove(&message.transaction) else { return FromTurn::Nothing };
        match (message.error(), pending.ask) {
            // The first request has no credential (401), and a nonce may grow old (438).
            (Some(401 | 438), ask) if pending.tries <= TRIES => {
                let (Some(realm), Some(nonce)) = (message.text(stun::REALM), message.get(stun::NONCE)) else {
                    return FromTurn::Nothing;
                };
                // Asked with a credential and refused: the account has no seat any more.
                if !self.nonce.is_empty() && message.error() == Some(401) {
                    return FromTurn::Nothing;
                }
                self.key = stun::key(&self.username, &realm, &self.password);
                self.realm = realm;
                self.nonce = nonce.to_vec();
                self.ask(ask, now);
                FromTurn::Nothing
            }
            (None, Ask::Allocate) if message.is_success() => {
                self.relayed = message.relayed();
                self.relayed.map_or(FromTurn::Nothing, FromTurn::Allocated)
            }
            (None, Ask::Bind(peer)) if message.is_success() => {
                if let Some(channel) = self.channels.get_mut(&peer) {
                    channel.bound = true;
                }
                FromTurn::Nothing
            }
            _ => FromTurn::Nothing,
        }
    }
}
