//! What waits for a stream: bounded by number, bytes and age. Never waits itself: when it is full, the oldest goes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::frame::{Frame, Kind, TransactionId};

/// A quarter of a second at 8 Mbit/s.
const MOST_BYTES: usize = 256 * 1024;
const MOST_FRAMES: usize = 1_024;
/// Media that waited longer comes too late to be of use; what is sent instead of it is not.
const DATA_AGE: Duration = Duration::from_millis(400);
/// The library gives a request up after about as long.
const REQUEST_AGE: Duration = Duration::from_secs(20);
/// Written at once: what one TLS record holds.
const BATCH: usize = 16 * 1024;
/// Requests remembered so that none is sent twice over one stream.
const REMEMBERED: usize = 64;

struct Waiting {
    frame: Frame,
    since: Instant,
}

impl Waiting {
    fn is_of_use(&self, now: Instant) -> bool {
        let age = if self.frame.kind == Kind::Data { DATA_AGE } else { REQUEST_AGE };
        now.saturating_duration_since(self.since) <= age
    }
}

#[derive(Default)]
struct Frames {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Requests that this stream has carried.
    sent: VecDeque<TransactionId>,
    /// Without an allocation a server takes nothing but the request for one.
    allocated: bool,
    closed: bool,
    dropped: Dropped,
}

/// What a stream did not carry.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Too much waited.
    pub(super) full: u64,
    /// It waited too long.
    pub(super) late: u64,
}

impl Frames {
    fn push(&mut self, frame: Frame, now: Instant) -> bool {
        let premature = !self.allocated && frame.kind != Kind::Allocate;
        let again = frame.request.is_some_and(|id| {
            self.sent.contains(&id) || self.waiting.iter().any(|other| other.frame.request == Some(id))
        });
        if self.closed || premature || again {
            return false;
        }
        self.bytes += frame.bytes.len();
        self.waiting.push_back(Waiting { frame, since: now });
        while self.bytes > MOST_BYTES || self.waiting.len() > MOST_FRAMES {
            self.pop();
            self.dropped.full += 1;
        }
        true
    }

    fn pop(&mut self) -> Option<Waiting> {
        let oldest = self.waiting.pop_front()?;
        self.bytes -= oldest.frame.bytes.len();
        Some(oldest)
    }

    /// Takes what is written next. Leaves `batch` empty when nothing of use waits.
    fn fill(&mut self, batch: &mut Vec<u8>, now: Instant) {
        batch.clear();
        while let Some(next) = self.waiting.front() {
            if !batch.is_empty() && batch.len() + next.frame.bytes.len() > BATCH {
                return;
            }
            let Some(next) = self.pop() else { return };
            if !next.is_of_use(now) {
                self.dropped.late += 1;
                continue;
            }
            if let Some(id) = next.frame.request {
                if self.sent.len() == REMEMBERED {
                    self.sent.pop_front();
                }
                self.sent.push_back(id);
            }
            batch.extend_from_slice(&next.frame.bytes);
        }
    }

    fn drop_stale(&mut self, now: Instant) {
        while self.waiting.front().is_some_and(|oldest| !oldest.is_of_use(now)) {
            self.pop();
        }
    }
}

/// The frames of one tunnel.
#[derive(Default)]
pub(super) struct Queue {
    frames: Mutex<Frames>,
    changed: Notify,
}

impl Queue {
    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits.
    pub(super) fn push(&self, frame: Frame, now: Instant) {
        if self.frames().push(frame, now) {
            self.changed.notify_one();
        }
    }

    /// No more comes; what waits is still written.
    pub(super) fn close(&self) {
        self.frames().closed = true;
        self.changed.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.frames().closed
    }

    /// Waits until it is closed.
    pub(super) async fn closed(&self) {
        while !self.is_closed() {
            self.changed.notified().await;
        }
    }

    pub(super) fn dropped(&self) -> Dropped {
        self.frames().dropped
    }

    /// A stream begins: it has carried nothing and has no allocation.
    pub(super) fn begin(&self) {
        let mut frames = self.frames();
        frames.sent.clear();
        frames.allocated = false;
        frames.dropped = Dropped::default();
        frames.waiting.retain(|waiting| waiting.frame.kind == Kind::Allocate);
        frames.bytes = frames.waiting.iter().map(|waiting| waiting.frame.bytes.len()).sum();
    }

    pub(super) fn set_allocated(&self) {
        self.frames().allocated = true;
    }

    pub(super) fn is_allocated(&self) -> bool {
        self.frames().allocated
    }

    /// Waits until there is something to begin a stream for. False when there never will be.
    pub(super) async fn wanted(&self) -> bool {
        loop {
            {
                let mut frames = self.frames();
                if frames.closed {
                    return false;
                }
                frames.drop_stale(Instant::now());
                if !frames.waiting.is_empty() {
                    return true;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits for something to write and puts it into `batch`. False when nothing will come any more.
    pub(super) async fn take(&self, batch: &mut Vec<u8>) -> bool {
        loop {
            {
                let mut frames = self.frames();
                frames.fill(batch, Instant::now());
                if !batch.is_empty() {
                    return true;
                }
                if frames.closed {
                    return false;
                }
            }
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind, id: u8, length: usize) -> Frame {
        Frame { kind, request: (kind != Kind::Data).then_some([id; 12]), bytes: vec![id; length] }
    }

    fn filled(frames: &mut Frames, now: Instant) -> Vec<u8> {
        let mut batch = Vec::new();
        frames.fill(&mut batch, now);
        batch
    }

    #[test]
    fn nothing_but_the_first_request_goes_before_there_is_an_allocation() {
        let (mut frames, now) = (Frames::default(), Instant::now());
        assert!(!frames.push(frame(Kind::Data, 1, 4), now));
        assert!(!frames.push(frame(Kind::Request, 2, 4), now));
        assert!(frames.push(frame(Kind::Allocate, 3, 4), now));
        assert_eq!(filled(&mut frames, now), [3; 4]);
        frames.allocated = true;
        assert!(frames.push(frame(Kind::Data, 1, 4), now) && frames.push(frame(Kind::Request, 2, 4), now));
        assert_eq!(filled(&mut frames, now), [1, 1, 1, 1, 2, 2, 2, 2]);
    }

    #[test]
    fn a_request_goes_once_over_a_stream() {
        let (queue, now) = (Queue::default(), Instant::now());
        queue.push(frame(Kind::Allocate, 1, 4), now);
        queue.push(frame(Kind::Allocate, 1, 4), now);
        assert_eq!(filled(&mut queue.frames(), now).len(), 4);
        assert!(!queue.frames().push(frame(Kind::Allocate, 1, 4), now));
        queue.begin();
        assert!(queue.frames().push(frame(Kind::Allocate, 1, 4), now), "another stream has not carried it");
    }

    #[test]
    fn the_oldest_go_when_it_is_full() {
        let (mut frames, now) = (Frames { allocated: true, ..Frames::default() }, Instant::now());
        for n in 0..400_u32 {
            frames.push(frame(Kind::Data, n as u8, 1_000), now);
            assert!(frames.bytes <= MOST_BYTES);
        }
        assert_eq!(frames.waiting.len(), MOST_BYTES / 1_000);
        let mut small = Frames { allocated: true, ..Frames::default() };
        for n in 0..2_000_u32 {
            small.push(frame(Kind::Data, n as u8, 4), now);
        }
        assert_eq!(
            (small.waiting.len(), filled(&mut small, now)[0]),
            (MOST_FRAMES, (2_000 - MOST_FRAMES) as u8)
        );
        assert_eq!(small.bytes, 0);
    }

    #[test]
    fn media_that_waited_too_long_is_left_out_and_requests_are_not() {
        let (mut frames, start) = (Frames { allocated: true, ..Frames::default() }, Instant::now());
        frames.push(frame(Kind::Data, 1, 4), start);
        frames.push(frame(Kind::Request, 2, 4), start);
        frames.push(frame(Kind::Data, 3, 4), start + DATA_AGE);
        assert_eq!(filled(&mut frames, start + DATA_AGE * 2), [2, 2, 2, 2, 3, 3, 3, 3]);
        assert_eq!(frames.dropped, Dropped { full: 0, late: 1 });
    }

    #[test]
    fn a_batch_is_no_longer_than_a_record() {
        let (mut frames, now) = (Frames { allocated: true, ..Frames::default() }, Instant::now());
        for n in 0..40 {
            frames.push(frame(Kind::Data, n, 1_000), now);
        }
        let lengths = [(); 4].map(|()| filled(&mut frames, now).len());
        assert_eq!(lengths, [16_000, 16_000, 8_000, 0]);
    }
}
