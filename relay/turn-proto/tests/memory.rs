//! Resident memory, in a process of its own: what strangers send is forgotten, what allocations took is used again.

#![allow(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]
#![cfg(target_os = "linux")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use snug_turn_proto::{FiveTuple, Now, Transport, TurnConfig, TurnServer};

/// Kibibytes, from the line `VmRSS` of the kernel's account of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel's account of this process");
    let line =
        status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line with the resident memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// A million requests, each of another address and port, eight addresses of a network; time passes, so that most are answered.
fn flood(server: &mut TurnServer, start: Instant, round: u32) -> u32 {
    // Allocate with REQUESTED-TRANSPORT.
    let packet = *b"\x00\x03\x00\x08\x21\x12\xa4\x42abcdefghijkl\x00\x19\x00\x04\x11\x00\x00\x00";
    let mut answers = 0;
    for n in 0..1_000_000_u32 {
        let at = start + std::time::Duration::from_micros(u64::from(round * 1_000_000 + n));
        let client = SocketAddr::new(Ipv4Addr::from(0x5000_0000 | (n << 5)).into(), (n ^ round) as u16);
        let server_address = SocketAddr::new(Ipv4Addr::new(198, 41, 0, 4).into(), 3478);
        let tuple = FiveTuple { transport: Transport::Udp, client, server: server_address };
        // The others get a short 400: a million nonces would take a minute without optimization.
        let packet = if n % 16 == 0 { &packet[..] } else { &packet[..20] };
        let mut packet = packet.to_vec();
        let length = (packet.len() - 20) as u8;
        packet[3] = length;
        server.handle_client(&tuple, &packet, Now { at, unix: 1_795_392_000 });
        while server.poll_output().is_some() {
            answers += 1;
        }
    }
    answers
}

#[test]
fn a_million_requests_from_forged_addresses_take_no_memory() {
    let start = Instant::now();
    let mut server = TurnServer::new(TurnConfig::default(), [7; 32], Now { at: start, unix: 1_795_392_000 });
    // The limiter's table is touched once, and the allocator takes what it takes.
    flood(&mut server, start, 0);
    let before = resident();
    let answers = flood(&mut server, start, 1);
    let grown = resident().saturating_sub(before);
    assert!(answers > 900_000, "{answers}: most of them have to be answered, or this shows nothing");
    assert!(grown < 1024, "grew by {grown} KiB");
    assert_eq!(server.stats().allocations, 0);
}
