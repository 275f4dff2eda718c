//! A relay in a test: the state machine, a clock that the test turns, a store and a password checker made of maps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use snug_room_proto::{
    Busy, ConnectionId, IceServerSource, Input, Now, Output, QueryId, RoomMeta, RoomServer, RoomServerConfig,
    StoreFailure,
};
use snug_wire::{CloseCode, IceServer, LinkProof, Request, RoomId, UserId};

/// The clock starts here, in seconds since 1970: 2026-11-23.
pub const START: u64 = 1_795_392_000;

pub struct World {
    pub server: RoomServer,
    pub now: Now,
    /// When the clock began; set together with the wall clock.
    started: Now,
    pub disk: BTreeMap<String, Vec<u8>>,
    pub disk_failure: Option<StoreFailure>,
    pub password_failure: Option<Busy>,
    /// While true, jobs wait in `jobs` until [`World::run_jobs`].
    pub hold_jobs: bool,
    pub jobs: VecDeque<Output>,
    pub inboxes: BTreeMap<u64, VecDeque<Value>>,
    pub closed: BTreeMap<u64, CloseCode>,
    pub metas: BTreeMap<u64, Option<RoomMeta>>,
    pub password_work: usize,
    /// Rooms written so far.
    pub saves: usize,
    /// Who has a seat, by what the state machine said.
    pub seated: BTreeSet<(RoomId, UserId)>,
    /// Who has had one: a replay tells of those who came and left.
    ever_seated: BTreeSet<(RoomId, UserId)>,
    /// By which name the next connections reach the relay.
    pub host: Option<&'static str>,
    next_connection: u64,
}

/// TURN credentials that show for whom and when they were made.
struct Turn;

impl IceServerSource for Turn {
    fn ice_servers(&self, room: &RoomId, user: UserId, host: Option<&str>, unix: u64) -> Vec<IceServer> {
        vec![IceServer {
            urls: vec![format!("turn:{}", host.unwrap_or("relay.example"))],
            username: Some(format!("{}:{room}.{user}", unix + 3600)),
            credential: Some("secret".into()),
        }]
    }

    fn ttl(&self) -> Duration {
        Duration::from_secs(3600)
    }
}

/// A client of the test.
#[derive(Clone, Copy)]
pub struct Client {
    pub connection: ConnectionId,
    pub user: UserId,
}

pub fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

/// Most tests are not about these limits.
fn generous() -> RoomServerConfig {
    RoomServerConfig {
        joins: snug_room_proto::RateLimit { burst: 1e6, per_second: 1e6 },
        creations: snug_room_proto::RateLimit { burst: 1e6, per_second: 1e6 },
        ..RoomServerConfig::default()
    }
}

impl World {
    pub fn new() -> Self {
        Self::with(generous())
    }

    pub fn with(config: RoomServerConfig) -> Self {
        let now = Now { at: Instant::now(), unix: START };
        Self::at(config, now, now)
    }

    fn at(config: RoomServerConfig, now: Now, started: Now) -> Self {
        let mut server = RoomServer::new(config, [7; 32], Box::new(Turn));
        // As a shell does at its start.
        server.handle_timeout(now);
        Self {
            server,
            now,
            started,
            disk: BTreeMap::new(),
            disk_failure: None,
            password_failure: None,
            hold_jobs: false,
            jobs: VecDeque::new(),
            inboxes: BTreeMap::new(),
            closed: BTreeMap::new(),
            metas: BTreeMap::new(),
            password_work: 0,
            saves: 0,
            seated: BTreeSet::new(),
            ever_seated: BTreeSet::new(),
            host: None,
            next_connection: 0,
        }
    }

    /// Who has a seat in `room`, by what the state machine said.
    pub fn seated_in(&self, room: &str) -> Vec<UserId> {
        self.seated.iter().filter(|(id, _)| id.as_str() == room).map(|(_, user)| *user).collect()
    }

    /// Another process over the same disk.
    pub fn restarted(self) -> Self {
        Self { disk: self.disk, ..Self::at(generous(), self.now, self.started) }
    }

    pub fn connect_from(&mut self, user: UserId, address: &str) -> Client {
        let client = self.connect_silent(user, address);
        self.send(client, json!({"type": "hello", "versions": [1]}));
        assert_eq!(self.receive(client)["type"], "welcome");
        client
    }

    pub fn connect_silent(&mut self, user: UserId, address: &str) -> Client {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        let address: IpAddr = address.parse().expect("an address");
        self.input(Input::Connected { connection, address, host: self.host.map(Into::into) });
        Client { connection, user }
    }

    pub fn connect(&mut self, number: u8) -> Client {
        self.connect_from(user(number), "192.0.2.1")
    }

    /// Connects and joins `room` with no password, and takes `room_joined`.
    pub fn join(&mut self, number: u8, room: &str) -> (Client, Value) {
        let client = self.connect(number);
        let joined = self.try_join(client, room, json!({}));
        assert_eq!(joined["type"], "room_joined", "{joined}");
        (client, joined)
    }

    /// Sends `join_room` with `extra` fields and takes the answer.
    pub fn try_join(&mut self, client: Client, room: &str, extra: Value) -> Value {
        self.send_join(client, room, extra);
        self.receive(client)
    }

    pub fn send_join(&mut self, client: Client, room: &str, extra: Value) {
        let mut message = json!({
            "type": "join_room",
            "roomId": room,
            "userId": client.user,
            "displayName": {"plain": format!("{{\"name\":\"{}\"}}", client.user)},
        });
        for (key, value) in extra.as_object().expect("an object of fields") {
            message[key] = value.clone();
        }
        self.send(client, message);
    }

    pub fn send(&mut self, client: Client, message: Value) {
        let text = message.to_string();
        if let Err((_, error)) = Request::decode(&text) {
            panic!("{message}: {error}");
        }
        self.send_text(client, text);
    }

    /// Sends a frame that may be no message.
    pub fn send_text(&mut self, client: Client, text: String) {
        self.input(Input::Frame { connection: client.connection, text });
    }

    pub fn request(&mut self, client: Client, message: Value) -> Value {
        self.send(client, message);
        self.receive(client)
    }

    /// The same once some time has passed.
    pub fn request_after(&mut self, client: Client, wait: Duration, message: Value) -> Value {
        self.pass(wait);
        self.request(client, message)
    }

    pub fn drop_connection(&mut self, client: Client) {
        self.input(Input::Disconnected { connection: client.connection, leaving: false });
    }

    pub fn say_goodbye(&mut self, client: Client) {
        self.input(Input::Disconnected { connection: client.connection, leaving: true });
    }

    pub fn query(&mut self, room: &str, link_proof: LinkProof) -> Option<RoomMeta> {
        let query = QueryId(self.metas.len() as u64);
        self.input(Input::Query { query, room: room.parse().expect("a room id"), link_proof });
        self.metas.get(&query.0).expect("a question is answered").clone()
    }

    pub fn input(&mut self, input: Input) {
        self.server.handle_input(input, self.now);
        self.settle();
    }

    /// Sets the wall clock, as an administrator, NTP or a suspended machine does; no time passes.
    pub fn set_wall_clock(&mut self, by: i64) {
        let set = |unix: u64| unix.checked_add_signed(by).expect("after 1970");
        self.now.unix = set(self.now.unix);
        self.started.unix = set(self.started.unix);
    }

    /// Turns the clock, stopping at every timer on the way as a shell would.
    pub fn pass(&mut self, duration: Duration) {
        let until = self.now.at + duration;
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= until) {
            self.turn_clock(due.max(self.now.at));
            self.server.handle_timeout(self.now);
            self.settle();
        }
        self.turn_clock(until);
    }

    fn turn_clock(&mut self, to: Instant) {
        // Parts of seconds add up.
        let passed = to - self.started.at;
        self.now = Now { at: to, unix: self.started.unix + passed.as_secs() };
    }

    /// The next message for `client`; a test that expects one fails when there is none.
    pub fn receive(&mut self, client: Client) -> Value {
        self.try_receive(client).unwrap_or_else(|| panic!("nothing for {:?}", client.connection))
    }

    pub fn try_receive(&mut self, client: Client) -> Option<Value> {
        self.inboxes.get_mut(&client.connection.0)?.pop_front()
    }

    /// All messages that wait for `client`, by type.
    pub fn receive_types(&mut self, client: Client) -> Vec<String> {
        let messages = std::iter::from_fn(|| self.try_receive(client));
        messages.map(|message| message["type"].as_str().expect("a type").to_owned()).collect()
    }

    pub fn run_jobs(&mut self) {
        while let Some(job) = self.jobs.pop_front() {
            self.run_job(job);
        }
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Send { connection, frame } => {
                    let value: Value = serde_json::from_str(&frame.encode()).expect("frames are JSON");
                    self.check_seats_named_by(&value);
                    self.inboxes.entry(connection.0).or_default().push_back(value);
                }
                Output::Close { connection, code } => {
                    self.closed.insert(connection.0, code);
                }
                Output::Seated { room, user } => {
                    self.ever_seated.insert((room.clone(), user));
                    assert!(self.seated.insert((room, user)), "{user} has two seats");
                }
                Output::Unseated { room, user } => {
                    assert!(self.seated.remove(&(room, user)), "{user} gave up a seat that it did not have");
                }
                Output::Meta { query, meta } => {
                    self.metas.insert(query.0, meta);
                }
                job if self.hold_jobs => self.jobs.push_back(job),
                job => self.run_job(job),
            }
        }
    }

    /// Whoever is told that somebody is there: the shell was told before.
    fn check_seats_named_by(&self, message: &Value) {
        let (joined, seats) = match message["type"].as_str() {
            Some("room_joined") => (&message["userId"], &self.seated),
            Some("user_joined") => (&message["participant"]["userId"], &self.ever_seated),
            _ => return,
        };
        let is_joined = |user: &UserId| *joined == json!(user);
        assert!(seats.iter().any(|(_, user)| is_joined(user)), "{message} came before its seat");
    }

    fn run_job(&mut self, job: Output) {
        let now = self.now;
        let answer = match job {
            Output::LoadRoom { job, room } => {
                Input::RoomLoaded { job, result: Ok(self.disk.get(room.as_str()).cloned()) }
            }
            Output::SaveRoom { job, room, record, .. } => {
                self.saves += 1;
                let result = self.disk_failure.map_or(Ok(()), Err);
                if result.is_ok() {
                    self.disk.insert(room.to_string(), record);
                }
                let Some(job) = job else { return };
                Input::RoomSaved { job, result }
            }
            Output::HashPassword { job, password, .. } => {
                self.password_work += 1;
                Input::PasswordHashed { job, result: self.busy_or(format!("hash of {}", password.expose())) }
            }
            Output::CheckPassword { job, password, hash, .. } => {
                self.password_work += 1;
                let right = hash == Some(format!("hash of {}", password.expose()));
                Input::PasswordChecked { job, result: self.busy_or(right) }
            }
            other => panic!("not a job: {other:?}"),
        };
        self.server.handle_input(answer, now);
    }

    fn busy_or<T>(&self, value: T) -> Result<T, Busy> {
        self.password_failure.map_or(Ok(value), Err)
    }
}
