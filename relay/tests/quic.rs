//! The relay's binary and the clients' own connection, over QUIC and WebSocket, on loopback.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use snug_signaling::{Connection, Connector, ConnectorConfig, Incoming, Target, TlsRoots, Transport};
use snug_wire::SigningIdentity;

/// Nothing on loopback takes that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A lost packet is repeated sooner.
const SILENCE: Duration = Duration::from_millis(800);

/// A relay of its own, ended with the test.
struct Relay {
    process: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Relay {
    fn start(more: &[&str]) -> Self {
        Self::start_with(0, more)
    }

    fn start_with(more_names: usize, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        Self::certify_for(dir.path(), more_names);
        let (process, port) = Self::launch(dir.path(), 0, more);
        Self { process, port, dir }
    }

    /// Ends it as a power cut would, and starts it again with what it has on disk.
    fn crash(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
        (self.process, _) = Self::launch(self.dir.path(), self.port, &[]);
    }

    fn launch(dir: &std::path::Path, port: u16, more: &[&str]) -> (Child, u16) {
        let path = |name: &str| dir.join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_snug-relay"));
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--metrics-listen", "off", "--no-turn", "--quiet"]);
        command.arg("--tls-cert").arg(path("cert.pem")).arg("--tls-key").arg(path("key.pem"));
        command.arg("--data-dir").arg(path("data")).args(more).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the relay starts");
        let mut log = BufReader::new(process.stderr.take().expect("piped")).lines();
        let mut port = |scheme: &str| {
            let line = log.by_ref().map(|line| line.expect("UTF-8")).find(|line| line.contains(scheme));
            let line = line.expect("the relay says where it listens");
            line.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
        };
        let https = port("https://");
        if !more.contains(&"off") {
            assert_eq!(port("quic://"), https, "QUIC is where HTTPS is");
        }
        std::thread::spawn(move || log.for_each(drop));
        (process, https)
    }

    fn connector(&self, quic: bool) -> Connector {
        let roots = TlsRoots::Pem(self.dir.path().join("cert.pem"));
        Connector::new(ConnectorConfig { roots, quic, user_agent: "test/1".into() }).expect("a connector")
    }

    fn target(&self) -> Target {
        format!("https://127.0.0.1:{}", self.port).parse().expect("an address")
    }

    async fn client(&self, quic: bool) -> Client {
        let connection = self.connector(quic).connect(&self.target()).await.expect("a connection");
        let wanted = if quic { Transport::Quic } else { Transport::WebSocket };
        assert_eq!(connection.transport(), wanted);
        Client { connection, id: String::new() }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, signal).expect("it runs");
    }

    /// Puts a fresh certificate where the relay reads its own.
    fn certify(dir: &std::path::Path) {
        Self::certify_for(dir, 0);
    }

    /// As large as a chain of certificates, with so many more names.
    fn certify_for(dir: &std::path::Path, more: usize) {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        names.extend((0..more).map(|n| format!("name-{n:03}.of-a-large-certificate.example.org")));
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        std::fs::write(dir.join("cert.pem"), made.cert.pem()).expect("write");
        std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).expect("write");
    }

    /// A QUIC connection without our client around it.
    async fn raw(&self) -> (quinn::Endpoint, quinn::Connection) {
        let (endpoint, config) = self.endpoint();
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let connection = endpoint.connect_with(config, address, "localhost").expect("sound").await;
        (endpoint, connection.expect("a connection"))
    }

    fn endpoint(&self) -> (quinn::Endpoint, quinn::ClientConfig) {
        let mut roots = rustls::RootCertStore::empty();
        let der = CertificateDer::from_pem_file(self.dir.path().join("cert.pem")).expect("a certificate");
        roots.add(der).expect("sound");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"snug/2".to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS 1.3")));
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a socket");
        (endpoint, config)
    }
}

/// A participant.
struct Client {
    connection: Connection,
    id: String,
}

impl Client {
    async fn say(&mut self, message: Value) {
        self.connection.send(&message.to_string()).await.expect("it is up");
    }

    async fn next(&mut self) -> Incoming {
        tokio::time::timeout(PATIENCE, self.connection.recv()).await.expect("in time")
    }

    /// The next message, which has to be of this type.
    async fn hear(&mut self, kind: &str) -> Value {
        match self.next().await {
            Incoming::Message(text) => {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!(message["type"], kind, "{text}");
                message
            }
            Incoming::Closed { code } => panic!("closed with {code:?} instead of {kind}"),
        }
    }

    async fn join(&mut self, room: &str, number: u8) -> Value {
        let identity = SigningIdentity::from_bytes(&[number; 32]).expect("a small number is a private key");
        self.id = identity.user_id().to_string();
        self.say(json!({"type": "hello", "versions": [2]})).await;
        let welcome = self.hear("welcome").await;
        let nonce = welcome["nonce"].as_str().expect("a nonce").parse().expect("a nonce");
        let name = json!({"plain": format!("{{\"name\":\"{number}\"}}"), "proof": "AAAA"});
        let proof = identity.prove(&nonce, &room.parse().expect("a room id"));
        self.say(
            json!({"type": "join_room", "roomId": room, "publicKey": identity.public_key(), "keyProof": proof,
            "displayName": name}),
        )
        .await;
        self.hear("room_joined").await
    }
}

#[tokio::test]
async fn clients_over_quic_and_websocket_meet_in_one_room() {
    let relay = Relay::start(&[]);
    let (mut one, mut two) = (relay.client(true).await, relay.client(false).await);
    one.join("sunny-hill", 1).await;
    let joined = two.join("sunny-hill", 2).await;
    assert_eq!(joined["participants"][0]["userId"], json!(one.id));
    assert_eq!(one.hear("user_joined").await["participant"]["userId"], json!(two.id));
    let big = "x".repeat(30_000);
    let offer = |target: &str| json!({"type": "offer", "targetId": target, "payload": {"plain": big}});
    one.say(offer(&two.id)).await;
    assert_eq!(two.hear("offer_received").await["payload"]["plain"], json!(big));
    two.say(offer(&one.id)).await;
    assert_eq!(one.hear("offer_received").await["payload"]["plain"], json!(big));
}

#[tokio::test]
async fn a_change_of_address_keeps_the_seat_and_the_messages() {
    let relay = Relay::start(&[]);
    let (mut one, mut two) = (relay.client(true).await, relay.client(true).await);
    one.join("sunny-hill", 1).await;
    two.join("sunny-hill", 2).await;
    one.hear("user_joined").await;
    for round in 0..3 {
        one.connection.rebind().expect("a socket");
        one.say(json!({"type": "toggle_hand", "enabled": round % 2 == 0})).await;
        // `user_away` would come before it, had the relay lost the connection.
        assert_eq!(two.hear("peer_state").await["media"]["hand"], json!(round % 2 == 0));
        two.say(json!({"type": "toggle_hand", "enabled": round % 2 == 0})).await;
        one.hear("peer_state").await;
    }
    assert!(relay.client(false).await.connection.rebind().is_err(), "a WebSocket cannot move");
}

#[tokio::test]
async fn leaving_gives_the_seat_up_and_breaking_off_does_not() {
    let relay = Relay::start(&[]);
    let mut watcher = relay.client(true).await;
    watcher.join("sunny-hill", 1).await;
    for quic in [true, false] {
        let mut leaving = relay.client(quic).await;
        leaving.join("sunny-hill", 2).await;
        watcher.hear("user_joined").await;
        leaving.say(json!({"type": "toggle_audio", "enabled": true})).await;
        leaving.connection.close(1000).await;
        watcher.hear("peer_state").await;
        assert_eq!(watcher.hear("user_left").await["reason"], "left");
    }
    for (number, quic) in [(3, true), (4, false)] {
        let mut broken = relay.client(quic).await;
        broken.join("sunny-hill", number).await;
        watcher.hear("user_joined").await;
        drop(broken);
        watcher.hear("user_away").await;
    }
}

#[tokio::test]
async fn who_is_removed_hears_it_and_gets_the_close_code() {
    let relay = Relay::start(&[]);
    let mut owner = relay.client(false).await;
    owner.join("sunny-hill", 1).await;
    for (number, quic) in [(2, true), (3, false)] {
        let mut guest = relay.client(quic).await;
        guest.join("sunny-hill", number).await;
        owner.hear("user_joined").await;
        owner.say(json!({"type": "kick", "targetId": guest.id})).await;
        guest.hear("kicked").await;
        assert_eq!(guest.next().await, Incoming::Closed { code: Some(4001) });
        assert_eq!(guest.next().await, Incoming::Closed { code: Some(4001) }, "and says so again");
        assert_eq!(owner.hear("user_left").await["reason"], "kicked");
        owner.hear("room_updated").await;
        owner.hear("done").await;
        // From here on a newcomer would have to be let in.
        owner.say(json!({"type": "unban"})).await;
        owner.hear("room_updated").await;
        owner.hear("done").await;
    }
}

#[tokio::test]
async fn a_relay_that_stops_tells_who_is_connected_by_quic() {
    let relay = Relay::start(&["--drain-seconds", "0"]);
    let mut client = relay.client(true).await;
    client.join("sunny-hill", 1).await;
    relay.signal(rustix::process::Signal::TERM);
    client.hear("drain").await;
    assert_eq!(client.next().await, Incoming::Closed { code: Some(4005) });
}

#[tokio::test]
async fn a_relay_that_crashed_and_is_back_says_that_it_knows_nothing_of_a_connection() {
    let mut relay = Relay::start(&[]);
    let (_endpoint, connection) = relay.raw().await;
    let mut client = relay.client(true).await;
    client.join("sunny-hill", 1).await;
    relay.crash();
    // The connection from `raw` sends nothing by itself; our client does, and is told of it.
    assert_eq!(client.next().await, Incoming::Closed { code: None });
    connection.open_bi().await.expect("a stream").0.write_all(&[0; 64]).await.expect("taken");
    let end = tokio::time::timeout(PATIENCE, connection.closed()).await.expect("in time");
    assert!(matches!(end, quinn::ConnectionError::Reset), "{end}");
}

#[tokio::test]
async fn what_is_no_message_is_answered_with_the_close_code() {
    let relay = Relay::start(&[]);
    let garbled = [&[0, 0, 0, 2, 0xff, 0xff][..], &[0, 1, 0, 1], &[255; 4096]];
    for (bytes, code) in garbled.into_iter().zip([4000u32, 1009, 1009]) {
        let (_endpoint, connection) = relay.raw().await;
        let (mut send, _receive) = connection.open_bi().await.expect("a stream");
        send.write_all(bytes).await.expect("it is up");
        match tokio::time::timeout(PATIENCE, connection.closed()).await.expect("in time") {
            quinn::ConnectionError::ApplicationClosed(close) => assert_eq!(close.error_code, code.into()),
            other => panic!("{other}"),
        }
    }
    let mut client = relay.client(true).await;
    client.say(json!({"type": "hello", "versions": [2]})).await;
    client.hear("welcome").await;
    client.connection.send("not JSON").await.expect("it is up");
    assert_eq!(client.hear("error").await["code"], "BAD_MESSAGE");
    assert!(client.connection.send(&"x".repeat(65_537)).await.is_err(), "the client knows the limit");
}

#[tokio::test]
async fn a_client_has_one_stream_and_no_more() {
    let relay = Relay::start(&[]);
    let (_endpoint, connection) = relay.raw().await;
    let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
    send.write_all(b"\0\0\0\x20{\"type\":\"hello\",\"versions\":[2] }").await.expect("it is up");
    let mut head = [0; 4];
    receive.read_exact(&mut head).await.expect("an answer");
    let second = tokio::time::timeout(Duration::from_millis(100), connection.open_bi());
    assert!(second.await.is_err(), "a second stream has to wait for ever");
    let third = tokio::time::timeout(Duration::from_millis(100), connection.open_uni());
    assert!(third.await.is_err());
    assert!(connection.send_datagram(vec![0].into()).is_err());
}

#[tokio::test]
async fn an_address_that_is_not_proven_gets_no_more_than_three_times_what_came_from_it() {
    // Certificates of different sizes leave different parts of what may be answered.
    for more in [0, 20, 40] {
        let relay = Relay::start_with(more, &[]);
        let there = SocketAddr::from(([127, 0, 0, 1], relay.port));
        // Somebody who cannot be heard: one packet comes through, and no answer gets back.
        let between = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        between.set_read_timeout(Some(SILENCE)).expect("a time");
        let (endpoint, config) = relay.endpoint();
        let address = between.local_addr().expect("bound");
        let connecting = endpoint.connect_with(config, address, "localhost").expect("sound");
        let (came, answered) = tokio::task::spawn_blocking(move || {
            let mut buffer = [0; 2048];
            let (came, client) = between.recv_from(&mut buffer).expect("an Initial packet");
            between.send_to(&buffer[..came], there).expect("sent");
            let mut answered = 0;
            while let Ok((length, from)) = between.recv_from(&mut buffer) {
                answered += if from == client { 0 } else { length };
            }
            (came, answered)
        })
        .await
        .expect("no panic");
        drop(connecting);
        assert!(answered > 0, "it was heard");
        assert!(answered <= 3 * came, "{answered} bytes for {came}, with {more} more names");
    }
}

#[tokio::test]
async fn a_burst_of_clients_gets_through_though_each_has_to_prove_its_address() {
    let relay = Relay::start(&[]);
    let many = (0..100).map(|_| relay.raw());
    let all = futures_util::stream::iter(many).buffer_unordered(100).collect::<Vec<_>>();
    let all = tokio::time::timeout(PATIENCE, all).await.expect("in time");
    assert_eq!(all.len(), 100);
}

#[tokio::test]
async fn a_silent_connection_gives_its_place_to_a_person() {
    let relay = Relay::start(&["--max-connections", "1"]);
    let (_endpoint, silent) = relay.raw().await;
    let mut person = relay.client(true).await;
    person.join("sunny-hill", 1).await;
    silent.closed().await;
    let error = relay.connector(true).connect(&relay.target()).await.err().expect("there is no place");
    assert_eq!(error.code(), "unreachable", "{error}");
}

#[tokio::test]
async fn where_udp_is_swallowed_the_websocket_is_up_soon() {
    let relay = Relay::start(&["--quic-listen", "off"]);
    let _silent = UdpSocket::bind(("127.0.0.1", relay.port)).expect("the UDP port is free");
    let connector = relay.connector(true);
    for what in ["not knowing that UDP is swallowed", "remembering it"] {
        let start = Instant::now();
        let connection = connector.connect(&relay.target()).await.expect("a connection");
        eprintln!("{what}: up after {:?}", start.elapsed());
        assert_eq!(connection.transport(), Transport::WebSocket);
        connection.close(1000).await;
    }
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_and_connections_stay() {
    let relay = Relay::start(&[]);
    let mut before = relay.client(true).await;
    before.join("sunny-hill", 1).await;
    Relay::certify(relay.dir.path());
    relay.signal(rustix::process::Signal::HUP);
    // It trusts the replacement alone, so it gets in once that is shown.
    let connector = relay.connector(true);
    let shown = async { while connector.connect(&relay.target()).await.is_err() {} };
    tokio::time::timeout(PATIENCE, shown).await.expect("in time");
    // By QUIC as well.
    relay.client(true).await;
    before.say(json!({"type": "ping"})).await;
    before.hear("pong").await;
}
