//! Refresh (RFC 8656 §8).

use crate::stun::{self, attribute as a};
use crate::world::{Client, PEER, PEER_V6, World, at};

const CLIENT: &str = "81.2.69.142:40000";

fn both(world: &mut World) -> Client {
    world.admit("room", "a");
    let mut client = Client::udp(CLIENT, "room", "a");
    let answer = world.ask(&mut client, stun::ALLOCATE, |message| message.transport(17).additional(2));
    assert_eq!(answer.addresses(a::XOR_RELAYED_ADDRESS).len(), 2);
    client
}

#[test]
fn a_refresh_prolongs_from_now_on() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    world.pass(599);
    let answer = world.ask(&mut client, stun::REFRESH, |message| message);
    assert_eq!(answer.number(a::LIFETIME), Some(600), "ten minutes when nothing is asked for");
    world.pass(599);
    let answer = world.ask(&mut client, stun::REFRESH, |message| message.lifetime(7200));
    assert_eq!(answer.number(a::LIFETIME), Some(3600));
    world.pass(3599);
    assert_eq!(world.allocations(), 1);
    world.pass(1);
    assert_eq!(world.allocations(), 0);
}

#[test]
fn a_refresh_may_also_shorten() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.refresh(&mut client, 3600), 0);
    assert_eq!(world.refresh(&mut client, 600), 0);
    world.pass(600);
    assert_eq!(world.allocations(), 0);
}

#[test]
fn a_refresh_with_zero_ends_everything() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.permit(&mut client, at(PEER)), 0);
    assert_eq!(world.sockets.len(), 1);
    let answer = world.ask(&mut client, stun::REFRESH, |message| message.lifetime(0));
    assert_eq!((answer.class, answer.number(a::LIFETIME)), (stun::SUCCESS, Some(0)));
    assert_eq!((world.allocations(), world.sockets.len()), (0, 0));
    assert_eq!(world.server.poll_timeout(), None);
    assert_eq!(world.refresh(&mut client, 0), 437, "there is nothing any more");
    assert_eq!(world.permit(&mut client, at(PEER)), 437);
    assert_eq!(world.bind(&mut client, 0x4000, at(PEER)), 437);
}

#[test]
fn one_family_of_two_can_be_given_up() {
    let mut world = World::new();
    let mut client = both(&mut world);
    assert_eq!(world.permit(&mut client, at(PEER)), 0);
    assert_eq!(world.permit(&mut client, at(PEER_V6)), 0);
    assert_eq!(world.sockets.len(), 2);
    assert_eq!(world.code(&mut client, stun::REFRESH, |m| m.family(2).lifetime(0)), 0);
    assert_eq!((world.allocations(), world.sockets.len()), (1, 1));
    assert!(world.send(&client, at(PEER), b"4").is_some());
    assert!(world.send(&client, at(PEER_V6), b"6").is_none());
    assert_eq!(world.permit(&mut client, at(PEER_V6)), 443);
    assert_eq!(world.code(&mut client, stun::REFRESH, |m| m.family(2).lifetime(0)), 443);
    assert_eq!(world.code(&mut client, stun::REFRESH, |m| m.family(1).lifetime(600)), 0);
    assert_eq!(
        world.code(&mut client, stun::REFRESH, |m| m.family(1).lifetime(0)),
        0,
        "the last one is all of it"
    );
    assert_eq!((world.allocations(), world.sockets.len()), (0, 0));
}

#[test]
fn a_family_that_is_not_there_is_a_443() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    for family in [2, 0, 3] {
        for lifetime in [0, 600] {
            assert_eq!(world.code(&mut client, stun::REFRESH, |m| m.family(family).lifetime(lifetime)), 443);
        }
    }
    assert_eq!(world.allocations(), 1);
}

#[test]
fn a_broken_refresh_changes_nothing() {
    let mut world = World::new();
    let (mut client, _) = world.allocated(CLIENT, "room", "a");
    assert_eq!(world.code(&mut client, stun::REFRESH, |m| m.put(a::LIFETIME, &[0, 0])), 400);
    assert_eq!(world.code(&mut client, stun::REFRESH, |m| m.lifetime(0).put(0x0077, b"")), 420);
    assert_eq!(world.allocations(), 1);
}
