//! What a peer connection reports, and the bounded queues that carry it.

use std::time::Instant;

use bytes::Bytes;
use snug_media_proto::section::Section;
use tokio::sync::mpsc;

use crate::error::RelayProblem;

/// Control events waiting; a connection makes a few dozen while it is set up.
const CONTROL_QUEUE: usize = 512;
/// Data-channel messages waiting; more push back on the sender through SCTP.
const MESSAGE_QUEUE: usize = 64;
/// RTP packets waiting: about 1.5 s of one link at full rate. More are dropped and counted.
const MEDIA_QUEUE: usize = 1_024;

/// Where the transport of a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// Media and data flow.
    Connected,
    /// Nothing came for a while; it may recover by itself.
    Disconnected,
    /// No path is left; restart ICE or build a new connection.
    Failed,
    /// The connection is over.
    Closed,
}

/// Something that happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// A local candidate for the other side.
    Candidate {
        /// The `candidate:` line.
        candidate: String,
        /// The media section's identification tag.
        mid: Option<String>,
        /// The media section's position.
        mline: Option<u16>,
    },
    /// No more local candidates of this generation will come.
    GatheringDone,
    /// The transport's state changed.
    State(PeerState),
    /// A TURN server is of no use.
    RelayProblem(RelayProblem),
    /// The data channel can be written to.
    ChannelOpen,
    /// The data channel is gone for good.
    ChannelClosed,
    /// A text message came over the data channel.
    ChannelMessage(String),
    /// The other side needs a key frame of what this side sends (PLI or FIR).
    KeyFrameWanted {
        /// What it wants one of.
        section: Section,
    },
    /// The other side's clocks at one instant, for keeping sound and picture together.
    SenderReport {
        /// The section the report is about.
        section: Section,
        /// The sender's wall clock, NTP format (32.32 fixed point seconds since 1900).
        ntp: u64,
        /// The same instant on the section's RTP clock.
        rtp: u32,
    },
}

/// What the payload of a received packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadKind {
    /// One Opus packet (RFC 7587).
    Opus,
    /// Opus with redundancy (RFC 2198).
    Red,
    /// A VP8 payload with its descriptor (RFC 7741).
    Vp8,
}

/// A received RTP packet, decrypted, taken out of RTX, each sequence number at most once.
#[derive(Debug, Clone)]
pub struct IncomingRtp {
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP timestamp: 48 kHz for audio, 90 kHz for video.
    pub timestamp: u32,
    /// The marker bit: last packet of a frame for video.
    pub marker: bool,
    /// The payload without padding.
    pub payload: Bytes,
    /// How to read the payload.
    pub payload_kind: PayloadKind,
    /// When the packet came off the socket.
    pub arrival: Instant,
    /// Whether it came by retransmission.
    pub recovered: bool,
}

/// A received packet with the section that it belongs to.
#[derive(Debug, Clone)]
pub struct Rtp {
    /// Where it belongs.
    pub section: Section,
    /// The packet.
    pub packet: IncomingRtp,
}

/// The writing ends, handed to [`Peer::new`](crate::Peer::new).
#[derive(Debug, Clone)]
pub struct PeerEvents {
    pub(crate) control: mpsc::Sender<PeerEvent>,
    pub(crate) messages: mpsc::Sender<PeerEvent>,
    pub(crate) media: mpsc::Sender<Rtp>,
}

/// The reading end of events. It ends when the connection is gone.
#[derive(Debug)]
pub struct EventReceiver {
    control: mpsc::Receiver<PeerEvent>,
    messages: mpsc::Receiver<PeerEvent>,
}

impl EventReceiver {
    /// The next event; `None` once the connection is gone. Control events overtake messages.
    pub async fn next(&mut self) -> Option<PeerEvent> {
        tokio::select! {
            biased;
            Some(event) = self.control.recv() => Some(event),
            Some(event) = self.messages.recv() => Some(event),
            else => None,
        }
    }
}

/// The queues of one connection: media has its own, so that it never delays an event.
pub fn peer_channels() -> (PeerEvents, EventReceiver, mpsc::Receiver<Rtp>) {
    let (control, control_receiver) = mpsc::channel(CONTROL_QUEUE);
    let (messages, message_receiver) = mpsc::channel(MESSAGE_QUEUE);
    let (media, media_receiver) = mpsc::channel(MEDIA_QUEUE);
    (
        PeerEvents { control, messages, media },
        EventReceiver { control: control_receiver, messages: message_receiver },
        media_receiver,
    )
}
