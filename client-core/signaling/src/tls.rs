//! Whom the client trusts. One client configuration for each transport, kept for the connector's life so that sessions are resumed.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::error::{CertificateProblem, ConnectorError};

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
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store(roots)?)
        .with_no_client_auth())
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
pub(crate) fn certificate_problem(error: &rustls::Error) -> Option<CertificateProblem> {
    let rustls::Error::InvalidCertificate(error) = error else { return None };
    Some(match error {
        // A signature fails when somebody else has signed under a trusted name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => CertificateProblem::NotTrusted,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateProblem::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateProblem::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateProblem::WrongName
        }
        // The library below has no type of its own for it.
        CertificateError::Other(cause) if cause.0.to_string().contains("CaUsedAsEndEntity") => {
            CertificateProblem::Authority
        }
        other => CertificateProblem::Other(other.to_string()),
    })
}
