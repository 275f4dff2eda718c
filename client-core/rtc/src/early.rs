//! Hands the library one datagram at a time until the data channel is open.
//!
//! It takes up to 64 waiting datagrams before it acts on what they brought about. When the last one of the channel's handshake and the first message
//! come together, the message finds no channel yet and is dropped, though the other side was told that it arrived. An empty answer between two
//! datagrams makes the library act on the first one.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

/// Whether the data channel of a connection has been open.
#[derive(Debug, Default)]
pub(crate) struct Opened(AtomicBool);

impl Opened {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A socket with a pause after each datagram.
pub(crate) struct PausingSocket {
    below: Arc<dyn AsyncUdpSocket>,
    opened: Arc<Opened>,
    pause: AtomicBool,
}

impl PausingSocket {
    pub(crate) fn new(below: Arc<dyn AsyncUdpSocket>, opened: Arc<Opened>) -> Self {
        Self { below, opened, pause: AtomicBool::new(false) }
    }
}

impl AsyncUdpSocket for PausingSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.below.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.below.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.opened.0.load(Ordering::Relaxed) {
            return self.below.poll_recv(cx, bufs, meta);
        }
        if self.pause.swap(false, Ordering::Relaxed) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let received = self.below.poll_recv(cx, bufs, meta);
        self.pause.store(received.is_ready(), Ordering::Relaxed);
        received
    }

    fn max_gso_segments(&self) -> usize {
        self.below.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.below.max_gro_segments()
    }
}

impl fmt::Debug for PausingSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PausingSocket").field("below", &self.below).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Has always one more datagram.
    #[derive(Debug)]
    struct Flood;

    impl AsyncUdpSocket for Flood {
        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 9).into())
        }

        fn poll_send(&self, _: &mut Context<'_>, _: &Transmit<'_>) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(1))
        }
    }

    #[test]
    fn datagrams_come_one_at_a_time_until_the_channel_is_open() {
        let opened = Arc::new(Opened::default());
        let socket = PausingSocket::new(Arc::new(Flood), Arc::clone(&opened));
        let mut cx = Context::from_waker(Waker::noop());
        let mut comes = || socket.poll_recv(&mut cx, &mut [], &mut []).is_ready();
        assert_eq!([(); 4].map(|()| comes()), [true, false, true, false]);
        opened.set();
        assert_eq!([(); 3].map(|()| comes()), [true; 3]);
    }
}
