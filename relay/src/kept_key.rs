//! Random keys that stay the same over restarts: files of the data folder that only the relay's user may read.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::path::Path;

use tracing::warn;

/// The key in `file`, drawn and kept when there is none. `without` says what is lost where it cannot be kept.
///
/// # Errors
/// When the system has no random source.
pub(crate) fn load<const N: usize>(file: &Path, without: &str) -> Result<[u8; N], getrandom::Error> {
    if let Some(key) = fs::read(file).ok().and_then(|bytes| bytes.try_into().ok()) {
        return Ok(key);
    }
    let mut key = [0; N];
    getrandom::fill(&mut key)?;
    if let Err(error) = keep(file, &key) {
        warn!("cannot keep {} ({error}); {without}", file.display());
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

    use super::load;

    #[test]
    fn the_key_is_the_same_after_a_restart_and_nobody_else_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("some.key");
        let first: [u8; 32] = load(&file, "").expect("random bytes");
        assert_eq!(load(&file, ""), Ok(first));
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_drawn_anew_and_a_folder_that_is_not_there_stops_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("some.key");
        fs::write(&file, b"half").expect("written");
        let drawn: [u8; 64] = load(&file, "").expect("random bytes");
        assert_eq!(load(&file, ""), Ok(drawn));
        assert!(load::<64>(&folder.path().join("missing").join("some.key"), "").is_ok());
    }
}
