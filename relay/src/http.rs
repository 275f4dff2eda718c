//! The HTTP routes (PROTOCOL.md §8): the page, what it asks before joining, health, and the door to the WebSocket.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Extension, Path, Request, State, WebSocketUpgrade};
use axum::http::header::{CONNECTION, HOST, LOCATION, ORIGIN, RETRY_AFTER, UPGRADE, VARY};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use snug_room_proto::{AddressBlock, Buckets, RoomCreation};
use snug_wire::{LinkProof, RoomId};

use crate::address::{self, Place};
use crate::embedded::Embedded;
use crate::error_page::{self, Reader, Refused, WRONG_HOST};
use crate::expiry::Capacity;
use crate::hosts::Hosts;
use crate::hub::Hub;
use crate::ice::Host;
use crate::listener::Admitted;
use crate::metrics::{Answer, Metrics};
use crate::page;
use crate::socket;
use crate::store::{Store, StoreState};

/// The header that shows the whole link to `/room/{id}/meta`.
const LINK_PROOF: &str = "snug-link-proof";

/// What every request needs.
pub(crate) struct Site {
    pub(crate) hub: Hub,
    pub(crate) store: Store,
    pub(crate) turn: Embedded,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) capacity: Arc<Capacity>,
    /// Who may make rooms.
    pub(crate) creation: RoomCreation,
    /// The names by which browsers may ask.
    pub(crate) hosts: Arc<Hosts>,
    /// Origins beside our own that may open a WebSocket.
    pub(crate) allowed_origins: Vec<String>,
    /// Host (and port) of the public URL; without one, the `Host` that was asked.
    pub(crate) authority: Option<String>,
    pub(crate) meta_limit: Mutex<Buckets<AddressBlock>>,
    pub(crate) started: Instant,
    pub(crate) draining: std::sync::atomic::AtomicBool,
}

/// Where a request comes from, as the listener found out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    /// The client's address, behind trusted proxies too.
    pub(crate) address: IpAddr,
    /// Whether the browser speaks TLS, to us or to the proxy.
    pub(crate) tls: bool,
    /// Whether a trusted proxy passed the request on.
    pub(crate) by_proxy: bool,
}

/// The routes. Every request must carry a [`Client`] extension.
pub(crate) fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/room/{id}", get(page_or_file))
        .route("/room/{id}/meta", get(meta))
        .route("/health", get(health))
        .route("/ws", get(websocket).post(websocket))
        .fallback(get(page_or_file))
        .layer(middleware::from_fn_with_state(site.clone(), with_headers))
        .with_state(site)
}

async fn with_headers(
    State(site): State<Arc<Site>>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let is_ours = site.is_asked(request.headers(), client);
    let authority = site.authority_of(request.headers()).filter(|_| is_ours).map(str::to_owned);
    let reader = Reader::of(request.headers());
    let answer =
        if is_ours { next.run(request).await } else { refused(StatusCode::MISDIRECTED_REQUEST, WRONG_HOST) };
    let mut response = error_page::dress(answer, reader);
    page::secure(response.headers_mut(), authority.as_deref(), client.tls);
    site.metrics.http_requests.get_or_create(&Answer { status: response.status().as_u16() }).inc();
    response
}

impl Site {
    /// Whether the request is for this relay. A trusted proxy may write another name into it, such as that of a container, where the public URL
    /// says which origins may connect.
    fn is_asked(&self, headers: &HeaderMap, client: Client) -> bool {
        self.hosts.know(headers) || (client.by_proxy && self.authority.is_some())
    }

    fn authority_of<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a str> {
        self.authority.as_deref().or_else(|| headers.get(HOST)?.to_str().ok())
    }
}

async fn index(headers: HeaderMap) -> Response<Body> {
    embedded("/index.html", &headers)
}

/// Files, and pages by whatever spelling of their address.
async fn page_or_file(uri: Uri, headers: HeaderMap) -> Response<Body> {
    if page::find(uri.path()).is_some() {
        return embedded(uri.path(), &headers);
    }
    match address::place(uri.path()) {
        Place::Here => embedded("/index.html", &headers),
        Place::There(path) => moved(&path, uri.query()),
        // The page itself says what is wrong with a name, in the reader's language, and which one may be meant.
        Place::NoRoom if Reader::of(&headers).is_person() => {
            let mut response = embedded("/index.html", &headers);
            if response.status() == StatusCode::OK {
                *response.status_mut() = StatusCode::NOT_FOUND;
            }
            // Programs get another answer here.
            response.headers_mut().insert(VARY, HeaderValue::from_static("accept, accept-encoding"));
            response
        }
        Place::NoRoom => refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "This address names no room."),
        Place::Nowhere => refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "There is nothing at this address."),
    }
}

/// Leads to the canonical address. The query stays; the fragment, which holds the room's secret, never comes here, and browsers keep it.
fn moved(path: &str, query: Option<&str>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let whole = query.and_then(|query| HeaderValue::try_from(format!("{path}?{query}")).ok());
    let target = whole.unwrap_or_else(|| HeaderValue::from_str(path).expect("a room's name is ASCII"));
    response.headers_mut().insert(LOCATION, target);
    no_store(response)
}

fn embedded(path: &str, headers: &HeaderMap) -> Response<Body> {
    page::find(path).map_or_else(
        || refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "There is nothing at this address."),
        |file| file.respond(headers),
    )
}

async fn meta(
    State(site): State<Arc<Site>>,
    Extension(client): Extension<Client>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let allowed = {
        let mut limit = site.meta_limit.lock().unwrap_or_else(PoisonError::into_inner);
        limit.take(client.address.into(), Instant::now())
    };
    if let Err(wait) = allowed {
        let mut response = refusal(
            StatusCode::TOO_MANY_REQUESTS,
            "RATE_LIMITED",
            "Too many requests from this network. Wait a moment.",
        );
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        return response;
    }
    let Ok(room) = id.to_ascii_lowercase().parse::<RoomId>() else {
        return refusal(StatusCode::NOT_FOUND, "BAD_MESSAGE", "This is not the name of a room.");
    };
    let proof = headers.get(LINK_PROOF).and_then(|value| value.to_str().ok()?.parse::<LinkProof>().ok());
    let known = match proof {
        Some(proof) => site.hub.query(room.clone(), proof).await,
        None => None,
    };
    let mut answer = match known {
        Some(meta) => serde_json::to_value(meta).expect("its keys are strings"),
        // The same for a room that exists and one that does not.
        None => {
            json!({"passwordEnabled": null, "locked": null, "maxParticipants": null, "participants": null})
        }
    };
    answer["roomId"] = json!(room);
    no_store(Json(answer).into_response())
}

async fn health(State(site): State<Arc<Site>>) -> Response<Body> {
    let draining = site.draining.load(std::sync::atomic::Ordering::Relaxed);
    let store = site.store.status();
    // How many there are is the operator's business, and the metrics tell; here it counts that the rooms answer.
    let rooms_answer = site.hub.stats().await.is_some();
    let capacity = site.capacity.code(store.rooms);
    let healthy = store.state.is_healthy() && site.turn.is_healthy() && rooms_answer && capacity == "ok";
    let status = match (draining, healthy) {
        (true, _) => "draining",
        (false, true) => "ok",
        (false, false) => "degraded",
    };
    let answer = json!({
        "status": status,
        "version": env!("CARGO_PKG_VERSION"),
        "uptimeSeconds": site.started.elapsed().as_secs(),
        "creation": {"status": capacity, "mode": mode(&site.creation)},
        "store": store_health(&store.state),
        "turn": site.turn.health(),
    });
    let code = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    no_store((code, Json(answer)).into_response())
}

/// The word for who may make rooms.
fn mode(creation: &RoomCreation) -> &'static str {
    match creation {
        RoomCreation::Open => "open",
        RoomCreation::Key(_) => "key",
        RoomCreation::Closed => "closed",
    }
}

fn store_health(state: &StoreState) -> Value {
    let mut health = json!({"status": state.code()});
    match state {
        StoreState::Recovered { quarantined, from } => {
            health["quarantined"] = json!(quarantined);
            health["from"] = json!(from.code());
        }
        StoreState::ReadOnly { reason } | StoreState::Unavailable { reason } => {
            health["reason"] = json!(reason);
        }
        StoreState::Opening | StoreState::Ok | StoreState::DiskFull => {}
    }
    health
}

/// The WebSocket. Without an upgrade it says whether one would be taken: a page whose WebSocket fails is not told why by its browser, and
/// asks by `POST`, which carries its `Origin` as a handshake does.
async fn websocket(
    State(site): State<Arc<Site>>,
    Extension(client): Extension<Client>,
    Extension(admitted): Extension<Arc<Admitted>>,
    method: Method,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response<Body> {
    // A native client sends no Origin; a browser always does, so another site's page cannot get in.
    if let Some(origin) = headers.get(ORIGIN) {
        let own = origin.to_str().is_ok_and(|origin| {
            page::is_own_origin(origin, site.authority_of(&headers), &site.allowed_origins)
        });
        if !own {
            return refusal(
                StatusCode::FORBIDDEN,
                "BAD_ORIGIN",
                "Another site's page may not use this relay. Its operator can allow it with --allowed-origin.",
            );
        }
    }
    if is_for_a_socket(&method, upgrade.is_ok()) && admitted.is_socket_of(client.address).is_err() {
        let message = "Too many connections from this network. Close some, or wait a moment.";
        let mut response = refusal(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
        return response;
    }
    let Ok(upgrade) = upgrade else {
        let message = "This address speaks WebSocket only. If that is what you sent, a proxy took its Upgrade header away.";
        let mut response = refusal(StatusCode::UPGRADE_REQUIRED, "BAD_MESSAGE", message);
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        // A place that was taken for a socket is given back.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return response;
    };
    let hub = site.hub.clone();
    let host = reached_by(&headers);
    socket::sized(upgrade).on_upgrade(move |socket| async move {
        socket::serve(socket, hub, client.address, host, &admitted).await;
    })
}

/// Whether a request to `/ws` needs a place for a socket. A page asks by `POST` why its WebSocket failed; any other request
/// without an upgrade cannot become one.
fn is_for_a_socket(method: &Method, upgrades: bool) -> bool {
    upgrades || method == Method::POST
}

/// The name or address by which the client reached the relay, so that it can be told of servers that it can reach.
fn reached_by(headers: &HeaderMap) -> Option<Host> {
    let (host, _) = Host::of_authority(headers.get(HOST)?.to_str().ok()?)?;
    Some(host)
}

fn no_store(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
    response
}

/// An error of the HTTP side; [`error_page::dress`] gives it its form.
fn refusal(status: StatusCode, code: &'static str, message: &'static str) -> Response<Body> {
    refused(status, Refused { code, message })
}

fn refused(status: StatusCode, why: Refused) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.extensions_mut().insert(why);
    no_store(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_can_be_no_websocket_takes_no_place_of_one() {
        for (upgrades, method, takes) in [
            (true, Method::GET, true),
            // How a page asks why its WebSocket failed.
            (false, Method::POST, true),
            (false, Method::GET, false),
            (false, Method::HEAD, false),
        ] {
            assert_eq!(is_for_a_socket(&method, upgrades), takes, "{method}, upgrade: {upgrades}");
        }
    }

    #[tokio::test]
    async fn caches_are_told_that_a_person_gets_another_answer_for_a_name_that_is_no_room() {
        let mut person = HeaderMap::new();
        person.insert("accept", HeaderValue::from_static("text/html"));
        let answer = page_or_file(Uri::from_static("/room/no%20room"), person).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        let vary: Vec<_> = answer.headers().get_all(VARY).iter().collect();
        assert_eq!(vary, ["accept, accept-encoding"]);
    }
}
