//! Faults of the webrtc crates that this crate works around, each shown as it is. A test that fails here is good news: the
//! fault was mended, and its sentence says which part of this crate can go. It never tests this crate itself.

#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::ice::agent::Agent;
use rtc::ice::agent::agent_config::AgentConfig;
use rtc::ice::candidate::CandidateConfig;
use rtc::ice::candidate::candidate_host::CandidateHostConfig;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::{
    AttributedPacket, BandwidthEstimator, Gcc, Interceptor, NackGeneratorBuilder, Packet, PacketReport,
    RTCPFeedback, ReceiverReportBuilder, Registry, SenderReportBuilder, Slot, StreamInfo, TaggedPacket,
};
use rtc::media_stream::MediaStreamTrack;
use rtc::rtcp::transport_feedbacks::cc_feedback_report::Ecn;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use tokio::sync::mpsc;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCConfigurationBuilder,
    RTCIceGatheringState, RTCIceServer, RTCIceTransportPolicy, RTCPeerConnectionIceEvent,
    RTCPeerConnectionState, RTCStatsReportEntry, SettingEngineBuilder, StatsSelector,
};
use webrtc::runtime::TokioRuntime;

const PATIENCE: Duration = Duration::from_secs(15);
const MEDIA: u32 = 1;
const REPAIRS: u32 = 2;

fn stream(mime: &str) -> StreamInfo {
    StreamInfo {
        ssrc: MEDIA,
        ssrc_rtx: Some(REPAIRS),
        payload_type: 96,
        payload_type_rtx: Some(97),
        mime_type: mime.into(),
        clock_rate: 90_000,
        rtcp_feedback: vec![RTCPFeedback { typ: "nack".into(), parameter: String::new() }],
        ..Default::default()
    }
}

fn packet(now: Instant, ssrc: u32, payload_type: u8, sequence_number: u16, payload: &[u8]) -> TaggedPacket {
    let header = rtc::rtp::Header { version: 2, ssrc, payload_type, sequence_number, ..Default::default() };
    let packet = rtc::rtp::Packet { header, payload: Bytes::copy_from_slice(payload) };
    TaggedPacket {
        now,
        transport: TransportContext::default(),
        message: AttributedPacket::new(Packet::Rtp(packet)),
    }
}

/// Feeds numbers 10 and 12 and lets a second pass in steps of 100 ms. Number 11 comes by RTX after the first of them.
/// Returns how often something was asked for.
fn requests_after_a_repair(mime: &str) -> usize {
    let mut chain = Registry::new().with(Slot::NackGenerator, NackGeneratorBuilder::new().build()).build();
    chain.bind_remote_stream(&stream(mime));
    let start = Instant::now();
    for sequence in [10, 12] {
        chain.handle_read(packet(start, MEDIA, 96, sequence, &[1])).unwrap();
    }
    let mut requests = 0;
    for step in 1..=10_u32 {
        let now = start + Duration::from_millis(100) * step;
        chain.handle_timeout(now).unwrap();
        while chain.poll_write().is_some() {
            requests += 1;
        }
        if step == 1 {
            chain.handle_read(packet(now, REPAIRS, 97, 500, &[0, 11, 1])).unwrap();
        }
        while chain.poll_read().is_some() {}
    }
    requests
}

#[test]
fn a_packet_that_was_repaired_by_rtx_is_asked_for_again() {
    let requests = requests_after_a_repair("video/VP8");
    assert!(requests > 1, "mended: interceptors/rtx_unwrap.rs can go ({requests} request)");
}

#[test]
fn sound_is_asked_for_like_pictures_and_without_end() {
    let requests = requests_after_a_repair("audio/opus");
    assert!(requests > 1, "mended: see whether interceptors/nack.rs is still better than the library's");
}

#[test]
fn the_estimate_of_gcc_runs_away_from_a_sender_that_uses_little_of_it() {
    let mut gcc = Gcc::new(1e6, 5e4, 8e6);
    let start = Instant::now();
    // 400 kbit/s: 50 packets of 1,000 bytes a second, none lost, none delayed.
    let mut id = 0;
    for feedback in 1..=400_u32 {
        let now = start + Duration::from_millis(50) * feedback;
        let reports: Vec<PacketReport> = (0..5_u32)
            .filter(|packet| packet % 2 == 0)
            .map(|packet| {
                id += 1;
                let at = Duration::from_millis(50) * (feedback - 1) + Duration::from_millis(10) * packet;
                PacketReport {
                    ssrc: MEDIA,
                    id,
                    rtp_sequence_number: id as u16,
                    is_twcc: true,
                    twcc_sequence_number: id as u16,
                    size: 1_000,
                    arrived: true,
                    departure: start + at,
                    arrival: Some(at + Duration::from_secs(9)),
                    ecn: Ecn::NotEct,
                }
            })
            .collect();
        gcc.on_reports(now, &reports);
        gcc.handle_timeout(now);
    }
    let target = gcc.target_bitrate();
    assert!(
        target > 1.5e6,
        "mended: Gcc heeds what is sent ({target} bit/s); compare it with interceptors/departure.rs"
    );
}

/// What happened to a connection.
enum Happening {
    Candidate(webrtc::peer_connection::RTCIceCandidateInit),
    State(RTCPeerConnectionState),
    Gathered,
    Track(Arc<dyn TrackRemote>),
}

struct Handler(mpsc::UnboundedSender<Happening>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(candidate) = event.candidate.to_json() {
            let _ = self.0.send(Happening::Candidate(candidate));
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.0.send(Happening::Gathered);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let _ = self.0.send(Happening::State(state));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let _ = self.0.send(Happening::Track(track));
    }
}

type Happenings = mpsc::UnboundedReceiver<Happening>;

fn vp8() -> RTCRtpCodec {
    RTCRtpCodec { mime_type: "video/VP8".into(), clock_rate: 90_000, ..Default::default() }
}

async fn side(
    servers: Vec<RTCIceServer>,
    policy: RTCIceTransportPolicy,
) -> (Arc<dyn PeerConnection>, Happenings) {
    let (sender, happenings) = mpsc::unbounded_channel();
    let mut media = MediaEngine::default();
    let codec = RTCRtpCodecParameters { rtp_codec: vp8(), payload_type: 96 };
    media.register_codec(codec, RtpCodecKind::Video).unwrap();
    let configuration =
        RTCConfigurationBuilder::new().with_ice_servers(servers).with_ice_transport_policy(policy).build();
    let connection = PeerConnectionBuilder::new()
        .with_configuration(configuration)
        .with_setting_engine(SettingEngineBuilder::new().with_include_loopback_candidate(true).build())
        .with_media_engine(media)
        .with_interceptor_registry(
            Registry::new()
                .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
                .with(Slot::SenderReport, SenderReportBuilder::new().build()),
        )
        .with_handler(Arc::new(Handler(sender)))
        .with_runtime(Arc::new(TokioRuntime))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build()
        .await
        .unwrap();
    (Arc::new(connection), happenings)
}

async fn plain_side() -> (Arc<dyn PeerConnection>, Happenings) {
    side(Vec::new(), RTCIceTransportPolicy::All).await
}

fn track() -> Arc<TrackLocalStaticRTP> {
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(MEDIA), ..Default::default() },
        active: true,
        codec: vp8(),
        ..Default::default()
    };
    let track =
        MediaStreamTrack::new("s".into(), "t".into(), "l".into(), RtpCodecKind::Video, vec![encoding]);
    Arc::new(TrackLocalStaticRTP::new(track))
}

/// Hands candidates on, and the rest to the test.
fn trickle(mut from: Happenings, to: Arc<dyn PeerConnection>) -> Happenings {
    let (sender, rest) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(happening) = from.recv().await {
            if let Happening::Candidate(candidate) = happening {
                let _ = to.add_ice_candidate(candidate).await;
            } else if sender.send(happening).is_err() {
                return;
            }
        }
    });
    rest
}

async fn connected(happenings: &mut Happenings) {
    let until = async {
        while let Some(happening) = happenings.recv().await {
            if matches!(happening, Happening::State(RTCPeerConnectionState::Connected)) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, until).await.expect("a connection");
}

struct Pair {
    a: Arc<dyn PeerConnection>,
    _b: Arc<dyn PeerConnection>,
    a_happenings: Happenings,
    b_happenings: Happenings,
    track: Arc<TrackLocalStaticRTP>,
}

async fn pair() -> Pair {
    let (a, a_happenings) = plain_side().await;
    let (b, b_happenings) = plain_side().await;
    let track = track();
    a.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await.unwrap();
    let offer = a.create_offer(None).await.unwrap();
    a.set_local_description(offer.clone()).await.unwrap();
    b.set_remote_description(offer).await.unwrap();
    let answer = b.create_answer(None).await.unwrap();
    b.set_local_description(answer.clone()).await.unwrap();
    a.set_remote_description(answer).await.unwrap();
    let mut a_happenings = trickle(a_happenings, Arc::clone(&b));
    let mut b_happenings = trickle(b_happenings, Arc::clone(&a));
    connected(&mut a_happenings).await;
    connected(&mut b_happenings).await;
    Pair { a, _b: b, a_happenings, b_happenings, track }
}

async fn send(track: &TrackLocalStaticRTP, packets: std::ops::Range<u16>) {
    for sequence_number in packets {
        let header = rtc::rtp::Header {
            version: 2,
            ssrc: MEDIA,
            payload_type: 96,
            sequence_number,
            timestamp: u32::from(sequence_number) * 3_000,
            ..Default::default()
        };
        let payload = Bytes::from_static(&[0x10, 0, 0]);
        track.write_rtp(rtc::rtp::Packet { header, payload }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn what_the_other_side_reports_is_in_no_statistics_and_neither_is_the_path() {
    let pair = pair().await;
    // Reports leave every second; a round trip takes two of them.
    for second in 0..3 {
        send(&pair.track, second * 100..second * 100 + 100).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
    }
    let report = pair.a.get_stats(Instant::now(), StatsSelector::None).await;
    let round_trips: u64 = report
        .iter()
        .filter_map(|entry| match entry {
            RTCStatsReportEntry::RemoteInboundRtp(stats) => Some(stats.round_trip_time_measurements),
            _ => None,
        })
        .sum();
    assert_eq!(round_trips, 0, "mended: interceptors/wire_tap.rs can take its figures from get_stats");
    let selected = report.iter().find_map(|entry| match entry {
        RTCStatsReportEntry::Transport(stats) => Some(stats.selected_candidate_pair_id.clone()),
        _ => None,
    });
    let ends = report.iter().find_map(|entry| match entry {
        RTCStatsReportEntry::IceCandidatePair(stats) if Some(&stats.stats.id) == selected.as_ref() => {
            Some([stats.local_candidate_id.clone(), stats.remote_candidate_id.clone()])
        }
        _ => None,
    });
    let named = ends.is_some_and(|ends| ends.iter().all(|id| report.get(id).is_some()));
    assert!(!named, "mended: Peer::path can take the pair from get_stats");
}

#[tokio::test]
async fn a_track_that_is_read_late_loses_packets_without_a_word() {
    let mut pair = pair().await;
    send(&pair.track, 0..600).await;
    let track = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(Happening::Track(track)) = pair.b_happenings.recv().await {
                return track;
            }
        }
    })
    .await
    .expect("a track");
    let mut packets = 0;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(500), track.poll()).await {
        packets += usize::from(matches!(event, TrackRemoteEvent::OnRtpPacket(_)));
    }
    assert!(packets < 600, "mended: interceptors/media_tap.rs need not go round the track queues");
}

#[tokio::test]
async fn a_connection_that_was_closed_does_not_say_so() {
    let mut pair = pair().await;
    pair.a.close().await.unwrap();
    let mut closed = false;
    while let Ok(Some(happening)) =
        tokio::time::timeout(Duration::from_millis(500), pair.a_happenings.recv()).await
    {
        closed |= matches!(happening, Happening::State(RTCPeerConnectionState::Closed));
    }
    assert!(!closed, "mended: Peer::close need not report it itself");
}

#[tokio::test]
async fn an_offer_that_meets_an_own_one_is_an_error() {
    let (a, _a_happenings) = plain_side().await;
    let (b, _b_happenings) = plain_side().await;
    let mut offers = Vec::new();
    for side in [&a, &b] {
        side.add_track(track() as Arc<dyn TrackLocal>).await.unwrap();
        let offer = side.create_offer(None).await.unwrap();
        side.set_local_description(offer.clone()).await.unwrap();
        offers.push(offer);
    }
    let taken = b.set_remote_description(offers.remove(0)).await;
    assert!(taken.is_err(), "mended: Peer::accept_offer need not roll back first");
}

#[tokio::test]
async fn turn_servers_behind_streams_are_not_even_tried() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let url = format!("turn:{}?transport=tcp", server.local_addr().unwrap());
    let server_list =
        vec![RTCIceServer { urls: vec![url], username: "user".into(), credential: "secret".into() }];
    let (a, mut happenings) = side(server_list, RTCIceTransportPolicy::Relay).await;
    a.add_track(track() as Arc<dyn TrackLocal>).await.unwrap();
    let offer = a.create_offer(None).await.unwrap();
    a.set_local_description(offer).await.unwrap();
    let gathered = async {
        while let Some(happening) = happenings.recv().await {
            if matches!(happening, Happening::Gathered) {
                return;
            }
        }
    };
    // A library that tried it would wait for an answer here, too.
    let _ = tokio::time::timeout(Duration::from_secs(2), gathered).await;
    assert!(server.accept().is_err(), "mended: rtc/src/tunnel can go, if TLS is there, too");
}

/// Carries what two agents say to each other for a while, and returns the addresses that the first
/// one sent to.
fn carry_checks(
    agents: &mut [Agent; 2],
    from: Instant,
    time: Duration,
) -> std::collections::BTreeSet<std::net::SocketAddr> {
    const STEP: Duration = Duration::from_millis(20);
    let mut reached = std::collections::BTreeSet::new();
    let mut now = from;
    while now < from + time {
        now += STEP;
        for one in 0..2 {
            agents[one].handle_timeout(now).unwrap();
            while let Some(mut datagram) = agents[one].poll_write() {
                if one == 0 {
                    reached.insert(datagram.transport.peer_addr);
                }
                let TransportContext { local_addr, peer_addr, .. } = datagram.transport;
                datagram.now = now;
                (datagram.transport.local_addr, datagram.transport.peer_addr) = (peer_addr, local_addr);
                // What an agent does not like is dropped.
                let _ = agents[1 - one].handle_read(datagram);
            }
        }
    }
    reached
}

/// `rtc/src/pairs` can go once this fails.
#[test]
fn an_agent_that_has_selected_a_pair_never_tries_a_better_one() {
    let start = Instant::now();
    let candidate = |address: &str, priority| {
        let base_config = CandidateConfig {
            network: "udp".into(),
            address: address.into(),
            port: 5_000,
            component: 1,
            priority,
            ..CandidateConfig::default()
        };
        CandidateHostConfig { base_config, ..CandidateHostConfig::default() }.new_candidate_host().unwrap()
    };
    let mut agents = [true, false].map(|is_controlling| {
        let config = AgentConfig {
            is_controlling,
            check_interval: Duration::from_millis(50),
            multicast_dns_mode: MulticastDnsMode::Disabled,
            ..AgentConfig::default()
        };
        Agent::new(start, Arc::new(config), rtc::crypto::default_provider().unwrap()).unwrap()
    });
    let (first, better) = ("192.0.2.2", "192.0.2.3");
    agents[0].add_local_candidate(candidate("192.0.2.1", 2_000)).unwrap();
    agents[0].add_remote_candidate(candidate(first, 1_000)).unwrap();
    agents[1].add_local_candidate(candidate(first, 1_000)).unwrap();
    agents[1].add_remote_candidate(candidate("192.0.2.1", 2_000)).unwrap();
    let credentials = agents.each_ref().map(|agent| agent.get_local_credentials().clone());
    for one in 0..2 {
        let (ufrag, pwd) = (credentials[1 - one].ufrag.clone(), credentials[1 - one].pwd.clone());
        agents[one].start_connectivity_checks(start, one == 0, ufrag, pwd).unwrap();
    }
    carry_checks(&mut agents, start, Duration::from_secs(5));
    assert!(agents.iter().all(|agent| agent.get_selected_candidate_pair().is_some()));
    agents[1].add_local_candidate(candidate(better, 2_000_000)).unwrap();
    agents[0].add_remote_candidate(candidate(better, 2_000_000)).unwrap();
    let reached = carry_checks(&mut agents, start + Duration::from_secs(5), Duration::from_secs(60));
    assert_eq!(reached.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>(), [first]);
}
