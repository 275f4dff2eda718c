//! What somebody without a login can make a server do: answer, answer with more than was asked, keep memory. And how soon it answers at all.

use anyhow::{Context, Result};
use snug_udp::{ReceiveArena, UdpOptions, UdpSocket};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Figures;
use super::client::wait_for;
use super::servers::{BOTH, Maker, TurnServer};
use super::stun::Request;
use crate::bench::stats::{mebibytes, resident};

/// IPv4 and UDP in front of each message on the wire.
const IP_AND_UDP: usize = 28;

/// Above the lines of this file.
pub(super) const HEAD: &str =
    "#### Strangers\n\n| what | coturn | snug-relay | must | moonshot | |\n|---|---|---|---|---|---|\n";

/// From exec to the first answer to a Binding.
///
/// # Errors
/// When a server does not start.
pub(super) fn start(repeats: usize) -> Result<String> {
    let mut times = [Figures::default(), Figures::default()];
    for _ in 0..repeats {
        for (place, maker) in BOTH.into_iter().enumerate() {
            let began = Instant::now();
            let server = TurnServer::start_empty(maker)?;
            times[place].push(began.elapsed().as_secs_f64() * 1000.0);
            drop(server);
        }
    }
    let [ours, theirs] = &times;
    Ok(format!(
        "| start to first Binding answer, 10k ports, ms, min / median | {:.1} / {:.1} | {:.1} / {:.1} | ≤ 100 | 20 | {} |\n",
        theirs.min(),
        theirs.median(),
        ours.min(),
        ours.median(),
        verdict(ours.median(), 100.0, 20.0),
    ))
}

fn verdict(value: f64, must: f64, moonshot: f64) -> &'static str {
    match value {
        value if value <= moonshot => "moonshot",
        value if value <= must => "met",
        _ => "missed",
    }
}

/// Bytes on the wire of answers to each thing a stranger can send, divided by those of the request.
///
/// # Errors
/// When a socket fails.
pub(super) fn echoes(ours: &TurnServer, theirs: &TurnServer) -> Result<String> {
    let somewhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let asked = [
        ("Binding", Request::binding()),
        ("bare Allocate", Request::bare_allocate()),
        ("Allocate with REQUESTED-TRANSPORT", Request::first_allocate()?),
        ("bare Refresh", Request::bare_refresh()),
        ("unknown method", Request::of_unknown_method()),
        ("Send indication", Request::send_of_a_stranger(somewhere)?),
    ];
    let mut lines = String::new();
    for (number, (what, request)) in asked.iter().enumerate() {
        // Each from an address of its own, so that no limit of answers hides one.
        let source = Ipv4Addr::new(127, 2, number as u8, 1).into();
        let (theirs, ours) = (echo(theirs, source, request)?, echo(ours, source, request)?);
        let asked = request.bytes.len() + IP_AND_UDP;
        let words = |answer: usize| match answer {
            0 => "silent".to_owned(),
            answer => format!("{answer} / {asked} = {:.2}", answer as f64 / asked as f64),
        };
        lines += &format!(
            "| answer / request bytes: {what} | {} | {} | ≤ 1.6 | 1.25 | {} |\n",
            words(theirs),
            words(ours),
            verdict(ours as f64 / asked as f64, 1.6, 1.25),
        );
    }
    Ok(lines)
}

/// Bytes on the wire that one request brought back; 0 when there was no answer.
fn echo(server: &TurnServer, source: IpAddr, request: &Request) -> Result<usize> {
    let socket = UdpSocket::bind(SocketAddr::new(source, 0), &UdpOptions::default())?;
    let mut arena = ReceiveArena::new(1);
    socket.send_run(server.address, &request.bytes, request.bytes.len());
    let patience = Duration::from_millis(300);
    let length = wait_for(&socket, patience, &mut arena, |bytes| Ok(Some(bytes.len())))?;
    Ok(length.map_or(0, |length| length + IP_AND_UDP))
}

/// How many of many requests from one address are answered, when they come within a moment.
///
/// # Errors
/// When a socket fails.
pub(super) fn insistence(ours: &TurnServer, theirs: &TurnServer) -> Result<String> {
    let requests = 5_000;
    let answered = |server: &TurnServer| -> Result<usize> {
        let source = SocketAddr::from((Ipv4Addr::new(127, 3, 0, 1), 0));
        let socket = UdpSocket::bind(source, &UdpOptions::default())?;
        let mut arena = ReceiveArena::new(64);
        let mut answers = 0;
        for number in 0..requests {
            let request = Request::first_allocate()?;
            socket.send_run(server.address, &request.bytes, request.bytes.len());
            // Steadily, and never more than the server's buffer holds.
            if number % 20 == 19 {
                sleep(Duration::from_millis(1));
                arena.clear();
                socket.receive(&mut arena)?;
                answers += arena.datagrams().count();
            }
        }
        while wait_for(&socket, Duration::from_millis(100), &mut arena, |_| Ok(Some(())))?.is_some() {
            answers += arena.datagrams().count();
        }
        Ok(answers)
    };
    let (theirs, ours) = (answered(theirs)?, answered(ours)?);
    Ok(format!(
        "| answers to {requests} Allocates of one stranger | {theirs} | {ours} | silent past the limit | | {} |\n",
        if ours < requests { "met" } else { "missed" },
    ))
}

/// Allocates of strangers who all have addresses of their own: does memory grow?
///
/// # Errors
/// When a server does not start or the flood cannot be sent.
pub(super) fn flood(smoke: bool) -> Result<String> {
    // Coturn keeps a session and descriptors for each for a minute, so it only gets as many as it can hold.
    let (ours, theirs) = if smoke { (20_000, 500) } else { (1_000_000, 5_000) };
    let socket = match Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW))) {
        Ok(socket) => socket,
        Err(error) => {
            return Ok(format!(
                "| {ours} Allocates from spoofed sources, RSS growth | | not run: raw sockets need root ({error}) | < 1 MiB | 0 | |\n"
            ));
        }
    };
    let theirs = grown(&TurnServer::start_empty(Maker::Coturn)?, &socket, theirs)?;
    let ours = grown(&TurnServer::start_empty(Maker::Ours)?, &socket, ours)?;
    let words = |flood: &Flood| {
        format!("{:.2} after {}, {} of them lost on the way", flood.mebibytes, flood.sent, flood.lost)
    };
    let verdict =
        if 100 * ours.lost > u64::from(ours.sent) { "no figure" } else { verdict(ours.mebibytes, 1.0, 0.0) };
    Ok(format!(
        "| RSS growth by Allocates from spoofed sources, MiB | {} | {} | < 1 | 0 | {verdict} |\n",
        words(&theirs),
        words(&ours),
    ))
}

/// The protocol number with which one writes the IP header oneself.
const IPPROTO_RAW: i32 = 255;
/// As fast as the server reads, and no faster: what it never read cannot show that it keeps nothing. So often its queue is looked at, and so
/// many bytes may wait there; both fit into a buffer that nobody enlarged.
const AT_ONCE: u32 = 50;
const FULL_ENOUGH: u64 = 64 << 10;

/// What strangers did to a server.
struct Flood {
    sent: u32,
    /// In front of a full socket buffer.
    lost: u64,
    /// Of resident memory, more than before.
    mebibytes: f64,
}

fn grown(server: &TurnServer, socket: &Socket, count: u32) -> Result<Flood> {
    let SocketAddr::V4(target) = server.address else { anyhow::bail!("the bench runs over IPv4") };
    // Both get the code and tables for refusing into memory before it counts.
    send_from_strangers(socket, target, 0..100)?;
    sleep(Duration::from_secs(1));
    let (before, lost) = (resident(server.pid())?, queue(target.port())?.lost);
    send_from_strangers(socket, target, 100..100 + count)?;
    sleep(Duration::from_millis(500));
    let after = resident(server.pid())?;
    Ok(Flood {
        sent: count,
        lost: queue(target.port())?.lost - lost,
        mebibytes: mebibytes(after) - mebibytes(before),
    })
}

/// The UDP sockets bound to one port, as the kernel lists them.
struct Queue {
    /// Bytes of kernel memory that wait to be read.
    waiting: u64,
    /// Datagrams that found no room, so far.
    lost: u64,
}

fn queue(port: u16) -> Result<Queue> {
    let list = std::fs::read_to_string("/proc/net/udp")?;
    let end = format!(":{port:04X}");
    let mut queue = Queue { waiting: 0, lost: 0 };
    for line in list.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, _, queues, .., lost] = fields[..] else { continue };
        if local.ends_with(&end) {
            let (_, waiting) = queues.split_once(':').context("no receive queue in /proc/net/udp")?;
            queue.waiting += u64::from_str_radix(waiting, 16)?;
            queue.lost += lost.parse::<u64>()?;
        }
    }
    Ok(queue)
}

fn send_from_strangers(socket: &Socket, target: SocketAddrV4, numbers: std::ops::Range<u32>) -> Result<()> {
    let to = SockAddr::from(target);
    for number in numbers {
        let request = Request::first_allocate()?;
        let packet = packet(stranger(number), target, &request.bytes);
        socket.send_to(&packet, &to).context("the flood could not be sent")?;
        if number % AT_ONCE == 0 {
            wait_for_room(target.port())?;
        }
    }
    Ok(())
}

fn wait_for_room(port: u16) -> Result<()> {
    for _ in 0..10_000 {
        if queue(port)?.waiting <= FULL_ENOUGH {
            return Ok(());
        }
        sleep(Duration::from_millis(1));
    }
    anyhow::bail!("the server at port {port} stopped reading")
}

/// Another address for each number, all over 127.128.0.0/9, and another port.
fn stranger(number: u32) -> SocketAddrV4 {
    // An odd factor makes of each number below 2^23 another one below 2^23, far from its neighbours'.
    let scattered = number.wrapping_mul(0x9E37_79B1) & 0x007f_ffff;
    SocketAddrV4::new(Ipv4Addr::from(0x7f80_0000 | scattered), 1024 + (number % 60_000) as u16)
}

/// An IPv4 packet (RFC 791) with a UDP datagram (RFC 768) without a checksum, which IPv4 allows. The kernel fills in the header's checksum.
fn packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = (IP_AND_UDP + payload.len()) as u16;
    let mut packet = Vec::with_capacity(usize::from(length));
    packet.extend([0x45, 0]);
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend((length - 20).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_strangers_are_a_million() {
        let mut all: Vec<_> = (0..1_000_000).map(stranger).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1_000_000);
        assert!(all.iter().all(|stranger| stranger.ip().is_loopback()));
    }

    #[test]
    fn a_packet_says_how_long_it_is() {
        let (from, to) = (stranger(1), stranger(2));
        let packet = packet(from, to, b"12345");
        assert_eq!(packet.len(), 33);
        assert_eq!((packet[3], packet[25]), (33, 13));
        assert_eq!(&packet[28..], b"12345");
    }
}
