//! The client's connection to the relay: QUIC, or WebSocket where UDP is blocked.
