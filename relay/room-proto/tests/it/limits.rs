//! Attacks on what one sender, one owner or one network may cost the others.

use std::time::{Duration, Instant};

use crate::world::{Client, World, config, user};
use serde_json::{Value, json};
use snug_room_proto::{RateLimit, RoomCreation, RoomServerConfig};
use snug_wire::limits;

const ROOM: &str = "sunny-mountain-42";

/// A room with the password "rex"; its owner inside.
fn guarded() -> (World, Client) {
    let mut world = World::new();
    let ana = world.connect_from(user(1), "198.18.0.1");
    assert_eq!(world.try_join(ana, ROOM, json!({}))["type"], "room_joined");
    world.send(ana, json!({"type": "set_room_password", "password": "rex"}));
    world.receive_types(ana);
    (world, ana)
}

/// One try on a connection of its own: the code (or type) and the wait.
fn attempt(world: &mut World, address: &str, room: &str, password: &str) -> (String, Option<u64>) {
    let client = world.connect_from(user(9), address);
    let answer = world.try_join(client, room, json!({"password": password}));
    world.say_goodbye(client);
    let word = answer["code"].as_str().or(answer["type"].as_str()).expect("an answer");
    (word.to_owned(), answer["retryAfterMs"].as_u64())
}

fn is_in(world: &mut World, address: &str) -> bool {
    attempt(world, address, ROOM, "rex").0 == "room_joined"
}

/// Keeps `owner` from being closed for silence while time passes.
fn pass(world: &mut World, owner: Client, seconds: u64) {
    for _ in 0..seconds {
        world.pass(Duration::from_secs(1));
        if world.now.unix.is_multiple_of(20) {
            world.send(owner, json!({"type": "ping"}));
            world.receive_types(owner);
        }
    }
}

#[test]
fn frames_past_the_rate_are_dropped_unread() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    // Sixty thousand bytes that cost a parser something: an unknown field full of small values.
    let text = format!(r#"{{"type":"ping","x":[{}0]}}"#, "1,".repeat(30_000));
    let flood = |world: &mut World| {
        let began = Instant::now();
        for _ in 0..200 {
            world.send_text(ana, text.clone());
        }
        began.elapsed()
    };
    let read = flood(&mut world);
    flood(&mut world);
    let dropped = flood(&mut world);
    assert!(dropped * 5 < read, "200 frames within the rate took {read:?}, as many past it {dropped:?}");
}

#[test]
fn frames_that_are_no_messages_count_as_well() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    for _ in 0..1_000 {
        world.send_text(ana, "{".into());
    }
    let answers = world.receive_types(ana).len();
    assert!(answers < 250, "{answers} answers to a thousand frames of rubbish");
    assert_eq!(world.request_after(ana, Duration::from_secs(5), json!({"type": "ping"}))["type"], "pong");
}

#[test]
fn settings_are_written_at_a_bounded_rate_and_neighbours_keep_theirs() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let before = world.saves;
    let mut codes = Vec::new();
    for second in 0..60 {
        for number in 0..60_u64 {
            let message = match number % 3 {
                0 => json!({"type": "update_settings", "maxParticipants": 2 + (second + number) % 8}),
                1 => json!({"type": "rotate_owner_token"}),
                _ => json!({"type": "clear_room_password"}),
            };
            world.send(ana, message);
        }
        while let Some(answer) = world.try_receive(ana) {
            codes.extend(answer["code"].as_str().map(str::to_owned));
        }
        world.pass(Duration::from_secs(1));
    }
    let written = world.saves - before;
    assert!((20..=55).contains(&written), "3,600 changes in a minute, {written} writes");
    assert!(codes.iter().all(|code| code == "RATE_LIMITED") && !codes.is_empty());
    let neighbour = world.connect_from(user(2), "192.0.2.77");
    world.try_join(neighbour, "other-room", json!({}));
    world.send(neighbour, json!({"type": "update_settings", "maxParticipants": 4}));
    assert_eq!(world.receive_types(neighbour), ["room_updated", "done"], "another room of the same network");
}

#[test]
fn many_rooms_of_one_network_share_a_rate_of_changes() {
    let mut world = World::new();
    let owners: Vec<Client> = (0..40)
        .map(|number| {
            let owner = world.connect_from(user(number), &format!("192.0.2.{number}"));
            world.try_join(owner, &format!("room-{number}"), json!({}));
            owner
        })
        .collect();
    let before = world.saves;
    for _ in 0..10 {
        for owner in &owners {
            world.send(*owner, json!({"type": "update_settings", "maxParticipants": 3}));
        }
    }
    let written = world.saves - before;
    assert!(written <= 60, "{written} writes for one network at once");
    let elsewhere = world.connect_from(user(99), "198.51.100.1");
    world.try_join(elsewhere, "far-away", json!({}));
    world.send(elsewhere, json!({"type": "update_settings", "maxParticipants": 3}));
    assert_eq!(world.receive_types(elsewhere), ["room_updated", "done"]);
}

#[test]
fn wrong_tries_at_rooms_that_do_not_exist_keep_nobody_out_of_one_that_does() {
    let (mut world, _) = guarded();
    for number in 0..7 {
        let room = format!("no-such-room-{number}");
        assert_eq!(attempt(&mut world, "192.0.2.1", &room, "cat").0, "AUTH_FAILED");
    }
    assert!(is_in(&mut world, "192.0.2.200"), "a neighbour of the guesser");
    assert!(is_in(&mut world, "192.0.2.1"), "the guesser's own address");
}

#[test]
fn a_neighbour_of_a_guesser_gets_in_at_the_same_room_at_any_time() {
    let (mut world, ana) = guarded();
    let mut tried = 0;
    for minute in 0..60 {
        for _ in 0..6 {
            tried += u32::from(attempt(&mut world, "192.0.2.1", ROOM, "cat").0 == "AUTH_FAILED");
            pass(&mut world, ana, 10);
        }
        assert!(is_in(&mut world, &format!("192.0.2.{}", 100 + minute)), "minute {minute}");
        assert!(is_in(&mut world, &format!("203.0.113.{minute}")), "another network, minute {minute}");
    }
    assert!(tried <= 30, "the guesser got {tried} tries in an hour");
}

#[test]
fn the_limits_of_guessing_tell_nothing_about_a_room() {
    // The same tries, once at a room with a password, once at a sealed one, once at none.
    let tries = |room: &str| {
        let (mut world, _) = guarded();
        let sealed = world.connect_from(user(5), "198.18.1.1");
        let proof = snug_wire::LinkProof::from_bytes([1; 32]);
        world.try_join(sealed, "sealed-room", json!({"linkProof": proof}));
        let mut answers = Vec::new();
        for number in 0..80_u32 {
            let address = match number {
                0..20 => "192.0.2.1".to_owned(),
                20..50 => format!("192.0.2.{number}"),
                _ => format!("192.0.{number}.1"),
            };
            answers.push(attempt(&mut world, &address, room, "cat"));
            if number % 3 == 0 {
                world.pass(Duration::from_millis(700));
            }
        }
        answers
    };
    let known = tries(ROOM);
    assert_eq!(known, tries("sealed-room"));
    assert_eq!(known, tries("no-such-room"));
    assert!(known.iter().any(|(word, _)| word == "RATE_LIMITED"));
}

/// How many of an hour's guesses are tried, one each second.
fn tried_in_an_hour(address: impl Fn(u32) -> String, room: impl Fn(u32) -> String) -> usize {
    let (mut world, ana) = guarded();
    let before = world.password_work;
    for second in 0..3600 {
        attempt(&mut world, &address(second), &room(second), "cat");
        pass(&mut world, ana, 1);
    }
    world.password_work - before
}

#[test]
fn a_network_that_guesses_from_all_its_addresses_gets_few_tries() {
    let tried = tried_in_an_hour(|second| format!("192.0.2.{}", second % 256), |_| ROOM.into());
    assert!(tried <= 12 + 120 + 1, "{tried} tries");
}

#[test]
fn many_networks_that_guess_at_one_room_get_few_tries_together() {
    let address = |second| format!("10.{}.{}.1", second / 256, second % 256);
    let tried = tried_in_an_hour(address, |_| ROOM.into());
    assert!(tried <= 60 + 360 + 1, "{tried} tries");
}

#[test]
fn one_password_at_many_rooms_gets_few_tries() {
    let room = |second| format!("room-{second}");
    let tried = tried_in_an_hour(|_| "192.0.2.1".into(), room);
    assert!(tried <= 12 + 180 + 1, "{tried} tries from one address");
    let tried = tried_in_an_hour(|second| format!("192.0.2.{}", second % 256), room);
    assert!(tried <= 40 + 720 + 1, "{tried} tries from one network");
}

#[test]
fn who_knew_the_password_before_gets_in_while_many_networks_guess() {
    let (mut world, _) = guarded();
    assert!(is_in(&mut world, "192.0.2.1"));
    for number in 0..200 {
        attempt(&mut world, &format!("10.0.{number}.1"), ROOM, "cat");
    }
    assert_eq!(attempt(&mut world, "203.0.113.1", ROOM, "rex").0, "RATE_LIMITED", "a stranger waits");
    assert!(is_in(&mut world, "192.0.2.1"));
}

#[test]
fn who_mistyped_a_few_times_and_then_has_it_right_starts_anew() {
    let (mut world, _) = guarded();
    for _ in 0..3 {
        attempt(&mut world, "192.0.2.1", ROOM, "cat");
        assert!(is_in(&mut world, "192.0.2.1"));
    }
    assert_eq!(attempt(&mut world, "192.0.2.1", ROOM, "cat").0, "AUTH_FAILED");
}

// --- passwords that owners set ---

#[test]
fn owners_who_keep_setting_passwords_cost_a_bounded_number_of_hashes() {
    let mut world = World::new();
    let owners: Vec<Client> = (0..110)
        .map(|number| {
            let owner = world.connect_from(user(number), &format!("192.0.{}.{number}", number % 4));
            world.try_join(owner, &format!("room-{number}"), json!({}));
            owner
        })
        .collect();
    let before = world.password_work;
    for second in 0..60 {
        for owner in &owners {
            world.send(*owner, json!({"type": "set_room_password", "password": format!("p{second}")}));
            world.receive_types(*owner);
        }
        world.pass(Duration::from_secs(1));
        if second % 15 == 0 {
            owners.iter().for_each(|owner| world.send(*owner, json!({"type": "ping"})));
        }
    }
    let hashes = world.password_work - before;
    assert!(hashes <= 4 * (15 + 15), "{hashes} hashes in a minute for four networks");
}

#[test]
fn one_owner_who_keeps_setting_passwords_leaves_its_neighbours_theirs() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let before = world.password_work;
    for second in 0..60 {
        for number in 0..10 {
            world.send(ana, json!({"type": "set_room_password", "password": format!("p{second}-{number}")}));
        }
        world.pass(Duration::from_secs(1));
    }
    let hashes = world.password_work - before;
    assert!(hashes <= 5 + 6, "{hashes} hashes in a minute for one room");
    let (bo, _) = world.join(2, "other-room");
    world.send(bo, json!({"type": "set_room_password", "password": "x"}));
    assert_eq!(world.receive_types(bo), ["room_updated", "done"]);
}

// --- what members send to each other ---

/// A room of ten: who is attacked, what it joined with, and the nine others.
fn full_room(world: &mut World) -> (Client, Value, Vec<Client>) {
    let (ana, joined) = world.join(1, ROOM);
    let others = (2..11).map(|number| world.join(number, ROOM).0).collect();
    world.receive_types(ana);
    (ana, joined, others)
}

fn resume(client: Client, token: &Value, last_seq: u64) -> Value {
    json!({"type": "resume", "roomId": ROOM, "userId": client.user, "resumeToken": token, "lastSeq": last_seq})
}

/// Bytes and messages that wait for `client`, and the last one's number.
fn unread(world: &World, client: Client) -> (usize, usize, u64) {
    let waiting = world.inboxes.get(&client.connection.0);
    let messages: Vec<&Value> = waiting.into_iter().flatten().collect();
    let bytes = messages.iter().map(|message| message.to_string().len()).sum();
    let last = messages.iter().filter_map(|message| message["seq"].as_u64()).max();
    (bytes, messages.len(), last.unwrap_or(0))
}

/// Attacks `ana` for most of a minute: nobody's queue may overflow, though she reads only when she
/// confirms, every 15 s.
fn attack(senders: usize, per_second: u32, message: impl Fn(Client, u64) -> Value) {
    let mut world = World::new();
    let (ana, joined, others) = full_room(&mut world);
    let mut number = 0;
    let mut confirmed = 1;
    for second in 0..50 {
        for _ in 0..per_second {
            for sender in &others[..senders] {
                number += 1;
                world.send(*sender, message(ana, number));
            }
        }
        let (bytes, messages, last) = unread(&world, ana);
        assert!(bytes <= limits::REPLAY_BYTES, "second {second}: {bytes} bytes wait");
        assert!(messages <= limits::REPLAY_MESSAGES, "second {second}: {messages} messages wait");
        if second % 15 == 14 {
            world.inboxes.clear();
            confirmed = last;
            world.send(ana, json!({"type": "ping", "lastSeq": last}));
            others.iter().for_each(|other| world.send(*other, json!({"type": "ping"})));
        }
        world.pass(Duration::from_secs(1));
    }
    // And what she did not confirm is replayed.
    world.drop_connection(ana);
    let again = world.connect(1);
    let answer = world.request(again, resume(ana, &joined["resumeToken"], confirmed));
    assert_eq!(answer["type"], "resumed");
    assert!(answer["replayed"].as_u64() > Some(0), "{answer}");
    assert!(world.closed.is_empty(), "{:?}", world.closed);
}

#[test]
fn offers_of_one_member_do_not_overflow_another() {
    attack(
        1,
        40,
        |target, _| json!({"type": "offer", "targetId": target.user, "payload": {"sealed": "A".repeat(44 * 1024)}}),
    );
}

#[test]
fn offers_of_nine_members_do_not_overflow_the_tenth() {
    attack(9, 5, |target, number| {
        let size = if number.is_multiple_of(3) { 44 * 1024 } else { 5_000 };
        json!({"type": "offer", "targetId": target.user, "payload": {"sealed": "A".repeat(size)}})
    });
}

#[test]
fn small_messages_of_nine_members_do_not_overflow_the_tenth() {
    attack(9, 60, |target, number| match number % 20 {
        0..9 => json!({"type": "answer", "targetId": target.user, "payload": {"sealed": "A"}}),
        _ => json!({"type": "ice_candidate", "targetId": target.user, "payload": {"sealed": "A"}}),
    });
}

#[test]
fn what_everybody_is_told_of_does_not_overflow_anybody() {
    attack(9, 60, |_, number| json!({"type": "toggle_audio", "enabled": number.is_multiple_of(2)}));
}

#[test]
fn a_sender_past_its_share_is_told_when_to_try_again_and_gets_through_after_a_confirmation() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    let (cy, _) = world.join(3, ROOM);
    world.receive_types(ana);
    world.receive_types(bo);
    let offer = |size: usize| json!({"type": "offer", "requestId": 7, "targetId": ana.user, "payload": {"sealed": "A".repeat(size)}});
    let mut accepted = 0;
    let refused = loop {
        world.send(bo, offer(44 * 1024));
        match world.try_receive(bo) {
            None => accepted += 1,
            Some(refused) => break refused,
        }
    };
    assert_eq!(accepted, 2, "half of what the queue holds");
    assert_eq!((&refused["code"], &refused["requestId"]), (&json!("RATE_LIMITED"), &json!(7)));
    assert!((1_000..=15_000).contains(&refused["retryAfterMs"].as_u64().expect("a wait")));
    world.send(cy, offer(40 * 1024));
    assert!(!world.receive_types(cy).contains(&"error".into()), "another sender has its own share");
    let (_, _, last) = unread(&world, ana);
    world.send(ana, json!({"type": "ping", "lastSeq": last}));
    world.send(bo, offer(44 * 1024));
    assert_eq!(world.try_receive(bo), None);
}

#[test]
fn negotiations_of_ten_people_at_once_pass_though_nobody_confirms_for_a_while() {
    let mut world = World::new();
    let (ana, _, others) = full_room(&mut world);
    for other in &others {
        world.receive_types(*other);
        // What browsers send: a description of 8 KB, sealed, and a score of candidates.
        world.send(
            *other,
            json!({"type": "answer", "targetId": ana.user, "payload": {"sealed": "A".repeat(11_000)}}),
        );
        for _ in 0..20 {
            world.send(*other, json!({"type": "ice_candidate", "targetId": ana.user, "payload": {"sealed": "A".repeat(350)}}));
        }
    }
    for other in &others {
        assert_eq!(world.receive_types(*other), Vec::<String>::new(), "nothing was refused");
    }
}

#[test]
fn a_receiver_that_never_confirms_can_still_be_reached() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.receive_types(bo);
    let mut delivered = 0;
    for _ in 0..60 {
        for client in [ana, bo] {
            world.send(client, json!({"type": "ping"}));
        }
        world.receive_types(bo);
        world.send(
            bo,
            json!({"type": "offer", "targetId": ana.user, "payload": {"sealed": "A".repeat(11_000)}}),
        );
        delivered += u32::from(world.try_receive(bo).is_none());
        world.pass(Duration::from_secs(15));
    }
    assert!(delivered >= 55, "{delivered} of 60 offers in a quarter of an hour");
}

// --- resumes ---

#[test]
fn resumes_are_limited_and_leave_nothing_behind() {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    let timers = world.server.stats().timers;
    let mut token = joined["resumeToken"].clone();
    let mut resumed = 0;
    for number in 0..6_000_u32 {
        let again = world.connect(1);
        let answer = world.request(again, resume(ana, &token, 0));
        if answer["type"] == "room_joined" {
            token = answer["resumeToken"].clone();
            resumed += 1;
        } else {
            assert_eq!(answer["code"], "RATE_LIMITED");
            world.say_goodbye(again);
        }
        world.inboxes.clear();
        if number % 100 == 99 {
            world.pass(Duration::from_secs(1));
            world.send(bo, json!({"type": "ping"}));
        }
    }
    assert!(resumed <= 10 + 30 + 1, "{resumed} resumes in a minute");
    let stats = world.server.stats();
    assert_eq!((stats.connections, stats.timers), (2, timers), "what the resumes left behind");
}

#[test]
fn an_office_that_comes_back_at_once_after_an_outage_is_let_in() {
    let mut world = World::new();
    let mut seats = Vec::new();
    for room in 0..25 {
        for number in 0..10 {
            let client = world.connect_from(user(number), &format!("192.0.2.{room}"));
            let joined = world.try_join(client, &format!("room-{room}"), json!({}));
            seats.push((client, format!("room-{room}"), joined["resumeToken"].clone()));
        }
    }
    for (client, _, _) in &seats {
        world.drop_connection(*client);
    }
    for (client, room, token) in &seats {
        let again = world.connect_from(client.user, "192.0.2.1");
        let mut message = resume(*client, token, 1);
        message["roomId"] = json!(room);
        assert_eq!(world.request(again, message)["type"], "resumed");
    }
}

#[test]
fn who_guesses_at_seats_is_slowed_and_a_neighbour_with_a_token_is_not() {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    let guesser = world.connect(9);
    let wrong = json!("A".repeat(43));
    let mut codes = Vec::new();
    for _ in 0..10 {
        for _ in 0..60 {
            codes.push(world.request(guesser, resume(ana, &wrong, 1))["code"].clone());
        }
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(codes[0], "RESUME_FAILED");
    assert_eq!(codes[599], "RATE_LIMITED");
    let again = world.connect(1);
    assert_eq!(world.request(again, resume(ana, &joined["resumeToken"], 1))["type"], "resumed");
}

// --- new rooms ---

fn limited_world() -> World {
    let joins = RateLimit { burst: 1e6, per_second: 1e6 };
    World::with(RoomServerConfig { joins, ..config() })
}

#[test]
fn the_blocks_of_one_site_make_few_rooms_together() {
    let mut world = limited_world();
    let mut made = 0;
    for block in 0..101 {
        for number in 0..20 {
            let client = world.connect_from(user(1), &format!("2001:db8:7:{block:02x}00::1"));
            let answer = world.try_join(client, &format!("room-{block}-{number}"), json!({}));
            made += usize::from(answer["type"] == "room_joined");
            world.say_goodbye(client);
        }
    }
    assert_eq!(made, 40, "of one /48 at once");
    let elsewhere = world.connect_from(user(1), "2001:db8:8::1");
    assert_eq!(world.try_join(elsewhere, "far-away", json!({}))["type"], "room_joined");
    let ipv4 = world.connect_from(user(1), "192.0.2.1");
    assert_eq!(world.try_join(ipv4, "far-away-too", json!({}))["type"], "room_joined");
}

fn world_that_makes(creation: RoomCreation) -> World {
    let mut world = limited_world();
    let (ana, _) = world.join(1, ROOM);
    world.say_goodbye(ana);
    let config = RoomServerConfig { creation, ..config() };
    let mut other = World::with(config);
    other.disk = world.disk;
    other
}

#[test]
fn a_closed_relay_makes_no_rooms_and_opens_those_that_there_are() {
    let mut world = world_that_makes(RoomCreation::Closed);
    let bo = world.connect(2);
    assert_eq!(world.try_join(bo, "new-room", json!({}))["code"], "CREATION_CLOSED");
    assert_eq!(world.try_join(bo, "new-room", json!({"creationKey": "x"}))["code"], "CREATION_CLOSED");
    assert_eq!(world.try_join(bo, ROOM, json!({}))["type"], "room_joined");
    assert!(!world.disk.contains_key("new-room"));
}

#[test]
fn with_a_key_rooms_are_made_for_its_holders_alone() {
    let mut world = world_that_makes(RoomCreation::Key("open sesame".parse().expect("a key")));
    let bo = world.connect(2);
    assert_eq!(world.try_join(bo, "new-room", json!({}))["code"], "CREATION_KEY_REQUIRED");
    assert_eq!(
        world.try_join(bo, "new-room", json!({"creationKey": "sesame"}))["code"],
        "CREATION_KEY_REQUIRED"
    );
    assert_eq!(world.try_join(bo, ROOM, json!({}))["type"], "room_joined", "one that there is needs none");
    let cy = world.connect(3);
    let made = world.try_join(cy, "new-room", json!({"creationKey": "open sesame"}));
    assert_eq!((&made["type"], &made["isOwner"]), (&json!("room_joined"), &json!(true)));
}

#[test]
fn creation_keys_cannot_be_guessed_at_speed() {
    let mut world = world_that_makes(RoomCreation::Key("open sesame".parse().expect("a key")));
    let mut codes = Vec::new();
    for number in 0..15 {
        let client = world.connect(2);
        let answer = world.try_join(client, "new-room", json!({"creationKey": format!("guess {number}")}));
        codes.push(answer["code"].as_str().expect("a code").to_owned());
    }
    assert_eq!((codes[9].as_str(), codes[10].as_str()), ("CREATION_KEY_REQUIRED", "RATE_LIMITED"));
}
