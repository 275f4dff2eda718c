//! A participant's whole call: takes inputs, keeps signaling, roster, links and chat together, and tells the shell what to do.
//! It never closes media because the relay is away.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use snug_wire::link::RoomSecret;
use snug_wire::message::{JoinRoom, RoomJoined};
use snug_wire::seal::{Kind, Opened, SealError, Sealer};
use snug_wire::{
    Admission, ClientMessage, ErrorCode, IceServer, JoinNonce, LeaveReason, Media, Participant, Password,
    Payload, PublicKey, RoomId, RoomInfo, ServerMessage, Token, UserId,
};

use crate::channel::{ChannelMessage, NameBody, NewLinkBody, Tile, body, read_chat};
use crate::chat::{ChatLog, compose};
use crate::context::{At, Context, Route, draw_name};
use crate::identity::{KeptIdentity, OwnIdentity};
use crate::input::{Input, LinkId, Now, OwnerRequest};
use crate::limits;
use crate::link::Link;
use crate::output::{CallEvent, Candidate, EndCode, Output, RequestKind, RoomStats};
use crate::roster::{Member, read_name};
use crate::safety::Safety;
use crate::signaling::{Act, Signaling};
use crate::snapshot::{CallSnapshot, KnockSnapshot, LinkState, ParticipantSnapshot, SignalingState};

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
    /// What the shell kept of an earlier run in this room, to come back as the same participant; without it a key is drawn.
    pub kept: Option<KeptIdentity>,
}

/// A new link of the room.
#[derive(Default)]
struct NewLink {
    /// Its secret, before the relay has confirmed it.
    secret: Option<RoomSecret>,
    /// The relay has confirmed it, and nobody has told us the secret: until when we wait for it.
    awaited: Option<Instant>,
    /// Until when what was sealed under the link before still opens.
    old_until: Option<Instant>,
}

/// One call, from the first connection to the relay until [`CallEvent::Ended`].
pub struct Call {
    config: CallConfig,
    context: Context,
    own: OwnIdentity,
    /// The owner's token was drawn for this call; else it is the link's.
    drawn_token: bool,
    token_confirmed: bool,
    /// Who waits in the lobby, as far as we may let them in.
    knocks: Vec<KnockSnapshot>,
    new_link: NewLink,
    /// In the order of their coming.
    members: Vec<Member>,
    /// Who came back under another key, and which id they had: they stay marked when they are away for long.
    new_keys: BTreeMap<UserId, UserId>,
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
    pub fn new(mut config: CallConfig, seed: [u8; 32], now: Now) -> Self {
        let mut random = ChaCha20Rng::from_seed(seed);
        let mut own = OwnIdentity::new(config.kept.take(), &mut random, now.unix_ms);
        let drawn_token = config.owner_token.is_none();
        if drawn_token {
            // A creator whose connection is lost before the answer comes back as the owner.
            let token = own.kept.owner_token.clone().unwrap_or_else(|| draw_token(&mut random));
            own.set_pending(Some(token.clone()));
            config.owner_token = Some(token);
        }
        let user = own.kept.key.user_id();
        let jitter = ChaCha20Rng::seed_from_u64(random.next_u64());
        let signaling = Signaling::new(config.agent.clone(), config.room.clone(), user, jitter, now.at);
        let sealer = sealer(&config, &own);
        let media = config.media;
        let context = Context {
            own: user,
            own_key: own.kept.key.public_key().clone(),
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
            own,
            drawn_token,
            token_confirmed: false,
            knocks: Vec::new(),
            new_link: NewLink::default(),
            members: Vec::new(),
            new_keys: BTreeMap::new(),
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
        let NewLink { awaited, old_until, .. } = self.new_link;
        [tick, self.tiles_at, awaited, old_until, self.context.signaling.timeout()]
            .into_iter()
            .flatten()
            .min()
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
        self.await_link(now);
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
            let (link, safety) = member.link.as_ref().map(|link| (link.state(), link.safety))?;
            let (name, new_key) = (member.name.clone(), member.former.is_some());
            let verified = member.key.is_some();
            Some(ParticipantSnapshot { user, verified, new_key, name, media, away, owner, link, safety })
        });
        CallSnapshot {
            signaling: self.context.signaling.state,
            self_id: self.context.own,
            no_seat: self.context.signaling.no_seat.clone(),
            is_owner: self.is_owner,
            room: self.room.clone(),
            media: self.context.media,
            participants: participants.collect(),
            knocks: self.knocks.clone(),
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
            (
                told.recording != media.recording && self.context.signaling.supports("recording"),
                ClientMessage::ToggleRecording { enabled: media.recording },
            ),
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
        self.ending = None;
        self.context.signaling.retry_now(now.at);
        self.each_link(now, |link, at| {
            if !link.connected() {
                link.recover(at);
            }
        });
    }

    /// Why a request cannot be carried out by the relay, or by the program of somebody it is about.
    fn lacks(&self, request: &OwnerRequest) -> Option<String> {
        let lobby =
            |lobby: &Option<bool>, admission: &Option<Admission>| lobby.is_some() || admission.is_some();
        let (capability, about) = match request {
            OwnerRequest::Unban | OwnerRequest::EndCall => ("ownership", None),
            OwnerRequest::OfferOwnership(user) => ("ownership", Some(*user)),
            OwnerRequest::AskMute(user) => ("ask_mute", Some(*user)),
            OwnerRequest::Admit { .. } => ("lobby", None),
            OwnerRequest::UpdateSettings { lobby: on, admission, .. } if lobby(on, admission) => {
                ("lobby", None)
            }
            OwnerRequest::NewLink => ("new_link", None),
            _ => return None,
        };
        if !self.context.signaling.supports(capability) {
            return Some("This relay is too old for that. Ask its operator to update it.".to_owned());
        }
        let can = |member: &&Member| member.capabilities.iter().any(|known| known == capability);
        let concerned = self.members.iter().filter(|member| {
            about.map_or(matches!(request, OwnerRequest::NewLink), |user| user == member.user)
        });
        let name = concerned.filter(|member| !can(member)).map(|member| member.name.clone()).next()?;
        Some(format!(
            "The program of {name} is too old for that. Ask them to update it, or to load the page again."
        ))
    }

    fn request(&mut self, request: OwnerRequest, now: Now) {
        if let Some(message) = self.lacks(&request) {
            let kind = RequestKind::of(&request);
            return self.context.signaling.fail(kind, message);
        }
        let mut kept = None;
        let (kind, message) = match request {
            OwnerRequest::SetPassword { password, hint } => {
                kept = Some(password.clone());
                (RequestKind::SetPassword, ClientMessage::SetRoomPassword { password, hint })
            }
            OwnerRequest::ClearPassword => (RequestKind::ClearPassword, ClientMessage::ClearRoomPassword {}),
            OwnerRequest::Lock(locked) => (RequestKind::Lock, ClientMessage::LockRoom { locked }),
            OwnerRequest::Kick(target_id) => (RequestKind::Kick, ClientMessage::Kick { target_id }),
            OwnerRequest::UpdateSettings { max_participants, allow_screen_share, lobby, admission } => (
                RequestKind::UpdateSettings,
                ClientMessage::UpdateSettings { max_participants, allow_screen_share, lobby, admission },
            ),
            OwnerRequest::RotateOwnerToken => {
                (RequestKind::RotateOwnerToken, ClientMessage::RotateOwnerToken {})
            }
            OwnerRequest::GetStats => (RequestKind::GetStats, ClientMessage::GetStats {}),
            OwnerRequest::Unban => (RequestKind::Unban, ClientMessage::Unban {}),
            OwnerRequest::AskMute(target_id) => (RequestKind::AskMute, ClientMessage::AskMute { target_id }),
            OwnerRequest::Admit { user, admitted } => {
                (RequestKind::Admit, ClientMessage::Admit { target_id: user, admitted })
            }
            OwnerRequest::OfferOwnership(target_id) => {
                (RequestKind::OfferOwnership, ClientMessage::OfferOwnership { target_id })
            }
            OwnerRequest::NewLink => return self.make_link(now),
            OwnerRequest::EndCall => (RequestKind::EndCall, ClientMessage::EndCall {}),
        };
        self.context.signaling.request(kind, message, kept, now.at);
    }

    // A new link.

    /// Draws a secret, tells it to everybody inside, and then its proof to the relay.
    fn make_link(&mut self, now: Now) {
        if self.config.secret.is_none() {
            let message =
                "The link of this room has no secret, so there cannot be a new one. Make another room.";
            return self.context.signaling.fail(RequestKind::NewLink, message.to_owned());
        }
        if !self.is_owner {
            let message = ErrorCode::NotOwner.message();
            return self.context.signaling.fail(RequestKind::NewLink, message.to_owned());
        }
        let secret = RoomSecret::from_bytes(self.context.draw_sixteen());
        let text = body(&NewLinkBody { secret: secret.to_string() });
        let payload = self.context.sealer.seal(Kind::NewLink, None, &text);
        self.each_link(now, |link, at| {
            link.send(&ChannelMessage::NewLink { payload: payload.clone() }, at);
        });
        let link_proof = secret.link_proof(&self.config.room);
        self.expect_link(Some(secret));
        let message = ClientMessage::NewLink { link_proof };
        self.context.signaling.request(RequestKind::NewLink, message, None, now.at);
    }

    /// The owner tells the secret of a new link, which opens from here on and seals once the relay has confirmed it.
    fn on_new_link(&mut self, index: usize, payload: &Payload, now: Now) {
        let Ok(text) = self.unseal(index, Kind::NewLink, payload, now) else { return };
        let Ok(NewLinkBody { secret }) = snug_wire::object::from_str(&text) else { return };
        let Ok(secret) = secret.parse::<RoomSecret>() else { return };
        if !self.members[index].owner || self.config.secret.is_none() {
            return;
        }
        self.expect_link(Some(secret));
        if self.new_link.awaited.is_some() {
            self.take_link(now);
        }
    }

    fn expect_link(&mut self, secret: Option<RoomSecret>) {
        self.context.signaling.knows_new_link = secret.is_some();
        self.context.sealer.also_open(secret.clone());
        self.new_link.secret = secret;
    }

    /// The relay knows the new link's proof: the one before opens no door any more.
    fn take_link(&mut self, now: Now) {
        if self.config.secret.is_none() {
            return;
        }
        let Some(secret) = self.new_link.secret.take() else {
            self.new_link.awaited.get_or_insert(now.at + limits::NEW_LINK);
            return;
        };
        self.context.signaling.knows_new_link = false;
        self.new_link = NewLink { old_until: Some(now.at + limits::OLD_LINK), ..NewLink::default() };
        self.context.sealer.seal_under(secret.clone());
        self.config.secret = Some(secret.clone());
        if self.context.signaling.supports("names") {
            let name = body(&NameBody { name: clean_name(&self.config.name) });
            let display_name = self.context.sealer.seal(Kind::Name, None, &name);
            self.context.signaling.send(ClientMessage::SetName { display_name });
        }
        self.context.event(CallEvent::LinkChanged(secret));
    }

    fn await_link(&mut self, now: Now) {
        if self.new_link.old_until.take_if(|until| *until <= now.at).is_some() {
            self.context.sealer.also_open(self.new_link.secret.clone());
        }
        if self.new_link.awaited.is_some_and(|until| until <= now.at) {
            let message = "The owner made a new link for this room. Ask them for it, and join with it.";
            self.finish(EndCode::LinkChanged, message.to_owned(), now);
        }
    }

    // The owner.

    /// The owner hands the room over: we take it with a token of our own.
    fn on_ownership_offered(&mut self, from: UserId, now: Now) {
        let is_owner = self.index_of(from).is_some_and(|index| self.members[index].owner);
        if !is_owner {
            return;
        }
        let token = draw_token(&mut self.context.random);
        self.own.set_pending(Some(token.clone()));
        self.keep_identity();
        let message = ClientMessage::TakeOwnership { owner_token: token };
        self.context.signaling.request(RequestKind::TakeOwnership, message, None, now.at);
    }

    fn on_owner_changed(&mut self, user: UserId) {
        for member in &mut self.members {
            member.owner = member.user == user;
        }
        self.is_owner = user == self.context.own;
        if !self.is_owner {
            self.config.owner_token = None;
            self.knocks.clear();
        }
        self.context.event(CallEvent::OwnerChanged(user));
    }

    fn on_knock(&mut self, user: UserId, key: &PublicKey, name: &Payload) {
        let known = self.context.sealer.introduce(user, Some(key));
        let opened = known.and_then(|()| self.context.sealer.open(Kind::Name, user, true, name));
        let name = opened.ok().and_then(|Opened { text, .. }| read_name(&text)).unwrap_or_default();
        self.knocks.retain(|knock| knock.user != user);
        if self.knocks.len() < limits::KNOCKS {
            let knock = KnockSnapshot { user, name };
            self.knocks.push(knock.clone());
            self.context.event(CallEvent::Knock(knock));
        }
    }

    fn on_knock_gone(&mut self, user: UserId) {
        let before = self.knocks.len();
        self.knocks.retain(|knock| knock.user != user);
        if self.knocks.len() < before {
            self.context.event(CallEvent::KnockGone(user));
        }
    }

    // The relay.

    fn drain_signaling(&mut self, now: Now) {
        while let Some(act) = self.context.signaling.poll() {
            match act {
                Act::Connect => self.context.push(Output::Connect),
                Act::Close(code) => self.context.push(Output::CloseConnection { code }),
                Act::Send(frame) => self.context.push(Output::Send(frame)),
                Act::Join { nonce, with_password } => {
                    let join = self.join_message(&nonce, with_password);
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
                Act::Done(request, message) => self.on_done(request.kind, request.password, *message, now),
                Act::Failed(request, code, message) => {
                    match request {
                        RequestKind::NewLink => self.expect_link(None),
                        RequestKind::TakeOwnership => self.own.set_pending(None),
                        _ => {}
                    }
                    self.context.event(CallEvent::RequestFailed { request, code, message });
                }
                Act::PasswordNeeded { hint, wrong } => {
                    self.context.event(CallEvent::PasswordNeeded { hint, wrong });
                }
                Act::NoSeat(no_seat) => self.context.event(CallEvent::NoSeat(no_seat)),
                Act::TakeNewLink => {
                    self.take_link(now);
                    self.context.signaling.join_as(self.context.own, now.at);
                }
                Act::TicketInvalid { start_anew } => {
                    if start_anew {
                        let pending = self.own.kept.owner_token.take();
                        self.own = OwnIdentity::new(None, &mut self.context.random, now.unix_ms);
                        self.own.set_pending(pending);
                        self.context.own = self.own.kept.key.user_id();
                        self.context.own_key = self.own.kept.key.public_key().clone();
                        self.context.sealer = sealer(&self.config, &self.own);
                    }
                    self.own.set_ticket(None);
                    self.context.signaling.join_as(self.context.own, now.at);
                }
                Act::Ended { code, message } => self.on_ended(code, message, now),
            }
        }
    }

    /// Has the shell keep who we are, unless it does already.
    fn keep_identity(&mut self) {
        if !std::mem::replace(&mut self.own.told, true) {
            self.context.event(CallEvent::KeepIdentity(self.own.kept.clone()));
        }
    }

    fn join_message(&mut self, nonce: &JoinNonce, with_password: bool) -> ClientMessage {
        // A run that nobody remembers could be repeated, and with it the keys of what was sealed in it.
        self.keep_identity();
        let name = body(&NameBody { name: clean_name(&self.config.name) });
        self.relay_media = self.context.media;
        let key = &self.own.kept.key;
        ClientMessage::JoinRoom(Box::new(JoinRoom {
            room_id: self.config.room.clone(),
            public_key: key.public_key().clone(),
            key_proof: key.prove(nonce, &self.config.room),
            display_name: self.context.sealer.seal(Kind::Name, None, &name),
            password: self.config.password.clone().filter(|_| with_password),
            link_proof: self.config.secret.as_ref().map(|secret| secret.link_proof(&self.config.room)),
            owner_token: self.config.owner_token.clone(),
            ticket: self.own.kept.ticket.clone(),
            creation_key: None,
            media: self.context.media,
        }))
    }

    fn on_joined(&mut self, joined: RoomJoined, now: Now) {
        let again = std::mem::replace(&mut self.joined, true);
        self.online_since = now.at;
        self.ending = None;
        self.own.set_ticket(Some(joined.ticket));
        self.own.set_pending(None);
        self.keep_identity();
        self.room = Some(joined.room_info);
        self.is_owner = joined.is_owner;
        self.knocks.clear();
        self.context.event(CallEvent::Joined { again });
        self.confirm_owner_token(joined.owner_token);
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

    /// A token counts once the relay has confirmed it: anybody can write a link with a wrong one. `given` is one that the relay drew.
    fn confirm_owner_token(&mut self, given: Option<Token>) {
        let confirmed = std::mem::replace(&mut self.token_confirmed, self.is_owner);
        if let Some(token) = given {
            return self.keep_owner_token(token);
        }
        if self.is_owner && !confirmed {
            if let Some(token) = self.config.owner_token.clone() {
                self.keep_owner_token(token);
            }
        } else if !self.is_owner && self.config.owner_token.take().is_some() && !self.drawn_token {
            self.context.event(CallEvent::OwnerTokenRefused);
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
        let member = &mut self.members[index];
        member.former = member.former.or_else(|| self.new_keys.get(&user).copied());
        if let Some(former) = member.former.filter(|_| self.new_keys.len() < limits::PARTICIPANTS) {
            self.new_keys.insert(user, former);
        }
        let known = member.link.is_some();
        let introduced = self.context.sealer.introduce(user, participant.public_key.as_ref());
        let named = introduced.and_then(|()| self.name(index, &participant.display_name, now));
        if announce && !known && named.is_ok() {
            self.context.event(CallEvent::ParticipantJoined { user, former: participant.former_id });
        }
        if let Err(problem) = named {
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

    /// Takes somebody's name.
    ///
    /// # Errors
    /// Why it was refused. An old name that comes again says nothing against its owner; a name that is not sealed as ours says it all.
    fn name(&mut self, index: usize, name: &Payload, now: Now) -> Result<(), SealError> {
        match self.unseal(index, Kind::Name, name, now) {
            Ok(body) => self.members[index].set_name(&body),
            Err(SealError::Replayed | SealError::EarlierRun) => {}
            Err(problem) => return Err(problem),
        }
        Ok(())
    }

    /// Opens what somebody said to us or to everybody. Whoever was started anew gets another link.
    fn unseal(&mut self, index: usize, kind: Kind, payload: &Payload, now: Now) -> Result<String, SealError> {
        let user = self.members[index].user;
        let to_room = matches!(kind, Kind::Name | Kind::Chat | Kind::NewLink);
        let Opened { text, restarted } = self.context.sealer.open(kind, user, to_room, payload)?;
        if restarted && self.members[index].link.is_some() {
            let own = self.context.own;
            self.with_link(index, now, |link, at| link.renew(own, at));
            self.context.event(CallEvent::ParticipantReturned(user));
        }
        Ok(text)
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
            ServerMessage::UserLeft { user_id, reason } => self.remove(user_id, reason, now),
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
            ServerMessage::PeerName { user_id, display_name } => {
                // One that cannot be opened may be sealed under a link that has not reached us yet: the name stays as it was.
                if let Some(index) = self.index_of(user_id) {
                    let _ = self.name(index, &display_name, now);
                }
            }
            ServerMessage::Knock { user_id, public_key, display_name } => {
                self.on_knock(user_id, &public_key, &display_name);
            }
            ServerMessage::KnockGone { user_id } => self.on_knock_gone(user_id),
            ServerMessage::MuteRequested { from_id } => {
                self.context.event(CallEvent::MuteRequested(from_id));
            }
            ServerMessage::OwnershipOffered { from_id } => self.on_ownership_offered(from_id, now),
            ServerMessage::OwnerChanged { user_id } => self.on_owner_changed(user_id),
            ServerMessage::LinkChanged {} => self.take_link(now),
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
        match self.unseal(index, kind, payload, now) {
            Ok(text) => self.with_link(index, now, |link, at| link.receive(kind, &text, at)),
            // The relay may still have kept it for us.
            Err(SealError::EarlierRun) => {}
            // It is probably sealed under the new link, which is on its way to us.
            Err(SealError::Tampered) if self.new_link.awaited.is_some() => {}
            Err(problem) => self.with_link(index, now, |link, at| link.refuse(problem, at)),
        }
    }

    /// Somebody who was given up shows up again: they offer.
    fn welcome(&mut self, index: usize, now: Now) {
        if self.members[index].link.is_none() {
            self.open(index, false, now);
            let Member { user, former, .. } = self.members[index];
            self.context.event(CallEvent::ParticipantJoined { user, former });
        }
    }

    fn on_done(
        &mut self,
        request: RequestKind,
        password: Option<Password>,
        message: ServerMessage,
        now: Now,
    ) {
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
            RequestKind::NewLink => self.take_link(now),
            RequestKind::TakeOwnership => {
                if let Some(token) = self.own.kept.owner_token.clone() {
                    self.token_confirmed = true;
                    self.keep_owner_token(token);
                }
                self.own.set_pending(None);
                self.keep_identity();
            }
            _ => {}
        }
        self.context.event(CallEvent::RequestDone(request));
    }

    fn on_ended(&mut self, code: EndCode, message: String, now: Now) {
        if self.context.signaling.state == SignalingState::Closed || !self.any_connected() {
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
        // A relay that was out of reach may still hold our seat for the next start.
        if !may_return(code) || self.own.kept.ticket.is_none() {
            self.context.event(CallEvent::ForgetIdentity);
        }
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
            ChannelMessage::Safety { nonce } => self.by_id(id, now, |link, at| link.on_nonce(&nonce, at)),
            ChannelMessage::NewLink { payload } => self.on_new_link(index, &payload, now),
            ChannelMessage::Tile(tile) => self.context.push(Output::Tile { link: id, tile }),
            ChannelMessage::Bye {} => self.remove(user, LeaveReason::Left, now),
        }
    }

    fn on_chat(&mut self, index: usize, payload: &Payload, now: Now) {
        let Ok(text) = self.unseal(index, Kind::Chat, payload, now) else { return };
        let Some(chat) = read_chat(&text) else { return };
        let member = &self.members[index];
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
    fn remove(&mut self, user: UserId, reason: LeaveReason, now: Now) {
        self.give_up(user, reason, now);
        // Without the relay nobody is known to have left for good: a resumed seat does not list the others again.
        if self.context.signaling.online() {
            self.members.retain(|member| member.user != user);
        }
    }

    /// Lets the link go, and keeps in mind whom the relay knows to have a seat: they may come back.
    fn give_up(&mut self, user: UserId, reason: LeaveReason, now: Now) {
        let Some(index) = self.index_of(user) else { return };
        if self.members[index].link.is_some() {
            self.with_link(index, now, Link::close);
            self.context.event(CallEvent::ParticipantLeft { user, reason });
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
            self.give_up(user, LeaveReason::Timeout, now);
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
        let (before, safety_before) = (link.state(), link.safety);
        let sends = member.media.audio || member.media.video || member.media.screen;
        let key = member.key.as_ref();
        act(link, &mut At { context: &mut self.context, now, route, sends, key });
        let (after, safety) = (link.state(), link.safety);
        let user = member.user;
        if safety != safety_before && safety != Safety::Unknown {
            self.context.event(CallEvent::Safety { user, safety });
        }
        if before == after {
            return;
        }
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

fn draw_token(random: &mut ChaCha20Rng) -> Token {
    let mut bytes = [0; 32];
    random.fill_bytes(&mut bytes);
    Token::from_bytes(bytes)
}

fn sealer(config: &CallConfig, own: &OwnIdentity) -> Sealer {
    Sealer::new(config.secret.clone(), config.room.clone(), own.kept.key.clone(), own.run)
}

/// Whether a call that ended so leaves a seat, or a ticket that opens the room, for the next start.
fn may_return(code: EndCode) -> bool {
    match code {
        EndCode::Unreachable | EndCode::Untrusted | EndCode::TimedOut => true,
        EndCode::Refused(code) => matches!(
            code,
            ErrorCode::RateLimited
                | ErrorCode::ServerBusy
                | ErrorCode::Draining
                | ErrorCode::StorageUnavailable
                | ErrorCode::VersionUnsupported
        ),
        EndCode::Left
        | EndCode::Kicked
        | EndCode::Replaced
        | EndCode::CallEnded
        | EndCode::LinkChanged
        | EndCode::RoomFull => false,
    }
}

fn clean_name(name: &str) -> String {
    snug_wire::text::clean(name, snug_wire::limits::NAME_CHARS)
}
