//! Sealing of payloads against a relay that lies (PROTOCOL.md §6).
//!
//! 1. Every participant seals under a key of its own, derived from the link's secret, the room and its `userId`.
//! 2. Kind, room, sender, receiver and a counter are authenticated with the payload, so that the relay can neither move a payload
//!    to another message, person or room, nor send it twice, nor send it back.
//! 3. A receiver that has the secret accepts nothing plain.
//!
//! # Security considerations
//! A `userId` is drawn afresh for each run, which is what makes (key, nonce) pairs unique although counters start at 1. All holders of the
//! link can derive all keys: sealing keeps the relay out, not one guest from speaking as another.

use std::collections::HashMap;

use aes_gcm::aead::{Aead, KeyInit, Payload as AeadPayload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use data_encoding::BASE64URL_NOPAD;

use crate::link::RoomSecret;
use crate::{Payload, RoomId, UserId};

/// How far below a sender's highest counter a payload may come, in counters.
const WINDOW: u64 = 1024;
/// Most senders whose counters are remembered; a room has at most ten at a time, and they come and go.
const SENDERS: usize = 1024;

/// What is sealed: each kind is authenticated as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A display name, for the whole room.
    Name,
    /// An SDP offer.
    Offer,
    /// An SDP answer.
    Answer,
    /// An ICE candidate.
    IceCandidate,
    /// A chat message, for the whole room.
    Chat,
}

impl Kind {
    /// Its name in the associated data.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::IceCandidate => "ice_candidate",
            Self::Chat => "chat",
        }
    }
}

/// Why a payload was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Plain, in a room whose link has a secret.
    #[error("the payload is not sealed although this room's link has a secret")]
    NotSealed,
    /// Sealed, but this link has no secret.
    #[error("the payload is sealed and this link has no secret: ask for the whole link")]
    NoSecret,
    /// Our own payload came back.
    #[error("the relay sent our own payload back")]
    Reflected,
    /// It does not authenticate: changed, moved to another kind, room or person, or sealed with another secret.
    #[error("the payload was changed on the way, or comes from another link")]
    Tampered,
    /// Its counter was seen before or is too old.
    #[error("the payload was sent before")]
    Replayed,
}

/// Seals what one participant sends and opens what it receives.
pub struct Sealer {
    secret: Option<RoomSecret>,
    room: RoomId,
    own: UserId,
    counter: u64,
    seen: HashMap<UserId, Seen>,
}

/// What was received from one sender.
#[derive(Default)]
struct Seen {
    /// Of offers, answers, candidates and chat.
    highest: u64,
    /// Bit `i % 1024` stands for counter `i` of the window that ends at `highest`.
    window: Box<[u64; (WINDOW / 64) as usize]>,
    /// Of names, which may come again.
    name: u64,
}

impl Sealer {
    /// `secret` is the link's, or `None` for a link without one: payloads are plain then.
    pub fn new(secret: Option<RoomSecret>, room: RoomId, own: UserId) -> Self {
        Self { secret, room, own, counter: 0, seen: HashMap::new() }
    }

    /// Seals `text` for `receiver`, or for the whole room (`None`).
    pub fn seal(&mut self, kind: Kind, receiver: Option<UserId>, text: &str) -> Payload {
        let Some(secret) = &self.secret else { return Payload::Plain(text.to_owned()) };
        self.counter += 1;
        let aad = associated_data(kind, &self.room, self.own, receiver, self.counter);
        let ciphertext = cipher(secret, &self.room, self.own)
            .encrypt(&nonce(self.counter), AeadPayload { msg: text.as_bytes(), aad: &aad })
            .expect("AES-GCM takes 64 GiB, a payload is at most 32 KiB");
        let mut sealed = self.counter.to_be_bytes().to_vec();
        sealed.extend_from_slice(&ciphertext);
        Payload::Sealed(BASE64URL_NOPAD.encode(&sealed))
    }

    /// Opens what the relay says `sender` sent to us (`to_room` false) or to everybody.
    ///
    /// # Errors
    /// [`SealError`]; nothing is remembered of a payload that is refused.
    pub fn open(
        &mut self,
        kind: Kind,
        sender: UserId,
        to_room: bool,
        payload: &Payload,
    ) -> Result<String, SealError> {
        let (secret, sealed) = match (&self.secret, payload) {
            (None, Payload::Plain(text)) => return Ok(text.clone()),
            (None, Payload::Sealed(_)) => return Err(SealError::NoSecret),
            (Some(_), Payload::Plain(_)) => return Err(SealError::NotSealed),
            (Some(secret), Payload::Sealed(sealed)) => (secret, sealed),
        };
        if sender == self.own {
            return Err(SealError::Reflected);
        }
        let bytes = BASE64URL_NOPAD.decode(sealed.as_bytes()).map_err(|_| SealError::Tampered)?;
        let (counter, ciphertext) = bytes.split_first_chunk::<8>().ok_or(SealError::Tampered)?;
        let counter = u64::from_be_bytes(*counter);
        let receiver = (!to_room).then_some(self.own);
        let aad = associated_data(kind, &self.room, sender, receiver, counter);
        let text = cipher(secret, &self.room, sender)
            .decrypt(&nonce(counter), AeadPayload { msg: ciphertext, aad: &aad })
            .map_err(|_| SealError::Tampered)?;
        let text = String::from_utf8(text).map_err(|_| SealError::Tampered)?;
        if !self.seen.contains_key(&sender) && self.seen.len() >= SENDERS {
            // Forgetting a sender would let its payloads be replayed: a room that saw so many is refused instead.
            return Err(SealError::Replayed);
        }
        if self.seen.entry(sender).or_default().accept(kind, counter) {
            Ok(text)
        } else {
            Err(SealError::Replayed)
        }
    }
}

impl Seen {
    fn accept(&mut self, kind: Kind, counter: u64) -> bool {
        if kind == Kind::Name {
            let fresh = counter >= self.name;
            self.name = self.name.max(counter);
            return fresh;
        }
        if counter > self.highest {
            let first_new = (self.highest + 1).max(counter.saturating_sub(WINDOW - 1));
            for passed in first_new..=counter {
                self.set(passed, false);
            }
            self.highest = counter;
        } else if self.highest - counter >= WINDOW || self.get(counter) {
            return false;
        }
        self.set(counter, true);
        true
    }

    fn get(&self, counter: u64) -> bool {
        let (word, bit) = Self::place(counter);
        self.window[word] & bit != 0
    }

    fn set(&mut self, counter: u64, value: bool) {
        let (word, bit) = Self::place(counter);
        if value {
            self.window[word] |= bit;
        } else {
            self.window[word] &= !bit;
        }
    }

    fn place(counter: u64) -> (usize, u64) {
        let index = counter % WINDOW;
        ((index / 64) as usize, 1 << (index % 64))
    }
}

fn cipher(secret: &RoomSecret, room: &RoomId, sender: UserId) -> Aes256Gcm {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(*secret.sender_key(room, sender)))
}

fn nonce(counter: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0u8; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce.into()
}

fn associated_data(
    kind: Kind,
    room: &RoomId,
    sender: UserId,
    receiver: Option<UserId>,
    counter: u64,
) -> Vec<u8> {
    let receiver = receiver.map_or_else(|| "*".to_owned(), |id| id.to_string());
    let mut aad = Vec::with_capacity(160);
    for part in ["snug/1", kind.as_str(), room.as_str(), &sender.to_string(), &receiver] {
        aad.extend_from_slice(part.as_bytes());
        aad.push(0);
    }
    aad.extend_from_slice(&counter.to_be_bytes());
    aad
}
