//! Allocate (RFC 8656 §7).

use std::net::SocketAddr;

use snug_turn_proto::{Input, Quota, Refusal, RelayAddresses, Transport, TurnConfig};

use crate::stun::{self, Message, attribute as a};
use crate::world::{Client, SERVER_V4, SERVER_V6, World, at, config};

const CLIENT: &str = "81.2.69.142:40000";

fn client(n: u16) -> Client {
    Client::udp(&format!("81.2.69.142:{}", 40_000 + n), "room", "a")
}

fn allocate(world: &mut World, client: &mut Client) -> Message {
    world.admit("room", "a");
    world.ask(client, stun::ALLOCATE, |message| message.transport(17))
}

fn relayed(answer: &Message) -> Vec<SocketAddr> {
    answer.addresses(a::XOR_RELAYED_ADDRESS)
}

#[test]
fn an_allocation_has_an_address_of_the_server_a_port_of_the_range_and_ten_minutes() {
    let mut world = World::new();
    let mut client = client(0);
    let answer = allocate(&mut world, &mut client);
    let [relayed] = relayed(&answer)[..] else { panic!("one relayed transport address: {answer:?}") };
    assert_eq!(relayed.ip(), at(SERVER_V4).ip());
    assert!((10_000..=10_999).contains(&relayed.port()));
    assert_eq!(answer.address(a::XOR_MAPPED_ADDRESS), Some(at(CLIENT)));
    assert_eq!(answer.number(a::LIFETIME), Some(600));
    assert!(!answer.has(a::RESERVATION_TOKEN));
    assert_eq!((world.allocations(), world.sockets.len()), (1, 0), "its socket can wait");
}

#[test]
fn the_family_is_ipv4_unless_the_client_says_otherwise() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut from_v6 = Client::udp("[2a00:1::7]:40000", "room", "a");
    let answer = world.ask(&mut from_v6, stun::ALLOCATE, |message| message.transport(17));
    assert!(relayed(&answer)[0].is_ipv4());
    assert_eq!(answer.address(a::XOR_MAPPED_ADDRESS), Some(at("[2a00:1::7]:40000")));
    let mut from_v4 = client(1);
    let answer = world.ask(&mut from_v4, stun::ALLOCATE, |message| message.transport(17).family(2));
    assert_eq!(relayed(&answer).iter().map(SocketAddr::ip).collect::<Vec<_>>(), [at(SERVER_V6).ip()]);
    let mut explicit = client(2);
    let answer = world.ask(&mut explicit, stun::ALLOCATE, |message| message.transport(17).family(1));
    assert!(relayed(&answer)[0].is_ipv4());
    let mut unknown = client(3);
    assert_eq!(world.code(&mut unknown, stun::ALLOCATE, |message| message.transport(17).family(3)), 440);
}

#[test]
fn where_the_server_has_no_ipv4_a_client_that_does_not_say_which_gets_ipv6() {
    let mut config = config();
    config.addresses.detected.retain(std::net::IpAddr::is_ipv6);
    let mut world = World::with(config);
    world.admit("room", "a");
    let mut client = Client::udp("[2a00:1::7]:40000", "room", "a");
    let answer = world.ask(&mut client, stun::ALLOCATE, |message| message.transport(17));
    assert_eq!(relayed(&answer).iter().map(SocketAddr::ip).collect::<Vec<_>>(), [at(SERVER_V6).ip()]);
}

#[test]
fn one_allocation_can_have_an_address_of_each_family() {
    let mut world = World::new();
    world.admit("room", "a");
    let answer = world.ask(&mut client(0), stun::ALLOCATE, |message| message.transport(17).additional(2));
    let addresses = relayed(&answer);
    assert_eq!(
        addresses.iter().map(SocketAddr::ip).collect::<Vec<_>>(),
        [at(SERVER_V4).ip(), at(SERVER_V6).ip()]
    );
    assert!(!answer.has(a::ADDRESS_ERROR_CODE));
    assert_eq!(world.allocations(), 1);
}

#[test]
fn ipv4_is_never_the_additional_family_and_comes_with_nothing_else() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client = client(0);
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |m| m.transport(17).additional(1)), 400);
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |m| m.transport(17).additional(9)), 400);
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |m| m.transport(17).additional(2).family(1)), 400);
    assert_eq!(
        world.code(&mut client, stun::ALLOCATE, |m| m.transport(17).additional(2).put(a::EVEN_PORT, &[0x80])),
        400
    );
    assert_eq!(
        world.code(&mut client, stun::ALLOCATE, |m| m
            .transport(17)
            .additional(2)
            .put(a::RESERVATION_TOKEN, &[1; 8])),
        400
    );
    assert_eq!(world.allocations(), 0);
}

#[test]
fn the_family_that_is_missing_is_named_with_its_reason() {
    for (has_v4, missing) in [(true, 2), (false, 1)] {
        let mut config = config();
        config.addresses.detected.retain(|ip| ip.is_ipv4() == has_v4);
        let mut world = World::with(config);
        world.admit("room", "a");
        let address = if has_v4 { CLIENT } else { "[2a00:1::7]:40000" };
        let mut client = Client::udp(address, "room", "a");
        let mut alone =
            Client::udp(if has_v4 { "81.2.69.142:40001" } else { "[2a00:1::7]:40001" }, "room", "a");
        assert_eq!(world.code(&mut alone, stun::ALLOCATE, |m| m.transport(17).family(missing)), 440);
        let answer = world.ask(&mut client, stun::ALLOCATE, |m| m.transport(17).additional(2));
        assert_eq!(relayed(&answer).iter().map(SocketAddr::is_ipv4).collect::<Vec<_>>(), [has_v4]);
        // Family, class 4, number 40.
        assert_eq!(answer.get(a::ADDRESS_ERROR_CODE), Some(&[missing, 0, 4, 40][..]));
    }
}

#[test]
fn the_family_that_has_no_port_left_is_named_with_its_reason() {
    let mut world = World::with(TurnConfig { relay_ports: 10_000..=10_000, ..config() });
    world.admit("room", "a");
    assert_eq!(world.code(&mut client(0), stun::ALLOCATE, |m| m.transport(17).family(2)), 0);
    let answer = world.ask(&mut client(1), stun::ALLOCATE, |m| m.transport(17).additional(2));
    assert!(relayed(&answer)[0].is_ipv4());
    assert_eq!(answer.get(a::ADDRESS_ERROR_CODE), Some(&[2, 0, 5, 8][..]));
    assert_eq!(world.code(&mut client(2), stun::ALLOCATE, |m| m.transport(17).additional(2)), 508, "neither");
    assert_eq!((world.allocations(), world.server.stats().allocated), (2, 2));
}

#[test]
fn the_same_request_again_gets_the_same_answer() {
    let mut config = config();
    config.addresses.detected.retain(|ip| ip.is_ipv4());
    let mut world = World::with(config);
    world.admit("room", "a");
    for (n, additional) in [(0, false), (1, true)] {
        let mut client = client(n);
        // Takes a nonce.
        assert_eq!(world.code(&mut client, stun::REFRESH, |message| message), 437);
        let request = world.request(stun::ALLOCATE).transport(17);
        let request = if additional { request.additional(2) } else { request };
        let packet = client.sign(request).finish();
        let first = world.exchange(client.tuple, &packet).expect("an answer");
        let again = world.exchange(client.tuple, &packet).expect("an answer");
        assert_eq!(first.class, stun::SUCCESS);
        assert_eq!(first, again);
        world.pass(10);
        let later = world.exchange(client.tuple, &packet).expect("an answer");
        assert_eq!((relayed(&later), later.number(a::LIFETIME)), (relayed(&first), Some(590)));
        assert_eq!(
            world.code(&mut client, stun::ALLOCATE, |message| message.transport(17)),
            437,
            "another request is none"
        );
    }
    assert_eq!(world.server.stats().allocated, 2);
}

#[test]
fn only_udp_is_relayed() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client = client(0);
    for protocol in [0, 6, 18, 255] {
        assert_eq!(world.code(&mut client, stun::ALLOCATE, |message| message.transport(protocol)), 442);
    }
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |message| message), 400, "no REQUESTED-TRANSPORT");
    let broken =
        world.code(&mut client, stun::ALLOCATE, |message| message.put(a::REQUESTED_TRANSPORT, &[17]));
    assert_eq!(broken, 400);
}

#[test]
fn pairs_of_ports_and_reservations_are_refused_without_a_trace() {
    let mut world = World::new();
    world.admit("room", "a");
    let mut client = client(0);
    for (attributes, code) in [
        (&[(a::EVEN_PORT, &[0][..])][..], 508),
        (&[(a::EVEN_PORT, &[0x80][..])], 508),
        (&[(a::RESERVATION_TOKEN, &[1; 8][..])], 508),
        (&[(a::RESERVATION_TOKEN, &[1; 8][..]), (a::EVEN_PORT, &[0][..])], 400),
        (&[(a::RESERVATION_TOKEN, &[1; 8][..]), (a::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0][..])], 400),
    ] {
        let answer = world.code(&mut client, stun::ALLOCATE, |message| {
            attributes.iter().fold(message.transport(17), |message, (kind, value)| message.put(*kind, value))
        });
        assert_eq!(answer, code, "{attributes:?}");
    }
    assert_eq!(world.allocations(), 0);
}

#[test]
fn dont_fragment_is_not_offered_and_says_so() {
    let mut world = World::new();
    world.admit("room", "a");
    let answer = world.ask(&mut client(0), stun::ALLOCATE, |m| m.transport(17).put(a::DONT_FRAGMENT, &[]));
    assert_eq!(answer.error(), Some(420));
    assert_eq!(answer.get(a::UNKNOWN_ATTRIBUTES), Some(&a::DONT_FRAGMENT.to_be_bytes()[..]));
}

#[test]
fn lifetimes_lie_between_ten_minutes_and_an_hour() {
    let mut world = World::new();
    world.admit("room", "a");
    for (n, (asked, granted)) in
        [(0, 600), (1, 600), (599, 600), (601, 601), (3600, 3600), (3601, 3600), (u32::MAX, 3600)]
            .into_iter()
            .enumerate()
    {
        let answer = world.ask(&mut client(n as u16), stun::ALLOCATE, |m| m.transport(17).lifetime(asked));
        assert_eq!(answer.number(a::LIFETIME), Some(granted), "asked for {asked}");
    }
    let mut last = client(99);
    assert_eq!(
        world.code(&mut last, stun::ALLOCATE, |m| m.transport(17).put(a::LIFETIME, &[0, 1])),
        400,
        "a broken one"
    );
    world.pass(600);
    assert_eq!(world.allocations(), 4);
    world.pass(3000);
    assert_eq!(world.allocations(), 0);
}

#[test]
fn quotas_of_allocations_are_a_486_and_come_back() {
    for (who, quota) in ["owner", "group", "source", "server"].into_iter().zip(0..) {
        let mut config = config();
        let limit = Quota { allocations: 3, megabits: 0 };
        *[
            &mut config.quotas.per_owner,
            &mut config.quotas.per_group,
            &mut config.quotas.per_source,
            &mut config.quotas.server,
        ][quota] = limit;
        let mut world = World::with(config);
        let clients: Vec<Client> = (0..4)
            .map(|n| {
                let address = if who == "source" {
                    format!("81.2.69.142:{}", 4000 + n)
                } else {
                    format!("81.2.{n}.1:4000")
                };
                let owner = if who == "owner" { "a".to_owned() } else { format!("a{n}") };
                let group =
                    if who == "group" || who == "owner" { "room".to_owned() } else { format!("room{n}") };
                world.admit(&group, &owner);
                Client::udp(&address, &group, &owner)
            })
            .collect();
        let mut codes = Vec::new();
        let mut clients = clients;
        for client in &mut clients {
            codes.push(world.code(client, stun::ALLOCATE, |message| message.transport(17)));
        }
        assert_eq!(codes, [0, 0, 0, 486], "{who}");
        assert_eq!(world.refused(Refusal::Quota), 1);
        assert_eq!(world.refresh(&mut clients[1], 0), 0);
        assert_eq!(world.code(&mut clients[3], stun::ALLOCATE, |message| message.transport(17)), 0, "{who}");
    }
}

#[test]
fn a_source_is_an_ipv4_24_or_an_ipv6_56_and_its_neighbour_another() {
    for addresses in [
        ["[2a00:1:2:3400::1]:1", "[2a00:1:2:34ff::1]:1", "[2a00:1:2:3480::2]:1", "[2a00:1:2:3500::1]:1"],
        ["81.2.69.0:1", "81.2.69.255:1", "81.2.69.7:1", "81.2.70.0:1"],
    ] {
        let mut config = config();
        config.quotas.per_source.allocations = 2;
        let mut world = World::with(config);
        world.admit("room", "a");
        let codes = addresses.map(|address| {
            world.code(&mut Client::udp(address, "room", "a"), stun::ALLOCATE, |m| m.transport(17))
        });
        assert_eq!(codes, [0, 0, 486, 0], "{addresses:?}");
    }
}

/// Asks for thirty allocations for each of ten participants at `address`. How many they get.
fn flood(world: &mut World, address: &str) -> u32 {
    let before = world.allocations();
    let room = address.replace('.', "-");
    for owner in (0..10).map(|n| n.to_string()) {
        world.admit(&room, &owner);
    }
    for n in 0..300 {
        let mut client = Client::udp(&format!("{address}:{}", 4000 + n), &room, &(n / 30).to_string());
        world.code(&mut client, stun::ALLOCATE, |message| message.transport(17));
    }
    world.allocations() - before
}

#[test]
fn the_addresses_of_one_block_cannot_take_all_relay_ports() {
    let mut world = World::with(TurnConfig { relay_ports: 10_000..=10_199, ..config() });
    let (first, second) = (flood(&mut world, "81.2.69.1"), flood(&mut world, "81.2.69.200"));
    assert_eq!((first, second), (67, 0), "a third of 200 for the block, however many addresses it uses");
    // More blocks take less each, and the next one always gets some.
    let more: Vec<u32> = (70..80).map(|n| flood(&mut world, &format!("81.2.{n}.1"))).collect();
    assert!(more.is_sorted_by(|one, next| one >= next) && more.iter().all(|count| *count > 0), "{more:?}");
    assert_eq!(more[0], 45);
    let (_, relayed) = world.allocated("81.2.80.1:4000", "quiet", "a");
    assert!((10_000..=10_199).contains(&relayed.port()));
}

#[test]
fn ten_people_behind_one_address_get_what_their_browsers_ask_for() {
    let mut world = World::with(TurnConfig { relay_ports: 10_000..=20_000, ..config() });
    // Others of the same office are in a call already, and half of the ports are in use elsewhere.
    for n in 0..20 {
        for port in 0..250 {
            let (group, owner) = (format!("elsewhere-{n}"), format!("{}", port / 25));
            world.allocated(&format!("81.{n}.1.1:{}", 5000 + port), &group, &owner);
        }
    }
    // For each of nine links an allocation over UDP, TCP and TLS, and all of them again at an ICE restart.
    for (person, link, again) in
        (0..10).flat_map(|person| (0..9).flat_map(move |link| [(person, link, 0), (person, link, 1)]))
    {
        for (n, transport) in Transport::ALL.into_iter().enumerate() {
            let port = 10_000 + person * 1000 + link * 100 + again * 10 + n;
            let (client, server) = (format!("81.2.69.142:{port}"), "198.41.0.4:3478");
            world.allocate(Client::new(transport, &client, server, "room", &format!("p{person}")));
        }
    }
    assert_eq!(world.allocations(), 20 * 250 + 540);
}

#[test]
fn when_all_ports_are_taken_it_is_a_508_until_one_is_free() {
    let mut world = World::with(TurnConfig { relay_ports: 10_000..=10_003, ..config() });
    world.admit("room", "a");
    // A block of addresses each: one alone gets only some of them.
    let mut clients: Vec<Client> =
        (0..5).map(|n| Client::udp(&format!("81.2.{n}.1:4000"), "room", "a")).collect();
    let mut ports = Vec::new();
    for client in &mut clients[..4] {
        let answer = world.ask(client, stun::ALLOCATE, |message| message.transport(17));
        ports.extend(relayed(&answer).iter().map(SocketAddr::port));
    }
    ports.sort_unstable();
    assert_eq!(ports, [10_000, 10_001, 10_002, 10_003]);
    assert_eq!(world.code(&mut clients[4], stun::ALLOCATE, |message| message.transport(17)), 508);
    assert_eq!(
        world.code(&mut clients[4], stun::ALLOCATE, |message| message.transport(17).family(2)),
        0,
        "IPv6 has its own"
    );
    assert_eq!(world.refresh(&mut clients[2], 0), 0);
    assert_eq!(world.code(&mut clients[2], stun::ALLOCATE, |message| message.transport(17)), 0);
    assert_eq!(world.server.stats().allocated, 6, "what was refused was not made");
}

#[test]
fn an_allocation_whose_time_is_over_gives_way_though_nobody_woke_the_server() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    world.sleep(601);
    assert_eq!(world.refresh(&mut client, 600), 437);
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |message| message.transport(17)), 0);
    assert_eq!((world.allocations(), world.server.stats().allocated), (1, 2));
}

#[test]
fn a_drained_server_takes_nothing_new_and_keeps_what_it_has() {
    let mut world = World::new();
    let (mut running, _) = world.allocated(CLIENT, "room", "a");
    world.input(Input::Drain);
    assert_eq!(world.code(&mut client(1), stun::ALLOCATE, |message| message.transport(17)), 508);
    assert_eq!(world.refresh(&mut running, 600), 0);
    let binding = world.request(stun::BINDING).finish();
    assert!(world.exchange(running.tuple, &binding).is_some());
}

#[test]
fn the_configured_address_comes_first_then_the_one_reached_then_the_detected() {
    let external = |list: &[&str]| list.iter().map(|ip| ip.parse().expect("an address")).collect();
    for (addresses, server, family, expected) in [
        (
            RelayAddresses { external: external(&["51.1.1.1"]), ..RelayAddresses::default() },
            "198.41.0.4:3478",
            1,
            Some("51.1.1.1"),
        ),
        (
            RelayAddresses { external: external(&["51.1.1.1"]), ..RelayAddresses::default() },
            "[2a02:1::9]:1",
            2,
            Some("2a02:1::9"),
        ),
        (
            RelayAddresses { detected: external(&["51.1.1.2"]), ..RelayAddresses::default() },
            "198.41.0.4:3478",
            1,
            Some("198.41.0.4"),
        ),
        (
            RelayAddresses { detected: external(&["51.1.1.2"]), ..RelayAddresses::default() },
            "[2a02:1::9]:1",
            1,
            Some("51.1.1.2"),
        ),
        (
            RelayAddresses { detected: external(&["51.1.1.2"]), ..RelayAddresses::default() },
            "0.0.0.0:3478",
            1,
            Some("51.1.1.2"),
        ),
        (RelayAddresses::default(), "0.0.0.0:3478", 1, None),
        (RelayAddresses::default(), "198.41.0.4:3478", 2, None),
    ] {
        let mut world = World::with(TurnConfig { addresses, ..config() });
        world.admit("room", "a");
        let mut client = Client::new(snug_turn_proto::Transport::Udp, CLIENT, server, "room", "a");
        let answer = world.ask(&mut client, stun::ALLOCATE, |message| message.transport(17).family(family));
        match expected {
            Some(ip) => assert_eq!(relayed(&answer)[0].ip().to_string(), ip),
            None => assert_eq!(answer.error(), Some(440), "{server}"),
        }
    }
}
