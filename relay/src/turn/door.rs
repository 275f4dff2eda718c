//! Accepting TCP and TLS connections: caps, the TLS handshake, and the time a client may take to say something.
//! It never reads a message; that is `stream.rs`.
//!
//! A connection is half open until it has sent one whole message. Of those, silent neighbours and then the network that has most make room
//! for others (`admission.rs` has the rules, which are those of the page's connections).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use snug_turn_proto::{FiveTuple, Transport};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::Counters;
use super::mailbox::Mailbox;
use super::outbox::Leg;
use super::stream::{self, Chunk};
use crate::admission::{Admission, AdmissionConfig, Admit, ConnectionId, MAX_HALF_OPEN, TrustedProxies};
use crate::tcp;

/// Time for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for want of descriptors: they come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all stream listeners share.
pub(super) struct StreamDoor {
    admission: Mutex<Admission>,
    /// Connections that can be given up because they have not said anything yet.
    half_open: Mutex<HashMap<ConnectionId, AbortHandle>>,
    pub(super) chunks: mpsc::Sender<Chunk>,
    pub(super) mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
}

impl StreamDoor {
    pub(super) fn new(
        max_connections: usize,
        per_block: usize,
        chunks: mpsc::Sender<Chunk>,
        mailbox: Arc<Mailbox>,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let admission = Admission::new(AdmissionConfig {
            max_connections,
            per_block,
            trusted_proxies: TrustedProxies::new(Vec::new()),
            max_half_open: MAX_HALF_OPEN,
        });
        let (admission, half_open) = (Mutex::new(admission), Mutex::default());
        Arc::new(Self { admission, half_open, chunks, mailbox, counters })
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        // Its counters are changed by whole statements only.
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn half_open(&self) -> MutexGuard<'_, HashMap<ConnectionId, AbortHandle>> {
        self.half_open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the admitted connections; it is given back however the connection ends.
pub(super) struct Admitted {
    id: ConnectionId,
    pub(super) door: Arc<StreamDoor>,
}

impl Admitted {
    /// It has sent a whole message, so it is not given up for another.
    pub(super) fn spoke(&self) {
        self.door.admission().spoke(self.id);
        self.door.half_open().remove(&self.id);
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.door.admission().closed(self.id);
        self.door.half_open().remove(&self.id);
    }
}

/// Accepts for as long as its task lives; connections that are up live on.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    transport: Transport,
    door: Arc<StreamDoor>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => take(stream, client, tls.clone(), transport, &door),
            Err(error) => {
                debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Admits one connection and serves it in a task of its own.
fn take(
    stream: TcpStream,
    client: SocketAddr,
    tls: Option<TlsAcceptor>,
    transport: Transport,
    door: &Arc<StreamDoor>,
) {
    // Not inside the match: the lock would be held through its arms.
    let admit = door.admission().connected(client.ip());
    let id = match admit {
        Admit::Yes { id, evicted } => {
            if let Some(task) = evicted.and_then(|evicted| door.half_open().remove(&evicted)) {
                door.counters.refused_streams.fetch_add(1, Ordering::Relaxed);
                task.abort();
            }
            id
        }
        Admit::No(_) => {
            door.counters.refused_streams.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    let admitted = Admitted { id, door: door.clone() };
    // The relay has one thread, so the task cannot end before its handle is kept.
    let task = tokio::spawn(async move {
        if let Err(error) = serve(stream, client, tls, transport, admitted).await {
            debug!(%error, "stream ended");
        }
    });
    door.half_open().insert(id, task.abort_handle());
}

async fn serve(
    stream: TcpStream,
    client: SocketAddr,
    tls: Option<TlsAcceptor>,
    transport: Transport,
    admitted: Admitted,
) -> anyhow::Result<()> {
    tcp::bound(&stream, tcp::MEDIA)?;
    let five_tuple = FiveTuple { transport, client, server: stream.local_addr()? };
    let leg = Arc::new(Leg::new(five_tuple, admitted.door.counters.clone()));
    match tls {
        Some(tls) => {
            let stream = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await??;
            stream::serve(stream, leg, admitted).await
        }
        None => stream::serve(stream, leg, admitted).await,
    }
}
