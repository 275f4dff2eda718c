//! A server under arbitrary operations, and a small model beside it that says what may pass. The operations are read from bytes, so that a property
//! test and a fuzzer can both make them up.
//!
//! Whatever comes: no panic; nothing passes to another group, to a denied peer, or without a permission younger than five minutes; what has all
//! of that does pass; quotas hold; the counters are what the outputs add up to; timers are those of the model.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use snug_turn_proto::{
    Account, DropReason, FiveTuple, Forward, Input, Now, Output, PeerPolicy, Quota, Quotas, RelayAddresses,
    RelaySocketId, Secret, Target, Transport, TurnConfig, TurnServer, Verdict,
};

use crate::oracle;
use crate::stun::{self, Builder, Integrity, Message, attribute as a};

const START: u64 = 1_795_392_000;
const REALM: &str = "snug";
const SECRETS: [&[u8]; 2] = [b"north", b"east"];
const ACCOUNTS: [(&str, &str); 4] = [("room", "a"), ("room", "b"), ("other", "c"), ("other", "d")];
const LISTENERS: [u16; 2] = [3478, 5349];
const PERMISSION: Duration = Duration::from_secs(300);
const CHANNEL: Duration = Duration::from_secs(600);
const MOST: usize = 32;
/// Far more than any input can cause.
const OUTPUTS_PER_INPUT: usize = 1000;

/// Choices, one byte each; zeros at the end.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.next()) % limit
    }
}

/// Peer and payload of a packet that a client sends; none when nothing says where it goes.
type Expected = Option<(SocketAddr, Vec<u8>)>;

struct ModelAllocation {
    account: usize,
    transaction: [u8; 12],
    relayed: [Option<SocketAddr>; 2],
    expires: Instant,
    /// When each was granted last.
    permissions: BTreeMap<IpAddr, Instant>,
    channels: BTreeMap<u16, (SocketAddr, Instant)>,
}

/// A leaky bucket: what was passed and has not drained at the rate yet.
#[derive(Default)]
struct Bucket {
    level: f64,
    at: Option<Instant>,
}

/// What a well-formed request asks for.
#[derive(Clone)]
struct Request {
    client: usize,
    account: usize,
    method: u16,
    transaction: [u8; 12],
    peers: Vec<SocketAddr>,
    number: u16,
    /// Whether the credential is one that the server has to accept.
    good: bool,
    expired: bool,
    packet: Vec<u8>,
    key: Vec<u8>,
    integrity: Integrity,
}

pub struct Model {
    server: TurnServer,
    now: Now,
    clients: Vec<(FiveTuple, usize)>,
    nonces: Vec<String>,
    admitted: [bool; ACCOUNTS.len()],
    secrets: Vec<usize>,
    allocations: BTreeMap<usize, ModelAllocation>,
    /// Whose they are, and of which family.
    sockets: BTreeMap<RelaySocketId, (usize, usize)>,
    ports_are_taken: bool,
    draining: bool,
    quotas: Quotas,
    own: Vec<IpAddr>,
    allowed: Vec<(IpAddr, IpAddr)>,
    ports: std::ops::RangeInclusive<u16>,
    buckets: BTreeMap<String, Bucket>,
    transactions: u64,
    last: Option<Request>,
    replies: Vec<(FiveTuple, Vec<u8>)>,
    closed: Vec<FiveTuple>,
    /// Packets that were passed on: from clients, to clients, in process.
    passed: [u64; 3],
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn family(address: SocketAddr) -> usize {
    usize::from(address.is_ipv6())
}

/// IPv4 in IPv6 where that is only a spelling.
fn plain(address: SocketAddr) -> SocketAddr {
    let number = oracle::number(address.ip());
    match oracle::inside(number) {
        Some(v4) if matches!(number >> 32, 0 | 0xffff) => {
            SocketAddr::new(IpAddr::V4(v4.into()), address.port())
        }
        _ => SocketAddr::new(address.ip(), address.port()),
    }
}

/// An IPv4 /24 or an IPv6 /56, as text.
fn source(client: SocketAddr) -> String {
    match client.ip() {
        IpAddr::V4(v4) => (u32::from(v4) >> 8).to_string(),
        IpAddr::V6(v6) => format!("{:x}", u128::from(v6) >> 72),
    }
}

/// Runs a whole sequence.
pub fn run(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut model = Model::new(choices.next());
    while !choices.0.is_empty() {
        model.step(&mut choices);
        model.check();
    }
    model.end();
}

impl Model {
    fn new(kind: u8) -> Self {
        static BEGIN: OnceLock<Instant> = OnceLock::new();
        let at = *BEGIN.get_or_init(Instant::now);
        let now = Now { at, unix: START };
        let tight_numbers = kind & 1 != 0;
        let tight_rates = kind & 2 != 0;
        let quota = |allocations, megabits| Quota {
            allocations: if tight_numbers { allocations } else { 100 },
            megabits: if tight_rates { megabits } else { 0 },
        };
        let quotas = Quotas {
            per_owner: quota(2, 1),
            per_group: quota(3, 2),
            per_source: quota(3, 1),
            server: quota(5, 3),
        };
        let ports = if kind & 4 != 0 { 10_000..=10_002 } else { 10_000..=10_015 };
        let external = kind & 16 != 0;
        let (v4, v6) = (ip(if external { "192.168.7.2" } else { "198.41.0.4" }), ip("2a02:1::9"));
        let mut own = vec![v4, v6];
        let mut addresses =
            RelayAddresses { external: Vec::new(), detected: own.clone(), local: own.clone() };
        if external {
            addresses.external.push(ip("198.41.0.4"));
            own.push(ip("198.41.0.4"));
        }
        if kind & 32 != 0 {
            addresses.detected.retain(IpAddr::is_ipv4);
        }
        let (allow, allowed) = if kind & 8 != 0 {
            (
                vec!["192.168.7.0/24".parse().expect("a network")],
                vec![(ip("192.168.7.0"), ip("192.168.7.255"))],
            )
        } else {
            (Vec::new(), Vec::new())
        };
        let config = TurnConfig {
            realm: REALM.into(),
            secrets: vec![Secret::new(SECRETS[0].to_vec())],
            relay_ports: ports.clone(),
            addresses,
            relay_sockets: 10_001,
            policy: PeerPolicy {
                allow,
                own: own.clone(),
                listeners: LISTENERS.to_vec(),
                ..PeerPolicy::default()
            },
            quotas,
        };
        let reached = [SocketAddr::new(v4, 3478), SocketAddr::new(v6, 3478), SocketAddr::new(v6, 5349)];
        let clients = [
            (Transport::Udp, "81.2.69.142:4000", 0, 0),
            (Transport::Udp, "81.2.69.142:4001", 0, 1),
            (Transport::Tcp, "81.2.70.1:4000", 0, 1),
            (Transport::Tls, "[2a00:1::7]:4000", 2, 0),
            (Transport::Udp, "[2a00:1::8]:4000", 1, 2),
            (Transport::Udp, "81.2.71.1:4000", 0, 3),
            (Transport::Tcp, "81.2.69.142:4000", 0, 2),
        ];
        let clients: Vec<_> = clients
            .into_iter()
            .map(|(transport, client, server, account)| {
                let client = client.parse().expect("an address with a port");
                (FiveTuple { transport, client, server: reached[server] }, account)
            })
            .collect();
        let mut model = Self {
            server: TurnServer::new(config, [kind; 32], now),
            now,
            nonces: vec![String::new(); clients.len()],
            clients,
            admitted: [false; ACCOUNTS.len()],
            secrets: vec![0],
            allocations: BTreeMap::new(),
            sockets: BTreeMap::new(),
            ports_are_taken: false,
            draining: false,
            quotas,
            own,
            allowed,
            ports,
            buckets: BTreeMap::new(),
            transactions: 0,
            last: None,
            replies: Vec::new(),
            closed: Vec::new(),
            passed: [0; 3],
        };
        for account in 0..ACCOUNTS.len() {
            model.admit(account, true);
        }
        model
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        match choices.next() % 64 {
            0..=7 => self.connect(choices),
            8..=10 => {
                let request = self.allocate(choices);
                self.ask(request);
            }
            11..=13 => {
                let request = self.refresh(choices);
                self.ask(request);
            }
            14..=17 => {
                let request = self.create_permission(choices);
                self.ask(request);
            }
            18..=21 => {
                let request = self.channel_bind(choices);
                self.ask(request);
            }
            22..=30 => {
                let (client, packet, expected) = self.send(choices);
                self.client_says(client, &packet, Some(expected));
            }
            31..=40 => {
                let (client, packet, expected) = self.channel_data(choices);
                self.client_says(client, &packet, Some(expected));
            }
            41..=46 => self.socket_receives(choices),
            47..=49 => self.pass(Self::time(choices)),
            50 => self.now = later(self.now, Self::time(choices)),
            51 => {
                let account = choices.below(ACCOUNTS.len());
                let admit = choices.below(4) != 0;
                self.admit(account, admit);
            }
            52 => {
                let client = choices.below(self.clients.len());
                self.input(Input::ClientGone(self.clients[client].0));
                self.forget(client);
            }
            53 => {
                let lists: [&[usize]; 8] = [&[0], &[0], &[0, 1], &[0, 1], &[1, 0], &[1, 0], &[1], &[]];
                self.replace_secrets(lists[choices.below(lists.len())]);
            }
            54 => {
                self.ports_are_taken = choices.below(2) == 0;
                if choices.next() == 0xdd {
                    self.draining = true;
                    self.input(Input::Drain);
                }
            }
            55 | 56 => {
                if let Some(request) = self.last.clone() {
                    self.deliver(&request, true);
                }
            }
            57..=59 => self.damaged(choices),
            _ => {
                let client = choices.below(self.clients.len());
                let length = choices.below(64);
                let bytes: Vec<u8> = (0..length).map(|_| choices.next()).collect();
                self.client_says(client, &bytes, None);
                self.unsigned_answer(client, &bytes);
            }
        }
    }

    /// As a call begins: two clients allocate, if they have not, and bind channels to each other and to somebody elsewhere.
    fn connect(&mut self, choices: &mut Choices<'_>) {
        let pair = [choices.below(self.clients.len()), choices.below(self.clients.len())];
        if !self.secrets.contains(&0) {
            self.replace_secrets(&[1, 0]);
        }
        for client in pair {
            let account = self.clients[client].1;
            if !self.admitted[account] {
                self.admit(account, true);
            }
            if !self.is_live(client) {
                // Both families, with everything right.
                let request = self.allocate(&mut Choices::new(&[client as u8, 0, 2]));
                self.ask(request);
            }
        }
        for (client, other) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            let relayed =
                self.allocations.get(&other).and_then(|one| one.relayed.into_iter().flatten().next());
            let elsewhere = "93.184.216.34:5000".parse().expect("an address with a port");
            for (number, peer) in [(0x4000 + other as u16, relayed), (0x4007, Some(elsewhere))] {
                let Some(peer) = peer else { continue };
                let (request, how) = self.request(&mut Choices::new(&[client as u8, 0]), stun::CHANNEL_BIND);
                let request = self.bind(request, how, number, peer);
                self.ask(request);
            }
        }
    }

    fn time(choices: &mut Choices<'_>) -> Duration {
        let seconds = [0, 0, 0, 1, 1, 5, 30, 60, 120, 250, 299, 300, 301, 599, 600, 3600];
        let index = choices.below(seconds.len() + 1);
        seconds.get(index).map_or_else(
            || Duration::from_millis(u64::from(choices.next()) * 10),
            |seconds| Duration::from_secs(*seconds),
        )
    }

    // ---- requests ----

    fn transaction(&mut self) -> [u8; 12] {
        self.transactions += 1;
        let mut transaction = [0x5a; 12];
        transaction[..8].copy_from_slice(&self.transactions.to_be_bytes());
        transaction
    }

    /// Somebody who asks: mostly the client's own account with a good credential.
    fn request(&mut self, choices: &mut Choices<'_>, method: u16) -> (Request, u8) {
        let client = choices.below(self.clients.len());
        let how = choices.next();
        let account =
            if how % 16 == 15 { usize::from(how / 16) % ACCOUNTS.len() } else { self.clients[client].1 };
        let transaction = self.transaction();
        let request = Request {
            client,
            account,
            method,
            transaction,
            peers: Vec::new(),
            number: 0,
            good: true,
            expired: how % 16 == 14,
            packet: Vec::new(),
            key: Vec::new(),
            integrity: if how & 16 != 0 { Integrity::Sha256 } else { Integrity::Sha1 },
        };
        (request, how)
    }

    /// Adds credential and MAC. Gets a nonce first if there is none.
    fn sign(&mut self, mut request: Request, message: Builder, how: u8) -> Request {
        let tuple = self.clients[request.client].0;
        if self.nonces[request.client].is_empty() {
            let transaction = self.transaction();
            let bare = Builder::new(stun::REQUEST, stun::ALLOCATE, transaction).transport(17).finish();
            self.server.handle_client(&tuple, &bare, self.now);
            self.unsigned_answer(request.client, &bare);
        }
        let secret = usize::from(how % 16 == 13);
        let (group, owner) = ACCOUNTS[request.account];
        let expiry = if request.expired { START } else { START + 1_000_000_000 };
        let username = format!("{expiry}:{group}.{owner}");
        request.key =
            stun::long_term_key(&username, REALM, &stun::password(SECRETS[secret], &username), false);
        request.good = self.secrets.contains(&secret)
            && self.admitted[request.account]
            && (!request.expired || request.method != stun::ALLOCATE);
        request.packet = message
            .put(a::USERNAME, username.as_bytes())
            .put(a::REALM, REALM.as_bytes())
            .put(a::NONCE, self.nonces[request.client].as_bytes())
            .sign(&request.key, request.integrity)
            .finish();
        request
    }

    fn allocate(&mut self, choices: &mut Choices<'_>) -> Request {
        let (request, how) = self.request(choices, stun::ALLOCATE);
        let message = Builder::new(stun::REQUEST, stun::ALLOCATE, request.transaction);
        let kind = choices.next();
        let message =
            if kind % 32 == 31 { message } else { message.transport(if kind % 32 == 30 { 6 } else { 17 }) };
        let message = match kind % 8 {
            1 => message.family(2),
            2 | 3 => message.additional(2),
            4 => message.family(1),
            _ => message,
        };
        let message = match kind / 8 % 16 {
            1 => message.lifetime(u32::from(choices.next()) * 20),
            2 => message.put(a::EVEN_PORT, &[choices.next()]),
            3 => message.put(a::RESERVATION_TOKEN, &[choices.next(); 8]),
            4 => message.put(a::DONT_FRAGMENT, &[]),
            5 => message.additional(choices.next() % 4),
            _ => message,
        };
        self.sign(request, message, how)
    }

    fn refresh(&mut self, choices: &mut Choices<'_>) -> Request {
        let (request, how) = self.request(choices, stun::REFRESH);
        let message = Builder::new(stun::REQUEST, stun::REFRESH, request.transaction);
        let kind = choices.next();
        let message = match kind % 4 {
            0 => message,
            1 => message.lifetime(0),
            _ => message.lifetime(u32::from(kind) * 20),
        };
        let message = match kind / 4 % 8 {
            family @ 0..=2 => message.family(family + 1),
            _ => message,
        };
        self.sign(request, message, how)
    }

    fn create_permission(&mut self, choices: &mut Choices<'_>) -> Request {
        let (mut request, how) = self.request(choices, stun::CREATE_PERMISSION);
        let mut message = Builder::new(stun::REQUEST, stun::CREATE_PERMISSION, request.transaction);
        let count = [1, 1, 1, 2, 3, 0, 20][choices.below(7)];
        for _ in 0..count {
            let peer = self.peer(choices);
            message = message.peer(peer);
            request.peers.push(plain(peer));
        }
        self.sign(request, message, how)
    }

    fn channel_bind(&mut self, choices: &mut Choices<'_>) -> Request {
        let (request, how) = self.request(choices, stun::CHANNEL_BIND);
        let number = self.number(choices);
        let peer = self.peer(choices);
        self.bind(request, how, number, peer)
    }

    fn bind(&mut self, mut request: Request, how: u8, number: u16, peer: SocketAddr) -> Request {
        request.number = number;
        request.peers.push(plain(peer));
        let message = Builder::new(stun::REQUEST, stun::CHANNEL_BIND, request.transaction);
        self.sign(request, message.channel(number).peer(peer), how)
    }

    fn number(&self, choices: &mut Choices<'_>) -> u16 {
        match choices.next() {
            255 => 0x3fff,
            254 => 0x5000,
            253 => 0x4fff,
            other => 0x4000 + u16::from(other % 8),
        }
    }

    /// Somebody to talk to: mostly those who are relayed here.
    fn peer(&self, choices: &mut Choices<'_>) -> SocketAddr {
        let which = choices.next();
        let relayed: Vec<SocketAddr> =
            self.allocations.values().flat_map(|one| one.relayed.into_iter().flatten()).collect();
        if which < 128 && !relayed.is_empty() {
            return relayed[usize::from(which) % relayed.len()];
        }
        let outside = [
            "93.184.216.34:5000",
            "93.184.216.34:5001",
            "93.184.216.35:5000",
            "[2a00:1450::5]:5000",
            "[2a00:1450::6]:5000",
            "[::ffff:93.184.216.34]:5000",
            "93.184.216.34:53",
            "93.184.216.34:0",
            "127.0.0.1:5000",
            "[::1]:5000",
            "10.0.0.1:5000",
            "[::ffff:10.0.0.1]:5000",
            "[64:ff9b::a00:1]:5000",
            "[64:ff9b::c629:4]:5000",
            "169.254.169.254:8080",
            "192.168.7.50:5000",
            "192.168.7.2:3478",
            "192.168.7.2:9000",
            "192.168.7.2:10001",
            "198.41.0.4:10001",
            "198.41.0.4:3478",
            "198.41.0.4:9000",
            "[2a02:1::9]:10002",
            "[2a02:1::9]:5349",
        ];
        if which % 8 == 7 {
            // As many addresses as there are bytes: for limits.
            return SocketAddr::new(ip(&format!("93.185.0.{}", choices.next())), 6000);
        }
        outside[usize::from(which) % outside.len()].parse().expect("an address with a port")
    }

    fn ask(&mut self, request: Request) {
        self.deliver(&request, false);
        self.last = Some(request);
    }

    /// Hands a well-formed request in, and judges the answer.
    fn deliver(&mut self, request: &Request, again: bool) {
        let (tuple, _) = self.clients[request.client];
        let verdict = self.server.handle_client(&tuple, &request.packet, self.now);
        self.drain();
        let Some((to, bytes)) = self.replies.pop() else {
            assert!(matches!(verdict, Verdict::Dropped), "handled and not answered: {verdict:?}");
            return;
        };
        assert!(matches!(verdict, Verdict::Handled) && self.replies.is_empty(), "one answer");
        assert_eq!(to, tuple, "the answer goes to whom asked");
        let answer = Message::parse(&bytes).expect("an answer can be read");
        assert_eq!((answer.transaction, answer.method), (request.transaction, request.method));
        let (group, owner) = ACCOUNTS[request.account];
        match answer.error() {
            None => {
                assert_eq!(answer.class, stun::SUCCESS);
                assert!(answer.is_signed_by(&request.key, request.integrity));
                assert!(request.good || again, "{group}.{owner} has no right to anything");
                assert!(self.admitted[request.account], "{group}.{owner} is not admitted");
                self.granted(request, &answer);
            }
            Some(401 | 438) => {
                self.amplified(request.client, request.packet.len(), bytes.len());
                self.nonces[request.client] = answer.text(a::NONCE).expect("a challenge has a nonce");
                if answer.error() == Some(401) {
                    let still_good = self.admitted[request.account] && !again && request.good;
                    assert!(!still_good, "a good credential was refused");
                }
            }
            Some(code) => {
                self.refused(request, code);
                // One whose time is over gives way even to an allocation that is then refused.
                let proven = answer.is_signed_by(&request.key, request.integrity) && code != 420;
                if request.method == stun::ALLOCATE && proven && !self.is_live(request.client) {
                    self.forget(request.client);
                }
            }
        }
    }

    /// Holds a success against the model, and makes it happen there.
    fn granted(&mut self, request: &Request, answer: &Message) {
        let now = self.now.at;
        let live = self.allocations.get(&request.client).is_some_and(|one| one.expires > now);
        if request.method == stun::ALLOCATE {
            let relayed = answer.addresses(a::XOR_RELAYED_ADDRESS);
            assert_eq!(answer.address(a::XOR_MAPPED_ADDRESS), Some(self.clients[request.client].0.client));
            if live {
                let one = &self.allocations[&request.client];
                assert_eq!(one.transaction, request.transaction, "only the same request again");
                let known: Vec<_> = one.relayed.into_iter().flatten().collect();
                assert_eq!(relayed, known);
                return;
            }
            assert!(!self.draining, "nothing new is taken");
            self.forget(request.client);
            let lifetime = answer.number(a::LIFETIME).expect("a lifetime");
            assert!((600..=3600).contains(&lifetime));
            let mut by_family = [None; 2];
            for address in relayed {
                assert!(
                    self.own.contains(&address.ip()) && self.ports.contains(&address.port()),
                    "{address}"
                );
                assert!(!self.relayed_addresses().contains(&address), "{address} is taken");
                assert_eq!(by_family[family(address)].replace(address), None);
            }
            assert!(by_family.iter().any(Option::is_some));
            self.allocations.insert(
                request.client,
                ModelAllocation {
                    account: request.account,
                    transaction: request.transaction,
                    relayed: by_family,
                    expires: now + Duration::from_secs(lifetime.into()),
                    permissions: BTreeMap::new(),
                    channels: BTreeMap::new(),
                },
            );
            return;
        }
        assert!(live, "there is no allocation");
        assert_eq!(self.allocations[&request.client].account, request.account, "it is somebody else's");
        match request.method {
            stun::REFRESH => {
                let lifetime = answer.number(a::LIFETIME).expect("a lifetime");
                let asked = Message::parse(&request.packet).expect("it was made here");
                let one = self.allocations.get_mut(&request.client).expect("it is live");
                if lifetime > 0 {
                    assert!((600..=3600).contains(&lifetime));
                    one.expires = now + Duration::from_secs(lifetime.into());
                } else {
                    let family =
                        asked.get(a::REQUESTED_ADDRESS_FAMILY).map(|value| usize::from(value[0] - 1));
                    let both = one.relayed.iter().flatten().count() == 2;
                    match family {
                        Some(family) if both => one.relayed[family] = None,
                        _ => self.forget(request.client),
                    }
                }
            }
            stun::CREATE_PERMISSION | stun::CHANNEL_BIND => {
                let is_channel = request.method == stun::CHANNEL_BIND;
                assert!(!request.peers.is_empty());
                for peer in &request.peers {
                    assert!(
                        self.is_reachable(request.client, *peer, !is_channel),
                        "{peer} may not be reached"
                    );
                    assert!(self.allocations[&request.client].relayed[family(*peer)].is_some());
                }
                let one = self.allocations.get_mut(&request.client).expect("it is live");
                for peer in &request.peers {
                    one.permissions.insert(peer.ip(), now);
                }
                one.permissions.retain(|_, at| now < *at + PERMISSION);
                assert!(one.permissions.len() <= MOST);
                if is_channel {
                    assert!((0x4000..=0x4fff).contains(&request.number));
                    one.channels.retain(|_, (_, at)| now < *at + CHANNEL);
                    let conflict = one.channels.iter().any(|(number, (peer, _))| {
                        (*number == request.number) != (*peer == request.peers[0])
                    });
                    assert!(!conflict, "a number has one peer, a peer one number");
                    one.channels.insert(request.number, (request.peers[0], now));
                    assert!(one.channels.len() <= MOST);
                }
            }
            method => panic!("method {method} was granted"),
        }
    }

    /// Every refusal has a reason that the model knows as well.
    fn refused(&self, request: &Request, code: u16) {
        let now = self.now.at;
        let known = self.allocations.get(&request.client);
        let live = known.is_some_and(|one| one.expires > now);
        let asked = Message::parse(&request.packet).expect("it was made here");
        let is_allocate = request.method == stun::ALLOCATE;
        let is_channel = request.method == stun::CHANNEL_BIND;
        let mut peers = request.peers.iter();
        let justified = match code {
            // What is broken is not modelled.
            400 => is_allocate || is_channel || request.peers.is_empty(),
            403 => peers.any(|peer| !self.is_reachable(request.client, *peer, !is_channel)),
            420 => asked.has(a::DONT_FRAGMENT),
            437 => live == is_allocate,
            440 => is_allocate,
            441 => known.is_some_and(|one| one.account != request.account),
            442 => asked.get(a::REQUESTED_TRANSPORT).is_some_and(|value| value[0] != 17),
            443 if request.method == stun::REFRESH => asked.has(a::REQUESTED_ADDRESS_FAMILY),
            443 => peers.any(|peer| known.is_some_and(|one| one.relayed[family(*peer)].is_none())),
            486 => is_allocate && self.quota_is_used_up(request),
            508 if is_allocate => {
                let exhausted = |family: usize| {
                    let taken =
                        self.relayed_addresses().iter().filter(|one| self::family(**one) == family).count();
                    taken == self.ports.len()
                };
                let refused = asked.has(a::EVEN_PORT) || asked.has(a::RESERVATION_TOKEN);
                self.draining || refused || exhausted(0) || exhausted(1)
            }
            508 => {
                self.ports_are_taken
                    || known.is_some_and(|one| one.permissions.len() + request.peers.len() > MOST)
            }
            _ => false,
        };
        assert!(justified, "{code} without a reason for method {}, {:?}", request.method, request.peers);
    }

    fn quota_is_used_up(&self, request: &Request) -> bool {
        // An allocation of this client that is over gives way first.
        let others = || {
            self.allocations
                .iter()
                .filter(|(client, _)| **client != request.client)
                .map(|(client, one)| (*client, one))
        };
        let count = |same: &dyn Fn(usize, usize) -> bool| {
            others().filter(|(client, one)| same(*client, one.account)).count() as u32
        };
        let here = source(self.clients[request.client].0.client);
        let of_block = count(&|client, _| source(self.clients[client].0.client) == here);
        // All ranges here are small: half of what is left is the share of a block.
        let is_short = [0, 1].into_iter().any(|which| {
            let taken = others().filter(|(_, one)| one.relayed[which].is_some()).count();
            let free = self.ports.len() - taken;
            free > 0 && of_block as usize >= free.div_ceil(2)
        });
        is_short
            || of_block >= self.quotas.per_source.allocations
            || count(&|_, account| account == request.account) >= self.quotas.per_owner.allocations
            || count(&|_, account| ACCOUNTS[account].0 == ACCOUNTS[request.account].0)
                >= self.quotas.per_group.allocations
            || count(&|_, _| true) >= self.quotas.server.allocations
    }

    // ---- who may reach whom ----

    fn relayed_addresses(&self) -> Vec<SocketAddr> {
        self.allocations.values().flat_map(|one| one.relayed.into_iter().flatten()).collect()
    }

    /// The client that has this relayed transport address, be its time over or not.
    fn relayed_by(&self, peer: SocketAddr) -> Option<usize> {
        let mut found = self.allocations.iter().filter(|(_, one)| one.relayed.contains(&Some(peer)));
        found.next().map(|(client, _)| *client)
    }

    fn group_is_relayed_at(&self, client: usize, ip: IpAddr) -> bool {
        let Some(group) = self.allocations.get(&client).map(|_| self.group(client)) else { return false };
        self.allocations.iter().any(|(other, one)| {
            let at = |relayed: &SocketAddr| relayed.ip() == ip;
            *other != client && self.group(*other) == group && one.relayed.iter().flatten().any(at)
        })
    }

    fn group(&self, client: usize) -> &'static str {
        ACCOUNTS[self.allocations[&client].account].0
    }

    fn in_our_range(&self, peer: SocketAddr) -> bool {
        let ip = peer.ip();
        (self.own.contains(&ip) || ip.is_loopback() || ip.is_unspecified())
            && self.ports.contains(&peer.port())
    }

    fn is_reachable(&self, client: usize, peer: SocketAddr, any_port: bool) -> bool {
        // A permission is per address: where another of the group is relayed, the port does not matter.
        if any_port && self.group_is_relayed_at(client, peer.ip()) {
            return true;
        }
        if let Some(other) = self.relayed_by(peer) {
            return self.group(other) == self.group(client);
        }
        if self.in_our_range(peer) {
            return any_port;
        }
        let peer = if any_port { SocketAddr::new(peer.ip(), 5000) } else { peer };
        oracle::may_be_reached(peer, &self.own, &LISTENERS, &self.allowed)
    }

    fn permits(&self, client: usize, ip: IpAddr) -> bool {
        let granted = self.allocations[&client].permissions.get(&ip);
        granted.is_some_and(|at| self.now.at < *at + PERMISSION)
    }

    fn is_live(&self, client: usize) -> bool {
        self.allocations.get(&client).is_some_and(|one| one.expires > self.now.at)
    }

    // ---- packets ----

    fn payload(&self, choices: &mut Choices<'_>) -> Vec<u8> {
        let length = match choices.next() {
            // A few of them are a second's worth.
            200..=255 => 60_000,
            180..=199 => 1500,
            170..=179 => 0,
            other => usize::from(other),
        };
        vec![self.transactions as u8; length]
    }

    /// Mostly one that has an allocation.
    fn speaker(&self, choices: &mut Choices<'_>) -> usize {
        let which = choices.next();
        let known = self.allocations.keys().nth(usize::from(which) % self.allocations.len().max(1));
        known.filter(|_| which < 240).copied().unwrap_or(usize::from(which) % self.clients.len())
    }

    fn send(&mut self, choices: &mut Choices<'_>) -> (usize, Vec<u8>, Expected) {
        let client = self.speaker(choices);
        // Mostly somebody whom it has or had a channel to.
        let channels = self.allocations.get(&client).map(|one| &one.channels);
        let which = choices.below(12);
        let bound = channels.and_then(|channels| channels.values().nth(which)).map(|(peer, _)| *peer);
        let peer = bound.unwrap_or_else(|| self.peer(choices));
        let payload = self.payload(choices);
        let transaction = self.transaction();
        let packet = Builder::new(stun::INDICATION, stun::SEND, transaction)
            .peer(peer)
            .put(a::DATA, &payload)
            .finish();
        (client, packet, Some((plain(peer), payload)))
    }

    fn channel_data(&mut self, choices: &mut Choices<'_>) -> (usize, Vec<u8>, Expected) {
        let client = self.speaker(choices);
        let channels = self.allocations.get(&client).map(|one| &one.channels);
        let which = choices.below(12);
        let bound = channels.and_then(|channels| channels.keys().nth(which)).copied();
        let number = bound.unwrap_or_else(|| self.number(choices));
        let payload = self.payload(choices);
        let mut packet = stun::channel_data(number, &payload);
        if self.clients[client].0.transport.is_stream() {
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        let channel = self.allocations.get(&client).and_then(|one| one.channels.get(&number));
        let bound = channel.filter(|(_, at)| self.now.at < *at + CHANNEL);
        (client, packet, bound.map(|(peer, _)| (*peer, payload)))
    }

    /// Hands in a packet that is to be passed on. With `exact`, peer and payload are known and the model says whether it has to pass.
    fn client_says(&mut self, client: usize, packet: &[u8], exact: Option<Expected>) {
        let tuple = self.clients[client].0;
        let over = self.over_quota();
        let verdict = self.server.handle_client(&tuple, packet, self.now);
        let Verdict::Forward(forward) = verdict else {
            if let Some(Some((peer, payload))) = exact {
                let over = self.over_quota() > over;
                assert!(
                    over || !self.has_to_pass(client, peer, payload.len()),
                    "{peer} is permitted, but nothing passed"
                );
            }
            return;
        };
        assert_eq!(self.server.poll_output(), None, "what is passed on has no outputs");
        assert!(self.is_live(client), "there is no allocation");
        let bytes = packet[forward.body.clone()].to_vec();
        let (peer, in_process) = match forward.target {
            Target::Peer { relay, peer } => {
                let owner = self.sockets.get(&relay).expect("the socket is open");
                assert_eq!(*owner, (client, family(peer)), "by a socket of its own");
                assert!(forward.head.is_empty() && forward.pad == 0);
                assert!(!self.in_our_range(peer), "{peer} is somebody's relayed transport address");
                assert!(
                    oracle::may_be_reached(peer, &self.own, &LISTENERS, &self.allowed),
                    "{peer} is denied"
                );
                (peer, None)
            }
            Target::Client(to) => {
                let other = self.clients.iter().position(|(tuple, _)| *tuple == to).expect("a client");
                assert!(self.is_live(other), "the far allocation is over");
                assert_eq!(self.group(client), self.group(other), "from one group to another");
                let expected = exact.clone().flatten().map(|(peer, _)| peer);
                // Of an unknown packet it is not known which of the far addresses it was for; one of them has to be open.
                let open = |one: &SocketAddr| {
                    let from = self.allocations[&client].relayed[family(*one)];
                    self.permits(client, one.ip()) && from.is_some_and(|from| self.permits(other, from.ip()))
                };
                let mut far = self.allocations[&other].relayed.into_iter().flatten();
                let peer = far.find(|one| expected.map_or_else(|| open(one), |peer| peer == *one));
                let peer = peer.expect("it is relayed there, and permitted");
                assert!(open(&peer), "both sides have permitted it");
                if exact.is_some() {
                    let from = self.allocations[&client].relayed[family(peer)].expect("it is open");
                    self.headed(other, from, &forward, &bytes);
                }
                (peer, Some(other))
            }
        };
        assert!(self.permits(client, peer.ip()), "{peer} is not permitted");
        if let Some(expected) = exact {
            assert_eq!(Some((peer, bytes.clone())), expected, "the payload comes through as it is");
        }
        self.passed[0] += 1;
        self.passed[1] += u64::from(in_process.is_some());
        self.passed[2] += u64::from(in_process.is_some());
        self.spend(client, "sends", bytes.len());
        if let Some(other) = in_process {
            self.spend(other, "receives", bytes.len());
        }
    }

    fn has_to_pass(&self, client: usize, peer: SocketAddr, length: usize) -> bool {
        if !self.is_live(client) || !self.permits(client, peer.ip()) || length > 65_000 {
            return false;
        }
        let Some(from) = self.allocations[&client].relayed[family(peer)] else { return false };
        if let Some(other) = self.relayed_by(peer) {
            return self.is_live(other)
                && self.group(other) == self.group(client)
                && self.permits(other, from.ip());
        }
        self.sockets.values().any(|owner| *owner == (client, family(peer)))
            && self.is_reachable(client, peer, false)
    }

    /// What stands in front of a payload from `peer` for `client`.
    fn headed(&self, client: usize, peer: SocketAddr, forward: &Forward, payload: &[u8]) {
        let mut bytes = forward.head.to_vec();
        bytes.extend(payload);
        bytes.extend(vec![0; usize::from(forward.pad)]);
        let one = &self.allocations[&client];
        let mut bound =
            one.channels.iter().filter(|(_, (to, at))| *to == peer && self.now.at < *at + CHANNEL);
        if let Some((number, _)) = bound.next() {
            let mut expected = stun::channel_data(*number, payload);
            if self.clients[client].0.transport.is_stream() {
                expected.resize(expected.len().next_multiple_of(4), 0);
            }
            assert_eq!(bytes, expected);
        } else {
            let message = Message::parse(&bytes).expect("a Data indication");
            assert_eq!((message.class, message.method), (stun::INDICATION, stun::DATA_INDICATION));
            assert_eq!(message.address(a::XOR_PEER_ADDRESS), Some(peer));
            assert_eq!(message.get(a::DATA), Some(payload));
        }
    }

    fn socket_receives(&mut self, choices: &mut Choices<'_>) {
        let peer = self.peer(choices);
        let payload = self.payload(choices);
        let which = choices.below(self.sockets.len() + 1);
        let relay =
            self.sockets.keys().nth(which).copied().unwrap_or(RelaySocketId(u32::from(choices.next())));
        // Mostly somebody who is or was permitted.
        let permitted = self
            .sockets
            .get(&relay)
            .and_then(|(client, _)| self.allocations[client].permissions.keys().next_back());
        let peer = match permitted {
            Some(ip) if choices.below(4) != 0 => SocketAddr::new(*ip, 5000),
            _ => peer,
        };
        let over = self.over_quota();
        let verdict = self.server.handle_peer(relay, peer, &payload, self.now);
        let owner = self.sockets.get(&relay).map(|(client, _)| *client);
        let peer = plain(peer);
        // Of this machine only what is allowed says anything: its relayed participants meet in process.
        let local = peer.ip().is_loopback() || peer.ip().is_unspecified() || self.own.contains(&peer.ip());
        let from = SocketAddr::new(peer.ip(), 5000);
        let barred = local && !oracle::may_be_reached(from, &self.own, &LISTENERS, &self.allowed);
        let passes =
            !barred && owner.is_some_and(|client| self.is_live(client) && self.permits(client, peer.ip()));
        match verdict {
            Verdict::Forward(forward) => {
                let client = owner.expect("the socket is open");
                assert!(passes, "{peer} is not permitted");
                assert_eq!(forward.target, Target::Client(self.clients[client].0));
                assert_eq!(forward.body, 0..payload.len());
                self.headed(client, peer, &forward, &payload);
                self.passed[1] += 1;
                self.spend(client, "receives", payload.len());
            }
            Verdict::Dropped => {
                assert!(!passes || self.over_quota() > over, "{peer} is permitted, but nothing passed");
            }
            Verdict::Handled => panic!("a peer is never answered"),
        }
        assert_eq!(self.server.poll_output(), None);
    }

    /// A well-formed packet with a few bytes changed, cut or added.
    fn damaged(&mut self, choices: &mut Choices<'_>) {
        let (client, whole) = match choices.next() % 6 {
            0 => self.send(choices).into_pair(),
            1 => self.channel_data(choices).into_pair(),
            2 => {
                let request = self.allocate(choices);
                (request.client, request.packet)
            }
            3 => {
                let request = self.refresh(choices);
                (request.client, request.packet)
            }
            4 => {
                let request = self.create_permission(choices);
                (request.client, request.packet)
            }
            _ => {
                let request = self.channel_bind(choices);
                (request.client, request.packet)
            }
        };
        let mut packet = whole.clone();
        for _ in 0..=choices.next() % 4 {
            let place = usize::from(choices.next()) * 251 % packet.len().max(1);
            match choices.next() % 8 {
                0 => packet.truncate(place),
                1 => packet.insert(place, choices.next()),
                _ => {
                    if let Some(byte) = packet.get_mut(place) {
                        *byte ^= choices.next();
                    }
                }
            }
        }
        if packet != whole {
            self.client_says(client, &packet, None);
            self.unsigned_answer(client, &packet);
        }
    }

    /// Whatever was answered to something that proves nothing: nothing is granted, and the answer is small.
    fn unsigned_answer(&mut self, client: usize, packet: &[u8]) {
        self.drain();
        let Some((to, bytes)) = self.replies.pop() else { return };
        assert!(self.replies.is_empty() && to == self.clients[client].0);
        let answer = Message::parse(&bytes).expect("an answer can be read");
        assert!(answer.class == stun::ERROR || answer.method == stun::BINDING, "granted without a proof");
        self.amplified(client, packet.len(), bytes.len());
        if let Some(nonce) = answer.text(a::NONCE) {
            self.nonces[client] = nonce;
        }
    }

    fn amplified(&self, client: usize, asked: usize, answered: usize) {
        let tuple = self.clients[client].0;
        let around = if tuple.client.is_ipv4() { 28 } else { 48 };
        let small = (answered + around) * 10 <= (asked + around) * 16;
        assert!(tuple.transport.is_stream() || small, "{answered} bytes for {asked}");
    }

    // ---- quotas ----

    fn over_quota(&self) -> u64 {
        self.server.stats().dropped[DropReason::OverQuota as usize]
    }

    fn spend(&mut self, client: usize, way: &str, bytes: usize) {
        let account = self.allocations[&client].account;
        let (group, owner) = ACCOUNTS[account];
        let quotas = [
            (format!("account {group}.{owner}"), self.quotas.per_owner),
            (format!("group {group}"), self.quotas.per_group),
            (format!("source {}", source(self.clients[client].0.client)), self.quotas.per_source),
            ("server".to_owned(), self.quotas.server),
        ];
        let cost = bytes.max(500) as f64;
        for (name, quota) in quotas {
            if quota.megabits == 0 {
                continue;
            }
            let rate = f64::from(quota.megabits) * 125_000.0;
            let name = format!("{name} {way}");
            let bucket = self.buckets.entry(name.clone()).or_default();
            let passed = bucket.at.map_or(0.0, |at| (self.now.at - at).as_secs_f64());
            bucket.level = (bucket.level - passed * rate * 1.001).max(0.0) + cost;
            bucket.at = Some(self.now.at);
            // A second's worth, and a packet each way that was begun in it.
            assert!(
                bucket.level <= rate * 1.001 + 2.0 * cost + 1000.0,
                "{name} passed {} bytes too many",
                bucket.level - rate
            );
        }
    }

    // ---- the world around ----

    fn admit(&mut self, account: usize, admit: bool) {
        let (group, owner) = ACCOUNTS[account];
        let name = Account { group: group.into(), owner: owner.into() };
        if admit {
            self.input(Input::Admit(name));
        } else {
            self.input(Input::Revoke(name));
            let gone: Vec<usize> = self
                .allocations
                .iter()
                .filter(|(_, one)| one.account == account)
                .map(|(client, _)| *client)
                .collect();
            let mut closed: Vec<_> = std::mem::take(&mut self.closed).iter().map(|to| to.client).collect();
            let mut expected: Vec<_> = gone.iter().map(|client| self.clients[*client].0.client).collect();
            closed.sort_unstable();
            expected.sort_unstable();
            assert_eq!(closed, expected, "exactly its clients are closed");
            gone.into_iter().for_each(|client| self.forget(client));
            self.buckets.remove(&format!("account {group}.{owner}"));
        }
        self.admitted[account] = admit;
        if !(0..ACCOUNTS.len()).any(|other| self.admitted[other] && ACCOUNTS[other].0 == group) {
            self.buckets.remove(&format!("group {group}"));
        }
        assert!(self.closed.is_empty(), "only a revoked account's clients are closed");
    }

    fn replace_secrets(&mut self, list: &[usize]) {
        self.secrets = list.to_vec();
        let secrets = list.iter().map(|index| Secret::new(SECRETS[*index].to_vec())).collect();
        self.input(Input::ReplaceSecrets(secrets));
    }

    /// An allocation ends. A network's use is forgotten with its last one.
    fn forget(&mut self, client: usize) {
        self.allocations.remove(&client);
        let here = source(self.clients[client].0.client);
        if !self.allocations.keys().any(|other| source(self.clients[*other].0.client) == here) {
            self.buckets.remove(&format!("source {here}"));
        }
    }

    fn input(&mut self, input: Input) {
        self.server.handle_input(input, self.now);
        self.drain();
        assert!(self.replies.is_empty(), "nobody asked");
    }

    /// Time passes as it does for a shell, which wakes at every timeout on the way.
    fn pass(&mut self, time: Duration) {
        let end = later(self.now, time);
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= end.at) {
            let wait = due.saturating_duration_since(self.now.at);
            self.now = later(self.now, wait);
            self.server.handle_timeout(self.now);
            self.drain();
            let over: Vec<usize> = self
                .allocations
                .iter()
                .filter(|(_, one)| one.expires <= self.now.at)
                .map(|(client, _)| *client)
                .collect();
            assert!(!over.is_empty(), "woken for nothing");
            over.into_iter().for_each(|client| self.forget(client));
            assert!(
                self.server.poll_timeout().is_none_or(|next| next > self.now.at),
                "a timer is due again at once"
            );
        }
        self.now = end;
    }

    fn drain(&mut self) {
        for _ in 0..OUTPUTS_PER_INPUT {
            let Some(output) = self.server.poll_output() else { return };
            match output {
                Output::Reply { to, message } => self.replies.push((to, message)),
                Output::OpenRelaySocket { relay, bind } => {
                    let family = family(bind);
                    let mut owners = self.allocations.iter().filter(|(_, one)| {
                        one.relayed[family].is_some_and(|relayed| relayed.port() == bind.port())
                    });
                    let (client, _) = owners.next().expect("it is a relayed transport address");
                    let input = if self.ports_are_taken {
                        Input::RelaySocketFailed(relay)
                    } else {
                        let client = *client;
                        assert_eq!(self.sockets.insert(relay, (client, family)), None, "it is open already");
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
        panic!("one input caused {OUTPUTS_PER_INPUT} outputs");
    }

    fn check(&mut self) {
        let stats = self.server.stats();
        assert_eq!(stats.allocations as usize, self.allocations.len());
        let mut by_transport = [0; 3];
        self.allocations
            .keys()
            .for_each(|client| by_transport[self.clients[*client].0.transport as usize] += 1);
        assert_eq!(stats.allocations_by, by_transport);
        assert_eq!(stats.relay_sockets as usize, self.sockets.len());
        assert_eq!(
            [stats.packets_from_clients, stats.packets_to_clients, stats.packets_in_process],
            self.passed
        );
        let timer = self.allocations.values().map(|one| one.expires).min();
        assert_eq!(self.server.poll_timeout(), timer);
        for (client, family) in self.sockets.values() {
            assert!(
                self.allocations.get(client).is_some_and(|one| one.relayed[*family].is_some()),
                "a socket of nobody"
            );
        }
        let count = |same: &dyn Fn(usize, usize) -> bool| {
            self.allocations.iter().filter(|(client, one)| same(**client, one.account)).count() as u32
        };
        for (account, (group, _)) in ACCOUNTS.iter().enumerate() {
            assert!(count(&|_, other| other == account) <= self.quotas.per_owner.allocations);
            assert!(count(&|_, other| ACCOUNTS[other].0 == *group) <= self.quotas.per_group.allocations);
        }
        for (tuple, _) in &self.clients {
            let here = source(tuple.client);
            let from_here = count(&|client, _| source(self.clients[client].0.client) == here);
            assert!(from_here <= self.quotas.per_source.allocations);
        }
        assert!(count(&|_, _| true) <= self.quotas.server.allocations);
    }

    /// When all time is over nothing is left.
    fn end(&mut self) {
        self.pass(Duration::from_secs(3600));
        self.check();
        assert!(self.allocations.is_empty() && self.sockets.is_empty());
        assert_eq!(self.server.poll_timeout(), None);
    }
}

fn later(now: Now, time: Duration) -> Now {
    Now { at: now.at + time, unix: now.unix + time.as_secs() }
}

/// The client and the packet, without what is expected of it.
trait IntoPair {
    fn into_pair(self) -> (usize, Vec<u8>);
}

impl<T> IntoPair for (usize, Vec<u8>, T) {
    fn into_pair(self) -> (usize, Vec<u8>) {
        (self.0, self.1)
    }
}
