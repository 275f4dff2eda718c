//! Sockets that listen. Never more than the standard library does, but for one thing: an IPv6 socket can be told to leave
//! IPv4 alone, so that `[::]` and `0.0.0.0` may have the same port.

mod available;

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

pub(crate) use available::{Absence, Again, Available, available, has, has_alone};

/// Connections that wait to be accepted, as the standard library and tokio have it.
const BACKLOG: i32 = 1024;

/// Listens on each of `addresses`. `[::]` takes IPv4 too, unless another of them is for IPv4 at the same port.
///
/// # Errors
/// The first address that cannot be had, and why. Must be called inside the runtime.
pub(crate) fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let one = |address: &SocketAddr| {
        let shares = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
        listen_on(*address, addresses.iter().any(shares))
    };
    addresses.iter().map(|address| one(address).map_err(|error| (*address, error))).collect()
}

/// Listens on one address. `only_v6` keeps `[::]` from taking IPv4 too.
///
/// # Errors
/// When it cannot be had. Must be called inside the runtime.
pub(crate) fn listen_on(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = open(address, Type::STREAM, only_v6)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Takes one address for UDP. `only_v6` keeps `[::]` from taking IPv4 too.
///
/// # Errors
/// When it cannot be had.
pub(crate) fn datagrams(address: SocketAddr, only_v6: bool) -> io::Result<UdpSocket> {
    open(address, Type::DGRAM, only_v6).map(Into::into)
}

/// What an operator can do about an address that cannot be listened on. `option` names it.
pub(crate) fn advice(error: &io::Error, option: &str) -> String {
    match (Absence::of(error), error.kind()) {
        (Some(Absence::Family), _) => {
            format!("this system does not have that family of addresses; give another address with {option}")
        }
        (Some(Absence::Address), _) => {
            format!("no interface of this machine has that address; give another with {option}")
        }
        (None, io::ErrorKind::AddrInUse) => {
            format!(
                "another program has it, perhaps another relay; end that, or give another address with {option}"
            )
        }
        (None, io::ErrorKind::PermissionDenied) => format!(
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE; give it to the relay, or another port with {option}"
        ),
        (None, _) => format!("give another address with {option}"),
    }
}

/// Whether another socket has this port of this address, for UDP or for TCP.
pub(crate) fn is_taken(address: SocketAddr, kinds: &[Type]) -> bool {
    let in_use = |error: io::Error| error.kind() == io::ErrorKind::AddrInUse;
    kinds.iter().any(|kind| {
        let tried = open(address, *kind, true)
            .and_then(|socket| if *kind == Type::STREAM { socket.listen(1) } else { Ok(()) });
        tried.is_err_and(in_use)
    })
}

fn open(address: SocketAddr, kind: Type, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    if kind == Type::STREAM {
        // A port that was listened on a moment ago may still have connections that are going.
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, UdpSocket};

    use socket2::Type;

    use super::{has, is_taken, listen};
    use crate::needs;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// Skips the test that calls it otherwise.
    fn has_ipv6() -> bool {
        let has = has(address("[::]:0").ip()).is_ok();
        if !has {
            needs::skip("this machine has no IPv6");
        }
        has
    }

    #[tokio::test]
    async fn all_addresses_of_both_families_may_have_one_port() {
        let v4 = listen(&[address("0.0.0.0:0")]).expect("a free port").remove(0);
        let port = v4.local_addr().expect("bound").port();
        drop(v4);
        if !has_ipv6() {
            return;
        }
        let both =
            [SocketAddr::new(address("[::]:0").ip(), port), SocketAddr::new(address("0.0.0.0:0").ip(), port)];
        assert_eq!(
            listen(&both).map(|listeners| listeners.len()).map_err(|(_, error)| error.to_string()),
            Ok(2)
        );
    }

    #[tokio::test]
    async fn all_of_ipv6_alone_takes_ipv4_too() {
        if !has_ipv6() {
            return;
        }
        let all = listen(&[address("[::]:0")]).expect("a free port").remove(0);
        let port = all.local_addr().expect("bound").port();
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let there = taken.local_addr().expect("bound");
        let (named, error) = listen(&[address("127.0.0.1:0"), there]).expect_err("it is taken");
        assert_eq!((named, error.kind()), (there, std::io::ErrorKind::AddrInUse));
    }

    #[test]
    fn what_is_taken_is_known_for_each_protocol() {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let there = udp.local_addr().expect("bound");
        assert!(is_taken(there, &[Type::DGRAM, Type::STREAM]) && !is_taken(there, &[Type::STREAM]));
        drop(udp);
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let there = tcp.local_addr().expect("bound");
        assert!(is_taken(there, &[Type::DGRAM, Type::STREAM]) && !is_taken(there, &[Type::DGRAM]));
        drop(tcp);
        assert!(!is_taken(there, &[Type::DGRAM, Type::STREAM]));
        assert!(!is_taken(address("203.0.113.7:9"), &[Type::DGRAM]), "not ours is another matter");
    }
}
