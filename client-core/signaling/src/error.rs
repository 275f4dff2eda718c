//! Why there is no connection, in words for a person, with a code for scripts.

use std::path::PathBuf;
use std::time::Duration;

/// Why no connection came up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address, or nobody could be asked.
    #[error("the name {host} was not found ({cause}); check the link and your internet connection")]
    NameNotFound {
        /// The name.
        host: String,
        /// The system's words.
        cause: String,
    },
    /// Nobody listens there.
    #[error("{authority} refused the connection; check the port, and whether the relay runs")]
    Refused {
        /// Host and port.
        authority: String,
    },
    /// No way there, or the connection broke.
    #[error("{authority} cannot be reached ({cause}); check your internet connection")]
    Unreachable {
        /// Host and port.
        authority: String,
        /// The system's words.
        cause: String,
    },
    /// No answer in time.
    #[error(
        "{authority} did not answer in time; check your internet connection, and whether a firewall is in the way"
    )]
    TimedOut {
        /// Host and port.
        authority: String,
    },
    /// Its certificate does not show that it is who it says.
    #[error("the certificate of {host} {problem}")]
    Certificate {
        /// The name or address.
        host: String,
        /// What is wrong with it.
        problem: CertificateProblem,
    },
    /// TLS failed for another reason.
    #[error("no secure connection to {host} ({cause}); check that the link's port is that of HTTPS")]
    Tls {
        /// The name or address.
        host: String,
        /// The library's words.
        cause: String,
    },
    /// Something else answers.
    #[error("{authority} is not a Snug relay ({answer}); check the link")]
    NotARelay {
        /// Host and port.
        authority: String,
        /// What it said instead.
        answer: String,
    },
    /// HTTP 429: too many connections from this network.
    #[error("the relay has too many connections from this network; wait {} s and try again", seconds(.retry_after))]
    TooMany {
        /// How long to wait.
        retry_after: Option<Duration>,
    },
    /// HTTP 5xx: the relay, or the proxy in front of it, cannot serve.
    #[error("the relay cannot take connections at the moment (HTTP {status}); wait {} s and try again", seconds(.retry_after))]
    Unavailable {
        /// The answer's status.
        status: u16,
        /// How long to wait.
        retry_after: Option<Duration>,
    },
}

/// What is wrong with a certificate, as the end of a sentence about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    /// Nobody who is trusted has signed it.
    #[error(
        "is not signed by an authority that this machine trusts; ask the relay's operator for a public certificate, or add the authority"
    )]
    NotTrusted,
    /// Its time is over.
    #[error("has expired; check this machine's clock, and tell the relay's operator")]
    Expired,
    /// Its time has not come.
    #[error("is not valid yet; check this machine's clock")]
    NotYetValid,
    /// It is somebody else's.
    #[error("is for another name; check the link")]
    WrongName,
    /// It signs others', and rustls takes no such one from a server.
    #[error(
        "is an authority's, not a server's; the relay's operator has to make one with basicConstraints CA:FALSE"
    )]
    Authority,
    /// Anything else.
    #[error("cannot be used ({0}); tell the relay's operator")]
    Other(String),
}

/// How long to wait when the relay does not say.
const PATIENCE: Duration = Duration::from_secs(10);

fn seconds(after: &Option<Duration>) -> u64 {
    after.unwrap_or(PATIENCE).as_secs()
}

impl ConnectError {
    /// Whether another try a moment later may fare better by itself.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::NameNotFound { .. }
                | Self::Refused { .. }
                | Self::Unreachable { .. }
                | Self::TimedOut { .. }
        )
    }

    /// A word for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NameNotFound { .. } => "name_not_found",
            Self::Refused { .. } => "refused",
            Self::Unreachable { .. } => "unreachable",
            Self::TimedOut { .. } => "timed_out",
            Self::Certificate { problem, .. } => match problem {
                CertificateProblem::NotTrusted => "certificate_not_trusted",
                CertificateProblem::Expired => "certificate_expired",
                CertificateProblem::NotYetValid => "certificate_not_yet_valid",
                CertificateProblem::WrongName => "certificate_wrong_name",
                CertificateProblem::Authority => "certificate_of_authority",
                CertificateProblem::Other(_) => "certificate_unusable",
            },
            Self::Tls { .. } => "tls_failed",
            Self::NotARelay { .. } => "not_a_relay",
            Self::TooMany { .. } => "too_many_connections",
            Self::Unavailable { .. } => "relay_unavailable",
        }
    }
}

/// Why no [`crate::Connector`] could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The system has no certificates to trust.
    #[error(
        "this system has no certificate authorities to trust ({0}); install its package of them, often called ca-certificates"
    )]
    NoSystemRoots(String),
    /// The file of authorities.
    #[error("cannot use the certificate authorities in {}: {cause}; give a PEM file with at least one certificate", .path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// No usable TLS settings.
    #[error("TLS cannot be set up: {0}; report this as a fault of Snug")]
    Setup(#[from] rustls::Error),
}

/// The message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Over the relay's limit.
    #[error("a message of {0} bytes is over the relay's limit of 64 KiB; send less")]
    TooLarge(usize),
    /// The connection is gone, or the relay reads nothing.
    #[error("the connection to the relay is lost ({0}); connect again")]
    Lost(String),
}
