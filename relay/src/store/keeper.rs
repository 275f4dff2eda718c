//! The thread that owns the room files: groups jobs, keeps both files equal, and finds its way back after a fault.
//! Never gives up: whatever happened, it answers every job and tries the files again later.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::files::{self, Db, Fault, Findings, Pair, Undo};
use super::record::Record;
use super::{Claim, Failure, MAX_BATCH, StoreState, StoreStatus};

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
    /// Close the files and end the thread.
    Close {
        /// Told when they are closed.
        done: Sender<()>,
    },
}

impl Job {
    /// Answers a job that was not accepted.
    pub(super) fn refuse(self, why: Failure) {
        match self {
            Self::Load { reply, .. } => reply.send(Err(why)),
            Self::Save { reply, .. } => reply.send(Err(why)),
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
        let mut saves: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut saved: Vec<SaveReply> = Vec::new();
        let mut loads_after: Vec<(String, LoadReply)> = Vec::new();
        let mut closing = None;
        for job in batch {
            match job {
                // It must see the save that was queued before it.
                Job::Load { key, reply } if saves.contains_key(&key) => loads_after.push((key, reply)),
                // It need not wait for the disk.
                Job::Load { key, reply } => reply.send(self.load(&key)),
                Job::Save { key, bytes, reply } => {
                    saves.insert(key, bytes);
                    saved.push(reply);
                }
                Job::Close { done } => {
                    closing = Some(done);
                    break;
                }
            }
        }
        if !saves.is_empty() {
            let result = self.save(&saves);
            let count = saved.len() as u64;
            self.with_status(|status| match result {
                Ok(()) => status.saves += count,
                Err(_) => status.refused += count,
            });
            for reply in saved {
                reply.send(result);
            }
        }
        for (key, reply) in loads_after {
            reply.send(self.load(&key));
        }
        closing
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

    fn save(&mut self, saves: &BTreeMap<String, Vec<u8>>) -> Result<(), Failure> {
        let bytes: u64 = saves.values().map(|bytes| bytes.len() as u64 + BYTES_PER_SAVE).sum();
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
            match write(pair, saves, &mut self.undo) {
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

/// Writes `saves` to both files. On failure `undo` holds what was there before, for either file may have them by then.
fn write(pair: &mut Pair, saves: &BTreeMap<String, Vec<u8>>, undo: &mut Undo) -> Result<(), Fault> {
    let mut before = Undo::with_capacity(saves.len());
    let mut records = Vec::with_capacity(saves.len());
    let mut added = 0;
    for (key, bytes) in saves {
        let old = pair.main.get(key)?;
        added += u64::from(old.is_none());
        before.push((key.clone(), old));
        pair.revision += 1;
        records.push((key.as_str(), Record { revision: pair.revision, bytes: bytes.clone() }));
    }
    *undo = before;
    pair.main.put(records.iter().map(|(key, record)| (*key, Some(record))))?;
    pair.mirror.put(records.iter().map(|(key, record)| (*key, Some(record))))?;
    pair.rooms += added;
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
