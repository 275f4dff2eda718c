//! The same socket buffers for every server, whatever it asked for itself.
//! It sizes sockets from outside, through a copy of the descriptor (`pidfd_getfd`), and never reads from or writes to them.
//!
//! `net.core.rmem_default` is not enough: coturn sets sizes of its own (64 KiB for a relayed address), and a server that loses packets in a
//! short buffer would be compared with one that does not.

use anyhow::{Context, Result};
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::os::fd::{AsFd, BorrowedFd};

/// What every UDP socket of a cell gets in each direction.
pub(super) const SOCKET_BUFFER: usize = 8 << 20;

/// The kernel tells twice what was asked for: the other half is for its own records.
const TOLD_PER_BYTE: usize = 2;

/// Gives all UDP sockets of a process buffers of [`SOCKET_BUFFER`]. Returns the smallest receive buffer that one ended up with.
///
/// # Errors
/// When the kernel does not lend the descriptors: that needs root, or to be the parent of a process that may be traced.
pub(super) fn level(pid: u32) -> Result<usize> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process id is a positive number")?;
    let process = pidfd_open(id, PidfdFlags::empty()).context("pidfd_open")?;
    let mut smallest = usize::MAX;
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let is_socket =
            std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        let Some(number) =
            entry.file_name().to_str().and_then(|name| name.parse().ok()).filter(|_| is_socket)
        else {
            continue;
        };
        let socket = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).context("pidfd_getfd")?;
        if is_udp(socket.as_fd()) {
            smallest = smallest.min(enlarge(socket.as_fd()));
        }
    }
    Ok(smallest)
}

fn is_udp(socket: BorrowedFd<'_>) -> bool {
    let internet = sockopt::socket_domain(socket)
        .is_ok_and(|family| matches!(family, AddressFamily::INET | AddressFamily::INET6));
    internet && sockopt::socket_type(socket).is_ok_and(|kind| kind == SocketType::DGRAM)
}

/// Root may exceed the system's limit; anybody else gets what the limit allows, and the result tells.
fn enlarge(socket: BorrowedFd<'_>) -> usize {
    if sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER);
    }
    if sockopt::set_socket_send_buffer_size_force(socket, SOCKET_BUFFER).is_err() {
        let _ = sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER);
    }
    sockopt::socket_recv_buffer_size(socket).unwrap_or(0) / TOLD_PER_BYTE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_another_descriptor_gets_the_same_size() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let before = sockopt::socket_recv_buffer_size(&socket).expect("a size");
        // A process may borrow its own descriptors without being root.
        let told = level(std::process::id()).expect("own descriptors");
        let after = sockopt::socket_recv_buffer_size(&socket).expect("a size");
        assert!(after >= before && after / TOLD_PER_BYTE >= told);
    }
}
