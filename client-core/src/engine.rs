//! A call from the shell's side: starts everything on threads of its own, takes commands, and shows what is.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use snug_audio::io::AudioIo;
use snug_audio::{AudioConfig, AudioEngine, AudioError, Processing};
use snug_call_proto::{Call, CallConfig};
use snug_rtc::{Factory, FactoryConfig};
use snug_signaling::{Connector, ConnectorConfig, ConnectorError, RoomLink, TlsRoots};
use snug_video::VideoCodecs;
use snug_wire::{Media, Password};
use tokio::sync::{mpsc, watch};

use crate::api::{Command, Event, Snapshot};
use crate::fanout::Fanout;
use crate::identity_store::IdentityStore;
use crate::pictures::Pictures;
use crate::screen::{OpenScreen, Screen, ScreenFailure};
use crate::session::{self, Parts, Shell, problem};
use crate::sound_news::SoundNews;
use crate::switchboard::{CameraConfig, DevicesConfig, Switchboard, Wiring};
use crate::teller::Teller;

/// Commands that wait; a shell that sends more at once is told [`CommandRefused`].
const COMMANDS: usize = 256;
/// Events that wait for a shell that does not read; further ones are counted by [`Engine::missed_events`].
const EVENTS: usize = 1024;
/// Speech at full quality.
const AUDIO_BPS: u32 = 32_000;
/// Threads that carry packets; encoding, decoding and sound have their own. Nine links are a tenth of a core, and a second thread only
/// adds wake-ups: 970 a second instead of 600 in a call of five.
const WORKERS: usize = 1;

/// A screen, a window, or what stands for one.
pub struct ScreenConfig {
    /// Opens it, each time that sharing starts.
    pub open: OpenScreen,
    /// Width and height of its pictures in pixels.
    pub size: (u32, u32),
}

/// What a call is started with.
pub struct EngineConfig {
    /// The room.
    pub link: RoomLink,
    /// The name that the others see, up to 64 characters.
    pub name: String,
    /// The room's password, when it is known already.
    pub password: Option<Password>,
    /// Microphone and speaker.
    pub audio: Box<dyn AudioIo>,
    /// Whether to start without being heard.
    pub muted: bool,
    /// What is done to the microphone's sound.
    pub processing: Processing,
    /// The camera; without one nobody sees us.
    pub camera: Option<CameraConfig>,
    /// What there is to choose from during the call. A shell that leaves it out keeps that to itself.
    pub devices: Option<DevicesConfig>,
    /// What can be shared as a screen, when asked to.
    pub screen: Option<ScreenConfig>,
    /// Encoders and decoders.
    pub codecs: Arc<dyn VideoCodecs>,
    /// Whose certificates count.
    pub roots: TlsRoots,
    /// Whether QUIC is tried before WebSocket.
    pub quic: bool,
    /// How links reach the network. Unless it says otherwise, the certificates that count for the relay count for TURN, too.
    pub network: FactoryConfig,
    /// The folder in which it is kept who we are in a room, from the join until the leave, so that after a crash we come back as the
    /// same participant. Without it, nothing is kept.
    pub identities: Option<PathBuf>,
    /// Whether to watch this machine's addresses; else the shell sends [`Command::NetworkChanged`].
    pub watch_network: bool,
    /// Name and version of the program.
    pub agent: String,
}

/// Why a call could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system refused threads.
    #[error("no threads for the call: {0}; close other programs")]
    Threads(std::io::Error),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers ({0}); start the call again")]
    Random(getrandom::Error),
    /// Certificates could not be read.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// Sound could not be started.
    #[error(transparent)]
    Audio(#[from] AudioError),
}

impl StartError {
    /// A word for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Threads(_) | Self::Audio(AudioError::Thread(_)) => "no_threads",
            Self::Random(_) => "no_random",
            Self::Connector(_) => "certificates",
            Self::Audio(AudioError::Io(error)) => error.code(),
            Self::Audio(AudioError::Encoder(_)) => "audio_encoder",
        }
    }
}

/// Too many commands wait, or the call is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the call takes no more commands at the moment; try again, or start another call")]
pub struct CommandRefused;

/// A call. Dropping it leaves the room and waits until that is done.
pub struct Engine {
    commands: Option<mpsc::Sender<Command>>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    pictures: Pictures,
    missed: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts a call and returns at once; whether it comes about is told by events. They end with [`Event::Ended`].
    ///
    /// # Errors
    /// When the system refuses a thread or random numbers.
    pub fn start(config: EngineConfig) -> Result<(Self, mpsc::Receiver<Event>), StartError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(StartError::Random)?;
        let (commands, waiting) = mpsc::channel(COMMANDS);
        let (events, read) = mpsc::channel(EVENTS);
        let (shown, snapshot) = watch::channel(Arc::new(Snapshot::default()));
        let teller = Teller::new(events);
        let missed = teller.missed();
        let pictures = Pictures::default();
        let shell = Shell { commands: waiting, teller, snapshot: shown };
        let seen = pictures.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("snug-net")
            .enable_all()
            .build()
            .map_err(StartError::Threads)?;
        let thread = std::thread::Builder::new()
            .name("snug-call".into())
            .spawn(move || {
                let teller = shell.teller.clone();
                if let Err(error) = run(&runtime, config, seed, shell, seen) {
                    let ended = Event::Ended { code: error.code().to_owned(), message: error.to_string() };
                    teller.tell_surely(ended);
                }
            })
            .map_err(StartError::Threads)?;
        let engine = Self { commands: Some(commands), snapshot, pictures, missed, thread: Some(thread) };
        Ok((engine, read))
    }

    /// Asks for something; never waits.
    ///
    /// # Errors
    /// When too many commands wait, or the call is over.
    pub fn command(&self, command: Command) -> Result<(), CommandRefused> {
        self.commands.as_ref().ok_or(CommandRefused)?.try_send(command).map_err(|_| CommandRefused)
    }

    /// The call as it is.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// The pictures of the others.
    pub fn pictures(&self) -> &Pictures {
        &self.pictures
    }

    /// Events that were dropped because nobody read them.
    pub fn missed_events(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

fn run(
    runtime: &tokio::runtime::Runtime,
    config: EngineConfig,
    seed: [u8; 32],
    shell: Shell,
    pictures: Pictures,
) -> Result<(), StartError> {
    let EngineConfig {
        link,
        name,
        password,
        audio,
        muted,
        processing,
        camera,
        devices,
        screen,
        codecs,
        roots,
        quic,
        network,
        identities,
        watch_network,
        agent,
    } = config;
    let connector = Connector::new(ConnectorConfig { roots, quic, user_agent: agent.clone() })?;
    let network = FactoryConfig { tls: network.tls.or_else(|| Some(connector.tls())), ..network };
    let fanout = Fanout::default();
    let sound = fanout.clone();
    let heard = shell.teller.clone();
    let mut sound_news = SoundNews::default();
    let audio = AudioEngine::start(
        AudioConfig { io: audio, processing, bitrate: AUDIO_BPS, muted },
        move |encoded| sound.send_sound(&encoded),
        move |event| {
            for event in sound_news.events(&event) {
                heard.tell(event);
            }
        },
    )?;
    let epoch = Instant::now();
    let media = Media {
        audio: !muted,
        video: camera.as_ref().is_some_and(|camera| camera.enabled),
        ..Media::default()
    };
    let audio = Arc::new(audio);
    let seen = shell.teller.clone();
    let switchboard = Switchboard::start(Wiring {
        camera,
        devices,
        audio: Arc::clone(&audio),
        codecs: Arc::clone(&codecs),
        epoch,
        fanout: fanout.clone(),
        tell: Arc::new(move |event| seen.tell(event)),
    })
    .map_err(StartError::Threads)?;
    let seen = shell.teller.clone();
    let screen = screen.map(|ScreenConfig { open, size }| {
        let tell = Arc::new(move |failure| seen.tell(screen_problem(&failure)));
        Screen::new(open, size, Arc::clone(&codecs), epoch, fanout.clone(), tell)
    });
    let identity_store = identities.and_then(|folder| {
        IdentityStore::open(&folder, &link.target.authority(), &link.room).unwrap_or_else(|error| {
            shell.teller.tell(session::not_kept(&error));
            None
        })
    });
    let call = Call::new(
        CallConfig {
            room: link.room.clone(),
            secret: link.secret,
            owner_token: link.owner,
            name,
            password,
            media,
            agent,
            kept: identity_store.as_ref().and_then(IdentityStore::load),
        },
        seed,
        session::now(),
    );
    let parts = Parts {
        call,
        identity_store,
        connector: Arc::new(connector),
        target: link.target,
        room: link.room,
        factory: Factory::new(network),
        codecs,
        audio,
        fanout,
        pictures,
        media,
        switchboard,
        watch_network,
        screen,
    };
    runtime.block_on(session::run(parts, shell));
    Ok(())
}

fn screen_problem(failure: &ScreenFailure) -> Event {
    match failure {
        ScreenFailure::Source(error) => problem(error.code(), error),
        ScreenFailure::Encoder(error) => problem("video_encoder", error),
    }
}
