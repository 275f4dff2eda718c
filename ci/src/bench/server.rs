//! The two servers a bench can drive: our relay as it is shipped, and the Node reference. Each runs in a process of its own.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::person::{Person, join_without_key};
use super::socket::Socket;
use crate::run::{root, target_dir};
use crate::runners::relay_binary;

/// Which server, and so which words to use with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Snug,
    /// An earlier relay, which speaks version 1 of the protocol.
    Version1,
    Reference,
}

/// A running server; it is killed when this is dropped.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    child: Child,
    data: Option<std::path::PathBuf>,
}

impl Server {
    /// Starts our relay on a free port with an empty store. `args` raise the limits that a bench from one address would meet.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn relay(args: &[&str]) -> Result<Self> {
        Self::binary(Kind::Snug, &relay_binary(), args)
    }

    /// The same with another relay's binary, which speaks `kind`.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn binary(kind: Kind, binary: &Path, args: &[&str]) -> Result<Self> {
        let data = target_dir().join(format!("bench-data-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&data);
        std::fs::create_dir_all(&data)?;
        let mut command = Command::new(binary);
        command
            .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data)
            .args(args);
        command.args(["--quiet", "--no-qr"]).env("NO_COLOR", "1");
        Self::start(kind, command, Some(data))
    }

    /// Starts the Node reference on a free port.
    ///
    /// # Errors
    /// When it does not start, most often because `npm ci` has not run in ci/.
    pub(crate) fn reference() -> Result<Self> {
        let mut command = Command::new("node");
        command.arg(root().join("ci/bench/reference/server.mjs")).env("NODE_ENV", "production");
        Self::start(Kind::Reference, command, None).context("the reference needs `npm ci` in ci/")
    }

    fn start(kind: Kind, mut command: Command, data: Option<std::path::PathBuf>) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("could not start {}", command.get_program().display()))?;
        let stderr = child.stderr.take().context("piped above")?;
        let (found, ready) = mpsc::channel();
        // Keeps reading for as long as the server lives, so that its log never blocks it.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("listening on http://") {
                    let address: String =
                        rest.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
                    let _ = found.send(address);
                } else if line.contains("ERROR") {
                    eprintln!("server: {line}");
                }
            }
        });
        let Ok(address) = ready.recv_timeout(Duration::from_secs(20)) else {
            let _ = child.kill();
            bail!("{kind:?} did not say where it listens within 20 s");
        };
        let address = address.parse().with_context(|| format!("{address} is no address"))?;
        Ok(Self { kind, address, child, data })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(data) = &self.data {
            let _ = std::fs::remove_dir_all(data);
        }
    }
}

/// What a client was told, in either server's dialect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Joined,
    PeerState,
    /// The server asks for a sign of life.
    HeartbeatWanted,
    Refused(String),
    Other,
}

/// A connection on which a join may be sent.
pub(crate) struct Opened {
    pub(crate) socket: Socket,
    /// What a join has to sign; empty where nothing is signed.
    nonce: String,
}

impl Kind {
    /// Opens a connection up to the point where a join may be sent.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn open(self, server: SocketAddr, source: Ipv4Addr) -> Result<Opened> {
        match self {
            Self::Snug | Self::Version1 => {
                let mut socket = Socket::connect(server, source, "/ws").await?;
                let version = if self == Self::Snug { 2 } else { 1 };
                socket.send(&format!(r#"{{"type":"hello","versions":[{version}],"agent":"bench"}}"#)).await?;
                let welcome = expect(&mut socket, r#""welcome""#).await?;
                Ok(Opened { socket, nonce: field(&welcome, r#""nonce":""#).to_owned() })
            }
            Self::Reference => {
                let mut socket =
                    Socket::connect(server, source, "/socket.io/?EIO=4&transport=websocket").await?;
                expect(&mut socket, "0{").await?;
                socket.send("40").await?;
                expect(&mut socket, "40").await?;
                Ok(Opened { socket, nonce: String::new() })
            }
        }
    }

    /// A join of somebody who was never there, ready to be sent: drawing a key and signing are not the server's time.
    ///
    /// # Errors
    /// When the server's nonce cannot be signed.
    pub(crate) fn join(self, opened: &Opened, room: &str, number: usize) -> Result<String> {
        Ok(match self {
            Self::Snug => {
                format!(r#"{{"type":"join_room",{}}}"#, Person::draw()?.join(room, &opened.nonce)?)
            }
            Self::Version1 => format!(r#"{{"type":"join_room",{}}}"#, join_without_key(room, number)),
            Self::Reference => format!(r#"420["join_room",{{{}}}]"#, join_without_key(room, number)),
        })
    }

    pub(crate) fn toggle(self, enabled: bool) -> String {
        match self {
            Self::Snug | Self::Version1 => format!(r#"{{"type":"toggle_audio","enabled":{enabled}}}"#),
            Self::Reference => format!(r#"42["toggle_audio",{{"enabled":{enabled}}}]"#),
        }
    }

    /// A sign of life; `last` is the highest sequence number seen.
    pub(crate) fn heartbeat(self, last: u64) -> String {
        match self {
            Self::Snug | Self::Version1 => format!(r#"{{"type":"ping","lastSeq":{last}}}"#),
            Self::Reference => "3".to_owned(),
        }
    }

    /// Reads the head of a message only: the generator must not be what is measured.
    pub(crate) fn heard(self, text: &str) -> Heard {
        match self {
            Self::Snug | Self::Version1 => match field(text, r#""type":""#) {
                "peer_state" => Heard::PeerState,
                "room_joined" => Heard::Joined,
                "error" | "room_full" | "auth_required" => Heard::Refused(text.to_owned()),
                _ => Heard::Other,
            },
            Self::Reference => {
                if text.starts_with(r#"42["peer_state""#) {
                    Heard::PeerState
                } else if text.starts_with("430[") {
                    if text.contains("room_joined") { Heard::Joined } else { Heard::Refused(text.to_owned()) }
                } else if text == "2" {
                    Heard::HeartbeatWanted
                } else {
                    Heard::Other
                }
            }
        }
    }
}

/// The value that follows `key`, up to the closing quote.
fn field<'a>(text: &'a str, key: &str) -> &'a str {
    text.split_once(key).and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default()
}

/// The sequence number of a relay message, when it has one.
pub(crate) fn sequence(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(r#""seq":"#)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

async fn expect(socket: &mut Socket, part: &str) -> Result<String> {
    let text = socket.receive().await?;
    if !text.contains(part) {
        bail!("expected {part} but heard {text}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_dialects_are_understood() {
        assert_eq!(Kind::Snug.heard(r#"{"type":"peer_state","seq":7,"userId":"x"}"#), Heard::PeerState);
        assert_eq!(sequence(r#"{"seq":7,"type":"peer_state"}"#), Some(7));
        assert_eq!(Kind::Reference.heard(r#"42["peer_state",{"userId":"x"}]"#), Heard::PeerState);
        assert_eq!(Kind::Reference.heard(r#"430[{"type":"room_joined"}]"#), Heard::Joined);
        assert_eq!(Kind::Reference.heard("2"), Heard::HeartbeatWanted);
    }
}
