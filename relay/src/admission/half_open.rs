//! Connections that have not said anything yet, and which of them is given up first.
//! Never knows what becomes of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::ConnectionId;

/// Where connections come from: an IPv4 /24, an IPv6 /48, or `None` for peers that stand for everybody.
type Network = Option<(bool, [u8; 6])>;

/// The list. Every step costs the logarithm of its length, since those who flood it decide how often it is used.
#[derive(Default)]
pub(super) struct HalfOpen {
    /// In the order of their arrival, since ids grow.
    networks: BTreeMap<ConnectionId, Network>,
    of_network: HashMap<Network, BTreeSet<ConnectionId>>,
    /// By how many each network has and how old its oldest is; the last one is the first to give something up.
    ranking: BTreeSet<(usize, Reverse<ConnectionId>, Network)>,
}

impl HalfOpen {
    pub(super) fn len(&self) -> usize {
        self.networks.len()
    }

    /// All of them, the oldest first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = ConnectionId> {
        self.networks.keys().copied()
    }

    /// The oldest one of the network that has most; of networks that have as many, the oldest of all theirs.
    pub(super) fn of_the_largest_network(&self) -> Option<ConnectionId> {
        self.ranking.last().map(|(_, Reverse(oldest), _)| *oldest)
    }

    pub(super) fn insert(&mut self, id: ConnectionId, peer: Option<IpAddr>) {
        let network = peer.map(network_of);
        self.networks.insert(id, network);
        self.change(network, |ids| {
            ids.insert(id);
        });
    }

    /// Nothing happens when it is not on the list.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        if let Some(network) = self.networks.remove(&id) {
            self.change(network, |ids| {
                ids.remove(&id);
            });
        }
    }

    /// Changes what a network has and where it ranks.
    fn change(&mut self, network: Network, change: impl FnOnce(&mut BTreeSet<ConnectionId>)) {
        let ids = self.of_network.entry(network).or_default();
        let rank = |ids: &BTreeSet<ConnectionId>| Some((ids.len(), Reverse(*ids.first()?), network));
        if let Some(rank) = rank(ids) {
            self.ranking.remove(&rank);
        }
        change(ids);
        if let Some(rank) = rank(ids) {
            self.ranking.insert(rank);
        } else {
            self.of_network.remove(&network);
        }
    }
}

fn network_of(peer: IpAddr) -> (bool, [u8; 6]) {
    let mut prefix = [0; 6];
    let is_v4 = match peer.to_canonical() {
        IpAddr::V4(v4) => {
            prefix[..3].copy_from_slice(&v4.octets()[..3]);
            true
        }
        IpAddr::V6(v6) => {
            prefix.copy_from_slice(&v6.octets()[..6]);
            false
        }
    };
    (is_v4, prefix)
}
