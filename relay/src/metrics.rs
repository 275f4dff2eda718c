//! Counters for Prometheus, on a listener of their own: they tell how busy people are, which is the operator's business only.

mod relayed;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use snug_wire::CloseCode;

use crate::embedded::Embedded;
use crate::expiry::Capacity;
use crate::hub::Hub;
use crate::store::Store;

use self::relayed::Relayed;

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
    Router::new().route("/metrics", get(answer)).with_state(scrape)
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
