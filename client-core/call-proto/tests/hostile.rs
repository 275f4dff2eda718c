//! A relay or participant that sends anything at all never makes a call panic.

#![expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]

use std::time::{Duration, Instant};

use proptest::prelude::*;
use snug_call_proto::{Call, CallConfig, Input, LinkId, Now, Output};
use snug_wire::message::Received;
use snug_wire::{Media, UserId};

fn call(now: Now) -> Call {
    let config = CallConfig {
        room: "sunny-mountain-42".parse().unwrap(),
        secret: None,
        owner_token: None,
        name: "Ana".into(),
        password: None,
        media: Media::default(),
        agent: "test/1".into(),
        kept: None,
    };
    Call::new(config, [1; 32], now)
}

/// Frames with the ids that make them matter.
fn frame(own: UserId, kind: u8, seq: u64, text: &str) -> String {
    let other = UserId::from_bytes([kind % 3; 16]);
    let sdp = serde_json::json!({"sdp": text, "session": "AAAAAAAAAAA", "restart": kind.is_multiple_of(2)})
        .to_string();
    let mut member = serde_json::json!({"userId": other, "displayName": {"plain": text}, "media": {}, "away": kind.is_multiple_of(5), "owner": false});
    if kind.is_multiple_of(7) {
        member["formerId"] = serde_json::json!(other);
    }
    let room = serde_json::json!({"maxParticipants": 10, "allowScreenShare": kind.is_multiple_of(2), "passwordEnabled": false, "locked": false, "sealed": false});
    let token = "A".repeat(43);
    let value = match kind % 16 {
        0..=2 => {
            serde_json::json!({"type": "room_joined", "seq": seq, "roomId": "sunny-mountain-42", "userId": own, "resumeToken": token,
            "participants": [member], "roomInfo": room, "isOwner": true, "ticket": text, "iceServers": [], "iceTtlSeconds": u64::MAX, "seatHoldSeconds": 30})
        }
        3 => serde_json::json!({"type": "user_joined", "seq": seq, "participant": member}),
        4 | 5 => {
            serde_json::json!({"type": "offer_received", "seq": seq, "fromId": other, "payload": {"plain": sdp}})
        }
        6 => {
            serde_json::json!({"type": "answer_received", "seq": seq, "fromId": other, "payload": {"plain": sdp}})
        }
        7 => serde_json::json!({"type": "user_left", "seq": seq, "userId": other, "reason": "left"}),
        8 => serde_json::json!({"type": "user_back", "seq": seq, "userId": other}),
        9 => serde_json::json!({"type": "drain", "reconnectAfterMs": u64::MAX}),
        10 => serde_json::json!({"type": "error", "code": "RESUME_FAILED", "message": text}),
        11 => {
            serde_json::json!({"type": "error", "code": "RATE_LIMITED", "message": text, "retryAfterMs": u64::MAX})
        }
        12 => serde_json::json!({"type": "resumed", "resumeToken": token, "replayed": 0}),
        13 => serde_json::json!({"type": "auth_required"}),
        14 => {
            serde_json::json!({"type": "welcome", "versions": [2], "relay": text, "heartbeatSeconds": u64::MAX, "nonce": token})
        }
        _ => return text.to_owned(),
    };
    value.to_string()
}

proptest! {
    #[test]
    fn anything_from_the_relay_or_a_channel_is_survived(
        steps in prop::collection::vec((any::<u8>(), any::<u8>(), 0u64..8, ".{0,40}"), 1..80),
    ) {
        let mut now = Now { at: Instant::now(), unix_ms: 0 };
        let mut call = call(now);
        let mut jobs = Vec::new();
        let mut links = vec![LinkId(0)];
        for (action, kind, seq, text) in steps {
            let link = links[kind as usize % links.len()];
            match action % 12 {
                0 => call.handle_input(Input::Connected, now),
                1 => call.handle_input(Input::Disconnected { close_code: Some(4000 + u16::from(kind)), error: None }, now),
                2 => call.handle_input(Input::ChannelMessage { link, text: format!(r#"{{"type":"offer","payload":{{"plain":"{kind}"}}}}"#) }, now),
                3 => call.handle_input(Input::ChannelOpened { link }, now),
                4 => call.handle_input(Input::ChannelMessage { link, text }, now),
                5 => {
                    if let Some((link, job)) = jobs.pop() {
                        call.handle_input(Input::DescriptionReady { link, job, sdp: text }, now);
                    }
                }
                6 => {
                    now.at += Duration::from_millis(u64::from(kind) * 40);
                    call.handle_timeout(now);
                }
                7 => call.handle_input(Input::SendChat(text), now),
                _ => {
                    let frame = frame(call.snapshot().self_id, kind, seq, &text);
                    match Received::decode(&frame) {
                        Ok(received) => call.handle_input(Input::Received(received), now),
                        Err(_) => call.handle_input(Input::Unreadable { seq: Received::sequence_of(&frame) }, now),
                    }
                }
            }
            while let Some(output) = call.poll_output() {
                match output {
                    Output::OpenLink { link, .. } => links.push(link),
                    Output::CreateOffer { link, job, .. } | Output::AcceptOffer { link, job, .. } => jobs.push((link, job)),
                    _ => {}
                }
            }
            prop_assert!(call.snapshot().participants.len() <= 64);
        }
    }
}
