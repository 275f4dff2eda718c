//! `snug devices`: what there is to choose from, for people and for scripts.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use snug_core::{Device, DeviceKind, Devices as _, SystemDevices};

use crate::printable;

/// How to list devices.
#[derive(Args)]
pub(crate) struct Options {
    /// Print one JSON object: {"devices":[{"kind","id","name","default"}]}
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(options: &Options) -> ExitCode {
    let list = SystemDevices.list();
    let text = if options.json { serde_json::json!({ "devices": list }).to_string() } else { table(&list) };
    // Whoever closed our output does not want to know.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    ExitCode::SUCCESS
}

fn table(list: &[Device]) -> String {
    let mut lines = Vec::new();
    let groups = [
        (DeviceKind::Camera, "Cameras", "--camera"),
        (DeviceKind::Microphone, "Microphones", "--microphone"),
        (DeviceKind::Speaker, "Speakers", "--speaker"),
    ];
    for (kind, title, option) in groups {
        let devices: Vec<&Device> = list.iter().filter(|device| device.kind == kind).collect();
        if kind == DeviceKind::Camera && !cfg!(feature = "camera") {
            lines.push(format!("{title}: this snug was built without them"));
        } else if devices.is_empty() {
            lines.push(format!("{title}: none is plugged in"));
        } else {
            lines.push(format!("{title} (choose with snug join {option} ID; * is used without a choice):"));
        }
        for device in devices {
            let mark = if device.default { '*' } else { ' ' };
            lines.push(format!("{mark} {}", printable::line(&device.name)));
            lines.push(format!("    {}", printable::line(&device.id)));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_marked_and_an_empty_group_says_so() {
        let device =
            |kind, id: &str, default| Device { kind, id: id.into(), name: id.to_uppercase(), default };
        let list = [device(DeviceKind::Speaker, "s1", false), device(DeviceKind::Speaker, "s2", true)];
        let table = table(&list);
        assert!(table.contains("Microphones: none is plugged in"), "{table}");
        assert!(table.contains("\n  S1\n    s1\n* S2\n    s2"), "{table}");
    }
}
