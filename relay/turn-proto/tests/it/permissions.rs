//! CreatePermission (RFC 8656 §9, §10).

use std::net::SocketAddr;

use snug_turn_proto::DropReason;

use crate::stun::{self, attribute as a};
use crate::world::{Client, OTHER_PEER, PEER, PEER_V6, World, as_data_indication, as_datagram, at};

const CLIENT: &str = "81.2.69.142:40000";

#[test]
fn without_a_permission_nothing_passes_either_way() {
    let mut world = World::new();
    let (mut client, relayed) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.send(&client, at(PEER), b"hello"), None);
    assert_eq!(world.dropped(DropReason::NoPermission), 1);
    assert_eq!(world.permit(&mut client, at(PEER)), 0);
    assert_eq!(as_datagram(world.send(&client, at(PEER), b"hello"), at(PEER)), b"hello");
    assert_eq!(world.send(&client, at(OTHER_PEER), b"hello"), None);
    assert_eq!(world.peer_says(relayed, at(OTHER_PEER), b"hello"), None);
    assert_eq!(world.dropped(DropReason::NoPermission), 3);
    assert_eq!(
        as_data_indication(world.peer_says(relayed, at(PEER), b"hello"), client.tuple),
        (at(PEER), b"hello".to_vec())
    );
}

#[test]
fn a_permission_is_for_an_address_whatever_the_port() {
    let mut world = World::new();
    let (mut client, relayed) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.permit(&mut client, at("93.184.216.34:0")), 0);
    assert_eq!(
        as_datagram(world.send(&client, at("93.184.216.34:61000"), b"x"), at("93.184.216.34:61000")),
        b"x"
    );
    assert!(world.peer_says(relayed, at("93.184.216.34:1234"), b"x").is_some());
}

/// RFC 8656 §9: a permission is for an address, and that of another allocation of the room is no exception.
#[test]
fn a_permission_for_the_address_of_another_allocation_is_granted_whatever_the_port() {
    for port in [0, 1, 53, 1023, 1024, 3478, 5000, 9999, 11_000, 65_535] {
        let mut world = World::new();
        let (mut a, relayed_a) = world.allocated(CLIENT, "room", "a");
        let (mut b, relayed_b) = world.allocated("81.2.70.1:40001", "room", "b");
        let any = |relayed: SocketAddr| SocketAddr::new(relayed.ip(), port);
        assert_eq!(world.permit(&mut a, any(relayed_b)), 0, "port {port}");
        assert_eq!(world.send(&a, relayed_b, b"x"), None, "the far side has not permitted it");
        assert_eq!(world.permit(&mut b, any(relayed_a)), 0, "port {port}");
        assert_eq!(
            as_data_indication(world.send(&a, relayed_b, b"x"), b.tuple),
            (relayed_a, b"x".to_vec()),
            "port {port}"
        );
        assert_eq!(world.asked_to_open, 0, "they meet in process");
        // A channel is for an address and a port (§12).
        if port != relayed_b.port() {
            assert_eq!(world.bind(&mut a, 0x4000, any(relayed_b)), 403, "port {port}");
        }
        assert_eq!(world.bind(&mut a, 0x4001, relayed_b), 0);
    }
}

#[test]
fn it_may_stand_among_several_peers_of_one_request() {
    let mut world = World::new();
    let (mut a, relayed_a) = world.allocated(CLIENT, "room", "a");
    let (mut b, relayed_b) = world.allocated("81.2.70.1:40001", "room", "b");
    let any = SocketAddr::new(relayed_b.ip(), 0);
    assert_eq!(world.code(&mut a, stun::CREATE_PERMISSION, |m| m.peer(at(PEER)).peer(any)), 0);
    assert_eq!(world.asked_to_open, 1, "for the peer elsewhere");
    assert_eq!(world.permit(&mut b, SocketAddr::new(relayed_a.ip(), 0)), 0);
    assert!(world.send(&a, relayed_b, b"x").is_some() && world.send(&a, at(PEER), b"x").is_some());
    let refused = |m: stun::Builder| m.peer(any).peer(at("10.0.0.1:0"));
    assert_eq!(world.code(&mut b, stun::CREATE_PERMISSION, refused), 403, "all of them, or none");
}

#[test]
fn a_permission_for_the_servers_address_opens_neither_its_ports_nor_other_rooms() {
    let mut world = World::new();
    let (mut a, relayed_a) = world.allocated(CLIENT, "room", "a");
    let (_, relayed_b) = world.allocated("81.2.70.1:40001", "room", "b");
    let (mut stranger, relayed_stranger) = world.allocated("81.2.70.1:40002", "other", "a");
    let (mut friend, _) = world.allocated("81.2.70.1:40003", "other", "b");
    let any = SocketAddr::new(relayed_b.ip(), 0);
    for client in [&mut a, &mut stranger, &mut friend] {
        assert_eq!(world.permit(client, any), 0);
    }
    assert_eq!(world.permit(&mut a, at(PEER)), 0, "its relay socket is open from here on");
    let own = |port| SocketAddr::new(relayed_b.ip(), port);
    for port in [0, 22, 443, 3478, 5349, 8080, 9999, 11_000] {
        assert_eq!(world.send(&a, own(port), b"x"), None, "port {port}");
        assert_eq!(world.bind(&mut a, 0x4000, own(port)), 403, "port {port}");
        assert_eq!(world.peer_says(relayed_a, own(port), b"x"), None, "nor does it let them in: port {port}");
    }
    assert_eq!(world.send(&a, relayed_stranger, b"x"), None);
    assert_eq!(world.send(&stranger, relayed_a, b"x"), None);
    assert_eq!(world.bind(&mut a, 0x4000, relayed_stranger), 403);
    assert_eq!(world.dropped(DropReason::OtherGroup), 2);
    let (mut alone, _) = world.allocated("81.2.70.1:40004", "third", "a");
    assert_eq!(world.permit(&mut alone, any), 403, "nobody of its room is relayed");
}

#[test]
fn an_address_is_permitted_for_as_long_as_somebody_else_of_the_room_is_relayed_there() {
    let mut world = World::new();
    let (mut a, relayed) = world.allocated(CLIENT, "room", "a");
    let any = SocketAddr::new(relayed.ip(), 0);
    let mut others: Vec<Client> = ["b", "c"]
        .iter()
        .enumerate()
        .map(|(number, name)| world.allocated(&format!("81.2.70.{number}:40001"), "room", name).0)
        .collect();
    while let Some(mut other) = others.pop() {
        assert_eq!(world.permit(&mut a, any), 0);
        assert_eq!(world.refresh(&mut other, 0), 0);
    }
    assert_eq!(world.permit(&mut a, any), 403, "its own allocation does not count");
}

#[test]
fn a_permission_lasts_five_minutes_and_sending_does_not_prolong_it() {
    let mut world = World::new();
    let (mut client, relayed) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.permit(&mut client, at(PEER)), 0);
    for _ in 0..299 {
        world.pass(1);
        assert!(world.send(&client, at(PEER), b"x").is_some());
        assert!(world.peer_says(relayed, at(PEER), b"x").is_some());
    }
    world.pass(1);
    assert_eq!(world.send(&client, at(PEER), b"x"), None);
    assert_eq!(world.peer_says(relayed, at(PEER), b"x"), None);
    assert_eq!(world.permit(&mut client, at(PEER)), 0);
    world.pass(200);
    assert_eq!(world.permit(&mut client, at(PEER)), 0, "once more prolongs");
    world.pass(299);
    assert!(world.send(&client, at(PEER), b"x").is_none(), "the allocation itself is over");
}

#[test]
fn several_peers_are_permitted_at_once_or_not_at_all() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    let all = |peers: &'static [&'static str]| {
        move |message: stun::Builder| peers.iter().fold(message, |message, peer| message.peer(at(peer)))
    };
    for (peers, code) in [
        (&[PEER, "10.0.0.1:5000"][..], 403),
        (&["127.0.0.1:5000", PEER], 403),
        (&[PEER, PEER_V6], 443),
        (&[], 400),
    ] {
        assert_eq!(world.code(&mut client, stun::CREATE_PERMISSION, all(peers)), code, "{peers:?}");
        assert_eq!(world.send(&client, at(PEER), b"x"), None);
    }
    let broken = world.code(&mut client, stun::CREATE_PERMISSION, |m| {
        m.peer(at(PEER)).put(a::XOR_PEER_ADDRESS, &[0, 1, 2])
    });
    assert_eq!(broken, 400);
    assert_eq!(world.send(&client, at(PEER), b"x"), None);
    assert_eq!(world.code(&mut client, stun::CREATE_PERMISSION, all(&[PEER, OTHER_PEER])), 0);
    assert!(
        world.send(&client, at(PEER), b"x").is_some() && world.send(&client, at(OTHER_PEER), b"x").is_some()
    );
    assert_eq!(world.asked_to_open, 1, "one socket for all of them");
}

#[test]
fn there_are_at_most_thirty_two_and_the_expired_do_not_count() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    let peer = |n: u32| at(&format!("93.184.{}.{}:5000", n / 250, n % 250 + 1));
    for n in 0..30 {
        assert_eq!(world.permit(&mut client, peer(n)), 0);
    }
    let three = world
        .code(&mut client, stun::CREATE_PERMISSION, |m| m.peer(peer(100)).peer(peer(101)).peer(peer(102)));
    assert_eq!(three, 508, "three do not fit");
    let two =
        world.code(&mut client, stun::CREATE_PERMISSION, |m| m.peer(peer(100)).peer(peer(101)).peer(peer(0)));
    assert_eq!(two, 0, "two do, and one that is there already");
    assert_eq!(world.permit(&mut client, peer(102)), 508);
    assert_eq!(world.bind(&mut client, 0x4000, peer(102)), 508, "a channel needs a permission too");
    assert_eq!(world.permit(&mut client, peer(29)), 0, "what is there can be prolonged");
    world.pass(299);
    assert_eq!(world.permit(&mut client, peer(29)), 0);
    world.pass(1);
    let many =
        world.code(&mut client, stun::CREATE_PERMISSION, |m| (200..231).fold(m, |m, n| m.peer(peer(n))));
    assert_eq!(many, 0, "31 and the one that was prolonged");
    assert_eq!(world.permit(&mut client, peer(300)), 508);
}

#[test]
fn a_request_for_more_peers_than_there_may_be_permissions_is_refused_before_they_are_looked_at() {
    let mut world = World::new();
    let (mut client, relayed) = world.allocated(CLIENT, "room", "a");
    world.allocated("81.2.70.1:40001", "room", "b");
    let mut named = |count: usize, peer: &str| {
        let peer = at(peer);
        world.code(&mut client, stun::CREATE_PERMISSION, |m| (0..count).fold(m, |m, _| m.peer(peer)))
    };
    // Looked at, each of these has an answer of its own.
    for (peer, code) in [(PEER, 0), ("10.0.0.1:5000", 403), (PEER_V6, 443)] {
        for (count, code) in [(32, code), (33, 508), (50, 508)] {
            assert_eq!(named(count, peer), code, "{count} times {peer}");
        }
    }
    assert_eq!(named(50, &format!("{}:0", relayed.ip())), 508);
}

#[test]
fn families_have_to_match() {
    let mut world = World::new();
    world.admit("room", "a");
    let (mut v4, _) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.permit(&mut v4, at(PEER_V6)), 443);
    let mut v6 = Client::udp("81.2.69.142:40001", "room", "a");
    assert_eq!(world.code(&mut v6, stun::ALLOCATE, |m| m.transport(17).family(2)), 0);
    assert_eq!(world.permit(&mut v6, at(PEER)), 443);
    assert_eq!(world.bind(&mut v6, 0x4000, at(PEER)), 443);
    assert_eq!(world.permit(&mut v6, at(PEER_V6)), 0);
    assert_eq!(world.permit(&mut v6, at("[::ffff:93.184.216.34]:5000")), 443, "that is an IPv4 address");
    assert_eq!(as_datagram(world.send(&v6, at(PEER_V6), b"x"), at(PEER_V6)), b"x");
}

#[test]
fn a_mapped_address_is_the_ipv4_address_that_it_is() {
    let mut world = World::new();
    let (mut client, relayed) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.permit(&mut client, at("[::ffff:93.184.216.34]:5000")), 0);
    assert_eq!(as_datagram(world.send(&client, at(PEER), b"x"), at(PEER)), b"x");
    assert_eq!(as_datagram(world.send(&client, at("[::ffff:93.184.216.34]:5000"), b"x"), at(PEER)), b"x");
    let (peer, _) =
        as_data_indication(world.peer_says(relayed, at("[::ffff:93.184.216.34]:5000"), b"x"), client.tuple);
    assert_eq!(peer, at(PEER));
}

#[test]
fn permissions_end_with_their_allocation() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.permit(&mut client, at(PEER)), 0);
    assert_eq!(world.refresh(&mut client, 0), 0);
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |m| m.transport(17)), 0);
    assert_eq!(world.send(&client, at(PEER), b"x"), None);
}

#[test]
fn a_send_indication_with_something_wrong_is_dropped() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.permit(&mut client, at(PEER)), 0);
    let mut send = |fill: fn(stun::Builder) -> stun::Builder| {
        let transaction = world.transaction();
        let packet = fill(stun::Builder::new(stun::INDICATION, stun::SEND, transaction)).finish();
        world.client_says(client.tuple, &packet)
    };
    assert!(send(|m| m.peer(at(PEER)).put(a::DATA, b"x")).is_some());
    assert!(send(|m| m.put(a::DATA, b"x").peer(at(PEER))).is_some(), "in any order");
    assert!(send(|m| m.peer(at(PEER)).put(a::DATA, b"")).is_some(), "an empty datagram is one");
    assert!(send(|m| m.peer(at(PEER)).put(a::DATA, b"x").put(a::SOFTWARE, b"y").fingerprint()).is_some());
    assert!(send(|m| m.peer(at(PEER))).is_none(), "no DATA");
    assert!(send(|m| m.put(a::DATA, b"x")).is_none(), "no XOR-PEER-ADDRESS");
    assert!(
        send(|m| m.put(a::XOR_PEER_ADDRESS, &[0, 1, 2, 3]).put(a::DATA, b"x")).is_none(),
        "half an address"
    );
    assert!(
        send(|m| m.put(a::DONT_FRAGMENT, b"").peer(at(PEER)).put(a::DATA, b"x")).is_none(),
        "it cannot be done"
    );
    assert!(send(|m| m.peer(at("93.184.216.34:0")).put(a::DATA, b"x")).is_none(), "no port");
    assert!(send(|m| m.peer(at("93.184.216.34:53")).put(a::DATA, b"x")).is_none(), "a well-known port");
    let stats = world.server.stats();
    assert_eq!((stats.packets_from_clients, stats.bytes_from_clients), (4, 3));
    assert_eq!(world.dropped(DropReason::ForbiddenPeer), 2);
    let stranger = Client::udp("81.2.69.142:9", "room", "a");
    assert_eq!(world.send(&stranger, at(PEER), b"x"), None);
    assert_eq!(world.dropped(DropReason::NoAllocation), 1);
}
