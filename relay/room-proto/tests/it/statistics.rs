//! What is kept of when a room was used, over restarts and crashes.

use std::time::Duration;

use crate::world::{Client, World};
use serde_json::{Value, json};
use snug_room_proto::{Input, RoomRecord};

const ROOM: &str = "sunny-mountain-42";
const DAY: u64 = 86_400;

fn record(world: &World) -> RoomRecord {
    RoomRecord::decode(&world.disk[ROOM]).expect("a record")
}

/// Lets time pass for somebody who shows that it is there.
fn pass(world: &mut World, client: Client, seconds: u64) {
    for _ in 0..seconds / 30 {
        world.pass(Duration::from_secs(30));
        world.send(client, json!({"type": "ping"}));
    }
    world.pass(Duration::from_secs(seconds % 30));
    world.inboxes.clear();
}

/// Joins as the owner and asks.
fn stats(world: &mut World, joined: &Value) -> (u64, u64, String) {
    let owner = world.connect(200);
    world.try_join(owner, ROOM, json!({"ownerToken": joined["ownerToken"]}));
    let stats = world.request(owner, json!({"type": "get_stats"}));
    let number = |name: &str| stats[name].as_u64().expect("a number");
    let answer = (
        number("totalSessions"),
        number("totalDurationSeconds"),
        stats["lastUsed"].as_str().expect("a day").to_owned(),
    );
    world.say_goodbye(owner);
    answer
}

/// A relay some minutes old, with a room that was made and left.
fn with_a_room() -> (World, Value) {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    world.say_goodbye(ana);
    world.pass(Duration::from_secs(600));
    (world, joined)
}

#[test]
fn a_session_outlives_the_crash_of_the_relay() {
    let (mut world, joined) = with_a_room();
    let (bo, _) = world.join(2, ROOM);
    pass(&mut world, bo, DAY + 720);
    // Nobody says goodbye: kill -9.
    let mut world = world.restarted();
    world.pass(Duration::from_secs(120));
    let (sessions, seconds, last_used) = stats(&mut world, &joined);
    assert_eq!(sessions, 3, "the first, the one that was cut off, and this one");
    assert!((DAY + 420..=DAY + 720).contains(&seconds), "{seconds} s of {} were written", DAY + 720);
    assert_eq!(last_used, "2026-11-24");
}

#[test]
fn a_session_of_some_seconds_outlives_a_crash() {
    let (mut world, _) = with_a_room();
    let (bo, _) = world.join(2, ROOM);
    pass(&mut world, bo, 6);
    let kept = record(&world);
    assert_eq!((kept.total_sessions, kept.in_session), (2, true));
}

#[test]
fn a_restart_in_mid_call_counts_no_session_more() {
    for clean in [true, false] {
        let (mut world, joined) = with_a_room();
        let (bo, _) = world.join(2, ROOM);
        let (cy, _) = world.join(3, ROOM);
        pass(&mut world, bo, 30);
        world.send(cy, json!({"type": "ping"}));
        if clean {
            world.input(Input::Drain);
            world.input(Input::Stop);
        }
        let mut world = world.restarted();
        world.pass(Duration::from_secs(4));
        let (bo, _) = world.join(2, ROOM);
        let (_, _) = world.join(3, ROOM);
        pass(&mut world, bo, 6);
        assert_eq!(record(&world).total_sessions, 2, "clean: {clean}");
        assert_eq!(stats(&mut world, &joined).0, 2, "clean: {clean}");
    }
}

#[test]
fn who_comes_long_after_a_restart_begins_a_session() {
    let (mut world, joined) = with_a_room();
    world.join(2, ROOM);
    world.input(Input::Drain);
    let mut world = world.restarted();
    world.pass(Duration::from_secs(61));
    assert_eq!(stats(&mut world, &joined).0, 3);
    // Nor does a restart days later go on with what was cut off then.
    let (mut world, joined) = with_a_room();
    world.join(2, ROOM);
    world.input(Input::Drain);
    world.pass(Duration::from_secs(3 * DAY));
    let mut world = world.restarted();
    assert_eq!(stats(&mut world, &joined).0, 3);
}

#[test]
fn a_change_and_the_statistics_do_not_undo_each_other() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.hold_jobs = true;
    world.send(ana, json!({"type": "update_settings", "maxParticipants": 3}));
    pass(&mut world, ana, 6);
    world.hold_jobs = false;
    world.run_jobs();
    let kept = record(&world);
    assert_eq!((kept.max_participants, kept.in_session), (3, true));
}

#[test]
fn days_are_kept_and_no_times() {
    let (mut world, joined) = with_a_room();
    world.join(2, ROOM);
    stats(&mut world, &joined);
    let text = String::from_utf8(world.disk[ROOM].clone()).expect("JSON");
    let kept: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&kept["createdAt"], &kept["lastUsed"]), (&json!("2026-11-23"), &json!("2026-11-23")));
    let times = kept.as_object().expect("an object").values().filter_map(Value::as_u64);
    assert!(times.into_iter().all(|number| number < 1_000_000), "{text}");
}

#[test]
fn a_record_of_an_earlier_relay_is_read_and_its_times_are_rounded() {
    let (mut world, joined) = with_a_room();
    let mut old: Value = serde_json::from_slice(&world.disk[ROOM]).expect("JSON");
    old["createdAt"] = json!(1_735_689_599);
    old["lastUsed"] = json!(1_735_689_600);
    old.as_object_mut().expect("an object").remove("met");
    world.disk.insert(ROOM.into(), old.to_string().into_bytes());
    assert!(record(&world).met, "it is not known, so it is not expired");
    assert_eq!(record(&world).last_used.to_string(), "2025-01-01");
    stats(&mut world, &joined);
    let kept: Value = serde_json::from_slice(&world.disk[ROOM]).expect("JSON");
    assert_eq!((&kept["createdAt"], &kept["lastUsed"]), (&json!("2024-12-31"), &json!("2026-11-23")));
}

#[test]
fn a_room_remembers_whether_two_people_met_in_it() {
    let (mut world, _) = with_a_room();
    assert!(!record(&world).met);
    let (bo, _) = world.join(2, ROOM);
    let (cy, _) = world.join(3, ROOM);
    world.say_goodbye(bo);
    world.say_goodbye(cy);
    assert!(record(&world).met);
}
