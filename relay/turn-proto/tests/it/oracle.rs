//! Which addresses are no peers, said a second time: as intervals of 128-bit numbers, with IPv4 inside at `::ffff:0:0`. Shares nothing with the
//! policy under test but the registries that both were written from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// First and last address, as they stand in IANA's registries and in the documentation of clouds.
const DENIED_V4: [(u32, u32); 18] = [
    (0x0000_0000, 0x00ff_ffff), // 0.0.0.0 – 0.255.255.255
    (0x0a00_0000, 0x0aff_ffff), // 10.0.0.0 – 10.255.255.255
    (0x6440_0000, 0x647f_ffff), // 100.64.0.0 – 100.127.255.255
    (0x7f00_0000, 0x7fff_ffff), // 127.0.0.0 – 127.255.255.255
    (0xa83f_8110, 0xa83f_8110), // 168.63.129.16
    (0xa9fe_0000, 0xa9fe_ffff), // 169.254.0.0 – 169.254.255.255
    (0xac10_0000, 0xac1f_ffff), // 172.16.0.0 – 172.31.255.255
    (0xc000_0000, 0xc000_00ff), // 192.0.0.0 – 192.0.0.255
    (0xc000_0200, 0xc000_02ff), // 192.0.2.0 – 192.0.2.255
    (0xc01f_c400, 0xc01f_c4ff), // 192.31.196.0 – 192.31.196.255
    (0xc034_c100, 0xc034_c1ff), // 192.52.193.0 – 192.52.193.255
    (0xc058_6300, 0xc058_63ff), // 192.88.99.0 – 192.88.99.255
    (0xc0a8_0000, 0xc0a8_ffff), // 192.168.0.0 – 192.168.255.255
    (0xc0af_3000, 0xc0af_30ff), // 192.175.48.0 – 192.175.48.255
    (0xc612_0000, 0xc613_ffff), // 198.18.0.0 – 198.19.255.255
    (0xc633_6400, 0xc633_64ff), // 198.51.100.0 – 198.51.100.255
    (0xcb00_7100, 0xcb00_71ff), // 203.0.113.0 – 203.0.113.255
    (0xe000_0000, 0xffff_ffff), // 224.0.0.0 – 255.255.255.255
];

/// Everything that is no global unicast address, and what is special among those.
const DENIED_V6: [(u128, u128); 7] = [
    (0, (0x2000 << 112) - 1),
    (0x2001 << 112, (0x2001_0200 << 96) - 1),
    (0x2001_0db8 << 96, (0x2001_0db9 << 96) - 1),
    (0x2002 << 112, (0x2003 << 112) - 1),
    (0x2620_004f_8000 << 80, (0x2620_004f_8001 << 80) - 1),
    (0x3fff << 112, (0x3fff_1000 << 96) - 1),
    (0x4000 << 112, u128::MAX),
];

const NAT64: u128 = 0x0064_ff9b << 96;
const MAPPED: u128 = 0xffff << 32;

/// As one number, whatever the family.
pub fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => MAPPED + u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The IPv4 address that a number ends at, if it does.
pub fn inside(number: u128) -> Option<u32> {
    let low = (number % (1 << 32)) as u32;
    let high = number >> 32;
    let interface = (high as u32) & 0xfdff_ffff;
    let is_spelling = high == 0xffff || (high == 0 && low > 1);
    let is_nat64 = high == NAT64 >> 32;
    let is_isatap = interface == 0x0000_5efe;
    (is_spelling || is_nat64 || is_isatap).then_some(low)
}

fn within<T: PartialOrd + Copy>(ranges: &[(T, T)], value: T) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&value))
}

/// Whether it is denied by what it is.
pub fn is_special(ip: IpAddr) -> bool {
    let number = number(ip);
    let v4_denied = inside(number).is_some_and(|v4| within(&DENIED_V4, v4));
    let high = number >> 32;
    let is_v4_only = high == 0xffff || (high == 0 && number > 1) || high == NAT64 >> 32;
    v4_denied || (!is_v4_only && within(&DENIED_V6, number))
}

/// Whether packets may go to `peer`, for a server with `own` addresses and `listeners` there that allows `allowed` (first and last address).
pub fn may_be_reached(
    peer: SocketAddr,
    own: &[IpAddr],
    listeners: &[u16],
    allowed: &[(IpAddr, IpAddr)],
) -> bool {
    let one = one_spelling(number(peer.ip()));
    let is_own = |value: u128| own.iter().any(|own| one_spelling(number(*own)) == value);
    let is_allowed = allowed.iter().any(|(first, last)| (number(*first)..=number(*last)).contains(&one));
    let loopback = one == 1 || one == 0 || (one >> 32 == 0xffff && matches!((one as u32) >> 24, 127));
    let is_zero = one == MAPPED;
    if (loopback || is_zero || is_own(one)) && listeners.contains(&peer.port()) {
        return false;
    }
    let is_named = allowed.iter().any(|(first, last)| number(*first) == one && number(*last) == one);
    if is_allowed && (loopback || !is_own(one) || is_named) {
        return peer.port() >= 1024;
    }
    let ends_at_own = inside(one).is_some_and(|v4| is_own(MAPPED + u128::from(v4)));
    peer.port() >= 1024 && !is_own(one) && !ends_at_own && !is_special(Ipv6Addr::from(one).into())
}

/// IPv4 inside IPv6 where that is only a spelling.
fn one_spelling(number: u128) -> u128 {
    if number >> 32 == 0 && number > 1 { MAPPED + number } else { number }
}

/// First and last addresses of all the ranges.
pub fn edges() -> Vec<u128> {
    let v4 = DENIED_V4.iter().flat_map(|(first, last)| [*first, *last]);
    let v6 = DENIED_V6.iter().flat_map(|(first, last)| [*first, *last]);
    v4.map(|value| MAPPED + u128::from(value)).chain(v6).collect()
}

/// The ways to write an IPv4 address as an IPv6 address that lead to it somewhere.
pub fn spellings(v4: u32) -> Vec<(&'static str, Ipv6Addr)> {
    let low = u128::from(v4);
    [
        ("mapped", MAPPED | low),
        ("compatible", low),
        ("translated (SIIT)", (0xffff << 48) | low),
        ("NAT64", NAT64 | low),
        ("NAT64 with a local prefix", (0x0064_ff9b_0001 << 80) | low),
        ("6to4", (0x2002 << 112) | (low << 80) | 1),
        ("Teredo server", (0x2001 << 112) | (low << 64) | 0xffff),
        ("Teredo client", (0x2001 << 112) | (0x0808_0808 << 64) | (low ^ 0xffff_ffff)),
        ("ISATAP", (0x2a00_1450 << 96) | (0x5efe << 32) | low),
        ("ISATAP, globally unique", (0x2a00_1450 << 96) | (0x0200_5efe << 32) | low),
        ("ISATAP, link-local", (0xfe80 << 112) | (0x5efe << 32) | low),
    ]
    .into_iter()
    .map(|(name, number)| (name, Ipv6Addr::from(number)))
    .collect()
}

/// First and last address of every denied IPv4 range, and one between.
pub fn denied_v4() -> Vec<u32> {
    DENIED_V4.iter().flat_map(|(first, last)| [*first, *last, first + (last - first) / 2]).collect()
}
