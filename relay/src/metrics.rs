//! Counters for Prometheus, on a listener of their own: they tell how busy people are, which is the operator's business only.

mod relayed;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use snug_wire::CloseCode;

use crate::admission::{Admission, AdmissionConfig, TrustedProxies};
use crate::embedded::Embedded;
use crate::error_page::WRONG_HOST;
use crate::expiry::Capacity;
use crate::hosts::Hosts;
use crate::hub::Hub;
use crate::listener::Door;
use crate::store::Store;

use self::relayed::Relayed;

/// Connections of the listener at once: one for each that asks, and some that a person opens.
const CONNECTIONS: usize = 64;

/// What is counted. Names and help texts are in [`Metrics::register`].
#[derive(Default)]
pub(crate) struct Metrics {
    pub(crate) messages_received: Counter,
    pub(crate) messages_sent: Counter,
    pub(crate) password_checks: Counter,
    pub(crate) http_requests: Family<Answer, Counter>,
    pub(crate) connections_refused: Family<Cause, Counter>,
    connections_closed: Family<Cause, Counter>,
}

/// The class of an HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Answer {
    pub(crate) status: u16,
}

/// Why something was ended or refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
}

impl Metrics {
    /// Counts a WebSocket that the relay closed.
    pub(crate) fn closed(&self, code: CloseCode) {
        let reason = match code {
            CloseCode::FrameTooLarge => "frame_too_large",
            CloseCode::Protocol => "protocol",
            CloseCode::Kicked => "kicked",
            CloseCode::Replaced => "replaced",
            CloseCode::SlowReader => "slow_reader",
            CloseCode::Idle => "idle",
            CloseCode::Draining => "draining",
            CloseCode::Ended => "call_ended",
        };
        self.connections_closed.get_or_create(&Cause { reason }).inc();
    }

    /// Counts a connection that was not taken, or was given up before it said anything.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.connections_refused.get_or_create(&Cause { reason }).inc();
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("messages_received", "Messages from clients", self.messages_received.clone());
        registry.register("messages_sent", "Messages to clients", self.messages_sent.clone());
        registry.register(
            "password_checks",
            "Passwords given to the hashing queue",
            self.password_checks.clone(),
        );
        registry.register("http_requests", "HTTP answers by status", self.http_requests.clone());
        registry.register(
            "connections_refused",
            "Connections not taken, or dropped before a request",
            self.connections_refused.clone(),
        );
        registry.register(
            "connections_closed",
            "WebSockets closed by the relay",
            self.connections_closed.clone(),
        );
    }
}

/// What a scrape needs.
#[derive(Clone)]
struct Scrape {
    registry: Arc<Registry>,
    gauges: Gauges,
    relayed: Relayed,
    hub: Hub,
    store: Store,
    turn: Embedded,
}

/// Figures that are asked for at each scrape.
#[derive(Clone, Default)]
struct Gauges {
    connections: Gauge,
    rooms: Gauge,
    participants: Gauge,
    stored_rooms: Gauge,
    stored_rooms_limit: Gauge,
    store_healthy: Gauge,
}

/// The `/metrics` listener's routes.
pub(crate) fn router(
    metrics: &Metrics,
    hub: Hub,
    store: Store,
    capacity: &Capacity,
    turn: Embedded,
    hosts: Arc<Hosts>,
) -> Router {
    let gauges = Gauges::default();
    gauges.stored_rooms_limit.set(i64::try_from(capacity.max).unwrap_or(i64::MAX));
    let mut registry = Registry::with_prefix("snug");
    metrics.register(&mut registry);
    registry.register("connections", "WebSockets that are up", gauges.connections.clone());
    registry.register("rooms", "Rooms that somebody is in", gauges.rooms.clone());
    registry.register("participants", "Seats, away ones included", gauges.participants.clone());
    registry.register("stored_rooms", "Rooms on disk", gauges.stored_rooms.clone());
    registry.register(
        "stored_rooms_limit",
        "Rooms that there may be on disk",
        gauges.stored_rooms_limit.clone(),
    );
    registry.register(
        "store_healthy",
        "1 while rooms can be saved and nothing was damaged",
        gauges.store_healthy.clone(),
    );
    let relayed = Relayed::default();
    relayed.register(registry.sub_registry_with_prefix("turn"));
    let scrape = Scrape { registry: Arc::new(registry), gauges, relayed, hub, store, turn };
    for_hosts(Router::new().route("/metrics", get(answer)).with_state(scrape), hosts)
}

/// Answers those only who ask by a name of the relay (`hosts.rs`).
fn for_hosts(router: Router, hosts: Arc<Hosts>) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let hosts = hosts.clone();
        async move {
            if hosts.know(request.headers()) {
                next.run(request).await
            } else {
                (StatusCode::MISDIRECTED_REQUEST, WRONG_HOST.message).into_response()
            }
        }
    }))
}

/// The listener's limits: those of the page's, in small, so that nobody near it can use up what guests need.
pub(crate) fn door(router: Router) -> Arc<Door> {
    let admission = AdmissionConfig {
        max_connections: CONNECTIONS,
        per_block: CONNECTIONS,
        trusted_proxies: TrustedProxies::default(),
        max_half_open: CONNECTIONS,
    };
    Arc::new(Door {
        router,
        tls: None,
        proxies: TrustedProxies::default(),
        admission: Mutex::new(Admission::new(admission)),
        // The counters of the page's listeners say nothing of this one.
        metrics: Arc::default(),
        half_open: Mutex::default(),
    })
}

async fn answer(State(scrape): State<Scrape>) -> impl IntoResponse {
    let gauges = &scrape.gauges;
    if let Some(stats) = scrape.hub.stats().await {
        gauges.connections.set(stats.connections as i64);
        gauges.rooms.set(stats.rooms as i64);
        gauges.participants.set(stats.participants as i64);
    }
    let status = scrape.store.status();
    gauges.stored_rooms.set(status.rooms as i64);
    gauges.store_healthy.set(i64::from(status.state.is_healthy()));
    scrape.relayed.take(scrape.turn.figures().await);
    let mut text = String::new();
    encode(&mut text, &scrape.registry).expect("a string takes all");
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::Router;
    use axum::body::Body;
    use axum::http::Request;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;
    use tower::ServiceExt as _;

    use super::{CONNECTIONS, door, for_hosts};
    use crate::hosts::Hosts;
    use crate::listener::accept;

    #[tokio::test]
    async fn a_page_that_points_its_name_here_reads_no_figures() {
        let hosts = Arc::new(Hosts::new(std::iter::empty(), None));
        let router = for_hosts(Router::new().route("/metrics", get(|| async { "figures" })), hosts);
        for (host, status) in [("127.0.0.1:9464", 200), ("localhost:9464", 200), ("evil.example:9464", 421)] {
            let request =
                Request::get("/metrics").header("host", host).body(Body::empty()).expect("a request");
            let answer = router.clone().oneshot(request).await.expect("an answer");
            assert_eq!(answer.status(), status, "{host}");
        }
    }

    #[tokio::test]
    async fn connections_that_say_nothing_or_nothing_more_are_ended_and_keep_nobody_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (_open, never) = watch::channel(false);
        let router = Router::new().route("/metrics", get(|| async { "figures" }));
        tokio::spawn(accept(listener, door(router), never));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS + 10 {
            silent.push(TcpStream::connect(address).await.expect("it listens"));
        }
        let mut scrape = TcpStream::connect(address).await.expect("it listens");
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        scrape.write_all(request).await.expect("it is up");
        let mut text = String::new();
        scrape.read_to_string(&mut text).await.expect("an answer");
        assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("figures"), "{text}");
        // One that goes on after its answer, as Prometheus does, and then says nothing either.
        let mut idle = TcpStream::connect(address).await.expect("it listens");
        idle.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("it is up");
        let mut answer = [0; 1024];
        assert!(idle.read(&mut answer).await.expect("an answer") > 0);
        silent.push(idle);
        // From here on the clock is the test's, and time passes when nothing else happens.
        tokio::time::pause();
        for mut one in silent {
            let ended = tokio::time::timeout(Duration::from_secs(60), one.read(&mut [0])).await;
            assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
        }
    }
}
