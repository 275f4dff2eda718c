//! The relay of a simulated call: the real rooms and the real TURN server, with a store, a password hash and sockets that are lists.
//! It never decides anything; what happens to its packets and frames on the way is the network's business.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use snug_room_proto as room;
use snug_room_proto::{ConnectionId, IceServerSource, RoomServer, RoomServerConfig};
use snug_turn_proto as turn;
use snug_turn_proto::{
    Account, FiveTuple, PeerPolicy, RelayAddresses, RelaySocketId, Secret, Target, TurnConfig, TurnServer,
    Verdict,
};
use snug_wire::{IceServer, RoomId, UserId};

/// The relay's one address.
pub(crate) const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 41, 0, 4), 3478);
/// Virtual time starts here, in seconds since 1970.
pub(crate) const START: u64 = 1_795_392_000;
const SECRET: &[u8] = b"north";

/// What the relay wants done.
pub(crate) enum Effect {
    Frame {
        connection: ConnectionId,
        text: String,
    },
    Close {
        connection: ConnectionId,
        code: u16,
    },
    /// A message or relayed packet to a client of the TURN server.
    ToClient {
        to: FiveTuple,
        bytes: Vec<u8>,
    },
    /// A relayed packet to a peer elsewhere.
    ToPeer {
        from: SocketAddrV4,
        to: SocketAddrV4,
        bytes: Vec<u8>,
    },
    /// Disk or hash: the answer comes later.
    Later(room::Input),
    /// Who is inside changed.
    Seated(UserId),
    Unseated(UserId),
}

struct Servers {
    turn: bool,
}

impl IceServerSource for Servers {
    fn ice_servers(&self, room: &RoomId, user: UserId, _: Option<&str>, unix: u64) -> Vec<IceServer> {
        let stun = vec![format!("stun:{ADDRESS}")];
        let mut servers = vec![IceServer { urls: stun, username: None, credential: None }];
        if self.turn {
            let username = format!("{}:{room}.{user}", unix + 3600);
            let credential = Secret::new(SECRET.to_vec()).password(&username).to_string();
            let urls = vec![format!("turn:{ADDRESS}?transport=udp"), format!("turn:{ADDRESS}?transport=tcp")];
            servers.push(IceServer { urls, username: Some(username), credential: Some(credential) });
        }
        servers
    }

    fn ttl(&self) -> Duration {
        // Short, so that credentials are renewed inside a call.
        Duration::from_secs(80)
    }
}

pub(crate) struct Relay {
    start: Instant,
    turn_enabled: bool,
    pub(crate) up: bool,
    /// How often it was started: what an earlier one knew, a later one does not.
    pub(crate) life: u64,
    rooms: RoomServer,
    turn: TurnServer,
    sockets: BTreeMap<SocketAddrV4, RelaySocketId>,
    store: BTreeMap<RoomId, Vec<u8>>,
    pub(crate) effects: Vec<Effect>,
}

impl Relay {
    pub(crate) fn new(start: Instant, turn_enabled: bool, seed: [u8; 32]) -> Self {
        let (rooms, turn) = servers(start, Duration::ZERO, turn_enabled, seed);
        Self {
            start,
            turn_enabled,
            up: true,
            life: 0,
            rooms,
            turn,
            sockets: BTreeMap::new(),
            store: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    /// All but the store is gone.
    pub(crate) fn stop(&mut self) {
        self.up = false;
    }

    pub(crate) fn start_again(&mut self, now: Duration, seed: [u8; 32]) {
        (self.rooms, self.turn) = servers(self.start, now, self.turn_enabled, seed);
        self.sockets.clear();
        self.up = true;
        self.life += 1;
    }

    pub(crate) fn input(&mut self, input: room::Input, now: Duration) {
        self.rooms.handle_input(input, self.room_now(now));
        self.drain(now);
    }

    /// One frame of a client.
    pub(crate) fn frame(&mut self, connection: ConnectionId, text: &str, now: Duration) {
        self.input(room::Input::Frame { connection, text: text.to_owned() }, now);
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        let next = [self.rooms.poll_timeout(), self.turn.poll_timeout()].into_iter().flatten().min()?;
        self.up.then(|| next.saturating_duration_since(self.start))
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        self.rooms.handle_timeout(self.room_now(now));
        self.drain(now);
        self.turn.handle_timeout(self.turn_now(now));
        self.drain_turn(now);
    }

    /// A datagram, or a frame of a stream, from a client of the TURN server.
    pub(crate) fn take_from_client(&mut self, from: &FiveTuple, bytes: &[u8], now: Duration) {
        let verdict = self.turn.handle_client(from, bytes, self.turn_now(now));
        self.forward(verdict, bytes);
        self.drain_turn(now);
    }

    /// A datagram to one of the relay's other ports.
    pub(crate) fn take_from_peer(
        &mut self,
        to: SocketAddrV4,
        peer: SocketAddrV4,
        bytes: &[u8],
        now: Duration,
    ) {
        let Some(relay) = self.sockets.get(&to) else { return };
        let verdict = self.turn.handle_peer(*relay, peer.into(), bytes, self.turn_now(now));
        self.forward(verdict, bytes);
    }

    pub(crate) fn stream_gone(&mut self, client: FiveTuple, now: Duration) {
        self.turn.handle_input(turn::Input::ClientGone(client), self.turn_now(now));
        self.drain_turn(now);
    }

    /// Who has a seat.
    pub(crate) fn seats(&self) -> Vec<UserId> {
        let mut seats: Vec<UserId> = self.rooms.seats().map(|(_, user)| user).collect();
        seats.sort_unstable();
        seats
    }

    fn forward(&mut self, verdict: Verdict, packet: &[u8]) {
        let Verdict::Forward(forward) = verdict else { return };
        let mut bytes = forward.head.to_vec();
        bytes.extend(packet.get(forward.body.clone()).unwrap_or_default());
        bytes.resize(bytes.len() + usize::from(forward.pad), 0);
        match forward.target {
            Target::Client(to) => self.effects.push(Effect::ToClient { to, bytes }),
            Target::Peer { relay, peer } => {
                let from = self.sockets.iter().find(|(_, id)| **id == relay).map(|(address, _)| *address);
                if let (Some(from), SocketAddr::V4(to)) = (from, peer) {
                    self.effects.push(Effect::ToPeer { from, to, bytes });
                }
            }
        }
    }

    fn drain(&mut self, now: Duration) {
        while let Some(output) = self.rooms.poll_output() {
            match output {
                room::Output::Send { connection, frame } => {
                    self.effects.push(Effect::Frame { connection, text: frame.encode() });
                }
                room::Output::Close { connection, code } => {
                    self.effects.push(Effect::Close { connection, code: code as u16 });
                }
                room::Output::LoadRoom { job, room } => {
                    let result = Ok(self.store.get(&room).cloned());
                    self.effects.push(Effect::Later(room::Input::RoomLoaded { job, result }));
                }
                room::Output::SaveRoom { job, room, record, .. } => {
                    self.store.insert(room, record);
                    if let Some(job) = job {
                        self.effects.push(Effect::Later(room::Input::RoomSaved { job, result: Ok(()) }));
                    }
                }
                room::Output::HashPassword { job, password, .. } => {
                    let result = Ok(format!("hash of {}", password.expose()));
                    self.effects.push(Effect::Later(room::Input::PasswordHashed { job, result }));
                }
                room::Output::CheckPassword { job, password, hash, .. } => {
                    let result =
                        Ok(hash.is_some_and(|hash| hash == format!("hash of {}", password.expose())));
                    self.effects.push(Effect::Later(room::Input::PasswordChecked { job, result }));
                }
                room::Output::Seated { room, user } => {
                    self.turn.handle_input(turn::Input::Admit(account(&room, user)), self.turn_now(now));
                    self.effects.push(Effect::Seated(user));
                }
                room::Output::Unseated { room, user } => {
                    self.turn.handle_input(turn::Input::Revoke(account(&room, user)), self.turn_now(now));
                    self.effects.push(Effect::Unseated(user));
                }
                room::Output::Meta { .. } => {}
            }
        }
        self.drain_turn(now);
    }

    fn drain_turn(&mut self, now: Duration) {
        while let Some(output) = self.turn.poll_output() {
            match output {
                turn::Output::Reply { to, message } => {
                    self.effects.push(Effect::ToClient { to, bytes: message });
                }
                turn::Output::OpenRelaySocket { relay, bind } => {
                    let SocketAddr::V4(bind) = bind else { continue };
                    self.sockets.insert(bind, relay);
                    self.turn.handle_input(turn::Input::RelaySocketOpened(relay), self.turn_now(now));
                }
                turn::Output::CloseRelaySocket { relay } => self.sockets.retain(|_, id| *id != relay),
                turn::Output::CloseClient { .. } => {}
            }
        }
    }

    fn room_now(&self, now: Duration) -> room::Now {
        room::Now { at: self.start + now, unix: START + now.as_secs() }
    }

    fn turn_now(&self, now: Duration) -> turn::Now {
        turn::Now { at: self.start + now, unix: START + now.as_secs() }
    }
}

fn servers(start: Instant, now: Duration, turn: bool, seed: [u8; 32]) -> (RoomServer, TurnServer) {
    let mut rooms = RoomServer::new(RoomServerConfig::default(), seed, Box::new(Servers { turn }));
    rooms.handle_timeout(room::Now { at: start + now, unix: START + now.as_secs() });
    let own = vec![IpAddr::V4(*ADDRESS.ip())];
    let config = TurnConfig {
        secrets: vec![Secret::new(SECRET.to_vec())],
        addresses: RelayAddresses { external: Vec::new(), detected: own.clone(), local: own.clone() },
        policy: PeerPolicy { own, listeners: vec![ADDRESS.port()], ..PeerPolicy::default() },
        ..TurnConfig::default()
    };
    let now = turn::Now { at: start + now, unix: START + now.as_secs() };
    (rooms, TurnServer::new(config, seed, now))
}

fn account(room: &RoomId, user: UserId) -> Account {
    Account { group: room.as_str().into(), owner: user.to_string().into() }
}
