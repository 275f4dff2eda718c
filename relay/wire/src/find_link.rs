//! Finds the room link in a text that a person pasted: a whole mail, a chat line, a link that was wrapped or rewritten on the way.
//! Never guesses: a link whose secret is damaged is refused, since a link without its secret names an unsealed room.
//! `web-shim/js/find-link.js` is the same in JavaScript; both read `golden/links.json`.
//!
//! 1. [`tidy`] undoes what mail and chat programs do to text: HTML entities, escapes, invisible characters, line wraps.
//! 2. [`scan`] goes through it from left to right and reads at each `://`, `/room/` and `#`. A line break within a link is
//!    passed over where that makes a link whole that is not whole otherwise.
//! 3. [`combine`] makes one answer of all readings. Links of different rooms are refused.
//! 4. When there is no link, percent escapes are undone and steps 2 and 3 repeated: redirectors put a link into the query of
//!    another.

use crate::id::RoomIdError;
use crate::link::RoomSecret;
use crate::room_link::{FoundLink, LinkError, Scheme, host_and_port};
use crate::{RoomId, Token};

/// Longest text that is looked through, in characters.
const LONGEST_TEXT: usize = 16 * 1024;
/// Longest link, in characters.
const LONGEST_LINK: usize = 2048;
/// Most line breaks within one link.
const MOST_BREAKS: usize = 6;
/// Most layers of percent escapes.
const MOST_LAYERS: usize = 3;
/// Most places where a link may begin: reading on from each takes its time.
const MOST_STARTS: usize = 256;

/// Finds the one room link in `text`.
///
/// # Errors
/// Why there is none, in words for the person who pasted it.
pub fn find_link(text: &str) -> Result<FoundLink, LinkError> {
    if text.chars().nth(LONGEST_TEXT).is_some() {
        return Err(LinkError::NotALink);
    }
    let mut text = tidy(text);
    let mut answer = combine(scan(&text).ok_or(LinkError::NotALink)?, &text, false);
    for _ in 0..MOST_LAYERS {
        if answer.is_ok() || !has_escape(&text) {
            break;
        }
        text = unescape_percent(&text);
        let inner = combine(scan(&text).ok_or(LinkError::NotALink)?, &text, true);
        if inner.as_ref().map_or_else(names_a_room, |_| true) || !answer.as_ref().is_err_and(names_a_room) {
            answer = inner;
        }
    }
    answer
}

/// Whether the error is about a link with a room in it.
fn names_a_room(error: &LinkError) -> bool {
    !matches!(error, LinkError::NotALink | LinkError::NoRoom)
}

/// Entities and escapes are undone, invisible characters are gone, full-width forms of ASCII are ASCII, a run of white space
/// is one space, and a line break with its surroundings (spaces, the `>` of a quoted mail) is one `\n`.
fn tidy(text: &str) -> Vec<char> {
    let mut chars: Vec<char> = text.chars().collect();
    // Text that went through several programs is escaped several times.
    for _ in 0..3 {
        chars = unescape_entities(&chars);
    }
    let mut visible = Vec::with_capacity(chars.len());
    for (at, &c) in chars.iter().enumerate() {
        let escapes = c == '\\' && chars.get(at + 1).is_some_and(char::is_ascii_punctuation);
        if !escapes && !is_invisible(c) {
            visible.push(narrow(c));
        }
    }
    let mut tidied = Vec::with_capacity(visible.len());
    let mut at = 0;
    while at < visible.len() {
        if !visible[at].is_whitespace() {
            tidied.push(visible[at]);
            at += 1;
            continue;
        }
        let length = visible[at..].iter().take_while(|c| c.is_whitespace() || matches!(c, '>' | '|')).count();
        let run = &visible[at..at + length];
        if run.iter().any(|c| is_line_break(*c)) {
            tidied.push('\n');
        } else {
            for &c in run {
                if !c.is_whitespace() {
                    tidied.push(c);
                } else if tidied.last() != Some(&' ') {
                    tidied.push(' ');
                }
            }
        }
        at += length;
    }
    tidied
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\u{b}' | '\u{c}' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).expect("0x21 to 0x7e are ASCII"),
        _ => c,
    }
}

const ENTITIES: [(&str, char); 10] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", ' '),
    ("num", '#'),
    ("equals", '='),
    ("colon", ':'),
    ("sol", '/'),
];

fn unescape_entities(chars: &[char]) -> Vec<char> {
    let mut out = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        match entity(&chars[at..]) {
            Some((c, length)) => {
                out.push(c);
                at += length;
            }
            None => {
                out.push(chars[at]);
                at += 1;
            }
        }
    }
    out
}

/// The character that an entity at the start stands for, and the entity's length.
fn entity(chars: &[char]) -> Option<(char, usize)> {
    if chars.first() != Some(&'&') {
        return None;
    }
    let end = chars.iter().take(10).position(|c| *c == ';')?;
    let name: String = chars[1..end].iter().map(char::to_ascii_lowercase).collect();
    let number = |digits: &str, radix: u32, most: usize| {
        let plain = (1..=most).contains(&digits.len()) && digits.chars().all(|c| c.is_digit(radix));
        plain.then(|| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32)).flatten()
    };
    let c = match name.strip_prefix('#') {
        Some(number_text) => match number_text.strip_prefix('x') {
            Some(hex) => number(hex, 16, 6)?,
            None => number(number_text, 10, 7)?,
        },
        None => ENTITIES.iter().find(|(word, _)| *word == name)?.1,
    };
    Some((c, end + 1))
}

fn has_escape(chars: &[char]) -> bool {
    (0..chars.len()).any(|at| escaped(&chars[at..], '%').is_some())
}

/// The ASCII character of `%23` or `=23` at the start.
fn escaped(chars: &[char], mark: char) -> Option<char> {
    let [first, high, low, ..] = chars else { return None };
    let byte = high.to_digit(16)? * 16 + low.to_digit(16)?;
    // Nobody escapes the alphabet of secrets, and an escaped line break wraps nothing: there they are damage.
    let c = char::from_u32(byte).filter(|c| *first == mark && c.is_ascii() && !is_secret_char(*c));
    c.map(|c| if c < '!' { '"' } else { c })
}

fn unescape(chars: &[char], escaped: impl Fn(&[char]) -> Option<char>) -> Vec<char> {
    let mut out = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        let c = escaped(&chars[at..]);
        out.push(c.unwrap_or(chars[at]));
        at += if c.is_some() { 3 } else { 1 };
    }
    out
}

/// Undoes one layer. An `&` that is not escaped ends the link that is: it belongs to the redirector around it.
fn unescape_percent(chars: &[char]) -> Vec<char> {
    let mut separated = chars.to_vec();
    for (at, c) in separated.iter_mut().enumerate() {
        if *c == '&' && !starts_with(&chars[at + 1..], "owner=") {
            *c = ' ';
        }
    }
    unescape(&separated, |chars| escaped(chars, '%'))
}

/// Case of ASCII letters does not matter.
fn starts_with(chars: &[char], word: &str) -> bool {
    chars.len() >= word.len() && chars.iter().zip(word.chars()).all(|(c, w)| c.eq_ignore_ascii_case(&w))
}

/// What one place in a text says.
#[derive(Clone)]
struct Reading {
    /// A link, or why it is none.
    link: Result<FoundLink, LinkError>,
    /// Of a refused link: host and room as far as they are known.
    place: Option<(Option<String>, RoomId)>,
    /// The text shows the start of a link and dots.
    abbreviated: bool,
    /// A `#` that belongs to no link.
    stray: bool,
    /// That `#` has something behind it that may be a secret.
    key: bool,
}

impl Reading {
    fn refused(error: LinkError) -> Self {
        Self { link: Err(error), place: None, abbreviated: false, stray: false, key: false }
    }

    /// Nothing is missing that could be on the next line.
    fn is_whole(&self) -> bool {
        self.link.as_ref().is_ok_and(|link| link.secret.is_some() || link.owner.is_some())
    }
}

/// Where a link begins.
struct Start {
    /// `Err` holds another scheme than ours.
    scheme: Option<Result<Scheme, String>>,
    /// `None`: the text from `at` starts with it.
    authority: Option<String>,
    /// Known already, before the text from `at`.
    prefix: String,
    at: usize,
    /// Known to be wrong before it is read.
    wrong: Option<LinkError>,
}

/// All readings; `None` where there are too many.
fn scan(text: &[char]) -> Option<Vec<Reading>> {
    let mut readings = Vec::new();
    let mut starts = 0;
    let (mut at, mut floor) = (0, 0);
    while at < text.len() {
        let start = if starts_with(&text[at..], "://") {
            start_at_scheme(text, at, floor)
        } else if starts_with(&text[at..], "/room/") {
            Some(start_at_path(text, at, floor))
        } else if starts_with(&text[at..], "room/")
            && (at == 0 || !is_host_char(text[at - 1]) && text[at - 1] != '/')
        {
            Some(Start { scheme: None, authority: Some(String::new()), prefix: "/".into(), at, wrong: None })
        } else if text[at] == '#' {
            match start_at_fragment(text, at, floor) {
                Some(start) => Some(start),
                None => {
                    let key = text[at + 1..].iter().take_while(|c| is_secret_char(**c)).count() >= 16;
                    readings.push(Reading { stray: true, key, ..Reading::refused(LinkError::Fragment) });
                    None
                }
            }
        } else {
            None
        };
        let Some(start) = start else {
            at += 1;
            continue;
        };
        starts += 1;
        if starts > MOST_STARTS {
            return None;
        }
        let (reading, end) = read(text, &start);
        readings.push(reading);
        at = end.max(at + 1);
        floor = at;
    }
    Some(readings)
}

fn start_at_scheme(text: &[char], at: usize, floor: usize) -> Option<Start> {
    let length = text[floor..at]
        .iter()
        .rev()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        .count();
    let word: String = text[at - length..at].iter().map(char::to_ascii_lowercase).collect();
    let known =
        [Scheme::Https, Scheme::Http, Scheme::Snug].into_iter().find(|one| word.ends_with(one.as_str()));
    let scheme = match known {
        Some(scheme) => Ok(scheme),
        None if word.is_empty() => return None,
        None => Err(word),
    };
    Some(Start { scheme: Some(scheme), authority: None, prefix: String::new(), at: at + 3, wrong: None })
}

/// `at` is the `/` of `/room/`: what stands before it is the host, or nothing.
fn start_at_path(text: &[char], at: usize, floor: usize) -> Start {
    let before = &text[floor..at];
    let run = |before: &[char]| before.iter().rev().take_while(|c| is_host_char(**c)).count();
    let mut length = run(before);
    let digits = &before[before.len() - length..];
    let port = length > 0
        && digits.iter().all(char::is_ascii_digit)
        && before[..before.len() - length].ends_with(&[':']);
    let name_end = if port { before.len() - length - 1 } else { before.len() };
    if before[..name_end].ends_with(&[']']) && (port || length == 0) {
        let open = before[..name_end].iter().rposition(|c| *c == '[').unwrap_or(name_end - 1);
        length = before.len() - open;
    } else if port {
        length = before.len() - name_end + run(&before[..name_end]);
    }
    let mut authority = &before[before.len() - length..];
    while let [first, rest @ ..] = authority
        && matches!(first, '.' | '-' | '_')
    {
        authority = rest;
    }
    let ahead = &text[..at - authority.len()];
    let wrong = match ahead {
        [.., last] if authority.is_empty() && is_glue(*last) => Some(LinkError::Host),
        _ if authority.is_empty() => None,
        [.., '@' | '%'] => Some(LinkError::Host),
        [.., '/', '/'] => None,
        [.., '/'] => Some(LinkError::NoRoom),
        [.., last] if is_foreign_letter(*last) => Some(LinkError::Host),
        // The host began on the line before.
        [line @ .., '\n'] if ends_in_host(line) => Some(LinkError::Host),
        _ => None,
    };
    Start { scheme: None, authority: Some(authority.iter().collect()), prefix: String::new(), at, wrong }
}

/// `at` is a `#`: what stands before it is the room's name. `None` when it is not.
fn start_at_fragment(text: &[char], at: usize, floor: usize) -> Option<Start> {
    let before = &text[floor..at];
    let length = before.iter().rev().take_while(|c| c.is_ascii_alphanumeric() || **c == '-').count();
    let (ahead, room) = before.split_at(before.len() - length);
    let room: String = room.iter().map(char::to_ascii_lowercase).collect();
    if ahead.last().is_some_and(|c| is_glue(*c) || *c == '=') || room.parse::<RoomId>().is_err() {
        return None;
    }
    Some(Start {
        scheme: None,
        authority: Some(String::new()),
        prefix: format!("/room/{room}"),
        at,
        wrong: None,
    })
}

fn ends_in_host(line: &[char]) -> bool {
    let host = line.iter().rev().take_while(|c| is_host_char(**c)).count();
    line[..line.len() - host].ends_with(&[':', '/', '/'])
}

fn is_secret_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// What cannot stand right before a link without being a part of it.
fn is_glue(c: char) -> bool {
    ".:@_-/&%?~+#]".contains(c) || is_foreign_letter(c)
}

fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
}

/// A letter or digit outside ASCII, or an accent on the letter before it.
fn is_foreign_letter(c: char) -> bool {
    !c.is_ascii() && (c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{36f}'))
}

/// The text of a link without the line breaks in it.
struct Flat {
    text: Vec<char>,
    /// The position behind it.
    end: usize,
    breaks: usize,
    too_long: bool,
}

/// Reads on from `start` over at most `breaks` line breaks, and behind `#` over spaces, which is what a line break becomes in
/// a field of one line. `soft`: an `=` before a line break belongs to it (quoted-printable).
fn flatten(text: &[char], start: &Start, breaks: usize, soft: bool) -> Flat {
    let mut flat = Flat { text: start.prefix.chars().collect(), end: start.at, breaks: 0, too_long: false };
    let mut in_fragment = false;
    let mut in_authority = start.authority.is_none();
    while let Some(&c) = text.get(flat.end) {
        if c == '\n' || (c == ' ' && in_fragment) {
            if flat.breaks == breaks || starts_a_link(&text[flat.end + 1..]) {
                break;
            }
            flat.breaks += 1;
            if soft && flat.text.last() == Some(&'=') {
                flat.text.pop();
            }
        } else {
            let bracket = matches!(c, '[' | ']') && !in_authority;
            if bracket || !c.is_ascii_graphic() || "\"<>`'(){}|^\\".contains(c) {
                break;
            }
            if flat.text.len() == LONGEST_LINK {
                flat.too_long = true;
                break;
            }
            in_fragment |= c == '#';
            in_authority &= c != '/';
            flat.text.push(c);
        }
        flat.end += 1;
    }
    flat
}

/// `word://`, with a word of at most 16 characters.
fn starts_a_link(text: &[char]) -> bool {
    let word = text.iter().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-')).count();
    text.first().is_some_and(char::is_ascii_alphabetic)
        && word <= 16
        && text[word..].starts_with(&[':', '/', '/'])
}

/// The best reading from `start`, and the position behind it.
fn read(text: &[char], start: &Start) -> (Reading, usize) {
    let bare = flatten(text, start, 0, false);
    let first = take(text, start, &bare);
    let has_fragment = bare.text.contains(&'#');
    // The name of a room, or a host, that goes on in the next line.
    let unfinished = first.link.is_err() && bare.text.last().is_none_or(|c| matches!(c, '/' | '-' | '='));
    let (mut whole, mut joined) = (first.is_whole().then(|| (first.clone(), bare.end)), None);
    let mut lost = None;
    'breaks: for breaks in 1..=MOST_BREAKS {
        for soft in [true, false] {
            let flat = flatten(text, start, breaks, soft);
            if flat.breaks < breaks {
                break 'breaks;
            }
            let reading = take(text, start, &flat);
            if reading.is_whole() {
                let known = whole.as_ref().and_then(|(reading, _)| reading.link.as_ref().ok());
                if known.is_none_or(|known| known.owner.is_none() && adds_owner(known, &reading)) {
                    whole = Some((reading, flat.end));
                }
            } else if reading.link.is_ok() && unfinished && joined.is_none() {
                joined = Some((reading, flat.end));
            } else if !has_fragment && flat.text.contains(&'#') && first.link.is_ok() {
                lost = Some((
                    Reading { place: place(&first), ..Reading::refused(LinkError::Fragment) },
                    flat.end,
                ));
            }
        }
    }
    let end = if matches!(first.link, Err(LinkError::NoRoom)) { start.at } else { bare.end };
    whole.or(lost).or(joined).unwrap_or((first, end))
}

/// Whether `reading` is `known` with its owner token, which stands on the next line.
fn adds_owner(known: &FoundLink, reading: &Reading) -> bool {
    reading.link.as_ref().is_ok_and(|link| {
        link.owner.is_some() && text_of(link.secret.as_ref()) == text_of(known.secret.as_ref())
    })
}

fn place(reading: &Reading) -> Option<(Option<String>, RoomId)> {
    match &reading.link {
        Ok(link) => Some((link.target().map(|target| target.authority()), link.room.clone())),
        Err(_) => reading.place.clone(),
    }
}

/// Reads `flat`, and looks at what stands right behind it in `text`.
fn take(text: &[char], start: &Start, flat: &Flat) -> Reading {
    let mut reading = parse(start, &flat.text);
    if !reading.is_whole() {
        // Quoted-printable, as far as a link needs it.
        let needed = |c: &char| matches!(c, '#' | '&' | '=');
        let unescaped = parse(start, &unescape(&flat.text, |chars| escaped(chars, '=').filter(needed)));
        if unescaped.is_whole() {
            reading = unescaped;
        }
    }
    let next = text.get(flat.end).copied();
    let has_fragment = flat.text.contains(&'#');
    reading.abbreviated = !reading.is_whole() && (next == Some('…') || flat.text.ends_with(&['.', '.', '.']));
    if reading.link.is_err() {
        return reading;
    }
    let wrong = match next {
        _ if flat.too_long => Some(LinkError::Fragment),
        // Scripts without spaces may go on behind a secret, whose length is known; other letters are part of a damaged one.
        Some(c) if has_fragment && is_foreign_letter(c) && (c < '\u{590}' || goes_on(&text[flat.end..])) => {
            Some(LinkError::Fragment)
        }
        Some(c) if !has_fragment && !flat.text.contains(&'?') && is_foreign_letter(c) => {
            Some(LinkError::Room(RoomIdError::Character))
        }
        Some('…') if !reading.is_whole() => Some(LinkError::Fragment),
        _ if !has_fragment && fragment_follows(text, flat.end) => Some(LinkError::Fragment),
        _ => None,
    };
    if let Some(error) = wrong {
        reading = Reading { place: place(&reading), link: Err(error), ..reading };
    }
    reading
}

/// Whether ASCII letters follow right behind letters of another script.
fn goes_on(behind: &[char]) -> bool {
    behind.iter().find(|c| c.is_ascii()).is_some_and(|c| is_secret_char(*c))
}

/// Whether a `#` stands where a link ended too early: glued to it, or next after a space.
fn fragment_follows(text: &[char], end: usize) -> bool {
    let behind = &text[end..];
    let next = if behind.first().is_some_and(|c| c.is_whitespace()) { &behind[1..] } else { behind };
    next.first() == Some(&'#')
        || behind
            .iter()
            .take_while(|c| !c.is_whitespace() && !matches!(c, '"' | '<' | '>'))
            .any(|c| *c == '#')
}

/// What may stand right behind a link without belonging to it. The alphabet of secrets has `-` and `_`, but none ends in one.
const AFTER_PATH: &str = ".,;:!*_~+$&@";
const AFTER_FRAGMENT: &str = ".,;:!*_~+$&@?/%=-";

/// What a link's path starts with.
const ROOM: &str = "/room/";

/// Reads a link that stands alone.
fn parse(start: &Start, flat: &[char]) -> Reading {
    let flat: String = flat.iter().collect();
    let (authority, rest) = match &start.authority {
        Some(authority) => (authority.as_str(), flat.as_str()),
        None => flat.split_at(flat.find(['/', '?', '#']).unwrap_or(flat.len())),
    };
    let (before, fragment) = match rest.split_once('#') {
        Some((before, fragment)) => (before, Some(fragment)),
        None => (rest, None),
    };
    let path = match before.split_once('?') {
        Some((path, _)) => path,
        None if fragment.is_none() => before.trim_end_matches(|c| AFTER_PATH.contains(c)),
        None => before,
    };
    let named = path.split_at_checked(ROOM.len()).filter(|(head, _)| head.eq_ignore_ascii_case(ROOM));
    let name = named.map_or("", |(_, name)| name);
    let name = name.trim_end_matches('/');
    if name.is_empty() {
        return Reading::refused(LinkError::NoRoom);
    }
    if let Some(error) = &start.wrong {
        return Reading::refused(error.clone());
    }
    let scheme = match &start.scheme {
        Some(Err(word)) => return Reading::refused(LinkError::Scheme(word.clone())),
        Some(Ok(scheme)) => Some(*scheme),
        None => None,
    };
    let (host, port) = match host_and_port(authority) {
        Some((host, port)) => (Some(host), port),
        None if authority.is_empty() && scheme.is_none() => (None, None),
        None => return Reading::refused(LinkError::Host),
    };
    let room: RoomId = match name.to_ascii_lowercase().parse() {
        Ok(room) => room,
        Err(error) => return Reading::refused(LinkError::Room(error)),
    };
    let mut link = FoundLink { scheme, host, port, room, secret: None, owner: None };
    let target = link.target();
    let place = Some((target.as_ref().map(|target| target.authority()), link.room.clone()));
    let secure = target.map_or(Ok(()), |target| target.check_secure());
    let read = secure.and_then(|()| fragment.map_or(Ok(()), |fragment| add_fragment(&mut link, fragment)));
    match read {
        Ok(()) => Reading { place, ..Reading { link: Ok(link), ..Reading::refused(LinkError::NotALink) } },
        Err(error) => Reading { place, ..Reading::refused(error) },
    }
}

/// `SECRET`, `owner=TOKEN`, or both with `&` between them.
fn add_fragment(link: &mut FoundLink, fragment: &str) -> Result<(), LinkError> {
    // Browsers put what they are to highlight behind a fragment.
    let fragment = fragment.split(":~:").next().unwrap_or(fragment);
    let fragment = fragment.trim_end_matches(|c| AFTER_FRAGMENT.contains(c));
    let mut parts = fragment.split('&').filter(|part| !part.is_empty()).peekable();
    // A `#` with nothing behind it has lost its secret.
    parts.peek().ok_or(LinkError::Fragment)?;
    for part in parts {
        match part.strip_prefix("owner=") {
            Some(token) if link.owner.is_none() => link.owner = Some(parse_part::<Token>(token)?),
            None if link.secret.is_none() => link.secret = Some(parse_part::<RoomSecret>(part)?),
            _ => return Err(LinkError::Fragment),
        }
    }
    Ok(())
}

fn parse_part<T: std::str::FromStr>(text: &str) -> Result<T, LinkError> {
    text.parse().map_err(|_| LinkError::Fragment)
}

/// `inner`: escapes were undone. There a `#` that belongs to no link is damage: the `&` before it may have been, too.
fn combine(mut readings: Vec<Reading>, text: &[char], inner: bool) -> Result<FoundLink, LinkError> {
    if readings.iter().any(|reading| reading.link.is_ok() && !reading.abbreviated) {
        readings.retain(|reading| !reading.abbreviated);
    }
    let mut one: Option<FoundLink> = None;
    for link in readings.iter().filter_map(|reading| reading.link.as_ref().ok()) {
        one = Some(match one {
            None => link.clone(),
            Some(one) => merge(one, link).ok_or(LinkError::Several)?,
        });
    }
    let refused = |reading: &Reading| reading.link.as_ref().err().cloned();
    let Some(link) = one else {
        let first = |fits: fn(&Reading) -> bool| readings.iter().find(|one| fits(one)).and_then(refused);
        let named = first(|one| !one.stray && one.link.as_ref().is_err_and(names_a_room));
        return Err(named
            .or_else(|| first(|one| !one.stray))
            .or_else(|| first(|_| true))
            .unwrap_or(LinkError::NotALink));
    };
    for reading in readings.iter().filter(|one| !one.stray && one.link.as_ref().is_err_and(names_a_room)) {
        let same = reading.place.as_ref().is_some_and(|(host, room)| {
            let own = link.target().map(|target| target.authority());
            *room == link.room && (host.is_none() || own.is_none() || *host == own)
        });
        if !same {
            return Err(LinkError::Several);
        }
        if link.secret.is_none() {
            return Err(refused(reading).unwrap_or(LinkError::Fragment));
        }
    }
    let lost = |one: &Reading| if inner { one.stray } else { one.key };
    if link.secret.is_none() && (readings.iter().any(lost) || hides_fragment(text, inner)) {
        return Err(LinkError::Fragment);
    }
    Ok(link)
}

/// Whether the text has a `#` that is still escaped, once or more, with what may be a secret behind it; `any`: or anything else.
fn hides_fragment(text: &[char], any: bool) -> bool {
    (0..text.len()).filter(|at| text[*at] == '%').any(|at| {
        let mut rest = &text[at + 1..];
        while let ['2', '5', behind @ ..] = rest {
            rest = behind;
        }
        let ['2', '3', behind @ ..] = rest else { return false };
        any || behind.iter().take_while(|c| is_secret_char(**c)).take(16).count() == 16
    })
}

/// Two mentions of one room; `None` when they contradict each other.
fn merge(one: FoundLink, other: &FoundLink) -> Option<FoundLink> {
    let contradict = |a: Option<String>, b: Option<String>| a.is_some() && b.is_some() && a != b;
    let differ = one.room != other.room
        || contradict(one.target().map(|t| t.authority()), other.target().map(|t| t.authority()))
        || contradict(text_of(one.secret.as_ref()), text_of(other.secret.as_ref()))
        || contradict(text_of(one.owner.as_ref()), text_of(other.owner.as_ref()));
    if differ {
        return None;
    }
    let (scheme, host, port) = if one.host.is_some() {
        (one.scheme, one.host, one.port)
    } else {
        (other.scheme, other.host.clone(), other.port)
    };
    Some(FoundLink {
        scheme,
        host,
        port,
        room: one.room,
        secret: one.secret.or_else(|| other.secret.clone()),
        owner: one.owner.or_else(|| other.owner.clone()),
    })
}

fn text_of(value: Option<&impl ToString>) -> Option<String> {
    value.map(ToString::to_string)
}
