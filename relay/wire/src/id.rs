//! Names of rooms and participants, parsed once at the edge.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits;

/// A room's name in its URL: 3 to 64 characters, lower-case letters, digits and single inner hyphens.
///
/// A UUID in lower case is a valid room id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(Box<str>);

/// Why a text is not a room id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RoomIdError {
    /// Too short or too long.
    #[error("a room name has {min} to {max} characters, this one has {0}", min = limits::ROOM_ID_MIN, max = limits::ROOM_ID_MAX)]
    Length(usize),
    /// A character outside `a-z 0-9 -`.
    #[error("a room name has lower-case letters, digits and hyphens only")]
    Character,
    /// A hyphen at an end, or two in a row.
    #[error("hyphens in a room name stand alone and inside")]
    Hyphen,
}

impl RoomId {
    /// The name as it stands in the URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoomId {
    type Err = RoomIdError;

    fn from_str(text: &str) -> Result<Self, RoomIdError> {
        if !(limits::ROOM_ID_MIN..=limits::ROOM_ID_MAX).contains(&text.len()) {
            return Err(RoomIdError::Length(text.chars().count()));
        }
        if !text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')) {
            return Err(RoomIdError::Character);
        }
        if text.starts_with('-') || text.ends_with('-') || text.contains("--") {
            return Err(RoomIdError::Hyphen);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RoomId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RoomId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A participant's identity for one session of a room: 16 bytes of a hash of its public key, 22 characters of base64url.
///
/// The order is that of the text, which decides who is polite (PROTOCOL.md §7).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserId([u8; 16]);

/// The text is not 22 characters of canonical base64url.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a userId is 22 characters of base64url (16 bytes)")]
pub struct UserIdError;

impl UserId {
    /// Wraps 16 bytes. Ids of participants come from [`crate::PublicKey::user_id`].
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for UserId {
    type Err = UserIdError;

    fn from_str(text: &str) -> Result<Self, UserIdError> {
        decode_exact(text).map(Self).ok_or(UserIdError)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 22];
        BASE64URL_NOPAD.encode_mut(&self.0, &mut text);
        f.write_str(std::str::from_utf8(&text).expect("base64url is ASCII"))
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Ord for UserId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

impl PartialOrd for UserId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Decodes base64url without padding into exactly `N` bytes; `None` for anything else, non-canonical endings included.
pub(crate) fn decode_exact<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != BASE64URL_NOPAD.encode_len(N) {
        return None;
    }
    let mut bytes = [0u8; N];
    BASE64URL_NOPAD.decode_mut(text.as_bytes(), &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_and_uuids_are_room_ids() {
        for text in ["sunny-mountain-42", "550e8400-e29b-41d4-a716-446655440000", "abc", &"a".repeat(64)] {
            assert_eq!(text.parse::<RoomId>().map(|id| id.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        for (text, why) in [
            ("ab", RoomIdError::Length(2)),
            (&*"a".repeat(65), RoomIdError::Length(65)),
            ("Sunny", RoomIdError::Character),
            ("a/../b", RoomIdError::Character),
            ("a--b", RoomIdError::Hyphen),
            ("-ab", RoomIdError::Hyphen),
            ("ab-", RoomIdError::Hyphen),
        ] {
            assert_eq!(text.parse::<RoomId>(), Err(why), "{text}");
        }
    }

    #[test]
    fn user_ids_are_canonical_base64url() {
        let id = UserId::from_bytes([7; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("AAAAAAAAAAAAAAAAAAAAAB".parse::<UserId>().is_err(), "the last four bits must be zero");
        assert!("AAAAAAAAAAAAAAAAAAAAA".parse::<UserId>().is_err());
        assert!("AAAAAAAAAAAAAAAAAAAA==".parse::<UserId>().is_err());
    }

    #[test]
    fn user_ids_order_as_their_text_does() {
        let digit = UserId::from_bytes([0xd0; 16]);
        let letter = UserId::from_bytes([0; 16]);
        assert!(digit.to_string().starts_with('0') && letter.to_string().starts_with('A'));
        assert!(digit < letter, "the text's byte order decides, not the bytes'");
    }
}
