//! A STUN and TURN server (RFC 8489, RFC 8656): bindings, allocations, permissions, channels and what may pass through them.
//! It never touches a socket, a clock or a random source, and knows nothing of rooms: accounts have an owner and a group.
//! Its shell is `snug-relay`'s `turn` module.
//!
//! The shape is that of every state machine here: [`TurnServer::new`], `handle_*`, [`TurnServer::poll_output`] until `None`,
//! [`TurnServer::poll_timeout`], [`TurnServer::handle_timeout`]. One thing differs, for speed: a packet that is only passed on
//! comes back at once, as a [`Verdict::Forward`] that names parts of the packet, so media is never copied or queued here.
//!
//! ```text
//! client A ── ChannelData ──► allocation A ═ in process ═► allocation B ── ChannelData ──► client B
//!                                  │  ▲
//!                       relay socket of A (opened with the first permission for a peer elsewhere)
//!                                  ▼  │
//!                                  peer
//! ```

mod address;
mod allocation;
mod codec;
mod config;
mod credential;
mod framing;
mod io;
mod ledger;
mod limiter;
mod meter;
mod network;
mod nonce;
mod policy;
mod ports;
mod requests;
mod server;
mod stats;

pub use address::{FiveTuple, RelaySocketId, Transport};
pub use config::{Quota, Quotas, RelayAddresses, TurnConfig};
pub use credential::{Account, Secret};
pub use framing::{FramingError, MAX_FRAME, frame_length};
pub use io::{Forward, Head, Input, Now, Output, Target, Verdict};
pub use network::{Network, NetworkError};
pub use policy::{Denial, PeerPolicy};
pub use server::TurnServer;
pub use stats::{DropReason, Refusal, TurnStats};
