//! What can go wrong with one peer connection.

/// A peer connection could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RtcError {
    /// The connection could not be built.
    #[error("no peer connection could be set up ({0}); check that this machine has a network interface")]
    Build(String),
    /// A session description was refused.
    #[error("the session description does not fit ({0}); build a new connection with a new offer")]
    Description(String),
    /// A candidate was refused. The others may be enough.
    #[error("the candidate was refused ({0}); leave it out")]
    Candidate(String),
    /// A server list was refused.
    #[error("the ICE servers were refused ({0}); keep the ones in use")]
    Servers(String),
    /// The data channel is not open, or its buffer is full.
    #[error("the data channel takes nothing ({0}); try again when it opens or has drained")]
    Channel(String),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers ({0}); restart the call")]
    Random(String),
}

/// A TURN server that is of no use; the call goes on with the paths that there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelayProblem {
    /// Its certificate is not valid.
    #[error("the certificate of {server} is not valid ({cause}); tell the relay's operator")]
    Certificate {
        /// Its URL.
        server: String,
        /// What is wrong with the certificate.
        cause: String,
    },
    /// It does not take the credential that the relay gave out for it.
    #[error(
        "{server} does not take the credential for it; join again, or tell the relay's operator to compare the TURN secrets and the clocks"
    )]
    Credential {
        /// Its URL.
        server: String,
    },
    /// It gives no address.
    #[error("{server} relays nothing for this call (error {code}); tell the relay's operator")]
    Refused {
        /// Its URL.
        server: String,
        /// The error code of RFC 8656 §19, 0 when it gave none.
        code: u16,
    },
}

impl RelayProblem {
    /// A word for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => "turn_certificate",
            Self::Credential { .. } => "turn_credential",
            Self::Refused { .. } => "turn_refused",
        }
    }
}
