//! What a person pastes: a room link (PROTOCOL.md §1), or the relay's address alone.
//! Never prints the secret or the token: they have no `Debug` that shows them.

use std::net::IpAddr;
use std::str::FromStr;

use snug_wire::link::RoomSecret;
use snug_wire::{RoomId, Token};

/// Longest link that is read, in bytes.
const LONGEST: usize = 2048;

/// A relay, by the name or address in its URL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Name or address, lower case, an IPv6 address without its brackets.
    pub host: String,
    /// The port of HTTPS (TCP) and of QUIC (UDP).
    pub port: u16,
    /// Whether it is `https`. Plain `http` is for loopback alone.
    pub tls: bool,
}

/// A room link, taken apart.
#[derive(Clone, Debug)]
pub struct RoomLink {
    /// The relay.
    pub target: Target,
    /// The room.
    pub room: RoomId,
    /// What seals the room; `None` for a link without a secret.
    pub secret: Option<RoomSecret>,
    /// Shows an owner; only recovery links have it.
    pub owner: Option<Token>,
}

/// Why a text is no link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nothing, or far too much.
    #[error(
        "this is not a room link; paste the whole link, such as https://meet.example.org/room/sunny-mountain-42#…"
    )]
    NotALink,
    /// Another scheme.
    #[error("this link starts with {0}:// and a room link with https://; copy it again")]
    Scheme(String),
    /// Plain HTTP to another machine: passwords could be read on the way.
    #[error("http:// is for this machine alone; write https://{0}")]
    Insecure(String),
    /// Host or port.
    #[error("the link has no valid host and port; check what stands between https:// and /room/")]
    Host,
    /// No `/room/…`.
    #[error("the link names a relay but no room; it should go on with /room/ and the room's name")]
    NoRoom,
    /// The room's name.
    #[error("the room's name in the link is not valid: {0}; copy the link again")]
    Room(#[from] snug_wire::id::RoomIdError),
    /// What stands behind `#`.
    #[error("the part of the link behind # is damaged or cut off; copy the whole link again")]
    Fragment,
}

impl LinkError {
    /// A word for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotALink => "link_invalid",
            Self::Scheme(_) => "link_scheme",
            Self::Insecure(_) => "link_insecure",
            Self::Host => "link_host",
            Self::NoRoom => "link_no_room",
            Self::Room(_) => "link_room",
            Self::Fragment => "link_fragment",
        }
    }
}

/// Reads a room link. Case of scheme, host and room, a missing `https://`, slashes at the end and a query do not matter.
///
/// # Errors
/// What is wrong with it, in words for the person who pasted it.
pub fn parse_link(text: &str) -> Result<RoomLink, LinkError> {
    let (target, path, fragment) = parts(text)?;
    let path = path.trim_matches('/');
    let room = match path.split_once('/') {
        Some((word, room)) if word.eq_ignore_ascii_case("room") && !room.is_empty() => room,
        _ => return Err(LinkError::NoRoom),
    };
    let room = room.to_ascii_lowercase().parse()?;
    let (mut secret, mut owner) = (None, None);
    for part in fragment.split('&').filter(|part| !part.is_empty()) {
        match part.strip_prefix("owner=") {
            Some(token) => owner = Some(token.parse().map_err(|_| LinkError::Fragment)?),
            None if secret.is_none() => secret = Some(part.parse().map_err(|_| LinkError::Fragment)?),
            None => return Err(LinkError::Fragment),
        }
    }
    Ok(RoomLink { target, room, secret, owner })
}

impl FromStr for Target {
    type Err = LinkError;

    /// Reads a relay's address; of a room link, the relay in it.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        parts(text).map(|(target, _, _)| target)
    }
}

impl Target {
    /// Host and port as they stand in a URL.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    fn is_loopback(&self) -> bool {
        let name = self.host == "localhost" || self.host.ends_with(".localhost");
        name || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

/// Relay, path and fragment.
fn parts(text: &str) -> Result<(Target, &str, &str), LinkError> {
    let text = text.trim();
    if text.is_empty() || text.len() > LONGEST || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(LinkError::NotALink);
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let (scheme, rest) = rest.split_once("://").unwrap_or(("https", rest));
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "https" => true,
        "http" => false,
        other => return Err(LinkError::Scheme(other.to_owned())),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = host_and_port(&authority.to_ascii_lowercase(), tls).ok_or(LinkError::Host)?;
    let target = Target { host, port, tls };
    if !tls && !target.is_loopback() {
        return Err(LinkError::Insecure(target.authority()));
    }
    Ok((target, path, fragment))
}

fn host_and_port(authority: &str, tls: bool) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || host.len() > 253 || !host.bytes().all(plain) {
        return None;
    }
    let port = match port {
        None => {
            if tls {
                443
            } else {
                80
            }
        }
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
    };
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::{LinkError, Target, parse_link};

    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODw";
    const OWNER: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    #[test]
    fn a_whole_link_is_taken_apart() {
        let link = parse_link(&format!(
            " HTTPS://Meet.Example.org/Room/Sunny-Mountain-42/?x=1#{SECRET}&owner={OWNER}\n"
        ))
        .expect("a link");
        assert_eq!(link.target, Target { host: "meet.example.org".into(), port: 443, tls: true });
        assert_eq!(link.room.as_str(), "sunny-mountain-42");
        assert_eq!(link.secret.expect("a secret").to_string(), SECRET);
        assert_eq!(link.owner.expect("a token").to_string(), OWNER);
    }

    #[test]
    fn secret_and_owner_are_each_optional() {
        let plain = parse_link("meet.example.org/room/abc").expect("a link");
        assert!(plain.secret.is_none() && plain.owner.is_none() && plain.target.tls);
        let recovery =
            parse_link(&format!("https://meet.example.org/room/abc#owner={OWNER}")).expect("a link");
        assert!(recovery.secret.is_none() && recovery.owner.is_some());
    }

    #[test]
    fn ports_and_addresses_are_read() {
        for (text, host, port, authority) in [
            ("https://[::1]:8443/", "::1", 8443, "[::1]:8443"),
            ("https://[2001:db8::7]", "2001:db8::7", 443, "[2001:db8::7]"),
            ("http://127.0.0.1:8080", "127.0.0.1", 8080, "127.0.0.1:8080"),
            ("http://localhost/room/x", "localhost", 80, "localhost"),
        ] {
            let target: Target = text.parse().expect(text);
            assert_eq!(
                (target.host.as_str(), target.port, target.authority().as_str()),
                (host, port, authority)
            );
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let long = "a".repeat(3000);
        for (text, code) in [
            ("", "link_invalid"),
            ("two words", "link_invalid"),
            (&*long, "link_invalid"),
            ("ftp://meet.example.org/room/abc", "link_scheme"),
            ("http://meet.example.org/room/abc", "link_insecure"),
            ("http://localhost.example.org/room/abc", "link_insecure"),
            ("https:///room/abc", "link_host"),
            ("https://a:b:c/room/abc", "link_host"),
            ("https://[::1/room/abc", "link_host"),
            ("https://user@host/room/abc", "link_host"),
            ("https://host:0/room/abc", "link_host"),
            ("https://host:99999/room/abc", "link_host"),
            ("https://host/", "link_no_room"),
            ("https://host/room/", "link_no_room"),
            ("https://host/room/a", "link_room"),
            ("https://host/room/a/b/c", "link_room"),
            ("https://host/room/abc#tooshort", "link_fragment"),
            (&*format!("https://host/room/abc#{SECRET}&{SECRET}"), "link_fragment"),
            ("https://host/room/abc#owner=x", "link_fragment"),
        ] {
            let error = parse_link(text).expect_err(text);
            assert_eq!(error.code(), code, "{text}: {error}");
        }
        assert_eq!(parse_link("ws://h/room/abc").err(), Some(LinkError::Scheme("ws".into())));
    }

    #[test]
    fn secrets_are_not_printed() {
        let link = parse_link(&format!("https://h/room/abc#{SECRET}&owner={OWNER}")).expect("a link");
        let printed = format!("{link:?}");
        assert!(!printed.contains("AAEC"), "{printed}");
    }

    #[test]
    fn no_cut_or_mangled_link_panics() {
        let whole = format!("https://[2001:db8::7]:8443/room/sünny-mountain-42?q#{SECRET}&owner={OWNER}");
        for (at, _) in whole.char_indices() {
            let _ = parse_link(&whole[..at]);
            let _ = parse_link(&whole[at..]);
            let _ = parse_link(&format!("{}%:]#&{}", &whole[..at], &whole[at..]));
        }
    }
}
