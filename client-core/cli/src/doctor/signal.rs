//! The two ways to say something to the relay, and a seat in a room that nobody else knows: from there come the TURN credentials.

use std::time::Instant;

use snug_core::signaling::{Connection, Connector, Incoming, Target, Transport};
use snug_core::wire::limits;
use snug_core::wire::message::{
    ClientMessage, IceServer, JoinRoom, Media, Received, Request, RoomJoined, ServerMessage,
};
use snug_core::wire::seal::{Kind, Run, Sealer};
use snug_core::wire::{ErrorCode, JoinNonce, RoomId, SigningIdentity, VERSIONS, negotiate_version};

use super::Limits;
use super::report::{Check, Finding};

/// A connection, and what the relay drew for it.
pub(super) type Greeted = (Connection, JoinNonce);

/// Says hello, and hears who answers.
pub(super) async fn greet(
    connector: &Connector,
    target: &Target,
    by: Transport,
    limits: Limits,
) -> (Finding, Option<Greeted>) {
    let start = Instant::now();
    let check = match by {
        Transport::Quic => Check::Quic,
        Transport::WebSocket => Check::WebSocket,
    };
    let greeted = limits.within(async {
        let mut connection = connector.connect_by(target, by).await.map_err(|error| error.to_string())?;
        let hello = ClientMessage::Hello {
            versions: VERSIONS.to_vec(),
            capabilities: Vec::new(),
            agent: Some("snug-doctor".to_owned()),
        };
        connection.send(&Request::new(hello).encode()).await.map_err(|error| error.to_string())?;
        match answer(&mut connection).await? {
            ServerMessage::Welcome { versions, relay, nonce, .. } => match negotiate_version(&versions) {
                Some(version) => Ok(((connection, nonce), version, relay)),
                None => Err(format!(
                    "{relay} speaks versions {versions:?} of the protocol, and this program {VERSIONS:?}"
                )),
            },
            other => Err(refusal(&other)),
        }
    });
    let failure = match greeted.await {
        Some(Ok((greeted, version, relay))) => {
            let message = format!("{relay} speaks version {version}");
            return (Finding::ok(check, message).since(start), Some(greeted));
        }
        Some(Err(cause)) => cause,
        None => "no answer in time".to_owned(),
    };
    let finding = match by {
        Transport::Quic => Finding::warn(
            check,
            failure,
            format!(
                "calls go by WebSocket instead, and need longer to come back after a change of network: open UDP port {} in the relay's firewall",
                target.port
            ),
        ),
        Transport::WebSocket => Finding::fail(
            check,
            failure,
            "a proxy in front of the relay has to pass WebSockets on at /ws (Upgrade and Connection headers)",
        ),
    };
    (finding.since(start), None)
}

/// Takes a seat in `room`, which tells what servers there are.
pub(super) async fn enter(
    (connection, nonce): &mut Greeted,
    room: RoomId,
    identity: SigningIdentity,
    limits: Limits,
) -> (Finding, Vec<IceServer>) {
    let start = Instant::now();
    let (public_key, key_proof) = (identity.public_key().clone(), identity.prove(nonce, &room));
    // The key is of this visit alone, and so is its run.
    let mut sealer = Sealer::new(None, room.clone(), identity, Run::new(0, [0; 8]));
    let join = JoinRoom {
        room_id: room,
        public_key,
        key_proof,
        display_name: sealer.seal(Kind::Name, None, r#"{"name":"doctor"}"#),
        password: None,
        link_proof: None,
        owner_token: None,
        ticket: None,
        creation_key: None,
        media: Media::default(),
    };
    let entered = limits.within(async {
        let text = Request::new(ClientMessage::JoinRoom(Box::new(join))).encode();
        connection.send(&text).await.map_err(|error| error.to_string())?;
        match answer(connection).await? {
            ServerMessage::RoomJoined(joined) => Ok(Ok(joined)),
            ServerMessage::Error {
                code: ErrorCode::CreationClosed | ErrorCode::CreationKeyRequired, ..
            } => Ok(Err("this relay makes no rooms for strangers, so there is no seat to look from")),
            other => Err(refusal(&other)),
        }
    });
    match entered.await {
        Some(Ok(Err(message))) => (
            Finding::warn(
                Check::Room,
                message,
                "start the relay with --room-creation open while you look at its TURN server",
            )
            .since(start),
            Vec::new(),
        ),
        Some(Ok(Ok(joined))) => {
            let RoomJoined { ice_servers, ice_ttl_seconds, .. } = *joined;
            let message = if ice_servers.iter().any(|server| server.credential.is_some()) {
                format!("a seat, and credentials for {} minutes", ice_ttl_seconds / 60)
            } else {
                "a seat, without credentials for a TURN server".to_owned()
            };
            (Finding::ok(Check::Room, message).since(start), ice_servers)
        }
        Some(Err(cause)) => (
            Finding::fail(Check::Room, cause, "see the relay's log: it has to be able to make rooms")
                .since(start),
            Vec::new(),
        ),
        None => (
            Finding::fail(
                Check::Room,
                "no answer in time",
                "see the relay's log, and how busy its machine is",
            )
            .since(start),
            Vec::new(),
        ),
    }
}

async fn answer(connection: &mut Connection) -> Result<ServerMessage, String> {
    match connection.recv().await {
        Incoming::Message(text) if text.len() <= limits::QUEUE_BYTES => {
            Received::decode(&text).map(|received| received.message).map_err(|error| error.to_string())
        }
        Incoming::Message(_) => Err("an answer that is too long".to_owned()),
        Incoming::Closed { code } => Err(code.map_or_else(
            || "the connection broke".to_owned(),
            |code| format!("the relay closed with code {code}"),
        )),
    }
}

fn refusal(message: &ServerMessage) -> String {
    match message {
        ServerMessage::Error { code, message, .. } => format!("{code:?}: {message}"),
        ServerMessage::RoomFull { .. } => {
            "the room of the doctor is full: others look at this relay at once".to_owned()
        }
        ServerMessage::AuthRequired { .. } => "the room of the doctor has a password".to_owned(),
        ServerMessage::Drain { .. } => "the relay is about to stop".to_owned(),
        _ => "an unexpected answer".to_owned(),
    }
}
