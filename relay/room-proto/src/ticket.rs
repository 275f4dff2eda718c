//! Seat tickets: what lets somebody who was inside come back after the relay was restarted (PROTOCOL.md §2).
//!
//! `role (1) | session (16) | userId (16) | owner tag (8) | MAC (32)`, base64url. The MAC is HMAC-SHA-256 under a key that the
//! relay keeps in its data folder, over the room and what stands before it.
//!
//! # Security considerations
//! A ticket is a bearer token: it opens the door and gives up the seat of its `userId`, and never makes somebody that
//! participant, which takes the signing key. It ends with the session of the room, because the session's id is in it. A role of
//! owner counts while the room has the owner's token that it had when the ticket was made. Somebody who reads the data
//! folder can make tickets for sessions that run; they could change the rooms' records as well.

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use snug_wire::{RoomId, UserId};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::record::SessionId;

const BODY: usize = 1 + 16 + 16 + 8;
const LENGTH: usize = BODY + 32;

/// Makes and reads tickets. It has no `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TicketKey([u8; 32]);

/// What a ticket says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) session: SessionId,
    pub(crate) user: UserId,
    /// The tag of the owner's token at that time, for somebody who was the owner.
    pub(crate) owner: Option<OwnerTag>,
}

/// The first bytes of the digest of an owner's token.
pub(crate) type OwnerTag = [u8; 8];

impl TicketKey {
    /// Wraps 32 random bytes, which have to be the same after a restart.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn issue(&self, room: &RoomId, ticket: &Ticket) -> String {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(u8::from(ticket.owner.is_some()));
        bytes.extend_from_slice(&ticket.session.0);
        bytes.extend_from_slice(ticket.user.as_bytes());
        bytes.extend_from_slice(&ticket.owner.unwrap_or_default());
        let tag = self.mac(room, &bytes).finalize().into_bytes();
        bytes.extend_from_slice(&tag);
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// What a ticket of `room` says; `None` when it is not one of ours.
    pub(crate) fn read(&self, room: &RoomId, text: &str) -> Option<Ticket> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok().filter(|bytes| bytes.len() == LENGTH)?;
        let (body, tag) = bytes.split_at(BODY);
        self.mac(room, body).verify_slice(tag).ok()?;
        let (role, rest) = body.split_first()?;
        let (session, rest) = rest.split_first_chunk::<16>()?;
        let (user, owner) = rest.split_first_chunk::<16>()?;
        let owner = owner.first_chunk::<8>().filter(|_| *role == 1).copied();
        Some(Ticket { session: SessionId(*session), user: UserId::from_bytes(*user), owner })
    }

    fn mac(&self, room: &RoomId, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        // A room's name has no zero byte.
        for part in [b"snug/2\0ticket\0", room.as_str().as_bytes(), b"\0", body] {
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomId {
        name.parse().expect("a slug")
    }

    fn ticket(owner: Option<OwnerTag>) -> Ticket {
        Ticket { session: SessionId([3; 16]), user: UserId::from_bytes([4; 16]), owner }
    }

    #[test]
    fn a_ticket_reads_back_for_its_own_room_and_key_only() {
        let key = TicketKey::from_bytes([1; 32]);
        for ticket in [ticket(None), ticket(Some([5; 8]))] {
            let text = key.issue(&room("room-1"), &ticket);
            assert!(text.len() <= snug_wire::limits::TICKET_BYTES);
            assert_eq!(key.read(&room("room-1"), &text), Some(ticket));
            assert_eq!(key.read(&room("room-2"), &text), None);
            assert_eq!(TicketKey::from_bytes([2; 32]).read(&room("room-1"), &text), None);
        }
    }

    #[test]
    fn a_ticket_with_any_bit_changed_is_none() {
        let key = TicketKey::from_bytes([1; 32]);
        let text = key.issue(&room("room-1"), &ticket(None));
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).expect("base64url");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.read(&room("room-1"), &BASE64URL_NOPAD.encode(&changed)), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(key.read(&room("room-1"), &BASE64URL_NOPAD.encode(&bytes[..length])), None);
        }
        assert_eq!(key.read(&room("room-1"), "no base64!"), None);
    }
}
