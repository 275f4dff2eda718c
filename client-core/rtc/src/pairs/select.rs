//! Which pair carries the media. Time, datagrams and addresses come in; checks and routes go out.
//! Pure.
//!
//! 1. What the agent sends as media shows the pair that it selected, and its own checks how to sign
//!    others.
//! 2. Pairs that would be better are checked, often at first and ever more seldom; so is a pair
//!    that a request was accepted on, at once.
//! 3. When one answers, the controlling side nominates it (USE-CANDIDATE) and uses it once that is
//!    answered. The controlled side uses a pair that was nominated and answers its own checks.
//! 4. The pair in use is checked every second. Without an answer for [`LOST`] the media goes back
//!    to the agent's pair, and the lost one has to wait before it is tried again, longer each time.
//!
//! 5. While the agent's own pair does not answer, as after the end of a TURN server, its checks go
//!    over the pair in use as well: the connection lives as long as one of them.
//!
//! Better is direct before relayed, among the other side's relays its own order (UDP before TCP
//! before TLS), and a round trip that is much shorter.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::crypto::RTCCryptoProvider;

use super::is_usable;
use super::stun::{self, Binding, Candidate, Id, Signature};
use crate::stats::CandidateKind;

/// Between two checks of a pair that would be better, by the time since the agent selected its own.
/// A NAT or firewall may let a pair through at any time.
const PACE: [(Duration, Duration); 3] = [
    (Duration::from_secs(5), Duration::from_millis(300)),
    (Duration::from_secs(60), Duration::from_secs(1)),
    (Duration::from_secs(600), Duration::from_millis(1_500)),
];
/// And from then on.
const SLOW_PACE: Duration = Duration::from_secs(5);
/// Between two checks of a pair that would be better for its round trip alone, of which there are
/// [`ALIKE_CHECKS`].
const ALIKE_PACE: Duration = Duration::from_secs(1);
const ALIKE_CHECKS: u32 = 8;
/// Between the answer of the pair in use and its next check, and between checks without an answer.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const UNANSWERED: Duration = Duration::from_millis(150);
/// Without an answer for so long the pair in use is lost. At a loss of a fifth each way, the ten
/// checks in this time fail once in twenty-seven thousand times.
const LOST: Duration = Duration::from_millis(2_500);
/// Between a check and another that a request of the other side brings about.
const TRIGGERED: Duration = Duration::from_millis(100);
/// Between two nominations of a pair, of which there are [`NOMINATIONS`].
const NOMINATE: Duration = Duration::from_millis(150);
const NOMINATIONS: u8 = 8;
/// How long a pair waits after it was lost; doubled each time, up to the second.
const HOLD: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];
/// A pair that was in use for longer than this has not failed before.
const PROVEN: Duration = Duration::from_secs(60);
/// Checks that leave together, and the time to the next ones.
const BURST: usize = 4;
const SPACING: Duration = Duration::from_millis(20);
/// Of a generation. Candidates are limited before they come here; addresses that requests come from
/// are not.
const MOST_REMOTES: usize = 80;
/// With one IP address, so that nobody makes this side knock at port after port of a stranger.
const MOST_PORTS: usize = 8;
const MOST_PAIRS: usize = 48;
/// Requests whose answers are waited for, each way.
const MOST_REQUESTS: usize = 256;
const ANSWER_WAIT: Duration = Duration::from_secs(4);
/// The agent's pair is checked every two seconds, and the agent is patient for five.
const AGENT_SILENT: Duration = Duration::from_secs(3);
const MOST_COPIED: usize = 8;
/// A round trip is shorter when twice of it and this is less.
const MUCH: Duration = Duration::from_millis(20);
const SAMPLES: u32 = 3;

/// A socket of this side and an address of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    pub(super) socket: u64,
    pub(super) remote: SocketAddr,
}

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Where the agent sends it.
    AsItIs,
    Over(Pair),
}

/// The pair that the agent selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Selected {
    Own(Pair),
    /// Its local candidate is relayed.
    Relayed,
}

#[derive(Debug, Default)]
struct Checked {
    next: Option<Instant>,
    sent: u32,
    first_sent_at: Option<Instant>,
    sent_at: Option<Instant>,
    rtt: Duration,
    samples: u32,
    answered: Option<Instant>,
    /// Ever, also before it was lost.
    has_answered: bool,
    /// By the other side.
    is_nominated: bool,
    /// Nominations by this side that are left.
    nominations: u8,
    used_since: Option<Instant>,
    times_lost: u32,
    held_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The agent's own check: its round trip is of interest.
    Agent,
    Check,
    Nomination,
}

struct Asked {
    id: Id,
    pair: Pair,
    at: Instant,
    purpose: Purpose,
}

/// What a pair is worth beside the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    Less,
    Alike,
    More,
}

/// The pairs of one connection, of one generation of ICE at a time.
pub(super) struct Selection {
    crypto: Option<Arc<dyn RTCCryptoProvider>>,
    random: u64,
    sockets: BTreeMap<u64, SocketAddr>,
    /// User fragment and password of the other side.
    theirs: Option<(String, String)>,
    signature: Option<Signature>,
    remotes: BTreeMap<SocketAddr, (CandidateKind, u32)>,
    pairs: BTreeMap<Pair, Checked>,
    /// And since when, or since when others are looked for again.
    selected: Option<(Selected, Instant)>,
    in_use: Option<Pair>,
    asked: VecDeque<Asked>,
    /// Requests of the other side that the agent has not answered, and whether they nominate.
    requests: VecDeque<(Id, Pair, bool)>,
    outputs: VecDeque<(Pair, Vec<u8>)>,
    not_before: Option<Instant>,
    is_rescheduled: bool,
    /// When the agent's pair answered last.
    agent_answered: Option<Instant>,
    /// Checks of the agent's that went over the pair in use as well, and how they were sent.
    copied: VecDeque<(Id, Pair, Vec<u8>)>,
    deliveries: VecDeque<(Pair, Vec<u8>)>,
}

impl Selection {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            crypto: rtc::crypto::default_provider().ok(),
            random: seed,
            sockets: BTreeMap::new(),
            theirs: None,
            signature: None,
            remotes: BTreeMap::new(),
            pairs: BTreeMap::new(),
            selected: None,
            in_use: None,
            asked: VecDeque::new(),
            requests: VecDeque::new(),
            outputs: VecDeque::new(),
            not_before: None,
            is_rescheduled: false,
            agent_answered: None,
            copied: VecDeque::new(),
            deliveries: VecDeque::new(),
        }
    }

    pub(super) fn add_socket(&mut self, number: u64, address: SocketAddr) {
        self.sockets.insert(number, address);
        let remotes: Vec<SocketAddr> = self.remotes.keys().copied().collect();
        for remote in remotes {
            self.pair_up(Pair { socket: number, remote });
        }
    }

    pub(super) fn remove_socket(&mut self, number: u64) {
        self.sockets.remove(&number);
        self.pairs.retain(|pair, _| pair.socket != number);
        self.in_use = self.in_use.filter(|pair| pair.socket != number);
        self.asked.retain(|asked| asked.pair.socket != number);
        self.requests.retain(|(_, pair, _)| pair.socket != number);
    }

    /// The other side described itself; with other credentials, a generation begins.
    pub(super) fn described(&mut self, ufrag: &str, password: &str) {
        if self.theirs.as_ref().is_some_and(|(known, secret)| known == ufrag && secret == password) {
            return;
        }
        self.theirs = Some((ufrag.to_owned(), password.to_owned()));
        self.signature = None;
        self.remotes.clear();
        self.pairs.clear();
        self.selected = None;
        self.in_use = None;
        self.asked.clear();
        self.requests.clear();
        self.outputs.clear();
        self.copied.clear();
    }

    pub(super) fn offered(&mut self, Candidate { address, kind, priority }: Candidate, now: Instant) {
        self.learn(address, kind, priority);
        self.schedule(now);
    }

    /// Something leaves by the agent's wish, as if over `pair`.
    pub(super) fn sent(&mut self, pair: Pair, datagram: &[u8], now: Instant) -> Route {
        let selected = if stun::is_media(datagram) {
            Selected::Own(pair)
        } else if let Some(inner) = stun::unwrapped(datagram) {
            if !stun::is_media(inner) {
                self.note_signature(inner, now);
                self.copy(pair, datagram, inner, Selected::Relayed, now);
                return Route::AsItIs;
            }
            Selected::Relayed
        } else {
            self.note_check(pair, datagram, now);
            self.copy(pair, datagram, datagram, Selected::Own(pair), now);
            return Route::AsItIs;
        };
        if self.selected.is_none_or(|(known, _)| known != selected) {
            self.selected = Some((selected, now));
            self.agent_answered = Some(now);
            self.schedule(now);
        }
        match self.in_use {
            Some(better) if selected != Selected::Own(better) => Route::Over(better),
            _ => Route::AsItIs,
        }
    }

    /// A check of the agent's pair, while nothing answers there: it goes over the pair in use too.
    fn copy(&mut self, sent: Pair, datagram: &[u8], check: &[u8], over: Selected, now: Instant) {
        let (Some(pair), Some((Binding::Request, id))) = (self.in_use, stun::binding(check)) else { return };
        let answers = |at| now.saturating_duration_since(at) < AGENT_SILENT;
        if self.selected.is_none_or(|(selected, _)| selected != over)
            || self.agent_answered.is_some_and(answers)
        {
            return;
        }
        if self.copied.len() == MOST_COPIED {
            self.copied.pop_front();
        }
        self.copied.push_back((id, sent, datagram.to_vec()));
        self.outputs.push_back((pair, check.to_vec()));
        self.is_rescheduled = true;
    }

    fn note_check(&mut self, pair: Pair, datagram: &[u8], now: Instant) {
        match stun::binding(datagram) {
            // What gathers candidates is not signed: a STUN server is nobody to talk to.
            Some((Binding::Request, id)) if stun::signature(datagram).is_some() => {
                self.note_signature(datagram, now);
                self.learn_pair(pair);
                self.ask(Asked { id, pair, at: now, purpose: Purpose::Agent });
            }
            Some((Binding::Success, id)) => self.accepted(id, pair, now),
            _ => {}
        }
    }

    fn note_signature(&mut self, datagram: &[u8], now: Instant) {
        if !matches!(stun::binding(datagram), Some((Binding::Request, _))) {
            return;
        }
        let signature = stun::signature(datagram);
        if signature.is_some() && signature != self.signature {
            self.signature = signature;
            self.schedule(now);
        }
    }

    /// The agent answers a request, so it was signed. Another one with the same id from elsewhere
    /// was not.
    fn accepted(&mut self, id: Id, pair: Pair, now: Instant) {
        let is_answered = |(known, from, _): &(Id, Pair, bool)| *known == id && *from == pair;
        let Some(at) = self.requests.iter().position(is_answered) else { return };
        let Some((.., nominates)) = self.requests.remove(at) else { return };
        self.learn_pair(pair);
        let wanted = self.in_use != Some(pair) && self.interval(pair, now).is_some();
        let Some(checked) = self.pairs.get_mut(&pair) else { return };
        checked.is_nominated |= nominates;
        let fresh = checked.answered.is_some_and(|at| now.saturating_duration_since(at) < LOST);
        // Where requests arrive and answers do not, checks would bring about checks without a pause.
        let soon = checked.sent_at.map_or(now, |at| (at + TRIGGERED).max(now));
        if wanted && !fresh && checked.held_until.is_none_or(|until| until <= now) {
            checked.next = Some(checked.next.map_or(soon, |next| next.min(soon)));
            self.is_rescheduled = true;
        }
        if nominates && fresh {
            self.consider(pair, false, now);
        }
    }

    /// Something came. Whether it was an answer to a check made here.
    pub(super) fn received(&mut self, pair: Pair, datagram: &[u8], now: Instant) -> bool {
        if let Some(inner) = stun::unwrapped(datagram) {
            let answers = matches!(stun::binding(inner), Some((Binding::Success, _)));
            if answers
                && self.selected.is_some_and(|(selected, _)| selected == Selected::Relayed)
                && self.is_signed(inner)
            {
                self.agent_answered = Some(now);
            }
            return false;
        }
        let Some((kind, id)) = stun::binding(datagram) else { return false };
        if self.in_use == Some(pair)
            && kind != Binding::Request
            && let Some(at) = self.copied.iter().position(|(known, ..)| *known == id)
            && let Some((_, sent, request)) = self.copied.remove(at)
        {
            self.deliveries.extend(stun::answered(&request, datagram).map(|answer| (sent, answer)));
            return true;
        }
        if kind == Binding::Request {
            if self.requests.len() == MOST_REQUESTS {
                self.requests.pop_front();
            }
            self.requests.push_back((id, pair, stun::nominates(datagram)));
            return false;
        }
        let Some(at) = self.asked.iter().position(|asked| asked.id == id) else { return false };
        let purpose = self.asked[at].purpose;
        // The path is the same both ways (RFC 8445 §7.2.5.2.1).
        let is_valid = kind == Binding::Success && self.asked[at].pair == pair && self.is_signed(datagram);
        if is_valid && let Some(asked) = self.asked.remove(at) {
            self.measure(pair, now.saturating_duration_since(asked.at));
            if purpose == Purpose::Agent {
                if self.selected.is_some_and(|(selected, _)| selected == Selected::Own(pair)) {
                    self.agent_answered = Some(now);
                }
                return false;
            }
            if let Some(checked) = self.pairs.get_mut(&pair) {
                checked.answered = Some(now);
                checked.has_answered = true;
                if self.in_use == Some(pair) {
                    checked.next = Some(now + KEEP_ALIVE);
                }
            }
            self.consider(pair, purpose == Purpose::Nomination, now);
        }
        purpose != Purpose::Agent
    }

    fn is_signed(&self, datagram: &[u8]) -> bool {
        let (Some((_, password)), Some(crypto)) = (&self.theirs, &self.crypto) else { return false };
        stun::is_signed_with(datagram, password, crypto.crypto())
    }

    fn measure(&mut self, pair: Pair, rtt: Duration) {
        if let Some(checked) = self.pairs.get_mut(&pair) {
            checked.rtt = if checked.samples == 0 { rtt } else { (checked.rtt * 7 + rtt) / 8 };
            checked.samples += 1;
        }
    }

    /// A pair has answered: is it to be used?
    fn consider(&mut self, pair: Pair, nominated: bool, now: Instant) {
        if self.in_use == Some(pair) {
            return;
        }
        let is_better = match self.worth(pair) {
            Worth::More => true,
            Worth::Alike => self.is_much_quicker(pair),
            Worth::Less => false,
        };
        let is_controlling = self.signature.as_ref().is_some_and(|signature| signature.is_controlling);
        let Some(checked) = self.pairs.get_mut(&pair) else { return };
        if !is_better || checked.held_until.is_some_and(|until| until > now) {
            return;
        }
        match is_controlling {
            true if nominated => self.switch(pair, now),
            true if checked.nominations == 0 => {
                checked.nominations = NOMINATIONS;
                checked.next = Some(now);
                self.is_rescheduled = true;
            }
            false if checked.is_nominated => self.switch(pair, now),
            _ => {}
        }
    }

    fn switch(&mut self, pair: Pair, now: Instant) {
        let is_agents = self.selected.is_some_and(|(selected, _)| selected == Selected::Own(pair));
        self.in_use = (!is_agents).then_some(pair);
        if let Some(checked) = self.pairs.get_mut(&pair) {
            checked.nominations = 0;
            checked.used_since = Some(now);
            checked.next = Some(now + KEEP_ALIVE);
        }
        tracing::debug!(direct = self.is_direct(pair.remote), "a better pair carries the media");
        self.schedule(now);
    }

    /// Media cannot leave over it.
    pub(super) fn failed(&mut self, pair: Pair, now: Instant) {
        if self.in_use != Some(pair) {
            return;
        }
        self.in_use = None;
        if let Some(checked) = self.pairs.get_mut(&pair) {
            let used =
                checked.used_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            let times = if used > PROVEN { 0 } else { checked.times_lost };
            checked.times_lost = times + 1;
            checked.held_until = Some(now + (HOLD[0] * (1 << times.min(16))).min(HOLD[1]));
            checked.answered = None;
            checked.nominations = 0;
            // The controlling side may have gone elsewhere: it nominates again what it uses.
            checked.is_nominated = false;
        }
        if let Some((_, since)) = &mut self.selected {
            *since = now;
        }
        tracing::debug!("the better pair is lost, the agent's carries the media again");
        self.schedule(now);
    }

    pub(super) fn poll_output(&mut self) -> Option<(Pair, Vec<u8>)> {
        self.outputs.pop_front()
    }

    /// An answer for the agent, as if from there.
    pub(super) fn poll_delivery(&mut self) -> Option<(Pair, Vec<u8>)> {
        self.deliveries.pop_front()
    }

    /// Whether something is to be sent, or may be sooner than before, since this was asked.
    pub(super) fn take_rescheduled(&mut self) -> bool {
        std::mem::take(&mut self.is_rescheduled)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if !self.is_active() {
            return None;
        }
        let next = self.pairs.values().filter_map(|checked| checked.next).min();
        let next = next.map(|next| self.not_before.map_or(next, |not_before| next.max(not_before)));
        [next, self.lost_at()].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if !self.is_active() {
            return;
        }
        self.asked.retain(|asked| now.saturating_duration_since(asked.at) < ANSWER_WAIT);
        if let Some(pair) = self.in_use
            && self.lost_at().is_none_or(|at| at <= now)
        {
            self.failed(pair, now);
        }
        if self.not_before.is_some_and(|not_before| not_before > now) {
            return;
        }
        let mut due: Vec<(Instant, Pair)> = self
            .pairs
            .iter()
            .filter_map(|(&pair, checked)| checked.next.filter(|&next| next <= now).map(|next| (next, pair)))
            .collect();
        due.sort_unstable();
        due.truncate(BURST);
        if !due.is_empty() {
            self.not_before = Some(now + SPACING);
        }
        for (_, pair) in due {
            let interval = self.interval(pair, now);
            if interval.is_some() {
                self.check(pair, now);
            }
            if let Some(checked) = self.pairs.get_mut(&pair) {
                let held = checked.held_until.filter(|&until| until > now);
                checked.next = interval.map(|interval| held.unwrap_or(now + interval));
            }
        }
    }

    /// The kind of the other side's candidate, when the pair in use is not the agent's.
    pub(super) fn kind_in_use(&self) -> Option<CandidateKind> {
        let pair = self.in_use?;
        Some(self.remotes.get(&pair.remote).map_or(CandidateKind::PeerReflexive, |(kind, _)| *kind))
    }

    /// Whether there is something to check with and to compare with.
    fn is_active(&self) -> bool {
        let (Some(signature), Some((ufrag, _))) = (&self.signature, &self.theirs) else { return false };
        // After a restart the agent still signs for the generation before.
        let fits =
            signature.username.strip_prefix(ufrag.as_bytes()).is_some_and(|rest| rest.first() == Some(&b':'));
        fits && self.selected.is_some()
    }

    fn lost_at(&self) -> Option<Instant> {
        let checked = self.pairs.get(&self.in_use?)?;
        checked.answered.map(|answered| answered + LOST)
    }

    /// The agent knows it, so the other side offered it or sent a signed request from there.
    fn learn_pair(&mut self, pair: Pair) {
        self.learn(pair.remote, CandidateKind::PeerReflexive, 0);
    }

    fn learn(&mut self, address: SocketAddr, kind: CandidateKind, priority: u32) {
        if !is_usable(address) {
            return;
        }
        let ports = self.remotes.keys().filter(|known| known.ip() == address.ip()).count();
        let has_room = self.remotes.len() < MOST_REMOTES && ports < MOST_PORTS;
        match self.remotes.get_mut(&address) {
            // It was found by a check before its candidate came.
            Some(known) if known.0 == CandidateKind::PeerReflexive => *known = (kind, priority),
            Some(_) => {}
            None if has_room => {
                self.remotes.insert(address, (kind, priority));
            }
            None => {}
        }
        let sockets: Vec<u64> = self.sockets.keys().copied().collect();
        for socket in sockets {
            self.pair_up(Pair { socket, remote: address });
        }
    }

    fn pair_up(&mut self, pair: Pair) {
        let Some(local) = self.sockets.get(&pair.socket) else { return };
        let reaches = local.is_ipv4() == pair.remote.is_ipv4()
            && local.ip().is_loopback() == pair.remote.ip().is_loopback()
            && is_link_local(local.ip()) == is_link_local(pair.remote.ip());
        if reaches && self.remotes.contains_key(&pair.remote) && self.pairs.len() < MOST_PAIRS {
            self.pairs.entry(pair).or_default();
        }
    }

    /// Sees to it that every pair of interest is checked.
    fn schedule(&mut self, now: Instant) {
        if !self.is_active() {
            return;
        }
        self.is_rescheduled = true;
        let waits: Vec<(Pair, Option<Duration>)> =
            self.pairs.keys().map(|&pair| (pair, self.interval(pair, now))).collect();
        for (pair, interval) in waits {
            let Some(checked) = self.pairs.get_mut(&pair) else { continue };
            let held = checked.held_until.filter(|&until| until > now);
            checked.next = match (interval, held) {
                (None, _) => None,
                (Some(_), Some(until)) => Some(until),
                (Some(interval), None) if checked.sent > 0 => {
                    Some(checked.next.map_or(now, |next| next.min(now + interval)))
                }
                (Some(_), None) => Some(checked.next.unwrap_or(now)),
            };
        }
    }

    /// How often a pair is checked; `None` for one that is of no interest.
    fn interval(&self, pair: Pair, now: Instant) -> Option<Duration> {
        let (selected, since) = self.selected?;
        let checked = self.pairs.get(&pair)?;
        if self.in_use == Some(pair) {
            // An answer puts the next one off.
            return Some(UNANSWERED.max(checked.rtt * 3 / 2));
        }
        if selected == Selected::Own(pair) {
            return None;
        }
        match self.worth(pair) {
            Worth::More if checked.nominations > 0 => Some(NOMINATE.max(checked.rtt)),
            Worth::More => {
                // The other side chose the address, so one that never answered may be a stranger's: the
                // loss of another pair is no reason to check it more often again.
                let never = checked.first_sent_at.filter(|_| !checked.has_answered);
                let age = now.saturating_duration_since(never.map_or(since, |first| first.min(since)));
                let pace = PACE.iter().find(|(until, _)| age < *until);
                Some(pace.map_or(SLOW_PACE, |(_, pace)| *pace))
            }
            Worth::Alike => (checked.sent < ALIKE_CHECKS || checked.nominations > 0).then_some(ALIKE_PACE),
            Worth::Less => None,
        }
    }

    fn worth(&self, pair: Pair) -> Worth {
        let beside = match (self.in_use, self.selected) {
            (Some(pair), _) | (None, Some((Selected::Own(pair), _))) => Some(pair),
            _ => None,
        };
        match (self.is_direct(pair.remote), beside) {
            (true, Some(other)) if self.is_direct(other.remote) => Worth::Alike,
            (true, _) => Worth::More,
            (false, Some(other)) if !self.is_direct(other.remote) => {
                match self.rank(pair.remote).cmp(&self.rank(other.remote)) {
                    Ordering::Less => Worth::Less,
                    Ordering::Equal => Worth::Alike,
                    Ordering::Greater => Worth::More,
                }
            }
            // Beside a relay of this side there is nothing to compare the other side's with.
            (false, _) => Worth::Less,
        }
    }

    fn is_direct(&self, remote: SocketAddr) -> bool {
        self.remotes.get(&remote).is_none_or(|(kind, _)| *kind != CandidateKind::Relay)
    }

    /// Of a relayed candidate: clients tell the protocols to their servers apart in the upper bits.
    fn rank(&self, remote: SocketAddr) -> u32 {
        self.remotes.get(&remote).map_or(0, |(_, priority)| priority >> 20)
    }

    fn is_much_quicker(&self, pair: Pair) -> bool {
        let known = |pair: &Pair| {
            self.pairs.get(pair).filter(|checked| checked.samples >= SAMPLES).map(|checked| checked.rtt)
        };
        let other = match (self.in_use, self.selected) {
            (Some(other), _) | (None, Some((Selected::Own(other), _))) => known(&other),
            _ => None,
        };
        known(&pair).zip(other).is_some_and(|(rtt, other)| rtt * 2 + MUCH < other)
    }

    fn check(&mut self, pair: Pair, now: Instant) {
        let id = self.next_id();
        let (Some(signature), Some((_, password)), Some(crypto)) =
            (&self.signature, &self.theirs, &self.crypto)
        else {
            return;
        };
        let Some(checked) = self.pairs.get_mut(&pair) else { return };
        // With every check of the pair in use: the other side may have lost it meanwhile.
        let is_wanted = checked.nominations > 0 || self.in_use == Some(pair);
        let nominate = signature.is_controlling && is_wanted;
        let Some(request) = stun::request(id, signature, password, nominate, crypto.crypto()) else { return };
        checked.sent += 1;
        checked.first_sent_at.get_or_insert(now);
        checked.sent_at = Some(now);
        checked.nominations = checked.nominations.saturating_sub(1);
        self.outputs.push_back((pair, request));
        let purpose = if nominate { Purpose::Nomination } else { Purpose::Check };
        self.ask(Asked { id, pair, at: now, purpose });
    }

    fn ask(&mut self, asked: Asked) {
        if self.asked.len() == MOST_REQUESTS {
            self.asked.pop_front();
        }
        self.asked.push_back(asked);
    }

    /// SplitMix64.
    fn next_id(&mut self) -> Id {
        let mut word = || {
            self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.random;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)).to_be_bytes()
        };
        let (first, second) = (word(), word());
        let mut id = [0; 12];
        id[..8].copy_from_slice(&first);
        id[8..].copy_from_slice(&second[..4]);
        id
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    }
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
