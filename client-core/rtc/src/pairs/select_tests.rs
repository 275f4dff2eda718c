//! Two sides in virtual time. Their agents are played: each sends media over a relayed pair,
//! answers the requests that are signed, and checks nothing.

use std::collections::BTreeSet;

use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_SUCCESS, Message, Setter, TransactionId};

use super::*;

const TICK: Duration = Duration::from_millis(10);
const MEDIA: [u8; 12] = [0x80; 12];

fn address(host: u8, port: u16) -> SocketAddr {
    ([192, 0, 2, host], port).into()
}

fn candidate(address: SocketAddr, kind: CandidateKind, priority: u32) -> Candidate {
    Candidate { address, kind, priority }
}

fn host(address: SocketAddr) -> Candidate {
    candidate(address, CandidateKind::Host, 2_130_706_431)
}

fn credentials(host: u8) -> (String, String) {
    (format!("user{host}"), format!("password-of-{host}"))
}

/// ChannelData with `inner`.
fn wrapped(inner: &[u8]) -> Vec<u8> {
    [&[0x40, 1, 0, inner.len() as u8][..], inner].concat()
}

fn answer(request: &[u8], password: &str) -> Vec<u8> {
    let provider = rtc::crypto::default_provider().unwrap();
    let (_, id) = stun::binding(request).unwrap();
    let mut message = Message::new();
    message.build(&[Box::new(BINDING_SUCCESS), Box::new(TransactionId(id))]).unwrap();
    MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto())
        .add_to(&mut message)
        .unwrap();
    FINGERPRINT.add_to(&mut message).unwrap();
    message.raw
}

struct Side {
    selection: Selection,
    host: u8,
    is_controlling: bool,
    sent: u32,
}

impl Side {
    fn new(host: u8, other: u8, is_controlling: bool) -> Self {
        let mut selection = Selection::new(u64::from(host));
        selection.add_socket(1, address(host, 5_000));
        let (ufrag, password) = credentials(other);
        selection.described(&ufrag, &password);
        Self { selection, host, is_controlling, sent: 0 }
    }

    fn agent_check(&self, other: u8) -> Vec<u8> {
        let provider = rtc::crypto::default_provider().unwrap();
        let signature = Signature {
            username: format!("{}:{}", credentials(other).0, credentials(self.host).0).into_bytes(),
            is_controlling: self.is_controlling,
            tie_breaker: [self.host; 8],
        };
        stun::request([self.host; 12], &signature, &credentials(other).1, false, provider.crypto()).unwrap()
    }

    /// Media that the agent sends through a relay of this side.
    fn media(&mut self, now: Instant) -> Route {
        self.selection.sent(Pair { socket: 1, remote: address(250, 3_478) }, &wrapped(&MEDIA), now)
    }

    fn is_direct(&mut self, now: Instant) -> bool {
        self.media(now) != Route::AsItIs
    }
}

/// Two sides and the paths between them.
struct Call {
    sides: [Side; 2],
    start: Instant,
    now: Instant,
    /// Whether each side's datagrams reach the other one.
    open: bool,
    delay: Duration,
    flying: Vec<(Instant, usize, Vec<u8>)>,
    /// Addresses that were checked.
    checked: BTreeSet<SocketAddr>,
}

impl Call {
    /// The first one is controlling.
    fn new() -> Self {
        let mut sides = [Side::new(1, 2, true), Side::new(2, 1, false)];
        let now = Instant::now();
        for (side, other) in [(0, 2), (1, 1)] {
            let check = wrapped(&sides[side].agent_check(other));
            sides[side].selection.sent(Pair { socket: 1, remote: address(250, 3_478) }, &check, now);
            sides[side].selection.offered(host(address(other, 5_000)), now);
            assert!(!sides[side].is_direct(now), "a relayed pair is used at once");
        }
        let delay = Duration::from_millis(20);
        Self { sides, start: now, now, open: true, delay, flying: Vec::new(), checked: BTreeSet::new() }
    }

    fn send(&mut self, from: usize, remote: SocketAddr, datagram: Vec<u8>) {
        let to = 1 - from;
        self.checked.insert(remote);
        if self.open && remote == address(self.sides[to].host, 5_000) {
            self.flying.push((self.now + self.delay, to, datagram));
        }
    }

    fn step(&mut self) {
        self.now += TICK;
        let (arrived, flying) =
            std::mem::take(&mut self.flying).into_iter().partition(|one| one.0 <= self.now);
        self.flying = flying;
        for (_, to, datagram) in arrived {
            let other = self.sides[1 - to].host;
            let pair = Pair { socket: 1, remote: address(other, 5_000) };
            let is_request = matches!(stun::binding(&datagram), Some((Binding::Request, _)));
            let hidden = self.sides[to].selection.received(pair, &datagram, self.now);
            assert_eq!(hidden, !is_request, "answers are for this, requests for the agent");
            if is_request {
                let answer = answer(&datagram, &credentials(self.sides[to].host).1);
                assert_eq!(self.sides[to].selection.sent(pair, &answer, self.now), Route::AsItIs);
                self.send(to, pair.remote, answer);
            }
        }
        for from in 0..2 {
            let selection = &mut self.sides[from].selection;
            if selection.poll_timeout().is_some_and(|at| at <= self.now) {
                selection.handle_timeout(self.now);
            }
            while let Some((pair, check)) = self.sides[from].selection.poll_output() {
                self.sides[from].sent += 1;
                self.send(from, pair.remote, check);
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn direct(&mut self) -> [bool; 2] {
        let now = self.now;
        self.sides.each_mut().map(|side| side.is_direct(now))
    }

    /// How long until both are as wanted.
    fn until(&mut self, wanted: [bool; 2]) -> Duration {
        let from = self.now;
        while self.direct() != wanted {
            self.step();
            assert!(self.now - from < Duration::from_secs(120), "never");
        }
        self.now - from
    }
}

#[test]
fn a_direct_pair_takes_over_from_a_relayed_one_on_both_sides() {
    let mut call = Call::new();
    let took = call.until([true, true]);
    assert!(took < Duration::from_millis(400), "{took:?}");
    assert_eq!(call.sides[0].media(call.now), Route::Over(Pair { socket: 1, remote: address(2, 5_000) }));
    call.run(Duration::from_secs(60));
    assert_eq!(call.direct(), [true, true]);
    assert!(
        call.sides.iter().all(|side| side.sent < 100),
        "about one check a second: {}",
        call.sides[0].sent
    );
}

#[test]
fn a_path_that_opens_later_is_used_within_two_seconds() {
    for closed in [3, 40, 300] {
        let mut call = Call::new();
        call.open = false;
        call.run(Duration::from_secs(closed));
        assert_eq!(call.direct(), [false, false]);
        call.open = true;
        let took = call.until([true, true]);
        assert!(took < Duration::from_secs(2), "{took:?} after {closed} s");
    }
}

#[test]
fn media_goes_back_when_the_better_pair_is_lost_and_a_flapping_one_is_tried_ever_more_seldom() {
    let mut call = Call::new();
    call.until([true, true]);
    call.open = false;
    let took = call.until([false, false]);
    assert!(took < LOST + 2 * KEEP_ALIVE, "{took:?}");
    call.open = true;
    call.until([true, true]);
    let (mut changes, mut last) = (0, call.direct());
    for second in 0..600 {
        // Three seconds each way: long enough to be used, and to be lost.
        call.open = second % 6 < 3;
        call.run(Duration::from_secs(1));
        let direct = call.direct();
        changes += u32::from(direct != last);
        last = direct;
    }
    assert!(changes < 80, "{changes} changes in ten minutes");
}

#[test]
fn a_bad_network_does_not_lose_a_pair_that_works() {
    let mut call = Call::new();
    call.until([true, true]);
    let mut seed = 1_u64;
    let end = call.now + Duration::from_secs(300);
    while call.now < end {
        // A fifth of everything is lost.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        call.open = !(seed >> 33).is_multiple_of(5);
        call.step();
        assert_eq!(call.direct(), [true, true]);
    }
}

#[test]
fn the_controlled_side_waits_for_a_nomination() {
    let mut side = Side::new(2, 1, false);
    let (start, there) = (Instant::now(), Pair { socket: 1, remote: address(1, 5_000) });
    let check = wrapped(&side.agent_check(1));
    side.selection.sent(Pair { socket: 1, remote: address(250, 3_478) }, &check, start);
    side.selection.offered(host(there.remote), start);
    side.media(start);
    for second in 1..20 {
        let now = start + Duration::from_secs(second);
        side.selection.handle_timeout(now);
        while let Some((pair, check)) = side.selection.poll_output() {
            assert!(!stun::nominates(&check), "it is not for this side to nominate");
            assert!(side.selection.received(pair, &answer(&check, &credentials(1).1), now));
        }
    }
    let now = start + Duration::from_secs(20);
    assert_eq!(side.media(now), Route::AsItIs);
    let nomination = {
        let signature =
            Signature { username: b"user2:user1".to_vec(), is_controlling: true, tie_breaker: [1; 8] };
        let provider = rtc::crypto::default_provider().unwrap();
        stun::request([9; 12], &signature, &credentials(2).1, true, provider.crypto()).unwrap()
    };
    side.selection.received(there, &nomination, now);
    assert_eq!(side.media(now), Route::AsItIs, "the agent has not said that it is signed");
    side.selection.sent(there, &answer(&nomination, &credentials(2).1), now);
    for millis in (20..400).step_by(20) {
        let now = now + Duration::from_millis(millis);
        side.selection.handle_timeout(now);
        while let Some((pair, check)) = side.selection.poll_output() {
            side.selection.received(pair, &answer(&check, &credentials(1).1), now);
        }
    }
    assert_eq!(side.media(now), Route::Over(there));
}

#[test]
fn an_answer_of_somebody_else_is_not_believed() {
    let mut side = Side::new(1, 2, true);
    let start = Instant::now();
    let check = wrapped(&side.agent_check(2));
    side.selection.sent(Pair { socket: 1, remote: address(250, 3_478) }, &check, start);
    side.selection.offered(host(address(2, 5_000)), start);
    side.media(start);
    for second in 1..20 {
        let now = start + Duration::from_secs(second);
        side.selection.handle_timeout(now);
        while let Some((pair, check)) = side.selection.poll_output() {
            let elsewhere = Pair { remote: address(3, 5_000), ..pair };
            side.selection.received(elsewhere, &answer(&check, &credentials(2).1), now);
            side.selection.received(pair, &answer(&check, "another password"), now);
        }
        assert_eq!(side.media(now), Route::AsItIs);
    }
}

#[test]
fn nobody_is_checked_but_whom_the_other_side_offered_or_the_agent_knows() {
    let mut call = Call::new();
    call.open = false;
    call.run(Duration::from_secs(20));
    assert_eq!(call.checked, BTreeSet::from([address(1, 5_000), address(2, 5_000)]));
    // A request from elsewhere counts once the agent has answered it.
    let (now, there) = (call.now, Pair { socket: 1, remote: address(9, 9_000) });
    let request = call.sides[1].agent_check(1);
    call.sides[0].selection.received(there, &request, now);
    call.run(Duration::from_secs(5));
    assert!(!call.checked.contains(&there.remote));
    call.sides[0].selection.sent(there, &answer(&request, &credentials(1).1), now);
    call.run(Duration::from_millis(200));
    assert!(call.checked.contains(&there.remote), "at once");
}

#[test]
fn however_much_is_offered_the_checks_are_bounded() {
    let mut call = Call::new();
    call.open = false;
    for port in 1..=500 {
        let now = call.now;
        call.sides[0].selection.offered(host(address(100 + port as u8 % 100, port)), now);
    }
    assert_eq!(call.sides[0].selection.pairs.len(), MOST_PAIRS);
    call.run(Duration::from_secs(60));
    assert!(call.sides[0].sent < 60 * 120, "{}", call.sides[0].sent);
    call.run(Duration::from_secs(540));
    let before = call.sides[0].sent;
    call.run(Duration::from_secs(60));
    let minute = call.sides[0].sent - before;
    assert!(minute <= 15 * MOST_PAIRS as u32, "{minute}");
}

#[test]
fn an_address_is_not_searched_port_by_port() {
    let mut side = Side::new(1, 2, true);
    for port in 1..=100 {
        side.selection.offered(host(address(77, port)), Instant::now());
    }
    assert_eq!(side.selection.remotes.len(), MOST_PORTS);
    side.selection.offered(host(address(78, 1)), Instant::now());
    assert_eq!(side.selection.remotes.len(), MOST_PORTS + 1, "others are not kept away");
}

#[test]
fn a_server_that_candidates_are_gathered_from_is_not_checked() {
    let mut side = Side::new(1, 2, true);
    let (now, server) = (Instant::now(), Pair { socket: 1, remote: address(99, 3_478) });
    let bare = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    assert_eq!(side.selection.sent(server, &bare, now), Route::AsItIs);
    assert!(side.selection.remotes.is_empty() && side.selection.pairs.is_empty());
    assert!(side.selection.asked.is_empty(), "its answer says nothing of a pair");
}

#[test]
fn a_request_of_somebody_else_with_the_same_id_is_not_accepted_with_the_signed_one() {
    let mut side = Side::new(1, 2, true);
    let now = Instant::now();
    let [theirs, forged] = [2, 66].map(|host| Pair { socket: 1, remote: address(host, 5_000) });
    let request = Side::new(2, 1, false).agent_check(1);
    for pair in [forged, theirs] {
        side.selection.received(pair, &request, now);
    }
    side.selection.sent(theirs, &answer(&request, &credentials(1).1), now);
    assert_eq!(side.selection.remotes.keys().collect::<Vec<_>>(), [&theirs.remote]);
}

#[test]
fn an_answer_without_a_signature_says_nothing_of_the_agents_pair() {
    let (start, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
    let (server, there) =
        (Pair { socket: 1, remote: address(250, 3_478) }, Pair { socket: 1, remote: address(2, 5_000) });
    for password in ["another password".to_owned(), credentials(2).1] {
        let is_signed = password == credentials(2).1;
        let mut side = Side::new(1, 2, true);
        let check = side.agent_check(2);
        side.media(start);
        side.selection.received(server, &wrapped(&answer(&check, &password)), later);
        assert_eq!(side.selection.agent_answered == Some(later), is_signed, "relayed");
        let mut side = Side::new(1, 2, true);
        side.selection.sent(there, &check, start);
        side.selection.sent(there, &MEDIA, start);
        side.selection.received(there, &answer(&check, &password), later);
        assert_eq!(side.selection.agent_answered == Some(later), is_signed, "direct");
        assert_eq!(side.selection.pairs[&there].samples, u32::from(is_signed));
    }
}

#[test]
fn the_loss_of_a_pair_brings_no_new_checks_to_addresses_that_never_answered() {
    let mut call = Call::new();
    let now = call.now;
    for host in 100..120 {
        let stranger = candidate(address(host, 5_000), CandidateKind::Host, 1);
        call.sides[0].selection.offered(stranger, now);
    }
    let silent = Pair { socket: 1, remote: address(110, 5_000) };
    let mut minutes = Vec::new();
    for _ in 0..20 {
        let before = call.sides[0].selection.pairs[&silent].sent;
        for _ in 0..6 {
            call.open = true;
            call.run(Duration::from_secs(5));
            call.open = false;
            call.run(Duration::from_secs(5));
        }
        minutes.push(call.sides[0].selection.pairs[&silent].sent - before);
    }
    assert!(minutes[11..].iter().all(|minute| *minute <= 13), "{minutes:?}");
}

#[test]
fn a_side_that_lost_the_pair_alone_waits_for_another_nomination_and_gets_it() {
    for alone in [0, 1] {
        let mut call = Call::new();
        call.until([true, true]);
        call.run(Duration::from_secs(5));
        let now = call.now;
        let pair = call.sides[alone].selection.in_use.unwrap();
        call.sides[alone].selection.failed(pair, now);
        assert!(!call.sides[alone].selection.pairs[&pair].is_nominated, "by the other side, before");
        call.until([true, true]);
        call.run(Duration::from_secs(5));
        assert_eq!(call.direct(), [true, true]);
    }
}

#[test]
fn a_direct_pair_is_left_in_peace_after_a_few_looks_at_others() {
    let mut side = Side::new(1, 2, true);
    let (start, there) = (Instant::now(), Pair { socket: 1, remote: address(2, 5_000) });
    side.selection.offered(host(there.remote), start);
    side.selection.offered(candidate(address(3, 5_001), CandidateKind::ServerReflexive, 1), start);
    side.selection.offered(candidate(address(4, 5_002), CandidateKind::Relay, 1), start);
    side.selection.sent(there, &side.agent_check(2), start);
    side.selection.sent(there, &MEDIA, start);
    let mut now = start;
    while let Some(at) = side.selection.poll_timeout() {
        now = at.max(now);
        side.selection.handle_timeout(now);
        while let Some((pair, _)) = side.selection.poll_output() {
            assert_eq!(pair.remote, address(3, 5_001), "neither the pair in use nor a relayed one");
            side.sent += 1;
        }
    }
    assert_eq!(side.sent, ALIKE_CHECKS);
    assert!(now - start < Duration::from_secs(15));
}

#[test]
fn of_two_direct_pairs_the_one_with_a_much_shorter_round_trip_is_used() {
    for (slow, fast, changes) in [(200, 20, true), (40, 20, false)] {
        let mut side = Side::new(1, 2, true);
        let mut now = Instant::now();
        let (agents, other) =
            (Pair { socket: 1, remote: address(2, 5_000) }, Pair { socket: 1, remote: address(3, 5_000) });
        side.selection.offered(host(other.remote), now);
        for _ in 0..4 {
            let check = side.agent_check(2);
            side.selection.sent(agents, &check, now);
            let later = now + Duration::from_millis(slow);
            side.selection.received(agents, &answer(&check, &credentials(2).1), later);
        }
        side.selection.sent(agents, &MEDIA, now);
        for _ in 0..1_000 {
            now += TICK;
            side.selection.handle_timeout(now);
            while let Some((pair, check)) = side.selection.poll_output() {
                let later = now + Duration::from_millis(fast);
                side.selection.received(pair, &answer(&check, &credentials(2).1), later);
            }
        }
        let route = side.selection.sent(agents, &MEDIA, now);
        assert_eq!(route, if changes { Route::Over(other) } else { Route::AsItIs }, "{slow} and {fast} ms");
    }
}

#[test]
fn among_the_relays_of_the_other_side_udp_takes_over_from_tls() {
    let mut side = Side::new(1, 2, true);
    let start = Instant::now();
    let (tls, udp) =
        (Pair { socket: 1, remote: address(200, 7_000) }, Pair { socket: 1, remote: address(200, 7_001) });
    side.selection.offered(candidate(udp.remote, CandidateKind::Relay, 16_777_215), start);
    side.selection.offered(candidate(tls.remote, CandidateKind::Relay, 16_777_215 - (2 << 20)), start);
    side.selection.sent(tls, &side.agent_check(2), start);
    side.selection.sent(tls, &MEDIA, start);
    for millis in (0..2_000).step_by(50) {
        let now = start + Duration::from_millis(millis);
        side.selection.handle_timeout(now);
        while let Some((pair, check)) = side.selection.poll_output() {
            side.selection.received(pair, &answer(&check, &credentials(2).1), now);
        }
    }
    assert_eq!(side.selection.sent(tls, &MEDIA, start + Duration::from_secs(2)), Route::Over(udp));
}

#[test]
fn after_an_ice_restart_everything_begins_anew() {
    let mut call = Call::new();
    call.until([true, true]);
    call.flying.clear();
    let now = call.now;
    for (side, other) in [(0, 2), (1, 1)] {
        call.sides[side].selection.described("another", &credentials(other).1);
        assert!(!call.sides[side].is_direct(now));
        assert_eq!(call.sides[side].selection.poll_timeout(), None, "nothing is known of the other side");
    }
    for (side, other) in [(0, 2), (1, 1)] {
        let (ufrag, password) = credentials(other);
        call.sides[side].selection.described(&ufrag, &password);
        let check = wrapped(&call.sides[side].agent_check(other));
        call.sides[side].selection.sent(Pair { socket: 1, remote: address(250, 3_478) }, &check, now);
        call.sides[side].selection.offered(host(address(other, 5_000)), now);
        assert!(!call.sides[side].is_direct(now));
    }
    let took = call.until([true, true]);
    assert!(took < Duration::from_secs(2), "{took:?}, {:?} after the start", call.now - call.start);
}

#[test]
fn a_socket_that_goes_takes_its_pairs_with_it() {
    let mut call = Call::new();
    call.until([true, true]);
    call.sides[0].selection.remove_socket(1);
    assert_eq!(call.direct(), [false, true]);
    let now = call.now;
    call.sides[0].selection.handle_timeout(now + LOST);
    assert_eq!(call.sides[0].selection.poll_output(), None);
}

#[test]
fn the_connection_outlives_the_relay_that_the_agent_selected() {
    let mut call = Call::new();
    call.until([true, true]);
    let (now, server) = (call.now, Pair { socket: 1, remote: address(250, 3_478) });
    let there = Pair { socket: 1, remote: address(2, 5_000) };
    let side = &mut call.sides[0].selection;
    while side.poll_output().is_some() {}
    let check = call.sides[0].agent_check(2);
    let side = &mut call.sides[0].selection;
    side.received(server, &wrapped(&answer(&check, &credentials(2).1)), now);
    side.sent(server, &wrapped(&check), now + Duration::from_secs(2));
    assert_eq!(side.poll_output(), None, "the relay answered two seconds ago");
    let later = now + Duration::from_secs(4);
    side.sent(server, &wrapped(&check), later);
    assert_eq!(side.poll_output(), Some((there, check.clone())));
    let answer = answer(&check, &credentials(2).1);
    assert!(side.received(there, &answer, later), "the agent knows nothing of this pair");
    assert_eq!(side.poll_delivery(), Some((server, wrapped(&answer))));
    assert_eq!(side.poll_delivery(), None);
}
