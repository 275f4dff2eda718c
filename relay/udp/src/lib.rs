//! UDP sockets for a process that moves many datagrams: [`ReceiveArena`] takes a whole batch in with one system call, [`SendQueue`] sends
//! a round's datagrams with one, and neighbours of equal size travel through the kernel as one.
//! It never blocks, never allocates per datagram once it is warm, knows nothing of STUN or TURN, and never treats a datagram that cannot
//! be sent as more than a lost datagram.
//!
//! Two ways to the system, with the same results:
//! - Linux: `recvmmsg` with `UDP_GRO` (a run of datagrams arrives as one message), `sendmmsg` with `UDP_SEGMENT` (a run leaves as one
//!   message, gathered from many places). All `unsafe` code of the project is there, in `linux.rs`.
//! - Everywhere else, and with [`UdpOptions::per_packet`]: one `recv_from` or `send_to` per datagram.
//!
//! A round of a forwarder:
//!
//! ```no_run
//! # use snug_udp::{ReceiveArena, SendQueue, UdpOptions, UdpSocket};
//! # fn main() -> std::io::Result<()> {
//! let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), &UdpOptions::default())?;
//! let (mut arena, mut queue) = (ReceiveArena::new(64), SendQueue::new());
//! let next_hop = "127.0.0.1:9".parse().unwrap();
//! arena.clear();
//! socket.receive(&mut arena)?;
//! for index in 0..arena.len() {
//!     for body in arena.message(index).datagrams() {
//!         queue.push(0, 0, next_hop, None, b"head", body, 0, 0, &mut arena);
//!     }
//! }
//! let sent = queue.flush(&arena, |_| Some(&socket));
//! # let _ = sent;
//! # Ok(())
//! # }
//! ```
//!
//! To send a run of `K` equal datagrams that lie one behind the other in one buffer, which costs one system call:
//! `socket.send_run(to, &buffer[..K * size], size)`.

mod arena;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
mod plain;
mod queue;
mod socket;

pub use arena::{Datagrams, Message, ReceiveArena};
pub use queue::{SendQueue, Sent};
pub use socket::{UdpOptions, UdpSocket};

/// Datagrams in one run. Kernels before 6.9 take no more.
pub const MAX_SEGMENTS: usize = 64;
/// Bytes of one run: below the 65,507 that one UDP datagram over IPv4 holds, because the kernel builds a run as one such datagram.
pub const MAX_RUN_BYTES: usize = 65_000;
