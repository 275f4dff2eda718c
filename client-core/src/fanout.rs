//! What is encoded once goes out here to every link, each at the layer and with the redundancy that its path carries.
//! It is called from the camera's and the sound thread and never waits: a link whose queue is full loses the packet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use snug_audio::EncodedAudio;
use snug_call_proto::LinkId;
use snug_media_proto::keys::KeyLimiter;
use snug_media_proto::layer::{EncodedFrame, Layer};
use snug_media_proto::packetize::SlicedFrame;
use snug_media_proto::red::RedWriter;
use snug_media_proto::section::Section;
use snug_media_proto::switch::{LayerSwitch, Target};
use snug_rtc::{Estimate, Flow, LinkStats, OutgoingRtp, Peer};
use snug_wire::UserId;

use crate::api::Encoded;

/// Every link that media is sent to. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Fanout(Arc<Mutex<Links>>);

#[derive(Default)]
struct Links {
    links: BTreeMap<LinkId, Outgoing>,
    /// Bit/s of each layer's encoder, as [`Layer::ALL`].
    targets: [Option<u32>; 3],
    /// Key frames of the camera, by who asks: a link that is made anew is the same viewer.
    camera_keys: KeyLimiter<UserId>,
    /// Bit/s of the screen's encoder.
    screen_target: Option<u32>,
    screen_keys: KeyLimiter<UserId>,
    encoded: Encoded,
}

struct Outgoing {
    user: UserId,
    peer: Arc<Peer>,
    camera: Track,
    screen: Track,
    red: RedWriter,
    is_red: bool,
    stats: LinkStats,
}

/// What a link gets of the camera or the screen.
struct Track {
    switch: LayerSwitch,
    /// The other side lost its picture.
    lost: bool,
}

impl Track {
    fn new(seed: u64) -> Self {
        Self { switch: LayerSwitch::new(seed), lost: false }
    }

    /// The layer that it needs a key frame of.
    fn wants_key_frame(&self) -> Option<Layer> {
        self.switch.wants_key_frame().or_else(|| self.switch.current().filter(|_| self.lost))
    }
}

/// A screen has one size; its only layer bears this name.
const SCREEN: Target = Target { layer: Layer::High, temporal: 1 };

impl Fanout {
    pub(crate) fn add(&self, link: LinkId, user: UserId, peer: Arc<Peer>, seed: u64) {
        let outgoing = Outgoing {
            user,
            peer,
            camera: Track::new(seed),
            screen: Track::new(!seed),
            red: RedWriter::default(),
            is_red: false,
            stats: LinkStats::default(),
        };
        self.lock().links.insert(link, outgoing);
    }

    pub(crate) fn remove(&self, link: LinkId) {
        self.lock().links.remove(&link);
    }

    /// Sets what the encoders aim at, in bit/s, as [`Layer::ALL`].
    pub(crate) fn set_targets(&self, targets: [Option<u32>; 3], screen: Option<u32>) {
        let mut all = self.lock();
        all.targets = targets;
        all.screen_target = screen;
    }

    /// Sets what one link gets.
    pub(crate) fn set_link(&self, link: LinkId, camera: Option<Target>, screen: bool, red_copies: usize) {
        if let Some(outgoing) = self.lock().links.get_mut(&link) {
            outgoing.camera.switch.set_target(camera);
            outgoing.screen.switch.set_target(screen.then_some(SCREEN));
            outgoing.red.set_copies(red_copies);
            outgoing.is_red = red_copies > 0;
        }
    }

    /// The other side of a link lost its picture. `section` is the camera or the screen.
    pub(crate) fn key_frame_wanted(&self, link: LinkId, section: Section) {
        if let Some(outgoing) = self.lock().links.get_mut(&link) {
            let Outgoing { camera, screen, .. } = outgoing;
            let track = if section == Section::Screen { screen } else { camera };
            track.lost = true;
        }
    }

    /// What the camera's encoders shall do with the next picture: their targets, and which owe a key frame.
    pub(crate) fn wishes(&self, now: Instant) -> ([Option<u32>; 3], [bool; 3]) {
        let mut all = self.lock();
        let Links { links, targets, camera_keys, .. } = &mut *all;
        let (mut targets, mut keys) = (*targets, [false; 3]);
        for Outgoing { user, peer, camera, .. } in links.values() {
            let Some(layer) = camera.wants_key_frame() else { continue };
            if peer.flow(Section::Camera) != Flow::Full && camera_keys.allows(*user, now) {
                keys[layer as usize] = true;
            }
            // What a link has goes on until it has what it shall get.
            if let Some(shown) = camera.switch.current() {
                targets[shown as usize].get_or_insert(least_bps(shown));
            }
        }
        (targets, keys)
    }

    /// What the screen's encoder shall do with the next picture: its target, and whether it owes a key frame.
    pub(crate) fn screen_wishes(&self, now: Instant) -> (Option<u32>, bool) {
        let mut all = self.lock();
        let Links { links, screen_target, screen_keys, .. } = &mut *all;
        let key = links.values().any(|Outgoing { user, peer, screen, .. }| {
            screen.wants_key_frame().is_some()
                && peer.flow(Section::Screen) != Flow::Full
                && screen_keys.allows(*user, now)
        });
        (*screen_target, key)
    }

    /// Notes what the camera's encoders have done so far.
    pub(crate) fn set_encoded(&self, encoded: Encoded) {
        self.lock().encoded = encoded;
    }

    /// What the camera's encoders have done so far.
    pub(crate) fn encoded(&self) -> Encoded {
        self.lock().encoded
    }

    /// What every path is thought to carry.
    pub(crate) fn estimates(&self) -> Vec<(LinkId, Estimate)> {
        self.lock().links.iter().map(|(link, outgoing)| (*link, outgoing.peer.estimate())).collect()
    }

    /// Says how many bits a second a link could make use of.
    pub(crate) fn set_useful_rate(&self, link: LinkId, bps: u64) {
        if let Some(outgoing) = self.lock().links.get(&link) {
            outgoing.peer.set_useful_rate(bps);
        }
    }

    /// How one link does.
    pub(crate) fn quality(&self, link: LinkId) -> Option<(Estimate, LinkStats)> {
        self.lock().links.get(&link).map(|outgoing| (outgoing.peer.estimate(), outgoing.stats))
    }

    pub(crate) fn set_stats(&self, link: LinkId, stats: LinkStats) {
        if let Some(outgoing) = self.lock().links.get_mut(&link) {
            outgoing.stats = stats;
        }
    }

    /// `section` is the camera or the screen.
    pub(crate) fn send_picture(&self, section: Section, frame: &EncodedFrame, now: Instant) {
        let sliced = SlicedFrame::new(&frame.data);
        let mut all = self.lock();
        let Links { links, camera_keys, screen_keys, .. } = &mut *all;
        let keys = if section == Section::Screen { screen_keys } else { camera_keys };
        for Outgoing { user, peer, camera, screen, .. } in links.values_mut() {
            let track = if section == Section::Screen { screen } else { camera };
            let answers = frame.key && track.wants_key_frame() == Some(frame.layer);
            let switch = &mut track.switch;
            // What the path has no room for is thrown away, and what follows can be read after a key frame alone.
            match peer.flow(section) {
                Flow::Open => {}
                Flow::KeyFrameWanted if frame.key => {}
                Flow::KeyFrameWanted | Flow::Full => {
                    switch.restart();
                    continue;
                }
            }
            let Some(forwarded) = switch.select(frame) else { continue };
            if answers {
                track.lost = false;
                keys.on_sent(*user, now);
            }
            for piece in sliced.payloads(forwarded.descriptor) {
                let packet = OutgoingRtp {
                    payload: piece.payload,
                    timestamp: forwarded.timestamp,
                    marker: piece.marker,
                    red: false,
                };
                if !peer.send(section, packet) {
                    // The rest of the frame is of no use; the next key frame starts over.
                    track.switch.restart();
                    break;
                }
            }
        }
    }

    pub(crate) fn send_sound(&self, sound: &EncodedAudio) {
        for outgoing in self.lock().links.values_mut() {
            let red_type = outgoing.is_red.then(|| outgoing.peer.red_carries()).flatten();
            let (payload, red) = match red_type {
                Some(opus) => (outgoing.red.write(opus, sound.timestamp, &sound.payload), true),
                None => (sound.payload.clone(), false),
            };
            let packet = OutgoingRtp { payload, timestamp: sound.timestamp, marker: false, red };
            // Sound that has to wait is worth nothing: a full queue loses it.
            let _ = outgoing.peer.send(Section::Microphone, packet);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        // Each link is changed by whole statements; one that panicked loses a packet at most.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rate of a layer that is about to end.
fn least_bps(layer: Layer) -> u32 {
    u32::try_from(layer.min_bps()).unwrap_or(u32::MAX)
}

/// All layers with their place in the arrays above.
pub(crate) fn layers() -> impl Iterator<Item = (usize, Layer)> {
    Layer::ALL.into_iter().map(|layer| (layer as usize, layer))
}
