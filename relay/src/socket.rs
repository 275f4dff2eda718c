//! One client's WebSocket: frames in to the hub, the outbox out to the client.
//! It never decides anything about rooms.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::{SinkExt, StreamExt};
use snug_room_proto::Departure;
use snug_wire::{CloseCode, limits};

use crate::hub::{Hub, HubConnection};
use crate::ice::Host;
use crate::listener::Admitted;
use crate::outbox::Outbox;

/// How long a client that is being closed may take to read the last frames.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves one WebSocket until either side ends it.
/// `host` is the name or address by which the client reached the relay.
pub(crate) async fn serve(
    mut socket: WebSocket,
    hub: Hub,
    address: IpAddr,
    host: Option<Host>,
    admitted: &Admitted,
) {
    let outbox = Arc::new(Outbox::default());
    let connection = hub.connect(address, host, outbox.clone()).await;
    let end = relay(&mut socket, &connection, &outbox).await;
    let departure = match end {
        End::ByClient(departure) => departure,
        End::ByRelay(_) => Departure::Lost,
    };
    // The seat first: others should not wait for a slow goodbye.
    connection.left(departure).await;
    let goodbye = async {
        if let End::ByRelay(code) = end {
            let frame = CloseFrame { code: code as u16, reason: Utf8Bytes::from_static("") };
            // A client that is gone cannot be told.
            let _ = socket.send(Message::Close(Some(frame))).await;
        }
        // Also what sends the answer to the client's own close frame.
        while let Some(Ok(_)) = socket.next().await {}
    };
    if tokio::time::timeout(LAST_WORDS, goodbye).await.is_err() {
        admitted.abort();
    }
}

enum End {
    ByClient(Departure),
    ByRelay(CloseCode),
}

async fn relay(socket: &mut WebSocket, connection: &HubConnection, outbox: &Outbox) -> End {
    loop {
        tokio::select! {
            received = socket.next() => match received {
                Some(Ok(Message::Text(text))) => connection.received(&text).await,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(_))) => {
                    connection.closed(CloseCode::Protocol);
                    return End::ByRelay(CloseCode::Protocol);
                }
                Some(Ok(Message::Close(frame))) => {
                    return End::ByClient(departure(frame.map(|frame| frame.code.into())));
                }
                Some(Err(error)) if is_too_large(&error) => {
                    connection.closed(CloseCode::FrameTooLarge);
                    return End::ByRelay(CloseCode::FrameTooLarge);
                }
                Some(Err(_)) | None => return End::ByClient(Departure::Lost),
            },
            () = outbox.changed() => {
                let (frames, close) = outbox.take();
                let write = async {
                    for frame in frames {
                        socket.feed(Message::Text(frame.encode().into())).await?;
                    }
                    socket.flush().await
                };
                // A client that does not read must not keep what closes it waiting.
                let patience = async {
                    if close.is_none() {
                        outbox.close_asked().await;
                    }
                    tokio::time::sleep(LAST_WORDS).await;
                };
                let written = tokio::select! {
                    written = write => Some(written),
                    () = patience => None,
                };
                match (written, close) {
                    (None, _) => return End::ByRelay(outbox.take().1.unwrap_or(CloseCode::SlowReader)),
                    (Some(Err(_)), _) => return End::ByClient(Departure::Lost),
                    (Some(Ok(())), Some(code)) => return End::ByRelay(code),
                    (Some(Ok(())), None) => {}
                }
            }
        }
    }
}

/// What a client's close code says.
pub(crate) fn departure(code: Option<u64>) -> Departure {
    match code {
        Some(1000) => Departure::Leaving,
        Some(1001) => Departure::GoingAway,
        _ => Departure::Lost,
    }
}

/// Whether a frame was over [`limits::FRAME`].
fn is_too_large(error: &axum::Error) -> bool {
    // axum hides the library's error type; its text is all there is.
    error.to_string().contains("too long")
}

/// Sizes of a WebSocket's buffers: small, since thousands are idle at once.
pub(crate) fn sized<C>(upgrade: axum::extract::WebSocketUpgrade<C>) -> axum::extract::WebSocketUpgrade<C> {
    upgrade
        .read_buffer_size(1024)
        .write_buffer_size(8 * 1024)
        .max_write_buffer_size(2 * limits::QUEUE_BYTES)
        .max_message_size(limits::FRAME)
        .max_frame_size(limits::FRAME)
}
