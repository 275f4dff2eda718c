//! The name, the connection, the certificate, the page and the clock: what a browser needs of the relay.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use snug_core::signaling::{Target, certificate_problem};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Limits;
use super::report::{Check, Finding};
use crate::printable;

/// Addresses that are tried.
const MOST_ADDRESSES: usize = 8;
/// Longest answer that is read, in bytes: the page is far smaller.
const LONGEST_ANSWER: u64 = 512 * 1024;
/// A certificate that is valid for less than this should have been renewed.
const RENEW: Duration = Duration::from_secs(14 * 86_400);
/// Clocks may differ by this much; an answer's date has whole seconds.
const CLOCK_FINE: i64 = 30;
/// Clocks that differ by more make certificates and credentials fail.
const CLOCK_BROKEN: i64 = 300;

/// What carries HTTP.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Looks the name up.
pub(super) async fn resolve(target: &Target, limits: Limits) -> (Finding, Vec<SocketAddr>) {
    let start = Instant::now();
    let host = &target.host;
    if let Ok(ip) = host.parse::<IpAddr>() {
        let finding = Finding::ok(Check::Name, format!("{host} is an address, there is no name to look up"));
        return (finding.since(start), vec![SocketAddr::new(ip, target.port)]);
    }
    let fail = |cause: &str| {
        Finding::fail(
            Check::Name,
            format!("{host} was not found ({cause})"),
            "check the spelling and your internet connection; the operator of the relay sets an A or AAAA record for this name",
        )
        .since(start)
    };
    let found = limits.within(tokio::net::lookup_host((host.as_str(), target.port))).await;
    let mut addresses: Vec<SocketAddr> = match found {
        None => return (fail("no answer in time"), Vec::new()),
        Some(Err(error)) => return (fail(&error.to_string()), Vec::new()),
        Some(Ok(found)) => found.collect(),
    };
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    if addresses.is_empty() {
        return (fail("it has no address"), addresses);
    }
    let family = |v6: bool| {
        let list: Vec<String> = addresses
            .iter()
            .filter(|address| address.is_ipv6() == v6)
            .map(|address| address.ip().to_string())
            .collect();
        if list.is_empty() { "none".to_owned() } else { list.join(", ") }
    };
    let message = format!("{host}: IPv4 {}, IPv6 {}", family(false), family(true));
    (Finding::ok(Check::Name, message).since(start), addresses)
}

/// Connects to every address, and keeps the first that works.
pub(super) async fn connect(addresses: &[SocketAddr], limits: Limits) -> (Finding, Option<SocketAddr>) {
    let start = Instant::now();
    let attempts = addresses.iter().map(|address| async move {
        let answer = match limits.within(TcpStream::connect(address)).await {
            None => Err("does not answer"),
            Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err("refuses"),
            Some(Err(_)) => Err("cannot be reached"),
            Some(Ok(_)) => Ok(()),
        };
        (*address, answer)
    });
    let answers = join_all(attempts).await;
    let works: Vec<SocketAddr> =
        answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(address, _)| *address).collect();
    let words: Vec<String> = answers
        .iter()
        .map(|(address, answer)| match answer {
            Ok(()) => format!("{address} answers"),
            Err(cause) => format!("{address} {cause}"),
        })
        .collect();
    let words = words.join("; ");
    let Some(first) = works.first().copied() else {
        let port = addresses.first().map_or(443, SocketAddr::port);
        let fix = if answers.iter().any(|(_, answer)| *answer == Err("refuses")) {
            format!("nobody listens there: start the relay, or correct the port ({port}) in the address")
        } else {
            format!("open TCP port {port} in the relay's firewall, and check your internet connection")
        };
        return (Finding::fail(Check::Connection, words, fix).since(start), None);
    };
    let finding = if works.len() == answers.len() {
        Finding::ok(Check::Connection, words)
    } else {
        let fix = "people with only that kind of address get in late or not at all: make the relay listen there, or take the address out of the DNS";
        Finding::warn(Check::Connection, words, fix)
    };
    (finding.since(start), Some(first))
}

/// Shakes hands over TLS and looks at the certificate.
pub(super) async fn certificate(
    target: &Target,
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    limits: Limits,
) -> Finding {
    let start = Instant::now();
    let opened = limits.within(secure(&target.host, address, Arc::clone(config))).await;
    match opened {
        None => Finding::fail(
            Check::Certificate,
            "the TLS handshake gets no answer",
            format!("port {} has to be that of HTTPS; a proxy or firewall may hold it up", target.port),
        ),
        Some(Err(error)) => refused_certificate(&target.host, &error),
        Some(Ok(stream)) => valid_certificate(stream.get_ref().1),
    }
    .since(start)
}

pub(super) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Opens TCP and TLS.
pub(super) async fn secure(
    host: &str,
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(config).connect(name, stream).await
}

fn valid_certificate(connection: &rustls::ClientConnection) -> Finding {
    let version =
        if connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_2) { "1.2" } else { "1.3" };
    let chain = connection.peer_certificates().unwrap_or_default();
    let parsed = chain.first().and_then(|first| x509_parser::parse_x509_certificate(first).ok());
    let Some((_, certificate)) = parsed else {
        return Finding::ok(Check::Certificate, format!("valid, TLS {version}"));
    };
    let issuer =
        certificate.issuer().iter_organization().chain(certificate.issuer().iter_common_name()).next();
    let issuer = issuer.and_then(|name| name.as_str().ok()).unwrap_or("nobody named");
    let left = certificate.validity().time_to_expiration().map_or(Duration::ZERO, |left| left.unsigned_abs());
    let days = left.as_secs() / 86_400;
    let message = format!(
        "valid for {days} more days, by {}, a chain of {}, TLS {version}",
        short(issuer),
        chain.len()
    );
    if left < RENEW {
        Finding::warn(
            Check::Certificate,
            message,
            "renew it; see that this happens by itself two weeks before its end",
        )
    } else {
        Finding::ok(Check::Certificate, message)
    }
}

fn refused_certificate(host: &str, error: &io::Error) -> Finding {
    let fail = |message: String, fix: &str| Finding::fail(Check::Certificate, message, fix);
    let Some(cause) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return fail(
            format!("the TLS handshake broke off ({error})"),
            "see the relay's log; a relay at its limit of connections does that, too",
        );
    };
    match certificate_problem(cause) {
        // The words of who joins.
        Some(problem) => fail(format!("the certificate of {host} {}", problem.cause()), problem.action()),
        None => fail(
            format!("no TLS there ({})", short(&cause.to_string())),
            "start the relay with --tls-cert and --tls-key, or give the address with its port of HTTPS",
        ),
    }
}

/// What a stranger sent, fit for a terminal and short.
fn short(text: &str) -> String {
    printable::line(text).chars().take(100).collect()
}

/// An answer over HTTP.
pub(super) struct Answer {
    status: u16,
    date: Option<SystemTime>,
    body: Vec<u8>,
    /// This machine's time in the middle between request and answer.
    asked: SystemTime,
}

/// Asks for `path` with HTTP/1.0, whose answers end with the connection.
pub(super) async fn get(
    target: &Target,
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    path: &str,
) -> io::Result<Answer> {
    let mut stream: Box<dyn Stream> = if target.tls {
        Box::new(secure(&target.host, address, Arc::clone(config)).await?)
    } else {
        Box::new(TcpStream::connect(address).await?)
    };
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {}\r\nUser-Agent: snug-doctor\r\nAccept-Encoding: identity\r\n\r\n",
        target.authority()
    );
    let before = SystemTime::now();
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = vec![0];
    let first = stream.read(&mut bytes).await?;
    let asked = before + before.elapsed().unwrap_or_default() / 2;
    bytes.truncate(first);
    let rest = stream.take(LONGEST_ANSWER).read_to_end(&mut bytes).await;
    // Some servers drop the connection without a goodbye.
    rest.or_else(|error| if error.kind() == io::ErrorKind::UnexpectedEof { Ok(0) } else { Err(error) })?;
    parse(&bytes, asked).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

fn parse(bytes: &[u8], asked: SystemTime) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let date = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("date"))
        .and_then(|(_, value)| httpdate::parse_http_date(value.trim()).ok());
    Some(Answer { status, date, body: bytes[end + 4..].to_vec(), asked })
}

/// The page, the relay's own word on its health, and its clock.
pub(super) async fn pages(
    target: &Target,
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    limits: Limits,
) -> Vec<Finding> {
    let start = Instant::now();
    let (page, health) = tokio::join!(
        limits.within(get(target, address, config, "/")),
        limits.within(get(target, address, config, "/health"))
    );
    let clock = match &page {
        Some(Ok(answer)) => clock(answer),
        _ => Finding::skip(Check::Clock, "no answer of the relay to compare with"),
    };
    vec![page_finding(page).since(start), health_finding(health).since(start), clock.since(start)]
}

fn no_answer(check: Check, answer: Option<io::Result<Answer>>) -> Result<Answer, Finding> {
    let fix = "see the relay's log, and that of a proxy in front of it";
    match answer {
        None => Err(Finding::fail(check, "no answer in time", fix)),
        Some(Err(error)) => Err(Finding::fail(check, format!("no answer ({error})"), fix)),
        Some(Ok(answer)) => Ok(answer),
    }
}

fn page_finding(answer: Option<io::Result<Answer>>) -> Finding {
    let answer = match no_answer(Check::Page, answer) {
        Ok(answer) => answer,
        Err(finding) => return finding,
    };
    let is_ours = answer.body.windows(4).any(|window| window.eq_ignore_ascii_case(b"snug"));
    match answer.status {
        200 if is_ours => Finding::ok(Check::Page, format!("Snug's page, {} bytes", answer.body.len())),
        200 => Finding::fail(
            Check::Page,
            "something else than Snug's page",
            "the address is that of another server, or a proxy leads elsewhere",
        ),
        421 => Finding::fail(
            Check::Page,
            "the relay does not know itself by this name",
            "ask it by its own, or give it this one with --public-url or --allowed-host",
        ),
        status => Finding::fail(
            Check::Page,
            format!("HTTP {status}"),
            "see the relay's log, and that of a proxy in front of it",
        ),
    }
}

fn health_finding(answer: Option<io::Result<Answer>>) -> Finding {
    let answer = match no_answer(Check::Health, answer) {
        Ok(answer) => answer,
        Err(finding) => return finding,
    };
    let Ok(health) = serde_json::from_slice::<serde_json::Value>(&answer.body) else {
        return Finding::fail(
            Check::Health,
            format!("HTTP {}, and not a relay's answer", answer.status),
            "a proxy in front of the relay has to pass /health on",
        );
    };
    let word = |value: &serde_json::Value| short(value["status"].as_str().unwrap_or("unknown"));
    let (status, store, turn) = (word(&health), word(&health["store"]), word(&health["turn"]));
    let version = short(health["version"].as_str().unwrap_or("unknown"));
    let message = format!("relay {version} is {status}, its store {store}, its TURN server {turn}");
    match (status.as_str(), turn.as_str()) {
        ("ok", "ok") => Finding::ok(Check::Health, message),
        ("draining", _) => {
            Finding::warn(Check::Health, message, "it is about to stop: try again when it is back")
        }
        ("ok", "off") => Finding::warn(
            Check::Health,
            message,
            "who is behind a strict firewall cannot take part: run it without --no-turn, unless another server is named with --ice-server",
        ),
        ("ok", _) => {
            Finding::warn(Check::Health, message, "the relay's log says why its TURN server does not run")
        }
        _ => Finding::warn(
            Check::Health,
            message,
            "the relay's log says why its rooms cannot be saved, often a full disk",
        ),
    }
}

fn clock(answer: &Answer) -> Finding {
    let Some(date) = answer.date else {
        return Finding::skip(Check::Clock, "the answer has no date to compare with");
    };
    let ahead = match date.duration_since(answer.asked) {
        Ok(ahead) => i64::try_from(ahead.as_secs()).unwrap_or(i64::MAX),
        Err(behind) => -i64::try_from(behind.duration().as_secs()).unwrap_or(i64::MAX),
    };
    let message = match ahead {
        -2..=2 => "the same here and there".to_owned(),
        ahead if ahead > 0 => format!("the relay's clock is {ahead} s ahead of this machine's"),
        ahead => format!("the relay's clock is {} s behind this machine's", -ahead),
    };
    let fix = "set the clock that is wrong, by a time service such as NTP: certificates and credentials depend on it";
    match ahead.abs() {
        apart if apart <= CLOCK_FINE => Finding::ok(Check::Clock, message),
        apart if apart <= CLOCK_BROKEN => Finding::warn(Check::Clock, message, fix),
        _ => Finding::fail(Check::Clock, message, fix),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by it")]
mod tests {
    use super::super::report::State;
    use super::*;

    fn answer(head: &str, body: &str) -> Option<Answer> {
        parse(
            format!("{head}\r\n\r\n{body}").as_bytes(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
        )
    }

    #[test]
    fn clocks_are_compared_by_the_answers_date() {
        let at = |date: &str| clock(&answer(&format!("HTTP/1.1 200 OK\r\nDATE: {date}"), "").unwrap());
        assert_eq!(at("Sun, 06 Nov 1994 08:49:37 GMT").state, State::Ok);
        let ahead = at("Sun, 06 Nov 1994 08:51:37 GMT");
        assert_eq!(
            (ahead.state, ahead.message.as_str()),
            (State::Warn, "the relay's clock is 120 s ahead of this machine's")
        );
        assert_eq!(at("Sun, 06 Nov 1994 07:49:37 GMT").state, State::Fail);
        assert_eq!(at("soon").state, State::Skip);
    }

    #[test]
    fn health_is_told_with_what_to_do() {
        let at = |body: &str| health_finding(answer("HTTP/1.0 200 OK", body).map(Ok));
        let fine = r#"{"status":"ok","version":"1","store":{"status":"ok"},"turn":{"status":"ok"}}"#;
        assert_eq!(at(fine).state, State::Ok);
        assert_eq!(
            at(&fine.replace(r#""turn":{"status":"ok"}"#, r#""turn":{"status":"off"}"#)).state,
            State::Warn
        );
        assert_eq!(at(&fine.replacen("ok", "degraded", 1)).state, State::Warn);
        assert_eq!(at("<html>").state, State::Fail);
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in ["", "HTTP/1.1", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/2 200\r\n\r\n"] {
            assert!(parse(bytes.as_bytes(), SystemTime::UNIX_EPOCH).is_none(), "{bytes}");
        }
    }
}
