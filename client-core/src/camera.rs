//! The camera's thread: takes pictures, has each wanted layer encoded once, and hands the frames to the fan-out.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use snug_media_proto::layer::Layer;
use snug_media_proto::section::Section;
use snug_video::{EncodeStats, LayeredEncoder, SourceError, Stop, VideoCodecs, VideoSource};

use crate::api::{Encoded, EncodedLayer};
use crate::fanout::{Fanout, layers};

/// What the camera's thread tells.
#[derive(Debug)]
pub(crate) enum CameraEvent {
    /// The source ended; its picture is gone.
    Failed(SourceError),
    /// An encoder failed; the call goes on without that layer.
    EncoderFailed(snug_video::CodecError),
}

/// A running camera. Dropping it stops the thread.
pub(crate) struct Camera {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Camera {
    pub(crate) fn start(
        source: Box<dyn VideoSource>,
        codecs: Arc<dyn VideoCodecs>,
        epoch: Instant,
        fanout: Fanout,
        tell: impl Fn(CameraEvent) + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Stop::default();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("snug-camera".into()).spawn(move || {
            run(source, LayeredEncoder::new(codecs, epoch), &fanout, &stopped, &tell);
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.stop.raise();
        if let Some(thread) = self.thread.take() {
            // A camera that panicked has said so on its own thread.
            let _ = thread.join();
        }
    }
}

fn run(
    mut source: Box<dyn VideoSource>,
    mut encoder: LayeredEncoder,
    fanout: &Fanout,
    stop: &Stop,
    tell: &dyn Fn(CameraEvent),
) {
    let mut frames = Vec::new();
    let mut pictures = 0;
    loop {
        let picture = match source.next_frame(stop) {
            Ok(Some(picture)) => picture,
            Ok(None) => return,
            Err(error) => {
                let is_final = error.is_final();
                tell(CameraEvent::Failed(error));
                if is_final {
                    return;
                }
                continue;
            }
        };
        let (targets, keys) = fanout.wishes();
        for (place, layer) in layers() {
            encoder.set_target(layer, targets[place]);
            if keys[place] {
                encoder.request_key(layer);
            }
        }
        if let Err(error) = encoder.encode(&picture, &mut frames) {
            tell(CameraEvent::EncoderFailed(error));
        }
        for frame in frames.drain(..) {
            fanout.send_picture(Section::Camera, &frame);
        }
        pictures += 1;
        fanout.set_encoded(encoded(pictures, &encoder));
    }
}

fn encoded(pictures: u64, encoder: &LayeredEncoder) -> Encoded {
    let layer = |layer| {
        let EncodeStats { encodes, key_frames, bytes, .. } = encoder.stats(layer);
        EncodedLayer { encodes, key_frames, bytes }
    };
    Encoded { pictures, low: layer(Layer::Low), medium: layer(Layer::Medium), high: layer(Layer::High) }
}
