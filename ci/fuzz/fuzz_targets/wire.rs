//! Bytes from anybody into every decoder of snug-wire: nothing panics, and what is accepted survives being written and read again.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use snug_wire::find_link::find_link;
use snug_wire::link::RoomSecret;
use snug_wire::message::Received;
use snug_wire::room_link::parse_link;
use snug_wire::safety::fingerprint;
use snug_wire::seal::{Kind, Run, Sealer};
use snug_wire::{
    JoinNonce, Password, Payload, PublicKey, Request, RoomId, ServerFrame, SigningIdentity, UserId, limits, text,
};

const KINDS: [Kind; 6] =
    [Kind::Name, Kind::Offer, Kind::Answer, Kind::IceCandidate, Kind::Chat, Kind::NewLink];

fuzz_target!(|data: &[u8]| {
    if let Ok(frame) = std::str::from_utf8(data) {
        from_client(frame);
        from_relay(frame);
        ids_and_text(frame);
        keys(frame);
        opening(frame);
        links_and_passwords(frame);
    }
    changed_on_the_way(data);
});

/// What a client sent. An accepted request reads the same after a round trip.
fn from_client(frame: &str) {
    if let Ok(request) = Request::decode(frame) {
        let written = request.encode();
        match Request::decode(&written) {
            Ok(again) => assert_eq!(again.encode(), written, "a request changes when it is read again"),
            Err((_, error)) => panic!("{written} was accepted once and then refused: {error}"),
        }
    }
}

/// What the relay sent, as a native client reads it.
fn from_relay(frame: &str) {
    if let Ok(received) = Received::decode(frame) {
        let written = ServerFrame::new(&received.message);
        let written = received.seq.map_or_else(|| written.encode(), |seq| written.with_seq(seq).encode());
        let again = Received::decode(&written).expect("what was accepted once is accepted again");
        assert_eq!(again.seq, received.seq);
        assert_eq!(ServerFrame::new(&again.message).encode(), ServerFrame::new(&received.message).encode());
    }
}

fn ids_and_text(frame: &str) {
    if let Ok(room) = frame.parse::<RoomId>() {
        assert_eq!(room.as_str().parse::<RoomId>().as_ref(), Ok(&room));
        assert!((limits::ROOM_ID_MIN..=limits::ROOM_ID_MAX).contains(&room.as_str().len()));
    }
    if let Ok(user) = frame.parse::<UserId>() {
        assert_eq!(user.to_string(), frame);
    }
    let clean = text::clean(frame, limits::NAME_CHARS);
    assert!(clean.chars().count() <= limits::NAME_CHARS);
    assert_eq!(text::clean(&clean, limits::NAME_CHARS), clean, "cleaning twice changes nothing");
}

/// A key, signature or nonce has one text; a fingerprint is found or not, and nothing invented proves a key.
fn keys(frame: &str) {
    if let Ok(key) = frame.parse::<PublicKey>() {
        assert_eq!(key.to_string(), frame);
    }
    if let Ok(nonce) = frame.parse::<JoinNonce>() {
        assert_eq!(nonce.to_string(), frame);
    }
    if let Ok(signature) = frame.parse::<snug_wire::identity::Signature>() {
        assert_eq!(signature.to_string(), frame);
        assert!(!identity(1).public_key().proves(&signature, &JoinNonce::from_bytes([8; 32]), &room()));
    }
    let _ = fingerprint(frame);
}

/// A text is found to have a link or is refused. What is found is found again when it is written plainly, and a link in a text of which
/// nothing but the surroundings are the fuzzer's never loses its secret.
fn links_and_passwords(text: &str) {
    if let Ok(link) = parse_link(text) {
        let secret = link.secret.as_ref().map(ToString::to_string);
        let owner = link.owner.as_ref().map(|owner| format!("owner={owner}"));
        let fragment: Vec<String> = secret.clone().into_iter().chain(owner).collect();
        let mark = if fragment.is_empty() { "" } else { "#" };
        let scheme = if link.target.tls { "https" } else { "http" };
        let written =
            format!("{scheme}://{}/room/{}{mark}{}", link.target.authority(), link.room, fragment.join("&"));
        let again = parse_link(&written).expect("what was found is a link");
        assert_eq!((again.target, again.room), (link.target, link.room), "{written}");
        assert_eq!(again.secret.as_ref().map(ToString::to_string), secret, "{written}");
    }
    let secret = RoomSecret::from_bytes([7; 16]);
    if let Ok(found) = find_link(&format!("https://h.example/room/abc#{secret} {text}")) {
        assert_eq!(found.secret.map(|found| found.to_string()), Some(secret.to_string()), "{text}");
    }
    if let Ok(password) = Password::new(text) {
        let again = Password::new(password.expose()).expect("a normal form is a password");
        assert_eq!(again.expose(), password.expose());
    }
}

fn room() -> RoomId {
    "sunny-mountain-42".parse().expect("a valid room id")
}

fn identity(own: u8) -> SigningIdentity {
    SigningIdentity::from_bytes(&[own; 32]).expect("a small number is a private key")
}

/// A participant that knows the other one of the two.
fn sealer(secret: Option<u8>, own: u8) -> Sealer {
    let secret = secret.map(|secret| RoomSecret::from_bytes([secret; 16]));
    let mut sealer = Sealer::new(secret, room(), identity(own), Run::new(1, [7; 8]));
    let other = identity(3 - own);
    sealer.introduce(other.user_id(), Some(other.public_key())).expect("its own key");
    sealer
}

/// An invented payload never opens. The secret is one under which nothing is ever sealed here: the fuzzer watches comparisons and would
/// find a genuine payload.
fn opening(frame: &str) {
    let sealed = Payload::Sealed(frame.to_owned());
    let unsigned = Payload::Plain { text: frame.to_owned(), proof: None };
    let forged = Payload::Plain { text: "{}".to_owned(), proof: Some(frame.to_owned()) };
    for payload in [unsigned, forged] {
        assert!(sealer(None, 1).open(Kind::Chat, identity(2).user_id(), true, &payload).is_err());
    }
    let payload = sealed;
    for kind in KINDS {
        for to_room in [false, true] {
            let sender = identity(2).user_id();
            assert!(sealer(Some(8), 1).open(kind, sender, to_room, &payload).is_err());
        }
    }
}

/// A genuine payload with some of its characters replaced opens only if it is still the same.
fn changed_on_the_way(data: &[u8]) {
    static GENUINE: OnceLock<String> = OnceLock::new();
    let genuine = GENUINE.get_or_init(|| {
        match sealer(Some(7), 2).seal(Kind::Offer, Some(identity(1).user_id()), r#"{"sdp":"v=0"}"#) {
            Payload::Sealed(text) => text,
            Payload::Plain { .. } => panic!("a sealer with a secret seals"),
        }
    });
    let mut changed = genuine.clone().into_bytes();
    for pair in data.chunks_exact(2).take(8) {
        let place = usize::from(pair[0]) % changed.len();
        changed[place] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[usize::from(pair[1] & 63)];
    }
    let changed = String::from_utf8(changed).expect("only letters were put in");
    let mut receiver = sealer(Some(7), 1);
    let sender = identity(2).user_id();
    let opened = receiver.open(Kind::Offer, sender, false, &Payload::Sealed(changed.clone()));
    assert_eq!(opened.is_ok(), changed == *genuine, "{changed}");
    if opened.is_ok() {
        assert!(
            receiver.open(Kind::Offer, sender, false, &Payload::Sealed(changed)).is_err(),
            "it opens only once"
        );
    }
}
