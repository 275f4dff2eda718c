//! The UDP sockets of the thread "turn": listeners, and relay sockets as allocations need them.
//! It never keeps a socket that the rules have closed, and never lets one that is flooded keep the others waiting.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use snug_turn_proto::RelaySocketId;
use snug_udp::{UdpOptions, UdpSocket};

/// Relay sockets' keys begin here; the listeners' are below.
const FIRST_RELAY: u32 = 1 << 16;
/// The token of the waker.
pub(super) const WAKER: Token = Token(usize::MAX);

/// A socket's key is its number here, in the poll and in the queue of what is to be sent.
pub(super) type Key = u32;

pub(super) struct Sockets {
    listeners: Vec<Place>,
    /// By [`RelaySocketId`].
    relays: Vec<Option<Place>>,
    relay_options: UdpOptions,
    /// Relay sockets that may be open at once, and that are.
    most: usize,
    open: usize,
    /// Sockets where something may wait, each once. The poll tells only of what is new (it is edge-triggered), so a socket stays
    /// here until it was found empty, and goes to the end of the line after each turn.
    ready: VecDeque<Key>,
}

struct Place {
    socket: UdpSocket,
    is_ready: bool,
}

/// Which socket a key means.
pub(super) enum Which {
    Listener(SocketAddr),
    Relay(RelaySocketId),
}

impl Sockets {
    pub(super) fn new(
        poll: &Poll,
        listeners: Vec<UdpSocket>,
        relay_options: UdpOptions,
        most: usize,
    ) -> io::Result<Self> {
        let mut sockets = Self {
            listeners: Vec::new(),
            relays: Vec::new(),
            relay_options,
            most,
            open: 0,
            ready: VecDeque::new(),
        };
        for (key, socket) in listeners.into_iter().enumerate() {
            register(poll, &socket, key as Key)?;
            // What came before the poll knew the socket has no edge.
            sockets.listeners.push(Place { socket, is_ready: true });
            sockets.ready.push_back(key as Key);
        }
        Ok(sockets)
    }

    pub(super) fn key_of(relay: RelaySocketId) -> Key {
        FIRST_RELAY + relay.0
    }

    /// The listener for packets to a client that reached the server at `server`, and the address to send from, which a listener on all
    /// addresses has to be told.
    pub(super) fn listener_for(&self, server: SocketAddr) -> Option<(Key, Option<IpAddr>)> {
        let mut wildcard = None;
        for (key, place) in self.listeners.iter().enumerate() {
            let local = place.socket.local_addr();
            if local == server {
                return Some((key as Key, None));
            }
            let all = local.ip().is_unspecified() && local.is_ipv4() == server.is_ipv4();
            if all && local.port() == server.port() {
                wildcard = Some((key as Key, Some(server.ip())));
            }
        }
        wildcard
    }

    pub(super) fn get(&self, key: Key) -> Option<&UdpSocket> {
        self.place(key).map(|place| &place.socket)
    }

    pub(super) fn which(&self, key: Key) -> Option<Which> {
        match key.checked_sub(FIRST_RELAY) {
            Some(relay) => Some(Which::Relay(RelaySocketId(relay))),
            None => self.get(key).map(|socket| Which::Listener(socket.local_addr())),
        }
    }

    /// Binds a relay socket.
    ///
    /// # Errors
    /// When that address is taken, or as many are open as may be: the relay needs descriptors for its page as well.
    pub(super) fn open(&mut self, poll: &Poll, relay: RelaySocketId, address: SocketAddr) -> io::Result<()> {
        if self.open >= self.most {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let socket = UdpSocket::bind(address, &self.relay_options)?;
        register(poll, &socket, Self::key_of(relay))?;
        let index = relay.0 as usize;
        if self.relays.len() <= index {
            self.relays.resize_with(index + 1, || None);
        }
        self.relays[index] = Some(Place { socket, is_ready: false });
        self.open += 1;
        Ok(())
    }

    /// Closing a descriptor takes it out of the poll. Its key may still stand in line, which does no harm.
    pub(super) fn close(&mut self, relay: RelaySocketId) {
        if self.relays.get_mut(relay.0 as usize).and_then(Option::take).is_some() {
            self.open -= 1;
        }
    }

    /// Waits for packets or for the waker, whose ringing is not told from other reasons to look.
    pub(super) fn wait(
        &mut self,
        poll: &mut Poll,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        // Whoever still stands in line must not wait for something new.
        let timeout = if self.ready.is_empty() { timeout } else { Some(Duration::ZERO) };
        match poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        for key in events.iter().map(Event::token).filter(|token| *token != WAKER) {
            self.mark(key.0 as Key);
        }
        Ok(())
    }

    /// How many stand in line.
    pub(super) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// The next in line.
    pub(super) fn next(&mut self) -> Option<Key> {
        let key = self.ready.pop_front()?;
        if let Some(place) = self.place_mut(key) {
            place.is_ready = false;
        }
        Some(key)
    }

    /// Puts a socket at the end of the line.
    pub(super) fn mark(&mut self, key: Key) {
        if let Some(place) = self.place_mut(key)
            && !std::mem::replace(&mut place.is_ready, true)
        {
            self.ready.push_back(key);
        }
    }

    fn place(&self, key: Key) -> Option<&Place> {
        match key.checked_sub(FIRST_RELAY) {
            Some(relay) => self.relays.get(relay as usize)?.as_ref(),
            None => self.listeners.get(key as usize),
        }
    }

    fn place_mut(&mut self, key: Key) -> Option<&mut Place> {
        match key.checked_sub(FIRST_RELAY) {
            Some(relay) => self.relays.get_mut(relay as usize)?.as_mut(),
            None => self.listeners.get_mut(key as usize),
        }
    }
}

fn register(poll: &Poll, socket: &UdpSocket, key: Key) -> io::Result<()> {
    poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(key as usize), Interest::READABLE)
}
