//! TURN servers that are reached over a stream, as their URLs name them (RFC 7065), and the stand-ins that the library sees instead.
//! Pure but for the random numbers that make stand-ins impossible to guess.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::stats::RelayProtocol;

/// Port of every stand-in; some others, such as that of multicast DNS, mean something to the library.
const STAND_IN_PORT: u16 = 3478;
/// No name of the Internet ends like this (RFC 6761 §6.4).
const STAND_IN_SUFFIX: &str = ".stream.invalid";

/// A TURN server behind a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Server {
    pub(super) protocol: RelayProtocol,
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Server {
    /// `None` for anything else than a TURN server that this client can reach.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "turn" => false,
            "turns" => true,
            _ => return None,
        };
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let transport = match query {
            "" => None,
            query => Some(query.strip_prefix("transport=")?),
        };
        let protocol = match (secure, transport) {
            (false, None | Some("udp")) => RelayProtocol::Udp,
            (false, Some("tcp")) => RelayProtocol::Tcp,
            (true, None | Some("tcp")) => RelayProtocol::Tls,
            _ => return None,
        };
        let (host, port) = host_and_port(authority)?;
        let port = match port {
            Some(port) => port.parse().ok().filter(|&port| port != 0)?,
            None if secure => 5349,
            None => 3478,
        };
        let sound = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'@' | b'/' | b'[' | b']');
        (!host.is_empty() && host.len() <= 253 && host.bytes().all(sound)).then(|| Self {
            protocol,
            host: host.to_owned(),
            port,
        })
    }
}

/// Splits `host`, `host:port`, `[address]` or `[address]:port`.
fn host_and_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((host, None)),
            rest => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, transport) = match self.protocol {
            RelayProtocol::Udp => ("turn", "udp"),
            RelayProtocol::Tcp => ("turn", "tcp"),
            RelayProtocol::Tls => ("turns", "tcp"),
        };
        match self.host.contains(':') {
            true => write!(f, "{scheme}:[{}]:{}?transport={transport}", self.host, self.port),
            false => write!(f, "{scheme}:{}:{}?transport={transport}", self.host, self.port),
        }
    }
}

/// The addresses that the library sends to instead of a server's, one a family. Nothing on the Internet has them, and nobody can guess them: a
/// remote candidate that named one would be a way to speak to our server.
#[derive(Debug, Clone, Copy)]
pub(super) struct StandIn {
    pub(super) v4: SocketAddr,
    pub(super) v6: SocketAddr,
}

impl StandIn {
    /// In 240.0.0.0/4, which is reserved, and in 100::/64, which is discarded (RFC 6666).
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let (four, six) = (getrandom::u32()?, getrandom::u64()?);
        // The last address of the range is the broadcast address.
        let v4 = Ipv4Addr::from(0xf000_0000 | (four & 0x07ff_ffff));
        let v6 = Ipv6Addr::from(0x0100 << 112 | u128::from(six));
        Ok(Self {
            v4: SocketAddr::new(v4.into(), STAND_IN_PORT),
            v6: SocketAddr::new(v6.into(), STAND_IN_PORT),
        })
    }

    /// Whether an address could be one, at a glance.
    pub(super) fn could_be(address: SocketAddr) -> bool {
        match address {
            SocketAddr::V4(v4) => v4.ip().octets()[0] >= 0xf0,
            SocketAddr::V6(v6) => v6.ip().segments()[..4] == [0x0100, 0, 0, 0],
        }
    }
}

/// The URL under which the library knows server number `number`.
pub(super) fn stand_in_url(number: usize) -> String {
    format!("turn:{number}{STAND_IN_SUFFIX}:{STAND_IN_PORT}?transport=udp")
}

/// The number in a host or URL made by [`stand_in_url`].
pub(super) fn stand_in_number(text: &str) -> Option<usize> {
    let (before, _) = text.split_once(STAND_IN_SUFFIX)?;
    before.strip_prefix("turn:").unwrap_or(before).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_protocol_host_and_port() {
        for (url, wanted) in [
            ("turn:host", "turn:host:3478?transport=udp"),
            ("turn:host:1?transport=udp", "turn:host:1?transport=udp"),
            ("turn:host:3478?transport=tcp", "turn:host:3478?transport=tcp"),
            ("turns:host", "turns:host:5349?transport=tcp"),
            ("TURNS:host:443?transport=tcp", "turns:host:443?transport=tcp"),
            ("turn:[2001:db8::1]?transport=tcp", "turn:[2001:db8::1]:3478?transport=tcp"),
            ("turns:[2001:db8::1]:443", "turns:[2001:db8::1]:443?transport=tcp"),
        ] {
            assert_eq!(Server::parse(url).unwrap().to_string(), wanted, "{url}");
        }
    }

    #[test]
    fn other_urls_are_none() {
        for url in [
            "",
            "turn",
            "turn:",
            "stun:host",
            "turns:host?transport=udp",
            "turn:host?x",
            "turn:host?transport=sctp",
            "turn:host:0",
            "turn:host:70000",
            "turn:user@host",
            "turn:[::1",
            "turn:[::1]1",
            "turn:ho st",
            "turn:2001:db8::1",
        ] {
            assert_eq!(Server::parse(url), None, "{url}");
        }
        assert_eq!(Server::parse(&format!("turn:{}", "a".repeat(254))), None);
    }

    #[test]
    fn stand_ins_are_recognised_and_differ() {
        let (one, two) = (StandIn::random().unwrap(), StandIn::random().unwrap());
        assert!([one.v4, one.v6].into_iter().all(StandIn::could_be));
        assert!(one.v4 != two.v4 && one.v6 != two.v6);
        for other in ["127.0.0.1:3478", "192.0.2.1:1", "[2001:db8::1]:1", "[::1]:3478"] {
            assert!(!StandIn::could_be(other.parse().unwrap()), "{other}");
        }
        assert_eq!(stand_in_number(&stand_in_url(7)), Some(7));
        assert_eq!(stand_in_number("7.stream.invalid:3478"), Some(7));
        for other in ["turn:host:3478", "x.stream.invalid", ".stream.invalid"] {
            assert_eq!(stand_in_number(other), None);
        }
    }
}
