//! A server in a test, with a clock that the test turns and sockets that are a list, and clients that speak to it in bytes.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use snug_turn_proto::{
    Account, DropReason, FiveTuple, Input, Now, Output, PeerPolicy, Refusal, RelayAddresses, RelaySocketId,
    Secret, Target, Transport, TurnConfig, TurnServer, Verdict,
};

use crate::stun::{self, Builder, Integrity, Message, attribute as a};

/// The clock starts here, in seconds since 1970: 2026-11-23.
pub const START: u64 = 1_795_392_000;
pub const REALM: &str = "snug";
pub const SECRET: &[u8] = b"north";

pub const SERVER_V4: &str = "198.41.0.4:3478";
pub const SERVER_V6: &str = "[2a02:1::9]:3478";
/// Peers elsewhere.
pub const PEER: &str = "93.184.216.34:5000";
pub const OTHER_PEER: &str = "93.184.216.35:5000";
pub const PEER_V6: &str = "[2a00:1450::5]:5000";

pub fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

pub fn account(group: &str, owner: &str) -> Account {
    Account { group: group.into(), owner: owner.into() }
}

/// A server on one public address of each family.
pub fn config() -> TurnConfig {
    let own = vec![at(SERVER_V4).ip(), at(SERVER_V6).ip()];
    TurnConfig {
        realm: REALM.into(),
        secrets: vec![Secret::new(SECRET.to_vec())],
        relay_ports: 10_000..=10_999,
        addresses: RelayAddresses { external: Vec::new(), detected: own.clone(), local: own.clone() },
        policy: PeerPolicy { own, listeners: vec![3478, 5349], ..PeerPolicy::default() },
        ..TurnConfig::default()
    }
}

pub struct World {
    pub server: TurnServer,
    pub now: Now,
    /// Sockets that the server had opened and not closed.
    pub sockets: BTreeMap<RelaySocketId, SocketAddr>,
    /// While true, no socket can be bound.
    pub ports_are_taken: bool,
    /// How often a socket was asked for.
    pub asked_to_open: u32,
    pub replies: VecDeque<(FiveTuple, Vec<u8>)>,
    pub closed: Vec<FiveTuple>,
    transactions: u64,
}

/// A client: where it is and what it knows.
#[derive(Debug, Clone)]
pub struct Client {
    pub tuple: FiveTuple,
    pub username: String,
    pub secret: Vec<u8>,
    pub nonce: String,
    pub integrity: Integrity,
    /// The key is made with SHA-256, as PASSWORD-ALGORITHMS offered.
    pub sha256_key: bool,
}

impl Client {
    pub fn new(transport: Transport, client: &str, server: &str, group: &str, owner: &str) -> Self {
        Self {
            tuple: FiveTuple { transport, client: at(client), server: at(server) },
            username: format!("{}:{group}.{owner}", START + 3600),
            secret: SECRET.to_vec(),
            nonce: String::new(),
            integrity: Integrity::Sha1,
            sha256_key: false,
        }
    }

    pub fn udp(client: &str, group: &str, owner: &str) -> Self {
        let server = if at(client).is_ipv4() { SERVER_V4 } else { SERVER_V6 };
        Self::new(Transport::Udp, client, server, group, owner)
    }

    pub fn tcp(client: &str, group: &str, owner: &str) -> Self {
        let server = if at(client).is_ipv4() { SERVER_V4 } else { SERVER_V6 };
        Self::new(Transport::Tcp, client, server, group, owner)
    }

    pub fn key(&self) -> Vec<u8> {
        let password = stun::password(&self.secret, &self.username);
        stun::long_term_key(&self.username, REALM, &password, self.sha256_key)
    }

    /// Adds the credential and the MAC.
    pub fn sign(&self, message: Builder) -> Builder {
        let message = message
            .put(a::USERNAME, self.username.as_bytes())
            .put(a::REALM, REALM.as_bytes())
            .put(a::NONCE, self.nonce.as_bytes());
        let message = if self.sha256_key {
            message
                .put(a::PASSWORD_ALGORITHM, &[0, 2, 0, 0])
                .put(a::PASSWORD_ALGORITHMS, &[0, 2, 0, 0, 0, 1, 0, 0])
        } else {
            message
        };
        message.sign(&self.key(), self.integrity)
    }
}

/// What a packet came to, as a socket would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    ToClient(FiveTuple, Vec<u8>),
    ToPeer(RelaySocketId, SocketAddr, Vec<u8>),
}

impl World {
    pub fn new() -> Self {
        Self::with(config())
    }

    pub fn with(config: TurnConfig) -> Self {
        let now = Now { at: Instant::now(), unix: START };
        Self {
            server: TurnServer::new(config, [7; 32], now),
            now,
            sockets: BTreeMap::new(),
            ports_are_taken: false,
            asked_to_open: 0,
            replies: VecDeque::new(),
            closed: Vec::new(),
            transactions: 0,
        }
    }

    pub fn input(&mut self, input: Input) {
        self.server.handle_input(input, self.now);
        self.drain();
    }

    pub fn admit(&mut self, group: &str, owner: &str) {
        self.input(Input::Admit(account(group, owner)));
    }

    /// An admitted client over UDP with an allocation, and its relayed transport address.
    pub fn allocated(&mut self, address: &str, group: &str, owner: &str) -> (Client, SocketAddr) {
        let client = Client::udp(address, group, owner);
        self.allocate(client)
    }

    /// Admits `client` and allocates for it.
    pub fn allocate(&mut self, mut client: Client) -> (Client, SocketAddr) {
        let (_, name) = client.username.split_once(':').expect("a username");
        let (group, owner) = name.split_once('.').expect("an account");
        self.input(Input::Admit(account(group, owner)));
        let answer = self.ask(&mut client, stun::ALLOCATE, |message| message.transport(17));
        assert_eq!(answer.error(), None);
        let relayed = answer.address(a::XOR_RELAYED_ADDRESS).expect("a relayed transport address");
        (client, relayed)
    }

    /// Seconds pass and the server is woken whenever it asked for it.
    pub fn pass(&mut self, seconds: u64) {
        let end = self.now.at + Duration::from_secs(seconds);
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= end) {
            self.set_time(due.max(self.now.at));
            self.server.handle_timeout(self.now);
            self.drain();
            assert!(
                self.server.poll_timeout().is_none_or(|next| next > self.now.at),
                "a timer is due again at once"
            );
        }
        self.set_time(end);
    }

    /// Seconds pass and nobody wakes the server.
    pub fn sleep(&mut self, seconds: u64) {
        self.set_time(self.now.at + Duration::from_secs(seconds));
    }

    fn set_time(&mut self, to: Instant) {
        // Both clocks together; whole seconds are enough for credentials.
        let passed = to - self.now.at;
        self.now = Now { at: to, unix: self.now.unix + passed.as_secs() };
    }

    pub fn transaction(&mut self) -> [u8; 12] {
        self.transactions += 1;
        let mut transaction = [0xab; 12];
        transaction[4..].copy_from_slice(&self.transactions.to_be_bytes());
        transaction
    }

    pub fn request(&mut self, method: u16) -> Builder {
        Builder::new(stun::REQUEST, method, self.transaction())
    }

    /// Hands in bytes from a client. The answer, if there is one.
    pub fn exchange(&mut self, tuple: FiveTuple, packet: &[u8]) -> Option<Message> {
        let verdict = self.server.handle_client(&tuple, packet, self.now);
        assert!(!matches!(verdict, Verdict::Forward(_)), "a request is not passed on");
        self.drain();
        let (to, bytes) = self.replies.pop_front()?;
        assert_eq!(to, tuple, "the answer goes to whom asked");
        assert!(self.replies.is_empty(), "one answer");
        let answer = Message::parse(&bytes).expect("an answer can be read");
        assert_eq!(answer.transaction[..], packet[8..20]);
        Some(answer)
    }

    /// A signed request; asks for a nonce when it has none or an old one. The answer's MAC is checked.
    pub fn ask(&mut self, client: &mut Client, method: u16, fill: impl Fn(Builder) -> Builder) -> Message {
        for _ in 0..2 {
            if client.nonce.is_empty() {
                let bare = self.request(stun::ALLOCATE).transport(17).finish();
                let challenge = self.exchange(client.tuple, &bare).expect("a challenge");
                assert_eq!(challenge.error(), Some(401));
                client.nonce = challenge.text(a::NONCE).expect("a nonce");
            }
            let request = fill(self.request(method));
            let request = client.sign(request).finish();
            let answer = self.exchange(client.tuple, &request).expect("an answer");
            match answer.error() {
                Some(438) => client.nonce = answer.text(a::NONCE).expect("a nonce"),
                Some(401) => return answer,
                _ => {
                    // A request that is broken before its credentials could be checked is answered without a MAC.
                    let signed = answer.is_signed_by(&client.key(), client.integrity);
                    assert!(signed || answer.error() == Some(400), "{answer:?} is not signed");
                    return answer;
                }
            }
        }
        panic!("the nonce is stale again and again");
    }

    /// The error of a signed request, 0 for success.
    pub fn code(&mut self, client: &mut Client, method: u16, fill: impl Fn(Builder) -> Builder) -> u16 {
        self.ask(client, method, fill).error().unwrap_or(0)
    }

    pub fn permit(&mut self, client: &mut Client, peer: SocketAddr) -> u16 {
        self.code(client, stun::CREATE_PERMISSION, |message| message.peer(peer))
    }

    pub fn bind(&mut self, client: &mut Client, number: u16, peer: SocketAddr) -> u16 {
        self.code(client, stun::CHANNEL_BIND, |message| message.channel(number).peer(peer))
    }

    pub fn refresh(&mut self, client: &mut Client, lifetime: u32) -> u16 {
        self.code(client, stun::REFRESH, |message| message.lifetime(lifetime))
    }

    /// A packet of a client that is to be passed on.
    pub fn client_says(&mut self, tuple: FiveTuple, packet: &[u8]) -> Option<Sent> {
        let verdict = self.server.handle_client(&tuple, packet, self.now);
        self.passed(verdict, packet)
    }

    pub fn send(&mut self, client: &Client, peer: SocketAddr, payload: &[u8]) -> Option<Sent> {
        let transaction = self.transaction();
        let packet =
            Builder::new(stun::INDICATION, stun::SEND, transaction).peer(peer).put(a::DATA, payload).finish();
        self.client_says(client.tuple, &packet)
    }

    pub fn channel_data(&mut self, client: &Client, number: u16, payload: &[u8]) -> Option<Sent> {
        self.client_says(client.tuple, &stun::channel_data(number, payload))
    }

    pub fn socket_receives(
        &mut self,
        relay: RelaySocketId,
        peer: SocketAddr,
        payload: &[u8],
    ) -> Option<Sent> {
        let verdict = self.server.handle_peer(relay, peer, payload, self.now);
        self.passed(verdict, payload)
    }

    /// A packet of a peer to a relayed transport address that has a socket.
    pub fn peer_says(&mut self, relayed: SocketAddr, peer: SocketAddr, payload: &[u8]) -> Option<Sent> {
        let (relay, _) = self.sockets.iter().find(|(_, bound)| **bound == relayed).expect("a socket");
        self.socket_receives(*relay, peer, payload)
    }

    fn passed(&mut self, verdict: Verdict, packet: &[u8]) -> Option<Sent> {
        assert_eq!(self.server.poll_output(), None, "what is passed on has no outputs");
        match verdict {
            Verdict::Handled => panic!("it was answered"),
            Verdict::Dropped => None,
            Verdict::Forward(forward) => {
                let mut bytes = forward.head.to_vec();
                bytes.extend(&packet[forward.body.clone()]);
                bytes.extend(vec![0; usize::from(forward.pad)]);
                Some(match forward.target {
                    Target::Client(tuple) => Sent::ToClient(tuple, bytes),
                    Target::Peer { relay, peer } => Sent::ToPeer(relay, peer, bytes),
                })
            }
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Reply { to, message } => self.replies.push_back((to, message)),
                Output::OpenRelaySocket { relay, bind } => {
                    self.asked_to_open += 1;
                    let input = if self.ports_are_taken {
                        Input::RelaySocketFailed(relay)
                    } else {
                        assert_eq!(self.sockets.insert(relay, bind), None, "it is open already");
                        Input::RelaySocketOpened(relay)
                    };
                    self.server.handle_input(input, self.now);
                }
                Output::CloseRelaySocket { relay } => {
                    assert!(self.sockets.remove(&relay).is_some(), "it was not open");
                }
                Output::CloseClient { to } => self.closed.push(to),
            }
        }
        assert_eq!(self.server.stats().relay_sockets as usize, self.sockets.len());
    }

    pub fn allocations(&self) -> u32 {
        self.server.stats().allocations
    }

    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.server.stats().refusals[refusal as usize]
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.server.stats().dropped[reason as usize]
    }
}

/// The payload of ChannelData for `tuple` on channel `number`.
pub fn as_channel_data(sent: Option<Sent>, tuple: FiveTuple, number: u16) -> Vec<u8> {
    let Some(Sent::ToClient(to, bytes)) = sent else { panic!("not sent to a client: {sent:?}") };
    assert_eq!(to, tuple);
    assert_eq!(bytes[..2], number.to_be_bytes());
    let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    let padded = if tuple.transport.is_stream() { length.next_multiple_of(4) } else { length };
    assert_eq!(bytes.len(), 4 + padded);
    bytes[4..4 + length].to_vec()
}

/// Peer and payload of a Data indication for `tuple`.
pub fn as_data_indication(sent: Option<Sent>, tuple: FiveTuple) -> (SocketAddr, Vec<u8>) {
    let Some(Sent::ToClient(to, bytes)) = sent else { panic!("not sent to a client: {sent:?}") };
    assert_eq!(to, tuple);
    let message = Message::parse(&bytes).expect("a message");
    assert_eq!((message.class, message.method), (stun::INDICATION, stun::DATA_INDICATION));
    let peer = message.address(a::XOR_PEER_ADDRESS).expect("a peer");
    (peer, message.get(a::DATA).expect("a payload").to_vec())
}

/// Payload that goes to `peer`.
pub fn as_datagram(sent: Option<Sent>, to: SocketAddr) -> Vec<u8> {
    let Some(Sent::ToPeer(_, peer, bytes)) = sent else { panic!("not sent to a peer: {sent:?}") };
    assert_eq!(peer, to);
    bytes
}
