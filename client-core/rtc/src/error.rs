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
