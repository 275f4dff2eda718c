//! The relay's own STUN and TURN server: from what the operator wants to a server that runs, and what is told of it.
//! Never sees a packet: that is `turn/`.
//!
//! When the default port belongs to another program the relay goes on without a server and tries again every few seconds: at an
//! upgrade the one before it keeps the port until its last relayed call has moved.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use snug_turn_proto::{PeerPolicy, RelayAddresses, Secret, TurnConfig};
use socket2::Type;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info, warn};

use crate::bind::{self, Again, Available, is_taken};
use crate::config::TurnPlan;
use crate::hub::Hub;
use crate::ice::OwnServer;
use crate::machine::{self, Interfaces};
use crate::turn::{self, Turn, TurnFigures, TurnHandle, TurnSettings};

/// Time between two looks at a port that is taken, and before a server that failed starts anew.
const TRY_EVERY: Duration = Duration::from_secs(2);

/// Time between two looks at the addresses of this machine: IPv6 privacy addresses change daily, others with the network.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What a start needs.
pub(crate) struct Launch {
    pub(crate) plan: TurnPlan,
    /// The one that credentials are made with.
    pub(crate) secret: Secret,
    pub(crate) tls: Option<TlsAcceptor>,
    /// Where the relay listens otherwise: never peers.
    pub(crate) listeners: Vec<SocketAddr>,
}

/// The server, whatever becomes of it; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Embedded(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Where it listens, for those who are told.
    own: Arc<RwLock<OwnServer>>,
    draining: AtomicBool,
}

#[derive(Default)]
enum State {
    /// The operator wants none.
    #[default]
    Off,
    /// Why it does not run.
    Down(String),
    Up {
        handle: TurnHandle,
        /// What it has to do without, and why.
        lacks: Option<String>,
    },
}

/// A server that runs, and why there is no TURN over TLS.
struct Started {
    turn: Turn,
    without_tls: Option<String>,
}

/// Why a server cannot be started yet.
enum Waits {
    /// For another program to give this address up.
    Taken(SocketAddr),
    /// For this machine to get one of the addresses that the operator named.
    Absent,
}

/// What keeps the server up; to be spawned once there is a hub.
pub(crate) struct Keeper {
    embedded: Embedded,
    launch: Launch,
    turn: Option<Turn>,
    /// What the server was told of this machine.
    told: Interfaces,
}

impl Embedded {
    /// Starts the server, unless its port is taken and may be waited for. Must be called inside the runtime.
    ///
    /// # Errors
    /// When an address that the operator named cannot be had, or the system refuses sockets or threads.
    pub(crate) fn start(launch: Launch) -> anyhow::Result<(Self, Keeper)> {
        let embedded = Self::default();
        warn_of_ports(&launch.plan.relay_ports);
        warn_of_private_addresses(&launch.detected(), &launch.plan.external);
        let attempt = launch.attempt()?;
        let again = if attempt.is_ok() { Again::Restart } else { Again::ByItself };
        if launch.plan.listen.given {
            launch.listen().warn("--turn-listen", again);
        }
        if launch.plan.tls_listen.given {
            launch.tls_listen().warn("--turn-tls-listen", again);
        }
        let turn = match attempt {
            Ok(started) => Some(embedded.up(started)),
            Err(Waits::Absent) => {
                warn!(
                    "this machine has none of the addresses of --turn-listen, so there is no STUN and TURN server until it \
                     has; give another address with --turn-listen, or --no-turn"
                );
                embedded.down("this machine has none of the addresses it is to listen on".into());
                None
            }
            Err(Waits::Taken(address)) => {
                warn!(
                    "{address} is taken by another program, so there is no STUN and TURN server until it is free; \
                     give another address with --turn-listen, or --no-turn"
                );
                embedded.down(format!("port {} is taken by another program", address.port()));
                None
            }
        };
        Ok((embedded.clone(), Keeper { embedded, launch, turn, told: Interfaces::default() }))
    }

    /// Where it listens, as long as it does.
    pub(crate) fn own_server(&self) -> Arc<RwLock<OwnServer>> {
        self.0.own.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is changed by whole assignments only.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self) -> Option<TurnHandle> {
        match &*self.state() {
            State::Up { handle, .. } => Some(handle.clone()),
            State::Off | State::Down(_) => None,
        }
    }

    fn up(&self, Started { turn, without_tls }: Started) -> Turn {
        for address in &turn.addresses {
            info!("STUN and TURN on {address}");
        }
        for address in &turn.tls_addresses {
            info!("TURN over TLS on {address}");
        }
        let own = OwnServer { ports: ports(&turn.addresses), tls_ports: ports(&turn.tls_addresses) };
        self.tell(own);
        *self.state() = State::Up { handle: turn.handle(), lacks: without_tls };
        turn
    }

    fn down(&self, why: String) {
        self.tell(OwnServer::default());
        *self.state() = State::Down(why);
    }

    fn tell(&self, own: OwnServer) {
        *self.0.own.write().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// Takes no new allocation from here on; relayed media goes on until the process ends.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        if let Some(handle) = self.handle() {
            handle.drain();
        }
    }

    /// Figures of this moment; `None` while no server runs.
    pub(crate) async fn figures(&self) -> Option<TurnFigures> {
        self.handle()?.stats().await
    }

    /// Whether all is as the operator wants it.
    pub(crate) fn is_healthy(&self) -> bool {
        matches!(&*self.state(), State::Off | State::Up { lacks: None, .. })
    }

    /// For `/health`, which everybody may ask: no addresses and no counts.
    pub(crate) fn health(&self) -> Value {
        match &*self.state() {
            State::Off => json!({"status": "off"}),
            State::Down(why) => json!({"status": "unavailable", "reason": why}),
            State::Up { lacks: None, .. } => json!({"status": "ok"}),
            State::Up { lacks: Some(why), .. } => json!({"status": "degraded", "reason": why}),
        }
    }
}

impl Keeper {
    /// Lets `hub` say who may use the server, and starts it when its port becomes free, or after a failure. Ends when the relay does.
    pub(crate) async fn run(mut self, hub: Hub) {
        let mut said = String::new();
        loop {
            if let Some(mut turn) = self.turn.take() {
                hub.serve_turn(Some(turn.handle())).await;
                self.told = Interfaces::default();
                while tokio::time::timeout(LOOK_EVERY, turn.ended()).await.is_err() {
                    self.tell_interfaces(machine::interfaces(), &turn);
                }
                // What was relayed is lost, what is direct is not: signaling goes on, and clients are told when there is a server again.
                error!("the STUN and TURN server failed; it starts anew");
                self.embedded.down("it failed and starts anew; the log says why".into());
                hub.serve_turn(None).await;
            }
            tokio::time::sleep(TRY_EVERY).await;
            if self.embedded.0.draining.load(Ordering::Relaxed) {
                return;
            }
            match self.launch.attempt() {
                Ok(Ok(started)) => self.turn = Some(self.embedded.up(started)),
                Ok(Err(_)) => {}
                Err(error) => {
                    // Once, not every two seconds.
                    let error = format!("{error:#}");
                    if error != said {
                        error!("the STUN and TURN server does not start: {error}");
                        said = error;
                    }
                }
            }
        }
    }

    /// Nobody is relayed to this machine by an address that it got after the start, nor to neighbours that came with it.
    fn tell_interfaces(&mut self, mut interfaces: Interfaces, turn: &Turn) {
        // A system that does not tell has not lost them.
        if interfaces.addresses.is_empty() {
            return;
        }
        interfaces.addresses = self.launch.with_external(interfaces.addresses);
        if interfaces != self.told {
            turn.handle().own_addresses(interfaces.clone());
            self.told = interfaces;
        }
    }
}

impl Launch {
    fn listen(&self) -> Available {
        bind::available(&self.plan.listen.addresses, bind::has_alone)
    }

    fn tls_listen(&self) -> Available {
        bind::available(&self.plan.tls_listen.addresses, bind::has_alone)
    }

    /// The server, or what it waits for.
    fn attempt(&self) -> anyhow::Result<Result<Started, Waits>> {
        let plan = &self.plan;
        let listen = self.listen().addresses;
        if listen.is_empty() {
            return Ok(Err(Waits::Absent));
        }
        let mut tls_listen = self.tls_listen().addresses;
        let mut lacks = (tls_listen.is_empty() && !plan.tls_listen.addresses.is_empty()).then(|| {
            "this machine has none of the addresses for it, so there is no TURN over TLS".to_owned()
        });
        if let Some(address) = listen.iter().find(|address| is_taken(**address, &[Type::DGRAM, Type::STREAM]))
        {
            anyhow::ensure!(
                !plan.listen.given,
                "cannot listen on {address} for STUN and TURN, another program does; choose another address with \
                 --turn-listen, or --no-turn"
            );
            return Ok(Err(Waits::Taken(*address)));
        }
        if let Some(address) = tls_listen.iter().copied().find(|address| is_taken(*address, &[Type::STREAM]))
        {
            anyhow::ensure!(
                !plan.tls_listen.given,
                "cannot listen on {address} for TURN over TLS, another program does; choose another address with \
                 --turn-tls-listen, or `off`"
            );
            warn!(
                "{address} is taken by another program, so there is no TURN over TLS; free it and start the relay again, or give \
                 another with --turn-tls-listen, or `off`"
            );
            lacks = Some(format!(
                "port {} is taken by another program, so there is no TURN over TLS",
                address.port()
            ));
            tls_listen.clear();
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("the system has no random source")?;
        let tls = self.tls.clone().filter(|_| !tls_listen.is_empty());
        let mut settings =
            TurnSettings::new(listen.clone(), tls_listen.clone(), self.proto(&listen, &tls_listen));
        settings.max_streams = plan.max_streams;
        settings.max_relay_sockets = plan.max_relay_sockets;
        let turn = turn::start(settings, seed, tls)
            .context("the STUN and TURN server does not start; --no-turn runs without it")?;
        Ok(Ok(Started { turn, without_tls: lacks }))
    }

    /// This machine's addresses and those by which others know it.
    fn with_external(&self, mut local: Vec<IpAddr>) -> Vec<IpAddr> {
        local.extend(&self.plan.external);
        local
    }

    /// The addresses from which this machine reaches others. A server for this machine alone needs none.
    fn detected(&self) -> Vec<IpAddr> {
        let is_local = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
        if self.plan.listen.addresses.iter().all(is_local) {
            Vec::new()
        } else {
            machine::outward_addresses()
        }
    }

    fn proto(&self, listen: &[SocketAddr], tls_listen: &[SocketAddr]) -> TurnConfig {
        let (detected, external) = (self.detected(), self.plan.external.clone());
        let Interfaces { addresses: local, on_link } = machine::interfaces();
        let all = self.listeners.iter().chain(listen).chain(tls_listen);
        TurnConfig {
            secrets: vec![self.secret.clone()],
            relay_ports: self.plan.relay_ports.clone(),
            addresses: RelayAddresses { external, detected, local: local.clone() },
            policy: PeerPolicy {
                allow: self.plan.allow_peers.clone(),
                own: self.with_external(local),
                on_link,
                listeners: all.map(SocketAddr::port).filter(|port| *port != 0).collect(),
            },
            quotas: self.plan.quotas,
            ..TurnConfig::default()
        }
    }
}

/// Each port once.
fn ports(addresses: &[SocketAddr]) -> Vec<u16> {
    let mut ports: Vec<u16> = Vec::new();
    for address in addresses {
        if !ports.contains(&address.port()) {
            ports.push(address.port());
        }
    }
    ports
}

fn warn_of_ports(relay: &RangeInclusive<u16>) {
    if let Some(system) = machine::ephemeral_ports().filter(|system| machine::overlap(relay, system)) {
        warn!(
            "--turn-ports {}-{} overlaps {}-{}, which the system gives to outgoing connections \
             (net.ipv4.ip_local_port_range), so some relayed ports may be taken; choose another range",
            relay.start(),
            relay.end(),
            system.start(),
            system.end()
        );
    }
}

/// Others cannot reach an address of a private network, and nothing here can find out the one that they can reach.
fn warn_of_private_addresses(detected: &[IpAddr], external: &[IpAddr]) {
    for private in private_addresses(detected, external) {
        warn!(
            "this machine's address {private} is private, so relayed media reaches only those in its network; if others reach \
             it by a public address, give that with --external-address"
        );
    }
}

/// Of the detected addresses those that are private and have no public one to stand for them.
fn private_addresses(detected: &[IpAddr], external: &[IpAddr]) -> Vec<IpAddr> {
    let has_external = |ip: &IpAddr| external.iter().any(|other| other.is_ipv4() == ip.is_ipv4());
    detected.iter().copied().filter(|ip| machine::is_private(*ip) && !has_external(ip)).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr, UdpSocket};

    use super::{Embedded, Interfaces, Launch, ports, private_addresses};
    use crate::config::{Listen, TurnPlan};
    use crate::ice::draw_secret;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn launch(address: SocketAddr, given: bool) -> Launch {
        let plan = TurnPlan {
            listen: Listen { addresses: vec![address], given },
            tls_listen: Listen { addresses: Vec::new(), given: false },
            relay_ports: 10_000..=20_000,
            external: Vec::new(),
            allow_peers: Vec::new(),
            quotas: snug_turn_proto::Quotas::default(),
            max_streams: 16,
            max_relay_sockets: 16,
        };
        Launch { plan, secret: draw_secret().expect("randomness"), tls: None, listeners: Vec::new() }
    }

    #[tokio::test]
    async fn a_server_that_runs_says_where() {
        let (embedded, _keeper) =
            Embedded::start(launch(SocketAddr::new(ip("127.0.0.1"), 0), true)).expect("a free port");
        let own = embedded.own_server().read().expect("not poisoned").clone();
        assert!(own.ports.len() == 1 && own.ports[0] != 0 && own.tls_ports.is_empty(), "{own:?}");
        assert!(embedded.is_healthy());
        let ok = serde_json::json!({"status": "ok"});
        assert_eq!(embedded.health(), ok, "strangers are told neither counts nor ports");
        embedded.drain();
        assert_eq!(embedded.health(), ok, "what is relayed goes on");
    }

    #[tokio::test]
    async fn a_default_port_that_is_taken_is_waited_for() {
        let other = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = other.local_addr().expect("bound");
        let (embedded, keeper) = Embedded::start(launch(address, false)).expect("it is no failure");
        assert!(!embedded.is_healthy() && embedded.figures().await.is_none());
        let health = embedded.health();
        assert_eq!(health["status"], "unavailable");
        assert_eq!(health["reason"], format!("port {} is taken by another program", address.port()));
        assert!(embedded.own_server().read().expect("not poisoned").ports.is_empty(), "nobody is told of it");
        drop(other);
        let _turn = embedded.up(keeper.launch.attempt().expect("no failure").ok().expect("it is free"));
        assert_eq!(embedded.own_server().read().expect("not poisoned").ports, [address.port()]);
        assert!(embedded.is_healthy());
    }

    #[tokio::test]
    async fn a_default_port_for_tls_that_is_taken_is_told_and_everything_else_is_served() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = other.local_addr().expect("bound");
        let mut launch = launch(SocketAddr::new(ip("127.0.0.1"), 0), true);
        launch.plan.tls_listen.addresses = vec![address];
        let (embedded, _keeper) = Embedded::start(launch).expect("it is no failure");
        assert!(!embedded.is_healthy());
        let health = embedded.health();
        assert_eq!(health["status"], "degraded");
        let reason =
            format!("port {} is taken by another program, so there is no TURN over TLS", address.port());
        assert_eq!(health["reason"], reason);
        assert_eq!(embedded.own_server().read().expect("not poisoned").ports.len(), 1);
    }

    #[tokio::test]
    async fn an_address_that_this_machine_does_not_have_is_no_failure() {
        // TEST-NET-3 (RFC 5737): no interface has it.
        let absent = SocketAddr::new(ip("203.0.113.7"), 3478);
        let (embedded, keeper) = Embedded::start(launch(absent, true)).expect("the rest of the relay works");
        assert!(keeper.turn.is_none() && !embedded.is_healthy());
        let health = embedded.health();
        assert_eq!(health["status"], "unavailable");
        assert_eq!(health["reason"], "this machine has none of the addresses it is to listen on");
        let mut launch = launch(absent, true);
        launch.plan.listen.addresses.push(SocketAddr::new(ip("127.0.0.1"), 0));
        launch.plan.tls_listen.addresses = vec![absent];
        launch.plan.tls_listen.given = true;
        let (embedded, _keeper) = Embedded::start(launch).expect("one of them is there");
        assert_eq!(embedded.own_server().read().expect("not poisoned").ports.len(), 1);
        let health = embedded.health();
        assert_eq!(health["status"], "degraded");
        assert_eq!(
            health["reason"],
            "this machine has none of the addresses for it, so there is no TURN over TLS"
        );
    }

    #[tokio::test]
    async fn addresses_and_links_that_change_are_told_once_and_never_forgotten() {
        let mut launch = launch(SocketAddr::new(ip("127.0.0.1"), 0), true);
        launch.plan.external = vec![ip("203.0.113.7")];
        let (_, mut keeper) = Embedded::start(launch).expect("a free port");
        let turn = keeper.turn.take().expect("it runs");
        let there = |addresses: &[&str], network: &str| Interfaces {
            addresses: addresses.iter().map(|text| ip(text)).collect(),
            on_link: vec![network.parse().expect("a network")],
        };
        let (first, second) = ("2001:db8::/64", "2001:db8:1::/64");
        for (local, known) in [
            (there(&["2001:db8::1"], first), there(&["2001:db8::1", "203.0.113.7"], first)),
            (Interfaces::default(), there(&["2001:db8::1", "203.0.113.7"], first)),
            (there(&["2001:db8::2"], first), there(&["2001:db8::2", "203.0.113.7"], first)),
            (there(&["2001:db8::2"], second), there(&["2001:db8::2", "203.0.113.7"], second)),
        ] {
            keeper.tell_interfaces(local, &turn);
            assert_eq!(keeper.told, known);
        }
    }

    #[tokio::test]
    async fn a_given_port_that_is_taken_is_a_failure_that_says_what_to_do() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = other.local_addr().expect("bound");
        let error = Embedded::start(launch(address, true)).err().expect("it is taken").to_string();
        for said in [address.to_string().as_str(), "--turn-listen", "--no-turn"] {
            assert!(error.contains(said), "{error}");
        }
    }

    #[tokio::test]
    async fn a_server_that_nobody_wants_is_healthy() {
        let off = Embedded::default();
        assert!(off.is_healthy() && off.figures().await.is_none());
        assert_eq!(off.health(), serde_json::json!({"status": "off"}));
        off.drain();
    }

    #[test]
    fn the_own_addresses_links_and_listeners_are_no_peers() {
        let mut launch = launch(SocketAddr::new(ip("0.0.0.0"), 3478), true);
        launch.plan.external = vec![ip("203.0.113.7")];
        launch.listeners = vec![SocketAddr::new(ip("0.0.0.0"), 443)];
        let proto = launch.proto(&launch.plan.listen.addresses, &[]);
        assert!(proto.policy.own.contains(&ip("203.0.113.7")) && proto.policy.own.contains(&ip("127.0.0.1")));
        assert!(proto.policy.on_link.iter().any(|network| network.contains(ip("127.0.0.1"))), "of loopback");
        assert_eq!(proto.policy.listeners, [443, 3478]);
        assert_eq!(proto.addresses.external, [ip("203.0.113.7")]);
    }

    #[test]
    fn an_external_address_stands_for_the_private_one_of_its_family() {
        let detected = [ip("10.0.0.5"), ip("fd00::5")];
        assert_eq!(private_addresses(&detected, &[]), detected);
        assert_eq!(private_addresses(&detected, &[ip("203.0.113.7")]), [ip("fd00::5")]);
        assert!(private_addresses(&[ip("203.0.113.7"), ip("2001:db8::7")], &[]).is_empty());
    }

    #[test]
    fn a_port_of_two_families_is_told_once() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert_eq!(
            ports(&[address("[::]:3478"), address("0.0.0.0:3478"), address("127.0.0.1:80")]),
            [3478, 80]
        );
    }
}
