//! Pacer and estimator over a virtual link: rate with a queue, delay, jitter and loss. Run with `--nocapture` for
//! the tables.

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use common::Dice;
use snug_media_proto::estimate::{Estimator, EstimatorConfig, PacketReport};
use snug_media_proto::pacer::{Pacer, PacketKind};
use snug_media_proto::section::Section;
use snug_media_proto::uplink::{JointUplink, LinkSample};

const MS: Duration = Duration::from_millis(1);
const AUDIO_BYTES: usize = 130;
const VIDEO_BYTES: usize = 1_200;
const AUDIO_BPS: u64 = 52_000;

/// The shared bottleneck.
struct Wire {
    bps: f64,
    /// Packets that would wait for longer are lost, in ms.
    max_queue: f64,
    loss: f64,
    /// Everything is lost for the first of these times in each of the second, in ms.
    outages: Option<(u64, u64)>,
    jitter: u64,
    delay: f64,
    busy_until: f64,
    dice: Dice,
}

/// A transfer that sends what the path takes: its window grows by a packet each round trip and is halved by a loss.
struct Transfer {
    window: f64,
    /// When each packet's fate is known, and whether it came.
    flying: VecDeque<(f64, bool)>,
    halved: f64,
    bytes: usize,
}

impl Transfer {
    fn tick(&mut self, now: f64, wire: &mut Wire) {
        while self.flying.front().is_some_and(|(known, _)| *known <= now) {
            let Some((_, came)) = self.flying.pop_front() else { break };
            if came {
                self.window += 1.0 / self.window;
                self.bytes += 1_500;
            } else if now - self.halved > 100.0 {
                self.window = (self.window / 2.0).max(2.0);
                self.halved = now;
            }
        }
        while self.flying.len() < self.window as usize {
            let known = match wire.carry(now, 1_500) {
                Some((arrival, _)) => (arrival + 20.0, true),
                // Three later packets show it.
                None => (now + 60.0 + wire.max_queue, false),
            };
            let last = self.flying.back().map_or(0.0, |(known, _)| *known);
            self.flying.push_back((known.0.max(last), known.1));
        }
    }
}

impl Wire {
    fn new(seed: u64, bps: f64) -> Self {
        eprintln!("seed {seed}");
        let dice = Dice(seed);
        let (max_queue, jitter, delay) = (300.0, 2, 20.0);
        Self { bps, max_queue, loss: 0.0, outages: None, jitter, delay, busy_until: 0.0, dice }
    }

    /// When a packet sent at `now` ms arrives and how long it waited, unless it is lost.
    fn carry(&mut self, now: f64, bytes: usize) -> Option<(f64, f64)> {
        if self.dice.chance(self.loss)
            || self.outages.is_some_and(|(long, every)| (now as u64) % every < long)
        {
            return None;
        }
        let wait = (self.busy_until - now).max(0.0);
        if wait > self.max_queue {
            return None;
        }
        self.busy_until = now + wait + bytes as f64 * 8_000.0 / self.bps;
        let jitter = self.dice.below(self.jitter * 1_000 + 1) as f64 / 1_000.0;
        Some((self.busy_until + self.delay + jitter, wait))
    }
}

#[derive(Clone, Copy)]
struct Flying {
    id: u64,
    arrival: Option<f64>,
    sent: f64,
}

struct Link {
    base: Instant,
    pacer: Pacer<PacketKind>,
    estimator: Estimator,
    next_id: u64,
    flying: VecDeque<Flying>,
    feedback: BTreeMap<u64, Vec<PacketReport>>,
    owed: f64,
    /// The most the encoder makes, in bit/s.
    cap: u64,
    key_wanted: bool,
    /// Between two feedbacks of the far side, in ms.
    feedback_every: u64,
    /// What the engine lets this link use, if less than its estimate.
    share: Option<u64>,
    /// A busy machine looks after the link this many ms late at most.
    lateness: u64,
    wakes: u64,
    dice: Dice,
    /// Longest added delay of audio: in the pacer and in the queue, in ms.
    audio_delay: f64,
    audio_sum: (f64, u32),
}

impl Link {
    fn new(base: Instant, cap: u64) -> Self {
        let config = EstimatorConfig::default();
        let mut estimator = Estimator::new(base, config);
        estimator.set_useful(cap * 3 / 2);
        estimator.on_rtt(40 * MS);
        Self {
            base,
            pacer: Pacer::new(config.start_bps),
            estimator,
            next_id: 0,
            flying: VecDeque::new(),
            feedback: BTreeMap::new(),
            owed: 0.0,
            cap,
            key_wanted: false,
            feedback_every: 50,
            share: None,
            lateness: 0,
            wakes: 0,
            dice: Dice(cap),
            audio_delay: 0.0,
            audio_sum: (0.0, 0),
        }
    }

    fn rate(&self) -> u64 {
        let estimate = self.estimator.estimate_bps();
        self.share.map_or(estimate, |share| share.min(estimate))
    }

    /// One millisecond.
    fn tick(&mut self, tick: u64, wire: &mut Wire) {
        let now = self.base + Duration::from_millis(tick);
        if let Some(reports) = self.feedback.remove(&tick) {
            self.estimator.on_feedback(now, &reports);
        }
        if self.estimator.poll_timeout().is_some_and(|at| at <= now) {
            self.estimator.handle_timeout(now);
        }
        let rate = self.rate();
        self.pacer.set_rate(rate);
        if self.share.is_none()
            && let Some(cluster) = self.estimator.poll_probe(now)
        {
            self.pacer.start_probe(cluster, now);
        }
        if tick % 20 == self.next_id % 3 {
            self.pacer.enqueue(PacketKind::Audio, PacketKind::Audio, AUDIO_BYTES, now);
        }
        if tick.is_multiple_of(33) {
            let video = rate.saturating_sub(AUDIO_BPS).min(self.cap);
            self.owed += video as f64 * 0.033 / 8.0;
            let key = std::mem::take(&mut self.key_wanted);
            let mut start = true;
            while self.owed >= VIDEO_BYTES as f64 / 2.0 {
                let kind = PacketKind::Video { section: Section::Camera, start, key };
                let bytes = (self.owed as usize).min(VIDEO_BYTES);
                self.pacer.enqueue(kind, kind, bytes, now);
                self.owed -= bytes as f64;
                start = false;
            }
        }
        while let Some(event) = self.pacer.poll_event() {
            self.key_wanted |= matches!(event, snug_media_proto::pacer::PacerEvent::KeyFrameWanted(_));
        }
        if tick >= self.wakes {
            self.wakes = tick + self.dice.below(self.lateness + 1);
            self.release(tick, now, wire);
        }
        if tick.is_multiple_of(self.feedback_every) {
            self.report(tick);
        }
    }

    /// Lets go what may leave, filled up with padding while a probe runs.
    fn release(&mut self, tick: u64, now: Instant, wire: &mut Wire) {
        loop {
            while let Some(released) = self.pacer.poll(now) {
                let carried = wire.carry(tick as f64, released.bytes);
                if let (PacketKind::Audio, Some((_, wait))) = (released.packet, carried) {
                    self.audio_delay = self.audio_delay.max(wait);
                    self.audio_sum = (self.audio_sum.0 + wait, self.audio_sum.1 + 1);
                }
                self.estimator.on_sent(self.next_id, released.bytes, now, released.kind, released.probe);
                let arrival = carried.map(|(arrival, _)| arrival);
                self.flying.push_back(Flying { id: self.next_id, arrival, sent: tick as f64 });
                self.next_id += 1;
            }
            if !self.pacer.padding_wanted(now) {
                return;
            }
            self.pacer.enqueue(PacketKind::Probe, PacketKind::Probe, VIDEO_BYTES, now);
        }
    }

    /// The far side reports everything up to the highest number that has come.
    fn report(&mut self, tick: u64) {
        let came = |flying: &Flying| flying.arrival.is_some_and(|arrival| arrival <= tick as f64);
        let Some(last) = self.flying.iter().rposition(came) else { return };
        let reports = self
            .flying
            .drain(..=last)
            .map(|flying| {
                debug_assert!(flying.sent <= tick as f64);
                let arrival = flying.arrival.map(|arrival| Duration::from_secs_f64(arrival / 1e3 + 1_000.0));
                PacketReport { id: flying.id, arrival }
            })
            .collect();
        self.feedback.insert(tick + 20, reports);
    }

    fn take_audio(&mut self) -> (f64, f64) {
        let mean = self.audio_sum.0 / f64::from(self.audio_sum.1.max(1));
        let longest = std::mem::take(&mut self.audio_delay);
        self.audio_sum = (0.0, 0);
        (longest, mean)
    }
}

/// Runs one link alone and prints a line every second.
fn run(link: &mut Link, wire: &mut Wire, seconds: std::ops::Range<u64>) -> Vec<(u64, f64)> {
    let mut table = Vec::new();
    for second in seconds {
        for tick in second * 1_000..(second + 1) * 1_000 {
            link.tick(tick, wire);
        }
        let (audio, mean) = link.take_audio();
        let estimate = link.estimator.estimate_bps();
        eprintln!(
            "{second:>3} s  wire {:>5.0}  estimate {:>5}  acked {:>5} kbit/s  loss {:>4.1} %  audio +{audio:>3.0} ms, mean {mean:>3.0}",
            wire.bps / 1e3,
            estimate / 1_000,
            link.estimator.acked_bps() / 1_000,
            link.estimator.loss() * 100.0,
        );
        table.push((estimate, audio));
    }
    table
}

#[test]
fn a_rate_that_falls_and_rises_is_followed() {
    let base = common::start();
    // Link cap, feedback interval, and the longest wait that the reaction time allows: what was sent at the old rate
    // before the first feedback after the cut is in the queue already.
    let cases = [
        (1, 1_500_000, 30, 150.0),
        (2, 1_500_000, 30, 150.0),
        (3, 1_500_000, 100, 350.0),
        (4, 3_000_000, 50, 450.0),
    ];
    for (seed, cap, feedback_every, wait) in cases {
        eprintln!("cap {cap}, feedback every {feedback_every} ms");
        let (mut link, mut wire) = (Link::new(base, cap), Wire::new(seed, 3e6));
        link.feedback_every = feedback_every;
        wire.max_queue = 1_000.0;
        let reached = (cap.min(2_600_000) as f64 * 0.9) as u64;
        let before = run(&mut link, &mut wire, 0..15);
        assert!(before[14].0 > reached, "{before:?}");
        wire.bps = 0.8e6;
        let cut = run(&mut link, &mut wire, 15..30);
        assert!(cut[1..].iter().all(|(estimate, _)| *estimate <= 880_000), "{cut:?}");
        assert!(cut[5..].iter().all(|(estimate, _)| *estimate > 400_000), "{cut:?}");
        assert!(cut.iter().all(|(_, audio)| *audio <= wait), "{cut:?}");
        assert!(cut[2..].iter().all(|(_, audio)| *audio <= 100.0), "{cut:?}");
        wire.bps = 3e6;
        let after = run(&mut link, &mut wire, 30..45);
        assert!(after[9..].iter().any(|(estimate, _)| *estimate > reached), "{after:?}");
        assert!(after[10].0 > reached * 4 / 5, "{after:?}");
    }
}

#[test]
fn a_machine_that_wakes_up_late_still_finds_the_rate() {
    for (seed, lateness) in [(31, 4), (37, 10), (41, 20)] {
        eprintln!("up to {lateness} ms late");
        let (mut link, mut wire) = (Link::new(common::start(), 2_000_000), Wire::new(seed, 3e6));
        (link.lateness, link.feedback_every, wire.jitter) = (lateness, 30, lateness);
        wire.max_queue = 1_000.0;
        run(&mut link, &mut wire, 0..8);
        wire.bps = 0.8e6;
        let cut = run(&mut link, &mut wire, 8..20);
        let mean = cut[4..].iter().map(|(estimate, _)| estimate).sum::<u64>() / 8;
        assert!((480_000..850_000).contains(&mean), "{mean}");
        wire.bps = 3e6;
        let after = run(&mut link, &mut wire, 20..32);
        assert!(after[..10].iter().any(|(estimate, _)| *estimate > 1_800_000), "{after:?}");
    }
}

#[test]
fn random_loss_does_not_make_the_estimate_collapse() {
    let base = common::start();
    for (loss, least) in [(0.02, 1_400_000), (0.05, 1_200_000), (0.10, 800_000), (0.20, 300_000)] {
        eprintln!("loss {loss}");
        let (mut link, mut wire) = (Link::new(base, 1_500_000), Wire::new(7, 3e6));
        wire.loss = loss;
        let table = run(&mut link, &mut wire, 0..30);
        let mean = table[10..].iter().map(|(estimate, _)| estimate).sum::<u64>() / 20;
        assert!(mean > least, "{mean} at {loss}");
        assert!(table.iter().all(|(_, audio)| *audio < 150.0));
    }
}

#[test]
fn an_estimate_that_is_not_used_does_not_run_away_yet_allows_a_jump() {
    let (mut link, mut wire) = (Link::new(common::start(), 1_500_000), Wire::new(11, 10e6));
    let calm = run(&mut link, &mut wire, 0..40);
    assert!(calm.iter().all(|(estimate, _)| *estimate < 4_500_000), "{calm:?}");
    assert!(calm[10..].iter().all(|(estimate, _)| *estimate > 1_500_000), "{calm:?}");
    link.cap = 4_000_000;
    link.estimator.set_useful(6_000_000);
    let jump = run(&mut link, &mut wire, 40..55);
    assert!(jump[10].0 > 4_000_000, "{jump:?}");
    assert!(jump.iter().all(|(_, audio)| *audio < 50.0), "{jump:?}");
}

#[test]
fn a_path_with_a_long_queue_is_not_filled() {
    let (mut link, mut wire) = (Link::new(common::start(), 3_000_000), Wire::new(13, 1e6));
    wire.max_queue = 300.0;
    let table = run(&mut link, &mut wire, 0..40);
    let mean = table[10..].iter().map(|(estimate, _)| estimate).sum::<u64>() / 30;
    assert!((500_000..1_050_000).contains(&mean), "{mean}");
    let long = table[5..].iter().filter(|(_, audio)| *audio > 120.0).count();
    assert!(long <= 2, "{table:?}");
}

#[test]
fn four_links_share_one_uplink() {
    let base = common::start();
    let mut links: Vec<Link> = (0..4).map(|_| Link::new(base, 1_500_000)).collect();
    let mut wire = Wire::new(17, 3e6);
    wire.max_queue = 500.0;
    let mut joint = JointUplink::default();
    let mut late = Vec::new();
    for tick in 0..40_000u64 {
        for link in &mut links {
            link.tick(tick, &mut wire);
        }
        if tick.is_multiple_of(100) {
            let samples: Vec<_> = links
                .iter()
                .map(|link| LinkSample {
                    estimate: link.estimator.estimate_bps(),
                    acked_bps: link.estimator.acked_bps(),
                    queue_delay: link.estimator.queue_delay(),
                })
                .collect();
            let limit = joint.update(base + Duration::from_millis(tick), &samples);
            links.iter_mut().for_each(|link| link.share = limit.map(|limit| limit / 4));
        }
        if tick % 1_000 == 999 {
            let audio = links.iter_mut().map(|link| link.take_audio().0).fold(0.0, f64::max);
            let sum: u64 = links.iter().map(Link::rate).sum();
            let rates: Vec<_> = links.iter().map(|link| link.rate() / 1_000).collect();
            eprintln!(
                "{:>3} s  {rates:?}  sum {:>5} kbit/s  audio +{audio:.0} ms",
                tick / 1_000,
                sum / 1_000
            );
            late.push((sum, audio));
        }
    }
    let settled = &late[10..];
    let mean = settled.iter().map(|(sum, _)| sum).sum::<u64>() / settled.len() as u64;
    assert!((1_500_000..=3_000_000).contains(&mean), "{mean}");
    assert!(settled.iter().all(|(sum, _)| *sum <= 3_300_000), "{settled:?}");
    assert!(settled.iter().all(|(_, audio)| *audio <= 150.0), "{settled:?}");
}

#[test]
fn bursts_of_loss_are_not_taken_for_a_narrow_path() {
    for (seed, outages) in [(43, (30, 1_000)), (47, (100, 2_500)), (53, (400, 8_000))] {
        eprintln!("nothing passes for {} ms in every {}", outages.0, outages.1);
        let (mut link, mut wire) = (Link::new(common::start(), 1_500_000), Wire::new(seed, 5e6));
        wire.outages = Some(outages);
        let table = run(&mut link, &mut wire, 0..30);
        let mean = table[10..].iter().map(|(estimate, _)| estimate).sum::<u64>() / 20;
        assert!(mean > 900_000, "{mean} at {outages:?}");
    }
}

#[test]
fn a_transfer_beside_it_is_not_pushed_away_and_leaves_room_for_sound() {
    let (mut link, mut wire) = (Link::new(common::start(), 1_500_000), Wire::new(59, 4e6));
    wire.max_queue = 120.0;
    let mut transfer = Transfer { window: 10.0, flying: VecDeque::new(), halved: 0.0, bytes: 0 };
    let mut rates = Vec::new();
    for tick in 0..40_000 {
        link.tick(tick, &mut wire);
        transfer.tick(tick as f64, &mut wire);
        if tick % 1_000 == 999 {
            let (audio, mean) = link.take_audio();
            let estimate = link.estimator.estimate_bps();
            let carried = std::mem::take(&mut transfer.bytes) * 8 / 1_000;
            eprintln!(
                "{:>3} s  estimate {:>5}  transfer {carried:>5} kbit/s  audio +{audio:>3.0} ms, mean {mean:>3.0}",
                tick / 1_000,
                estimate / 1_000
            );
            rates.push((estimate, carried));
        }
    }
    let late = &rates[10..];
    let mean = late.iter().map(|(estimate, _)| estimate).sum::<u64>() / late.len() as u64;
    let carried = late.iter().map(|(_, carried)| carried).sum::<usize>() / late.len();
    eprintln!("estimate {} kbit/s in the mean, transfer {carried}", mean / 1_000);
    assert!(mean > 80_000, "{mean}");
    assert!(carried > 1_000, "{carried}");
}

#[test]
fn jitter_alone_does_not_starve_the_picture() {
    for (seed, jitter) in [(19, 10), (23, 30), (29, 50)] {
        eprintln!("jitter 0-{jitter} ms");
        let (mut link, mut wire) = (Link::new(common::start(), 1_500_000), Wire::new(seed, 5e6));
        wire.jitter = jitter;
        let table = run(&mut link, &mut wire, 0..30);
        let mean = table[10..].iter().map(|(estimate, _)| estimate).sum::<u64>() / 20;
        assert!(mean > 1_000_000, "{mean} at {jitter} ms");
    }
}
