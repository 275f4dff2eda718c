//! The state machine from outside: transcripts of what is sent and received, and random operations.

#![allow(clippy::disallowed_methods, reason = "a test's clock starts somewhere")]

mod doors;
mod limits;
mod operations;
mod rooms;
mod seats;
mod statistics;
mod world;
