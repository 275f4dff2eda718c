//! Attacks on what one sender, one owner or one network may cost the others.

use std::time::{Duration, Instant};

use crate::world::{Client, World, user};
use serde_json::json;

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
        if world.now.unix % 20 == 0 {
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
