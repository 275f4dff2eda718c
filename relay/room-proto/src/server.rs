//! The state machine of all rooms of one relay.

mod lobby;
mod ownership;
mod resuming;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use snug_wire::identity::join_text;
use snug_wire::message::{Forward, Forwarded, JoinRoom, RoomJoined};
use snug_wire::{
    ClientMessage, CloseCode, ErrorCode, JoinNonce, LeaveReason, LinkProof, Media, Password, Request, RoomId,
    ServerFrame, ServerMessage, Token, UserId, VERSIONS, limits, negotiate_version,
};

use crate::address::{AddressBlock, Source};
use crate::config::{IceServerSource, RoomServerConfig};
use crate::date::Day;
use crate::guesses::Guesses;
use crate::io::{Busy, ConnectionId, Departure, Input, JobId, Now, Output, QueryId, Seed, StoreFailure};
use crate::quotas::Quotas;
use crate::record::{RoomRecord, SessionId, SessionRecord, StoredPassword};
use crate::room::{Change, PendingChange, Room};
use crate::seat::Seat;
use crate::ticket::Ticket;
use crate::timers::Timers;
use crate::token_bucket::{Buckets, TokenBucket};
use crate::wall_clock::WallClock;

/// Most address blocks whose joins are counted.
const BLOCKS: usize = 10_000;
/// Most joins and questions that wait for one room to be loaded.
const WAITING: usize = 256;
/// Most password checks under way for one room, and for one address block: a whole room may come back at once.
const CHECKS: usize = 10;
/// A seated client that sent nothing for a heartbeat and the time of its answer is probably gone.
const SILENT: Duration = Duration::from_secs(20);
/// A session is written this long after it began, so that one which is over at once is written once.
const SESSION_BEGINS: Duration = Duration::from_secs(5);
/// How often a running session is written: what a crash loses of it at most.
const SESSION_GOES_ON: Duration = Duration::from_secs(300);
/// At most one answer to too many messages in this time: the answers must not be a load of their own.
const COMPLAINT: Duration = Duration::from_secs(1);

/// What this relay can do beyond what every relay of version 2 can (PROTOCOL.md §2).
const CAPABILITIES: [&str; 6] = ["lobby", "ownership", "ask_mute", "new_link", "names", "recording"];

/// All rooms of one relay.
pub struct RoomServer {
    config: RoomServerConfig,
    ice: Box<dyn IceServerSource>,
    random: ChaCha20Rng,
    connections: HashMap<ConnectionId, Connection>,
    rooms: HashMap<RoomId, RoomEntry>,
    jobs: HashMap<JobId, Job>,
    next_job: u64,
    next_attempt: u64,
    joins: Buckets<AddressBlock>,
    guesses: Guesses,
    quotas: Quotas,
    timers: Timers<Timer>,
    outputs: VecDeque<Output>,
    draining: bool,
    seats: usize,
    wall_clock: WallClock,
    /// When the first input came: sessions of the relay before go on until [`limits::SESSION_HOLD`] later.
    started: Option<Instant>,
}

/// Figures for metrics and `/health`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomServerStats {
    /// Connections that are up.
    pub connections: usize,
    /// Rooms in memory.
    pub rooms: usize,
    /// Seats, away ones included.
    pub participants: usize,
    /// Timers that are set: a few for each connection and seat.
    pub timers: usize,
}

struct Connection {
    source: Source,
    block: AddressBlock,
    /// What a join has to sign.
    nonce: JoinNonce,
    capabilities: Vec<String>,
    host: Option<Box<str>>,
    state: State,
    messages: TokenBucket,
    complained_at: Option<Instant>,
    /// Since when it has had no seat.
    unseated_since: Instant,
    heard_at: Instant,
    /// The room whose password it got wrong: it may see the hint.
    failed_at: Option<RoomId>,
}

enum State {
    /// No `hello` so far.
    Fresh,
    Ready,
    Joining(Box<Joining>),
    Seated {
        room: RoomId,
        user: UserId,
    },
}

/// A `join_room` on its way.
struct Joining {
    join: JoinRoom,
    request_id: Option<u32>,
    /// Which join of all this is: what was begun for an earlier join of the connection must not decide this one.
    attempt: Attempt,
    /// The check that it waits for.
    job: Option<JobId>,
    /// The hash that the password was right for.
    password_checked: Option<String>,
    /// Since when it waits in the lobby.
    knocking_since: Option<Instant>,
    /// Somebody inside let it in.
    admitted: bool,
}

/// Numbers every `join_room`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attempt(u64);

enum RoomEntry {
    /// The store is asked for it.
    Loading(Vec<Waiter>),
    /// It is being written for the first time.
    Creating(Box<Creating>),
    Open(Box<Room>),
}

struct Creating {
    record: RoomRecord,
    owner_token: Token,
    creator: (ConnectionId, Attempt),
    waiting: Vec<Waiter>,
}

enum Waiter {
    Join(ConnectionId, Attempt),
    Meta(QueryId, LinkProof),
}

enum Job {
    Load(RoomId),
    Create(RoomId),
    Change(RoomId),
    /// A new password is being hashed.
    Hash {
        connection: ConnectionId,
        request_id: Option<u32>,
        hint: Option<String>,
    },
    /// A joiner's password is being checked against a room's hash, or against none.
    Check {
        connection: ConnectionId,
        hash: Option<String>,
        room: RoomId,
        source: Source,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Connection(ConnectionId),
    Seat(RoomId, UserId),
    /// The running session is to be written, or nobody came back to that of the relay before.
    Session(RoomId),
    WallClock,
}

/// With what right somebody gets a seat.
#[derive(Default)]
struct Entry {
    owner: bool,
    /// The participant that its ticket was for, where that had another key.
    former: Option<UserId>,
    /// Told to who made the room.
    new_owner_token: Option<Token>,
}

/// Why a request is refused, and when to try again.
pub(crate) type Refusal = (ErrorCode, Option<Duration>);

impl RoomServer {
    /// `seed` is 32 bytes of the system's randomness: every token comes from it.
    pub fn new(config: RoomServerConfig, seed: Seed, ice: Box<dyn IceServerSource>) -> Self {
        let creations = config.creations;
        Self {
            joins: Buckets::new(config.joins, BLOCKS),
            config,
            ice,
            random: ChaCha20Rng::from_seed(seed),
            connections: HashMap::new(),
            rooms: HashMap::new(),
            jobs: HashMap::new(),
            next_job: 0,
            next_attempt: 0,
            guesses: Guesses::new(),
            quotas: Quotas::new(creations),
            timers: Timers::new(),
            outputs: VecDeque::new(),
            draining: false,
            seats: 0,
            wall_clock: WallClock::new(),
            started: None,
        }
    }

    /// What is to be done next; call until `None` after every mutation.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > 1024 {
            // One burst should not pin its memory.
            self.outputs.shrink_to(64);
        }
        output
    }

    /// When [`RoomServer::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether `room` is in memory: somebody is in it, or about to be.
    pub fn holds(&self, room: &RoomId) -> bool {
        self.rooms.contains_key(room)
    }

    /// Figures of this moment.
    pub fn stats(&self) -> RoomServerStats {
        RoomServerStats {
            connections: self.connections.len(),
            rooms: self.rooms.len(),
            participants: self.seats,
            timers: self.timers.len(),
        }
    }

    /// All seats, away ones included: those that [`Output::Seated`] told of. In no order.
    pub fn seats(&self) -> impl Iterator<Item = (&RoomId, UserId)> {
        let open = self.rooms.iter().filter_map(|(id, entry)| match entry {
            RoomEntry::Open(room) => Some((id, room)),
            _ => None,
        });
        open.flat_map(|(id, room)| room.seats.iter().map(move |seat| (id, seat.user)))
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now: Now) {
        self.started.get_or_insert(now.at);
        self.compare_clocks(now);
        match input {
            Input::Connected { connection, address, host } => {
                self.connected(connection, address, host, now);
            }
            Input::Frame { connection, text } => self.frame(connection, &text, now),
            Input::Disconnected { connection, departure } => self.disconnected(connection, departure, now),
            Input::RoomLoaded { job, result } => self.room_loaded(job, result, now),
            Input::RoomSaved { job, result } => self.room_saved(job, result, now),
            Input::PasswordHashed { job, result } => self.password_hashed(job, result),
            Input::PasswordChecked { job, result } => self.password_checked(job, result, now),
            Input::Query { query, room, link_proof } => {
                self.wait_for_room(room, Waiter::Meta(query, link_proof), now);
            }
            Input::IceServersChanged => self.ice_servers_changed(now),
            Input::Drain => self.drain(now),
            Input::Stop => self.stop(now),
        }
    }

    /// Takes note that time has passed; and of the time at which the relay starts, when that is told first.
    pub fn handle_timeout(&mut self, now: Now) {
        self.started.get_or_insert(now.at);
        self.compare_clocks(now);
        while let Some(timer) = self.timers.take_due(now.at) {
            match timer {
                Timer::Connection(connection) => self.connection_timer(connection, now),
                Timer::Seat(room, user) => self.seat_timer(room, user, now),
                Timer::Session(room) => self.session_timer(room, now),
                // They were compared above.
                Timer::WallClock => self.plan_comparison(now),
            }
        }
    }

    // --- connections ---------------------------------------------------------------------------------------------

    fn connected(&mut self, id: ConnectionId, address: IpAddr, host: Option<Box<str>>, now: Now) {
        let nonce = JoinNonce::from_bytes(self.draw());
        let connection = Connection {
            source: address.into(),
            block: address.into(),
            nonce,
            capabilities: Vec::new(),
            host,
            state: State::Fresh,
            messages: TokenBucket::full(self.config.messages, now.at),
            complained_at: None,
            unseated_since: now.at,
            heard_at: now.at,
            failed_at: None,
        };
        self.set_timer(connection.deadline(), Timer::Connection(id));
        self.connections.insert(id, connection);
        let welcome = ServerMessage::Welcome {
            versions: VERSIONS.to_vec(),
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            relay: self.config.relay.clone(),
            heartbeat_seconds: limits::HEARTBEAT.as_secs(),
            nonce,
        };
        self.send(id, &welcome);
    }

    fn connection_timer(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get(&id) else { return };
        let deadline = connection.deadline();
        if deadline > now.at {
            // A seat may be taken meanwhile, and a seat's silence is shorter than the time to join.
            let look_again = deadline.min(now.at + limits::IDLE_TIMEOUT);
            return self.set_timer(look_again, Timer::Connection(id));
        }
        if connection.has_waited_enough(now.at) {
            self.refuse_join(id, (ErrorCode::NotAdmitted, None));
            return self.set_timer(now.at + limits::IDLE_TIMEOUT, Timer::Connection(id));
        }
        self.send(id, &ServerMessage::error(ErrorCode::Idle, None));
        self.close(id, CloseCode::Idle, now);
    }

    /// The relay ends a connection; a seat is held for it.
    fn close(&mut self, connection: ConnectionId, code: CloseCode, now: Now) {
        self.outputs.push_back(Output::Close { connection, code });
        self.disconnected(connection, Departure::Lost, now);
    }

    fn disconnected(&mut self, id: ConnectionId, departure: Departure, now: Now) {
        let Some(connection) = self.forget_connection(id) else { return };
        match connection.state {
            State::Fresh | State::Ready => {}
            State::Joining(joining) => {
                self.stop_knocking(id, &joining);
                self.forget_after_knock(&joining);
            }
            State::Seated { room, user } => match departure {
                Departure::Leaving if !self.draining => {
                    self.remove_seat(&room, user, LeaveReason::Left, now);
                }
                // Whoever moves to the next relay closes this connection, and goes on with the call.
                Departure::GoingAway if !self.draining => self.seat_lost_connection(&room, user, true, now),
                _ => self.seat_lost_connection(&room, user, false, now),
            },
        }
    }

    /// Counts a frame, and only then reads it.
    fn frame(&mut self, id: ConnectionId, text: &str, now: Now) {
        if !self.allow_message(id, now) {
            return;
        }
        match Request::decode(text) {
            Ok(request) => self.message(id, request, now),
            Err((request_id, error)) => {
                let (code, message) = (error.code(), error.to_string());
                self.send(id, &ServerMessage::Error { code, message, request_id, retry_after_ms: None });
            }
        }
    }

    /// Counts a message; `false` when there were too many, which the sender is told now and then.
    fn allow_message(&mut self, id: ConnectionId, now: Now) -> bool {
        let limit = self.config.messages;
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        connection.heard_at = now.at;
        let Err(wait) = connection.messages.take(limit, now.at) else { return true };
        let silent =
            connection.complained_at.is_some_and(|at| now.at.saturating_duration_since(at) < COMPLAINT);
        if !silent {
            connection.complained_at = Some(now.at);
            self.refuse(id, None, (ErrorCode::RateLimited, Some(wait)));
        }
        false
    }

    fn message(&mut self, id: ConnectionId, Request { request_id, message }: Request, now: Now) {
        let Some(connection) = self.connections.get(&id) else { return };
        match (&connection.state, message) {
            (State::Fresh, ClientMessage::Hello { versions, capabilities, .. }) => {
                self.hello(id, &versions, capabilities, now);
            }
            (State::Fresh, _) => {
                self.send(id, &ServerMessage::error(ErrorCode::BadMessage, request_id));
                self.close(id, CloseCode::Protocol, now);
            }
            (_, ClientMessage::Hello { .. }) => self.refuse(id, request_id, (ErrorCode::BadMessage, None)),
            (State::Ready, ClientMessage::JoinRoom(join)) => self.join_room(id, request_id, *join, now),
            (State::Ready, ClientMessage::Resume { room_id, user_id, resume_token, last_seq }) => {
                self.resume(id, request_id, (room_id, user_id), &resume_token, last_seq, now);
            }
            (_, ClientMessage::JoinRoom(_) | ClientMessage::Resume { .. }) => {
                self.refuse(id, request_id, (ErrorCode::AlreadyJoined, None));
            }
            (State::Joining(_), ClientMessage::LeaveRoom {}) => {
                if let Some(joining) = self.take_joining(id) {
                    self.forget_after_knock(&joining);
                }
            }
            (State::Seated { room, user }, message) => {
                let seat = SeatRef { connection: id, request_id, room: room.clone(), user: *user };
                self.seated_message(&seat, message, now);
            }
            (_, ClientMessage::Ping { .. }) => self.send(id, &ServerMessage::Pong {}),
            (_, _) => self.refuse(id, request_id, (ErrorCode::NotJoined, None)),
        }
    }

    fn hello(&mut self, id: ConnectionId, versions: &[u32], capabilities: Vec<String>, now: Now) {
        if negotiate_version(versions).is_none() {
            self.send(id, &ServerMessage::error(ErrorCode::VersionUnsupported, None));
            return self.close(id, CloseCode::Protocol, now);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.state = State::Ready;
            connection.capabilities = capabilities;
        }
    }

    // --- joining -------------------------------------------------------------------------------------------------
    //
    // join_room → key proof → (room in memory? else load it) → link proof → ticket → password → lock → lobby → full? → seated
    //                 unknown: with a password → the same work, AUTH_FAILED; without → made, and on disk, first
    //
    // The owner's token and a ticket of the session pass what stands behind them; a seat of the same key is taken over.

    fn join_room(&mut self, id: ConnectionId, request_id: Option<u32>, join: JoinRoom, now: Now) {
        if self.draining {
            return self.refuse(id, request_id, (ErrorCode::Draining, None));
        }
        let Some(connection) = self.connections.get(&id) else { return };
        if let Err(wait) = self.joins.take(connection.block, now.at) {
            return self.refuse(id, request_id, (ErrorCode::RateLimited, Some(wait)));
        }
        let proven = join_text(&connection.nonce, &join.room_id);
        if !(self.config.verify)(&join.public_key, &proven, &join.key_proof) {
            return self.refuse(id, request_id, (ErrorCode::KeyProofInvalid, None));
        }
        let room = join.room_id.clone();
        self.next_attempt += 1;
        let attempt = Attempt(self.next_attempt);
        let joining = Joining {
            join,
            request_id,
            attempt,
            job: None,
            password_checked: None,
            knocking_since: None,
            admitted: false,
        };
        self.set_state(id, State::Joining(Box::new(joining)));
        self.wait_for_room(room, Waiter::Join(id, attempt), now);
    }

    /// Goes on with `waiter` once the room is in memory, which may be at once.
    fn wait_for_room(&mut self, room: RoomId, waiter: Waiter, now: Now) {
        match self.rooms.get_mut(&room) {
            Some(RoomEntry::Open(_)) => self.room_ready(&room, waiter, now),
            Some(RoomEntry::Loading(waiting)) if waiting.len() < WAITING => waiting.push(waiter),
            Some(RoomEntry::Creating(creating)) if creating.waiting.len() < WAITING => {
                creating.waiting.push(waiter);
            }
            Some(_) => self.refuse_waiter(waiter, (ErrorCode::ServerBusy, Some(COMPLAINT))),
            None => {
                self.rooms.insert(room.clone(), RoomEntry::Loading(vec![waiter]));
                let job = self.new_job(Job::Load(room.clone()));
                self.outputs.push_back(Output::LoadRoom { job, room });
            }
        }
    }

    fn room_ready(&mut self, room: &RoomId, waiter: Waiter, now: Now) {
        match waiter {
            Waiter::Join(id, attempt) => {
                if self.joining(id, attempt).is_some() {
                    self.admit(id, now);
                }
            }
            Waiter::Meta(query, link_proof) => {
                let meta = match self.rooms.get(room) {
                    // A room without a proof tells nobody anything: its answer is that of an unknown room.
                    Some(RoomEntry::Open(room)) if room.record.link_proof.is_some() => {
                        room.proves_link(Some(&link_proof)).then(|| room.meta())
                    }
                    _ => None,
                };
                self.outputs.push_back(Output::Meta { query, meta });
            }
        }
    }

    fn refuse_waiter(&mut self, waiter: Waiter, refusal: Refusal) {
        match waiter {
            Waiter::Join(id, attempt) => {
                if self.joining(id, attempt).is_some() {
                    self.refuse_join(id, refusal);
                }
            }
            Waiter::Meta(query, _) => self.outputs.push_back(Output::Meta { query, meta: None }),
        }
    }

    fn room_loaded(&mut self, job: JobId, result: Result<Option<Vec<u8>>, StoreFailure>, now: Now) {
        let Some(Job::Load(room)) = self.jobs.remove(&job) else { return };
        let Some(RoomEntry::Loading(waiting)) = self.rooms.remove(&room) else { return };
        let record = match result {
            Ok(None) => return self.unknown_room(&room, waiting, now),
            Ok(Some(bytes)) => RoomRecord::decode(&bytes).map_err(|_| StoreFailure::Unavailable),
            Err(failure) => Err(failure),
        };
        match record {
            Ok(mut record) => {
                let hold_ends = self.started.unwrap_or(now.at) + limits::SESSION_HOLD;
                if now.at >= hold_ends || Day::of(now.unix).days_since(record.last_used) > 1 {
                    // Nobody came back to it, or the end of it could not be written.
                    record.session = None;
                } else if record.session.is_some() {
                    self.set_timer(hold_ends, Timer::Session(room.clone()));
                }
                self.rooms.insert(room.clone(), RoomEntry::Open(Box::new(Room::new(record))));
                for waiter in waiting {
                    self.room_ready(&room, waiter, now);
                }
                self.forget_if_empty(&room);
            }
            Err(failure) => {
                for waiter in waiting {
                    self.refuse_waiter(waiter, (failure.code(), None));
                }
            }
        }
    }

    /// Nobody made this room so far. Who comes with a password is told what a wrong password is told; the first who comes without makes it.
    fn unknown_room(&mut self, room: &RoomId, waiting: Vec<Waiter>, now: Now) {
        let mut creator = None;
        let mut others = Vec::new();
        for waiter in waiting {
            let Waiter::Join(id, attempt) = waiter else {
                self.room_ready(room, waiter, now);
                continue;
            };
            let Some(joining) = self.joining(id, attempt) else { continue };
            match joining.join.password.clone() {
                Some(password) => self.check_password(id, room, password, None, now),
                None if creator.is_none() && self.may_create(id, now) => creator = Some((id, attempt)),
                None if creator.is_some() => others.push(Waiter::Join(id, attempt)),
                None => {}
            }
        }
        if let Some(creator) = creator {
            self.create(room, creator, others, now);
        }
    }

    /// Whether this connection's network may make one more room; it is told when not.
    fn may_create(&mut self, id: ConnectionId, now: Now) -> bool {
        let Some(connection) = self.connections.get(&id) else { return false };
        let State::Joining(joining) = &connection.state else { return false };
        let key = joining.join.creation_key.as_ref();
        match self.quotas.create(&self.config.creation, key, connection.block, now.at) {
            Ok(()) => true,
            Err(refusal) => {
                self.refuse_join(id, refusal);
                false
            }
        }
    }

    fn create(&mut self, room: &RoomId, creator: (ConnectionId, Attempt), waiting: Vec<Waiter>, now: Now) {
        let (drawn, session) = (self.new_token(), SessionId(self.draw()));
        let Some(joining) = self.joining(creator.0, creator.1) else { return };
        // A token of the client's own is taken, so that a creator who never hears the answer still owns the room.
        let owner_token = joining.join.owner_token.clone().unwrap_or(drawn);
        let link_proof = joining.join.link_proof.as_ref().map(LinkProof::digest);
        let mut record = RoomRecord::new(now.unix, owner_token.digest(), link_proof);
        // Its first session begins with it, and is written with it.
        record.session = Some(SessionRecord { id: session, locked: false, kicked: Vec::new() });
        let job = self.new_job(Job::Create(room.clone()));
        self.outputs.push_back(Output::SaveRoom {
            job: Some(job),
            room: room.clone(),
            record: record.encode(),
            creates: true,
        });
        let creating = Creating { record, owner_token, creator, waiting };
        self.rooms.insert(room.clone(), RoomEntry::Creating(Box::new(creating)));
    }

    fn room_created(&mut self, room: &RoomId, result: Result<(), StoreFailure>, now: Now) {
        let Some(RoomEntry::Creating(creating)) = self.rooms.remove(room) else { return };
        let Creating { record, owner_token, creator, waiting } = *creating;
        if let Err(failure) = result {
            for waiter in std::iter::once(Waiter::Join(creator.0, creator.1)).chain(waiting) {
                self.refuse_waiter(waiter, (failure.code(), None));
            }
            return;
        }
        self.rooms.insert(room.clone(), RoomEntry::Open(Box::new(Room::new(record))));
        if self.joining(creator.0, creator.1).is_some()
            && let Some(joining) = self.joining_mut(creator.0)
        {
            joining.join.owner_token = Some(owner_token.clone());
            self.seat(creator.0, &Entry { new_owner_token: Some(owner_token), ..Entry::default() }, now);
        } else if let Some(open) = self.open_room(room) {
            open.record.session = None;
            open.record.total_sessions = 0;
            self.save_quietly(room);
        }
        for waiter in waiting {
            self.room_ready(room, waiter, now);
        }
        self.forget_if_empty(room);
    }

    /// Decides on a join to a room that is in memory.
    fn admit(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get(&id) else { return };
        let State::Joining(joining) = &connection.state else { return };
        let join = &joining.join;
        let Some(RoomEntry::Open(room)) = self.rooms.get(&join.room_id) else { return };

        if !room.proves_link(join.link_proof.as_ref()) {
            // Who guesses names of rooms with a password must not learn from the answer that this one exists.
            return match join.password.clone() {
                Some(password) => self.check_password(id, &join.room_id.clone(), password, None, now),
                None => self.refuse_join(id, (ErrorCode::LinkIncomplete, None)),
            };
        }
        let user = join.public_key.user_id();
        let ticket = join.ticket.as_ref().map(|text| self.config.ticket_key.read(&join.room_id, text));
        let ticket = match ticket {
            Some(Some(ticket)) if Some(ticket.session) == room.session_id() => Some(ticket),
            Some(_) => return self.refuse_join(id, (ErrorCode::TicketInvalid, None)),
            None => None,
        };
        if room.was_kicked(user) || ticket.is_some_and(|ticket| room.was_kicked(ticket.user)) {
            return self.refuse_join(id, (ErrorCode::Kicked, None));
        }
        let owner = join.owner_token.as_ref().is_some_and(|token| room.is_owner_token(token))
            || ticket.is_some_and(|ticket| ticket.owner == Some(room.owner_tag()));
        let is_expected = owner || ticket.is_some();
        if let Some(stored) = room.record.password.as_ref().filter(|_| !is_expected)
            && joining.password_checked.as_ref() != Some(&stored.hash)
        {
            let Some(password) = join.password.clone() else {
                let hint =
                    stored.hint.clone().filter(|_| connection.failed_at.as_ref() == Some(&join.room_id));
                self.take_joining(id);
                return self.send(id, &ServerMessage::AuthRequired { hint });
            };
            let (room_id, hash) = (join.room_id.clone(), stored.hash.clone());
            return self.check_password(id, &room_id, password, Some(hash), now);
        }
        if room.is_locked() && !is_expected {
            return self.refuse_join(id, (ErrorCode::RoomLocked, None));
        }
        if room.has_lobby() && !is_expected && !joining.admitted && !room.is_open_to_first() {
            return self.knock(id, now);
        }
        let former = ticket.map(|ticket| ticket.user).filter(|former| *former != user);
        let returns = [Some(user), former].into_iter().flatten().any(|user| room.seat(user).is_some());
        let most = if is_expected { limits::PARTICIPANTS_MAX + 1 } else { room.record.max_participants };
        if !returns && room.seats.len() >= usize::from(most) {
            // A page that was closed keeps its place only as long as nobody needs it.
            let Some(leaving) = room.seats.iter().find(|seat| seat.going_away).map(|seat| seat.user) else {
                let max_participants = room.record.max_participants;
                let retry_after_ms = self.seat_free_after(room, now).map(in_milliseconds);
                self.take_joining(id);
                return self.send(id, &ServerMessage::RoomFull { max_participants, retry_after_ms });
            };
            self.remove_seat(&join.room_id.clone(), leaving, LeaveReason::Left, now);
        }
        self.seat(id, &Entry { owner, former, new_owner_token: None }, now);
    }

    /// How long until a full room takes somebody in again if nobody comes back whose connection is lost, or has been
    /// silent for so long that it probably is. `None` when too few seats are like that.
    fn seat_free_after(&self, room: &Room, now: Now) -> Option<Duration> {
        let mut ends: Vec<Instant> = room
            .seats
            .iter()
            .filter_map(|seat| match seat.connection {
                None => seat.held_until,
                Some(connection) => {
                    let heard = self.connections.get(&connection)?.heard_at;
                    let is_silent = now.at.saturating_duration_since(heard) > SILENT;
                    is_silent.then_some(heard + limits::IDLE_TIMEOUT + limits::SEAT_HOLD)
                }
            })
            .collect();
        ends.sort();
        // More than one has to go where the owner lowered the maximum below those inside.
        let surplus = room.seats.len().checked_sub(usize::from(room.record.max_participants))?;
        ends.get(surplus).map(|at| at.saturating_duration_since(now.at))
    }

    /// Has a password checked against `hash`, or against nothing at the same cost.
    fn check_password(
        &mut self,
        id: ConnectionId,
        room: &RoomId,
        password: Password,
        hash: Option<String>,
        now: Now,
    ) {
        let Some(connection) = self.connections.get(&id) else { return };
        let source = connection.source;
        if let Err(wait) = self.guesses.check(room, source, now.at) {
            return self.refuse_join(id, (ErrorCode::RateLimited, Some(wait)));
        }
        let block = source.block();
        let under_way = |same: &dyn Fn(&RoomId, &AddressBlock) -> bool| {
            let is_one =
                |job: &&Job| matches!(job, Job::Check { room, source, .. } if same(room, &source.block()));
            self.jobs.values().filter(is_one).count()
        };
        // A failure counts when it is known: without this, guesses sent at once would all be free.
        if under_way(&|_, of| *of == block).max(under_way(&|of, _| of == room)) >= CHECKS {
            return self.refuse_join(id, (ErrorCode::ServerBusy, Some(COMPLAINT)));
        }
        let job = self.new_job(Job::Check { connection: id, hash: hash.clone(), room: room.clone(), source });
        if let Some(joining) = self.joining_mut(id) {
            joining.job = Some(job);
        }
        self.outputs.push_back(Output::CheckPassword { job, password, hash, block });
    }

    fn password_checked(&mut self, job: JobId, result: Result<bool, Busy>, now: Now) {
        let Some(Job::Check { connection: id, hash, room, source }) = self.jobs.remove(&job) else { return };
        // Also when nobody waits for the answer any more.
        match result {
            Ok(true) => self.guesses.succeeded(&room, source, now.at),
            Ok(false) => self.guesses.failed(&room, source, now.at),
            Err(_) => {}
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let State::Joining(joining) = &mut connection.state else { return };
        if joining.job != Some(job) {
            return;
        }
        match result {
            Err(Busy(wait)) => self.refuse_join(id, (ErrorCode::ServerBusy, Some(wait))),
            Ok(true) => {
                joining.password_checked = hash;
                let attempt = joining.attempt;
                // The room may have emptied and left memory, or its password may have changed meanwhile.
                self.wait_for_room(room, Waiter::Join(id, attempt), now);
            }
            Ok(false) => {
                connection.failed_at = Some(room.clone());
                self.refuse_join(id, (ErrorCode::AuthFailed, None));
                self.forget_if_empty(&room);
            }
        }
    }

    /// Gives the joiner its seat and tells everybody.
    fn seat(&mut self, id: ConnectionId, entry: &Entry, now: Now) {
        let (token, session) = (self.new_token(), SessionId(self.draw()));
        let announcements = self.config.announcements();
        let Some(joining) = self.take_joining(id) else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let JoinRoom { room_id, public_key, display_name, owner_token, media, .. } = joining.join;
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&room_id) else { return };
        let user = public_key.user_id();
        connection.state = State::Seated { room: room_id.clone(), user };
        let media = Media { screen: media.screen && room.record.allow_screen_share, ..media };
        let mut seat = Seat::new(public_key, display_name, media, token, announcements, now.at);
        seat.owner = entry.owner || owner_token.as_ref().is_some_and(|token| room.is_owner_token(token));
        seat.former = entry.former;
        seat.capabilities.clone_from(&connection.capabilities);
        // The same key came back, or its ticket with another key: the seat that it had ends. To the others who is there under
        // the same key never left.
        for replaced in [Some(user), entry.former].into_iter().flatten() {
            self.replace_seat(&room_id, replaced, user);
        }
        self.outputs.push_back(Output::Seated { room: room_id.clone(), user });

        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&room_id) else { return };
        let joined = ServerMessage::UserJoined {
            participant: snug_wire::Participant { away: false, ..seat.participant() },
        };
        room.broadcast(None, &joined, &mut self.outputs);
        if room.session_started.is_none() {
            room.begin_session(session, now);
            self.timers.set(now.at + SESSION_BEGINS, Timer::Session(room_id.clone()));
        } else if !std::mem::replace(&mut room.record.met, true) {
            self.timers.set(now.at + SESSION_BEGINS, Timer::Session(room_id.clone()));
        }
        room.seats.push(seat);
        self.seats += 1;
        self.plan_comparison(now);
        self.attach(&room_id, user, id, entry.new_owner_token.clone(), now);
    }

    /// Ends the seat that a newcomer takes over, without ending the session.
    fn replace_seat(&mut self, room_id: &RoomId, user: UserId, by: UserId) {
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(room_id) else { return };
        let Some(seat) = room.remove(user) else { return };
        self.seats -= 1;
        self.outputs.push_back(Output::Unseated { room: room_id.clone(), user });
        if user != by {
            let left = ServerMessage::UserLeft { user_id: user, reason: LeaveReason::Replaced };
            room.broadcast(None, &left, &mut self.outputs);
        }
        if let Some(old) = seat.connection {
            self.send(old, &ServerMessage::error(ErrorCode::Replaced, None));
            self.forget_connection(old);
            self.outputs.push_back(Output::Close { connection: old, code: CloseCode::Replaced });
        }
    }

    /// Binds a seat to a connection and says everything about the room.
    fn attach(
        &mut self,
        room_id: &RoomId,
        user: UserId,
        id: ConnectionId,
        owner_token: Option<Token>,
        now: Now,
    ) {
        let ice_servers = self.ice_servers(room_id, user, id, now);
        let ttl = self.ice.ttl();
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(room_id) else { return };
        let room_info = room.info();
        let participants =
            room.seats.iter().filter(|seat| seat.user != user).map(Seat::participant).collect();
        let (session, owner_tag) = (room.session_id(), room.owner_tag());
        let Some(seat) = room.seat_mut(user) else { return };
        let owner = seat.owner.then_some(owner_tag);
        // A room with a seat has a session.
        let ticket = session.map(|session| Ticket { session, user, owner });
        let ticket = ticket.map(|ticket| self.config.ticket_key.issue(room_id, &ticket)).unwrap_or_default();
        seat.connection = Some(id);
        seat.held_until = None;
        seat.going_away = false;
        let expires = ice_servers.iter().any(|server| server.username.is_some());
        seat.credentials_due = expires.then(|| now.at + ttl * 3 / 4);
        let due = seat.credentials_due;
        let joined = ServerMessage::RoomJoined(Box::new(RoomJoined {
            room_id: room_id.clone(),
            user_id: user,
            resume_token: seat.resume_token.clone(),
            ticket,
            participants,
            room_info,
            is_owner: seat.owner,
            owner_token,
            ice_servers,
            ice_ttl_seconds: ttl.as_secs(),
            seat_hold_seconds: limits::SEAT_HOLD.as_secs(),
        }));
        seat.restart_sequence();
        seat.deliver(&ServerFrame::new(&joined), &mut self.outputs);
        self.tell_knocks(room_id, Some(user));
        if let Some(due) = due {
            self.set_timer(due, Timer::Seat(room_id.clone(), user));
        }
    }

    // --- inside --------------------------------------------------------------------------------------------------

    fn seated_message(&mut self, seat: &SeatRef, message: ClientMessage, now: Now) {
        let announcements = self.config.announcements();
        if is_announced(&message)
            && let Some(own) = self.open_room(&seat.room).and_then(|room| room.seat_mut(seat.user))
            && let Err(wait) = own.announce(announcements, now.at)
        {
            return self.refuse(seat.connection, seat.request_id, (ErrorCode::RateLimited, Some(wait)));
        }
        match message {
            ClientMessage::LeaveRoom {} => {
                if let Some(connection) = self.connections.get_mut(&seat.connection) {
                    connection.state = State::Ready;
                    connection.unseated_since = now.at;
                }
                self.remove_seat(&seat.room, seat.user, LeaveReason::Left, now);
            }
            ClientMessage::Offer(forward) => {
                self.forward(seat, forward, ServerMessage::OfferReceived, true, now);
            }
            ClientMessage::Answer(forward) => {
                self.forward(seat, forward, ServerMessage::AnswerReceived, true, now);
            }
            ClientMessage::IceCandidate(forward) => {
                self.forward(seat, forward, ServerMessage::IceCandidateReceived, false, now);
            }
            ClientMessage::ToggleAudio { enabled } => self.toggle(seat, |media| media.audio = enabled),
            ClientMessage::ToggleVideo { enabled } => self.toggle(seat, |media| media.video = enabled),
            ClientMessage::ToggleHand { enabled } => self.toggle(seat, |media| media.hand = enabled),
            ClientMessage::ToggleRecording { enabled } => {
                self.toggle(seat, |media| media.recording = enabled);
            }
            ClientMessage::SetName { display_name } => self.set_name(seat, display_name),
            ClientMessage::Admit { target_id, admitted } => self.decide(seat, target_id, admitted, now),
            ClientMessage::TakeOwnership { owner_token } => self.take_ownership(seat, owner_token, now),
            ClientMessage::ToggleScreen { enabled } => {
                if enabled && !self.open_room(&seat.room).is_some_and(|room| room.record.allow_screen_share) {
                    let refusal = (ErrorCode::ScreenShareDisabled, None);
                    return self.refuse(seat.connection, seat.request_id, refusal);
                }
                self.toggle(seat, |media| media.screen = enabled);
            }
            ClientMessage::TurnCredentials {} => self.send_credentials(&seat.room, seat.user, now),
            ClientMessage::Ping { last_seq } => {
                if let Some(last_seq) = last_seq
                    && let Some(own) = self.open_room(&seat.room).and_then(|room| room.seat_mut(seat.user))
                {
                    own.acknowledge(last_seq, now.at);
                }
                self.send(seat.connection, &ServerMessage::Pong {});
            }
            message => self.owner_message(seat, message, now),
        }
    }

    fn forward(
        &mut self,
        seat: &SeatRef,
        Forward { target_id, payload }: Forward,
        wrap: fn(Forwarded) -> ServerMessage,
        is_description: bool,
        now: Now,
    ) {
        let Some(room) = self.open_room(&seat.room) else { return };
        if target_id == seat.user || room.seat(target_id).is_none() {
            return self.refuse(seat.connection, seat.request_id, (ErrorCode::UnknownTarget, None));
        }
        let Some(own) = room.seat_mut(seat.user) else { return };
        if is_description {
            own.reset_candidates(target_id);
        } else if !own.count_candidate(target_id) {
            return self.refuse(seat.connection, seat.request_id, (ErrorCode::TooManyCandidates, None));
        }
        let frame = ServerFrame::new(&wrap(Forwarded { from_id: seat.user, payload }));
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&seat.room) else { return };
        let Some(target) = room.seat_mut(target_id) else { return };
        if let Err(wait) = target.deliver_from(seat.user, &frame, &mut self.outputs, now.at) {
            self.refuse(seat.connection, seat.request_id, (ErrorCode::RateLimited, Some(wait)));
        }
    }

    fn toggle(&mut self, seat: &SeatRef, change: impl FnOnce(&mut Media)) {
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&seat.room) else { return };
        let Some(own) = room.seat_mut(seat.user) else { return };
        change(&mut own.media);
        let message = ServerMessage::PeerState { user_id: seat.user, media: own.media };
        room.broadcast(Some(seat.user), &message, &mut self.outputs);
    }

    /// Takes a seat away, tells the others, and forgets the room when it was the last.
    fn remove_seat(&mut self, room_id: &RoomId, user: UserId, reason: LeaveReason, now: Now) {
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(room_id) else { return };
        if room.remove(user).is_none() {
            return;
        }
        self.seats -= 1;
        self.timers.cancel(&Timer::Seat(room_id.clone(), user));
        self.outputs.push_back(Output::Unseated { room: room_id.clone(), user });
        room.broadcast(None, &ServerMessage::UserLeft { user_id: user, reason }, &mut self.outputs);
        if room.seats.is_empty() {
            self.end_session(room_id, now);
        }
    }

    /// Nobody is inside any more.
    fn end_session(&mut self, room_id: &RoomId, now: Now) {
        self.timers.cancel(&Timer::Session(room_id.clone()));
        let Some(room) = self.open_room(room_id) else { return };
        room.end_session(now);
        self.save_soon(room_id);
        self.reconsider_knocks(room_id, now);
        self.forget_if_empty(room_id);
    }

    /// Writes the record as it is, once no change is on its way to disk: the record without it must not overtake it.
    fn save_soon(&mut self, room_id: &RoomId) {
        let Some(room) = self.open_room(room_id) else { return };
        room.stale = true;
        if !room.is_changing() {
            self.save_quietly(room_id);
        }
    }

    /// Writes what is known of the running session; that of a relay before us ends where nobody came back to it.
    fn session_timer(&mut self, room_id: RoomId, now: Now) {
        let Some(room) = self.open_room(&room_id) else { return };
        if room.seats.is_empty() {
            return self.end_session(&room_id, now);
        }
        room.account(now);
        self.save_soon(&room_id);
        self.set_timer(now.at + SESSION_GOES_ON, Timer::Session(room_id));
    }

    /// Writes the statistics; nobody waits for it.
    fn save_quietly(&mut self, room_id: &RoomId) {
        if let Some(RoomEntry::Open(room)) = self.rooms.get_mut(room_id) {
            room.stale = false;
            let record = room.record.encode();
            self.outputs.push_back(Output::SaveRoom {
                job: None,
                room: room_id.clone(),
                record,
                creates: false,
            });
        }
    }

    /// An empty room leaves memory, unless a change of it is on its way to disk.
    fn forget_if_empty(&mut self, room_id: &RoomId) {
        if let Some(RoomEntry::Open(room)) = self.rooms.get(room_id)
            && room.seats.is_empty()
            && room.knocks.is_empty()
            && !room.is_changing()
        {
            self.rooms.remove(room_id);
        }
    }

    // --- the owner -----------------------------------------------------------------------------------------------

    fn owner_message(&mut self, seat: &SeatRef, message: ClientMessage, now: Now) {
        let Some(room) = self.open_room(&seat.room) else { return };
        if !room.seat(seat.user).is_some_and(|own| own.owner) {
            return self.refuse(seat.connection, seat.request_id, (ErrorCode::NotOwner, None));
        }
        if is_written(&message)
            && let Err(wait) = self.may_change(seat, now)
        {
            return self.refuse(seat.connection, seat.request_id, (ErrorCode::RateLimited, Some(wait)));
        }
        match message {
            ClientMessage::SetRoomPassword { password, hint } => {
                let hint = hint.filter(|hint| !hint.is_empty());
                let hashing =
                    |job: &Job| matches!(job, Job::Hash { connection, .. } if *connection == seat.connection);
                if self.jobs.values().any(hashing) {
                    let refusal = (ErrorCode::ServerBusy, Some(COMPLAINT));
                    return self.refuse(seat.connection, seat.request_id, refusal);
                }
                let Some(block) = self.connections.get(&seat.connection).map(|c| c.block) else { return };
                if let Err(wait) = self.quotas.hash(&seat.room, block, now.at) {
                    let refusal = (ErrorCode::RateLimited, Some(wait));
                    return self.refuse(seat.connection, seat.request_id, refusal);
                }
                let job = self.new_job(Job::Hash {
                    connection: seat.connection,
                    request_id: seat.request_id,
                    hint,
                });
                self.outputs.push_back(Output::HashPassword { job, password, block });
            }
            ClientMessage::ClearRoomPassword {} => self.change(seat, Change::Password(None)),
            ClientMessage::UpdateSettings { max_participants, allow_screen_share, lobby, admission } => {
                let change = Change::Settings { max_participants, allow_screen_share, lobby, admission };
                self.change(seat, change);
            }
            ClientMessage::RotateOwnerToken {} => {
                let token = self.new_token();
                self.change(seat, Change::OwnerToken(token));
            }
            ClientMessage::LockRoom { locked } => {
                let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&seat.room) else { return };
                if let Some(session) = &mut room.record.session {
                    session.locked = locked;
                }
                room.broadcast_info(&mut self.outputs);
                self.save_soon(&seat.room);
                self.send(seat.connection, &ServerMessage::Done { request_id: seat.request_id });
            }
            ClientMessage::Kick { target_id } => self.kick(seat, target_id, now),
            ClientMessage::Unban {} => self.unban(seat, now),
            ClientMessage::AskMute { target_id } => {
                self.tell_participant(seat, target_id, |from_id| ServerMessage::MuteRequested { from_id });
            }
            ClientMessage::OfferOwnership { target_id } => self.offer_ownership(seat, target_id, now),
            ClientMessage::NewLink { link_proof } => self.new_link(seat, link_proof),
            ClientMessage::EndCall {} => self.end_call(seat, now),
            ClientMessage::GetStats {} => self.room_stats(seat, now),
            // The other messages were answered before, and an unknown one does not decode.
            _ => self.refuse(seat.connection, seat.request_id, (ErrorCode::BadMessage, None)),
        }
    }

    /// Whether the owner may have something written to disk, else how long it must wait.
    fn may_change(&mut self, seat: &SeatRef, now: Now) -> Result<(), Duration> {
        let Some(connection) = self.connections.get(&seat.connection) else { return Ok(()) };
        self.quotas.change(&seat.room, connection.block, now.at)
    }

    fn kick(&mut self, seat: &SeatRef, target: UserId, now: Now) {
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&seat.room) else { return };
        let Some(kicked) = room.seat_mut(target).filter(|_| target != seat.user) else {
            return self.refuse(seat.connection, seat.request_id, (ErrorCode::UnknownTarget, None));
        };
        kicked.deliver(&ServerFrame::new(&ServerMessage::Kicked {}), &mut self.outputs);
        let connection = kicked.connection;
        room.remember_kicked(target);
        self.save_soon(&seat.room);
        self.remove_seat(&seat.room, target, LeaveReason::Kicked, now);
        if let Some(RoomEntry::Open(room)) = self.rooms.get_mut(&seat.room) {
            room.broadcast_info(&mut self.outputs);
        }
        if let Some(connection) = connection {
            self.forget_connection(connection);
            self.outputs.push_back(Output::Close { connection, code: CloseCode::Kicked });
        }
        self.send(seat.connection, &ServerMessage::Done { request_id: seat.request_id });
    }

    fn room_stats(&mut self, seat: &SeatRef, now: Now) {
        let Some(RoomEntry::Open(room)) = self.rooms.get(&seat.room) else { return };
        let running = room.session_started.map_or(0, |at| now.at.saturating_duration_since(at).as_secs());
        let stats = ServerMessage::RoomStats {
            created_at: room.record.created_at.to_string(),
            last_used: room.record.last_used.to_string(),
            total_sessions: room.record.total_sessions,
            total_duration_seconds: room.record.total_duration_seconds + running,
            request_id: seat.request_id,
        };
        self.send(seat.connection, &stats);
    }

    fn password_hashed(&mut self, job: JobId, result: Result<String, Busy>) {
        let Some(Job::Hash { connection, request_id, hint }) = self.jobs.remove(&job) else { return };
        let Some(State::Seated { room, user }) = self.connections.get(&connection).map(|c| &c.state) else {
            return;
        };
        let seat = SeatRef { connection, request_id, room: room.clone(), user: *user };
        match result {
            Ok(hash) => self.change(&seat, Change::Password(Some(StoredPassword { hash, hint }))),
            Err(Busy(wait)) => self.refuse(connection, request_id, (ErrorCode::ServerBusy, Some(wait))),
        }
    }

    /// Writes a change; it counts, and is answered, once it is on disk. Changes of one room are written one after the other.
    fn change(&mut self, seat: &SeatRef, change: Change) {
        let pending = PendingChange {
            change,
            connection: seat.connection,
            user: seat.user,
            request_id: seat.request_id,
        };
        let Some(room) = self.open_room(&seat.room) else { return };
        if !room.queue_change(pending) {
            return self.refuse(seat.connection, seat.request_id, (ErrorCode::ServerBusy, Some(COMPLAINT)));
        }
        if room.changes_waiting() == 1 {
            self.write_next_change(&seat.room);
        }
    }

    fn write_next_change(&mut self, room_id: &RoomId) {
        let Some(record) = self.open_room(room_id).and_then(|room| room.changed_record()) else { return };
        let job = self.new_job(Job::Change(room_id.clone()));
        let record = record.encode();
        self.outputs.push_back(Output::SaveRoom {
            job: Some(job),
            room: room_id.clone(),
            record,
            creates: false,
        });
    }

    fn room_saved(&mut self, job: JobId, result: Result<(), StoreFailure>, now: Now) {
        match self.jobs.remove(&job) {
            Some(Job::Create(room)) => self.room_created(&room, result, now),
            Some(Job::Change(room)) => self.change_written(&room, result, now),
            _ => {}
        }
    }

    fn change_written(&mut self, room_id: &RoomId, result: Result<(), StoreFailure>, now: Now) {
        let Some(RoomEntry::Open(room)) = self.rooms.get_mut(room_id) else { return };
        let Some(PendingChange { change, connection, user, request_id }) = room.finish_change(result.is_ok())
        else {
            return;
        };
        match (result, change) {
            (Err(failure), _) => self.refuse(connection, request_id, (failure.code(), None)),
            (Ok(()), Change::OwnerToken(owner_token)) => {
                // Numbered and kept for a resume: the old token is dead, and this one is told only once.
                let message = ServerMessage::OwnerToken { owner_token, request_id };
                if let Some(seat) = room.seat_mut(user) {
                    seat.deliver(&ServerFrame::new(&message), &mut self.outputs);
                }
            }
            (Ok(()), Change::Password(_) | Change::Settings { .. }) => {
                room.stop_disallowed_screens(&mut self.outputs);
                room.broadcast_info(&mut self.outputs);
                self.send(connection, &ServerMessage::Done { request_id });
                self.tell_knocks(room_id, None);
                self.reconsider_knocks(room_id, now);
            }
            (Ok(()), Change::Ownership(_)) => {
                for seat in &mut room.seats {
                    seat.owner = seat.user == user;
                }
                room.broadcast(None, &ServerMessage::OwnerChanged { user_id: user }, &mut self.outputs);
                self.send(connection, &ServerMessage::Done { request_id });
                self.tell_knocks(room_id, None);
            }
            (Ok(()), Change::NewLink(_)) => {
                room.broadcast(Some(user), &ServerMessage::LinkChanged {}, &mut self.outputs);
                room.broadcast_info(&mut self.outputs);
                self.send(connection, &ServerMessage::Done { request_id });
                self.reconsider_knocks(room_id, now);
            }
        }
        let Some(RoomEntry::Open(room)) = self.rooms.get(room_id) else { return };
        if room.is_changing() {
            self.write_next_change(room_id);
        } else if room.stale {
            // What else is to be written waited for the change.
            self.save_quietly(room_id);
        }
        self.forget_if_empty(room_id);
    }

    // --- stopping ------------------------------------------------------------------------------------------------

    /// Tells everybody to reconnect, spread over some seconds, and writes what is known of the running sessions.
    fn drain(&mut self, now: Now) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        // In a fixed order, so that a seed gives one outcome.
        let ids: BTreeMap<ConnectionId, ()> = self.connections.keys().map(|id| (*id, ())).collect();
        for id in ids.into_keys() {
            let spread = limits::DRAIN_SPREAD.as_millis() as u64;
            let reconnect_after_ms = self.random.next_u64() % (spread + 1);
            self.send(id, &ServerMessage::Drain { reconnect_after_ms });
        }
        let mut rooms: Vec<RoomId> = self.rooms.keys().cloned().collect();
        rooms.sort();
        for room_id in rooms {
            if let Some(room) = self.open_room(&room_id) {
                room.account(now);
            }
            self.save_soon(&room_id);
        }
    }

    fn stop(&mut self, now: Now) {
        let mut ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        ids.sort();
        for id in ids {
            self.close(id, CloseCode::Draining, now);
        }
    }

    // --- helpers -------------------------------------------------------------------------------------------------

    fn send(&mut self, connection: ConnectionId, message: &ServerMessage) {
        // Who asked may be gone when the answer comes.
        if !self.connections.contains_key(&connection) {
            return;
        }
        self.outputs.push_back(Output::Send { connection, frame: ServerFrame::new(message) });
    }

    fn refuse(&mut self, connection: ConnectionId, request_id: Option<u32>, (code, wait): Refusal) {
        let message = ServerMessage::Error {
            code,
            message: code.message().to_owned(),
            request_id,
            retry_after_ms: wait.map(in_milliseconds),
        };
        self.send(connection, &message);
    }

    /// Ends a join that cannot be; the connection may try again.
    fn refuse_join(&mut self, id: ConnectionId, refusal: Refusal) {
        if let Some(joining) = self.take_joining(id) {
            self.refuse(id, joining.request_id, refusal);
            self.forget_after_knock(&joining);
        }
    }

    /// Ends a join, whatever comes after it.
    fn take_joining(&mut self, id: ConnectionId) -> Option<Joining> {
        let connection = self.connections.get_mut(&id)?;
        match std::mem::replace(&mut connection.state, State::Ready) {
            State::Joining(joining) => {
                if joining.knocking_since.is_some() {
                    // It has time for another try.
                    connection.unseated_since = connection.heard_at;
                }
                self.stop_knocking(id, &joining);
                Some(*joining)
            }
            other => {
                connection.state = other;
                None
            }
        }
    }

    fn forget_connection(&mut self, id: ConnectionId) -> Option<Connection> {
        self.timers.cancel(&Timer::Connection(id));
        self.connections.remove(&id)
    }

    fn set_state(&mut self, id: ConnectionId, state: State) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.state = state;
        }
    }

    /// The join that `attempt` began, unless the connection has given it up.
    fn joining(&self, id: ConnectionId, attempt: Attempt) -> Option<&Joining> {
        match &self.connections.get(&id)?.state {
            State::Joining(joining) if joining.attempt == attempt => Some(joining),
            _ => None,
        }
    }

    fn joining_mut(&mut self, id: ConnectionId) -> Option<&mut Joining> {
        match &mut self.connections.get_mut(&id)?.state {
            State::Joining(joining) => Some(joining),
            _ => None,
        }
    }

    fn open_room(&mut self, room: &RoomId) -> Option<&mut Room> {
        match self.rooms.get_mut(room) {
            Some(RoomEntry::Open(room)) => Some(room),
            _ => None,
        }
    }

    fn new_job(&mut self, job: Job) -> JobId {
        self.next_job += 1;
        let id = JobId(self.next_job);
        self.jobs.insert(id, job);
        id
    }

    fn new_token(&mut self) -> Token {
        Token::from_bytes(self.draw())
    }

    fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.set(at, timer);
    }
}

/// Whether all others in the room are told of this message.
fn is_announced(message: &ClientMessage) -> bool {
    matches!(
        message,
        ClientMessage::ToggleAudio { .. }
            | ClientMessage::ToggleVideo { .. }
            | ClientMessage::ToggleScreen { .. }
            | ClientMessage::ToggleHand { .. }
            | ClientMessage::ToggleRecording { .. }
            | ClientMessage::SetName { .. }
            | ClientMessage::LockRoom { .. }
            | ClientMessage::Unban {}
            | ClientMessage::AskMute { .. }
            | ClientMessage::OfferOwnership { .. }
    )
}

/// Whether this message of an owner ends on disk.
fn is_written(message: &ClientMessage) -> bool {
    matches!(
        message,
        ClientMessage::SetRoomPassword { .. }
            | ClientMessage::ClearRoomPassword {}
            | ClientMessage::UpdateSettings { .. }
            | ClientMessage::RotateOwnerToken {}
            | ClientMessage::NewLink { .. }
            | ClientMessage::LockRoom { .. }
            | ClientMessage::Unban {}
    )
}

/// Rounded up: a client that waits exactly this long must not be early.
fn in_milliseconds(wait: Duration) -> u64 {
    wait.as_nanos().div_ceil(1_000_000) as u64
}

/// Who sent a message, from which seat.
struct SeatRef {
    connection: ConnectionId,
    request_id: Option<u32>,
    room: RoomId,
    user: UserId,
}

impl Connection {
    /// When it is closed unless something happens.
    fn deadline(&self) -> Instant {
        match &self.state {
            State::Fresh => self.unseated_since + limits::HELLO_TIMEOUT,
            State::Ready => self.unseated_since + limits::JOIN_TIMEOUT,
            State::Joining(joining) => match joining.knocking_since {
                Some(since) => (since + limits::LOBBY_TIMEOUT).min(self.heard_at + limits::IDLE_TIMEOUT),
                None => self.unseated_since + limits::JOIN_TIMEOUT,
            },
            State::Seated { .. } => self.heard_at + limits::IDLE_TIMEOUT,
        }
    }

    fn has_waited_enough(&self, now: Instant) -> bool {
        let knocking_since = match &self.state {
            State::Joining(joining) => joining.knocking_since,
            _ => None,
        };
        knocking_since.is_some_and(|since| since + limits::LOBBY_TIMEOUT <= now)
    }
}
