//! Any sequence of what clients, stores and clocks can do, against what must always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::world::{Client, World, user};
use proptest::prelude::*;
use serde_json::{Value, json};
use snug_room_proto::{Busy, Departure, Input, StoreFailure};

const ROOMS: [&str; 3] = ["room-a", "room-b", "room-c"];
const CLIENTS: u8 = 14;

#[derive(Debug, Clone)]
enum Operation {
    Connect(u8),
    Join { client: u8, room: u8, password: Option<u8>, owner: bool },
    Resume { client: u8, last_seq: u64 },
    Leave(u8),
    Drop { client: u8, goodbye: bool },
    Forward { client: u8, target: u8 },
    Toggle { client: u8, screen: bool, enabled: bool },
    SetPassword { client: u8, password: Option<u8> },
    Settings { client: u8, max: u8, share: bool },
    Lock { client: u8, locked: bool },
    Kick { client: u8, target: u8 },
    Rotate(u8),
    Ping { client: u8, last_seq: u64 },
    Pass(u16),
    HoldJobs(bool),
    Disk(bool),
    Busy(bool),
    ServersChange,
}

fn operation() -> impl Strategy<Value = Operation> {
    let client = || 0..CLIENTS;
    prop_oneof![
        4 => client().prop_map(Operation::Connect),
        6 => (client(), 0..3u8, prop::option::of(0..2u8), any::<bool>())
            .prop_map(|(client, room, password, owner)| Operation::Join { client, room, password, owner }),
        3 => (client(), 0..40u64).prop_map(|(client, last_seq)| Operation::Resume { client, last_seq }),
        2 => client().prop_map(Operation::Leave),
        3 => (client(), any::<bool>()).prop_map(|(client, goodbye)| Operation::Drop { client, goodbye }),
        4 => (client(), client()).prop_map(|(client, target)| Operation::Forward { client, target }),
        3 => (client(), any::<bool>(), any::<bool>())
            .prop_map(|(client, screen, enabled)| Operation::Toggle { client, screen, enabled }),
        2 => (client(), prop::option::of(0..2u8))
            .prop_map(|(client, password)| Operation::SetPassword { client, password }),
        2 => (client(), 2..=10u8, any::<bool>())
            .prop_map(|(client, max, share)| Operation::Settings { client, max, share }),
        1 => (client(), any::<bool>()).prop_map(|(client, locked)| Operation::Lock { client, locked }),
        1 => (client(), client()).prop_map(|(client, target)| Operation::Kick { client, target }),
        1 => client().prop_map(Operation::Rotate),
        2 => (client(), 0..40u64).prop_map(|(client, last_seq)| Operation::Ping { client, last_seq }),
        2 => (0..40_000u16).prop_map(Operation::Pass),
        1 => any::<bool>().prop_map(Operation::HoldJobs),
        1 => any::<bool>().prop_map(Operation::Disk),
        1 => any::<bool>().prop_map(Operation::Busy),
        1 => Just(Operation::ServersChange),
    ]
}

/// What a client would remember.
#[derive(Default, Clone)]
struct Memory {
    client: Option<Client>,
    resume: Option<(String, Value)>,
    seq: u64,
    /// Who else is in the room, by what it was told.
    others: BTreeMap<String, bool>,
    max: u64,
}

struct Run {
    world: World,
    clients: Vec<Memory>,
    owner_tokens: BTreeMap<String, Value>,
}

impl Run {
    fn send(&mut self, client: u8, message: Value) {
        if let Some(to) = self.clients[usize::from(client)].client {
            self.world.send(to, message);
        }
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Connect(number) => {
                if self.clients[usize::from(number)].client.is_none() {
                    let client = self.world.connect_from(user(number), &format!("192.0.{number}.1"));
                    self.clients[usize::from(number)].client = Some(client);
                }
            }
            Operation::Join { client, room, password, owner } => {
                let room = ROOMS[usize::from(room)];
                let Some(connected) = self.clients[usize::from(client)].client else { return };
                let mut message = self.world.join_message(connected, room);
                message["media"] = json!({"screen": true});
                if let Some(password) = password {
                    message["password"] = json!(format!("password {password}"));
                }
                if owner && let Some(token) = self.owner_tokens.get(room) {
                    message["ownerToken"] = token.clone();
                }
                self.send(client, message);
            }
            Operation::Resume { client, last_seq } => {
                if let Some((room, token)) = self.clients[usize::from(client)].resume.clone() {
                    let message = json!({"type": "resume", "roomId": room, "userId": user(client),
                        "resumeToken": token, "lastSeq": last_seq});
                    self.send(client, message);
                }
            }
            Operation::Leave(client) => self.send(client, json!({"type": "leave_room"})),
            Operation::Drop { client, goodbye } => {
                let departure = if goodbye { Departure::Leaving } else { Departure::Lost };
                if let Some(gone) = self.clients[usize::from(client)].client.take() {
                    self.world.input(Input::Disconnected { connection: gone.connection, departure });
                }
            }
            Operation::Forward { client, target } => {
                let message =
                    json!({"type": "offer", "targetId": user(target), "payload": {"sealed": "AAAA"}});
                self.send(client, message);
            }
            Operation::Toggle { client, screen, enabled } => {
                let kind = if screen { "toggle_screen" } else { "toggle_audio" };
                self.send(client, json!({"type": kind, "enabled": enabled}));
            }
            Operation::SetPassword { client, password } => {
                let message = match password {
                    Some(password) => {
                        json!({"type": "set_room_password", "password": format!("password {password}")})
                    }
                    None => json!({"type": "clear_room_password"}),
                };
                self.send(client, message);
            }
            Operation::Settings { client, max, share } => {
                let message =
                    json!({"type": "update_settings", "maxParticipants": max, "allowScreenShare": share});
                self.send(client, message);
            }
            Operation::Lock { client, locked } => {
                self.send(client, json!({"type": "lock_room", "locked": locked}));
            }
            Operation::Kick { client, target } => {
                self.send(client, json!({"type": "kick", "targetId": user(target)}));
            }
            Operation::Rotate(client) => self.send(client, json!({"type": "rotate_owner_token"})),
            Operation::Ping { client, last_seq } => {
                self.send(client, json!({"type": "ping", "lastSeq": last_seq}));
            }
            Operation::Pass(milliseconds) => self.world.pass(Duration::from_millis(milliseconds.into())),
            Operation::HoldJobs(hold) => {
                self.world.hold_jobs = hold;
                if !hold {
                    self.world.run_jobs();
                }
            }
            Operation::Disk(full) => self.world.disk_failure = full.then_some(StoreFailure::Full),
            Operation::ServersChange => self.world.input(Input::IceServersChanged),
            Operation::Busy(busy) => {
                self.world.password_failure = busy.then_some(Busy(Duration::from_secs(1)));
            }
        }
    }

    /// Reads every inbox and checks what each client can see.
    fn check(&mut self) -> Result<(), TestCaseError> {
        for number in 0..CLIENTS {
            let Some(client) = self.clients[usize::from(number)].client else { continue };
            while let Some(message) = self.world.try_receive(client) {
                self.check_message(number, &message)?;
            }
            if self.world.closed.contains_key(&client.connection.0) {
                self.clients[usize::from(number)].client = None;
            }
        }
        let stats = self.world.server.stats();
        prop_assert!(stats.participants <= stats.rooms * 10);
        prop_assert!(stats.rooms <= ROOMS.len());
        let seats: BTreeSet<_> = self.world.server.seats().map(|(room, user)| (room.clone(), user)).collect();
        prop_assert_eq!(&self.world.seated, &seats, "who was told of is who has a seat");
        prop_assert_eq!(seats.len(), stats.participants);
        Ok(())
    }

    fn check_message(&mut self, number: u8, message: &Value) -> Result<(), TestCaseError> {
        let memory = &mut self.clients[usize::from(number)];
        let own = user(number).to_string();
        if let Some(seq) = message["seq"].as_u64() {
            let expected = if message["type"] == "room_joined" { 1 } else { memory.seq + 1 };
            // A replay may repeat what was seen: the test resumes from any number.
            prop_assert!(seq <= expected, "{message} after {}", memory.seq);
            memory.seq = seq;
        }
        match message["type"].as_str().unwrap_or_default() {
            "room_joined" => {
                let room = message["roomId"].as_str().unwrap_or_default().to_owned();
                if let Some(token) = message.get("ownerToken") {
                    // A replay may say it again, but never another one.
                    let known = self.owner_tokens.insert(room.clone(), token.clone());
                    prop_assert!(known.is_none_or(|known| known == *token), "made once");
                }
                memory.resume = Some((room, message["resumeToken"].clone()));
                memory.max = message["roomInfo"]["maxParticipants"].as_u64().unwrap_or_default();
                let others = message["participants"].as_array().cloned().unwrap_or_default();
                prop_assert!(others.len() < 10);
                memory.others = others
                    .iter()
                    .map(|other| (other["userId"].as_str().unwrap_or_default().into(), true))
                    .collect();
                prop_assert!(!memory.others.contains_key(&own), "nobody is told of itself");
            }
            "resumed" => {
                if let Some((_, token)) = &mut memory.resume {
                    *token = message["resumeToken"].clone();
                }
            }
            "offer_received" => prop_assert!(message["fromId"] != json!(own)),
            "user_joined" | "user_left" | "user_away" | "user_back" => {
                let who = message["userId"].as_str().or(message["participant"]["userId"].as_str());
                prop_assert!(who.is_some_and(|who| who != own), "{message}");
            }
            "owner_token" => {
                if let Some((room, _)) = &memory.resume {
                    self.owner_tokens.insert(room.clone(), message["ownerToken"].clone());
                }
            }
            "room_updated" => {
                let max = message["roomInfo"]["maxParticipants"].as_u64().unwrap_or_default();
                prop_assert!((2..=10).contains(&max));
            }
            _ => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_operations_breaks_a_room(operations in prop::collection::vec(operation(), 1..160)) {
        let mut run = Run {
            world: World::new(),
            clients: vec![Memory::default(); usize::from(CLIENTS)],
            owner_tokens: BTreeMap::new(),
        };
        for operation in operations {
            run.apply(operation);
            run.check()?;
        }
        // When everybody is gone and every job is answered, nothing is left in memory.
        run.apply(Operation::HoldJobs(false));
        for client in 0..CLIENTS {
            run.apply(Operation::Drop { client, goodbye: false });
        }
        run.world.pass(Duration::from_secs(200));
        let stats = run.world.server.stats();
        prop_assert_eq!((stats.connections, stats.rooms, stats.participants), (0, 0, 0));
        prop_assert!(run.world.seated.is_empty());
    }
}
