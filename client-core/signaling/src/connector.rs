//! Bringing a connection up: QUIC first, WebSocket when QUIC does not answer, and whichever is up first.
//!
//! 1. The name is resolved once, for both.
//! 2. QUIC is tried. When it has not answered after [`HEAD_START`], or as soon as it fails, the WebSocket is tried beside it.
//! 3. The first to be up wins, and the other is dropped. When both fail, the WebSocket's reason is told: TCP says more.
//! 4. While neither is up nor has failed, both are tried again beside the first try, five times at most.
//! 5. A relay that was reached by WebSocket although QUIC was tried has both tried at once the next time: nobody waits twice for a firewall.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::debug;

use crate::connection::{Connection, Transport};
use crate::error::{ConnectError, ConnectorError};
use crate::tls::TlsRoots;
use crate::{Target, addresses, quic, tls, websocket};

/// How long QUIC may take before the WebSocket is tried as well.
const HEAD_START: Duration = Duration::from_millis(150);
/// How long QUIC may go on once the WebSocket has failed.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// Time for everything together.
const PATIENCE: Duration = Duration::from_secs(10);
/// A fresh try is begun beside the older ones after each of these: packets that were lost while the network was away are repeated ever more
/// slowly, and who waits for a network that returns is not to wait for that.
const AGAIN: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(2),
    Duration::from_secs(2),
];
/// Relays that are remembered.
const REMEMBERED: usize = 64;

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectorConfig {
    /// Whose certificates count.
    pub roots: TlsRoots,
    /// Whether QUIC is tried; never for a target without TLS.
    pub quic: bool,
    /// Name and version of the program, for the WebSocket's `User-Agent`; what is not printable ASCII is left out.
    pub user_agent: String,
}

/// Opens connections. One for the program's life: it keeps TLS sessions, and remembers what worked.
pub struct Connector {
    tls: Arc<rustls::ClientConfig>,
    websocket: Arc<rustls::ClientConfig>,
    quic: Option<quinn::ClientConfig>,
    user_agent: String,
    last: Mutex<BTreeMap<Target, Transport>>,
}

impl Connector {
    /// Reads the certificates of the authorities.
    ///
    /// # Errors
    /// When there are none to read.
    pub fn new(config: ConnectorConfig) -> Result<Self, ConnectorError> {
        let tls = tls::client_config(&config.roots)?;
        let quic = if config.quic { Some(quic::client_config(&tls)?) } else { None };
        let mut websocket = tls.clone();
        websocket.alpn_protocols = vec![b"http/1.1".to_vec()];
        let printable = |c: &char| matches!(c, ' '..='~');
        Ok(Self {
            tls: Arc::new(tls),
            websocket: Arc::new(websocket),
            quic,
            user_agent: config.user_agent.chars().filter(printable).collect(),
            last: Mutex::default(),
        })
    }

    /// For the call's other connections over TLS: the same authorities count there.
    pub fn tls(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// Opens a connection, within 10 s. Must be called inside a tokio runtime; dropping the future gives the attempt up.
    ///
    /// # Errors
    /// Why there is none, in words for a person.
    pub async fn connect(&self, target: &Target) -> Result<Connection, ConnectError> {
        let connection = match tokio::time::timeout(PATIENCE, self.tries(target)).await {
            Ok(connection) => connection?,
            Err(_) => return Err(ConnectError::TimedOut { authority: target.authority() }),
        };
        self.remember(target, connection.transport());
        Ok(connection)
    }

    /// Opens a connection by this transport and no other, for who wants to know whether it works. Otherwise as [`Self::connect`].
    ///
    /// # Errors
    /// Why there is none, in words for a person.
    pub async fn connect_by(
        &self,
        target: &Target,
        transport: Transport,
    ) -> Result<Connection, ConnectError> {
        let authority = target.authority();
        let attempt = async {
            let addresses = addresses::resolve(target).await?;
            match (transport, self.quic.clone()) {
                (Transport::WebSocket, _) => self.websocket(target, &addresses).await,
                (Transport::Quic, Some(config)) if target.tls => {
                    let up = quic::connect(target, &addresses, config).await;
                    up.map(Into::into)
                        .map_err(|cause| ConnectError::Unreachable { authority: authority.clone(), cause })
                }
                (Transport::Quic, _) => {
                    let cause = "QUIC needs TLS, and is switched off here".to_owned();
                    Err(ConnectError::Unreachable { authority: authority.clone(), cause })
                }
            }
        };
        let timed_out = || ConnectError::TimedOut { authority: target.authority() };
        tokio::time::timeout(PATIENCE, attempt).await.unwrap_or_else(|_| Err(timed_out()))
    }

    async fn tries(&self, target: &Target) -> Result<Connection, ConnectError> {
        let mut running = FuturesUnordered::new();
        running.push(self.race(target));
        let mut waits = AGAIN.into_iter();
        let next = tokio::time::sleep_until(Instant::now());
        tokio::pin!(next);
        let mut more = false;
        loop {
            if !more && let Some(wait) = waits.next() {
                next.as_mut().reset(Instant::now() + wait);
                more = true;
            }
            tokio::select! {
                Some(ended) = running.next() => match ended {
                    Ok(up) => return Ok(up),
                    Err(error) if running.is_empty() || !error.may_pass() => return Err(error),
                    Err(_) => {}
                },
                () = &mut next, if more => {
                    running.push(self.race(target));
                    more = false;
                }
            }
        }
    }

    async fn race(&self, target: &Target) -> Result<Connection, ConnectError> {
        let addresses = addresses::resolve(target).await?;
        let websocket = self.websocket(target, &addresses);
        let Some(config) = self.quic.clone().filter(|_| target.tls) else { return websocket.await };
        let quic = quic::connect(target, &addresses, config);
        tokio::pin!(quic, websocket);
        let head_start = tokio::time::sleep(self.head_start(target));
        tokio::pin!(head_start);
        let mut started = false;
        loop {
            tokio::select! {
                quic = &mut quic => match quic {
                    Ok(up) => return Ok(up.into()),
                    Err(error) => {
                        debug!(error, "no QUIC");
                        return websocket.await;
                    }
                },
                () = &mut head_start, if !started => started = true,
                up = &mut websocket, if started => match up {
                    Ok(up) => return Ok(up),
                    Err(error) => {
                        return match tokio::time::timeout(AFTERWARDS, quic).await {
                            Ok(Ok(up)) => Ok(up.into()),
                            _ => Err(error),
                        };
                    }
                },
            }
        }
    }

    async fn websocket(&self, target: &Target, addresses: &[SocketAddr]) -> Result<Connection, ConnectError> {
        websocket::connect(target, addresses, self.websocket.clone(), &self.user_agent).await.map(Into::into)
    }

    fn head_start(&self, target: &Target) -> Duration {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(target) == Some(&Transport::WebSocket) { Duration::ZERO } else { HEAD_START }
    }

    fn remember(&self, target: &Target, transport: Transport) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= REMEMBERED && !last.contains_key(target) {
            last.pop_first();
        }
        last.insert(target.clone(), transport);
    }
}
