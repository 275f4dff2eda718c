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

/// Messages of one batch, each a datagram or a run of them.
const BATCH: usize = 64;
/// A batch that has less room than this is sent before more is received.
const WORTHWHILE: usize = BATCH / 4;
/// Chunks of streams in one round, so that datagrams get their turn.
const CHUNKS: usize = 32;
/// How long a stream without an allocation may stay silent.
const IDLE: Duration = Duration::from_secs(60);
/// How often such streams are looked for.
const SWEEP: Duration = Duration::from_secs(10);

pub(super) struct TurnThread {
    server: TurnServer,
    poll: Poll,
    sockets: Sockets,
    mailbox: Arc<Mailbox>,
    chunks: mpsc::Receiver<Chunk>,
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
    /// When it last said something.
    heard: Instant,
    /// Until when it has an allocation, as the last answer said.
    holds_until: Option<Instant>,
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
            if packets > 0
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
            for stream in self.streams.values() {
                let holds = stream.holds_until.is_some_and(|until| until > now.at);
                if !holds && now.at.saturating_duration_since(stream.heard) > IDLE {
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
        for _ in 0..CHUNKS {
            let Ok(chunk) = self.chunks.try_recv() else { return false };
            match chunk {
                Chunk::Messages(leg, bytes) => self.messages(leg, &bytes, now),
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

    fn messages(&mut self, leg: Arc<Leg>, mut bytes: &[u8], now: Now) {
        if leg.is_closed() {
            return;
        }
        let from = leg.five_tuple;
        match self.streams.get_mut(&from) {
            Some(known) if Arc::ptr_eq(&known.leg, &leg) => known.heard = now.at,
            known => {
                // The same addresses again: the connection before is gone, and its end is still on its way here.
                let had_another = known.is_some();
                self.streams.insert(from, Stream { leg: leg.clone(), heard: now.at, holds_until: None });
                if had_another {
                    self.client_gone(from, now);
                }
            }
        }
        while let Ok(Some(length)) = frame_length(bytes)
            && let Some((message, rest)) = bytes.split_at_checked(length)
        {
            bytes = rest;
            match self.server.handle_client(&from, message, now) {
                Verdict::Forward(forward) => self.forward(&forward, &Packet::Elsewhere(message), now),
                Verdict::Handled => self.outputs(now),
                Verdict::Dropped => {}
            }
        }
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
                    if let Some(stream) = self.streams.get_mut(&to) {
                        if let Some(lifetime) = granted_lifetime(&message) {
                            stream.holds_until = now.at.checked_add(lifetime);
                        }
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

/// The LIFETIME in a success to Allocate or Refresh (RFC 8656 §7.3, §8.3; RFC 8489 §5): until then the stream has an allocation.
fn granted_lifetime(message: &[u8]) -> Option<Duration> {
    const ALLOCATE_SUCCESS: [u8; 2] = [0x01, 0x03];
    const REFRESH_SUCCESS: [u8; 2] = [0x01, 0x04];
    const LIFETIME: [u8; 4] = [0x00, 0x0d, 0x00, 0x04];
    let (header, mut attributes) = message.split_at_checked(20)?;
    if ![ALLOCATE_SUCCESS, REFRESH_SUCCESS].contains(&[header[0], header[1]]) {
        return None;
    }
    while let Some((head, rest)) = attributes.split_first_chunk::<4>() {
        if *head == LIFETIME {
            return rest
                .first_chunk()
                .map(|seconds| Duration::from_secs(u32::from_be_bytes(*seconds).into()));
        }
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use snug_turn_proto::{FiveTuple, Now, Transport, TurnConfig};
    use tokio::sync::mpsc;

    use super::{Counters, Leg, TurnSettings, TurnThread, granted_lifetime, now};

    fn thread() -> (TurnThread, Arc<Leg>) {
        let (_, chunks) = mpsc::channel(1);
        let settings = TurnSettings::new(Vec::new(), Vec::new(), TurnConfig::default());
        let counters = Arc::new(Counters::default());
        let (thread, _) =
            TurnThread::new(settings, [0; 32], Vec::new(), chunks, counters.clone()).expect("a poll");
        let address = "192.0.2.1:1".parse().expect("an address");
        let five_tuple = FiveTuple { transport: Transport::Tcp, client: address, server: address };
        (thread, Arc::new(Leg::new(five_tuple, counters)))
    }

    #[test]
    fn a_stream_without_an_allocation_is_closed_after_a_minute_of_silence() {
        let (mut thread, leg) = thread();
        let start = now();
        let after = |seconds| Now { at: start.at + Duration::from_secs(seconds), unix: start.unix };
        let channel_data = [0x40, 0, 0, 0];
        for said in [0, 50] {
            thread.messages(leg.clone(), &channel_data, after(said));
        }
        thread.expire(after(105));
        assert!(!leg.is_closed(), "it spoke less than a minute before");
        thread.expire(after(125));
        assert!(leg.is_closed());
        thread.messages(leg.clone(), &channel_data, after(126));
        assert_eq!(thread.streams[&leg.five_tuple].heard, after(50).at, "what it says now is too late");
    }

    #[test]
    fn a_stream_with_an_allocation_may_be_silent_as_long_as_that_lives() {
        let (mut thread, leg) = thread();
        let start = now();
        let after = |seconds| Now { at: start.at + Duration::from_secs(seconds), unix: start.unix };
        thread.messages(leg.clone(), &[0x40, 0, 0, 0], start);
        let stream = thread.streams.get_mut(&leg.five_tuple).expect("it spoke");
        stream.holds_until = Some(after(600).at);
        (1..60).for_each(|n| thread.expire(after(n * 10)));
        assert!(!leg.is_closed());
        thread.expire(after(620));
        assert!(leg.is_closed());
    }

    #[test]
    fn another_stream_of_the_same_addresses_takes_the_place_of_the_first() {
        let (mut thread, first) = thread();
        let second = Arc::new(Leg::new(first.five_tuple, Arc::default()));
        let now = now();
        thread.messages(first.clone(), &[0x40, 0, 0, 0], now);
        thread.messages(second.clone(), &[0x40, 0, 0, 0], now);
        assert!(Arc::ptr_eq(&thread.streams[&first.five_tuple].leg, &second));
        drop(thread);
        assert!(second.is_closed(), "nobody would ever close it otherwise");
    }

    #[test]
    fn the_lifetime_is_read_from_answers_that_grant_one() {
        let attributes = [0x80, 0x22, 0, 1, b's', 0, 0, 0, 0, 0x0d, 0, 4, 0, 0, 2, 0x58];
        let message = |kind: u8, attributes: &[u8]| {
            [&[1, kind, 0, attributes.len() as u8], [0; 16].as_slice(), attributes].concat()
        };
        for granting in [3, 4] {
            let message = message(granting, &attributes);
            assert_eq!(granted_lifetime(&message), Some(Duration::from_secs(600)));
            (0..message.len()).for_each(|cut| assert_eq!(granted_lifetime(&message[..cut]), None));
        }
        assert_eq!(granted_lifetime(&message(8, &attributes)), None);
        assert_eq!(granted_lifetime(&message(3, &[])), None);
    }
}
