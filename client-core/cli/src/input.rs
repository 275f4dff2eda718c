//! Reads what must not stand in the process list, where every user of the machine sees it: the link with its secret, and the password.
//! Takes from standard input no more than it needs: the lines behind belong to whoever reads commands.

use std::io::{self, BufRead, IsTerminal as _, Read as _};

use snug_core::signaling::parse_link;

/// Stands for standard input.
const STANDARD_INPUT: &str = "-";
/// Most bytes of a text with a link in it.
const LONGEST: u64 = 64 * 1024;

/// Link and password as they were given, or from standard input: first the text with the link, then the password's line.
/// `commands`: lines with commands come after them.
pub(crate) fn secrets(
    link: String,
    password: Option<String>,
    commands: bool,
) -> io::Result<(String, Option<String>)> {
    let stdin = io::stdin();
    let asks_password = password.as_deref() == Some(STANDARD_INPUT);
    // Somebody who types ends a line and not the input.
    let one_line = commands || asks_password || stdin.is_terminal();
    take(link, password, one_line, &mut stdin.lock())
}

fn take(
    link: String,
    password: Option<String>,
    one_line: bool,
    input: &mut impl BufRead,
) -> io::Result<(String, Option<String>)> {
    let link = if link == STANDARD_INPUT { text_with_link(input, one_line)? } else { link };
    let password = match password {
        Some(dash) if dash == STANDARD_INPUT => Some(line(input)?),
        given => given,
    };
    Ok((link, password))
}

/// The first line with something in it; with `one_line` false also what follows until there is a link with its secret, for a mail program
/// may have wrapped it.
fn text_with_link(input: &mut impl BufRead, one_line: bool) -> io::Result<String> {
    let mut text = String::new();
    let mut input = input.take(LONGEST);
    while input.read_line(&mut text)? > 0 {
        let is_whole = parse_link(&text).is_ok_and(|link| link.secret.is_some() || link.owner.is_some());
        if !text.trim().is_empty() && (one_line || is_whole) {
            break;
        }
    }
    Ok(text)
}

fn line(input: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    input.take(LONGEST).read_line(&mut line)?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::take;
    use std::io::{BufRead as _, Cursor};

    const LINK: &str = "https://h/room/abc#AAECAwQFBgcICQoLDA0ODw";

    fn from(input: &str, password: Option<&str>, one_line: bool) -> (String, Option<String>, String) {
        let mut input = Cursor::new(input);
        let (link, password) =
            take("-".into(), password.map(str::to_owned), one_line, &mut input).expect("the input is text");
        let rest = input.lines().map(|line| line.expect("text")).collect::<Vec<_>>().join("\n");
        (link, password, rest)
    }

    #[test]
    fn commands_behind_the_link_are_left_alone() {
        let (link, _, rest) = from(&format!("\n{LINK}\n{{\"command\":\"leave\"}}\n"), None, true);
        assert_eq!((link.trim(), &*rest), (LINK, "{\"command\":\"leave\"}"));
    }

    #[test]
    fn the_password_is_the_line_behind_the_link() {
        let (link, password, rest) = from(&format!("{LINK}\r\n our tea \r\nrest"), Some("-"), true);
        assert_eq!((link.trim(), password.as_deref(), &*rest), (LINK, Some(" our tea "), "rest"));
    }

    #[test]
    fn a_wrapped_link_is_read_to_its_end_and_no_further() {
        let (start, end) = LINK.split_at(30);
        let (link, _, rest) = from(&format!("Hi!\n{start}\n{end}\nrest"), None, false);
        assert_eq!((link, &*rest), (format!("Hi!\n{start}\n{end}\n"), "rest"));
        let (link, ..) = from("https://h/room/abc\n#AAEC", None, false);
        assert_eq!(link, "https://h/room/abc\n#AAEC");
    }

    #[test]
    fn what_is_given_is_not_read() {
        let mut input = Cursor::new("secret\n");
        let got = take(LINK.into(), Some("x".into()), true, &mut input).expect("nothing is read");
        assert_eq!((got.0.as_str(), got.1.as_deref(), input.position()), (LINK, Some("x"), 0));
    }
}
