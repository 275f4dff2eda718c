//! Proxies in front of the relay: which are trusted, and who a request that they pass on is from.
//! Never believes a header that did not come through a trusted proxy.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::http::HeaderMap;

use crate::http::Client;

/// Hops of `X-Forwarded-For` that are looked at; a longer chain is somebody's invention.
const MAX_HOPS: usize = 32;

/// A range of addresses, such as `10.0.0.0/8`; a plain address is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// The text is not a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CidrError {
    /// The part before the slash.
    #[error("is not an address or a range of addresses")]
    Address,
    /// The part behind it.
    #[error("has a prefix length that is not between 0 and {0}")]
    Prefix(u8),
    /// Bits behind the prefix.
    #[error("has bits set behind its prefix; the range that it is in is {0}")]
    Host(Cidr),
}

impl Cidr {
    fn new(address: IpAddr, prefix: u8) -> Self {
        let network = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6((u128::from(address) & mask).into())
            }
        };
        Self { network, prefix }
    }

    /// Whether `address` is in the range.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4() && Self::new(address, self.prefix) == *self
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| CidrError::Address)?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => widest,
            Some(text) => {
                text.parse().ok().filter(|bits| *bits <= widest).ok_or(CidrError::Prefix(widest))?
            }
        };
        let cidr = Self::new(address, prefix);
        if cidr.network == address { Ok(cidr) } else { Err(CidrError::Host(cidr)) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix)
    }
}

/// The proxies whose word counts. Clones share the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies(Arc<[Cidr]>);

impl TrustedProxies {
    /// Trusts every address in `ranges`.
    pub(crate) fn new(ranges: Vec<Cidr>) -> Self {
        Self(ranges.into())
    }

    /// Whether `address` is one of them.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }

    /// Who a request is from. `tls` says how the request reached us; a trusted proxy may say otherwise by
    /// `X-Forwarded-Proto`.
    pub(crate) fn client(&self, peer: IpAddr, tls: bool, headers: &HeaderMap) -> Client {
        if !self.contain(peer) {
            return Client { address: peer.to_canonical(), tls, by_proxy: false };
        }
        let values = |name: &str| headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or(""));
        let lines: Vec<&str> = values("x-forwarded-for").collect();
        let protocol = values("x-forwarded-proto").next_back();
        Client {
            address: self.origin(peer, &lines),
            by_proxy: true,
            tls: match protocol.and_then(|line| line.rsplit(',').next()).map(str::trim) {
                Some(protocol) if protocol.eq_ignore_ascii_case("https") => true,
                Some(protocol) if protocol.eq_ignore_ascii_case("http") => false,
                _ => tls,
            },
        }
    }

    /// The socket's peer, unless that is a trusted proxy; then the rightmost entry of `X-Forwarded-For` that is not one
    /// itself. What stands left of it was written by strangers. An entry that is no address ends the search at the proxy
    /// that reported it.
    fn origin(&self, peer: IpAddr, lines: &[&str]) -> IpAddr {
        let mut client = peer.to_canonical();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
        for hop in hops.take(MAX_HOPS) {
            if !self.contain(client) {
                break;
            }
            let Some(address) = parse_hop(hop.trim()) else { break };
            client = address;
        }
        client
    }
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let bare = text.parse().ok();
    let with_port = || text.parse().ok().map(|address: std::net::SocketAddr| address.ip());
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare.or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Cidr, CidrError, TrustedProxies};
    use crate::http::Client;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn ranges_hold_what_they_say() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "8.8.8.8", "::1"),
            ("::/0", "2001:db8::1", "8.8.8.8"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::1"),
        ] {
            let cidr: Cidr = range.parse().expect(range);
            assert!(cidr.contains(ip(inside)), "{inside} in {range}");
            assert!(!cidr.contains(ip(outside)), "{outside} not in {range}");
        }
    }

    #[test]
    fn a_range_that_is_none_says_what_is_wrong() {
        let error = |text: &str| text.parse::<Cidr>().expect_err(text);
        assert_eq!(error("proxy.example"), CidrError::Address);
        assert_eq!(error("10.0.0.0/33"), CidrError::Prefix(32));
        assert_eq!(error("::/129"), CidrError::Prefix(128));
        assert_eq!(error("::/x"), CidrError::Prefix(128));
        assert!(error("10.1.2.3/8").to_string().ends_with("the range that it is in is 10.0.0.0/8"));
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn only_trusted_proxies_may_say_who_is_behind_them() {
        let trusted =
            TrustedProxies::new(["127.0.0.1", "10.0.0.0/8"].map(|text| text.parse().expect(text)).to_vec());
        let client = |peer: &str, lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            trusted.client(ip(peer), false, &headers(&lines)).address
        };
        // Nobody trusted asked.
        assert_eq!(client("198.51.100.1", &["192.0.2.1"]), ip("198.51.100.1"));
        assert_eq!(client("127.0.0.1", &[]), ip("127.0.0.1"));
        assert_eq!(client("127.0.0.1", &["192.0.2.1"]), ip("192.0.2.1"));
        assert_eq!(client("::ffff:127.0.0.1", &["192.0.2.1"]), ip("192.0.2.1"));
        // What the client itself put in the header stands left and does not count.
        assert_eq!(client("127.0.0.1", &["6.6.6.6, 192.0.2.1"]), ip("192.0.2.1"));
        assert_eq!(client("127.0.0.1", &["6.6.6.6", "192.0.2.1, 10.0.0.5"]), ip("192.0.2.1"));
        // Only proxies in the chain: the leftmost.
        assert_eq!(client("127.0.0.1", &["10.0.0.6,10.0.0.5"]), ip("10.0.0.6"));
        // Nonsense ends the search at who reported it.
        assert_eq!(client("127.0.0.1", &["192.0.2.1, unknown"]), ip("127.0.0.1"));
        assert_eq!(client("127.0.0.1", &["192.0.2.1, unknown, 10.0.0.5"]), ip("10.0.0.5"));
        for written in ["192.0.2.1:4711", "192.0.2.1", "::ffff:192.0.2.1", "[::ffff:192.0.2.1]:80"] {
            assert_eq!(client("127.0.0.1", &[written]), ip("192.0.2.1"), "{written}");
        }
        assert_eq!(client("127.0.0.1", &["[2001:db8::1]"]), ip("2001:db8::1"));
    }

    #[test]
    fn only_trusted_proxies_may_say_that_the_browser_speaks_tls() {
        let trusted = TrustedProxies::new(vec!["127.0.0.1".parse().expect("a range")]);
        let tls = |peer: &str, own: bool, lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-proto", *line)).collect();
            let Client { tls, .. } = trusted.client(ip(peer), own, &headers(&lines));
            tls
        };
        assert!(!tls("192.0.2.1", false, &["https"]));
        assert!(tls("127.0.0.1", false, &["HTTPS"]));
        assert!(tls("127.0.0.1", false, &["http", "http, https"]));
        assert!(!tls("127.0.0.1", true, &["https, http"]));
        assert!(tls("127.0.0.1", true, &[]) && tls("127.0.0.1", true, &["gopher"]));
    }

    #[test]
    fn an_endless_chain_is_cut() {
        let trusted = TrustedProxies::new(vec!["0.0.0.0/0".parse().expect("a range")]);
        let line = "10.0.0.1,".repeat(100_000) + "10.0.0.2";
        assert_eq!(trusted.origin(ip("10.0.0.3"), &[&line]), ip("10.0.0.1"));
    }
}
