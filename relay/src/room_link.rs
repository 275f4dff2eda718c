//! A room's link, printed on a terminal when the relay starts or whenever it is asked for, with a QR code where the terminal can show one.
//! Never tells the relay's other parts: the room is made when somebody opens the link, and the secret is in nobody's hands
//! but the operator's.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde::Deserialize;
use snug_wire::RoomId;
use snug_wire::link::RoomSecret;

/// The words that the page uses as well.
const WORDS: &str = include_str!("../../assets/words.json");

#[derive(Deserialize)]
struct Words<'a> {
    #[serde(borrow)]
    adjectives: Vec<&'a str>,
    #[serde(borrow)]
    nouns: Vec<&'a str>,
}

/// Writes a link to a room that does not exist yet to standard output.
///
/// # Errors
/// When standard output is gone, or the system has no randomness.
pub(crate) fn print(base_url: &str, with_qr: bool) -> io::Result<()> {
    let link = RoomLink::draw()?.to_url(base_url);
    let mut out = io::stdout().lock();
    let style = match with_qr && out.is_terminal() {
        true => qr_style(&|name| std::env::var_os(name)),
        false => None,
    };
    write_link(&mut out, &link, style, is_loopback(base_url))
}

/// A room's name and the secret of its link.
struct RoomLink {
    room: RoomId,
    secret: RoomSecret,
}

impl RoomLink {
    fn draw() -> io::Result<Self> {
        let mut random = [0; 40];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        Ok(Self::from_random(&random))
    }

    /// 3 × 8 bytes for the name, 16 for the secret.
    fn from_random(random: &[u8; 40]) -> Self {
        let words: Words<'_> =
            serde_json::from_str(WORDS).expect("assets/words.json holds two lists of words");
        let (name, secret) = random.split_at(24);
        let mut draws = name.chunks_exact(8).map(|bytes| {
            // 64 bits leave no bias worth the name.
            let bytes = bytes.try_into().expect("a chunk has eight bytes");
            u64::from_le_bytes(bytes)
        });
        let mut draw =
            |count: usize| (draws.next().expect("three chunks, three draws") % count as u64) as usize;
        let adjective = words.adjectives[draw(words.adjectives.len())];
        let noun = words.nouns[draw(words.nouns.len())];
        let number = 10 + draw(90);
        let room = format!("{adjective}-{noun}-{number}");
        Self {
            room: room.parse().expect("the words are lower-case letters"),
            secret: RoomSecret::from_bytes(secret.try_into().expect("16 of the 40 are left")),
        }
    }

    fn to_url(&self, base_url: &str) -> String {
        format!("{base_url}/room/{}#{}", self.room, self.secret)
    }
}

/// How to draw a code so that a camera can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QrStyle {
    /// Black on white by colour codes, whatever the terminal's own colours are.
    Coloured,
    /// Without colour codes, for a dark terminal: what is left blank is dark.
    Inverted,
}

/// `None` where a code would be garbled: no UTF-8, or a terminal that can do nothing.
fn qr_style(environment: &dyn Fn(&str) -> Option<OsString>) -> Option<QrStyle> {
    let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
    let locale = variable("LC_ALL").or_else(|| variable("LC_CTYPE")).or_else(|| variable("LANG"))?;
    let locale = locale.to_string_lossy().to_lowercase();
    let terminal = variable("TERM")?;
    if !(locale.contains("utf-8") || locale.contains("utf8")) || terminal == "dumb" {
        return None;
    }
    Some(if variable("NO_COLOR").is_some() { QrStyle::Inverted } else { QrStyle::Coloured })
}

fn is_loopback(base_url: &str) -> bool {
    let authority = base_url.split_once("://").map_or(base_url, |(_, authority)| authority);
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or(authority),
    };
    host == "localhost"
        || host.parse().is_ok_and(|address: std::net::IpAddr| address.to_canonical().is_loopback())
}

fn write_link(out: &mut impl Write, link: &str, style: Option<QrStyle>, loopback: bool) -> io::Result<()> {
    writeln!(out, "\nA room is ready. Open this link, and send it to who should join:\n\n    {link}\n")?;
    if let Some(style) = style {
        // A link that is too long for a code is still a link.
        if let Some(code) = qr(link, style) {
            writeln!(out, "{code}")?;
        }
    }
    if loopback {
        writeln!(
            out,
            "The link works on this machine alone. To let others in, give the relay a name and a certificate;\n\
             snug-relay --help shows how.\n"
        )?;
    }
    out.flush()
}

fn qr(link: &str, style: QrStyle) -> Option<String> {
    let code = QrCode::with_error_correction_level(link, EcLevel::L).ok()?;
    let mut renderer = code.render::<Dense1x2>();
    renderer.quiet_zone(true);
    if style == QrStyle::Inverted {
        renderer.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark);
    }
    let lines: Vec<String> = renderer.build().lines().map(|line| colour(line, style)).collect();
    Some(lines.join("\n"))
}

fn colour(line: &str, style: QrStyle) -> String {
    match style {
        QrStyle::Coloured => format!("    \x1b[30;107m{line}\x1b[0m"),
        QrStyle::Inverted => format!("    {line}"),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use qrcode::{Color, EcLevel, QrCode};

    use super::{QrStyle, RoomLink, WORDS, Words, is_loopback, qr, qr_style, write_link};

    const LINK: &str = "https://meet.example.org/room/sunny-mountain-42#AAECAwQFBgcICQoLDA0ODw";

    #[test]
    fn every_draw_is_a_room_and_a_secret() {
        let url = RoomLink::from_random(&[0; 40]).to_url("https://meet.example.org");
        let (room, secret) = url.split_once('#').expect("a fragment");
        assert!(room.starts_with("https://meet.example.org/room/") && room.ends_with("-10"), "{room}");
        assert_eq!(secret, "A".repeat(22));
        let one = RoomLink::draw().expect("randomness").to_url("https://a.example");
        let other = RoomLink::draw().expect("randomness").to_url("https://a.example");
        assert_ne!(one, other);
        // The number alone tells these two apart from the first.
        for (draw, number) in [(89u64, "-99"), (90, "-10")] {
            let mut random = [0; 40];
            random[16..24].copy_from_slice(&draw.to_le_bytes());
            let room = RoomLink::from_random(&random).room;
            assert!(room.as_str().ends_with(number), "{room}");
        }
    }

    #[test]
    fn every_pair_of_words_makes_a_valid_name() {
        let words: Words<'_> = serde_json::from_str(WORDS).expect("two lists");
        assert!(words.adjectives.len() >= 64 && words.nouns.len() >= 64);
        for word in words.adjectives.iter().chain(&words.nouns) {
            assert!(
                (2..=20).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase()),
                "{word}"
            );
        }
    }

    #[test]
    fn a_code_needs_a_terminal_that_speaks_utf8() {
        let style = |variables: &[(&str, &str)]| {
            qr_style(&|name| {
                variables.iter().find(|(own, _)| *own == name).map(|(_, value)| OsString::from(value))
            })
        };
        let term = ("TERM", "xterm-256color");
        assert_eq!(style(&[term, ("LANG", "de_DE.UTF-8")]), Some(QrStyle::Coloured));
        assert_eq!(style(&[term, ("LC_ALL", "C.utf8"), ("NO_COLOR", "1")]), Some(QrStyle::Inverted));
        assert_eq!(style(&[term, ("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]), None);
        assert_eq!(style(&[term, ("LC_ALL", ""), ("LC_CTYPE", "UTF-8")]), Some(QrStyle::Coloured));
        assert_eq!(style(&[term]), None);
        assert_eq!(style(&[("TERM", "dumb"), ("LANG", "C.UTF-8")]), None);
        assert_eq!(style(&[("LANG", "C.UTF-8")]), None);
    }

    /// Reads a drawn code back into modules, `true` for dark.
    fn modules(drawn: &str, style: QrStyle) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in drawn.lines() {
            let line = line.trim_start_matches("    \x1b[30;107m").trim_end_matches("\x1b[0m");
            let line = if style == QrStyle::Inverted { &line[4..] } else { line };
            let ink: Vec<(bool, bool)> = line
                .chars()
                .map(|glyph| match glyph {
                    ' ' => (false, false),
                    '▀' => (true, false),
                    '▄' => (false, true),
                    '█' => (true, true),
                    other => panic!("{other:?} is no part of a code"),
                })
                .collect();
            let dark = |ink: bool| ink == (style == QrStyle::Coloured);
            rows.push(ink.iter().map(|(upper, _)| dark(*upper)).collect());
            rows.push(ink.iter().map(|(_, lower)| dark(*lower)).collect());
        }
        rows
    }

    #[test]
    fn the_drawn_code_has_every_module_and_a_quiet_zone_of_four() {
        let code = QrCode::with_error_correction_level(LINK, EcLevel::L).expect("it fits");
        let (width, colors) = (code.width(), code.to_colors());
        for style in [QrStyle::Coloured, QrStyle::Inverted] {
            let drawn = qr(LINK, style).expect("it fits");
            assert!(
                drawn.lines().all(|line| line.chars().count() < 78),
                "it fits into a terminal of 80 columns"
            );
            let rows = modules(&drawn, style);
            for (y, row) in rows.iter().enumerate().take(width + 8) {
                assert_eq!(row.len(), width + 8);
                for (x, dark) in row.iter().enumerate() {
                    let inside = (4..width + 4).contains(&x) && (4..width + 4).contains(&y);
                    let expected = inside && colors[(y - 4) * width + x - 4] == Color::Dark;
                    assert_eq!(*dark, expected, "{style:?}: {x}, {y}");
                }
            }
        }
    }

    #[test]
    fn the_text_says_when_nobody_else_can_open_the_link() {
        let text = |style, loopback| {
            let mut out = Vec::new();
            write_link(&mut out, LINK, style, loopback).expect("a vector takes all");
            String::from_utf8(out).expect("UTF-8")
        };
        assert!(text(None, false).contains(LINK) && !text(None, false).contains('█'));
        assert!(
            !text(None, false).contains("this machine alone")
                && text(None, true).contains("this machine alone")
        );
        assert!(text(Some(QrStyle::Coloured), false).contains('█'));
        for local in
            ["http://127.0.0.1:8080", "http://localhost", "https://localhost:8443", "http://[::1]:80"]
        {
            assert!(is_loopback(local), "{local}");
        }
        for public in [
            "https://meet.example.org",
            "http://192.0.2.1:8080",
            "https://[2001:db8::1]",
            "http://localhost.example",
        ] {
            assert!(!is_loopback(public), "{public}");
        }
    }
}
