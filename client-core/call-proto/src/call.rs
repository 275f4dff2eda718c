//! A participant's whole call: takes inputs, keeps signaling, roster, links and chat together, and tells the shell what to do.
//! It never closes media because the relay is away.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use snug_wire::link::RoomSecret;
use snug_wire::message::{JoinRoom, RoomJoined};
use snug_wire::seal::{Kind, SealError, Sealer};
use snug_wire::{
    ClientMessage, ErrorCode, IceServer, LeaveReason, Media, Participant, Password, Payload, RoomId,
    RoomInfo, ServerMessage, Token, UserId,
};

use crate::channel::{ChannelMessage, NameBody, Tile, body, read_chat};
use crate::chat::{ChatLog, compose};
use crate::context::{At, Context, Route, draw_name};
use crate::input::{Input, LinkId, Now, OwnerRequest};
use crate::limits;
use crate::link::Link;
use crate::output::{CallEvent, Candidate, EndCode, Output, RequestKind, RoomStats};
use crate::roster::Member;
use crate::signaling::{Act, Signaling};
use crate::snapshot::{CallSnapshot, LinkState, ParticipantSnapshot};

/// Which room to join, and as whom.
pub struct CallConfig {
    /// The room of the link.
    pub room: RoomId,
    /// The link's secret; without it nothing is sealed.
    pub secret: Option<RoomSecret>,
    /// The owner's token, from the link or kept from an earlier call.
    pub owner_token: Option<Token>,
    /// Our name; up to 64 characters are used.
    pub name: String,
    /// The room's password, when it is known already.
    pub password: Option<Password>,
    /// Our sources at the start.
    pub media: Media,
    /// Name and version of the client, up to 64 characters.
    pub agent: String,
}

/// One call, from the first connection to the relay until [`CallEvent::Ended`].
pub struct Call {
    config: CallConfig,
    context: Context,
    /// In the order of their coming.
    members: Vec<Member>,
    room: Option<RoomInfo>,
    is_owner: bool,
    joined: bool,
    /// Since when our seat has had its connection, but for short breaks.
    online_since: Instant,
    lost_at: Option<Instant>,
    over: bool,
    /// Why the relay will not have us back, while links still carry the call.
    ending: Option<(EndCode, String)>,
    /// What the relay tells the others of us.
    relay_media: Media,
    /// When to ask for TURN credentials by ourselves.
    refresh_at: Option<Instant>,
    tiles: Option<BTreeMap<UserId, Tile>>,
    tiles_at: Option<Instant>,
    next_tick: Instant,
    hushed: bool,
    chat: ChatLog,
}

impl Call {
    /// Starts a call; all its randomness comes from `seed`, which must be drawn afresh for each call.
    pub fn new(config: CallConfig, seed: [u8; 32], now: Now) -> Self {
        let mut random = ChaCha20Rng::from_seed(seed);
        let own = draw_user(&mut random);
        let jitter = ChaCha20Rng::seed_from_u64(random.next_u64());
        let signaling = Signaling::new(config.agent.clone(), config.room.clone(), own, jitter, now.at);
        let sealer = Sealer::new(config.secret.clone(), config.room.clone(), own);
        let media = config.media;
        let context = Context {
            own,
            sealer,
            media,
            ice_servers: Vec::new(),
            signaling,
            random,
            outputs: VecDeque::new(),
            next_id: 0,
        };
        let mut call = Self {
            config,
            context,
            members: Vec::new(),
            room: None,
            is_owner: false,
            joined: false,
            online_since: now.at,
            lost_at: None,
            over: false,
            ending: None,
            relay_media: Media::default(),
            refresh_at: None,
            tiles: None,
            tiles_at: None,
            next_tick: now.at + limits::TICK,
            hushed: false,
            chat: ChatLog::default(),
        };
        call.drain_signaling(now);
        call
    }

    /// The next effect; to be asked for until `None` after every input and timeout.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.context.outputs.pop_front()
    }

    /// When [`Call::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.over {
            return None;
        }
        let tick = (!self.members.is_empty() || self.ending.is_some()).then_some(self.next_tick);
        [tick, self.tiles_at, self.context.signaling.timeout()].into_iter().flatten().min()
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.over {
            return;
        }
        self.context.signaling.handle_timeout(now.at);
        self.drain_signaling(now);
        if self.tiles_at.is_some_and(|at| at <= now.at) {
            self.tiles_at = None;
            self.send_tiles(now);
        }
        if self.next_tick <= now.at {
            self.tick(now);
        }
        self.drain_signaling(now);
    }

    /// Takes one input.
    pub fn handle_input(&mut self, input: Input, now: Now) {
        if self.over {
            return;
        }
        match input {
            Input::Connected => self.context.signaling.connected(now.at),
            Input::Disconnected { close_code, error } => {
                self.context.signaling.disconnected(close_code, error, now.at);
            }
            Input::Received(received) => self.context.signaling.received(received, now.at),
            Input::Unreadable { seq } => self.context.signaling.unreadable(seq, now.at),
            Input::DescriptionReady { link, job, sdp } => {
                self.by_id(link, now, |link, at| link.on_description(job, Some(sdp), at));
            }
            Input::DescriptionFailed { link, job } => {
                self.by_id(link, now, |link, at| link.on_description(job, None, at));
            }
            Input::CandidateFound { link, candidate, sdp_mid, sdp_mline_index } => {
                let candidate = Candidate { candidate, sdp_mid, sdp_mline_index };
                self.by_id(link, now, |link, at| link.on_own_candidate(candidate, at));
            }
            Input::LinkStateChanged { link, state } => {
                self.by_id(link, now, |link, at| link.on_state(state, at));
            }
            Input::ChannelOpened { link } => {
                self.by_id(link, now, Link::on_channel_opened);
                self.send_tiles(now);
            }
            Input::ChannelClosed { link } => self.by_id(link, now, Link::on_channel_closed),
            Input::ChannelMessage { link, text } => self.on_channel_message(link, &text, now),
            Input::MediaSeen { link } => self.by_id(link, now, |link, at| link.on_media(at.now.at)),
            Input::SetMedia(media) => self.set_media(media, now),
            Input::SetTiles(tiles) => {
                self.tiles = Some(tiles);
                self.tiles_at.get_or_insert(now.at + limits::TILES);
            }
            Input::SendChat(text) => self.send_chat(&text, now),
            Input::NetworkChanged => self.network_changed(now),
            Input::RetryNow => self.retry_now(now),
            Input::SupplyPassword(password) => {
                self.config.password = Some(password);
                self.context.signaling.retry_join(now.at);
            }
            Input::Owner(request) => self.request(request, now),
            Input::Leave => {
                self.finish(EndCode::Left, "You left the call.".to_owned(), now);
            }
        }
        self.drain_signaling(now);
    }

    /// The call as a view sees it.
    pub fn snapshot(&self) -> CallSnapshot {
        let participants = self.members.iter().filter_map(|member| {
            let Member { user, media, away, owner, .. } = *member;
            let link = member.link.as_ref()?.state();
            Some(ParticipantSnapshot { user, name: member.name.clone(), media, away, owner, link })
        });
        CallSnapshot {
            signaling: self.context.signaling.state,
            self_id: self.context.own,
            is_owner: self.is_owner,
            room: self.room.clone(),
            media: self.context.media,
            participants: participants.collect(),
            chat: self.chat.messages.clone(),
        }
    }

    // What people and the shell ask for.

    fn set_media(&mut self, media: Media, now: Now) {
        if self.context.media == media {
            return;
        }
        self.context.media = media;
        self.sync_media();
        self.each_link(now, |link, at| {
            link.send(&ChannelMessage::MediaState { media }, at);
        });
    }

    /// Brings the relay to what is true.
    fn sync_media(&mut self) {
        if !self.context.signaling.online() {
            return;
        }
        let (told, media) = (self.relay_media, self.context.media);
        let changes = [
            (told.audio != media.audio, ClientMessage::ToggleAudio { enabled: media.audio }),
            (told.video != media.video, ClientMessage::ToggleVideo { enabled: media.video }),
            (told.screen != media.screen, ClientMessage::ToggleScreen { enabled: media.screen }),
            (told.hand != media.hand, ClientMessage::ToggleHand { enabled: media.hand }),
        ];
        for (_, message) in changes.into_iter().filter(|(changed, _)| *changed) {
            self.context.signaling.send(message);
        }
        self.relay_media = media;
    }

    fn send_tiles(&mut self, now: Now) {
        let Some(tiles) = self.tiles.take() else { return };
        self.each_link(now, |link, at| {
            let tile = tiles.get(&link.user).copied().unwrap_or_default();
            link.send_tile(tile, at);
        });
        self.tiles = Some(tiles);
    }

    fn send_chat(&mut self, text: &str, now: Now) {
        let random = &mut self.context.random;
        for chat in compose(text, now.unix_ms, || draw_name(random)) {
            let name = clean_name(&self.config.name);
            self.chat.add(&chat, (self.context.own, &name, true), now.unix_ms);
            let payload = self.context.sealer.seal(Kind::Chat, None, &body(&chat));
            let text = ChannelMessage::Chat { payload }.encode();
            self.each_link(now, |link, at| link.send_chat(text.clone(), at));
        }
    }

    fn network_changed(&mut self, now: Now) {
        self.context.signaling.probe(true, now.at);
        self.drain_signaling(now);
        self.each_link(now, |link, at| {
            if link.reachable(at) {
                link.restart(at);
            }
        });
    }

    fn retry_now(&mut self, now: Now) {
        self.context.signaling.retry_now(now.at);
        self.each_link(now, |link, at| {
            if !link.connected() {
                link.recover(at);
            }
        });
    }

    fn request(&mut self, request: OwnerRequest, now: Now) {
        let mut kept = None;
        let (kind, message) = match request {
            OwnerRequest::SetPassword { password, hint } => {
                kept = Some(password.clone());
                (RequestKind::SetPassword, ClientMessage::SetRoomPassword { password, hint })
            }
            OwnerRequest::ClearPassword => (RequestKind::ClearPassword, ClientMessage::ClearRoomPassword {}),
            OwnerRequest::Lock(locked) => (RequestKind::Lock, ClientMessage::LockRoom { locked }),
            OwnerRequest::Kick(target_id) => (RequestKind::Kick, ClientMessage::Kick { target_id }),
            OwnerRequest::UpdateSettings { max_participants, allow_screen_share } => (
                RequestKind::UpdateSettings,
                ClientMessage::UpdateSettings { max_participants, allow_screen_share },
            ),
            OwnerRequest::RotateOwnerToken => {
                (RequestKind::RotateOwnerToken, ClientMessage::RotateOwnerToken {})
            }
            OwnerRequest::GetStats => (RequestKind::GetStats, ClientMessage::GetStats {}),
        };
        self.context.signaling.request(kind, message, kept, now.at);
    }

    // The relay.

    fn drain_signaling(&mut self, now: Now) {
        while let Some(act) = self.context.signaling.poll() {
            match act {
                Act::Connect => self.context.push(Output::Connect),
                Act::Close(code) => self.context.push(Output::CloseConnection { code }),
                Act::Send(frame) => self.context.push(Output::Send(frame)),
                Act::Join { with_password } => {
                    let join = self.join_message(with_password);
                    self.context.signaling.write(join);
                }
                Act::Lost => {
                    self.lost_at = Some(now.at);
                    self.context.event(CallEvent::Reconnecting);
                }
                Act::Joined(joined) => self.on_joined(*joined, now),
                Act::Resumed => self.on_resumed(now),
                Act::Draining => self.context.event(CallEvent::Draining),
                Act::Heard(message) => self.on_message(message, now),
                Act::Done(request, message) => self.on_done(request.kind, request.password, *message),
                Act::Failed(request, code, message) => {
                    self.context.event(CallEvent::RequestFailed { request, code, message });
                }
                Act::PasswordNeeded { hint, wrong } => {
                    self.context.event(CallEvent::PasswordNeeded { hint, wrong });
                }
                Act::Waiting { message } => self.context.event(CallEvent::RoomFull { message }),
                Act::IdTaken => {
                    let own = draw_user(&mut self.context.random);
                    self.context.own = own;
                    self.context.sealer =
                        Sealer::new(self.config.secret.clone(), self.config.room.clone(), own);
                    self.context.signaling.rename(own, now.at);
                }
                Act::Ended { code, message } => self.on_ended(code, message, now),
            }
        }
    }

    fn join_message(&mut self, with_password: bool) -> ClientMessage {
        let name = body(&NameBody { name: clean_name(&self.config.name) });
        self.relay_media = self.context.media;
        ClientMessage::JoinRoom(JoinRoom {
            room_id: self.config.room.clone(),
            user_id: self.context.own,
            display_name: self.context.sealer.seal(Kind::Name, None, &name),
            password: self.config.password.clone().filter(|_| with_password),
            link_proof: self.config.secret.as_ref().map(|secret| secret.link_proof(&self.config.room)),
            owner_token: self.config.owner_token.clone(),
            resume_token: self.context.signaling.token_of_seat(),
            creation_key: None,
            media: self.context.media,
        })
    }

    fn on_joined(&mut self, joined: RoomJoined, now: Now) {
        let again = std::mem::replace(&mut self.joined, true);
        self.online_since = now.at;
        self.room = Some(joined.room_info);
        self.is_owner = joined.is_owner;
        self.context.event(CallEvent::Joined { again });
        if let Some(token) = joined.owner_token {
            self.keep_owner_token(token);
        }
        self.take_ice_servers(joined.ice_servers, joined.ice_ttl_seconds, now);
        // A relay that forgot us may have forgotten others, who return by themselves.
        for member in &mut self.members {
            member.listed = false;
        }
        for participant in &joined.participants {
            self.on_participant(participant, true, again, now);
        }
        self.members.retain(|member| member.listed || member.link.is_some());
        self.sync_media();
    }

    fn on_resumed(&mut self, now: Now) {
        let missed = self.lost_at.take().map_or(limits::BREAK, |lost| now.at.saturating_duration_since(lost));
        if missed >= limits::BREAK {
            self.online_since = now.at;
        }
        self.context.event(CallEvent::Resumed);
        for index in 0..self.members.len() {
            if self.members[index].link.is_some() {
                self.with_link(index, now, Link::recover);
            } else if self.members[index].listed {
                self.open(index, true, now);
            }
        }
        self.sync_media();
        if self.refresh_at.is_some_and(|at| at < now.at) {
            self.context.signaling.send(ClientMessage::TurnCredentials {});
        }
    }

    fn keep_owner_token(&mut self, token: Token) {
        self.config.owner_token = Some(token.clone());
        self.context.event(CallEvent::OwnerToken(token));
    }

    fn take_ice_servers(&mut self, ice_servers: Vec<IceServer>, ttl_seconds: u64, now: Now) {
        let life = std::time::Duration::from_millis(ttl_seconds.min(86_400) * 750);
        self.refresh_at = Some(now.at + life);
        self.context.ice_servers.clone_from(&ice_servers);
        for link in self.members.iter().filter_map(|member| member.link.as_ref()?.id()) {
            let ice_servers = ice_servers.clone();
            self.context.push(Output::SetIceServers { link, ice_servers });
        }
    }

    /// Somebody is in the room: as we came (`newer`), or because they came.
    fn on_participant(&mut self, participant: &Participant, newer: bool, announce: bool, now: Now) {
        let user = participant.user_id;
        if user == self.context.own {
            return;
        }
        let index = match self.index_of(user) {
            Some(index) => {
                self.members[index].update(participant);
                index
            }
            None if self.members.len() >= limits::PARTICIPANTS => return,
            None => {
                self.members.push(Member::new(participant, now.at));
                self.members.len() - 1
            }
        };
        let known = self.members[index].link.is_some();
        let named = self.members[index].open_name(&mut self.context.sealer, &participant.display_name);
        // An old name that comes again says nothing against its owner; a name that is not sealed as ours says it all.
        let problem = named.err().filter(|problem| *problem != SealError::Replayed);
        if announce && !known && problem.is_none() {
            self.context.event(CallEvent::ParticipantJoined(user));
        }
        if let Some(problem) = problem {
            self.members[index].link.get_or_insert_with(|| Link::new(self.context.own, user, newer, now.at));
            self.with_link(index, now, |link, at| link.refuse(problem, at));
            return;
        }
        self.open(index, newer, now);
        if known && newer {
            self.with_link(index, now, Link::recover);
        } else if known {
            self.with_link(index, now, Link::flush);
        }
    }

    /// The link to a participant, made when there is none.
    fn open(&mut self, index: usize, newer: bool, now: Now) {
        let member = &mut self.members[index];
        match &mut member.link {
            Some(link) => link.newer = newer,
            None => {
                member.link = Some(Link::new(self.context.own, member.user, newer, now.at));
                if newer {
                    self.with_link(index, now, Link::start);
                }
            }
        }
    }

    fn on_message(&mut self, message: ServerMessage, now: Now) {
        match message {
            ServerMessage::UserJoined { participant } => self.on_participant(&participant, false, true, now),
            ServerMessage::UserAway { user_id } => {
                if let Some(index) = self.index_of(user_id) {
                    self.members[index].away = true;
                    if self.members[index].link.is_some() {
                        self.context.event(CallEvent::ParticipantAway(user_id));
                    }
                }
            }
            ServerMessage::UserBack { user_id } => {
                if let Some(index) = self.index_of(user_id) {
                    self.members[index].away = false;
                    self.context.event(CallEvent::ParticipantBack(user_id));
                    self.welcome(index, now);
                    self.with_link(index, now, Link::flush);
                }
            }
            ServerMessage::UserLeft { user_id, reason } => {
                self.remove(user_id, reason == LeaveReason::Kicked, now);
            }
            ServerMessage::OfferReceived(forwarded) => {
                self.on_negotiation(Kind::Offer, forwarded.from_id, &forwarded.payload, now);
            }
            ServerMessage::AnswerReceived(forwarded) => {
                self.on_negotiation(Kind::Answer, forwarded.from_id, &forwarded.payload, now);
            }
            ServerMessage::IceCandidateReceived(forwarded) => {
                self.on_negotiation(Kind::IceCandidate, forwarded.from_id, &forwarded.payload, now);
            }
            ServerMessage::PeerState { user_id, media } => self.on_media(user_id, media),
            ServerMessage::RoomUpdated { room_info } => {
                if !room_info.allow_screen_share && self.context.media.screen {
                    self.context.event(CallEvent::ScreenShareForbidden);
                }
                self.room = Some(room_info);
            }
            ServerMessage::TurnCredentials { ice_servers, ice_ttl_seconds } => {
                self.take_ice_servers(ice_servers, ice_ttl_seconds, now);
            }
            ServerMessage::OwnerToken { owner_token, .. } => self.keep_owner_token(owner_token),
            ServerMessage::Error { code: ErrorCode::ScreenShareDisabled, .. } => {
                self.context.event(CallEvent::ScreenShareForbidden);
            }
            _ => {}
        }
    }

    fn on_negotiation(&mut self, kind: Kind, from: UserId, payload: &Payload, now: Now) {
        let Some(index) = self.index_of(from) else { return };
        self.members[index].heard = now.at;
        self.welcome(index, now);
        self.with_link(index, now, |link, at| link.receive(kind, payload, at));
    }

    /// Somebody who was given up shows up again: they offer.
    fn welcome(&mut self, index: usize, now: Now) {
        if self.members[index].link.is_none() {
            self.open(index, false, now);
            self.context.event(CallEvent::ParticipantJoined(self.members[index].user));
        }
    }

    fn on_done(&mut self, request: RequestKind, password: Option<Password>, message: ServerMessage) {
        match message {
            ServerMessage::OwnerToken { owner_token, .. } => self.keep_owner_token(owner_token),
            ServerMessage::RoomStats {
                created_at,
                last_used,
                total_sessions,
                total_duration_seconds,
                ..
            } => {
                let stats = RoomStats { created_at, last_used, total_sessions, total_duration_seconds };
                self.context.event(CallEvent::Stats(stats));
            }
            _ => {}
        }
        match request {
            RequestKind::SetPassword => self.config.password = password,
            RequestKind::ClearPassword => self.config.password = None,
            _ => {}
        }
        self.context.event(CallEvent::RequestDone(request));
    }

    fn on_ended(&mut self, code: EndCode, message: String, now: Now) {
        let for_good = matches!(code, EndCode::Kicked | EndCode::Replaced);
        if for_good || !self.any_connected() {
            self.finish(code, message, now);
        } else {
            self.ending = Some((code, message));
        }
    }

    fn finish(&mut self, code: EndCode, message: String, now: Now) {
        if self.over {
            return;
        }
        for index in 0..self.members.len() {
            self.with_link(index, now, |link, at| {
                link.send(&ChannelMessage::Bye {}, at);
                link.close(at);
            });
        }
        self.context.signaling.leave();
        self.drain_signaling(now);
        self.over = true;
        self.context.event(CallEvent::Ended { code, message });
    }

    // The links.

    fn on_channel_message(&mut self, id: LinkId, text: &str, now: Now) {
        let Some(index) = self.index_by_id(id) else { return };
        let Some(message) = ChannelMessage::decode(text) else { return };
        let user = self.members[index].user;
        match message {
            ChannelMessage::Offer { payload } => self.on_negotiation(Kind::Offer, user, &payload, now),
            ChannelMessage::Answer { payload } => self.on_negotiation(Kind::Answer, user, &payload, now),
            ChannelMessage::IceCandidate { payload } => {
                self.on_negotiation(Kind::IceCandidate, user, &payload, now);
            }
            ChannelMessage::Chat { payload } => self.on_chat(index, &payload, now),
            ChannelMessage::MediaState { media } => self.on_media(user, media),
            ChannelMessage::Tile(tile) => self.context.push(Output::Tile { link: id, tile }),
            ChannelMessage::Bye {} => self.remove(user, false, now),
        }
    }

    fn on_chat(&mut self, index: usize, payload: &Payload, now: Now) {
        let member = &self.members[index];
        let Ok(text) = self.context.sealer.open(Kind::Chat, member.user, true, payload) else { return };
        let Some(chat) = read_chat(&text) else { return };
        if let Some(message) = self.chat.add(&chat, (member.user, &member.name, false), now.unix_ms) {
            self.context.event(CallEvent::Chat(message));
        }
    }

    fn on_media(&mut self, user: UserId, media: Media) {
        let Some(index) = self.index_of(user) else { return };
        if std::mem::replace(&mut self.members[index].media, media) != media {
            self.context.event(CallEvent::MediaChanged { user, media });
        }
    }

    /// Somebody has left.
    fn remove(&mut self, user: UserId, kicked: bool, now: Now) {
        self.give_up(user, kicked, now);
        // Without the relay nobody is known to have left for good: a resumed seat does not list the others again.
        if self.context.signaling.online() {
            self.members.retain(|member| member.user != user);
        }
    }

    /// Lets the link go, and keeps in mind whom the relay knows to have a seat: they may come back.
    fn give_up(&mut self, user: UserId, kicked: bool, now: Now) {
        let Some(index) = self.index_of(user) else { return };
        if self.members[index].link.is_some() {
            self.with_link(index, now, Link::close);
            self.context.event(CallEvent::ParticipantLeft { user, kicked });
        }
        self.members[index].link = None;
    }

    fn tick(&mut self, now: Now) {
        let slept = now.at.saturating_duration_since(self.next_tick) > limits::SLEPT;
        self.next_tick = now.at + limits::TICK;
        if slept {
            self.context.signaling.probe(false, now.at);
            self.each_link(now, Link::recover);
        }
        if let Some((code, message)) = self.ending.take() {
            if !self.any_connected() {
                return self.finish(code, message, now);
            }
            self.ending = Some((code, message));
        }
        self.forget_dead(now);
        self.each_link(now, Link::watch);
        let links = self.members.iter().filter_map(|member| member.link.as_ref());
        let quietest = links.filter_map(|link| link.hush(now.at)).min();
        let hushed = quietest.is_some_and(|hush| hush > limits::HUSH);
        if hushed && !std::mem::replace(&mut self.hushed, hushed) {
            self.context.signaling.probe(true, now.at);
        }
        self.hushed = hushed;
    }

    fn forget_dead(&mut self, now: Now) {
        let (online, any_connected) = (self.context.signaling.online(), self.any_connected());
        let dead = self.members.iter().filter(|member| {
            let Some(since) = member.link.as_ref().and_then(|link| link.dead_since) else { return false };
            // While the relay is away, a dead link alone does not tell whose network failed; a second one that lives does.
            let absent = if online { !member.listed || member.away } else { any_connected };
            // A machine that lost its power is missed by the relay only later. Who lives answers our offers.
            let mute = online.then(|| since.max(member.heard).max(self.online_since));
            let Some(since) = (if absent { Some(since) } else { mute }) else { return false };
            now.at.saturating_duration_since(since) >= limits::FORGET
        });
        for user in dead.map(|member| member.user).collect::<Vec<_>>() {
            self.give_up(user, false, now);
        }
        if online {
            // The relay names those who return.
            self.members.retain(|member| member.listed || member.link.is_some());
        }
    }

    fn any_connected(&self) -> bool {
        self.members.iter().filter_map(|member| member.link.as_ref()).any(Link::connected)
    }

    fn index_of(&self, user: UserId) -> Option<usize> {
        self.members.iter().position(|member| member.user == user)
    }

    fn index_by_id(&self, id: LinkId) -> Option<usize> {
        self.members.iter().position(|member| member.link.as_ref().and_then(Link::id) == Some(id))
    }

    fn by_id(&mut self, id: LinkId, now: Now, act: impl FnOnce(&mut Link, &mut At<'_>)) {
        if let Some(index) = self.index_by_id(id) {
            self.with_link(index, now, act);
        }
    }

    fn each_link(&mut self, now: Now, mut act: impl FnMut(&mut Link, &mut At<'_>)) {
        for index in 0..self.members.len() {
            self.with_link(index, now, &mut act);
        }
    }

    /// Lets a link act, and tells what that changed.
    fn with_link(&mut self, index: usize, now: Now, act: impl FnOnce(&mut Link, &mut At<'_>)) {
        let member = &mut self.members[index];
        let Some(link) = &mut member.link else { return };
        let route = match (self.context.signaling.online() && member.listed, member.away) {
            (false, _) => Route::Down,
            (true, true) => Route::Away,
            (true, false) => Route::Live,
        };
        let before = link.state();
        let sends = member.media.audio || member.media.video || member.media.screen;
        act(link, &mut At { context: &mut self.context, now, route, sends });
        let after = link.state();
        if before == after {
            return;
        }
        let user = member.user;
        match after {
            LinkState::Connected => self.context.event(CallEvent::ParticipantConnected(user)),
            LinkState::Interrupted { .. } => {
                self.context.event(CallEvent::ParticipantInterrupted(user));
                // Perhaps it is our own network that is gone: then the relay's silence shows it soonest.
                self.context.signaling.probe(false, now.at);
            }
            LinkState::Refused(problem) => {
                self.context.event(CallEvent::ParticipantRefused { user, problem });
            }
            LinkState::Connecting => {}
        }
    }
}

fn draw_user(random: &mut ChaCha20Rng) -> UserId {
    let mut bytes = [0u8; 16];
    random.fill_bytes(&mut bytes);
    UserId::from_bytes(bytes)
}

fn clean_name(name: &str) -> String {
    snug_wire::text::clean(name, snug_wire::limits::NAME_CHARS)
}
