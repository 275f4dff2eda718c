//! Who we are in a room, in a file, so that a client that crashed comes back as the same participant.
//! One file for each relay and room, from the join until the leave; nobody but this user may read it.
//!
//! # Security considerations
//! The file has the private key of one session of one room and a ticket that opens that room, and for moments an owner's token
//! that the relay has not confirmed: with it somebody is us in that session, or that room's owner. It has neither the link's secret nor a password.
//! Two programs of one user in one room must not share a key, or they would take each other's seat and could seal two payloads
//! under one nonce: whoever has the lock keeps who it is, the others keep nothing.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use snug_call_proto::KeptIdentity;
use snug_wire::{RoomId, SigningIdentity, Token};

/// Longest file that is read, in bytes: a key, a ticket and names are a tenth of it.
const LONGEST: u64 = 4096;
/// How often a lock is tried for again that another program gave up and removed meanwhile.
const TRIES: u32 = 4;

/// What the file says. It has no `Debug`, for it has secrets.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// Host and port of the relay.
    relay: String,
    room: RoomId,
    /// 32 bytes as base64url.
    private_key: String,
    started_ms: u64,
    #[serde(default)]
    owner_token: Option<Token>,
    ticket: Option<String>,
}

/// The place of one room's identity. While it lives, no other program uses it.
pub(crate) struct IdentityStore {
    relay: String,
    room: RoomId,
    path: PathBuf,
    lock_path: PathBuf,
    /// Held, not used.
    _lock: File,
}

impl IdentityStore {
    /// Opens the place for `room` of the relay at `relay` (host and port) in `folder`, which is made where there is none.
    /// `None` when another program of this user is in the room.
    ///
    /// # Errors
    /// When the folder or the lock cannot be made.
    pub(crate) fn open(folder: &Path, relay: &str, room: &RoomId) -> io::Result<Option<Self>> {
        make_private_folder(folder)?;
        let safe =
            |letter: char| if letter.is_ascii_alphanumeric() || ".-".contains(letter) { letter } else { '_' };
        let host: String = relay.chars().map(safe).collect();
        let path = folder.join(format!("{host}+{room}.json"));
        let lock_path = path.with_extension("lock");
        let Some(lock) = lock(&lock_path)? else { return Ok(None) };
        Ok(Some(Self { relay: relay.to_owned(), room: room.clone(), path, lock_path, _lock: lock }))
    }

    /// What was kept, if it is of this room and can be read.
    pub(crate) fn load(&self) -> Option<KeptIdentity> {
        let mut text = String::new();
        File::open(&self.path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
        let record: Record = serde_json::from_str(&text).ok()?;
        // Other hosts can have a file of the same name: it has no room for every character.
        if record.relay != self.relay || record.room != self.room {
            return None;
        }
        let bytes = BASE64URL_NOPAD.decode(record.private_key.as_bytes()).ok()?;
        let key = SigningIdentity::from_bytes(&bytes.try_into().ok()?)?;
        let Record { started_ms, owner_token, ticket, .. } = record;
        Some(KeptIdentity { key, started_ms, owner_token, ticket })
    }

    /// Keeps it in place of what was kept before; a crash leaves the one or the other.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep(&self, kept: &KeptIdentity) -> io::Result<()> {
        let record = Record {
            relay: self.relay.clone(),
            room: self.room.clone(),
            private_key: BASE64URL_NOPAD.encode(&*kept.key.to_bytes()),
            started_ms: kept.started_ms,
            owner_token: kept.owner_token.clone(),
            ticket: kept.ticket.clone(),
        };
        let next = self.path.with_extension("new");
        let mut file = private().write(true).create(true).truncate(true).open(&next)?;
        // It is not forced to the disk: what is to survive is the end of this program. After one of the machine the seat is lost
        // anyway, and a later run needs nothing of an earlier one but its key.
        file.write_all(serde_json::to_string(&record)?.as_bytes())?;
        drop(file);
        std::fs::rename(&next, &self.path)
    }

    /// Forgets what was kept.
    pub(crate) fn forget(&self) {
        // What is not there need not be removed.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for IdentityStore {
    fn drop(&mut self) {
        // Its name would tell later where somebody was. Whoever waits for it notices that it is gone.
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

/// Takes the lock; `None` when another program has it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..TRIES {
        let file = private().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) if is_still(&file, path) => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether `path` names this very file: the one before us may have removed it between our opening and our locking.
#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(ours), Ok(named)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (named.dev(), named.ino())
}

/// Elsewhere a file that is open keeps its name.
#[cfg(not(unix))]
fn is_still(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Options for a file that only this user may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn make_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: &str = "[::1]:8443";

    fn room() -> RoomId {
        "sunny-mountain-42".parse().expect("a room")
    }

    fn kept(ticket: Option<&str>) -> KeptIdentity {
        let key = SigningIdentity::from_bytes(&[7; 32]).expect("a key");
        let owner_token = Some(Token::from_bytes([4; 32]));
        KeptIdentity { key, started_ms: 1_764_000_000_000, owner_token, ticket: ticket.map(str::to_owned) }
    }

    fn open(folder: &Path) -> IdentityStore {
        IdentityStore::open(folder, RELAY, &room()).expect("a folder").expect("nobody else is there")
    }

    #[test]
    fn what_was_kept_is_there_after_the_end_of_the_program_until_it_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("deeper/down");
        let store = open(&folder);
        assert!(store.load().is_none());
        store.keep(&kept(None)).expect("it is written");
        store.keep(&kept(Some("ticket"))).expect("it is written");
        drop(store);
        let store = open(&folder);
        let loaded = store.load().expect("it was kept");
        assert_eq!(loaded.key.user_id(), kept(None).key.user_id());
        assert!(loaded.owner_token.is_some_and(|token| token.matches(&Token::from_bytes([4; 32]).digest())));
        assert_eq!((loaded.started_ms, loaded.ticket.as_deref()), (1_764_000_000_000, Some("ticket")));
        store.forget();
        assert!(store.load().is_none());
        drop(store);
        assert_eq!(
            std::fs::read_dir(&folder).expect("a folder").count(),
            0,
            "nothing tells where somebody was"
        );
    }

    #[test]
    fn two_programs_in_one_room_do_not_share_a_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = open(folder.path());
        assert!(IdentityStore::open(folder.path(), RELAY, &room()).expect("a folder").is_none());
        let other: RoomId = "other-room".parse().expect("a room");
        assert!(IdentityStore::open(folder.path(), RELAY, &other).expect("a folder").is_some());
        drop(first);
        open(folder.path());
    }

    #[test]
    fn what_is_damaged_or_of_another_relay_is_not_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        store.keep(&kept(None)).expect("it is written");
        let text = std::fs::read_to_string(&store.path).expect("a file");
        for wrong in
            [text[..text.len() / 2].to_owned(), text.replace("[::1]", "[::2]"), text.replace("BwcH", "____")]
        {
            std::fs::write(&store.path, wrong).expect("it is written");
            assert!(store.load().is_none());
        }
    }

    #[cfg(unix)]
    #[test]
    fn nobody_but_this_user_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("snug");
        let store = open(&folder);
        store.keep(&kept(None)).expect("it is written");
        let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&store.path), mode(&folder)), (0o600, 0o700));
    }
}
