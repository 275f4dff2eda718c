//! Commands to a relay that runs and to files that none has.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use serde_json::{Value, json};
use snug_room_proto::{NoIceServers, RoomServer, RoomServerConfig};
use tokio::sync::oneshot;

use super::*;
use crate::expiry::Capacity;
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::password::PasswordPool;

const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAA$BBBB";
const OWNER: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

async fn save(store: &Store, key: &str, last_used: &str, met: bool) {
    let record = json!({
        "createdAt": "2026-01-02", "lastUsed": last_used, "maxParticipants": 6, "allowScreenShare": true, "met": met,
        "password": met.then(|| json!({"hash": HASH, "hint": "the dog"})), "ownerToken": OWNER, "linkProof": OWNER,
        "totalSessions": 3, "totalDurationSeconds": 7200,
    });
    let (reply, answer) = oneshot::channel();
    store.save(key, record.to_string().into_bytes(), move |result| {
        let _ = reply.send(result);
    });
    answer.await.expect("an answer").expect("saved");
}

/// Three rooms: one in which people met, one in which nobody did, and one of today.
async fn filled(store: &Store) {
    save(store, "met-long-ago", "2026-01-03", true).await;
    save(store, "never-met", "2026-01-04", false).await;
    save(store, "today", &today().to_string(), false).await;
}

fn relay(dir: &Path) -> (Hub, Store) {
    let store = Store::open(dir).expect("nobody else has the directory");
    let rooms = RoomServer::new(RoomServerConfig::default(), [7; 32], Box::new(NoIceServers));
    let passwords = PasswordPool::start().expect("threads");
    let capacity = Arc::new(Capacity::new(100));
    let (hub, _) = Hub::spawn(rooms, store.clone(), passwords, capacity, Arc::new(Metrics::default()));
    socket::serve(dir, Access::of_relay(hub.clone(), store.clone()));
    (hub, store)
}

/// What `snug-relay rooms` does, with its answers in place of what it prints.
async fn ask(dir: &Path, command: RoomsCommand) -> (Vec<Value>, Result<usize, String>) {
    let (lines, mut answers) = mpsc::channel(WAITING);
    let dir = dir.to_owned();
    let asking = tokio::spawn(async move {
        match socket::connect(&dir).await {
            Some(relay) => socket::ask(relay, &command, &lines).await.expect("answered"),
            None => {
                let access = Access { store: open_files(&dir).expect("the files"), hub: None };
                access.execute(command, &lines).await;
                access.store.close(CLOSING);
            }
        }
    });
    let mut told = Vec::new();
    let mut outcome = Err("no last line".to_owned());
    while let Some(answer) = answers.recv().await {
        match answer {
            Answer::Done(count) => outcome = Ok(count),
            Answer::Error(message) => outcome = Err(message),
            answer => told.push(serde_json::to_value(&answer).expect("its keys are strings")),
        }
    }
    asking.await.expect("no panic");
    (told, outcome)
}

fn names(told: &[Value]) -> Vec<&str> {
    told.iter().filter_map(|line| line["room"]["room"].as_str()).collect()
}

/// Sits down in `room` and stays until the connection is dropped.
async fn sit(hub: &Hub, room: &str) -> crate::hub::HubConnection {
    let address = "192.0.2.1".parse().expect("an address");
    let connection = hub.connect(address, None, Arc::new(Outbox::default())).await;
    connection.received(r#"{"type":"hello","versions":[1,2]}"#).await;
    let join = json!({"type": "join_room", "roomId": room, "userId": "AQEBAQEBAQEBAQEBAQEBAQ", "displayName": {"sealed": "AAAA"}});
    connection.received(&join.to_string()).await;
    while hub.stats().await.is_none_or(|stats| stats.participants == 0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    connection
}

#[tokio::test]
async fn rooms_are_listed_with_and_without_a_relay_and_nothing_secret_is_told() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (hub, store) = relay(dir.path());
    filled(&store).await;
    let listed = ask(dir.path(), RoomsCommand::List).await;
    assert_eq!(names(&listed.0), ["met-long-ago", "never-met", "today"]);
    assert_eq!(listed.1, Ok(3));
    let shown = ask(dir.path(), RoomsCommand::Show { room: "Met-Long-Ago".into() }).await;
    assert_eq!((&shown.0[0]["room"]["hasPassword"], shown.1), (&json!(true), Ok(1)));
    let told = format!("{:?}{:?}", listed.0, shown.0);
    for secret in ["argon2id", "the dog", &OWNER[..20]] {
        assert!(!told.contains(secret), "{told}");
    }
    // The relay ends; the files say the same.
    tokio::task::spawn_blocking(move || store.close(CLOSING)).await.expect("closed");
    std::fs::remove_file(socket::path(dir.path())).expect("the socket");
    drop(hub);
    assert_eq!(ask(dir.path(), RoomsCommand::List).await.0, listed.0);
}

#[tokio::test]
async fn the_socket_is_its_owners_alone() {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(socket::path(dir.path()), "what an ended relay left").expect("write");
    let (_hub, _store) = relay(dir.path());
    let mode = std::fs::metadata(socket::path(dir.path())).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_room_is_deleted_unless_somebody_is_in_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (hub, store) = relay(dir.path());
    filled(&store).await;
    let delete = |room: &str| RoomsCommand::Delete { room: room.into() };
    assert_eq!(ask(dir.path(), delete("never-met")).await.1, Ok(1));
    let again = ask(dir.path(), delete("never-met")).await.1;
    assert!(again.is_err_and(|message| message.contains("there is no room never-met")));
    let seat = sit(&hub, "made-just-now").await;
    let refused = ask(dir.path(), delete("made-just-now")).await.1;
    assert!(refused.is_err_and(|message| message.contains("somebody is in made-just-now")));
    let listed = ask(dir.path(), RoomsCommand::List).await.0;
    let in_use: Vec<&Value> = listed.iter().map(|line| &line["room"]["inUse"]).collect();
    assert_eq!(names(&listed), ["made-just-now", "met-long-ago", "today"]);
    assert_eq!(in_use, [true, false, false]);
    seat.left(true).await;
}

#[tokio::test]
async fn old_rooms_are_pruned_and_a_dry_run_prunes_none() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (_hub, store) = relay(dir.path());
    filled(&store).await;
    let prune = |all, dry_run| RoomsCommand::Prune { older_than: 30, all, dry_run };
    for dry_run in [true, false] {
        let (told, outcome) = ask(dir.path(), prune(false, dry_run)).await;
        assert_eq!((names(&told), outcome), (vec!["never-met"], Ok(1)), "dry: {dry_run}");
    }
    let (told, outcome) = ask(dir.path(), prune(true, false)).await;
    assert_eq!((names(&told), outcome), (vec!["met-long-ago"], Ok(1)));
    assert_eq!(names(&ask(dir.path(), RoomsCommand::List).await.0), ["today"]);
}

#[tokio::test]
async fn an_export_has_the_whole_records() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (_hub, store) = relay(dir.path());
    filled(&store).await;
    let (told, outcome) = ask(dir.path(), RoomsCommand::Export).await;
    assert_eq!(outcome, Ok(3));
    assert_eq!(told[0]["record"]["record"]["password"]["hash"], HASH);
    assert_eq!(told[0]["record"]["record"]["ownerToken"], OWNER);
    let command = RoomsCommand::Export;
    let mut printer = Printer { command: &command, first: true };
    let mut text = String::new();
    for line in told {
        let Answer::Record { room, record } = serde_json::from_value(line).expect("an answer") else {
            panic!("a record");
        };
        text += &printer.record(&room, &record);
    }
    text += &printer.end(3);
    let printed: Vec<Value> = serde_json::from_str(&text).expect("one JSON array");
    assert_eq!(printed[2]["room"], "today");
}

#[tokio::test]
async fn a_directory_without_rooms_is_left_as_it_is() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let error = run(dir.path(), RoomsCommand::List).await.expect_err("there is nothing");
    assert!(error.to_string().contains("--data-dir"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
}
