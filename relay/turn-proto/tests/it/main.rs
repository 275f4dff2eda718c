//! The server from outside: transcripts of what is sent and received, attacks that other servers fell for, and random operations.

#![allow(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]

mod accounts;
mod allocations;
mod binding;
mod channels;
mod credentials;
mod model;
mod operations;
mod oracle;
mod permissions;
mod policy;
mod refresh;
mod relaying;
mod security;
mod sockets;
mod stun;
mod world;
