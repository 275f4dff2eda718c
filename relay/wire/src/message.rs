//! The messages, both directions (PROTOCOL.md §3, §4), and their decoding with every limit applied.

use serde::{Deserialize, Serialize};

use crate::error::ErrorCode;
use crate::id::{RoomId, UserId};
use crate::password::Password;
use crate::secret::{CreationKey, LinkProof, Token};
use crate::{limits, object, text};

/// A client's message with the number that its answer will carry.
#[derive(Debug, Clone, Serialize)]
pub struct Request {
    /// Chosen by the client; answered in `done` and `error`.
    #[serde(rename = "requestId", skip_serializing_if = "Option::is_none")]
    pub request_id: Option<u32>,
    /// The message.
    #[serde(flatten)]
    pub message: ClientMessage,
}

/// Client to relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "PROTOCOL.md §3 says what each is for, field by field")]
pub enum ClientMessage {
    Hello {
        versions: Vec<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<String>,
    },
    JoinRoom(JoinRoom),
    Resume {
        room_id: RoomId,
        user_id: UserId,
        resume_token: Token,
        last_seq: u64,
    },
    LeaveRoom {},
    Offer(Forward),
    Answer(Forward),
    IceCandidate(Forward),
    ToggleAudio {
        enabled: bool,
    },
    ToggleVideo {
        enabled: bool,
    },
    ToggleScreen {
        enabled: bool,
    },
    ToggleHand {
        enabled: bool,
    },
    SetRoomPassword {
        password: Password,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    ClearRoomPassword {},
    LockRoom {
        locked: bool,
    },
    Kick {
        target_id: UserId,
    },
    UpdateSettings {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_participants: Option<u8>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        allow_screen_share: Option<bool>,
    },
    RotateOwnerToken {},
    GetStats {},
    TurnCredentials {},
    Ping {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_seq: Option<u64>,
    },
}

/// `join_room`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "PROTOCOL.md §3 says what each is for, field by field")]
pub struct JoinRoom {
    pub room_id: RoomId,
    pub user_id: UserId,
    pub display_name: Payload,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_proof: Option<LinkProof>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_token: Option<Token>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_token: Option<Token>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_key: Option<CreationKey>,
    #[serde(default, deserialize_with = "object::deserialize")]
    pub media: Media,
}

/// `offer`, `answer` and `ice_candidate`: for one participant, opaque to the relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    /// Whom it is for.
    pub target_id: UserId,
    /// What it says.
    pub payload: Payload,
}

/// What the relay forwards without looking: sealed with the room's key, or plain text when the link has no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// Base64url of counter, ciphertext and tag (PROTOCOL.md §6).
    Sealed(String),
    /// The same JSON text, readable by the relay.
    Plain(String),
}

impl Payload {
    /// Its length on the wire, in bytes of text.
    pub fn len(&self) -> usize {
        match self {
            Self::Sealed(text) | Self::Plain(text) => text.len(),
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Which of its sources a participant has switched on, and whether its hand is up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Media {
    pub audio: bool,
    pub video: bool,
    pub screen: bool,
    pub hand: bool,
}

/// Relay to client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase")]
#[expect(missing_docs, reason = "PROTOCOL.md §4 says what each is for, field by field")]
pub enum ServerMessage {
    Welcome {
        version: u32,
        relay: String,
        heartbeat_seconds: u64,
    },
    RoomJoined(Box<RoomJoined>),
    Resumed {
        resume_token: Token,
        replayed: usize,
    },
    UserJoined {
        #[serde(deserialize_with = "object::deserialize")]
        participant: Participant,
    },
    UserAway {
        user_id: UserId,
    },
    UserBack {
        user_id: UserId,
    },
    UserLeft {
        user_id: UserId,
        reason: LeaveReason,
    },
    OfferReceived(Forwarded),
    AnswerReceived(Forwarded),
    IceCandidateReceived(Forwarded),
    PeerState {
        user_id: UserId,
        #[serde(deserialize_with = "object::deserialize")]
        media: Media,
    },
    RoomUpdated {
        #[serde(deserialize_with = "object::deserialize")]
        room_info: RoomInfo,
    },
    OwnerToken {
        owner_token: Token,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<u32>,
    },
    RoomStats {
        created_at: String,
        last_used: String,
        total_sessions: u64,
        total_duration_seconds: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<u32>,
    },
    TurnCredentials {
        #[serde(deserialize_with = "object::list")]
        ice_servers: Vec<IceServer>,
        ice_ttl_seconds: u64,
    },
    Done {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<u32>,
    },
    RoomFull {
        max_participants: u8,
        /// When a seat becomes free at the latest that nobody sits in, unless its participant comes back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    AuthRequired {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    Kicked {},
    Drain {
        reconnect_after_ms: u64,
    },
    Error {
        code: ErrorCode,
        message: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_id: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    Pong {},
}

/// `room_joined`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "PROTOCOL.md §4 says what each is for, field by field")]
pub struct RoomJoined {
    pub room_id: RoomId,
    pub user_id: UserId,
    pub resume_token: Token,
    #[serde(deserialize_with = "object::list")]
    pub participants: Vec<Participant>,
    #[serde(deserialize_with = "object::deserialize")]
    pub room_info: RoomInfo,
    pub is_owner: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_token: Option<Token>,
    #[serde(deserialize_with = "object::list")]
    pub ice_servers: Vec<IceServer>,
    pub ice_ttl_seconds: u64,
    pub seat_hold_seconds: u64,
}

/// `offer_received`, `answer_received` and `ice_candidate_received`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarded {
    /// Who sent it, as the relay says: sealing proves it.
    pub from_id: UserId,
    /// What it says.
    pub payload: Payload,
}

/// One participant as the others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// Its identity for this run.
    pub user_id: UserId,
    /// Its name, sealed where the link has a secret.
    pub display_name: Payload,
    /// What it sends.
    #[serde(deserialize_with = "object::deserialize")]
    pub media: Media,
    /// Its connection is lost and its seat held.
    pub away: bool,
    /// It showed the owner's token.
    pub owner: bool,
}

/// What everybody in a room knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomInfo {
    /// 2 to 10.
    pub max_participants: u8,
    /// Whether screens may be shared.
    pub allow_screen_share: bool,
    /// Whether joining takes a password.
    pub password_enabled: bool,
    /// Whether joining is closed.
    pub locked: bool,
    /// Whether the room was made with a link proof.
    pub sealed: bool,
}

/// One entry of `RTCConfiguration.iceServers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// `stun:`, `turn:` or `turns:` URLs (RFC 7064, RFC 7065).
    pub urls: Vec<String>,
    /// Time-limited TURN user name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Why a participant is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaveReason {
    /// It said so.
    Left,
    /// Its seat was held and nobody came back.
    Timeout,
    /// The owner removed it.
    Kicked,
}

/// Why a frame is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Over [`limits::FRAME`].
    #[error("the frame has {0} bytes, at most {max} are taken", max = limits::FRAME)]
    FrameTooLarge(usize),
    /// Over [`limits::JSON_DEPTH`].
    #[error("JSON is nested deeper than {}", limits::JSON_DEPTH)]
    TooDeep,
    /// Not JSON, an unknown type, or a field that is missing or of the wrong form.
    #[error("{0}")]
    Malformed(String),
    /// A field over its limit.
    #[error("{field} is over its limit of {limit}")]
    TooLong {
        /// The field's name on the wire.
        field: &'static str,
        /// Its limit, in the unit of PROTOCOL.md §5.
        limit: usize,
    },
    /// A field below or outside its range.
    #[error("{field} must be {expected}")]
    OutOfRange {
        /// The field's name on the wire.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
    },
}

impl DecodeError {
    /// The code that the sender is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::FrameTooLarge(_) | Self::TooLong { .. } => ErrorCode::TooLarge,
            Self::TooDeep | Self::Malformed(_) | Self::OutOfRange { .. } => ErrorCode::BadMessage,
        }
    }
}

/// What is read of every frame first: it lets an error name the request that it answers.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default, rename = "requestId")]
    request_id: Option<u32>,
}

impl Request {
    /// A message without a request id.
    pub fn new(message: ClientMessage) -> Self {
        Self { request_id: None, message }
    }

    /// Reads one frame. The request id comes back with an error too, when it could be read.
    ///
    /// # Errors
    /// [`DecodeError`] for anything outside PROTOCOL.md §3 and §5.
    pub fn decode(frame: &str) -> Result<Self, (Option<u32>, DecodeError)> {
        check_shape(frame).map_err(|error| (None, error))?;
        let request_id = match object::from_str::<Envelope>(frame) {
            Ok(envelope) => envelope.request_id,
            Err(error) => return Err((None, malformed(&error))),
        };
        let mut message: ClientMessage =
            object::from_str(frame).map_err(|error| (request_id, malformed(&error)))?;
        message.check_limits().map_err(|error| (request_id, error))?;
        Ok(Self { request_id, message })
    }

    /// The frame's text.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("messages have string keys and no failing serializers")
    }
}

impl ClientMessage {
    /// Applies the limits of PROTOCOL.md §5, and cleans what the relay may clean.
    fn check_limits(&mut self) -> Result<(), DecodeError> {
        match self {
            Self::Hello { versions, agent } => {
                within("versions", versions.len(), limits::VERSIONS)?;
                within("agent", agent.as_ref().map_or(0, |agent| agent.chars().count()), limits::AGENT_CHARS)
            }
            Self::JoinRoom(join) => {
                within("displayName", join.display_name.len(), limits::NAME_PAYLOAD)?;
                if let Payload::Plain(name) = &mut join.display_name {
                    *name = clean_plain_name(name)?;
                }
                join.password.as_ref().map_or(Ok(()), check_password)
            }
            Self::Offer(forward) | Self::Answer(forward) => {
                within("payload", forward.payload.len(), limits::DESCRIPTION_PAYLOAD)
            }
            Self::IceCandidate(forward) => {
                within("payload", forward.payload.len(), limits::CANDIDATE_PAYLOAD)
            }
            Self::SetRoomPassword { password, hint } => {
                if let Some(hint) = hint {
                    within("hint", hint.chars().count(), limits::HINT_CHARS)?;
                    *hint = text::clean(hint, limits::HINT_CHARS);
                }
                check_password(password)
            }
            Self::UpdateSettings { max_participants: Some(max), .. }
                if !(limits::PARTICIPANTS_MIN..=limits::PARTICIPANTS_MAX).contains(max) =>
            {
                Err(DecodeError::OutOfRange { field: "maxParticipants", expected: "2 to 10" })
            }
            _ => Ok(()),
        }
    }
}

fn check_password(password: &Password) -> Result<(), DecodeError> {
    within("password", password.expose().chars().count(), limits::PASSWORD_CHARS)
}

/// The JSON text of a plain display name.
#[derive(Serialize, Deserialize)]
struct PlainName {
    name: String,
}

fn clean_plain_name(json: &str) -> Result<String, DecodeError> {
    let plain: PlainName = object::from_str(json)
        .map_err(|_| DecodeError::OutOfRange { field: "displayName.plain", expected: r#"{"name":"…"}"# })?;
    let name = text::clean(&plain.name, limits::NAME_CHARS);
    Ok(serde_json::to_string(&PlainName { name }).expect("a string serializes"))
}

fn within(field: &'static str, length: usize, limit: usize) -> Result<(), DecodeError> {
    if length > limit { Err(DecodeError::TooLong { field, limit }) } else { Ok(()) }
}

fn malformed(error: &serde_json::Error) -> DecodeError {
    DecodeError::Malformed(error.to_string())
}

/// Size and depth, before any parser sees the frame.
fn check_shape(frame: &str) -> Result<(), DecodeError> {
    if frame.len() > limits::FRAME {
        return Err(DecodeError::FrameTooLarge(frame.len()));
    }
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in frame.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > limits::JSON_DEPTH {
                    return Err(DecodeError::TooDeep);
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// A relay's message as it goes over the wire: the body is serialized once for all who get it, the sequence number is each one's own.
#[derive(Debug, Clone)]
pub struct ServerFrame {
    /// The seat's sequence number, from 1; `None` for what is not sequenced.
    pub seq: Option<u64>,
    body: std::sync::Arc<str>,
}

/// A relay message as a client reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct Received {
    /// The seat's sequence number.
    #[serde(default)]
    pub seq: Option<u64>,
    /// The message.
    #[serde(flatten)]
    pub message: ServerMessage,
}

impl ServerFrame {
    /// Serializes `message` once; [`ServerFrame::with_seq`] then addresses it.
    pub fn new(message: &ServerMessage) -> Self {
        let body =
            serde_json::to_string(message).expect("messages have string keys and no failing serializers");
        Self { seq: None, body: body.into() }
    }

    /// The same body as number `seq` of a seat.
    pub fn with_seq(&self, seq: u64) -> Self {
        Self { seq: Some(seq), body: self.body.clone() }
    }

    /// Bytes of the body, which stand for the frame's size in every bound.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Never: a body is at least `{"type":…}`.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The frame's text.
    pub fn encode(&self) -> String {
        match self.seq {
            None => self.body.to_string(),
            // The body is an object with at least `type` in it, so a comma always follows.
            Some(seq) => format!("{{\"seq\":{seq},{}", &self.body[1..]),
        }
    }
}

impl Received {
    /// Reads one frame from the relay.
    ///
    /// # Errors
    /// [`DecodeError`] when it is no message of this version.
    pub fn decode(frame: &str) -> Result<Self, DecodeError> {
        check_shape_from_relay(frame)?;
        object::from_str(frame).map_err(|error| malformed(&error))
    }

    /// The sequence number of a frame that is no message of this version: it counts all the same, or the next one would look like a gap.
    pub fn sequence_of(frame: &str) -> Option<u64> {
        let digits = frame.strip_prefix(r#"{"seq":"#)?.split_once(',')?.0;
        digits.parse().ok()
    }
}

/// The relay may send larger frames than it takes (`room_joined` with ten names), but not deeper ones.
fn check_shape_from_relay(frame: &str) -> Result<(), DecodeError> {
    match check_shape(&frame[..frame.floor_char_boundary(limits::FRAME)]) {
        Err(DecodeError::TooDeep) => Err(DecodeError::TooDeep),
        _ if frame.len() > limits::QUEUE_BYTES => Err(DecodeError::FrameTooLarge(frame.len())),
        _ => Ok(()),
    }
}

impl ServerMessage {
    /// An `error` with its usual sentence.
    pub fn error(code: ErrorCode, request_id: Option<u32>) -> Self {
        Self::Error { code, message: code.message().to_owned(), request_id, retry_after_ms: None }
    }
}
