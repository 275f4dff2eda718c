//! What there is to see and hear with, as a shell shows it for choosing. A shell that knows its devices itself (Android) implements
//! [`Devices`], or leaves it out and keeps the choice to itself.

use serde::{Deserialize, Serialize};
use snug_audio::io::AudioIo;

/// What a device is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum DeviceKind {
    Camera,
    Microphone,
    Speaker,
}

impl DeviceKind {
    /// As a word in a sentence.
    pub fn word(self) -> &'static str {
        match self {
            Self::Camera => "camera",
            Self::Microphone => "microphone",
            Self::Speaker => "speaker",
        }
    }
}

/// A device to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// What it is for.
    pub kind: DeviceKind,
    /// Chooses it; the same in the next call as far as the system can tell.
    pub id: String,
    /// For people.
    pub name: String,
    /// Whether it is used when none is chosen.
    pub default: bool,
}

impl Device {
    /// Whether somebody means this one: by its id or its name.
    pub fn is_called(&self, kind: DeviceKind, wanted: &str) -> bool {
        self.kind == kind && (self.id == wanted || self.name == wanted)
    }
}

/// The devices of a machine.
pub trait Devices: Send + Sync {
    /// Those that are plugged in, in an order that does not change by itself. It is asked every two seconds, on a thread of its own, and
    /// may block for a while.
    fn list(&self) -> Vec<Device>;

    /// A microphone and a speaker, by their ids; `None` is the default one, followed when it changes. One that is not there is replaced
    /// by the default one until it is.
    fn sound(&self, microphone: Option<&str>, speaker: Option<&str>) -> Box<dyn AudioIo>;
}

/// What is said to somebody who asks for a device that is not there: what there is instead.
pub fn unknown_device(kind: DeviceKind, wanted: &str, list: &[Device]) -> String {
    let word = kind.word();
    let known: Vec<String> = list
        .iter()
        .filter(|device| device.kind == kind)
        .map(|device| format!("{:?} ({})", device.id, device.name))
        .collect();
    if known.is_empty() {
        format!("there is no {word} {wanted:?}, and no other: plug one in")
    } else {
        format!("there is no {word} {wanted:?}; choose one of {}", known.join(", "))
    }
}

/// Microphones and speakers by the system's sound server, and cameras when they are built in.
#[cfg(feature = "devices")]
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDevices;

#[cfg(feature = "devices")]
impl Devices for SystemDevices {
    fn list(&self) -> Vec<Device> {
        use snug_audio::io::Direction;

        let sound = snug_audio::io::devices().list.into_iter().map(|device| Device {
            kind: match device.direction {
                Direction::Capture => DeviceKind::Microphone,
                Direction::Playout => DeviceKind::Speaker,
            },
            id: device.id,
            name: device.name,
            default: device.default,
        });
        cameras().into_iter().chain(sound).collect()
    }

    fn sound(&self, microphone: Option<&str>, speaker: Option<&str>) -> Box<dyn AudioIo> {
        let owned = |id: Option<&str>| id.map(str::to_owned);
        Box::new(snug_audio::io::CpalIo::new(owned(microphone), owned(speaker)))
    }
}

#[cfg(feature = "camera")]
fn cameras() -> Vec<Device> {
    let found = snug_video::sources::cameras().unwrap_or_else(|error| {
        tracing::debug!(%error, "the cameras cannot be listed");
        Vec::new()
    });
    let device = |(at, camera): (usize, snug_video::sources::CameraDevice)| Device {
        kind: DeviceKind::Camera,
        id: camera.id,
        name: camera.name,
        // Without a choice the first one is taken.
        default: at == 0,
    };
    found.into_iter().enumerate().map(device).collect()
}

#[cfg(all(feature = "devices", not(feature = "camera")))]
fn cameras() -> Vec<Device> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_an_unknown_device_is_told_what_there_is() {
        let device = |kind, id: &str, name: &str| Device {
            kind,
            id: id.to_owned(),
            name: name.to_owned(),
            default: false,
        };
        let list = [
            device(DeviceKind::Microphone, "m1", "Headset"),
            device(DeviceKind::Speaker, "s1", "Headset"),
            device(DeviceKind::Speaker, "s2", "Monitor"),
        ];
        assert_eq!(
            unknown_device(DeviceKind::Speaker, "Desk", &list),
            r#"there is no speaker "Desk"; choose one of "s1" (Headset), "s2" (Monitor)"#
        );
        assert_eq!(
            unknown_device(DeviceKind::Camera, "Desk", &list),
            r#"there is no camera "Desk", and no other: plug one in"#
        );
        assert!(list[1].is_called(DeviceKind::Speaker, "Headset"));
        assert!(!list[1].is_called(DeviceKind::Microphone, "s1"));
    }
}
