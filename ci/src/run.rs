//! Running other programs and counting what they say; the workspace's places on disk.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::needs;

/// How many checks of a suite passed, failed, and could not run on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Outcome {
    pub(crate) fn one(good: bool) -> Self {
        Self { passed: u64::from(good), failed: u64::from(!good), skipped: 0 }
    }

    /// A check that lacks something of this machine: skipped, or failed in continuous integration.
    pub(crate) fn missing(why: &str) -> Self {
        if needs::is_ci(std::env::var("CI").ok().as_deref()) {
            println!("failed, because CI is set and this cannot be checked: {why}");
            return Self::one(false);
        }
        println!("skipped: {why}");
        Self { skipped: 1, ..Self::default() }
    }

    /// Nothing failed, and something was checked: a suite that finds nothing to do has not shown anything.
    pub(crate) fn is_good(self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Takes those that skipped themselves from those that passed: a runner that knows no such tests has counted them there.
    pub(crate) fn without(self, skipped: u64) -> Self {
        let found = skipped.min(self.passed);
        Self { passed: self.passed - found, skipped: self.skipped + found, ..self }
    }
}

/// The last line: `3 passed, 0 failed`, and `, 1 skipped` where there is one.
impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("ci/ lies in the workspace").to_path_buf()
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(path) => root().join(path),
        None => root().join("target"),
    }
}

/// Where `ci/test` and the benches keep what they bring: `None` for a user without a home.
pub(crate) fn cache() -> Option<PathBuf> {
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => PathBuf::from(home).join(".cache"),
        _ => return None,
    };
    Some(cache.join("snug-ci"))
}

/// A command that runs in the workspace's root, never reads standard input, and is printed before it runs.
pub(crate) fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    command
}

/// Runs a command with its output left to the terminal. A program that is missing counts as failed, with its name.
pub(crate) fn passes(mut command: Command) -> bool {
    print_command(&command);
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            println!("could not run {}: {error}", command.get_program().display());
            false
        }
    }
}

/// Runs a command and returns what it printed on standard output.
///
/// # Errors
/// When it cannot be run or fails.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let out = command.stderr(Stdio::inherit()).output().with_context(|| format!("could not run {name}"))?;
    anyhow::ensure!(out.status.success(), "{name} failed: {}", out.status);
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs a test runner, shows its output line by line, and adds up the counts that `count` finds in it.
///
/// A runner that fails without having counted a failure (it did not compile, it crashed) counts as one. Tests that leave a line in the
/// file of [`needs::SKIPS`] are skipped, whatever the runner says of them.
///
/// # Errors
/// When its output cannot be read.
pub(crate) fn counted(mut command: Command, count: fn(&str) -> Option<Outcome>) -> Result<Outcome> {
    print_command(&command);
    let skips = target_dir().join(format!("skipped-{}", std::process::id()));
    std::fs::create_dir_all(target_dir())?;
    std::fs::write(&skips, "")?;
    let mut child = match command.env(needs::SKIPS, &skips).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("could not run {}: {error}", command.get_program().display());
            return Ok(Outcome::one(false));
        }
    };
    let mut total = Outcome::default();
    let stdout = child.stdout.take().expect("piped above");
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(found) = count(&line) {
            total.add(found);
        }
    }
    std::io::stdout().flush()?;
    if !child.wait()?.success() && total.failed == 0 {
        total.failed = 1;
    }
    let skipped = std::fs::read_to_string(&skips)?;
    let _ = std::fs::remove_file(&skips);
    skipped.lines().for_each(|line| println!("skipped: {line}"));
    Ok(total.without(skipped.lines().count() as u64))
}

/// Files of the repository, committed or about to be, with one of these endings, relative to the root.
///
/// # Errors
/// When git cannot list them.
pub(crate) fn files(endings: &[&str]) -> Result<Vec<String>> {
    let list = output(command("git", &["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let mut files: Vec<String> = list
        .lines()
        .filter(|path| endings.iter().any(|ending| path.ends_with(ending)) && root().join(path).is_file())
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

pub(crate) fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("could not read {path}"))
}

fn print_command(command: &Command) {
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    println!("$ {} {}", command.get_program().display(), args.join(" "));
}
