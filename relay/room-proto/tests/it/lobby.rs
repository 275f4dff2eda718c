//! Knocking, and what else an owner may do with the people in a room.

use std::time::Duration;

use crate::world::{Client, World, user};
use serde_json::{Value, json};
use snug_wire::link::RoomSecret;
use snug_wire::{CloseCode, Token, limits};

const ROOM: &str = "sunny-mountain-42";

/// The owner and a member inside of a room whose lobby is on.
fn with_lobby(world: &mut World) -> (Client, Client) {
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.send(ana, json!({"type": "update_settings", "lobby": true}));
    world.receive_types(ana);
    world.receive_types(bo);
    (ana, bo)
}

fn knock(world: &mut World, number: u8) -> Client {
    let client = world.connect(number);
    assert_eq!(world.try_join(client, ROOM, json!({}))["type"], "waiting");
    client
}

#[test]
fn the_owner_lets_somebody_in() {
    let mut world = World::new();
    let (ana, bo) = with_lobby(&mut world);
    let cy = knock(&mut world, 3);
    let heard = world.receive(ana);
    assert_eq!((&heard["type"], &heard["userId"]), (&json!("knock"), &json!(cy.user)));
    assert!(heard["publicKey"].is_string() && heard["displayName"].is_object());
    assert_eq!(world.receive_types(bo), [] as [&str; 0], "a member has no say");
    let decision = json!({"type": "admit", "targetId": cy.user, "admitted": true});
    world.send(bo, decision.clone());
    assert_eq!(world.receive(bo)["code"], "NOT_OWNER");
    world.send(ana, decision.clone());
    assert_eq!(world.receive(cy)["type"], "room_joined");
    assert_eq!(world.receive_types(ana), ["knock_gone", "user_joined"]);
    assert_eq!(world.request(ana, decision)["code"], "UNKNOWN_TARGET");
}

#[test]
fn who_is_not_let_in_is_told() {
    let mut world = World::new();
    let (ana, _) = with_lobby(&mut world);
    let cy = knock(&mut world, 3);
    world.send(ana, json!({"type": "admit", "targetId": cy.user, "admitted": false}));
    assert_eq!(world.receive(cy)["code"], "NOT_ADMITTED");
    assert_eq!(world.receive_types(ana), ["knock", "knock_gone"]);
}

#[test]
fn anybody_inside_may_decide_where_the_owner_says_so_and_hears_of_those_who_wait() {
    let mut world = World::new();
    let (ana, bo) = with_lobby(&mut world);
    let cy = knock(&mut world, 3);
    world.send(ana, json!({"type": "update_settings", "admission": "anyone"}));
    assert_eq!(world.receive_types(bo), ["room_updated", "knock"]);
    world.send(bo, json!({"type": "admit", "targetId": cy.user, "admitted": true}));
    assert_eq!(world.receive(cy)["type"], "room_joined");
}

#[test]
fn a_lobby_that_is_switched_off_lets_everybody_in() {
    let mut world = World::new();
    let (ana, _) = with_lobby(&mut world);
    let waiting = [knock(&mut world, 3), knock(&mut world, 4)];
    world.send(ana, json!({"type": "update_settings", "lobby": false}));
    for client in waiting {
        assert_eq!(world.receive(client)["type"], "room_joined");
    }
}

#[test]
fn ten_wait_and_an_eleventh_is_told_to_come_back() {
    let mut world = World::new();
    with_lobby(&mut world);
    for number in 3..13 {
        knock(&mut world, number);
    }
    let eleventh = world.connect(13);
    let refused = world.try_join(eleventh, ROOM, json!({}));
    assert_eq!((&refused["code"], &refused["retryAfterMs"]), (&json!("LOBBY_FULL"), &json!(30_000)));
    // Somebody who comes again waits in its own place.
    let again = world.connect(3);
    assert_eq!(world.try_join(again, ROOM, json!({}))["type"], "waiting");
}

#[test]
fn who_waits_pings_and_is_sent_away_after_ten_minutes() {
    let mut world = World::new();
    let (ana, _) = with_lobby(&mut world);
    let (cy, silent) = (knock(&mut world, 3), knock(&mut world, 4));
    for _ in 0..39 {
        world.pass(Duration::from_secs(15));
        for client in [ana, cy] {
            world.send(client, json!({"type": "ping"}));
        }
    }
    assert_eq!(world.closed.get(&silent.connection.0), Some(&CloseCode::Idle));
    assert!(world.receive_types(cy).iter().all(|kind| kind == "pong"));
    world.pass(Duration::from_secs(15));
    assert_eq!(world.receive(cy)["code"], "NOT_ADMITTED");
    assert_eq!(world.closed.get(&cy.connection.0), None, "the connection stays for another try");
    let gone = world.receive_types(ana).iter().filter(|kind| *kind == "knock_gone").count();
    assert_eq!(gone, 2);
}

#[test]
fn whoever_stops_waiting_is_taken_off_the_list() {
    let mut world = World::new();
    let (ana, _) = with_lobby(&mut world);
    let (cy, dee) = (knock(&mut world, 3), knock(&mut world, 4));
    world.send(cy, json!({"type": "leave_room"}));
    world.drop_connection(dee);
    assert_eq!(world.receive_types(ana), ["knock", "knock", "knock_gone", "knock_gone"]);
}

#[test]
fn a_lobby_that_nobody_can_open_waits_for_the_owner() {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    world.send(ana, json!({"type": "update_settings", "lobby": true}));
    world.say_goodbye(ana);
    let cy = knock(&mut world, 3);
    let again = world.connect(1);
    let owner = world.try_join(again, ROOM, json!({"ownerToken": joined["ownerToken"]}));
    assert_eq!(owner["type"], "room_joined");
    let heard = world.receive(again);
    assert_eq!((&heard["type"], &heard["userId"]), (&json!("knock"), &json!(cy.user)));
}

#[test]
fn a_stranger_without_the_secret_cannot_knock_at_a_sealed_room() {
    let mut world = World::new();
    let proof = RoomSecret::from_bytes([1; 16]).link_proof(&ROOM.parse().expect("a slug"));
    let ana = world.connect(1);
    world.try_join(ana, ROOM, json!({"linkProof": proof}));
    world.send(ana, json!({"type": "update_settings", "lobby": true}));
    world.receive_types(ana);
    let stranger = world.connect(3);
    assert_eq!(world.try_join(stranger, ROOM, json!({}))["code"], "LINK_INCOMPLETE");
    assert_eq!(world.receive_types(ana), [] as [&str; 0]);
    assert_eq!(world.try_join(stranger, ROOM, json!({"linkProof": proof}))["type"], "waiting");
}

#[test]
fn unban_opens_the_room_as_it_was() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.send(ana, json!({"type": "kick", "targetId": bo.user}));
    let waiting = knock(&mut world, 3);
    world.receive_types(ana);
    world.send(ana, json!({"type": "unban"}));
    assert_eq!(world.receive(waiting)["type"], "room_joined");
    let updated = world.receive(ana);
    assert_eq!((&updated["roomInfo"]["removed"], &updated["roomInfo"]["lobby"]), (&json!(0), &json!(false)));
    let again = world.connect(2);
    assert_eq!(world.try_join(again, ROOM, json!({}))["type"], "room_joined");
}

#[test]
fn a_new_link_opens_the_room_and_the_old_one_does_not() {
    let mut world = World::new();
    let proof = |byte| json!(RoomSecret::from_bytes([byte; 16]).link_proof(&ROOM.parse().expect("a slug")));
    let ana = world.connect(1);
    let owner = world.try_join(ana, ROOM, json!({"linkProof": proof(1)}));
    let bo = world.connect(2);
    let member = world.try_join(bo, ROOM, json!({"linkProof": proof(1)}));
    world.receive_types(ana);
    world.send(ana, json!({"type": "new_link", "linkProof": proof(2)}));
    assert_eq!(world.receive_types(bo), ["link_changed", "room_updated"]);
    let cy = world.connect(3);
    assert_eq!(world.try_join(cy, ROOM, json!({"linkProof": proof(1)}))["code"], "LINK_INCOMPLETE");
    assert_eq!(world.try_join(cy, ROOM, json!({"linkProof": proof(2)}))["type"], "room_joined");
    let mut world = world.restarted();
    for (number, ticket) in [(1, &owner["ticket"]), (2, &member["ticket"])] {
        let client = world.connect(number);
        let old = world.try_join(client, ROOM, json!({"linkProof": proof(1), "ticket": ticket}));
        assert_eq!(old["code"], "LINK_INCOMPLETE", "inside before or not");
        let new = world.try_join(client, ROOM, json!({"linkProof": proof(2), "ticket": ticket}));
        assert_eq!(new["type"], "room_joined");
    }
}

#[test]
fn ownership_goes_over_once_the_other_has_a_token_on_disk() {
    let mut world = World::new();
    let (ana, owner) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.receive_types(ana);
    let token = json!(Token::from_bytes([8; 32]));
    let take = json!({"type": "take_ownership", "ownerToken": token});
    assert_eq!(world.request(bo, take.clone())["code"], "NOT_OWNER", "nobody offered it");
    world.send(ana, json!({"type": "offer_ownership", "targetId": bo.user}));
    assert_eq!(world.receive_types(bo), ["ownership_offered"]);
    world.send(ana, json!({"type": "lock_room", "locked": false}));
    assert_eq!(world.receive_types(ana), ["room_updated", "done"], "still the owner");
    world.receive_types(bo);
    world.send(bo, take.clone());
    assert_eq!(world.receive_types(bo), ["owner_changed", "done"]);
    assert_eq!(world.receive(ana)["userId"], json!(bo.user));
    assert_eq!(world.request(ana, json!({"type": "lock_room", "locked": true}))["code"], "NOT_OWNER");
    assert_eq!(world.request(bo, take)["code"], "NOT_OWNER", "an offer is taken once");
    let again = world.connect(1);
    let old =
        world.try_join(again, ROOM, json!({"ownerToken": owner["ownerToken"], "ticket": owner["ticket"]}));
    assert_eq!(old["isOwner"], false);
    let other = world.connect(4);
    assert_eq!(world.try_join(other, ROOM, json!({"ownerToken": token}))["isOwner"], true);
}

#[test]
fn an_offer_of_ownership_runs_out() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.send(ana, json!({"type": "offer_ownership", "targetId": bo.user}));
    for _ in 0..3 {
        world.pass(limits::OWNERSHIP_OFFER / 2);
        world.send(bo, json!({"type": "ping"}));
        world.send(ana, json!({"type": "ping"}));
    }
    world.receive_types(bo);
    let take = json!({"type": "take_ownership", "ownerToken": Token::from_bytes([8; 32])});
    assert_eq!(world.request(bo, take)["code"], "NOT_OWNER");
}

#[test]
fn the_owner_asks_somebody_to_mute_and_nobody_else_can() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.send(ana, json!({"type": "ask_mute", "targetId": bo.user}));
    let asked = world.receive(bo);
    assert_eq!((&asked["type"], &asked["fromId"]), (&json!("mute_requested"), &json!(ana.user)));
    assert_eq!(world.request(bo, json!({"type": "ask_mute", "targetId": ana.user}))["code"], "NOT_OWNER");
}

#[test]
fn the_owner_ends_the_call_for_all() {
    let mut world = World::new();
    let (ana, joined) = world.join(1, ROOM);
    let (bo, member) = world.join(2, ROOM);
    world.send(ana, json!({"type": "update_settings", "lobby": true}));
    let waiting = knock(&mut world, 3);
    for client in [ana, bo] {
        world.receive_types(client);
    }
    world.send(ana, json!({"type": "end_call"}));
    for client in [ana, bo] {
        assert_eq!(world.receive_types(client), ["call_ended"]);
        assert_eq!(world.closed[&client.connection.0], CloseCode::Ended);
    }
    assert_eq!(world.receive(waiting)["code"], "NOT_ADMITTED");
    assert!(world.seated.is_empty());
    let again = world.connect(2);
    assert_eq!(world.try_join(again, ROOM, json!({"ticket": member["ticket"]}))["code"], "TICKET_INVALID");
    let owner = world.connect(1);
    let back = world.try_join(owner, ROOM, json!({"ownerToken": joined["ownerToken"]}));
    assert_eq!(back["type"], "room_joined");
}

#[test]
fn a_name_that_is_sealed_anew_is_told_to_the_others() {
    let mut world = World::new();
    let (ana, _) = world.join(1, ROOM);
    let (bo, _) = world.join(2, ROOM);
    world.receive_types(ana);
    let name: Value = json!({"sealed": "AAAA"});
    world.send(bo, json!({"type": "set_name", "displayName": name}));
    let heard = world.receive(ana);
    assert_eq!((&heard["type"], &heard["userId"]), (&json!("peer_name"), &json!(bo.user)));
    let (_, joined) = world.join(3, ROOM);
    assert_eq!(joined["participants"][1]["displayName"], name);
    assert_eq!(joined["participants"][1]["userId"], json!(user(2)));
}
