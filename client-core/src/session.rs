//! The task that owns a call: feeds it what happens, carries out what it asks, and tells the shell. It decides nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use snug_audio::{AudioEngine, RemoteId};
use snug_call_proto::{Call, CallEvent, IceState, Input, LinkId, Now, Output, OwnerRequest, Tile};
use snug_media_proto::section::Section;
use snug_rtc::{Factory, PeerEvent, PeerState, RelayProblem};
use snug_signaling::{Connector, Target};
use snug_video::VideoCodecs;
use snug_wire::link::RoomSecret;
use snug_wire::message::Received;
use snug_wire::{Admission, Media, Password, RoomId, UserId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::api::{Command, Event, Snapshot, TileSize};
use crate::devices::DeviceKind;
use crate::fanout::Fanout;
use crate::identity_store::IdentityStore;
use crate::link::{Job, Link, LinkEvent};
use crate::network::{self, Change};
use crate::pictures::Pictures;
use crate::receive::Sinks;
use crate::record::{Recording, Taps};
use crate::relay::{Relay, RelayEvent};
use crate::screen::Screen;
use crate::sending::Sending;
use crate::switchboard::{Order, Switchboard};
use crate::teller::Teller;
use crate::view;

/// How often levels and link quality are read.
const LOOK: Duration = Duration::from_millis(100);
/// Events of links and of the relay that wait for the session; senders wait when it is full.
const EVENTS: usize = 256;

/// Problems with TURN servers that are told.
const RELAY_PROBLEMS: usize = 16;

/// How long the end of a call waits for the goodbye to the relay.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a session works with.
pub(crate) struct Parts {
    pub(crate) call: Call,
    /// Where it is kept who we are.
    pub(crate) identity_store: Option<IdentityStore>,
    pub(crate) connector: Arc<Connector>,
    pub(crate) target: Target,
    pub(crate) room: RoomId,
    pub(crate) factory: Factory,
    pub(crate) codecs: Arc<dyn VideoCodecs>,
    pub(crate) audio: Arc<AudioEngine>,
    pub(crate) fanout: Fanout,
    pub(crate) pictures: Pictures,
    pub(crate) media: Media,
    /// Camera, microphone and speaker.
    pub(crate) switchboard: Switchboard,
    /// Whether this machine's addresses are watched.
    pub(crate) watch_network: bool,
    /// What can be shared of the screen.
    pub(crate) screen: Option<Screen>,
}

/// The shell's ends.
pub(crate) struct Shell {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) teller: Teller,
    pub(crate) snapshot: watch::Sender<Arc<Snapshot>>,
}

struct Open {
    link: Link,
    user: UserId,
    taps: Taps,
}

struct Session {
    parts: Parts,
    shell: Shell,
    relay: Option<Relay>,
    attempt: u64,
    /// Whether somebody was told why there is no connection to the relay yet.
    told_why: bool,
    links: BTreeMap<LinkId, Open>,
    sending: Sending,
    relay_events: mpsc::Sender<(u64, RelayEvent)>,
    link_events: mpsc::Sender<(LinkId, LinkEvent)>,
    first_pictures: mpsc::Sender<(UserId, Section)>,
    recording: Option<Recording>,
    /// Ends when the relay has been told of our leaving.
    goodbye: Option<JoinHandle<()>>,
    relay_problems: BTreeSet<String>,
    ended: bool,
    /// Kept free for the event that ends the call, however many wait before it.
    last_word: Option<mpsc::OwnedPermit<Event>>,
}

/// Runs until the call is over or the shell has gone.
pub(crate) async fn run(parts: Parts, shell: Shell) {
    let (relay_events, mut from_relay) = mpsc::channel(EVENTS);
    let (link_events, mut from_links) = mpsc::channel(EVENTS);
    let (first_pictures, mut pictures) = mpsc::channel(EVENTS);
    let (changes, mut network) = mpsc::channel(1);
    if parts.watch_network {
        tokio::spawn(network::watch(changes));
    }
    let last_word = shell.teller.reserve();
    let mut session = Session {
        parts,
        shell,
        relay: None,
        attempt: 0,
        told_why: false,
        links: BTreeMap::new(),
        sending: Sending::default(),
        relay_events,
        link_events,
        first_pictures,
        recording: None,
        goodbye: None,
        relay_problems: BTreeSet::new(),
        ended: false,
        last_word,
    };
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        session.drain();
        if session.ended {
            break;
        }
        let timeout = session.parts.call.poll_timeout();
        let alarm = async {
            match timeout {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = session.shell.commands.recv() => match command {
                Some(command) => session.command(command),
                None => session.input(Input::Leave),
            },
            Some((attempt, event)) = from_relay.recv() => session.on_relay(attempt, event),
            Some((link, event)) = from_links.recv() => session.on_link(link, event),
            Some((user, section)) = pictures.recv() => session.on_first_picture(user, section),
            Some(change) = network.recv() => session.on_network(change),
            () = alarm => session.parts.call.handle_timeout(now()),
            _ = look.tick() => session.look(),
        }
    }
    session.publish();
    if let Some(goodbye) = session.goodbye.take() {
        // A relay that is out of reach finds out by itself.
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
    if let Some(recording) = session.stop_recording() {
        recording.finish();
    }
}

impl Session {
    fn input(&mut self, input: Input) {
        self.parts.call.handle_input(input, now());
    }

    fn drain(&mut self) {
        let mut changed = false;
        while let Some(output) = self.parts.call.poll_output() {
            changed = true;
            self.carry_out(output);
        }
        if changed {
            self.publish();
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Connect => {
                self.attempt += 1;
                let connector = Arc::clone(&self.parts.connector);
                let relay = Relay::open(
                    self.attempt,
                    connector,
                    self.parts.target.clone(),
                    self.relay_events.clone(),
                );
                self.relay = Some(relay);
            }
            Output::CloseConnection { code } => {
                // Whatever it still says is of an older attempt.
                self.attempt += 1;
                if let Some(relay) = self.relay.take() {
                    self.goodbye = Some(relay.close(code));
                }
            }
            Output::Send(text) => {
                let sent = self.relay.as_ref().is_some_and(|relay| relay.send(text));
                if !sent && self.relay.take().is_some() {
                    self.attempt += 1;
                    self.input(Input::Disconnected { close_code: None, error: None });
                }
            }
            Output::OpenLink { link, user, ice_servers, .. } => self.open(link, user, ice_servers),
            Output::CloseLink { link } => self.close(link),
            Output::CreateOffer { link, job, ice_restart, rollback } => {
                self.ask(link, Job::CreateOffer { job, ice_restart, rollback });
            }
            Output::AcceptOffer { link, job, sdp, rollback } => {
                self.ask(link, Job::AcceptOffer { job, sdp, rollback });
            }
            Output::AcceptAnswer { link, job, sdp } => self.ask(link, Job::AcceptAnswer { job, sdp }),
            Output::AddCandidate { link, candidate } => self.ask(link, Job::AddCandidate(candidate)),
            Output::SetIceServers { link, ice_servers } => self.ask(link, Job::SetIceServers(ice_servers)),
            Output::SendChannel { link, text } => self.ask(link, Job::SendChannel(text)),
            Output::Tile { link, tile } => self.sending.set_tile(link, tile),
            Output::Event(event) => self.on_call_event(event),
        }
    }

    fn ask(&mut self, link: LinkId, job: Job) {
        if let Some(open) = self.links.get(&link)
            && !open.link.ask(job)
        {
            tracing::warn!(%link, "a link is too far behind and is given up");
            self.input(Input::LinkStateChanged { link, state: IceState::Failed });
        }
    }

    fn open(&mut self, id: LinkId, user: UserId, ice_servers: Vec<snug_wire::IceServer>) {
        let remote = RemoteId(id.0);
        if let Err(error) = self.parts.audio.add(remote) {
            tracing::warn!(%error, "a participant will not be heard");
        }
        let seen = self.link_events.clone();
        let first = self.first_pictures.clone();
        let taps = Taps::default();
        let sinks = Sinks {
            user,
            remote,
            audio: Arc::clone(&self.parts.audio),
            codecs: Arc::clone(&self.parts.codecs),
            pictures: self.parts.pictures.clone(),
            taps: taps.clone(),
            seen: Box::new(move || {
                // A session that is behind learns of it the next time.
                let _ = seen.try_send((id, LinkEvent::MediaSeen));
            }),
            first_picture: Arc::new(move |section| {
                let _ = first.blocking_send((user, section));
            }),
        };
        let factory = self.parts.factory.clone();
        let link =
            Link::open(id, factory, ice_servers, self.parts.fanout.clone(), sinks, self.link_events.clone());
        self.sending.add(id);
        self.links.insert(id, Open { link, user, taps });
        self.record(id);
    }

    fn close(&mut self, link: LinkId) {
        let Some(open) = self.links.remove(&link) else { return };
        self.sending.remove(link);
        open.taps.close();
        // A full queue is emptied within milliseconds; a remote without a link is only silent.
        let _ = self.parts.audio.remove(RemoteId(link.0));
        if !self.links.values().any(|other| other.user == open.user) {
            self.parts.pictures.forget(open.user);
        }
    }

    // What comes in.

    fn on_relay(&mut self, attempt: u64, event: RelayEvent) {
        if attempt != self.attempt {
            return;
        }
        match event {
            RelayEvent::Connected => {
                self.told_why = true;
                self.input(Input::Connected);
            }
            RelayEvent::Failed { failure, code } => {
                self.relay = None;
                // Before the first seat nothing else tells a person why they wait; the last reason comes with the end.
                if !std::mem::replace(&mut self.told_why, true) {
                    self.tell(problem(code, &failure));
                }
                self.input(Input::Disconnected { close_code: None, error: Some(failure) });
            }
            RelayEvent::Closed(close_code) => {
                self.relay = None;
                self.input(Input::Disconnected { close_code, error: None });
            }
            RelayEvent::Message(text) => match Received::decode(&text) {
                Ok(message) => self.input(Input::Received(message)),
                Err(error) => {
                    tracing::debug!(%error, "a message of the relay was not understood");
                    self.input(Input::Unreadable { seq: Received::sequence_of(&text) });
                }
            },
        }
    }

    fn on_link(&mut self, link: LinkId, event: LinkEvent) {
        if !self.links.contains_key(&link) {
            return;
        }
        let is_up = matches!(event, LinkEvent::Peer(PeerEvent::State(PeerState::Connected)));
        let input = match event {
            LinkEvent::Described { job, sdp } => Input::DescriptionReady { link, job, sdp },
            LinkEvent::Failed { job } => Input::DescriptionFailed { link, job },
            LinkEvent::MediaSeen => Input::MediaSeen { link },
            LinkEvent::Peer(event) => match event {
                PeerEvent::Candidate { candidate, mid, mline } => {
                    Input::CandidateFound { link, candidate, sdp_mid: mid, sdp_mline_index: mline }
                }
                PeerEvent::State(PeerState::Connected) => {
                    Input::LinkStateChanged { link, state: IceState::Connected }
                }
                PeerEvent::State(PeerState::Disconnected) => {
                    Input::LinkStateChanged { link, state: IceState::Disconnected }
                }
                PeerEvent::State(PeerState::Failed | PeerState::Closed) => {
                    Input::LinkStateChanged { link, state: IceState::Failed }
                }
                PeerEvent::ChannelOpen => Input::ChannelOpened { link },
                PeerEvent::ChannelClosed => Input::ChannelClosed { link },
                PeerEvent::ChannelMessage(text) => Input::ChannelMessage { link, text },
                PeerEvent::KeyFrameWanted { section } if section.is_video() => {
                    return self.parts.fanout.key_frame_wanted(link, section);
                }
                PeerEvent::RelayProblem(problem) => return self.relay_problem(&problem),
                PeerEvent::KeyFrameWanted { .. }
                | PeerEvent::SenderReport { .. }
                | PeerEvent::GatheringDone => return,
            },
        };
        self.input(input);
        if is_up {
            // The first picture need not wait for the next look.
            self.look();
        }
    }

    /// Every link meets the same servers: each problem is told once.
    fn relay_problem(&mut self, cause: &RelayProblem) {
        let event = problem(cause.code(), cause);
        if self.relay_problems.len() < RELAY_PROBLEMS && self.relay_problems.insert(cause.to_string()) {
            self.tell(event);
        }
    }

    fn command(&mut self, command: Command) {
        let input = match command {
            Command::SetMicrophone { enabled } => {
                if let Err(error) = self.parts.audio.set_muted(!enabled) {
                    return self.tell(problem("audio_busy", &error));
                }
                self.parts.media.audio = enabled;
                Input::SetMedia(self.parts.media)
            }
            Command::SetCamera { enabled } => {
                if enabled && !self.parts.switchboard.has_camera() {
                    let what = "this call was started without a camera; start it with one";
                    return self.tell(problem("no_camera", &what));
                }
                // The others are told what was accepted, not what was asked for.
                if !self.order(Order::SwitchCamera(enabled)) {
                    return;
                }
                self.parts.media.video = enabled;
                Input::SetMedia(self.parts.media)
            }
            Command::SelectCamera { id } => return self.select(DeviceKind::Camera, id),
            Command::SelectMicrophone { id } => return self.select(DeviceKind::Microphone, id),
            Command::SelectSpeaker { id } => return self.select(DeviceKind::Speaker, id),
            Command::SetScreen { enabled } => return self.share_screen(enabled),
            Command::SetHand { raised } => {
                self.parts.media.hand = raised;
                Input::SetMedia(self.parts.media)
            }
            Command::SetTiles { tiles } => {
                let read = |(user, tile): (String, TileSize)| Some((user.parse().ok()?, tile_of(tile)));
                Input::SetTiles(tiles.into_iter().filter_map(read).collect())
            }
            Command::SendChat { text } => Input::SendChat(text),
            Command::SupplyPassword { password } => match Password::new(&password) {
                Ok(password) => Input::SupplyPassword(password),
                Err(error) => return self.tell(problem("password_invalid", &error)),
            },
            Command::SetRecording { folder } => return self.set_recording(folder),
            Command::NetworkChanged => return self.on_network(Change::Moved),
            Command::Retry => Input::RetryNow,
            Command::Kick { user } => return self.about(&user, OwnerRequest::Kick),
            Command::Lock { locked } => Input::Owner(OwnerRequest::Lock(locked)),
            Command::SetPassword { password, hint } => match Password::new(&password) {
                Ok(password) => Input::Owner(OwnerRequest::SetPassword { password, hint }),
                Err(error) => return self.tell(problem("password_invalid", &error)),
            },
            Command::ClearPassword => Input::Owner(OwnerRequest::ClearPassword),
            Command::SetLobby { enabled, anyone } => Input::Owner(OwnerRequest::UpdateSettings {
                max_participants: None,
                allow_screen_share: None,
                lobby: Some(enabled),
                admission: anyone.map(|anyone| if anyone { Admission::Anyone } else { Admission::Owner }),
            }),
            Command::Admit { user, admitted } => {
                return self.about(&user, |user| OwnerRequest::Admit { user, admitted });
            }
            Command::AskMute { user } => return self.about(&user, OwnerRequest::AskMute),
            Command::Unban => Input::Owner(OwnerRequest::Unban),
            Command::OfferOwnership { user } => return self.about(&user, OwnerRequest::OfferOwnership),
            Command::NewLink => Input::Owner(OwnerRequest::NewLink),
            Command::EndCall => Input::Owner(OwnerRequest::EndCall),
            Command::Leave => Input::Leave,
        };
        self.input(input);
    }

    /// Asks for something that is about somebody.
    fn about(&mut self, user: &str, request: impl FnOnce(UserId) -> OwnerRequest) {
        match user.parse() {
            Ok(user) => self.input(Input::Owner(request(user))),
            Err(_) => self.tell(problem("unknown_user", &"nobody has this id; take one from the snapshot")),
        }
    }

    /// The owner asks for it: whoever is asked is muted, and unmutes when they want to.
    fn mute(&mut self) {
        if let Err(error) = self.parts.audio.set_muted(true) {
            return self.tell(problem("audio_busy", &error));
        }
        self.parts.media.audio = false;
        self.input(Input::SetMedia(self.parts.media));
    }

    /// The others are told that they are recorded, as long as they are.
    fn show_recording(&mut self) {
        self.parts.media.recording = self.recording.is_some();
        self.input(Input::SetMedia(self.parts.media));
    }

    fn set_recording(&mut self, folder: Option<PathBuf>) {
        let Some(folder) = folder else {
            // Its files are finished by their own threads.
            drop(self.stop_recording());
            return self.show_recording();
        };
        let what = folder.display().to_string();
        // A recording goes on where another one cannot begin.
        match Recording::new(folder, self.shell.teller.clone()) {
            Ok(recording) => {
                drop(self.stop_recording());
                self.recording = Some(recording);
            }
            Err(error) => {
                return self
                    .tell(problem("record_folder", &format!("{what}: {error}; choose another folder")));
            }
        }
        self.show_recording();
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            self.record(link);
        }
    }

    /// Records a link, if recording is on.
    fn record(&mut self, link: LinkId) {
        let (Some(recording), Some(open)) = (&mut self.recording, self.links.get(&link)) else { return };
        let call = self.parts.call.snapshot();
        let known = call.participants.iter().find(|participant| participant.user == open.user);
        let sound = recording.start(open.user, known.map_or("", |known| &known.name), &open.taps);
        if self.parts.audio.record(RemoteId(link.0), Some(sound)).is_err() {
            self.tell(problem(
                "recording",
                &"the sound engine is too far behind to record; close other programs",
            ));
        }
    }

    fn stop_recording(&mut self) -> Option<Recording> {
        let recording = self.recording.take()?;
        for (link, open) in &self.links {
            open.taps.close();
            // An engine that is too far behind finishes its files when it ends.
            let _ = self.parts.audio.record(RemoteId(link.0), None);
        }
        Some(recording)
    }

    fn select(&mut self, kind: DeviceKind, id: Option<String>) {
        self.order(Order::Select(kind, id));
    }

    /// Whether it was accepted; if not, somebody is told.
    fn order(&mut self, order: Order) -> bool {
        let accepted = self.parts.switchboard.order(order);
        if let Err(refused) = accepted {
            self.tell(problem(refused.code(), &refused));
        }
        accepted.is_ok()
    }

    fn share_screen(&mut self, enabled: bool) {
        let Some(screen) = &mut self.parts.screen else {
            return self
                .tell(problem("no_screen", &"nothing was given to share; start the call with a screen"));
        };
        if let Err(error) = screen.set_shared(enabled) {
            return self.tell(problem(
                "no_threads",
                &format!("the screen is not shared: {error}; close other programs"),
            ));
        }
        self.parts.media.screen = enabled;
        self.input(Input::SetMedia(self.parts.media));
    }

    fn on_network(&mut self, change: Change) {
        tracing::debug!(?change, "the network changed");
        self.input(match change {
            Change::Moved => {
                if let Some(relay) = &self.relay {
                    relay.rebind();
                }
                Input::NetworkChanged
            }
            Change::Other => Input::RetryNow,
        });
    }

    fn on_first_picture(&mut self, user: UserId, section: Section) {
        let source = if section == Section::Screen { "screen" } else { "camera" };
        self.tell(Event::FirstPicture { user: user.to_string(), source });
    }

    fn on_call_event(&mut self, event: CallEvent) {
        if matches!(event, CallEvent::Ended { .. }) {
            self.ended = true;
        }
        match &event {
            CallEvent::ScreenShareForbidden => self.share_screen(false),
            CallEvent::MuteRequested(_) => self.mute(),
            // A few hundred bytes without a wait for the disk: they have to be written before the join that follows is sent.
            CallEvent::KeepIdentity(kept) => {
                if let Some(Err(error)) = self.parts.identity_store.as_ref().map(|store| store.keep(kept)) {
                    self.parts.identity_store = None;
                    self.tell(not_kept(&error));
                }
            }
            CallEvent::ForgetIdentity => {
                if let Some(store) = &self.parts.identity_store {
                    store.forget();
                }
            }
            _ => {}
        }
        let (target, room) = (&self.parts.target, &self.parts.room);
        let link_with = |secret: &RoomSecret| {
            let scheme = if target.tls { "https" } else { "http" };
            format!("{scheme}://{}/room/{room}#{secret}", target.authority())
        };
        let Some(event) = view::event(event, &self.parts.call.snapshot(), &link_with) else { return };
        match self.last_word.take_if(|_| self.ended) {
            Some(last_word) => {
                last_word.send(event);
            }
            None => {
                // A listener that reads the snapshot because of an event finds there what it was told.
                self.publish();
                self.tell(event);
            }
        }
    }

    // What goes out.

    fn look(&mut self) {
        let shown = self.parts.switchboard.is_camera_shown();
        if self.parts.media.video != shown {
            self.parts.media.video = shown;
            self.input(Input::SetMedia(self.parts.media));
        }
        let camera = self.parts.switchboard.camera_size();
        if self.parts.screen.as_ref().is_some_and(Screen::has_ended) {
            self.share_screen(false);
        }
        let screen = self.parts.screen.as_ref().and_then(Screen::shared_size);
        self.sending.plan(Instant::now(), camera, screen, &self.parts.fanout, &self.parts.audio);
        self.publish();
    }

    fn publish(&self) {
        let call = self.parts.call.snapshot();
        let link_of =
            |user| self.links.iter().rev().find(|(_, open)| open.user == user).map(|(link, _)| *link);
        let snapshot = view::snapshot(
            &call,
            &self.parts.audio.snapshot(),
            &self.parts.pictures,
            &self.parts.fanout,
            &link_of,
        );
        self.shell.snapshot.send_if_modified(|shown| {
            let changed = **shown != snapshot;
            if changed {
                *shown = Arc::new(snapshot);
            }
            changed
        });
    }

    fn tell(&self, event: Event) {
        self.shell.teller.tell(event);
    }
}

fn tile_of(tile: TileSize) -> Tile {
    let TileSize { width, height, screen_width, screen_height } = tile;
    Tile { width, height, screen_width, screen_height }
}

pub(crate) fn problem(code: &str, message: &dyn std::fmt::Display) -> Event {
    Event::Problem { code: code.to_owned(), message: message.to_string() }
}

pub(crate) fn not_kept(error: &std::io::Error) -> Event {
    let message = format!(
        "after a crash you would come back as somebody else: who you are here cannot be written down ({error}); choose another \
         folder for it"
    );
    problem("identity_not_kept", &message)
}

pub(crate) fn now() -> Now {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Now { at: Instant::now(), unix_ms }
}
