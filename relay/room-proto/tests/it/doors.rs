//! Passwords, owners, locks and kicks, as transcripts.

use std::time::Duration;

use crate::world::{Client, World, user};
use serde_json::{Value, json};
use snug_room_proto::{Input, StoreFailure};
use snug_wire::{CloseCode, LinkProof, Token};

const ROOM: &str = "sunny-mountain-42";

/// A room with a password and the hint "the dog"; its owner inside.
fn guarded() -> (World, Client, Value) {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    world.send(
        ana,
        json!({"type": "set_room_password", "requestId": 1, "password": "rex", "hint": "the dog"}),
    );
    let updated = world.receive(ana);
    assert_eq!(updated["roomInfo"]["passwordEnabled"], true);
    let done = world.receive(ana);
    assert_eq!((&done["type"], &done["requestId"]), (&json!("done"), &json!(1)));
    (world, ana, joined)
}

#[test]
fn the_right_password_opens() {
    let (mut world, _, _) = guarded();
    let bo = world.connect(2);
    assert_eq!(world.try_join(bo, ROOM, json!({"password": "rex"}))["type"], "room_joined");
}

#[test]
fn the_hint_comes_only_after_a_failed_try_on_the_same_connection() {
    let (mut world, _, _) = guarded();
    let bo = world.connect(2);
    let asked = world.try_join(bo, ROOM, json!({}));
    assert_eq!(asked, json!({"type": "auth_required"}));
    assert_eq!(world.try_join(bo, ROOM, json!({"password": "cat"}))["code"], "AUTH_FAILED");
    assert_eq!(world.try_join(bo, ROOM, json!({})), json!({"type": "auth_required", "hint": "the dog"}));
    let cy = world.connect(3);
    assert_eq!(world.try_join(cy, ROOM, json!({})), json!({"type": "auth_required"}));
}

#[test]
fn a_wrong_password_and_an_unknown_room_get_the_same_answer_for_the_same_work() {
    let (mut world, _, _) = guarded();
    let bo = world.connect(2);
    let before = world.password_work;
    let wrong = world.try_join(bo, ROOM, json!({"password": "cat"}));
    let after_wrong = world.password_work;
    let unknown = world.try_join(bo, "no-such-room", json!({"password": "cat"}));
    assert_eq!(wrong, unknown);
    assert_eq!(after_wrong - before, 1);
    assert_eq!(world.password_work - after_wrong, 1);
    assert!(!world.disk.contains_key("no-such-room"), "a guess makes no room");
}

#[test]
fn wrong_passwords_cost_time_at_the_source_and_a_guess_that_must_wait_costs_no_work() {
    let (mut world, _, _) = guarded();
    let guess = |world: &mut World, address: &str| {
        let client = world.connect_from(user(2), address);
        let answer = world.try_join(client, ROOM, json!({"password": "cat"}));
        world.say_goodbye(client);
        (answer["code"].as_str().expect("a code").to_owned(), answer["retryAfterMs"].as_u64())
    };
    for _ in 0..4 {
        assert_eq!(guess(&mut world, "198.51.100.1").0, "AUTH_FAILED");
    }
    let before = world.password_work;
    assert_eq!(guess(&mut world, "198.51.100.1"), ("RATE_LIMITED".into(), Some(1000)));
    assert_eq!(world.password_work, before);
    assert_eq!(guess(&mut world, "198.51.100.200").0, "AUTH_FAILED", "a neighbour's first");
    world.pass(Duration::from_secs(1));
    let bo = world.connect_from(user(3), "198.51.100.1");
    assert_eq!(world.try_join(bo, ROOM, json!({"password": "rex"}))["type"], "room_joined");
}

#[test]
fn guesses_sent_at_once_are_not_all_tried() {
    let (mut world, _, _) = guarded();
    let before = world.password_work;
    world.hold_jobs = true;
    let guessers: Vec<Client> = (20..60).map(|number| world.connect(number)).collect();
    for guesser in &guessers {
        world.send_join(*guesser, ROOM, json!({"password": "cat"}));
    }
    world.hold_jobs = false;
    world.run_jobs();
    assert_eq!(world.password_work - before, 10, "no more than a room's worth");
    assert_eq!(world.receive(guessers[39])["code"], "SERVER_BUSY");
}

#[test]
fn an_answer_to_who_has_gone_is_sent_to_nobody() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.hold_jobs = true;
    world.send(ana, json!({"type": "clear_room_password"}));
    world.drop_connection(ana);
    world.hold_jobs = false;
    world.run_jobs();
    assert!(world.try_receive(ana).is_none());
}

#[test]
fn a_password_changed_while_the_old_one_is_checked_counts() {
    let (mut world, ana, _) = guarded();
    let bo = world.connect(2);
    world.hold_jobs = true;
    world.send_join(bo, ROOM, json!({"password": "rex"}));
    world.send(ana, json!({"type": "set_room_password", "password": "new"}));
    // The check of "rex" was queued first; the new password is on disk when its answer arrives.
    let check = world.jobs.pop_front().expect("the check");
    world.hold_jobs = false;
    world.run_jobs();
    world.jobs.push_back(check);
    world.run_jobs();
    assert_eq!(world.receive(bo)["code"], "AUTH_FAILED");
}

#[test]
fn the_answer_to_an_abandoned_join_decides_nothing() {
    let (mut world, _, _) = guarded();
    let bo = world.connect(2);
    world.hold_jobs = true;
    world.send_join(bo, ROOM, json!({"password": "cat"}));
    world.send(bo, json!({"type": "leave_room"}));
    world.send_join(bo, ROOM, json!({"password": "rex"}));
    world.hold_jobs = false;
    world.run_jobs();
    assert_eq!(world.receive_types(bo), ["room_joined"]);
}

#[test]
fn a_room_that_is_made_for_an_abandoned_join_seats_nobody_elsewhere() {
    let (mut world, _, _) = guarded();
    let bo = world.connect(2);
    world.hold_jobs = true;
    world.send_join(bo, "new-room", json!({}));
    // The store knows no such room; now it is being made.
    world.hold_jobs = true;
    world.run_jobs();
    world.send(bo, json!({"type": "leave_room"}));
    world.send_join(bo, ROOM, json!({"password": "cat"}));
    world.hold_jobs = false;
    world.run_jobs();
    assert_eq!(world.receive(bo)["code"], "AUTH_FAILED");
    assert!(world.try_receive(bo).is_none());
}

#[test]
fn a_guess_at_a_sealed_room_gets_the_answer_of_an_unknown_one() {
    let mut world = World::new();
    let ana = world.connect(1);
    world.try_join(ana, ROOM, json!({"linkProof": LinkProof::from_bytes([1; 32])}));
    let bo = world.connect(2);
    let sealed = world.try_join(bo, ROOM, json!({"password": "cat"}));
    assert_eq!(sealed, world.try_join(bo, "no-such-room", json!({"password": "cat"})));
    assert_eq!(world.password_work, 2);
}

#[test]
fn a_creator_may_bring_its_own_owner_token() {
    let mut world = World::new();
    let ana = world.connect(1);
    let token = Token::from_bytes([5; 32]);
    let joined = world.try_join(ana, ROOM, json!({"ownerToken": token}));
    assert_eq!((&joined["isOwner"], &joined["ownerToken"]), (&json!(true), &json!(token)));
}

#[test]
fn draining_does_not_undo_a_change_on_its_way_to_disk() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.hold_jobs = true;
    world.send(ana, json!({"type": "update_settings", "maxParticipants": 3}));
    world.input(Input::Drain);
    world.hold_jobs = false;
    world.run_jobs();
    let mut world = world.restarted();
    let (_, joined) = world.join(2, ROOM);
    assert_eq!(joined["roomInfo"]["maxParticipants"], 3);
}

#[test]
fn a_cleared_password_is_not_asked_and_one_that_is_sent_all_the_same_does_no_harm() {
    let (mut world, ana, _) = guarded();
    world.send(ana, json!({"type": "clear_room_password"}));
    let bo = world.connect(2);
    assert_eq!(world.try_join(bo, ROOM, json!({"password": "rex"}))["type"], "room_joined");
}

#[test]
fn a_password_outlives_the_room_in_memory_and_the_relay() {
    let (mut world, ana, _) = guarded();
    world.say_goodbye(ana);
    let bo = world.connect(2);
    assert_eq!(world.try_join(bo, ROOM, json!({}))["type"], "auth_required");
    let mut world = world.restarted();
    let bo = world.connect(2);
    assert_eq!(world.try_join(bo, ROOM, json!({}))["type"], "auth_required");
}

#[test]
fn a_change_that_is_not_on_disk_does_not_count() {
    let (mut world, ana, _) = guarded();
    world.disk_failure = Some(StoreFailure::Full);
    let refused = world.request(ana, json!({"type": "clear_room_password", "requestId": 9}));
    assert_eq!((&refused["code"], &refused["requestId"]), (&json!("STORAGE_FULL"), &json!(9)));
    let bo = world.connect(2);
    assert_eq!(world.try_join(bo, ROOM, json!({}))["type"], "auth_required");
}

#[test]
fn a_change_on_its_way_to_disk_survives_the_room_emptying() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.hold_jobs = true;
    world.send(ana, json!({"type": "update_settings", "maxParticipants": 3}));
    world.send(ana, json!({"type": "update_settings", "allowScreenShare": false}));
    world.say_goodbye(ana);
    world.hold_jobs = false;
    world.run_jobs();
    assert_eq!(world.server.stats().rooms, 0);
    let (_, joined) = world.join(2, ROOM);
    assert_eq!(
        (&joined["roomInfo"]["maxParticipants"], &joined["roomInfo"]["allowScreenShare"]),
        (&json!(3), &json!(false))
    );
}

#[test]
fn only_the_owner_may_do_what_owners_do() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    for message in [
        json!({"type": "set_room_password", "password": "x"}),
        json!({"type": "clear_room_password"}),
        json!({"type": "lock_room", "locked": true}),
        json!({"type": "kick", "targetId": ana.user}),
        json!({"type": "update_settings", "maxParticipants": 2}),
        json!({"type": "rotate_owner_token"}),
        json!({"type": "get_stats"}),
    ] {
        assert_eq!(world.request(bo, message)["code"], "NOT_OWNER");
    }
    world.receive_types(ana);
    assert_eq!(world.password_work, 0);
}

#[test]
fn the_owner_token_opens_every_door() {
    let (mut world, ana, joined) = guarded();
    world.send(ana, json!({"type": "lock_room", "locked": true}));
    let again = world.connect(7);
    let rejoined = world.try_join(again, ROOM, json!({"ownerToken": joined["ownerToken"]}));
    assert_eq!((&rejoined["type"], &rejoined["isOwner"]), (&json!("room_joined"), &json!(true)));
}

#[test]
fn a_rotated_owner_token_is_dead_and_the_new_one_lives() {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    let rotated = world.request(ana, json!({"type": "rotate_owner_token", "requestId": 2}));
    assert_eq!((&rotated["type"], &rotated["requestId"]), (&json!("owner_token"), &json!(2)));
    for (token, owner) in [(&joined["ownerToken"], false), (&rotated["ownerToken"], true)] {
        let client = world.connect(if owner { 3 } else { 2 });
        assert_eq!(world.try_join(client, ROOM, json!({"ownerToken": token}))["isOwner"], owner);
    }
}

#[test]
fn a_locked_room_takes_nobody_and_opens_when_it_empties() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.send(ana, json!({"type": "lock_room", "locked": true}));
    assert_eq!(world.receive_types(ana), ["room_updated", "done"]);
    let bo = world.connect(2);
    assert_eq!(world.try_join(bo, ROOM, json!({}))["code"], "ROOM_LOCKED");
    world.say_goodbye(ana);
    assert_eq!(world.try_join(bo, ROOM, json!({}))["type"], "room_joined");
}

#[test]
fn who_is_away_from_a_locked_room_may_resume() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, joined) = world.join(2, ROOM);
    world.send(ana, json!({"type": "lock_room", "locked": true}));
    world.drop_connection(bo);
    let again = world.connect(2);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": bo.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
    assert_eq!(world.request(again, resume)["type"], "resumed");
}

#[test]
fn a_kicked_participant_is_told_closed_and_kept_out_under_its_id() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, joined) = world.join(2, ROOM);
    world.receive_types(ana);
    world.send(ana, json!({"type": "kick", "requestId": 5, "targetId": bo.user}));
    assert_eq!(world.receive_types(bo), ["kicked"]);
    assert_eq!(world.closed[&bo.connection.0], CloseCode::Kicked);
    let left = world.receive(ana);
    assert_eq!((&left["type"], &left["reason"]), (&json!("user_left"), &json!("kicked")));
    assert_eq!(world.receive(ana)["type"], "done");
    let again = world.connect(2);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": bo.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
    assert_eq!(world.request(again, resume)["code"], "RESUME_FAILED");
    assert_eq!(world.try_join(again, ROOM, json!({}))["code"], "KICKED");
}

#[test]
fn an_owner_cannot_kick_itself_or_a_stranger() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    for target in [ana.user, user(9)] {
        assert_eq!(world.request(ana, json!({"type": "kick", "targetId": target}))["code"], "UNKNOWN_TARGET");
    }
}

#[test]
fn switching_screen_sharing_off_ends_it_and_refuses_it() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.send(bo, json!({"type": "toggle_screen", "enabled": true}));
    world.receive_types(ana);
    world.send(ana, json!({"type": "update_settings", "allowScreenShare": false}));
    let state = world.receive(ana);
    assert_eq!((&state["type"], &state["media"]["screen"]), (&json!("peer_state"), &json!(false)));
    world.receive_types(bo);
    let refused = world.request(bo, json!({"type": "toggle_screen", "enabled": true}));
    assert_eq!(refused["code"], "SCREEN_SHARE_DISABLED");
    world.send(bo, json!({"type": "toggle_screen", "enabled": false}));
    assert!(world.try_receive(bo).is_none(), "switching off is always allowed");
}
