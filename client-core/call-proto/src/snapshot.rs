//! A call as a view sees it: plain data.

use std::sync::Arc;
use std::time::{Duration, Instant};

use snug_wire::{Media, RoomInfo, UserId, seal::SealError};

use crate::chat::ChatMessage;
use crate::output::NoSeat;
use crate::safety::Safety;

/// Where the connection to the relay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalingState {
    /// On the way to the first seat.
    Connecting,
    /// A join waits for a password: the first one, or one that is to bring the seat back during a call.
    PasswordNeeded,
    /// A join waits in the lobby for somebody's decision.
    Waiting,
    /// Seated.
    Online,
    /// Lost, and coming back by itself.
    Reconnecting,
    /// The relay does not take us back. Links go on while they live; [`crate::Input::RetryNow`] asks again.
    Refused,
    /// Given up, or left.
    Closed,
}

/// For how long after the last packet a view keeps the tile of an interrupted link.
pub const TILE_KEPT: Duration = Duration::from_secs(5);

/// Where the link to a participant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Not yet up.
    Connecting,
    /// Media flows.
    Connected,
    /// It was up and does not work at the moment. A view drops the tile [`TILE_KEPT`] after `since`.
    Interrupted {
        /// When something last came, as far as is known: before the moment at which it was noticed.
        since: Instant,
    },
    /// What came over it is not to be trusted; it stays closed.
    Refused(SealError),
}

/// One other participant.
#[derive(Debug, Clone)]
pub struct ParticipantSnapshot {
    /// Its identity for this session of the room.
    pub user: UserId,
    /// What it says is checked against its key. A relay may admit somebody without one to a room whose link has no secret; that
    /// can be anybody.
    pub verified: bool,
    /// It came back under another key, as the relay says. Nothing but the person's own word shows that it is the same.
    pub new_key: bool,
    /// Its cleaned name; empty when it could not be read.
    pub name: String,
    /// What it sends.
    pub media: Media,
    /// Its connection to the relay is lost.
    pub away: bool,
    /// It showed the owner's token.
    pub owner: bool,
    /// The link to it.
    pub link: LinkState,
    /// What the two people can compare by voice.
    pub safety: Safety,
}

/// Somebody who waits in the lobby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnockSnapshot {
    /// Who.
    pub user: UserId,
    /// Their cleaned name; empty when it could not be read.
    pub name: String,
}

/// Everything about a call.
#[derive(Debug, Clone)]
pub struct CallSnapshot {
    /// The connection to the relay.
    pub signaling: SignalingState,
    /// Our identity for this session of the room.
    pub self_id: UserId,
    /// Why we have no seat at the moment, though the relay answers.
    pub no_seat: Option<NoSeat>,
    /// Whether we are the room's owner.
    pub is_owner: bool,
    /// The room, once we were inside.
    pub room: Option<RoomInfo>,
    /// Our own sources.
    pub media: Media,
    /// The others, in the order of their coming.
    pub participants: Vec<ParticipantSnapshot>,
    /// Who waits in the lobby, as far as we may let them in.
    pub knocks: Vec<KnockSnapshot>,
    /// The last 500 messages, oldest first.
    pub chat: Arc<Vec<ChatMessage>>,
}
