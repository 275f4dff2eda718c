//! Better pairs after the first one. The library's ICE agent nominates once: with a pair selected,
//! it checks no other, on either side. So the sockets below it go on checking: a direct pair that
//! answers is nominated (RFC 8445 §8.1.1) and takes the media over from a relayed one.
//!
//! ```text
//! agent ── media ──────────► PairSocket ── is a better pair in use? ──► its socket and address
//!       ── checks, answers ►            ── otherwise ────────────────► as the agent wants it
//!       ◄── everything that comes, but for the answers to checks made here
//! ```
//!
//! The agent keeps its own pair alive, so media falls back to it at once when the better one is
//! lost. Nothing renegotiates, and nobody is checked whom the agent would not check: addresses come
//! from candidates that were taken, from the agent's own checks, and from requests that the agent
//! accepted. It never decides which candidates exist. [`select`] is the state machine; this is its
//! shell.

mod select;
mod socket;
mod stun;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Instant;

use tokio::sync::Notify;
use webrtc::runtime::AsyncUdpSocket;

use crate::stats::CandidateKind;
use crate::tunnel::inbox::Inbox;
use select::{Pair, Route, Selection};
pub(crate) use socket::PairSocket;

/// The pairs of one connection.
pub(crate) struct Pairs {
    state: Mutex<State>,
    /// Told when a deadline may have come nearer, and at the end.
    changed: Arc<Notify>,
    runtime: tokio::runtime::Handle,
    /// Off where nothing but relayed candidates may be used.
    enabled: bool,
}

struct State {
    selection: Selection,
    sockets: BTreeMap<u64, Known>,
    next_socket: u64,
    is_driven: bool,
}

struct Known {
    socket: Weak<dyn AsyncUdpSocket>,
    inbox: Arc<Inbox>,
}

impl Pairs {
    /// Call it inside a Tokio runtime.
    pub(crate) fn new(enabled: bool) -> Arc<Self> {
        // Ids need not be secret: answers are signed.
        let seed = getrandom::u64().unwrap_or_default();
        Arc::new(Self {
            state: Mutex::new(State {
                selection: Selection::new(seed),
                sockets: BTreeMap::new(),
                next_socket: 0,
                is_driven: false,
            }),
            changed: Arc::default(),
            runtime: tokio::runtime::Handle::current(),
            enabled,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other side's description was taken.
    pub(crate) fn described(&self, ufrag: &str, password: &str) {
        if self.enabled {
            self.state().selection.described(ufrag, password);
        }
    }

    /// A candidate of the other side was taken. Names are left to the agent, which resolves them.
    pub(crate) fn offered(&self, candidate: &str) {
        if let Some(candidate) = stun::candidate(candidate).filter(|_| self.enabled) {
            self.state().selection.offered(candidate, now());
            self.changed.notify_one();
        }
    }

    /// The kinds of both candidates, when the pair in use is another than the agent's.
    pub(crate) fn in_use(&self) -> Option<(CandidateKind, CandidateKind)> {
        let remote = self.state().selection.kind_in_use()?;
        let local = match remote {
            CandidateKind::Host => CandidateKind::Host,
            _ => CandidateKind::ServerReflexive,
        };
        Some((local, remote))
    }

    /// What comes by way of another pair is put into `inbox`.
    fn add_socket(self: &Arc<Self>, socket: &Arc<dyn AsyncUdpSocket>, inbox: &Arc<Inbox>) -> u64 {
        let mut state = self.state();
        state.next_socket += 1;
        let number = state.next_socket;
        state.sockets.insert(number, Known { socket: Arc::downgrade(socket), inbox: Arc::clone(inbox) });
        if let Some(address) = socket.local_addr().ok().filter(|address| self.enabled && is_usable(*address))
        {
            state.selection.add_socket(number, address);
        }
        if self.enabled && !std::mem::replace(&mut state.is_driven, true) {
            self.runtime.spawn(drive(Arc::downgrade(self), Arc::clone(&self.changed)));
        }
        number
    }

    fn remove_socket(&self, number: u64) {
        let mut state = self.state();
        state.sockets.remove(&number);
        state.selection.remove_socket(number);
    }

    fn socket(&self, pair: Pair) -> Option<Arc<dyn AsyncUdpSocket>> {
        self.state().sockets.get(&pair.socket)?.socket.upgrade()
    }

    fn sent(&self, socket: u64, to: SocketAddr, datagram: &[u8]) -> Route {
        if !self.enabled {
            return Route::AsItIs;
        }
        let mut state = self.state();
        let route = state.selection.sent(Pair { socket, remote: to }, datagram, now());
        if state.selection.take_rescheduled() {
            self.changed.notify_one();
        }
        route
    }

    /// Whether it was an answer to a check made here.
    fn received(&self, socket: u64, from: SocketAddr, datagram: &[u8]) -> bool {
        // Media is the common case, and of no interest.
        if !self.enabled || !(stun::is_binding(datagram) || stun::is_wrapped(datagram)) {
            return false;
        }
        let mut state = self.state();
        let ours = state.selection.received(Pair { socket, remote: from }, datagram, now());
        while let Some((pair, answer)) = state.selection.poll_delivery() {
            if let Some(inbox) = state.sockets.get(&pair.socket).map(|socket| &socket.inbox) {
                inbox.push(pair.remote, answer);
            }
        }
        if state.selection.take_rescheduled() {
            self.changed.notify_one();
        }
        ours
    }

    fn failed(&self, pair: Pair) {
        self.state().selection.failed(pair, now());
        self.changed.notify_one();
    }

    /// Sends what is due; returns when to come back.
    fn turn(&self) -> Option<Instant> {
        let mut due = Vec::new();
        let next = {
            let mut state = self.state();
            state.selection.handle_timeout(now());
            while let Some((pair, check)) = state.selection.poll_output() {
                let socket = state.sockets.get(&pair.socket).and_then(|known| known.socket.upgrade());
                due.extend(socket.map(|socket| (socket, pair, check)));
            }
            state.selection.poll_timeout()
        };
        for (socket, pair, check) in due {
            // What cannot leave at once is as good as lost, and checks are repeated.
            let _ = pin!(socket.send_to(&check, pair.remote)).poll(&mut Context::from_waker(Waker::noop()));
        }
        next
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairs").finish_non_exhaustive()
    }
}

/// The clock that deadlines are waited for by.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Ends with the connection.
async fn drive(pairs: Weak<Pairs>, changed: Arc<Notify>) {
    while let Some(next) = pairs.upgrade().map(|pairs| pairs.turn()) {
        let wait = async {
            match next {
                Some(next) => tokio::time::sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            () = changed.notified() => {}
        }
    }
}

/// The library's socket for mDNS names is none for checks.
fn is_usable(address: SocketAddr) -> bool {
    const MDNS: u16 = 5353;
    let unspecific = match address.ip() {
        IpAddr::V4(ip) => ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast(),
    };
    !unspecific && address.port() != MDNS && address.port() != 0
}
