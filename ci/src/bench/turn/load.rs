//! Load: packets at a steady rate through the allocations of one server for one window, and what that cost the server.
//!
//! The sender keeps to an absolute schedule for all flows together; a burst is one `UDP_SEGMENT` send. The receiver, a thread of its own, drains
//! everything with `recvmmsg` and `UDP_GRO`. Each packet carries the time at which it was sent. The server's CPU clock is read while nothing is
//! under way, before the first measured packet and after the last, so that it covers exactly these packets.

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use snug_udp::{ReceiveArena, UdpOptions, UdpSocket};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::buffers::{self, SOCKET_BUFFER};
use super::cells::{Cell, Way};
use super::client::{self, CHANNEL, Client};
use super::clock::{self, ProcessClock};
use super::servers::TurnServer;

/// Clients of a cell.
pub(super) const CLIENTS: usize = 50;
/// Bytes that a client wants to have carried in each packet.
pub(super) const PAYLOAD: usize = 1200;
/// Bytes in front of them on a channel.
const CHANNEL_HEADER: usize = 4;

/// At the beginning of each payload: mark, whether it counts, nanoseconds since the generator's start.
const MARK: [u8; 4] = *b"snug";
const WARM_UP: u8 = 0;
const MEASURED: u8 = 1;

/// How long the receiver of a cell without delays leaves packets lying, so that it wakes up less often than the server.
const PAUSE: Duration = Duration::from_millis(1);
/// Behind its schedule by more, the sender begins a new one: what the machine held up does not come as a flood.
const FORGIVEN: Duration = Duration::from_millis(20);
/// Nothing has arrived for so long: nothing more is under way.
const SILENCE: Duration = Duration::from_millis(30);

/// What one window showed.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// The server's CPU time per delivered packet, in microseconds.
    pub(super) cpu: f64,
    /// Delivered of what was sent.
    pub(super) delivered: f64,
    /// Sent of what the cell's rate asks for; less when the machine held the sender up.
    pub(super) kept: f64,
    /// The generator's own share of a core: the sender's (which pays for the kernel's way into the server's socket) and the receiver's.
    pub(super) generator: f64,
    /// From the sender's call to the receiver's, in milliseconds, at the median and the 99th percentile.
    pub(super) delay: (f64, f64),
    /// The server's smallest receive buffer; `None` when the kernel did not let us set it.
    pub(super) buffer: Option<usize>,
}

/// From which socket to where.
struct Flow {
    socket: usize,
    to: SocketAddr,
    channel: bool,
}

/// What the two threads share.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    /// All that arrived, and what of it counts.
    arrived: AtomicU64,
    counted: AtomicU64,
}

/// Runs one window of a cell on one server.
///
/// # Errors
/// When allocations are refused, or the server is gone.
pub(super) fn run(server: &TurnServer, cell: &Cell, window: Duration) -> Result<Sample> {
    let mut arena = ReceiveArena::new(16);
    let mut clients = (0..CLIENTS)
        .map(|number| {
            let (source, ticket) = server.seat_of(number)?;
            Client::new(source, ticket.server, ticket.login.clone(), true)
        })
        .collect::<Result<Vec<_>>>()?;
    let deep = UdpOptions {
        receive_buffer: Some(SOCKET_BUFFER),
        send_buffer: Some(SOCKET_BUFFER),
        ..UdpOptions::default()
    };
    let peer = UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &deep)?;

    client::allocate(&mut clients, &mut arena)?;
    let relayed = clients.iter().map(Client::relayed).collect::<Result<Vec<_>>>()?;
    let peers: Vec<SocketAddr> = match cell.way {
        Way::Pair => (0..CLIENTS).map(|number| relayed[number ^ 1]).collect(),
        _ => vec![peer.local_addr(); CLIENTS],
    };
    client::bind_channels(&mut clients, &peers, &mut arena)?;
    let buffer = buffers::level(server.pid()).ok();

    let up = (0..CLIENTS).map(|socket| Flow { socket, to: server.address, channel: true });
    let down = relayed.iter().map(|&to| Flow { socket: CLIENTS, to, channel: false });
    let flows: Vec<Flow> = match cell.way {
        Way::Pair | Way::Up => up.collect(),
        Way::Down => down.collect(),
        Way::UpAndDown => up.zip(down).flat_map(|(up, down)| [up, down]).collect(),
    };
    let sockets: Vec<&UdpSocket> = clients.iter().map(|client| &client.socket).chain([&peer]).collect();

    let shared = &Shared::default();
    let start = Instant::now();
    let (sent, received) = std::thread::scope(|scope| {
        let (pause, sockets) = (if cell.timed { Duration::ZERO } else { PAUSE }, &sockets);
        let receiver = scope.spawn(move || receive(sockets, shared, start, pause));
        let sent = send(server, cell, &flows, sockets, shared, start, window);
        shared.over.store(true, Ordering::Relaxed);
        let received = receiver.join().map_err(|_| anyhow::anyhow!("the receiver stopped"));
        Ok::<_, anyhow::Error>((sent?, received??))
    })?;
    client::release(&mut clients, &mut arena)?;

    let counted = shared.counted.load(Ordering::Relaxed);
    ensure!(counted > 0, "{}: nothing arrived", server.maker.name());
    let mut delays = received.delays;
    Ok(Sample {
        cpu: sent.server.as_secs_f64() * 1e6 / counted as f64,
        delivered: counted as f64 / sent.packets as f64,
        kept: sent.packets as f64 / sent.took.as_secs_f64() / cell.rate as f64,
        generator: sent.share + received.share,
        delay: (percentile(&mut delays, 0.5), percentile(&mut delays, 0.99)),
        buffer,
    })
}

/// Nearest rank, from microseconds to milliseconds.
fn percentile(delays: &mut [u32], fraction: f64) -> f64 {
    delays.sort_unstable();
    let rank = (fraction * delays.len() as f64).ceil() as usize;
    delays.get(rank.saturating_sub(1)).map_or(f64::NAN, |&delay| f64::from(delay) / 1000.0)
}

/// What the sender knows at the end.
struct Sent {
    packets: u64,
    took: Duration,
    /// Of a core, for itself.
    share: f64,
    /// CPU time of the server.
    server: Duration,
}

fn send(
    server: &TurnServer,
    cell: &Cell,
    flows: &[Flow],
    sockets: &[&UdpSocket],
    shared: &Shared,
    start: Instant,
    window: Duration,
) -> Result<Sent> {
    let mut bursts = Bursts::new(cell.burst);
    let mut paced = |phase: u8, time: Duration| {
        let count = (time.as_secs_f64() * cell.rate as f64 / cell.burst as f64).ceil() as u64;
        let mut began = Instant::now();
        let mut packets = 0;
        let first = began;
        for (number, flow) in (0..count).zip(flows.iter().cycle()) {
            let due = began + Duration::from_secs_f64(number as f64 * cell.burst as f64 / cell.rate as f64);
            let mut now = Instant::now();
            if now < due {
                sleep(due - now);
                now = Instant::now();
            } else if now - due > FORGIVEN {
                began += now - due;
            }
            let bytes = bursts.filled(flow.channel, phase, (now - start).as_nanos() as u64);
            let sent = sockets[flow.socket].send_run(flow.to, bytes, bytes.len() / cell.burst);
            // What the kernel did not take was never offered to the server.
            packets += sent.datagrams;
        }
        (packets, first.elapsed())
    };
    paced(WARM_UP, (window / 8).min(Duration::from_millis(400)));
    wait_for_silence(shared);
    let (before, own) = (ProcessClock::read(server.pid())?, clock::of_thread()?);
    let (packets, took) = paced(MEASURED, window);
    let share = (clock::of_thread()? - own).as_secs_f64() / took.as_secs_f64();
    wait_for_silence(shared);
    let after = ProcessClock::read(server.pid())?;
    ensure!(packets > 0, "the kernel took no packet at all");
    Ok(Sent { packets, took, share, server: after.since(&before) })
}

fn wait_for_silence(shared: &Shared) {
    let mut seen = shared.arrived.load(Ordering::Relaxed);
    loop {
        sleep(SILENCE);
        let arrived = shared.arrived.load(Ordering::Relaxed);
        if arrived == seen {
            return;
        }
        seen = arrived;
    }
}

/// Datagrams that lie one behind the other, ready to be sent but for the marks.
struct Bursts {
    channel: Vec<u8>,
    plain: Vec<u8>,
}

impl Bursts {
    fn new(count: usize) -> Self {
        let payload = [0x5a; PAYLOAD];
        let mut on_channel = Vec::from(CHANNEL.to_be_bytes());
        on_channel.extend((PAYLOAD as u16).to_be_bytes());
        on_channel.extend(payload);
        Self { channel: on_channel.repeat(count), plain: payload.repeat(count) }
    }

    fn filled(&mut self, channel: bool, phase: u8, nanoseconds: u64) -> &[u8] {
        let (bytes, head) = if channel { (&mut self.channel, CHANNEL_HEADER) } else { (&mut self.plain, 0) };
        for datagram in bytes.chunks_exact_mut(head + PAYLOAD) {
            datagram[head..head + 4].copy_from_slice(&MARK);
            datagram[head + 4] = phase;
            datagram[head + 8..head + 16].copy_from_slice(&nanoseconds.to_be_bytes());
        }
        bytes
    }
}

/// What the receiver knows at the end.
struct Received {
    /// Of each measured packet, in microseconds.
    delays: Vec<u32>,
    /// Of a core, for itself.
    share: f64,
}

/// The last socket is the peer's: there the payloads come bare, at all others on the channel.
fn receive(sockets: &[&UdpSocket], shared: &Shared, start: Instant, pause: Duration) -> Result<Received> {
    let started = Instant::now();
    let mut arena = ReceiveArena::new(64);
    let mut delays = Vec::with_capacity(1 << 20);
    let mut waiting: Vec<PollFd<'_>> =
        sockets.iter().map(|socket| PollFd::new(*socket, PollFlags::IN)).collect();
    let now_and_then = Timespec::try_from(Duration::from_millis(10)).context("ten milliseconds")?;
    while !shared.over.load(Ordering::Relaxed) {
        sleep(pause);
        poll(&mut waiting, Some(&now_and_then))?;
        for (number, ready) in waiting.iter().enumerate() {
            if ready.revents().is_empty() {
                continue;
            }
            let head = if number + 1 == sockets.len() { 0 } else { CHANNEL_HEADER };
            loop {
                arena.clear();
                let messages = sockets[number].receive(&mut arena)?;
                let now = start.elapsed().as_nanos() as u64;
                let (mut arrived, mut counted) = (0, 0);
                for (_, bytes) in arena.datagrams() {
                    if let Some((phase, sent)) = payload(bytes, head) {
                        arrived += 1;
                        if phase == MEASURED {
                            counted += 1;
                            delays.push((now.saturating_sub(sent) / 1000) as u32);
                        }
                    }
                }
                shared.counted.fetch_add(counted, Ordering::Relaxed);
                shared.arrived.fetch_add(arrived, Ordering::Relaxed);
                if messages < 64 {
                    break;
                }
            }
        }
    }
    let share = clock::of_thread()?.as_secs_f64() / started.elapsed().as_secs_f64();
    Ok(Received { delays, share })
}

/// Phase and time of a payload that arrived whole, where it should.
fn payload(bytes: &[u8], head: usize) -> Option<(u8, u64)> {
    let inner = bytes.get(head..).filter(|inner| inner.len() == PAYLOAD && inner[..4] == MARK)?;
    let channel = u16::from_be_bytes([bytes[0], bytes[1]]);
    (head == 0 || channel == CHANNEL).then_some(())?;
    Some((inner[4], u64::from_be_bytes(inner[8..16].try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_known_again_with_and_without_its_channel() {
        let mut bursts = Bursts::new(3);
        for (channel, head) in [(true, CHANNEL_HEADER), (false, 0)] {
            let bytes = bursts.filled(channel, MEASURED, 7);
            assert_eq!(bytes.len(), 3 * (head + PAYLOAD));
            for datagram in bytes.chunks(head + PAYLOAD) {
                assert_eq!(payload(datagram, head), Some((MEASURED, 7)));
            }
            assert_eq!(payload(&bytes[..head + PAYLOAD - 1], head), None);
        }
    }

    #[test]
    fn delays_are_nearest_rank() {
        let mut delays: Vec<u32> = (1..=100).rev().map(|number| number * 1000).collect();
        assert_eq!((percentile(&mut delays, 0.5), percentile(&mut delays, 0.99)), (50.0, 99.0));
    }
}
