//! From one relayed transport address to another, in process: as if there were sockets between them.

use snug_turn_proto::{DropReason, Transport};

use crate::stun;
use crate::world::{Client, Sent, World, as_channel_data, as_data_indication, at, config};

const A: &str = "81.2.69.142:40000";
const B: &str = "81.2.70.1:40000";

#[test]
fn two_of_a_group_talk_without_any_socket() {
    let mut world = World::new();
    let (mut a, relayed_a) = world.allocated(A, "room", "a");
    let (mut b, relayed_b) = world.allocated(B, "room", "b");
    assert_eq!(world.permit(&mut a, relayed_b), 0);
    assert_eq!(world.permit(&mut b, relayed_a), 0);
    // No channel at either end.
    assert_eq!(
        as_data_indication(world.send(&a, relayed_b, b"hello"), b.tuple),
        (relayed_a, b"hello".to_vec())
    );
    // A channel here.
    assert_eq!(world.bind(&mut a, 0x4001, relayed_b), 0);
    assert_eq!(
        as_data_indication(world.channel_data(&a, 0x4001, b"hello"), b.tuple),
        (relayed_a, b"hello".to_vec())
    );
    // Channels at both ends, each with its own number.
    assert_eq!(world.bind(&mut b, 0x4002, relayed_a), 0);
    assert_eq!(as_channel_data(world.channel_data(&a, 0x4001, b"hello"), b.tuple, 0x4002), b"hello");
    assert_eq!(as_channel_data(world.channel_data(&b, 0x4002, b"hi"), a.tuple, 0x4001), b"hi");
    // A channel there.
    assert_eq!(as_channel_data(world.send(&a, relayed_b, b"hello"), b.tuple, 0x4002), b"hello");
    assert_eq!(world.asked_to_open, 0);
    let stats = world.server.stats();
    assert_eq!((stats.packets_in_process, stats.bytes_in_process), (5, 22));
    assert_eq!((stats.packets_from_clients, stats.packets_to_clients), (5, 5));
}

#[test]
fn every_pair_of_transports_and_families_works() {
    let clients = [
        (Transport::Udp, "81.2.69.142:1000", "198.41.0.4:3478"),
        (Transport::Tcp, "[2a00:1::7]:1001", "[2a02:1::9]:3478"),
        (Transport::Tls, "81.2.69.142:1002", "198.41.0.4:5349"),
    ];
    for family in [1, 2] {
        for (from, to) in (0..3).flat_map(|x| (0..3).map(move |y| (x, y))).filter(|(x, y)| x != y) {
            let mut world = World::new();
            let [mut a, mut b] = [from, to].map(|n| {
                let (transport, client, server) = clients[n];
                Client::new(transport, client, server, "room", "a")
            });
            world.admit("room", "a");
            let [relayed_a, relayed_b] = [&mut a, &mut b].map(|client| {
                let answer = world.ask(client, stun::ALLOCATE, |m| m.transport(17).family(family));
                answer.address(stun::attribute::XOR_RELAYED_ADDRESS).expect("a relayed transport address")
            });
            assert_eq!(world.bind(&mut a, 0x4001, relayed_b), 0);
            assert_eq!(world.bind(&mut b, 0x4002, relayed_a), 0);
            for length in 0..6 {
                let payload = &b"12345"[..length.min(5)];
                assert_eq!(
                    as_channel_data(world.channel_data(&a, 0x4001, payload), b.tuple, 0x4002),
                    payload
                );
            }
        }
    }
}

#[test]
fn the_far_side_has_to_permit_it() {
    let mut world = World::new();
    let (mut a, relayed_a) = world.allocated(A, "room", "a");
    let (mut b, relayed_b) = world.allocated(B, "room", "b");
    assert_eq!(world.bind(&mut a, 0x4001, relayed_b), 0);
    assert_eq!(world.channel_data(&a, 0x4001, b"x"), None);
    assert_eq!(world.dropped(DropReason::NoPermission), 1);
    assert_eq!(world.permit(&mut b, relayed_a), 0);
    assert!(world.channel_data(&a, 0x4001, b"x").is_some());
    world.pass(299);
    assert_eq!(world.bind(&mut a, 0x4001, relayed_b), 0);
    world.pass(1);
    assert_eq!(world.channel_data(&a, 0x4001, b"x"), None, "the far permission is over");
}

#[test]
fn another_group_is_out_of_reach() {
    let mut world = World::new();
    let (mut a, relayed_a) = world.allocated(A, "room", "a");
    let (mut stranger, relayed_stranger) = world.allocated(B, "other", "a");
    assert_eq!(world.permit(&mut a, relayed_stranger), 403);
    assert_eq!(world.bind(&mut a, 0x4001, relayed_stranger), 403);
    assert_eq!(world.permit(&mut stranger, relayed_a), 403);
    // A permission for the server's address, as another relayed peer gives it, does not open the way either.
    let (mut b, relayed_b) = world.allocated("81.2.70.1:40001", "room", "b");
    assert_eq!(world.permit(&mut a, relayed_b), 0);
    let (mut friend, relayed_friend) = world.allocated("81.2.70.1:40002", "other", "b");
    assert_eq!(world.permit(&mut stranger, relayed_friend), 0);
    assert_eq!(world.permit(&mut friend, relayed_stranger), 0);
    assert_eq!(world.permit(&mut b, relayed_a), 0);
    assert_eq!(world.send(&a, relayed_stranger, b"x"), None);
    assert_eq!(world.send(&stranger, relayed_a, b"x"), None);
    assert_eq!(world.dropped(DropReason::OtherGroup), 2);
    assert!(
        world.send(&a, relayed_b, b"x").is_some() && world.send(&stranger, relayed_friend, b"x").is_some()
    );
}

#[test]
fn an_address_that_went_to_another_group_is_out_of_reach_for_its_old_peers() {
    let mut config = config();
    config.relay_ports = 10_000..=10_001;
    let mut world = World::with(config);
    let (mut a, relayed_a) = world.allocated(A, "room", "a");
    let (mut b, relayed_b) = world.allocated(B, "room", "b");
    assert_eq!(world.bind(&mut a, 0x4001, relayed_b), 0);
    assert_eq!(world.bind(&mut b, 0x4002, relayed_a), 0);
    assert!(world.channel_data(&a, 0x4001, b"x").is_some());
    assert_eq!(world.refresh(&mut b, 0), 0);
    assert_eq!(world.channel_data(&a, 0x4001, b"x"), None, "nobody is there");
    assert_eq!(world.dropped(DropReason::OtherGroup), 1);
    let (mut stranger, relayed_stranger) = world.allocated("81.2.71.1:1", "other", "a");
    assert_eq!(relayed_stranger, relayed_b, "the only free port");
    assert_eq!(world.channel_data(&a, 0x4001, b"x"), None);
    assert_eq!(world.dropped(DropReason::OtherGroup), 2);
    assert_eq!(world.bind(&mut a, 0x4001, relayed_b), 403, "nor can the channel be renewed");
    assert_eq!(world.permit(&mut stranger, relayed_a), 403);
    assert_eq!(world.refresh(&mut stranger, 0), 0);
    let (mut c, relayed_c) = world.allocated("81.2.70.1:50000", "room", "c");
    assert_eq!(relayed_c, relayed_b);
    assert_eq!(world.permit(&mut c, relayed_a), 0);
    as_data_indication(world.channel_data(&a, 0x4001, b"x"), c.tuple);
}

#[test]
fn an_allocation_whose_time_is_over_receives_nothing_though_nobody_woke_the_server() {
    let mut world = World::new();
    let (mut a, relayed_a) = world.allocated(A, "room", "a");
    let (mut b, relayed_b) = world.allocated(B, "room", "b");
    world.pass(400);
    assert_eq!(world.refresh(&mut a, 600), 0);
    assert_eq!(world.bind(&mut a, 0x4001, relayed_b), 0);
    assert_eq!(world.bind(&mut b, 0x4001, relayed_a), 0);
    world.sleep(200);
    assert_eq!(world.channel_data(&a, 0x4001, b"x"), None);
    assert_eq!(world.channel_data(&b, 0x4001, b"x"), None, "nor does it send");
    assert_eq!((world.dropped(DropReason::OtherGroup), world.dropped(DropReason::NoAllocation)), (1, 1));
}

#[test]
fn a_port_of_the_range_that_nobody_has_leads_nowhere() {
    let mut world = World::new();
    let (mut a, relayed_a) = world.allocated(A, "room", "a");
    let nobody = at(&format!("198.41.0.4:{}", if relayed_a.port() == 10_500 { 10_501 } else { 10_500 }));
    assert_eq!(world.bind(&mut a, 0x4001, nobody), 403);
    assert_eq!(world.permit(&mut a, nobody), 0, "the allocation that it is for may come later");
    assert_eq!(world.asked_to_open, 0);
    assert_eq!(world.send(&a, nobody, b"x"), None);
}

#[test]
fn somebody_may_talk_to_themselves() {
    let mut world = World::new();
    let (mut a, relayed_a) = world.allocated(A, "room", "a");
    assert_eq!(world.bind(&mut a, 0x4001, relayed_a), 0);
    assert_eq!(as_channel_data(world.channel_data(&a, 0x4001, b"echo"), a.tuple, 0x4001), b"echo");
}

#[test]
fn what_fits_no_datagram_is_dropped_in_process_as_well() {
    let mut world = World::new();
    let (mut a, relayed_a) = world.allocate(Client::tcp(A, "room", "a"));
    let (mut b, relayed_b) = world.allocated(B, "room", "b");
    assert_eq!(world.bind(&mut a, 0x4001, relayed_b), 0);
    assert_eq!(world.permit(&mut b, relayed_a), 0);
    for with_channel in [false, true] {
        if with_channel {
            assert_eq!(world.bind(&mut b, 0x4001, relayed_a), 0);
        }
        for (length, passes) in [
            (65_000, true),
            (65_456, true),
            (65_457, false),
            (65_507, false),
            (65_508, false),
            (65_535, false),
        ] {
            let sent = world.channel_data(&a, 0x4001, &vec![7; length]);
            assert_eq!(sent.is_some(), passes, "{length}");
            if let Some(Sent::ToClient(_, bytes)) = sent {
                assert!(bytes.len() <= 65_507);
            }
        }
    }
    let stats = world.server.stats();
    assert_eq!(stats.packets_from_clients, stats.packets_to_clients);
}

#[test]
fn packets_to_one_client_are_one_flow_and_those_of_its_sockets_others() {
    let mut world = World::new();
    let (mut a, relayed_a) = world.allocated(A, "room", "a");
    let (mut b, relayed_b) = world.allocated(B, "room", "b");
    assert_eq!(world.bind(&mut a, 0x4001, relayed_b), 0);
    assert_eq!(world.bind(&mut b, 0x4001, relayed_a), 0);
    assert_eq!(world.bind(&mut a, 0x4002, at(crate::world::PEER)), 0);
    let mut flow = |client: &Client, number| {
        let packet = stun::channel_data(number, b"x");
        match world.server.handle_client(&client.tuple, &packet, world.now) {
            snug_turn_proto::Verdict::Forward(forward) => forward.flow,
            other => panic!("{other:?}"),
        }
    };
    let flows = [flow(&a, 0x4001), flow(&b, 0x4001), flow(&a, 0x4002)];
    assert_eq!(flows[0], flow(&a, 0x4001));
    assert!(flows[0] != flows[1] && flows[1] != flows[2] && flows[0] != flows[2], "{flows:?}");
}
