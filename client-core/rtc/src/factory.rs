//! What all connections of a call have in common: where they bind, which codecs they speak, how long they wait.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rtc::interceptor::{
    CongestionControlBuilder, Gcc, NackResponderBuilder, ReceiverReportBuilder, Registry,
    SenderReportBuilder, Slot, TwccReceiverBuilder, TwccSenderBuilder,
};
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use webrtc::peer_connection::{
    MediaEngine, RTCConfiguration, RTCConfigurationBuilder, RTCIceServer, RTCIceTransportPolicy,
    SettingEngine, SettingEngineBuilder,
};
use webrtc::runtime::{Runtime, TokioRuntime};

use crate::estimator::PublishedEstimate;
use crate::interceptors::{MediaTap, Nack, RtxUnwrap, WireTap};
use crate::shared::{START_BITRATE, Shared};

pub(crate) const OPUS: u8 = 111;
const RED: u8 = 63;
const VP8: u8 = 96;
const VP8_RTX: u8 = 97;

const TWCC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

/// Between two connectivity checks; the library's 200 ms make every join slow.
const CHECK_INTERVAL: Duration = Duration::from_millis(30);
/// Checks of one pair before it is given up: 10 s at the interval above.
const MOST_CHECKS: u16 = 333;
/// A better path gets this long before a path over a relay is taken.
const RELAY_WAIT: Duration = Duration::from_millis(300);
const REFLEXIVE_WAIT: Duration = Duration::from_millis(200);
const DISCONNECTED_AFTER: Duration = Duration::from_secs(5);
const FAILED_AFTER: Duration = Duration::from_secs(25);
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Sent video packets kept for retransmission: 4 s at 2.5 Mbit/s.
const SENT_KEPT: u16 = 1_024;
/// The estimate stays within these, in bits a second.
const BITRATES: (f64, f64) = (50_000.0, 8_000_000.0);

/// How connections reach the network.
#[derive(Debug, Clone, Default)]
pub struct FactoryConfig {
    /// Whether the loopback interface counts as a path. For tests and for calls within one machine.
    pub include_loopback: bool,
    /// Local addresses to use; empty means every interface that is up, looked for anew at each ICE restart.
    pub bind: Vec<IpAddr>,
    /// Whether to show the other side nothing but the address of a TURN server.
    pub relay_only: bool,
}

/// Makes the connections of one call alike.
#[derive(Debug, Clone)]
pub struct Factory {
    config: FactoryConfig,
    pub(crate) runtime: Arc<dyn Runtime>,
}

impl Factory {
    /// Takes effect for the connections made from it.
    pub fn new(config: FactoryConfig) -> Self {
        Self { config, runtime: Arc::new(TokioRuntime) }
    }

    /// With another network underneath.
    #[cfg(test)]
    pub(crate) fn with_runtime(config: FactoryConfig, runtime: Arc<dyn Runtime>) -> Self {
        Self { config, runtime }
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
        SettingEngineBuilder::new()
            .with_ice_timeouts(Some(DISCONNECTED_AFTER), Some(FAILED_AFTER), Some(KEEP_ALIVE))
            .with_ice_connection_attempts(Some(CHECK_INTERVAL), Some(MOST_CHECKS))
            .with_srflx_acceptance_min_wait(Some(REFLEXIVE_WAIT))
            .with_prflx_acceptance_min_wait(Some(REFLEXIVE_WAIT))
            .with_relay_acceptance_min_wait(Some(RELAY_WAIT))
            .with_include_loopback_candidate(self.config.include_loopback)
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
    let estimator = PublishedEstimate::new(
        Gcc::new(START_BITRATE as f64, BITRATES.0, BITRATES.1),
        BITRATES,
        Arc::clone(shared),
    );
    Registry::new()
        .with(Slot::from(500), WireTap::new(Arc::clone(shared)))
        .with(Slot::CongestionControl, CongestionControlBuilder::new(estimator).build())
        .with(Slot::TwccSender, TwccSenderBuilder::new().build())
        .with(Slot::NackResponder, NackResponderBuilder::new().with_size(SENT_KEPT).build())
        .with(Slot::from(6_500), RtxUnwrap::default())
        .with(Slot::NackGenerator, Nack::new(Arc::clone(shared)))
        .with(Slot::TwccReceiver, TwccReceiverBuilder::new().build())
        .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
        .with(Slot::SenderReport, SenderReportBuilder::new().build())
        .with(Slot::from(13_500), MediaTap::new(Arc::clone(shared)))
}
