//! What simulated participants say to each other over a path: checks, a handshake, media and the data channel.
//! Nothing is encrypted: identities stand for DTLS fingerprints.

use serde::{Deserialize, Serialize};

/// One datagram between participants. `to` and `from` of all but checks are identities, as a description names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Packet {
    /// A connectivity check for the ICE generation `to`; `chosen` says that this is to be the path.
    Check { to: u64, from: u64, transaction: u64, chosen: bool },
    /// Its answer, to the generation that asked.
    Answer { to: u64, transaction: u64 },
    /// The handshake.
    Hello { to: u64, from: u64, reply: bool },
    /// Sound, picture or a report.
    Media { to: u64, from: u64 },
    /// A message of the data channel.
    Data { to: u64, from: u64, serial: u64, text: String },
    /// Everything below `next` arrived.
    Received { to: u64, from: u64, next: u64 },
    /// The connection is closed.
    Closed { to: u64, from: u64 },
}

impl Packet {
    /// Length on the wire, in bytes: a `Media` stands for the sound of a quarter of a second. Pictures would take what is left.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Media { .. } => 1_500,
            Self::Data { text, .. } => 100 + text.len() as u64,
            _ => 100,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("packets have string keys and no failing serializers")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
