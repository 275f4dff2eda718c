//! Signing and sealing of payloads against a relay, or a member, that lies (PROTOCOL.md §6).
//!
//! 1. Every participant signs what it says with the key that its `userId` is the hash of ([`crate::identity`]).
//! 2. In a room whose link has a secret it seals text and signature under a key of its own, derived from the secret, the room,
//!    its `userId` and its run.
//! 3. Kind, room, sender, receiver, run and a counter are authenticated with the payload, so that nobody can move a payload to
//!    another message, person or room, send it twice, or send it back.
//! 4. A receiver that has the secret accepts nothing plain; one that has none accepts what is signed, and unsigned payloads only
//!    of participants without a key, who are shown as not verified.
//!
//! # Security considerations
//! *The relay* sees who is in a room when, sizes and times. In a sealed room it reads no payload; in any room it can change, move
//! and invent none. It can withhold payloads, and play back those of an earlier run to somebody who came back after it: an
//! offer of a peer connection that is gone, or an old name. *A member* can read what is sealed for others of the room, which only
//! the relay could show it, and cannot speak as them. *A former member* can read as a member does, until the owner makes a new
//! link. *A stranger* has neither secret nor seat.
//! (key, nonce) pairs are unique because a key belongs to one [`Run`], which is drawn afresh for each start of a client, and
//! counters of a run start at 1 and never repeat.

use std::collections::HashMap;
use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload as AeadPayload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use data_encoding::BASE64URL_NOPAD;

use crate::identity::{PublicKey, SIGNATURE_BYTES, Signature, SigningIdentity};
use crate::link::RoomSecret;
use crate::{Payload, RoomId, UserId};

/// How far below a sender's highest counter a payload may come, in counters.
const WINDOW: u64 = 1024;
/// Most senders that are remembered; a room has at most ten at a time, and they come and go. The one that was silent longest
/// is forgotten first.
const SENDERS: usize = 1024;
/// Bytes of run and counter in front of what is sealed or signed.
const HEADER: usize = 16 + 8;

/// One start of a client under one signing key: 16 bytes, higher for each later start.
///
/// Sealing keys and counters belong to it, so that a client that comes back with the same signing key repeats no nonce.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run([u8; 16]);

impl Run {
    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// `started_ms` are milliseconds since 1970, or more where an earlier run of the same signing key had more; `random` keeps
    /// two starts in one millisecond apart.
    pub fn new(started_ms: u64, random: [u8; 8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&started_ms.to_be_bytes());
        bytes[8..].copy_from_slice(&random);
        Self(bytes)
    }

    /// The `started_ms` that it was made with.
    pub fn started_ms(self) -> u64 {
        let (started, _) = self.0.split_first_chunk::<8>().expect("16 bytes begin with 8");
        u64::from_be_bytes(*started)
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run({})", self.started_ms())
    }
}

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
    /// The secret of the room's new link, for the whole room.
    NewLink,
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
            Self::NewLink => "new_link",
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
    /// Its run has been followed by another one of the same sender. A relay may still have kept it, so it says nothing against
    /// anybody and is dropped.
    #[error("the payload was sent before its sender was started anew")]
    EarlierRun,
    /// Not signed by who is said to have sent it, or that participant has no key in a room where everybody needs one.
    #[error("the payload is not signed by the participant it is said to come from")]
    NotSigned,
}

/// Signs and seals what one participant sends, and opens what it receives.
pub struct Sealer {
    secret: Option<RoomSecret>,
    /// Opens, too: the secret of the link before, or of the one to come.
    other_secret: Option<RoomSecret>,
    room: RoomId,
    identity: SigningIdentity,
    own: UserId,
    run: Run,
    counter: u64,
    senders: HashMap<UserId, Sender>,
    /// Orders the senders by when they were last heard or announced.
    clock: u64,
}

/// What is known of one sender.
struct Sender {
    /// `None` for a participant without a key.
    key: Option<PublicKey>,
    /// The newest run, once something was opened.
    run: Option<Run>,
    seen: Seen,
    touched: u64,
}

/// What was received from one run of a sender.
#[derive(Default)]
struct Seen {
    /// Of offers, answers, candidates and chat.
    highest: u64,
    /// Bit `i % 1024` stands for counter `i` of the window that ends at `highest`.
    window: Box<[u64; (WINDOW / 64) as usize]>,
    /// Of names, which may come again.
    name: u64,
}

/// A payload that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What was said.
    pub text: String,
    /// The sender has started anew since the last payload of its that was opened: what was negotiated with it before is void.
    pub restarted: bool,
}

impl Sealer {
    /// `secret` is the link's, or `None` for a link without one: payloads are plain then, and signed all the same. `run` must
    /// never have been used with this `identity`.
    pub fn new(secret: Option<RoomSecret>, room: RoomId, identity: SigningIdentity, run: Run) -> Self {
        let own = identity.user_id();
        let senders = HashMap::new();
        Self { secret, other_secret: None, room, identity, own, run, counter: 0, senders, clock: 0 }
    }

    /// Opens what is sealed under `other`, too: the secret of a link that is to come. `None` forgets the one before.
    pub fn also_open(&mut self, other: Option<RoomSecret>) {
        self.other_secret = other;
    }

    /// Seals under the secret of a new link from here on, and still opens what is sealed under the one before, until
    /// [`Sealer::also_open`] says otherwise. A room whose link has no secret cannot get one: then nothing changes.
    pub fn seal_under(&mut self, secret: RoomSecret) {
        if self.secret.is_some() {
            self.other_secret = self.secret.replace(secret);
        }
    }

    /// Takes note of a participant and its key, as the relay named them; `None` is a participant that has none.
    ///
    /// # Errors
    /// [`SealError::NotSigned`] when the id is not that key's, or when the participant has no key where one is needed: in a room
    /// whose link has a secret, and where it had one before.
    pub fn introduce(&mut self, user: UserId, key: Option<&PublicKey>) -> Result<(), SealError> {
        let known = self.senders.get(&user).is_some_and(|sender| sender.key.is_some());
        match key {
            Some(key) if key.user_id() != user => return Err(SealError::NotSigned),
            None if known || self.secret.is_some() => return Err(SealError::NotSigned),
            _ => {}
        }
        self.clock += 1;
        let touched = self.clock;
        let new = || Sender { key: key.cloned(), run: None, seen: Seen::default(), touched };
        let sender = self.senders.entry(user).or_insert_with(new);
        // An id is a key's hash: it can get its key later, and never another one.
        sender.key = key.cloned();
        sender.touched = touched;
        if self.senders.len() > SENDERS {
            let oldest = self.senders.iter().min_by_key(|(_, sender)| sender.touched).map(|(user, _)| *user);
            oldest.and_then(|user| self.senders.remove(&user));
        }
        Ok(())
    }

    /// Whether what `user` says is checked against a key.
    pub fn is_verified(&self, user: UserId) -> bool {
        self.senders.get(&user).is_some_and(|sender| sender.key.is_some())
    }

    /// Signs `text`, and seals it where the link has a secret, for `receiver` or for the whole room (`None`).
    pub fn seal(&mut self, kind: Kind, receiver: Option<UserId>, text: &str) -> Payload {
        self.counter += 1;
        let header = header(self.run, self.counter);
        let bound = self.bound(kind, self.own, receiver, &header);
        let signature = self.identity.sign(&[&bound, text.as_bytes()].concat());
        let Some(secret) = &self.secret else {
            let proof = BASE64URL_NOPAD.encode(&[&header, signature.as_bytes().as_slice()].concat());
            return Payload::Plain { text: text.to_owned(), proof: Some(proof) };
        };
        let signed = [signature.as_bytes(), text.as_bytes()].concat();
        let ciphertext = cipher(secret, &self.room, self.own, self.run)
            .encrypt(&nonce(self.counter), AeadPayload { msg: &signed, aad: &bound })
            .expect("AES-GCM takes 64 GiB, a payload is at most 32 KiB");
        Payload::Sealed(BASE64URL_NOPAD.encode(&[header.as_slice(), &ciphertext].concat()))
    }

    /// Opens what the relay says `sender` sent to us (`to_room` false) or to everybody. The sender was introduced before.
    ///
    /// # Errors
    /// [`SealError`]; nothing is remembered of a payload that is refused.
    pub fn open(
        &mut self,
        kind: Kind,
        sender: UserId,
        to_room: bool,
        payload: &Payload,
    ) -> Result<Opened, SealError> {
        if sender == self.own {
            return Err(SealError::Reflected);
        }
        let receiver = (!to_room).then_some(self.own);
        let key = self.senders.get(&sender).map(|sender| sender.key.clone());
        let (run, counter, text) = match (&self.secret, payload) {
            (None, Payload::Sealed(_)) => return Err(SealError::NoSecret),
            (Some(_), Payload::Plain { .. }) => return Err(SealError::NotSealed),
            (None, Payload::Plain { text, proof }) => match (key, proof) {
                // Somebody without a key can be anybody: the person is told so.
                (Some(None), None) => return Ok(Opened { text: text.clone(), restarted: false }),
                (Some(Some(key)), Some(proof)) => {
                    let (header, run, counter, signature) = split(proof).ok_or(SealError::Tampered)?;
                    let bound = self.bound(kind, sender, receiver, &header);
                    let signature: [u8; SIGNATURE_BYTES] =
                        signature.try_into().map_err(|_| SealError::Tampered)?;
                    check(&key, &bound, text, signature)?;
                    (run, counter, text.clone())
                }
                _ => return Err(SealError::NotSigned),
            },
            (Some(_), Payload::Sealed(sealed)) => {
                let (header, run, counter, ciphertext) = split(sealed).ok_or(SealError::Tampered)?;
                let bound = self.bound(kind, sender, receiver, &header);
                let under = |secret| {
                    cipher(secret, &self.room, sender, run)
                        .decrypt(&nonce(counter), AeadPayload { msg: &ciphertext, aad: &bound })
                        .ok()
                };
                let mut secrets = self.secret.iter().chain(&self.other_secret);
                let signed = secrets.find_map(under).ok_or(SealError::Tampered)?;
                let (signature, text) =
                    signed.split_first_chunk::<SIGNATURE_BYTES>().ok_or(SealError::Tampered)?;
                let text = str::from_utf8(text).map_err(|_| SealError::Tampered)?;
                let key = key.flatten().ok_or(SealError::NotSigned)?;
                check(&key, &bound, text, *signature)?;
                (run, counter, text.to_owned())
            }
        };
        self.clock += 1;
        let Some(sender) = self.senders.get_mut(&sender) else { return Err(SealError::NotSigned) };
        let restarted = match sender.run {
            Some(newest) if run < newest => return Err(SealError::EarlierRun),
            Some(newest) => run > newest,
            None => false,
        };
        if sender.run != Some(run) {
            sender.run = Some(run);
            sender.seen = Seen::default();
        }
        sender.touched = self.clock;
        if sender.seen.accept(kind, counter) {
            Ok(Opened { text, restarted })
        } else {
            Err(SealError::Replayed)
        }
    }

    /// What is authenticated with a payload, sealed or plain.
    fn bound(&self, kind: Kind, sender: UserId, receiver: Option<UserId>, header: &[u8; HEADER]) -> Vec<u8> {
        let form = if self.secret.is_some() { "sealed" } else { "plain" };
        let receiver = receiver.map_or_else(|| "*".to_owned(), |id| id.to_string());
        let mut bound = Vec::with_capacity(192);
        for part in ["snug/2", form, kind.as_str(), self.room.as_str(), &sender.to_string(), &receiver] {
            bound.extend_from_slice(part.as_bytes());
            bound.push(0);
        }
        bound.extend_from_slice(header);
        bound
    }
}

fn check(
    key: &PublicKey,
    bound: &[u8],
    text: &str,
    signature: [u8; SIGNATURE_BYTES],
) -> Result<(), SealError> {
    let signed = [bound, text.as_bytes()].concat();
    if key.verifies(&signed, &Signature::from_bytes(signature)) { Ok(()) } else { Err(SealError::NotSigned) }
}

fn header(run: Run, counter: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..16].copy_from_slice(&run.0);
    header[16..].copy_from_slice(&counter.to_be_bytes());
    header
}

/// Header, run, counter and the rest of a sealed payload or a proof.
fn split(text: &str) -> Option<([u8; HEADER], Run, u64, Vec<u8>)> {
    let mut bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    let header = *bytes.first_chunk::<HEADER>()?;
    let rest = bytes.split_off(HEADER);
    let (run, counter) = header.split_first_chunk::<16>()?;
    let counter = u64::from_be_bytes(counter.try_into().ok()?);
    Some((header, Run(*run), counter, rest))
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

fn cipher(secret: &RoomSecret, room: &RoomId, sender: UserId, run: Run) -> Aes256Gcm {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(*secret.sender_key(room, sender, run)))
}

fn nonce(counter: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0u8; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce.into()
}
