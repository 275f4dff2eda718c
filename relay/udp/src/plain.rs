//! The portable way: one system call per datagram, through the standard library alone.
//! It never sends or receives runs, and neither tells nor chooses the address of this machine.

use std::io;
use std::net::SocketAddr;

use crate::arena::SLOT_BYTES;
use crate::{Message, ReceiveArena, Sent, UdpSocket};

/// Receives until nothing waits or the arena is full.
pub(crate) fn receive(socket: &UdpSocket, arena: &mut ReceiveArena) -> io::Result<usize> {
    let local = socket.local_addr().ip();
    let to = (!local.is_unspecified()).then_some(local);
    let (mut count, mut troubles) = (0, 0);
    while arena.room() > 0 {
        let start = ReceiveArena::slot(arena.len());
        match socket.inner.recv_from(arena.bytes_mut(start..start + SLOT_BYTES)) {
            Ok((length, from)) => {
                // The flow label is the sender's own business, and would make one address look like many.
                let from = SocketAddr::new(from.ip(), from.port()).with_scope_of(from);
                arena.messages.push(Message { from, to, segment: length, start, end: start + length });
                count += 1;
            }
            Err(error) if count == 0 => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // Told once and then over; what waits behind it is still to be received. A flood of them ends the round early.
            Err(_) if troubles < 16 => troubles += 1,
            Err(_) => break,
        }
    }
    Ok(count)
}

/// Sends `bytes` as datagrams of `segment` bytes; `segment` 0 means one datagram.
pub(crate) fn send(socket: &UdpSocket, to: SocketAddr, bytes: &[u8], segment: usize, sent: &mut Sent) {
    let mut send_one = |datagram: &[u8]| match socket.inner.send_to(datagram, to) {
        Ok(_) => sent.datagrams += 1,
        Err(_) => sent.lost += 1,
    };
    if segment == 0 || bytes.is_empty() {
        return send_one(bytes);
    }
    bytes.chunks(segment).for_each(send_one);
}

trait WithScope {
    fn with_scope_of(self, other: SocketAddr) -> Self;
}

impl WithScope for SocketAddr {
    fn with_scope_of(mut self, other: SocketAddr) -> Self {
        if let (Self::V6(own), Self::V6(other)) = (&mut self, other) {
            own.set_scope_id(other.scope_id());
        }
        self
    }
}
