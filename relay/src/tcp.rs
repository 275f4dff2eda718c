//! Accepted TCP connections: little may wait in the kernel for a client that does not read, and nothing stays there when the relay is done
//! with a connection.
//! Never knows what is said on them.
//!
//! 1. [`bound`] sets the kernel's limits: bytes that are not acknowledged, bytes that are not even sent, and how long the former may wait.
//! 2. [`Bounded`] ends a connection whose client takes nothing for [`STALL`].
//! 3. A socket that is dropped is aborted: the kernel forgets what it held, and the client hears a reset (RFC 9293 §3.10.5). So whoever ends a
//!    connection in peace says so first, as [`end`] does: the last bytes and the end of the stream go out, and the client has [`GRACE`] to take
//!    them and to close its side. After that the abort does nothing.
//!
//! Security considerations: the kernel would keep 4 MB for each connection, and for a quarter of an hour after the relay has closed it and
//! counts it no longer. The place of a connection is therefore given back when its socket is, and not before.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::listener::Admitted;

/// How long a client may take nothing of what is written to it.
pub(crate) const STALL: Duration = Duration::from_secs(20);
/// How long a client may take to read the end of a connection: what the kernel has not sent yet, over the slowest paths that a page is of use on.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes that the kernel takes before it has sent them. What it holds can be neither dropped nor overtaken.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 32 * 1024;

/// What the kernel may hold for one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes that wait to be sent or acknowledged. The kernel doubles it for its own bookkeeping (`socket(7)`, SO_SNDBUF).
    send_buffer: usize,
    /// How long bytes may wait to be acknowledged, or for the client's window to open (RFC 5482).
    #[cfg_attr(not(any(target_os = "linux", target_os = "android")), expect(dead_code))]
    user_timeout: Duration,
}

/// Messages and pages: no answer is larger, and a client may be out of reach as long as it may be silent.
pub(crate) const MESSAGES: Limits =
    Limits { send_buffer: 128 * 1024, user_timeout: snug_wire::limits::IDLE_TIMEOUT };
/// Relayed media: 20 Mbit/s over a path of 200 ms.
pub(crate) const MEDIA: Limits = Limits { send_buffer: 512 * 1024, user_timeout: STALL };

/// Sets the limits of an accepted connection.
///
/// # Errors
/// When the system refuses them.
pub(crate) fn bound(stream: &TcpStream, limits: Limits) -> io::Result<()> {
    // Messages are small and few and media cannot wait for packets to fill.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(limits.send_buffer)?;
    socket.set_linger(Some(Duration::ZERO))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        socket.set_tcp_notsent_lowat(UNSENT)?;
        socket.set_tcp_user_timeout(Some(limits.user_timeout))?;
    }
    Ok(())
}

/// A connection of the page's listeners, with the place that it takes until its socket is closed.
pub(crate) struct Bounded {
    /// `None` once it is handed to [`end`].
    stream: Option<TcpStream>,
    admitted: Arc<Admitted>,
    /// Runs while a write waits.
    stall: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    /// Takes an accepted connection.
    ///
    /// # Errors
    /// When its limits cannot be set.
    pub(crate) fn new(stream: TcpStream, admitted: Arc<Admitted>) -> io::Result<Self> {
        bound(&stream, MESSAGES)?;
        Ok(Self { stream: Some(stream), admitted, stall: None })
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("it is taken by drop alone"))
    }

    /// Ends the connection when writes have waited for too long.
    fn watch<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        std::task::ready!(stall.as_mut().poll(context));
        self.admitted.abort();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(context, bytes);
        self.watch(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write_vectored(context, parts);
        self.watch(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}

/// Whoever was answered may read the end; whoever said nothing or does not read is cut off.
impl Drop for Bounded {
    fn drop(&mut self) {
        if let (Some(stream), true) = (self.stream.take(), self.admitted.ends_in_peace())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let admitted = self.admitted.clone();
            runtime.spawn(async move {
                end(stream).await;
                drop(admitted);
            });
        }
    }
}

/// Ends a connection in peace: what was written goes out, and the client has [`GRACE`] to close its side.
async fn end(mut stream: TcpStream) {
    let ended = async {
        stream.shutdown().await?;
        // What a client still says is of no interest; that it says no more is.
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    // However it went, the socket is closed, and holds nothing then.
    let _ = tokio::time::timeout(GRACE, ended).await;
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::{Bounded, MEDIA, MESSAGES, bound, end};
    use crate::admission::{Admission, AdmissionConfig, TrustedProxies};
    use crate::listener::{Admitted, Door};
    use crate::metrics::Metrics;

    fn admitted() -> Arc<Admitted> {
        let config = AdmissionConfig {
            max_connections: 1,
            per_block: 1,
            trusted_proxies: TrustedProxies::default(),
            max_half_open: 1,
        };
        let door = Door {
            router: Router::new(),
            tls: None,
            proxies: TrustedProxies::default(),
            admission: Mutex::new(Admission::new(config)),
            metrics: Arc::new(Metrics::default()),
            half_open: Mutex::new(HashMap::new()),
        };
        Arc::new(door).admit([192, 0, 2, 1].into()).expect("the first one")
    }

    /// Both ends of a connection on loopback, the client's first.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.expect("it listens"), accepted.expect("one came").0)
    }

    /// Bytes that the kernel holds for the connection's other end, by `/proc/net/tcp`; `None` when it knows no such connection.
    fn held(local: SocketAddr, remote: SocketAddr) -> Option<usize> {
        let end = |address: SocketAddr| match address.ip() {
            std::net::IpAddr::V4(v4) => {
                format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.octets()), address.port())
            }
            std::net::IpAddr::V6(_) => unreachable!("the tests use IPv4"),
        };
        let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
        let ends = format!("{} {}", end(local), end(remote));
        let line = table.lines().find(|line| line.contains(&ends))?;
        let queues = line.split_whitespace().nth(4).expect("two queues");
        usize::from_str_radix(queues.split(':').next()?, 16).ok()
    }

    /// Writes until nothing more is taken. How much the kernel holds, and both ends of the connection as the relay sees it.
    async fn fill(stream: &mut TcpStream) -> (usize, SocketAddr, SocketAddr) {
        let ends = (stream.local_addr().expect("bound"), stream.peer_addr().expect("connected"));
        // The client's window fills up within some acknowledgements, each of which makes room for more.
        for _ in 0..20 {
            while stream.try_write(&[0; 16 * 1024]).is_ok() {}
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        (held(ends.0, ends.1).expect("it is up"), ends.0, ends.1)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_holds_little_for_a_client_that_does_not_read() {
        for limits in [MESSAGES, MEDIA] {
            let (_deaf, mut stream) = pair().await;
            bound(&stream, limits).expect("limits");
            let (bytes, ..) = fill(&mut stream).await;
            assert!(bytes < 128 * 1024, "{bytes} bytes with {limits:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn nothing_stays_in_the_kernel_when_a_client_is_given_up() {
        let (_deaf, mut stream) = pair().await;
        bound(&stream, MESSAGES).expect("limits");
        let (bytes, local, remote) = fill(&mut stream).await;
        assert!(bytes > 0);
        let mut stream = Bounded { stream: Some(stream), admitted: admitted(), stall: None };
        stream.admitted.spoke();
        stream.admitted.abort();
        stream.flush().await.expect("it is up");
        drop(stream);
        assert_eq!(held(local, remote), None);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_client_that_does_not_read_the_end_is_cut_off_after_its_grace() {
        let (_deaf, mut stream) = pair().await;
        bound(&stream, MESSAGES).expect("limits");
        let (_, local, remote) = fill(&mut stream).await;
        tokio::time::pause();
        end(stream).await;
        assert_eq!(held(local, remote), None);
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_everything_and_a_clean_end() {
        let (mut client, stream) = pair().await;
        let admitted = admitted();
        let mut stream = Bounded::new(stream, admitted.clone()).expect("limits");
        admitted.spoke();
        let reads = tokio::spawn(async move {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.map(|_| all.len())
        });
        stream.write_all(&vec![7; 1_000_000]).await.expect("it reads");
        drop(stream);
        assert_eq!(reads.await.expect("no panic").expect("no reset"), 1_000_000);
    }

    #[tokio::test]
    async fn a_place_is_given_back_with_the_socket_and_not_before() {
        let (client, stream) = pair().await;
        let admitted = admitted();
        let place = Arc::downgrade(&admitted);
        let stream = Bounded::new(stream, admitted).expect("limits");
        stream.admitted.spoke();
        drop(stream);
        tokio::task::yield_now().await;
        assert!(place.upgrade().is_some(), "the client has not closed its side");
        drop(client);
        while place.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (_deaf, mut stream) = pair().await;
        bound(&stream, MESSAGES).expect("limits");
        fill(&mut stream).await;
        let mut stream = Bounded { stream: Some(stream), admitted: admitted(), stall: None };
        stream.admitted.spoke();
        tokio::time::pause();
        let error = stream.write_all(&vec![0; 1_000_000]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(!stream.admitted.ends_in_peace());
    }
}
