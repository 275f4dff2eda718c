//! The whole server on loopback: real sockets, real streams, its own thread.

mod client;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use snug_turn_proto::{PeerPolicy, Secret, Transport, TurnConfig};
use snug_wire::{RoomId, UserId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use self::client::{Answer, Client, channel_data};
use super::{Turn, TurnFigures, TurnSettings, start};
use crate::ice::Accounts;
use crate::machine::Interfaces;

const LOOPBACK: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

struct World {
    turn: Turn,
    secret: Secret,
    certificate: CertificateDer<'static>,
}

/// A server whose settings a test changes.
fn world(address: &str, change: impl FnOnce(&mut TurnSettings)) -> World {
    let address: SocketAddr = address.parse().expect(address);
    let secret = Secret::new(b"north".to_vec());
    let policy = PeerPolicy { allow: vec![any("127.0.0.0/8"), any("::1")], ..PeerPolicy::default() };
    let proto = TurnConfig { secrets: vec![secret.clone()], policy, ..TurnConfig::default() };
    let mut settings = TurnSettings::new(vec![address], vec![address], proto);
    change(&mut settings);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("they belong together");
    let turn =
        start(settings, [7; 32], Some(TlsAcceptor::from(Arc::new(config)))).expect("loopback has free ports");
    World { turn, secret, certificate }
}

fn any<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect(text)
}

fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

impl World {
    fn room() -> RoomId {
        any("sunny-mountain-42")
    }

    /// A participant who is in the room.
    async fn client(&self, transport: Transport, n: u8) -> Client {
        self.turn.handle().admit(&Self::room(), user(n));
        self.stranger(transport, n).await
    }

    async fn stranger(&self, transport: Transport, n: u8) -> Client {
        let server = match transport {
            Transport::Udp | Transport::Tcp => self.turn.addresses[0],
            Transport::Tls => self.turn.tls_addresses[0],
        };
        self.client_at(transport, n, server).await
    }

    async fn client_at(&self, transport: Transport, n: u8, server: SocketAddr) -> Client {
        let username = Accounts::new(&self.secret).of(&Self::room(), user(n)).username(4_000_000_000);
        let password = self.secret.password(&username).to_string();
        Client::connect(transport, server, &self.certificate, (username, password)).await
    }

    async fn figures(&self) -> TurnFigures {
        self.turn.handle().stats().await.expect("it runs")
    }

    /// Waits until the figures are as they should be.
    async fn until(&self, what: &str, good: impl Fn(&TurnFigures) -> bool) {
        for _ in 0..20_000 {
            if good(&self.figures().await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{what}: {:?}", self.figures().await);
    }
}

/// A range of one port that nobody uses, and the socket that shows it.
fn free_port(address: &str) -> (RangeInclusive<u16>, UdpSocket) {
    let socket = UdpSocket::bind(address).expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    (port..=port, socket)
}

#[tokio::test]
async fn any_two_transports_reach_each_other_and_no_relay_socket_is_ever_bound() {
    for (address, per_packet) in LOOPBACK.into_iter().flat_map(|address| [(address, false), (address, true)])
    {
        let world = world(address, |settings| settings.per_packet = per_packet);
        let mut clients = Vec::new();
        for (n, transport) in Transport::ALL.into_iter().enumerate() {
            let mut client = world.client(transport, n as u8).await;
            let relayed = client.relayed().await;
            clients.push((client, relayed));
        }
        for a in 0..clients.len() {
            for b in (0..clients.len()).filter(|b| *b != a) {
                let peer = clients[b].1;
                assert_eq!(clients[a].0.bind(0x4000 + b as u16, peer).await, Answer::Success(None));
            }
        }
        for a in 0..clients.len() {
            for b in (0..clients.len()).filter(|b| *b != a) {
                // Every remainder of four, since streams pad.
                for size in [0, 1, 2, 3, 4, 1200, 9001] {
                    let payload = vec![(a * 16 + b) as u8; size];
                    clients[a].0.say(0x4000 + b as u16, &payload).await;
                    assert_eq!(clients[b].0.hear().await, (0x4000 + a as u16, payload));
                }
            }
        }
        let figures = world.figures().await;
        assert_eq!((figures.server.allocations, figures.server.relay_sockets), (3, 0));
        assert_eq!(figures.server.packets_in_process, 42);
        assert_eq!((figures.lost, figures.stale, figures.streams), (0, 0, 2));
    }
}

#[tokio::test]
async fn a_peer_elsewhere_is_reached_by_a_relay_socket_that_lives_as_long_as_the_allocation() {
    for (address, per_packet) in LOOPBACK.into_iter().flat_map(|address| [(address, false), (address, true)])
    {
        for transport in Transport::ALL {
            let (ports, holder) = free_port(address);
            let world = world(address, |settings| {
                settings.per_packet = per_packet;
                settings.proto.relay_ports = ports;
            });
            let relayed = holder.local_addr().expect("bound");
            let mut client = world.client(transport, 1).await;
            assert_eq!(
                client.relayed().await,
                relayed,
                "the port is only reserved, so it can still be held here"
            );
            drop(holder);

            let peer = tokio::net::UdpSocket::bind(address).await.expect("a free port");
            let there = peer.local_addr().expect("bound");
            assert_eq!(client.bind(0x4001, there).await, Answer::Success(None));
            assert_eq!(world.figures().await.server.relay_sockets, 1);
            let mut buffer = [0; 2000];
            for payload in [b"out".as_slice(), &[7; 1200]] {
                client.say(0x4001, payload).await;
                let (length, from) = peer.recv_from(&mut buffer).await.expect("it came");
                assert_eq!((&buffer[..length], from), (payload, relayed));
                peer.send_to(payload, relayed).await.expect("sent");
                assert_eq!(client.hear().await, (0x4001, payload.to_vec()));
            }
            assert!(UdpSocket::bind(relayed).is_err(), "it is bound");
            assert_eq!(client.refresh(0).await, Answer::Success(None));
            UdpSocket::bind(relayed).expect("it is free again");
            assert_eq!(world.figures().await.server.relay_sockets, 0);
        }
    }
}

#[tokio::test]
async fn a_port_that_another_program_has_is_answered_with_508() {
    let (ports, holder) = free_port(LOOPBACK[0]);
    let world = world(LOOPBACK[0], |settings| settings.proto.relay_ports = ports);
    let mut client = world.client(Transport::Udp, 1).await;
    client.relayed().await;
    assert_eq!(client.bind(0x4001, any("127.0.0.1:9999")).await, Answer::Error(508));
    drop(holder);
    assert_eq!(client.bind(0x4001, any("127.0.0.1:9999")).await, Answer::Success(None));
}

#[tokio::test]
async fn runs_of_datagrams_arrive_whole_and_in_order() {
    for per_packet in [false, true] {
        let world = world(LOOPBACK[0], |settings| settings.per_packet = per_packet);
        let mut clients = [world.client(Transport::Udp, 1).await, world.client(Transport::Udp, 2).await];
        let relayed = [clients[0].relayed().await, clients[1].relayed().await];
        clients[0].bind(0x4002, relayed[1]).await;
        clients[1].bind(0x4001, relayed[0]).await;
        let run: Vec<u8> =
            (0..40_u8).flat_map(|n| [&[0x40, 2, 0, 100], [n; 100].as_slice()].concat()).collect();
        let socket = clients[0].datagrams();
        // As a browser's packets come when the network has gathered them: one behind the other, at once.
        for datagram in run.chunks(104) {
            socket.send(datagram).await.expect("sent");
        }
        for n in 0..40_u8 {
            assert_eq!(clients[1].hear().await, (0x4001, vec![n; 100]));
        }
    }
}

#[tokio::test]
async fn a_listener_on_all_addresses_answers_from_the_one_that_was_reached() {
    let world = world("0.0.0.0:0", |_| {});
    let port = world.turn.addresses[0].port();
    for reached in ["127.0.0.1", "127.0.0.2"] {
        // The client's socket is connected, so it takes nothing from elsewhere.
        let server = SocketAddr::new(any::<IpAddr>(reached), port);
        let mut client = world.client_at(Transport::Udp, 1, server).await;
        assert_eq!(client.binding().await, Answer::Success(None));
        world.turn.handle().admit(&World::room(), user(1));
        assert_eq!(client.relayed().await.ip(), any::<IpAddr>(reached));
    }
}

#[tokio::test]
async fn who_is_not_admitted_gets_nothing_and_who_is_revoked_loses_everything() {
    let world = world(LOOPBACK[0], |_| {});
    let mut stranger = world.stranger(Transport::Udp, 9).await;
    assert_eq!(stranger.allocate().await, Answer::Error(401));
    let mut clients = Vec::new();
    for transport in Transport::ALL {
        let mut client = world.client(transport, 1).await;
        client.relayed().await;
        clients.push(client);
    }
    world.turn.handle().revoke(&World::room(), user(1));
    assert_eq!(world.figures().await.server.allocations, 0);
    for client in &mut clients[1..] {
        assert_eq!(client.receive().await, None, "its stream ends");
    }
    assert_eq!(clients[0].refresh(600).await, Answer::Error(401));
    world.until("streams are forgotten", |figures| figures.streams == 0).await;
}

#[tokio::test]
async fn a_stream_that_ends_takes_its_allocation_along() {
    let world = world(LOOPBACK[0], |_| {});
    for transport in [Transport::Tcp, Transport::Tls] {
        let mut client = world.client(transport, 1).await;
        client.relayed().await;
        assert_eq!(world.figures().await.server.allocations, 1);
        drop(client);
        let gone = |figures: &TurnFigures| (figures.server.allocations, figures.streams) == (0, 0);
        world.until("it is gone", gone).await;
    }
}

#[tokio::test]
async fn nothing_new_is_allocated_while_draining_and_what_is_there_goes_on() {
    let world = world(LOOPBACK[0], |_| {});
    let mut early = world.client(Transport::Udp, 1).await;
    early.relayed().await;
    world.turn.handle().drain();
    let mut late = world.client(Transport::Tcp, 2).await;
    assert_eq!(late.allocate().await, Answer::Error(508));
    assert_eq!(early.refresh(600).await, Answer::Success(None));
}

#[tokio::test]
async fn messages_may_come_byte_by_byte_or_many_at_once() {
    let world = world(LOOPBACK[0], |_| {});
    let mut stream = TcpStream::connect(world.turn.addresses[0]).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42], [5; 12].as_slice()].concat();
    for byte in &binding {
        stream.write_all(&[*byte]).await.expect("it reads");
        tokio::task::yield_now().await;
    }
    stream.write_all(&binding.repeat(60)).await.expect("it reads");
    let mut answer = [0; 32];
    for _ in 0..61 {
        stream.read_exact(&mut answer).await.expect("an answer to each");
        assert_eq!((&answer[..2], &answer[8..20]), ([1, 1].as_slice(), [5; 12].as_slice()));
    }
}

#[tokio::test]
async fn a_stream_of_something_else_is_closed() {
    let world = world(LOOPBACK[0], |_| {});
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42], [5; 12].as_slice()].concat();
    for garbage in
        [b"POST / HTTP/1.1\r\n\r\n".to_vec(), vec![0, 1, 0, 3], [binding.as_slice(), &[0xff]].concat()]
    {
        let mut stream = TcpStream::connect(world.turn.addresses[0]).await.expect("it listens");
        stream.write_all(&garbage).await.expect("it reads");
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut rest).await;
    }
    world.until("streams are forgotten", |figures| figures.streams == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed() {
    let world = world(LOOPBACK[0], |_| {});
    // On the second, TLS is never begun; the third begins a message and does not end it.
    let (plain, tls) = (world.turn.addresses[0], world.turn.tls_addresses[0]);
    for (address, said) in [(plain, [].as_slice()), (tls, &[]), (plain, &[0, 1, 0, 8])] {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(said).await.expect("it reads");
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn a_stream_that_asks_and_asks_without_an_allocation_is_closed() {
    let world = world(LOOPBACK[0], |_| {});
    for transport in [Transport::Tcp, Transport::Tls] {
        let mut client = world.client(transport, 1).await;
        client.relayed().await;
        for _ in 0..200 {
            assert!(matches!(client.binding().await, Answer::Success(_)));
        }
        let mut stranger = world.stranger(transport, 2).await;
        for _ in 0..63 {
            assert!(matches!(stranger.binding().await, Answer::Success(_)));
        }
        let channel_data = [0x40, 0, 0, 0];
        stranger.send(&channel_data).await;
        assert_eq!(stranger.receive().await, None);
    }
}

#[tokio::test]
async fn an_address_that_becomes_the_machines_own_or_its_neighbours_is_no_peer_any_more() {
    let world = world(LOOPBACK[0], |_| {});
    let mut client = world.client(Transport::Udp, 1).await;
    client.relayed().await;
    assert_eq!(client.bind(0x4001, any("9.9.9.9:9999")).await, Answer::Success(None));
    assert_eq!(client.bind(0x4002, any("9.9.8.9:9999")).await, Answer::Success(None));
    let (addresses, on_link) = (vec![any("9.9.9.10")], vec![any("9.9.8.0/24")]);
    world.turn.handle().own_addresses(Interfaces { addresses, on_link });
    world.figures().await;
    assert_eq!(client.bind(0x4003, any("9.9.9.10:9999")).await, Answer::Error(403));
    assert_eq!(client.bind(0x4003, any("9.9.8.10:9999")).await, Answer::Error(403));
    assert_eq!(client.bind(0x4002, any("9.9.8.9:9999")).await, Answer::Error(403), "also what was allowed");
}

#[tokio::test]
async fn no_more_relay_sockets_than_the_cap_are_open() {
    let world = world(LOOPBACK[0], |settings| settings.max_relay_sockets = 1);
    let mut first = world.client(Transport::Udp, 1).await;
    let mut second = world.client(Transport::Udp, 2).await;
    first.relayed().await;
    second.relayed().await;
    assert_eq!(first.bind(0x4001, any("127.0.0.1:9999")).await, Answer::Success(None));
    assert_eq!(second.bind(0x4001, any("127.0.0.1:9999")).await, Answer::Error(508));
    assert_eq!(first.refresh(0).await, Answer::Success(None));
    assert_eq!(second.bind(0x4001, any("127.0.0.1:9999")).await, Answer::Success(None));
}

#[tokio::test]
async fn more_streams_than_the_cap_are_turned_away() {
    let world = world(LOOPBACK[0], |settings| settings.max_streams = 2);
    let mut first = world.client(Transport::Tcp, 1).await;
    first.relayed().await;
    let mut second = world.client(Transport::Tls, 2).await;
    second.relayed().await;
    let mut third = TcpStream::connect(world.turn.addresses[0]).await.expect("the kernel takes it");
    assert_eq!(third.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(world.figures().await.refused_streams, 1);
    drop(second);
    // Its place is free when its socket is closed, a moment later. One that says nothing makes room for the next that does.
    let taken = async || {
        let mut stream = TcpStream::connect(world.turn.addresses[0]).await.expect("the kernel takes it");
        tokio::time::timeout(Duration::from_millis(20), stream.read(&mut [0; 8])).await.is_err()
    };
    while !taken().await {}
    let mut fourth = world.client(Transport::Tcp, 3).await;
    fourth.relayed().await;
    assert_eq!(first.refresh(600).await, Answer::Success(None));
}

#[tokio::test]
async fn a_stream_that_is_not_read_loses_old_media_and_nothing_else() {
    let world = world(LOOPBACK[0], |_| {});
    let mut sender = world.client(Transport::Udp, 1).await;
    let mut reader = world.client(Transport::Tcp, 2).await;
    let (from, to) = (sender.relayed().await, reader.relayed().await);
    sender.bind(0x4002, to).await;
    reader.bind(0x4001, from).await;
    let mut sent = 0_u32;
    // What kernel and queue hold together is far below what is sent.
    while world.figures().await.stale < 2_000 {
        for _ in 0..100 {
            sender.say(0x4002, &[sent.to_be_bytes().as_slice(), &[9; 1196]].concat()).await;
            sent += 1;
        }
        assert!(sent < 200_000, "nothing is ever dropped");
    }
    sender.say(0x4002, b"the newest").await;
    let mut last = None;
    loop {
        let (channel, payload) = channel_data(&reader.receive().await.expect("the stream lives"));
        assert_eq!(channel, 0x4001);
        if payload == b"the newest" {
            break;
        }
        assert_eq!(payload[4..], [9; 1196], "every frame is whole");
        let number = u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]);
        assert!(last.is_none_or(|last| last < number), "in order");
        last = Some(number);
    }
}

#[tokio::test]
async fn a_server_that_is_dropped_closes_its_sockets_and_streams() {
    let world = world(LOOPBACK[0], |_| {});
    let mut client = world.client(Transport::Tcp, 1).await;
    client.relayed().await;
    let (address, handle) = (world.turn.addresses[0], world.turn.handle());
    drop(world);
    assert_eq!(client.receive().await, None);
    UdpSocket::bind(address).expect("the port is free");
    assert!(handle.stats().await.is_none());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let (_, holder) = free_port(LOOPBACK[0]);
    let address = holder.local_addr().expect("bound");
    let settings = TurnSettings::new(vec![address], Vec::new(), TurnConfig::default());
    let text = format!("{:#}", start(settings, [0; 32], None).err().expect("it is taken"));
    assert!(text.contains(&address.to_string()) && text.contains("another"), "{text}");
    let settings = TurnSettings::new(Vec::new(), vec![any(LOOPBACK[0])], TurnConfig::default());
    let text = format!("{:#}", start(settings, [0; 32], None).err().expect("no certificate"));
    assert!(text.contains("certificate"), "{text}");
}
