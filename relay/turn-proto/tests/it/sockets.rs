//! Relay sockets are opened when the first packet could leave by them, and closed with their relayed transport address.

use snug_turn_proto::{DropReason, Input, RelayAddresses, RelaySocketId, TurnConfig};

use crate::stun;
use crate::world::{Client, OTHER_PEER, PEER, PEER_V6, World, as_datagram, at, config};

const A: &str = "81.2.69.142:40000";

fn both(world: &mut World) -> Client {
    world.admit("room", "a");
    let mut client = Client::udp(A, "room", "a");
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |m| m.transport(17).additional(2)), 0);
    client
}

#[test]
fn a_socket_is_opened_with_the_first_permission_for_a_peer_elsewhere() {
    let mut world = World::new();
    let (mut a, relayed_a) = world.allocated(A, "room", "a");
    let (_, relayed_b) = world.allocated("81.2.70.1:1", "room", "b");
    assert_eq!(world.bind(&mut a, 0x4000, relayed_b), 0);
    assert_eq!(world.asked_to_open, 0);
    assert_eq!(world.bind(&mut a, 0x4001, at(PEER)), 0);
    assert_eq!(
        world.sockets.values().copied().collect::<Vec<_>>(),
        [relayed_a],
        "the very address it was told"
    );
    assert_eq!(world.permit(&mut a, at(OTHER_PEER)), 0);
    assert_eq!(world.asked_to_open, 1);
}

#[test]
fn a_port_that_cannot_be_bound_is_a_508_and_the_next_try_may_work() {
    let mut world = World::new();
    let (mut a, _) = world.allocated(A, "room", "a");
    world.ports_are_taken = true;
    assert_eq!(world.permit(&mut a, at(PEER)), 508);
    assert_eq!(world.bind(&mut a, 0x4000, at(PEER)), 508);
    assert_eq!(world.asked_to_open, 2);
    assert_eq!(world.send(&a, at(PEER), b"x"), None);
    assert_eq!(world.channel_data(&a, 0x4000, b"x"), None);
    assert_eq!(world.allocations(), 1, "a port is not the allocation");
    world.ports_are_taken = false;
    assert_eq!(world.bind(&mut a, 0x4000, at(PEER)), 0);
    assert_eq!(as_datagram(world.channel_data(&a, 0x4000, b"x"), at(PEER)), b"x");
}

#[test]
fn each_family_has_its_socket_and_one_request_can_ask_for_both() {
    let mut world = World::new();
    let mut client = both(&mut world);
    assert_eq!(world.code(&mut client, stun::CREATE_PERMISSION, |m| m.peer(at(PEER_V6)).peer(at(PEER))), 0);
    assert_eq!(world.sockets.values().map(|bound| bound.is_ipv4()).collect::<Vec<_>>(), [true, false]);
    assert!(
        world.send(&client, at(PEER), b"x").is_some() && world.send(&client, at(PEER_V6), b"x").is_some()
    );
    assert_eq!(world.refresh(&mut client, 0), 0);
    assert!(world.sockets.is_empty());
}

#[test]
fn when_one_of_two_sockets_fails_neither_peer_is_permitted() {
    let mut world = World::new();
    let mut client = both(&mut world);
    assert_eq!(world.permit(&mut client, at(PEER)), 0);
    world.ports_are_taken = true;
    let code = world.code(&mut client, stun::CREATE_PERMISSION, |m| m.peer(at(OTHER_PEER)).peer(at(PEER_V6)));
    assert_eq!(code, 508);
    assert_eq!(world.send(&client, at(OTHER_PEER), b"x"), None);
    assert!(world.send(&client, at(PEER), b"x").is_some(), "what was there stays");
}

#[test]
fn sockets_close_with_their_allocation_however_it_ends() {
    let mut world = World::new();
    let ends: [fn(&mut World, &mut Client); 4] = [
        |world, client| assert_eq!(world.refresh(client, 0), 0),
        |world, _| world.pass(600),
        |world, client| world.input(Input::ClientGone(client.tuple)),
        |world, _| world.input(Input::Revoke(crate::world::account("room", "a"))),
    ];
    for end in ends {
        let mut client = both(&mut world);
        assert_eq!(
            world.code(&mut client, stun::CREATE_PERMISSION, |m| m.peer(at(PEER_V6)).peer(at(PEER))),
            0
        );
        assert_eq!(world.sockets.len(), 2);
        end(&mut world, &mut client);
        assert_eq!((world.sockets.len(), world.allocations()), (0, 0));
    }
}

#[test]
fn packets_at_a_socket_that_is_gone_are_dropped() {
    let mut world = World::new();
    let (mut a, _) = world.allocated(A, "room", "a");
    assert_eq!(world.permit(&mut a, at(PEER)), 0);
    let relay = *world.sockets.keys().next().expect("a socket");
    assert!(world.socket_receives(relay, at(PEER), b"x").is_some());
    assert_eq!(world.socket_receives(RelaySocketId(relay.0 + 1), at(PEER), b"x"), None, "its other family");
    assert_eq!(world.socket_receives(RelaySocketId(u32::MAX), at(PEER), b"x"), None);
    assert_eq!(world.refresh(&mut a, 0), 0);
    assert_eq!(world.socket_receives(relay, at(PEER), b"x"), None);
    let (mut next, _) = world.allocated("81.2.70.1:1", "other", "b");
    assert_eq!(
        world.socket_receives(relay, at(PEER), b"x"),
        None,
        "the number is another allocation's, which has no socket yet"
    );
    assert_eq!(world.dropped(DropReason::NoAllocation), 4);
    assert_eq!(world.permit(&mut next, at(OTHER_PEER)), 0);
    assert_eq!(world.sockets.keys().copied().collect::<Vec<_>>(), [relay], "numbers are dense");
    assert_eq!(world.socket_receives(relay, at(PEER), b"x"), None, "it permits somebody else");
}

#[test]
fn answers_about_sockets_that_nobody_asked_for_change_nothing() {
    let mut world = World::new();
    let (a, _) = world.allocated(A, "room", "a");
    for id in [0, 1, 2, u32::MAX] {
        world.input(Input::RelaySocketOpened(RelaySocketId(id)));
        world.input(Input::RelaySocketFailed(RelaySocketId(id)));
    }
    assert_eq!(world.send(&a, at(PEER), b"x"), None);
    assert!(world.replies.is_empty());
}

#[test]
fn behind_a_nat_the_external_address_is_told_and_the_machines_own_is_bound() {
    let own = vec!["192.168.7.2".parse().expect("an address")];
    let external = vec!["198.41.0.4".parse().expect("an address")];
    for (detected, bound) in [(own.clone(), "192.168.7.2"), (Vec::new(), "0.0.0.0")] {
        let addresses = RelayAddresses { external: external.clone(), detected, local: own.clone() };
        let mut world = World::with(TurnConfig { addresses, ..config() });
        let client = Client::new(snug_turn_proto::Transport::Udp, A, "192.168.7.2:3478", "room", "a");
        let (mut client, relayed) = world.allocate(client);
        assert_eq!(relayed.ip().to_string(), "198.41.0.4");
        assert_eq!(world.permit(&mut client, at(PEER)), 0);
        let socket = *world.sockets.values().next().expect("a socket");
        assert_eq!((socket.ip().to_string().as_str(), socket.port()), (bound, relayed.port()));
    }
}
