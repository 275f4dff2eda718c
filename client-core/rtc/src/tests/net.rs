//! A network in virtual time: sockets that are queues, and lines between them that lose, delay and
//! hold back. A test on it takes no longer for a busy machine, and its figures do not depend on one:
//! the clock stands still while anything has work to do.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};

use super::conditions::{Conditions, Direction};

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What waits to be read.
#[derive(Default)]
struct Inbox {
    waiting: VecDeque<(SocketAddr, Vec<u8>)>,
    reader: Option<Waker>,
}

/// The sockets by address. Clones are the same network.
#[derive(Clone, Default)]
pub struct Net(Arc<Mutex<BTreeMap<SocketAddr, Arc<Mutex<Inbox>>>>>);

impl Net {
    fn deliver(&self, from: SocketAddr, to: SocketAddr, packet: Vec<u8>) {
        let inbox = self.0.lock().expect("nothing panics with it").get(&to).cloned();
        let Some(inbox) = inbox else { return };
        let mut inbox = inbox.lock().expect("nothing panics with it");
        inbox.waiting.push_back((from, packet));
        if let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
    }
}

/// A packet on its way: when it arrives, from where, where to.
type Passing = (Instant, SocketAddr, SocketAddr, Vec<u8>);

/// What one side sends takes this line. Clones are the same line.
#[derive(Clone)]
pub struct NetLine {
    direction: Arc<Mutex<Direction>>,
    passing: mpsc::UnboundedSender<Passing>,
}

impl NetLine {
    /// Call it inside a Tokio runtime whose clock is paused.
    pub fn new(net: &Net, seed: u64) -> Self {
        let (passing, mut packets) = mpsc::unbounded_channel::<Passing>();
        let net = net.clone();
        tokio::spawn(async move {
            while let Some((arrival, from, to, packet)) = packets.recv().await {
                tokio::time::sleep_until(arrival.into()).await;
                net.deliver(from, to, packet);
            }
        });
        Self { direction: Arc::new(Mutex::new(Direction::new(seed, now()))), passing }
    }

    /// From here on.
    pub fn set(&self, conditions: Conditions) {
        self.direction.lock().expect("nothing panics with it").conditions = conditions;
    }

    fn carry(&self, from: SocketAddr, to: SocketAddr, packet: &[u8]) {
        let arrival = self.direction.lock().expect("nothing panics with it").carry(packet.len(), now());
        if let Some(arrival) = arrival {
            let _ = self.passing.send((arrival, from, to, packet.to_vec()));
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The runtime of one side.
#[derive(Clone)]
pub struct NetRuntime {
    pub net: Net,
    pub line: NetLine,
}

impl Runtime for NetRuntime {
    fn spawn(&self, future: Later<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn spawn_reactor(&self, _: usize, future: Later<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let inbox = Arc::<Mutex<Inbox>>::default();
        let address = socket.local_addr()?;
        self.net.0.lock().expect("nothing panics with it").insert(address, Arc::clone(&inbox));
        // It keeps the port.
        Ok(Arc::new(NetSocket { address, inbox, runtime: self.clone(), _reserved: socket }))
    }

    fn wrap_tcp_listener(&self, listener: TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, _: SocketAddr) -> Later<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn resolve_host<'a>(&'a self, _: &'a str) -> Later<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn now(&self) -> Instant {
        now()
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

    fn name(&self) -> &'static str {
        "virtual"
    }
}

impl fmt::Debug for NetRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetRuntime")
    }
}

struct NetSocket {
    address: SocketAddr,
    inbox: Arc<Mutex<Inbox>>,
    runtime: NetRuntime,
    _reserved: UdpSocket,
}

impl AsyncUdpSocket for NetSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn poll_send(&self, _: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        self.runtime.line.carry(self.address, transmit.destination, transmit.contents);
        Poll::Ready(Ok(transmit.contents.len()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().expect("nothing panics with it");
        let Some((from, packet)) = inbox.waiting.pop_front() else {
            inbox.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        bufs[0][..packet.len()].copy_from_slice(&packet);
        meta[0] = RecvMeta::default();
        (meta[0].addr, meta[0].len, meta[0].stride) = (from, packet.len(), packet.len().max(1));
        Poll::Ready(Ok(1))
    }
}

impl Drop for NetSocket {
    fn drop(&mut self) {
        if let Ok(mut sockets) = self.runtime.net.0.lock() {
            sockets.remove(&self.address);
        }
    }
}

impl fmt::Debug for NetSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetSocket").field("address", &self.address).finish_non_exhaustive()
    }
}
