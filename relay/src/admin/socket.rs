//! The Unix socket in the data directory at which a running relay answers its operator: one JSON
//! line in, JSON lines out. It takes nobody but its own user and root: by the socket's mode (0600),
//! and by what the system says of who connects.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, warn};

use super::{Access, Answer, RoomsCommand, WAITING};

/// Commands at once.
const AT_ONCE: usize = 4;
/// Longest question, in bytes.
const QUESTION: u64 = 4096;
/// Time for the question, and for each write of the answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the socket is.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("relay.sock")
}

/// Answers commands for as long as the process lives. The relay goes on without when the socket
/// cannot be made; it must have the directory to itself by then, because what an ended relay left
/// there is removed.
pub(crate) fn serve(dir: &Path, access: Access) {
    let path = path(dir);
    match bind(&path) {
        Ok(listener) => drop(tokio::spawn(accept(listener, access))),
        Err(error) => {
            warn!("no commands at {} ({error}); stop the relay to use `snug-relay rooms`", path.display());
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, access: Access) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                debug!(%error, "an operator's connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let own = rustix::process::geteuid().as_raw();
        // Before the mode was set, somebody else might have been faster.
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own) {
            continue;
        }
        let access = access.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(stream, &access).await {
                debug!(%error, "an operator's command was cut off");
            }
            drop(place);
        });
    }
}

async fn answer(stream: UnixStream, access: &Access) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut question = String::new();
    let mut reader = BufReader::new(read.take(QUESTION));
    tokio::time::timeout(PATIENCE, reader.read_line(&mut question)).await??;
    let command: RoomsCommand = match serde_json::from_str(&question) {
        Ok(command) => command,
        Err(_) => {
            let message = "this relay is of another version than the command; use its own snug-relay";
            let line = serde_json::to_string(&Answer::Error(message.into()))? + "\n";
            return Ok(tokio::time::timeout(PATIENCE, write.write_all(line.as_bytes())).await??);
        }
    };
    let (lines, mut answers) = mpsc::channel(WAITING);
    let execute = async {
        access.execute(command, &lines).await;
        drop(lines);
    };
    let write = async {
        let written = async {
            while let Some(answer) = answers.recv().await {
                let line = serde_json::to_string(&answer)? + "\n";
                tokio::time::timeout(PATIENCE, write.write_all(line.as_bytes())).await??;
            }
            anyhow::Ok(())
        }
        .await;
        // What is still to be said has nobody to hear it.
        answers.close();
        written
    };
    let ((), written) = tokio::join!(execute, write);
    written
}

/// The relay that has `dir`, if one answers.
pub(super) async fn connect(dir: &Path) -> Option<UnixStream> {
    UnixStream::connect(path(dir)).await.ok()
}

/// Asks the relay and hands on its answer.
pub(super) async fn ask(
    relay: UnixStream,
    command: &RoomsCommand,
    lines: &mpsc::Sender<Answer>,
) -> anyhow::Result<()> {
    let (read, mut write) = relay.into_split();
    let question = serde_json::to_string(command)? + "\n";
    write.write_all(question.as_bytes()).await.context("the relay does not take the command")?;
    let mut answers = BufReader::new(read).lines();
    while let Some(line) = answers.next_line().await? {
        let answer = serde_json::from_str(&line).context("the relay is of another version")?;
        if lines.send(answer).await.is_err() {
            break;
        }
    }
    Ok(())
}
