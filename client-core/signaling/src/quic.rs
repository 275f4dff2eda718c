//! Signaling over QUIC: one bidirectional stream, opened by the client; each message is its length in bytes (32 bits, big endian) and its text.
//! A socket of its own for each connection, so that one can move to another address without the others.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, ConnectionError, Endpoint, IdleTimeout, ReadError, RecvStream, SendStream, TransportConfig,
    VarInt,
};
use snug_wire::{CloseCode, limits};

use crate::Target;
use crate::addresses::first_of;
use crate::connection::Incoming;
use crate::error::ConnectorError;

/// The protocol's name in the TLS handshake.
pub(crate) const ALPN: &[u8] = b"snug/2";
/// Bytes of a message's length.
const HEAD: usize = 4;
/// A packet this often keeps what is on the way (NAT, firewall) open, and lets a relay that was restarted answer that it knows nothing of us.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Without any packet for so long the connection is lost, on both sides: the relay tells the others that we are away.
const SILENCE: Duration = Duration::from_secs(6);
/// Round trip that is assumed at first: a lost first packet is repeated after three of it.
const FIRST_RTT: Duration = Duration::from_millis(100);
/// Time for the relay's reason after its stream has ended.
const REASON_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for the last packet to leave this machine.
const LAST_PACKET: Duration = Duration::from_millis(100);

/// Both directions of one connection.
pub(crate) type Halves = (Sender, Receiver);

/// Messages out.
pub(crate) struct Sender {
    endpoint: Endpoint,
    connection: quinn::Connection,
    stream: SendStream,
}

/// Messages in.
pub(crate) struct Receiver {
    connection: quinn::Connection,
    stream: RecvStream,
    /// What has come of messages that are not whole yet.
    buffer: Vec<u8>,
    /// Bytes of it that were handed on: they leave once a chunk, so that what follows does not move with each message.
    taken: usize,
    end: Option<Option<u16>>,
}

/// Settings for all connections of a connector.
pub(crate) fn client_config(tls: &rustls::ClientConfig) -> Result<ClientConfig, ConnectorError> {
    let mut tls = tls.clone();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(tls)
        .map_err(|error| ConnectorError::Setup(rustls::Error::General(error.to_string())))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    let window = VarInt::from_u32(limits::QUEUE_BYTES as u32 * 2);
    transport
        // The relay opens nothing: all is on the client's stream.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(window)
        .receive_window(window)
        .datagram_receive_buffer_size(None)
        .initial_rtt(FIRST_RTT)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::try_from(SILENCE).expect("6 s are within QUIC's range")));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Opens a connection to one of `addresses`. The reason of a failure is for the log only: the WebSocket that follows has a better one.
pub(crate) async fn connect(
    target: &Target,
    addresses: &[SocketAddr],
    config: ClientConfig,
) -> Result<Halves, String> {
    let attempt = |address: SocketAddr| {
        let config = config.clone();
        async move {
            let endpoint =
                Endpoint::client(any_port(address.is_ipv6())).map_err(|error| error.to_string())?;
            let connecting =
                endpoint.connect_with(config, address, &target.host).map_err(|error| error.to_string())?;
            let connection = connecting.await.map_err(|error| error.to_string())?;
            let (stream, incoming) = connection.open_bi().await.map_err(|error| error.to_string())?;
            let receiver = Receiver {
                connection: connection.clone(),
                stream: incoming,
                buffer: Vec::new(),
                taken: 0,
                end: None,
            };
            Ok((Sender { endpoint, connection, stream }, receiver))
        }
    };
    first_of(addresses, attempt).await.unwrap_or_else(|| Err("there is no address".into()))
}

fn any_port(v6: bool) -> SocketAddr {
    if v6 { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() }
}

impl Sender {
    pub(crate) async fn send(&mut self, text: &str) -> Result<(), String> {
        let mut message = Vec::with_capacity(HEAD + text.len());
        let length = u32::try_from(text.len()).map_err(|error| error.to_string())?;
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(text.as_bytes());
        self.stream.write_all(&message).await.map_err(|error| error.to_string())
    }

    pub(crate) fn rebind(&self) -> io::Result<()> {
        let v6 = self.endpoint.local_addr()?.is_ipv6();
        self.endpoint.rebind(UdpSocket::bind(any_port(v6))?)
    }

    pub(crate) async fn close(mut self, code: u16) {
        if self.stream.finish().is_ok() {
            // A close overtakes what is on its way, so the relay has to have it first; a connection that is over has nobody to wait for.
            let _ = self.stream.stopped().await;
        }
        self.connection.close(VarInt::from(code), b"");
        let _ = tokio::time::timeout(LAST_PACKET, self.endpoint.wait_idle()).await;
    }
}

impl Receiver {
    pub(crate) async fn recv(&mut self) -> Incoming {
        loop {
            if let Some(code) = self.end {
                return Incoming::Closed { code };
            }
            match message_at(&self.buffer, &mut self.taken) {
                Ok(Some(text)) => return Incoming::Message(text.to_owned()),
                Ok(None) => drop(self.buffer.drain(..std::mem::take(&mut self.taken))),
                Err(Garbled) => {
                    self.connection.close(VarInt::from(CloseCode::Protocol as u16), b"");
                    self.end = Some(None);
                    continue;
                }
            }
            match self.stream.read_chunk(limits::QUEUE_BYTES, true).await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                Err(ReadError::ConnectionLost(error)) => self.end = Some(code_of(&error)),
                Ok(None) | Err(_) => {
                    let reason = tokio::time::timeout(REASON_TIMEOUT, self.connection.closed()).await;
                    self.end = Some(reason.ok().and_then(|error| code_of(&error)));
                }
            }
        }
    }
}

/// What came is not a message of a relay.
#[derive(Debug, PartialEq, Eq)]
struct Garbled;

/// The whole message that begins at `taken`, which then moves behind it.
fn message_at<'a>(buffer: &'a [u8], taken: &mut usize) -> Result<Option<&'a str>, Garbled> {
    let Some((head, rest)) = buffer.get(*taken..).and_then(<[u8]>::split_first_chunk::<HEAD>) else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*head) as usize;
    if !(1..=limits::QUEUE_BYTES).contains(&length) {
        return Err(Garbled);
    }
    let Some(text) = rest.get(..length) else { return Ok(None) };
    let text = std::str::from_utf8(text).map_err(|_| Garbled)?;
    *taken += HEAD + length;
    Ok(Some(text))
}

fn code_of(error: &ConnectionError) -> Option<u16> {
    match error {
        ConnectionError::ApplicationClosed(close) => u16::try_from(close.error_code.into_inner()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Garbled, message_at};

    #[test]
    fn messages_are_taken_whole_however_they_arrive() {
        let wire: Vec<u8> = ["{}", "1", "häh"]
            .iter()
            .flat_map(|text| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat())
            .collect();
        for step in 1..wire.len() {
            let (mut buffer, mut taken, mut found) = (Vec::new(), 0, Vec::new());
            for piece in wire.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(text) = message_at(&buffer, &mut taken).expect("sound") {
                    found.push(text.to_owned());
                }
            }
            assert_eq!((found.join("|").as_str(), taken), ("{}|1|häh", wire.len()), "in pieces of {step}");
        }
    }

    #[test]
    fn a_length_past_the_limit_an_empty_message_and_broken_text_are_refused() {
        for wire in [&[0, 4, 0, 1][..], &[255; 8], &[0; 4], &[0, 0, 0, 1, 0xff]] {
            assert_eq!(message_at(wire, &mut 0), Err(Garbled), "{wire:?}");
        }
    }
}
