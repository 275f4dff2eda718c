//! A TURN round trip with real credentials: two allocations that send each other a datagram through the relay, over UDP, TCP or TLS.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::stun::{Ask, Kind, Login, Said, ServerUrl, Transaction, message_length, read};
use super::web::{Stream, secure};

/// Between two sendings of what may be lost.
const AGAIN: Duration = Duration::from_millis(300);
/// Longest message that a server has to say, in bytes.
const LONGEST: usize = 4096;

/// Why there was no round trip.
#[derive(Debug, thiserror::Error)]
pub(super) enum TurnError {
    /// Nobody, or nothing that can be reached.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server has no wish to.
    #[error("it refuses {what} with code {code}")]
    Refused { what: &'static str, code: u16 },
    /// It says something that makes no sense.
    #[error("its answer to {0} is no TURN server's")]
    Odd(&'static str),
}

/// How a round trip went.
pub(super) struct RoundTrip {
    /// Where the server relays from.
    pub(super) relayed: SocketAddr,
    /// From sending a datagram to having it back, through the server twice.
    pub(super) time: Duration,
}

/// Opens two allocations and sends a datagram there and back.
pub(super) async fn round_trip(
    url: &ServerUrl,
    login: &Login,
    tls: &Arc<ClientConfig>,
    random: [u8; 32],
) -> Result<RoundTrip, TurnError> {
    let seed = |at: usize| Transaction::from_be_bytes(std::array::from_fn(|place| random[at + place]));
    let (mut near, mut far) =
        tokio::try_join!(Client::open(url, login, tls, seed(0)), Client::open(url, login, tls, seed(16)))?;
    let (here, there) = tokio::try_join!(near.allocate(), far.allocate())?;
    tokio::try_join!(near.permit(there), far.permit(here))?;
    let start = Instant::now();
    let exchanged = async {
        let echo = async {
            loop {
                let (peer, data) = far.hear(None).await?;
                far.say(peer, &data).await?;
            }
        };
        let wait = async {
            loop {
                let (_, data) = near.hear(Some((there, &random))).await?;
                if data == random {
                    return Ok::<(), TurnError>(());
                }
            }
        };
        tokio::select! {
            failed = echo => { let failed: Result<(), TurnError> = failed; failed }
            heard = wait => heard,
        }
    };
    exchanged.await?;
    let time = start.elapsed();
    near.release().await;
    far.release().await;
    Ok(RoundTrip { relayed: here, time })
}

/// Asks STUN servers for this machine's address as they see it, all from one socket: who answers, and with what.
pub(super) async fn mapped(
    servers: &[SocketAddr],
    seed: Transaction,
    patience: Duration,
) -> io::Result<(u16, Vec<Option<(SocketAddr, Duration)>>)> {
    let mut found = vec![None; servers.len()];
    let v6 = servers.first().is_some_and(SocketAddr::is_ipv6);
    let socket = UdpSocket::bind(any_port(v6)).await?;
    let port = socket.local_addr()?.port();
    let end = Instant::now() + patience;
    let mut sent = vec![Instant::now(); servers.len()];
    let mut buffer = [0; LONGEST];
    while found.iter().any(Option::is_none) && Instant::now() < end {
        for (at, server) in servers.iter().enumerate().filter(|(at, _)| found[*at].is_none()) {
            let request = Ask::Binding.encode(seed.wrapping_add(at as u128), None);
            sent[at] = Instant::now();
            // A server that cannot be reached does not answer, which is what is told.
            let _ = socket.send_to(&request.unwrap_or_default(), server).await;
        }
        let round = (Instant::now() + AGAIN).min(end);
        while let Ok(Ok((length, _))) =
            tokio::time::timeout_at(round.into(), socket.recv_from(&mut buffer)).await
        {
            let Some(Said::Done { transaction, mapped: Some(mapped), .. }) = read(&buffer[..length]) else {
                continue;
            };
            let mask = (1u128 << 96) - 1;
            let asked = (0..servers.len()).find(|at| seed.wrapping_add(*at as u128) & mask == transaction);
            if let Some(at) = asked {
                found[at].get_or_insert((mapped, sent[at].elapsed()));
            }
            if found.iter().all(Option::is_some) {
                break;
            }
        }
    }
    Ok((port, found))
}

fn any_port(v6: bool) -> SocketAddr {
    if v6 { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() }
}

/// The first address of a server, of the family that most have.
pub(super) async fn address(url: &ServerUrl) -> io::Result<SocketAddr> {
    let mut found: Vec<SocketAddr> = tokio::net::lookup_host((url.host.as_str(), url.port)).await?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| io::Error::other("its name has no address"))
}

/// One allocation.
struct Client {
    way: Way,
    login: Login,
    next: Transaction,
}

enum Way {
    Udp(UdpSocket),
    Stream(Box<dyn Stream>, Vec<u8>),
}

impl Client {
    async fn open(
        url: &ServerUrl,
        login: &Login,
        tls: &Arc<ClientConfig>,
        seed: Transaction,
    ) -> Result<Self, TurnError> {
        let address = address(url).await?;
        let way = match url.kind {
            Kind::Stun | Kind::TurnUdp => {
                let socket = UdpSocket::bind(any_port(address.is_ipv6())).await?;
                socket.connect(address).await?;
                Way::Udp(socket)
            }
            Kind::TurnTcp => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Way::Stream(Box::new(stream), Vec::new())
            }
            Kind::TurnTls => {
                let stream = secure(&url.host, address, Arc::clone(tls)).await?;
                Way::Stream(Box::new(stream), Vec::new())
            }
        };
        Ok(Self { way, login: login.clone(), next: seed })
    }

    async fn allocate(&mut self) -> Result<SocketAddr, TurnError> {
        match self.ask(&Ask::Allocate, "an allocation").await? {
            Said::Done { relayed: Some(relayed), .. } => Ok(relayed),
            _ => Err(TurnError::Odd("an allocation")),
        }
    }

    async fn permit(&mut self, peer: SocketAddr) -> Result<(), TurnError> {
        self.ask(&Ask::Permission(peer), "a permission").await.map(drop)
    }

    /// Gives the allocation back. A server that does not hear of it ends it with the seat.
    async fn release(&mut self) {
        let transaction = self.transaction();
        if let Some(bytes) = Ask::Release.encode(transaction, Some(&self.login)) {
            let _ = self.way.send(&bytes).await;
        }
    }

    async fn say(&mut self, peer: SocketAddr, data: &[u8]) -> Result<(), TurnError> {
        let transaction = self.transaction();
        let bytes = Ask::Send(peer, data).encode(transaction, None).ok_or(TurnError::Odd("data"))?;
        Ok(self.way.send(&bytes).await?)
    }

    /// Waits for what a peer sent, saying something itself until then.
    async fn hear(&mut self, say: Option<(SocketAddr, &[u8])>) -> Result<(SocketAddr, Vec<u8>), TurnError> {
        loop {
            if let Some((peer, data)) = say {
                self.say(peer, data).await?;
            }
            let end = tokio::time::Instant::now() + AGAIN;
            while let Ok(bytes) = tokio::time::timeout_at(end, self.way.receive()).await {
                if let Some(Said::Data { peer, data }) = read(&bytes?) {
                    return Ok((peer, data));
                }
            }
        }
    }

    /// A request until it is answered; a refusal that tells realm and nonce is followed by another try, twice.
    async fn ask(&mut self, ask: &Ask<'_>, what: &'static str) -> Result<Said, TurnError> {
        let mut tries = 0;
        loop {
            let known = !self.login.realm.is_empty();
            let transaction = self.transaction();
            let bytes = ask.encode(transaction, known.then_some(&self.login)).ok_or(TurnError::Odd(what))?;
            match self.answer(transaction, &bytes).await? {
                Said::Refused { code: 401 | 438, realm: Some(realm), nonce: Some(nonce), .. }
                    if tries < 2 =>
                {
                    tries += 1;
                    (self.login.realm, self.login.nonce) = (realm, nonce);
                }
                Said::Refused { code, .. } => return Err(TurnError::Refused { what, code }),
                said => return Ok(said),
            }
        }
    }

    async fn answer(&mut self, wanted: Transaction, request: &[u8]) -> Result<Said, TurnError> {
        loop {
            self.way.send(request).await?;
            let end = tokio::time::Instant::now() + self.way.patience();
            while let Ok(bytes) = tokio::time::timeout_at(end, self.way.receive()).await {
                match read(&bytes?) {
                    Some(said @ (Said::Done { transaction, .. } | Said::Refused { transaction, .. }))
                        if transaction == wanted =>
                    {
                        return Ok(said);
                    }
                    _ => {}
                }
            }
        }
    }

    fn transaction(&mut self) -> Transaction {
        self.next = self.next.wrapping_add(1) & ((1 << 96) - 1);
        self.next
    }
}

impl Way {
    /// How long to wait before something is sent again; a stream loses nothing, so that its end comes from outside.
    fn patience(&self) -> Duration {
        match self {
            Self::Udp(_) => AGAIN,
            Self::Stream(..) => Duration::from_secs(60),
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(bytes).await.map(drop),
            Self::Stream(stream, _) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// The next message. Dropping it half-way loses nothing.
    async fn receive(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Udp(socket) => {
                let mut buffer = vec![0; LONGEST];
                let length = socket.recv(&mut buffer).await?;
                buffer.truncate(length);
                Ok(buffer)
            }
            Self::Stream(stream, buffer) => loop {
                if let Some(length) = message_length(buffer) {
                    if length > LONGEST {
                        return Err(io::Error::other("a message that is too long"));
                    }
                    if buffer.len() >= length {
                        return Ok(buffer.drain(..length).collect());
                    }
                }
                if stream.read_buf(buffer).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            },
        }
    }
}
