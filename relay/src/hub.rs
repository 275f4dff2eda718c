//! The task that owns the rooms: it feeds the state machine and carries out what it asks for.
//! It never waits for a client, a disk or a password hash; their answers come back as inputs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use snug_room_proto::{
    ConnectionId, Input, Now, Output, QueryId, RoomMeta, RoomServer, RoomServerStats, StoreFailure,
};
use snug_wire::{CloseCode, ErrorCode, LinkProof, RoomId, ServerFrame, ServerMessage};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::expiry::Capacity;
use crate::ice::Host;
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::password::{self, PasswordPool};
use crate::store::{self, Entry, Store};
use crate::turn::TurnHandle;

/// Inputs from connections that may wait for the hub; past that, connections are read more slowly.
const INBOX: usize = 1024;
/// Bytes queued before the connections' tasks get a turn: a quarter of one queue.
const BREATH: usize = snug_wire::limits::QUEUE_BYTES / 4;
/// What a frame counts at least towards [`BREATH`], in bytes: queues have a limit of frames, too.
const LEAST: usize = snug_wire::limits::QUEUE_BYTES / snug_wire::limits::QUEUE_MESSAGES;
/// Inputs that are taken at once.
const BATCH: usize = 128;

/// What the hub is told.
enum ToHub {
    Connected { connection: ConnectionId, address: IpAddr, host: Option<Box<str>>, outbox: Arc<Outbox> },
    Input(Input),
    Query { room: RoomId, link_proof: LinkProof, reply: oneshot::Sender<Option<RoomMeta>> },
    Stats { reply: oneshot::Sender<RoomServerStats> },
    InUse { rooms: Vec<RoomId>, reply: oneshot::Sender<Vec<bool>> },
    Remove { entries: Vec<Entry>, reply: oneshot::Sender<Result<usize, store::Failure>> },
    Turn(Option<TurnHandle>),
}

/// The way to the hub; clones are cheap.
#[derive(Clone)]
pub(crate) struct Hub {
    inbox: mpsc::Sender<ToHub>,
    metrics: Arc<Metrics>,
    next_connection: Arc<AtomicU64>,
}

/// One connection's way to the hub. Dropped without [`HubConnection::left`], the connection counts as silent and is closed as idle.
pub(crate) struct HubConnection {
    hub: Hub,
    id: ConnectionId,
}

impl Hub {
    /// Starts the task; it runs until every [`Hub`] is dropped. Should it end before, the relay must too: without it nothing is answered.
    pub(crate) fn spawn(
        server: RoomServer,
        store: Store,
        passwords: PasswordPool,
        capacity: Arc<Capacity>,
        metrics: Arc<Metrics>,
    ) -> (Self, JoinHandle<()>) {
        let (inbox, from_connections) = mpsc::channel(INBOX);
        // One for each job, and a job stands for an input that the bounded inbox let in.
        let (results, from_jobs) = mpsc::unbounded_channel();
        let counted = metrics.clone();
        let task = HubTask {
            server,
            store,
            passwords,
            capacity,
            metrics,
            turn: None,
            results,
            connections: HashMap::new(),
            queries: HashMap::new(),
            next_query: 0,
            queued: 0,
        };
        let task = tokio::spawn(task.run(from_connections, from_jobs));
        (Self { inbox, metrics: counted, next_connection: Arc::default() }, task)
    }

    /// Registers a connection. `host` is the name or address by which the client reached the relay.
    pub(crate) async fn connect(
        &self,
        address: IpAddr,
        host: Option<Host>,
        outbox: Arc<Outbox>,
    ) -> HubConnection {
        let connection = ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed));
        let host = host.map(|host| host.as_str().into());
        self.send(ToHub::Connected { connection, address, host, outbox }).await;
        HubConnection { hub: self.clone(), id: connection }
    }

    /// What the pre-join page shows, for who has the whole link.
    pub(crate) async fn query(&self, room: RoomId, link_proof: LinkProof) -> Option<RoomMeta> {
        let (reply, answer) = oneshot::channel();
        self.send(ToHub::Query { room, link_proof, reply }).await;
        answer.await.ok().flatten()
    }

    /// Figures of this moment; `None` when the hub is gone.
    pub(crate) async fn stats(&self) -> Option<RoomServerStats> {
        let (reply, answer) = oneshot::channel();
        self.send(ToHub::Stats { reply }).await;
        answer.await.ok()
    }

    /// Which of `rooms` somebody is in.
    pub(crate) async fn in_use(&self, rooms: Vec<RoomId>) -> Vec<bool> {
        let (reply, answer) = oneshot::channel();
        self.send(ToHub::InUse { rooms, reply }).await;
        answer.await.unwrap_or_default()
    }

    /// Removes from the disk those of `entries` that nobody is in and that did not change meanwhile; tells how many.
    ///
    /// # Errors
    /// When the store cannot, or the hub is gone.
    pub(crate) async fn remove(&self, entries: Vec<Entry>) -> Result<usize, store::Failure> {
        let (reply, answer) = oneshot::channel();
        self.send(ToHub::Remove { entries, reply }).await;
        answer.await.unwrap_or(Err(store::Failure::Unavailable))
    }

    /// The relay's own TURN server runs: from here on it is told who has a seat, and participants are told of it. `None`: it has ended.
    pub(crate) async fn serve_turn(&self, turn: Option<TurnHandle>) {
        self.send(ToHub::Turn(turn)).await;
    }

    /// Tells all clients to reconnect.
    pub(crate) async fn drain(&self) {
        self.send(ToHub::Input(Input::Drain)).await;
    }

    /// Closes the connections that are left.
    pub(crate) async fn stop(&self) {
        self.send(ToHub::Input(Input::Stop)).await;
    }

    async fn send(&self, message: ToHub) {
        // The hub ends with the process; a message after that has nobody to answer it.
        let _ = self.inbox.send(message).await;
    }
}

impl HubConnection {
    /// Hands over what the client sent; waits while the hub is behind.
    pub(crate) async fn received(&self, frame: &str) {
        self.hub.send(ToHub::Input(Input::Frame { connection: self.id, text: frame.to_owned() })).await;
    }

    /// Counts that the relay ends this connection for what it sent.
    pub(crate) fn closed(&self, code: CloseCode) {
        self.hub.metrics.closed(code);
    }

    /// The connection is over; `leaving` gives the seat up at once.
    pub(crate) async fn left(self, leaving: bool) {
        self.hub.send(ToHub::Input(Input::Disconnected { connection: self.id, leaving })).await;
    }
}

struct HubTask {
    server: RoomServer,
    store: Store,
    passwords: PasswordPool,
    capacity: Arc<Capacity>,
    metrics: Arc<Metrics>,
    /// Told who may use it.
    turn: Option<TurnHandle>,
    results: mpsc::UnboundedSender<Input>,
    connections: HashMap<ConnectionId, Arc<Outbox>>,
    queries: HashMap<QueryId, oneshot::Sender<Option<RoomMeta>>>,
    next_query: u64,
    /// Bytes queued for clients since their tasks last ran.
    queued: usize,
}

impl HubTask {
    async fn run(
        mut self,
        mut from_connections: mpsc::Receiver<ToHub>,
        mut from_jobs: mpsc::UnboundedReceiver<Input>,
    ) {
        self.server.handle_timeout(now());
        let mut batch = Vec::with_capacity(BATCH);
        let mut answers = Vec::with_capacity(BATCH);
        loop {
            let due = self.server.poll_timeout();
            let timer = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                count = from_connections.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    for message in batch.drain(..) {
                        self.handle(message);
                        self.carry_out_all();
                        if self.queued >= BREATH {
                            // Those who are written to must get to write, or their queues fill within one batch.
                            self.queued = 0;
                            tokio::task::yield_now().await;
                        }
                    }
                }
                _ = from_jobs.recv_many(&mut answers, BATCH) => {
                    for answer in answers.drain(..) {
                        self.server.handle_input(answer, now());
                    }
                }
                () = timer => self.server.handle_timeout(now()),
            }
            self.carry_out_all();
            self.queued = 0;
        }
    }

    fn carry_out_all(&mut self) {
        while let Some(output) = self.server.poll_output() {
            self.carry_out(output);
        }
    }

    fn handle(&mut self, message: ToHub) {
        match message {
            ToHub::Connected { connection, address, host, outbox } => {
                self.connections.insert(connection, outbox);
                self.server.handle_input(Input::Connected { connection, address, host }, now());
            }
            ToHub::Input(input) => {
                if let Input::Disconnected { connection, .. } = input {
                    self.connections.remove(&connection);
                }
                if matches!(input, Input::Frame { .. }) {
                    self.metrics.messages_received.inc();
                }
                self.server.handle_input(input, now());
            }
            ToHub::Query { room, link_proof, reply } => {
                self.next_query += 1;
                let query = QueryId(self.next_query);
                self.queries.insert(query, reply);
                self.server.handle_input(Input::Query { query, room, link_proof }, now());
            }
            ToHub::Stats { reply } => {
                // The asker may have given up.
                let _ = reply.send(self.server.stats());
            }
            ToHub::InUse { rooms, reply } => {
                let _ = reply.send(rooms.iter().map(|room| self.server.holds(room)).collect());
            }
            ToHub::Remove { mut entries, reply } => {
                // From here on the store keeps the order: a join that comes next finds no such room.
                entries.retain(|entry| entry.key.parse().is_ok_and(|room| !self.server.holds(&room)));
                self.store.remove(entries, move |result| {
                    let _ = reply.send(result);
                });
            }
            ToHub::Turn(None) => self.turn = None,
            ToHub::Turn(Some(turn)) => {
                for (room, user) in self.server.seats() {
                    turn.admit(room, user);
                }
                self.turn = Some(turn);
                self.server.handle_input(Input::IceServersChanged, now());
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { connection, frame } => self.send(connection, frame),
            Output::Close { connection, code } => {
                self.metrics.closed(code);
                if let Some(outbox) = self.connections.remove(&connection) {
                    outbox.close(code);
                }
            }
            Output::LoadRoom { job, room } => {
                let results = self.results.clone();
                self.store.load(room.as_str(), move |result| {
                    // Nobody listens once the hub is gone.
                    let _ = results.send(Input::RoomLoaded { job, result: result.map_err(store_failure) });
                });
            }
            Output::SaveRoom { job, room, record, creates } => {
                let results = self.results.clone();
                if creates && self.capacity.is_near(self.store.status().rooms) {
                    self.capacity.nudge();
                }
                if creates && self.store.status().rooms >= self.capacity.max {
                    if let Some(job) = job {
                        let _ =
                            results.send(Input::RoomSaved { job, result: Err(StoreFailure::TooManyRooms) });
                    }
                    return;
                }
                self.store.save(room.as_str(), record, move |result| match (job, result) {
                    (Some(job), result) => {
                        let _ = results.send(Input::RoomSaved { job, result: result.map_err(store_failure) });
                    }
                    (None, Err(failure)) => warn!(?failure, "room statistics were not written"),
                    (None, Ok(())) => {}
                });
            }
            Output::HashPassword { job, password, block } => {
                let results = self.results.clone();
                self.passwords.hash(block, password.expose(), move |result| {
                    let _ = results.send(Input::PasswordHashed { job, result: result.map_err(busy) });
                });
            }
            Output::CheckPassword { job, password, hash, block } => {
                self.metrics.password_checks.inc();
                let results = self.results.clone();
                self.passwords.verify(block, password.expose(), hash, move |result| {
                    let _ = results.send(Input::PasswordChecked { job, result: result.map_err(busy) });
                });
            }
            Output::Seated { room, user } => {
                if let Some(turn) = &self.turn {
                    turn.admit(&room, user);
                }
            }
            Output::Unseated { room, user } => {
                if let Some(turn) = &self.turn {
                    turn.revoke(&room, user);
                }
            }
            Output::Meta { query, meta } => {
                if let Some(reply) = self.queries.remove(&query) {
                    let _ = reply.send(meta);
                }
            }
        }
    }

    fn send(&mut self, connection: ConnectionId, frame: ServerFrame) {
        let Some(outbox) = self.connections.get(&connection) else { return };
        self.metrics.messages_sent.inc();
        self.queued += frame.len().max(LEAST);
        if outbox.push(frame).is_ok() {
            return;
        }
        debug!("a client reads too slowly");
        self.metrics.closed(CloseCode::SlowReader);
        outbox.overflow(ServerFrame::new(&ServerMessage::error(ErrorCode::SlowReader, None)));
        self.connections.remove(&connection);
        self.server.handle_input(Input::Disconnected { connection, leaving: false }, now());
    }
}

fn store_failure(failure: store::Failure) -> StoreFailure {
    match failure {
        store::Failure::Full => StoreFailure::Full,
        store::Failure::Unavailable => StoreFailure::Unavailable,
    }
}

fn busy(busy: password::Busy) -> snug_room_proto::Busy {
    snug_room_proto::Busy(busy.retry_after)
}

/// The clocks, read once for each input.
fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Now { at: Instant::now(), unix }
}
