//! Which page a request's path means, however it was typed.
//! Pure: the answers are made in `http.rs`.

use percent_encoding::percent_decode_str;
use snug_wire::RoomId;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A page, and the path is its only spelling.
    Here,
    /// A page whose path is spelled so: upper case, encoded letters, doubled or trailing slashes led here.
    There(String),
    /// Below `/room`, but no room's name.
    NoRoom,
    /// No page.
    Nowhere,
}

/// Reads a path as a browser sends it, still encoded and without its query.
pub(crate) fn place(path: &str) -> Place {
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let decode = |segment| percent_decode_str(segment).decode_utf8().map(|text| text.trim().to_owned());
    let canonical = match *segments.as_slice() {
        [] => "/".to_owned(),
        [first, ref rest @ ..] if decode(first).is_ok_and(|name| name.eq_ignore_ascii_case("room")) => {
            let room = match rest {
                [id] => decode(id).ok().and_then(|id| id.to_ascii_lowercase().parse::<RoomId>().ok()),
                _ => None,
            };
            match room {
                Some(room) => format!("/room/{room}"),
                None => return Place::NoRoom,
            }
        }
        _ => return Place::Nowhere,
    };
    if canonical == path { Place::Here } else { Place::There(canonical) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_of_a_room_is_served_and_the_others_lead_to_it() {
        assert_eq!(place("/room/sunny-mountain-42"), Place::Here);
        for path in [
            "/room/Sunny-Mountain-42",
            "/Room/sunny-mountain-42",
            "/room/sunny-mountain-42/",
            "/room/sunny-mountain-42//",
            "//room//sunny-mountain-42",
            "/room/%53unny%2Dmountain-42",
            "/%72oom/sunny-mountain-42",
            "/room/sunny-mountain-42%20",
            "/room/%E2%80%AFsunny-mountain-42%0A",
        ] {
            assert_eq!(place(path), Place::There("/room/sunny-mountain-42".to_owned()), "{path}");
        }
        assert_eq!(place("/"), Place::Here);
        assert_eq!(place("//"), Place::There("/".to_owned()));
    }

    #[test]
    fn what_names_no_room_is_never_led_to_one() {
        for path in [
            "/room",
            "/room/",
            "/ROOM//",
            "/room/ab",
            "/room/a--b",
            "/room/a_b",
            "/room/%C5%81%C3%B3d%C5%BA",
            "/room/%FF%FE%FD",
            "/room/abc%2Fdef",
            "/room/abc/def",
            "/room/abc%00",
            "/room/%2F%2Fevil.example",
            "/room/\u{212a}ab",
        ] {
            assert_eq!(place(path), Place::NoRoom, "{path}");
        }
        for path in
            ["/rooms/abc", "/wp-login.php", "/evil.example/room/abc", "/%2F/evil.example", "/js/main.js"]
        {
            assert_eq!(place(path), Place::Nowhere, "{path}");
        }
    }
}
