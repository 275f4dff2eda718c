//! Arbitrary sequences of what can happen to the room state machine, with a small shell around it that answers its questions in any order,
//! late, wrongly or never. Whatever comes: no panic, no more seats than a room has, nothing sent to a connection that is not there,
//! sequence numbers without holes, and timers that move on.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use snug_room_proto::{
    Busy, ConnectionId, Input, JobId, NoIceServers, Now, Output, QueryId, RoomServer, RoomServerConfig,
    StoreFailure,
};
use snug_wire::message::Received;
use snug_wire::{LinkProof, RoomId, ServerMessage, UserId, limits};

/// Most connections at once; more find no new behaviour.
const CONNECTIONS: usize = 14;
const ROOMS: [&str; 3] = ["quiet-hill-1", "sunny-mountain-42", "the-third-room"];
/// Far more than any input can cause.
const OUTPUTS_PER_INPUT: usize = 20_000;

#[derive(Arbitrary, Debug)]
enum Op {
    Connect {
        block: u8,
    },
    Disconnect {
        who: u8,
        leaving: bool,
    },
    Hello {
        who: u8,
        version: u8,
    },
    Join {
        who: u8,
        room: u8,
        user: u8,
        password: Option<bool>,
        proof: Option<u8>,
        owner: Option<u8>,
    },
    Resume {
        who: u8,
        room: u8,
        user: u8,
        token: u8,
        last_seq: u8,
    },
    Leave {
        who: u8,
    },
    Forward {
        who: u8,
        to: u8,
        kind: u8,
        size: u16,
    },
    Toggle {
        who: u8,
        kind: u8,
        on: bool,
    },
    SetPassword {
        who: u8,
        right: bool,
        hint: bool,
    },
    ClearPassword {
        who: u8,
    },
    Lock {
        who: u8,
        locked: bool,
    },
    Kick {
        who: u8,
        target: u8,
    },
    Settings {
        who: u8,
        most: u8,
        share: Option<bool>,
    },
    Rotate {
        who: u8,
    },
    Stats {
        who: u8,
    },
    Turn {
        who: u8,
    },
    Ping {
        who: u8,
        last_seq: Option<u8>,
    },
    Raw {
        who: u8,
        text: String,
    },
    Malformed {
        who: u8,
    },
    Query {
        room: u8,
        proof: u8,
    },
    /// Answers one of the questions that are open.
    Answer {
        which: u8,
        how: How,
    },
    /// Answers all of them, as a healthy shell would.
    AnswerAll,
    Pass {
        milliseconds: u32,
    },
    Drain,
    ServersChange,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum How {
    Well,
    Full,
    Broken,
}

enum Question {
    Load { job: JobId, room: RoomId },
    Save { job: Option<JobId>, room: RoomId, record: Vec<u8> },
    Hash { job: JobId, password: String },
    Check { job: JobId, right: bool },
}

struct World {
    server: RoomServer,
    now: Now,
    next: u64,
    open: BTreeMap<ConnectionId, Option<u64>>,
    questions: Vec<Question>,
    store: BTreeMap<String, Vec<u8>>,
    /// Tokens that were handed out, to be used rightly and wrongly.
    resume_tokens: Vec<String>,
    owner_tokens: Vec<String>,
    queries: BTreeSet<u64>,
    /// Who has a seat, by what the state machine said.
    seated: BTreeSet<(RoomId, UserId)>,
}

fuzz_target!(|ops: Vec<Op>| {
    let mut world = World::new();
    for op in ops.into_iter().take(400) {
        world.act(op);
        world.drain();
        let stats = world.server.stats();
        assert_eq!(stats.connections, world.open.len(), "it knows exactly the connections that are open");
        assert!(
            stats.participants <= stats.rooms * usize::from(limits::PARTICIPANTS_MAX),
            "a room has more seats than it may"
        );
        assert_eq!(stats.participants, world.seated.len(), "who was told of is who has a seat");
    }
    // In the end everybody goes, time passes, and nothing is left behind.
    for connection in world.open.keys().copied().collect::<Vec<_>>() {
        world.open.remove(&connection);
        world.input(Input::Disconnected { connection, leaving: false });
        world.drain();
    }
    for _ in 0..4 {
        world.answer_all();
        world.pass(Duration::from_secs(120));
        world.drain();
    }
    let stats = world.server.stats();
    assert_eq!(stats.connections, 0);
    assert_eq!(stats.participants, 0, "seats are held for half a minute, not for ever");
    assert!(world.seated.is_empty(), "nobody stays seated without being there");
});

impl World {
    fn new() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let at = *START.get_or_init(Instant::now);
        Self {
            server: RoomServer::new(RoomServerConfig::default(), [9; 32], Box::new(NoIceServers)),
            now: Now { at, unix: 1_764_000_000 },
            next: 0,
            open: BTreeMap::new(),
            questions: Vec::new(),
            store: BTreeMap::new(),
            resume_tokens: vec!["A".repeat(43)],
            owner_tokens: vec!["A".repeat(43)],
            queries: BTreeSet::new(),
            seated: BTreeSet::new(),
        }
    }

    fn input(&mut self, input: Input) {
        self.server.handle_input(input, self.now);
    }

    fn who(&self, who: u8) -> Option<ConnectionId> {
        let place = usize::from(who) % self.open.len().max(1);
        self.open.keys().nth(place).copied()
    }

    fn say(&mut self, who: u8, message: serde_json::Value) {
        self.say_text(who, &message.to_string());
    }

    fn say_text(&mut self, who: u8, text: &str) {
        let Some(connection) = self.who(who) else { return };
        self.input(Input::Frame { connection, text: text.to_owned() });
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Connect { block } if self.open.len() < CONNECTIONS => {
                let connection = ConnectionId(self.next);
                self.next += 1;
                self.open.insert(connection, None);
                let address = IpAddr::V4(Ipv4Addr::new(192, 0, block % 4, 1));
                self.input(Input::Connected { connection, address, host: None });
            }
            Op::Connect { .. } => {}
            Op::Disconnect { who, leaving } => {
                if let Some(connection) = self.who(who) {
                    self.open.remove(&connection);
                    self.input(Input::Disconnected { connection, leaving });
                }
            }
            Op::Hello { who, version } => self.say(who, json!({"type": "hello", "versions": [version % 3]})),
            Op::Join { who, room, user, password, proof, owner } => {
                let mut join = json!({
                    "type": "join_room", "roomId": room_id(room), "userId": user_id(user), "displayName": {"plain": "{\"name\":\"N\"}"},
                });
                if let Some(right) = password {
                    join["password"] = json!(if right { "right" } else { "wrong" });
                }
                if let Some(proof) = proof {
                    join["linkProof"] = json!(proof_text(proof));
                }
                if let Some(owner) = owner {
                    join["ownerToken"] = json!(pick(&self.owner_tokens, owner));
                }
                self.say(who, join);
            }
            Op::Resume { who, room, user, token, last_seq } => {
                let token = pick(&self.resume_tokens, token);
                self.say(
                    who,
                    json!({"type": "resume", "roomId": room_id(room), "userId": user_id(user), "resumeToken": token, "lastSeq": last_seq}),
                );
            }
            Op::Leave { who } => self.say(who, json!({"type": "leave_room"})),
            Op::Forward { who, to, kind, size } => {
                let kind = ["offer", "answer", "ice_candidate"][usize::from(kind) % 3];
                self.say(
                    who,
                    json!({"type": kind, "targetId": user_id(to), "payload": {"sealed": "A".repeat(usize::from(size))}, "requestId": size}),
                );
            }
            Op::Toggle { who, kind, on } => {
                let kind =
                    ["toggle_audio", "toggle_video", "toggle_screen", "toggle_hand"][usize::from(kind) % 4];
                self.say(who, json!({"type": kind, "enabled": on}));
            }
            Op::SetPassword { who, right, hint } => {
                let mut message =
                    json!({"type": "set_room_password", "password": if right { "right" } else { "other" }});
                if hint {
                    message["hint"] = json!("a hint");
                }
                self.say(who, message);
            }
            Op::ClearPassword { who } => {
                self.say(who, json!({"type": "clear_room_password", "requestId": 7}))
            }
            Op::Lock { who, locked } => self.say(who, json!({"type": "lock_room", "locked": locked})),
            Op::Kick { who, target } => self.say(who, json!({"type": "kick", "targetId": user_id(target)})),
            Op::Settings { who, most, share } => {
                let mut message = json!({"type": "update_settings", "maxParticipants": most % 13});
                if let Some(share) = share {
                    message["allowScreenShare"] = json!(share);
                }
                self.say(who, message);
            }
            Op::Rotate { who } => self.say(who, json!({"type": "rotate_owner_token"})),
            Op::Stats { who } => self.say(who, json!({"type": "get_stats"})),
            Op::Turn { who } => self.say(who, json!({"type": "turn_credentials"})),
            Op::Ping { who, last_seq } => self.say(who, json!({"type": "ping", "lastSeq": last_seq})),
            Op::Raw { who, text } => self.say_text(who, &text),
            Op::Malformed { who } => self.say_text(who, "not JSON"),
            Op::Query { room, proof } => {
                self.next += 1;
                self.queries.insert(self.next);
                self.input(Input::Query {
                    query: QueryId(self.next),
                    room: room_of(room),
                    link_proof: LinkProof::from_bytes([proof % 3; 32]),
                });
            }
            Op::Answer { which, how } => {
                if !self.questions.is_empty() {
                    let place = usize::from(which) % self.questions.len();
                    let question = self.questions.remove(place);
                    self.answer(question, how);
                }
            }
            Op::AnswerAll => self.answer_all(),
            Op::Pass { milliseconds } => self.pass(Duration::from_millis(u64::from(milliseconds % 200_000))),
            Op::Drain => self.input(Input::Drain),
            Op::ServersChange => self.input(Input::IceServersChanged),
        }
    }

    fn answer_all(&mut self) {
        // An answer may bring new questions; a bounded number of rounds is enough for any chain of them.
        for _ in 0..32 {
            let questions = std::mem::take(&mut self.questions);
            if questions.is_empty() {
                return;
            }
            for question in questions {
                self.answer(question, How::Well);
                self.drain();
            }
        }
    }

    fn answer(&mut self, question: Question, how: How) {
        let failure = match how {
            How::Well => None,
            How::Full => Some(StoreFailure::Full),
            How::Broken => Some(StoreFailure::Unavailable),
        };
        match question {
            Question::Load { job, room } => {
                let result = failure.map_or_else(|| Ok(self.store.get(room.as_str()).cloned()), Err);
                self.input(Input::RoomLoaded { job, result });
            }
            Question::Save { job, room, record } => {
                if failure.is_none() {
                    self.store.insert(room.as_str().to_owned(), record);
                }
                if let Some(job) = job {
                    self.input(Input::RoomSaved { job, result: failure.map_or(Ok(()), Err) });
                }
            }
            Question::Hash { job, password } => {
                let result = if failure.is_some() {
                    Err(Busy(Duration::from_secs(1)))
                } else {
                    Ok(format!("hash of {password}"))
                };
                self.input(Input::PasswordHashed { job, result });
            }
            Question::Check { job, right } => {
                let result = if failure.is_some() { Err(Busy(Duration::from_secs(1))) } else { Ok(right) };
                self.input(Input::PasswordChecked { job, result });
            }
        }
    }

    /// Lets time pass as a shell does: it wakes at every timeout on the way.
    fn pass(&mut self, time: Duration) {
        let end = self.now.at + time;
        for _ in 0..100_000 {
            match self.server.poll_timeout() {
                Some(at) if at <= end => {
                    self.set_time(at.max(self.now.at));
                    self.server.handle_timeout(self.now);
                    self.drain();
                    if let Some(next) = self.server.poll_timeout() {
                        assert!(
                            next > self.now.at,
                            "a timer that is due again at once never lets the shell sleep"
                        );
                    }
                }
                _ => {
                    self.set_time(end);
                    return;
                }
            }
        }
        panic!("a hundred thousand wake-ups within {time:?}");
    }

    fn set_time(&mut self, at: Instant) {
        self.now.unix += (at - self.now.at).as_secs();
        self.now.at = at;
    }

    fn drain(&mut self) {
        for _ in 0..OUTPUTS_PER_INPUT {
            let Some(output) = self.server.poll_output() else { return };
            match output {
                Output::Send { connection, frame } => {
                    let last =
                        self.open.get_mut(&connection).expect("sent to a connection that is not there");
                    let received = Received::decode(&frame.encode()).expect("a client can read every frame");
                    if let Some(seq) = received.seq {
                        // A seat may be taken over from another connection, so the first number seen here may be any.
                        if let Some(last) = *last {
                            assert!(seq == last + 1 || seq == 1, "sequence number {seq} after {last}");
                        }
                        *last = Some(seq);
                    }
                    self.heard(received.message);
                }
                Output::Close { connection, .. } => {
                    assert!(self.open.remove(&connection).is_some(), "closed a connection that is not there");
                }
                Output::LoadRoom { job, room } => self.questions.push(Question::Load { job, room }),
                Output::SaveRoom { job, room, record, .. } => {
                    self.questions.push(Question::Save { job, room, record })
                }
                Output::HashPassword { job, password, .. } => {
                    self.questions.push(Question::Hash { job, password: password.expose().to_owned() });
                }
                Output::CheckPassword { job, password, hash, .. } => {
                    let right = hash.is_some_and(|hash| hash == format!("hash of {}", password.expose()));
                    self.questions.push(Question::Check { job, right });
                }
                Output::Seated { room, user } => {
                    assert!(self.seated.insert((room, user)), "somebody has two seats");
                }
                Output::Unseated { room, user } => {
                    assert!(self.seated.remove(&(room, user)), "a seat was given up that nobody had");
                }
                Output::Meta { query, .. } => {
                    assert!(self.queries.remove(&query.0), "an answer to a question that nobody asked")
                }
            }
        }
        panic!("one input caused {OUTPUTS_PER_INPUT} outputs");
    }

    fn heard(&mut self, message: ServerMessage) {
        let most = usize::from(limits::PARTICIPANTS_MAX);
        match message {
            ServerMessage::RoomJoined(joined) => {
                assert!(joined.participants.len() < most, "too many in one room");
                let mut users: Vec<_> = joined.participants.iter().map(|one| one.user_id).collect();
                users.push(joined.user_id);
                users.sort_unstable();
                users.dedup();
                assert_eq!(users.len(), joined.participants.len() + 1, "somebody sits twice");
                remember(&mut self.resume_tokens, &joined.resume_token);
                if let Some(token) = &joined.owner_token {
                    remember(&mut self.owner_tokens, token);
                }
            }
            ServerMessage::Resumed { resume_token, .. } => remember(&mut self.resume_tokens, &resume_token),
            ServerMessage::OwnerToken { owner_token, .. } => remember(&mut self.owner_tokens, &owner_token),
            _ => {}
        }
    }
}

/// Keeps the text of a token; old ones stay, so that they are tried again later.
fn remember(tokens: &mut Vec<String>, token: &snug_wire::Token) {
    if let Ok(serde_json::Value::String(text)) = serde_json::to_value(token) {
        tokens.push(text);
    }
}

fn pick(texts: &[String], which: u8) -> &str {
    // The newest are the likeliest to be right.
    &texts[texts.len() - 1 - usize::from(which) % texts.len()]
}

fn room_id(room: u8) -> &'static str {
    ROOMS[usize::from(room) % ROOMS.len()]
}

fn room_of(room: u8) -> RoomId {
    room_id(room).parse().expect("a valid room id")
}

fn user_id(user: u8) -> String {
    UserId::from_bytes([user % 12; 16]).to_string()
}

fn proof_text(proof: u8) -> String {
    serde_json::to_value(LinkProof::from_bytes([proof % 3; 32]))
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
