//! The guest page, embedded: its files and the headers that fence it in.
//! It never reads a disk: what is served is what was built.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri};

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// One embedded file.
pub(crate) struct File {
    path: &'static str,
    content_type: &'static str,
    /// Quoted, as the header wants it.
    etag: &'static str,
    content: &'static [u8],
    gzip: &'static [u8],
}

/// Looks a file up by the path it is served at.
pub(crate) fn find(path: &str) -> Option<&'static File> {
    FILES.binary_search_by(|file| file.path.cmp(path)).ok().map(|index| &FILES[index])
}

impl File {
    /// The answer to a request for this file.
    pub(crate) fn respond(&self, request: &HeaderMap) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let unchanged = request.get(IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == self.etag.as_bytes());
        let gzip = accepts_gzip(request);
        let headers = response.headers_mut();
        headers.insert(ETAG, HeaderValue::from_static(self.etag));
        // Asked again each time, answered with 304: an upgraded relay is never mixed with an older page.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if unchanged {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        *response.body_mut() = Body::from(if gzip { self.gzip } else { self.content });
        response
    }
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    let Some(Ok(accepted)) = request.get(ACCEPT_ENCODING).map(HeaderValue::to_str) else { return false };
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip")
            && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// The headers of every answer. `authority` is the host (and port) that the browser asked, `tls` whether it asked by HTTPS.
pub(crate) fn secure(headers: &mut HeaderMap, authority: Option<&str>, tls: bool) {
    let socket = match authority.filter(|authority| is_authority(authority)) {
        // 'self' does not cover WebSockets in every browser.
        Some(authority) => format!(" {}://{authority}", if tls { "wss" } else { "ws" }),
        None => String::new(),
    };
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         media-src 'self' blob: mediastream:; connect-src 'self'{socket}; worker-src 'self'; manifest-src 'self'; \
         form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    );
    let mut set = |name: &'static str, value: HeaderValue| {
        headers.insert(HeaderName::from_static(name), value);
    };
    let policy = HeaderValue::try_from(policy).expect("the policy and an authority are visible ASCII");
    set("content-security-policy", policy);
    set("referrer-policy", HeaderValue::from_static("no-referrer"));
    set("x-content-type-options", HeaderValue::from_static("nosniff"));
    set("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    set("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    set(
        "permissions-policy",
        HeaderValue::from_static(
            "camera=(self), microphone=(self), display-capture=(self), screen-wake-lock=(self), \
             picture-in-picture=(self), speaker-selection=(self), fullscreen=(self), geolocation=(), payment=(), usb=()",
        ),
    );
    if tls {
        set("strict-transport-security", HeaderValue::from_static("max-age=31536000"));
    }
}

/// Host and port only: whatever else a `Host` header may hold must not reach the policy.
fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']'))
}

/// Whether an `Origin` header is that of the page that `authority` serves, or one of `allowed`.
pub(crate) fn is_own_origin(origin: &str, authority: Option<&str>, allowed: &[String]) -> bool {
    if allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Ok(uri) = origin.parse::<Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https"))
        && uri
            .authority()
            .map(|own| own.as_str())
            .zip(authority)
            .is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_its_modules_are_embedded_in_order() {
        assert!(FILES.is_sorted_by(|a, b| a.path < b.path));
        for path in ["/index.html", "/style.css", "/js/main.js", "/assets/words.json"] {
            assert!(find(path).is_some(), "{path}");
        }
        assert!(find("/js/types.d.ts").is_none());
    }

    /// What a guest who opens a link does not load: the start page's words for new names and its reader of pasted links, and what
    /// web-shim/js/on-demand.js loads when a pointer, a focus or a press asks for it, or for an owner. `ci/e2e` holds that nobody else loads it.
    const ON_DEMAND: [&str; 7] = [
        "/assets/words.json",
        "/js/find-link.js",
        "/js/invite-view.js",
        "/js/menu-views.js",
        "/js/owner-view.js",
        "/js/strings-on-demand.js",
        "/js/strings-on-demand-de.js",
    ];

    #[expect(clippy::print_stdout, reason = "the table is what a person runs this for")]
    /// 60 KB for all that a guest loads who opens a link and is in a call, chat and people included, with one of the languages.
    #[test]
    fn what_one_guest_loads_weighs_at_most_sixty_kilobytes_compressed() {
        println!("| served | bytes | gzip |\n|---|---|---|");
        for file in FILES {
            println!("| {} | {} | {} |", file.path, file.content.len(), file.gzip.len());
        }
        for path in ON_DEMAND {
            assert!(find(path).is_some(), "{path} is a file of its own");
        }
        let (languages, shared): (Vec<&File>, Vec<&File>) = FILES
            .iter()
            .filter(|file| !ON_DEMAND.contains(&file.path))
            .partition(|file| file.path.starts_with("/js/strings"));
        let shared: usize = shared.iter().map(|file| file.gzip.len()).sum();
        assert!(languages.len() == 2, "the languages are files of their own");
        for language in languages {
            let total = shared + language.gzip.len();
            println!("| all, with {} | | {total} |", language.path);
            assert!(total <= 60_000, "{}: {total} bytes", language.path);
        }
    }

    #[test]
    fn only_the_own_origin_and_listed_ones_may_open_a_socket() {
        let allowed = ["tauri://localhost".to_owned()];
        let check = |origin| is_own_origin(origin, Some("call.example.org"), &allowed);
        assert!(check("https://call.example.org"));
        assert!(check("tauri://localhost"));
        for foreign in
            ["https://evil.example", "https://call.example.org:8443", "null", "", "file://", "https://"]
        {
            assert!(!check(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_strange_host_header_does_not_reach_the_policy() {
        let mut headers = HeaderMap::new();
        secure(&mut headers, Some("x; script-src *"), false);
        let policy = headers["content-security-policy"].to_str().expect("ASCII");
        assert!(!policy.contains("script-src *"), "{policy}");
    }

    #[test]
    fn gzip_is_sent_only_to_who_takes_it() {
        let with = |value| HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(value))]);
        assert!(accepts_gzip(&with("deflate, gzip;q=0.5")));
        assert!(!accepts_gzip(&with("gzip;q=0")));
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
