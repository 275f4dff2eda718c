//! What a check found, in words for people and as JSON for scripts. Nothing in here is a secret: no room, no credential, no token.

use std::io::Write as _;
use std::time::Instant;

use serde::Serialize;

use crate::printable;

/// What was looked at, in the order in which it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Check {
    Name,
    Connection,
    Certificate,
    Page,
    Health,
    Clock,
    WebSocket,
    Quic,
    Room,
    Stun,
    TurnUdp,
    TurnTcp,
    TurnTls,
}

impl Check {
    fn title(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Connection => "connection",
            Self::Certificate => "certificate",
            Self::Page => "page",
            Self::Health => "health",
            Self::Clock => "clock",
            Self::WebSocket => "websocket",
            Self::Quic => "quic",
            Self::Room => "room",
            Self::Stun => "stun",
            Self::TurnUdp => "turn (udp)",
            Self::TurnTcp => "turn (tcp)",
            Self::TurnTls => "turn (tls)",
        }
    }

    /// The exit code when this is the first check that failed.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Name => 10,
            Self::Connection => 11,
            Self::Certificate => 12,
            Self::Page | Self::Health => 13,
            Self::Clock => 14,
            Self::WebSocket | Self::Quic | Self::Room => 15,
            Self::Stun => 16,
            Self::TurnUdp | Self::TurnTcp | Self::TurnTls => 17,
        }
    }
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Ok,
    /// Calls work, though not as well as they could.
    Warn,
    Fail,
    /// It could not be looked at, or there is nothing to look at.
    Skip,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: Check,
    pub(crate) state: State,
    pub(crate) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
    /// How long it took, in milliseconds.
    pub(crate) ms: u64,
}

impl Finding {
    fn new(check: Check, state: State, message: impl Into<String>, fix: Option<String>) -> Self {
        Self { check, state, message: message.into(), fix, ms: 0 }
    }

    pub(crate) fn ok(check: Check, message: impl Into<String>) -> Self {
        Self::new(check, State::Ok, message, None)
    }

    pub(crate) fn skip(check: Check, message: impl Into<String>) -> Self {
        Self::new(check, State::Skip, message, None)
    }

    pub(crate) fn warn(check: Check, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, State::Warn, message, Some(fix.into()))
    }

    pub(crate) fn fail(check: Check, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(check, State::Fail, message, Some(fix.into()))
    }

    pub(crate) fn since(mut self, start: Instant) -> Self {
        self.ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self
    }

    pub(crate) fn is_failure(&self) -> bool {
        self.state == State::Fail
    }

    fn words(&self) -> String {
        let mut line = format!(
            "{:<4}  {:<11} {:>5} ms  {}",
            self.state.word(),
            self.check.title(),
            self.ms,
            printable::line(&self.message)
        );
        if let Some(fix) = &self.fix {
            line.push_str(&format!("\n{:26}→ {}", "", printable::line(fix)));
        }
        line
    }
}

/// Prints findings as they come and remembers the first failure.
#[derive(Default)]
pub(crate) struct Report {
    json: bool,
    failed: Option<Check>,
    failures: usize,
    warnings: usize,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, ..Self::default() }
    }

    pub(crate) fn add(&mut self, finding: &Finding) {
        match finding.state {
            State::Fail => {
                self.failures += 1;
                self.failed.get_or_insert(finding.check);
            }
            State::Warn => self.warnings += 1,
            State::Ok | State::Skip => {}
        }
        self.print(|| serde_json::to_string(finding).unwrap_or_default(), || finding.words());
    }

    pub(crate) fn add_all(&mut self, findings: &[Finding]) {
        for finding in findings {
            self.add(finding);
        }
    }

    /// Prints the last line and answers with the exit code.
    pub(crate) fn finish(&self) -> u8 {
        let exit = self.failed.map_or(0, Check::exit_code);
        let Self { failures, warnings, .. } = self;
        let last = serde_json::json!({ "failures": failures, "warnings": warnings, "exit": exit });
        self.print(
            || last.to_string(),
            || match (failures, warnings) {
                (0, 0) => "Everything is fine.".to_owned(),
                (0, _) => "Calls work; see the warnings above.".to_owned(),
                _ => format!("{failures} of the checks failed; the arrows say what to do."),
            },
        );
        exit
    }

    fn print(&self, json: impl FnOnce() -> String, words: impl FnOnce() -> String) {
        let line = if self.json { json() } else { words() };
        // Whoever closed our output does not want to know.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_gives_the_exit_code_and_warnings_give_none() {
        let mut report = Report::new(true);
        report.add(&Finding::warn(Check::Quic, "silent", "open it"));
        assert_eq!(report.finish(), 0);
        report.add_all(&[
            Finding::fail(Check::Stun, "silent", "open it"),
            Finding::fail(Check::TurnTls, "silent", "open it"),
        ]);
        assert_eq!(report.finish(), 16);
    }

    #[test]
    fn a_relay_cannot_add_to_the_report() {
        let words = Finding::ok(Check::Stun, "turn.example\u{1b}[1A\nok    quic").words();
        assert!(words.ends_with("turn.example[1Aok    quic"), "{words}");
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let words = Finding::fail(Check::TurnUdp, "no answer", "open UDP port 3478").words();
        assert!(words.starts_with("FAIL  turn (udp)"), "{words}");
        assert!(words.ends_with("→ open UDP port 3478"), "{words}");
    }
}
