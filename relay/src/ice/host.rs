//! The host of a URL: a name or an address.
//! Never a port, a user name or anything that could end the host early: what comes in may be a stranger's header.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The longest name that DNS has.
const MAX_LENGTH: usize = 253;

/// A name or an address as it stands in a URL: IPv6 addresses in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host(Box<str>);

impl Host {
    /// Takes a name, an IPv4 address, or an IPv6 address with or without brackets.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::from(address));
        }
        match text.strip_prefix('[') {
            Some(inner) => {
                inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(|v6| IpAddr::from(v6).into())
            }
            None => {
                let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
                let is_name = (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(valid);
                is_name.then(|| Self(text.to_ascii_lowercase().into()))
            }
        }
    }

    /// Splits `host`, `host:port` or `[v6]:port`, as in a URL or a `Host` header. The port is not looked at.
    pub(crate) fn of_authority(authority: &str) -> Option<(Self, Option<&str>)> {
        let colon = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
        let (host, port) = match colon {
            Some(at) => (&authority[..at], Some(&authority[at + 1..])),
            None => (authority, None),
        };
        // Without brackets a colon belongs to a port, so what is left of it is no IPv6 address.
        let bare_v6 = !host.starts_with('[') && host.contains(':');
        if bare_v6 { None } else { Some((Self::parse(host)?, port)) }
    }

    /// As it stands in a URL.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(v4.to_string().into()),
            IpAddr::V6(v6) => Self(format!("[{v6}]").into()),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Host;

    #[test]
    fn names_and_addresses_are_written_as_urls_have_them() {
        for (written, host) in [
            ("Meet.Example.org", "meet.example.org"),
            ("localhost", "localhost"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8::1", "[2001:db8::1]"),
            ("[2001:db8::1]", "[2001:db8::1]"),
            ("[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]"),
        ] {
            assert_eq!(Host::parse(written).map(|host| host.to_string()).as_deref(), Some(host));
        }
    }

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for (authority, host, port) in [
            ("meet.example.org", "meet.example.org", None),
            ("meet.example.org:8443", "meet.example.org", Some("8443")),
            ("[2001:db8::1]:8443", "[2001:db8::1]", Some("8443")),
            ("[2001:db8::1]", "[2001:db8::1]", None),
            ("127.0.0.1:8080", "127.0.0.1", Some("8080")),
        ] {
            let (found, rest) = Host::of_authority(authority).expect(authority);
            assert_eq!((found.as_str(), rest), (host, port));
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a".repeat(254);
        for bad in [
            "",
            ":",
            ":80",
            "[",
            "[]",
            "[]:80",
            "[::1",
            "::1]",
            "[::1]80",
            "2001:db8::1",
            "a b",
            "a/b",
            "a?transport=tcp",
            "a#b",
            "me@a",
            "a\"b",
            "a\\b",
            "[fe80::1%25eth0]",
            "müller.example",
            "a\r\nb",
            "a,b",
            &long,
        ] {
            assert_eq!(Host::of_authority(bad), None, "{bad:?}");
        }
    }
}
