//! The relay: signaling, the guest page, STUN and TURN in one process. One thread serves sockets and rooms; disk, password hashes and relayed
//! media have threads of their own. It never sees media in the clear. `http.rs` and `socket.rs` are its face, `hub.rs` its heart; the rules
//! are in `snug-room-proto`.

mod address;
mod admin;
mod admission;
mod bind;
mod config;
mod embedded;
mod error_page;
mod expiry;
mod hosts;
mod http;
mod hub;
mod ice;
mod kept_key;
mod listener;
mod machine;
mod metrics;
#[cfg(test)]
#[path = "../../ci/needs.rs"]
mod needs;
mod outbox;
mod page;
mod password;
mod quic;
mod room_link;
mod signature;
mod socket;
mod store;
mod tcp;
mod tls;
mod turn;

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use snug_room_proto::{Buckets, RateLimit, RoomServer, RoomServerConfig, TicketKey};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::info;

use crate::admin::Access;
use crate::admission::Admission;
use crate::config::{Config, Task};
use crate::embedded::{Embedded, Launch};
use crate::expiry::Capacity;
use crate::hosts::Hosts;
use crate::http::Site;
use crate::hub::Hub;
use crate::ice::{Host, IceServers};
use crate::listener::Door;
use crate::metrics::Metrics;
use crate::password::PasswordPool;
use crate::quic::Quic;
use crate::store::Store;

/// Address blocks whose questions about rooms are counted.
const META_BLOCKS: usize = 10_000;
/// How long the store may take to close cleanly; a longer wait only means a check at the next start.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// The file in the data folder of the key that seat tickets are made with.
const TICKET_KEY: &str = "tickets.key";
const WITHOUT_TICKETS: &str =
    "after a restart members of a room that has got a password, a lock or a lobby have to be let in again";

/// Time for the last frames of connections that are closed at the end of a drain.
const GOODBYE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let started = Instant::now();
    let task = match config::load() {
        Ok(task) => task,
        Err(error) => return fail(&error.into()),
    };
    if let Task::Serve(config) = &task {
        if config.print_link {
            return match room_link::print(&config.base_url(&config.listen), config.qr) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error.into()),
            };
        }
        config.log.start();
    }
    // One thread: a relay of small rooms needs no second core, and waking another thread costs more than a message does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| match task {
        Task::Serve(config) => runtime.block_on(run(*config, started)),
        Task::Rooms(data_dir, command) => runtime.block_on(admin::run(&data_dir, command)),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Listens on those of `addresses` that this machine has, and says which it has not.
///
/// # Errors
/// When one that it has cannot be taken.
fn listen(option: &str, addresses: &[SocketAddr], what_for: &str) -> anyhow::Result<Vec<TcpListener>> {
    let found = bind::available(addresses, bind::has);
    if !found.addresses.is_empty() || option != "--listen" {
        found.warn(option, bind::Again::Restart);
    }
    bind::listen(&found.addresses).map_err(|(address, error)| {
        let advice = bind::advice(&error, option);
        anyhow::Error::new(error).context(format!("cannot listen on {address}{what_for}: {advice}"))
    })
}

/// The end of a relay that nobody could reach.
fn nothing_to_listen_on(wanted: &[SocketAddr]) -> String {
    let wanted: Vec<String> = wanted.iter().map(SocketAddr::to_string).collect();
    format!(
        "cannot listen on {}: this machine has none of these addresses; give one that it has with --listen, such as \
         0.0.0.0:443 for all of its IPv4 addresses",
        wanted.join(", ")
    )
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("snug-relay: {error:#}");
    ExitCode::FAILURE
}

async fn run(mut config: Config, started: Instant) -> anyhow::Result<()> {
    // Sockets first: an address that is taken should fail before anything is touched.
    let listeners = listen("--listen", &config.listen, "")?;
    anyhow::ensure!(!listeners.is_empty(), nothing_to_listen_on(&config.listen));
    let metrics_listener =
        listen("--metrics-listen", config.metrics_listen.as_slice(), " for metrics (or turn them `off`)")?;
    let https = listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let quic_ports = quic::take_ports(&config.quic, &https).map_err(|(address, error)| {
        let advice = bind::advice(&error, "--quic-listen");
        anyhow::Error::new(error)
            .context(format!("cannot listen on {address} for QUIC (or turn it `off`): {advice}"))
    })?;
    let (tls, certificate) = config.tls.as_ref().map(tls::acceptor).transpose()?.unzip();
    let metrics_addresses =
        metrics_listener.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let own =
        https.iter().chain(&metrics_addresses).copied().chain(quic_ports.iter().map(|port| port.address));
    let (embedded, keeper) = match launch(&mut config, own.collect(), tls.as_ref())? {
        Some(launch) => Some(Embedded::start(launch)?).unzip(),
        None => (None, None),
    };
    let embedded = embedded.unwrap_or_default();
    let store = Store::open(&config.data_dir)?;
    let passwords = PasswordPool::start().context("cannot start the password threads")?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system has no random source")?;

    let ticket_key = kept_key::load(&config.data_dir.join(TICKET_KEY), WITHOUT_TICKETS)
        .context("the system has no random source")?;
    let metrics = Arc::new(Metrics::default());
    let rooms = RoomServer::new(
        room_config(&config, TicketKey::from_bytes(ticket_key)),
        seed,
        Box::new(IceServers::new(config.ice.clone(), embedded.own_server())),
    );
    let capacity = Arc::new(Capacity::new(config.max_rooms));
    let (hub, hub_task) = Hub::spawn(rooms, store.clone(), passwords, capacity.clone(), metrics.clone());
    tokio::spawn(expiry::run(hub.clone(), store.clone(), capacity.clone(), config.room_expiry));
    admin::socket::serve(&config.data_dir, Access::of_relay(hub.clone(), store.clone()));
    if let Some(keeper) = keeper {
        tokio::spawn(keeper.run(hub.clone()));
    }
    let public = config.public_url.as_ref().and_then(|url| Host::of_authority(url.authority()));
    let configured = public.map(|(host, _)| host).into_iter().chain(config.allowed_hosts.clone());
    let hosts = Arc::new(Hosts::new(configured, certificate));
    let site = Arc::new(Site {
        hub: hub.clone(),
        store: store.clone(),
        turn: embedded.clone(),
        metrics: metrics.clone(),
        hosts: hosts.clone(),
        capacity: capacity.clone(),
        creation: config.creation.clone(),
        allowed_origins: config.allowed_origins.clone(),
        authority: config.public_url.as_ref().map(|url| url.authority().to_owned()),
        meta_limit: Mutex::new(Buckets::new(RateLimit { burst: 30.0, per_second: 1.0 }, META_BLOCKS)),
        started,
        draining: AtomicBool::new(false),
    });
    let quic_config = tls.as_ref().map(|tls| quic::config(tls, &config.data_dir)).transpose()?;
    let door = Arc::new(Door {
        router: http::router(site.clone()),
        tls,
        proxies: config.trusted_proxies.clone(),
        admission: Mutex::new(Admission::new(config.admission.clone())),
        metrics: metrics.clone(),
        half_open: Mutex::new(HashMap::new()),
    });

    let (close, closing) = watch::channel(false);
    let quic = quic_config.map(|quic| Quic::start(quic_ports, quic, door.clone(), hub.clone(), &closing));
    for (listener, address) in listeners.into_iter().zip(&https) {
        info!("listening on {}://{address}", config.scheme());
        tokio::spawn(listener::accept(listener, door.clone(), closing.clone()));
    }
    // They are for whoever supervises the relay, until it has ended.
    let (_until_the_end, never) = watch::channel(false);
    let metrics_door = metrics::door(metrics::router(
        &metrics,
        hub.clone(),
        store.clone(),
        &capacity,
        embedded.clone(),
        hosts,
    ));
    for listener in metrics_listener {
        info!("metrics on http://{}/metrics", listener.local_addr()?);
        tokio::spawn(listener::accept(listener, metrics_door.clone(), never.clone()));
    }
    if !config.quiet {
        greet(&config.base_url(&https), config.qr)?;
    }

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // Better no relay than one that takes connections and answers nothing: whoever supervises it starts another.
        ended = hub_task => anyhow::bail!("the task that keeps the rooms ended: {ended:?}"),
    }
    drain(&config, &site, &close, &mut interrupt).await;
    if let Some(quic) = quic {
        quic.stop().await;
    }
    info!("stopped");
    Ok(())
}

/// Lets everybody move on: no connection is taken any more and the rooms are written, so that the next relay can have port and data,
/// and clients are told to reconnect, each at its own time. A second interrupt does not wait.
async fn drain(
    config: &Config,
    site: &Site,
    close: &watch::Sender<bool>,
    interrupt: &mut tokio::signal::unix::Signal,
) {
    info!(seconds = config.drain.as_secs(), "draining");
    site.draining.store(true, Ordering::Relaxed);
    site.turn.drain();
    // Nobody may listen any more; that is fine here.
    let _ = close.send(true);
    site.hub.drain().await;
    // An answer means that the hub has handed its last rooms to the store.
    let _ = site.hub.stats().await;
    let store = site.store.clone();
    let _ = tokio::task::spawn_blocking(move || store.close(STORE_PATIENCE)).await;
    let deadline = Instant::now() + config.drain;
    let emptied = async {
        while site.hub.stats().await.is_some_and(|stats| stats.connections > 0) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = emptied => {}
        _ = interrupt.recv() => {}
    }
    site.hub.stop().await;
    // Time for the close frames; who does not read them is cut off with the process.
    tokio::time::sleep(GOODBYE).await;
}

/// What the relay's own STUN and TURN server needs, if there is to be one. Without a secret of the operator's it and the rooms get one
/// that lives as long as the process.
fn launch(
    config: &mut Config,
    listeners: Vec<SocketAddr>,
    tls: Option<&TlsAcceptor>,
) -> anyhow::Result<Option<Launch>> {
    let Some(plan) = config.turn.clone() else { return Ok(None) };
    let secret = match &config.ice.secret {
        Some(secret) => secret.clone(),
        None => ice::draw_secret().context("the system has no random source")?,
    };
    config.ice.secret = Some(secret.clone());
    Ok(Some(Launch { plan, secret, tls: tls.map(tls::for_turn), listeners }))
}

/// A terminal gets the link to a first room. Anywhere else it would stay: in the journal, or in the log of a container.
fn greet(base_url: &str, with_qr: bool) -> anyhow::Result<()> {
    if std::io::stdout().is_terminal() {
        room_link::print(base_url, with_qr)?;
    } else {
        info!(
            "open {base_url}/ for a room, or print a link with snug-relay --print-link and the same options"
        );
    }
    Ok(())
}

fn room_config(config: &Config, ticket_key: TicketKey) -> RoomServerConfig {
    RoomServerConfig {
        messages: config.messages,
        joins: config.joins,
        creations: config.creations,
        creation: config.creation.clone(),
        verify: signature::verify,
        ..RoomServerConfig::new(ticket_key)
    }
}
