//! The client's connection to the relay: QUIC, or WebSocket where UDP is blocked; and the links that name relay and room.
//! It never reads a message and never connects again by itself: what is said, and when to come back, is `snug-call-proto`'s.
//! Its shell is `snug-core`; `relay/wire/PROTOCOL.md` §1 and §2 are the specification.

mod addresses;
mod connection;
mod connector;
mod error;
mod quic;
mod tls;
mod websocket;

pub use connection::{Connection, Incoming, Receiver, Sender, Transport};
pub use connector::{Connector, ConnectorConfig};
pub use error::{CertificateProblem, ConnectError, ConnectorError, SendError};
pub use snug_wire::room_link::{LinkError, RoomLink, Target, parse_link};
pub use tls::{TlsRoots, certificate_problem};
