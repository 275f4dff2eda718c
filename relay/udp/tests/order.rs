//! Whatever is pushed, each flow's datagrams reach each destination whole, once and in order.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use snug_udp::{ReceiveArena, SendQueue, UdpOptions, UdpSocket};

/// One datagram to send: flow, destination, size of its body, room in front of it, head and padding.
#[derive(Clone, Debug)]
struct Push {
    flow: u32,
    destination: usize,
    body: usize,
    room: usize,
    head: usize,
    pad: u8,
}

fn pushes() -> impl Strategy<Value = Vec<Push>> {
    let size = prop_oneof![4 => Just(120_usize), 2 => Just(60), 1 => 0..200_usize];
    let one = (0..4_u32, 0..3_usize, size, 0..3_usize, 0..3_usize, 0..4_u8).prop_map(
        |(flow, destination, body, room, head, pad)| Push {
            flow,
            destination,
            body,
            room: room * 4,
            head: head * 4,
            pad,
        },
    );
    proptest::collection::vec(one, 1..60)
}

fn bind(per_packet: bool) -> UdpSocket {
    let options = UdpOptions { per_packet, ..UdpOptions::default() };
    UdpSocket::bind("127.0.0.1:0".parse().expect("an address"), &options).expect("a free port")
}

/// Receives until `count` datagrams are there.
fn receive(socket: &UdpSocket, arena: &mut ReceiveArena, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while arena.datagrams().count() < count {
        socket.receive(arena).expect("a working socket");
        assert!(Instant::now() < deadline, "{} of {count} came", arena.datagrams().count());
    }
}

fn check(pushes: &[Push], per_packet: bool, rounds: usize) {
    let (source, here, near) = (bind(true), bind(true), bind(per_packet));
    let far: Vec<UdpSocket> = (0..3).map(|_| bind(per_packet)).collect();
    let mut queue = SendQueue::new();
    let mut arena = ReceiveArena::new(64);
    let mut first = 0_u32;
    for _ in 0..rounds {
        arena.clear();
        for push in pushes {
            source.send_run(here.local_addr(), &vec![0xAB; push.room + push.body + 1], 65_000);
        }
        receive(&here, &mut arena, pushes.len());
        let mut expected: HashMap<(usize, u32), Vec<Vec<u8>>> = HashMap::new();
        let mut per_destination = [0; 3];
        for (n, push) in pushes.iter().enumerate() {
            let place = arena.message(n).datagrams().next().expect("one");
            // Flow and number lead each datagram, so that the far end can tell.
            let mut head = vec![push.flow as u8];
            head.extend((first + n as u32).to_be_bytes());
            head.resize(5 + push.head, 0xCD);
            let body = place.start + push.room..place.end;
            let whole = [&head, arena.bytes(body.clone()), &[0; 3][..usize::from(push.pad)]].concat();
            expected.entry((push.destination, push.flow)).or_default().push(whole);
            per_destination[push.destination] += 1;
            let to = far[push.destination].local_addr();
            queue.push(0, push.flow, to, None, &head, body, push.pad, push.room, &mut arena);
        }
        let sent = queue.flush(&arena, |_| Some(&near));
        assert_eq!((sent.datagrams, sent.lost), (pushes.len() as u64, 0));
        let mut seen: HashMap<(usize, u32), Vec<Vec<u8>>> = HashMap::new();
        for (destination, socket) in far.iter().enumerate() {
            let mut arena = ReceiveArena::new(64);
            receive(socket, &mut arena, per_destination[destination]);
            for (from, bytes) in arena.datagrams() {
                assert_eq!(from, near.local_addr());
                seen.entry((destination, u32::from(bytes[0]))).or_default().push(bytes.to_vec());
            }
        }
        assert_eq!(seen, expected);
        first += pushes.len() as u32;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn each_flow_arrives_whole_and_in_order_in_batches(pushes in pushes()) {
        check(&pushes, false, 2);
    }

    #[test]
    fn each_flow_arrives_whole_and_in_order_one_by_one(pushes in pushes()) {
        check(&pushes, true, 1);
    }
}
