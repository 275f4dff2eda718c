//! `snug join`: one call from options to exit code. With --json, events go out and commands come in as JSON lines, which is how a window
//! in a process of its own is driven, too.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use snug_core::audio::Processing;
use snug_core::audio::io::{AudioIo, PacedIo, Sink, Source};
use snug_core::signaling::{TlsRoots, parse_link};
use snug_core::video::sources::{PatternSource, SizedSource, open_file};
use snug_core::video::{VideoCodecs, Vp8Codecs};
use snug_core::wire::Password;
use snug_core::{
    CameraConfig, Command, Engine, EngineConfig, Event, FactoryConfig, OpenCamera, OpenScreen, RelayProtocol,
    ScreenConfig,
};
use tokio::sync::mpsc;

use crate::choice::{self, Choice, NoDevice, camera_or};
use crate::input;
use crate::lines::{self, Line};
use crate::printable;
use crate::state;
use crate::tiles::{Size, Tiles};

/// Commands read from standard input that wait.
const LINES: usize = 64;
/// The picture of `--video test`, in pixels, and its frame rate.
const CAMERA: (u32, u32) = (1280, 720);
const CAMERA_RATE: u32 = 30;
/// The screen that `--screen test` shows, in pixels, and its frame rate.
const SCREEN: (u32, u32) = (1920, 1080);
const SCREEN_RATE: u32 = 15;

/// How to enter a room.
#[derive(Args)]
pub(crate) struct Options {
    /// The room's link, whole: https://host/room/name#secret, or a text with it. `-` reads it from standard input (with --json its first line).
    /// As an argument it can be seen in the list of processes
    #[arg(env = "SNUG_LINK", hide_env_values = true)]
    link: String,
    /// The name that the others see
    #[arg(long, default_value = "Snug")]
    name: String,
    /// The room's password. `-` reads it from standard input, the line after the link. As an argument it can be seen in the list of processes
    #[arg(long, env = "SNUG_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// What the others see: `camera`, `test` (a moving pattern), `none`, or the path of a .y4m or .ivf file, which is repeated
    #[arg(long, default_value = "none")]
    video: Video,
    #[command(flatten)]
    devices: Choice,
    /// What is shared as a screen, from the start: `test` (a moving pattern), `none`, or the path of a .y4m or .ivf file, which is repeated
    #[arg(long, default_value = "none")]
    screen: Video,
    /// What the others hear: `device` (microphone and speaker), `tone`, `voice`, `none`, or the path of a .wav file, which is repeated
    #[arg(long, default_value = "device")]
    audio: Audio,
    /// Record what each participant sends into DIR/NAME-ID.ivf and DIR/NAME-ID.wav, and (not with `--audio device`) all of it together into
    /// DIR/heard.wav
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Treat a file's sound as a microphone's: cancel echo, suppress noise, level it
    #[arg(long)]
    processing: bool,
    /// Ask the others for pictures of this size; else 1280x720 when recording or for one other participant, and 640x360 for more. `0x0` asks for none
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    tile: Option<Size>,
    /// Start muted
    #[arg(long)]
    muted: bool,
    /// Tell every so many seconds how each link does
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    stats: Option<u64>,
    /// Leave after so many seconds
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u64>,
    /// Print events as JSON lines and read commands as JSON lines from standard input
    #[arg(long)]
    json: bool,
    /// Trust the certificates in this PEM file instead of the system's
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,
    /// Do not try QUIC
    #[arg(long)]
    no_quic: bool,
    /// Show the others no address but the TURN server's
    #[arg(long)]
    relay_only: bool,
    /// Reach TURN servers by this protocol alone, for trying one out
    #[arg(long, value_name = "PROTOCOL", hide = true)]
    ice_transport: Option<IceTransport>,
    /// Keep who you are in a room in this folder from the join until the leave, so that after a crash you come back as the same participant
    #[arg(long, value_name = "DIR", env = "SNUG_STATE_DIR", hide_env_values = true)]
    state_dir: Option<PathBuf>,
    /// Also offer the loopback address: for calls within one machine
    #[arg(long)]
    loopback: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum IceTransport {
    Udp,
    Tcp,
    Tls,
}

impl From<IceTransport> for RelayProtocol {
    fn from(transport: IceTransport) -> Self {
        match transport {
            IceTransport::Udp => Self::Udp,
            IceTransport::Tcp => Self::Tcp,
            IceTransport::Tls => Self::Tls,
        }
    }
}

#[derive(Clone)]
enum Video {
    None,
    Camera,
    Test,
    File(PathBuf),
}

impl FromStr for Video {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "none" => Self::None,
            "camera" => Self::Camera,
            "test" => Self::Test,
            path => Self::File(path.into()),
        })
    }
}

#[derive(Clone)]
enum Audio {
    Device,
    Paced(Source),
}

impl FromStr for Audio {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::Paced(match text {
            "device" => return Ok(Self::Device),
            "none" => Source::Silence,
            "tone" => Source::Tone { hz: 440.0, level_db: -12.0 },
            "voice" => Source::Voice { seed: 1 },
            path => Source::Wav { path: path.into(), repeat: true },
        }))
    }
}

/// Why a call does not begin: a word for scripts, a sentence, and the exit code.
struct Refusal {
    code: String,
    message: String,
    exit: u8,
}

fn usage(code: &str, message: impl std::fmt::Display) -> Refusal {
    Refusal { code: code.to_owned(), message: message.to_string(), exit: 2 }
}

pub(crate) fn run(options: Options) -> ExitCode {
    let json = options.json;
    let ended = begin(options).unwrap_or_else(|refusal| {
        print(json, &Event::Ended { code: refusal.code, message: refusal.message });
        refusal.exit
    });
    ExitCode::from(ended)
}

fn begin(mut options: Options) -> Result<u8, Refusal> {
    let (link, password) = input::secrets(options.link.clone(), options.password.take(), options.json)
        .map_err(|error| usage("standard_input", format!("standard input cannot be read: {error}")))?;
    let link = parse_link(&link).map_err(|error| usage(error.code(), &error))?;
    let password = password
        .map(|text| Password::new(&text))
        .transpose()
        .map_err(|error| usage("password_invalid", error))?;
    let uses_camera = choose_devices(&mut options)?;
    let (json, duration, stats) = (options.json, options.duration, options.stats);
    let config = EngineConfig {
        link,
        camera: camera(&options)?,
        devices: (uses_camera || matches!(options.audio, Audio::Device)).then(|| options.devices.devices()),
        screen: screen(&options.screen)?,
        audio: audio(&options)?,
        name: options.name,
        password,
        muted: options.muted,
        processing: match options.audio {
            Audio::Device => Processing::ALL,
            Audio::Paced(_) if options.processing => Processing::ALL,
            // What a file says is sent as it is.
            Audio::Paced(_) => Processing::NONE,
        },
        codecs: codecs(),
        roots: options.ca.map_or(TlsRoots::System, TlsRoots::Pem),
        quic: !options.no_quic,
        network: FactoryConfig {
            include_loopback: options.loopback,
            relay_only: options.relay_only,
            relay_transport: options.ice_transport.map(Into::into),
            ..FactoryConfig::default()
        },
        identities: options.state_dir.or_else(state::folder),
        watch_network: true,
        agent: concat!("snug/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let machine = |error: &dyn std::fmt::Display| Refusal {
        code: "machine".to_owned(),
        message: error.to_string(),
        exit: 6,
    };
    let shares = config.screen.is_some();
    let record = options.record;
    let tiles = Tiles::new(options.tile, record.is_some());
    lines::announce(json, &config.link.target.authority(), config.link.room.as_str());
    let (engine, events) = Engine::start(config).map_err(|error| machine(&error))?;
    if shares {
        engine.command(Command::SetScreen { enabled: true }).map_err(|error| machine(&error))?;
    }
    if record.is_some() {
        engine.command(Command::SetRecording { folder: record }).map_err(|error| machine(&error))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| machine(&error))?;
    let exit = runtime.block_on(follow(&engine, events, json, duration, stats, tiles));
    drop(engine);
    // A thread that waits for standard input cannot be waited for.
    runtime.shutdown_background();
    Ok(exit)
}

/// Finds the devices that were asked for. Says whether a camera is among them.
fn choose_devices(options: &mut Options) -> Result<bool, Refusal> {
    let is_none = matches!(options.video, Video::None);
    if options.devices.camera.is_some() && !is_none && !matches!(options.video, Video::Camera) {
        return Err(usage("camera_unused", "--camera goes with --video camera alone; leave one of them out"));
    }
    let sound = options.devices.microphone.is_some() || options.devices.speaker.is_some();
    if sound && !matches!(options.audio, Audio::Device) {
        let message = "--microphone and --speaker go with --audio device alone; leave one of them out";
        return Err(usage("devices_unused", message));
    }
    let uses_camera = matches!(options.video, Video::Camera) || options.devices.camera.is_some();
    match options.devices.resolve(uses_camera) {
        Ok(()) => Ok(uses_camera),
        Err(NoDevice::Unknown(message)) => Err(usage("unknown_device", message)),
        Err(NoDevice::Camera(message)) => {
            Err(Refusal { code: "camera_missing".to_owned(), message: message.to_owned(), exit: 6 })
        }
    }
}

/// A file is opened here once, so that a damaged one is told at once.
fn camera(options: &Options) -> Result<Option<CameraConfig>, Refusal> {
    let chosen = options.devices.camera.clone();
    let open: OpenCamera = match &options.video {
        Video::None | Video::Camera => {
            let enabled = matches!(options.video, Video::Camera) || chosen.is_some();
            let open = choice::first_camera();
            return Ok(open.map(|open| CameraConfig { open: camera_or(open), chosen, enabled }));
        }
        Video::Test => {
            let (width, height) = CAMERA;
            Arc::new(move |_| Ok(Box::new(PatternSource::new(width, height, CAMERA_RATE)?)))
        }
        Video::File(path) => {
            drop(pictures(path)?);
            let path = path.clone();
            Arc::new(move |_| Ok(open_file(&path, &codecs())?.0))
        }
    };
    Ok(Some(CameraConfig { open: camera_or(open), chosen: None, enabled: true }))
}

/// A file is opened here once, so that a damaged one is told at once.
fn screen(video: &Video) -> Result<Option<ScreenConfig>, Refusal> {
    Ok(match video {
        Video::None => None,
        Video::Camera => {
            return Err(usage("screen_source", "a camera is no screen; choose another --screen"));
        }
        Video::Test => {
            let (width, height) = SCREEN;
            let open: OpenScreen =
                Arc::new(move || Ok(Box::new(PatternSource::new(width, height, SCREEN_RATE)?)));
            Some(ScreenConfig { open, size: SCREEN })
        }
        Video::File(path) => {
            let (_, size) = pictures(path)?;
            let path = path.clone();
            Some(ScreenConfig { open: Arc::new(move || Ok(open_file(&path, &codecs())?.0)), size })
        }
    })
}

fn pictures(path: &Path) -> Result<SizedSource, Refusal> {
    open_file(path, &codecs()).map_err(|error| usage(error.code(), error))
}

fn codecs() -> Arc<dyn VideoCodecs> {
    Arc::new(Vp8Codecs)
}

fn audio(options: &Options) -> Result<Box<dyn AudioIo>, Refusal> {
    if let Some(folder) = &options.record {
        std::fs::create_dir_all(folder).map_err(|error| {
            usage("record_folder", format!("{}: {error}; choose another folder", folder.display()))
        })?;
    }
    let heard = options.record.as_ref().map(|folder| folder.join("heard.wav"));
    let sink = heard.map_or(Sink::Discard, Sink::Wav);
    Ok(match &options.audio {
        Audio::Device => options.devices.sound(),
        Audio::Paced(source) => Box::new(PacedIo::new(source.clone(), sink)),
    })
}

/// Prints events until the call is over; answers with the exit code.
async fn follow(
    engine: &Engine,
    mut events: mpsc::Receiver<Event>,
    json: bool,
    duration: Option<u64>,
    stats: Option<u64>,
    mut tiles: Tiles,
) -> u8 {
    let (sender, mut commands) = mpsc::channel(LINES);
    if json {
        std::thread::spawn(move || lines::read(&sender));
    } else {
        drop(sender);
    }
    let time_is_up = async {
        match duration {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(time_is_up);
    let period = Duration::from_secs(stats.unwrap_or(1));
    let mut told = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    told.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut leaving, mut joined) = (false, false);
    loop {
        let leave = tokio::select! {
            event = events.recv() => {
                let Some(event) = event else { return 6 };
                print(json, &event);
                if let Some(command) = tiles.on_event(&event) {
                    // A call that takes no more is about to end.
                    let _ = engine.command(command);
                }
                match event {
                    Event::Ended { code, .. } => return exit_code(&code),
                    Event::Joined { .. } => {
                        joined = true;
                        false
                    }
                    // Nobody is there to type one unless commands are read. A call that runs goes on with those who are connected.
                    Event::PasswordNeeded { .. } if !json && !joined => {
                        let message = "give the room's password in SNUG_PASSWORD, or with `--password -` on standard input".to_owned();
                        print(json, &Event::Ended { code: "password_needed".to_owned(), message });
                        return 3;
                    }
                    _ => false,
                }
            }
            Some(command) = commands.recv() => {
                match command {
                    Ok(Line::Snapshot) => lines::print(json, "snapshot", &engine.snapshot()),
                    Ok(Line::Command(command)) => {
                        tiles.on_command(&command);
                        if let Err(error) = engine.command(command) {
                            print(json, &Event::Problem { code: "busy".to_owned(), message: error.to_string() });
                        }
                    }
                    Err(message) => print(json, &Event::Problem { code: "bad_command".to_owned(), message }),
                }
                false
            }
            _ = told.tick(), if stats.is_some() => {
                lines::print(json, "stats", &engine.snapshot());
                false
            }
            () = &mut time_is_up, if !leaving => true,
            interrupted = tokio::signal::ctrl_c(), if !leaving => interrupted.is_ok(),
        };
        if leave {
            leaving = true;
            if engine.command(Command::Leave).is_err() {
                return 0;
            }
        }
    }
}

fn exit_code(code: &str) -> u8 {
    match code {
        "left" => 0,
        "auth_failed" | "auth_required" => 3,
        "unreachable" | "untrusted" | "timed_out" | "certificates" => 4,
        code if code.starts_with("AUDIO_") => 2,
        "no_threads" | "no_random" | "audio_encoder" => 6,
        _ => 5,
    }
}

fn print(json: bool, event: &Event) {
    let line = if json {
        serde_json::to_string(event)
            .unwrap_or_else(|error| format!("{{\"event\":\"problem\",\"message\":\"{error}\"}}"))
    } else {
        printable::lines(&words(event))
    };
    // Whoever closed our output does not want to know.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn words(event: &Event) -> String {
    match event {
        Event::Joined { again: false, .. } => "You are in the room.".to_owned(),
        Event::Joined { again: true, .. } | Event::Resumed => "The relay is back.".to_owned(),
        Event::Reconnecting => "The relay is out of reach; the call goes on.".to_owned(),
        Event::Draining => "The relay is about to restart; the call goes on.".to_owned(),
        Event::PasswordNeeded { hint, wrong } => {
            let start = if *wrong { "The password is wrong." } else { "The room has a password." };
            hint.as_ref().map_or_else(|| start.to_owned(), |hint| format!("{start} Hint: {hint}"))
        }
        Event::NoSeat { message, .. } => message.clone(),
        Event::ParticipantJoined { name, new_key: false, .. } => format!("{} came.", printable::line(name)),
        Event::ParticipantJoined { name, new_key: true, .. } => format!(
            "{} came back with a new key. Make sure by voice that it is the same person.",
            printable::line(name)
        ),
        Event::ParticipantReturned { name, .. } => format!("{} is back.", printable::line(name)),
        Event::ParticipantLeft { user, replaced: true, .. } => format!("{user} is replaced."),
        Event::ParticipantLeft { user, .. } => format!("{user} left."),
        Event::Link { user, state } => format!("{user}: {state:?}"),
        Event::FirstPicture { user, source } => format!("{user}: first picture of the {source}"),
        Event::MediaChanged { user, media } => format!("{user}: {media:?}"),
        Event::Chat { name, text, .. } => format!("{}: {text}", printable::line(name)),
        Event::DevicesChanged { devices } => {
            format!("{} cameras, microphones and speakers are plugged in.", devices.len())
        }
        Event::DeviceUsed { kind, name } => {
            format!("{}: {}", kind.word(), name.as_deref().unwrap_or("none"))
        }
        Event::MuteRequested { name, .. } => {
            format!("{} asked you to switch your microphone off, and it is off.", printable::line(name))
        }
        Event::Knock { name, .. } => format!("{} waits to be let in.", printable::line(name)),
        Event::KnockGone { user } => format!("{user} waits no longer."),
        Event::OwnerChanged { own: true, .. } => "You own this room now.".to_owned(),
        Event::OwnerChanged { user, own: false } => format!("{user} owns this room now."),
        // A secret is shown to a person and not to a journal.
        Event::LinkChanged { link } if std::io::stdout().is_terminal() => {
            format!("The room has a new link, and the old one opens nothing: {link}")
        }
        Event::LinkChanged { .. } => {
            "The room has a new link, and the old one opens nothing. Ask the owner for it.".to_owned()
        }
        Event::SafetyWords { name, words, .. } => format!(
            "Safety words with {}: {}. Read them to each other: if they differ, somebody sits between you.",
            printable::line(name),
            words.join(" ")
        ),
        Event::SafetyWarning { name, .. } => format!(
            "Somebody sits between you and {}, and can hear and see what you say. Leave the call.",
            printable::line(name)
        ),
        Event::RequestDone { request } => format!("{request}: done."),
        Event::OwnerToken { .. } => "You own this room.".to_owned(),
        Event::Problem { message, .. } | Event::Ended { message, .. } => message.clone(),
    }
}
