//! A call of sound and pictures over one connection without codecs: sound every 20 ms, thirty frames a second of the size
//! that the estimate allows, and a note of when everything came.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use snug_media_proto::packetize::SlicedFrame;
use snug_media_proto::section::Section;
use snug_media_proto::vp8::{Descriptor, PictureId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Flow, OutgoingRtp, Peer, Rtp};

/// What sound takes, headers included, in bit/s.
pub const SOUND_BPS: u64 = 60_000;
const SOUND_BYTES: usize = 80;
const FRAME: Duration = Duration::from_micros(33_333);

/// What came, and what was thought of the path, since the traffic began.
#[derive(Default)]
pub struct Record {
    /// Each packet of sound: when it was made, and how long it was under way.
    pub sound: Vec<(Duration, Duration)>,
    /// Every 100 ms: the estimate in bit/s, and the rate that pictures were made at.
    pub estimates: Vec<(Duration, u64, u64)>,
    /// Bytes of pictures that came.
    pub picture_bytes: usize,
    /// Frames that were not sent for want of room.
    pub held_back: u32,
}

/// Traffic over one connection, until it is dropped.
pub struct Traffic {
    pub record: Arc<Mutex<Record>>,
    tasks: [tokio::task::JoinHandle<()>; 3],
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Traffic {
    /// Sends from `from`; `media` is what the other side receives. Pictures take `most` bit/s at most, and all together no
    /// more than the `share` of an uplink.
    pub fn start(from: &Arc<Peer>, media: mpsc::Receiver<Rtp>, most: u64, share: Arc<AtomicU64>) -> Self {
        let begin = Instant::now();
        let record = Arc::new(Mutex::new(Record::default()));
        from.set_useful_rate((most + SOUND_BPS) * 5 / 4);
        let tasks = [
            tokio::spawn(sound(Arc::clone(from), begin)),
            tokio::spawn(pictures(Arc::clone(from), begin, most, share, Arc::clone(&record))),
            tokio::spawn(receive(media, begin, Arc::clone(&record))),
        ];
        Self { record, tasks }
    }
}

async fn sound(peer: Arc<Peer>, begin: Instant) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for number in 0.. {
        ticks.tick().await;
        let mut payload = vec![0; SOUND_BYTES];
        payload[..8].copy_from_slice(&(begin.elapsed().as_micros() as u64).to_be_bytes());
        let packet =
            OutgoingRtp { payload: payload.into(), timestamp: number * 960, marker: false, red: false };
        peer.send(Section::Microphone, packet);
    }
}

async fn pictures(
    peer: Arc<Peer>,
    begin: Instant,
    most: u64,
    share: Arc<AtomicU64>,
    record: Arc<Mutex<Record>>,
) {
    let mut ticks = tokio::time::interval(FRAME);
    let mut descriptor = Descriptor { picture_id: Some(PictureId::Long(0)), ..Descriptor::default() };
    let mut key_due = true;
    for number in 0_u32.. {
        ticks.tick().await;
        let estimate = peer.estimate().bitrate_bps.min(share.load(Ordering::Relaxed));
        let rate = estimate.saturating_sub(SOUND_BPS).min(most);
        if number.is_multiple_of(3) {
            let estimated = peer.estimate().bitrate_bps;
            record.lock().expect("nothing panics with it").estimates.push((begin.elapsed(), estimated, rate));
        }
        match peer.flow(Section::Camera) {
            Flow::Open => {}
            Flow::KeyFrameWanted => key_due = true,
            Flow::Full => {
                key_due = true;
                record.lock().expect("nothing panics with it").held_back += 1;
                continue;
            }
        }
        let bytes = (rate as f64 * FRAME.as_secs_f64() / 8.0) as usize * if key_due { 3 } else { 1 };
        let mut frame = vec![0; bytes.max(20)];
        // The lowest bit says whether the frame needs others (RFC 6386 §9.1).
        frame[0] = u8::from(!key_due);
        descriptor.picture_id = descriptor.picture_id.map(PictureId::next);
        key_due = false;
        for piece in SlicedFrame::new(&Bytes::from(frame)).payloads(descriptor) {
            let packet = OutgoingRtp {
                payload: piece.payload,
                timestamp: number.wrapping_mul(3_000),
                marker: piece.marker,
                red: false,
            };
            if !peer.send(Section::Camera, packet) {
                key_due = true;
                break;
            }
        }
    }
}

async fn receive(mut media: mpsc::Receiver<Rtp>, begin: Instant, record: Arc<Mutex<Record>>) {
    while let Some(Rtp { section, packet }) = media.recv().await {
        let mut record = record.lock().expect("nothing panics with it");
        if section == Section::Microphone {
            let Some(made) = packet.payload.first_chunk() else { continue };
            let made = Duration::from_micros(u64::from_be_bytes(*made));
            let came = packet.arrival.saturating_duration_since(begin.into_std());
            record.sound.push((made, came.saturating_sub(made)));
        } else {
            record.picture_bytes += packet.payload.len();
        }
    }
}

impl Record {
    /// By how much sound made in this time was later than the fastest packet of all.
    pub fn sound_delays(&self, from: Duration, to: Duration) -> Vec<Duration> {
        let least = self.sound.iter().map(|(_, delay)| *delay).min().unwrap_or_default();
        let mut delays: Vec<Duration> = self
            .sound
            .iter()
            .filter(|(made, _)| (from..to).contains(made))
            .map(|(_, delay)| *delay - least)
            .collect();
        delays.sort_unstable();
        delays
    }

    /// When the estimate was first on that side of a rate after `from`, counted from there.
    pub fn first(&self, from: Duration, is_reached: impl Fn(u64) -> bool) -> Option<Duration> {
        let found = self.estimates.iter().find(|(at, estimate, _)| *at >= from && is_reached(*estimate));
        found.map(|(at, ..)| *at - from)
    }
}
