//! Every message and the sealing scheme against the golden files, which other languages' tests read too.
//! `UPDATE_GOLDEN=1 cargo test -p snug-wire` writes them anew.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use snug_wire::link::RoomSecret;
use snug_wire::message::{Forward, Forwarded, JoinRoom, Received, RoomJoined};
use snug_wire::safety::{SafetySide, commitment, fingerprint, word_indices};
use snug_wire::seal::{Kind, Run, SealError, Sealer};
use snug_wire::{
    Admission, ClientMessage, ErrorCode, IceServer, JoinNonce, LeaveReason, Media, Participant, Password,
    Payload, Request, RoomId, RoomInfo, ServerFrame, ServerMessage, SigningIdentity, Token, UserId,
};

const ANA: UserId = UserId::from_bytes([0xa1; 16]);
const BO: UserId = UserId::from_bytes([0xb2; 16]);

/// The signing identities of the vectors.
fn identity(byte: u8) -> SigningIdentity {
    SigningIdentity::from_bytes(&[byte; 32]).expect("a small number is a private key")
}

fn nonce() -> JoinNonce {
    JoinNonce::from_bytes([5; 32])
}

fn room() -> RoomId {
    "sunny-mountain-42".parse().expect("a valid slug")
}

fn secret() -> RoomSecret {
    RoomSecret::from_bytes(*b"sixteen bytes ok")
}

fn sealed() -> Payload {
    Payload::Sealed("AAAAAAAAAAEBAgMEBQYHCAkKCwwNDg8Q".into())
}

fn plain_name() -> Payload {
    Payload::Plain {
        text: r#"{"name":"Ana"}"#.into(),
        proof: Some("AAAAAAAAAAEBAgMEBQYHCAkKCwwNDg8Q".into()),
    }
}

fn media() -> Media {
    Media { audio: true, video: true, screen: false, hand: false, recording: false }
}

fn client_messages() -> Vec<ClientMessage> {
    let forward = || Forward { target_id: BO, payload: sealed() };
    vec![
        ClientMessage::Hello {
            versions: vec![2],
            capabilities: vec!["new_link".into()],
            agent: Some("snug-web/0.1.0".into()),
        },
        ClientMessage::JoinRoom(Box::new(JoinRoom {
            room_id: room(),
            public_key: identity(1).public_key().clone(),
            key_proof: identity(1).prove(&nonce(), &room()),
            display_name: sealed(),
            password: Some(Password::new("correct horse").expect("a password")),
            link_proof: Some(secret().link_proof(&room())),
            owner_token: Some(Token::from_bytes([7; 32])),
            ticket: Some("AAECAwQFBgcICQ".into()),
            creation_key: None,
            media: media(),
        })),
        ClientMessage::JoinRoom(Box::new(JoinRoom {
            room_id: room(),
            public_key: identity(1).public_key().clone(),
            key_proof: identity(1).prove(&nonce(), &room()),
            display_name: plain_name(),
            password: None,
            link_proof: None,
            owner_token: None,
            ticket: None,
            creation_key: Some("open sesame".parse().expect("a key")),
            media: Media::default(),
        })),
        ClientMessage::Resume {
            room_id: room(),
            user_id: ANA,
            resume_token: Token::from_bytes([8; 32]),
            last_seq: 41,
        },
        ClientMessage::LeaveRoom {},
        ClientMessage::Offer(forward()),
        ClientMessage::Answer(forward()),
        ClientMessage::IceCandidate(forward()),
        ClientMessage::ToggleAudio { enabled: false },
        ClientMessage::ToggleVideo { enabled: true },
        ClientMessage::ToggleScreen { enabled: true },
        ClientMessage::ToggleHand { enabled: true },
        ClientMessage::ToggleRecording { enabled: true },
        ClientMessage::SetName { display_name: sealed() },
        ClientMessage::SetRoomPassword {
            password: Password::new("correct horse").expect("a password"),
            hint: Some("battery …".into()),
        },
        ClientMessage::ClearRoomPassword {},
        ClientMessage::LockRoom { locked: true },
        ClientMessage::Kick { target_id: BO },
        ClientMessage::Unban {},
        ClientMessage::AskMute { target_id: BO },
        ClientMessage::Admit { target_id: BO, admitted: true },
        ClientMessage::OfferOwnership { target_id: BO },
        ClientMessage::TakeOwnership { owner_token: Token::from_bytes([7; 32]) },
        ClientMessage::NewLink { link_proof: secret().link_proof(&room()) },
        ClientMessage::EndCall {},
        ClientMessage::UpdateSettings {
            max_participants: Some(5),
            allow_screen_share: Some(false),
            lobby: Some(true),
            admission: Some(Admission::Anyone),
        },
        ClientMessage::RotateOwnerToken {},
        ClientMessage::GetStats {},
        ClientMessage::TurnCredentials {},
        ClientMessage::Ping { last_seq: Some(41) },
    ]
}

fn server_messages() -> Vec<ServerMessage> {
    let participant = || Participant {
        user_id: BO,
        public_key: Some(identity(2).public_key().clone()),
        former_id: Some(ANA),
        capabilities: vec!["new_link".into()],
        display_name: sealed(),
        media: media(),
        away: false,
        owner: true,
    };
    let room_info = || RoomInfo {
        max_participants: 10,
        allow_screen_share: true,
        password_enabled: true,
        locked: false,
        sealed: true,
        lobby: true,
        admission: Admission::Owner,
        removed: 1,
    };
    let ice_servers = || {
        vec![
            IceServer { urls: vec!["stun:call.example.org".into()], username: None, credential: None },
            IceServer {
                urls: vec!["turn:call.example.org?transport=udp".into()],
                username: Some("1764003600:sunny-mountain-42.oaGhoaGhoaGhoaGhoaGhoQ".into()),
                credential: Some("Zm9yIHRoZSBleGFtcGxl".into()),
            },
        ]
    };
    let forwarded = || Forwarded { from_id: BO, payload: sealed() };
    vec![
        ServerMessage::Welcome {
            versions: vec![2],
            capabilities: vec!["lobby".into()],
            relay: "snug-relay/0.1.0".into(),
            heartbeat_seconds: 15,
            nonce: nonce(),
        },
        ServerMessage::RoomJoined(Box::new(RoomJoined {
            room_id: room(),
            user_id: ANA,
            resume_token: Token::from_bytes([8; 32]),
            ticket: "AAECAwQFBgcICQ".into(),
            participants: vec![participant()],
            room_info: room_info(),
            is_owner: true,
            owner_token: Some(Token::from_bytes([7; 32])),
            ice_servers: ice_servers(),
            ice_ttl_seconds: 3600,
            seat_hold_seconds: 30,
        })),
        ServerMessage::Resumed { resume_token: Token::from_bytes([9; 32]), replayed: 2 },
        ServerMessage::UserJoined { participant: participant() },
        ServerMessage::UserAway { user_id: BO },
        ServerMessage::UserBack { user_id: BO },
        ServerMessage::UserLeft { user_id: BO, reason: LeaveReason::Timeout },
        ServerMessage::OfferReceived(forwarded()),
        ServerMessage::AnswerReceived(forwarded()),
        ServerMessage::IceCandidateReceived(forwarded()),
        ServerMessage::PeerState { user_id: BO, media: media() },
        ServerMessage::PeerName { user_id: BO, display_name: sealed() },
        ServerMessage::RoomUpdated { room_info: room_info() },
        ServerMessage::Waiting {},
        ServerMessage::Knock {
            user_id: BO,
            public_key: identity(2).public_key().clone(),
            display_name: sealed(),
        },
        ServerMessage::KnockGone { user_id: BO },
        ServerMessage::MuteRequested { from_id: BO },
        ServerMessage::OwnershipOffered { from_id: BO },
        ServerMessage::OwnerChanged { user_id: BO },
        ServerMessage::LinkChanged {},
        ServerMessage::CallEnded {},
        ServerMessage::OwnerToken { owner_token: Token::from_bytes([7; 32]), request_id: Some(3) },
        ServerMessage::RoomStats {
            created_at: "2026-11-23".into(),
            last_used: "2026-11-23".into(),
            total_sessions: 4,
            total_duration_seconds: 3600,
            request_id: Some(4),
        },
        ServerMessage::TurnCredentials { ice_servers: ice_servers(), ice_ttl_seconds: 3600 },
        ServerMessage::Done { request_id: Some(5) },
        ServerMessage::RoomFull { max_participants: 10, retry_after_ms: None },
        ServerMessage::RoomFull { max_participants: 2, retry_after_ms: Some(23_000) },
        ServerMessage::AuthRequired { hint: Some("battery …".into()) },
        ServerMessage::Kicked {},
        ServerMessage::Drain { reconnect_after_ms: 1234 },
        ServerMessage::Error {
            code: ErrorCode::RateLimited,
            message: ErrorCode::RateLimited.message().into(),
            request_id: Some(6),
            retry_after_ms: Some(2000),
        },
        ServerMessage::Pong {},
    ]
}

fn to_value(text: &str) -> Value {
    serde_json::from_str(text).expect("what was encoded parses")
}

fn check_golden(name: &str, actual: &Value) {
    let path = format!("{}/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = serde_json::to_string_pretty(actual).expect("a value serializes") + "\n";
        std::fs::write(&path, text).expect("golden/ is writable");
    }
    let golden = to_value(&std::fs::read_to_string(&path).expect("the golden file exists"));
    assert_eq!(&golden, actual, "{name} differs; UPDATE_GOLDEN=1 writes it anew if the change is meant");
}

#[test]
fn every_message_is_written_as_in_the_golden_file() {
    let client: Vec<Value> =
        client_messages().into_iter().map(|message| to_value(&Request::new(message).encode())).collect();
    let server: Vec<Value> =
        server_messages().iter().map(|message| to_value(&ServerFrame::new(message).encode())).collect();
    check_golden("messages.json", &json!({ "client": client, "server": server }));
}

#[test]
fn every_golden_message_reads_back_to_the_same_text() {
    for message in client_messages() {
        let request = Request { request_id: Some(9), message };
        let text = request.encode();
        let read = Request::decode(&text).unwrap_or_else(|(_, error)| panic!("{text}: {error}"));
        assert_eq!(to_value(&read.encode()), to_value(&text));
    }
    for (seq, message) in (1..).zip(server_messages()) {
        let frame = ServerFrame::new(&message).with_seq(seq);
        let read =
            Received::decode(&frame.encode()).unwrap_or_else(|error| panic!("{}: {error}", frame.encode()));
        assert_eq!(read.seq, Some(seq));
        assert_eq!(ServerFrame::new(&read.message).encode(), ServerFrame::new(&message).encode());
    }
}

/// Kind, receiver (`None`: the room) and text of each vector; Ana is the sender.
fn sealing_cases() -> Vec<(Kind, Option<UserId>, &'static str)> {
    let bo = Some(identity(2).user_id());
    vec![
        (Kind::Name, None, r#"{"name":"Ana"}"#),
        (Kind::Offer, bo, r#"{"sdp":"v=0\r\n","session":"AQIDBAUGBwg","restart":false}"#),
        (Kind::Answer, bo, r#"{"sdp":"v=0\r\n","session":"AQIDBAUGBwg","restart":false}"#),
        (
            Kind::IceCandidate,
            bo,
            r#"{"candidate":"candidate:1 1 udp 2122260223 192.0.2.1 54400 typ host","sdpMid":"0","sdpMLineIndex":0,"session":"AQIDBAUGBwg"}"#,
        ),
        (Kind::Chat, None, r#"{"id":"AQIDBAUGBwg","text":"héllo 👋","sentAt":1764000000000}"#),
        (Kind::Chat, None, ""),
    ]
}

fn run() -> Run {
    Run::new(1_764_000_000_000, [7; 8])
}

/// Who receives the vectors: it knows Ana, Bo and a third.
fn receiver(secret: Option<RoomSecret>, own: u8) -> Sealer {
    let mut sealer = Sealer::new(secret, room(), identity(own), run());
    for other in (1..=3).filter(|other| *other != own) {
        let other = identity(other);
        sealer.introduce(other.user_id(), Some(other.public_key())).expect("its own key");
    }
    sealer
}

/// A payload of the vectors: what a receiver is given, and what it answers.
fn vector(kind: Kind, from: UserId, to: Option<UserId>, payload: &Payload) -> Value {
    json!({
        "kind": kind.as_str(),
        "senderId": from,
        "receiverId": to.map_or("*".to_owned(), |id| id.to_string()),
        "payload": payload,
    })
}

fn with_last_byte_changed(payload: &Payload) -> Payload {
    let change = |text: &str| {
        let mut bytes = BASE64URL_NOPAD.decode(text.as_bytes()).expect("base64url");
        *bytes.last_mut().expect("not empty") ^= 1;
        BASE64URL_NOPAD.encode(&bytes)
    };
    match payload {
        Payload::Sealed(text) => Payload::Sealed(change(text)),
        Payload::Plain { text, proof } => {
            Payload::Plain { text: text.clone(), proof: proof.as_deref().map(change) }
        }
    }
}

fn why(problem: SealError) -> &'static str {
    match problem {
        SealError::NotSealed => "not_sealed",
        SealError::NoSecret => "no_secret",
        SealError::Reflected => "reflected",
        SealError::Tampered => "tampered",
        SealError::Replayed | SealError::EarlierRun => "replayed",
        SealError::NotSigned => "not_signed",
    }
}

#[test]
fn identities_and_sealing_give_the_golden_vectors() {
    let (ana, bo, third) = (identity(1).user_id(), identity(2).user_id(), identity(3).user_id());
    let identities: Vec<Value> = [1, 2, 3]
        .map(|byte| {
            json!({
                "privateKey": BASE64URL_NOPAD.encode(&*identity(byte).to_bytes()),
                "publicKey": identity(byte).public_key(),
                "userId": identity(byte).user_id(),
                "nonce": nonce(),
                "keyProof": identity(byte).prove(&nonce(), &room()),
            })
        })
        .to_vec();
    let mut rooms = Vec::new();
    for secret in [Some(secret()), None] {
        let mut sender = receiver(secret.clone(), 1);
        let mut sender_of_third = receiver(secret.clone(), 3);
        let mut vectors = Vec::new();
        let mut offer = None;
        for (counter, (kind, to, text)) in (1..).zip(sealing_cases()) {
            let payload = sender.seal(kind, to, text);
            let opened = receiver(secret.clone(), 2).open(kind, ana, to.is_none(), &payload);
            assert_eq!(opened.map(|opened| opened.text), Ok(text.to_owned()));
            let mut vector = vector(kind, ana, to, &payload);
            vector["counter"] = json!(counter);
            vector["plaintext"] = json!(text);
            vectors.push(vector);
            if kind == Kind::Offer {
                offer = Some(payload);
            }
        }
        let offer = offer.expect("the cases have an offer");
        let other_form = receiver(if secret.is_some() { None } else { Some(self::secret()) }, 1).seal(
            Kind::Offer,
            Some(bo),
            "{}",
        );
        let mut refused = vec![
            (Kind::Offer, ana, Some(bo), with_last_byte_changed(&offer)),
            (Kind::Answer, ana, Some(bo), offer.clone()),
            (Kind::Offer, third, Some(bo), offer.clone()),
            (Kind::Offer, ana, Some(third), offer.clone()),
            (Kind::Offer, ana, Some(bo), sender_of_third.seal(Kind::Offer, Some(bo), "{}")),
            (Kind::Offer, ana, Some(ana), offer.clone()),
            (Kind::Offer, ana, Some(bo), other_form),
        ];
        for garbage in ["AAAA", "not base64!"] {
            let garbage = garbage.to_owned();
            let payload = match &offer {
                Payload::Sealed(_) => Payload::Sealed(garbage),
                Payload::Plain { text, .. } => Payload::Plain { text: text.clone(), proof: Some(garbage) },
            };
            refused.push((Kind::Offer, ana, Some(bo), payload));
        }
        if let Payload::Plain { text, .. } = &offer {
            let unsigned = Payload::Plain { text: text.clone(), proof: None };
            refused.push((Kind::Offer, ana, Some(bo), unsigned));
        }
        let refused: Vec<Value> = refused
            .into_iter()
            .map(|(kind, from, to, payload)| {
                let own = [1, 2, 3].into_iter().find(|byte| Some(identity(*byte).user_id()) == to);
                let mut receiver = receiver(secret.clone(), own.expect("one of the three"));
                let problem = receiver.open(kind, from, false, &payload).expect_err("it must be refused");
                let mut vector = vector(kind, from, to, &payload);
                vector["why"] = json!(why(problem));
                vector
            })
            .collect();
        rooms.push(json!({
            "secret": secret.as_ref().map(ToString::to_string),
            "linkProof": secret.as_ref().map(|secret| secret.link_proof(&room())),
            "vectors": vectors,
            "refused": refused,
        }));
    }
    let sdp = |byte: u8| {
        let pairs = vec![format!("{byte:02X}"); 32].join(":");
        format!("v=0\r\na=fingerprint:sha-256 {pairs}\r\na=setup:actpass\r\n")
    };
    let side = |byte: u8| SafetySide {
        key: identity(byte).public_key().clone(),
        fingerprint: fingerprint(&sdp(byte)).expect("a fingerprint"),
        nonce: [byte; 16],
    };
    assert_eq!(word_indices(&side(1), &side(2)), word_indices(&side(2), &side(1)));
    let sides = [1, 2].map(|byte| {
        let nonce = BASE64URL_NOPAD.encode(&[byte; 16]);
        json!({ "publicKey": identity(byte).public_key(), "sdp": sdp(byte), "nonce": nonce })
    });
    let safety = json!({
        "session": "AQIDBAUGBwg",
        "sides": sides,
        "commitment": BASE64URL_NOPAD.encode(&commitment("AQIDBAUGBwg", &[1; 16])),
        "words": word_indices(&side(1), &side(2)),
    });
    check_golden(
        "sealing.json",
        &json!({
            "safety": safety,
            "roomId": room(),
            "run": { "startedMs": run().started_ms(), "random": BASE64URL_NOPAD.encode(&[7; 8]) },
            "identities": identities,
            "rooms": rooms,
        }),
    );
}
