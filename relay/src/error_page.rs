//! Errors that a person may see: a small page in the reader's language for browsers that navigate, JSON for programs.
//! Needs no script, and repeats nothing that a request held.

use axum::body::Body;
use axum::http::header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, RETRY_AFTER, VARY};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::json;

/// Why a request is refused, kept beside its answer until the form of it is chosen.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) code: &'static str,
    pub(crate) message: &'static str,
}

/// A request by a name that is not the relay's.
pub(crate) const WRONG_HOST: Refused = Refused {
    code: "WRONG_HOST",
    message: "This relay does not know itself by that name. Ask it by its own, or let its operator give this one with \
              --public-url or --allowed-host.",
};

/// What the reader of an answer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reader {
    html: bool,
    german: bool,
}

impl Reader {
    /// As `Accept` and `Accept-Language` say it. A program that takes anything (`*/*`) gets JSON: browsers that navigate name `text/html`.
    pub(crate) fn of(request: &HeaderMap) -> Self {
        let html = weights(request, ACCEPT.as_str()).any(|(kind, weight)| {
            weight > 0.0 && matches!(kind.as_str(), "text/html" | "application/xhtml+xml")
        });
        let best = |language: &str| {
            weights(request, ACCEPT_LANGUAGE.as_str())
                .filter(|(tag, _)| tag == language || tag.starts_with(&format!("{language}-")))
                .map(|(_, weight)| weight)
                .fold(0.0, f32::max)
        };
        // Of two languages that weigh the same, the first is meant.
        let first = weights(request, ACCEPT_LANGUAGE.as_str())
            .map(|(tag, _)| tag)
            .find(|tag| tag.starts_with("de") || tag.starts_with("en"));
        let (german, english) = (best("de"), best("en"));
        let german = german > english
            || (german > 0.0 && german >= english && first.is_some_and(|tag| tag.starts_with("de")));
        Self { html, german }
    }

    /// Whether it is a person's browser that navigates.
    pub(crate) fn is_person(self) -> bool {
        self.html
    }
}

/// The entries of a header such as `Accept`, in lower case with their weights.
fn weights<'a>(request: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = (String, f32)> + 'a {
    let lines = request.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        (kind, weight)
    })
}

/// Gives an answer that says no the form that its reader takes. Pages, files and states (`/health`) pass as they are.
pub(crate) fn dress(mut response: Response<Body>, reader: Reader) -> Response<Body> {
    let status = response.status();
    let refused = response.extensions_mut().remove::<Refused>().or_else(|| {
        // The router's own answers, such as 405, come without a word.
        let kind = response.headers().get(CONTENT_TYPE);
        let wordless = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
        (wordless && (status.is_client_error() || status.is_server_error())).then(|| of_status(status))
    });
    let Some(Refused { code, message }) = refused else { return response };
    let wait = response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse::<u64>().ok());
    let (body, kind) = if reader.html {
        (page(status, wait, reader.german), "text/html; charset=utf-8")
    } else {
        (json!({"code": code, "message": message}).to_string(), "application/json")
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(VARY, HeaderValue::from_static("accept, accept-language"));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    headers.remove("content-length");
    *response.body_mut() = Body::from(body);
    response
}

fn of_status(status: StatusCode) -> Refused {
    let message = status.canonical_reason().unwrap_or("The request was refused.");
    let code = match status {
        StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::URI_TOO_LONG => "TOO_LARGE",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        _ if status.is_server_error() => "UNAVAILABLE",
        _ => "BAD_MESSAGE",
    };
    Refused { code, message }
}

/// Heading and sentence: what happened, and what to do.
fn words(status: StatusCode, wait: Option<u64>, german: bool) -> (&'static str, String) {
    let seconds = wait.unwrap_or(10);
    match (status, german) {
        (StatusCode::NOT_FOUND, false) => {
            ("There is nothing here", "This address names no page and no room. Check the link, or begin at the start page.".into())
        }
        (StatusCode::NOT_FOUND, true) => {
            ("Hier ist nichts", "Diese Adresse nennt keine Seite und keinen Raum. Prüfe den Link oder beginne auf der Startseite.".into())
        }
        (StatusCode::MISDIRECTED_REQUEST, false) => {
            ("The server does not know this name", "It answers by its own names only, so that no other site can use it. Open it by one of those, or tell whoever runs it: this one can be given with --public-url or --allowed-host.".into())
        }
        (StatusCode::MISDIRECTED_REQUEST, true) => {
            ("Der Server kennt diesen Namen nicht", "Er antwortet nur unter seinen eigenen Namen, damit keine andere Seite ihn benutzen kann. Öffne ihn unter einem davon oder sag es denen, die ihn betreiben: Dieser lässt sich mit --public-url oder --allowed-host angeben.".into())
        }
        (StatusCode::TOO_MANY_REQUESTS, false) => {
            ("Too many requests", format!("Your network asked this server too often. Wait {seconds} s, then load the page again."))
        }
        (StatusCode::TOO_MANY_REQUESTS, true) => {
            ("Zu viele Anfragen", format!("Dein Netz hat diesen Server zu oft gefragt. Warte {seconds} s und lade die Seite dann neu."))
        }
        (status, false) if status.is_server_error() => {
            ("The server cannot answer", format!("It is starting, stopping or out of resources. Load the page again in {seconds} s."))
        }
        (status, true) if status.is_server_error() => {
            ("Der Server kann nicht antworten", format!("Er startet, hält an oder hat zu wenig Mittel. Lade die Seite in {seconds} s neu."))
        }
        (_, false) => {
            ("This address is not for browsers", "The server does not answer this kind of request here. Begin at the start page.".into())
        }
        (_, true) => {
            ("Diese Adresse ist nicht für Browser", "Der Server beantwortet diese Art von Anfrage hier nicht. Beginne auf der Startseite.".into())
        }
    }
}

fn page(status: StatusCode, wait: Option<u64>, german: bool) -> String {
    let (heading, sentence) = words(status, wait, german);
    let (language, start) = if german { ("de", "Startseite") } else { ("en", "Start page") };
    let number = status.as_u16();
    format!(
        "<!doctype html>\n<html lang=\"{language}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{heading} · Snug</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>\n<div id=\"app\">\n\
         <header class=\"top\"><a class=\"brand\" href=\"/\">Snug</a></header>\n\
         <main class=\"left\"><h1>{heading}</h1><p>{sentence}</p><p><a href=\"/\">{start}</a></p>\
         <p class=\"quiet\">{number}</p></main>\n</div>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(accept: &'static str, language: &'static str) -> Reader {
        Reader::of(&HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static(accept)),
            (ACCEPT_LANGUAGE, HeaderValue::from_static(language)),
        ]))
    }

    #[test]
    fn browsers_that_navigate_get_pages_and_programs_get_json() {
        assert!(reader("text/html,application/xhtml+xml,*/*;q=0.8", "en").is_person());
        assert!(reader("application/json;q=0.1, TEXT/HTML;q=0.5", "en").is_person());
        for accept in ["*/*", "application/json", "text/html;q=0", "image/avif,image/webp", ""] {
            assert!(!reader(accept, "en").is_person(), "{accept}");
        }
        assert!(!Reader::of(&HeaderMap::new()).is_person());
    }

    #[test]
    fn the_language_is_the_one_that_is_preferred() {
        for (language, german) in [
            ("de-AT,de;q=0.9,en;q=0.8", true),
            ("en,de;q=0.9", false),
            ("en;q=0.2, de;q=0.7", true),
            ("de, en", true),
            ("en, de", false),
            ("fr", false),
            ("fr, de;q=0.5", true),
            ("de;q=0", false),
            ("", false),
        ] {
            assert_eq!(reader("text/html", language).german, german, "{language}");
        }
    }

    #[test]
    fn every_status_has_words_in_both_languages() {
        for number in [400, 403, 404, 405, 413, 421, 426, 429, 431, 500, 503] {
            let status = StatusCode::from_u16(number).expect("a status");
            let (english, german) = (page(status, None, false), page(status, Some(7), true));
            assert!(english.contains("Start page") && german.contains("Startseite"), "{number}");
            assert_ne!(words(status, None, false).0, words(status, None, true).0);
        }
        assert!(page(StatusCode::TOO_MANY_REQUESTS, Some(7), false).contains("Wait 7 s"));
    }
}
