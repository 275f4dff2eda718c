//! What the shell is told of microphone and speaker: everything once, however often a device is tried again.

use snug_audio::AudioEvent;
use snug_audio::io::{IoError, RestartReason};

use crate::api::Event;
use crate::devices::DeviceKind;
use crate::session::problem;

/// What has been told.
#[derive(Default)]
pub(crate) struct SoundNews {
    problems: Vec<IoError>,
    used: Option<[Option<String>; 2]>,
    stalled: bool,
}

impl SoundNews {
    /// What is to be told of this.
    pub(crate) fn events(&mut self, event: &AudioEvent) -> Vec<Event> {
        let (used, problems) = match event {
            AudioEvent::Opened(opened) => {
                ([opened.capture.clone(), opened.playout.clone()], opened.problems.clone())
            }
            AudioEvent::Failed(error) => ([None, None], vec![error.clone()]),
            AudioEvent::RecordingFailed(_, error) => return vec![problem(error.code(), error)],
            AudioEvent::Restarting(RestartReason::Stalled) => return self.stalled(),
            AudioEvent::Restarting(_) => {
                self.stalled = false;
                return Vec::new();
            }
            AudioEvent::Recovered => return Vec::new(),
        };
        let fresh = problems.iter().filter(|error| !self.problems.contains(error));
        let mut events: Vec<Event> = fresh.map(|error| problem(error.code(), error)).collect();
        self.problems = problems;
        let before = self.used.replace(used.clone());
        let kinds = [DeviceKind::Microphone, DeviceKind::Speaker];
        for (place, (kind, name)) in kinds.into_iter().zip(used).enumerate() {
            if before.as_ref().is_none_or(|before| before[place] != name) {
                events.push(Event::DeviceUsed { kind, name });
            }
        }
        events
    }

    fn stalled(&mut self) -> Vec<Event> {
        if std::mem::replace(&mut self.stalled, true) {
            return Vec::new();
        }
        let what = "microphone or speaker have given no sign for two seconds: they are opened again, and may have to be plugged in again";
        vec![problem("AUDIO_SILENT", &what)]
    }
}

#[cfg(test)]
mod tests {
    use snug_audio::io::Opened;

    use super::*;

    fn opened(microphone: &str, problems: &[IoError]) -> AudioEvent {
        let (capture, playout) = (Some(microphone.to_owned()), Some("Monitor".to_owned()));
        AudioEvent::Opened(Opened { capture, playout, problems: problems.to_vec() })
    }

    fn used(name: &str) -> Event {
        Event::DeviceUsed { kind: DeviceKind::Microphone, name: Some(name.to_owned()) }
    }

    #[test]
    fn a_device_that_is_gone_is_told_once_and_so_is_its_return() {
        let gone = IoError::UnknownDevice { direction: "microphone", name: "Headset".into() };
        let mut news = SoundNews::default();
        assert_eq!(news.events(&opened("Headset", &[])).len(), 2);
        assert_eq!(news.events(&AudioEvent::Restarting(RestartReason::Failed)), []);
        let told = news.events(&opened("Built-in", std::slice::from_ref(&gone)));
        assert_eq!(told, [problem("AUDIO_DEVICE_GONE", &gone), used("Built-in")]);
        assert_eq!(news.events(&opened("Built-in", std::slice::from_ref(&gone))), []);
        assert_eq!(news.events(&opened("Headset", &[])), [used("Headset")]);
        assert_eq!(news.events(&opened("Built-in", &[gone])).len(), 2, "a second time is told again");
    }

    #[test]
    fn a_machine_without_sound_is_told_once() {
        let none = || AudioEvent::Failed(IoError::NoDevice { direction: "speaker" });
        let mut news = SoundNews::default();
        assert_eq!(news.events(&none()).len(), 3, "the problem, and that neither is there");
        assert_eq!(news.events(&none()), []);
    }

    #[test]
    fn devices_that_stay_silent_are_told_once_until_something_else_happens() {
        let mut news = SoundNews::default();
        let stalled = || AudioEvent::Restarting(RestartReason::Stalled);
        assert_eq!(news.events(&stalled()).len(), 1);
        news.events(&opened("Headset", &[]));
        assert_eq!(news.events(&stalled()), []);
        news.events(&AudioEvent::Restarting(RestartReason::DefaultChanged));
        assert_eq!(news.events(&stalled()).len(), 1);
    }
}
