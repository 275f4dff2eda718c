//! The library's socket and runtime with the tunnels between: what goes to a stand-in takes the stream, everything else the socket below.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, Transmit,
};

use super::Tunnels;
use super::frame;
use super::inbox::Inbox;
use super::servers::{StandIn, stand_in_number};
use super::stream::Tunnel;
use crate::early::{Opened, PausingSocket};
use crate::flights::FlightSocket;
use crate::pairs::{PairSocket, Pairs};
use crate::stats::RelayProtocol;

/// The library asks for names on the task that carries the packets: one without an answer must not hold them up for long.
const NAME_TIMEOUT: Duration = Duration::from_secs(2);

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The runtime of one connection.
#[derive(Debug)]
pub(crate) struct TunnelRuntime {
    /// Where sockets and time come from.
    pub(crate) below: Arc<dyn Runtime>,
    pub(crate) tunnels: Arc<Tunnels>,
    pub(crate) pairs: Arc<Pairs>,
    pub(crate) channel: Arc<Opened>,
}

impl Runtime for TunnelRuntime {
    fn spawn(&self, future: Later<'static, ()>) -> Box<dyn JoinHandle> {
        self.below.spawn(future)
    }

    fn spawn_reactor(&self, pool: usize, future: Later<'static, ()>) -> Box<dyn JoinHandle> {
        self.below.spawn_reactor(pool, future)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let below = self.below.wrap_udp_socket(socket)?;
        let tunnel = Arc::new(TunnelSocket::new(below, Arc::clone(&self.tunnels)));
        let paired = PairSocket::new(tunnel, Arc::clone(&self.pairs), Arc::clone(&self.tunnels));
        let socket = Arc::new(FlightSocket::new(Arc::new(paired)));
        Ok(Arc::new(PausingSocket::new(socket, Arc::clone(&self.channel))))
    }

    fn wrap_tcp_listener(&self, listener: TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.below.wrap_tcp_listener(listener)
    }

    /// The library dials what the other side names: that would show it this machine's address, and make this machine
    /// knock at any door in reach. Streams to TURN servers dial for themselves.
    fn connect_tcp<'a>(&'a self, _: SocketAddr) -> Later<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Later<'a, io::Result<Vec<SocketAddr>>> {
        if let Some(number) = stand_in_number(host) {
            return Box::pin(async move { Ok(self.tunnels.stand_in(number)) });
        }
        // The library writes IPv6 addresses without brackets.
        if let Some((ip, port)) = host.rsplit_once(':')
            && let (Ok(ip), Ok(port)) = (ip.parse::<IpAddr>(), port.parse())
        {
            return Box::pin(async move { Ok(vec![SocketAddr::new(ip, port)]) });
        }
        Box::pin(async move {
            let found = tokio::time::timeout(NAME_TIMEOUT, self.below.resolve_host(host)).await;
            found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        })
    }

    fn now(&self) -> Instant {
        self.below.now()
    }

    fn sleep(&self, duration: Duration) -> Later<'static, ()> {
        let Some((cut, woke)) = self.tunnels.cut_short(duration) else { return self.below.sleep(duration) };
        let sleep = (!cut.is_zero()).then(|| self.below.sleep(cut));
        Box::pin(async move {
            if let Some(sleep) = sleep {
                sleep.await;
            }
            woke.store(true, Ordering::Relaxed);
        })
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.below.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.below.block_on(future);
    }

    fn yield_now(&self) -> Later<'static, ()> {
        self.below.yield_now()
    }

    fn name(&self) -> &'static str {
        self.below.name()
    }
}

struct TunnelSocket {
    below: Arc<dyn AsyncUdpSocket>,
    tunnels: Arc<Tunnels>,
    /// Tells the sockets of a connection apart.
    number: u64,
    inbox: Arc<Inbox>,
    open: Mutex<BTreeMap<SocketAddr, Arc<Tunnel>>>,
    /// Streams and socket take turns, so that neither starves the other.
    streams_next: AtomicBool,
}

impl TunnelSocket {
    fn new(below: Arc<dyn AsyncUdpSocket>, tunnels: Arc<Tunnels>) -> Self {
        let address = below.local_addr().ok();
        Self {
            number: tunnels.add_socket(address),
            below,
            tunnels,
            inbox: Arc::default(),
            open: Mutex::default(),
            streams_next: AtomicBool::new(false),
        }
    }

    /// Takes a message to the server behind a stand-in.
    fn send(&self, datagram: &[u8], stand_in: SocketAddr) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let tunnel = match open.get(&stand_in) {
            Some(tunnel) => tunnel,
            None => {
                let server = self.tunnels.claim(stand_in, self.number)?;
                let tunnel = Arc::new(Tunnel::new(server, stand_in));
                let running = Arc::clone(&tunnel).run(Arc::clone(&self.inbox), Arc::clone(&self.tunnels));
                self.tunnels.spawn(running);
                open.entry(stand_in).or_insert(tunnel)
            }
        };
        if let Some(frame) = frame::outgoing(datagram) {
            self.tunnels.asks(datagram, || tunnel.server.to_string());
            tunnel.send(frame);
        }
        Ok(())
    }

    fn pop(
        &self,
        cx: Option<&Context<'_>>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Option<Poll<io::Result<usize>>> {
        let (buffer, meta) = (bufs.first_mut()?, meta.first_mut()?);
        self.inbox.pop(buffer, meta, cx.map(Context::waker)).then_some(Poll::Ready(Ok(1)))
    }
}

impl AsyncUdpSocket for TunnelSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.below.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let to = transmit.destination;
        let kind = frame::kind(transmit.contents);
        if kind.is_some() {
            self.tunnels.sends();
        }
        if StandIn::could_be(to) && self.tunnels.is_stand_in(to) {
            return Poll::Ready(self.send(transmit.contents, to).map(|()| transmit.contents.len()));
        }
        if kind == Some(frame::Kind::Allocate) {
            self.tunnels.asks(transmit.contents, || format!("turn:{to}?transport=udp"));
        }
        self.below.poll_send(cx, transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.tunnels.polled();
        if self.streams_next.fetch_xor(true, Ordering::Relaxed)
            && let Some(ready) = self.pop(None, bufs, meta)
        {
            return ready;
        }
        let below = self.below.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = below {
            for (meta, buffer) in meta.iter().zip(bufs.iter()).take(count) {
                for datagram in buffer.get(..meta.len).unwrap_or_default().chunks(meta.stride.max(1)) {
                    self.tunnels.heard(datagram, RelayProtocol::Udp);
                }
            }
        }
        match below {
            Poll::Pending => self.pop(Some(cx), bufs, meta).unwrap_or(Poll::Pending),
            ready => ready,
        }
    }

    fn max_gso_segments(&self) -> usize {
        self.below.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.below.max_gro_segments()
    }
}

impl Drop for TunnelSocket {
    fn drop(&mut self) {
        for tunnel in self.open.get_mut().unwrap_or_else(PoisonError::into_inner).values() {
            tunnel.close();
        }
        self.tunnels.remove_socket(self.number);
    }
}

impl fmt::Debug for TunnelSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelSocket").field("number", &self.number).finish_non_exhaustive()
    }
}
