//! Who is in which room and who may do what: seats, ownership, passwords, locks, limits, replay and resume.
//! It never touches a clock, a socket, a disk or a hash function's cost: those are inputs and outputs.
//! Its shell is `snug-relay`'s hub task.
//!
//! The shape is that of every state machine here: [`RoomServer::new`], [`RoomServer::handle_input`], then
//! [`RoomServer::poll_output`] until `None`, [`RoomServer::poll_timeout`] and [`RoomServer::handle_timeout`].

mod address;
mod backoff;
mod config;
mod date;
mod guesses;
mod io;
mod quotas;
mod record;
mod room;
mod seat;
mod server;
mod shares;
mod ticket;
mod timers;
mod token_bucket;
mod wall_clock;

pub use address::AddressBlock;
pub use config::{IceServerSource, NoIceServers, RateLimit, RoomCreation, RoomServerConfig, VerifySignature};
pub use date::{Day, DayError};
pub use io::{
    Busy, ConnectionId, Departure, Input, JobId, Now, Output, QueryId, RoomMeta, RoomMetaParticipant, Seed,
    StoreFailure,
};
pub use record::{RecordError, RoomRecord, SessionId, SessionRecord, StoredPassword};
pub use server::{RoomServer, RoomServerStats};
pub use ticket::TicketKey;
pub use token_bucket::Buckets;
