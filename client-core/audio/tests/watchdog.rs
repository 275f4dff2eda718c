//! Devices that open and then give no sign are opened again.

#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::sync::mpsc::channel;
use std::time::Duration;

use snug_audio::io::{AudioIo, CaptureSink, IoError, Opened, PlayoutSource, RestartReason};
use snug_audio::{AudioConfig, AudioEngine, AudioEvent, Processing};

/// Opens at once, and calls nobody back.
#[derive(Default)]
struct Silent(Option<(CaptureSink, PlayoutSource)>);

impl AudioIo for Silent {
    fn start(&mut self, capture: CaptureSink, playout: PlayoutSource) -> Result<Opened, IoError> {
        self.0 = Some((capture, playout));
        let name = || Some("silent".to_owned());
        Ok(Opened { capture: name(), playout: name(), problems: Vec::new() })
    }

    fn stop(&mut self) {
        self.0 = None;
    }

    fn latency(&self) -> Duration {
        Duration::ZERO
    }

    fn check(&mut self) -> Option<RestartReason> {
        None
    }
}

#[test]
fn devices_whose_callbacks_do_not_come_are_opened_again() {
    let (told, events) = channel();
    let config = AudioConfig {
        io: Box::new(Silent::default()),
        processing: Processing::NONE,
        bitrate: 32_000,
        muted: true,
    };
    let engine = AudioEngine::start(
        config,
        |_| {},
        move |event| {
            let _ = told.send(event);
        },
    );
    let next = || events.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(next(), AudioEvent::Opened(_)));
    assert!(matches!(next(), AudioEvent::Restarting(RestartReason::Stalled)));
    assert!(matches!(next(), AudioEvent::Opened(_)));
    drop(engine);
}
