//! Arbitrary sequences of what can happen to a call: a relay and participants that say anything in any order, a shell that answers late,
//! wrongly or never, time, and a person who presses everything. Whatever comes: no panic, bounded lists, one connection for each
//! participant, descriptions in an order that a peer connection can carry out, only messages that the relay takes, and timers that move on.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use snug_call_proto::{
    Call, CallConfig, CallEvent, IceState, Input, JobId, LinkId, Now, Output, OwnerRequest, SignalingState,
    Tile,
};
use snug_wire::link::RoomSecret;
use snug_wire::message::Received;
use snug_wire::seal::{Kind, Run, Sealer};
use snug_wire::{Media, Password, Request, RoomId, SigningIdentity, UserId};

/// Far more than any input can cause: 64 participants with all that waits for each.
const OUTPUTS_PER_INPUT: usize = 20_000;
/// Participants of the relay's making; the last two have keys, and what they say is signed, and sealed where the link has a secret.
const USERS: u8 = 12;
const KEYED: [u8; 2] = [10, 11];
const SESSIONS: [&str; 3] = ["AAAAAAAAAAA", "BBBBBBBBBBB", "CCCCCCCCCCC"];

#[derive(Arbitrary, Debug)]
enum Op {
    Connected,
    Disconnected {
        close_code: Option<u8>,
    },
    /// A message of the relay; with the next number, or with any.
    Relay {
        message: Message,
        seq: Option<u8>,
    },
    Raw {
        text: String,
    },
    /// A message on a data channel.
    Channel {
        link: u8,
        message: ChannelMessage,
    },
    /// The oldest description that was asked for is made, or not.
    Describe {
        fails: bool,
    },
    /// One that nobody asked for.
    Stale {
        link: u8,
        job: u8,
    },
    Candidate {
        link: u8,
        length: u16,
    },
    State {
        link: u8,
        state: u8,
    },
    ChannelOpened {
        link: u8,
    },
    ChannelClosed {
        link: u8,
    },
    Media {
        link: u8,
    },
    SetMedia {
        bits: u8,
    },
    Tiles {
        users: u8,
    },
    Chat {
        text: String,
    },
    Network,
    Retry,
    Password,
    /// Somebody with a key is started anew.
    Restart {
        user: u8,
    },
    Owner {
        kind: u8,
    },
    Pass {
        milliseconds: u16,
    },
    Sleep {
        seconds: u8,
    },
    Leave,
}

#[derive(Arbitrary, Debug)]
enum Message {
    Welcome { heartbeat: u8, version: u8 },
    Joined { users: u16, owner: bool, ttl: u16, away: bool },
    Resumed,
    UserJoined { user: u8 },
    Away { user: u8 },
    Back { user: u8 },
    Left { user: u8, reason: u8 },
    Named { user: u8 },
    Knock { user: u8, gone: bool },
    Asked { user: u8, what: u8 },
    LinkChanged,
    Waiting,
    CallEnded,
    Negotiation { user: u8, negotiation: Negotiation },
    State { user: u8, bits: u8 },
    Updated { share: bool },
    Credentials { ttl: u16 },
    Drain { after: u16 },
    Refused { code: u8, request: Option<u8>, after: Option<u16> },
    Auth { hint: bool },
    Full,
    Done { request: u8 },
    Pong,
    Kicked,
}

#[derive(Arbitrary, Debug)]
struct Negotiation {
    kind: u8,
    /// Ours, or one of theirs.
    session: Option<u8>,
    restart: bool,
    length: u16,
}

#[derive(Arbitrary, Debug)]
enum ChannelMessage {
    Negotiation(Negotiation),
    Chat { id: u8, text: String },
    State { bits: u8 },
    Tile { side: u16 },
    Safety { genuine: bool },
    NewLink { secret: u8 },
    Bye,
    Raw { text: String },
}

/// What a peer connection would know of itself.
#[derive(Default)]
struct Peer {
    user: Option<UserId>,
    /// An offer was made and waits for its answer.
    offering: bool,
    described: bool,
}

struct World {
    call: Call,
    now: Now,
    seq: u64,
    peers: BTreeMap<LinkId, Peer>,
    /// Every id that there was.
    links: Vec<LinkId>,
    jobs: Vec<(LinkId, JobId, bool)>,
    session: String,
    sealed: bool,
    sealers: BTreeMap<u8, Sealer>,
    runs: u64,
    ended: bool,
}

fuzz_target!(|input: (bool, Vec<Op>)| {
    let (sealed, ops) = input;
    let mut world = World::new(sealed);
    world.drain();
    for op in ops.into_iter().take(300) {
        world.act(op);
        world.check();
    }
});

impl World {
    fn new(sealed: bool) -> Self {
        // One start for all runs, so that a failing input fails again.
        static START: OnceLock<Instant> = OnceLock::new();
        let now = Now { at: *START.get_or_init(Instant::now), unix_ms: 1_764_000_000_000 };
        let config = CallConfig {
            room: "sunny-mountain-42".parse().expect("a valid room id"),
            secret: sealed.then(|| RoomSecret::from_bytes([7; 16])),
            owner_token: None,
            name: "Ana".into(),
            password: None,
            media: Media::default(),
            agent: "fuzz/1".into(),
            kept: None,
        };
        let sealers = KEYED.map(|user| (user, sealer_of(user, sealed, 1))).into();
        Self {
            call: Call::new(config, [5; 32], now),
            now,
            seq: 0,
            peers: BTreeMap::new(),
            links: vec![LinkId(0)],
            jobs: Vec::new(),
            session: SESSIONS[0].to_owned(),
            sealed,
            sealers,
            runs: 1,
            ended: false,
        }
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Connected => self.input(Input::Connected),
            Op::Disconnected { close_code } => {
                let close_code = close_code.map(|code| 3995 + u16::from(code % 16));
                self.input(Input::Disconnected { close_code, error: None });
            }
            Op::Relay { message, seq } => self.relay(&message, seq),
            Op::Raw { text } => self.frame(&text),
            Op::Channel { link, message } => {
                let text = self.channel_text(link, message);
                self.input(Input::ChannelMessage { link: self.link(link), text });
            }
            Op::Describe { fails } => {
                if self.jobs.is_empty() {
                    return;
                }
                let (link, job, offer) = self.jobs.remove(0);
                if let Some(peer) = self.peers.get_mut(&link).filter(|_| !fails) {
                    peer.offering = offer;
                    peer.described |= !offer;
                }
                self.input(match fails {
                    true => Input::DescriptionFailed { link, job },
                    false => Input::DescriptionReady { link, job, sdp: "v=0".to_owned() },
                });
            }
            Op::Stale { link, job } => {
                // A number that is no open job's.
                let job = JobId(u64::from(job) | 1 << 40);
                self.input(Input::DescriptionReady { link: self.link(link), job, sdp: String::new() });
            }
            Op::Candidate { link, length } => self.input(Input::CandidateFound {
                link: self.link(link),
                candidate: "c".repeat(usize::from(length % 2000)),
                sdp_mid: Some("0".to_owned()),
                sdp_mline_index: Some(0),
            }),
            Op::State { link, state } => {
                let states =
                    [IceState::Connected, IceState::Connected, IceState::Disconnected, IceState::Failed];
                let state = states[usize::from(state) % states.len()];
                self.input(Input::LinkStateChanged { link: self.link(link), state });
            }
            Op::ChannelOpened { link } => self.input(Input::ChannelOpened { link: self.link(link) }),
            Op::ChannelClosed { link } => self.input(Input::ChannelClosed { link: self.link(link) }),
            Op::Media { link } => self.input(Input::MediaSeen { link: self.link(link) }),
            Op::SetMedia { bits } => self.input(Input::SetMedia(media(bits))),
            Op::Tiles { users } => {
                let tile = Tile { width: 640, height: 360, screen_width: 0, screen_height: 0 };
                self.input(Input::SetTiles((0..users % 80).map(|user| (user_of(user), tile)).collect()));
            }
            Op::Chat { text } => self.input(Input::SendChat(text)),
            Op::Network => self.input(Input::NetworkChanged),
            Op::Retry => self.input(Input::RetryNow),
            Op::Password => self.input(Input::SupplyPassword(Password::new("rex").expect("a password"))),
            Op::Restart { user } => {
                let user = KEYED[usize::from(user) % KEYED.len()];
                self.runs += 1;
                self.sealers.insert(user, sealer_of(user, self.sealed, self.runs));
            }
            Op::Owner { kind } => self.input(Input::Owner(match kind % 13 {
                0 => OwnerRequest::SetPassword { password: Password::new("rex").expect("a password"), hint: None },
                1 => OwnerRequest::ClearPassword,
                2 => OwnerRequest::Lock(true),
                3 => OwnerRequest::Kick(user_of(kind)),
                4 => OwnerRequest::UpdateSettings {
                    max_participants: Some(4),
                    allow_screen_share: None,
                    lobby: Some(true),
                    admission: None,
                },
                5 => OwnerRequest::RotateOwnerToken,
                6 => OwnerRequest::Unban,
                7 => OwnerRequest::AskMute(user_of(kind)),
                8 => OwnerRequest::Admit { user: user_of(kind), admitted: true },
                9 => OwnerRequest::OfferOwnership(user_of(kind)),
                10 => OwnerRequest::NewLink,
                11 => OwnerRequest::EndCall,
                _ => OwnerRequest::GetStats,
            })),
            Op::Pass { milliseconds } => self.pass(Duration::from_millis(u64::from(milliseconds))),
            Op::Sleep { seconds } => {
                self.now.at += Duration::from_secs(u64::from(seconds));
                self.call.handle_timeout(self.now);
                self.drain();
            }
            Op::Leave => self.input(Input::Leave),
        }
    }

    fn input(&mut self, input: Input) {
        self.call.handle_input(input, self.now);
        self.drain();
    }

    fn frame(&mut self, text: &str) {
        match Received::decode(text) {
            Ok(received) => self.input(Input::Received(received)),
            Err(_) => self.input(Input::Unreadable { seq: Received::sequence_of(text) }),
        }
    }

    /// Wakes the call whenever it asks for it.
    fn pass(&mut self, time: Duration) {
        let end = self.now.at + time;
        for _ in 0..100_000 {
            let Some(due) = self.call.poll_timeout().filter(|due| *due <= end) else {
                self.now.at = end;
                return;
            };
            self.now.at = due.max(self.now.at);
            self.call.handle_timeout(self.now);
            self.drain();
            let next = self.call.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now.at), "a timer that is due again at once");
        }
        panic!("a hundred thousand wake-ups within {time:?}");
    }

    fn drain(&mut self) {
        for _ in 0..OUTPUTS_PER_INPUT {
            let Some(output) = self.call.poll_output() else { return };
            assert!(!self.ended, "something comes after the end");
            self.carry_out(output);
        }
        panic!("one input caused {OUTPUTS_PER_INPUT} outputs");
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send(text) => {
                if let Err((_, error)) = Request::decode(&text) {
                    panic!("the relay does not take {text}: {error}");
                }
                self.remember_session(&text);
            }
            Output::OpenLink { link, user, .. } => {
                assert!(!self.links.contains(&link), "an id was used again");
                assert!(self.peers.values().all(|peer| peer.user != Some(user)), "two connections to one");
                self.links.push(link);
                self.peers.insert(link, Peer { user: Some(user), ..Peer::default() });
            }
            Output::CloseLink { link } => {
                assert!(self.peers.remove(&link).is_some(), "closed twice");
                self.jobs.retain(|(of, ..)| *of != link);
            }
            Output::CreateOffer { link, job, rollback, .. } => self.ask(link, job, rollback, true),
            Output::AcceptOffer { link, job, rollback, sdp } => {
                assert!(sdp.len() <= 32 * 1024);
                self.ask(link, job, rollback, false);
                self.peer(link).described = true;
            }
            Output::AcceptAnswer { link, .. } => {
                let peer = self.peer(link);
                assert!(std::mem::take(&mut peer.offering), "an answer without an offer");
                peer.described = true;
            }
            Output::AddCandidate { link, .. } => {
                assert!(self.peer(link).described, "a candidate before the description");
            }
            Output::SetIceServers { link, .. } | Output::Tile { link, .. } => {
                self.peer(link);
            }
            Output::SendChannel { link, text } => {
                assert!(text.len() <= 64 * 1024);
                self.peer(link);
            }
            Output::Event(CallEvent::Ended { .. }) => self.ended = true,
            Output::Connect | Output::CloseConnection { .. } | Output::Event(_) => {}
        }
    }

    /// A description is asked for: an unanswered offer is rolled back first, and nothing else is.
    fn ask(&mut self, link: LinkId, job: JobId, rollback: bool, offer: bool) {
        let peer = self.peer(link);
        assert_eq!(rollback, std::mem::take(&mut peer.offering));
        self.jobs.push((link, job, offer));
    }

    fn peer(&mut self, link: LinkId) -> &mut Peer {
        self.peers.get_mut(&link).expect("the connection is open")
    }

    fn check(&self) {
        let snapshot = self.call.snapshot();
        assert!(snapshot.participants.len() <= 64 && snapshot.chat.len() <= 500);
        let users: BTreeSet<UserId> = snapshot.participants.iter().map(|one| one.user).collect();
        assert_eq!(users.len(), snapshot.participants.len(), "somebody is there twice");
        assert!(!users.contains(&snapshot.self_id), "we are our own guest");
        let linked = self.peers.values().filter_map(|peer| peer.user);
        assert!(linked.into_iter().all(|user| users.contains(&user)), "a connection to nobody");
        if self.ended {
            assert!(self.peers.is_empty() && self.call.poll_timeout().is_none());
            assert_eq!(snapshot.signaling, SignalingState::Closed);
        }
    }

    // Texts.

    fn relay(&mut self, message: &Message, seq: Option<u8>) {
        let unnumbered = matches!(
            message,
            Message::Welcome { .. }
                | Message::Resumed
                | Message::Drain { .. }
                | Message::Refused { .. }
                | Message::Done { .. }
                | Message::Pong
        );
        let mut value = self.message(message);
        if !unnumbered {
            self.seq = match (seq, message) {
                (Some(seq), _) => u64::from(seq),
                (None, Message::Joined { .. }) => 1,
                (None, _) => self.seq + 1,
            };
            value["seq"] = json!(self.seq);
        }
        self.frame(&value.to_string());
    }

    fn message(&mut self, message: &Message) -> Value {
        let token = "A".repeat(43);
        match message {
            Message::Welcome { heartbeat, version } => {
                let version = if version % 8 == 0 { 3 } else { 2 };
                json!({"type": "welcome", "versions": [version], "relay": "fuzz", "heartbeatSeconds": heartbeat, "nonce": token,
                    "capabilities": ["lobby", "ownership", "ask_mute", "new_link", "names", "recording"]})
            }
            Message::Joined { users, owner, ttl, away } => {
                let others: Vec<Value> =
                    (0..users % (u16::from(USERS) + 1))
                        .map(|user| self.participant(user as u8, *away && user % 2 == 0))
                        .collect();
                json!({"type": "room_joined", "roomId": "sunny-mountain-42", "userId": self.call.snapshot().self_id,
                    "resumeToken": token, "ticket": "a-ticket", "participants": others, "roomInfo": room(true), "isOwner": owner,
                    "iceServers": [], "iceTtlSeconds": ttl, "seatHoldSeconds": 30})
            }
            Message::Resumed => json!({"type": "resumed", "resumeToken": token, "replayed": 0}),
            Message::UserJoined { user } => {
                json!({"type": "user_joined", "participant": self.participant(*user, false)})
            }
            Message::Away { user } => json!({"type": "user_away", "userId": user_of(*user)}),
            Message::Back { user } => json!({"type": "user_back", "userId": user_of(*user)}),
            Message::Left { user, reason } => {
                let reason = ["left", "timeout", "kicked", "replaced"][usize::from(reason % 4)];
                json!({"type": "user_left", "userId": user_of(*user), "reason": reason})
            }
            Message::Named { user } => {
                let name = self.payload(*user, Kind::Name, r#"{"name":"Bo"}"#);
                json!({"type": "peer_name", "userId": user_of(*user), "displayName": name})
            }
            Message::Knock { user, gone: true } => json!({"type": "knock_gone", "userId": user_of(*user)}),
            Message::Knock { user, gone: false } => {
                let name = self.payload(*user, Kind::Name, r#"{"name":"Bo"}"#);
                let key = identity_of(user % USERS).public_key();
                json!({"type": "knock", "userId": user_of(*user), "publicKey": key, "displayName": name})
            }
            Message::Asked { user, what } => match what % 3 {
                0 => json!({"type": "mute_requested", "fromId": user_of(*user)}),
                1 => json!({"type": "ownership_offered", "fromId": user_of(*user)}),
                _ => json!({"type": "owner_changed", "userId": user_of(*user)}),
            },
            Message::LinkChanged => json!({"type": "link_changed"}),
            Message::Waiting => json!({"type": "waiting"}),
            Message::CallEnded => json!({"type": "call_ended"}),
            Message::Negotiation { user, negotiation } => {
                let (kind, payload) = self.negotiation(*user, negotiation);
                json!({"type": format!("{kind}_received"), "fromId": user_of(*user), "payload": payload})
            }
            Message::State { user, bits } => {
                json!({"type": "peer_state", "userId": user_of(*user), "media": media(*bits)})
            }
            Message::Updated { share } => json!({"type": "room_updated", "roomInfo": room(*share)}),
            Message::Credentials { ttl } => {
                json!({"type": "turn_credentials", "iceServers": [], "iceTtlSeconds": ttl})
            }
            Message::Drain { after } => json!({"type": "drain", "reconnectAfterMs": after}),
            Message::Refused { code, request, after } => {
                let codes = [
                    "RESUME_FAILED",
                    "AUTH_FAILED",
                    "TICKET_INVALID",
                    "KEY_PROOF_INVALID",
                    "NOT_ADMITTED",
                    "LINK_INCOMPLETE",
                    "VERSION_UNSUPPORTED",
                    "ROOM_LOCKED",
                    "RATE_LIMITED",
                    "KICKED",
                    "DRAINING",
                    "SERVER_BUSY",
                    "UNKNOWN_TARGET",
                    "SCREEN_SHARE_DISABLED",
                ];
                let code = codes[usize::from(*code) % codes.len()];
                json!({"type": "error", "code": code, "message": "no", "requestId": request, "retryAfterMs": after})
            }
            Message::Auth { hint } => json!({"type": "auth_required", "hint": hint.then_some("the dog")}),
            Message::Full => json!({"type": "room_full", "maxParticipants": 10}),
            Message::Done { request } => json!({"type": "done", "requestId": request}),
            Message::Pong => json!({"type": "pong"}),
            Message::Kicked => json!({"type": "kicked"}),
        }
    }

    fn negotiation(&mut self, user: u8, negotiation: &Negotiation) -> (&'static str, Value) {
        let Negotiation { kind, session, restart, length } = *negotiation;
        let session =
            session.map_or(self.session.as_str(), |one| SESSIONS[usize::from(one) % SESSIONS.len()]);
        let text = "v".repeat(usize::from(length % 4000));
        let mut description = json!({"sdp": text, "session": session, "restart": restart});
        if length % 3 == 0 {
            // Fingerprint, commitment and nonce of safety words; the commitment fits no nonce.
            description["sdp"] = json!(format!("v=0\r\na=fingerprint:sha-256 {}", ["AB"; 32].join(":")));
            description["commitment"] = json!("A".repeat(43));
            description["safetyNonce"] = json!("A".repeat(22));
        }
        let description = description.to_string();
        match kind % 4 {
            0 | 1 => ("offer", self.payload(user, Kind::Offer, &description)),
            2 => ("answer", self.payload(user, Kind::Answer, &description)),
            _ => {
                let body = json!({"candidate": text, "sdpMid": "0", "sdpMLineIndex": 0, "session": session});
                ("ice_candidate", self.payload(user, Kind::IceCandidate, &body.to_string()))
            }
        }
    }

    /// What somebody says, to us or to the room.
    fn payload(&mut self, user: u8, kind: Kind, text: &str) -> Value {
        let own = self.call.snapshot().self_id;
        let receiver = (!matches!(kind, Kind::Name | Kind::Chat | Kind::NewLink)).then_some(own);
        match self.sealers.get_mut(&(user % USERS)) {
            Some(sealer) => json!(sealer.seal(kind, receiver, text)),
            None => json!({"plain": text}),
        }
    }

    fn participant(&mut self, user: u8, away: bool) -> Value {
        let name = self.payload(user, Kind::Name, r#"{"name":"Ben"}"#);
        let mut participant = json!({"userId": user_of(user), "displayName": name, "media": {}, "away": away, "owner": user % 3 == 0,
            "capabilities": ["ownership", "ask_mute", "new_link"]});
        if KEYED.contains(&(user % USERS)) {
            participant["publicKey"] = json!(identity_of(user % USERS).public_key());
            participant["formerId"] = json!(user_of(0));
        }
        participant
    }

    fn channel_text(&mut self, link: u8, message: ChannelMessage) -> String {
        let of = self.peers.get(&self.link(link)).and_then(|peer| peer.user);
        let user = (0..USERS).find(|user| Some(user_of(*user)) == of).unwrap_or(0);
        match message {
            ChannelMessage::Negotiation(negotiation) => {
                let (kind, payload) = self.negotiation(user, &negotiation);
                json!({"type": kind, "payload": payload}).to_string()
            }
            ChannelMessage::Chat { id, text } => {
                let body = json!({"id": id.to_string(), "text": text, "sentAt": 1}).to_string();
                json!({"type": "chat", "payload": self.payload(user, Kind::Chat, &body)}).to_string()
            }
            ChannelMessage::State { bits } => {
                json!({"type": "media_state", "media": media(bits)}).to_string()
            }
            ChannelMessage::Tile { side } => {
                json!({"type": "tile", "width": side, "height": side, "screenWidth": 0, "screenHeight": 0})
                    .to_string()
            }
            ChannelMessage::Safety { genuine } => {
                json!({"type": "safety", "nonce": if genuine { "AAAAAAAAAAAAAAAAAAAAAA" } else { "?" }}).to_string()
            }
            ChannelMessage::NewLink { secret } => {
                let secret = RoomSecret::from_bytes([secret; 16]);
                let body = json!({"secret": secret.to_string()}).to_string();
                json!({"type": "new_link", "payload": self.payload(user, Kind::NewLink, &body)}).to_string()
            }
            ChannelMessage::Bye => json!({"type": "bye"}).to_string(),
            ChannelMessage::Raw { text } => text,
        }
    }

    /// Answers that fit name the session of our last offer.
    fn remember_session(&mut self, text: &str) {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let body: Value =
            serde_json::from_str(value["payload"]["plain"].as_str().unwrap_or_default()).unwrap_or_default();
        if let Some(session) = body["session"].as_str() {
            self.session = session.to_owned();
        }
    }

    fn link(&self, which: u8) -> LinkId {
        // The newest are the likeliest to be open.
        self.links[self.links.len() - 1 - usize::from(which) % self.links.len()]
    }
}

fn identity_of(user: u8) -> &'static SigningIdentity {
    static IDENTITIES: OnceLock<Vec<SigningIdentity>> = OnceLock::new();
    let identities = IDENTITIES.get_or_init(|| {
        (0..USERS).map(|user| SigningIdentity::from_bytes(&[user + 1; 32]).expect("a key")).collect()
    });
    &identities[usize::from(user % USERS)]
}

fn sealer_of(user: u8, sealed: bool, run: u64) -> Sealer {
    let room: RoomId = "sunny-mountain-42".parse().expect("a valid room id");
    let secret = sealed.then(|| RoomSecret::from_bytes([7; 16]));
    Sealer::new(secret, room, identity_of(user).clone(), Run::new(run, [0; 8]))
}

fn room(share: bool) -> Value {
    json!({"maxParticipants": 10, "allowScreenShare": share, "passwordEnabled": false, "locked": false, "sealed": false})
}

fn user_of(user: u8) -> UserId {
    let user = user % USERS;
    if KEYED.contains(&user) {
        return identity_of(user).user_id();
    }
    // Some below and some above our own id.
    UserId::from_bytes([user.wrapping_mul(21); 16])
}

fn media(bits: u8) -> Media {
    Media {
        audio: bits & 1 != 0,
        video: bits & 2 != 0,
        screen: bits & 4 != 0,
        hand: bits & 8 != 0,
        recording: bits & 16 != 0,
    }
}
