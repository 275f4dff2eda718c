//! What an engine has no command for: a room with a password, made over a connection without an engine around it.

use serde_json::{Value, json};
use snug_core::signaling::{Connection, Connector, ConnectorConfig, Incoming, TlsRoots, parse_link};
use snug_core::wire::{JoinNonce, RoomId, SigningIdentity};

use crate::stage::{PATIENCE, Relay};

/// Makes a room without a secret, and leaves it again.
pub(crate) async fn set_password(relay: &Relay, room: &str, password: &str, hint: &str) {
    let link = parse_link(&format!("http://127.0.0.1:{}/room/{room}", relay.port)).expect("a link");
    let config = ConnectorConfig { roots: TlsRoots::System, quic: false, user_agent: "test/1".to_owned() };
    let connector = Connector::new(config).expect("a connector");
    let mut connection = connector.connect(&link.target).await.expect("a connection");
    let welcome = hear(&mut connection, "welcome").await;
    let nonce: JoinNonce = welcome["nonce"].as_str().and_then(|text| text.parse().ok()).expect("a nonce");
    let room: RoomId = room.parse().expect("a room");
    let identity = SigningIdentity::from_bytes(&[7; 32]).expect("a key");
    let hello = json!({"type": "hello", "versions": [2]});
    let join = json!({"type": "join_room", "roomId": room, "publicKey": identity.public_key(),
        "keyProof": identity.prove(&nonce, &room), "displayName": {"plain": "{\"name\":\"Owner\"}"}});
    let set = json!({"type": "set_room_password", "password": password, "hint": hint, "requestId": 1});
    connection.send(&hello.to_string()).await.expect("it is up");
    for (message, answer) in [(join, "room_joined"), (set, "done")] {
        connection.send(&message.to_string()).await.expect("it is up");
        hear(&mut connection, answer).await;
    }
    connection.close(1000).await;
}

async fn hear(connection: &mut Connection, kind: &str) -> Value {
    loop {
        match tokio::time::timeout(PATIENCE, connection.recv()).await.expect("in time") {
            Incoming::Message(text) => {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                assert_ne!(message["type"], "error", "{text}");
                if message["type"] == kind {
                    return message;
                }
            }
            Incoming::Closed { code } => panic!("closed with {code:?} instead of {kind}"),
        }
    }
}
