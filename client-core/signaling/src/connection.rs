//! A connection that is up: text messages in both directions, whatever carries them.
//! Nothing waits without a limit in here: a write has a time, a message a size.

use std::io;
use std::time::Duration;

use snug_wire::limits;

use crate::error::SendError;
use crate::{quic, websocket};

/// Time for one message to be taken by the transport; a relay that reads nothing for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A QUIC stream: it survives a change of address.
    Quic,
    /// A WebSocket.
    WebSocket,
}

/// What [`Receiver::recv`] brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// One message of the relay, at most 256 KiB.
    Message(String),
    /// The connection is over, and says so again however often it is asked.
    Closed {
        /// The close code of PROTOCOL.md §4; `None` when the connection just broke.
        code: Option<u16>,
    },
}

/// A connection to a relay. Dropping it breaks it off, and the relay holds the seat; [`Connection::close`] says goodbye.
pub struct Connection {
    sender: Sender,
    receiver: Receiver,
}

/// The half that sends.
pub struct Sender(Sending);

/// The half that receives.
pub struct Receiver(Receiving);

enum Sending {
    Quic(quic::Sender),
    WebSocket(websocket::Sender),
}

enum Receiving {
    Quic(quic::Receiver),
    WebSocket(websocket::Receiver),
}

impl From<quic::Halves> for Connection {
    fn from((sender, receiver): quic::Halves) -> Self {
        Self { sender: Sender(Sending::Quic(sender)), receiver: Receiver(Receiving::Quic(receiver)) }
    }
}

impl From<websocket::Halves> for Connection {
    fn from((sender, receiver): websocket::Halves) -> Self {
        Self {
            sender: Sender(Sending::WebSocket(sender)),
            receiver: Receiver(Receiving::WebSocket(receiver)),
        }
    }
}

impl Connection {
    /// What carries it.
    pub fn transport(&self) -> Transport {
        self.sender.transport()
    }

    /// See [`Sender::send`].
    ///
    /// # Errors
    /// When the message is too large or the connection is gone.
    pub async fn send(&mut self, text: &str) -> Result<(), SendError> {
        self.sender.send(text).await
    }

    /// See [`Receiver::recv`].
    pub async fn recv(&mut self) -> Incoming {
        self.receiver.recv().await
    }

    /// The two halves, for a task that waits for both directions at once.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// See [`Sender::rebind`].
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] for a WebSocket; else when no socket is to be had.
    pub fn rebind(&self) -> io::Result<()> {
        self.sender.rebind()
    }

    /// See [`Sender::close`].
    pub async fn close(self, code: u16) {
        self.sender.close(code).await;
    }
}

impl Sender {
    /// What carries it.
    pub fn transport(&self) -> Transport {
        match &self.0 {
            Sending::Quic(_) => Transport::Quic,
            Sending::WebSocket(_) => Transport::WebSocket,
        }
    }

    /// Sends one message. When it is dropped half-way the message may be cut: the connection has to be given up then.
    ///
    /// # Errors
    /// When the message is too large, when the connection is gone, or when the relay takes nothing for 10 s.
    pub async fn send(&mut self, text: &str) -> Result<(), SendError> {
        if text.len() > limits::FRAME {
            return Err(SendError::TooLarge(text.len()));
        }
        let sent = async {
            match &mut self.0 {
                Sending::Quic(sender) => sender.send(text).await,
                Sending::WebSocket(sender) => sender.send(text).await,
            }
        };
        match tokio::time::timeout(WRITE_TIMEOUT, sent).await {
            Ok(sent) => sent.map_err(SendError::Lost),
            Err(_) => Err(SendError::Lost("it takes nothing".into())),
        }
    }

    /// Moves to another local socket, for when this machine's address has changed. The relay follows; nothing is lost.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] for a WebSocket, which has to be opened again; else when no socket is to be had.
    pub fn rebind(&self) -> io::Result<()> {
        match &self.0 {
            Sending::Quic(sender) => sender.rebind(),
            Sending::WebSocket(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Says goodbye once what was sent has arrived, within 1 s. Code 1000 or 1001 gives the seat up at once.
    pub async fn close(self, code: u16) {
        let goodbye = async {
            match self.0 {
                Sending::Quic(sender) => sender.close(code).await,
                Sending::WebSocket(sender) => sender.close(code).await,
            }
        };
        // A relay that is gone cannot be told.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}

impl Receiver {
    /// Waits for the next message or the end. It may be dropped at any time: nothing is lost.
    pub async fn recv(&mut self) -> Incoming {
        match &mut self.0 {
            Receiving::Quic(receiver) => receiver.recv().await,
            Receiving::WebSocket(receiver) => receiver.recv().await,
        }
    }
}
