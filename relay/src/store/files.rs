//! The two redb files: open, check, quarantine, make anew, compare and level.
//! Never acknowledges anything and keeps no queue; `store/keeper.rs` does that.
//!
//! redb may panic over pages that were altered behind its back, so every call into it runs under [`guarded`], which
//! turns a panic into [`Fault::Damaged`].

use std::cmp::Ordering;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};

use super::RecoveredFrom;
use super::overlay::Overlay;
use super::record::{Record, revision_of};

/// The main file and its mirror, in the order of their commits.
pub(super) const NAMES: [&str; 2] = ["rooms.redb", "rooms.mirror.redb"];
const TABLE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("rooms");
/// Each file's. The system's page cache serves the rest.
const CACHE_BYTES: usize = 1024 * 1024;
/// Quarantined files kept for each of [`NAMES`]; the oldest goes first.
const KEEP_DAMAGED: usize = 3;
/// Records levelled in one transaction.
const LEVEL_CHUNK: usize = 1024;

/// What went wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No space.
    Full,
    /// It may not be written.
    Denied(String),
    /// Its content is not what was written.
    Damaged(String),
    /// Anything that may pass by itself, such as too many open files.
    Other(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        /// A sector that cannot be read: the same on Linux, macOS and the BSDs.
        const EIO: i32 = 5;
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied(error.to_string()),
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Self::Damaged(error.to_string()),
            _ if error.raw_os_error() == Some(EIO) => Self::Damaged(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                Self::Other("another process has the room files open".into())
            }
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => Self::Other(error.to_string()),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// Runs `work`; a panic in it means that the file's content misled redb.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(Fault::from),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(Fault::Damaged(text.unwrap_or_else(|| "redb panicked".into())))
        }
    }
}

/// One open file.
pub(super) struct Db {
    /// Present until dropped; closing goes through [`guarded`] as well.
    inner: Option<Database>,
}

impl Drop for Db {
    fn drop(&mut self) {
        if let Some(database) = self.inner.take() {
            let closed = guarded(|| {
                drop(database);
                Ok(())
            });
            if let Err(fault) = closed {
                tracing::debug!(?fault, "closing a room file failed; it is checked when it is opened next");
            }
        }
    }
}

impl Db {
    /// Opens a file that exists and checks every page of it.
    fn open(path: &Path) -> Result<Self, Fault> {
        let length = fs::metadata(path)?.len();
        if length == 0 {
            // redb would take it for a new one; a new one is never seen under this name before it is complete.
            return Err(Fault::Damaged("the file is empty".into()));
        }
        Self::ready(|| {
            let mut builder = Database::builder();
            Ok(builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).open(path)?)
        })
    }

    /// Opens a file for reading alone, through memory.
    fn view(path: &Path) -> Result<Self, Fault> {
        let overlay = Overlay::open(path)?;
        if fs::metadata(path)?.len() == 0 {
            return Err(Fault::Damaged("the file is empty".into()));
        }
        Self::ready(|| {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
            Ok(builder.create_with_backend(overlay)?)
        })
    }

    /// Makes an empty file. It gets its name only once it is complete, so a kill never leaves half a file under it.
    fn create(path: &Path) -> Result<Self, Fault> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        drop(options.open(&unfinished)?);
        let made = Self::ready(|| {
            let database = Database::builder().set_cache_size(CACHE_BYTES).create(&unfinished)?;
            let transaction = database.begin_write()?;
            transaction.open_table(TABLE)?;
            transaction.commit()?;
            Ok(database)
        });
        match made {
            Ok(db) => {
                fs::rename(&unfinished, path)?;
                sync_directory_of(path)?;
                Ok(db)
            }
            Err(fault) => {
                // What is left of it would only take the space that is missing.
                let _ = fs::remove_file(&unfinished);
                // A fresh file cannot be damaged: the disk gave back other bytes than it was given.
                Err(match fault {
                    Fault::Damaged(text) => Fault::Other(text),
                    fault => fault,
                })
            }
        }
    }

    fn ready(open: impl FnOnce() -> Result<Database, redb::Error>) -> Result<Self, Fault> {
        let db = Self { inner: Some(guarded(open)?) };
        // A sound redb file without the table is not one of ours.
        db.len()?;
        Ok(db)
    }

    fn database(&self) -> Result<&Database, redb::Error> {
        self.inner.as_ref().ok_or(redb::Error::DatabaseClosed)
    }

    /// How many records it has.
    pub(super) fn len(&self) -> Result<u64, Fault> {
        guarded(|| Ok(self.database()?.begin_read()?.open_table(TABLE)?.len()?))
    }

    /// The record under `key`.
    pub(super) fn get(&self, key: &str) -> Result<Option<Record>, Fault> {
        let value = guarded(|| {
            let table = self.database()?.begin_read()?.open_table(TABLE)?;
            Ok(table.get(key)?.map(|value| Record::decode(key, value.value())))
        })?;
        match value {
            Some(None) => Err(Fault::Damaged("a record does not match its checksum".into())),
            Some(record) => Ok(record),
            None => Ok(None),
        }
    }

    /// At most `limit` keys after `after`, in their order.
    pub(super) fn keys_after(&self, after: &str, limit: usize) -> Result<Vec<String>, Fault> {
        guarded(|| {
            let table = self.database()?.begin_read()?.open_table(TABLE)?;
            let range = table.range::<&str>((Bound::Excluded(after), Bound::Unbounded))?;
            let keys = range.take(limit).map(|entry| entry.map(|(key, _)| key.value().to_owned()));
            Ok(keys.collect::<Result<_, _>>()?)
        })
    }

    /// Writes (or, for `None`, removes) all of `records` in one durable transaction.
    pub(super) fn put<'a>(
        &self,
        records: impl Iterator<Item = (&'a str, Option<&'a Record>)>,
    ) -> Result<(), Fault> {
        guarded(|| {
            let transaction = self.database()?.begin_write()?;
            {
                let mut table = transaction.open_table(TABLE)?;
                for (key, record) in records {
                    match record {
                        Some(record) => drop(table.insert(key, record.encode(key).as_slice())?),
                        None => drop(table.remove(key)?),
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }
}

/// Both files, open, sound and equal.
pub(super) struct Pair {
    /// Committed first.
    pub(super) main: Db,
    /// Committed second.
    pub(super) mirror: Db,
    /// The highest revision in them.
    pub(super) revision: u64,
    /// Records in each.
    pub(super) rooms: u64,
}

/// Damage met while opening, kept by the caller across attempts.
#[derive(Default)]
pub(super) struct Findings {
    /// What the damaged files were renamed to.
    pub(super) quarantined: Vec<String>,
    /// How many of those belong to damage that is mended.
    mended: usize,
    /// Set once a file had to be made anew although there were rooms, or had been.
    pub(super) recovered: Option<RecoveredFrom>,
}

/// A value that a failed save may have left behind, and what was there before.
pub(super) type Undo = Vec<(String, Option<Record>)>;

/// Opens both files, whatever state they are in, and makes them equal.
///
/// # Errors
/// Only what a rename and a copy cannot mend: no space, no permission.
pub(super) fn open(dir: &Path, undo: &Undo, findings: &mut Findings) -> Result<Pair, Fault> {
    // Levelling may find one file bad, and then the other; the third round has two fresh ones.
    for _ in 0..=NAMES.len() {
        let mut found = [None, None];
        for (slot, name) in found.iter_mut().zip(NAMES) {
            *slot = open_or_quarantine(dir, name, findings)?;
        }
        let missing = [found[0].is_none(), found[1].is_none()];
        let mut opened = Vec::with_capacity(NAMES.len());
        for (slot, name) in found.into_iter().zip(NAMES) {
            opened.push(match slot {
                Some(db) => db,
                None => Db::create(&dir.join(name))?,
            });
        }
        let (Some(mirror), Some(main)) = (opened.pop(), opened.pop()) else { break };

        for db in [&main, &mirror] {
            if !undo.is_empty() {
                db.put(undo.iter().map(|(key, record)| (key.as_str(), record.as_ref())))?;
            }
        }
        match level(&main, &mirror) {
            Ok(revision) => {
                let rooms = main.len()?;
                note_recovery(missing, rooms, findings);
                return Ok(Pair { main, mirror, revision, rooms });
            }
            Err((side, Fault::Damaged(text))) => {
                drop((main, mirror));
                quarantine(dir, NAMES[side], &text, findings)?;
            }
            Err((_, fault)) => return Err(fault),
        }
    }
    Err(Fault::Other("the room files change while they are read".into()))
}

/// Opens whatever can be read, without writing: newest record of any file wins. `None` when there is something and
/// none of it can be read, or when the directory itself is out of reach.
pub(super) fn views(dir: &Path) -> Option<Vec<Db>> {
    if fs::read_dir(dir).is_err() {
        return None;
    }
    let mut views = Vec::new();
    let mut unreadable = false;
    for name in NAMES {
        let path = dir.join(name);
        match path.try_exists() {
            Ok(false) => {}
            Ok(true) => match Db::view(&path) {
                Ok(view) => views.push(view),
                Err(fault) => {
                    tracing::warn!(file = name, ?fault, "a room file cannot be read");
                    unreadable = true;
                }
            },
            Err(_) => unreadable = true,
        }
    }
    (!(views.is_empty() && unreadable)).then_some(views)
}

fn open_or_quarantine(dir: &Path, name: &str, findings: &mut Findings) -> Result<Option<Db>, Fault> {
    let path = dir.join(name);
    if !path.try_exists()? {
        return Ok(None);
    }
    match Db::open(&path) {
        Ok(db) => Ok(Some(db)),
        Err(Fault::Damaged(text)) => quarantine(dir, name, &text, findings).map(|()| None),
        Err(fault) => Err(fault),
    }
}

/// Puts a damaged file out of the way, under a name that says when, and keeps only the latest few.
fn quarantine(dir: &Path, name: &str, why: &str, findings: &mut Findings) -> Result<(), Fault> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut target = format!("{name}.damaged-{now}");
    let mut same_second = 1;
    while dir.join(&target).try_exists()? {
        same_second += 1;
        target = format!("{name}.damaged-{now}-{same_second}");
    }
    fs::rename(dir.join(name), dir.join(&target))?;
    tracing::error!(file = name, renamed_to = %target, why, "a room file is damaged; it is made anew from the other one");
    findings.quarantined.push(target);
    prune(dir, name)?;
    Ok(())
}

fn prune(dir: &Path, name: &str) -> io::Result<()> {
    let prefix = format!("{name}.damaged-");
    let mut damaged: Vec<((u64, u64), PathBuf)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(stamp) = file.to_str().and_then(|file| file.strip_prefix(&prefix)) else { continue };
        let (second, nth) = stamp.split_once('-').unwrap_or((stamp, "1"));
        if let (Ok(second), Ok(nth)) = (second.parse(), nth.parse()) {
            damaged.push(((second, nth), entry.path()));
        }
    }
    damaged.sort();
    let surplus = damaged.len().saturating_sub(KEEP_DAMAGED);
    for (_, path) in damaged.into_iter().take(surplus) {
        fs::remove_file(path)?;
    }
    Ok(())
}

fn note_recovery(missing: [bool; 2], rooms: u64, findings: &mut Findings) {
    let damaged = NAMES.map(|name| {
        let mut fresh = findings.quarantined[findings.mended..].iter();
        fresh.any(|file| file.strip_prefix(name).is_some_and(|rest| rest.starts_with(".damaged-")))
    });
    findings.mended = findings.quarantined.len();
    let from = match (damaged, missing) {
        ([true, true], _) => RecoveredFrom::Nothing,
        ([true, false], _) => RecoveredFrom::Mirror,
        ([false, true], _) => RecoveredFrom::Main,
        // Neither file: a first start. One of them, and no rooms: a first start that was killed between the two.
        (_, [true, false]) if rooms > 0 => RecoveredFrom::Mirror,
        (_, [false, true]) if rooms > 0 => RecoveredFrom::Main,
        _ => return,
    };
    // The worst that happened stays in sight until the next start.
    if findings.recovered != Some(RecoveredFrom::Nothing) {
        findings.recovered = Some(from);
    }
}

/// Walks both files in key order and copies to each what the other has newer. Returns the highest revision;
/// an error names the side (index in [`NAMES`]) that it came from.
fn level(main: &Db, mirror: &Db) -> Result<u64, (usize, Fault)> {
    let (mut to_main, mut to_mirror) = (Vec::new(), Vec::new());
    let mut highest = 0;
    {
        let mut left = Walk::new(main).map_err(|fault| (0, fault))?;
        let mut right = Walk::new(mirror).map_err(|fault| (1, fault))?;
        let mut a = left.next().map_err(|fault| (0, fault))?;
        let mut b = right.next().map_err(|fault| (1, fault))?;
        loop {
            let order = match (&a, &b) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((left, _)), Some((right, _))) => left.cmp(right),
            };
            let revisions = (a.as_ref().map_or(0, |entry| entry.1), b.as_ref().map_or(0, |entry| entry.1));
            highest = highest.max(revisions.0).max(revisions.1);
            match order.then(revisions.1.cmp(&revisions.0)) {
                Ordering::Less => to_mirror.extend(a.take().map(|entry| entry.0)),
                Ordering::Greater => to_main.extend(b.take().map(|entry| entry.0)),
                Ordering::Equal => {}
            }
            if order.is_le() {
                a = left.next().map_err(|fault| (0, fault))?;
            }
            if order.is_ge() {
                b = right.next().map_err(|fault| (1, fault))?;
            }
        }
    }
    copy(main, &to_mirror, mirror, (0, 1))?;
    copy(mirror, &to_main, main, (1, 0))?;
    Ok(highest)
}

fn copy(from: &Db, keys: &[String], to: &Db, sides: (usize, usize)) -> Result<(), (usize, Fault)> {
    for chunk in keys.chunks(LEVEL_CHUNK) {
        let mut records = Vec::with_capacity(chunk.len());
        for key in chunk {
            records.push((key.as_str(), from.get(key).map_err(|fault| (sides.0, fault))?));
        }
        to.put(records.iter().map(|(key, record)| (*key, record.as_ref())))
            .map_err(|fault| (sides.1, fault))?;
    }
    Ok(())
}

/// The keys and revisions of one file, in key order, each record's checksum checked.
struct Walk {
    range: redb::Range<'static, &'static str, &'static [u8]>,
}

impl Walk {
    fn new(db: &Db) -> Result<Self, Fault> {
        let range = guarded(|| Ok(db.database()?.begin_read()?.open_table(TABLE)?.range::<&str>(..)?))?;
        Ok(Self { range })
    }

    fn next(&mut self) -> Result<Option<(String, u64)>, Fault> {
        let entry = guarded(|| match self.range.next() {
            None => Ok(None),
            Some(entry) => {
                let (key, value) = entry?;
                let key = key.value();
                Ok(Some((key.to_owned(), revision_of(key, value.value()))))
            }
        })?;
        match entry {
            None => Ok(None),
            Some((key, Some(revision))) => Ok(Some((key, revision))),
            Some((_, None)) => Err(Fault::Damaged("a record does not match its checksum".into())),
        }
    }
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be opened as a file, and a rename is durable by itself.
    #[cfg(unix)]
    if let Some(parent) = path.parent() {
        fs::File::open(parent)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
