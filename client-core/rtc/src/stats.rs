//! What is counted about a connection. The counts of the library below leave out all that the other side reports.

use std::time::Duration;

/// How a candidate came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateKind {
    /// An address of the machine itself.
    Host,
    /// The address a STUN server saw.
    ServerReflexive,
    /// An address the other side saw during checks.
    PeerReflexive,
    /// An address at a TURN server.
    Relay,
}

/// How a TURN server is reached, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RelayProtocol {
    /// Datagrams.
    Udp,
    /// A TCP connection.
    Tcp,
    /// TLS over a TCP connection.
    Tls,
}

/// The pair of candidates in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathStats {
    /// This side's candidate.
    pub local: CandidateKind,
    /// The other side's candidate.
    pub remote: CandidateKind,
    /// How this side reaches its TURN server; `None` when its candidate is not at one.
    pub relay: Option<RelayProtocol>,
}

/// Counts of one section since the connection was made.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SectionStats {
    /// RTP packets sent, without retransmissions.
    pub packets_sent: u64,
    /// Payload bytes of these.
    pub bytes_sent: u64,
    /// Packets sent again because the other side asked for them.
    pub retransmitted: u64,
    /// Packets sent again unasked, to fill up a probe of the path.
    pub padding_sent: u64,
    /// Sequence numbers the other side asked for.
    pub nacks_received: u64,
    /// Key-frame requests (PLI and FIR) of the other side.
    pub plis_received: u64,
    /// Share of what was sent lately that the other side missed, 0 to 1, before repair.
    pub loss_reported: f32,
    /// RTP packets received and passed on, repaired ones included.
    pub packets_received: u64,
    /// Payload bytes of these.
    pub bytes_received: u64,
    /// Packets that came by retransmission.
    pub recovered: u64,
    /// Packets that came twice, or after having been given up, and were dropped.
    pub duplicates: u64,
    /// Packets that came again unasked and were dropped: the other side filled up a probe of the path.
    pub padding_received: u64,
    /// Sequence numbers that did not come and were not repaired, those on their way included.
    pub lost: u64,
    /// Sequence numbers asked for, each request counted.
    pub nacks_sent: u64,
    /// Key-frame requests sent.
    pub plis_sent: u64,
    /// Packets dropped because the reader of media was too slow.
    pub overrun: u64,
    /// Interarrival jitter (RFC 3550 §6.4.1).
    pub jitter: Duration,
}

/// Counts of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LinkStats {
    /// By [`Section::index`](snug_media_proto::section::Section::index).
    pub sections: [SectionStats; 4],
    /// Round trip by RTCP, zero until known.
    pub rtt: Duration,
    /// The path in use, if there is one.
    pub path: Option<PathStats>,
}

/// Whether video of a section gets out of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Open,
    /// The path fell so far behind that frames are thrown away. A key frame would be, too.
    Full,
    /// There is room again: what comes next has to be a key frame, the rest is thrown away.
    KeyFrameWanted,
}

/// What the path is thought to carry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Bits a second for the payloads of everything sent over the link; room for the headers is taken off.
    pub bitrate_bps: u64,
    /// Bits a second of payloads that arrive, zero until known.
    pub arriving_bps: u64,
    /// The queue on the way: how much longer packets take than the fastest of the last seconds.
    pub queue_delay: Duration,
    /// Share of packets lost lately, 0 to 1.
    pub loss: f32,
    /// Round trip, zero until known.
    pub rtt: Duration,
}
