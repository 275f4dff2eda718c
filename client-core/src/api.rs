//! What a shell and the engine say to each other: commands in, events and snapshots out. Plain data that serializes, so that a window
//! in a process of its own says the same over JSON lines. It names no codec, socket or WebRTC type.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::devices::{Device, DeviceKind};

/// What a shell asks for. None waits: what comes of it is told by an [`Event`] and seen in the next [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "command", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Command {
    /// Switches the microphone.
    SetMicrophone {
        /// Whether it is heard.
        enabled: bool,
    },
    /// Switches the camera.
    SetCamera {
        /// Whether it is seen.
        enabled: bool,
    },
    /// Takes another camera; off stays off.
    SelectCamera {
        /// Its id; nothing is the default one.
        id: Option<String>,
    },
    /// Takes another microphone.
    SelectMicrophone {
        /// Its id; nothing is the default one.
        id: Option<String>,
    },
    /// Takes another speaker.
    SelectSpeaker {
        /// Its id; nothing is the default one.
        id: Option<String>,
    },
    /// Starts or ends sharing the screen.
    SetScreen {
        /// Whether it is seen.
        enabled: bool,
    },
    /// Raises or lowers the hand.
    SetHand {
        /// Whether it is up.
        raised: bool,
    },
    /// How large each participant is shown; who is missing is not shown, and costs its sender nothing.
    SetTiles {
        /// By participant.
        tiles: BTreeMap<String, TileSize>,
    },
    /// Sends a chat message to everybody.
    SendChat {
        /// What it says, up to 4,000 characters.
        text: String,
    },
    /// Answers [`Event::PasswordNeeded`].
    SupplyPassword {
        /// The room's password.
        password: String,
    },
    /// Records what each participant sends into `NAME-ID.ivf` and `NAME-ID.wav` of a folder, which is made where there is none.
    /// Files of an earlier recording are left alone: names are counted up (`NAME-ID-2.ivf`).
    SetRecording {
        /// The folder; nothing ends the recording.
        folder: Option<PathBuf>,
    },
    /// An address of this machine changed.
    NetworkChanged,
    /// Tries at once what is being waited for, or once more what the relay refused.
    Retry,
    /// Removes a participant; for the owner.
    Kick {
        /// Whom.
        user: String,
    },
    /// Closes or opens the room for others; for the owner.
    Lock {
        /// Whether it is closed.
        locked: bool,
    },
    /// Sets the room's password; for the owner.
    SetPassword {
        /// 1 to 256 characters.
        password: String,
        /// Shown after a wrong one, up to 128 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// Takes the room's password off; for the owner.
    ClearPassword,
    /// Has people wait in the lobby until they are let in, or not; for the owner.
    SetLobby {
        /// Whether they wait.
        enabled: bool,
        /// Whether everybody inside may let them in, or the owner alone; nothing leaves that as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        anyone: Option<bool>,
    },
    /// Lets somebody in from the lobby, or does not.
    Admit {
        /// Whom.
        user: String,
        /// Whether they come in.
        admitted: bool,
    },
    /// Asks somebody to switch the microphone off; for the owner.
    AskMute {
        /// Whom.
        user: String,
    },
    /// Forgets who was removed: they may join as everybody else; for the owner.
    Unban,
    /// Hands the room over; for the owner, who is the owner no longer.
    OfferOwnership {
        /// To whom.
        user: String,
    },
    /// Makes a new link: those inside are moved over, and the one before opens nothing; for the owner.
    NewLink,
    /// Ends the call for everybody; for the owner.
    EndCall,
    /// Ends the call.
    Leave,
}

/// How large a participant is shown, in device pixels; 0 is not shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names say it")]
pub struct TileSize {
    pub width: u16,
    pub height: u16,
    pub screen_width: u16,
    pub screen_height: u16,
}

/// What happened. The state itself is in [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum Event {
    /// We have a seat; `again` at a relay that had forgotten us.
    Joined {
        /// Our identity for this session of the room.
        user: String,
        /// Whether it is a return.
        again: bool,
    },
    /// The connection to the relay is lost; media goes on.
    Reconnecting,
    /// The lost connection is back.
    Resumed,
    /// The relay is about to stop; media goes on.
    Draining,
    /// The room has a password: supply one. During a call its links go on meanwhile.
    PasswordNeeded {
        /// What the owner wrote for who does not remember it.
        hint: Option<String>,
        /// Whether one was tried and is wrong.
        wrong: bool,
    },
    /// There is no seat for us yet, or none at the moment, though the relay answers. During a call its links go on meanwhile.
    NoSeat {
        /// A word for scripts: `room_full`, `room_locked`, `waiting` (somebody has to let us in), …
        code: String,
        /// One or two sentences for people.
        message: String,
        /// Whether something comes of it by itself. If not, [`Command::Retry`] asks again.
        waits: bool,
    },
    /// Somebody came.
    ParticipantJoined {
        /// Who.
        user: String,
        /// Their name.
        name: String,
        /// They gave up another seat for this one, as the relay says, and came back under another key: only the person's own word
        /// shows that it is the same.
        new_key: bool,
    },
    /// Somebody was started anew and came back, with the same key.
    ParticipantReturned {
        /// Who.
        user: String,
        /// Their name.
        name: String,
    },
    /// Somebody is gone.
    ParticipantLeft {
        /// Who.
        user: String,
        /// Whether the owner removed them.
        kicked: bool,
        /// Whether they come back under another key: [`Event::ParticipantJoined`] follows.
        replaced: bool,
    },
    /// Somebody's link changed.
    Link {
        /// Who.
        user: String,
        /// What it is.
        state: LinkState,
    },
    /// The first picture of somebody's camera or screen was decoded.
    FirstPicture {
        /// Who.
        user: String,
        /// `camera` or `screen`.
        source: &'static str,
    },
    /// Somebody switched a source.
    MediaChanged {
        /// Who.
        user: String,
        /// What they send.
        media: Sources,
    },
    /// A chat message of somebody else.
    Chat {
        /// Who wrote it.
        user: String,
        /// Their name.
        name: String,
        /// What it says.
        text: String,
    },
    /// What is plugged in: once at the start, and when it changes.
    DevicesChanged {
        /// Everything that can be chosen.
        devices: Vec<Device>,
    },
    /// A microphone or speaker was opened; it can be another one than the chosen one, or none.
    DeviceUsed {
        /// What it is for.
        kind: DeviceKind,
        /// For people; nothing while there is none.
        name: Option<String>,
    },
    /// The owner asked us to switch the microphone off, which was done.
    MuteRequested {
        /// Who asked.
        user: String,
        /// Their name.
        name: String,
    },
    /// Somebody waits in the lobby: [`Command::Admit`] lets them in.
    Knock {
        /// Who.
        user: String,
        /// Their name.
        name: String,
    },
    /// Somebody waits no longer, whether they came in or not.
    KnockGone {
        /// Who.
        user: String,
    },
    /// The room has another owner.
    OwnerChanged {
        /// Who.
        user: String,
        /// Whether we are.
        own: bool,
    },
    /// The room has a new link; the one before opens nothing.
    LinkChanged {
        /// It, whole: whoever has it can enter.
        link: String,
    },
    /// What the two people at the ends of a link can compare by voice: nobody sits between them when both read the same words.
    SafetyWords {
        /// Who is at the other end.
        user: String,
        /// Their name.
        name: String,
        /// Four words.
        words: Vec<String>,
    },
    /// Somebody sits between us and this participant: what their side showed does not fit.
    SafetyWarning {
        /// Who is at the other end.
        user: String,
        /// Their name.
        name: String,
    },
    /// A command for the owner was carried out.
    RequestDone {
        /// Which: `lock`, `kick`, `set_password`, …
        request: &'static str,
    },
    /// The owner's token of this room, confirmed by the relay: keep it.
    OwnerToken {
        /// The token.
        token: String,
    },
    /// Something does not work as asked; the call goes on.
    Problem {
        /// A word for scripts.
        code: String,
        /// One sentence for people.
        message: String,
    },
    /// The call is over; nothing follows.
    Ended {
        /// A word for scripts: `left`, `kicked`, `room_full`, …
        code: String,
        /// One sentence for people.
        message: String,
    },
}

/// Where the link to a participant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Not yet up.
    Connecting,
    /// Media flows.
    Connected,
    /// It was up, nothing has come over it for two seconds or more, and its tile is still shown.
    Interrupted,
    /// Nothing has come over it for five seconds: its tile is dropped.
    Lost,
    /// What came over it is not to be trusted; it stays closed.
    Refused,
}

/// What somebody sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Sources {
    pub audio: bool,
    pub video: bool,
    pub screen: bool,
    pub hand: bool,
    pub recording: bool,
}

impl From<snug_wire::Media> for Sources {
    fn from(media: snug_wire::Media) -> Self {
        let snug_wire::Media { audio, video, screen, hand, recording } = media;
        Self { audio, video, screen, hand, recording }
    }
}

/// The call as a view draws it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Whether the connection to the relay stands; media does not need it.
    pub online: bool,
    /// Our identity for this session of the room.
    pub user: String,
    /// Why we have no seat at the moment, though the relay answers: one or two sentences for people.
    pub no_seat: Option<String>,
    /// Whether we are the room's owner.
    pub is_owner: bool,
    /// Whether the room is closed for others.
    pub locked: bool,
    /// Whether others wait in the lobby until they are let in.
    pub lobby: bool,
    /// How many the owner removed; they cannot come back until the owner forgets them.
    pub removed: u8,
    /// What we send.
    pub sources: Sources,
    /// Loudness of our microphone in dBFS: 0 is full scale, silence is far below.
    pub level_db: f32,
    /// What our camera's encoders have done.
    pub camera: Encoded,
    /// The others, in the order of their coming.
    pub participants: Vec<Participant>,
    /// Who waits in the lobby, as far as we may let them in.
    pub knocks: Vec<Knock>,
}

/// Somebody who waits in the lobby.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Knock {
    /// Who.
    pub user: String,
    /// Their name; empty when it could not be read.
    pub name: String,
}

/// What has become of our camera's pictures since the call began. A picture is encoded once for each layer that somebody wants, however
/// many receive it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Encoded {
    /// Pictures that the camera gave.
    pub pictures: u64,
    /// 320×180, of every other picture.
    pub low: EncodedLayer,
    /// 640×360.
    pub medium: EncodedLayer,
    /// 1280×720.
    pub high: EncodedLayer,
}

/// One layer's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EncodedLayer {
    /// Pictures that were encoded.
    pub encodes: u64,
    /// Key frames among them.
    pub key_frames: u64,
    /// Bytes that came out.
    pub bytes: u64,
}

/// One other participant.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// Its identity for this session of the room.
    pub user: String,
    /// Whether what it says is checked against its key; who is not verified can be anybody.
    pub verified: bool,
    /// It came back under another key, as the relay says: only the person's own word shows that it is the same.
    pub new_key: bool,
    /// Its name; empty when it could not be read.
    pub name: String,
    /// What it sends.
    pub sources: Sources,
    /// Its connection to the relay is lost.
    pub away: bool,
    /// It is the room's owner.
    pub owner: bool,
    /// The link to it.
    pub link: LinkState,
    /// What the two people can compare by voice, once it is known.
    pub safety_words: Option<Vec<String>>,
    /// Somebody sits between us: what their side showed does not fit.
    pub safety_warning: bool,
    /// Loudness in dBFS.
    pub level_db: f32,
    /// Whether it sounds like speech.
    pub speaking: bool,
    /// Pictures of its camera that were decoded so far.
    pub pictures: u64,
    /// Width and height of the newest of them, 0 before the first.
    pub picture_size: (u32, u32),
    /// How the link does.
    pub quality: Quality,
}

/// How a link does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quality {
    /// Round trip in milliseconds, 0 until known.
    pub rtt_ms: u64,
    /// What the path is thought to carry, in bit/s.
    pub estimate_bps: u64,
    /// Share of our packets that were lost lately, 0 to 1.
    pub loss: f32,
    /// Packets of sound and picture that came.
    pub packets_received: u64,
    /// Bytes of sound and picture that came, without headers.
    pub bytes_received: u64,
    /// Bytes of sound and picture that were sent, without headers and retransmissions.
    pub bytes_sent: u64,
    /// Packets that came by retransmission.
    pub recovered: u64,
    /// Packets that came twice; the second one was dropped.
    pub duplicates: u64,
    /// Whether a TURN server carries it.
    pub relayed: bool,
    /// How we reach our TURN server when one carries it: `udp`, `tcp` or `tls`.
    pub relay_protocol: Option<&'static str>,
}
