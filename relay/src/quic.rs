//! Signaling over QUIC for clients that are no browser: the same messages, hub and limits as the WebSocket, and connections that survive a change of address.
//! It never decides anything about rooms, and never serves HTTP.
//!
//! 1. A client connects with ALPN `snug/2`, and has to show first that its address is its own (RFC 9000 §8.1.2).
//! 2. It is admitted like a TCP connection, and given up like one when it is silent; over a cap it is refused.
//! 3. It opens one bidirectional stream. Each message is its length in bytes (32 bits, big endian) and its text.
//! 4. Either side ends it with a close code of the WebSocket as QUIC's application error code.

mod identity;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, Incoming, ReadError, RecvStream,
    SendStream, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use snug_room_proto::Departure;
use snug_wire::{CloseCode, limits};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use crate::bind;
use crate::hub::{Hub, HubConnection};
use crate::ice::Host;
use crate::listener::{Admitted, Door};
use crate::outbox::Outbox;
use crate::socket::departure;

/// Time for the handshake, and again for the first stream.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client that is being closed may take to read the last messages.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Time for the last packets of a relay that stops.
const LAST_PACKETS: Duration = Duration::from_millis(100);
/// Round trip that is assumed at first: a lost first packet is repeated after three of it.
const FIRST_RTT: Duration = Duration::from_millis(100);
/// Time between two tries for a port that another program has.
const TRY_EVERY: Duration = Duration::from_secs(1);
/// Handshakes that wait for this thread, and what all of them may keep in memory, in bytes.
const WAITING: usize = 1024;
const WAITING_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes that wait for a client to acknowledge them, as TCP has it. What comes behind waits in the outbox, which is bounded.
const UNACKNOWLEDGED: u64 = 128 * 1024;
/// Bytes of a message's length.
const HEAD: usize = 4;

/// Where QUIC listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum QuicListen {
    /// Nowhere.
    Off,
    /// At the addresses and ports of HTTPS, where clients look first.
    LikeHttps,
    /// Where the operator says; it has to be free.
    At(Vec<SocketAddr>),
}

/// What every connection needs.
struct Shared {
    door: Arc<Door>,
    hub: Hub,
    config: Config,
}

/// How endpoints are set up.
#[derive(Clone)]
pub(crate) struct Config {
    endpoint: EndpointConfig,
    server: ServerConfig,
}

/// The listening tasks; they end with [`Quic::stop`].
pub(crate) struct Quic {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// A UDP port that is to be served, and its socket, unless another program still has it.
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    only_v6: bool,
    socket: Option<UdpSocket>,
}

/// Takes the ports. Those that the operator did not name may be taken when they become free: a relay that drains keeps its own.
///
/// # Errors
/// The address that cannot be had, and why.
pub(crate) fn take_ports(
    listen: &QuicListen,
    https: &[SocketAddr],
) -> Result<Vec<Port>, (SocketAddr, io::Error)> {
    let (addresses, given) = match listen {
        QuicListen::Off => return Ok(Vec::new()),
        // Those that it got, so this machine has them.
        QuicListen::LikeHttps => (https.to_vec(), false),
        QuicListen::At(addresses) => {
            let found = bind::available(addresses, bind::has);
            found.warn("--quic-listen", bind::Again::Restart);
            (found.addresses, true)
        }
    };
    let one = |address: &SocketAddr| {
        let shares = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
        let only_v6 = addresses.iter().any(shares);
        match bind::datagrams(*address, only_v6) {
            Ok(socket) => {
                let address = socket.local_addr().map_err(|error| (*address, error))?;
                Ok(Port { address, only_v6, socket: Some(socket) })
            }
            Err(error) if given => Err((*address, error)),
            Err(error) => {
                warn!("no QUIC on {address} ({error}); clients use WebSocket until the UDP port is free");
                Ok(Port { address: *address, only_v6, socket: None })
            }
        }
    };
    addresses.iter().map(one).collect()
}

/// QUIC's side of the HTTPS certificate, which is followed when it is replaced; and what outlives a restart, from the data folder.
///
/// # Errors
/// When the TLS library cannot do QUIC with it, or the system has no random source.
pub(crate) fn config(https: &TlsAcceptor, data_dir: &Path) -> anyhow::Result<Config> {
    let mut tls = rustls::ServerConfig::clone(https.config());
    tls.alpn_protocols = vec![b"snug/2".to_vec()];
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(2 * limits::FRAME as u32))
        .receive_window(VarInt::from_u32(2 * limits::FRAME as u32))
        .send_window(UNACKNOWLEDGED)
        .datagram_receive_buffer_size(None)
        .initial_rtt(FIRST_RTT)
        // Clients that show that they are there more often ask for less, and the smaller counts.
        .max_idle_timeout(Some(IdleTimeout::try_from(limits::IDLE_TIMEOUT)?));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(WAITING)
        .incoming_buffer_size(limits::FRAME as u64)
        .incoming_buffer_size_total(WAITING_BYTES);
    Ok(Config { endpoint: identity::endpoint_config(data_dir)?, server: config })
}

impl Quic {
    /// Serves `ports`, taking nobody in once `closing` turns true.
    pub(crate) fn start(
        ports: Vec<Port>,
        config: Config,
        door: Arc<Door>,
        hub: Hub,
        closing: &watch::Receiver<bool>,
    ) -> Self {
        let shared = Arc::new(Shared { door, hub, config });
        let (stop, stopped) = watch::channel(false);
        let serve = |port| tokio::spawn(listen(port, shared.clone(), closing.clone(), stopped.clone()));
        Self { stop, tasks: ports.into_iter().map(serve).collect() }
    }

    /// Closes what is left.
    pub(crate) async fn stop(self) {
        // Nobody may listen any more; that is fine here.
        let _ = self.stop.send(true);
        for task in self.tasks {
            // It ends by itself, or has ended.
            let _ = task.await;
        }
    }
}

async fn listen(
    port: Port,
    shared: Arc<Shared>,
    mut closing: watch::Receiver<bool>,
    mut stopped: watch::Receiver<bool>,
) {
    let address = port.address;
    let bound = tokio::select! {
        bound = endpoint(port, &shared) => bound,
        _ = closing.wait_for(|closing| *closing) => return,
    };
    let endpoint = match bound {
        Ok(endpoint) => endpoint,
        Err(error) => return warn!("no QUIC on {address}: {error}; restart the relay to try again"),
    };
    info!("listening on quic://{address}");
    loop {
        tokio::select! {
            Some(incoming) = endpoint.accept() => take(incoming, &shared),
            _ = closing.wait_for(|closing| *closing) => break,
            else => break,
        }
    }
    // Connections that are up live on.
    endpoint.set_server_config(None);
    // An error means that nobody can ask any more.
    let _ = stopped.wait_for(|stopped| *stopped).await;
    endpoint.close(VarInt::from(CloseCode::Draining as u16), b"");
    let _ = tokio::time::timeout(LAST_PACKETS, endpoint.wait_idle()).await;
}

async fn endpoint(port: Port, shared: &Shared) -> io::Result<Endpoint> {
    let mut socket = port.socket;
    let socket = loop {
        match socket.take() {
            Some(socket) => break socket,
            None => tokio::time::sleep(TRY_EVERY).await,
        }
        socket = bind::datagrams(port.address, port.only_v6).ok();
    };
    let Config { endpoint, server } = shared.config.clone();
    Endpoint::new(endpoint, Some(server), socket, Arc::new(TokioRuntime))
}

/// Admits one connection and serves it in a task of its own.
fn take(incoming: Incoming, shared: &Arc<Shared>) {
    // An address may be forged. What is answered before it is proven hits somebody else, and quinn answers with up to a datagram more than the
    // three times of RFC 9000 §8.1: it sends whole datagrams as long as any of that is left, repeated ones too. So nothing but a request for a
    // proof is, and nobody's place or memory is taken for such a packet either. It costs the client a round trip.
    if !incoming.remote_address_validated() {
        // Fails for one that cannot be asked, which has shown a token and is proven.
        let _ = incoming.retry();
        return;
    }
    let peer = incoming.remote_address().ip();
    let Some(admitted) = shared.door.admit(peer) else { return incoming.refuse() };
    let hub = shared.hub.clone();
    admitted.clone().spawn(async move {
        if let Err(error) = serve(incoming, hub, &admitted).await {
            debug!(%error, "QUIC connection ended");
        }
    });
}

async fn serve(incoming: Incoming, hub: Hub, admitted: &Admitted) -> anyhow::Result<()> {
    let connection = tokio::time::timeout(HEAD_TIMEOUT, incoming.accept()?).await??;
    let (send, receive) = tokio::time::timeout(HEAD_TIMEOUT, connection.accept_bi()).await??;
    admitted.spoke();
    let outbox = Arc::new(Outbox::default());
    let peer = connection.remote_address().ip().to_canonical();
    let seat = hub.connect(peer, reached_by(&connection), outbox.clone()).await;
    let mut stream = Stream { connection: connection.clone(), send, receive, buffer: Vec::new() };
    let end = stream.relay(&seat, &outbox).await;
    // The seat first: others should not wait for a slow goodbye.
    let departure = match end {
        End::ByClient(departure) => departure,
        End::ByRelay(_) => Departure::Lost,
    };
    seat.left(departure).await;
    if let End::ByRelay(code) = end {
        if stream.send.finish().is_ok() {
            // A close overtakes what is on its way. A client that is gone cannot be told.
            let _ = tokio::time::timeout(LAST_WORDS, stream.send.stopped()).await;
        }
        connection.close(VarInt::from(code as u16), b"");
    }
    Ok(())
}

/// The name by which the client reached the relay, or the address when it used none.
fn reached_by(connection: &Connection) -> Option<Host> {
    let handshake = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    match handshake.and_then(|data| data.server_name) {
        Some(name) => Host::parse(&name),
        None => connection.local_ip().map(|ip| ip.to_canonical().into()),
    }
}

enum End {
    ByClient(Departure),
    ByRelay(CloseCode),
}

/// One client's stream: messages in to the hub, the outbox out to the client.
struct Stream {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    /// What has come of a message that is not whole yet: never more than one message and one chunk.
    buffer: Vec<u8>,
}

impl Stream {
    async fn relay(&mut self, seat: &HubConnection, outbox: &Outbox) -> End {
        loop {
            tokio::select! {
                chunk = self.receive.read_chunk(limits::FRAME, true) => {
                    match chunk {
                        Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                        Ok(None) => return self.finished().await,
                        Err(ReadError::ConnectionLost(error)) => return by_client(&error),
                        Err(_) => return End::ByClient(Departure::Lost),
                    }
                    let mut rest = self.buffer.as_slice();
                    loop {
                        match take_message(&mut rest) {
                            Ok(Some(text)) => seat.received(text).await,
                            Ok(None) => break,
                            Err(code) => {
                                seat.closed(code);
                                return End::ByRelay(code);
                            }
                        }
                    }
                    // Once a chunk: what is left of it must not move with each of its messages.
                    let taken = self.buffer.len() - rest.len();
                    self.buffer.drain(..taken);
                }
                () = outbox.changed() => {
                    if let Some(end) = self.write(outbox).await {
                        return end;
                    }
                }
            }
        }
    }

    /// The client has said its last message; its close code follows.
    async fn finished(&self) -> End {
        match tokio::time::timeout(LAST_WORDS, self.connection.closed()).await {
            Ok(error) => by_client(&error),
            Err(_) => End::ByClient(Departure::Lost),
        }
    }

    async fn write(&mut self, outbox: &Outbox) -> Option<End> {
        let (frames, close) = outbox.take();
        let write = async {
            for frame in frames {
                let text = frame.encode();
                let length = u32::try_from(text.len()).expect("the queue holds 256 KiB");
                self.send.write_all(&length.to_be_bytes()).await?;
                self.send.write_all(text.as_bytes()).await?;
            }
            Ok::<_, quinn::WriteError>(())
        };
        // A client that does not read must not keep what closes it waiting.
        let patience = async {
            if close.is_none() {
                outbox.close_asked().await;
            }
            tokio::time::sleep(LAST_WORDS).await;
        };
        let written = tokio::select! {
            written = write => Some(written),
            () = patience => None,
        };
        match (written, close) {
            (None, _) => Some(End::ByRelay(outbox.take().1.unwrap_or(CloseCode::SlowReader))),
            (Some(Err(_)), _) => Some(match self.connection.close_reason() {
                Some(error) => by_client(&error),
                None => End::ByClient(Departure::Lost),
            }),
            (Some(Ok(())), Some(code)) => Some(End::ByRelay(code)),
            (Some(Ok(())), None) => None,
        }
    }
}

fn by_client(error: &ConnectionError) -> End {
    let code = match error {
        ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
        _ => None,
    };
    End::ByClient(departure(code))
}

/// Takes the first whole message off the front.
///
/// # Errors
/// The code to close with: over the limit, empty, or no text.
fn take_message<'a>(buffer: &mut &'a [u8]) -> Result<Option<&'a str>, CloseCode> {
    let Some((head, rest)) = buffer.split_first_chunk::<HEAD>() else { return Ok(None) };
    let length = u32::from_be_bytes(*head) as usize;
    if length > limits::FRAME {
        return Err(CloseCode::FrameTooLarge);
    }
    if length == 0 {
        return Err(CloseCode::Protocol);
    }
    let Some((text, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    let text = std::str::from_utf8(text).map_err(|_| CloseCode::Protocol)?;
    *buffer = rest;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use snug_wire::CloseCode;

    use super::take_message;

    #[test]
    fn messages_are_taken_whole_and_what_is_none_has_its_code() {
        let mut part = &[0, 0, 0, 2, b'{'][..];
        assert_eq!((take_message(&mut part), part.len()), (Ok(None), 5));
        let mut buffer = &[0, 0, 0, 2, b'{', b'}', 0, 0, 0, 1, b'1', 0, 0][..];
        assert_eq!(take_message(&mut buffer), Ok(Some("{}")));
        assert_eq!(take_message(&mut buffer), Ok(Some("1")));
        assert_eq!((take_message(&mut buffer), buffer.len()), (Ok(None), 2));
        assert_eq!(take_message(&mut &[0, 1, 0, 1][..]), Err(CloseCode::FrameTooLarge));
        assert_eq!(take_message(&mut &[0, 0, 0, 1, 0xff][..]), Err(CloseCode::Protocol));
    }

    #[test]
    fn an_empty_message_is_a_protocol_error() {
        assert_eq!(take_message(&mut &[0; 8][..]), Err(CloseCode::Protocol));
    }
}
