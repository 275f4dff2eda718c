//! The options as an operator writes them, for clap and for TOML alike.
//! Never checked here beyond their type: a flag, a variable and a line of the file all go through `validate.rs`.
//!
//! Every field is optional, so that "not given" can be told from "given as the default" when sources are laid over
//! each other. Defaults stand in `validate.rs` and, for people, in the help texts below.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{CommandFactory, Parser, ValueEnum};
use serde::Deserialize;

use crate::admin::Command;

const EXAMPLES: &str = "\
Examples:
  Try it on this machine; open the link that it prints:
      snug-relay

  On the internet, with a certificate:
      snug-relay --listen 0.0.0.0:443 --listen '[::]:443' --public-url https://meet.example.org \\
          --tls-cert /etc/ssl/meet/fullchain.pem --tls-key /etc/ssl/meet/privkey.pem

  Behind a proxy on the same machine that does HTTPS:
      snug-relay --public-url https://meet.example.org --trusted-proxy 127.0.0.1

  On a cloud machine whose public address is not its own (1:1 NAT), add:
          --external-address 203.0.113.7

  With another TURN server instead of the relay's own:
      SNUG_TURN_SECRET=... snug-relay --no-turn --ice-server stun:turn.example.org:3478 \\
          --ice-server turn:turn.example.org:3478 --ice-server 'turns:turn.example.org:5349?transport=tcp'

  Look after the rooms on disk, while the relay runs or not:
      snug-relay rooms list
      snug-relay rooms prune --older-than 180 --dry-run

Each option may also stand in the file given by --config, under its long name without the dashes:
      listen = [\"0.0.0.0:443\", \"[::]:443\"]
      public-url = \"https://meet.example.org\"
      max-rooms = 500

A flag counts before its environment variable, that before the file, and the file before the default.";

const LISTENING: &str = "Where it listens";
const HTTPS: &str = "HTTPS and proxies";
const STORAGE: &str = "Storage";
const TURN: &str = "The relay's own STUN and TURN server";
const CONNECTING: &str = "Connecting participants (STUN and TURN)";
const LIMITS: &str = "Limits";
const OUTPUT: &str = "Log and console";

/// Snug's relay: video calls for rooms of two to ten. It serves the page that guests open, brings participants
/// together and keeps the rooms; sound and pictures go directly between participants, or, sealed, through its TURN server
/// where nothing else gets through.
#[derive(Clone, Debug, Default, Deserialize, Parser)]
#[command(name = "snug-relay", version, after_help = EXAMPLES, max_term_width = 110)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Options {
    /// What to do instead of running a relay.
    #[command(subcommand)]
    #[serde(skip)]
    pub(crate) command: Option<Command>,

    /// A TOML file with options
    #[arg(long, value_name = "FILE", env = "SNUG_CONFIG", global = true)]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,

    /// Print the link to a room and end
    ///
    /// The room is made when somebody opens the link. The other options have to be those of the relay, for the link's
    /// address is made from them.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) print_link: bool,

    /// Address and port to serve on; may be given more than once [default: 127.0.0.1:8080]
    ///
    /// Port 0 takes any free port. An address other than loopback needs --tls-cert and --tls-key, or
    /// --allow-plain-http: browsers give a page the camera and the microphone only over HTTPS or on loopback.
    #[arg(long, value_name = "ADDRESS:PORT", env = "SNUG_LISTEN", value_delimiter = ',', help_heading = LISTENING)]
    pub(crate) listen: Vec<String>,

    /// UDP address and port of QUIC, or "off"; may be given more than once [default: addresses and ports of --listen, when
    /// there is a certificate]
    ///
    /// Desktop and command-line clients try it first: it survives a change of network. They look for it at the port of HTTPS,
    /// so another port needs something in front that brings them to it. Without it they use WebSocket, as browsers do.
    #[arg(long, value_name = "ADDRESS:PORT", env = "SNUG_QUIC_LISTEN", value_delimiter = ',', help_heading = LISTENING)]
    pub(crate) quic_listen: Vec<String>,

    /// How participants reach the relay, such as https://meet.example.org [default: the address it listens on]
    ///
    /// It stands in the room link that the relay prints, and pages of this address may connect.
    #[arg(long, value_name = "URL", env = "SNUG_PUBLIC_URL", help_heading = LISTENING)]
    pub(crate) public_url: Option<String>,

    /// Another origin that may connect, such as tauri://localhost; may be given more than once
    ///
    /// Pages of the relay itself and clients that are no browser may always connect.
    #[arg(long, value_name = "ORIGIN", env = "SNUG_ALLOWED_ORIGIN", value_delimiter = ',', help_heading = LISTENING)]
    pub(crate) allowed_origin: Vec<String>,

    /// Another name by which browsers may ask the relay, such as meet.lan; may be given more than once
    ///
    /// Requests by other names are refused, since their owners could point them here and let their pages use the relay.
    /// Addresses, localhost, the machine's name (also with .local), the names of the certificate and that of --public-url
    /// are known.
    #[arg(long, value_name = "HOST", env = "SNUG_ALLOWED_HOST", value_delimiter = ',', help_heading = LISTENING)]
    pub(crate) allowed_host: Vec<String>,

    /// Where Prometheus may fetch /metrics, or "off" [default: 127.0.0.1:9464]
    ///
    /// It is a listener of its own and has no password: keep it on loopback or in a private network.
    #[arg(long, value_name = "ADDRESS:PORT", env = "SNUG_METRICS_LISTEN", help_heading = LISTENING)]
    pub(crate) metrics_listen: Option<String>,

    /// Certificate chain, PEM, the relay's own certificate first
    ///
    /// It is read again when the file changes; open calls stay.
    #[arg(long, value_name = "FILE", env = "SNUG_TLS_CERT", help_heading = HTTPS)]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", env = "SNUG_TLS_KEY", help_heading = HTTPS)]
    pub(crate) tls_key: Option<PathBuf>,

    /// Serve plain HTTP on an address other than loopback, for a proxy on another machine that does HTTPS
    #[arg(
        long, value_name = "BOOL", env = "SNUG_ALLOW_PLAIN_HTTP", help_heading = HTTPS,
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new()
    )]
    pub(crate) allow_plain_http: Option<bool>,

    /// Address or range of a proxy, such as 127.0.0.1 or 10.0.0.0/8; may be given more than once
    ///
    /// From these alone X-Forwarded-For is believed. Without it all participants behind a proxy share one address, and
    /// with it one budget of joins and wrong passwords.
    #[arg(long, value_name = "ADDRESS[/PREFIX]", env = "SNUG_TRUSTED_PROXY", value_delimiter = ',', help_heading = HTTPS)]
    pub(crate) trusted_proxy: Vec<String>,

    /// Directory for the rooms [default: $STATE_DIRECTORY, $XDG_DATA_HOME/snug-relay or ~/.local/share/snug-relay]
    ///
    /// It is made when it is missing. Two relays cannot share one.
    #[arg(long, value_name = "DIRECTORY", env = "SNUG_DATA_DIR", help_heading = STORAGE, global = true)]
    pub(crate) data_dir: Option<PathBuf>,

    /// Days after which a room is removed in which two people never met and that has no password, 0 for never [default: 90]
    ///
    /// When nine tenths of --max-rooms are taken such rooms go earlier, those first that were unused for longest. Their links go
    /// on to work: whoever opens one first makes the room anew.
    #[arg(long, value_name = "DAYS", env = "SNUG_ROOM_EXPIRY", help_heading = STORAGE)]
    pub(crate) room_expiry: Option<u64>,

    /// Who may make rooms: everybody, who has the key, or nobody [default: open, or key with --creation-key-file]
    ///
    /// Rooms that there are can be joined in any case.
    #[arg(long, value_name = "WHO", env = "SNUG_ROOM_CREATION", help_heading = STORAGE)]
    pub(crate) room_creation: Option<CreationMode>,

    /// File with the key for --room-creation key
    ///
    /// Or put the key itself into the variable SNUG_CREATION_KEY. The page asks for it when a room is to be made.
    #[arg(long, value_name = "FILE", env = "SNUG_CREATION_KEY_FILE", help_heading = STORAGE)]
    pub(crate) creation_key_file: Option<PathBuf>,

    /// Run no STUN and TURN server
    ///
    /// Without one participants behind home routers may not find each other, unless --ice-server names another.
    #[arg(
        long, value_name = "BOOL", env = "SNUG_NO_TURN", help_heading = TURN,
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new()
    )]
    pub(crate) no_turn: Option<bool>,

    /// Address and port of the STUN and TURN server, UDP and TCP; may be given more than once [default: port 3478 of all
    /// addresses, or of loopback while --listen is loopback and there is no --public-url]
    ///
    /// [::] is IPv6 alone here. Port 0 takes any free port. When the default is taken by another program the relay goes on
    /// without until it is free; an address that is given here has to be free.
    #[arg(long, value_name = "ADDRESS:PORT", env = "SNUG_TURN_LISTEN", value_delimiter = ',', help_heading = TURN)]
    pub(crate) turn_listen: Vec<String>,

    /// Address and port of the TURN server over TLS, or "off"; may be given more than once [default: port 5349 of the
    /// addresses of --turn-listen, when there is a certificate]
    ///
    /// It uses --tls-cert and --tls-key. Networks that let nothing through but HTTPS may let port 443 through: where the
    /// page is elsewhere, give that.
    #[arg(long, value_name = "ADDRESS:PORT", env = "SNUG_TURN_TLS_LISTEN", value_delimiter = ',', help_heading = TURN)]
    pub(crate) turn_tls_listen: Vec<String>,

    /// UDP ports from which traffic is relayed [default: 10000-20000]
    ///
    /// The firewall must let them in. One port for each participant's allocation; keep them apart from those that the
    /// system gives to outgoing connections (on Linux 32768-60999, net.ipv4.ip_local_port_range).
    #[arg(long, value_name = "FIRST-LAST", env = "SNUG_TURN_PORTS", help_heading = TURN)]
    pub(crate) turn_ports: Option<String>,

    /// Address under which others reach this machine, when it is not its own; one for IPv4, one for IPv6 [default:
    /// detected]
    ///
    /// Needed behind a router and in clouds that give a machine a private address and translate a public one to it.
    #[arg(long, value_name = "ADDRESS", env = "SNUG_EXTERNAL_ADDRESS", value_delimiter = ',', help_heading = TURN)]
    pub(crate) external_address: Vec<String>,

    /// Name or address of the STUN and TURN server that participants are told [default: the host of --public-url, or
    /// that by which each participant reached the relay]
    ///
    /// Needed when the page is reached through something that passes on HTTPS alone, such as a CDN.
    #[arg(long, value_name = "HOST", env = "SNUG_TURN_HOST", help_heading = TURN)]
    pub(crate) turn_host: Option<String>,

    /// Address or range of private or neighbouring addresses to which traffic may be relayed, such as 192.168.1.0/24; may
    /// be given more than once
    ///
    /// Only public addresses behind a router may be reached otherwise, so that nobody uses the server to look around in
    /// your network.
    /// Give the range of your participants if some of them are in a network that others reach through this server alone.
    /// Whoever is in a room can then send UDP to every machine of that range.
    #[arg(long, value_name = "ADDRESS[/PREFIX]", env = "SNUG_TURN_ALLOW_PEER", value_delimiter = ',', help_heading = TURN)]
    pub(crate) turn_allow_peer: Vec<String>,

    /// Relayed traffic of one participant, megabits a second in each direction, 0 for no limit [default: 100]
    #[arg(long, value_name = "MEGABITS", env = "SNUG_TURN_PARTICIPANT_MBPS", help_heading = TURN)]
    pub(crate) turn_participant_mbps: Option<u64>,

    /// Relayed traffic of one room, megabits a second in each direction, 0 for no limit [default: 500]
    #[arg(long, value_name = "MEGABITS", env = "SNUG_TURN_ROOM_MBPS", help_heading = TURN)]
    pub(crate) turn_room_mbps: Option<u64>,

    /// Relayed traffic of one address block (IPv4 /24, IPv6 /56), megabits a second in each direction, 0 for no limit [default: 500]
    #[arg(long, value_name = "MEGABITS", env = "SNUG_TURN_SOURCE_MBPS", help_heading = TURN)]
    pub(crate) turn_source_mbps: Option<u64>,

    /// Relayed traffic of all together, megabits a second in each direction, 0 for no limit [default: 0]
    #[arg(long, value_name = "MEGABITS", env = "SNUG_TURN_TOTAL_MBPS", help_heading = TURN)]
    pub(crate) turn_total_mbps: Option<u64>,

    /// Allocations of one participant: a browser asks for some with each of the others [default: 256]
    #[arg(long, value_name = "COUNT", env = "SNUG_TURN_PARTICIPANT_ALLOCATIONS", help_heading = TURN)]
    pub(crate) turn_participant_allocations: Option<u64>,

    /// Allocations of one room [default: 2000]
    #[arg(long, value_name = "COUNT", env = "SNUG_TURN_ROOM_ALLOCATIONS", help_heading = TURN)]
    pub(crate) turn_room_allocations: Option<u64>,

    /// Allocations of one address block (IPv4 /24, IPv6 /56) [default: 2000]
    #[arg(long, value_name = "COUNT", env = "SNUG_TURN_SOURCE_ALLOCATIONS", help_heading = TURN)]
    pub(crate) turn_source_allocations: Option<u64>,

    /// Another STUN or TURN server, such as stun:HOST:3478, turn:HOST:3478 or turns:HOST:5349?transport=tcp; may be given
    /// more than once
    ///
    /// STUN lets participants behind home routers find each other; TURN passes their traffic on where a firewall lets
    /// nothing else through. TURN servers need a shared secret (coturn: use-auth-secret), see --turn-secret-file.
    /// Participants are told of the relay's own server first.
    #[arg(long, value_name = "URL", env = "SNUG_ICE_SERVER", value_delimiter = ',', help_heading = CONNECTING)]
    pub(crate) ice_server: Vec<String>,

    /// File with the secret shared with the TURN servers [default: the relay's own server draws one at each start]
    ///
    /// Or put the secret itself into the variable SNUG_TURN_SECRET. There is no flag for it, since other users of this
    /// machine could read it in the list of processes. The relay's own server and those of --ice-server have the same.
    #[arg(long, value_name = "FILE", env = "SNUG_TURN_SECRET_FILE", help_heading = CONNECTING)]
    pub(crate) turn_secret_file: Option<PathBuf>,

    /// How long TURN credentials hold; participants get new ones in time [default: 3600]
    #[arg(long, value_name = "SECONDS", env = "SNUG_TURN_TTL_SECONDS", help_heading = CONNECTING)]
    pub(crate) turn_ttl_seconds: Option<u64>,

    /// Also use Google's public STUN server, which learns the addresses of all participants [default: no]
    ///
    /// Handy for a first try without a server of your own. What it is asked says nothing about rooms, names or passwords.
    #[arg(
        long, value_name = "BOOL", env = "SNUG_PUBLIC_STUN", help_heading = CONNECTING,
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new()
    )]
    pub(crate) public_stun: Option<bool>,

    /// Rooms kept on disk; past that no new ones are made [default: 100000]
    #[arg(long, value_name = "COUNT", env = "SNUG_MAX_ROOMS", help_heading = LIMITS)]
    pub(crate) max_rooms: Option<u64>,

    /// Connections at once [default: what the limit of open files allows, at most 10000]
    #[arg(long, value_name = "COUNT", env = "SNUG_MAX_CONNECTIONS", help_heading = LIMITS)]
    pub(crate) max_connections: Option<u64>,

    /// Connections at once from one address block (IPv4 /24, IPv6 /56) [default: 256]
    #[arg(long, value_name = "COUNT", env = "SNUG_CONNECTIONS_PER_BLOCK", help_heading = LIMITS)]
    pub(crate) connections_per_block: Option<u64>,

    /// Joins from one address block at once [default: 30]
    #[arg(long, value_name = "COUNT", env = "SNUG_JOINS_BURST", help_heading = LIMITS)]
    pub(crate) joins_burst: Option<u64>,

    /// Joins from one address block in the long run [default: 30]
    #[arg(long, value_name = "COUNT", env = "SNUG_JOINS_PER_MINUTE", help_heading = LIMITS)]
    pub(crate) joins_per_minute: Option<u64>,

    /// New rooms from one address block at once [default: 20]
    #[arg(long, value_name = "COUNT", env = "SNUG_CREATIONS_BURST", help_heading = LIMITS)]
    pub(crate) creations_burst: Option<u64>,

    /// New rooms from one address block in the long run [default: 1]
    #[arg(long, value_name = "COUNT", env = "SNUG_CREATIONS_PER_MINUTE", help_heading = LIMITS)]
    pub(crate) creations_per_minute: Option<u64>,

    /// Messages of one connection at once [default: 240]
    #[arg(long, value_name = "COUNT", env = "SNUG_MESSAGES_BURST", help_heading = LIMITS)]
    pub(crate) messages_burst: Option<u64>,

    /// Messages of one connection in the long run [default: 60]
    #[arg(long, value_name = "COUNT", env = "SNUG_MESSAGES_PER_SECOND", help_heading = LIMITS)]
    pub(crate) messages_per_second: Option<u64>,

    /// How long a stop waits while participants reconnect; calls go on meanwhile [default: 5]
    #[arg(long, value_name = "SECONDS", env = "SNUG_DRAIN_SECONDS", help_heading = LIMITS)]
    pub(crate) drain_seconds: Option<u64>,

    /// How log lines look [default: text]
    #[arg(long, value_name = "FORMAT", env = "SNUG_LOG_FORMAT", help_heading = OUTPUT)]
    pub(crate) log_format: Option<LogFormat>,

    /// What is logged; addresses and names only from debug on [default: info]
    #[arg(long, value_name = "LEVEL", env = "SNUG_LOG_LEVEL", help_heading = OUTPUT)]
    pub(crate) log_level: Option<LogLevel>,

    /// Print no QR code beside the room link
    #[arg(
        long, value_name = "BOOL", env = "SNUG_NO_QR", help_heading = OUTPUT,
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new()
    )]
    pub(crate) no_qr: Option<bool>,

    /// Print no room link at the start, which a terminal gets otherwise
    #[arg(
        long, short, value_name = "BOOL", env = "SNUG_QUIET", help_heading = OUTPUT,
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = BoolishValueParser::new()
    )]
    pub(crate) quiet: Option<bool>,
}

/// Who may make rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CreationMode {
    /// Everybody.
    Open,
    /// Who has the operator's key.
    Key,
    /// Nobody.
    Closed,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least important lines that are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    /// What an operator has to mend.
    Error,
    /// What may need a look.
    Warn,
    /// Starts, stops and changes.
    #[default]
    Info,
    /// Each connection, with its address.
    Debug,
    /// Each message.
    Trace,
}

impl LogLevel {
    /// The word that `tracing` knows it by.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Options {
    /// These options, and `file`'s where these say nothing. A list is taken whole from one of the two.
    pub(crate) fn or(self, file: Self) -> Self {
        macro_rules! lay {
            (lists: $($list:ident)*; values: $($value:ident)*) => {
                Self {
                    command: self.command,
                    config: self.config,
                    print_link: self.print_link,
                    $($list: if self.$list.is_empty() { file.$list } else { self.$list },)*
                    $($value: self.$value.or(file.$value),)*
                }
            };
        }
        lay! {
            lists: listen quic_listen allowed_origin allowed_host trusted_proxy turn_listen turn_tls_listen external_address turn_allow_peer
                ice_server;
            values: public_url metrics_listen tls_cert tls_key allow_plain_http data_dir room_expiry room_creation
                creation_key_file no_turn turn_ports
                turn_host turn_participant_mbps turn_room_mbps turn_source_mbps turn_total_mbps
                turn_participant_allocations turn_room_allocations turn_source_allocations turn_secret_file
                turn_ttl_seconds public_stun max_rooms max_connections connections_per_block joins_burst
                joins_per_minute creations_burst creations_per_minute messages_burst messages_per_second
                drain_seconds log_format log_level no_qr quiet
        }
    }

    /// The keys that a file may have.
    pub(crate) fn keys() -> Vec<String> {
        let command = Self::command();
        let names = command.get_arguments().map(|argument| argument.get_id().as_str().replace('_', "-"));
        names.filter(|name| !matches!(name.as_str(), "config" | "print-link" | "help" | "version")).collect()
    }
}

/// A hint for a key that is none: the nearest one that is, or where to look.
pub(crate) fn did_you_mean(key: &str, known: &[String]) -> String {
    if key == "turn-secret" {
        return "put the secret into a file of its own and name that with turn-secret-file".into();
    }
    let written = key.to_lowercase().replace('_', "-");
    let near = known.iter().map(|name| (distance(&written, name), name)).min();
    match near.filter(|(distance, name)| *distance <= 1 + name.len() / 5) {
        Some((_, name)) => format!("did you mean {name}?"),
        None => "snug-relay --help lists the keys there are".into(),
    }
}

/// Levenshtein's: how many letters to add, drop or change.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.chars().enumerate() {
            let changed = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
