//! Frames from clients that mean no good, and frames at each limit.

use proptest::prelude::*;
use serde_json::json;
use snug_wire::message::Received;
use snug_wire::{ClientMessage, DecodeError, ErrorCode, Payload, Request, limits};

const ANA: &str = "AAAAAAAAAAAAAAAAAAAAAA";

fn refusal(frame: &str) -> (Option<u32>, DecodeError) {
    Request::decode(frame).map(|request| request.encode()).expect_err("must be refused")
}

fn offer(length: usize) -> String {
    json!({"type": "offer", "targetId": ANA, "payload": {"sealed": "x".repeat(length)}}).to_string()
}

#[test]
fn a_payload_at_its_limit_is_taken_and_one_byte_more_is_not() {
    assert!(Request::decode(&offer(limits::DESCRIPTION_PAYLOAD)).is_ok());
    let (_, error) = refusal(&offer(limits::DESCRIPTION_PAYLOAD + 1));
    assert_eq!(error.code(), ErrorCode::TooLarge);
}

#[test]
fn a_frame_at_its_limit_is_taken_and_one_byte_more_is_not() {
    let padded = |length: usize| {
        let frame = r#"{"type":"leave_room","padding":"#;
        format!("{frame}\"{}\"}}", "x".repeat(length - frame.len() - 3))
    };
    assert!(Request::decode(&padded(limits::FRAME)).is_ok());
    assert_eq!(refusal(&padded(limits::FRAME + 1)).1, DecodeError::FrameTooLarge(limits::FRAME + 1));
}

#[test]
fn nesting_at_its_limit_is_taken_and_one_level_more_is_not() {
    let nested = |depth: usize| {
        format!(r#"{{"type":"leave_room","x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
    };
    assert!(Request::decode(&nested(limits::JSON_DEPTH)).is_ok());
    assert_eq!(refusal(&nested(limits::JSON_DEPTH + 1)).1, DecodeError::TooDeep);
    assert_eq!(refusal(&"[".repeat(60_000)).1, DecodeError::TooDeep);
}

#[test]
fn brackets_inside_strings_do_not_count_as_nesting() {
    let frame = json!({"type": "leave_room", "x": "[[[[[[[[[[[[[[[[[[[[\\\"[[[["}).to_string();
    assert!(Request::decode(&frame).is_ok());
}

#[test]
fn an_error_names_the_request_it_answers() {
    let (request_id, error) = refusal(r#"{"type":"kick","requestId":7,"targetId":"nobody"}"#);
    assert_eq!(request_id, Some(7));
    assert_eq!(error.code(), ErrorCode::BadMessage);
}

#[test]
fn unknown_types_and_missing_fields_are_malformed() {
    for frame in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"type":"no_such_thing"}"#,
        r#"{"type":"toggle_audio"}"#,
        r#"{"type":"toggle_audio","enabled":"yes"}"#,
        r#"{"type":"update_settings","maxParticipants":11}"#,
        r#"{"type":"update_settings","maxParticipants":1}"#,
        r#"{"type":"set_room_password","password":""}"#,
        r#"{"type":"offer","targetId":"AAAAAAAAAAAAAAAAAAAAAA","payload":{"sealed":"x","plain":"y"}}"#,
        r#"{"type":"offer","targetId":"AAAAAAAAAAAAAAAAAAAAAA","payload":{}}"#,
        r#"{"type":"join_room","roomId":"../etc","userId":"AAAAAAAAAAAAAAAAAAAAAA","displayName":{"sealed":""}}"#,
    ] {
        assert_eq!(refusal(frame).1.code(), ErrorCode::BadMessage, "{frame}");
    }
}

#[test]
fn unknown_fields_are_ignored() {
    assert!(Request::decode(r#"{"type":"leave_room","roomId":"sunny-1","userId":"x"}"#).is_ok());
}

#[test]
fn plain_names_are_cleaned_and_cut() {
    let name = format!("\u{202e}Ana\u{0} {}", "x".repeat(100));
    let plain = json!({"name": name}).to_string();
    let frame =
        json!({"type": "join_room", "roomId": "sunny-1", "userId": ANA, "displayName": {"plain": plain}});
    let Ok(Request { message: ClientMessage::JoinRoom(join), .. }) = Request::decode(&frame.to_string())
    else {
        panic!("a join")
    };
    let expected = json!({"name": format!("Ana {}", "x".repeat(60))}).to_string();
    assert_eq!(join.display_name, Payload::Plain(expected));
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,400}") {
        let _ = Request::decode(&text);
        let _ = Received::decode(&text);
    }

    #[test]
    fn perturbed_messages_never_panic(at in 0usize..120, byte in 0u8..128) {
        let frame = json!({"type": "join_room", "requestId": 1, "roomId": "sunny-1", "userId": ANA,
            "displayName": {"plain": "{\"name\":\"Ana\"}"}, "media": {"audio": true}}).to_string();
        let mut bytes = frame.into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(text) = String::from_utf8(bytes)
            && let Ok(request) = Request::decode(&text)
        {
            let again = Request::decode(&request.encode()).map(|again| again.encode());
            prop_assert_eq!(again.ok(), Some(request.encode()));
        }
    }
}
