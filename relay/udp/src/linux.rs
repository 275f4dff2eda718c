//! Linux: many messages per system call, and runs of datagrams as one message (`udp(7)`: `UDP_GRO`, `UDP_SEGMENT`).
//! It never lets a pointer outlive the call that reads it, but for those of [`ReceiveBatch`] into memory of the same arena.
//!
//! Addresses and control messages are read and written as the kernel lays them out (`linux/in.h`, `linux/in6.h`, `linux/socket.h`), in plain
//! bytes, so that `unsafe` is left to the calls themselves.

#![expect(unsafe_code, reason = "recvmmsg, sendmmsg and socket options take pointers")]

use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::mem::{size_of, size_of_val, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

use libc::{iovec, mmsghdr};

use crate::queue::{Run, Runs};
use crate::socket::Direction;
use crate::{MAX_SEGMENTS, Message, ReceiveArena, Sent, UdpSocket, arena::SLOT_BYTES};

/// Messages in one system call; the kernel takes no more (`UIO_MAXIOV`).
const MAX_MESSAGES: usize = 1024;

/// `sockaddr_in` (16 bytes) or `sockaddr_in6` (28 bytes).
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Name([u8; 32]);

const NAME_V4: usize = 16;
const NAME_V6: usize = 28;

/// Room for one `UDP_GRO` or `UDP_SEGMENT` (24 bytes) and one `IPV6_PKTINFO` (40 bytes), the larger of the two address messages.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

/// `struct cmsghdr`: a length of the machine's word size, level and type.
const CONTROL_HEADER: usize = size_of::<usize>() + 8;

const fn control_space(data: usize) -> usize {
    CONTROL_HEADER + data.next_multiple_of(size_of::<usize>())
}

const _: () = assert!(control_space(4) + control_space(20) <= size_of::<Control>());

/// The arrays that `recvmmsg` fills, made once.
pub(crate) struct ReceiveBatch {
    headers: Vec<mmsghdr>,
    names: Vec<Name>,
    controls: Vec<Control>,
    /// Read by the kernel alone, through `headers`.
    _iovecs: Vec<iovec>,
}

// SAFETY: the pointers inside lead to memory that the arena around it owns, and nothing else does.
unsafe impl Send for ReceiveBatch {}

impl ReceiveBatch {
    /// `bytes` must stay where it is, and live as long as the batch: the arena owns both and never lets it grow.
    /// It takes the vector, not a slice of it: a pointer of its own stays good while slices come and go. So do those into the arrays.
    pub(crate) fn new(bytes: &mut Vec<u8>, stride: usize, messages: usize) -> Self {
        assert!(
            SLOT_BYTES <= stride && messages * stride <= bytes.len(),
            "each message has a slot of its own"
        );
        let base = bytes.as_mut_ptr();
        let mut names = vec![Name([0; 32]); messages];
        let mut controls = vec![Control([0; 64]); messages];
        let mut iovecs: Vec<iovec> = (0..messages)
            .map(|n| iovec { iov_base: base.wrapping_add(n * stride).cast(), iov_len: SLOT_BYTES })
            .collect();
        let (name, control, iovec) = (names.as_mut_ptr(), controls.as_mut_ptr(), iovecs.as_mut_ptr());
        let headers = (0..messages)
            .map(|n| {
                let mut header = empty_header();
                header.msg_hdr.msg_name = name.wrapping_add(n).cast();
                header.msg_hdr.msg_iov = iovec.wrapping_add(n);
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_control = control.wrapping_add(n).cast();
                reset(&mut header);
                header
            })
            .collect();
        Self { headers, names, controls, _iovecs: iovecs }
    }
}

/// The kernel writes how much of name and control it used; before the next call they say how much there is.
fn reset(header: &mut mmsghdr) {
    header.msg_hdr.msg_namelen = size_of::<Name>() as _;
    header.msg_hdr.msg_controllen = size_of::<Control>() as _;
}

fn empty_header() -> mmsghdr {
    // SAFETY: a structure of integers and pointers, for all of which zero is a value.
    unsafe { zeroed() }
}

/// See [`UdpSocket::receive`].
pub(crate) fn receive(socket: &UdpSocket, arena: &mut ReceiveArena) -> io::Result<usize> {
    let first = arena.len();
    let batch = &mut arena.batch;
    let free = &mut batch.headers[first..];
    if free.is_empty() {
        return Ok(0);
    }
    // SAFETY: every header points to a name, a control buffer and one iovec over `SLOT_BYTES` of the arena, all of which it owns and
    // none of which is borrowed here; their lengths are as `reset` and `new` left them.
    let count = check(unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            free.as_mut_ptr(),
            free.len() as c_uint,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    })?;
    let local = socket.local_addr().ip();
    let bound_to = (!local.is_unspecified()).then_some(local);
    let mut added = 0;
    for (n, header) in free.iter_mut().enumerate().take(count) {
        let length = header.msg_len as usize;
        // Its type differs between C libraries.
        #[allow(clippy::unnecessary_cast)]
        let control_length = header.msg_hdr.msg_controllen as usize;
        let told = read_control(&batch.controls[first + n].0[..control_length.min(size_of::<Control>())]);
        let from = read_name(&batch.names[first + n].0);
        reset(header);
        let start = ReceiveArena::slot(first + n);
        let segment = told.segment.filter(|segment| *segment > 0).unwrap_or(length);
        // The kernel names the sender of every UDP datagram; a message without one would be of no use.
        let from = from.unwrap_or_else(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
        arena.messages.push(Message { from, to: bound_to.or(told.to), segment, start, end: start + length });
        added += 1;
    }
    Ok(added)
}

/// The arrays that `sendmmsg` reads. They keep their room from one round to the next, and their pointers not at all.
#[derive(Default)]
struct SendBatch {
    headers: Vec<mmsghdr>,
    names: Vec<Name>,
    controls: Vec<Control>,
    iovecs: Vec<iovec>,
}

/// One batch for the round, one for a run of it that has to be sent again.
#[derive(Default)]
pub(crate) struct SendBatches {
    round: SendBatch,
    again: SendBatch,
}

// SAFETY: between two calls the pointers inside are never read; each call makes its own.
unsafe impl Send for SendBatches {}

impl SendBatches {
    /// Sends the runs with these numbers.
    pub(crate) fn send(&mut self, socket: &UdpSocket, order: &[u32], runs: &Runs<'_>, sent: &mut Sent) {
        let cut = !socket.sends_runs();
        self.round.clear(order.iter().map(|index| runs.get(*index)), cut);
        for index in order {
            self.round.add(runs.get(*index), runs, cut);
        }
        let mut next = 0;
        while next < self.round.headers.len() {
            match self.round.call(socket.as_raw_fd(), next) {
                Ok(count) => {
                    sent.datagrams += if cut {
                        count as u64
                    } else {
                        order[next..next + count]
                            .iter()
                            .map(|index| u64::from(runs.get(*index).datagrams))
                            .sum()
                    };
                    next += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if Refused::from(&error) == Refused::Full => {
                    let rest = match cut {
                        true => (self.round.headers.len() - next) as u64,
                        false => {
                            order[next..].iter().map(|index| u64::from(runs.get(*index).datagrams)).sum()
                        }
                    };
                    return sent.lost += rest;
                }
                Err(error) => {
                    if cut {
                        sent.lost += 1;
                    } else {
                        self.refused(socket, runs.get(order[next]), runs, &error, sent);
                    }
                    next += 1;
                }
            }
        }
    }

    /// The kernel did not take a run. If that may be because it is one, its datagrams are sent singly.
    fn refused(
        &mut self,
        socket: &UdpSocket,
        run: &Run,
        runs: &Runs<'_>,
        error: &io::Error,
        sent: &mut Sent,
    ) {
        let what = Refused::from(error);
        if what == Refused::RunsAtAll {
            socket.stop_runs();
        }
        if run.datagrams == 1 || what == Refused::Datagram {
            sent.lost += u64::from(run.datagrams);
            return;
        }
        self.again.clear(std::iter::once(run), true);
        self.again.add(run, runs, true);
        self.again.send_singly(socket.as_raw_fd(), sent);
    }
}

/// What the kernel's refusal of a run means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// There is no room for a moment. What would follow meets the same, and each attempt would cost a call.
    Full,
    /// It would refuse each of its datagrams, too.
    Datagram,
    /// This run is not taken: its datagrams are larger than the path carries. Whoever sends them must not spoil runs for others.
    ThisRun,
    /// The way out cannot cut runs: an interface without checksums in hardware.
    RunsAtAll,
}

impl From<&io::Error> for Refused {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS) => Self::Full,
            Some(libc::EIO) => Self::RunsAtAll,
            Some(libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP | libc::ENOPROTOOPT) => Self::ThisRun,
            _ => Self::Datagram,
        }
    }
}

impl SendBatch {
    /// Makes room for these runs, so that nothing moves while they are added.
    fn clear<'r>(&mut self, runs: impl Iterator<Item = &'r Run>, cut: bool) {
        let (mut messages, mut pieces) = (0, 0);
        for run in runs {
            messages += if cut { run.datagrams as usize } else { 1 };
            pieces += run.pieces as usize + if cut { run.datagrams as usize } else { 0 };
        }
        self.headers.clear();
        self.names.clear();
        self.controls.clear();
        self.iovecs.clear();
        self.headers.reserve(messages);
        self.names.reserve(messages);
        self.controls.reserve(messages);
        self.iovecs.reserve(pieces);
    }

    /// Adds a run as one message, or cut into its datagrams.
    fn add(&mut self, run: &Run, runs: &Runs<'_>, cut: bool) {
        let mut first = self.iovecs.len();
        if !cut || run.datagrams == 1 {
            debug_assert!(first + run.pieces as usize <= self.iovecs.capacity(), "`clear` makes room");
            self.iovecs.extend(runs.stretches(run).map(as_iovec));
            let segment = (run.datagrams > 1).then_some(run.segment as u16);
            return self.message(run, first, segment);
        }
        let mut left = run.segment as usize;
        for mut bytes in runs.stretches(run) {
            while !bytes.is_empty() {
                let (now, later) = bytes.split_at(left.min(bytes.len()));
                debug_assert!(self.iovecs.len() < self.iovecs.capacity(), "`clear` makes room");
                self.iovecs.push(as_iovec(now));
                left -= now.len();
                bytes = later;
                if left == 0 {
                    self.message(run, first, None);
                    first = self.iovecs.len();
                    left = run.segment as usize;
                }
            }
        }
        if first < self.iovecs.len() {
            self.message(run, first, None);
        }
    }

    /// Adds a message over the iovecs from `first` on.
    fn message(&mut self, run: &Run, first: usize, segment: Option<u16>) {
        let (name, name_length) = write_name(run.to);
        let (control, control_length) = write_control(segment, run.from);
        let n = self.headers.len();
        // Moving any of them would leave the headers with pointers to where they were.
        debug_assert!(
            n < self.headers.capacity() && n < self.names.capacity() && n < self.controls.capacity(),
            "`clear` makes room"
        );
        self.names.push(name);
        self.controls.push(control);
        let mut header = empty_header();
        header.msg_hdr.msg_name = self.names.as_mut_ptr().wrapping_add(n).cast();
        header.msg_hdr.msg_namelen = name_length as _;
        header.msg_hdr.msg_iov = self.iovecs.as_mut_ptr().wrapping_add(first);
        header.msg_hdr.msg_iovlen = (self.iovecs.len() - first) as _;
        if control_length > 0 {
            header.msg_hdr.msg_control = self.controls.as_mut_ptr().wrapping_add(n).cast();
            header.msg_hdr.msg_controllen = control_length as _;
        }
        self.headers.push(header);
    }

    /// Sends from message `next` on; how many were taken.
    fn call(&mut self, socket: RawFd, next: usize) -> io::Result<usize> {
        let messages = &mut self.headers[next..];
        let count = messages.len().min(MAX_MESSAGES) as c_uint;
        // SAFETY: `clear` reserved room for all that was added, so every pointer still leads to its name, control and iovecs in the
        // vectors of this batch; the iovecs lead to memory of the arena and the queue, both borrowed until the caller is done.
        let taken =
            check(unsafe { libc::sendmmsg(socket, messages.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) })?;
        // Taking none without a reason would be asked for ever.
        if taken == 0 { Err(io::Error::from_raw_os_error(libc::EAGAIN)) } else { Ok(taken) }
    }

    fn send_singly(&mut self, socket: RawFd, sent: &mut Sent) {
        let mut next = 0;
        while next < self.headers.len() {
            match self.call(socket, next) {
                Ok(count) => {
                    sent.datagrams += count as u64;
                    next += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if Refused::from(&error) == Refused::Full => {
                    return sent.lost += (self.headers.len() - next) as u64;
                }
                Err(_) => {
                    sent.lost += 1;
                    next += 1;
                }
            }
        }
    }
}

/// See [`UdpSocket::send_run`]: at most a run's worth of bytes.
pub(crate) fn send_one_run(
    socket: &UdpSocket,
    to: SocketAddr,
    bytes: &[u8],
    segment: usize,
    sent: &mut Sent,
) {
    let datagrams = bytes.len().div_ceil(segment);
    debug_assert!(datagrams <= MAX_SEGMENTS);
    let (mut name, name_length) = write_name(to);
    let mut send = |bytes: &[u8], segment: Option<u16>| loop {
        let (mut control, control_length) = write_control(segment, None);
        let mut iovec = as_iovec(bytes);
        let mut header = empty_header().msg_hdr;
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = name_length as _;
        header.msg_iov = &raw mut iovec;
        header.msg_iovlen = 1;
        if control_length > 0 {
            header.msg_control = (&raw mut control).cast();
            header.msg_controllen = control_length as _;
        }
        // SAFETY: the header points to variables of this function and to `bytes`, which all outlive the call.
        let result = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
        match check(result as c_int) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    };
    if datagrams == 1 || socket.sends_runs() {
        match send(bytes, (datagrams > 1).then_some(segment as u16)) {
            Ok(_) => return sent.datagrams += datagrams as u64,
            Err(error) => {
                let what = Refused::from(&error);
                if what == Refused::RunsAtAll {
                    socket.stop_runs();
                }
                if datagrams == 1 || matches!(what, Refused::Full | Refused::Datagram) {
                    return sent.lost += datagrams as u64;
                }
            }
        }
    }
    for datagram in bytes.chunks(segment) {
        match send(datagram, None) {
            Ok(_) => sent.datagrams += 1,
            Err(_) => sent.lost += 1,
        }
    }
}

/// Asks for runs, and for destinations where they are wanted and can differ. A kernel that knows no runs gives single datagrams.
pub(crate) fn set_up(socket: &impl AsRawFd, local: SocketAddr, learn_destination: bool) -> io::Result<()> {
    let _ = set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1);
    if learn_destination && local.ip().is_unspecified() {
        match local {
            SocketAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
            SocketAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?,
        }
    }
    Ok(())
}

/// Whether the kernel knows how to send runs. 0 is the option's default, so nothing changes.
pub(crate) fn can_send_runs(socket: &impl AsRawFd) -> bool {
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok()
}

/// Past the system's limit, which takes a privilege.
pub(crate) fn force_buffer(socket: &impl AsRawFd, bytes: usize, direction: &Direction) -> bool {
    let name = match direction {
        Direction::In => libc::SO_RCVBUFFORCE,
        Direction::Out => libc::SO_SNDBUFFORCE,
    };
    set_option(socket, libc::SOL_SOCKET, name, c_int::try_from(bytes).unwrap_or(c_int::MAX)).is_ok()
}

fn set_option(socket: &impl AsRawFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let pointer: *const c_void = (&raw const value).cast();
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `pointer` leads to an integer of `length` bytes that lives until the call returns.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, pointer, length) }).map(drop)
}

fn check(result: c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn as_iovec(bytes: &[u8]) -> iovec {
    // Only ever read from: sending takes the same structure as receiving.
    iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

fn write_name(to: SocketAddr) -> (Name, usize) {
    let mut name = Name([0; 32]);
    let bytes = &mut name.0;
    match to {
        SocketAddr::V4(to) => {
            bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            bytes[2..4].copy_from_slice(&to.port().to_be_bytes());
            bytes[4..8].copy_from_slice(&to.ip().octets());
            (name, NAME_V4)
        }
        SocketAddr::V6(to) => {
            bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            bytes[2..4].copy_from_slice(&to.port().to_be_bytes());
            bytes[8..24].copy_from_slice(&to.ip().octets());
            bytes[24..28].copy_from_slice(&to.scope_id().to_ne_bytes());
            (name, NAME_V6)
        }
    }
}

fn read_name(bytes: &[u8; 32]) -> Option<SocketAddr> {
    let family = c_int::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    match family {
        libc::AF_INET => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(array::<4>(&bytes[4..8]))), port)),
        libc::AF_INET6 => {
            let address = Ipv6Addr::from(array::<16>(&bytes[8..24]));
            let scope = u32::from_ne_bytes(array(&bytes[24..28]));
            // The flow label is the sender's own business, and would make one address look like many.
            Some(SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope)))
        }
        _ => None,
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

/// What came beside a message.
#[derive(Default)]
struct Told {
    segment: Option<usize>,
    to: Option<IpAddr>,
}

fn read_control(mut rest: &[u8]) -> Told {
    let mut told = Told::default();
    while rest.len() >= CONTROL_HEADER {
        let word = size_of::<usize>();
        let length = usize::from_ne_bytes(array(&rest[..word]));
        let level = c_int::from_ne_bytes(array(&rest[word..word + 4]));
        let kind = c_int::from_ne_bytes(array(&rest[word + 4..word + 8]));
        if length < CONTROL_HEADER || length > rest.len() {
            break;
        }
        let data = &rest[CONTROL_HEADER..length];
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) if data.len() >= 4 => {
                told.segment = usize::try_from(c_int::from_ne_bytes(array(&data[..4]))).ok();
            }
            // `in_pktinfo`: interface, the local address, the address in the datagram's header. For what was sent to many (broadcast,
            // multicast) only the first of the two can be answered from.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if data.len() >= 12 => {
                told.to = Some(IpAddr::V4(Ipv4Addr::from(array::<4>(&data[4..8]))));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if data.len() >= 20 => {
                told.to = Some(IpAddr::V6(Ipv6Addr::from(array::<16>(&data[..16]))));
            }
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(word)..).unwrap_or_default();
    }
    told
}

fn write_control(segment: Option<u16>, from: Option<IpAddr>) -> (Control, usize) {
    let mut control = Control([0; 64]);
    let mut at = 0;
    let mut write = |level: c_int, kind: c_int, data: &[u8]| {
        let word = size_of::<usize>();
        let bytes = &mut control.0[at..];
        bytes[..word].copy_from_slice(&(CONTROL_HEADER + data.len()).to_ne_bytes());
        bytes[word..word + 4].copy_from_slice(&level.to_ne_bytes());
        bytes[word + 4..word + 8].copy_from_slice(&kind.to_ne_bytes());
        bytes[CONTROL_HEADER..CONTROL_HEADER + data.len()].copy_from_slice(data);
        at += control_space(data.len());
    };
    if let Some(segment) = segment {
        write(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    }
    match from {
        Some(IpAddr::V4(from)) => {
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&from.octets());
            write(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(from)) => {
            let mut info = [0; 20];
            info[..16].copy_from_slice(&from.octets());
            write(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        None => {}
    }
    (control, at)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::{Duration, Instant};

    use super::{Refused, Runs, SendBatches, read_control, read_name, set_option, write_control, write_name};
    use crate::{ReceiveArena, SendQueue, Sent, UdpOptions, UdpSocket};

    fn socket() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0".parse().expect("an address"), &UdpOptions::default()).expect("a socket")
    }

    /// Waits for so many datagrams.
    fn received(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        let mut arena = ReceiveArena::new(64);
        let mut all = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(5);
        while all.len() < count && Instant::now() < deadline {
            arena.clear();
            socket.receive(&mut arena).expect("a working socket");
            all.extend(arena.datagrams().map(|(_, bytes)| bytes.to_vec()));
            std::thread::yield_now();
        }
        all
    }

    fn numbered(count: usize, size: usize) -> Vec<u8> {
        (0..count).flat_map(|n| vec![n as u8; size]).collect()
    }

    #[test]
    fn addresses_survive_being_written_and_read() {
        for text in ["192.0.2.7:3478", "[2001:db8::7]:65535", "[fe80::1%3]:1"] {
            let address = text.parse().expect("an address");
            assert_eq!(read_name(&write_name(address).0.0), Some(address));
        }
        assert_eq!(read_name(&[0; 32]), None);
    }

    #[test]
    fn control_messages_are_read_as_far_as_they_go() {
        for text in ["192.0.2.7", "2001:db8::7"] {
            let address = Some(text.parse().expect("an address"));
            let (control, length) = write_control(Some(1200), address);
            assert_eq!(read_control(&control.0[..length]).to, address);
            for cut in 0..length {
                assert_eq!(
                    read_control(&control.0[..cut]).segment,
                    None,
                    "what is sent is not what is received"
                );
            }
        }
        assert_eq!(write_control(None, None).1, 0);
    }

    #[test]
    fn only_an_interface_that_cannot_cut_runs_ends_them_for_good() {
        let of = |code| Refused::from(&io::Error::from_raw_os_error(code));
        assert_eq!(of(libc::EIO), Refused::RunsAtAll);
        for code in [libc::EINVAL, libc::EMSGSIZE] {
            assert_eq!(of(code), Refused::ThisRun);
        }
        for code in [libc::EPERM, libc::ECONNREFUSED, libc::ENETUNREACH] {
            assert_eq!(of(code), Refused::Datagram);
        }
        for code in [libc::EAGAIN, libc::ENOBUFS] {
            assert_eq!(of(code), Refused::Full);
        }
    }

    #[test]
    fn a_run_that_the_kernel_refuses_is_sent_singly_and_nothing_is_lost() {
        let (near, far) = (socket(), socket());
        // The kernel cuts no runs for a socket that sends without checksums.
        set_option(&near, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).expect("an option of old");
        let bytes = numbered(7, 100);
        assert_eq!(near.send_run(far.local_addr(), &bytes, 100), Sent { datagrams: 7, lost: 0 });
        assert_eq!(received(&far, 7).concat(), bytes);

        let (mut queue, mut arena) = (SendQueue::new(), ReceiveArena::new(1));
        arena.bytes_mut(0..700).copy_from_slice(&bytes);
        for n in 0..7 {
            queue.push(0, 1, far.local_addr(), None, b"1234", n * 100..n * 100 + 100, 2, 0, &mut arena);
        }
        queue.push_copy(0, far.local_addr(), None, b"after");
        assert_eq!(queue.flush(&arena, |_| Some(&near)), Sent { datagrams: 8, lost: 0 });
        let all = received(&far, 8);
        for (n, datagram) in all[..7].iter().enumerate() {
            assert_eq!(*datagram, [b"1234".as_slice(), &[n as u8; 100], &[0, 0]].concat());
        }
        assert_eq!(all[7], b"after");
        assert!(near.sends_runs(), "it may be this run's fault alone");
    }

    #[test]
    fn a_socket_without_runs_sends_everything_singly_from_then_on() {
        let (near, far) = (socket(), socket());
        let (mut queue, mut arena) = (SendQueue::new(), ReceiveArena::new(1));
        arena.bytes_mut(0..450).copy_from_slice(&numbered(3, 150));
        for n in 0..3 {
            queue.push(0, 1, far.local_addr(), None, b"", n * 150..n * 150 + 150, 0, 0, &mut arena);
        }
        let mut sent = Sent::default();
        queue.with_runs(&arena, |runs: &Runs<'_>| {
            let error = io::Error::from_raw_os_error(libc::EIO);
            SendBatches::default().refused(&near, runs.get(0), runs, &error, &mut sent);
        });
        assert_eq!(sent, Sent { datagrams: 3, lost: 0 });
        assert_eq!(received(&far, 3).concat(), numbered(3, 150));
        assert!(!near.sends_runs());
        queue.push(0, 2, far.local_addr(), None, b"", 0..50, 0, 0, &mut arena);
        assert_eq!(queue.flush(&arena, |_| Some(&near)), Sent { datagrams: 4, lost: 0 });
        assert_eq!(received(&far, 4).concat(), [numbered(3, 150), vec![0; 50]].concat());
        let bytes = numbered(5, 10);
        assert_eq!(near.send_run(far.local_addr(), &bytes, 10), Sent { datagrams: 5, lost: 0 });
        assert_eq!(received(&far, 5).concat(), bytes);
    }
}
