//! Any bytes from a stranger, from a client with an allocation and from its peer: no panic, no allocation more or less, nothing passed on that lies
//! outside of the packet, and small answers.
#![no_main]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use snug_turn_proto::{
    Account, FiveTuple, Input, Now, Output, RelayAddresses, RelaySocketId, Secret, Transport, TurnConfig,
    TurnServer, Verdict, frame_length,
};

#[path = "../../../relay/turn-proto/tests/it/stun.rs"]
#[allow(dead_code, reason = "the transcripts use more of it")]
mod stun;

use stun::{Builder, Integrity, Message, attribute as a};

const UNIX: u64 = 1_795_392_000;

thread_local! {
    /// Made once: a packet that is no signed request leaves nothing behind.
    static SERVER: RefCell<(TurnServer, RelaySocketId)> = RefCell::new(with_an_allocation());
}

fuzz_target!(|bytes: &[u8]| {
    handle(bytes);
    // The same with a header that is right, which no mutation finds often enough.
    if let Some((kind, attributes)) = bytes.split_first_chunk::<2>() {
        let attributes = &attributes[..attributes.len() & !3];
        let length = (attributes.len() as u16).to_be_bytes();
        handle(&[&kind[..], &length, b"\x21\x12\xa4\x42transaction.", attributes].concat());
    }
});

fn handle(bytes: &[u8]) {
    let _ = frame_length(bytes);
    SERVER.with_borrow_mut(|(server, relay)| {
        let allocations = server.stats().allocations;
        for tuple in [tuple(Transport::Udp, 4000), tuple(Transport::Udp, 4001), tuple(Transport::Tcp, 4002)] {
            let verdict = server.handle_client(&tuple, bytes, now());
            passed(&verdict, bytes);
            let mut answered = 0;
            while let Some(output) = server.poll_output() {
                let Output::Reply { to, message } = output else { panic!("{output:?}") };
                assert!(to == tuple && matches!(verdict, Verdict::Handled));
                Message::parse(&message).expect("an answer can be read");
                answered += message.len() + 28;
            }
            assert!(
                tuple.transport.is_stream() || answered * 10 <= (bytes.len() + 28) * 16,
                "{answered} bytes"
            );
        }
        passed(&server.handle_peer(*relay, peer(), bytes, now()), bytes);
        assert_eq!(server.poll_output(), None);
        assert_eq!(server.stats().allocations, allocations);
    });
}

fn passed(verdict: &Verdict, bytes: &[u8]) {
    if let Verdict::Forward(forward) = verdict {
        assert!(bytes.get(forward.body.clone()).is_some() && forward.pad < 4 && forward.head.len() <= 48);
    }
}

fn now() -> Now {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    Now { at: *BEGIN.get_or_init(Instant::now), unix: UNIX }
}

fn tuple(transport: Transport, port: u16) -> FiveTuple {
    FiveTuple { transport, client: ([81, 2, 69, 142], port).into(), server: ([198, 41, 0, 4], 3478).into() }
}

fn peer() -> SocketAddr {
    ([93, 184, 216, 34], 5000).into()
}

/// One client over UDP and one over TCP, each with a channel and a permission.
fn with_an_allocation() -> (TurnServer, RelaySocketId) {
    let addresses = RelayAddresses { detected: vec![[198, 41, 0, 4].into()], ..RelayAddresses::default() };
    let config =
        TurnConfig { secrets: vec![Secret::new(b"north".to_vec())], addresses, ..TurnConfig::default() };
    let mut server = TurnServer::new(config, [7; 32], now());
    server.handle_input(Input::Admit(Account { group: "room".into(), owner: "a".into() }), now());
    let mut socket = None;
    let mut transaction = 0_u8;
    for tuple in [tuple(Transport::Udp, 4000), tuple(Transport::Tcp, 4002)] {
        let mut nonce = String::new();
        for method in [stun::ALLOCATE, stun::ALLOCATE, stun::CHANNEL_BIND] {
            transaction += 1;
            let message = Builder::new(stun::REQUEST, method, [transaction; 12]);
            let message = match method {
                stun::ALLOCATE => message.transport(17),
                _ => message.channel(0x4000).peer(peer()),
            };
            let username = format!("{}:room.a", UNIX + 1_000_000_000);
            let key = stun::long_term_key(&username, "snug", &stun::password(b"north", &username), false);
            let packet = if nonce.is_empty() {
                message.finish()
            } else {
                message
                    .put(a::USERNAME, username.as_bytes())
                    .put(a::REALM, b"snug")
                    .put(a::NONCE, nonce.as_bytes())
                    .sign(&key, Integrity::Sha1)
                    .finish()
            };
            server.handle_client(&tuple, &packet, now());
            while let Some(output) = server.poll_output() {
                match output {
                    Output::Reply { message, .. } => {
                        let answer = Message::parse(&message).expect("an answer can be read");
                        nonce = answer.text(a::NONCE).unwrap_or(nonce);
                    }
                    Output::OpenRelaySocket { relay, .. } => {
                        socket = Some(relay);
                        server.handle_input(Input::RelaySocketOpened(relay), now());
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(server.stats().allocations, 2);
    (server, socket.expect("a socket was opened"))
}
