//! Two connections in one process: over the loopback interface, and over a network in virtual time
//! where it is about loss and rates.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use snug_media_proto::section::Section;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::shared::{LocalStream, Shared};
use crate::{
    CandidateKind, EventReceiver, Factory, FactoryConfig, Flow, OutgoingRtp, PayloadKind, Peer, PeerEvent,
    PeerState, Rtp, peer_channels,
};

mod conditions;
mod net;
mod rate;
mod traffic;

use conditions::Conditions;
use net::{Net, NetLine, NetRuntime};

const PATIENCE: Duration = Duration::from_secs(15);

struct Side {
    peer: Arc<Peer>,
    events: EventReceiver,
    media: mpsc::Receiver<Rtp>,
}

/// Hands the candidates of one side to the other, and everything else to the test.
fn trickle(mut events: EventReceiver, to: Arc<Peer>) -> mpsc::Receiver<PeerEvent> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                PeerEvent::Candidate { candidate, mid, mline } => {
                    // One of a generation that was given up is refused; the others are enough.
                    let _ = to.add_candidate(&candidate, mid, mline).await;
                }
                other => {
                    if sender.send(other).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    receiver
}

fn config() -> FactoryConfig {
    FactoryConfig {
        include_loopback: true,
        bind: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        ..FactoryConfig::default()
    }
}

async fn side() -> Side {
    side_of(Factory::new(config())).await
}

async fn side_of(factory: Factory) -> Side {
    let (sender, events, media) = peer_channels();
    let peer = Peer::new(&factory, &[], sender).await.unwrap();
    Side { peer: Arc::new(peer), events, media }
}

struct Pair {
    a: Arc<Peer>,
    b: Arc<Peer>,
    a_events: mpsc::Receiver<PeerEvent>,
    b_events: mpsc::Receiver<PeerEvent>,
    a_media: mpsc::Receiver<Rtp>,
    b_media: mpsc::Receiver<Rtp>,
}

async fn wait_for(events: &mut mpsc::Receiver<PeerEvent>, wanted: &PeerEvent) {
    timeout(PATIENCE, async {
        while let Some(event) = events.recv().await {
            if event == *wanted {
                return;
            }
        }
        panic!("the connection ended before {wanted:?}");
    })
    .await
    .unwrap_or_else(|_| panic!("never saw {wanted:?}"));
}

/// Connects two sides, the first offering.
async fn pair() -> Pair {
    connect(side().await, side().await).await
}

/// Two lines of a network in virtual time, there and back, and the network.
fn lines(seed: u64) -> (Net, NetLine, NetLine) {
    let net = Net::default();
    let (there, back) = (NetLine::new(&net, seed), NetLine::new(&net, !seed));
    (net, there, back)
}

/// Connects two sides over the lines from the first to the second and back.
async fn wired(net: &Net, there: &NetLine, back: &NetLine) -> Pair {
    let over = |line: &NetLine| {
        let runtime = NetRuntime { net: net.clone(), line: line.clone() };
        side_of(Factory::over(config(), Arc::new(runtime)))
    };
    connect(over(there).await, over(back).await).await
}

async fn connect(a: Side, b: Side) -> Pair {
    let offer = a.peer.create_offer(false).await.unwrap();
    let answer = b.peer.accept_offer(&offer, false).await.unwrap();
    a.peer.accept_answer(&answer).await.unwrap();
    let mut pair = Pair {
        a_events: trickle(a.events, Arc::clone(&b.peer)),
        b_events: trickle(b.events, Arc::clone(&a.peer)),
        a: a.peer,
        b: b.peer,
        a_media: a.media,
        b_media: b.media,
    };
    wait_for(&mut pair.a_events, &PeerEvent::ChannelOpen).await;
    wait_for(&mut pair.b_events, &PeerEvent::ChannelOpen).await;
    pair
}

fn packet(payload: &[u8], timestamp: u32) -> OutgoingRtp {
    OutgoingRtp { payload: Bytes::copy_from_slice(payload), timestamp, marker: true, red: false }
}

async fn receive(media: &mut mpsc::Receiver<Rtp>) -> Rtp {
    timeout(PATIENCE, media.recv()).await.expect("media in time").expect("a connection")
}

#[test]
fn an_offer_has_the_sections_of_the_protocol_in_order() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let offer = runtime.block_on(async { side().await.peer.create_offer(false).await.unwrap() });
    let sections: Vec<&str> = offer.lines().filter_map(|line| line.strip_prefix("m=")).collect();
    let kinds: Vec<&str> = sections.iter().filter_map(|section| section.split(' ').next()).collect();
    assert_eq!(kinds, ["audio", "video", "video", "audio", "application"], "{offer}");
    assert!(!["a=sendonly", "a=recvonly", "a=inactive"].iter().any(|other| offer.contains(other)), "{offer}");
    for wanted in [
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=rtpmap:63 red/48000/2",
        "a=rtpmap:96 VP8/90000",
        "a=rtpmap:97 rtx/90000",
        "a=fmtp:97 apt=96",
        "a=rtcp-fb:96 nack pli",
        "a=rtcp-fb:96 ccm fir",
        "a=rtcp-fb:96 transport-cc",
        "a=ssrc-group:FID",
        "a=msid:self",
        "a=msid:screen",
    ] {
        assert!(offer.contains(wanted), "{wanted} is missing in\n{offer}");
    }
}

#[tokio::test]
async fn two_sides_connect_and_carry_every_section_both_ways() {
    let mut pair = pair().await;
    for (from, media) in [(&pair.a, &mut pair.b_media), (&pair.b, &mut pair.a_media)] {
        for section in Section::ALL {
            assert!(from.send(section, packet(&[section.index() as u8, 1], 960)), "{section:?}");
            let got = receive(media).await;
            assert_eq!(got.section, section);
            assert_eq!(&got.packet.payload[..], [section.index() as u8, 1]);
            assert_eq!((got.packet.timestamp, got.packet.marker, got.packet.recovered), (960, true, false));
            let kind = if section.is_video() { PayloadKind::Vp8 } else { PayloadKind::Opus };
            assert_eq!(got.packet.payload_kind, kind);
        }
    }
    assert!(pair.a.red_carries().is_some());
    assert!(pair.a.send(Section::Microphone, OutgoingRtp { red: true, ..packet(&[9], 1_920) }));
    assert_eq!(receive(&mut pair.b_media).await.packet.payload_kind, PayloadKind::Red);

    pair.a.send_channel("hello").await.unwrap();
    wait_for(&mut pair.b_events, &PeerEvent::ChannelMessage("hello".into())).await;

    assert!(pair.b.request_key_frame(Section::Camera));
    wait_for(&mut pair.a_events, &PeerEvent::KeyFrameWanted { section: Section::Camera }).await;

    let stats = pair.a.stats().await;
    let path = stats.path.expect("a path is in use");
    assert!(matches!(path.local, CandidateKind::Host | CandidateKind::PeerReflexive), "{path:?}");
    assert_eq!(stats.sections[Section::Camera.index()].packets_sent, 1);
    assert_eq!(stats.sections[Section::Camera.index()].plis_received, 1);
    pair.a.close().await;
    assert!(!pair.a.send(Section::Camera, packet(&[1], 0)), "a closed connection takes nothing");
}

#[tokio::test(start_paused = true)]
async fn at_five_percent_loss_all_video_is_recovered_and_nothing_comes_twice() {
    let seed = 7;
    eprintln!("seed {seed}");
    let (net, there, back) = lines(seed);
    let mut pair = wired(&net, &there, &back).await;
    for line in [there, back] {
        line.set(Conditions { loss: 0.05, delay: Duration::from_millis(50), ..Conditions::default() });
    }
    const PACKETS: usize = 600;
    let sender = Arc::clone(&pair.a);
    let sending = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        for n in 0..PACKETS as u32 {
            ticks.tick().await;
            assert!(sender.send(Section::Camera, packet(&n.to_be_bytes(), n * 450)));
        }
        // What is lost last of all is only noticed by what comes after it.
        for n in PACKETS as u32..PACKETS as u32 + 40 {
            ticks.tick().await;
            sender.send(Section::Camera, packet(&n.to_be_bytes(), n * 450));
        }
    });
    let mut seen = vec![0_u32; PACKETS];
    let end = tokio::time::Instant::now() + PATIENCE;
    while seen.contains(&0) && tokio::time::Instant::now() < end {
        let Ok(Some(rtp)) = timeout(Duration::from_secs(3), pair.b_media.recv()).await else { break };
        let n = u32::from_be_bytes(rtp.packet.payload[..].try_into().unwrap()) as usize;
        if n < PACKETS {
            seen[n] += 1;
        }
    }
    sending.await.unwrap();
    let stats = pair.b.stats().await.sections[Section::Camera.index()];
    let sent = pair.a.stats().await.sections[Section::Camera.index()];
    eprintln!("received: {stats:?}\nsent: {sent:?}");
    assert_eq!(seen.iter().filter(|&&times| times == 0).count(), 0, "lost for good");
    assert_eq!(seen.iter().filter(|&&times| times > 1).count(), 0, "delivered twice");
    assert!(stats.recovered > 0 && sent.nacks_received > 0, "the network lost nothing");
    assert!(sent.retransmitted < 3 * stats.recovered, "a storm of retransmissions");
}

#[tokio::test]
async fn an_ice_restart_keeps_the_media_flowing() {
    let mut pair = pair().await;
    let offer = pair.a.create_offer(true).await.unwrap();
    let answer = pair.b.accept_offer(&offer, false).await.unwrap();
    pair.a.accept_answer(&answer).await.unwrap();
    exchange_until_it_arrives(&pair.a, &mut pair.b_media).await;
    exchange_until_it_arrives(&pair.b, &mut pair.a_media).await;
}

#[tokio::test]
async fn when_two_restarts_cross_the_polite_side_rolls_back() {
    let mut pair = pair().await;
    let offer = pair.a.create_offer(true).await.unwrap();
    pair.b.create_offer(true).await.unwrap();
    let answer = pair.b.accept_offer(&offer, true).await.unwrap();
    pair.a.accept_answer(&answer).await.unwrap();
    exchange_until_it_arrives(&pair.a, &mut pair.b_media).await;
    exchange_until_it_arrives(&pair.b, &mut pair.a_media).await;
}

/// Sends until something comes that was sent after the call.
async fn exchange_until_it_arrives(from: &Peer, media: &mut mpsc::Receiver<Rtp>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    timeout(PATIENCE, async {
        loop {
            tokio::select! {
                _ = ticks.tick() => { from.send(Section::Microphone, packet(b"still here", 960)); }
                Some(rtp) = media.recv() => {
                    assert_eq!(&rtp.packet.payload[..], b"still here");
                    return;
                }
            }
        }
    })
    .await
    .expect("media after the restart");
}

#[tokio::test]
async fn a_closed_connection_says_so() {
    let mut pair = pair().await;
    pair.a.close().await;
    wait_for(&mut pair.a_events, &PeerEvent::State(PeerState::Closed)).await;
}

#[tokio::test]
async fn the_other_side_cannot_make_this_one_dial() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let pair = pair().await;
    let door = format!("candidate:1 1 tcp 1 127.0.0.1 {} typ host tcptype passive", address.port());
    pair.a.add_candidate(&door, Some("0".into()), Some(0)).await.unwrap();
    assert!(timeout(Duration::from_millis(300), listener.accept()).await.is_err(), "it was dialed");
    let (events, ..) = peer_channels();
    let shared = Shared::new(events, [LocalStream::new(0, 0); 4]);
    let factory = Factory::new(FactoryConfig::default());
    let dialed =
        factory.runtime(&factory.tunnels(&shared), &factory.pairs(), &shared).connect_tcp(address).await;
    assert_eq!(dialed.err().map(|error| error.kind()), Some(std::io::ErrorKind::Unsupported));
}

#[tokio::test]
async fn a_description_full_of_candidates_connects_with_those_that_have_room() {
    let (a, b) = (side().await, side().await);
    let offer = a.peer.create_offer(false).await.unwrap();
    let many: String = (0..200)
        .map(|n| format!("a=candidate:{n} 1 udp 1 127.0.0.1 {} typ host\r\n", 1 + n))
        .chain(["a=candidate:1 1 tcp 1 127.0.0.1 22 typ host tcptype passive\r\n".to_owned()])
        .collect();
    let answer = b.peer.accept_offer(&offer.replacen("a=mid:", &format!("{many}a=mid:"), 1), false).await;
    a.peer.accept_answer(&answer.unwrap()).await.unwrap();
    let one_more = "candidate:999 1 udp 1 127.0.0.1 999 typ host";
    let refused = b.peer.add_candidate(one_more, Some("0".into()), Some(0)).await;
    assert!(refused.is_err(), "64 of one generation were taken");
    // Checks come to it from where it was not told of.
    let mut events = trickle(b.events, Arc::clone(&a.peer));
    wait_for(&mut events, &PeerEvent::ChannelOpen).await;
}

#[tokio::test]
async fn nonsense_from_the_other_side_is_an_error_and_nothing_more() {
    let side = side().await;
    for sdp in ["", "v=0", "v=0\r\nm=audio 9\r\n", "\0\0\0"] {
        assert!(side.peer.accept_offer(sdp, false).await.is_err(), "{sdp:?}");
        assert!(side.peer.accept_answer(sdp).await.is_err(), "{sdp:?}");
    }
    assert!(side.peer.add_candidate("candidate:nonsense", Some("0".into()), Some(0)).await.is_err());
    assert!(side.peer.create_offer(false).await.is_ok(), "the connection is still of use");
}
