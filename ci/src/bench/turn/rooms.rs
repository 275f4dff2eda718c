//! Participants who sit in rooms of our relay, because its TURN server serves nobody else.
//! They join, hand out the TURN login that they were told, and show signs of life until they are dropped.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::stun::Login;
use crate::bench::server::{Heard, Kind, sequence};
use crate::bench::socket::Socket;

/// Participants in each room, as many as a room takes.
pub(super) const ROOM: usize = 10;

/// What a participant was told about the TURN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) server: SocketAddr,
    pub(super) login: Login,
}

/// Everybody who is seated. They leave when this is dropped.
pub(super) struct Rooms {
    pub(super) tickets: Vec<Ticket>,
    _stay: oneshot::Sender<()>,
}

impl Rooms {
    /// Seats `participants` in rooms of [`ROOM`], on a thread of their own.
    ///
    /// # Errors
    /// When one is refused, or is not told of a TURN server.
    pub(super) fn fill(relay: SocketAddr, participants: usize) -> Result<Self> {
        let (stay, left) = oneshot::channel();
        let (found, tickets) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(found.send(Err(error.into()))),
            };
            runtime.block_on(async {
                let told = seat(relay, participants).await;
                let seated = told.is_ok();
                let _ = found.send(told);
                if seated {
                    let _ = left.await;
                }
            });
        });
        let tickets = tickets.recv().context("the thread of the participants ended")??;
        Ok(Self { tickets, _stay: stay })
    }
}

async fn seat(relay: SocketAddr, participants: usize) -> Result<Vec<Ticket>> {
    let mut tickets = Vec::with_capacity(participants);
    for number in 0..participants {
        let opened = Kind::Snug.open(relay, Ipv4Addr::LOCALHOST).await?;
        let join = Kind::Snug.join(&opened, &format!("bench-turn-{}", number / ROOM), number)?;
        let mut socket = opened.socket;
        socket.send(&join).await?;
        let told = timeout(Duration::from_secs(30), room_joined(&mut socket))
            .await
            .context("no answer to a join within 30 s")??;
        tickets.push(ticket(&told)?);
        tokio::spawn(stay(socket));
    }
    Ok(tickets)
}

async fn room_joined(socket: &mut Socket) -> Result<String> {
    loop {
        let text = socket.receive().await?;
        match Kind::Snug.heard(&text) {
            Heard::Joined => return Ok(text),
            Heard::Refused(why) => anyhow::bail!("a join was refused: {why}"),
            _ => {}
        }
    }
}

/// Reads what comes and pings, until the runtime ends.
async fn stay(mut socket: Socket) {
    let mut beat = interval(Duration::from_secs(10));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = 0;
    loop {
        let result = tokio::select! {
            text = socket.receive() => text.map(|text| last = sequence(&text).unwrap_or(last)),
            _ = beat.tick() => socket.send(&Kind::Snug.heartbeat(last)).await,
        };
        if let Err(error) = result {
            eprintln!("a participant lost the relay: {error:#}");
            return;
        }
    }
}

/// The TURN server over UDP in a `room_joined`. Its host is replaced by the relay's: all of the bench is on loopback.
fn ticket(room_joined: &str) -> Result<Ticket> {
    let told: Value = serde_json::from_str(room_joined)?;
    let servers = told["iceServers"].as_array().context("no iceServers in room_joined")?;
    for server in servers {
        let urls = server["urls"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for url in urls {
            let Some(rest) = url.strip_prefix("turn:").filter(|rest| !rest.ends_with("transport=tcp")) else {
                continue;
            };
            let host = rest.split('?').next().unwrap_or_default();
            let port = host.rsplit_once(':').map_or(Ok(3478), |(_, port)| port.parse())?;
            let text = |name: &str| {
                server[name].as_str().map(str::to_owned).with_context(|| format!("{url} without {name}"))
            };
            let login = Login { username: text("username")?, password: text("credential")? };
            return Ok(Ticket { server: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), login });
        }
    }
    ensure!(!servers.is_empty(), "the relay named no ICE servers: its TURN server did not start");
    anyhow::bail!("the relay named no TURN server over UDP: {}", told["iceServers"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turn_server_over_udp_is_found_among_the_others() {
        let told = r#"{"type":"room_joined","iceServers":[{"urls":["stun:a.example:3478"]},
            {"urls":["turn:a.example:4000?transport=tcp","turn:a.example:4000?transport=udp"],"username":"u","credential":"p"}]}"#;
        let found = ticket(told).expect("it is there");
        assert_eq!(found.server, "127.0.0.1:4000".parse().expect("an address"));
        assert_eq!(found.login, Login { username: "u".into(), password: "p".into() });
        assert!(ticket(r#"{"iceServers":[]}"#).is_err());
    }
}
