//! Whom the client trusts. One client configuration for each transport, kept for the connector's life so that sessions are resumed.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};

use crate::error::{CertificateProblem, ConnectorError, short};

/// The authorities whose certificates count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsRoots {
    /// Those of the system, read from its certificate store.
    System,
    /// Those of a PEM file, and no others.
    Pem(PathBuf),
}

/// A configuration without a protocol name; the transports add theirs.
pub(crate) fn client_config(roots: &TlsRoots) -> Result<ClientConfig, ConnectorError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Explaining::new(store(roots)?, &provider)?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Accepts what rustls accepts, and says more about what it refuses: the certificates are known only here.
#[derive(Debug)]
struct Explaining(Arc<WebPkiServerVerifier>);

/// What rustls calls an unknown issuer or a bad signature, from a closer look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unproven {
    #[error("it is signed by itself")]
    Itself,
    #[error("no authority trusted here signed it, and the intermediate certificates are missing")]
    Alone,
    #[error("it does not fit the server's key, or that key is too short")]
    Key,
}

impl Explaining {
    fn new(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Self, rustls::Error> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        verifier.build().map(Self).map_err(|error| rustls::Error::General(error.to_string()))
    }
}

fn unproven(error: Unproven) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// A handshake that is signed by another key than the certificate's, or by a key that is too short to count.
fn signed(
    verified: Result<HandshakeSignatureValid, rustls::Error>,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    verified.map_err(|error| match error {
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => unproven(Unproven::Key),
        error => error,
    })
}

impl ServerCertVerifier for Explaining {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.map_err(|error| match error {
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => match webpki::EndEntityCert::try_from(end_entity) {
                Ok(parsed) if parsed.issuer() == parsed.subject() => unproven(Unproven::Itself),
                Ok(_) if intermediates.is_empty() => unproven(Unproven::Alone),
                _ => error,
            },
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed(self.0.verify_tls12_signature(message, certificate, signature))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signed(self.0.verify_tls13_signature(message, certificate, signature))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn store(roots: &TlsRoots) -> Result<RootCertStore, ConnectorError> {
    let mut store = RootCertStore::empty();
    match roots {
        TlsRoots::System => {
            let found = rustls_native_certs::load_native_certs();
            // A store commonly has a certificate or two that nobody can read; the others count.
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let cause = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
                return Err(ConnectorError::NoSystemRoots(cause));
            }
        }
        TlsRoots::Pem(path) => {
            let fail = |cause: String| ConnectorError::Pem { path: path.clone(), cause };
            for one in CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))? {
                let one = one.map_err(|error| fail(error.to_string()))?;
                store.add(one).map_err(|error| fail(error.to_string()))?;
            }
            if store.is_empty() {
                return Err(fail("it holds no certificate".into()));
            }
        }
    }
    Ok(store)
}

/// What a failed handshake says about the certificate; `None` when it failed for something else.
pub fn certificate_problem(error: &rustls::Error) -> Option<CertificateProblem> {
    let rustls::Error::InvalidCertificate(error) = error else { return None };
    Some(match error {
        // A signature fails when somebody else has signed under a trusted name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => CertificateProblem::NotTrusted,
        CertificateError::ExpiredContext { time, not_after } => {
            CertificateProblem::Expired(Some(time.as_secs().saturating_sub(not_after.as_secs()) / 86_400))
        }
        CertificateError::Expired => CertificateProblem::Expired(None),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateProblem::NotYetValid
        }
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            CertificateProblem::NoName
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            CertificateProblem::WrongName(presented.iter().take(5).map(|name| spoken(name)).collect())
        }
        CertificateError::NotValidForName => CertificateProblem::WrongName(Vec::new()),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            CertificateProblem::Purpose
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            CertificateProblem::Signature
        }
        #[expect(deprecated, reason = "rustls still makes it")]
        CertificateError::UnsupportedSignatureAlgorithm => CertificateProblem::Signature,
        CertificateError::Revoked => CertificateProblem::Revoked,
        CertificateError::BadEncoding => CertificateProblem::Unreadable,
        CertificateError::Other(cause) => other_problem(cause),
        other => CertificateProblem::Other(other.to_string()),
    })
}

fn other_problem(cause: &OtherError) -> CertificateProblem {
    let unproven = cause.0.downcast_ref::<Unproven>().map(|unproven| match unproven {
        Unproven::Itself => CertificateProblem::SelfSigned,
        Unproven::Alone => CertificateProblem::Incomplete,
        Unproven::Key => CertificateProblem::Key,
    });
    let webpki = || match cause.0.downcast_ref::<webpki::Error>()? {
        webpki::Error::CaUsedAsEndEntity => Some(CertificateProblem::Authority),
        webpki::Error::EndEntityUsedAsCa
        | webpki::Error::PathLenConstraintViolated
        | webpki::Error::NameConstraintViolation => Some(CertificateProblem::Intermediate),
        webpki::Error::UnsupportedCertVersion => Some(CertificateProblem::OldVersion),
        webpki::Error::EmptyEkuExtension => Some(CertificateProblem::Purpose),
        webpki::Error::SignatureAlgorithmMismatch => Some(CertificateProblem::Signature),
        webpki::Error::ExtensionValueInvalid
        | webpki::Error::InvalidSerialNumber
        | webpki::Error::MalformedExtensions => Some(CertificateProblem::Unreadable),
        _ => None,
    };
    unproven.or_else(webpki).unwrap_or_else(|| CertificateProblem::Other(cause.to_string()))
}

/// A name of a certificate: rustls prints them as `DnsName("meet.example.org")` and `IpAddress(127.0.0.1)`.
fn spoken(name: &str) -> String {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    short(inside.trim_matches('"'))
}
