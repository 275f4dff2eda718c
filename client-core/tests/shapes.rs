//! Whatever is planned for a tile is a picture that the encoder makes: the plan and the encoders side by side, without a call.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use snug_call_proto::allocation::{Allocator, Demand, LinkDemand};
use snug_call_proto::{LinkId, Tile};
use snug_core::video::{
    CodecError, EncodedPicture, EncoderSettings, FramePool, I420Frame, LayeredEncoder, VideoCodecs,
    VideoDecoder, VideoEncoder,
};
use snug_media_proto::layer::Layer;

/// Makes a frame of every picture, and remembers nothing but its size.
struct Sizes;

impl VideoCodecs for Sizes {
    fn encoder(&self, settings: &EncoderSettings) -> Result<Box<dyn VideoEncoder>, CodecError> {
        Ok(Box::new(SizeEncoder((settings.width, settings.height))))
    }

    fn decoder(&self) -> Result<Box<dyn VideoDecoder>, CodecError> {
        Err(CodecError::KeyFrameNeeded)
    }
}

struct SizeEncoder((u32, u32));

impl VideoEncoder for SizeEncoder {
    fn encode(
        &mut self,
        frame: &I420Frame,
        _timestamp: u32,
        _force_key: bool,
    ) -> Result<Option<EncodedPicture>, CodecError> {
        assert_eq!((frame.width(), frame.height()), self.0);
        let data = Bytes::from([self.0.0.to_be_bytes(), self.0.1.to_be_bytes()].concat());
        Ok(Some(EncodedPicture { data, key: true, temporal: 0, sync: false }))
    }

    fn set_bitrate(&mut self, _bitrate: u32) -> Result<(), CodecError> {
        Ok(())
    }
}

const SIDES: [u32; 23] = [
    16, 18, 64, 160, 176, 180, 182, 240, 270, 300, 320, 322, 352, 360, 362, 480, 640, 642, 720, 1080, 1280,
    2304, 4096,
];
const TILES: [u16; 12] = [1, 90, 179, 180, 181, 320, 360, 361, 640, 720, 1280, 16384];

#[test]
fn every_shape_is_sent_to_every_tile_in_a_layer_that_is_made() {
    let start = Instant::now();
    let pool = FramePool::default();
    let tiles: Vec<Tile> = TILES
        .into_iter()
        .flat_map(|width| TILES.map(|height| Tile { width, height, screen_width: 0, screen_height: 0 }))
        .collect();
    for width in SIDES {
        for height in SIDES.into_iter().filter(|height| width.min(*height) <= 2304) {
            let size = (width, height);
            let link = |(id, tile): (u64, &Tile)| LinkDemand {
                link: LinkId(id),
                estimate_bps: Some(8_000_000),
                loss: 0.0,
                tile: *tile,
            };
            let links: Vec<LinkDemand> = (0..).zip(&tiles).map(link).collect();
            let demand = Demand { links, camera: Some(size), ..Demand::default() };
            let plan = Allocator::default().allocate(start, &demand);
            let mut encoder = LayeredEncoder::new(Arc::new(Sizes), start);
            for layer in Layer::ALL {
                let target = plan.layers[layer as usize];
                encoder.set_target(layer, target.map(|bps| u32::try_from(bps).unwrap()));
            }
            let mut made = Vec::new();
            let frame = Arc::new(pool.frame(width, height, start + Duration::from_millis(1)).unwrap());
            encoder.encode(&frame, &mut made).unwrap();
            for (link, tile) in plan.links.iter().zip(&tiles) {
                let (layer, _) = link.camera.unwrap_or_else(|| panic!("{size:?} is not sent to {tile:?}"));
                assert!(
                    made.iter().any(|frame| frame.layer == layer),
                    "{size:?} is sent to {tile:?} as {layer:?}, which is not made"
                );
            }
            let planned = plan.layers.iter().filter(|target| target.is_some()).count();
            assert_eq!(made.len(), planned, "{size:?}: nothing is planned in vain");
        }
    }
}
