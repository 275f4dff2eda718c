//! A relay of its own for each test, and people in it who are engines of this process.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use snug_core::audio::Processing;
use snug_core::audio::io::{PacedIo, Sink, Source};
use snug_core::signaling::{TlsRoots, parse_link};
use snug_core::video::sources::PatternSource;
use snug_core::video::{VideoCodecs, Vp8Codecs};
use snug_core::wire::Password;
use snug_core::{
    CameraConfig, Command, Engine, EngineConfig, Event, FactoryConfig, LinkState, OpenCamera, Participant,
    Snapshot, TileSize,
};
use tokio::sync::mpsc::Receiver;

use crate::relay_binary::relay_binary;

/// Nothing in one machine takes that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks at a snapshot.
const LOOK: Duration = Duration::from_millis(20);

/// The relay's binary, ended with the test.
pub(crate) struct Relay {
    process: Child,
    pub(crate) port: u16,
    _data: tempfile::TempDir,
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Relay {
    pub(crate) fn start() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let mut process = Process::new(relay_binary())
            .args([
                "--listen",
                "127.0.0.1:0",
                "--metrics-listen",
                "off",
                "--no-turn",
                "--quiet",
                "--data-dir",
            ])
            .arg(data.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the relay starts");
        let mut log = BufReader::new(process.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let line = log.find(|line| line.contains("listening on http://")).expect("it says where it listens");
        let port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok()).expect("a port");
        std::thread::spawn(move || log.for_each(drop));
        Self { process, port, _data: data }
    }

    pub(crate) fn link(&self, room: &str) -> String {
        format!("http://127.0.0.1:{}/room/{room}#AAECAwQFBgcICQoLDA0ODw", self.port)
    }
}

/// What somebody starts with.
#[derive(Clone, Copy, Default)]
pub(crate) struct With {
    pub(crate) camera: bool,
    pub(crate) muted: bool,
    pub(crate) password: Option<&'static str>,
}

/// Somebody in a call.
pub(crate) struct Person {
    pub(crate) engine: Engine,
    pub(crate) events: Receiver<Event>,
    name: &'static str,
    /// What was told so far.
    told: Vec<Event>,
}

impl Person {
    pub(crate) fn join(name: &'static str, link: &str, with: With) -> Self {
        let small: OpenCamera = Arc::new(|_| Ok(Box::new(PatternSource::new(320, 180, 15)?)));
        Self::with_camera(name, link, with, with.camera.then_some(small), Arc::new(Vp8Codecs))
    }

    /// Somebody with a camera and codecs of the test's choice.
    pub(crate) fn with_camera(
        name: &'static str,
        link: &str,
        with: With,
        open: Option<OpenCamera>,
        codecs: Arc<dyn VideoCodecs>,
    ) -> Self {
        let camera = open.map(|open| CameraConfig { open, chosen: None, enabled: true });
        let (engine, events) = Engine::start(EngineConfig {
            link: parse_link(link).expect("a link"),
            name: name.to_owned(),
            password: with.password.map(|password| Password::new(password).expect("a password")),
            audio: Box::new(PacedIo::new(Source::Tone { hz: 440.0, level_db: -12.0 }, Sink::Discard)),
            muted: with.muted,
            processing: Processing::NONE,
            camera,
            devices: None,
            screen: None,
            codecs,
            roots: TlsRoots::System,
            quic: false,
            network: FactoryConfig { include_loopback: true, ..FactoryConfig::default() },
            identities: None,
            watch_network: false,
            agent: "test/1".to_owned(),
        })
        .expect("the engine starts");
        Self { engine, events, name, told: Vec::new() }
    }

    pub(crate) fn ask(&self, command: Command) {
        self.engine.command(command).expect("the call takes commands");
    }

    /// Shows everybody in the call in a tile of this size.
    pub(crate) fn shows_all_in(&self, (width, height): (u16, u16)) {
        let tile = TileSize { width, height, ..TileSize::default() };
        let snapshot = self.engine.snapshot();
        let tiles = snapshot.participants.iter().map(|one| (one.user.clone(), tile)).collect();
        self.ask(Command::SetTiles { tiles });
    }

    /// Waits for the next event that fits; those before it are passed over.
    pub(crate) async fn told<T>(&mut self, what: &str, fits: impl Fn(&Event) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, self.events.recv()).await {
                Ok(Some(event)) => {
                    let found = fits(&event);
                    self.told.push(event);
                    if let Some(found) = found {
                        return found;
                    }
                }
                Ok(None) => panic!("{} ended without {what}: {:?}", self.name, self.told),
                Err(_) => panic!("{} was not told of {what}: {:?}", self.name, self.told),
            }
        }
    }

    pub(crate) async fn joined(&mut self) {
        self.told("a seat", |event| matches!(event, Event::Joined { .. }).then_some(())).await;
    }

    /// The code with which the call ends.
    pub(crate) async fn ended(&mut self) -> String {
        let code = |event: &Event| match event {
            Event::Ended { code, .. } => Some(code.clone()),
            _ => None,
        };
        self.told("the end", code).await
    }

    /// The code of the next thing that does not work.
    pub(crate) async fn problem(&mut self) -> String {
        let code = |event: &Event| match event {
            Event::Problem { code, .. } => Some(code.clone()),
            _ => None,
        };
        self.told("a problem", code).await
    }

    /// Waits for a snapshot that fits.
    pub(crate) async fn shows(&self, what: &str, fits: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let start = Instant::now();
        loop {
            let snapshot = self.engine.snapshot();
            if fits(&snapshot) {
                return snapshot;
            }
            assert!(start.elapsed() < PATIENCE, "{} does not show {what}: {snapshot:?}", self.name);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until so many others are connected; by name.
    pub(crate) async fn meets(&self, others: usize) -> BTreeMap<String, Participant> {
        let connected = |snapshot: &Snapshot| {
            let linked = |one: &&Participant| one.link == LinkState::Connected;
            snapshot.participants.iter().filter(linked).count() == others
        };
        let snapshot = self.shows("all others", connected).await;
        snapshot.participants.iter().map(|one| (one.name.clone(), one.clone())).collect()
    }

    /// How somebody is shown.
    pub(crate) fn sees(snapshot: &Snapshot, name: &str) -> Option<Participant> {
        snapshot.participants.iter().find(|one| one.name == name).cloned()
    }
}
