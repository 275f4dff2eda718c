//! What the shell tells a call.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use snug_wire::message::Received;
use snug_wire::{Admission, Media, Password, UserId};

use crate::channel::Tile;

/// The time of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time, for everything that waits.
    pub at: Instant,
    /// Milliseconds since 1970, for the dates of chat messages and the start of our run.
    pub unix_ms: u64,
}

/// One peer connection of the shell. A connection that replaces another one has another id; ids are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One description that the shell is asked to make or take. An answer with a stale id is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// What the shell's ICE agent says of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceState {
    /// A pair works and DTLS is up.
    Connected,
    /// The pair does not answer; it may come back by itself.
    Disconnected,
    /// No pair works.
    Failed,
}

/// Why no connection to the relay could be opened: each holds one whole sentence for people, with the cause and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFailure {
    /// No answer, no route, no such host.
    #[error("{0}")]
    Unreachable(String),
    /// Its certificate is not valid.
    #[error("{0}")]
    Untrusted(String),
    /// It answered, but does not take this connection.
    #[error("{0}")]
    Refused(String),
}

/// What the room's owner can ask for.
#[derive(Debug, Clone)]
pub enum OwnerRequest {
    /// Sets the room's password (1 to 256 bytes) and the hint that is shown after a wrong one (up to 128 characters).
    SetPassword {
        /// The password.
        password: Password,
        /// The hint.
        hint: Option<String>,
    },
    /// Takes the password off.
    ClearPassword,
    /// Closes or opens the room for others.
    Lock(bool),
    /// Removes a participant.
    Kick(UserId),
    /// Changes what is given.
    UpdateSettings {
        /// 2 to 10.
        max_participants: Option<u8>,
        /// Whether screens may be shared.
        allow_screen_share: Option<bool>,
        /// Whether people wait in the lobby until they are let in.
        lobby: Option<bool>,
        /// Who may let them in.
        admission: Option<Admission>,
    },
    /// Makes a new owner's token; the old one is dead.
    RotateOwnerToken,
    /// Asks for the room's statistics.
    GetStats,
    /// Forgets who was removed: they may join as everybody else.
    Unban,
    /// Asks somebody to switch the microphone off.
    AskMute(UserId),
    /// Lets somebody in from the lobby, or does not.
    Admit {
        /// Who waits.
        user: UserId,
        /// Whether they come in.
        admitted: bool,
    },
    /// Hands the room over to somebody, who becomes its owner instead of us.
    OfferOwnership(UserId),
    /// Makes a new link; those inside are moved over, and the one before opens nothing.
    NewLink,
    /// Ends the call for everybody.
    EndCall,
}

/// Everything that can happen to a call.
#[derive(Debug, Clone)]
pub enum Input {
    /// The connection that [`crate::Output::Connect`] asked for is open.
    Connected,
    /// The connection was closed by the other side or lost, or could not be opened.
    Disconnected {
        /// The WebSocket or QUIC close code, when there was one.
        close_code: Option<u16>,
        /// Why it could not be opened.
        error: Option<ConnectFailure>,
    },
    /// A message of the relay.
    Received(Received),
    /// A frame that could not be decoded, with its sequence number where it had one: it counts, or the next one would look like a gap.
    Unreadable {
        /// What [`Received::sequence_of`] found.
        seq: Option<u64>,
    },
    /// An offer or answer was made and set as the local description.
    DescriptionReady {
        /// The connection.
        link: LinkId,
        /// The job it answers.
        job: JobId,
        /// The description.
        sdp: String,
    },
    /// A description could not be made or was not accepted.
    DescriptionFailed {
        /// The connection.
        link: LinkId,
        /// The job it answers.
        job: JobId,
    },
    /// A local candidate, also before its description is ready.
    CandidateFound {
        /// The connection.
        link: LinkId,
        /// `candidate:…`
        candidate: String,
        /// The media section's name.
        sdp_mid: Option<String>,
        /// The media section's place.
        sdp_mline_index: Option<u16>,
    },
    /// A link's transport changed.
    LinkStateChanged {
        /// The connection.
        link: LinkId,
        /// What it is.
        state: IceState,
    },
    /// The data channel can be written to.
    ChannelOpened {
        /// The connection.
        link: LinkId,
    },
    /// The data channel was closed by the other side.
    ChannelClosed {
        /// The connection.
        link: LinkId,
    },
    /// A message on the data channel.
    ChannelMessage {
        /// The connection.
        link: LinkId,
        /// Its text.
        text: String,
    },
    /// RTP or RTCP arrives; said at most every 250 ms.
    MediaSeen {
        /// The connection.
        link: LinkId,
    },
    /// Our sources as they are.
    SetMedia(Media),
    /// How large we show each participant; who is missing is not shown.
    SetTiles(BTreeMap<UserId, Tile>),
    /// Sends what a person typed to everybody.
    SendChat(String),
    /// An address of this machine changed: every path is in doubt.
    NetworkChanged,
    /// A person does not want to wait, or asks anew after a [`crate::CallEvent::NoSeat`] that is not followed by another try.
    RetryNow,
    /// The answer to [`crate::CallEvent::PasswordNeeded`], before the first seat or during the call.
    SupplyPassword(Password),
    /// Something only the owner may do.
    Owner(OwnerRequest),
    /// Ends the call.
    Leave,
}
