//! What the relay finds out about the machine it runs on: its addresses, and the ports that the system gives away.
//! Never sends a packet: routes are asked for, not tried.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

/// Addresses that stand for "elsewhere": documentation ranges, which no route is special about (RFC 5737, RFC 3849).
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Every address of every interface. Empty when the system does not tell.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.into_iter().map(|interface| interface.ip()).collect()
}

/// The addresses from which this machine reaches others, at most one of each family.
pub(crate) fn outward_addresses() -> Vec<IpAddr> {
    ELSEWHERE.into_iter().filter_map(outward_address).collect()
}

/// To connect a UDP socket is to look up a route; nothing is sent.
fn outward_address(towards: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match towards {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(SocketAddr::new(towards, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}

/// Whether only a network of its own knows the address, or a router that translates it.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            // Carriers have 100.64.0.0/10 for theirs (RFC 6598).
            v4.is_private() || v4.is_link_local() || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// The ports that the system gives to outgoing connections, where it tells.
pub(crate) fn ephemeral_ports() -> Option<RangeInclusive<u16>> {
    parse_range(&std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_whitespace().map(|word| word.parse().ok());
    Some(words.next()??..=words.next()??)
}

/// Whether two ranges have a port in common.
pub(crate) fn overlap(one: &RangeInclusive<u16>, other: &RangeInclusive<u16>) -> bool {
    one.start() <= other.end() && other.start() <= one.end()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{addresses, is_private, outward_addresses, overlap, parse_range};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn loopback_is_an_address_of_every_machine() {
        assert!(addresses().contains(&ip("127.0.0.1")));
    }

    #[test]
    fn what_leads_outside_is_an_address_of_this_machine_and_one_of_a_family() {
        let (outward, all) = (outward_addresses(), addresses());
        assert!(outward.iter().all(|ip| all.contains(ip) && !ip.is_loopback()), "{outward:?} {all:?}");
        assert!(outward.iter().filter(|ip| ip.is_ipv4()).count() <= 1);
        assert!(outward.iter().filter(|ip| ip.is_ipv6()).count() <= 1);
    }

    #[test]
    fn private_addresses_are_known() {
        for private in
            ["10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.1.1", "100.64.0.1", "100.127.255.255"]
        {
            assert!(is_private(ip(private)), "{private}");
        }
        for private in ["fd00::1", "fe80::1", "::ffff:10.0.0.1"] {
            assert!(is_private(ip(private)), "{private}");
        }
        for public in ["203.0.113.7", "100.128.0.1", "172.32.0.1", "2001:db8::1", "::ffff:203.0.113.7"] {
            assert!(!is_private(ip(public)), "{public}");
        }
    }

    #[test]
    fn ranges_of_ports_are_read_and_compared() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!((parse_range(""), parse_range("1"), parse_range("a b")), (None, None, None));
        let (low, high) = (10_000..=20_000, 20_000..=30_000);
        assert!(overlap(&low, &high) && overlap(&high, &low) && overlap(&low, &(0..=65_535)));
        assert!(!overlap(&low, &(20_001..=30_000)) && !overlap(&(1..=2), &low));
    }
}
