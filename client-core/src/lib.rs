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
mod engine;
mod fanout;
mod link;
mod pictures;
mod receive;
mod relay;
mod screen;
mod sending;
mod session;
mod view;

pub use api::{Command, Encoded, EncodedLayer, Event, LinkState, Participant, Quality, Snapshot, Sources, TileSize};
pub use engine::{CameraConfig, CommandRefused, Engine, EngineConfig, ScreenConfig, StartError};
pub use pictures::Pictures;
pub use screen::OpenScreen;
pub use {
    snug_audio as audio, snug_rtc::FactoryConfig, snug_signaling as signaling, snug_video as video,
    snug_wire as wire,
};
