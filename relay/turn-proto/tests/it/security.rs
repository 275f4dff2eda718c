//! What went wrong in other TURN servers, each as a test.
//!
//! | history | here |
//! | --- | --- |
//! | admin pages, HTTP parsers and telnet on media ports | there are none; other protocols end at their first byte (below, and the fuzz targets) |
//! | 0.0.0.0, `[::]`, mapped and other spellings of IPv4 reach loopback | `policy.rs`, and through requests below |
//! | IPv6 ranges compared byte by byte | `policy.rs`, against 128-bit integers |
//! | attributes behind MESSAGE-INTEGRITY honoured | below |
//! | mobility: quotas released, resumes unbounded | mobility is not offered; a quota over reconnects below |
//! | EVEN-PORT leaked a port | below, 100,000 allocations |
//! | DTLS half-open state | there is no DTLS |
//! | state for each unauthenticated packet | below, and resident memory in `tests/memory.rs` |
//! | ports, nonces and transaction ids that can be guessed | below |
//! | truncated lengths, counters that wrap, the last of two addresses wins | below, and the fuzz targets |
//! | format strings in usernames | below; logs are the shell's |
//! | reflection | below |
//! | scans of private networks and metadata services | `policy.rs`, and through requests below |
//! | MACs compared in variable time | `subtle`; no test can see it |
//! | AES-GCM nonces used twice | TLS is rustls's, in the shell |

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use snug_turn_proto::{
    DropReason, FiveTuple, FramingError, Input, Output, PeerPolicy, Refusal, RelayAddresses, Secret,
    Transport, TurnConfig, Verdict, frame_length,
};

use crate::oracle;
use crate::stun::{self, Builder, Integrity, Message, attribute as a};
use crate::world::{
    Client, OTHER_PEER, PEER, PEER_V6, REALM, SERVER_V4, START, Sent, World, account, as_channel_data,
    as_datagram, at, config,
};

const CLIENT: &str = "81.2.69.142:40000";

/// Bytes on the wire around a datagram's payload: IP and UDP.
fn around(tuple: &FiveTuple) -> usize {
    if tuple.client.is_ipv4() { 28 } else { 48 }
}

#[test]
fn attributes_behind_message_integrity_are_ignored() {
    for integrity in [Integrity::Sha1, Integrity::Sha256] {
        let mut world = World::new();
        let client = Client { integrity, ..Client::tcp(CLIENT, "room", "a") };
        let (client, _) = world.allocate(client);
        type Behind = fn(Builder) -> Builder;
        let behind: [(u16, Behind, Behind); 5] = [
            (stun::CREATE_PERMISSION, |m| m.peer(at(PEER)), |m| m.peer(at(OTHER_PEER))),
            (stun::CREATE_PERMISSION, |m| m.peer(at(PEER)), |m| m.peer(at("127.0.0.1:5000")).fingerprint()),
            (stun::REFRESH, |m| m, |m| m.lifetime(0)),
            (stun::REFRESH, |m| m, |m| m.put(0x0077, b"unknown")),
            (
                stun::CHANNEL_BIND,
                |m| m.channel(0x4000).peer(at(PEER)),
                |m| m.peer(at(OTHER_PEER)).channel(0x4001),
            ),
        ];
        for (method, before, after) in behind {
            let request = before(world.request(method));
            let packet = after(client.sign(request)).finish();
            let answer = world.exchange(client.tuple, &packet).expect("an answer");
            assert_eq!(answer.error(), None, "{method}");
        }
        assert_eq!(world.allocations(), 1);
        assert!(world.send(&client, at(PEER), b"x").is_some());
        assert_eq!(world.send(&client, at(OTHER_PEER), b"x"), None);
        assert_eq!(world.channel_data(&client, 0x4001, b"x"), None);
        // What has to be before it cannot stand behind it.
        let request = world.request(stun::CREATE_PERMISSION);
        let packet = client.sign(request).peer(at(OTHER_PEER)).finish();
        assert_eq!(world.exchange(client.tuple, &packet).and_then(|answer| answer.error()), Some(400));
        let request = world.request(stun::REFRESH).sign(&client.key(), integrity);
        let packet = request
            .put(a::USERNAME, client.username.as_bytes())
            .put(a::REALM, REALM.as_bytes())
            .put(a::NONCE, client.nonce.as_bytes())
            .finish();
        assert_eq!(world.exchange(client.tuple, &packet).and_then(|answer| answer.error()), Some(400));
        // Nor behind a FINGERPRINT, signed or not.
        let request = world.request(stun::REFRESH).lifetime(0).fingerprint();
        let packet = client.sign(request).finish();
        assert_eq!(
            world.exchange(client.tuple, &packet).and_then(|answer| answer.error()),
            Some(401),
            "as if it had none"
        );
        assert_eq!(world.allocations(), 1);
    }
}

#[test]
fn a_hundred_thousand_allocations_of_every_kind_leave_nothing_behind() {
    let ports = 10_000..=10_063;
    let mut config = TurnConfig { relay_ports: ports.clone(), ..config() };
    config.quotas.per_owner.allocations = 64;
    let mut world = World::with(config);
    for owner in ["a", "b"] {
        world.admit("room", owner);
    }
    let nothing: [u8; 0] = [];
    let mixes: [&[(u16, &[u8])]; 10] = [
        &[],
        &[(a::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])],
        &[(a::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])],
        &[(a::EVEN_PORT, &[0])],
        &[(a::EVEN_PORT, &[0x80])],
        &[(a::RESERVATION_TOKEN, &[7; 8])],
        &[(a::DONT_FRAGMENT, &nothing)],
        &[(a::LIFETIME, &[0, 0, 0, 0])],
        &[(a::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]), (a::EVEN_PORT, &[0])],
        &[(a::REQUESTED_ADDRESS_FAMILY, &[9, 0, 0, 0])],
    ];
    let mut clients: Vec<Client> = (0..8)
        .map(|n| Client::udp(&format!("81.2.69.{n}:4000"), "room", if n % 2 == 0 { "a" } else { "b" }))
        .collect();
    for client in &mut clients {
        let (_, name) = client.username.split_once(':').expect("a username");
        client.username = format!("{}:{name}", START + 1_000_000_000);
    }
    let mut made = 0;
    for round in 0..100_000_usize {
        let client = &mut clients[round % 8];
        let mix = mixes[round / 8 % mixes.len()];
        let code = world.code(client, stun::ALLOCATE, |message| {
            mix.iter().fold(message.transport(17), |message, (kind, value)| message.put(*kind, value))
        });
        if code != 0 {
            continue;
        }
        made += 1;
        match made % 6 {
            0 => world.input(Input::ClientGone(client.tuple)),
            1 => {
                world.input(Input::Revoke(account("room", "a")));
                world.input(Input::Revoke(account("room", "b")));
                world.admit("room", "a");
                world.admit("room", "b");
            }
            2 => world.pass(3600),
            3 => {
                let peer = if mix.iter().any(|(kind, _)| *kind == a::REQUESTED_ADDRESS_FAMILY) {
                    PEER_V6
                } else {
                    PEER
                };
                world.ports_are_taken = made % 4 == 0;
                world.permit(client, at(peer));
                assert_eq!(world.refresh(client, 0), 0);
            }
            4 => {
                world.sleep(601);
                assert_eq!(
                    world.code(client, stun::ALLOCATE, |m| m.transport(17)),
                    0,
                    "in the place of the expired"
                );
                assert_eq!(world.refresh(client, 0), 0);
            }
            _ => assert_eq!(world.refresh(client, 0), 0),
        }
    }
    assert!(made > 30_000, "{made}");
    world.pass(3600);
    assert_eq!((world.allocations(), world.sockets.len()), (0, 0));
    assert_eq!(world.server.stats().allocations_by, [0; 3]);
    assert_eq!(world.server.poll_timeout(), None);
    assert_eq!(world.server.poll_output(), None);
    // Every port of both families can be had, and so can every place in the quotas.
    let mut taken = BTreeSet::new();
    for n in 0..64 {
        // When few are left, nobody gets more than 32.
        let owner = if n < 32 { "a" } else { "b" };
        // One address block gets only some of them.
        let mut client = Client::udp(&format!("81.2.{n}.1:1000"), "room", owner);
        client.username = format!("{}:room.{owner}", world.now.unix + 60);
        let answer = world.ask(&mut client, stun::ALLOCATE, |message| message.transport(17).additional(2));
        taken.extend(answer.addresses(a::XOR_RELAYED_ADDRESS));
    }
    assert_eq!(taken.len(), 128);
    let mut late = Client::udp("81.2.69.1:1", "room", "c");
    world.admit("room", "c");
    late.username = format!("{}:room.c", world.now.unix + 60);
    assert_eq!(world.code(&mut late, stun::ALLOCATE, |message| message.transport(17)), 508);
}

#[test]
fn a_quota_holds_whoever_reconnects_from_wherever() {
    let mut config = config();
    config.quotas.per_owner.allocations = 4;
    let mut world = World::with(config);
    world.admit("room", "a");
    let mut granted = 0;
    for n in 0..40 {
        let transport = Transport::ALL[n % 3];
        let client =
            &mut Client::new(transport, &format!("81.{n}.69.142:4000"), "198.41.0.4:3478", "room", "a");
        client.username = format!("{}:room.a", START + 3600 + n as u64);
        granted += u32::from(world.code(client, stun::ALLOCATE, |message| message.transport(17)) == 0);
        world.admit("room", "a");
        assert!(world.allocations() <= 4);
    }
    assert_eq!((granted, world.allocations()), (4, 4));
}

#[test]
fn a_million_unauthenticated_requests_leave_nothing_behind() {
    let mut world = World::new();
    let packet = world.request(stun::ALLOCATE).transport(17).finish();
    let mut answers = 0_u32;
    for n in 0..1_000_000_u32 {
        let client = SocketAddr::new(Ipv4Addr::from(0x5102_0000 | (n >> 16)).into(), n as u16);
        let tuple = FiveTuple { transport: Transport::Udp, client, server: at("198.41.0.4:3478") };
        world.server.handle_client(&tuple, &packet, world.now);
        answers += u32::from(matches!(world.server.poll_output(), Some(Output::Reply { .. })));
        assert_eq!(world.server.poll_output(), None);
    }
    assert!((2000..=2001).contains(&answers), "one network: {answers}");
    assert_eq!(world.refused(Refusal::Silenced), u64::from(1_000_000 - answers));
    assert_eq!((world.allocations(), world.server.stats().allocated), (0, 0));
    assert_eq!(world.server.poll_timeout(), None, "nothing is there that could expire");
}

#[test]
fn a_flood_from_forged_addresses_cannot_silence_who_has_an_allocation() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    let old = client.nonce.clone();
    for _ in 0..3 {
        world.pass(550);
        client.nonce.clone_from(&old);
        // Somebody sends with the client's address and port, too.
        for n in 0..20_000_u16 {
            let forged = Client::udp(&format!("81.2.69.142:{}", n % 2000 + 39_000), "room", "a").tuple;
            let method = if n % 2 == 0 { stun::REFRESH } else { stun::BINDING };
            let packet = world.request(method).lifetime(0).finish();
            world.server.handle_client(&forged, &packet, world.now);
            while world.server.poll_output().is_some() {}
        }
        let binding = world.request(stun::BINDING).finish();
        assert_eq!(world.exchange(client.tuple, &binding), None, "the network is silenced");
        assert_eq!(
            world.refresh(&mut client, 600),
            0,
            "an old nonce of this 5-tuple is answered all the same"
        );
    }
    assert_eq!(world.allocations(), 1);
}

#[test]
fn after_weeks_strangers_are_answered_as_on_the_first_day() {
    let mut world = World::new();
    for day in 0..120 {
        let client = Client::udp(&format!("81.2.{day}.1:4000"), "room", "a");
        let packet = world.request(stun::BINDING).finish();
        assert!(world.exchange(client.tuple, &packet).is_some(), "day {day}");
        world.sleep(86_400);
    }
}

/// Pearson's statistic over equally likely buckets.
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

#[test]
fn ports_cannot_be_guessed() {
    let ports = |seed: u8| {
        let mut world = World::new();
        world.server = snug_turn_proto::TurnServer::new(
            TurnConfig { relay_ports: 10_000..=19_999, ..config() },
            [seed; 32],
            world.now,
        );
        world.admit("room", "a");
        let mut client = Client::udp(CLIENT, "room", "a");
        (0..1000)
            .map(|_| {
                let answer = world.ask(&mut client, stun::ALLOCATE, |message| message.transport(17));
                assert_eq!(world.refresh(&mut client, 0), 0);
                answer.address(a::XOR_RELAYED_ADDRESS).expect("a relayed transport address").port()
            })
            .collect::<Vec<u16>>()
    };
    let (one, other) = (ports(1), ports(2));
    assert!(one.iter().zip(&other).filter(|(x, y)| x == y).count() < 10, "another seed, other ports");
    let (mut buckets, mut steps) = ([0; 20], [0; 20]);
    for port in &one {
        buckets[usize::from(port - 10_000) / 500] += 1;
    }
    for pair in one.windows(2) {
        steps[usize::from((pair[1] + 10_000 - pair[0]) % 10_000) / 500] += 1;
    }
    // 19 degrees of freedom: above 43.8 with a probability of 0.1 %.
    assert!(chi_square(&buckets) < 43.8 && chi_square(&steps) < 43.8, "{buckets:?} {steps:?}");
}

#[test]
fn transaction_ids_of_data_indications_cannot_be_guessed() {
    let mut world = World::new();
    let (mut client, relayed) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.permit(&mut client, at(PEER)), 0);
    let mut counts = [[0_u32; 256]; 12];
    let mut seen = BTreeSet::new();
    for _ in 0..20_000 {
        world.pass(0);
        let Some(Sent::ToClient(_, bytes)) = world.peer_says(relayed, at(PEER), b"x") else {
            panic!("not sent")
        };
        let transaction: [u8; 12] = bytes[8..20].try_into().expect("twelve bytes");
        assert!(seen.insert(transaction), "one came twice");
        transaction.iter().zip(&mut counts).for_each(|(byte, counts)| counts[usize::from(*byte)] += 1);
        if seen.len() % 5000 == 0 {
            world.pass(5);
        }
    }
    // 255 degrees of freedom: above 330 with a probability of 0.1 %; twelve tries.
    for (place, counts) in counts.iter().enumerate() {
        assert!(chi_square(counts) < 345.0, "byte {place}: {}", chi_square(counts));
    }
}

#[test]
fn lengths_at_the_end_of_sixteen_bits_are_only_lengths() {
    let mut world = World::new();
    let (mut client, _) = world.allocate(Client::tcp(CLIENT, "room", "a"));
    assert_eq!(world.bind(&mut client, 0x4000, at(PEER)), 0);
    let transaction = world.transaction();
    for length in [0xfff8_u16, 0xfffc, 0xfffd, 0xfffe, 0xffff] {
        for size in [0, 4, 8, 20, 24, 0xffe8, 0xfff8, 0xfffc, 0xffff, 0x1_0000, 0x1_000f, 0x1_0013] {
            for first in [0x00, 0x01, 0x40] {
                let mut packet = Builder::new(stun::REQUEST, stun::BINDING, transaction).finish();
                packet[0] = first;
                packet.resize(20 + size, 0);
                packet[2..4].copy_from_slice(&length.to_be_bytes());
                world.server.handle_client(&client.tuple, &packet, world.now);
                // The same length in an attribute.
                packet[2..4].copy_from_slice(&(size as u16 & !3).to_be_bytes());
                packet.truncate(20 + (size & !3));
                if size >= 4 {
                    packet[20..24].copy_from_slice(&[0, 0x13, (length >> 8) as u8, length as u8]);
                }
                world.server.handle_client(&client.tuple, &packet, world.now);
                while world.server.poll_output().is_some() {}
            }
        }
    }
    // The longest there are.
    let most = vec![0; 0xfffc - 4];
    let binding = world.request(stun::BINDING).put(a::SOFTWARE, &most).finish();
    assert_eq!(world.exchange(client.tuple, &binding), None, "no request is that long");
    for (length, passes) in [(65_507, true), (65_508, false), (0xfffc - 4 - 12, false)] {
        assert_eq!(world.send(&client, at(PEER), &vec![0; length]).is_some(), passes, "{length}");
    }
    for (length, passes) in [(65_507, true), (65_508, false), (65_535, false)] {
        assert_eq!(world.channel_data(&client, 0x4000, &vec![0; length]).is_some(), passes, "{length}");
    }
}

#[test]
fn of_two_addresses_the_first_counts() {
    let mut world = World::new();
    let (mut client, relayed) = world.allocated(CLIENT, "room", "a");
    let both =
        |message: Builder| message.channel(0x4000).peer(at(PEER)).peer(at("127.0.0.1:5000")).channel(0x4001);
    assert_eq!(world.code(&mut client, stun::CHANNEL_BIND, both), 0);
    assert_eq!(as_datagram(world.channel_data(&client, 0x4000, b"x"), at(PEER)), b"x");
    assert_eq!(world.channel_data(&client, 0x4001, b"x"), None);
    as_channel_data(world.peer_says(relayed, at(PEER), b"x"), client.tuple, 0x4000);
    let transaction = world.transaction();
    let packet = Builder::new(stun::INDICATION, stun::SEND, transaction)
        .peer(at(PEER))
        .peer(at("127.0.0.1:5000"))
        .put(a::DATA, b"first")
        .put(a::DATA, b"second")
        .finish();
    assert_eq!(as_datagram(world.client_says(client.tuple, &packet), at(PEER)), b"first");
    // The first is denied: the second does not help.
    let reversed = |message: Builder| message.channel(0x4002).peer(at("127.0.0.1:5000")).peer(at(PEER));
    assert_eq!(world.code(&mut client, stun::CHANNEL_BIND, reversed), 403);
    let answer = world.ask(&mut client, stun::REFRESH, |message| message.lifetime(700).lifetime(0));
    assert_eq!(answer.number(a::LIFETIME), Some(700));
}

#[test]
fn who_comes_from_a_relayed_address_of_this_server_gets_none() {
    let mut world = World::new();
    let (_, relayed) = world.allocate(Client::udp(CLIENT, "room", "a"));
    world.admit("other", "b");
    let mut nested = Client::udp(&relayed.to_string(), "other", "b");
    assert_eq!(world.code(&mut nested, stun::ALLOCATE, |message| message.transport(17)), 403);
}

#[test]
fn an_address_by_which_clients_come_is_this_machine_whether_it_was_known_or_not() {
    let mut world = World::new();
    let mut visitor = Client::udp(CLIENT, "room", "a");
    visitor.tuple.server = at("51.7.7.7:3478");
    let (mut client, _) = world.allocate(visitor);
    assert_eq!(world.bind(&mut client, 0x4000, at("51.7.7.7:9000")), 403);
    // What the machine says of its interfaces does not take that back, and adds to it.
    let own = vec!["51.7.7.9".parse().expect("an address")];
    world.input(Input::OwnAddresses { own, on_link: Vec::new() });
    assert_eq!(world.bind(&mut client, 0x4000, at("51.7.7.7:9000")), 403);
    assert_eq!(world.bind(&mut client, 0x4000, at("51.7.7.9:9000")), 403);
    assert_eq!(world.bind(&mut client, 0x4000, at("51.7.7.8:9000")), 0);
}

/// A server whose neighbours have public addresses.
fn among_neighbours(allow: &[&str]) -> TurnConfig {
    let networks = |list: &[&str]| list.iter().map(|text| text.parse().expect("a network")).collect();
    let config = config();
    TurnConfig {
        policy: PeerPolicy {
            allow: networks(allow),
            on_link: networks(&["198.41.0.0/24", "2a02:1::/64"]),
            ..config.policy
        },
        ..config
    }
}

#[test]
fn the_neighbours_of_the_server_are_no_peers_though_their_addresses_are_public() {
    let mut world = World::with(among_neighbours(&[]));
    world.admit("room", "a");
    let mut client = Client::udp(CLIENT, "room", "a");
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |message| message.transport(17).additional(2)), 0);
    let neighbour = Ipv4Addr::new(198, 41, 0, 77);
    let mut denied = vec![IpAddr::from(neighbour)];
    denied.extend(oracle::spellings(neighbour.into()).into_iter().map(|(_, v6)| IpAddr::from(v6)));
    denied.extend(
        ["2a02:1::", "2a02:1::1", "2a02:1::ffff:ffff:ffff:ffff"].map(|ip| at(&format!("[{ip}]:1")).ip()),
    );
    for ip in denied {
        let peer = SocketAddr::new(ip, 5000);
        assert_eq!(world.permit(&mut client, peer), 403, "{ip}");
        assert_eq!(world.bind(&mut client, 0x4000, peer), 403, "{ip}");
        assert_eq!(world.send(&client, peer, b"x"), None, "{ip}");
    }
    assert_eq!(world.asked_to_open, 0);
    for peer in ["198.41.1.1:5000", "[2a02:1:0:1::1]:5000"] {
        assert_eq!(world.permit(&mut client, at(peer)), 0, "{peer} is behind a router");
    }
}

#[test]
fn participants_still_meet_at_a_server_whose_neighbours_are_no_peers() {
    let mut world = World::with(among_neighbours(&[]));
    let (mut one, relayed_one) = world.allocated(CLIENT, "room", "a");
    let (mut other, relayed_other) = world.allocated("81.2.70.1:4000", "room", "b");
    assert_eq!(world.permit(&mut one, relayed_other), 0);
    assert_eq!(world.bind(&mut other, 0x4000, relayed_one), 0);
    assert_eq!(as_channel_data(world.send(&one, relayed_other, b"x"), other.tuple, 0x4000), b"x");
    // Their permissions for this machine's address open nothing beside it.
    assert_eq!(world.permit(&mut one, at("198.41.0.5:5000")), 403);
}

#[test]
fn a_neighbour_is_a_peer_where_the_operator_allows_it() {
    let mut world = World::with(among_neighbours(&["2a02:1::/64", "198.41.0.77"]));
    world.admit("room", "a");
    let mut client = Client::udp(CLIENT, "room", "a");
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |message| message.transport(17).additional(2)), 0);
    for (peer, code) in [
        ("[2a02:1::5]:5000", 0),
        ("198.41.0.77:5000", 0),
        ("198.41.0.78:5000", 403),
        ("[2a02:1::9]:5000", 403),
    ] {
        assert_eq!(world.permit(&mut client, at(peer)), code, "{peer}");
    }
}

#[test]
fn neighbours_of_an_interface_that_came_later_are_no_peers_from_then_on() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    let neighbour = at("198.41.0.77:5000");
    assert_eq!(world.permit(&mut client, neighbour), 0);
    assert_eq!(world.bind(&mut client, 0x4000, neighbour), 0);
    assert_eq!(world.bind(&mut client, 0x4001, at(PEER)), 0);
    assert!(world.send(&client, neighbour, b"x").is_some());
    let own = vec![at(SERVER_V4).ip()];
    let on_link = vec!["198.41.0.0/24".parse().expect("a network")];
    world.input(Input::OwnAddresses { own, on_link });
    assert_eq!(world.send(&client, neighbour, b"x"), None, "the permission is older");
    assert_eq!(world.channel_data(&client, 0x4000, b"x"), None, "the channel is older");
    assert!(world.channel_data(&client, 0x4001, b"x").is_some(), "others are not touched");
    assert_eq!(world.permit(&mut client, neighbour), 403);
}

#[test]
fn one_participant_cannot_take_the_relay_sockets_of_all() {
    let mut world = World::with(TurnConfig { relay_sockets: 80, ..config() });
    let mut codes = Vec::new();
    for n in 0..30 {
        let (mut client, _) = world.allocate(Client::udp(&format!("81.2.69.142:{}", 4000 + n), "room", "a"));
        codes.push(world.bind(&mut client, 0x4000, at(PEER)));
    }
    // A quarter of what is left, and sixteen in any case.
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 16);
    assert!(codes[16..].iter().all(|code| *code == 486), "{codes:?}");
    let (mut other, _) = world.allocate(Client::udp("81.2.70.1:4000", "room", "b"));
    assert_eq!(world.bind(&mut other, 0x4000, at(PEER)), 0);
}

#[test]
fn one_address_block_cannot_take_the_relay_sockets_of_all() {
    let mut world = World::with(TurnConfig { relay_sockets: 60, ..config() });
    let mut open = |block: u8, n: u8| {
        let (address, owner) = (format!("81.2.{block}.{n}:4000"), format!("{block}-{n}"));
        let (mut client, _) = world.allocate(Client::udp(&address, "room", &owner));
        (world.bind(&mut client, 0x4000, at(PEER)), client)
    };
    let codes: Vec<u16> = (0..60).map(|n| open(69, n).0).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 20, "a third");
    assert!(codes[20..].iter().all(|code| *code == 486), "{codes:?}");
    let (code, mut other) = open(70, 1);
    assert_eq!(code, 0, "the next block has its own share");
    // What is given back can be had again.
    assert_eq!(world.refresh(&mut other, 0), 0);
    assert_eq!(world.sockets.len(), 20);
    world.pass(600);
    assert!(world.sockets.is_empty());
    let (mut again, _) = world.allocate(Client::udp("81.2.69.1:4001", "room", "69-1"));
    assert_eq!(world.bind(&mut again, 0x4000, at(PEER)), 0);
}

#[test]
fn usernames_are_bytes() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client = Client::udp(CLIENT, "room", "a");
    assert_eq!(world.code(&mut client, stun::REFRESH, |message| message), 437);
    let expiry = (START + 3600).to_string();
    for username in [
        &b"%s%s%n%n%x"[..],
        b"\xff\xfe\x00",
        b"\0",
        b"",
        b":",
        b"'; DROP TABLE turnusers_lt; --",
        b"-1:room.a",
        b"99999999999999999999999:room.a",
        format!("{expiry}:room.a\0").as_bytes(),
        format!("{expiry}:ROOM.a").as_bytes(),
        format!("{expiry}:room.a ").as_bytes(),
        format!(" {expiry}:room.a").as_bytes(),
        format!("{expiry}:room.\u{430}").as_bytes(),
        &[b'9'; 509],
    ] {
        // Signed with what the server would compute for it, were it text.
        let text = String::from_utf8_lossy(username).into_owned();
        let key = stun::long_term_key(&text, REALM, &stun::password(&client.secret, &text), false);
        let packet = world
            .request(stun::ALLOCATE)
            .transport(17)
            .put(a::USERNAME, username)
            .put(a::REALM, REALM.as_bytes())
            .put(a::NONCE, client.nonce.as_bytes())
            .sign(&key, Integrity::Sha1)
            .finish();
        let answer = world.exchange(client.tuple, &packet).expect("an answer");
        assert_eq!(answer.error(), Some(401), "{text}");
        assert!(!answer.has(a::USERNAME), "nothing of it comes back");
    }
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => Just(vec![17, 0, 0, 0]),
        2 => Just(Vec::new()),
        2 => prop::collection::vec(any::<u8>(), 0..24),
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => Just(vec![0, 2, 0, 0, 0, 1, 0, 0]),
    ]
}

fn kind() -> impl Strategy<Value = u16> {
    prop_oneof![
        4 => Just(a::REQUESTED_TRANSPORT),
        8 => prop::sample::select(vec![
            a::USERNAME, a::MESSAGE_INTEGRITY, a::CHANNEL_NUMBER, a::LIFETIME, a::XOR_PEER_ADDRESS, a::DATA, a::REALM, a::NONCE,
            a::REQUESTED_ADDRESS_FAMILY, a::EVEN_PORT, a::DONT_FRAGMENT, a::MESSAGE_INTEGRITY_SHA256, a::PASSWORD_ALGORITHM,
            a::RESERVATION_TOKEN, a::ADDITIONAL_ADDRESS_FAMILY, a::PASSWORD_ALGORITHMS, a::SOFTWARE, a::FINGERPRINT, a::ERROR_CODE,
        ]),
        2 => any::<u16>(),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<(u16, Vec<u8>)>> {
    prop::collection::vec((kind(), value()), 0..8)
}

/// Whatever a stranger can know: the realm, and a nonce of somebody else.
fn stranger_s(attributes: &[(u16, Vec<u8>)], message: Builder, fingerprint: bool) -> Vec<u8> {
    let message = attributes.iter().fold(message, |message, (kind, value)| match *kind {
        a::REALM if value.is_empty() => message.put(*kind, REALM.as_bytes()),
        kind => message.put(kind, value),
    });
    if fingerprint { message.fingerprint().finish() } else { message.finish() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn an_answer_to_a_stranger_is_at_most_1_6_times_its_request(
        method in prop::sample::select(vec![1_u16, 3, 4, 6, 7, 8, 9, 10, 2]),
        attributes in attributes(),
        fingerprint in any::<bool>(),
        v6 in any::<bool>(),
        has_allocation in any::<bool>(),
    ) {
        let mut world = World::new();
        let address = if v6 { "[2a00:1::7]:40000" } else { CLIENT };
        let tuple = if has_allocation { world.allocated(address, "room", "a").0.tuple } else { Client::udp(address, "room", "a").tuple };
        let message = world.request(method);
        let packet = stranger_s(&attributes, message, fingerprint);
        let before = world.server.stats().clone();
        world.server.handle_client(&tuple, &packet, world.now);
        let mut out = 0;
        while let Some(output) = world.server.poll_output() {
            let Output::Reply { to, message } = output else { panic!("{output:?}") };
            prop_assert_eq!(to, tuple);
            out += message.len() + around(&tuple);
        }
        let size = packet.len() + around(&tuple);
        prop_assert!(out * 10 <= size * 16, "{} bytes for {}", out, size);
        let after = world.server.stats();
        prop_assert_eq!((after.allocations, after.allocated, after.relay_sockets), (before.allocations, before.allocated, before.relay_sockets));
    }

    #[test]
    fn an_answer_or_an_indication_is_never_answered(
        class in prop::sample::select(vec![stun::INDICATION, stun::SUCCESS, stun::ERROR]),
        method in prop_oneof![0_u16..13, 0_u16..0x1000],
        attributes in attributes(),
        has_allocation in any::<bool>(),
    ) {
        let mut world = World::new();
        let tuple = if has_allocation { world.allocated(CLIENT, "room", "a").0.tuple } else { Client::udp(CLIENT, "room", "a").tuple };
        let transaction = world.transaction();
        let packet = stranger_s(&attributes, Builder::new(class, method, transaction), false);
        let verdict = world.server.handle_client(&tuple, &packet, world.now);
        prop_assert!(matches!(verdict, Verdict::Dropped));
        prop_assert_eq!(world.server.poll_output(), None);
    }

    #[test]
    fn any_bytes_are_only_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), first in any::<bool>()) {
        let mut world = World::new();
        let (mut client, _) = world.allocated(CLIENT, "room", "a");
        prop_assert_eq!(world.bind(&mut client, 0x4000, at(PEER)), 0);
        let mut bytes = bytes;
        if first && let Some(byte) = bytes.first_mut() {
            *byte &= 0x43;
        }
        world.server.handle_client(&client.tuple, &bytes, world.now);
        let relay = *world.sockets.keys().next().expect("a socket");
        world.server.handle_peer(relay, at(PEER), &bytes, world.now);
        prop_assert_eq!(world.server.stats().allocations, 1);
    }
}

#[test]
fn two_servers_cannot_be_made_to_answer_each_other() {
    // Everything that one can be made to say, said to another as if it came from the first one's address.
    let mut one = World::new();
    let mut other = World::new();
    let (mut client, _) = one.allocated(CLIENT, "room", "a");
    let mut said: Vec<Vec<u8>> = Vec::new();
    for method in [stun::BINDING, stun::ALLOCATE, stun::REFRESH, stun::CREATE_PERMISSION, stun::CHANNEL_BIND]
    {
        for tuple in [client.tuple, Client::udp("81.2.69.142:9", "room", "a").tuple] {
            for message in
                [one.request(method), one.request(method).transport(17), one.request(method).put(0x77, b"")]
            {
                said.extend(one.exchange(tuple, &message.clone().finish()).map(|answer| answer.bytes));
                said.extend(one.exchange(tuple, &client.sign(message).finish()).map(|answer| answer.bytes));
            }
        }
    }
    assert_eq!(one.permit(&mut client, at(PEER)), 0);
    let relay = *one.sockets.keys().next().expect("a socket");
    // A Data indication, and payloads that look like requests.
    let binding = other.request(stun::BINDING).finish();
    for payload in [&b"x"[..], &binding] {
        if let Some(Sent::ToClient(_, bytes)) = one.socket_receives(relay, at(PEER), payload) {
            said.push(bytes);
        }
    }
    assert!(said.len() > 25);
    for bytes in said {
        let verdict =
            other.server.handle_client(&Client::udp("198.41.0.4:3478", "room", "a").tuple, &bytes, other.now);
        assert!(matches!(verdict, Verdict::Dropped), "{bytes:?}");
        assert_eq!(other.server.poll_output(), None);
    }
    // A relay socket that is sent a request does not answer it; it is payload.
    assert_eq!(one.sockets.len(), 1);
    // Nor can a client be sent through its own relay to the server's listeners, where a relayed Binding request would be answered.
    for listener in ["198.41.0.4:3478", "198.41.0.4:5349"] {
        assert_eq!(one.permit(&mut client, at(listener)), 403);
    }
}

#[test]
fn past_its_limit_a_network_gets_silence_and_streams_do_not_count() {
    let mut world = World::new();
    let asked = |tuple: FiveTuple, world: &mut World| {
        let packet = world.request(stun::BINDING).finish();
        world.exchange(tuple, &packet).is_some()
    };
    for n in 0..2500_u16 {
        asked(Client::udp(&format!("81.2.69.{}:{}", n % 256, 1000 + n), "room", "a").tuple, &mut world);
        asked(Client::udp(&format!("[2a00:1:2:3400::{n:x}]:4000"), "room", "a").tuple, &mut world);
    }
    assert!(!asked(Client::udp(CLIENT, "room", "a").tuple, &mut world));
    assert!(!asked(Client::udp("[2a00:1:2:34ff::1]:4000", "room", "a").tuple, &mut world));
    assert!(asked(Client::tcp(CLIENT, "room", "a").tuple, &mut world), "its sender is real");
    assert!(asked(Client::udp("81.2.70.1:4000", "room", "a").tuple, &mut world), "another network");
    assert!(asked(Client::udp("[2a00:1:2:3500::1]:4000", "room", "a").tuple, &mut world));
    world.pass(1);
    assert!(asked(Client::udp(CLIENT, "room", "a").tuple, &mut world), "a second later");
}

#[test]
fn no_request_opens_the_way_to_a_denied_address() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client = Client::udp(CLIENT, "room", "a");
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |message| message.transport(17).additional(2)), 0);
    let mut denied: Vec<IpAddr> = vec![
        "fd00:ec2::254".parse().expect("an address"),
        "::1".parse().expect("an address"),
        "::".parse().expect("an address"),
    ];
    for v4 in oracle::denied_v4()
        .into_iter()
        .step_by(2)
        .chain([u32::from(Ipv4Addr::new(169, 254, 169, 254)), u32::from(Ipv4Addr::new(198, 41, 0, 4))])
    {
        denied.push(Ipv4Addr::from(v4).into());
        denied.extend(oracle::spellings(v4).into_iter().map(|(_, v6)| IpAddr::from(v6)));
    }
    for ip in denied {
        let peer = SocketAddr::new(ip, 5000);
        assert_eq!(world.permit(&mut client, peer), 403, "{ip}");
        assert_eq!(world.bind(&mut client, 0x4000, peer), 403, "{ip}");
        assert_eq!(world.send(&client, peer, b"x"), None, "{ip}");
    }
    assert_eq!(world.asked_to_open, 0);
}

#[test]
fn the_servers_own_ports_are_no_peers_even_where_their_address_is_allowed() {
    let own: Vec<IpAddr> = vec!["192.168.7.2".parse().expect("an address")];
    let mut world = World::with(TurnConfig {
        addresses: RelayAddresses { detected: own.clone(), local: own.clone(), ..RelayAddresses::default() },
        policy: PeerPolicy {
            allow: ["192.168.7.0/24", "192.168.7.2/32", "127.0.0.0/8"]
                .map(|text| text.parse().expect("a network"))
                .into(),
            own,
            listeners: vec![3478, 5349, 8080],
            ..PeerPolicy::default()
        },
        ..config()
    });
    let client = Client::new(Transport::Udp, "192.168.7.50:4000", "192.168.7.2:3478", "room", "a");
    let (mut client, relayed) = world.allocate(client);
    for peer in [
        "192.168.7.2:3478",
        "192.168.7.2:5349",
        "192.168.7.2:8080",
        "127.0.0.1:8080",
        "[::ffff:192.168.7.2]:8080",
    ] {
        assert_eq!(world.bind(&mut client, 0x4000, at(peer)), 403, "{peer}");
    }
    let unused = if relayed.port() == 10_400 { 10_401 } else { 10_400 };
    for ip in ["192.168.7.2", "127.0.0.1"] {
        assert_eq!(
            world.bind(&mut client, 0x4000, at(&format!("{ip}:{unused}"))),
            403,
            "a relayed transport address of nobody"
        );
    }
    // A permission is for the address; each packet is checked again.
    assert_eq!(world.permit(&mut client, at("192.168.7.2:9000")), 0);
    assert!(world.send(&client, at("192.168.7.2:9000"), b"x").is_some());
    assert_eq!(world.send(&client, at("192.168.7.2:8080"), b"x"), None);
    assert_eq!(world.send(&client, at("192.168.7.2:3478"), b"x"), None);
    assert_eq!(world.dropped(DropReason::ForbiddenPeer), 2);
    assert_eq!(world.send(&client, at(&format!("192.168.7.2:{unused}")), b"x"), None);
    assert_eq!(world.dropped(DropReason::OtherGroup), 1);
    assert_eq!(world.bind(&mut client, 0x4000, at("192.168.7.77:5000")), 0, "a neighbour is allowed");
    assert_eq!(world.bind(&mut client, 0x4001, at("192.168.8.1:5000")), 403, "another network is not");
}

#[test]
fn the_external_address_is_denied_and_those_relayed_there_still_meet() {
    let external: IpAddr = "51.1.1.1".parse().expect("an address");
    let local: IpAddr = "10.0.0.5".parse().expect("an address");
    let mut world = World::with(TurnConfig {
        addresses: RelayAddresses { external: vec![external], detected: vec![local], local: vec![local] },
        policy: PeerPolicy { own: vec![local, external], listeners: vec![3478], ..PeerPolicy::default() },
        ..config()
    });
    let client = |address| Client::new(Transport::Udp, address, "10.0.0.5:3478", "room", "a");
    let (mut one, relayed_one) = world.allocate(client("81.2.69.142:4000"));
    let (mut other, relayed_other) = world.allocate(client("81.2.69.142:4001"));
    assert_eq!((relayed_one.ip(), relayed_other.ip()), (external, external));
    assert_eq!(world.bind(&mut one, 0x4000, relayed_other), 0);
    assert_eq!(world.bind(&mut other, 0x4001, relayed_one), 0);
    assert_eq!(as_channel_data(world.channel_data(&one, 0x4000, b"x"), other.tuple, 0x4001), b"x");
    for peer in [
        SocketAddr::new(external, 22),
        SocketAddr::new(external, 5000),
        SocketAddr::new(local, relayed_other.port()),
    ] {
        assert_eq!(world.bind(&mut one, 0x4002, peer), 403, "{peer}");
        assert_eq!(world.send(&one, peer, b"x"), None, "{peer}");
    }
}

#[test]
fn other_protocols_on_the_media_port_end_at_once() {
    for text in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"POST /admin HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\xff\xfb\x01telnet",
        b"SSH-2.0-OpenSSH\r\n",
        b"{\"type\":\"hello\"}",
        b"\x80\x80\x00\x00QUIC",
    ] {
        let mut world = World::new();
        let client = Client::tcp(CLIENT, "room", "a");
        // A `G` could begin ChannelData; nobody has an allocation here, so it is dropped when it is complete.
        match frame_length(text) {
            Err(error) => assert_eq!(error, FramingError::Kind),
            Ok(length) => assert!(text[0] == b'G' && length.is_some()),
        }
        assert_eq!(world.client_says(client.tuple, text), None);
    }
}

#[test]
fn a_secret_and_what_is_made_of_it_stay_inside() {
    // A key must not be derived from an empty list, an empty secret works as any other and is the operator's.
    let mut world = World::with(TurnConfig { secrets: Vec::new(), ..config() });
    world.admit("room", "a");
    for secret in [&b""[..], b"\0", b"north"] {
        let mut client = Client { secret: secret.to_vec(), ..Client::udp(CLIENT, "room", "a") };
        assert_eq!(world.code(&mut client, stun::ALLOCATE, |message| message.transport(17)), 401);
    }
    let secret = Secret::new(b"north".to_vec());
    assert_eq!(secret.password("12:room.a").as_str(), stun::password(b"north", "12:room.a"));
}

#[test]
fn an_answer_says_nothing_that_was_not_asked() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    let answers: Vec<Message> = vec![
        world.ask(&mut client, stun::REFRESH, |message| message),
        world.ask(&mut client, stun::CREATE_PERMISSION, |message| message.peer(at(PEER))),
        world.ask(&mut client, stun::CREATE_PERMISSION, |message| message.peer(at("10.0.0.1:1"))),
        world.ask(&mut client, stun::CHANNEL_BIND, |message| message.channel(0x4000).peer(at(PEER))),
    ];
    for answer in answers {
        assert!(!answer.has(a::SOFTWARE), "no version to look up");
        assert!(!answer.has(a::USERNAME) && !answer.has(a::NONCE));
    }
}
