//! What clients and the relay say to each other: messages, ids, limits, error codes and the sealing of payloads.
//! It never reads a clock, a socket, a file or a random source: those come in as arguments.
//! Its shells are `snug-relay` (server side) and `snug-core` (client side); `PROTOCOL.md` beside it is the specification.

pub mod error;
pub mod find_link;
pub mod id;
pub mod limits;
pub mod link;
pub mod message;
pub mod object;
pub mod password;
pub mod room_link;
pub mod seal;
pub mod secret;
pub mod text;

pub use error::{CloseCode, ErrorCode};
pub use id::{RoomId, UserId};
pub use message::{
    ClientMessage, DecodeError, IceServer, LeaveReason, Media, Participant, Payload, Request, RoomInfo,
    ServerFrame, ServerMessage,
};
pub use password::{Password, PasswordError};
pub use secret::{CreationKey, LinkProof, Token};

/// The protocol versions this crate speaks, best first.
pub const VERSIONS: &[u32] = &[1];

/// The best version that both sides know, or `None`.
pub fn negotiate_version(theirs: &[u32]) -> Option<u32> {
    VERSIONS.iter().copied().find(|version| theirs.contains(version))
}
