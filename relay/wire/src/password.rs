//! A room password in the one form in which it is compared (PROTOCOL.md §5): the OpaqueString profile of RFC 8265 §4.2.
//! Never in another form: a password that was typed with a composed `é` and one with `e` and an accent are the same value.
//! `web-shim/js/password.js` is the same in JavaScript; both read `golden/passwords.json`.
//!
//! # Security considerations
//! The relay makes the normal form again of what it is sent, so that a client without it cannot set a password that others
//! cannot type. Two parts of the profile are left out on purpose. Unassigned characters pass: whether one is assigned
//! depends on a program's version of Unicode. The rules on context guard identifiers against look-alikes, which a password
//! that nobody reads does not need; of them only the joiners' is kept, roughly, since joiners are invisible.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use unicode_normalization::UnicodeNormalization;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::limits;

/// A room password in its normal form: at least one character, none that is invisible or a control character.
#[derive(Clone, Serialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Password(String);

/// Why a text is no password. It does not repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Nothing.
    #[error("a password has at least one character")]
    Empty,
    /// More than [`limits::PASSWORD_CHARS`] characters.
    #[error("a password has at most {max} characters, this one has {0}", max = limits::PASSWORD_CHARS)]
    Long(usize),
    /// A character that the profile excludes.
    #[error("a password has no tabs, line breaks or invisible characters; take them out")]
    Character,
}

impl Password {
    /// The normal form of what a person typed.
    ///
    /// # Errors
    /// What the person has to change.
    pub fn new(text: &str) -> Result<Self, PasswordError> {
        let password = Self::of_any_length(text)?;
        match password.0.chars().count() {
            length if length > limits::PASSWORD_CHARS => Err(PasswordError::Long(length)),
            _ => Ok(password),
        }
    }

    fn of_any_length(text: &str) -> Result<Self, PasswordError> {
        let normal: String = text.chars().map(|c| if is_space(c) { ' ' } else { c }).nfc().collect();
        let password = Self(normal);
        if password.0.is_empty() {
            return Err(PasswordError::Empty);
        }
        let mut before = None;
        for c in password.0.chars() {
            let stray_joiner =
                matches!(c, '\u{200c}' | '\u{200d}') && !matches!(before, Some('\u{600}'..='\u{1cff}'));
            if stray_joiner || is_excluded(c) {
                return Err(PasswordError::Character);
            }
            before = Some(c);
        }
        Ok(password)
    }

    /// The password itself, for hashing it and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// The spaces outside ASCII: general category Zs.
fn is_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// What is kept out: control characters, old Hangul jamo, exceptions, the format characters listed here, what is ignorable
/// by default, private use, and code points that never will be characters. RFC 8264 §9 keeps these out of the FreeformClass,
/// and unassigned code points as well: those pass, for which they are depends on the version of Unicode.
fn is_excluded(c: char) -> bool {
    let code = u32::from(c);
    // Control characters, and code points that are none.
    c.is_control() || code & 0xfffe == 0xfffe
        // Conjoining jamo that NFC did not compose.
        || matches!(c, '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97f}' | '\u{d7b0}'..='\u{d7ff}')
        // Exceptions of RFC 5892 §2.6.
        || matches!(c, '\u{640}' | '\u{7fa}' | '\u{302e}' | '\u{302f}' | '\u{3031}'..='\u{3035}' | '\u{303b}')
        // Format characters, separators of lines, and what is ignorable by default. The joiners are looked at by context.
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        // Private use, and the block of code points that are none.
        || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'..='\u{10ffff}')
}

impl FromStr for Password {
    type Err = PasswordError;

    fn from_str(text: &str) -> Result<Self, PasswordError> {
        Self::new(text)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl<'de> Deserialize<'de> for Password {
    /// The length is looked at by who decodes the message, which has an error of its own for it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Self::of_any_length(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{Password, PasswordError};

    #[test]
    fn debug_output_shows_nothing() {
        let printed = format!("{:?}", Password::new("hunter2"));
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn a_normal_form_is_its_own_normal_form() {
        for c in '\0'..=char::MAX {
            let text = format!("{c}\u{301}");
            if let Ok(once) = Password::new(&text) {
                assert_eq!(
                    Password::new(once.expose()).expect("a password").expose(),
                    once.expose(),
                    "{text:?}"
                );
            }
        }
    }

    #[test]
    fn the_limit_counts_characters() {
        for (text, expected) in [("ü", Ok(256)), ("u\u{308}", Ok(256)), ("👋", Ok(256)), ("a", Ok(256))] {
            let password = Password::new(&text.repeat(256)).map(|password| password.expose().chars().count());
            assert_eq!(password, expected, "{text}");
            assert_eq!(Password::new(&text.repeat(257)).err(), Some(PasswordError::Long(257)), "{text}");
        }
    }
}
