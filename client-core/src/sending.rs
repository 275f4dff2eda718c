//! What each link gets: asks the allocator with what every path and every tile say, and hands its plan to the encoders and the fan-out.

use std::collections::BTreeMap;
use std::time::Instant;

use snug_audio::AudioEngine;
use snug_call_proto::allocation::{Allocator, Demand, LinkDemand, Plan};
use snug_call_proto::{LinkId, Tile};
use snug_media_proto::switch::Target;

use crate::fanout::Fanout;

/// Tiles of these sizes are assumed until the other side says how it shows us: those of a call of two.
const UNKNOWN: Tile = Tile { width: 640, height: 360, screen_width: 1280, screen_height: 720 };

/// The plan of what is sent.
#[derive(Default)]
pub(crate) struct Sending {
    allocator: Allocator,
    tiles: BTreeMap<LinkId, Tile>,
    audio_bps: u32,
    fec_percent: u8,
}

impl Sending {
    pub(crate) fn add(&mut self, link: LinkId) {
        self.tiles.insert(link, UNKNOWN);
    }

    pub(crate) fn remove(&mut self, link: LinkId) {
        self.tiles.remove(&link);
    }

    pub(crate) fn set_tile(&mut self, link: LinkId, tile: Tile) {
        if let Some(known) = self.tiles.get_mut(&link) {
            *known = tile;
        }
    }

    /// Makes the plan anew and puts it to work. `camera` and `screen` are the sizes of our pictures, `None` while they are off.
    pub(crate) fn plan(
        &mut self,
        now: Instant,
        camera: Option<(u32, u32)>,
        screen: Option<(u32, u32)>,
        fanout: &Fanout,
        audio: &AudioEngine,
    ) {
        let links = fanout
            .estimates()
            .into_iter()
            .filter_map(|(link, estimate)| {
                let tile = *self.tiles.get(&link)?;
                Some(LinkDemand { link, estimate_bps: Some(estimate.bitrate_bps), loss: estimate.loss, tile })
            })
            .collect();
        let demand = Demand { links, camera, screen, uplink_bps: None };
        let Plan { layers, screen, audio_bps, fec_loss_percent, links, .. } =
            self.allocator.allocate(now, &demand);
        let bitrate = |bps: Option<u64>| bps.map(|bps| u32::try_from(bps).unwrap_or(u32::MAX));
        fanout.set_targets(layers.map(bitrate), bitrate(screen));
        for plan in links {
            let camera = plan.camera.map(|(layer, temporal)| Target { layer, temporal });
            fanout.set_link(plan.link, camera, plan.screen, usize::from(plan.red_copies));
        }
        // A busy engine is asked again with the next plan.
        if self.audio_bps != audio_bps && audio.set_bitrate(audio_bps).is_ok() {
            self.audio_bps = audio_bps;
        }
        if self.fec_percent != fec_loss_percent && audio.set_fec_loss_percent(fec_loss_percent).is_ok() {
            self.fec_percent = fec_loss_percent;
        }
    }
}
