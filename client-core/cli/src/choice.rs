//! The devices that a call starts with: options, what is said when one of them is not there, and how they are opened.

use std::sync::Arc;

use clap::Args;
use snug_core::audio::io::AudioIo;
use snug_core::{Device, DeviceKind, Devices, DevicesConfig, OpenCamera, SystemDevices, unknown_device};

/// Which devices are used.
#[derive(Args, Clone, Default)]
pub(crate) struct Choice {
    /// The camera, by its id or name as `snug devices` lists them; implies `--video camera`
    #[arg(long, value_name = "ID")]
    pub(crate) camera: Option<String>,
    /// The microphone of `--audio device`, by its id or name
    #[arg(long, value_name = "ID")]
    pub(crate) microphone: Option<String>,
    /// The speaker of `--audio device`, by its id or name
    #[arg(long, value_name = "ID")]
    pub(crate) speaker: Option<String>,
}

/// Why a choice cannot be had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoDevice {
    /// There is none of this id or name; the sentence lists what there is.
    Unknown(String),
    /// This machine, or this program, has no camera at all.
    Camera(&'static str),
}

impl Choice {
    /// Turns names into ids. The machine is asked only when somebody chose, or wants a camera.
    pub(crate) fn resolve(&mut self, wants_camera: bool) -> Result<(), NoDevice> {
        if !cfg!(feature = "camera") && (wants_camera || self.camera.is_some()) {
            return Err(NoDevice::Camera(
                "this snug was built without cameras: build it with its feature `camera`, or join with a file",
            ));
        }
        let chosen = [&self.camera, &self.microphone, &self.speaker].into_iter().any(Option::is_some);
        if !chosen && !wants_camera {
            return Ok(());
        }
        self.resolve_in(&SystemDevices.list(), wants_camera)
    }

    fn resolve_in(&mut self, list: &[Device], wants_camera: bool) -> Result<(), NoDevice> {
        for (kind, wanted) in [
            (DeviceKind::Camera, &mut self.camera),
            (DeviceKind::Microphone, &mut self.microphone),
            (DeviceKind::Speaker, &mut self.speaker),
        ] {
            let Some(text) = wanted else { continue };
            let found = list.iter().find(|device| device.is_called(kind, text));
            let id = found.map(|device| device.id.clone());
            *wanted = Some(id.ok_or_else(|| NoDevice::Unknown(unknown_device(kind, text, list)))?);
        }
        if wants_camera && !list.iter().any(|device| device.kind == DeviceKind::Camera) {
            return Err(NoDevice::Camera(
                "no camera is plugged in: plug one in, or join with a file or without video",
            ));
        }
        Ok(())
    }

    /// Microphone and speaker of this machine.
    pub(crate) fn sound(&self) -> Box<dyn AudioIo> {
        SystemDevices.sound(self.microphone.as_deref(), self.speaker.as_deref())
    }

    /// What the engine lets choose from while the call goes on.
    pub(crate) fn devices(&self) -> DevicesConfig {
        DevicesConfig {
            devices: Arc::new(SystemDevices),
            microphone: self.microphone.clone(),
            speaker: self.speaker.clone(),
        }
    }
}

/// Opens a camera when one is chosen by id, else what `without` opens.
#[cfg(feature = "camera")]
pub(crate) fn camera_or(without: OpenCamera) -> OpenCamera {
    use snug_core::video::sources::CameraSource;
    Arc::new(move |id| match id {
        Some(id) => Ok(Box::new(CameraSource::open(Some(id))?)),
        None => without(None),
    })
}

#[cfg(not(feature = "camera"))]
pub(crate) fn camera_or(without: OpenCamera) -> OpenCamera {
    without
}

/// Opens the first camera.
#[cfg(feature = "camera")]
pub(crate) fn first_camera() -> Option<OpenCamera> {
    use snug_core::video::sources::CameraSource;
    Some(Arc::new(|_| Ok(Box::new(CameraSource::open(None)?))))
}

#[cfg(not(feature = "camera"))]
pub(crate) fn first_camera() -> Option<OpenCamera> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(kind: DeviceKind, id: &str, name: &str) -> Device {
        Device { kind, id: id.into(), name: name.into(), default: false }
    }

    #[test]
    fn names_become_ids_and_unknown_ones_are_told_with_what_there_is() {
        let list = [
            device(DeviceKind::Microphone, "m1", "Headset"),
            device(DeviceKind::Speaker, "s1", "Headset"),
            device(DeviceKind::Speaker, "s2", "Monitor"),
        ];
        let mut choice =
            Choice { microphone: Some("Headset".into()), speaker: Some("s2".into()), ..Choice::default() };
        assert_eq!(choice.resolve_in(&list, false), Ok(()));
        assert_eq!((choice.microphone.as_deref(), choice.speaker.as_deref()), (Some("m1"), Some("s2")));
        choice.speaker = Some("m1".into());
        let Err(NoDevice::Unknown(sentence)) = choice.resolve_in(&list, false) else { panic!("taken") };
        assert!(sentence.contains(r#""s1" (Headset), "s2" (Monitor)"#), "{sentence}");
    }

    #[test]
    fn a_machine_without_a_camera_says_so() {
        assert!(matches!(Choice::default().resolve_in(&[], true), Err(NoDevice::Camera(_))));
        assert_eq!(Choice::default().resolve_in(&[], false), Ok(()));
    }
}
