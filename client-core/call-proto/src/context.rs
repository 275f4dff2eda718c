//! What every part of a call shares: who we are, what we send, the relay's side, and where effects go. It decides nothing.

use std::collections::VecDeque;

use data_encoding::BASE64URL_NOPAD;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;
use snug_wire::seal::Sealer;
use snug_wire::{IceServer, Media, PublicKey, UserId};

use crate::input::{JobId, LinkId, Now};
use crate::output::{CallEvent, Output};
use crate::signaling::Signaling;

/// Shared by all links of a call.
pub(crate) struct Context {
    pub(crate) own: UserId,
    pub(crate) own_key: PublicKey,
    pub(crate) sealer: Sealer,
    pub(crate) media: Media,
    pub(crate) ice_servers: Vec<IceServer>,
    pub(crate) signaling: Signaling,
    pub(crate) random: ChaCha20Rng,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) next_id: u64,
}

impl Context {
    pub(crate) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn event(&mut self, event: CallEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    pub(crate) fn link_id(&mut self) -> LinkId {
        self.next_id += 1;
        LinkId(self.next_id)
    }

    pub(crate) fn job_id(&mut self) -> JobId {
        self.next_id += 1;
        JobId(self.next_id)
    }

    /// Sixteen random bytes: a nonce of safety words, or the secret of a link.
    pub(crate) fn draw_sixteen(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    /// Eight random bytes as base64url: the name of a session or of a chat message.
    pub(crate) fn draw_name(&mut self) -> String {
        draw_name(&mut self.random)
    }
}

pub(crate) fn draw_name(random: &mut ChaCha20Rng) -> String {
    BASE64URL_NOPAD.encode(&random.next_u64().to_be_bytes())
}

/// How the relay reaches a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// It delivers at once.
    Live,
    /// It keeps messages for a held seat.
    Away,
    /// It does not.
    Down,
}

/// What a link works with while it handles one input.
pub(crate) struct At<'a> {
    pub(crate) context: &'a mut Context,
    pub(crate) now: Now,
    pub(crate) route: Route,
    /// Whether they say that they send sound or pictures.
    pub(crate) sends: bool,
    /// Their key, if they have one.
    pub(crate) key: Option<&'a PublicKey>,
}
