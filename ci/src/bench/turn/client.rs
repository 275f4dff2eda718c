//! One TURN client over UDP: a socket, a login, an allocation and its channels.
//! It asks one thing at a time and repeats what got no answer; the data plane sends and receives over the same socket.

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use snug_udp::{ReceiveArena, UdpOptions, UdpSocket};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::buffers::SOCKET_BUFFER;
use super::stun::{Answer, Login, Request, Session};

/// How long an answer may take before the request is repeated, and how often.
const PATIENCE: Duration = Duration::from_millis(250);
const TRIES: usize = 12;

/// Clients that have a request under way at once: enough that the server finds work whenever it wakes up.
const AT_ONCE: usize = 50;

/// The only channel of every client.
pub(super) const CHANNEL: u16 = 0x4000;

pub(super) struct Client {
    pub(super) socket: UdpSocket,
    server: SocketAddr,
    login: Login,
    session: Option<Session>,
    relayed: Option<SocketAddr>,
}

impl Client {
    /// A client without an allocation. `deep` gives its socket the buffers of the load cells.
    ///
    /// # Errors
    /// When no socket can be had.
    pub(super) fn new(source: IpAddr, server: SocketAddr, login: Login, deep: bool) -> Result<Self> {
        let buffer = deep.then_some(SOCKET_BUFFER);
        let options = UdpOptions { receive_buffer: buffer, send_buffer: buffer, ..UdpOptions::default() };
        let socket = UdpSocket::bind(SocketAddr::new(source, 0), &options).context(
            "no socket for one more client; raise the limit of open files (`ulimit -n`) and try again",
        )?;
        Ok(Self { socket, server, login, session: None, relayed: None })
    }

    /// The address at which the server receives for this client.
    ///
    /// # Errors
    /// When it has no allocation.
    pub(super) fn relayed(&self) -> Result<SocketAddr> {
        self.relayed.context("a client without an allocation has no relayed address")
    }

    fn session(&self) -> Result<&Session> {
        self.session.as_ref().context("a client asks for an allocation before it asks for anything else")
    }

    fn send(&self, request: &Request) {
        self.socket.send_run(self.server, &request.bytes, request.bytes.len());
    }

    /// Waits for the answer to a request that was sent before.
    fn hear(&self, request: &Request, arena: &mut ReceiveArena) -> Result<Answer> {
        for _ in 0..TRIES {
            if let Some(answer) = wait_for(&self.socket, PATIENCE, arena, |bytes| request.answer(bytes))? {
                return Ok(answer);
            }
            self.send(request);
        }
        bail!("{} gave no answer within {:?}: is its log worth a look?", self.server, PATIENCE * TRIES as u32)
    }
}

/// Asks the same of all clients, many at once, and takes each answer in. `ask` is asked again when the server wants another nonce.
fn ask_all(
    clients: &mut [Client],
    arena: &mut ReceiveArena,
    what: &str,
    ask: impl Fn(usize, &Client) -> Result<Request>,
    take: impl Fn(&mut Client, Option<SocketAddr>) -> Result<()>,
) -> Result<()> {
    for (round, group) in clients.chunks_mut(AT_ONCE).enumerate() {
        let mut requests = Vec::with_capacity(group.len());
        for (place, client) in group.iter().enumerate() {
            let request = ask(round * AT_ONCE + place, client)?;
            client.send(&request);
            requests.push(request);
        }
        // Who is challenged asks again at once, and the others' answers are read meanwhile.
        for last in [false, true] {
            for (place, (client, request)) in group.iter_mut().zip(&mut requests).enumerate() {
                if request.is_answered() {
                    continue;
                }
                match client.hear(request, arena).context(what.to_owned())? {
                    Answer::Success(relayed) => {
                        take(client, relayed)?;
                        request.set_answered();
                    }
                    Answer::Refused { code: 401 | 438, challenge: Some((realm, nonce)) } if !last => {
                        client.session = Some(Session::new(&client.login, &realm, &nonce)?);
                        *request = ask(round * AT_ONCE + place, client)?;
                        client.send(request);
                    }
                    Answer::Refused { code, .. } => bail!("{what} was refused with {code}"),
                }
            }
        }
    }
    Ok(())
}

/// Allocates for all clients as a client does that knows nothing yet: a first request, its 401, and the request with a name.
///
/// # Errors
/// When one is refused or not answered.
pub(super) fn allocate(clients: &mut [Client], arena: &mut ReceiveArena) -> Result<()> {
    let ask = |_, client: &Client| match &client.session {
        Some(session) => session.allocate(),
        None => Request::first_allocate(),
    };
    ask_all(clients, arena, "an Allocate", ask, |client, relayed| {
        client.relayed = Some(relayed.context("an Allocate succeeded without a relayed address")?);
        Ok(())
    })
}

/// Binds the channel of each client to the peer that `peers` has at its place. That is a permission, too.
///
/// # Errors
/// When one is refused or not answered.
pub(super) fn bind_channels(
    clients: &mut [Client],
    peers: &[SocketAddr],
    arena: &mut ReceiveArena,
) -> Result<()> {
    let ask = |number: usize, client: &Client| client.session()?.bind(CHANNEL, peers[number]);
    ask_all(clients, arena, "a ChannelBind", ask, |_, _| Ok(()))
}

/// Gives all allocations back, so that ports and client addresses are free for the next cell.
///
/// # Errors
/// When one is refused or not answered.
pub(super) fn release(clients: &mut [Client], arena: &mut ReceiveArena) -> Result<()> {
    let ask = |_, client: &Client| client.session()?.refresh(0);
    ask_all(clients, arena, "a Refresh with lifetime 0", ask, |client, _| {
        client.relayed = None;
        Ok(())
    })
}

/// Receives until `found` finds something or the time is over.
///
/// # Errors
/// When the socket fails, or `found` does.
pub(super) fn wait_for<T>(
    socket: &UdpSocket,
    patience: Duration,
    arena: &mut ReceiveArena,
    mut found: impl FnMut(&[u8]) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let end = Instant::now() + patience;
    loop {
        arena.clear();
        if socket.receive(arena)? == 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&Timespec::try_from(left)?))?;
        }
        for (_, bytes) in arena.datagrams() {
            if let Some(it) = found(bytes)? {
                return Ok(Some(it));
            }
        }
    }
}
