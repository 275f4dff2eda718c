//! Each picture is encoded once per wanted layer, however many receive it.
//!
//! A layer's picture is made from the next larger one that was made, so that a 720p camera costs two
//! halvings. Nothing is scaled up: [`Layer::top`] is the best layer that a source has.

use std::sync::Arc;
use std::time::Instant;

use snug_media_proto::layer::{EncodedFrame, Layer};

use crate::codec::{CodecError, Content, VideoCodecs};
use crate::frame::{I420Frame, SharedFrame};
use crate::pixel::{Scaler, fit};
use crate::slot::{EncodeStats, Slot};

/// Frames a second of a shared screen.
const SCREEN_RATE: u32 = 15;
/// Largest shared screen; larger ones are scaled down to it.
const SCREEN_BOX: (u32, u32) = (1920, 1080);

/// `captured` on the 90 kHz clock that starts at `epoch` (RFC 7741 §4.1). Wraps every 13 hours.
pub fn rtp_timestamp(epoch: Instant, captured: Instant) -> u32 {
    let elapsed = captured.saturating_duration_since(epoch);
    (elapsed.as_micros() * 9 / 100) as u32
}

/// A camera's encoders, one per layer.
pub struct LayeredEncoder {
    codecs: Arc<dyn VideoCodecs>,
    epoch: Instant,
    scaler: Scaler,
    /// As [`Layer::ALL`].
    slots: [Slot; 3],
    top: Option<Layer>,
}

impl LayeredEncoder {
    /// Encodes nothing until a layer has a target. `epoch` is where timestamps start: the same for all of a participant's sources.
    pub fn new(codecs: Arc<dyn VideoCodecs>, epoch: Instant) -> Self {
        Self { codecs, epoch, scaler: Scaler::default(), slots: Default::default(), top: None }
    }

    /// Wants `layer` at this rate, in bit/s, or not at all. An encoder that nobody wants is freed after two
    /// seconds; one that is wanted again before goes on where it was.
    pub fn set_target(&mut self, layer: Layer, bitrate: Option<u32>) {
        self.slot(layer).set_target(bitrate);
    }

    /// Somebody needs a key frame of `layer`: the next picture is one, or the first one a tenth of a second
    /// after the last key frame. How often somebody may ask is `snug_media_proto::keys`' matter.
    pub fn request_key(&mut self, layer: Layer) {
        self.slot(layer).request_key();
    }

    /// The best layer that the source can fill; wishes for a better one are answered by nothing. `None` before the first picture.
    pub fn top_layer(&self) -> Option<Layer> {
        self.top
    }

    /// What a layer has cost and given so far.
    pub fn stats(&self, layer: Layer) -> EncodeStats {
        self.slots[layer as usize].stats()
    }

    /// Encodes `frame` for each layer that is wanted and due, the largest first, and adds the results to `out`.
    ///
    /// # Errors
    /// The first codec's failure; the other layers are encoded all the same.
    pub fn encode(&mut self, frame: &SharedFrame, out: &mut Vec<EncodedFrame>) -> Result<(), CodecError> {
        let timestamp = rtp_timestamp(self.epoch, frame.captured());
        let size = (frame.width(), frame.height());
        let top = Layer::top(size);
        self.top = Some(top);
        let mut result = Ok(());
        let mut larger = Arc::clone(frame);
        for layer in Layer::ALL.into_iter().rev() {
            let due = self.slots[layer as usize].is_due(frame.captured(), layer.frame_rate());
            if !due || layer > top {
                continue;
            }
            let step = self.encode_layer(layer, layer.picture(size), &mut larger, timestamp);
            match step {
                Ok(encoded) => out.extend(encoded),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    fn encode_layer(
        &mut self,
        layer: Layer,
        size: (u32, u32),
        larger: &mut SharedFrame,
        timestamp: u32,
    ) -> Result<Option<EncodedFrame>, CodecError> {
        shrink(&mut self.scaler, larger, size)?;
        let slot = &mut self.slots[layer as usize];
        let picture = slot.encode(&*self.codecs, Content::Camera, layer.frame_rate(), larger, timestamp)?;
        Ok(picture.map(|picture| EncodedFrame {
            layer,
            temporal: picture.temporal,
            sync: picture.sync,
            key: picture.key,
            timestamp,
            data: picture.data,
        }))
    }

    fn slot(&mut self, layer: Layer) -> &mut Slot {
        &mut self.slots[layer as usize]
    }
}

/// A shared screen's encoder: one resolution, sharp text before a steady rate, key frames on request only.
pub struct ScreenEncoder {
    codecs: Arc<dyn VideoCodecs>,
    epoch: Instant,
    scaler: Scaler,
    slot: Slot,
}

impl ScreenEncoder {
    /// Encodes nothing until it has a target. `epoch` as for [`LayeredEncoder::new`].
    pub fn new(codecs: Arc<dyn VideoCodecs>, epoch: Instant) -> Self {
        Self { codecs, epoch, scaler: Scaler::default(), slot: Slot::default() }
    }

    /// As [`LayeredEncoder::set_target`].
    pub fn set_target(&mut self, bitrate: Option<u32>) {
        self.slot.set_target(bitrate);
    }

    /// As [`LayeredEncoder::request_key`].
    pub fn request_key(&mut self) {
        self.slot.request_key();
    }

    /// What it has cost and given so far.
    pub fn stats(&self) -> EncodeStats {
        self.slot.stats()
    }

    /// Encodes `frame` if it is wanted and due. Its layer is always [`Layer::High`], whatever the screen's size.
    ///
    /// # Errors
    /// When the codec fails.
    pub fn encode(&mut self, frame: &SharedFrame) -> Result<Option<EncodedFrame>, CodecError> {
        if !self.slot.is_due(frame.captured(), SCREEN_RATE) {
            return Ok(None);
        }
        let timestamp = rtp_timestamp(self.epoch, frame.captured());
        let mut picture = Arc::clone(frame);
        shrink(&mut self.scaler, &mut picture, fit((frame.width(), frame.height()), SCREEN_BOX))?;
        let encoded = self.slot.encode(&*self.codecs, Content::Screen, SCREEN_RATE, &picture, timestamp)?;
        Ok(encoded.map(|picture| EncodedFrame {
            layer: Layer::High,
            temporal: picture.temporal,
            sync: picture.sync,
            key: picture.key,
            timestamp,
            data: picture.data,
        }))
    }
}

fn shrink(
    scaler: &mut Scaler,
    frame: &mut SharedFrame,
    (width, height): (u32, u32),
) -> Result<(), CodecError> {
    let current: &I420Frame = frame;
    if (current.width(), current.height()) != (width, height) {
        *frame = Arc::new(scaler.scale(current, width, height)?);
    }
    Ok(())
}
