//! What goes into the state machine and what comes out.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::address::AddressBlock;
use serde::Serialize;
use snug_wire::{CloseCode, ErrorCode, LinkProof, Password, Payload, RoomId, ServerFrame, UserId};

/// One transport connection, named by the shell; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// An effect whose result comes back later. A job that nobody waits for any more is ignored when it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub(crate) u64);

/// A question from outside a room, named by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId(pub u64);

/// 32 bytes from the system's random source: all tokens come from it.
pub type Seed = [u8; 32];

/// The time, as the shell read it: durations come from `at`, dates and credentials from `unix`, so a clock that is set back does no harm.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic.
    pub at: Instant,
    /// Seconds since 1970.
    pub unix: u64,
}

/// Why the store could not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    /// No space left.
    #[error("the disk is full")]
    Full,
    /// The limit of rooms is reached.
    #[error("no more rooms are allowed")]
    TooManyRooms,
    /// It cannot be read or written.
    #[error("the store is not available")]
    Unavailable,
}

impl StoreFailure {
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::Full => ErrorCode::StorageFull,
            Self::TooManyRooms => ErrorCode::TooManyRooms,
            Self::Unavailable => ErrorCode::StorageUnavailable,
        }
    }
}

/// The password queue is full; try after this long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy(pub Duration);

/// What happened outside.
#[derive(Debug)]
pub enum Input {
    /// A connection is up.
    Connected {
        /// Its name from here on.
        connection: ConnectionId,
        /// Where it comes from.
        address: IpAddr,
        /// The name or address by which it reached the relay, if the shell knows: handed to
        /// [`crate::IceServerSource::ice_servers`] as it is.
        host: Option<Box<str>>,
    },
    /// It sent a frame: a message, or what is none. It is decoded here, for a frame past the sender's rate is not worth that.
    Frame {
        /// Who.
        connection: ConnectionId,
        /// What.
        text: String,
    },
    /// It is gone.
    Disconnected {
        /// Who.
        connection: ConnectionId,
        /// It said goodbye (close code 1000 or 1001), so its seat is not held.
        leaving: bool,
    },
    /// Answers [`Output::LoadRoom`]: the record's bytes, or `None` when there is no such room.
    RoomLoaded {
        /// Which.
        job: JobId,
        /// What.
        result: Result<Option<Vec<u8>>, StoreFailure>,
    },
    /// Answers [`Output::SaveRoom`]: it is on disk, or it is not.
    RoomSaved {
        /// Which.
        job: JobId,
        /// Whether.
        result: Result<(), StoreFailure>,
    },
    /// Answers [`Output::HashPassword`] with a PHC string.
    PasswordHashed {
        /// Which.
        job: JobId,
        /// The hash.
        result: Result<String, Busy>,
    },
    /// Answers [`Output::CheckPassword`].
    PasswordChecked {
        /// Which.
        job: JobId,
        /// Whether it is right.
        result: Result<bool, Busy>,
    },
    /// Somebody asks what the pre-join page shows; answered by [`Output::Meta`].
    Query {
        /// Its name.
        query: QueryId,
        /// About which room.
        room: RoomId,
        /// What shows that the asker has the whole link.
        link_proof: LinkProof,
    },
    /// [`crate::IceServerSource`] has other servers: everybody inside is told.
    IceServersChanged,
    /// The relay is about to stop: everybody is told to reconnect.
    Drain,
    /// It stops: who is still here is closed.
    Stop,
}

/// What the shell is to do.
#[derive(Debug)]
pub enum Output {
    /// Send a frame.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// What.
        frame: ServerFrame,
    },
    /// Close a connection once what was sent is flushed. The state machine has forgotten it.
    Close {
        /// Which.
        connection: ConnectionId,
        /// Why.
        code: CloseCode,
    },
    /// Read a room; answered by [`Input::RoomLoaded`]. Saves before it are seen.
    LoadRoom {
        /// Which job this is.
        job: JobId,
        /// Which room.
        room: RoomId,
    },
    /// Write a room; answered by [`Input::RoomSaved`] when `job` is set, else nobody waits.
    SaveRoom {
        /// Which job this is.
        job: Option<JobId>,
        /// Which room.
        room: RoomId,
        /// Its record.
        record: Vec<u8>,
        /// It is a room that did not exist.
        creates: bool,
    },
    /// Hash a password; answered by [`Input::PasswordHashed`].
    HashPassword {
        /// Which job this is.
        job: JobId,
        /// What to hash.
        password: Password,
        /// Where it comes from: blocks take turns.
        block: AddressBlock,
    },
    /// Check a password; answered by [`Input::PasswordChecked`].
    CheckPassword {
        /// Which job this is.
        job: JobId,
        /// What was typed.
        password: Password,
        /// What it should be; `None` asks for the same work and the answer "no".
        hash: Option<String>,
        /// Where it comes from: blocks take turns.
        block: AddressBlock,
    },
    /// A participant has a seat: it may use what the relay gives to participants. Comes before the first frame that names it
    /// to anybody, and once until [`Output::Unseated`]; a lost connection and a resume change nothing.
    Seated {
        /// In which room.
        room: RoomId,
        /// Who.
        user: UserId,
    },
    /// It left, was removed, or did not come back in time.
    Unseated {
        /// From which room.
        room: RoomId,
        /// Who.
        user: UserId,
    },
    /// Answers [`Input::Query`]; `None` for an unknown room and for a wrong proof alike.
    Meta {
        /// Which question.
        query: QueryId,
        /// The answer.
        meta: Option<RoomMeta>,
    },
}

/// What the pre-join page shows to who has the whole link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomMeta {
    /// Whether a password is asked.
    pub password_enabled: bool,
    /// Whether joining is closed.
    pub locked: bool,
    /// 2 to 10.
    pub max_participants: u8,
    /// Who is inside; `None` behind a password.
    pub participants: Option<Vec<RoomMetaParticipant>>,
}

/// One name on the pre-join page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomMetaParticipant {
    /// The sender of the sealed name.
    pub user_id: UserId,
    /// The name.
    pub display_name: Payload,
}
