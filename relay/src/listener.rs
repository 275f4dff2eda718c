//! Accepting connections: limits, TLS, and the time a client may take to say what it wants.
//! It never reads a request's content; that is `http.rs`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::debug;

use crate::admission::{Admission, Admit, ConnectionId, Refusal, TrustedProxies};
use crate::metrics::Metrics;
use crate::tcp::Bounded;

/// Time for the TLS handshake, and again for the request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for want of descriptors: they come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all listeners of the relay share.
pub(crate) struct Door {
    pub(crate) router: Router,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) proxies: TrustedProxies,
    pub(crate) admission: Mutex<Admission>,
    pub(crate) metrics: Arc<Metrics>,
    /// Connections that can be given up because they have not said anything yet.
    pub(crate) half_open: Mutex<HashMap<ConnectionId, AbortHandle>>,
}

impl Door {
    fn admission(&self) -> MutexGuard<'_, Admission> {
        // Its counters are changed by whole statements only.
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection of `peer`; one that is silent may have to give its own up for it. `None` over a cap.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Arc<Admitted>> {
        // Not inside the match: the lock would be held through its arms.
        let admit = self.admission().connected(peer);
        match admit {
            Admit::Yes { id, evicted } => {
                if let Some(evicted) = evicted {
                    self.metrics.refused("half_open_evicted");
                    if let Some(task) = self.half_open().remove(&evicted) {
                        task.abort();
                    }
                }
                Some(Arc::new(Admitted { id, door: self.clone(), manner: AtomicU8::new(SILENT) }))
            }
            Admit::No(refusal) => {
                self.metrics.refused(refusal.code());
                None
            }
        }
    }

    fn half_open(&self) -> MutexGuard<'_, HashMap<ConnectionId, AbortHandle>> {
        self.half_open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts until `closing` turns true; connections that are up live on.
pub(crate) async fn accept(listener: TcpListener, door: Arc<Door>, mut closing: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.wait_for(|closing| *closing) => return,
        };
        match accepted {
            Ok((stream, address)) => take(stream, address, &door),
            Err(error) => {
                debug!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Admits one connection and serves it in a task of its own.
fn take(stream: TcpStream, address: SocketAddr, door: &Arc<Door>) {
    let Some(admitted) = door.admit(address.ip()) else { return };
    admitted.clone().spawn(async move {
        if let Err(error) = serve(stream, address, &admitted).await {
            debug!(error = %error, "connection ended");
        }
    });
}

/// A place among the admitted connections; it is given back however the connection ends.
/// Every request carries it, and a WebSocket keeps it when the HTTP connection is over. A QUIC connection has one too.
pub(crate) struct Admitted {
    id: ConnectionId,
    door: Arc<Door>,
    /// [`SILENT`], [`ANSWERED`] or [`ABORTED`]: how it has to end.
    manner: AtomicU8,
}

/// It has said nothing yet, so nothing is owed to it.
const SILENT: u8 = 0;
/// Something was answered, so the client may read the end of it.
const ANSWERED: u8 = 1;
/// It does not read, so there is nothing to wait for.
const ABORTED: u8 = 2;

impl Admitted {
    /// Serves the connection in a task of its own, which is aborted when it has to make room.
    pub(crate) fn spawn(&self, serve: impl Future<Output = ()> + Send + 'static) {
        // The relay has one thread, so the task cannot end before its handle is kept.
        let task = tokio::spawn(serve);
        self.door.half_open().insert(self.id, task.abort_handle());
    }

    /// The client said what it wants, so it is no longer the first to be given up.
    pub(crate) fn spoke(&self) {
        self.answered();
        self.door.admission().spoke(self.id);
        self.door.half_open().remove(&self.id);
    }

    /// Something was said to the client, if only that its request is none.
    fn answered(&self) {
        // A connection that is aborted stays so.
        let _ = self.manner.compare_exchange(SILENT, ANSWERED, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The client does not read, so that its connection is cut off with all that waits for it.
    pub(crate) fn abort(&self) {
        self.manner.store(ABORTED, Ordering::Relaxed);
    }

    /// Whether the client gets time to read the end.
    pub(crate) fn ends_in_peace(&self) -> bool {
        self.manner.load(Ordering::Relaxed) == ANSWERED
    }

    /// The connection has become the WebSocket of `client`, who may stand behind a proxy.
    ///
    /// # Errors
    /// When the client's network has as many as it may.
    pub(crate) fn is_socket_of(&self, client: IpAddr) -> Result<(), Refusal> {
        self.door.admission().attribute(self.id, client)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.door.admission().closed(self.id);
        self.door.half_open().remove(&self.id);
    }
}

async fn serve(stream: TcpStream, address: SocketAddr, admitted: &Arc<Admitted>) -> anyhow::Result<()> {
    let stream = Bounded::new(stream, admitted.clone())?;
    match admitted.door.tls.clone() {
        Some(acceptor) => {
            let handshake = acceptor.accept(stream).into_fallible();
            match tokio::time::timeout(HEAD_TIMEOUT, handshake).await? {
                Ok(stream) => serve_http(stream, address, true, admitted).await,
                Err((error, _stream)) => {
                    // The alert says why.
                    admitted.answered();
                    Err(error.into())
                }
            }
        }
        None => serve_http(stream, address, false, admitted).await,
    }
}

async fn serve_http<S>(
    stream: S,
    address: SocketAddr,
    tls: bool,
    admitted: &Arc<Admitted>,
) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let door = &admitted.door;
    let service = tower::service_fn(|request: Request<Incoming>| {
        admitted.spoke();
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(admitted.clone());
        parts.extensions.insert(door.proxies.client(address.ip(), tls, &parts.headers));
        door.router.clone().oneshot(Request::from_parts(parts, Body::new(body)))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = connection.as_mut().await;
    // Before the connection is dropped, which closes it.
    admitted.answered();
    Ok(ended?)
}
