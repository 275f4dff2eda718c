//! A PulseAudio server of a test's own, for the tests of this crate and of snug-core. It uses no device and never the user's server.

#[path = "../../../../ci/needs.rs"]
mod needs;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A machine that is busy elsewhere starts programs and opens devices late.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A sound server that ends with the test.
pub struct SoundServer {
    child: Child,
    folder: PathBuf,
}

impl SoundServer {
    /// Starts it in an emptied `folder` with these lines of configuration, and waits for `sink`, which they make. `None`: the test is
    /// skipped, because it is not installed.
    pub fn start(folder: &Path, lines: &str, sink: &str) -> Option<Self> {
        if !needs::programs("pulseaudio pulseaudio-utils", &["pulseaudio", "pactl"]) {
            return None;
        }
        let folder = folder.to_owned();
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let (script, socket) = (folder.join("script.pa"), folder.join("native"));
        let listen =
            format!("load-module module-native-protocol-unix auth-anonymous=1 socket={}\n", socket.display());
        std::fs::write(&script, listen + lines).unwrap();
        let child = Command::new("pulseaudio")
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
            .spawn()
            .unwrap_or_else(|error| panic!("pulseaudio does not start: {error}"));
        let server = Self { child, folder };
        until("the server answers", || {
            socket.exists() && pactl(&server.address(), &["list", "short", "sinks"]).contains(sink)
        });
        Some(server)
    }

    fn address(&self) -> String {
        format!("unix:{}", self.folder.join("native").display())
    }

    /// Runs the test `with_the_server` of this binary in a process that uses this server: its address is a variable, which has to be
    /// there before a process starts.
    pub fn run_test_within(&self) {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--nocapture", "--ignored", "--exact", "with_the_server"])
            .env("PULSE_SERVER", self.address())
            .env("XDG_RUNTIME_DIR", &self.folder)
            .env("HOME", &self.folder)
            .status()
            .unwrap();
        assert!(status.success(), "see above");
    }
}

impl Drop for SoundServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks a server for something; answers with what it says.
pub fn pactl(server: &str, words: &[&str]) -> String {
    let output = Command::new("pactl").args(words).env("PULSE_SERVER", server).output();
    String::from_utf8_lossy(&output.expect("pactl comes with pulseaudio").stdout).into_owned()
}

/// Waits until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
