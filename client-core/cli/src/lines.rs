//! The lines that are no event of the call: questions read from standard input, and the state of the call printed as an answer or at
//! every so many seconds.

use std::io::{BufRead as _, Write as _};

use serde::Serialize;
use snug_core::{Command, LinkState, Participant, Snapshot};
use tokio::sync::mpsc;

use crate::printable;

/// What `snug join --help` ends with.
pub(crate) const COMMANDS: &str = r#"With --json, standard input takes one command a line (after the link, where that is `-`), and standard output says one event a line:
  {"command":"snapshot"}
  {"command":"set_microphone","enabled":false}
  {"command":"set_camera","enabled":false}
  {"command":"select_camera","id":null}
  {"command":"select_microphone","id":null}
  {"command":"select_speaker","id":null}
  {"command":"set_screen","enabled":true}
  {"command":"set_hand","raised":true}
  {"command":"set_tiles","tiles":{"USER":{"width":640,"height":360}}}
  {"command":"send_chat","text":"Hello"}
  {"command":"supply_password","password":"our tea is green"}
  {"command":"set_recording","folder":"calls"}
  {"command":"network_changed"}
  {"command":"retry"}
  {"command":"kick","user":"USER"}
  {"command":"lock","locked":true}
  {"command":"set_password","password":"our tea is green","hint":"what is our tea?"}
  {"command":"clear_password"}
  {"command":"set_lobby","enabled":true,"anyone":false}
  {"command":"admit","user":"USER","admitted":true}
  {"command":"ask_mute","user":"USER"}
  {"command":"unban"}
  {"command":"offer_ownership","user":"USER"}
  {"command":"new_link"}
  {"command":"end_call"}
  {"command":"leave"}"#;

/// What a line of standard input asks for.
pub(crate) enum Line {
    /// `{"command":"snapshot"}`: the call as it is.
    Snapshot,
    /// A command for the call.
    Command(Command),
}

/// Reads lines until there are no more or nobody takes them.
pub(crate) fn read(lines: &mpsc::Sender<Result<Line, String>>) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        if line.trim().is_empty() {
            continue;
        }
        if lines.blocking_send(parse(&line)).is_err() {
            return;
        }
    }
}

fn parse(line: &str) -> Result<Line, String> {
    let value: serde_json::Value = serde_json::from_str(line)
        .map_err(|error| format!("this is not JSON: {error}; write one command a line"))?;
    if value.get("command").and_then(serde_json::Value::as_str) == Some("snapshot") {
        return Ok(Line::Snapshot);
    }
    serde_json::from_value(value)
        .map(Line::Command)
        .map_err(|error| format!("{error}; see `snug join --help`"))
}

#[derive(Serialize)]
struct Told<'a> {
    event: &'static str,
    #[serde(flatten)]
    snapshot: &'a Snapshot,
}

#[derive(Serialize)]
struct Joining<'a> {
    event: &'static str,
    host: &'a str,
    room: &'a str,
}

/// Says where the link leads, before anything is sent there.
pub(crate) fn announce(json: bool, host: &str, room: &str) {
    let text = if json {
        serde_json::to_string(&Joining { event: "joining", host, room }).expect("strings serialize")
    } else {
        format!("Entering {room} at {host} …")
    };
    // Whoever closed our output does not want to know.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints the call as it is: `event` says why.
pub(crate) fn print(json: bool, event: &'static str, snapshot: &Snapshot) {
    let text = if json {
        serde_json::to_string(&Told { event, snapshot })
            .unwrap_or_else(|error| format!("{{\"event\":\"problem\",\"message\":\"{error}\"}}"))
    } else {
        let lines: Vec<String> =
            snapshot.participants.iter().map(|one| printable::line(&words(one))).collect();
        if lines.is_empty() { "Nobody else is here.".to_owned() } else { lines.join("\n") }
    };
    // Whoever closed our output does not want to know.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn words(one: &Participant) -> String {
    if one.link != LinkState::Connected {
        return format!("{}: {:?}", one.name, one.link);
    }
    let quality = &one.quality;
    format!(
        "{}: {} pictures of {}x{}, {} ms round trip, {} kbit/s towards it, {:.1} % lost{}",
        one.name,
        one.pictures,
        one.picture_size.0,
        one.picture_size.1,
        quality.rtt_ms,
        quality.estimate_bps / 1000,
        quality.loss * 100.0,
        if quality.relayed { ", relayed" } else { "" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_question_or_a_command_or_says_what_is_wrong() {
        assert!(matches!(parse(r#"{"command":"snapshot"}"#), Ok(Line::Snapshot)));
        assert!(matches!(parse(r#"{"command":"leave"}"#), Ok(Line::Command(Command::Leave))));
        assert!(parse("hello").is_err_and(|message| message.contains("JSON")));
        assert!(parse(r#"{"command":"dance"}"#).is_err_and(|message| message.contains("dance")));
        assert!(parse("7").is_err());
    }

    #[test]
    fn every_command_of_the_help_is_one() {
        let lines: Vec<&str> = COMMANDS.lines().skip(1).collect();
        assert!(lines.len() > 10);
        for line in lines {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }
}
