//! A room link taken apart, and the relay that it names (PROTOCOL.md §1).
//! Never prints the secret or the token: they have no `Debug` that shows them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::find_link::find_link;
use crate::id::RoomIdError;
use crate::link::RoomSecret;
use crate::{RoomId, Token};

/// What stands before `://`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The page's form.
    Https,
    /// For loopback alone.
    Http,
    /// The apps' form: HTTPS at the same host and port.
    Snug,
}

impl Scheme {
    /// The scheme as it stands in a link.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Snug => "snug",
        }
    }
}

/// What a text says about a room. A text may leave out scheme, host and port; then the reader's own relay is meant.
#[derive(Clone, Debug)]
pub struct FoundLink {
    /// `None` when the text has none.
    pub scheme: Option<Scheme>,
    /// Name or address, lower case, an IPv6 address without its brackets. `None` in `name#secret` and `/room/name`.
    pub host: Option<String>,
    /// `None` when the text has none.
    pub port: Option<u16>,
    /// The room.
    pub room: RoomId,
    /// What seals the room; `None` for a link without a secret.
    pub secret: Option<RoomSecret>,
    /// Shows an owner; only recovery links have it.
    pub owner: Option<Token>,
}

impl FoundLink {
    /// The relay, if the text names one.
    pub fn target(&self) -> Option<Target> {
        let tls = self.scheme != Some(Scheme::Http);
        let port = self.port.unwrap_or(default_port(tls));
        self.host.clone().map(|host| Target { host, port, tls })
    }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

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

/// A room link that names its relay.
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
    #[error("this link starts with {0}:// and a room link with https:// or snug://; copy it again")]
    Scheme(String),
    /// Plain HTTP to another machine: passwords could be read on the way.
    #[error("http:// is for this machine alone; write https://{0}")]
    Insecure(String),
    /// Host or port.
    #[error(
        "the link has no valid host and port; check what stands before /room/ (a name with other letters than a-z is \
         written as xn--…)"
    )]
    Host,
    /// `name#secret` where the relay must be known.
    #[error("the text names a room but no relay; paste the whole link, with the host before /room/")]
    NoHost,
    /// No `/room/…`.
    #[error("the link names a relay but no room; it should go on with /room/ and the room's name")]
    NoRoom,
    /// The room's name.
    #[error("the room's name in the link is not valid: {0}; copy the link again")]
    Room(#[from] RoomIdError),
    /// What stands behind `#`.
    #[error("the part of the link behind # is damaged or cut off; copy the whole link again")]
    Fragment,
    /// Links of several rooms, or of one room with several secrets.
    #[error("the text has links of different rooms; paste one of them alone")]
    Several,
}

impl LinkError {
    /// A word for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotALink => "link_invalid",
            Self::Scheme(_) => "link_scheme",
            Self::Insecure(_) => "link_insecure",
            Self::Host => "link_host",
            Self::NoHost => "link_no_host",
            Self::NoRoom => "link_no_room",
            Self::Room(_) => "link_room",
            Self::Fragment => "link_fragment",
            Self::Several => "link_several",
        }
    }
}

/// Finds the room link in what a person pasted; see [`find_link`]. The link has to name its relay.
///
/// # Errors
/// What is wrong with it, in words for the person who pasted it.
pub fn parse_link(text: &str) -> Result<RoomLink, LinkError> {
    let found = find_link(text)?;
    let target = found.target().ok_or(LinkError::NoHost)?;
    Ok(RoomLink { target, room: found.room, secret: found.secret, owner: found.owner })
}

impl FromStr for Target {
    type Err = LinkError;

    /// Reads a relay's address: `meet.example.org`, `https://meet.example.org:8443/`, or any room link of it.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        if let Ok(link) = parse_link(text) {
            return Ok(link.target);
        }
        let text = text.trim();
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(LinkError::NotALink);
        }
        let (scheme, rest) = text.split_once("://").map_or((None, text), |(word, rest)| (Some(word), rest));
        let scheme = match scheme.map(str::to_ascii_lowercase).as_deref() {
            None | Some("https" | "snug") => Scheme::Https,
            Some("http") => Scheme::Http,
            Some(other) => return Err(LinkError::Scheme(other.to_owned())),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let (host, port) = host_and_port(authority).ok_or(LinkError::Host)?;
        let tls = scheme != Scheme::Http;
        let target = Self { host, port: port.unwrap_or(default_port(tls)), tls };
        target.check_secure()?;
        Ok(target)
    }
}

impl Target {
    /// Host and port as they stand in a URL.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default_port(self.tls) { host } else { format!("{host}:{}", self.port) }
    }

    /// Refuses plain HTTP to another machine.
    pub(crate) fn check_secure(&self) -> Result<(), LinkError> {
        if self.tls || self.is_loopback() { Ok(()) } else { Err(LinkError::Insecure(self.authority())) }
    }

    fn is_loopback(&self) -> bool {
        let name = self.host == "localhost" || self.host.ends_with(".localhost");
        name || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

/// Reads `HOST[:PORT]`; `None` when it is anything else. A host is a DNS name of ASCII labels, an IPv4 address in its one
/// usual form, or an IPv6 address in brackets.
pub(crate) fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let authority = authority.to_ascii_lowercase();
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (canonical(address.parse().ok()?), port)
        }
        None => {
            let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let host = host.strip_suffix('.').unwrap_or(host);
            (is_name(host).then(|| host.to_owned())?, port)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return None,
        Some("") => None,
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0)?)
        }
        Some(_) => return None,
    };
    Some((host, port))
}

fn is_name(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    if host.len() > 253 || !host.split('.').all(label) {
        return false;
    }
    // A name that ends in a number is an IPv4 address to browsers, in forms that hide which.
    let last = host.rsplit('.').next().unwrap_or(host);
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    !numeric || host.parse::<Ipv4Addr>().is_ok()
}

/// The text of RFC 5952 without its form for mapped IPv4 addresses, as browsers write it.
fn canonical(address: Ipv6Addr) -> String {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => format!("::ffff:{high:x}:{low:x}"),
        _ => address.to_string(),
    }
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
            ("Meet.Example.org", "meet.example.org", 443, "meet.example.org"),
            (
                "see snug://meet.example.org:8443/room/abc, please",
                "meet.example.org",
                8443,
                "meet.example.org:8443",
            ),
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
            (&*format!("abc#{SECRET}"), "link_no_host"),
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
}
