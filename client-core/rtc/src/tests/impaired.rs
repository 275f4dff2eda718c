//! A network that loses and delays what is sent, under the library's own sockets.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

#[derive(Debug)]
struct Conditions {
    loss: f64,
    delay: Duration,
    random: u64,
}

impl Conditions {
    /// SplitMix64, in [0, 1).
    fn roll(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[derive(Debug, Clone)]
pub(super) struct Impaired(Arc<Mutex<Conditions>>);

impl Impaired {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Conditions { loss: 0.0, delay: Duration::ZERO, random: seed })))
    }

    /// From here on this share is lost, and the rest is under way for this long, each way.
    pub(super) fn impair(&self, loss: f64, delay: Duration) {
        let mut conditions = self.0.lock().unwrap();
        (conditions.loss, conditions.delay) = (loss, delay);
    }
}

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for Impaired {
    fn spawn(&self, future: Later<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let inner = TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Arc::new(ImpairedSocket { inner, conditions: Arc::clone(&self.0) }))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, address: SocketAddr) -> Later<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(address)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Later<'a, io::Result<Vec<SocketAddr>>> {
        TokioRuntime.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Later<'static, ()> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }
}

#[derive(Debug)]
struct ImpairedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    conditions: Arc<Mutex<Conditions>>,
}

impl AsyncUdpSocket for ImpairedSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let (lost, delay) = {
            let mut conditions = self.conditions.lock().unwrap();
            (conditions.roll() < conditions.loss, conditions.delay)
        };
        if lost {
            return Poll::Ready(Ok(transmit.contents.len()));
        }
        if delay.is_zero() {
            return self.inner.poll_send(cx, transmit);
        }
        let (inner, contents, to) =
            (Arc::clone(&self.inner), transmit.contents.to_vec(), transmit.destination);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = inner.send_to(&contents, to).await;
        });
        Poll::Ready(Ok(transmit.contents.len()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [io::IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn max_gro_segments(&self) -> usize {
        self.inner.max_gro_segments()
    }
}
