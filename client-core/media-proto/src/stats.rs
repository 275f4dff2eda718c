//! Loss, jitter and round trip as RFC 3550 defines them.

use std::time::{Duration, Instant};

use crate::sequence::Unwrapper16;

/// What a receiver report says about one stream (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceptionReport {
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the beginning; negative when packets came twice.
    pub cumulative_lost: i32,
    /// The highest sequence number with its wraps above.
    pub highest_sequence: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
}

/// Watches one received stream.
#[derive(Debug)]
pub struct ReceptionStats {
    clock_rate: u32,
    unwrapper: Unwrapper16,
    first: Option<i64>,
    highest: i64,
    received: i64,
    reported_expected: i64,
    reported_received: i64,
    /// The last packet's arrival and timestamp.
    last: Option<(Instant, u32)>,
    jitter: f64,
}

impl ReceptionStats {
    /// A watcher for a stream whose timestamps run at `clock_rate` Hz.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            unwrapper: Unwrapper16::default(),
            first: None,
            highest: 0,
            received: 0,
            reported_expected: 0,
            reported_received: 0,
            last: None,
            jitter: 0.0,
        }
    }

    /// Notes a packet of the stream itself, not of its RTX stream.
    pub fn on_packet(&mut self, now: Instant, sequence: u16, timestamp: u32) {
        let sequence = self.unwrapper.unwrap(sequence);
        if self.first.is_none() {
            self.first = Some(sequence);
            self.highest = sequence;
        }
        self.highest = self.highest.max(sequence);
        self.received += 1;
        if let Some((arrival, earlier)) = self.last {
            // Packets of one frame leave together by intent: their spread is pacing, not jitter.
            if earlier == timestamp {
                return;
            }
            let passed = now.saturating_duration_since(arrival).as_secs_f64() * f64::from(self.clock_rate);
            let meant = f64::from(timestamp.wrapping_sub(earlier) as i32);
            self.jitter += ((passed - meant).abs() - self.jitter) / 16.0;
        }
        self.last = Some((now, timestamp));
    }

    /// Interarrival jitter as a time.
    pub fn jitter(&self) -> Duration {
        Duration::try_from_secs_f64(self.jitter / f64::from(self.clock_rate.max(1))).unwrap_or_default()
    }

    /// Closes an interval and reports it.
    pub fn report(&mut self) -> ReceptionReport {
        let Some(first) = self.first else { return ReceptionReport::default() };
        let expected = self.highest - first + 1;
        let interval = expected - self.reported_expected;
        let lost = interval - (self.received - self.reported_received);
        self.reported_expected = expected;
        self.reported_received = self.received;
        let fraction_lost = if interval > 0 && lost > 0 { (lost * 256 / interval).min(255) as u8 } else { 0 };
        ReceptionReport {
            fraction_lost,
            cumulative_lost: (expected - self.received).clamp(-0x80_0000, 0x7f_ffff) as i32,
            // The unwrapper begins one wrap high.
            highest_sequence: (self.highest - 0x1_0000) as u32,
            jitter: self.jitter as u32,
        }
    }
}

/// The round trip out of a receiver report (RFC 3550 §6.4.1): all three in 1/65,536 s, the middle of an NTP time.
/// `None` without a sender report before (`lsr` = 0) and for reports that claim to come from the future.
pub fn round_trip(arrival: u32, lsr: u32, dlsr: u32) -> Option<Duration> {
    if lsr == 0 {
        return None;
    }
    let units = arrival.wrapping_sub(lsr).wrapping_sub(dlsr);
    (units < 1 << 31).then(|| Duration::from_micros((u64::from(units) * 1_000_000) >> 16))
}
