//! What a call asks of the shell, and what it tells it.

use snug_wire::link::RoomSecret;
use snug_wire::{ErrorCode, IceServer, LeaveReason, Media, Token, UserId, seal::SealError};

use crate::channel::Tile;
use crate::chat::ChatMessage;
use crate::identity::KeptIdentity;
use crate::input::{JobId, LinkId, OwnerRequest};
use crate::safety::Safety;
use crate::snapshot::KnockSnapshot;

/// An ICE candidate as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// `candidate:…`
    pub candidate: String,
    /// The media section's name.
    pub sdp_mid: Option<String>,
    /// The media section's place.
    pub sdp_mline_index: Option<u16>,
}

/// An effect. Those of one link are to be carried out in the order in which they come.
#[derive(Debug)]
pub enum Output {
    /// Open a connection to the relay; the answer is `Connected` or `Disconnected`.
    Connect,
    /// Close the connection, or give up opening it. Nothing more is to be reported of it.
    CloseConnection {
        /// 1000 leaves the room; 3001 only gives the connection up.
        code: u16,
    },
    /// Send one frame to the relay.
    Send(String),
    /// Make a peer connection.
    OpenLink {
        /// Its id.
        link: LinkId,
        /// To whom.
        user: UserId,
        /// Whether our side makes the media sections; else they come with the offer.
        offerer: bool,
        /// Its STUN and TURN servers.
        ice_servers: Vec<IceServer>,
    },
    /// Close a peer connection. What was sent on its channel before may leave first.
    CloseLink {
        /// The connection.
        link: LinkId,
    },
    /// Make an offer and set it as the local description; the answer is `DescriptionReady` or `DescriptionFailed`.
    CreateOffer {
        /// The connection.
        link: LinkId,
        /// To be repeated in the answer.
        job: JobId,
        /// With new ICE credentials.
        ice_restart: bool,
        /// Roll an unanswered offer of ours back first.
        rollback: bool,
    },
    /// Set a remote offer and make the answer, which comes as `DescriptionReady`.
    AcceptOffer {
        /// The connection.
        link: LinkId,
        /// To be repeated in the answer.
        job: JobId,
        /// The offer.
        sdp: String,
        /// Roll an unanswered offer of ours back first.
        rollback: bool,
    },
    /// Set a remote answer; only a failure is answered.
    AcceptAnswer {
        /// The connection.
        link: LinkId,
        /// To be repeated in `DescriptionFailed`.
        job: JobId,
        /// The answer.
        sdp: String,
    },
    /// Add a remote candidate. One that does not fit is dropped.
    AddCandidate {
        /// The connection.
        link: LinkId,
        /// The candidate.
        candidate: Candidate,
    },
    /// The next paths of a connection are made with these servers.
    SetIceServers {
        /// The connection.
        link: LinkId,
        /// The servers.
        ice_servers: Vec<IceServer>,
    },
    /// Send a text on the data channel.
    SendChannel {
        /// The connection.
        link: LinkId,
        /// The text.
        text: String,
    },
    /// How the other side shows us, which is what the layers are chosen by.
    Tile {
        /// The connection.
        link: LinkId,
        /// In device pixels.
        tile: Tile,
    },
    /// Something that a person or a log may want to know.
    Event(CallEvent),
}

/// Why a call is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCode {
    /// [`crate::Input::Leave`].
    Left,
    /// The owner removed us.
    Kicked,
    /// A newer connection took the seat.
    Replaced,
    /// The owner ended the call for everybody.
    CallEnded,
    /// The owner made a new link that did not reach us.
    LinkChanged,
    /// The room holds no more.
    RoomFull,
    /// The relay could not be reached.
    Unreachable,
    /// The relay's certificate is not valid.
    Untrusted,
    /// The relay was reached and did not answer in time.
    TimedOut,
    /// The relay refused, and would refuse again.
    Refused(ErrorCode),
}

/// Why the relay gives no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSeatReason {
    /// The room holds no more.
    RoomFull,
    /// Somebody inside has to let us in.
    Lobby,
    /// The relay refused with this code.
    Refused(ErrorCode),
}

/// There is no seat for us at the moment, though the relay answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSeat {
    /// Why.
    pub reason: NoSeatReason,
    /// One or two sentences for people.
    pub message: String,
    /// Whether something comes of it by itself. If not, [`crate::Input::RetryNow`] asks again.
    pub waits: bool,
}

/// Which of the owner's requests an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "named as the variants of OwnerRequest; TakeOwnership answers an offer of the owner"
)]
pub enum RequestKind {
    SetPassword,
    ClearPassword,
    Lock,
    Kick,
    UpdateSettings,
    RotateOwnerToken,
    GetStats,
    Unban,
    AskMute,
    Admit,
    OfferOwnership,
    TakeOwnership,
    NewLink,
    EndCall,
}

impl RequestKind {
    /// What a request is called.
    pub(crate) const fn of(request: &OwnerRequest) -> Self {
        match request {
            OwnerRequest::SetPassword { .. } => Self::SetPassword,
            OwnerRequest::ClearPassword => Self::ClearPassword,
            OwnerRequest::Lock(_) => Self::Lock,
            OwnerRequest::Kick(_) => Self::Kick,
            OwnerRequest::UpdateSettings { .. } => Self::UpdateSettings,
            OwnerRequest::RotateOwnerToken => Self::RotateOwnerToken,
            OwnerRequest::GetStats => Self::GetStats,
            OwnerRequest::Unban => Self::Unban,
            OwnerRequest::AskMute(_) => Self::AskMute,
            OwnerRequest::Admit { .. } => Self::Admit,
            OwnerRequest::OfferOwnership(_) => Self::OfferOwnership,
            OwnerRequest::NewLink => Self::NewLink,
            OwnerRequest::EndCall => Self::EndCall,
        }
    }

    /// Whether the relay answers when it has carried it out; else it answers only when it refuses.
    pub(crate) const fn is_answered(self) -> bool {
        !matches!(self, Self::AskMute | Self::Admit | Self::OfferOwnership | Self::EndCall)
    }
}

/// A room's statistics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomStats {
    /// `YYYY-MM-DD`.
    pub created_at: String,
    /// `YYYY-MM-DD`.
    pub last_used: String,
    /// How often an empty room was entered, ever.
    pub total_sessions: u64,
    /// How long somebody was inside, ever, in seconds.
    pub total_duration_seconds: u64,
}

/// What happened. The state itself is in [`crate::CallSnapshot`].
#[derive(Debug)]
pub enum CallEvent {
    /// We have a seat; `again` after a relay that had forgotten us.
    Joined {
        /// Whether it is a return.
        again: bool,
    },
    /// The connection to the relay was lost; media goes on.
    Reconnecting,
    /// The lost connection is back and our seat with it.
    Resumed,
    /// The relay is about to stop; media goes on.
    Draining,
    /// Keep this until [`CallEvent::ForgetIdentity`], where only this person's programs can read it, in place of what was kept
    /// before. It is to be kept before the outputs that follow are carried out.
    KeepIdentity(KeptIdentity),
    /// What was kept is of no more use.
    ForgetIdentity,
    /// The room has a password: supply one. During a call the links go on meanwhile.
    PasswordNeeded {
        /// What the owner wrote for who does not remember it.
        hint: Option<String>,
        /// Whether one was tried and is wrong.
        wrong: bool,
    },
    /// We have no seat yet, or none at the moment. During a call the links go on meanwhile.
    NoSeat(NoSeat),
    /// Somebody came.
    ParticipantJoined {
        /// Who.
        user: UserId,
        /// Whose seat they gave up for this one, as the relay says: somebody who came back under another key.
        former: Option<UserId>,
    },
    /// Somebody who was there was started anew, with the same key: the link to them is made anew.
    ParticipantReturned(UserId),
    /// Somebody is gone.
    ParticipantLeft {
        /// Who.
        user: UserId,
        /// Why, as the relay says; `Timeout` when it did not say.
        reason: LeaveReason,
    },
    /// Somebody's connection to the relay is lost; media may go on.
    ParticipantAway(UserId),
    /// Somebody's connection to the relay is back.
    ParticipantBack(UserId),
    /// The link to somebody works.
    ParticipantConnected(UserId),
    /// The link to somebody does not work at the moment.
    ParticipantInterrupted(UserId),
    /// The link to somebody was refused: its security details were changed on the way.
    ParticipantRefused {
        /// Who.
        user: UserId,
        /// What is wrong.
        problem: SealError,
    },
    /// Somebody switched a source.
    MediaChanged {
        /// Who.
        user: UserId,
        /// What they send.
        media: Media,
    },
    /// A chat message of somebody else.
    Chat(ChatMessage),
    /// The owner does not allow sharing screens: stop ours.
    ScreenShareForbidden,
    /// The owner's token of this room, confirmed by the relay: keep it.
    OwnerToken(Token),
    /// The owner's token of our link is not the room's.
    OwnerTokenRefused,
    /// Somebody else owns the room, or we do.
    OwnerChanged(UserId),
    /// The owner asks us to switch the microphone off: it is to be done and shown.
    MuteRequested(UserId),
    /// Somebody waits in the lobby.
    Knock(KnockSnapshot),
    /// Somebody waits no longer, whether they came in or not.
    KnockGone(UserId),
    /// The room has a new link with this secret: show it. The one before opens nothing.
    LinkChanged(RoomSecret),
    /// The safety words of a link are known, or are not to be trusted.
    Safety {
        /// Who is at the other end.
        user: UserId,
        /// The words.
        safety: Safety,
    },
    /// The answer to `GetStats`.
    Stats(RoomStats),
    /// A request of ours was carried out.
    RequestDone(RequestKind),
    /// A request of ours was not carried out.
    RequestFailed {
        /// Which.
        request: RequestKind,
        /// The relay's code; `None` when no answer came.
        code: Option<ErrorCode>,
        /// One sentence for people.
        message: String,
    },
    /// The call is over; nothing more comes.
    Ended {
        /// Why.
        code: EndCode,
        /// One sentence for people.
        message: String,
    },
}
