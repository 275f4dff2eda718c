//! What comes over one link: sound goes to the mixer, pictures are put together and decoded on a thread of their own.
//!
//! ```text
//! Peer ── Rtp ── run ─┬─ AudioEngine::insert
//!                     └─ FrameAssembler ── queue ── decoder thread ── Pictures
//! ```

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use snug_audio::{AudioEngine, IncomingAudio, RemoteId};
use snug_media_proto::assemble::{AssembledFrame, FrameAssembler, VideoPacket};
use snug_media_proto::section::Section;
use snug_media_proto::sync::LipSync;
use snug_rtc::{IncomingRtp, PayloadKind, Peer, Rtp};
use snug_video::{SharedFrame, VideoCodecs};
use snug_wire::UserId;
use tokio::sync::mpsc;

use crate::pictures::Pictures;
use crate::record::{Tap, Taps};

/// Frames that wait for the decoder or for their sound: a second. A machine that is further behind starts over with a key frame.
const DECODE_QUEUE: usize = 30;
/// How often sound and picture are compared.
const SYNC: Duration = Duration::from_secs(1);
/// A living link is told of this often.
const SEEN: Duration = Duration::from_millis(250);
/// How often a link without packets is looked after.
const TICK: Duration = Duration::from_millis(20);

/// What a link's media is handed to.
pub(crate) struct Sinks {
    pub(crate) user: UserId,
    pub(crate) remote: RemoteId,
    pub(crate) audio: Arc<AudioEngine>,
    pub(crate) codecs: Arc<dyn VideoCodecs>,
    pub(crate) pictures: Pictures,
    pub(crate) taps: Taps,
    /// Told at most every 250 ms that packets come.
    pub(crate) seen: Box<dyn Fn() + Send>,
    /// Told once, with the first decoded picture of each section.
    pub(crate) first_picture: Arc<dyn Fn(Section) + Send + Sync>,
}

/// The other side's clocks at one instant (RFC 3550 §6.4.1).
pub(crate) struct SenderClock {
    pub(crate) section: Section,
    pub(crate) ntp: u64,
    pub(crate) rtp: u32,
}

/// Runs until the connection is gone.
pub(crate) async fn run(
    mut media: mpsc::Receiver<Rtp>,
    mut clocks: mpsc::Receiver<SenderClock>,
    peer: Arc<Peer>,
    sinks: Sinks,
) {
    let lips = Lips::new(Instant::now());
    let mut camera = Video::new(Section::Camera, &sinks, Some(lips.clone()));
    // A screen's sound is not in step with its picture to a few hundredths; it is shown as it comes.
    let mut screen = Video::new(Section::Screen, &sinks, None);
    let mut screen_sound = ScreenSound::new(&sinks);
    let mut compare = tokio::time::interval(SYNC);
    compare.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen_at: Option<Instant> = None;
    loop {
        let received = tokio::select! {
            received = media.recv() => match received {
                Some(received) => Some(received),
                None => return,
            },
            Some(clock) = clocks.recv() => {
                lips.report(&clock);
                continue;
            }
            _ = compare.tick() => {
                lips.compare(&sinks);
                continue;
            }
            _ = ticks.tick() => None,
        };
        let now = Instant::now();
        match received {
            Some(Rtp { section: Section::Camera, packet }) => camera.push(now, packet),
            Some(Rtp { section: Section::Screen, packet }) => screen.push(now, packet),
            Some(Rtp { section: Section::Microphone, packet }) => hear(&sinks, sinks.remote, packet),
            Some(Rtp { section: Section::ScreenSound, packet }) => screen_sound.hear(&sinks, packet),
            None => {
                let rtt = peer.estimate().rtt;
                camera.assembler.set_rtt(rtt);
                screen.assembler.set_rtt(rtt);
                if let Some(at) = peer.last_heard().filter(|at| is_due(seen_at, *at)) {
                    seen_at = Some(at);
                    (sinks.seen)();
                }
            }
        }
        for video in [&mut camera, &mut screen] {
            if video.turn(now) {
                peer.request_key_frame(video.section);
            }
        }
    }
}

fn is_due(seen_at: Option<Instant>, now: Instant) -> bool {
    seen_at.is_none_or(|at| now.saturating_duration_since(at) >= SEEN)
}

/// The sound of somebody's shared screen: a remote of its own in the mix, from its first packet to the link's end.
struct ScreenSound {
    audio: Arc<AudioEngine>,
    remote: RemoteId,
    added: bool,
}

impl ScreenSound {
    /// Microphones are counted up from zero.
    const BIT: u64 = 1 << 63;

    fn new(sinks: &Sinks) -> Self {
        Self { audio: Arc::clone(&sinks.audio), remote: RemoteId(sinks.remote.0 | Self::BIT), added: false }
    }

    fn hear(&mut self, sinks: &Sinks, packet: IncomingRtp) {
        self.added = self.added || self.audio.add(self.remote).is_ok();
        hear(sinks, self.remote, packet);
    }
}

impl Drop for ScreenSound {
    fn drop(&mut self) {
        if self.added {
            let _ = self.audio.remove(self.remote);
        }
    }
}

fn hear(sinks: &Sinks, remote: RemoteId, packet: IncomingRtp) {
    let kind = match packet.payload_kind {
        PayloadKind::Opus => snug_audio::PayloadKind::Opus,
        PayloadKind::Red => snug_audio::PayloadKind::Red,
        PayloadKind::Vp8 => return,
    };
    let IncomingRtp { sequence, timestamp, payload, arrival, .. } = packet;
    tracing::trace!(user = %sinks.user, sequence, "sound came");
    let incoming = IncomingAudio { sequence, timestamp, payload, kind, arrival };
    // A mixer that is behind loses sound, which its jitter buffer conceals.
    let _ = sinks.audio.insert(remote, incoming);
}

/// Keeps somebody's lips and voice together. Clones share it.
#[derive(Clone)]
struct Lips(Arc<Mutex<LipState>>);

struct LipState {
    sync: LipSync,
    /// What pictures wait for their sound.
    video: Duration,
}

impl Lips {
    fn new(now: Instant) -> Self {
        let state = LipState { sync: LipSync::new(now, 48_000, 90_000), video: Duration::ZERO };
        Self(Arc::new(Mutex::new(state)))
    }

    fn report(&self, clock: &SenderClock) {
        let sync = &mut self.lock().sync;
        match clock.section {
            Section::Microphone => sync.on_audio_report(clock.ntp, clock.rtp),
            Section::Camera => sync.on_video_report(clock.ntp, clock.rtp),
            Section::Screen | Section::ScreenSound => {}
        }
    }

    fn compare(&self, sinks: &Sinks) {
        let sound = sinks.audio.snapshot();
        let heard = sound.remotes.get(&sinks.remote).and_then(|remote| remote.position);
        let mut state = self.lock();
        if let (Some(position), Some(taken)) = (heard, sound.taken) {
            state.sync.on_audio_played(taken + sound.speaker_delay, position);
        }
        let delays = state.sync.update();
        state.video = delays.video;
        drop(state);
        // A mixer that is behind is told with the next comparison.
        let _ = sinks.audio.set_minimum_delay(sinks.remote, delays.audio);
    }

    /// Blocks until the frame's sound is heard.
    fn wait(&self, frame: &AssembledFrame) {
        let due = frame.arrival + self.lock().video;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        self.lock().sync.on_video_shown(Instant::now(), frame.timestamp);
    }

    fn lock(&self) -> MutexGuard<'_, LipState> {
        // A state half changed by a panic only shifts a picture by some milliseconds.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pictures of one section.
struct Video {
    section: Section,
    assembler: FrameAssembler,
    decoder: SyncSender<AssembledFrame>,
    failures: Receiver<()>,
    tap: Tap,
}

impl Video {
    fn new(section: Section, sinks: &Sinks, lips: Option<Lips>) -> Self {
        let (decoder, frames) = sync_channel(DECODE_QUEUE);
        let (failed, failures) = sync_channel(1);
        let decoding = Decoding {
            user: sinks.user,
            section,
            codecs: Arc::clone(&sinks.codecs),
            pictures: sinks.pictures.clone(),
            first_picture: Arc::clone(&sinks.first_picture),
            failed,
            lips,
        };
        let thread = std::thread::Builder::new().name("snug-decode".into());
        if let Err(error) = thread.spawn(move || decoding.run(&frames)) {
            tracing::error!(%error, "no thread for a decoder; close other programs");
        }
        let tap = sinks.taps.of(section);
        Self { section, assembler: FrameAssembler::default(), decoder, failures, tap }
    }

    fn push(&mut self, now: Instant, packet: IncomingRtp) {
        if packet.payload_kind != PayloadKind::Vp8 {
            return;
        }
        let IncomingRtp { sequence, timestamp, marker, payload, .. } = packet;
        self.assembler.push(now, VideoPacket { sequence, timestamp, marker, payload });
    }

    /// Hands on what is whole; says whether a key frame has to be asked for.
    fn turn(&mut self, now: Instant) -> bool {
        let mut wants_key = false;
        while let Some(frame) = self.assembler.next_frame(now) {
            wants_key |= self.tap.take(&frame);
            if let Err(TrySendError::Full(_)) = self.decoder.try_send(frame) {
                self.assembler.decoder_failed(now);
            }
        }
        if self.failures.try_recv().is_ok() {
            self.assembler.decoder_failed(now);
        }
        self.assembler.poll_key_frame_request(now) || wants_key
    }
}

struct Decoding {
    user: UserId,
    section: Section,
    codecs: Arc<dyn VideoCodecs>,
    pictures: Pictures,
    first_picture: Arc<dyn Fn(Section) + Send + Sync>,
    failed: SyncSender<()>,
    lips: Option<Lips>,
}

impl Decoding {
    /// Ends with the link, whose end of the queue closes.
    fn run(self, frames: &Receiver<AssembledFrame>) {
        let mut decoder = None;
        let mut shown = false;
        while let Ok(frame) = frames.recv() {
            // Made only when there is something to decode: most links never carry a screen.
            let decoder = match &mut decoder {
                Some(decoder) => decoder,
                None => match self.codecs.decoder() {
                    Ok(made) => decoder.insert(made),
                    Err(error) => {
                        tracing::error!(%error, "no decoder");
                        return;
                    }
                },
            };
            match decoder.decode(&frame.data, frame.arrival) {
                Ok(Some(picture)) => {
                    if let Some(lips) = &self.lips {
                        lips.wait(&frame);
                    }
                    self.pictures.show(self.user, self.section, SharedFrame::new(picture));
                    if !std::mem::replace(&mut shown, true) {
                        (self.first_picture)(self.section);
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, section = ?self.section, "a frame was not decoded");
                    // One request is enough: a full queue means that it is already known.
                    let _ = self.failed.try_send(());
                }
            }
        }
    }
}
