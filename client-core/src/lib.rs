//! The engine of a call that every native shell embeds: commands in, snapshots and events out.
//! It never draws and knows no window, Tauri or JNI; nothing in its interface waits, names a WebRTC type or cares about threads.
//! Its shells are the command line in `cli/`, and a desktop window and an Android library to come.
//!
//! ```text
//! shell ── Command ── session ── Call (snug-call-proto) ── relay, link tasks
//! camera thread ─┐                                      ┌── a Peer (snug-rtc) per link
//! sound thread ──┴─ fanout: encoded once, sent to all ──┘        │
//! shell ◄── Pictures ◄── decoder threads ◄── receive ◄───────────┘
//! ```

mod api;
mod camera;
mod candidates;
mod devices;
mod engine;
mod fanout;
mod identity_store;
mod link;
mod network;
mod pictures;
mod receive;
mod record;
mod relay;
mod safety_words;
mod screen;
mod sending;
mod session;
mod sound_news;
mod switchboard;
mod teller;
mod view;

pub use api::{
    Command, Encoded, EncodedLayer, Event, Knock, LinkState, Participant, Quality, Snapshot, Sources,
    TileSize,
};
#[cfg(feature = "devices")]
pub use devices::SystemDevices;
pub use devices::{Device, DeviceKind, Devices, unknown_device};
pub use engine::{CommandRefused, Engine, EngineConfig, ScreenConfig, StartError};
pub use pictures::Pictures;
pub use screen::OpenScreen;
pub use switchboard::{CameraConfig, DevicesConfig, OpenCamera};
pub use {
    snug_audio as audio,
    snug_rtc::{FactoryConfig, RelayProtocol},
    snug_signaling as signaling, snug_video as video, snug_wire as wire,
};
