//! Long-term credentials (RFC 8489 §9.2) with both kinds of integrity, and what is answered to those who have none.

use snug_turn_proto::{Input, Refusal, Secret, Transport};

use crate::stun::{self, Builder, Integrity, Message, attribute as a};
use crate::world::{Client, PEER, REALM, START, World, account, at};

const CLIENT: &str = "81.2.69.142:40000";

fn first(world: &mut World, client: &Client) -> Message {
    let packet = world.request(stun::ALLOCATE).transport(17).finish();
    world.exchange(client.tuple, &packet).expect("a challenge")
}

#[test]
fn an_allocate_without_credentials_is_challenged_and_with_them_granted() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client = Client::udp(CLIENT, "room", "a");
    let challenge = first(&mut world, &client);
    assert_eq!(challenge.error(), Some(401));
    assert_eq!(challenge.text(a::REALM).as_deref(), Some(REALM));
    assert!(!challenge.has(a::PASSWORD_ALGORITHMS), "an answer to a stranger is short");
    assert!(!challenge.has(a::MESSAGE_INTEGRITY), "there is no key yet");
    client.nonce = challenge.text(a::NONCE).expect("a nonce");
    assert!(!client.nonce.starts_with("obMatJos2"), "no list, no cookie");
    let request = world.request(stun::ALLOCATE).transport(17);
    let answer = world.exchange(client.tuple, &client.sign(request).finish()).expect("an answer");
    assert_eq!(answer.class, stun::SUCCESS);
    assert!(answer.is_signed_by(&client.key(), Integrity::Sha1));
}

#[test]
fn over_a_stream_sha_256_is_offered_and_taken() {
    for (sha256_key, integrity) in [
        (true, Integrity::Sha256),
        (true, Integrity::Sha1),
        (false, Integrity::Sha256),
        (false, Integrity::Sha1),
    ] {
        let mut world = World::new();
        world.admit("room", "a");
        let mut client = Client { sha256_key, integrity, ..Client::tcp(CLIENT, "room", "a") };
        let challenge = first(&mut world, &client);
        assert_eq!(
            challenge.get(a::PASSWORD_ALGORITHMS),
            Some(&[0, 2, 0, 0, 0, 1, 0, 0][..]),
            "SHA-256, then MD5"
        );
        client.nonce = challenge.text(a::NONCE).expect("a nonce");
        // Base64 of the bits 100…0: "password algorithms" and nothing else (RFC 8489 §18.1).
        assert!(client.nonce.starts_with("obMatJos2gAAA"), "{}", client.nonce);
        let answer = world.ask(&mut client, stun::ALLOCATE, |message| message.transport(17));
        assert_eq!(answer.class, stun::SUCCESS, "{sha256_key} {integrity:?}");
        assert!(answer.is_signed_by(&client.key(), integrity), "signed as the request was");
    }
}

#[test]
fn over_datagrams_only_a_long_request_is_offered_sha_256() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client =
        Client { sha256_key: true, integrity: Integrity::Sha256, ..Client::udp(CLIENT, "room", "a") };
    let packet = world.request(stun::ALLOCATE).transport(17).put(a::SOFTWARE, &[b'x'; 32]).finish();
    let challenge = world.exchange(client.tuple, &packet).expect("a challenge");
    assert!(challenge.has(a::PASSWORD_ALGORITHMS));
    client.nonce = challenge.text(a::NONCE).expect("a nonce");
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |message| message.transport(17)), 0);
}

#[test]
fn a_list_of_algorithms_that_comes_back_changed_is_a_400() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client = Client::tcp(CLIENT, "room", "a");
    client.nonce = first(&mut world, &client).text(a::NONCE).expect("a nonce");
    const MD5: &[u8] = &[0, 1, 0, 0];
    const BOTH: &[u8] = &[0, 2, 0, 0, 0, 1, 0, 0];
    type Value = Option<&'static [u8]>;
    let cases: [(Value, Value); 7] = [
        (Some(MD5), None),                            // who took the list away?
        (None, Some(BOTH)),                           // and who the choice?
        (Some(MD5), Some(MD5)),                       // SHA-256 is gone
        (Some(MD5), Some(&[0, 1, 0, 0, 0, 2, 0, 0])), // another order
        (Some(&[0, 9, 0, 0]), Some(BOTH)),            // a choice that was not there
        (Some(MD5), Some(&[])),                       // an empty list
        (Some(&[0, 1]), Some(BOTH)),                  // a broken choice
    ];
    for (choice, list) in cases {
        let request = world.request(stun::ALLOCATE).transport(17);
        let request = request
            .put(a::USERNAME, client.username.as_bytes())
            .put(a::REALM, REALM.as_bytes())
            .put(a::NONCE, client.nonce.as_bytes());
        let request = match choice {
            Some(choice) => request.put(a::PASSWORD_ALGORITHM, choice),
            None => request,
        };
        let request = match list {
            Some(list) => request.put(a::PASSWORD_ALGORITHMS, list),
            None => request,
        };
        let packet = request.sign(&client.key(), Integrity::Sha1).finish();
        assert_eq!(
            world.exchange(client.tuple, &packet).and_then(|answer| answer.error()),
            Some(400),
            "{choice:?} {list:?}"
        );
    }
    assert_eq!(world.allocations(), 0);
}

#[test]
fn who_was_offered_no_list_cannot_bring_one() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client = Client { sha256_key: true, ..Client::udp(CLIENT, "room", "a") };
    client.nonce = first(&mut world, &client).text(a::NONCE).expect("a nonce");
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |message| message.transport(17)), 400);
}

#[test]
fn credentials_without_one_of_their_parts_are_a_400() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client = Client::udp(CLIENT, "room", "a");
    client.nonce = first(&mut world, &client).text(a::NONCE).expect("a nonce");
    for missing in [a::USERNAME, a::REALM, a::NONCE] {
        let mut request = world.request(stun::ALLOCATE).transport(17);
        for (kind, value) in [
            (a::USERNAME, client.username.as_bytes()),
            (a::REALM, REALM.as_bytes()),
            (a::NONCE, client.nonce.as_bytes()),
        ] {
            if kind != missing {
                request = request.put(kind, value);
            }
        }
        let packet = request.sign(&client.key(), Integrity::Sha1).finish();
        assert_eq!(world.exchange(client.tuple, &packet).and_then(|answer| answer.error()), Some(400));
    }
}

#[test]
fn wrong_credentials_are_challenged_again() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut good = Client::udp(CLIENT, "room", "a");
    good.nonce = first(&mut world, &good).text(a::NONCE).expect("a nonce");
    let long = "x".repeat(400);
    let wrong = [
        Client { secret: b"south".to_vec(), ..good.clone() },
        Client { username: format!("{}:room.b", START + 3600), ..good.clone() },
        Client { username: format!("{}:other.a", START + 3600), ..good.clone() },
        Client { username: format!("{START}:room.a"), ..good.clone() },
        Client { username: "room.a".into(), ..good.clone() },
        Client { username: String::new(), ..good.clone() },
        Client { username: format!("{}:{long}", START + 3600), ..good.clone() },
    ];
    for mut client in wrong {
        let answer = world.ask(&mut client, stun::ALLOCATE, |message| message.transport(17));
        assert_eq!(answer.error(), Some(401), "{}", client.username);
        assert!(answer.has(a::NONCE) && answer.has(a::REALM));
    }
    assert_eq!(world.refused(Refusal::WrongCredentials), 7);
    assert_eq!(world.code(&mut good, stun::ALLOCATE, |message| message.transport(17)), 0);
}

#[test]
fn another_realm_is_challenged_again() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client = Client::udp(CLIENT, "room", "a");
    client.nonce = first(&mut world, &client).text(a::NONCE).expect("a nonce");
    let key = stun::long_term_key(
        &client.username,
        "gnus",
        &stun::password(&client.secret, &client.username),
        false,
    );
    let packet = world
        .request(stun::ALLOCATE)
        .transport(17)
        .put(a::USERNAME, client.username.as_bytes())
        .put(a::REALM, b"gnus")
        .put(a::NONCE, client.nonce.as_bytes())
        .sign(&key, Integrity::Sha1)
        .finish();
    assert_eq!(world.exchange(client.tuple, &packet).and_then(|answer| answer.error()), Some(401));
}

#[test]
fn an_old_or_foreign_nonce_is_a_438_with_a_new_one() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    let old = client.nonce.clone();
    world.pass(590);
    let request = world.request(stun::REFRESH);
    let packet = client.sign(request).finish();
    assert_eq!(
        world.exchange(client.tuple, &packet).map(|answer| answer.class),
        Some(stun::SUCCESS),
        "still good"
    );
    world.pass(11);
    for nonce in [old.as_str(), "", "nonsense", "obMatJos2gAAA", "obMatJos2"] {
        let request = world.request(stun::REFRESH);
        let packet = Client { nonce: nonce.into(), ..client.clone() }.sign(request).finish();
        let answer = world.exchange(client.tuple, &packet).expect("an answer");
        assert_eq!(answer.error(), Some(438), "{nonce}");
        assert_eq!(answer.text(a::REALM).as_deref(), Some(REALM));
        client.nonce = answer.text(a::NONCE).expect("a new nonce");
        assert_ne!(client.nonce, nonce);
    }
    assert_eq!(world.refresh(&mut client, 600), 0);
    let mut elsewhere =
        Client { tuple: Client::udp("81.2.69.142:40001", "room", "a").tuple, ..client.clone() };
    let request = world.request(stun::ALLOCATE).transport(17);
    let packet = elsewhere.sign(request).finish();
    let answer = world.exchange(elsewhere.tuple, &packet);
    assert_eq!(answer.and_then(|answer| answer.error()), Some(438), "a nonce is for one 5-tuple");
    elsewhere.nonce.clear();
    assert_eq!(world.code(&mut elsewhere, stun::ALLOCATE, |message| message.transport(17)), 0);
}

#[test]
fn requests_without_credentials_say_no_more_than_they_must() {
    let mut world = World::new();
    let stranger = Client::udp("81.2.69.142:1", "room", "a").tuple;
    let bare = world.request(stun::ALLOCATE).finish();
    let answer = world.exchange(stranger, &bare).expect("an answer");
    assert_eq!((answer.error(), answer.has(a::NONCE)), (Some(400), false), "no REQUESTED-TRANSPORT");
    for method in [stun::REFRESH, stun::CREATE_PERMISSION, stun::CHANNEL_BIND] {
        let packet = world.request(method).peer(at(PEER)).finish();
        let answer = world.exchange(stranger, &packet).expect("an answer");
        assert_eq!((answer.error(), answer.has(a::NONCE)), (Some(437), false), "no allocation");
    }
    let (client, _) = world.allocated(CLIENT, "room", "a");
    for method in [stun::REFRESH, stun::CREATE_PERMISSION, stun::CHANNEL_BIND] {
        let packet = world.request(method).peer(at(PEER)).finish();
        let answer = world.exchange(client.tuple, &packet).expect("an answer");
        assert_eq!((answer.error(), answer.has(a::NONCE)), (Some(401), true));
        let packet = world.request(method).finish();
        let answer = world.exchange(client.tuple, &packet).expect("an answer");
        assert_eq!((answer.error(), answer.has(a::NONCE)), (Some(400), false), "too short for a challenge");
    }
    assert_eq!(world.allocations(), 1);
}

#[test]
fn a_shortened_or_damaged_mac_proves_nothing() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client = Client { integrity: Integrity::Sha256, ..Client::tcp(CLIENT, "room", "a") };
    client.nonce = first(&mut world, &client).text(a::NONCE).expect("a nonce");
    let request = world.request(stun::ALLOCATE).transport(17);
    let signed = client.sign(request).finish();
    for bit in 0..32 * 8 {
        let mut damaged = signed.clone();
        let at = damaged.len() - 32 + bit / 8;
        damaged[at] ^= 1 << (bit % 8);
        assert_eq!(
            world.exchange(client.tuple, &damaged).and_then(|answer| answer.error()),
            Some(401),
            "bit {bit}"
        );
    }
    // RFC 8489 §14.6 allows 16 bytes and more where a usage says so; TURN does not.
    for length in [0, 4, 16, 20, 28] {
        let body = &signed[20..signed.len() - 36];
        let mut covered = signed[..signed.len() - 36].to_vec();
        covered[2..4].copy_from_slice(&((body.len() + 4 + length) as u16).to_be_bytes());
        let mac = stun::mac(&client.key(), Integrity::Sha256, &covered);
        let mut packet = covered;
        packet.extend(a::MESSAGE_INTEGRITY_SHA256.to_be_bytes());
        packet.extend((length as u16).to_be_bytes());
        packet.extend(&mac[..length]);
        assert_eq!(
            world.exchange(client.tuple, &packet).and_then(|answer| answer.error()),
            Some(401),
            "{length} bytes"
        );
    }
    assert_eq!(world.exchange(client.tuple, &signed).map(|answer| answer.class), Some(stun::SUCCESS));
}

#[test]
fn of_two_macs_the_stronger_counts() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client = Client::tcp(CLIENT, "room", "a");
    client.nonce = first(&mut world, &client).text(a::NONCE).expect("a nonce");
    let unsigned = |message: Builder| {
        message
            .transport(17)
            .put(a::USERNAME, client.username.as_bytes())
            .put(a::REALM, REALM.as_bytes())
            .put(a::NONCE, client.nonce.as_bytes())
    };
    let (right, wrong) = (client.key(), b"wrong".to_vec());
    let packet = unsigned(world.request(stun::ALLOCATE))
        .sign(&right, Integrity::Sha1)
        .sign(&wrong, Integrity::Sha256)
        .finish();
    assert_eq!(world.exchange(client.tuple, &packet).and_then(|answer| answer.error()), Some(401));
    let packet = unsigned(world.request(stun::ALLOCATE))
        .sign(&wrong, Integrity::Sha1)
        .sign(&right, Integrity::Sha256)
        .finish();
    let answer = world.exchange(client.tuple, &packet).expect("an answer");
    assert!(answer.class == stun::SUCCESS && answer.is_signed_by(&right, Integrity::Sha256));
}

#[test]
fn secrets_change_with_an_overlap() {
    let mut world = World::new();
    let (mut running, _) = world.allocated(CLIENT, "room", "a");
    let secrets = |list: &[&str]| {
        Input::ReplaceSecrets(list.iter().map(|text| Secret::new(text.as_bytes().to_vec())).collect())
    };
    world.input(secrets(&["east", "north"]));
    assert_eq!(world.refresh(&mut running, 600), 0, "made with the older secret");
    let mut fresh = Client { secret: b"east".to_vec(), ..Client::udp("81.2.69.142:40001", "room", "a") };
    assert_eq!(world.code(&mut fresh, stun::ALLOCATE, |message| message.transport(17)), 0);
    world.input(secrets(&["east"]));
    assert_eq!(world.refresh(&mut running, 600), 401, "the older secret is gone");
    running.secret = b"east".to_vec();
    assert_eq!(world.refresh(&mut running, 600), 0, "the same participant with a newer credential");
    world.input(secrets(&[]));
    assert_eq!(world.refresh(&mut running, 600), 401, "without secrets nobody can prove anything");
}

#[test]
fn an_expired_credential_keeps_what_it_has_and_makes_nothing_new() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    for _ in 0..8 {
        world.pass(500);
        assert_eq!(world.refresh(&mut client, 600), 0);
    }
    assert!(world.now.unix > START + 3600, "its time is over");
    assert_eq!(world.permit(&mut client, at(PEER)), 0, "the call goes on");
    let mut second = Client {
        tuple: Client::udp("81.2.69.142:40001", "room", "a").tuple,
        nonce: String::new(),
        ..client.clone()
    };
    assert_eq!(world.code(&mut second, stun::ALLOCATE, |message| message.transport(17)), 401);
    second.username = format!("{}:room.a", world.now.unix + 60);
    assert_eq!(world.code(&mut second, stun::ALLOCATE, |message| message.transport(17)), 0);
    client.username = second.username.clone();
    assert_eq!(world.refresh(&mut client, 600), 0, "a newer credential of the same participant");
}

#[test]
fn somebody_elses_allocation_is_a_441() {
    let mut world = World::new();
    let (client, _) = world.allocated(CLIENT, "room", "a");
    world.admit("room", "b");
    let mut other = Client { username: format!("{}:room.b", START + 3600), ..client };
    assert_eq!(world.refresh(&mut other, 600), 441);
    assert_eq!(world.permit(&mut other, at(PEER)), 441);
    assert_eq!(world.bind(&mut other, 0x4000, at(PEER)), 441);
    assert_eq!(
        world.code(&mut other, stun::ALLOCATE, |message| message.transport(17)),
        437,
        "the 5-tuple is taken"
    );
}

#[test]
fn a_credential_works_over_every_transport() {
    let mut world = World::new();
    world.input(Input::Admit(account("room", "a")));
    for (n, transport) in Transport::ALL.into_iter().enumerate() {
        let mut client =
            Client::new(transport, &format!("81.2.69.142:{}", 40_000 + n), "198.41.0.4:5349", "room", "a");
        assert_eq!(world.code(&mut client, stun::ALLOCATE, |message| message.transport(17)), 0);
    }
    assert_eq!(world.server.stats().allocations_by, [1, 1, 1]);
}
