//! What people paste, against the golden file that JavaScript's test reads too.

use proptest::prelude::*;
use serde::Deserialize;
use snug_wire::find_link::find_link;
use snug_wire::link::RoomSecret;
use snug_wire::room_link::{FoundLink, LinkError};
use snug_wire::{RoomId, Token};

#[derive(Deserialize)]
struct Golden {
    secret: String,
    #[serde(rename = "ownerToken")]
    owner: String,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    text: String,
    found: Option<Found>,
    problem: Option<String>,
}

#[derive(Deserialize, PartialEq, Debug, Clone)]
struct Found {
    scheme: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    room: String,
    secret: Option<String>,
    owner: Option<String>,
}

impl From<FoundLink> for Found {
    fn from(link: FoundLink) -> Self {
        Self {
            scheme: link.scheme.map(|scheme| scheme.as_str().to_owned()),
            host: link.host,
            port: link.port,
            room: link.room.to_string(),
            secret: link.secret.map(|secret| secret.to_string()),
            owner: link.owner.map(|owner| owner.to_string()),
        }
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../golden/links.json")).expect("the golden file is as described above")
}

fn find(text: &str) -> Result<Found, LinkError> {
    find_link(text).map(Found::from)
}

#[test]
fn every_golden_text_says_what_it_should() {
    let mut wrong = Vec::new();
    for Vector { text, found, problem } in golden().vectors {
        let got = find(&text).map_err(|error| error.code().to_owned());
        let wanted = found.ok_or_else(|| problem.expect("a vector is found or refused"));
        if got != wanted {
            wrong.push(format!("{text:?}\n  wanted {wanted:?}\n  got    {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the time it takes is what is tested")]
fn a_long_hostile_text_is_answered_soon() {
    let dots = ".".repeat(290);
    for piece in
        ["a://", "a#a://", &format!(".a://{dots}\n"), &format!("{}\n", ".a://".repeat(60)), "abc#", "#"]
    {
        let text: String = piece.chars().cycle().take(16 * 1024).collect();
        let from = std::time::Instant::now();
        let _ = find_link(&text);
        assert!(from.elapsed().as_secs() < 15, "{piece:?} took {:?}", from.elapsed());
    }
}

/// Whether `text` is taken for the sealed room, or refused; nothing else.
fn check_kept_or_refused(text: &str, whole: &Found) {
    match find(text) {
        Ok(found) => assert_eq!(found.secret, whole.secret, "{text:?} lost its secret"),
        Err(error) => assert!(!error.to_string().contains(whole.secret.as_deref().expect("a secret"))),
    }
}

#[test]
fn a_link_that_was_wrapped_anywhere_is_found() {
    let Golden { secret, owner, .. } = golden();
    for (link, from) in [
        (format!("https://meet.example.org:8443/room/sunny-mountain-42#{secret}"), "https://".len()),
        (format!("snug://[2001:db8::7]/room/sunny-mountain-42#{secret}"), "snug://".len()),
        (format!("meet.example.org/room/sunny-mountain-42#{secret}"), "meet.example.org/room/".len()),
        (format!("sunny-mountain-42#{secret}"), "sunny-mountain-42#".len()),
    ] {
        let whole = find(&link).expect("a link");
        for at in from..link.len() {
            let (start, end) = link.split_at(at);
            for wrap in ["\n", "\r\n", " \n", "\n> ", "=\r\n", "\u{2028}"] {
                let text = format!("> Join: <{start}{wrap}{end}>.");
                assert_eq!(find(&text).as_ref(), Ok(&whole), "{text:?}");
            }
        }
    }
    let link = format!("https://meet.example.org/room/sunny-mountain-42#{secret}&owner={owner}");
    let whole = find(&link).expect("a link");
    for at in "https://".len()..link.len() {
        let (start, end) = link.split_at(at);
        assert_eq!(find(&format!("{start}\n{end}")).as_ref(), Ok(&whole), "{start:?} {end:?}");
    }
}

#[test]
fn no_damage_to_a_secret_makes_an_unsealed_room() {
    let Golden { secret, .. } = golden();
    let whole = find(&format!("https://h.example/room/abc#{secret}")).expect("a link");
    for start in
        ["https://h.example/room/abc#", "h.example/room/abc#", "abc#", "snug://h.example/room/abc%23"]
    {
        for at in 0..=secret.len() {
            for put in [
                "", " ", "\n", ".", "!", "é", "–", "…", "%", "&", "=", "+", "/", "(", ")", "\"", "<b>", "中",
                "\u{0}", "#",
            ] {
                let (left, right) = secret.split_at(at);
                check_kept_or_refused(&format!("{start}{left}{put}{right}"), &whole);
                check_kept_or_refused(&format!("see {start}{left}{put}{right}, please"), &whole);
                if let Some(cut) = right.get(1..) {
                    let text = format!("see {start}{left}{put}{cut}, please");
                    assert!(find(&text).is_err(), "{text:?}");
                }
            }
        }
    }
}

fn links() -> impl Strategy<Value = (String, Found)> {
    let hosts = prop_oneof![
        "[a-z][a-z0-9-]{0,9}[a-z](\\.[a-z]{2,5}){0,2}".prop_map(|host| (host.clone(), host)),
        any::<[u8; 4]>()
            .prop_map(|ip| std::net::Ipv4Addr::from(ip).to_string())
            .prop_map(|ip| (ip.clone(), ip)),
        any::<u16>().prop_map(|last| (format!("[2001:db8::{last:x}]"), format!("2001:db8::{last:x}"))),
    ];
    let rooms =
        "[a-z0-9]{2,8}(-[a-z0-9]{1,8}){1,3}".prop_filter("a room", |room| room.parse::<RoomId>().is_ok());
    let scheme = prop::sample::select(vec!["https", "snug"]);
    let port = prop::option::of(1..=u16::MAX);
    (scheme, hosts, port, rooms, any::<[u8; 16]>(), prop::option::of(any::<[u8; 32]>())).prop_map(
        |(scheme, (written, host), port, room, secret, owner)| {
            let secret = RoomSecret::from_bytes(secret).to_string();
            let owner = owner.map(|owner| Token::from_bytes(owner).to_string());
            let port_text = port.map_or(String::new(), |port| format!(":{port}"));
            let owner_text = owner.as_ref().map_or(String::new(), |owner| format!("&owner={owner}"));
            let text = format!("{scheme}://{written}{port_text}/room/{room}#{secret}{owner_text}");
            let host = host.parse::<std::net::Ipv6Addr>().map_or(host, |ip| ip.to_string());
            let found = Found {
                scheme: Some(scheme.to_owned()),
                host: Some(host),
                port,
                room,
                secret: Some(secret),
                owner,
            };
            (text, found)
        },
    )
}

proptest! {
    #[test]
    fn every_link_is_found_within_a_sentence((link, found) in links(), before in "[\u{4e00}-\u{4eff}]{0,3}|[A-Za-z ,.!]{0,20} ", after in "[.,;:!?] [a-z ]{0,20}|[。、！）]?|>|\\)") {
        let text = format!("{before}{link}{after}");
        prop_assert_eq!(find(&text), Ok(found), "{}", text);
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,60}") {
        let _ = find_link(&text);
    }

    #[test]
    fn links_with_noise_are_whole_or_refused((link, found) in links(), noise in "[ \n#&=%/:@\\[\\].az0é中]{1,4}", at in any::<prop::sample::Index>()) {
        let at = at.index(link.len());
        let (left, right) = link.split_at(at);
        // What is in front of the secret may become another host or room; the secret itself stays whole or is refused.
        if let Ok(got) = find(&format!("{left}{noise}{right}")) {
            prop_assert!(got.secret == found.secret, "{}{}{}: {:?}", left, noise, right, got);
        }
    }
}
