//! CPU time in nanoseconds, of another process or of the calling thread.
//! The kernel brings a thread's clock up to date when it stops running, so a server is read while it has nothing to do.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// The clocks of all threads of a process at one moment.
pub(super) struct ProcessClock(BTreeMap<u32, u64>);

impl ProcessClock {
    pub(super) fn read(pid: u32) -> Result<Self> {
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/task")).context("the server is gone")? {
            let entry = entry?;
            // A thread may end while the list is read.
            if let (Some(thread), Ok(time)) = (
                entry.file_name().to_str().and_then(|name| name.parse().ok()),
                read(&format!("{}/schedstat", entry.path().display())),
            ) {
                threads.insert(thread, time);
            }
        }
        Ok(Self(threads))
    }

    /// What all threads used between `before` and this. A thread that ended meanwhile does not count.
    pub(super) fn since(&self, before: &Self) -> Duration {
        let spent = self.0.iter().map(|(thread, time)| time - before.0.get(thread).unwrap_or(&0).min(time));
        Duration::from_nanos(spent.sum())
    }
}

/// Of the calling thread alone, up to its last scheduling.
pub(super) fn of_thread() -> Result<Duration> {
    Ok(Duration::from_nanos(read("/proc/thread-self/schedstat")?))
}

/// The first field of `schedstat`: nanoseconds on a CPU.
fn read(path: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    text.split(' ').next().and_then(|field| field.parse().ok()).context("no schedstat in this kernel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_came_and_one_that_went_are_no_trouble() {
        let before = ProcessClock(BTreeMap::from([(1, 100), (2, 50)]));
        let after = ProcessClock(BTreeMap::from([(1, 180), (3, 20)]));
        assert_eq!(after.since(&before), Duration::from_nanos(100));
    }
}
