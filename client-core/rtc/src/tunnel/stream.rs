//! The life of one tunnel.
//!
//! 1. It waits for the library's request for an allocation, and dials. A failure is tried again with growing waits while the library still asks.
//! 2. Frames go out as they come, many in one write; what the server says goes to the socket's inbox.
//! 3. An allocation ends with its stream (RFC 8656 §3.1), so nothing but a new allocation brings a broken one back: another stream is opened when
//!    the library asks for one again, which it does at the next ICE restart.
//! 4. A stream that has carried no data for a minute is of no use and is closed: another path was found.
//! 5. When the socket goes, what waits is still written, and the stream ends.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::Tunnels;
use super::dial::{DialError, Stream};
use super::frame::{self, Frame, Kind};
use super::inbox::Inbox;
use super::queue::Queue;
use super::servers::Server;

/// Waits after failures: the first, doubled each time up to the longest.
const RETRY: Duration = Duration::from_millis(250);
const MOST_RETRY: Duration = Duration::from_secs(8);
/// Without data for so long, no path leads through it.
const IDLE: Duration = Duration::from_secs(60);
/// Time for one batch of writing. A server that takes nothing for so long has gone.
const WRITE: Duration = Duration::from_secs(10);
/// Time for what is left when the socket goes.
const GOODBYE: Duration = Duration::from_secs(1);
const READ: usize = 16 * 1024;

/// One server of one socket.
pub(super) struct Tunnel {
    pub(super) server: Server,
    /// What the library takes for the server's address.
    stand_in: SocketAddr,
    queue: Queue,
    last_data: Mutex<Instant>,
}

/// Why a stream ended.
#[derive(Debug)]
enum End {
    /// The socket has gone.
    Closed,
    /// No data came or went for long.
    Idle,
    /// The server's doing, or the network's.
    Broken(#[expect(dead_code, reason = "it is written to the log")] io::Error),
}

impl Tunnel {
    pub(super) fn new(server: Server, stand_in: SocketAddr) -> Self {
        Self { server, stand_in, queue: Queue::default(), last_data: Mutex::new(Instant::now()) }
    }

    /// Never waits.
    pub(super) fn send(&self, frame: Frame) {
        let now = Instant::now();
        if frame.kind == Kind::Data {
            self.carried_data(now);
        }
        self.queue.push(frame, now);
    }

    pub(super) fn close(&self) {
        self.queue.close();
    }

    fn carried_data(&self, now: Instant) {
        *self.last_data.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    fn idle_for(&self) -> Duration {
        self.last_data.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Runs until the tunnel is closed.
    pub(super) async fn run(self: Arc<Self>, inbox: Arc<Inbox>, tunnels: Arc<Tunnels>) {
        let mut wait = Duration::ZERO;
        while self.queue.wanted().await {
            // It ends early only when there is nothing left to do.
            let _ = timeout(wait, self.queue.closed()).await;
            wait = (wait * 2).clamp(RETRY, MOST_RETRY);
            self.queue.begin();
            let stream = tokio::select! {
                stream = tunnels.dialer.dial(&self.server) => stream,
                () = self.queue.closed() => return,
            };
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(server = %self.server, %error, "no stream to a TURN server");
                    if let DialError::Certificate(cause) = error {
                        tunnels.certificate_problem(&self.server, cause);
                    }
                    continue;
                }
            };
            let end = self.serve(stream, &inbox, &tunnels).await;
            if self.queue.is_allocated() {
                wait = Duration::ZERO;
            }
            let dropped = self.queue.dropped();
            tracing::debug!(server = %self.server, ?end, ?dropped, "a stream ended");
            if matches!(end, End::Closed) {
                return;
            }
            self.queue.begin();
        }
    }

    async fn serve(&self, stream: Box<dyn Stream>, inbox: &Inbox, tunnels: &Tunnels) -> End {
        let (mut reader, mut writer) = tokio::io::split(stream);
        self.carried_data(Instant::now());
        let end = tokio::select! {
            end = self.read(&mut reader, inbox, tunnels) => end,
            end = self.write(&mut writer) => end,
            () = self.idle() => End::Idle,
        };
        // Whether the server hears it makes no difference.
        let _ = timeout(GOODBYE, writer.shutdown()).await;
        end
    }

    async fn idle(&self) {
        while let Some(left) = IDLE.checked_sub(self.idle_for()) {
            tokio::time::sleep(left + Duration::from_millis(1)).await;
        }
    }

    async fn write<W: AsyncWrite + Unpin>(&self, writer: &mut W) -> End {
        let mut batch = Vec::new();
        while self.queue.take(&mut batch).await {
            let written = async {
                writer.write_all(&batch).await?;
                // TLS keeps what the socket does not take.
                writer.flush().await
            };
            let patience = if self.queue.is_closed() { GOODBYE } else { WRITE };
            match timeout(patience, written).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return End::Broken(error),
                Err(_) => {
                    return End::Broken(io::Error::new(io::ErrorKind::TimedOut, "the server takes nothing"));
                }
            }
        }
        End::Closed
    }

    async fn read<R: AsyncRead + Unpin>(&self, reader: &mut R, inbox: &Inbox, tunnels: &Tunnels) -> End {
        // Never longer than the longest frame and one read.
        let mut buffer = Vec::with_capacity(READ);
        loop {
            buffer.reserve(READ);
            match (&mut *reader).take(READ as u64).read_buf(&mut buffer).await {
                Ok(0) => return End::Broken(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => return End::Broken(error),
            }
            let mut cut = 0;
            loop {
                match frame::whole(&buffer[cut..]) {
                    Ok(Some(length)) => {
                        let frame = &buffer[cut..cut + length];
                        if let Err(error) = self.deliver(frame, inbox, tunnels).await {
                            return End::Broken(error);
                        }
                        cut += length;
                    }
                    Ok(None) => break,
                    Err(error) => return End::Broken(io::Error::other(error)),
                }
            }
            buffer.drain(..cut);
        }
    }

    async fn deliver(&self, frame: &[u8], inbox: &Inbox, tunnels: &Tunnels) -> io::Result<()> {
        let Some((kind, datagram)) = frame::incoming(frame) else { return Ok(()) };
        match kind {
            Kind::Data if !self.queue.is_allocated() => {
                return Err(io::Error::other("the server sends data that nobody can have sent"));
            }
            Kind::Data => self.carried_data(Instant::now()),
            Kind::Allocated => {
                tunnels.let_better_go_first(self.server.protocol).await;
                self.queue.set_allocated();
            }
            _ => {}
        }
        tunnels.heard(datagram, self.server.protocol);
        inbox.push(self.stand_in, datagram.to_vec());
        Ok(())
    }
}
