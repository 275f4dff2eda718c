//! Frames from clients that mean no good, and frames at each limit.

use proptest::prelude::*;
use serde_json::{Value, json};
use snug_wire::message::Received;
use snug_wire::{
    ClientMessage, DecodeError, ErrorCode, JoinNonce, Payload, Request, SigningIdentity, limits,
};

const ANA: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// A join with everything that is required.
fn join() -> Value {
    let identity = SigningIdentity::from_bytes(&[1; 32]).expect("a private key");
    let proof = identity.prove(&JoinNonce::from_bytes([5; 32]), &"sunny-1".parse().expect("a slug"));
    json!({"type": "join_room", "roomId": "sunny-1", "publicKey": identity.public_key(), "keyProof": proof,
        "displayName": {"plain": "{\"name\":\"Ana\"}"}})
}

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
fn a_signed_name_goes_on_as_it_is() {
    let mut frame = join();
    let plain = json!({"name": format!("\u{202e}Ana\u{0} {}", "x".repeat(100))}).to_string();
    frame["displayName"] = json!({"plain": plain, "proof": "AAAA"});
    let Ok(Request { message: ClientMessage::JoinRoom(join), .. }) = Request::decode(&frame.to_string())
    else {
        panic!("a join")
    };
    assert_eq!(join.display_name, Payload::Plain { text: plain, proof: Some("AAAA".into()) });
}

#[test]
fn a_join_takes_a_point_of_the_curve_in_one_form_only() {
    let good = join();
    assert!(Request::decode(&good.to_string()).is_ok());
    let key = good["publicKey"].as_str().expect("a text");
    let bytes = data_encoding::BASE64URL_NOPAD.decode(key.as_bytes()).expect("base64url");
    let mut off_curve = bytes.clone();
    off_curve[64] ^= 1;
    let compressed = [&[2 + (bytes[64] & 1)], &bytes[1..33]].concat();
    for wrong in [off_curve, compressed, vec![0], vec![0; 65], bytes[..64].to_vec()] {
        let mut frame = good.clone();
        frame["publicKey"] = json!(data_encoding::BASE64URL_NOPAD.encode(&wrong));
        assert_eq!(refusal(&frame.to_string()).1.code(), ErrorCode::BadMessage, "{frame}");
    }
    for missing in ["publicKey", "keyProof"] {
        let mut frame = good.clone();
        frame.as_object_mut().expect("an object").remove(missing);
        assert_eq!(refusal(&frame.to_string()).1.code(), ErrorCode::BadMessage, "{frame}");
    }
}

fn golden(name: &str) -> Value {
    let path = format!("{}/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the golden file exists");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn what_the_golden_file_calls_malformed_is_refused_with_its_code() {
    let golden = golden("malformed.json");
    for case in golden["client"].as_array().expect("a list") {
        let frame = case["frame"].as_str().expect("a text");
        let code = serde_json::to_value(refusal(frame).1.code()).expect("a code");
        assert_eq!(code, case["code"], "{frame}");
    }
    for frame in golden["server"].as_array().expect("a list") {
        let frame = frame.as_str().expect("a text");
        assert!(Received::decode(frame).is_err(), "{frame}");
    }
}

/// All orders of `values`, or one when there are too many.
fn orders(values: Vec<Value>) -> Vec<Vec<Value>> {
    if values.len() > 6 {
        return vec![values];
    }
    if values.is_empty() {
        return vec![values];
    }
    let mut all = Vec::new();
    for first in 0..values.len() {
        let mut rest = values.clone();
        let head = rest.remove(first);
        all.extend(orders(rest).into_iter().map(|rest| std::iter::once(head.clone()).chain(rest).collect()));
    }
    all
}

/// The message with each of its objects, one at a time, as the arrays that serde's derive could take for it.
fn with_arrays(value: &Value, wrap: &dyn Fn(Value) -> Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            found.push(wrap(json!([])));
            let values = fields.values().cloned().collect();
            found.extend(orders(values).into_iter().map(|order| wrap(Value::Array(order))));
            if let Some(kind) = fields.get("type") {
                let mut rest = fields.clone();
                rest.remove("type");
                found.push(wrap(json!([kind, rest])));
                let orders = orders(rest.values().cloned().collect());
                found.extend(orders.into_iter().map(|mut order| {
                    order.insert(0, kind.clone());
                    wrap(Value::Array(order))
                }));
            }
            for (name, inner) in fields {
                let inside = |changed: Value| {
                    let mut fields = fields.clone();
                    fields[name] = changed;
                    wrap(Value::Object(fields))
                };
                with_arrays(inner, &inside, found);
            }
        }
        Value::Array(elements) => {
            for (index, inner) in elements.iter().enumerate() {
                let inside = |changed: Value| {
                    let mut elements = elements.clone();
                    elements[index] = changed;
                    wrap(Value::Array(elements))
                };
                with_arrays(inner, &inside, found);
            }
        }
        _ => {}
    }
}

#[test]
fn no_array_is_taken_for_an_object_anywhere_in_any_message() {
    let golden = golden("messages.json");
    let mut tried = 0;
    for (side, accepts) in [
        ("client", (|frame: &str| Request::decode(frame).is_ok()) as fn(&str) -> bool),
        ("server", |frame: &str| Received::decode(frame).is_ok()),
    ] {
        for message in golden[side].as_array().expect("a list") {
            assert!(accepts(&message.to_string()), "{message}");
            let mut found = Vec::new();
            with_arrays(message, &|value| value, &mut found);
            for changed in found {
                assert!(!accepts(&changed.to_string()), "{side}: {changed}");
                tried += 1;
            }
        }
    }
    assert!(tried > 500, "{tried}");
}

#[test]
fn arrays_in_fields_that_nobody_knows_are_ignored_as_those_are() {
    let frame = r#"{"type":"toggle_audio","enabled":true,"later":[{"media":[1]},[]]}"#;
    assert!(Request::decode(frame).is_ok());
    let frame = r#"{"type":"user_away","userId":"AAAAAAAAAAAAAAAAAAAAAA","seq":2,"later":[[1],{}]}"#;
    assert!(Received::decode(frame).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,400}") {
        let _ = Request::decode(&text);
        let _ = Received::decode(&text);
    }

    #[test]
    fn perturbed_messages_never_panic(at in 0usize..400, byte in 0u8..128) {
        let mut bytes = join().to_string().into_bytes();
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
