//! What a round sends: datagrams of one flow to one destination join into runs, and each socket's runs leave together.
//! It never mixes flows in a run, never changes the order of a flow's datagrams to one destination, and never waits.
//!
//! A datagram is described, not copied: a head of its own bytes, a body that stays where it was received, and padding. A head that fits
//! over bytes of the same datagram in front of the body is written there, so that a whole run becomes one stretch of memory.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use crate::{MAX_RUN_BYTES, MAX_SEGMENTS, ReceiveArena, UdpSocket};

/// Destinations of one flow that are looked through for an open run. A participant of the largest room sends to nine others.
const SEARCHED: usize = 10;
/// Marks a piece that lies in the queue's own bytes. The arena is far smaller than this.
const OWN: u32 = 1 << 31;
const NONE: u32 = u32::MAX;
/// Padding is taken from the first own bytes.
const ZEROS: usize = 4;
/// Flows beyond this are not joined into runs. Their ids are dense, so it is never reached; it bounds the memory of a mistake.
const MAX_FLOWS: usize = 1 << 20;

/// What became of the datagrams of a flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Handed to the system.
    pub datagrams: u64,
    /// Refused by it, or their socket is gone.
    pub lost: u64,
}

/// A stretch of bytes, and the next one of the same run.
#[derive(Clone, Copy, Debug)]
struct Piece {
    at: u32,
    length: u32,
    next: u32,
}

/// Datagrams of one flow to one destination, all of one size but for a shorter last one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) to: SocketAddr,
    pub(crate) from: Option<IpAddr>,
    /// Bytes of each datagram but the last.
    pub(crate) segment: u32,
    pub(crate) datagrams: u32,
    pub(crate) pieces: u32,
    bytes: u32,
    socket: u32,
    first: u32,
    last: u32,
    /// The run that the flow opened before, to another destination or the same.
    previous: u32,
    open: bool,
}

/// Where each flow's runs of this round begin.
#[derive(Clone, Copy, Default)]
struct Flow {
    round: u32,
    run: u32,
}

/// The datagrams that wait for the end of the round.
pub struct SendQueue {
    runs: Vec<Run>,
    pieces: Vec<Piece>,
    own: Vec<u8>,
    flows: Vec<Flow>,
    round: u32,
    /// Runs in the order in which they leave: by socket, then by age.
    order: Vec<u32>,
    sockets_mixed: bool,
    scratch: Vec<u8>,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    batches: crate::linux::SendBatches,
}

impl Default for SendQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl SendQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            runs: Vec::new(),
            pieces: Vec::new(),
            own: vec![0; ZEROS],
            flows: Vec::new(),
            round: 1,
            order: Vec::new(),
            sockets_mixed: false,
            scratch: Vec::new(),
            #[cfg(any(target_os = "linux", target_os = "android"))]
            batches: crate::linux::SendBatches::default(),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Adds one datagram: `head`, then the `body` in the arena, then `pad` zeros (at most 3).
    ///
    /// - `socket`: whatever [`flush`](Self::flush) knows the socket by.
    /// - `flow`: a small number; only datagrams of one flow join, and those to one destination keep their order.
    /// - `from`: the address of this machine to send from, for a socket that is bound to all.
    /// - `room_before_body`: so many bytes before the body belong to the same datagram and may be overwritten.
    #[expect(
        clippy::too_many_arguments,
        reason = "they are what describes a datagram; a struct of them would be built and taken apart per packet"
    )]
    pub fn push(
        &mut self,
        socket: u32,
        flow: u32,
        to: SocketAddr,
        from: Option<IpAddr>,
        head: &[u8],
        body: Range<usize>,
        pad: u8,
        room_before_body: usize,
        arena: &mut ReceiveArena,
    ) {
        let pad = usize::from(pad.min(3));
        let size = head.len() + body.len() + pad;
        let run = self.run_for(socket, flow, to, from, size);
        if head.len() <= room_before_body {
            let start = body.start - head.len();
            arena.bytes_mut(start..body.start).copy_from_slice(head);
            self.append(run, start as u32, (head.len() + body.len()) as u32);
        } else {
            let at = self.keep(head);
            self.append(run, at, head.len() as u32);
            self.append(run, body.start as u32, body.len() as u32);
        }
        if pad > 0 {
            self.append(run, OWN, pad as u32);
        }
    }

    /// Adds one datagram whose body does not lie in an arena. It is copied; otherwise as [`push`](Self::push).
    #[expect(clippy::too_many_arguments, reason = "as for `push`")]
    pub fn push_outside(
        &mut self,
        socket: u32,
        flow: u32,
        to: SocketAddr,
        from: Option<IpAddr>,
        head: &[u8],
        body: &[u8],
        pad: u8,
    ) {
        let pad = usize::from(pad.min(3));
        let size = head.len() + body.len() + pad;
        let run = self.run_for(socket, flow, to, from, size);
        let at = self.keep(head);
        self.own.extend_from_slice(body);
        self.own.extend_from_slice(&[0; 3][..pad]);
        self.append(run, at, size as u32);
    }

    /// Adds a datagram that is of no flow, such as an answer. Its bytes are copied, and it travels alone.
    pub fn push_copy(&mut self, socket: u32, to: SocketAddr, from: Option<IpAddr>, bytes: &[u8]) {
        let at = self.keep(bytes);
        let run = self.start(socket, to, from, bytes.len(), NONE);
        self.append(run, at, bytes.len() as u32);
        self.runs[run].open = false;
    }

    /// Sends everything and forgets it. `arena` is the one that the bodies lie in; `socket_of` finds the socket of a key. Datagrams that
    /// the system refuses are lost, as those that a network loses.
    pub fn flush<'s>(
        &mut self,
        arena: &ReceiveArena,
        socket_of: impl Fn(u32) -> Option<&'s UdpSocket>,
    ) -> Sent {
        let mut sent = Sent::default();
        if self.runs.is_empty() {
            return sent;
        }
        self.order.clear();
        self.order.extend(0..self.runs.len() as u32);
        if self.sockets_mixed {
            let runs = &self.runs;
            self.order.sort_unstable_by_key(|run| (runs[*run as usize].socket, *run));
        }
        let mut rest = 0;
        while rest < self.order.len() {
            let key = self.runs[self.order[rest] as usize].socket;
            let stretch =
                self.order[rest..].iter().take_while(|run| self.runs[**run as usize].socket == key).count();
            let stretch = rest..rest + stretch;
            rest = stretch.end;
            match socket_of(key) {
                Some(socket) => self.send(socket, stretch, arena, &mut sent),
                None => {
                    sent.lost += self.order[stretch]
                        .iter()
                        .map(|run| u64::from(self.runs[*run as usize].datagrams))
                        .sum::<u64>();
                }
            }
        }
        self.runs.clear();
        self.pieces.clear();
        self.own.truncate(ZEROS);
        self.sockets_mixed = false;
        self.next_round();
        sent
    }

    fn send(&mut self, socket: &UdpSocket, stretch: Range<usize>, arena: &ReceiveArena, sent: &mut Sent) {
        let runs = Runs { runs: &self.runs, pieces: &self.pieces, own: &self.own, arena: arena.all_bytes() };
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if socket.is_batched() {
            return self.batches.send(socket, &self.order[stretch], &runs, sent);
        }
        for index in &self.order[stretch] {
            let run = runs.get(*index);
            self.scratch.clear();
            runs.stretches(run).for_each(|bytes| self.scratch.extend_from_slice(bytes));
            crate::plain::send(socket, run.to, &self.scratch, run.segment as usize, sent);
        }
    }

    /// Shows the runs as a flush would see them.
    #[cfg(all(test, any(target_os = "linux", target_os = "android")))]
    pub(crate) fn with_runs(&self, arena: &ReceiveArena, see: impl FnOnce(&Runs<'_>)) {
        see(&Runs { runs: &self.runs, pieces: &self.pieces, own: &self.own, arena: arena.all_bytes() });
    }

    /// The run that a datagram of this size joins.
    fn run_for(
        &mut self,
        socket: u32,
        flow: u32,
        to: SocketAddr,
        from: Option<IpAddr>,
        size: usize,
    ) -> usize {
        let index = flow as usize;
        if index >= MAX_FLOWS {
            return self.start(socket, to, from, size, NONE);
        }
        if index >= self.flows.len() {
            self.flows.resize(index + 1, Flow::default());
        }
        let known = self.flows[index];
        let newest = if known.round == self.round { known.run } else { NONE };
        let mut next = newest;
        for _ in 0..SEARCHED {
            let Some(run) = self.runs.get_mut(next as usize) else { break };
            if run.to != to || run.socket != socket || run.from != from {
                next = run.previous;
                continue;
            }
            let fits = run.open
                && size > 0
                && size <= run.segment as usize
                && (run.datagrams as usize) < MAX_SEGMENTS
                && run.bytes as usize + size <= MAX_RUN_BYTES;
            if !fits {
                break;
            }
            run.datagrams += 1;
            // A shorter one can only be the last.
            run.open = size == run.segment as usize;
            return next as usize;
        }
        let run = self.start(socket, to, from, size, newest);
        self.flows[index] = Flow { round: self.round, run: run as u32 };
        run
    }

    fn start(
        &mut self,
        socket: u32,
        to: SocketAddr,
        from: Option<IpAddr>,
        size: usize,
        previous: u32,
    ) -> usize {
        self.sockets_mixed |= self.runs.last().is_some_and(|last| last.socket != socket);
        self.runs.push(Run {
            to,
            from,
            segment: size as u32,
            datagrams: 1,
            pieces: 0,
            bytes: 0,
            socket,
            first: NONE,
            last: NONE,
            previous,
            // Empty datagrams cannot be told apart in a run.
            open: size > 0,
        });
        self.runs.len() - 1
    }

    /// Puts a stretch at the end of a run.
    fn append(&mut self, run: usize, at: u32, length: u32) {
        let run = &mut self.runs[run];
        run.bytes += length;
        if length == 0 {
            return;
        }
        if let Some(last) = self.pieces.get_mut(run.last as usize) {
            // Zeros stand for every padding, so what follows them in memory is never meant.
            if last.at != OWN && last.at + last.length == at {
                last.length += length;
                return;
            }
        }
        let index = self.pieces.len() as u32;
        match self.pieces.get_mut(run.last as usize) {
            Some(last) => last.next = index,
            None => run.first = index,
        }
        self.pieces.push(Piece { at, length, next: NONE });
        run.last = index;
        run.pieces += 1;
    }

    /// Copies bytes that do not lie in the arena.
    fn keep(&mut self, bytes: &[u8]) -> u32 {
        let at = self.own.len() as u32 | OWN;
        self.own.extend_from_slice(bytes);
        at
    }

    fn next_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            // A flow that rested for 2^32 rounds must not find a run of that time.
            self.flows.fill(Flow::default());
            self.round = 1;
        }
    }
}

/// The runs of a round and the bytes that they are made of.
pub(crate) struct Runs<'a> {
    runs: &'a [Run],
    pieces: &'a [Piece],
    own: &'a [u8],
    arena: &'a [u8],
}

impl<'a> Runs<'a> {
    pub(crate) fn get(&self, index: u32) -> &'a Run {
        &self.runs[index as usize]
    }

    /// The stretches of memory that make up a run, in order.
    pub(crate) fn stretches(&self, run: &Run) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (pieces, own, arena) = (self.pieces, self.own, self.arena);
        let mut next = run.first;
        std::iter::from_fn(move || {
            let piece = pieces.get(next as usize)?;
            next = piece.next;
            let (memory, at) = if piece.at & OWN == 0 { (arena, piece.at) } else { (own, piece.at & !OWN) };
            Some(&memory[at as usize..(at + piece.length) as usize])
        })
    }
}
