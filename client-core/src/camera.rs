//! The camera's thread: takes pictures, has each wanted layer encoded once, and hands the frames to the fan-out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// There is no picture, for a reason that has not been told yet.
    Failed(SourceError),
    /// An encoder failed; the call goes on without that layer.
    EncoderFailed(snug_video::CodecError),
}

/// How the camera does, for whoever plans what is sent. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct CameraState(Arc<AtomicU64>);

const OFF: u64 = 0;
const STARTING: u64 = 1;
const FAILED: u64 = 2;

impl CameraState {
    pub(crate) fn set_off(&self) {
        self.0.store(OFF, Ordering::Relaxed);
    }

    pub(crate) fn set_starting(&self) {
        self.0.store(STARTING, Ordering::Relaxed);
    }

    pub(crate) fn set_failed(&self) {
        self.0.store(FAILED, Ordering::Relaxed);
    }

    fn set_size(&self, width: u32, height: u32) {
        self.0.store(u64::from(width) << 32 | u64::from(height), Ordering::Relaxed);
    }

    /// Whether it is on and gives pictures, or is expected to within moments.
    pub(crate) fn is_shown(&self) -> bool {
        !matches!(self.0.load(Ordering::Relaxed), OFF | FAILED)
    }

    /// Width and height of its pictures in pixels, once there is one.
    pub(crate) fn size(&self) -> Option<(u32, u32)> {
        let packed = self.0.load(Ordering::Relaxed);
        // No picture is 0 pixels wide.
        (packed > u64::from(u32::MAX)).then_some(((packed >> 32) as u32, packed as u32))
    }
}

/// Encoders and their count of pictures, which outlive the camera's being switched off.
pub(crate) struct Encoding {
    encoder: LayeredEncoder,
    pictures: u64,
}

impl Encoding {
    pub(crate) fn new(codecs: Arc<dyn VideoCodecs>, epoch: Instant) -> Self {
        Self { encoder: LayeredEncoder::new(codecs, epoch), pictures: 0 }
    }
}

/// A running camera. Dropping it stops the thread.
pub(crate) struct Camera {
    stop: Stop,
    thread: Option<JoinHandle<Encoding>>,
}

impl Camera {
    pub(crate) fn start(
        source: Box<dyn VideoSource>,
        encoding: Encoding,
        fanout: Fanout,
        state: CameraState,
        tell: impl Fn(CameraEvent) + Send + 'static,
    ) -> std::io::Result<Self> {
        let stop = Stop::default();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("snug-camera".into())
            .spawn(move || run(source, encoding, &fanout, &state, &stopped, &tell))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Whether it will give no further picture.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Closes the device and gives the encoders back. `None` when the thread panicked, which it has said itself.
    pub(crate) fn close(mut self) -> Option<Encoding> {
        self.stop.raise();
        self.thread.take().and_then(|thread| thread.join().ok())
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
    mut encoding: Encoding,
    fanout: &Fanout,
    state: &CameraState,
    stop: &Stop,
    tell: &dyn Fn(CameraEvent),
) -> Encoding {
    let mut frames = Vec::new();
    // A reason is told once, however often the device is tried again.
    let mut told = None;
    loop {
        let picture = match source.next_frame(stop) {
            Ok(Some(picture)) => picture,
            Ok(None) => return encoding,
            Err(error) => {
                let is_final = error.is_final();
                state.set_failed();
                if told.replace(error.code()) != Some(error.code()) {
                    tell(CameraEvent::Failed(error));
                }
                if is_final {
                    return encoding;
                }
                continue;
            }
        };
        told = None;
        state.set_size(picture.width(), picture.height());
        let (targets, keys) = fanout.wishes(Instant::now());
        for (place, layer) in layers() {
            encoding.encoder.set_target(layer, targets[place]);
            if keys[place] {
                encoding.encoder.request_key(layer);
            }
        }
        if let Err(error) = encoding.encoder.encode(&picture, &mut frames) {
            tell(CameraEvent::EncoderFailed(error));
        }
        for frame in frames.drain(..) {
            fanout.send_picture(Section::Camera, &frame, Instant::now());
        }
        encoding.pictures += 1;
        fanout.set_encoded(encoded(encoding.pictures, &encoding.encoder));
    }
}

fn encoded(pictures: u64, encoder: &LayeredEncoder) -> Encoded {
    let layer = |layer| {
        let EncodeStats { encodes, key_frames, bytes, .. } = encoder.stats(layer);
        EncodedLayer { encodes, key_frames, bytes }
    };
    Encoded { pictures, low: layer(Layer::Low), medium: layer(Layer::Medium), high: layer(Layer::High) }
}
