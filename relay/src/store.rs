//! Rooms on disk: opaque records under their room id, in two redb files that hold the same.
//! Never blocks a caller, never acknowledges what is not durable in both files, never panics over a damaged one.
//! The files are opened, repaired and replaced in `store/files.rs`; the hub talks to this module alone.
//!
//! One thread owns the files:
//! 1. It takes what is queued, at most [`MAX_BATCH`] jobs, and writes all saves in one transaction a file.
//! 2. `rooms.redb` is committed first, `rooms.mirror.redb` second; then the saves are answered.
//! 3. Every record carries a revision and a checksum, so a kill between the two commits leaves a difference that the
//!    next start settles in favour of the higher revision.
//! 4. A file that fails its check, at start or at a read, is renamed `*.damaged-<unix time>` and made anew from the other.
//! 5. A save that failed is taken back in both files before anything else is written, so "refused" means not stored.
//!
//! A save is refused with [`Failure::Full`] while the disk has less than [`RESERVE_BYTES`] left; loads go on.

mod files;
mod keeper;
mod overlay;
mod record;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keeper::{Job, Keeper, LoadReply, RemoveReply, Reply, Reserve, SaveReply, ScanReply};

/// Jobs that may wait. At a few hundred bytes a record this is well under a mebibyte.
pub(crate) const QUEUE_LENGTH: usize = 1024;
/// Jobs answered by one pair of commits.
pub(crate) const MAX_BATCH: usize = 256;
/// Largest record. A room's is under 2 KiB.
pub(crate) const MAX_RECORD_BYTES: usize = 16 * 1024;
/// Longest key. A room id has at most 64 bytes.
pub(crate) const MAX_KEY_BYTES: usize = 128;
/// Free space below which nothing is written: running redb into a full disk costs a repair, and the operator's
/// shell needs some room too.
pub(crate) const RESERVE_BYTES: u64 = 1024 * 1024;

/// Why [`Store::open`] refuses to start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Two relays on one directory would overwrite each other.
    #[error(
        "the data directory {} is in use by another relay: stop that one, or give this one its own with --data-dir",
        .0.display()
    )]
    Locked(PathBuf),
    /// The system gave no thread.
    #[error("cannot start the storage thread: {0}; check the process limit (ulimit -u)")]
    Thread(std::io::Error),
}

/// Why a job was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The disk is full. Nothing was stored; loads still work.
    #[error("the disk of the data directory is full")]
    Full,
    /// The files cannot be read or, for a save, not written; or [`QUEUE_LENGTH`] jobs are waiting already.
    #[error("the room files cannot be used")]
    Unavailable,
}

/// What the store can do at the moment, for `/health` and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreState {
    /// The files are being opened and checked; jobs wait.
    Opening,
    /// Both files are sound.
    Ok,
    /// Both files are sound, but at least one had to be made anew since this process started.
    Recovered {
        /// Names the damaged files were given, beside the new ones. Empty if a file was missing.
        quarantined: Vec<String>,
        /// Where the rooms came from.
        from: RecoveredFrom,
    },
    /// Saves are refused until space returns; it is looked for every few seconds.
    DiskFull,
    /// Rooms can be read but not saved.
    ReadOnly {
        /// The system's words.
        reason: String,
    },
    /// Neither.
    Unavailable {
        /// The system's words.
        reason: String,
    },
}

impl StoreState {
    /// The word that `/health` shows.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Ok => "ok",
            Self::Recovered { .. } => "recovered",
            Self::DiskFull => "disk_full",
            Self::ReadOnly { .. } => "read_only",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// Whether an operator need not look.
    pub(crate) fn is_healthy(&self) -> bool {
        matches!(self, Self::Opening | Self::Ok)
    }
}

/// The source a replaced file was filled from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecoveredFrom {
    /// `rooms.mirror.redb`: nothing that was acknowledged is missing.
    Mirror,
    /// `rooms.redb`: the mirror was the damaged one; nothing is missing.
    Main,
    /// Both were damaged: the rooms are gone from here, only the quarantined files have them.
    Nothing,
}

impl RecoveredFrom {
    /// The word that `/health` shows.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Mirror => "mirror",
            Self::Main => "main",
            Self::Nothing => "nothing",
        }
    }
}

/// A copy of the store's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreStatus {
    /// See [`StoreState`].
    pub(crate) state: StoreState,
    /// Rooms on disk, 0 until the files are open.
    pub(crate) rooms: u64,
    /// Saves acknowledged since the start.
    pub(crate) saves: u64,
    /// Saves refused since the start.
    pub(crate) refused: u64,
    /// Pairs of commits since the start; `saves / commits` is how well they group.
    pub(crate) commits: u64,
}

/// A record under its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The room's id.
    pub(crate) key: String,
    /// What was saved.
    pub(crate) bytes: Vec<u8>,
}

/// The handle. Clones share one thread and one pair of files.
#[derive(Clone)]
pub(crate) struct Store {
    jobs: SyncSender<Job>,
    status: Arc<Mutex<StoreStatus>>,
}

impl Store {
    /// Takes the directory and starts the thread. Returns before the files are open: whatever is wrong with them, the
    /// relay starts, and [`Store::status`] says what.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds the directory.
    pub(crate) fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_with(dir.into(), Reserve(Some(RESERVE_BYTES)))
    }

    fn open_with(dir: PathBuf, reserve: Reserve) -> Result<Self, StoreError> {
        let claim = claim(&dir)?;
        let status = Arc::new(Mutex::new(StoreStatus {
            state: StoreState::Opening,
            rooms: 0,
            saves: 0,
            refused: 0,
            commits: 0,
        }));
        let (jobs, queue) = mpsc::sync_channel(QUEUE_LENGTH);
        let keeper = Keeper::new(dir, claim, reserve, Arc::clone(&status));
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || keeper.run(&queue))
            .map_err(StoreError::Thread)?;
        Ok(Self { jobs, status })
    }

    /// Reads one record. `reply` is called exactly once, on the store's thread (or at once, when the job is not taken), and must not block.
    pub(crate) fn load(
        &self,
        key: impl Into<String>,
        reply: impl FnOnce(Result<Option<Vec<u8>>, Failure>) + Send + 'static,
    ) {
        let key = key.into();
        let reply: LoadReply = Reply::new(reply);
        if key.len() > MAX_KEY_BYTES {
            // Nothing was ever stored under it.
            return reply.send(Ok(None));
        }
        self.submit(Job::Load { key, reply });
    }

    /// Writes one record. `reply` hears `Ok` once both files have it durably. As for [`Store::load`] it must not block.
    pub(crate) fn save(
        &self,
        key: impl Into<String>,
        bytes: Vec<u8>,
        reply: impl FnOnce(Result<(), Failure>) + Send + 'static,
    ) {
        let key = key.into();
        let reply: SaveReply = Reply::new(reply);
        if key.len() > MAX_KEY_BYTES || bytes.len() > MAX_RECORD_BYTES {
            tracing::error!(key = key.len(), record = bytes.len(), "a record is over the store's limits");
            return reply.send(Err(Failure::Unavailable));
        }
        self.submit(Job::Save { key, bytes, reply });
    }

    /// Reads at most `limit` records whose keys come after `after`, in their order. As for [`Store::load`] the reply must not block.
    pub(crate) fn scan(
        &self,
        after: impl Into<String>,
        limit: usize,
        reply: impl FnOnce(Result<Vec<Entry>, Failure>) + Send + 'static,
    ) {
        let reply: ScanReply = Reply::new(reply);
        self.submit(Job::Scan { after: after.into(), limit, reply });
    }

    /// Removes those of `entries` that are still as they are given, all in one commit, and tells how many. As for [`Store::load`]
    /// the reply must not block. A kill between the two files' commits brings them back.
    pub(crate) fn remove(
        &self,
        entries: Vec<Entry>,
        reply: impl FnOnce(Result<usize, Failure>) + Send + 'static,
    ) {
        let reply: RemoveReply = Reply::new(reply);
        self.submit(Job::Remove { entries, reply });
    }

    /// The figures.
    pub(crate) fn status(&self) -> StoreStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers what is queued, closes the files cleanly (the next start is then faster) and ends the thread.
    /// Blocks for at most `patience`. Jobs handed over meanwhile and later hear [`Failure::Unavailable`].
    pub(crate) fn close(&self, patience: Duration) {
        let (done, closed) = mpsc::channel();
        if self.jobs.send(Job::Close { done }).is_ok() {
            // Running out of patience only means a repair at the next start.
            let _ = closed.recv_timeout(patience);
        }
    }

    fn submit(&self, job: Job) {
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => {
                job.refuse(Failure::Unavailable);
            }
        }
    }
}

/// Holds the directory for this process; the system lets go of it even after `kill -9`.
struct Claim(File);

impl Drop for Claim {
    fn drop(&mut self) {
        // Closing alone would not do while a process that is just being started still shares the descriptor.
        let _ = self.0.unlock();
    }
}

/// Makes the directory when it is missing and locks it. `Ok(None)`: it cannot be written, or its file system has no locks.
fn claim(dir: &Path) -> Result<Option<Claim>, StoreError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        // Password hashes are nobody else's business.
        builder.mode(0o700);
        options.mode(0o600);
    }
    if builder.create(dir).is_err() {
        return Ok(None);
    }
    let Ok(file) = options.open(dir.join("relay.lock")) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(Claim(file))),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(dir.to_owned())),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}
