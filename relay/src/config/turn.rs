//! What the operator says of the relay's own STUN and TURN server.
//! Never opens a socket: whether an address is free shows at the start.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use snug_turn_proto::{Network, NetworkError, Quota, Quotas};

use super::validate::{address, bad, each, number};
use super::{ConfigError, Options};
use crate::turn::TurnSettings;

/// The port of STUN and TURN, and over TLS (RFC 8656 §3).
const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;
/// Most addresses to listen on: participants are told of each port.
const MOST_LISTENERS: usize = 8;
/// TCP and TLS connections where files are few.
const FEWEST_STREAMS: usize = 16;
/// Ports below it belong to the system, and the server refuses them as peers.
const FIRST_PORT: u16 = 1024;

/// What the server is to do, checked.
#[derive(Clone, Debug)]
pub(crate) struct TurnPlan {
    /// UDP and TCP. At least one.
    pub(crate) listen: Listen,
    /// TLS; none without a certificate.
    pub(crate) tls_listen: Listen,
    /// Ports of relayed addresses.
    pub(crate) relay_ports: RangeInclusive<u16>,
    /// At most one of each family.
    pub(crate) external: Vec<IpAddr>,
    /// Private addresses that may be reached.
    pub(crate) allow_peers: Vec<Network>,
    /// How much each may use.
    pub(crate) quotas: Quotas,
    /// TCP and TLS connections.
    pub(crate) max_streams: usize,
    /// Relay sockets at once.
    pub(crate) max_relay_sockets: usize,
}

/// Addresses to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// Each once.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The operator named them, so without them the relay does not start.
    pub(crate) given: bool,
}

/// What other options say.
pub(super) struct Around<'a> {
    /// Where the page is served.
    pub(super) listen: &'a [SocketAddr],
    /// Whether there is a certificate.
    pub(super) tls: bool,
    /// Whether others reach the relay by an address that is not its own.
    pub(super) public: bool,
    /// Files that signaling leaves, where there is a limit.
    pub(super) files: Option<u64>,
}

/// `None` when the operator wants no server.
pub(super) fn plan(options: &Options, around: &Around<'_>) -> Result<Option<TurnPlan>, ConfigError> {
    if options.no_turn.unwrap_or(false) {
        return Ok(None);
    }
    let listen = listen(&options.turn_listen, around)?;
    let tls_listen = tls_listen(&options.turn_tls_listen, &listen.addresses, around)?;
    Ok(Some(TurnPlan {
        relay_ports: relay_ports(options.turn_ports.as_deref(), &listen.addresses)?,
        listen,
        tls_listen,
        external: external(&options.external_address)?,
        allow_peers: each("--turn-allow-peer", &options.turn_allow_peer, "192.168.1.0/24", |text| {
            text.parse().map_err(|error: NetworkError| error.to_string())
        })?,
        quotas: quotas(options)?,
        max_streams: max_streams(around.files),
        max_relay_sockets: max_relay_sockets(around.files),
    }))
}

fn listen(texts: &[String], around: &Around<'_>) -> Result<Listen, ConfigError> {
    if !texts.is_empty() {
        let addresses = addresses("--turn-listen", texts, "0.0.0.0:3478 or [::]:3478")?;
        refuse_overlap("--turn-listen", &addresses, around.listen, "--listen", "3478")?;
        return Ok(Listen { addresses, given: true });
    }
    let canonical = |address: &SocketAddr| address.ip().to_canonical();
    let is_local = !around.public && around.listen.iter().all(|address| canonical(address).is_loopback());
    let hosts: Vec<IpAddr> = match is_local {
        true => around.listen.iter().map(canonical).collect(),
        false => vec![Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()],
    };
    let addresses = once(hosts.into_iter().map(|host| SocketAddr::new(host, PORT)));
    Ok(Listen { addresses, given: false })
}

fn tls_listen(texts: &[String], plain: &[SocketAddr], around: &Around<'_>) -> Result<Listen, ConfigError> {
    const OPTION: &str = "--turn-tls-listen";
    match texts {
        [] if !around.tls => Ok(Listen { addresses: Vec::new(), given: false }),
        [] => {
            // Who lets the system choose one port lets it choose the other.
            let port = |plain: &SocketAddr| if plain.port() == 0 { 0 } else { TLS_PORT };
            let addresses = once(plain.iter().map(|plain| SocketAddr::new(plain.ip(), port(plain))));
            Ok(Listen { addresses, given: false })
        }
        [off] if off == "off" => Ok(Listen { addresses: Vec::new(), given: true }),
        [first, ..] if !around.tls => Err(ConfigError::Combination(format!(
            "{OPTION} {first} needs a certificate; give --tls-cert and --tls-key, or leave it out"
        ))),
        _ => {
            let addresses = addresses(OPTION, texts, "0.0.0.0:5349, [::]:5349, or off")?;
            refuse_overlap(OPTION, &addresses, around.listen, "--listen", "5349")?;
            refuse_overlap(OPTION, &addresses, plain, "--turn-listen", "5349")?;
            Ok(Listen { addresses, given: true })
        }
    }
}

fn addresses(option: &'static str, texts: &[String], example: &str) -> Result<Vec<SocketAddr>, ConfigError> {
    let mut all: Vec<SocketAddr> = Vec::with_capacity(texts.len());
    for text in texts {
        let new = address(option, text, example)?;
        if all.iter().any(|old| old.port() != 0 && *old == new) {
            return Err(bad(option, text, "is given twice", "each address once"));
        }
        if all.len() == MOST_LISTENERS {
            let problem = format!("is one more than {MOST_LISTENERS}");
            return Err(bad(option, text, problem, "[::]:3478 and 0.0.0.0:3478, which are all addresses"));
        }
        all.push(new);
    }
    Ok(all)
}

/// Two sockets of this relay cannot share a port of one address.
pub(super) fn refuse_overlap(
    option: &'static str,
    ours: &[SocketAddr],
    others: &[SocketAddr],
    other: &str,
    example: &str,
) -> Result<(), ConfigError> {
    let meet = |a: &SocketAddr, b: &SocketAddr| {
        let (one, two) = (a.ip(), b.ip());
        let same = one == two || one.is_unspecified() || two.is_unspecified();
        a.port() != 0 && a.port() == b.port() && one.is_ipv4() == two.is_ipv4() && same
    };
    let taken = ours.iter().find_map(|ours| Some((ours, others.iter().find(|other| meet(ours, other))?)));
    taken.map_or(Ok(()), |(ours, theirs)| {
        Err(bad(option, ours, format!("meets {other} {theirs}"), &format!("another port, such as {example}")))
    })
}

fn relay_ports(text: Option<&str>, listen: &[SocketAddr]) -> Result<RangeInclusive<u16>, ConfigError> {
    const OPTION: &str = "--turn-ports";
    const DEFAULT: &str = "10000-20000";
    let text = text.unwrap_or(DEFAULT);
    let problem = |problem: String| Err(bad(OPTION, text, problem, DEFAULT));
    let range = text.split_once('-').and_then(|(first, last)| {
        Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
    });
    let Some((first, last)) = range else { return problem("is not a range of ports".into()) };
    if first > last {
        return problem("ends before it begins".into());
    }
    if first < FIRST_PORT {
        return problem(format!("begins below {FIRST_PORT}, where ports have other uses"));
    }
    let range = first..=last;
    match listen.iter().find(|address| range.contains(&address.port())) {
        Some(address) => {
            let problem = format!("holds the port of --turn-listen {address}");
            Err(bad(OPTION, text, problem, "a range without that port, such as 40000-50000"))
        }
        None => Ok(range),
    }
}

fn external(texts: &[String]) -> Result<Vec<IpAddr>, ConfigError> {
    const OPTION: &str = "--external-address";
    const EXAMPLE: &str = "203.0.113.7 or 2001:db8::7";
    let mut all: Vec<IpAddr> = Vec::with_capacity(2);
    for text in texts {
        let ip: IpAddr = text.parse().map_err(|_| bad(OPTION, text, "is not an address", EXAMPLE))?;
        let ip = ip.to_canonical();
        if ip.is_unspecified() || ip.is_multicast() {
            return Err(bad(OPTION, text, "is no machine's address", EXAMPLE));
        }
        if all.iter().any(|other| other.is_ipv4() == ip.is_ipv4()) {
            return Err(bad(OPTION, text, "is a second one of its family", "one for IPv4 and one for IPv6"));
        }
        all.push(ip);
    }
    Ok(all)
}

/// The other half of the files that signaling leaves is for relay sockets.
fn max_streams(files: Option<u64>) -> usize {
    let most = TurnSettings::DEFAULT_MAX_STREAMS;
    files.map_or(most, |files| (files as usize / 2).clamp(FEWEST_STREAMS, most))
}

fn max_relay_sockets(files: Option<u64>) -> usize {
    let all = TurnSettings::DEFAULT_MAX_RELAY_SOCKETS;
    files.map_or(all, |left| (left as usize).saturating_sub(max_streams(files)).min(all))
}

fn quotas(options: &Options) -> Result<Quotas, ConfigError> {
    let Quotas { per_owner, per_group, per_source, server } = Quotas::default();
    let allocations = |option, value, default: Quota| {
        number(option, value, default.allocations.into(), 1..=100_000).map(|number| number as u32)
    };
    let megabits = |option, value, default: Quota| {
        number(option, value, default.megabits.into(), 0..=1_000_000).map(|number| number as u32)
    };
    let of = options;
    Ok(Quotas {
        per_owner: Quota {
            allocations: allocations(
                "--turn-participant-allocations",
                of.turn_participant_allocations,
                per_owner,
            )?,
            megabits: megabits("--turn-participant-mbps", of.turn_participant_mbps, per_owner)?,
        },
        per_group: Quota {
            allocations: allocations("--turn-room-allocations", of.turn_room_allocations, per_group)?,
            megabits: megabits("--turn-room-mbps", of.turn_room_mbps, per_group)?,
        },
        per_source: Quota {
            allocations: allocations("--turn-source-allocations", of.turn_source_allocations, per_source)?,
            megabits: megabits("--turn-source-mbps", of.turn_source_mbps, per_source)?,
        },
        server: Quota { megabits: megabits("--turn-total-mbps", of.turn_total_mbps, server)?, ..server },
    })
}

fn once(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for address in addresses {
        if address.port() == 0 || !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

#[cfg(test)]
mod tests;
