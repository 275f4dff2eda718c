//! Transcripts of calls wired to each other through a small relay of this file.
//! The peer connections are played too: a link works as soon as both ends took each other's descriptions.

#![expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use snug_call_proto::{
    Call, CallConfig, CallEvent, EndCode, IceState, Input, JobId, KeptIdentity, LinkId, LinkState, NoSeat,
    NoSeatReason, Now, Output, OwnerRequest, ParticipantSnapshot, RequestKind, Safety, SignalingState,
};
use snug_wire::link::RoomSecret;
use snug_wire::message::{Forwarded, Received, RoomJoined};
use snug_wire::seal::SealError;
use snug_wire::{
    Admission, ClientMessage, ErrorCode, JoinNonce, LeaveReason, Media, Participant, Password, Payload,
    Request, RoomInfo, ServerFrame, ServerMessage, SigningIdentity, Token, UserId,
};

/// A peer connection of the shell: what it was told to be.
struct Peer {
    link: LinkId,
    /// Ours and theirs; connected once they name each other.
    local: Option<String>,
    remote: Option<String>,
    connected: bool,
    /// The other end, once met: it stays while descriptions change.
    wired: Option<(usize, LinkId)>,
}

struct Client {
    call: Call,
    user: Option<UserId>,
    /// Its process was killed.
    dead: bool,
    /// What its shell keeps.
    kept: Option<KeptIdentity>,
    connected: bool,
    seq: u64,
    peers: Vec<Peer>,
    events: Vec<CallEvent>,
    asked: VecDeque<(LinkId, JobId, String)>,
    /// Descriptions stay with the shell while set.
    hold_jobs: bool,
    restarts: usize,
    opened: usize,
    refusals: BTreeMap<usize, ServerMessage>,
    joins: usize,
    frames: Vec<ClientMessage>,
    join: Option<Participant>,
}

struct World {
    now: Now,
    clients: Vec<Client>,
    relay_up: bool,
    /// Swaps what a plain or sealed offer says on the way.
    forge: bool,
    password: Option<&'static str>,
    serial: u64,
    /// Seats that can be resumed.
    remember: bool,
    secret: bool,
    /// Nonces of safety words are exchanged for others on the data channels.
    spoil_nonces: bool,
    /// New links reach nobody over the data channels.
    lose_links: bool,
}

impl World {
    fn new(count: usize, secret: bool) -> Self {
        let now = Now { at: Instant::now(), unix_ms: 1_764_000_000_000 };
        let clients = (0..count).map(|index| Client {
            call: call(index, secret, [index as u8 + 1; 32], None, now),
            user: None,
            dead: false,
            kept: None,
            connected: false,
            seq: 0,
            peers: Vec::new(),
            events: Vec::new(),
            asked: VecDeque::new(),
            hold_jobs: false,
            restarts: 0,
            opened: 0,
            refusals: BTreeMap::new(),
            joins: 0,
            frames: Vec::new(),
            join: None,
        });
        Self {
            now,
            clients: clients.collect(),
            relay_up: true,
            forge: false,
            password: None,
            serial: 0,
            remember: true,
            secret,
            spoil_nonces: false,
            lose_links: false,
        }
    }

    /// A process is killed: its connections are gone, and what its shell keeps stays.
    fn kill(&mut self, who: usize) {
        self.clients[who].dead = true;
        self.clients[who].connected = false;
        self.clients[who].peers.clear();
        for client in &mut self.clients {
            for peer in
                client.peers.iter_mut().filter(|peer| peer.wired.is_some_and(|(other, _)| other == who))
            {
                peer.connected = false;
                peer.remote = None;
            }
        }
        let user_id = self.clients[who].user.unwrap();
        for other in self.others(who) {
            self.number(other, &ServerMessage::UserAway { user_id });
        }
        self.settle();
    }

    /// The program is started again, with what was kept.
    fn start_again(&mut self, who: usize, kept: Option<KeptIdentity>) {
        self.serial += 1;
        let seed = [100 + self.serial as u8; 32];
        let client = &mut self.clients[who];
        client.dead = false;
        client.call = call(who, self.secret, seed, kept, self.now);
        client.events.clear();
        self.settle();
    }

    fn sees(&self, who: usize, other: usize) -> Option<ParticipantSnapshot> {
        let user = self.clients[other].user.unwrap();
        self.clients[who].call.snapshot().participants.into_iter().find(|one| one.user == user)
    }

    fn input(&mut self, who: usize, input: Input) {
        self.clients[who].call.handle_input(input, self.now);
        self.settle();
    }

    /// Carries everything out that is asked for, until nothing is.
    fn settle(&mut self) {
        loop {
            let mut idle = true;
            for who in self.living() {
                while let Some(output) = self.clients[who].call.poll_output() {
                    idle = false;
                    self.carry_out(who, output);
                }
                if !self.clients[who].hold_jobs
                    && let Some((link, job, sdp)) = self.clients[who].asked.pop_front()
                {
                    idle = false;
                    self.give(who, Input::DescriptionReady { link, job, sdp });
                    let sdp_mid = Some("0".to_owned());
                    let candidate = format!("candidate:{who} {job:?}");
                    self.give(
                        who,
                        Input::CandidateFound { link, candidate, sdp_mid, sdp_mline_index: Some(0) },
                    );
                }
            }
            self.join_peers();
            if idle {
                return;
            }
        }
    }

    fn living(&self) -> Vec<usize> {
        (0..self.clients.len()).filter(|who| !self.clients[*who].dead).collect()
    }

    fn give(&mut self, who: usize, input: Input) {
        self.clients[who].call.handle_input(input, self.now);
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now.at + duration;
        while self.now.at < end {
            let living = self.clients.iter().filter(|client| !client.dead);
            let due = living.filter_map(|client| client.call.poll_timeout()).min();
            let next = due.map_or(end, |due| due.max(self.now.at + Duration::from_millis(1)).min(end));
            self.now.unix_ms += (next - self.now.at).as_millis() as u64;
            self.now.at = next;
            for who in self.living() {
                let links: Vec<_> = self.clients[who]
                    .peers
                    .iter()
                    .filter(|peer| peer.connected)
                    .map(|peer| peer.link)
                    .collect();
                for link in links {
                    self.give(who, Input::MediaSeen { link });
                }
                if self.clients[who].call.poll_timeout().is_some_and(|due| due <= next) {
                    self.clients[who].call.handle_timeout(self.now);
                }
            }
            self.settle();
        }
    }

    fn carry_out(&mut self, who: usize, output: Output) {
        let client = &mut self.clients[who];
        match output {
            Output::Connect if self.relay_up => {
                client.connected = true;
                self.give(who, Input::Connected);
            }
            Output::Connect => self.give(who, Input::Disconnected { close_code: None, error: None }),
            Output::CloseConnection { .. } => client.connected = false,
            Output::Send(frame) => {
                let request = Request::decode(&frame).expect("the call sends what the relay takes");
                if client.connected {
                    self.relay(who, request);
                }
            }
            Output::OpenLink { link, .. } => {
                client.opened += 1;
                client.peers.push(Peer { link, local: None, remote: None, connected: false, wired: None });
            }
            Output::CloseLink { link } => client.peers.retain(|peer| peer.link != link),
            Output::CreateOffer { link, job, ice_restart, .. } => {
                client.restarts += usize::from(ice_restart);
                let sdp = self.describe(who, link);
                self.clients[who].asked.push_back((link, job, sdp));
            }
            Output::AcceptOffer { link, job, sdp, .. } => {
                let own = self.describe(who, link);
                self.peer(who, link).remote = Some(sdp);
                self.clients[who].asked.push_back((link, job, own));
            }
            Output::AcceptAnswer { link, sdp, .. } => self.peer(who, link).remote = Some(sdp),
            Output::AddCandidate { link, .. } => {
                assert!(self.peer(who, link).remote.is_some(), "candidates come after the description");
            }
            Output::SendChannel { link, text } => {
                let other = self.peer(who, link).wired;
                let text = match &*text {
                    _ if self.lose_links && text.contains("new_link") => return,
                    _ if self.spoil_nonces && text.contains("safety") => {
                        r#"{"type":"safety","nonce":"AAAAAAAAAAAAAAAAAAAAAA"}"#.to_owned()
                    }
                    _ => text,
                };
                if let Some((index, link)) = other {
                    self.give(index, Input::ChannelMessage { link, text });
                }
            }
            Output::SetIceServers { .. } | Output::Tile { .. } => {}
            Output::Event(CallEvent::KeepIdentity(kept)) => client.kept = Some(kept),
            Output::Event(CallEvent::ForgetIdentity) => client.kept = None,
            Output::Event(event) => client.events.push(event),
        }
    }

    fn peer(&mut self, who: usize, link: LinkId) -> &mut Peer {
        self.clients[who].peers.iter_mut().find(|peer| peer.link == link).expect("the link is open")
    }

    fn describe(&mut self, who: usize, link: LinkId) -> String {
        self.serial += 1;
        let certificate = vec![format!("{who:02X}"); 32].join(":");
        let sdp = format!("v=0 {who} {}\r\na=fingerprint:sha-256 {certificate}\r\n", self.serial);
        self.peer(who, link).local = Some(sdp.clone());
        sdp
    }

    fn join_peers(&mut self) {
        let ends = self.clients.iter().enumerate().flat_map(|(who, client)| {
            client
                .peers
                .iter()
                .map(move |peer| (who, peer.link, peer.local.clone(), peer.remote.clone(), peer.connected))
        });
        let ends: Vec<_> = ends.collect();
        for (who, link, local, remote, connected) in &ends {
            let met = ends.iter().find(|(_, _, their_local, their_remote, _)| {
                local.is_some() && local == their_remote && remote == their_local
            });
            if let Some((other, their_link, ..)) = met
                && !connected
            {
                self.peer(*who, *link).wired = Some((*other, *their_link));
                self.peer(*who, *link).connected = true;
                self.give(*who, Input::LinkStateChanged { link: *link, state: IceState::Connected });
                self.give(*who, Input::ChannelOpened { link: *link });
            }
        }
    }

    /// Breaks the path between everybody.
    fn cut(&mut self) {
        for who in 0..self.clients.len() {
            let links: Vec<_> = self.clients[who]
                .peers
                .iter_mut()
                .map(|peer| {
                    peer.connected = false;
                    peer.remote = None;
                    peer.link
                })
                .collect();
            for link in links {
                self.give(who, Input::LinkStateChanged { link, state: IceState::Disconnected });
            }
        }
        self.settle();
    }

    fn drop_relay(&mut self) {
        self.relay_up = false;
        for who in 0..self.clients.len() {
            self.clients[who].connected = false;
            self.give(who, Input::Disconnected { close_code: None, error: None });
        }
        self.settle();
    }

    // The relay.

    fn relay(&mut self, who: usize, request: Request) {
        self.clients[who].frames.push(request.message.clone());
        match request.message {
            ClientMessage::Hello { .. } => {
                self.tell(
                    who,
                    &ServerMessage::Welcome {
                        versions: vec![2],
                        capabilities: ["new_link", "names", "recording"].map(str::to_owned).to_vec(),
                        relay: "test".into(),
                        heartbeat_seconds: 15,
                        nonce: NONCE,
                    },
                );
            }
            ClientMessage::Ping { .. } => self.tell(who, &ServerMessage::Pong {}),
            ClientMessage::JoinRoom(join) => {
                assert!(join.public_key.proves(&join.key_proof, &NONCE, &join.room_id));
                self.clients[who].joins += 1;
                let joins = self.clients[who].joins;
                if let Some(refusal) = self.clients[who].refusals.remove(&joins) {
                    return self.tell(who, &refusal);
                }
                if let Some(password) = self.password {
                    match join.password.as_ref().map(Password::expose) {
                        Some(given) if given == password => {}
                        Some(_) => return self.tell(who, &ServerMessage::error(ErrorCode::AuthFailed, None)),
                        None => {
                            let hint = (joins > 2).then(|| "the dog".to_owned());
                            return self.tell(who, &ServerMessage::AuthRequired { hint });
                        }
                    }
                }
                let user_id = join.public_key.user_id();
                let former_id = self.clients[who].user.filter(|old| *old != user_id && join.ticket.is_some());
                let participant = Participant {
                    user_id,
                    public_key: Some(join.public_key),
                    former_id,
                    capabilities: vec!["new_link".into()],
                    display_name: join.display_name,
                    media: join.media,
                    away: false,
                    owner: who == 0,
                };
                self.clients[who].user = Some(user_id);
                self.clients[who].join = Some(participant.clone());
                let others = self.others(who);
                let joined = RoomJoined {
                    room_id: join.room_id,
                    user_id,
                    resume_token: Token::from_bytes([9; 32]),
                    ticket: format!("ticket of {user_id}"),
                    participants: others
                        .iter()
                        .map(|other| self.clients[*other].join.clone().unwrap())
                        .collect(),
                    room_info: info(),
                    is_owner: who == 0,
                    owner_token: None,
                    ice_servers: Vec::new(),
                    ice_ttl_seconds: 600,
                    seat_hold_seconds: 30,
                };
                self.clients[who].seq = 0;
                self.number(who, &ServerMessage::RoomJoined(Box::new(joined)));
                for other in others {
                    if let Some(user_id) = former_id {
                        self.number(
                            other,
                            &ServerMessage::UserLeft { user_id, reason: LeaveReason::Replaced },
                        );
                    }
                    self.number(other, &ServerMessage::UserJoined { participant: participant.clone() });
                }
            }
            ClientMessage::Resume { .. } if self.remember => {
                let resume_token = Token::from_bytes([9; 32]);
                self.tell(who, &ServerMessage::Resumed { resume_token, replayed: 0 });
            }
            ClientMessage::Resume { .. } => {
                self.tell(who, &ServerMessage::error(ErrorCode::ResumeFailed, None));
            }
            ClientMessage::Offer(forward) => {
                let payload = if self.forge { flip(forward.payload) } else { forward.payload };
                self.forward(who, forward.target_id, payload, ServerMessage::OfferReceived);
            }
            ClientMessage::Answer(forward) => {
                self.forward(who, forward.target_id, forward.payload, ServerMessage::AnswerReceived);
            }
            ClientMessage::IceCandidate(forward) => {
                self.forward(who, forward.target_id, forward.payload, ServerMessage::IceCandidateReceived);
            }
            ClientMessage::SetName { display_name } => {
                let user_id = self.clients[who].user.unwrap();
                for other in self.others(who) {
                    self.number(
                        other,
                        &ServerMessage::PeerName { user_id, display_name: display_name.clone() },
                    );
                }
            }
            ClientMessage::NewLink { .. } => {
                self.tell(who, &ServerMessage::Done { request_id: request.request_id });
                for other in self.others(who) {
                    self.number(other, &ServerMessage::LinkChanged {});
                }
            }
            ClientMessage::ToggleRecording { enabled } => {
                let user_id = self.clients[who].user.unwrap();
                let media = Media { recording: enabled, ..Media::default() };
                for other in self.others(who) {
                    self.number(other, &ServerMessage::PeerState { user_id, media });
                }
            }
            ClientMessage::LeaveRoom {} => {
                self.clients[who].join = None;
                let user_id = self.clients[who].user.unwrap();
                for other in self.others(who) {
                    self.number(other, &ServerMessage::UserLeft { user_id, reason: LeaveReason::Left });
                }
            }
            _ => {}
        }
    }

    /// Seated ones that are connected.
    fn others(&self, who: usize) -> Vec<usize> {
        let seated = |index: &usize| self.clients[*index].join.is_some() && self.clients[*index].connected;
        (0..self.clients.len()).filter(|index| *index != who).filter(seated).collect()
    }

    fn forward(
        &mut self,
        who: usize,
        to: UserId,
        payload: Payload,
        make: impl FnOnce(Forwarded) -> ServerMessage,
    ) {
        let from_id = self.clients[who].user.unwrap();
        if let Some(to) = self.clients.iter().position(|client| client.user == Some(to)) {
            self.number(to, &make(Forwarded { from_id, payload }));
        }
    }

    fn number(&mut self, who: usize, message: &ServerMessage) {
        self.clients[who].seq += 1;
        let frame = ServerFrame::new(message).with_seq(self.clients[who].seq).encode();
        self.give(who, Input::Received(Received::decode(&frame).unwrap()));
    }

    fn tell(&mut self, who: usize, message: &ServerMessage) {
        let frame = ServerFrame::new(message).encode();
        self.give(who, Input::Received(Received::decode(&frame).unwrap()));
    }

    fn all_connected(&self) -> bool {
        let others = self.clients.len() - 1;
        self.clients.iter().all(|client| {
            let snapshot = client.call.snapshot();
            snapshot.participants.len() == others
                && snapshot.participants.iter().all(|other| other.link == LinkState::Connected)
        })
    }
}

fn info() -> RoomInfo {
    RoomInfo {
        max_participants: 10,
        allow_screen_share: true,
        password_enabled: false,
        locked: false,
        sealed: true,
        lobby: false,
        admission: Admission::Owner,
        removed: 0,
    }
}

const NONCE: JoinNonce = JoinNonce::from_bytes([6; 32]);

/// A call of one of them; `secret` says whether their link has one.
fn call(index: usize, secret: bool, seed: [u8; 32], kept: Option<KeptIdentity>, now: Now) -> Call {
    let config = CallConfig {
        room: "sunny-mountain-42".parse().unwrap(),
        secret: secret.then(|| RoomSecret::from_bytes([7; 16])),
        owner_token: None,
        name: format!("Guest {index}"),
        password: None,
        media: Media::default(),
        agent: "test/1".into(),
        kept,
    };
    Call::new(config, seed, now)
}

fn flip(payload: Payload) -> Payload {
    match payload {
        Payload::Sealed(text) => {
            Payload::Sealed(if text.ends_with('A') { text.replace('A', "B") } else { text + "AAAA" })
        }
        plain @ Payload::Plain { .. } => plain,
    }
}

fn joined(count: usize, secret: bool) -> World {
    let mut world = World::new(count, secret);
    world.settle();
    world
}

#[test]
fn five_participants_meet_with_one_connection_for_each_pair() {
    let world = joined(5, true);
    assert!(world.all_connected());
    assert!(world.clients.iter().all(|client| client.opened == 4 && client.restarts == 0));
    assert_eq!(world.clients[0].call.snapshot().participants[2].name, "Guest 3");
}

#[test]
fn chat_reaches_everybody_once_and_sealed() {
    let mut world = joined(3, true);
    world.input(0, Input::SendChat("Hello\r\nall \u{202e}of you".into()));
    for client in &world.clients {
        let chat = client.call.snapshot().chat;
        assert_eq!(chat.len(), 1);
        assert_eq!(chat[0].text, "Hello\nall of you");
    }
}

#[test]
fn an_offer_changed_on_the_way_closes_the_link_for_good() {
    let mut world = World::new(2, true);
    world.forge = true;
    world.settle();
    world.pass(Duration::from_secs(40));
    let refused = |event: &CallEvent| matches!(event, CallEvent::ParticipantRefused { .. });
    assert_eq!(world.clients[0].events.iter().filter(|event| refused(event)).count(), 1);
    assert!(world.clients[0].peers.is_empty(), "no connection carries anything");
}

#[test]
fn losing_the_relay_leaves_media_alone_and_the_seat_is_resumed() {
    let mut world = joined(3, true);
    world.drop_relay();
    world.pass(Duration::from_secs(20));
    assert!(world.all_connected());
    assert_eq!(world.clients[0].call.snapshot().signaling, SignalingState::Reconnecting);
    world.relay_up = true;
    world.pass(Duration::from_secs(6));
    assert!(world.clients.iter().all(|client| client.call.snapshot().signaling == SignalingState::Online));
    assert!(
        world.clients.iter().all(|client| client.opened == 2 && client.restarts == 0),
        "live links are left alone"
    );
}

#[test]
fn a_relay_that_forgot_everybody_gets_them_back_under_the_same_ids() {
    let mut world = joined(3, true);
    let before: Vec<_> = world.clients.iter().map(|client| client.user).collect();
    world.remember = false;
    world.drop_relay();
    world.relay_up = true;
    world.pass(Duration::from_secs(6));
    let after: Vec<_> = world.clients.iter().map(|client| client.user).collect();
    assert_eq!(before, after);
    assert!(world.all_connected());
    assert!(world.clients.iter().all(|client| client.opened == 2));
}

#[test]
fn a_dead_path_is_restarted_by_the_newer_one_after_two_seconds() {
    let mut world = joined(2, true);
    world.cut();
    world.pass(Duration::from_millis(1500));
    assert!(!world.all_connected());
    assert_eq!(world.clients[1].restarts, 0);
    world.pass(Duration::from_millis(1000));
    assert!(world.all_connected());
    assert_eq!((world.clients[0].restarts, world.clients[1].restarts), (0, 1));
}

#[test]
fn a_changed_address_restarts_at_once() {
    let mut world = joined(2, true);
    world.pass(Duration::from_secs(2));
    world.cut();
    world.input(0, Input::NetworkChanged);
    assert!(world.all_connected());
    assert_eq!(world.clients[0].restarts, 1);
}

#[test]
fn of_two_restarts_that_cross_the_lower_id_gives_way() {
    let mut world = joined(2, true);
    world.pass(Duration::from_secs(2));
    for client in &mut world.clients {
        client.hold_jobs = true;
    }
    world.cut();
    world.input(0, Input::NetworkChanged);
    world.input(1, Input::NetworkChanged);
    for client in &mut world.clients {
        client.hold_jobs = false;
    }
    world.settle();
    assert!(world.all_connected());
    assert!(world.clients.iter().all(|client| client.opened == 1), "the session stays");
}

#[test]
fn without_the_relay_a_changed_address_is_told_over_the_data_channel() {
    let mut world = joined(2, true);
    world.pass(Duration::from_secs(2));
    world.drop_relay();
    world.input(0, Input::NetworkChanged);
    assert_eq!(world.clients[0].restarts, 1);
    assert!(world.all_connected());
    let (ours, theirs) = (&world.clients[0].peers[0], &world.clients[1].peers[0]);
    assert!(ours.local == theirs.remote && ours.remote == theirs.local, "the restart was agreed on");
}

#[test]
fn a_participant_that_leaves_is_gone_at_once() {
    let mut world = joined(3, true);
    world.input(1, Input::Leave);
    assert!(matches!(world.clients[1].events.last(), Some(CallEvent::Ended { code: EndCode::Left, .. })));
    assert_eq!(world.clients[0].call.snapshot().participants.len(), 1);
    assert_eq!(world.clients[1].call.poll_timeout(), None);
}

#[test]
fn a_dead_peer_is_interrupted_at_once_and_removed_after_thirty_seconds() {
    let mut world = joined(3, true);
    let dead = world.clients[2].user.unwrap();
    world.clients.pop();
    for who in 0..2 {
        let link = world.clients[who].peers.last().unwrap().link;
        world.peer(who, link).connected = false;
        world.input(who, Input::LinkStateChanged { link, state: IceState::Disconnected });
        world.number(who, &ServerMessage::UserAway { user_id: dead });
    }
    let seen = |world: &World, who: usize| {
        let participants = world.clients[who].call.snapshot().participants;
        participants.into_iter().find(|other| other.user == dead).map(|other| other.link)
    };
    assert!((0..2).all(|who| matches!(seen(&world, who), Some(LinkState::Interrupted { .. }))));
    world.pass(Duration::from_secs(28));
    assert!((0..2).all(|who| matches!(seen(&world, who), Some(LinkState::Interrupted { .. }))));
    world.pass(Duration::from_millis(1500));
    assert!((0..2).all(|who| seen(&world, who).is_none()));
    assert!(world.all_connected());
}

#[test]
fn a_password_is_asked_for_and_a_wrong_one_brings_the_hint() {
    let mut world = World::new(1, true);
    world.password = Some("rex");
    world.settle();
    assert!(matches!(world.clients[0].events[..], [CallEvent::PasswordNeeded { hint: None, wrong: false }]));
    world.input(0, Input::SupplyPassword(Password::new("max").expect("a password")));
    let Some(CallEvent::PasswordNeeded { hint, wrong: true }) = world.clients[0].events.last() else {
        panic!()
    };
    assert_eq!(hint.as_deref(), Some("the dog"));
    world.input(0, Input::SupplyPassword(Password::new("rex").expect("a password")));
    assert_eq!(world.clients[0].call.snapshot().signaling, SignalingState::Online);
}

#[test]
fn a_full_room_ends_the_first_join_with_one_sentence() {
    let mut world = World::new(1, true);
    world.clients[0]
        .refusals
        .insert(1, ServerMessage::RoomFull { max_participants: 10, retry_after_ms: None });
    world.settle();
    assert!(matches!(world.clients[0].events[..], [CallEvent::Ended { code: EndCode::RoomFull, .. }]));
}

#[test]
fn a_full_room_whose_place_may_become_free_is_asked_again_until_it_is() {
    let mut world = World::new(1, true);
    for (attempt, left) in [(1, 23_000), (2, 18_000), (3, 900)] {
        let full = ServerMessage::RoomFull { max_participants: 2, retry_after_ms: Some(left) };
        world.clients[0].refusals.insert(attempt, full);
    }
    world.settle();
    let [CallEvent::NoSeat(NoSeat { reason: NoSeatReason::RoomFull, message, waits: true })] =
        &world.clients[0].events[..]
    else {
        panic!("it waits")
    };
    assert!(message.contains("24 s") && message.contains("by ourselves"), "{message}");
    world.pass(Duration::from_millis(4_900));
    assert_eq!(world.clients[0].events.len(), 1);
    world.pass(Duration::from_millis(5_200));
    assert_eq!(world.clients[0].events.len(), 3, "every five seconds, for somebody else may leave");
    world.pass(Duration::from_millis(1_000));
    assert_eq!(world.clients[0].call.snapshot().signaling, SignalingState::Online);
}

/// How often somebody was told of a coming, a return and a leaving.
fn comings(world: &World, who: usize) -> (usize, usize, usize) {
    let count =
        |fits: fn(&CallEvent) -> bool| world.clients[who].events.iter().filter(|event| fits(event)).count();
    (
        count(|event| matches!(event, CallEvent::ParticipantJoined { .. })),
        count(|event| matches!(event, CallEvent::ParticipantReturned(_))),
        count(|event| matches!(event, CallEvent::ParticipantLeft { .. })),
    )
}

#[test]
fn who_crashed_and_kept_the_key_is_the_same_participant_and_connected_again_at_once() {
    for secret in [true, false] {
        let mut world = joined(3, secret);
        let user = world.clients[1].user;
        world.pass(Duration::from_secs(3));
        world.kill(1);
        world.pass(Duration::from_secs(2));
        let before = comings(&world, 0);
        let kept = world.clients[1].kept.clone();
        assert!(kept.is_some());
        world.start_again(1, kept);
        assert!(world.all_connected(), "secret: {secret}");
        assert_eq!(world.clients[1].user, user);
        assert_eq!(comings(&world, 0), (before.0, before.1 + 1, before.2), "one entry, and no second coming");
        let seen = world.sees(0, 1).unwrap();
        assert!(seen.verified && !seen.new_key && !seen.away);
        world.input(1, Input::SendChat("I am back".into()));
        assert_eq!(world.clients[0].call.snapshot().chat.last().unwrap().text, "I am back");
    }
}

#[test]
fn who_comes_back_with_the_ticket_and_another_key_is_marked() {
    let mut world = joined(3, true);
    let former = world.clients[1].user;
    world.kill(1);
    let ticket = world.clients[1].kept.clone().unwrap().ticket;
    let key = SigningIdentity::from_bytes(&[9; 32]).unwrap();
    world.start_again(1, Some(KeptIdentity { key, started_ms: 0, owner_token: None, ticket }));
    assert!(world.all_connected());
    assert_ne!(world.clients[1].user, former);
    for who in [0, 2] {
        let seen = world.sees(who, 1).unwrap();
        assert!(seen.new_key && seen.verified);
        let events = &world.clients[who].events;
        let left = |event: &CallEvent| matches!(event, CallEvent::ParticipantLeft { user, reason: LeaveReason::Replaced } if Some(*user) == former);
        let came = |event: &CallEvent| matches!(event, CallEvent::ParticipantJoined { former: of, .. } if *of == former);
        assert_eq!(
            (
                events.iter().filter(|event| left(event)).count(),
                events.iter().filter(|event| came(event)).count()
            ),
            (1, 1)
        );
    }
    assert!(!world.sees(0, 2).unwrap().new_key);
}

#[test]
fn a_payload_of_an_earlier_run_is_dropped_without_a_word() {
    let mut world = joined(2, true);
    let offer = |frame: &ClientMessage| match frame {
        ClientMessage::Offer(forward) => Some(forward.payload.clone()),
        _ => None,
    };
    let old = world.clients[1].frames.iter().find_map(offer).unwrap();
    world.kill(1);
    let kept = world.clients[1].kept.clone();
    world.start_again(1, kept);
    assert!(world.all_connected());
    let from_id = world.clients[1].user.unwrap();
    world.number(0, &ServerMessage::OfferReceived(Forwarded { from_id, payload: old.clone() }));
    world.settle();
    assert!(world.all_connected());
    // One of this run that comes twice is somebody's doing.
    let twice = world.clients[1].frames.iter().rev().find_map(offer).unwrap();
    world.number(0, &ServerMessage::OfferReceived(Forwarded { from_id, payload: twice }));
    world.settle();
    assert_eq!(world.sees(0, 1).unwrap().link, LinkState::Refused(SealError::Replayed));
}

#[test]
fn a_member_that_speaks_as_another_is_refused() {
    for (secret, problem) in [(false, SealError::NotSigned), (true, SealError::Tampered)] {
        let mut world = joined(3, secret);
        // What the third said to the first, told by the relay as if the second had.
        let said = world.clients[2].frames.iter().find_map(|frame| match frame {
            ClientMessage::Offer(forward) if Some(forward.target_id) == world.clients[0].user => {
                Some(forward.payload.clone())
            }
            _ => None,
        });
        let from_id = world.clients[1].user.unwrap();
        let forged = ServerMessage::OfferReceived(Forwarded { from_id, payload: said.unwrap() });
        world.number(0, &forged);
        world.settle();
        assert_eq!(world.sees(0, 1).unwrap().link, LinkState::Refused(problem));
        assert_eq!(world.sees(0, 2).unwrap().link, LinkState::Connected);
    }
}

#[test]
fn a_participant_whose_id_is_not_its_keys_or_who_has_none_in_a_sealed_room_is_refused() {
    for (secret, key, refused) in
        [(true, None, true), (true, Some([8; 32]), true), (false, Some([8; 32]), true), (false, None, false)]
    {
        let mut world = joined(1, secret);
        let key = key.map(|bytes| SigningIdentity::from_bytes(&bytes).unwrap().public_key().clone());
        let participant = Participant {
            user_id: UserId::from_bytes([1; 16]),
            public_key: key,
            former_id: None,
            capabilities: Vec::new(),
            display_name: Payload::Plain { text: r#"{"name":"Mallory"}"#.into(), proof: None },
            media: Media::default(),
            away: false,
            owner: false,
        };
        world.number(0, &ServerMessage::UserJoined { participant });
        world.settle();
        let seen = &world.clients[0].call.snapshot().participants[0];
        let expected = if refused { LinkState::Refused(SealError::NotSigned) } else { LinkState::Connecting };
        assert_eq!(seen.link, expected);
        assert!(refused || !seen.verified, "who has no key is shown as not verified");
    }
}

#[test]
fn who_is_kicked_does_not_come_back() {
    let mut world = joined(2, true);
    world.number(0, &ServerMessage::Kicked {});
    world.settle();
    assert!(matches!(world.clients[0].events.last(), Some(CallEvent::Ended { code: EndCode::Kicked, .. })));
    assert!(world.clients[0].peers.is_empty());
}

#[test]
fn a_draining_relay_is_left_in_its_own_time() {
    let mut world = joined(2, true);
    for who in 0..2 {
        world.tell(who, &ServerMessage::Drain { reconnect_after_ms: 2000 });
    }
    world.settle();
    world.drop_relay();
    world.relay_up = true;
    world.pass(Duration::from_millis(1900));
    assert_eq!(world.clients[0].call.snapshot().signaling, SignalingState::Reconnecting);
    world.pass(Duration::from_millis(200));
    assert_eq!(world.clients[0].call.snapshot().signaling, SignalingState::Online);
    assert!(world.all_connected());
}

#[test]
fn a_gap_in_the_numbers_makes_the_relay_repeat() {
    let mut world = joined(2, true);
    world.clients[0].seq += 3;
    world.number(0, &ServerMessage::RoomUpdated { room_info: info() });
    world.pass(Duration::from_secs(1));
    assert!(
        world.clients[0]
            .frames
            .iter()
            .any(|frame| matches!(frame, ClientMessage::Resume { last_seq: 1.., .. }))
    );
}

#[test]
fn a_relay_that_never_answers_ends_the_first_join_after_fifteen_seconds() {
    let mut world = World::new(1, true);
    world.relay_up = false;
    world.settle();
    world.pass(Duration::from_secs(16));
    assert!(matches!(world.clients[0].events[..], [CallEvent::Ended { code: EndCode::Unreachable, .. }]));
}

/// What somebody without a key says, in a room whose link has no secret.
fn unsigned(text: &str) -> Payload {
    Payload::Plain { text: text.to_owned(), proof: None }
}

/// A room with somebody else who has no key and says what the test says.
fn beside_somebody_without_a_key() -> (World, UserId) {
    let mut world = joined(1, false);
    // Higher than any key's, so that our side gives way when offers cross.
    let user_id = "zzzzzzzzzzzzzzzzzzzzzw".parse().unwrap();
    let participant = Participant {
        user_id,
        public_key: None,
        former_id: None,
        capabilities: Vec::new(),
        display_name: unsigned(r#"{"name":"Mallory"}"#),
        media: Media::default(),
        away: false,
        owner: false,
    };
    world.number(0, &ServerMessage::UserJoined { participant });
    world.settle();
    (world, user_id)
}

#[test]
fn who_keeps_making_sessions_is_followed_in_three_and_then_in_one_every_two_seconds() {
    let (mut world, from_id) = beside_somebody_without_a_key();
    let before = world.clients[0].opened;
    let mut drawn = 10..99;
    let mut flood = |world: &mut World| {
        for number in drawn.by_ref().take(10) {
            let session = format!("AAAAAAAA{number}A");
            let offer = serde_json::json!({"sdp": "v=0", "session": session, "restart": number % 2 == 1});
            let payload = unsigned(&offer.to_string());
            world.number(0, &ServerMessage::OfferReceived(Forwarded { from_id, payload }));
            world.settle();
        }
        world.clients[0].opened - before
    };
    assert_eq!(flood(&mut world), 3);
    world.pass(Duration::from_secs(2));
    assert_eq!(flood(&mut world), 4);
}

#[test]
fn of_one_description_no_more_candidates_are_taken_than_the_protocol_has() {
    let (mut world, from_id) = beside_somebody_without_a_key();
    let payload = unsigned(r#"{"sdp":"v=0","session":"AAAAAAAAAAA","restart":false}"#);
    world.number(0, &ServerMessage::OfferReceived(Forwarded { from_id, payload }));
    world.settle();
    for number in 0..100 {
        let candidate =
            serde_json::json!({"candidate": format!("candidate:{number}"), "session": "AAAAAAAAAAA"});
        let payload = unsigned(&candidate.to_string());
        world.number(0, &ServerMessage::IceCandidateReceived(Forwarded { from_id, payload }));
    }
    let mut taken = 0;
    while let Some(output) = world.clients[0].call.poll_output() {
        taken += usize::from(matches!(output, Output::AddCandidate { .. }));
    }
    assert_eq!(taken, 64);
}

/// The words that one sees for another.
fn words(world: &World, who: usize, other: usize) -> Safety {
    world.sees(who, other).unwrap().safety
}

#[test]
fn both_ends_of_a_link_see_the_same_safety_words_and_other_links_have_others() {
    for secret in [true, false] {
        let mut world = joined(3, secret);
        let pairs = [(0, 1), (0, 2), (1, 2)];
        let seen = pairs.map(|(one, other)| {
            assert_eq!(words(&world, one, other), words(&world, other, one), "secret: {secret}");
            words(&world, one, other)
        });
        assert!(seen.iter().all(|words| matches!(words, Safety::Words(_))), "{seen:?}");
        assert!(seen[0] != seen[1] && seen[1] != seen[2]);
        let told = |event: &CallEvent| matches!(event, CallEvent::Safety { safety: Safety::Words(_), .. });
        assert_eq!(world.clients[0].events.iter().filter(|event| told(event)).count(), 2);
        world.pass(Duration::from_secs(2));
        world.cut();
        world.pass(Duration::from_secs(4));
        assert!(world.clients.iter().any(|client| client.restarts > 0));
        assert_eq!(words(&world, 0, 1), seen[0], "a restart of ICE keeps the words");
        // Another session has other words.
        world.kill(1);
        let kept = world.clients[1].kept.clone();
        world.start_again(1, kept);
        assert!(matches!(words(&world, 0, 1), Safety::Words(_)));
        assert_ne!(words(&world, 0, 1), seen[0]);
    }
}

#[test]
fn a_nonce_that_does_not_fit_its_commitment_is_a_warning_and_no_words() {
    let mut world = World::new(2, false);
    world.spoil_nonces = true;
    world.settle();
    assert!(world.all_connected());
    assert_eq!(words(&world, 0, 1), Safety::Mismatch, "the answerer checks what the offerer shows");
    let warned = |event: &CallEvent| matches!(event, CallEvent::Safety { safety: Safety::Mismatch, .. });
    assert_eq!(world.clients[0].events.iter().filter(|event| warned(event)).count(), 1);
}

#[test]
fn who_records_is_shown_to_all_and_to_newcomers() {
    let mut world = World::new(2, true);
    world.settle();
    world.input(1, Input::SetMedia(Media { recording: true, ..Media::default() }));
    assert!(world.sees(0, 1).unwrap().media.recording);
}

/// What those inside were told to be the secret of the new link.
fn new_secrets(world: &World) -> Vec<String> {
    let secret = |client: &Client| {
        client.events.iter().find_map(|event| match event {
            CallEvent::LinkChanged(secret) => Some(secret.to_string()),
            _ => None,
        })
    };
    world.clients.iter().filter_map(secret).collect()
}

#[test]
fn a_new_link_moves_everybody_inside_and_the_old_one_reads_nothing_more() {
    let mut world = joined(3, true);
    world.input(0, Input::Owner(OwnerRequest::NewLink));
    let secrets = new_secrets(&world);
    assert_eq!(secrets.len(), 3);
    assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    let done = |event: &CallEvent| matches!(event, CallEvent::RequestDone(RequestKind::NewLink));
    assert!(world.clients[0].events.iter().any(done));
    for second in 0..3 {
        world.input(second, Input::SendChat(format!("message {second}")));
    }
    assert!(world.clients.iter().all(|client| client.call.snapshot().chat.len() == 3));
    assert!(world.all_connected());
    assert_eq!(world.sees(1, 2).unwrap().name, "Guest 2");
    world.pass(Duration::from_secs(61));
    world.input(1, Input::NetworkChanged);
    world.pass(Duration::from_secs(1));
    assert!(world.all_connected(), "negotiation is sealed under the new link");
    // The proof of the new link is what opens the door from here on.
    world.remember = false;
    world.drop_relay();
    world.relay_up = true;
    world.pass(Duration::from_secs(6));
    let proof = |client: &Client| {
        client.frames.iter().rev().find_map(|frame| match frame {
            ClientMessage::JoinRoom(join) => join.link_proof.as_ref().map(ToString::to_string),
            _ => None,
        })
    };
    let secret: RoomSecret = secrets[0].parse().unwrap();
    let expected = secret.link_proof(&"sunny-mountain-42".parse().unwrap()).to_string();
    assert!(world.clients.iter().all(|client| proof(client).as_ref() == Some(&expected)));
}

#[test]
fn whoever_is_not_told_the_new_link_leaves_after_ten_seconds_and_is_told_why() {
    let mut world = joined(2, true);
    world.lose_links = true;
    world.input(0, Input::Owner(OwnerRequest::NewLink));
    world.pass(Duration::from_millis(9_900));
    assert_eq!(world.clients[1].call.snapshot().participants.len(), 1);
    world.pass(Duration::from_millis(200));
    let Some(CallEvent::Ended { code: EndCode::LinkChanged, message }) = world.clients[1].events.last()
    else {
        panic!("{:?}", world.clients[1].events.last())
    };
    assert!(message.contains("Ask"), "{message}");
}

#[test]
fn a_new_link_of_somebody_who_is_not_the_owner_is_not_taken() {
    let mut world = joined(3, true);
    world.input(1, Input::Owner(OwnerRequest::NewLink));
    assert!(new_secrets(&world).is_empty());
    let refused =
        |event: &CallEvent| matches!(event, CallEvent::RequestFailed { request: RequestKind::NewLink, .. });
    assert!(world.clients[1].events.iter().any(refused));
    let mut world = joined(2, false);
    world.input(0, Input::Owner(OwnerRequest::NewLink));
    assert!(new_secrets(&world).is_empty(), "a room without a secret cannot get one");
}

#[test]
fn whoever_was_away_when_the_link_changed_comes_back_with_the_new_one() {
    let mut world = joined(2, true);
    // Told by the owner, but not yet by the relay.
    world.clients[1].connected = false;
    world.give(1, Input::Disconnected { close_code: None, error: None });
    world.relay_up = false;
    world.settle();
    world.input(0, Input::Owner(OwnerRequest::NewLink));
    world.remember = false;
    let refused = world.clients[1].joins + 1;
    world.clients[1].refusals.insert(refused, ServerMessage::error(ErrorCode::LinkIncomplete, None));
    world.relay_up = true;
    world.pass(Duration::from_secs(6));
    assert_eq!(world.clients[1].call.snapshot().signaling, SignalingState::Online);
    assert_eq!(new_secrets(&world).len(), 2);
}
