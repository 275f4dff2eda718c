//! Opens devices, watches that their callbacks go on, and opens them again when they do not.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::engine::{AudioEvent, Command, Events, tell};
use crate::io::{AudioIo, IoError, RestartReason, Shared, ends};
use crate::priority::raise_priority;

/// Time between two checks.
const CHECK_EVERY: Duration = Duration::from_millis(500);
/// Callbacks that stop for so long are taken for dead.
const STALLED: Duration = Duration::from_secs(2);
/// Waits between tries to open devices: they double between these.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(10);

pub(crate) enum KeeperCommand {
    Use(Box<dyn AudioIo>),
    Stop,
}

/// Opened devices and when their callbacks were last seen to move.
pub(crate) struct Watched {
    shared: Arc<Shared>,
    capture: Option<(u64, Instant)>,
    playout: Option<(u64, Instant)>,
}

impl Watched {
    fn stalled(&mut self, now: Instant) -> bool {
        let captured = self.shared.captured();
        let played = self.shared.played();
        let still = |seen: &mut Option<(u64, Instant)>, count: u64| match seen {
            Some((last, _)) if *last != count => {
                *seen = Some((count, now));
                false
            }
            Some((_, since)) => now - *since > STALLED,
            None => false,
        };
        still(&mut self.capture, captured) | still(&mut self.playout, played)
    }
}

/// The first opening, whose refusals the caller of the engine wants to know.
pub(crate) fn open_first(
    io: &mut dyn AudioIo,
    sound: &Thread,
    commands: &SyncSender<Command>,
    events: &Events,
) -> Result<Option<Watched>, IoError> {
    match open(io, sound, commands, events) {
        Ok(watched) => Ok(Some(watched)),
        Err(error) if error.is_refusal() => Err(error),
        Err(error) => {
            tell(events, AudioEvent::Failed(error));
            Ok(None)
        }
    }
}

fn open(
    io: &mut dyn AudioIo,
    sound: &Thread,
    commands: &SyncSender<Command>,
    events: &Events,
) -> Result<Watched, IoError> {
    let (capture, playout, side) = ends(sound);
    let opened = io.start(capture, playout)?;
    let now = Instant::now();
    side.shared.set_has_playout(opened.playout.is_some());
    side.shared.set_latency(io.latency());
    let watched = Watched {
        shared: side.shared.clone(),
        capture: opened.capture.is_some().then_some((0, now)),
        playout: opened.playout.is_some().then_some((0, now)),
    };
    // Waits while the sound thread is behind; it takes commands in every turn.
    let _ = commands.send(Command::Side(side));
    tell(events, AudioEvent::Opened(opened));
    Ok(watched)
}

pub(crate) fn run_keeper(
    mut io: Box<dyn AudioIo>,
    mut watched: Option<Watched>,
    sound: &Thread,
    commands: &SyncSender<Command>,
    orders: &Receiver<KeeperCommand>,
    events: &Events,
) {
    // What waits for the sound system inherits it.
    raise_priority();
    let mut wait = FIRST_RETRY;
    let mut retry_at = Some(Instant::now() + wait);
    loop {
        let reason = match orders.recv_timeout(CHECK_EVERY) {
            Ok(KeeperCommand::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(KeeperCommand::Use(other)) => {
                io.stop();
                io = other;
                wait = FIRST_RETRY;
                None
            }
            Err(RecvTimeoutError::Timeout) => {
                let now = Instant::now();
                let reason = match &mut watched {
                    Some(watched) => {
                        watched.shared.set_latency(io.latency());
                        io.check().or_else(|| watched.stalled(now).then_some(RestartReason::Stalled))
                    }
                    None => io
                        .check()
                        .or_else(|| retry_at.is_some_and(|at| now >= at).then_some(RestartReason::Failed)),
                };
                let Some(reason) = reason else { continue };
                Some(reason)
            }
        };
        if let Some(reason) = reason {
            tell(events, AudioEvent::Restarting(reason));
        }
        io.stop();
        watched = match open(io.as_mut(), sound, commands, events) {
            Ok(opened) => {
                wait = FIRST_RETRY;
                Some(opened)
            }
            Err(error) => {
                // A file that is damaged stays so; a device that was pulled out may come back.
                let hopeless = error.is_refusal();
                retry_at = (!hopeless).then(|| Instant::now() + wait);
                wait = (wait * 2).min(LAST_RETRY);
                tell(events, AudioEvent::Failed(error));
                None
            }
        };
    }
    io.stop();
}
