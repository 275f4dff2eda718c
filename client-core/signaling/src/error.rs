//! Why there is no connection, in words for a person, with a code for scripts.

use std::fmt;
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

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateProblem {
    /// It is somebody's whom nobody trusts.
    NotTrusted,
    /// It is signed by itself, and not among those that are trusted.
    SelfSigned,
    /// It came alone and is not signed by somebody who is trusted: mostly the certificates between are missing.
    Incomplete,
    /// Its time is over, for so many days where that is known.
    Expired(Option<u64>),
    /// Its time has not come.
    NotYetValid,
    /// It is for these names, and not for the one that was asked for.
    WrongName(Vec<String>),
    /// It is for no name: it has no subjectAltName.
    NoName,
    /// It signs others', and rustls takes no such one from a server.
    Authority,
    /// One between it and the authority must not sign others, or not this one.
    Intermediate,
    /// It is of X.509's first or second version.
    OldVersion,
    /// It is for something else than servers.
    Purpose,
    /// The key that the relay uses is not the certificate's, or too short.
    Key,
    /// It is signed by an algorithm that is not taken, such as SHA-1.
    Signature,
    /// Its authority has taken it back.
    Revoked,
    /// It makes no sense.
    Unreadable,
    /// Anything else, in the library's words.
    Other(String),
}

impl CertificateProblem {
    /// What is wrong, as the end of a sentence about the certificate.
    pub fn cause(&self) -> String {
        match self {
            Self::NotTrusted => "is not signed by an authority that this machine trusts".to_owned(),
            Self::SelfSigned => {
                "is signed by itself, and not by an authority that this machine trusts".to_owned()
            }
            Self::Incomplete => {
                "is not signed by an authority that this machine trusts, and came without the intermediate ones".to_owned()
            }
            Self::Expired(None) => "has expired".to_owned(),
            Self::Expired(Some(0)) => "expired within the last day".to_owned(),
            Self::Expired(Some(1)) => "expired a day ago".to_owned(),
            Self::Expired(Some(days)) => format!("expired {days} days ago"),
            Self::NotYetValid => "is not valid yet".to_owned(),
            Self::WrongName(names) if names.is_empty() => "is for another name".to_owned(),
            Self::WrongName(names) => format!("is for {}, and not for this name", names.join(", ")),
            Self::NoName => "names no server (it has no subjectAltName)".to_owned(),
            Self::Authority => "is an authority's, not a server's".to_owned(),
            Self::Intermediate => "is signed by one that must not sign it".to_owned(),
            Self::OldVersion => "is of an old version without names (X.509 version 1)".to_owned(),
            Self::Purpose => "is for another purpose than a server".to_owned(),
            Self::Key => "does not fit the relay's key, or that key is too short".to_owned(),
            Self::Signature => "is signed in an outdated way, such as with SHA-1".to_owned(),
            Self::Revoked => "was taken back by its authority".to_owned(),
            Self::Unreadable => "cannot be read".to_owned(),
            Self::Other(cause) => format!("cannot be used ({})", short(cause)),
        }
    }

    /// The one thing to do about it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::NotTrusted | Self::SelfSigned => {
                "the relay's operator has to get a public certificate; one of your own you trust with --ca FILE"
            }
            Self::Incomplete => {
                "the relay's operator has to serve the whole chain (often fullchain.pem); an authority of your own you trust with --ca FILE"
            }
            Self::Expired(_) => "the relay's operator has to renew it; check this machine's clock, too",
            Self::NotYetValid => "check this machine's clock",
            Self::WrongName(_) => {
                "check the address; the relay's operator has to get one for the name that you use"
            }
            Self::NoName | Self::OldVersion => {
                "the relay's operator has to make one of version 3 whose subjectAltName is the relay's name"
            }
            Self::Authority => "the relay's operator has to make one with basicConstraints CA:FALSE",
            Self::Intermediate => {
                "the relay's operator has to sign it with an authority's (basicConstraints CA:TRUE), and serve that one with it"
            }
            Self::Purpose => "the relay's operator has to make one for servers (extendedKeyUsage serverAuth)",
            Self::Key => {
                "the relay's operator has to make both anew, with a key of P-256 or of RSA from 2048 bits on"
            }
            Self::Signature => "the relay's operator has to get one that is signed with SHA-256 or better",
            Self::Revoked | Self::Unreadable | Self::Other(_) => {
                "the relay's operator has to get another one"
            }
        }
    }

    /// A word for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotTrusted => "certificate_not_trusted",
            Self::SelfSigned => "certificate_self_signed",
            Self::Incomplete => "certificate_incomplete",
            Self::Expired(_) => "certificate_expired",
            Self::NotYetValid => "certificate_not_yet_valid",
            Self::WrongName(_) => "certificate_wrong_name",
            Self::NoName => "certificate_without_name",
            Self::Authority => "certificate_of_authority",
            Self::Intermediate => "certificate_intermediate",
            Self::OldVersion => "certificate_version",
            Self::Purpose => "certificate_purpose",
            Self::Key => "certificate_key",
            Self::Signature => "certificate_signature",
            Self::Revoked => "certificate_revoked",
            Self::Unreadable | Self::Other(_) => "certificate_unusable",
        }
    }
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause(), self.action())
    }
}

/// What a stranger sent, fit for a terminal and short.
pub(crate) fn short(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~')).take(100).collect()
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
            Self::Certificate { problem, .. } => problem.code(),
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
