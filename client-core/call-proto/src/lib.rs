//! Membership, negotiation, ICE restart, layer choice and reconnection of a call: a pure state machine.
