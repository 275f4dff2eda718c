//! Every limit of the protocol in one place (PROTOCOL.md §5).

use std::time::Duration;

/// Longest frame from a client, in bytes.
pub const FRAME: usize = 64 * 1024;
/// Deepest nesting of JSON in a frame.
pub const JSON_DEPTH: usize = 16;
/// Shortest room id, in characters.
pub const ROOM_ID_MIN: usize = 3;
/// Longest room id, in characters.
pub const ROOM_ID_MAX: usize = 64;
/// Longest payload of an offer or answer, in bytes: 32 KiB of text, sealed and encoded.
pub const DESCRIPTION_PAYLOAD: usize = 44 * 1024;
/// Longest payload of an ICE candidate, in bytes.
pub const CANDIDATE_PAYLOAD: usize = 2 * 1024;
/// Most ICE candidates for one target and one description.
pub const CANDIDATES: u16 = 64;
/// Longest payload of a display name, in bytes.
pub const NAME_PAYLOAD: usize = 512;
/// Longest display name, in characters.
pub const NAME_CHARS: usize = 64;
/// Longest room password, in characters of its normal form.
pub const PASSWORD_CHARS: usize = 256;
/// Longest password hint, in characters.
pub const HINT_CHARS: usize = 128;
/// Longest creation key, in bytes.
pub const CREATION_KEY: usize = 256;
/// Longest client name in `hello`, in characters.
pub const AGENT_CHARS: usize = 64;
/// Most versions a `hello` may list.
pub const VERSIONS: usize = 16;
/// Fewest participants `maxParticipants` may allow.
pub const PARTICIPANTS_MIN: u8 = 2;
/// Most participants of any room.
pub const PARTICIPANTS_MAX: u8 = 10;
/// Most messages that may wait for a slow reader.
pub const QUEUE_MESSAGES: usize = 1024;
/// Most bytes that may wait for a slow reader.
pub const QUEUE_BYTES: usize = 256 * 1024;
/// Most messages kept for a seat that is away: a replay and what comes with it must fit the queue.
pub const REPLAY_MESSAGES: usize = 960;
/// Most bytes kept for a seat that is away.
pub const REPLAY_BYTES: usize = 240 * 1024;
/// Time from the start of a connection to its `hello`.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Time a connection may stay without a seat.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a client pings.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// Silence after which the relay closes a connection.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// How long the seat of a lost connection is held.
pub const SEAT_HOLD: Duration = Duration::from_secs(30);
/// Clients of a draining relay reconnect spread over this time.
pub const DRAIN_SPREAD: Duration = Duration::from_secs(5);
