//! What clients are told of a relay's certificate that does not count, in words with one action: servers on loopback that show one.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use snug_signaling::{
    CertificateProblem, ConnectError, Connector, ConnectorConfig, Target, TlsRoots, certificate_problem,
};
use tokio::net::TcpListener;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("names")
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params
}

fn root(name: &str) -> Authority {
    Authority::self_signed(authority(name), key()).expect("a certificate")
}

/// What a server shows, with the key that it uses.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Shown {
    fn new(params: &CertificateParams, by: &Authority, others: &[CertificateDer<'static>]) -> Self {
        let key = key();
        let leaf = params.signed_by(&key, by).expect("a certificate");
        Self { chain: [&[leaf.der().clone()], others].concat(), key }
    }

    fn self_signed(params: &CertificateParams) -> Self {
        let key = key();
        let leaf = params.self_signed(&key).expect("a certificate");
        Self { chain: vec![leaf.der().clone()], key }
    }
}

/// Shows a certificate without looking whether it fits the key.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn connector(trusted: &str) -> (Connector, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, trusted).expect("write");
    let config = ConnectorConfig { roots: TlsRoots::Pem(path), quic: false, user_agent: "test/1".into() };
    (Connector::new(config).expect("a connector"), dir)
}

/// What a client that trusts `trusted` says of a relay at 127.0.0.1 that shows this.
async fn told(shown: Shown, trusted: &str) -> ConnectError {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = PrivateKeyDer::try_from(shown.key.serialize_der()).expect("a key");
    let key = provider.key_provider.load_private_key(private).expect("a key that is taken");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(Arc::new(CertifiedKey::new(shown.chain, key)))));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let target: Target =
        format!("https://{}", listener.local_addr().expect("bound")).parse().expect("an address");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        acceptor.accept(stream).await.err()
    });
    let (connector, _dir) = connector(trusted);
    connector.connect(&target).await.err().expect("it must not be trusted")
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_told_in_words_with_one_action() {
    let root = root("Authority of tests");
    let stranger = self::root("Somebody else");
    let trusted = root.as_ref().pem();
    let here = || params(&["127.0.0.1"]);
    let between = Authority::signed_by(authority("Between"), key(), &root).expect("a certificate");
    let mut plain = params(&[]);
    plain.distinguished_name.push(rcgen::DnType::CommonName, "No authority");
    let not_one = Authority::signed_by(plain, key(), &root).expect("a certificate");
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = here();
        change(&mut params);
        params
    };
    let self_signed_authority = with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let for_clients = with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let expired = with(|params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let early = with(|params| params.not_before = date_time_ymd(2400, 1, 1));
    let mut wrong_key = Shown::new(&here(), &root, &[]);
    wrong_key.key = key();
    let others = params(&["meet.example.org", "*.example.net"]);
    for (shown, code, words) in [
        (Shown::self_signed(&here()), "certificate_self_signed", "is signed by itself"),
        (
            Shown::self_signed(&self_signed_authority),
            "certificate_of_authority",
            "is an authority's, not a server's; the relay's operator has to make one with basicConstraints CA:FALSE",
        ),
        (Shown::new(&self_signed_authority, &root, &[]), "certificate_of_authority", "is an authority's"),
        (Shown::new(&here(), &between, &[]), "certificate_incomplete", "fullchain.pem"),
        (
            Shown::new(&here(), &stranger, &[stranger.as_ref().der().clone()]),
            "certificate_not_trusted",
            "is not signed by an authority that this machine trusts",
        ),
        (
            Shown::new(&expired, &root, &[]),
            "certificate_expired",
            " days ago; the relay's operator has to renew",
        ),
        (Shown::new(&early, &root, &[]), "certificate_not_yet_valid", "clock"),
        (
            Shown::new(&others, &root, &[]),
            "certificate_wrong_name",
            "is for meet.example.org, *.example.net, and",
        ),
        (Shown::new(&params(&[]), &root, &[]), "certificate_without_name", "subjectAltName"),
        (Shown::new(&for_clients, &root, &[]), "certificate_purpose", "serverAuth"),
        (
            Shown::new(&here(), &not_one, &[not_one.as_ref().der().clone()]),
            "certificate_intermediate",
            "must not sign",
        ),
        (wrong_key, "certificate_key", "does not fit the relay's key"),
    ] {
        let error = told(shown, &trusted).await;
        let sentence = error.to_string();
        assert_eq!(error.code(), code, "{sentence}");
        assert!(sentence.starts_with("the certificate of 127.0.0.1 "), "{sentence}");
        assert!(sentence.contains(words), "{sentence}");
        assert!(!sentence.contains("Error") && !sentence.contains('\n'), "words, in one line: {sentence}");
    }
}

#[tokio::test]
async fn a_whole_chain_is_accepted() {
    let root = root("Authority of tests");
    let between = Authority::signed_by(authority("Between"), key(), &root).expect("a certificate");
    let shown = Shown::new(&params(&["127.0.0.1"]), &between, &[between.as_ref().der().clone()]);
    // Behind the handshake there is no relay.
    let error = told(shown, &root.as_ref().pem()).await;
    assert!(!matches!(error, ConnectError::Certificate { .. }), "{error}");
}

/// What the checks say of a certificate alone, whose key nobody has.
fn problem(certificate: &str, authority: &str) -> CertificateProblem {
    let read = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).expect("a certificate");
    let (connector, _dir) = connector(authority);
    let name = ServerName::try_from("localhost").expect("a name");
    let mut client = rustls::ClientConnection::new(connector.tls(), name).expect("a client");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = PrivateKeyDer::try_from(key().serialize_der()).expect("a key");
    let key = provider.key_provider.load_private_key(private).expect("a key that is taken");
    let shown = Always(Arc::new(CertifiedKey::new(vec![read(certificate)], key)));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    let mut server = rustls::ServerConnection::new(Arc::new(config)).expect("a server");
    for _ in 0..4 {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("in memory");
        server.read_tls(&mut &*bytes).expect("in memory");
        server.process_new_packets().expect("a hello");
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("in memory");
        }
        let mut bytes = &*bytes;
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).expect("in memory");
            if let Err(error) = client.process_new_packets() {
                return certificate_problem(&error).expect("a fault of the certificate");
            }
        }
    }
    panic!("it was accepted");
}

#[test]
fn certificates_of_old_ways_are_told_as_such() {
    let authority = include_str!("ca.pem");
    assert_eq!(problem(include_str!("sha1.pem"), authority), CertificateProblem::Signature);
    assert_eq!(problem(include_str!("v1.pem"), authority), CertificateProblem::OldVersion);
    assert_eq!(problem(authority, authority), CertificateProblem::Authority);
}
