//! Networks in CIDR notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::address::canonical;

/// All addresses that share their first bits. IPv4 networks do not contain IPv6 addresses, nor the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

/// Why a text is not a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No address before the slash.
    #[error("is not an address or a network such as 192.168.0.0/16")]
    Address,
    /// No number of bits behind it.
    #[error("has no valid prefix length behind the /")]
    Prefix,
    /// Bits are set that are not in the prefix.
    #[error("has bits behind its prefix; write {0}")]
    HostBits(Network),
}

impl Network {
    pub(crate) const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Self { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    pub(crate) const fn v6(first: [u16; 8], bits: u8) -> Self {
        let [a, b, c, d, e, f, g, h] = first;
        Self { first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), bits }
    }

    /// The network of `bits` bits that `ip` lies in: at most 32 of an IPv4 address, 128 of an IPv6 address.
    #[must_use]
    pub fn around(ip: IpAddr, bits: u8) -> Self {
        match ip {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { first: Ipv4Addr::from(u32::from(v4) & mask).into(), bits }
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { first: Ipv6Addr::from(u128::from(v6) & mask).into(), bits }
            }
        }
    }

    /// Whether it is one address.
    pub(crate) fn is_single(&self) -> bool {
        self.bits == if self.first.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `ip` lies in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.first.is_ipv4() && Self::around(ip, self.bits).first == self.first
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let written: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let most = if written.is_ipv4() { 32 } else { 128 };
        let mut bits: u8 = bits.map_or(Ok(most), str::parse).map_err(|_| NetworkError::Prefix)?;
        if bits > most {
            return Err(NetworkError::Prefix);
        }
        // `::ffff:10.0.0.0/104` is 10.0.0.0/8: addresses are compared in their canonical spelling.
        let first = canonical(written);
        if first.is_ipv4() && written.is_ipv6() {
            bits = bits.checked_sub(96).ok_or(NetworkError::Prefix)?;
        }
        let network = Self::around(first, bits);
        if network.first == first { Ok(network) } else { Err(NetworkError::HostBits(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.first, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::{Network, NetworkError};

    #[test]
    fn networks_are_read_and_written_alike() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.168.1.7/32", "::/0", "fd00::/8", "2001:db8::1/128"] {
            assert_eq!(text.parse::<Network>().map(|network| network.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("192.168.1.7".parse::<Network>().map(|n| n.to_string()), Ok("192.168.1.7/32".into()));
        assert_eq!("::ffff:10.0.0.0/104".parse::<Network>().map(|n| n.to_string()), Ok("10.0.0.0/8".into()));
    }

    #[test]
    fn a_wrong_text_is_told_what_is_wrong() {
        assert_eq!("lan".parse::<Network>(), Err(NetworkError::Address));
        assert_eq!("10.0.0.0/".parse::<Network>(), Err(NetworkError::Prefix));
        assert_eq!("10.0.0.0/33".parse::<Network>(), Err(NetworkError::Prefix));
        assert_eq!("::/129".parse::<Network>(), Err(NetworkError::Prefix));
        assert_eq!("::ffff:10.0.0.0/8".parse::<Network>(), Err(NetworkError::Prefix));
        let error = "10.0.0.1/8".parse::<Network>().expect_err("bits behind the prefix");
        assert!(error.to_string().contains("10.0.0.0/8"));
    }
}
