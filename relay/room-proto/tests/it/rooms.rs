//! Joining, leaving, seats and replay, as transcripts.

use std::time::Duration;

use crate::world::{Client, START, World, user};
use serde_json::json;
use snug_room_proto::{Busy, Input, RateLimit, RoomServerConfig, StoreFailure};
use snug_wire::{CloseCode, LinkProof, limits};

const ROOM: &str = "sunny-mountain-42";

#[test]
fn a_full_room_says_how_long_the_seat_of_a_lost_connection_is_held() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, joined) = world.join(2, ROOM);
    assert_eq!(
        world.request(ana, json!({"type": "update_settings", "maxParticipants": 2}))["type"],
        "user_joined"
    );
    let cy = world.connect(3);
    let full = json!({"type": "room_full", "maxParticipants": 2});
    assert_eq!(world.try_join(cy, ROOM, json!({})), full, "everybody is there");
    world.drop_connection(bo);
    world.pass(Duration::from_millis(7_300));
    let held = json!({"type": "room_full", "maxParticipants": 2, "retryAfterMs": 22_700});
    assert_eq!(world.try_join(cy, ROOM, json!({})), held);
    let again = world.connect(2);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": bo.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
    assert_eq!(world.request(again, resume)["type"], "resumed");
    assert_eq!(world.try_join(cy, ROOM, json!({})), full, "it came back");
    world.drop_connection(again);
    world.send(ana, json!({"type": "ping"}));
    world.pass(Duration::from_millis(29_999));
    assert_eq!(world.try_join(cy, ROOM, json!({}))["retryAfterMs"], 1);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.try_join(cy, ROOM, json!({}))["type"], "room_joined", "exactly then");
}

#[test]
fn a_seat_that_fell_silent_counts_as_one_that_may_become_free() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.join(2, ROOM);
    world.send(ana, json!({"type": "update_settings", "maxParticipants": 2}));
    world.pass(Duration::from_secs(25));
    world.send(ana, json!({"type": "ping"}));
    let cy = world.connect(3);
    // 45 s until the relay gives the silent connection up, 30 s more until the seat is gone.
    assert_eq!(world.try_join(cy, ROOM, json!({}))["retryAfterMs"], 50_000);
    for _ in 0..5 {
        world.pass(Duration::from_secs(10));
        world.send(ana, json!({"type": "ping"}));
    }
    assert_eq!(world.try_join(cy, ROOM, json!({}))["type"], "room_joined");
}

#[test]
fn who_leaves_or_closes_frees_the_seat_at_once() {
    for closes in [true, false] {
        let mut world = World::new();
        let (ana, _) = world.join(1, ROOM);
        let (bo, _) = world.join(2, ROOM);
        world.send(ana, json!({"type": "update_settings", "maxParticipants": 2}));
        if closes {
            world.say_goodbye(bo);
        } else {
            world.send(bo, json!({"type": "leave_room"}));
        }
        // A page that is loaded again comes back as somebody else, and finds its own seat free.
        let again = world.connect(4);
        assert_eq!(world.try_join(again, ROOM, json!({}))["type"], "room_joined");
    }
}

#[test]
fn a_maximum_below_those_inside_puts_nobody_out_and_lets_nobody_in() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, joined) = world.join(2, ROOM);
    let (cy, _) = world.join(3, ROOM);
    world.send(ana, json!({"type": "update_settings", "maxParticipants": 2, "requestId": 1}));
    assert_eq!(world.seated_in(ROOM).len(), 3, "nobody is put out");
    world.drop_connection(bo);
    let again = world.connect(2);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": bo.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
    assert_eq!(world.request(again, resume)["type"], "resumed", "who is inside may come back");
    let dee = world.connect(4);
    assert_eq!(world.try_join(dee, ROOM, json!({}))["type"], "room_full");
    world.send(cy, json!({"type": "leave_room"}));
    assert_eq!(
        world.try_join(dee, ROOM, json!({}))["type"],
        "room_full",
        "two are inside, and two is the maximum"
    );
    world.drop_connection(again);
    assert_eq!(world.try_join(dee, ROOM, json!({}))["retryAfterMs"], 30_000);
    world.pass(Duration::from_secs(30));
    assert_eq!(world.try_join(dee, ROOM, json!({}))["type"], "room_joined");
}

#[test]
fn the_first_to_join_makes_the_room_and_owns_it() {
    let mut world = World::new();
    let (_, joined) = world.join(1, ROOM);
    assert_eq!(joined["seq"], 1);
    assert_eq!(joined["isOwner"], true);
    assert!(joined["ownerToken"].is_string());
    assert_eq!(joined["participants"], json!([]));
    let info = json!({"maxParticipants": 10, "allowScreenShare": true, "passwordEnabled": false, "locked": false, "sealed": false});
    assert_eq!(joined["roomInfo"], info);
    assert!(world.disk.contains_key(ROOM), "a room that was joined is on disk");
    let stored = String::from_utf8_lossy(&world.disk[ROOM]).into_owned();
    assert!(
        !stored.contains(joined["ownerToken"].as_str().expect("a token")),
        "only the token's hash is kept"
    );
}

#[test]
fn the_second_sees_the_first_and_the_first_hears_of_the_second() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, joined) = world.join(2, ROOM);
    assert_eq!(joined["isOwner"], false);
    assert_eq!(joined["ownerToken"], json!(null));
    assert_eq!(joined["participants"][0]["userId"], json!(ana.user));
    assert_eq!(joined["participants"][0]["owner"], true);
    let heard = world.receive(ana);
    assert_eq!(heard["type"], "user_joined");
    assert_eq!(heard["seq"], 2);
    assert_eq!(heard["participant"]["userId"], json!(bo.user));
    assert_eq!(heard["participant"]["away"], false);
}

#[test]
fn two_who_come_at_once_to_a_new_room_meet_in_it() {
    let mut world = World::new();
    world.hold_jobs = true;
    let (ana, bo) = (world.connect(1), world.connect(2));
    world.send_join(ana, ROOM, json!({}));
    world.send_join(bo, ROOM, json!({}));
    world.hold_jobs = false;
    world.run_jobs();
    assert_eq!(world.receive(ana)["isOwner"], true);
    let joined = world.receive(bo);
    assert_eq!((&joined["isOwner"], &joined["participants"][0]["userId"]), (&json!(false), &json!(ana.user)));
}

#[test]
fn offers_answers_and_candidates_reach_their_target_only() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    let (cy, _) = world.join(3, ROOM);
    for client in [ana, bo, cy] {
        world.receive_types(client);
    }
    for kind in ["offer", "answer", "ice_candidate"] {
        world.send(cy, json!({"type": kind, "targetId": ana.user, "payload": {"sealed": "AAAA"}}));
        let received = world.receive(ana);
        assert_eq!(received["type"], format!("{kind}_received"));
        assert_eq!(received["fromId"], json!(cy.user));
        assert_eq!(received["payload"], json!({"sealed": "AAAA"}));
    }
    assert!(world.receive_types(bo).is_empty() && world.receive_types(cy).is_empty());
}

#[test]
fn a_target_outside_the_room_is_unknown() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (other, _) = world.join(2, "other-room");
    for target in [other.user, ana.user, user(9)] {
        let message = json!({"type": "offer", "requestId": 4, "targetId": target, "payload": {"sealed": ""}});
        let error = world.request(ana, message);
        assert_eq!((&error["code"], &error["requestId"]), (&json!("UNKNOWN_TARGET"), &json!(4)));
    }
}

#[test]
fn candidates_are_counted_for_each_target_and_description() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.receive_types(ana);
    let candidate = json!({"type": "ice_candidate", "targetId": ana.user, "payload": {"sealed": "AAAA"}});
    for _ in 0..limits::CANDIDATES {
        world.send(bo, candidate.clone());
    }
    assert_eq!(world.receive_types(ana).len(), usize::from(limits::CANDIDATES));
    assert_eq!(world.request(bo, candidate.clone())["code"], "TOO_MANY_CANDIDATES");
    world.send(bo, json!({"type": "offer", "targetId": ana.user, "payload": {"sealed": "AAAA"}}));
    world.send(bo, candidate);
    assert_eq!(world.receive_types(ana), ["offer_received", "ice_candidate_received"]);
}

#[test]
fn toggles_are_told_to_the_others_and_to_who_comes_later() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.receive_types(ana);
    world.send(bo, json!({"type": "toggle_audio", "enabled": true}));
    world.send(bo, json!({"type": "toggle_hand", "enabled": true}));
    assert_eq!(world.receive(ana)["media"]["audio"], true);
    let media = json!({"audio": true, "video": false, "screen": false, "hand": true});
    assert_eq!(world.receive(ana)["media"], media);
    let (_, joined) = world.join(3, ROOM);
    assert_eq!(joined["participants"][1]["media"], media);
}

#[test]
fn leaving_is_told_at_once_and_the_connection_may_join_again() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.receive_types(ana);
    world.send(bo, json!({"type": "leave_room"}));
    let left = world.receive(ana);
    assert_eq!((&left["type"], &left["reason"]), (&json!("user_left"), &json!("left")));
    assert_eq!(world.try_join(bo, ROOM, json!({}))["type"], "room_joined");
}

#[test]
fn closing_with_a_goodbye_is_leaving() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.receive_types(ana);
    world.say_goodbye(bo);
    assert_eq!(world.receive_types(ana), ["user_left"]);
}

#[test]
fn a_lost_connection_keeps_its_seat_for_thirty_seconds() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.receive_types(ana);
    world.drop_connection(bo);
    assert_eq!(world.receive_types(ana), ["user_away"]);
    // Ana is not silent meanwhile.
    world.pass(limits::SEAT_HOLD - Duration::from_millis(1));
    world.send(ana, json!({"type": "ping"}));
    assert_eq!(world.receive_types(ana), ["pong"]);
    world.pass(Duration::from_millis(1));
    let left = world.receive(ana);
    assert_eq!((&left["type"], &left["reason"]), (&json!("user_left"), &json!("timeout")));
}

#[test]
fn resuming_brings_what_was_missed_in_order_and_once() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, joined) = world.join(2, ROOM);
    world.receive_types(ana);
    world.drop_connection(bo);
    world.send(ana, json!({"type": "offer", "targetId": bo.user, "payload": {"sealed": "AAAA"}}));
    world.send(ana, json!({"type": "toggle_video", "enabled": true}));

    let again = world.connect(2);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": bo.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
    let resumed = world.request(again, resume);
    assert_eq!((&resumed["type"], &resumed["replayed"]), (&json!("resumed"), &json!(2)));
    let (first, second) = (world.receive(again), world.receive(again));
    assert_eq!((&first["type"], &first["seq"]), (&json!("offer_received"), &json!(2)));
    assert_eq!((&second["type"], &second["seq"]), (&json!("peer_state"), &json!(3)));
    assert!(world.try_receive(again).is_none());
    assert_eq!(world.receive_types(ana), ["user_away", "user_back"]);
    world.pass(Duration::from_secs(40));
    assert!(!world.receive_types(ana).contains(&"user_left".to_owned()), "the hold is over");
}

#[test]
fn the_token_before_still_resumes_when_the_answer_was_lost() {
    let mut world = World::new();
    let (bo, joined) = world.join(2, ROOM);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": bo.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
    for _ in 0..2 {
        world.drop_connection(bo);
        let again = world.connect(2);
        assert_eq!(world.request(again, resume.clone())["type"], "resumed");
        world.drop_connection(again);
    }
}

#[test]
fn a_resume_replaces_the_connection_that_is_still_there() {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    let again = world.connect(1);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": ana.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
    assert_eq!(world.request(again, resume)["type"], "resumed");
    assert_eq!(world.receive(ana)["code"], "REPLACED");
    assert_eq!(world.closed[&ana.connection.0], CloseCode::Replaced);
    world.drop_connection(ana);
    assert_eq!(
        world.request(again, json!({"type": "get_stats"}))["type"],
        "room_stats",
        "the new one is seated"
    );
}

#[test]
fn a_wrong_token_or_an_unknown_seat_does_not_resume() {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    let other = world.connect(2);
    let wrong = "A".repeat(43);
    for (room, who, token) in [
        (ROOM, ana.user, json!(wrong)),
        (ROOM, user(9), joined["resumeToken"].clone()),
        ("no-such-room", ana.user, joined["resumeToken"].clone()),
    ] {
        let resume =
            json!({"type": "resume", "roomId": room, "userId": who, "resumeToken": token, "lastSeq": 0});
        assert_eq!(world.request(other, resume)["code"], "RESUME_FAILED");
    }
}

#[test]
fn when_too_much_was_missed_the_room_is_told_afresh() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, joined) = world.join(2, ROOM);
    let others: Vec<Client> = (3..11).map(|number| world.join(number, ROOM).0).collect();
    world.drop_connection(bo);
    // Everybody raises and lowers a hand as often as may be.
    for count in 0..29 * 5 {
        for client in others.iter().chain([&ana]) {
            world.send(*client, json!({"type": "toggle_hand", "enabled": count % 2 == 0}));
        }
        world.pass(Duration::from_millis(200));
    }
    let again = world.connect(2);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": bo.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
    let afresh = world.request(again, resume);
    assert_eq!((&afresh["type"], &afresh["seq"]), (&json!("room_joined"), &json!(1)));
    assert_ne!(afresh["resumeToken"], joined["resumeToken"]);
    world.pass(Duration::from_secs(1));
    world.send(ana, json!({"type": "toggle_hand", "enabled": true}));
    assert_eq!(world.receive(again)["seq"], 2);
}

#[test]
fn after_a_restart_everybody_rejoins_under_the_same_id() {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    let mut world = world.restarted();
    let again = world.connect(1);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": ana.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
    assert_eq!(world.request(again, resume)["code"], "RESUME_FAILED");
    let rejoined = world.try_join(again, ROOM, json!({"ownerToken": joined["ownerToken"]}));
    assert_eq!((&rejoined["userId"], &rejoined["isOwner"]), (&json!(ana.user), &json!(true)));
    assert_eq!(rejoined["ownerToken"], json!(null), "who has it is not told it again");
}

#[test]
fn an_identity_that_has_a_seat_cannot_be_taken() {
    let mut world = World::new();
    world.join(1, ROOM);
    let thief = world.connect(1);
    assert_eq!(world.try_join(thief, ROOM, json!({}))["code"], "USER_ID_TAKEN");
}

#[test]
fn a_full_room_says_how_many_it_takes_and_an_away_seat_counts() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.send(ana, json!({"type": "update_settings", "maxParticipants": 2}));
    let (bo, _) = world.join(2, ROOM);
    world.drop_connection(bo);
    let cy = world.connect(3);
    let full = world.try_join(cy, ROOM, json!({}));
    assert_eq!((&full["type"], &full["maxParticipants"]), (&json!("room_full"), &json!(2)));
    world.pass(limits::SEAT_HOLD);
    assert_eq!(world.try_join(cy, ROOM, json!({}))["type"], "room_joined");
}

#[test]
fn a_room_made_with_a_whole_link_admits_only_whole_links() {
    let mut world = World::new();
    let proof = LinkProof::from_bytes([1; 32]);
    let ana = world.connect(1);
    let joined = world.try_join(ana, ROOM, json!({"linkProof": proof}));
    assert_eq!(joined["roomInfo"]["sealed"], true);
    let bo = world.connect(2);
    for extra in [json!({}), json!({"linkProof": LinkProof::from_bytes([2; 32])})] {
        assert_eq!(world.try_join(bo, ROOM, extra)["code"], "LINK_INCOMPLETE");
    }
    assert_eq!(world.try_join(bo, ROOM, json!({"linkProof": proof}))["type"], "room_joined");
}

#[test]
fn the_pre_join_page_is_told_only_with_the_whole_link_of_a_known_room() {
    let mut world = World::new();
    let proof = LinkProof::from_bytes([1; 32]);
    let ana = world.connect(1);
    world.try_join(ana, ROOM, json!({"linkProof": proof}));
    world.join(2, "open-room");
    let meta = world.query(ROOM, proof.clone()).expect("the whole link is told");
    assert_eq!(meta.participants.expect("no password").len(), 1);
    assert_eq!(world.query(ROOM, LinkProof::from_bytes([2; 32])), None);
    assert_eq!(world.query("open-room", proof.clone()), None, "a room without a secret tells nobody");
    assert_eq!(world.query("no-such-room", proof.clone()), None);

    world.send(ana, json!({"type": "set_room_password", "password": "pw"}));
    let meta = world.query(ROOM, proof).expect("the whole link is told");
    assert!(meta.password_enabled && meta.participants.is_none(), "names stay behind the password");
}

#[test]
fn an_empty_room_leaves_memory_and_its_statistics_stay() {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    for _ in 0..10 {
        world.pass(Duration::from_secs(30));
        world.send(ana, json!({"type": "ping"}));
    }
    world.say_goodbye(ana);
    assert_eq!(world.server.stats().rooms, 0);
    assert_eq!(world.server.stats().participants, 0);

    let back = world.connect(1);
    world.try_join(back, ROOM, json!({"ownerToken": joined["ownerToken"]}));
    world.pass(Duration::from_secs(7));
    let stats = world.request(back, json!({"type": "get_stats", "requestId": 3}));
    let expected = json!({"type": "room_stats", "createdAt": "2026-11-23", "lastUsed": "2026-11-23",
        "totalSessions": 2, "totalDurationSeconds": 307, "requestId": 3});
    assert_eq!(stats, expected);
}

#[test]
fn a_full_disk_refuses_new_rooms_and_lets_people_into_known_ones() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.disk_failure = Some(StoreFailure::Full);
    let bo = world.connect(2);
    assert_eq!(world.try_join(bo, "new-room", json!({}))["code"], "STORAGE_FULL");
    assert_eq!(world.try_join(bo, ROOM, json!({}))["type"], "room_joined");
    world.receive_types(ana);
    let refused = world.request(ana, json!({"type": "clear_room_password", "requestId": 1}));
    assert_eq!(refused["code"], "STORAGE_FULL");
    world.disk_failure = None;
    let cy = world.connect(3);
    assert_eq!(world.try_join(cy, "new-room", json!({}))["type"], "room_joined", "it recovers by itself");
}

#[test]
fn a_damaged_record_is_not_an_unknown_room() {
    let mut world = World::new();
    world.disk.insert(ROOM.into(), b"{".to_vec());
    let ana = world.connect(1);
    assert_eq!(world.try_join(ana, ROOM, json!({}))["code"], "STORAGE_UNAVAILABLE");
}

#[test]
fn credentials_are_bound_to_room_and_participant_and_renewed_in_time() {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    assert_eq!(joined["iceServers"][0]["username"], format!("{}:{ROOM}.{}", START + 3600, ana.user));
    for _ in 0..90 {
        world.pass(Duration::from_secs(30));
        world.send(ana, json!({"type": "ping"}));
    }
    let mut fresh = Vec::new();
    while let Some(message) = world.try_receive(ana) {
        if message["type"] == "turn_credentials" {
            fresh.push(message["iceServers"][0]["username"].clone());
        }
    }
    assert_eq!(
        fresh,
        [json!(format!("{}:{ROOM}.{}", START + 2700 + 3600, ana.user))],
        "once, after 45 minutes"
    );
}

#[test]
fn asking_for_credentials_again_and_again_sets_no_more_timers() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    for _ in 0..100 {
        assert_eq!(world.request(ana, json!({"type": "turn_credentials"}))["type"], "turn_credentials");
    }
    for _ in 0..90 {
        world.pass(Duration::from_secs(30));
        world.send(ana, json!({"type": "ping"}));
    }
    let renewed = world.receive_types(ana).iter().filter(|kind| *kind == "turn_credentials").count();
    assert_eq!(renewed, 1);
}

#[test]
fn draining_tells_everybody_spread_over_five_seconds_and_takes_nobody_in() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    let fresh = world.connect(3);
    world.receive_types(ana);
    world.input(Input::Drain);
    let waits: Vec<u64> = [ana, bo, fresh]
        .map(|client| world.receive(client)["reconnectAfterMs"].as_u64().expect("a wait"))
        .into();
    assert!(waits.iter().all(|wait| *wait <= 5000) && waits[0] != waits[1], "{waits:?}");
    assert_eq!(world.try_join(fresh, ROOM, json!({}))["code"], "DRAINING");
    world.say_goodbye(bo);
    assert!(world.receive_types(ana).is_empty(), "who reconnects elsewhere has not left the call");
}

#[test]
fn hello_comes_first_and_soon() {
    let mut world = World::new();
    let rude = world.connect_silent(user(1), "192.0.2.1");
    world.send(rude, json!({"type": "ping"}));
    assert_eq!(world.closed[&rude.connection.0], CloseCode::Protocol);

    let silent = world.connect_silent(user(2), "192.0.2.1");
    world.pass(limits::HELLO_TIMEOUT);
    assert_eq!(world.closed[&silent.connection.0], CloseCode::Idle);

    let stranger = world.connect_silent(user(3), "192.0.2.1");
    world.send(stranger, json!({"type": "hello", "versions": [2, 99]}));
    assert_eq!(world.receive(stranger)["code"], "VERSION_UNSUPPORTED");
    assert_eq!(world.closed[&stranger.connection.0], CloseCode::Protocol);
}

#[test]
fn a_connection_without_a_seat_or_a_sound_is_closed() {
    let mut world = World::new();
    let waiting = world.connect(1);
    let (silent, _) = world.join(2, ROOM);
    world.pass(limits::IDLE_TIMEOUT);
    assert_eq!(world.closed.get(&silent.connection.0), Some(&CloseCode::Idle));
    assert_eq!(world.closed.get(&waiting.connection.0), None);
    world.pass(limits::JOIN_TIMEOUT);
    assert_eq!(world.closed.get(&waiting.connection.0), Some(&CloseCode::Idle));
}

#[test]
fn a_seat_taken_late_is_still_closed_for_silence_in_time() {
    let mut world = World::new();
    let late = world.connect(1);
    world.pass(Duration::from_secs(10));
    world.try_join(late, ROOM, json!({}));
    world.pass(limits::IDLE_TIMEOUT * 2);
    assert_eq!(world.closed.get(&late.connection.0), Some(&CloseCode::Idle));
}

#[test]
fn a_seat_survives_any_number_of_lost_answers_to_resume() {
    let mut world = World::new();
    let (bo, joined) = world.join(2, ROOM);
    let resume = json!({"type": "resume", "roomId": ROOM, "userId": bo.user, "resumeToken": joined["resumeToken"], "lastSeq": 1});
    for _ in 0..4 {
        let again = world.connect(2);
        assert_eq!(world.request(again, resume.clone())["type"], "resumed");
    }
}

#[test]
fn too_many_messages_are_dropped_and_complained_about_once_a_second() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    for _ in 0..1000 {
        world.send(ana, json!({"type": "ping"}));
    }
    let types = world.receive_types(ana);
    assert_eq!(types.iter().filter(|kind| *kind == "error").count(), 1);
    assert!(types.len() < 250, "{}", types.len());
    world.pass(Duration::from_secs(5));
    assert_eq!(world.request(ana, json!({"type": "ping"}))["type"], "pong");
}

#[test]
fn joins_are_limited_by_network() {
    let mut world = World::with(RoomServerConfig {
        joins: RateLimit { burst: 2.0, per_second: 0.5 },
        ..RoomServerConfig::default()
    });
    world.join(1, ROOM);
    world.join(2, ROOM);
    let cy = world.connect(3);
    let refused = world.try_join(cy, ROOM, json!({}));
    assert_eq!((&refused["code"], &refused["retryAfterMs"]), (&json!("RATE_LIMITED"), &json!(2000)));
    let elsewhere = world.connect_from(user(4), "198.51.100.1");
    assert_eq!(world.try_join(elsewhere, ROOM, json!({}))["type"], "room_joined");
}

#[test]
fn a_busy_password_queue_says_when_to_come_back() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    world.send(ana, json!({"type": "set_room_password", "password": "pw"}));
    world.password_failure = Some(Busy(Duration::from_millis(700)));
    let bo = world.connect(2);
    let refused = world.try_join(bo, ROOM, json!({"password": "pw"}));
    assert_eq!((&refused["code"], &refused["retryAfterMs"]), (&json!("SERVER_BUSY"), &json!(700)));
}
