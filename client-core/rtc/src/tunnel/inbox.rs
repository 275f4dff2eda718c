//! What came out of the streams and waits for the library to read it. Bounded: when it is full, the oldest goes.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use webrtc::runtime::RecvMeta;

const MOST_DATAGRAMS: usize = 1_024;
const MOST_BYTES: usize = 1024 * 1024;

#[derive(Default)]
struct State {
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    bytes: usize,
    reader: Option<Waker>,
}

impl State {
    fn pop(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let oldest = self.waiting.pop_front()?;
        self.bytes -= oldest.1.len();
        Some(oldest)
    }
}

/// The datagrams for one socket.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<State>);

impl Inbox {
    pub(crate) fn push(&self, from: SocketAddr, datagram: Vec<u8>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes += datagram.len();
        state.waiting.push_back((from, datagram));
        while state.bytes > MOST_BYTES || state.waiting.len() > MOST_DATAGRAMS {
            state.pop();
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// The next datagram that fits. With `reader`, who reads is woken when there is one; the last one asking counts.
    pub(crate) fn pop(
        &self,
        buffer: &mut IoSliceMut<'_>,
        meta: &mut RecvMeta,
        reader: Option<&Waker>,
    ) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((from, datagram)) = state.pop() {
            // Whatever is longer than a packet on the Internet was not sent by a participant.
            let Some(room) = buffer.get_mut(..datagram.len()) else { continue };
            room.copy_from_slice(&datagram);
            *meta = RecvMeta::default();
            meta.addr = from;
            meta.len = datagram.len();
            meta.stride = datagram.len();
            return true;
        }
        if let Some(reader) = reader {
            state.reader = Some(reader.clone());
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop(inbox: &Inbox, room: usize) -> Option<Vec<u8>> {
        let mut buffer = vec![0; room];
        let mut meta = RecvMeta::default();
        let got = inbox.pop(&mut IoSliceMut::new(&mut buffer), &mut meta, None);
        got.then(|| buffer[..meta.len].to_vec())
    }

    #[test]
    fn it_gives_back_in_order_what_fits_and_holds_so_much_and_no_more() {
        let (inbox, from) = (Inbox::default(), SocketAddr::from(([240, 0, 0, 1], 3478)));
        inbox.push(from, vec![1; 3_000]);
        inbox.push(from, vec![2; 3]);
        assert_eq!((pop(&inbox, 2_000), pop(&inbox, 2_000)), (Some(vec![2; 3]), None));
        for n in 0..2_000_u32 {
            inbox.push(from, n.to_be_bytes().to_vec());
        }
        assert_eq!(pop(&inbox, 2_000), Some((2_000 - MOST_DATAGRAMS as u32).to_be_bytes().to_vec()));
        for _ in 0..40 {
            inbox.push(from, vec![0; 64 * 1024]);
        }
        assert!(inbox.0.lock().unwrap().bytes <= MOST_BYTES);
    }
}
