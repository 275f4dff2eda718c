//! One room that somebody is in: its record, its seats and the changes on their way to disk.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use snug_wire::{LinkProof, RoomInfo, ServerFrame, ServerMessage, Token, UserId};

use crate::date::Day;
use crate::io::{ConnectionId, Output, RoomMeta, RoomMetaParticipant};
use crate::record::{Digest, RoomRecord, StoredPassword};
use crate::seat::Seat;

/// Most participants that are remembered as removed by the owner.
const KICKED: usize = 64;
/// Most changes of one room that wait for the disk.
const CHANGES: usize = 16;

pub(crate) struct Room {
    pub(crate) record: RoomRecord,
    /// In the order of joining.
    pub(crate) seats: Vec<Seat>,
    /// Nobody may join. It ends with the session, so that a locked room can never be lost.
    pub(crate) locked: bool,
    /// Up to when the running session is in the record.
    pub(crate) session_started: Option<Instant>,
    /// What is on disk is older than the record.
    pub(crate) stale: bool,
    kicked: VecDeque<UserId>,
    /// The first one is being written.
    changes: VecDeque<PendingChange>,
}

/// A change of the record that counts once it is on disk.
pub(crate) struct PendingChange {
    pub(crate) change: Change,
    pub(crate) connection: ConnectionId,
    pub(crate) user: UserId,
    pub(crate) request_id: Option<u32>,
}

pub(crate) enum Change {
    Password(Option<StoredPassword>),
    Settings { max_participants: Option<u8>, allow_screen_share: Option<bool> },
    OwnerToken(Token),
}

impl Change {
    fn apply(&self, record: &mut RoomRecord) {
        match self {
            Self::Password(password) => record.password.clone_from(password),
            Self::Settings { max_participants, allow_screen_share } => {
                record.max_participants = max_participants.unwrap_or(record.max_participants);
                record.allow_screen_share = allow_screen_share.unwrap_or(record.allow_screen_share);
            }
            Self::OwnerToken(token) => record.owner_token = Digest(token.digest()),
        }
    }
}

impl Room {
    pub(crate) fn new(record: RoomRecord) -> Self {
        Self {
            record,
            seats: Vec::new(),
            locked: false,
            session_started: None,
            stale: false,
            kicked: VecDeque::new(),
            changes: VecDeque::new(),
        }
    }

    pub(crate) fn is_owner_token(&self, token: &Token) -> bool {
        token.matches(&self.record.owner_token.0)
    }

    /// Whether `link_proof` shows the whole link; a room that was made without a secret asks for none.
    pub(crate) fn proves_link(&self, link_proof: Option<&LinkProof>) -> bool {
        match &self.record.link_proof {
            None => true,
            Some(digest) => link_proof.is_some_and(|proof| proof.matches(&digest.0)),
        }
    }

    pub(crate) fn info(&self) -> RoomInfo {
        RoomInfo {
            max_participants: self.record.max_participants,
            allow_screen_share: self.record.allow_screen_share,
            password_enabled: self.record.password.is_some(),
            locked: self.locked,
            sealed: self.record.link_proof.is_some(),
        }
    }

    pub(crate) fn meta(&self) -> RoomMeta {
        let password_enabled = self.record.password.is_some();
        let names = || {
            self.seats
                .iter()
                .map(|seat| RoomMetaParticipant {
                    user_id: seat.user,
                    display_name: seat.display_name.clone(),
                })
                .collect()
        };
        RoomMeta {
            password_enabled,
            locked: self.locked,
            max_participants: self.record.max_participants,
            participants: (!password_enabled).then(names),
        }
    }

    pub(crate) fn seat(&self, user: UserId) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.user == user)
    }

    pub(crate) fn seat_mut(&mut self, user: UserId) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.user == user)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.seats.len() >= usize::from(self.record.max_participants)
    }

    /// Sends to all seats, but for `except`; serialized once.
    pub(crate) fn broadcast(
        &mut self,
        except: Option<UserId>,
        message: &ServerMessage,
        outputs: &mut VecDeque<Output>,
    ) {
        let frame = ServerFrame::new(message);
        for seat in self.seats.iter_mut().filter(|seat| Some(seat.user) != except) {
            seat.deliver(&frame, outputs);
        }
    }

    pub(crate) fn broadcast_info(&mut self, outputs: &mut VecDeque<Output>) {
        let message = ServerMessage::RoomUpdated { room_info: self.info() };
        self.broadcast(None, &message, outputs);
    }

    /// After the owner switched screen sharing off, nobody's screen counts as shared.
    pub(crate) fn stop_disallowed_screens(&mut self, outputs: &mut VecDeque<Output>) {
        if self.record.allow_screen_share {
            return;
        }
        let sharing: Vec<UserId> =
            self.seats.iter().filter(|seat| seat.media.screen).map(|seat| seat.user).collect();
        for user in sharing {
            let Some(seat) = self.seat_mut(user) else { continue };
            seat.media.screen = false;
            let message = ServerMessage::PeerState { user_id: user, media: seat.media };
            self.broadcast(None, &message, outputs);
        }
    }

    /// Takes a seat out; the caller tells the others.
    pub(crate) fn remove(&mut self, user: UserId) -> Option<Seat> {
        let index = self.seats.iter().position(|seat| seat.user == user)?;
        for seat in &mut self.seats {
            seat.reset_candidates(user);
        }
        Some(self.seats.remove(index))
    }

    pub(crate) fn remember_kicked(&mut self, user: UserId) {
        if self.kicked.len() >= KICKED {
            self.kicked.pop_front();
        }
        self.kicked.push_back(user);
    }

    pub(crate) fn was_kicked(&self, user: UserId) -> bool {
        self.kicked.contains(&user)
    }

    /// The first one is about to enter; `continues` the session that the record tells of.
    pub(crate) fn begin_session(&mut self, continues: bool, now: crate::Now) {
        self.session_started = Some(now.at);
        self.record.total_sessions += u64::from(!continues);
        self.record.last_used = Day::of(now.unix);
        self.record.in_session = true;
    }

    /// Brings the record up to date with the running session, and ends that when nobody is inside.
    pub(crate) fn account(&mut self, now: crate::Now) {
        if let Some(started) = self.session_started.take() {
            let lasted = now.at.saturating_duration_since(started).as_secs();
            self.record.total_duration_seconds += lasted;
            self.record.last_used = Day::of(now.unix);
            self.record.in_session = !self.seats.is_empty();
            // Parts of seconds are not lost.
            self.session_started = self.record.in_session.then(|| started + Duration::from_secs(lasted));
        }
    }

    /// Queues a change; `false` when too many wait already.
    pub(crate) fn queue_change(&mut self, change: PendingChange) -> bool {
        if self.changes.len() >= CHANGES {
            return false;
        }
        self.changes.push_back(change);
        true
    }

    /// Whether a change waits for the disk: the room stays in memory until none does.
    pub(crate) fn is_changing(&self) -> bool {
        !self.changes.is_empty()
    }

    /// How many changes wait: one means that it can be written at once.
    pub(crate) fn changes_waiting(&self) -> usize {
        self.changes.len()
    }

    /// The record with the first waiting change in it.
    pub(crate) fn changed_record(&self) -> Option<RoomRecord> {
        let mut record = self.record.clone();
        self.changes.front()?.change.apply(&mut record);
        Some(record)
    }

    /// The first waiting change was written (or not): it leaves the queue, and counts if it was.
    pub(crate) fn finish_change(&mut self, written: bool) -> Option<PendingChange> {
        let change = self.changes.pop_front()?;
        if written {
            change.change.apply(&mut self.record);
        }
        Some(change)
    }
}
