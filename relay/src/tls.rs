//! HTTPS: certificate and key from PEM files, TLS 1.2 and 1.3, and another certificate without a restart.
//! Never touches a connection that is up, and never gives up a certificate that works for one that does not.
//!
//! The files are looked at every few seconds, and at once on SIGHUP. A change is taken once it has held still for one
//! look, because certificate and key are rarely replaced in the same instant. What cannot be used is logged once and
//! left; the last good certificate stays.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::config::TlsFiles;

/// Time between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A chain or key file is a few KiB; a larger one is something else.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why a certificate cannot be used. The text names the file and the next step.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// It is not there, or may not be read.
    #[error("cannot read {}: {cause}; check --tls-cert and --tls-key, and that the relay's user may read both", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// It is not well-formed.
    #[error("{} is not a valid PEM file: {cause}", .path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Where it goes wrong.
        cause: pem::Error,
    },
    /// No certificate in the certificate file.
    #[error(
        "{} holds no certificate (-----BEGIN CERTIFICATE-----); give --tls-cert the chain, often called fullchain.pem",
        .0.display()
    )]
    NoCertificate(PathBuf),
    /// No key in the key file.
    #[error(
        "{} holds no private key (-----BEGIN PRIVATE KEY-----); give --tls-key the key, often called privkey.pem; \
         one that is locked with a password cannot be used",
        .0.display()
    )]
    NoKey(PathBuf),
    /// A key of a kind that is not supported, or a broken one.
    #[error("the private key in {} cannot be used: {cause}; RSA (2048 bits or more), ECDSA P-256 or P-384 and Ed25519 can", .path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// rustls's words.
        cause: rustls::Error,
    },
    /// The first certificate cannot be read.
    #[error("the first certificate in {} cannot be used: {cause}", .path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// rustls's words.
        cause: rustls::Error,
    },
    /// They do not belong together.
    #[error(
        "the private key in {} is not the one of the first certificate in {}; give the two that were made together, \
         the relay's own certificate first",
        .key.display(), .cert.display()
    )]
    Mismatch {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// No usable set of TLS versions, or no randomness for session tickets.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What the listener needs. Must be called inside the runtime: a task looks after the files for as long as the acceptor
/// lives.
///
/// # Errors
/// When the files cannot be used.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<(TlsAcceptor, CertificateNames), TlsError> {
    let certificates = Arc::new(Certificates::load(files.clone())?);
    let config = server_config(certificates.clone())?;
    tokio::spawn(watch(Arc::downgrade(&certificates), LOOK_EVERY));
    Ok((TlsAcceptor::from(Arc::new(config)), CertificateNames(certificates)))
}

/// The names of the certificate that is in use.
pub(crate) struct CertificateNames(Arc<Certificates>);

impl CertificateNames {
    /// Whether the certificate is for `name`.
    pub(crate) fn cover(&self, name: &str) -> bool {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let certificate = current.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        let name = ServerName::try_from(name).ok();
        certificate.zip(name).is_some_and(|(certificate, name)| {
            rustls::client::verify_server_name(&certificate, &name).is_ok()
        })
    }
}

/// The same certificates for TURN: clients that name a protocol name this one (RFC 7443), and browsers name none.
pub(crate) fn for_turn(http: &TlsAcceptor) -> TlsAcceptor {
    let mut config = ServerConfig::clone(http.config());
    config.alpn_protocols = vec![b"stun.turn".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn server_config(certificates: Arc<Certificates>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Clients keep the sessions: thousands that reconnect after a drain cost neither memory nor full handshakes.
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(config)
}

/// The certificate that handshakes are answered with.
struct Certificates {
    files: TlsFiles,
    current: RwLock<Arc<CertifiedKey>>,
    /// What the files looked like when they were last read, whether or not they could be used.
    tried: RwLock<Stamps>,
}

/// Enough of a file's state to see that it was replaced or that its permissions changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Unix only: inode number and time of change, in seconds and nanoseconds.
    identity: (u64, i64, i64),
}

/// Of certificate and key; `None` for a file that is not there.
type Stamps = [Option<Stamp>; 2];

impl Certificates {
    fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let tried = RwLock::new(stamps(&files));
        let current = RwLock::new(Arc::new(read(&files)?));
        Ok(Self { files, current, tried })
    }

    /// Reads the files again, whatever they look like.
    fn reload(&self) {
        // Before reading: a change in between is then seen at the next look.
        *self.tried.write().unwrap_or_else(PoisonError::into_inner) = stamps(&self.files);
        match read(&self.files) {
            Ok(certificate) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificate);
                tracing::info!(file = %self.files.cert.display(), "the certificate was read again");
            }
            Err(error) => tracing::error!(%error, "the certificate stays the old one"),
        }
    }

    /// One look. `last` is what the previous one saw.
    fn look(&self, last: &mut Stamps) {
        let seen = stamps(&self.files);
        let held_still = std::mem::replace(last, seen) == seen;
        if held_still && *self.tried.read().unwrap_or_else(PoisonError::into_inner) != seen {
            self.reload();
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// `rustls` asks for it; the key stays out of it.
impl fmt::Debug for Certificates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Looks after the files until nobody uses their certificate any more.
async fn watch(certificates: Weak<Certificates>, every: Duration) {
    let mut looks = tokio::time::interval(every);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut hangup = Hangup::listen();
    let mut last = Stamps::default();
    loop {
        let asked = tokio::select! {
            _ = looks.tick() => false,
            () = hangup.heard() => true,
        };
        let Some(certificates) = certificates.upgrade() else { return };
        if asked {
            certificates.reload();
        } else {
            certificates.look(&mut last);
        }
    }
}

/// SIGHUP, where there is one.
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    fn listen() -> Self {
        Self {
            #[cfg(unix)]
            signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
        }
    }

    async fn heard(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

fn stamps(files: &TlsFiles) -> Stamps {
    [&files.cert, &files.key].map(|path| {
        let data = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        let identity = {
            use std::os::unix::fs::MetadataExt;
            (data.ino(), data.ctime(), data.ctime_nsec())
        };
        #[cfg(not(unix))]
        let identity = (0, 0, 0);
        Some(Stamp { length: data.len(), modified: data.modified().ok(), identity })
    })
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let pem = |path: &Path| {
        let path = path.to_owned();
        |cause| match cause {
            pem::Error::Io(cause) => TlsError::Read { path, cause },
            cause => TlsError::Pem { path, cause },
        }
    };
    let text = read_file(&files.cert)?;
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(pem(&files.cert))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(files.cert.clone()));
    }
    let text = read_file(&files.key)?;
    let key = match PrivateKeyDer::from_pem_slice(&text) {
        Err(pem::Error::NoItemsFound) => return Err(TlsError::NoKey(files.key.clone())),
        key => key.map_err(pem(&files.key))?,
    };
    let provider = rustls::crypto::ring::default_provider();
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|cause| TlsError::Key { path: files.key.clone(), cause })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // "Unknown": a key that does not tell its public half cannot be compared.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { cert: files.cert.clone(), key: files.key.clone() })
        }
        Err(cause) => Err(TlsError::Certificate { path: files.cert.clone(), cause }),
    }
}

/// The key passes through here, so the bytes are wiped afterwards.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let error = |cause| TlsError::Read { path: path.to_owned(), cause };
    let length = std::fs::metadata(path).map_err(error)?.len();
    if length > MAX_FILE_BYTES {
        return Err(error(std::io::Error::other("it is larger than a certificate or key can be")));
    }
    Ok(Zeroizing::new(std::fs::read(path).map_err(error)?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::client::TlsStream;
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::{CertificateNames, Certificates, Stamps, acceptor, for_turn, server_config, watch};
    use crate::config::TlsFiles;

    /// A self-signed certificate for `localhost`.
    struct Made {
        cert: String,
        key: String,
        der: CertificateDer<'static>,
    }

    fn make() -> Made {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        Made { cert: made.cert.pem(), key: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
    }

    fn write(dir: &Path, cert: &str, key: &str) -> TlsFiles {
        let files = TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
        std::fs::write(&files.cert, cert).expect("write");
        std::fs::write(&files.key, key).expect("write");
        files
    }

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().expect("temporary directory")
    }

    /// Sends back what it gets, on every connection.
    async fn echo(acceptor: TlsAcceptor) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.expect("handshake");
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).await.is_ok() {
                        stream.write_all(&byte).await.expect("write");
                        stream.flush().await.expect("flush");
                    }
                });
            }
        });
        address
    }

    async fn connect(address: std::net::SocketAddr, trusted: &[&Made]) -> TlsStream<TcpStream> {
        connect_as(&[b"h2", b"http/1.1"], address, trusted).await.expect("handshake")
    }

    async fn connect_as(
        protocols: &[&[u8]],
        address: std::net::SocketAddr,
        trusted: &[&Made],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        trusted.iter().for_each(|made| roots.add(made.der.clone()).expect("a root"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(address).await.expect("connect");
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
        stream.get_ref().1.peer_certificates().expect("certificates")[0].clone().into_owned()
    }

    async fn assert_alive(stream: &mut TlsStream<TcpStream>) {
        stream.write_all(b"x").await.expect("write");
        let mut byte = [0];
        stream.read_exact(&mut byte).await.expect("read");
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn a_certificate_is_for_its_names_and_for_one_label_in_the_place_of_a_star() {
        let names = ["meet.example.org", "*.call.example.org"].map(str::to_owned).to_vec();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let dir = dir();
        let files = write(dir.path(), &made.cert.pem(), &made.signing_key.serialize_pem());
        let names = CertificateNames(Arc::new(Certificates::load(files).expect("usable")));
        for covered in ["meet.example.org", "de.call.example.org"] {
            assert!(names.cover(covered), "{covered}");
        }
        for foreign in ["example.org", "evil.example", "a.b.call.example.org", "call.example.org", "box", ""]
        {
            assert!(!names.cover(foreign), "{foreign}");
        }
    }

    #[tokio::test]
    async fn a_replaced_certificate_is_seen_by_new_handshakes_and_old_connections_stay() {
        let (old, new) = (make(), make());
        let dir = dir();
        let files = write(dir.path(), &old.cert, &old.key);
        let certificates = Arc::new(Certificates::load(files).expect("usable"));
        let config = server_config(certificates.clone()).expect("a configuration");
        tokio::spawn(watch(Arc::downgrade(&certificates), Duration::from_millis(5)));
        drop(certificates);
        let address = echo(TlsAcceptor::from(Arc::new(config))).await;

        let mut early = connect(address, &[&old, &new]).await;
        assert_eq!(shown(&early), old.der);
        assert_eq!(early.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));

        write(dir.path(), &new.cert, &new.key);
        let end = Instant::now() + Duration::from_secs(30);
        while shown(&connect(address, &[&old, &new]).await) != new.der {
            assert!(Instant::now() < end, "the new certificate is not taken");
        }
        assert_alive(&mut early).await;
    }

    #[tokio::test]
    async fn turn_has_the_same_certificate_under_its_own_protocol() {
        let (made, dir) = (make(), dir());
        let (http, _) = acceptor(&write(dir.path(), &made.cert, &made.key)).expect("usable");
        let address = echo(for_turn(&http)).await;
        for protocols in [[].as_slice(), &[b"stun.turn".as_slice()]] {
            let mut stream = connect_as(protocols, address, &[&made]).await.expect("handshake");
            assert_eq!(shown(&stream), made.der);
            assert_alive(&mut stream).await;
        }
        assert!(
            connect_as(&[b"h2", b"http/1.1"], address, &[&made]).await.is_err(),
            "a browser that is sent here"
        );
    }

    #[tokio::test]
    async fn a_new_file_that_cannot_be_used_leaves_the_old_certificate() {
        let (old, new) = (make(), make());
        let dir = dir();
        let files = write(dir.path(), &old.cert, &old.key);
        let certificates = Arc::new(Certificates::load(files.clone()).expect("usable"));
        let config = Arc::new(server_config(certificates.clone()).expect("a configuration"));
        let address = echo(TlsAcceptor::from(config)).await;
        for (cert, key) in [("garbage", old.key.as_str()), (&new.cert, &old.key), (&new.cert, "")] {
            write(dir.path(), cert, key);
            certificates.reload();
            assert_eq!(shown(&connect(address, &[&old, &new]).await), old.der);
        }
        std::fs::remove_file(&files.key).expect("remove");
        certificates.reload();
        assert_eq!(shown(&connect(address, &[&old, &new]).await), old.der);
        write(dir.path(), &new.cert, &new.key);
        certificates.reload();
        assert_eq!(shown(&connect(address, &[&old, &new]).await), new.der);
    }

    #[test]
    fn a_change_is_tried_once_and_only_after_it_held_still() {
        let (old, new) = (make(), make());
        let dir = dir();
        let files = write(dir.path(), &old.cert, &old.key);
        let certificates = Certificates::load(files).expect("usable");
        let tried = || *certificates.tried.read().expect("unpoisoned");
        let current = || certificates.current.read().expect("unpoisoned").cert[0].clone();
        let (mut last, first) = (Stamps::default(), tried());
        certificates.look(&mut last);
        certificates.look(&mut last);
        assert_eq!(tried(), first, "nothing changed, nothing is read");

        // The certificate comes before its key.
        write(dir.path(), &(new.cert.clone() + "\n"), &old.key);
        certificates.look(&mut last);
        assert_eq!(tried(), first, "the key may follow");
        write(dir.path(), &(new.cert.clone() + "\n"), &(new.key.clone() + "\n"));
        certificates.look(&mut last);
        assert_eq!(tried(), first);
        certificates.look(&mut last);
        assert_eq!(tried(), last);
        assert_eq!(current(), new.der);

        write(dir.path(), "garbage", "garbage");
        (0..2).for_each(|_| certificates.look(&mut last));
        assert_eq!(tried(), last, "it was tried, failed, and is not tried again until it changes");
        assert_eq!(current(), new.der);
    }

    #[tokio::test]
    async fn each_error_names_the_file_and_the_cause() {
        let (one, two) = (make(), make());
        let dir = dir();
        let error = |cert: &str, key: &str| {
            let files = write(dir.path(), cert, key);
            acceptor(&files).err().expect("refused").to_string()
        };
        for (text, said) in [
            (error("", &one.key), ["cert.pem", "holds no certificate"]),
            (error(&one.key, &one.key), ["cert.pem", "holds no certificate"]),
            (error(&one.cert, ""), ["key.pem", "holds no private key"]),
            (error(&one.cert, &one.cert), ["key.pem", "holds no private key"]),
            (error(&one.cert, &two.key), ["key.pem", "is not the one of the first certificate"]),
            (error(&one.cert[..200], &one.key), ["cert.pem", "not a valid PEM"]),
            (
                error(&one.cert, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
                ["key.pem", "cannot be used"],
            ),
            (
                error("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &one.key),
                ["cert.pem", "cannot be used"],
            ),
            (error(&one.cert, &"x".repeat(2_000_000)), ["key.pem", "larger"]),
        ] {
            assert!(said.iter().all(|said| text.contains(said)), "{text}");
            assert!(!text.contains(&one.key[60..100]), "no key in a message");
        }
        let nowhere = TlsFiles { cert: dir.path().join("nowhere.pem"), key: dir.path().join("key.pem") };
        let text = acceptor(&nowhere).err().expect("refused").to_string();
        assert!(text.contains("nowhere.pem") && text.contains("--tls-cert"), "{text}");
    }

    #[tokio::test]
    async fn one_file_may_hold_both() {
        let made = make();
        let dir = dir();
        let both = format!("{}{}", made.key, made.cert);
        let mut files = write(dir.path(), &both, "");
        files.key = files.cert.clone();
        assert!(acceptor(&files).is_ok());
    }
}
