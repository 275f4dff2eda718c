//! Opening a stream to a TURN server: all its addresses, each with a head start over the next (RFC 8305), and TLS above where asked for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::servers::Server;
use crate::stats::RelayProtocol;

/// Most addresses that are tried.
const MOST: usize = 8;
const NAME_TIMEOUT: Duration = Duration::from_secs(5);
/// For one address: connection and TLS.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(8);
const HEAD_START: Duration = Duration::from_millis(50);
/// What the system holds of bytes that it has not sent: the rest waits where it can still be dropped.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 16 * 1024;

/// A stream, whatever is below it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// Its certificate is not valid; it says why.
    #[error("{0}")]
    Certificate(String),
    /// Anything else, which another attempt may mend.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How to dial: with which certificates, and from which addresses if not from any.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) bind: Vec<IpAddr>,
}

impl Dialer {
    /// The first address that answers; the first failure when none does. Dropping the future gives all attempts up.
    pub(super) async fn dial(&self, server: &Server) -> Result<Box<dyn Stream>, DialError> {
        let found = timeout(NAME_TIMEOUT, tokio::net::lookup_host((server.host.as_str(), server.port)))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the name has no answer in time"))??;
        let mut waiting = in_turn(found).into_iter();
        let mut running = JoinSet::new();
        let mut failure = None;
        loop {
            let may_start = waiting.len() > 0;
            if running.is_empty() && !may_start {
                let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address").into();
                return Err(failure.unwrap_or_else(none));
            }
            let pause = if running.is_empty() { Duration::ZERO } else { HEAD_START };
            tokio::select! {
                Some(ended) = running.join_next() => match ended {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(error)) => {
                        failure.get_or_insert(error);
                        if let Some(address) = waiting.next() {
                            running.spawn(self.clone().attempt(server.clone(), address));
                        }
                    }
                    // A task that panicked says so itself.
                    Err(_) => {}
                },
                () = tokio::time::sleep(pause), if may_start => {
                    if let Some(address) = waiting.next() {
                        running.spawn(self.clone().attempt(server.clone(), address));
                    }
                }
            }
        }
    }

    async fn attempt(self, server: Server, address: SocketAddr) -> Result<Box<dyn Stream>, DialError> {
        let connecting = async {
            let tcp = self.connect(address).await?;
            match server.protocol {
                RelayProtocol::Tls => secure(self.tls, tcp, &server.host).await,
                RelayProtocol::Tcp | RelayProtocol::Udp => Ok(Box::new(tcp) as Box<dyn Stream>),
            }
        };
        timeout(ADDRESS_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time").into()))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if !self.bind.is_empty() {
            let from = self.bind.iter().find(|from| from.is_ipv4() == address.is_ipv4());
            let from = from.ok_or(io::ErrorKind::AddrNotAvailable)?;
            socket.bind(SocketAddr::new(*from, 0))?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT)?;
        Ok(stream)
    }
}

async fn secure(
    tls: Option<Arc<ClientConfig>>,
    tcp: TcpStream,
    host: &str,
) -> Result<Box<dyn Stream>, DialError> {
    let tls = tls.ok_or_else(|| DialError::Certificate("no authority is trusted".to_owned()))?;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| DialError::Certificate("its name cannot be in one".to_owned()))?;
    match TlsConnector::from(tls).connect(name, tcp).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match inner {
                Some(rustls::Error::InvalidCertificate(problem)) => Err(DialError::Certificate(why(problem))),
                _ => Err(error.into()),
            }
        }
    }
}

fn why(problem: &CertificateError) -> String {
    match problem {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no authority trusted here signed it".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        CertificateError::Other(cause) if cause.0.to_string().contains("CaUsedAsEndEntity") => {
            "it is an authority's, not a server's".to_owned()
        }
        other => other.to_string(),
    }
}

/// The families in turn, IPv6 first.
fn in_turn(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv6);
    let most = v6.len().max(v4.len());
    let nth = |n: usize| [v6.get(n), v4.get(n)].into_iter().flatten().copied();
    (0..most).flat_map(nth).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns_and_their_number_is_bounded() {
        let found = ["1.0.0.1:1", "1.0.0.2:1", "[2001:db8::1]:1"].map(|text| text.parse().unwrap());
        let wanted: [SocketAddr; 3] =
            ["[2001:db8::1]:1", "1.0.0.1:1", "1.0.0.2:1"].map(|text| text.parse().unwrap());
        assert_eq!(in_turn(found.into_iter()), wanted);
        assert_eq!(in_turn((1..100).map(|n| SocketAddr::from(([10, 0, 0, n], 1)))).len(), MOST);
    }

    #[tokio::test]
    async fn nobody_listening_is_an_error_at_once() {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let server = Server { protocol: RelayProtocol::Tcp, host: "127.0.0.1".to_owned(), port: free };
        let dialer = Dialer { tls: None, bind: Vec::new() };
        assert!(matches!(dialer.dial(&server).await, Err(DialError::Io(_))));
    }
}
