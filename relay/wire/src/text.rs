//! Cleaning of text that people typed and other people will see.

/// Whether a character may hide, reorder or break the text around it: control characters, line separators, zero-width
/// characters and bidirectional overrides.
fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
        // A zero-width joiner builds emoji such as families; alone it only hides, but taking it out would break those.
            && character != '\u{200d}'
}

/// Whether a character draws nothing (`golden/blank.json`): white space, controls, what Unicode calls default-ignorable, and
/// the blanks that it gives no property for.
fn is_blank(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{13441}'..='\u{13442}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d159}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Takes unsafe characters out, folds white space, trims, and cuts to `max_chars` characters. Empty when nothing of it can be
/// seen.
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
    if cleaned.chars().all(is_blank) {
        cleaned.clear();
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
    fn a_name_that_draws_nothing_is_empty() {
        for name in
            ["\u{2800}", " \u{3164} \u{3164}", "\u{200d}", "\u{ad}\u{fe0f}", "\u{e0041}\u{115f}\u{ffa0}"]
        {
            assert_eq!(clean(name, 64), "", "{name:?}");
        }
        assert_eq!(clean("\u{2800}Ana\u{2800}", 64), "\u{2800}Ana\u{2800}");
    }

    #[test]
    fn the_blank_characters_are_those_of_the_golden_file() {
        #[derive(serde::Deserialize)]
        struct Golden {
            ranges: Vec<(String, String)>,
        }
        let golden: Golden =
            serde_json::from_str(include_str!("../golden/blank.json")).expect("it is kept with this test");
        let point = |hex: &str| u32::from_str_radix(hex, 16).expect("hexadecimal");
        let ranges: Vec<_> = golden.ranges.iter().map(|(first, last)| point(first)..=point(last)).collect();
        for character in '\0'..=char::MAX {
            let blank = ranges.iter().any(|range| range.contains(&u32::from(character)));
            assert_eq!(is_blank(character), blank, "{character:?}");
        }
    }

    #[test]
    fn long_names_are_cut_by_characters() {
        assert_eq!(clean(&"é".repeat(100), 64), "é".repeat(64));
        assert_eq!(clean("ab cd", 3), "ab");
    }
}
