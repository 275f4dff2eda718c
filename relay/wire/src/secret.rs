//! Values that must not be printed: tokens and link proofs. None has a `Debug` that shows it.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::id::decode_exact;

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
}
