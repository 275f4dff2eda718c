//! Arbitrary sequences of what can happen to the TURN server, held against the model of its integration tests: requests good, bad and damaged,
//! packets from all sides, time, revoked accounts, changed secrets, ports that cannot be bound. What must hold is written there.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../relay/turn-proto/tests/it/model.rs"]
mod model;
#[path = "../../../relay/turn-proto/tests/it/oracle.rs"]
#[allow(dead_code, reason = "the policy's property test uses more of it")]
mod oracle;
#[path = "../../../relay/turn-proto/tests/it/stun.rs"]
#[allow(dead_code, reason = "the transcripts use more of it")]
mod stun;

fuzz_target!(|bytes: &[u8]| model::run(bytes));
