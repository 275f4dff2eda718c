//! The room's secret and its password reach `snug` without standing in the process list, and the relay is named before anything is sent.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

const SECRET: &str = "AAECAwQFBgcICQoLDA0ODw";
const PASSWORD: &str = "under the green lamp";

struct Snug {
    child: Child,
    lines: Receiver<String>,
}

impl Snug {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_snug"))
            .args(arguments)
            .env_remove("SNUG_LINK")
            .env_remove("SNUG_PASSWORD")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("snug starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Self { child, lines }
    }

    fn say(&mut self, text: &str) {
        self.child.stdin.as_mut().expect("a pipe").write_all(text.as_bytes()).expect("snug reads");
    }

    fn hear(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(60)).expect("snug says something")
    }

    fn hear_event(&self) -> Value {
        serde_json::from_str(&self.hear()).expect("a line of JSON")
    }

    #[cfg(target_os = "linux")]
    fn assert_hides_secrets(&self) {
        let line = std::fs::read(format!("/proc/{}/cmdline", self.child.id())).expect("it runs");
        let line = String::from_utf8_lossy(&line);
        assert!(line.contains("join") && !line.contains(SECRET) && !line.contains(PASSWORD), "{line}");
    }

    #[cfg(not(target_os = "linux"))]
    fn assert_hides_secrets(&self) {}
}

impl Drop for Snug {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A relay that takes connections and says nothing.
fn silent_relay() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let host = listener.local_addr().expect("bound").to_string();
    (listener, host)
}

#[test]
fn link_and_password_come_from_standard_input_before_the_commands() {
    let (_relay, host) = silent_relay();
    let mut snug = Snug::start(&["join", "-", "--password", "-", "--json", "--audio", "none"], &[]);
    snug.say(&format!("Come to <http://{host}/room/abc#{SECRET}>.\n{PASSWORD}\n"));
    let told = snug.hear_event();
    assert_eq!(
        (&told["event"], &told["host"], &told["room"]),
        (&"joining".into(), &host.into(), &"abc".into())
    );
    snug.assert_hides_secrets();
    snug.say("{\"command\":\"snapshot\"}\n");
    while snug.hear_event()["event"] != "snapshot" {}
    snug.say("{\"command\":\"leave\"}\n");
    while snug.hear_event()["event"] != "ended" {}
}

#[test]
fn the_link_comes_from_the_environment() {
    let (_relay, host) = silent_relay();
    let link = format!("http://{host}/room/abc#{SECRET}");
    let environment = [("SNUG_LINK", link.as_str()), ("SNUG_PASSWORD", PASSWORD)];
    let snug = Snug::start(&["join", "--audio", "none"], &environment);
    assert_eq!(snug.hear(), format!("Entering abc at {host} …"));
    snug.assert_hides_secrets();
    for help in [&["join", "--help"][..], &["join", "-h"], &["doctor", "--help"]] {
        let snug = Snug::start(help, &environment);
        let text: Vec<String> = snug.lines.iter().collect();
        assert!(text.iter().any(|line| line.contains("SNUG_LINK")), "{text:?}");
        assert!(!text.iter().any(|line| line.contains(SECRET) || line.contains(PASSWORD)), "{text:?}");
    }
}

#[test]
fn a_wrapped_link_is_read_from_a_pipe() {
    let (_relay, host) = silent_relay();
    let mut snug = Snug::start(&["join", "-", "--json", "--audio", "none"], &[]);
    let (start, end) = SECRET.split_at(9);
    snug.say(&format!("http://{host}/room/abc#{start}\n"));
    let ended = snug.hear_event();
    assert_eq!(ended["code"], "link_fragment", "commands may follow, so the link is one line: {ended}");

    let mut snug = Snug::start(&["join", "-", "--audio", "none"], &[]);
    snug.say(&format!("> http://{host}/room/abc#{start}\n> {end}\n"));
    assert_eq!(snug.hear(), format!("Entering abc at {host} …"));
}

#[test]
fn a_damaged_link_or_password_is_refused_before_anything_is_sent() {
    let (relay, host) = silent_relay();
    relay.set_nonblocking(true).expect("a socket can");
    let whole = format!("http://{host}/room/abc#{SECRET}");
    for (link, password, code) in [
        (&whole[..whole.len() - 1], PASSWORD, "link_fragment"),
        (&whole, "a\tb", "password_invalid"),
        (&whole, &"ü".repeat(257), "password_invalid"),
        ("abc#AAECAwQFBgcICQoLDA0ODw", PASSWORD, "link_no_host"),
    ] {
        let mut snug =
            Snug::start(&["join", "-", "--json", "--audio", "none"], &[("SNUG_PASSWORD", password)]);
        snug.say(&format!("{link}\n"));
        assert_eq!(snug.hear_event()["code"], code);
        assert_eq!(snug.child.wait().expect("it ends").code(), Some(2));
    }
    assert!(relay.accept().is_err(), "nobody connected");
}
