//! One participant's place in a room, which outlives its connection for a while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use snug_wire::{Media, Participant, Payload, PublicKey, ServerFrame, Token, UserId, limits};

use crate::config::RateLimit;
use crate::io::{ConnectionId, Output};
use crate::shares::Shares;
use crate::token_bucket::TokenBucket;

/// How often a seat may be resumed: a network that comes and goes costs one each time.
const RESUMES: RateLimit = RateLimit { burst: 10.0, per_second: 0.5 };

pub(crate) struct Seat {
    pub(crate) user: UserId,
    pub(crate) key: PublicKey,
    /// The id that its ticket was for, where that is another one.
    pub(crate) former: Option<UserId>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) display_name: Payload,
    pub(crate) media: Media,
    pub(crate) owner: bool,
    /// `None` while it is away.
    pub(crate) connection: Option<ConnectionId>,
    /// It said that it is going away, so its place is free for others.
    pub(crate) going_away: bool,
    /// When it is given up, while it is away.
    pub(crate) held_until: Option<Instant>,
    /// When its TURN credentials are renewed.
    pub(crate) credentials_due: Option<Instant>,
    /// The token to resume it, and the one that last did: a client whose connection was lost with the answer to `resume` has only that.
    pub(crate) resume_token: Token,
    pub(crate) previous_token: Option<Token>,
    seq: u64,
    replay: VecDeque<Kept>,
    replay_bytes: usize,
    shares: Shares,
    /// What it says to all others at once: its sources, its hand, and an owner's lock.
    announcements: TokenBucket,
    resumes: TokenBucket,
    /// Candidates sent since the last description, by target; there are at most nine.
    candidates: Vec<(UserId, u16)>,
}

/// A frame that was not confirmed so far.
struct Kept {
    frame: ServerFrame,
    /// Who is charged for it; `None` for what the relay says.
    sender: Option<UserId>,
}

impl Seat {
    /// The seat of a participant with `key`, not away and without a connection so far.
    pub(crate) fn new(
        key: PublicKey,
        display_name: Payload,
        media: Media,
        token: Token,
        announcements: RateLimit,
        now: Instant,
    ) -> Self {
        Self {
            user: key.user_id(),
            key,
            former: None,
            capabilities: Vec::new(),
            display_name,
            media,
            owner: false,
            going_away: false,
            connection: None,
            held_until: None,
            credentials_due: None,
            resume_token: token,
            previous_token: None,
            seq: 0,
            replay: VecDeque::new(),
            replay_bytes: 0,
            shares: Shares::new(now),
            announcements: TokenBucket::full(announcements, now),
            resumes: TokenBucket::full(RESUMES, now),
            candidates: Vec::new(),
        }
    }

    pub(crate) fn participant(&self) -> Participant {
        Participant {
            user_id: self.user,
            public_key: Some(self.key.clone()),
            former_id: self.former,
            capabilities: self.capabilities.clone(),
            display_name: self.display_name.clone(),
            media: self.media,
            away: self.connection.is_none(),
            owner: self.owner,
        }
    }

    /// Whether `token` resumes this seat.
    pub(crate) fn accepts(&self, token: &Token) -> bool {
        let current = token.matches(&self.resume_token.digest());
        let previous = self.previous_token.as_ref().is_some_and(|previous| token.matches(&previous.digest()));
        current | previous
    }

    /// Counts something that it says to all others, or says how long it has to wait.
    pub(crate) fn announce(&mut self, limit: RateLimit, now: Instant) -> Result<(), Duration> {
        self.announcements.take(limit, now)
    }

    /// Counts a resume, or says how long it has to wait.
    pub(crate) fn count_resume(&mut self, now: Instant) -> Result<(), Duration> {
        self.resumes.take(RESUMES, now)
    }

    /// Delivers what another participant sends, within that one's share of the queue, or says how long it has to wait.
    pub(crate) fn deliver_from(
        &mut self,
        sender: UserId,
        frame: &ServerFrame,
        outputs: &mut VecDeque<Output>,
        now: Instant,
    ) -> Result<(), Duration> {
        self.shares.charge(sender, frame.len(), now)?;
        self.keep_and_send(frame, Some(sender), outputs);
        Ok(())
    }

    /// Numbers a frame, keeps it for a resume, and sends it when somebody is there.
    pub(crate) fn deliver(&mut self, frame: &ServerFrame, outputs: &mut VecDeque<Output>) {
        self.keep_and_send(frame, None, outputs);
    }

    fn keep_and_send(&mut self, frame: &ServerFrame, sender: Option<UserId>, outputs: &mut VecDeque<Output>) {
        self.seq += 1;
        let frame = frame.with_seq(self.seq);
        self.replay_bytes += frame.len();
        self.replay.push_back(Kept { frame: frame.clone(), sender });
        while self.replay.len() > limits::REPLAY_MESSAGES || self.replay_bytes > limits::REPLAY_BYTES {
            self.forget_oldest();
        }
        if let Some(connection) = self.connection {
            outputs.push_back(Output::Send { connection, frame });
        }
    }

    /// The client has everything up to `seq`.
    pub(crate) fn acknowledge(&mut self, seq: u64, now: Instant) {
        self.shares.confirmed(now);
        while self.replay.front().is_some_and(|kept| kept.frame.seq <= Some(seq)) {
            if let Some(Kept { frame, sender: Some(sender) }) = self.forget_oldest() {
                self.shares.confirm(sender, frame.len());
            }
        }
        if self.replay.is_empty() {
            // Thousands of idle seats should not keep the buffer of their busiest moment.
            self.replay.shrink_to_fit();
        }
    }

    fn forget_oldest(&mut self) -> Option<Kept> {
        let kept = self.replay.pop_front()?;
        self.replay_bytes -= kept.frame.len();
        Some(kept)
    }

    /// What came after `last_seq`, or `None` when some of it is no longer kept, or `last_seq` was never sent.
    pub(crate) fn missed_since(&self, last_seq: u64) -> Option<Vec<ServerFrame>> {
        let missed = self.seq.checked_sub(last_seq)?;
        let kept = self.replay.iter().filter(|kept| kept.frame.seq > Some(last_seq));
        let frames: Vec<ServerFrame> = kept.map(|kept| kept.frame.clone()).collect();
        (frames.len() as u64 == missed).then_some(frames)
    }

    /// Forgets all that was numbered: `room_joined` is about to say everything anew.
    pub(crate) fn restart_sequence(&mut self) {
        self.seq = 0;
        // What waited in a queue went with the connection before.
        self.shares.clear();
        self.replay.clear();
        self.replay_bytes = 0;
    }

    /// Counts a candidate for `target`; `false` when there were too many since the last description.
    pub(crate) fn count_candidate(&mut self, target: UserId) -> bool {
        match self.candidates.iter_mut().find(|(user, _)| *user == target) {
            Some((_, count)) if *count >= limits::CANDIDATES => false,
            Some((_, count)) => {
                *count += 1;
                true
            }
            None => {
                self.candidates.push((target, 1));
                true
            }
        }
    }

    /// A description was sent to `target`, or it is gone: its count starts again.
    pub(crate) fn reset_candidates(&mut self, target: UserId) {
        self.candidates.retain(|(user, _)| *user != target);
    }
}
