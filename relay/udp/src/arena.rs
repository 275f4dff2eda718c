//! Where received datagrams lie until they are sent on.
//! It never copies a datagram and never gives out more than what arrived.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::linux::ReceiveBatch;

/// Room of one message: what a UDP datagram, or a run of them, can hold at most.
pub(crate) const SLOT_BYTES: usize = 65_536;
/// Bytes from one slot to the next. Not a multiple of a page, or the first lines of all slots would share a few sets of the processor's
/// caches: with 23 lines of 64 bytes beyond it, a batch of ordinary datagrams spreads over all of them.
const STRIDE: usize = SLOT_BYTES + 23 * 64;

/// Buffers for one round of receiving. Memory that no datagram ever reached is never touched, so the 64 KiB of each message cost address
/// space only.
pub struct ReceiveArena {
    /// Of one length for good, since the batch points into it. A box would not do: moving one ends the validity of pointers into it.
    bytes: Vec<u8>,
    pub(crate) messages: Vec<Message>,
    pub(crate) capacity: usize,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) batch: ReceiveBatch,
}

/// One message of the kernel: a datagram, or a run of datagrams of one sender that are all of one size but for a shorter last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub from: SocketAddr,
    /// The address of this machine that it was sent to. `None` when the socket is bound to all addresses and cannot or need not tell.
    pub to: Option<IpAddr>,
    /// Bytes of each datagram but the last.
    pub segment: usize,
    /// Its place in the arena.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

impl Message {
    /// The places of its datagrams in the arena, in the order in which they were sent. An empty datagram is one, too.
    pub fn datagrams(&self) -> Datagrams {
        Datagrams { next: self.start, end: self.end, segment: self.segment, fresh: true }
    }
}

/// See [`Message::datagrams`].
#[derive(Clone, Debug)]
pub struct Datagrams {
    next: usize,
    end: usize,
    segment: usize,
    fresh: bool,
}

impl Iterator for Datagrams {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.next == self.end && !self.fresh {
            return None;
        }
        self.fresh = false;
        let start = self.next;
        // A segment of nothing would never come to an end.
        self.next = if self.segment == 0 { self.end } else { self.end.min(start + self.segment) };
        Some(start..self.next)
    }
}

impl ReceiveArena {
    /// Room for `messages` messages, at least one and at most 1,024.
    pub fn new(messages: usize) -> Self {
        let capacity = messages.clamp(1, 1024);
        #[cfg_attr(not(any(target_os = "linux", target_os = "android")), expect(unused_mut))]
        let mut bytes = vec![0; capacity * STRIDE];
        Self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            batch: ReceiveBatch::new(&mut bytes, STRIDE, capacity),
            bytes,
            messages: Vec::with_capacity(capacity),
            capacity,
        }
    }

    /// Forgets all messages.
    pub fn clear(&mut self) {
        self.messages.clear();
    }

    /// How many messages there are. Receiving adds to them until [`clear`](Self::clear).
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Messages that can still be received.
    pub fn room(&self) -> usize {
        self.capacity - self.messages.len()
    }

    /// The message with this number.
    ///
    /// # Panics
    /// When there is none.
    pub fn message(&self, index: usize) -> Message {
        self.messages[index]
    }

    /// All messages in the order of their arrival.
    pub fn messages(&self) -> impl Iterator<Item = Message> + '_ {
        self.messages.iter().copied()
    }

    /// All datagrams of all messages: sender and bytes.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> + '_ {
        self.messages
            .iter()
            .flat_map(|message| message.datagrams().map(|place| (message.from, &self.bytes[place])))
    }

    /// The bytes at a place that [`Message::datagrams`] named.
    pub fn bytes(&self, place: Range<usize>) -> &[u8] {
        &self.bytes[place]
    }

    /// To write at a place that was received into.
    pub(crate) fn bytes_mut(&mut self, place: Range<usize>) -> &mut [u8] {
        &mut self.bytes[place]
    }

    /// Everything, for the places that a [`SendQueue`](crate::SendQueue) keeps.
    pub(crate) fn all_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the message with this number would lie.
    pub(crate) fn slot(index: usize) -> usize {
        index * STRIDE
    }
}
