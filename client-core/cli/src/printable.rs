//! What strangers wrote, fit for a terminal: nothing in it moves the cursor, changes a colour, turns the writing round or looks like
//! a line of ours.

/// One line: everything that steers a terminal is left out, ends of lines too.
pub(crate) fn line(text: &str) -> String {
    text.chars().filter(|of| !steers(*of)).collect()
}

/// Several lines; all but the first are indented.
pub(crate) fn lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(line).collect();
    lines.join("\n    ")
}

/// Controls of the terminal, ends of lines and paragraphs, and what turns the direction of writing.
fn steers(of: char) -> bool {
    of.is_control() || matches!(of, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_stranger_wrote_steers_the_terminal() {
        assert_eq!(line("a\u{1b}[2Jb\u{9b}31mc\r\n\u{202e}d\u{7}"), "a[2Jb31mcd");
        assert_eq!(line("Zoë 👋"), "Zoë 👋");
    }

    #[test]
    fn a_stranger_cannot_forge_a_line() {
        assert_eq!(
            lines("Ana: hi\nBen left.\r\u{2028}You own this room."),
            "Ana: hi\n    Ben left.You own this room."
        );
        assert_eq!(lines("hi\n\n"), "hi\n    \n    ");
    }
}
