//! The secret part of a room link and what is derived from it (PROTOCOL.md §1, §6).

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::id::decode_exact;
use crate::seal::Run;
use crate::secret::SecretError;
use crate::{LinkProof, RoomId, UserId};

/// The 16 bytes of a link's fragment. The relay never sees them.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RoomSecret([u8; 16]);

impl RoomSecret {
    /// Wraps 16 bytes that the caller drew at random.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// What shows the relay that we have the whole link, and says nothing about the secret.
    pub fn link_proof(&self, room: &RoomId) -> LinkProof {
        LinkProof::from_bytes(*self.derive(&[b"link-proof\0", room.as_str().as_bytes()]))
    }

    /// The AES-256 key of what `sender` seals in `room` in one run.
    pub(crate) fn sender_key(&self, room: &RoomId, sender: UserId, run: Run) -> Zeroizing<[u8; 32]> {
        let sender = sender.to_string();
        let room = room.as_str().as_bytes();
        self.derive(&[b"sender\0", room, b"\0", sender.as_bytes(), b"\0", run.as_bytes()])
    }

    fn derive(&self, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0u8; 32]);
        // The salt of version 1: the proofs of links that were given out then still open their rooms.
        Hkdf::<Sha256>::new(Some(b"snug/1"), &self.0)
            .expand_multi_info(info, &mut *key)
            .expect("32 bytes are within HKDF's 255 × 32");
        key
    }
}

impl fmt::Display for RoomSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for RoomSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomSecret(…)")
    }
}

impl FromStr for RoomSecret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        decode_exact(text).map(Self).ok_or(SecretError)
    }
}
