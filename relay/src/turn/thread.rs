//! The thread "turn": it owns the rules, all UDP sockets, and what is known of streams. One round after the other:
//!
//! 1. Wait for packets, for the mailbox, or for an allocation to expire.
//! 2. Do what others say, and hand in the frames of streams.
//! 3. Receive from each socket that has something, a batch at most before the next socket's turn, and hand each packet to the rules.
//! 4. Send everything that came of it.
//!
//! It never blocks but in step 1, and in the pause of a busy server.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll};
use snug_turn_proto::{
    FiveTuple, Forward, Input, Now, Output, Target, Transport, TurnServer, Verdict, frame_length,
};
use snug_udp::{ReceiveArena, SendQueue, UdpOptions, UdpSocket};
use tokio::sync::mpsc;
use tracing::{debug, error};

use super::coalesce::Coalescer;
use super::mailbox::{Control, Mailbox};
use super::outbox::Leg;
use super::sockets::{Key, Sockets, WAKER, Which};
use super::stream::Chunk;
use super::{Counters, TurnSettings};
use crate::machine::Interfaces;

/// Messages of one batch, each a datagram or a run of them.
const BATCH: usize = 64;
/// A batch that has less room than this is sent before more is received.
const WORTHWHILE: usize = BATCH / 4;
/// Chunks of streams in one round, so that datagrams get their turn, and messages in them: a chunk can have thousands.
const CHUNKS: usize = 32;
const MESSAGES: usize = 256;
/// How long a stream may have no allocation, from its first message or from the end of the last one. What it says meanwhile changes
/// nothing, or strangers could hold every place.
const IDLE: Duration = Duration::from_secs(60);
/// Messages of a stream that never had an allocation. It takes a client two to get one.
const FRUITLESS: usize = 64;
/// How often such streams are looked for.
const SWEEP: Duration = Duration::from_secs(10);

pub(super) struct TurnThread {
    server: TurnServer,
    poll: Poll,
    sockets: Sockets,
    mailbox: Arc<Mailbox>,
    chunks: mpsc::Receiver<Chunk>,
    /// The chunk that the last round did not get through.
    begun: Option<Begun>,
    streams: HashMap<FiveTuple, Stream>,
    next_sweep: Instant,
    arena: ReceiveArena,
    queue: SendQueue,
    coalescer: Coalescer,
    counters: Arc<Counters>,
}

/// What the thread knows of a stream.
struct Stream {
    leg: Arc<Leg>,
    /// When it was last known to have an allocation, or else when it came.
    held: Instant,
    /// What it has said without ever having had one. `None` when it has had.
    fruitless: Option<usize>,
}

/// Messages of a stream, of which those before `next` are done.
struct Begun {
    leg: Arc<Leg>,
    bytes: Vec<u8>,
    next: usize,
}

/// Where a packet lies that is passed on.
enum Packet<'a> {
    /// At this place in the arena.
    Arena(Range<usize>),
    Elsewhere(&'a [u8]),
}

impl TurnThread {
    pub(super) fn new(
        settings: TurnSettings,
        seed: [u8; 32],
        listeners: Vec<UdpSocket>,
        chunks: mpsc::Receiver<Chunk>,
        counters: Arc<Counters>,
    ) -> io::Result<(Self, Arc<Mailbox>)> {
        let now = now();
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox::new(poll.registry(), WAKER)?);
        let relay_options = UdpOptions {
            receive_buffer: settings.relay_buffer,
            send_buffer: settings.relay_buffer,
            per_packet: settings.per_packet,
            learn_destination: false,
        };
        let thread = Self {
            sockets: Sockets::new(&poll, listeners, relay_options, settings.max_relay_sockets)?,
            server: TurnServer::new(settings.proto, seed, now),
            poll,
            mailbox: mailbox.clone(),
            chunks,
            begun: None,
            streams: HashMap::new(),
            next_sweep: now.at + SWEEP,
            arena: ReceiveArena::new(BATCH),
            queue: SendQueue::new(),
            coalescer: Coalescer::new(settings.linger, now.at),
            counters,
        };
        Ok((thread, mailbox))
    }

    /// Until it is told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut more_chunks = false;
        let mut began = Instant::now();
        loop {
            let timeout = if more_chunks { Some(Duration::ZERO) } else { self.timeout(began) };
            if let Err(error) = self.sockets.wait(&mut self.poll, &mut events, timeout) {
                error!(%error, "the TURN server cannot wait for packets any more; start the relay again");
                break;
            }
            let now = now();
            began = now.at;
            self.expire(now);
            if self.mailbox.has_rung() || more_chunks {
                if !self.letters(now) {
                    break;
                }
                more_chunks = self.frames(now);
            }
            let packets = self.datagrams(now);
            self.flush();
            self.coalescer.count(packets, began);
            let more = more_chunks || self.sockets.waiting() > 0;
            if packets > 0
                && !more
                && self.coalescer.is_busy()
                && let Some(pause) = self.coalescer.pause(began, Instant::now())
            {
                std::thread::sleep(pause);
            }
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        let sweep = (!self.streams.is_empty()).then_some(self.next_sweep);
        let next = [self.server.poll_timeout(), sweep].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    fn expire(&mut self, now: Now) {
        if self.server.poll_timeout().is_some_and(|due| due <= now.at) {
            self.server.handle_timeout(now);
            self.outputs(now);
        }
        if now.at >= self.next_sweep {
            self.next_sweep = now.at + SWEEP;
            for (client, stream) in &mut self.streams {
                if self.server.has_allocation(client, now) {
                    stream.held = now.at;
                } else if now.at.saturating_duration_since(stream.held) > IDLE {
                    // Its task says when it is gone.
                    stream.leg.close();
                }
            }
        }
    }

    /// What the relay says. `false` when it is time to end.
    fn letters(&mut self, now: Now) -> bool {
        for control in self.mailbox.take() {
            let input = match control {
                Control::Admit(account) => Input::Admit(account),
                Control::Revoke(account) => Input::Revoke(account),
                Control::Drain => Input::Drain,
                Control::OwnAddresses(Interfaces { addresses: own, on_link }) => {
                    Input::OwnAddresses { own, on_link }
                }
                Control::Stats(answer) => {
                    // Whoever asked may have gone.
                    let _ = answer.send((self.server.stats().clone(), self.streams.len()));
                    continue;
                }
                Control::Stop => return false,
            };
            self.server.handle_input(input, now);
            self.outputs(now);
        }
        true
    }

    /// What streams say. Whether there may be more.
    fn frames(&mut self, now: Now) -> bool {
        let mut left = MESSAGES;
        for _ in 0..CHUNKS {
            let begun = self.begun.take().map(|begun| (Chunk::Messages(begun.leg, begun.bytes), begun.next));
            let Some((chunk, next)) = begun.or_else(|| self.chunks.try_recv().ok().map(|chunk| (chunk, 0)))
            else {
                return false;
            };
            match chunk {
                Chunk::Messages(leg, bytes) => {
                    let next = next + self.messages(&leg, &bytes[next..], &mut left, now);
                    if next < bytes.len() {
                        self.begun = Some(Begun { leg, bytes, next });
                        break;
                    }
                }
                Chunk::Gone(leg) => {
                    if self.streams.get(&leg.five_tuple).is_some_and(|known| Arc::ptr_eq(&known.leg, &leg)) {
                        self.streams.remove(&leg.five_tuple);
                        self.client_gone(leg.five_tuple, now);
                    }
                }
            }
        }
        true
    }

    /// Hands whole messages of a stream to the rules, `left` of them at most. Returns how many bytes are done with.
    fn messages(&mut self, leg: &Arc<Leg>, bytes: &[u8], left: &mut usize, now: Now) -> usize {
        if leg.is_closed() {
            return bytes.len();
        }
        let from = leg.five_tuple;
        let known = self.streams.get(&from);
        if known.is_none_or(|known| !Arc::ptr_eq(&known.leg, leg)) {
            // The same addresses again: the connection before is gone, and its end is still on its way here.
            let had_another = known.is_some();
            self.streams.insert(from, Stream { leg: leg.clone(), held: now.at, fruitless: Some(0) });
            if had_another {
                self.client_gone(from, now);
            }
        }
        let mut done = 0;
        while *left > 0 {
            let length = frame_length(&bytes[done..]).ok().flatten();
            let Some(message) = length.and_then(|length| bytes.get(done..done + length)) else {
                return bytes.len();
            };
            done += message.len();
            *left -= 1;
            match self.server.handle_client(&from, message, now) {
                Verdict::Forward(forward) => self.forward(&forward, &Packet::Elsewhere(message), now),
                Verdict::Handled => self.outputs(now),
                Verdict::Dropped => {}
            }
            if self.is_fruitless(&from, now) {
                leg.close();
                return bytes.len();
            }
        }
        done
    }

    /// Counts a message of a stream that has not had an allocation yet. Whether it was one too many.
    fn is_fruitless(&mut self, from: &FiveTuple, now: Now) -> bool {
        let Some(Stream { held, fruitless: said @ Some(_), .. }) = self.streams.get_mut(from) else {
            return false;
        };
        if self.server.has_allocation(from, now) {
            (*held, *said) = (now.at, None);
            return false;
        }
        *said = said.map(|said| said + 1);
        *said >= Some(FRUITLESS)
    }

    fn client_gone(&mut self, client: FiveTuple, now: Now) {
        self.server.handle_input(Input::ClientGone(client), now);
        self.outputs(now);
    }

    /// One turn for each socket that has something. Returns how many packets came.
    fn datagrams(&mut self, now: Now) -> usize {
        let mut packets = 0;
        for _ in 0..self.sockets.waiting() {
            if self.arena.room() < WORTHWHILE {
                self.flush();
            }
            let Some(key) = self.sockets.next() else { break };
            let Some(socket) = self.sockets.get(key) else { continue };
            let (room, first) = (self.arena.room(), self.arena.len());
            match socket.receive(&mut self.arena) {
                Ok(count) => {
                    if count == room {
                        self.sockets.mark(key);
                    }
                }
                Err(error) => debug!(%error, "a socket cannot be read"),
            }
            packets += self.handle(key, first, now);
        }
        packets
    }

    /// Hands the packets of the arena, from message `first` on, to the rules.
    fn handle(&mut self, key: Key, first: usize, now: Now) -> usize {
        let Some(which) = self.sockets.which(key) else { return 0 };
        let mut packets = 0;
        for index in first..self.arena.len() {
            let message = self.arena.message(index);
            let from = |local: SocketAddr| FiveTuple {
                transport: Transport::Udp,
                client: message.from,
                server: message.to.map_or(local, |to| SocketAddr::new(to, local.port())),
            };
            let client = match which {
                Which::Listener(local) => Some(from(local)),
                Which::Relay(_) => None,
            };
            for place in message.datagrams() {
                packets += 1;
                let packet = self.arena.bytes(place.clone());
                let verdict = match (&client, &which) {
                    (Some(client), _) => self.server.handle_client(client, packet, now),
                    (None, Which::Relay(relay)) => self.server.handle_peer(*relay, message.from, packet, now),
                    (None, Which::Listener(_)) => continue,
                };
                match verdict {
                    Verdict::Forward(forward) => self.forward(&forward, &Packet::Arena(place), now),
                    Verdict::Handled => self.outputs(now),
                    Verdict::Dropped => {}
                }
            }
        }
        packets
    }

    fn forward(&mut self, forward: &Forward, packet: &Packet<'_>, now: Now) {
        let (key, to, from) = match forward.target {
            Target::Client(client) if client.transport.is_stream() => {
                return self.forward_to_stream(&client, forward, packet, now);
            }
            Target::Client(client) => match self.sockets.listener_for(client.server) {
                Some((key, from)) => (key, client.client, from),
                None => return,
            },
            Target::Peer { relay, peer } => (Sockets::key_of(relay), peer, None),
        };
        match packet {
            Packet::Arena(place) => {
                let body = place.start + forward.body.start..place.start + forward.body.end;
                let (room, arena) = (forward.body.start, &mut self.arena);
                self.queue.push(key, forward.flow, to, from, &forward.head, body, forward.pad, room, arena);
            }
            Packet::Elsewhere(bytes) => {
                let body = &bytes[forward.body.clone()];
                self.queue.push_outside(key, forward.flow, to, from, &forward.head, body, forward.pad);
            }
        }
    }

    fn forward_to_stream(&mut self, client: &FiveTuple, forward: &Forward, packet: &Packet<'_>, now: Now) {
        let Some(stream) = self.streams.get(client) else { return };
        let bytes = match packet {
            Packet::Arena(place) => self.arena.bytes(place.clone()),
            Packet::Elsewhere(bytes) => bytes,
        };
        let pad = &[0; 3][..usize::from(forward.pad.min(3))];
        stream.leg.push_media([&forward.head, &bytes[forward.body.clone()], pad], now.at);
    }

    /// Does what the rules want done.
    fn outputs(&mut self, now: Now) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Reply { to, message } if to.transport.is_stream() => {
                    if let Some(stream) = self.streams.get(&to) {
                        stream.leg.push_answer(message);
                    }
                }
                Output::Reply { to, message } => {
                    if let Some((key, from)) = self.sockets.listener_for(to.server) {
                        self.queue.push_copy(key, to.client, from, &message);
                    }
                }
                Output::OpenRelaySocket { relay, bind } => {
                    let input = match self.sockets.open(&self.poll, relay, bind) {
                        Ok(()) => Input::RelaySocketOpened(relay),
                        Err(error) => {
                            debug!(%error, %bind, "a relay socket cannot be opened");
                            Input::RelaySocketFailed(relay)
                        }
                    };
                    self.server.handle_input(input, now);
                }
                Output::CloseRelaySocket { relay } => {
                    // What is queued for it leaves first.
                    self.send();
                    self.sockets.close(relay);
                }
                Output::CloseClient { to } => {
                    if let Some(stream) = self.streams.get(&to) {
                        stream.leg.close();
                    }
                }
            }
        }
    }

    fn send(&mut self) {
        let Self { queue, arena, sockets, .. } = self;
        let sent = queue.flush(arena, |key| sockets.get(key));
        if sent.lost > 0 {
            self.counters.lost.fetch_add(sent.lost, Ordering::Relaxed);
        }
    }

    /// Sends everything, after which nothing needs the arena's packets any more.
    fn flush(&mut self) {
        self.send();
        self.arena.clear();
    }
}

/// However the thread ends, a panic included, nobody waits for it.
impl Drop for TurnThread {
    fn drop(&mut self) {
        self.mailbox.close();
        self.streams.values().for_each(|stream| stream.leg.close());
    }
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Now { at: Instant::now(), unix }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use snug_turn_proto::{Account, FiveTuple, Input, Now, Secret, Transport, TurnConfig};
    use stun_types::attribute::{Nonce, Realm, Username};
    use stun_types::message::{IntegrityAlgorithm, LongTermKeyCredentials, Message, MessageWriteVec};
    use stun_types::prelude::*;
    use tokio::sync::mpsc;
    use turn_types::attribute::RequestedTransport;
    use turn_types::message::ALLOCATE;

    use super::{Chunk, Counters, FRUITLESS, Leg, MESSAGES, TurnSettings, TurnThread, now};

    /// For a channel that is not bound.
    const CHANNEL_DATA: [u8; 4] = [0x40, 0, 0, 0];

    fn thread() -> (TurnThread, Arc<Leg>) {
        let (_, chunks) = mpsc::channel(1);
        let proto = TurnConfig { secrets: vec![Secret::new(b"north".to_vec())], ..TurnConfig::default() };
        let settings = TurnSettings::new(Vec::new(), Vec::new(), proto);
        let counters = Arc::new(Counters::default());
        let (thread, _) =
            TurnThread::new(settings, [0; 32], Vec::new(), chunks, counters.clone()).expect("a poll");
        let address = "192.0.2.1:1".parse().expect("an address");
        let five_tuple = FiveTuple { transport: Transport::Tcp, client: address, server: address };
        (thread, Arc::new(Leg::new(five_tuple, counters)))
    }

    fn say(thread: &mut TurnThread, leg: &Arc<Leg>, bytes: &[u8], now: Now) {
        assert_eq!(thread.messages(leg, bytes, &mut MESSAGES.clone(), now), bytes.len());
    }

    /// The client of `leg` gets an allocation of ten minutes.
    async fn allocate(thread: &mut TurnThread, leg: &Arc<Leg>, now: Now) {
        thread.server.handle_input(Input::Admit(Account { group: "a".into(), owner: "b".into() }), now);
        let request = || {
            let mut request = Message::builder_request(ALLOCATE, MessageWriteVec::new());
            request.add_attribute(&RequestedTransport::new(17)).expect("it fits");
            request
        };
        say(thread, leg, &request().finish(), now);
        let mut answer = Vec::new();
        assert!(leg.take(&mut answer).await);
        let challenge = Message::from_bytes(&answer).expect("a message");
        let realm = challenge.attribute::<Realm>().expect("a realm").realm().to_owned();
        let nonce = challenge.attribute::<Nonce>().expect("a nonce").nonce().to_owned();
        let username = "4000000000:a.b";
        let password = Secret::new(b"north".to_vec()).password(username).to_string();
        let credentials = LongTermKeyCredentials::new(username.to_owned(), password, realm.clone());
        let mut request = request();
        request.add_attribute(&Username::new(username).expect("short")).expect("it fits");
        request.add_attribute(&Realm::new(&realm).expect("short")).expect("it fits");
        request.add_attribute(&Nonce::new(&nonce).expect("short")).expect("it fits");
        let key = credentials.make_key(IntegrityAlgorithm::Sha1);
        request.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).expect("it fits");
        say(thread, leg, &request.finish(), now);
        assert!(thread.server.has_allocation(&leg.five_tuple, now));
    }

    #[test]
    fn a_stream_without_an_allocation_is_closed_after_a_minute_whatever_it_says() {
        let (mut thread, leg) = thread();
        let start = now();
        let after = |seconds| Now { at: start.at + Duration::from_secs(seconds), unix: start.unix };
        for said in [0, 25, 50] {
            say(&mut thread, &leg, &CHANNEL_DATA, after(said));
            thread.expire(after(said + 5));
        }
        assert!(!leg.is_closed());
        thread.expire(after(65));
        assert!(leg.is_closed());
    }

    #[test]
    fn a_stream_that_says_much_and_never_has_an_allocation_is_closed() {
        let (mut thread, leg) = thread();
        let now = now();
        say(&mut thread, &leg, &CHANNEL_DATA.repeat(FRUITLESS - 1), now);
        assert!(!leg.is_closed());
        say(&mut thread, &leg, &CHANNEL_DATA, now);
        assert!(leg.is_closed());
    }

    #[tokio::test]
    async fn a_round_takes_so_many_messages_and_the_next_one_goes_on_where_it_stopped() {
        let (mut thread, leg) = thread();
        let now = now();
        let (chunks_in, chunks) = mpsc::channel(4);
        thread.chunks = chunks;
        allocate(&mut thread, &leg, now).await;
        let messages = |count| Chunk::Messages(leg.clone(), CHANNEL_DATA.repeat(count));
        for chunk in [messages(MESSAGES - 1), messages(MESSAGES), messages(2), Chunk::Gone(leg.clone())] {
            assert!(chunks_in.try_send(chunk).is_ok());
        }
        let left = |thread: &TurnThread| thread.begun.as_ref().map(|begun| begun.next / CHANNEL_DATA.len());
        assert!(thread.frames(now));
        assert_eq!((left(&thread), thread.chunks.len()), (Some(1), 2));
        assert!(thread.frames(now));
        assert_eq!((left(&thread), thread.chunks.len()), (Some(1), 1), "of the third chunk");
        assert!(!thread.streams.is_empty(), "its end does not overtake what it said");
        assert!(!thread.frames(now));
        assert!(thread.begun.is_none() && thread.streams.is_empty());
    }

    #[tokio::test]
    async fn a_stream_with_an_allocation_may_say_nothing_or_much_as_long_as_that_lives() {
        let (mut thread, leg) = thread();
        let start = now();
        let after = |seconds| Now { at: start.at + Duration::from_secs(seconds), unix: start.unix };
        allocate(&mut thread, &leg, start).await;
        say(&mut thread, &leg, &CHANNEL_DATA.repeat(2 * FRUITLESS), start);
        (1..65).for_each(|n| thread.expire(after(n * 10)));
        assert!(!leg.is_closed(), "its allocation lived until less than a minute before");
        say(&mut thread, &leg, &CHANNEL_DATA, after(650));
        thread.expire(after(670));
        assert!(leg.is_closed());
    }

    #[test]
    fn another_stream_of_the_same_addresses_takes_the_place_of_the_first() {
        let (mut thread, first) = thread();
        let second = Arc::new(Leg::new(first.five_tuple, Arc::default()));
        let now = now();
        say(&mut thread, &first, &CHANNEL_DATA, now);
        say(&mut thread, &second, &CHANNEL_DATA, now);
        assert!(Arc::ptr_eq(&thread.streams[&first.five_tuple].leg, &second));
        drop(thread);
        assert!(second.is_closed(), "nobody would ever close it otherwise");
    }
}
