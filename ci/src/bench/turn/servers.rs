//! The two servers that are compared: our relay as it is shipped, and Debian's coturn. Each runs in a process of its own and is killed when
//! it is dropped.

use anyhow::{Context, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::rooms::{ROOM, Rooms, Ticket};
use super::stun::{Login, Request};
use crate::bench::server::Server;
use crate::bench::signaling::NO_LIMITS;
use crate::run::{command, output, target_dir};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    Ours,
    Coturn,
}

pub(super) const BOTH: [Maker; 2] = [Maker::Ours, Maker::Coturn];

impl Maker {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ours => "snug-relay",
            Self::Coturn => "coturn",
        }
    }
}

/// Relayed ports of coturn: as many as ours has by default, beside them, below the ports that systems give to programs by themselves.
const COTURN_PORTS: (u16, u16) = (20_001, 30_000);

/// Our limits per account and source are for honest clients behind many addresses; here few addresses are many clients.
const TURN_NO_LIMITS: &[&str] = &[
    "--turn-allow-peer=127.0.0.0/8",
    "--turn-source-mbps=0",
    "--turn-room-mbps=0",
    "--turn-participant-mbps=0",
];

/// Participants in rooms of our relay, and so logins: those of a load cell have one each.
const PARTICIPANTS: usize = 50;

/// A running TURN server, and who may use it.
pub(super) struct TurnServer {
    pub(super) maker: Maker,
    pub(super) address: SocketAddr,
    seats: Seats,
    process: Process,
}

enum Process {
    Ours(Server),
    Coturn(Coturn),
}

/// Who has an account.
enum Seats {
    Nobody,
    /// Everybody under one name.
    Shared(Ticket),
    Rooms(Rooms),
}

impl TurnServer {
    /// Starts it on a free port and seats its users.
    ///
    /// # Errors
    /// When it does not start, or does not answer.
    pub(super) fn start(maker: Maker) -> Result<Self> {
        let mut this = Self::start_empty(maker)?;
        if let Process::Ours(server) = &this.process {
            this.seats = Seats::Rooms(Rooms::fill(server.address, PARTICIPANTS)?);
        }
        Ok(this)
    }

    /// Starts it, without anybody in a room, and returns when it has answered a Binding.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) fn start_empty(maker: Maker) -> Result<Self> {
        let address = free_port()?;
        let (process, seats) = match maker {
            Maker::Ours => {
                let listen = format!("--turn-listen={address}");
                let args: Vec<&str> =
                    NO_LIMITS.iter().chain(TURN_NO_LIMITS).copied().chain([listen.as_str()]).collect();
                (Process::Ours(Server::relay(&args)?), Seats::Nobody)
            }
            Maker::Coturn => {
                let login = Login { username: "bench".into(), password: "bench".into() };
                let ticket = Ticket { server: address, login };
                (Process::Coturn(Coturn::start(address)?), Seats::Shared(ticket))
            }
        };
        let this = Self { maker, address, seats, process };
        this.wait_until_it_answers()?;
        Ok(this)
    }

    pub(super) fn pid(&self) -> u32 {
        match &self.process {
            Process::Ours(server) => server.pid(),
            Process::Coturn(coturn) => coturn.child.id(),
        }
    }

    /// Source address of a client, and what it was told. Neighbours (2n and 2n+1) share a room.
    ///
    /// # Errors
    /// When nobody is seated.
    pub(super) fn seat_of(&self, client: usize) -> Result<(IpAddr, &Ticket)> {
        let seat = client % PARTICIPANTS;
        let source = Ipv4Addr::new(127, 1, 1 + (seat / ROOM) as u8, 1 + (seat % ROOM) as u8);
        let ticket = match &self.seats {
            Seats::Nobody => anyhow::bail!("nobody is seated"),
            Seats::Shared(ticket) => ticket,
            Seats::Rooms(rooms) => &rooms.tickets[seat],
        };
        Ok((source.into(), ticket))
    }

    fn wait_until_it_answers(&self) -> Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(self.address)?;
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        let started = Instant::now();
        let mut buffer = [0; 1500];
        // One transaction for all tries: an answer that comes late is an answer, too.
        let request = Request::binding();
        while started.elapsed() < Duration::from_secs(60) {
            // Until the server is there, its port answers with an ICMP error.
            if socket.send(&request.bytes).is_ok()
                && let Ok(length) = socket.recv(&mut buffer)
                && request.answer(&buffer[..length])?.is_some()
            {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        anyhow::bail!("{} answered no Binding request within 60 s", self.maker.name())
    }
}

/// A port of loopback that is free for UDP and TCP at this moment. Both servers must know theirs before they start, or the time to the first answer
/// could not be measured.
fn free_port() -> Result<SocketAddr> {
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let address = tcp.local_addr()?;
    UdpSocket::bind(address).with_context(|| format!("{address} is taken for UDP; run the bench again"))?;
    Ok(address)
}

/// Debian's coturn with everything switched off that is not compared.
struct Coturn {
    child: Child,
    folder: PathBuf,
}

impl Coturn {
    fn start(address: SocketAddr) -> Result<Self> {
        let folder = target_dir().join(format!("bench-coturn-{}-{}", std::process::id(), address.port()));
        std::fs::create_dir_all(&folder)?;
        let place = |name: &str| folder.join(name).into_os_string();
        let mut command = Command::new("turnserver");
        command
            .args(["-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--relay-threads=1"])
            .arg(format!("--listening-port={}", address.port()))
            .arg(format!("--min-port={}", COTURN_PORTS.0))
            .arg(format!("--max-port={}", COTURN_PORTS.1))
            .args(["--allow-loopback-peers", "--lt-cred-mech", "--user=bench:bench", "--realm=bench"])
            .args(["--no-tls", "--no-dtls", "--no-cli", "--no-rfc5780", "--no-stun-backward-compatibility"])
            .args(["--no-software-attribute", "--no-stdout-log", "--simple-log", "--log-file"])
            .arg(place("log"))
            .arg("--userdb")
            .arg(place("users"))
            .arg("--pidfile")
            .arg(place("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().context("could not start turnserver; install Debian's package coturn")?;
        Ok(Self { child, folder })
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The version that is compared with.
///
/// # Errors
/// When there is none.
pub(super) fn coturn_version() -> Result<String> {
    let printed = output(command("turnserver", &["--version"]))
        .context("the comparison needs Debian's coturn: apt-get install coturn")?;
    printed.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned).context("no version")
}
