//! Spreads a link's packets over time, so that bursts do not fill the queues of the network.
//!
//! Audio never waits. Behind it come retransmissions, then video, then probe padding, at a rate somewhat above the
//! estimate. When video has piled up, whole frames are left out up to the next key frame; a frame is never cut.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::estimate::ProbeCluster;
use crate::section::Section;

/// Queued video beyond this sending time makes new frames be left out.
const QUEUE_LIMIT: Duration = Duration::from_millis(500);
/// Left out frames resume when the queue is this short.
const RESUME_LIMIT: Duration = Duration::from_millis(100);
/// Video that has waited for longer is thrown away: the rate fell after it was queued.
const STALE: Duration = Duration::from_secs(1);
/// Unused sending time that may be caught up.
const BURST: Duration = Duration::from_millis(5);
/// The same while a probe runs: timers come late, and a probe that falls behind its rate shows nothing.
const PROBE_BURST: Duration = Duration::from_millis(25);
/// Packets whose turn comes this soon leave with the one that is due: half as many wake-ups, and no queue grows by it.
const AHEAD: Duration = Duration::from_millis(5);
/// Sending faster than the estimate drains a key frame in time; the encoder keeps the average.
const HEADROOM_PERCENT: u64 = 200;
/// Packets per queue.
const MAX_PACKETS: usize = 4_096;
/// Retransmissions waiting; the oldest go first, the receiver asks again.
const MAX_RETRANSMISSIONS: usize = 256;
/// Padding packets waiting.
const MAX_PROBES: usize = 64;
/// A probe that has not filled up by then is over.
const PROBE_TIME: Duration = Duration::from_millis(200);
/// The lowest rate, in bit/s: keeps queues moving whatever the estimate says.
const MIN_RATE: u64 = 30_000;

/// What a packet is, which decides its place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// Sound, and control packets.
    Audio,
    /// A packet sent again.
    Retransmission,
    /// A picture.
    Video {
        /// Camera or screen.
        section: Section,
        /// The frame's first packet.
        start: bool,
        /// The frame is a key frame.
        key: bool,
    },
    /// Padding that fills up a probe.
    Probe,
}

/// A packet whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released<T> {
    /// The packet.
    pub packet: T,
    /// Its kind.
    pub kind: PacketKind,
    /// Its size in bytes, as given.
    pub bytes: usize,
    /// The probe that it belongs to, for the estimator.
    pub probe: Option<u32>,
}

/// What the sender of a section should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacerEvent {
    /// Frames of this section are left out from here on.
    Dropping(Section),
    /// The queue is short again: a key frame of this section would be sent.
    KeyFrameWanted(Section),
}

/// Counts since the pacer was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacerStats {
    /// Packets released.
    pub released: u64,
    /// Packets left out or thrown away.
    pub dropped: u64,
    /// The longest wait of any packet.
    pub max_wait: Duration,
    /// The sum of all waits.
    pub total_wait: Duration,
}

#[derive(Debug)]
struct Queued<T> {
    packet: T,
    kind: PacketKind,
    bytes: usize,
    since: Instant,
}

#[derive(Debug, Clone, Copy)]
struct ActiveProbe {
    cluster: ProbeCluster,
    packets: u32,
    bytes: usize,
    since: Instant,
    until: Instant,
}

/// The line in front of one link's socket.
#[derive(Debug)]
pub struct Pacer<T> {
    audio: VecDeque<Queued<T>>,
    retransmissions: VecDeque<Queued<T>>,
    video: VecDeque<Queued<T>>,
    probes: VecDeque<Queued<T>>,
    video_bytes: usize,
    rate_bps: u64,
    /// When the packets released so far would have left at the paced rate.
    sent_until: Option<Instant>,
    /// Whether packets leave up to [`AHEAD`] before their time.
    bursting: bool,
    probe: Option<ActiveProbe>,
    /// Sections whose frames are left out until a key frame.
    dropping: BTreeSet<Section>,
    announced: BTreeSet<Section>,
    events: VecDeque<PacerEvent>,
    stats: PacerStats,
}

impl<T> Pacer<T> {
    /// A pacer for an estimate in bit/s.
    pub fn new(rate_bps: u64) -> Self {
        Self {
            audio: VecDeque::new(),
            retransmissions: VecDeque::new(),
            video: VecDeque::new(),
            probes: VecDeque::new(),
            video_bytes: 0,
            rate_bps: rate_bps.max(MIN_RATE),
            sent_until: None,
            bursting: false,
            probe: None,
            dropping: BTreeSet::new(),
            announced: BTreeSet::new(),
            events: VecDeque::new(),
            stats: PacerStats::default(),
        }
    }

    /// Sets the estimate, in bit/s; packets leave up to twice as fast.
    pub fn set_rate(&mut self, bps: u64) {
        self.rate_bps = bps.max(MIN_RATE);
    }

    /// Counts so far.
    pub fn stats(&self) -> PacerStats {
        self.stats
    }

    /// How long the queued video takes to send.
    pub fn video_delay(&self) -> Duration {
        duration_of(self.video_bytes, self.rate_bps * HEADROOM_PERCENT / 100)
    }

    /// Puts a packet in its queue. False if it was left out.
    pub fn enqueue(&mut self, packet: T, kind: PacketKind, bytes: usize, now: Instant) -> bool {
        let queued = Queued { packet, kind, bytes, since: now };
        let (queue, limit) = match kind {
            PacketKind::Audio => (&mut self.audio, MAX_PACKETS),
            PacketKind::Retransmission => (&mut self.retransmissions, MAX_RETRANSMISSIONS),
            PacketKind::Probe => (&mut self.probes, MAX_PROBES),
            PacketKind::Video { section, start, key } => {
                if !self.admit(section, start, key) {
                    self.stats.dropped += 1;
                    return false;
                }
                self.video_bytes += bytes;
                (&mut self.video, usize::MAX)
            }
        };
        if queue.len() >= limit {
            queue.pop_front();
            self.stats.dropped += 1;
        }
        queue.push_back(queued);
        true
    }

    /// Begins a probe: packets leave at its rate until it is filled, for 200 ms at most. See
    /// [`padding_wanted`](Self::padding_wanted).
    pub fn start_probe(&mut self, cluster: ProbeCluster, now: Instant) {
        self.probe = Some(ActiveProbe { cluster, packets: 0, bytes: 0, since: now, until: now + PROBE_TIME });
    }

    /// Whether a padding packet is needed to keep the running probe at its rate. Who has none to give calls
    /// [`cancel_probe`](Self::cancel_probe).
    pub fn padding_wanted(&self, now: Instant) -> bool {
        let due = self.sent_until.is_none_or(|until| until <= now);
        self.probe.is_some() && due && self.is_empty()
    }

    /// Ends the running probe.
    pub fn cancel_probe(&mut self) {
        self.probe = None;
        self.probes.clear();
    }

    /// The next packet whose time has come.
    pub fn poll(&mut self, now: Instant) -> Option<Released<T>> {
        self.discard_stale(now);
        if self.probe.is_some_and(|probe| probe.until <= now) {
            self.cancel_probe();
        }
        self.bursting = self.is_due(now);
        let queued = match self.audio.pop_front() {
            Some(audio) => audio,
            None if !self.bursting => return None,
            None => self
                .retransmissions
                .pop_front()
                .or_else(|| self.video.pop_front())
                .or_else(|| self.probes.pop_front())?,
        };
        if matches!(queued.kind, PacketKind::Video { .. }) {
            self.video_bytes -= queued.bytes;
        }
        let (rate, burst) = match self.probe {
            Some(probe) => {
                (probe.cluster.rate_bps, PROBE_BURST.min(now.saturating_duration_since(probe.since)))
            }
            None => (self.rate_bps * HEADROOM_PERCENT / 100, BURST),
        };
        let earliest = now.checked_sub(burst).unwrap_or(now);
        let from = self.sent_until.map_or(now, |until| until.max(earliest));
        self.sent_until = Some(from + duration_of(queued.bytes, rate));
        let wait = now.saturating_duration_since(queued.since);
        self.stats.released += 1;
        self.stats.max_wait = self.stats.max_wait.max(wait);
        self.stats.total_wait += wait;
        self.announce_room();
        let probe = self.count_probe(queued.bytes);
        Some(Released { packet: queued.packet, kind: queued.kind, bytes: queued.bytes, probe })
    }

    /// When [`poll`](Self::poll) or [`padding_wanted`](Self::padding_wanted) may have something.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if let Some(audio) = self.audio.front() {
            return Some(audio.since);
        }
        let first = self.retransmissions.front().or(self.video.front()).or(self.probes.front());
        match (first, self.sent_until) {
            (Some(first), until) => Some(until.map_or(first.since, |until| until.max(first.since))),
            (None, until) => until.filter(|_| self.probe.is_some()),
        }
    }

    /// What the encoders should know; at most one of each kind per section waits.
    pub fn poll_event(&mut self) -> Option<PacerEvent> {
        self.events.pop_front()
    }

    /// A burst begins when its first packet is due and ends when the next one is far off. A probe keeps its exact rate.
    fn is_due(&self, now: Instant) -> bool {
        let ahead = if self.bursting && self.probe.is_none() { AHEAD } else { Duration::ZERO };
        self.sent_until.is_none_or(|until| until <= now + ahead)
    }

    fn is_empty(&self) -> bool {
        self.audio.is_empty()
            && self.retransmissions.is_empty()
            && self.video.is_empty()
            && self.probes.is_empty()
    }

    /// Whether a video packet may enter. Decides at a frame's first packet alone, so that frames stay whole.
    fn admit(&mut self, section: Section, start: bool, key: bool) -> bool {
        if !start {
            return !self.dropping.contains(&section);
        }
        let delay = self.video_delay();
        let too_much = |limit| delay > limit || self.video.len() >= MAX_PACKETS;
        if self.dropping.contains(&section) {
            if !key || too_much(RESUME_LIMIT) {
                return false;
            }
            self.dropping.remove(&section);
            self.announced.remove(&section);
        } else if too_much(QUEUE_LIMIT) {
            self.begin_dropping(section);
            return false;
        }
        true
    }

    fn begin_dropping(&mut self, section: Section) {
        if self.dropping.insert(section) {
            self.push_event(PacerEvent::Dropping(section));
        }
    }

    fn announce_room(&mut self) {
        if self.dropping.is_empty() || self.video_delay() > RESUME_LIMIT {
            return;
        }
        let ready: Vec<_> = self.dropping.difference(&self.announced).copied().collect();
        for section in ready {
            self.announced.insert(section);
            self.push_event(PacerEvent::KeyFrameWanted(section));
        }
    }

    fn push_event(&mut self, event: PacerEvent) {
        if !self.events.contains(&event) {
            self.events.push_back(event);
        }
    }

    fn discard_stale(&mut self, now: Instant) {
        let oldest = self.video.front().map(|queued| queued.since);
        if oldest.is_none_or(|since| now.saturating_duration_since(since) <= STALE) {
            return;
        }
        // What has begun to leave goes on: a receiver cannot tell a cut frame from a lost one.
        let mut thrown_away = BTreeSet::new();
        let before = self.video.len();
        self.video.retain(|queued| {
            let PacketKind::Video { section, start, .. } = queued.kind else { return true };
            if start {
                thrown_away.insert(section);
            }
            !thrown_away.contains(&section)
        });
        if thrown_away.is_empty() {
            return;
        }
        self.stats.dropped += (before - self.video.len()) as u64;
        self.video_bytes = self.video.iter().map(|queued| queued.bytes).sum();
        for section in thrown_away {
            self.begin_dropping(section);
        }
        self.announce_room();
    }

    fn count_probe(&mut self, bytes: usize) -> Option<u32> {
        let probe = self.probe.as_mut()?;
        probe.packets += 1;
        probe.bytes += bytes;
        let id = probe.cluster.id;
        if probe.packets >= probe.cluster.min_packets && probe.bytes >= probe.cluster.min_bytes {
            self.cancel_probe();
        }
        Some(id)
    }
}

fn duration_of(bytes: usize, bps: u64) -> Duration {
    Duration::from_nanos((bytes as u64 * 8).saturating_mul(1_000_000_000) / bps.max(1))
}
