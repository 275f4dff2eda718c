//! Every message and the sealing scheme against the golden files, which other languages' tests read too.
//! `UPDATE_GOLDEN=1 cargo test -p snug-wire` writes them anew.

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use snug_wire::link::RoomSecret;
use snug_wire::message::{Forward, Forwarded, JoinRoom, Received, RoomJoined};
use snug_wire::seal::{Kind, SealError, Sealer};
use snug_wire::{
    ClientMessage, ErrorCode, IceServer, LeaveReason, Media, Participant, Password, Payload, Request, RoomId,
    RoomInfo, ServerFrame, ServerMessage, Token, UserId,
};

const ANA: UserId = UserId::from_bytes([0xa1; 16]);
const BO: UserId = UserId::from_bytes([0xb2; 16]);

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
    Payload::Plain(r#"{"name":"Ana"}"#.into())
}

fn media() -> Media {
    Media { audio: true, video: true, screen: false, hand: false }
}

fn client_messages() -> Vec<ClientMessage> {
    let forward = || Forward { target_id: BO, payload: sealed() };
    vec![
        ClientMessage::Hello { versions: vec![1], agent: Some("snug-web/0.1.0".into()) },
        ClientMessage::JoinRoom(JoinRoom {
            room_id: room(),
            user_id: ANA,
            display_name: sealed(),
            password: Some(Password::new("correct horse").expect("a password")),
            link_proof: Some(secret().link_proof(&room())),
            owner_token: Some(Token::from_bytes([7; 32])),
            resume_token: None,
            creation_key: None,
            media: media(),
        }),
        ClientMessage::JoinRoom(JoinRoom {
            room_id: room(),
            user_id: ANA,
            display_name: plain_name(),
            password: None,
            link_proof: None,
            owner_token: None,
            resume_token: None,
            creation_key: Some("open sesame".parse().expect("a key")),
            media: Media::default(),
        }),
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
        ClientMessage::SetRoomPassword {
            password: Password::new("correct horse").expect("a password"),
            hint: Some("battery …".into()),
        },
        ClientMessage::ClearRoomPassword {},
        ClientMessage::LockRoom { locked: true },
        ClientMessage::Kick { target_id: BO },
        ClientMessage::UpdateSettings { max_participants: Some(5), allow_screen_share: Some(false) },
        ClientMessage::RotateOwnerToken {},
        ClientMessage::GetStats {},
        ClientMessage::TurnCredentials {},
        ClientMessage::Ping { last_seq: Some(41) },
    ]
}

fn server_messages() -> Vec<ServerMessage> {
    let participant =
        || Participant { user_id: BO, display_name: sealed(), media: media(), away: false, owner: true };
    let room_info = || RoomInfo {
        max_participants: 10,
        allow_screen_share: true,
        password_enabled: true,
        locked: false,
        sealed: true,
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
        ServerMessage::Welcome { version: 1, relay: "snug-relay/0.1.0".into(), heartbeat_seconds: 15 },
        ServerMessage::RoomJoined(Box::new(RoomJoined {
            room_id: room(),
            user_id: ANA,
            resume_token: Token::from_bytes([8; 32]),
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
        ServerMessage::RoomUpdated { room_info: room_info() },
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

/// Kind, sender, receiver (`None`: the room) and text of each vector.
fn sealing_cases() -> Vec<(Kind, UserId, Option<UserId>, &'static str)> {
    vec![
        (Kind::Name, ANA, None, r#"{"name":"Ana"}"#),
        (Kind::Offer, ANA, Some(BO), r#"{"sdp":"v=0\r\n","session":"AQIDBAUGBwg","restart":false}"#),
        (Kind::Answer, ANA, Some(BO), r#"{"sdp":"v=0\r\n","session":"AQIDBAUGBwg","restart":false}"#),
        (
            Kind::IceCandidate,
            ANA,
            Some(BO),
            r#"{"candidate":"candidate:1 1 udp 2122260223 192.0.2.1 54400 typ host","sdpMid":"0","sdpMLineIndex":0,"session":"AQIDBAUGBwg"}"#,
        ),
        (Kind::Chat, ANA, None, r#"{"id":"AQIDBAUGBwg","text":"héllo 👋","sentAt":1764000000000}"#),
        (Kind::Chat, ANA, None, ""),
    ]
}

fn sealed_text(payload: &Payload) -> &str {
    match payload {
        Payload::Sealed(text) => text,
        Payload::Plain(_) => panic!("a link with a secret seals"),
    }
}

#[test]
fn sealing_gives_the_golden_vectors() {
    let mut ana = Sealer::new(Some(secret()), room(), ANA);
    let mut vectors = Vec::new();
    let mut offer = None;
    for (counter, (kind, sender, receiver, text)) in (1..).zip(sealing_cases()) {
        let payload = ana.seal(kind, receiver, text);
        vectors.push(json!({
            "kind": kind.as_str(),
            "senderId": sender,
            "receiverId": receiver.map_or("*".to_owned(), |id| id.to_string()),
            "counter": counter,
            "plaintext": text,
            "sealed": sealed_text(&payload),
        }));
        if kind == Kind::Offer {
            offer = Some(sealed_text(&payload).to_owned());
        }
    }
    let offer = offer.expect("the cases have an offer");
    let mut flipped = BASE64URL_NOPAD.decode(offer.as_bytes()).expect("base64url");
    *flipped.last_mut().expect("not empty") ^= 1;
    let flipped = BASE64URL_NOPAD.encode(&flipped);
    let refused = |why: &str, kind: Kind, sender: UserId, receiver: UserId, sealed: &str| json!({"why": why, "kind": kind.as_str(), "senderId": sender, "receiverId": receiver, "sealed": sealed});
    let refusals = vec![
        refused("tampered", Kind::Offer, ANA, BO, &flipped),
        refused("tampered", Kind::Answer, ANA, BO, &offer),
        refused("tampered", Kind::Offer, UserId::from_bytes([0xc3; 16]), BO, &offer),
        refused("tampered", Kind::Offer, ANA, UserId::from_bytes([0xc3; 16]), &offer),
        refused("tampered", Kind::Offer, ANA, BO, "AAAA"),
        refused("tampered", Kind::Offer, ANA, BO, "not base64!"),
        refused("reflected", Kind::Offer, ANA, ANA, &offer),
    ];
    check_golden(
        "sealing.json",
        &json!({
            "secret": secret().to_string(),
            "roomId": room(),
            "linkProof": secret().link_proof(&room()),
            "vectors": vectors,
            "refused": refusals,
        }),
    );

    for refusal in refusals {
        let receiver = refusal["receiverId"].as_str().expect("text").parse().expect("an id");
        let sender = refusal["senderId"].as_str().expect("text").parse().expect("an id");
        let kind = if refusal["kind"] == "answer" { Kind::Answer } else { Kind::Offer };
        let why = if refusal["why"] == "reflected" { SealError::Reflected } else { SealError::Tampered };
        let payload = Payload::Sealed(refusal["sealed"].as_str().expect("text").into());
        let mut sealer = Sealer::new(Some(secret()), room(), receiver);
        assert_eq!(sealer.open(kind, sender, false, &payload), Err(why), "{refusal}");
    }
}
