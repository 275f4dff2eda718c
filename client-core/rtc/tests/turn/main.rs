//! Links through real TURN servers: over UDP, TCP and TLS, with servers that vanish, refuse, or are something else altogether.
#![allow(clippy::unwrap_used)]

#[path = "../../../../ci/needs.rs"]
mod needs;
#[path = "../../../tests/relay_binary/mod.rs"]
mod relay_binary;
mod servers;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use servers::{Certificate, Coturn, Relay};
use snug_media_proto::section::Section;
use snug_rtc::{
    CandidateKind, Factory, FactoryConfig, OutgoingRtp, PathStats, Peer, PeerEvent, RelayProblem,
    RelayProtocol, Rtp, peer_channels,
};
use snug_wire::IceServer;
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const PROTOCOLS: [RelayProtocol; 3] = [RelayProtocol::Udp, RelayProtocol::Tcp, RelayProtocol::Tls];

fn relay_only(protocol: Option<RelayProtocol>, tls: Arc<rustls::ClientConfig>) -> FactoryConfig {
    FactoryConfig {
        include_loopback: true,
        bind: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        relay_only: true,
        relay_transport: protocol,
        tls: Some(tls),
    }
}

struct Side {
    peer: Arc<Peer>,
    events: mpsc::Receiver<PeerEvent>,
    media: mpsc::Receiver<Rtp>,
    candidates: mpsc::UnboundedReceiver<String>,
}

/// A side whose candidates go to whoever is told by the sender that comes with it.
async fn side(
    config: FactoryConfig,
    servers: &[IceServer],
) -> (Side, tokio::sync::oneshot::Sender<Arc<Peer>>) {
    let (sender, mut events, media) = peer_channels();
    let peer = Arc::new(Peer::new(&Factory::new(config), servers, sender).await.unwrap());
    let (to, other) = tokio::sync::oneshot::channel::<Arc<Peer>>();
    let (seen, candidates) = mpsc::unbounded_channel();
    let (forward, rest) = mpsc::channel(256);
    tokio::spawn(async move {
        let mut waiting = Vec::new();
        let mut other = Some(other);
        let mut remote: Option<Arc<Peer>> = None;
        loop {
            let event = match &mut other {
                Some(told) => tokio::select! {
                    peer = told => { remote = peer.ok(); other = None; None }
                    event = events.next() => Some(event),
                },
                None => Some(events.next().await),
            };
            match event {
                None => {}
                Some(None) => return,
                Some(Some(PeerEvent::Candidate { candidate, mid, mline })) => {
                    let _ = seen.send(candidate.clone());
                    waiting.push((candidate, mid, mline));
                }
                Some(Some(event)) => {
                    let _ = forward.try_send(event);
                }
            }
            if let Some(remote) = &remote {
                for (candidate, mid, mline) in waiting.drain(..) {
                    // One of a generation that was given up is refused; the others are enough.
                    let _ = remote.add_candidate(&candidate, mid, mline).await;
                }
            }
        }
    });
    (Side { peer, events: rest, media, candidates }, to)
}

struct Pair {
    a: Side,
    b: Side,
    /// From the offer to the open data channel.
    took: Duration,
}

async fn pair(a: (FactoryConfig, &[IceServer]), b: (FactoryConfig, &[IceServer])) -> Pair {
    let ((mut a, to_b), (mut b, to_a)) = (side(a.0, a.1).await, side(b.0, b.1).await);
    let start = Instant::now();
    let offer = a.peer.create_offer(false).await.unwrap();
    let answer = b.peer.accept_offer(&offer, false).await.unwrap();
    a.peer.accept_answer(&answer).await.unwrap();
    assert!(to_b.send(Arc::clone(&b.peer)).is_ok() && to_a.send(Arc::clone(&a.peer)).is_ok());
    wait_for(&mut a.events, |event| *event == PeerEvent::ChannelOpen).await;
    wait_for(&mut b.events, |event| *event == PeerEvent::ChannelOpen).await;
    Pair { a, b, took: start.elapsed() }
}

async fn wait_for(events: &mut mpsc::Receiver<PeerEvent>, wanted: impl Fn(&PeerEvent) -> bool) -> PeerEvent {
    let found = timeout(PATIENCE, async {
        loop {
            let event = events.recv().await.expect("a connection");
            if wanted(&event) {
                return event;
            }
        }
    });
    found.await.expect("the event in time")
}

fn packet(number: u32, size: usize) -> OutgoingRtp {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(size, 0);
    OutgoingRtp { payload: Bytes::from(payload), timestamp: number * 960, marker: true, red: false }
}

/// Sends sound and pictures both ways as a call does, and says how long packets are under way one way: the median, and that of the slowest twentieth.
async fn talk(pair: &mut Pair) -> [Duration; 2] {
    const PACKETS: u32 = 50;
    let mut delays = Vec::new();
    for there in [true, false] {
        let (from, to) =
            if there { (&pair.a.peer, &mut pair.b.media) } else { (&pair.b.peer, &mut pair.a.media) };
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let mut came = [0_u32; 4];
        let mut sent = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while came[0] < PACKETS || came[1] < PACKETS {
            assert!(Instant::now() < deadline, "{came:?} of {PACKETS} came");
            tokio::select! {
                _ = ticks.tick(), if sent.len() < PACKETS as usize => {
                    let number = sent.len() as u32;
                    sent.push(Instant::now());
                    // Sizes that need padding in a stream, too.
                    assert!(from.send(Section::Microphone, packet(number, 81 + number as usize % 4)));
                    assert!(from.send(Section::Camera, packet(number, 1_150 + number as usize % 4)));
                }
                Some(rtp) = to.recv() => {
                    let number = u32::from_be_bytes(rtp.packet.payload[..4].try_into().unwrap());
                    came[rtp.section.index()] += 1;
                    if rtp.section == Section::Microphone {
                        delays.push(sent[number as usize].elapsed());
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
        assert_eq!(came[..2], [PACKETS; 2], "everything once");
    }
    delays.sort();
    [delays[delays.len() / 2], delays[delays.len() * 19 / 20]]
}

async fn path(peer: &Peer) -> PathStats {
    peer.stats().await.path.expect("a path")
}

fn assert_shows_relays_alone(side: &mut Side) {
    let mut count = 0;
    while let Ok(candidate) = side.candidates.try_recv() {
        assert!(candidate.contains(" typ relay raddr 0.0.0.0 rport 0"), "{candidate}");
        count += 1;
    }
    assert!(count > 0, "no candidate was shown");
}

/// Two sides through one server, by each protocol; with the delay of each beside the others'.
async fn every_protocol(name: &str, tls: &Arc<rustls::ClientConfig>, a: &[IceServer], b: &[IceServer]) {
    for protocol in PROTOCOLS {
        let config = relay_only(Some(protocol), Arc::clone(tls));
        let mut pair = pair((config.clone(), a), (config, b)).await;
        let delay = talk(&mut pair).await;
        for side in [&mut pair.a, &mut pair.b] {
            let path = path(&side.peer).await;
            assert_eq!((path.local, path.relay), (CandidateKind::Relay, Some(protocol)), "{path:?}");
            assert_shows_relays_alone(side);
        }
        eprintln!("{name} {protocol:?}: connected in {:?}, {delay:?} under way", pair.took);
        pair.a.peer.close().await;
        pair.b.peer.close().await;
    }
}

#[tokio::test]
async fn both_sides_meet_at_the_projects_own_relay_by_every_protocol() {
    let relay = Relay::start();
    let ((_one, a), (_two, b)) = (relay.seat(1).await, relay.seat(2).await);
    every_protocol("relay", &relay.certificate.trusted(), &a, &b).await;
}

#[tokio::test]
async fn both_sides_meet_at_coturn_by_every_protocol() {
    let Some(coturn) = Coturn::start() else { return };
    let servers = coturn.servers();
    every_protocol("coturn", &coturn.certificate.trusted(), &servers, &servers).await;
}

#[tokio::test]
async fn one_side_may_come_by_tcp_and_the_other_by_tls() {
    let relay = Relay::start();
    let ((_one, a), (_two, b)) = (relay.seat(1).await, relay.seat(2).await);
    let tls = relay.certificate.trusted();
    let by = |protocol| relay_only(Some(protocol), Arc::clone(&tls));
    let mut pair = pair((by(RelayProtocol::Tcp), &a), (by(RelayProtocol::Tls), &b)).await;
    talk(&mut pair).await;
    assert_eq!(path(&pair.a.peer).await.relay, Some(RelayProtocol::Tcp));
    assert_eq!(path(&pair.b.peer).await.relay, Some(RelayProtocol::Tls));
}

#[tokio::test]
async fn udp_is_taken_where_it_works_and_streams_where_it_does_not() {
    let relay = Relay::start();
    let ((_one, mut a), (_two, mut b)) = (relay.seat(1).await, relay.seat(2).await);
    let config = relay_only(None, relay.certificate.trusted());
    let free = pair((config.clone(), &a), (config.clone(), &b)).await;
    for side in [&free.a, &free.b] {
        assert_eq!(path(&side.peer).await.relay, Some(RelayProtocol::Udp));
    }
    eprintln!("with UDP: connected in {:?}", free.took);
    // A port where nobody answers, as behind a firewall.
    let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for server in a.iter_mut().chain(&mut b) {
        for url in server.urls.iter_mut().filter(|url| url.ends_with("transport=udp")) {
            *url = format!("turn:{}?transport=udp", silent.local_addr().unwrap());
        }
    }
    let mut blocked = pair((config.clone(), &a), (config, &b)).await;
    talk(&mut blocked).await;
    for side in [&blocked.a, &blocked.b] {
        assert_eq!(path(&side.peer).await.relay, Some(RelayProtocol::Tcp));
    }
    eprintln!("without UDP: connected in {:?}", blocked.took);
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_carries_the_link_again() {
    let Some(mut coturn) = Coturn::start() else { return };
    let servers = coturn.servers();
    for protocol in [RelayProtocol::Tcp, RelayProtocol::Tls] {
        let config = relay_only(Some(protocol), coturn.certificate.trusted());
        let mut pair = pair((config.clone(), &servers), (config, &servers)).await;
        talk(&mut pair).await;
        coturn.kill();
        // The restart begins while nobody listens.
        let offer = pair.a.peer.create_offer(true).await.unwrap();
        let answer = pair.b.peer.accept_offer(&offer, false).await.unwrap();
        pair.a.peer.accept_answer(&answer).await.unwrap();
        coturn.restart();
        let back = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while pair.b.media.try_recv().is_err() {
            assert!(back.elapsed() < PATIENCE, "nothing comes again");
            ticks.tick().await;
            pair.a.peer.send(Section::Microphone, packet(7, 80));
        }
        eprintln!("{protocol:?}: {:?} after the server was back", back.elapsed());
        let path = path(&pair.b.peer).await;
        assert_eq!((path.local, path.relay), (CandidateKind::Relay, Some(protocol)));
    }
}

#[tokio::test]
async fn a_server_that_comes_up_late_is_tried_again_until_then() {
    let Some(mut coturn) = Coturn::start() else { return };
    coturn.kill();
    let (servers, tls) = (coturn.servers(), coturn.certificate.trusted());
    let late = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(400));
        coturn.restart();
        coturn
    });
    let config = relay_only(Some(RelayProtocol::Tcp), tls);
    let mut pair = pair((config.clone(), &servers), (config, &servers)).await;
    talk(&mut pair).await;
    eprintln!("a late server: connected in {:?}", pair.took);
    late.await.unwrap();
}

/// What a lone side is told of its server.
async fn problem(config: FactoryConfig, servers: &[IceServer]) -> RelayProblem {
    let (mut side, _to) = side(config, servers).await;
    side.peer.create_offer(false).await.unwrap();
    match wait_for(&mut side.events, |event| matches!(event, PeerEvent::RelayProblem(_))).await {
        PeerEvent::RelayProblem(problem) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_is_told_with_its_reason() {
    let Some(coturn) = Coturn::with_certificate(Certificate::new(&["turn.example"])) else { return };
    let stranger = Certificate::new(&["127.0.0.1"]);
    for (trusted, reason) in
        [(&stranger, "no authority trusted here signed it"), (&coturn.certificate, "it is for another name")]
    {
        let config = relay_only(Some(RelayProtocol::Tls), trusted.trusted());
        let problem = problem(config, &coturn.servers()).await;
        let server = format!("turns:127.0.0.1:{}?transport=tcp", coturn.tls_port);
        assert_eq!(problem, RelayProblem::Certificate { server, cause: reason.to_owned() });
        assert_eq!(problem.code(), "turn_certificate");
    }
}

#[tokio::test]
async fn a_credential_that_is_not_valid_is_told_by_every_protocol() {
    let Some(coturn) = Coturn::start() else { return };
    for protocol in PROTOCOLS {
        let config = relay_only(Some(protocol), coturn.certificate.trusted());
        let problem = problem(config, &coturn.servers_with("open barley")).await;
        assert!(matches!(&problem, RelayProblem::Credential { .. }), "{protocol:?}: {problem:?}");
    }
}

/// Listens, and lets `serve` talk to everybody who comes.
fn impostor(serve: impl Fn(std::net::TcpStream) + Send + Sync + 'static) -> Vec<IceServer> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    let urls = vec![format!("turn:{address}?transport=tcp"), format!("turns:{address}")];
    vec![IceServer { urls, username: Some("name".to_owned()), credential: Some("word".to_owned()) }]
}

#[tokio::test]
async fn a_server_that_says_nonsense_hangs_up_or_floods_does_no_harm() {
    let hangs_up = impostor(drop);
    let silent = impostor(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let nonsense = impostor(|mut stream| {
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let floods = impostor(|mut stream| {
        let _ = stream.read(&mut [0; 64]);
        // ChannelData of a channel that nobody bound, and the longest of messages.
        let small = [0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0].repeat(4_000);
        let long = [&[0x01, 0x03, 0xff, 0xfc, 0x21, 0x12, 0xa4, 0x42], &[0xff; 12 + 0xfffc][..]].concat();
        for _ in 0..200 {
            if stream.write_all(&small).is_err() || stream.write_all(&long).is_err() {
                return;
            }
        }
    });
    let all = [hangs_up, silent, nonsense, floods].concat();
    let tls = Certificate::new(&["127.0.0.1"]).trusted();
    let config = FactoryConfig { relay_only: false, ..relay_only(None, tls) };
    let mut pair = pair((config.clone(), &all), (config, &all)).await;
    talk(&mut pair).await;
    let path = path(&pair.a.peer).await;
    assert_ne!(path.local, CandidateKind::Relay);
    assert_eq!(path.relay, None);
    eprintln!("beside bad servers: connected in {:?}", pair.took);
}
