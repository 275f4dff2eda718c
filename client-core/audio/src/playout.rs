//! What is heard: a jitter buffer and a decoder per remote, volumes, one mix, recordings.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use snug_jitter::{JitterBuffer, JitterConfig, JitterStats, Packet};
use snug_media_proto::red::RedPayload;

use crate::BLOCK;
use crate::decoder::Decoder;
use crate::level::{Limiter, SILENCE_DB, VoiceDetector, level_db};
use crate::wav::WavRecorder;

/// Remotes at most: a microphone and a shared screen of nine others, with room for links that are being replaced.
pub(crate) const MAX_REMOTES: usize = 64;
/// A remote that sent nothing for so long is not decoded until it sends again.
const QUIET: Duration = Duration::from_secs(2);
/// How fast a shown level falls, in dB a block.
const FALL: f32 = 0.6;

/// Names one stream of somebody's sound; the caller chooses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteId(pub u64);

/// How a received payload is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// One Opus frame.
    Opus,
    /// RED around Opus frames (RFC 2198).
    Red,
}

/// A received packet.
#[derive(Clone, Debug)]
pub struct IncomingAudio {
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP timestamp, 48 kHz.
    pub timestamp: u32,
    /// RTP payload.
    pub payload: Bytes,
    /// How it is packed.
    pub kind: PayloadKind,
    /// When it came.
    pub arrival: Instant,
}

/// How one remote's sound does.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteState {
    /// Loudness in dB below full scale before the volume; falls slowly, for a meter.
    pub level_db: f32,
    /// Whether it sounds like speech.
    pub speaking: bool,
    /// Packets taken.
    pub received: u64,
    /// Payloads that could not be read.
    pub damaged: u64,
    /// Delay that the jitter buffer aims at.
    pub target_delay: Duration,
    /// Delay that it has.
    pub current_delay: Duration,
    /// RTP timestamp of what is being mixed; add the speaker's latency for what is heard.
    pub position: Option<u32>,
    /// The jitter buffer's counters.
    pub jitter: JitterStats,
}

/// All remotes and their mix.
#[derive(Default)]
pub(crate) struct Playout {
    remotes: BTreeMap<RemoteId, Remote>,
    limiter: Limiter,
}

impl Playout {
    /// Adds a remote; says whether there was room.
    pub(crate) fn add(&mut self, id: RemoteId) -> bool {
        if self.remotes.contains_key(&id) {
            return true;
        }
        if self.remotes.len() >= MAX_REMOTES {
            return false;
        }
        match Remote::new() {
            Ok(remote) => {
                self.remotes.insert(id, remote);
                true
            }
            Err(error) => {
                tracing::error!(%error, "no decoder for a remote");
                false
            }
        }
    }

    pub(crate) fn remove(&mut self, id: RemoteId) {
        self.remotes.remove(&id);
    }

    pub(crate) fn insert(&mut self, id: RemoteId, packet: IncomingAudio) {
        if let Some(remote) = self.remotes.get_mut(&id) {
            remote.insert(packet);
        }
    }

    /// Zero is silence, one is as it came; at most four.
    pub(crate) fn set_volume(&mut self, id: RemoteId, volume: f32) {
        if let Some(remote) = self.remotes.get_mut(&id)
            && volume.is_finite()
        {
            remote.volume = volume.clamp(0.0, 4.0);
        }
    }

    pub(crate) fn set_minimum_delay(&mut self, id: RemoteId, delay: Duration) {
        if let Some(remote) = self.remotes.get_mut(&id) {
            remote.minimum_delay = delay;
            remote.jitter.set_minimum_delay(delay);
        }
    }

    /// Records a remote as it is heard, before its volume.
    pub(crate) fn record(&mut self, id: RemoteId, recorder: Option<WavRecorder>) {
        if let Some(remote) = self.remotes.get_mut(&id) {
            remote.recorder = recorder;
        }
    }

    /// The next 10 ms of everybody.
    pub(crate) fn mix(&mut self, now: Instant) -> [f32; BLOCK] {
        let mut mix = [0.0; BLOCK];
        for remote in self.remotes.values_mut() {
            let volume = remote.volume;
            if let Some(block) = remote.next(now) {
                for (sum, sample) in mix.iter_mut().zip(block) {
                    *sum += sample * volume;
                }
            }
        }
        self.limiter.apply(&mut mix);
        mix
    }

    /// Starts every remote's decoding anew, after a fault whose traces are unknown.
    pub(crate) fn recover(&mut self) {
        for remote in self.remotes.values_mut() {
            if let Ok(mut fresh) = Remote::new() {
                fresh.volume = remote.volume;
                fresh.recorder = remote.recorder.take();
                fresh.minimum_delay = remote.minimum_delay;
                fresh.jitter.set_minimum_delay(remote.minimum_delay);
                *remote = fresh;
            }
        }
    }

    pub(crate) fn states(&self) -> BTreeMap<RemoteId, RemoteState> {
        self.remotes.iter().map(|(id, remote)| (*id, remote.state())).collect()
    }
}

struct Remote {
    jitter: JitterBuffer,
    decoder: Decoder,
    volume: f32,
    minimum_delay: Duration,
    recorder: Option<WavRecorder>,
    block: [f32; BLOCK],
    last: Option<Instant>,
    received: u64,
    damaged: u64,
    level_db: f32,
    detector: VoiceDetector,
    speaking: bool,
}

impl Remote {
    fn new() -> Result<Self, snug_codec::opus::OpusError> {
        Ok(Self {
            jitter: JitterBuffer::new(JitterConfig::default()),
            decoder: Decoder::new()?,
            volume: 1.0,
            minimum_delay: Duration::ZERO,
            recorder: None,
            block: [0.0; BLOCK],
            last: None,
            received: 0,
            damaged: 0,
            level_db: SILENCE_DB,
            detector: VoiceDetector::default(),
            speaking: false,
        })
    }

    fn insert(&mut self, incoming: IncomingAudio) {
        self.received += 1;
        self.last = Some(incoming.arrival);
        let sequence = Some(incoming.sequence);
        let (timestamp, payload) = match incoming.kind {
            PayloadKind::Opus => (incoming.timestamp, incoming.payload),
            PayloadKind::Red => match RedPayload::parse(&incoming.payload, incoming.timestamp) {
                Ok(red) => {
                    for block in red.redundant {
                        let packet = Packet {
                            sequence: None,
                            timestamp: block.timestamp,
                            payload: block.data,
                            redundant: true,
                        };
                        self.jitter.insert(packet, incoming.arrival);
                    }
                    (incoming.timestamp, red.primary.data)
                }
                Err(error) => {
                    self.damaged += 1;
                    tracing::trace!(%error, "unreadable sound");
                    return;
                }
            },
        };
        self.jitter.insert(Packet { sequence, timestamp, payload, redundant: false }, incoming.arrival);
    }

    fn next(&mut self, now: Instant) -> Option<&[f32; BLOCK]> {
        let sends = self.last.is_some_and(|last| now.saturating_duration_since(last) < QUIET);
        let db = if sends {
            self.jitter.pull(now, &mut self.decoder, &mut self.block);
            level_db(&self.block)
        } else {
            self.block.fill(0.0);
            SILENCE_DB
        };
        self.level_db = db.max(self.level_db - FALL).max(SILENCE_DB);
        self.speaking = self.detector.push(db);
        if let Some(recorder) = &mut self.recorder {
            recorder.write(&self.block);
        }
        sends.then_some(&self.block)
    }

    fn state(&self) -> RemoteState {
        RemoteState {
            level_db: self.level_db,
            speaking: self.speaking,
            received: self.received,
            damaged: self.damaged,
            target_delay: self.jitter.target_delay(),
            current_delay: self.jitter.current_delay(),
            position: self.jitter.playout_timestamp(),
            jitter: self.jitter.stats(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop anywhere")]
mod tests {
    use snug_codec::opus::{Encoder, EncoderConfig};
    use snug_media_proto::red::RedWriter;

    use super::*;
    use crate::io::Voice;

    const SPEAKER: RemoteId = RemoteId(1);
    const SECONDS: u32 = 10;

    /// Ten seconds of a voice in RED packets of which a fifth is lost in bursts, in virtual time.
    fn heard(copies: usize) -> JitterStats {
        let start = Instant::now();
        let mut playout = Playout::default();
        assert!(playout.add(SPEAKER));
        let mut encoder = Encoder::new(EncoderConfig { dtx: false, ..EncoderConfig::voice() }).unwrap();
        let mut red = RedWriter::default();
        red.set_copies(copies);
        let mut voice = Voice::new(5);
        for frame in 0..SECONDS * 50 {
            let sound: Vec<f32> = (0..960).map(|_| voice.next()).collect();
            let payload = Bytes::copy_from_slice(encoder.encode(&sound).unwrap().payload);
            let timestamp = frame * 960;
            let payload = red.write(111, timestamp, &payload);
            let arrival = start + Duration::from_millis(20) * frame;
            // One alone and two in a row of each fifteen.
            if !matches!(frame % 15, 4 | 9 | 10) {
                let sequence = frame as u16;
                let packet = IncomingAudio { sequence, timestamp, payload, kind: PayloadKind::Red, arrival };
                playout.insert(SPEAKER, packet);
            }
            for half in [Duration::ZERO, Duration::from_millis(10)] {
                playout.mix(arrival + half);
            }
        }
        playout.states()[&SPEAKER].jitter
    }

    #[test]
    fn one_copy_stands_in_for_single_losses() {
        let stats = heard(1);
        // Of each fifteen frames one is in a copy, and of two in a row the second.
        assert!((55..=67).contains(&stats.red), "{stats:?}");
        assert!((25..=37).contains(&stats.lost), "{stats:?}");
    }

    #[test]
    fn two_copies_stand_in_for_two_losses_in_a_row() {
        let stats = heard(2);
        assert!((90..=100).contains(&stats.red), "{stats:?}");
        assert!(stats.lost <= 3, "{stats:?}");
    }

    #[test]
    fn a_damaged_red_payload_is_counted_and_dropped() {
        let mut playout = Playout::default();
        playout.add(SPEAKER);
        let payload = Bytes::from_static(&[0xef, 0xff]);
        let packet = IncomingAudio {
            sequence: 1,
            timestamp: 0,
            payload,
            kind: PayloadKind::Red,
            arrival: Instant::now(),
        };
        playout.insert(SPEAKER, packet);
        assert_eq!(playout.states()[&SPEAKER].damaged, 1);
    }

    #[test]
    fn a_screens_sound_is_mixed_with_the_voice_of_who_shares_it() {
        let start = Instant::now();
        let mut playout = Playout::default();
        let screen = RemoteId(SPEAKER.0 | 1 << 63);
        let mut encoders = [SPEAKER, screen].map(|remote| {
            assert!(playout.add(remote));
            (remote, Encoder::new(EncoderConfig { dtx: false, ..EncoderConfig::voice() }).unwrap())
        });
        let mut mixed = Vec::new();
        for frame in 0..50u32 {
            for (remote, encoder) in &mut encoders {
                let turn = if *remote == screen { 0.1 } else { 0.03 };
                let sound: Vec<f32> =
                    (0..960).map(|i| ((frame * 960 + i) as f32 * turn).sin() * 0.2).collect();
                let payload = Bytes::copy_from_slice(encoder.encode(&sound).unwrap().payload);
                let arrival = start + Duration::from_millis(20) * frame;
                let timestamp = frame * 960;
                let packet = IncomingAudio {
                    sequence: frame as u16,
                    timestamp,
                    payload,
                    kind: PayloadKind::Opus,
                    arrival,
                };
                playout.insert(*remote, packet);
            }
            for half in [0, 10] {
                mixed.extend(
                    playout.mix(start + Duration::from_millis(20) * frame + Duration::from_millis(half)),
                );
            }
        }
        // Two tones of equal strength: 3 dB above either.
        let level = level_db(&mixed[24_000..]);
        assert!((level + 14.0).abs() < 1.5, "{level} dB");
    }
}
