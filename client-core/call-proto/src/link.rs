//! One link: the negotiation with one participant (PROTOCOL.md §7), perfect negotiation and ICE restarts.
//! It never decides who is in the room; what is malformed it drops, what is forged closes it for good.
//!
//! 1. Who is newer makes a connection, names its session and offers; the other makes one for that session and answers.
//! 2. Both sides may restart ICE in a session. Of two offers that cross, the one of the lower `userId` gives way.
//! 3. A connection that restarts do not revive is replaced by one with a new session.
//!
//! Steps of a link run one after the other: while the shell makes a description, what arrives waits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use snug_wire::message::Forward;
use snug_wire::seal::{Kind, SealError};
use snug_wire::{ClientMessage, Payload, UserId};

use crate::channel::{
    CandidateBody, ChannelMessage, Description, Tile, body, read_candidate, read_description,
};
use crate::context::{At, Route};
use crate::input::{IceState, JobId, LinkId};
use crate::limits;
use crate::output::{Candidate, Output};
use crate::safety::{Safety, SafetyExchange};
use crate::snapshot::LinkState;

/// For how long a link may be dead before this side acts; the newer participant acts first, the other when that did not help.
struct Patience {
    interrupted: Duration,
    failed: Duration,
    connecting: Duration,
}

const NEWER: Patience = Patience {
    interrupted: Duration::from_millis(2000),
    failed: Duration::from_millis(500),
    connecting: Duration::from_secs(10),
};
const OLDER: Patience = Patience {
    interrupted: Duration::from_millis(6000),
    failed: Duration::from_millis(3000),
    connecting: Duration::from_secs(15),
};

enum Step {
    Offer { certainly_new: bool },
    TheirOffer(Description),
    TheirAnswer(Description),
    TheirCandidate(CandidateBody),
}

/// A description that the shell is making.
struct Job {
    id: JobId,
    kind: Kind,
    restart: bool,
    since: Instant,
}

/// One peer connection of the shell.
struct Connection {
    id: LinkId,
    session: String,
    built_at: Instant,
    job: Option<Job>,
    /// The answer that the shell was last given.
    accepting: Option<JobId>,
    /// An offer of ours waits for its answer.
    offering: bool,
    /// That offer restarts ICE.
    restarting: bool,
    /// Their last offer crossed ours and was not taken: its candidates belong to nothing.
    ignoring: bool,
    /// A remote description was given.
    described: bool,
    /// Their candidates before their description.
    early: VecDeque<Candidate>,
    /// Their candidates since their description, the early ones included.
    candidates_taken: usize,
    /// Our candidates before our description; `None` once it is sent.
    held: Option<Vec<Candidate>>,
    candidates_sent: usize,
    connected: bool,
    connected_at: Option<Instant>,
    failed: bool,
    /// The shell did not take a description: restarting would not help.
    broken: bool,
    channel: Channel,
    last_media: Option<Instant>,
    safety: SafetyExchange,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Channel {
    Opening,
    Open,
    Lost,
}

/// The negotiation with one participant.
pub(crate) struct Link {
    pub(crate) user: UserId,
    pub(crate) newer: bool,
    polite: bool,
    connection: Option<Connection>,
    steps: VecDeque<Step>,
    waiting: VecDeque<(Kind, Payload)>,
    chat_waiting: VecDeque<String>,
    ever_connected: bool,
    pub(crate) dead_since: Option<Instant>,
    /// It is dead because nothing comes, and lives again with the first packet.
    silent: bool,
    negotiated_at: Option<Instant>,
    tries: u32,
    next_try: Option<Instant>,
    /// Until when the connections that they had us make are paid for.
    replaced_until: Option<Instant>,
    /// Since when the link must show media to be believed.
    doubted_since: Option<Instant>,
    our_tile: Option<Tile>,
    refusal: Option<SealError>,
    pub(crate) safety: Safety,
}

impl Link {
    pub(crate) fn new(own: UserId, user: UserId, newer: bool, now: Instant) -> Self {
        Self {
            user,
            newer,
            polite: own < user,
            connection: None,
            steps: VecDeque::new(),
            waiting: VecDeque::new(),
            chat_waiting: VecDeque::new(),
            ever_connected: false,
            dead_since: Some(now),
            silent: false,
            negotiated_at: None,
            tries: 0,
            next_try: None,
            replaced_until: None,
            doubted_since: None,
            our_tile: None,
            refusal: None,
            safety: Safety::Unknown,
        }
    }

    pub(crate) fn state(&self) -> LinkState {
        match (self.refusal, self.dead_since) {
            (Some(problem), _) => LinkState::Refused(problem),
            (None, None) => LinkState::Connected,
            (None, Some(since)) if self.ever_connected => LinkState::Interrupted { since },
            (None, Some(_)) => LinkState::Connecting,
        }
    }

    pub(crate) fn id(&self) -> Option<LinkId> {
        self.connection.as_ref().map(|connection| connection.id)
    }

    pub(crate) fn connected(&self) -> bool {
        self.state() == LinkState::Connected
    }

    /// For how long a connected link that carried media has been without.
    pub(crate) fn hush(&self, now: Instant) -> Option<Duration> {
        let last = self.connection.as_ref()?.last_media?;
        self.connected().then(|| now.saturating_duration_since(last))
    }

    /// Offers a connection of a new session.
    pub(crate) fn start(&mut self, at: &mut At<'_>) {
        self.step(Step::Offer { certainly_new: true }, at);
    }

    /// Looks for new paths, keeping the media that still flows.
    pub(crate) fn restart(&mut self, at: &mut At<'_>) {
        let settled =
            self.negotiated_at.is_none_or(|then| at.now.at.saturating_duration_since(then) >= limits::SETTLE);
        if settled {
            self.restart_now(at);
        }
    }

    /// As [`Link::restart`], also right after another negotiation.
    fn restart_now(&mut self, at: &mut At<'_>) {
        if self.refusal.is_none() {
            self.negotiated_at = Some(at.now.at);
            self.step(Step::Offer { certainly_new: false }, at);
        }
    }

    /// The relay is back after a gap, or the machine woke: messages may be missing and paths may be dead.
    pub(crate) fn recover(&mut self, at: &mut At<'_>) {
        if self.refusal.is_some() {
            return;
        }
        self.tries = 0;
        self.next_try = None;
        self.flush(at);
        // An offer without an answer was probably lost with the connection to the relay.
        let stable = self.connection.as_ref().is_some_and(|connection| !connection.offering);
        let hushed = self.hush(at.now.at).is_some_and(|hush| hush >= limits::LIVENESS);
        if self.connected() && stable && !hushed {
            self.doubted_since = Some(at.now.at);
        } else if self.ever_connected || self.newer {
            // Where the first offer was lost, it is for the newer one to repeat it.
            self.restart_now(at);
        }
    }

    /// Acts on a link that has been without packets for too long.
    pub(crate) fn watch(&mut self, at: &mut At<'_>) {
        let now = at.now.at;
        self.give_up_job(at);
        self.settle_doubt(at);
        self.notice_silence(at);
        if self.refusal.is_some() || !self.reachable(at) || self.next_try.is_some_and(|next| now < next) {
            return;
        }
        let patience = if self.newer { &NEWER } else { &OLDER };
        let offering = self.connection.as_ref().is_some_and(|connection| connection.offering);
        let Some(dead_since) = self.dead_since else {
            let unanswered = offering
                && self.negotiated_at.is_none_or(|then| now.saturating_duration_since(then) > limits::RETRY);
            if unanswered {
                self.next_try = Some(now + limits::RETRY);
                self.restart(at);
            }
            return;
        };
        if offering && at.route == Route::Away {
            // The relay keeps it for them; with a second one the answer to the first would fit neither.
            return;
        }
        let (lost, built_at) = match &self.connection {
            Some(connection) => (
                connection.failed || connection.channel == Channel::Lost,
                (!connection.connected).then_some(connection.built_at),
            ),
            None => (false, None),
        };
        let limit = match (self.ever_connected, lost) {
            (false, _) => patience.connecting,
            (true, true) => patience.failed,
            (true, false) => patience.interrupted,
        };
        let since = built_at.map_or(dead_since, |built| built.max(dead_since));
        if now.saturating_duration_since(since) < limit {
            return;
        }
        let wait = limits::RETRY.mul_f64(1.5_f64.powi(self.tries.min(8) as i32)).min(limits::MOST_RETRY);
        self.next_try = Some(now + wait);
        self.tries += 1;
        self.restart(at);
    }

    fn notice_silence(&mut self, at: &At<'_>) {
        let limit = if at.sends { limits::SILENT } else { limits::SILENT_LISTENER };
        if self.hush(at.now.at).is_some_and(|hush| hush >= limit) {
            self.dead_since = self.connection.as_ref().and_then(|connection| connection.last_media);
            self.silent = true;
        }
    }

    /// A shell that does not answer must not stop the link for ever.
    fn give_up_job(&mut self, at: &mut At<'_>) {
        let Some(connection) = &mut self.connection else { return };
        let overdue = connection
            .job
            .as_ref()
            .is_some_and(|job| at.now.at.saturating_duration_since(job.since) > limits::JOB);
        if overdue {
            connection.job = None;
            connection.broken = true;
            self.run(at);
        }
    }

    fn settle_doubt(&mut self, at: &mut At<'_>) {
        let Some(since) = self.doubted_since else { return };
        if at.now.at.saturating_duration_since(since) < limits::LIVENESS {
            return;
        }
        self.doubted_since = None;
        let seen = self
            .connection
            .as_ref()
            .and_then(|connection| connection.last_media)
            .is_some_and(|last| last > since);
        if !(self.connected() && seen) {
            self.restart_now(at);
        }
    }

    /// An offer, answer or candidate of theirs, from the relay or the data channel, opened.
    pub(crate) fn receive(&mut self, kind: Kind, text: &str, at: &mut At<'_>) {
        let step = match kind {
            Kind::Offer => read_description(text).map(Step::TheirOffer),
            Kind::Answer => read_description(text).map(Step::TheirAnswer),
            Kind::IceCandidate => read_candidate(text).map(Step::TheirCandidate),
            Kind::Name | Kind::Chat | Kind::NewLink => None,
        };
        if let Some(step) = step {
            self.step(step, at);
        }
    }

    /// What came or would come over this link is not to be trusted: it carries nothing from here on.
    pub(crate) fn refuse(&mut self, problem: SealError, at: &mut At<'_>) {
        if self.refusal.is_none() {
            self.refusal = Some(problem);
            self.close(at);
        }
    }

    /// They were started anew: nothing that was negotiated with them, and nothing that was held against them, holds any more.
    /// They offer.
    pub(crate) fn renew(&mut self, own: UserId, at: &mut At<'_>) {
        self.close(at);
        // Somebody who keeps starting anew is not followed each time.
        let replaced_until = self.replaced_until;
        *self = Self { replaced_until, ..Self::new(own, self.user, false, at.now.at) };
    }

    /// Lets the connection go.
    pub(crate) fn close(&mut self, at: &mut At<'_>) {
        self.teardown(at);
        self.steps.clear();
        self.chat_waiting.clear();
    }

    // Steps.

    fn step(&mut self, step: Step, at: &mut At<'_>) {
        if self.refusal.is_none() && self.steps.len() < limits::STEPS {
            self.steps.push_back(step);
            self.run(at);
        }
    }

    fn run(&mut self, at: &mut At<'_>) {
        while self.connection.as_ref().is_none_or(|connection| connection.job.is_none()) {
            match self.steps.pop_front() {
                None => return,
                Some(Step::Offer { certainly_new }) => {
                    let fresh = certainly_new || self.must_rebuild();
                    self.offer(fresh, at);
                }
                Some(Step::TheirOffer(offer)) => self.on_offer(offer, at),
                Some(Step::TheirAnswer(answer)) => self.on_answer(answer, at),
                Some(Step::TheirCandidate(candidate)) => self.on_candidate(candidate, at),
            }
        }
    }

    fn must_rebuild(&self) -> bool {
        self.tries > limits::RESTARTS
            || self.connection.as_ref().is_none_or(|connection| {
                // An answer names its session, not its offer: that to an earlier one, which may only be late, must not fit.
                let unanswered = connection.offering && self.dead_since.is_some();
                unanswered
                    || !connection.connected
                    || connection.broken
                    || connection.channel == Channel::Lost
            })
    }

    fn offer(&mut self, fresh: bool, at: &mut At<'_>) {
        if fresh {
            let session = at.context.draw_name();
            self.build(session, true, at);
        }
        let Some(connection) = &mut self.connection else { return };
        let job = at.context.job_id();
        let rollback = connection.offering;
        connection.offering = false;
        connection.restarting = !fresh;
        connection.held.get_or_insert_default();
        connection.job = Some(Job { id: job, kind: Kind::Offer, restart: !fresh, since: at.now.at });
        at.context.push(Output::CreateOffer { link: connection.id, job, ice_restart: !fresh, rollback });
    }

    fn on_offer(&mut self, offer: Description, at: &mut At<'_>) {
        let (known, offering, restarting) = self.connection.as_ref().map_or((false, false, false), |ours| {
            (ours.session == offer.session, ours.offering, ours.restarting)
        });
        if known {
            if offering && !self.polite {
                if let Some(connection) = &mut self.connection {
                    connection.ignoring = true;
                }
                return;
            }
        } else if offer.restart {
            // They revive what we no longer have. An offer of ours that is on its way tells them so, unless it was lost there.
            let on_its_way = self
                .negotiated_at
                .is_some_and(|then| at.now.at.saturating_duration_since(then) < limits::ON_ITS_WAY);
            if (!offering || restarting || !on_its_way) && self.may_replace(at.now.at) {
                self.offer(true, at);
            }
            return;
        } else if offering && !restarting && !self.polite {
            return;
        }
        if !known {
            if !self.may_replace(at.now.at) {
                return;
            }
            self.build(offer.session.clone(), false, at);
        }
        self.negotiated_at = Some(at.now.at);
        let Some(connection) = &mut self.connection else { return };
        let job = at.context.job_id();
        let rollback = connection.offering;
        connection.offering = false;
        connection.restarting = false;
        connection.ignoring = false;
        connection.described = true;
        connection.held.get_or_insert_default();
        connection.job = Some(Job { id: job, kind: Kind::Answer, restart: offer.restart, since: at.now.at });
        connection.safety.described(&offer);
        at.context.push(Output::AcceptOffer { link: connection.id, job, sdp: offer.sdp, rollback });
        connection.add_early(at);
    }

    /// Each connection costs sockets and allocations at the relay: somebody who keeps making sessions is not followed in all of them.
    fn may_replace(&mut self, now: Instant) -> bool {
        let until = self.replaced_until.map_or(now, |until| until.max(now));
        let free = until - now <= limits::REPLACED * (limits::REPLACEMENTS - 1);
        if free {
            self.replaced_until = Some(until + limits::REPLACED);
        }
        free
    }

    fn on_answer(&mut self, answer: Description, at: &mut At<'_>) {
        let Some(connection) = &mut self.connection else { return };
        if connection.session != answer.session || !connection.offering {
            return;
        }
        self.negotiated_at = Some(at.now.at);
        let job = at.context.job_id();
        connection.offering = false;
        connection.restarting = false;
        connection.ignoring = false;
        connection.described = true;
        connection.accepting = Some(job);
        connection.safety.described(&answer);
        at.context.push(Output::AcceptAnswer { link: connection.id, job, sdp: answer.sdp });
        connection.add_early(at);
        self.show_nonce(at);
    }

    /// The offerer shows its nonce once the answer has come and the channel is open.
    fn show_nonce(&mut self, at: &mut At<'_>) {
        if self.channel_open()
            && let Some(nonce) = self.connection.as_mut().and_then(|connection| connection.safety.show())
        {
            self.send(&ChannelMessage::Safety { nonce }, at);
        }
        self.find_words(at);
    }

    /// They show their nonce.
    pub(crate) fn on_nonce(&mut self, nonce: &str, at: &mut At<'_>) {
        if let Some(connection) = &mut self.connection {
            connection.safety.shown(&connection.session, nonce);
            self.find_words(at);
        }
    }

    fn find_words(&mut self, at: &At<'_>) {
        if let Some(connection) = self.connection.as_ref().filter(|_| self.safety == Safety::Unknown) {
            self.safety = connection.safety.words(&at.context.own_key, at.key);
        }
    }

    fn on_candidate(&mut self, body: CandidateBody, at: &mut At<'_>) {
        let Some(connection) = &mut self.connection else { return };
        if connection.session != body.session || connection.ignoring {
            return;
        }
        let CandidateBody { candidate, sdp_mid, sdp_mline_index, .. } = body;
        let candidate = Candidate { candidate, sdp_mid, sdp_mline_index };
        if connection.candidates_taken >= limits::CANDIDATES {
            return;
        }
        connection.candidates_taken += 1;
        if connection.described {
            at.context.push(Output::AddCandidate { link: connection.id, candidate });
        } else {
            connection.early.push_back(candidate);
        }
    }

    fn build(&mut self, session: String, offerer: bool, at: &mut At<'_>) {
        self.teardown(at);
        let (link, nonce) = (at.context.link_id(), at.context.draw_sixteen());
        self.connection = Some(Connection {
            id: link,
            session,
            built_at: at.now.at,
            job: None,
            accepting: None,
            offering: false,
            restarting: false,
            ignoring: false,
            described: false,
            early: VecDeque::new(),
            candidates_taken: 0,
            held: Some(Vec::new()),
            candidates_sent: 0,
            connected: false,
            connected_at: None,
            failed: false,
            broken: false,
            channel: Channel::Opening,
            last_media: None,
            safety: SafetyExchange::new(offerer, nonce),
        });
        self.safety = Safety::Unknown;
        self.dead_since.get_or_insert(at.now.at);
        let ice_servers = at.context.ice_servers.clone();
        at.context.push(Output::OpenLink { link, user: self.user, offerer, ice_servers });
    }

    fn teardown(&mut self, at: &mut At<'_>) {
        self.waiting.clear();
        self.our_tile = None;
        self.doubted_since = None;
        self.safety = Safety::Unknown;
        if let Some(connection) = self.connection.take() {
            at.context.push(Output::CloseLink { link: connection.id });
        }
    }

    // What the shell says.

    pub(crate) fn on_description(&mut self, job: JobId, sdp: Option<String>, at: &mut At<'_>) {
        let Some(connection) = &mut self.connection else { return };
        if connection.accepting == Some(job) {
            connection.broken |= sdp.is_none();
            return;
        }
        let Some(done) = connection.job.take_if(|current| current.id == job) else { return };
        let Some(sdp) = sdp.filter(|sdp| sdp.len() <= limits::SDP) else {
            connection.broken = true;
            return self.run(at);
        };
        connection.offering = done.kind == Kind::Offer;
        let session = connection.session.clone();
        let held = connection.held.take().unwrap_or_default();
        connection.candidates_sent = held.len();
        self.negotiated_at = Some(at.now.at);
        let mut description = Description {
            sdp,
            session: session.clone(),
            restart: done.restart,
            commitment: None,
            safety_nonce: None,
        };
        connection.safety.describe(&mut description);
        self.negotiate(done.kind, &body(&description), at);
        for candidate in held {
            self.negotiate(Kind::IceCandidate, &candidate_body(candidate, &session), at);
        }
        self.run(at);
    }

    pub(crate) fn on_own_candidate(&mut self, candidate: Candidate, at: &mut At<'_>) {
        let Some(connection) = &mut self.connection else { return };
        if candidate.candidate.is_empty() || candidate.candidate.len() > limits::CANDIDATE {
            return;
        }
        match &mut connection.held {
            Some(held) if held.len() < limits::CANDIDATES => held.push(candidate),
            None if connection.candidates_sent < limits::CANDIDATES => {
                connection.candidates_sent += 1;
                let text = candidate_body(candidate, &connection.session);
                self.negotiate(Kind::IceCandidate, &text, at);
            }
            _ => {}
        }
    }

    pub(crate) fn on_state(&mut self, state: IceState, at: &mut At<'_>) {
        let Some(connection) = &mut self.connection else { return };
        connection.failed = state == IceState::Failed;
        if state == IceState::Connected {
            connection.connected = true;
            connection.connected_at = Some(at.now.at);
            self.ever_connected = true;
            self.dead_since = None;
            self.silent = false;
            self.tries = 0;
            self.next_try = None;
            // What came over a path before it was lost says nothing of the one that replaces it.
            if let Some(last) = &mut connection.last_media {
                *last = at.now.at;
            }
            self.flush(at);
        } else {
            self.silent = false;
            // ICE says so only when nothing has come for this long, though the link may be younger.
            let heard = connection.last_media.max(connection.connected_at).unwrap_or(at.now.at);
            let silence = at.now.at.saturating_duration_since(heard).min(limits::ICE_SILENCE);
            self.dead_since.get_or_insert(at.now.at - silence);
        }
    }

    pub(crate) fn on_channel_opened(&mut self, at: &mut At<'_>) {
        let Some(connection) = &mut self.connection else { return };
        connection.channel = Channel::Open;
        self.our_tile = None;
        let media = at.context.media;
        self.send(&ChannelMessage::MediaState { media }, at);
        self.show_nonce(at);
        while let Some(text) = self.chat_waiting.pop_front() {
            self.send_text(text, at);
        }
        self.flush(at);
    }

    /// The other side closed its connection: restarting ours would revive nothing.
    pub(crate) fn on_channel_closed(&mut self, at: &mut At<'_>) {
        if let Some(connection) = &mut self.connection {
            connection.channel = Channel::Lost;
            self.dead_since.get_or_insert(at.now.at);
        }
    }

    pub(crate) fn on_media(&mut self, now: Instant) {
        let Some(connection) = &mut self.connection else { return };
        connection.last_media = Some(now);
        if std::mem::take(&mut self.silent) {
            self.dead_since = None;
            self.tries = 0;
            self.next_try = None;
        }
    }

    // What goes out.

    fn negotiate(&mut self, kind: Kind, text: &str, at: &mut At<'_>) {
        let payload = at.context.sealer.seal(kind, Some(self.user), text);
        if self.waiting.len() >= limits::QUEUE {
            self.waiting.pop_front();
        }
        self.waiting.push_back((kind, payload));
        self.flush(at);
    }

    /// Sends what waits: through the relay when it reaches them, else on the data channel.
    pub(crate) fn flush(&mut self, at: &mut At<'_>) {
        let via_channel = self.channel_carries();
        let via_relay = at.route != Route::Down && at.context.signaling.online();
        if !via_channel && !via_relay {
            return;
        }
        let relay = via_relay && (at.route == Route::Live || !via_channel);
        while let Some((kind, payload)) = self.waiting.pop_front() {
            if relay {
                let forward = Forward { target_id: self.user, payload };
                at.context.signaling.send(match kind {
                    Kind::Offer => ClientMessage::Offer(forward),
                    Kind::Answer => ClientMessage::Answer(forward),
                    _ => ClientMessage::IceCandidate(forward),
                });
            } else {
                let message = match kind {
                    Kind::Offer => ChannelMessage::Offer { payload },
                    Kind::Answer => ChannelMessage::Answer { payload },
                    _ => ChannelMessage::IceCandidate { payload },
                };
                self.send(&message, at);
            }
        }
    }

    /// Whether they can be told anything at all.
    pub(crate) fn reachable(&self, at: &At<'_>) -> bool {
        at.route != Route::Down || self.channel_carries()
    }

    fn channel_open(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.channel == Channel::Open)
    }

    fn channel_carries(&self) -> bool {
        self.channel_open() && self.dead_since.is_none()
    }

    pub(crate) fn send_tile(&mut self, tile: Tile, at: &mut At<'_>) {
        if self.our_tile != Some(tile) && self.send(&ChannelMessage::Tile(tile), at) {
            self.our_tile = Some(tile);
        }
    }

    /// Whether there was a channel to send it on.
    pub(crate) fn send(&mut self, message: &ChannelMessage, at: &mut At<'_>) -> bool {
        self.channel_open() && self.send_text(message.encode(), at)
    }

    /// Chat is not lost to a channel that opens only later.
    pub(crate) fn send_chat(&mut self, text: String, at: &mut At<'_>) {
        if self.refusal.is_some() {
            return;
        }
        if self.channel_open() {
            self.send_text(text, at);
            return;
        }
        if self.chat_waiting.len() >= limits::QUEUE {
            self.chat_waiting.pop_front();
        }
        self.chat_waiting.push_back(text);
    }

    fn send_text(&mut self, text: String, at: &mut At<'_>) -> bool {
        let Some(link) = self.id() else { return false };
        at.context.push(Output::SendChannel { link, text });
        true
    }
}

impl Connection {
    fn add_early(&mut self, at: &mut At<'_>) {
        self.candidates_taken = self.early.len();
        for candidate in self.early.drain(..) {
            at.context.push(Output::AddCandidate { link: self.id, candidate });
        }
    }
}

fn candidate_body(candidate: Candidate, session: &str) -> String {
    let Candidate { candidate, sdp_mid, sdp_mline_index } = candidate;
    body(&CandidateBody { candidate, sdp_mid, sdp_mline_index, session: session.to_owned() })
}
