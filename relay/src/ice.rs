//! The STUN and TURN servers a participant is told of, with TURN credentials that hold for a limited time.
//! Never asks a TURN server anything: it and the relay share a secret and a clock.
//!
//! The scheme is the one coturn calls `use-auth-secret` ("A REST API For Access To TURN Services",
//! <https://datatracker.ietf.org/doc/html/draft-uberti-behave-turn-rest-00>):
//! `username = <unix time of expiry>:<room>.<participant>`, `credential = base64(HMAC-SHA1(secret, username))`.
//!
//! Security considerations: SHA-1 is what the servers speak, and HMAC does not lean on its weak side. Whoever has a
//! credential can relay traffic until it expires, so it names room and participant, for quotas and for the log of the
//! TURN server. The secret has no `Debug` and is wiped when dropped.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use snug_room_proto::IceServerSource;
use snug_wire::{IceServer, RoomId, UserId};
use zeroize::Zeroizing;

/// A public server, for those who ask for it. Whoever runs it learns the addresses of those who use it.
pub(crate) const PUBLIC_STUN: &str = "stun:stun.l.google.com:19302";

/// What the relay shares with its TURN servers.
pub(crate) struct TurnSecret(Zeroizing<Vec<u8>>);

impl TurnSecret {
    /// Takes the secret as it stands in a file or a variable; line ends and blanks around it do not count.
    /// `None` when nothing is left.
    pub(crate) fn new(text: String) -> Option<Self> {
        let text = Zeroizing::new(text);
        let trimmed = text.trim();
        (!trimmed.is_empty()).then(|| Self(Zeroizing::new(trimmed.as_bytes().to_vec())))
    }

    fn credential(&self, username: &str) -> String {
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(username.as_bytes());
        BASE64.encode(&mac.finalize().into_bytes())
    }
}

/// A `stun:`, `turn:` or `turns:` URL (RFC 7064, RFC 7065).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IceUrl {
    text: String,
    needs_credential: bool,
}

/// Why a text is not such a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IceUrlError {
    /// Another scheme, or none.
    #[error("does not begin with stun:, turn: or turns:")]
    Scheme,
    /// `//` behind the scheme, as in web addresses.
    #[error("has // behind its scheme, which these addresses do not have")]
    Slashes,
    /// No host, or characters that no host has.
    #[error("has no valid host name or address")]
    Host,
    /// Not between 1 and 65535.
    #[error("has no valid port")]
    Port,
    /// Something else than `?transport=udp` or `?transport=tcp` behind a TURN server, or anything behind a STUN server.
    #[error("may only be followed by ?transport=udp or ?transport=tcp, and that only for turn: and turns:")]
    Query,
}

impl IceUrl {
    /// Checks `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, IceUrlError> {
        let (scheme, rest) = text.split_once(':').ok_or(IceUrlError::Scheme)?;
        let needs_credential = match scheme {
            "stun" | "stuns" => false,
            "turn" | "turns" => true,
            _ => return Err(IceUrlError::Scheme),
        };
        if rest.starts_with("//") {
            return Err(IceUrlError::Slashes);
        }
        let (authority, query) =
            rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        match query {
            None => {}
            Some("transport=udp" | "transport=tcp") if needs_credential => {}
            Some(_) => return Err(IceUrlError::Query),
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((address, port)) => {
                address.parse::<std::net::Ipv6Addr>().map_err(|_| IceUrlError::Host)?;
                (address, port.strip_prefix(':').or_else(|| (!port.is_empty()).then_some("")))
            }
            None => {
                let (host, port) =
                    authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
                let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
                if !host.bytes().all(valid) {
                    return Err(IceUrlError::Host);
                }
                (host, port)
            }
        };
        if host.is_empty() {
            return Err(IceUrlError::Host);
        }
        if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
            return Err(IceUrlError::Port);
        }
        Ok(Self { text: text.to_owned(), needs_credential })
    }

    /// Whether it is a TURN server.
    pub(crate) fn needs_credential(&self) -> bool {
        self.needs_credential
    }
}

impl fmt::Display for IceUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// The servers and what makes their credentials.
#[derive(Clone)]
pub(crate) struct IceConfig {
    /// In the order in which the operator gave them.
    pub(crate) urls: Vec<IceUrl>,
    /// Present when one of them is a TURN server.
    pub(crate) secret: Option<Arc<TurnSecret>>,
    /// How long a credential holds.
    pub(crate) ttl: Duration,
}

impl IceServerSource for IceConfig {
    /// One entry for STUN and one for TURN, each when there is any.
    fn ice_servers(&self, room: &RoomId, user: UserId, unix: u64) -> Vec<IceServer> {
        let urls = |turn: bool| -> Vec<String> {
            self.urls.iter().filter(|url| url.needs_credential == turn).map(IceUrl::to_string).collect()
        };
        let mut servers = Vec::with_capacity(2);
        let stun = urls(false);
        if !stun.is_empty() {
            servers.push(IceServer { urls: stun, username: None, credential: None });
        }
        let turn = urls(true);
        if let Some(secret) = self.secret.as_ref().filter(|_| !turn.is_empty()) {
            let username = format!("{}:{room}.{user}", unix.saturating_add(self.ttl.as_secs()));
            let credential = secret.credential(&username);
            servers.push(IceServer { urls: turn, username: Some(username), credential: Some(credential) });
        }
        servers
    }

    fn ttl(&self) -> Duration {
        self.ttl
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use snug_room_proto::IceServerSource;
    use snug_wire::{IceServer, RoomId, UserId};

    use super::{IceConfig, IceUrl, IceUrlError, TurnSecret};

    fn config(urls: &[&str]) -> IceConfig {
        IceConfig {
            urls: urls.iter().map(|url| IceUrl::parse(url).expect(url)).collect(),
            secret: TurnSecret::new("north\n".into()).map(Arc::new),
            ttl: Duration::from_secs(3600),
        }
    }

    fn room(id: &str) -> RoomId {
        id.parse().expect("a room id")
    }

    fn user(first: u8) -> UserId {
        UserId::from_bytes(std::array::from_fn(|n| n as u8 + first))
    }

    #[test]
    fn a_credential_is_what_another_tool_computes() {
        // printf '%s' 1764003600:sunny-mountain-42.AAECAwQFBgcICQoLDA0ODw |
        //     openssl dgst -sha1 -hmac north -binary | base64
        let servers = config(&["turn:turn.example.org:3478?transport=udp"]).ice_servers(
            &room("sunny-mountain-42"),
            user(0),
            1_764_000_000,
        );
        let expected = IceServer {
            urls: vec!["turn:turn.example.org:3478?transport=udp".into()],
            username: Some("1764003600:sunny-mountain-42.AAECAwQFBgcICQoLDA0ODw".into()),
            credential: Some("IJHVKEEpyofYu/+ejeAm9IRtNm8=".into()),
        };
        assert_eq!(servers, [expected]);
    }

    #[test]
    fn stun_servers_get_no_credential_and_each_kind_one_entry() {
        let config = config(&["turn:a.example", "stun:b.example:3478", "turns:a.example:5349?transport=tcp"]);
        let servers = config.ice_servers(&room("room-one"), user(0), 0);
        assert_eq!(servers.len(), 2);
        assert_eq!(servers[0].urls, ["stun:b.example:3478"]);
        assert!(servers[0].username.is_none() && servers[0].credential.is_none());
        assert_eq!(servers[1].urls, ["turn:a.example", "turns:a.example:5349?transport=tcp"]);
        assert!(servers[1].username.is_some() && servers[1].credential.is_some());
        let none = IceConfig { urls: Vec::new(), ..config };
        assert!(none.ice_servers(&room("room-one"), user(0), 0).is_empty());
    }

    #[test]
    fn no_two_participants_share_a_credential() {
        let config = config(&["turn:a.example"]);
        let credential =
            |id, first, unix| config.ice_servers(&room(id), user(first), unix)[0].credential.clone();
        let one = credential("room-one", 0, 10);
        assert_eq!(one, credential("room-one", 0, 10));
        for other in [("room-two", 0, 10), ("room-one", 1, 10), ("room-one", 0, 11)] {
            assert_ne!(one, credential(other.0, other.1, other.2));
        }
    }

    #[test]
    fn urls_are_checked_by_their_rfcs() {
        for good in [
            "stun:stun.example.org",
            "stun:192.0.2.1:3478",
            "stuns:stun.example.org:5349",
            "turn:[2001:db8::1]",
            "turn:[2001:db8::1]:3478?transport=tcp",
            super::PUBLIC_STUN,
        ] {
            assert_eq!(IceUrl::parse(good).map(|url| url.to_string()), Ok(good.to_owned()));
        }
        for (bad, error) in [
            ("stun.example.org:3478", IceUrlError::Scheme),
            ("https://example.org", IceUrlError::Scheme),
            ("turn", IceUrlError::Scheme),
            ("turn://turn.example.org", IceUrlError::Slashes),
            ("turn:", IceUrlError::Host),
            ("turn::3478", IceUrlError::Host),
            ("turn:user@turn.example.org", IceUrlError::Host),
            ("turn:[2001:db8::1", IceUrlError::Host),
            ("turn:[nonsense]", IceUrlError::Host),
            ("turn:a.example:0", IceUrlError::Port),
            ("turn:a.example:", IceUrlError::Port),
            ("turn:a.example:65536", IceUrlError::Port),
            ("turn:[2001:db8::1]3478", IceUrlError::Port),
            ("stun:a.example?transport=udp", IceUrlError::Query),
            ("turn:a.example?transport=sctp", IceUrlError::Query),
        ] {
            assert_eq!(IceUrl::parse(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn an_empty_secret_is_none() {
        assert!(TurnSecret::new(" \n".into()).is_none());
    }
}
