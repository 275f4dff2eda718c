//! Signaling over WebSocket: TCP to the first address that answers, TLS, the handshake at `/ws`, text frames.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use snug_wire::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::addresses::first_of;
use crate::connection::Incoming;
use crate::error::ConnectError;
use crate::{Target, tls};

/// The longest that a `Retry-After` is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

type Socket = WebSocketStream<Box<dyn Stream>>;

/// Both directions of one WebSocket.
pub(crate) type Halves = (Sender, Receiver);

/// Text frames out.
pub(crate) struct Sender(SplitSink<Socket, Message>);

/// Text frames in.
pub(crate) struct Receiver {
    frames: SplitStream<Socket>,
    end: Option<Option<u16>>,
}

/// Opens a WebSocket at one of `addresses`.
pub(crate) async fn connect(
    target: &Target,
    addresses: &[SocketAddr],
    tls: Arc<ClientConfig>,
    user_agent: &str,
) -> Result<Halves, ConnectError> {
    let authority = target.authority();
    let dialled = first_of(addresses, TcpStream::connect).await;
    let stream = dialled.unwrap_or_else(|| Err(io::ErrorKind::AddrNotAvailable.into()));
    let stream = stream.map_err(|error| unreachable(&authority, &error))?;
    // Messages are small and few: waiting to fill packets only adds delay.
    stream.set_nodelay(true).map_err(|error| unreachable(&authority, &error))?;
    let stream: Box<dyn Stream> =
        if target.tls { Box::new(secure(target, stream, tls).await?) } else { Box::new(stream) };
    let scheme = if target.tls { "wss" } else { "ws" };
    let not_a_relay = |answer: String| ConnectError::NotARelay { authority: authority.clone(), answer };
    let uri: Uri =
        format!("{scheme}://{authority}/ws").parse().map_err(|_| not_a_relay("its name is none".into()))?;
    let request = ClientRequestBuilder::new(uri).with_header("User-Agent", user_agent);
    let config = WebSocketConfig::default()
        .max_message_size(Some(limits::QUEUE_BYTES))
        .max_frame_size(Some(limits::QUEUE_BYTES));
    let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    let (socket, _) = opened.map_err(|error| match error {
        tungstenite::Error::Http(answer) => refused(&authority, &answer),
        tungstenite::Error::Io(error) => unreachable(&authority, &error),
        other => not_a_relay(other.to_string()),
    })?;
    let (sink, frames) = socket.split();
    Ok((Sender(sink), Receiver { frames, end: None }))
}

async fn secure(
    target: &Target,
    stream: TcpStream,
    config: Arc<ClientConfig>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ConnectError> {
    let host = target.host.clone();
    let name = ServerName::try_from(host.clone())
        .map_err(|error| ConnectError::NameNotFound { host: host.clone(), cause: error.to_string() })?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            // It took the connection and dropped it: a relay at its cap does that, too.
            return unreachable(&target.authority(), &error);
        };
        match tls::certificate_problem(cause) {
            Some(problem) => ConnectError::Certificate { host: host.clone(), problem },
            None => ConnectError::Tls { host: host.clone(), cause: cause.to_string() },
        }
    })
}

fn unreachable(authority: &str, error: &io::Error) -> ConnectError {
    let authority = authority.to_owned();
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused { authority },
        io::ErrorKind::TimedOut => ConnectError::TimedOut { authority },
        _ => ConnectError::Unreachable { authority, cause: error.to_string() },
    }
}

/// What an answer other than "switching protocols" means.
fn refused(authority: &str, answer: &Response) -> ConnectError {
    let after =
        answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let retry_after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
    match answer.status().as_u16() {
        429 => ConnectError::TooMany { retry_after },
        status @ 500..=599 => ConnectError::Unavailable { status, retry_after },
        status => {
            ConnectError::NotARelay { authority: authority.to_owned(), answer: format!("HTTP {status}") }
        }
    }
}

impl Sender {
    pub(crate) async fn send(&mut self, text: &str) -> Result<(), String> {
        self.0.send(Message::text(text)).await.map_err(|error| error.to_string())
    }

    pub(crate) async fn close(mut self, code: u16) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
        // A relay that is gone cannot be told.
        let _ = self.0.send(Message::Close(Some(frame))).await;
    }
}

impl Receiver {
    pub(crate) async fn recv(&mut self) -> Incoming {
        if let Some(code) = self.end {
            return Incoming::Closed { code };
        }
        let code = loop {
            match self.frames.next().await {
                Some(Ok(Message::Text(text))) => return Incoming::Message(text.as_str().to_owned()),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(frame))) => break frame.map(|frame| frame.code.into()),
                // The relay sends no binary frames and none that is too large: who does is no relay to stay with.
                Some(Ok(Message::Binary(_)) | Err(_)) | None => break None,
            }
        };
        self.end = Some(code);
        Incoming::Closed { code }
    }
}
