//! The safety words of a link (PROTOCOL.md §6): what two people compare by voice to know that nobody sits between them.
//!
//! 1. The offerer draws a nonce and sends its hash, the commitment, with the offer.
//! 2. The answerer draws a nonce and sends it with the answer.
//! 3. The offerer shows its nonce over the data channel; the answerer checks it against the commitment.
//! 4. Both hash keys, DTLS fingerprints and nonces of both sides. Four words stand for 36 bits of that hash.
//!
//! # Security considerations
//! Somebody in the middle has a link to each side and has to bind itself before it has seen what the words will be made of: one
//! try in 2³⁶ for each new link, which both people see. Without the commitment it could search for keys that give both sides
//! the same words, and any number of words that people read to each other would be too short.

use sha2::{Digest, Sha256};

use crate::PublicKey;

/// How many words there are.
pub const WORDS: usize = 4;
/// How many words each is chosen from: 9 bits.
pub const WORD_LIST: usize = 512;

/// What one side puts into the words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafetySide {
    /// Its public key.
    pub key: PublicKey,
    /// SHA-256 fingerprint of its DTLS certificate, as in its description (RFC 8122).
    pub fingerprint: [u8; 32],
    /// What it drew for this session of the link.
    pub nonce: [u8; 16],
}

/// What the offerer binds itself to: SHA-256 of its nonce and the session's name.
pub fn commitment(session: &str, nonce: &[u8; 16]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(b"snug/2\0commitment\0").chain_update(session.as_bytes());
    hash.chain_update([0]).chain_update(nonce).finalize().into()
}

/// The words of a link as places in the word list, the same for both sides.
pub fn word_indices(one: &SafetySide, other: &SafetySide) -> [u16; WORDS] {
    let (lower, higher) = if one.key.user_id() < other.key.user_id() { (one, other) } else { (other, one) };
    let mut hash = Sha256::new().chain_update(b"snug/2\0safety\0");
    for side in [lower, higher] {
        hash.update(side.key.to_bytes());
        hash.update(side.fingerprint);
        hash.update(side.nonce);
    }
    let hash: [u8; 32] = hash.finalize().into();
    let (first, _) = hash.split_first_chunk::<8>().expect("32 bytes begin with 8");
    let bits = u64::from_be_bytes(*first);
    std::array::from_fn(|index| ((bits >> (55 - 9 * index)) & 0x1ff) as u16)
}

/// The SHA-256 fingerprint in a description: of its first `a=fingerprint:sha-256` line. `None` when there is none.
pub fn fingerprint(sdp: &str) -> Option<[u8; 32]> {
    let line = sdp.lines().find_map(|line| line.strip_prefix("a=fingerprint:sha-256 "))?;
    let mut bytes = [0; 32];
    let mut parts = line.trim().split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}
