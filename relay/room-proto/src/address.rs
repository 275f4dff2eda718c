//! The units in which addresses are limited: a machine, and one customer of one provider, roughly.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 /24 or an IPv6 /56. IPv4 inside IPv6 (`::ffff:a.b.c.d`) counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AddressBlock {
    /// The first three bytes.
    V4([u8; 3]),
    /// The first seven bytes.
    V6([u8; 7]),
}

impl AddressBlock {
    /// The IPv6 /48 that it lies in: what providers give to one site, and anybody can get. IPv4 has nothing like it.
    pub(crate) fn site(self) -> Option<[u8; 6]> {
        match self {
            Self::V4(_) => None,
            Self::V6([a, b, c, d, e, f, _]) => Some([a, b, c, d, e, f]),
        }
    }
}

impl From<IpAddr> for AddressBlock {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl From<Ipv4Addr> for AddressBlock {
    fn from(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        Self::V4([a, b, c])
    }
}

impl From<Ipv6Addr> for AddressBlock {
    fn from(address: Ipv6Addr) -> Self {
        let octets = address.octets();
        let (first, _) = octets.split_first_chunk::<7>().expect("an IPv6 address has 16 bytes");
        Self::V6(*first)
    }
}

/// What one machine, or all behind one home router, have in common: an IPv4 address or an IPv6 /64. IPv4 inside IPv6
/// counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let octets = v6.octets();
                let (first, _) = octets.split_first_chunk::<8>().expect("an IPv6 address has 16 bytes");
                Self::V6(*first)
            }
        }
    }
}

impl Source {
    /// The block that it lies in.
    pub(crate) fn block(self) -> AddressBlock {
        match self {
            Self::V4([a, b, c, _]) => AddressBlock::V4([a, b, c]),
            Self::V6([a, b, c, d, e, f, g, _]) => AddressBlock::V6([a, b, c, d, e, f, g]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> AddressBlock {
        text.parse::<IpAddr>().expect("an address").into()
    }

    #[test]
    fn neighbours_share_a_block_and_others_do_not() {
        assert_eq!(block("192.0.2.1"), block("192.0.2.254"));
        assert_ne!(block("192.0.2.1"), block("192.0.3.1"));
        assert_eq!(block("2001:db8:0:12::1"), block("2001:db8:0:34::1"), "one /56");
        assert_ne!(block("2001:db8:0:100::1"), block("2001:db8:0:200::1"));
        assert_eq!(block("::ffff:192.0.2.7"), block("192.0.2.1"));
    }
    #[test]
    fn a_source_lies_in_its_block() {
        for text in ["192.0.2.7", "2001:db8:0:12::1", "::ffff:192.0.2.7"] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(Source::from(address).block(), AddressBlock::from(address), "{text}");
        }
        let source = |text: &str| Source::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(source("2001:db8:0:12::1"), source("2001:db8:0:12:ffff::1"), "one /64");
        assert_ne!(source("2001:db8:0:12::1"), source("2001:db8:0:13::1"));
    }
}
