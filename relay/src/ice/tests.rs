//! What participants are told.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use snug_room_proto::IceServerSource;
use snug_wire::{IceServer, RoomId, UserId};

use super::{Host, IceConfig, IceServers, IceUrl, OwnServer, draw_secret, read_secret};

fn config(urls: &[&str]) -> IceConfig {
    IceConfig {
        urls: urls.iter().map(|url| IceUrl::parse(url).expect(url)).collect(),
        secret: read_secret("north\n".into()),
        ttl: Duration::from_secs(3600),
        host: None,
    }
}

/// Without a server of the relay's own.
fn others(urls: &[&str]) -> IceServers {
    IceServers::new(config(urls), Arc::default())
}

fn with_own(config: IceConfig, ports: &[u16], tls_ports: &[u16]) -> IceServers {
    let own = OwnServer { ports: ports.to_vec(), tls_ports: tls_ports.to_vec() };
    IceServers::new(config, Arc::new(RwLock::new(own)))
}

fn room(id: &str) -> RoomId {
    id.parse().expect("a room id")
}

fn user(first: u8) -> UserId {
    UserId::from_bytes(std::array::from_fn(|n| n as u8 + first))
}

fn urls(servers: &IceServers, host: Option<&str>) -> Vec<String> {
    let servers = servers.ice_servers(&room("room-one"), user(0), host, 0);
    servers.into_iter().flat_map(|server| server.urls).collect()
}

#[test]
fn a_credential_is_what_another_tool_computes() {
    // printf '%s' 1764003600:jWohcO0MCmQvi4lfHISpdg.T-KJ47Uf6Pz097zuHiJBKA |
    //     openssl dgst -sha1 -hmac north -binary | base64
    let servers = others(&["turn:turn.example.org:3478?transport=udp"]).ice_servers(
        &room("sunny-mountain-42"),
        user(0),
        None,
        1_764_000_000,
    );
    let expected = IceServer {
        urls: vec!["turn:turn.example.org:3478?transport=udp".into()],
        username: Some("1764003600:jWohcO0MCmQvi4lfHISpdg.T-KJ47Uf6Pz097zuHiJBKA".into()),
        credential: Some("K2PBjMje18dbIMGOlBCYdDoww3Q=".into()),
    };
    assert_eq!(servers, [expected]);
}

#[test]
fn stun_servers_get_no_credential_and_each_kind_one_entry() {
    let servers = others(&["turn:a.example", "stun:b.example:3478", "turns:a.example:5349?transport=tcp"]);
    let servers = servers.ice_servers(&room("room-one"), user(0), None, 0);
    assert_eq!(servers.len(), 2);
    assert_eq!(servers[0].urls, ["stun:b.example:3478"]);
    assert!(servers[0].username.is_none() && servers[0].credential.is_none());
    assert_eq!(servers[1].urls, ["turn:a.example", "turns:a.example:5349?transport=tcp"]);
    assert!(servers[1].username.is_some() && servers[1].credential.is_some());
    assert!(others(&[]).ice_servers(&room("room-one"), user(0), Some("a.example"), 0).is_empty());
}

#[test]
fn no_two_participants_share_a_credential() {
    let servers = others(&["turn:a.example"]);
    let credential =
        |id, first, unix| servers.ice_servers(&room(id), user(first), None, unix)[0].credential.clone();
    let one = credential("room-one", 0, 10);
    assert_eq!(one, credential("room-one", 0, 10));
    for other in [("room-two", 0, 10), ("room-one", 1, 10), ("room-one", 0, 11)] {
        assert_ne!(one, credential(other.0, other.1, other.2));
    }
}

#[test]
fn the_own_server_is_named_as_the_client_reached_the_relay() {
    let servers = with_own(config(&[]), &[3478], &[5349]);
    for host in ["meet.example.org", "192.0.2.1", "[2001:db8::1]"] {
        let expected = [
            format!("stun:{host}:3478"),
            format!("turn:{host}:3478?transport=udp"),
            format!("turn:{host}:3478?transport=tcp"),
            format!("turns:{host}:5349?transport=tcp"),
        ];
        assert_eq!(urls(&servers, Some(host)), expected);
        assert!(expected.iter().all(|url| IceUrl::parse(url).is_ok()));
    }
    assert!(urls(&servers, None).is_empty(), "a name that nobody knows helps nobody");
}

#[test]
fn a_host_that_the_operator_gives_stands_above_the_clients() {
    let host = Host::parse("turn.example.org");
    let servers = with_own(IceConfig { host, ..config(&[]) }, &[3478], &[]);
    let expected = [
        "stun:turn.example.org:3478",
        "turn:turn.example.org:3478?transport=udp",
        "turn:turn.example.org:3478?transport=tcp",
    ];
    assert_eq!(urls(&servers, Some("meet.example.org")), expected);
    assert_eq!(urls(&servers, None), expected);
}

#[test]
fn the_own_server_comes_before_others_and_shares_their_credential() {
    let servers = with_own(config(&["turn:b.example", "stun:b.example"]), &[3478], &[]);
    let told = servers.ice_servers(&room("room-one"), user(0), Some("a.example"), 0);
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].urls, ["stun:a.example:3478", "stun:b.example"]);
    assert_eq!(told[1].urls.last().map(String::as_str), Some("turn:b.example"));
    assert_eq!(told[1].urls[0], "turn:a.example:3478?transport=udp");
    let alone = others(&["turn:b.example"]).ice_servers(&room("room-one"), user(0), None, 0);
    assert_eq!(told[1].credential, alone[0].credential);
}

#[test]
fn the_own_server_is_told_of_while_it_runs() {
    let own = Arc::new(RwLock::new(OwnServer::default()));
    let servers = IceServers::new(config(&[]), own.clone());
    assert!(urls(&servers, Some("a.example")).is_empty());
    *own.write().expect("not poisoned") = OwnServer { ports: vec![1], tls_ports: vec![] };
    assert_eq!(urls(&servers, Some("a.example")).len(), 3);
    *own.write().expect("not poisoned") = OwnServer::default();
    assert!(urls(&servers, Some("a.example")).is_empty());
}

#[test]
fn what_a_participant_is_told_stays_small() {
    let many = [9, 10, 11, 12, 13, 14, 15, 16];
    let others = vec!["turn:others.example"; 16];
    let servers = with_own(config(&others), &[1, 2, 3, 4, 5, 6, 7, 8], &many);
    let host = "a".repeat(253);
    let told = servers.ice_servers(&room(&"r".repeat(64)), user(0), Some(&host), u64::MAX);
    assert!(told.len() <= 16 && told.iter().all(|entry| entry.urls.len() <= 16));
    let urls = told.iter().filter(|entry| entry.credential.is_some()).map(|entry| entry.urls.len());
    assert_eq!(urls.sum::<usize>(), 3 * 8 + 16, "none is left out");
    let bytes = serde_json::to_string(&told).expect("JSON").len();
    assert!(bytes < 12 * 1024, "{bytes}");
}

#[test]
fn an_empty_secret_is_none_and_a_drawn_one_is_nobody_elses() {
    assert!(read_secret(" \n".into()).is_none());
    let draw = || draw_secret().expect("randomness").password("1:room.user");
    assert_ne!(draw(), draw());
}
