//! A TURN client of a few lines, over each transport.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use snug_turn_proto::{Transport, frame_length};
use stun_types::AddressFamily;
use stun_types::attribute::{ErrorCode, Nonce, Realm, Username};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageWriteVec, Method,
};
use stun_types::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use turn_types::attribute::{
    ChannelNumber, Lifetime, RequestedAddressFamily, RequestedTransport, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, REFRESH};

/// Loopback answers at once, but the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

enum Wire {
    Datagrams(UdpSocket),
    Stream(Box<dyn Stream>, Vec<u8>),
}

pub(super) struct Client {
    wire: Wire,
    is_v4: bool,
    username: String,
    password: String,
    key: Option<(IntegrityKey, Realm, Nonce)>,
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Success(Option<SocketAddr>),
    Error(u16),
}

impl Client {
    pub(super) async fn connect(
        transport: Transport,
        server: SocketAddr,
        certificate: &CertificateDer<'static>,
        (username, password): (String, String),
    ) -> Self {
        let wire = match transport {
            Transport::Udp => {
                let any = SocketAddr::new(
                    if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() },
                    0,
                );
                let socket = UdpSocket::bind(any).await.expect("a free port");
                socket.connect(server).await.expect("a route");
                Wire::Datagrams(socket)
            }
            Transport::Tcp => Wire::Stream(Box::new(tcp(server).await), Vec::new()),
            Transport::Tls => Wire::Stream(Box::new(tls(server, certificate).await), Vec::new()),
        };
        Self { wire, is_v4: server.is_ipv4(), username, password, key: None }
    }

    /// The socket of a client over UDP.
    pub(super) fn datagrams(&self) -> &UdpSocket {
        match &self.wire {
            Wire::Datagrams(socket) => socket,
            Wire::Stream(..) => panic!("a stream"),
        }
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Datagrams(socket) => {
                socket.send(bytes).await.expect("the server listens");
            }
            Wire::Stream(stream, _) => {
                stream.write_all(bytes).await.expect("the server reads");
                stream.flush().await.expect("the server reads");
            }
        }
    }

    /// One message; `None` when the stream has ended.
    pub(super) async fn receive(&mut self) -> Option<Vec<u8>> {
        timeout(PATIENCE, self.next()).await.expect("nothing came")
    }

    async fn next(&mut self) -> Option<Vec<u8>> {
        match &mut self.wire {
            Wire::Datagrams(socket) => {
                let mut buffer = vec![0; 65_536];
                let length = socket.recv(&mut buffer).await.expect("the server listens");
                buffer.truncate(length);
                Some(buffer)
            }
            Wire::Stream(stream, buffer) => loop {
                if let Some(length) = frame_length(buffer).expect("whole frames")
                    && length <= buffer.len()
                {
                    let rest = buffer.split_off(length);
                    return Some(std::mem::replace(buffer, rest));
                }
                if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
                    assert!(buffer.is_empty(), "the stream ends inside a frame");
                    return None;
                }
            },
        }
    }

    /// Allocates as a browser does: first without, then with credentials.
    pub(super) async fn allocate(&mut self) -> Answer {
        let family = if self.is_v4 { AddressFamily::IPV4 } else { AddressFamily::IPV6 };
        let fill = |message: &mut MessageWriteVec| {
            message.add_attribute(&RequestedTransport::new(17)).expect("it fits");
            // Without it the relayed address is of IPv4, whatever the client came by.
            message.add_attribute(&RequestedAddressFamily::new(family)).expect("it fits");
        };
        let mut first = Message::builder_request(ALLOCATE, MessageWriteVec::new());
        fill(&mut first);
        self.send(&first.finish()).await;
        let challenge = self.receive().await.expect("a challenge");
        let challenge = Message::from_bytes(&challenge).expect("a message");
        let realm = challenge.attribute::<Realm>().expect("a realm");
        let nonce = challenge.attribute::<Nonce>().expect("a nonce");
        let credentials = LongTermKeyCredentials::new(
            self.username.clone(),
            self.password.clone(),
            realm.realm().to_owned(),
        );
        let realm = Realm::new(realm.realm()).expect("short");
        let nonce = Nonce::new(nonce.nonce()).expect("short");
        self.key = Some((credentials.make_key(IntegrityAlgorithm::Sha1), realm, nonce));
        self.request(ALLOCATE, fill).await
    }

    /// Allocates and must succeed.
    pub(super) async fn relayed(&mut self) -> SocketAddr {
        match self.allocate().await {
            Answer::Success(Some(relayed)) => relayed,
            other => panic!("no allocation: {other:?}"),
        }
    }

    pub(super) async fn refresh(&mut self, seconds: u32) -> Answer {
        self.request(REFRESH, |message| message.add_attribute(&Lifetime::new(seconds)).expect("it fits"))
            .await
    }

    pub(super) async fn bind(&mut self, channel: u16, peer: SocketAddr) -> Answer {
        self.request(CHANNEL_BIND, |message| {
            message.add_attribute(&ChannelNumber::new(channel)).expect("it fits");
            let transaction = message.transaction_id();
            message.add_attribute(&XorPeerAddress::new(peer, transaction)).expect("it fits");
        })
        .await
    }

    pub(super) async fn binding(&mut self) -> Answer {
        let request = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
        self.send(&request).await;
        self.answer().await
    }

    async fn request(&mut self, method: Method, fill: impl FnOnce(&mut MessageWriteVec)) -> Answer {
        let mut message = Message::builder_request(method, MessageWriteVec::new());
        fill(&mut message);
        let (key, realm, nonce) = self.key.as_ref().expect("allocate comes first");
        message.add_attribute(&Username::new(&self.username).expect("short")).expect("it fits");
        message.add_attribute(realm).expect("it fits");
        message.add_attribute(nonce).expect("it fits");
        message.add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1).expect("it fits");
        self.send(&message.finish()).await;
        self.answer().await
    }

    async fn answer(&mut self) -> Answer {
        let bytes = self.receive().await.expect("an answer");
        let message = Message::from_bytes(&bytes).expect("a message");
        if let Ok(error) = message.attribute::<ErrorCode>() {
            return Answer::Error(error.code());
        }
        let relayed = message.attribute::<XorRelayedAddress>().ok();
        Answer::Success(relayed.map(|relayed| relayed.addr(message.transaction_id())))
    }

    /// Sends `payload` through a channel.
    pub(super) async fn say(&mut self, channel: u16, payload: &[u8]) {
        let mut bytes = channel.to_be_bytes().to_vec();
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(payload);
        if matches!(self.wire, Wire::Stream(..)) {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        self.send(&bytes).await;
    }

    /// What comes through a channel.
    pub(super) async fn hear(&mut self) -> (u16, Vec<u8>) {
        let bytes = self.receive().await.expect("channel data");
        channel_data(&bytes)
    }
}

pub(super) fn channel_data(bytes: &[u8]) -> (u16, Vec<u8>) {
    assert!(matches!(bytes[0], 0x40..=0x4f), "no channel data: {bytes:?}");
    let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    (u16::from_be_bytes([bytes[0], bytes[1]]), bytes[4..4 + length].to_vec())
}

async fn tcp(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).await.expect("the server listens");
    stream.set_nodelay(true).expect("a socket");
    stream
}

async fn tls(
    server: SocketAddr,
    certificate: &CertificateDer<'static>,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp(server).await).await.expect("a handshake")
}
