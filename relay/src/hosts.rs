//! The names by which browsers may ask this relay.
//! Never resolves a name.
//!
//! Security considerations: whoever owns a name can point it at any address, at this machine's loopback or at one behind a firewall, and a
//! browser that has the owner's page open then takes the relay for that page's own server ("DNS rebinding"). It lets the page read every answer,
//! and `Origin` is as foreign as `Host`, so that comparing the two shows nothing. The name in `Host` gives it away: a page cannot choose it. An
//! address in its place needs no check, since an address cannot be pointed elsewhere; the one by which others reach this machine may be unknown
//! here (1:1 NAT). A request without `Host` comes from no browser.

use std::net::IpAddr;

use axum::http::HeaderMap;
use axum::http::header::HOST;

use crate::ice::Host;
use crate::tls::CertificateNames;

/// The names that are this relay's.
pub(crate) struct Hosts {
    names: Vec<String>,
    /// The names of the certificate that is in use.
    certificate: Option<CertificateNames>,
}

impl Hosts {
    /// `configured` are those that the operator gives; the machine's own come with them.
    pub(crate) fn new(configured: impl Iterator<Item = Host>, certificate: Option<CertificateNames>) -> Self {
        let names = configured.map(|host| host.as_str().to_owned());
        Self { names: names.chain(own_names(&hostname())).collect(), certificate }
    }

    /// Whether a request asks this relay by one of its names, or by an address.
    pub(crate) fn know(&self, request: &HeaderMap) -> bool {
        let mut hosts = request.get_all(HOST).iter();
        hosts.all(|host| host.to_str().is_ok_and(|authority| self.has(authority)))
    }

    fn has(&self, authority: &str) -> bool {
        let Some((host, _)) = Host::of_authority(authority) else { return false };
        // A dot at the end says that the name is whole.
        let name = host.as_str().strip_suffix('.').unwrap_or(host.as_str());
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        bare.parse::<IpAddr>().is_ok()
            // Browsers never ask DNS for it (RFC 6761 §6.3).
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.names.iter().any(|own| own == name)
            || self.certificate.as_ref().is_some_and(|certificate| certificate.cover(name))
    }
}

/// What others in its network call a machine: its name, and that under mDNS (RFC 6762 §3).
fn own_names(hostname: &str) -> Vec<String> {
    let whole = hostname.to_ascii_lowercase();
    let first = whole.split('.').next().unwrap_or_default();
    if first.is_empty() {
        return Vec::new();
    }
    vec![format!("{first}.local"), first.to_owned(), whole]
}

fn hostname() -> String {
    #[cfg(unix)]
    return rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    String::new()
}

#[cfg(test)]
mod tests {
    use axum::http::header::HOST;
    use axum::http::{HeaderMap, HeaderValue};

    use super::{Hosts, hostname, own_names};
    use crate::ice::Host;

    fn hosts() -> Hosts {
        let configured = ["Meet.Example.org", "203.0.113.7"].map(|text| Host::parse(text).expect("a host"));
        let mut hosts = Hosts::new(configured.into_iter(), None);
        hosts.names.extend(own_names("Box"));
        hosts
    }

    fn knows(hosts: &Hosts, asked: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in asked {
            headers.append(HOST, HeaderValue::from_static(host));
        }
        hosts.know(&headers)
    }

    #[test]
    fn a_name_that_somebody_else_points_here_is_refused() {
        let hosts = hosts();
        for foreign in [
            "evil.example",
            "evil.example:8080",
            "meet.example.org.evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "xlocalhost",
            "box.evil.example",
            "evil.local",
            "",
            ":8080",
            "meet.example.org@evil.example",
            "[evil]",
        ] {
            assert!(!knows(&hosts, &[foreign]), "{foreign:?}");
        }
        assert!(!knows(&hosts, &["meet.example.org", "evil.example"]), "two are one too many");
    }

    #[test]
    fn the_relays_own_names_and_all_addresses_are_known() {
        let hosts = hosts();
        for own in [
            "meet.example.org",
            "MEET.example.org:8443",
            "meet.example.org.",
            "localhost",
            "localhost:8080",
            "snug.localhost:8080",
            "127.0.0.1:8080",
            "[::1]:8080",
            "192.168.1.5",
            "[2001:db8::7]",
            "box:8080",
            "box.local",
        ] {
            assert!(knows(&hosts, &[own]), "{own:?}");
        }
        assert!(knows(&hosts, &[]), "no browser leaves it out");
    }

    #[test]
    fn a_machine_has_its_name_as_it_is_and_under_mdns() {
        assert_eq!(own_names("Box"), ["box.local", "box", "box"]);
        assert_eq!(own_names("box.example.org"), ["box.local", "box", "box.example.org"]);
        assert!(own_names("").is_empty());
        let machine = hostname();
        assert!(machine.is_empty() || hosts().names.contains(&machine.to_ascii_lowercase()));
    }
}
