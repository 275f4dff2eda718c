//! What an allocation is (RFC 8656 §2.2, §5): a 5-tuple, relayed transport addresses, permissions and channels.

use std::net::{IpAddr, SocketAddr};

use crate::address::{Family, FiveTuple};
use crate::meter::Tick;

const SECOND: Tick = 1_000_000_000;
/// RFC 8656 §3.2.
pub(crate) const DEFAULT_LIFETIME: u32 = 600;
/// RFC 8656 §7.2 suggests an hour.
const MAX_LIFETIME: u32 = 3600;
/// RFC 8656 §9.
const PERMISSION_LIFETIME: Tick = 300 * SECOND;
/// RFC 8656 §12.
const CHANNEL_LIFETIME: Tick = 600 * SECOND;
/// Permissions and channels of one allocation; an ICE agent has a handful of candidates to talk to.
pub(crate) const MOST: usize = 32;

pub(crate) struct Allocation {
    pub(crate) five_tuple: FiveTuple,
    /// Of the request that made it: the same request again gets the same answer (RFC 8656 §7.2).
    pub(crate) transaction: u128,
    pub(crate) account: u32,
    pub(crate) group: u32,
    pub(crate) source: u32,
    pub(crate) expires: Tick,
    /// By [`Family`].
    pub(crate) relayed: [Option<Relayed>; 2],
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
}

/// A relayed transport address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relayed {
    /// What clients and peers are told.
    pub(crate) address: SocketAddr,
    /// Whether the shell has a socket for it. Until a permission for a peer elsewhere there is none.
    pub(crate) open: bool,
}

struct Permission {
    ip: IpAddr,
    expires: Tick,
}

/// A channel binding.
#[derive(Clone, Copy)]
pub(crate) struct Channel {
    pub(crate) number: u16,
    pub(crate) peer: SocketAddr,
    /// Whether the policy lets packets to this peer out by the relay socket; a peer that is relayed here needs no such thing.
    pub(crate) leaves: bool,
    expires: Tick,
}

/// There are 32 already.
pub(crate) struct Full;

/// Why a channel cannot be bound (RFC 8656 §12.2).
pub(crate) enum ChannelConflict {
    /// The number has another peer, or the peer another number.
    Bound,
    Full,
}

/// The lifetime that is granted, in seconds; 0 ends the allocation.
pub(crate) fn granted(requested: Option<u32>) -> u32 {
    match requested {
        None => DEFAULT_LIFETIME,
        Some(0) => 0,
        Some(seconds) => seconds.clamp(DEFAULT_LIFETIME, MAX_LIFETIME),
    }
}

pub(crate) fn after(now: Tick, seconds: u32) -> Tick {
    now + Tick::from(seconds) * SECOND
}

impl Allocation {
    pub(crate) fn new(five_tuple: FiveTuple, transaction: u128, owners: [u32; 3], expires: Tick) -> Self {
        let [account, group, source] = owners;
        Self {
            five_tuple,
            transaction,
            account,
            group,
            source,
            expires,
            relayed: [None; 2],
            permissions: Vec::new(),
            channels: Vec::new(),
        }
    }

    pub(crate) fn relayed(&self, family: Family) -> Option<&Relayed> {
        self.relayed[family as usize].as_ref()
    }

    /// Seconds that are left.
    pub(crate) fn remaining(&self, now: Tick) -> u32 {
        u32::try_from(self.expires.saturating_sub(now).div_ceil(SECOND)).unwrap_or(u32::MAX)
    }

    pub(crate) fn permits(&self, ip: IpAddr, now: Tick) -> bool {
        self.permissions.iter().any(|permission| permission.ip == ip && permission.expires > now)
    }

    /// Whether there is room for permissions for these as well.
    pub(crate) fn room_for(&mut self, ips: &[IpAddr], now: Tick) -> bool {
        self.permissions.retain(|permission| permission.expires > now);
        let known = |ip: &IpAddr| self.permissions.iter().any(|permission| permission.ip == *ip);
        // One that is named twice counts twice: nobody does that for a good reason.
        self.permissions.len() + ips.iter().filter(|ip| !known(ip)).count() <= MOST
    }

    /// Installs or refreshes a permission.
    ///
    /// # Errors
    /// When there are too many.
    pub(crate) fn permit(&mut self, ip: IpAddr, now: Tick) -> Result<(), Full> {
        let expires = now + PERMISSION_LIFETIME;
        if let Some(permission) = self.permissions.iter_mut().find(|permission| permission.ip == ip) {
            permission.expires = expires;
            return Ok(());
        }
        if !self.room_for(&[ip], now) {
            return Err(Full);
        }
        grow(&mut self.permissions);
        self.permissions.push(Permission { ip, expires });
        Ok(())
    }

    pub(crate) fn channel(&self, number: u16, now: Tick) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.number == number && channel.expires > now)
    }

    /// Peers of channels whose packets go out by the relay socket.
    pub(crate) fn leaving(&self) -> impl Iterator<Item = SocketAddr> {
        self.channels.iter().filter(|channel| channel.leaves).map(|channel| channel.peer)
    }

    /// Lets no packet out to `peer` by a channel any more.
    pub(crate) fn keep_inside(&mut self, peer: SocketAddr) {
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.peer == peer) {
            channel.leaves = false;
        }
    }

    pub(crate) fn channel_to(&self, peer: SocketAddr, now: Tick) -> Option<u16> {
        let bound = self.channels.iter().find(|channel| channel.peer == peer && channel.expires > now);
        bound.map(|channel| channel.number)
    }

    /// Whether [`Allocation::bind`] would work.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn can_bind(
        &mut self,
        number: u16,
        peer: SocketAddr,
        now: Tick,
    ) -> Result<(), ChannelConflict> {
        self.channels.retain(|channel| channel.expires > now);
        for channel in &self.channels {
            match (channel.number == number, channel.peer == peer) {
                (true, true) => return Ok(()),
                (false, false) => {}
                _ => return Err(ChannelConflict::Bound),
            }
        }
        if self.channels.len() >= MOST { Err(ChannelConflict::Full) } else { Ok(()) }
    }

    /// Binds or refreshes a channel that [`Allocation::can_bind`].
    pub(crate) fn bind(&mut self, number: u16, peer: SocketAddr, leaves: bool, now: Tick) {
        let expires = now + CHANNEL_LIFETIME;
        match self.channels.iter_mut().find(|channel| channel.number == number) {
            Some(channel) => *channel = Channel { number, peer, leaves, expires },
            None => {
                grow(&mut self.channels);
                self.channels.push(Channel { number, peer, leaves, expires });
            }
        }
    }
}

/// Room for one more, then for four: most allocations talk to one peer, and there are thousands of them.
fn grow<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(if list.is_empty() { 1 } else { 4 });
    }
}
