//! Who may use the server and how much each uses: accounts, their groups, and the address blocks they come from.
//!
//! Accounts and groups cost nothing to whoever makes rooms, and neither does a second address of a block. Blocks are what an attacker has few
//! of, so the share of a block is what keeps ports for everybody else.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;
use slab::Slab;

use crate::config::{Quota, Quotas};
use crate::credential::Account;
use crate::meter::{Meter, Rate, Tick};
use crate::network::Network;

/// Hashes with a key of our own: names and addresses are chosen by strangers.
#[derive(Clone, Copy)]
pub(crate) struct KeyedHash(pub(crate) u64, pub(crate) u64);

impl BuildHasher for KeyedHash {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

/// What one of them uses.
#[derive(Default)]
struct Share {
    allocations: u32,
    /// By [`Direction`].
    meters: [Meter; 2],
}

/// Which way a packet goes. Each has a limit of its own, so that nobody can use up what another participant sends by sending to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    FromClient,
    ToClient,
}

struct AccountEntry {
    group: u32,
    share: Share,
    /// Its allocations.
    slots: Vec<u32>,
}

struct GroupEntry {
    name: Box<str>,
    accounts: u32,
    share: Share,
    /// How many relayed transport addresses its accounts have at each IP address. A server has few.
    relayed: Vec<(IpAddr, u32)>,
}

/// An address block.
struct SourceEntry {
    network: Network,
    share: Share,
    /// Relay sockets of its allocations.
    sockets: u32,
}

/// Bits that addresses of one block have in common. One subscriber or office has as much.
const BLOCK_V4: u8 = 24;
const BLOCK_V6: u8 = 56;
/// What a block may have of something when it is short, as far as half of what is left.
const LEAST_OF_BLOCK: usize = 128;

/// How much of something a block may have while so much is `left`. A quarter keeps enough for others where there is plenty. Of a small pool one
/// block gets a third at most, two get five ninths, and however many come, the next one gets some. `u32::MAX` when nothing is left: that is no
/// question of quotas.
pub(crate) fn share_of_block(left: usize) -> u32 {
    let share = if left == 0 { usize::MAX } else { (left / 4).max(LEAST_OF_BLOCK.min(left.div_ceil(2))) };
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// Account, group and source of an allocation.
pub(crate) type Owners = [u32; 3];

/// A quota of allocations is used up.
pub(crate) struct QuotaReached;

pub(crate) struct Ledger {
    quotas: Quotas,
    /// In the order of [`Owners`].
    rates: [Rate; 3],
    server_rate: Rate,
    accounts: Slab<AccountEntry>,
    accounts_by_name: HashMap<Box<str>, u32, KeyedHash>,
    groups: Slab<GroupEntry>,
    groups_by_name: HashMap<Box<str>, u32, KeyedHash>,
    sources: Slab<SourceEntry>,
    sources_by_network: HashMap<Network, u32, KeyedHash>,
    server: Share,
}

impl Ledger {
    pub(crate) fn new(quotas: Quotas, hash: KeyedHash) -> Self {
        let rate = |quota: Quota| Rate::megabits(quota.megabits);
        Self {
            quotas,
            rates: [rate(quotas.per_owner), rate(quotas.per_group), rate(quotas.per_source)],
            server_rate: rate(quotas.server),
            accounts: Slab::new(),
            accounts_by_name: HashMap::with_hasher(hash),
            groups: Slab::new(),
            groups_by_name: HashMap::with_hasher(hash),
            sources: Slab::new(),
            sources_by_network: HashMap::with_hasher(hash),
            server: Share::default(),
        }
    }

    /// Once more changes nothing.
    pub(crate) fn admit(&mut self, account: &Account) {
        let name = account.name();
        if self.accounts_by_name.contains_key(name.as_str()) {
            return;
        }
        let group = match self.groups_by_name.get(&account.group) {
            Some(group) => *group,
            None => {
                let entry = GroupEntry {
                    name: account.group.clone(),
                    accounts: 0,
                    share: Share::default(),
                    relayed: Vec::new(),
                };
                let group = self.groups.insert(entry) as u32;
                self.groups_by_name.insert(account.group.clone(), group);
                group
            }
        };
        self.groups[group as usize].accounts += 1;
        let entry = AccountEntry { group, share: Share::default(), slots: Vec::new() };
        let index = self.accounts.insert(entry) as u32;
        self.accounts_by_name.insert(name.into(), index);
    }

    /// The account's allocations, which must be closed before [`Ledger::forget`].
    pub(crate) fn slots(&self, account: &Account) -> Vec<u32> {
        let index = self.accounts_by_name.get(account.name().as_str());
        index.map(|index| self.accounts[*index as usize].slots.clone()).unwrap_or_default()
    }

    /// Ends an account that has no allocation any more.
    pub(crate) fn forget(&mut self, account: &Account) {
        let Some(index) = self.accounts_by_name.remove(account.name().as_str()) else { return };
        let group = self.accounts.remove(index as usize).group;
        let entry = &mut self.groups[group as usize];
        entry.accounts -= 1;
        if entry.accounts == 0 {
            let entry = self.groups.remove(group as usize);
            self.groups_by_name.remove(&entry.name);
        }
    }

    /// The allocations of an account.
    pub(crate) fn slots_of(&self, account: u32) -> &[u32] {
        &self.accounts[account as usize].slots
    }

    /// How many relayed transport addresses a group has at `ip`.
    pub(crate) fn relayed_at(&self, group: u32, ip: IpAddr) -> u32 {
        let mut counts = self.groups[group as usize].relayed.iter();
        counts.find(|(known, _)| *known == ip).map_or(0, |(_, count)| *count)
    }

    /// Counts one more of them.
    pub(crate) fn relayed(&mut self, group: u32, ip: IpAddr) {
        let counts = &mut self.groups[group as usize].relayed;
        match counts.iter_mut().find(|(known, _)| *known == ip) {
            Some((_, count)) => *count += 1,
            None => counts.push((ip, 1)),
        }
    }

    /// Counts one of them less.
    pub(crate) fn unrelayed(&mut self, group: u32, ip: IpAddr) {
        let counts = &mut self.groups[group as usize].relayed;
        if let Some(index) = counts.iter().position(|(known, _)| *known == ip) {
            counts[index].1 -= 1;
            if counts[index].1 == 0 {
                counts.swap_remove(index);
            }
        }
    }

    pub(crate) fn account(&self, name: &str) -> Option<u32> {
        self.accounts_by_name.get(name).copied()
    }

    /// Counts one more allocation while so many ports are `free`; [`Ledger::add`] tells which.
    ///
    /// # Errors
    /// When the account, its group, its address block or the server has as many as it may.
    pub(crate) fn reserve(
        &mut self,
        account: u32,
        source: IpAddr,
        free: usize,
    ) -> Result<Owners, QuotaReached> {
        let share = |parts: usize, least: u32| u32::try_from(free / parts).unwrap_or(u32::MAX).max(least);
        let group = self.accounts[account as usize].group;
        let network = Network::around(source, if source.is_ipv4() { BLOCK_V4 } else { BLOCK_V6 });
        let known = self.sources_by_network.get(&network).copied();
        let from_source = known.map_or(0, |source| self.sources[source as usize].share.allocations);
        let used = [
            (self.accounts[account as usize].share.allocations, self.quotas.per_owner, share(16, 32)),
            (self.groups[group as usize].share.allocations, self.quotas.per_group, share(4, 128)),
            (from_source, self.quotas.per_source, share_of_block(free)),
            (self.server.allocations, self.quotas.server, u32::MAX),
        ];
        if used.iter().any(|(used, quota, share)| *used >= quota.allocations.min(*share)) {
            return Err(QuotaReached);
        }
        let source = known.unwrap_or_else(|| {
            let entry = SourceEntry { network, share: Share::default(), sockets: 0 };
            let source = self.sources.insert(entry) as u32;
            self.sources_by_network.insert(network, source);
            source
        });
        let owners = [account, group, source];
        self.shares(owners).into_iter().for_each(|share| share.allocations += 1);
        self.server.allocations += 1;
        Ok(owners)
    }

    /// Relay sockets of a source's allocations.
    pub(crate) fn sockets(&mut self, source: u32) -> &mut u32 {
        &mut self.sources[source as usize].sockets
    }

    pub(crate) fn add(&mut self, account: u32, slot: u32) {
        self.accounts[account as usize].slots.push(slot);
    }

    /// Counts one allocation less.
    pub(crate) fn release(&mut self, owners: Owners, slot: u32) {
        self.shares(owners).into_iter().for_each(|share| share.allocations -= 1);
        self.server.allocations -= 1;
        let [account, _, source] = owners;
        let slots = &mut self.accounts[account as usize].slots;
        if let Some(index) = slots.iter().position(|other| *other == slot) {
            slots.swap_remove(index);
        }
        // A block's use is forgotten with its last allocation; what it may move at once is only a second's worth.
        if self.sources[source as usize].share.allocations == 0 {
            let entry = self.sources.remove(source as usize);
            self.sources_by_network.remove(&entry.network);
        }
    }

    /// Whether all four limits have room for a packet.
    pub(crate) fn has_room(&self, owners: Owners, direction: Direction, now: Tick) -> bool {
        let [account, group, source] = owners;
        let shares = [
            &self.accounts[account as usize].share,
            &self.groups[group as usize].share,
            &self.sources[source as usize].share,
        ];
        let inside = |share: &Share, rate| share.meters[direction as usize].has_room(rate, now);
        inside(&self.server, self.server_rate)
            && shares.into_iter().zip(self.rates).all(|(share, rate)| inside(share, rate))
    }

    /// Counts a packet of `bytes` that there was room for.
    pub(crate) fn spend(&mut self, owners: Owners, direction: Direction, bytes: usize, now: Tick) {
        let (rates, server_rate) = (self.rates, self.server_rate);
        for (share, rate) in self.shares(owners).into_iter().zip(rates) {
            share.meters[direction as usize].take(rate, bytes, now);
        }
        self.server.meters[direction as usize].take(server_rate, bytes, now);
    }

    fn shares(&mut self, [account, group, source]: Owners) -> [&mut Share; 3] {
        [
            &mut self.accounts[account as usize].share,
            &mut self.groups[group as usize].share,
            &mut self.sources[source as usize].share,
        ]
    }
}
