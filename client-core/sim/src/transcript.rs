//! What happened, in lines: the last of them for people, all of them as a digest.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Lines that are kept for a failure.
const KEPT: usize = 120;

pub(crate) struct Transcript {
    lines: VecDeque<String>,
    digest: u64,
}

impl Transcript {
    pub(crate) fn new() -> Self {
        // The offset of FNV-1a: what matters is that the same lines give the same number.
        Self { lines: VecDeque::new(), digest: 0xcbf2_9ce4_8422_2325 }
    }

    pub(crate) fn add(&mut self, now: Duration, text: fmt::Arguments<'_>) {
        let line = format!("{:9.3} {text}", now.as_secs_f64());
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.lines.len() >= KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}

/// A rule that was broken. Its text has the seed and the last lines of the transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Of the plan.
    pub seed: u64,
    /// How long the call had gone on.
    pub at: Duration,
    /// The rule.
    pub problem: String,
    /// What happened before.
    pub transcript: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.transcript {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}, after {:.3} s: {}", self.seed, self.at.as_secs_f64(), self.problem)
    }
}

impl std::error::Error for Failure {}
