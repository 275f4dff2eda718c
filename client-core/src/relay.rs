//! The connection to the relay as a task: it opens, carries text both ways, and closes. What is said is the call's.

use std::sync::Arc;

use snug_call_proto::ConnectFailure;
use snug_signaling::{ConnectError, Connector, Incoming, Target};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Frames that wait to be sent; the call itself bounds what it says.
const QUEUE: usize = 512;

/// What the task tells the session, with the number of the attempt.
pub(crate) enum RelayEvent {
    Connected,
    Failed {
        failure: ConnectFailure,
        /// A word for scripts.
        code: &'static str,
    },
    Message(String),
    Closed(Option<u16>),
}

enum Order {
    Send(String),
    /// This machine's address changed.
    Rebind,
    Close(u16),
}

/// The session's end. Dropping it breaks the connection off without giving the seat up.
pub(crate) struct Relay {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(crate) fn open(
        attempt: u64,
        connector: Arc<Connector>,
        target: Target,
        tell: mpsc::Sender<(u64, RelayEvent)>,
    ) -> Self {
        let (orders, waiting) = mpsc::channel(QUEUE);
        let task = tokio::spawn(run(attempt, connector, target, waiting, tell));
        Self { orders, task }
    }

    /// Says whether there was room; without, the connection is as good as lost.
    pub(crate) fn send(&self, text: String) -> bool {
        self.orders.try_send(Order::Send(text)).is_ok()
    }

    /// Goes on from another local socket, where the transport can.
    pub(crate) fn rebind(&self) {
        // With a full queue the connection is as good as lost, and the next one has a socket of its own.
        let _ = self.orders.try_send(Order::Rebind);
    }

    /// Says goodbye behind what was sent; that is done when the task has ended.
    pub(crate) fn close(self, code: u16) -> JoinHandle<()> {
        let _ = self.orders.try_send(Order::Close(code));
        self.task
    }
}

async fn run(
    attempt: u64,
    connector: Arc<Connector>,
    target: Target,
    mut orders: mpsc::Receiver<Order>,
    tell: mpsc::Sender<(u64, RelayEvent)>,
) {
    let connecting = connector.connect(&target);
    tokio::pin!(connecting);
    let connection = loop {
        tokio::select! {
            result = &mut connecting => break result,
            order = orders.recv() => if !matches!(order, Some(Order::Send(_) | Order::Rebind)) { return },
        }
    };
    let (mut sender, mut receiver) = match connection {
        Ok(connection) => connection.split(),
        Err(error) => {
            let failed = RelayEvent::Failed { failure: failure(&error), code: error.code() };
            let _ = tell.send((attempt, failed)).await;
            return;
        }
    };
    let _ = tell.send((attempt, RelayEvent::Connected)).await;
    let heard = tell.clone();
    let hearing = async move {
        loop {
            match receiver.recv().await {
                Incoming::Message(text) => {
                    if heard.send((attempt, RelayEvent::Message(text))).await.is_err() {
                        return None;
                    }
                }
                Incoming::Closed { code } => return code,
            }
        }
    };
    let saying = async {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Send(text) => {
                    if sender.send(&text).await.is_err() {
                        return None;
                    }
                }
                Order::Rebind => {
                    if let Err(error) = sender.rebind() {
                        tracing::debug!(%error, "the connection to the relay stays on its socket");
                    }
                }
                Order::Close(code) => return Some(code),
            }
        }
        None
    };
    let (lost, goodbye) = tokio::select! {
        code = hearing => (Some(code), None),
        goodbye = saying => (if goodbye.is_none() { Some(None) } else { None }, goodbye),
    };
    if let Some(code) = lost {
        let _ = tell.send((attempt, RelayEvent::Closed(code))).await;
    }
    if let Some(code) = goodbye {
        sender.close(code).await;
    }
}

fn failure(error: &ConnectError) -> ConnectFailure {
    let words = sentence(&error.to_string());
    match error {
        ConnectError::Certificate { .. } => ConnectFailure::Untrusted(words),
        ConnectError::NameNotFound { .. }
        | ConnectError::Refused { .. }
        | ConnectError::Unreachable { .. }
        | ConnectError::TimedOut { .. }
        | ConnectError::Tls { .. } => ConnectFailure::Unreachable(words),
        _ => ConnectFailure::Refused(words),
    }
}

/// Errors are worded to stand inside a sentence; for people they are one.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}
