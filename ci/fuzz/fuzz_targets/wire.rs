//! Bytes from anybody into every decoder of snug-wire: nothing panics, and what is accepted survives being written and read again.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use snug_wire::find_link::find_link;
use snug_wire::link::RoomSecret;
use snug_wire::message::Received;
use snug_wire::room_link::parse_link;
use snug_wire::seal::{Kind, Sealer};
use snug_wire::{Password, Payload, Request, RoomId, ServerFrame, UserId, limits, text};

const KINDS: [Kind; 5] = [Kind::Name, Kind::Offer, Kind::Answer, Kind::IceCandidate, Kind::Chat];

fuzz_target!(|data: &[u8]| {
    if let Ok(frame) = std::str::from_utf8(data) {
        from_client(frame);
        from_relay(frame);
        ids_and_text(frame);
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

fn sealer(secret: u8, own: u8) -> Sealer {
    Sealer::new(Some(RoomSecret::from_bytes([secret; 16])), room(), UserId::from_bytes([own; 16]))
}

/// An invented payload never opens. The secret is one under which nothing is ever sealed here: the fuzzer watches comparisons and would
/// find a genuine payload.
fn opening(frame: &str) {
    let payload = Payload::Sealed(frame.to_owned());
    for kind in KINDS {
        for to_room in [false, true] {
            assert!(sealer(8, 1).open(kind, UserId::from_bytes([2; 16]), to_room, &payload).is_err());
        }
    }
}

/// A genuine payload with some of its characters replaced opens only if it is still the same.
fn changed_on_the_way(data: &[u8]) {
    static GENUINE: OnceLock<String> = OnceLock::new();
    let genuine = GENUINE.get_or_init(|| {
        match sealer(7, 2).seal(Kind::Offer, Some(UserId::from_bytes([1; 16])), r#"{"sdp":"v=0"}"#) {
            Payload::Sealed(text) => text,
            Payload::Plain(_) => panic!("a sealer with a secret seals"),
        }
    });
    let mut changed = genuine.clone().into_bytes();
    for pair in data.chunks_exact(2).take(8) {
        let place = usize::from(pair[0]) % changed.len();
        changed[place] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[usize::from(pair[1] & 63)];
    }
    let changed = String::from_utf8(changed).expect("only letters were put in");
    let mut receiver = sealer(7, 1);
    let sender = UserId::from_bytes([2; 16]);
    let opened = receiver.open(Kind::Offer, sender, false, &Payload::Sealed(changed.clone()));
    assert_eq!(opened.is_ok(), changed == *genuine, "{changed}");
    if opened.is_ok() {
        assert!(
            receiver.open(Kind::Offer, sender, false, &Payload::Sealed(changed)).is_err(),
            "it opens only once"
        );
    }
}
