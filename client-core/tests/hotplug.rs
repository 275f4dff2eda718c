//! Microphones and speakers that come and go, at a real PulseAudio server that the test starts for itself (apt-get install pulseaudio).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop anywhere, and says how long things took"
)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use snug_core::audio::{AudioConfig, AudioEngine, AudioEvent, Processing};
use snug_core::{DeviceKind, Devices as _, SystemDevices};

/// A machine that is busy elsewhere opens devices late.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// `None` when it is not installed.
    fn start() -> Option<Self> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hotplug");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("native");
        let script = folder.join("script.pa");
        std::fs::write(
            &script,
            format!(
                "load-module module-native-protocol-unix socket={} auth-anonymous=1\n\
                 load-module module-null-sink sink_name=desk sink_properties=device.description=Desk\n\
                 load-module module-sine-source source_name=voice\n\
                 set-default-sink desk\nset-default-source voice\n",
                socket.display()
            ),
        )
        .unwrap();
        let spawned = Command::new("pulseaudio")
            .args(["--daemonize=no", "--system=no", "--use-pid-file=no", "--exit-idle-time=-1"])
            .args(["--disable-shm=yes", "--realtime=no", "--high-priority=no", "-n", "-F"])
            .arg(&script)
            .envs(
                ["HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH", "PULSE_STATE_PATH"]
                    .map(|name| (name, &folder)),
            )
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => panic!("pulseaudio does not start: {error}"),
        };
        let server = Self { child, folder };
        until("the server answers", || {
            socket.exists() && pactl(&server.address(), &["list", "short", "sinks"]).contains("desk")
        });
        Some(server)
    }

    fn address(&self) -> String {
        format!("unix:{}", self.folder.join("native").display())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pactl(server: &str, words: &[&str]) -> String {
    let output = Command::new("pactl").args(words).env("PULSE_SERVER", server).output();
    String::from_utf8_lossy(&output.expect("pactl comes with pulseaudio").stdout).into_owned()
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_chosen_device_that_is_unplugged_is_replaced_until_it_is_back() {
    let Some(server) = Server::start() else {
        println!("skipped: pulseaudio is not installed (apt-get install pulseaudio)");
        return;
    };
    // The variable has to be there before the process starts: the test starts itself again with it.
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "--ignored", "--exact", "with_the_server"])
        .env("PULSE_SERVER", server.address())
        .env("XDG_RUNTIME_DIR", &server.folder)
        .env("HOME", &server.folder)
        .status()
        .unwrap();
    assert!(status.success(), "see above");
}

/// Waits until the devices were opened with this speaker; says whether a missing one was told with it.
fn opened_with(events: &Receiver<AudioEvent>, speaker: &str) -> bool {
    let end = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while let Ok(event) = events.recv_timeout(end.saturating_duration_since(Instant::now())) {
        seen.push(format!("{event:?}"));
        if let AudioEvent::Opened(opened) = event
            && opened.playout.as_ref().is_some_and(|name| name.to_lowercase().contains(speaker))
        {
            return opened.problems.iter().any(|problem| problem.code() == "AUDIO_DEVICE_GONE");
        }
    }
    panic!("{speaker} was never opened: {seen:?}");
}

/// Run by the test above, with the server's address in the environment.
#[test]
#[ignore = "started by the other test of this file"]
fn with_the_server() {
    let server = std::env::var("PULSE_SERVER").unwrap();
    let plug = || {
        let words = [
            "load-module",
            "module-null-sink",
            "sink_name=headset",
            "sink_properties=device.description=Headset",
        ];
        pactl(&server, &words).trim().to_owned()
    };
    let headset = || {
        let list = SystemDevices.list();
        list.into_iter().find(|device| device.kind == DeviceKind::Speaker && device.id.ends_with(":headset"))
    };
    assert_eq!(headset(), None);
    let module = plug();
    until("the headset is listed", || headset().is_some());
    let chosen = headset().unwrap();
    assert!(!chosen.default, "{chosen:?}");

    let (told, events) = channel();
    let engine = AudioEngine::start(
        AudioConfig {
            io: SystemDevices.sound(None, Some(&chosen.id)),
            processing: Processing::NONE,
            bitrate: 32_000,
            muted: false,
        },
        |_| {},
        move |event| {
            let _ = told.send(event);
        },
    )
    .unwrap();
    assert!(!opened_with(&events, "headset"));

    let start = Instant::now();
    pactl(&server, &["unload-module", &module]);
    assert!(opened_with(&events, "desk"), "the loss is told");
    println!("replaced after {} ms", start.elapsed().as_millis());
    assert_eq!(headset(), None);

    let start = Instant::now();
    let module = plug();
    assert!(!opened_with(&events, "headset"));
    println!("back after {} ms", start.elapsed().as_millis());
    assert_eq!(headset().unwrap().id, chosen.id, "the same device has the same id");

    // Another one is taken while the engine goes on, and the default one without a choice.
    engine.set_io(SystemDevices.sound(None, None)).unwrap();
    assert!(!opened_with(&events, "desk"));
    pactl(&server, &["unload-module", &module]);
}
