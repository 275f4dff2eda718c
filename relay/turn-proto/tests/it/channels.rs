//! ChannelBind and ChannelData (RFC 8656 §12).

use snug_turn_proto::{DropReason, Transport};

use crate::stun::{self, attribute as a};
use crate::world::{
    Client, OTHER_PEER, PEER, PEER_V6, World, as_channel_data, as_data_indication, as_datagram, at,
};

const CLIENT: &str = "81.2.69.142:40000";

#[test]
fn a_channel_carries_both_ways_and_brings_its_permission() {
    let mut world = World::new();
    let (mut client, relayed) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.bind(&mut client, 0x4000, at(PEER)), 0);
    assert_eq!(as_datagram(world.channel_data(&client, 0x4000, b"hello"), at(PEER)), b"hello");
    assert_eq!(as_channel_data(world.peer_says(relayed, at(PEER), b"hi"), client.tuple, 0x4000), b"hi");
    assert_eq!(
        as_datagram(world.send(&client, at("93.184.216.34:9999"), b"x"), at("93.184.216.34:9999")),
        b"x"
    );
    let (peer, _) =
        as_data_indication(world.peer_says(relayed, at("93.184.216.34:9999"), b"x"), client.tuple);
    assert_eq!(peer.port(), 9999, "a channel is for one port");
}

#[test]
fn channel_numbers_are_those_of_rfc_8656() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    for number in [0, 0x3fff, 0x5000, 0x7fff, 0x8000, 0xffff] {
        assert_eq!(world.bind(&mut client, number, at(PEER)), 400, "{number:#x}");
    }
    assert_eq!(world.code(&mut client, stun::CHANNEL_BIND, |m| m.peer(at(PEER))), 400);
    assert_eq!(world.code(&mut client, stun::CHANNEL_BIND, |m| m.channel(0x4000)), 400);
    assert_eq!(
        world.code(&mut client, stun::CHANNEL_BIND, |m| m.put(a::CHANNEL_NUMBER, &[0x40]).peer(at(PEER))),
        400
    );
    assert_eq!(world.bind(&mut client, 0x4000, at(PEER)), 0);
    assert_eq!(world.bind(&mut client, 0x4fff, at(OTHER_PEER)), 0);
}

#[test]
fn a_number_has_one_peer_and_a_peer_one_number() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.bind(&mut client, 0x4000, at(PEER)), 0);
    assert_eq!(world.bind(&mut client, 0x4000, at(OTHER_PEER)), 400);
    assert_eq!(world.bind(&mut client, 0x4001, at(PEER)), 400);
    assert_eq!(
        world.bind(&mut client, 0x4001, at("[::ffff:93.184.216.34]:5000")),
        400,
        "the same peer, spelled differently"
    );
    assert_eq!(world.send(&client, at(OTHER_PEER), b"x"), None, "a refused binding permits nothing");
    assert_eq!(world.bind(&mut client, 0x4001, at("93.184.216.34:5001")), 0, "another port is another peer");
    assert_eq!(world.bind(&mut client, 0x4000, at(PEER)), 0, "once more prolongs");
}

#[test]
fn a_channel_lasts_ten_minutes_and_its_permission_five() {
    let mut world = World::new();
    let (mut client, relayed) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.refresh(&mut client, 3600), 0);
    assert_eq!(world.bind(&mut client, 0x4000, at(PEER)), 0);
    world.pass(300);
    assert_eq!(world.channel_data(&client, 0x4000, b"x"), None);
    assert_eq!(world.dropped(DropReason::NoPermission), 1);
    assert_eq!(world.permit(&mut client, at(PEER)), 0);
    world.pass(299);
    assert!(world.channel_data(&client, 0x4000, b"x").is_some(), "the channel was there all the time");
    world.pass(1);
    assert_eq!(world.permit(&mut client, at(PEER)), 0);
    assert_eq!(world.channel_data(&client, 0x4000, b"x"), None);
    assert_eq!(world.dropped(DropReason::NoChannel), 1);
    as_data_indication(world.peer_says(relayed, at(PEER), b"x"), client.tuple);
    assert_eq!(world.bind(&mut client, 0x4000, at(OTHER_PEER)), 0, "the number is free");
    assert_eq!(world.bind(&mut client, 0x4001, at(PEER)), 0, "and so is the peer");
}

#[test]
fn a_binding_that_is_renewed_renews_channel_and_permission() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.refresh(&mut client, 3600), 0);
    assert_eq!(world.bind(&mut client, 0x4000, at(PEER)), 0);
    for _ in 0..10 {
        world.pass(299);
        assert_eq!(world.bind(&mut client, 0x4000, at(PEER)), 0);
    }
    world.pass(299);
    assert!(world.channel_data(&client, 0x4000, b"x").is_some());
}

#[test]
fn there_are_at_most_thirty_two_channels() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    let peer = |n: u16| at(&format!("93.184.216.34:{}", 5000 + n));
    for n in 0..32 {
        assert_eq!(world.bind(&mut client, 0x4000 + n, peer(n)), 0);
    }
    assert_eq!(world.bind(&mut client, 0x4100, peer(100)), 508);
    assert_eq!(world.bind(&mut client, 0x4003, peer(3)), 0);
}

#[test]
fn a_peer_that_may_not_be_reached_gets_no_channel() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    for peer in [
        "10.0.0.1:5000",
        "127.0.0.1:5000",
        "[::ffff:127.0.0.1]:5000",
        "93.184.216.34:53",
        "93.184.216.34:0",
        "198.41.0.4:3478",
    ] {
        assert_eq!(world.bind(&mut client, 0x4000, at(peer)), 403, "{peer}");
    }
    assert_eq!(world.bind(&mut client, 0x4000, at(PEER_V6)), 443);
    assert_eq!(world.asked_to_open, 0);
}

#[test]
fn channel_data_is_padded_in_streams_and_exact_in_datagrams() {
    for transport in Transport::ALL {
        let mut world = World::new();
        let client = Client::new(transport, CLIENT, "198.41.0.4:3478", "room", "a");
        let (mut client, relayed) = world.allocate(client);
        assert_eq!(world.bind(&mut client, 0x4abc, at(PEER)), 0);
        for length in 0..9 {
            let payload = &b"12345678"[..length];
            assert_eq!(
                as_channel_data(world.peer_says(relayed, at(PEER), payload), client.tuple, 0x4abc),
                payload
            );
            // Padding may be there or not, and is no payload.
            for padding in 0..4 {
                let mut packet = stun::channel_data(0x4abc, payload);
                packet.extend(vec![0xee; padding]);
                assert_eq!(as_datagram(world.client_says(client.tuple, &packet), at(PEER)), payload);
            }
        }
    }
}

#[test]
fn channel_data_that_is_shorter_than_it_says_is_dropped() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.bind(&mut client, 0x4000, at(PEER)), 0);
    let packet = stun::channel_data(0x4000, b"12345678");
    for length in 0..packet.len() {
        assert_eq!(world.client_says(client.tuple, &packet[..length]), None);
    }
    assert_eq!(world.dropped(DropReason::NotUnderstood), packet.len() as u64);
    assert_eq!(world.channel_data(&client, 0x4001, b"x"), None, "not bound");
    let stranger = Client::udp("81.2.69.142:9", "room", "a");
    assert_eq!(world.channel_data(&stranger, 0x4000, b"x"), None, "no allocation");
}
