//! The shell of the STUN and TURN server: its sockets, its thread and its streams. The rules are in `snug-turn-proto`.
//! It never decides who may do what, never lets media wait for signaling or the other way round, and never fails because of a packet.
//!
//! ```text
//! relay's thread (tokio)                                    thread "turn" (mio)
//! hub ── admit, revoke, drain, stats ── mailbox ──────────► TurnServer ◄── UDP listeners, relay sockets
//! TCP, TLS ── read ── whole frames ── one bounded channel ─►     │
//!          ◄─ write ── outbox per stream ◄───────────────────────┘
//! ```
//!
//! UDP never leaves the thread "turn": a packet costs no lock, no allocation and no other thread. Streams pay for a copy and a channel.

mod coalesce;
mod door;
mod mailbox;
mod outbox;
mod sockets;
mod stream;
mod thread;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use snug_turn_proto::{Transport, TurnConfig, TurnStats};
use snug_udp::{UdpOptions, UdpSocket};
use snug_wire::{RoomId, UserId};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use self::door::StreamDoor;
use self::mailbox::{Control, Mailbox};
use self::thread::TurnThread;
use crate::bind::{self, listen_on};
use crate::ice::Accounts;
use crate::machine::Interfaces;

/// Chunks of frames from all streams that may wait for the thread, 8 MiB. Streams are not read while it is full. A chunk is what one read
/// brought, at most the longest message: 64 KiB and a header.
const WAITING_CHUNKS: usize = 128;
/// Attempts to find a port that is free for UDP and TCP alike, when the system chooses it.
const PORT_ATTEMPTS: usize = 16;

/// How the server is set up. Addresses are bound as they stand; `proto.policy.listeners` is added to by [`start`].
pub(crate) struct TurnSettings {
    /// UDP and TCP. With port 0 the system chooses one for UDP, and TCP takes the same.
    pub(crate) listen: Vec<SocketAddr>,
    /// TLS over TCP.
    pub(crate) tls_listen: Vec<SocketAddr>,
    /// The rules.
    pub(crate) proto: TurnConfig,
    /// One system call per datagram, as on systems without runs.
    pub(crate) per_packet: bool,
    /// Bytes of kernel memory at least, each way, for every listener. All clients share it; [`DEFAULT_BUFFER`](Self::DEFAULT_BUFFER).
    pub(crate) listener_buffer: Option<usize>,
    /// The same for every relay socket, which one participant has to themselves.
    pub(crate) relay_buffer: Option<usize>,
    /// How long a busy server lets packets gather before it looks again: longer is cheaper, and the delay that is added at most.
    /// [`DEFAULT_LINGER`](Self::DEFAULT_LINGER); zero to never wait.
    pub(crate) linger: Duration,
    /// TCP and TLS connections at once. Each IPv4 /24 or IPv6 /56 may have [a part of them](Self::streams_per_block).
    pub(crate) max_streams: usize,
    /// Relay sockets at once; past that, a permission for a peer elsewhere is answered with 508.
    pub(crate) max_relay_sockets: usize,
}

impl TurnSettings {
    /// A third of a second of 100 Mbit/s, for a thread that is kept from running.
    pub(crate) const DEFAULT_BUFFER: usize = 4 * 1024 * 1024;
    /// A quarter of a millisecond: a fraction of what any network adds.
    pub(crate) const DEFAULT_LINGER: Duration = Duration::from_micros(250);
    /// A hundred rooms of ten who have nothing but TCP, four connections each.
    pub(crate) const DEFAULT_MAX_STREAMS: usize = 4096;
    /// Every port of the default range.
    pub(crate) const DEFAULT_MAX_RELAY_SOCKETS: usize = 10_001;

    /// These rules on these addresses, everything else by default.
    pub(crate) fn new(listen: Vec<SocketAddr>, tls_listen: Vec<SocketAddr>, proto: TurnConfig) -> Self {
        Self {
            listen,
            tls_listen,
            proto,
            per_packet: false,
            listener_buffer: Some(Self::DEFAULT_BUFFER),
            relay_buffer: None,
            linger: Self::DEFAULT_LINGER,
            max_streams: Self::DEFAULT_MAX_STREAMS,
            max_relay_sockets: Self::DEFAULT_MAX_RELAY_SOCKETS,
        }
    }

    /// TCP and TLS connections of one IPv4 /24 or IPv6 /56: enough for an office behind one address, and never all of them for one.
    fn streams_per_block(&self) -> usize {
        (self.max_streams / 8).max(16)
    }
}

/// A server that runs. Dropping it ends it.
pub(crate) struct Turn {
    /// Where UDP and TCP are served, in the order of the settings and with the ports that the system chose.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The same for TLS.
    pub(crate) tls_addresses: Vec<SocketAddr>,
    handle: TurnHandle,
    accepting: Vec<AbortHandle>,
    thread: Option<std::thread::JoinHandle<()>>,
    ended: oneshot::Receiver<()>,
}

/// What the rest of the relay says to the server. Nothing of it waits.
#[derive(Clone)]
pub(crate) struct TurnHandle {
    mailbox: Arc<Mailbox>,
    /// `None` where no secret makes credentials, so that nobody can have one.
    accounts: Option<Accounts>,
    counters: Arc<Counters>,
}

/// What the shell counts beside the rules.
#[derive(Default)]
struct Counters {
    /// Datagrams that the system did not take.
    lost: AtomicU64,
    /// Media that was too old, or too much, for a stream that is read too slowly.
    stale: AtomicU64,
    /// Streams that were turned away at the caps.
    refused_streams: AtomicU64,
}

/// The server's figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct TurnFigures {
    /// Of the rules.
    pub(crate) server: TurnStats,
    /// Datagrams that the system did not take.
    pub(crate) lost: u64,
    /// Media dropped because a TCP or TLS client reads too slowly.
    pub(crate) stale: u64,
    /// TCP and TLS connections that are known to the server: they have sent a whole message.
    pub(crate) streams: usize,
    /// TCP and TLS connections that were turned away at the caps.
    pub(crate) refused_streams: u64,
}

/// Starts the server. Must be called inside the runtime, which its streams run on. `tls` is needed for `settings.tls_listen`.
///
/// # Errors
/// When an address cannot be bound or the thread cannot be started; the text says which, and what to do.
pub(crate) fn start(
    mut settings: TurnSettings,
    seed: [u8; 32],
    tls: Option<TlsAcceptor>,
) -> anyhow::Result<Turn> {
    let options = UdpOptions {
        receive_buffer: settings.listener_buffer,
        send_buffer: settings.listener_buffer,
        per_packet: settings.per_packet,
        learn_destination: true,
    };
    let (mut datagrams, mut streams, mut tls_streams) = (Vec::new(), Vec::new(), Vec::new());
    for address in &settings.listen {
        let (udp, tcp) = bind_both(*address, &options)
            .map_err(|error| cannot_listen(error, "STUN and TURN", *address, "--turn-listen"))?;
        datagrams.push(udp);
        streams.push(tcp);
    }
    for address in &settings.tls_listen {
        tls_streams.push(
            listen_on(*address, true)
                .map_err(|error| cannot_listen(error, "TURN over TLS", *address, "--turn-tls-listen"))?,
        );
    }
    anyhow::ensure!(
        tls_streams.is_empty() || tls.is_some(),
        "TURN over TLS needs a certificate; give one, or no address for it"
    );
    let local = |listeners: &[TcpListener]| {
        listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()
    };
    let (addresses, tls_addresses) = (local(&streams)?, local(&tls_streams)?);
    settings.proto.relay_sockets = u32::try_from(settings.max_relay_sockets).unwrap_or(u32::MAX);
    settings.proto.policy.listeners.extend(addresses.iter().chain(&tls_addresses).map(SocketAddr::port));

    let (chunks, chunks_in) = mpsc::channel(WAITING_CHUNKS);
    let counters = Arc::new(Counters::default());
    let accounts = settings.proto.secrets.first().map(Accounts::new);
    let (max_streams, per_block) = (settings.max_streams, settings.streams_per_block());
    let (thread, mailbox) = TurnThread::new(settings, seed, datagrams, chunks_in, counters.clone())
        .context("cannot set up the thread of the TURN server; are descriptors used up?")?;
    let (ended_in, ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("turn".into())
        .spawn(move || {
            // Dropped when the thread ends, however it does.
            let _ended = ended_in;
            thread.run();
        })
        .context("cannot start the thread of the TURN server")?;

    let door = StreamDoor::new(max_streams, per_block, chunks, mailbox.clone(), counters.clone());
    let plain = streams
        .into_iter()
        .map(|listener| tokio::spawn(door::accept(listener, None, Transport::Tcp, door.clone())));
    let tls = tls_streams
        .into_iter()
        .map(|listener| tokio::spawn(door::accept(listener, tls.clone(), Transport::Tls, door.clone())));
    let accepting = plain.chain(tls).map(|task| task.abort_handle()).collect();
    let handle = TurnHandle { mailbox, accounts, counters };
    Ok(Turn { addresses, tls_addresses, handle, accepting, thread: Some(thread), ended })
}

fn cannot_listen(error: io::Error, what: &str, address: SocketAddr, option: &str) -> anyhow::Error {
    let advice = bind::advice(&error, option);
    anyhow::Error::new(error)
        .context(format!("cannot listen on {address} for {what} (or turn it off): {advice}"))
}

impl Turn {
    /// To speak to it.
    pub(crate) fn handle(&self) -> TurnHandle {
        self.handle.clone()
    }

    /// Waits until the thread has ended, which it does on its own only when it fails.
    pub(crate) async fn ended(&mut self) {
        // The sender is dropped, never used.
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Turn {
    /// Ends it: no connection is taken any more, all sockets are closed when this returns, all streams are told to end.
    fn drop(&mut self) {
        self.accepting.iter().for_each(AbortHandle::abort);
        self.handle.mailbox.post(Control::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

impl TurnHandle {
    /// From here on the participant's credentials are accepted.
    pub(crate) fn admit(&self, room: &RoomId, user: UserId) {
        if let Some(accounts) = &self.accounts {
            self.mailbox.post(Control::Admit(accounts.of(room, user)));
        }
    }

    /// The participant's allocations and streams close at once.
    pub(crate) fn revoke(&self, room: &RoomId, user: UserId) {
        if let Some(accounts) = &self.accounts {
            self.mailbox.post(Control::Revoke(accounts.of(room, user)));
        }
    }

    /// These addresses and links are this machine's from here on, in place of the ones before.
    pub(crate) fn own_addresses(&self, interfaces: Interfaces) {
        self.mailbox.post(Control::OwnAddresses(interfaces));
    }

    /// No new allocation is made; those that are there go on.
    pub(crate) fn drain(&self) {
        self.mailbox.post(Control::Drain);
    }

    /// The figures of this moment; `None` when the server has ended.
    pub(crate) async fn stats(&self) -> Option<TurnFigures> {
        let (answer, answered) = oneshot::channel();
        self.mailbox.post(Control::Stats(answer));
        let (server, streams) = answered.await.ok()?;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some(TurnFigures {
            server,
            lost: read(&self.counters.lost),
            stale: read(&self.counters.stale),
            streams,
            refused_streams: read(&self.counters.refused_streams),
        })
    }
}

fn bind_both(address: SocketAddr, options: &UdpOptions) -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        let udp = UdpSocket::bind(address, options)?;
        attempts -= 1;
        match listen_on(SocketAddr::new(address.ip(), udp.local_addr().port()), true) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if attempts == 0 => return Err(error),
            Err(_) => {}
        }
    }
}
