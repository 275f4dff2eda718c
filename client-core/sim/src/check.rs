//! The rules that every call keeps. They look at snapshots, at what connections carry, and at how much was said.
//!
//! 1. A participant has at most one connection to another (looked at wherever one is made).
//! 2. Two whom nothing disturbed for 30 s, with a path between them, are connected to each other.
//! 3. Of somebody who died, the tile is gone within 6 s and the name within 30 s.
//! 4. A relay that is away costs no media on direct links.
//! 5. Nobody offers, speaks to the relay, or wakes up without end.
//! 6. Nobody comes who is there, and whoever came back under another key is marked (looked at where it is told, and in the end).
//! 7. In the end all are online, agree on who is there and what they send, and the relay has a seat for each.

use std::collections::BTreeMap;
use std::time::Duration;

use snug_call_proto::{LinkId, LinkState, ParticipantSnapshot, SignalingState, TILE_KEPT};
use snug_wire::UserId;

use crate::shell::Client;
use crate::world::World;

/// Rule 2.
const LOST: Duration = Duration::from_secs(30);
/// Rule 3, with what the network and the rule's own clock take.
const TILE: Duration = Duration::from_millis(6_750);
const NAME: Duration = Duration::from_millis(31_000);
/// Rule 4: what a lossy line may lose at most.
const GAP: Duration = Duration::from_millis(1_500);
/// Rule 5: offers of one side to one participant in a minute.
const OFFERS: usize = 16;
/// Rule 5: messages to the relay in ten seconds, for each other participant.
const FRAMES: usize = 60;
/// Rule 5: wake-ups of a call in a second.
const WAKES: usize = 40;

#[derive(Default)]
pub(crate) struct Watch {
    disturbed: BTreeMap<usize, Duration>,
    relay_disturbed: Duration,
    deaths: Vec<(UserId, Duration)>,
    /// Direct links at the moment the relay went, with their participants.
    direct: Vec<(usize, LinkId)>,
    relay_gone: Option<Duration>,
    came: usize,
}

impl Watch {
    /// Somebody joins.
    pub(crate) fn came(&mut self, now: Duration) {
        self.disturbed.insert(self.came, now);
        self.came += 1;
    }

    pub(crate) fn relay_disturbed(&mut self, now: Duration) {
        self.relay_disturbed = now;
        self.relay_gone = None;
    }

    pub(crate) fn died(&mut self, user: UserId, now: Duration) {
        self.deaths.push((user, now));
    }

    /// The relay goes: direct links are to go on.
    pub(crate) fn note_direct_links(&mut self, clients: &[Client], now: Duration) {
        self.relay_gone = Some(now);
        self.direct.clear();
        for (who, client) in clients.iter().enumerate().filter(|(_, client)| client.is_well()) {
            let direct =
                client.links.iter().filter(|(_, link)| link.agent.is_connected() && !link.agent.is_relayed());
            self.direct.extend(direct.map(|(id, _)| (who, *id)));
        }
    }
}

impl World {
    /// Something happens to a participant: what follows from it has its time.
    pub(crate) fn disturbed(&mut self, who: usize) {
        self.watch.disturbed.insert(who, self.now);
    }

    /// Since when nothing disturbed this participant.
    fn calm_since(&self, who: usize) -> Duration {
        self.watch.disturbed.get(&who).copied().unwrap_or(self.now)
    }

    pub(crate) fn look_at_rules(&mut self) {
        let snapshots: Vec<Option<Vec<ParticipantSnapshot>>> = self
            .clients
            .iter()
            .map(|client| (!client.gone).then(|| client.call.snapshot().participants))
            .collect();
        if self.relay.up {
            self.look_for_lost(&snapshots);
        }
        self.look_for_dead(&snapshots);
        self.look_for_gaps();
        self.look_for_storms();
    }

    fn look_for_lost(&mut self, snapshots: &[Option<Vec<ParticipantSnapshot>>]) {
        let all = 0..self.clients.len();
        let able: Vec<bool> = all.map(|who| self.clients[who].is_well() && !self.is_shut_out(who)).collect();
        for who in 0..self.clients.len() {
            let Some(participants) = &snapshots[who] else { continue };
            for other in 0..self.clients.len() {
                if other == who || !able[who] || !able[other] {
                    continue;
                }
                let since = self.calm_since(who).max(self.calm_since(other)).max(self.watch.relay_disturbed);
                if self.now.saturating_sub(since) <= LOST || !self.has_path(who, other) {
                    continue;
                }
                let seen = participants.iter().find(|one| one.user == self.clients[other].user);
                if seen.is_none_or(|one| one.link != LinkState::Connected) {
                    let link = seen.map(|one| one.link);
                    return self.fail(format!(
                        "participant {who} has lost {other}, though nothing has been in the way since {:.3} s: {link:?}",
                        since.as_secs_f64()
                    ));
                }
            }
        }
    }

    /// Whether this participant waits for somebody to let it in. Without the owner nobody does.
    fn is_shut_out(&self, who: usize) -> bool {
        self.clients[who].call.snapshot().signaling == SignalingState::Waiting
    }

    /// Whether two participants can reach each other at all.
    fn has_path(&self, who: usize, other: usize) -> bool {
        let (a, b) = (&self.clients[who], &self.clients[other]);
        let met = self.lines[a.line].nat.kind.meets(self.lines[b.line].nat.kind);
        self.plan.turn || a.line == b.line || met
    }

    fn look_for_dead(&mut self, snapshots: &[Option<Vec<ParticipantSnapshot>>]) {
        for (user, died) in self.watch.deaths.clone() {
            for (who, participants) in snapshots.iter().enumerate() {
                let Some(participants) = participants else { continue };
                let undisturbed = self.clients[who].is_well()
                    && self.relay.up
                    && self.calm_since(who).max(self.watch.relay_disturbed) < died;
                let Some(seen) = participants.iter().find(|one| one.user == user).filter(|_| undisturbed)
                else {
                    continue;
                };
                let shown = match seen.link {
                    LinkState::Connected => true,
                    LinkState::Interrupted { since } => since + TILE_KEPT > self.start + self.now,
                    LinkState::Connecting | LinkState::Refused(_) => false,
                };
                let (name, link) = (self.name_of(user), seen.link);
                if shown && self.now > died + TILE {
                    return self.fail(format!("participant {who} still shows {name}, who died: {link:?}"));
                }
                if self.now > died + NAME {
                    return self.fail(format!("participant {who} still lists {name}, who died: {link:?}"));
                }
            }
        }
    }

    fn look_for_gaps(&mut self) {
        let Some(gone) = self.watch.relay_gone.filter(|_| !self.relay.up) else { return };
        for (who, id) in self.watch.direct.clone() {
            let client = &self.clients[who];
            let Some(link) = client.links.get(&id) else {
                if self.all_are_calm(gone) {
                    return self.fail(format!("participant {who} closed {id} because the relay is away"));
                }
                continue;
            };
            let other = self.client_with(link.user);
            let calm =
                |who: usize| self.clients[who].is_well() && self.calm_since(who) < gone.saturating_sub(LOST);
            let Some(other) = other.filter(|other| calm(*other) && calm(who)) else { continue };
            if self.now > link.agent.media_heard + GAP && link.agent.is_connected() {
                return self
                    .fail(format!("participant {who} hears nothing from {other} while the relay is away"));
            }
        }
    }

    /// A link that was closed says no more who was at its other end: only a call in which nobody was disturbed tells.
    fn all_are_calm(&self, gone: Duration) -> bool {
        let calm =
            |who: usize| self.clients[who].is_well() && self.calm_since(who) < gone.saturating_sub(LOST);
        (0..self.clients.len()).all(calm)
    }

    fn look_for_storms(&mut self) {
        let (now, others) = (self.now, self.clients.len().max(2) - 1);
        let mut problem = None;
        for (who, client) in self.clients.iter_mut().enumerate() {
            for (user, times) in &mut client.offers {
                while times.front().is_some_and(|at| *at + Duration::from_secs(60) < now) {
                    times.pop_front();
                }
                if times.len() > OFFERS {
                    problem =
                        Some(format!("participant {who} made {} offers to {user} in a minute", times.len()));
                }
            }
            while client.frames.front().is_some_and(|at| *at + Duration::from_secs(10) < now) {
                client.frames.pop_front();
            }
            if client.frames.len() > FRAMES * others {
                problem =
                    Some(format!("participant {who} sent {} messages in ten seconds", client.frames.len()));
            }
            while client.wakes.front().is_some_and(|at| *at + Duration::from_secs(1) < now) {
                client.wakes.pop_front();
            }
            if client.wakes.len() > WAKES {
                problem = Some(format!("participant {who} woke up {} times in a second", client.wakes.len()));
            }
        }
        if let Some(problem) = problem {
            self.fail(problem);
        }
    }

    pub(crate) fn look_at_the_end(&mut self) {
        let here: Vec<usize> = (0..self.clients.len()).filter(|who| !self.clients[*who].gone).collect();
        if here.iter().any(|who| self.is_shut_out(*who)) {
            return;
        }
        let mut expected: Vec<UserId> = here.iter().map(|who| self.clients[*who].user).collect();
        expected.sort_unstable();
        let seats = self.relay.seats();
        if let Some(missing) = expected.iter().find(|user| !seats.contains(user)) {
            return self.fail(format!("{} has no seat", self.name_of(*missing)));
        }
        for who in here {
            let snapshot = self.clients[who].call.snapshot();
            if snapshot.signaling != SignalingState::Online {
                return self.fail(format!("participant {who} is not back: {:?}", snapshot.signaling));
            }
            let mut seen: Vec<UserId> = snapshot.participants.iter().map(|one| one.user).collect();
            seen.push(snapshot.self_id);
            seen.sort_unstable();
            if seen != expected {
                let names: Vec<String> = seen.iter().map(|user| self.name_of(*user)).collect();
                return self.fail(format!("participant {who} believes that these are here: {names:?}"));
            }
            for one in &snapshot.participants {
                let Some(other) = self.client_with(one.user) else { continue };
                let media = self.clients[other].call.snapshot().media;
                if one.media != media {
                    return self.fail(format!("participant {who} does not know what {other} sends"));
                }
                if one.name != format!("Guest {other}") || one.away {
                    return self.fail(format!(
                        "participant {who} has {other} down as {:?}, away: {}",
                        one.name, one.away
                    ));
                }
                let (started, marked) = (self.clients[who].started, self.clients[other].new_key);
                let saw_it = marked.is_some_and(|at| started < at);
                if (saw_it && !one.new_key) || (marked.is_none() && one.new_key) || !one.verified {
                    return self
                        .fail(format!("participant {who} does not show whether {other} has a new key"));
                }
                let connected = one.link == LinkState::Connected;
                if connected != self.has_path(who, other) {
                    return self.fail(format!("participant {who} and {other} end as {:?}", one.link));
                }
            }
        }
    }
}
