//! Values that must not be printed: tokens and link proofs. None has a `Debug` that shows it.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::decode_exact;
use crate::limits;

macro_rules! secret_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// SHA-256 of the bytes: the only thing about it that is stored.
            pub fn digest(&self) -> [u8; 32] {
                Sha256::digest(self.0).into()
            }

            /// Whether its SHA-256 is `digest`, in constant time.
            pub fn matches(&self, digest: &[u8; 32]) -> bool {
                self.digest().ct_eq(digest).into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&BASE64URL_NOPAD.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }

        impl FromStr for $name {
            type Err = SecretError;

            fn from_str(text: &str) -> Result<Self, SecretError> {
                decode_exact(text).map(Self).ok_or(SecretError)
            }
        }

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
    };
}

secret_bytes! {
    /// A 256-bit bearer token: of a seat (`resumeToken`) or of a room's owner (`ownerToken`).
    Token
}
secret_bytes! {
    /// Shows that its sender has the whole link of a room (PROTOCOL.md §6).
    LinkProof
}

/// What an operator gives to people who may make rooms; typed by hand, so any text of 1 to [`limits::CREATION_KEY`] bytes.
#[derive(Clone, Serialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct CreationKey(String);

/// The text is no creation key. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a creation key has 1 to {max} bytes and no line breaks", max = limits::CREATION_KEY)]
pub struct CreationKeyError;

impl CreationKey {
    /// Whether both are the same, in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        let digest = |key: &Self| Sha256::digest(key.0.as_bytes());
        digest(self).ct_eq(&digest(other)).into()
    }
}

impl fmt::Debug for CreationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CreationKey(…)")
    }
}

impl FromStr for CreationKey {
    type Err = CreationKeyError;

    /// Blanks around it are not part of it.
    fn from_str(text: &str) -> Result<Self, CreationKeyError> {
        let text = text.trim();
        let fits = (1..=limits::CREATION_KEY).contains(&text.len()) && !text.contains(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(CreationKeyError) }
    }
}

impl<'de> Deserialize<'de> for CreationKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = zeroize::Zeroizing::new(String::deserialize(deserializer)?);
        text.parse().map_err(de::Error::custom)
    }
}

/// The text is not 43 characters of canonical base64url. It does not repeat the text, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this value is 43 characters of base64url (32 bytes)")]
pub struct SecretError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_nothing() {
        let token = Token::from_bytes([0x41; 32]);
        let printed = format!("{token:?}");
        assert!(!printed.contains("QUFB"), "{printed}");
    }

    #[test]
    fn a_token_matches_its_own_digest_only() {
        let token = Token::from_bytes([1; 32]);
        assert!(token.matches(&token.digest()));
        assert!(!Token::from_bytes([2; 32]).matches(&token.digest()));
    }

    #[test]
    fn a_creation_key_matches_itself_and_shows_nothing() {
        let key: CreationKey = " open sesame\n".parse().expect("a key");
        assert!(key.matches(&"open sesame".parse().expect("a key")));
        assert!(!key.matches(&"open sesam".parse().expect("a key")));
        assert!(!format!("{key:?}").contains("sesame"));
        for bad in ["", "  ", "a\nb", &"x".repeat(257)] {
            assert!(bad.parse::<CreationKey>().is_err(), "{bad:?}");
        }
    }
}
