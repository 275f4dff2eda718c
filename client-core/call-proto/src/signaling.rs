//! One seat at the relay (PROTOCOL.md §2): says hello, joins, keeps the heartbeat, counts what it received, and comes back after a loss.
//! It never opens a payload; what it hears goes to the call once and in order, as [`Act`]s.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;
use snug_wire::message::{Received, RoomJoined};
use snug_wire::{
    ClientMessage, CloseCode, ErrorCode, JoinNonce, Password, Request, RoomId, ServerMessage, Token, UserId,
};

use crate::input::ConnectFailure;
use crate::limits;
use crate::output::{EndCode, NoSeat, NoSeatReason, RequestKind};
use crate::snapshot::SignalingState;

/// What this client can do beyond what every client can (PROTOCOL.md §2).
const CAPABILITIES: [&str; 3] = ["ownership", "ask_mute", "new_link"];

/// The connection is given up without leaving the room.
pub(crate) const ABANDONED: u16 = 3001;
/// Leaves the room.
pub(crate) const LEAVING: u16 = 1000;

/// What the call is to do, in order.
pub(crate) enum Act {
    Connect,
    Close(u16),
    Send(String),
    /// Seal a fresh `join_room` and hand it to [`Signaling::write`].
    Join {
        nonce: JoinNonce,
        with_password: bool,
    },
    /// The connection of a seat was lost.
    Lost,
    Joined(Box<RoomJoined>),
    Resumed,
    Draining,
    Heard(ServerMessage),
    /// The answer to an owner's request.
    Done(PendingRequest, Box<ServerMessage>),
    Failed(RequestKind, Option<ErrorCode>, String),
    PasswordNeeded {
        hint: Option<String>,
        wrong: bool,
    },
    /// There is no seat for us yet, or none at the moment.
    NoSeat(NoSeat),
    /// The session that our ticket was for is over: forget it, and the key with it when `start_anew`, and then call
    /// [`Signaling::join_as`].
    TicketInvalid {
        start_anew: bool,
    },
    /// Our link opens nothing any more: take the new one, and then call [`Signaling::join_as`].
    TakeNewLink,
    /// The relay will not have us; in [`SignalingState::Refused`] somebody may still want to ask again.
    Ended {
        code: EndCode,
        message: String,
    },
}

/// An owner's request under way.
pub(crate) struct PendingRequest {
    pub(crate) kind: RequestKind,
    /// To be used from then on.
    pub(crate) password: Option<Password>,
    deadline: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    Idle,
    Waiting { until: Instant },
    Opening { deadline: Instant },
    Open,
}

/// What an open connection waits for; all end with it.
#[derive(Default)]
struct Timers {
    answer: Option<Instant>,
    beat: Option<Instant>,
    pong: Option<Instant>,
    doubt: Option<Instant>,
    rejoin: Option<Instant>,
    /// When the seat has been held for long enough that the connection was of use.
    held: Option<Instant>,
}

pub(crate) struct Signaling {
    agent: String,
    room: RoomId,
    user: UserId,
    random: ChaCha20Rng,
    pub(crate) state: SignalingState,
    connection: Connection,
    timers: Timers,
    drain: Option<Instant>,
    /// The connection has held its seat for [`limits::HELD`].
    steady: bool,
    first_join: Option<Instant>,
    /// We have had a seat: from then on every loss is followed by a return.
    seated: bool,
    resume: Option<Token>,
    last_seq: u64,
    heartbeat: Duration,
    /// The next wait. It doubles with each use and is short again once a connection has held its seat for a while: a relay that
    /// breaks as soon as it has given a seat is as broken as one that gives none.
    backoff: Duration,
    /// The last question was a resume, so that its refusal is followed by a join.
    resuming: bool,
    /// The relay asked for a password before, so the room exists and has one.
    asked: bool,
    /// A wrong password, whose hint is being asked for.
    fetching_hint: bool,
    tried_without_password: bool,
    /// A ticket of ours was refused since the last seat.
    ticket_refused: bool,
    /// A proof of ours was refused since the last seat.
    proof_refused: bool,
    /// What the relay drew for the connection, once it has said welcome.
    nonce: Option<JoinNonce>,
    /// A join, with or without password, that waits for the welcome.
    unsent_join: Option<bool>,
    /// What the relay can do beyond what every relay can.
    capabilities: Vec<String>,
    /// Somebody told us the secret of a new link that the relay has not confirmed.
    pub(crate) knows_new_link: bool,
    /// The last thing that was told of why there is no seat.
    pub(crate) no_seat: Option<NoSeat>,
    /// Why the last connection could not be opened.
    failure: Option<ConnectFailure>,
    requests: BTreeMap<u32, PendingRequest>,
    next_request: u32,
    acts: VecDeque<Act>,
}

impl Signaling {
    pub(crate) fn new(agent: String, room: RoomId, user: UserId, random: ChaCha20Rng, now: Instant) -> Self {
        Self {
            agent,
            room,
            user,
            random,
            state: SignalingState::Connecting,
            connection: Connection::Opening { deadline: now + limits::OPENING },
            timers: Timers::default(),
            drain: None,
            steady: false,
            first_join: Some(now + limits::FIRST_JOIN),
            seated: false,
            resume: None,
            last_seq: 0,
            heartbeat: snug_wire::limits::HEARTBEAT,
            backoff: limits::FIRST_BACKOFF,
            resuming: false,
            asked: false,
            fetching_hint: false,
            tried_without_password: false,
            ticket_refused: false,
            proof_refused: false,
            nonce: None,
            unsent_join: None,
            capabilities: Vec::new(),
            knows_new_link: false,
            no_seat: None,
            failure: None,
            requests: BTreeMap::new(),
            next_request: 1,
            acts: VecDeque::from([Act::Connect]),
        }
    }

    pub(crate) fn online(&self) -> bool {
        self.state == SignalingState::Online
    }

    /// Whether the relay has this capability.
    pub(crate) fn supports(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|known| known == capability)
    }

    pub(crate) fn fail(&mut self, kind: RequestKind, message: String) {
        self.acts.push_back(Act::Failed(kind, None, message));
    }

    pub(crate) fn poll(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        let connection = match self.connection {
            Connection::Waiting { until } => Some(until),
            Connection::Opening { deadline } => Some(deadline),
            Connection::Idle | Connection::Open => None,
        };
        let Timers { answer, beat, pong, doubt, rejoin, held } = self.timers;
        let requests = self.requests.values().map(|request| request.deadline).min();
        [connection, answer, beat, pong, doubt, rejoin, held, self.drain, self.first_join, requests]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if due(&mut self.first_join, now) {
            return self.first_join_failed();
        }
        self.note_held(now);
        if due(&mut self.drain, now) {
            self.reconnect(now);
        }
        match self.connection {
            Connection::Waiting { until } if until <= now => self.connect(now),
            Connection::Opening { deadline } if deadline <= now => {
                self.acts.push_back(Act::Close(ABANDONED));
                self.back_off(now);
            }
            _ => {}
        }
        let silent = [self.timers.answer, self.timers.pong].into_iter().flatten().any(|at| at <= now);
        if silent {
            self.abandon(ABANDONED);
            self.lost(now);
        }
        if due(&mut self.timers.doubt, now) && self.timers.pong.is_some() {
            self.reconnect(now);
        }
        if due(&mut self.timers.beat, now) {
            self.ping(now);
            self.timers.beat = Some(now + self.heartbeat);
        }
        if due(&mut self.timers.rejoin, now) {
            self.enter(now);
        }
        let late: Vec<u32> =
            self.requests.iter().filter(|(_, request)| request.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            // What is answered only when it is refused was carried out.
            if self.requests.get(&id).is_some_and(|request| request.kind.is_answered()) {
                self.fail_request(id, None, "The relay did not answer in time. Try again.");
            } else {
                self.requests.remove(&id);
            }
        }
    }

    // What the call asks for.

    /// To be called with a seat only; without one the message is dropped.
    pub(crate) fn send(&mut self, message: ClientMessage) {
        if self.online() {
            self.write(message);
        }
    }

    pub(crate) fn request(
        &mut self,
        kind: RequestKind,
        message: ClientMessage,
        password: Option<Password>,
        now: Instant,
    ) {
        if !self.online() || self.requests.len() >= limits::REQUESTS {
            let message = "There is no connection to the relay at the moment. Try again when it is back.";
            return self.fail(kind, message.to_owned());
        }
        let request_id = self.next_request;
        self.next_request = self.next_request.wrapping_add(1);
        let deadline = now + limits::REQUEST;
        self.requests.insert(request_id, PendingRequest { kind, password, deadline });
        let frame = Request { request_id: Some(request_id), message }.encode();
        self.acts.push_back(Act::Send(frame));
    }

    /// A join goes on with a password.
    pub(crate) fn retry_join(&mut self, now: Instant) {
        if self.state != SignalingState::PasswordNeeded {
            return;
        }
        self.state = self.on_the_way();
        self.first_join = (!self.seated).then_some(now + limits::FIRST_JOIN);
        match self.connection {
            Connection::Open => self.enter(now),
            Connection::Idle => self.connect(now),
            Connection::Waiting { .. } | Connection::Opening { .. } => {}
        }
    }

    /// Goes on without the ticket that was refused. Before the first seat it may be as somebody else.
    pub(crate) fn join_as(&mut self, user: UserId, now: Instant) {
        self.user = user;
        if self.connection == Connection::Open {
            self.join(true, now);
        }
    }

    /// The network may have changed, or the machine slept: finds out whether the connection lives.
    pub(crate) fn probe(&mut self, probably_dead: bool, now: Instant) {
        if matches!(
            self.state,
            SignalingState::Closed | SignalingState::Refused | SignalingState::PasswordNeeded
        ) {
            return;
        }
        if self.online() {
            self.ping(now);
            let patience = if probably_dead { limits::SURE_DOUBT } else { limits::DOUBT };
            let at = now + patience;
            self.timers.doubt = Some(self.timers.doubt.map_or(at, |before| before.min(at)));
        } else if self.seated && self.connection != Connection::Open {
            self.reconnect(now);
        }
    }

    /// Somebody does not want to wait.
    pub(crate) fn retry_now(&mut self, now: Instant) {
        if self.state == SignalingState::Refused {
            self.state = SignalingState::Reconnecting;
            self.no_seat = None;
            self.backoff = limits::FIRST_BACKOFF;
            self.connect(now);
        } else if self.timers.rejoin.take().is_some() {
            self.enter(now);
        } else if matches!(self.connection, Connection::Waiting { .. }) {
            self.connect(now);
        } else {
            self.probe(false, now);
        }
    }

    /// Gives the seat up.
    pub(crate) fn leave(&mut self) {
        self.send(ClientMessage::LeaveRoom {});
        self.close(LEAVING);
    }

    // The connection.

    pub(crate) fn connected(&mut self, now: Instant) {
        if !matches!(self.connection, Connection::Opening { .. }) {
            return;
        }
        self.connection = Connection::Open;
        self.write(ClientMessage::Hello {
            versions: snug_wire::VERSIONS.to_vec(),
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            agent: Some(self.agent.chars().take(snug_wire::limits::AGENT_CHARS).collect()),
        });
        self.timers.beat = Some(now + self.heartbeat);
        if self.state != SignalingState::PasswordNeeded {
            self.enter(now);
        }
    }

    pub(crate) fn disconnected(&mut self, code: Option<u16>, error: Option<ConnectFailure>, now: Instant) {
        match self.connection {
            Connection::Idle | Connection::Waiting { .. } => return,
            Connection::Opening { .. } | Connection::Open => {}
        }
        self.note_held(now);
        self.forget_connection();
        for (end, close) in [
            (EndCode::Kicked, CloseCode::Kicked),
            (EndCode::Replaced, CloseCode::Replaced),
            (EndCode::CallEnded, CloseCode::Ended),
        ] {
            if code == Some(close as u16) {
                return self.end(end, end_message(end).to_owned());
            }
        }
        match error {
            Some(failure @ ConnectFailure::Untrusted(_)) if !self.seated => {
                self.end(EndCode::Untrusted, failure.to_string());
            }
            failure => {
                self.failure = failure;
                self.lost(now);
            }
        }
    }

    fn connect(&mut self, now: Instant) {
        self.connection = Connection::Opening { deadline: now + limits::OPENING };
        self.acts.push_back(Act::Connect);
    }

    /// Somebody has reason to believe that another connection works better.
    fn reconnect(&mut self, now: Instant) {
        self.abandon(ABANDONED);
        self.note_loss();
        self.connect(now);
    }

    fn lost(&mut self, now: Instant) {
        self.note_loss();
        // A password is waited for without a connection; a draining relay is given its time.
        if self.state != SignalingState::PasswordNeeded && self.drain.is_none() {
            self.back_off(now);
        }
    }

    fn note_loss(&mut self) {
        match self.state {
            SignalingState::Online => {
                self.state = SignalingState::Reconnecting;
                self.acts.push_back(Act::Lost);
            }
            // Whoever waited in the lobby knocks again.
            SignalingState::Waiting => self.state = self.on_the_way(),
            _ => {}
        }
    }

    /// The state in which a seat is asked for.
    fn on_the_way(&self) -> SignalingState {
        if self.seated { SignalingState::Reconnecting } else { SignalingState::Connecting }
    }

    fn back_off(&mut self, now: Instant) {
        let wait = self.next_backoff();
        self.connection = Connection::Waiting { until: now + wait };
    }

    fn next_backoff(&mut self) -> Duration {
        let wait = self.jittered(self.backoff);
        self.backoff = (self.backoff * 2).min(limits::MOST_BACKOFF);
        wait
    }

    /// Between half and all of it, so that the participants of a broken relay do not come back as one.
    fn jittered(&mut self, wait: Duration) -> Duration {
        wait.mul_f64(0.5 + f64::from(self.random.next_u32()) / f64::from(u32::MAX) / 2.0)
    }

    fn note_held(&mut self, now: Instant) {
        if due(&mut self.timers.held, now) {
            self.steady = true;
            self.backoff = limits::FIRST_BACKOFF;
        }
    }

    /// Lets the connection go, if there is one.
    fn abandon(&mut self, code: u16) {
        if matches!(self.connection, Connection::Open | Connection::Opening { .. }) {
            self.acts.push_back(Act::Close(code));
        }
        self.forget_connection();
    }

    fn forget_connection(&mut self) {
        self.connection = Connection::Idle;
        self.timers = Timers::default();
        self.steady = false;
        self.fetching_hint = false;
        self.nonce = None;
        self.unsent_join = None;
        let ids: Vec<u32> = self.requests.keys().copied().collect();
        for id in ids {
            self.fail_request(id, None, "The connection to the relay was lost. Try again when it is back.");
        }
    }

    fn close(&mut self, code: u16) {
        self.abandon(code);
        self.drain = None;
        self.first_join = None;
        self.state = SignalingState::Closed;
    }

    /// Over for good.
    fn end(&mut self, code: EndCode, message: String) {
        self.close(LEAVING);
        self.acts.push_back(Act::Ended { code, message });
    }

    /// The relay will not have us. Links of a call that runs go on, and somebody may want to ask again.
    fn turned_away(&mut self, reason: NoSeatReason, message: String) {
        let code = match reason {
            NoSeatReason::Refused(code) => EndCode::Refused(code),
            NoSeatReason::RoomFull => EndCode::RoomFull,
            NoSeatReason::Lobby => EndCode::Refused(ErrorCode::NotAdmitted),
        };
        if self.seated {
            self.close(LEAVING);
            self.state = SignalingState::Refused;
            self.tell(NoSeat { reason, message: message.clone(), waits: false });
            self.acts.push_back(Act::Ended { code, message });
        } else {
            self.end(code, message);
        }
    }

    /// Says why there is no seat, each thing once.
    fn tell(&mut self, no_seat: NoSeat) {
        if self.no_seat.as_ref() != Some(&no_seat) {
            self.no_seat = Some(no_seat.clone());
            self.acts.push_back(Act::NoSeat(no_seat));
        }
    }

    fn first_join_failed(&mut self) {
        let (code, message) = match (self.connection, &self.failure) {
            (Connection::Open, _) => {
                (EndCode::TimedOut, "The relay did not answer in time. Try again.".to_owned())
            }
            (_, Some(failure)) => (EndCode::Unreachable, failure.to_string()),
            (_, None) => {
                let message = "The relay cannot be reached. Check the address and the network.";
                (EndCode::Unreachable, message.to_owned())
            }
        };
        self.end(code, message);
    }

    // What is sent.

    pub(crate) fn write(&mut self, message: ClientMessage) {
        if self.connection == Connection::Open {
            self.acts.push_back(Act::Send(Request::new(message).encode()));
        }
    }

    /// Takes the seat back while it is held, else asks for one.
    fn enter(&mut self, now: Instant) {
        match self.resume.clone() {
            Some(resume_token) => {
                self.timers.answer = Some(now + limits::RESUMED);
                self.resuming = true;
                let (room_id, user_id, last_seq) = (self.room.clone(), self.user, self.last_seq);
                self.write(ClientMessage::Resume { room_id, user_id, resume_token, last_seq });
            }
            None => self.join(true, now),
        }
    }

    fn join(&mut self, with_password: bool, now: Instant) {
        self.resuming = false;
        self.timers.answer = Some(now + if self.seated { limits::REJOINED } else { limits::ANSWER });
        match self.nonce {
            Some(nonce) => self.acts.push_back(Act::Join { nonce, with_password }),
            None => self.unsent_join = Some(with_password),
        }
    }

    fn ping(&mut self, now: Instant) {
        self.write(ClientMessage::Ping { last_seq: (self.last_seq > 0).then_some(self.last_seq) });
        self.timers.pong.get_or_insert(now + limits::PONG);
    }

    // What is received.

    pub(crate) fn unreadable(&mut self, seq: Option<u64>, now: Instant) {
        if self.connection == Connection::Open {
            self.take_number(seq, now);
        }
    }

    /// Whether a message is the next one: what came before is dropped, and a gap makes the relay repeat what is missing.
    fn take_number(&mut self, seq: Option<u64>, now: Instant) -> bool {
        match seq {
            None => true,
            Some(seq) if seq <= self.last_seq => false,
            Some(seq) if seq > self.last_seq + 1 => {
                self.note_held(now);
                self.abandon(ABANDONED);
                self.lost(now);
                false
            }
            Some(seq) => {
                self.last_seq = seq;
                true
            }
        }
    }

    pub(crate) fn received(&mut self, Received { seq, message }: Received, now: Instant) {
        if self.connection != Connection::Open {
            return;
        }
        let afresh = matches!(message, ServerMessage::RoomJoined(_));
        if !afresh && !self.take_number(seq, now) {
            return;
        }
        match message {
            ServerMessage::Welcome { versions, capabilities, heartbeat_seconds, nonce, .. } => {
                if snug_wire::negotiate_version(&versions).is_none() {
                    return self.other_version(&versions);
                }
                self.heartbeat = Duration::from_secs(heartbeat_seconds.clamp(1, 60));
                self.timers.beat = Some(now + self.heartbeat);
                self.nonce = Some(nonce);
                self.capabilities = capabilities;
                self.capabilities.truncate(snug_wire::limits::CAPABILITIES);
                if let Some(with_password) = self.unsent_join.take() {
                    self.acts.push_back(Act::Join { nonce, with_password });
                }
            }
            ServerMessage::Pong {} => {
                self.timers.pong = None;
                self.timers.doubt = None;
            }
            ServerMessage::RoomJoined(joined) => {
                if joined.user_id != self.user || joined.room_id != self.room {
                    return;
                }
                self.last_seq = seq.unwrap_or(1);
                self.seat(joined.resume_token.clone(), now);
                self.acts.push_back(Act::Joined(joined));
            }
            ServerMessage::Resumed { resume_token, .. } if self.seated => {
                self.seat(resume_token, now);
                self.acts.push_back(Act::Resumed);
            }
            ServerMessage::AuthRequired { hint } if self.timers.answer.is_some() => self.auth_required(hint),
            ServerMessage::Waiting {} if self.timers.answer.is_some() => self.knocked(),
            ServerMessage::RoomFull { max_participants, retry_after_ms } if self.timers.answer.is_some() => {
                self.room_full(max_participants, retry_after_ms, now);
            }
            ServerMessage::Error { code, message, request_id, retry_after_ms } => {
                match request_id.filter(|id| self.requests.contains_key(id)) {
                    Some(id) => self.fail_request(id, Some(code), &message),
                    None if self.timers.answer.is_some() || self.state == SignalingState::Waiting => {
                        self.refused_by(code, message, retry_after_ms, now);
                    }
                    None => {
                        let error = ServerMessage::Error { code, message, request_id, retry_after_ms };
                        self.acts.push_back(Act::Heard(error));
                    }
                }
            }
            ServerMessage::Kicked {} => self.end(EndCode::Kicked, end_message(EndCode::Kicked).to_owned()),
            ServerMessage::CallEnded {} => {
                self.end(EndCode::CallEnded, end_message(EndCode::CallEnded).to_owned());
            }
            ServerMessage::Drain { reconnect_after_ms } => {
                // A relay that sends us away as soon as it has let us in is not hurried, whatever it asks for.
                self.note_held(now);
                if self.steady || self.drain.is_none() {
                    let least = if self.steady { Duration::ZERO } else { self.next_backoff() };
                    let wait = Duration::from_millis(reconnect_after_ms.min(60_000));
                    self.drain = Some(now + wait.max(least));
                }
                self.acts.push_back(Act::Draining);
            }
            ServerMessage::Done { request_id }
            | ServerMessage::OwnerToken { request_id, .. }
            | ServerMessage::RoomStats { request_id, .. } => {
                match request_id.and_then(|id| self.requests.remove(&id)) {
                    Some(request) => self.acts.push_back(Act::Done(request, Box::new(message))),
                    None => self.acts.push_back(Act::Heard(message)),
                }
            }
            _ if self.online() => self.acts.push_back(Act::Heard(message)),
            _ => {}
        }
    }

    fn seat(&mut self, resume: Token, now: Instant) {
        self.seated = true;
        self.resume = Some(resume);
        self.first_join = None;
        self.timers.answer = None;
        self.timers.rejoin = None;
        self.asked = false;
        self.tried_without_password = false;
        self.fetching_hint = false;
        self.ticket_refused = false;
        self.proof_refused = false;
        self.no_seat = None;
        if !self.steady {
            self.timers.held.get_or_insert(now + limits::HELD);
        }
        self.state = SignalingState::Online;
    }

    fn auth_required(&mut self, hint: Option<String>) {
        let wrong = std::mem::take(&mut self.fetching_hint);
        self.asked = true;
        self.need_password(hint, wrong);
    }

    fn need_password(&mut self, hint: Option<String>, wrong: bool) {
        self.timers.answer = None;
        self.first_join = None;
        self.no_seat = None;
        self.state = SignalingState::PasswordNeeded;
        self.acts.push_back(Act::PasswordNeeded { hint, wrong });
    }

    /// Somebody inside decides. Until then the connection is to stay open.
    fn knocked(&mut self) {
        self.timers.answer = None;
        self.first_join = None;
        self.state = SignalingState::Waiting;
        let message = "Somebody inside has to let you in. They have been told; please wait.".to_owned();
        self.tell(NoSeat { reason: NoSeatReason::Lobby, message, waits: true });
    }

    /// There is no version that both sides speak; without a welcome the relay is of the first version, which had none.
    fn other_version(&mut self, theirs: &[u32]) {
        let ours = snug_wire::VERSIONS.iter().max();
        let message = if theirs.iter().max() < ours {
            "The relay speaks an older version of the protocol than this app. Ask its operator to update the relay."
        } else {
            "The relay speaks a newer version of the protocol than this app. Update the app."
        };
        self.turned_away(NoSeatReason::Refused(ErrorCode::VersionUnsupported), message.to_owned());
    }

    /// The relay said no to a join or a resume.
    fn refused_by(&mut self, code: ErrorCode, message: String, retry_after_ms: Option<u64>, now: Instant) {
        self.timers.answer = None;
        if self.state == SignalingState::Waiting {
            self.state = self.on_the_way();
        }
        match code {
            ErrorCode::ResumeFailed if self.seated && self.resuming => {
                // Should the answer to the join be lost, another join with our key takes the seat that this one makes.
                self.resume = None;
                self.last_seq = 0;
                self.join(true, now);
            }
            // Without a welcome before it, as from relays of the first version.
            ErrorCode::VersionUnsupported => self.other_version(&[]),
            ErrorCode::TicketInvalid if !self.ticket_refused => {
                self.ticket_refused = true;
                self.acts.push_back(Act::TicketInvalid { start_anew: !self.seated });
            }
            // The connection may have been exchanged on the way; a second time it is something else.
            ErrorCode::KeyProofInvalid if !self.proof_refused => {
                self.proof_refused = true;
                self.abandon(ABANDONED);
                self.lost(now);
            }
            // After a wrong password the hint is told to who asks without one.
            ErrorCode::AuthFailed if self.asked && !self.fetching_hint => {
                self.fetching_hint = true;
                self.join(false, now);
            }
            // The password was changed, or a relay that lost its store knows none: without one the room is made again, or asks.
            ErrorCode::AuthFailed if self.seated && !self.tried_without_password => {
                self.tried_without_password = true;
                self.join(false, now);
            }
            ErrorCode::AuthFailed => {
                self.fetching_hint = false;
                self.need_password(None, true);
            }
            ErrorCode::Kicked => self.end(EndCode::Kicked, message),
            ErrorCode::LinkIncomplete if std::mem::take(&mut self.knows_new_link) => {
                self.acts.push_back(Act::TakeNewLink);
            }
            ErrorCode::LinkIncomplete if self.seated => {
                let message =
                    "The room has a new link. Ask somebody inside for it, and join with it.".to_owned();
                self.turned_away(NoSeatReason::Refused(code), message);
            }
            _ => self.refused(NoSeatReason::Refused(code), message, retry_after_ms, now),
        }
    }

    /// Where a place may become free soon, somebody who waits for it is told so and asks again.
    fn room_full(&mut self, max_participants: u8, free_after_ms: Option<u64>, now: Instant) {
        let Some(free_after) = free_after_ms.map(Duration::from_millis).filter(|_| !self.seated) else {
            let message =
                format!("The room is full ({max_participants} participants). Try again when somebody left.");
            return self.refused(NoSeatReason::RoomFull, message, None, now);
        };
        let seconds = free_after.as_secs() + 1;
        let message = format!(
            "The room is full ({max_participants} participants), but somebody's connection is lost. Their place is \
             free in {seconds} s unless they come back; we try again by ourselves."
        );
        self.timers.answer = None;
        // Somebody else may leave before. At least the back-off, as for every refusal.
        let wait = free_after.min(limits::FULL).max(self.next_backoff());
        self.timers.rejoin = Some(now + wait);
        self.first_join = Some(now + wait + limits::FIRST_JOIN);
        self.tell(NoSeat { reason: NoSeatReason::RoomFull, message, waits: true });
    }

    /// Asks again later, where that may help.
    fn refused(&mut self, reason: NoSeatReason, message: String, retry_after_ms: Option<u64>, now: Instant) {
        self.timers.answer = None;
        let wait = match (reason, retry_after_ms) {
            (NoSeatReason::Refused(code), _) if is_final(code) => None,
            (NoSeatReason::Refused(ErrorCode::Draining), None) => Some(limits::REJOIN),
            // At least the back-off: a relay that asks for no wait at all is not to be asked without end.
            (_, Some(wait)) => Some(Duration::from_millis(wait).max(self.next_backoff())),
            (_, None) if self.seated => Some(self.jittered(limits::REJOIN)),
            (_, None) => None,
        };
        // The first join does not wait for longer than it may take.
        let in_time = |wait: &Duration| self.first_join.is_none_or(|deadline| now + *wait < deadline);
        match wait.map(|wait| wait.min(limits::MOST_REJOIN)).filter(in_time) {
            Some(wait) => {
                self.timers.rejoin = Some(now + wait);
                self.tell(NoSeat { reason, message, waits: true });
            }
            None => self.turned_away(reason, message),
        }
    }

    fn fail_request(&mut self, id: u32, code: Option<ErrorCode>, message: &str) {
        if let Some(request) = self.requests.remove(&id) {
            self.acts.push_back(Act::Failed(request.kind, code, message.to_owned()));
        }
    }
}

/// A join that is refused for one of these would be refused again.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::Kicked
            | ErrorCode::NotAdmitted
            | ErrorCode::KeyProofInvalid
            | ErrorCode::TicketInvalid
            | ErrorCode::LinkIncomplete
            | ErrorCode::BadMessage
            | ErrorCode::TooLarge
    )
}

/// Why a call is over that the relay ended.
fn end_message(code: EndCode) -> &'static str {
    match code {
        EndCode::Kicked => ErrorCode::Kicked.message(),
        EndCode::Replaced => ErrorCode::Replaced.message(),
        _ => "The owner of the room ended the call.",
    }
}

/// Takes a timer that has run out.
fn due(timer: &mut Option<Instant>, now: Instant) -> bool {
    timer.take_if(|at| *at <= now).is_some()
}
