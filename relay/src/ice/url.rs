//! Addresses of STUN and TURN servers as operators write them.
//! Never resolves a name.

use std::fmt;

use super::Host;

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
        let (_, port) = Host::of_authority(authority).ok_or(IceUrlError::Host)?;
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

#[cfg(test)]
mod tests {
    use super::{IceUrl, IceUrlError};

    #[test]
    fn urls_are_checked_by_their_rfcs() {
        for good in [
            "stun:stun.example.org",
            "stun:192.0.2.1:3478",
            "stuns:stun.example.org:5349",
            "turn:[2001:db8::1]",
            "turn:[2001:db8::1]:3478?transport=tcp",
            super::super::PUBLIC_STUN,
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
            ("turn:[2001:db8::1]3478", IceUrlError::Host),
            ("stun:a.example?transport=udp", IceUrlError::Query),
            ("turn:a.example?transport=sctp", IceUrlError::Query),
        ] {
            assert_eq!(IceUrl::parse(bad), Err(error), "{bad}");
        }
    }
}
