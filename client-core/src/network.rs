//! Watches the addresses of this machine, so that a call moves with a laptop from one network to the next without being told.
//! It only looks, and sends nothing; what a change means for relay and links is the call's. A shell whose system says it better (Android)
//! does without and sends [`crate::Command::NetworkChanged`].

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use if_addrs::IfOperStatus::Unknown;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

/// How often the addresses are read; it costs some 50 µs.
const LOOK: Duration = Duration::from_millis(500);
/// Somewhere in the internet, for asking which address leads there; documentation addresses, to which nothing is sent.
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// What became of this machine's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The address that led into the internet is gone, or was for a while, and there is another way out.
    Moved,
    /// Some other address came or went: what works goes on, and what did not may work again.
    Other,
}

/// Tells of changes until nobody listens.
pub(crate) async fn watch(tell: mpsc::Sender<Change>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = Known { seen: Seen::read().unwrap_or_default(), lost: false };
    while !tell.is_closed() {
        looks.tick().await;
        let Some(seen) = Seen::read() else { continue };
        if let Some(change) = known.look(seen)
            && tell.send(change).await.is_err()
        {
            return;
        }
    }
}

/// What one look shows.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// By interface: the same address on another one is another way out.
    addresses: BTreeSet<(String, IpAddr)>,
    /// Those by which packets leave for the internet.
    ways_out: BTreeSet<IpAddr>,
}

impl Seen {
    /// `None` when the system does not tell.
    fn read() -> Option<Self> {
        let interfaces = if_addrs::get_if_addrs().ok()?;
        let usable = interfaces.into_iter().filter(|one| {
            (one.is_oper_up() || one.oper_status == Unknown) && !one.is_loopback() && !one.is_link_local()
        });
        Some(Self {
            addresses: usable.map(|one| (one.name.clone(), one.ip())).collect(),
            ways_out: ELSEWHERE.into_iter().filter_map(way_to).collect(),
        })
    }
}

fn way_to(ip: IpAddr) -> Option<IpAddr> {
    let any =
        if ip.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(ip, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// What was there at the last look, and whether somebody still has to hear that a way out is gone.
struct Known {
    seen: Seen,
    lost: bool,
}

impl Known {
    fn look(&mut self, seen: Seen) -> Option<Change> {
        let before = std::mem::replace(&mut self.seen, seen);
        let mut gone = before.addresses.difference(&self.seen.addresses);
        // In a network without a way out every address may be the one that counts.
        self.lost |= gone.any(|(_, ip)| before.ways_out.is_empty() || before.ways_out.contains(ip));
        // Without any address there is nowhere to move to.
        if self.seen.addresses.is_empty() {
            return None;
        }
        if std::mem::take(&mut self.lost) {
            return Some(Change::Moved);
        }
        (before.addresses != self.seen.addresses || before.ways_out != self.seen.ways_out)
            .then_some(Change::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Known, Seen};

    fn seen(addresses: &[(&str, &str)], ways_out: &[&str]) -> Seen {
        let ip = |text: &str| text.parse().expect("an address");
        Seen {
            addresses: addresses.iter().map(|(name, text)| ((*name).to_owned(), ip(text))).collect(),
            ways_out: ways_out.iter().map(|text| ip(text)).collect(),
        }
    }

    #[test]
    fn a_cable_that_is_out_for_a_while_is_told_when_it_is_back_in() {
        let home = seen(&[("eth0", "10.0.0.2")], &["10.0.0.2"]);
        let mut known = Known { seen: home.clone(), lost: false };
        assert_eq!(known.look(home.clone()), None);
        assert_eq!(known.look(Seen::default()), None, "there is nothing to move to");
        assert_eq!(known.look(home.clone()), Some(Change::Moved));
        assert_eq!(known.look(home), None, "once is enough");
    }

    #[test]
    fn another_network_is_a_move_and_a_second_one_is_not() {
        let wifi = seen(&[("wlan0", "10.0.0.2")], &["10.0.0.2"]);
        let both = seen(&[("eth0", "10.1.0.2"), ("wlan0", "10.0.0.2")], &["10.1.0.2"]);
        let mut known = Known { seen: wifi.clone(), lost: false };
        assert_eq!(known.look(both.clone()), Some(Change::Other));
        assert_eq!(known.look(wifi), Some(Change::Moved));
        assert_eq!(known.look(seen(&[("wlan0", "10.9.0.2")], &["10.9.0.2"])), Some(Change::Moved));
    }

    #[test]
    fn a_bridge_of_containers_that_goes_moves_nothing() {
        let with = seen(&[("br-1", "172.18.0.1"), ("eth0", "10.1.0.2")], &["10.1.0.2"]);
        let without = seen(&[("eth0", "10.1.0.2")], &["10.1.0.2"]);
        let mut known = Known { seen: with, lost: false };
        assert_eq!(known.look(without), Some(Change::Other));
    }

    #[test]
    fn this_machine_tells_its_addresses_and_never_loopback() {
        let seen = Seen::read().expect("the system tells");
        assert!(seen.addresses.iter().all(|(_, ip)| !ip.is_loopback()), "{seen:?}");
    }
}
