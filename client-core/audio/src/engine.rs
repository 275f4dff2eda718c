//! The sound of a call as a whole. One thread encodes and mixes, driven by the devices' callbacks or, without devices,
//! by time; another opens, watches and exchanges devices, which may block. Commands never block their caller.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::capture::{Capture, CaptureState, EncodedAudio};
use crate::io::{AudioIo, EngineSide, IoError, Opened, RestartReason};
use crate::keeper::{KeeperCommand, open_first, run_keeper};
use crate::playout::{IncomingAudio, Playout, RemoteId, RemoteState};
use crate::priority::raise_priority;
use crate::wav::WavRecorder;
use crate::{BLOCK, BLOCK_TIME, Processing};

/// Commands that wait at most: two seconds of packets of ten remotes.
const COMMANDS: usize = 1_024;
/// Waits for the devices at most this long.
const TICK: Duration = Duration::from_millis(5);
/// A microphone's pause longer than this is passed on as time in which nothing was said.
const CAPTURE_GAP: Duration = Duration::from_millis(200);
/// A speaker that takes nothing for so long is replaced by time.
const PLAYOUT_GAP: Duration = Duration::from_millis(100);
/// How often the snapshot is brought up to date.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);
/// Blocks of extra delay for a speaker that starves, at most, and how long one is kept.
const MAX_EXTRA: usize = 8;
const EXTRA_KEPT: Duration = Duration::from_secs(30);

/// What an engine starts with.
pub struct AudioConfig {
    /// Microphone and speaker.
    pub io: Box<dyn AudioIo>,
    /// What is done to the microphone's sound.
    pub processing: Processing,
    /// Opus rate in bit/s; 32,000 is a good one, below 12,000 speech suffers.
    pub bitrate: u32,
    /// Whether to start muted.
    pub muted: bool,
}

/// What happened to the devices.
#[derive(Debug)]
pub enum AudioEvent {
    /// Devices were opened; problems of one direction are inside.
    Opened(Opened),
    /// No device could be opened; it is tried again, unless that is hopeless.
    Failed(IoError),
    /// Devices are being opened again.
    Restarting(RestartReason),
    /// A recording could not be started, or ended early.
    RecordingFailed(RemoteId, IoError),
    /// A fault inside was survived; up to a second of sound is lost.
    Recovered,
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// What was asked for does not exist.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The codec refused.
    #[error("the voice encoder does not start: {0}; choose another bitrate")]
    Encoder(#[from] snug_codec::opus::OpusError),
    /// The system refused a thread.
    #[error("no thread for sound: {0}; close other programs")]
    Thread(std::io::Error),
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommandError {
    /// Too many wait already.
    #[error("the sound engine is too far behind; this command was dropped, repeat it")]
    Behind,
    /// The engine ended.
    #[error("the sound engine has ended; start it again")]
    Ended,
}

/// How the engine does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AudioSnapshot {
    /// The own microphone.
    pub capture: Option<CaptureState>,
    /// Each remote.
    pub remotes: BTreeMap<RemoteId, RemoteState>,
    /// Samples that the speaker missed since the devices were opened.
    pub starved: u64,
    /// Samples of the microphone that were lost since the devices were opened.
    pub overrun: u64,
    /// From mixing to the speaker: subtract it from a remote's position to know what is heard.
    pub speaker_delay: Duration,
    /// When all this was so.
    pub taken: Option<Instant>,
}

pub(crate) enum Command {
    Side(EngineSide),
    Muted(bool),
    Bitrate(u32),
    LossPercent(u8),
    Processing(Processing),
    Add(RemoteId),
    Remove(RemoteId),
    Insert(RemoteId, IncomingAudio),
    Volume(RemoteId, f32),
    MinimumDelay(RemoteId, Duration),
    Record(RemoteId, Option<WavRecorder>),
    Stop,
}

/// What the caller is told, from either thread.
pub(crate) type Events = Arc<Mutex<dyn FnMut(AudioEvent) + Send>>;

pub(crate) fn tell(events: &Events, event: AudioEvent) {
    // A listener that panicked once may be told again: it is the caller's own.
    let mut listener = events.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = catch_unwind(AssertUnwindSafe(|| listener(event)));
}

/// The sound of a call. Dropping it ends both threads and finishes recordings.
pub struct AudioEngine {
    commands: SyncSender<Command>,
    keeper: SyncSender<KeeperCommand>,
    snapshot: Arc<Mutex<AudioSnapshot>>,
    events: Events,
    threads: Vec<JoinHandle<()>>,
    /// Threads that write recordings.
    writers: Mutex<Vec<JoinHandle<()>>>,
}

impl AudioEngine {
    /// Opens the devices, which may take seconds, and starts. `on_encoded` is called from the sound thread and must be
    /// quick; `on_event` from either thread.
    ///
    /// # Errors
    /// When a device or file that was asked for does not exist, or the codec or the system refuses. Missing devices
    /// are no error: the call goes on without, and uses them once they appear.
    pub fn start(
        config: AudioConfig,
        on_encoded: impl FnMut(EncodedAudio) + Send + 'static,
        on_event: impl FnMut(AudioEvent) + Send + 'static,
    ) -> Result<Self, AudioError> {
        let AudioConfig { mut io, processing, bitrate, muted } = config;
        let capture = Capture::new(processing, bitrate, muted)?;
        let events: Events = Arc::new(Mutex::new(on_event));
        let snapshot = Arc::new(Mutex::new(AudioSnapshot::default()));
        let (commands, waiting) = sync_channel(COMMANDS);
        let mut sound = Sound::new(capture, Box::new(on_encoded), events.clone(), snapshot.clone());
        let thread = spawn("snug-sound", move || sound.run(&waiting))?;
        let sound_thread: Thread = thread.thread().clone();
        let mut threads = vec![thread];
        let (keeper, orders) = sync_channel(16);
        let started = open_first(io.as_mut(), &sound_thread, &commands, &events);
        let side = commands.clone();
        let told = events.clone();
        let keeping = match started {
            Ok(open) => {
                spawn("snug-devices", move || run_keeper(io, open, &sound_thread, &side, &orders, &events))
            }
            Err(error) => Err(error.into()),
        };
        match keeping {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                let _ = commands.send(Command::Stop);
                for thread in threads {
                    let _ = thread.join();
                }
                return Err(error);
            }
        }
        Ok(Self { commands, keeper, snapshot, events: told, threads, writers: Mutex::default() })
    }

    /// Mutes or unmutes the microphone; time runs on while muted.
    ///
    /// # Errors
    /// As all commands: when too many wait, or the engine ended.
    pub fn set_muted(&self, muted: bool) -> Result<(), CommandError> {
        self.send(Command::Muted(muted))
    }

    /// Sets the Opus rate in bit/s.
    ///
    /// # Errors
    /// As [`set_muted`](Self::set_muted).
    pub fn set_bitrate(&self, bitrate: u32) -> Result<(), CommandError> {
        self.send(Command::Bitrate(bitrate))
    }

    /// Tells the encoder which share of packets is lost: it repeats itself for that. Zero costs nothing.
    ///
    /// # Errors
    /// As [`set_muted`](Self::set_muted).
    pub fn set_fec_loss_percent(&self, percent: u8) -> Result<(), CommandError> {
        self.send(Command::LossPercent(percent.min(100)))
    }

    /// Changes what is done to the microphone's sound.
    ///
    /// # Errors
    /// As [`set_muted`](Self::set_muted).
    pub fn set_processing(&self, processing: Processing) -> Result<(), CommandError> {
        self.send(Command::Processing(processing))
    }

    /// Exchanges the devices while the call goes on. What comes of it is told by events.
    ///
    /// # Errors
    /// As [`set_muted`](Self::set_muted).
    pub fn set_io(&self, io: Box<dyn AudioIo>) -> Result<(), CommandError> {
        self.keeper.try_send(KeeperCommand::Use(io)).map_err(refused)
    }

    /// Starts to hear a remote; at most 64 are heard.
    ///
    /// # Errors
    /// As [`set_muted`](Self::set_muted).
    pub fn add(&self, remote: RemoteId) -> Result<(), CommandError> {
        self.send(Command::Add(remote))
    }

    /// Forgets a remote and finishes its recording.
    ///
    /// # Errors
    /// As [`set_muted`](Self::set_muted).
    pub fn remove(&self, remote: RemoteId) -> Result<(), CommandError> {
        self.send(Command::Remove(remote))
    }

    /// Takes a packet of a remote.
    ///
    /// # Errors
    /// As [`set_muted`](Self::set_muted).
    pub fn insert(&self, remote: RemoteId, packet: IncomingAudio) -> Result<(), CommandError> {
        self.send(Command::Insert(remote, packet))
    }

    /// Sets a remote's volume between 0 and 4; 1 is as it came.
    ///
    /// # Errors
    /// As [`set_muted`](Self::set_muted).
    pub fn set_volume(&self, remote: RemoteId, volume: f32) -> Result<(), CommandError> {
        self.send(Command::Volume(remote, volume))
    }

    /// Delays a remote at least so long, so that its picture can keep up.
    ///
    /// # Errors
    /// As [`set_muted`](Self::set_muted).
    pub fn set_minimum_delay(&self, remote: RemoteId, delay: Duration) -> Result<(), CommandError> {
        self.send(Command::MinimumDelay(remote, delay))
    }

    /// Records a remote into a WAV file, or stops. The file is made with the first sound, beside one of the same name, and finished by
    /// a thread of its own; dropping the engine waits for it.
    ///
    /// # Errors
    /// As [`set_muted`](Self::set_muted). A file that cannot be written is told by an event.
    pub fn record(&self, remote: RemoteId, path: Option<PathBuf>) -> Result<(), CommandError> {
        let recorder = path.and_then(|path| self.recorder(remote, path));
        self.send(Command::Record(remote, recorder))
    }

    fn recorder(&self, remote: RemoteId, path: PathBuf) -> Option<WavRecorder> {
        let events = self.events.clone();
        let failed = move |error| tell(&events, AudioEvent::RecordingFailed(remote, error));
        match WavRecorder::later(path, failed) {
            Ok((recorder, thread)) => {
                let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
                writers.retain(|writer| !writer.is_finished());
                writers.push(thread);
                Some(recorder)
            }
            Err(error) => {
                tell(&self.events, AudioEvent::RecordingFailed(remote, error));
                None
            }
        }
    }

    /// How everything does, at most 50 ms old.
    pub fn snapshot(&self) -> AudioSnapshot {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn send(&self, command: Command) -> Result<(), CommandError> {
        self.commands.try_send(command).map_err(refused)
    }
}

impl Drop for AudioEngine {
    fn drop(&mut self) {
        let _ = self.keeper.send(KeeperCommand::Stop);
        let _ = self.commands.send(Command::Stop);
        // The sound thread lets go of every file, then their writers end.
        let writers = self.writers.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in self.threads.drain(..).chain(writers.drain(..)) {
            let _ = thread.join();
        }
    }
}

fn refused<T>(error: TrySendError<T>) -> CommandError {
    match error {
        TrySendError::Full(_) => CommandError::Behind,
        TrySendError::Disconnected(_) => CommandError::Ended,
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, AudioError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(AudioError::Thread)
}

/// What the sound thread owns.
struct Sound {
    capture: Capture,
    playout: Playout,
    side: Option<EngineSide>,
    on_encoded: Box<dyn FnMut(EncodedAudio) + Send>,
    events: Events,
    snapshot: Arc<Mutex<AudioSnapshot>>,
    captured: Option<Instant>,
    played: Instant,
    starved: u64,
    extra: usize,
    extra_since: Instant,
    published: Instant,
}

impl Sound {
    fn new(
        capture: Capture,
        on_encoded: Box<dyn FnMut(EncodedAudio) + Send>,
        events: Events,
        snapshot: Arc<Mutex<AudioSnapshot>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            capture,
            playout: Playout::default(),
            side: None,
            on_encoded,
            events,
            snapshot,
            captured: None,
            played: now,
            starved: 0,
            extra: 0,
            extra_since: now,
            published: now,
        }
    }

    fn run(&mut self, commands: &Receiver<Command>) {
        raise_priority();
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn(commands))) {
                Ok(true) => std::thread::park_timeout(TICK),
                Ok(false) => return,
                Err(_) => {
                    tracing::error!("a fault in the sound thread; all decoders start again");
                    self.playout.recover();
                    tell(&self.events, AudioEvent::Recovered);
                }
            }
        }
    }

    /// One turn; says whether another follows.
    fn turn(&mut self, commands: &Receiver<Command>) -> bool {
        // Bounded, so that a flood of packets cannot keep the speaker waiting.
        for _ in 0..COMMANDS {
            match commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Ok(command) => self.handle(command),
                Err(TryRecvError::Empty) => break,
            }
        }
        let now = Instant::now();
        // The speaker first: the echo canceller has to know what is played before it comes back.
        self.play(now);
        self.listen(now);
        if now - self.published >= PUBLISH_EVERY {
            self.published = now;
            self.publish();
        }
        true
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Side(side) => {
                self.side = Some(side);
                self.capture.apm.path_changed();
                self.starved = 0;
                self.extra = 0;
            }
            Command::Muted(muted) => self.capture.set_muted(muted),
            Command::Bitrate(bitrate) => self.capture.set_bitrate(bitrate),
            Command::LossPercent(percent) => self.capture.set_loss_percent(percent),
            Command::Processing(processing) => self.capture.apm.set_processing(processing),
            Command::Add(remote) => {
                if !self.playout.add(remote) {
                    tracing::warn!(remote = remote.0, "no room for another remote's sound");
                }
            }
            Command::Remove(remote) => self.playout.remove(remote),
            Command::Insert(remote, packet) => self.playout.insert(remote, packet),
            Command::Volume(remote, volume) => self.playout.set_volume(remote, volume),
            Command::MinimumDelay(remote, delay) => self.playout.set_minimum_delay(remote, delay),
            Command::Record(remote, recorder) => self.playout.record(remote, recorder),
            Command::Stop => {}
        }
    }

    /// Keeps the speaker's ring filled; without a speaker that takes anything, lets time pass for the remotes.
    fn play(&mut self, now: Instant) {
        if let Some(side) = &mut self.side
            && side.has_playout()
        {
            let starved = side.shared.starved();
            // What a device asks for before the first block was mixed is no fault.
            if starved > self.starved && self.starved > 0 {
                self.extra = (self.extra + 1).min(MAX_EXTRA);
                self.extra_since = now;
            }
            self.starved = starved.max(1);
            if self.extra > 0 && now - self.extra_since > EXTRA_KEPT {
                self.extra -= 1;
                self.extra_since = now;
            }
            let mut filled = false;
            while side.queued() < side.wanted(self.extra) {
                let block = self.playout.mix(now);
                self.capture.apm.render(&block);
                if side.playout.push_entire_slice(&block).is_err() {
                    break;
                }
                filled = true;
            }
            if filled {
                self.played = now;
            }
        }
        if now - self.played > PLAYOUT_GAP {
            // Not more than the gap is made up for: the jitter buffers are bounded and catch up by themselves.
            self.played = (self.played + BLOCK_TIME).max(now - PLAYOUT_GAP);
            self.playout.mix(now);
        }
    }

    fn listen(&mut self, now: Instant) {
        let Some(side) = &mut self.side else { return };
        while side.capture.slots() >= BLOCK {
            if let Some(last) = self.captured
                && now - last > CAPTURE_GAP
            {
                self.capture.skip(now - last);
            }
            self.captured = Some(now);
            let delay = side.echo_delay();
            let mut block = [0.0; BLOCK];
            if side.capture.pop_entire_slice(&mut block).is_err() {
                break;
            }
            if let Some(encoded) = self.capture.push(block, delay) {
                (self.on_encoded)(encoded);
            }
        }
    }

    fn publish(&self) {
        let shared = self.side.as_ref().map(|side| &side.shared);
        let fresh = AudioSnapshot {
            capture: Some(self.capture.state()),
            remotes: self.playout.states(),
            starved: shared.map_or(0, |shared| shared.starved()),
            overrun: shared.map_or(0, |shared| shared.overrun()),
            speaker_delay: self.side.as_ref().map_or(Duration::ZERO, EngineSide::speaker_delay),
            taken: Some(Instant::now()),
        };
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
    }
}
