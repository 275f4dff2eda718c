//! What an engine has no command for: a room with a password, made over a connection without an engine around it.

use serde_json::{Value, json};
use snug_core::signaling::{Connection, Connector, ConnectorConfig, Incoming, TlsRoots, parse_link};
use snug_core::wire::UserId;

use crate::stage::{PATIENCE, Relay};

/// Makes a room without a secret, and leaves it again.
pub(crate) async fn set_password(relay: &Relay, room: &str, password: &str, hint: &str) {
    let link = parse_link(&format!("http://127.0.0.1:{}/room/{room}", relay.port)).expect("a link");
    let config = ConnectorConfig { roots: TlsRoots::System, quic: false, user_agent: "test/1".to_owned() };
    let connector = Connector::new(config).expect("a connector");
    let mut connection = connector.connect(&link.target).await.expect("a connection");
    let user = UserId::from_bytes([7; 16]).to_string();
    let name = json!({"plain": "{\"name\":\"Owner\"}"});
    let hello = json!({"type": "hello", "versions": [1]});
    let join = json!({"type": "join_room", "roomId": room, "userId": user, "displayName": name});
    let set = json!({"type": "set_room_password", "password": password, "hint": hint, "requestId": 1});
    for (message, answer) in [(hello, "welcome"), (join, "room_joined"), (set, "done")] {
        connection.send(&message.to_string()).await.expect("it is up");
        hear(&mut connection, answer).await;
    }
    connection.close(1000).await;
}

async fn hear(connection: &mut Connection, kind: &str) {
    loop {
        match tokio::time::timeout(PATIENCE, connection.recv()).await.expect("in time") {
            Incoming::Message(text) => {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                assert_ne!(message["type"], "error", "{text}");
                if message["type"] == kind {
                    return;
                }
            }
            Incoming::Closed { code } => panic!("closed with {code:?} instead of {kind}"),
        }
    }
}
