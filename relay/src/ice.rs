//! The STUN and TURN servers a participant is told of, with TURN credentials that hold for a limited time: the relay's own server under
//! the name by which the participant reached the relay, and those that the operator names.
//! Never asks a TURN server anything: it and the relay share a secret and a clock.
//!
//! The scheme is the one coturn calls `use-auth-secret` ("A REST API For Access To TURN Services",
//! <https://datatracker.ietf.org/doc/html/draft-uberti-behave-turn-rest-00>):
//! `username = <unix time of expiry>:<room>.<participant>`, `credential = base64(HMAC-SHA1(secret, username))`, with names that only the relay
//! understands (`ice/accounts.rs`).
//!
//! Security considerations: SHA-1 is what the servers speak, and HMAC does not lean on its weak side. A credential names room and
//! participant, for quotas, and tells nobody which they are. At the relay's own server it works while that participant has a seat;
//! elsewhere whoever has it can relay traffic until it expires. All servers share one secret, so one credential is for all of them. The
//! secret has no `Debug` and is wiped when dropped. The host that a client names in its request comes back to that client alone.

mod accounts;
mod host;
mod url;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use snug_room_proto::IceServerSource;
use snug_turn_proto::Secret;
use snug_wire::{IceServer, RoomId, UserId};
use zeroize::Zeroizing;

pub(crate) use accounts::Accounts;
pub(crate) use host::Host;
pub(crate) use url::IceUrl;

/// Clients refuse longer entries (PROTOCOL.md §4).
const URLS_PER_ENTRY: usize = 16;

/// A public server, for those who ask for it. Whoever runs it learns the addresses of those who use it.
pub(crate) const PUBLIC_STUN: &str = "stun:stun.l.google.com:19302";

/// The secret as it stands in a file or a variable; line ends and blanks around it do not count. `None` when nothing is left.
pub(crate) fn read_secret(text: String) -> Option<Secret> {
    let text = Zeroizing::new(text);
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| Secret::new(trimmed.as_bytes().to_vec()))
}

/// A secret that nobody else knows.
///
/// # Errors
/// When the system has no random source.
pub(crate) fn draw_secret() -> Result<Secret, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut())?;
    Ok(Secret::new(bytes.to_vec()))
}

/// What the operator says of servers.
#[derive(Clone)]
pub(crate) struct IceConfig {
    /// Servers beside the relay's own, in the order in which the operator gave them.
    pub(crate) urls: Vec<IceUrl>,
    /// Present when one of them is a TURN server.
    pub(crate) secret: Option<Secret>,
    /// How long a credential holds.
    pub(crate) ttl: Duration,
    /// The relay's own host, where it is the same for everybody.
    pub(crate) host: Option<Host>,
}

/// Where the relay's own server listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnServer {
    /// Ports for UDP and TCP, each once.
    pub(crate) ports: Vec<u16>,
    /// Ports for TLS, each once.
    pub(crate) tls_ports: Vec<u16>,
}

/// All servers, as the rooms hand them out.
pub(crate) struct IceServers {
    config: IceConfig,
    /// Present with the secret.
    accounts: Option<Accounts>,
    /// Empty while the relay's own server does not run.
    own: Arc<RwLock<OwnServer>>,
}

impl IceServers {
    pub(crate) fn new(config: IceConfig, own: Arc<RwLock<OwnServer>>) -> Self {
        Self { accounts: config.secret.as_ref().map(Accounts::new), config, own }
    }

    /// The STUN and the TURN addresses of the relay's own server for a client that reached the relay by `host`.
    fn own_urls(&self, host: Option<&str>) -> (Vec<String>, Vec<String>) {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let Some(host) = self.config.host.as_ref().map(Host::as_str).or(host) else {
            return Default::default();
        };
        let stun = own.ports.iter().map(|port| format!("stun:{host}:{port}")).collect();
        let turn = |transport: &'static str| {
            own.ports.iter().map(move |port| format!("turn:{host}:{port}?transport={transport}"))
        };
        let turns = own.tls_ports.iter().map(|port| format!("turns:{host}:{port}?transport=tcp"));
        (stun, turn("udp").chain(turn("tcp")).chain(turns).collect())
    }
}

impl IceServerSource for IceServers {
    /// STUN, then TURN, each when there is any; the relay's own first.
    fn ice_servers(&self, room: &RoomId, user: UserId, host: Option<&str>, unix: u64) -> Vec<IceServer> {
        let IceConfig { urls, secret, ttl, .. } = &self.config;
        let (mut stun, mut turn) = self.own_urls(host);
        for url in urls {
            let list = if url.needs_credential() { &mut turn } else { &mut stun };
            list.push(url.to_string());
        }
        let mut servers = entries(&stun, None);
        let named = secret.as_ref().zip(self.accounts.as_ref());
        if let Some((secret, accounts)) = named.filter(|_| !turn.is_empty()) {
            let username = accounts.of(room, user).username(unix.saturating_add(ttl.as_secs()));
            let credential = secret.password(&username).to_string();
            servers.extend(entries(&turn, Some((username, credential))));
        }
        servers
    }

    fn ttl(&self) -> Duration {
        self.config.ttl
    }
}

fn entries(urls: &[String], credential: Option<(String, String)>) -> Vec<IceServer> {
    let (username, credential) = credential.unzip();
    let entry = |urls: &[String]| IceServer {
        urls: urls.to_vec(),
        username: username.clone(),
        credential: credential.clone(),
    };
    urls.chunks(URLS_PER_ENTRY).map(entry).collect()
}

#[cfg(test)]
mod tests;
