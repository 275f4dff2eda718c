//! The safety words of one session of a link (PROTOCOL.md §6 "Safety words"): what two people compare by voice.
//!
//! 1. The offerer commits itself to a nonce in its offer; the answerer answers with a nonce of its own.
//! 2. The offerer shows its nonce over the data channel; the answerer checks it against the commitment.
//! 3. Both make words of both keys, fingerprints and nonces.

use data_encoding::BASE64URL_NOPAD;
use snug_wire::PublicKey;
use snug_wire::safety::{self, SafetySide, WORDS};

use crate::channel::Description;

/// What a link's safety words are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Safety {
    /// Not known yet, or the other side's program does not make any.
    #[default]
    Unknown,
    /// Places in the list of words, the same on both sides when nobody sits between them.
    Words([u16; WORDS]),
    /// The other side's nonce does not fit its commitment: somebody sits between us.
    Mismatch,
}

/// What is known of one session.
pub(crate) struct SafetyExchange {
    /// Our side offered the session.
    offerer: bool,
    own_nonce: [u8; 16],
    their_nonce: Option<[u8; 16]>,
    /// Theirs, when they offered the session.
    commitment: Option<[u8; 32]>,
    own_fingerprint: Option<[u8; 32]>,
    their_fingerprint: Option<[u8; 32]>,
    /// The answer to our offer has come, and our nonce was not shown yet.
    to_show: bool,
    mismatch: bool,
}

impl SafetyExchange {
    pub(crate) fn new(offerer: bool, own_nonce: [u8; 16]) -> Self {
        Self {
            offerer,
            own_nonce,
            their_nonce: None,
            commitment: None,
            own_fingerprint: None,
            their_fingerprint: None,
            to_show: false,
            mismatch: false,
        }
    }

    /// Our description is made: notes what it shows, and adds our part. A restart keeps nonces and words.
    pub(crate) fn describe(&mut self, description: &mut Description) {
        if description.restart || self.own_fingerprint.is_some() {
            return;
        }
        self.own_fingerprint = safety::fingerprint(&description.sdp);
        if self.offerer {
            let commitment = safety::commitment(&description.session, &self.own_nonce);
            description.commitment = Some(BASE64URL_NOPAD.encode(&commitment));
        } else {
            description.safety_nonce = Some(BASE64URL_NOPAD.encode(&self.own_nonce));
        }
    }

    /// Their description was taken.
    pub(crate) fn described(&mut self, description: &Description) {
        if description.restart || self.their_fingerprint.is_some() {
            return;
        }
        self.their_fingerprint = safety::fingerprint(&description.sdp);
        if self.offerer {
            self.their_nonce = description.safety_nonce.as_deref().and_then(bytes);
            self.to_show = self.their_nonce.is_some();
        } else {
            self.commitment = description.commitment.as_deref().and_then(bytes);
        }
    }

    /// Our nonce, once it may be shown; each time once.
    pub(crate) fn show(&mut self) -> Option<String> {
        std::mem::take(&mut self.to_show).then(|| BASE64URL_NOPAD.encode(&self.own_nonce))
    }

    /// They show their nonce, which is taken once and of the offerer.
    pub(crate) fn shown(&mut self, session: &str, nonce: &str) {
        let Some(commitment) = self.commitment.filter(|_| !self.offerer && self.their_nonce.is_none()) else {
            return;
        };
        match bytes(nonce).filter(|nonce| safety::commitment(session, nonce) == commitment) {
            None => self.mismatch = true,
            fitting => self.their_nonce = fitting,
        }
    }

    /// The words, for our key and theirs.
    pub(crate) fn words(&self, own: &PublicKey, theirs: Option<&PublicKey>) -> Safety {
        if self.mismatch {
            return Safety::Mismatch;
        }
        let words = || {
            let own =
                SafetySide { key: own.clone(), fingerprint: self.own_fingerprint?, nonce: self.own_nonce };
            let theirs = SafetySide {
                key: theirs?.clone(),
                fingerprint: self.their_fingerprint?,
                nonce: self.their_nonce?,
            };
            Some(safety::word_indices(&own, &theirs))
        };
        words().map_or(Safety::Unknown, Safety::Words)
    }
}

fn bytes<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok()
}
