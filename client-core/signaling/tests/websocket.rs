//! What clients are told when what answers is no relay, or one that cannot serve: small servers on loopback that say it.

use std::time::Duration;

use snug_signaling::{ConnectError, Connector, ConnectorConfig, Incoming, Target, TlsRoots, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A certificate for these names, and a connector that trusts it.
struct Made {
    dir: tempfile::TempDir,
    acceptor: tokio_rustls::TlsAcceptor,
}

fn made(names: &[&str], expired: bool) -> Made {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).expect("names");
    if expired {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    }
    let key = rcgen::KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("a certificate");
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(dir.path().join("cert.pem"), cert.pem()).expect("write");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("they match");
    Made { dir, acceptor: std::sync::Arc::new(config).into() }
}

impl Made {
    fn connector(&self) -> Connector {
        let roots = TlsRoots::Pem(self.dir.path().join("cert.pem"));
        Connector::new(ConnectorConfig { roots, quic: true, user_agent: "test/1 \n".into() })
            .expect("a connector")
    }
}

async fn listener(scheme: &str) -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, format!("{scheme}://{address}").parse().expect("an address"))
}

/// What a client makes of this answer to its first request.
async fn answered(answer: &'static str) -> ConnectError {
    let (listener, target) = listener("http").await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut request = [0; 2048];
        let length = stream.read(&mut request).await.expect("a request");
        assert!(String::from_utf8_lossy(&request[..length]).starts_with("GET /ws HTTP/1.1\r\n"));
        stream.write_all(answer.as_bytes()).await.expect("it listens");
    });
    let connector = made(&["localhost"], false).connector();
    connector.connect(&target).await.err().expect("it is no relay")
}

#[tokio::test]
async fn an_answer_that_is_no_relays_is_told_in_words() {
    for (answer, code) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "not_a_relay"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "not_a_relay"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "not_a_relay"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "not_a_relay"),
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "relay_unavailable"),
    ] {
        let error = answered(answer).await;
        assert_eq!(error.code(), code, "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn too_many_connections_say_how_long_to_wait() {
    let error =
        answered("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(error, ConnectError::TooMany { retry_after: Some(Duration::from_secs(7)) });
    let error = answered("HTTP/1.1 429 Too Many Requests\r\nRetry-After: soon\r\n\r\n").await;
    assert_eq!(error, ConnectError::TooMany { retry_after: None });
    assert!(error.to_string().contains("wait 10 s"), "{error}");
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_refuses() {
    let (listener, target) = listener("https").await;
    drop(listener);
    let error =
        made(&["127.0.0.1"], false).connector().connect(&target).await.err().expect("nobody is there");
    assert_eq!(error, ConnectError::Refused { authority: target.authority() });
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told() {
    for (names, expired, trusted, code) in [
        (&["localhost"][..], false, true, "certificate_wrong_name"),
        (&["127.0.0.1"], true, true, "certificate_expired"),
        (&["127.0.0.1"], false, false, "certificate_self_signed"),
    ] {
        let (listener, target) = listener("https").await;
        let server = made(names, expired);
        let connector = if trusted { server.connector() } else { made(names, false).connector() };
        let acceptor = server.acceptor.clone();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            acceptor.accept(stream).await.err()
        });
        let error = connector.connect(&target).await.err().expect("it must not be trusted");
        assert_eq!(error.code(), code, "{error}");
    }
}

#[tokio::test]
async fn https_to_a_port_of_plain_http_says_so() {
    let (listener, target) = listener("https").await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("it listens");
        // Held open until the client has read it.
        stream.read_to_end(&mut Vec::new()).await
    });
    let error = made(&["127.0.0.1"], false).connector().connect(&target).await.err().expect("no TLS there");
    assert_eq!(error.code(), "tls_failed", "{error}");
}

#[tokio::test]
async fn a_websocket_carries_text_both_ways_in_halves_and_ends_with_its_code() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let (listener, target) = listener("http").await;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
        let hello = socket.next().await.expect("a frame").expect("sound");
        socket.send(Message::Ping(Vec::new().into())).await.expect("it is up");
        socket.send(hello).await.expect("it is up");
        match socket.next().await {
            Some(Ok(Message::Pong(_))) => {}
            other => panic!("{other:?} is no pong"),
        }
        let code = match socket.next().await {
            Some(Ok(Message::Close(Some(frame)))) => u16::from(frame.code),
            other => panic!("{other:?} is no goodbye"),
        };
        // The answer to the goodbye goes out with the next look.
        while let Some(Ok(_)) = socket.next().await {}
        code
    });
    let connection = made(&["localhost"], false).connector().connect(&target).await.expect("a connection");
    assert_eq!(connection.transport(), Transport::WebSocket);
    let (mut sender, mut receiver) = connection.split();
    // Both halves may live in tasks of their own.
    let sender = tokio::spawn(async move {
        sender.send("hëllo").await.expect("it is up");
        sender
    });
    let received = tokio::spawn(async move { (receiver.recv().await, receiver) });
    let (message, mut receiver) = received.await.expect("no panic");
    assert_eq!(message, Incoming::Message("hëllo".into()));
    sender.await.expect("no panic").close(1001).await;
    assert_eq!(server.await.expect("no panic"), 1001);
    assert_eq!(receiver.recv().await, Incoming::Closed { code: Some(1001) });
}

#[test]
fn roots_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "nothing").expect("write");
    for path in [empty, dir.path().join("missing.pem")] {
        let config =
            ConnectorConfig { roots: TlsRoots::Pem(path.clone()), quic: true, user_agent: String::new() };
        let error = Connector::new(config).err().expect("no authority in there").to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
}
