//! The thread that owns the room files: groups jobs, keeps both files equal, and finds its way back after a fault.
//! Never gives up: whatever happened, it answers every job and tries the files again later.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::files::{self, Db, Fault, Findings, Pair, Undo};
use super::record::Record;
use super::{Claim, Entry, Failure, MAX_BATCH, StoreState, StoreStatus};

/// How often the files are tried again while they are not as they should be.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// A save or load may ask for another try this soon after the last.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// A page written by redb is 4 KiB, and a record dirties a handful: what a batch may cost in each file beyond its bytes.
const BYTES_PER_SAVE: u64 = 16 * 1024;

/// Who hears the outcome of a job, exactly once. A job can be dropped before it is served: a channel takes jobs until its receiver is
/// gone, which is after the last look into it. Its reply is a refusal then.
pub(super) struct Reply<T>(Option<Hear<T>>);

type Hear<T> = Box<dyn FnOnce(Result<T, Failure>) + Send>;

impl<T> Reply<T> {
    pub(super) fn new(hear: impl FnOnce(Result<T, Failure>) + Send + 'static) -> Self {
        Self(Some(Box::new(hear)))
    }

    pub(super) fn send(mut self, outcome: Result<T, Failure>) {
        if let Some(hear) = self.0.take() {
            hear(outcome);
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(hear) = self.0.take() {
            hear(Err(Failure::Unavailable));
        }
    }
}

/// Hears what a load found.
pub(super) type LoadReply = Reply<Option<Vec<u8>>>;
/// Hears how a save went.
pub(super) type SaveReply = Reply<()>;
/// Hears what a scan found.
pub(super) type ScanReply = Reply<Vec<Entry>>;
/// Hears how many records were removed.
pub(super) type RemoveReply = Reply<usize>;
/// What is to be written: records by key, `None` for one that goes.
type Changes = BTreeMap<String, Option<Vec<u8>>>;

/// One entry of the queue.
pub(super) enum Job {
    /// Read a record.
    Load {
        /// Whose.
        key: String,
        /// Told the outcome.
        reply: LoadReply,
    },
    /// Write a record.
    Save {
        /// Whose.
        key: String,
        /// The record.
        bytes: Vec<u8>,
        /// Told the outcome.
        reply: SaveReply,
    },
    /// Read some records in the order of their keys.
    Scan {
        /// The key before the first; empty for all.
        after: String,
        /// Most of them.
        limit: usize,
        /// Told the outcome.
        reply: ScanReply,
    },
    /// Remove records that are still as they were.
    Remove {
        /// What they were.
        entries: Vec<Entry>,
        /// Told the outcome.
        reply: RemoveReply,
    },
    /// Close the files and end the thread.
    Close {
        /// Told when they are closed.
        done: Sender<()>,
    },
}

/// Saves of one batch, and the loads that must see them.
#[derive(Default)]
struct Pending {
    saves: Changes,
    saved: Vec<SaveReply>,
    loads: Vec<(String, LoadReply)>,
}

impl Job {
    /// Answers a job that was not accepted.
    pub(super) fn refuse(self, why: Failure) {
        match self {
            Self::Load { reply, .. } => reply.send(Err(why)),
            Self::Save { reply, .. } => reply.send(Err(why)),
            Self::Scan { reply, .. } => reply.send(Err(why)),
            Self::Remove { reply, .. } => reply.send(Err(why)),
            Self::Close { done } => drop(done),
        }
    }
}

/// Free bytes to leave alone; `None` writes until the disk refuses, as happens anyway under a quota, which
/// the figure for the whole disk does not show.
#[derive(Clone, Copy)]
pub(super) struct Reserve(pub(super) Option<u64>);

enum Files {
    Open(Pair),
    /// Read through memory, for as long as they cannot be written.
    Views(Vec<Db>),
    Closed,
}

/// See the module's text.
pub(super) struct Keeper {
    dir: PathBuf,
    files: Files,
    findings: Findings,
    /// What a failed save may have left in one of the files; taken back before they are used again. A kill in this state
    /// leaves it to the next start, which keeps the higher revision: a refused save may then turn out to be stored.
    undo: Undo,
    /// The fault that stands between us and open files.
    fault: Option<Fault>,
    tried: Instant,
    reserve: Reserve,
    status: Arc<Mutex<StoreStatus>>,
    /// Below `files`, so that they are closed before another relay may have the directory.
    claim: Option<Claim>,
}

impl Keeper {
    pub(super) fn new(
        dir: PathBuf,
        claim: Option<Claim>,
        reserve: Reserve,
        status: Arc<Mutex<StoreStatus>>,
    ) -> Self {
        Self {
            dir,
            claim,
            files: Files::Closed,
            findings: Findings::default(),
            undo: Undo::new(),
            fault: None,
            tried: Instant::now(),
            reserve,
            status,
        }
    }

    /// Serves jobs until it is told to close or the last handle is gone.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        self.reopen();
        loop {
            let first = if self.fault.is_none() {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(RETRY_EVERY)
            };
            let first = match first {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    self.recover();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let batch = std::iter::once(first).chain(jobs.try_iter().take(MAX_BATCH - 1));
            if let Some(done) = self.serve(batch) {
                drop(self);
                // Nobody waits any longer when this fails.
                let _ = done.send(());
                return;
            }
        }
    }

    fn serve(&mut self, batch: impl Iterator<Item = Job>) -> Option<Sender<()>> {
        let mut pending = Pending::default();
        for job in batch {
            match job {
                // It must see the save that was queued before it.
                Job::Load { key, reply } if pending.saves.contains_key(&key) => {
                    pending.loads.push((key, reply));
                }
                // It need not wait for the disk.
                Job::Load { key, reply } => reply.send(self.load(&key)),
                Job::Save { key, bytes, reply } => {
                    pending.saves.insert(key, Some(bytes));
                    pending.saved.push(reply);
                }
                // These see and change many records, so what was queued before them comes first.
                Job::Scan { after, limit, reply } => {
                    self.settle_pending(&mut pending);
                    reply.send(self.scan(&after, limit));
                }
                Job::Remove { entries, reply } => {
                    self.settle_pending(&mut pending);
                    reply.send(self.remove(entries));
                }
                Job::Close { done } => {
                    self.settle_pending(&mut pending);
                    return Some(done);
                }
            }
        }
        self.settle_pending(&mut pending);
        None
    }

    fn settle_pending(&mut self, pending: &mut Pending) {
        let Pending { saves, saved, loads } = std::mem::take(pending);
        if !saves.is_empty() {
            let result = self.change(&saves);
            let count = saved.len() as u64;
            self.with_status(|status| match result {
                Ok(()) => status.saves += count,
                Err(_) => status.refused += count,
            });
            for reply in saved {
                reply.send(result);
            }
        }
        for (key, reply) in loads {
            reply.send(self.load(&key));
        }
    }

    fn scan(&mut self, after: &str, limit: usize) -> Result<Vec<Entry>, Failure> {
        let mut keys = std::collections::BTreeSet::new();
        let files: Vec<&Db> = match &self.files {
            Files::Open(pair) => vec![&pair.main],
            Files::Views(views) => views.iter().collect(),
            Files::Closed => return Err(Failure::Unavailable),
        };
        for file in files {
            keys.extend(file.keys_after(after, limit).map_err(|_| Failure::Unavailable)?);
        }
        let mut entries = Vec::with_capacity(keys.len().min(limit));
        for key in keys.into_iter().take(limit) {
            if let Some(bytes) = self.load(&key)? {
                entries.push(Entry { key, bytes });
            }
        }
        Ok(entries)
    }

    fn remove(&mut self, entries: Vec<Entry>) -> Result<usize, Failure> {
        let mut changes = Changes::new();
        for Entry { key, bytes } in entries {
            if self.load(&key)? == Some(bytes) {
                changes.insert(key, None);
            }
        }
        if !changes.is_empty() {
            self.change(&changes)?;
        }
        Ok(changes.len())
    }

    fn load(&mut self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        if matches!(self.files, Files::Closed) && self.tried.elapsed() >= RETRY_AFTER {
            self.reopen();
        }
        for _ in 0..2 {
            if matches!(self.files, Files::Closed) {
                break;
            }
            match self.read(key) {
                Ok(record) => return Ok(record.map(|record| record.bytes)),
                Err(fault) => {
                    tracing::error!(?fault, "a room could not be read; the room files are checked");
                    self.reopen();
                }
            }
        }
        Err(Failure::Unavailable)
    }

    fn read(&self, key: &str) -> Result<Option<Record>, Fault> {
        if let Some((_, before)) = self.undo.iter().find(|(undone, _)| undone == key) {
            return Ok(before.clone());
        }
        match &self.files {
            Files::Open(pair) => match pair.main.get(key)? {
                Some(record) => Ok(Some(record)),
                // A damaged branch page can hide a record, and "no such room" must be the truth.
                None => match pair.mirror.get(key)? {
                    None => Ok(None),
                    Some(_) => Err(Fault::Damaged("the main file lacks a record that the mirror has".into())),
                },
            },
            Files::Views(views) => {
                let mut newest: Option<Record> = None;
                for view in views {
                    if let Some(record) = view.get(key)?
                        && newest.as_ref().is_none_or(|other| other.revision < record.revision)
                    {
                        newest = Some(record);
                    }
                }
                Ok(newest)
            }
            Files::Closed => Err(Fault::Other("the room files are closed".into())),
        }
    }

    fn change(&mut self, changes: &Changes) -> Result<(), Failure> {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len) as u64;
        let bytes: u64 = changes.values().map(|bytes| length(bytes) + BYTES_PER_SAVE).sum();
        if !self.has_space(2 * bytes) {
            self.set_fault(Fault::Full);
            return Err(Failure::Full);
        }
        if !matches!(self.files, Files::Open(_)) && self.tried.elapsed() >= RETRY_AFTER {
            self.reopen();
        }
        // The second round is for a file that turned out to be damaged and was made anew.
        let mut outcome = Err(Failure::Unavailable);
        for _ in 0..2 {
            let Files::Open(pair) = &mut self.files else { break };
            match write(pair, changes, &mut self.undo) {
                Ok(()) => {
                    let rooms = pair.rooms;
                    self.undo.clear();
                    self.with_status(|status| {
                        status.rooms = rooms;
                        status.commits += 1;
                    });
                    if self.fault.is_some() {
                        self.settle();
                    }
                    return Ok(());
                }
                Err(fault) => {
                    tracing::error!(?fault, "rooms could not be saved; the room files are opened again");
                    let full = fault == Fault::Full;
                    self.reopen();
                    if full {
                        self.set_fault(Fault::Full);
                        outcome = Err(Failure::Full);
                        break;
                    }
                }
            }
        }
        match self.fault {
            Some(Fault::Full) => Err(Failure::Full),
            _ => outcome,
        }
    }

    /// Looks whether what was wrong has passed.
    fn recover(&mut self) {
        match (&self.fault, &self.files) {
            (None, _) => {}
            (Some(Fault::Full), _) if !self.has_space(0) => {}
            (Some(Fault::Full), Files::Open(_)) => self.settle(),
            (Some(_), _) => self.reopen(),
        }
    }

    fn reopen(&mut self) {
        self.tried = Instant::now();
        // The old ones must let go of their locks first.
        self.files = Files::Closed;
        if self.claim.is_none() {
            match super::claim(&self.dir) {
                Ok(claim) => self.claim = claim,
                Err(error) => return self.set_fault(Fault::Other(error.to_string())),
            }
        }
        match files::open(&self.dir, &self.undo, &mut self.findings) {
            Ok(pair) => {
                self.undo.clear();
                let rooms = pair.rooms;
                self.files = Files::Open(pair);
                self.with_status(|status| status.rooms = rooms);
                self.settle();
            }
            Err(fault) => {
                if let Some(views) = files::views(&self.dir) {
                    let rooms = views.iter().filter_map(|view| view.len().ok()).max();
                    self.with_status(|status| status.rooms = rooms.unwrap_or(0));
                    self.files = Files::Views(views);
                }
                self.set_fault(fault);
            }
        }
    }

    /// Both files are open and there is nothing to complain about.
    fn settle(&mut self) {
        if self.fault.take().is_some() {
            tracing::info!("rooms can be saved again");
        }
        let state = match self.findings.recovered {
            Some(from) => StoreState::Recovered { quarantined: self.findings.quarantined.clone(), from },
            None => StoreState::Ok,
        };
        self.with_status(|status| status.state = state);
    }

    fn set_fault(&mut self, fault: Fault) {
        let readable = !matches!(self.files, Files::Closed);
        let state = match fault.clone() {
            Fault::Full if readable => StoreState::DiskFull,
            Fault::Full => StoreState::Unavailable { reason: "the disk is full".into() },
            Fault::Denied(reason) | Fault::Damaged(reason) | Fault::Other(reason) if readable => {
                StoreState::ReadOnly { reason }
            }
            Fault::Denied(reason) | Fault::Damaged(reason) | Fault::Other(reason) => {
                StoreState::Unavailable { reason }
            }
        };
        if self.fault.as_ref() != Some(&fault) {
            tracing::error!(state = state.code(), ?fault, dir = %self.dir.display(), "rooms cannot be saved");
        }
        self.fault = Some(fault);
        self.with_status(|status| status.state = state);
    }

    /// Whether `bytes` more fit without touching the reserve.
    fn has_space(&self, bytes: u64) -> bool {
        let Reserve(Some(reserve)) = self.reserve else { return true };
        free_bytes(&self.dir).is_none_or(|free| free >= reserve + bytes)
    }

    fn with_status(&self, change: impl FnOnce(&mut StoreStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Writes `changes` to both files. On failure `undo` holds what was there before, for either file may have them by then.
fn write(pair: &mut Pair, changes: &Changes, undo: &mut Undo) -> Result<(), Fault> {
    let mut before = Undo::with_capacity(changes.len());
    let mut records = Vec::with_capacity(changes.len());
    let (mut added, mut removed) = (0, 0);
    for (key, bytes) in changes {
        let old = pair.main.get(key)?;
        added += u64::from(old.is_none() && bytes.is_some());
        removed += u64::from(old.is_some() && bytes.is_none());
        before.push((key.clone(), old));
        pair.revision += 1;
        let record = bytes.as_ref().map(|bytes| Record { revision: pair.revision, bytes: bytes.clone() });
        records.push((key.as_str(), record));
    }
    *undo = before;
    pair.main.put(records.iter().map(|(key, record)| (*key, record.as_ref())))?;
    pair.mirror.put(records.iter().map(|(key, record)| (*key, record.as_ref())))?;
    pair.rooms = (pair.rooms + added).saturating_sub(removed);
    Ok(())
}

/// What an ordinary user may still write there, where the system can tell.
fn free_bytes(dir: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let figures = rustix::fs::statvfs(dir).ok()?;
        figures.f_bavail.checked_mul(figures.f_frsize)
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        None
    }
}
