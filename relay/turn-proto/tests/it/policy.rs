//! The address policy against [`crate::oracle`], and the rows of addresses that other servers let through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use snug_turn_proto::{Denial, PeerPolicy};

use crate::oracle;

fn policy() -> PeerPolicy {
    PeerPolicy {
        allow: Vec::new(),
        own: ["198.41.0.4", "2a02:1::9", "192.168.7.2"].map(|ip| ip.parse().expect("an address")).into(),
        listeners: vec![3478, 5349, 8080],
        ..PeerPolicy::default()
    }
}

fn agrees(policy: &PeerPolicy, allowed: &[(IpAddr, IpAddr)], peer: SocketAddr) -> Result<(), TestCaseError> {
    let expected = oracle::may_be_reached(peer, &policy.own, &policy.listeners, allowed);
    prop_assert_eq!(policy.check(peer).is_ok(), expected, "{}: {:?}", peer, policy.check(peer));
    Ok(())
}

/// Near the edges of ranges, with an IPv4 address inside, or anywhere.
fn addresses() -> impl Strategy<Value = IpAddr> {
    let edges = (any::<prop::sample::Index>(), -3_i64..=3).prop_map(|(index, offset)| {
        let edges = oracle::edges();
        edges[index.index(edges.len())].wrapping_add_signed(offset.into())
    });
    let one_bit = (any::<prop::sample::Index>(), 0..128_u32).prop_map(|(index, bit)| {
        let edges = oracle::edges();
        edges[index.index(edges.len())] ^ (1 << bit)
    });
    let embedded = (any::<u32>(), any::<bool>(), any::<prop::sample::Index>(), any::<prop::sample::Index>())
        .prop_map(|(random, denied, which, how)| {
            let list = oracle::denied_v4();
            let v4 = if denied { list[which.index(list.len())] } else { random };
            let spellings = oracle::spellings(v4);
            u128::from(spellings[how.index(spellings.len())].1)
        });
    let mapped = any::<u32>().prop_map(|v4| (0xffff << 32) | u128::from(v4));
    let own = any::<prop::sample::Index>().prop_map(|index| {
        let own = policy().own;
        oracle::number(own[index.index(own.len())])
    });
    let own_inside = any::<prop::sample::Index>().prop_map(|index| {
        let spellings = oracle::spellings(u32::from(Ipv4Addr::new(198, 41, 0, 4)));
        u128::from(spellings[index.index(spellings.len())].1)
    });
    let number = prop_oneof![
        4 => edges, 2 => one_bit, 4 => embedded, 2 => mapped, 1 => own, 1 => own_inside, 2 => any::<u128>(),
    ];
    // Sometimes as the IPv4 address that it is.
    (number, any::<bool>()).prop_map(|(number, short)| {
        let v6 = Ipv6Addr::from(number);
        v6.to_ipv4_mapped().filter(|_| short).map_or(v6.into(), Into::into)
    })
}

fn ports() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(1023), Just(1024), Just(3478), Just(5349), Just(8080), Just(53), any::<u16>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn the_policy_is_what_intervals_of_numbers_say(ip in addresses(), port in ports()) {
        agrees(&policy(), &[], SocketAddr::new(ip, port))?;
    }

    #[test]
    fn an_allow_list_opens_what_it_names_and_nothing_else(ip in addresses(), port in ports()) {
        let allow = ["10.0.0.0/8", "192.168.7.0/24", "fd00::/8", "127.0.0.0/8", "::1"];
        let policy = PeerPolicy { allow: allow.map(|text| text.parse().expect("a network")).into(), ..policy() };
        let allowed = [
            ("10.0.0.0", "10.255.255.255"), ("192.168.7.0", "192.168.7.255"),
            ("fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ("127.0.0.0", "127.255.255.255"), ("::1", "::1"),
        ].map(|(first, last)| (first.parse().expect("an address"), last.parse().expect("an address")));
        agrees(&policy, &allowed, SocketAddr::new(ip, port))?;
    }

    #[test]
    fn a_network_is_an_interval(number in any::<u128>(), other in any::<u128>(), near in 0..129_u32, bits in 0..=128_u8) {
        let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        let first = number & mask;
        let last = first | !mask;
        let text = format!("{}/{bits}", Ipv6Addr::from(first));
        // Networks of IPv4 have an own spelling.
        prop_assume!(first >> 32 != 0xffff && (first >> 32 != 0 || first < 2));
        let network: snug_turn_proto::Network = text.parse().expect("a network");
        for value in [other, number ^ 1_u128.checked_shl(near).unwrap_or(0), first, last, first.wrapping_sub(1), last.wrapping_add(1)] {
            let inside = (first..=last).contains(&value);
            prop_assert_eq!(network.contains(Ipv6Addr::from(value).into()), inside, "{} in {}", Ipv6Addr::from(value), text);
        }
        let first = (number as u32) & u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
        let network: snug_turn_proto::Network = format!("{}/{}", Ipv4Addr::from(first), bits.min(32)).parse().expect("a network");
        let last = first | !u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
        let value = other as u32;
        prop_assert_eq!(network.contains(Ipv4Addr::from(value).into()), (first..=last).contains(&value));
    }
}

#[test]
fn every_spelling_of_every_denied_ipv4_address_is_denied() {
    let policy = policy();
    for v4 in oracle::denied_v4() {
        let plain = SocketAddr::new(Ipv4Addr::from(v4).into(), 5000);
        assert!(policy.check(plain).is_err(), "{plain}");
        for (name, v6) in oracle::spellings(v4) {
            let peer = SocketAddr::new(v6.into(), 5000);
            assert!(policy.check(peer).is_err(), "{name}: {peer} is {plain}");
            assert!(policy.check_address(peer.ip()).is_err(), "{name}: {peer} is {plain}");
        }
    }
}

#[test]
fn every_spelling_of_an_own_address_is_denied() {
    let policy = policy();
    for own in [Ipv4Addr::new(198, 41, 0, 4), Ipv4Addr::new(192, 168, 7, 2)] {
        assert_eq!(policy.check(SocketAddr::new(own.into(), 5000)), Err(Denial::Own));
        for (name, v6) in oracle::spellings(own.into()) {
            assert!(policy.check(SocketAddr::new(v6.into(), 5000)).is_err(), "{name}");
        }
    }
    assert_eq!(policy.check("[2a02:1::9]:5000".parse().expect("an address")), Err(Denial::Own));
}

#[test]
fn metadata_services_are_denied() {
    let policy = policy();
    for ip in [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.169.123",
        "169.254.0.23", // AWS, GCP, Azure, Tencent
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",    // AWS, GCP over IPv6
        "100.100.100.200", // Alibaba
        "192.0.0.192",     // Oracle
        "168.63.129.16",   // Azure
        "fe80::a9fe:a9fe",
        "fe80::1",
    ] {
        assert_eq!(
            policy.check(SocketAddr::new(ip.parse().expect("an address"), 8080)),
            Err(Denial::Special),
            "{ip}"
        );
    }
}

#[test]
fn ordinary_addresses_pass() {
    let policy = policy();
    for peer in [
        "93.184.216.34:5000",
        "8.8.8.8:1024",
        "[2a00:1450::5]:65535",
        "[64:ff9b::5db8:d822]:5000",
        "[::ffff:93.184.216.34]:5000",
    ] {
        assert_eq!(policy.check(peer.parse().expect("an address")), Ok(()), "{peer}");
    }
}
