//! What waits to be sent to one client: bounded, and never a reason for the hub to wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use snug_wire::{CloseCode, ServerFrame, limits};
use tokio::sync::Notify;

/// The queue between the hub and one connection's task. It takes no memory while it is empty.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
    close_asked: Notify,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<ServerFrame>,
    bytes: usize,
    close: Option<CloseCode>,
}

/// The queue is full: the client reads too slowly.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Outbox {
    /// Adds a frame.
    ///
    /// # Errors
    /// [`Overflow`] past 1,024 frames or 256 KiB; the frame is dropped, and the connection must be closed.
    pub(crate) fn push(&self, frame: ServerFrame) -> Result<(), Overflow> {
        let mut waiting = self.lock();
        let bytes = waiting.bytes + frame.len();
        if waiting.frames.len() >= limits::QUEUE_MESSAGES || bytes > limits::QUEUE_BYTES {
            return Err(Overflow);
        }
        waiting.bytes = bytes;
        waiting.frames.push_back(frame);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// Asks the connection to close once what waits is sent; the first code counts.
    pub(crate) fn close(&self, code: CloseCode) {
        self.lock().close.get_or_insert(code);
        self.changed.notify_one();
        self.close_asked.notify_one();
    }

    /// Replaces what waits by a last word, and asks to close: whoever did not read the queue will not read it now.
    pub(crate) fn overflow(&self, last: ServerFrame) {
        let mut waiting = self.lock();
        waiting.frames.clear();
        waiting.bytes = last.len();
        waiting.frames.push_back(last);
        waiting.close.get_or_insert(CloseCode::SlowReader);
        drop(waiting);
        self.changed.notify_one();
        self.close_asked.notify_one();
    }

    /// Waits until there is something to do.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes all frames, and the close code if there is one.
    pub(crate) fn take(&self) -> (VecDeque<ServerFrame>, Option<CloseCode>) {
        let mut waiting = self.lock();
        waiting.bytes = 0;
        (std::mem::take(&mut waiting.frames), waiting.close)
    }

    /// Waits until a close is asked for.
    pub(crate) async fn close_asked(&self) {
        // The permit of a close that came before is kept, so that none is missed.
        self.close_asked.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here can panic halfway, so a poisoned queue is still whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use snug_wire::ServerMessage;

    use super::*;

    #[test]
    fn the_queue_is_bounded_by_frames() {
        let outbox = Outbox::default();
        let frame = ServerFrame::new(&ServerMessage::Pong {});
        for _ in 0..limits::QUEUE_MESSAGES {
            assert_eq!(outbox.push(frame.clone()), Ok(()));
        }
        assert_eq!(outbox.push(frame.clone()), Err(Overflow));
        assert_eq!(outbox.take().0.len(), limits::QUEUE_MESSAGES);
        assert_eq!(outbox.push(frame), Ok(()), "what was taken makes room");
    }

    #[test]
    fn the_queue_is_bounded_by_bytes() {
        let outbox = Outbox::default();
        let big = ServerFrame::new(&ServerMessage::AuthRequired { hint: Some("x".repeat(100_000)) });
        assert_eq!(outbox.push(big.clone()), Ok(()));
        assert_eq!(outbox.push(big.clone()), Ok(()));
        assert_eq!(outbox.push(big), Err(Overflow));
    }
}
