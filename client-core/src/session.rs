//! The task that owns a call: feeds it what happens, carries out what it asks, and tells the shell. It decides nothing itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use snug_audio::{AudioEngine, RemoteId};
use snug_call_proto::{Call, CallEvent, IceState, Input, LinkId, Now, Output, OwnerRequest, Tile};
use snug_media_proto::section::Section;
use snug_rtc::{Factory, PeerEvent, PeerState};
use snug_signaling::{Connector, Target};
use snug_video::VideoCodecs;
use snug_wire::message::Received;
use snug_wire::{Media, Password, UserId};
use tokio::sync::{mpsc, watch};

use crate::api::{Command, Event, Snapshot, TileSize};
use crate::fanout::Fanout;
use crate::link::{Job, Link, LinkEvent};
use crate::pictures::Pictures;
use crate::receive::Sinks;
use crate::relay::{Relay, RelayEvent};
use crate::screen::Screen;
use crate::sending::Sending;
use crate::view;

/// How often levels and link quality are read.
const LOOK: Duration = Duration::from_millis(100);
/// Events of links and of the relay that wait for the session; senders wait when it is full.
const EVENTS: usize = 256;

/// What a session works with.
pub(crate) struct Parts {
    pub(crate) call: Call,
    pub(crate) connector: Arc<Connector>,
    pub(crate) target: Target,
    pub(crate) factory: Factory,
    pub(crate) codecs: Arc<dyn VideoCodecs>,
    pub(crate) audio: Arc<AudioEngine>,
    pub(crate) fanout: Fanout,
    pub(crate) pictures: Pictures,
    pub(crate) media: Media,
    /// Camera picture's size, for the layers.
    pub(crate) camera: Option<(u32, u32)>,
    /// What can be shared of the screen.
    pub(crate) screen: Option<Screen>,
}

/// The shell's ends.
pub(crate) struct Shell {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) snapshot: watch::Sender<Arc<Snapshot>>,
    pub(crate) missed: Arc<AtomicU64>,
}

struct Open {
    link: Link,
    user: UserId,
}

struct Session {
    parts: Parts,
    shell: Shell,
    relay: Option<Relay>,
    attempt: u64,
    links: BTreeMap<LinkId, Open>,
    sending: Sending,
    relay_events: mpsc::Sender<(u64, RelayEvent)>,
    link_events: mpsc::Sender<(LinkId, LinkEvent)>,
    first_pictures: mpsc::Sender<(UserId, Section)>,
    ended: bool,
}

/// Runs until the call is over or the shell has gone.
pub(crate) async fn run(parts: Parts, shell: Shell) {
    let (relay_events, mut from_relay) = mpsc::channel(EVENTS);
    let (link_events, mut from_links) = mpsc::channel(EVENTS);
    let (first_pictures, mut pictures) = mpsc::channel(EVENTS);
    let mut session = Session {
        parts,
        shell,
        relay: None,
        attempt: 0,
        links: BTreeMap::new(),
        sending: Sending::default(),
        relay_events,
        link_events,
        first_pictures,
        ended: false,
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
            () = alarm => session.parts.call.handle_timeout(now()),
            _ = look.tick() => session.look(),
        }
    }
    session.publish();
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
                    relay.close(code);
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
        let sinks = Sinks {
            user,
            remote,
            audio: Arc::clone(&self.parts.audio),
            codecs: Arc::clone(&self.parts.codecs),
            pictures: self.parts.pictures.clone(),
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
        self.links.insert(id, Open { link, user });
    }

    fn close(&mut self, link: LinkId) {
        let Some(open) = self.links.remove(&link) else { return };
        self.sending.remove(link);
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
            RelayEvent::Connected => self.input(Input::Connected),
            RelayEvent::Failed(error) => {
                self.relay = None;
                self.input(Input::Disconnected { close_code: None, error: Some(error) });
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
                PeerEvent::KeyFrameWanted { section: Section::Camera } => {
                    return self.parts.fanout.key_frame_wanted(link);
                }
                PeerEvent::KeyFrameWanted { section: Section::Screen } => {
                    return self.parts.fanout.screen_key_frame_wanted();
                }
                PeerEvent::KeyFrameWanted { .. }
                | PeerEvent::SenderReport { .. }
                | PeerEvent::GatheringDone => return,
            },
        };
        self.input(input);
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
                let enabled = enabled && self.parts.camera.is_some();
                self.parts.media.video = enabled;
                Input::SetMedia(self.parts.media)
            }
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
            Command::SupplyPassword { password } => Input::SupplyPassword(Password::new(password)),
            Command::NetworkChanged => Input::NetworkChanged,
            Command::Retry => Input::RetryNow,
            Command::Kick { user } => match user.parse() {
                Ok(user) => Input::Owner(OwnerRequest::Kick(user)),
                Err(_) => {
                    return self
                        .tell(problem("unknown_user", &"nobody has this id; take one from the snapshot"));
                }
            },
            Command::Lock { locked } => Input::Owner(OwnerRequest::Lock(locked)),
            Command::Leave => Input::Leave,
        };
        self.input(input);
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

    fn on_first_picture(&mut self, user: UserId, section: Section) {
        let source = if section == Section::Screen { "screen" } else { "camera" };
        self.tell(Event::FirstPicture { user: user.to_string(), source });
    }

    fn on_call_event(&mut self, event: CallEvent) {
        if matches!(event, CallEvent::Ended { .. }) {
            self.ended = true;
        }
        if matches!(event, CallEvent::ScreenShareForbidden) {
            self.share_screen(false);
        }
        if let Some(event) = view::event(event, &self.parts.call.snapshot()) {
            self.tell(event);
        }
    }

    // What goes out.

    fn look(&mut self) {
        let camera = self.parts.media.video.then_some(self.parts.camera).flatten();
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
        // A shell that does not read must not stop the call; the snapshot still tells it how things are.
        if self.shell.events.try_send(event).is_err() {
            self.shell.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn tile_of(tile: TileSize) -> Tile {
    let TileSize { width, height, screen_width, screen_height } = tile;
    Tile { width, height, screen_width, screen_height }
}

pub(crate) fn problem(code: &str, message: &dyn std::fmt::Display) -> Event {
    Event::Problem { code: code.to_owned(), message: message.to_string() }
}

pub(crate) fn now() -> Now {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Now { at: Instant::now(), unix_ms }
}
