//! One peer connection to another participant: session descriptions, paths, encrypted media, the data channel.
//! It never decides when to negotiate, whom to call or what to send, and no type of the webrtc crates leaves it.
//! Its shell is the engine (`snug-core`), which owns one [`Peer`] per link.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod candidates;
mod early;
mod error;
mod event;
mod factory;
mod flights;
mod interceptors;
mod pairs;
mod peer;
mod sdp;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod tunnel;

pub use error::{RelayProblem, RtcError};
pub use event::{
    EventReceiver, IncomingRtp, PayloadKind, PeerEvent, PeerEvents, PeerState, Rtp, peer_channels,
};
pub use factory::{Factory, FactoryConfig};
pub use peer::{OutgoingRtp, Peer};
pub use stats::{CandidateKind, Estimate, Flow, LinkStats, PathStats, RelayProtocol, SectionStats};
