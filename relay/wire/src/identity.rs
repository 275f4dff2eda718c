//! Who a participant is (PROTOCOL.md §6): a signing key pair of one client for one session of one room, and the `userId`
//! that follows from it.
//!
//! 1. A client draws a key pair (ECDSA on P-256 with SHA-256, FIPS 186-5) before it joins a room for the first time.
//! 2. Its `userId` is a truncated hash of the public key, so nobody can take the id without the private key.
//! 3. The relay draws a nonce for each connection; a join signs it together with the room's name.
//! 4. Every payload to others is signed (`seal`), and they check it with the key that the id is the hash of.
//!
//! # Security considerations
//! *The relay* hands public keys around and cannot exchange them: another key has another id. It can invent participants of its
//! own, whom a sealed room shows as refused since they cannot seal, and an unsealed room shows as any other newcomer.
//! *A member* can speak for itself only. *A former member* keeps the link's secret: it can read payloads that a relay
//! records for it, and still cannot sign as anybody else. *A stranger* without the link can do neither.
//! Keys are drawn for one session of one room, so two rooms, or two sessions, cannot be linked by them.
//! Ids have 128 bits: finding another key for somebody's id takes 2¹²⁸ tries; two keys with one id, which hurts nobody but
//! who made them, take 2⁶⁴.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::id::decode_exact;
use crate::{RoomId, UserId};

/// Bytes of an uncompressed point of P-256 (SEC 1 §2.3.3): the form that WebCrypto imports as `raw`.
pub const PUBLIC_KEY_BYTES: usize = 65;
/// Bytes of a signature: `r | s`, the form of WebCrypto (IEEE P1363).
pub const SIGNATURE_BYTES: usize = 64;

/// A participant's private key and what follows from it. It is never sent and has no `Debug`.
#[derive(Clone)]
pub struct SigningIdentity {
    key: SigningKey,
    public_key: PublicKey,
}

/// A participant's public key: a point of P-256.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// A signature under a [`SigningIdentity`]: 64 bytes, `r | s`.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature([u8; SIGNATURE_BYTES]);

/// What the relay draws for each connection: a join signs it, so that no recorded join is of use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JoinNonce([u8; 32]);

/// The text is no public key, signature or nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No point of P-256 in uncompressed form, or not base64url.
    #[error("a public key is 87 characters of base64url: an uncompressed point of P-256")]
    PublicKey,
    /// Another length or alphabet.
    #[error("a signature is 86 characters of base64url: 64 bytes")]
    Signature,
    /// Another length or alphabet.
    #[error("a nonce is 43 characters of base64url: 32 bytes")]
    Nonce,
}

impl SigningIdentity {
    /// Draws a key; `draw` gives 32 bytes of a cryptographic random source, and is asked again for the one in 2³² that is no key.
    pub fn generate(mut draw: impl FnMut() -> [u8; 32]) -> Self {
        loop {
            if let Some(identity) = Self::from_bytes(&Zeroizing::new(draw())) {
                return identity;
            }
        }
    }

    /// The identity that [`SigningIdentity::to_bytes`] kept. `None` when the bytes are no private key of P-256.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let key = SigningKey::from_slice(bytes).ok()?;
        let public_key = PublicKey(*key.verifying_key());
        Some(Self { key, public_key })
    }

    /// The private key, for a store that only this person's programs can read.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.key.to_bytes().into())
    }

    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The participant's id.
    pub fn user_id(&self) -> UserId {
        self.public_key.user_id()
    }

    /// Shows the relay that drew `nonce` that we hold the key, for a join to `room`.
    pub fn prove(&self, nonce: &JoinNonce, room: &RoomId) -> Signature {
        self.sign(&join_text(nonce, room))
    }

    pub(crate) fn sign(&self, text: &[u8]) -> Signature {
        let signature: p256::ecdsa::Signature = self.key.sign(text);
        Signature(signature.to_bytes().into())
    }
}

impl PublicKey {
    /// The id of the participant with this key: 16 bytes of SHA-256.
    pub fn user_id(&self) -> UserId {
        let hash: [u8; 32] =
            Sha256::new().chain_update(b"snug/2\0user\0").chain_update(self.to_bytes()).finalize().into();
        let (id, _) = hash.split_first_chunk::<16>().expect("32 bytes begin with 16");
        UserId::from_bytes(*id)
    }

    /// Whether `proof` was made with this key for `nonce` and `room`.
    pub fn proves(&self, proof: &Signature, nonce: &JoinNonce, room: &RoomId) -> bool {
        self.verifies(&join_text(nonce, room), proof)
    }

    /// Whether `signature` is this key's, of `text`.
    pub fn verifies(&self, text: &[u8], signature: &Signature) -> bool {
        p256::ecdsa::Signature::from_slice(&signature.0)
            .is_ok_and(|signature| self.0.verify(text, &signature).is_ok())
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        // The compressed forms are valid SEC 1, too, and would give one key two texts.
        (bytes.len() == PUBLIC_KEY_BYTES).then(|| VerifyingKey::from_sec1_bytes(bytes).ok().map(Self))?
    }

    /// The uncompressed point.
    pub fn to_bytes(&self) -> [u8; PUBLIC_KEY_BYTES] {
        let point = self.0.to_sec1_point(false);
        point.as_bytes().try_into().expect("an uncompressed point of P-256 has 65 bytes")
    }
}

impl Signature {
    pub(crate) const fn from_bytes(bytes: [u8; SIGNATURE_BYTES]) -> Self {
        Self(bytes)
    }

    /// `r | s`.
    pub const fn as_bytes(&self) -> &[u8; SIGNATURE_BYTES] {
        &self.0
    }
}

impl JoinNonce {
    /// Wraps 32 bytes of a cryptographic random source.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// `"snug/2" | 0 | "join" | 0 | nonce | roomId`: the nonce's length is fixed, so no two joins share a text.
pub fn join_text(nonce: &JoinNonce, room: &RoomId) -> Vec<u8> {
    [b"snug/2\0join\0", nonce.0.as_slice(), room.as_str().as_bytes()].concat()
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.user_id())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(…)")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.to_bytes()))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Display for JoinNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl FromStr for PublicKey {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        decode_exact::<PUBLIC_KEY_BYTES>(text)
            .and_then(|bytes| Self::from_bytes(&bytes))
            .ok_or(IdentityError::PublicKey)
    }
}

impl FromStr for Signature {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        decode_exact(text).map(Self).ok_or(IdentityError::Signature)
    }
}

impl FromStr for JoinNonce {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        decode_exact(text).map(Self).ok_or(IdentityError::Nonce)
    }
}

macro_rules! as_text {
    ($($name:ident),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )+};
}
as_text!(PublicKey, Signature, JoinNonce);
