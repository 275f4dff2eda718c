//! A socket whose media leaves by the pair in use.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

use super::select::Route;
use super::{Pairs, stun};
use crate::tunnel::Tunnels;
use crate::tunnel::inbox::Inbox;

/// One of the sockets of a connection.
pub(crate) struct PairSocket {
    below: Arc<dyn AsyncUdpSocket>,
    pairs: Arc<Pairs>,
    tunnels: Arc<Tunnels>,
    /// Answers that came by way of another pair.
    inbox: Arc<Inbox>,
    number: u64,
}

impl PairSocket {
    pub(crate) fn new(below: Arc<dyn AsyncUdpSocket>, pairs: Arc<Pairs>, tunnels: Arc<Tunnels>) -> Self {
        let inbox = Arc::<Inbox>::default();
        let number = pairs.add_socket(&below, &inbox);
        Self { below, pairs, tunnels, inbox, number }
    }

    /// Sends media over another pair than the agent's.
    fn redirect(
        cx: &mut Context<'_>,
        socket: &dyn AsyncUdpSocket,
        transmit: &Transmit<'_>,
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let whole = transmit.contents.len();
        let size = transmit.segment_size.unwrap_or(whole).max(1);
        if !stun::is_wrapped(transmit.contents) {
            let there = Transmit {
                destination: to,
                src_ip: None,
                ecn: transmit.ecn,
                contents: transmit.contents,
                segment_size: transmit.segment_size,
            };
            return socket.poll_send(cx, &there);
        }
        let mut is_first = true;
        for media in transmit.contents.chunks(size).filter_map(stun::unwrapped) {
            let there =
                Transmit { destination: to, ecn: None, contents: media, segment_size: None, src_ip: None };
            match socket.poll_send(cx, &there) {
                Poll::Ready(Ok(_)) => is_first = false,
                // Waiting now would send the first ones twice.
                Poll::Pending if !is_first => break,
                other => return other,
            }
        }
        Poll::Ready(Ok(whole))
    }
}

impl AsyncUdpSocket for PairSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.below.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let first = transmit.contents.get(..size).unwrap_or(transmit.contents);
        if let Route::Over(pair) = self.pairs.sent(self.number, transmit.destination, first)
            && let Some(socket) = self.pairs.socket(pair)
        {
            if stun::is_wrapped(first) {
                // The library still takes its turns for what it gives to a TURN server.
                self.tunnels.sends();
            }
            match Self::redirect(cx, &*socket, transmit, pair.remote) {
                Poll::Ready(Err(_)) => self.pairs.failed(pair),
                other => return other,
            }
        }
        self.below.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let count = match self.below.poll_recv(cx, bufs, meta) {
                Poll::Ready(Ok(count)) => count,
                Poll::Pending => {
                    let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else {
                        return Poll::Pending;
                    };
                    let popped = self.inbox.pop(buffer, meta, Some(cx.waker()));
                    return if popped { Poll::Ready(Ok(1)) } else { Poll::Pending };
                }
                failed => return failed,
            };
            let left = take_out(bufs, meta, count, |from, datagram| {
                self.pairs.received(self.number, from, datagram)
            });
            if left > 0 || count == 0 {
                return Poll::Ready(Ok(left));
            }
        }
    }

    fn max_gso_segments(&self) -> usize {
        self.below.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.below.max_gro_segments()
    }
}

/// Takes datagrams out of what was received, and returns how many messages are left.
fn take_out(
    bufs: &mut [IoSliceMut<'_>],
    meta: &mut [RecvMeta],
    count: usize,
    mut is_out: impl FnMut(SocketAddr, &[u8]) -> bool,
) -> usize {
    let mut left = 0;
    for at in 0..count {
        let Some(RecvMeta { addr, len, stride, .. }) = meta.get(at).copied() else { break };
        let Some(buffer) = bufs.get_mut(at).filter(|buffer| len <= buffer.len()) else { break };
        let (mut kept, mut read) = (0, 0);
        while read < len {
            let end = len.min(read + stride.max(1));
            if !is_out(addr, &buffer[read..end]) {
                if kept != read {
                    buffer.copy_within(read..end, kept);
                }
                kept += end - read;
            }
            read = end;
        }
        if kept == 0 && len > 0 {
            continue;
        }
        meta[at].len = kept;
        if left != at {
            let (before, from_here) = bufs.split_at_mut(at);
            // What does not fit is lost, as a datagram may be.
            let Some(room) = before[left].get_mut(..kept) else { continue };
            room.copy_from_slice(&from_here[0][..kept]);
            meta[left] = meta[at];
        }
        left += 1;
    }
    left
}

impl Drop for PairSocket {
    fn drop(&mut self) {
        self.pairs.remove_socket(self.number);
    }
}

impl fmt::Debug for PairSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairSocket").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_leaves_the_rest_in_order() {
        let from = SocketAddr::from(([192, 0, 2, 1], 5_000));
        let mut buffers = [vec![9, 1, 9, 2, 3], vec![9; 3], vec![4, 9, 5], vec![6]];
        let mut meta: Vec<RecvMeta> = buffers
            .iter()
            .map(|buffer| {
                let mut meta = RecvMeta::default();
                (meta.addr, meta.len, meta.stride) = (from, buffer.len(), 1);
                meta
            })
            .collect();
        let left = {
            let mut slices: Vec<IoSliceMut<'_>> =
                buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            take_out(&mut slices, &mut meta, 4, |_, datagram| datagram == [9])
        };
        let seen: Vec<&[u8]> =
            buffers.iter().zip(&meta).take(left).map(|(buffer, meta)| &buffer[..meta.len]).collect();
        assert_eq!(seen, [&[1, 2, 3][..], &[4, 5], &[6]]);
    }

    #[test]
    fn what_does_not_fit_into_an_earlier_buffer_is_left_out() {
        let mut buffers = [vec![9], vec![7, 8], vec![6]];
        let mut meta: Vec<RecvMeta> = buffers
            .iter()
            .map(|buffer| {
                let mut meta = RecvMeta::default();
                (meta.len, meta.stride) = (buffer.len(), buffer.len());
                meta
            })
            .collect();
        let left = {
            let mut slices: Vec<IoSliceMut<'_>> =
                buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            take_out(&mut slices, &mut meta, 3, |_, datagram| datagram == [9])
        };
        let seen: Vec<Option<&[u8]>> =
            buffers.iter().zip(&meta).take(left).map(|(buffer, meta)| buffer.get(..meta.len)).collect();
        assert_eq!(seen, [Some(&[6][..])]);
    }
}
