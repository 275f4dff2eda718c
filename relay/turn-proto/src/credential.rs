//! Credentials that hold for a limited time, made from a shared secret ("A REST API For Access To TURN Services",
//! <https://datatracker.ietf.org/doc/html/draft-uberti-behave-turn-rest-00>):
//! `username = <unix time of expiry>:<group>.<owner>`, `password = base64(HMAC-SHA1(secret, username))`.
//!
//! Security considerations: a username is bytes from a stranger until its message's integrity is verified. The time of expiry counts when an
//! allocation is made; what is there lives on for as long as the account is admitted, since a browser keeps using the credential it was
//! given. A secret and the keys made from it are wiped when dropped and have no `Debug`.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Who uses the server: an owner, who is one of a group. Peers that are relayed here reach each other only inside a group.
/// In a username a dot ends the group, so the name of a group has none: two accounts with one spelling would be one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// For Snug: the room.
    pub group: Box<str>,
    /// For Snug: the participant.
    pub owner: Box<str>,
}

impl Account {
    /// As it stands in usernames.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.group, self.owner)
    }

    /// The username of a credential that is good until `expiry`, in seconds since 1970.
    #[must_use]
    pub fn username(&self, expiry: u64) -> String {
        format!("{expiry}:{}", self.name())
    }
}

/// What the server shares with whoever makes credentials.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes any bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A key for another purpose: who knows it learns nothing of the secret, nor of keys for other purposes.
    #[must_use]
    pub fn key_for(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(purpose.as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }

    /// The password that belongs to `username`.
    #[must_use]
    pub fn password(&self, username: &str) -> Zeroizing<String> {
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(username.as_bytes());
        Zeroizing::new(BASE64.encode(&mac.finalize().into_bytes()))
    }
}

/// A username that has the right form. Nothing says yet that its sender may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Username<'a> {
    /// As it was sent: the key is made from it.
    pub(crate) text: &'a str,
    /// Seconds since 1970.
    pub(crate) expiry: u64,
    /// [`Account::name`].
    pub(crate) account: &'a str,
}

impl<'a> Username<'a> {
    /// The longest name a room and a participant can make, with room to spare.
    const MAX_LENGTH: usize = 200;

    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= Self::MAX_LENGTH)?;
        let (expiry, account) = text.split_once(':')?;
        // `parse` alone would take a sign.
        if account.is_empty() || !expiry.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self { text, expiry: expiry.parse().ok()?, account })
    }
}

/// How the key is made from the password (RFC 8489 §14.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PasswordAlgorithm {
    Md5,
    Sha256,
}

/// How a message proves where it comes from, and how its answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Integrity {
    /// MESSAGE-INTEGRITY.
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256.
    Sha256,
}

/// The key of a long-term credential (RFC 8489 §9.2.2).
pub(crate) struct Key(Zeroizing<Vec<u8>>);

impl Key {
    pub(crate) fn new(secret: &Secret, username: &str, realm: &str, algorithm: PasswordAlgorithm) -> Self {
        let password = secret.password(username);
        let parts = [username, ":", realm, ":", password.as_str()];
        Self(Zeroizing::new(match algorithm {
            PasswordAlgorithm::Md5 => {
                let digest = parts.iter().fold(Md5::new(), |digest, part| digest.chain_update(part));
                digest.finalize().to_vec()
            }
            PasswordAlgorithm::Sha256 => {
                let digest = parts.iter().fold(Sha256::new(), |digest, part| digest.chain_update(part));
                digest.finalize().to_vec()
            }
        }))
    }

    /// Any bytes: the vectors of RFC 5769 come with their keys.
    #[cfg(test)]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    /// The HMAC over `parts`, 20 or 32 bytes.
    pub(crate) fn sign(&self, integrity: Integrity, parts: &[&[u8]]) -> Vec<u8> {
        match integrity {
            Integrity::Sha1 => {
                let mut mac = Hmac::<Sha1>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
                parts.iter().for_each(|part| mac.update(part));
                mac.finalize().into_bytes().to_vec()
            }
            Integrity::Sha256 => {
                let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
                parts.iter().for_each(|part| mac.update(part));
                mac.finalize().into_bytes().to_vec()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Secret, Username};

    #[test]
    fn a_password_is_what_another_tool_computes() {
        // printf '%s' 1764003600:sunny-mountain-42.AAECAwQFBgcICQoLDA0ODw | openssl dgst -sha1 -hmac north -binary | base64
        let password =
            Secret::new(b"north".to_vec()).password("1764003600:sunny-mountain-42.AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(password.as_str(), "IJHVKEEpyofYu/+ejeAm9IRtNm8=");
    }

    #[test]
    fn keys_for_other_purposes_are_what_another_tool_computes() {
        // printf '%s' 'turn accounts' | openssl dgst -sha256 -hmac north
        let key = Secret::new(b"north".to_vec()).key_for("turn accounts");
        assert_eq!(
            data_encoding::HEXLOWER.encode(key.as_ref()),
            "c3b325b29f9f9e86a33224f1662b87215b36b98ec661d97ef368e9a16e246310"
        );
    }

    #[test]
    fn a_username_is_an_expiry_and_an_account() {
        let parsed = Username::parse(b"12:room.user").expect("the right form");
        assert_eq!((parsed.expiry, parsed.account), (12, "room.user"));
        assert_eq!(Username::parse(b"12:a:b").map(|username| username.account), Some("a:b"));
        for wrong in [
            "",
            ":",
            "12",
            "12:",
            "+12:a.b",
            "-1:a.b",
            " 12:a.b",
            ":a.b",
            "99999999999999999999:a.b",
            "x:a.b",
        ] {
            assert_eq!(Username::parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(Username::parse(b"12:\xff"), None);
        assert_eq!(Username::parse(format!("12:{}", "a".repeat(198)).as_bytes()), None);
        // Bytes that mean something to a logger are only bytes here.
        assert!(Username::parse(b"12:%n%n%s\r\n").is_some());
    }
}
