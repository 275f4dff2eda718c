//! Who we are in a room (PROTOCOL.md §2 "Tickets", §6 "Keys"): the signing key, the run, and the newest ticket.
//! It says what a shell is to keep; it never keeps anything itself.

use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;
use snug_wire::seal::Run;
use snug_wire::{SigningIdentity, Token};

/// What a shell keeps while a client is in a room, so that a client that is started anew is the same participant.
#[derive(Clone)]
pub struct KeptIdentity {
    /// The signing key.
    pub key: SigningIdentity,
    /// When the newest run of the key began, in milliseconds since 1970. The next run begins later, whatever the clock says.
    pub started_ms: u64,
    /// An owner's token of the room that the relay has not confirmed yet: one that we drew for a room that may not exist, or for one that
    /// was offered to us.
    pub owner_token: Option<Token>,
    /// The newest ticket, which opens the room while its session lasts. Whoever has it is let in: it is a secret, too.
    pub ticket: Option<String>,
}

impl fmt::Debug for KeptIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeptIdentity({})", self.key.user_id())
    }
}

/// Our identity in this run.
pub(crate) struct OwnIdentity {
    pub(crate) kept: KeptIdentity,
    pub(crate) run: Run,
    /// The shell was told to keep it as it is.
    pub(crate) told: bool,
}

impl OwnIdentity {
    /// Begins a run, of the kept key or of one that is drawn.
    pub(crate) fn new(kept: Option<KeptIdentity>, random: &mut ChaCha20Rng, unix_ms: u64) -> Self {
        let kept = kept.unwrap_or_else(|| draw(random));
        let started_ms = unix_ms.max(kept.started_ms.saturating_add(1));
        let run = Run::new(started_ms, random.next_u64().to_be_bytes());
        Self { kept: KeptIdentity { started_ms, ..kept }, run, told: false }
    }

    /// Keeps a token until the relay confirms it; `None` once it has, or has not.
    pub(crate) fn set_pending(&mut self, token: Option<Token>) {
        self.told &= token.is_none() && self.kept.owner_token.is_none();
        self.kept.owner_token = token;
    }

    pub(crate) fn set_ticket(&mut self, ticket: Option<String>) {
        self.told &= self.kept.ticket == ticket;
        self.kept.ticket = ticket;
    }
}

fn draw(random: &mut ChaCha20Rng) -> KeptIdentity {
    let key = SigningIdentity::generate(|| {
        let mut bytes = [0; 32];
        random.fill_bytes(&mut bytes);
        bytes
    });
    KeptIdentity { key, started_ms: 0, owner_token: None, ticket: None }
}
