//! `snug doctor`: looks at a relay as a client does, step by step, and says in words what to mend.
//!
//! 1. The name, then a connection to each address, then the certificate: without these nothing else can be looked at.
//! 2. The page, the relay's health and clock, WebSocket and QUIC, side by side.
//! 3. A seat in a room of the doctor's own. Of a room link only the relay is used: nobody in that room notices anything.
//! 4. STUN and a TURN round trip over UDP, TCP and TLS, side by side, with the credentials of that seat.
//!
//! Each check has 3 s, all of them 15 s. It prints no room, credential or token.

mod report;
mod signal;
mod stun;
mod turn;
mod web;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::future::join_all;
use rustls::ClientConfig;
use snug_core::signaling::{Connector, ConnectorConfig, ConnectorError, Target, TlsRoots, Transport};
use snug_core::wire::message::IceServer;
use snug_core::wire::{RoomId, SigningIdentity};

use crate::input;

use report::{Check, Finding, Report};
use stun::{Kind, Login, ServerUrl};

/// Time for one check.
const CHECK: Duration = Duration::from_secs(3);
/// Time for all.
const ALL: Duration = Duration::from_secs(15);
/// Servers of one kind that are tried.
const MOST_SERVERS: usize = 4;

/// Which relay to look at.
#[derive(Args)]
pub(crate) struct Options {
    /// The relay's address, such as meet.example.org, or any room link of it. `-` reads it from standard input
    #[arg(env = "SNUG_LINK", hide_env_values = true)]
    relay: String,
    /// Print findings as JSON lines
    #[arg(long)]
    json: bool,
    /// Trust the certificates in this PEM file instead of the system's
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,
}

/// What the exit codes of the doctor mean.
pub(crate) const EXIT_CODES: &str = "\
Exit codes (the first check that failed):
  0   nothing failed; there may be warnings
  2   the address is wrong
  6   the machine lacks something (random numbers, certificate authorities)
  10  the name is not found
  11  nothing answers at its addresses
  12  the certificate, or TLS
  13  the page, or the relay's health
  14  the clocks differ too much
  15  signaling
  16  STUN
  17  TURN";

/// How long a check may take.
#[derive(Clone, Copy)]
struct Limits {
    end: Instant,
}

impl Limits {
    fn left(self) -> Duration {
        CHECK.min(self.end.saturating_duration_since(Instant::now()))
    }

    /// `None` when it takes too long.
    async fn within<T>(self, check: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.left(), check).await.ok()
    }
}

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0}")]
    Address(#[from] snug_core::signaling::LinkError),
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    #[error("the system gave no random numbers ({0}); try again")]
    Random(getrandom::Error),
    #[error("the system refuses what the checks need ({0}); close other programs")]
    Runtime(#[from] std::io::Error),
}

pub(crate) fn run(options: Options) -> ExitCode {
    ExitCode::from(examine(options).unwrap_or_else(|trouble| {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "{trouble}");
        if matches!(trouble, Trouble::Address(_) | Trouble::Connector(ConnectorError::Pem { .. })) {
            2
        } else {
            6
        }
    }))
}

fn examine(options: Options) -> Result<u8, Trouble> {
    let (relay, _) = input::secrets(options.relay, None, false)?;
    let target: Target = relay.parse()?;
    let roots = options.ca.map_or(TlsRoots::System, TlsRoots::Pem);
    let mut random = [0; 96];
    getrandom::fill(&mut random).map_err(Trouble::Random)?;
    let user_agent = concat!("snug-doctor/", env!("CARGO_PKG_VERSION")).to_owned();
    let connector = Connector::new(ConnectorConfig { roots, quic: true, user_agent })?;
    let mut tls = ClientConfig::clone(&connector.tls());
    // TURN over TLS has no protocol name, and HTTP needs none.
    tls.alpn_protocols.clear();
    let tls = Arc::new(tls);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let visit = Visit { target, tls, connector, random, limits: Limits { end: Instant::now() + ALL } };
    let mut report = Report::new(options.json);
    runtime.block_on(visit.all(&mut report));
    // A name that is still being looked up cannot be waited for.
    runtime.shutdown_background();
    Ok(report.finish())
}

struct Visit {
    target: Target,
    tls: Arc<ClientConfig>,
    connector: Connector,
    random: [u8; 96],
    limits: Limits,
}

impl Visit {
    async fn all(&self, report: &mut Report) {
        let (finding, addresses) = web::resolve(&self.target, self.limits).await;
        report.add(&finding);
        if addresses.is_empty() {
            return;
        }
        let (finding, address) = web::connect(&addresses, self.limits).await;
        report.add(&finding);
        let Some(address) = address else { return };
        if self.target.tls {
            let finding = web::certificate(&self.target, address, &self.tls, self.limits).await;
            report.add(&finding);
            if finding.is_failure() {
                return;
            }
        } else {
            report.add(&Finding::skip(Check::Certificate, "plain HTTP, which is for this machine alone"));
        }
        let (pages, (websocket, connection), quic) = tokio::join!(
            web::pages(&self.target, address, &self.tls, self.limits),
            signal::greet(&self.connector, &self.target, Transport::WebSocket, self.limits),
            self.quic(),
        );
        report.add_all(&pages);
        report.add_all(&[websocket, quic]);
        let Some(mut connection) = connection else { return };
        let (room, identity) = self.seat();
        let (finding, servers) = signal::enter(&mut connection, room, identity, self.limits).await;
        report.add(&finding);
        if !finding.is_failure() {
            report.add_all(&self.servers(&servers).await);
        }
        connection.0.close(1000).await;
    }

    async fn quic(&self) -> Finding {
        if !self.target.tls {
            return Finding::skip(Check::Quic, "there is no QUIC without TLS");
        }
        let (finding, connection) =
            signal::greet(&self.connector, &self.target, Transport::Quic, self.limits).await;
        if let Some(connection) = connection {
            connection.0.close(1000).await;
        }
        finding
    }

    /// A room that is the same each time the doctor comes from this machine, so that a relay that keeps its rooms keeps one of the doctor.
    fn seat(&self) -> (RoomId, SigningIdentity) {
        let mut random: [u8; 32] = self.random[64..].try_into().expect("96 bytes end with 32");
        let identity = SigningIdentity::generate(|| {
            let drawn = random;
            // The one in 2³² that is no key is followed by one that is.
            random[0] ^= 1;
            drawn
        });
        let name = format!("snug-doctor-{:016x}", machine());
        (name.parse().expect("lower-case letters, digits and single hyphens"), identity)
    }

    async fn servers(&self, servers: &[IceServer]) -> Vec<Finding> {
        let urls: Vec<(ServerUrl, Login)> = servers
            .iter()
            .flat_map(|server| server.urls.iter().map(move |url| (url, server)))
            .filter_map(|(url, server)| {
                let login = Login {
                    username: server.username.clone().unwrap_or_default(),
                    password: server.credential.clone().unwrap_or_default(),
                    ..Login::default()
                };
                Some((ServerUrl::parse(url)?, login))
            })
            .collect();
        let of = |kind: Kind| -> Vec<(ServerUrl, Login)> {
            urls.iter().filter(|(url, _)| url.kind == kind).take(MOST_SERVERS).cloned().collect()
        };
        let (stun, udp, tcp, tls) = tokio::join!(
            self.stun(of(Kind::Stun)),
            self.turn(Check::TurnUdp, of(Kind::TurnUdp)),
            self.turn(Check::TurnTcp, of(Kind::TurnTcp)),
            self.turn(Check::TurnTls, of(Kind::TurnTls)),
        );
        [stun, udp, tcp, tls].concat()
    }

    async fn stun(&self, urls: Vec<(ServerUrl, Login)>) -> Vec<Finding> {
        let start = Instant::now();
        if urls.is_empty() {
            let fix = "direct connections through routers need it: run the relay without --no-turn, or name another server with --ice-server";
            return vec![Finding::warn(Check::Stun, "the relay names no STUN server", fix)];
        }
        let mut addresses = Vec::new();
        for (url, _) in &urls {
            match self.limits.within(turn::address(url)).await {
                Some(Ok(address)) => addresses.push((url, address)),
                _ => return vec![unknown_host(Check::Stun, url).since(start)],
            }
        }
        // One socket has one family; servers of the other one are seen by the TURN checks.
        let v6 = addresses[0].1.is_ipv6();
        addresses.retain(|(_, address)| address.is_ipv6() == v6);
        let servers: Vec<SocketAddr> = addresses.iter().map(|(_, address)| *address).collect();
        let seed = u128::from_be_bytes(std::array::from_fn(|at| self.random[16 + at]));
        let (port, found) = match turn::mapped(&servers, seed, self.limits.left()).await {
            Ok(found) => found,
            Err(error) => {
                let fix = "this machine refuses UDP: see its firewall";
                return vec![Finding::fail(Check::Stun, error.to_string(), fix).since(start)];
            }
        };
        let mut findings: Vec<Finding> = addresses
            .iter()
            .zip(&found)
            .map(|((url, _), found)| match found {
                Some((mapped, time)) => {
                    let how = if mapped.port() == port {
                        "the same port as here"
                    } else {
                        "another port than here"
                    };
                    let message = format!("{}:{} sees this machine at {mapped}, {how}", url.host, url.port);
                    Finding::ok(Check::Stun, message)
                        .since(Instant::now().checked_sub(*time).unwrap_or(start))
                }
                None => no_udp(Check::Stun, url).since(start),
            })
            .collect();
        let ports: Vec<u16> = found.iter().flatten().map(|(mapped, _)| mapped.port()).collect();
        if ports.windows(2).any(|pair| pair[0] != pair[1]) {
            let message = "the network here shows another port to each server (a symmetric NAT)";
            let fix =
                "direct connections to some people will fail, and go through the TURN server: it has to work";
            findings.push(Finding::warn(Check::Stun, message, fix));
        }
        findings
    }

    async fn turn(&self, check: Check, urls: Vec<(ServerUrl, Login)>) -> Vec<Finding> {
        if urls.is_empty() {
            if check == Check::TurnTls && !self.target.tls {
                return vec![Finding::skip(check, "the relay has no certificate, so no TURN over TLS")];
            }
            let fix = "networks that let nothing else through cannot take part: run the relay without --no-turn, or name another server with --ice-server";
            return vec![Finding::warn(check, "the relay names no such server", fix)];
        }
        let random =
            |at: usize| std::array::from_fn(|place| self.random[32 + place] ^ (check as u8 * 16 + at as u8));
        let tries = urls.iter().enumerate().map(|(at, (url, login))| async move {
            let start = Instant::now();
            let trip = self.limits.within(turn::round_trip(url, login, &self.tls, random(at))).await;
            match trip {
                Some(Ok(trip)) => {
                    let (address, ms) = (trip.relayed, trip.time.as_secs_f64() * 1000.0);
                    let message =
                        format!("{}:{} relays from {address}, {ms:.1} ms there and back", url.host, url.port);
                    Finding::ok(check, message)
                }
                Some(Err(error)) => turn_failure(check, url, &error),
                None if check == Check::TurnUdp => no_udp(check, url),
                None => Finding::fail(
                    check,
                    format!("{}:{} gives no answer in time", url.host, url.port),
                    format!("open TCP port {} in the relay's firewall", url.port),
                ),
            }
            .since(start)
        });
        join_all(tries).await
    }
}

fn no_udp(check: Check, url: &ServerUrl) -> Finding {
    Finding::fail(
        check,
        format!("UDP port {} of {} does not answer", url.port, url.host),
        format!(
            "open UDP port {} in the relay's firewall; if it is open, the network here blocks UDP, and calls have to go through TURN over TCP or TLS",
            url.port
        ),
    )
}

fn unknown_host(check: Check, url: &ServerUrl) -> Finding {
    Finding::fail(
        check,
        format!("{} was not found", url.host),
        "the operator corrects the name of this server in the relay's settings",
    )
}

fn turn_failure(check: Check, url: &ServerUrl, error: &turn::TurnError) -> Finding {
    use std::io::ErrorKind;
    use turn::TurnError;

    let place = format!("{}:{}", url.host, url.port);
    match error {
        TurnError::Io(error) if error.kind() == ErrorKind::ConnectionRefused => match check {
            Check::TurnUdp => no_udp(check, url),
            _ => Finding::fail(
                check,
                format!("{place} refuses the connection"),
                format!(
                    "nobody listens at TCP port {}: see the relay's settings for TURN, and its firewall",
                    url.port
                ),
            ),
        },
        TurnError::Refused { code: 401, .. } => Finding::fail(
            check,
            format!("{place} does not accept the relay's credentials"),
            "the relay and this server have to share the same secret",
        ),
        TurnError::Refused { code: 486, .. } => Finding::fail(
            check,
            format!("{place} has given this address as many allocations as it may have"),
            "try again in some minutes, or raise the relay's limits",
        ),
        TurnError::Refused { code: 403, .. } => Finding::fail(
            check,
            format!("{place} does not relay between two participants"),
            "a server elsewhere has to allow its own address as a peer",
        ),
        other => Finding::fail(
            check,
            format!("{place}: {other}"),
            "see the log of that server, and its certificate",
        ),
    }
}

/// A number that stays the same on this machine, and says nothing about it to somebody else.
fn machine() -> u64 {
    use std::hash::{DefaultHasher, Hasher as _};

    let known = ["/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/hostname"];
    let name = known.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    hasher.write(b"snug doctor");
    hasher.write(&name);
    hasher.finish()
}
