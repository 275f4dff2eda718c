//! One connection: the library's connection, its four outgoing tracks and its data channel.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use rtc::media_stream::MediaStreamTrack;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodingParameters, RTCRtpEncodingParameters, RTCRtpRtxParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use snug_media_proto::section::Section;
use tokio::task::JoinHandle;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidate, RTCIceCandidateInit,
    RTCIceCandidateType, RTCIceGatheringState, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
    RTCSessionDescription,
};

use crate::candidates::{self, Candidates, MOST, Verdict};
use crate::error::RtcError;
use crate::event::{PayloadKind, PeerEvent, PeerEvents, PeerState};
use crate::factory::{self, Factory};
use crate::pairs::Pairs;
use crate::sdp::{Described, with_trickle};
use crate::shared::{LocalStream, Shared, State};
use crate::stats::{CandidateKind, Estimate, Flow, LinkStats, PathStats};
use crate::tunnel::Tunnels;

/// Label and stream id of the data channel, agreed on out of band.
const CHANNEL: (&str, u16) = ("snug/2", 1);
/// Bytes that wait in the data channel before it takes no more.
const CHANNEL_BUFFER: usize = 1024 * 1024;

/// A packet to send; sequence number, stream and payload type are the connection's matter.
#[derive(Debug, Clone)]
pub struct OutgoingRtp {
    /// The payload.
    pub payload: Bytes,
    /// RTP timestamp: 48 kHz for audio, 90 kHz for video.
    pub timestamp: u32,
    /// The marker bit: last packet of a frame for video.
    pub marker: bool,
    /// Whether the payload has the redundancy of RFC 2198; audio only, see [`Peer::red_carries`].
    pub red: bool,
}

/// One connection to another participant. Dropping it closes it.
pub struct Peer {
    connection: Arc<dyn PeerConnection>,
    channel: Arc<dyn DataChannel>,
    outgoing: [Arc<TrackLocalStaticRTP>; 4],
    shared: Arc<Shared>,
    tunnels: Arc<Tunnels>,
    pairs: Arc<Pairs>,
    factory: Factory,
    reader: JoinHandle<()>,
    /// Whether the four sections are there already.
    sections: tokio::sync::Mutex<bool>,
    /// Those of the other side; held while a description of its is taken.
    candidates: tokio::sync::Mutex<Candidates>,
    runtime: tokio::runtime::Handle,
}

impl Peer {
    /// Builds a connection that has not been offered yet. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// No socket could be bound, or the system gave no random numbers.
    pub async fn new(
        factory: &Factory,
        ice_servers: &[snug_wire::IceServer],
        events: PeerEvents,
    ) -> Result<Self, RtcError> {
        let streams = random_streams()?;
        let messages = events.messages.clone();
        let shared = Shared::new(events, streams);
        let tunnels = factory.tunnels(&shared);
        let pairs = factory.pairs();
        let ice_servers = tunnels.stand_ins(ice_servers)?;
        let media_engine = factory::media_engine().map_err(build_error)?;
        let connection = PeerConnectionBuilder::new()
            .with_configuration(factory.configuration(&ice_servers))
            .with_setting_engine(factory.settings())
            .with_media_engine(media_engine)
            .with_interceptor_registry(factory::interceptors(&shared))
            .with_handler(Arc::new(Handler { shared: Arc::clone(&shared), tunnels: Arc::clone(&tunnels) }))
            .with_runtime(factory.runtime(&tunnels, &pairs, &shared))
            .with_udp_addrs(factory.binds())
            .with_data_channel_send_buffer_limit(CHANNEL_BUFFER)
            .build()
            .await
            .map_err(build_error)?;
        let init = RTCDataChannelInit { ordered: true, negotiated: Some(CHANNEL.1), ..Default::default() };
        let channel = connection.create_data_channel(CHANNEL.0, Some(init)).await.map_err(build_error)?;
        let reader = tokio::spawn(read_channel(Arc::clone(&channel), Arc::clone(&shared), messages));
        let outgoing = Section::ALL
            .map(|section| Arc::new(TrackLocalStaticRTP::new(track(section, streams[section.index()]))));
        Ok(Self {
            connection: Arc::new(connection),
            channel,
            outgoing,
            shared,
            tunnels,
            pairs,
            factory: factory.clone(),
            reader,
            sections: tokio::sync::Mutex::new(false),
            candidates: tokio::sync::Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
        })
    }

    /// Gives up an own offer that waits for its answer.
    ///
    /// # Errors
    /// No offer waits.
    pub async fn rollback(&self) -> Result<(), RtcError> {
        let nothing = RTCSessionDescription::rollback(None).map_err(description_error)?;
        self.connection.set_local_description(nothing).await.map_err(description_error)
    }

    /// Makes an offer and applies it on this side; gathering starts.
    ///
    /// # Errors
    /// The connection is closed or in the middle of another negotiation.
    pub async fn create_offer(&self, ice_restart: bool) -> Result<String, RtcError> {
        self.add_sections().await?;
        if ice_restart {
            self.connection.restart_ice().await.map_err(description_error)?;
        }
        let offer = self.connection.create_offer(None).await.map_err(description_error)?;
        self.describe(offer).await
    }

    /// Takes an offer and returns the answer, applied on this side. With `rollback`, an own offer that waits for its
    /// answer is given up first.
    ///
    /// # Errors
    /// The offer does not parse or does not fit the connection.
    pub async fn accept_offer(&self, sdp: &str, rollback: bool) -> Result<String, RtcError> {
        if rollback {
            self.rollback().await?;
        }
        self.add_sections().await?;
        self.take_description(sdp, RTCSessionDescription::offer).await?;
        let answer = self.connection.create_answer(None).await.map_err(description_error)?;
        self.describe(answer).await
    }

    /// Takes the answer to the last offer.
    ///
    /// # Errors
    /// The answer does not parse, or no offer waits for it.
    pub async fn accept_answer(&self, sdp: &str) -> Result<(), RtcError> {
        self.take_description(sdp, RTCSessionDescription::answer).await
    }

    /// Adds a candidate of the other side; its description must be there already. One that is not for UDP is left out.
    ///
    /// # Errors
    /// The candidate does not parse, belongs to another generation, or is beyond the 64 of one generation.
    pub async fn add_candidate(
        &self,
        candidate: &str,
        mid: Option<String>,
        mline: Option<u16>,
    ) -> Result<(), RtcError> {
        match self.candidates.lock().await.take(candidate) {
            Verdict::Take => {}
            Verdict::Skip => return Ok(()),
            Verdict::Surplus => return Err(RtcError::Candidate(format!("no more than {MOST} are taken"))),
        }
        let init = RTCIceCandidateInit {
            candidate: candidate.to_owned(),
            sdp_mid: mid,
            sdp_mline_index: mline,
            ..Default::default()
        };
        let added = self.connection.add_ice_candidate(init).await;
        added.map_err(|error| RtcError::Candidate(error.to_string()))?;
        self.pairs.offered(candidate);
        Ok(())
    }

    /// Replaces the STUN and TURN servers; used from the next ICE restart on.
    ///
    /// # Errors
    /// A server has an address that does not parse.
    pub async fn set_ice_servers(&self, servers: &[snug_wire::IceServer]) -> Result<(), RtcError> {
        let configuration = self.factory.configuration(&self.tunnels.stand_ins(servers)?);
        self.connection
            .set_configuration(configuration)
            .await
            .map_err(|error| RtcError::Servers(error.to_string()))
    }

    /// The payload type of Opus inside redundant audio; `None` while the other side takes no redundancy.
    pub fn red_carries(&self) -> Option<u8> {
        let state = self.shared.state();
        state.remote.payload_type(PayloadKind::Red)?;
        state.remote.payload_type(PayloadKind::Opus)
    }

    /// Sends a packet without ever waiting. False when it was not taken: there is no connection, the kind of payload
    /// was not agreed on, or 256 packets wait already.
    pub fn send(&self, section: Section, packet: OutgoingRtp) -> bool {
        if !self.shared.is_connected() {
            return false;
        }
        let kind = match (section.is_video(), packet.red) {
            (true, _) => PayloadKind::Vp8,
            (false, true) => PayloadKind::Red,
            (false, false) => PayloadKind::Opus,
        };
        let Some(payload_type) = self.shared.state().remote.payload_type(kind) else { return false };
        // The sequence number is given when the packet leaves.
        let header = rtc::rtp::Header {
            version: 2,
            payload_type,
            marker: packet.marker,
            timestamp: packet.timestamp,
            ssrc: self.shared.ours[section.index()].ssrc,
            ..Default::default()
        };
        let track = &self.outgoing[section.index()];
        at_once(track.write_rtp(rtc::rtp::Packet { header, payload: packet.payload }))
    }

    /// Sends a text message over the data channel.
    ///
    /// # Errors
    /// The channel is not open, or 1 MiB waits in it already.
    pub async fn send_channel(&self, text: &str) -> Result<(), RtcError> {
        self.channel.try_send_text(text).await.map_err(|error| RtcError::Channel(error.to_string()))
    }

    /// Asks the other side for a key frame of a section (PLI). False when nothing came of it: it has named no stream and
    /// sent nothing there, or there is no connection.
    pub fn request_key_frame(&self, section: Section) -> bool {
        let mut state = self.shared.state();
        let heard = state.heard[section.index()].or(state.remote.media[section.index()]);
        let Some(media_ssrc) = heard else { return false };
        state.stats.sections[section.index()].plis_sent += 1;
        drop(state);
        let pli = PictureLossIndication { sender_ssrc: self.shared.ours[section.index()].ssrc, media_ssrc };
        self.shared.is_connected() && at_once(self.outgoing[section.index()].write_rtcp(vec![Box::new(pli)]))
    }

    /// When the last RTP or RTCP packet came: who sends neither sound nor pictures still reports.
    pub fn last_heard(&self) -> Option<Instant> {
        self.shared.state().alive_at
    }

    /// What the path is thought to carry at this moment.
    pub fn estimate(&self) -> Estimate {
        self.shared.state().estimate
    }

    /// Says how many bits a second this side could make use of at all; the path is not probed for more. Without this
    /// it is probed as far as it goes.
    pub fn set_useful_rate(&self, bps: u64) {
        self.shared.useful.store(bps, Ordering::Relaxed);
    }

    /// Whether video of a section gets out of this machine; it does not while there is no connection.
    pub fn flow(&self, section: Section) -> Flow {
        if self.shared.is_connected() { self.shared.state().flow[section.index()] } else { Flow::Full }
    }

    /// Counts since the connection was made.
    pub async fn stats(&self) -> LinkStats {
        let path = self.path().await;
        let mut stats = self.shared.state().stats;
        stats.path = path;
        stats
    }

    /// Asked of the transport: the library's statistics name the candidates of a pair by ids that nothing else has.
    async fn path(&self) -> Option<PathStats> {
        if let Some((local, remote)) = self.pairs.in_use() {
            return Some(PathStats { local, remote, relay: None });
        }
        let sctp = self.connection.sctp().await?;
        let pair = sctp.transport().ice_transport().get_selected_candidate_pair().await.ok()??;
        Some(PathStats {
            local: candidate_kind(pair.local().typ)?,
            remote: candidate_kind(pair.remote().typ)?,
            relay: relayed_address(pair.local()).and_then(|address| self.tunnels.protocol_of(address)),
        })
    }

    /// Ends the connection and gives its relay allocations back; takes at most about 100 ms.
    pub async fn close(&self) {
        self.shared.connected.store(false, Ordering::Relaxed);
        // The library's driver is gone before it could say so.
        self.shared.emit(PeerEvent::State(PeerState::Closed));
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "a connection did not close cleanly");
        }
        self.reader.abort();
    }

    async fn describe(&self, description: RTCSessionDescription) -> Result<String, RtcError> {
        let sdp = description.sdp.clone();
        self.shared.state().local = Described::read(&sdp);
        self.connection.set_local_description(description).await.map_err(description_error)?;
        Ok(with_trickle(&self.tunnels.published_description(&sdp)))
    }

    async fn take_description(
        &self,
        sdp: &str,
        read: fn(String) -> Result<RTCSessionDescription, rtc::shared::error::Error>,
    ) -> Result<(), RtcError> {
        let mut description = read(sdp.to_owned()).map_err(description_error)?;
        let mut parsed = description.unmarshal().map_err(description_error)?;
        let mut candidates = self.candidates.lock().await;
        let (next, changed) = candidates.described(&mut parsed);
        if changed {
            description = read(parsed.marshal()).map_err(description_error)?;
        }
        let taken = self.connection.set_remote_description(description).await;
        *candidates = if taken.is_ok() { next } else { Candidates::closed() };
        drop(candidates);
        taken.map_err(description_error)?;
        if let [Some(ufrag), Some(password)] = candidates::generation(&parsed) {
            self.pairs.described(&ufrag, &password);
        }
        candidates::lines(&parsed).for_each(|candidate| self.pairs.offered(candidate));
        self.remember_remote(sdp);
        Ok(())
    }

    fn remember_remote(&self, sdp: &str) {
        let described = Described::read(sdp);
        let mut state = self.shared.state();
        // A stream that was known by its tag stays known: senders leave the tag out after a while.
        let State { streams, remote, .. } = &mut *state;
        streams.retain(|ssrc, _| !remote.streams.contains_key(ssrc));
        streams.extend(&described.streams);
        *remote = described;
    }

    /// Adds the four sections once. An offer of the other side then finds them in the same order.
    async fn add_sections(&self) -> Result<(), RtcError> {
        let mut added = self.sections.lock().await;
        if *added {
            return Ok(());
        }
        for (section, track) in Section::ALL.iter().zip(&self.outgoing) {
            let init = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Sendrecv,
                streams: vec![stream_name(*section).to_owned()],
                send_encodings: Vec::new(),
            };
            let track = Arc::clone(track) as Arc<dyn TrackLocal>;
            self.connection.add_transceiver_from_track(track, Some(init)).await.map_err(description_error)?;
        }
        *added = true;
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.reader.abort();
        let connection = Arc::clone(&self.connection);
        self.runtime.spawn(async move {
            // Closing twice is an error that tells nothing.
            let _ = connection.close().await;
        });
    }
}

/// Polls a future once: what cannot be done at once is not done.
fn at_once<T, E>(future: impl Future<Output = Result<T, E>>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    matches!(pin!(future).poll(&mut context), Poll::Ready(Ok(_)))
}

/// Receivers keep what is in one stream in step: the microphone with the camera, the screen with its sound.
fn stream_name(section: Section) -> &'static str {
    match section {
        Section::Microphone | Section::Camera => "self",
        Section::Screen | Section::ScreenSound => "screen",
    }
}

fn track(section: Section, stream: LocalStream) -> MediaStreamTrack {
    let (kind, codec) = match section.is_video() {
        true => (RtpCodecKind::Video, factory::vp8()),
        false => (RtpCodecKind::Audio, factory::opus()),
    };
    let coding = RTCRtpCodingParameters {
        ssrc: Some(stream.ssrc),
        rtx: section.is_video().then_some(RTCRtpRtxParameters { ssrc: stream.rtx }),
        ..Default::default()
    };
    let encoding =
        RTCRtpEncodingParameters { rtp_coding_parameters: coding, active: true, codec, ..Default::default() };
    let name = ["microphone", "camera", "screen", "screen-sound"][section.index()].to_owned();
    MediaStreamTrack::new(stream_name(section).to_owned(), name.clone(), name, kind, vec![encoding])
}

fn random_streams() -> Result<[LocalStream; 4], RtcError> {
    let random = || getrandom::u32().map_err(|error| RtcError::Random(error.to_string()));
    let mut streams = [LocalStream::new(0, 0); 4];
    // The upper bits tell the eight streams apart, whatever the dice say; 0 is left out.
    for (index, stream) in (0_u32..).zip(&mut streams) {
        stream.ssrc = (random()? >> 4) | (2 * index + 1) << 28;
        stream.rtx = (random()? >> 4) | (2 * index + 2) << 28;
        // Lower half, so that a loss of the first packets does not look like a wrap (RFC 3711 §3.3.1).
        stream.first = ((random()? >> 17) as u16, (random()? >> 17) as u16);
    }
    Ok(streams)
}

/// The address at a TURN server, of a candidate that has one.
fn relayed_address(candidate: &RTCIceCandidate) -> Option<SocketAddr> {
    let ip = (candidate.typ == RTCIceCandidateType::Relay).then(|| candidate.address.parse().ok())??;
    Some(SocketAddr::new(ip, candidate.port))
}

fn candidate_kind(kind: RTCIceCandidateType) -> Option<CandidateKind> {
    match kind {
        RTCIceCandidateType::Host => Some(CandidateKind::Host),
        RTCIceCandidateType::Srflx => Some(CandidateKind::ServerReflexive),
        RTCIceCandidateType::Prflx => Some(CandidateKind::PeerReflexive),
        RTCIceCandidateType::Relay => Some(CandidateKind::Relay),
        _ => None,
    }
}

fn build_error(error: impl std::fmt::Display) -> RtcError {
    RtcError::Build(error.to_string())
}

fn description_error(error: impl std::fmt::Display) -> RtcError {
    RtcError::Description(error.to_string())
}

/// A full message queue holds the reader up, and SCTP the sender with it.
async fn read_channel(
    channel: Arc<dyn DataChannel>,
    shared: Arc<Shared>,
    messages: tokio::sync::mpsc::Sender<PeerEvent>,
) {
    while let Some(event) = channel.poll().await {
        match event {
            DataChannelEvent::OnOpen => {
                shared.channel.set();
                shared.emit(PeerEvent::ChannelOpen);
            }
            DataChannelEvent::OnMessage(message) if message.is_string => {
                let Ok(text) = String::from_utf8(message.data.to_vec()) else { continue };
                if messages.send(PeerEvent::ChannelMessage(text)).await.is_err() {
                    return;
                }
            }
            DataChannelEvent::OnClose => break,
            _ => {}
        }
    }
    shared.emit(PeerEvent::ChannelClosed);
}

/// Forwards and returns: the library's driver waits for it.
struct Handler {
    shared: Arc<Shared>,
    tunnels: Arc<Tunnels>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Some(address) = relayed_address(&event.candidate) {
            self.tunnels.remember_relayed(address, self.tunnels.protocol(&event.url));
        }
        if let Ok(init) = event.candidate.to_json()
            && let Some(candidate) = self.tunnels.published(&init.candidate)
        {
            self.shared.emit(PeerEvent::Candidate {
                candidate,
                mid: init.sdp_mid,
                mline: init.sdp_mline_index,
            });
        }
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.shared.emit(PeerEvent::GatheringDone);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let state = match state {
            RTCPeerConnectionState::Connected => PeerState::Connected,
            RTCPeerConnectionState::Disconnected => PeerState::Disconnected,
            RTCPeerConnectionState::Failed => PeerState::Failed,
            RTCPeerConnectionState::Closed => PeerState::Closed,
            _ => return,
        };
        self.shared
            .connected
            .store(matches!(state, PeerState::Connected | PeerState::Disconnected), Ordering::Relaxed);
        self.shared.emit(PeerEvent::State(state));
    }
}
