//! Which peers may be reached through the server.
//!
//! A relay that reaches everything is a hole into the network it stands in: to the machine itself, to its neighbours, to the cloud's metadata
//! service. So only public addresses are peers, and an operator names what else is one (a LAN installation). Neighbours often have public
//! addresses too: with IPv6 they are the rule, and the firewall that keeps strangers from them stands in front of the whole network, not
//! between it and this machine. So nothing that is on a link of this machine is a peer either.
//!
//! Security considerations: an IPv6 address can carry an IPv4 address in many ways, and each of them was a hole in some TURN server. What is
//! inside is taken out first and has to pass as well. Ports below 1024 are never peers: no NAT maps a client there (RFC 4787, REQ-3), but DNS, NTP
//! and mail servers are there, and somebody who makes a room could make the relay talk to them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::address::canonical;
use crate::network::Network;

/// What may be reached.
#[derive(Debug, Clone, Default)]
pub struct PeerPolicy {
    /// Reached although it is special or on a link of this machine. Of this machine's own addresses only loopback and those that are named singly.
    pub allow: Vec<Network>,
    /// Every address of this machine, and the external ones.
    pub own: Vec<IpAddr>,
    /// Networks that this machine reaches without a router, by any of its interfaces.
    pub on_link: Vec<Network>,
    /// Ports of this machine's own listeners; they are no peers even where `allow` names the address.
    pub listeners: Vec<u16>,
}

/// Why an address is no peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// It is this machine.
    Own,
    /// It is a neighbour of this machine.
    OnLink,
    /// It is a listener of the server.
    Listener,
    /// It is special: loopback, private, multicast, metadata…
    Special,
    /// It is a well-known port, or none.
    Port,
}

/// The IANA registries of special-purpose addresses (RFC 6890 and what followed), with multicast and the metadata services of clouds that sit on
/// public addresses.
const SPECIAL_V4: [Network; 18] = [
    Network::v4(0, 0, 0, 0, 8), // "this network", RFC 791; 0.0.0.0 reaches loopback on Linux
    Network::v4(10, 0, 0, 0, 8), // private, RFC 1918
    Network::v4(100, 64, 0, 0, 10), // carrier-grade NAT, RFC 6598; Alibaba's metadata is 100.100.100.200
    Network::v4(127, 0, 0, 0, 8), // loopback
    Network::v4(168, 63, 129, 16, 32), // Azure's metadata and DNS
    Network::v4(169, 254, 0, 0, 16), // link-local, RFC 3927; 169.254.169.254 is most clouds' metadata
    Network::v4(172, 16, 0, 0, 12), // private, RFC 1918
    Network::v4(192, 0, 0, 0, 24), // IETF protocols, RFC 6890; Oracle's metadata is 192.0.0.192
    Network::v4(192, 0, 2, 0, 24), // documentation, RFC 5737
    Network::v4(192, 31, 196, 0, 24), // AS112, RFC 7535
    Network::v4(192, 52, 193, 0, 24), // AMT, RFC 7450
    Network::v4(192, 88, 99, 0, 24), // 6to4 relays, RFC 7526
    Network::v4(192, 168, 0, 0, 16), // private, RFC 1918
    Network::v4(192, 175, 48, 0, 24), // AS112, RFC 7534
    Network::v4(198, 18, 0, 0, 15), // benchmarks, RFC 2544
    Network::v4(198, 51, 100, 0, 24), // documentation, RFC 5737
    Network::v4(203, 0, 113, 0, 24), // documentation, RFC 5737
    Network::v4(224, 0, 0, 0, 3), // multicast, reserved, broadcast
];

/// Only `2000::/3` is global unicast (RFC 4291 §2.4); these are what is special inside it, and NAT64 outside of it.
const GLOBAL_V6: Network = Network::v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
const NAT64: Network = Network::v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const SPECIAL_V6: [Network; 5] = [
    // IETF protocols, RFC 2928. Teredo is inside, and passes nothing.
    Network::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    Network::v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation, RFC 3849
    Network::v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),     // 6to4, RFC 3056, given up by RFC 7526
    Network::v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), // AS112, RFC 7534
    Network::v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),     // documentation, RFC 9637
];

/// Own addresses that are remembered; each is compared with each new peer.
const MOST_OWN: usize = 256;
/// Below are the ports of services.
const FIRST_PORT: u16 = 1024;

impl PeerPolicy {
    /// Whether `ip` is this machine.
    pub(crate) fn is_own(&self, ip: IpAddr) -> bool {
        let ip = canonical(ip);
        self.own.iter().any(|own| canonical(*own) == ip)
    }

    /// Adds an address of this machine, as a packet that reached it shows: interfaces get addresses later, and some stand on none.
    /// Whether it is one that was not known.
    pub(crate) fn learn(&mut self, ip: IpAddr) -> bool {
        let new = self.own.len() < MOST_OWN && !ip.is_unspecified() && !self.is_own(ip);
        if new {
            self.own.push(ip);
        }
        new
    }

    /// What the machine says of itself takes the place of what it said before; what was `learnt` stays.
    pub(crate) fn replace_own(&mut self, own: Vec<IpAddr>, on_link: Vec<Network>, learnt: &[IpAddr]) {
        self.own = own;
        self.on_link = on_link;
        for ip in learnt {
            self.learn(*ip);
        }
    }

    /// Whether packets may go to `peer`.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, peer: SocketAddr) -> Result<(), Denial> {
        self.check_address(peer.ip())?;
        let ip = canonical(peer.ip());
        if self.is_local(ip) && self.listeners.contains(&peer.port()) {
            return Err(Denial::Listener);
        }
        if peer.port() < FIRST_PORT { Err(Denial::Port) } else { Ok(()) }
    }

    /// Whether packets may go to any port of `ip`. A permission (RFC 8656 §9) is for an address.
    ///
    /// # Errors
    /// Why not.
    pub fn check_address(&self, ip: IpAddr) -> Result<(), Denial> {
        let ip = canonical(ip);
        if self.is_allowed(ip) && (ip.is_loopback() || !self.is_own(ip) || self.is_named(ip)) {
            return Ok(());
        }
        let inside = embedded_v4(ip).map(IpAddr::V4);
        if self.is_own(ip) || inside.is_some_and(|inside| self.is_own(inside)) {
            return Err(Denial::Own);
        }
        if is_special(ip) || inside.is_some_and(is_special) {
            return Err(Denial::Special);
        }
        if self.is_on_link(ip) || inside.is_some_and(|inside| self.is_on_link(inside)) {
            return Err(Denial::OnLink);
        }
        Ok(())
    }

    fn is_on_link(&self, ip: IpAddr) -> bool {
        self.on_link.iter().any(|network| network.contains(ip))
    }

    fn is_allowed(&self, ip: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(ip))
    }

    /// Whether it is allowed by itself. A network that is allowed does not open the machine that stands in it.
    fn is_named(&self, ip: IpAddr) -> bool {
        self.allow.iter().any(|network| network.is_single() && network.contains(ip))
    }

    /// All of 127.0.0.0/8 is this machine, whatever its interfaces say.
    pub(crate) fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || ip.is_unspecified() || self.is_own(ip)
    }
}

fn is_special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => SPECIAL_V4.iter().any(|network| network.contains(ip)),
        IpAddr::V6(_) if NAT64.contains(ip) => false,
        IpAddr::V6(_) => !GLOBAL_V6.contains(ip) || SPECIAL_V6.iter().any(|network| network.contains(ip)),
    }
}

/// The IPv4 address that packets to an IPv6 address end at: behind a NAT64 (RFC 6052 §2.1) or at an ISATAP host (RFC 5214 §6.1). The other ways to
/// put one inside are spellings ([`canonical`]) or denied as a whole.
fn embedded_v4(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = ip else { return None };
    let [.., marker, kind, _, _] = v6.segments();
    let isatap = matches!(marker, 0 | 0x200) && kind == 0x5efe;
    let [.., a, b, c, d] = v6.octets();
    (isatap || NAT64.contains(ip)).then(|| Ipv4Addr::new(a, b, c, d))
}
