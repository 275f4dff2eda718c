//! What all connections of a call have in common: where they bind, which codecs they speak, how long they wait.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rtc::ice::network_type::NetworkType;
use rtc::interceptor::{ReceiverReportBuilder, Registry, SenderReportBuilder, Slot};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use webrtc::peer_connection::{
    MediaEngine, RTCConfiguration, RTCConfigurationBuilder, RTCIceServer, RTCIceTransportPolicy,
    SettingEngine, SettingEngineBuilder,
};
use webrtc::runtime::{Runtime, TokioRuntime};

use crate::event::PeerEvent;
use crate::interceptors::{Departure, Feedback, MID, MediaTap, Nack, RtxUnwrap, TWCC, WireTap};
use crate::pairs::Pairs;
use crate::shared::Shared;
use crate::stats::RelayProtocol;
use crate::tunnel::{TunnelRuntime, Tunnels};

pub(crate) const OPUS: u8 = 111;
const RED: u8 = 63;
const VP8: u8 = 96;
const VP8_RTX: u8 = 97;

/// Between two connectivity checks; the library's 200 ms make every join slow.
const CHECK_INTERVAL: Duration = Duration::from_millis(30);
/// Checks of one pair before it is given up: 10 s at the interval above.
const MOST_CHECKS: u16 = 333;
/// A better path gets this long before a path over a relay is taken.
const RELAY_WAIT: Duration = Duration::from_millis(300);
/// As [`RELAY_WAIT`], where there is no other path: for a relayed path over UDP to come before one over TCP.
const RELAY_ONLY_WAIT: Duration = Duration::from_millis(100);
const REFLEXIVE_WAIT: Duration = Duration::from_millis(100);
/// An address that nobody told us of may be that of a relay whose candidate is still on its way.
const PEER_REFLEXIVE_WAIT: Duration = Duration::from_millis(200);
const DISCONNECTED_AFTER: Duration = Duration::from_secs(5);
const FAILED_AFTER: Duration = Duration::from_secs(25);
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// How connections reach the network.
#[derive(Debug, Clone, Default)]
pub struct FactoryConfig {
    /// Whether the loopback interface counts as a path. For tests and for calls within one machine.
    pub include_loopback: bool,
    /// Local addresses to use; empty means every interface that is up, looked for anew at each ICE restart.
    pub bind: Vec<IpAddr>,
    /// Whether to show the other side nothing but the address of a TURN server.
    pub relay_only: bool,
    /// The one protocol by which TURN servers are reached; `None` for any.
    pub relay_transport: Option<RelayProtocol>,
    /// Whose certificates count for TURN over TLS, without a protocol name; without it such servers are left out.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// Makes the connections of one call alike.
#[derive(Debug, Clone)]
pub struct Factory {
    config: FactoryConfig,
    /// Where sockets and time come from.
    below: Arc<dyn Runtime>,
}

impl Factory {
    /// Takes effect for the connections made from it.
    pub fn new(config: FactoryConfig) -> Self {
        Self::over(config, Arc::new(TokioRuntime))
    }

    /// Over another network than the system's.
    pub(crate) fn over(config: FactoryConfig, below: Arc<dyn Runtime>) -> Self {
        Self { config, below }
    }

    /// The network of one connection.
    pub(crate) fn runtime(
        &self,
        tunnels: &Arc<Tunnels>,
        pairs: &Arc<Pairs>,
        shared: &Shared,
    ) -> Arc<dyn Runtime> {
        Arc::new(TunnelRuntime {
            below: Arc::clone(&self.below),
            tunnels: Arc::clone(tunnels),
            pairs: Arc::clone(pairs),
            channel: Arc::clone(&shared.channel),
        })
    }

    /// The TURN servers of one connection that are reached over streams.
    pub(crate) fn tunnels(&self, shared: &Arc<Shared>) -> Arc<Tunnels> {
        let told = Arc::clone(shared);
        Arc::new(Tunnels::new(&self.config, move |problem| told.emit(PeerEvent::RelayProblem(problem))))
    }

    /// The candidate pairs of one connection. Call it inside a Tokio runtime.
    pub(crate) fn pairs(&self) -> Arc<Pairs> {
        Pairs::new(!self.config.relay_only)
    }

    pub(crate) fn binds(&self) -> Vec<SocketAddr> {
        let everywhere = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let chosen = if self.config.bind.is_empty() { &everywhere[..] } else { &self.config.bind[..] };
        chosen.iter().map(|&ip| SocketAddr::new(ip, 0)).collect()
    }

    pub(crate) fn configuration(&self, servers: &[snug_wire::IceServer]) -> RTCConfiguration {
        let servers = servers.iter().map(|server| RTCIceServer {
            urls: server.urls.clone(),
            username: server.username.clone().unwrap_or_default(),
            credential: server.credential.clone().unwrap_or_default(),
        });
        let policy =
            if self.config.relay_only { RTCIceTransportPolicy::Relay } else { RTCIceTransportPolicy::All };
        RTCConfigurationBuilder::new()
            .with_ice_servers(servers.collect())
            .with_ice_transport_policy(policy)
            .build()
    }

    pub(crate) fn settings(&self) -> SettingEngine {
        let relay_wait = if self.config.relay_only { RELAY_ONLY_WAIT } else { RELAY_WAIT };
        SettingEngineBuilder::new()
            .with_ice_timeouts(Some(DISCONNECTED_AFTER), Some(FAILED_AFTER), Some(KEEP_ALIVE))
            .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(MOST_CHECKS))
            .with_srflx_acceptance_min_wait(Some(REFLEXIVE_WAIT))
            .with_prflx_acceptance_min_wait(Some(PEER_REFLEXIVE_WAIT))
            .with_relay_acceptance_min_wait(Some(relay_wait))
            // TCP between participants would go around the tunnels; servers reached over TCP look like UDP here.
            .with_network_types(vec![NetworkType::Udp4, NetworkType::Udp6])
            .with_include_loopback_candidate(self.config.include_loopback)
            // Without it a restart keeps the sockets of an address that is gone.
            .with_discard_local_candidates_during_ice_restart(true)
            .build()
    }
}

pub(crate) fn opus() -> RTCRtpCodec {
    codec("audio/opus", 48_000, 2, "minptime=10;useinbandfec=1", &[("transport-cc", "")])
}

pub(crate) fn vp8() -> RTCRtpCodec {
    let feedback = [("transport-cc", ""), ("nack", ""), ("nack", "pli"), ("ccm", "fir")];
    codec("video/VP8", 90_000, 0, "", &feedback)
}

fn codec(
    mime: &str,
    clock_rate: u32,
    channels: u16,
    parameters: &str,
    feedback: &[(&str, &str)],
) -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: mime.to_owned(),
        clock_rate,
        channels,
        sdp_fmtp_line: parameters.to_owned(),
        rtcp_feedback: feedback
            .iter()
            .map(|&(typ, parameter)| RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() })
            .collect(),
    }
}

/// Only what this side encodes: an offer with fewer codecs is answered faster and with fewer surprises.
pub(crate) fn media_engine() -> Result<MediaEngine, rtc::shared::error::Error> {
    let mut engine = MediaEngine::default();
    let red = codec("audio/red", 48_000, 2, "111/111", &[("transport-cc", "")]);
    let rtx = codec("video/rtx", 90_000, 0, "apt=96", &[]);
    for (rtp_codec, payload_type, kind) in [
        (opus(), OPUS, RtpCodecKind::Audio),
        (red, RED, RtpCodecKind::Audio),
        (vp8(), VP8, RtpCodecKind::Video),
        (rtx, VP8_RTX, RtpCodecKind::Video),
    ] {
        engine.register_codec(RTCRtpCodecParameters { rtp_codec, payload_type }, kind)?;
    }
    for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
        for uri in [TWCC, MID] {
            engine.register_header_extension(
                RTCRtpHeaderExtensionCapability { uri: uri.to_owned() },
                kind,
                None,
            )?;
        }
    }
    Ok(engine)
}

pub(crate) fn interceptors(shared: &Arc<Shared>) -> Registry {
    Registry::new()
        .with(Slot::from(500), WireTap::new(Arc::clone(shared)))
        .with(Slot::Pacer, Departure::new(Arc::clone(shared)))
        // Before anything is dropped: what came was not lost, be it padding or a packet that came twice.
        .with(Slot::from(6_000), Feedback::new())
        .with(Slot::from(6_500), RtxUnwrap::default())
        .with(Slot::NackGenerator, Nack::new(Arc::clone(shared)))
        .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
        .with(Slot::SenderReport, SenderReportBuilder::new().build())
        .with(Slot::from(13_500), MediaTap::new(Arc::clone(shared)))
}
