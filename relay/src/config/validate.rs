//! From what was written to what the relay uses: defaults, ranges, formats, and what goes together.
//! Never reads more than the secret's file, and never prints that.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use snug_room_proto::{RateLimit, RoomCreation};
use snug_turn_proto::Secret;
use snug_wire::CreationKey;
use snug_wire::secret::CreationKeyError;
use zeroize::Zeroizing;

use crate::admission::{AdmissionConfig, CidrError, MAX_HALF_OPEN, TrustedProxies};
use crate::ice::{Host, IceConfig, IceUrl, PUBLIC_STUN, read_secret};
use crate::quic::QuicListen;

use super::options::CreationMode;
use super::turn::{self, Around, TurnPlan};
use super::{Config, ConfigError, Environment, Log, Options, Origin, TlsFiles};

/// Files that are no connections: listeners, room files, the certificate, the log, and what is being accepted.
const RESERVED_FILES: u64 = 128;
/// Most STUN and TURN servers beside the relay's own: a browser asks each of them for each connection.
const MOST_SERVERS: usize = 16;
/// Connections allowed when nobody says otherwise.
const DEFAULT_CONNECTIONS: u64 = 10_000;

pub(super) fn validate(
    options: Options,
    environment: Environment<'_>,
    files: Option<u64>,
) -> Result<Config, ConfigError> {
    let listen = listen(&options.listen)?;
    let public_url = options.public_url.as_deref().map(public_url).transpose()?;
    let tls = tls(options.tls_cert.clone(), options.tls_key.clone())?;
    if tls.is_none() && !options.allow_plain_http.unwrap_or(false) {
        refuse_plain_http(&listen)?;
    }
    let metrics_listen = match options.metrics_listen.as_deref() {
        None => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9464))),
        Some("off") => None,
        Some(text) => Some(address("--metrics-listen", text, "127.0.0.1:9464, or off")?),
    };
    let proxies = each("--trusted-proxy", &options.trusted_proxy, "127.0.0.1 or 10.0.0.0/8", |text| {
        text.parse().map_err(|error: CidrError| error.to_string())
    })?;
    let trusted_proxies = TrustedProxies::new(proxies);
    let allowed_origins = each("--allowed-origin", &options.allowed_origin, "tauri://localhost", origin)?;
    let allowed_hosts = each("--allowed-host", &options.allowed_host, "meet.lan", |text| {
        Host::parse(text)
            .ok_or_else(|| "is not a name or an address (a port does not belong to it)".to_owned())
    })?;
    let per_block = options.connections_per_block;
    let per_block = number("--connections-per-block", per_block, 256, 1..=10_000_000)? as usize;
    let seconds =
        |option, value, default, range| Ok(Duration::from_secs(number(option, value, default, range)?));
    let ttl = seconds("--turn-ttl-seconds", options.turn_ttl_seconds, 3600, 300..=86_400)?;
    let secret = secret(options.turn_secret_file.as_deref(), environment)?;
    let wants_turn = !options.no_turn.unwrap_or(false);
    let max_connections = max_connections(options.max_connections, files, wants_turn)?;
    let around = Around {
        listen: &listen,
        tls: tls.is_some(),
        public: public_url.is_some(),
        files: files.map(|files| files.saturating_sub(RESERVED_FILES + max_connections as u64)),
    };
    let turn = turn::plan(&options, &around)?;
    let quic = quic(&options.quic_listen, tls.is_some(), turn.as_ref())?;
    let host = turn_host(options.turn_host.as_deref(), public_url.as_ref())?;
    let urls = ice_urls(&options.ice_server, options.public_stun.unwrap_or(false), secret.is_some())?;
    Ok(Config {
        listen,
        quic,
        public_url,
        tls,
        allowed_origins: allowed_origins.into_iter().map(|origin| origin.0).collect(),
        allowed_hosts,
        data_dir: data_dir(options.data_dir, environment)?,
        metrics_listen,
        ice: IceConfig { urls, secret, ttl, host },
        room_expiry: number("--room-expiry", options.room_expiry, 90, 0..=36_500)? as u32,
        creation: creation(options.room_creation, options.creation_key_file.as_deref(), environment)?,
        max_rooms: number("--max-rooms", options.max_rooms, 100_000, 1..=100_000_000)?,
        admission: AdmissionConfig {
            max_connections,
            per_block,
            trusted_proxies: trusted_proxies.clone(),
            max_half_open: MAX_HALF_OPEN,
        },
        trusted_proxies,
        turn,
        joins: RateLimit {
            burst: count("--joins-burst", options.joins_burst, 30)?,
            per_second: count("--joins-per-minute", options.joins_per_minute, 30)? / 60.0,
        },
        creations: RateLimit {
            burst: count("--creations-burst", options.creations_burst, 20)?,
            per_second: count("--creations-per-minute", options.creations_per_minute, 1)? / 60.0,
        },
        messages: RateLimit {
            burst: count("--messages-burst", options.messages_burst, 240)?,
            per_second: count("--messages-per-second", options.messages_per_second, 60)?,
        },
        log: Log {
            format: options.log_format.unwrap_or_default(),
            level: options.log_level.unwrap_or_default(),
        },
        drain: seconds("--drain-seconds", options.drain_seconds, 5, 0..=300)?,
        quiet: options.quiet.unwrap_or(false),
        print_link: options.print_link,
        qr: !options.no_qr.unwrap_or(false),
    })
}

pub(super) fn bad(
    option: &'static str,
    value: impl ToString,
    problem: impl ToString,
    example: &str,
) -> ConfigError {
    ConfigError::Value {
        option,
        value: value.to_string(),
        problem: problem.to_string(),
        instead: format!("write for example {example}"),
    }
}

/// All of a repeatable option.
pub(super) fn each<T>(
    option: &'static str,
    texts: &[String],
    example: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ConfigError> {
    let parse = |text: &String| parse(text).map_err(|problem| bad(option, text, problem, example));
    texts.iter().map(parse).collect()
}

pub(super) fn number(
    option: &'static str,
    value: Option<u64>,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<u64, ConfigError> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    let problem = format!("is not between {} and {}", range.start(), range.end());
    Err(bad(option, value, problem, &default.to_string()))
}

fn count(option: &'static str, value: Option<u64>, default: u64) -> Result<f64, ConfigError> {
    Ok(number(option, value, default, 1..=1_000_000)? as f64)
}

pub(super) fn address(option: &'static str, text: &str, example: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| {
        let problem = if text.parse::<u16>().is_ok() || text.starts_with(':') {
            "has no address before the port"
        } else if text.parse::<std::net::IpAddr>().is_ok() {
            "has no port"
        } else {
            "is not an address and a port"
        };
        bad(option, text, problem, example)
    })
}

fn listen(texts: &[String]) -> Result<Vec<SocketAddr>, ConfigError> {
    if texts.is_empty() {
        return Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))]);
    }
    let mut all = Vec::with_capacity(texts.len());
    for text in texts {
        let listen = address("--listen", text, "127.0.0.1:8080, 0.0.0.0:443 or [::]:443")?;
        if listen.port() != 0 && all.contains(&listen) {
            return Err(bad("--listen", text, "is given twice", "each address once, such as 127.0.0.1:8080"));
        }
        all.push(listen);
    }
    Ok(all)
}

/// Clients look for QUIC at the port of HTTPS, so that is where it is.
fn quic(texts: &[String], tls: bool, turn: Option<&TurnPlan>) -> Result<QuicListen, ConfigError> {
    const OPTION: &str = "--quic-listen";
    let listen = match texts {
        [] if !tls => return Ok(QuicListen::Off),
        [] => return Ok(QuicListen::LikeHttps),
        [off] if off == "off" => return Ok(QuicListen::Off),
        given => given,
    };
    if !tls {
        return Err(ConfigError::Combination(format!(
            "{OPTION} {} needs a certificate, since QUIC is always encrypted; give --tls-cert and --tls-key, or {OPTION} off",
            listen.join(",")
        )));
    }
    let mut all = Vec::with_capacity(listen.len());
    for text in listen {
        let address = address(OPTION, text, "0.0.0.0:443, [::]:443 or off")?;
        if address.port() != 0 && all.contains(&address) {
            return Err(bad(OPTION, text, "is given twice", "each address once, such as 0.0.0.0:443"));
        }
        all.push(address);
    }
    if let Some(turn) = turn {
        turn::refuse_overlap(OPTION, &all, &turn.listen.addresses, "the STUN and TURN server's", "443")?;
    }
    Ok(QuicListen::At(all))
}

fn refuse_plain_http(listen: &[SocketAddr]) -> Result<(), ConfigError> {
    let Some(open) = listen.iter().find(|address| !address.ip().to_canonical().is_loopback()) else {
        return Ok(());
    };
    Err(ConfigError::Combination(format!(
        "--listen {open} would serve plain HTTP to other machines, where browsers refuse camera and microphone; \
         give --tls-cert and --tls-key, or, when a proxy in front does HTTPS, --allow-plain-http"
    )))
}

fn tls(cert: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<TlsFiles>, ConfigError> {
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (Some(cert), None) => Err(ConfigError::Combination(format!(
            "--tls-cert {} is given without its key; give --tls-key as well (one file may hold both)",
            cert.display()
        ))),
        (None, Some(key)) => Err(ConfigError::Combination(format!(
            "--tls-key {} is given without a certificate; give --tls-cert as well",
            key.display()
        ))),
    }
}

/// Scheme, host and port, normalised as browsers do.
fn origin(text: &str) -> Result<Origin, String> {
    let (scheme, rest) = text.split_once("://").ok_or("has no scheme, such as https://")?;
    let scheme = scheme.to_ascii_lowercase();
    let known =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.');
    if !scheme.starts_with(|first: char| first.is_ascii_lowercase()) || !scheme.bytes().all(known) {
        return Err("has no valid scheme before ://".into());
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest).to_ascii_lowercase();
    if authority.contains(['/', '?', '#']) {
        return Err("has something behind the host; only scheme, host and port count".into());
    }
    if authority.contains('@') {
        return Err("has a user name in it".into());
    }
    if !authority.is_ascii() {
        return Err("has letters that host names do not have; write the xn-- form of the name".into());
    }
    let (host, port) = match authority.rfind(':').filter(|at| !authority[*at..].contains(']')) {
        Some(at) => (&authority[..at], Some(&authority[at + 1..])),
        None => (authority.as_str(), None),
    };
    let is_host = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            !host.is_empty() && host.bytes().all(plain)
        }
    };
    if !is_host {
        return Err("has no valid host".into());
    }
    let port: Option<u16> = match port {
        None => None,
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0).ok_or("has no valid port")?),
    };
    let default = match scheme.as_str() {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    };
    Ok(Origin(match port.filter(|port| Some(*port) != default) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }))
}

fn public_url(text: &str) -> Result<Origin, ConfigError> {
    let example = "https://meet.example.org";
    let url = origin(text).map_err(|problem| bad("--public-url", text, problem, example))?;
    if !url.0.starts_with("https://") && !url.0.starts_with("http://") {
        return Err(bad("--public-url", text, "is not a web address", example));
    }
    Ok(url)
}

/// Who may make rooms, and the key for it.
fn creation(
    mode: Option<CreationMode>,
    file: Option<&Path>,
    environment: Environment<'_>,
) -> Result<RoomCreation, ConfigError> {
    let key = creation_key(file, environment)?;
    match (mode, key) {
        (None | Some(CreationMode::Open), None) => Ok(RoomCreation::Open),
        (None | Some(CreationMode::Key), Some(key)) => Ok(RoomCreation::Key(key)),
        (Some(CreationMode::Closed), _) => Ok(RoomCreation::Closed),
        (Some(CreationMode::Key), None) => Err(ConfigError::Combination(
            "--room-creation key needs a key: write one into a file and give that with --creation-key-file, or \
             put it into the variable SNUG_CREATION_KEY"
                .into(),
        )),
        (Some(CreationMode::Open), Some(_)) => Err(ConfigError::Combination(
            "--room-creation open takes no key, and one is given; leave the key out, or write --room-creation key"
                .into(),
        )),
    }
}

fn creation_key(
    file: Option<&Path>,
    environment: Environment<'_>,
) -> Result<Option<CreationKey>, ConfigError> {
    const VARIABLE: &str = "SNUG_CREATION_KEY";
    let (text, source) = match (file, environment(VARIABLE)) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let problem = format!("both {VARIABLE} and --creation-key-file are given; give one of them");
            return Err(ConfigError::Combination(problem));
        }
        (Some(file), None) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                bad(
                    "--creation-key-file",
                    file.display(),
                    error,
                    "the path of a file that the relay may read",
                )
            })?;
            (Zeroizing::new(text), format!("the file {}", file.display()))
        }
        (None, Some(variable)) => {
            (Zeroizing::new(variable.to_string_lossy().into_owned()), VARIABLE.to_owned())
        }
    };
    let key = text.parse().map_err(|error: CreationKeyError| {
        ConfigError::Combination(format!("{source} holds no creation key: {error}; write one line of text"))
    })?;
    Ok(Some(key))
}

/// The directory for the rooms.
pub(super) fn data_dir(given: Option<PathBuf>, environment: Environment<'_>) -> Result<PathBuf, ConfigError> {
    let variable = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd separates several with colons; the first is ours.
    let state = || std::env::split_paths(&environment("STATE_DIRECTORY")?).find(|path| path.is_absolute());
    let xdg =
        || variable("XDG_DATA_HOME").filter(|path| path.is_absolute()).map(|path| path.join("snug-relay"));
    let home = || variable("HOME").map(|path| path.join(".local/share/snug-relay"));
    let local = || variable("LOCALAPPDATA").map(|path| path.join("snug-relay"));
    let found = given.or_else(state).or_else(xdg).or_else(home).or_else(local);
    found.filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| {
        ConfigError::Combination(
            "there is no place for the rooms: neither STATE_DIRECTORY, XDG_DATA_HOME nor HOME is set; \
             give --data-dir, for example --data-dir /var/lib/snug-relay"
                .into(),
        )
    })
}

fn secret(file: Option<&Path>, environment: Environment<'_>) -> Result<Option<Secret>, ConfigError> {
    const VARIABLE: &str = "SNUG_TURN_SECRET";
    let variable = environment(VARIABLE);
    let (text, source) = match (file, variable) {
        (None, None) => return Ok(None),
        (Some(file), Some(_)) => {
            return Err(ConfigError::Combination(format!(
                "both {VARIABLE} and --turn-secret-file {} are given; give one of them",
                file.display()
            )));
        }
        (Some(file), None) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                bad("--turn-secret-file", file.display(), error, "the path of a file that the relay may read")
            })?;
            (text, format!("the file {}", file.display()))
        }
        (None, Some(variable)) => {
            let text = variable.into_string().map_err(|variable| {
                drop(Zeroizing::new(variable.into_encoded_bytes()));
                ConfigError::Combination(format!("{VARIABLE} is not valid UTF-8; make a new secret"))
            })?;
            (text, VARIABLE.to_owned())
        }
    };
    let secret = read_secret(text);
    let empty = || format!("{source} holds no secret; put the one of the TURN server there");
    secret.map(Some).ok_or_else(|| ConfigError::Combination(empty()))
}

/// What is the same for all participants; `None` where each is told the name that it used itself.
fn turn_host(given: Option<&str>, public_url: Option<&Origin>) -> Result<Option<Host>, ConfigError> {
    let Some(given) = given else {
        return Ok(public_url.and_then(|url| Some(Host::of_authority(url.authority())?.0)));
    };
    let problem = "is not a name or an address (the port is that of --turn-listen)";
    let host = Host::parse(given).ok_or_else(|| bad("--turn-host", given, problem, "turn.example.org"))?;
    Ok(Some(host))
}

fn ice_urls(texts: &[String], public_stun: bool, has_secret: bool) -> Result<Vec<IceUrl>, ConfigError> {
    let example = "stun:turn.example.org:3478 or turn:turn.example.org:3478";
    if let Some(text) = texts.get(MOST_SERVERS) {
        let problem = format!("is one more than {MOST_SERVERS}");
        return Err(bad("--ice-server", text, problem, "the few that are near your participants"));
    }
    let mut urls =
        each("--ice-server", texts, example, |text| IceUrl::parse(text).map_err(|error| error.to_string()))?;
    if let Some(turn) = urls.iter().find(|url| url.needs_credential()).filter(|_| !has_secret) {
        return Err(ConfigError::Combination(format!(
            "--ice-server {turn} needs the secret of that server; put it into SNUG_TURN_SECRET or into a file \
             named by --turn-secret-file"
        )));
    }
    if public_stun {
        urls.push(
            IceUrl::parse(PUBLIC_STUN).map_err(|error| bad("--public-stun", PUBLIC_STUN, error, example))?,
        );
    }
    Ok(urls)
}

/// With a TURN server half of the files are left for relayed traffic, unless the operator says otherwise.
fn max_connections(given: Option<u64>, files: Option<u64>, turn: bool) -> Result<usize, ConfigError> {
    let most = files.map_or(u64::from(u32::MAX), |files| files.saturating_sub(RESERVED_FILES));
    if most == 0 {
        return Err(ConfigError::Combination(format!(
            "this process may open only {} files, and the relay needs {RESERVED_FILES} beside its connections; \
             raise the limit (ulimit -n, or LimitNOFILE= in the systemd unit)",
            files.unwrap_or(0)
        )));
    }
    let share = if turn { most.div_ceil(2) } else { most };
    let value = number("--max-connections", given, DEFAULT_CONNECTIONS.min(share), 1..=10_000_000)?;
    if value > most {
        return Err(ConfigError::Value {
            option: "--max-connections",
            value: value.to_string(),
            problem: format!("this process may open only {} files, which allows {most}", files.unwrap_or(0)),
            instead: "raise the limit (ulimit -n, or LimitNOFILE= in the systemd unit) or give less".into(),
        });
    }
    Ok(value as usize)
}
