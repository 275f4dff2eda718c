//! TURN over TCP and TLS below a library that speaks it over UDP alone. The library is given a stand-in for each such server: an address of
//! its own choosing that nothing has. What it sends there is carried in a stream to the server, and what the server says comes back as if
//! from that address.
//!
//! ```text
//! library ── datagram to a stand-in ──► socket ── queue ──► stream ── TCP or TLS ──► TURN server
//!         ◄── datagram "from" it ────── inbox ◄─────────── stream ◄────────────────
//!         ◄── any other datagram ─────► the UDP socket below
//! ```
//!
//! It never delays or blocks the library's task: every queue is bounded and drops its oldest. It never decides which path is taken; it only sees to it
//! that the library hears of UDP before TCP before TLS when they come at about the same time, since the library takes the first of equals.

mod dial;
pub(crate) mod frame;
mod hurry;
pub(crate) mod inbox;
mod publish;
mod queue;
mod servers;
mod socket;
mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use snug_wire::IceServer;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::error::{RelayProblem, RtcError};
use crate::factory::FactoryConfig;
use crate::stats::RelayProtocol;
use dial::Dialer;
use frame::{Kind, TransactionId};
use hurry::Hurry;
use servers::{Server, StandIn};
pub(crate) use socket::TunnelRuntime;

/// Servers behind streams that are used; a relay names two or three.
const MOST_SERVERS: usize = 8;
/// Requests for an allocation whose answers are looked at.
const MOST_ASKED: usize = 64;
/// Relayed addresses whose protocol is remembered.
const MOST_RELAYED: usize = 64;
/// Head start of a better protocol over each worse one, counted from the worse one's answer.
const HEAD_START: Duration = Duration::from_millis(50);

struct Known {
    server: Server,
    stand_in: StandIn,
}

struct Asked {
    id: TransactionId,
    server: String,
    signed: bool,
}

#[derive(Default)]
struct State {
    /// By number; those that are replaced leave a gap.
    known: BTreeMap<usize, Known>,
    next_number: usize,
    /// Protocols of the servers in use.
    in_use: BTreeSet<RelayProtocol>,
    /// The sockets of the connection and their addresses.
    sockets: BTreeMap<u64, Option<SocketAddr>>,
    next_socket: u64,
    /// Which socket speaks to which stand-in: one stream a server is enough, and which interface it leaves by is the system's choice.
    claims: BTreeMap<SocketAddr, u64>,
    asked: VecDeque<Asked>,
    /// By relayed address.
    relayed: VecDeque<(SocketAddr, RelayProtocol)>,
}

/// The tunnels of one connection.
pub(crate) struct Tunnels {
    dialer: Dialer,
    only: Option<RelayProtocol>,
    relay_only: bool,
    runtime: Handle,
    tell: Box<dyn Fn(RelayProblem) + Send + Sync>,
    state: Mutex<State>,
    /// The best protocol that has led to an allocation.
    best: watch::Sender<Option<RelayProtocol>>,
    /// Packets sent to TURN servers, whatever leads to them.
    sent: AtomicU64,
    turns: Mutex<Turns>,
}

/// The turns of the library's task.
#[derive(Default)]
struct Turns {
    /// The task that reads the sockets.
    task: Option<tokio::task::Id>,
    hurry: Hurry,
    /// Set by a sleep that was cut short, when it is what wakes the task.
    woke: Arc<AtomicBool>,
}

impl Tunnels {
    /// Problems with servers are told by `tell`. Call it inside a Tokio runtime.
    pub(crate) fn new(config: &FactoryConfig, tell: impl Fn(RelayProblem) + Send + Sync + 'static) -> Self {
        Self {
            dialer: Dialer { tls: config.tls.clone(), bind: config.bind.clone() },
            only: config.relay_transport,
            relay_only: config.relay_only,
            runtime: Handle::current(),
            tell: Box::new(tell),
            state: Mutex::default(),
            best: watch::Sender::new(None),
            sent: AtomicU64::new(0),
            turns: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The servers as the library is to see them. What no client of TURN could use is left out. A server that is named again keeps its stand-in:
    /// to the library, only its credential has changed.
    pub(crate) fn stand_ins(&self, servers: &[IceServer]) -> Result<Vec<IceServer>, RtcError> {
        let mut state = self.state();
        let before = std::mem::take(&mut state.known);
        state.in_use.clear();
        let mut seen = Vec::with_capacity(servers.len());
        for server in servers {
            let mut urls = Vec::with_capacity(server.urls.len());
            for url in &server.urls {
                urls.extend(self.stand_in_url(url, &mut state, &before)?);
            }
            if !urls.is_empty() {
                seen.push(IceServer { urls, ..server.clone() });
            }
        }
        Ok(seen)
    }

    fn stand_in_url(
        &self,
        url: &str,
        state: &mut State,
        before: &BTreeMap<usize, Known>,
    ) -> Result<Option<String>, RtcError> {
        if !url.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("turn")) {
            return Ok(Some(url.to_owned()));
        }
        let Some(server) = Server::parse(url) else {
            tracing::debug!(url, "not the URL of a TURN server that can be used");
            return Ok(None);
        };
        let untrusted = server.protocol == RelayProtocol::Tls && self.dialer.tls.is_none();
        if untrusted || self.only.is_some_and(|only| only != server.protocol) {
            return Ok(None);
        }
        state.in_use.insert(server.protocol);
        if server.protocol == RelayProtocol::Udp {
            return Ok(Some(url.to_owned()));
        }
        if let Some((&number, _)) = state.known.iter().find(|(_, known)| known.server == server) {
            return Ok(Some(servers::stand_in_url(number)));
        }
        if state.known.len() == MOST_SERVERS {
            tracing::debug!(url, "one TURN server too many");
            return Ok(None);
        }
        let (number, stand_in) = match before.iter().find(|(_, known)| known.server == server) {
            Some((&number, known)) => (number, known.stand_in),
            None => {
                state.next_number += 1;
                let stand_in = StandIn::random().map_err(|error| RtcError::Random(error.to_string()))?;
                (state.next_number, stand_in)
            }
        };
        state.known.insert(number, Known { server, stand_in });
        Ok(Some(servers::stand_in_url(number)))
    }

    // What the socket asks.

    /// The address of a stand-in, of the family in which the connection has the fewest sockets: each of that family would ask for an allocation.
    fn stand_in(&self, number: usize) -> Vec<SocketAddr> {
        let state = self.state();
        let sockets = |v4: bool| {
            let usable = |address: &&SocketAddr| address.is_ipv4() == v4 && address.port() != 5353;
            state.sockets.values().flatten().filter(usable).count()
        };
        let (v4, v6) = (sockets(true), sockets(false));
        let Some(known) = state.known.get(&number) else { return Vec::new() };
        vec![if v4 == 0 || (v6 > 0 && v6 < v4) { known.stand_in.v6 } else { known.stand_in.v4 }]
    }

    fn is_stand_in(&self, address: SocketAddr) -> bool {
        let state = self.state();
        state.claims.contains_key(&address) || state.server_at(address).is_some()
    }

    fn claim(&self, stand_in: SocketAddr, socket: u64) -> io::Result<Server> {
        let mut state = self.state();
        let other = |text| io::Error::new(io::ErrorKind::AddrNotAvailable, text);
        let server =
            state.server_at(stand_in).cloned().ok_or_else(|| other("the server is not used any more"))?;
        match *state.claims.entry(stand_in).or_insert(socket) {
            owner if owner == socket => Ok(server),
            _ => Err(other("another socket has the stream to this server")),
        }
    }

    fn add_socket(&self, address: Option<SocketAddr>) -> u64 {
        let mut state = self.state();
        state.next_socket += 1;
        let number = state.next_socket;
        state.sockets.insert(number, address);
        number
    }

    fn remove_socket(&self, number: u64) {
        let mut state = self.state();
        state.sockets.remove(&number);
        state.claims.retain(|_, owner| *owner != number);
        if state.sockets.is_empty() {
            // Other sockets ask anew, and none has got an allocation.
            self.best.send_replace(None);
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// A request for an allocation goes out.
    fn asks(&self, message: &[u8], server: impl FnOnce() -> String) {
        let (Some(Kind::Allocate), Some(id)) = (frame::kind(message), frame::transaction(message)) else {
            return;
        };
        let mut state = self.state();
        if state.asked.iter().any(|asked| asked.id == id) {
            return;
        }
        if state.asked.len() == MOST_ASKED {
            state.asked.pop_front();
        }
        state.asked.push_back(Asked { id, server: server(), signed: frame::is_signed(message) });
    }

    /// A server said something, as far as it looks.
    fn heard(&self, message: &[u8], protocol: RelayProtocol) {
        let kind = match frame::kind(message) {
            Some(kind @ (Kind::Allocated | Kind::Refused)) => kind,
            _ => return,
        };
        let mut state = self.state();
        let Some(index) = state.asked.iter().position(|asked| frame::transaction(message) == Some(asked.id))
        else {
            return;
        };
        let Some(Asked { server, signed, .. }) = state.asked.remove(index) else { return };
        drop(state);
        if kind == Kind::Allocated {
            self.best.send_if_modified(|best| {
                let better = best.is_none_or(|best| protocol < best);
                if better {
                    *best = Some(protocol);
                }
                better
            });
            return;
        }
        match frame::error_code(message) {
            // The first request is refused to tell how to sign the second; a stale nonce is replaced.
            Some(401) if !signed => {}
            Some(438) => {}
            Some(401 | 441) => (self.tell)(RelayProblem::Credential { server }),
            code => (self.tell)(RelayProblem::Refused { server, code: code.unwrap_or_default() }),
        }
    }

    /// A packet goes to a TURN server.
    pub(crate) fn sends(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// The task that polls a socket is the library's task of this connection.
    fn polled(&self) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.task.is_none() {
            turns.task = tokio::task::try_id();
        }
    }

    /// What to make of a sleep that the library asks for: how short it is to be, and what to set when it is over.
    fn cut_short(&self, asked: Duration) -> Option<(Duration, Arc<AtomicBool>)> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.task.is_none() || turns.task != tokio::task::try_id() {
            return None;
        }
        let woke = turns.woke.swap(false, Ordering::Relaxed);
        let now = tokio::time::Instant::now().into_std();
        let cut = turns.hurry.cut(asked, self.sent.load(Ordering::Relaxed), woke, now)?;
        Some((cut, Arc::clone(&turns.woke)))
    }

    // What a stream asks.

    /// Returns once a better protocol than this one has led to an allocation, or has had its head start.
    async fn let_better_go_first(&self, protocol: RelayProtocol) {
        let better = self.state().in_use.iter().filter(|&&other| other < protocol).count();
        let mut best = self.best.subscribe();
        let first = best.wait_for(|best| best.is_some_and(|best| best < protocol));
        if better > 0 {
            // It ends early only when there is nobody left to wait.
            let _ = tokio::time::timeout(HEAD_START * better as u32, first).await;
        }
    }

    fn certificate_problem(&self, server: &Server, cause: String) {
        (self.tell)(RelayProblem::Certificate { server: server.to_string(), cause });
    }

    // What is told of a relayed candidate.

    /// How the server of a candidate with this URL is reached.
    pub(crate) fn protocol(&self, url: &str) -> RelayProtocol {
        let known = servers::stand_in_number(url)
            .and_then(|number| self.state().known.get(&number).map(|known| known.server.protocol));
        known.unwrap_or(RelayProtocol::Udp)
    }

    pub(crate) fn remember_relayed(&self, address: SocketAddr, protocol: RelayProtocol) {
        let mut state = self.state();
        state.relayed.retain(|(other, _)| *other != address);
        if state.relayed.len() == MOST_RELAYED {
            state.relayed.pop_front();
        }
        state.relayed.push_back((address, protocol));
    }

    pub(crate) fn protocol_of(&self, relayed: SocketAddr) -> Option<RelayProtocol> {
        self.state().relayed.iter().find(|(address, _)| *address == relayed).map(|(_, protocol)| *protocol)
    }

    /// A `candidate:` line as the other side is to see it; `None` when it is not to see it.
    pub(crate) fn published(&self, candidate: &str) -> Option<String> {
        publish::candidate(candidate, self.relay_only, |address| self.protocol_of(address))
    }

    /// A description as the other side is to see it.
    pub(crate) fn published_description(&self, sdp: &str) -> String {
        publish::description(sdp, |candidate| self.published(candidate))
    }
}

impl State {
    fn server_at(&self, stand_in: SocketAddr) -> Option<&Server> {
        let at = |known: &&Known| [known.stand_in.v4, known.stand_in.v6].contains(&stand_in);
        self.known.values().find(at).map(|known| &known.server)
    }
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnels").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
