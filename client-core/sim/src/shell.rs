//! What `snug-core` does around a call, in little: carries outputs out in order, link by link, and hands back what comes of them.
//! People are played here, too: they know the password, look at everybody, and give up when the call does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use snug_call_proto::{
    Call, CallConfig, CallEvent, ConnectFailure, EndCode, IceState, Input, JobId, KeptIdentity, LinkId, Now,
    Output, OwnerRequest, Tile,
};
use snug_room_proto::{ConnectionId, Input as RoomInput};
use snug_turn_proto::Transport;
use snug_wire::link::RoomSecret;
use snug_wire::message::Received;
use snug_wire::{IceServer, Media, Password, ServerMessage, UserId};

use crate::agent::{Agent, Effect, Place};
use crate::packet::Packet;
use crate::relay;
use crate::wires::{Body, Item, Purpose};
use crate::world::{Event, World};

/// How long a description takes to make.
const DESCRIBING: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(30)];
/// A person types the password.
const TYPING: Duration = Duration::from_secs(2);
/// A connection that nobody answers is given up by the system.
const SYSTEM_PATIENCE: Duration = Duration::from_secs(10);
/// The room's password, once it has one.
pub(crate) const PASSWORD: &str = "rex";
/// Most effects that one input may have: a room of ten, each with offers, candidates and chat.
const EFFECTS: usize = 600;

/// A peer connection, with what it is still to do.
pub(crate) struct Link {
    pub(crate) user: UserId,
    pub(crate) agent: Agent,
    servers: Vec<IceServer>,
    jobs: VecDeque<Output>,
    free_at: Duration,
    scheduled: Option<Duration>,
    seen_at: Option<Duration>,
}

/// One participant's machine and process.
pub(crate) struct Client {
    pub(crate) call: Call,
    pub(crate) user: UserId,
    pub(crate) line: usize,
    pub(crate) ip: Ipv4Addr,
    pub(crate) quic: bool,
    pub(crate) online: bool,
    pub(crate) awake: bool,
    /// Dead, or done.
    pub(crate) gone: bool,
    pub(crate) end: Option<EndCode>,
    /// What its shell keeps.
    pub(crate) kept: Option<KeptIdentity>,
    /// When it was started.
    pub(crate) started: Duration,
    /// When it came back under another key, which those who were there are to see.
    pub(crate) new_key: Option<Duration>,
    /// Whom it was told to be there.
    pub(crate) present: BTreeSet<UserId>,
    pub(crate) links: BTreeMap<LinkId, Link>,
    pub(crate) chats: Vec<String>,
    pub(crate) offers: BTreeMap<UserId, VecDeque<Duration>>,
    pub(crate) frames: VecDeque<Duration>,
    pub(crate) wakes: VecDeque<Duration>,
    pub(crate) stream: Option<u64>,
    attempt: u64,
    ports: BTreeMap<u16, LinkId>,
    next_port: u16,
    scheduled: Option<Duration>,
    seed: u64,
}

impl Client {
    pub(crate) fn is_well(&self) -> bool {
        self.online && self.awake && !self.gone
    }

    pub(crate) fn new(call: Call, (line, ip): (usize, Ipv4Addr), quic: bool, seed: u64) -> Self {
        let user = call.snapshot().self_id;
        Self {
            call,
            user,
            line,
            ip,
            quic,
            online: true,
            awake: true,
            gone: false,
            end: None,
            kept: None,
            started: Duration::ZERO,
            new_key: None,
            present: BTreeSet::new(),
            links: BTreeMap::new(),
            chats: Vec::new(),
            offers: BTreeMap::new(),
            frames: VecDeque::new(),
            wakes: VecDeque::new(),
            stream: None,
            attempt: 0,
            ports: BTreeMap::new(),
            next_port: 1024,
            scheduled: None,
            seed,
        }
    }

    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.scheduled == Some(now)
    }

    pub(crate) fn link_is_due(&self, link: LinkId, now: Duration) -> bool {
        self.links.get(&link).is_some_and(|link| link.scheduled == Some(now))
    }

    fn ports(&mut self, link: LinkId) -> [u16; 2] {
        let first = self.next_port;
        self.next_port = first.checked_add(2).unwrap_or(1024);
        self.ports.insert(first, link);
        self.ports.insert(first + 1, link);
        [first, first + 1]
    }
}

/// A call to the room that all plans are about.
pub(crate) fn call(name: String, sealed: bool, kept: Option<KeptIdentity>, seed: [u8; 32], now: Now) -> Call {
    let config = CallConfig {
        room: "sunny-mountain-42".parse().expect("a valid room id"),
        secret: sealed.then(|| RoomSecret::from_bytes([7; 16])),
        owner_token: None,
        name,
        password: None,
        media: Media { audio: true, video: true, ..Media::default() },
        agent: "sim/1".into(),
        kept,
    };
    Call::new(config, seed, now)
}

impl World {
    /// Tells a call something, and carries out what comes of it.
    pub(crate) fn tell(&mut self, who: usize, input: Input) {
        let now = self.call_now();
        self.clients[who].call.handle_input(input, now);
        self.drain_client(who);
    }

    pub(crate) fn wake_client(&mut self, who: usize) {
        let now = self.call_now();
        let client = &mut self.clients[who];
        client.scheduled = None;
        if client.gone || !client.awake {
            return;
        }
        client.wakes.push_back(self.now);
        client.call.handle_timeout(now);
        self.drain_client(who);
    }

    pub(crate) fn drain_client(&mut self, who: usize) {
        let mut effects = 0;
        while let Some(output) = self.clients[who].call.poll_output() {
            effects += 1;
            self.carry_out(who, output);
        }
        if effects > EFFECTS {
            self.fail(format!("one input of participant {who} had {effects} effects"));
        }
        let client = &mut self.clients[who];
        if effects > 0 {
            client.user = client.call.snapshot().self_id;
        }
        if client.gone {
            return;
        }
        let due = client.call.poll_timeout().map(|at| at.saturating_duration_since(self.start).max(self.now));
        if let Some(due) = due.filter(|due| client.scheduled.is_none_or(|at| *due < at)) {
            client.scheduled = Some(due);
            self.at(due, Event::Client(who));
        }
    }

    fn carry_out(&mut self, who: usize, output: Output) {
        let now = self.now;
        match output {
            Output::Connect => {
                self.clients[who].attempt += 1;
                let attempt = self.clients[who].attempt;
                self.clients[who].stream = None;
                let way = self.round_trip(who);
                self.after(way, Event::Connecting { who, attempt, since: now });
            }
            Output::CloseConnection { code } => {
                self.clients[who].attempt += 1;
                if let Some(stream) = self.clients[who].stream.take() {
                    self.stream_up(stream, Item::Close(code));
                }
            }
            Output::Send(text) => {
                self.counts.frames += 1;
                self.clients[who].frames.push_back(now);
                if let Some(stream) = self.clients[who].stream {
                    self.stream_up(stream, Item::Text(text));
                }
            }
            Output::OpenLink { link, user, ice_servers, offerer } => {
                self.note(format_args!(
                    "{who} opens {link} to {}{}",
                    self.name_of(user),
                    if offerer { ", offering" } else { "" }
                ));
                self.counts.links += 1;
                if self.clients[who].links.values().any(|other| other.user == user) {
                    self.fail(format!("participant {who} has two connections to {}", self.name_of(user)));
                }
                let identity = self.dice.number() >> 16;
                let agent = Agent::new(identity, relay::ADDRESS);
                let link_of = Link {
                    user,
                    agent,
                    servers: ice_servers,
                    jobs: VecDeque::new(),
                    free_at: now,
                    scheduled: None,
                    seen_at: None,
                };
                self.clients[who].links.insert(link, link_of);
            }
            Output::CloseLink { link } => {
                self.note(format_args!("{who} closes {link}"));
                self.close_link(who, link);
            }
            Output::SetIceServers { link, ice_servers } => {
                if let Some(link) = self.clients[who].links.get_mut(&link) {
                    link.servers = ice_servers;
                }
            }
            Output::CreateOffer { link, .. }
            | Output::AcceptOffer { link, .. }
            | Output::AcceptAnswer { link, .. }
            | Output::AddCandidate { link, .. }
            | Output::SendChannel { link, .. } => self.queue_job(who, link, output),
            Output::Tile { .. } => {}
            Output::Event(event) => self.on_event(who, event),
        }
    }

    fn on_event(&mut self, who: usize, event: CallEvent) {
        self.note(format_args!("{who} is told {}", self.brief(&event)));
        match event {
            CallEvent::KeepIdentity(kept) => self.clients[who].kept = Some(kept),
            CallEvent::ForgetIdentity => self.clients[who].kept = None,
            CallEvent::Joined { .. } | CallEvent::ParticipantReturned(_) => {
                self.after(Duration::ZERO, Event::Look(who));
            }
            CallEvent::ParticipantJoined { user, .. } => {
                if !self.clients[who].present.insert(user) {
                    let name = self.name_of(user);
                    self.fail(format!("participant {who} is told that {name} came, who was there"));
                }
                self.after(Duration::ZERO, Event::Look(who));
            }
            CallEvent::ParticipantLeft { user, .. } => {
                self.clients[who].present.remove(&user);
            }
            CallEvent::Knock(knock) => self.after(TYPING, Event::Admits { who, user: knock.user }),
            CallEvent::PasswordNeeded { .. } => {
                self.disturbed(who);
                self.after(TYPING, Event::Types(who));
            }
            CallEvent::Chat(message) => self.clients[who].chats.push(message.text),
            CallEvent::Ended { code, .. } => {
                self.clients[who].end = Some(code);
                let links: Vec<LinkId> = self.clients[who].links.keys().copied().collect();
                for link in links {
                    self.close_link(who, link);
                }
                self.clients[who].gone = true;
            }
            _ => {}
        }
    }

    /// Every participant is shown at the same size.
    pub(crate) fn look(&mut self, who: usize) {
        let shown = Tile { width: 640, height: 360, screen_width: 0, screen_height: 0 };
        let others = self.clients[who].call.snapshot().participants;
        self.clients[who].present = others.iter().map(|other| other.user).collect();
        let tiles = others.into_iter().map(|other| (other.user, shown)).collect();
        self.tell(who, Input::SetTiles(tiles));
    }

    /// Whoever may lets everybody in.
    pub(crate) fn let_in(&mut self, who: usize, user: UserId) {
        if let Some(knocker) = self.client_with(user) {
            self.disturbed(knocker);
        }
        self.tell(who, Input::Owner(OwnerRequest::Admit { user, admitted: true }));
    }

    pub(crate) fn type_password(&mut self, who: usize) {
        self.tell(who, Input::SupplyPassword(Password::new(PASSWORD).expect("a password")));
    }

    // Signaling.

    pub(crate) fn connecting(&mut self, who: usize, attempt: u64, since: Duration) {
        let client = &self.clients[who];
        if client.attempt != attempt || client.gone {
            return;
        }
        let failure = if self.now - since > SYSTEM_PATIENCE {
            "no answer"
        } else if !client.is_well() || (!self.relay.up && !self.relay_answers) {
            return self.after(Duration::from_millis(1000), Event::Connecting { who, attempt, since });
        } else if !self.relay.up {
            "nothing listens there"
        } else {
            let stream = self.open_stream(who, Purpose::Signaling(attempt));
            self.clients[who].stream = Some(stream);
            let address = self.lines[self.clients[who].line].nat.public.into();
            let input = RoomInput::Connected { connection: ConnectionId(stream), address, host: None };
            self.relay.input(input, self.now);
            self.drain_relay();
            return self.tell(who, Input::Connected);
        };
        let error = Some(ConnectFailure::Unreachable(failure.to_owned()));
        self.tell(who, Input::Disconnected { close_code: None, error });
    }

    pub(crate) fn client_hears(&mut self, who: usize, attempt: u64, text: &str) {
        if self.clients[who].attempt != attempt || self.clients[who].gone {
            return;
        }
        match Received::decode(text) {
            Ok(received) => {
                if let ServerMessage::Error { code, .. } = &received.message {
                    self.note(format_args!("{who} is refused {code:?}"));
                    if *code == snug_wire::ErrorCode::RateLimited {
                        self.fail(format!("participant {who} says too much for the relay"));
                    }
                }
                self.tell(who, Input::Received(received));
            }
            Err(_) => self.tell(who, Input::Unreadable { seq: Received::sequence_of(text) }),
        }
    }

    pub(crate) fn client_loses(&mut self, who: usize, attempt: u64, close_code: Option<u16>) {
        if self.clients[who].attempt == attempt && !self.clients[who].gone {
            self.clients[who].stream = None;
            self.tell(who, Input::Disconnected { close_code, error: None });
        }
    }

    // Links.

    fn queue_job(&mut self, who: usize, id: LinkId, job: Output) {
        let now = self.now;
        let Some(link) = self.clients[who].links.get_mut(&id) else { return };
        link.jobs.push_back(job);
        if link.jobs.len() == 1 {
            let at = link.free_at.max(now);
            self.at(at, Event::Job(who, id));
        }
    }

    pub(crate) fn run_job(&mut self, who: usize, id: LinkId) {
        if self.clients[who].gone {
            return;
        }
        if !self.clients[who].awake {
            return self.after(Duration::from_secs(1), Event::Job(who, id));
        }
        let now = self.now;
        let Some(job) = self.clients[who].links.get_mut(&id).and_then(|link| link.jobs.pop_front()) else {
            return;
        };
        let mut effects = Vec::new();
        let mut answer = None;
        let mut wrong = None;
        match job {
            Output::CreateOffer { job, ice_restart, rollback, .. } => {
                self.counts.offers += 1;
                self.note(format_args!(
                    "{who} offers on {id}{}",
                    if ice_restart { ", restarting" } else { "" }
                ));
                let user = self.clients[who].links.get(&id).map(|link| link.user);
                if let Some(user) = user {
                    self.clients[who].offers.entry(user).or_default().push_back(now);
                }
                let place = self.place(who, id);
                if let Some(link) = self.clients[who].links.get_mut(&id) {
                    answer = Some((job, link.agent.offer(ice_restart, rollback, place, now, &mut effects)));
                }
            }
            Output::AcceptOffer { job, sdp, rollback, .. } => {
                self.note(format_args!("{who} answers on {id}"));
                let place = self.place(who, id);
                if let Some(link) = self.clients[who].links.get_mut(&id) {
                    answer = Some((job, link.agent.answer(&sdp, rollback, place, now, &mut effects)));
                }
            }
            Output::AcceptAnswer { sdp, .. } => {
                if let Some(link) = self.clients[who].links.get_mut(&id) {
                    wrong = link.agent.accept(&sdp, now).err();
                }
            }
            Output::AddCandidate { candidate, .. } => {
                if let Some(link) = self.clients[who].links.get_mut(&id) {
                    link.agent.add_candidate(&candidate.candidate, now);
                }
            }
            Output::SendChannel { text, .. } => {
                if let Some(link) = self.clients[who].links.get_mut(&id) {
                    link.agent.send_channel(text, now, &mut effects);
                }
            }
            _ => {}
        }
        if let Some(link) = self.clients[who].links.get_mut(&id) {
            let takes = if answer.is_some() {
                self.dice.between(DESCRIBING[0], DESCRIBING[1])
            } else {
                Duration::ZERO
            };
            link.free_at = now + takes;
            let (at, more) = (link.free_at, !link.jobs.is_empty());
            if let Some((job, result)) = answer {
                wrong = result.as_ref().err().copied();
                self.at(at, Event::Described { who, link: id, job, sdp: result.ok() });
            }
            if more {
                self.at(at, Event::Job(who, id));
            }
        }
        if let Some(wrong) = wrong {
            self.fail(format!("participant {who} asked its connection for what cannot be: {wrong}"));
        }
        self.apply(who, id, effects);
        self.wake_agent(who, id);
    }

    pub(crate) fn described(&mut self, who: usize, link: LinkId, job: JobId, sdp: Option<String>) {
        if self.clients[who].gone {
            return;
        }
        if !self.clients[who].awake {
            return self.after(Duration::from_secs(1), Event::Described { who, link, job, sdp });
        }
        match sdp {
            Some(sdp) => self.tell(who, Input::DescriptionReady { link, job, sdp }),
            None => self.tell(who, Input::DescriptionFailed { link, job }),
        }
    }

    fn place(&mut self, who: usize, id: LinkId) -> Place {
        let client = &mut self.clients[who];
        let ports = client.ports(id);
        client.seed += 1;
        let servers = client.links.get(&id).map(|link| link.servers.as_slice()).unwrap_or_default();
        let turn =
            servers.iter().find_map(|server| Some((server.username.clone()?, server.credential.clone()?)));
        Place { ip: client.ip, ports, serial: client.seed, turn, stun: !servers.is_empty() }
    }

    fn close_link(&mut self, who: usize, id: LinkId) {
        let mut effects = Vec::new();
        let Some(mut link) = self.clients[who].links.remove(&id) else { return };
        // What was sent before may leave first.
        for job in link.jobs {
            if let Output::SendChannel { text, .. } = job {
                link.agent.send_channel(text, self.now, &mut effects);
            }
        }
        link.agent.say_closed(&mut effects);
        self.apply(who, id, effects);
    }

    pub(crate) fn wake_agent(&mut self, who: usize, id: LinkId) {
        let now = self.now;
        if self.clients[who].gone || !self.clients[who].awake || !self.clients[who].links.contains_key(&id) {
            return;
        }
        let needs_stream = self.clients[who].links.get(&id).is_some_and(|link| link.agent.needs_stream(now));
        let place = needs_stream.then(|| self.place_for_stream(who, id));
        let mut effects = Vec::new();
        if let Some(link) = self.clients[who].links.get_mut(&id) {
            link.agent.wake(place, now, &mut effects);
        }
        self.apply(who, id, effects);
        if let Some(link) = self.clients[who].links.get_mut(&id)
            && let Some(at) = link.agent.timeout(now)
            && link.scheduled.is_none_or(|scheduled| at < scheduled || scheduled <= now)
        {
            let at = at.max(now + Duration::from_millis(1));
            link.scheduled = Some(at);
            self.at(at, Event::Agent(who, id));
        }
    }

    /// As [`World::place`], with the port that a stream would have: it takes none until there is one.
    fn place_for_stream(&mut self, who: usize, id: LinkId) -> Place {
        let client = &mut self.clients[who];
        let servers = client.links.get(&id).map(|link| link.servers.as_slice()).unwrap_or_default();
        let turn =
            servers.iter().find_map(|server| Some((server.username.clone()?, server.credential.clone()?)));
        let port = client.next_port;
        client.seed += 1;
        Place { ip: client.ip, ports: [port, port + 1], serial: client.seed, turn, stun: false }
    }

    fn apply(&mut self, who: usize, id: LinkId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Datagram { ip, port, to, packet } => {
                    self.send_datagram(who, SocketAddrV4::new(ip, port), to, Body::Packet(packet));
                }
                Effect::ToRelay { ip, port, transport: Transport::Udp, bytes } => {
                    self.send_datagram(who, SocketAddrV4::new(ip, port), relay::ADDRESS, Body::Bytes(bytes));
                }
                Effect::ToRelay { port, bytes, .. } => self.send_turn_stream(who, id, port, bytes),
                Effect::Candidate(candidate) => {
                    let (sdp_mid, sdp_mline_index) = (Some("0".to_owned()), Some(0));
                    self.tell(who, Input::CandidateFound { link: id, candidate, sdp_mid, sdp_mline_index });
                }
                Effect::State(state) => {
                    self.note(format_args!("{who} sees {id} {state:?}"));
                    if state == IceState::Failed {
                        self.counts.failed += 1;
                    }
                    self.tell(who, Input::LinkStateChanged { link: id, state });
                }
                Effect::ChannelOpened => self.tell(who, Input::ChannelOpened { link: id }),
                Effect::ChannelClosed => self.tell(who, Input::ChannelClosed { link: id }),
                Effect::ChannelMessage(text) => self.tell(who, Input::ChannelMessage { link: id, text }),
                Effect::MediaSeen => {
                    let now = self.now;
                    let Some(link) = self.clients[who].links.get_mut(&id) else { continue };
                    let due = link.seen_at.is_none_or(|at| now - at >= Duration::from_millis(250));
                    if due {
                        link.seen_at = Some(now);
                        self.tell(who, Input::MediaSeen { link: id });
                    }
                }
            }
        }
    }

    fn send_turn_stream(&mut self, who: usize, id: LinkId, port: u16, bytes: Vec<u8>) {
        if !self.clients[who].is_well() {
            return;
        }
        let open = self.streams_of(who).into_iter().find(|stream| {
            self.streams.get(stream).is_some_and(|stream| stream.purpose == Purpose::Turn(port))
        });
        let stream = match open {
            Some(stream) => stream,
            None if !self.relay.up => return,
            None => {
                let client = &mut self.clients[who];
                client.ports.insert(port, id);
                client.next_port = client.next_port.max(port.saturating_add(2));
                self.open_stream(who, Purpose::Turn(port))
            }
        };
        self.stream_up(stream, Item::Bytes(bytes));
    }

    pub(crate) fn agent_receives(&mut self, who: usize, port: u16, from: SocketAddrV4, packet: Packet) {
        let now = self.now;
        let Some(id) = self.clients[who].ports.get(&port).copied() else { return };
        let mut effects = Vec::new();
        if let Some(link) = self.clients[who].links.get_mut(&id) {
            link.agent.receive(port, from, packet, now, &mut effects);
        }
        self.apply(who, id, effects);
        self.wake_agent(who, id);
    }

    pub(crate) fn agent_hears_relay(&mut self, who: usize, port: u16, bytes: &[u8]) {
        let now = self.now;
        let Some(id) = self.clients[who].ports.get(&port).copied() else { return };
        let mut effects = Vec::new();
        if let Some(link) = self.clients[who].links.get_mut(&id) {
            link.agent.receive_from_relay(port, bytes, now, &mut effects);
        }
        self.apply(who, id, effects);
        self.wake_agent(who, id);
    }
}
