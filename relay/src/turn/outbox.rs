//! What waits to be written to one stream, bounded by bytes and by age.
//! It never cuts a frame, never keeps media that nobody can use any more, and never lets answers go because of their age.
//!
//! A TCP connection that is slower than the media sent to it would otherwise fill with seconds of sound and pictures, and each later packet
//! would wait behind them.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use snug_turn_proto::FiveTuple;
use tokio::sync::Notify;

use super::Counters;

/// Bytes that may wait. At 2 Mbit/s it is a second.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// Of these, bytes of answers. A client waits for an answer before it asks much more; past this it only makes others work.
const MAX_ANSWERS: usize = 16 * 1024;
/// What a frame takes beside its bytes, which count as well: the smallest frames have four of their own.
const OVERHEAD: usize = 64;
/// The largest frame always finds room once media has made way, because answers alone never fill the queue.
const _: () = assert!(MAX_ANSWERS + 2 * (1 << 16) < MAX_BYTES);
/// Media that has waited this long is worth nothing: players have gone on without it.
pub(super) const MAX_AGE: Duration = Duration::from_millis(300);
/// Bytes that are handed to the system at once: one TLS record, so that what is behind can still be found too old.
const BATCH: usize = 16 * 1024;

/// A stream as both threads know it.
pub(super) struct Leg {
    /// Who is at its ends.
    pub(super) five_tuple: FiveTuple,
    state: Mutex<Waiting>,
    /// Rung when something waits where nothing did.
    wake: Notify,
    /// Rung when the stream is to end.
    end: Notify,
    counters: Arc<Counters>,
}

struct Frame {
    bytes: Box<[u8]>,
    /// When media came; answers have no age.
    since: Option<Instant>,
}

impl Frame {
    fn weight(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    /// The frames' weights.
    bytes: usize,
    /// Those of the answers among them.
    answers: usize,
    closed: bool,
}

impl Leg {
    pub(super) fn new(five_tuple: FiveTuple, counters: Arc<Counters>) -> Self {
        Self { five_tuple, state: Mutex::default(), wake: Notify::new(), end: Notify::new(), counters }
    }

    fn state(&self) -> MutexGuard<'_, Waiting> {
        // Frames and their sum are changed without anything between that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a packet of media in parts. The oldest media makes room for it.
    pub(super) fn push_media(&self, parts: [&[u8]; 3], now: Instant) {
        self.push(Frame { bytes: parts.concat().into(), since: Some(now) });
    }

    /// Adds an answer. A stream that lets too many of them wait is closed.
    pub(super) fn push_answer(&self, bytes: Vec<u8>) {
        self.push(Frame { bytes: bytes.into(), since: None });
    }

    fn push(&self, frame: Frame) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        if frame.since.is_none() {
            state.answers += frame.weight();
            if state.answers > MAX_ANSWERS {
                drop(state);
                return self.close();
            }
        }
        let dropped = state.make_room(frame.weight());
        self.counters.stale.fetch_add(dropped, Ordering::Relaxed);
        let was_empty = state.frames.is_empty();
        state.bytes += frame.weight();
        state.frames.push_back(frame);
        drop(state);
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Ends the stream; what waits is not written any more.
    pub(super) fn close(&self) {
        let mut state = self.state();
        *state = Waiting { closed: true, ..Waiting::default() };
        drop(state);
        self.wake.notify_one();
        self.end.notify_one();
    }

    /// Waits for the end, also while a write is stuck.
    pub(super) async fn closed(&self) {
        while !self.is_closed() {
            self.end.notified().await;
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Fills `batch` with what is to be written next, waiting until there is something. `false` when the stream is to end.
    pub(super) async fn take(&self, batch: &mut Vec<u8>) -> bool {
        loop {
            batch.clear();
            {
                let mut state = self.state();
                if state.closed {
                    return false;
                }
                let dropped = state.take(batch, Instant::now());
                self.counters.stale.fetch_add(dropped, Ordering::Relaxed);
            }
            if !batch.is_empty() {
                return true;
            }
            self.wake.notified().await;
        }
    }
}

impl Waiting {
    /// Drops the oldest media until so much fits, or none is left. Returns how many packets it were.
    fn make_room(&mut self, weight: usize) -> u64 {
        let mut dropped = 0;
        while self.bytes + weight > MAX_BYTES {
            // In front of it are answers at most, of which there are few.
            let Some(oldest) = self.frames.iter().position(|frame| frame.since.is_some()) else { break };
            if let Some(frame) = self.frames.remove(oldest) {
                self.bytes -= frame.weight();
                dropped += 1;
            }
        }
        dropped
    }

    /// Moves whole frames to `batch` and leaves out media that is too old. Returns how many packets that were.
    fn take(&mut self, batch: &mut Vec<u8>, now: Instant) -> u64 {
        let mut dropped = 0;
        while let Some(frame) = self.frames.front() {
            let is_stale = frame.since.is_some_and(|since| now.saturating_duration_since(since) > MAX_AGE);
            if !is_stale && !batch.is_empty() && batch.len() + frame.bytes.len() > BATCH {
                break;
            }
            if is_stale {
                dropped += 1;
            } else {
                batch.extend_from_slice(&frame.bytes);
            }
            self.bytes -= frame.weight();
            if frame.since.is_none() {
                self.answers -= frame.weight();
            }
            self.frames.pop_front();
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use snug_turn_proto::{FiveTuple, Transport};

    use super::{BATCH, Counters, Leg, MAX_AGE, MAX_ANSWERS, MAX_BYTES, OVERHEAD};

    fn leg() -> Leg {
        let address = "192.0.2.1:1".parse().expect("an address");
        let five_tuple = FiveTuple { transport: Transport::Tcp, client: address, server: address };
        Leg::new(five_tuple, Arc::new(Counters::default()))
    }

    fn stale(leg: &Leg) -> u64 {
        leg.counters.stale.load(Ordering::Relaxed)
    }

    /// Weights of all that waits and of the answers among it.
    fn held(leg: &Leg) -> (usize, usize) {
        let state = leg.state();
        (state.bytes, state.answers)
    }

    fn take(leg: &Leg, now: Instant) -> Vec<u8> {
        let mut batch = Vec::new();
        leg.state().take(&mut batch, now);
        batch
    }

    #[test]
    fn frames_leave_whole_in_order_and_a_record_at_a_time() {
        let (leg, now) = (leg(), Instant::now());
        for n in 0..40_u8 {
            leg.push_media([&[n; 4], &[n; 995], &[0]], now);
        }
        let batch = take(&leg, now);
        assert_eq!(batch.len(), BATCH / 1000 * 1000);
        assert!(batch.chunks(1000).enumerate().all(|(n, frame)| frame[0] == n as u8 && frame[999] == 0));
        assert_eq!(take(&leg, now)[0], 16);
        leg.push_media([&[], &[7; BATCH * 2], &[]], now);
        while let next = take(&leg, now)
            && !next.is_empty()
        {
            assert!(next.len() <= BATCH || next == [7; BATCH * 2]);
        }
        assert_eq!((leg.state().bytes, stale(&leg)), (0, 0));
    }

    #[test]
    fn old_media_is_left_out_and_old_answers_are_not() {
        let (leg, now) = (leg(), Instant::now());
        leg.push_media([b"old", b"", b""], now);
        leg.push_answer(b"answer".to_vec());
        leg.push_media([b"new", b"", b""], now + Duration::from_millis(200));
        let mut batch = Vec::new();
        let dropped = leg.state().take(&mut batch, now + MAX_AGE + Duration::from_millis(1));
        assert_eq!((batch.as_slice(), dropped), (b"answernew".as_slice(), 1));
        assert_eq!(held(&leg), (0, 0));
    }

    #[test]
    fn the_queue_never_holds_more_than_its_bytes_and_the_newest_media_stays() {
        let (leg, now) = (leg(), Instant::now());
        leg.push_answer(vec![1; 1000]);
        for n in 0..2_000_u32 {
            leg.push_media([&n.to_be_bytes(), &[0; 996], &[]], now);
            assert!(leg.state().bytes <= MAX_BYTES);
        }
        let kept = MAX_BYTES / (1000 + OVERHEAD) - 1;
        assert_eq!(stale(&leg), 2_000 - kept as u64);
        assert_eq!(take(&leg, now)[..4], [1; 4], "the answer is not media");
        let last = leg.state().frames.back().expect("full").bytes[..4].to_vec();
        assert_eq!(last, 1_999_u32.to_be_bytes());
    }

    #[test]
    fn the_smallest_frames_are_bounded_by_the_memory_that_they_take() {
        let (leg, now) = (leg(), Instant::now());
        (0..100_000).for_each(|_| leg.push_media([&[0x40, 0, 0, 0], &[], &[]], now));
        assert_eq!(leg.state().frames.len(), MAX_BYTES / (4 + OVERHEAD));
    }

    #[test]
    fn a_stream_that_lets_answers_wait_is_closed_and_its_media_never_closes_it() {
        let (leg, now) = (leg(), Instant::now());
        for _ in 0..MAX_ANSWERS / 1024 {
            leg.push_answer(vec![0; 1024 - OVERHEAD]);
        }
        (0..10).for_each(|_| leg.push_media([&[0; 48], &[0; 65_535], &[]], now));
        assert!(!leg.is_closed() && leg.state().bytes <= MAX_BYTES);
        assert_eq!(leg.state().frames.len(), MAX_ANSWERS / 1024 + 3, "the answers and the newest media");
        leg.push_answer(Vec::new());
        assert!(leg.is_closed());
        leg.push_answer(vec![0]);
        assert_eq!(held(&leg), (0, 0));
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_a_frame_and_by_the_end() {
        let leg = Arc::new(leg());
        let waiting = leg.clone();
        let task = tokio::spawn(async move {
            let mut batch = Vec::new();
            let first = waiting.take(&mut batch).await.then(|| batch.clone());
            (first, waiting.take(&mut batch).await)
        });
        tokio::task::yield_now().await;
        leg.push_answer(b"one".to_vec());
        tokio::task::yield_now().await;
        leg.close();
        assert_eq!(task.await.expect("it ends"), (Some(b"one".to_vec()), false));
    }
}
