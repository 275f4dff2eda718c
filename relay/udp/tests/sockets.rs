//! Sockets on loopback: what goes in as runs comes out as the same datagrams, on both ways to the system.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use snug_udp::{ReceiveArena, SendQueue, Sent, UdpOptions, UdpSocket};

const LOOPBACK: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

fn bind(address: &str, options: &UdpOptions) -> UdpSocket {
    UdpSocket::bind(address.parse().expect(address), options).expect("loopback has free ports")
}

fn per_packet() -> UdpOptions {
    UdpOptions { per_packet: true, ..UdpOptions::default() }
}

/// Both ways to the system, over both families.
fn everywhere() -> impl Iterator<Item = (&'static str, UdpOptions)> {
    LOOPBACK.into_iter().flat_map(|address| [(address, UdpOptions::default()), (address, per_packet())])
}

/// Waits until so many datagrams have come, and a moment for more when none should.
fn received(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    let mut arena = ReceiveArena::new(16);
    let mut all = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    while all.len() < count && Instant::now() < deadline {
        arena.clear();
        socket.receive(&mut arena).expect("a working socket");
        all.extend(arena.datagrams().map(|(_, bytes)| bytes.to_vec()));
        std::thread::yield_now();
    }
    assert_eq!(all.len(), count, "{:?}", all.iter().map(Vec::len).collect::<Vec<_>>());
    all
}

/// An arena that has received exactly these datagrams, each from `feeder`.
fn filled(datagrams: &[Vec<u8>]) -> ReceiveArena {
    let (feeder, here) = (bind(LOOPBACK[0], &per_packet()), bind(LOOPBACK[0], &per_packet()));
    let mut arena = ReceiveArena::new(datagrams.len().max(1));
    for datagram in datagrams {
        let mut sent = SendQueue::new();
        sent.push_copy(0, here.local_addr(), None, datagram);
        assert_eq!(sent.flush(&ReceiveArena::new(1), |_| Some(&feeder)).datagrams, 1);
        let deadline = Instant::now() + Duration::from_secs(5);
        while here.receive(&mut arena).expect("a working socket") == 0 {
            assert!(Instant::now() < deadline, "loopback lost a datagram");
            std::thread::yield_now();
        }
    }
    assert_eq!(arena.datagrams().map(|(_, bytes)| bytes.to_vec()).collect::<Vec<_>>(), datagrams);
    arena
}

fn datagram(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|n| (number * 31 + n) as u8).collect()
}

#[test]
fn a_run_arrives_as_the_datagrams_it_was_made_of() {
    for (address, options) in everywhere() {
        let (near, far) = (bind(address, &options), bind(address, &options));
        let bytes: Vec<u8> = (0..10).flat_map(|n| datagram(n, 200)).chain(datagram(10, 33)).collect();
        assert_eq!(near.send_run(far.local_addr(), &bytes, 200), Sent { datagrams: 11, lost: 0 });
        let expected: Vec<Vec<u8>> = bytes.chunks(200).map(<[u8]>::to_vec).collect();
        assert_eq!(received(&far, 11), expected);
    }
}

#[test]
fn each_message_tells_its_sender_and_the_address_it_came_to() {
    for (address, options) in everywhere() {
        let (near, far) = (bind(address, &options), bind(address, &options));
        near.send_run(far.local_addr(), b"one", 3);
        let mut arena = ReceiveArena::new(2);
        while far.receive(&mut arena).expect("a working socket") == 0 {
            std::thread::yield_now();
        }
        let message = arena.message(0);
        assert_eq!((message.from, message.to), (near.local_addr(), Some(far.local_addr().ip())));
        assert_eq!(arena.bytes(message.start..message.end), b"one");
    }
}

#[test]
fn heads_bodies_and_padding_leave_as_whole_datagrams_in_order() {
    for (address, options) in everywhere() {
        let (near, far) = (bind(address, &options), bind(address, &options));
        let bodies: Vec<Vec<u8>> = (0..20).map(|n| datagram(n, if n == 19 { 41 } else { 301 })).collect();
        let mut arena = filled(&bodies);
        let mut queue = SendQueue::new();
        for n in 0..bodies.len() {
            let place = arena.message(n).datagrams().next().expect("one");
            queue.push(0, 3, far.local_addr(), None, &[n as u8, 1, 2, 3], place, 3, 0, &mut arena);
        }
        assert_eq!(queue.flush(&arena, |_| Some(&near)), Sent { datagrams: 20, lost: 0 });
        let expected: Vec<Vec<u8>> =
            (0..20).map(|n| [&[n as u8, 1, 2, 3], bodies[n].as_slice(), &[0; 3]].concat()).collect();
        assert_eq!(received(&far, 20), expected);
    }
}

#[test]
fn a_head_is_written_over_room_of_its_own_datagram_only() {
    for (address, options) in everywhere() {
        let (near, far) = (bind(address, &options), bind(address, &options));
        // A run that arrives as one message: its datagrams lie back to back.
        let source = bind(address, &options);
        let bytes: Vec<u8> = (0..8).flat_map(|n| datagram(n, 104)).collect();
        let mut arena = ReceiveArena::new(8);
        source.send_run(near.local_addr(), &bytes, 104);
        let deadline = Instant::now() + Duration::from_secs(5);
        while arena.datagrams().count() < 8 && Instant::now() < deadline {
            near.receive(&mut arena).expect("a working socket");
        }
        let mut queue = SendQueue::new();
        let places: Vec<_> = arena.messages().flat_map(|message| message.datagrams()).collect();
        for (n, place) in places.into_iter().enumerate() {
            let head = [0xF0, n as u8, 0, 100];
            queue.push(0, 0, far.local_addr(), None, &head, place.start + 4..place.end, 0, 4, &mut arena);
        }
        assert_eq!(queue.flush(&arena, |_| Some(&near)).datagrams, 8);
        for (n, got) in received(&far, 8).into_iter().enumerate() {
            assert_eq!(got, [&[0xF0, n as u8, 0, 100], &datagram(n, 104)[4..]].concat());
        }
    }
}

#[test]
fn sizes_may_change_at_every_datagram() {
    for (address, options) in everywhere() {
        let (near, far) = (bind(address, &options), bind(address, &options));
        let sizes = [10, 10, 9, 10, 0, 10, 500, 500, 1, 1, 0, 0, 7, 1400, 1400, 1400, 1399, 1400];
        let bodies: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| datagram(n, *size)).collect();
        let mut arena = filled(&bodies);
        let mut queue = SendQueue::new();
        for n in 0..bodies.len() {
            let place = arena.message(n).datagrams().next().expect("even an empty datagram is one");
            queue.push(0, 9, far.local_addr(), None, b"", place, 0, 0, &mut arena);
        }
        assert_eq!(queue.flush(&arena, |_| Some(&near)), Sent { datagrams: 18, lost: 0 });
        assert_eq!(received(&far, 18), bodies);
    }
}

#[test]
fn more_than_a_runs_worth_becomes_several_runs() {
    for (address, options) in everywhere() {
        let (near, far) = (bind(address, &options), bind(address, &options));
        let bodies: Vec<Vec<u8>> = (0..150).map(|n| datagram(n, 50)).collect();
        let mut arena = filled(&bodies);
        let mut queue = SendQueue::new();
        for n in 0..bodies.len() {
            let place = arena.message(n).datagrams().next().expect("one");
            queue.push(0, 9, far.local_addr(), None, b"", place, 0, 0, &mut arena);
        }
        assert_eq!(queue.flush(&arena, |_| Some(&near)), Sent { datagrams: 150, lost: 0 });
        assert_eq!(received(&far, 150), bodies);
        let bytes = bodies.concat();
        assert_eq!(near.send_run(far.local_addr(), &bytes, 50), Sent { datagrams: 150, lost: 0 });
        assert_eq!(received(&far, 150), bodies);
    }
}

#[test]
fn large_datagrams_never_make_a_run_too_long_for_the_kernel() {
    let options = UdpOptions { receive_buffer: Some(1 << 20), ..UdpOptions::default() };
    let (near, far) = (bind(LOOPBACK[0], &options), bind(LOOPBACK[0], &options));
    let bodies: Vec<Vec<u8>> = (0..5).map(|n| datagram(n, 30_000)).collect();
    let mut arena = filled(&bodies);
    let mut queue = SendQueue::new();
    for n in 0..bodies.len() {
        let place = arena.message(n).datagrams().next().expect("one");
        queue.push(0, 9, far.local_addr(), None, b"", place, 0, 0, &mut arena);
    }
    assert_eq!(queue.flush(&arena, |_| Some(&near)), Sent { datagrams: 5, lost: 0 });
    assert_eq!(received(&far, 5), bodies);
}

#[test]
fn a_datagram_that_no_network_carries_is_lost_alone() {
    for (address, options) in everywhere() {
        let (near, far) = (bind(address, &options), bind(address, &options));
        let mut queue = SendQueue::new();
        queue.push_copy(0, far.local_addr(), None, b"before");
        queue.push_copy(0, far.local_addr(), None, &vec![0; 70_000]);
        queue.push_copy(0, far.local_addr(), None, b"after");
        assert_eq!(queue.flush(&ReceiveArena::new(1), |_| Some(&near)), Sent { datagrams: 2, lost: 1 });
        assert_eq!(received(&far, 2), [b"before".to_vec(), b"after".to_vec()]);
    }
}

#[test]
fn sending_to_a_closed_port_is_never_an_error() {
    for (address, options) in everywhere() {
        let (near, far) = (bind(address, &options), bind(address, &options));
        let closed = bind(address, &options).local_addr();
        for _ in 0..10 {
            assert_eq!(near.send_run(closed, &[7; 300], 100).lost, 0);
            assert_eq!(near.receive(&mut ReceiveArena::new(4)).expect("nothing, and no error"), 0);
        }
        far.send_run(near.local_addr(), b"still here", 10);
        assert_eq!(received(&near, 1), [b"still here"]);
    }
}

#[test]
fn several_sockets_leave_in_one_flush_and_a_missing_one_loses_its_own_alone() {
    let sockets: Vec<UdpSocket> = (0..2).map(|_| bind(LOOPBACK[0], &UdpOptions::default())).collect();
    let far = bind(LOOPBACK[0], &UdpOptions::default());
    let bodies: Vec<Vec<u8>> = (0..9).map(|n| datagram(n, 20)).collect();
    let mut arena = filled(&bodies);
    let mut queue = SendQueue::new();
    for n in 0..9 {
        let place = arena.message(n).datagrams().next().expect("one");
        queue.push(n as u32 % 3, n as u32, far.local_addr(), None, b"", place, 0, 0, &mut arena);
    }
    assert_eq!(queue.flush(&arena, |key| sockets.get(key as usize)), Sent { datagrams: 6, lost: 3 });
    let mut arena = ReceiveArena::new(16);
    while arena.datagrams().count() < 6 {
        far.receive(&mut arena).expect("a working socket");
    }
    for message in arena.messages() {
        let n = bodies
            .iter()
            .position(|body| body[..] == *arena.bytes(message.start..message.end))
            .expect("one of ours");
        assert_eq!(message.from, sockets[n % 3].local_addr());
    }
    assert!(queue.is_empty());
}

#[test]
fn a_full_receive_buffer_loses_datagrams_but_nothing_else() {
    for (address, options) in everywhere() {
        let (near, far) = (bind(address, &options), bind(address, &options));
        // Whatever the system's default is, this is more.
        for n in 0..40_000 {
            near.send_run(far.local_addr(), &datagram(n, 800).repeat(4), 800);
        }
        let mut arena = ReceiveArena::new(64);
        let mut all = Vec::new();
        loop {
            arena.clear();
            if far.receive(&mut arena).expect("a working socket") == 0 {
                break;
            }
            all.extend(arena.datagrams().map(|(_, bytes)| bytes.to_vec()));
        }
        assert!(!all.is_empty() && all.len() < 160_000, "{}", all.len());
        assert!(all.iter().all(|bytes| bytes.len() == 800));
        near.send_run(far.local_addr(), b"afterwards", 10);
        assert_eq!(received(&far, 1), [b"afterwards"]);
    }
}

#[test]
fn an_arena_that_is_full_leaves_the_rest_for_later() {
    for (address, options) in everywhere() {
        let (near, far) = (bind(address, &options), bind(address, &options));
        let mut arena = ReceiveArena::new(2);
        for n in 0..5 {
            let mut queue = SendQueue::new();
            queue.push_copy(0, far.local_addr(), None, &[n]);
            queue.flush(&arena, |_| Some(&near));
        }
        let mut seen = Vec::new();
        while seen.len() < 5 {
            while arena.room() > 0 && seen.len() + arena.len() < 5 {
                far.receive(&mut arena).expect("a working socket");
            }
            assert_eq!(far.receive(&mut arena).expect("no room is no error"), 0);
            seen.extend(arena.datagrams().map(|(_, bytes)| bytes[0]));
            arena.clear();
            assert!(arena.is_empty());
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_socket_on_all_addresses_tells_the_one_that_was_reached_and_answers_from_it() {
    let options = UdpOptions { learn_destination: true, ..UdpOptions::default() };
    for (all, reached) in [("0.0.0.0:0", "127.0.0.2"), ("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
        let server = bind(all, &options);
        let reached: IpAddr = reached.parse().expect(reached);
        let client = bind(if reached.is_ipv4() { LOOPBACK[0] } else { LOOPBACK[1] }, &UdpOptions::default());
        client.send_run(SocketAddr::new(reached, server.local_addr().port()), &[5; 60], 20);
        let mut arena = ReceiveArena::new(4);
        while arena.datagrams().count() < 3 {
            server.receive(&mut arena).expect("a working socket");
        }
        let message = arena.message(0);
        assert_eq!((message.to, message.segment), (Some(reached), 20));
        let mut queue = SendQueue::new();
        for place in message.datagrams() {
            queue.push(0, 0, message.from, message.to, b"re: ", place, 0, 0, &mut arena);
        }
        queue.flush(&arena, |_| Some(&server));
        arena.clear();
        while arena.datagrams().count() < 3 {
            client.receive(&mut arena).expect("a working socket");
        }
        assert_eq!(arena.message(0).from, SocketAddr::new(reached, server.local_addr().port()));
    }
}

#[test]
fn bodies_from_elsewhere_join_the_same_runs() {
    for (address, options) in everywhere() {
        let (near, far) = (bind(address, &options), bind(address, &options));
        let mut queue = SendQueue::new();
        for n in 0..5 {
            queue.push_outside(0, 0, far.local_addr(), None, &[n], &datagram(n.into(), 50), 2);
        }
        assert_eq!(queue.flush(&ReceiveArena::new(1), |_| Some(&near)), Sent { datagrams: 5, lost: 0 });
        let expected: Vec<Vec<u8>> =
            (0..5).map(|n| [&[n], datagram(n.into(), 50).as_slice(), &[0; 2]].concat()).collect();
        assert_eq!(received(&far, 5), expected);
    }
}

#[test]
fn an_address_that_is_taken_or_foreign_cannot_be_bound() {
    for (address, options) in everywhere() {
        let first = bind(address, &options);
        assert!(UdpSocket::bind(first.local_addr(), &options).is_err());
    }
    assert!(UdpSocket::bind("192.0.2.1:0".parse().expect("an address"), &UdpOptions::default()).is_err());
}

#[test]
fn one_port_serves_both_families_by_a_socket_each() {
    let v6 = bind("[::]:0", &UdpOptions::default());
    let port = v6.local_addr().port();
    // Another process may hold that port in IPv4 by chance; then there is nothing to see.
    if let Ok(v4) =
        UdpSocket::bind(format!("0.0.0.0:{port}").parse().expect("an address"), &UdpOptions::default())
    {
        assert_eq!(v4.local_addr().port(), port);
    }
}
