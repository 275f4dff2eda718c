//! The operator's commands: `snug-relay rooms list`, `show`, `delete`, `prune`, `export`. What they
//! print has no secrets and no hashes, but for `export`, whose records are what is on disk.
//!
//! 1. While a relay runs, the room files are its own: redb and `relay.lock` keep every other
//!    process out. So the command asks the relay, at the Unix socket `relay.sock` in the data
//!    directory (`admin/socket.rs`). The relay alone knows who is in which room, and puts a removal
//!    in order with its own loads and saves: a room that somebody is in, or enters meanwhile, is
//!    not removed.
//! 2. Where nobody answers there, the command opens the files itself, and takes `relay.lock` as a
//!    relay does: none can start meanwhile.
//!
//! Signals, a second listener or a lock with two holders were the other ways. A signal carries no
//! answer; a TCP listener needs a password, which a socket's owner and mode do not; and two
//! processes that write one redb file are what its lock is there to prevent.

pub(crate) mod socket;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use snug_room_proto::RoomRecord;
use snug_wire::RoomId;
use tokio::sync::mpsc;

use crate::expiry::{self, may_expire, today};
use crate::hub::Hub;
use crate::store::{Entry, Failure, Store, StoreError};

/// Records read at once.
const STEP: usize = 256;
/// Answers that may wait to be written.
const WAITING: usize = 64;
/// How long the files may take to close; a longer wait only means a check at the next start.
const CLOSING: Duration = Duration::from_secs(10);

/// What an operator can ask beside running a relay.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at the rooms on disk, and remove some; safe while the relay runs
    #[command(subcommand)]
    Rooms(RoomsCommand),
}

/// One question about the rooms on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Subcommand)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RoomsCommand {
    /// One line for each room
    List,
    /// What is known of one room
    Show {
        /// Its name, as in its address
        room: String,
    },
    /// Remove one room, unless somebody is in it
    ///
    /// Its link goes on to work: whoever opens it first makes the room anew and owns it.
    Delete {
        /// Its name, as in its address
        room: String,
    },
    /// Remove rooms that were not used for some time
    ///
    /// Those in which two people never met and that have no password, as the relay does by itself
    /// after --room-expiry days; with --all any room. Rooms that somebody is in stay.
    Prune {
        /// Days without use
        #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..))]
        older_than: u32,
        /// Also rooms in which people met, and rooms with a password
        #[arg(long)]
        all: bool,
        /// Only say which
        #[arg(long)]
        dry_run: bool,
    },
    /// Print all records as JSON, with hashes, for a backup
    Export,
}

/// One line of the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Room(Summary),
    Record {
        room: String,
        record: Box<RoomRecord>,
    },
    /// The last line: how many rooms it was about.
    Done(usize),
    /// The last line: why it could not be.
    Error(String),
}

/// What may be shown of a room.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    room: String,
    created_at: String,
    last_used: String,
    total_sessions: u64,
    total_duration_seconds: u64,
    max_participants: u8,
    allow_screen_share: bool,
    has_password: bool,
    sealed: bool,
    met: bool,
    in_use: bool,
}

/// The way to the rooms: through the relay that has them, or to the files alone.
#[derive(Clone)]
pub(crate) struct Access {
    store: Store,
    /// The relay's; without one nobody is in any room.
    hub: Option<Hub>,
}

impl Access {
    /// That of a running relay.
    pub(crate) fn of_relay(hub: Hub, store: Store) -> Self {
        Self { store, hub: Some(hub) }
    }

    async fn in_use(&self, entries: &[Entry]) -> Vec<bool> {
        let rooms: Vec<RoomId> = entries.iter().filter_map(|entry| entry.key.parse().ok()).collect();
        match &self.hub {
            Some(hub) if rooms.len() == entries.len() => hub.in_use(rooms).await,
            _ => vec![false; entries.len()],
        }
    }

    async fn remove(&self, entries: Vec<Entry>) -> Result<usize, Failure> {
        match &self.hub {
            Some(hub) => hub.remove(entries).await,
            None => {
                let (reply, answer) = tokio::sync::oneshot::channel();
                self.store.remove(entries, move |result| {
                    let _ = reply.send(result);
                });
                answer.await.unwrap_or(Err(Failure::Unavailable))
            }
        }
    }

    async fn find(&self, room: &str) -> Result<Entry, String> {
        let room: RoomId = room.to_ascii_lowercase().parse().map_err(|_| {
            format!("{room} can name no room: 3 to 64 letters a to z, digits and single hyphens")
        })?;
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.store.load(room.as_str(), move |result| {
            let _ = reply.send(result);
        });
        let bytes = answer.await.unwrap_or(Err(Failure::Unavailable)).map_err(words)?;
        let bytes =
            bytes.ok_or_else(|| format!("there is no room {room}; `snug-relay rooms list` names all"))?;
        Ok(Entry { key: room.to_string(), bytes })
    }

    /// Does what `command` asks and tells of it line by line.
    async fn execute(&self, command: RoomsCommand, lines: &mpsc::Sender<Answer>) {
        let last = match self.try_execute(command, lines).await {
            Ok(count) => Answer::Done(count),
            Err(message) => Answer::Error(message),
        };
        // Whoever asked may be gone.
        let _ = lines.send(last).await;
    }

    async fn try_execute(
        &self,
        command: RoomsCommand,
        lines: &mpsc::Sender<Answer>,
    ) -> Result<usize, String> {
        match command {
            RoomsCommand::Show { room } => {
                let entry = self.find(&room).await?;
                let in_use = self.in_use(std::slice::from_ref(&entry)).await;
                let summary = summary(&entry, in_use.first().copied().unwrap_or(false))?;
                let _ = lines.send(Answer::Room(summary)).await;
                Ok(1)
            }
            RoomsCommand::Delete { room } => {
                let entry = self.find(&room).await?;
                match self.remove(vec![entry]).await.map_err(words)? {
                    0 => Err(format!("somebody is in {room}, or just was; try again when it is empty")),
                    count => Ok(count),
                }
            }
            RoomsCommand::List => self.each(lines, What::Summaries, |_| true).await,
            RoomsCommand::Export => self.each(lines, What::Records, |_| true).await,
            RoomsCommand::Prune { older_than, all, dry_run } => {
                let today = today();
                let is_old = |entry: &Entry| {
                    RoomRecord::decode(&entry.bytes).is_ok_and(|record| {
                        (all || may_expire(&record)) && today.days_since(record.last_used) >= older_than
                    })
                };
                self.each(lines, What::Unused { remove: !dry_run }, is_old).await
            }
        }
    }

    /// Goes through all rooms and tells of those that `choose` takes.
    async fn each(
        &self,
        lines: &mpsc::Sender<Answer>,
        what: What,
        choose: impl Fn(&Entry) -> bool,
    ) -> Result<usize, String> {
        let mut count = 0;
        let mut after = String::new();
        loop {
            let mut entries = expiry::scan(&self.store, &after, STEP).await.map_err(words)?;
            let Some(last) = entries.last() else { return Ok(count) };
            after.clone_from(&last.key);
            entries.retain(&choose);
            let mut in_use = self.in_use(&entries).await;
            if let What::Unused { remove } = what {
                let mut used = std::mem::take(&mut in_use).into_iter();
                entries.retain(|_| !used.next().unwrap_or(true));
                in_use = vec![false; entries.len()];
                if remove && !entries.is_empty() {
                    self.remove(entries.clone()).await.map_err(words)?;
                }
            }
            for (entry, in_use) in entries.iter().zip(in_use) {
                let answer = match what {
                    What::Records => record(entry)?,
                    What::Summaries | What::Unused { .. } => Answer::Room(summary(entry, in_use)?),
                };
                if lines.send(answer).await.is_err() {
                    return Err("nobody reads the answer".into());
                }
                count += 1;
            }
        }
    }
}

/// What is told of rooms, and done with them.
#[derive(Clone, Copy)]
enum What {
    Summaries,
    Records,
    /// Only those that nobody is in.
    Unused {
        remove: bool,
    },
}

fn record(entry: &Entry) -> Result<Answer, String> {
    let record = RoomRecord::decode(&entry.bytes).map_err(|error| format!("{}: {error}", entry.key))?;
    Ok(Answer::Record { room: entry.key.clone(), record: Box::new(record) })
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::Full => "the disk of the data directory is full; make some space and try again".into(),
        Failure::Unavailable => "the room files cannot be used; the relay's log and /health say why".into(),
    }
}

fn summary(entry: &Entry, in_use: bool) -> Result<Summary, String> {
    let record = RoomRecord::decode(&entry.bytes).map_err(|error| format!("{}: {error}", entry.key))?;
    Ok(Summary {
        room: entry.key.clone(),
        created_at: record.created_at.to_string(),
        last_used: record.last_used.to_string(),
        total_sessions: record.total_sessions,
        total_duration_seconds: record.total_duration_seconds,
        max_participants: record.max_participants,
        allow_screen_share: record.allow_screen_share,
        has_password: record.password.is_some(),
        sealed: record.link_proof.is_some(),
        met: record.met,
        in_use,
    })
}

/// Carries out `command` for the rooms in `dir` and prints the answer.
///
/// # Errors
/// What the operator has to do.
pub(crate) async fn run(dir: &Path, command: RoomsCommand) -> anyhow::Result<()> {
    let (lines, mut answers) = mpsc::channel(WAITING);
    let (asked, dir) = (command.clone(), dir.to_owned());
    let asking = tokio::spawn(async move {
        match socket::connect(&dir).await {
            Some(relay) => socket::ask(relay, &asked, &lines).await,
            None => {
                let access = Access { store: open_files(&dir)?, hub: None };
                access.execute(asked, &lines).await;
                let store = access.store;
                Ok(tokio::task::spawn_blocking(move || store.close(CLOSING)).await?)
            }
        }
    });
    let mut printer = Printer { command: &command, first: true };
    let mut outcome = Err(anyhow::anyhow!("the relay ended before it had answered; try again"));
    while let Some(answer) = answers.recv().await {
        match answer {
            Answer::Room(summary) => write_out(&printer.room(&summary))?,
            Answer::Record { room, record } => write_out(&printer.record(&room, &record))?,
            Answer::Done(count) => outcome = Ok(printer.end(count)),
            Answer::Error(message) => outcome = Err(anyhow::Error::msg(message)),
        }
    }
    // Its own trouble explains why there was no answer.
    asking.await??;
    write_out(&outcome?)
}

/// The files of a directory that no relay has.
fn open_files(dir: &Path) -> anyhow::Result<Store> {
    let file = ["rooms.redb", "rooms.mirror.redb"].map(|name| dir.join(name));
    let owner = file.iter().find_map(|file| std::fs::metadata(file).ok());
    let owner = owner.with_context(|| {
        format!("there are no rooms in {}; name the relay's directory with --data-dir", dir.display())
    })?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        // What another user makes anew there, the relay could not open.
        let uid = owner.uid();
        anyhow::ensure!(
            uid == rustix::process::geteuid().as_raw(),
            "the rooms in {} belong to another user; run it as that one: sudo -u '#{uid}' snug-relay …",
            dir.display()
        );
    }
    Store::open(dir).map_err(|error| match error {
        StoreError::Locked(_) => anyhow::anyhow!(
            "a relay has {} and does not answer at {}; it may be just starting, so try again, or stop it first",
            dir.display(),
            socket::path(dir).display()
        ),
        error => error.into(),
    })
}

fn write_out(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `| head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => Ok(written?),
    }
}

/// The form of what is printed.
struct Printer<'a> {
    command: &'a RoomsCommand,
    first: bool,
}

impl Printer<'_> {
    fn room(&mut self, summary: &Summary) -> String {
        if matches!(self.command, RoomsCommand::Show { .. }) {
            return serde_json::to_string_pretty(summary).expect("its keys are strings") + "\n";
        }
        let head = if std::mem::replace(&mut self.first, false) { HEAD } else { "" };
        format!("{head}{}\n", row(summary))
    }

    fn record(&mut self, room: &str, record: &RoomRecord) -> String {
        let head = if std::mem::replace(&mut self.first, false) { "[\n" } else { ",\n" };
        format!("{head}{}", serde_json::json!({"room": room, "record": record}))
    }

    fn end(&self, count: usize) -> String {
        match self.command {
            RoomsCommand::Show { .. } => String::new(),
            RoomsCommand::Export if self.first => "[]\n".into(),
            RoomsCommand::Export => "\n]\n".into(),
            RoomsCommand::List => format!("{count} rooms\n"),
            RoomsCommand::Prune { dry_run: true, .. } => format!("{count} rooms would be removed\n"),
            RoomsCommand::Delete { .. } | RoomsCommand::Prune { .. } => format!("{count} removed\n"),
        }
    }
}

const HEAD: &str = "made        last used   sessions     hours  flags  room\n";

/// `p` password, `s` sealed, `m` two people met in it, `u` in use.
fn row(summary: &Summary) -> String {
    let flags: String =
        [(summary.has_password, 'p'), (summary.sealed, 's'), (summary.met, 'm'), (summary.in_use, 'u')]
            .map(|(set, letter)| if set { letter } else { '-' })
            .iter()
            .collect();
    format!(
        "{:<10}  {:<10}  {:>8}  {:>8.1}  {flags:<5}  {}",
        summary.created_at,
        summary.last_used,
        summary.total_sessions,
        summary.total_duration_seconds as f64 / 3600.0,
        summary.room
    )
}

#[cfg(test)]
mod tests;
