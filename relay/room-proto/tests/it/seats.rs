//! What the shell is told of seats: who may use what the relay gives to participants, from when to when.

use std::time::Duration;

use crate::world::{World, user};
use serde_json::json;
use snug_room_proto::Input;

const ROOM: &str = "sunny-mountain-42";

#[test]
fn a_seat_begins_with_the_join_and_ends_with_leaving() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    let mut both = [user(1), user(2)];
    both.sort();
    assert_eq!(world.seated_in(ROOM), both);
    world.send(ana, json!({"type": "leave_room"}));
    assert_eq!(world.seated_in(ROOM), [user(2)]);
    world.say_goodbye(bo);
    assert!(world.seated.is_empty());
    world.try_join(ana, ROOM, json!({}));
    assert_eq!(world.seated_in(ROOM), [user(1)], "it may come back");
}

#[test]
fn a_seat_survives_a_lost_connection_for_thirty_seconds() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.drop_connection(ana);
    world.pass(Duration::from_millis(29_900));
    assert_eq!(world.seated_in(ROOM), [user(1)]);
    world.pass(Duration::from_millis(200));
    assert!(world.seated.is_empty());
}

#[test]
fn a_resume_keeps_the_seat_that_there_is() {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    let resume =
        json!({"type": "resume", "roomId": ROOM, "userId": ana.user, "resumeToken": joined["resumeToken"]});
    // Once beside the old connection, with all that was missed, and once after it, with too much missed.
    for (last_seq, answer) in [(1, "resumed"), (99, "room_joined")] {
        let again = world.connect(1);
        let mut resume = resume.clone();
        resume["lastSeq"] = json!(last_seq);
        assert_eq!(world.request(again, resume)["type"], answer);
        assert_eq!(world.seated_in(ROOM), [user(1)]);
        world.drop_connection(again);
    }
    world.pass(Duration::from_secs(31));
    assert!(world.seated.is_empty());
}

#[test]
fn a_kick_ends_the_seat_at_once() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.send(ana, json!({"type": "kick", "targetId": bo.user}));
    assert_eq!(world.seated_in(ROOM), [user(1)]);
    // An away seat is kicked as well.
    world.send(ana, json!({"type": "unban"}));
    let (cy, _) = world.join(3, ROOM);
    world.drop_connection(cy);
    world.send(ana, json!({"type": "kick", "targetId": cy.user}));
    assert_eq!(world.seated_in(ROOM), [user(1)]);
}

#[test]
fn who_is_refused_has_no_seat() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.send(ana, json!({"type": "lock_room", "locked": true}));
    let bo = world.connect(2);
    assert_eq!(world.try_join(bo, ROOM, json!({}))["code"], "ROOM_LOCKED");
    assert_eq!(world.seated_in(ROOM), [user(1)]);
}

#[test]
fn one_participant_in_two_rooms_has_two_seats() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.join(1, "other-room");
    assert_eq!((world.seated_in(ROOM), world.seated_in("other-room")), (vec![user(1)], vec![user(1)]));
    world.say_goodbye(ana);
    assert_eq!((world.seated_in(ROOM), world.seated_in("other-room")), (vec![], vec![user(1)]));
}

#[test]
fn a_drain_and_a_stop_take_no_seat_away_before_its_time() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.join(2, ROOM);
    world.input(Input::Drain);
    world.say_goodbye(ana);
    assert_eq!(
        world.seated_in(ROOM).len(),
        2,
        "a client that moves to the next relay says goodbye, and its call goes on"
    );
    world.input(Input::Stop);
    assert_eq!(world.seated_in(ROOM).len(), 2);
    world.pass(Duration::from_secs(31));
    assert!(world.seated.is_empty(), "where the process lives on, nobody keeps a seat");
}

#[test]
fn servers_are_named_as_the_client_reached_the_relay_and_renewed_under_that_name() {
    let mut world = World::new();
    world.host = Some("meet.example.org");
    let (ana, joined) = world.join(1, ROOM);
    assert_eq!(joined["iceServers"][0]["urls"], json!(["turn:meet.example.org"]));
    world.host = Some("10.0.0.1");
    let (bo, joined) = world.join(2, ROOM);
    assert_eq!(joined["iceServers"][0]["urls"], json!(["turn:10.0.0.1"]));
    for client in [ana, bo] {
        world.receive_types(client);
    }
    for _ in 0..91 {
        world.pass(Duration::from_secs(30));
        world.send(ana, json!({"type": "ping"}));
        world.send(bo, json!({"type": "ping"}));
    }
    for (client, host) in [(ana, "turn:meet.example.org"), (bo, "turn:10.0.0.1")] {
        let renewed = std::iter::from_fn(|| world.try_receive(client))
            .find(|message| message["type"] == "turn_credentials");
        assert_eq!(renewed.expect("after 45 minutes")["iceServers"][0]["urls"], json!([host]));
    }
}

#[test]
fn after_a_move_to_another_name_the_servers_have_that_name() {
    let mut world = World::new();
    world.host = Some("meet.example.org");
    let (ana, joined) = world.join(1, ROOM);
    world.drop_connection(ana);
    world.host = Some("192.0.2.7");
    let again = world.connect(1);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": ana.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
    assert_eq!(world.request(again, resume)["type"], "resumed");
    let fresh = world.request(again, json!({"type": "turn_credentials"}));
    assert_eq!(fresh["iceServers"][0]["urls"], json!(["turn:192.0.2.7"]));
}

#[test]
fn servers_that_change_are_told_to_everybody_inside_and_later_to_who_is_away() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, joined) = world.join(2, ROOM);
    world.drop_connection(bo);
    world.receive_types(ana);
    world.input(Input::IceServersChanged);
    assert_eq!(world.receive_types(ana), ["turn_credentials"]);
    let again = world.connect(2);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": bo.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
    assert_eq!(world.request(again, resume)["type"], "resumed");
    assert_eq!(world.receive_types(again), ["turn_credentials"]);
}

#[test]
fn after_the_wall_clock_was_set_everybody_inside_gets_credentials_that_hold() {
    // A day off, an hour, a machine that slept for ten minutes; and back.
    for jump in [86_400, 3600, 600, 30, -30, -3600, -86_400] {
        let mut world = World::new();
        let (ana, _) = world.join(1, ROOM);
        let (bo, joined) = world.join(2, ROOM);
        let (cy, _) = world.join(3, "other-room");
        world.drop_connection(bo);
        for client in [ana, cy] {
            world.receive_types(client);
        }
        world.set_wall_clock(jump);
        world.pass(Duration::from_secs(2));
        for client in [ana, cy] {
            let fresh = world.try_receive(client).expect("within two seconds, though nobody said anything");
            assert_eq!(fresh["type"], "turn_credentials", "{jump}");
            let username = fresh["iceServers"][0]["username"].as_str().expect("a user name");
            let expiry: u64 = username.split(':').next().and_then(|text| text.parse().ok()).expect("a time");
            assert!(expiry.abs_diff(world.now.unix + 3600) <= 2, "{jump}: {expiry}");
            assert_eq!(world.try_receive(client), None, "once");
        }
        let again = world.connect(2);
        let resume = json!({"type": "resume", "roomId": ROOM, "userId": bo.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
        assert_eq!(world.request(again, resume)["type"], "resumed");
        let missed = world.receive_types(again);
        assert!(
            missed.contains(&"turn_credentials".to_owned()),
            "{jump}: who was away is told when it is back"
        );
        world.pass(Duration::from_secs(10));
        assert_eq!(world.receive_types(cy), Vec::<String>::new(), "{jump}: and no more after that");
    }
}

#[test]
fn a_jump_is_noticed_with_the_first_message_after_it() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.set_wall_clock(7200);
    world.send(ana, json!({"type": "ping"}));
    assert_eq!(world.receive_types(ana), ["turn_credentials", "pong"]);
}

#[test]
fn the_clocks_are_compared_while_somebody_is_inside_and_no_longer() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.say_goodbye(ana);
    world.pass(Duration::from_secs(7200));
    assert_eq!(world.server.poll_timeout(), None);
    let (bo, _) = world.join(2, ROOM);
    world.set_wall_clock(-500);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.receive_types(bo), ["turn_credentials"]);
}

#[test]
fn the_seats_that_there_are_can_be_asked_for() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.join(2, ROOM);
    world.join(3, "other-room");
    world.drop_connection(ana);
    let mut seats: Vec<_> = world.server.seats().map(|(room, user)| (room.clone(), user)).collect();
    seats.sort();
    assert_eq!(seats, world.seated.iter().cloned().collect::<Vec<_>>());
}

#[test]
fn who_never_heard_the_answer_to_a_join_joins_again() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.receive_types(ana);
    world.drop_connection(bo);
    let again = world.connect(2);
    let afresh = world.try_join(again, ROOM, json!({}));
    assert_eq!((&afresh["type"], &afresh["seq"]), (&json!("room_joined"), &json!(1)));
    assert_eq!(afresh["participants"][0]["userId"], json!(user(1)));
    assert_eq!(world.receive_types(ana), ["user_away", "user_joined"], "it never left");
    let third = world.connect(2);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": bo.user, "resumeToken": afresh["resumeToken"], "lastSeq": 1});
    assert_eq!(world.request(third, resume)["type"], "resumed");
}
