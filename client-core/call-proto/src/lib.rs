//! Membership, negotiation, ICE restart, layer choice and reconnection of a call: a pure state machine.
//! It never opens a socket, never touches media, and never reads a clock or a random source: those come in as arguments.
//! Its shell is `snug-core`, which owns the connection to the relay and one peer connection per link.
//!
//! One [`Call`] is one participant's whole call. Inputs go in with [`Call::handle_input`], effects come out of [`Call::poll_output`]
//! until it is empty, and [`Call::poll_timeout`] says when to call [`Call::handle_timeout`]. The rules are those of `PROTOCOL.md`.

pub mod allocation;
mod call;
mod channel;
mod chat;
mod context;
mod identity;
mod input;
mod limits;
mod link;
mod output;
mod roster;
mod safety;
mod signaling;
mod snapshot;

pub use call::{Call, CallConfig};
pub use channel::Tile;
pub use chat::ChatMessage;
pub use identity::KeptIdentity;
pub use input::{ConnectFailure, IceState, Input, JobId, LinkId, Now, OwnerRequest};
pub use output::{CallEvent, Candidate, EndCode, NoSeat, NoSeatReason, Output, RequestKind, RoomStats};
pub use safety::Safety;
pub use snapshot::{CallSnapshot, KnockSnapshot, LinkState, ParticipantSnapshot, SignalingState, TILE_KEPT};
