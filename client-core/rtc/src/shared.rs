//! What the interceptors, the event handler and the [`Peer`](crate::Peer) of one connection have in common.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use snug_media_proto::section::Section;

use crate::early::Opened;
use crate::event::{PeerEvent, PeerEvents};
use crate::sdp::Described;
use crate::stats::{Estimate, Flow, LinkStats};

/// What is assumed of a path before anything is known, in bits a second.
pub(crate) const START_BITRATE: u64 = 1_000_000;

/// One of this side's outgoing streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalStream {
    pub(crate) ssrc: u32,
    pub(crate) rtx: u32,
    /// The first sequence numbers of the stream and of its repairs.
    pub(crate) first: (u16, u16),
}

impl LocalStream {
    pub(crate) fn new(ssrc: u32, rtx: u32) -> Self {
        Self { ssrc, rtx, first: (0, 0) }
    }
}

#[derive(Debug)]
pub(crate) struct State {
    /// What the other side's description says.
    pub(crate) remote: Described,
    /// What this side's description says: the payload types that the other side sends with.
    pub(crate) local: Described,
    /// Streams of the other side, as described and as found by identification tag.
    pub(crate) streams: BTreeMap<u32, Section>,
    /// The stream that media last came on, by section.
    pub(crate) heard: [Option<u32>; 4],
    pub(crate) stats: LinkStats,
    pub(crate) estimate: Estimate,
    pub(crate) flow: [Flow; 4],
    /// When the last packet of any kind came.
    pub(crate) alive_at: Option<Instant>,
    wanted: [Option<Instant>; 4],
    reported: [Option<Instant>; 4],
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) events: PeerEvents,
    pub(crate) connected: AtomicBool,
    pub(crate) ours: [LocalStream; 4],
    /// Bits a second that would be of use: the path is not probed for more.
    pub(crate) useful: AtomicU64,
    pub(crate) channel: Arc<Opened>,
    state: Mutex<State>,
}

/// The other side decides how often it asks and reports; passed on is no more than this often for each section.
const KEY_FRAME_EVENTS: Duration = Duration::from_millis(50);
const REPORT_EVENTS: Duration = Duration::from_millis(200);

impl Shared {
    pub(crate) fn new(events: PeerEvents, ours: [LocalStream; 4]) -> Arc<Self> {
        let state = State {
            remote: Described::default(),
            local: Described::default(),
            streams: BTreeMap::new(),
            heard: [None; 4],
            stats: LinkStats::default(),
            estimate: Estimate {
                bitrate_bps: START_BITRATE,
                arriving_bps: 0,
                queue_delay: Duration::ZERO,
                loss: 0.0,
                rtt: Duration::ZERO,
            },
            flow: [Flow::Open; 4],
            alive_at: None,
            wanted: [None; 4],
            reported: [None; 4],
        };
        let (connected, useful) = (AtomicBool::new(false), AtomicU64::new(u64::MAX));
        let channel = Arc::default();
        Arc::new(Self { events, connected, ours, useful, channel, state: Mutex::new(state) })
    }

    /// Held for a few field accesses, never while waiting.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// The section of one of this side's streams, RTX included.
    pub(crate) fn our_section(&self, ssrc: u32) -> Option<Section> {
        let index = self.ours.iter().position(|stream| stream.ssrc == ssrc || stream.rtx == ssrc)?;
        Section::from_index(index)
    }

    /// Never waits: the driver of the connection would stand still meanwhile.
    pub(crate) fn emit(&self, event: PeerEvent) {
        if self.events.control.try_send(event).is_err() {
            tracing::warn!("an event of a connection was dropped: its reader is gone or too slow");
        }
    }

    pub(crate) fn key_frame_wanted(&self, now: Instant, section: Section) {
        let mut state = self.state();
        state.stats.sections[section.index()].plis_received += 1;
        if !due(&mut state.wanted[section.index()], now, KEY_FRAME_EVENTS) {
            return;
        }
        drop(state);
        self.emit(PeerEvent::KeyFrameWanted { section });
    }

    pub(crate) fn sender_report(&self, now: Instant, ssrc: u32, ntp: u64, rtp: u32) {
        let mut state = self.state();
        let Some(&section) = state.streams.get(&ssrc) else { return };
        if !due(&mut state.reported[section.index()], now, REPORT_EVENTS) {
            return;
        }
        drop(state);
        self.emit(PeerEvent::SenderReport { section, ntp, rtp });
    }
}

fn due(last: &mut Option<Instant>, now: Instant, every: Duration) -> bool {
    if last.is_some_and(|last| now.saturating_duration_since(last) < every) {
        return false;
    }
    *last = Some(now);
    true
}
