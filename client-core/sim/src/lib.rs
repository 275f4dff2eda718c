//! Whole calls in virtual time, for tests: the real `call-proto` of every participant, the real `room-proto` and `turn-proto` of the relay,
//! and between them a seeded network with delay, loss, rate, NATs and faults. It never opens a socket and never waits.
//! It has no shell: tests call [`run`]. What a peer connection does is a model (`agent.rs`); media is its arrival, not its content.
//!
//! A [`Plan`] says who comes from where and what goes wrong when; the same plan always gives the same call. Rules that hold for every
//! call (`check.rs`) are looked at four times a second and at the end; the first that is broken ends the run with a [`Failure`].
//! `SNUG_SIM_SEEDS=1000..2000 cargo test -p snug-sim -- --nocapture` plays other calls than the usual ones.

mod agent;
mod channel;
mod check;
mod dice;
mod nat;
mod packet;
mod plan;
mod relay;
mod shell;
mod stun;
mod transcript;
mod turn;
mod wires;
mod world;

pub use nat::NatKind;
pub use plan::{CALM, Fault, Person, Plan};
pub use transcript::Failure;
pub use world::{Report, run};
