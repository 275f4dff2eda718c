//! What a room promises as long as its session lasts: tickets, locks, removals and statistics, restarts of the relay included.

use std::time::Duration;

use crate::world::{Client, World, user};
use serde_json::{Value, json};
use snug_room_proto::{Departure, Input};
use snug_wire::{CloseCode, limits};

const ROOM: &str = "sunny-mountain-42";

fn inside(world: &mut World) -> (Client, Value, Client, Value) {
    let (ana, owner) = world.join(1, ROOM);
    let (bo, member) = world.join(2, ROOM);
    world.receive_types(ana);
    (ana, owner, bo, member)
}

#[test]
fn a_password_set_in_mid_call_keeps_nobody_out_who_was_inside() {
    let mut world = World::new();
    let (ana, _, _, member) = inside(&mut world);
    world.send(ana, json!({"type": "set_room_password", "password": "horse"}));
    let mut world = world.restarted();
    let stranger = world.connect(3);
    assert_eq!(world.try_join(stranger, ROOM, json!({}))["type"], "auth_required");
    let bo = world.connect(2);
    assert_eq!(world.try_join(bo, ROOM, json!({"ticket": member["ticket"]}))["type"], "room_joined");
}

#[test]
fn a_lock_and_a_full_room_hold_after_a_restart_and_keep_nobody_out_who_was_inside() {
    let mut world = World::new();
    let (ana, owner, _, member) = inside(&mut world);
    world.send(ana, json!({"type": "update_settings", "maxParticipants": 2}));
    world.send(ana, json!({"type": "lock_room", "locked": true}));
    let mut world = world.restarted();
    let stranger = world.connect(3);
    assert_eq!(world.try_join(stranger, ROOM, json!({}))["code"], "ROOM_LOCKED");
    for (number, ticket) in [(2, &member["ticket"]), (1, &owner["ticket"])] {
        let client = world.connect(number);
        let joined = world.try_join(client, ROOM, json!({"ticket": ticket}));
        assert_eq!((&joined["type"], &joined["isOwner"]), (&json!("room_joined"), &json!(number == 1)));
        assert_eq!(joined["roomInfo"]["locked"], true);
    }
    assert_eq!(world.try_join(stranger, ROOM, json!({}))["code"], "ROOM_LOCKED");
}

#[test]
fn the_removed_stay_out_after_a_restart_as_anybody() {
    let mut world = World::new();
    let (ana, owner, bo, member) = inside(&mut world);
    world.send(ana, json!({"type": "kick", "targetId": bo.user}));
    let mut world = world.restarted();
    let again = world.connect(2);
    for extra in [json!({}), json!({"ticket": member["ticket"]})] {
        assert_eq!(world.try_join(again, ROOM, extra)["code"], "KICKED");
    }
    let other_key = world.connect(3);
    assert_eq!(world.try_join(other_key, ROOM, json!({"ticket": member["ticket"]}))["code"], "KICKED");
    assert_eq!(world.try_join(other_key, ROOM, json!({}))["type"], "waiting");
    let ana = world.connect(1);
    assert_eq!(world.try_join(ana, ROOM, json!({"ticket": owner["ticket"]}))["roomInfo"]["removed"], 1);
    assert_eq!(world.receive(ana)["type"], "knock");
}

#[test]
fn a_session_that_nobody_came_back_to_ends_five_minutes_after_the_start() {
    let mut world = World::new();
    let (ana, _, bo, member) = inside(&mut world);
    world.send(ana, json!({"type": "lock_room", "locked": true}));
    world.send(ana, json!({"type": "kick", "targetId": bo.user}));
    let mut world = world.restarted();
    let early = world.connect(3);
    assert_eq!(world.try_join(early, ROOM, json!({}))["code"], "ROOM_LOCKED");
    world.pass(limits::SESSION_HOLD);
    let late = world.connect(4);
    assert_eq!(world.try_join(late, ROOM, json!({"ticket": member["ticket"]}))["code"], "TICKET_INVALID");
    assert_eq!(world.try_join(late, ROOM, json!({}))["roomInfo"]["locked"], false);
}

#[test]
fn a_ticket_is_void_once_the_session_is_over() {
    let mut world = World::new();
    let (ana, _, bo, member) = inside(&mut world);
    world.say_goodbye(ana);
    world.say_goodbye(bo);
    let again = world.connect(2);
    assert_eq!(world.try_join(again, ROOM, json!({"ticket": member["ticket"]}))["code"], "TICKET_INVALID");
    let mut world = world.restarted();
    let again = world.connect(2);
    assert_eq!(world.try_join(again, ROOM, json!({"ticket": member["ticket"]}))["code"], "TICKET_INVALID");
    assert_eq!(world.try_join(again, ROOM, json!({"ticket": "AAAA"}))["code"], "TICKET_INVALID");
    assert_eq!(world.try_join(again, ROOM, json!({}))["type"], "room_joined");
}

#[test]
fn a_client_that_starts_anew_takes_its_seat_over_and_never_left() {
    let mut world = World::new();
    let (ana, _, bo, member) = inside(&mut world);
    let again = world.connect(2);
    let joined = world.try_join(again, ROOM, json!({"ticket": member["ticket"]}));
    assert_eq!(joined["userId"], json!(bo.user));
    assert_eq!(world.receive(bo)["code"], "REPLACED");
    assert_eq!(world.closed[&bo.connection.0], CloseCode::Replaced);
    assert_eq!(world.receive_types(ana), ["user_joined"], "one entry that never went");
    assert_eq!(world.seated_in(ROOM).len(), 2);
}

#[test]
fn a_page_that_is_loaded_again_is_away_for_a_moment_and_gives_its_place_to_whoever_needs_it() {
    let mut world = World::new();
    let (ana, _, bo, member) = inside(&mut world);
    world.send(ana, json!({"type": "update_settings", "maxParticipants": 2}));
    world.receive_types(ana);
    world.end_connection(bo, Departure::GoingAway);
    assert_eq!(world.receive_types(ana), ["user_away"]);
    let again = world.connect(2);
    assert_eq!(world.try_join(again, ROOM, json!({"ticket": member["ticket"]}))["type"], "room_joined");
    assert_eq!(world.receive_types(ana), ["user_joined"]);

    world.end_connection(again, Departure::GoingAway);
    let cy = world.connect(3);
    assert_eq!(world.try_join(cy, ROOM, json!({}))["type"], "room_joined", "the closed page's place is free");
    assert_eq!(world.receive_types(ana), ["user_away", "user_left", "user_joined"]);

    world.end_connection(cy, Departure::GoingAway);
    world.pass(limits::GOING_AWAY_HOLD);
    assert_eq!(world.receive_types(ana), ["user_away", "user_left"]);
}

#[test]
fn a_ticket_with_another_key_frees_the_seat_and_says_whose_it_was() {
    let mut world = World::new();
    let (ana, _, bo, member) = inside(&mut world);
    let again = world.connect(4);
    assert_eq!(world.try_join(again, ROOM, json!({"ticket": member["ticket"]}))["userId"], json!(user(4)));
    let left = world.receive(ana);
    assert_eq!((&left["type"], &left["reason"]), (&json!("user_left"), &json!("replaced")));
    let joined = world.receive(ana);
    assert_eq!(joined["participant"]["userId"], json!(user(4)));
    assert_eq!(joined["participant"]["formerId"], json!(bo.user));
    let (_, third) = world.join(5, ROOM);
    assert_eq!(third["participants"][1]["formerId"], json!(bo.user), "newcomers are told as well");
}

#[test]
fn a_role_of_owner_in_a_ticket_ends_with_the_owners_token() {
    let mut world = World::new();
    let (ana, owner, _, _) = inside(&mut world);
    world.request(ana, json!({"type": "rotate_owner_token"}));
    let again = world.connect(1);
    let joined = world.try_join(again, ROOM, json!({"ticket": owner["ticket"]}));
    assert_eq!((&joined["type"], &joined["isOwner"]), (&json!("room_joined"), &json!(false)));
}

#[test]
fn the_owner_gets_into_a_room_that_is_full_and_locked() {
    let mut world = World::new();
    let (ana, owner, _, _) = inside(&mut world);
    world.send(ana, json!({"type": "update_settings", "maxParticipants": 2}));
    world.send(ana, json!({"type": "lock_room", "locked": true}));
    let other_device = world.connect(3);
    let joined = world.try_join(other_device, ROOM, json!({"ownerToken": owner["ownerToken"]}));
    assert_eq!((&joined["type"], &joined["isOwner"]), (&json!("room_joined"), &json!(true)));
}

#[test]
fn no_token_lets_more_than_eleven_in() {
    let mut world = World::new();
    let (_, owner) = world.join(1, ROOM);
    for number in 2..=11 {
        let client = world.connect(number);
        let joined = world.try_join(client, ROOM, json!({"ownerToken": owner["ownerToken"]}));
        assert_eq!(joined["type"], "room_joined", "{number}");
    }
    let client = world.connect(12);
    assert_eq!(world.try_join(client, ROOM, json!({"ownerToken": owner["ownerToken"]}))["type"], "room_full");
}

#[test]
fn a_restart_in_mid_call_counts_no_session_more_and_a_kill_loses_none() {
    let mut world = World::new();
    let (_, owner, _, _) = inside(&mut world);
    world.pass(Duration::from_secs(20));
    // A kill: nothing is said to the state machine.
    let mut world = world.restarted();
    let ana = world.connect(1);
    world.try_join(ana, ROOM, json!({"ticket": owner["ticket"]}));
    let stats = world.request(ana, json!({"type": "get_stats"}));
    assert_eq!(stats["totalSessions"], 1);
    world.input(Input::Drain);
    let mut world = world.restarted();
    let ana = world.connect(1);
    world.try_join(ana, ROOM, json!({"ticket": owner["ticket"]}));
    assert_eq!(world.request(ana, json!({"type": "get_stats"}))["totalSessions"], 1);
    world.say_goodbye(ana);
    let (ana, _) = world.join(1, ROOM);
    assert_eq!(world.try_receive(ana), None);
}

#[test]
fn a_lock_is_written_with_a_change_that_is_on_its_way_and_overtakes_nothing() {
    let mut world = World::new();
    let (ana, owner, _, _) = inside(&mut world);
    world.hold_jobs = true;
    world.send(ana, json!({"type": "update_settings", "maxParticipants": 5}));
    world.send(ana, json!({"type": "lock_room", "locked": true}));
    world.hold_jobs = false;
    world.run_jobs();
    let mut world = world.restarted();
    let again = world.connect(1);
    let joined = world.try_join(again, ROOM, json!({"ticket": owner["ticket"]}));
    assert_eq!(joined["roomInfo"]["maxParticipants"], 5);
    assert_eq!(joined["roomInfo"]["locked"], true);
}
