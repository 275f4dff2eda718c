//! Turns RTP packets of VP8 into complete frames that a decoder can take, in order.
//!
//! 1. Packets wait in a buffer by sequence number until their frame is whole and every earlier frame was handed on.
//! 2. A hole waits for its repair. If TL0PICIDX shows that it held frames of upper temporal layers only, it is
//!    skipped soon: nothing later refers to them.
//! 3. Any other hole that is not repaired in time ends the chain of references: a key frame is asked for, and
//!    nothing is handed on until one is whole.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::sequence::Unwrapper16;
use crate::vp8::{self, Descriptor};

/// Packets kept at most: 2 s of 8 Mbit/s.
const MAX_PACKETS: usize = 2_048;
/// Bytes kept at most.
const MAX_BYTES: usize = 4 << 20;
/// Old packets in a row that show a restarted numbering.
const STALE_LIMIT: u32 = 100;
/// The shortest time between two key frame requests.
const MIN_REQUEST_GAP: Duration = Duration::from_millis(300);
/// The longest time between two key frame requests.
const MAX_REQUEST_GAP: Duration = Duration::from_secs(2);
/// What has waited for a key frame for longer is of no use: no repair takes so long.
const MAX_KEY_WAIT: Duration = Duration::from_secs(3);
/// How long the first key frame may take to come by itself.
const START_PATIENCE: Duration = Duration::from_millis(100);

/// A received RTP packet of a video section, its header and padding removed.
#[derive(Debug, Clone)]
pub struct VideoPacket {
    /// RTP sequence number, of the original stream if it came by RTX.
    pub sequence: u16,
    /// RTP timestamp, 90 kHz.
    pub timestamp: u32,
    /// RTP marker: the frame's last packet.
    pub marker: bool,
    /// VP8 payload descriptor and data.
    pub payload: Bytes,
}

/// A whole frame.
#[derive(Debug, Clone)]
pub struct AssembledFrame {
    /// The VP8 bitstream.
    pub data: Bytes,
    /// RTP timestamp, 90 kHz.
    pub timestamp: u32,
    /// Decodable by itself.
    pub key: bool,
    /// Width and height in pixels, known from key frames.
    pub size: Option<(u16, u16)>,
    /// Temporal layer, 0 if the sender names none.
    pub temporal: u8,
    /// When the last of its packets came.
    pub arrival: Instant,
}

/// Counts since the assembler was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AssemblerStats {
    /// Frames handed on.
    pub frames: u64,
    /// Key frames among them.
    pub key_frames: u64,
    /// Frames of which something was received but that were not handed on.
    pub dropped: u64,
    /// Pauses between frames of more than three usual ones and of 150 ms above the usual.
    pub freezes: u32,
    /// The sum of those pauses.
    pub frozen: Duration,
    /// Packets that came twice or after their frame had been given up.
    pub late_packets: u64,
    /// Packets without a valid descriptor.
    pub invalid_packets: u64,
}

#[derive(Debug)]
struct Stored {
    timestamp: u32,
    marker: bool,
    arrival: Instant,
    descriptor: Descriptor,
    /// Empty for padding: it only takes up its number.
    data: Bytes,
}

impl Stored {
    fn begins_picture(&self) -> bool {
        self.descriptor.begins_picture() && !self.data.is_empty()
    }
    fn is_key_start(&self) -> bool {
        self.begins_picture() && vp8::is_key_frame(&self.data)
    }
    fn temporal(&self) -> u8 {
        self.descriptor.temporal.map_or(0, |temporal| temporal.id)
    }
    fn sync(&self) -> bool {
        self.descriptor.temporal.is_some_and(|temporal| temporal.sync)
    }
}

/// What stands at the head of the buffer.
enum Head {
    /// A whole frame up to and including this number.
    Whole(i64),
    /// The next packets have not come, and nothing behind them either.
    Pending,
    /// The packet of this number is missing although later ones are there.
    Hole(i64),
    /// The packets up to and including this number are no frame.
    Damaged(i64),
}

/// Assembles the frames of one received stream.
#[derive(Debug)]
pub struct FrameAssembler {
    unwrapper: Unwrapper16,
    packets: BTreeMap<i64, Stored>,
    bytes: usize,
    /// The first number that was neither handed on nor given up.
    next: Option<i64>,
    last_tl0: Option<u8>,
    /// The highest temporal layer whose references are whole.
    intact: u8,
    waiting_for_key: bool,
    /// Something came since a key frame was looked for last.
    unsearched: bool,
    blocked_since: Option<Instant>,
    rtt: Duration,
    request_at: Option<Instant>,
    request_gap: Duration,
    stale_run: u32,
    last_frame_at: Option<Instant>,
    usual_gap: Duration,
    stats: AssemblerStats,
}

impl Default for FrameAssembler {
    fn default() -> Self {
        Self {
            unwrapper: Unwrapper16::default(),
            packets: BTreeMap::new(),
            bytes: 0,
            next: None,
            last_tl0: None,
            intact: u8::MAX,
            waiting_for_key: true,
            unsearched: true,
            blocked_since: None,
            rtt: Duration::from_millis(100),
            request_at: None,
            request_gap: MIN_REQUEST_GAP,
            stale_run: 0,
            last_frame_at: None,
            usual_gap: Duration::from_millis(33),
            stats: AssemblerStats::default(),
        }
    }
}

impl FrameAssembler {
    /// Sets the link's round trip, which decides how long a repair may take.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt.min(Duration::from_secs(2));
    }

    /// Counts so far.
    pub fn stats(&self) -> AssemblerStats {
        self.stats
    }

    /// Takes a packet. Call [`next_frame`](Self::next_frame) until it is empty afterwards.
    pub fn push(&mut self, now: Instant, packet: VideoPacket) {
        // Padding after the data's end has neither descriptor nor data, yet it takes up a number.
        let (descriptor, length) = if packet.payload.is_empty() {
            (Descriptor::default(), 0)
        } else if let Ok(parsed) = Descriptor::parse(&packet.payload) {
            parsed
        } else {
            self.stats.invalid_packets += 1;
            return;
        };
        let mut sequence = self.unwrapper.unwrap(packet.sequence);
        if let Some(next) = self.next {
            if sequence < next {
                self.stats.late_packets += 1;
                self.stale_run += 1;
                if self.stale_run < STALE_LIMIT {
                    return;
                }
            }
            if sequence < next || sequence > next + MAX_PACKETS as i64 {
                self.restart(now);
                self.unwrapper = Unwrapper16::default();
                sequence = self.unwrapper.unwrap(packet.sequence);
            }
        } else if self.packets.is_empty() {
            self.request_at.get_or_insert(now + START_PATIENCE);
        }
        self.stale_run = 0;
        if self.packets.contains_key(&sequence) {
            self.stats.late_packets += 1;
            return;
        }
        let data = packet.payload.slice(length..);
        self.bytes += data.len();
        self.unsearched = true;
        self.packets.insert(
            sequence,
            Stored { timestamp: packet.timestamp, marker: packet.marker, arrival: now, descriptor, data },
        );
        while self.packets.len() > MAX_PACKETS || self.bytes > MAX_BYTES {
            if !self.drop_first() {
                break;
            }
            self.await_key(now);
        }
    }

    /// The next frame for the decoder, if there is one.
    pub fn next_frame(&mut self, now: Instant) -> Option<AssembledFrame> {
        loop {
            if self.waiting_for_key && !self.jump_to_key(now) {
                return None;
            }
            let next = self.next?;
            match self.head(next) {
                Head::Pending => {
                    self.blocked_since = None;
                    return None;
                }
                Head::Whole(last) => {
                    self.blocked_since = None;
                    if let Some(frame) = self.take(now, next, last) {
                        return Some(frame);
                    }
                }
                Head::Damaged(bad) => {
                    self.discard_until(bad + 1);
                    self.await_key(now);
                }
                Head::Hole(hole) => {
                    let blocked = now.saturating_duration_since(*self.blocked_since.get_or_insert(now));
                    if blocked < self.skip_wait() || !self.skip(now, hole, blocked) {
                        return None;
                    }
                    self.blocked_since = None;
                }
            }
        }
    }

    /// When [`next_frame`](Self::next_frame) or [`poll_key_frame_request`](Self::poll_key_frame_request) may have
    /// something without another packet.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let request = self.request_at.filter(|_| self.waiting_for_key);
        let hole = self.blocked_since.map(|since| {
            let skip = since + self.skip_wait();
            if skip > now { skip } else { (since + self.repair_wait()).max(now) }
        });
        request.into_iter().chain(hole).min()
    }

    /// Whether a key frame should be asked for, by PLI. True at most every 300 ms, less often on long round trips.
    pub fn poll_key_frame_request(&mut self, now: Instant) -> bool {
        if !self.waiting_for_key || self.request_at.is_none_or(|at| at > now) {
            return false;
        }
        self.request_at = Some(now + self.request_gap.max(self.rtt * 2));
        self.request_gap = (self.request_gap * 2).min(MAX_REQUEST_GAP);
        true
    }

    /// Says that the decoder could not use a frame: nothing but a key frame helps.
    pub fn decoder_failed(&mut self, now: Instant) {
        self.await_key(now);
    }

    /// How long a hole that held nothing needed may delay the frames behind it.
    fn skip_wait(&self) -> Duration {
        (self.rtt + Duration::from_millis(40)).clamp(Duration::from_millis(60), Duration::from_millis(400))
    }

    /// How long any other hole may wait for its repair: three retransmissions.
    fn repair_wait(&self) -> Duration {
        (self.rtt * 3 + Duration::from_millis(100)).clamp(Duration::from_millis(150), Duration::from_secs(1))
    }

    fn restart(&mut self, now: Instant) {
        self.packets.clear();
        self.bytes = 0;
        self.next = None;
        self.await_key(now);
    }

    fn await_key(&mut self, now: Instant) {
        self.blocked_since = None;
        if !self.waiting_for_key {
            self.waiting_for_key = true;
            self.unsearched = true;
            // A request just made may still be under way.
            self.request_at = Some(self.request_at.map_or(now, |at| at.max(now)));
        }
        self.request_at.get_or_insert(now);
    }

    /// Moves the head to the first whole key frame, if there is one.
    fn jump_to_key(&mut self, now: Instant) -> bool {
        if !std::mem::take(&mut self.unsearched) {
            return false;
        }
        let starts = self.packets.iter().filter(|(_, stored)| stored.is_key_start());
        let whole = starts.map(|(&start, _)| start).find(|&start| matches!(self.head(start), Head::Whole(_)));
        let Some(start) = whole else {
            while let Some((_, first)) = self.packets.first_key_value()
                && now.saturating_duration_since(first.arrival) > MAX_KEY_WAIT
                && self.drop_first()
            {}
            return false;
        };
        self.discard_until(start);
        self.waiting_for_key = false;
        true
    }

    /// What begins at `next`. It looks no further than the next beginning, so that looking at all of them costs no
    /// more than going through the buffer once.
    fn head(&self, next: i64) -> Head {
        let mut timestamp = None;
        for (expected, (&sequence, stored)) in (next..).zip(self.packets.range(next..)) {
            if sequence != expected {
                return Head::Hole(expected);
            }
            if stored.data.is_empty() {
                continue;
            }
            match timestamp {
                None if !stored.begins_picture() => return Head::Damaged(sequence),
                None => timestamp = Some(stored.timestamp),
                // A sender that sets no marker.
                Some(first) if first != stored.timestamp => return Head::Whole(sequence - 1),
                // Nothing says where the first one ended.
                Some(_) if stored.begins_picture() => return Head::Damaged(sequence - 1),
                Some(_) => {}
            }
            if stored.marker {
                return Head::Whole(sequence);
            }
        }
        Head::Pending
    }

    /// Removes the frame `first..=last` and hands it on if everything it refers to was handed on.
    fn take(&mut self, now: Instant, first: i64, last: i64) -> Option<AssembledFrame> {
        let mut data = Vec::new();
        let mut head: Option<(u32, Descriptor)> = None;
        let mut arrival = now;
        let mut pieces = Vec::new();
        for sequence in first..=last {
            let Some(stored) = self.packets.remove(&sequence) else { continue };
            self.bytes -= stored.data.len();
            if stored.data.is_empty() {
                continue;
            }
            if head.is_none() {
                head = Some((stored.timestamp, stored.descriptor));
                arrival = stored.arrival;
            }
            arrival = arrival.max(stored.arrival);
            pieces.push(stored.data);
        }
        self.next = Some(last + 1);
        let (timestamp, descriptor) = head?;
        let whole = if pieces.len() == 1 {
            pieces.swap_remove(0)
        } else {
            data.reserve_exact(pieces.iter().map(Bytes::len).sum());
            pieces.iter().for_each(|piece| data.extend_from_slice(piece));
            data.into()
        };
        let key = vp8::is_key_frame(&whole);
        let temporal = descriptor.temporal.map_or(0, |temporal| temporal.id);
        if key {
            self.intact = u8::MAX;
            self.request_gap = MIN_REQUEST_GAP;
            self.request_at = None;
        } else if temporal > self.intact {
            if !descriptor.temporal.is_some_and(|temporal| temporal.sync) {
                self.stats.dropped += 1;
                return None;
            }
            self.intact = temporal;
        }
        if key || temporal == 0 {
            self.last_tl0 = descriptor.tl0_pic_idx;
        }
        self.count(now, key);
        Some(AssembledFrame {
            size: vp8::key_frame_size(&whole),
            data: whole,
            timestamp,
            key,
            temporal,
            arrival,
        })
    }

    /// Tries to go on behind a hole that was not repaired. Says whether the head moved.
    fn skip(&mut self, now: Instant, hole: i64, blocked: Duration) -> bool {
        if let Some(start) = self.decodable_start(hole) {
            self.discard_until(start);
            return true;
        }
        let patience_is_over = blocked >= self.repair_wait();
        if patience_is_over {
            self.await_key(now);
        }
        patience_is_over
    }

    /// The first frame behind the hole that refers to nothing in it.
    fn decodable_start(&mut self, hole: i64) -> Option<i64> {
        let last_tl0 = self.last_tl0;
        for (&sequence, stored) in self.packets.range(hole..) {
            if !stored.begins_picture() {
                continue;
            }
            if stored.is_key_start() {
                return Some(sequence);
            }
            let (last, this) = (last_tl0?, stored.descriptor.tl0_pic_idx?);
            if stored.temporal() == 0 {
                let follows = this == last.wrapping_add(1);
                if follows {
                    self.intact = 0;
                }
                return follows.then_some(sequence);
            }
            if this != last {
                return None;
            }
            if stored.sync() {
                self.intact = 0;
                return Some(sequence);
            }
        }
        None
    }

    /// Gives the oldest packet up. Says whether there was one.
    fn drop_first(&mut self) -> bool {
        let Some((oldest, stored)) = self.packets.pop_first() else { return false };
        self.bytes -= stored.data.len();
        self.stats.dropped += u64::from(stored.begins_picture());
        self.next = Some(self.next.map_or(oldest + 1, |next| next.max(oldest + 1)));
        true
    }

    fn discard_until(&mut self, start: i64) {
        let kept = self.packets.split_off(&start);
        let gone = std::mem::replace(&mut self.packets, kept);
        for stored in gone.values() {
            self.bytes -= stored.data.len();
            self.stats.dropped += u64::from(stored.begins_picture());
        }
        self.next = Some(start);
    }

    fn count(&mut self, now: Instant, key: bool) {
        self.stats.frames += 1;
        self.stats.key_frames += u64::from(key);
        if let Some(last) = self.last_frame_at {
            let gap = now.saturating_duration_since(last);
            if gap > (self.usual_gap * 3).max(self.usual_gap + Duration::from_millis(150)) {
                self.stats.freezes += 1;
                self.stats.frozen += gap;
            }
            self.usual_gap = (self.usual_gap * 15 + gap.min(Duration::from_secs(1))) / 16;
        }
        self.last_frame_at = Some(now);
    }
}
