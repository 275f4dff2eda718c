//! What the relay finds out about the machine it runs on: its addresses and neighbours, and the ports that the system gives away.
//! Never sends a packet: routes are asked for, not tried.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use if_addrs::IfAddr;
use snug_turn_proto::Network;

/// Addresses that stand for "elsewhere": documentation ranges, which no route is special about (RFC 5737, RFC 3849).
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Networks that begin with fewer bits are no neighbourhood: a route to half of the Internet leads into a tunnel.
const SHORTEST_PREFIX_V4: u8 = 8;
const SHORTEST_PREFIX_V6: u8 = 32;
/// Bytes of a routing table that are read. A machine that routes for others can have a million routes, and its links come first.
const MOST_ROUTES: u64 = 1024 * 1024;

/// Flags of a route (`linux/route.h`, `linux/ipv6_route.h`).
const ROUTE_UP: u32 = 0x1;
const ROUTE_GATEWAY: u32 = 0x2;
const ROUTE_REJECT: u32 = 0x200;

/// Where this machine stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interfaces {
    /// Every address of every interface. Empty when the system does not tell.
    pub(crate) addresses: Vec<IpAddr>,
    /// The networks that are reached without a router.
    pub(crate) on_link: Vec<Network>,
}

/// Asks the system. The prefixes of the interfaces are not all: an address that DHCPv6 gave has a prefix of its own 128 bits, while a
/// router advertisement says what is on the link (RFC 5942), which shows among the routes alone.
pub(crate) fn interfaces() -> Interfaces {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let prefixes = interfaces.iter().map(|interface| match &interface.addr {
        IfAddr::V4(v4) => (IpAddr::from(v4.ip), v4.prefixlen),
        IfAddr::V6(v6) => (IpAddr::from(v6.ip), v6.prefixlen),
    });
    let routes =
        [("/proc/net/route", parse_route_v4 as ParseRoute), ("/proc/net/ipv6_route", parse_route_v6)];
    let routes = routes.into_iter().flat_map(|(file, parse)| {
        let lines = read_routes(file);
        lines.lines().filter_map(parse).collect::<Vec<_>>()
    });
    Interfaces {
        addresses: interfaces.iter().map(if_addrs::Interface::ip).collect(),
        on_link: neighbourhoods(prefixes.chain(routes)),
    }
}

/// Each network once, without those that are too large to be one.
fn neighbourhoods(prefixes: impl Iterator<Item = (IpAddr, u8)>) -> Vec<Network> {
    let near = prefixes.filter(|(ip, bits)| match ip {
        IpAddr::V4(_) => (SHORTEST_PREFIX_V4..=32).contains(bits),
        IpAddr::V6(_) => (SHORTEST_PREFIX_V6..=128).contains(bits),
    });
    let once: BTreeSet<Network> = near.map(|(ip, bits)| Network::around(ip, bits)).collect();
    once.into_iter().collect()
}

/// Reads a line of a routing table: the destination and its prefix length, when it is reached without a router.
type ParseRoute = fn(&str) -> Option<(IpAddr, u8)>;

/// Empty on systems that do not have the table.
fn read_routes(file: &str) -> String {
    let mut text = Vec::new();
    let read = File::open(file).and_then(|file| file.take(MOST_ROUTES).read_to_end(&mut text));
    read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&text).into_owned())
}

/// A line of `/proc/net/route`: interface, destination, gateway, flags, three counters, mask; the addresses as this machine's processor
/// reads their bytes.
fn parse_route_v4(line: &str) -> Option<(IpAddr, u8)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, destination, _, flags, _, _, _, mask, ..] = words.as_slice() else { return None };
    let address =
        |hex: &str| u32::from_str_radix(hex, 16).ok().map(|number| Ipv4Addr::from(number.to_ne_bytes()));
    let bits = u32::from(address(mask)?).leading_ones() as u8;
    is_on_link(flags).then_some((address(destination)?.into(), bits))
}

/// A line of `/proc/net/ipv6_route`: destination and its prefix length, source and its prefix length, gateway, three counters, flags,
/// interface; all in hexadecimal.
fn parse_route_v6(line: &str) -> Option<(IpAddr, u8)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [destination, bits, _, _, _, _, _, _, flags, _] = words.as_slice() else { return None };
    let address = Ipv6Addr::from(u128::from_str_radix(destination, 16).ok()?);
    let bits = u8::from_str_radix(bits, 16).ok()?;
    is_on_link(flags).then_some((address.into(), bits))
}

fn is_on_link(flags: &str) -> bool {
    let flags = u32::from_str_radix(flags, 16).unwrap_or(0);
    flags & (ROUTE_UP | ROUTE_GATEWAY | ROUTE_REJECT) == ROUTE_UP
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

    use snug_turn_proto::Network;

    use super::{
        interfaces, is_private, neighbourhoods, outward_addresses, overlap, parse_range, parse_route_v4,
        parse_route_v6,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn loopback_is_an_address_and_a_link_of_every_machine() {
        let found = interfaces();
        assert!(found.addresses.contains(&ip("127.0.0.1")));
        assert!(found.on_link.iter().any(|network| network.contains(ip("127.200.0.1"))), "{found:?}");
    }

    #[test]
    fn routes_without_a_router_lead_to_neighbours() {
        // As a machine with little-endian bytes writes 203.0.113.0/24.
        let number = |octets| format!("{:08X}", u32::from_ne_bytes(octets));
        let v4 = |flags: &str| {
            let (network, mask) = (number([203, 0, 113, 0]), number([255, 255, 255, 0]));
            parse_route_v4(&format!("eth0\t{network}\t00000000\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0"))
        };
        assert_eq!(v4("0001"), Some((ip("203.0.113.0"), 24)));
        for elsewhere in ["0003", "0201", "0000"] {
            assert_eq!(v4(elsewhere), None, "{elsewhere}");
        }
        // What a router advertises beside an address of 128 bits from DHCPv6.
        let v6 = |flags: &str| {
            let zeros = "0".repeat(32);
            parse_route_v6(&format!(
                "20010db8000100000000000000000000 40 {zeros} 00 {zeros} 00000100 00000001 00000000 {flags}     eth0"
            ))
        };
        assert_eq!(v6("00400001"), Some((ip("2001:db8:1::"), 64)));
        assert_eq!(v6("00450003"), None);
        for broken in ["", "eth0", "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"] {
            assert_eq!((parse_route_v4(broken), parse_route_v6(broken)), (None, None), "{broken}");
        }
    }

    #[test]
    fn a_neighbourhood_is_listed_once_and_half_of_the_internet_is_none() {
        let prefixes = [
            ("203.0.113.7", 24),
            ("203.0.113.9", 24),
            ("0.0.0.0", 0),
            ("128.0.0.0", 1),
            ("2001:db8::7", 64),
            ("2000::", 3),
            ("198.51.100.7", 33),
        ];
        let found = neighbourhoods(prefixes.into_iter().map(|(text, bits)| (ip(text), bits)));
        let expected: Vec<Network> =
            ["203.0.113.0/24", "2001:db8::/64"].map(|text| text.parse().expect("a network")).into();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_leads_outside_is_an_address_of_this_machine_and_one_of_a_family() {
        let (outward, all) = (outward_addresses(), interfaces().addresses);
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
