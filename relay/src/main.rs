//! The relay: signaling and the guest page, in one process and one thread but for disk and password hashes.
//! It never sees media. `http.rs` and `socket.rs` are its face, `hub.rs` its heart; the rules are in `snug-room-proto`.

mod admission;
mod config;
mod http;
mod hub;
mod ice;
mod listener;
mod metrics;
mod outbox;
mod page;
mod password;
mod room_link;
mod socket;
mod store;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::Router;
use snug_room_proto::{Buckets, RateLimit, RoomServer, RoomServerConfig};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::admission::Admission;
use crate::config::Config;
use crate::http::Site;
use crate::hub::Hub;
use crate::listener::Door;
use crate::metrics::Metrics;
use crate::password::PasswordPool;
use crate::store::Store;

/// Address blocks whose questions about rooms are counted.
const META_BLOCKS: usize = 10_000;
/// How long the store may take to close cleanly; a longer wait only means a check at the next start.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Time for the last frames of connections that are closed at the end of a drain.
const GOODBYE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let started = Instant::now();
    let config = match config::load() {
        Ok(config) => config,
        Err(error) => return fail(&error.into()),
    };
    config.log.start();
    // One thread: a relay of small rooms needs no second core, and waking another thread costs more than a message does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run(config, started)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("snug-relay: {error:#}");
    ExitCode::FAILURE
}

async fn run(config: Config, started: Instant) -> anyhow::Result<()> {
    // Sockets first: an address that is taken should fail before anything is touched.
    let mut listeners = Vec::new();
    for address in &config.listen {
        listeners.push(bind(*address).await.with_context(|| {
            format!(
                "cannot listen on {address}; is another relay running? Choose another address with --listen"
            )
        })?);
    }
    let metrics_listener = match config.metrics_listen {
        Some(address) => Some(bind(address).await.with_context(|| {
            format!("cannot listen on {address} for metrics; choose another with --metrics-listen, or `off`")
        })?),
        None => None,
    };
    let tls = match &config.tls {
        Some(files) => Some(tls::acceptor(files)?),
        None => None,
    };
    let store = Store::open(&config.data_dir)?;
    let passwords = PasswordPool::start().context("cannot start the password threads")?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system has no random source")?;

    let metrics = Arc::new(Metrics::default());
    let rooms = RoomServer::new(room_config(&config), seed, Box::new(config.ice.clone()));
    let (hub, hub_task) = Hub::spawn(rooms, store.clone(), passwords, config.max_rooms, metrics.clone());
    let site = Arc::new(Site {
        hub: hub.clone(),
        store: store.clone(),
        metrics: metrics.clone(),
        allowed_origins: config.allowed_origins.clone(),
        authority: config.public_url.as_ref().map(|url| url.authority().to_owned()),
        meta_limit: Mutex::new(Buckets::new(RateLimit { burst: 30.0, per_second: 1.0 }, META_BLOCKS)),
        started,
        draining: AtomicBool::new(false),
    });
    let door = Arc::new(Door {
        router: http::router(site.clone()),
        tls,
        proxies: config.trusted_proxies.clone(),
        admission: Mutex::new(Admission::new(config.admission.clone())),
        metrics: metrics.clone(),
        half_open: Mutex::new(HashMap::new()),
    });

    let (close, closing) = watch::channel(false);
    let mut addresses = Vec::new();
    for listener in listeners {
        let address = listener.local_addr()?;
        info!("listening on {}://{address}", config.scheme());
        addresses.push(address);
        tokio::spawn(listener::accept(listener, door.clone(), closing.clone()));
    }
    if let Some(listener) = metrics_listener {
        info!("metrics on http://{}/metrics", listener.local_addr()?);
        tokio::spawn(serve_metrics(listener, metrics::router(&metrics, hub.clone(), store.clone())));
    }
    if !config.quiet {
        room_link::print(&config.base_url(&addresses), config.qr)?;
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
    info!("stopped");
}

async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn serve_metrics(listener: TcpListener, router: Router) {
    // It ends only with the process.
    let _ = axum::serve(listener, router).await;
}

fn room_config(config: &Config) -> RoomServerConfig {
    RoomServerConfig {
        messages: config.messages,
        joins: config.joins,
        creations: config.creations,
        ..RoomServerConfig::default()
    }
}
