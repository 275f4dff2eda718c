//! The normal form of passwords, against the golden file that JavaScript's test reads too.

use proptest::prelude::*;
use serde::Deserialize;
use snug_wire::{ClientMessage, DecodeError, ErrorCode, Password, PasswordError, Request};

#[derive(Deserialize)]
struct Golden {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    text: String,
    normal: Option<String>,
    problem: Option<String>,
}

fn golden() -> Vec<Vector> {
    let golden: Golden = serde_json::from_str(include_str!("../golden/passwords.json"))
        .expect("the file is as described above");
    golden.vectors
}

fn problem(error: PasswordError) -> &'static str {
    match error {
        PasswordError::Empty => "empty",
        PasswordError::Long(_) => "long",
        PasswordError::Character => "character",
    }
}

#[test]
fn every_golden_password_has_its_normal_form_or_its_problem() {
    for Vector { text, normal, problem: wanted } in golden() {
        let got = Password::new(&text).map(|password| password.expose().to_owned()).map_err(problem);
        assert_eq!(got, normal.ok_or(wanted.as_deref().unwrap_or("")), "{text:?}");
    }
}

fn set_password(text: &str) -> Result<Request, (Option<u32>, DecodeError)> {
    let frame = serde_json::json!({"type": "set_room_password", "password": text, "requestId": 7});
    Request::decode(&frame.to_string())
}

#[test]
fn the_relay_makes_the_normal_form_of_what_a_client_sends() {
    for Vector { text, normal, problem } in golden() {
        match (set_password(&text), normal) {
            (Ok(request), Some(normal)) => {
                let ClientMessage::SetRoomPassword { password, .. } = request.message else {
                    panic!("{text:?}")
                };
                assert_eq!(password.expose(), normal, "{text:?}");
            }
            (Err((request_id, error)), None) => {
                let long = problem.as_deref() == Some("long");
                let code = if long { ErrorCode::TooLarge } else { ErrorCode::BadMessage };
                assert_eq!((request_id, error.code()), (Some(7), code), "{text:?}");
            }
            (got, wanted) => panic!("{text:?}: {wanted:?}, but {got:?}"),
        }
    }
}

proptest! {
    #[test]
    fn the_normal_form_is_its_own(text in any::<String>()) {
        if let Ok(password) = Password::new(&text) {
            let again = Password::new(password.expose());
            prop_assert_eq!(again.as_ref().map(Password::expose), Ok(password.expose()));
        }
    }
}
