//! Short bursts above the estimate that show whether the path carries more.

use std::time::{Duration, Instant};

/// Packets of a probe.
const MIN_PACKETS: u32 = 5;
/// Sending time of a probe.
const SENDING: Duration = Duration::from_millis(15);
/// Between probes after the estimate fell.
const RECOVERY: Duration = Duration::from_secs(2);
/// Between probes otherwise; doubled by every probe that shows nothing.
const USUAL: Duration = Duration::from_secs(5);
/// The longest time between probes.
const RARE: Duration = Duration::from_secs(20);
/// Before a probe is repeated that was not sent at its rate or not read as it came, because a machine was busy.
const AGAIN: Duration = Duration::from_secs(1);
/// How often in a row it is.
const REPEATS: u32 = 5;
/// No probe so soon after queues grew.
const QUIET: Duration = Duration::from_secs(1);
/// Between two looks at whether a probe is due.
const CHECK: Duration = Duration::from_millis(100);
/// No probe for less: below it there is no picture, and so nothing that would show that the path carries more, in bit/s.
const PICTURE: f64 = 300_000.0;
/// A probe that was sent at less than this part of its rate shows less than it could have.
const SENT_ENOUGH: f64 = 0.7;
/// A probe whose result has not come by then has failed.
const PATIENCE: Duration = Duration::from_secs(1);

/// A probe to send: padding fills it up where media does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeCluster {
    /// Names the probe in [`Estimator::on_sent`](super::Estimator::on_sent).
    pub id: u32,
    /// The rate to send at, in bit/s.
    pub rate_bps: u64,
    /// Packets it takes at least.
    pub min_packets: u32,
    /// Bytes it takes at least.
    pub min_bytes: usize,
}

#[derive(Debug)]
struct Running {
    cluster: ProbeCluster,
    until: Instant,
    packets: u32,
    bytes: usize,
    send: Option<(f64, f64)>,
    arrival: Option<(f64, f64)>,
    first_bytes: usize,
    last_bytes: usize,
}

/// What the prober must know.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    pub(super) estimate: f64,
    pub(super) useful: f64,
    pub(super) queue_ms: f64,
}

#[derive(Debug)]
pub(super) struct Prober {
    next_id: u32,
    running: Option<Running>,
    /// Multiples of the first estimate still to be tried.
    initial: Vec<f64>,
    /// A rate to try at once, because the last probe got through.
    further: Option<f64>,
    last: Option<Instant>,
    pause: Duration,
    /// Probes in a row that showed nothing because a machine was busy.
    inconclusive: u32,
    /// The rate before it fell.
    recover_to: f64,
    quiet_until: Option<Instant>,
    /// When it was last asked in vain.
    checked: Option<Instant>,
}

impl Prober {
    pub(super) fn new() -> Self {
        Self {
            next_id: 1,
            running: None,
            initial: vec![6.0, 3.0],
            further: None,
            last: None,
            pause: USUAL,
            inconclusive: 0,
            recover_to: 0.0,
            quiet_until: None,
            checked: None,
        }
    }

    pub(super) fn on_decrease(&mut self, now: Instant, from: f64) {
        self.further = None;
        self.initial.clear();
        self.quiet_until = Some(now + QUIET);
        self.recover_to = self.recover_to.max(from);
        self.pause = RECOVERY;
        self.last.get_or_insert(now);
    }

    pub(super) fn poll(&mut self, now: Instant, view: View) -> Option<ProbeCluster> {
        let cluster = self.cluster(now, view);
        self.checked = cluster.is_none().then_some(now);
        cluster
    }

    fn cluster(&mut self, now: Instant, view: View) -> Option<ProbeCluster> {
        if let Some(running) = &self.running {
            if running.until > now {
                return None;
            }
            self.running = None;
            self.failed();
        }
        if self.quiet_until.is_some_and(|until| until > now)
            || view.queue_ms > 30.0
            || view.estimate >= view.useful
        {
            return None;
        }
        let rate = if let Some(multiple) = self.initial.pop() {
            view.estimate * multiple
        } else if let Some(rate) = self.further.take() {
            rate
        } else {
            let last = *self.last.get_or_insert(now);
            let recovering = view.estimate < self.recover_to * 0.9;
            let pause = if (1..=REPEATS).contains(&self.inconclusive) {
                AGAIN
            } else if recovering {
                self.pause.min(RECOVERY * 2)
            } else {
                self.pause.max(USUAL)
            };
            if now.saturating_duration_since(last) < pause {
                return None;
            }
            (view.estimate * 2.0).max(PICTURE)
        };
        let rate = rate.min(view.useful * 1.5).max(view.estimate * 1.2);
        let cluster = ProbeCluster {
            id: self.next_id,
            rate_bps: rate as u64,
            min_packets: MIN_PACKETS,
            min_bytes: (rate * SENDING.as_secs_f64() / 8.0) as usize,
        };
        self.next_id += 1;
        self.last = Some(now);
        self.running = Some(Running {
            cluster,
            until: now + PATIENCE,
            packets: 0,
            bytes: 0,
            send: None,
            arrival: None,
            first_bytes: 0,
            last_bytes: 0,
        });
        Some(cluster)
    }

    /// When [`poll`](Self::poll) may have a probe; never while more would be of no use.
    pub(super) fn timeout(&self, is_useful: bool) -> Option<Instant> {
        match &self.running {
            Some(running) => Some(running.until),
            None => self.checked.filter(|_| is_useful).map(|checked| checked + CHECK),
        }
    }

    /// Notes that a packet of a probe came; times in ms. Returns the rate that got through, once it is known.
    pub(super) fn on_acked(&mut self, id: u32, send: f64, arrival: f64, bytes: usize) -> Option<f64> {
        let running = self.running.as_mut().filter(|running| running.cluster.id == id)?;
        running.packets += 1;
        running.bytes += bytes;
        running.last_bytes = bytes;
        if running.send.is_none() {
            running.first_bytes = bytes;
        }
        let span = |span: Option<(f64, f64)>, at: f64| {
            span.map_or((at, at), |(first, last)| (first.min(at), last.max(at)))
        };
        let sent = span(running.send, send);
        let arrived = span(running.arrival, arrival);
        (running.send, running.arrival) = (Some(sent), Some(arrived));
        let cluster = running.cluster;
        let enough =
            running.packets * 10 >= cluster.min_packets * 8 && running.bytes * 10 >= cluster.min_bytes * 8;
        if !enough {
            return None;
        }
        // Intervals lie between packets: one packet at an end of each is not part of them.
        let rate = |bytes: usize, (first, last): (f64, f64)| bytes as f64 * 8_000.0 / (last - first).max(1.0);
        let send_rate = rate(running.bytes - running.last_bytes, sent);
        let arrival_rate = rate(running.bytes - running.first_bytes, arrived);
        self.running = None;
        let squeezed = arrival_rate > send_rate * 2.0;
        let unsent = send_rate < cluster.rate_bps as f64 * SENT_ENOUGH;
        self.inconclusive = if squeezed || unsent { self.inconclusive + 1 } else { 0 };
        if squeezed {
            // Read in one go, packets say nothing about the path between them.
            if self.inconclusive > REPEATS {
                self.failed();
            }
            return None;
        }
        let saturated = arrival_rate < send_rate * 0.9;
        let result = if saturated { arrival_rate * 0.95 } else { send_rate.min(arrival_rate) };
        if result > cluster.rate_bps as f64 * SENT_ENOUGH {
            self.further = Some(result * 2.0);
            self.pause = USUAL;
        } else {
            self.failed();
        }
        Some(result)
    }

    fn failed(&mut self) {
        self.pause = (self.pause * 2).min(RARE);
    }
}
