//! What rooms and participants are called at STUN and TURN servers.
//!
//! Security considerations: a TURN user name crosses the network in clear, unless TLS carries it, and stands in the log of a server of somebody
//! else's. It must not say which room somebody is in: a room's name is half of its link. So it is a keyed hash, which nobody without the secret
//! of the TURN servers can compare with the names that they guess; the participant's differs from room to room. Whoever sees both can tell that
//! two people are in one room, as the packets between them show anyway. The same secret makes the same names after a restart, so that quotas of
//! other servers hold.
//!
//! ```text
//! key   = HMAC-SHA-256(secret, "turn accounts")
//! group = base64url( HMAC-SHA-256(key, "room" │ 0 │ room)[..16] )
//! owner = base64url( HMAC-SHA-256(key, "participant" │ 0 │ room │ 0 │ participant)[..16] )
//! ```

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use snug_turn_proto::{Account, Secret};
use snug_wire::{RoomId, UserId};

/// Bytes of a hash that are kept: no two rooms ever share one.
const KEPT: usize = 16;

/// Names accounts.
#[derive(Clone)]
pub(crate) struct Accounts {
    key: hmac::Key,
}

impl Accounts {
    /// The names that go with `secret`, which credentials are made with.
    pub(crate) fn new(secret: &Secret) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, secret.key_for("turn accounts").as_ref()) }
    }

    /// The account of a participant.
    pub(crate) fn of(&self, room: &RoomId, user: UserId) -> Account {
        let (room, user) = (room.as_str(), user.to_string());
        Account {
            group: self.hash(&["room", room]).into(),
            owner: self.hash(&["participant", room, &user]).into(),
        }
    }

    fn hash(&self, parts: &[&str]) -> String {
        let tag = hmac::sign(&self.key, parts.join("\0").as_bytes());
        BASE64URL_NOPAD.encode(&tag.as_ref()[..KEPT])
    }
}

#[cfg(test)]
mod tests {
    use snug_turn_proto::Secret;
    use snug_wire::UserId;

    use super::Accounts;

    #[test]
    fn an_account_says_nothing_of_room_and_participant_and_is_theirs_alone() {
        let accounts = |secret: &[u8]| Accounts::new(&Secret::new(secret.to_vec()));
        let (ours, others) = (accounts(b"north"), accounts(b"south"));
        let room = |name: &str| name.parse().expect("a room");
        let user = |first: u8| UserId::from_bytes([first; 16]);
        let one = ours.of(&room("sunny-mountain-42"), user(1));
        assert_eq!(one, accounts(b"north").of(&room("sunny-mountain-42"), user(1)), "also after a restart");
        // printf 'room\\0sunny-mountain-42' | openssl dgst -sha256 -mac HMAC -macopt hexkey:c3b325b29f9f9e86a33224f1662b87215b36b98ec661d97ef368e9a16e246310, its first 16 bytes
        assert_eq!(&*one.group, "jWohcO0MCmQvi4lfHISpdg");
        for text in [&one.group, &one.owner] {
            assert_eq!(text.len(), 22);
            assert!(
                text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')),
                "{text}"
            );
        }
        let neighbour = ours.of(&room("sunny-mountain-42"), user(2));
        assert_eq!(neighbour.group, one.group, "they meet");
        assert_ne!(neighbour.owner, one.owner);
        let elsewhere = ours.of(&room("sunny-mountain-43"), user(1));
        assert!(elsewhere.group != one.group && elsewhere.owner != one.owner);
        let foreign = others.of(&room("sunny-mountain-42"), user(1));
        assert!(foreign.group != one.group && foreign.owner != one.owner);
    }
}
