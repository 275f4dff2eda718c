//! What is counted.

/// Why a request was answered with an error, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 400: it cannot be understood.
    BadRequest,
    /// 401: it has no credentials yet. Every allocation begins like that.
    Challenged,
    /// 401: the credentials are wrong, have expired, or their account is not admitted.
    WrongCredentials,
    /// 403: the peer may not be reached.
    ForbiddenPeer,
    /// 420: an attribute that must be understood is not.
    UnknownAttribute,
    /// 437: there is no allocation, or there is one already.
    Mismatch,
    /// 438: the nonce is too old.
    StaleNonce,
    /// 440: no relayed transport address of that family.
    Family,
    /// 441: the allocation is somebody else's.
    OtherAccount,
    /// 442: only UDP is relayed.
    Transport,
    /// 443: the peer has another family than the relayed transport address.
    PeerFamily,
    /// 486: a quota is used up.
    Quota,
    /// 508: no port is free, or what was asked for is not offered.
    Capacity,
    /// No answer: the network has had too many.
    Silenced,
}

impl Refusal {
    /// All of them, in the order of [`TurnStats::refusals`].
    pub const ALL: [Self; 14] = [
        Self::BadRequest,
        Self::Challenged,
        Self::WrongCredentials,
        Self::ForbiddenPeer,
        Self::UnknownAttribute,
        Self::Mismatch,
        Self::StaleNonce,
        Self::Family,
        Self::OtherAccount,
        Self::Transport,
        Self::PeerFamily,
        Self::Quota,
        Self::Capacity,
        Self::Silenced,
    ];

    /// As a label of a metric.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Challenged => "challenged",
            Self::WrongCredentials => "wrong_credentials",
            Self::ForbiddenPeer => "forbidden_peer",
            Self::UnknownAttribute => "unknown_attribute",
            Self::Mismatch => "mismatch",
            Self::StaleNonce => "stale_nonce",
            Self::Family => "family",
            Self::OtherAccount => "other_account",
            Self::Transport => "transport",
            Self::PeerFamily => "peer_family",
            Self::Quota => "quota",
            Self::Capacity => "capacity",
            Self::Silenced => "silenced",
        }
    }

    /// The code of ERROR-CODE (RFC 8489 §14.8, RFC 8656 §19); for an answer that is not given, the one it would have had.
    pub(crate) fn stun_code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Challenged | Self::WrongCredentials | Self::Silenced => 401,
            Self::ForbiddenPeer => 403,
            Self::UnknownAttribute => 420,
            Self::Mismatch => 437,
            Self::StaleNonce => 438,
            Self::Family => 440,
            Self::OtherAccount => 441,
            Self::Transport => 442,
            Self::PeerFamily => 443,
            Self::Quota => 486,
            Self::Capacity => 508,
        }
    }
}

/// Why a packet went nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// It is no STUN message and no ChannelData, or an answer, or an indication that nobody expects.
    NotUnderstood,
    /// The client has no allocation.
    NoAllocation,
    /// ChannelData for a channel that is not bound.
    NoChannel,
    /// Between a peer and an allocation without a permission.
    NoPermission,
    /// The peer may not be reached.
    ForbiddenPeer,
    /// A relayed peer that is gone, or of another group.
    OtherGroup,
    /// Past a quota.
    OverQuota,
}

impl DropReason {
    /// All of them, in the order of [`TurnStats::dropped`].
    pub const ALL: [Self; 7] = [
        Self::NotUnderstood,
        Self::NoAllocation,
        Self::NoChannel,
        Self::NoPermission,
        Self::ForbiddenPeer,
        Self::OtherGroup,
        Self::OverQuota,
    ];

    /// As a label of a metric.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotUnderstood => "not_understood",
            Self::NoAllocation => "no_allocation",
            Self::NoChannel => "no_channel",
            Self::NoPermission => "no_permission",
            Self::ForbiddenPeer => "forbidden_peer",
            Self::OtherGroup => "other_group",
            Self::OverQuota => "over_quota",
        }
    }
}

/// Counters since the start, and what there is at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TurnStats {
    /// Allocations that live.
    pub allocations: u32,
    /// The same by [`crate::Transport::ALL`].
    pub allocations_by: [u32; 3],
    /// Relay sockets that are open.
    pub relay_sockets: u32,
    /// Allocations that were made.
    pub allocated: u64,
    /// Payload from clients that was passed on.
    pub bytes_from_clients: u64,
    /// The same in packets.
    pub packets_from_clients: u64,
    /// Payload that was passed on to clients.
    pub bytes_to_clients: u64,
    /// The same in packets.
    pub packets_to_clients: u64,
    /// Payload that went from one client to another without a relay socket; it is in both of the above as well.
    pub bytes_in_process: u64,
    /// The same in packets.
    pub packets_in_process: u64,
    /// Requests by [`Refusal::ALL`].
    pub refusals: [u64; Refusal::ALL.len()],
    /// Packets by [`DropReason::ALL`].
    pub dropped: [u64; DropReason::ALL.len()],
}

impl TurnStats {
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.refusals[refusal as usize] += 1;
    }

    pub(crate) fn drop(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::{DropReason, Refusal};

    #[test]
    fn the_lists_are_in_the_order_of_their_variants() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }
}
