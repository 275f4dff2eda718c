//! What an operator may set: flags, environment variables and a TOML file, in this order of precedence, then defaults.
//! Never keeps a secret where `ps` or a debug print could show it, and never lets a bad value through to the rest.
//!
//! `config/options.rs` is what the operator writes, `config/validate.rs` turns it into [`Config`], whose values need no
//! further checks. Each error names the option, the value, and what to write instead.

mod options;
#[cfg(test)]
mod tests;
mod turn;
mod validate;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use snug_room_proto::{RateLimit, RoomCreation};

use crate::admin::{Command, RoomsCommand};
use crate::admission::{AdmissionConfig, TrustedProxies};
use crate::ice::{Host, IceConfig};
use crate::quic::QuicListen;

pub(crate) use options::{LogFormat, LogLevel, Options};
#[cfg(test)]
pub(crate) use turn::Listen;
pub(crate) use turn::TurnPlan;

/// Everything the relay needs to know, checked. It has no `Debug`, for it holds the TURN secret.
pub(crate) struct Config {
    /// Where the page and the WebSocket are served. At least one.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where clients that are no browser may use QUIC; nowhere without `tls`.
    pub(crate) quic: QuicListen,
    /// How participants reach the relay, when that differs from where it listens.
    pub(crate) public_url: Option<Origin>,
    /// HTTPS on every address of `listen`; plain HTTP without it.
    pub(crate) tls: Option<TlsFiles>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub(crate) trusted_proxies: TrustedProxies,
    /// Origins beside the relay's own that may open a WebSocket, as browsers write them.
    pub(crate) allowed_origins: Vec<String>,
    /// Names of the relay beside its own and that of `public_url`.
    pub(crate) allowed_hosts: Vec<Host>,
    /// Where rooms are kept.
    pub(crate) data_dir: PathBuf,
    /// Where Prometheus may ask; `None` for nowhere.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// The relay's own STUN and TURN server, if there is to be one.
    pub(crate) turn: Option<TurnPlan>,
    /// STUN and TURN servers for participants.
    pub(crate) ice: IceConfig,
    /// Days after which a room that nobody needs is removed; 0 for never.
    pub(crate) room_expiry: u32,
    /// Who may make rooms.
    pub(crate) creation: RoomCreation,
    /// Rooms on disk.
    pub(crate) max_rooms: u64,
    /// Caps on connections.
    pub(crate) admission: AdmissionConfig,
    /// Joins of one address block.
    pub(crate) joins: RateLimit,
    /// New rooms of one address block.
    pub(crate) creations: RateLimit,
    /// Messages of one connection.
    pub(crate) messages: RateLimit,
    /// What is logged and how.
    pub(crate) log: Log,
    /// How long a stop waits for participants to reconnect elsewhere.
    pub(crate) drain: Duration,
    /// Whether the first room link is kept from the console.
    pub(crate) quiet: bool,
    /// Whether a room link is printed and nothing else is done.
    pub(crate) print_link: bool,
    /// Whether a QR code is printed with it, terminal permitting.
    pub(crate) qr: bool,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The chain, leaf first.
    pub(crate) cert: PathBuf,
    /// The key of the leaf.
    pub(crate) key: PathBuf,
}

/// How log lines look, and which there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// How they look.
    pub(crate) format: LogFormat,
    /// The least important that is written.
    pub(crate) level: LogLevel,
}

impl Log {
    /// Sends log lines to standard error from here on. To be called once.
    pub(crate) fn start(self) {
        let lines =
            tracing_subscriber::fmt().with_env_filter(self.level.filter()).with_writer(std::io::stderr);
        match self.format {
            LogFormat::Json => lines.json().init(),
            LogFormat::Text => {
                let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
                lines.with_ansi(colour).with_target(false).init();
            }
        }
    }
}

impl LogLevel {
    /// Which lines are written, for `tracing_subscriber::EnvFilter`. Libraries stay at warnings: what they say of connections is for their
    /// own authors. The STUN codec and QUIC say nothing: they would warn of every packet that a stranger mangles, with its address.
    fn filter(self) -> String {
        let level = self.as_str();
        let ours = match self {
            Self::Error => level.to_owned(),
            _ => format!("warn,snug_relay={level},snug_room_proto={level}"),
        };
        format!("{ours},stun_types=off,turn_types=off,quinn=off,quinn_proto=off,quinn_udp=off")
    }
}

/// Scheme, host and port as browsers send them in `Origin`: lower case, no default port, no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin(String);

impl Origin {
    /// Host, and port unless it is the scheme's own.
    pub(crate) fn authority(&self) -> &str {
        self.0.split_once("://").map_or("", |(_, authority)| authority)
    }
}

/// Why the relay does not start. The text names the option and what to write instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file given by `--config`.
    #[error("cannot read the configuration file {}: {cause}; check --config (or SNUG_CONFIG)", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// It is not TOML, or a value has the wrong type.
    #[error("the configuration file {} has an error: {cause}", .path.display())]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Where and what.
        cause: toml::de::Error,
    },
    /// A key that is none.
    #[error("the configuration file {} has an unknown key, {key:?}; {hint}", .path.display())]
    UnknownKey {
        /// Which.
        path: PathBuf,
        /// What stands there.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// A value that is none.
    #[error("{option} {value}: {problem}; {instead}")]
    Value {
        /// The option, as a flag.
        option: &'static str,
        /// What was written.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What to write.
        instead: String,
    },
    /// Values that are sound alone but not together, or one that is missing.
    #[error("{0}")]
    Combination(String),
}

/// Where variables come from: the process, or a test.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What the process is to do.
pub(crate) enum Task {
    /// Be a relay.
    Serve(Box<Config>),
    /// Answer a question about the rooms in a directory.
    Rooms(PathBuf, RoomsCommand),
}

/// Reads the command line, the environment and the file. For `--help`, `--version` and unknown flags it prints and ends the
/// process, as clap does.
///
/// # Errors
/// See [`ConfigError`].
pub(crate) fn load() -> Result<Task, ConfigError> {
    let environment = |name: &str| std::env::var_os(name);
    let mut flags = Options::parse();
    match flags.command.take() {
        None => Ok(Task::Serve(Box::new(resolve(flags, &environment, open_file_limit())?))),
        // Whoever looks after the rooms need not be able to read the certificate.
        Some(Command::Rooms(command)) => {
            let data_dir = with_file(flags)?.data_dir;
            Ok(Task::Rooms(validate::data_dir(data_dir, &environment)?, command))
        }
    }
}

/// `flags` already has what clap took from the environment.
fn resolve(flags: Options, environment: Environment<'_>, files: Option<u64>) -> Result<Config, ConfigError> {
    validate::validate(with_file(flags)?, environment, files)
}

/// The flags over what the file says.
fn with_file(flags: Options) -> Result<Options, ConfigError> {
    match flags.config.clone() {
        Some(path) => Ok(flags.or(read_file(&path)?)),
        None => Ok(flags),
    }
}

impl Config {
    /// The scheme of the addresses it listens on.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// What stands before the path of a room link: the public URL, or else the first of `addresses`, the ones that the
    /// relay got. "Any address" is no address to open, so `localhost` stands for it.
    pub(crate) fn base_url(&self, addresses: &[SocketAddr]) -> String {
        if let Some(url) = &self.public_url {
            return url.0.clone();
        }
        let scheme = self.scheme();
        match addresses.first() {
            Some(address) if address.ip().is_unspecified() => {
                format!("{scheme}://localhost:{}", address.port())
            }
            Some(address) => format!("{scheme}://{address}"),
            None => format!("{scheme}://localhost"),
        }
    }
}

fn read_file(path: &Path) -> Result<Options, ConfigError> {
    let file = |cause| ConfigError::File { path: path.to_owned(), cause };
    let syntax = |cause| ConfigError::Syntax { path: path.to_owned(), cause };
    let text = std::fs::read_to_string(path).map_err(file)?;
    let table: toml::Table = text.parse().map_err(syntax)?;
    let known = Options::keys();
    for key in table.keys() {
        if !known.contains(key) {
            let hint = options::did_you_mean(key, &known);
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key: key.clone(), hint });
        }
    }
    toml::from_str(&text).map_err(syntax)
}

/// How many files this process may have open, raised to what the system lets it have; `None` where there is no limit
/// or no way to ask.
fn open_file_limit() -> Option<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // macOS refuses "unlimited" here; then the lower figure stands.
        if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok() {
            return limit.maximum;
        }
        limit.current
    }
    #[cfg(not(unix))]
    None
}
