//! Sends the messages of the DTLS handshake again when no answer comes.
//!
//! The library does so after a second, and nothing can set it: one lost datagram makes a join that much slower. What is sent
//! twice does no harm: receivers know handshake messages by their numbers (RFC 6347 §4.2.4).

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};

/// When a flight leaves again, counted from the time before; then the library's own second has passed.
const AGAIN_AFTER: [Duration; 3] =
    [Duration::from_millis(150), Duration::from_millis(250), Duration::from_millis(400)];
/// Datagrams of a flight; a certificate takes two or three.
const MOST: usize = 8;

/// What was sent last. It is out of date only when the next one leaves: hearing the other side repeat its own flight says
/// that this one was lost.
#[derive(Default)]
struct Flight {
    datagrams: Vec<(Vec<u8>, SocketAddr)>,
    /// The other side was heard since the first of them left.
    is_answered: bool,
    /// Counts flights, so that each waits its own time.
    number: u64,
    is_watched: bool,
}

/// A socket that repeats what is lost of a handshake.
pub(crate) struct FlightSocket {
    below: Arc<dyn AsyncUdpSocket>,
    flight: Arc<Mutex<Flight>>,
}

impl FlightSocket {
    pub(crate) fn new(below: Arc<dyn AsyncUdpSocket>) -> Self {
        Self { below, flight: Arc::default() }
    }

    fn remember(&self, datagram: &[u8], to: SocketAddr) {
        let mut flight = lock(&self.flight);
        if std::mem::take(&mut flight.is_answered) {
            flight.datagrams.clear();
        }
        if flight.datagrams.is_empty() {
            flight.number += 1;
        }
        if flight.datagrams.len() < MOST {
            flight.datagrams.push((datagram.to_vec(), to));
        }
        if !std::mem::replace(&mut flight.is_watched, true) {
            // The socket must not outlive its connection for the sake of a repetition.
            tokio::spawn(watch(Arc::clone(&self.flight), Arc::downgrade(&self.below)));
        }
    }
}

/// Ends with the handshake, or when a flight was repeated often enough.
async fn watch(flight: Arc<Mutex<Flight>>, socket: Weak<dyn AsyncUdpSocket>) {
    let (mut number, mut times) = (lock(&flight).number, 0);
    loop {
        tokio::time::sleep(AGAIN_AFTER[times]).await;
        let again = {
            let mut flight = lock(&flight);
            if flight.number == number {
                times += 1;
            } else {
                (number, times) = (flight.number, 0);
            }
            if flight.datagrams.is_empty() || times == AGAIN_AFTER.len() {
                flight.datagrams.clear();
                flight.is_watched = false;
                return;
            }
            if times == 0 { Vec::new() } else { flight.datagrams.clone() }
        };
        let Some(socket) = socket.upgrade() else { return };
        for (datagram, to) in again {
            // A socket that cannot send has other troubles.
            let _ = socket.send_to(&datagram, to).await;
        }
    }
}

fn lock(flight: &Mutex<Flight>) -> MutexGuard<'_, Flight> {
    flight.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first byte of the DTLS record (RFC 7983), also inside the ChannelData of a TURN server.
fn record(datagram: &[u8]) -> Option<u8> {
    let first = match datagram.first()? {
        0x40..=0x4f => datagram.get(4)?,
        first => first,
    };
    (20..64).contains(first).then_some(*first)
}

/// Types of records (RFC 6347 §4.1): ChangeCipherSpec and handshake messages, and what follows a handshake.
const CHANGE: u8 = 20;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

impl AsyncUdpSocket for FlightSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.below.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let sent = self.below.poll_send(cx, transmit);
        if matches!(sent, Poll::Ready(Ok(_))) {
            let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
            for datagram in transmit.contents.chunks(size) {
                match record(datagram) {
                    Some(CHANGE | HANDSHAKE) => self.remember(datagram, transmit.destination),
                    Some(DATA) => lock(&self.flight).datagrams.clear(),
                    _ => {}
                }
            }
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.below.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = &received {
            for kind in bufs.iter().take(*count).filter_map(|buffer| record(buffer)) {
                let mut flight = lock(&self.flight);
                flight.is_answered = true;
                if kind == DATA {
                    flight.datagrams.clear();
                }
            }
        }
        received
    }

    fn max_gso_segments(&self) -> usize {
        self.below.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.below.max_gro_segments()
    }
}

impl fmt::Debug for FlightSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlightSocket").field("below", &self.below).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;

    use super::*;

    /// Counts what is sent; what comes in is always a record of application data.
    #[derive(Debug, Default)]
    struct Counter(AtomicUsize);

    impl AsyncUdpSocket for Counter {
        fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(([127, 0, 0, 1], 9).into())
        }

        fn poll_send(&self, _: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Poll::Ready(Ok(transmit.contents.len()))
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            bufs: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            bufs[0][0] = DATA;
            Poll::Ready(Ok(1))
        }
    }

    const HELLO: [u8; 4] = [22, 254, 253, 0];

    async fn send(socket: &FlightSocket, datagram: &[u8]) {
        socket.send_to(datagram, ([127, 0, 0, 1], 10).into()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_without_an_answer_leaves_again_before_a_second_has_passed() {
        let counter = Arc::new(Counter::default());
        let socket = FlightSocket::new(Arc::clone(&counter) as Arc<dyn AsyncUdpSocket>);
        send(&socket, &HELLO).await;
        for (at, times) in [(100, 1), (100, 2), (250, 3), (600, 3)] {
            tokio::time::sleep(Duration::from_millis(at)).await;
            assert_eq!(counter.0.load(Ordering::Relaxed), times);
        }
        send(&socket, &HELLO).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(counter.0.load(Ordering::Relaxed), 5, "the library's own repetition is one more flight");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_flight_and_what_is_no_handshake_leave_once_when_the_handshake_is_over() {
        let counter = Arc::new(Counter::default());
        let socket = FlightSocket::new(Arc::clone(&counter) as Arc<dyn AsyncUdpSocket>);
        send(&socket, &HELLO).await;
        let mut buffer = [0; 8];
        let received = socket.poll_recv(
            &mut Context::from_waker(Waker::noop()),
            &mut [IoSliceMut::new(&mut buffer)],
            &mut [RecvMeta::default()],
        );
        assert!(received.is_ready());
        for other in [&[23, 254, 253][..], &[0x80, 96, 0], &[0, 1, 0], &[0x40, 0, 0, 4, 23], &[]] {
            send(&socket, other).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(counter.0.load(Ordering::Relaxed), 6);
    }
}
