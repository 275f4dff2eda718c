//! Cleaning of text that people typed and other people will see.

/// Whether a character may hide, reorder or break the text around it: control characters, line separators, zero-width
/// characters and bidirectional overrides.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
        // A zero-width joiner builds emoji such as families; alone it only hides, but taking it out would break those.
            && character != '\u{200d}'
}

/// Takes unsafe characters out, folds white space, trims, and cuts to `max_chars` characters.
pub fn clean(text: &str, max_chars: usize) -> String {
    let mut cleaned = String::with_capacity(text.len().min(max_chars * 4));
    let mut space_due = false;
    let mut count = 0;
    for character in text.chars().filter(|c| c.is_whitespace() || !is_unsafe(*c)) {
        if character.is_whitespace() {
            space_due = count > 0;
            continue;
        }
        let needed = 1 + usize::from(space_due);
        if count + needed > max_chars {
            break;
        }
        if space_due {
            cleaned.push(' ');
            space_due = false;
        }
        cleaned.push(character);
        count += needed;
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_direction_characters_are_taken_out() {
        assert_eq!(clean("An\u{202e}a\u{0}\u{200b} \n\t B\u{7}o ", 64), "Ana Bo");
    }

    #[test]
    fn ordinary_names_in_any_script_stay() {
        for name in ["Zoë O’Neill", "李小龍", "محمد", "👨\u{200d}👩\u{200d}👧 family"] {
            assert_eq!(clean(name, 64), name);
        }
    }

    #[test]
    fn long_names_are_cut_by_characters() {
        assert_eq!(clean(&"é".repeat(100), 64), "é".repeat(64));
        assert_eq!(clean("ab cd", 3), "ab");
    }
}
