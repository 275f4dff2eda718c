//! Where this user's programs keep what has to survive them. It never makes anything.

use std::path::PathBuf;

/// The folder by the custom of this system (`$XDG_STATE_HOME/snug`, `~/.local/state/snug`). `None` without a home.
pub(crate) fn folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = if cfg!(windows) {
        absolute("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        absolute("HOME")?.join("Library/Application Support")
    } else {
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?
    };
    Some(base.join("snug"))
}
