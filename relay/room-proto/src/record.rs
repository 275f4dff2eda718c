//! What is stored of a room.

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use snug_wire::limits;

use crate::date::Day;

/// A room on disk: never a password or a token, only their hashes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomRecord {
    /// When it was made.
    pub created_at: Day,
    /// When somebody was last inside.
    pub last_used: Day,
    /// 2 to 10.
    pub max_participants: u8,
    /// Whether screens may be shared.
    pub allow_screen_share: bool,
    /// The door's password, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<StoredPassword>,
    /// SHA-256 of the owner's token.
    pub owner_token: Digest,
    /// SHA-256 of the link proof that the room was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_proof: Option<Digest>,
    /// Whether two people were ever inside at once. Of rooms that an earlier relay wrote it is not known; they count as such.
    #[serde(default = "yes")]
    pub met: bool,
    /// Somebody was inside when this was written: a relay that is started soon after goes on with that session.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_session: bool,
    /// How often it went from empty to used.
    pub total_sessions: u64,
    /// How long somebody was inside, in all.
    pub total_duration_seconds: u64,
}

fn yes() -> bool {
    true
}

/// A password as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPassword {
    /// PHC string of argon2id.
    pub hash: String,
    /// What the owner wants to be shown after a failed try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// SHA-256 of a token, base64 in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest(…)")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(de::Error::custom)?;
        bytes.try_into().map(Self).map_err(|_| de::Error::custom("a digest has 32 bytes"))
    }
}

/// A stored room that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the stored room is not readable: {0}")]
pub struct RecordError(#[from] serde_json::Error);

impl RoomRecord {
    /// A room that is made now, by somebody whose session begins with it.
    pub(crate) fn new(unix: u64, owner_token: [u8; 32], link_proof: Option<[u8; 32]>) -> Self {
        Self {
            created_at: Day::of(unix),
            last_used: Day::of(unix),
            max_participants: limits::PARTICIPANTS_MAX,
            allow_screen_share: true,
            password: None,
            owner_token: Digest(owner_token),
            link_proof: link_proof.map(Digest),
            met: false,
            in_session: true,
            total_sessions: 1,
            total_duration_seconds: 0,
        }
    }

    /// Its bytes on disk: JSON, so that an operator can read what is kept.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record has string keys and no failing serializers")
    }

    /// Reads what [`RoomRecord::encode`] wrote. Unknown fields are ignored, so that an older relay can read a newer file.
    ///
    /// # Errors
    /// [`RecordError`] when it is something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut record: Self = serde_json::from_slice(bytes)?;
        record.max_participants =
            record.max_participants.clamp(limits::PARTICIPANTS_MIN, limits::PARTICIPANTS_MAX);
        Ok(record)
    }
}
