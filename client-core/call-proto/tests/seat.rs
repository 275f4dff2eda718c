//! One call alone with a relay that the test plays word by word: the owner's requests, credentials, sleep, crossing offers, close codes.

#![expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

use std::time::{Duration, Instant};

use snug_call_proto::{
    Call, CallConfig, CallEvent, ConnectFailure, EndCode, IceState, Input, JobId, KeptIdentity, LinkId,
    NoSeatReason, Now, Output, OwnerRequest, RequestKind, SignalingState,
};
use snug_wire::message::{Forwarded, JoinRoom, Received, RoomJoined};
use snug_wire::seal::{Kind, Run, Sealer};
use snug_wire::{
    Admission, ClientMessage, ErrorCode, IceServer, JoinNonce, Media, Participant, Password, Payload,
    Request, RoomInfo, ServerFrame, ServerMessage, SigningIdentity, Token, UserId,
};

/// `-----…` and `zzzzz…`: lower and higher than any id that is a key's, in the order of the text.
const LOW: UserId = UserId::from_bytes(repeated([0xfb, 0xef, 0xbe]));
const HIGH: UserId = UserId::from_bytes(repeated([0xcf, 0x3c, 0xf3]));
const NONCE: JoinNonce = JoinNonce::from_bytes([6; 32]);

const fn repeated(bytes: [u8; 3]) -> [u8; 16] {
    let mut id = [0; 16];
    let mut at = 0;
    while at < id.len() {
        id[at] = bytes[at % 3];
        at += 1;
    }
    id
}

struct Seat {
    call: Call,
    now: Now,
    seq: u64,
    outputs: Vec<Output>,
    sent: Vec<Request>,
    relay_can: &'static [&'static str],
    is_owner: bool,
    /// Which of the others is the owner.
    owner: Option<UserId>,
}

const ALL: &[&str] = &["lobby", "ownership", "ask_mute", "new_link", "names", "recording"];

impl Seat {
    /// Connected, and about to join.
    fn new() -> Self {
        Self::started_with(None)
    }

    fn started_with(kept: Option<KeptIdentity>) -> Self {
        let mut seat = Self::not_connected(kept);
        seat.connected();
        seat
    }

    fn not_connected(kept: Option<KeptIdentity>) -> Self {
        Self::of_link(kept, None)
    }

    /// With the owner's token of a link.
    fn of_link(kept: Option<KeptIdentity>, owner_token: Option<Token>) -> Self {
        let now = Now { at: Instant::now(), unix_ms: 1_764_000_000_000 };
        let config = CallConfig {
            room: "sunny-mountain-42".parse().unwrap(),
            secret: None,
            owner_token,
            name: "Ana".into(),
            password: None,
            media: Media::default(),
            agent: "test/1".into(),
            kept,
        };
        let call = Call::new(config, [3; 32], now);
        Self {
            call,
            now,
            seq: 0,
            outputs: Vec::new(),
            sent: Vec::new(),
            relay_can: ALL,
            is_owner: true,
            owner: None,
        }
    }

    /// A connection is open, and the relay says welcome.
    fn connected(&mut self) {
        self.input(Input::Connected);
        self.welcome(&[2]);
    }

    fn welcome(&mut self, versions: &[u32]) {
        self.says(&ServerMessage::Welcome {
            versions: versions.to_vec(),
            capabilities: self.relay_can.iter().map(|one| (*one).to_owned()).collect(),
            relay: "test".into(),
            heartbeat_seconds: 15,
            nonce: NONCE,
        });
    }

    /// The connection is lost, and another one is open.
    fn reconnect(&mut self) {
        self.input(Input::Disconnected { close_code: None, error: None });
        self.pass(Duration::from_secs(1));
        self.connected();
    }

    /// The seat is lost with the connection, and the relay is asked for another one.
    fn rejoins(&mut self) {
        self.reconnect();
        self.says(&ServerMessage::error(ErrorCode::ResumeFailed, None));
    }

    fn refused(&mut self, code: ErrorCode) {
        self.says(&ServerMessage::error(code, None));
    }

    fn joins(&self) -> Vec<&JoinRoom> {
        let join = |request: &'_ Request| matches!(request.message, ClientMessage::JoinRoom(_));
        let joins = self.sent.iter().filter(|request| join(request));
        joins
            .filter_map(|request| match &request.message {
                ClientMessage::JoinRoom(join) => Some(&**join),
                _ => None,
            })
            .collect()
    }

    fn connects(&self) -> usize {
        self.outputs.iter().filter(|output| matches!(output, Output::Connect)).count()
    }

    /// What the shell has been told to keep, as it stands.
    fn kept(&self) -> Option<KeptIdentity> {
        let last = self.events().into_iter().rev();
        last.filter_map(|event| match event {
            CallEvent::KeepIdentity(kept) => Some(Some(kept.clone())),
            CallEvent::ForgetIdentity => Some(None),
            _ => None,
        })
        .next()
        .flatten()
    }

    /// Seated beside `others`.
    fn joined(others: &[UserId]) -> Self {
        let mut seat = Self::new();
        seat.join(others);
        seat
    }

    fn join(&mut self, others: &[UserId]) {
        let participants = others.iter().map(|user_id| Participant {
            user_id: *user_id,
            public_key: None,
            former_id: None,
            capabilities: if *user_id == HIGH {
                vec!["ask_mute".into(), "ownership".into()]
            } else {
                Vec::new()
            },
            display_name: plain(r#"{"name":"Ben"}"#),
            media: Media { audio: true, ..Media::default() },
            away: false,
            owner: self.owner == Some(*user_id),
        });
        let joined = RoomJoined {
            room_id: "sunny-mountain-42".parse().unwrap(),
            user_id: self.call.snapshot().self_id,
            resume_token: Token::from_bytes([9; 32]),
            ticket: "a-ticket".into(),
            participants: participants.collect(),
            room_info: RoomInfo {
                max_participants: 10,
                allow_screen_share: true,
                password_enabled: false,
                locked: false,
                sealed: false,
                lobby: false,
                admission: Admission::Owner,
                removed: 0,
            },
            is_owner: self.is_owner,
            owner_token: None,
            ice_servers: Vec::new(),
            ice_ttl_seconds: 600,
            seat_hold_seconds: 30,
        };
        self.seq = 0;
        self.numbered(&ServerMessage::RoomJoined(Box::new(joined)));
    }

    fn input(&mut self, input: Input) {
        self.call.handle_input(input, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.call.poll_output() {
            if let Output::Send(text) = &output {
                self.sent.push(Request::decode(text).unwrap());
            }
            self.outputs.push(output);
        }
    }

    fn numbered(&mut self, message: &ServerMessage) {
        self.seq += 1;
        let frame = ServerFrame::new(message).with_seq(self.seq).encode();
        self.input(Input::Received(Received::decode(&frame).unwrap()));
    }

    fn says(&mut self, message: &ServerMessage) {
        let frame = ServerFrame::new(message).encode();
        self.input(Input::Received(Received::decode(&frame).unwrap()));
    }

    /// Time passes; the relay answers pings and nothing else.
    fn pass(&mut self, duration: Duration) {
        let end = self.now.at + duration;
        while let Some(due) = self.call.poll_timeout().filter(|due| *due <= end) {
            self.now.at = due.max(self.now.at);
            let pings = self.pings();
            self.call.handle_timeout(self.now);
            self.drain();
            if self.pings() > pings {
                self.says(&ServerMessage::Pong {});
            }
        }
        self.now.at = end;
    }

    fn pings(&self) -> usize {
        self.sent.iter().filter(|request| matches!(request.message, ClientMessage::Ping { .. })).count()
    }

    fn events(&self) -> Vec<&CallEvent> {
        let mut events = Vec::new();
        for output in &self.outputs {
            if let Output::Event(event) = output {
                events.push(event);
            }
        }
        events
    }

    /// The last request that names itself.
    fn request_id(&self) -> Option<u32> {
        self.sent.iter().rev().find_map(|request| request.request_id)
    }

    /// The jobs so far: which link, and whether with a rollback.
    fn jobs(&self) -> Vec<(&'static str, LinkId, JobId, bool)> {
        let job = |output: &Output| match *output {
            Output::CreateOffer { link, job, rollback, .. } => Some(("offer", link, job, rollback)),
            Output::AcceptOffer { link, job, rollback, .. } => Some(("answer", link, job, rollback)),
            _ => None,
        };
        self.outputs.iter().filter_map(job).collect()
    }

    /// Carries the last job out.
    fn describe(&mut self) -> LinkId {
        let (_, link, job, _) = *self.jobs().last().unwrap();
        self.input(Input::DescriptionReady { link, job, sdp: "v=0".into() });
        link
    }

    /// The session of the last description that was sent.
    fn session(&self) -> String {
        let payload = |request: &Request| match &request.message {
            ClientMessage::Offer(forward) | ClientMessage::Answer(forward) => Some(forward.payload.clone()),
            _ => None,
        };
        let Some(Payload::Plain { text, .. }) = self.sent.iter().rev().find_map(payload) else {
            panic!("no description")
        };
        let body: serde_json::Value = serde_json::from_str(&text).unwrap();
        body["session"].as_str().unwrap().to_owned()
    }

    fn their_offer(&mut self, from_id: UserId, session: &str, restart: bool) {
        let body =
            serde_json::json!({"sdp": "v=0 theirs", "session": session, "restart": restart}).to_string();
        let forwarded = Forwarded { from_id, payload: plain(&body) };
        self.numbered(&ServerMessage::OfferReceived(forwarded));
    }

    fn their_answer(&mut self, from_id: UserId, session: &str) {
        let body = serde_json::json!({"sdp": "v=0 theirs", "session": session, "restart": false}).to_string();
        let forwarded = Forwarded { from_id, payload: plain(&body) };
        self.numbered(&ServerMessage::AnswerReceived(forwarded));
    }

    /// A link that works, to `user`, who was there before us.
    fn connected_to(user: UserId) -> (Self, LinkId) {
        let mut seat = Self::joined(&[user]);
        let link = seat.describe();
        let session = seat.session();
        seat.their_answer(user, &session);
        seat.input(Input::LinkStateChanged { link, state: IceState::Connected });
        seat.input(Input::ChannelOpened { link });
        seat.input(Input::MediaSeen { link });
        (seat, link)
    }
}

/// What somebody without a key says.
fn plain(text: &str) -> Payload {
    Payload::Plain { text: text.to_owned(), proof: None }
}

#[test]
fn an_owners_request_that_is_carried_out_is_told_as_such() {
    let mut seat = Seat::joined(&[HIGH]);
    seat.input(Input::Owner(OwnerRequest::Lock(true)));
    let request_id = seat.request_id();
    assert!(request_id.is_some());
    seat.says(&ServerMessage::Done { request_id });
    assert!(matches!(seat.events().last(), Some(CallEvent::RequestDone(RequestKind::Lock))));
    seat.pass(Duration::from_secs(11));
    assert!(
        matches!(seat.events().last(), Some(CallEvent::RequestDone(RequestKind::Lock))),
        "and no time-out"
    );
}

#[test]
fn an_owners_request_that_is_refused_or_never_answered_fails_with_a_sentence() {
    let mut seat = Seat::joined(&[]);
    seat.input(Input::Owner(OwnerRequest::Kick(HIGH)));
    let error = ServerMessage::error(ErrorCode::UnknownTarget, seat.request_id());
    seat.says(&error);
    let code = |event: Option<&&CallEvent>| match event {
        Some(CallEvent::RequestFailed { request, code, message }) if !message.is_empty() => {
            Some((*request, *code))
        }
        _ => None,
    };
    assert_eq!(code(seat.events().last()), Some((RequestKind::Kick, Some(ErrorCode::UnknownTarget))));
    seat.input(Input::Owner(OwnerRequest::GetStats));
    seat.pass(Duration::from_millis(9_900));
    assert_eq!(code(seat.events().last()), Some((RequestKind::Kick, Some(ErrorCode::UnknownTarget))));
    seat.pass(Duration::from_millis(200));
    assert_eq!(code(seat.events().last()), Some((RequestKind::GetStats, None)));
}

#[test]
fn an_owners_requests_fail_with_their_connection_and_without_one() {
    let mut seat = Seat::joined(&[]);
    seat.input(Input::Owner(OwnerRequest::ClearPassword));
    seat.input(Input::Disconnected { close_code: None, error: None });
    seat.input(Input::Owner(OwnerRequest::RotateOwnerToken));
    let failed: Vec<RequestKind> = seat
        .events()
        .iter()
        .filter_map(|event| match event {
            CallEvent::RequestFailed { request, code: None, .. } => Some(*request),
            _ => None,
        })
        .collect();
    assert_eq!(failed, [RequestKind::ClearPassword, RequestKind::RotateOwnerToken]);
}

#[test]
fn a_password_that_we_set_is_the_one_we_come_back_with() {
    let mut seat = Seat::joined(&[]);
    let password = Password::new("rex").expect("a password");
    seat.input(Input::Owner(OwnerRequest::SetPassword { password, hint: None }));
    let request_id = seat.request_id();
    seat.says(&ServerMessage::Done { request_id });
    seat.input(Input::Disconnected { close_code: None, error: None });
    seat.pass(Duration::from_secs(1));
    seat.connected();
    seat.says(&ServerMessage::error(ErrorCode::ResumeFailed, None));
    let Some(ClientMessage::JoinRoom(join)) = seat.sent.last().map(|request| &request.message) else {
        panic!()
    };
    assert_eq!(join.password.as_ref().map(Password::expose), Some("rex"));
}

#[test]
fn a_relay_that_forgot_us_is_shown_our_ticket_and_again_when_its_answer_is_lost() {
    let mut seat = Seat::joined(&[]);
    seat.reconnect();
    let last = |seat: &Seat| seat.sent.last().map(|request| request.message.clone());
    assert!(matches!(last(&seat), Some(ClientMessage::Resume { last_seq: 1, .. })));
    seat.refused(ErrorCode::ResumeFailed);
    assert_eq!(seat.joins().last().unwrap().ticket.as_deref(), Some("a-ticket"));
    seat.reconnect();
    assert!(matches!(last(&seat), Some(ClientMessage::JoinRoom(_))), "the old token resumes nothing");
    let joins = seat.joins();
    assert_eq!(joins.len(), 3);
    assert!(joins.iter().all(|join| join.public_key.user_id() == seat.call.snapshot().self_id));
    seat.join(&[HIGH]);
    assert_eq!(seat.call.snapshot().signaling, SignalingState::Online);
}

#[test]
fn a_join_waits_for_the_relays_nonce_and_proves_the_key_over_it() {
    let mut seat = Seat::not_connected(None);
    seat.input(Input::Connected);
    assert!(
        matches!(&seat.sent[..], [Request { message: ClientMessage::Hello { versions, .. }, .. }] if *versions == [2])
    );
    seat.welcome(&[2, 3]);
    let join = *seat.joins().last().unwrap();
    let room = "sunny-mountain-42".parse().unwrap();
    assert!(join.public_key.proves(&join.key_proof, &NONCE, &room));
    assert_eq!(join.public_key.user_id(), seat.call.snapshot().self_id);
}

#[test]
fn who_we_are_is_to_be_kept_before_the_relay_hears_of_it_and_forgotten_when_we_leave() {
    let mut seat = Seat::new();
    let place = |seat: &Seat, fits: fn(&Output) -> bool| seat.outputs.iter().position(fits).unwrap();
    let keep = place(&seat, |output| matches!(output, Output::Event(CallEvent::KeepIdentity(_))));
    let join = place(&seat, |output| matches!(output, Output::Send(text) if text.contains("join_room")));
    assert!(keep < join);
    assert_eq!(seat.kept().unwrap().ticket, None);
    seat.join(&[]);
    assert_eq!(seat.kept().unwrap().ticket.as_deref(), Some("a-ticket"));
    seat.input(Input::Leave);
    assert!(seat.kept().is_none());
}

#[test]
fn a_relay_that_is_out_of_reach_at_the_start_leaves_what_was_kept_alone() {
    let kept = KeptIdentity {
        key: SigningIdentity::from_bytes(&[5; 32]).unwrap(),
        started_ms: 1,
        owner_token: None,
        ticket: Some("a-ticket".into()),
    };
    let mut seat = Seat::not_connected(Some(kept));
    let error = Some(ConnectFailure::Unreachable("nothing listens there".into()));
    seat.input(Input::Disconnected { close_code: None, error });
    seat.pass(Duration::from_secs(16));
    assert!(matches!(seat.events().last(), Some(CallEvent::Ended { code: EndCode::Unreachable, .. })));
    assert!(!seat.events().iter().any(|event| matches!(event, CallEvent::ForgetIdentity)));
}

/// When the run of the last join began, in milliseconds since 1970.
fn run_of(join: &JoinRoom) -> u64 {
    let Payload::Plain { proof: Some(proof), .. } = &join.display_name else { panic!("a signed name") };
    let bytes = data_encoding::BASE64URL_NOPAD.decode(proof.as_bytes()).unwrap();
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}

#[test]
fn who_is_started_anew_comes_back_with_key_and_ticket_and_with_a_later_run_whatever_the_clock_says() {
    let first = Seat::joined(&[]);
    let mut kept = first.kept().unwrap();
    assert_eq!(kept.started_ms, run_of(first.joins()[0]));
    for (started_ms, expected) in
        [(kept.started_ms - 1000, kept.started_ms), (kept.started_ms + 1000, kept.started_ms + 1001)]
    {
        kept.started_ms = started_ms;
        let seat = Seat::started_with(Some(kept.clone()));
        let joins = seat.joins();
        assert_eq!(joins[0].public_key.user_id(), first.call.snapshot().self_id);
        assert_eq!(joins[0].ticket.as_deref(), Some("a-ticket"));
        assert_eq!(run_of(joins[0]), expected);
        assert_eq!(seat.kept().unwrap().started_ms, expected);
    }
}

#[test]
fn at_the_start_a_ticket_of_another_session_is_forgotten_with_its_key_and_during_a_call_alone() {
    let kept = Seat::joined(&[]).kept().unwrap();
    let mut seat = Seat::started_with(Some(kept.clone()));
    seat.refused(ErrorCode::TicketInvalid);
    let join = *seat.joins().last().unwrap();
    assert_eq!((seat.joins().len(), join.ticket.as_ref()), (2, None));
    assert_ne!(join.public_key.user_id(), kept.key.user_id(), "two sessions cannot be linked by a key");
    assert_eq!(join.public_key.user_id(), seat.call.snapshot().self_id);
    assert_eq!(seat.kept().unwrap().key.user_id(), join.public_key.user_id());
    seat.join(&[]);
    let own = seat.call.snapshot().self_id;
    seat.rejoins();
    seat.refused(ErrorCode::TicketInvalid);
    let join = *seat.joins().last().unwrap();
    assert_eq!((seat.joins().len(), join.ticket.as_ref(), join.public_key.user_id()), (4, None, own));
    seat.refused(ErrorCode::TicketInvalid);
    assert_eq!(seat.joins().len(), 4, "what cannot be is not asked without end");
}

#[test]
fn a_refused_proof_is_followed_by_one_more_connection() {
    let mut seat = Seat::new();
    let before = seat.connects();
    seat.refused(ErrorCode::KeyProofInvalid);
    seat.pass(Duration::from_secs(1));
    assert_eq!(seat.connects(), before + 1);
    seat.connected();
    seat.refused(ErrorCode::KeyProofInvalid);
    let end = EndCode::Refused(ErrorCode::KeyProofInvalid);
    assert!(matches!(seat.events().last(), Some(CallEvent::Ended { code, .. }) if *code == end));
}

#[test]
fn a_password_set_during_the_call_is_asked_for_in_the_call_which_goes_on() {
    let (mut seat, link) = Seat::connected_to(HIGH);
    seat.rejoins();
    seat.says(&ServerMessage::AuthRequired { hint: None });
    assert!(matches!(seat.events().last(), Some(CallEvent::PasswordNeeded { hint: None, wrong: false })));
    assert_eq!(seat.call.snapshot().signaling, SignalingState::PasswordNeeded);
    assert!(!seat.outputs.iter().any(|output| matches!(output, Output::CloseLink { .. })));
    // The relay closes a connection without a seat after a while, and the person takes their time.
    let connects = seat.connects();
    seat.input(Input::Disconnected { close_code: Some(4004), error: None });
    seat.pass(Duration::from_secs(5));
    seat.input(Input::MediaSeen { link });
    assert_eq!((seat.connects(), seat.call.snapshot().signaling), (connects, SignalingState::PasswordNeeded));
    let password = |text: &str| Input::SupplyPassword(Password::new(text).expect("a password"));
    seat.input(password("max"));
    seat.connected();
    seat.refused(ErrorCode::AuthFailed);
    assert_eq!(
        seat.joins().last().unwrap().password.as_ref().map(Password::expose),
        None,
        "asks for the hint"
    );
    seat.says(&ServerMessage::AuthRequired { hint: Some("the dog".into()) });
    assert!(matches!(seat.events().last(), Some(CallEvent::PasswordNeeded { hint: Some(_), wrong: true })));
    seat.input(password("rex"));
    assert_eq!(seat.joins().last().unwrap().password.as_ref().map(Password::expose), Some("rex"));
    seat.input(Input::MediaSeen { link });
    seat.join(&[HIGH]);
    let snapshot = seat.call.snapshot();
    assert_eq!((snapshot.signaling, snapshot.participants.len()), (SignalingState::Online, 1));
    assert!(!seat.outputs.iter().any(|output| matches!(output, Output::CloseLink { .. })));
}

#[test]
fn a_password_that_was_changed_during_the_call_is_asked_for_too() {
    let (mut seat, _) = Seat::connected_to(HIGH);
    seat.rejoins();
    seat.refused(ErrorCode::AuthFailed);
    seat.says(&ServerMessage::AuthRequired { hint: None });
    assert!(matches!(seat.events().last(), Some(CallEvent::PasswordNeeded { wrong: false, .. })));
    // A relay that knows neither room nor password and has no words for it.
    let (mut seat, _) = Seat::connected_to(HIGH);
    seat.rejoins();
    seat.refused(ErrorCode::AuthFailed);
    seat.refused(ErrorCode::AuthFailed);
    assert!(matches!(seat.events().last(), Some(CallEvent::PasswordNeeded { wrong: true, .. })));
}

/// What was last said of why there is no seat.
fn no_seat(seat: &Seat) -> Option<(NoSeatReason, String, bool)> {
    let said = seat.call.snapshot().no_seat?;
    let told = seat.events().into_iter().rev().find_map(|event| match event {
        CallEvent::NoSeat(told) => Some(told.clone()),
        _ => None,
    });
    assert_eq!(told, Some(said.clone()), "what the snapshot shows was told");
    Some((said.reason, said.message, said.waits))
}

#[test]
fn a_rejoin_that_may_work_later_is_told_in_words_and_tried_again() {
    let later = [
        ErrorCode::RoomLocked,
        ErrorCode::RateLimited,
        ErrorCode::ServerBusy,
        ErrorCode::Draining,
        ErrorCode::LobbyFull,
        ErrorCode::StorageFull,
        ErrorCode::StorageUnavailable,
        ErrorCode::TooManyRooms,
    ];
    for code in later {
        let (mut seat, link) = Seat::connected_to(HIGH);
        seat.rejoins();
        seat.refused(code);
        let (reason, message, waits) = no_seat(&seat).unwrap();
        assert_eq!((reason, waits), (NoSeatReason::Refused(code), true));
        assert!(message.contains(' '), "{message}");
        let joins = seat.joins().len();
        seat.input(Input::MediaSeen { link });
        seat.pass(Duration::from_millis(4_100));
        assert_eq!(seat.joins().len(), joins + 1, "{code:?}");
        seat.join(&[HIGH]);
        assert_eq!(seat.call.snapshot().no_seat, None);
    }
    let (mut seat, _) = Seat::connected_to(HIGH);
    seat.rejoins();
    seat.says(&ServerMessage::RoomFull { max_participants: 2, retry_after_ms: None });
    assert!(matches!(no_seat(&seat), Some((NoSeatReason::RoomFull, _, true))));
}

#[test]
fn a_refusal_that_repeats_is_told_once() {
    let (mut seat, _) = Seat::connected_to(HIGH);
    seat.rejoins();
    for _ in 0..4 {
        seat.refused(ErrorCode::RoomLocked);
        seat.pass(Duration::from_millis(4_100));
    }
    let told = seat.events().iter().filter(|event| matches!(event, CallEvent::NoSeat(_))).count();
    assert_eq!(told, 1);
}

#[test]
fn who_waits_in_the_lobby_is_told_so_and_is_let_in_or_not() {
    let mut seat = Seat::new();
    seat.says(&ServerMessage::Waiting {});
    assert!(
        matches!(no_seat(&seat), Some((NoSeatReason::Lobby, message, true)) if message.contains("let you in"))
    );
    seat.pass(Duration::from_secs(300));
    assert_eq!(seat.call.snapshot().signaling, SignalingState::Waiting, "for as long as it takes");
    seat.join(&[HIGH]);
    assert_eq!(seat.call.snapshot().signaling, SignalingState::Online);

    let mut seat = Seat::new();
    seat.says(&ServerMessage::Waiting {});
    seat.input(Input::Disconnected { close_code: None, error: None });
    seat.pass(Duration::from_secs(1));
    seat.connected();
    assert_eq!(seat.joins().len(), 2, "whoever lost the connection knocks again");
    seat.says(&ServerMessage::Waiting {});
    seat.refused(ErrorCode::NotAdmitted);
    let end = EndCode::Refused(ErrorCode::NotAdmitted);
    assert!(matches!(seat.events().last(), Some(CallEvent::Ended { code, .. }) if *code == end));
}

/// The last request that failed, and with what words.
fn failed(seat: &Seat) -> Option<(RequestKind, String)> {
    seat.events().into_iter().rev().find_map(|event| match event {
        CallEvent::RequestFailed { request, message, .. } => Some((*request, message.clone())),
        _ => None,
    })
}

#[test]
fn what_a_relay_or_somebodys_program_cannot_do_is_not_asked_of_it_and_told_in_words() {
    let requests = [
        OwnerRequest::Unban,
        OwnerRequest::AskMute(HIGH),
        OwnerRequest::Admit { user: HIGH, admitted: true },
        OwnerRequest::OfferOwnership(HIGH),
        OwnerRequest::NewLink,
        OwnerRequest::EndCall,
    ];
    for request in requests {
        let mut seat = Seat::not_connected(None);
        seat.relay_can = &[];
        seat.connected();
        seat.join(&[HIGH]);
        let sent = seat.sent.len();
        seat.input(Input::Owner(request));
        assert_eq!(seat.sent.len(), sent);
        let (kind, message) = failed(&seat).unwrap();
        assert!(message.contains("operator"), "{kind:?}: {message}");
    }
    let mut seat = Seat::joined(&[LOW]);
    for request in [OwnerRequest::AskMute(LOW), OwnerRequest::OfferOwnership(LOW)] {
        seat.input(Input::Owner(request));
        assert!(failed(&seat).is_some_and(|(_, message)| message.contains("Ben")), "{:?}", failed(&seat));
    }
    let mut seat = Seat::not_connected(None);
    seat.relay_can = &[];
    seat.connected();
    seat.join(&[]);
    seat.input(Input::SetMedia(Media { recording: true, ..Media::default() }));
    assert!(
        !seat.sent.iter().any(|request| matches!(request.message, ClientMessage::ToggleRecording { .. }))
    );
    let mut seat = Seat::joined(&[]);
    seat.input(Input::SetMedia(Media { recording: true, ..Media::default() }));
    assert!(
        seat.sent
            .iter()
            .any(|request| matches!(request.message, ClientMessage::ToggleRecording { enabled: true }))
    );
}

#[test]
fn a_request_that_is_answered_only_when_it_is_refused_does_not_fail_by_silence() {
    let mut seat = Seat::joined(&[HIGH]);
    seat.input(Input::Owner(OwnerRequest::AskMute(HIGH)));
    assert!(matches!(seat.sent.last().unwrap().message, ClientMessage::AskMute { target_id: HIGH }));
    seat.pass(Duration::from_secs(15));
    assert_eq!(failed(&seat), None);
    seat.input(Input::Owner(OwnerRequest::Admit { user: LOW, admitted: true }));
    let error = ServerMessage::error(ErrorCode::UnknownTarget, seat.request_id());
    seat.says(&error);
    assert!(matches!(failed(&seat), Some((RequestKind::Admit, _))));
}

#[test]
fn whoever_waits_in_the_lobby_is_shown_until_somebody_decides() {
    let mut seat = Seat::joined(&[]);
    let key = SigningIdentity::from_bytes(&[5; 32]).unwrap();
    let mut sealer =
        Sealer::new(None, "sunny-mountain-42".parse().unwrap(), key.clone(), Run::new(1, [0; 8]));
    let display_name = sealer.seal(Kind::Name, None, r#"{"name":"Chidi"}"#);
    let (user_id, public_key) = (key.user_id(), key.public_key().clone());
    seat.numbered(&ServerMessage::Knock { user_id, public_key, display_name });
    let knocks = |seat: &Seat| -> Vec<String> {
        seat.call.snapshot().knocks.into_iter().map(|knock| knock.name).collect()
    };
    assert_eq!(knocks(&seat), ["Chidi"]);
    assert!(matches!(seat.events().last(), Some(CallEvent::Knock(knock)) if knock.user == user_id));
    seat.input(Input::Owner(OwnerRequest::Admit { user: user_id, admitted: true }));
    let admitted = ClientMessage::Admit { target_id: user_id, admitted: true };
    assert_eq!(format!("{:?}", seat.sent.last().unwrap().message), format!("{admitted:?}"));
    seat.numbered(&ServerMessage::KnockGone { user_id });
    assert!(knocks(&seat).is_empty());
    // A relay cannot fill the list.
    for byte in 10..60 {
        let key = SigningIdentity::from_bytes(&[byte; 32]).unwrap();
        let (user_id, public_key) = (key.user_id(), key.public_key().clone());
        seat.numbered(&ServerMessage::Knock { user_id, public_key, display_name: plain("no name") });
    }
    assert_eq!(knocks(&seat).len(), 16);
}

#[test]
fn an_owner_who_asks_to_be_quiet_is_told_to_the_shell() {
    let mut seat = Seat::joined(&[HIGH]);
    seat.numbered(&ServerMessage::MuteRequested { from_id: HIGH });
    assert!(matches!(seat.events().last(), Some(CallEvent::MuteRequested(HIGH))));
}

/// The owner's tokens that the shell was told to keep.
fn tokens(seat: &Seat) -> Vec<Token> {
    let of = |event: &&CallEvent| match event {
        CallEvent::OwnerToken(token) => Some(token.clone()),
        _ => None,
    };
    seat.events().iter().filter_map(of).collect()
}

fn same(one: &Token, other: &Token) -> bool {
    one.matches(&other.digest())
}

#[test]
fn a_creator_whose_connection_breaks_comes_back_with_the_token_it_drew() {
    let mut seat = Seat::new();
    let drawn = seat.joins()[0].owner_token.clone().unwrap();
    assert!(tokens(&seat).is_empty(), "nothing is confirmed");
    assert!(same(seat.kept().unwrap().owner_token.as_ref().unwrap(), &drawn));
    seat.reconnect();
    assert!(same(seat.joins()[1].owner_token.as_ref().unwrap(), &drawn));
    // Even the program may be started again in between.
    let again = Seat::started_with(seat.kept());
    assert!(same(again.joins()[0].owner_token.as_ref().unwrap(), &drawn));
    seat.join(&[]);
    assert!(matches!(&tokens(&seat)[..], [token] if same(token, &drawn)));
    assert!(seat.kept().unwrap().owner_token.is_none(), "it is the person's now");
}

#[test]
fn a_token_that_was_drawn_for_a_room_that_there_was_is_thrown_away() {
    let mut seat = Seat::new();
    seat.is_owner = false;
    seat.join(&[HIGH]);
    assert!(tokens(&seat).is_empty() && seat.kept().unwrap().owner_token.is_none());
    assert!(!seat.events().iter().any(|event| matches!(event, CallEvent::OwnerTokenRefused)));
    seat.rejoins();
    assert!(seat.joins().last().unwrap().owner_token.is_none());
}

#[test]
fn a_wrong_token_of_a_link_is_told_and_never_kept() {
    let mut seat = Seat::of_link(None, Some(Token::from_bytes([4; 32])));
    seat.connected();
    seat.is_owner = false;
    seat.join(&[HIGH]);
    assert!(tokens(&seat).is_empty());
    assert!(seat.events().iter().any(|event| matches!(event, CallEvent::OwnerTokenRefused)));
}

#[test]
fn ownership_that_the_owner_offers_is_taken_with_a_token_of_our_own() {
    let offered = |owner: bool| {
        let mut seat = Seat::new();
        seat.is_owner = false;
        seat.owner = owner.then_some(HIGH);
        seat.join(&[HIGH]);
        seat.numbered(&ServerMessage::OwnershipOffered { from_id: HIGH });
        seat
    };
    let taken = |seat: &Seat| match &seat.sent.last().unwrap().message {
        ClientMessage::TakeOwnership { owner_token } => Some(owner_token.clone()),
        _ => None,
    };
    assert!(taken(&offered(false)).is_none(), "only the owner can give it");
    let mut seat = offered(true);
    let token = taken(&seat).unwrap();
    assert!(same(seat.kept().unwrap().owner_token.as_ref().unwrap(), &token), "kept before the relay has it");
    assert!(tokens(&seat).is_empty());
    let own = seat.call.snapshot().self_id;
    seat.numbered(&ServerMessage::OwnerChanged { user_id: own });
    let request_id = seat.request_id();
    seat.says(&ServerMessage::Done { request_id });
    assert!(matches!(&tokens(&seat)[..], [kept] if same(kept, &token)));
    let snapshot = seat.call.snapshot();
    assert!(snapshot.is_owner && !snapshot.participants[0].owner);
    seat.numbered(&ServerMessage::OwnerChanged { user_id: HIGH });
    let snapshot = seat.call.snapshot();
    assert!(!snapshot.is_owner && snapshot.participants[0].owner);
    seat.rejoins();
    assert!(seat.joins().last().unwrap().owner_token.is_none(), "the token is dead");
}

#[test]
fn a_relay_of_another_version_is_told_with_who_has_to_update_what() {
    let words = |seat: &Seat| match seat.events().last() {
        Some(CallEvent::Ended { code: EndCode::Refused(ErrorCode::VersionUnsupported), message }) => {
            message.clone()
        }
        other => panic!("{other:?}"),
    };
    let mut seat = Seat::not_connected(None);
    seat.input(Input::Connected);
    seat.refused(ErrorCode::VersionUnsupported);
    assert!(words(&seat).contains("operator"), "a relay of version 1 says no welcome: {}", words(&seat));
    for (versions, word) in [(&[1][..], "operator"), (&[3, 4], "Update the app"), (&[], "operator")] {
        let mut seat = Seat::not_connected(None);
        seat.input(Input::Connected);
        seat.welcome(versions);
        assert!(words(&seat).contains(word), "{versions:?}: {}", words(&seat));
    }
}

#[test]
fn new_credentials_reach_every_open_link_and_are_asked_for_after_a_long_absence() {
    let (mut seat, link) = Seat::connected_to(HIGH);
    let server = IceServer { urls: vec!["turn:relay:3478".into()], username: None, credential: None };
    seat.numbered(&ServerMessage::TurnCredentials { ice_servers: vec![server], ice_ttl_seconds: 60 });
    let told = |output: &Output| matches!(output, Output::SetIceServers { link: of, ice_servers } if *of == link && ice_servers.len() == 1);
    assert!(seat.outputs.iter().any(told));
    // Three quarters of their life are over when the seat is resumed.
    seat.input(Input::Disconnected { close_code: None, error: None });
    seat.now.at += Duration::from_secs(46);
    seat.pass(Duration::from_millis(10));
    seat.connected();
    seat.says(&ServerMessage::Resumed { resume_token: Token::from_bytes([8; 32]), replayed: 0 });
    assert!(seat.sent.iter().any(|request| matches!(request.message, ClientMessage::TurnCredentials {})));
}

#[test]
fn a_machine_that_slept_doubts_its_connection_and_its_silent_links() {
    let (mut seat, link) = Seat::connected_to(HIGH);
    let pings = seat.pings();
    seat.now.at += Duration::from_secs(20);
    seat.call.handle_timeout(seat.now);
    seat.drain();
    assert!(seat.pings() > pings, "the relay is asked at once");
    let (kind, of, _, rollback) = *seat.jobs().last().unwrap();
    assert_eq!(
        (kind, of, rollback),
        ("offer", link, false),
        "and the link that was silent all the time looks for a path"
    );
    // The relay does not answer: another connection is opened after a second at the latest.
    let connects =
        |seat: &Seat| seat.outputs.iter().filter(|output| matches!(output, Output::Connect)).count();
    let before = connects(&seat);
    seat.now.at += Duration::from_millis(1100);
    seat.call.handle_timeout(seat.now);
    seat.drain();
    assert_eq!(connects(&seat), before + 1);
}

#[test]
fn of_two_fresh_offers_that_cross_the_polite_side_takes_theirs() {
    let mut seat = Seat::joined(&[HIGH]);
    let ours = seat.describe();
    seat.their_offer(HIGH, "AAAAAAAAAAA", false);
    let (kind, link, _, rollback) = *seat.jobs().last().unwrap();
    assert_eq!(kind, "answer");
    assert_ne!(link, ours, "their session has a connection of its own, so there is nothing to roll back");
    assert!(!rollback);
    let closed = |output: &Output| matches!(output, Output::CloseLink { link } if *link == ours);
    assert!(seat.outputs.iter().any(closed));
}

#[test]
fn of_two_fresh_offers_that_cross_the_impolite_side_goes_on_with_its_own() {
    let mut seat = Seat::joined(&[LOW]);
    let ours = seat.describe();
    let session = seat.session();
    let jobs = seat.jobs().len();
    seat.their_offer(LOW, "AAAAAAAAAAA", false);
    assert_eq!(seat.jobs().len(), jobs);
    seat.their_answer(LOW, &session);
    let accepted = |output: &Output| matches!(output, Output::AcceptAnswer { link, .. } if *link == ours);
    assert!(seat.outputs.iter().any(accepted));
}

#[test]
fn of_two_restarts_of_one_session_that_cross_the_polite_side_rolls_its_own_back() {
    for (user, rolls_back) in [(HIGH, true), (LOW, false)] {
        let (mut seat, link) = Seat::connected_to(user);
        let session = seat.session();
        seat.pass(Duration::from_millis(1200));
        seat.input(Input::MediaSeen { link });
        seat.input(Input::NetworkChanged);
        seat.describe();
        let jobs = seat.jobs().len();
        seat.their_offer(user, &session, true);
        if rolls_back {
            let (kind, of, _, rollback) = *seat.jobs().last().unwrap();
            assert_eq!((kind, of, rollback), ("answer", link, true));
        } else {
            assert_eq!(seat.jobs().len(), jobs, "it waits for the answer to its own");
        }
    }
}

#[test]
fn an_unanswered_offer_of_a_dead_link_is_followed_by_one_of_another_session() {
    let (mut seat, link) = Seat::connected_to(HIGH);
    let first = seat.session();
    seat.pass(Duration::from_millis(2500));
    seat.describe();
    assert_eq!(seat.session(), first, "the first try restarts what there is");
    seat.pass(Duration::from_secs(6));
    let (_, of, _, rollback) = *seat.jobs().last().unwrap();
    assert!(of != link && !rollback);
    seat.describe();
    assert_ne!(seat.session(), first, "so that a late answer to the first try fits nothing");
    let answers = |seat: &Seat| {
        seat.outputs.iter().filter(|output| matches!(output, Output::AcceptAnswer { .. })).count()
    };
    let before = answers(&seat);
    seat.their_answer(HIGH, &first);
    assert_eq!(answers(&seat), before);
}

#[test]
fn close_codes_of_a_removal_and_of_a_newer_connection_end_the_call() {
    for (close_code, expected) in
        [(4001, EndCode::Kicked), (4002, EndCode::Replaced), (4006, EndCode::CallEnded)]
    {
        let (mut seat, link) = Seat::connected_to(HIGH);
        seat.input(Input::Disconnected { close_code: Some(close_code), error: None });
        assert!(matches!(seat.events().last(), Some(CallEvent::Ended { code, .. }) if *code == expected));
        assert!(
            seat.outputs.iter().any(|output| matches!(output, Output::CloseLink { link: of } if *of == link))
        );
        assert_eq!(seat.call.poll_timeout(), None, "it does not come back by itself");
    }
}

#[test]
fn a_relay_that_will_not_have_us_back_is_left_alone_while_links_live_until_somebody_asks_again() {
    for code in [ErrorCode::NotAdmitted, ErrorCode::LinkIncomplete, ErrorCode::VersionUnsupported] {
        let (mut seat, link) = Seat::connected_to(HIGH);
        seat.rejoins();
        seat.refused(code);
        assert_eq!(seat.call.snapshot().signaling, SignalingState::Refused);
        assert!(
            matches!(no_seat(&seat), Some((NoSeatReason::Refused(of), message, false)) if of == code && message.contains(' '))
        );
        let before = seat.connects();
        seat.input(Input::MediaSeen { link });
        seat.input(Input::NetworkChanged);
        seat.pass(Duration::from_secs(1));
        assert_eq!(seat.connects(), before);
        assert_eq!(seat.call.snapshot().participants.len(), 1);
        seat.input(Input::RetryNow);
        assert_eq!(seat.connects(), before + 1);
        seat.connected();
        seat.refused(code);
        seat.input(Input::LinkStateChanged { link, state: IceState::Failed });
        seat.pass(Duration::from_secs(1));
        assert!(
            matches!(seat.events().last(), Some(CallEvent::Ended { code: EndCode::Refused(of), .. }) if *of == code)
        );
    }
}

#[test]
fn who_says_nothing_for_half_a_minute_is_gone_though_the_relay_believes_them_there() {
    let (mut seat, _) = Seat::connected_to(HIGH);
    seat.pass(Duration::from_millis(28_500));
    assert_eq!(seat.call.snapshot().participants.len(), 1);
    seat.pass(Duration::from_millis(1_500));
    assert!(seat.call.snapshot().participants.is_empty());
    // Whoever speaks is there again.
    seat.their_offer(HIGH, "AAAAAAAAAAA", false);
    assert_eq!(seat.call.snapshot().participants.len(), 1);
    assert!(
        seat.events()
            .iter()
            .any(|event| matches!(event, CallEvent::ParticipantJoined { user, .. } if *user == HIGH))
    );
}

#[test]
fn a_relay_that_sends_everybody_away_at_once_is_asked_more_and_more_seldom() {
    let mut seat = Seat::joined(&[]);
    let connects =
        |seat: &Seat| seat.outputs.iter().filter(|output| matches!(output, Output::Connect)).count();
    let before = connects(&seat);
    for _ in 0..600 {
        if connects(&seat) > before {
            // Every connection opens at once, and ends with the next drain.
            seat.connected();
        }
        seat.says(&ServerMessage::Drain { reconnect_after_ms: 0 });
        seat.pass(Duration::from_millis(100));
    }
    let made = connects(&seat) - before;
    assert!((12..=36).contains(&made), "{made} connections in a minute");
    seat.pass(Duration::from_secs(4));
    seat.connected();
    seat.says(&ServerMessage::Resumed { resume_token: Token::from_bytes([8; 32]), replayed: 0 });
    assert_eq!(seat.call.snapshot().signaling, SignalingState::Online);
}

/// How a relay breaks as soon as it has given a seat.
#[derive(Clone, Copy, Debug)]
enum Breaks {
    /// It closes the connection.
    Closes,
    /// It sends everybody away at once, and closes or does not.
    Drains { closes: bool },
    /// It leaves a message out.
    Skips,
    /// It refuses the seat and asks for no wait.
    Refuses,
    /// It forgets the seat, and the join that follows as well.
    Forgets,
    /// It has no place, and promises one at once, to somebody without a seat.
    Full,
}

impl Breaks {
    /// What happens to somebody who had a seat.
    const ALL: [Self; 6] = [
        Self::Closes,
        Self::Drains { closes: true },
        Self::Drains { closes: false },
        Self::Skips,
        Self::Refuses,
        Self::Forgets,
    ];

    /// Answers what the seat asks for, and breaks.
    fn answer(self, seat: &mut Seat, resumes: bool) {
        match self {
            Self::Refuses => {
                return seat.says(&ServerMessage::Error {
                    code: ErrorCode::ServerBusy,
                    message: "Busy.".into(),
                    request_id: None,
                    retry_after_ms: Some(0),
                });
            }
            Self::Full => {
                return seat.says(&ServerMessage::RoomFull { max_participants: 2, retry_after_ms: Some(0) });
            }
            Self::Forgets => return seat.says(&ServerMessage::error(ErrorCode::ResumeFailed, None)),
            _ if resumes => {
                seat.says(&ServerMessage::Resumed { resume_token: Token::from_bytes([8; 32]), replayed: 0 });
            }
            _ => seat.join(&[]),
        }
        match self {
            Self::Skips => {
                seat.seq += 7;
                seat.numbered(&ServerMessage::UserAway { user_id: HIGH });
            }
            Self::Drains { .. } => seat.says(&ServerMessage::Drain { reconnect_after_ms: 0 }),
            _ => {}
        }
        if matches!(self, Self::Closes | Self::Drains { closes: true }) {
            seat.input(Input::Disconnected { close_code: None, error: None });
        }
    }
}

/// Lets a relay that opens at once and answers at once break again and again; answers with when it was asked.
fn asked_by(seat: &mut Seat, breaks: Breaks, resumes: bool, time: Duration) -> Vec<Instant> {
    let (mut asked, mut opened) = (Vec::new(), 0);
    let end = seat.now.at + time;
    let mut answered = seat.sent.len();
    while seat.now.at < end {
        let connects = seat.outputs.iter().filter(|output| matches!(output, Output::Connect)).count();
        if std::mem::replace(&mut opened, connects) < connects && opened > 1 {
            seat.connected();
        }
        let asks = |request: &&Request| {
            matches!(request.message, ClientMessage::JoinRoom(_) | ClientMessage::Resume { .. })
        };
        while seat.sent.len() > answered {
            let questions = seat.sent[answered..].iter().filter(asks).count();
            answered = seat.sent.len();
            for _ in 0..questions {
                asked.push(seat.now.at);
                breaks.answer(seat, resumes);
                assert!(asked.len() < 1000, "{breaks:?}: asked without end");
            }
        }
        seat.pass(Duration::from_millis(10));
    }
    // A resume that is refused is followed by a join at once, which is one question in two steps.
    let steps = asked.len();
    asked.dedup();
    assert!(steps <= 2 * asked.len(), "{breaks:?}: {steps} steps for {} questions", asked.len());
    asked
}

#[test]
fn a_relay_that_breaks_as_soon_as_it_has_given_a_seat_is_asked_more_and_more_seldom() {
    for breaks in Breaks::ALL {
        for resumes in [true, false] {
            let mut seat = Seat::joined(&[]);
            seat.input(Input::Disconnected { close_code: None, error: None });
            let asked = asked_by(&mut seat, breaks, resumes, Duration::from_secs(60));
            let told = format!("{breaks:?}, resumes: {resumes}, asked {} times in a minute", asked.len());
            assert!((10..=40).contains(&asked.len()), "{told}");
            let waits: Vec<Duration> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let late = waits.iter().rev().take(6);
            assert!(
                late.clone().all(|wait| *wait <= Duration::from_millis(4_100)),
                "{told}: bounded, {waits:?}"
            );
            assert!(late.clone().all(|wait| *wait >= Duration::from_secs(2)), "{told}: {waits:?}");
            assert!(late.clone().min() != late.max(), "{told}: spread, {waits:?}");
        }
    }
}

#[test]
fn a_full_room_that_promises_a_place_at_once_is_asked_more_and_more_seldom() {
    let mut seat = Seat::new();
    Breaks::Full.answer(&mut seat, false);
    let asked = asked_by(&mut seat, Breaks::Full, false, Duration::from_secs(60));
    let told = format!("asked {} times in a minute", asked.len());
    assert!((10..=40).contains(&asked.len()), "{told}");
    let waits: Vec<Duration> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[waits.len() - 6..].iter().all(|wait| *wait >= Duration::from_secs(2)), "{told}: {waits:?}");
}

#[test]
fn the_wait_is_short_again_once_a_seat_was_held_for_a_while() {
    let wait = |held: Duration| {
        let mut seat = Seat::joined(&[]);
        seat.input(Input::Disconnected { close_code: None, error: None });
        asked_by(&mut seat, Breaks::Closes, true, Duration::from_secs(30));
        let connects =
            |seat: &Seat| seat.outputs.iter().filter(|output| matches!(output, Output::Connect)).count();
        let again = |seat: &mut Seat| {
            let (before, lost) = (connects(seat), seat.now.at);
            while connects(seat) == before {
                seat.pass(Duration::from_millis(10));
            }
            seat.now.at - lost
        };
        again(&mut seat);
        seat.connected();
        seat.says(&ServerMessage::Resumed { resume_token: Token::from_bytes([8; 32]), replayed: 0 });
        seat.pass(held);
        // Whatever the shell does first: a timer that is due, or the loss.
        seat.now.at += Duration::from_millis(100);
        seat.input(Input::Disconnected { close_code: None, error: None });
        again(&mut seat)
    };
    assert!(wait(Duration::from_secs(2)) >= Duration::from_secs(2), "two seconds are not a while");
    assert!(wait(Duration::from_millis(9_950)) <= Duration::from_millis(260));
    assert!(wait(Duration::from_secs(60)) <= Duration::from_millis(260));
}
