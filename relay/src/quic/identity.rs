//! What lets a relay that was restarted tell its clients so at once: packets of connections that it does not know are answered with a reset
//! that only it can make (RFC 9000 §10.3). Never more than a hint: a relay without the kept key works, and clients notice later.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use tracing::warn;

/// The key's file in the data folder.
const FILE: &str = "quic-reset.key";
const BYTES: usize = 64;

/// The same at every start of the relay that has this data folder.
///
/// # Errors
/// When the system has no random source.
pub(crate) fn endpoint_config(data_dir: &Path) -> Result<EndpointConfig, getrandom::Error> {
    let key = match kept(&data_dir.join(FILE)) {
        Some(key) => key,
        None => drawn(&data_dir.join(FILE))?,
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    // A connection id carries a mark, too, by which the endpoint knows its own.
    let mark = hmac::sign(&key, b"connection ids");
    let mark = mark.as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes);
    let mut config = EndpointConfig::new(Arc::new(key));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(mark)));
    Ok(config)
}

fn kept(file: &Path) -> Option<[u8; BYTES]> {
    fs::read(file).ok()?.try_into().ok()
}

/// Draws a key and keeps it, if it can be kept.
fn drawn(file: &Path) -> Result<[u8; BYTES], getrandom::Error> {
    let mut key = [0; BYTES];
    getrandom::fill(&mut key)?;
    if let Err(error) = keep(file, &key) {
        warn!(
            "cannot keep {} ({error}); after a restart QUIC clients take some seconds longer to come back",
            file.display()
        );
    }
    Ok(key)
}

/// Never half a key: it is written beside and takes its place whole.
fn keep(file: &Path, key: &[u8]) -> io::Result<()> {
    let beside = file.with_extension("key.new");
    let mut open = OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
    restrict(&open)?;
    open.write_all(key)?;
    open.sync_all()?;
    fs::rename(beside, file)
}

/// For the relay's user only.
fn restrict(file: &fs::File) -> io::Result<()> {
    #[cfg(unix)]
    file.set_permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::{BYTES, FILE, drawn, endpoint_config, kept};

    #[test]
    fn the_key_is_the_same_after_a_restart_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(FILE);
        let first = drawn(&file).expect("random bytes");
        assert_eq!(kept(&file), Some(first));
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_drawn_anew_and_a_folder_that_is_not_there_stops_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(FILE);
        fs::write(&file, b"half").expect("written");
        assert!(endpoint_config(folder.path()).is_ok());
        assert_eq!(kept(&file).map(|key| key.len()), Some(BYTES));
        assert!(endpoint_config(&folder.path().join("missing")).is_ok());
    }
}
