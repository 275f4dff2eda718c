//! Every limit and every time of a call in one place.

use std::time::Duration;

/// Participants beyond which a relay is believed to make people up; a room holds ten.
pub(crate) const PARTICIPANTS: usize = 64;
/// Negotiation messages, and chat messages, that wait for a way to one participant.
pub(crate) const QUEUE: usize = 64;
/// Negotiation steps of one link that wait for the step under way.
pub(crate) const STEPS: usize = 256;
/// Chat messages kept.
pub(crate) const CHAT_LOG: usize = 500;
/// Longest chat message, in characters.
pub(crate) const CHAT_CHARS: usize = 4000;
/// Longest chat body, in bytes of JSON: sealed and encoded, it fits into a channel message.
pub(crate) const CHAT_BYTES: usize = 11_000;
/// Longest offer or answer on the data channel, in bytes.
pub(crate) const CHANNEL_DESCRIPTION: usize = 64 * 1024;
/// Longest other message on the data channel, in bytes.
pub(crate) const CHANNEL_MESSAGE: usize = 16 * 1024;
/// Longest session description, in bytes.
pub(crate) const SDP: usize = 32 * 1024;
/// Longest candidate line, in bytes.
pub(crate) const CANDIDATE: usize = 1024;
/// Longest commitment or nonce of safety words, in bytes: 43 are used.
pub(crate) const SAFETY: usize = 64;
/// Candidates for one description, sent as well as taken.
pub(crate) const CANDIDATES: usize = snug_wire::limits::CANDIDATES as usize;
/// Owner's requests under way.
pub(crate) const REQUESTS: usize = 32;

/// How often links are looked after.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// A tick this late means that the machine slept.
pub(crate) const SLEPT: Duration = Duration::from_secs(5);
/// Sizes of tiles are told at most this often.
pub(crate) const TILES: Duration = Duration::from_millis(200);
/// A dead link to somebody whom the relay does not know to be there is over after this: before the 30 s that people are promised.
pub(crate) const FORGET: Duration = Duration::from_secs(29);
/// A connection to the relay that was gone for less does not make us wait anew for who is gone.
pub(crate) const BREAK: Duration = Duration::from_secs(4);
/// When nothing came from anybody for so long, it is probably our own network.
pub(crate) const HUSH: Duration = Duration::from_secs(1);
/// Nothing over a link for so long: it does not work, whatever ICE says. ICE takes longer to see it, and after a restart begins to wait anew.
pub(crate) const SILENT: Duration = Duration::from_millis(2000);
/// How long nothing has come when ICE calls a path disconnected.
pub(crate) const ICE_SILENCE: Duration = Duration::from_secs(5);
/// The same for who sends neither sound nor pictures: from some browsers only a report every few seconds comes then.
pub(crate) const SILENT_LISTENER: Duration = Duration::from_secs(8);
/// How long a live link is watched before it is believed after a gap.
pub(crate) const LIVENESS: Duration = Duration::from_secs(1);
/// A restart asked for twice within this time is one restart.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);
/// An offer without an answer is believed to be on its way for so long.
pub(crate) const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// First wait between restarts that did not help; each further one is half as long again.
pub(crate) const RETRY: Duration = Duration::from_secs(5);
/// Longest wait between restarts.
pub(crate) const MOST_RETRY: Duration = Duration::from_secs(20);
/// Restarts that did not help before the connection is replaced.
pub(crate) const RESTARTS: u32 = 2;
/// Connections that one participant may have us make at once.
pub(crate) const REPLACEMENTS: u32 = 3;
/// After those, one for each such time.
pub(crate) const REPLACED: Duration = Duration::from_secs(2);
/// A description that the shell has not made after this is given up.
pub(crate) const JOB: Duration = Duration::from_secs(10);

/// A ping without a pong for so long: the connection is lost.
pub(crate) const PONG: Duration = Duration::from_secs(5);
/// As [`PONG`], when there is a reason to doubt the connection.
pub(crate) const DOUBT: Duration = Duration::from_secs(1);
/// As [`DOUBT`], when the connection is more likely dead than not.
pub(crate) const SURE_DOUBT: Duration = Duration::from_millis(500);
/// Longest wait for the answer to a join, which may have to wait for its password's turn.
pub(crate) const ANSWER: Duration = Duration::from_secs(20);
/// As [`ANSWER`] for who comes back: a lost answer costs time that a call has not.
pub(crate) const REJOINED: Duration = Duration::from_secs(10);
/// Longest wait for the answer to a resume, which waits for nothing.
pub(crate) const RESUMED: Duration = Duration::from_secs(5);
/// Longest wait for one connection to open.
pub(crate) const OPENING: Duration = Duration::from_secs(15);
/// The first join has failed after this.
pub(crate) const FIRST_JOIN: Duration = Duration::from_secs(15);
/// Longest wait for the answer to an owner's request.
pub(crate) const REQUEST: Duration = Duration::from_secs(10);
/// Wait after a refused rejoin that may work later.
pub(crate) const REJOIN: Duration = Duration::from_secs(4);
/// Longest such wait, whatever the relay asks for.
pub(crate) const MOST_REJOIN: Duration = Duration::from_secs(30);
/// Longest wait before a full room is asked again whose place may become free.
pub(crate) const FULL: Duration = Duration::from_secs(5);
/// First wait before a new connection; doubles.
pub(crate) const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// Longest wait before a new connection.
pub(crate) const MOST_BACKOFF: Duration = Duration::from_secs(4);
/// A connection whose seat was held for so long was of use: the next wait is the first one again.
pub(crate) const HELD: Duration = Duration::from_secs(10);
/// How long what was sealed under the link before still opens.
pub(crate) const OLD_LINK: Duration = Duration::from_secs(60);
/// How long somebody waits for the secret of a new link that the relay knows already.
pub(crate) const NEW_LINK: Duration = Duration::from_secs(10);
/// People in the lobby that are shown; the relay lets ten wait.
pub(crate) const KNOCKS: usize = 16;
/// A sender's clock is believed within this, in milliseconds.
pub(crate) const CLOCK_MS: u64 = 86_400_000;
