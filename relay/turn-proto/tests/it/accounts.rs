//! Who may use the server, and that it ends at once.

use snug_turn_proto::{DropReason, Input, Quota};

use crate::stun;
use crate::world::{Client, OTHER_PEER, PEER, World, account, at, config};

#[test]
fn a_revoked_account_loses_everything_at_once() {
    let mut world = World::new();
    let (mut first, _) = world.allocated("81.2.69.142:1", "room", "a");
    let (mut stream, relayed_stream) = world.allocate(Client::tcp("81.2.69.142:2", "room", "a"));
    let (mut other, relayed_other) = world.allocated("81.2.70.1:1", "room", "b");
    assert_eq!(world.permit(&mut first, at(PEER)), 0);
    assert_eq!(world.bind(&mut stream, 0x4000, relayed_other), 0);
    assert_eq!(world.permit(&mut other, relayed_stream), 0);
    assert!(world.channel_data(&stream, 0x4000, b"x").is_some());
    world.input(Input::Revoke(account("room", "a")));
    let mut closed = world.closed.clone();
    closed.sort_by_key(|tuple| tuple.client);
    assert_eq!(closed, [first.tuple, stream.tuple]);
    assert_eq!((world.allocations(), world.sockets.len()), (1, 0));
    assert_eq!(world.channel_data(&stream, 0x4000, b"x"), None);
    assert_eq!(world.send(&other, relayed_stream, b"x"), None, "nor can it be reached");
    assert_eq!(world.refresh(&mut first, 600), 401);
    assert_eq!(
        world.code(&mut stream, stun::ALLOCATE, |m| m.transport(17)),
        401,
        "its credential is worth nothing"
    );
    assert_eq!(world.refresh(&mut other, 600), 0, "nobody else is touched");
    world.input(Input::Revoke(account("room", "a")));
    world.input(Input::Revoke(account("room", "nobody")));
    world.input(Input::Revoke(account("nowhere", "a")));
    assert_eq!(world.closed.len(), 2, "once more changes nothing");
}

#[test]
fn who_comes_back_starts_anew() {
    let mut world = World::new();
    let (mut client, _) = world.allocated("81.2.69.142:1", "room", "a");
    world.admit("room", "a");
    assert_eq!(world.refresh(&mut client, 600), 0, "admitted twice is admitted");
    world.input(Input::Revoke(account("room", "a")));
    world.admit("room", "a");
    assert_eq!(world.refresh(&mut client, 600), 437);
    assert_eq!(world.code(&mut client, stun::ALLOCATE, |m| m.transport(17)), 0);
}

#[test]
fn a_group_that_everybody_left_and_that_others_made_again_is_another_group() {
    let mut world = World::new();
    let (a, relayed_a) = world.allocated("81.2.69.142:1", "room", "a");
    world.input(Input::Revoke(account("room", "a")));
    // The group's place in the tables goes to another group.
    let (mut b, relayed_b) = world.allocated("81.2.69.142:2", "elsewhere", "b");
    let (mut again, relayed_again) = world.allocated("81.2.69.142:1", "room", "a");
    assert_eq!(again.tuple, a.tuple);
    assert_eq!(world.permit(&mut b, relayed_again), 403);
    assert_eq!(world.permit(&mut again, relayed_b), 403);
    assert!(relayed_a.port() >= 10_000);
}

#[test]
fn the_end_of_a_stream_ends_its_allocation_and_no_other() {
    let mut world = World::new();
    let (stream, _) = world.allocate(Client::tcp("81.2.69.142:1", "room", "a"));
    let (mut datagrams, _) = world.allocated("81.2.69.142:1", "room", "a");
    world.input(Input::ClientGone(stream.tuple));
    assert_eq!(
        world.server.stats().allocations_by,
        [1, 0, 0],
        "the same address over UDP is another 5-tuple"
    );
    world.input(Input::ClientGone(stream.tuple));
    assert_eq!(world.refresh(&mut datagrams, 600), 0);
    assert!(world.closed.is_empty(), "the shell knows already");
}

#[test]
fn the_rate_of_each_is_limited_and_a_seconds_worth_may_come_at_once() {
    for limited in 0..4 {
        let mut config = config();
        let quotas = &mut config.quotas;
        for (n, quota) in
            [&mut quotas.per_owner, &mut quotas.per_group, &mut quotas.per_source, &mut quotas.server]
                .into_iter()
                .enumerate()
        {
            *quota = Quota { allocations: 100, megabits: if n == limited { 8 } else { 0 } };
        }
        let mut world = World::with(config);
        let (mut client, relayed) = world.allocated("81.2.69.142:1", "room", "a");
        assert_eq!(world.permit(&mut client, at(PEER)), 0);
        // 8 Mbit/s are 1000 packets of 1000 bytes.
        let passed = (0..3000).filter(|_| world.send(&client, at(PEER), &[0; 1000]).is_some()).count();
        assert!(passed.abs_diff(1000) <= 20, "limit {limited}: {passed}");
        assert_eq!(world.dropped(DropReason::OverQuota), 3000 - passed as u64);
        assert_eq!(world.send(&client, at(PEER), &[0; 1000]), None);
        // The other direction has a limit of its own, and so have its small packets.
        let passed = (0..3000).filter(|_| world.peer_says(relayed, at(PEER), &[0; 100]).is_some()).count();
        assert!(passed.abs_diff(2000) <= 40, "limit {limited}: {passed} small packets count 500 bytes each");
    }
}

#[test]
fn one_participants_flood_does_not_take_the_rate_of_another() {
    let mut config = config();
    config.quotas.per_owner.megabits = 1;
    let mut world = World::with(config);
    let (mut loud, _) = world.allocated("81.2.69.142:1", "room", "a");
    let (mut quiet, _) = world.allocated("81.2.70.1:1", "room", "b");
    assert_eq!(world.permit(&mut loud, at(PEER)), 0);
    assert_eq!(world.permit(&mut quiet, at(OTHER_PEER)), 0);
    for _ in 0..10_000 {
        world.send(&loud, at(PEER), &[0; 1000]);
    }
    assert_eq!(world.send(&loud, at(PEER), &[0; 1000]), None);
    assert!(world.send(&quiet, at(OTHER_PEER), &[0; 1000]).is_some());
}

#[test]
fn in_process_both_ends_pay() {
    let mut config = config();
    config.quotas.per_owner.megabits = 8;
    let mut world = World::with(config);
    let (mut one, relayed_one) = world.allocated("81.2.69.142:1", "room", "a");
    let (mut two, relayed_two) = world.allocated("81.2.70.1:1", "room", "b");
    let (mut receiver, relayed_receiver) = world.allocated("81.2.71.1:1", "room", "c");
    assert_eq!(world.permit(&mut one, relayed_receiver), 0);
    assert_eq!(world.permit(&mut two, relayed_receiver), 0);
    assert_eq!(world.permit(&mut receiver, relayed_one), 0);
    let mut passed = 0;
    for _ in 0..700 {
        passed += u32::from(world.send(&one, relayed_receiver, &[0; 1000]).is_some());
        passed += u32::from(world.send(&two, relayed_receiver, &[0; 1000]).is_some());
    }
    assert!(passed.abs_diff(1000) <= 20, "{passed}: neither sender is over its limit, the receiver is");
    assert_eq!(world.dropped(DropReason::OverQuota), 1400 - u64::from(passed));
    // Nobody can take the receiver's voice by shouting at it.
    assert_eq!(world.permit(&mut receiver, relayed_two), 0);
    assert_eq!(world.permit(&mut two, relayed_receiver), 0);
    assert!(world.send(&receiver, relayed_two, &[0; 1000]).is_some());
}
