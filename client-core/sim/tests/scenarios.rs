//! Calls that once broke a rule, or that show one: small, named, and each with its fault.

#![expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]

use std::time::{Duration, Instant};

use snug_sim::{Fault, NatKind, Person, Plan, Report, run};

fn play(plan: &Plan) -> Report {
    run(plan, Instant::now()).unwrap_or_else(|failure| panic!("{failure}"))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn pair(one: NatKind, other: NatKind, turn: bool) -> Plan {
    let mut plan = Plan::quiet(1, 2);
    plan.people[0].nat = one;
    plan.people[1].nat = other;
    plan.turn = turn;
    plan
}

#[test]
fn ten_people_meet_with_one_connection_for_each_pair_and_nothing_is_renegotiated() {
    let report = play(&Plan::quiet(1, 10));
    assert_eq!((report.counts.links, report.counts.offers), (90, 45));
}

#[test]
fn every_pair_of_nats_meets_through_the_relay() {
    for one in NatKind::ALL {
        for other in NatKind::ALL {
            play(&pair(one, other, true));
        }
    }
}

#[test]
fn without_turn_those_pairs_meet_that_can_and_the_others_do_not() {
    for one in NatKind::ALL {
        for other in NatKind::ALL {
            play(&pair(one, other, false));
        }
    }
}

#[test]
fn a_household_meets_in_its_own_network_even_without_udp_to_the_internet() {
    let mut plan = pair(NatKind::UdpBlocked, NatKind::UdpBlocked, false);
    plan.people[1].household = Some(0);
    play(&plan);
}

#[test]
fn a_killed_relay_costs_no_connection_and_no_media() {
    let report = play(&Plan::quiet(2, 4).with(40, Fault::RelayKilled(seconds(20))));
    assert_eq!((report.counts.links, report.counts.offers), (12, 6));
}

#[test]
fn a_drained_relay_costs_no_connection() {
    let report = play(&Plan::quiet(3, 4).with(40, Fault::RelayDrained(seconds(3))));
    assert_eq!((report.counts.links, report.counts.offers), (12, 6));
}

#[test]
fn a_relay_that_vanishes_is_missed_and_found_again() {
    play(&Plan::quiet(4, 3).with(40, Fault::RelayVanishes(seconds(30))));
}

#[test]
fn a_changed_address_is_got_over_whether_or_not_the_system_tells() {
    for noticed in [true, false] {
        for nat in NatKind::ALL {
            play(&Plan::quiet(5, 3).with(20, Fault::Move { who: 1, nat, noticed }));
        }
    }
}

#[test]
fn half_a_minute_without_a_line_is_got_over() {
    play(&Plan::quiet(6, 3).with(20, Fault::Outage(1, seconds(30))));
}

#[test]
fn a_machine_that_slept_comes_back() {
    for length in [4, 20, 50, 90] {
        play(&Plan::quiet(7, 3).with(20, Fault::Sleep(1, seconds(length))));
    }
}

#[test]
fn a_machine_that_lost_its_power_is_gone_after_half_a_minute_though_the_relay_misses_it_later() {
    for quic in [true, false] {
        let mut plan = Plan::quiet(8, 3).with(20, Fault::PowerOff(1));
        plan.people[1].quic = quic;
        play(&plan);
    }
}

#[test]
fn who_dies_in_the_moment_of_connecting_is_not_shown_for_longer_than_others() {
    for tenth in 2..20 {
        let mut plan = Plan::quiet(9, 2).with(0, Fault::PowerOff(1));
        plan.faults[0].0 = Duration::from_millis(tenth * 100);
        play(&plan);
    }
}

#[test]
fn of_two_offers_whose_answers_come_late_together_neither_is_taken_for_the_other() {
    // Both offers wait for the one who is away, and both are answered at its return.
    for length in 7..16 {
        let mut plan = Plan::quiet(10, 3).with(20, Fault::Outage(0, seconds(length)));
        plan.people[0].quic = true;
        play(&plan);
    }
}

#[test]
fn who_comes_back_after_being_given_up_is_welcomed() {
    for who in 0..3 {
        play(&Plan::quiet(11, 3).with(20, Fault::Outage(who, seconds(40))));
        play(&Plan::quiet(11, 3).with(20, Fault::Outage(who, seconds(44))));
    }
}

#[test]
fn neither_a_password_nor_a_lock_keeps_out_who_was_inside_restarts_of_the_relay_included() {
    for door in [Fault::SetPassword, Fault::Lock(true)] {
        let plan = Plan::quiet(12, 3)
            .with(10, door)
            .with(15, Fault::RelayKilled(seconds(2)))
            .with(25, Fault::Outage(1, seconds(6)))
            .with(40, Fault::Outage(2, seconds(40)))
            .with(90, Fault::Crash { who: 1, away: seconds(3), key_kept: true })
            .with(100, Fault::RelayKilled(seconds(2)))
            .with(101, Fault::Crash { who: 2, away: seconds(3), key_kept: false });
        play(&plan);
    }
}

#[test]
fn after_a_removal_newcomers_are_let_in_by_the_owner() {
    let mut plan = Plan::quiet(20, 4).with(10, Fault::Kick(2));
    plan.people[3].joins = seconds(20);
    plan.length = seconds(70);
    play(&plan);
}

/// Within five seconds after somebody's program is started again, everybody is connected to everybody.
fn soon_after(mut plan: Plan, second: u64) {
    plan.length = seconds(second + 5);
    play(&plan);
}

#[test]
fn who_crashes_and_comes_back_is_connected_again_within_five_seconds() {
    for key_kept in [true, false] {
        for (who, away) in [(0, 1), (1, 2), (2, 20), (1, 35)] {
            let crash = Fault::Crash { who, away: seconds(away), key_kept };
            soon_after(Plan::quiet(16, 4).with(20, crash.clone()), 20 + away);
            let mut plan = Plan::quiet(17, 3).with(20, crash);
            plan.people[who].quic = true;
            soon_after(plan, 20 + away);
        }
    }
}

#[test]
fn who_crashes_while_the_relay_is_away_comes_back_with_it() {
    for key_kept in [true, false] {
        let crash = Fault::Crash { who: 1, away: seconds(3), key_kept };
        play(&Plan::quiet(18, 4).with(20, Fault::RelayKilled(seconds(5))).with(21, crash));
    }
}

#[test]
fn who_crashes_again_and_again_is_one_participant() {
    let crash = |second| (second, Fault::Crash { who: 1, away: seconds(1), key_kept: true });
    let plan = [20, 23, 26, 29]
        .map(crash)
        .into_iter()
        .fold(Plan::quiet(19, 3), |plan, (at, crash)| plan.with(at, crash));
    soon_after(plan, 31);
}

#[test]
fn an_owner_removes_and_locks_and_the_rest_stays_together() {
    play(&Plan::quiet(13, 4).with(10, Fault::Kick(2)).with(12, Fault::Lock(true)).with(20, Fault::Cut(1)));
}

#[test]
fn people_on_bad_lines_stay_together_through_one_fault_after_the_other() {
    let mut plan = Plan::quiet(14, 5)
        .with(10, Fault::Outage(0, seconds(12)))
        .with(14, Fault::RelayKilled(seconds(5)))
        .with(16, Fault::Move { who: 3, nat: NatKind::Symmetric, noticed: true })
        .with(18, Fault::Sleep(4, seconds(15)))
        .with(30, Fault::NatForgets(2))
        .with(31, Fault::Leave(1));
    for person in &mut plan.people {
        *person = Person { loss: 0.03, jitter: Duration::from_millis(40), ..person.clone() };
    }
    play(&plan);
}

#[test]
fn a_seat_whose_answer_was_lost_after_a_restart_of_the_relay_is_taken_back() {
    // The address changes at one moment or another of the return, and the relay believes the lost connection alive.
    for step in 0..60 {
        let moved = Fault::Move { who: 1, nat: NatKind::Restricted, noticed: false };
        let mut plan = Plan::quiet(15, 2).with(20, Fault::RelayKilled(seconds(5))).with(25, moved);
        plan.people[1].delay = Duration::from_millis(90);
        plan.faults[1].0 = Duration::from_millis(25_000 + step * 100);
        play(&plan);
    }
}
