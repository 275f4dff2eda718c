//! What the tunnels of one connection keep account of.

use super::*;

fn servers(urls: &[&str]) -> Vec<IceServer> {
    vec![IceServer {
        urls: urls.iter().map(|&url| url.to_owned()).collect(),
        username: Some("name".to_owned()),
        credential: Some("word".to_owned()),
    }]
}

fn tunnels() -> (Arc<Tunnels>, Arc<Mutex<Vec<RelayProblem>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let problems = Arc::clone(&told);
    let config = FactoryConfig::default();
    (Arc::new(Tunnels::new(&config, move |problem| problems.lock().unwrap().push(problem))), told)
}

fn stand_in(tunnels: &Tunnels, url: &str) -> SocketAddr {
    let number = servers::stand_in_number(url).expect("a stand-in");
    tunnels.stand_in(number)[0]
}

fn allocate(kind: u16, id: u8, attributes: &[u8]) -> Vec<u8> {
    let mut message = [kind, attributes.len() as u16].map(u16::to_be_bytes).concat();
    message.extend_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
    message.extend_from_slice(&[id; 12]);
    message.extend_from_slice(attributes);
    message
}

#[tokio::test]
async fn the_library_sees_stand_ins_for_streams_and_everything_else_as_it_is() {
    let (tunnels, _) = tunnels();
    let named = servers(&[
        "stun:host:1",
        "turn:host:1?transport=udp",
        "turn:host:1?transport=tcp",
        "turn:",
        "turns:host",
    ]);
    let seen = tunnels.stand_ins(&named).unwrap();
    // Nobody's certificate is trusted, so there is no TLS.
    assert_eq!(seen[0].urls.len(), 3, "{:?}", seen[0].urls);
    assert_eq!(seen[0].urls[..2], named[0].urls[..2]);
    assert_eq!((&seen[0].username, &seen[0].credential), (&named[0].username, &named[0].credential));
    assert_eq!(tunnels.protocol(&seen[0].urls[2]), RelayProtocol::Tcp);
    assert_eq!(tunnels.protocol(&seen[0].urls[1]), RelayProtocol::Udp);
}

#[tokio::test]
async fn a_server_keeps_its_stand_in_and_one_that_is_not_named_any_more_is_gone() {
    let (tunnels, _) = tunnels();
    let named = servers(&["turn:host:1?transport=tcp"]);
    let first = tunnels.stand_ins(&named).unwrap()[0].urls.clone();
    let at = stand_in(&tunnels, &first[0]);
    assert_eq!(tunnels.stand_ins(&named).unwrap()[0].urls, first);
    assert_eq!(stand_in(&tunnels, &first[0]), at);
    let other = tunnels.stand_ins(&servers(&["turn:other?transport=tcp"])).unwrap()[0].urls.clone();
    assert_ne!(other, first);
    assert!(!tunnels.is_stand_in(at));
}

#[tokio::test]
async fn one_socket_has_the_stream_and_gives_it_back() {
    let (tunnels, _) = tunnels();
    let seen = tunnels.stand_ins(&servers(&["turn:host:1?transport=tcp"])).unwrap();
    let (one, two) = (tunnels.add_socket(None), tunnels.add_socket(None));
    let at = stand_in(&tunnels, &seen[0].urls[0]);
    assert!(tunnels.is_stand_in(at) && !tunnels.is_stand_in("240.0.0.1:3478".parse().unwrap()));
    assert!(tunnels.claim(at, one).is_ok() && tunnels.claim(at, two).is_err());
    tunnels.remove_socket(one);
    assert!(tunnels.claim(at, two).is_ok());
}

#[tokio::test]
async fn the_family_with_the_fewest_sockets_asks() {
    let (tunnels, _) = tunnels();
    let seen = tunnels.stand_ins(&servers(&["turn:host:1?transport=tcp"])).unwrap();
    let add = |text: &str| tunnels.add_socket(Some(text.parse().unwrap()));
    add("[2001:db8::1]:1");
    assert!(stand_in(&tunnels, &seen[0].urls[0]).is_ipv6());
    add("192.0.2.1:1");
    assert!(stand_in(&tunnels, &seen[0].urls[0]).is_ipv4());
    add("192.0.2.2:1");
    assert!(stand_in(&tunnels, &seen[0].urls[0]).is_ipv6());
}

#[tokio::test]
async fn a_refused_credential_is_told_and_the_first_refusal_is_not() {
    let (tunnels, told) = tunnels();
    let refusal = [0, 9, 0, 4, 0, 0, 4, 1];
    let asks = |message: &[u8]| tunnels.asks(message, || "turn:host".to_owned());
    asks(&allocate(0x0003, 1, &[]));
    tunnels.heard(&allocate(0x0113, 1, &refusal), RelayProtocol::Udp);
    assert!(told.lock().unwrap().is_empty());
    asks(&allocate(0x0003, 2, &[0, 6, 0, 4, b'n', b'a', b'm', b'e']));
    tunnels.heard(&allocate(0x0113, 3, &refusal), RelayProtocol::Udp);
    assert!(told.lock().unwrap().is_empty(), "nobody asked that");
    tunnels.heard(&allocate(0x0113, 2, &refusal), RelayProtocol::Udp);
    tunnels.heard(&allocate(0x0113, 2, &refusal), RelayProtocol::Udp);
    assert_eq!(*told.lock().unwrap(), [RelayProblem::Credential { server: "turn:host".to_owned() }]);
}

#[tokio::test(start_paused = true)]
async fn a_better_protocol_goes_first_when_it_comes_soon() {
    let (tunnels, _) = tunnels();
    tunnels.stand_ins(&servers(&["turn:host:1", "turn:host:1?transport=tcp"])).unwrap();
    let start = tokio::time::Instant::now();
    tunnels.let_better_go_first(RelayProtocol::Tcp).await;
    assert_eq!(start.elapsed(), HEAD_START);
    tunnels.asks(&allocate(0x0003, 1, &[]), || "turn:host".to_owned());
    tunnels.heard(&allocate(0x0103, 1, &[]), RelayProtocol::Udp);
    tunnels.let_better_go_first(RelayProtocol::Tcp).await;
    assert!(start.elapsed() < HEAD_START * 2, "{:?}", start.elapsed());
}
