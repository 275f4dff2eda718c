//! The simulation itself: a queue of events in virtual time, and what each does. It never waits.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use snug_call_proto::{CallEvent, Input, JobId, KeptIdentity, LinkId, Now, OwnerRequest};
use snug_room_proto::Input as RoomInput;
use snug_turn_proto::Transport;
use snug_wire::{Media, Password, SigningIdentity, UserId};

use crate::check::Watch;
use crate::dice::Dice;
use crate::plan::{Fault, Person, Plan};
use crate::relay::{self, Effect, Relay};
use crate::shell::{self, Client, PASSWORD};
use crate::transcript::{Failure, Transcript};
use crate::wires::{Body, Item, Line, Purpose, Stream};

/// How often the rules are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A disk or a password hash takes up to this.
const SLOW: Duration = Duration::from_millis(25);
/// A relay that was warned of its stop stops after this.
const DRAIN: Duration = Duration::from_secs(2);
/// Far more events than any call has.
const EVENTS: u64 = 20_000_000;

/// What happens at a time.
pub(crate) enum Event {
    Join(usize),
    /// A person's program is started again on the line of the participant that it was.
    StartAgain {
        person: usize,
        before: usize,
        key_kept: bool,
    },
    Fault(usize),
    /// A fault is over.
    Over(Fault),
    RelayStops,
    Rules,
    Outside {
        to: SocketAddrV4,
        from: SocketAddrV4,
        body: Body,
    },
    Inside {
        to: SocketAddrV4,
        from: SocketAddrV4,
        body: Body,
    },
    StreamUp(u64),
    StreamDown(u64),
    /// The relay's end of a stream is told that the other process died.
    StreamEnds(u64),
    Connecting {
        who: usize,
        attempt: u64,
        since: Duration,
    },
    Client(usize),
    Agent(usize, LinkId),
    Job(usize, LinkId),
    Described {
        who: usize,
        link: LinkId,
        job: JobId,
        sdp: Option<String>,
    },
    Look(usize),
    Types(usize),
    /// Somebody lets somebody in from the lobby.
    Admits {
        who: usize,
        user: UserId,
    },
    Relay,
    Answer {
        life: u64,
        input: Box<RoomInput>,
    },
}

/// How much happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events of the simulation.
    pub events: u64,
    /// Datagrams that participants sent.
    pub datagrams: u64,
    /// Messages that participants sent to the relay.
    pub frames: u64,
    /// Peer connections that were made.
    pub links: u64,
    /// Offers, of new connections and restarts.
    pub offers: u64,
    /// Paths that were given up.
    pub failed: u64,
}

/// A call that kept all rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// What happened, as a number: the same plan gives the same one.
    pub digest: u64,
    /// How long the call was.
    pub length: Duration,
    /// How much happened.
    pub counts: Counts,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) start: Instant,
    pub(crate) now: Duration,
    pub(crate) dice: Dice,
    pub(crate) relay: Relay,
    /// Its machine answers for a process that is not there.
    pub(crate) relay_answers: bool,
    pub(crate) lines: Vec<Line>,
    /// By the order of joining; `people` says which person each is.
    pub(crate) clients: Vec<Client>,
    pub(crate) people: BTreeMap<usize, usize>,
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) next_stream: u64,
    pub(crate) counts: Counts,
    pub(crate) watch: Watch,
    transcript: Transcript,
    failure: Option<Failure>,
    queue: BTreeMap<(Duration, u64), Event>,
    serial: u64,
    relay_scheduled: Option<Duration>,
}

/// Plays a call from `start`, which only gives virtual time its beginning.
///
/// # Errors
/// The first rule that was broken.
pub fn run(plan: &Plan, start: Instant) -> Result<Report, Box<Failure>> {
    let mut world = World::new(plan.clone(), start);
    world.play();
    match world.failure {
        Some(failure) => Err(Box::new(failure)),
        None => {
            Ok(Report { digest: world.transcript.digest(), length: world.plan.length, counts: world.counts })
        }
    }
}

impl World {
    fn new(plan: Plan, start: Instant) -> Self {
        let mut dice = Dice::new(plan.seed);
        let relay = Relay::new(start, plan.turn, dice.bytes());
        let mut world = Self {
            start,
            now: Duration::ZERO,
            dice,
            relay,
            relay_answers: true,
            lines: Vec::new(),
            clients: Vec::new(),
            people: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_stream: 0,
            counts: Counts::default(),
            watch: Watch::default(),
            transcript: Transcript::new(),
            failure: None,
            queue: BTreeMap::new(),
            serial: 0,
            relay_scheduled: None,
            plan,
        };
        for index in 0..world.plan.people.len() {
            world.at(world.plan.people[index].joins, Event::Join(index));
        }
        for index in 0..world.plan.faults.len() {
            world.at(world.plan.faults[index].0, Event::Fault(index));
        }
        world.at(LOOK, Event::Rules);
        world
    }

    fn play(&mut self) {
        while self.failure.is_none()
            && let Some(((at, _), event)) = self.queue.pop_first()
        {
            if at > self.plan.length {
                break;
            }
            self.now = at;
            self.counts.events += 1;
            if self.counts.events > EVENTS {
                return self.fail("the call has more events than any call has".to_owned());
            }
            self.happen(event);
        }
        self.now = self.plan.length;
        if self.failure.is_none() {
            self.look_at_the_end();
        }
    }

    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        self.serial += 1;
        self.queue.insert((at.max(self.now), self.serial), event);
    }

    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    pub(crate) fn note(&mut self, text: fmt::Arguments<'_>) {
        self.transcript.add(self.now, text);
    }

    pub(crate) fn fail(&mut self, problem: String) {
        let (seed, at, transcript) = (self.plan.seed, self.now, self.transcript.lines());
        self.failure.get_or_insert(Failure { seed, at, problem, transcript });
    }

    pub(crate) fn call_now(&self) -> Now {
        Now { at: self.start + self.now, unix_ms: relay::START * 1000 + self.now.as_millis() as u64 }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Join(person) => self.join(person),
            Event::StartAgain { person, before, key_kept } => self.start_again(person, before, key_kept),
            Event::Fault(index) => {
                let fault = self.plan.faults[index].1.clone();
                self.strike(fault);
            }
            Event::Over(fault) => self.over(&fault),
            Event::RelayStops => self.stop_relay(false),
            Event::Rules => {
                self.look_at_rules();
                self.after(LOOK, Event::Rules);
            }
            Event::Outside { to, from, body } => self.on_outside(to, from, body),
            Event::Inside { to, from, body } => self.on_inside(to, from, body),
            Event::StreamUp(id) => self.on_stream_up(id),
            Event::StreamDown(id) => self.on_stream_down(id),
            Event::StreamEnds(id) => {
                self.relay_loses(id);
                self.streams.remove(&id);
            }
            Event::Connecting { who, attempt, since } => self.connecting(who, attempt, since),
            Event::Client(who) => {
                if self.clients[who].is_due(self.now) {
                    self.wake_client(who);
                }
            }
            Event::Agent(who, link) => {
                if self.clients[who].link_is_due(link, self.now) {
                    self.wake_agent(who, link);
                }
            }
            Event::Job(who, link) => self.run_job(who, link),
            Event::Described { who, link, job, sdp } => self.described(who, link, job, sdp),
            Event::Look(who) => self.look(who),
            Event::Types(who) => self.type_password(who),
            Event::Admits { who, user } => {
                if self.clients[who].is_well() {
                    self.let_in(who, user);
                }
            }
            Event::Relay => {
                if self.relay_scheduled == Some(self.now) {
                    self.relay_scheduled = None;
                    if self.relay.up {
                        self.relay.handle_timeout(self.now);
                        self.drain_relay();
                    }
                }
            }
            Event::Answer { life, input } => {
                if self.relay.up && self.relay.life == life {
                    self.relay.input(*input, self.now);
                    self.drain_relay();
                }
            }
        }
    }

    /// Carries out what the relay wants done.
    pub(crate) fn drain_relay(&mut self) {
        loop {
            let effects = std::mem::take(&mut self.relay.effects);
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                match effect {
                    Effect::Frame { connection, text } => self.stream_down(connection.0, Item::Text(text)),
                    Effect::Close { connection, code } => self.stream_down(connection.0, Item::Close(code)),
                    Effect::ToClient { to, bytes } => self.send_to_client(to.transport, to.client, bytes),
                    Effect::ToPeer { from, to, bytes } => self.send_to_peer(from, to, &bytes),
                    Effect::Later(input) => {
                        let wait = self.dice.between(Duration::ZERO, SLOW);
                        let life = self.relay.life;
                        self.after(wait, Event::Answer { life, input: Box::new(input) });
                    }
                    Effect::Seated(user) => {
                        let name = self.name_of(user);
                        self.note(format_args!("the relay seats {name}"));
                    }
                    Effect::Unseated(user) => {
                        let name = self.name_of(user);
                        self.note(format_args!("the relay unseats {name}"));
                    }
                }
            }
        }
        if let Some(due) = self.relay.timeout() {
            let due = due.max(self.now);
            if self.relay_scheduled.is_none_or(|at| due < at || at < self.now) {
                self.relay_scheduled = Some(due);
                self.at(due, Event::Relay);
            }
        }
    }

    fn send_to_client(&mut self, transport: Transport, to: SocketAddr, bytes: Vec<u8>) {
        let SocketAddr::V4(to) = to else { return };
        if transport == Transport::Udp {
            return self.send_from_relay(relay::ADDRESS, to, bytes);
        }
        let stream = self
            .streams
            .iter()
            .find(|(_, stream)| stream.address == to && matches!(stream.purpose, Purpose::Turn(_)));
        if let Some((id, _)) = stream {
            let id = *id;
            self.stream_down(id, Item::Bytes(bytes));
        }
    }

    /// Two crossings of a participant's line, to open a connection.
    pub(crate) fn round_trip(&mut self, who: usize) -> Duration {
        let person = &self.plan.people[self.people[&who]];
        let (delay, jitter) = (person.delay, person.jitter);
        self.dice.between(delay * 3, (delay + jitter) * 4)
    }

    pub(crate) fn name_of(&self, user: UserId) -> String {
        self.client_with(user).map_or_else(|| user.to_string(), |who| who.to_string())
    }

    /// The participant with this id; of several runs the last one.
    pub(crate) fn client_with(&self, user: UserId) -> Option<usize> {
        self.clients.iter().rposition(|client| client.user == user)
    }

    /// An event as the transcript tells it.
    pub(crate) fn brief(&self, event: &CallEvent) -> String {
        match event {
            CallEvent::ParticipantJoined { user, .. } => format!("{} joined", self.name_of(*user)),
            CallEvent::ParticipantReturned(user) => format!("{} is back, started anew", self.name_of(*user)),
            CallEvent::ParticipantLeft { user, .. } => format!("{} left", self.name_of(*user)),
            CallEvent::ParticipantAway(user) => format!("{} is away", self.name_of(*user)),
            CallEvent::ParticipantBack(user) => format!("{} is back", self.name_of(*user)),
            CallEvent::ParticipantConnected(user) => format!("{} is connected", self.name_of(*user)),
            CallEvent::ParticipantInterrupted(user) => format!("{} is interrupted", self.name_of(*user)),
            CallEvent::MediaChanged { user, .. } => format!("{} switched a source", self.name_of(*user)),
            CallEvent::OwnerToken(_) => "the owner's token".to_owned(),
            other => format!("{other:?}"),
        }
    }

    fn join(&mut self, person: usize) {
        let household = self.plan.people[person].household;
        let shared = household
            .and_then(|other| self.people.iter().find(|(_, person)| **person == other))
            .map(|(who, _)| self.clients[*who].line);
        let line = shared.unwrap_or_else(|| self.new_line(&self.plan.people[person].clone()));
        self.enter(person, line, None);
    }

    fn start_again(&mut self, person: usize, before: usize, key_kept: bool) {
        let kept = self.clients[before].kept.clone();
        let line = self.clients[before].line;
        let drawn = self.dice.bytes();
        let key = SigningIdentity::from_bytes(&drawn).expect("one in 2³² is none");
        let kept = kept.map(|kept| if key_kept { kept } else { KeptIdentity { key, started_ms: 0, ..kept } });
        let replaces = !key_kept && kept.as_ref().is_some_and(|kept| kept.ticket.is_some());
        let new_key = if key_kept { self.clients[before].new_key } else { replaces.then_some(self.now) };
        self.enter(person, line, kept);
        let who = self.clients.len() - 1;
        self.clients[who].new_key = new_key;
    }

    /// A person's program is started.
    fn enter(&mut self, person: usize, line: usize, kept: Option<KeptIdentity>) {
        let quic = self.plan.people[person].quic;
        let who = self.clients.len();
        let seed = self.dice.bytes();
        let now = self.call_now();
        let call = shell::call(format!("Guest {who}"), self.plan.sealed, kept, seed, now);
        let ip = Ipv4Addr::new(10, line as u8, 0, who as u8 + 1);
        // Far apart, so that no two participants name a generation alike.
        let serials = (who as u64 + 1) << 32;
        self.clients.push(Client::new(call, (line, ip), quic, serials));
        self.clients[who].started = self.now;
        self.people.insert(who, person);
        self.watch.came(self.now);
        let user = self.clients[who].user;
        let kind = self.lines[line].nat.kind;
        self.note(format_args!("{who} joins on line {line} ({kind:?}), being {user}"));
        self.drain_client(who);
    }

    fn new_line(&mut self, person: &Person) -> usize {
        self.lines.push(Line::new(person, self.lines.len()));
        self.lines.len() - 1
    }

    /// The participant that a person is, while it takes part.
    fn client_of(&self, person: usize) -> Option<usize> {
        let mut runs = self.people.iter().filter(|(_, other)| **other == person);
        runs.find(|(who, _)| !self.clients[**who].gone).map(|(who, _)| *who)
    }

    fn owner(&self) -> Option<usize> {
        (0..self.clients.len())
            .find(|who| self.clients[*who].is_well() && self.clients[*who].call.snapshot().is_owner)
    }

    // Faults.

    fn strike(&mut self, fault: Fault) {
        self.note(format_args!("--- {fault:?}"));
        match &fault {
            Fault::RelayKilled(time) => {
                self.after(*time, Event::Over(fault.clone()));
                return self.stop_relay(true);
            }
            Fault::RelayVanishes(time) => {
                self.relay_answers = false;
                self.after(*time, Event::Over(fault.clone()));
                return self.stop_relay(false);
            }
            Fault::RelayDrained(time) => {
                if self.relay.up {
                    self.relay.input(RoomInput::Drain, self.now);
                    self.drain_relay();
                    self.after(DRAIN, Event::RelayStops);
                }
                self.watch.relay_disturbed(self.now);
                return self.after(DRAIN + *time, Event::Over(fault.clone()));
            }
            Fault::Lock(locked) => {
                if let Some(owner) = self.owner() {
                    self.tell(owner, Input::Owner(OwnerRequest::Lock(*locked)));
                }
                return;
            }
            Fault::SetPassword => {
                if let Some(owner) = self.owner() {
                    let password = Password::new(PASSWORD).expect("a password");
                    self.tell(owner, Input::Owner(OwnerRequest::SetPassword { password, hint: None }));
                }
                return;
            }
            Fault::Kick(person) => {
                if let (Some(owner), Some(who)) = (self.owner(), self.client_of(*person))
                    && owner != who
                {
                    let user = self.clients[who].user;
                    self.disturbed(who);
                    self.tell(owner, Input::Owner(OwnerRequest::Kick(user)));
                }
                return;
            }
            _ => {}
        }
        let person = match &fault {
            Fault::Leave(who)
            | Fault::Kill(who)
            | Fault::Crash { who, .. }
            | Fault::PowerOff(who)
            | Fault::Outage(who, _)
            | Fault::Sleep(who, _)
            | Fault::Move { who, .. }
            | Fault::Cut(who)
            | Fault::NatForgets(who)
            | Fault::ToggleCamera(who)
            | Fault::Chat(who)
            | Fault::Retry(who) => *who,
            _ => return,
        };
        if let Some(who) = self.client_of(person) {
            self.strike_one(who, fault);
        }
    }

    fn strike_one(&mut self, who: usize, fault: Fault) {
        match fault {
            Fault::Leave(_) if self.clients[who].awake => self.tell(who, Input::Leave),
            Fault::Kill(_) => {
                self.kill(who);
                self.die(who);
            }
            Fault::Crash { who: person, away, key_kept } => {
                self.kill(who);
                self.clients[who].gone = true;
                self.after(away, Event::StartAgain { person, before: who, key_kept });
            }
            Fault::PowerOff(_) => {
                for id in self.streams_of(who) {
                    self.streams.remove(&id);
                }
                self.die(who);
            }
            Fault::Outage(_, time) => {
                self.clients[who].online = false;
                self.disturbed(who);
                self.after(time, Event::Over(Fault::Outage(who, time)));
            }
            Fault::Sleep(_, time) => {
                self.clients[who].awake = false;
                self.disturbed(who);
                self.after(time, Event::Over(Fault::Sleep(who, time)));
            }
            Fault::Move { nat, noticed, .. } => {
                let person = Person { nat, ..self.plan.people[self.people[&who]].clone() };
                let line = self.new_line(&person);
                let client = &mut self.clients[who];
                client.line = line;
                client.ip = Ipv4Addr::new(10, line as u8, 0, who as u8 + 1);
                self.disturbed(who);
                if noticed && self.clients[who].is_well() {
                    self.tell(who, Input::NetworkChanged);
                }
            }
            Fault::Cut(_) => {
                self.disturbed(who);
                for id in self.streams_of(who) {
                    let signaling = self
                        .streams
                        .get(&id)
                        .is_some_and(|stream| matches!(stream.purpose, Purpose::Signaling(_)));
                    if signaling && self.says_goodbye(id) {
                        self.relay_loses(id);
                        self.stream_down(id, Item::Close(0));
                    }
                }
            }
            Fault::NatForgets(_) => {
                let line = self.clients[who].line;
                self.lines[line].nat.forget();
                let neighbours: Vec<usize> =
                    (0..self.clients.len()).filter(|other| self.clients[*other].line == line).collect();
                for other in neighbours {
                    self.disturbed(other);
                }
            }
            Fault::ToggleCamera(_) => {
                let media = self.clients[who].call.snapshot().media;
                self.tell(who, Input::SetMedia(Media { video: !media.video, ..media }));
            }
            Fault::Chat(_) => self.tell(who, Input::SendChat("hello".to_owned())),
            Fault::Retry(_) => self.tell(who, Input::RetryNow),
            _ => {}
        }
    }

    /// A process is killed: its system says so where it can.
    fn kill(&mut self, who: usize) {
        let told: Vec<u64> = self.streams_of(who).into_iter().filter(|id| self.says_goodbye(*id)).collect();
        if self.clients[who].is_well() {
            let way = self.round_trip(who);
            for id in told {
                self.after(way, Event::StreamEnds(id));
            }
        }
    }

    fn die(&mut self, who: usize) {
        self.clients[who].gone = true;
        let user = self.clients[who].user;
        self.watch.died(user, self.now);
    }

    fn over(&mut self, fault: &Fault) {
        self.note(format_args!("--- over: {fault:?}"));
        match fault {
            Fault::Outage(who, _) => {
                self.clients[*who].online = true;
                self.disturbed(*who);
            }
            Fault::Sleep(who, _) => {
                self.clients[*who].awake = true;
                self.disturbed(*who);
                self.wake_client(*who);
                let links: Vec<LinkId> = self.clients[*who].links.keys().copied().collect();
                for link in links {
                    self.wake_agent(*who, link);
                }
            }
            Fault::RelayKilled(_) | Fault::RelayVanishes(_) | Fault::RelayDrained(_) => {
                self.relay_answers = true;
                if !self.relay.up {
                    let seed = self.dice.bytes();
                    self.relay.start_again(self.now, seed);
                    self.relay_scheduled = None;
                }
                self.watch.relay_disturbed(self.now);
            }
            _ => {}
        }
    }

    fn stop_relay(&mut self, killed: bool) {
        if !self.relay.up {
            return;
        }
        self.watch.relay_disturbed(self.now);
        if !killed && self.relay_answers {
            // Stopped in order: everybody is told.
            self.relay.input(RoomInput::Stop, self.now);
            self.drain_relay();
        }
        self.relay.stop();
        if self.relay_answers {
            // Its system closes the streams; nobody answers for QUIC.
            let streams: Vec<u64> = self.streams.keys().copied().collect();
            for id in streams {
                if self.says_goodbye(id) {
                    self.stream_down(id, Item::Close(0));
                }
            }
        }
        self.watch.note_direct_links(&self.clients, self.now);
    }
}
