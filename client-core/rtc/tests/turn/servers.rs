//! Real TURN servers on loopback: the project's own relay, and coturn (Debian: `apt-get install coturn`).

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use snug_signaling::{Connection, Connector, ConnectorConfig, Incoming, TlsRoots};
use snug_wire::{IceServer, SigningIdentity};

use crate::needs;
use crate::relay_binary::relay_binary;

const PATIENCE: Duration = Duration::from_secs(20);
const USER: (&str, &str) = ("snug", "open sesame");

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A key and a certificate for these names, in a folder of their own.
pub(super) struct Certificate(tempfile::TempDir);

impl Certificate {
    pub(super) fn new(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The settings of a client that trusts this one alone.
    pub(super) fn trusted(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("cert.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Arc::new(versions.unwrap().with_root_certificates(roots).with_no_client_auth())
    }
}

/// A port that nobody has, UDP and TCP. Somebody may take it before the server does; then the test fails with the server's own words.
pub(super) fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

pub(super) struct Coturn {
    process: Option<Process>,
    pub(super) port: u16,
    pub(super) tls_port: u16,
    pub(super) certificate: Certificate,
}

impl Coturn {
    /// `None`: the test is skipped, because it is not installed.
    pub(super) fn start() -> Option<Self> {
        Self::with_certificate(Certificate::new(&["127.0.0.1", "localhost"]))
    }

    pub(super) fn with_certificate(certificate: Certificate) -> Option<Self> {
        if !needs::programs("coturn", &["turnserver"]) {
            return None;
        }
        let (port, tls_port) = (free_port(), free_port());
        let mut server = Self { process: None, port, tls_port, certificate };
        server.restart();
        Some(server)
    }

    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    pub(super) fn restart(&mut self) {
        let mut command = Command::new("turnserver");
        command.args([
            "-n",
            "--no-cli",
            "--log-file",
            "stdout",
            "--listening-ip",
            "127.0.0.1",
            "--relay-ip",
            "127.0.0.1",
        ]);
        command.args(["--allow-loopback-peers", "--no-dtls", "--lt-cred-mech", "--realm", "snug"]);
        command.arg("--user").arg(format!("{}:{}", USER.0, USER.1));
        command.arg("--listening-port").arg(self.port.to_string());
        command.arg("--tls-listening-port").arg(self.tls_port.to_string());
        command.arg("--cert").arg(self.certificate.path("cert.pem"));
        command.arg("--pkey").arg(self.certificate.path("key.pem"));
        command.arg("--pidfile").arg(self.certificate.path("pid"));
        command.arg("--userdb").arg(self.certificate.path("db"));
        command.current_dir(self.certificate.0.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("coturn does not start: {error}"));
        self.process = Some(Process(child));
        let until = Instant::now() + PATIENCE;
        while [self.port, self.tls_port]
            .iter()
            .any(|&port| std::net::TcpStream::connect(("127.0.0.1", port)).is_err())
        {
            assert!(Instant::now() < until, "coturn does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn servers(&self) -> Vec<IceServer> {
        self.servers_with(USER.1)
    }

    pub(super) fn servers_with(&self, password: &str) -> Vec<IceServer> {
        let (port, tls) = (self.port, self.tls_port);
        vec![IceServer {
            urls: vec![
                format!("turn:127.0.0.1:{port}?transport=udp"),
                format!("turn:127.0.0.1:{port}?transport=tcp"),
                format!("turns:127.0.0.1:{tls}?transport=tcp"),
            ],
            username: Some(USER.0.to_owned()),
            credential: Some(password.to_owned()),
        }]
    }
}

/// The relay with its own TURN server, and two participants in a room of it.
pub(super) struct Relay {
    _process: Process,
    port: u16,
    pub(super) certificate: Certificate,
    _data: tempfile::TempDir,
}

impl Relay {
    pub(super) fn start() -> Self {
        let certificate = Certificate::new(&["127.0.0.1"]);
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(relay_binary());
        command.args(["--listen", "127.0.0.1:0", "--metrics-listen", "off", "--quiet"]);
        command.args(["--turn-listen", "127.0.0.1:0", "--turn-tls-listen", "127.0.0.1:0"]);
        command.arg("--tls-cert").arg(certificate.path("cert.pem"));
        command.arg("--tls-key").arg(certificate.path("key.pem"));
        command.arg("--data-dir").arg(data.path()).stderr(Stdio::piped());
        let mut process = Process(command.spawn().expect("the relay starts"));
        let mut log = BufReader::new(process.0.stderr.take().expect("piped")).lines();
        let line = log.by_ref().map(|line| line.unwrap()).find(|line| line.contains("https://"));
        let line = line.expect("the relay says where it listens");
        let port = line.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        std::thread::spawn(move || log.for_each(drop));
        Self { _process: process, port, certificate, _data: data }
    }

    /// Takes a seat and asks which servers there are. The seat lasts as long as the connection.
    pub(super) async fn seat(&self, number: u8) -> (Connection, Vec<IceServer>) {
        let roots = TlsRoots::Pem(self.certificate.path("cert.pem"));
        let config = ConnectorConfig { roots, quic: false, user_agent: "test/1".to_owned() };
        let target = format!("https://127.0.0.1:{}", self.port).parse().unwrap();
        let mut connection = Connector::new(config).unwrap().connect(&target).await.unwrap();
        let identity = SigningIdentity::from_bytes(&[number; 32]).expect("a small number is a private key");
        connection.send(&json!({"type": "hello", "versions": [2]}).to_string()).await.unwrap();
        loop {
            let Incoming::Message(text) = connection.recv().await else {
                panic!("the relay refused the seat")
            };
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["type"] == "welcome" {
                let nonce = message["nonce"].as_str().unwrap().parse().unwrap();
                let proof = identity.prove(&nonce, &"sunny-hill".parse().unwrap());
                let name = json!({"plain": format!("{{\"name\":\"{number}\"}}")});
                let join = json!({"type": "join_room", "roomId": "sunny-hill", "publicKey": identity.public_key(),
                    "keyProof": proof, "displayName": name});
                connection.send(&join.to_string()).await.unwrap();
            }
            if message["type"] == "room_joined" {
                return (connection, serde_json::from_value(message["iceServers"].clone()).unwrap());
            }
        }
    }
}
