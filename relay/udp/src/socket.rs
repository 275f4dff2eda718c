//! One UDP socket. It never blocks, and an error that another host caused never comes out of it.

use std::io;
use std::net::{SocketAddr, UdpSocket as StdSocket};
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{MAX_RUN_BYTES, MAX_SEGMENTS, ReceiveArena, Sent};

/// How a socket is set up.
#[derive(Clone, Debug, Default)]
pub struct UdpOptions {
    /// Bytes of kernel memory, at least, for datagrams that wait to be received; the system's default without it. The system may give less.
    pub receive_buffer: Option<usize>,
    /// The same for those that wait to be sent.
    pub send_buffer: Option<usize>,
    /// One system call per datagram, as on systems without runs. Such a socket neither tells nor chooses the address of this machine.
    pub per_packet: bool,
    /// Tell which address of this machine each message was sent to, where the socket is bound to all of them.
    pub learn_destination: bool,
}

/// A bound UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    pub(crate) inner: StdSocket,
    local: SocketAddr,
    /// Whether runs leave as one message. It is taken back for good when the network interface cannot cut them.
    runs: AtomicBool,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    batched: bool,
}

impl UdpSocket {
    /// Binds exactly this address and port; port 0 takes a free one. A socket of IPv6 never takes IPv4's datagrams.
    ///
    /// # Errors
    /// When the system refuses: the address is taken, is not of this machine, or descriptors are used up.
    pub fn bind(address: SocketAddr, options: &UdpOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        size_buffers(&socket, options);
        socket.bind(&address.into())?;
        let inner = StdSocket::from(socket);
        let local = inner.local_addr()?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let batched = !options.per_packet;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let runs = batched && {
            crate::linux::set_up(&inner, local, options.learn_destination)?;
            crate::linux::can_send_runs(&inner)
        };
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let runs = false;
        Ok(Self {
            inner,
            local,
            runs: AtomicBool::new(runs),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            batched,
        })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether runs leave as one message.
    pub fn sends_runs(&self) -> bool {
        self.runs.load(Ordering::Relaxed)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn stop_runs(&self) {
        self.runs.store(false, Ordering::Relaxed);
    }

    /// Whether the system's batch calls are used.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn is_batched(&self) -> bool {
        self.batched
    }

    /// Receives what has arrived, as far as the arena has room, behind the messages that it holds. Returns how many messages were added;
    /// fewer than there was room for means that nothing more waits.
    ///
    /// # Errors
    /// Only those that make the socket useless. What the network reports about earlier sends is passed over.
    pub fn receive(&self, arena: &mut ReceiveArena) -> io::Result<usize> {
        // A socket reports each past trouble of the network once, in place of data. More of them in a row than this are taken for "later".
        for _ in 0..16 {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            let received = if self.batched {
                crate::linux::receive(self, arena)
            } else {
                crate::plain::receive(self, arena)
            };
            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            let received = crate::plain::receive(self, arena);
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if is_the_networks(&error) => {}
                other => return other,
            }
        }
        Ok(0)
    }

    /// Sends `bytes` as datagrams of `segment` bytes each, the last one shorter when it does not come out even. Up to 64 of them and
    /// 65,000 bytes cost one system call.
    ///
    /// # Panics
    /// When `segment` is 0.
    pub fn send_run(&self, to: SocketAddr, bytes: &[u8], segment: usize) -> Sent {
        assert!(segment > 0, "datagrams of no bytes never fill a run");
        let mut sent = Sent::default();
        let at_once = (MAX_RUN_BYTES / segment).clamp(1, MAX_SEGMENTS) * segment;
        for run in bytes.chunks(at_once) {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            if self.batched {
                crate::linux::send_one_run(self, to, run, segment, &mut sent);
                continue;
            }
            crate::plain::send(self, to, run, segment, &mut sent);
        }
        sent
    }
}

#[cfg(unix)]
impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

#[cfg(unix)]
impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

/// Asks for buffers of at least this size; a system that gives less still works, so no answer is an error.
fn size_buffers(socket: &Socket, options: &UdpOptions) {
    // Linux counts its own bookkeeping and doubles what it is asked for; the other systems say what they were told.
    let factor = if cfg!(any(target_os = "linux", target_os = "android")) { 2 } else { 1 };
    let is_less =
        |current: io::Result<usize>, wanted: usize| current.map_or(true, |bytes| bytes < wanted * factor);
    if let Some(bytes) = options.receive_buffer.filter(|bytes| is_less(socket.recv_buffer_size(), *bytes))
        && !force(socket, bytes, Direction::In)
    {
        let _ = socket.set_recv_buffer_size(bytes);
    }
    if let Some(bytes) = options.send_buffer.filter(|bytes| is_less(socket.send_buffer_size(), *bytes))
        && !force(socket, bytes, Direction::Out)
    {
        let _ = socket.set_send_buffer_size(bytes);
    }
}

pub(crate) enum Direction {
    In,
    Out,
}

/// Past the system's limit, for a process that has the privilege.
fn force(socket: &Socket, bytes: usize, direction: Direction) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return crate::linux::force_buffer(socket, bytes, &direction);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (socket, bytes, direction);
        false
    }
}

/// Errors that say something about the network or a moment, not about the socket.
fn is_the_networks(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::Interrupted
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::AddrNotAvailable
            | Kind::PermissionDenied
            | Kind::TimedOut
            | Kind::OutOfMemory
            // ENOBUFS, EMSGSIZE, EPROTO and their like have no kind of their own.
            | Kind::Other
    ) || matches!(error.raw_os_error(), Some(code) if is_passing(code))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_passing(code: i32) -> bool {
    [libc::ENOBUFS, libc::EMSGSIZE, libc::EPROTO, libc::ENOPROTOOPT, libc::EHOSTDOWN, libc::EOPNOTSUPP]
        .contains(&code)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn is_passing(_code: i32) -> bool {
    false
}
