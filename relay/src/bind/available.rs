//! Which of the addresses that an operator names this machine has: kernels are built or booted without IPv6, containers
//! are run without it, and addresses are taken away from interfaces. What is missing is said; the rest is served.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use tracing::warn;

/// What there is of a list of addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Available {
    /// To listen on, in the order of what was wanted.
    pub(crate) addresses: Vec<SocketAddr>,
    /// What is not there.
    pub(crate) missing: Vec<Missing>,
}

/// An address that this machine does not have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) address: SocketAddr,
    absence: Absence,
    /// What is listened on in its place.
    instead: Option<SocketAddr>,
}

/// When what is missing is looked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// At the next start of the relay.
    Restart,
    /// Whoever listens tries again.
    ByItself,
}

/// Why an address cannot be listened on, whoever else may listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The system makes no sockets of this family (`EAFNOSUPPORT`).
    Family,
    /// No interface has the address (`EADDRNOTAVAIL`).
    Address,
}

impl Absence {
    /// `None` for every other reason, such as a port that is taken or that needs a privilege.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) {
            return Some(Self::Family);
        }
        (error.kind() == io::ErrorKind::AddrNotAvailable).then_some(Self::Address)
    }
}

/// Asks `probe` for each address. `[::]`, which without IPv6 would keep everybody out, is replaced by `0.0.0.0` at the
/// same port, unless an IPv4 address that is there is wanted at that port.
pub(crate) fn available(wanted: &[SocketAddr], probe: impl Fn(IpAddr) -> Result<(), Absence>) -> Available {
    let mut found = Available::default();
    for &address in wanted {
        let Err(absence) = probe(address.ip()) else {
            found.addresses.push(address);
            continue;
        };
        // By what is there itself, or takes another one's place.
        let is_served = |ip: IpAddr| {
            let covers = |other: &SocketAddr| {
                let meets = other.ip() == ip || other.ip().is_unspecified() || ip.is_unspecified();
                other.port() == address.port() && other.is_ipv4() && meets
            };
            let is_there = |other: &&SocketAddr| probe(other.ip()).is_ok();
            found.addresses.iter().chain(wanted.iter().filter(is_there)).any(covers)
        };
        let instead = in_ipv4(address.ip())
            .filter(|ip| !is_served(*ip) && probe(*ip).is_ok())
            .map(|ip| SocketAddr::new(ip, address.port()));
        found.addresses.extend(instead);
        found.missing.push(Missing { address, absence, instead });
    }
    found
}

/// The IPv4 address that an IPv6 listener stands for as well.
fn in_ipv4(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some(Ipv4Addr::UNSPECIFIED.into()),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map(IpAddr::V4),
        IpAddr::V4(_) => None,
    }
}

/// Whether this machine has `ip`.
///
/// # Errors
/// When it has not. Other problems are for whoever listens.
pub(crate) fn has(ip: IpAddr) -> Result<(), Absence> {
    let bound = |address: SocketAddr| -> io::Result<()> {
        Socket::new(Domain::for_address(address), Type::DGRAM, None)?.bind(&address.into())
    };
    match bound(SocketAddr::new(ip, 0)) {
        Ok(()) => Ok(()),
        Err(error) => Absence::of(&error).map_or(Ok(()), Err),
    }
}

/// As [`has`], where `[::]` is to be IPv6 alone: "any address" can be bound where interfaces have none (`disable_ipv6`),
/// and nobody would come.
///
/// # Errors
/// As [`has`].
pub(crate) fn has_alone(ip: IpAddr) -> Result<(), Absence> {
    has(ip)?;
    let is_any = ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let elsewhere = || crate::machine::interfaces().addresses.iter().any(IpAddr::is_ipv6);
    if is_any && has(Ipv6Addr::LOCALHOST.into()).is_err() && !elsewhere() {
        return Err(Absence::Address);
    }
    Ok(())
}

impl Missing {
    /// One line for the log: what is missing, why, and what happens in its place. `is_alone`: no address is left.
    pub(crate) fn words(&self, option: &str, is_alone: bool) -> String {
        let Self { address, absence, instead } = self;
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        let why = match absence {
            Absence::Family => format!("this system has no {family}"),
            Absence::Address if address.ip().is_unspecified() => {
                format!("no interface has an {family} address")
            }
            Absence::Address => "no interface of this machine has that address".to_owned(),
        };
        let then = match instead {
            Some(instead) => format!("{instead} takes its place"),
            None if is_alone => "nothing is served there".to_owned(),
            None => "the other addresses are served".to_owned(),
        };
        format!("{option} {address} cannot be had, because {why}; {then}")
    }
}

impl Available {
    /// Tells the log of what is missing, and of what is to be done.
    pub(crate) fn warn(&self, option: &str, again: Again) {
        self.lines(option, again).for_each(|line| warn!("{line}"));
    }

    fn lines(&self, option: &str, again: Again) -> impl Iterator<Item = String> {
        let then = match again {
            Again::Restart => "restart the relay when that has changed",
            Again::ByItself => "it is tried again every two seconds",
        };
        let is_alone = self.addresses.is_empty();
        self.missing.iter().map(move |missing| format!("{}; {then}", missing.words(option, is_alone)))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{IpAddr, SocketAddr};

    use rustix::io::Errno;

    use super::{Absence, Again, Available, available};

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    /// A kernel that was booted with `ipv6.disable=1`.
    fn without_ipv6(ip: IpAddr) -> Result<(), Absence> {
        if ip.is_ipv6() { Err(Absence::Family) } else { Ok(()) }
    }

    /// Interfaces with IPv4 addresses only.
    fn with(own: &'static [&str]) -> impl Fn(IpAddr) -> Result<(), Absence> {
        move |ip| {
            let has = ip.is_unspecified() || own.iter().any(|own| own.parse::<IpAddr>().ok() == Some(ip));
            if has { Ok(()) } else { Err(Absence::Address) }
        }
    }

    #[test]
    fn without_ipv6_what_is_ipv4_is_served_and_any_address_falls_back_to_ipv4() {
        for (wanted, served, lines) in [
            (&["[::]:443"][..], &["0.0.0.0:443"][..], 1),
            (&["0.0.0.0:443", "[::]:443"], &["0.0.0.0:443"], 1),
            (&["[::]:443", "0.0.0.0:443"], &["0.0.0.0:443"], 1),
            (&["[::]:443", "[::]:8443"], &["0.0.0.0:443", "0.0.0.0:8443"], 2),
            // 0.0.0.0 could not be bound beside it, and this is what the operator wants of IPv4.
            (&["127.0.0.1:443", "[::]:443"], &["127.0.0.1:443"], 1),
            (&["127.0.0.1:8080", "[::]:443"], &["127.0.0.1:8080", "0.0.0.0:443"], 1),
            (&["[::1]:8080", "127.0.0.1:8080"], &["127.0.0.1:8080"], 1),
            (&["[::ffff:127.0.0.1]:8080"], &["127.0.0.1:8080"], 1),
            (&["[::1]:8080"], &[], 1),
            (&["[2001:db8::1]:443"], &[], 1),
            (&["127.0.0.1:0"], &["127.0.0.1:0"], 0),
        ] {
            let found = available(&addresses(wanted), without_ipv6);
            assert_eq!(found.addresses, addresses(served), "{wanted:?}");
            assert_eq!(found.missing.len(), lines, "{wanted:?}");
            for missing in &found.missing {
                let words = missing.words("--listen", false);
                assert!(words.starts_with(&format!("--listen {}", missing.address)), "{words}");
                assert!(words.contains("this system has no IPv6"), "{words}");
            }
        }
    }

    #[test]
    fn an_address_that_no_interface_has_is_left_out_and_named() {
        let found = available(
            &addresses(&["127.0.0.1:80", "203.0.113.7:80", "[2001:db8::1]:80", "[::]:81"]),
            with(&["127.0.0.1"]),
        );
        assert_eq!(found.addresses, addresses(&["127.0.0.1:80", "[::]:81"]));
        let words: Vec<String> =
            found.missing.iter().map(|missing| missing.words("--listen", false)).collect();
        assert_eq!(
            words,
            ["203.0.113.7:80", "[2001:db8::1]:80"].map(|address| format!(
                "--listen {address} cannot be had, because no interface of this machine has that address; the other \
                 addresses are served"
            ))
        );
    }

    #[test]
    fn an_ipv4_address_that_is_missing_as_well_takes_nobodys_place() {
        let neither = |ip: IpAddr| match ip {
            IpAddr::V6(_) => Err(Absence::Family),
            IpAddr::V4(v4) if v4.is_unspecified() || v4.is_loopback() => Ok(()),
            IpAddr::V4(_) => Err(Absence::Address),
        };
        for (wanted, served) in [
            (&["203.0.113.7:443", "[::]:443"][..], &["0.0.0.0:443"][..]),
            (&["[::]:443", "203.0.113.7:443"], &["0.0.0.0:443"]),
            (&["203.0.113.7:443", "127.0.0.1:443", "[::]:443"], &["127.0.0.1:443"]),
            (&["203.0.113.7:443", "127.0.0.1:80", "[::]:443"], &["127.0.0.1:80", "0.0.0.0:443"]),
            (&["203.0.113.7:443", "[2001:db8::1]:443"], &[]),
            // Two names of one address, and one that is a part of another.
            (&["[::]:443", "[::ffff:0.0.0.0]:443"], &["0.0.0.0:443"]),
            (&["[::ffff:127.0.0.1]:443", "[::]:443"], &["127.0.0.1:443"]),
            (&["[::]:443", "[::ffff:127.0.0.1]:443"], &["0.0.0.0:443"]),
            (&["127.0.0.1:443", "[::ffff:127.0.0.2]:443"], &["127.0.0.1:443", "127.0.0.2:443"]),
        ] {
            assert_eq!(available(&addresses(wanted), neither).addresses, addresses(served), "{wanted:?}");
        }
    }

    #[test]
    fn the_log_is_told_what_is_served_and_what_to_do() {
        for (wanted, again, ends) in [
            (
                &["203.0.113.7:80"][..],
                Again::Restart,
                "; nothing is served there; restart the relay when that has changed",
            ),
            (
                &["203.0.113.7:80", "[2001:db8::1]:80"],
                Again::ByItself,
                "; nothing is served there; it is tried again every two seconds",
            ),
            (
                &["203.0.113.7:80", "127.0.0.1:80"],
                Again::Restart,
                "; the other addresses are served; restart the relay when that has changed",
            ),
        ] {
            let found = available(&addresses(wanted), with(&["127.0.0.1"]));
            let lines: Vec<String> = found.lines("--turn-listen", again).collect();
            assert!(!lines.is_empty() && lines.iter().all(|line| line.ends_with(ends)), "{lines:?}");
        }
    }

    #[test]
    fn what_is_all_there_is_taken_as_it_is() {
        let wanted = addresses(&["0.0.0.0:443", "[::]:443", "[::1]:0"]);
        let found = available(&wanted, |_| Ok(()));
        assert_eq!(found, Available { addresses: wanted, missing: Vec::new() });
    }

    #[test]
    fn a_port_that_is_taken_or_needs_a_privilege_is_no_absence() {
        let of = |errno: Errno| Absence::of(&io::Error::from(errno));
        assert_eq!(of(Errno::AFNOSUPPORT), Some(Absence::Family));
        assert_eq!(of(Errno::ADDRNOTAVAIL), Some(Absence::Address));
        for other in [Errno::ADDRINUSE, Errno::ACCESS, Errno::PERM, Errno::MFILE, Errno::INVAL] {
            assert_eq!(of(other), None, "{other:?}");
        }
    }
}
