//! What each link gets: asks the allocator with what every path and every tile say, and hands its plan to the encoders and the fan-out.

use std::collections::BTreeMap;
use std::time::Instant;

use snug_audio::AudioEngine;
use snug_call_proto::allocation::{Allocator, Demand, LinkDemand, Plan};
use snug_call_proto::{LinkId, Tile};
use snug_media_proto::layer::Layer;
use snug_media_proto::switch::Target;
use snug_media_proto::uplink::{JointUplink, LinkSample};

use crate::fanout::Fanout;

/// Tiles of these sizes are assumed until the other side says how it shows us: those of a call of two.
const UNKNOWN: Tile = Tile { width: 640, height: 360, screen_width: 1280, screen_height: 720 };

/// What sound makes use of at most, in bit/s: Opus with two earlier copies in each packet, and headers.
const SOUND_BPS: u64 = 120_000;
/// A readable screen makes use of no more, in bit/s.
const SCREEN_BPS: u64 = 2_500_000;
/// Room beyond what is made use of, in percent: a step up of the plan asks for some.
const ROOM_PERCENT: u64 = 125;

/// The plan of what is sent.
#[derive(Default)]
pub(crate) struct Sending {
    allocator: Allocator,
    uplink: JointUplink,
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
        let estimates = fanout.estimates();
        let samples: Vec<LinkSample> = estimates
            .iter()
            .map(|(_, estimate)| LinkSample {
                estimate: estimate.bitrate_bps,
                acked_bps: estimate.arriving_bps,
                queue_delay: estimate.queue_delay,
            })
            .collect();
        let uplink_bps = self.uplink.update(now, &samples);
        let links: Vec<LinkDemand> = estimates
            .into_iter()
            .filter_map(|(link, estimate)| {
                let tile = *self.tiles.get(&link)?;
                Some(LinkDemand { link, estimate_bps: Some(estimate.bitrate_bps), loss: estimate.loss, tile })
            })
            .collect();
        for (link, bps) in useful_rates(&links, camera, screen, uplink_bps) {
            fanout.set_useful_rate(link, bps);
        }
        let demand = Demand { links, camera, screen, uplink_bps };
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

/// What each link could make use of, in bit/s: its path is not probed for more. Of a full uplink, each has its part.
fn useful_rates(
    links: &[LinkDemand],
    camera: Option<(u32, u32)>,
    screen: Option<(u32, u32)>,
    uplink_bps: Option<u64>,
) -> Vec<(LinkId, u64)> {
    let wanted = |tile: Tile| {
        let camera = camera.and_then(|size| tile.camera_layer(size)).map_or(0, Layer::max_bps);
        let screen = if screen.is_some() && tile.screen_height > 0 { SCREEN_BPS } else { 0 };
        (SOUND_BPS + camera + screen) * ROOM_PERCENT / 100
    };
    let total: u64 = links.iter().map(|link| wanted(link.tile)).sum();
    let part = |wanted: u64| {
        uplink_bps.map_or(wanted, |uplink| {
            let part = u128::from(uplink) * u128::from(wanted) / u128::from(total.max(1));
            wanted.min(u64::try_from(part).unwrap_or(u64::MAX))
        })
    };
    links.iter().map(|link| (link.link, part(wanted(link.tile)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(number: u64, height: u16) -> LinkDemand {
        let tile = Tile { width: height * 16 / 9, height, screen_width: 0, screen_height: 0 };
        LinkDemand { link: LinkId(number), estimate_bps: None, loss: 0.0, tile }
    }

    #[test]
    fn sound_alone_makes_use_of_little() {
        assert_eq!(useful_rates(&[link(1, 720)], None, None, None), [(LinkId(1), 150_000)]);
    }

    #[test]
    fn a_full_uplink_is_shared_by_what_each_could_use() {
        let camera = Some((1280, 720));
        let all = useful_rates(&[link(1, 720), link(2, 180)], camera, None, None);
        assert!(all[0].1 > 1_500_000 && (162_500..500_000).contains(&all[1].1), "{all:?}");
        let shared = useful_rates(&[link(1, 720), link(2, 180)], camera, None, Some(1_000_000));
        assert!(shared[0].1 + shared[1].1 <= 1_000_000 && shared[0].1 > 4 * shared[1].1, "{shared:?}");
    }
}
