//! Many sockets in rooms of five: memory, join times, fan-out times and CPU, our relay beside Node with Socket.IO in one run.
//!
//! The shape: 50 joins in flight until everybody is seated; a pause; then 20 rooms in which one participant after the other toggles their
//! microphone and the next goes as soon as the four others have been told.

use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::floor;
use super::server::{Heard, Kind, Server, sequence};
use super::socket::Socket;
use super::stats::{Cpu, Times, against, mebibytes, resident};

const ROOM: usize = 5;
const IN_FLIGHT: usize = 50;
const BUSY_ROOMS: usize = 20;

/// All sockets come from one address and one block, so the limits per block and per connection have to be out of the way.
pub(crate) const NO_LIMITS: &[&str] = &[
    "--connections-per-block=100000",
    "--joins-burst=1000000",
    "--joins-per-minute=1000000",
    "--creations-burst=1000000",
    "--creations-per-minute=1000000",
    "--messages-burst=1000000",
    "--messages-per-second=1000000",
];

pub(crate) async fn run(smoke: bool) -> Result<String> {
    let (sizes, busy): (&[usize], _) =
        if smoke { (&[50], Duration::from_secs(1)) } else { (&[1_000, 5_000], Duration::from_secs(10)) };
    let mut table = String::from(
        "### signaling (rooms of 5, 50 joins in flight, 20 rooms fanning out 1 → 4)\n\n\
         | server | sockets | RSS before → idle | KB a socket | join p50 / p99 | connect and join p99 | joins/s | delivered/s | fan-out p50 / p99 | CPU s per 10⁶ delivered (own + kernel) |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut verdicts = String::new();
    let floor = floor::bare_fan_out(busy.min(Duration::from_secs(5))).await?;
    for &sockets in sizes {
        let mut ours =
            measure(Server::relay(NO_LIMITS)?, sockets, busy, Rooms::Unknown).await.context("our relay")?;
        let mut again = measure(Server::relay(NO_LIMITS)?, sockets, busy, Rooms::OnDisk)
            .await
            .context("our relay again")?;
        let mut theirs =
            measure(Server::reference()?, sockets, busy, Rooms::Unknown).await.context("the reference")?;
        table += &ours.row("snug-relay, making the rooms", sockets);
        table += &again.row("snug-relay, rooms on disk", sockets);
        table += &theirs.row("Node, Socket.IO 4.8, in memory", sockets);
        verdicts += &format!("| {sockets} | {} |\n", Figures::ratios(&mut ours, &mut theirs));
        if sockets == 5_000 {
            let (rss, join, cpu) = (mebibytes(ours.idle), ours.join.percentile(0.99), ours.cpu_per_million);
            let known = again.join.percentile(0.99);
            verdicts += &format!(
                "\n| bar at 5,000 sockets | figure | |\n|---|---|---|\n| RSS ≤ 60 MiB | {rss:.0} | {} |\n| join p99 ≤ 20 ms, rooms made and written to disk on the way | {join:.1} | {} |\n\
                 | join p99 ≤ 20 ms, rooms on disk | {known:.1} | {} |\n\
                 | ≤ 3 CPU s per 10⁶ delivered, all | {:.1} | {} |\n\
                 | the same, own code only | {:.1} | {} |\n\
                 | for comparison, a server of bare sockets that decides nothing | {:.1} ({:.1} + {:.1}) | |\n",
                against(rss, 60.0),
                against(join, 20.0),
                against(known, 20.0),
                cpu.total(),
                against(cpu.total(), 3.0),
                cpu.user,
                against(cpu.user, 3.0),
                floor.total(),
                floor.user,
                floor.system,
            );
        }
    }
    Ok(format!(
        "{table}\n| sockets | RSS, ours / theirs | KB a socket | join p99 | fan-out p99 | CPU per message |\n|---|---|---|---|---|---|\n{verdicts}"
    ))
}

/// Two relays side by side, one window after the other, so that whatever else the machine does meets both.
const WINDOWS: usize = 9;

/// An earlier relay of version 1 beside this one, in turns: what signatures, tickets and identities cost.
pub(crate) async fn beside(old: &Path, smoke: bool) -> Result<String> {
    let (sockets, busy, windows) =
        if smoke { (50, Duration::from_secs(1), 2) } else { (1_000, Duration::from_secs(5), WINDOWS) };
    let mut table = format!(
        "### signaling beside an earlier relay ({sockets} sockets, {windows} windows in turns)\n\n\
         | window | join p50, old → new | CPU s per 10⁶ delivered, old → new | fan-out p50, old → new |\n|---|---|---|---|\n"
    );
    let (mut joins, mut cpus, mut fan_outs) = (Vec::new(), Vec::new(), Vec::new());
    for window in 0..windows {
        let mut figures = [None, None];
        // Who goes first alternates.
        for place in [window % 2, 1 - window % 2] {
            let server = if place == 0 {
                Server::binary(Kind::Version1, old, NO_LIMITS).context("the earlier relay")?
            } else {
                Server::relay(NO_LIMITS)?
            };
            figures[place] = Some(measure(server, sockets, busy, Rooms::OnDisk).await?);
        }
        let [Some(mut before), Some(mut after)] = figures else { unreachable!("both were measured") };
        let join = (before.join.percentile(0.5), after.join.percentile(0.5));
        let cpu = (before.cpu_per_million.total(), after.cpu_per_million.total());
        let fan_out = (before.fan_out.percentile(0.5), after.fan_out.percentile(0.5));
        table += &format!(
            "| {} | {:.2} → {:.2} ms | {:.2} → {:.2} | {:.2} → {:.2} ms |\n",
            window + 1,
            join.0,
            join.1,
            cpu.0,
            cpu.1,
            fan_out.0,
            fan_out.1
        );
        joins.push(join.1 / join.0);
        cpus.push(cpu.1 / cpu.0);
        fan_outs.push(fan_out.1 / fan_out.0);
    }
    table += "\n| new / old | median | quartiles | all | median ≤ 1.05 |\n|---|---|---|---|---|\n";
    for (what, ratios) in
        [("CPU per message", &mut cpus), ("join p50", &mut joins), ("fan-out p50", &mut fan_outs)]
    {
        ratios.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| ratios[((ratios.len() - 1) as f64 * part).round() as usize];
        let median = at(0.5);
        table += &format!(
            "| {what} | {median:.3} | {:.3} to {:.3} | {:.3} to {:.3} | {} |\n",
            at(0.25),
            at(0.75),
            at(0.0),
            at(1.0),
            against(median, 1.05)
        );
    }
    Ok(table)
}

/// What one server did at one size.
struct Figures {
    before: u64,
    idle: u64,
    join: Times,
    connect: Times,
    joins_per_second: f64,
    delivered_per_second: f64,
    fan_out: Times,
    cpu_per_million: Cpu,
    sockets: usize,
}

impl Figures {
    fn kib_per_socket(&self) -> f64 {
        self.idle.saturating_sub(self.before) as f64 / 1024.0 / self.sockets as f64
    }

    fn row(&mut self, name: &str, sockets: usize) -> String {
        format!(
            "| {name} | {sockets} | {:.0} → {:.0} MiB | {:.1} | {:.1} / {:.1} ms | {:.1} ms | {:.0} | {:.0} | {:.2} / {:.2} ms | {:.1} ({:.1} + {:.1}) |\n",
            mebibytes(self.before),
            mebibytes(self.idle),
            self.kib_per_socket(),
            self.join.percentile(0.5),
            self.join.percentile(0.99),
            self.connect.percentile(0.99),
            self.joins_per_second,
            self.delivered_per_second,
            self.fan_out.percentile(0.5),
            self.fan_out.percentile(0.99),
            self.cpu_per_million.total(),
            self.cpu_per_million.user,
            self.cpu_per_million.system,
        )
    }

    fn ratios(ours: &mut Self, theirs: &mut Self) -> String {
        format!(
            "{:.2} | {:.2} | {:.2} | {:.2} | {:.2}",
            ours.idle as f64 / theirs.idle as f64,
            ours.kib_per_socket() / theirs.kib_per_socket(),
            ours.join.percentile(0.99) / theirs.join.percentile(0.99),
            ours.fan_out.percentile(0.99) / theirs.fan_out.percentile(0.99),
            ours.cpu_per_million.total() / theirs.cpu_per_million.total(),
        )
    }
}

/// One room of the busy phase: who toggles next, and when the last toggle was sent.
struct Room {
    members: Mutex<Vec<mpsc::Sender<()>>>,
    turn: AtomicUsize,
    waiting: AtomicUsize,
    sent: Mutex<Instant>,
}

impl Room {
    fn new() -> Self {
        Self {
            members: Mutex::default(),
            turn: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            sent: Mutex::new(Instant::now()),
        }
    }

    fn next_turn(&self) {
        let members = self.members.lock().expect("no panic while locked");
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
        self.waiting.store(members.len() - 1, Ordering::Relaxed);
        // The queue holds one and the member has answered the turn before, so it is free.
        let _ = members[turn].try_send(());
    }
}

/// What all clients of one run write into.
struct Run {
    kind: Kind,
    busy: AtomicBool,
    delivered: AtomicU64,
    lost: AtomicUsize,
    fan_out: Mutex<Times>,
    join: Mutex<Times>,
    connect: Mutex<Times>,
}

/// Whether the server has seen the rooms before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rooms {
    Unknown,
    /// Somebody was in each of them once: nothing has to be written before a join is answered.
    OnDisk,
}

async fn measure(server: Server, sockets: usize, busy: Duration, known: Rooms) -> Result<Figures> {
    if known == Rooms::OnDisk {
        visit_every_room(&server, sockets.div_ceil(ROOM)).await?;
    }
    sleep(Duration::from_secs(1)).await;
    let before = resident(server.pid())?;
    let run = Arc::new(Run {
        kind: server.kind,
        busy: AtomicBool::new(false),
        delivered: AtomicU64::new(0),
        lost: AtomicUsize::new(0),
        fan_out: Mutex::default(),
        join: Mutex::default(),
        connect: Mutex::default(),
    });
    let rooms: Vec<Arc<Room>> = (0..sockets.div_ceil(ROOM)).map(|_| Arc::new(Room::new())).collect();

    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    let started = Instant::now();
    let mut seated = Vec::with_capacity(sockets);
    for number in 0..sockets {
        let slot = Arc::clone(&slots).acquire_owned().await?;
        let (run, room, address) = (Arc::clone(&run), Arc::clone(&rooms[number / ROOM]), server.address);
        seated.push(tokio::spawn(async move {
            let joined = join(&run, address, number).await?;
            let (sender, turns) = mpsc::channel(1);
            room.members.lock().expect("no panic while locked").push(sender);
            drop(slot);
            Ok::<_, anyhow::Error>(tokio::spawn(stay(run, room, joined, turns)))
        }));
    }
    let mut clients = Vec::with_capacity(sockets);
    for task in seated {
        clients.push(task.await??);
    }
    let joins_per_second = sockets as f64 / started.elapsed().as_secs_f64();

    sleep(Duration::from_secs(3)).await;
    let idle = resident(server.pid())?;

    let cpu = Cpu::of(server.pid())?;
    let started = Instant::now();
    run.busy.store(true, Ordering::Relaxed);
    for room in rooms.iter().take(BUSY_ROOMS) {
        room.next_turn();
    }
    sleep(busy).await;
    run.busy.store(false, Ordering::Relaxed);
    let took = started.elapsed().as_secs_f64();
    let spent = Cpu::of(server.pid())?;
    let delivered = run.delivered.load(Ordering::Relaxed);
    let lost = run.lost.load(Ordering::Relaxed);
    for client in &clients {
        client.abort();
    }
    ensure!(lost == 0, "{lost} of {sockets} connections were lost during the run");
    ensure!(delivered > 0, "nothing was delivered in the busy phase");

    let millions = delivered as f64 / 1e6;
    let take = |times: &Mutex<Times>| times.lock().expect("no panic while locked").clone();
    ensure!(take(&run.join).len() == sockets, "not everybody was seated");
    Ok(Figures {
        before,
        idle,
        join: take(&run.join),
        connect: take(&run.connect),
        joins_per_second,
        delivered_per_second: delivered as f64 / took,
        fan_out: take(&run.fan_out),
        cpu_per_million: Cpu {
            user: (spent.user - cpu.user) / millions,
            system: (spent.system - cpu.system) / millions,
        },
        sockets,
    })
}

/// Joins each room once and leaves it.
async fn visit_every_room(server: &Server, rooms: usize) -> Result<()> {
    let mut opened = server.kind.open(server.address, Ipv4Addr::LOCALHOST).await?;
    for room in 0..rooms {
        let join = server.kind.join(&opened, &format!("bench-room-{room}"), room)?;
        opened.socket.send(&join).await?;
        seated(server.kind, &mut opened.socket).await?;
        opened.socket.send(r#"{"type":"leave_room"}"#).await?;
    }
    Ok(())
}

/// Connects and joins; notes how long the join alone took, and both together.
async fn join(run: &Run, server: std::net::SocketAddr, number: usize) -> Result<Socket> {
    let began = Instant::now();
    let opened = run.kind.open(server, Ipv4Addr::LOCALHOST).await?;
    let connected = began.elapsed();
    let message = run.kind.join(&opened, &format!("bench-room-{}", number / ROOM), number)?;
    let mut socket = opened.socket;
    let asked = Instant::now();
    socket.send(&message).await?;
    timeout(Duration::from_secs(30), seated(run.kind, &mut socket))
        .await
        .context("no answer to a join within 30 s")??;
    let answered = asked.elapsed();
    run.join.lock().expect("no panic while locked").push(answered);
    run.connect.lock().expect("no panic while locked").push(connected + answered);
    Ok(socket)
}

/// Reads until the join is answered.
pub(crate) async fn seated(kind: Kind, socket: &mut Socket) -> Result<()> {
    loop {
        match kind.heard(&socket.receive().await?) {
            Heard::Joined => return Ok(()),
            Heard::Refused(why) => anyhow::bail!("a join was refused: {why}"),
            _ => {}
        }
    }
}

/// A seated participant: counts what arrives, toggles when it is their turn, shows signs of life.
async fn stay(run: Arc<Run>, room: Arc<Room>, mut socket: Socket, mut turns: mpsc::Receiver<()>) {
    let mut beat = interval(Duration::from_secs(15));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.tick().await;
    let mut enabled = true;
    let mut last = 0;
    loop {
        let result = tokio::select! {
            text = socket.receive() => match text {
                Ok(text) => {
                    last = sequence(&text).unwrap_or(last);
                    match run.kind.heard(&text) {
                        Heard::PeerState => {
                            told(&run, &room);
                            Ok(())
                        }
                        Heard::HeartbeatWanted => socket.send(&run.kind.heartbeat(last)).await,
                        _ => Ok(()),
                    }
                }
                Err(error) => Err(error),
            },
            Some(()) = turns.recv() => {
                enabled = !enabled;
                *room.sent.lock().expect("no panic while locked") = Instant::now();
                socket.send(&run.kind.toggle(enabled)).await
            }
            _ = beat.tick(), if run.kind != Kind::Reference => socket.send(&run.kind.heartbeat(last)).await,
        };
        if let Err(error) = result {
            if run.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                eprintln!("a connection was lost: {error:#}");
            }
            return;
        }
    }
}

/// One of the others has been told; the last of them passes the turn on.
fn told(run: &Run, room: &Room) {
    let took = room.sent.lock().expect("no panic while locked").elapsed();
    if run.busy.load(Ordering::Relaxed) {
        run.delivered.fetch_add(1, Ordering::Relaxed);
        run.fan_out.lock().expect("no panic while locked").push(took);
        if room.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            room.next_turn();
        }
    }
}
