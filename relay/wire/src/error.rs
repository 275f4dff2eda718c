//! Error codes and close codes (PROTOCOL.md §4).

use serde::{Deserialize, Serialize};

/// What went wrong, for machines. `message` says it for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "each variant's meaning is its message, just below")]
pub enum ErrorCode {
    BadMessage,
    TooLarge,
    VersionUnsupported,
    NotJoined,
    AlreadyJoined,
    AuthFailed,
    LinkIncomplete,
    RoomLocked,
    UserIdTaken,
    ResumeFailed,
    RateLimited,
    ServerBusy,
    StorageFull,
    StorageUnavailable,
    TooManyRooms,
    CreationClosed,
    CreationKeyRequired,
    NotOwner,
    UnknownTarget,
    ScreenShareDisabled,
    TooManyCandidates,
    SlowReader,
    Idle,
    Replaced,
    Kicked,
    Draining,
}

impl ErrorCode {
    /// The sentence for people: the cause, then what to do.
    pub const fn message(self) -> &'static str {
        match self {
            Self::BadMessage => "The relay did not understand this message.",
            Self::TooLarge => "This message is too large.",
            Self::VersionUnsupported => {
                "This relay speaks another version of the protocol. Update the app, or reload the page."
            }
            Self::NotJoined => "Join a room first.",
            Self::AlreadyJoined => "This connection is in a room already. Leave it first.",
            Self::AuthFailed => "Wrong password, or there is no such room. Check both and try again.",
            Self::LinkIncomplete => {
                "This link lacks its last part, after the #. Ask the person who invited you for the whole link."
            }
            Self::RoomLocked => "The room is locked. Ask somebody inside to unlock it.",
            Self::UserIdTaken => "This identity is in use in the room. Reload to get another.",
            Self::ResumeFailed => "The seat is gone. Join the room again.",
            Self::RateLimited => "Too many tries from this network or at this room. Wait a moment.",
            Self::ServerBusy => "The relay is checking many passwords right now. Try again in a moment.",
            Self::StorageFull => {
                "The relay's disk is full, so no room can be made or changed. Joining works. Tell the operator."
            }
            Self::StorageUnavailable => "The relay cannot read its rooms. Tell the operator.",
            Self::TooManyRooms => "The relay holds as many rooms as it may. Tell the operator.",
            Self::CreationClosed => {
                "There is no such room, and this relay makes no new ones. Check the link, or ask the operator."
            }
            Self::CreationKeyRequired => {
                "There is no such room, and making one takes the operator's key. Check the link, or enter the key."
            }
            Self::NotOwner => "Only the room's owner can do this.",
            Self::UnknownTarget => "This participant is not in the room.",
            Self::ScreenShareDisabled => "The owner of the room switched screen sharing off.",
            Self::TooManyCandidates => "Too many ICE candidates for one description.",
            Self::SlowReader => "This connection reads too slowly and was closed. Reconnect.",
            Self::Idle => "This connection was silent for too long and was closed. Reconnect.",
            Self::Replaced => "This seat was taken over by a newer connection.",
            Self::Kicked => "The owner removed you from the room.",
            Self::Draining => "The relay is restarting. Reconnect in a moment.",
        }
    }
}

/// WebSocket close codes of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// A frame over [`crate::limits::FRAME`].
    FrameTooLarge = 1009,
    /// No `hello`, no common version, not a text frame.
    Protocol = 4000,
    /// Removed by the owner; do not reconnect.
    Kicked = 4001,
    /// A newer connection resumed the seat; do not reconnect.
    Replaced = 4002,
    /// The queue towards the client ran over.
    SlowReader = 4003,
    /// Silent for [`crate::limits::IDLE_TIMEOUT`], or without a seat for [`crate::limits::JOIN_TIMEOUT`].
    Idle = 4004,
    /// The relay stops.
    Draining = 4005,
}
