//! Who is in the room as far as we know: what the relay lists, and what links still carry while it is away.

use std::time::Instant;

use snug_wire::{Media, Participant, PublicKey, UserId, text};

use crate::channel::NameBody;
use crate::link::Link;

/// One other participant.
pub(crate) struct Member {
    pub(crate) user: UserId,
    /// Empty until it is opened, and when it cannot be.
    pub(crate) name: String,
    pub(crate) media: Media,
    /// The relay holds its seat.
    pub(crate) away: bool,
    pub(crate) owner: bool,
    pub(crate) key: Option<PublicKey>,
    /// What its program can do.
    pub(crate) capabilities: Vec<String>,
    /// The id that it gave up with this one, as the relay says.
    pub(crate) former: Option<UserId>,
    /// When it last did something that the relay told us of.
    pub(crate) heard: Instant,
    /// The relay named it since we last joined.
    pub(crate) listed: bool,
    /// None for who is gone while the relay cannot say whether for good.
    pub(crate) link: Option<Link>,
}

impl Member {
    pub(crate) fn new(participant: &Participant, now: Instant) -> Self {
        let Participant { user_id, media, away, owner, former_id, .. } = *participant;
        Self {
            user: user_id,
            name: String::new(),
            media,
            away,
            owner,
            key: participant.public_key.clone(),
            capabilities: participant.capabilities.clone(),
            former: former_id,
            heard: now,
            listed: true,
            link: None,
        }
    }

    pub(crate) fn update(&mut self, participant: &Participant) {
        self.media = participant.media;
        self.away = participant.away;
        self.owner = participant.owner;
        if participant.public_key.is_some() {
            self.key.clone_from(&participant.public_key);
        }
        self.capabilities.clone_from(&participant.capabilities);
        self.former = self.former.or(participant.former_id);
        self.listed = true;
    }

    /// Takes the body of a name; one that cannot be read leaves the name as it is.
    pub(crate) fn set_name(&mut self, body: &str) {
        if let Some(name) = read_name(body) {
            self.name = name;
        }
    }
}

/// The cleaned name in a name's body.
pub(crate) fn read_name(body: &str) -> Option<String> {
    let NameBody { name } = snug_wire::object::from_str(body).ok()?;
    Some(text::clean(&name, snug_wire::limits::NAME_CHARS))
}
