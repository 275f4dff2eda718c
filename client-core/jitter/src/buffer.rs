//! The buffer itself: where packets wait, what is played next, and when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::delay::DelayEstimator;
use crate::loss::LossWindow;
use crate::stretch::{Change, Stretcher};
use crate::{AudioDecoder, JitterConfig, JitterStats, PULL_SAMPLES, Packet, SAMPLE_RATE};

/// A timestamp this far from where the sender's clock should be is another stream: 3 s.
const RESTART: i64 = 3 * SAMPLE_RATE as i64;
/// Holes longer than this are waited through like pauses, so that what follows has the right delay: 200 ms.
const LONG_HOLE: i64 = SAMPLE_RATE as i64 / 5;
/// Without packets for this long the decoder is left alone and there is silence: 1 s.
const IDLE: i64 = SAMPLE_RATE as i64;
/// The longest sound of one packet: 120 ms.
const MAX_FRAME: usize = 5_760;
/// Decoders conceal in steps of 2.5 ms.
const STEP: i64 = 120;
/// What is concealed at once.
const MAX_CONCEAL: i64 = 960;
/// Two sounds that do not belong together are blended over 5 ms.
const BLEND: usize = 240;
/// The delay may be this much too long, in microseconds, before pauses are cut for it.
const TOLERANCE: i64 = 10_000;
/// The delay may be this much too short, in microseconds, before sound is changed for it.
const SHORT: i64 = 2_500;
/// So far off, speech is cut too, and lengthened at places that are less good.
const URGENT: i64 = 40_000;
/// How much a place resembles itself one period later where speech may be changed, where it must be, and never.
const SIMILAR: f32 = 0.85;
const LESS_SIMILAR: f32 = 0.7;
const ONLY_SILENCE: f32 = 2.0;
/// Beyond the longest delay by this much, in microseconds, old sound is left out.
const SLACK: i64 = 100_000;
/// For how many packets it is remembered that the sender repeats frames or adds repair data: 2 s of speech.
const REPAIR_MEMORY: u32 = 100;

/// Turns one sender's packets into a steady stream of sound.
#[derive(Debug)]
pub struct JitterBuffer {
    config: JitterConfig,
    delay: DelayEstimator,
    loss: LossWindow,
    stats: JitterStats,
    stretcher: Stretcher,
    packets: BTreeMap<i64, Stored>,
    /// Where microseconds are counted from.
    base: Option<Instant>,
    /// The newest packet that was sent for the first time: timestamp and arrival.
    newest: Option<(i64, i64)>,
    /// A packet that fits no stream, kept to see whether another one fits it.
    stray: Option<(u32, i64)>,
    oldest_copy: Option<i64>,
    copy_distance: Remembered,
    fec_distance: Remembered,
    playing: bool,
    /// Something was played that silence must not cut off.
    sounding: bool,
    /// Timestamp of what is decoded next.
    next: i64,
    /// Samples concealed in a row while nothing was there, for which the timestamp did not go on.
    owed: i64,
    unheard: i64,
    /// Sequence number of the last frame that was decoded or replaced.
    sequence: Option<u16>,
    pausing: bool,
    frame: i64,
    /// Decoded, not played.
    queue: Vec<f32>,
    scratch: Vec<f32>,
    /// How the sound would have gone on where it is broken off.
    tail: Option<Vec<f32>>,
    current: i64,
}

#[derive(Debug)]
struct Stored {
    sequence: Option<u16>,
    payload: Bytes,
    copy: bool,
}

/// A distance in timestamp units that is forgotten when it is not seen again.
#[derive(Debug, Default)]
struct Remembered {
    distance: i64,
    age: u32,
}

impl Remembered {
    fn see(&mut self, distance: Option<i64>) {
        match distance {
            Some(distance) => *self = Self { distance, age: 0 },
            None if self.age < REPAIR_MEMORY => self.age += 1,
            None => self.distance = 0,
        }
    }
}

impl JitterBuffer {
    /// An empty buffer; it is silent until packets came and the starting delay passed.
    #[must_use]
    pub fn new(config: JitterConfig) -> Self {
        let delay = DelayEstimator::new(&config);
        Self {
            current: 0,
            delay,
            config,
            loss: LossWindow::default(),
            stats: JitterStats::default(),
            stretcher: Stretcher::new(),
            packets: BTreeMap::new(),
            base: None,
            newest: None,
            stray: None,
            oldest_copy: None,
            copy_distance: Remembered::default(),
            fec_distance: Remembered::default(),
            playing: false,
            sounding: false,
            next: 0,
            owed: 0,
            unheard: 0,
            sequence: None,
            pausing: false,
            frame: MAX_CONCEAL,
            queue: Vec::with_capacity(2 * MAX_FRAME),
            scratch: Vec::with_capacity(MAX_FRAME),
            tail: None,
        }
    }

    /// Takes a packet that came at `arrival`. The copies in a packet are given before the packet itself.
    pub fn insert(&mut self, packet: Packet, arrival: Instant) {
        let arrival = self.micros(arrival);
        if packet.payload.is_empty() {
            self.stats.discarded += 1;
            return;
        }
        let Some(timestamp) = self.place(&packet, arrival) else {
            self.stats.discarded += u64::from(!packet.redundant);
            return;
        };
        if packet.redundant {
            self.oldest_copy = Some(self.oldest_copy.map_or(timestamp, |oldest| oldest.min(timestamp)));
            if self.packets.contains_key(&timestamp) || self.playing && timestamp < self.next {
                return;
            }
        } else {
            let again = packet.sequence.is_some_and(|sequence| !self.loss.note(sequence));
            if again || self.packets.get(&timestamp).is_some_and(|stored| !stored.copy) {
                self.stats.duplicates += 1;
                return;
            }
            let distance = self.oldest_copy.take().map(|oldest| (timestamp - oldest).clamp(0, RESTART));
            self.copy_distance.see(distance);
            self.delay.note(arrival, transit(arrival, timestamp));
            if self.playing && timestamp < self.next {
                self.stats.late += 1;
                return;
            }
        }
        let stored = Stored { sequence: packet.sequence, payload: packet.payload, copy: packet.redundant };
        self.packets.insert(timestamp, stored);
        while self.packets.len() > self.config.max_packets.max(1) {
            self.packets.pop_first();
            self.stats.discarded += 1;
        }
    }

    /// Fills `out` with what is to be heard next; call it every 10 ms of the speaker's clock.
    pub fn pull<D: AudioDecoder + ?Sized>(
        &mut self,
        now: Instant,
        decoder: &mut D,
        out: &mut [f32; PULL_SAMPLES],
    ) {
        let now = self.micros(now);
        // Copies are sent to those who lose packets; repair data come with every packet once anybody does.
        let fec = if self.loss.is_lossy() { self.fec_distance.distance } else { 0 };
        let repair = self.copy_distance.distance.max(fec);
        self.delay.set_repair(duration(repair));
        while self.queue.len() < PULL_SAMPLES {
            if !self.playing && !self.start(now) {
                if std::mem::take(&mut self.sounding) {
                    self.fade_out(decoder);
                }
                break;
            }
            self.produce(now, decoder);
        }
        let ready = self.queue.len().min(PULL_SAMPLES);
        for (to, from) in out.iter_mut().zip(self.queue.drain(..ready).chain(std::iter::repeat(0.0))) {
            *to = from;
        }
        self.stats.played += PULL_SAMPLES as u64;
        self.current = if self.playing { self.delay_of(now, self.next) } else { self.delay.target() };
    }

    /// The delay that the buffer aims at.
    #[must_use]
    pub fn target_delay(&self) -> Duration {
        Duration::from_micros(self.delay.target().unsigned_abs())
    }

    /// The delay that it had at the last pull; the target while nothing is played.
    #[must_use]
    pub fn current_delay(&self) -> Duration {
        Duration::from_micros(self.current.max(0).unsigned_abs())
    }

    /// Keeps the delay at or above this, to wait for the picture; never above [`JitterConfig::max_delay`].
    pub fn set_minimum_delay(&mut self, delay: Duration) {
        self.delay.set_minimum(delay);
    }

    /// RTP timestamp of what the next pull begins with; `None` while nothing is played.
    #[must_use]
    pub fn playout_timestamp(&self) -> Option<u32> {
        self.playing.then(|| (self.next - self.queue.len() as i64) as u32)
    }

    /// Counters since the beginning.
    #[must_use]
    pub fn stats(&self) -> JitterStats {
        self.stats
    }

    fn micros(&mut self, at: Instant) -> i64 {
        let base = *self.base.get_or_insert(at);
        match at.checked_duration_since(base) {
            Some(after) => micros_of(after),
            None => -micros_of(base.saturating_duration_since(at)),
        }
    }

    /// Makes a timestamp endless by where the sender's clock should be. `None` for one that fits no stream.
    fn place(&mut self, packet: &Packet, arrival: i64) -> Option<i64> {
        let Some((newest, at)) = self.newest else {
            if packet.redundant {
                return None;
            }
            let timestamp = i64::from(packet.timestamp);
            self.newest = Some((timestamp, arrival));
            return Some(timestamp);
        };
        let expected = newest + samples(arrival - at);
        let off = i64::from(packet.timestamp.wrapping_sub(expected as u32) as i32);
        if off.abs() < RESTART {
            let timestamp = expected + off;
            if !packet.redundant {
                self.stray = None;
                if timestamp > newest {
                    self.newest = Some((timestamp, arrival));
                }
            }
            return Some(timestamp);
        }
        if packet.redundant {
            return None;
        }
        let (stray, at) = *self.stray.get_or_insert((packet.timestamp, arrival));
        let off = packet.timestamp.wrapping_sub(stray) as i32;
        if off == 0 || (i64::from(off) - samples(arrival - at)).abs() >= RESTART {
            self.stray = Some((packet.timestamp, arrival));
            return None;
        }
        // Two that fit each other: the sender began anew.
        self.stats.restarts += 1;
        self.stats.discarded += self.packets.len() as u64;
        self.packets.clear();
        self.playing = false;
        self.sequence = None;
        self.stray = None;
        self.oldest_copy = None;
        self.delay.restart();
        let timestamp = i64::from(packet.timestamp);
        self.newest = Some((timestamp, arrival));
        Some(timestamp)
    }

    /// Begins when the first packet has waited as long as the target says.
    fn start(&mut self, now: i64) -> bool {
        self.catch_up(now);
        let Some((timestamp, _)) = self.packets.first_key_value() else { return false };
        let timestamp = *timestamp;
        if self.delay_of(now, timestamp) < self.delay.target() {
            return false;
        }
        (self.next, self.owed, self.unheard) = (timestamp, 0, 0);
        (self.playing, self.sounding, self.pausing, self.sequence) = (true, true, false, None);
        // From silence: nothing to blend with.
        self.tail.get_or_insert_default();
        true
    }

    /// Decodes or invents what comes next.
    fn produce<D: AudioDecoder + ?Sized>(&mut self, now: i64, decoder: &mut D) {
        while self.packets.first_key_value().is_some_and(|(timestamp, _)| *timestamp < self.next) {
            let copy = self.packets.pop_first().is_some_and(|(_, stored)| stored.copy);
            self.stats.late += u64::from(!copy);
        }
        if self.delay_of(now, self.next) > micros_of(self.config.max_delay) + SLACK && self.catch_up(now) {
            self.break_off(decoder);
        }
        let Some((timestamp, front)) = self.packets.first_key_value() else {
            return self.invent_for_nothing(decoder);
        };
        let timestamp = *timestamp;
        let follows =
            front.sequence.is_some() && front.sequence == self.sequence.map(|last| last.wrapping_add(1));
        let fec = decoder.has_fec(&front.payload);
        let mut gap = timestamp - self.next;
        if gap >= STEP && self.owed > 0 && self.delay_of(now, self.next) > self.delay.target() {
            // What was invented while nothing was there stood for the beginning of the hole.
            let covered = self.owed.min(gap);
            self.next += covered;
            gap -= covered;
        }
        self.owed = 0;
        if gap >= STEP && (self.pausing || follows || gap > LONG_HOLE) {
            if self.delay_of(now, timestamp) < self.delay.target() {
                let pause = self.pausing || follows;
                let made = self.conceal(PULL_SAMPLES as i64, decoder);
                *if pause { &mut self.stats.comfort } else { &mut self.stats.concealed } += made;
                return;
            }
            self.break_off(decoder);
            self.sequence = None;
        } else if gap >= STEP {
            return self.fill(gap, fec, timestamp, decoder);
        }
        self.next = timestamp;
        self.play_front(now, decoder);
    }

    /// Nothing is there: the timestamp waits, since the packet may be late and not lost.
    fn invent_for_nothing<D: AudioDecoder + ?Sized>(&mut self, decoder: &mut D) {
        self.unheard += PULL_SAMPLES as i64;
        if self.unheard > IDLE {
            self.playing = false;
            return;
        }
        let made = self.conceal(PULL_SAMPLES as i64, decoder);
        if self.pausing {
            self.stats.comfort += made;
        } else {
            self.owed += made as i64;
            self.stats.concealed += made;
        }
    }

    /// Fills a part of a hole in front of the packet at `timestamp`, or all of it.
    fn fill<D: AudioDecoder + ?Sized>(&mut self, gap: i64, fec: bool, timestamp: i64, decoder: &mut D) {
        self.sequence = self.sequence.map(|last| last.wrapping_add(1));
        if fec && gap <= self.frame {
            let missing = self.frame - gap;
            if missing > 0 {
                self.break_off(decoder);
            }
            self.scratch.clear();
            let done = self.packets.first_key_value().is_some_and(|(_, front)| {
                decoder.decode_fec(&front.payload, self.frame as usize, &mut self.scratch).is_ok()
            });
            if done && self.scratch.len() as i64 == self.frame {
                self.scratch.drain(..missing as usize);
                self.append();
                self.next = timestamp;
                self.stats.fec += 1;
                return;
            }
        }
        let part = gap.min(self.frame).min(MAX_CONCEAL) / STEP * STEP;
        self.stats.lost += 1;
        self.stats.concealed += self.conceal(part.max(STEP), decoder);
        self.next += part.max(STEP);
    }

    fn play_front<D: AudioDecoder + ?Sized>(&mut self, now: i64, decoder: &mut D) {
        let Some((_, stored)) = self.packets.pop_first() else { return };
        self.unheard = 0;
        self.scratch.clear();
        let good = decoder.decode(&stored.payload, &mut self.scratch).is_ok() && !self.scratch.is_empty();
        self.sequence = stored.sequence.or(self.sequence.map(|last| last.wrapping_add(1)));
        if !good {
            self.stats.damaged += 1;
            self.stats.concealed += self.conceal(self.frame.min(MAX_CONCEAL), decoder);
            self.next += self.frame.min(MAX_CONCEAL);
            return;
        }
        self.scratch.truncate(MAX_FRAME);
        let length = self.scratch.len() as i64;
        self.stats.red += u64::from(stored.copy);
        self.fec_distance.see(decoder.has_fec(&stored.payload).then_some(length));
        self.frame = (length / STEP * STEP).max(STEP);
        self.pausing = stored.payload.len() <= 2;
        self.next += length;
        self.stretcher.hear(&self.scratch);
        self.append();
        self.move_to_target(now);
    }

    fn move_to_target(&mut self, now: i64) {
        let over = self.delay_of(now, self.next) - self.delay.target();
        // A little too long does not hurt, so it can wait for a pause; too short loses what is late.
        if over > TOLERANCE {
            let alike = if over > URGENT { SIMILAR } else { ONLY_SILENCE };
            self.stats.accelerated += self.stretcher.change(&mut self.queue, Change::Shorter, alike) as u64;
        } else if over < -SHORT {
            let alike = if over < -URGENT { LESS_SIMILAR } else { SIMILAR };
            self.stats.expanded += self.stretcher.change(&mut self.queue, Change::Longer, alike) as u64;
        }
    }

    /// Leaves out what is older than the target, when the delay is longer than may ever be. Returns whether anything was.
    fn catch_up(&mut self, now: i64) -> bool {
        let mut left_out = false;
        while let Some((timestamp, _)) = self.packets.first_key_value() {
            let timestamp = *timestamp;
            let old = self.delay_of(now, timestamp) > micros_of(self.config.max_delay) + SLACK;
            let still_old = left_out && self.delay_of(now, timestamp) > self.delay.target();
            if self.packets.len() < 2 || !(old || still_old) {
                if left_out {
                    self.next = timestamp;
                }
                break;
            }
            self.packets.pop_first();
            self.stats.discarded += 1;
            left_out = true;
        }
        left_out
    }

    /// The delay with which `timestamp` is heard if it follows on what is decoded, in microseconds.
    fn delay_of(&self, now: i64, timestamp: i64) -> i64 {
        self.delay.of(transit(now, timestamp - self.queue.len() as i64))
    }

    /// Appends what the decoder invents, or silence; returns the samples.
    fn conceal<D: AudioDecoder + ?Sized>(&mut self, samples: i64, decoder: &mut D) -> u64 {
        let samples = samples.max(STEP) as usize;
        self.scratch.clear();
        if decoder.conceal(samples, &mut self.scratch).is_err() {
            self.scratch.clear();
        }
        self.scratch.resize(samples, 0.0);
        self.append();
        samples as u64
    }

    /// Keeps how the sound would go on, to blend what follows into it.
    fn break_off<D: AudioDecoder + ?Sized>(&mut self, decoder: &mut D) {
        let mut tail = Vec::with_capacity(BLEND);
        if decoder.conceal(BLEND, &mut tail).is_err() {
            tail.clear();
        }
        self.tail = Some(tail);
    }

    fn append(&mut self) {
        if let Some(tail) = self.tail.take() {
            for (index, sample) in self.scratch.iter_mut().take(BLEND).enumerate() {
                let weight = (index as f32 + 0.5) / BLEND as f32;
                *sample = *sample * weight + tail.get(index).unwrap_or(&0.0) * (1.0 - weight);
            }
        }
        self.queue.append(&mut self.scratch);
    }

    fn fade_out<D: AudioDecoder + ?Sized>(&mut self, decoder: &mut D) {
        let start = self.queue.len();
        self.stats.concealed += self.conceal(PULL_SAMPLES as i64, decoder);
        for (index, sample) in self.queue[start..].iter_mut().enumerate() {
            *sample *= 1.0 - (index as f32 + 0.5) / PULL_SAMPLES as f32;
        }
    }
}

fn transit(at: i64, timestamp: i64) -> i64 {
    at - duration(timestamp)
}

/// Microseconds of so many samples.
fn duration(samples: i64) -> i64 {
    samples * 125 / 6
}

/// Samples of so many microseconds.
fn samples(micros: i64) -> i64 {
    micros / 1_000 * 48 + micros % 1_000 * 48 / 1_000
}

fn micros_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 64).min(i64::MAX / 64)
}
