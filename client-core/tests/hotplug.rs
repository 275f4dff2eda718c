//! Microphones and speakers that come and go, at a real PulseAudio server that the test starts for itself.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may stop anywhere, and says how long things took"
)]

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use snug_core::audio::{AudioConfig, AudioEngine, AudioEvent, Processing};
use snug_core::{DeviceKind, Devices as _, SystemDevices};

#[path = "../audio/tests/sound_server/mod.rs"]
mod sound_server;

use sound_server::{PATIENCE, SoundServer, pactl, until};

const DEVICES: &str = "\
load-module module-null-sink sink_name=desk sink_properties=device.description=Desk
load-module module-sine-source source_name=voice
set-default-sink desk
set-default-source voice
";

#[test]
fn a_chosen_device_that_is_unplugged_is_replaced_until_it_is_back() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hotplug");
    let Some(server) = SoundServer::start(&folder, DEVICES, "desk") else { return };
    server.run_test_within();
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
