//! The list that safety words are taken from: the nouns of `assets/words.json`, which the page names rooms with, too.

use std::sync::OnceLock;

use serde::Deserialize;
use snug_wire::safety::{WORD_LIST, WORDS};

#[derive(Deserialize)]
struct Words {
    nouns: Vec<String>,
}

/// The words at these places.
pub(crate) fn words(places: [u16; WORDS]) -> Vec<String> {
    static NOUNS: OnceLock<Vec<String>> = OnceLock::new();
    let nouns = NOUNS.get_or_init(|| {
        let words: Words = serde_json::from_str(include_str!("../../assets/words.json"))
            .expect("the list is part of this program");
        assert_eq!(words.nouns.len(), WORD_LIST, "nine bits choose a word");
        words.nouns
    });
    places.iter().map(|place| nouns[usize::from(*place) % WORD_LIST].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn every_place_has_a_word() {
        assert_eq!(words([0, 1, 2, 511]).len(), 4);
        assert_eq!(words([0, 0, 0, 0])[0], "acorn");
    }
}
