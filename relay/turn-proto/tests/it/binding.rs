//! Binding (RFC 8489 §2, §6): "what is my address?"

use snug_turn_proto::{DropReason, Refusal, Transport};

use crate::stun::{self, Builder, attribute as a};
use crate::world::{Client, World};

#[test]
fn everybody_is_told_the_address_they_come_from() {
    let mut world = World::new();
    for address in ["81.2.69.142:40000", "[2a00:1::7]:40000"] {
        for client in [Client::udp(address, "room", "a"), Client::tcp(address, "room", "a")] {
            let packet = world.request(stun::BINDING).finish();
            let answer = world.exchange(client.tuple, &packet).expect("an answer");
            assert_eq!((answer.class, answer.method), (stun::SUCCESS, stun::BINDING));
            assert_eq!(answer.address(a::XOR_MAPPED_ADDRESS), Some(client.tuple.client));
            assert_eq!(answer.attributes.len(), 1, "nothing else: {answer:?}");
        }
    }
}

#[test]
fn a_binding_request_may_have_a_fingerprint_and_optional_attributes() {
    let mut world = World::new();
    let client = Client::udp("81.2.69.142:40000", "room", "a");
    let packet =
        world.request(stun::BINDING).put(a::SOFTWARE, b"a browser").put(0xc0de, b"?").fingerprint().finish();
    assert_eq!(world.exchange(client.tuple, &packet).map(|answer| answer.class), Some(stun::SUCCESS));
    let mut wrong = packet;
    *wrong.last_mut().expect("a fingerprint") ^= 1;
    assert_eq!(
        world.exchange(client.tuple, &wrong),
        None,
        "a wrong fingerprint: it is something else than STUN"
    );
}

#[test]
fn an_attribute_that_must_be_understood_is_named_in_a_420() {
    let mut world = World::new();
    let client = Client::udp("81.2.69.142:40000", "room", "a");
    let packet = world.request(stun::BINDING).put(0x0099, b"").put(0x7abc, b"four").finish();
    let answer = world.exchange(client.tuple, &packet).expect("an answer");
    assert_eq!(answer.error(), Some(420));
    assert_eq!(answer.get(a::UNKNOWN_ATTRIBUTES), Some(&[0x00, 0x99, 0x7a, 0xbc][..]));
    assert_eq!(world.refused(Refusal::UnknownAttribute), 1);
}

#[test]
fn no_more_than_eight_unknown_attributes_are_named() {
    let mut world = World::new();
    let client = Client::udp("81.2.69.142:40000", "room", "a");
    let packet =
        (0..60).fold(world.request(stun::BINDING), |message, n| message.put(0x0100 + n, b"")).finish();
    let answer = world.exchange(client.tuple, &packet).expect("an answer");
    assert_eq!(answer.get(a::UNKNOWN_ATTRIBUTES).map(<[u8]>::len), Some(16));
}

#[test]
fn a_message_with_more_attributes_than_anybody_needs_is_dropped_unread() {
    let mut world = World::new();
    let client = Client::tcp("81.2.69.142:40000", "room", "a");
    let with = |world: &mut World, count| {
        (0..count).fold(world.request(stun::BINDING), |message, _| message.put(0x8022, b"")).finish()
    };
    let (most, more) = (with(&mut world, 64), with(&mut world, 65));
    assert!(world.exchange(client.tuple, &most).is_some());
    assert_eq!(world.exchange(client.tuple, &more), None);
    let long = world.request(stun::BINDING).put(0x8022, &[0; 2024]).finish();
    assert!(world.exchange(client.tuple, &long).is_some());
    let longer = world.request(stun::BINDING).put(0x8022, &[0; 2028]).finish();
    assert_eq!(world.exchange(client.tuple, &longer), None);
    assert_eq!(world.dropped(DropReason::NotUnderstood), 2);
}

#[test]
fn binding_indications_and_what_is_no_request_stay_without_answer() {
    let mut world = World::new();
    let client = Client::udp("81.2.69.142:40000", "room", "a");
    for class in [stun::INDICATION, stun::SUCCESS, stun::ERROR] {
        let transaction = world.transaction();
        let packet = Builder::new(class, stun::BINDING, transaction).finish();
        assert_eq!(world.exchange(client.tuple, &packet), None);
    }
    assert_eq!(
        world.dropped(DropReason::NotUnderstood),
        2,
        "an indication keeps a NAT open; the other two are nonsense"
    );
}

#[test]
fn other_methods_are_nobody_s() {
    let mut world = World::new();
    let client = Client::new(Transport::Tls, "81.2.69.142:40000", "198.41.0.4:5349", "room", "a");
    // Shared secret (RFC 3489), the three of RFC 6062, and the last there is.
    for method in [2, 10, 11, 12, 0xfff] {
        let packet = world.request(method).finish();
        assert_eq!(world.exchange(client.tuple, &packet), None, "method {method}");
    }
}

#[test]
fn a_request_without_the_magic_cookie_is_not_stun() {
    let mut world = World::new();
    let client = Client::udp("81.2.69.142:40000", "room", "a");
    let mut packet = world.request(stun::BINDING).finish();
    packet[4] ^= 1;
    assert_eq!(world.exchange(client.tuple, &packet), None);
}
