//! Percentiles, and what the kernel says about a process.

use anyhow::{Context, Result};
use std::time::Duration;

/// Linux reports CPU time in ticks of this size on every architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// A collection of durations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value below which this fraction of all lies, in milliseconds; nearest rank.
    pub(crate) fn percentile(&mut self, fraction: f64) -> f64 {
        self.0.sort_unstable();
        let rank = (fraction * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the process has no memory")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// CPU time of a process so far, all threads, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    /// In its own code.
    pub(crate) user: f64,
    /// In the kernel on its behalf; over loopback that includes the receiver's half of TCP.
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        Self::read(&format!("/proc/{pid}/stat"))
    }

    /// Of the calling thread alone.
    pub(crate) fn of_thread() -> Result<Self> {
        Self::read("/proc/thread-self/stat")
    }

    fn read(path: &str) -> Result<Self> {
        let stat = std::fs::read_to_string(path)?;
        // The name in parentheses may hold spaces; what follows it does not.
        let after = stat.rsplit(") ").next().context("no fields")?;
        let mut ticks = after.split(' ').skip(11).map(str::parse::<u64>);
        let mut next =
            || Ok::<_, anyhow::Error>(ticks.next().context("utime and stime")?? as f64 / TICKS_PER_SECOND);
        Ok(Self { user: next()?, system: next()? })
    }

    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

/// `met` or `missed`, for a bar that must not be exceeded.
pub(crate) fn against(value: f64, bar: f64) -> &'static str {
    if value <= bar { "met" } else { "missed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let mut times = Times::default();
        for ms in (1..=100).rev() {
            times.push(Duration::from_millis(ms));
        }
        assert_eq!(times.percentile(0.5), 50.0);
        assert_eq!(times.percentile(0.99), 99.0);
        assert_eq!(times.percentile(1.0), 100.0);
    }
}
